"""The doors of histories: which formats there are, which one a source is in, in and out.

A door is a file or a folder of this room with the three functions of `Door`. To add a format,
write it and name it in `DOORS`.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError, NotSupported, OutputError, SchemaError
from manikin.synthesizer import Watch, silent

__all__ = [
    "DOORS", "Door", "Flow", "History", "door", "flow", "format_of", "read", "read_schema",
    "refuse_history", "schema_to_yaml", "suffix_of", "write",
]  # fmt: skip

DOORS = ("omop", "meds", "fhir", "synthea", "cdisc", "long")  # names here, in the order of trying
REFERRING = ("omop", "fhir")  # those whose rows or resources refer to others
Dangling = Literal["refuse", "keep"]
_BACKENDS = {
    "duckdb": ".duckdb",
    "sqlite": ".sqlite",
    "postgresql": ".duckdb",
}  # a release is files


@dataclass(frozen=True)
class History:
    """What a door has read."""

    events: Events
    format: str
    synthetic: bool = False  # whether the source says of itself that it is
    ids: tuple[str, ...] = ()  # the source's name of each subject; () where it is the number
    notes: tuple[str, ...] = ()  # what was mended or is odd, with counts and without any value
    layout: Mapping[str, Any] = field(default_factory=dict)  # JSON: what the writer needs to know;
    # "suffix" in it is that of a single file, none is for a folder


@dataclass(frozen=True)
class Flow:
    """What a door reads once through, a block of subjects after the other."""

    blocks: Iterator[Events]
    format: str
    synthetic: bool = False
    ids: tuple[str, ...] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # whole after the last block


class Door(Protocol):
    """What a format offers."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder looks like this format, at a glance."""

    def read(
        self, source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
    ) -> History:
        """Read all of it. Raises InputError for what is broken, with counts and without values."""

    def write(
        self,
        blocks: Iterable[Events],
        out: Path,
        *,
        layout: Mapping[str, Any],
        synthetic: bool,
        ids: tuple[str, ...] = (),
    ) -> None:
        """Write histories of one schema, block after block, so that memory stays flat.

        What is `synthetic` is marked so in the format's own way, and nothing else is. `ids` are
        the names of the subjects by their number. All of it is written, or nothing.
        """


def door(name: str) -> Door:
    """Return the door of a format. Raises NotSupported for an unknown one."""
    if name not in DOORS:
        raise NotSupported(
            f"there is no format of histories '{name}'", f"one of: {', '.join(DOORS)}", "name one"
        )
    return cast("Door", importlib.import_module(f"manikin.io.{name}"))


def format_of(source: Path | str) -> str | None:
    """Return the format of histories that a source is in, None where it is none of them."""
    if isinstance(source, str) and source.partition("://")[0] in ("postgresql", "postgres"):
        return "omop"
    path = Path(source)
    if not path.exists():
        return None
    return next((name for name in DOORS if door(name).recognises(path)), None)


def read(
    source: Path | str,
    *,
    format: str | None = None,
    schema: EventSchema | None = None,
    columns: Mapping[str, str | None] | None = None,
    dangling: Dangling = "refuse",
    watch: Watch = silent,
) -> History:
    """Read histories from a source, in a format that is named or recognised.

    `columns` names those of a file of rows that hold the subject and the time. `dangling` "keep"
    keeps what can be kept of rows and resources that refer to what is not there.
    """
    name = _named(source, format)
    if name == "long":  # rows, whose columns may have to be named
        rows: Any = door(name)
        found: History = rows.read(source, schema=schema, watch=watch, **(columns or {}))
        return found
    return door(name).read(source, schema=schema, watch=watch, **_kept(name, dangling))


def flow(
    source: Path | str,
    *,
    format: str | None = None,
    schema: EventSchema | None = None,
    columns: Mapping[str, str | None] | None = None,
    dangling: Dangling = "refuse",
    watch: Watch = silent,
) -> Flow:
    """Read as `read` does, but what is large block by block where the format lets one."""
    name = _named(source, format)
    by_block: Any = getattr(door(name), "flow", None)
    if by_block is not None:
        found = by_block(source, schema=schema, watch=watch, **_kept(name, dangling))
        if isinstance(found, Flow):
            return found
    history = read(
        source, format=name, schema=schema, columns=columns, dangling=dangling, watch=watch
    )
    return Flow(iter((history.events,)), history.format, history.synthetic, history.ids,
                history.layout, list(history.notes))  # fmt: skip


def _named(source: Path | str, format: str | None) -> str:
    """Return the format that is named or recognised. Raises InputError for none."""
    name = format or format_of(source)
    if name is None and _is_table(source):
        name = "long"  # it is said to be histories: a row is an event or a visit
    if name is None:
        raise InputError(
            f"'{Path(source).name}' is in no format of histories that is known",
            f"one of: {', '.join(DOORS)}",
            "name the format (--from), or check the path",
        )
    return name


def _kept(name: str, dangling: Dangling) -> dict[str, Any]:
    """Return the option as doors take it. Raises NotSupported where nothing refers to anything."""
    if dangling == "refuse":
        return {}
    if name not in REFERRING:
        raise NotSupported(
            f"references of {name} that lead nowhere", f"those of {' and '.join(REFERRING)}",
            "leave it out (--dangling)",
        )  # fmt: skip
    return {"dangling": dangling}


def refuse_history(source: Any) -> None:
    """Raise NotSupported for histories where one table is asked for, with what to do."""
    known = isinstance(source, Events | History)
    if isinstance(source, str | Path) and not Path(source).is_file():
        known = format_of(source) is not None  # a file of rows can always be read as a table
    if known:
        raise NotSupported(
            "histories, where one table is asked for",
            "one table; audit, schema, synthesize, fit, sample, evaluate, replay and convert take"
            " histories too",
            "'manikin synthesize --synthesizer auto' tries the engines of histories on yours",
        )


def _is_table(source: Path | str) -> bool:
    """Whether a source is a file with the suffix of a table."""
    from manikin.io.tables import SUFFIXES

    return Path(source).is_file() and Path(source).name.lower().endswith(tuple(SUFFIXES))


def suffix_of(layout: Mapping[str, Any]) -> str:
    """Return the suffix of the file in which histories of a layout stand, "" for a folder."""
    return _BACKENDS.get(str(layout.get("backend")), str(layout.get("suffix", "")))


def schema_to_yaml(schema: EventSchema) -> str:
    """Return a schema of histories as YAML, to be looked through, corrected and given back."""
    import yaml

    return str(yaml.safe_dump(schema.to_json(), sort_keys=False, allow_unicode=True, width=100))


def read_schema(path: Path) -> EventSchema:
    """Read a declared schema of histories, YAML or JSON. Raises SchemaError for anything else."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"'{path.name}' cannot be read as a schema", "a YAML or JSON file", "check the file"
        ) from error
    if not isinstance(document, Mapping):
        raise SchemaError(
            f"'{path.name}' holds no schema of histories", "static, codes, …", "see docs/events.md"
        )
    schema = EventSchema.from_json(document)
    _check_rules(schema)
    return schema


def _check_rules(schema: EventSchema) -> None:
    """Raise SchemaError for declared rules that cannot be asked of the schema's histories."""
    from manikin.knowledge.history_rules import Rules
    from manikin.knowledge.trees import Tree

    for note in Rules(schema.rules, Tree.of(schema)).check(schema):
        raise SchemaError(note, "rules of codes that the schema has", "correct the rule")


def write(
    blocks: Iterable[Events],
    out: Path,
    format: str,
    *,
    layout: Mapping[str, Any] | None = None,
    synthetic: bool,
    ids: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Write histories in a format; `overwrite` replaces what is histories, and nothing else."""
    into = door(format)
    if not out.exists() or not overwrite:
        into.write(blocks, out, layout=layout or {}, synthetic=synthetic, ids=ids)
        return
    if format_of(out) is None:
        raise OutputError(
            f"'{out.name}' exists and is in no format of histories",
            "only earlier histories may be overwritten",
            "choose another place, or remove what is there yourself",
        )
    fresh, old = (out.with_name(f".{which}.{out.name}") for which in ("new", "old"))
    try:
        into.write(blocks, fresh, layout=layout or {}, synthetic=synthetic, ids=ids)
        out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            old.rename(out)  # what was there is not lost for a name
            raise
    finally:
        for left in (fresh, old):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
