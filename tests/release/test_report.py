import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import CARDS, SCHEMA, SCORES, real_of, report, table, trial

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.metrics.score import Card, Score, Trial
from manikin.release.association import associations, matrix
from manikin.release.disclosure import assert_disclosable, violations
from manikin.release.summaries import Bin, nice_step, summarize
from manikin.release.survival import survival_curves
from manikin.release.verdict import UNCERTAIN, Question


def outcomes(**changes: Any) -> dict[str, str]:
    return {q.id: q.outcome for q in report(**changes).verdict.questions}


# ---------------------------------------------------------------------------- verdict
def test_good_scores_pass_and_say_so() -> None:
    made = report()
    assert {q.id: q.outcome for q in made.verdict.questions} == {
        "fidelity": "pass", "utility": "pass", "copies": "pass", "power": "pass",
        "subgroups": "pass",
    }  # fmt: skip
    assert made.verdict.headline.startswith("Close to the real data")


@pytest.mark.parametrize(
    ("score", "question", "outcome"),
    [
        (Score("fidelity/trends", 0.90, (0.89, 0.91), 0.8, 0.96), "fidelity", "caution"),
        (Score("fidelity/detection.score", 0.2, (0.1, 0.3), 0.1, 0.99), "fidelity", "fail"),
        (Score("utility/prediction.auc_gap", 0.02, (-0.2, 0.2), 0.3, 0.0), "utility", "caution"),
        (Score("utility/prediction.auc_gap", 0.2, (0.1, 0.3), 0.3, 0.0), "utility", "fail"),
        (Score("privacy/copies.exact", 0.005, (0.001, 0.009)), "copies", "caution"),
        (Score("privacy/copies.exact", 0.05, (0.04, 0.06)), "copies", "fail"),
    ],
)
def test_thresholds_decide(score: Score, question: str, outcome: str) -> None:
    changed = tuple(score if s.metric == score.metric else s for s in SCORES)
    assert outcomes(scores=changed)[question] == outcome


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "outcome"),
    [
        ("attribute.residual", 0.40, -0.15, 0.95, "underpowered"),  # it may be nothing
        ("attribute.residual", 0.40, 0.02, 0.78, "fail"),  # surely something, .40 > .10
        ("attribute.residual", 0.08, 0.01, 0.15, "caution"),
        ("identity.excess", 0.30, 0.20, 0.40, "fail"),
        ("membership.auc", 0.54, 0.45, 0.58, "pass"),  # .54 - .50 ≤ .05, .58 - .50 ≤ .10
        ("membership.auc", 0.58, 0.49, 0.67, "underpowered"),
        ("membership.auc", 0.68, 0.60, 0.76, "fail"),
    ],
)
def test_a_leak_that_may_be_chance_is_no_failure(
    metric: str, value: float, low: float, high: float, outcome: str
) -> None:
    score = Score(f"privacy/{metric}", value, (low, high), 0.5, 0.60)  # fresh rows by bad luck
    family = f"privacy/{metric.partition('.')[0]}"
    cards = {**CARDS, family: Card("Attack", "privacy", "lower", "What an attack finds.")}
    made = report(scores=(*SCORES, score), cards=cards).verdict
    asked = "members" if metric.startswith("membership") else "learned"
    found = {q.id: q for q in made.questions}[asked]
    assert found.outcome == outcome
    assert ("it may be chance" in found.answer) == (outcome == "underpowered")
    assert (", but " in made.headline) == (outcome == "fail")
    assert ("could be ruled out" in made.headline) == (outcome == "underpowered")


def test_shadow_fits_may_worsen_the_answer_on_members() -> None:
    calm = Score("privacy/membership.auc", 0.5, (0.45, 0.55), None, 0.5)
    found = replace(calm, value=0.7, interval=(0.65, 0.75), group="shadow")
    cards = CARDS | {"privacy/membership": replace(CARDS["privacy/copies"], title="Membership")}
    assert outcomes(scores=(*SCORES, calm), cards=cards)["members"] == "pass"
    assert outcomes(scores=(*SCORES, calm, found), cards=cards)["members"] == "fail"
    wide = replace(calm, value=0.5, interval=(0.2, 0.8), group="shadow")
    assert outcomes(scores=(*SCORES, calm, wide), cards=cards)["members"] == "pass"


def test_a_measure_that_misses_a_whole_copy_answers_nothing() -> None:
    """The page must not say "none seen" above a gate that says the same measure is blind."""
    score = Score("privacy/attribute.residual", -0.02, (-0.08, 0.03), 0.15, 0.0)
    cards = CARDS | {"privacy/attribute": replace(CARDS["privacy/copies"], title="Attribute")}
    plain = {"source": "patients.csv", "synthesizer": "table/seqtree"}
    for by, outcome in ((["privacy/copies.exact"], "underpowered"),
                        (["privacy/copies.exact", "privacy/attribute.residual all"], "pass"),
                        ):  # fmt: skip
        settings = plain | {"caught_by": {"exact copy": by, "5 % copied": by}}
        made = report(scores=(*SCORES, score), cards=cards, settings=settings).verdict
        asked = {q.id: q for q in made.questions}
        assert asked["learned"].outcome == outcome
        assert ("misses even a whole copy" in asked["learned"].answer) == (outcome != "pass")
        assert asked["copies"].outcome == "pass"
        gates = {r.gate.name: r.outcome for p in made.policies for r in p.rulings}
        assert (gates["Attribute inference"] == "underpowered") == (outcome != "pass")


def test_a_split_by_site_accuses_nobody_of_copying() -> None:
    """No row of another site can repeat a training row, so chance looks like copying."""
    copied = Score("privacy/copies.exact", 0.05, (0.04, 0.06))
    changed = tuple(copied if s.metric == copied.metric else s for s in SCORES)
    plain = {"source": "patients.csv", "synthesizer": "table/seqtree"}
    assert "real rows were copied" in report(scores=changed).verdict.headline
    made = report(scores=changed, settings=plain | {"split_by": "site"}).verdict
    asked = {q.id: q for q in made.questions}
    assert asked["copies"].outcome == "not assessable" and "'site'" in asked["copies"].answer
    assert asked["fidelity"].outcome == "pass"
    assert "copying could not be assessed" in made.headline


def test_two_leaks_are_joined_by_and() -> None:
    copied = Score("privacy/copies.exact", 0.05, (0.04, 0.06))
    rare = Score("privacy/rare_values.unique", 0.5, (0.4, 0.6))
    cards = CARDS | {"privacy/rare_values": replace(CARDS["privacy/copies"], title="Rare")}
    said = report(scores=(*SCORES[:6], copied, rare), cards=cards).verdict.headline
    assert "real rows were copied, and rare values are given away" in said


def test_missed_or_absent_controls_are_never_a_pass() -> None:
    missed = outcomes(controls={"exact copy": True, "5 % copied": False})
    assert (missed["copies"], missed["power"]) == ("underpowered", "underpowered")
    absent = outcomes(controls={})
    assert (absent["copies"], absent["power"]) == ("underpowered", "not assessable")


def test_a_word_answers_its_question() -> None:
    words = {q.id: q.word for q in report().verdict.questions}
    assert words["fidelity"] == "Yes" and words["copies"] == "None seen"
    copied = replace(SCORES[6], value=0.05, interval=(0.04, 0.06))
    changed = report(scores=(*SCORES[:6], copied)).verdict.questions
    assert {q.id: q.word for q in changed}["copies"] == "Yes"
    unsure = replace(SCORES[5], interval=(-0.2, 0.2))
    changed = report(scores=(*SCORES[:5], unsure)).verdict.questions
    assert {q.id: q.word for q in changed}["utility"] == "Probably"
    assert {q.id: q.word for q in changed}["copies"] == "Not assessable"
    assert Question("members", "", "caution", UNCERTAIN).word == "Probably not"


def test_no_score_is_not_assessable() -> None:
    assert set(outcomes(scores=(), controls={}).values()) == {"not assessable"}
    nan = replace(SCORES[3], value=math.nan, interval=(math.nan, math.nan))
    assert outcomes(scores=(nan,))["fidelity"] == "not assessable"


def test_forbidden_words_are_never_said() -> None:
    text = json.dumps(report().to_json()).lower()
    for word in ("compliant", "anonymous", "anonymised", "is safe", "guaranteed"):
        assert word not in text


# ---------------------------------------------------------------------------- the cell rule
@pytest.mark.parametrize("n", [3, 12, 40, 600])
@pytest.mark.parametrize("rows_each", [1, 3])
def test_reports_of_any_size_are_disclosable(n: int, rows_each: int) -> None:
    given = trial(n, rows_each=rows_each)
    made = report(given)
    assert list(violations(made, real_of(given))) == []
    json.dumps(made.to_json(), allow_nan=False)


def test_an_overlapping_numbering_of_train_and_holdout_is_kept_apart() -> None:
    apart = trial()
    shifted = replace(apart.holdout, subjects=apart.holdout.subjects - 600)
    overlapping = Trial(apart.train, shifted, apart.synthetic)
    assert report(overlapping).columns == report(apart).columns


def plant(made: Any, name: str, **changes: Any) -> Any:
    columns = tuple(replace(c, **changes) if c.name == name else c for c in made.columns)
    return replace(made, columns=columns)


def test_the_checker_catches_what_is_planted() -> None:
    given = trial()
    real, made = real_of(given), report(given)
    counts = np.bincount(real.columns["code"], minlength=40)
    rare = SCHEMA["code"].categories[int(np.flatnonzero((counts > 0) & (counts < 11))[0])]
    top = float(real.columns["age"].max())
    age = next(c for c in made.columns if c.name == "age")
    assert age.real is not None
    planted = {
        "a rare level": plant(made, "code", bins=(Bin(rare, 0.01, 0.01),)),
        "a thin tail": plant(made, "age", bins=(Bin("", 0.01, 0.01, top, None),)),
        "an extreme": plant(made, "age", real=replace(age.real, q3=top)),
        "too few at risk": replace(
            made, survival=replace(made.survival, times=(0.0, float(real.columns["days"].max())))
        ),
    }
    for what, bad in planted.items():
        with pytest.raises(PrivacyError) as caught:
            assert_disclosable(bad, real)
        assert rare not in str(caught.value) and str(top) not in str(caught.value), what


def test_a_small_missing_share_is_withheld_and_its_showing_caught() -> None:
    given = trial()
    crp = given.train.states["crp"].copy()
    crp[crp == 1] = 0
    crp[:4] = 1
    values = np.where(crp == 0, 3.0, np.nan)
    columns = {**given.train.columns, "crp": values}
    train = replace(given.train, columns=columns, states={"crp": crp})
    held = replace(given.holdout, columns={**given.holdout.columns, "crp": np.full(300, 2.0)},
                   states={})  # fmt: skip
    changed = Trial(train, held, given.synthetic)
    made = report(changed)
    summary = next(c for c in made.columns if c.name == "crp")
    assert summary.missing_real is None
    assert list(violations(made, real_of(changed))) == []
    assert list(violations(plant(made, "crp", missing_real=0.01), real_of(changed)))


def test_unique_values_of_real_rows_appear_nowhere() -> None:
    given = trial()
    columns = {name: values.copy() for name, values in given.train.columns.items()}
    columns["age"][0] = 98765
    columns["crp"][1], given.train.states["crp"][1] = 271828.3, 0
    columns["seen"][0] = np.datetime64("1931-03-07", "us")
    columns["code"][columns["code"] == 39] = 38
    columns["code"][0] = 39
    canaries = Trial(replace(given.train, columns=columns), given.holdout, given.synthetic)
    text = json.dumps(report(canaries).to_json())
    for canary in ("98765", "271828", "1931", "C39"):
        assert canary not in text


def test_scores_of_small_groups_are_left_out() -> None:
    given = trial(100)
    groups = {line.group for line in report(given).scores}
    assert "sex=F" in groups and "code=C39" not in groups


# ---------------------------------------------------------------------------- columns
def test_shares_sum_to_one_and_pool_rare_levels() -> None:
    for column in report().columns:
        if column.bins:
            assert sum(b.real for b in column.bins) == pytest.approx(1, abs=0.002)
            assert sum(b.synthetic for b in column.bins) == pytest.approx(1, abs=0.002)
    code = next(c for c in report().columns if c.name == "code")
    assert code.bins[-1].label == f"other ({40 - len(code.bins) + 1} levels)"


def test_ranges_have_round_edges_and_open_ends() -> None:
    age = next(c for c in report().columns if c.name == "age")
    assert age.bins[0].low is None and age.bins[-1].high is None
    assert all(b.low is None or b.low == round(b.low) for b in age.bins)
    seen = next(c for c in report().columns if c.name == "seen")
    assert seen.bins[0].label.startswith("before") and "Q" in seen.bins[1].label
    crp = next(c for c in report().columns if c.name == "crp")
    assert crp.bins[-1].label == "<0.5"
    assert next(c for c in report().columns if c.name == "id").note.startswith("set aside")


def one(column: Column, values: Any, states: Any = None) -> Table:
    given = {} if states is None else {column.name: np.array(states, np.int8)}
    array = np.array(values)
    return Table(TableSchema((column,)), np.arange(array.size), {column.name: array}, given)


@pytest.mark.parametrize(
    ("values", "n_bins"),
    [
        (np.full(50, np.nan), 0),
        (np.full(50, 7.0), None),
        (np.r_[np.zeros(90), np.full(30, 1e300)], None),
        (np.r_[np.full(40, -np.inf), np.arange(40.0)], None),
        (np.array([1.0]), 0),
        (np.r_[np.zeros(900), np.random.default_rng(0).lognormal(3, 2, 300)], None),
    ],
    ids=["all missing", "constant", "huge", "infinite", "one row", "zero-inflated"],
)
def test_odd_numeric_columns(values: Any, n_bins: int | None) -> None:
    for kind in ("continuous", "integer"):
        column = Column("x", kind, decimals=1 if kind == "continuous" else 0)  # type: ignore[arg-type]
        found = summarize(column, one(column, values), one(column, values))
        if n_bins is not None:
            assert len(found.bins) == n_bins
        else:
            assert found.likeness == pytest.approx(1)
            assert sum(b.real for b in found.bins) == pytest.approx(1, abs=0.01)


def test_a_spike_gets_a_bin_of_its_own() -> None:
    column = Column("x", "continuous", decimals=1)
    values = np.r_[np.zeros(900), np.random.default_rng(0).uniform(1, 900, 300)]
    found = summarize(column, one(column, values), one(column, values))
    assert found.bins[0].real == 0.75 and found.bins[0].high == 0.1
    assert found.bins[0].label == "≤ 0" and found.bins[1].label.startswith("> 0 to < ")


def test_ten_thousand_levels_stay_unnamed() -> None:
    column = Column("x", "categorical", categories=tuple(map(str, range(10_000))))
    found = summarize(column, one(column, np.arange(10_000)), one(column, np.arange(10_000)))
    assert [b.label for b in found.bins] == ["other (10000 levels)"]


@pytest.mark.parametrize(("width", "step"), [(0, 0), (0.9, 1), (1, 1), (1.1, 2), (30, 50), (6, 10)])
def test_nice_steps(width: float, step: float) -> None:
    assert nice_step(width) == pytest.approx(step)


# ---------------------------------------------------------------------------- associations
def test_known_associations() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    group = (x > 0).astype(np.int32)
    columns = (
        Column("x", "continuous"), Column("minus", "continuous"), Column("noise", "continuous"),
        Column("group", "categorical", categories=("a", "b")),
        Column("same", "categorical", categories=("c", "d")),
        Column("coin", "categorical", categories=("e", "f")),
    )  # fmt: skip
    values = {"x": x, "minus": -(x**3), "noise": rng.normal(size=4000), "group": group,
              "same": 1 - group, "coin": rng.integers(0, 2, 4000).astype(np.int32)}  # fmt: skip
    made = Table(TableSchema(columns), np.arange(4000), values)
    found = matrix(made, columns)
    assert found[0, 1] == pytest.approx(-1)
    assert abs(found[0, 2]) < 0.05
    assert found[0, 3] == pytest.approx(np.sqrt(0.75), abs=0.01)  # η of ranks split at the median
    assert found[3, 4] == pytest.approx(1) and found[3, 5] < 0.05
    assert np.array_equal(found, found.T)


def test_at_most_forty_columns_are_drawn() -> None:
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"c{i}", "continuous") for i in range(60))
    values = {c.name: rng.normal(size=200) for c in columns}
    made = Table(TableSchema(columns), np.arange(200), values)
    other = {**values, "c50": values["c49"]}
    found = associations(made, Table(made.schema, made.subjects, other))
    assert found is not None and len(found.columns) == 40 and found.n_columns == 60
    assert found.largest[0][:2] == ("c49", "c50")


# ---------------------------------------------------------------------------- survival
def test_curves_match_a_hand_worked_table() -> None:
    columns = (Column("t", "integer", ("time",)), Column("d", "boolean", ("event",), ("n", "y")))
    times = np.repeat([10.0, 20.0, 30.0, 40.0], 20)
    events = np.repeat([1, 0, 1, 0], 20).astype(np.int32)
    made = Table(TableSchema(columns), np.arange(80), {"t": times, "d": events})
    found = survival_curves(made, made)
    assert found is not None
    at = dict(zip(found.times, found.real.survival, strict=True))
    # 60 of 80 stay after 10; 20 leave unharmed; half of the remaining 40 go at 30
    assert at[0.0] == 1 and at[max(at)] == pytest.approx(0.375)
    assert 0.75 in at.values() and found.largest_gap == 0


def test_too_few_events_give_no_curve() -> None:
    given = trial()
    rare = given.train.columns | {"death": np.zeros(600, np.int32)}
    assert survival_curves(replace(given.train, columns=rare), given.synthetic) is None


def test_cards_are_explained() -> None:
    made = report()
    assert {e.metric for e in made.glossary} == set(CARDS)
    assert "fails beyond 0.4 (" in next(e.passes for e in made.glossary if "Detection" in e.title)


def test_no_time_and_event_no_curve() -> None:
    assert survival_curves(one(Column("x", "integer"), [1.0]), table(3, 0)) is None


def test_what_is_packed_at_its_low_end_gets_growing_ranges() -> None:
    column = Column("x", "integer")
    values = np.rint(np.random.default_rng(0).lognormal(5, 1.5, 2000))
    found = summarize(column, one(column, values), one(column, values))
    edges = [b.low for b in found.bins if b.low is not None]
    assert {10, 20, 50, 100, 200, 500, 1000} <= set(edges)
    assert max(b.real for b in found.bins) < 0.3
