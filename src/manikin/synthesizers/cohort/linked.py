"""Linked: patients by any table synthesizer, then the rows below each given those above.

Reference  Patki, Wedge and Veeramachaneni, "The synthetic data vault", IEEE DSAA 2016 (parents
           before children, and what hangs on a parent among the parent's columns); Getoor,
           Friedman, Koller and Pfeffer, "Learning probabilistic relational models", 2001 (§3: a
           row's chances given the columns of the rows that it refers to)
Idea       one chain over all tables: a patient's row together with how many rows hang on it; then
           row after row below it, each given the rows above, its place and the sibling before it
Algorithm  1 put the counts of rows below beside each row · 2 fit the table synthesizer to the
           patients · 3 for each table below, in an order in which parents come first: join each
           row to those above it and to its sibling before in time, times as intervals; fit a table
           synthesizer to it · 4 draw patients, then place after place of every table given those
Differs    from the papers in: counts are columns of the parent, so that they depend on it and it
           on them; siblings are a first-order Markov chain in time; no aggregate of the children
           is modelled; with how many decimals numbers are written and which times rows repeat are
           drawn too; what fewer than k patients hold is coarsened before rows are learnt
Use when   tables refer to each other by keys: patients, admissions, measurements; not for streams
           of thousands of events a patient, whose order over a long time matters

Keys are never seen. A model file holds the files of its tables' models, and never a row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.cohort import Cohort, counts
from manikin.data.dataset import Dataset
from manikin.data.links import CohortSchema
from manikin.data.randomness import generator
from manikin.data.rules import Condition, Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.knowledge import constraints
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import (
    Conditional,
    Model,
    State,
    Synthesizer,
    Watch,
    check_settings,
    report,
)
from manikin.synthesizer import silent as silence
from manikin.synthesizers.cohort._habits import MOST_DECIMALS
from manikin.synthesizers.cohort.encoding import CohortEncoding, Layout, check_flat, paste
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Linked"]

Ints: TypeAlias = NDArray[np.int64]
MOST_ROWS = 20_000_000  # of a table in one draw: more is a file made to exhaust memory


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Linked:
    """Recipe: tables one below the other, each by a table synthesizer."""

    table: str = "table/seqtree"  # the table synthesizer that draws every table's rows
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    k: int = 5  # fewest patients that share a value kept as it stands in the tables below
    most: int = 1000  # most rows of one table that may hang on one row

    def __post_init__(self) -> None:
        check_settings(self, k=(2, math.inf), most=(1, 5000))

    def fit(
        self, data: Cohort, *, seed: int, budget: Budget | None = None, watch: Watch = silence
    ) -> LinkedModel:
        """Learn table after table. Raises InputError for orphans and for too long histories."""
        refuse_budget(budget, "cohort/linked")
        if not isinstance(data, Cohort):
            raise InputError(
                "one table was given to 'cohort/linked'",
                "tables that are linked by keys: a folder of them, or a Cohort",
                "give these, or choose a synthesizer of tables",
            )
        self._check(data)
        encoding = CohortEncoding.fit(data)
        tree = data.schema.tree
        parts: dict[str, Part] = {}
        for i, name in enumerate(tree.order):
            report(watch, i, len(tree.order), f"fitting the table {i + 1}")
            own_seed = int(generator(seed, f"linked fit {name}").integers(2**62))
            longest = 0
            model: Model[Table] | None = None
            if name == tree.root:
                model = self._of_tables().fit(encoding.roots(data), seed=own_seed, watch=watch)
            else:
                longest = int(counts(data, name).max(initial=0))
                if longest and encoding.own(name):
                    flat = encoding.rows(data, name)
                    model = self._fit_rows(flat, encoding, name, own_seed, watch)
            rules = () if name == tree.root else data.schema.parts[name].rules
            learnt = constraints.learn(rules, data.parts[name], least=self.k)
            parts[name] = Part(model, longest, learnt)
        return LinkedModel(_hidden(encoding, parts), parts)

    def restore(self, schema: Any, state: State) -> LinkedModel:
        """Rebuild a model from its state."""
        if not isinstance(schema, CohortSchema):
            raise InputError("a schema of one table", "that of linked tables", "use its own file")
        stored = state.values["tables"]
        layouts: dict[str, Layout] = {}
        parts: dict[str, Part] = {}
        for name in schema.tree.order:
            layouts[name] = _layout(stored[name], schema, name, layouts)
        encoding = CohortEncoding(schema, layouts)
        for name in schema.tree.order[1:]:
            if max(layouts[name].marks, default=-1) >= len(encoding.references(name)):
                raise _malformed("times that repeat nothing")
        for i, name in enumerate(schema.tree.order):
            values, model = stored[name], None
            if values["model"] is not None:
                flat = TableSchema.from_json(values["schema"])
                check_flat(encoding.flat(name), flat)
                start = f"{i}/"
                arrays = {
                    key.removeprefix(start): array
                    for key, array in state.arrays.items()
                    if key.startswith(start)
                }
                model = self._of_tables().restore(flat, State(arrays, values["model"]))
                if name != schema.tree.root and not isinstance(model, Conditional):
                    raise _malformed("a table whose rows cannot be drawn given others")
            longest = values["longest"]
            if type(longest) is not int or not 0 <= longest <= self.most:
                raise _malformed("an impossible number of rows")
            if name == schema.tree.root and model is None:
                raise _malformed("no model of the first table")
            if longest and model is None and encoding.own(name):
                raise _malformed("a table without its model")
            rules = constraints.rules_from_json(values["rules"], schema.parts[name])
            parts[name] = Part(model, longest, rules)
        return LinkedModel(encoding, parts)

    def _of_tables(self, first: tuple[str, ...] = ()) -> Synthesizer[Table]:
        """Return the table recipe; `first` are columns that it takes first if it has an order."""
        if self.recipe is None:
            raise InputError(
                "a recipe of linked tables without the recipe of their rows",
                "Linked(recipe=SeqTree()), or catalogue.build('cohort/linked')",
                "build it by its name",
            )
        if first and any(f.name == "first" for f in dataclasses.fields(self.recipe)):  # type: ignore[arg-type]
            return dataclasses.replace(self.recipe, first=first)  # type: ignore[type-var]
        return self.recipe

    def _check(self, data: Cohort) -> None:
        if data.orphans:
            raise InputError(
                f"{data.orphans} rows hang on no row",
                "every key refers to a row that there is",
                "leave these rows out",
            )
        for name in data.schema.tree.order[1:]:
            if (longest := int(counts(data, name).max(initial=0))) > self.most:
                raise InputError(
                    f"{'more than ' if longest >= 11 else ''}{min(longest, self.most)} rows of"
                    f" '{name}' hang on one row of '{data.schema.tree.up[name].parent}'",
                    f"{self.most} at most",
                    "summarise them, by day for instance, leave the table out, or raise 'most'",
                )

    def _fit_rows(
        self, flat: Table, encoding: CohortEncoding, name: str, seed: int, watch: Watch
    ) -> Model[Table]:
        """Fit the table synthesizer to rows drawn one by one.

        It counts rows, not patients, so values are coarsened by patients beforehand.
        """
        by_patient = Encoding.fit(flat, seed=seed, k=self.k)
        rows = np.arange(flat.n_rows, dtype=np.int64)
        safe = by_patient.decode(by_patient.encode(flat, seed=seed), rows, seed=seed)
        known = tuple(column.name for column in encoding.known(name))
        model = self._of_tables(known).fit(safe, seed=seed, watch=watch)
        if not isinstance(model, Conditional):
            raise NotSupported(
                f"'{self.table}' cannot draw rows of which columns are given",
                "a synthesizer that can: linked tables are drawn given the rows above",
                "choose another one: manikin list says which can",
            )
        return model


def _hidden(encoding: CohortEncoding, parts: Mapping[str, Part]) -> CohortEncoding:
    """Return the encoding with the spellings that the fitted models know."""
    schema = encoding.schema
    found: dict[str, TableSchema] = {}
    for name, table in schema.parts.items():
        model = parts[name].model
        if model is None:  # nothing was learned of its rows: of an inferred one no level is known
            found[name] = table
            continue
        flat = model.schema
        assert isinstance(flat, TableSchema)
        columns = [
            dataclasses.replace(
                column,
                categories=flat[column.name].categories,
                missing=flat[column.name].missing,
                special=flat[column.name].special,
            )
            if column.is_learned
            else column
            for column in table
        ]
        found[name] = dataclasses.replace(table, columns=tuple(columns))
    return CohortEncoding(CohortSchema(found, schema.links), encoding.layouts)


def _layout(stored: Any, schema: CohortSchema, name: str, above: Mapping[str, Layout]) -> Layout:
    """Read a layout from a stranger's file."""
    time, anchor, origin_s, units_s = stored["layout"]
    marks, rounded = (tuple(found) for found in stored["habits"])
    columns = {c.name: c.kind for c in schema.parts[name].learned}
    dates = {column for column, kind in columns.items() if kind == "datetime"}
    timed = time is None or columns.get(time) in ("datetime", "integer", "continuous")
    anchored = anchor is None or (anchor in schema.tree.path(name) and above[anchor].dated)
    if not (timed and anchored and set(units_s) == dates and abs(float(origin_s)) < 3e11):
        raise _malformed("an impossible order in time")
    if not all(1e-6 <= float(unit) <= 86_400 for unit in units_s.values()):
        raise _malformed("an impossible unit of time")
    numbers = {c.name for c in schema.parts[name].learned if c.kind == "continuous"
               and 1 <= c.decimals <= MOST_DECIMALS}  # fmt: skip
    below = name != schema.tree.root
    whole = all(type(mark) is int and mark >= 0 for mark in marks)
    if (not below and (marks or rounded)) or (marks and time is None) or not whole:
        raise _malformed("impossible habits")
    if not set(rounded) <= numbers:
        raise _malformed("impossible habits")
    if len(set(marks)) < len(marks) or len(set(rounded)) < len(rounded):
        raise _malformed("impossible habits")
    units = {n: float(u) for n, u in units_s.items()}
    return Layout(time, anchor, float(origin_s), units, marks, rounded)


def _malformed(what: str) -> InputError:
    return InputError(f"a model of linked tables with {what}", "one that was saved", "fit again")


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class Part:
    """One table: the model of its rows, None where there was no row or no column to learn."""

    model: Model[Table] | None
    longest: int  # most rows that hang on one row
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class LinkedModel:
    """Fitted tables, each given those above it."""

    encoding: CohortEncoding
    parts: Mapping[str, Part]

    @property
    def schema(self) -> CohortSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the rows without formal protection."""
        counted = "how many rows hang on each row, among the columns of that row"
        found: list[Release] = [NonPrivate(counted)]
        for part in self.parts.values():
            found += () if part.model is None else part.model.ledger
        return tuple(dict.fromkeys(found))

    def sample(self, n: int, *, seed: int) -> Cohort:
        """Draw `n` new subjects with all that hangs on them."""
        return self._below(self._root.sample(n, seed=_seed(seed, "root")), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Cohort:
        """Draw one subject for each given row of the first table, any subset of its columns."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "rows of the first table", "give these")
        root = self._conditional
        numbered = dataclasses.replace(given, subjects=np.arange(given.n_rows, dtype=np.int64))
        return self._below(root.sample_given(numbered, seed=_seed(seed, "root")), seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Cohort:
        """Draw `n` new subjects for whose row in the first table every condition holds."""
        return self._below(self._conditional.sample_where(n, where, seed=_seed(seed, "root")), seed)

    def state(self) -> State:
        """Return what `Linked.restore` needs."""
        arrays: dict[str, NDArray[Any]] = {}
        tables: dict[str, Any] = {}
        for i, name in enumerate(self.schema.tree.order):
            part, layout = self.parts[name], self.encoding.layouts[name]
            values: dict[str, Any] = {
                "layout": [layout.time, layout.anchor, layout.origin_s, dict(layout.units_s)],
                "habits": [list(layout.marks), list(layout.rounded)],
                "longest": part.longest,
                "rules": constraints.rules_to_json(part.rules, self.schema.parts[name]),
                "model": None,
            }
            if part.model is not None:
                inner = part.model.state()
                arrays |= {f"{i}/{key}": array for key, array in inner.arrays.items()}
                values |= {"model": dict(inner.values), "schema": part.model.schema.to_json()}
            tables[name] = values
        return State(arrays, {"tables": tables})

    # -------------------------------------------------------------- drawing

    @property
    def _root(self) -> Model[Table]:
        model = self.parts[self.schema.tree.root].model
        assert model is not None  # the first table always has one
        return model

    @property
    def _conditional(self) -> Conditional[Table]:
        if isinstance(self._root, Conditional):
            return self._root
        raise NotSupported(
            "conditions for a table synthesizer that takes none",
            "one that can draw some columns given others",
            "choose another one: manikin list says which can",
        )

    def _below(self, drawn: Table, seed: int) -> Cohort:
        """Return the cohort of these rows of the first table."""
        tree = self.schema.tree
        flat = {tree.root: drawn}
        parts = {tree.root: self._own(tree.root, drawn)}
        above: dict[str, Ints] = {}
        for name in tree.order[1:]:
            parent = tree.up[name].parent
            wanted = self._counts(name, flat[parent])
            above[name] = np.repeat(np.arange(wanted.size), wanted)
            flat[name] = self._rows(name, wanted, parts, above, seed)
            parts[name] = self._decoded(name, flat[name], parts, above, seed)
        return Cohort.of(self.schema, parts, above)

    def _counts(self, name: str, parent: Table) -> Ints:
        """Return how many rows hang on each drawn row of the parent."""
        column = self.encoding.counted(self.schema.tree.up[name].parent).get(name, "")
        drawn = np.nan_to_num(parent.columns[column])
        wanted: Ints = np.clip(np.rint(drawn), 0, self.parts[name].longest).astype(np.int64)
        if wanted.sum() > MOST_ROWS:
            raise InputError(
                f"more than {MOST_ROWS:,} rows of a table in one draw", "fewer", "draw fewer"
            )
        return wanted

    def _rows(
        self,
        name: str,
        wanted: Ints,
        parts: Mapping[str, Table],
        above: Mapping[str, Ints],
        seed: int,
    ) -> Table:
        """Return a table's drawn columns, siblings in order: all first rows, all second ones, …"""
        model, own = self.parts[name].model, TableSchema(self.encoding.own(name))
        if model is None:
            return _nothing(own, int(wanted.sum()))
        assert isinstance(model, Conditional) and isinstance(model.schema, TableSchema)
        own = TableSchema(tuple(model.schema[column.name] for column in own))
        around = self.encoding.around(name, parts, above)
        time = self.encoding.layouts[name].time
        active, elapsed = np.arange(wanted.size), np.zeros(wanted.size)
        before = _nothing(own, wanted.size)
        drawn, whose = [_nothing(own, 0)], [active[:0]]
        for place in range(int(wanted.max(initial=0))):
            still = wanted[active] > place
            active, elapsed, before = active[still], elapsed[still], before.rows(still)
            places = np.full(active.size, place)
            near = around.rows(active)
            given = self.encoding.given(name, near, places, wanted[active], elapsed, before)
            columns = tuple(model.schema[column.name] for column in given.schema)
            given = dataclasses.replace(given, schema=TableSchema(columns))
            rows = model.sample_given(given, seed=_seed(seed, name, place))
            rng = generator(seed, f"linked habits {name}", place)
            before = self.encoding.obeying(name, _only(rows, own), given, rng)
            if time is not None:
                elapsed = elapsed + np.nan_to_num(before.columns[time])
            drawn.append(before)
            whose.append(active)
        parent = np.concatenate(whose)
        return Table.concatenate(drawn).rows(np.argsort(parent, kind="stable"))

    def _decoded(
        self,
        name: str,
        drawn: Table,
        parts: Mapping[str, Table],
        above: Mapping[str, Ints],
        seed: int,
    ) -> Table:
        """Return rows as the source has them, obeying the rules of their table."""
        parent = above[name]
        start = self.encoding.starts(name, parts, above)[parent]
        table = self.encoding.from_intervals(name, drawn, start, np.diff(parent, prepend=-1) != 0)
        rows = np.arange(table.n_rows, dtype=np.int64)
        rules = self.parts[name].rules
        table = dataclasses.replace(table, subjects=rows)
        if not rules:
            return table
        rng = generator(seed, f"linked rules {name}")
        return constraints.enforce(table, rules, rng=rng)

    def _own(self, name: str, flat: Table) -> Table:
        """Return a flat table without its counts, under the cohort's schema for it."""
        return paste(self.schema.parts[name], flat.subjects, _only(flat, self.schema.parts[name]))


def _only(flat: Table, schema: TableSchema) -> Table:
    """Return the columns of a schema."""
    names = [column.name for column in schema.learned]
    states = {n: flat.states[n] for n in names if n in flat.states}
    return Table(schema, flat.subjects, {n: flat.columns[n] for n in names}, states)


def _nothing(schema: TableSchema, n: int) -> Table:
    """Return rows without a value."""
    values = {
        c.name: np.full(n, -1, np.int32) if c.is_coded else np.full(n, np.nan)
        for c in schema.learned
    }
    states = {c.name: np.ones(n, np.int8) for c in schema.learned if len(c.tokens) > 1}
    return Table(schema, np.arange(n, dtype=np.int64), values, states)


def _seed(seed: int, what: str, block: int = 0) -> int:
    return int(generator(seed, f"linked {what}", block).integers(2**62))
