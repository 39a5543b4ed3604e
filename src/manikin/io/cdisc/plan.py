"""As what each code of a history is written in SDTM: its domain, its topic, what holds of it.

A code that came from SDTM goes back to where it came from. Another goes by its kind: measurements
to LB, conditions to MH, drugs to CM, procedures to PR, stays to HO, deaths to DM, and the rest to
the custom findings domain XO (SDTMIG 3.4 §2.6 keeps X, Y and Z for such). A test's short name has
at most 8 letters and digits (§4.1.1), so that one is made where the code is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from manikin.data.codes import Code, EventSchema
from manikin.io.cdisc.domains import (
    KNOWN,
    Shape,
    domain_of,
    unescape,
)

__all__ = ["Entry", "Key", "Plan", "plan_of"]

Key = tuple[str, str, str]  # name, unit and domain of a code, as the reader makes them

_SHORT = re.compile(r"[A-Z_][A-Z0-9_]{0,7}")
_ELSEWHERE: dict[str, tuple[str, Shape]] = {
    "measurement": ("LB", "findings"), "condition": ("MH", "events"),
    "drug": ("CM", "interventions"), "procedure": ("PR", "interventions"),
    "visit": ("HO", "events"), "device": ("XD", "interventions"),
    "observation": ("XO", "findings"), "death": ("XO", "findings"),
}  # fmt: skip
MOST_TEST = 40


@dataclass(frozen=True)
class Entry:
    """As what one code is written."""

    domain: str  # "DM" for the reference start and for deaths, "SV" for planned visits
    shape: Shape
    values: Mapping[str, Any]  # variables that hold of the code
    key: Key  # under which the reader finds it


@dataclass(frozen=True)
class Plan:
    """As what the codes of a schema are written, in their order."""

    entries: tuple[Entry, ...]
    names: Mapping[str, Mapping[str, list[str]]]  # domain → test → qualifiers in the code's name

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of observations, in the order of their names."""
        return tuple(sorted({entry.domain for entry in self.entries} - {"DM", "SV"}))

    def shape(self, domain: str) -> Shape:
        """Return the shape of a domain of the plan."""
        return next(entry.shape for entry in self.entries if entry.domain == domain)


class _Maker:
    """Makes entries one after the other, so that no two have one key."""

    def __init__(self, layout: Mapping[str, Any]) -> None:
        self.known: Mapping[str, Any] = layout.get("domains", {})
        self.names: dict[str, dict[str, list[str]]] = {
            domain: {test: list(keys) for test, keys in entry.get("names", {}).items()}
            for domain, entry in self.known.items()
        }
        self.taken: set[Key] = set()
        self.tests: dict[str, set[str]] = {}  # short names that a domain has
        self.made = 0

    def entry(self, code: Code) -> Entry:
        special = _special(code)
        if special is not None:
            self.taken.add(special.key)
            return special
        domain, _, rest = code.name.partition("/")
        above = re.fullmatch(r"([A-Z]{2})(BODSYS|CLAS)", domain)
        if above and self._shape(above[1]) in ("events", "interventions"):
            # what few subjects have may be drawn as what stands above it: a term as good as any
            made = self._term(code, above[1], self._shape(above[1]) or "events", rest)
            return replace(made, values={**made.values, domain: rest})
        shape = self._shape(domain)
        own = shape is not None and rest != ""
        if shape is None or not rest:
            domain, shape = _ELSEWHERE[code.domain]
            if shape != "findings" and code.numeric and shape != "interventions":
                domain, shape = "XO", "findings"
        if shape == "findings":
            return self._finding(code, domain, rest if own else "", code.name.rpartition("/")[2])
        return self._term(code, domain, shape, rest if own else "")

    def _shape(self, domain: str) -> Shape | None:
        if domain in self.known:
            shape: Shape = self.known[domain]["shape"]
            return shape
        return KNOWN.get(domain)

    def _constants(self, domain: str, code: Code) -> dict[str, Any]:
        found: Mapping[str, Any] = self.known.get(domain, {}).get("constants", {})
        return dict(found.get(code.name, {}))

    def _finding(self, code: Code, domain: str, rest: str, part: str) -> Entry:
        test, *told = rest.split("/") if rest else [""]
        values = self._constants(domain, code)
        names = self.names.setdefault(domain, {})
        if told and test not in names:
            names[test] = [domain + "TPT"]  # nobody says what tells them apart
            told = ["/".join(map(unescape, told))]
        keys = names.get(test, [])
        values |= dict(zip(keys, map(unescape, told), strict=False))
        key = self._key(code, domain, test, keys, values)
        if not _SHORT.fullmatch(test) or key in self.taken or len(told) > len(keys):
            test = self._short(domain, part)
            values, keys = self._constants(domain, code), []
            key = self._key(code, domain, test, keys, values)
        self.taken.add(key)
        self.tests.setdefault(domain, set()).add(test)
        values[domain + "TESTCD"] = test
        values.setdefault(domain + "TEST", (code.label or code.name)[:MOST_TEST])
        if code.vocabulary == "LOINC":
            values[domain + "LOINC"] = part
        if code.unit:
            values[domain + "STRESU"] = code.unit
        return Entry(domain, "findings", values, key)

    @staticmethod
    def _key(code: Code, domain: str, test: str, keys: list[str], values: Mapping[str, Any]) -> Key:
        parts = [str(values.get(key, "")).replace("%", "%25").replace("/", "%2F") for key in keys]
        name = "/".join([f"{domain}/{test}", *parts])
        return name, code.unit.strip(), domain_of(domain, "findings")

    def _short(self, domain: str, part: str) -> str:
        """Return a short name that no other code of the domain has."""
        tests = self.tests.get(domain, set())
        plain = re.sub("[^A-Z0-9_]", "", part.upper())
        if _SHORT.fullmatch(plain) and plain not in tests:
            return plain
        while True:
            self.made += 1
            if (short := f"T{self.made:07d}") not in tests:
                return short

    def _term(self, code: Code, domain: str, shape: Shape, rest: str) -> Entry:
        values = self._constants(domain, code)
        unit = code.unit.strip() if shape == "interventions" else ""
        kind = domain_of(domain, shape)
        names = (rest, code.label, code.name.rpartition("/")[2], code.name)
        candidates = [text.strip() for text in names if text.strip()]
        candidates += [f"{code.name} ({code.unit or code.domain})"]
        if domain == "DS" and code.domain == "death":
            kind, candidates = "death", ["DEATH"]
        term = next(
            (t for t in candidates if (f"{domain}/{t}", unit, kind) not in self.taken),
            candidates[-1],
        )
        key = (f"{domain}/{term}", unit, kind)
        self.taken.add(key)
        topic = "TRT" if shape == "interventions" else "TERM"
        values[domain + topic] = term
        if shape == "events" or domain != "EX":
            values[domain + "DECOD"] = term
        group = domain + ("CLAS" if shape == "interventions" else "BODSYS")
        above = [p.partition("/")[2] for p in code.parents if p.startswith(group + "/")]
        if len(above) == 1:
            values[group] = above[0]
        if unit:
            values[domain + "DOSU"] = unit
        return Entry(domain, shape, values, key)


def _special(code: Code) -> Entry | None:
    """Return the entry of what DM or SV tells, None for anything else."""
    vocabulary, _, rest = code.name.partition("/")
    if code.name == "DM/RFSTDTC":
        return Entry("DM", "demographics", {"what": "reference"}, (code.name, "", "observation"))
    if code.domain == "death" and vocabulary != "DS":
        return Entry("DM", "demographics", {"what": "death"}, ("DM/DTHDTC", "", "death"))
    if code.domain == "visit" and vocabulary == "VISIT" and re.fullmatch(r"\d+(\.\d{1,3})?", rest):
        values = {"VISITNUM": float(rest), "VISIT": code.label or f"VISIT {rest}"}
        return Entry("SV", "visits", values, (f"VISIT/{float(rest):g}", "", "visit"))
    return None


def plan_of(schema: EventSchema, layout: Mapping[str, Any]) -> Plan:
    """Return as what every code of a schema is written."""
    maker = _Maker(layout)
    entries = tuple(maker.entry(code) for code in schema.codes)
    return Plan(entries, {d: names for d, names in maker.names.items() if names})
