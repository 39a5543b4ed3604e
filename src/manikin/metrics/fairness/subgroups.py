"""Subgroups: is every group of patients there as often, and as faithfully, as among real rows?

`disparity`: the log odds of belonging to the group among synthetic rows minus that among held-out
ones (Bhanot et al., Entropy 2021); 0 is the same, below it the group is under-represented. Groups
are the levels of the columns whose role is sensitive or quasi-identifier, or their training thirds
for numbers. `crossed`: the same for every two such columns' groups taken together, of which there
are so many that some stray by chance. The bands are ±ln 0.9 (a tenth off) and ±ln 0.8 (a fifth
off); `within_a_tenth`, `within_a_fifth`: the share of assessable groups, of either sort, inside.
`shapes`: how alike columns are within the group.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.fidelity.shapes import column_shapes
from manikin.metrics.groups import Grouping, groupings
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.privacy.cells import SMALLEST_CELL, hidden, n_different, subjects_per_cell

__all__ = ["subgroups"]

CARD = Card(
    title="Subgroups",
    family="fairness",
    better="near ceiling",
    reads="Whether each group of patients, and each intersection of two, is as frequent "
    "(disparity and crossed, log odds ratios: 0 is the same, -0.22 is a fifth fewer) and as "
    "faithfully drawn (shapes: 1 is the same) as among held-out real rows. Chance alone moves "
    "small groups out of the bands: read the interval. Groups of fewer than 20 subjects cannot "
    "be assessed, and the numbers of those with fewer than 11 are kept back.",
    profile="quick",
)
FEWEST = 20  # subjects a side
INTERSECTIONS = 60  # the largest ones among held-out rows
BANDS = {"a_tenth": 0.9, "a_fifth": 0.8}
Members = list[NDArray[np.bool_]]


def subgroups(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare the frequency and the columns of every group with the held-out rows."""
    found = groupings(trial.train)
    if not found or not trial.holdout.n_rows or not trial.synthetic.n_rows:
        return ()
    sides = (trial.holdout, trial.synthetic)
    rng = generator(seed, "fairness/subgroups")
    dealt = [blocks(side.subjects, rng) for side in sides]
    codes = [[grouping.of(side) for side in sides] for grouping in found]
    scores: list[Score] = []
    measured: list[tuple[float, Floats]] = []
    for grouping, of_side in zip(found, codes, strict=True):
        for k, label in enumerate(grouping.labels):
            group = f"{grouping.column}={label}"
            members = [part == k for part in of_side]
            frequency, draws = _disparity("disparity", sides, members, dealt, group)
            if draws is not None and _tells_few(trial.holdout, of_side[0], k):
                frequency, draws = not_estimable(frequency.metric, TELLS_FEW, group), None
            scores += [frequency, _shapes(sides, members, group, seed)]
            measured += [] if draws is None else [(frequency.value, draws)]
    for group, members in _intersections(found, codes, trial.holdout):
        frequency, draws = _disparity("crossed", sides, members, dealt, group)
        scores.append(frequency)
        measured += [] if draws is None else [(frequency.value, draws)]
    return (*scores, *_in_bands(measured))


def _intersections(
    found: tuple[Grouping, ...], codes: list[list[NDArray[np.int64]]], real: Table
) -> list[tuple[str, Members]]:
    """Return the largest groups that two columns make together, by their held-out subjects.

    Those of so few that they, or what they leave of either column's group, may not be counted are
    not named.
    """
    every: list[tuple[int, str, Members]] = []
    for i, j in combinations(range(len(found)), 2):
        one, other = found[i], found[j]
        width = len(other.labels)
        joint = [
            np.where((a >= 0) & (b >= 0), a * width + b, -1)
            for a, b in zip(codes[i], codes[j], strict=True)
        ]
        counts = subjects_per_cell(joint[0], real.subjects, len(one.labels) * width)
        for cell in np.argsort(-counts, kind="stable")[:INTERSECTIONS]:
            if counts[cell] < SMALLEST_CELL:
                break
            left = [side[0] == at for side, at in zip(
                (codes[i], codes[j]), divmod(int(cell), width), strict=True)]  # fmt: skip
            if any(hidden(n_different(real.subjects[m & (joint[0] != cell)])) for m in left):
                continue
            label = (
                f"{one.column}={one.labels[cell // width]} & "
                f"{other.column}={other.labels[cell % width]}"
            )
            every.append((int(counts[cell]), label, [part == cell for part in joint]))
    every.sort(key=lambda entry: -entry[0])
    return [(label, members) for _, label, members in every[:INTERSECTIONS]]


TELLS_FEW = (
    f"kept back: what it leaves out are fewer than {SMALLEST_CELL} held-out subjects, who could be "
    "counted from it"
)


def _tells_few(real: Table, of_row: NDArray[np.int64], k: int) -> bool:
    """Whether this group's share would tell, by what is left, that of too few others.

    All that is not shown may be counted together from the others; if they are too few, the smallest
    group that is shown goes with them.
    """
    n = np.array([n_different(real.subjects[of_row == j]) for j in range(int(of_row.max()) + 1)])
    shown = n >= FEWEST
    left = n_different(real.subjects[~np.isin(of_row, np.flatnonzero(shown))])
    if hidden(left) and shown.any():
        return bool(k == np.flatnonzero(shown)[n[shown].argmin()])
    return False


def _disparity(
    what: str, sides: tuple[Table, Table], members: Members, dealt: list[Blocks], group: str
) -> tuple[Score, Floats | None]:
    name = f"fairness/subgroups.{what}"
    n_real = n_different(sides[0].subjects[members[0]])
    if n_real < FEWEST:
        few = SMALLEST_CELL if n_real < SMALLEST_CELL else FEWEST
        why = f"not assessable: fewer than {few} held-out subjects"
        return not_estimable(name, why, group), None
    values, draws = [], []
    for member, deal in zip(members, dealt, strict=True):
        hits = member.astype(np.float64)
        values.append(float(_log_odds(np.array([hits.sum()]), hits.size)[0]))
        draws.append(_log_odds(deal.sums(hits), deal.sums(np.ones(hits.size))))
    value, drawn = values[1] - values[0], draws[1] - draws[0]
    interval = recentred(value, drawn)
    return Score(name, value, interval, group=group, note=_band(value)), drawn


def _band(value: float) -> str:
    """Say which band a log disparity lies in."""
    off = abs(value)
    if off <= -math.log(0.9):
        return "within ±ln 0.9"
    return "between ±ln 0.9 and ±ln 0.8" if off <= -math.log(0.8) else "beyond ±ln 0.8"


def _in_bands(measured: list[tuple[float, Floats]]) -> list[Score]:
    """Return the share of groups inside each band."""
    if not measured:
        return []
    values = np.array([value for value, _ in measured])
    draws = np.stack([draw for _, draw in measured], axis=1)  # (draws, groups)
    scores = []
    for what, band in BANDS.items():
        width = -math.log(band)
        value = float((np.abs(values) <= width).mean())
        drawn = (np.abs(draws) <= width).mean(axis=1)
        name = f"fairness/subgroups.within_{what}"
        scores.append(Score(name, value, recentred(value, drawn, 0, 1)))
    return scores


def _shapes(sides: tuple[Table, Table], members: Members, group: str, seed: int) -> Score:
    name = "fairness/subgroups.shapes"
    inside = [side.rows(member) for side, member in zip(sides, members, strict=True)]
    for side, what in zip(inside, ("held-out", "synthetic"), strict=True):
        n = n_different(side.subjects)
        if n < FEWEST:
            few = SMALLEST_CELL if n < SMALLEST_CELL else FEWEST
            why = f"not assessable: fewer than {few} {what} subjects"
            return not_estimable(name, why, group)
    found = column_shapes(inside[0], inside[1], seed=seed)
    mean = float(np.mean([value for value, _ in found.values()]))
    spread = np.mean([draw for _, draw in found.values()], axis=0)
    return Score(name, mean, recentred(mean, spread, 0, 1), group=group)


def _log_odds(hits: Floats, n: Floats | int) -> Floats:
    """Return the log odds, half a row being added to either side (Haldane 1956)."""
    return np.asarray(np.log((hits + 0.5) / (np.maximum(n - hits, 0) + 0.5)))
