"""Parquet: typed columns in and out; long tables go through parts, so that memory stays flat."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import polars as pl

from manikin.data.table import Table
from manikin.errors import InputError
from manikin.io.bounds import check_frame, check_parquet, panics_become
from manikin.io.layout import Layout
from manikin.io.typed import with_types

__all__ = ["ParquetWriter", "read_parquet"]


def read_parquet(path: Path) -> tuple[pl.DataFrame, Layout]:
    """Read a Parquet file. Raises InputError when it is none."""

    def damaged() -> InputError:
        return InputError(
            f"'{path.name}' cannot be read as Parquet",
            "a whole Parquet file",
            "export the table again",
        )

    try:
        with panics_become(damaged):
            check_parquet(path)
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
            check_frame(frame, path.name, size=path.stat().st_size)
    except (pl.exceptions.PolarsError, ArithmeticError, LookupError, OSError, ValueError) as error:
        raise damaged() from error
    return frame, Layout(format="parquet", names=tuple(frame.columns))


class ParquetWriter:
    """Writes blocks as parts beside the file, and joins them in a stream at the end."""

    def __init__(self, file: IO[bytes], layout: Layout, folder: Path) -> None:
        self.file = file
        self.parts = tempfile.TemporaryDirectory(prefix=".manikin-parts-", dir=folder)
        self.waiting: pl.DataFrame | None = None
        self.written = 0

    def write(self, frame: pl.DataFrame, table: Table) -> None:
        """Take one more block; a single one never becomes a part."""
        typed = with_types(frame, table.schema)
        if self.waiting is not None:
            self._park(self.waiting)
        self.waiting = typed

    def size(self) -> int:
        """Return how many bytes the parts take, and again when they are joined."""
        return 2 * sum(self._part(k).stat().st_size for k in range(self.written))

    def close(self) -> None:
        """Write the file."""
        if self.waiting is None:
            pl.DataFrame().write_parquet(self.file)
        elif self.written == 0:
            self.waiting.write_parquet(self.file)
        else:
            self._park(self.waiting)
            paths = [self._part(k) for k in range(self.written)]
            pl.scan_parquet(paths).sink_parquet(self.file)

    def abandon(self) -> None:
        """Remove the parts, written or not."""
        self.parts.cleanup()

    def _park(self, frame: pl.DataFrame) -> None:
        frame.write_parquet(self._part(self.written), compression="lz4")
        self.written += 1

    def _part(self, number: int) -> Path:
        return Path(self.parts.name) / f"{number:06d}.parquet"
