"""Metrics of linked tables, on cohorts whose answers are known."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from manikin.catalogue import cards, metrics
from manikin.data.cohort import Cohort, counts
from manikin.data.flattening import flatten
from manikin.data.linking import link_frames
from manikin.metrics import linked
from manikin.metrics.controls import floor, fresh
from manikin.metrics.judge import judge
from manikin.metrics.score import Score, Trial

NAMES = tuple(name for name, card in cards().items() if card.modality == "cohort")


def cohort(n: int, seed: int) -> Cohort:
    """Men have one visit, women three; a visit's score is the patient's level, with an error."""
    rng = np.random.default_rng(seed)
    female = rng.integers(0, 2, n)
    level = np.round(rng.normal(size=n), 2)
    of = np.repeat(np.arange(n), 1 + 2 * female)
    rng.shuffle(of)
    frames = {
        "patients": pl.DataFrame(
            {"patient_id": np.arange(n), "sex": np.where(female, "f", "m"), "level": level}
        ),
        "visits": pl.DataFrame(
            {"visit_id": np.arange(of.size), "patient_id": of, "day": rng.integers(0, 90, of.size),
             "score": np.round(level[of] + 0.1 * rng.normal(size=of.size), 2)}
        ),
    }  # fmt: skip
    return Cohort.from_frames(frames, ["visits.patient_id=patients.patient_id"])


@pytest.fixture(scope="module")
def trial() -> Trial[Cohort]:
    return of_three(900)


def of_three(n: int) -> Trial[Cohort]:
    """Three parts of one cohort, so that codes mean the same in all of them."""
    everyone = cohort(n, 1)
    return Trial(*(everyone.take(np.arange(i, n, 3)) for i in range(3)))


def of(scores: tuple[Score, ...]) -> dict[str, float]:
    return {s.metric.partition("/")[2]: s.value for s in scores if s.group == "all"}


def test_there_are_metrics_of_linked_tables() -> None:
    assert set(NAMES) == {"validity/referential", "fidelity/cardinality", "fidelity/cross_table"}


@pytest.mark.parametrize("name", NAMES)
class TestKit:
    def test_scores_are_well_formed_and_deterministic(self, name, trial) -> None:
        metric = metrics((name,))[name]
        scores = metric(trial, seed=5)
        assert repr(metric(trial, seed=5)) == repr(scores)
        keys = [(score.metric, score.group) for score in scores]
        assert len(set(keys)) == len(keys)
        for score in scores:
            assert score.metric.split(".")[0] == name
            assert score.note or score.interval[0] <= score.value <= score.interval[1]

    def test_fresh_real_subjects_score_as_the_ceiling(self, name, trial) -> None:
        for score in judge(trial, metrics((name,)), seed=0):
            if score.group == "all" and score.ceiling is not None:
                room = 3 * (score.interval[1] - score.interval[0]) / 2 + 0.03
                assert abs(score.value - score.ceiling) <= room, score

    @pytest.mark.parametrize("n", [1, 2, 9])
    def test_few_subjects_give_numbers_or_reasons(self, name, n) -> None:
        tiny = of_three(3 * n)
        for score in judge(tiny, metrics((name,)), seed=0):
            assert score.value == score.value or score.note

    def test_nothing_below_and_nothing_at_all(self, name, trial) -> None:
        part = trial.synthetic
        none = part.parts["visits"].rows(np.arange(0))
        empty = Cohort.of(part.schema, {**part.parts, "visits": none}, {"visits": np.arange(0)})
        for synthetic in (empty, part.take(np.arange(0))):
            for score in metrics((name,))[name](
                dataclasses.replace(trial, synthetic=synthetic), seed=0
            ):
                assert score.value == score.value or score.note

    def test_orphans_do_no_harm(self, name, trial) -> None:
        part = trial.synthetic
        above = np.where(np.arange(part.above["visits"].size) % 2, -1, part.above["visits"])
        broken = Cohort.of(part.schema, part.parts, {"visits": above})
        assert metrics((name,))[name](dataclasses.replace(trial, synthetic=broken), seed=0)


def test_integrity_is_the_share_of_rows_with_a_parent(trial) -> None:
    metric = metrics(("validity/referential",))["validity/referential"]
    assert of(metric(trial, seed=0))["referential"] == 1
    part = trial.synthetic
    above = part.above["visits"].copy()
    above[: above.size // 4] = -1
    broken = Cohort.of(part.schema, part.parts, {"visits": above})
    (score, one) = metric(dataclasses.replace(trial, synthetic=broken), seed=0)
    wanted = 1 - (above.size // 4) / above.size
    assert score.value == pytest.approx(wanted) and one.group == "table=visits"
    assert score.interval[0] < wanted < score.interval[1]


def test_counts_and_their_dependence_are_told_apart(trial) -> None:
    """The same counts at other patients: `counts` is 1, `dependence` falls."""
    metric = metrics(("fidelity/cardinality",))["fidelity/cardinality"]
    part = trial.holdout
    swapped = part.root.columns["sex"][::-1].copy()
    root = dataclasses.replace(part.root, columns={**part.root.columns, "sex": swapped})
    mixed = Cohort.of(part.schema, {**part.parts, "patients": root}, part.above)
    told = of(metric(dataclasses.replace(trial, synthetic=mixed), seed=0))
    same = of(metric(dataclasses.replace(trial, synthetic=part), seed=0))
    assert same == {"cardinality.counts": 1, "cardinality.dependence": 1}
    assert told["cardinality.counts"] == 1
    # sex and count: each of f and m now has one and three visits in equal shares: 1/2 agree;
    # level and count stay as they were: 1; the mean of the two columns is about 3/4
    assert told["cardinality.dependence"] == pytest.approx(0.75, abs=0.03)
    # keys at random: counts are Poisson of mean 2, so that 1 and 3 have .27 and .18: .27+.18
    random = of(metric(floor(trial, seed=0), seed=0))
    assert random["cardinality.counts"] == pytest.approx(0.45, abs=0.06)


def test_rows_hung_at_random_lose_cross_table_relations(trial) -> None:
    metric = metrics(("fidelity/cross_table",))["fidelity/cross_table"]
    real, random = (of(metric(t, seed=0)) for t in (trial, floor(trial, seed=0)))
    assert real["cross_table.pairs"] > random["cross_table.pairs"] + 0.1
    assert real["cross_table.succession"] > random["cross_table.succession"] + 0.05
    assert real["cross_table.score"] > 0.7 > 0.3 > random["cross_table.score"]


def test_ceiling_and_floor_keep_sizes(trial) -> None:
    few = dataclasses.replace(trial, synthetic=trial.synthetic.take(trial.synthetic.subjects[:50]))
    for other in (floor(few, seed=0), fresh(few, family="fidelity", seed=0)):
        assert other is not None and other.synthetic.n_subjects == 50
    half = fresh(few, family="privacy", seed=0)
    assert (
        half is not None and not np.intersect1d(half.holdout.subjects, half.synthetic.subjects).size
    )
    again = linked.independent(trial.train, seed=0)
    assert counts(again, "visits").sum() == counts(trial.train, "visits").sum()


def test_one_row_a_subject_holds_counts_means_and_last_values() -> None:
    frames = {
        "p": pl.DataFrame({"p_id": [1, 2, 3], "w": [1.5, 2.5, 3.5]}),
        "v": pl.DataFrame({"p_id": [2, 1, 2, 2], "day": [5, 1, 9, 7], "x": [1.0, 4.0, None, 5.0],
                           "c": ["a", "b", "b", "a"]}),
    }  # fmt: skip
    flat = flatten(Cohort.from_frames(frames))
    names = list(flat.columns)
    assert names[0] == "w" and "v: rows" in names and flat.n_rows == 3
    assert flat.columns["v: rows"].tolist() == [1, 3, 0]
    # patient 2: x is 1, 5 and none on days 5, 7 and 9; its mean is 3, its last cell has no value
    assert flat.numbers("v: mean x").tolist()[:2] == [4, 3] and np.isnan(
        flat.numbers("v: mean x")[2]
    )
    assert np.isnan(flat.numbers("v: last x")[1]) and flat.numbers("v: last x")[0] == 4
    spelled = flat.schema["v: last c"].categories
    assert [spelled[c] if c >= 0 else None for c in flat.columns["v: last c"]] == ["b", "b", None]


def test_orphans_are_in_no_flat_row() -> None:
    frames = {"p": pl.DataFrame({"p_id": [1, 2, 3, 4]}), "v": pl.DataFrame({"p_id": [1, 9, 2]})}
    cohort_ = link_frames(frames, dangling="keep").cohort
    assert flatten(cohort_).columns["v: rows"].tolist() == [1, 1, 0, 0]
