"""Schema files: YAML that a person reads, corrects and gives back; and their JSON Schema.

Plain scalars are read as text, so that the categories `[no, yes]` and `[1.50, 2.00]` keep their
spelling; fields that are numbers or true and false are read as such by their name.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from manikin.data.cells import MOST_DECIMALS
from manikin.data.dates import read_dates, seconds, write_dates
from manikin.data.links import CohortSchema
from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Rule, Sum
from manikin.data.schema import Column, TableSchema
from manikin.errors import ConditionError, SchemaError
from manikin.io.bounds import panics_become, read_text
from manikin.io.layout import atomic

__all__ = [
    "from_document",
    "from_yaml",
    "load_yaml",
    "read_schema",
    "tables_to_yaml",
    "to_yaml",
    "write_schema",
]

_READER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # builds texts, lists and mappings only
_WRITER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_EPOCH = datetime.datetime(1970, 1, 1)
_MOST_NESTED, _MOST_NODES = 20, 1_000_000
_WHOLE = ("decimals", "min_decimals")
_BOUNDS = ("minimum", "maximum")
_PLACES = frozenset(map(str, range(MOST_DECIMALS + 1)))
_OPTIONAL = ("unit", "date_format", "template", "dtype", *_BOUNDS)
_HEADER = """\
# Schema of a table for Manikin; every field is explained in docs/schema.md.
# Correct it where it is wrong and give it back with --schema. What is read from a file counts as
# declared, that is, as public: see that no category or bound tells of a single person.
"""


def read_schema(path: str | Path) -> TableSchema:
    """Read a schema file (YAML or JSON). Raises InputError, or SchemaError for what is wrong."""
    return from_yaml(read_text(Path(path), "schema file"))


def write_schema(schema: TableSchema, path: str | Path) -> None:
    """Write a schema file, with the reasons of an inferred schema as comments."""
    with atomic(Path(path)) as file:
        file.write(to_yaml(schema).encode("utf-8"))


# ---------------------------------------------------------------------------- writing


def to_yaml(schema: TableSchema) -> str:
    """Return the text of a schema file; reasons become comments."""
    parts = [_HEADER, "columns:"]
    plain = [_entry(column) for column in schema]
    for column, entry in zip(schema, plain, strict=True):
        if column.reason:
            parts.append(f"  # {' '.join(column.reason.split())}")
        fields = "\n".join(_dumped({key: value}, "    ") for key, value in entry.items())
        parts.append("  - " + fields[4:])
    if schema.rules:
        rules = [_dumped(_rule_entry(rule, schema), "    ") for rule in schema.rules]
        parts += ["", "rules:", *("  - " + rule[4:] for rule in rules)]
    return "\n".join(parts) + "\n"


def tables_to_yaml(schema: CohortSchema) -> str:
    """Return the text of a schema file of linked tables."""
    parts = [
        _HEADER.replace("a table", "linked tables").replace("schema.md", "cohorts.md"),
        "links:",
    ]
    parts += [_dumped([str(link)], "  ") for link in schema.links] or ["  []"]
    parts.append("\ntables:")
    for name, table in schema.parts.items():
        text = to_yaml(table).removeprefix(_HEADER).strip()
        body = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
        parts += ["  " + _dumped({name: None}, "").removesuffix(" null"), body.rstrip() + "\n"]
    return "\n".join(parts)


def _dumped(value: Mapping[str, Any] | list[str], indent: str) -> str:
    # lists of spellings go on one line, everything else on lines of its own
    entries = value.values() if isinstance(value, Mapping) else ()
    nested = any(isinstance(entry, list | dict) for entry in entries)
    text = yaml.dump(
        value,
        Dumper=_WRITER,
        allow_unicode=True,
        sort_keys=False,
        default_flow_style=None if nested else False,
        width=96,
    )
    return "\n".join(indent + line for line in text.splitlines())


def _entry(column: Column) -> dict[str, Any]:
    """Return a column's fields that differ from their defaults, in reading order."""
    written: dict[str, Any] = {"name": column.name, "kind": column.kind}
    for field in dataclasses.fields(column)[2:]:
        value = getattr(column, field.name)
        if field.name == "reason" or value == field.default:
            continue
        if field.name in _BOUNDS:
            value = _iso(value) if column.kind == "datetime" else _short(value)
        written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def _iso(value: float) -> str:
    moment = _EPOCH + datetime.timedelta(seconds=value)
    return moment.date().isoformat() if value % 86400 == 0 else moment.isoformat(sep=" ")


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _rule_entry(rule: Rule, schema: TableSchema) -> dict[str, Any]:
    match rule:
        case Range(column, minimum, maximum):
            bounds = {"minimum": minimum, "maximum": maximum}
            kept = {key: _value(value) for key, value in bounds.items() if value is not None}
            return {"range": {"column": column, **kept}}
        case Inequality(left, operator, right):
            return {"inequality": {"left": left, "operator": operator, "right": right}}
        case Sum(total, parts):
            return {"sum": {"total": total, "parts": list(parts)}}
        case IfThen(when, then):
            return {"if_then": {"when": _written(when, schema), "then": _written(then, schema)}}
        case Combinations(columns, None):
            return {"combinations": {"columns": list(columns)}}
        case Combinations(columns, allowed):
            rows = [list(row) for row in allowed or ()]
            return {"combinations": {"columns": list(columns), "allowed": rows}}


def _written(conditions: tuple[Condition, ...], schema: TableSchema) -> Any:
    """Write conditions as text where that reads back the same, else field by field."""
    from manikin.knowledge.conditions import describe, parse_conditions

    text = ", ".join(describe(condition) for condition in conditions)
    try:
        if parse_conditions(text, schema) == conditions:
            return text
    except ConditionError:
        pass
    return [
        {"column": c.column, "operator": c.operator}
        | ({"values": [_value(value) for value in c.values]} if c.values else {})
        for c in conditions
    ]


def _value(value: str | float) -> str | float:
    return value if isinstance(value, str) else _short(value)


# ---------------------------------------------------------------------------- reading


def _check_shape(text: str) -> None:
    """Refuse what would exhaust stack or memory; events neither nest nor unfold.

    These are deep nesting, an alias inside what it names, and aliases of aliases, which a few
    lines can unfold to billions of entries.
    """
    open_: list[str | None] = []  # anchors of the collections that we are inside of
    nodes, sizes, starts = 0, {}, []  # nodes with aliases unfolded; of each anchor; before each
    for event in yaml.parse(text, Loader=_READER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(event.anchor)
            starts.append(nodes)
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            sizes[open_.pop()] = nodes - starts.pop()
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(event.anchor, 1) if event.anchor not in open_ else _MOST_NODES
        if len(open_) > _MOST_NESTED or nodes > _MOST_NODES:
            raise SchemaError(
                f"the schema file nests more than {_MOST_NESTED} levels deep, or names more than"
                f" {_MOST_NODES:,} things",
                "columns and rules",
                "see docs/schema.md",
            )


def from_yaml(text: str) -> TableSchema:
    """Build the schema that a schema file describes; it counts as declared.

    Raises SchemaError naming the line, column or rule that is wrong.
    """
    return from_document(load_yaml(text))


def load_yaml(text: str) -> Any:
    """Return texts, lists and mappings that a YAML text spells. Raises SchemaError if none."""
    try:
        _check_shape(text)
        return yaml.load(text, Loader=_READER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise SchemaError(
            f"the schema file is no YAML{where}",
            "names and values as in docs/schema.md",
            "check indentation, and put quotes round texts that hold : # [ ] { or }",
        ) from error


def from_document(document: Any) -> TableSchema:
    """Build the schema that a schema file's content describes, as `from_yaml` does."""
    if not isinstance(document, Mapping) or not isinstance(document.get("columns"), list):
        raise SchemaError(
            "the schema file has no list 'columns'",
            "columns: a list of name and kind; rules: a list",
            "see docs/schema.md",
        )
    if unknown := sorted(set(document) - {"modality", "declared", "columns", "rules"}):
        raise SchemaError(
            f"the schema file has unknown entries: {', '.join(unknown)}",
            "columns and rules",
            "check the spelling",
        )
    columns = [_column(entry) for entry in document["columns"]]
    schema = TableSchema.from_json({"columns": columns, "declared": True})
    given = document.get("rules") or []
    if not isinstance(given, list):
        raise SchemaError("'rules' is no list", "a list of rules", "see docs/schema.md")
    rules = [_rule(entry, number, schema) for number, entry in enumerate(given, start=1)]
    return dataclasses.replace(schema, rules=tuple(rules))


def _column(entry: Any) -> Any:
    """Give a column's fields their types; what is wrong is left for the schema to say."""
    if not isinstance(entry, Mapping):
        return entry
    typed: dict[str, Any] = dict(entry)
    name = typed.get("name")
    for key in _OPTIONAL:
        if typed.get(key) in ("", "null", "~", "Null", "NULL"):
            del typed[key]
    for key in ("roles", "categories", "missing", "special"):
        if isinstance(typed.get(key), str):  # one entry may stand without its list
            typed[key] = [typed[key]]
    if typed.get("missing") == []:
        del typed["missing"]  # there is always a way to write "no value"
    _texts(typed)
    for key in _BOUNDS:
        if key in typed:
            typed[key] = _bound(typed[key], typed, f"'{key}' of column '{name}'")
    for key in _WHOLE:
        if key in typed:
            typed[key] = _places(typed[key], f"'{key}' of column '{name}'")
    if "padded" in typed:
        typed["padded"] = _truth(typed["padded"], f"'padded' of column '{name}'")
    return typed


def _texts(typed: Mapping[str, Any]) -> None:
    for key in ("unit", "date_format", "template", "dtype", "reason"):
        if not isinstance(typed.get(key, ""), str):
            raise SchemaError(
                f"'{key}' of column '{typed.get('name')}' is no text", "a text", "correct it"
            )
    if "date_format" in typed:
        _date_format(typed["date_format"], f"'date_format' of column '{typed.get('name')}'")


def _date_format(pattern: str, what: str) -> None:
    """Raise SchemaError for a pattern that the engine can neither read nor write by."""
    advice = "one such as %d.%m.%Y or %Y-%m-%d %H:%M", "correct it"
    wrong = SchemaError(f"{what} is no pattern of dates", *advice)
    try:
        with panics_become(lambda: wrong):
            read_dates(pl.Series(["2024-01-31"]), pattern)
            write_dates(np.array(["2024-01-31"], "datetime64[us]"), pattern)
    except pl.exceptions.PolarsError as error:
        raise wrong from error


def _bound(value: Any, entry: Mapping[str, Any], what: str) -> float:
    if entry.get("kind") == "datetime":
        moment = seconds(str(value), entry.get("date_format"))
        if moment is not None:
            return moment
        raise SchemaError(f"{what} is no date", "a date such as 2024-01-31", "correct it")
    return _number(value, what)


def _places(value: Any, what: str) -> int:
    if str(value) not in _PLACES:
        raise SchemaError(f"{what} is no count of decimals", f"0 to {MOST_DECIMALS}", "correct it")
    return int(value)


def _truth(value: Any, what: str) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise SchemaError(f"{what} is neither true nor false", "true or false", "correct it")
    return str(value).lower() == "true"


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SchemaError(f"{what} is no number", "a number", "correct it")
    return number


def _rule(entry: Any, number: int, schema: TableSchema) -> Rule:
    """Build one rule, its values in the form of the columns it speaks of."""
    fields = next(iter(entry.values())) if isinstance(entry, Mapping) and len(entry) == 1 else None
    what = f"rule {number}"
    if not isinstance(entry, Mapping) or not isinstance(fields, Mapping):
        raise SchemaError(
            f"{what} is no rule",
            "one of range, inequality, sum, if_then, combinations, with its fields",
            "see docs/schema.md",
        )
    name, fields = str(next(iter(entry))), dict(fields)
    if name == "if_then":
        for key in ("when", "then"):
            if key in fields:
                fields[key] = _read_conditions(fields[key], what, schema)
    if name == "range" and isinstance(fields.get("column"), str) and fields["column"] in schema:
        kind = schema[fields["column"]].kind
        for key in _BOUNDS:
            if fields.get(key) in ("", "null", "~"):
                fields[key] = None
            elif key in fields and kind in ("continuous", "integer"):
                fields[key] = _number(fields[key], f"'{key}' of {what}")
    if name == "inequality" and fields.get("operator") not in ("<", "<=", ">", ">="):
        raise SchemaError(f"{what} has no known operator", "one of < <= > >=", "correct it")
    columns = [{"name": column.name, "kind": column.kind} for column in schema]
    document: dict[str, Any] = {"columns": columns, "rules": [{name: fields}]}
    try:
        return TableSchema.from_json(document).rules[0]
    except SchemaError as error:
        raise SchemaError(f"{what}: {error.given}", error.allowed, error.todo) from error


def _read_conditions(given: Any, what: str, schema: TableSchema) -> list[dict[str, Any]]:
    """Read conditions written as text, as mappings, or as a list of either."""
    from manikin.knowledge.conditions import check, parse_conditions

    found: list[Condition] = []
    try:
        for item in given if isinstance(given, list) else [given]:
            if isinstance(item, str):
                found += parse_conditions(item, schema)
                continue
            fields = dict(item)
            values = fields.pop("values", fields.pop("value", ()))
            values = tuple(values) if isinstance(values, list | tuple) else (values,)
            found.append(check(Condition(values=values, **fields), schema))
    except ConditionError as error:
        raise SchemaError(f"{what}: {error.given}", error.allowed, error.todo) from error
    except (TypeError, ValueError) as error:
        raise SchemaError(
            f"{what} has a condition that cannot be read",
            "text such as sex = male, or column, operator and values",
            "see docs/schema.md",
        ) from error
    return [{"column": c.column, "operator": c.operator, "values": list(c.values)} for c in found]
