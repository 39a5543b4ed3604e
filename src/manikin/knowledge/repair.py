"""How one broken rule is mended: values are taken from rows that obey, or set as a last resort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Order, Range, Rule, Sum
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.knowledge import conditions

__all__ = ["compare", "mend", "transplant"]

Rows = NDArray[np.int64]  # positions of rows in the draft
_DAY = 86_400.0
_BLOCK = 4_000_000  # cells of the largest array made when combinations are compared


def compare(
    left: NDArray[np.float64], operator: Order, right: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where `left operator right`; true where either is NaN."""
    unknown = np.isnan(left) | np.isnan(right)
    with np.errstate(invalid="ignore"):
        close = np.abs(left - right) <= 1e-12 * np.maximum(np.abs(right), 1e-3)
        beyond = left < right if operator[0] == "<" else left > right
    return np.asarray(unknown | (beyond & ~close) | (close & (operator[-1] == "=")))


def mend(
    rule: Rule,
    draft: Table,
    hurt: Rows,
    donors: Table,
    rng: np.random.Generator,
    fixed: frozenset[str],
    *,
    limits: tuple[float, ...] = (),
    allowed: NDArray[np.float64] | None = None,
) -> None:
    """Change the rows `hurt` of the draft in place, as little as the rule needs."""
    match rule:
        case Range(column=name) if name not in fixed:
            _mend_range(draft, name, hurt, donors, rng, limits)
        case Inequality():
            _mend_inequality(rule, draft, hurt, donors, rng, fixed)
        case Sum(total=total, parts=parts):
            _mend_sum(draft, total, parts, hurt, fixed)
        case IfThen():
            _mend_if_then(rule, draft, hurt, donors, rng, fixed)
        case Combinations(columns=names) if allowed is not None and len(allowed):
            _mend_combination(draft, names, hurt, donors, rng, fixed, allowed)


def transplant(
    draft: Table,
    hurt: Rows,
    donors: Table,
    names: list[str],
    rng: np.random.Generator,
    fixed: frozenset[str],
) -> None:
    """Copy the columns `names` that are not fixed from one donor row to each subject's rows."""
    free = [name for name in names if name not in fixed]
    if not (hurt.size and donors.n_rows and free):
        return
    subjects, inverse = np.unique(draft.subjects[hurt], return_inverse=True)
    chosen = rng.integers(donors.n_rows, size=subjects.size)[inverse]
    for name in free:
        _copy(draft, name, hurt, donors, chosen)


# ------------------------------------------------------------------ one rule each


def _mend_range(
    draft: Table,
    name: str,
    hurt: Rows,
    donors: Table,
    rng: np.random.Generator,
    limits: tuple[float, ...],
) -> None:
    low, high = limits
    values = donors.numbers(name)
    good = np.flatnonzero((values >= low) & (values <= high))
    if good.size:
        _copy(draft, name, hurt, donors, rng.choice(good, hurt.size))
    elif np.isfinite(low) and np.isfinite(high):
        _set(draft, name, hurt, rng.uniform(low, high, hurt.size), low, high)
    else:
        _set(draft, name, hurt, np.clip(draft.numbers(name)[hurt], low, high), low, high)


def _mend_inequality(
    rule: Inequality,
    draft: Table,
    hurt: Rows,
    donors: Table,
    rng: np.random.Generator,
    fixed: frozenset[str],
) -> None:
    """Keep one side and give the other an interval seen in rows that obey."""
    left, right = draft.numbers(rule.left), draft.numbers(rule.right)
    column = draft.schema[rule.right]
    interval = donors.numbers(rule.right) - donors.numbers(rule.left)
    interval = interval[~np.isnan(interval)]
    if rule.right in fixed and rule.left in fixed:
        return
    if interval.size:
        drawn = rng.choice(interval, hurt.size)
    else:  # nobody shows how far apart they are: turn the interval round
        step = _step(column) if rule.operator in ("<", ">") else 0.0
        least = np.maximum(np.abs(right[hurt] - left[hurt]), step)
        drawn = least if rule.operator[0] == "<" else -least
    if rule.right not in fixed:
        _set(draft, rule.right, hurt, left[hurt] + drawn)
    else:
        _set(draft, rule.left, hurt, right[hurt] - drawn)


def _mend_sum(
    draft: Table, total: str, parts: tuple[str, ...], hurt: Rows, fixed: frozenset[str]
) -> None:
    added = np.sum([draft.numbers(part)[hurt] for part in parts], axis=0)
    if total not in fixed:
        _set(draft, total, hurt, added)
        return
    gap = draft.numbers(total)[hurt] - added
    for part in parts[::-1]:
        if part not in fixed:
            _set(draft, part, hurt, draft.numbers(part)[hurt] + gap)
            return


def _mend_if_then(
    rule: IfThen,
    draft: Table,
    hurt: Rows,
    donors: Table,
    rng: np.random.Generator,
    fixed: frozenset[str],
) -> None:
    free = sorted({c.column for c in rule.then} - fixed)
    cause = conditions.all_hold(rule.when, donors)
    if {c.column for c in rule.then} - fixed == {c.column for c in rule.then}:
        good = np.flatnonzero(cause & conditions.all_hold(rule.then, donors))
        if good.size:
            chosen = rng.choice(good, hurt.size)
            for name in free:
                _copy(draft, name, hurt, donors, chosen)
            return
    for condition in rule.then:
        if condition.column not in fixed:
            rows = hurt[~conditions.holds(condition, draft)[hurt]]
            _satisfy(condition, draft, rows, donors, rng)
    still = hurt[~conditions.all_hold(rule.then, draft)[hurt]]
    causes = sorted({c.column for c in rule.when} - fixed)
    good = np.flatnonzero(~cause)
    if still.size and causes and good.size:
        chosen = rng.choice(good, still.size)
        for name in causes:
            _copy(draft, name, still, donors, chosen)


def _satisfy(
    condition: Condition, draft: Table, rows: Rows, donors: Table, rng: np.random.Generator
) -> None:
    """Make one condition hold: by a donor's value, else by a value that it names."""
    name, column = condition.column, draft.schema[condition.column]
    good = np.flatnonzero(conditions.holds(condition, donors))
    if good.size:
        _copy(draft, name, rows, donors, rng.choice(good, rows.size))
        return
    checked = conditions.check(condition, draft.schema)
    if condition.operator == "missing":
        _clear(draft, name, rows, 1)
        return
    named = [v for v in checked.values if v not in column.special or column.is_coded]
    if condition.operator in ("=", "in") and not named:
        token = 1 + len(column.missing) + column.special.index(str(checked.values[0]))
        _clear(draft, name, rows, token)
        return
    value = conditions.number(named[0], column) if named else 0.0
    if column.is_coded:
        codes = np.arange(len(column.categories), dtype=np.float64)
        fits = conditions.admits(checked, column, codes, np.zeros(codes.size, dtype=np.int8))
        if fits.any():
            _set(draft, name, rows, rng.choice(codes[fits], rows.size))
        return
    shift = {"<": -1.0, ">": 1.0, "!=": 1.0}.get(condition.operator, 0.0) * _step(column)
    if condition.operator == "in":
        options = np.array([conditions.number(v, column) for v in named])
        _set(draft, name, rows, rng.choice(options, rows.size))
    else:
        _set(draft, name, rows, np.full(rows.size, value + shift))


def _mend_combination(
    draft: Table,
    names: tuple[str, ...],
    hurt: Rows,
    donors: Table,
    rng: np.random.Generator,
    fixed: frozenset[str],
    allowed: NDArray[np.float64],
) -> None:
    """Take the allowed combination that agrees in most columns; the commoner, if several do."""
    cells = np.column_stack([draft.numbers(name)[hurt] for name in names])
    weight = np.where([name in fixed for name in names], 100.0 * len(names), 1.0)
    seen = np.column_stack([donors.numbers(name) for name in names])
    seen = seen[: max(_BLOCK // max(allowed.size, 1), 64)]  # a sample is enough to know the common
    count = (seen[:, None] == allowed[None]).all(axis=2).sum(axis=0) if len(seen) else 0
    common = np.log1p(count) * np.ones(len(allowed))
    for start in range(0, len(cells), size := max(_BLOCK // allowed.size, 1)):
        part = cells[start : start + size]
        agree = (part[:, None] == allowed[None]) @ weight  # (rows, combinations)
        # Gumbel noise draws among the best in proportion to their counts, without a loop
        tie = common + rng.gumbel(size=agree.shape)
        best = np.where(agree == agree.max(axis=1, keepdims=True), tie, -np.inf).argmax(axis=1)
        for j, name in enumerate(names):
            rows = hurt[start : start + size]
            changed = allowed[best, j] != part[:, j]
            if name not in fixed and changed.any():
                _set(draft, name, rows[changed], allowed[best, j][changed])


# ------------------------------------------------------------------ cells


def _copy(draft: Table, name: str, rows: Rows, donors: Table, chosen: Rows) -> None:
    draft.columns[name][rows] = donors.columns[name][chosen]
    if name in draft.states:
        draft.states[name][rows] = donors.state(name)[chosen]


def _set(
    draft: Table,
    name: str,
    rows: Rows,
    numbers: NDArray[np.float64],
    low: float = -np.inf,
    high: float = np.inf,
) -> None:
    """Write numbers on the column's grid and inside the bounds."""
    column = draft.schema[name]
    known = ~np.isnan(numbers)
    rows, numbers = rows[known], numbers[known]
    if column.kind == "datetime":
        whole = np.round(np.clip(numbers, low, high) * 1e6)
        draft.columns[name][rows] = whole.astype(np.int64).astype("datetime64[us]")
    elif column.is_coded:
        draft.columns[name][rows] = np.clip(np.round(numbers), 0, len(column.categories) - 1)
    else:
        unit = 10.0**column.decimals
        floor = np.ceil(low * unit - 1e-9) / unit
        ceiling = np.floor(high * unit + 1e-9) / unit
        draft.columns[name][rows] = np.clip(np.round(numbers * unit) / unit, floor, ceiling)
    if name in draft.states:
        draft.states[name][rows] = 0


def _clear(draft: Table, name: str, rows: Rows, token: int) -> None:
    values = draft.columns[name]
    values[rows] = (
        -1 if values.dtype.kind in "iu" else "NaT" if values.dtype.kind == "M" else np.nan
    )
    if name in draft.states:
        draft.states[name][rows] = token


def _step(column: Column) -> float:
    """Return the smallest difference that two cells of the column can show."""
    if column.kind == "datetime":
        timed = column.date_format is None or "%H" in column.date_format
        return 1.0 if timed else _DAY
    return 1.0 if column.is_coded else 10.0**-column.decimals
