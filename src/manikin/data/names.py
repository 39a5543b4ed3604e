"""What the name of a column tells of its content: keys, codes, scales, times, people.

Names only tip the balance: every judgement is made together with the cells.
"""

from __future__ import annotations

import re

__all__ = ["is_code", "is_key", "is_key_ending", "is_person", "is_scale", "is_time"]

_KEY = re.compile(
    r"id|pid|ptid|uid|uuid|guid|mrn|ssn|usubjid|subjid|subject|patient|participant|rowid|rownames"
    r"|unnamed:? ?\d+|medical record number|nhs[ _.]*(no|number)"
    r"|(patient|person|subject|participant|encounter|visit|admission|hadm|stay|icustay|record|row"
    r"|member|beneficiary|case|client)[ _.]*(id|key|identifier)"
    r"|(patient|person|subject|participant|member|beneficiary|client)[ _.]*"
    r"(no|nr|nbr|num|number|code)"
    r"|(encounter|admission|record|row|case)[ _.]*(nbr|num|number)",
    re.IGNORECASE,
)
# itemid is a key; covid, steroid, lipid, fluid, acid, valid, rapid, carotid, paid are none
_NO_KEY = "".join(f"(?<!{start})" for start in "cov o lip flu ac val rap carot pa sol".split())
_KEY_ENDING = re.compile(
    r"(?:^|[ _.])(id|key|uid|mrn|barcode|accession|ssn|identifier)$|(?-i:[a-z]I[dD]$)"
    rf"|[a-z]{{2,}}{_NO_KEY}id$",
    re.IGNORECASE,
)
_NUMBER_ENDING = re.compile(
    r"(?:^|[ _.])(nr|nbr|no|num|number|phone|telephone|mobile|fax|account)$", re.IGNORECASE
)
_CODE = re.compile(
    r"(?:^|[ _.])(code|codes|icd|icd9|icd10|diag|dx|drg|cpt|atc|loinc|snomed|ndc|zip|postcode"
    r"|zipcode|type|source|disposition|category|group|site|center|centre|inst|institution|ward"
    r"|unit|region|race|ethnicity|ethnic|sex|gender|status|event|outcome|cause|arm|treatment|treat"
    r"|trt|rx|drug)(?:[ _.]?\d+)?(?:$|[ _.](?:id|code)$)",
    re.IGNORECASE,
)
_SCALE = re.compile(
    r"ecog|stage|grade|score|class|nyha|\basa\b|level|rank|scale|severity", re.IGNORECASE
)
_TIME = re.compile(r"time|day|week|month|year|hour|date|age|visit|tte|duration|period", re.I)
_PERSON = re.compile(
    r"(?:^|[ _.])(?:(?:first|last|family|given|middle|maiden|full|patient|doctor|physician)"
    r"[ _.]*name|surname|forename|firstname|lastname|street|address|e[ _.-]?mail"
    r"|phone|telephone|mobile)(?:$|[ _.])",
    re.IGNORECASE,
)


def is_key(name: str) -> bool:
    """Return whether a name says that the column tells persons, encounters or rows apart."""
    return _KEY.fullmatch(name.strip()) is not None


def is_key_ending(name: str, *, numbers: bool = False) -> bool:
    """Return whether a name ends as keys do: provider_id, itemid; or `numbers`: lab_no."""
    ending = _KEY_ENDING.search(name.strip()) is not None
    return ending or (numbers and _NUMBER_ENDING.search(name.strip()) is not None)


def is_code(name: str) -> bool:
    """Return whether a name says that the cells are codes of a vocabulary, even if numbers."""
    return _CODE.search(name.strip()) is not None or is_key_ending(name)


def is_scale(name: str) -> bool:
    """Return whether a name says that the numbers are steps of a scale."""
    return _SCALE.search(name) is not None


def is_time(name: str) -> bool:
    """Return whether a name speaks of time, so that even steps are no row numbers."""
    return _TIME.search(name) is not None


def is_person(name: str) -> bool:
    """Return whether a name says that the cells name or locate people."""
    return _PERSON.search(name.strip()) is not None
