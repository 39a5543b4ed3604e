import numpy as np
import pytest

from manikin.metrics.permutation import Sides, p_score, p_value


def test_units_hold_whole_subjects_of_one_side():
    rng = np.random.default_rng(0)
    real, synthetic = np.repeat(np.arange(500), 3), np.arange(700) // 2
    sides = Sides.deal(real, synthetic, rng)
    # 850 subjects in units of ceil(850/400) = 3: 166 units of real ones, 116 of synthetic ones
    assert sides.n == 166 + 116 and sides.fake.sum() == 116
    for subjects, units in ((real, sides.of_row[:1500]), (synthetic, sides.of_row[1500:])):
        _, of_row = np.unique(subjects, return_inverse=True)
        pairs = np.unique(np.column_stack([of_row, units]), axis=0)
        assert len(pairs) == len(np.unique(of_row)), "a subject is in one unit"
        sizes = np.bincount(pairs[:, 1])
        assert set(sizes[sizes > 0]) <= {3, 4}
    assert not sides.fake[sides.of_row[:1500]].any() and sides.fake[sides.of_row[1500:]].all()


def test_sums_and_counts_by_unit():
    sides = Sides(np.array([0, 1, 0, 2]), np.array([False, False, True]))
    rows = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    assert sides.sums(rows).tolist() == [[6, 8], [3, 4], [7, 8]]
    assert sides.counts(np.array([0, 1, 1, 1]), 2).tolist() == [[1, 1], [0, 1], [0, 1]]


def test_permutations_keep_the_number_of_synthetic_units_and_replicates_the_sides():
    rng = np.random.default_rng(1)
    sides = Sides.deal(np.arange(30), np.arange(20), rng)
    assert set(sides.permuted(50, rng).sum(axis=1)) == {20}
    weights = sides.resampled(50, rng)
    assert set(weights[:, sides.fake].sum(axis=1)) == {20}
    assert set(weights[:, ~sides.fake].sum(axis=1)) == {30}
    alone = Sides.deal(np.zeros(5), np.arange(4), rng).resampled(3, rng)
    assert np.isnan(alone[:, 0]).all() and not np.isnan(alone[:, 1:]).any()


def test_p_value_counts_the_observed_value_as_drawn():
    # 1 of 3 null values is as large: (1 + 1) / (1 + 3)
    assert p_value(2.0, np.array([1.0, 2.0, 0.0])) == 0.5
    assert p_value(9.0, np.arange(9.0)) == pytest.approx(0.1)  # the smallest there can be
    score = p_score("m", 0.1, 9, "all")
    assert score.interval[0] <= 0.1 <= score.interval[1] and "9 permutations" in score.note


def test_the_test_is_of_its_level_when_subjects_have_many_rows():
    """With ten alike rows a subject, permuting rows would reject far too often."""
    rejected = {"subjects": 0, "rows": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=60), 10)
        whole = np.repeat(np.arange(30), 10)
        for name, subjects in (("subjects", whole), ("rows", np.arange(300))):
            sides = Sides.deal(subjects, subjects, rng)
            sums = sides.sums((x - x.mean())[:, None])[:, 0]
            null = np.abs(sides.permuted(199, rng) @ sums)
            rejected[name] += p_value(abs(sums[sides.fake].sum()), null) <= 0.05
    assert rejected["subjects"] <= 8  # 60 × .05 = 3; P(more than 8) < .005
    assert rejected["rows"] > 20
