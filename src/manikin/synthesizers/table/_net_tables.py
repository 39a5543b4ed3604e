"""A directed graph over binned columns with its tables: what is drawn from it, saved and restored.

Shared by networks whose tables were learnt from rows and by those that noisy counts speak of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._net_exact as exact
import manikin.synthesizers.table._net_search as search
from manikin.errors import ConditionError
from manikin.synthesizers.table._coded import Allowed, Codes
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._net_search import Parents

__all__ = ["binned", "complete", "likely", "restored", "saved"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


def complete(
    bins: Sequence[Bins],
    parents: Parents,
    tables: Sequence[Floats],
    codes: Codes,
    allowed: Allowed,
    rng: np.random.Generator,
) -> Codes:
    """Draw the codes that are not known (-1), given those that are, of the allowed ones."""
    if not len(codes) or not bins:
        return codes.copy()
    known, asked = binned(bins, codes), likely(bins, codes, allowed)
    drawn = exact.complete(parents, tuple(tables), known, asked, rng)
    whole = codes.copy()
    for j, own in enumerate(bins):
        rows = np.flatnonzero(codes[:, j] < 0)
        if rows.size:
            whole[rows, j] = own.draw(drawn[rows, j], rng, allowed.get(j))
    return whole


def binned(bins: Sequence[Bins], codes: Codes) -> Ints:
    """Return the bins of codes, -1 where they are not known."""
    return np.stack([np.append(b.of, -1)[codes[:, j]] for j, b in enumerate(bins)], axis=1)


def likely(bins: Sequence[Bins], codes: Codes, allowed: Allowed) -> dict[int, Floats]:
    """Return the share of each bin that is allowed, of columns that are asked for.

    Raises ConditionError where nothing is.
    """
    asked = {j for j in allowed if (codes[:, j] < 0).any()}
    found = {j: bins[j].likely(allowed[j]) for j in asked}
    if any(not weight.sum() > 0 for weight in found.values()):
        raise ConditionError("no value is possible", "one or more", "loosen a condition")
    return found


def saved(
    bins: Sequence[Bins], parents: Parents, tables: Sequence[Floats]
) -> dict[str, NDArray[Any]]:
    """Return the arrays that all three are rebuilt from."""
    found: dict[str, NDArray[Any]] = {}
    for j, (own, above, table) in enumerate(zip(bins, parents, tables, strict=True)):
        parts = {**own.arrays(), "parents": np.array(above, np.int64), "table": table}
        found |= {f"{j}/{name}": array for name, array in parts.items()}
    return found


def restored(
    arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int] | Ints
) -> tuple[tuple[Bins, ...], Parents, tuple[Floats, ...]]:
    """Rebuild bins of columns of so many codes, parents and tables. Raises ValueError for none."""
    bins = tuple(
        Bins.restore({part: arrays[f"{j}/{part}"] for part in ("bin", "share")}, int(size))
        for j, size in enumerate(sizes)
    )
    return bins, *search.restored(arrays, np.array([b.size for b in bins], np.int64))
