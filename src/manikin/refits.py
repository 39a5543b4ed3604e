"""How much another fit would differ: the recipe fitted again, drawn from again, scored again.

Resampling subjects says how sure a score is of *these* synthetic rows. It does not say what the
same recipe would have given with another seed. So the recipe is fitted R times more, D times drawn
from each, and the variance of a score between refits is added to that from resampling, as between
imputations (Rubin, Multiple Imputation for Nonresponse in Surveys, 1987, §3.3):

    T = U + (1 + 1/R) B,   ν = (R − 1) (1 + U / ((1 + 1/R) B))²,   arm = t(.975, ν) √T

where U is the variance by resampling subjects (an arm of the interval is 1.96 √U) and B that of
the refits' means over their draws. The value stays that of the released rows. In small cohorts each
refit has its own split into training and held-out subjects (repeated cross-fit), so that B holds
the luck of the split too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from manikin.data.dataset import split_subjects
from manikin.data.randomness import generator
from manikin.errors import InputError
from manikin.sampling import Plan, draw, join
from manikin.synthesizer import Progress, Watch, report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from manikin.data.table import Table
    from manikin.metrics.score import Metric, Score, Trial
    from manikin.synthesizer import Model, Synthesizer

__all__ = ["DRAWS", "Again", "Refits", "check_refits", "fit_again"]

DRAWS = 5  # of each refit
SMALL = 500  # subjects below which each refit has a split of its own
LEAST = 3  # refits: a variance of two is no more than a guess
MOST = 50  # refits: beyond, B is known to a tenth and only time is spent
Z = 1.959964  # of a 95 % interval

Key = tuple[str, str]


@dataclass(frozen=True)
class Refits:
    """Every score of every draw of every refit, (refits, draws) by metric and group."""

    values: Mapping[Key, NDArray[np.float64]]
    seeds: tuple[int, ...]
    own_split: bool

    @property
    def told(self) -> str:
        """What was done, in words: "3 refits × 5 draws"."""
        split = ", each on another split" if self.own_split else ""
        return f"{len(self.seeds)} refits × {DRAWS} draws{split}"

    def widened(self, scores: Iterable[Score]) -> tuple[Score, ...]:
        """Return the scores with intervals that hold what another fit would have changed."""
        return tuple(self._widened(score) for score in scores)

    def _widened(self, score: Score) -> Score:
        found = self.values.get((score.metric, score.group))
        if found is None or not math.isfinite(score.value):
            return score
        means = np.nanmean(found[~np.isnan(found).all(axis=1)], axis=1)
        if means.size < 2:
            return score
        low, high = score.interval
        arms = (score.value - low, high - score.value)
        between = (1 + 1 / means.size) * float(np.var(means, ddof=1))
        below, above = (_arm(arm, between, means.size) for arm in arms)
        ends = (score.value - below, score.value + above)
        if re.search(r"\.(auc|tpr_at_\d+)$", score.metric):  # areas and rates
            ends = (max(0.0, ends[0]), min(1.0, ends[1]))
        told = (
            f"{self.told}: mean {means.mean():.3f}, standard deviation between refits"
            f" {means.std(ddof=1):.3f}"
        )
        return replace(score, interval=ends, note=f"{score.note}; {told}".removeprefix("; "))

    def facts(self) -> dict[str, object]:
        """Return what the record holds: how often, with which seeds, and every variance."""
        return {
            "refits": len(self.seeds),
            "draws": DRAWS,
            "seeds": list(self.seeds),
            "own_split": self.own_split,
            "interval": "arm = t(.975, nu) sqrt(U + (1 + 1/R) B), Rubin 1987 section 3.3",
            "between": [
                {"metric": metric, "group": group, "sd_refits": _sd(found.mean(axis=1)),
                 "sd_draws": _sd(found - found.mean(axis=1, keepdims=True))}
                for (metric, group), found in self.values.items()
            ],
        }  # fmt: skip


def _sd(values: NDArray[np.float64]) -> float | None:
    """Return the standard deviation to four decimals; of draws, within their refit."""
    if values.ndim == 2:
        spread = math.sqrt(float((values**2).sum()) / (values.shape[0] * (values.shape[1] - 1)))
    else:
        spread = float(np.std(values, ddof=1))
    return round(spread, 4) if math.isfinite(spread) else None


def _arm(arm: float, between: float, n: int) -> float:
    """Return an arm of the combined interval; `between` is (1 + 1/R) B."""
    from scipy.stats import t

    if between <= 0:
        return arm
    within = (arm / Z) ** 2 if math.isfinite(arm) else 0.0
    freedom = (n - 1) * (1 + within / between) ** 2
    return float(t.ppf(0.975, freedom)) * math.sqrt(within + between)


@dataclass(frozen=True)
class Again:
    """What is to be fitted again, and how the drawn rows are judged."""

    recipe: Synthesizer[Any]
    trial: Trial[Table]
    n: int  # subjects to draw
    plan: Plan
    metrics: Mapping[str, Metric[Any]]
    alike: Callable[[Trial[Table]], Trial[Table]]  # the real rows that the drawn ones are like
    seed: int
    keep_split: bool = False  # who is held out was asked for, and is not redrawn

    def seeds(self, n: int) -> tuple[int, ...]:
        """Return the seed of every refit: none is that of the release."""
        rng = generator(self.seed, "refits")
        return tuple(int(s) for s in rng.choice(2**31, n, replace=False))

    def fit(self, train: Table, seed: int, watch: Watch) -> Model[Table]:
        """Fit the recipe to other rows, or with another seed."""
        model: Model[Table] = self.recipe.fit(train, seed=seed, watch=watch)
        return model

    def draw(self, model: Model[Table], seed: int) -> Table:
        """Draw as many subjects as the judge looked at."""
        return join(list(draw(model, self.n, self.plan, seed=seed)))


def check_refits(n: int) -> None:
    """Raise InputError for a number of refits that gives no variance."""
    if n != 0 and not LEAST <= n <= MOST:
        raise InputError(
            f"{n} refits", f"0, or {LEAST} to {MOST}", "3 are enough to see whether fits differ"
        )


def fit_again(
    again: Again, n: int, *, watch: Watch, over: Callable[[], bool] = lambda: False
) -> Refits | None:
    """Fit `n` times, draw and score; None when the time was `over` before there were two."""
    from manikin.metrics.judge import scored

    trial = again.trial
    both = trial.train.n_subjects + trial.holdout.n_subjects
    own_split = both < SMALL and not again.keep_split
    parts = [trial.train, trial.holdout]
    found: dict[Key, list[list[float]]] = {}
    seeds: list[int] = []
    for r, seed in enumerate(again.seeds(n)):
        if over():
            break
        report(watch, r * DRAWS, n * DRAWS, f"refitting: {r + 1} of {n}")
        train, held = _split(parts, seed) if own_split else parts
        model = again.fit(train, seed, partial(_heard, watch, r, n))
        seeds.append(seed)
        for d in range(DRAWS):
            report(watch, r * DRAWS + d, n * DRAWS, f"refitting: {r + 1} of {n}, draw {d + 1}")
            drawn = again.draw(model, seed + 1 + d)
            judged = again.alike(replace(trial, train=train, holdout=held, synthetic=drawn))
            for name, metric in again.metrics.items():
                for score in scored(name, metric, judged, again.seed):
                    rows = found.setdefault((score.metric, score.group), [])
                    rows += [[] for _ in range(r + 1 - len(rows))]
                    rows[r].append(score.value)
    if len(seeds) < 2:
        return None
    return Refits(_complete(found, len(seeds)), tuple(seeds), own_split)


def _heard(watch: Watch, r: int, n: int, progress: Progress) -> bool:
    """Tell of a refit's own steps under one name, and ask it to stop when the person does."""
    del progress
    return bool(watch(Progress(r * DRAWS, n * DRAWS, f"refitting: {r + 1} of {n}")))


def _split(parts: list[Table], seed: int) -> tuple[Table, Table]:
    """Split all real subjects anew, in the shares they were split in."""
    from manikin.data.table import Table

    whole = Table.concatenate(parts)
    share = parts[0].n_subjects / whole.n_subjects
    train, held = split_subjects(whole, (share, 1 - share), seed=seed)
    return train, held


def _complete(found: Mapping[Key, list[list[float]]], n: int) -> dict[Key, NDArray[np.float64]]:
    """Return the scores that every draw of every refit gave."""
    return {
        key: np.array(rows)
        for key, rows in found.items()
        if len(rows) == n and all(len(row) == DRAWS for row in rows)
    }
