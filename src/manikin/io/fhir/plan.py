"""What of a FHIR resource hangs on the event's code alone, written once for each code.

A fragment is JSON without the braces round it, as orjson writes it, and starts with a comma, so
that a resource is put together by joining. https://hl7.org/fhir/R4/resourcelist.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.codes import Code, EventSchema
from manikin.errors import MissingExtra
from manikin.io.fhir.codes import (
    ACT_CODE,
    KINDS,
    NULL_FLAVOR,
    SYNTHETIC,
    SYSTEMS,
    VITAL,
    coding_of,
    group_of,
    key_of,
    kind_of,
    quantity_unit,
)

__all__ = ["CATEGORIES", "Plan", "dumps", "fragment", "lookup_of"]

CATEGORIES = {  # of an observation → its domain
    "vital-signs": "measurement", "laboratory": "measurement", "imaging": "measurement",
    "exam": "measurement", "procedure": "measurement", "social-history": "observation",
    "survey": "observation", "therapy": "observation", "activity": "observation",
}  # fmt: skip
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
CLASSES = {"AMB": "ambulatory", "IMP": "inpatient encounter", "EMER": "emergency",
           "HH": "home health", "VR": "virtual"}  # fmt: skip
_CLASS_OF = {  # as sources call the kind of a visit → its class
    **dict.fromkeys(("ip", "inpatient", "inpatient visit", "imp", "acute"), "IMP"),
    **dict.fromkeys(("op", "outpatient", "outpatient visit", "ambulatory", "amb"), "AMB"),
    **dict.fromkeys(("er", "erip", "emergency", "emergency room visit", "emer"), "EMER"),
    **dict.fromkeys(("home", "home visit", "hh"), "HH"),
    **dict.fromkeys(("virtual", "telehealth", "vr"), "VR"),
}  # fmt: skip
_CLASS_OF_CONCEPT = {9201: "IMP", 9202: "AMB", 9203: "EMER", 262: "EMER", 581476: "HH",
                     32037: "IMP", 5083: "VR", 722455: "VR"}  # fmt: skip
_STATUS = {  # of what has happened; kinds that are not here get theirs by the end
    "Procedure": "completed", "Observation": "final", "DiagnosticReport": "final",
    "Immunization": "completed", "MedicationAdministration": "completed",
}  # fmt: skip
_ACTIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                       "code": "active"}]}  # fmt: skip


def dumps(value: object) -> str:
    """Return the JSON of a value. Raises MissingExtra where orjson is not installed."""
    try:
        import orjson
    except ImportError as error:
        raise MissingExtra("FHIR", "ehr") from error
    return orjson.dumps(value).decode()


def fragment(parts: Mapping[str, Any]) -> str:
    """Return members of an object as they follow others, "" for none."""
    return f",{dumps(parts)[1:-1]}" if parts else ""


def lookup_of(schema: EventSchema) -> dict[tuple[str, str, str, str | None], int]:
    """Return the place of each group, system, code and unit; None is the unit of no quantity.

    The first of those that look alike has it; the others bear their place in an extension.
    """
    found: dict[tuple[str, str, str, str | None], int] = {}
    for place, code in enumerate(schema.codes):
        group = group_of(code.domain)
        found.setdefault((group, *coding_of(code.name), code.unit), place)
        found.setdefault((group, *coding_of(code.name), None), place)
    return found


@dataclass(frozen=True)
class Plan:
    """What the resources of a schema's codes have in common, (codes,) each."""

    schema: EventSchema
    kinds: tuple[str, ...]  # of resource, in the order in which they are written
    kind: NDArray[np.int32]  # place in `kinds`, -1 for what stands in the Patient
    head: pl.Series  # status, category, code
    types: pl.Series  # Encounter: a CodeableConcept, "" where the class tells all
    unit: pl.Series  # rest of a Quantity after its value
    blank: pl.Series  # of an observation without a value
    concept: pl.Series  # CodeableConcept
    unlike: NDArray[np.bool_]  # (2, codes) whether its place must be told: without, with quantity
    meta: str
    offset: str  # of every time

    @staticmethod
    def of(schema: EventSchema, layout: Mapping[str, Any], *, synthetic: bool) -> Plan:
        """Plan for a schema; `layout` is what a reading of the same source said."""
        as_read = layout.get("kinds", {})
        categories = layout.get("categories", {})
        lookup = lookup_of(schema)
        names = [kind_of(code, as_read) for code in schema.codes]
        kinds = tuple(name for name in KINDS if name in names or name == "Encounter")
        unlike = np.zeros((2, len(schema)), bool)
        for place, code in enumerate(schema.codes):
            coding = (group_of(code.domain), *coding_of(code.name))
            unlike[0, place] = lookup[(*coding, None)] != place
            unlike[1, place] = lookup[(*coding, code.unit)] != place
        concepts = [concept_of(code) for code in schema.codes]
        places = {name: i for i, name in enumerate(kinds)}

        def series(values: list[str]) -> pl.Series:
            return pl.Series(values, dtype=pl.String)

        return Plan(
            schema,
            kinds,
            np.array([places.get(name, -1) for name in names], np.int32),
            series([
                _head(code, name, concept, categories.get(key_of(code), ""), place)
                for place, (code, name, concept) in enumerate(
                    zip(schema.codes, names, concepts, strict=True)
                )
            ]),
            series(["" if coding_of(c.name)[0] in (ACT_CODE, NULL_FLAVOR) else dumps(concept)
                    for c, concept in zip(schema.codes, concepts, strict=True)]),
            series([fragment(quantity_unit(code.unit)) for code in schema.codes]),
            series([_BLANK if code.numeric else "" for code in schema.codes]),
            series([dumps(concept) for concept in concepts]),
            unlike,
            fragment({"meta": {"tag": SYNTHETIC}}) if synthetic else "",
            str(layout.get("offset") or "Z"),
        )  # fmt: skip

    def devices(self) -> list[str]:
        """Return a Device for each code whose events name one."""
        statements = [i for i, kind in enumerate(self.kind) if self._is(kind)]
        return [
            f'{{"resourceType":"Device","id":"d{place}"{self.meta},"type":{self.concept[place]}}}'
            for place in statements
        ]

    def _is(self, kind: np.int32) -> bool:
        return bool(kind >= 0) and self.kinds[kind] == "DeviceUseStatement"


def concept_of(code: Code) -> dict[str, Any]:
    """Return the CodeableConcept of a code."""
    system, name = coding_of(code.name)
    label = code.label if code.label.strip() else ""
    coding = {"system": system, "code": name} | ({"display": label} if label else {})
    return {"coding": [coding]} | ({"text": label} if label else {})


_BLANK = (
    ',"dataAbsentReason":{"coding":[{"system":'
    '"http://terminology.hl7.org/CodeSystem/data-absent-reason","code":"unknown"}]}'
)


def _head(code: Code, kind: str, concept: dict[str, Any], category: str, place: int) -> str:
    if kind == "Patient":
        return ""
    parts: dict[str, Any] = {}
    if kind in _STATUS:
        parts["status"] = _STATUS[kind]
    if kind == "MedicationRequest":
        parts["intent"] = "order"
    if kind == "AllergyIntolerance":
        parts["clinicalStatus"] = _ACTIVE
    if kind == "Observation" and (category := category or _category(code)):
        parts["category"] = [{"coding": [{"system": OBSERVATION_CATEGORY, "code": category}]}]
    if kind == "Encounter":
        return fragment({"class": _class(code)})
    if kind == "DeviceUseStatement":
        return fragment({"device": {"reference": f"Device/d{place}"}})
    return fragment(parts | {KINDS[kind].code: concept})


def _category(code: Code) -> str:
    if code.domain != "measurement" or coding_of(code.name)[0] != SYSTEMS["LOINC"]:
        return ""
    return "vital-signs" if code.name.partition("/")[2] in VITAL else "laboratory"


def _class(code: Code) -> dict[str, str]:
    system, name = coding_of(code.name)
    if system in (ACT_CODE, NULL_FLAVOR):
        return {"system": system, "code": name} | (
            {"display": code.label} if code.label.strip() else {}
        )
    said = _CLASS_OF.get(code.name.rpartition("/")[2].lower()) or _CLASS_OF.get(code.label.lower())
    said = _CLASS_OF_CONCEPT.get(code.concept, said or "")
    if said:
        return {"system": ACT_CODE, "code": said, "display": CLASSES[said]}
    return {"system": NULL_FLAVOR, "code": "UNK", "display": "unknown"}
