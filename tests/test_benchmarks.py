"""The benchmark's own arithmetic: splits, judges and tables, without any peer."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import coding
import experiments
import judges
import utility
import writing
from experiments import EXPERIMENTS, Experiment, halves


def small(rows: int = 40) -> Experiment:
    frame = pd.DataFrame(
        {
            "age": [str(20 + i) if i % 7 else "" for i in range(rows)],
            "sex": ["f" if i % 2 else "m" for i in range(rows)],
            "dead": [str(int(i % 5 == 0)) for i in range(rows)],
        }
    )
    return Experiment("small", "Small", lambda _: frame, ("age",), "dead", ("1",))


def test_halves_are_disjoint_equal_and_repeatable() -> None:
    first, second = halves(101, 3)
    assert len(first) == len(second) == 50
    assert not set(first) & set(second)
    again, _ = halves(101, 3)
    other, _ = halves(101, 4)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert [len(part) for part in halves(101, 3, most_rows=20)] == [10, 10]


def test_digest_names_the_training_rows() -> None:
    experiment = small()
    frame = experiment.load(Path())
    one, two = (experiments.split(experiment, frame, seed) for seed in (0, 1))
    assert one.digest == experiments.split(experiment, frame, 0).digest != two.digest


def test_detection_score_of_known_aucs() -> None:
    assert judges.detection_score([0.5, 0.4]) == 1.0  # below one half is chance, not skill
    assert judges.detection_score([1.0]) == 0.0
    assert judges.detection_score([0.572, 0.572]) == pytest.approx(0.856)


def test_auc_counts_ties_half() -> None:
    assert utility.auc(np.array([1.0, 2, 3]), np.array([False, False, True])) == 1.0
    assert utility.auc(np.array([1.0, 1, 1]), np.array([False, True, True])) == 0.5
    assert utility.auc(np.array([3.0, 2, 2]), np.array([False, True, False])) == 0.25
    assert np.isnan(utility.auc(np.array([1.0, 2]), np.array([True, True])))


def test_concordance_by_hand() -> None:
    time, event = np.array([1.0, 2, 3]), np.array([True, False, True])
    # comparable: (1, 2) and (1, 3); the second subject is censored, the third is last
    assert utility.concordance(np.array([3.0, 2, 1]), time, event) == 1.0
    assert utility.concordance(np.array([2.0, 2, 3]), time, event) == 0.25


def test_scores_of_the_training_rows_themselves() -> None:
    experiment = small()
    half = experiments.split(experiment, experiment.load(Path()), 0)
    train, holdout, copy = coding.code(half, half.train)
    assert judges.copied(copy, train) == 1.0
    assert judges.nearer_share(copy, train, holdout) > 0.9
    assert judges.nearer_share(copy, train, train) == 0.5


def test_numbers_are_rounded_to_the_training_decimals() -> None:
    experiment = small()
    half = experiments.split(experiment, experiment.load(Path()), 0)
    drawn = half.train.assign(age="33.4187")
    _, _, coded = coding.code(half, drawn)
    assert set(coded.values[:, 0]) == {33.0}


def test_an_absent_data_set_is_found_missing(tmp_path: Path) -> None:
    for experiment in EXPERIMENTS:
        if experiment.name != "gbsg2":
            with pytest.raises(FileNotFoundError):
                experiment.load(tmp_path)


def test_every_kind_names_a_column_of_gbsg2() -> None:
    pytest.importorskip("lifelines")
    experiment = next(e for e in EXPERIMENTS if e.name == "gbsg2")
    frame = experiment.load(Path())
    assert frame.shape == (686, 10)
    named = {*experiment.numeric, experiment.target, *experiment.hidden, experiment.time}
    assert named <= set(frame.columns)


def test_spread_is_a_student_interval() -> None:
    mean, half = writing.spread([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5)
    assert writing.mean([0.5]) == "0.500"
    assert writing.mean([float("nan")]) == "–"
    assert writing.number(-0.0001) == "0.000"


def test_a_table_is_written_between_its_markers() -> None:
    body = writing.grid(["a", "b"], [["x", "1"]])
    assert body == "| a | b |\n| --- | ---: |\n| x | 1 |"
    first = writing.replaced("# Title\n\nprose\n", body)
    second = writing.replaced(first + "\nmore prose\n", "new")
    assert second.startswith("# Title\n\nprose\n")
    assert second.count(writing.BEGIN) == 1
    assert "new" in second and "| x | 1 |" not in second
    assert second.endswith("more prose\n")


def test_areas_are_joined_by_inverse_variance() -> None:
    import membership

    # standard errors .01 and .02: weights 4 to 1, joint error 1 / sqrt(10000 + 2500)
    areas = [
        {"auc": 0.5, "low": 0.5 - 0.01 * 1.959964, "high": 0.5 + 0.01 * 1.959964},
        {"auc": 0.6, "low": 0.6 - 0.02 * 1.959964, "high": 0.6 + 0.02 * 1.959964},
    ]
    area, upper = membership.pooled(areas)
    assert area == pytest.approx(0.52)
    assert upper == pytest.approx(0.52 + 1.959964 / 12500**0.5)
    assert np.isnan(membership.pooled([])).all()


def test_rows_learned_by_heart_are_found() -> None:
    import membership

    experiment = small(400)
    frame = experiment.load(Path()).assign(age=[f"{20 + i * 0.37:.2f}" for i in range(400)])
    half = experiments.split(experiment, frame, 0)
    assert membership.attacked(half, half.train)["auc"] > 0.9
