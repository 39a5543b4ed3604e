"""Tables in and out: one door for every format, by the file's suffix or the frame's type."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import polars as pl

from manikin.data.cells import as_text
from manikin.data.complete import complete, complete_unread
from manikin.data.frames import to_polars
from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.render import Keys, render
from manikin.data.schema import TableSchema, with_roles
from manikin.data.table import Table
from manikin.errors import InputError, IntegrityError, OutputError, PrivacyError
from manikin.io.csv import CsvWriter, read_csv
from manikin.io.excel import ExcelWriter, read_excel
from manikin.io.layout import Layout, atomic
from manikin.io.parquet import ParquetWriter, read_parquet
from manikin.privacy.domain import Discovery, discover, left_open
from manikin.privacy.ledger import Release

__all__ = [
    "SUFFIXES",
    "Layout",
    "Source",
    "Writer",
    "layout_from_json",
    "marked",
    "open_cells",
    "open_table",
    "read",
    "schema_of",
    "suffix_of",
    "write",
    "write_marked",
    "writer",
]

SUFFIXES = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".data": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
}
KNOWN_LAYOUTS: dict[str, tuple[str, ...]] = {  # what reading a file can find
    "format": ("csv", "parquet", "excel", "frame"),
    "delimiter": (",", ";", "\t", "|"),
    "quote": ('"', "'"),
    "encoding": ("utf-8", "utf-16-le", "utf-16-be", "cp1252", "latin-1"),
    "line_ending": ("\n", "\r\n", "\r"),
}


@dataclass(frozen=True)
class Source:
    """A table that was read: its arrays, how its file was written, and its cells as they stood."""

    table: Table
    layout: Layout
    cells: pl.DataFrame
    bought: tuple[Release, ...] = ()  # what a budget paid for that the schema left open
    read: Table | None = None  # then: as it was read, with every level that any row has

    @property
    def whole(self) -> Table:
        """The table with every value as it stood: what names the source in a record."""
        return self.table if self.read is None else self.read

    @property
    def renamed(self) -> tuple[str, ...]:
        """Columns whose own name in the source is empty or another column's."""
        names = self.layout.names
        own = self.layout.header or names
        unnamed = max(len(names) - len(own), 0)  # a first column of row names needs no name
        # a header that ends in a delimiter is one longer
        pairs = zip(names[unnamed:], own, strict=False)
        return tuple(name for name, was in pairs if name != was)


def open_table(
    source: str | Path | Any,
    *,
    schema: TableSchema | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    unread: bool = False,
    discovery: Discovery | None = None,
) -> Source:
    """Read a table from a file, or from a pandas, polars or Arrow frame.

    Without a `schema` one is inferred. `unread`: nothing that only cells tell may be added to the
    schema or the layout, as under a privacy budget; but for what a `discovery` pays for. Raises
    InputError when it cannot be read, SchemaError when schema and data disagree or a role names no
    column, PrivacyError for a schema that leaves open what may not be read.
    """
    cells, layout = open_cells(source)
    if unread:
        declared = _declared(schema, target=target, subject=subject, time=time, event=event,
                             sensitive=sensitive, quasi_identifiers=quasi_identifiers)  # fmt: skip
        known = complete_unread(declared, cells, layout.format, bought=discovery is not None)
        if discovery is None or not left_open(known):
            return Source(parse(cells, known), layout.dialect(known), cells)
        read = parse(cells, _with_every_level(known, cells))
        paid = discover(read, known, discovery)
        plain = layout.dialect(paid.table.schema)
        return Source(paid.table, plain, cells, paid.releases, read)
    found = schema_of(
        cells,
        schema,
        typed=layout.format != "csv",
        target=target,
        subject=subject,
        time=time,
        event=event,
        sensitive=sensitive,
        quasi_identifiers=quasi_identifiers,
    )
    return Source(parse(cells, found), layout, cells)


def schema_of(
    cells: pl.DataFrame, schema: TableSchema | None, *, typed: bool, **roles: Any
) -> TableSchema:
    """Return the schema that reads these cells, given or inferred, with `open_table`'s roles."""
    if schema is None:
        learned = [roles[role] for role in ("target", "time", "event")]
        inferred = infer_schema(cells, subject=roles["subject"], learned=learned, typed=typed)
        return with_roles(inferred, **roles)
    return complete(with_roles(schema, **roles), cells, typed=typed)


def _declared(schema: TableSchema | None, **roles: Any) -> TableSchema:
    if schema is None or not schema.declared:
        raise PrivacyError(
            "a privacy budget, and a schema that was inferred from the rows",
            "a schema that a person declared: what is inferred has seen everybody's values",
            "write one with: manikin schema DATA > schema.yaml; correct it, give it with --schema",
        )
    return with_roles(schema, **roles)


def _with_every_level(schema: TableSchema, cells: pl.DataFrame) -> TableSchema:
    """Return the schema with all spellings of the columns whose levels it leaves open.

    It is as private as the cells are.
    """
    for column in left_open(schema):
        if column.is_coded and column.name in cells.columns:
            text = as_text(cells[column.name]).unique().sort()
            levels = text.filter(~text.is_in(list(column.tokens)))
            schema = schema.replace(dataclasses.replace(column, categories=tuple(levels)))
    return schema


def read(source: str | Path | Any, **options: Any) -> Table:
    """Return the table of a file or frame; `options` are a schema and roles, as in `open_table`.

    Raises InputError when it cannot be read, SchemaError when schema and data disagree.
    """
    return open_table(source, **options).table


def write(table: Table, path: str | Path, layout: Layout | None = None) -> None:
    """Write a table to a file of the suffix's format, looking like its source's `layout`."""
    with writer(path, layout) as out:
        out.write(table)


class _Sink(Protocol):
    def write(self, frame: pl.DataFrame, table: Table) -> None: ...

    def size(self) -> int: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class Writer:
    """Takes tables block by block, each with subjects numbered from 0, and writes their rows.

    When it is known how many subjects will come, what they will need is compared with the room
    that is left: a disk is not filled first.
    """

    def __init__(self, sink: _Sink, folder: Path, expected: int) -> None:
        self._sink, self._folder, self._expected = sink, folder, expected
        self.rows = 0
        self.subjects = 0

    def write(self, table: Table, keys: Keys | None = None) -> None:
        """Write one more block; `keys` as in `render`, for tables that others refer to."""
        first = {"first_row": self.rows, "first_subject": self.subjects}
        self.put(render(table, keys=keys, **first), table)

    def put(self, frame: pl.DataFrame, table: Table) -> None:
        """Write rows that are cells already, of which `table` tells the types."""
        self._sink.write(frame, table)
        self.rows += table.n_rows
        self.subjects += int(table.subjects.max()) + 1 if table.n_rows else 0
        self._look_for_room()

    def _look_for_room(self) -> None:
        """Raise OutputError where what is written so far, times what is to come, has no room."""
        left = self._expected - self.subjects
        if left <= 0 or not self.subjects:
            return
        needed = left * self._sink.size() / self.subjects
        room = shutil.disk_usage(self._folder).free
        if needed > room:
            raise OutputError(
                f"{self._expected:,} subjects, which need about {needed / 2**30:,.1f} GiB more",
                f"what fits into the {room / 2**30:,.1f} GiB that are left there",
                "ask for fewer, or choose another place",
            )


@contextlib.contextmanager
def writer(
    path: str | Path, layout: Layout | None = None, *, expected: int = 0
) -> Iterator[Writer]:
    """Write a table in blocks; the file appears, with mode 0600, when all is written.

    After an exception nothing is left. Raises InputError for an unknown suffix, OutputError when
    the place cannot be written to, or has no room for the subjects that are `expected` (0: as many
    as come).
    """
    path = Path(path)
    format_ = _format(path)
    if layout is None or layout.format != format_:
        names = layout.names if layout is not None else ()
        layout = Layout(format=format_, names=names)
    if ".tsv" in path.name.lower():
        layout = dataclasses.replace(layout, delimiter="\t", space_after_delimiter=False)
    layout = dataclasses.replace(layout, compressed=path.name.lower().endswith(".gz"))
    with atomic(path) as file:
        sink = _sink(file, layout, path.parent)
        try:
            yield Writer(sink, path.parent, expected)
            sink.close()
        finally:
            sink.abandon()


def marked(source: Source, added: Table, mark: str) -> pl.DataFrame:
    """Return the cells of a source as they stand and new rows below, told apart by a column.

    Raises InputError where the source has such a column.
    """
    cells, new = source.cells, render(added)
    if mark in cells.columns:
        raise InputError(
            f"the table has a column '{mark}' already",
            "a table without one, which is to tell new rows from real ones",
            "rename that column",
        )
    new = new.select(cells.columns).cast(dict(zip(cells.columns, cells.dtypes, strict=True)))
    said = pl.Series(mark, [False]).new_from_index(0, cells.height)
    return pl.concat(
        [
            cells.with_columns(said),
            new.with_columns(pl.Series(mark, [True]).new_from_index(0, new.height)),
        ]
    )


def write_marked(
    frame: pl.DataFrame, source: Source, added: Table, mark: str, path: str | Path
) -> None:
    """Write what `marked` returned to a file that looks like the source's."""
    layout = source.layout
    n = len(layout.names)
    names, header = (*layout.names, mark), layout.header
    if header:
        header = (*header[:n], mark, *header[n:])
    with writer(path, dataclasses.replace(layout, names=names, header=header)) as out:
        out.put(frame, added)


def _sink(file: IO[bytes], layout: Layout, folder: Path) -> _Sink:
    if layout.format == "parquet":
        return ParquetWriter(file, layout, folder)
    return ExcelWriter(file, layout) if layout.format == "excel" else CsvWriter(file, layout)


def open_cells(source: Any) -> tuple[pl.DataFrame, Layout]:
    """Return the cells of a file or frame as they stand, and how they were laid out."""
    if not isinstance(source, str | Path):
        frame = to_polars(source)
        return frame, Layout(format="frame", names=tuple(frame.columns))
    path = Path(source)
    format_ = _format(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"'{source}' {what}", "the path of a file", "check the path")
    readers = {"csv": read_csv, "parquet": read_parquet, "excel": read_excel}
    try:
        return readers[format_](path)
    except OSError as error:
        raise InputError(
            f"'{source}' cannot be read: {error.strerror}",
            "a file that may be read",
            "check its rights, or copy it",
        ) from error


def suffix_of(source: Any) -> str:
    """Return the suffix that a file like `source` has; a frame's is that of Parquet."""
    if not isinstance(source, str | Path):
        return ".parquet"
    name = Path(source).name.lower()
    _format(Path(source))
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len)


def layout_from_json(values: object) -> Layout | None:
    """Rebuild the layout whose fields these are; None for none.

    Raises IntegrityError when they are not: they may come from a model file.
    """
    if values is None:
        return None
    plain = Layout()
    fields: dict[str, Any] = dict(values) if isinstance(values, Mapping) else {"": values}
    for name, value in fields.items():
        usual = getattr(plain, str(name), None)
        several = name == "header" or isinstance(usual, tuple)
        if several and isinstance(value, list) and all(isinstance(text, str) for text in value):
            fields[name] = tuple(value)
        elif (name, value) != ("header", None) and (
            several
            or type(value) is not type(usual)
            or (name in KNOWN_LAYOUTS and value not in KNOWN_LAYOUTS[name])
        ):
            raise IntegrityError(
                "a layout with a field of the wrong kind",
                "the fields that a table's layout has",
                "use the model file as it was written",
            )
    return dataclasses.replace(plain, **fields)


def _format(path: Path) -> str:
    name = path.name.lower()
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return SUFFIXES[suffix]
    raise InputError(
        f"'{path.name}' has the suffix '{path.suffix}'",
        f"suffixes that are known: {', '.join(sorted(SUFFIXES))}",
        "rename the file, or export the table in one of these formats",
    )
