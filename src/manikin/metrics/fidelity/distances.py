"""Distances between the two samples: sliced Wasserstein and maximum mean discrepancy.

Both on the dense space of `metrics/embedding.py`, fitted on training rows. `wasserstein` is the
mean over random directions of the 1-D Wasserstein-1 distance (Rabin et al., 2011; Bonneel et al.,
J. Math. Imaging Vis. 2015), in standard deviations of a column. `mmd` is the unbiased estimate of
the squared maximum mean discrepancy (Gretton et al., JMLR 2012, equation 3) with a Gaussian kernel
whose width is the median distance between training rows; pairs of rows of one subject are left out
as a row's pair with itself is. Labels of subjects are permuted for the null.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.embedding import Embedding, squared_distances
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.permutation import Sides, p_score, p_value
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Codes, subsample

__all__ = ["distances"]

CARD = Card(
    title="Distances between samples",
    family="fidelity",
    better="near ceiling",
    reads="How far the cloud of synthetic rows lies from that of held-out real rows, all columns "
    "together. `wasserstein`: by how many standard deviations rows would have to be moved, along "
    "random directions; above 0 even for real rows. `mmd`: 0 on average for real rows, so it may "
    "be negative. Both average over everything: a small group that is wrong, or one wrong column "
    "among many, hardly shows.",
)
ROWS = 10_000  # a side, for the Wasserstein distance
KERNEL_ROWS = 1_500  # a side, for the kernel
MEDIAN_ROWS = 1_000
DIRECTIONS = 50
CELLS = 128  # of a direction, in which replicates count rows; the value itself is exact
PERMUTATIONS = 200
DRAWS = 200
FEWEST = 10  # subjects a side


def distances(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Measure how far the synthetic rows lie from the held-out ones."""
    names = ("fidelity/distances.wasserstein", "fidelity/distances.mmd")
    rng = generator(seed, "fidelity/distances")
    parts = [trial.holdout, trial.synthetic]
    if min(part.n_subjects for part in parts) < FEWEST or trial.train.n_subjects < FEWEST:
        return tuple(not_estimable(name, f"fewer than {FEWEST} subjects a side") for name in names)
    embedding = Embedding.fit(trial.train)
    if not embedding.dims:
        return tuple(not_estimable(name, "no column to look at") for name in names)
    scores: list[Score] = []
    for name, compare, most in (
        (names[0], _wasserstein, ROWS), (names[1], _mmd, KERNEL_ROWS),
    ):  # fmt: skip
        n = min(most, *(part.n_rows for part in parts))
        taken = [subsample(part, n, rng) for part in parts]
        sides = Sides.deal(taken[0].subjects, taken[1].subjects, rng)
        rows = np.concatenate([embedding.dense(part) for part in taken])
        known = embedding.dense(subsample(trial.train, MEDIAN_ROWS, rng))
        subjects = np.concatenate([taken[0].subjects, taken[1].subjects])
        value, draws, observed, null, lowest = compare(rows, sides, known, subjects, rng)
        note = "95 of 100 permutations of the subjects' labels stay below " + (
            f"{np.quantile(null, 0.95) + value - observed:.4f}"
        )
        scores.append(Score(name, value, recentred(value, draws, lowest), note=note))
        p = p_value(observed, null)
        group = f"distance={name.rpartition('.')[2]}"
        scores.append(p_score("fidelity/distances.p_value", p, PERMUTATIONS, group))
    return tuple(scores)


Compared = tuple[float, Floats, float, Floats, float]
"""The value, its replicates; the same by the replicates' way of counting, its null; its bound."""


def _wasserstein(
    rows: Floats, sides: Sides, known: Floats, subjects: Codes, rng: np.random.Generator
) -> Compared:
    del known, subjects
    directions = rng.normal(size=(rows.shape[1], DIRECTIONS))
    projected = rows @ (directions / np.linalg.norm(directions, axis=0))  # (rows, directions)
    fake = sides.fake[sides.of_row]
    labels = np.concatenate([sides.fake[None], sides.permuted(PERMUTATIONS, rng)]).astype(float)
    weights = sides.resampled(DRAWS, rng)
    sizes = sides.counts(np.zeros(fake.size, np.int64), 1)
    value, found, draws = 0.0, np.zeros(labels.shape[0]), np.zeros(DRAWS)
    for column in projected.T:
        value += _exact(column[~fake], column[fake]) / DIRECTIONS
        edges = np.unique(np.quantile(column, np.linspace(0, 1, CELLS)))
        cells = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, edges.size - 1)
        counts = np.concatenate([sides.counts(cells, edges.size), sizes], axis=1)
        one = labels @ counts
        found += _between(one, counts.sum(axis=0) - one, np.diff(edges)) / DIRECTIONS
        drawn = [weights[:, side] @ counts[side] for side in (sides.fake, ~sides.fake)]
        draws += _between(drawn[0], drawn[1], np.diff(edges)) / DIRECTIONS
    return value, draws, float(found[0]), found[1:], 0.0


def _between(one: Floats, other: Floats, widths: Floats) -> Floats:
    """Return the distance between counts in cells, their sum last, (draws, cells + 1)."""
    gaps = np.cumsum(one[:, :-1] / one[:, -1:] - other[:, :-1] / other[:, -1:], axis=1)
    return np.asarray(np.abs(gaps[:, :-1]) @ widths)


def _exact(one: Floats, other: Floats) -> float:
    """Return the 1-D Wasserstein-1 distance of samples of one size."""
    return float(np.abs(np.sort(one) - np.sort(other)).mean())


def _mmd(
    rows: Floats, sides: Sides, known: Floats, subjects: Codes, rng: np.random.Generator
) -> Compared:
    between = squared_distances(known, known)[np.triu_indices(known.shape[0], 1)]
    width = float(np.median(between))
    width = width if width > 0 else float(between.mean()) or 1.0
    kernel = np.exp(squared_distances(rows, rows) / (-2 * width))
    # a subject of one side is not the subject of the same number on the other
    whose = 2 * np.unique(subjects, return_inverse=True)[1] + sides.fake[sides.of_row]
    apart = whose[:, None] != whose[None, :]
    kernel *= apart
    summed = sides.sums(sides.sums(kernel).T)  # (units, units)
    pairs = sides.sums(sides.sums(apart.astype(np.float64)).T)
    own = sides.fake[None].astype(np.float64)

    def discrepancy(one: Floats, other: Floats) -> Floats:
        found = np.zeros(one.shape[0])
        for left, right, sign in ((one, one, 1), (other, other, 1), (one, other, -2)):
            weight = np.sum(left @ pairs * right, axis=1)
            total = np.sum(left @ summed * right, axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                found += sign * total / weight
        return found

    labels = sides.permuted(PERMUTATIONS, rng).astype(np.float64)
    weights = sides.resampled(DRAWS, rng)
    value = float(discrepancy(own, 1 - own)[0])
    null = discrepancy(labels, 1 - labels)
    return value, discrepancy(weights * own, weights * (1 - own)), value, null, -np.inf
