"""Hard rules of histories as data: what a person declares, and what codes say by themselves.

A rule speaks of codes by a pattern: the name of a code, which stands for all beneath it in its
tree too; `PREFIX*` for all names that begin so; `domain:drug` for all of a domain. Where rules
are broken, and how histories are made to obey, is `manikin.knowledge.histories`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Domain, EventSchema
from manikin.errors import SchemaError
from manikin.knowledge.trees import Tree

__all__ = [
    "Aged", "Alternating", "Apart", "Before", "Bounds", "Ends", "HistoryRule", "Lifetime", "Once",
    "Only", "Rules", "Selection", "Units", "describe", "standard",
]  # fmt: skip


@dataclass(frozen=True)
class Lifetime:
    """Nothing is before the day of birth, or later than so many days after the day of death."""

    days_after_death: float = 0.0


@dataclass(frozen=True)
class Ends:
    """What lasts is not over before it begins."""


@dataclass(frozen=True)
class Once:
    """A subject has at most one event of these codes."""

    code: str


@dataclass(frozen=True)
class Only:
    """These codes are of subjects whose static column reads one of these levels."""

    code: str
    column: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Aged:
    """At these codes a subject has so many completed years, both bounds allowed."""

    code: str
    minimum_years: float | None = None
    maximum_years: float | None = None


@dataclass(frozen=True)
class Before:
    """No event of `then` is before the subject's first one of `first`, nor, if needed, without."""

    first: str
    then: str
    needed: bool = True


@dataclass(frozen=True)
class Bounds:
    """The numbers of these codes, in this unit if one is named, lie between two bounds."""

    code: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Units:
    """The numbers of these codes are in one of these units."""

    code: str
    units: tuple[str, ...]


@dataclass(frozen=True)
class Alternating:
    """These events take turns and begin with `first`: admission, discharge, admission …"""

    first: str
    then: str


@dataclass(frozen=True)
class Apart:
    """Of these events none begins before all earlier ones of the subject are over."""

    code: str


HistoryRule: TypeAlias = (
    Lifetime | Ends | Once | Only | Aged | Before | Bounds | Units | Alternating | Apart
)
_RULES: dict[str, type[HistoryRule]] = {
    rule.__name__.lower(): rule for rule in get_args(HistoryRule)
}


@dataclass(frozen=True)
class Rules:
    """Rules in the order in which they are mended, and the tree by which their patterns reach."""

    rules: tuple[HistoryRule, ...] = ()
    tree: Tree = field(default_factory=Tree)

    def with_more(self, rules: tuple[HistoryRule, ...]) -> Rules:
        """Return these rules and others, each of them once."""
        return Rules(tuple(dict.fromkeys((*self.rules, *rules))), self.tree)

    def check(self, schema: EventSchema) -> tuple[str, ...]:
        """Return notes on rules that reach no code. Raises SchemaError for what cannot be asked.

        A column that is not there, is no column of levels or lacks a level cannot be asked.
        """
        notes = []
        selection = Selection(schema, self.tree)
        for rule in self.rules:
            if isinstance(rule, Only):
                column = schema.static[rule.column]
                if not column.is_coded or set(rule.levels) - set(column.categories):
                    raise SchemaError(
                        f"a rule of column '{rule.column}' names levels that it does not have",
                        f"its levels are: {', '.join(column.categories[:20]) or 'none'}",
                        "correct the rule",
                    )
            if isinstance(rule, Aged) and not schema.birth:
                raise SchemaError(
                    "a rule of ages, and no column says when subjects were born",
                    "histories with a date of birth",
                    "name it, or leave the rule out",
                )
            for pattern in _patterns(rule):
                if not selection.places(pattern).size:
                    notes.append(f"The rule '{describe(rule)}' reaches no code for '{pattern}'.")
        return tuple(notes)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; fields at their default are left out."""
        written: list[object] = []
        for rule in self.rules:
            fields = {
                f.name: getattr(rule, f.name)
                for f in dataclasses.fields(rule)
                if f.default is dataclasses.MISSING or getattr(rule, f.name) != f.default
            }
            plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
            written.append({type(rule).__name__.lower(): plain})
        parents = {child: list(above) for child, above in self.tree.parents.items()}
        return {"rules": written, "parents": parents, "spelled": self.tree.spelled}

    @staticmethod
    def from_json(document: object) -> Rules:
        """Build rules from what `to_json` wrote, or from a YAML file. Raises SchemaError."""
        if not isinstance(document, Mapping) or not isinstance(document.get("rules"), list):
            raise _wrong("there is no list 'rules'", "rules: a list")
        if unknown := set(map(str, document)) - {"rules", "parents", "spelled"}:
            raise _wrong(f"{len(unknown)} unknown entries", "rules, parents, spelled")
        rules = tuple(_rule(entry, k) for k, entry in enumerate(document["rules"], start=1))
        parents = document.get("parents") or {}
        listed = isinstance(parents, Mapping) and all(
            isinstance(c, str) and isinstance(a, list) and all(isinstance(p, str) for p in a)
            for c, a in parents.items()
        )
        if not listed:
            raise _wrong("'parents' is no mapping", "child: [parent, …]")
        spelled = _value(document.get("spelled", True), "bool", "'spelled'")
        return Rules(rules, Tree({c: tuple(a) for c, a in parents.items()}, spelled))


class Selection:
    """Which codes of a schema a pattern reaches; each pattern is looked up once."""

    def __init__(self, schema: EventSchema, tree: Tree) -> None:
        self.schema = schema
        self.tree = tree
        self._found: dict[str, NDArray[np.int64]] = {}
        self._beneath: dict[str, list[int]] | None = None

    def places(self, pattern: str) -> NDArray[np.int64]:
        """Return the places of the codes that a pattern reaches, ascending."""
        if pattern not in self._found:
            self._found[pattern] = np.array(self._search(pattern), np.int64)
        return self._found[pattern]

    def _search(self, pattern: str) -> list[int]:
        codes = self.schema.codes
        if pattern.startswith("domain:"):
            return [i for i, code in enumerate(codes) if code.domain == pattern[7:]]
        if pattern.endswith("*"):
            return [i for i, code in enumerate(codes) if code.name.startswith(pattern[:-1])]
        if self._beneath is None:
            self._beneath = {}
            for i, code in enumerate(codes):
                up = self.tree.ancestors(code.name)
                if code.parents and code.name not in self.tree.parents:
                    up = (*code.parents, *(a for p in code.parents for a in self.tree.ancestors(p)))
                for name in dict.fromkeys((code.name, *up)):
                    self._beneath.setdefault(name, []).append(i)
        return self._beneath.get(pattern, [])


def standard(schema: EventSchema) -> Rules:
    """Return the rules that hold for any histories, and the bounds that codes declare.

    Lives begin and end, what lasts ends after it began, nobody dies twice.
    """
    bounds = [
        Bounds(code.name, code.unit, code.minimum, code.maximum)
        for code in schema.codes
        if (code.minimum, code.maximum) != (None, None)
    ]
    return Rules(
        (Lifetime(), Ends(), Once("domain:death"), *dict.fromkeys(bounds)), Tree.of(schema)
    )


def describe(rule: HistoryRule) -> str:
    """Write a rule for a person."""
    match rule:
        case Lifetime():
            return "nothing before birth or after death"
        case Ends():
            return "nothing ends before it begins"
        case Once(code):
            return f"{code} at most once"
        case Only(code, column, levels):
            return f"{code} only where {column} is {' or '.join(levels)}"
        case Aged(code, low, high):
            return f"{code} at {_between(low, high)} years"
        case Before(first, then):
            return f"{first} before {then}"
        case Bounds(code, unit, low, high):
            return f"{code} {_between(low, high)}{f' {unit}' if unit else ''}"
        case Units(code, units):
            return f"{code} in {' or '.join(units)}"
        case Alternating(first, then):
            return f"{first} and {then} take turns"
        case Apart(code):
            return f"{code} do not overlap"


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"up to {high:g}" if high is not None else "of any value"
    return f"from {low:g}" + ("" if high is None else f" to {high:g}")


def _patterns(rule: HistoryRule) -> tuple[str, ...]:
    match rule:
        case Lifetime() | Ends():
            return ()
        case Before(first, then) | Alternating(first, then):
            return (first, then)
        case Once() | Only() | Aged() | Bounds() | Units() | Apart():
            return (rule.code,)


# ------------------------------------------------------------------ reading


def _rule(entry: object, number: int) -> HistoryRule:
    """Build one rule; numbers and truth may be written as text, as a YAML file has them."""
    if not isinstance(entry, Mapping) or len(entry) != 1 or str(next(iter(entry))) not in _RULES:
        raise _wrong(f"rule {number} is none of the known ones", f"one of: {', '.join(_RULES)}")
    ((name, given),) = entry.items()
    kind = _RULES[name]
    fields = {f.name: f for f in dataclasses.fields(kind)}
    given = {} if given in (None, "") else given
    what = f"rule {number} ({name})"
    if not isinstance(given, Mapping) or set(map(str, given)) - set(fields):
        allowed = f"its fields are: {', '.join(fields) or 'none'}"
        raise _wrong(f"{what} has a field that it does not know", allowed)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, field_ in fields.items():
        if key in given:
            hint = getattr(hints[key], "__name__", str(hints[key]))
            values[key] = _value(given[key], hint, f"'{key}' of {what}")
        elif field_.default is dataclasses.MISSING:
            raise _wrong(f"{what} lacks '{key}'", f"its fields are: {', '.join(fields)}")
    rule = kind(**values)
    _sensible(rule, what)
    return rule


def _value(value: Any, hint: str, what: str) -> Any:
    if hint == "bool":
        if str(value).lower() not in ("true", "false"):
            raise _wrong(f"{what} is neither true nor false", "true or false")
        return str(value).lower() == "true"
    if "None" in hint and (value is None or value in ("", "null", "~")):
        return None
    if "float" in hint:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise _wrong(f"{what} is no number", "a number")
        return number
    if "tuple" in hint:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(v, str) for v in listed):
            raise _wrong(f"{what} is no list of texts", "a list of texts")
        if not listed:
            raise _wrong(f"{what} is empty", "at least one text")
        return tuple(listed)
    if not isinstance(value, str) or not value:
        raise _wrong(f"{what} is no text", "a text")
    return value


def _sensible(rule: HistoryRule, what: str) -> None:
    match rule:
        case Bounds(minimum=low, maximum=high) | Aged(minimum_years=low, maximum_years=high):
            if low is None and high is None:
                raise _wrong(f"{what} has no bound", "a minimum, a maximum or both")
            if low is not None and high is not None and low > high:
                raise _wrong(f"{what} has a minimum above its maximum", "minimum <= maximum")
        case Before(first, then) | Alternating(first, then):
            if first == then:
                raise _wrong(f"{what} names the same codes twice", "two different ones")
        case Lifetime(days):
            if days < 0:
                raise _wrong(f"{what} has a negative number of days", "0 or more")
        case _:
            pass
    for pattern in _patterns(rule):
        if pattern.startswith("domain:") and pattern[7:] not in get_args(Domain):
            raise _wrong(
                f"{what} names a domain that there is not", f"one of: {', '.join(get_args(Domain))}"
            )


def _wrong(given: str, allowed: str) -> SchemaError:
    return SchemaError(f"rules of histories: {given}", allowed, "see docs/events.md")
