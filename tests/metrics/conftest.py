"""Small tables for metrics, built from plain lists."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

MakeTable = Callable[..., Table]


@pytest.fixture
def make_table() -> MakeTable:
    """Texts become categories, numbers (None: no value) numbers; roles as {column: (role, …)}."""

    def make(
        *,
        subjects: list[int] | None = None,
        roles: dict[str, tuple[Any, ...]] | None = None,
        **cells: Any,
    ) -> Table:
        columns, arrays = [], {}
        for name, values in cells.items():
            held = (roles or {}).get(name, ())
            if any(isinstance(value, str) for value in values):
                levels = ("a", "b", "c", "d", "e", "f")
                arrays[name] = np.array(
                    [-1 if v is None else levels.index(v) for v in values], np.int32
                )
                columns.append(Column(name, "categorical", held, levels))
            else:
                arrays[name] = np.array([np.nan if v is None else v for v in values], dtype=float)
                columns.append(Column(name, "continuous", held, decimals=6))
        n = len(next(iter(arrays.values())))
        of = np.arange(n) if subjects is None else np.array(subjects)
        return Table(TableSchema(tuple(columns)), of.astype(np.int64), arrays)

    return make
