"""Rows and the people behind them: duplicates, repeated subjects, and who can be singled out."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import Finding, listed, share_said, shown_share, told
from manikin.auditor.sight import Sight
from manikin.auditor.vocabulary import (
    IDENTIFYING,
    OF_OTHERS,
    QUASI,
    SENSITIVE,
    topics_of,
    words,
)
from manikin.data.schema import Column
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["coverage", "duplicated_columns", "duplicated_rows", "repeated", "singled_out"]

AGE_BANDS = (18, 40, 65, 80)


def duplicated_rows(sight: Sight) -> list[Finding]:
    """Find rows that stand in the table more than once."""
    table = sight.table
    learned = table.schema.learned
    if not learned or table.n_rows < 2:
        return []
    group = sight.combined(learned)
    extra = table.n_rows - int(group.max()) - 1
    if not extra:
        return []
    alike = "alike in every learned column"
    whole = sight.cells is not None and bool(sight.cells.is_duplicated().any())
    enough = len(learned) >= 5 or extra > 0.5 * table.n_rows
    return [
        Finding(
            "warn" if whole and enough else "note",
            "duplicates",
            (),
            f"{told(extra, 'rows')} repeat an earlier row ({alike}"
            f"{', identifiers included' if whole else ''})",
            "check whether the export doubled them, and remove them if it did: a copy on both sides"
            " of the split makes the privacy tests too kind",
        )
    ]


def duplicated_columns(sight: Sight) -> list[Finding]:
    """Find columns that hold the same as another, or the same in other words."""
    table = sight.table
    first: dict[bytes, Column] = {}
    same: list[tuple[str, str]] = []
    for column in table.schema.learned:
        codes = sight.codes(column)
        held = codes[codes >= 0]
        distinct = int((np.bincount(held) > 0).sum()) if held.size else 0
        if distinct < 2:
            continue
        if distinct > held.size // 3:  # nearly all different: compare the values themselves
            content = table.numbers(column.name).tobytes()
        else:
            content = _canonical(codes).tobytes()
        other = first.setdefault(content, column)
        if other is not column:
            same.append((other.name, column.name))
    if not same:
        return []
    names = tuple(dict.fromkeys(name for pair in same for name in pair))
    return [
        Finding(
            "note",
            "duplicated columns",
            names,
            "the same content under two names: "
            + "; ".join(f"'{a}' and '{b}'" for a, b in same[:6])
            + (f" and {len(same) - 6} more" if len(same) > 6 else ""),
            "drop one of each; they are kept equal if you do not",
        )
    ]


def repeated(sight: Sight) -> list[Finding]:
    """Find a subject identifier that repeats although no subject column was declared."""
    schema, n_rows = sight.table.schema, sight.table.n_rows
    subject = schema.holder("subject")
    if subject is not None:
        most = n_rows / max(sight.n_subjects, 1)
        if sight.n_subjects == n_rows and n_rows > 1:
            said = f"'{subject.name}' is the subject column, and each subject has one row"
            return [Finding("note", "subjects", (subject.name,), said, "nothing to do")]
        said = f"{told(n_rows, 'rows')} of {told(sight.n_subjects)}: {most:.1f} rows a subject"
        todo = "nothing to do: a subject's rows stay together in every split"
        return [Finding("note", "subjects", (subject.name,), said, todo)]
    for column in schema:
        numbered = "a patient or record number" in topics_of(column.name, IDENTIFYING)
        looks = column.kind == "identifier" or numbered or column.name.casefold() == "id"
        if not looks or OF_OTHERS & set(words(column.name)):
            continue
        cells = sight.text(column.name)
        if cells is None or cells.len() < 20:
            continue
        share = cells.n_unique() / cells.len()
        if 0.02 <= share <= 0.98:
            return [
                Finding(
                    "stop",
                    "subjects",
                    (column.name,),
                    f"'{column.name}' looks like a subject's number and repeats"
                    f" ({1 / share:.1f} rows each), but no subject column is declared",
                    f"give --subject {column.name}; otherwise rows of one person end up on both"
                    " sides of the split, and every score is too good",
                )
            ]
    return []


def singled_out(sight: Sight) -> list[Finding]:
    """Say how many subjects are unique on what an outsider may know of them."""
    schema = sight.table.schema
    chosen = [c for c in schema.holders("quasi_identifier") if c.is_learned]
    declared = bool(chosen)
    if not declared:
        guessed = [c for c in schema.learned if _known_outside(c)]
        chosen = [c for c in guessed if not {"target", "event", "time"} & set(c.roles)]
    if not chosen or sight.n_subjects < 2 * SMALLEST_CELL:
        return []
    alone = _alone(sight, chosen)
    unique, few = int((alone == 1).sum()), int((alone < 5).sum())
    names = tuple(column.name for column in chosen)
    together = " together" if len(names) > 1 else ""
    said = (
        f"on {listed(names)}{together}, {_of_subjects(unique, sight.n_subjects)} unique, and"
        f" {_of_subjects(few, sight.n_subjects)} in a group of fewer than five"
    )
    share = unique / sight.n_subjects
    if len(chosen) > 1 and share > 0.05:
        without = {c: float((_alone(sight, [d for d in chosen if d is not c]) == 1).mean())
                   for c in chosen}  # fmt: skip
        best = min(without, key=lambda column: without[column])
        lower = shown_share(round(without[best] * sight.n_subjects), sight.n_subjects)
        if lower is not None and without[best] < 0.8 * share:
            said += f"; without '{best.name}' it would be {lower:.1%}".replace("%", " %")
    kind = "declared" if declared else "guessed from their names: declare them with --quasi"
    return [
        Finding(
            "warn" if share > 0.05 else "note",
            "singling out",
            names,
            f"{said} ({kind})",
            "coarsen the finest of them (age bands, year instead of date, wider region) before the"
            " source is shared in any form; the release is tested for copies and for membership",
        )
    ]


def _known_outside(column: Column) -> bool:
    """Whether a column's name and kind speak of what an outsider may know of a person."""
    topics = set(topics_of(column.name, QUASI))
    if column.kind in ("continuous", "integer"):  # "days in hospital" is no place
        postcode = "a postcode" in topics_of(column.name, IDENTIFYING)
        return bool(topics & {"age", "birth", "family"}) or postcode
    return bool(topics)


def _of_subjects(count: int, total: int) -> str:
    share = share_said(count, total, "subjects")
    if share == "none":
        return "no subject is"
    if share == "all":
        return "all subjects are"
    return f"{share} are" if share.endswith("subjects") else f"{share} of subjects are"


def coverage(sight: Sight) -> list[Finding]:
    """Find groups of a sensitive column that are too small to be learned or judged."""
    schema = sight.table.schema
    chosen = schema.holders("sensitive") or tuple(
        c for c in schema.learned if set(topics_of(c.name, QUASI)) & set(SENSITIVE)
    )
    found = []
    for column in chosen:
        if not column.is_learned or not (column.is_coded or "age" in topics_of(column.name, QUASI)):
            continue
        labels, codes = _as_groups(sight, column)
        counts = sight.subjects_by_code(codes, len(labels))
        tiny = [i for i, n in enumerate(counts) if 0 < n < 20]
        small = [labels[i] for i, n in enumerate(counts) if 20 <= n < 50]
        if tiny:
            named = [labels[i] for i in tiny if counts[i] >= SMALLEST_CELL]
            found.append(_group_finding("warn", column.name, "20", named, len(named) < len(tiny)))
        if small:
            found.append(_group_finding("note", column.name, "50", small, False))
    return found


def _group_finding(
    severity: str, column: str, below: str, named: list[str], unnamed: bool
) -> Finding:
    which = ", ".join(f"'{name}'" for name in named)
    if unnamed:
        which += f"{' and ' if which else ''}one or more of fewer than {SMALLEST_CELL} subjects"
    return Finding(
        severity,  # type: ignore[arg-type]
        "subgroups",
        (column,),
        f"'{column}' has groups of fewer than {below} subjects: {which}",
        "the result says little about them, and no fairness can be measured there: merge them,"
        " collect more, or tell readers so",
    )


def _as_groups(sight: Sight, column: Column) -> tuple[list[str], NDArray[np.int64]]:
    """Return a column's groups by name, and the group of each row (-1: none)."""
    if column.is_coded:
        codes = sight.table.columns[column.name].astype(np.int64)
        return list(column.categories), codes
    values = sight.table.numbers(column.name)
    codes = np.searchsorted(AGE_BANDS, values, side="right").astype(np.int64)
    codes[np.isnan(values)] = -1
    edges = [f"{a} to {b - 1}" for a, b in itertools.pairwise(AGE_BANDS)]
    return [f"under {AGE_BANDS[0]}", *edges, f"{AGE_BANDS[-1]} and over"], codes


def _alone(sight: Sight, columns: list[Column]) -> NDArray[np.int64]:
    """Return how many subjects, oneself included, share each one's first row, (subjects,)."""
    group = sight.combined(columns)
    first = np.unique(sight.who, return_index=True)[1]
    _, inverse, counts = np.unique(group[first], return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse])


def _canonical(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber codes in the order in which they first appear; a missing one stays -1."""
    first = np.full(int(codes.max()) + 1, codes.size, dtype=np.int64)
    held = np.flatnonzero(codes >= 0)[::-1]
    first[codes[held]] = held  # the last assignment, of the first row, stands
    number = np.empty_like(first)
    number[np.argsort(first, kind="stable")] = np.arange(first.size)
    return np.where(codes < 0, -1, number[codes])
