"""Manifold: is each synthetic row realistic, and is each kind of real row there? Diagnostics.

Estimates of supports by balls around rows, on the dense space of `metrics/embedding.py`, at equal
numbers n of held-out and synthetic rows. B(x) is the ball around x that reaches its k-th nearest
neighbour of its own sample.

`precision`, `recall`  Kynkäänniemi et al., NeurIPS 2019: rows of one sample in any ball of the
                       other
`density`, `coverage`  Naeem et al., ICML 2020, equations 3 and 4
`alpha_precision`      Alaa et al., ICML 2022, section 3: 1 - 2∫|P(α) - α|, P(α) being the share of
                       synthetic rows in the ball, around the real centre, of α of the real rows
`beta_recall`          the same for R(β), the share of real rows in the support of β of the
                       synthetic ones: those in the ball, around the synthetic centre, of β of the
                       synthetic rows that have a synthetic row in B(x). The paper asks of β only
                       where that synthetic row lies. Balls of rows far out reach inwards, so in 8
                       normal columns two samples of one distribution get 0.35 by the paper's
                       formula and 0.75 by the published code, which differs; by this one 0.98.

Räisä, van Breugel and van der Schaar (ICML 2025, arXiv:2505.22450) show that each of these fails
checks that it should pass; which, of these very functions, is in docs/sanity.md. Intervals
resample the rows that are counted and hold the balls fixed; they are widened by √2 for the sample
that the balls are from.
"""

from __future__ import annotations

import math

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.embedding import Embedding, squared_distances
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample

__all__ = ["manifold"]

CARD = Card(
    title="Precision, recall, density, coverage (diagnostics)",
    family="fidelity",
    better="near ceiling",
    reads="Whether synthetic rows lie where real rows do (`precision`, `density`, "
    "`alpha_precision`) and whether all kinds of real rows are there (`recall`, `coverage`, "
    "`beta_recall`). Diagnostics only: every one of them is known to fail some sanity check, such "
    "as a single wrong column among many (docs/sanity.md), so none decides anything and each is "
    "read beside its ceiling.",
)
ROWS = 2_000  # a side
NEIGHBOURS = 5  # k, as in Naeem et al.
FEWEST = 20  # rows a side
GRID = np.linspace(0, 1, 101)  # of α and β


def manifold(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Count synthetic rows in the real rows' balls, and real rows in the synthetic rows' balls."""
    names = ("precision", "recall", "density", "coverage", "alpha_precision", "beta_recall")
    rng = generator(seed, "fidelity/manifold")
    n = min(ROWS, trial.holdout.n_rows, trial.synthetic.n_rows)
    if n < FEWEST or not trial.train.n_rows or not trial.train.schema.learned:
        why = "no column to look at" if n >= FEWEST else f"fewer than {FEWEST} rows a side"
        return tuple(not_estimable(f"fidelity/manifold.{name}", why) for name in names)
    parts = [subsample(part, n, rng) for part in (trial.holdout, trial.synthetic)]
    embedding = Embedding.fit(trial.train)
    found = balls(embedding.dense(parts[0]), embedding.dense(parts[1]))
    dealt = {
        "real": blocks(parts[0].subjects, rng),
        "synthetic": blocks(parts[1].subjects, rng),
    }
    scores = []
    for name in names:
        counted = "real" if name in ("recall", "coverage", "beta_recall") else "synthetic"
        value, draws = _summary(name, found[name], dealt[counted])
        highest = math.inf if name == "density" else 1.0
        interval = recentred(value, draws, 0, highest, widened=math.sqrt(2))
        scores.append(Score(f"fidelity/manifold.{name}", value, interval))
    return tuple(scores)


def balls(real: Floats, synthetic: Floats, k: int = NEIGHBOURS) -> dict[str, Floats]:
    """Return what each row contributes, by metric: equal numbers of rows of two samples.

    For `alpha_precision` and `beta_recall` the smallest α and β at which the row counts, ∞ for
    never; for the others its share in the mean.
    """
    n = real.shape[0]
    across = squared_distances(real, synthetic)  # (real, synthetic)
    reach = [_reach(part, k) for part in (real, synthetic)]
    in_real = across <= reach[0][:, None]
    in_synthetic = across <= reach[1][None, :]
    centres = [part.mean(axis=0, keepdims=True) for part in (real, synthetic)]
    own = [squared_distances(p, c)[:, 0] for p, c in zip((real, synthetic), centres, strict=True)]
    from_real = squared_distances(synthetic, centres[0])[:, 0]
    # the α at which a synthetic row enters: the share of real rows no farther from the centre
    alpha = np.searchsorted(np.sort(own[0]), from_real, side="left") / n
    from_synthetic = squared_distances(real, centres[1])[:, 0]
    beta = np.searchsorted(np.sort(own[1]), from_synthetic, side="left") / n
    return {
        "precision": in_real.any(axis=0).astype(np.float64),
        "recall": in_synthetic.any(axis=1).astype(np.float64),
        "density": in_real.sum(axis=0) / k,
        "coverage": in_real.any(axis=1).astype(np.float64),
        "alpha_precision": np.where(alpha < 1, alpha, np.inf),
        "beta_recall": np.where((beta < 1) & in_real.any(axis=1), beta, np.inf),
    }


def _reach(rows: Floats, k: int) -> Floats:
    """Return each row's squared distance to its k-th nearest other row."""
    within = squared_distances(rows, rows)
    np.fill_diagonal(within, np.inf)
    k = min(k, rows.shape[0] - 1)
    # a hair more, so that equal distances count as equal whatever order they were summed in
    return np.asarray(np.partition(within, k - 1, axis=1)[:, k - 1] * (1 + 1e-9) + 1e-12)


def _summary(name: str, rows: Floats, dealt: Blocks) -> tuple[float, Floats]:
    """Return a metric's value and its replicates."""
    n = dealt.sums(np.ones(rows.size))
    if name not in ("alpha_precision", "beta_recall"):
        return float(rows.mean()), dealt.sums(rows) / n
    cell = np.searchsorted(GRID, np.minimum(rows, 2.0), side="left")  # the first α that takes it
    counts = dealt.counts(cell, GRID.size + 1)
    own = np.bincount(cell, minlength=GRID.size + 1)[None, :]
    curves = [np.cumsum(part, axis=1)[:, :-1] / part.sum(axis=1)[:, None] for part in (own, counts)]
    areas = [1 - 2 * np.trapezoid(np.abs(curve - GRID), GRID, axis=1) for curve in curves]
    return max(0.0, float(areas[0][0])), areas[1]
