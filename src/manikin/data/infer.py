"""What a frame's columns are, with reasons a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manikin.data.schema import TableSchema

if TYPE_CHECKING:
    import polars


def infer_schema(frame: polars.DataFrame) -> TableSchema:
    """Infer the schema of a frame."""
    raise NotImplementedError
