"""The contract between data, generators and everything after them.

A `Synthesizer` is a recipe: a frozen dataclass with one hyperparameter a field, every field with
a default. `fit` turns it into a `Model`, which is immutable and always fitted. Two objects, so
that "not fitted yet" cannot exist and `dataclasses.asdict(recipe)` is the whole provenance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from manikin.data.dataset import Dataset, Schema
from manikin.data.graph import Graph
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.errors import InputError, Stopped
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Release

__all__ = [
    "Conditional",
    "Continued",
    "Drawn",
    "Edited",
    "Model",
    "Noted",
    "Progress",
    "State",
    "Synthesizer",
    "Watch",
    "check_settings",
    "report",
    "silent",
    "stream",
]

D = TypeVar("D", bound=Dataset)
D_co = TypeVar("D_co", bound=Dataset, covariant=True)


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work has come."""

    step: int
    total: int | None
    what: str
    figures: Mapping[str, float] = field(default_factory=dict)


Watch: TypeAlias = Callable[[Progress], bool | None]
"""Receives each `Progress`; returning True asks the work to stop."""


def silent(progress: Progress) -> None:
    """Listen to nothing."""


def check_settings(recipe: object, /, **ranges: tuple[float, float]) -> None:
    """Raise InputError for a number of a recipe that is not within its range, ends included."""
    for name, (least, most) in ranges.items():
        value = getattr(recipe, name)
        if not least <= value <= most:  # not a number is in no range
            raise InputError(
                f"setting '{name}' is {value:g}",
                f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}",
                "correct the value, or leave it out",
            )


def report(watch: Watch, step: int, total: int | None, what: str, **figures: float) -> None:
    """Tell `watch` how far the work is. Raises Stopped when it asks to stop."""
    if watch(Progress(step, total, what, figures)):
        raise Stopped(what)


@dataclass(frozen=True)
class State:
    """A fitted model as named arrays and JSON values: all that a model file holds."""

    arrays: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]


@runtime_checkable
class Model(Protocol[D_co]):
    """A fitted generator."""

    @property
    def schema(self) -> Schema:
        """Schema of what it generates."""

    @property
    def ledger(self) -> tuple[Release, ...]:
        """Every privacy release made in fitting; never empty."""

    def sample(self, n: int, *, seed: int) -> D_co:
        """Draw `n` new subjects, numbered 0 to n - 1. The same seed gives the same bytes."""

    def state(self) -> State:
        """Return what `Synthesizer.restore` needs to rebuild this model exactly."""


@runtime_checkable
class Conditional(Model[D_co], Protocol[D_co]):
    """A model that can also draw subjects of whom something is given."""

    def sample_given(self, given: Dataset, *, seed: int) -> D_co:
        """Draw one output row for each given row, whose columns are any subset of the schema's."""

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> D_co:
        """Draw `n` new subjects for whom every condition holds.

        Raises ConditionError when none can.
        """


@runtime_checkable
class Continued(Model[D_co], Protocol[D_co]):
    """A model of histories that can also draw what may come after one."""

    def continue_from(self, history: Any, *, days: float, futures: int = 1, seed: int) -> D_co:
        """Draw what may follow the last event of each subject, for so many days.

        Each is continued `futures` times: future k of the subject in row i is numbered
        i * futures + k. Only what is new is returned, with the static facts as they were given.
        """


@runtime_checkable
class Drawn(Protocol):
    """A model that can show what depends on what."""

    def graph(self) -> Graph:
        """Return its columns and the edges between them."""


@runtime_checkable
class Edited(Drawn, Protocol):
    """A model from which edges may have been taken out, so that it does not draw along them."""

    @property
    def removed(self) -> tuple[tuple[str, str], ...]:
        """Source and target of the edges that were taken out; none where it is as it was learnt."""

    def unedited(self) -> Model[Any] | None:
        """Return the model as it was learnt, None where it is not known any more."""


@runtime_checkable
class Noted(Protocol):
    """A model that has something to say of how it was fitted, for whoever reads its report."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened: a sentence or two each, without a value of anybody's."""


class Synthesizer(Protocol[D]):
    """A recipe for a generator."""

    def fit(
        self, data: D, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> Model[D]:
        """Learn from `data`. Raises PrivacyError if `budget` cannot be honoured."""

    def restore(self, schema: Any, state: State) -> Model[D]:
        """Rebuild the model whose `state` this is."""


def stream(
    model: Model[D_co], n: int, *, seed: int, subjects_per_block: int = 50_000
) -> Iterator[D_co]:
    """Draw `n` subjects in blocks, so that memory stays flat however many there are.

    Each block has its own stream of randomness, so blocks may be drawn anywhere and in any order.
    Subjects are numbered from 0 within each block.
    """
    for block, start in enumerate(range(0, n, subjects_per_block)):
        size = min(subjects_per_block, n - start)
        block_seed = int(generator(seed, "sample", block).integers(np.iinfo(np.int64).max))
        yield model.sample(size, seed=block_seed)
