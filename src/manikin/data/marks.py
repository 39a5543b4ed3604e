"""Marks of "no value": which cells of a column stand for nothing, judged from all its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import NUMBER, read_numbers

if TYPE_CHECKING:
    import polars

__all__ = ["missing_marks", "sentinels", "share_of_numbers"]

# in any column, however it is capitalised
ALWAYS = ("", "na", "n/a", "nan", "null", "?", ".", "-", "--", "#n/a", "<na>", "nat", "(null)",
          "n.a.", "missing", "not available", "k.a.", "k. a.", "keine angabe",
          "fehlend")  # fmt: skip
# beside numbers and dates only: among words these may be an answer
BESIDE_NUMBERS = ("unbekannt", "unbek.", "nicht bekannt", "nicht erhoben", "n.e.", "inconnu",
                  "inconnue", "non connu", "desconocido", "desconocida", "sconosciuto", "n.d.",
                  "onbekend", "okänd", "okänt", "ukjent", "ukendt", "tuntematon", "nieznany",
                  "неизвестно", "不明", "未知", "none", "unknown", "unk", "nk", "not known",
                  "not recorded", "not done", "nd",
                  "undefined", "#value!", "#div/0!", "#ref!", "0000-00-00", "9999-12-31",
                  "9999-12-31 00:00:00", "0000-00-00 00:00:00")  # fmt: skip
EXACT = ("None", "NONE")  # as Python writes it
SENTINELS = (-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0, 999999.0)


def missing_marks(text: polars.Series, mostly_values: bool) -> NDArray[np.bool_]:
    """Return which of a column's different cells are marks of "no value", (different,).

    `mostly_values`: the other cells are numbers or dates, so words beside them are no answers.
    """
    import polars as pl

    plain = text.str.strip_chars().str.to_lowercase()
    found = plain.is_in(list(ALWAYS)) | text.is_in(list(EXACT))
    if mostly_values:
        found = found | plain.is_in(list(BESIDE_NUMBERS))
    signs = text.str.contains(r"^[+-]+$")
    if signs.sum() > 1:  # a dipstick's - + ++ are readings
        found = found & ~signs
    return found.cast(pl.Boolean).to_numpy()


def share_of_numbers(text: polars.Series, counts: NDArray[Any]) -> float:
    """Return the share of cells that are numbers."""
    numbers = text.str.strip_chars().str.contains(NUMBER).to_numpy()
    return float(counts[numbers].sum() / max(counts.sum(), 1))


def sentinels(text: polars.Series, counts: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which numbers stand for "no value": -99 or 999 far outside all the others.

    A sentinel must occur more than once, be the only such number on its side of zero's scale,
    and lie farther from the others than twice their whole range (or be the only negative one).
    """
    values = read_numbers(text)
    found = np.isin(values, SENTINELS) & (counts >= 2)
    rest = values[~found]
    if not found.any() or rest.size < 3:
        return np.zeros(values.shape, dtype=bool)
    low, high = float(rest.min()), float(rest.max())
    span = max(high - low, 1.0)
    below = (values < 0) & ((low >= 0) | (values < low - 2 * span))
    above = (values > 0) & (values > high + 2 * span)
    return np.asarray(found & (below | above))
