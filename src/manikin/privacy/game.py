"""Games against a mechanism: what ε it must have, judged by how well it can be attacked.

A game runs a mechanism with and without somebody, or once with many canaries of which half are
let in, and counts how often an attacker tells. From that follows, with 95 % confidence, a least ε
that the mechanism must have: above the ε that it claims, the claim is false. Games never prove
privacy; they find what proofs and code got wrong.

Reference  Jagielski, Ullman and Oprea, "Auditing differentially private machine learning",
           NeurIPS 2020 (bounds by Clopper-Pearson); Nasr et al., "Tight auditing of differentially
           private machine learning", USENIX Security 2023 (μ of Gaussian DP); Steinke, Nasr and
           Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, Theorem 5.2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.errors import InputError

__all__ = ["Found", "many_canaries", "one_run", "two_worlds"]

CONFIDENCE = 0.95
FEWEST = 20  # runs of each world
SHARES = (0.04, 0.2, 0.6)  # of the canaries of which the attacker says something


@dataclass(frozen=True)
class Found:
    """What a game showed: `epsilon` is the least that the mechanism has, at 95 % confidence."""

    epsilon: float
    mu: float | None  # of Gaussian DP, estimated; None where the game cannot tell
    mu_error: float | None  # its standard error
    runs: int


def two_worlds(without: NDArray[np.float64], with_: NDArray[np.float64], delta: float) -> Found:
    """Judge the scores of runs without and with somebody; higher should mean "with".

    A threshold is chosen on every other run, and judged on the rest. `mu` supposes that scores are
    normal with equal variance, as those of the best attack on Gaussian noise are.
    Raises InputError for fewer than 40 runs, or scores that are no numbers.
    """
    out, inside = (np.asarray(scores, float) for scores in (without, with_))
    if min(out.size, inside.size) < FEWEST or not np.isfinite([*out, *inside]).all():
        raise InputError(
            "scores of too few runs, or that are no numbers", f"{FEWEST} runs of each world",
            "play more rounds",
        )  # fmt: skip
    found = max(
        _judged(out[1::2], inside[1::2], _threshold(out[::2], inside[::2], delta), delta),
        # the attacker may also be sure of who was not in
        _judged(-inside[1::2], -out[1::2], _threshold(-inside[::2], -out[::2], delta), delta),
    )
    spread = math.sqrt((out.var(ddof=1) + inside.var(ddof=1)) / 2)
    if spread <= 1e-9 * float(np.abs([*out, *inside]).max()):  # no noise at all
        return Found(found, None, None, out.size + inside.size)
    mu = float(inside.mean() - out.mean()) / spread
    error = math.sqrt(1 / out.size + 1 / inside.size + mu**2 / (2 * (out.size + inside.size)))
    return Found(found, mu, error, out.size + inside.size)


def many_canaries(scores: NDArray[np.float64], inside: NDArray[np.bool_], delta: float) -> Found:
    """Judge the scores of canaries, each let in by a coin; higher should mean "in".

    The attacker says "in" of the highest and "out" of as many of the lowest, and abstains of the
    rest: of how many is tried in three ways, whose bounds hold together. Canaries of several
    independent runs may stand in one array: letting one in changes one run alone, so all runs
    together are a mechanism with the same ε and δ.
    Raises InputError for scores that are no numbers, or as many as there are not coins.
    """
    if scores.shape != inside.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(
            "scores that are no numbers, or not one a coin",
            "one finite score for each canary", "score every canary",
        )  # fmt: skip
    # ties are broken by a hash of the place, since canaries of one coin may stand together
    place = np.arange(scores.size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    told = inside[np.lexsort((place, scores))]
    best = 0.0
    for share in SHARES:
        half = int(share * told.size) // 2
        right = int(told[told.size - half :].sum()) + int((~told[:half]).sum())
        each = 1 - (1 - CONFIDENCE) / len(SHARES)
        best = max(best, one_run(2 * half, right, told.size, delta, confidence=each).epsilon)
    return Found(best, None, None, 1)


def one_run(
    guessed: int, right: int, canaries: int, delta: float, *, confidence: float = CONFIDENCE
) -> Found:
    """Judge one run with `canaries`, each let in by a coin: of `guessed` ones, `right` were right.

    The attacker may abstain. Theorem 5.2: were the mechanism (ε, δ)-DP, so many right guesses had
    a chance of at most 5 %, or what another confidence leaves.
    """
    if not 0 <= right <= guessed <= canaries:
        raise InputError(
            "more guesses than canaries, or more right ones than guesses",
            "right ≤ guessed ≤ canaries", "count again",
        )  # fmt: skip
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        possible = _chance(guessed, right, canaries, middle, delta) > 1 - confidence
        low, high = (low, middle) if possible else (middle, high)
    return Found(low if guessed else 0.0, None, None, 1)


def _chance(guessed: int, right: int, canaries: int, epsilon: float, delta: float) -> float:
    from scipy.stats import binom

    p = 1 / (1 + math.exp(-epsilon))
    at_least = binom.sf(np.arange(-1, guessed + 1), guessed, p)  # [v]: chance of v or more
    tail = float(at_least[right])
    if delta == 0 or right == 0:
        return tail
    steps = np.arange(1, right + 1)
    slack = ((at_least[right - steps] - tail) / steps).max()
    # further back the chance of "or more" is 1 and the quotient falls
    return float(min(1.0, tail + 2 * canaries * delta * slack))


def _threshold(out: NDArray[np.float64], inside: NDArray[np.float64], delta: float) -> float:
    """Return the threshold with the highest bound on these runs."""
    candidates = np.unique(np.concatenate([out, inside]))
    candidates = candidates[:: max(1, candidates.size // 200)]
    return max((float(t) for t in candidates), key=lambda t: _judged(out, inside, t, delta))


def _judged(
    out: NDArray[np.float64], inside: NDArray[np.float64], threshold: float, delta: float
) -> float:
    """Return the least ε that true and false positives at a threshold leave possible."""
    true = _bound(int((inside >= threshold).sum()), inside.size, upper=False)
    false = _bound(int((out >= threshold).sum()), out.size, upper=True)
    return math.log((true - delta) / false) if true - delta > false else 0.0


def _bound(hits: int, n: int, *, upper: bool) -> float:
    """Return the end of a one-sided Clopper-Pearson interval; both together hold at 95 %."""
    from scipy.stats import beta

    level = (1 - CONFIDENCE) / 2
    if upper:
        return 1.0 if hits == n else float(beta.ppf(1 - level, hits + 1, n - hits))
    return 0.0 if hits == 0 else float(beta.ppf(level, hits, n - hits + 1))
