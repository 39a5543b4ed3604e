"""Missingness: are values absent in the same places together?

`pattern`: 1 - total variation distance between the joint patterns of absence. `correlation`: 1 -
half the mean absolute difference between the correlations of every two columns' absence. Both are
1 for the same missingness; neither is given where nothing is missing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["missingness"]

CARD = Card(
    title="Missingness",
    family="fidelity",
    better="higher",
    reads="Whether values are absent in the same columns together as in held-out real rows: 1 is "
    "the same. A low number means that analyses of complete cases, or imputations, would meet "
    "other patients than in the real table. It does not see whether absence goes with the values "
    "of other columns, such as tests not done in the well: pair trends do.",
    profile="quick",
)
PATTERNS = 64  # of the training rows; rarer ones are told apart by how many values they lack
DRAWS = 200


def missingness(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare which values are absent together in the synthetic and in the held-out rows."""
    names = ("fidelity/missingness.pattern", "fidelity/missingness.correlation")
    columns = [
        c.name
        for c in trial.train.schema.learned
        if any(not part.present(c.name).all() for part in (trial.train, trial.holdout))
        or not trial.synthetic.present(c.name).all()
    ]
    if not columns:
        return ()
    if not trial.holdout.n_rows or not trial.synthetic.n_rows:
        return tuple(not_estimable(name, "no rows to compare") for name in names)
    rng = generator(seed, "fidelity/missingness")
    absent = [
        np.column_stack([~part.present(name) for name in columns])
        for part in (trial.train, trial.holdout, trial.synthetic)
    ]
    dealt = [blocks(part.subjects, rng, draws=DRAWS) for part in (trial.holdout, trial.synthetic)]
    scores = [_patterns(names[0], absent, dealt)]
    if len(columns) > 1:
        scores.append(_correlations(names[1], absent[1:], dealt))
    return tuple(scores)


def _patterns(name: str, absent: list[NDArray[np.bool_]], dealt: list[Blocks]) -> Score:
    salt = generator(0, "patterns").integers(2**63, size=absent[0].shape[1], dtype=np.uint64)
    keys = [part.astype(np.uint64) @ salt for part in absent]  # one number a pattern
    known, counts = np.unique(keys[0], return_counts=True)
    common = np.sort(known[np.argsort(-counts, kind="stable")[:PATTERNS]])
    n_cells = common.size + absent[0].shape[1] + 1
    cells = []
    for key, part in zip(keys[1:], absent[1:], strict=True):
        at = np.minimum(np.searchsorted(common, key), max(0, common.size - 1))
        is_common = common[at] == key if common.size else np.zeros(key.size, bool)
        cells.append(np.where(is_common, at, common.size + part.sum(axis=1)))
    one, other = (np.bincount(cell, minlength=n_cells) / cell.size for cell in cells)
    value = 1 - float(np.abs(one - other).sum()) / 2
    shares = []
    for cell, of in zip(cells, dealt, strict=True):
        drawn = of.counts(cell, n_cells)
        shares.append(drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1e-300))
    draws = 1 - np.abs(shares[0] - shares[1]).sum(axis=1) / 2
    return Score(name, value, recentred(value, draws, 0, 1))


def _correlations(name: str, absent: list[NDArray[np.bool_]], dealt: list[Blocks]) -> Score:
    n_columns = absent[0].shape[1]
    # the most often absent, so that replicates stay cheap
    order = np.sort(np.argsort(-absent[0].mean(axis=0), kind="stable")[: min(n_columns, 40)])
    sides = []
    for part, of in zip(absent, dealt, strict=True):
        moments = _moments(part[:, order].astype(np.float64), of)
        once = np.concatenate([np.ones((1, of.n)), of.weights])  # the sample, then replicates
        sides.append(_phi(once @ moments, order.size))
    draws = 1 - np.abs(sides[0] - sides[1]).mean(axis=1) / 2
    return Score(name, float(draws[0]), recentred(float(draws[0]), draws[1:], 0, 1))


def _moments(absent: Floats, of: Blocks) -> Floats:
    """Return every block's count, sums and sums of products, (blocks, 1 + columns + columns²)."""
    order = np.argsort(of.of_row, kind="stable")
    ends = np.cumsum(np.bincount(of.of_row, minlength=of.n))
    found = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        rows = absent[order[start:end]]
        found.append(np.concatenate([[end - start], rows.sum(axis=0), (rows.T @ rows).ravel()]))
    return np.array(found)


def _phi(moments: Floats, n: int) -> Floats:
    """Return the correlations of all pairs; 0 where one is always or never absent."""
    count = np.maximum(moments[:, :1], 1)
    means = moments[:, 1 : n + 1] / count
    products = (moments[:, n + 1 :] / count).reshape(-1, n, n)
    covariance = products - means[:, :, None] * means[:, None, :]
    deviation = np.sqrt(np.maximum(means * (1 - means), 0))
    scale = deviation[:, :, None] * deviation[:, None, :]
    phi = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
    above = np.triu_indices(n, 1)
    return np.asarray(phi[:, above[0], above[1]])
