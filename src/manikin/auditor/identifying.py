"""Columns that name, number or locate a person: told by their names and by their cells' patterns.

Patterns run in the engine of polars, which is linear in the length of a cell whatever it holds,
on at most `CELLS` different cells a column, each cut at `WIDTH` characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import Finding, listed
from manikin.auditor.sight import Sight
from manikin.auditor.vocabulary import IDENTIFYING, topics_of
from manikin.data.schema import Column
from manikin.privacy.cells import SMALLEST_CELL

if TYPE_CHECKING:
    import polars

__all__ = ["identifying", "looks_like_data"]

CELLS, WIDTH = 20_000, 400
MOST = 0.5  # share of a column's different cells from which it is said to hold a pattern


@dataclass(frozen=True)
class Pattern:
    """What cells of a kind look like; `inside` also finds it within longer text."""

    topic: str
    whole: str
    inside: str = ""
    checksum: str = ""  # name of a check that most cells must pass


_EMAIL = r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,5}"
_PHONE = r"(?:\+|00)\d{1,3}[ .\-/]?\(?\d{1,5}\)?(?:[ .\-/]?\d{2,4}){2,4}"
_US_PHONE = r"\(?\d{3}\)?[ .\-]\d{3}[ .\-]\d{4}"
_TITLE = r"\b(?:Mr|Mrs|Ms|Dr|Prof|Herr|Frau|Mme|Sr|Sra|Sig|Sig\.ra|Dhr|Mevr)\.? [A-Z][a-z]{2,}"
_UK_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
PATTERNS = (
    Pattern("an e-mail address", _EMAIL, _EMAIL),
    Pattern(
        "a telephone number",
        f"{_PHONE}|{_US_PHONE}",
        rf"(?:^|[^\w+])(?:{_PHONE}|{_US_PHONE})(?:\W|$)",
    ),
    Pattern("a national identity number", r"\d{3}-\d{2}-\d{4}", r"\b\d{3}-\d{2}-\d{4}\b"),
    Pattern("a national identity number", r"\d{3} ?\d{3} ?\d{4}", checksum="nhs"),
    Pattern("a national identity number", r"[12] ?\d{2} ?[01]\d ?[\dAB]{2} ?\d{3} ?\d{3} ?\d{2}"),
    Pattern("a national identity number", r"(?:\d{6}|\d{8})[-+A]\d{3}[\dA-Z]"),
    Pattern("a national identity number", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"),
    Pattern("a national identity number", r"(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z]"),
    Pattern("a national identity number", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    Pattern("a national identity number", r"[A-Z]\d{9}", checksum="kvnr"),
    Pattern("a postcode", _UK_POSTCODE),
    Pattern("a postcode", r"\d{5}-\d{4}"),
    Pattern("a postcode", r"[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d"),
    Pattern("a device or account number", r"(?:\d{4}[ \-]?){3}\d{1,7}", checksum="luhn"),
    Pattern(
        "a device or account number", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?"
    ),
    Pattern("a device or account number", r"\d{1,3}(?:\.\d{1,3}){3}"),
    Pattern("a device or account number", r"(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}"),
    Pattern("a device or account number", r"https?://\S{3,300}", r"https?://\S{3,300}"),
    Pattern(
        "a patient or record number",
        r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?i:MRN|PAT|PID)[ :#\-]?\d{4,12}",
        r"(?i:\b(?:MRN|NHS|PID)(?: ?(?:no|nr))?[ .:#\-]{0,3}\d{4,12})",
    ),
    Pattern(
        "a person's name",
        r"\p{Lu}[\p{L}'’\-]{1,30},? \p{Lu}(?:\.|[\p{L}'’\-]{1,30})(?: \p{Lu}[\p{L}'’\-]{1,30})?",
        _TITLE,
    ),
)

_MAY_BE_NAME = 0.8  # so much of the cells must look like names …
_NAMES_AT_LEAST = 30
_NAMES_DIFFER = 0.5  # … and so much of them be different, or they are labels


def identifying(sight: Sight) -> list[Finding]:
    """Find the columns that identify people, and say which of them a generator would learn."""
    learned: dict[str, list[str]] = {}
    aside: dict[str, list[str]] = {}
    within: dict[str, list[str]] = {}
    for column in sight.table.schema:
        named = topics_of(column.name, IDENTIFYING)
        cells = sight.text(column.name)
        whole, inside = _patterns(column, cells) if cells is not None else ([], [])
        topics = list(dict.fromkeys([*_believed(sight, column, named), *whole]))
        for topic in topics[:1]:
            (learned if column.is_learned else aside).setdefault(topic, []).append(column.name)
        for topic in [] if whole else inside:
            within.setdefault(topic, []).append(column.name)
        if not topics and not column.is_learned:
            topic = "free text" if column.kind == "text" else "an identifier"
            aside.setdefault(topic, []).append(column.name)
    found = [_learned(topic, names) for topic, names in learned.items()]
    found += [_within(topic, names) for topic, names in within.items()]
    return found + [_aside(topic, names) for topic, names in aside.items()]


_OF_NUMBERS = ("a patient or record number", "a national identity number", "a telephone number",
               "a device or account number", "a postcode")  # fmt: skip


def _believed(sight: Sight, column: Column, named: list[str]) -> list[str]:
    """Return those topics of a column's name that its kind and its cells do not refute."""
    if column.kind == "boolean" or not named:
        return []
    if column.kind == "continuous":  # coordinates have decimals; numbers of people have none
        return [topic for topic in named if topic == "an address"]
    if column.kind == "datetime":
        return [topic for topic in named if topic == "a date of birth"]
    if column.kind == "integer":
        kept = [topic for topic in named if topic in _OF_NUMBERS]
        return kept if sight.codes(column).max(initial=-1) >= 0.1 * sight.n_subjects else []
    if column.is_coded:
        if len(column.categories) < SMALLEST_CELL:
            return []  # "phone: yes/no/unknown" identifies nobody
        return [topic for topic in named if topic != "free text"]  # what repeats is a label
    return named


def _patterns(column: Column, cells: polars.Series) -> tuple[list[str], list[str]]:
    """Return topics that most cells of a column match whole, and those some cells hold inside."""
    if column.kind in ("continuous", "boolean", "datetime") or not cells.len():
        return [], []
    distinct = cells.unique()
    if distinct.len() < SMALLEST_CELL:
        return [], []
    repeated = distinct.len() / cells.len()
    distinct = distinct.head(CELLS).str.slice(0, WIDTH)
    whole, inside = [], []
    for pattern in PATTERNS:
        wanted = _MAY_BE_NAME if pattern.topic == "a person's name" else MOST
        if pattern.topic == "a person's name" and (
            repeated < _NAMES_DIFFER or distinct.len() < _NAMES_AT_LEAST
        ):
            continue
        matching = distinct.filter(distinct.str.contains(f"^(?:{pattern.whole})$"))
        share = matching.len() / distinct.len()
        if share >= wanted and _passes(pattern.checksum, matching):
            whole.append(pattern.topic)
        elif pattern.inside and distinct.str.contains(pattern.inside).any():
            inside.append(pattern.topic)
    return list(dict.fromkeys(whole)), list(dict.fromkeys(t for t in inside if t not in whole))


def _passes(checksum: str, cells: polars.Series) -> bool:
    """Whether nearly all cells pass a check digit's test; chance alone passes one in ten."""
    if not checksum:
        return True
    digits = cells.str.replace_all(r"[^0-9A-Z]", "")
    if checksum == "kvnr":  # the letter counts as two digits
        letters = digits.str.slice(0, 1).to_numpy().astype("U1").view(np.uint32) - ord("A") + 1
        numbers = np.column_stack([letters // 10, letters % 10, _digits(digits.str.slice(1), 9)])
        return bool((_luhn_sum(numbers[:, :-1], first=1) == numbers[:, -1]).mean() > 0.9)
    widths = digits.str.len_chars()
    width = int(widths.mode().to_list()[0])
    numbers = _digits(digits.filter(widths == width), width)
    if checksum == "nhs":
        check = 11 - (numbers[:, :9] * np.arange(10, 1, -1)).sum(axis=1) % 11
        return bool((check % 11 == numbers[:, 9]).mean() > 0.9)
    first = 2 if (width - 1) % 2 else 1  # the digit before the check digit counts double
    return bool(((_luhn_sum(numbers[:, :-1], first=first) + numbers[:, -1]) % 10 == 0).mean() > 0.9)


def _digits(texts: polars.Series, width: int) -> NDArray[np.int64]:
    """Return the digits of texts of one width, (rows, width)."""
    characters = texts.to_numpy().astype(f"U{width}")
    return characters.view(np.uint32).reshape(-1, width).astype(np.int64) - ord("0")


def _luhn_sum(numbers: NDArray[np.int64], *, first: int) -> NDArray[np.int64]:
    """Return the digit sum modulo 10 with weights first, 3 - first, first, …, (rows,)."""
    weights = np.where(np.arange(numbers.shape[1]) % 2 == 0, first, 3 - first)
    products = numbers * weights
    return np.asarray((products // 10 + products % 10).sum(axis=1) % 10)


def looks_like_data(names: list[str]) -> bool:
    """Whether a table's column names look like cells: the first line was no header."""
    import polars as pl

    texts = pl.Series(names, dtype=pl.String).str.strip_chars()
    cell = rf"^(?:[-+]?\d+(?:[.,]\d+)?|\d{{1,4}}[-./]\d{{1,2}}[-./]\d{{1,4}}|{_EMAIL})$"
    return bool(texts.str.contains(cell).mean() >= 0.5) if names else False  # type: ignore[operator]


def _learned(topic: str, names: list[str]) -> Finding:
    a_place_or_date = topic in ("a postcode", "a date of birth", "an address")
    return Finding(
        "warn" if a_place_or_date else "stop",
        "identifying",
        tuple(names),
        f"{listed(names)} seem{'s' if len(names) == 1 else ''} to hold {topic}, and would be"
        " learned and generated as an ordinary column",
        (
            "coarsen it before use (age or year instead of a date of birth, the first digits of a"
            " postcode), or leave it out"
            if a_place_or_date
            else "leave the column out, or set its kind to 'identifier' in the schema file so that"
            " new values are made up; if it holds nothing of the kind, ignore this"
        ),
    )


def _within(topic: str, names: list[str]) -> Finding:
    return Finding(
        "warn",
        "identifying",
        tuple(names),
        f"some cells of {listed(names)} contain {topic}",
        "remove the column or clean its cells; free text is never generated, so that it does not"
        " reach a release, but the source file itself needs care",
    )


def _aside(topic: str, names: list[str]) -> Finding:
    return Finding(
        "note",
        "identifying",
        tuple(names),
        f"{listed(names)} seem{'s' if len(names) == 1 else ''} to hold {topic}: set aside,"
        " never learned",
        "nothing to do: identifiers are made up anew and free text is left empty; if the column"
        " should be learned, give its kind in the schema file",
    )
