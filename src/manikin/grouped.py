"""One model for each group of subjects, behind the contract of one model for all.

A recipe is fitted to the subjects of each level of a column by itself; levels that too few subjects
have are joined to one group. What is asked of the whole is asked of the groups: subjects are drawn
from them by their shares, a condition selects those that can satisfy it, weighted by how often they
do, and rows of which the group is given are completed by the group's own model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.dataset import Dataset
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.knowledge import conditions
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.sampling import shuffled
from manikin.synthesizer import (
    Conditional,
    Model,
    Noted,
    Progress,
    State,
    Synthesizer,
    Watch,
    silent,
)  # fmt: skip

__all__ = ["KEY", "Group", "Grouped", "PerGroup"]

KEY = "per_group"  # of the values in a model's state
LEAST = 50  # subjects of a group
TRIED = 2_000  # subjects drawn from a group to see how often conditions hold in it

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Levels that are modelled together, by their codes (-1: no value), and subjects who fitted."""

    codes: tuple[int, ...]
    subjects: int


@dataclass(frozen=True)
class PerGroup:
    """Recipe: another recipe, fitted to each level of the column `by` for itself."""

    recipe: Synthesizer[Table]
    by: str
    least: int = LEAST  # subjects of a group; levels of fewer are joined

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> Grouped:
        """Fit a model to each group. Raises InputError where there is one group only."""
        refuse_budget(budget, "a fit per group")
        whose, codes = self._codes(data)
        groups = _groups(codes, self.least)
        if len(groups) < 2:
            raise InputError(
                f"the column '{self.by}' does not part the subjects into groups that are enough",
                f"two groups or more of at least {self.least} training subjects",
                "fit one model to all of them, or join levels",
            )
        fitted = []
        for place, group in enumerate(groups):
            members = data.take(whose[np.isin(codes, group.codes)])
            what = f"group {place + 1} of {len(groups)}"
            fitted.append(self.recipe.fit(members, seed=seed, watch=_within(watch, what)))
        schema = _common(data.schema, [model.schema for model in fitted])  # type: ignore[misc]
        models = tuple(self.recipe.restore(schema, model.state()) for model in fitted)
        return _model(schema, self.by, groups, models)

    def restore(self, schema: Any, state: State) -> Grouped:
        """Rebuild a model from its state. Raises InputError when it is none."""
        try:
            told = state.values[KEY]
            groups = tuple(
                Group(tuple(map(int, codes)), int(n))
                for codes, n in zip(told["codes"], told["subjects"], strict=True)
            )
            _check(schema[str(told["by"])], groups)
            states = [
                State(_of_group(state.arrays, place), values)
                for place, values in zip(range(len(groups)), told["values"], strict=True)
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                "a state that is none of a model per group",
                "groups of levels of a column, and a model each",
                "use a model file that this program wrote",
            ) from error
        models = tuple(self.recipe.restore(schema, one) for one in states)
        return _model(schema, str(told["by"]), groups, models)

    @staticmethod
    def of(recipe: Synthesizer[Table], told: object) -> PerGroup:
        """Return the recipe of a saved model, whose state says the column."""
        by = told.get("by") if isinstance(told, Mapping) else None
        return PerGroup(recipe, str(by))

    def _codes(self, data: Table) -> tuple[Ints, Ints]:
        """Return the subjects and the level of each."""
        column = data.schema[self.by]
        if not column.is_coded:
            raise InputError(
                f"a fit per '{column.name}', a column of kind {column.kind}",
                "a boolean, categorical or ordinal column",
                "name such a column, or change its kind in the schema",
            )
        whose, first, place = np.unique(data.subjects, return_index=True, return_inverse=True)
        codes = np.maximum(data.columns[self.by].astype(np.int64), -1)
        if (codes != codes[first][place]).any():
            raise InputError(
                f"a fit per '{self.by}', which changes within subjects",
                "a column that is the same in all rows of a subject",
                "name another column",
            )
        return whose, codes[first]


def _groups(codes: Ints, least: int) -> tuple[Group, ...]:
    """Return a group for each level of enough subjects, and one for all others if there are any.

    Where the others are too few by themselves, the smallest groups join them until they are enough.
    """
    levels, counts = np.unique(codes, return_counts=True)
    order = np.lexsort((levels, -counts))
    own = [Group((int(levels[i]),), int(counts[i])) for i in order if counts[i] >= least]
    rest = [(int(levels[i]), int(counts[i])) for i in order if counts[i] < least]
    while rest and sum(n for _, n in rest) < least and own:
        last = own.pop()
        rest.append((last.codes[0], last.subjects))
    if rest:
        own.append(Group(tuple(sorted(level for level, _ in rest)), sum(n for _, n in rest)))
    return tuple(own)


def _check(column: Column, groups: tuple[Group, ...]) -> None:
    every = [code for group in groups for code in group.codes]
    if len(groups) < 2 or len(set(every)) < len(every) or not column.is_coded:
        raise ValueError("groups")
    if not all(-1 <= code < len(column.categories) for code in every):
        raise ValueError("levels of another column")
    if not all(0 < group.subjects < 2**53 and group.codes for group in groups):
        raise ValueError("an empty group")


def _within(watch: Watch, what: str) -> Watch:
    def told(progress: Progress) -> bool | None:
        return watch(dataclasses.replace(progress, what=f"{progress.what}: {what}"))

    return told


def _common(source: TableSchema, found: list[TableSchema]) -> TableSchema:
    """Return the schema in which a spelling is known where one of the groups' models knows it."""

    def known(name: str, part: str) -> tuple[str, ...]:
        own = getattr(source[name], part)
        theirs = [getattr(schema[name], part) for schema in found]
        return tuple(
            spelling if any(one[i] == spelling for one in theirs) else theirs[0][i]
            for i, spelling in enumerate(own)
        )

    columns = tuple(
        dataclasses.replace(
            column,
            categories=known(column.name, "categories"),
            missing=known(column.name, "missing"),
            special=known(column.name, "special"),
        )
        for column in source
    )
    return dataclasses.replace(source, columns=columns)


def _of_group(arrays: Mapping[str, NDArray[Any]], place: int) -> dict[str, NDArray[Any]]:
    start = f"group{place}/"
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


# ---------------------------------------------------------------------------- the model
@dataclass(frozen=True)
class Grouped:
    """A model for each group."""

    schema: TableSchema
    by: str
    groups: tuple[Group, ...]
    models: tuple[Model[Table], ...]

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the rows in every group, and how large the groups are."""
        entries = [entry for model in self.models for entry in model.ledger]
        sizes = NonPrivate(f"how many subjects each group of '{self.by}' has")
        return tuple(dict.fromkeys([*entries, sizes]))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Return the share of subjects of each group."""
        sizes = np.array([group.subjects for group in self.groups], float)
        return np.asarray(sizes / sizes.sum())

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what each group may be called; of several levels, how many they are."""
        categories = self.schema[self.by].categories
        return tuple(
            f"{len(group.codes)} levels together"
            if len(group.codes) > 1
            else "no value"
            if group.codes[0] < 0
            else categories[group.codes[0]]
            for group in self.groups
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that there is a model for each group, and what the groups' models say."""
        told = [note for model in self.models if isinstance(model, Noted) for note in model.notes]
        own = f"A model each was fitted to the groups of '{self.by}': {', '.join(self.labels)}."
        return tuple(dict.fromkeys([own, *told]))

    def facts(self) -> dict[str, Any]:
        """Return what the record holds."""
        sizes = [group.subjects for group in self.groups]
        joined = max(len(group.codes) for group in self.groups)
        return {"by": self.by, "groups": list(self.labels), "subjects": sizes,
                "levels_joined": joined if joined > 1 else 0}  # fmt: skip

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects from the groups, by their shares."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        rng = generator(seed, "per group")
        return self._drawn(
            n, self.shares, rng, lambda model, m, own: model.sample(m, seed=own), seed
        )

    def state(self) -> State:
        """Return the states of all groups as one."""
        states = [model.state() for model in self.models]
        arrays = {
            f"group{place}/{name}": array
            for place, state in enumerate(states)
            for name, array in state.arrays.items()
        }
        told = {
            "by": self.by,
            "codes": [list(group.codes) for group in self.groups],
            "subjects": [group.subjects for group in self.groups],
            "values": [dict(state.values) for state in states],
        }
        return State(arrays, {KEY: told})

    def of(self, table: Table) -> Ints:
        """Return the group of every row, -1 where its level is of none, (rows,)."""
        own, given = self.schema[self.by], table.schema[self.by]
        place = {name: code for code, name in enumerate(own.categories)}
        codes = np.array([*(place.get(name, -2) for name in given.categories), -1])
        lookup = {code: g for g, group in enumerate(self.groups) for code in group.codes}
        group_of = np.array([lookup.get(int(code), -1) for code in codes], np.int64)
        return np.asarray(group_of[table.columns[self.by]])

    def _drawn(
        self,
        n: int,
        weights: NDArray[np.float64],
        rng: np.random.Generator,
        draw: Callable[[Any, int, int], Table],
        seed: int,
    ) -> Table:
        if n == 0:
            return self.models[0].sample(0, seed=seed)
        sizes = rng.multinomial(n, weights / weights.sum())
        parts = [
            draw(model, int(m), int(rng.integers(2**62)))
            for model, m in zip(self.models, sizes, strict=True)
            if m
        ]
        return shuffled(parts, rng)


@dataclass(frozen=True)
class ConditionalGroups(Grouped):
    """A model for each group, all of which can condition."""

    def sample_given(self, given: Dataset, *, seed: int) -> Table:
        """Draw one row for each given row, by the model of its group, which must be given."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "a Table", "build one with Table(…)")
        if self.by not in given.columns:
            raise NotSupported(
                f"rows of which '{self.by}' is not given, to a model for each of its groups",
                f"rows with '{self.by}' among what is given: it says which model completes them",
                "give that column too, or fit one model to all subjects",
            )
        which = self.of(given)
        if (which < 0).any():
            raise ConditionError(
                f"given rows with a level of '{self.by}' that no training subject had",
                "levels that were fitted",
                "leave these rows out",
            )
        rng = generator(seed, "per group given")
        found, order = [], []
        for place, model in enumerate(self.models):
            rows, own = np.flatnonzero(which == place), int(rng.integers(2**62))
            if rows.size or (not given.n_rows and place == 0):
                found.append(_able(model).sample_given(given.rows(rows), seed=own))
                order.append(rows)
        return Table.concatenate(found).rows(np.argsort(np.concatenate(order), kind="stable"))

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        """Draw `n` new subjects for whom every condition holds, as often of a group as it does.

        Raises ConditionError when none can.
        """
        checked = tuple(conditions.check(condition, self.schema) for condition in where)
        rng = generator(seed, "per group where")
        weights = self._weights(checked, rng)
        return self._drawn(
            n, weights, rng,
            lambda model, m, own: model.sample_where(m, checked, seed=own), seed,
        )  # fmt: skip

    def _weights(
        self, where: tuple[Condition, ...], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return each group's share of the subjects for whom the conditions hold.

        How often they hold in a group is counted among subjects drawn from it; 0 where its model
        says that nobody can satisfy them.
        """
        often = np.zeros(len(self.groups))
        refusal: ConditionError | None = None
        for place, (group, model) in enumerate(zip(self.groups, self.models, strict=True)):
            own = int(rng.integers(2**62))
            try:
                _able(model).sample_where(1, where, seed=own)
            except ConditionError as error:
                refusal = error
                continue
            often[place] = 1.0
            if len(group.codes) > 1 or any(condition.column != self.by for condition in where):
                tried = model.sample(TRIED, seed=own)
                wrong = np.unique(tried.subjects[~conditions.all_hold(where, tried)]).size
                often[place] = max(TRIED - wrong, 0.5) / TRIED
        if refusal is not None and not often.any():
            raise refusal
        return np.asarray(often * self.shares)


def _able(model: Model[Table]) -> Conditional[Table]:
    if not isinstance(model, Conditional):
        raise NotSupported("a model that cannot condition", "one that can", "choose another one")
    return model


def _model(
    schema: TableSchema, by: str, groups: tuple[Group, ...], models: tuple[Model[Table], ...]
) -> Grouped:
    able = all(isinstance(model, Conditional) for model in models)
    return (ConditionalGroups if able else Grouped)(schema, by, groups, models)
