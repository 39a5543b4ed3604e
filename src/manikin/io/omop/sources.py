"""What an OMOP CDM is kept in: a folder of files, DuckDB, SQLite or PostgreSQL, asked alike in SQL.

Every source answers with polars frames of the columns that were asked for, as the source has them;
`cells` gives them types. Nothing is written to a source: files are opened for reading, and a
DuckDB file may not reach for other files or for the network from its own views.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from manikin.errors import InputError, MissingExtra
from manikin.io.omop.fields import TABLES
from manikin.io.omop.tables import OWN

__all__ = ["Source", "cells_of", "header_of", "opened", "recognised"]

NAMES = frozenset(TABLES) | frozenset(OWN)
BESIDE = frozenset(  # one of these beside PERSON says that a folder or a database is a CDM
    "observation_period visit_occurrence condition_occurrence drug_exposure measurement "
    "observation procedure_occurrence death cdm_source".split()
)
SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
SAFE = {  # of a stranger's database
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
MEMORY = "2GB"  # of DuckDB while it sorts; the rest goes to files aside
BATCH = 200_000  # rows fetched at a time from SQLite


class Source:
    """An opened CDM: which tables and columns it has, and rows of them.

    `columns` has for each table, in lower case, its columns: lower case → as the source spells it.
    """

    def __init__(self, name: str, backend: str, connection: Any) -> None:
        self.name, self.backend, self.connection = name, backend, connection
        self.places: dict[str, str] = {}  # table → how SQL calls it
        self.columns: dict[str, dict[str, str]] = {}
        self.upper = False  # whether the source writes names in capitals

    def __contains__(self, table: str) -> bool:
        return table in self.columns

    def add(self, table: str, place: str, columns: Sequence[str]) -> None:
        """Take note of a table; the first of a name stays."""
        if table.lower() in NAMES and table.lower() not in self.places:
            self.places[table.lower()] = place
            self.columns[table.lower()] = {column.lower(): column for column in columns}

    def fetch(
        self,
        table: str,
        wanted: Sequence[str],
        within: tuple[int, int] | None = None,
        among: tuple[str, Sequence[int]] | None = None,
        only: tuple[str, str] | None = None,
    ) -> pl.DataFrame:
        """Return columns of a table, those left out that it does not have.

        `within` asks for persons from the first number to the last, `among` for rows of which a
        column is one of these numbers, `only` for rows of which a column is this text.
        """
        has = self.columns[table]
        asked = [name for name in wanted if name in has]
        if not asked:
            return pl.DataFrame()
        chosen = ", ".join(f"{_quoted(has[name])} AS {_quoted(name)}" for name in asked)
        where = []
        if within is not None:
            where.append(f"{_quoted(has['person_id'])} BETWEEN {within[0]} AND {within[1]}")
        if among is not None:
            numbers = ", ".join(self._number(number) for number in among[1])
            where.append(f"{_quoted(has[among[0]])} IN ({numbers})")
        if only is not None:
            where.append(f"{_quoted(has[only[0]])} = '{only[1]}'")
        query = f"SELECT {chosen} FROM {self.places[table]}"
        return self.run(query + (f" WHERE {' AND '.join(where)}" if where else ""), table)

    def counts(self, table: str, column: str) -> pl.DataFrame:
        """Return the different cells of a column, and as `rows` how many of each there are."""
        name = _quoted(self.columns[table][column])
        chosen = f"SELECT {name} AS {_quoted(column)}, count(*) AS rows"
        return self.run(f"{chosen} FROM {self.places[table]} GROUP BY {name}", table)

    def _number(self, number: int) -> str:
        return str(int(number))

    def run(self, query: str, table: str) -> pl.DataFrame:
        """Ask the source. Raises InputError, without what the database said of any cell."""
        raise NotImplementedError

    def ordered(self) -> None:
        """Make ranges of persons quick to fetch."""

    def close(self) -> None:
        """Let go of the source."""
        self.connection.close()

    def _broken(self, table: str) -> InputError:
        return InputError(
            f"table {table.upper()} of '{self.name}' cannot be read",
            "a whole table that the program which wrote it can read",
            "check it there, or export it again; text is UTF-8",
        )


class _Duck(Source):
    def run(self, query: str, table: str) -> pl.DataFrame:
        duckdb = _duckdb()
        try:
            return self.connection.sql(query).pl()  # type: ignore[no-any-return]
        except (duckdb.Error, pl.exceptions.PolarsError, RuntimeError) as error:
            raise self._broken(table) from error


class _Folder(_Duck):
    """Files, seen through views; every cell of a delimited file is a text."""

    aside: tempfile.TemporaryDirectory[str] | None = None

    def _number(self, number: int) -> str:
        return f"'{int(number)}'"  # a text in a delimited file; a typed column takes it as well

    def ordered(self) -> None:
        duckdb = _duckdb()
        self.aside = tempfile.TemporaryDirectory(prefix="manikin-omop-")
        file = Path(self.aside.name) / "ordered.duckdb"
        self.connection.execute(f"SET temp_directory = '{_escaped(self.aside.name)}'")
        self.connection.execute(f"SET memory_limit = '{MEMORY}'")
        self.connection.execute(f"ATTACH '{_escaped(str(file))}' AS ordered")
        for table, has in self.columns.items():
            if "person_id" not in has:
                continue
            name = _quoted(has["person_id"])
            place = f"ordered.main.{_quoted(table)}"
            cast = f"TRY_CAST({name} AS BIGINT)"
            bad = self.run(
                f"SELECT count(*) AS n FROM {self.places[table]} WHERE {name} IS NOT NULL"
                f" AND {name}::VARCHAR <> '' AND {cast} IS NULL",
                table,
            )["n"][0]
            if bad:
                raise InputError(
                    f"{bad} cells of PERSON_ID in {table.upper()} are no whole numbers",
                    "person_id is an integer",
                    "correct the export",
                )
            try:
                self.connection.execute(
                    f"CREATE TABLE {place} AS SELECT * REPLACE ({cast} AS {name})"
                    f" FROM {self.places[table]} ORDER BY {name}"
                )
            except duckdb.Error as error:
                raise self._broken(table) from error
            self.places[table] = place

    def close(self) -> None:
        super().close()
        if self.aside is not None:
            self.aside.cleanup()


class _Sqlite(Source):
    def run(self, query: str, table: str) -> pl.DataFrame:
        try:
            cursor = self.connection.execute(query)
            names = [entry[0] for entry in cursor.description]
            batches = list(iter(lambda: cursor.fetchmany(BATCH), []))
        except (sqlite3.Error, UnicodeError) as error:
            if "locked" in str(error):
                raise _locked(self.name) from error
            raise self._broken(table) from error
        columns = list(zip(*(row for batch in batches for row in batch), strict=True))
        cells = columns or [()] * len(names)
        return pl.DataFrame([_series(n, c) for n, c in zip(names, cells, strict=True)])


class _Postgres(Source):
    def run(self, query: str, table: str) -> pl.DataFrame:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(query)
                frame = pl.from_arrow(cursor.fetch_arrow_table())
        except Exception as error:  # the driver has many; what it says may hold cells
            raise self._broken(table) from error
        assert isinstance(frame, pl.DataFrame)
        return frame


def _series(name: str, cells: Sequence[Any]) -> pl.Series:
    """Return a column of SQLite, which has a type a cell: numbers if all are, or else texts."""
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds <= {int}:
        return pl.Series(name, cells, pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, cells, pl.Float64)
    return pl.Series(name, [None if cell is None else str(cell) for cell in cells], pl.String)


def recognised(path: Path) -> bool:
    """Return whether a folder or file holds a PERSON table with another one of the CDM."""
    if path.is_dir():
        found = {table for table, _ in _files(path)}
        return "person" in found and bool(found & BESIDE)
    if not path.is_file() or not _signature(path):
        return False
    try:
        with opened(path) as source:
            return "person" in source and bool(set(source.columns) & BESIDE)
    except MissingExtra:
        return path.suffix.lower() == ".duckdb"
    except InputError:
        return False


@contextlib.contextmanager
def opened(source: Path | str) -> Iterator[Source]:
    """Open a source. Raises InputError when it is none, or in use by another program."""
    found = _open(source)
    try:
        if "person" not in found:
            raise InputError(
                f"'{found.name}' has no table PERSON",
                "an OMOP CDM has one row a person there",
                "check the path, or the schema of the database (search_path)",
            )
        yield found
    finally:
        found.close()


def _open(source: Path | str) -> Source:
    if isinstance(source, str) and source.partition("://")[0] in ("postgresql", "postgres"):
        return _open_postgres(source)
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise InputError(f"'{path.name}' does not exist", "a folder or a file", "check the path")
    backend = _signature(path)
    if backend == "duckdb":
        return _open_duckdb(path)
    if backend == "sqlite":
        return _open_sqlite(path)
    raise InputError(
        f"'{path.name}' is neither a DuckDB nor an SQLite database",
        "a folder of CSV or Parquet files, a DuckDB or SQLite file, or postgresql://…",
        "give the folder or the database file",
    )


def _signature(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return ""
    if head.startswith(b"SQLite format 3\0"):
        return "sqlite"
    return "duckdb" if head[8:12] == b"DUCK" else ""


def _open_duckdb(path: Path) -> Source:
    duckdb = _duckdb()
    try:
        connection = duckdb.connect(str(path), read_only=True, config=SAFE)
        connection.execute("SET enable_progress_bar = false")
        # a schema may be called as the file is: the file's name stands before it
        database = connection.execute("SELECT current_database()").fetchall()[0][0]
        catalogue = connection.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns"
            " WHERE table_catalog = current_database() ORDER BY table_schema, ordinal_position"
        ).fetchall()
    except (duckdb.Error, RuntimeError) as error:
        if "Could not set lock" in str(error):
            raise _locked(path.name) from error
        raise _damaged(path, "DuckDB") from error
    return _with_tables(_Duck(path.name, "duckdb", connection), catalogue, f"{_quoted(database)}.")


def _open_sqlite(path: Path) -> Source:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.5)
        connection.execute("PRAGMA trusted_schema = OFF")
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        catalogue = [
            ("main", table, column[1])
            for (table,) in tables
            if table.lower() in NAMES
            for column in connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
        ]
    except (sqlite3.Error, UnicodeError) as error:
        if "locked" in str(error):
            raise _locked(path.name) from error
        raise _damaged(path, "SQLite") from error
    return _with_tables(_Sqlite(path.name, "sqlite", connection), catalogue)


def _open_postgres(address: str) -> Source:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise MissingExtra("a PostgreSQL database", "ehr") from error
    try:
        connection = dbapi.connect(address)
        with connection.cursor() as cursor:
            # schemas of the search path come first, in its order
            cursor.execute(
                "SELECT table_schema::text, table_name::text, column_name::text"
                " FROM information_schema.columns"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
                " ORDER BY array_position(current_schemas(false), table_schema::name),"
                " table_schema, table_name, ordinal_position"
            )
            catalogue = cursor.fetchall()
    except Exception as error:  # the driver's message may hold the password
        raise InputError(
            "the PostgreSQL database cannot be reached",
            "postgresql://user@host:port/database of a server that runs",
            "check the address, the password and the rights",
        ) from None if "password" in str(error) else error
    return _with_tables(_Postgres("PostgreSQL", "postgresql", connection), catalogue)


def _with_tables(
    source: Source, catalogue: Sequence[tuple[str, str, str]], prefix: str = ""
) -> Source:
    """Take the schema that has PERSON for all of its tables, and others for what it has not."""
    tables: dict[tuple[str, str], list[str]] = {}
    for schema, table, column in catalogue:
        tables.setdefault((schema, table), []).append(column)
    home = next((schema for schema, table in tables if table.lower() == "person"), "")
    for schema, table in sorted(tables, key=lambda pair: pair[0] != home):
        place = f"{prefix}{_quoted(schema)}.{_quoted(table)}"
        source.add(table, place, tables[schema, table])
        source.upper |= table == "PERSON"
    return source


def _files(folder: Path) -> list[tuple[str, list[Path]]]:
    """Return the tables of a folder: a file each, or a folder of parts each."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in SUFFIXES if path.name.lower().endswith(end)), "")
        stem = path.name[: len(path.name) - len(suffix)].lower()
        if stem not in NAMES or stem in found:
            continue
        if path.is_dir():
            parts = sorted(part for end in SUFFIXES for part in path.glob(f"*{end}"))
            kinds = {part.suffix for part in parts}
            found |= {stem: parts} if len(kinds) == 1 else {}
        elif suffix:
            found[stem] = [path]
    return list(found.items())


def _open_folder(path: Path) -> Source:
    duckdb = _duckdb()
    safe = {key: value for key, value in SAFE.items() if key != "enable_external_access"}
    connection = duckdb.connect(":memory:", config=safe)
    connection.execute("SET enable_progress_bar = false")
    source = _Folder(path.name, "csv", connection)
    for table, files in _files(path):
        source.upper |= table == "person" and files[0].name.startswith("PERSON")
        try:
            if files[0].suffix.lower() in (".parquet", ".pq"):
                asked = f"read_parquet([{_listed(files)}], union_by_name = true)"
                if table == "person":
                    source.backend = "parquet"
            else:
                asked = _delimited(files)
            view = f"v_{table}"
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {asked}")
            columns = [c[0] for c in connection.execute(f"DESCRIBE {view}").fetchall()]
        except (duckdb.Error, InputError, RuntimeError) as error:
            connection.close()
            raise _damaged(files[0], "CSV or Parquet") from error
        source.add(table, view, columns)
    return source


def header_of(path: Path) -> tuple[list[str], str]:
    """Return the names of a delimited file's columns, and its delimiter."""
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
            head = file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeError, EOFError) as error:
        raise _damaged(path, "CSV") from error
    delimiter = max("\t,;|", key=head.count)
    names = [cell.strip().strip('"') for cell in head.split(delimiter)]
    if not head.strip() or len({name.lower() for name in names}) != len(names):
        raise _damaged(path, "CSV")
    return names, delimiter


def cells_of(path: Path, wanted: Collection[str]) -> pl.DataFrame:
    """Return the columns of a delimited file whose names in lower case are wanted, as texts."""
    duckdb = _duckdb("reading delimited files of histories")
    names, _ = header_of(path)
    chosen = ", ".join(
        f"{_quoted(name)} AS {_quoted(name.lower())}" for name in names if name.lower() in wanted
    )
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET enable_progress_bar = false")
            frame = connection.sql(f"SELECT {chosen} FROM {_delimited([path])}").pl()
    except (duckdb.Error, RuntimeError) as error:
        raise _damaged(path, "CSV") from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _delimited(files: Sequence[Path]) -> str:
    """Return the call that reads delimited files; Athena's have tabs and quotes that mean none."""
    names, delimiter = header_of(files[0])
    quote = "" if delimiter == "\t" else '"'
    columns = ", ".join(f"'{_escaped(name)}': 'VARCHAR'" for name in names)
    return (
        f"read_csv([{_listed(files)}], auto_detect = false, header = true, columns = {{{columns}}},"
        f" delim = '{delimiter}', quote = '{quote}', escape = '{quote}', nullstr = '',"
        " allow_quoted_nulls = false)"
    )


def _listed(files: Sequence[Path]) -> str:
    # DuckDB takes brackets, stars and question marks for patterns
    safe = "".join
    return ", ".join(
        f"'{_escaped(safe(f'[{c}]' if c in '[*?' else c for c in str(path.resolve())))}'"
        for path in files
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def _locked(name: str) -> InputError:
    return InputError(
        f"'{name}' is locked by another program",
        "a database that nobody is writing to",
        "close the other program, or copy the database",
    )


def _damaged(path: Path, kind: str) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read as {kind}",
        f"a whole {kind} file of this or an older version",
        "check that it was copied whole, or export it again",
    )


def _duckdb(what: str = "reading an OMOP CDM") -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra(what, "ehr") from error
    return duckdb
