"""From frames to a cohort: rows in place of keys, under one schema."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from manikin.data.cells import as_text
from manikin.data.cohort import Cohort
from manikin.data.complete import complete
from manikin.data.frames import check_columns
from manikin.data.identifiers import find_template
from manikin.data.infer import infer_schema
from manikin.data.keys import Found, Keys, find_links
from manikin.data.links import CohortSchema, Link, Tree
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema, with_roles
from manikin.errors import SchemaError

if TYPE_CHECKING:
    import polars

__all__ = ["Dangling", "Linked", "link_frames", "link_together"]

Dangling = Literal["refuse", "keep"]


@dataclass(frozen=True)
class Linked:
    """A cohort, why its tables were linked so, and what of the frames it does not hold."""

    cohort: Cohort
    reasons: Mapping[Link, str]
    left_out: tuple[str, ...]  # tables that no link ties to the patients
    cells: Mapping[str, polars.DataFrame]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the tables were read."""
        said = [f"{link}: {why}" for link, why in self.reasons.items()]
        if self.left_out:
            said.append(
                f"Left out, since no key ties them to the others: {', '.join(self.left_out)}."
            )
        return tuple(said)


def link_frames(
    frames: Mapping[str, Any],
    links: Sequence[str | Link] = (),
    *,
    schemas: Mapping[str, TableSchema] | None = None,
    typed: Mapping[str, bool] | None = None,
    dangling: Dangling = "refuse",
    roles: Mapping[str, Any] | None = None,
) -> Linked:
    """Return the cohort of these frames. Links that are named take the place of inferred ones.

    `roles` are of columns of the first table, as `with_roles` takes them.
    Raises SchemaError where keys are missing, repeated or of no row, or the tables form no tree;
    with `dangling` "keep", rows whose key is no row's are kept as orphans, for the judge.
    """
    given = {"": dangling}
    found = link_together({"": frames}, links, schemas=schemas, typed=typed, dangling=given,
                          roles=roles)  # fmt: skip
    return found[""]


def link_together(
    sides: Mapping[str, Mapping[str, Any]],
    links: Sequence[str | Link] = (),
    *,
    schemas: Mapping[str, TableSchema] | None = None,
    typed: Mapping[str, bool] | None = None,
    dangling: Mapping[str, Dangling],
    roles: Mapping[str, Any] | None = None,
) -> dict[str, Linked]:
    """Return a cohort a side, all of one schema; as `link_frames`, but for several at once.

    The first side says how its tables are linked, and the others must have these tables. Schemas
    that are not given are inferred from all sides, so that what any holds has a place in them.
    """
    keys = {side: Keys(frames) for side, frames in sides.items()}
    found = find_links(next(iter(keys.values())), links)
    tree = found.tree
    stacked, plain = _stacked(keys, tree.names)
    for side, own in keys.items():
        for link in found.links:
            children = own.of_child(link) if dangling[side] == "refuse" else ()
            with _said_of(side and f"the {side} folder"):
                for problem in (*own.of_parent(link), *children):
                    raise problem.error
    given, typed = schemas or {}, typed or {}
    held = {(roles or {}).get(role) for role in ("target", "time", "event")}
    every = Keys(stacked)
    parts = {
        name: _schema(
            frame, name, tree, every, found.loose, given.get(name),
            typed[name] and name not in plain if name in typed else None,
            held if name == tree.root else (),
        )
        for name, frame in stacked.items()
    }  # fmt: skip
    parts[tree.root] = with_roles(parts[tree.root], **(roles or {}))
    return _cut(keys, found, CohortSchema(parts, found.links), stacked, dangling)


def _cut(
    keys: Mapping[str, Keys],
    found: Found,
    schema: CohortSchema,
    stacked: Mapping[str, polars.DataFrame],
    dangling: Mapping[str, Dangling],
) -> dict[str, Linked]:
    """Read the rows of all sides, and give each its own."""
    read = {}
    for name, frame in stacked.items():
        with _said_of(f"the table '{name}'" if len(stacked) > 1 else ""):
            read[name] = parse(frame, schema.parts[name])
    made, ends = dict[str, Linked](), dict.fromkeys(stacked, 0)
    for side, own in keys.items():
        starts, ends = ends, {n: ends[n] + own.frames[n].height for n in stacked}
        mine = read if len(keys) == 1 else {
            name: table.rows(np.arange(starts[name], ends[name])) for name, table in read.items()
        }  # fmt: skip
        above = {name: own.places(link) for name, link in schema.tree.up.items()}
        with _said_of(side and f"the {side} folder"):
            cohort = _agreeing(Cohort.of(schema, mine, above), own, dangling[side])
        left_out = tuple(name for name in own.frames if name not in stacked)
        cells = {name: frame[starts[name] : ends[name]] for name, frame in stacked.items()}
        made[side] = Linked(cohort, found.reasons, left_out, cells)
    return made


@contextlib.contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Let a SchemaError say of which folder or table it is."""
    try:
        yield
    except SchemaError as error:
        if not what:
            raise
        raise SchemaError(f"{what}: {error.given}", error.allowed, error.todo) from error


def _stacked(
    keys: Mapping[str, Keys], tables: Sequence[str]
) -> tuple[dict[str, polars.DataFrame], frozenset[str]]:
    """Return the rows of all sides by table, and the tables whose types differ: texts then."""
    import polars as pl

    (first, reference), *others = keys.items()
    for side, own in others:
        if lacking := [name for name in tables if name not in own.frames]:
            raise SchemaError(
                f"the {side} folder lacks the tables {', '.join(lacking[:5])}",
                f"the tables of the {first} folder, by the same names: {', '.join(tables)}",
                "add them (without rows if there are none), or rename the files",
            )
    found, plain = dict[str, pl.DataFrame](), set[str]()
    for name in tables:
        like = reference.frames[name]
        for side, own in others:
            check_columns(f"{side} folder's '{name}'", f"{first} folder's '{name}'",
                          own.frames[name].columns, like.columns)  # fmt: skip
        frames = [own.frames[name].select(like.columns) for own in keys.values()]
        if any(frame.schema != like.schema for frame in frames):
            plain.add(name)
            frames = [frame.select(as_text(frame[c]).alias(c) for c in frame.columns)
                      for frame in frames]  # fmt: skip
        found[name] = pl.concat(frames) if others else like
    return found, frozenset(plain)


# ------------------------------------------------------------------ schemas


def _agreeing(cohort: Cohort, keys: Keys, dangling: Dangling) -> Cohort:
    """Check that a row's references to several tables lead along one path."""
    above = dict(cohort.above)
    for link in cohort.schema.links:
        if cohort.schema.tree.up[link.child] == link:
            continue
        apart = cohort.ancestors(link.child, link.parent) != keys.places(link)
        if apart.any() and dangling == "refuse":
            near = cohort.schema.tree.up[link.child]
            raise SchemaError(
                f"{int(apart.sum())} rows of '{link.child}' have a '{link.column}' that is not that"
                f" of the '{near.parent}' they belong to",
                f"'{link.column}' and '{near.column}' say the same",
                "correct one of the two, or leave those rows out",
            )
        above[link.child] = np.where(apart, -1, above[link.child])
    return Cohort.of(cohort.schema, cohort.parts, above)


def _schema(
    frame: polars.DataFrame,
    name: str,
    tree: Tree,
    keys: Keys,
    loose: frozenset[tuple[str, str]],
    given: TableSchema | None,
    typed: bool | None,
    learned: Collection[str | None] = (),
) -> TableSchema:
    """Return a table's schema, its keys as identifiers and references not followed as texts."""
    near = tree.up[name].column if name in tree.up else None
    if given is None:
        schema = infer_schema(frame, subject=near, typed=typed, learned=learned)
    else:
        schema = complete(given, frame, typed=bool(typed))
    first = next((link.key for link in tree.links if link.parent == name), None)
    keyed = {link.column for link in tree.links if link.child == name}
    keyed |= {link.key for link in tree.links if link.parent == name}
    columns = []
    for column in schema:
        if (name, column.name) in loose:
            column = dataclasses.replace(
                column, kind="text", roles=(), categories=(), special=(),
                reason="text: refers to a table that its rows do not hang on; left empty",
            )  # fmt: skip
        elif column.name in keyed:
            subject = name == tree.root and column.name == first
            column = _key(column, keys.text(name, column.name), subject)
        columns.append(column)
    return dataclasses.replace(schema, columns=tuple(columns))


def _key(column: Column, text: polars.Series, subject: bool) -> Column:
    text = text.filter(text != "").unique(maintain_order=True)
    return Column(
        column.name,
        "identifier",
        ("subject",) if subject else (),
        missing=column.missing,
        template=find_template(text),
        dtype=column.dtype,
        reason="identifier: a key between tables; new ones are made",
    )
