"""Where values are missing: how much, which columns together, and what foretells it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import Finding, listed
from manikin.auditor.sight import Sight, bins

__all__ = ["missingness"]

MUCH = 0.4  # share of missing cells from which a column is named
TOGETHER = 0.9  # correlation of two columns' gaps from which they go together
FORETOLD = 0.25  # correlation of a gap with another column from which it is said to depend on it
AT_LEAST = 20  # rows with and without a value, below which nothing is said of a pattern


def missingness(sight: Sight) -> list[Finding]:
    """Say how much is missing and whether the gaps have a pattern."""
    table = sight.table
    learned = [column.name for column in table.schema.learned]
    gaps = {name: ~table.present(name) for name in learned}
    shares = {name: float(gap.mean()) if gap.size else 0.0 for name, gap in gaps.items()}
    found = []
    much = [name for name in learned if MUCH <= shares[name] < 1]
    if much:
        found.append(
            Finding(
                "warn",
                "missing",
                tuple(much),
                f"{listed(much)} {_has(much)} no value in {MUCH:.0%} of rows or more".replace(
                    "%", " %"
                ),
                "keep if the gaps themselves matter (a test that was not ordered); else drop: the"
                " rest is learned from few rows",
            )
        )
    if table.n_rows >= 2 * AT_LEAST:
        found += _patterns(sight.sample)
    return found


def _patterns(sight: Sight) -> list[Finding]:
    table = sight.table
    gaps = {c.name: ~table.present(c.name) for c in table.schema.learned}
    partly = [n for n, gap in gaps.items() if AT_LEAST <= gap.sum() <= gap.size - AT_LEAST]
    if not partly:
        return []
    holes = np.column_stack([_standard(gaps[name].astype(float)) for name in partly])
    groups = _groups(partly, np.abs(holes.T @ holes) / table.n_rows >= TOGETHER)
    found = _together([group for group in groups if len(group) > 1])
    explained: dict[str, list[str]] = {}
    alone: list[str] = []
    for group in groups:
        hole = holes[:, partly.index(group[0])]
        cause = _cause(sight, hole, [name for name in gaps if name not in group])
        if cause:
            explained.setdefault(cause, []).extend(group)
        else:
            alone += group
    found += _foretold(explained)
    if alone:
        found.append(
            Finding(
                "note",
                "missing",
                tuple(alone),
                f"no other column foretells where {listed(alone)} {_has(alone)} no value",
                "looks missing at random; the pattern is learned all the same",
            )
        )
    return found


def _together(groups: list[list[str]]) -> list[Finding]:
    """Say which columns have their gaps in the same rows."""
    if not groups:
        return []
    return [
        Finding(
            "note",
            "missing",
            tuple(name for group in groups for name in group),
            "; ".join(f"{listed(group)} are missing in the same rows" for group in groups[:4])
            + (f"; and {len(groups) - 4} more such groups" if len(groups) > 4 else ""),
            "probably one form or one blood sample: keep them together or drop them together",
        )
    ]


def _foretold(explained: dict[str, list[str]]) -> list[Finding]:
    """Say which gaps depend on which column, {cause: names}."""
    if not explained:
        return []
    pairs = [f"{listed(names, 4)} on '{cause}'" for cause, names in explained.items()]
    more = f"; and {len(pairs) - 6} more" if len(pairs) > 6 else ""
    return [
        Finding(
            "note",
            "missing",
            tuple(dict.fromkeys(n for cause, names in explained.items() for n in (*names, cause))),
            f"where a value is missing depends on another column: {'; '.join(pairs[:6])}{more}",
            "not missing at random: keep these columns, so that the pattern is learned; an"
            " analysis of complete rows only would mislead",
        )
    ]


def _cause(sight: Sight, hole: NDArray[np.float64], others: list[str]) -> str:
    """Return the column that best foretells a gap, or '' where none does."""
    n_rows = hole.size
    best, name = max(FORETOLD, 5 / np.sqrt(n_rows)), ""
    for other in others:
        coded = bins(sight.table.numbers(other), most=8)
        size = np.bincount(coded)
        mean = np.bincount(coded, hole) / np.maximum(size, 1)
        # correlation ratio, less what so many bins explain by chance
        eta = (size * mean**2).sum() / n_rows - (np.count_nonzero(size) - 1) / n_rows
        if np.sqrt(max(eta, 0.0)) > best:
            best, name = float(np.sqrt(eta)), other
    return name


def _groups(names: list[str], joined: NDArray[np.bool_]) -> list[list[str]]:
    """Return names grouped with the first that they are joined to, (names, names) → groups."""
    left, groups = list(range(len(names))), []
    while left:
        members = [i for i in left if joined[left[0], i]] or [left[0]]
        groups.append([names[i] for i in members])
        left = [i for i in left if i not in members]
    return groups


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / values.std())


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"
