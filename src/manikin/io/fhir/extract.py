"""From a resource to events: what is taken of each kind, and from which element.

HL7 FHIR R4 (4.0.1). Where an element may be of several types ([x]), those that tell a moment, a
span, a number, a concept or a text are read; ranges, ratios and sampled data are counted and left.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from manikin.io.fhir.codes import KINDS, UCUM, URN, Kind
from manikin.io.fhir.elements import (
    Concept,
    Json,
    Malformed,
    Moment,
    concept_of,
    dose_of,
    finite,
    is_synthetic,
    micro_of,
    number_of,
    ours,
    rank_of,
    said_of,
    spoken,
    static_of,
    stay_of,
    text_of,
    visit_number,
    whole_number,
)
from manikin.io.fhir.facts import NEVER, NO_RANK, Entry, Facts, Person
from manikin.io.fhir.patients import BIRTH_TIME, US_CORE
from manikin.io.fhir.times import parse_time

__all__ = ["Extract", "hash_of"]

_DID_NOT = frozenset({"entered-in-error", "not-done", "cancelled", "planned", "draft", "intended",
                      "not-taken", "registered", "preparation"})  # fmt: skip
_VALUES = ("Quantity", "CodeableConcept", "String", "Integer", "Boolean", "DateTime", "Time",
           "Period", "Range", "Ratio", "SampledData")  # fmt: skip
_STARTS = {  # kind → elements of its moment, best first; a span is looked for in each
    "Encounter": ("period",),
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "MedicationRequest": ("authoredOn",),
    "MedicationAdministration": ("effectiveDateTime", "effectivePeriod"),
    "MedicationStatement": ("effectiveDateTime", "effectivePeriod", "dateAsserted"),
    "Immunization": ("occurrenceDateTime", "recorded"),
    "Procedure": ("performedDateTime", "performedPeriod"),
    "Observation": ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued"),
    "DiagnosticReport": ("effectiveDateTime", "effectivePeriod", "issued"),
    "AllergyIntolerance": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "DeviceUseStatement": ("timingDateTime", "timingPeriod", "recordedOn"),
}
_MISFITS = (AttributeError, TypeError, KeyError, IndexError, OverflowError, ValueError)
_HASH_OF_NONE = 0
MOST_MOMENTS = 1 << 16


def hash_of(reference: str, kind: str) -> int:
    """Return the hash of a reference, whatever server or version it names."""
    if not isinstance(reference, str):
        raise Malformed("a reference that is no text")
    if reference.startswith(kind) and "/_" not in reference:
        return hash(reference) or 1
    if reference.startswith(("http://", "https://")) or "/_history/" in reference:
        parts = reference.partition("/_history/")[0].split("/")
        reference = "/".join(parts[-2:])
    elif "/" not in reference and not reference.startswith("urn:"):
        reference = f"{kind}/{reference}"
    return hash(reference) or 1


class Extract:
    """Takes resources one by one; `place_of` names the place of a code in a unit."""

    def __init__(self, place_of: Callable[[Entry], int] | None) -> None:
        self.facts = Facts()
        self.place_of = place_of  # None: codes are as they are met
        self.trusted = False  # whether extensions that tell places and ranks are our own
        self.entries: list[Entry] = []
        self._moments: dict[str, Moment] = {}  # lately met: those of a visit come again
        self._places: dict[tuple[str, str, str, str | None], int] = {}
        self.people: dict[int, Person] = {}
        self.seen_patients: dict[int, str] = {}  # every one that is referred to
        self.stays: dict[int, tuple[int, int, int]] = {}  # Encounter → patient, number, start
        self.aliases: dict[int, int] = {}  # full URL of an entry → its reference
        self.concepts: dict[int, Concept] = {}  # Medications and Devices
        self.devices: dict[int, tuple[int, Concept]] = {}  # of a patient, until a statement uses it
        self.pending: list[tuple[int, int, str, str | None]] = []  # event, reference, kind, unit
        self.notes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()  # of resources that were looked at
        self.tagged = 0
        self.good = 0

    def take(self, resource: object, full_url: str = "") -> None:
        """Take one resource. Raises Malformed for what is none."""
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise Malformed("what is no resource")
        kind = resource["resourceType"]
        self.kinds[kind[:40]] += 1
        if full_url and not resource.get("id"):  # of a transaction that lets the server name it
            resource["id"] = full_url.removeprefix("urn:uuid:").rpartition("/")[2]
        if full_url.startswith("urn:") and isinstance(resource.get("id"), str):
            self.aliases[hash_of(full_url, kind)] = self._identity(resource, kind)
        try:
            if kind in KINDS:
                self._event(resource, KINDS[kind])
            elif kind == "Patient":
                self._patient(resource)
            elif kind in ("Medication", "Device"):
                self._thing(resource, kind)
        except Malformed:
            raise
        except _MISFITS as error:
            raise Malformed(f"a {kind} with an element of the wrong type") from error
        self.good += 1

    # -- patients ---------------------------------------------------------------------------------

    def _patient(self, resource: Json) -> None:
        me = self._identity(resource, "Patient")
        number, source = None, ""
        for identifier in resource.get("identifier", ()):
            if identifier.get("system") == f"{URN}subject":
                number = whole_number(identifier.get("value"))
            elif identifier.get("system") == f"{URN}source":
                source = str(identifier.get("value", ""))
        said: dict[str, str] = {}
        static: list[tuple[str, str, Any]] = []
        deaths: list[list[Json]] = []
        for part in resource.get("extension", ()):
            url, inner = part.get("url", ""), part.get("extension", ())
            if url == f"{URN}static":
                static += [static_of(fact) for fact in inner]
            elif url == f"{URN}death":
                deaths.append(inner)
            elif url in (f"{US_CORE}race", f"{US_CORE}ethnicity"):
                said[url.removeprefix(US_CORE)] = spoken(inner)
        if marital := resource.get("maritalStatus"):
            said["marital_status"] = concept_of(marital)[2]
        birth = self._birth(resource)
        if me in self.people:
            self.notes["Patients that are there twice (the last was kept)"] += 1
        else:
            self.tagged += is_synthetic(resource)
        self.people[me] = Person(str(resource.get("id", "")), number, source,
                                 str(resource.get("gender") or ""), birth,
                                 {k: v for k, v in said.items() if v}, tuple(static))  # fmt: skip
        self._death(resource, me, deaths)

    def _birth(self, resource: Json) -> int:
        for part in resource.get("_birthDate", {}).get("extension", ()):
            if part.get("url") == BIRTH_TIME:
                return self._moment(part["valueDateTime"])[0]
        return self._moment(resource.get("birthDate"))[0]

    def _death(self, resource: Json, me: int, told: list[list[Json]]) -> None:
        for number, parts in enumerate(told):
            said = {part["url"]: part for part in parts}
            coding = said["code"]["valueCoding"]
            place = said.get("place", {}).get("valueInteger") if self.trusted else None
            code = self.place(("death", coding.get("system", ""), coding["code"], None), "Patient",
                               coding.get("display", ""), place)  # fmt: skip
            start, stop = (micro_of(said.get(name, {})) for name in ("time", "end"))
            text = "" if "empty" in said else said.get("text", {}).get("valueString")
            self.facts.add(me, 0, hash((me, number)) or 1, start, stop, code,
                           number_of(said.get("value", {})), text,
                           int(said["rank"]["valueInteger"]) if self.trusted else NO_RANK,
                           int(said["visit"]["valueInteger"]))  # fmt: skip
        if told:
            return
        if (day := resource.get("deceasedDateTime")) or resource.get("deceasedBoolean") is True:
            code = self.place(("death", "", "DEATH", None), "Patient", "death", None)
            self.facts.add(me, 0, hash((me, 0)) or 1, self._moment(day), NEVER, code, math.nan,
                           None)  # fmt: skip

    # -- things that are referred to --------------------------------------------------------------

    def _thing(self, resource: Json, kind: str) -> None:
        me = self._identity(resource, kind)
        concept = concept_of(resource.get("code" if kind == "Medication" else "type") or {})
        if kind == "Device":
            if not concept[1]:
                names = resource.get("deviceName") or [{}]
                concept = ("", str(names[0].get("name") or "Device"), "")
            if reference := (resource.get("patient") or {}).get("reference"):
                self.devices[me] = (self._subject(reference), concept)
        self.concepts[me] = concept

    def _referred(self, resource: Json, element: Json, kind: str) -> Concept | int:
        """Return the concept of a Medication or Device, or its hash where it is not there yet."""
        reference = element.get("reference")
        if not reference:
            return "", str(element.get("display") or kind), ""
        if reference.startswith("#"):
            for inner in resource.get("contained", ()):
                if inner.get("id") == reference[1:]:
                    return concept_of(inner.get("code" if kind == "Medication" else "type") or {})
            raise Malformed("a reference to a contained resource that is not there")
        me = hash_of(reference, kind)
        me = self.aliases.get(me, me)
        self.devices.pop(me, None)
        return self.concepts.get(me, me)

    # -- events -----------------------------------------------------------------------------------

    def _event(self, resource: Json, kind: Kind, parent: Json | None = None) -> None:
        if kind.name == "Encounter" and self._is_grouping(resource):
            return
        if self._did_not_happen(resource, kind.name):
            return
        subject = resource.get(kind.subject) or (parent or {}).get("subject")
        reference = subject.get("reference") if subject else None
        if reference is None:
            patient = _HASH_OF_NONE
        elif not reference.startswith(("Patient/", "urn:", "http")) or "/Group/" in reference:
            self.notes["resources about something other than a Patient, left out"] += 1
            return
        else:
            patient = self._subject(reference)
        extra = ours(resource) if "extension" in resource else {}
        start, stop = self._times(resource, kind.name, extra)
        me = self._identity(resource, kind.name)
        rank = rank_of(resource.get("id", "")) if self.trusted else NO_RANK
        if kind.name == "Encounter":
            encounter = me
            self.stays[me] = (patient, visit_number(resource), start[0])
        else:
            at = resource.get(kind.encounter) if kind.encounter else None
            at = at or extra.get("encounter") or (parent or {}).get("encounter")
            encounter = hash_of(at["reference"], "Encounter") if at and "reference" in at else 0
        for number, (concept, value, unit, text, level) in enumerate(
            self._readings(resource, kind, extra)
        ):
            code = self._code(kind, concept, unit, resource, extra)
            if text is not None and level and self.place_of is None:
                self.entries[code].levels.add(text)
            own = hash((me, number)) if number else me
            self.facts.add(patient, encounter, own, start, stop, code, value, text, rank)
        if kind.name == "DiagnosticReport":
            for inner in resource.get("contained", ()):
                if inner.get("resourceType") == "Observation":
                    self._event({**inner, "id": f"{resource.get('id')}#{inner.get('id')}"},
                                KINDS["Observation"], resource)  # fmt: skip

    def _did_not_happen(self, resource: Json, kind: str) -> bool:
        no = resource.get("status") in _DID_NOT or resource.get("doNotPerform") is True
        if not no and "verificationStatus" in resource:
            codings = resource["verificationStatus"].get("coding", ())
            no = any(one.get("code") in ("entered-in-error", "refuted") for one in codings)
        if no:
            self.notes[f"{kind} resources that say it did not happen, or was an error,"
                       " left out"] += 1  # fmt: skip
            return True
        return False

    def _is_grouping(self, resource: Json) -> bool:
        if "grouping" not in (ours(resource) if "extension" in resource else {}):
            return False
        me = self._identity(resource, "Encounter")
        patient = self._subject(resource["subject"]["reference"])
        start = self._moment((resource.get("period") or {}).get("start"))[0]
        self.stays[me] = (patient, visit_number(resource), start)
        return True

    def _readings(
        self, resource: Json, kind: Kind, extra: Json
    ) -> list[tuple[Concept | int, float, str | None, str | None, bool]]:
        """Return concept, number, unit, text, and whether that is a level, of each event."""
        if kind.name == "Encounter":
            concept, text = stay_of(resource, written_here=self.trusted)
            return [(concept, *self._beside(extra), text_of(extra, text), True)]
        if kind.name == "Observation":
            return self._observed(resource, extra)
        concept_: Concept | int
        if kind.name == "DeviceUseStatement":
            concept_ = self._referred(resource, resource.get("device") or {}, "Device")
        elif "medicationReference" in resource:
            concept_ = self._referred(resource, resource["medicationReference"], "Medication")
        else:
            concept_ = concept_of(resource.get(kind.code) or {})
        dose = dose_of(resource, kind.name)
        number = self._quantity(dose)[:2] if dose else self._beside(extra)
        said = resource.get("conclusion") if kind.name == "DiagnosticReport" else said_of(resource)
        return [(concept_, *number, text_of(extra, said), False)]

    def _beside(self, extra: Json) -> tuple[float, str | None]:
        """Return number and unit that stand in our extension."""
        if "valueQuantity" in extra.get("value", {}):
            return self._quantity(extra["value"]["valueQuantity"])[:2]
        return number_of(extra.get("value", {})), None

    def _observed(
        self, resource: Json, extra: Json
    ) -> list[tuple[Concept | int, float, str | None, str | None, bool]]:
        value, unit, text, level = self._value(resource)
        if "value" in extra:
            value = number_of(extra["value"])
        if text is None:
            text, level = said_of(resource), False
        parts = resource.get("component") or ()
        found: list[tuple[Concept | int, float, str | None, str | None, bool]] = []
        if not parts or text is not None or not math.isnan(value) or "empty" in extra:
            concept = concept_of(resource.get("code") or {})
            found.append((concept, value, unit, text_of(extra, text), level))
        for part in parts:
            found.append((concept_of(part.get("code") or {}), *self._value(part)))
        return found

    def _value(self, holder: Json) -> tuple[float, str | None, str | None, bool]:
        """Return number, unit (None: no quantity), text, and whether that is a level."""
        for kind in _VALUES:
            value = holder.get(f"value{kind}")
            if value is None:
                continue
            if kind == "Quantity":
                return self._quantity(value)
            if kind == "CodeableConcept":
                return math.nan, None, concept_of(value)[2] or concept_of(value)[1] or None, True
            if kind == "Boolean":
                return math.nan, None, "true" if value is True else "false", True
            if kind == "Integer":
                return finite(value), "", None, False
            if kind in ("String", "DateTime", "Time"):
                return math.nan, None, str(value), False
            self.notes[f"values that are a {kind}, left out"] += 1
        return math.nan, None, None, False

    def _quantity(self, value: Json) -> tuple[float, str | None, str | None, bool]:
        number = value.get("value")
        if value.get("system") == UCUM:
            unit = value.get("code") or value.get("unit") or ""
        else:
            unit = value.get("unit") or value.get("code") or ""
            if unit and not self.trusted:
                self.notes["quantities in a unit that is not marked as UCUM, kept as written"] += 1
        if number is None:
            return math.nan, None, None, False
        return finite(number), str(unit), value.get("comparator"), True

    def _code(
        self, kind: Kind, concept: Concept | int, unit: str | None, resource: Json, extra: Json
    ) -> int:
        if isinstance(concept, int):
            self.pending.append((len(self.facts.code), concept, kind.name, unit))
            if self.place_of is not None:
                return -1
            concept = ("", f"unknown {kind.group}", "")
        system, code, label = concept
        if not code:
            self.notes[f"{kind.name} resources without a code"] += 1
            code = kind.name
        place = extra.get("place", {}).get("valueInteger") if self.trusted and extra else None
        found = self.place((kind.group, system, code, unit), kind.name, label, place)
        if self.place_of is None:
            for category in resource.get("category", ()) if kind.name == "Observation" else ():
                for coding in category.get("coding", ()):
                    self.entries[found].categories[str(coding.get("code"))] += 1
        return found

    def place(
        self, key: tuple[str, str, str, str | None], kind: str, label: str, place: int | None
    ) -> int:
        """Return the place of a code among the entries; a new one is entered."""
        if place is not None:
            return int(place)
        found = self._places.get(key)
        if found is None:
            entry = Entry(*key, label=label)
            if self.place_of is not None:
                found = self.place_of(entry)
            else:
                found = len(self.entries)
                self.entries.append(entry)
            self._places[key] = found
        if self.place_of is None:
            entry = self.entries[found]
            entry.kinds[kind] += 1
            entry.label = entry.label or label
        return found

    # -- times and names --------------------------------------------------------------------------

    def _times(self, resource: Json, kind: str, extra: Json) -> tuple[Moment, Moment]:
        start = stop = NEVER
        for element in _STARTS[kind]:
            value = resource.get(element)
            if isinstance(value, dict):
                stop = self._moment(value.get("end"))
                start = self._moment(value.get("start"))
            elif value is not None:
                start = self._moment(value)
            if start is not NEVER or stop is not NEVER:
                break
        if kind == "Condition":
            stop = self._abated(resource, stop)
        elif kind == "MedicationRequest":
            start, stop = self._ordered(resource, start)
        for name, part in extra.items():
            if name == "end":
                stop = self._moment(part["valueDateTime"])
            elif name == "start":
                start = micro_of(part)
            elif name == "stop":
                stop = micro_of(part)
        return start, stop

    def _abated(self, resource: Json, stop: Moment) -> Moment:
        period = resource.get("abatementPeriod") or {}
        said = resource.get("abatementDateTime") or period.get("end") or period.get("start")
        return self._moment(said) if said else stop

    def _ordered(self, resource: Json, start: Moment) -> tuple[Moment, Moment]:
        first = (resource.get("dosageInstruction") or [{}])[0]
        bounds = ((first.get("timing") or {}).get("repeat") or {}).get("boundsPeriod")
        bounds = bounds or (resource.get("dispenseRequest") or {}).get("validityPeriod") or {}
        if start is NEVER:
            start = self._moment(bounds.get("start"))
        return start, self._moment(bounds.get("end"))

    def _moment(self, text: str | None) -> Moment:
        if text is None:
            return NEVER
        known = self._moments.get(text)
        if known is not None:
            return known
        try:
            when, offset, partial = parse_time(text)
        except (ValueError, TypeError, IndexError) as error:
            raise Malformed("a time that is none of FHIR's") from error
        if partial:
            self.notes["dates of a year or month alone, read as its first day"] += 1
            return when, offset
        if len(self._moments) >= MOST_MOMENTS:
            self._moments.clear()
        self._moments[text] = when, offset
        return when, offset

    def _identity(self, resource: Json, kind: str) -> int:
        id_ = resource.get("id")
        if id_ is not None and not isinstance(id_, str):
            raise Malformed("an id that is no text")
        return hash(f"{kind}/{id_}") or 1 if id_ else 0

    def _subject(self, reference: str) -> int:
        me = hash_of(reference, "Patient")
        if me not in self.seen_patients:
            self.seen_patients[me] = reference.rpartition("/")[2].removeprefix("urn:uuid:")
        return me
