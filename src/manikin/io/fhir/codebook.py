"""Codes of a reading: looked up in a schema that is known, or made of what was met."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Code, Domain, EventSchema
from manikin.errors import SchemaError
from manikin.io.fhir.codes import group_of, key_of, kind_of, name_of
from manikin.io.fhir.facts import Entry
from manikin.io.fhir.plan import CATEGORIES, lookup_of

__all__ = ["Codes", "Known", "codes_of"]

MOST_DECIMALS = 6


class Known:
    """The places of codes in a schema that was given; -1 for what it does not have."""

    def __init__(self, schema: EventSchema) -> None:
        self.lookup = lookup_of(schema)
        deaths = schema.of("death")
        self.death = deaths[0] if len(deaths) == 1 else -1
        self.by_name: dict[tuple[str, str, str | None], int] = {}
        for place, code in enumerate(schema.codes):
            for unit in (code.unit, None):
                self.by_name.setdefault((group_of(code.domain), code.name, unit), place)
        self.unknown: set[str] = set()

    def place(self, entry: Entry) -> int:
        """Return the place of a code as it was met."""
        key = (entry.group, entry.system, entry.code, entry.unit)
        found = self.lookup.get(key)
        if found is None:  # a name that two systems share, or a plain text
            name = name_of(entry.system, entry.code)
            found = self.by_name.get((entry.group, name, entry.unit))
        if found is None and entry.group == "death":
            found = self.death
        if found is None or found < 0:
            self.unknown.add("\t".join(map(str, key)))
            return -1
        return found

    def check(self, events: int) -> None:
        """Raise SchemaError when events bore codes that the schema does not have."""
        if events:
            raise SchemaError(
                f"{len(self.unknown):,} codes, of {events:,} events, that the schema does not have",
                "every code, in every unit, is one of the schema's",
                "read without a schema, or add them",
            )


@dataclass(frozen=True)
class Codes:
    """The codes that a source turned out to have."""

    codes: tuple[Code, ...]
    places: NDArray[np.int32]  # of each entry
    kinds: dict[str, str]  # where it is not the one that a code is written as by default
    categories: dict[str, str]
    notes: tuple[str, ...]


def codes_of(entries: list[Entry], code: NDArray[np.int32], value: NDArray[np.float64]) -> Codes:
    """Make codes of entries; `code` and `value` are of the events, for the decimals of each."""
    numbered = _units_of(entries)
    units = [_unit(entry, numbered) for entry in entries]
    made: dict[tuple[Domain, str, str], list[int]] = {}
    used = np.isin(np.arange(len(entries)), code)
    for place, (entry, unit) in enumerate(zip(entries, units, strict=True)):
        if not used[place]:
            continue
        domain = _domain(entry, numbered)
        key = (domain, name_of(entry.system, entry.code), unit)
        made.setdefault(key, []).append(place)
    order = sorted(made)
    places = np.zeros(len(entries), np.int32)
    for number, key in enumerate(order):
        places[made[key]] = number
    decimals = _decimals(places[code], value, len(order))
    codes, kinds, categories = [], {}, {}
    mixed = 0
    for number, key in enumerate(order):
        held = [entries[place] for place in made[key]]
        one = _code(key, held, int(decimals[number]))
        codes.append(one)
        counts = sum((entry.kinds for entry in held), Counter[str]())
        kind, most = counts.most_common(1)[0] if counts else ("", 0)
        mixed += sum(counts.values()) - most
        if kind not in ("", "Device", kind_of(one, {})):
            kinds[key_of(one)] = kind
        if said := sum((entry.categories for entry in held), Counter[str]()):
            categories[key_of(one)] = said.most_common(1)[0][0]
    notes = (f"{mixed:,} events whose code is mostly of another kind of resource; written back,"
             " they are of that kind",) if mixed else ()  # fmt: skip
    return Codes(tuple(codes), places, kinds, categories, notes)


_Coding: TypeAlias = tuple[str, str, str]


def _units_of(entries: list[Entry]) -> dict[_Coding, set[str]]:
    """Return the units in which numbers of each coding were met."""
    named: dict[_Coding, set[str]] = {}
    for entry in entries:
        if entry.unit is not None:
            named.setdefault((entry.group, entry.system, entry.code), set()).add(entry.unit)
    return named


def _unit(entry: Entry, numbered: dict[_Coding, set[str]]) -> str:
    """Return the unit of an entry; one without numbers has that of its only namesake with."""
    if entry.unit is not None:
        return entry.unit
    units = numbered.get((entry.group, entry.system, entry.code), set())
    return next(iter(units)) if len(units) == 1 else ""


def _domain(entry: Entry, numbered: dict[_Coding, set[str]]) -> Domain:
    """Return the domain that the category says, else a measurement if it ever bore a number."""
    if entry.group != "observation":
        return entry.group  # type: ignore[return-value]
    said = Counter[str]()
    for category, count in entry.categories.items():
        if category in CATEGORIES:
            said[CATEGORIES[category]] += count
    if said:
        return said.most_common(1)[0][0]  # type: ignore[return-value]
    known = (entry.group, entry.system, entry.code) in numbered
    return "measurement" if known else "observation"


def _code(key: tuple[Domain, str, str], held: list[Entry], decimals: int) -> Code:
    domain, name, unit = key
    levels = sorted(set().union(*(entry.levels for entry in held)))
    numeric = any(entry.unit is not None for entry in held)
    label = next((entry.label for entry in held if entry.label), "")
    code = Code(name, domain, label, unit, numeric, levels=tuple(levels))
    return replace(code, decimals=decimals) if numeric else code


def _decimals(code: NDArray[np.int32], value: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return the most decimal places that numbers of each code have, (codes,)."""
    most = np.zeros(n, np.int64)
    rows = np.flatnonzero(np.isfinite(value))
    for places in range(MOST_DECIMALS):
        rows = rows[np.round(value[rows], places) != value[rows]]
        if rows.size == 0:
            break
        most[np.unique(code[rows])] = places + 1
    return most
