"""Keys of frames: which columns are some, what they refer to, and whether they lead there.

A link is inferred where a column has the name of another table's key (admissions.patient_id and
patients.patient_id, or patients.id) and its cells are cells of that key. Reasons speak of counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import as_text
from manikin.data.frames import to_polars
from manikin.data.links import Link, Tree, parse_link
from manikin.data.marks import missing_marks
from manikin.data.names import is_key, is_key_ending
from manikin.data.schema import no_such_column
from manikin.errors import InputError, SchemaError

if TYPE_CHECKING:
    import polars

__all__ = ["Found", "Keys", "Problem", "find_links"]

ROW_NUMBERS = {"id", "row_id", "rowid", "index", "row", "nr", "no"}  # of other rows everywhere


@dataclass(frozen=True)
class Problem:
    """Rows whose keys do not say which row is meant: how many, in the middle of a sentence."""

    before: str
    rows: int
    after: str
    allowed: str
    todo: str

    @property
    def error(self) -> SchemaError:
        """The problem as an error, with the number of rows."""
        return SchemaError(f"{self.before}{self.rows} rows{self.after}", self.allowed, self.todo)


@dataclass(frozen=True)
class Found:
    """How tables are linked, and why."""

    tree: Tree
    reasons: Mapping[Link, str]
    loose: frozenset[tuple[str, str]]  # references, by table and column, that are not followed

    @property
    def links(self) -> tuple[Link, ...]:
        """The links that are followed."""
        return tuple(self.reasons)


def find_links(keys: Keys, links: Sequence[str | Link] = ()) -> Found:
    """Return the tree that the tables make. Links that are named replace inferred ones.

    Raises SchemaError where no key ties the tables, or they form no tree.
    """
    frames = keys.frames
    named = [parse_link(x, frames) if isinstance(x, str) else x for x in links]
    for link in named:
        keys.check_columns(link)
    reasons, loose = _chosen(_candidates(keys, named), keys, named)
    tables = {end for link in reasons for end in (link.child, link.parent)} or set(frames)
    if len(tables) > 1 and not reasons:
        raise _not_linked(list(frames))
    tree = Tree(tuple(name for name in frames if name in tables), tuple(reasons))
    return Found(tree, reasons, loose)


class Keys:
    """Columns of frames as keys: text with '' for no value, read once each."""

    def __init__(self, frames: Mapping[str, Any]) -> None:
        if not frames:
            raise InputError("no table was given", "one table or more", "give a folder of tables")
        self.frames = {name: to_polars(frame) for name, frame in frames.items()}
        self._read: dict[tuple[str, str], polars.Series] = {}

    def text(self, table: str, column: str) -> polars.Series:
        """Return the cells of a column as keys."""
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
        """Return how many rows have none."""
        return int((self.text(table, column) == "").sum())

    def unique(self, table: str, column: str) -> bool:
        """Whether each row has one, and no two the same."""
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
        parents = parents.filter(text != "").unique("key", keep="first")
        own = pl.DataFrame({"key": self.text(link.child, link.column)})
        found = own.join(parents, on="key", how="left", maintain_order="left")["row"]
        return np.asarray(found.fill_null(-1).to_numpy(), np.int64)

    def check_columns(self, link: Link) -> None:
        """Raise SchemaError for a link of columns that there are not."""
        for table, column in ((link.child, link.column), (link.parent, link.key)):
            if column not in self.frames[table].columns:
                raise no_such_column(column, self.frames[table].columns)

    def of_parent(self, link: Link) -> Iterator[Problem]:
        """Say of keys that are missing, or of several rows: no row can then be found by them."""
        key = f"the key '{link.parent}.{link.key}'"
        if blank := self.missing(link.parent, link.key):
            yield Problem(
                f"{key} is missing in ", blank, "", "a key is there in every row",
                "fill it in, or leave those rows out",
            )  # fmt: skip
        text = self.text(link.parent, link.key)
        text = text.filter(text != "")
        if again := len(text) - text.n_unique():
            yield Problem(
                f"{key} repeats in ", again, "", "a key is of one row",
                "leave the repeated rows out, or name another key with a link",
            )  # fmt: skip

    def of_child(self, link: Link) -> Iterator[Problem]:
        """Say of rows that name no row of the parent's."""
        blank = self.missing(link.child, link.column)
        if blank:
            yield Problem(
                f"'{link.child}.{link.column}' is missing in ", blank, "",
                f"every row hangs on a row of '{link.parent}'",
                "fill it in, leave those rows out, or link the table to one that all rows refer to"
                " (the other reference is then left empty)",
            )  # fmt: skip
        if lost := int((self.places(link) < 0).sum()) - blank:
            yield Problem(
                "", lost, f" of '{link.child}' have a '{link.column}' that no row of"
                f" '{link.parent}' has", f"every one is a '{link.key}' of '{link.parent}'",
                "add the rows that they refer to, leave these rows out, or correct the link",
            )  # fmt: skip


def _candidates(keys: Keys, named: Sequence[Link]) -> dict[Link, str]:
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


def _believed(keys: Keys, link: Link, own: bool) -> bool:
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
    found: dict[Link, str], keys: Keys, named: Sequence[Link]
) -> tuple[dict[Link, str], frozenset[tuple[str, str]]]:
    """Return the links of one tree, with reasons, and the references that are not followed."""
    below: dict[str, set[str]] = {name: set() for name in keys.frames}
    for link in found:
        below[link.parent].add(link.child)
    reach = {name: _reached(name, below) for name in below}
    referring = {link.child for link in found}
    roots = [name for name in below if name not in referring and below[name]]
    if found and not roots:
        Tree(tuple({e for link in found for e in (link.child, link.parent)}),
             tuple(found))  # fmt: skip
    root = max(roots, key=lambda name: (len(reach[name]), is_key(_singular(name))), default="")
    inside = reach.get(root, set()) | {root}
    tied = {link: why for link, why in found.items() if link.parent in inside}
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
        f"name the links: --link {names[1]}.COLUMN={names[0]}.KEY; a table by itself is given as a"
        " file",
    )
