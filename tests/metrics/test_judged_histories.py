"""The judges of histories: answers worked by hand, floors, ceilings, leaks and empty histories."""

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from made_histories import SCHEMA, patients

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import NotSupported
from manikin.judging import Judged, judge_all
from manikin.metrics.controls import Control, copy_share, floor, fresh, positive_controls
from manikin.metrics.histories import independent, shuffled, together
from manikin.metrics.judge import judge
from manikin.metrics.privacy.copied_runs import longest_runs
from manikin.metrics.score import Score, Trial

NAMES = catalogue.in_profile("full", "events")
ATTACKS = tuple(name for name in NAMES if name.startswith("privacy/"))
PLAIN = EventSchema(
    TableSchema(()),
    (Code("a"), Code("b"), Code("c"), Code("x", "measurement", numeric=True, decimals=1)),
)
Row = tuple[int, float, str] | tuple[int, float, str, float]  # subject, day, code, value


def history(rows: list[Row], n: int, schema: EventSchema = PLAIN) -> Events:
    """Histories of events without a visit: those of one day are at one visit."""
    start = np.datetime64("2020-01-01", "us")
    days = [np.datetime64("NaT", "us") if math.isnan(row[1]) else start + np.timedelta64(
        round(row[1] * 86_400_000_000), "us") for row in rows]  # fmt: skip
    table = Table(schema.static, np.arange(n), {})
    return Events.of(
        schema, table, [row[0] for row in rows], np.array(days, "datetime64[us]"),
        [schema.named[row[2]][0] for row in rows],
        [row[3] if len(row) > 3 else np.nan for row in rows],
    )  # fmt: skip


def scored(name: str, real: Events, synthetic: Events, train: Events | None = None) -> dict:
    trial = Trial(real if train is None else train, real, synthetic)
    found = catalogue.metrics((name,))[name](trial, seed=0)
    return {score.metric.partition(".")[2]: score for score in found if score.group == "all"}


@pytest.fixture(scope="module")
def trial() -> Trial[Events]:
    return Trial(patients(300, 1), patients(200, 2), patients(300, 3))


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.metrics.fidelity.history_detection.TREES", 10)
    monkeypatch.setattr("manikin.metrics.fidelity.history_detection.FOLDS", 2)
    monkeypatch.setattr("manikin.metrics.fidelity.sequence_detection.FOLDS", 2)
    monkeypatch.setattr("manikin.metrics.recurrent.UPDATES", 25)


# ── answers worked by hand ─────────────────────────────────────────────────────────────────────


def test_r_squared_of_codes_and_pairs() -> None:
    real = history([(0, 0, "a"), (0, 0, "b"), (0, 1, "a"), (1, 0, "a"), (1, 1, "b")], 2)
    drawn = history([(0, 0, "a"), (0, 0, "b"), (0, 1, "b"), (1, 0, "a"), (1, 1, "c")], 2)
    found = scored("fidelity/code_prevalence", real, drawn)
    # P in four visits, of a, b, c: real .75 .5 0 (mean 5/12), synthetic .5 .5 .25
    around = (9 / 12 - 5 / 12) ** 2 + (6 / 12 - 5 / 12) ** 2 + (5 / 12) ** 2
    assert found["unigram"].value == pytest.approx(1 - (0.25**2 + 0.25**2) / around)
    # the only pair at a visit, a with b, is in 1 of 4 on both sides: one pair has no variance
    assert math.isnan(found["in_visit"].value)
    # of two steps, real: a→a, b→a, a→b; synthetic: a→b, b→b, a→c. Each is in 1 of 2.
    # cells aa ab ac ba bb: real ½ ½ 0 ½ 0 (mean .3), synthetic 0 ½ ½ 0 ½
    assert found["sequential"].value == pytest.approx(1 - 4 * 0.25 / (3 * 0.04 + 2 * 0.09))
    # ever, of two patients: real a 1, b 1, c 0; synthetic a 1, b ½, c ½
    assert found["patients_rmse"].value == pytest.approx(math.sqrt(0.5 / 3))
    assert found["patients_r2"].value == pytest.approx(1 - 0.5 / (2 / 3))
    # deviations ⅓ ⅓ -⅔ and ⅓ -1/6 -1/6: sum of products 1/6, of squares 2/3 and 1/6
    assert found["patients_pearson"].value == pytest.approx((1 / 6) / math.sqrt(2 / 3 / 6))


def test_a_pair_of_codes_counts_once_a_visit_however_often_a_code_is_there() -> None:
    rows: list[Row] = [(0, 0, "a"), (0, 0, "a"), (0, 0, "b"), (0, 1, "a"), (0, 1, "c"), (0, 2, "a")]
    once: list[Row] = [(0, 0, "a"), (0, 0, "b"), (0, 1, "c"), (0, 1, "a"), (0, 2, "a")]
    found = scored("fidelity/code_prevalence", history(rows, 1), history(once, 1))
    assert found["unigram"].value == 1
    assert found["sequential"].value == 1


def test_rare_codes_that_are_left() -> None:
    schema = EventSchema(TableSchema(()), tuple(Code(f"c{i}") for i in range(40)))
    common: list[Row] = [(i % 20, i, "c0") for i in range(3000)]
    # c1 … c10 once in training, c11 often, c12 not held out
    rare: list[Row] = [(i, 0, f"c{i}") for i in range(1, 11)]
    often: list[Row] = [(0, i, "c11") for i in range(11)]
    train = history([*common, *rare, *often, (1, 1, "c12")], 20, schema)
    real = history([*common, *rare, *often], 20, schema)
    drawn = history([*common, *rare[:4], (3, 3, "c30")], 20, schema)
    found = scored("fidelity/rare_codes", real, drawn, train)
    assert found["recall"].value == 0.4  # four of ten
    assert found["invented"].value == pytest.approx(1 / 3005)  # c30
    same = scored("fidelity/rare_codes", real, real, train)
    assert (same["recall"].value, same["log_r2"].value) == (1, 1)


def test_what_comes_again() -> None:
    # each of five subjects has three visits. Real: a at all; b at the first and the last.
    real = history([
        *((s, day, "a") for s in range(5) for day in (0, 1, 2)),
        *((s, day, "b") for s in range(5) for day in (0, 2)),
    ], 5)  # fmt: skip
    # synthetic: a at all; b at the first only
    drawn = history([
        *((s, day, "a") for s in range(5) for day in (0, 1, 2)), *((s, 0, "b") for s in range(5)),
    ], 5)  # fmt: skip
    found = scored("fidelity/recurrence", real, drawn)
    # a comes again always (1, 1), b after its first visit always in real, never in synthetic;
    # both codes weigh five subjects: 1 - (0 + 1) / 2
    assert found["again"].value == 0.5
    assert found["next"].value == 1  # b is never at the very next visit
    # new at later visits: none of 15 (a, a, b) in real, none of 10 in synthetic
    assert found["new_share"].value == 0
    forgetful = history([*((s, i, "abc"[i]) for s in range(5) for i in range(3))], 5)
    assert scored("fidelity/recurrence", real, forgetful)["new_share"].value == 1


def test_distances_between_times() -> None:
    real = history([(s, day, "a") for s in range(4) for day in (0, 2)], 4)
    drawn = history([(s, day, "a") for s in range(4) for day in (0, 2 if s < 3 else 9)], 4)
    name = "fidelity/visit_times"
    trial = Trial(real, real, drawn)
    found = {s.group: s.value for s in catalogue.metrics((name,))[name](trial, seed=0)
             if s.metric.endswith("ks")}  # fmt: skip
    assert found["of gap"] == 0.75  # one gap of four is longer
    assert found["of length"] == 0.75
    # visits, events, sizes and stays never vary: nothing to compare
    assert set(found) == {"all", "of gap", "of length"}


def test_matrices_of_transitions() -> None:
    real = history([(s, day, code) for s in range(2) for day, code in enumerate("aba")], 2)
    drawn = history([(s, day, code) for s in range(2) for day, code in enumerate("aab")], 2)
    found = scored("fidelity/transitions", real, drawn)
    # start→a, a→b, b→a, a→end against start→a, a→a, a→b, b→end: two of four are shared
    assert found["agreement"].value == pytest.approx(0.5)
    # rows: start the same; a (weight 2 of 4): {b ½, end ½} against {a ½, b ½}, ½ apart; b (1): 1
    assert found["matrix"].value == pytest.approx(1 - (2 / 4 * 0.5 + 1 / 4 * 1))


def test_correlations_within_and_between_persons() -> None:
    # twelve subjects with a level of their own and no change; and twelve whose values alternate
    levels = history([(s, d, "x", float(s)) for s in range(12) for d in range(4)], 12)
    turns = history([(s, d, "x", float(d % 2)) for s in range(12) for d in range(4)], 12)
    found = scored("fidelity/trajectories", levels, turns)
    assert found["lag_1_error"].value == pytest.approx(2)  # r of 1 against -1
    # one-way analysis: levels have no variance within, ICC 1; turns have none between: MSB = 0,
    # MSW > 0, k0 = 4, so that ICC = -MSW / (3 MSW) = -1/3
    assert found["icc_error"].value == pytest.approx(4 / 3)
    assert scored("fidelity/trajectories", levels, levels)["values"].value == 1
    # values 0 … 11 against 0 and 1: largest gap of the steps is at 1, 1 - 2/12
    assert found["values"].value == pytest.approx(1 / 6)


def test_how_often_is_measured() -> None:
    # of ten subjects with two visits x is measured at both; in synthetic only at the first
    real = history([(s, d, c, 1.0) for s in range(10) for d in (0, 1) for c in "xa"], 10)
    drawn = history([
        *((s, d, "a") for s in range(10) for d in (0, 1)), *((s, 0, "x", 1.0) for s in range(10)),
    ], 10)  # fmt: skip
    only_x = history([(s, d, "x", 1.0) for s in range(10) for d in (0, 1)], 10)
    train = history([*((s, d, "a") for s in range(10) for d in (0, 1)),
                     *((s, d, "x", 1.0) for s in range(10) for d in (0, 1))], 10)  # fmt: skip
    found = scored("fidelity/measuring", train, drawn)
    assert found["rate"].value == 0.5
    assert found["ever"].value == 1
    assert found["repeat"].value == 0
    assert math.isnan(found["resume"].value)  # always measured in real: nobody could resume
    assert found["value"].value == 1
    assert scored("fidelity/measuring", real, only_x, train)["rate"].value == 1


def test_courses_over_time() -> None:
    days = range(0, 20, 2)
    real = history([(s, d, "x", float(d)) for s in range(12) for d in days], 12)
    drawn = history([(s, d, "x", float(d) + 3) for s in range(12) for d in days], 12)
    found = scored("fidelity/progression", real, drawn)
    # three units higher everywhere; standard deviation of 0, 2 … 18 is root of 33
    assert found["means"].value == pytest.approx(3 / math.sqrt(33))
    assert found["quantiles"].value == pytest.approx(3 / math.sqrt(33))
    assert found["incidence"].value == 0
    late = history([(s, d, "a" if d < 18 else "x", float(d)) for s in range(12) for d in days], 12)
    assert scored("fidelity/progression", real, late)["incidence"].value == 1


def test_longest_runs_by_hand() -> None:
    real = history([
        (0, 0, "a"), (0, 1, "x", 5.0), (0, 3, "b"),
        (1, 0, "a"), (1, 1, "x", 5.0), (1, 4, "b"),  # a longer gap
        (2, 0, "a"), (2, 1, "x", 5.1), (2, 3, "b"),  # another value
        (3, 0, "c"),
    ], 5)  # fmt: skip
    drawn = history([(0, 10, "c"), (0, 20, "a"), (0, 21, "x", 5.0), (0, 23, "b"), (0, 23, "a")], 1)
    # when a run begins does not matter, only the gaps within it
    assert longest_runs(real, drawn).tolist() == [3, 2, 1, 1, 0]


def test_a_run_of_thousands_is_found_whole_or_nearly() -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(list("abc"), 3000)
    one = history([(0, day, str(code)) for day, code in enumerate(codes)], 1)
    assert 2400 < longest_runs(one, one)[0] <= 3000
    other = history([(0, day, str(code)) for day, code in enumerate(codes[::-1])], 1)
    assert longest_runs(one, other)[0] < 40  # of 3 codes, about 2 log 3000 / log 3 by chance


def test_rules_that_are_broken_are_counted() -> None:
    events = patients(50, 0)
    dead = np.flatnonzero(events.code == 4)
    again = Events.of(
        SCHEMA, events.static, np.append(events.whose, events.whose[dead]),
        np.append(events.time, events.time[dead] + np.timedelta64(400, "D")),
        np.append(events.code, np.full(dead.size, 10)),
    )  # fmt: skip
    found = scored("validity/history_violations", events, again)["per_1000"]
    assert found.value == pytest.approx(1000 * dead.size / again.n_events)
    assert found.interval[0] < found.value < found.interval[1]
    assert scored("validity/history_violations", events, events)["per_1000"].value == 0


# ── floors, ceilings and leaks ─────────────────────────────────────────────────────────────────


def test_the_floors_keep_what_they_say(trial: Trial[Events]) -> None:
    real = trial.train
    for drawn in (independent(real, seed=0), shuffled(trial, seed=0).synthetic):
        assert drawn.n_events == real.n_events
        order, other = np.argsort(drawn.value), np.argsort(real.value)
        np.testing.assert_array_equal(drawn.value[order], real.value[other])
        np.testing.assert_array_equal(np.bincount(drawn.code), np.bincount(real.code))
        assert visits_of(drawn).n == visits_of(real).n
    mixed = shuffled(trial, seed=0).synthetic
    for side in (mixed, real):  # each keeps its own
        assert side.counts.tolist() == real.counts.tolist()
    np.testing.assert_array_equal(visits_of(mixed).start, visits_of(real).start)
    everyone = np.lexsort((real.code, real.whose)), np.lexsort((mixed.code, mixed.whose))
    np.testing.assert_array_equal(real.code[everyone[0]], mixed.code[everyone[1]])


EXPECTED = {  # what is far above its floor, or far below it where less is better
    "fidelity/code_prevalence": ("patients_r2", 0.3),
    "fidelity/recurrence": ("again", 0.1),
    "fidelity/visit_times": ("ks", 0.05),
    "fidelity/transitions": ("agreement", 0.2),
    "fidelity/trajectories": ("icc_error", -0.5),
    "fidelity/measuring": ("repeat", 0.1),
    "fidelity/progression": ("means", -0.2),
    "fidelity/history_detection": ("summaries", -0.3),
    "utility/next_visit": ("auc_gap", -0.2),
    "utility/outcomes": ("death_gap", -0.2),
    "fidelity/sequence_detection": ("gru", -0.2),
    "utility/sequence_outcomes": ("death_gap", -0.1),
    "validity/history_violations": ("per_1000", -20),
}


@pytest.mark.parametrize("name", [n for n in NAMES if n in EXPECTED])
def test_fresh_patients_score_as_the_ceiling_and_far_from_the_floor(name, trial) -> None:
    what, apart = EXPECTED[name]
    scores = judge(trial, catalogue.metrics((name,)), seed=0)
    found = {s.metric.partition(".")[2]: s for s in scores if s.group == "all"}
    score = found[what]
    assert (score.value - score.floor) / apart > 1, score
    assert "visits shuffled within subjects" in score.note
    for one in found.values():
        if one.ceiling is not None:
            room = 3 * (one.interval[1] - one.interval[0]) / 2 + 0.03
            assert abs(one.value - one.ceiling) <= room, one


def test_every_metric_of_histories_is_asked_of_its_floor() -> None:
    assert set(NAMES) == {*EXPECTED, *ATTACKS, "fidelity/rare_codes"}


def test_attacks_find_copies_and_no_leak_in_fresh_patients(trial) -> None:
    metrics = catalogue.metrics(ATTACKS)
    innocent = fresh(trial, family="privacy", seed=0)
    null = [score for metric in metrics.values() for score in metric(innocent, seed=0)]
    for score in null:
        if score.metric.endswith(("auc", "share", "excess")):
            chance = 0.5 if score.metric.endswith("auc") else 0.0
            assert score.interval[0] <= chance, score
    copied, leaked = positive_controls(trial, metrics, seed=0, null=null)
    for name in ATTACKS:
        assert any(by.startswith(name) for by in copied.by), name
    assert leaked.caught


@pytest.mark.parametrize("attack", ["summaries", "domias", "codes", "pairs", "events", "runs"])
def test_every_attack_finds_a_copying_generator(attack, trial) -> None:
    name = "privacy/history_membership"
    copies = copy_share(trial, 1.0, seed=0)
    scores = catalogue.metrics((name,))[name](copies, seed=0)
    (found,) = [s for s in scores if s.metric.endswith("auc") and s.group == f"attack={attack}"]
    assert found.interval[0] > 0.5


def test_a_share_of_subjects_is_copied_whole(trial) -> None:
    drawn = copy_share(trial, 0.05, seed=0).synthetic
    assert drawn.n_subjects == 300
    runs = longest_runs(drawn, trial.train) / drawn.counts
    assert (runs > 0.8).sum() >= 15


def test_a_sequence_out_of_order_is_told_apart_by_what_looks_at_order(trial) -> None:
    mixed = shuffled(trial, seed=0)
    found = scored("fidelity/trajectories", trial.holdout, mixed.synthetic, trial.train)
    assert found["within_error"].interval[0] > 0.2
    assert found["icc_error"].value < 0.1  # persons are still who they were


def test_judging_plants_leaks_in_histories() -> None:
    small = Trial(patients(120, 1), patients(90, 2), patients(120, 3))
    judged = judge_all(small, catalogue.metrics(ATTACKS), seed=0)  # type: ignore[arg-type]
    assert judged.caught()["exact copy"]
    assert floor(small, seed=0).synthetic.n_subjects == 120  # type: ignore[type-var]


# ── odd histories ──────────────────────────────────────────────────────────────────────────────


def well_formed(scores: tuple[Score, ...], name: str) -> None:
    keys = [(score.metric, score.group) for score in scores]
    assert len(set(keys)) == len(keys)
    for score in scores:
        assert score.metric.split(".")[0] == name
        low, high = score.interval
        if math.isnan(score.value):
            assert score.note, "what cannot be estimated says why"
        elif not math.isnan(low):
            assert low <= score.value <= high


def odd() -> dict[str, Events]:
    nobody = history([], 0)
    ten_thousand = EventSchema(TableSchema(()), tuple(Code(f"Ünï/{i}") for i in range(10_000)))
    rng = np.random.default_rng(0)
    return {
        "no subjects": nobody,
        "no events": history([], 30),
        "one event": history([(0, 0, "a")], 30),
        "one subject": history([(0, 0, "a"), (0, 1, "x", 2.0), (0, 5, "b")], 1),
        "no values": history([(s, d, "x") for s in range(30) for d in range(3)], 30),
        "no times": history([(s, math.nan, "a") for s in range(30)], 30),
        "one time": history([(s, 0, "x", 1.0) for s in range(30)], 30),
        "one value": history([(s, d, "x", 1.0) for s in range(30) for d in range(3)], 30),
        "endless": history([(s, d, "x", math.inf) for s in range(30) for d in range(3)], 30),
        "many codes": history([
            (s, d, f"Ünï/{c}") for s in range(30) for d in range(4)
            for c in rng.integers(0, 10_000, 5)
        ], 30, ten_thousand),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_odd_histories_give_numbers_or_reasons(name: str) -> None:
    rows = [(s, d, c, 1.0 + s + d) for s in range(40) for d in range(3) for c in "axb"]
    real = history(rows, 40)  # type: ignore[arg-type]
    metric = catalogue.metrics((name,))[name]
    for part in odd().values():
        for one in (Trial(part, part, part), Trial(real, real, part)):
            with suppress(NotSupported):
                well_formed(metric(one, seed=0), name)


@pytest.mark.parametrize("kind", list(odd()))
def test_floors_and_leaks_of_odd_histories(kind: str) -> None:
    part = odd()[kind]
    one = Trial(part, part, part)
    for other in (floor(one, seed=0), shuffled(one, seed=0), copy_share(one, 0.5, seed=0)):  # type: ignore[type-var]
        assert other.synthetic.n_subjects == part.n_subjects


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_how_codes_are_ordered(name: str, trial) -> None:
    small = Trial(
        *(part.take(np.arange(90)) for part in (trial.train, trial.holdout, trial.synthetic))
    )
    codes = (Code("never"), *SCHEMA.codes[::-1])
    place = np.arange(len(SCHEMA), 0, -1).astype(np.int32)
    turned = replace(
        small.synthetic, schema=replace(SCHEMA, codes=codes), code=place[small.synthetic.code]
    )
    assert together(replace(small, synthetic=turned)).synthetic.schema.codes[-1].name == "never"
    metric = catalogue.metrics((name,))[name]
    for one, other in zip(
        metric(small, seed=0), metric(replace(small, synthetic=turned), seed=0), strict=True
    ):
        assert one.metric == other.metric
        if not name.startswith("privacy/"):  # ties between attacks may fall otherwise
            np.testing.assert_allclose(one.value, other.value, atol=0.02)


def test_what_catches_a_leak_is_told_together() -> None:
    score = Score("privacy/copies.exact", 0.5, (0.4, 0.6))
    rows = Judged(
        (), (Control("exact copy", 1.0, (), 90, (score,)), Control("5 %", 0.05, (), 90, ()))
    )
    whole = (Control("exact copy", 1.0, ("privacy/copied_runs.share",), None, ()),
             Control("5 %", 0.05, (), 120, ()), Control("other", 0.1, (), None, ()))  # fmt: skip
    found = rows.beside(whole)
    assert found.caught() == {"exact copy": True, "5 %": False, "other": False}
    assert found.suffices == 120
    assert found.controls[0].scores == (score,)
