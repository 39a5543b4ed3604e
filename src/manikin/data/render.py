"""From arrays back to cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars

    from manikin.data.table import Table


def render(table: Table) -> polars.DataFrame:
    """Write a table's cells as its source had them."""
    raise NotImplementedError
