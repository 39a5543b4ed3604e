"""The JSON Schema of schema files (draft 2020-12), published as docs/schema.json."""

from __future__ import annotations

from typing import Any, get_args

from manikin.data.cells import MOST_DECIMALS
from manikin.data.rules import Operator, Order
from manikin.data.schema import Kind, Role

__all__ = ["json_schema"]

_TEXT = {"type": "string"}
# YAML reads an unquoted 0 or 1.5 as a number; schema files take it as the text it is
_SPELLING = {"type": ["string", "number"]}
_PLACES = {"type": "integer", "minimum": 0, "maximum": MOST_DECIMALS}
_BOUND = {"type": ["number", "string", "null"], "description": "a number, or a date in ISO 8601"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema that every schema file satisfies."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manikin table schema",
        "description": "What the columns of a table hold, how its cells are written, and which "
        "rules hold between them. docs/schema.md explains it with an example.",
        "type": "object",
        "required": ["columns"],
        "additionalProperties": False,
        "properties": {
            "modality": {"const": "table"},
            "declared": {"type": "boolean"},
            "columns": {"type": "array", "items": {"$ref": "#/$defs/column"}},
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
        },
        "$defs": {
            "column": _column(),
            "rule": {"oneOf": [_rule(name, *fields) for name, fields in _rules().items()]},
            "condition": _condition(),
        },
    }


def _column() -> dict[str, Any]:
    described: dict[str, tuple[dict[str, Any], str]] = {
        "name": (_TEXT, "the column's name as in the header"),
        "kind": ({"enum": list(get_args(Kind))}, "what it holds"),
        "roles": (_list({"enum": list(get_args(Role))}), "what it is in the study"),
        "categories": (
            _list(_SPELLING),
            "spellings; an ordinal column's lowest first, a boolean column's no before yes",
        ),
        "unit": ({"type": ["string", "null"]}, "unit of measurement, for the reader"),
        "minimum": (_BOUND, "the least value that there can be, known beforehand"),
        "maximum": (_BOUND, "the greatest value that there can be, known beforehand"),
        "decimals": (_PLACES, "most decimal places"),
        "padded": ({"type": "boolean"}, "always write that many decimals: 1.50"),
        "min_decimals": (
            _PLACES,
            "never write fewer decimals: with 1, 63.0 beside 62.85",
        ),
        "date_format": ({"type": ["string", "null"]}, "strftime pattern of a datetime's cells"),
        "missing": (_list(_SPELLING), 'spellings of "no value", the commonest first'),
        "special": (_list(_SPELLING), "cells of a numeric column that are no number: <0.5"),
        "template": (
            {"type": ["string", "null"]},
            "shape of an identifier: 9 a digit, A and a letters",
        ),
        "dtype": ({"type": ["string", "null"]}, "type in a typed source, a polars name"),
        "reason": (_TEXT, "why it was inferred to be so"),
    }
    return {
        "type": "object",
        "required": ["name", "kind"],
        "additionalProperties": False,
        "properties": {
            key: {**kind, "description": text} for key, (kind, text) in described.items()
        },
    }


def _rules() -> dict[str, tuple[dict[str, Any], list[str]]]:
    value = {"type": ["string", "number", "null"]}
    when = {"$ref": "#/$defs/condition"}
    return {
        "range": ({"column": _TEXT, "minimum": value, "maximum": value}, ["column"]),
        "inequality": (
            {"left": _TEXT, "operator": {"enum": list(get_args(Order))}, "right": _TEXT},
            ["left", "operator", "right"],
        ),
        "sum": ({"total": _TEXT, "parts": _list(_TEXT)}, ["total", "parts"]),
        "if_then": ({"when": when, "then": when}, ["when", "then"]),
        "combinations": (
            {
                "columns": _list(_TEXT),
                "allowed": {"type": ["array", "null"], "items": _list(_SPELLING)},
            },
            ["columns"],
        ),
    }


def _rule(name: str, fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    inner = {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": fields,
    }
    return {
        "type": "object",
        "required": [name],
        "additionalProperties": False,
        "properties": {name: inner},
    }


def _condition() -> dict[str, Any]:
    one = {
        "type": "object",
        "required": ["column", "operator"],
        "additionalProperties": False,
        "properties": {
            "column": _TEXT,
            "operator": {"enum": list(get_args(Operator))},
            "value": _SPELLING,
            "values": _list(_SPELLING),
        },
    }
    text = {"type": "string", "description": "such as: sex = male, age >= 65"}
    return {"anyOf": [text, one, _list({"anyOf": [text, one]})]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
