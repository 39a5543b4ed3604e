import numpy as np
import pytest

from manikin.metrics.fidelity.distances import _exact, _mmd, _wasserstein, distances
from manikin.metrics.permutation import Sides
from manikin.metrics.score import Trial


def normals(make_table, rng, n, shift=0.0, columns=2):
    return make_table(**{f"x{i}": rng.normal(shift * (i == 0), 1, n) for i in range(columns)})


def by_name(scores):
    return {(s.metric.split(".")[1], s.group): s for s in scores}


def compared(how, real, fake, known=None, subjects=None):
    rng = np.random.default_rng(0)
    n = len(real)
    who = np.arange(n) if subjects is None else np.array(subjects)
    sides = Sides.deal(who, who, rng)
    rows = np.concatenate([real, fake])
    both = np.concatenate([who, who])
    return how(rows, sides, rows if known is None else known, both, rng)


def test_wasserstein_of_a_line_is_the_mean_of_sorted_differences():
    # sorted 1, 3, 5 and 2, 3, 9: (1 + 0 + 4) / 3
    assert _exact(np.array([5.0, 1, 3]), np.array([3.0, 9, 2])) == pytest.approx(5 / 3)
    # in one dimension every direction is ±1
    real, fake = np.array([[5.0], [1], [3]]), np.array([[3.0], [9], [2]])
    assert compared(_wasserstein, real, fake)[0] == pytest.approx(5 / 3)


def test_a_shift_along_one_axis_is_halved_by_directions_in_the_plane():
    """A shift by s moves a projection by s |cos θ|, whose mean over the circle is 2 s / π."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(2000, 2))
    value = compared(_wasserstein, real, real + np.array([3.0, 0.0]))[0]
    assert value == pytest.approx(6 / np.pi, rel=0.2)  # 50 directions: ± 6 % (1 s.e.)


def test_replicates_count_in_cells_and_come_close_to_the_exact_value():
    rng = np.random.default_rng(0)
    value, _, observed, _, _ = compared(
        _wasserstein, rng.normal(size=(2000, 3)), rng.normal(0.5, 1.3, size=(2000, 3))
    )
    assert observed == pytest.approx(value, rel=0.03)


def test_mmd_is_the_unbiased_sum_over_pairs():
    """By loops over all pairs of different rows, as equation 3 of Gretton et al. has it."""
    rng = np.random.default_rng(1)
    real, fake, known = rng.normal(size=(3, 12, 2))
    width = np.median([((a - b) ** 2).sum() for i, a in enumerate(known) for b in known[:i]])
    k = lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * width))  # noqa: E731
    within = [
        np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])
        for s in (real, fake)
    ]
    across = np.mean([k(a, b) for a in real for b in fake])
    assert compared(_mmd, real, fake, known)[0] == pytest.approx(sum(within) - 2 * across)


def test_mmd_leaves_out_pairs_of_one_subject():
    """Two alike rows a subject: with their pairs counted, MMD of equal distributions is not 0."""
    rng = np.random.default_rng(2)
    values = []
    for _ in range(40):
        real, fake = (np.repeat(rng.normal(size=(30, 1)), 2, axis=0) for _ in range(2))
        values.append(compared(_mmd, real, fake, subjects=np.repeat(np.arange(30), 2))[0])
    # unbiased: the mean is within 3 standard errors of 0; counting them adds about 1/60
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) < 0.015


def test_nothing_is_found_in_the_same_distribution_and_a_shift_is(make_table):
    rejected = {"wasserstein": 0, "mmd": 0}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        parts = [normals(make_table, rng, 40) for _ in range(3)]
        found = by_name(distances(Trial(*parts), seed=seed))
        for name in rejected:
            rejected[name] += found["p_value", f"distance={name}"].value <= 0.05
    assert max(rejected.values()) <= 5  # 1.25 expected; P(more than 5) < .002
    shifted = Trial(parts[0], parts[1], normals(make_table, np.random.default_rng(0), 60, 1.5))
    found = by_name(distances(shifted, seed=0))
    assert all(found["p_value", f"distance={name}"].value < 0.01 for name in rejected)


def test_the_intervals_cover_what_other_samples_score_on_average(make_table):
    """25 pairs of samples of 100 in one training space: a nominal 95 % covers at least 80 %."""
    train = normals(make_table, np.random.default_rng(99), 500)
    found = {"wasserstein": [], "mmd": []}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        parts = [normals(make_table, rng, 100, shift) for shift in (0, 0.8)]
        scores = by_name(distances(Trial(train, *parts), seed=3))
        for name, kept in found.items():
            kept.append((scores[name, "all"].value, *scores[name, "all"].interval))
    for kept in found.values():
        values, low, high = np.array(kept).T
        inside = (low <= values.mean()) & (values.mean() <= high)
        assert 0.8 <= inside.mean()
        # and they are not merely wide: about 4 standard errors
        assert np.mean(high - low) < 8 * values.std()
