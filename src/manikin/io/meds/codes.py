"""How the codes and static facts of histories are written in MEDS, and what is read as which.

A static fact becomes a row without a time whose code is COLUMN//level (or COLUMN with a number or
a text), as the common converters write it: GENDER//F, RACE//Asian. The date of birth is a row
MEDS_BIRTH at that time, a death a row MEDS_DEATH (MEDS 0.4, `birth_code` and `death_code`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from manikin.data.codes import Code, EventSchema

__all__ = ["BIRTH", "DEATH", "MARK", "MISSING", "STATIC", "Plan", "plan_of"]

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
STATIC, MISSING = "static", "missing"  # what `domain` says of rows that are no events
MARK = "MANIKIN//SUBJECT"  # a subject of whom nothing is known
_CODES: dict[str, Any] = {
    "code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String),
    "unit": pl.String, "domain": pl.String, "place": pl.Int32, "name": pl.String,
    "numeric": pl.Boolean, "minimum": pl.Float64, "maximum": pl.Float64, "decimals": pl.Int32,
    "levels": pl.List(pl.String), "concept": pl.Int64,
}  # fmt: skip
_FACTS: dict[str, Any] = {
    "code": pl.String, "domain": pl.String, "column": pl.Int32, "what": pl.String,
    "level": pl.Int32,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How rows of MEDS stand for histories of one schema."""

    schema: EventSchema
    codes: pl.DataFrame  # codes.parquet; `place` is that in the schema, null for static facts
    facts: pl.DataFrame  # code and domain of a row → column of the static table, what, level

    @property
    def names(self) -> pl.Series:
        """How each code of the schema is written, (codes,)."""
        return self.codes.filter(pl.col("place").is_not_null()).sort("place")["code"]


def plan_of(schema: EventSchema, facts: Mapping[str, Any] | None = None) -> Plan:
    """Plan how histories of a schema are written; `facts` tells how a source wrote columns.

    It gives, for the name of a column, its prefix and what stands between it and a level.
    """
    rows = [_event_row(code, i, name) for i, (code, name) in enumerate(_written(schema))]
    told = _facts(schema, facts or {})
    codes = dict.fromkeys((row["code"], row["domain"]) for row in told)
    rows += [_fact_row(code, domain) for code, domain in codes]
    return Plan(
        schema, pl.DataFrame(rows, schema=_CODES, orient="row"), pl.DataFrame(told, schema=_FACTS)
    )


def _written(schema: EventSchema) -> list[tuple[Code, str]]:
    """Pair every code with its name in MEDS; deaths bear the name that the standard gives them."""
    deaths = [schema.codes[place] for place in schema.of("death")]
    plain = any(code.name == DEATH for code in deaths)
    names = {}
    for i, code in enumerate(deaths):
        bare = code.name == DEATH or (not plain and i == 0)
        names[code.key] = DEATH if bare else f"{DEATH}//{code.name}"
    return [(code, names.get(code.key, code.name)) for code in schema.codes]


def _event_row(code: Code, place: int, written: str) -> dict[str, Any]:
    return {
        "code": written, "description": code.label or None, "parent_codes": list(code.parents),
        "unit": code.unit, "domain": code.domain, "place": place, "name": code.name,
        "numeric": code.numeric, "minimum": code.minimum, "maximum": code.maximum,
        "decimals": code.decimals, "levels": list(code.levels), "concept": code.concept,
    }  # fmt: skip


def _fact_row(code: str, domain: str) -> dict[str, Any]:
    return {"code": code, "unit": "", "domain": domain, "parent_codes": [], "levels": []}


def _facts(schema: EventSchema, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say how each static column, its levels and its ways of having no value are written."""
    rows: list[dict[str, Any]] = [_fact(MARK, STATIC, None, "mark", -1)]
    prefixes = _prefixes(schema, given)
    for i, column in enumerate(schema.static):
        if not column.is_learned:
            continue
        prefix = prefixes[column.name]
        between = str(given.get(column.name, {}).get("separator", "//"))
        if column.name == schema.birth and column.kind == "datetime":
            rows.append(_fact(prefix, STATIC, i, "birth", -1))
        elif column.is_coded and given.get(column.name, {}).get("text"):
            rows.append(_fact(prefix, STATIC, i, "text", -1))
        elif column.is_coded:
            rows += [
                _fact(f"{prefix}{between}{level}", STATIC, i, "level", j)
                for j, level in enumerate(column.categories)
            ]
        else:
            what = "moment" if column.kind == "datetime" else "number"
            rows.append(_fact(prefix, STATIC, i, what, -1))
        rows += [
            _fact(f"{prefix}//{token}", MISSING, i, "token", k)
            for k, token in enumerate(column.tokens, start=1)
            if k > 1  # the first one is what a cell reads of which nothing is said
        ]
    return rows


def _fact(code: str, domain: str, column: int | None, what: str, level: int) -> dict[str, Any]:
    return {"code": code, "domain": domain, "column": column, "what": what, "level": level}


def _prefixes(schema: EventSchema, given: Mapping[str, Any]) -> dict[str, str]:
    """Name the code of each column: the source's own, or its name in capitals, each once."""
    taken = {MARK.partition("/")[0], BIRTH, DEATH}
    found: dict[str, str] = {}
    for column in schema.static:
        if isinstance(own := given.get(column.name, {}).get("prefix"), str):
            found[column.name] = own
            taken.add(own)
    for column in schema.static:
        if column.name in found:
            continue
        if column.name == schema.birth and column.kind == "datetime":
            found[column.name] = BIRTH
            continue
        plain = "GENDER" if column.name == schema.sex else column.name.upper().replace("/", "_")
        name, k = plain, 2
        while name in taken:
            name, k = f"{plain}_{k}", k + 1
        taken.add(name)
        found[column.name] = name
    return found
