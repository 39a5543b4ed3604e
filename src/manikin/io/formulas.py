"""Which cells a spreadsheet would run as a formula when it opens a file (CWE-1236).

A cell is dangerous when it starts with = + - @ or a full-width or small form of these, whatever
blanks, control or invisible characters stand before, or with a tab or a line break. It is
harmless all the same when it can be nothing but a number, an infinity or a row of signs (+++).
The patterns are read alike by Python and by polars.
"""

from __future__ import annotations

import re

import polars as pl

from manikin.data.cells import NUMBER

__all__ = ["ESCAPED", "is_formula", "is_formula_text"]

_SIGN = r"[=+\-@＝＋－＠﹦﹢﹣﹫]"
_UNSEEN = r"[\s\x00-\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]*"
FORMULA = rf"^(?:{_UNSEEN}{_SIGN}|[\t\r\n])"
ESCAPED = rf"^'(?:{_UNSEEN}{_SIGN}|[\t\r\n])"
INFINITE = r"^[+-](?i:inf|infinity|nan)$"  # numbers to R and Python
SIGNS = r"^[+-]+$"  # findings graded + to ++++
AMOUNT = r"^[+-]\d[\d.,]*%?$"  # -1,234.50 and -5%
_HARMLESS = (NUMBER, INFINITE, SIGNS, AMOUNT)


def is_formula(text: pl.Series) -> pl.Series:
    """Return which cells would be run, (rows,) booleans; none is null."""
    found = text.str.contains(FORMULA).fill_null(False)
    if not found.any():
        return found
    bare = text.str.strip_chars(" ").fill_null("")
    for pattern in _HARMLESS:
        found = found & ~bare.str.contains(pattern)
    return found


def is_formula_text(text: str) -> bool:
    """Return whether one cell would be run."""
    if re.match(FORMULA, text) is None:
        return False
    bare = text.strip(" ")
    return not any(re.search(pattern, bare) for pattern in _HARMLESS)
