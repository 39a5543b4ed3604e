"""Several files of one table, read under one schema: train, holdout and another tool's synthetic.

Another tool may spell things its own way (1.0 for 1, NaN for an empty cell), so a schema that is
not declared is inferred from all of them at once: what any of them holds has a place in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from manikin.data.cells import as_text
from manikin.data.parse import parse
from manikin.data.schema import TableSchema
from manikin.errors import SchemaError
from manikin.io.tables import Layout, Source, open_cells, schema_of

__all__ = ["open_together"]


def open_together(
    sources: Mapping[str, Any],
    *,
    schema: TableSchema | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
) -> dict[str, Source]:
    """Return each named source; no subject is in two of them unless its name is.

    Raises SchemaError when their columns differ, naming the source.
    """
    opened = {name: open_cells(source) for name, source in sources.items()}
    frames = {name: frame for name, (frame, _) in opened.items()}
    typed = all(layout.format != "csv" for _, layout in opened.values())
    first, reference = next(iter(frames.items()))
    for name, frame in frames.items():
        if set(frame.columns) != set(reference.columns):
            lacking = sorted(set(reference.columns) - set(frame.columns))
            more = sorted(set(frame.columns) - set(reference.columns))
            raise SchemaError(
                f"the {name} table lacks {len(lacking)} columns of the {first} table"
                f" ({', '.join(lacking[:5]) or 'none'}) and has {len(more)} others"
                f" ({', '.join(more[:5]) or 'none'})",
                "the same columns in every table, in any order",
                "rename or drop columns until they agree",
            )
    ordered = [frame.select(reference.columns) for frame in frames.values()]
    if any(frame.schema != reference.schema for frame in ordered):
        typed = False
        ordered = [frame.select(as_text(frame[c]).alias(c) for c in frame.columns)
                   for frame in ordered]  # fmt: skip
    stacked = pl.concat(ordered)
    found = schema_of(
        stacked,
        schema,
        typed=typed,
        target=target,
        subject=subject,
        time=time,
        event=event,
        sensitive=sensitive,
        quasi_identifiers=quasi_identifiers,
    )
    table = parse(stacked, found)
    ends = np.cumsum([frame.height for frame in ordered])
    return {
        name: Source(table.rows(np.arange(end - frame.height, end)), Layout(), frame)
        for name, frame, end in zip(frames, ordered, ends, strict=True)
    }
