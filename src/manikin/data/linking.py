"""From frames to a cohort: which columns are keys, what they refer to, and rows in place of keys.

A link is inferred where a column has the name of another table's key (admissions.patient_id and
patients.patient_id, or patients.id) and its cells are cells of that key. Reasons speak of counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import as_text
from manikin.data.cohort import Cohort
from manikin.data.complete import complete
from manikin.data.frames import check_columns, to_polars
from manikin.data.identifiers import find_template
from manikin.data.infer import infer_schema
from manikin.data.links import CohortSchema, Link, Tree, parse_link
from manikin.data.marks import missing_marks
from manikin.data.names import is_key, is_key_ending
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema, no_such_column, with_roles
from manikin.errors import InputError, SchemaError

if TYPE_CHECKING:
    import polars

__all__ = ["Dangling", "Linked", "link_frames", "link_together"]

Dangling = Literal["refuse", "keep"]
ROW_NUMBERS = {"id", "row_id", "rowid", "index", "row", "nr", "no"}  # of other rows everywhere


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
    keys: dict[str, _Keys] = {}
    for side, frames in sides.items():
        if not frames:
            raise InputError("no table was given", "one table or more", "give a folder of tables")
        keys[side] = _Keys({name: to_polars(frame) for name, frame in frames.items()})
    first = next(iter(keys.values()))
    named = [parse_link(x, first.frames) if isinstance(x, str) else x for x in links]
    for link in named:
        first.check_columns(link)
    reasons, loose = _chosen(_candidates(first, named), first, named)
    tables = {end for link in reasons for end in (link.child, link.parent)} or set(first.frames)
    if len(tables) > 1 and not reasons:
        raise _not_linked(list(first.frames))
    tree = Tree(tuple(name for name in first.frames if name in tables), tuple(reasons))
    stacked, plain = _stacked(keys, tree.names)
    for side, own in keys.items():
        with _said_of(f"the {side} folder" if side else ""):
            for link in reasons:
                own.check(link, dangling[side])
    given, typed = schemas or {}, typed or {}
    held = {(roles or {}).get(role) for role in ("target", "time", "event")}
    parts = {
        name: _schema(
            frame, name, tree, _Keys(stacked), loose, given.get(name),
            bool(typed.get(name)) and name not in plain if name in typed else None,
            held if name == tree.root else (),
        )
        for name, frame in stacked.items()
    }  # fmt: skip
    parts[tree.root] = with_roles(parts[tree.root], **(roles or {}))
    schema = CohortSchema(parts, tuple(reasons))
    read = {}
    for name, frame in stacked.items():
        with _said_of(f"the table '{name}'" if len(stacked) > 1 else ""):
            read[name] = parse(frame, parts[name])
    found, start = dict[str, Linked](), dict.fromkeys(stacked, 0)
    for side, own in keys.items():
        cut = {name: slice(start[name], start[name] + own.frames[name].height) for name in stacked}
        start = {name: one.stop for name, one in cut.items()}
        mine = read if len(keys) == 1 else {
            name: read[name].rows(np.arange(one.start, one.stop)) for name, one in cut.items()
        }  # fmt: skip
        above = {name: own.places(link) for name, link in tree.up.items()}
        with _said_of(f"the {side} folder" if side else ""):
            cohort = _agreeing(Cohort.of(schema, mine, above), own, dangling[side])
        left_out = tuple(name for name in own.frames if name not in stacked)
        cells = {name: stacked[name][one] for name, one in cut.items()}
        found[side] = Linked(cohort, reasons, left_out, cells)
    return found


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
    keys: Mapping[str, _Keys], tables: Sequence[str]
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


# ------------------------------------------------------------------ keys


class _Keys:
    """Columns of frames as keys: text with '' for no value, read once each."""

    def __init__(self, frames: Mapping[str, polars.DataFrame]) -> None:
        self.frames = frames
        self._read: dict[tuple[str, str], polars.Series] = {}

    def text(self, table: str, column: str) -> polars.Series:
        import polars as pl

        if (table, column) not in self._read:
            text = as_text(self.frames[table][column]).str.strip_chars()
            different = text.unique()
            marks = different.filter(pl.Series(missing_marks(different, mostly_values=True)))
            if text.str.contains(r"^\d+\.0+$").any():  # whole numbers beside empty cells
                text = text.str.replace(r"^(\d+)\.0+$", "${1}")
            text = text.replace_strict(marks, "", default=text) if len(marks) else text
            self._read[(table, column)] = text
        return self._read[(table, column)]

    def missing(self, table: str, column: str) -> int:
        return int((self.text(table, column) == "").sum())

    def unique(self, table: str, column: str) -> bool:
        text = self.text(table, column)
        return self.missing(table, column) == 0 and text.n_unique() == len(text)

    def within(self, link: Link) -> tuple[int, int]:
        """Return how many different keys a link's column has, and how many are a parent's."""
        own = self.text(link.child, link.column).unique()
        own = own.filter(own != "")
        return len(own), int(own.is_in(self.text(link.parent, link.key).unique().implode()).sum())

    def places(self, link: Link) -> NDArray[np.int64]:
        """Return the parent's row of each row, -1 where there is none."""
        import polars as pl

        text = self.text(link.parent, link.key)
        parents = pl.DataFrame({"key": text, "row": np.arange(len(text))})
        own = pl.DataFrame({"key": self.text(link.child, link.column)})
        found = own.join(parents, on="key", how="left", maintain_order="left")["row"]
        return np.asarray(found.fill_null(-1).to_numpy(), np.int64)

    def check_columns(self, link: Link) -> None:
        for table, column in ((link.child, link.column), (link.parent, link.key)):
            if column not in self.frames[table].columns:
                raise no_such_column(column, self.frames[table].columns)

    def check(self, link: Link, dangling: Dangling) -> None:
        """Raise SchemaError for keys that do not say which row is meant."""
        if blank := self.missing(link.parent, link.key):
            raise SchemaError(
                f"the key '{link.parent}.{link.key}' is missing in {blank} rows",
                "a key is there in every row",
                "fill it in, or leave those rows out",
            )
        text = self.text(link.parent, link.key)
        if again := len(text) - text.n_unique():
            raise SchemaError(
                f"the key '{link.parent}.{link.key}' repeats in {again} rows",
                "a key is of one row",
                "leave the repeated rows out, or name another key with a link",
            )
        blank = self.missing(link.child, link.column)
        if blank and dangling == "refuse":
            raise SchemaError(
                f"'{link.child}.{link.column}' is missing in {blank} rows",
                f"every row hangs on a row of '{link.parent}'",
                "fill it in, leave those rows out, or link the table to one that all rows refer to"
                " (the other reference is then left empty)",
            )
        lost = int((self.places(link) < 0).sum())
        if lost and dangling == "refuse":
            raise SchemaError(
                f"{lost} rows of '{link.child}' have a '{link.column}' that no row of"
                f" '{link.parent}' has",
                f"every one is a '{link.key}' of '{link.parent}'",
                "add the rows that they refer to, leave these rows out, or correct the link",
            )


def _agreeing(cohort: Cohort, keys: _Keys, dangling: Dangling) -> Cohort:
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


# ------------------------------------------------------------------ which links


def _candidates(keys: _Keys, named: Sequence[Link]) -> dict[Link, str]:
    """Return every link that names and cells speak for, and why; at most one a pair of tables."""
    found: dict[Link, str] = {}
    for parent, frame in keys.frames.items():
        for key in frame.columns:
            if not (is_key(key) or is_key_ending(key)):
                continue
            own = _stem(key) == _singular(parent) or key.casefold() in ("id", "key")
            if not (keys.unique(parent, key) and frame.height) and not own:
                continue
            for child in keys.frames:
                column = _referring(keys.frames[child], child, parent, key)
                link = Link(child, column or "", parent, key)
                if column is None or not _believed(keys, link, own):
                    continue
                found[link] = _reason(*keys.within(link), parent)
    for link in named:
        found = {other: why for other, why in found.items()
                 if (other.child, other.parent) != (link.child, link.parent)}  # fmt: skip
        found[link] = "as asked for"
    return found


def _reason(n: int, inside: int, parent: str) -> str:
    """Say why a link is believed; a count that is told is of eleven keys or more."""
    if min(n, inside) < 11 or 0 < n - inside < 11:
        share = "every key" if n == inside else "most keys"
        return f"inferred from the same name, and {share} that it has is one of '{parent}'"
    which = "each" if inside == n else f"{inside:,}"
    return f"inferred from the same name, and {which} of its {n:,} keys is one of '{parent}'"


def _referring(frame: polars.DataFrame, child: str, parent: str, key: str) -> str | None:
    """Return the column of a table that has the name of another's key."""
    if child == parent:
        return None
    spelled = {name.casefold(): name for name in frame.columns}
    low = key.casefold()
    if low not in ROW_NUMBERS and low in spelled:
        return spelled[low]
    if low in ("id", "key"):
        stem = _singular(parent)
        tried = (f"{stem}_{low}", f"{stem}{low}", f"{parent.casefold()}_{low}")
        return next((spelled[name] for name in tried if name in spelled), None)
    return None


def _believed(keys: _Keys, link: Link, own: bool) -> bool:
    """Whether the cells speak for a link: most keys are the parent's, and it is no mirror image."""
    n, inside = keys.within(link)
    if 2 * inside < n:
        return False
    if not keys.unique(link.child, link.column) or not keys.frames[link.child].height:
        return True
    # one row each: the table that the key is named after, or that has more rows, is the parent
    rows = [keys.frames[name].height for name in (link.parent, link.child)]
    other = _stem(link.column) == _singular(link.child)
    if own != other:
        return own
    return rows[0] > rows[1] or (rows[0] == rows[1] and link.parent < link.child)


def _chosen(
    candidates: dict[Link, str], keys: _Keys, named: Sequence[Link]
) -> tuple[dict[Link, str], frozenset[tuple[str, str]]]:
    """Return the links of one tree, with reasons, and the references that are not followed."""
    below: dict[str, set[str]] = {name: set() for name in keys.frames}
    for link in candidates:
        below[link.parent].add(link.child)
    reach = {name: _reached(name, below) for name in below}
    referring = {link.child for link in candidates}
    roots = [name for name in below if name not in referring and below[name]]
    if candidates and not roots:
        Tree(tuple({e for link in candidates for e in (link.child, link.parent)}),
             tuple(candidates))  # fmt: skip
    root = max(roots, key=lambda name: (len(reach[name]), is_key(_singular(name))), default="")
    inside = reach.get(root, set()) | {root}
    tied = {link: why for link, why in candidates.items() if link.parent in inside}
    of_asked = {link.child: link for link in named}
    chosen, loose = dict[Link, str](), set[tuple[str, str]]()
    for link, why in tied.items():
        others = [o for o in tied if o.child == link.child and o != link]
        blank = keys.missing(link.child, link.column) > 0
        elsewhere = any(keys.missing(o.child, o.column) == 0 for o in others)
        asked = of_asked.get(link.child)
        beside = asked is not None and link not in named and link.child in reach[link.parent]
        off = beside and asked is not None and asked.parent not in reach[link.parent]
        if link not in named and ((blank and elsewhere) or off):
            loose.add((link.child, link.column))
        else:
            chosen[link] = why
    loose -= {(link.child, link.column) for link in chosen}
    return chosen, frozenset(loose)


def _reached(name: str, below: Mapping[str, set[str]]) -> set[str]:
    """Return every table that hangs on a table, directly or not."""
    found: set[str] = set()
    waiting = set(below[name])
    while waiting:
        found |= waiting
        waiting = {child for one in waiting for child in below[one]} - found
    return found


def _singular(table: str) -> str:
    low = table.casefold().rpartition(".")[2]
    return low[:-3] + "y" if low.endswith("ies") else low.removesuffix("s")


def _stem(key: str) -> str:
    low = key.casefold()
    for ending in ("_id", "_key", " id", "id"):
        if low.endswith(ending) and len(low) > len(ending):
            return low.removesuffix(ending)
    return low


def _not_linked(names: list[str]) -> SchemaError:
    return SchemaError(
        f"no key ties the tables {', '.join(names[:5])} to each other",
        "a column with the name and the cells of another table's key",
        "name the links: --link admissions.patient_id=patients.patient_id",
    )


# ------------------------------------------------------------------ schemas


def _schema(
    frame: polars.DataFrame,
    name: str,
    tree: Tree,
    keys: _Keys,
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
