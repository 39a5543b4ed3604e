"""Linked tables in memory: patients, their admissions, the measurements of each.

Keys are not among the columns: `above` says on which row of its parent's table each row hangs, and
`to_polars` writes keys that are nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.links import CohortSchema
from manikin.data.table import Table
from manikin.errors import SchemaError

if TYPE_CHECKING:
    import polars

__all__ = ["Cohort", "counts", "in_order", "time_column"]

Ints = NDArray[np.int64]
_TIME = re.compile(
    r"(?:^|[ _.])(?:(?:time|day|week|month|year|hour|minute|visit)s?|seq|sequence|order|age)"
    r"(?:$|[ _.](?:num|number|no|nr)$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cohort:
    """Tables that hang on each other; the rows of the first one are the subjects.

    `above[name]` is, for every table but the first, the row of its parent's table that each row
    hangs on, (rows,); -1 where a key is no parent's: such an orphan has subject -1, and only the
    judge takes it. Raises SchemaError when schema and arrays do not fit together.
    """

    schema: CohortSchema
    parts: Mapping[str, Table]
    above: Mapping[str, Ints]

    def __post_init__(self) -> None:
        tree = self.schema.tree
        if set(self.parts) != set(tree.names) or set(self.above) != set(tree.order[1:]):
            raise _unlike("tables", "the tables of the schema, and where all but the first hang")
        for name, table in self.parts.items():
            if table.schema != self.schema.parts[name]:
                raise _unlike(f"a table '{name}'", "the schema that the cohort has for it")
        if np.unique(self.subjects).size != self.subjects.size:
            raise _unlike(f"subjects of '{tree.root}'", "one row a subject in the first table")
        for name in tree.order[1:]:
            rows, parent = self.above[name], self.parts[tree.up[name].parent]
            least, most = rows.min(initial=0), rows.max(initial=-1)
            if rows.shape != self.parts[name].subjects.shape or rows.dtype.kind != "i":
                raise _unlike(f"places of '{name}'", "one whole number a row")
            if least < -1 or most >= parent.n_rows:
                raise _unlike(f"places of '{name}'", f"rows of '{tree.up[name].parent}', or -1")
            if not np.array_equal(self.parts[name].subjects, _whose(parent.subjects, rows)):
                raise _unlike(f"subjects of '{name}'", "the subjects of the rows it hangs on")

    @staticmethod
    def of(schema: CohortSchema, parts: Mapping[str, Table], above: Mapping[str, Ints]) -> Cohort:
        """Build a cohort; subjects of all tables but the first follow from what they hang on."""
        tree = schema.tree
        found = {tree.root: parts[tree.root]}
        for name in tree.order[1:]:
            table, rows = parts[name], np.asarray(above[name], np.int64)
            subjects = _whose(found[tree.up[name].parent].subjects, rows)
            found[name] = Table(table.schema, subjects, table.columns, table.states)
        places = {name: np.asarray(above[name], np.int64) for name in tree.order[1:]}
        return Cohort(schema, {name: found[name] for name in schema.parts}, places)

    @staticmethod
    def from_frames(frames: Mapping[str, Any], links: Sequence[str] = ()) -> Cohort:
        """Build from pandas, polars or Arrow frames by name, as `manikin.read_cohort` does."""
        from manikin.data.linking import link_frames

        return link_frames(frames, links).cohort

    @property
    def root(self) -> Table:
        """The first table: one row a subject."""
        return self.parts[self.schema.tree.root]

    @property
    def subjects(self) -> Ints:
        """The subjects, (rows of the first table,)."""
        return self.root.subjects

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self.subjects.size)

    @property
    def n_rows(self) -> int:
        """Number of rows of all tables."""
        return sum(table.n_rows for table in self.parts.values())

    @property
    def orphans(self) -> int:
        """Number of rows that hang on no row that there is."""
        return sum(int((rows < 0).sum()) for rows in self.above.values())

    def take(self, subjects: Ints) -> Cohort:
        """Return every row of these subjects in all tables, in their present order."""
        tree = self.schema.tree
        kept = {tree.root: np.isin(self.subjects, subjects)}
        parts = {tree.root: self.root.rows(kept[tree.root])}
        above = {}
        for name in tree.order[1:]:
            parent, rows = tree.up[name].parent, self.above[name]
            kept[name] = (rows >= 0) & np.append(kept[parent], False)[rows]
            place = np.cumsum(kept[parent]) - 1
            above[name] = place[rows[kept[name]]]
            parts[name] = self.parts[name].rows(kept[name])
        return Cohort(self.schema, {name: parts[name] for name in self.schema.parts}, above)

    def renumbered(self, start: int = 0) -> Cohort:
        """Return the cohort with its subjects numbered from `start`, in their present order."""
        root = self.root
        fresh = np.arange(start, start + root.n_rows, dtype=np.int64)
        parts = dict(self.parts)
        parts[self.schema.tree.root] = Table(root.schema, fresh, root.columns, root.states)
        return Cohort.of(self.schema, parts, self.above)

    @staticmethod
    def concatenate(cohorts: Sequence[Cohort]) -> Cohort:
        """Stack cohorts of one schema; subjects, which must differ, are taken as they are."""
        schema = cohorts[0].schema
        parts = {n: Table.concatenate([c.parts[n] for c in cohorts]) for n in schema.parts}
        above = {}
        for name, link in schema.tree.up.items():
            sizes = [c.parts[link.parent].n_rows for c in cohorts]
            starts = np.cumsum([0, *sizes[:-1]])
            above[name] = np.concatenate(
                [np.where(c.above[name] < 0, -1, c.above[name] + start)
                 for c, start in zip(cohorts, starts, strict=True)]
            )  # fmt: skip
        return Cohort.of(schema, parts, above)

    def ancestors(self, name: str, above: str) -> Ints:
        """Return the row of the table `above` on which each row of `name` hangs, -1 for none."""
        rows = np.arange(self.parts[name].n_rows, dtype=np.int64)
        for step in (name, *self.schema.tree.path(name)):
            if step == above:
                return rows
            rows = np.where(rows < 0, -1, np.append(self.above[step], -1)[rows])
        raise _unlike(f"'{above}' above '{name}'", "a table on its path to the first")

    def to_polars(self, first: Mapping[str, int] | None = None) -> dict[str, polars.DataFrame]:
        """Return a polars frame a table, with new keys, in the source's columns and types.

        Keys go on from `first`, how many rows of each table came before.
        """
        from manikin.data.render import render

        before = dict.fromkeys(self.parts, 0) if first is None else first
        return {
            name: render(table, keys=self.keys(name, before)) for name, table in self.parts.items()
        }

    def keys(self, name: str, first: Mapping[str, int]) -> dict[str, tuple[str | None, Ints]]:
        """Return the template and numbers of a table's key columns.

        `first` says how many rows of each table came before. A key is the number of its row.
        """
        made: dict[str, tuple[str | None, Ints]] = {}
        ends = [(link.column, link.child) for link in self.schema.links]
        ends += [(link.key, link.parent) for link in self.schema.links]
        for column in dict.fromkeys(column for column, table in ends if table == name):
            table, key = self._source(name, column)
            rows = self.ancestors(name, table)
            # an orphan's key is nobody's: beyond every number that blocks of rows could reach
            lost = 10**12 + first[name] + np.arange(rows.size, dtype=np.int64)
            numbers = np.where(rows < 0, lost, rows + first[table])
            made[column] = (self.schema.parts[table][key].template, numbers)
        return made

    def _source(self, name: str, column: str) -> tuple[str, str]:
        """Return the table and column whose keys a key column repeats, itself if none's."""
        for link in self.schema.links:
            if (link.child, link.column) == (name, column):
                return self._source(link.parent, link.key)
        return name, column


def counts(cohort: Cohort, name: str) -> Ints:
    """Return how many rows of a table hang on each row of its parent's, (rows of the parent,)."""
    rows = cohort.above[name]
    parent = cohort.parts[cohort.schema.tree.up[name].parent]
    return np.bincount(rows[rows >= 0], minlength=parent.n_rows).astype(np.int64)


def time_column(table: Table) -> str | None:
    """Return the column that says when a row was: the most complete date, or a number named so."""
    dates = [c.name for c in table.schema.learned if c.kind == "datetime"]
    numbers = [c.name for c in table.schema.learned if c.kind in ("integer", "continuous")]
    for names in (dates, [name for name in numbers if _TIME.search(name)]):
        present = {name: float(table.present(name).mean()) for name in names if table.n_rows}
        best = max(present, key=lambda name: present[name], default=None)
        if best is not None and present[best] > 0.5:
            return best
    return None


def in_order(cohort: Cohort, name: str, time: str | None) -> Ints:
    """Return a table's rows by the row they hang on, then by time where there is one, then as is.

    A row without a time comes last among its siblings; orphans come first of all.
    """
    table = cohort.parts[name]
    when = np.zeros(table.n_rows) if time is None else table.numbers(time)
    return np.lexsort((np.where(np.isnan(when), np.inf, when), cohort.above[name]))


def _whose(subjects: Ints, rows: Ints) -> Ints:
    """Return the subjects of parents' rows, -1 for none."""
    return np.append(subjects, np.int64(-1))[rows]


def _unlike(given: str, allowed: str) -> SchemaError:
    return SchemaError(f"a cohort with {given} that do not fit", allowed, "build it by its door")
