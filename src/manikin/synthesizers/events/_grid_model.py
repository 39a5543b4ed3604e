"""What all methods on a grid share: static facts, fitting, drawing, and the file.

A method is a network with a way to draw cells given the facts of subjects (`Drawer`); all else is
done here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manikin.data.codes import EventSchema
from manikin.data.dataset import Dataset
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.nn.loop import Batch, Plan, random
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import Conditional, Noted, State, Synthesizer, Watch, report
from manikin.synthesizers.events._grid import FLAT, Cells, Grid, day_of, spelled
from manikin.synthesizers.events._parts import array, pack, unpack
from manikin.synthesizers.events.encoding import narrowed, shared_levels, widened

__all__ = ["Drawer", "Facts", "GridModel", "Learnt", "Method", "fitted", "plan", "restored"]

Floats: TypeAlias = NDArray[np.float64]
FIRST = "first visit"
BLOCK = 2_000  # subjects drawn at once
LOOKS = 400  # at every subject in training, at most


class Drawer(Protocol):
    """A network that draws cells."""

    def draw(self, facts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return bits (n, visits, codes), scores (n, visits, …) and visits (n,) given facts."""


class Method(Protocol):
    """What all recipes on a grid ask for."""

    @property
    def recipe(self) -> Synthesizer[Table] | None:
        """Recipe of static facts."""

    @property
    def k(self) -> int:
        """Fewest subjects that share what is told."""

    @property
    def steps(self) -> int:
        """Most training steps."""

    @property
    def batch(self) -> int:
        """Subjects a step."""

    @property
    def rate(self) -> float:
        """Highest learning rate."""

    @property
    def minutes(self) -> float:
        """Most time for training."""

    @property
    def device(self) -> str:
        """Where to train."""


MakeNetwork: TypeAlias = Callable[[Grid, int, torch.Generator], nn.Module]
"""Builds a network for a grid, so many facts of a subject, and a stream for its weights."""
Teach: TypeAlias = Callable[[nn.Module, Batch], None]
"""Trains a network on facts, bits, scores and visits of all subjects."""


@dataclass(frozen=True)
class Facts:
    """How static facts are told to a network: levels as bits, numbers by mean and spread."""

    mean: Annotated[Floats, array("numbers", low=-1e300, high=1e300)]
    spread: Annotated[Floats, array("numbers", low=1e-300, high=1e300)]

    @staticmethod
    def fit(table: Table, k: int) -> Facts:
        """Learn means and spreads of the numbers that `k` subjects or more have."""
        means, spreads = [], []
        for column in table.schema.learned:
            if column.is_coded:
                continue
            values = table.numbers(column.name)
            known = values[np.isfinite(values)]
            told = np.unique(table.subjects[np.isfinite(values)]).size >= max(k, 2)
            means.append(float(known.mean()) if told else 0.0)
            spreads.append(max(float(known.std()), 1e-9) if told else 1.0)
        return Facts(np.array(means, float), np.array(spreads, float))

    @staticmethod
    def width(schema: TableSchema) -> int:
        """Return how many numbers tell the facts of a subject; at least one."""
        return max(sum(len(c.categories) if c.is_coded else 2 for c in schema.learned), 1)

    def told(self, table: Table) -> Tensor:
        """Return the facts of subjects, (subjects, width)."""
        parts = [np.zeros((table.n_rows, 0))]
        number = 0
        for column in table.schema.learned:
            if column.is_coded:
                codes = table.columns[column.name]
                parts.append(codes[:, None] == np.arange(len(column.categories)))
                continue
            values = table.numbers(column.name)
            known = np.isfinite(values)
            score = (np.where(known, values, 0.0) - self.mean[number]) / self.spread[number]
            parts.append(np.stack([known, np.where(known, np.clip(score, -5, 5), 0.0)], 1))
            number += 1
        whole = np.concatenate(parts, 1)
        if not whole.shape[1]:
            whole = np.zeros((table.n_rows, 1))
        return torch.from_numpy(whole.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Learnt:
    """What is there before a network is trained."""

    grid: Grid
    cells: Cells
    table: Conditional[Table]
    first: str  # the column of the first visit's day in the table
    facts: Facts
    told: Tensor  # (subjects, width)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return facts, bits, scores and visits of all subjects with a visit."""
        kept = np.flatnonzero(self.cells.counts > 0)
        return (
            self.told[torch.from_numpy(kept)],
            torch.from_numpy(self.cells.bits[kept]),
            torch.from_numpy(self.cells.scores[kept]),
            torch.from_numpy(self.cells.counts[kept]),
        )

    def model(self, network: nn.Module | None, name: str) -> GridModel:
        """Return the fitted model."""
        return GridModel(self.grid, self.table, self.first, self.facts, network, name)


def learn(
    data: Events, recipe: Synthesizer[Table] | None, name: str, k: int, seed: int, watch: Watch
) -> Learnt:
    """Lay histories on a grid, and fit the static facts with the day of the first visit."""
    if not isinstance(data, Events):
        raise InputError("no histories", "histories of subjects", "read them by a door")
    report(watch, 0, None, "encoding")
    grid, cells, start = Grid.fit(data, k)
    static = shared_levels(data.static, k, generator(seed, "grid levels"))
    day = np.where(np.isnat(start), np.nan, start.astype("datetime64[D]").astype(np.int64))
    flat = widened(static, {FIRST: (Column("", "integer"), day.astype(np.float64))})
    first = flat.schema.columns[-1].name
    report(watch, 0, None, "fitting static facts")
    own = int(generator(seed, "grid table").integers(2**62))
    table = tables(recipe, name).fit(flat, seed=own, watch=watch)
    if not isinstance(table, Conditional):
        raise NotSupported(
            "static facts by a synthesizer that cannot draw columns given others",
            "one that can", "choose another one: manikin list says which can",
        )  # fmt: skip
    schema = spelled(grid.encoding.schema, table)
    encoding = dataclasses.replace(grid.encoding, schema=schema)
    grid = dataclasses.replace(grid, encoding=encoding)
    facts = Facts.fit(flat, k)
    return Learnt(grid, cells, table, first, facts, facts.told(flat))


def fitted(
    method: Method, name: str, data: Events, make: MakeNetwork, teach: Teach, *,
    seed: int, budget: Budget | None, watch: Watch,
) -> GridModel:  # fmt: skip
    """Return the model of a method: its network, made for the grid of the events and taught."""
    refuse_budget(budget, name)
    learnt = learn(data, method.recipe, name, method.k, seed, watch)
    tensors = learnt.tensors()
    if not len(tensors[0]):
        return learnt.model(None, name)
    network = make(learnt.grid, int(tensors[0].shape[1]), random(seed, name))
    teach(network, tensors)
    return learnt.model(network, name)


def plan(method: Method, subjects: int, looks: int = LOOKS) -> Plan:
    """Return how a method is trained: as it asks, with at most so many looks at every subject."""
    most = looks * math.ceil(subjects / method.batch)
    return Plan(
        max(1, min(method.steps, most)), rate=method.rate, seconds=60 * method.minutes,
        device=method.device,
    )  # fmt: skip


def tables(recipe: Synthesizer[Table] | None, name: str) -> Synthesizer[Table]:
    """Return the recipe of static facts. Raises InputError where there is none."""
    if recipe is None:
        raise InputError(
            "a recipe of histories without the recipe of their static facts",
            f"one built by its name: catalogue.build('{name}')",
            "build it by its name",
        )
    return recipe


@dataclass(frozen=True, eq=False)
class GridModel:
    """A fitted method on a grid."""

    grid: Grid
    table: Conditional[Table]
    first: str
    facts: Facts
    network: nn.Module | None  # None where there was no visit to learn from
    name: str

    @property
    def schema(self) -> EventSchema:
        """Schema of what it generates."""
        return self.grid.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the events without formal protection."""
        own = NonPrivate("weights of a network trained on the events, and quantiles of values")
        return tuple(dict.fromkeys((own, *self.table.ledger)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        own = self.table.notes if isinstance(self.table, Noted) else ()
        return (FLAT, *self.grid.encoding.notes, *own)

    def sample(self, n: int, *, seed: int) -> Events:
        """Draw `n` new subjects and their histories."""
        return self._below(self.table.sample(n, seed=_seed(seed)), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Events:
        """Draw one history for each given row of static facts, any subset of their columns."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "static facts of subjects", "give these")
        rows = dataclasses.replace(given, subjects=np.arange(given.n_rows, dtype=np.int64))
        return self._below(self.table.sample_given(rows, seed=_seed(seed)), seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Events:
        """Draw `n` new subjects of whose static facts every condition holds."""
        return self._below(self.table.sample_where(n, where, seed=_seed(seed)), seed)

    def _below(self, flat: Table, seed: int) -> Events:
        """Draw the visits of subjects whose facts are known."""
        static = narrowed(flat, self.schema.static)
        start = day_of(flat.columns[self.first])
        grid = self.grid
        cells = [Cells(*grid_of_nobody(grid))]
        told = self.facts.told(flat)
        for block, at in enumerate(range(0, flat.n_rows, BLOCK)):
            part = told[at : at + BLOCK]
            if self.network is None:
                cells.append(_empty(grid, len(part)))
                continue
            with torch.no_grad():
                drawn = cast("Drawer", self.network.eval()).draw(
                    part, random(seed, f"{self.name} draw", block)
                )
            bits, scores, counts = (one.numpy() for one in drawn)
            cells.append(Cells(bits, scores, counts.astype(np.int64)))
        whole_grid = Cells(
            np.concatenate([c.bits for c in cells]),
            np.concatenate([c.scores for c in cells]),
            np.concatenate([c.counts for c in cells]),
        )
        return grid.events(whole_grid, start, static, generator(seed, f"{self.name} texts"))

    def state(self) -> State:
        """Return arrays and values for `restore`."""
        table = self.table.state()
        arrays = {f"table/{name}": found for name, found in table.arrays.items()}
        arrays |= self.grid.arrays() | pack("facts", self.facts)
        if self.network is not None:
            weights = self.network.state_dict()
            arrays |= {f"network/{name}": w.detach().numpy() for name, w in weights.items()}
        return State(
            arrays,
            {"grid": self.grid.values(), "table": dict(table.values), "first": self.first,
             "flat": self.table.schema.to_json(), "network": self.network is not None},
        )  # fmt: skip


def restored(
    schema: Any, state: State, recipe: Synthesizer[Table] | None, name: str, make: MakeNetwork
) -> GridModel:
    """Rebuild a model from a stranger's file. Raises InputError when it does not make one."""
    if not isinstance(schema, EventSchema):
        raise InputError("a schema of no histories", "that of histories", "use its own file")
    values = state.values
    flat, first = TableSchema.from_json(values["flat"]), values["first"]
    own = {c.name: (c.kind, c.categories) for c in schema.static.learned}
    others = {c.name: (c.kind, c.categories) for c in flat.learned if c.name != first}
    if own != others or first not in flat or flat[first].kind != "integer":
        raise InputError("a grid with other facts", "those of its schema", "fit it anew")
    grid = Grid.restore(schema, values["grid"], state.arrays)
    numbers = sum(not c.is_coded for c in flat.learned)
    facts = unpack(Facts, "facts", state.arrays, {"numbers": numbers})
    parts = _named(state.arrays, "table/")
    table = tables(recipe, name).restore(flat, State(parts, values["table"]))
    if not isinstance(table, Conditional):
        raise InputError("static facts that cannot be drawn given others", "one", "fit it anew")
    network = None
    if values["network"]:
        network = make(grid, Facts.width(flat), random(0, name))
        _load(network, _named(state.arrays, "network/"))
    return GridModel(grid, table, first, facts, network, name)


def _load(network: nn.Module, own: Mapping[str, NDArray[Any]]) -> None:
    wanted = network.state_dict()
    sound = set(wanted) == set(own) and all(
        own[name].shape == tuple(tensor.shape)
        and own[name].dtype == np.float32
        and bool(np.isfinite(own[name]).all())
        for name, tensor in wanted.items()
    )
    if not sound:
        raise InputError("a grid with other weights", "those of its network", "fit it anew")
    network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in own.items()})


def _named(arrays: Mapping[str, NDArray[Any]], start: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def _empty(grid: Grid, n: int) -> Cells:
    bits, scores, _ = grid_of_nobody(grid)
    shape = (n, grid.visits)
    return Cells(
        np.zeros((*shape, bits.shape[2]), np.float32),
        np.zeros((*shape, scores.shape[2]), np.float32), np.zeros(n, np.int64),
    )  # fmt: skip


def grid_of_nobody(grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32], Any]:
    """Return the cells of no subject."""
    return (
        np.zeros((0, grid.visits, grid.codes), np.float32),
        np.zeros((0, grid.visits, grid.numbers), np.float32),
        np.zeros(0, np.int64),
    )


def _seed(seed: int) -> int:
    return int(generator(seed, "grid table").integers(2**62))
