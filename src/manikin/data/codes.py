"""The schema of histories: the codes that events bear, and the facts that do not change.

A code is an entry of a vocabulary with its unit: the same laboratory test in two units is two
codes. Names are `VOCABULARY/code` ("LOINC/2160-0", "ICD10CM/E11.9"), as in MEDS; a source without
vocabularies gives plain names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from manikin.data.history_rules import Domain, HistoryRule, rule_from_json, rule_to_json
from manikin.data.schema import TableSchema
from manikin.errors import SchemaError

__all__ = ["Clock", "Code", "Domain", "EventSchema"]

Clock = Literal["us", "second", "minute", "hour", "day"]

MOST_CODES = 2_000_000
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,), "domain": (str,), "label": (str,), "unit": (str,), "numeric": (bool,),
    "minimum": (float, int, type(None)), "maximum": (float, int, type(None)),
    "decimals": (int,), "concept": (int,),
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """What an event can be: an entry of a vocabulary, in a unit, and what its value may be."""

    name: str  # VOCABULARY/code, or a plain name
    domain: Domain = "observation"
    label: str = ""  # for a person
    unit: str = ""  # of its numbers, in UCUM where the source has it so
    numeric: bool = False  # whether its events may bear a number
    minimum: float | None = None  # public bounds of the number; None where nobody declared any
    maximum: float | None = None
    decimals: int = 0  # most decimal places that are written
    levels: tuple[str, ...] = ()  # texts that its events may bear; a free text is none of them
    parents: tuple[str, ...] = ()  # names of the entries right above it in its ontology
    concept: int = 0  # OMOP concept_id where the source has one

    @property
    def vocabulary(self) -> str:
        """The part of the name before the first slash, "" for a plain name."""
        return self.name.partition("/")[0] if "/" in self.name else ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Name, unit and domain, which no two codes of a schema share."""
        return self.name, self.unit, self.domain


@dataclass(frozen=True)
class EventSchema:
    """The codes of histories in a fixed order, and the schema of what is told once a subject.

    Events refer to codes by their place in `codes`. `birth` and `sex` name columns of `static`.
    Raises SchemaError when two codes are the same, or a named column is not there.
    """

    static: TableSchema
    codes: tuple[Code, ...]
    declared: bool = False
    birth: str = ""  # static column with the date of birth, "" for none
    sex: str = ""  # static column with the sex, "" for none
    clock: Clock = "us"  # the finest step in which times are written
    rules: tuple[HistoryRule, ...] = ()  # hard ones, declared or shown by enough subjects
    modality: ClassVar[str] = "events"

    def __post_init__(self) -> None:
        if len({code.key for code in self.codes}) != len(self.codes):
            raise SchemaError(
                "codes that are there twice",
                "every code has a name, unit and domain that no other has",
                "merge them",
            )
        for name in (self.birth, self.sex):
            if name:
                self.static[name]

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def place(self) -> Mapping[tuple[str, str, str], int]:
        """Place of each code by its name, unit and domain."""
        return {code.key: i for i, code in enumerate(self.codes)}

    @cached_property
    def named(self) -> Mapping[str, tuple[int, ...]]:
        """Places of the codes of a name, whatever their unit."""
        found: dict[str, tuple[int, ...]] = {}
        for i, code in enumerate(self.codes):
            found[code.name] = (*found.get(code.name, ()), i)
        return found

    def of(self, *domains: Domain) -> tuple[int, ...]:
        """Return the places of the codes of these domains."""
        return tuple(i for i, code in enumerate(self.codes) if code.domain in domains)

    def beneath(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the places of codes of these names and of all that are below them."""
        wanted = set(names)
        above: dict[str, set[str]] = {}
        for code in self.codes:
            above.setdefault(code.name, set()).update(code.parents)
        found = []
        for place, code in enumerate(self.codes):
            seen, level = {code.name}, {code.name}
            while level:  # all that is above, however a tree may run in a circle
                level = {up for name in level for up in above.get(name, ())} - seen
                seen |= level
            if seen & wanted:
                found.append(place)
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; fields at their default are left out."""
        rules = [rule_to_json(rule) for rule in self.rules]
        return {
            "modality": self.modality,
            "declared": self.declared,
            "birth": self.birth,
            "sex": self.sex,
            "clock": self.clock,
            **({"rules": rules} if rules else {}),
            "static": self.static.to_json(),
            "codes": [_to_json(code) for code in self.codes],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> EventSchema:
        """Build the schema that `to_json` wrote. Raises SchemaError on anything else."""
        entries, static = document.get("codes"), document.get("static")
        if not isinstance(entries, list) or len(entries) > MOST_CODES:
            raise _wrong("its codes are no list", "a list of entries")
        if not isinstance(static, Mapping):
            raise _wrong("nothing is said of static facts", "the schema of a table")
        birth, sex, clock = (document.get(key, "") for key in ("birth", "sex", "clock"))
        if not (isinstance(birth, str) and isinstance(sex, str)) or clock not in get_args(Clock):
            raise _wrong("'birth', 'sex' or 'clock' is not what it should be", "names; a step")
        rules = document.get("rules") or []
        if not isinstance(rules, list):
            raise _wrong("its rules are no list", "a list of rules")
        return EventSchema(
            TableSchema.from_json(static),
            tuple(_from_json(entry) for entry in entries),
            bool(document.get("declared", False)),
            birth,
            sex,
            clock,
            tuple(rule_from_json(rule, k) for k, rule in enumerate(rules, start=1)),
        )


def _to_json(code: Code) -> dict[str, object]:
    written: dict[str, object] = {}
    for field in dataclasses.fields(code):
        value = getattr(code, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def _from_json(entry: object) -> Code:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise _wrong("a code has no name", "a mapping with at least a name")
    known = {field.name for field in dataclasses.fields(Code)}
    if unknown := set(map(str, entry)) - known:
        raise _wrong(f"{len(unknown)} unknown fields", f"fields are: {', '.join(sorted(known))}")
    for key, value in entry.items():
        if key in ("levels", "parents"):
            if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
                raise _wrong(f"'{key}' is no list of texts", "a list of texts")
        elif type(value) not in _FIELDS[key]:
            raise _wrong(f"'{key}' is of the wrong type", "what docs/events.md says")
    if entry.get("domain", "observation") not in get_args(Domain):
        raise _wrong("a domain that there is not", f"one of: {', '.join(get_args(Domain))}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Code(**values)


def _wrong(given: str, allowed: str) -> SchemaError:
    return SchemaError(f"a schema of histories: {given}", allowed, "see docs/events.md")
