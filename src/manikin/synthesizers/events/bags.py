"""Bags of codes: which codes a patient ever had, by a table synthesizer; MedGAN by default.

Reference  Choi et al., "Generating multi-label discrete patient records using generative
           adversarial networks" (MedGAN), MLHC 2017, arXiv:1703.06490; Torfi and Fox, "CorGAN",
           FLAIRS 2020, arXiv:2001.09346 (the same data type)
Idea       a record without its order: one bit a code, beside the static facts, is a row of a table
Algorithm  1 mark which codes each patient has · 2 fit a table synthesizer to facts and marks · 3
           draw rows; the codes of a row are put at one visit
Differs    from the papers in: any table synthesizer draws the bags (`table`); static facts and the
           day of the first visit are drawn together with them
Use when   a baseline of the field is wanted for what patients ever have; never for anything in
           time: all is at one visit, and numbers are drawn each by itself
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.dataset import Dataset
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Release, refuse_budget
from manikin.synthesizer import (
    Conditional,
    Noted,
    State,
    Synthesizer,
    Watch,
    check_settings,
    report,
    silent,
)
from manikin.synthesizers.events._grid import Cells, Grid, day_of, spelled
from manikin.synthesizers.events.encoding import narrowed, shared_levels, widened

__all__ = ["Bags"]

NAME = "events/bags"
FIRST, MARK = "first visit", "has code"
NO, YES = "no", "yes"
TOLD = "a bag of codes has no order: all codes of a subject are at one visit"


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Bags:
    """Recipe: a table synthesizer of facts and of marks for the codes."""

    table: str = "table/medgan"  # the table synthesizer that draws facts and marks
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    k: int = 5  # fewest subjects that share a code that is told
    most: int = 2000  # most codes: a table has a column for each

    def __post_init__(self) -> None:
        check_settings(self, k=(2, math.inf), most=(1, 10_000))

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> BagModel:
        """Fit the table synthesizer to bags."""
        refuse_budget(budget, NAME)
        if not isinstance(data, Events):
            raise InputError("no histories", "histories of subjects", "read them by a door")
        report(watch, 0, None, "encoding")
        grid, cells, start = Grid.fit(data, self.k)
        if grid.codes > self.most:
            raise InputError(
                f"{grid.codes:,} codes", f"{self.most:,} at most",
                "raise 'most', or take 'events/visits'",
            )  # fmt: skip
        marks = cells.bits.max(1, initial=0.0)  # (subjects, codes)
        flat, first, names = _flat(data.static, start, marks, self.k, seed)
        table = self._tables().fit(flat, seed=seed, watch=watch)
        if not isinstance(table, Conditional):
            raise NotSupported(
                f"'{self.table}' cannot draw columns given others", "a synthesizer that can",
                "choose another one: manikin list says which can",
            )  # fmt: skip
        encoding = dataclasses.replace(grid.encoding, schema=spelled(grid.encoding.schema, table))
        return BagModel(dataclasses.replace(grid, encoding=encoding, visits=1), table, first, names)

    def restore(self, schema: Any, state: State) -> BagModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        if not isinstance(schema, EventSchema):
            raise InputError("a schema of no histories", "that of histories", "use its own file")
        values = state.values
        flat, first = TableSchema.from_json(values["flat"]), values["first"]
        marks = tuple(values["marks"])
        sound = len(marks) == len(schema) and len(set(marks)) == len(marks)
        sound = sound and all(isinstance(one, str) for one in (first, *marks))
        if not sound or not {first, *marks} <= {c.name for c in flat.learned}:
            raise InputError("bags without their marks", "a mark a code", "fit it anew")
        kinds = {flat[name].kind for name in marks}
        if not kinds <= {"boolean"} or flat[first].kind != "integer":
            raise InputError("bags with other marks", "yes or no", "fit it anew")
        grid = Grid.restore(schema, values["grid"], state.arrays)
        own = {n.removeprefix("table/"): a for n, a in state.arrays.items() if "table/" in n[:6]}
        table = self._tables().restore(flat, State(own, values["table"]))
        if not isinstance(table, Conditional):
            raise InputError("a table that cannot be drawn given others", "one", "fit it anew")
        if grid.visits != 1:
            raise InputError("a bag of several visits", "one", "fit it anew")
        return BagModel(grid, table, first, marks)

    def _tables(self) -> Synthesizer[Table]:
        if self.recipe is None:
            raise InputError(
                "a recipe of bags without the recipe of their table",
                f"one built by its name: catalogue.build('{NAME}')", "build it by its name",
            )  # fmt: skip
        return self.recipe


def _flat(
    static: Table, start: NDArray[np.datetime64], marks: NDArray[np.float32], k: int, seed: int
) -> tuple[Table, str, tuple[str, ...]]:
    """Return facts beside the first day and a mark for each code, and what these are called."""
    day = np.where(np.isnat(start), np.nan, start.astype("datetime64[D]").astype(np.int64))
    added: dict[str, tuple[Column, Any]] = {FIRST: (Column("", "integer"), day.astype(np.float64))}
    for i in range(marks.shape[1]):
        has = marks[:, i].astype(np.int32)
        added[f"{MARK} {i + 1}"] = (Column("", "boolean", categories=(NO, YES)), has)
    shared = shared_levels(static, k, generator(seed, "bag levels"))
    flat = widened(shared, added)
    names = [column.name for column in flat.schema.columns[-1 - marks.shape[1] :]]
    return flat, names[0], tuple(names[1:])


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class BagModel:
    """Fitted bags of codes."""

    grid: Grid
    table: Conditional[Table]
    first: str
    marks: tuple[str, ...]

    @property
    def schema(self) -> EventSchema:
        """Schema of what it generates."""
        return self.grid.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What the table synthesizer took from bags."""
        return self.table.ledger

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        own = self.table.notes if isinstance(self.table, Noted) else ()
        return (TOLD, *self.grid.encoding.notes, *own)

    def sample(self, n: int, *, seed: int) -> Events:
        """Draw `n` new subjects with their bags."""
        return self._opened(self.table.sample(n, seed=seed), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Events:
        """Draw one bag for each given row of static facts, any subset of their columns."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "static facts of subjects", "give these")
        rows = dataclasses.replace(given, subjects=np.arange(given.n_rows, dtype=np.int64))
        return self._opened(self.table.sample_given(rows, seed=seed), seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Events:
        """Draw `n` new subjects of whose static facts every condition holds."""
        return self._opened(self.table.sample_where(n, where, seed=seed), seed)

    def _opened(self, flat: Table, seed: int) -> Events:
        """Put the codes of each row at one visit."""
        rng = generator(seed, "bag values")
        bits = np.zeros((flat.n_rows, 1, self.grid.codes), np.float32)
        for i, name in enumerate(self.marks):
            bits[:, 0, i] = flat.columns[name] == 1  # the second level says yes
        wide = (flat.n_rows, 1, self.grid.numbers)
        scores = rng.standard_normal(wide, np.float32)
        start = day_of(flat.columns[self.first])
        cells = Cells(bits, scores, np.ones(flat.n_rows, np.int64))
        return self.grid.events(cells, start, narrowed(flat, self.schema.static), rng)

    def state(self) -> State:
        """Return arrays and values for `restore`."""
        table = self.table.state()
        arrays = {f"table/{name}": found for name, found in table.arrays.items()}
        values: Mapping[str, Any] = {
            "table": dict(table.values), "flat": self.table.schema.to_json(), "first": self.first,
            "marks": list(self.marks), "grid": self.grid.values(),
        }  # fmt: skip
        return State(arrays | self.grid.arrays(), values)
