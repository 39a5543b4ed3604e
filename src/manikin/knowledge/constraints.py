"""Declared rules of a table: where they are broken, and how rows are made to obey them.

Synthetic rows are repaired before they are rejected: a broken row gets the values of the rule's
columns from rows that obey, so that nothing piles up on a bound. Rules may pull at each other, so
repairs are repeated to a fixed point; what is then still broken takes every column of the
connected rules from one obeying row, and only what even this cannot mend is drawn anew.
Real rows may break rules (data are dirty); synthetic ones do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Rule, Sum, Value
from manikin.data.schema import Column, TableSchema, columns_of
from manikin.data.table import Table
from manikin.errors import ConditionError
from manikin.knowledge import conditions
from manikin.knowledge.repair import compare, mend, transplant

__all__ = [
    "all_rules", "check_rules", "combination_numbers", "describe", "enforce", "learn",
    "rules_from_json", "rules_to_json", "violations",
]  # fmt: skip

_GENTLE = 4  # rounds of repair rule by rule before whole sets of columns are transplanted
_ROUNDS = 7
_REDRAWS = 12
_FEW_DONORS = 64

Redraw = Callable[[int, int], Table]
"""(subjects wanted, attempt) → that many fresh subjects."""


def violations(rule: Rule, table: Table) -> NDArray[np.bool_]:
    """Return which rows break the rule, (rows,). A comparison with no value is never broken."""
    match rule:
        case Range():
            low, high = _limits(rule, table.schema[rule.column])
            values = table.numbers(rule.column)
            slack = 1e-12 * np.maximum(np.abs(values), 1e-3)
            with np.errstate(invalid="ignore"):
                return np.asarray((values < low - slack) | (values > high + slack))
        case Inequality(left=left, operator=operator, right=right):
            return ~compare(table.numbers(left), operator, table.numbers(right))
        case Sum(total=total, parts=parts):
            added = np.sum([table.numbers(part) for part in parts], axis=0)
            unit = 10.0 ** -table.schema[total].decimals
            gap = np.abs(table.numbers(total) - added)
            return np.asarray(gap > unit / 2 + 1e-9 * np.maximum(np.abs(added), unit))
        case IfThen(when=when, then=then):
            return conditions.all_hold(when, table) & ~conditions.all_hold(then, table)
        case Combinations(columns=names):
            if rule.allowed is None:
                return np.zeros(table.n_rows, dtype=bool)
            cells = np.column_stack([table.numbers(name) for name in names])
            allowed = combination_numbers(rule, table.schema)
            return np.asarray(~np.isnan(cells).any(axis=1) & ~_among(cells, allowed))


def describe(rule: Rule) -> str:
    """Write a rule for a person."""
    match rule:
        case Range(column=name, minimum=low, maximum=high):
            left = "" if low is None else f"{low} <= "
            return f"{left}{name}" + ("" if high is None else f" <= {high}")
        case Inequality(left=left, operator=operator, right=right):
            return f"{left} {operator} {right}"
        case Sum(total=total, parts=parts):
            return f"{total} = {' + '.join(parts)}"
        case IfThen(when=when, then=then):
            result = " and ".join(map(conditions.describe, then))
            if not when:
                return result
            return f"if {' and '.join(map(conditions.describe, when))} then {result}"
        case Combinations(columns=names, allowed=allowed):
            count = "seen in training" if allowed is None else f"declared ({len(allowed)})"
            return f"combinations of {', '.join(names)} as {count}"


def all_rules(schema: TableSchema, rules: tuple[Rule, ...] | None = None) -> tuple[Rule, ...]:
    """Return the rules (by default the schema's own) and the columns' bounds as rules."""
    bounds = [
        Range(column.name, _spelled(column.minimum, column), _spelled(column.maximum, column))
        for column in schema.learned
        if column.kind != "categorical" and (column.minimum, column.maximum) != (None, None)
    ]
    return (*bounds, *(schema.rules if rules is None else rules))


def learn(rules: tuple[Rule, ...], table: Table, *, least: int = 1) -> tuple[Rule, ...]:
    """Fill in what rules take from training: combinations seen in at least `least` subjects.

    Raises ConditionError when the rules do not fit the schema or contradict each other.
    """
    check_rules(table.schema, rules)
    return tuple(
        _seen(rule, table, least)
        if isinstance(rule, Combinations) and rule.allowed is None
        else rule
        for rule in rules
    )


def enforce(
    table: Table,
    rules: tuple[Rule, ...],
    *,
    rng: np.random.Generator,
    redraw: Redraw | None = None,
    fixed: frozenset[str] = frozenset(),
    static: frozenset[str] = frozenset(),
) -> Table:
    """Return the table with every rule and every column's bounds obeyed; good rows are untouched.

    `fixed` columns are never changed: rows whose fixed values leave no way out stay as they are.
    `static` columns keep one value a subject. Raises ConditionError when the rules cannot be met.
    """
    check_rules(table.schema, rules)
    everything = all_rules(table.schema, rules)
    broken = _broken(everything, table)
    if not broken.any():
        return table
    donors = _donors(table.rows(~broken), everything, redraw)
    at = np.flatnonzero(np.isin(table.subjects, table.subjects[broken]) if static else broken)
    repaired = _repair(_draft(table.rows(at)), donors, everything, rng, fixed, static)
    result = _draft(table)
    for name, values in repaired.columns.items():
        result.columns[name][at] = values
    for name, state in repaired.states.items():
        result.states[name][at] = state
    hopeless = at[_broken(everything, repaired)]
    if hopeless.size and not fixed:
        return _rejected(result, hopeless, everything, redraw)
    return result


# ------------------------------------------------------------------ rules as a whole


def check_rules(schema: TableSchema, rules: tuple[Rule, ...] | None = None) -> None:
    """Raise ConditionError when a rule does not fit the schema or no row could obey them all."""
    everything = all_rules(schema, rules)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for rule in everything:
        _check_kinds(rule, schema)
        if isinstance(rule, Range):
            least, most = _limits(rule, schema[rule.column])
            low[rule.column] = max(low.get(rule.column, -np.inf), least)
            high[rule.column] = min(high.get(rule.column, np.inf), most)
            if low[rule.column] > high[rule.column]:
                raise _contradiction(f"the bounds of column '{rule.column}' leave no value")
    _check_order([rule for rule in everything if isinstance(rule, Inequality)], low, high)
    for rule in everything:
        if isinstance(rule, IfThen):
            _check_consequence(rule, schema)


def rules_to_json(rules: tuple[Rule, ...], schema: TableSchema) -> Any:
    """Return rules as plain JSON values."""
    return dataclasses.replace(schema, rules=rules).to_json()["rules"]


def rules_from_json(document: Any, schema: TableSchema) -> tuple[Rule, ...]:
    """Read what `rules_to_json` wrote. Raises SchemaError on anything else."""
    return TableSchema.from_json({**schema.to_json(), "rules": document}).rules


def _check_kinds(rule: Rule, schema: TableSchema) -> None:
    columns = [schema[name] for name in sorted(columns_of(rule))]
    allowed = {"continuous", "integer"}
    match rule:
        case IfThen(when=when, then=then):
            for condition in (*when, *then):
                conditions.check(condition, schema)
            return
        case Combinations():
            if rule.allowed is not None and not rule.allowed:
                raise _misfit(rule, "at least one allowed combination")
            combination_numbers(rule, schema)
            allowed = {"continuous", "integer", "ordinal", "categorical", "boolean", "datetime"}
        case Sum(total=total, parts=parts):
            if total in parts or not parts:
                raise _misfit(rule, "a total and the other columns that it is the sum of")
        case Inequality(left=left, right=right):
            allowed = {"continuous", "integer", "datetime", "ordinal"}
            one, two = schema[left], schema[right]
            alike = (one.kind == "datetime") == (two.kind == "datetime")
            alike &= not (one.is_coded or two.is_coded) or one.categories == two.categories
            if left == right or not alike:
                raise _misfit(rule, "two columns on the same scale")
        case Range():
            allowed = {"continuous", "integer", "datetime", "ordinal"}
    if any(column.kind not in allowed for column in columns):
        raise _misfit(rule, f"columns that are {', '.join(sorted(allowed))}")


def _check_order(
    order: list[Inequality], low: Mapping[str, float], high: Mapping[str, float]
) -> None:
    """Look for circles such as a < b < a, and orders that the columns' bounds rule out."""
    names = sorted({name for rule in order for name in (rule.left, rule.right)})
    before = np.zeros((len(names), len(names)), dtype=np.int8)  # 1: <=, 2: <
    for rule in order:
        one, two = names.index(rule.left), names.index(rule.right)
        if rule.operator in (">", ">="):
            one, two = two, one
        before[one, two] = max(before[one, two], 2 if rule.operator in ("<", ">") else 1)
    for middle in range(len(names)):
        via = (before[:, [middle]] > 0) & (before[[middle]] > 0)
        strength = np.maximum(before[:, [middle]], before[[middle]])
        before = np.where(via, np.maximum(before, strength), before)
    if (np.diag(before) == 2).any():
        raise _contradiction(f"the order of {', '.join(names)} runs in a circle")
    for one, two in zip(*np.nonzero(before), strict=True):
        least, most = low.get(names[one], -np.inf), high.get(names[two], np.inf)
        if least > most or (least == most and before[one, two] == 2):
            raise _contradiction(f"bounds and order of {names[one]} and {names[two]} exclude")


def _check_consequence(rule: IfThen, schema: TableSchema) -> None:
    for name in {condition.column for condition in rule.then}:
        column = schema[name]
        mine = [conditions.check(c, schema) for c in rule.then if c.column == name]
        numbers, state = _candidates(mine, column)
        fits = np.ones(numbers.shape, dtype=bool)
        for condition in mine:
            fits &= conditions.admits(condition, column, numbers, state)
        if not fits.any():
            raise _contradiction(f"no value of column '{name}' satisfies: {describe(rule)}")


def _candidates(
    mine: list[Condition], column: Column
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return cells among which one satisfies the conditions if any cell does."""
    if column.is_coded:
        values = np.arange(len(column.categories), dtype=np.float64)
    else:
        named = [
            conditions.number(value, column)
            for condition in mine
            for value in condition.values
            if value not in column.special
        ]
        corners = np.unique([*named, 0.0])
        between = (corners[1:] + corners[:-1]) / 2
        beyond = [corners[0] - abs(corners[0]) - 1, corners[-1] + abs(corners[-1]) + 1]
        values = np.concatenate([corners, between, beyond])
    tokens = np.arange(1, max(len(column.tokens), 1) + 1)
    numbers = np.concatenate([values, np.full(tokens.size, np.nan)])
    return numbers, np.concatenate([np.zeros(values.size), tokens]).astype(np.int8)


def _contradiction(given: str) -> ConditionError:
    return ConditionError(
        given, "rules that some row can obey together", "correct the rules in the schema"
    )


def _misfit(rule: Rule, allowed: str) -> ConditionError:
    return ConditionError(
        f"the rule '{describe(rule)}' does not fit its columns",
        f"it takes {allowed}",
        "correct the rule in the schema",
    )


# ------------------------------------------------------------------ parts of rules


def _limits(rule: Range, column: Column) -> tuple[float, float]:
    ends = []
    for value, none in ((rule.minimum, -np.inf), (rule.maximum, np.inf)):
        if value is None:
            ends.append(none)
        else:
            checked = conditions.check(Condition(column.name, ">=", (value,)), _alone(column))
            ends.append(conditions.number(checked.values[0], column))
    return ends[0], ends[1]


def _alone(column: Column) -> TableSchema:
    return TableSchema((column,))


def _spelled(bound: float | None, column: Column) -> Value | None:
    """Return a column's own bound as a rule writes it."""
    if bound is None:
        return None
    if column.is_coded:
        return column.categories[min(max(int(bound), 0), len(column.categories) - 1)]
    return conditions.iso(bound) if column.kind == "datetime" else bound


def combination_numbers(rule: Combinations, schema: TableSchema) -> NDArray[np.float64]:
    """Return allowed combinations on the scale of `Table.numbers`, (combinations, columns)."""
    allowed = rule.allowed or ()
    if any(len(entry) != len(rule.columns) for entry in allowed):
        raise _misfit(rule, f"{len(rule.columns)} values in each combination")
    numbers = np.empty((len(allowed), len(rule.columns)))
    for j, name in enumerate(rule.columns):
        column = schema[name]
        # many combinations share few spellings
        known: dict[Value, float] = {c: float(i) for i, c in enumerate(column.categories)}
        for i, entry in enumerate(allowed):
            if entry[j] not in known:
                checked = conditions.check(Condition(name, "=", (entry[j],)), schema)
                known[entry[j]] = conditions.number(checked.values[0], column)
            numbers[i, j] = known[entry[j]]
    return numbers


def _seen(rule: Combinations, table: Table, least: int) -> Combinations:
    cells = np.column_stack([table.numbers(name) for name in rule.columns])
    whole = ~np.isnan(cells).any(axis=1)
    if not whole.any():
        return rule
    kinds, inverse = np.unique(cells[whole], axis=0, return_inverse=True)
    pairs = np.unique(np.column_stack([inverse.ravel(), table.subjects[whole]]), axis=0)
    subjects = np.bincount(pairs[:, 0], minlength=len(kinds))
    kinds = kinds[subjects >= min(least, subjects.max())]
    spelled = [
        [conditions.spelled(value, table.schema[name]) for value in kinds[:, j]]
        for j, name in enumerate(rule.columns)
    ]
    return Combinations(rule.columns, tuple(zip(*spelled, strict=True)))


def _among(cells: NDArray[np.float64], allowed: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of `cells` are rows of `allowed`; no row with NaN is."""
    both = np.concatenate([allowed, cells])
    key = np.zeros(len(both), dtype=np.int64)
    for j in range(both.shape[1]):
        code = np.unique(np.round(both[:, j], 9), return_inverse=True)[1].ravel()
        key = np.unique(key * (code.max() + 1) + code, return_inverse=True)[1].ravel()
    return np.isin(key[len(allowed) :], key[: len(allowed)])


# ------------------------------------------------------------------ enforcing


def _broken(rules: tuple[Rule, ...], table: Table) -> NDArray[np.bool_]:
    result = np.zeros(table.n_rows, dtype=bool)
    for rule in rules:
        result |= violations(rule, table)
    return result


def _draft(table: Table) -> Table:
    """Return a copy whose arrays may be written to, with the states of every column spelled out."""
    names = [column.name for column in table.schema.learned]
    return Table(
        table.schema,
        table.subjects,
        {name: np.array(table.columns[name]) for name in table.columns},
        {name: np.array(table.state(name)) for name in names if _stateful(table, name)},
    )


def _stateful(table: Table, name: str) -> bool:
    return name in table.states or len(table.schema[name].tokens) > 1


def _donors(good: Table, rules: tuple[Rule, ...], redraw: Redraw | None) -> Table:
    if good.n_rows >= _FEW_DONORS or redraw is None:
        return good
    fresh = redraw(4 * _FEW_DONORS, 0)
    return Table.concatenate([good, fresh.rows(~_broken(rules, fresh))])


def _repair(
    draft: Table,
    donors: Table,
    rules: tuple[Rule, ...],
    rng: np.random.Generator,
    fixed: frozenset[str],
    static: frozenset[str],
) -> Table:
    for attempt in range(_ROUNDS):
        for rule in rules:
            hurt = np.flatnonzero(violations(rule, draft))
            if hurt.size:
                limits = _limits(rule, draft.schema[rule.column]) if isinstance(rule, Range) else ()
                allowed = (
                    combination_numbers(rule, draft.schema)
                    if isinstance(rule, Combinations)
                    else None
                )
                mend(rule, draft, hurt, donors, rng, fixed, limits=limits, allowed=allowed)
        _settle(draft, static)
        broken = _broken(rules, draft)
        if not broken.any():
            break
        if attempt >= _GENTLE:
            for names in _connected(rules):
                wrong = _broken(tuple(r for r in rules if columns_of(r) <= names), draft)
                if static:  # a subject's rows take their values from one donor together
                    wrong = np.isin(draft.subjects, draft.subjects[wrong])
                transplant(draft, np.flatnonzero(wrong), donors, sorted(names), rng, fixed)
            _settle(draft, static)
    return draft


def _settle(draft: Table, static: frozenset[str]) -> None:
    """Give every row of a subject the static values of its first row."""
    if static:
        _, first, inverse = np.unique(draft.subjects, return_index=True, return_inverse=True)
        for name in static:
            draft.columns[name][:] = draft.columns[name][first][inverse]
            if name in draft.states:
                draft.states[name][:] = draft.states[name][first][inverse]


def _connected(rules: tuple[Rule, ...]) -> list[frozenset[str]]:
    """Return the sets of columns that rules tie together."""
    groups: list[frozenset[str]] = []
    for rule in rules:
        names = columns_of(rule)
        names = names.union(*(group for group in groups if group & names))
        groups = [group for group in groups if not group & names] + [names]
    return groups


def _rejected(
    table: Table, hopeless: NDArray[np.int64], rules: tuple[Rule, ...], redraw: Redraw | None
) -> Table:
    """Replace subjects whom no repair could help by fresh ones. Raises ConditionError if none."""
    waiting = np.unique(table.subjects[hopeless])
    parts = [table.rows(~np.isin(table.subjects, waiting))]
    for attempt in range(1, _REDRAWS + 1):
        if not waiting.size or redraw is None:
            break
        fresh = redraw(max(2 * waiting.size, _FEW_DONORS), attempt)
        good = np.setdiff1d(fresh.subjects, fresh.subjects[_broken(rules, fresh)])[: waiting.size]
        if good.size:
            chosen = fresh.take(good)
            places = np.searchsorted(good, chosen.subjects)
            parts.append(dataclasses.replace(chosen, subjects=waiting[places]))
            waiting = waiting[good.size :]
    if waiting.size:
        raise ConditionError(
            f"{waiting.size} synthetic subject(s) still break a rule after repair and redrawing",
            f"rules that rows can obey together: {'; '.join(map(describe, rules))}",
            "correct the rules, or check that the training rows obey them",
        )
    whole = Table.concatenate(parts)
    return whole.rows(np.argsort(whole.subjects, kind="stable"))
