"""A CDM in the form that is wanted: as DuckDB or a folder, or copied into SQLite or PostgreSQL.

Everything is written aside: a file or a folder gets its name when it is whole, and a PostgreSQL
database sees one transaction or none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from manikin.errors import ManikinError, MissingExtra, NotSupported, OutputError
from manikin.io.omop.fields import created
from manikin.io.omop.stores import CsvFolder, Database, ParquetFolder, Waiting
from manikin.io.omop.writer import CdmWriter, filled

__all__ = ["written"]

SUFFIXES = {
    ".duckdb": "duckdb", ".ddb": "duckdb", ".sqlite": "sqlite", ".sqlite3": "sqlite",
    ".db": "sqlite",
}  # fmt: skip
BACKENDS = ("duckdb", "sqlite", "csv", "parquet", "postgresql")
BATCH = 100_000  # rows copied at a time


@contextlib.contextmanager
def written(
    out: Path | str, layout: Mapping[str, Any], synthetic: bool, ids: tuple[str, ...]
) -> Iterator[CdmWriter]:
    """Give a writer whose CDM is at `out` after the block; nothing is there after an exception."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("writing an OMOP CDM", "ehr") from error
    layout = filled(layout)
    address = out if isinstance(out, str) and "://" in out else None
    backend = "postgresql" if address else _backend(Path(out), layout)
    parent = Path(tempfile.gettempdir()) if address else Path(out).absolute().parent
    try:
        aside = Path(tempfile.mkdtemp(prefix=".manikin-omop-", dir=parent))
    except OSError as error:
        raise _failed(parent, error) from error
    try:
        store = Waiting(_store(backend, aside, upper=bool(layout["upper"])))
        try:
            writer = CdmWriter(store, layout, synthetic, ids)
            yield writer
            writer.finish()
            if backend in _EXPORTS:
                _EXPORTS[backend](store, aside / "out", address)
        finally:
            store.close()
        if address is None:
            _moved(aside / ("cdm" if backend == "duckdb" else "out"), Path(out))
    except ManikinError:
        raise
    except (OSError, duckdb.Error, sqlite3.Error) as error:
        raise _failed(out, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _backend(out: Path, layout: Mapping[str, Any]) -> str:
    """Return the form that the suffix says, else that of the layout, else DuckDB."""
    told = layout["backend"] or layout["form"]
    backend = SUFFIXES.get(out.suffix.lower()) or told or "duckdb"
    if backend == "postgresql":
        backend = "duckdb"  # a path is no address of a server
    if backend not in BACKENDS:
        raise NotSupported(
            f"an OMOP CDM cannot be written as '{backend}'",
            f"one of: {', '.join(BACKENDS)}",
            "name one of them in the layout, or by the suffix .duckdb or .sqlite",
        )
    folder = backend in ("csv", "parquet")
    if out.is_dir() and (not folder or any(out.iterdir())):
        raise OutputError(
            f"'{out.name}' is a folder that holds files",
            "a new or empty folder, or the name of a file with its suffix",
            "choose another place",
        )
    return backend


def _moved(made: Path, out: Path) -> None:
    if made.is_dir() and out.is_dir():
        out.rmdir()  # it is empty
    for path in (made, *made.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    os.replace(made, out)


def _failed(out: object, error: Exception) -> OutputError:
    named = "the PostgreSQL database" if "://" in str(out) else f"'{out}'"
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return OutputError(
        f"{named} cannot be written: {why}",
        "a place that exists and may be written to, with room",
        "nothing was left half-written; choose another place",
    )


def _store(backend: str, aside: Path, *, upper: bool) -> Database | ParquetFolder | CsvFolder:
    """Return what is written into: a folder itself, or a database, perhaps to be copied."""
    if backend == "parquet":
        return ParquetFolder(aside / "out", upper=upper)
    if backend == "csv":
        return CsvFolder(aside / "out", upper=upper)
    return Database(aside / "cdm")


def _database(store: Waiting) -> Any:
    """Return the connection to the database that was written."""
    assert isinstance(store.store, Database)
    return store.store.connection


def _to_sqlite(store: Waiting, file: Path, address: str | None) -> None:
    """Copy into SQLite, dates as ISO texts, which its own functions read."""
    target = sqlite3.connect(file)
    try:
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        for table, fields in store.fields.items():
            target.execute(created(table, fields))
            chosen = ", ".join(
                f'CAST("{f.name}" AS VARCHAR)' if f.type in ("DATE", "TIMESTAMP") else f'"{f.name}"'
                for f in fields
            )
            rows = _database(store).execute(f"SELECT {chosen} FROM {table}")
            marks = ", ".join("?" * len(fields))
            for batch in iter(lambda rows=rows: rows.fetchmany(BATCH), []):  # type: ignore[misc]
                target.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
        for table, fields in store.fields.items():
            if "person_id" in [field.name for field in fields]:
                target.execute(f"CREATE INDEX idx_{table}_person ON {table} (person_id)")
        target.commit()
    finally:
        target.close()


def _to_postgres(store: Waiting, file: Path, address: str | None) -> None:
    """Copy into the first schema of the search path, in one transaction."""
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise MissingExtra("a PostgreSQL database", "ehr") from error
    try:
        with dbapi.connect(str(address)) as target, target.cursor() as cursor:
            cursor.execute("SELECT to_regclass('person') IS NOT NULL")
            if cursor.fetchone()[0]:
                raise OutputError(
                    "the PostgreSQL database has a table PERSON already",
                    "a schema without one",
                    "name another schema: postgresql://…?options=-csearch_path%3Dsynthetic",
                )
            for table, fields in store.fields.items():
                cursor.execute(created(table, fields))
                rows = _database(store).sql(f"SELECT * FROM {table}").to_arrow_reader(BATCH)
                cursor.adbc_ingest(table, rows, mode="append")
                if any(field.name == "person_id" for field in fields):
                    cursor.execute(f"CREATE INDEX idx_{table}_person ON {table} (person_id)")
            target.commit()
    except ManikinError:
        raise
    except Exception as error:  # the driver's message may hold the password or a cell
        raise _failed("postgresql://", error) from None


_EXPORTS: dict[str, Callable[[Waiting, Path, str | None], None]] = {
    "sqlite": _to_sqlite,
    "postgresql": _to_postgres,
}
