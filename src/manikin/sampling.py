"""Draw from a fitted model in blocks: as it is, under conditions, or in balance.

Memory stays flat however many subjects are asked for, and each block has its own stream of
randomness, so that the same seed gives the same rows however they are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.knowledge.conditions import holds
from manikin.synthesizer import Conditional, Model, stream

__all__ = ["Plan", "draw", "join", "select"]

SUBJECTS_PER_BLOCK = 50_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """Whom to draw: subjects for whom `where` holds, and equally many of each `balance` level."""

    where: tuple[Condition, ...] = ()
    balance: str | None = None

    @property
    def label(self) -> str:
        """Return what the drawn data may be called."""
        if self.balance is not None:
            return "rebalanced"
        return "conditioned" if self.where else "representative"

    def levels(self, schema: TableSchema) -> tuple[str, ...]:
        """Return the levels that are balanced. Raises ConditionError unless they are a few."""
        if self.balance is None:
            return ()
        column = schema[self.balance]
        if not column.is_coded or len(column.categories) < 2:
            raise ConditionError(
                f"balance over '{column.name}', a column of kind {column.kind}",
                "a boolean, categorical or ordinal column with two levels or more",
                "name such a column, or change its kind in the schema",
            )
        return column.categories


def draw(model: Model[Any], n: int, plan: Plan, *, seed: int) -> Iterator[Table]:
    """Draw `n` subjects block by block, each block numbered from 0.

    Raises InputError for n < 0, NotSupported when the model cannot condition, ConditionError
    when nobody can satisfy the plan.
    """
    if n < 0:
        raise InputError(f"{n} subjects to draw", "0 or more", "change the number")
    if n == 0:
        yield model.sample(0, seed=seed)
    elif not plan.where and plan.balance is None:
        yield from stream(model, n, seed=seed, subjects_per_block=SUBJECTS_PER_BLOCK)
    else:
        yield from _conditioned(model, n, plan, seed)


def join(blocks: Sequence[Table]) -> Table:
    """Stack blocks into one table, its subjects numbered from 0 throughout."""
    starts = np.cumsum([0, *(block.n_subjects for block in blocks[:-1])])
    return Table.concatenate(
        [
            dataclasses.replace(block, subjects=block.subjects + start)
            for block, start in zip(blocks, starts, strict=True)
        ]
    )


def _conditioned(model: Model[Any], n: int, plan: Plan, seed: int) -> Iterator[Table]:
    if not isinstance(model, Conditional):
        raise NotSupported(
            "conditions were given to a model that cannot condition",
            "a synthesizer with conditional sampling",
            "choose another one: manikin list says which can",
        )
    levels = plan.levels(model.schema) if isinstance(model.schema, TableSchema) else ()
    if levels:
        levels = _drawable(model, plan, levels, seed)
    for block, start in enumerate(range(0, n, SUBJECTS_PER_BLOCK)):
        size = min(SUBJECTS_PER_BLOCK, n - start)
        rng = generator(seed, "sample where", block)
        if not levels:
            yield model.sample_where(size, plan.where, seed=int(rng.integers(2**62)))
            continue
        parts = []
        for i, level in enumerate(levels):
            share = (size + i) // len(levels)  # sums to size over the levels
            if share:
                where = (*plan.where, Condition(str(plan.balance), "=", (level,)))
                parts.append(model.sample_where(share, where, seed=int(rng.integers(2**62))))
        yield _shuffle(parts, rng)


def _drawable(
    model: Conditional[Any], plan: Plan, levels: tuple[str, ...], seed: int
) -> tuple[str, ...]:
    """Return the levels that the model draws: one that too few subjects have is none of them."""
    found: list[str] = []
    refusal: ConditionError | None = None
    for level in levels:
        try:
            where = (*plan.where, Condition(str(plan.balance), "=", (level,)))
            model.sample_where(1, where, seed=seed)
            found.append(level)
        except ConditionError as error:
            refusal = error
    if not found and refusal is not None:
        raise refusal
    return tuple(found)


def _shuffle(parts: list[Table], rng: np.random.Generator) -> Table:
    """Stack tables and put their subjects in random order, numbered from 0."""
    stacked = join(parts)
    subjects = rng.permutation(stacked.n_subjects)[stacked.subjects].astype(np.int64)
    order = np.argsort(subjects, kind="stable")
    return dataclasses.replace(stacked, subjects=subjects).rows(order)


def select(table: Table, plan: Plan, *, seed: int) -> Table:
    """Return the real rows that a plan's synthetic rows are to be compared with.

    Conditions keep a subject whose every row satisfies them; balance keeps equally many subjects
    of each level, by chance.
    """
    for condition in plan.where:
        broken = np.unique(table.subjects[~holds(condition, table)])
        table = table.rows(~np.isin(table.subjects, broken))
    if plan.balance is None or table.n_rows == 0:
        return table
    whose, first = np.unique(table.subjects, return_index=True)
    codes = table.columns[plan.balance][first]
    levels = [whose[codes == level] for level in range(len(plan.levels(table.schema)))]
    fewest = min(members.size for members in levels)
    rng = generator(seed, "select in balance")
    chosen: list[NDArray[np.int64]] = [rng.permutation(members)[:fewest] for members in levels]
    return table.take(np.concatenate(chosen))
