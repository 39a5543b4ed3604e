"""What a CDM is written into, table by table: a DuckDB database, or a folder of files.

Rows come as frames that hold any of a table's fields; the others are null. They are written on one
thread, in the order in which they come, while the next ones are laid out: the libraries beneath
hold no lock of Python's while they write. Few frames wait, so that memory stays flat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import polars as pl

from manikin.io.omop.fields import Field, created

__all__ = ["CsvFolder", "Database", "ParquetFolder", "Store", "Waiting", "dtype_of"]

MEMORY = "1GB"  # of DuckDB, which would else keep all that it wrote
MOST_WAITING = 3  # frames
_DTYPES: Mapping[str, Any] = {
    "INTEGER": pl.Int32, "BIGINT": pl.Int64, "DOUBLE PRECISION": pl.Float64, "DATE": pl.Date,
    "TIMESTAMP": pl.Datetime("us"),
}  # fmt: skip


class Store(Protocol):
    """Tables that take rows."""

    def create(self, table: str, fields: Sequence[Field]) -> None:
        """Make a table without rows."""

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Write more rows of a table; `rows` has some of its fields, of their types."""

    def commit(self) -> None:
        """Let go of what was written so far."""

    def close(self) -> None:
        """Finish the files, also after an exception."""


def dtype_of(field: Field) -> Any:
    """Return the type of a field's column in a frame."""
    return _DTYPES.get(field.type, pl.String)


class Waiting:
    """A store whose rows are written on a thread of its own, a few frames behind."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.fields: dict[str, tuple[Field, ...]] = {}
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def create(self, table: str, fields: Sequence[Field]) -> None:
        """Make a table without rows."""
        self.fields[table] = tuple(fields)
        self._later(self.store.create, table, tuple(fields))

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Write more rows of a table; columns are brought to the types of its fields."""
        if rows.height:
            dtypes = {field.name: dtype_of(field) for field in self.fields[table]}
            typed = rows.select(pl.col(name).cast(dtypes[name]) for name in rows.columns)
            self._later(self.store.insert, table, typed)

    def commit(self) -> None:
        """Wait for what is being written, and let go of it."""
        self._later(self.store.commit)
        self._wait(0)

    def close(self) -> None:
        """Finish the files, also after an exception."""
        self._thread.shutdown(cancel_futures=True)
        self.store.close()

    def _later(self, work: Callable[..., None], *arguments: Any) -> None:
        self._waiting.append(self._thread.submit(work, *arguments))
        self._wait(MOST_WAITING)

    def _wait(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft().result()


class Database:
    """A DuckDB database; what is committed is on the disk, and not in memory."""

    def __init__(self, file: Path) -> None:
        import duckdb

        self.connection = duckdb.connect(str(file))
        self.connection.execute("SET enable_progress_bar = false")
        self.connection.execute(f"SET memory_limit = '{MEMORY}'")  # pages beyond it go to the file
        self.connection.execute("BEGIN")  # a commit a block: one a statement takes far longer

    def create(self, table: str, fields: Sequence[Field]) -> None:
        """Make a table without rows."""
        self.connection.execute(created(table, fields))

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Write more rows of a table."""
        listed = ", ".join(f'"{name}"' for name in rows.columns)
        self.connection.register("given", rows)
        self.connection.execute(f"INSERT INTO {table} ({listed}) SELECT {listed} FROM given")
        self.connection.unregister("given")

    def commit(self) -> None:
        """Let DuckDB put what was written where it stays."""
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def close(self) -> None:
        """Close the file; a transaction that is open is nothing."""
        self.connection.close()


class _Folder:
    """A folder with a file for each table."""

    suffix = ""

    def __init__(self, folder: Path, *, upper: bool) -> None:
        folder.mkdir()
        self.folder, self.upper = folder, upper
        self.empty: dict[str, pl.DataFrame] = {}  # of each table

    def create(self, table: str, fields: Sequence[Field]) -> None:
        """Make a table without rows."""
        self.empty[table] = pl.DataFrame(schema={field.name: dtype_of(field) for field in fields})
        self._start(table, self.folder / ((table.upper() if self.upper else table) + self.suffix))

    def commit(self) -> None:
        """Do nothing: what was written is in its file."""

    def _whole(self, table: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with all fields of the table, in their order."""
        return rows.select(
            name if name in rows.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in self.empty[table].schema.items()
        )

    def _start(self, table: str, file: Path) -> None:
        raise NotImplementedError


class ParquetFolder(_Folder):
    """A folder of Parquet files: a row group for each block of subjects."""

    suffix = ".parquet"

    def __init__(self, folder: Path, *, upper: bool) -> None:
        super().__init__(folder, upper=upper)
        self.writers: dict[str, Any] = {}

    def _start(self, table: str, file: Path) -> None:
        from pyarrow.parquet import ParquetWriter

        empty = self.empty[table]
        texts = [name for name, dtype in empty.schema.items() if dtype == pl.String]
        # numbers hardly repeat: looking for their dictionary takes longer than writing them
        self.writers[table] = ParquetWriter(file, empty.to_arrow().schema, use_dictionary=texts)

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Write more rows of a table."""
        self.writers[table].write_table(self._whole(table, rows).to_arrow())

    def close(self) -> None:
        """Write the end of every file."""
        while self.writers:
            self.writers.popitem()[1].close()


class CsvFolder(_Folder):
    """A folder of CSV files, dates and times as ISO 8601 has them."""

    suffix = ".csv"

    def __init__(self, folder: Path, *, upper: bool) -> None:
        super().__init__(folder, upper=upper)
        self.files: dict[str, BinaryIO] = {}

    def _start(self, table: str, file: Path) -> None:
        self.files[table] = file.open("wb")
        self.empty[table].write_csv(self.files[table])

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Write more rows of a table."""
        self._whole(table, rows).write_csv(
            self.files[table], include_header=False, datetime_format="%Y-%m-%d %H:%M:%S%.f"
        )

    def close(self) -> None:
        """Close every file."""
        while self.files:
            self.files.popitem()[1].close()
