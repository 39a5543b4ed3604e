"""Elements of resources that stand in several kinds: concepts, doses, our extensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from manikin.io.fhir.codes import SYNTHETIC, URN, is_known
from manikin.io.fhir.facts import NEVER, NO_RANK
from manikin.io.fhir.times import NOT_A_TIME, parse_time

__all__ = ["Concept", "Json", "Malformed", "Moment", "concept_of", "dose_of", "finite",
           "is_synthetic", "micro_of", "number_of", "ours", "rank_of", "said_of", "spoken",
           "static_of", "stay_of", "text_of", "visit_number", "whole_number"]  # fmt: skip

Json: TypeAlias = dict[str, Any]
Moment: TypeAlias = tuple[int, int]
Concept: TypeAlias = tuple[str, str, str]  # system, code, label

_OIDS = {
    "urn:oid:2.16.840.1.113883.6.1": "http://loinc.org",
    "urn:oid:2.16.840.1.113883.6.96": "http://snomed.info/sct",
    "urn:oid:2.16.840.1.113883.6.88": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "urn:oid:2.16.840.1.113883.6.90": "http://hl7.org/fhir/sid/icd-10-cm",
    "urn:oid:2.16.840.1.113883.6.103": "http://hl7.org/fhir/sid/icd-9-cm",
    "urn:oid:2.16.840.1.113883.6.73": "http://www.whocc.no/atc",
    "urn:oid:2.16.840.1.113883.6.69": "http://hl7.org/fhir/sid/ndc",
    "urn:oid:2.16.840.1.113883.12.292": "http://hl7.org/fhir/sid/cvx",
}
_STATIC: dict[str, tuple[type, ...]] = {
    "valueString": (str,), "valueBoolean": (bool,), "valueDecimal": (int, float),
    "valueInteger": (int,), "valueDateTime": (str,), "valueCode": (str,),
}  # fmt: skip
_MOST_DIGITS = 30  # of a number that is read from a text
_NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"


class Malformed(ValueError):
    """A resource that is not as FHIR says; its text names what, and no value."""


def concept_of(concept: Mapping[str, Any]) -> Concept:
    """Return the coding that was chosen by hand, else the first of a known system, else the first.

    One without any coding is a plain name: its text.
    """
    codings = concept.get("coding") or []
    if len(codings) == 1 and "code" in codings[0]:
        only = codings[0]
        label = only.get("display") or concept.get("text") or ""
        return _system(only), str(only["code"]), str(label)
    codings = [one for one in codings if one.get("code")]
    if not codings:
        text = str(concept.get("text") or "").strip()
        return "", text, text
    chosen = next((c for c in codings if c.get("userSelected") is True), None)
    chosen = chosen or next((c for c in codings if is_known(_system(c))), codings[0])
    label = chosen.get("display") or concept.get("text") or ""
    return _system(chosen), str(chosen["code"]), str(label)


def _system(coding: Mapping[str, Any]) -> str:
    system = str(coding.get("system") or "")
    return _OIDS.get(system, system)


def stay_of(resource: Json, *, written_here: bool) -> tuple[Concept, str | None]:
    """Return an Encounter's concept and its text: the class, and the type beside it.

    A class that is unknown gives way to the type, and so does one that was only written because
    FHIR requires it.
    """
    kinds = resource.get("type") or []
    class_ = concept_of({"coding": [resource.get("class") or {}]})
    coded = next((concept_of(kind) for kind in kinds if kind.get("coding")), None)
    bare = next((kind.get("text") for kind in kinds if not kind.get("coding")), None)
    if coded is None:
        return class_, bare
    if not class_[1] or class_[0] == _NULL_FLAVOR or written_here or coded[0].startswith(URN):
        return coded, bare
    return class_, coded[2] or coded[1]


def visit_number(resource: Json) -> int:
    """Return the visit that our identifier numbers, or none."""
    for identifier in resource.get("identifier") or ():
        if identifier.get("system") == f"{URN}visit":
            number = whole_number(identifier.get("value"))
            if not -1 <= number < 2**31:
                raise Malformed("a number of a visit that is out of range")
            return number
    return -1


def ours(resource: Json) -> Json:
    """Return the parts of our extension of an event, by name."""
    for part in resource["extension"]:
        if part.get("url") == f"{URN}event":
            found = {inner["url"]: inner for inner in part["extension"]}
            if "encounter" in found:
                found["encounter"] = found["encounter"]["valueReference"]
            return found
    return {}


def text_of(extra: Json, text: str | None) -> str | None:
    """Return an event's text; an empty one cannot stand in FHIR, so it is said beside."""
    return "" if "empty" in extra else text


def said_of(resource: Json) -> str | None:
    """Return the notes of a resource, a line each."""
    notes = [str(note["text"]) for note in resource.get("note") or () if note.get("text")]
    return "\n".join(notes) if notes else None


def dose_of(resource: Json, kind: str) -> Json | None:
    """Return the quantity of a drug's dose."""
    dose: Json | None = None
    if kind == "Immunization":
        dose = resource.get("doseQuantity")
    elif kind == "MedicationAdministration":
        dose = (resource.get("dosage") or {}).get("dose")
    elif kind in ("MedicationRequest", "MedicationStatement"):
        element = "dosageInstruction" if kind == "MedicationRequest" else "dosage"
        first = (resource.get(element) or [{}])[0]
        dose = (first.get("doseAndRate") or [{}])[0].get("doseQuantity")
    return dose


def static_of(fact: Json) -> tuple[str, str, Any]:
    """Return name, kind and value of a static fact in our extension."""
    kind = next((key for key in fact if key in _STATIC), "")
    if not kind or type(fact[kind]) not in _STATIC[kind]:
        raise Malformed("a static fact without a value of its type")
    if kind == "valueDateTime":
        parse_time(fact[kind])
    return str(fact["url"]), kind, fact[kind]


def spoken(parts: list[Json]) -> str:
    """Return what an extension of US Core says: its text, else its codings' names."""
    texts = [part.get("valueString") for part in parts if part.get("url") == "text"]
    codes = [part["valueCoding"].get("display") for part in parts if "valueCoding" in part]
    return str(next((said for said in [*texts, *codes] if said), ""))


def is_synthetic(resource: Json) -> bool:
    """Whether a resource is tagged as synthetic."""
    meta = resource.get("meta") or {}
    wanted = {(tag["system"], tag["code"]) for tag in SYNTHETIC}
    return any((tag.get("system"), tag.get("code")) in wanted
               for tag in [*(meta.get("tag") or ()), *(meta.get("security") or ())])  # fmt: skip


def finite(value: object) -> float:
    """Return a number as JSON has it. Raises Malformed for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed("a number that is none")
    return float(value)


def number_of(part: Json) -> float:
    """Return the number that an extension of ours holds, infinite ones too."""
    if "valueString" in part:
        return math.inf if part["valueString"] == "Infinity" else -math.inf
    return finite(part["valueDecimal"]) if "valueDecimal" in part else math.nan


def micro_of(part: Json) -> Moment:
    """Return the moment that an extension of ours holds, to the microsecond."""
    if "valueString" not in part:
        return NEVER
    when = whole_number(part["valueString"])
    if not NOT_A_TIME < when < -NOT_A_TIME:
        raise Malformed("a time that is out of range")
    return when, NEVER[1]


def whole_number(text: object) -> int:
    """Return a whole number out of a text that may be a stranger's."""
    try:
        number = int(str(text)[:_MOST_DIGITS])
    except ValueError as error:
        raise Malformed("a number that is none") from error
    if not -(2**63) <= number < 2**63:
        raise Malformed("a number that is out of range")
    return number


def rank_of(id_: str) -> int:
    """Return the number at which an identifier of ours ends."""
    tail = id_.rpartition("-")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 10 else NO_RANK
