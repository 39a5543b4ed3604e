"""How codes and units stand in FHIR: systems of codings, kinds of resource, quantities.

HL7 FHIR R4 (4.0.1): https://hl7.org/fhir/R4/terminologies-systems.html for the systems,
datatypes.html#code and #Quantity for what may stand in them. UCUM 2.1, §2.1-2.2, for the grammar
of units, of which products, quotients, prefixes, powers and annotations are known here.

A vocabulary's name and its system are one another's image: the names that OMOP gives for known
systems, the percent-encoded URI for others ("http:%2F%2Flab.example%2Ftests/GLU"), and a URN for
a vocabulary that has no URI. So nothing is lost on either way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from manikin.data.codes import Code

__all__ = ["KINDS", "SYNTHETIC", "URN", "VITAL", "Kind", "coding_of", "group_of",
           "is_known", "is_ucum", "key_of", "kind_of", "name_of", "quantity_unit"]  # fmt: skip

URN = "urn:manikin:fhir:"  # what is ours alone stands under this
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"

SYNTHETIC = (  # the tags of a resource that is of nobody
    {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST",
     "display": "test health data"},
    {"system": f"{URN}tag", "code": "synthetic", "display": "synthetic patient"},
)  # fmt: skip

SYSTEMS = {  # as OMOP calls the vocabulary → its system
    "LOINC": "http://loinc.org",
    "SNOMED": "http://snomed.info/sct",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD9CM": "http://hl7.org/fhir/sid/icd-9-cm",
    "ICD10PCS": "http://www.cms.gov/Medicare/Coding/ICD10",
    "ICD10GM": "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
    "ICDO3": "http://terminology.hl7.org/CodeSystem/icd-o-3",
    "OPS": "http://fhir.de/CodeSystem/bfarm/ops",
    "ATC": "http://www.whocc.no/atc",
    "NDC": "http://hl7.org/fhir/sid/ndc",
    "CVX": "http://hl7.org/fhir/sid/cvx",
    "CPT4": "http://www.ama-assn.org/go/cpt",
    "HCPCS": "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
    "UNII": "http://fdasis.nlm.nih.gov",
    "UCUM": UCUM,
    "ActCode": ACT_CODE,
    "NullFlavor": NULL_FLAVOR,
}
_VOCABULARIES = {system: name for name, system in SYSTEMS.items()}
_FOLDED = {name.lower(): system for name, system in SYSTEMS.items()} | {
    "snomedct": SYSTEMS["SNOMED"], "icd10who": SYSTEMS["ICD10"], "cpt": SYSTEMS["CPT4"],
}  # fmt: skip
_CODE = re.compile(r"\S+(?:\s\S+)*")

# the codes that the vital-signs profile of FHIR R4 requires (observation-vitalsigns.html)
VITAL = frozenset({"85353-1", "9279-1", "8867-4", "2708-6", "8310-5", "8302-2", "9843-4",
                   "29463-7", "39156-5", "85354-9", "8480-6", "8462-4", "59408-5"})  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of resource that holds an event, and where its parts stand."""

    name: str
    group: str  # domain, where measurements count as observations
    code: str  # element of the code
    subject: str = "subject"
    encounter: str = "encounter"  # "" where the kind has none
    instant: str = ""  # element of a moment
    period: str = ""  # element of a span, "" where the kind has none
    note: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        Kind("Encounter", "visit", "type", encounter="partOf", period="period", note=False),
        Kind("Condition", "condition", "code", instant="onsetDateTime"),
        Kind("MedicationRequest", "drug", "medicationCodeableConcept", instant="authoredOn"),
        Kind("MedicationAdministration", "drug", "medicationCodeableConcept", encounter="context",
             instant="effectiveDateTime", period="effectivePeriod"),
        Kind("MedicationStatement", "drug", "medicationCodeableConcept", encounter="context",
             instant="effectiveDateTime", period="effectivePeriod"),
        Kind("Immunization", "drug", "vaccineCode", "patient", instant="occurrenceDateTime"),
        Kind("Procedure", "procedure", "code", instant="performedDateTime",
             period="performedPeriod"),
        Kind("Observation", "observation", "code", instant="effectiveDateTime",
             period="effectivePeriod"),
        Kind("DiagnosticReport", "observation", "code", instant="effectiveDateTime",
             period="effectivePeriod", note=False),
        Kind("AllergyIntolerance", "observation", "code", "patient", instant="onsetDateTime"),
        Kind("DeviceUseStatement", "device", "", encounter="", instant="timingDateTime",
             period="timingPeriod"),
    )
}  # fmt: skip
_DEFAULT = {
    "visit": "Encounter", "condition": "Condition", "drug": "MedicationRequest",
    "procedure": "Procedure", "measurement": "Observation", "observation": "Observation",
    "device": "DeviceUseStatement", "death": "Patient",
}  # fmt: skip


def group_of(domain: str) -> str:
    """Return the domain, with measurements among the observations as they are in FHIR."""
    return "observation" if domain == "measurement" else domain


def kind_of(code: Code, kinds: Mapping[str, str]) -> str:
    """Return the kind of resource that events of a code are written as.

    `kinds` says as what each was read (see `key_of`); a kind of another domain is not believed.
    """
    known = KINDS.get(kinds.get(key_of(code), ""))
    if known is not None and known.group == group_of(code.domain):
        return known.name
    if code.domain == "drug" and code.vocabulary.lower() == "cvx":
        return "Immunization"
    return _DEFAULT[code.domain]


def key_of(code: Code) -> str:
    """Return name, unit and domain of a code as one text."""
    return "\t".join(code.key)


def coding_of(name: str) -> tuple[str, str]:
    """Return system and code of the name of a code; `name_of` leads back."""
    vocabulary, _, code = name.partition("/")
    if not vocabulary or not _CODE.fullmatch(code):
        plain = _CODE.fullmatch(name) and "%" not in name
        return f"{URN}code", name if plain else quote(name, safe="")
    known = _FOLDED.get(re.sub("[-_. ]", "", vocabulary).lower())
    if known is not None:
        return known, code
    decoded = unquote(vocabulary)
    if ":" in decoded and _as_vocabulary(decoded) == vocabulary and decoded not in _VOCABULARIES:
        return decoded, code
    return f"{URN}vocabulary:{quote(vocabulary, safe='')}", code


def name_of(system: str, code: str) -> str:
    """Return the name of a coding; one without a system is a plain name."""
    if not system:
        return code
    if system == f"{URN}code":
        return unquote(code)
    if system.startswith(f"{URN}vocabulary:"):
        return f"{unquote(system.removeprefix(f'{URN}vocabulary:'))}/{code}"
    return f"{_VOCABULARIES.get(system) or _as_vocabulary(system)}/{code}"


def is_known(system: str) -> bool:
    """Whether a system is one of those that have a name here."""
    return system in _VOCABULARIES


def _as_vocabulary(system: str) -> str:
    """Return a URI so that the first slash after it ends it."""
    return re.sub(r"[%/\s]", lambda found: quote(found[0], safe=""), system)


# -- units ----------------------------------------------------------------------------------------

_PREFIXES = "da|[YZEPTGMkhdcmunpfazy]"
_ATOMS = (
    "mol|rad|osm|min|bar|kat|cal|Ohm|bit|deg|Cel|gon|sph|Hz|Pa|Wb|lm|lx|Bq|Gy|Sv|sr|cd|eq|wk|mo|"
    "mo_j|mo_s|a_j|eV|pc|By|st|ar|Ci|Np|ppth|g%|m|s|g|K|C|N|J|W|A|V|F|S|T|H|L|l|h|d|a|t|u|U|B|G|R"
)
_NOTE = r"\{[!-z|~]*\}"
_SIMPLE = (rf"(?:(?:{_PREFIXES})?(?:{_ATOMS})(?:\[[A-Za-z0-9_']+\])?|"
           rf"(?:{_PREFIXES})?\[[!-Z\\^-~]+\]|10[*^]|%)")  # fmt: skip
_FACTOR = rf"(?:{_SIMPLE}(?:[+-]?\d{{1,3}})?(?:{_NOTE})?|{_NOTE}|[1-9]\d{{0,8}})"
_UNIT = re.compile(rf"/?{_FACTOR}(?:[./]{_FACTOR}){{0,8}}")
LONGEST_UNIT = 64


def is_ucum(unit: str) -> bool:
    """Whether a unit is written in UCUM, as far as its grammar is known here."""
    return 0 < len(unit) <= LONGEST_UNIT and _UNIT.fullmatch(unit) is not None


def quantity_unit(unit: str) -> dict[str, Any]:
    """Return the parts of a Quantity that tell its unit."""
    if not unit:
        return {}
    return {"unit": unit} | ({"system": UCUM, "code": unit} if is_ucum(unit) else {})
