"""A table in memory: one array a column, in the shapes that generators and judges work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import TableSchema
from manikin.errors import SchemaError

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """Rows of mixed type.

    `columns` holds the learned columns only, one array (rows,) a name: int32 category codes
    (-1: no value) for ordinal, categorical and boolean; float64 (NaN) for continuous and integer;
    datetime64[us] (NaT) for datetime. `states` is given for columns with several tokens (see
    `Column.tokens`): int8 (rows,), 0 where there is a value, k where the cell reads `tokens[k-1]`.
    Raises SchemaError when schema and arrays do not fit together.
    """

    schema: TableSchema
    subjects: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    states: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = [column.name for column in self.schema.learned]
        if set(expected) != set(self.columns):
            raise SchemaError(
                f"the table holds {len(self.columns)} columns",
                f"its schema says {len(expected)} learned ones",
                "build the table with the schema it was made for",
            )
        for column in self.schema.learned:
            values = self.columns[column.name]
            wanted = "iu" if column.is_coded else "M" if column.kind == "datetime" else "f"
            if values.shape != self.subjects.shape or values.dtype.kind not in wanted:
                raise SchemaError(
                    f"column '{column.name}' is {values.dtype} of shape {values.shape}",
                    f"a {column.kind} column is of type '{wanted}' and one value a row",
                    "convert the array first",
                )

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.subjects.shape[0])

    @property
    def n_subjects(self) -> int:
        """Number of different subjects."""
        return int(np.unique(self.subjects).size)

    def present(self, name: str) -> NDArray[np.bool_]:
        """Return where the column has a value, (rows,)."""
        values = self.columns[name]
        if values.dtype.kind in "iu":
            return np.asarray(values >= 0)
        return np.asarray(~np.isnat(values) if values.dtype.kind == "M" else ~np.isnan(values))

    def state(self, name: str) -> NDArray[np.int8]:
        """Return 0 where there is a value and k where the cell reads `tokens[k - 1]`, (rows,)."""
        if name in self.states:
            return self.states[name]
        return np.where(self.present(name), 0, 1).astype(np.int8)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return any column as float64, NaN for no value: codes, numbers, or seconds since 1970."""
        values = self.columns[name]
        if values.dtype.kind == "M":
            seconds = values.astype("datetime64[us]").astype(np.int64) / 1e6
            return np.where(np.isnat(values), np.nan, seconds)
        if values.dtype.kind in "iu":
            return np.where(values < 0, np.nan, values).astype(np.float64)
        return np.asarray(values, dtype=np.float64)

    def rows(self, index: NDArray[Any]) -> Table:
        """Return the rows of an integer or boolean index, with their subjects."""
        return Table(
            self.schema,
            self.subjects[index],
            {name: values[index] for name, values in self.columns.items()},
            {name: states[index] for name, states in self.states.items()},
        )

    def take(self, subjects: NDArray[np.int64]) -> Table:
        """Return every row of these subjects, in their present order."""
        return self.rows(np.flatnonzero(np.isin(self.subjects, subjects)))

    @staticmethod
    def concatenate(tables: list[Table]) -> Table:
        """Stack tables of one schema; subjects are taken as they are."""
        first = tables[0]
        names = sorted({name for table in tables for name in table.states})
        return Table(
            first.schema,
            np.concatenate([table.subjects for table in tables]),
            {n: np.concatenate([table.columns[n] for table in tables]) for n in first.columns},
            {n: np.concatenate([table.state(n) for table in tables]) for n in names},
        )

    @staticmethod
    def from_frame(frame: Any, schema: TableSchema | None = None) -> Table:
        """Build from a pandas, polars or Arrow frame, inferring the schema unless one is given.

        Raises InputError for what is no frame of cells, SchemaError when it is not the schema's.
        """
        from manikin.data.frames import to_polars
        from manikin.data.infer import infer_schema
        from manikin.data.parse import parse

        cells = to_polars(frame)
        return parse(cells, schema if schema is not None else infer_schema(cells, typed=True))

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame in the source's column order and types."""
        from manikin.data.render import render

        return render(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas frame in the source's column order and types."""
        return self.to_polars().to_pandas()
