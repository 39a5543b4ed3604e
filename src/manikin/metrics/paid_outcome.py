"""What is learnt from synthetic rows, tried on real people by one small noisy table.

A yes-or-no question about the outcome, boosted trees that were grown on synthetic rows, and bins
of the chance that they predict: all public. Of the real people only how many said yes and no in
each bin is counted, with noise; area under the ROC curve and accuracy are read from those counts.

Reference  Hanley and McNeil, Radiology 1982 (the area as a probability; ties count half); DeLong,
           DeLong and Clarke-Pearson, Biometrics 1988 (its variance by placement values)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.score import Score, not_estimable
from manikin.metrics.spaces import subsample
from manikin.metrics.target import leaks
from manikin.metrics.trees import BRISK, TreeFeatures, classifier

__all__ = ["ACCURACY", "AUC", "Outcome", "Tally", "outcome_of"]

AUC, ACCURACY = "paid/prediction.auc", "paid/prediction.accuracy"
ROWS = 20_000  # that are learnt from, at most
FINE = 60  # bins of the predicted chance before noise is known
BINS = (12, 8, 5, 3)  # as they are counted: the first whose noise is small, or the last
SMALL = 0.02  # standard deviation of the area by noise
FEWEST = 11.0  # people with either answer, beside four deviations of noise
NO, YES, UNKNOWN = 0, 1, 2
Z = 1.96


@dataclass(frozen=True)
class Outcome:
    """The question, the learner, and its bins: all from the schema and synthetic rows."""

    asks: str
    answers: Callable[[Table], NDArray[np.int64]]  # NO, YES or UNKNOWN, (rows,)
    chance: Callable[[Table], Floats]  # predicted, (rows,)
    edges: Floats  # of fine bins of the chance
    cut: int  # number of the first fine bin that is called a yes
    share: float  # of synthetic rows that say yes
    fresh: tuple[float, float]  # area and accuracy on synthetic rows that were not learnt from

    @property
    def size(self) -> int:
        """How many fine bins there are."""
        return self.edges.size + 1

    def bins(self, table: Table) -> NDArray[np.int64]:
        """Return the fine bin of every row's predicted chance."""
        if not table.n_rows:
            return np.zeros(0, np.int64)
        return np.searchsorted(self.edges, self.chance(table), side="right")

    def grouped(self, n: float, deviation: float) -> tuple[NDArray[np.int64], int]:
        """Return the group of every fine bin, as many as noise leaves legible, and the cut.

        `n` real people are to be counted with noise of this deviation in every cell.
        """
        yes = max(n * self.share, 1.0), max(n * (1 - self.share), 1.0)
        both = math.sqrt(sum(1 / one**2 for one in yes))
        # a cell weighs by how far its placement is from the mean: about 1/12 for even ones
        most = next((b for b in BINS if deviation * math.sqrt(b / 12) * both <= SMALL), BINS[-1])
        wanted = np.round(np.arange(1, most) * self.size / most).astype(np.int64)
        starts = np.union1d(wanted, [self.cut])
        starts = starts[(starts > 0) & (starts < self.size)]
        groups = np.searchsorted(starts, np.arange(self.size), side="right")
        return groups, int(np.searchsorted(starts, self.cut, side="right"))


def outcome_of(shown: Table, *, seed: int) -> Outcome | str:
    """Return what is asked of the outcome, and who answers; or why nothing is."""
    column = shown.schema.holder("target") or shown.schema.holder("event")
    if column is None or not column.is_learned:
        return "no outcome is declared: give a column the role 'target'"
    asked = _question(column, shown)
    if asked is None:
        return f"the outcome '{column.name}' takes one value only in the synthetic rows"
    asks, answers = asked
    rng = generator(seed, "paid outcome")
    known = subsample(shown.rows(answers(shown) != UNKNOWN), ROWS, rng)
    features = TreeFeatures.fit(known, leave_out=leaks(shown.schema, column.name))
    if not features.columns:
        return "there is no column to predict the outcome from"
    half = rng.random(known.n_rows) < 0.5
    parts = known.rows(half), known.rows(~half)
    if any(np.unique(answers(part)).size < 2 for part in parts):
        return f"too few synthetic rows with either answer to '{column.name}'"

    def learnt(table: Table) -> Callable[[Table], Floats]:
        model = classifier(features.matrix(table), answers(table), features.unordered, seed=seed,
                           how=BRISK)  # fmt: skip
        return lambda rows: model(features.matrix(rows))[:, 1]

    share = float((answers(known) == YES).mean())
    trial = _binned(asks, answers, learnt(parts[0]), parts[0], share)
    fresh = Tally.of(trial, parts[1])
    whole = _binned(asks, answers, learnt(known), known, share)
    told = fresh.area, fresh.accuracy
    return Outcome(asks, answers, whole.chance, whole.edges, whole.cut, share, told)


def _question(
    column: Column, shown: Table
) -> tuple[str, Callable[[Table], NDArray[np.int64]]] | None:
    """Return the question in words, and how a row answers it."""
    name = column.name
    values = shown.numbers(name)
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if unique.size < 2:
        return None
    if column.is_coded:
        two = len(column.categories) == 2
        level = 1.0 if two else float(unique[np.argmax(counts)])
        spelt = column.categories[int(level)]
        return f"whether '{name}' is '{spelt}'", lambda t: _asked(t.numbers(name), level, level)
    middle = float(np.quantile(values[np.isfinite(values)], 0.5, method="lower"))
    if middle == unique[-1]:
        middle = float(unique[-2])
    above = float(np.nextafter(middle, math.inf))
    return (
        f"whether '{name}' is above the median of the synthetic rows",
        lambda t: _asked(t.numbers(name), above, math.inf),
    )


def _asked(values: Floats, least: float, most: float) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):
        yes = (values >= least) & (values <= most)
    return np.where(np.isnan(values), UNKNOWN, np.where(yes, YES, NO)).astype(np.int64)


def _binned(
    asks: str,
    answers: Callable[[Table], NDArray[np.int64]],
    chance: Callable[[Table], Floats],
    learnt: Table,
    share: float,
) -> Outcome:
    """Cut the predicted chances at quantiles; as many are called a yes as say yes."""
    predicted = chance(learnt)
    least = float(np.quantile(predicted, 1 - share, method="higher"))
    fine = np.quantile(predicted, np.arange(1, FINE) / FINE, method="higher")
    edges = np.union1d(fine, [least])
    cut = int(np.searchsorted(edges, least, side="right"))
    return Outcome(asks, answers, chance, edges, cut, share, (math.nan, math.nan))


# ------------------------------------------------------------------------------ reading the table


@dataclass(frozen=True)
class Tally:
    """Counts by answer and by bin of the predicted chance, noisy or not: (2, bins)."""

    counts: Floats
    cut: int  # first bin that is called a yes
    deviation: float = 0.0  # of noise in each cell

    @staticmethod
    def of(asked: Outcome, table: Table) -> Tally:
        """Count rows without noise: of synthetic ones, which are public."""
        answers, bins = asked.answers(table), asked.bins(table)
        counts = np.zeros((3, asked.size))
        np.add.at(counts, (answers, bins), 1.0)
        return Tally(counts[:UNKNOWN], asked.cut)

    @property
    def _placed(self) -> tuple[Floats, Floats]:
        """For every bin the share of noes below it, and of yeses above it; ties count half."""
        no, yes = self.counts[NO], self.counts[YES]
        below = (np.cumsum(no) - no / 2) / no.sum()
        above = (yes.sum() - np.cumsum(yes) + yes / 2) / yes.sum()
        return below, above

    @property
    def area(self) -> float:
        """The area under the ROC curve."""
        return float(self.counts[YES] @ self._placed[0] / self.counts[YES].sum())

    @property
    def accuracy(self) -> float:
        """The share of answers that the bins from the cut on get right."""
        right = self.counts[NO, : self.cut].sum() + self.counts[YES, self.cut :].sum()
        return float(right / self.counts.sum())

    def scores(self, fresh: tuple[float, float]) -> Iterator[Score]:
        """Yield area and accuracy with intervals; `fresh` are those of synthetic rows."""
        no, yes = (float(part.sum()) for part in self.counts)
        bins = self.counts.shape[1]
        if min(no, yes) < FEWEST + 4 * self.deviation * math.sqrt(bins):
            why = "too few held-out people with either answer for this budget: noise hides them"
            yield from (not_estimable(name, why) for name in (AUC, ACCURACY))
            return
        area, sd = self.area, math.sqrt(self._area_variance(no, yes))
        yield Score(AUC, *_held(area, sd), floor=0.5, ceiling=fresh[0])
        right, sd = self.accuracy, math.sqrt(self._accuracy_variance(no + yes, bins))
        common = min(1.0, max(no, yes) / (no + yes))
        yield Score(ACCURACY, *_held(right, sd), floor=common, ceiling=fresh[1])

    def _area_variance(self, no: float, yes: float) -> float:
        """Return the variance by noise, and by drawing people (DeLong et al., by placements)."""
        below, above = (placed - self.area for placed in self._placed)
        shares = np.maximum(self.counts, 0.0)
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
        noise = self.deviation**2 * float((below**2).sum() / yes**2 + (above**2).sum() / no**2)
        drawn = float(shares[YES] @ below**2 / yes + shares[NO] @ above**2 / no)
        return noise + drawn

    def _accuracy_variance(self, n: float, bins: int) -> float:
        r = min(1.0, max(0.0, self.accuracy))
        # of the 2 x bins cells as many are right as there are bins
        noise = self.deviation**2 * bins * ((1 - r) ** 2 + r**2) / n**2
        return noise + max(r * (1 - r), 1 / n) / n


def _held(value: float, sd: float) -> tuple[float, tuple[float, float]]:
    """Return a number and its interval, between 0 and 1."""
    ends = (min(1.0, max(0.0, value + side * Z * sd)) for side in (-1, 1))
    low, high = ends
    return min(1.0, max(0.0, value)), (low, high)
