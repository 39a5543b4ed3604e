"""What SDTM says of its domains: classes, qualifiers, names, labels and order.

SDTM 2.0 and Implementation Guide 3.4: §2.2.1-2.2.3 (observation classes), §2.6 (order of
variables), §4.1 (names of at most 8 characters, labels of at most 40).
"""

from __future__ import annotations

import re
from typing import Literal

from manikin.data.codes import Domain

__all__ = [
    "DOMAIN_LABELS",
    "FINDINGS",
    "KNOWN",
    "SET_ASIDE",
    "TOLD",
    "Shape",
    "domain_of",
    "label_of",
    "order_of",
    "shape_of",
    "telling",
    "unescape",
]

Shape = Literal["findings", "events", "interventions", "demographics", "visits", "aside"]

FINDINGS: dict[str, Domain] = {
    "VS": "measurement", "LB": "measurement", "EG": "measurement", "PC": "measurement",
    "PP": "measurement", "CV": "measurement", "RE": "measurement", "MB": "measurement",
    "IS": "measurement", "DA": "drug", "TR": "measurement", "OE": "measurement",
    "NV": "measurement", "MK": "measurement", "MI": "measurement", "UR": "measurement",
}  # fmt: skip
_EVENTS: dict[str, Domain] = {"AE": "condition", "MH": "condition", "CE": "condition",
                              "DS": "observation", "DV": "observation", "HO": "observation",
                              "BE": "observation"}  # fmt: skip
_INTERVENTIONS: dict[str, Domain] = {"PR": "procedure", "SU": "observation", "ML": "observation"}

KNOWN: dict[str, Shape] = {
    **dict.fromkeys((*FINDINGS, "QS", "SC", "FT", "FA", "PE", "SS", "RS", "TU"), "findings"),
    **dict.fromkeys(_EVENTS, "events"),
    **dict.fromkeys(("EX", "EC", "CM", *_INTERVENTIONS), "interventions"),
}  # fmt: skip

# by which rows of one test at one visit may differ, in the order in which they are tried
TOLD = ("POS", "TPT", "LOC", "LAT", "SPEC", "METHOD", "CAT", "SCAT", "DIR", "OBJ", "EVALID")

# qualifiers that hold of a code and not of a row, and are written back with it
_OF_CODE: dict[Shape, tuple[str, ...]] = {
    "findings": ("TEST", *TOLD, "TPTNUM", "ELTM", "TPTREF", "LOINC", "ANTREG", "LEAD"),
    "events": ("LLT", "LLTCD", "PTCD", "HLT", "HLTCD", "HLGT", "HLGTCD", "BODSYS", "BDSYCD",
               "SOC", "SOCCD", "CAT", "SCAT"),
    "interventions": ("CAT", "SCAT", "CLAS", "CLASCD", "DOSFRM", "ROUTE"),
}  # fmt: skip
SET_ASIDE = ("TA", "TE", "TI", "TV", "TS", "TM", "SE", "CO", "RELREC", "RELSUB", "RELSPEC", "OI")

DOMAIN_LABELS = {
    "TS": "Trial Summary", "DM": "Demographics", "SUPPDM": "Supplemental Qualifiers for DM",
    "SV": "Subject Visits", "AE": "Adverse Events", "CE": "Clinical Events",
    "CM": "Concomitant/Prior Medications", "DA": "Product Accountability", "DS": "Disposition",
    "EG": "ECG Test Results", "EX": "Exposure", "HO": "Healthcare Encounters",
    "LB": "Laboratory Test Results", "MH": "Medical History",
    "PC": "Pharmacokinetics Concentrations", "PR": "Procedures", "QS": "Questionnaires",
    "SC": "Subject Characteristics",
    "SU": "Substance Use", "VS": "Vital Signs", "XO": "Other Observations",
    "XD": "Devices in Use",
}  # fmt: skip

_LABELS = {  # of variables of any domain: the part after the domain's two letters
    "SEQ": "Sequence Number", "TESTCD": "Short Name of Measurement, Test or Exam",
    "TEST": "Name of Measurement, Test or Examination", "CAT": "Category", "SCAT": "Subcategory",
    "POS": "Position of Subject During Observation", "ORRES": "Result or Finding in Original Units",
    "ORRESU": "Original Units", "STRESC": "Character Result/Finding in Std Format",
    "STRESN": "Numeric Result/Finding in Standard Units", "STRESU": "Standard Units",
    "LOC": "Location Used for the Measurement", "SPEC": "Specimen Type",
    "METHOD": "Method of Test or Examination", "LOINC": "LOINC Code",
    "DTC": "Date/Time of Collection", "ENDTC": "End Date/Time", "STDTC": "Start Date/Time",
    "DY": "Study Day of Collection", "STDY": "Study Day of Start", "ENDY": "Study Day of End",
    "TPT": "Planned Time Point Name", "TPTNUM": "Planned Time Point Number",
    "TERM": "Reported Term", "DECOD": "Standardized Term", "LLT": "Lowest Level Term",
    "HLT": "High Level Term", "HLGT": "High Level Group Term",
    "BODSYS": "Body System or Organ Class", "SOC": "Primary System Organ Class",
    "SEV": "Severity/Intensity", "SER": "Serious Event", "TRT": "Name of Treatment",
    "CLAS": "Class of Treatment", "DOSE": "Dose per Administration", "DOSU": "Dose Units",
    "DOSFRM": "Dose Form", "DOSFRQ": "Dosing Frequency per Interval",
    "ROUTE": "Route of Administration",
}  # fmt: skip
_NAMED = {
    "STUDYID": "Study Identifier", "DOMAIN": "Domain Abbreviation",
    "RDOMAIN": "Related Domain Abbreviation", "USUBJID": "Unique Subject Identifier",
    "SUBJID": "Subject Identifier for the Study", "SITEID": "Study Site Identifier",
    "RFSTDTC": "Subject Reference Start Date/Time", "RFENDTC": "Subject Reference End Date/Time",
    "RFXSTDTC": "Date/Time of First Study Treatment",
    "RFXENDTC": "Date/Time of Last Study Treatment",
    "RFPENDTC": "Date/Time of End of Participation", "DTHDTC": "Date/Time of Death",
    "DTHFL": "Subject Death Flag", "BRTHDTC": "Date/Time of Birth", "AGE": "Age",
    "AGEU": "Age Units", "SEX": "Sex", "RACE": "Race", "ETHNIC": "Ethnicity",
    "ARMCD": "Planned Arm Code", "ARM": "Description of Planned Arm",
    "ACTARMCD": "Actual Arm Code", "ACTARM": "Description of Actual Arm", "COUNTRY": "Country",
    "VISITNUM": "Visit Number", "VISIT": "Visit Name",
    "VISITDY": "Planned Study Day of Visit", "TSSEQ": "Sequence Number",
    "TSPARMCD": "Trial Summary Parameter Short Name", "TSPARM": "Trial Summary Parameter",
    "TSVAL": "Parameter Value", "IDVAR": "Identifying Variable",
    "IDVARVAL": "Identifying Variable Value", "QNAM": "Qualifier Variable Name",
    "QLABEL": "Qualifier Variable Label", "QVAL": "Data Value", "QORIG": "Origin",
}  # fmt: skip
_ORDER = (
    "STUDYID", "DOMAIN", "RDOMAIN", "USUBJID", "SUBJID", "IDVAR", "IDVARVAL", "QNAM", "QLABEL",
    "QVAL", "QORIG", "TSSEQ", "TSPARMCD", "TSPARM", "TSVAL",
    "RFSTDTC", "RFENDTC", "RFXSTDTC", "RFXENDTC",
    "RFPENDTC", "DTHDTC", "DTHFL", "SITEID", "BRTHDTC", "AGE", "AGEU", "SEX", "RACE", "ETHNIC",
    "ARMCD", "ARM", "ACTARMCD", "ACTARM", "COUNTRY", "--SEQ", "--TESTCD", "--TEST", "--TRT",
    "--TERM", "--LLT", "--LLTCD", "--DECOD", "--PTCD", "--HLT", "--HLTCD", "--HLGT", "--HLGTCD",
    "--CAT", "--SCAT", "--BODSYS", "--BDSYCD", "--SOC", "--SOCCD", "--POS", "--ORRES", "--ORRESU",
    "--STRESC", "--STRESN", "--STRESU", "--CLAS", "--CLASCD", "--DOSE", "--DOSTXT", "--DOSU",
    "--DOSFRM", "--DOSFRQ", "--ROUTE", "--SPEC", "--LOC", "--LAT", "--DIR", "--METHOD", "--LEAD",
    "--LOINC", "--OBJ", "--SEV", "--SER", "VISITNUM", "VISIT", "VISITDY", "--DTC", "--STDTC",
    "--ENDTC", "--DY", "--STDY", "--ENDY", "--TPT", "--TPTNUM", "--ELTM", "--TPTREF",
)  # fmt: skip
_PLACE = {name: i for i, name in enumerate(_ORDER)}


def shape_of(domain: str, columns: list[str]) -> Shape:
    """Return how a domain is laid out, told by its topic variable."""
    if domain in ("DM", "SV"):
        return "demographics" if domain == "DM" else "visits"
    if domain in SET_ASIDE or domain.startswith("SUPP"):
        return "aside"
    topics: tuple[tuple[str, Shape], ...] = (
        ("TESTCD", "findings"), ("TRT", "interventions"), ("TERM", "events"),
    )  # fmt: skip
    return next((shape for topic, shape in topics if domain + topic in columns), "aside")


def domain_of(domain: str, shape: Shape) -> Domain:
    """Return what the codes of a domain are."""
    if shape == "findings":
        return FINDINGS.get(domain, "observation")
    if shape == "interventions":
        return _INTERVENTIONS.get(domain, "drug")
    return _EVENTS.get(domain, "observation")


def telling(domain: str, shape: Shape, columns: list[str]) -> tuple[str, ...]:
    """Return the variables of a domain that may hold of a code rather than of a row."""
    names = (domain + part for part in _OF_CODE.get(shape, ()))
    return tuple(name for name in names if name in columns)


def label_of(variable: str) -> str:
    """Return the label of a variable, at most 40 characters."""
    known = _NAMED.get(variable) or _LABELS.get(variable[2:])
    return known or variable


def order_of(variable: str) -> tuple[int, str]:
    """Return by what variables of a domain are sorted: the order of SDTM, then the name."""
    place = _PLACE.get(variable, _PLACE.get("--" + variable[2:], len(_ORDER)))
    return place, variable


def unescape(part: str) -> str:
    """Return a part of a code's name as it was before slashes in it were escaped."""
    return re.sub("%2F", "/", part).replace("%25", "%")
