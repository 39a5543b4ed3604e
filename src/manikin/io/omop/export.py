"""A CDM in the form that is wanted: DuckDB as it is, or copied into files, SQLite or PostgreSQL.

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
from manikin.io.omop.fields import TABLES, statement
from manikin.io.omop.writer import CdmWriter, filled

__all__ = ["written"]

SUFFIXES = {
    ".duckdb": "duckdb", ".ddb": "duckdb", ".sqlite": "sqlite", ".sqlite3": "sqlite",
    ".db": "sqlite",
}  # fmt: skip
BACKENDS = ("duckdb", "sqlite", "csv", "parquet", "postgresql")
BATCH = 100_000  # rows copied at a time
MEMORY = "1GB"  # of DuckDB, which would else keep all that it wrote


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
        connection = duckdb.connect(str(aside / "cdm.duckdb"))
        try:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET memory_limit = '{MEMORY}'")  # pages beyond it go to the file
            writer = CdmWriter(connection, layout, synthetic, ids)
            yield writer
            writer.finish()
            if backend != "duckdb":
                _EXPORTS[backend](writer, aside / "out", address)
        finally:
            connection.close()
        if address is None:
            _moved(aside / ("cdm.duckdb" if backend == "duckdb" else "out"), Path(out))
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


def _tables(connection: Any) -> list[str]:
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE NOT temporary ORDER BY table_oid"
    ).fetchall()
    return [name for (name,) in found]


def _to_csv(writer: CdmWriter, folder: Path, address: str | None) -> None:
    _to_files(writer, folder, ".csv", "FORMAT csv, HEADER true")


def _to_parquet(writer: CdmWriter, folder: Path, address: str | None) -> None:
    _to_files(writer, folder, ".parquet", "FORMAT parquet")


def _to_files(writer: CdmWriter, folder: Path, suffix: str, how: str) -> None:
    connection, upper = writer.connection, bool(writer.layout["upper"])
    folder.mkdir()
    for table in _tables(connection):
        file = folder / ((table.upper() if upper else table) + suffix)
        named = str(file).replace("'", "''")
        connection.execute(f"COPY {table} TO '{named}' ({how})")


def _to_sqlite(writer: CdmWriter, file: Path, address: str | None) -> None:
    """Copy into SQLite, dates as ISO texts, which its own functions read."""
    connection = writer.connection
    target = sqlite3.connect(file)
    try:
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        for table in _tables(connection):
            columns = connection.execute(f"DESCRIBE {table}").fetchall()
            if table in TABLES:
                target.execute(statement(table, wide=writer.wide))
            else:
                listed = ", ".join(f'"{name}" {kind}' for name, kind, *_ in columns)
                target.execute(f"CREATE TABLE {table} ({listed})")
            chosen = ", ".join(
                f'CAST("{name}" AS VARCHAR)' if kind in ("DATE", "TIMESTAMP") else f'"{name}"'
                for name, kind, *_ in columns
            )
            rows = connection.execute(f"SELECT {chosen} FROM {table}")
            marks = ", ".join("?" * len(columns))
            for batch in iter(lambda rows=rows: rows.fetchmany(BATCH), []):  # type: ignore[misc]
                target.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
        for table in _tables(connection):
            names = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()]
            if "person_id" in names:
                target.execute(f"CREATE INDEX idx_{table}_person ON {table} (person_id)")
        target.commit()
    finally:
        target.close()


def _to_postgres(writer: CdmWriter, file: Path, address: str | None) -> None:
    """Copy into the first schema of the search path, in one transaction."""
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise MissingExtra("a PostgreSQL database", "ehr") from error
    connection = writer.connection
    try:
        with dbapi.connect(str(address)) as target, target.cursor() as cursor:
            cursor.execute("SELECT to_regclass('person') IS NOT NULL")
            if cursor.fetchone()[0]:
                raise OutputError(
                    "the PostgreSQL database has a table PERSON already",
                    "a schema without one",
                    "name another schema: postgresql://…?options=-csearch_path%3Dsynthetic",
                )
            for table in _tables(connection):
                columns = connection.execute(f"DESCRIBE {table}").fetchall()
                listed = ", ".join(
                    f'"{name}" {_POSTGRES.get(kind, kind)}' for name, kind, *_ in columns
                )
                made = f"CREATE TABLE {table} ({listed})"
                cursor.execute(statement(table, wide=writer.wide) if table in TABLES else made)
                rows = connection.sql(f"SELECT * FROM {table}").to_arrow_reader(BATCH)
                cursor.adbc_ingest(table, rows, mode="append")
                if any(name == "person_id" for name, *_ in columns):
                    cursor.execute(f"CREATE INDEX idx_{table}_person ON {table} (person_id)")
            target.commit()
    except ManikinError:
        raise
    except Exception as error:  # the driver's message may hold the password or a cell
        raise _failed("postgresql://", error) from None


_POSTGRES = {"DOUBLE": "DOUBLE PRECISION", "VARCHAR": "TEXT"}
_EXPORTS: dict[str, Callable[[CdmWriter, Path, str | None], None]] = {
    "csv": _to_csv,
    "parquet": _to_parquet,
    "sqlite": _to_sqlite,
    "postgresql": _to_postgres,
}
