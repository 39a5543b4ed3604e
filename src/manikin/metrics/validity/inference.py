"""Inference: do standard analyses of the synthetic rows reach the conclusions of the real ones?

The analyses of `metrics/analyses.py`, as the roles of the columns allow: means, a regression of the
target, a Cox model. Terms are chosen on training rows; errors hold for several rows a subject. For
every coefficient, synthetic against held-out real rows:

overlap       of the 95 % intervals, as a share of their lengths (Karr et al., Am. Stat. 2006)
bias          |synthetic - real| in standard errors of the real estimate; the median
sign          same direction, among coefficients that are significant in the real rows
significance  the same verdict at the 5 % level: above 0, below 0, or neither

Synthetic errors are those of as many synthetic rows as there are real ones, so that a larger copy
does not narrow its own intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.analyses import analyses
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.regression import Fit
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample
from manikin.privacy.cells import SMALLEST_CELL, n_different

__all__ = ["inference", "overlaps"]

CARD = Card(
    title="Conclusions of standard analyses",
    family="validity",
    better="near ceiling",
    reads="Whether an analyst of the synthetic rows would report what one of the real rows "
    "would: overlap of 95 % intervals (1 is the same interval; fresh real rows score about 0.7), "
    "bias in standard errors, agreement of sign and of significance. It speaks of these models, "
    "with all columns in them; it does not say that intervals computed from synthetic rows cover "
    "the truth 95 times in 100: for that see coverage, and combine() for several copies.",
    profile="full",
)
ROWS = 10_000  # a side; beyond as many, a random choice
DRAWS = 200
Z = 1.959963984540054
WHATS = ("overlap", "bias", "sign", "significance")
AGAINST_TRAINING = "against=training"


def inference(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare every coefficient of the analyses between synthetic, held-out and training rows."""
    rng = generator(seed, "validity/inference")
    names = [f"validity/inference.{what}" for what in WHATS]
    parts = (trial.holdout, trial.synthetic, trial.train)
    few = [n_different(part.subjects) < SMALLEST_CELL for part in parts]
    if any(few):
        why = f"fewer than {SMALLEST_CELL} subjects in one of the parts"
        return tuple(not_estimable(name, why) for name in names)
    real, synthetic, train = (subsample(part, ROWS, rng) for part in parts)
    dealt = [blocks(part.subjects, rng, draws=DRAWS) for part in (real, synthetic, train)]
    found: dict[str, list[_Compared]] = {"real": [], "train": []}
    scores: list[Score] = []
    for analysis in analyses(train):
        sides = [analysis.fit(part) for part in (real, synthetic, train)]
        drawn = [_Side.of(fit, deal) for fit, deal in zip(sides, dealt, strict=True)]
        of_real = drawn[1].as_if(synthetic.n_rows / real.n_rows)
        of_train = drawn[1].as_if(synthetic.n_rows / train.n_rows)
        held = _Compared.of(drawn[0], of_real, analysis.tests)
        if not held.estimable:
            continue
        found["real"].append(held)
        found["train"].append(_Compared.of(drawn[2], of_train, analysis.tests))
        scores += _scored([held], f"analysis={analysis.name}")
    if not found["real"]:
        why = "no analysis of the held-out rows has an estimable coefficient"
        return tuple(not_estimable(name, why) for name in names)
    return (
        *_scored(found["real"], "all"),
        *_scored([c for c in found["train"] if c.estimable], AGAINST_TRAINING),
        *scores,
    )


# ── Their comparison ───────────────────────────────────────────────────────────────────────────


def overlaps(one: Floats, of_one: Floats, other: Floats, of_other: Floats) -> Floats:
    """Return how far 95 % intervals overlap, from estimates and errors; 0 where they do not.

    The shared length as a share of either length, the two shares' mean.
    """
    low = np.maximum(one - Z * of_one, other - Z * of_other)
    high = np.minimum(one + Z * of_one, other + Z * of_other)
    shared = np.maximum(high - low, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (shared / (2 * Z * of_one) + shared / (2 * Z * of_other)) / 2
    exact = (of_one == 0) & (of_other == 0)  # a constant on both sides
    return np.where(exact, np.asarray(one == other, dtype=np.float64), np.nan_to_num(share, nan=0))


@dataclass(frozen=True)
class _Side:
    """Estimates with the sample first and its replicates after it, and their errors."""

    value: Floats  # (1 + draws, p)
    error: Floats  # (p,)

    @staticmethod
    def of(fit: Fit, dealt: Blocks) -> _Side:
        return _Side(np.concatenate([fit.value[None, :], fit.draws(dealt)]), fit.error)

    def as_if(self, ratio: float) -> _Side:
        """Return the errors that 1 / `ratio` times as many rows would have."""
        return _Side(self.value, self.error * np.sqrt(ratio))


@dataclass(frozen=True)
class _Compared:
    """What two sides say of each coefficient that the real rows can estimate, (1 + draws, p)."""

    overlap: Floats
    bias: Floats
    same_sign: Floats  # NaN where the real coefficient is not significant
    same_verdict: Floats  # NaN throughout where 0 is no hypothesis

    @property
    def estimable(self) -> bool:
        return bool(self.overlap.shape[1])

    @staticmethod
    def of(real: _Side, synthetic: _Side, tests: bool) -> _Compared:
        """Compare; a coefficient that synthetic rows cannot estimate agrees in nothing."""
        with np.errstate(invalid="ignore"):
            kept = np.isfinite(real.value[0]) & (real.error > 0)
        one, of_one = real.value[:, kept], real.error[kept]
        other, of_other = synthetic.value[:, kept], synthetic.error[kept]
        absent = ~np.isfinite(other[:1]) | ~np.isfinite(of_other)
        overlap = np.where(absent, 0.0, overlaps(one, of_one, other, of_other))
        bias = np.where(absent, np.inf, np.abs(other - one) / of_one)
        verdicts = [
            np.sign(value) * (np.abs(value) > Z * error)
            for value, error in ((one, of_one), (np.nan_to_num(other), np.nan_to_num(of_other)))
        ]
        same_verdict = np.where(absent, 0.0, verdicts[0] == verdicts[1])
        same_sign = np.where(absent, 0.0, np.sign(one) == np.sign(np.nan_to_num(other)))
        # which coefficients are significant is asked of the sample, in every replicate
        same_sign = np.where(verdicts[0][:1] != 0, same_sign, np.nan)
        if not tests:
            same_sign, same_verdict = np.full_like(overlap, np.nan), np.full_like(overlap, np.nan)
        return _Compared(overlap, bias, same_sign, same_verdict)


def _scored(compared: list[_Compared], group: str) -> list[Score]:
    """Return the four numbers over these analyses, each coefficient counting once."""
    if not compared:
        return []
    overlap, bias, sign, verdict = (
        np.concatenate([getattr(c, what) for c in compared], axis=1)
        for what in ("overlap", "bias", "same_sign", "same_verdict")
    )
    found = [
        ("overlap", overlap.mean(axis=1), "", 1.0),
        ("bias", np.median(bias, axis=1), "synthetic rows cannot estimate most of it", np.inf),
    ]
    for what, agreed, why in (
        ("sign", sign, "no coefficient is significant among the real rows"),
        ("significance", verdict, "0 is no hypothesis about a mean"),
    ):
        asked = ~np.isnan(agreed[0])
        if asked.any():
            found.append((what, agreed[:, asked].mean(axis=1), why, 1.0))
    scores = []
    for what, values, why, high in found:
        name, value = f"validity/inference.{what}", float(values[0])
        if not np.isfinite(value):
            scores.append(not_estimable(name, why, group))
        else:
            interval = recentred(value, values[1:], 0, high)
            scores.append(Score(name, value, interval, group=group))
    return scores
