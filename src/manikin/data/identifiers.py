"""Identifiers: what shape they have in the source, and new ones of that shape that are nobody's.

A template spells a shape: `9` a digit, `A` and `a` a letter, a backslash before any of these for
the character itself, all else as it stands; `{uuid}`, `{UUID}` and `{hex:32}` for those. New
identifiers count upwards in the longest run of digits, which gets one more digit than any in the
source (or, without digits, one more letter), so no new one can equal a real one. UUIDs are of
version 8 (RFC 9562, "custom"), which no common generator writes; they and hexadecimal keys come
from the counter through BLAKE2b.
"""

from __future__ import annotations

import hashlib
import re
import string
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars

__all__ = ["find_template", "make_identifiers"]

_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_RUN = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|[^0-9A-Za-z]+")
_TOKEN = re.compile(r"\\.|9+|A+|a+|[^\\9Aa]+", re.DOTALL)
_UNKNOWN = "{hex:32}"
_FILL = {"9": "0", "A": "X", "a": "x"}  # in runs that do not count


def find_template(text: polars.Series) -> str:
    """Return the template that these different identifiers share."""
    import polars as pl

    if len(text) == 0:
        return _UNKNOWN
    if text.str.contains(_UUID).all():
        return "{UUID}" if text.str.contains("[A-F]").any() else "{uuid}"
    if text.str.contains("^[^@ ]+@[^@ ]+$").all():
        return _literal("id") + "9999@" + _literal("example.invalid")  # nobody's: RFC 6761
    lengths = text.str.len_chars()
    hexadecimal = bool(text.str.contains("^[0-9a-f]+$").all()) and bool(
        text.str.contains("[a-f]").any()
    )
    if hexadecimal and lengths.n_unique() == 1 and int(lengths[0]) >= 16:
        return f"{{hex:{lengths[0]}}}"
    shapes = text.str.replace_all("[0-9]+", "9").str.replace_all("[A-Z]+", "A")
    shapes = shapes.str.replace_all("[a-z]+", "a")
    if shapes.n_unique() == 1:
        return _shared(text)
    longest = int(text.str.len_bytes().max())  # type: ignore[arg-type]
    mostly_digits = text.str.count_matches("[0-9]").sum() * 2 > text.str.len_bytes().sum()
    if text.cast(pl.Int64, strict=False).null_count() == 0 or mostly_digits:
        return "9" * longest
    return "A" * min(longest, 12) if longest <= 12 else _UNKNOWN


def _shared(text: polars.Series) -> str:
    """Return the template of identifiers whose runs of digits and letters alternate alike."""
    runs = _RUN.findall(str(text[0]))
    pattern = "^" + "".join(f"({_class_of(run)})" for run in runs) + "$"
    parts = []
    for i, run in enumerate(runs):
        found = text.str.extract(pattern, i + 1)
        longest = int(found.str.len_bytes().max() or 0)  # type: ignore[arg-type]
        if run[0] in string.digits:
            parts.append("9" * longest)
        elif found.n_unique() == 1:
            parts.append(_literal(run))
        elif run[0].isascii() and run[0].isalpha():
            parts.append(("A" if run[0].isupper() else "a") * longest)
        else:
            parts.append(_literal("-"))
    return "".join(parts)


def _class_of(run: str) -> str:
    if run[0] in string.digits:
        return "[0-9]+"
    if run[0] in string.ascii_uppercase:
        return "[A-Z]+"
    return "[a-z]+" if run[0] in string.ascii_lowercase else "[^0-9A-Za-z]+"


def _literal(text: str) -> str:
    return re.sub(r"([\\9Aa{])", r"\\\1", text)


def make_identifiers(template: str | None, numbers: NDArray[np.int64]) -> polars.Series:
    """Return the identifier of each number (≥ 0), as text, (rows,)."""
    import polars as pl

    template = template or _UNKNOWN
    if template.lower() == "{uuid}" or re.fullmatch(r"\{hex:\d+\}", template):
        different, where = np.unique(numbers, return_inverse=True)
        made = pl.Series([_hashed(template, int(number)) for number in different], dtype=pl.String)
        return made.gather(where)
    tokens = _TOKEN.findall(template)
    digits = [i for i, token in enumerate(tokens) if token[0] == "9"]
    letters = [i for i, token in enumerate(tokens) if token[0] in "Aa"]
    counter = max(digits or letters, key=lambda i: (len(tokens[i]), i), default=None)
    made = pl.Series([""]).new_from_index(0, len(numbers))
    for i, token in enumerate(tokens):
        made = made + (_counted(token, numbers) if i == counter else _filler(token))
    if counter is None:  # a constant: lengthen it by a number
        made = made + "-" + pl.Series(numbers).cast(pl.String)
    return made


def _counted(token: str, numbers: NDArray[np.int64]) -> polars.Series:
    """Count upwards with one more digit (or letter) than the token has."""
    import polars as pl

    if token[0] == "9" and len(token) < 18:
        return pl.Series(numbers + 10 ** len(token)).cast(pl.String)
    if token[0] == "9":
        return "1" + pl.Series(numbers).cast(pl.String).str.zfill(len(token))
    alphabet = string.ascii_uppercase if token[0] == "A" else string.ascii_lowercase
    width = max(len(token) + 1, 5)  # 26^5 rows at least
    letters = np.array(list(alphabet))
    places = [letters[(numbers // 26**power) % 26] for power in reversed(range(min(width, 13)))]
    made = pl.Series([alphabet[0] * max(width - 13, 0)]).new_from_index(0, len(numbers))
    for place in places:
        made = made + pl.Series(place)
    return made


def _filler(token: str) -> str:
    if token[0] == "\\":
        return token[1:]
    if token[0] in _FILL:
        return _FILL[token[0]] * len(token)
    return token


def _hashed(template: str, number: int) -> str:
    if template.startswith("{hex:"):
        size = int(template[5:-1])
        made = ""
        while len(made) < size:
            made += hashlib.blake2b(f"{number}|{len(made)}".encode(), digest_size=32).hexdigest()
        return made[:size]
    key = hashlib.blake2b(f"{number}".encode(), digest_size=16).hexdigest()
    key = (
        f"{key[:8]}-{key[8:12]}-8{key[13:16]}-{'89ab'[int(key[16], 16) % 4]}{key[17:20]}-{key[20:]}"
    )
    return key if template == "{uuid}" else key.upper()
