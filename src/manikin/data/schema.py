"""The schema of a table: public facts about its columns, and the rules between them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from manikin.data.rules import (
    Combinations,
    Condition,
    IfThen,
    Inequality,
    Operator,
    Order,
    Range,
    Rule,
    Sum,
)
from manikin.errors import SchemaError

__all__ = ["Column", "Kind", "Role", "TableSchema", "columns_of", "no_such_column", "with_roles"]

Kind = Literal[
    "continuous", "integer", "ordinal", "categorical", "boolean", "datetime", "text", "identifier"
]
Role = Literal["subject", "target", "time", "event", "sensitive", "quasi_identifier"]

NUMERIC: tuple[Kind, ...] = ("continuous", "integer", "datetime")
CODED: tuple[Kind, ...] = ("ordinal", "categorical", "boolean")
SET_ASIDE: tuple[Kind, ...] = ("text", "identifier")

_RULES: dict[str, type[Rule]] = {
    "range": Range,
    "inequality": Inequality,
    "sum": Sum,
    "if_then": IfThen,
    "combinations": Combinations,
}


_SINGLE: dict[str, tuple[type, ...]] = {  # types of the fields that are no lists
    **dict.fromkeys(("unit", "date_format", "template", "dtype"), (str, type(None))),
    **dict.fromkeys(("decimals", "min_decimals"), (int,)),
    "padded": (bool,),
    "reason": (str,),
}
MOST_NAMED = 50  # columns that an error lists


@dataclass(frozen=True)
class Column:
    """One column: what it holds, and how its cells are written in the source."""

    name: str
    kind: Kind
    roles: tuple[Role, ...] = ()
    categories: tuple[str, ...] = ()  # spellings; ordinal: lowest first; boolean: (false, true)
    unit: str | None = None
    minimum: float | None = None  # in the column's unit; datetime: seconds since 1970-01-01
    maximum: float | None = None
    decimals: int = 0  # most decimal places that are written
    padded: bool = False  # always write that many: 1.50, and 63.0 for an integer with decimals=1
    min_decimals: int = 0  # never write fewer: with 1, 63.0 beside 62.85
    date_format: str | None = None  # strftime pattern of a datetime's cells
    missing: tuple[str, ...] = ("",)  # spellings of "no value"; the first is the commonest
    special: tuple[str, ...] = ()  # cells of a numeric column that are no number: "<0.5"
    template: str | None = None  # identifier: 9 a digit, A and a letters, all else as it stands
    dtype: str | None = None  # type in a typed source (a polars name); None: the source was text
    reason: str = ""  # why it was inferred to be so, for a person

    @property
    def is_numeric(self) -> bool:
        """Stored as float64 or datetime64[us]."""
        return self.kind in NUMERIC

    @property
    def is_coded(self) -> bool:
        """Stored as int32 category codes."""
        return self.kind in CODED

    @property
    def is_learned(self) -> bool:
        """Takes part in generation; free text and identifiers are set aside."""
        return self.kind not in SET_ASIDE

    @property
    def tokens(self) -> tuple[str, ...]:
        """Spellings of the states other than "has a value": state k is `tokens[k - 1]`."""
        return self.missing + self.special


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table in source order, and the rules between them.

    Raises SchemaError when names repeat, a role is held twice or a rule names no column.
    """

    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    declared: bool = False
    modality: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise SchemaError(
                f"columns named more than once: {', '.join(twice)}",
                "every column has a name of its own",
                "rename the columns",
            )
        for role in ("subject", "target", "time", "event"):
            if sum(role in column.roles for column in self.columns) > 1:
                raise SchemaError(
                    f"the role '{role}' is held by more than one column",
                    "one column at most holds it",
                    "keep the role on one column",
                )
        for rule in self.rules:
            for name in sorted(columns_of(rule)):
                self[name]

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise no_such_column(name, [column.name for column in self.columns])

    def __contains__(self, name: object) -> bool:
        return any(column.name == name for column in self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def learned(self) -> tuple[Column, ...]:
        """The columns that take part in generation, in source order."""
        return tuple(column for column in self.columns if column.is_learned)

    def holder(self, role: Role) -> Column | None:
        """Return the column that holds a role, or None; for single-holder roles."""
        return next((column for column in self.columns if role in column.roles), None)

    def holders(self, role: Role) -> tuple[Column, ...]:
        """Return every column that holds a role."""
        return tuple(column for column in self.columns if role in column.roles)

    def replace(self, column: Column) -> TableSchema:
        """Return the schema with the column of the same name replaced."""
        return dataclasses.replace(
            self, columns=tuple(column if c.name == column.name else c for c in self.columns)
        )

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; fields at their default are left out."""
        return {
            "modality": self.modality,
            "declared": self.declared,
            "columns": [_without_defaults(column) for column in self.columns],
            "rules": [_rule_to_json(rule) for rule in self.rules],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> TableSchema:
        """Build the schema that `to_json` wrote. Raises SchemaError on anything else."""
        columns = tuple(_column_from_json(entry) for entry in _list(document, "columns"))
        rules = tuple(_rule_from_json(entry) for entry in _list(document, "rules"))
        return TableSchema(columns, rules, bool(document.get("declared", False)))


def with_roles(
    schema: TableSchema,
    *,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
) -> TableSchema:
    """Return the schema with these roles; a single-holder role leaves the column that had it.

    The subject column becomes an identifier. Raises SchemaError for a name that is no column, and
    for a column whose kind does not fit its role, and for an event without a time.
    """
    single: dict[Role, str | None] = {
        "target": target, "subject": subject, "time": time, "event": event
    }  # fmt: skip
    for role, holder in single.items():
        if holder is not None:
            _fits(role, schema[holder])
            freed = [_without_role(column, role) for column in schema]
            schema = _with_role(dataclasses.replace(schema, columns=tuple(freed)), holder, role)
    if event is not None and schema.holder("time") is None:
        raise SchemaError(
            f"'{event}' says what ended a follow-up, and no column says how long it was",
            "a column of times beside it",
            "name it (--time), or make the event the target",
        )
    several: dict[Role, Sequence[str]] = {
        "sensitive": sensitive, "quasi_identifier": quasi_identifiers
    }  # fmt: skip
    for role, names in several.items():
        for name in names:
            _fits(role, schema[name])
            schema = _with_role(schema, name, role)
    return schema


def no_such_column(name: str, names: Sequence[str]) -> SchemaError:
    """Return the error that names the columns there are, and the nearest of them."""
    folded = {known.casefold(): known for known in names}
    close = [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, 3)]
    shown = ", ".join(names[:MOST_NAMED])
    return SchemaError(
        f"there is no column named '{name}'",
        f"the columns are: {shown}" + (", …" if len(names) > MOST_NAMED else ""),
        f"did you mean {' or '.join(close)}?" if close else "check the spelling",
    )


def _fits(role: Role, column: Column) -> None:
    allowed: dict[Role, tuple[Kind, ...]] = {
        "time": ("continuous", "integer", "ordinal"),
        "event": ("boolean", "categorical", "ordinal"),
        "target": (*NUMERIC, *CODED),
    }
    if column.kind not in allowed.get(role, get_args(Kind)):
        raise SchemaError(
            f"column '{column.name}' is {column.kind} and cannot be the {role}",
            f"the {role} is one of: {', '.join(allowed[role])}",
            "choose another column, or declare its kind in a schema file",
        )


def _without_role(column: Column, role: Role) -> Column:
    kept = tuple(held for held in column.roles if held != role)
    return column if kept == column.roles else dataclasses.replace(column, roles=kept)


def _with_role(schema: TableSchema, name: str, role: Role) -> TableSchema:
    column = schema[name]
    if role not in column.roles:
        column = dataclasses.replace(column, roles=(*column.roles, role))
    if role == "time" and column.kind == "ordinal":
        column = _as_number(column)
    if role == "subject" and column.kind != "identifier":
        column = Column(name, "identifier", column.roles, unit=column.unit, missing=column.missing,
                        dtype=column.dtype, reason="identifier: says whose row it is")  # fmt: skip
    return schema.replace(column)


def _as_number(column: Column) -> Column:
    """Return a scale of numbers as a column of numbers: a follow-up time is measured."""
    try:
        values = [float(spelling) for spelling in column.categories]
    except ValueError as error:
        raise SchemaError(
            f"column '{column.name}' holds labels and cannot be the time",
            "the time is a number",
            "choose another column",
        ) from error
    places = [len(spelling.partition(".")[2]) for spelling in column.categories]
    padded = max(places) > 0 and min(places) == max(places)
    return dataclasses.replace(
        column,
        kind="integer" if all(value.is_integer() for value in values) else "continuous",
        categories=(),
        decimals=max(places),
        padded=padded,
        reason="the time that its role says",
    )


def columns_of(rule: Rule) -> frozenset[str]:
    """Return the names of the columns that a rule speaks of."""
    match rule:
        case Range(column=name):
            return frozenset({name})
        case Inequality(left=left, right=right):
            return frozenset({left, right})
        case Sum(total=total, parts=parts):
            return frozenset({total, *parts})
        case IfThen(when=when, then=then):
            return frozenset(condition.column for condition in (*when, *then))
        case Combinations(columns=columns):
            return frozenset(columns)


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key, [])
    if not isinstance(value, list):
        raise SchemaError(f"'{key}' is no list", "a list of entries", "see docs/schema.md")
    return value


def _without_defaults(column: Column) -> dict[str, object]:
    written: dict[str, object] = {}
    for field in dataclasses.fields(column):
        value = getattr(column, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def _column_from_json(entry: object) -> Column:
    if not isinstance(entry, Mapping):
        raise SchemaError("a column entry is no mapping", "name: …, kind: …", "see docs/schema.md")
    fields = {field.name for field in dataclasses.fields(Column)}
    name = entry.get("name")
    if unknown := sorted(set(map(str, entry)) - fields):
        raise SchemaError(
            f"column '{name}' has unknown fields: {', '.join(unknown)}",
            f"fields are: {', '.join(sorted(fields))}",
            "check the spelling",
        )
    if not isinstance(name, str) or entry.get("kind") not in get_args(Kind):
        raise SchemaError(
            f"column '{str(name)[:80]}' has kind '{str(entry.get('kind'))[:80]}'",
            f"kinds are: {', '.join(get_args(Kind))}",
            "correct the kind",
        )
    roles = entry.get("roles", [])
    if not isinstance(roles, (list, tuple)) or any(r not in get_args(Role) for r in roles):
        raise SchemaError(
            f"column '{name}' has an unknown role",
            f"roles are: {', '.join(get_args(Role))}",
            "correct the roles",
        )
    for key in ("categories", "missing", "special"):
        value = entry.get(key, [])
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise SchemaError(
                f"'{key}' of column '{name}' is no list of texts",
                "a list of quoted spellings",
                "put quotes round each entry",
            )
    for key in ("minimum", "maximum"):
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise SchemaError(f"'{key}' of column '{name}' is no number", "a number", "correct it")
    for key, kinds in _SINGLE.items():
        if type(entry.get(key, kinds[0]())) not in kinds:
            raise SchemaError(
                f"'{key}' of column '{name}' has the wrong type",
                "what docs/schema.md says",
                "correct it",
            )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Column(**values)


def _rule_to_json(rule: Rule) -> dict[str, object]:
    name = next(key for key, kind in _RULES.items() if isinstance(rule, kind))
    return {name: dataclasses.asdict(rule, dict_factory=_plain)}


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    def lists(value: Any) -> Any:
        return [lists(v) for v in value] if isinstance(value, (list, tuple)) else value

    return {key: lists(value) for key, value in pairs}


def _rule_from_json(entry: object) -> Rule:
    if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in _RULES:
        raise SchemaError(
            "a rule entry is none of the known ones",
            f"one of: {', '.join(_RULES)}, each with its fields",
            "see docs/schema.md",
        )
    ((name, fields),) = entry.items()
    try:
        values: dict[str, Any] = {k: _tuples(k, v) for k, v in fields.items()}
        rule = _RULES[name](**values)
        if not _well_typed(rule):
            raise TypeError
        return rule
    except (TypeError, AttributeError) as error:
        allowed = ", ".join(field.name for field in dataclasses.fields(_RULES[name]))
        raise SchemaError(
            f"rule '{name}' lacks a field, has one too many, or one of the wrong type",
            f"its fields are: {allowed}",
            "see docs/schema.md",
        ) from error


def _well_typed(rule: Rule) -> bool:
    match rule:
        case Range(column, minimum, maximum):
            bounds = all(b is None or _is_value(b) for b in (minimum, maximum))
            return isinstance(column, str) and bounds
        case Inequality(left, operator, right):
            return _all_texts((left, right)) and operator in get_args(Order)
        case Sum(total, parts):
            return isinstance(total, str) and _all_texts(parts)
        case IfThen(when, then):
            return all(
                isinstance(c.column, str)
                and c.operator in get_args(Operator)
                and isinstance(c.values, tuple)
                and all(map(_is_value, c.values))
                for c in (*when, *then)
            )
        case Combinations(columns, allowed):
            rows = allowed is None or (
                isinstance(allowed, tuple) and all(_all_texts(row) for row in allowed)
            )
            return _all_texts(columns) and rows


def _is_value(value: object) -> bool:
    return isinstance(value, str | float | int) and not isinstance(value, bool)


def _all_texts(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)


def _tuples(key: str, value: Any) -> Any:
    if key in ("when", "then"):
        return tuple(Condition(**{k: _tuples(k, v) for k, v in c.items()}) for c in value)
    if isinstance(value, list):
        return tuple(_tuples("", v) for v in value)
    return value
