"""The concepts that a CDM is written with: numbers of codes, and rows of the vocabulary tables.

OMOP CDM v5.4, tables CONCEPT, VOCABULARY, DOMAIN, CONCEPT_CLASS, CONCEPT_ANCESTOR. Only what
occurs is written. Names stand in it if their vocabulary lets anybody hand them on; all others have
their code for a name, and what is above them is told only in data that are not synthetic: those
are the user's own, whose licence covers it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.codes import Code, EventSchema
from manikin.io.omop.tables import EHR, FREE, KNOWN, LOCAL, STATIC, UNITS

__all__ = ["code_rows", "identities", "level_number", "shareable", "vocabulary_rows"]

LONGEST = 50  # characters of a source value and of a concept's code
_DOMAINS = {
    "visit": "Visit", "condition": "Condition", "drug": "Drug", "procedure": "Procedure",
    "measurement": "Measurement", "observation": "Observation", "device": "Device",
    "death": "Observation",
}  # fmt: skip
_REFERENCES = {
    "LOINC": "This material contains content from LOINC (loinc.org), copyright Regenstrief "
    "Institute, Inc. and the LOINC Committee, at no cost under loinc.org/license.",
    "RxNorm": "U.S. National Library of Medicine, RxNorm",
    "UCUM": "Unified Code for Units of Measure, Regenstrief Institute",
}
_VALID = (datetime.date(1970, 1, 1), datetime.date(2099, 12, 31))


def identities(schema: EventSchema) -> NDArray[np.int64]:
    """Return the number by which rows name each code: its concept where no other code has it."""
    shared = Counter(code.concept for code in schema.codes)
    return np.array(
        [
            code.concept if 0 < code.concept < LOCAL and shared[code.concept] == 1 else LOCAL + i
            for i, code in enumerate(schema.codes)
        ],
        np.int64,
    )


def shareable(schema: EventSchema, synthetic: bool) -> EventSchema:
    """Return the schema without the labels that may not be handed on; its own data keep them."""
    if not synthetic:
        return schema
    codes = tuple(
        code if _is_free(code.vocabulary) else dataclasses.replace(code, label="")
        for code in schema.codes
    )
    return dataclasses.replace(schema, codes=codes)


def level_number(level: str, layout: Mapping[str, int]) -> int:
    """Return the concept of a level of sex, race or ethnicity, 0 for none."""
    return layout.get(level, 0) or KNOWN.get(level.strip().lower(), 0)


def code_rows(schema: EventSchema, units: Mapping[str, int]) -> pl.DataFrame:
    """Return what a row of each code is written with."""
    return pl.DataFrame(
        {
            "place": np.arange(len(schema), dtype=np.int32),
            "identity": identities(schema),
            "concept": np.array([_standard(code) for code in schema.codes], np.int64),
            "spelled": [code.name[:LONGEST] for code in schema.codes],
            "unit": [code.unit[:LONGEST] or None for code in schema.codes],
            "unit_concept": [
                units.get(code.unit, UNITS.get(code.unit, 0)) if code.unit else None
                for code in schema.codes
            ],
        },
        schema_overrides={"unit": pl.String, "unit_concept": pl.Int64, "spelled": pl.String},
    )


def vocabulary_rows(
    schema: EventSchema, layout: Mapping[str, Any], synthetic: bool
) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each vocabulary table."""
    unmatched = "No matching concept"
    concepts: dict[int, tuple[Any, ...]] = {
        0: (0, unmatched, "Metadata", "None", "Undefined", None, unmatched)
    }
    for number, code in zip(identities(schema).tolist(), schema.codes, strict=True):
        for held in {number, _standard(code)} - {0}:
            concepts[held] = _concept(code, held)
    for code in schema.codes:
        number = layout["units"].get(code.unit, UNITS.get(code.unit, 0)) if code.unit else 0
        if number:
            concepts[number] = (number, code.unit, "Unit", "UCUM", "Unit", "S", code.unit)
    for name, number in layout["answers"].items():
        vocabulary, _, written = name.partition("/")
        concepts.setdefault(number, (number, written[:LONGEST], "Meas Value", vocabulary[:20],
                                     "Undefined", "S", written[:LONGEST]))  # fmt: skip
    for stem, levels in STATIC.items():
        for number, name in levels.items():
            concepts[number] = (number, name, stem.title(), stem.title(), stem.title(), "S", name)
    concepts[EHR] = (EHR, "EHR", "Type Concept", "Type Concept", "Type Concept", "S", "EHR")
    rows = [concepts[number] for number in sorted(concepts)]
    version = str(layout["vocabulary_version"]) or None
    return {
        "concept": [(*row, *_VALID, None) for row in rows],
        "vocabulary": [
            (name, name, _REFERENCES.get(name), version if name != "Manikin" else None, 0)
            for name in sorted({row[3] for row in rows})
        ],
        "domain": [(name, name, 0) for name in sorted({row[2] for row in rows})],
        "concept_class": [(name, name, 0) for name in sorted({row[4] for row in rows})],
        "concept_ancestor": _ancestors(schema, synthetic),
    }


def _is_free(vocabulary: str) -> bool:
    return not vocabulary or vocabulary.replace(" ", "_") in FREE


def _standard(code: Code) -> int:
    """Return the concept of a code, 0 where none is known."""
    if 0 < code.concept < LOCAL:
        return code.concept
    return KNOWN.get(code.name.lower(), 0) if code.domain == "visit" else 0


def _concept(code: Code, number: int) -> tuple[Any, ...]:
    vocabulary = code.vocabulary or "Manikin"
    written = code.name.partition("/")[2] if code.vocabulary else code.name
    named = code.label if code.label and _is_free(code.vocabulary) else written
    standard = "S" if number < LOCAL else None
    return (number, named[:255] or "?", _DOMAINS[code.domain], vocabulary[:20], "Undefined",
            standard, written[:LONGEST] or "?")  # fmt: skip


def _ancestors(schema: EventSchema, synthetic: bool) -> list[tuple[int, int, int, int]]:
    """Return each code as its own ancestor, and the codes above it that occur themselves."""
    standard = [_standard(code) for code in schema.codes]
    own = identities(schema).tolist()
    number: dict[str, int] = {}
    for code, concept, local in zip(schema.codes, standard, own, strict=True):
        number.setdefault(code.name, concept or local)
    above: dict[str, Sequence[str]] = {
        code.name: code.parents
        for code in schema.codes
        if code.parents and (not synthetic or _is_free(code.vocabulary))
    }
    rows: set[tuple[int, int, int, int]] = {(n, n, 0, 0) for n in {*standard, *own} if n}
    for name, at in number.items():
        # the shortest way is found first; the longest is the last round that reaches it
        spans: dict[str, list[int]] = {}
        level, front = 0, {name}
        while front and level < 64:
            level += 1
            front = {parent for child in front for parent in above.get(child, ())}
            for parent in front:
                spans.setdefault(parent, [level, level])[1] = level
        rows |= {(number[p], at, span[0], span[1]) for p, span in spans.items()
                 if p in number and p != name}  # fmt: skip
    return sorted(rows)
