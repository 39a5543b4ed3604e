"""Conditions on the rows of a table: read from text, checked against a schema, evaluated.

Grammar (hand-written reader; nothing is ever evaluated as code)
    conditions = condition {"," condition}
    condition  = column comparison value | column "in" "(" value {"," value} ")"
               | column ["is"] ("missing" | "present")
    comparison = "=" | "!=" | "<" | "<=" | ">" | ">="
Columns and values may stand in single or double quotes, a quote inside doubled as in CSV.
A bare value ends at the next comma, so `sex=F,age>=65` needs no quotes and `"F, other"` does.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from manikin.data.dates import seconds as seconds_of
from manikin.data.rules import Condition, Value
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError

__all__ = [
    "admits", "all_hold", "check", "describe", "holds", "iso", "moment", "number",
    "parse_conditions", "spelled",
]  # fmt: skip

_OPERATOR = re.compile(r"\s*(<=|>=|!=|==|=|<|>|≤|≥|≠)")
_WORD = re.compile(r"\s+(?:is\s+)?(missing|present)(?=\s*(?:,|$))", re.IGNORECASE)
_IN = re.compile(r"\s+in\s*(?=[(\[])|\s+in\s+", re.IGNORECASE)
_BARE = re.compile(r"[^\W\d][\w.]*\Z")
_PLAIN_VALUE = re.compile(r"[\w.+-]+(?: [\w.+-]+)*\Z")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_SPELLINGS = {"==": "=", "≤": "<=", "≥": ">=", "≠": "!="}
_ORDERS = ("<", "<=", ">", ">=")
_SHOWN = 12  # categories named in an error before it says how many more there are
_EPOCH = datetime.datetime(1970, 1, 1)


class _Read(NamedTuple):
    """A piece of text that was read, and where the rest begins."""

    value: str
    end: int


def parse_conditions(text: str, schema: TableSchema) -> tuple[Condition, ...]:
    """Read conditions such as `sex=F, age>=65, stage in (II, III), icd missing`.

    Raises ConditionError when the text is not of this form or does not fit the schema.
    """
    found: list[Condition] = []
    position = 0
    while text[position:].strip():
        condition, position = _condition(text, position, schema)
        found.append(check(condition, schema))
        rest = text[position:].lstrip()
        if rest and not rest.startswith(","):
            raise _unreadable(f"something stands after condition {len(found)} without a comma")
        position = len(text) - len(rest) + 1
        if rest and not text[position:].strip():
            raise _unreadable("the text ends with a comma")
    if not found:
        raise _unreadable("the condition is empty")
    return tuple(found)


def check(condition: Condition, schema: TableSchema) -> Condition:
    """Return the condition with its values in canonical form: spelling, float, or ISO date.

    Raises ConditionError when column, operator and values do not fit the schema.
    """
    if condition.column not in schema:
        raise ConditionError(
            f"there is no column named '{condition.column}'",
            f"{_choices(condition.column, [c.name for c in schema.learned], 'columns')}",
            "check the spelling, and put names with spaces or commas in quotes",
        )
    column = schema[condition.column]
    if not column.is_learned:
        raise ConditionError(
            f"column '{column.name}' is {column.kind}, which is set aside",
            "conditions speak of the columns that take part in generation",
            "choose another column, or declare its kind in the schema",
        )
    wanted = {"missing": 0, "present": 0, "in": None}.get(condition.operator, 1)
    if wanted is not None and len(condition.values) != wanted:
        raise ConditionError(
            f"'{condition.operator}' on column '{column.name}' has {len(condition.values)} values",
            f"it takes {wanted}",
            "correct the condition",
        )
    if condition.operator in _ORDERS and column.kind in ("categorical", "boolean"):
        raise ConditionError(
            f"'{condition.operator}' on column '{column.name}', which is {column.kind}",
            "its values have no order: =, !=, in, missing and present are allowed",
            "use 'in (…)', or declare the column ordinal in the schema",
        )
    values = tuple(_canonical(value, column, condition.operator) for value in condition.values)
    return Condition(column.name, condition.operator, values)


def describe(condition: Condition) -> str:
    """Write a condition so that `parse_conditions` reads it back."""
    name = condition.column if _BARE.match(condition.column) else _quoted(condition.column)
    if condition.operator in ("missing", "present"):
        return f"{name} {condition.operator}"
    values = [_written(value) for value in condition.values]
    if condition.operator == "in":
        return f"{name} in ({', '.join(values)})"
    return f"{name} {condition.operator} {values[0]}"


def holds(condition: Condition, table: Table) -> NDArray[np.bool_]:
    """Return where the condition holds, (rows,). No value satisfies nothing but `missing`."""
    checked = check(condition, table.schema)
    name = checked.column
    return admits(checked, table.schema[name], table.numbers(name), table.state(name))


def all_hold(conditions: tuple[Condition, ...], table: Table) -> NDArray[np.bool_]:
    """Return where every condition holds, (rows,)."""
    result = np.ones(table.n_rows, dtype=bool)
    for condition in conditions:
        result &= holds(condition, table)
    return result


def admits(
    condition: Condition, column: Column, numbers: NDArray[np.float64], state: NDArray[np.int8]
) -> NDArray[np.bool_]:
    """Return which cells satisfy a checked condition, in the shape of `numbers`.

    `numbers` are codes, numbers or seconds since 1970 as `Table.numbers` gives them; `state` is 0
    where there is a value and k where the cell reads `column.tokens[k - 1]`.
    """
    special = (state > len(column.missing)) & (state <= len(column.tokens))
    missing = (state > 0) & ~special
    if condition.operator == "missing":
        return np.asarray(missing)
    if condition.operator == "present":
        return np.asarray(~missing)
    valued = (state == 0) & ~np.isnan(numbers)
    equal = np.zeros(numbers.shape, dtype=bool)
    for value in condition.values:
        if _is_special(value, column):
            equal |= state == 1 + len(column.missing) + column.special.index(str(value))
        else:
            equal |= valued & _close(numbers, number(value, column))
    if condition.operator in ("=", "in"):
        return equal
    if condition.operator == "!=":
        return np.asarray(~missing & ~equal)
    bound = number(condition.values[0], column)
    close = _close(numbers, bound)
    with np.errstate(invalid="ignore"):
        beyond = numbers < bound if condition.operator[0] == "<" else numbers > bound
    return np.asarray(valued & (beyond & ~close | close & (condition.operator[-1] == "=")))


def moment(text: str, column: Column) -> float:
    """Return seconds since 1970 of a date in the column's own format or ISO 8601.

    Raises ConditionError when it is neither.
    """
    found = seconds_of(text, column.date_format)
    if found is None:
        raise ConditionError(
            f"the value given for column '{column.name}' is no date",
            f"a date written as {column.date_format or '%Y-%m-%d'} or as 2024-01-31",
            "correct the date",
        )
    return found


def number(value: Value, column: Column) -> float:
    """Return a canonical value on the scale of `Table.numbers`."""
    if column.is_coded:
        return float(column.categories.index(str(value)))
    return moment(str(value), column) if column.kind == "datetime" else float(value)


def spelled(value: float, column: Column) -> str:
    """Return a value on the scale of `Table.numbers` as a condition writes it."""
    if column.is_coded:
        return column.categories[int(value)]
    return iso(value) if column.kind == "datetime" else _as_text(float(value))


def iso(seconds: float) -> str:
    """Return seconds since 1970 as an ISO 8601 date and time."""
    return (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()


# ------------------------------------------------------------------ values


def _canonical(value: Value, column: Column, operator: str) -> Value:
    if isinstance(value, str) and value in column.special and operator in ("=", "!=", "in"):
        return value
    if column.is_coded:
        return column.categories[_code(value, column)]
    if column.kind == "datetime":
        seconds = moment(_as_text(value), column)
        return iso(seconds)
    if isinstance(value, str) and not _NUMBER.match(value.strip()):
        todo = "correct the value"
        if value in column.missing:
            todo = f"for cells without a value write: {_quoted(column.name)} missing"
        allowed = f"column '{column.name}' is {column.kind} and takes numbers"
        if column.special:
            allowed += f", or with =, != and in: {', '.join(map(_quoted, column.special))}"
        raise ConditionError(f"'{value}' is no number", allowed, todo)
    number = float(value)
    if not np.isfinite(number):
        raise ConditionError(
            f"a value of column '{column.name}' is not finite", "a finite number", "correct it"
        )
    return number


def _code(value: Value, column: Column) -> int:
    """Return the category code of a value, accepting 1 for '1' and true/false for a boolean."""
    text = _as_text(value)
    if text in column.categories:
        return column.categories.index(text)
    if column.kind == "boolean" and text.lower() in ("false", "true") and column.categories:
        return min(int(text.lower() == "true"), len(column.categories) - 1)
    if _NUMBER.match(text):
        same = [i for i, c in enumerate(column.categories) if _same_number(c, float(text))]
        if len(same) == 1:
            return same[0]
    todo = "check the spelling, and separate conditions by commas"
    if text in column.missing:
        todo = f"for cells without a value write: {_quoted(column.name)} missing"
    raise ConditionError(
        f"'{text}' is no category of column '{column.name}'",
        _choices(text, list(column.categories), "categories"),
        todo,
    )


def _is_special(value: Value, column: Column) -> bool:
    return column.is_numeric and isinstance(value, str) and value in column.special


def _same_number(category: str, number: float) -> bool:
    return bool(_NUMBER.match(category)) and float(category) == number


def _close(numbers: NDArray[np.float64], value: float) -> NDArray[np.bool_]:
    """Equal up to the rounding of decimal arithmetic."""
    return np.asarray(np.abs(numbers - value) <= 1e-12 * max(abs(value), 1e-3))


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    # a YAML file may hold dates of its own
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _choices(given: str, allowed: list[str], what: str) -> str:
    """Name the nearest spellings, or all of them when they are few."""
    from difflib import get_close_matches

    if len(allowed) <= _SHOWN:
        return f"its {what} are: {', '.join(allowed) or 'none'}"
    folded = {name.casefold(): name for name in reversed(allowed)}
    starts = [folded[f] for f in folded if given and f.startswith(given.casefold())][::-1]
    close = [folded[m] for m in get_close_matches(given.casefold(), list(folded), 5, 0.5)]
    near = (starts + close + allowed)[:5]
    return f"the nearest of its {len(allowed)} {what} are: {', '.join(dict.fromkeys(near))}"


# ------------------------------------------------------------------ text


def _condition(text: str, position: int, schema: TableSchema) -> tuple[Condition, int]:
    name, end = _name(text, position, schema)
    if word := _WORD.match(text, end):
        operator: Any = word[1].lower()
        return Condition(name, operator), word.end()
    if listed := _IN.match(text, end):
        values, end = _list(text, listed.end())
        return Condition(name, "in", values), end
    if comparison := _OPERATOR.match(text, end):
        operator = _SPELLINGS.get(comparison[1], comparison[1])
        value = _value(text, comparison.end(), ",")
        return Condition(name, operator, (value.value,)), value.end
    raise _unreadable(f"no comparison follows '{name}'")


def _name(text: str, position: int, schema: TableSchema) -> _Read:
    """Read a column's name: in quotes, or the longest known one that a comparison follows."""
    position += len(text[position:]) - len(text[position:].lstrip())
    if text[position] in "\"'":
        return _in_quotes(text, position)
    for name in sorted((column.name for column in schema), key=len, reverse=True):
        if name and text.startswith(name, position) and _compares(text, position + len(name)):
            return _Read(name, position + len(name))
    bare = re.compile(r"[^\s,=<>!≤≥≠()\[\]]+").match(text, position)
    if bare is None:
        raise _unreadable("a condition does not begin with a column's name")
    return _Read(bare[0], bare.end())


def _compares(text: str, position: int) -> bool:
    return any(pattern.match(text, position) for pattern in (_OPERATOR, _WORD, _IN))


def _list(text: str, position: int) -> tuple[tuple[str, ...], int]:
    opening = text[position : position + 1]
    if opening not in ("(", "["):
        raise _unreadable("'in' is not followed by a list in brackets")
    closing = ")" if opening == "(" else "]"
    values = []
    while True:
        value = _value(text, position + 1, "," + closing)
        values.append(value.value)
        rest = text[value.end :].lstrip()
        position = len(text) - len(rest)
        if rest.startswith(closing):
            return tuple(values), position + 1
        if not rest.startswith(","):
            raise _unreadable("a list is not closed")


def _value(text: str, position: int, stops: str) -> _Read:
    position += len(text[position:]) - len(text[position:].lstrip())
    if text[position : position + 1] in ('"', "'"):
        return _in_quotes(text, position)
    end = position
    while end < len(text) and text[end] not in stops:
        end += 1
    if not text[position:end].strip():
        raise _unreadable("a value is missing")
    return _Read(text[position:end].strip(), end)


def _in_quotes(text: str, position: int) -> _Read:
    mark = text[position]
    end = position + 1
    while (end := text.find(mark, end)) >= 0:
        if text[end + 1 : end + 2] != mark:
            return _Read(text[position + 1 : end].replace(mark * 2, mark), end + 1)
        end += 2
    raise _unreadable("a quotation mark is not closed")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _written(value: Value) -> str:
    text = _as_text(value) if isinstance(value, str) or float(value).is_integer() else repr(value)
    return text if _PLAIN_VALUE.match(text) else _quoted(text)


def _unreadable(given: str) -> ConditionError:
    return ConditionError(
        given,
        'conditions look like: sex=F, age>=65, stage in (II, III), icd missing, "my column" != 3',
        "correct the condition, and put names and values with commas in quotes",
    )
