"""Hard rules of histories: what breaks them, by hand, and that mending leaves nothing broken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import SchemaError
from manikin.io.histories import read_schema, schema_to_yaml
from manikin.knowledge.histories import broken, repaired
from manikin.knowledge.history_rules import (
    Aged,
    Alternating,
    Apart,
    Before,
    Ends,
    HistoryRule,
    Lifetime,
    Once,
    Only,
    Rules,
    Units,
    describe,
    standard,
)
from manikin.knowledge.learned import learned
from manikin.metrics.score import Trial
from manikin.metrics.validity.history_violations import history_violations

STATIC = TableSchema(
    (Column("birth", "datetime"), Column("sex", "categorical", categories=("F", "M")))
)
CODES = (
    Code("Visit/IP", "visit"),
    Code("ICD10CM/E11.9", "condition"),
    Code("ICD10CM/O80", "condition"),
    Code("ATC/A10BA02", "drug"),
    Code("LOINC/2160-0", "measurement", unit="mg/dL", numeric=True, minimum=0.1, maximum=20),
    Code("LOINC/2160-0", "measurement", unit="stone", numeric=True),
    Code("Death", "death"),
)
SCHEMA = EventSchema(STATIC, CODES, birth="birth", sex="sex")
VISIT, DIABETES, BIRTH, METFORMIN, CREATININE, STONE, DEATH = range(7)
ORIGIN = np.datetime64("2000-01-01", "us")


def at(*days: float) -> np.ndarray:
    return np.array(
        ["NaT" if np.isnan(d) else ORIGIN + int(d * 86_400_000_000) for d in days],
        "datetime64[us]",
    )


def histories(
    rows: list[tuple[int, float, int]],
    value: list[float] | None = None,
    end: np.ndarray | None = None,
    n: int = 2,
) -> Events:
    """Rows of (subject, day since 2000-01-01, code); all are born on day 0, F and M in turn."""
    static = Table(
        STATIC,
        np.arange(n),
        {"birth": at(*[0] * n), "sex": (np.arange(n) % 2).astype(np.int32)},
    )
    whose, days, codes = ([row[k] for row in rows] for k in range(3))
    return Events.of(SCHEMA, static, whose, at(*days), codes, value, end=end)


def found(events: Events, *rules: HistoryRule) -> list[int]:
    return broken(events, Rules(rules)).event.tolist()


def test_nothing_is_before_the_day_of_birth_or_after_the_day_of_death() -> None:
    # subject 0: a day too early, on the day of birth, dead on day 9, a report that evening, one
    # a day later; subject 1 never dies; what has no time breaks nothing
    events = histories([(0, -1, 1), (0, 0, 1), (0, 9, DEATH), (0, 9.5, 1), (0, 10, 1), (1, 99, 1),
                        (1, np.nan, 1)])  # fmt: skip
    assert found(events, Lifetime()) == [0, 4]
    assert found(events, Lifetime(days_after_death=1)) == [0]


def test_a_life_that_begins_too_early_is_moved_as_a_whole() -> None:
    events = histories([(0, -3, 1), (0, 4, 2), (1, 2, 1)])
    mended = repaired(events, Rules((Lifetime(),)))
    assert mended.time.tolist() == at(0, 7, 2).tolist()


def test_what_is_after_death_is_left_out_and_nobody_dies_twice() -> None:
    events = histories([(0, 1, DEATH), (0, 3, DIABETES), (0, 5, DEATH), (1, 1, DIABETES)])
    mended = repaired(events)
    assert mended.code.tolist() == [DEATH, DIABETES]
    assert mended.whose.tolist() == [0, 1]
    assert mended.n_subjects == 2


def test_codes_of_one_sex_reach_what_is_beneath_them() -> None:
    events = histories([(0, 1, BIRTH), (1, 1, BIRTH), (1, 2, DIABETES)])
    assert found(events, Only("ICD10CM/O", "sex", ("F",))) == [1]
    assert found(events, Only("ICD10CM/*", "sex", ("F",))) == [1, 2]
    assert found(events, Only("domain:condition", "sex", ("M",))) == [0]


def test_ages_are_completed_years() -> None:
    # 12 years are 4382.9 days
    events = histories([(0, 4382, BIRTH), (0, 4384, BIRTH), (0, 22000, BIRTH), (0, np.nan, BIRTH)])
    assert found(events, Aged("ICD10CM/O80", 12, 59)) == [1, 3]
    assert found(events, Aged("ICD10CM/O80", maximum_years=11)) == [2, 3]


def test_an_onset_comes_before_its_treatment() -> None:
    # subject 0 is treated on day 1 and diagnosed on day 5, subject 1 never is
    events = histories([(0, 1, METFORMIN), (0, 5, DIABETES), (0, 9, METFORMIN), (1, 3, METFORMIN)])
    rule = Before("ICD10CM/E11", "ATC/A10")
    assert found(events, rule) == [0, 3]
    assert found(events, Before("ICD10CM/E11", "ATC/A10", needed=False)) == [0]
    mended = repaired(events, Rules((rule,)))
    assert mended.whose.tolist() == [0, 0, 0]
    assert mended.code.tolist() == [METFORMIN, DIABETES, METFORMIN]
    assert mended.time.tolist() == at(1, 1, 9).tolist()


def test_an_onset_at_no_known_time_may_have_been_before() -> None:
    assert found(histories([(0, np.nan, DIABETES), (0, 1, METFORMIN)]),
                 Before("ICD10CM/E11", "ATC/A10")) == []  # fmt: skip


def test_numbers_out_of_bounds_are_drawn_anew_and_do_not_pile_up_on_a_bound() -> None:
    events = histories([(0, 1, CREATININE), (0, 2, CREATININE), (1, 1, CREATININE)],
                       value=[900.0, 1.5, np.nan])  # fmt: skip
    assert broken(events).event.tolist() == [0]
    assert repaired(events).value.tolist()[:2] == [1.5, 1.5]
    alone = histories([(0, 1, CREATININE)], value=[900.0])
    assert repaired(alone).value.tolist() == [20.0]  # nobody to draw from


def test_unknown_units_are_measured_in_a_known_one() -> None:
    events = histories([(0, 1, STONE), (0, 2, CREATININE), (1, 1, STONE)], value=[3, 1.5, np.nan])
    rule = Units("LOINC/2160-0", ("mg/dL",))
    assert found(events, rule) == [0]
    mended = repaired(events, Rules((rule,)))
    assert mended.code.tolist() == [CREATININE, CREATININE, STONE]
    assert mended.value.tolist()[:2] == [1.5, 1.5]


def test_ends_turns_and_stays() -> None:
    rows = [(0, 1, VISIT), (0, 3, VISIT), (0, 4, VISIT), (1, 2, VISIT)]
    stays = histories(rows, end=at(10, 2, 12, 2))
    assert found(stays, Ends()) == [1]
    # the second and the third begin during the first, which only a running maximum sees
    assert found(stays, Apart("domain:visit")) == [1, 2]
    mended = repaired(stays, Rules((Ends(), Apart("domain:visit"))))
    assert mended.end.tolist() == at(3, 3, 12, 2).tolist()
    # the first is a `then` without a `first`, the third and fifth repeat
    turns = histories([(0, 1, 3), (0, 2, 1), (0, 3, 1), (0, 4, 3), (0, 5, 3), (1, 1, 1)])
    rule = Alternating("ICD10CM/E11", "ATC/A10")
    assert found(turns, rule) == [0, 2, 4]
    assert repaired(turns, Rules((rule,))).code.tolist() == [1, 3, 1]
    assert found(turns, Once("ICD10CM/E11.9")) == [2]


def test_breaches_are_counted_by_rule_and_per_thousand_events() -> None:
    events = histories([(0, 1, BIRTH), (1, -1, BIRTH), (1, 2, BIRTH), (1, 3, DIABETES)])
    rules = Rules((Lifetime(), Once("ICD10CM/O80"), Only("ICD10CM/O80", "sex", ("F",))))
    breaches = broken(events, rules)
    assert breaches.counts.tolist() == [1, 1, 2]
    assert breaches.where.tolist() == [False, True, True, False]
    assert breaches.per_thousand == 1000.0  # four breaches of four events
    assert broken(histories([]), rules).per_thousand == 0.0


ALL = Rules((
    *standard(SCHEMA).rules, Only("ICD10CM/O80", "sex", ("F",)), Aged("ICD10CM/O80", 0, 1),
    Before("ICD10CM/E11", "ATC/A10"), Apart("domain:visit"), Once("ICD10CM/O80"),
    Units("LOINC/2160-0", ("mg/dL",)), Alternating("Visit/IP", "LOINC/2160-0"),
))  # fmt: skip


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.one_of(st.just(np.nan), st.integers(-30, 900)),
            st.integers(0, 6),
            st.one_of(st.just(np.nan), st.integers(-5, 40)),
            st.one_of(st.just(np.nan), st.integers(-30, 900)),
        ),
        max_size=25,
    )
)
def test_what_is_mended_breaks_nothing_and_is_the_same_for_a_seed(
    rows: list[tuple[int, float, int, float, float]],
) -> None:
    events = histories(
        [row[:3] for row in rows], [row[3] for row in rows], at(*(row[4] for row in rows)), n=3
    )
    mended = repaired(events, ALL, seed=4)
    assert broken(mended, ALL).event.size == 0
    assert mended.n_subjects == 3
    assert np.array_equal(mended.time, repaired(events, ALL, seed=4).time, equal_nan=True)
    again = repaired(mended, ALL, seed=5)
    assert again.n_events == mended.n_events
    good = broken(events, ALL).event.size == 0
    assert not good or mended is events


def test_rules_survive_json_and_a_file_of_texts() -> None:
    assert Rules.from_json(ALL.to_json()) == ALL
    rules = Rules.from_json(
        {
            "rules": [
                {"aged": {"code": "ICD10CM/O", "minimum_years": "10", "maximum_years": "60"}},
                {"only": {"code": "ICD10CM/O", "column": "sex", "levels": "F"}},
                {"before": {"first": "a", "then": "b", "needed": "false"}},
                {"lifetime": ""},
            ]
        }
    )
    assert rules.rules == (
        Aged("ICD10CM/O", 10, 60),
        Only("ICD10CM/O", "sex", ("F",)),
        Before("a", "b", needed=False),
        Lifetime(),
    )
    assert all(describe(rule) for rule in (*rules.rules, *ALL.rules))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"never": {"code": "a"}},
        {"once": {}},
        {"once": {"code": ""}},
        {"once": {"code": "domain:weather"}},
        {"once": {"code": "a", "colour": "red"}},
        {"only": {"code": "a", "column": "sex", "levels": []}},
        {"only": {"code": "a", "column": "sex", "levels": [1]}},
        {"bounds": {"code": "a"}},
        {"bounds": {"code": "a", "minimum": "nan"}},
        {"bounds": {"code": "a", "minimum": True}},
        {"bounds": {"code": "a", "minimum": 2, "maximum": 1}},
        {"before": {"first": "a", "then": "a"}},
        {"before": {"first": "a", "then": "b", "needed": "perhaps"}},
        {"lifetime": {"days_after_death": -1}},
        "once",
    ],
)
def test_a_malformed_rule_is_refused(entry: object) -> None:
    with pytest.raises(SchemaError):
        Rules.from_json({"rules": [entry]})


def test_rules_that_do_not_fit_the_histories_are_said() -> None:
    assert Rules((Once("nothing"),)).check(SCHEMA)[0].startswith("The rule 'nothing at most once'")
    assert ALL.check(SCHEMA) == ()
    for rule in (Only("a", "sex", ("X",)), Only("a", "race", ("F",)), Only("a", "birth", ("F",))):
        with pytest.raises(SchemaError):
            Rules((rule,)).check(SCHEMA)


def test_codes_of_one_sex_and_of_once_a_life_are_learnt_from_enough_subjects() -> None:
    # 80 subjects, half of them women; 40 women give birth once; everybody has diabetes twice
    rows = [(s, 9000.0, BIRTH) for s in range(0, 80, 2)]
    rows += [(s, 30.0 + d, DIABETES) for s in range(80) for d in (0, 1)]
    rules = learned(histories(rows, n=80))
    assert Only("ICD10CM/O80", "sex", ("F",)) in rules
    # younger than 18 are all at some time: 40 who are never are no chance
    assert Aged("ICD10CM/O80", 18.0, None) in rules
    assert not any(isinstance(rule, Once | Only) and "E11" in rule.code for rule in rules)
    assert broken(histories(rows, n=80), Rules(rules)).event.size == 0
    # ten subjects are too few whatever they hold, and so are eleven women of nearly only women
    assert learned(histories(rows[:10], n=80)) == ()
    assert learned(histories([], n=0)) == ()


def test_a_code_beneath_which_others_stand_is_not_taken_for_once_only() -> None:
    rows = [(s, 5.0, METFORMIN) for s in range(70)]
    assert Once("ATC/A10BA02") in learned(histories(rows, n=70))
    assert Once("ATC/A10BA02") not in learned(histories(rows[:59], n=70))


def test_rules_that_a_schema_declares_hold_wherever_it_goes(tmp_path: Path) -> None:
    # what engines mend and the judge counts without being told of any rule
    rules = (Only("ICD10CM/O", "sex", ("F",)), Before("ICD10CM/E11", "ATC/A10"))
    schema = replace(SCHEMA, rules=rules)
    assert EventSchema.from_json(schema.to_json()) == schema
    events = replace(histories([(1, 1, BIRTH), (1, 2, METFORMIN), (0, 1, BIRTH)]), schema=schema)
    assert broken(events).event.tolist() == [1, 2]
    assert repaired(events).whose.tolist() == [0]
    path = tmp_path / "schema.yaml"
    path.write_text(schema_to_yaml(schema), encoding="utf-8")
    assert read_schema(path) == schema
    for wrong in (Once("nothing"), Only("ICD10CM/O", "sex", ("X",))):
        path.write_text(schema_to_yaml(replace(SCHEMA, rules=(wrong,))), encoding="utf-8")
        with pytest.raises(SchemaError):
            read_schema(path)
    with pytest.raises(SchemaError):
        EventSchema.from_json({**SCHEMA.to_json(), "rules": {"once": {}}})


def test_the_judge_counts_what_training_shows_to_be_impossible() -> None:
    # 40 of 40 women give birth in training; in what was drawn 10 men do too: of 50 events
    rows = [(s, 9000.0, BIRTH) for s in range(0, 80, 2)]
    real = histories(rows, n=80)
    drawn = histories([*rows, *((s, 9000.0, BIRTH) for s in range(1, 21, 2))], n=80)
    found = history_violations(Trial(real, real, drawn), seed=0)
    assert found[0].value == 1000 * 10 / 50
    assert [s.group for s in found[1:]] == ["ICD10CM/O80 only where sex is F"]
    assert history_violations(Trial(real, real, real), seed=0)[0].value == 0
