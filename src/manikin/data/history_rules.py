"""Hard rules of histories as data: what a schema or a file of rules declares.

A rule speaks of codes by a pattern: the name of a code, which stands for all beneath it in its
tree too; `PREFIX*` for all names that begin so; `domain:drug` for all of a domain. What rules mean
for histories (where they are broken, how they are mended) is `manikin.knowledge.histories`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from manikin.errors import SchemaError

__all__ = [
    "Aged", "Alternating", "Apart", "Before", "Bounds", "Domain", "Ends", "HistoryRule",
    "Lifetime", "Once", "Only", "Units", "patterns_of", "rule_from_json", "rule_to_json", "truth",
    "wrong",
]  # fmt: skip

Domain = Literal[
    "visit", "condition", "drug", "procedure", "measurement", "observation", "device", "death"
]


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


def rule_to_json(rule: HistoryRule) -> dict[str, object]:
    """Return a rule as plain JSON values; fields at their default are left out."""
    fields = {
        f.name: getattr(rule, f.name)
        for f in dataclasses.fields(rule)
        if f.default is dataclasses.MISSING or getattr(rule, f.name) != f.default
    }
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    return {type(rule).__name__.lower(): plain}


def patterns_of(rule: HistoryRule) -> tuple[str, ...]:
    """Return the patterns by which a rule speaks of codes."""
    match rule:
        case Lifetime() | Ends():
            return ()
        case Before(first, then) | Alternating(first, then):
            return (first, then)
        case Once() | Only() | Aged() | Bounds() | Units() | Apart():
            return (rule.code,)


# ------------------------------------------------------------------ reading


def rule_from_json(entry: object, number: int) -> HistoryRule:
    """Build one rule; numbers and truth may be written as text, as a YAML file has them.

    Raises SchemaError, which tells the `number` of the rule.
    """
    if not isinstance(entry, Mapping) or len(entry) != 1 or str(next(iter(entry))) not in _RULES:
        raise wrong(f"rule {number} is none of the known ones", f"one of: {', '.join(_RULES)}")
    ((name, given),) = entry.items()
    kind = _RULES[name]
    fields = {f.name: f for f in dataclasses.fields(kind)}
    given = {} if given in (None, "") else given
    what = f"rule {number} ({name})"
    if not isinstance(given, Mapping) or set(map(str, given)) - set(fields):
        allowed = f"its fields are: {', '.join(fields) or 'none'}"
        raise wrong(f"{what} has a field that it does not know", allowed)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, field_ in fields.items():
        if key in given:
            hint = getattr(hints[key], "__name__", str(hints[key]))
            values[key] = _value(given[key], hint, f"'{key}' of {what}")
        elif field_.default is dataclasses.MISSING:
            raise wrong(f"{what} lacks '{key}'", f"its fields are: {', '.join(fields)}")
    rule = kind(**values)
    _sensible(rule, what)
    return rule


def _value(value: Any, hint: str, what: str) -> Any:
    if hint == "bool":
        if str(value).lower() not in ("true", "false"):
            raise wrong(f"{what} is neither true nor false", "true or false")
        return str(value).lower() == "true"
    if "None" in hint and (value is None or value in ("", "null", "~")):
        return None
    if "float" in hint:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise wrong(f"{what} is no number", "a number")
        return number
    if "tuple" in hint:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(v, str) for v in listed):
            raise wrong(f"{what} is no list of texts", "a list of texts")
        if not listed:
            raise wrong(f"{what} is empty", "at least one text")
        return tuple(listed)
    if not isinstance(value, str) or not value:
        raise wrong(f"{what} is no text", "a text")
    return value


def _sensible(rule: HistoryRule, what: str) -> None:
    match rule:
        case Bounds(minimum=low, maximum=high) | Aged(minimum_years=low, maximum_years=high):
            if low is None and high is None:
                raise wrong(f"{what} has no bound", "a minimum, a maximum or both")
            if low is not None and high is not None and low > high:
                raise wrong(f"{what} has a minimum above its maximum", "minimum <= maximum")
        case Before(first, then) | Alternating(first, then):
            if first == then:
                raise wrong(f"{what} names the same codes twice", "two different ones")
        case Lifetime(days):
            if days < 0:
                raise wrong(f"{what} has a negative number of days", "0 or more")
        case _:
            pass
    for pattern in patterns_of(rule):
        if pattern.startswith("domain:") and pattern[7:] not in get_args(Domain):
            raise wrong(
                f"{what} names a domain that there is not", f"one of: {', '.join(get_args(Domain))}"
            )


def truth(value: object, what: str) -> bool:
    """Return a truth value, which may be written as text."""
    return bool(_value(value, "bool", what))


def wrong(given: str, allowed: str) -> SchemaError:
    """Return the error for rules that are none."""
    return SchemaError(f"rules of histories: {given}", allowed, "see docs/events.md")
