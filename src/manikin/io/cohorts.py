"""Linked tables in and out: a folder of files, one table each, and back in the same formats.

A YAML file may say what the folder does not: `links`, a list of CHILD.COLUMN=PARENT.KEY, and
`tables`, for each table that it names a schema as in a schema file of one table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manikin.data.cohort import Cohort
from manikin.data.keys import Found, Keys, find_links
from manikin.data.linking import Dangling, Linked, link_frames, link_together
from manikin.data.links import MOST_TABLES, Link
from manikin.data.parse import parse
from manikin.data.schema import Role, TableSchema
from manikin.errors import (
    InputError,
    IntegrityError,
    NotSupported,
    OutputError,
    SchemaError,
)
from manikin.io.bounds import read_text
from manikin.io.layout import Layout
from manikin.io.schema_file import from_document, load_yaml
from manikin.io.tables import (
    SUFFIXES,
    Source,
    Writer,
    layout_from_json,
    open_cells,
    schema_of,
    writer,
)

__all__ = [
    "Apart",
    "CohortWriter",
    "Opened",
    "files_from_json",
    "files_to_json",
    "is_cohort",
    "open_apart",
    "open_cohort",
    "open_cohorts",
    "read_cohort",
    "refuse_cohort",
    "writer_of",
]

_SINGLE: tuple[Role, ...] = ("target", "time", "event")
_NOBODY = {"target": None, "time": None, "event": None, "sensitive": (), "quasi_identifiers": ()}
_OF_TABLES = [suffix for suffix in SUFFIXES if suffix not in (".txt", ".data")]


@dataclass(frozen=True)
class Opened:
    """Linked tables that were read, and how their files were written."""

    linked: Linked
    files: Mapping[str, tuple[str, Layout]]  # table → name of its file, and its look

    @property
    def cohort(self) -> Cohort:
        """The tables."""
        return self.linked.cohort


def is_cohort(source: Any) -> bool:
    """Whether a source is of linked tables: a folder, a mapping of tables, or a Cohort."""
    if isinstance(source, str | Path):
        return Path(source).is_dir()
    return isinstance(source, Cohort | Mapping)


def refuse_cohort(source: Any) -> None:
    """Raise NotSupported for linked tables where one table is asked for, with what to do."""
    if not is_cohort(source):
        return
    files = isinstance(source, str | Path)
    found = [path.name for path in _tables_of(Path(source)).values()] if files else []
    named = f" ({', '.join(found[:6])}{', …' if len(found) > 6 else ''})" if found else ""
    raise NotSupported(
        "linked tables, where one table is asked for",
        "one table; audit, schema, synthesize, fit, evaluate and replay take linked ones too",
        f"name one of the tables{named}; the synthesizer that serves it can then draw them all:"
        " manikin synthesize FOLDER --synthesizer NAME",
    )


def read_cohort(
    source: str | Path | Mapping[str, Any],
    *,
    links: Sequence[str] = (),
    schema: str | Path | None = None,
    dangling: Dangling = "refuse",
) -> Cohort:
    """Return the linked tables of a folder of files, or of frames or files by name.

    Links are inferred from names and cells of keys; those named as CHILD.COLUMN=PARENT.KEY come
    first. Raises InputError for what cannot be read, SchemaError for keys that do not fit; with
    `dangling` "keep", rows whose key is no row's are kept as orphans, for the judge.
    """
    return open_cohort(source, links=links, schema=schema, dangling=dangling).cohort


def open_cohort(
    source: Any,
    *,
    links: Sequence[str] = (),
    schema: str | Path | None = None,
    dangling: Dangling = "refuse",
    **roles: Any,
) -> Opened:
    """Read linked tables as `read_cohort` does; `roles` are of columns of the first table."""
    declared, schemas = ((), {}) if schema is None else _read_schema(Path(schema))
    named: list[str | Link] = [*declared, *links]
    if isinstance(source, Cohort):
        if named or schemas or any(roles.values()):
            raise InputError(
                "links, a schema or roles for tables that are linked already",
                "a Cohort as it is",
                "give them where it is made",
            )
        frames = source.to_polars()
        linked = Linked(source, {}, (), frames)
        return Opened(linked, {name: (f"{name}.parquet", Layout("frame")) for name in frames})
    cells, files = _read(source)
    _check_schemas(schemas, cells)
    typed = {name: layout.format != "csv" for name, (_, layout) in files.items()}
    linked = link_frames(cells, named, schemas=schemas, typed=typed, dangling=dangling, roles=roles)
    return Opened(linked, {name: files[name] for name in linked.cohort.parts})


def open_cohorts(
    sources: Mapping[str, Any],
    *,
    links: Sequence[str] = (),
    schema: str | Path | None = None,
    kept: Collection[str] = (),
    **roles: Any,
) -> dict[str, Opened]:
    """Read several folders of the same tables under one schema, the first of which links them.

    Rows of the sides named in `kept` whose key is no row's are kept as orphans. Keys of frames and
    files are compared between sides: a subject that is in two of them has the same number there.
    """
    declared, schemas = ((), {}) if schema is None else _read_schema(Path(schema))
    named: list[str | Link] = [*declared, *links]
    leader = next(iter(sources.values()))
    if isinstance(leader, Cohort):
        schemas = schemas or (dict(leader.schema.parts) if leader.schema.declared else {})
        named = named or list(leader.schema.links)
        roles = {**_held(leader.root.schema), **{k: v for k, v in roles.items() if v}}
    before = dict[str, int]()
    sides, looks = dict[str, Mapping[str, Any]](), dict[str, Any]()
    for side, source in sources.items():
        if isinstance(source, Cohort):
            first = {name: before.get(name, 0) for name in source.parts}
            sides[side] = source.to_polars(first)
            looks[side] = {n: (f"{n}.parquet", Layout("frame")) for n in source.parts}
            before |= {name: first[name] + part.n_rows for name, part in source.parts.items()}
        else:
            sides[side], looks[side] = _read(source)
    _check_schemas(schemas, next(iter(sides.values())))
    typed = {
        name: all(look[name][1].format != "csv" for look in looks.values() if name in look)
        for name in next(iter(looks.values()))
    }
    found = link_together(
        sides, named, schemas=schemas, typed=typed, roles=roles,
        dangling={side: "keep" if side in kept else "refuse" for side in sides},
    )  # fmt: skip
    return {
        side: Opened(linked, {name: looks[side][name] for name in linked.cohort.parts})
        for side, linked in found.items()
    }


@dataclass(frozen=True)
class Apart:
    """The tables of a folder, each read by itself, and how keys would link them."""

    keys: Keys
    found: Found
    names: tuple[str, ...]  # of all tables, linked or not
    read: Callable[[], dict[str, Source]]  # each one's rows those of what its nearest key names


def open_apart(
    source: Any, *, links: Sequence[str] = (), schema: str | Path | None = None, **roles: Any
) -> Apart:
    """Read the tables of a folder for an audit: keys may be broken."""
    declared, schemas = ((), {}) if schema is None else _read_schema(Path(schema))
    cells, files = _read(source.to_polars() if isinstance(source, Cohort) else source)
    _check_schemas(schemas, cells)
    known = source.schema.links if isinstance(source, Cohort) else ()
    keys = Keys(cells)
    found = find_links(keys, [*known, *declared, *links])
    tree = found.tree

    def read() -> dict[str, Source]:
        sources = {}
        for name in tree.order:
            key = next((link.key for link in found.links if link.parent == name), None)
            own = {**_NOBODY, **(roles if name == tree.root else {})}
            own["subject"] = tree.up[name].column if name in tree.up else key
            typed = files[name][1].format != "csv"
            frame = keys.frames[name]
            schema = schema_of(frame, schemas.get(name), typed=typed, **own)
            sources[name] = Source(parse(frame, schema), files[name][1], frame)
        return sources

    return Apart(keys, found, tuple(cells), read)


def _held(schema: TableSchema) -> dict[str, Any]:
    """Return the roles that columns of a schema have."""
    single = {role: schema.holder(role) for role in _SINGLE}
    found: dict[str, Any] = {role: c.name for role, c in single.items() if c is not None}
    found["sensitive"] = tuple(c.name for c in schema.holders("sensitive"))
    found["quasi_identifiers"] = tuple(c.name for c in schema.holders("quasi_identifier"))
    return found


def _read(source: Any) -> tuple[dict[str, Any], dict[str, tuple[str, Layout]]]:
    """Return the cells of every table by name, and names and looks of their files."""
    found = _tables_of(Path(source)) if isinstance(source, str | Path) else dict(source)
    cells, files = {}, {}
    for name, table in found.items():
        cells[name], layout = open_cells(table)
        on_disk = isinstance(table, str | Path)
        files[name] = (Path(table).name if on_disk else f"{name}.parquet", layout)
    return cells, files


def _check_schemas(schemas: Mapping[str, TableSchema], tables: Mapping[str, Any]) -> None:
    if unknown := sorted(set(schemas) - set(tables)):
        raise SchemaError(
            f"the schema file speaks of tables that there are not: {', '.join(unknown)}",
            f"the tables are: {', '.join(tables)}",
            "check the spelling",
        )


def _tables_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that are tables, by their names without suffix."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"'{folder.name}' {what}", "a folder of tables", "check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        low = path.name.lower()
        suffix = max((s for s in _OF_TABLES if low.endswith(s)), key=len, default=None)
        if suffix is None or not path.is_file() or low.startswith((".", "~")):
            continue
        name = path.name[: -len(suffix)]
        if name in found:
            raise InputError(
                f"the folder holds '{found[name].name}' and '{path.name}'",
                "one file a table",
                "take one of them out",
            )
        found[name] = path
    if not found or len(found) > MOST_TABLES:
        raise InputError(
            f"'{folder.name}' holds {len(found)} tables",
            f"1 to {MOST_TABLES} files with a suffix of {', '.join(_OF_TABLES)}",
            "check the path",
        )
    return found


def _read_schema(path: Path) -> tuple[tuple[str, ...], dict[str, TableSchema]]:
    """Return the links and schemas of a schema file of linked tables."""
    document = load_yaml(read_text(path, "schema file"))
    known = isinstance(document, Mapping) and set(document) <= {"links", "tables"}
    links = document.get("links", []) if known else None
    tables = document.get("tables", {}) if known else None
    if (
        not document
        or not isinstance(links, list)
        or not all(isinstance(link, str) for link in links)
        or not isinstance(tables, Mapping)
    ):
        raise SchemaError(
            "the schema file is none of linked tables",
            "links: a list of CHILD.COLUMN=PARENT.KEY; tables: a schema by each table's name",
            "see docs/cohorts.md",
        )
    return tuple(links), {str(name): from_document(entry) for name, entry in tables.items()}


# ------------------------------------------------------------------ writing


class CohortWriter:
    """Takes cohorts block by block, each with subjects numbered from 0, and writes their rows."""

    def __init__(self, writers: Mapping[str, Writer]) -> None:
        self._writers = writers

    def write(self, cohort: Cohort) -> None:
        """Write one more block; keys go on where those of the last block ended."""
        first = {name: one.rows for name, one in self._writers.items()}
        for name, one in self._writers.items():
            one.write(cohort.parts[name], cohort.keys(name, first))


@contextlib.contextmanager
def writer_of(
    folder: Path, files: Mapping[str, tuple[str, Layout]], *, expected: int = 0
) -> Iterator[CohortWriter]:
    """Write linked tables in blocks to files of a folder that exists.

    Raises OutputError when a file would have the name of another, or stand elsewhere.
    """
    names = [name for name, _ in files.values()]
    plain = all(Path(name).name == name and not name.startswith(".") for name in names)
    if len(set(map(str.lower, names))) < len(names) or not plain:
        raise OutputError(
            "tables whose names make no files of one folder",
            "a file each, named without folders",
            "rename the tables",
        )
    with contextlib.ExitStack() as stack:
        writers = {
            table: stack.enter_context(writer(folder / name, layout, expected=expected))
            for table, (name, layout) in files.items()
        }
        yield CohortWriter(writers)


def files_to_json(files: Mapping[str, tuple[str, Layout]]) -> dict[str, Any]:
    """Return names and looks of files as JSON values, for a model file."""
    return {table: {"file": name, "layout": asdict(look)} for table, (name, look) in files.items()}


def files_from_json(document: Any, tables: Sequence[str]) -> dict[str, tuple[str, Layout]]:
    """Read what `files_to_json` wrote, plain CSV if nothing. Raises IntegrityError for others."""
    if document is None:
        return {table: (f"{table}.csv", Layout()) for table in tables}
    found: dict[str, tuple[str, Layout]] = {}
    wrong = IntegrityError(
        "a model file that names impossible files",
        "one file a table, in the folder that is written",
        "use the model file as it was written",
    )
    if not isinstance(document, Mapping) or set(document) != set(tables):
        raise wrong
    for table, entry in document.items():
        name = entry.get("file") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name or Path(name).name != name or name[0] == ".":
            raise wrong
        found[table] = (name, layout_from_json(entry.get("layout")) or Layout())
    return found
