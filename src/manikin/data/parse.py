"""From cells to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manikin.data.schema import TableSchema

if TYPE_CHECKING:
    import polars

    from manikin.data.table import Table


def parse(frame: polars.DataFrame, schema: TableSchema) -> Table:
    """Read the cells of `frame` as `schema` says."""
    raise NotImplementedError
