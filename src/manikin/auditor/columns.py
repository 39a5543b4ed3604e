"""Each column by itself: its profile, and what is constant, mixed, rare or oddly coded in it."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import (
    ColumnProfile,
    Finding,
    listed,
    share_said,
    shown_share,
)
from manikin.auditor.sight import Sight
from manikin.data.schema import Column
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["constant", "dates", "mixed", "odd_codes", "profiles", "rare_levels", "renamed"]

NUMBER = r"^[-+]?\d{1,15}(?:[.,]\d{1,15})?$"
CODE = r"^[A-Za-z]{1,3}\d{1,5}(?:\.\d{1,4})?$"
CODES_OF_NOTHING = (
    -1,
    -7,
    -8,
    -9,
    -99,
    -999,
    -9999,
    9,
    88,
    98,
    99,
    777,
    888,
    998,
    999,
    9999,
    99999,
)


def profiles(sight: Sight) -> tuple[ColumnProfile, ...]:
    """Describe every column within the small-cell rule."""
    return tuple(_profile(sight, column) for column in sight.table.schema)


def _profile(sight: Sight, column: Column) -> ColumnProfile:
    n_rows = sight.table.n_rows
    missing = _missing(sight, column)
    levels = rare = None
    if column.is_coded:
        counts = _level_counts(sight, column)
        levels = int((counts > 0).sum())
        rare = int(((counts > 0) & (counts < SMALLEST_CELL)).sum())
    return ColumnProfile(
        column.name,
        column.kind,
        tuple(column.roles),
        column.reason,
        share_said(missing, n_rows) if missing >= 0 else "not read",
        shown_share(missing, n_rows) if missing >= 0 else None,
        levels,
        rare,
        _span(sight, column),
    )


def _missing(sight: Sight, column: Column) -> int:
    """Return the number of rows without a value, or -1 for a column set aside and not at hand."""
    if column.is_learned:
        return int((~sight.table.present(column.name)).sum())
    cells = sight.text(column.name)
    if cells is None:
        return -1
    return sight.table.n_rows - int((~cells.is_in([*column.missing, ""])).sum())


def _level_counts(sight: Sight, column: Column) -> NDArray[np.int64]:
    codes = sight.table.columns[column.name]
    return sight.subjects_by_code(codes, max(len(column.categories), 1))


def _span(sight: Sight, column: Column) -> str:
    """Say the years within which most dates lie, with 11 subjects or more on either side."""
    if column.kind != "datetime":
        return ""
    seconds = sight.table.numbers(column.name)
    seconds = seconds[~np.isnan(seconds)]
    for tail in (0.05, 0.25):
        if tail * min(seconds.size, sight.n_subjects) >= SMALLEST_CELL:
            low, high = np.quantile(seconds, [tail, 1 - tail])
            years = [int(year) for year in 1970 + np.array([low, high]) / (365.2425 * 86400)]
            return f"most of it in {years[0]} to {years[1]}"
    return ""


def constant(sight: Sight) -> list[Finding]:
    """Find columns without a value, with one value, and with hardly any other."""
    empty, single, nearly = [], [], []
    for column in sight.table.schema.learned:
        codes = sight.codes(column)
        held = np.bincount(codes[codes >= 0])
        held = held[held > 0]
        if held.size == 0:
            empty.append(column.name)
        elif held.size == 1:
            single.append(column.name)
        elif held.max() >= 0.99 * held.sum() and held.sum() >= 100 and "event" not in column.roles:
            nearly.append(column.name)
    found = []
    if empty:
        found.append(_finding("note", "constant", empty, "no value in any row", "drop, or ignore"))
    if single:
        said, todo = "the same value in every row that has one", "drop: it carries no information"
        found.append(_finding("note", "constant", single, said, todo))
    if nearly:
        said = "the same value in 99 % of rows or more"
        todo = "check that the rest are no typing errors; so few rows say little about it"
        found.append(_finding("note", "constant", nearly, said, todo))
    return found


def rare_levels(sight: Sight) -> list[Finding]:
    """Find categories held by fewer than 11 subjects: a person may be known by them."""
    found, long = [], []
    for column in sight.table.schema.learned:
        if not column.is_coded:
            continue
        counts = _level_counts(sight, column)
        if (counts[counts > 0] < SMALLEST_CELL).any():
            found.append(column.name)
        if (counts > 0).sum() > max(50, sight.n_subjects / 20):
            long.append(column.name)
    told = []
    if found:
        said = f"categories held by fewer than {SMALLEST_CELL} subjects each"
        todo = (
            "merge them into wider ones (a code's chapter, 'other') where the analysis allows;"
            " synthesizers protect rare levels, so some will be missing from the result"
        )
        told.append(_finding("warn", "rare levels", found, said, todo))
    if long:
        said = "more categories than this number of subjects can tell about"
        todo = "use a coarser code, or declare the column as 'text' to leave it out"
        told.append(_finding("warn", "rare levels", long, said, todo))
    return told


def mixed(sight: Sight) -> list[Finding]:
    """Find columns in which numbers and other text stand side by side."""
    special, both = [], []
    for column in sight.table.schema:
        if column.special:
            special.append(column.name)
        elif column.kind in ("categorical", "ordinal", "text"):
            cells = sight.text(column.name)
            if cells is None or cells.len() < 20:
                continue
            others = cells.filter(~cells.str.contains(NUMBER))
            codes = int(others.str.contains(CODE).sum())  # V45, E11.9 beside 250.8
            if 0 < others.len() <= 0.5 * cells.len() and cells.n_unique() > SMALLEST_CELL > codes:
                both.append(column.name)
    found = []
    if special:
        said = "numbers and marks that are no number, such as a detection limit"
        todo = "nothing to do: the marks are kept and generated as such"
        found.append(_finding("note", "mixed cells", special, said, todo))
    if both:
        said = "mostly numbers, but read as text because some cells are none"
        todo = (
            "correct those cells, or list their spellings under 'missing' or 'special' of the"
            " column in the schema file and set its kind to 'continuous'"
        )
        found.append(_finding("warn", "mixed cells", both, said, todo))
    return found


def renamed(sight: Sight) -> list[Finding]:
    """Find columns that were named by the reader, their own names being empty or taken."""
    if not sight.renamed:
        return []
    said = "no name of their own in the source: it is empty, or another column has it"
    todo = "name them there, or what is meant by each will have to be guessed from their order"
    return [_finding("warn", "header", list(sight.renamed), said, todo)]


def odd_codes(sight: Sight) -> list[Finding]:
    """Find what may stand for "no value": 999, -1, zeros far from all others, 99 among words."""
    codes, zeros, labels = [], [], []
    for column in sight.table.schema.learned:
        if column.kind in ("categorical", "ordinal") and _odd_label(column.categories):
            labels.append(column.name)
        if column.kind not in ("continuous", "integer") or "event" in column.roles:
            continue
        values = sight.table.columns[column.name]
        values = values[~np.isnan(values)]
        distinct, counts = np.unique(values, return_counts=True)
        if distinct.size < SMALLEST_CELL:
            continue
        if any(_apart(distinct, counts, end) for end in (0, -1)):
            codes.append(column.name)
        elif distinct[0] == 0 and counts[0] >= SMALLEST_CELL:
            others = np.repeat(distinct[1:], counts[1:])
            low, middle = np.quantile(others, [0.005, 0.5])
            step = np.diff(distinct[1:]).min()
            if low > max(0.25 * middle, 4 * step):  # a count may be 0, 1, 2 …
                zeros.append(column.name)
    found = []
    if codes:
        said = "a value far from all others that is often written for 'not known' (such as 999)"
        todo = "if it means that, list it under 'missing' of the column in the schema file"
        found.append(_finding("warn", "missing", codes, said, todo))
    if zeros:
        said = "zeros, although no other value is anywhere near zero"
        todo = "if zero means 'not measured', list \"0\" under 'missing' in the schema file"
        found.append(_finding("warn", "missing", zeros, said, todo))
    if labels:
        said = "a number among words, of those often written for 'not known' (such as 99)"
        todo = "if it means that, list it under 'missing' of the column in the schema file"
        found.append(_finding("warn", "missing", labels, said, todo))
    return found


def _odd_label(labels: tuple[str, ...]) -> bool:
    """Whether the only number among at least two words is a code of nothing."""
    numbers = [label for label in labels if re.match(NUMBER, label.strip())]
    if len(numbers) != 1 or len(labels) < 3:
        return False
    return float(numbers[0].replace(",", ".")) in CODES_OF_NOTHING


def _apart(distinct: NDArray[np.float64], counts: NDArray[np.int64], end: int) -> bool:
    """Whether the lowest (0) or highest (-1) value is a code of nothing, frequent and far off."""
    value = distinct[end]
    if counts[end] < SMALLEST_CELL or value not in CODES_OF_NOTHING:
        return False
    others = distinct[1:] if end == 0 else distinct[:-1]
    nearest = others[0] if end == 0 else others[-1]
    spread = float(others[-1] - others[0])
    return bool(abs(value - nearest) > max(0.25 * spread, 1.0) or (value < 0 <= nearest))


def dates(sight: Sight) -> list[Finding]:
    """Find dates that cannot be: in the future, or before anybody alive was born."""
    future, ancient = [], []
    now = float(np.datetime64("now", "s").astype(np.int64)) + 86400
    for column in sight.table.schema.learned:
        if column.kind == "datetime":
            seconds = sight.table.numbers(column.name)
            if (seconds > now).any():
                future.append(column.name)
            if (seconds < -85 * 365.2425 * 86400).any():  # 1885
                ancient.append(column.name)
    found = []
    if future:
        said, todo = "dates in the future", "expected in de-identified data; else correct them"
        found.append(_finding("note", "dates", future, said, todo))
    if ancient:
        said = "dates before 1885"
        todo = "often a placeholder for 'not known': list it under 'missing' in the schema file"
        found.append(_finding("warn", "dates", ancient, said, todo))
    return found


def _finding(severity: str, topic: str, names: list[str], said: str, todo: str) -> Finding:
    verb = "has" if len(names) == 1 else "have"
    sentence = f"{listed(names)} {verb} {said}"
    return Finding(severity, topic, tuple(names), sentence, todo)  # type: ignore[arg-type]
