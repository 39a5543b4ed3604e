"""What added rows are worth: precision by hand, and rows that help, harm or do nothing."""

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.augmentation import REAL, Gain, average_precision, downstream

SCHEMA = TableSchema((
    Column("ill", "boolean", roles=("target",), categories=("no", "yes")),
    Column("x", "continuous", decimals=3), Column("z", "continuous", decimals=3),
))  # fmt: skip


def clinic(n: int, share: float, seed: int, effect: float = 2.0, flipped: bool = False) -> Table:
    rng = np.random.default_rng(seed)
    ill = (rng.random(n) < share).astype(np.int32)
    x = rng.normal(0, 1, n) + effect * (1 - ill if flipped else ill)
    return Table(SCHEMA, np.arange(n), {"ill": ill, "x": x, "z": rng.normal(0, 1, n)})


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    yes = np.array([True, False, True, False])
    # recall 1/2 at precision 1, then 1/2 more at precision 2/3: 1/2 + 1/3
    # with weights 1, 3, 1, 0: 1/2 + 1/2 x 2/5; of nobody positive there is none
    weights = np.array([[1.0, 1, 1, 1], [1, 3, 1, 0], [0, 1, 0, 1]])
    found = average_precision(scores, yes, weights)
    np.testing.assert_allclose(found[:2], [5 / 6, 0.7])
    assert np.isnan(found[2])
    # one score for all is one threshold: the share of positives
    np.testing.assert_allclose(average_precision(np.zeros(4), yes, weights[:1]), [0.5])


def test_average_precision_is_scikit_learns() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores = np.round(rng.random(300), 1)  # many ties
    yes = rng.random(300) < scores
    found = average_precision(scores, yes, np.ones((1, 300)))[0]
    assert found == pytest.approx(average_precision_score(yes, scores))


def measured(arms: dict[str, Table]) -> dict[tuple[str, str], Gain]:
    held = clinic(1500, 0.1, seed=9)
    found = downstream(arms, held, "ill", ("yes",), seed=0)
    return {(gain.rows, gain.measure): gain for gain in found}


def test_rows_of_the_same_kind_help_a_small_table_and_flipped_ones_harm_it() -> None:
    small = clinic(60, 0.1, seed=1)
    found = measured({
        REAL: small,
        "more": Table.concatenate([small, clinic(3000, 0.1, seed=2)]),
        "flipped": Table.concatenate([small, clinic(3000, 0.1, seed=3, flipped=True)]),
    })  # fmt: skip
    assert found["more", "auc"].verdict == "better"
    assert found["more", "auc"].gap == pytest.approx(
        found["more", "auc"].value - found[REAL, "auc"].value
    )
    assert found["flipped", "auc"].verdict == "worse"
    assert found[REAL, "auc"].verdict == "" and found[REAL, "auc"].gap == 0
    low, high = found["more", "auc"].interval
    assert low < found["more", "auc"].value < high
    # an area of a normal pair 2 deviations apart: Φ(2 / √2) = .921
    assert found["more", "auc"].value == pytest.approx(0.921, abs=0.03)


def test_even_classes_make_risks_too_high() -> None:
    train = clinic(2000, 0.1, seed=1)
    ill = train.rows(train.columns["ill"] == 1)
    even = Table.concatenate([train, *[ill] * 8])  # about as many ill as well
    found = measured({REAL: train, "even": even})
    assert found["even", "brier"].verdict == "worse"
    assert found["even", "auc"].verdict != "better"
    assert found[REAL, "brier"].value < 0.1 * 0.9  # better than always saying 10 %


def test_levels_of_few_held_out_subjects_are_left_out() -> None:
    train, held = clinic(200, 0.3, seed=1), clinic(300, 0.0, seed=2)
    held.columns["ill"][:10] = 1
    assert downstream({REAL: train}, held, "ill", ("yes",), seed=0) == ()
    held.columns["ill"][:11] = 1
    assert len(downstream({REAL: train}, held, "ill", ("yes",), seed=0)) == 3
