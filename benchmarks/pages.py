"""Pages that several commands write: each its own parts, and within a part its own rows.

A part stands between two marks. What a run did not measure stays as an earlier run left it: other
parts, rows of the same table, and in a kept row the cells whose columns are still there. So the
page is the store of its figures, and every row says when it was measured.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Rows", "put_table", "put_text"]

Rows = Mapping[str, Mapping[str, str]]
"""What a row is called → title of a column → its cell."""


def put_table(
    page: Path, part: str, under: str, above: str, columns: Sequence[str], rows: Rows, *,
    first: Sequence[str] = (), last: Sequence[str] = (),
) -> None:  # fmt: skip
    """Put rows into the table of a part, and `above` anew before it.

    A row that is there already is replaced, others stay; rows that `first` and `last` name stand
    there in that order, others between them as they stood.
    """
    with _held(page):
        kept = {**_rows(_found(page, part)), **rows}
        between = [name for name in kept if name not in {*first, *last}]
        names = [name for name in (*first, *between, *last) if name in kept]
        head = "| | " + " | ".join(columns) + " |"
        lines = [head, "|---" * (len(columns) + 1) + "|"]
        for name in names:
            cells = (kept[name].get(column, "") for column in columns)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        _write(page, part, under, "\n".join([above, "", *lines]))


def put_text(page: Path, part: str, under: str, text: str) -> None:
    """Put text into a part; a part that is not there yet comes last under its heading."""
    with _held(page):
        _write(page, part, under, text)


def _marks(part: str) -> tuple[str, str]:
    return f"<!-- {part} -->", f"<!-- {part}: end -->"


def _found(page: Path, part: str) -> str:
    start, end = _marks(part)
    return page.read_text("utf-8").partition(start)[2].partition(end)[0]


def _rows(text: str) -> dict[str, dict[str, str]]:
    """Return the rows of the first table of a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    if len(lines) < 2:
        return {}
    titles, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return {row[0]: dict(zip(titles[1:], row[1:], strict=True)) for row in rows[1:]}


def _write(page: Path, part: str, under: str, text: str) -> None:
    start, end = _marks(part)
    whole = page.read_text("utf-8")
    body = f"{start}\n\n{text.strip()}\n\n{end}"
    if start in whole:
        before, _, rest = whole.partition(start)
        whole = before + body + rest.partition(end)[2]
    else:
        if f"\n{under}\n" not in whole:
            whole = f"{whole.rstrip()}\n\n{under}\n"
        before, _, rest = whole.partition(f"\n{under}\n")
        own, mark, others = rest.partition("\n## ")
        own = "\n\n".join(text for text in (own.strip(), body) if text)
        whole = f"{before}\n{under}\n\n{own}\n{mark}{others}"
    aside = page.with_suffix(".part")
    aside.write_text(whole, encoding="utf-8")
    aside.replace(page)


@contextmanager
def _held(page: Path) -> Iterator[None]:
    """Hold the page's folder, so that two commands at once lose nothing of each other."""
    folder = os.open(page.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
