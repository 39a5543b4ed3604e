"""Where OMOP CDM 5.4 keeps each part of an event, and the few concepts that are written by number.

OHDSI, OMOP CDM v5.4; Themis conventions for concepts that a site makes itself (numbers from two
thousand million on, in the fields of source concepts). Numbers below are of vocabularies that
anybody may hand on: OMOP's own (Gender, Visit, type concepts), the census's, and UCUM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manikin.data.codes import Domain

__all__ = [
    "CODE_LIKE",
    "DEATH",
    "EHR",
    "FREE",
    "KINDS",
    "KNOWN",
    "LOCAL",
    "OWN",
    "PERIOD_END",
    "PERIOD_START",
    "STATIC",
    "UNITS",
    "Dangling",
    "Kind",
]

Dangling = Literal["refuse", "keep"]

DEATH = "DEATH"  # name of the code of DEATH rows; the cause is the event's text
PERIOD_START, PERIOD_END = "OBSERVATION_PERIOD/start", "OBSERVATION_PERIOD/end"
LOCAL = 2_000_000_000  # concepts that a site makes itself are numbered from here on
EHR = 32817  # type concept "EHR"
OWN = ("manikin_schema", "manikin_person", "manikin_visit", "manikin_extra")

# A code is short and without blanks, and an identifier of one person or stay is none.
CODE_LIKE = r"^[A-Za-z0-9][A-Za-z0-9._/:+-]{0,19}$"

# vocabularies whose names may be handed on by anybody
FREE = frozenset(
    "LOINC RxNorm RxNorm_Extension CVX NDC ICD9CM ICD9Proc ICD10CM ICD10PCS HCPCS UCUM Gender Race "
    "Ethnicity Visit Type_Concept CMS_Place_of_Service DRG MDC OMOP".split()
)


@dataclass(frozen=True)
class Kind:
    """A table of events: the fields in which the parts of an event stand, "" for none."""

    table: str
    domain: Domain
    key: str
    stem: str  # of the fields of its concept: stem_concept_id, stem_source_value, …
    start: str  # stem of start_date and start_datetime
    end: str = ""
    value: str = ""
    text: str = ""
    longest: int = 0  # characters that the text may have, 0 for any number
    unit: str = ""
    answers: bool = False  # whether it has value_as_concept_id and unit_concept_id
    type: str = ""

    @property
    def concept(self) -> str:
        """Field of the standard concept."""
        return f"{self.stem}_concept_id"

    @property
    def source(self) -> str:
        """Field of the source's own concept."""
        return f"{self.stem}_source_concept_id"

    @property
    def spelled(self) -> str:
        """Field of the source's own spelling."""
        return f"{self.stem}_source_value"


KINDS = (
    Kind("visit_occurrence", "visit", "visit_occurrence_id", "visit", "visit_start", "visit_end",
         type="visit_type_concept_id"),
    Kind("visit_detail", "visit", "visit_detail_id", "visit_detail", "visit_detail_start",
         "visit_detail_end", type="visit_detail_type_concept_id"),
    Kind("condition_occurrence", "condition", "condition_occurrence_id", "condition",
         "condition_start", "condition_end", type="condition_type_concept_id"),
    Kind("drug_exposure", "drug", "drug_exposure_id", "drug", "drug_exposure_start",
         "drug_exposure_end", "quantity", unit="dose_unit_source_value",
         type="drug_type_concept_id"),
    Kind("procedure_occurrence", "procedure", "procedure_occurrence_id", "procedure", "procedure",
         "procedure_end", type="procedure_type_concept_id"),
    Kind("measurement", "measurement", "measurement_id", "measurement", "measurement", "",
         "value_as_number", "value_source_value", 50, "unit_source_value", True,
         "measurement_type_concept_id"),
    Kind("observation", "observation", "observation_id", "observation", "observation", "",
         "value_as_number", "value_as_string", 60, "unit_source_value", True,
         "observation_type_concept_id"),
    Kind("device_exposure", "device", "device_exposure_id", "device", "device_exposure_start",
         "device_exposure_end", unit="unit_source_value", type="device_type_concept_id"),
    Kind("death", "death", "", "cause", "death", text="cause_source_value", longest=50,
         type="death_type_concept_id"),
)  # fmt: skip

# static column → concept → how the level is written
STATIC: dict[str, dict[int, str]] = {
    "gender": {8507: "male", 8532: "female", 8521: "other", 8551: "unknown"},
    "race": {
        8527: "White",
        8516: "Black or African American",
        8515: "Asian",
        8657: "American Indian or Alaska Native",
        8557: "Native Hawaiian or Other Pacific Islander",
        8522: "Other Race",
    },
    "ethnicity": {38003563: "Hispanic or Latino", 38003564: "Not Hispanic or Latino"},
}

# other spellings of the levels above, in lower case
KNOWN: dict[str, int] = {
    **{name.lower(): number for levels in STATIC.values() for number, name in levels.items()},
    **{"m": 8507, "f": 8532, "man": 8507, "woman": 8532, "u": 8551, "o": 8521},
    **{"black": 8516, "native": 8657, "hawaiian": 8557, "hispanic": 38003563},
    **{"nonhispanic": 38003564, "not hispanic": 38003564, "non-hispanic": 38003564},
    # codes of the vocabulary Visit
    **{"visit/ip": 9201, "visit/op": 9202, "visit/er": 9203, "visit/erip": 262},
    **{"visit/ltcp": 42898160},
}

UNITS: dict[str, int] = {  # UCUM, and how laboratories write the same
    "%": 8554, "mg/dL": 8840, "mmol/L": 8753, "umol/L": 8749, "nmol/L": 8736, "mg/L": 8751,
    "ug/L": 8748, "g/dL": 8713, "g/L": 8636, "ng/mL": 8842, "ng/dL": 8817, "pg/mL": 8845,
    "ug/dL": 8837, "ug/mL": 8859, "mg/mL": 8861, "[U]/L": 8645, "U/L": 8645, "[U]/mL": 8763,
    "[iU]/L": 8923, "[iU]/mL": 8985, "10*3/uL": 8848, "10*6/uL": 8815, "10*9/L": 9444,
    "10*12/L": 8734, "/uL": 8647, "{cells}/uL": 8784, "fL": 8583, "pg": 8564, "mm[Hg]": 8876,
    "/min": 8541, "Cel": 586323, "[degF]": 9289, "kg": 9529, "g": 8504, "mg": 8576, "ug": 9655,
    "cm": 8582, "m": 9546, "mm": 8588, "kg/m2": 9531, "L": 8519, "mL": 8587, "mL/min": 8795,
    "mm/h": 8752, "s": 8555, "min": 8550, "h": 8505, "d": 8512, "wk": 8511, "mo": 9580,
    "a": 9448, "mmol": 9573, "{ratio}": 8523, "mosm/kg": 8862, "[lb_us]": 8739, "[in_us]": 9330,
}  # fmt: skip
