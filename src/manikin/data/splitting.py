"""Holding out by site or by time: whole levels of a column, or the latest subjects.

A random split says how a release does for more patients of the same kind; a hospital that was left
out, or next year's patients, say how far it carries (Justice, Covinsky and Berlin, Ann Intern Med
1999, on transportability). A subject goes whole to one side, by the first level that its rows have
or the earliest of its values; one that has none is trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError

__all__ = ["split_by", "split_secretly"]


def split_by(table: Table, name: str, holdout: float, *, seed: int) -> tuple[Table, Table]:
    """Return training and held-out rows, the latter about a share `holdout` of the subjects.

    Raises InputError where there is no such column, or it does not tell subjects apart.
    """
    columns = {column.name: column for column in table.schema.learned}
    if name not in columns:
        raise InputError(
            f"no column '{name}' to split by",
            "a column of sites, dates or numbers, none that identifies people",
            "check the spelling",
        )
    everyone, values = _of_subjects(table, name)
    known = np.isfinite(values)
    if np.unique(values[known]).size < 2:
        raise InputError(
            f"the column '{name}' has fewer than two different values", "two or more",
            "choose another column to split by, or split at random",
        )  # fmt: skip
    wanted = holdout * everyone.size
    coded = columns[name].is_coded and columns[name].kind != "ordinal"
    held = _sites(values, wanted, seed) if coded else _latest(values, wanted)
    return table.take(everyone[~held]), table.take(everyone[held])


def split_secretly(table: Table, holdout: float) -> tuple[Table, Table]:
    """Return training and held-out rows: a coin a subject, from the operating system's randomness.

    So one subject more or less moves nobody else across, which a privacy budget relies on. A part
    may be empty.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence()))
    everyone = np.unique(table.subjects)
    held = rng.random(everyone.size) < holdout
    return table.take(everyone[~held]), table.take(everyone[held])


def _of_subjects(table: Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return every subject and its value: the first level or the earliest number, NaN for none."""
    values = table.numbers(name)
    everyone, whose = np.unique(table.subjects, return_inverse=True)
    if table.schema[name].is_coded:
        found = np.full(everyone.size, np.nan)
        rows = np.flatnonzero(np.isfinite(values))[::-1]  # the first one is written last
        found[whose[rows]] = values[rows]
        return everyone, found
    earliest = np.full(everyone.size, np.inf)
    np.fmin.at(earliest, whose, values)
    return everyone, np.where(np.isfinite(earliest), earliest, np.nan)


def _sites(values: NDArray[np.float64], wanted: float, seed: int) -> NDArray[np.bool_]:
    """Return who is held out: levels in random order until as many subjects as come nearest."""
    levels, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    order = generator(seed, "split by").permutation(levels.size)
    sums = np.cumsum(counts[order])[:-1]  # one level at least is trained on
    n = int(np.argmin(np.abs(sums - wanted))) + 1
    return np.isin(values, levels[order[:n]])


def _latest(values: NDArray[np.float64], wanted: float) -> NDArray[np.bool_]:
    """Return who is held out: all from the value on that leaves nearest to as many after it."""
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    after = np.cumsum(counts[::-1])[::-1][1:]  # subjects from each value but the first on
    cut = unique[1:][int(np.argmin(np.abs(after - wanted)))]
    return np.asarray(values >= cut)
