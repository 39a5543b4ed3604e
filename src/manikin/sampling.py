"""Draw from a fitted model in blocks: as it is, under conditions, in balance, or enriched.

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
from manikin.knowledge.conditions import check, holds
from manikin.synthesizer import Conditional, Model, stream

__all__ = ["Enrich", "Plan", "draw", "join", "parse_enrich", "select", "settle", "shuffled"]

SUBJECTS_PER_BLOCK = 50_000
ROUNDS = 20  # draws, each twice the last, before all others are called too rare
MOST_AT_ONCE = 100_000  # subjects of such a draw


@dataclasses.dataclass(frozen=True)
class Enrich:
    """A level that a wished share of the subjects is to have."""

    column: str
    level: str
    share: float

    @property
    def told(self) -> str:
        """Return it as it is written on a command line."""
        return f"{self.column}={self.level}:{self.share:g}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Whom to draw: subjects for whom `where` holds, and how many of each level of a column.

    `balance` wants equally many of each level, `enrich` a share of some levels, all others as they
    come. `among` are the levels that a balance is over, once a model is known that can draw them.
    """

    where: tuple[Condition, ...] = ()
    balance: str | None = None
    enrich: tuple[Enrich, ...] = ()
    among: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return what the drawn data may be called."""
        if self.balance is not None:
            return "rebalanced"
        if self.enrich:
            return "enriched"
        return "conditioned" if self.where else "representative"

    @property
    def column(self) -> str | None:
        """Return the column whose shares are changed."""
        return self.enrich[0].column if self.enrich else self.balance

    def left_out(self, schema: TableSchema) -> int:
        """Return how many levels of the balanced column are not drawn."""
        return len(self.levels(schema)) - len(self.among) if self.balance and self.among else 0

    def levels(self, schema: TableSchema) -> tuple[str, ...]:
        """Return the levels that are balanced. Raises ConditionError unless they are a few."""
        if self.balance is None:
            return ()
        _check_coded(schema, self.balance, "balance")
        return schema[self.balance].categories


def _check_coded(schema: TableSchema, name: str, what: str) -> None:
    column = schema[name]
    if not column.is_coded or len(column.categories) < 2:
        raise ConditionError(
            f"{what} over '{column.name}', a column of kind {column.kind}",
            "a boolean, categorical or ordinal column with two levels or more",
            "name such a column, or change its kind in the schema",
        )


def parse_enrich(texts: Sequence[str], schema: TableSchema) -> tuple[Enrich, ...]:
    """Read wishes such as "diagnosis=rare:0.3", of one column.

    Raises ConditionError when one is not of this form or does not fit the schema.
    """
    found = tuple(_wish(text, schema) for text in texts)
    total = sum(wish.share for wish in found)
    if len({wish.column for wish in found}) > 1 or len({wish.level for wish in found}) < len(found):
        raise ConditionError(
            "shares of several columns, or of one level twice",
            "one share for each of some levels of one column",
            "leave one of them out; --where can hold another column",
        )
    if total > 1 + 1e-9:
        raise ConditionError(
            f"shares that sum to {total:g}", "shares that sum to at most 1", "lower one of them"
        )
    return found


def _wish(text: str, schema: TableSchema) -> Enrich:
    left, colon, right = text.rpartition(":")
    names = sorted((c.name for c in schema.learned), key=len, reverse=True)
    name = next((n for n in names if left.startswith(f"{n}=")), None)
    try:
        share = float(right)
    except ValueError:
        share = np.nan
    if not colon or name is None or not 0 < share <= 1:
        raise ConditionError(
            f"'{text}' is no wish to enrich",
            "COLUMN=LEVEL:SHARE with a share above 0 and up to 1, as in diagnosis=rare:0.3",
            "correct it; columns are those of the table",
        )
    _check_coded(schema, name, "a share of a level")
    level = check(Condition(name, "=", (left[len(name) + 1 :],)), schema).values[0]
    return Enrich(name, str(level), share)


def draw(model: Model[Any], n: int, plan: Plan, *, seed: int) -> Iterator[Table]:
    """Draw `n` subjects block by block, each block numbered from 0.

    Raises InputError for n < 0, NotSupported when the model cannot condition, ConditionError
    when nobody can satisfy the plan.
    """
    if n < 0:
        raise InputError(f"{n} subjects to draw", "0 or more", "change the number")
    if n == 0:
        yield model.sample(0, seed=seed)
    elif plan.label == "representative":
        yield from stream(model, n, seed=seed, subjects_per_block=SUBJECTS_PER_BLOCK)
    else:
        yield from _conditioned(_able(model), n, settle(model, plan, seed=seed), seed)


def settle(model: Model[Any], plan: Plan, *, seed: int) -> Plan:
    """Return the plan with the levels that this model can draw.

    A balance is over those alone; a level that is to be enriched and cannot be drawn is refused.
    """
    if plan.label == "representative":
        return plan
    able = _able(model)
    if plan.column is None or plan.among:
        return plan
    if not plan.enrich:
        return dataclasses.replace(plan, among=_drawable(able, plan, seed))
    for wish in plan.enrich:
        if refusal := _refused(able, plan, wish.level, seed):
            raise ConditionError(
                f"the level of '{wish.column}' to be enriched cannot be drawn: {refusal.given}",
                "a level that five training subjects or more have, and that the conditions allow",
                "enrich another level; 'manikin augment --method smote' takes two subjects",
            ) from refusal
    return plan


def join(blocks: Sequence[Table]) -> Table:
    """Stack blocks into one table, its subjects numbered from 0 throughout."""
    starts = np.cumsum([0, *(block.n_subjects for block in blocks[:-1])])
    return Table.concatenate(
        [
            dataclasses.replace(block, subjects=block.subjects + start)
            for block, start in zip(blocks, starts, strict=True)
        ]
    )


def _able(model: Model[Any]) -> Conditional[Any]:
    """Return the model. Raises NotSupported when it cannot condition."""
    if not isinstance(model, Conditional):
        raise NotSupported(
            "conditions were given to a model that cannot condition",
            "a synthesizer with conditional sampling",
            "choose another one: manikin list says which can",
        )
    return model


def _conditioned(model: Conditional[Any], n: int, plan: Plan, seed: int) -> Iterator[Table]:
    for block, start in enumerate(range(0, n, SUBJECTS_PER_BLOCK)):
        size = min(SUBJECTS_PER_BLOCK, n - start)
        rng = generator(seed, "sample where", block)
        if plan.column is None:
            yield model.sample_where(size, plan.where, seed=int(rng.integers(2**62)))
            continue
        parts = []
        for level, share in _shares(plan, size):
            where = (*plan.where, Condition(plan.column, "=", (level,)))
            parts.append(model.sample_where(share, where, seed=int(rng.integers(2**62))))
        others = size - sum(part.n_subjects for part in parts)
        if others:
            parts.append(_others(model, others, plan, rng))
        yield shuffled(parts, rng)


def _shares(plan: Plan, size: int) -> Iterator[tuple[str, int]]:
    """Yield how many of `size` subjects have each level that the plan speaks of; none of 0."""
    if plan.enrich:
        ends = np.rint(np.cumsum([0.0, *(wish.share for wish in plan.enrich)]) * size)
        wanted = [(w.level, int(m)) for w, m in zip(plan.enrich, np.diff(ends), strict=True)]
    else:  # sums to size over the levels
        wanted = [(level, (size + i) // len(plan.among)) for i, level in enumerate(plan.among)]
    yield from ((level, m) for level, m in wanted if m)


def _others(model: Conditional[Any], n: int, plan: Plan, rng: np.random.Generator) -> Table:
    """Draw `n` subjects none of whose rows has an enriched level, with no value or another one."""
    column = model.schema[str(plan.column)]  # type: ignore[index]  # plans are of tables
    levels = [column.categories.index(wish.level) for wish in plan.enrich]
    found: list[Table] = []
    size = max(n + n // 4, 100)
    for _ in range(ROUNDS):
        seed = int(rng.integers(2**62))
        fresh = model.sample_where(size, plan.where, seed=seed) if plan.where else (
            model.sample(size, seed=seed)
        )  # fmt: skip
        having = np.unique(fresh.subjects[np.isin(fresh.columns[column.name], levels)])
        kept = np.setdiff1d(fresh.subjects, having)[:n]
        chosen = fresh.take(kept)
        renumbered = np.searchsorted(kept, chosen.subjects).astype(np.int64)
        found.append(dataclasses.replace(chosen, subjects=renumbered))
        n -= kept.size
        if not n:
            return join(found)
        size = min(2 * size, MOST_AT_ONCE)
    raise ConditionError(
        f"almost every subject that is drawn has an enriched level of '{column.name}'",
        "a share of others that the model draws",
        "enrich that level to 1, or another one",
    )


def _drawable(model: Conditional[Any], plan: Plan, seed: int) -> tuple[str, ...]:
    """Return the levels that the model draws: one that too few subjects have is none of them."""
    found: list[str] = []
    refusal: ConditionError | None = None
    for level in plan.levels(model.schema):  # type: ignore[arg-type]  # plans are of tables
        refused = _refused(model, plan, level, seed)
        refusal = refused or refusal
        found += [] if refused else [level]
    if not found and refusal is not None:
        raise refusal
    return tuple(found)


def _refused(model: Conditional[Any], plan: Plan, level: str, seed: int) -> ConditionError | None:
    """Return why the model does not draw a level, None where it does."""
    try:
        where = (*plan.where, Condition(str(plan.column), "=", (level,)))
        model.sample_where(1, where, seed=seed)
    except ConditionError as error:
        return error
    return None


def shuffled(parts: list[Table], rng: np.random.Generator) -> Table:
    """Stack tables and put their subjects in random order, numbered from 0."""
    stacked = join(parts)
    subjects = rng.permutation(stacked.n_subjects)[stacked.subjects].astype(np.int64)
    order = np.argsort(subjects, kind="stable")
    return dataclasses.replace(stacked, subjects=subjects).rows(order)


def select(table: Table, plan: Plan, *, seed: int) -> Table:
    """Return the real rows that a plan's synthetic rows are to be compared with.

    Conditions keep a subject whose every row satisfies them; a balance, or shares that are wished
    for, keep as many subjects as can be had in these shares, by chance.
    """
    for condition in plan.where:
        broken = np.unique(table.subjects[~holds(condition, table)])
        table = table.rows(~np.isin(table.subjects, broken))
    if plan.column is None or table.n_rows == 0:
        return table
    whose, first = np.unique(table.subjects, return_index=True)
    codes = table.columns[plan.column][first]
    groups = _wanted(plan, table.schema, codes)
    most = min(int(member.sum()) / share for member, share in groups)
    rng = generator(seed, "select in balance")
    chosen: list[NDArray[np.int64]] = [
        rng.permutation(whose[member])[: round(most * share)] for member, share in groups
    ]
    return table.take(np.concatenate(chosen))


def _wanted(
    plan: Plan, schema: TableSchema, codes: NDArray[np.int32]
) -> list[tuple[NDArray[np.bool_], float]]:
    """Return who is in each group of a plan, (subjects,), and the share that it is to have."""
    place = {name: code for code, name in enumerate(schema[str(plan.column)].categories)}
    if not plan.enrich:
        levels = plan.among or plan.levels(schema)
        return [(codes == place[level], 1 / len(levels)) for level in levels if level in place]
    groups = [(codes == place[wish.level], wish.share) for wish in plan.enrich]
    rest = 1 - sum(share for _, share in groups)
    others = ~np.isin(codes, [place[wish.level] for wish in plan.enrich])
    return [*groups, (others, rest)] if rest > 1e-9 else groups
