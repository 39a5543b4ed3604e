"""Hard rules of histories together: those that always hold, those that a schema declares.

Where they are broken, and how histories are made to obey, is `manikin.knowledge.histories`; what
rules there are is `manikin.data.history_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.history_rules import (
    Aged,
    Alternating,
    Apart,
    Before,
    Bounds,
    Ends,
    HistoryRule,
    Lifetime,
    Once,
    Only,
    Units,
    patterns_of,
    rule_from_json,
    rule_to_json,
    truth,
    wrong,
)
from manikin.errors import SchemaError
from manikin.knowledge.trees import Tree

__all__ = [
    "Aged", "Alternating", "Apart", "Before", "Bounds", "Ends", "HistoryRule", "Lifetime", "Once",
    "Only", "Rules", "Selection", "Units", "describe", "standard",
]  # fmt: skip


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
            for pattern in patterns_of(rule):
                if not selection.places(pattern).size:
                    notes.append(f"The rule '{describe(rule)}' reaches no code for '{pattern}'.")
        return tuple(notes)

    def into(self, schema: EventSchema) -> tuple[EventSchema, tuple[str, ...]]:
        """Return a schema that also has these rules and this tree; and notes, as of `check`.

        A code's parents are then all that the tree has above it: what lies between need not be a
        code of the schema. Raises SchemaError for a rule that cannot be asked of the schema.
        """
        notes = self.check(schema)
        told = Tree(self.tree.parents, spelled=False)
        codes = tuple(
            replace(code, parents=tuple(dict.fromkeys((*code.parents, *told.ancestors(code.name)))))
            for code in schema.codes
        )
        rules = tuple(dict.fromkeys((*schema.rules, *self.rules)))
        return replace(schema, codes=codes, rules=rules), notes

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; fields at their default are left out."""
        written = [rule_to_json(rule) for rule in self.rules]
        parents = {child: list(above) for child, above in self.tree.parents.items()}
        return {"rules": written, "parents": parents, "spelled": self.tree.spelled}

    @staticmethod
    def from_json(document: object) -> Rules:
        """Build rules from what `to_json` wrote, or from a YAML file. Raises SchemaError."""
        if not isinstance(document, Mapping) or not isinstance(document.get("rules"), list):
            raise wrong("there is no list 'rules'", "rules: a list")
        if unknown := set(map(str, document)) - {"rules", "parents", "spelled"}:
            raise wrong(f"{len(unknown)} unknown entries", "rules, parents, spelled")
        rules = tuple(
            rule_from_json(entry, k) for k, entry in enumerate(document["rules"], start=1)
        )
        parents = document.get("parents") or {}
        listed = isinstance(parents, Mapping) and all(
            isinstance(c, str) and isinstance(a, list) and all(isinstance(p, str) for p in a)
            for c, a in parents.items()
        )
        if not listed:
            raise wrong("'parents' is no mapping", "child: [parent, …]")
        spelled = truth(document.get("spelled", True), "'spelled'")
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
    """Return the rules that hold for any histories, and those that a schema declares.

    Lives begin and end, what lasts ends after it began, nobody dies twice; bounds of codes.
    """
    bounds = [
        Bounds(code.name, code.unit, code.minimum, code.maximum)
        for code in schema.codes
        if (code.minimum, code.maximum) != (None, None)
    ]
    rules = (Lifetime(), Ends(), Once("domain:death"), *bounds, *schema.rules)
    return Rules(tuple(dict.fromkeys(rules)), Tree.of(schema))


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
