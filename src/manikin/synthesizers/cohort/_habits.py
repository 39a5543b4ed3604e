"""Two habits of rows that trees cannot see in the values: round numbers, and times that coincide.

A laboratory that wrote decimals for ten years and whole numbers since is one; events dated to the
day of admission are the other. Both become columns of their own, drawn before what they are about,
which is then made to obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.privacy.cells import SMALLEST_CELL, n_different

__all__ = [
    "MOST_DECIMALS",
    "coincide",
    "coinciding",
    "decimals_of",
    "find_rounded",
    "obey",
    "round_to",
]

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int32]

LEAST = 0.01  # share of rows from which a coincidence is a habit
MOST_DECIMALS = 4
ROUNDED = (0.2, 0.98)  # share of numbers with fewer decimals than the column, for a habit


# ------------------------------------------------------------------ round numbers


def find_rounded(table: Table) -> tuple[str, ...]:
    """Return the columns of which a good part is written with fewer decimals than the rest.

    Of numbers with one decimal a tenth are whole by chance.
    """
    found = []
    for column in table.schema.learned:
        if column.kind != "continuous" or not 1 <= column.decimals <= MOST_DECIMALS:
            continue
        places = decimals_of(table.numbers(column.name), column.decimals)
        known = places >= 0
        short = known & (places < column.decimals)
        share = short.sum() / max(int(known.sum()), 1)
        sides = (table.subjects[short], table.subjects[known & ~short])
        told = min(n_different(side) for side in sides) >= SMALLEST_CELL
        if told and ROUNDED[0] <= share <= ROUNDED[1]:
            found.append(column.name)
    return tuple(found)


def decimals_of(values: Floats, most: int) -> Codes:
    """Return with how many decimals each number is written, -1 where there is none, (rows,)."""
    places = np.full(values.shape, most, np.int32)
    for fewer in range(most - 1, -1, -1):
        with np.errstate(invalid="ignore"):
            steps = values * 10.0**fewer
            places[np.abs(steps - np.rint(steps)) < 1e-6 * (1 + np.abs(steps))] = fewer
    places[~np.isfinite(values)] = -1
    return places


def round_to(values: Floats, places: Codes, most: int, rng: np.random.Generator) -> Floats:
    """Return the numbers with as many decimals as is said; as they are where nothing is.

    A number that has fewer is moved by up to five of its last decimals, away from 0 if it is 0.
    """
    made = values.copy()
    for few in range(most):
        chosen = places == few
        made[chosen] = np.round(values[chosen], few)
    lacking = np.flatnonzero((places > 0) & (decimals_of(made, most) < places))
    steps = rng.integers(1, 6, lacking.size) * np.where(rng.random(lacking.size) < 0.5, -1, 1)
    steps = np.where(steps == -5, 5, steps)  # as many numbers round up to a whole one as down
    moved = made[lacking] + steps * 10.0 ** -places[lacking].astype(np.float64)
    moved = np.where(np.sign(moved) * np.sign(made[lacking]) < 0, -moved, moved)
    made[lacking] = np.round(np.where(made[lacking] == 0, np.abs(moved), moved), most)
    return made


# ------------------------------------------------------------------ times that coincide


def coinciding(
    interval: Floats, references: Sequence[Floats], subjects: NDArray[np.int64]
) -> tuple[int, ...]:
    """Return which references intervals repeat more often than chance has it.

    Where a reference is 0 nothing is told: the interval 0 says as much.
    """
    found = []
    free = np.ones(interval.shape, bool)
    for i, reference in enumerate(references):
        same = free & (interval == reference)
        telling = same & (reference != 0)
        chance = float((interval == np.roll(reference, 7)).mean()) if interval.size else 0.0
        often = telling.sum() >= (LEAST + 2 * chance) * interval.size
        if often and n_different(subjects[telling]) >= SMALLEST_CELL:
            found.append(i)
            free &= ~same
    return tuple(found)


def coincide(interval: Floats, references: Sequence[Floats]) -> Codes:
    """Return which reference each interval repeats, counted from 1; 0 for none, (rows,)."""
    code = np.zeros(interval.shape, np.int32)
    for i, reference in reversed([*enumerate(references, 1)]):
        code[interval == reference] = i
    return code


def obey(interval: Floats, code: Codes, references: Sequence[Floats], place: Floats) -> Floats:
    """Return intervals that repeat what is said; none before the sibling before."""
    made = interval.copy()
    for i, reference in enumerate(references, 1):
        may = (code == i) & np.isfinite(reference) & ((reference >= 0) | (place == 0))
        made[may] = reference[may]
    return made
