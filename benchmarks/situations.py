"""The situations of the sanity checks, and what a measure should say in each.

The fifteen checks of Räisä, van Breugel and van der Schaar (ICML 2025, arXiv:2505.22450), two of
them in both directions; sizes and thresholds are ours. `sanity.py` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHECKS", "NEAR", "Check", "N", "Rows"]

Rows = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Rows]
Demand = Callable[[Rows], bool]

N = 300  # rows a part
DIMS = 8
NEAR = 0.1  # that counts as the same
SLACK = 0.05  # by which a falling curve may rise
CHANGE = 0.3  # that a curve which should change must change by


# ── What a curve should look like ──────────────────────────────────────────────────────────────


def near(target: float, *places: int) -> Demand:
    """Ask that the curve be near a number at these places, or everywhere."""
    return lambda curve: bool(np.all(np.abs(curve[list(places) or ...] - target) <= NEAR))


def flat(curve: Rows) -> bool:
    """Ask that the curve be the same everywhere."""
    return bool(np.ptp(curve) <= NEAR)


def falls(curve: Rows) -> bool:
    """Ask that the curve fall from its first place to its last."""
    return bool(np.all(np.diff(curve) <= SLACK) and curve[0] - curve[-1] >= CHANGE)


def rises(curve: Rows) -> bool:
    """Ask that the curve rise from its first place to its last."""
    return falls(curve[::-1])


def peaks(at: int) -> Demand:
    """Ask that the curve rise to a place and fall after it."""
    return lambda curve: rises(curve[: at + 1]) and falls(curve[at:])


def follows(*targets: float) -> Demand:
    """Ask that the curve be near these numbers."""
    return lambda curve: bool(np.all(np.abs(curve - np.array(targets)) <= NEAR))


# ── Distributions ──────────────────────────────────────────────────────────────────────────────


def normal(mean: float = 0.0, deviation: float = 1.0, dims: int = DIMS) -> Draw:
    return lambda rng, n: rng.normal(mean, deviation, (n, dims))


def first_off(mean: float, dims: int, scale: float = 1.0) -> Draw:
    """Normal columns, the mean of the first one off, all but it times `scale`."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        rows = rng.normal(size=(n, dims))
        rows[:, 0] += mean
        rows[:, 1:] *= scale
        return rows

    return draw


def with_outlier(draw: Draw, place: float) -> Draw:
    """Replace one row by an outlier."""

    def drawn(rng: np.random.Generator, n: int) -> Rows:
        rows = draw(rng, n)
        rows[rng.integers(n)] = place
        return rows

    return drawn


def modes(*shares: float) -> Draw:
    """Narrow normal clusters far apart on a line through all columns, with these shares."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        places = np.repeat(np.arange(len(shares)), _counts(shares, n))
        return 10.0 * places[:, None] + rng.normal(size=(n, DIMS))

    return draw


def _counts(shares: tuple[float, ...], n: int) -> NDArray[np.int64]:
    ends = np.rint(np.cumsum(shares) / np.sum(shares) * n).astype(np.int64)
    return np.diff(ends, prepend=0)


def two_modes(distance: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Rows:
        signs = np.where(np.arange(n) % 2, 1.0, -1.0)
        return distance * signs[:, None] + rng.normal(size=(n, DIMS))

    return draw


def sphere(radius: float, dims: int = DIMS) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Rows:
        rows = rng.normal(size=(n, dims))
        return radius * rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return draw


def torus(rng: np.random.Generator, n: int) -> Rows:
    """The surface of a ring of radius 2 and thickness 0.5 around a sphere of radius 1."""
    around, across = rng.uniform(0, 2 * np.pi, (2, n))
    out = 2 + 0.5 * np.cos(across)
    return np.column_stack([out * np.cos(around), out * np.sin(around), 0.5 * np.sin(across)])


def cube(shift: float, dims: int = 4) -> Draw:
    return lambda rng, n: rng.uniform(shift, 1 + shift, (n, dims))


def heavy(mean: float) -> Draw:
    """A normal column beside one with a Pareto tail that has no mean."""
    return lambda rng, n: np.column_stack([rng.normal(mean, 1, n), 1 + rng.pareto(0.8, n)])


def written(scale: float, *, whole: bool) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Rows:
        rows = rng.normal(0, scale, (n, 4))
        return np.rint(rows) if whole else rows

    return draw


# ── The checks ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Setting:
    """One place on a check's curve: where real and synthetic rows come from."""

    real: Draw
    synthetic: Draw
    n_real: int = N
    n_synthetic: int = N


@dataclass(frozen=True)
class Check:
    """A row of settings, and what a measure of each kind should make of them."""

    name: str
    settings: tuple[Setting, ...]
    demands: Mapping[str, Mapping[str, Demand]]  # what is asked → kind of measure → demand
    about: str
    # what is asked only of measures that have a worst number
    bounds: tuple[str, ...] = field(default=("different is worst",))


def every(demand: Demand) -> dict[str, Demand]:
    return dict.fromkeys(("fidelity", "diversity", "both"), demand)


MEANS = (-6.0, -0.5, 0.0, 0.5, 6.0)
FAR = 6.0
OVERLAP = 0.5  # of the two cubes
SHIFT = 1 - OVERLAP**0.25
ALIKE = "the same is best"
WORST = "different is worst"

CHECKS = (
    Check(
        "Gaussian mean difference",
        tuple(Setting(normal(), normal(m)) for m in MEANS),
        {"bell": every(peaks(2)), ALIKE: every(near(1, 2)), WORST: every(near(0, 0, 4))},
        f"N(0, I) against N(μ1, I) in {DIMS} columns, μ = {MEANS}",
    ),
    Check(
        "Mean difference, real outlier",
        tuple(Setting(with_outlier(normal(), FAR), normal(m)) for m in (-FAR, 0.0, FAR)),
        {"bell": every(peaks(1)), ALIKE: every(near(1, 1)), WORST: every(near(0, 0, 2))},
        "the same with one real row at 6·1: it must not vouch for synthetic rows around it",
    ),
    Check(
        "Mean difference, synthetic outlier",
        tuple(Setting(normal(), with_outlier(normal(m), 0.0)) for m in (-FAR, 0.0, FAR)),
        {"bell": every(peaks(1)), ALIKE: every(near(1, 1)), WORST: every(near(0, 0, 2))},
        "the same with one synthetic row at 0: it must not vouch for the real rows around it",
    ),
    Check(
        "Gaussian standard deviation",
        tuple(Setting(normal(), normal(0, s)) for s in (0.1, 0.5, 1.0, 2.0, 10.0)),
        {
            "curve": {"fidelity": falls, "diversity": lambda c: rises(c[:3]), "both": peaks(2)},
            ALIKE: every(near(1, 2)),
            "narrow": {"fidelity": near(1, 0, 1), "diversity": near(0, 0), "both": near(0, 0)},
            "wide": {"fidelity": near(0, 4), "both": near(0, 4)},
        },
        "N(0, I) against N(0, σ²I), σ = 0.1, 0.5, 1, 2, 10: realistic but not diverse, then the "
        "reverse",
        bounds=("narrow", "wide"),
    ),
    Check(
        "Sequential mode dropping",
        tuple(
            Setting(modes(1, 1, 1, 1, 1), modes(*(float(i < kept) for i in range(5))))
            for kept in (5, 4, 3, 2, 1)
        ),
        {
            "curve": {"fidelity": near(1), "diversity": follows(1, 0.8, 0.6, 0.4, 0.2),
                      "both": falls},
        },
        "five clusters; the synthetic rows keep 5, 4, 3, 2, 1 of them",
    ),
    Check(
        "Simultaneous mode dropping",
        tuple(
            Setting(modes(1, 1, 1, 1, 1), modes(1 + 4 * f, *[1 - f] * 4)) for f in (0, 0.5, 0.9, 1)
        ),
        {"curve": {"fidelity": near(1), "diversity": falls, "both": falls}},
        "five clusters; 0, 50, 90, 100 % of the other four go to the first",
    ),
    Check(
        "Mode dropping and invention",
        tuple(
            Setting(
                modes(1, 1, 1, 1, 1, 0, 0, 0, 0, 0), modes(*(float(i < k) for i in range(10)))
            )
            for k in (1, 3, 5, 7, 10)
        ),
        {
            "curve": {"fidelity": follows(1, 1, 1, 5 / 7, 0.5),
                      "diversity": follows(0.2, 0.6, 1, 1, 1), "both": peaks(2)},
        },
        "five real clusters of ten; the synthetic rows have the first 1, 3, 5, 7, 10",
    ),
    Check(
        "Hypersphere surface",
        tuple(Setting(sphere(1), sphere(r)) for r in (0.3, 0.8, 1.0, 1.25, 3.0)),
        {"bell": every(peaks(2)), ALIKE: every(near(1, 2)), WORST: every(near(0, 0, 4))},
        f"the surface of a sphere in {DIMS} columns against that of radius 0.3, 0.8, 1, 1.25, 3",
    ),
    Check(
        "Hypercube, sample size",
        tuple(Setting(cube(0), cube(SHIFT), n, n) for n in (100, 300, 1000)),
        {
            "curve": every(flat),
            "overlap": {"fidelity": near(OVERLAP), "diversity": near(OVERLAP)},
        },
        "cubes in 4 columns that share half their volume, 100, 300, 1,000 rows a side",
    ),
    Check(
        "Hypercube, synthetic size",
        tuple(Setting(cube(0), cube(SHIFT), N, n) for n in (100, 300, 1000)),
        {
            "curve": every(flat),
            "overlap": {"fidelity": near(OVERLAP), "diversity": near(OVERLAP)},
        },
        "the same with 300 real rows and 100, 300, 1,000 synthetic ones",
    ),
    Check(
        "Sphere and torus",
        tuple(
            Setting(*pair, N, n) for pair in ((sphere(1, 3), torus), (torus, sphere(1, 3)))
            for n in (100, 1000)
        ),
        {"curve": every(flat), WORST: every(near(0))},
        "a sphere within a ring that it does not touch, then the reverse",
    ),
    Check(
        "Mode collapse",
        tuple(Setting(two_modes(m), normal()) for m in (0, 1, 3)),
        {"curve": every(falls), ALIKE: every(near(1, 0)), WORST: every(near(0, 2))},
        "two clusters at ±μ1, μ = 0, 1, 3, against a single one midway: the means are the same",
    ),
    Check(
        "Scaling one column",
        tuple(
            Setting(first_off(0, 2, s), first_off(6, 2, s)) for s in (0.001, 1.0, 1000.0)
        ),
        {"curve": every(flat), WORST: every(near(0))},
        "one of two columns is disjoint; the other, alike, is in units of 1/1000, 1, 1000",
    ),
    Check(
        "Mean difference beside a Pareto column",
        tuple(Setting(heavy(0), heavy(m)) for m in (-6.0, -1.0, 0.0, 1.0, 6.0)),
        {"bell": every(peaks(2)), ALIKE: every(near(1, 2)), WORST: every(near(0, 0, 4))},
        "N(0, 1) against N(μ, 1), μ = -6, -1, 0, 1, 6, beside a heavy-tailed column that is right",
    ),
    Check(
        "One disjoint column among many",
        tuple(Setting(first_off(0, 1 + d), first_off(6, 1 + d)) for d in (0, 8, 64)),
        {"curve": every(flat), WORST: every(near(0))},
        "one column is disjoint, 0, 8, 64 others are right",
    ),
    Check(
        "Whole numbers for real ones",
        tuple(
            Setting(written(s, whole=False), written(s, whole=True)) for s in (1.0, 5.0, 50.0)
        ),
        {"seen": {"diversity": near(0, 0), "both": near(0, 0)}, "curve": {"both": flat}},
        "four columns N(0, σ²), σ = 1, 5, 50, the synthetic ones rounded to whole numbers",
        bounds=("seen",),
    ),
    Check(
        "Real numbers for whole ones",
        tuple(
            Setting(written(s, whole=True), written(s, whole=False)) for s in (1.0, 5.0, 50.0)
        ),
        {"seen": {"fidelity": near(0, 0), "both": near(0, 0)}, "curve": {"both": flat}},
        "the reverse: no synthetic value is one that occurs",
        bounds=("seen",),
    ),
)  # fmt: skip
