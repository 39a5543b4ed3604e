"""Rare codes: what becomes of the tail of the vocabulary?

recall  of the codes that occur in training and in held-out histories, at most ten times in the
        former: the share that the synthetic histories have at all
log_r2  R² of log10 probabilities in a visit, over codes that both sides have and that are in fewer
        than 1 % of held-out visits; ordinary R² does not see them
invented  the share of synthetic events whose code is in no training history
A generator that guards the rare leaves them out on purpose: read beside the privacy scores.
Intervals of `recall` are exact (Clopper and Pearson), the others resample subjects.
"""

from __future__ import annotations

import math

import numpy as np

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.fidelity.code_prevalence import r_squared
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Floats, binomial, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["rare_codes"]

CARD = Card(
    title="Rare codes",
    family="fidelity",
    better="near ceiling",
    reads="What is left of the tail: `recall` is the share of rare real codes (seen ten times or "
    "fewer in training) that occur at all; `log_r2` says whether codes in fewer than 1 % of visits "
    "are as common as in real ones, on a log scale; `invented` is the share of events with a code "
    "that no training patient has. A generator that protects few people leaves rare codes out.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/rare_codes"
RARE, BELOW = 10, 0.01
DRAWS = 100
FEWEST = 5  # codes below which there is nothing to estimate


def rare_codes(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Say how many rare codes there still are, and how common they are."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.recall")
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    n = len(train.events.schema)
    counts = [np.bincount(side.events.code, minlength=n) for side in (train, real, drawn)]
    return (
        _recall(counts),
        _log_r2(real, drawn, rng),
        _invented(counts[0], drawn, rng),
    )


def _recall(counts: list[np.ndarray]) -> Score:
    rare = (counts[0] > 0) & (counts[0] <= RARE) & (counts[1] > 0)
    n = int(rare.sum())
    if n < FEWEST:
        return not_estimable(f"{NAME}.recall", f"fewer than {FEWEST} rare codes in both real parts")
    found = int((counts[2][rare] > 0).sum())
    return Score(f"{NAME}.recall", found / n, binomial(found, n), note=f"of {n:,} rare codes")


def _log_r2(real: Side, drawn: Side, rng: np.random.Generator) -> Score:
    name = f"{NAME}.log_r2"
    if not real.visits.n or not drawn.visits.n:
        return not_estimable(name, "no visits to compare")
    shares = [np.asarray(side.at_visits.mean(axis=0)).ravel() for side in (real, drawn)]
    kept = np.flatnonzero((shares[0] > 0) & (shares[1] > 0) & (shares[0] < BELOW))
    if kept.size < FEWEST:
        return not_estimable(name, f"fewer than {FEWEST} codes below 1 % that both sides have")
    value = r_squared(*(np.log10(share[kept]) for share in shares))
    if math.isnan(value):
        return not_estimable(name, "all rare codes are equally common")
    both = [_log_shares(side, kept, rng) for side in (real, drawn)]
    around = ((both[0] - both[0].mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    draws = 1 - ((both[0] - both[1]) ** 2).sum(axis=1) / np.where(around > 0, around, np.nan)
    return Score(name, value, recentred(value, draws, high=1), note=f"of {kept.size:,} codes")


def _log_shares(side: Side, kept: np.ndarray, rng: np.random.Generator) -> Floats:
    """Return log10 probabilities in each replicate, of half a visit where there is none."""
    dealt = side.dealt(rng, DRAWS)
    weights = dealt.weights[:, dealt.of_row[side.visits.whose]]  # (draws, visits)
    counts = np.asarray((side.at_visits[:, kept].T @ weights.T).T)
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.log10(np.maximum(counts, 0.5) / np.where(total > 0, total, np.nan)))


def _invented(known: np.ndarray, drawn: Side, rng: np.random.Generator) -> Score:
    name = f"{NAME}.invented"
    if not drawn.events.n_events:
        return not_estimable(name, "no synthetic events")
    new = (known[drawn.events.code] == 0).astype(np.float64)
    dealt = drawn.dealt(rng, DRAWS).among(drawn.events.whose)
    value = float(new.mean())
    total = dealt.sums(np.ones(new.size))
    draws = dealt.sums(new) / np.where(total > 0, total, np.nan)
    return Score(name, value, recentred(value, draws, 0, 1))
