"""Next-visit prediction: do synthetic histories teach what comes next?

From what a patient had so far, which codes will be at the next visit? One ridge regression a code
on the same features (Hoerl and Kennard, Technometrics 1970, in closed form for all codes at once),
trained on synthetic (TSTR) and on training histories (TRTR), tested on held-out visits:
auc       area under the curve, mean over codes that occur and lack often enough
recall    recall at ten: share of a visit's codes among the ten that are thought likeliest
`_gap` is TRTR - TSTR, what is lost by not having the real histories, on the same visits. Intervals
resample held-out subjects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.utility._prefixes import Known, Moments

__all__ = ["next_visit"]

CARD = Card(
    title="Next-visit prediction",
    family="utility",
    better="near ceiling",
    reads="How well a model trained on synthetic histories predicts the codes of held-out "
    "patients' next visits (tstr), beside one trained on real histories (trtr): mean AUC over "
    "codes, and the share of a visit's codes among the ten likeliest. The gap is what is lost; 0 "
    "is none. The model is linear in what was so far: it speaks of what such a model can learn.",
    profile="quick",
    modality="events",
)
NAME = "utility/next_visit"
CODES = 50  # predicted, the commonest
ROWS = 20_000  # visits a source
LOOKED_AT = 2_500_000  # events, each counted once for every row that knows of it
FEWEST = 20  # held-out visits with a code, and without, for it to have an area
TOP = 10
PENALTY = 10.0
DRAWS = 100
Measured = tuple[float, Floats]


def next_visit(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Train on synthetic and on real histories, and predict held-out next visits."""
    names = [f"{NAME}.{w}_{s}" for w in ("auc", "recall") for s in ("tstr", "trtr", "gap")]
    if not isinstance(trial.train, Events):
        return no_histories(names[0])
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    known = Known.fit(train)
    targets = known.codes[:CODES]
    rows = [_rows(side, rng) for side in (real, drawn, train)]
    if not targets.size or min(part.visit.size for part in rows) < FEWEST:
        return tuple(not_estimable(n, f"fewer than {FEWEST} next visits a side") for n in names)
    features, answers = zip(
        *(
            (known.matrix(side, part), _next(side, part, targets))
            for side, part in zip((real, drawn, train), rows, strict=True)
        ),
        strict=True,
    )
    model = _Scale(features[2])
    test, truth = model.of(features[0]), answers[0]
    guesses = [_ridge(model.of(x), y, test) for x, y in zip(features[1:], answers[1:], strict=True)]
    dealt = real.dealt(rng, DRAWS).among(real.visits.whose[rows[0].visit])
    scores = []
    for what, measure in (("auc", _areas), ("recall", _recall)):
        parts = [measure(truth, guess, dealt) for guess in guesses]
        scores += _paired(f"{NAME}.{what}", parts)
    return tuple(scores)


def _rows(side: Side, rng: np.random.Generator) -> Moments:
    """Return the visits that have one after them, or a random choice of very many."""
    visit = side.following - 1
    # a row costs as much as its subject has events
    cost = int(side.events.counts[side.visits.whose[visit]].sum())
    most = min(ROWS, int(visit.size * min(1.0, LOOKED_AT / max(1, cost))))
    if visit.size > most:
        visit = np.sort(rng.choice(visit, most, replace=False))
    return Moments(visit, np.full(visit.size, np.datetime64("9999-01-01", "us")))


def _next(side: Side, rows: Moments, targets: NDArray[np.int64]) -> Floats:
    return np.asarray(side.at_visits[rows.visit + 1][:, targets].todense(), np.float64)


class _Scale:
    """Features with mean 0 and variance 1 in training rows, and beside them where there is none."""

    def __init__(self, train: Floats) -> None:
        known = np.isfinite(train)
        size = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, train, 0)
        self.mean = filled.sum(axis=0) / size
        spread = np.sqrt(np.where(known, (train - self.mean) ** 2, 0).sum(axis=0) / size)
        self.spread = np.where(spread > 1e-9, spread, np.inf)
        self.absent = np.flatnonzero(~known.all(axis=0))

    def of(self, rows: Floats) -> Floats:
        """Return the rows as the model takes them, with a constant."""
        known = np.isfinite(rows)
        # as far out as this is a value that no training row has: it may not rule the prediction
        scaled = np.clip((np.where(known, rows, self.mean) - self.mean) / self.spread, -8, 8)
        return np.column_stack([scaled, ~known[:, self.absent], np.ones(len(rows))])


def _ridge(features: Floats, answers: Floats, test: Floats) -> Floats:
    square = features.T @ features
    penalty = np.full(square.shape[0], PENALTY)
    penalty[-1] = 1e-6  # of the constant
    return np.asarray(test @ np.linalg.solve(square + np.diag(penalty), features.T @ answers))


def _areas(truth: Floats, guess: Floats, dealt: Blocks) -> Measured:
    found = []
    for code in range(truth.shape[1]):
        there = truth[:, code] > 0
        if min(there.sum(), (~there).sum()) >= FEWEST:
            scores = guess[:, code]
            found.append((auc(scores, there), auc_draws(scores, there, dealt)))
    if not found:
        return np.nan, np.full(DRAWS, np.nan)
    values, draws = zip(*found, strict=True)
    return float(np.mean(values)), np.nanmean(draws, axis=0)


def _recall(truth: Floats, guess: Floats, dealt: Blocks) -> Measured:
    n = truth.sum(axis=1)
    top = np.argsort(-guess, axis=1, kind="stable")[:, :TOP]
    hits = np.take_along_axis(truth, top, axis=1).sum(axis=1)
    # a visit of more codes than may be named cannot be named whole
    share = np.where(n > 0, hits / np.maximum(np.minimum(n, TOP), 1), 0)
    some = (n > 0).astype(np.float64)
    if not some.any():
        return np.nan, np.full(DRAWS, np.nan)
    return float(share.sum() / some.sum()), dealt.sums(share) / dealt.sums(some)


def _paired(name: str, parts: list[Measured]) -> list[Score]:
    (synthetic, of_synthetic), (real, of_real) = parts
    if not np.isfinite(synthetic + real):
        why = f"no code that {FEWEST} held-out visits have, and as many lack"
        return [not_estimable(f"{name}_{what}", why) for what in ("tstr", "trtr", "gap")]
    return [
        Score(f"{name}_tstr", synthetic, recentred(synthetic, of_synthetic, 0, 1)),
        Score(f"{name}_trtr", real, recentred(real, of_real, 0, 1)),
        Score(f"{name}_gap", real - synthetic, recentred(real - synthetic, of_real - of_synthetic)),
    ]
