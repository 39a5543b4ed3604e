"""Demographics and their supplement as one row of static facts a subject.

What follows from something else is not a fact of its own: an arm's code that its description
tells, a unit of age that all share, and the dates of DM, which events bear (the reference start and
the death) or give (first and last treatment, end of participation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.schema import TableSchema, with_roles
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.io.cdisc.dates import read_moments
from manikin.io.cdisc.rows import FEW, text_of

__all__ = ["Demographics", "demographics", "static_table"]

_KEYS = ("STUDYID", "DOMAIN", "USUBJID", "SUBJID", "DMSEQ")
_DERIVED = ("RFENDTC", "RFXSTDTC", "RFXENDTC", "RFICDTC", "RFPENDTC", "RFCSTDTC", "RFCENDTC",
            "DMDTC", "DMDY", "DTHFL", "DTHDTC", "RFSTDTC")  # fmt: skip
_PERSONS = ("INVID", "INVNAM")
_PAIRS = (("ARMCD", "ARM"), ("ACTARMCD", "ACTARM"))
_QUASI = ("SITEID", "COUNTRY", "AGE", "SEX", "RACE", "ETHNIC", "BRTHDTC")


@dataclass(frozen=True)
class Demographics:
    """The subjects of a study in the order of DM."""

    ids: pl.Series  # USUBJID
    facts: pl.DataFrame  # static columns, one row a subject
    reference: pl.Series  # Datetime[us], RFSTDTC
    death: pl.Series  # Datetime[us], DTHDTC
    notes: tuple[str, ...]
    layout: dict[str, Any]


def demographics(dm: pl.DataFrame, supplement: pl.DataFrame | None) -> Demographics:
    """Return the subjects of DM. Raises InputError when one stands there twice, or has no name."""
    ids = dm.select(text_of(dm, "USUBJID").alias("USUBJID"))["USUBJID"]
    if ids.null_count() or ids.n_unique() < len(ids):
        raise InputError(
            f"DM has {ids.null_count():,} rows without a USUBJID and"
            f" {len(ids) - ids.n_unique():,} for a subject that has one already",
            "one row a subject",
            "correct DM: other domains refer to it",
        )
    notes: list[str] = []
    reference, death = (
        read_moments(dm[name] if name in dm.columns else ids.clear(len(ids)))
        for name in ("RFSTDTC", "DTHDTC")
    )
    for name, read in (("RFSTDTC", reference), ("DTHDTC", death)):
        if read.partial + read.unread:
            notes.append(
                f"DM: {read.partial:,} dates of {name} are partial (first moment taken) and"
                f" {read.unread:,} no ISO 8601"
            )
    facts, layout = _facts(dm, notes)
    if supplement is not None:
        more = _supplement(supplement, ids)
        again = [name for name in more.columns if name in facts.columns]
        more = more.drop(again)
        facts = pl.concat([facts, more], how="horizontal")
        layout["supplement"] = _labels_of(supplement, more.columns)
    last = pl.col("USUBJID").cast(pl.String).str.strip_chars().str.split("-").list.last()
    ends = dm.select((last == text_of(dm, "SUBJID")).fill_null(False).all())
    layout["subjid_is_last"] = bool(ends.item())
    return Demographics(ids, facts, reference.time, death.time, tuple(notes), layout)


def _facts(dm: pl.DataFrame, notes: list[str]) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the columns of DM that are facts, and what the others follow from."""
    layout: dict[str, Any] = {"pairs": {}, "constants": {}}
    drop = {name for name in (*_KEYS, *_DERIVED, *_PERSONS) if name in dm.columns}
    for coded, told in _PAIRS:
        if coded not in dm.columns or told not in dm.columns:
            continue
        pairs = dm.group_by(told, coded).agg(pl.len().alias("n")).drop_nulls(told)
        if pairs[told].n_unique() == pairs.height:
            drop.add(coded)
            kept = pairs.filter(pl.col("n") >= FEW).sort(told)
            layout["pairs"][coded] = {
                "of": told, "codes": dict(zip(kept[told], kept[coded], strict=True))
            }  # fmt: skip
    if "ARM" in dm.columns and "ACTARM" in dm.columns and dm["ARM"].equals(dm["ACTARM"]):
        drop |= {"ACTARM"} | ({"ACTARMCD"} & set(dm.columns))
        layout["same_arm"] = True
        notes.append("DM: the actual arm is the planned one for every subject and is told once")
    if "AGEU" in dm.columns and dm["AGEU"].drop_nulls().n_unique() <= 1:
        drop.add("AGEU")
        unit = dm["AGEU"].drop_nulls()
        layout["constants"]["AGEU"] = str(unit[0]) if len(unit) else "YEARS"
    if persons := [name for name in _PERSONS if name in dm.columns]:
        notes.append(f"DM: {', '.join(persons)} name people and are left out")
    columns = [name for name in dm.columns if name not in drop]
    facts = dm.select(_fact(dm, name) for name in columns)
    return facts, layout


def _fact(dm: pl.DataFrame, name: str) -> pl.Series:
    series = dm[name]
    if name.endswith("DTC"):
        return read_moments(series).time.alias(name)
    if series.dtype.is_float():
        filled = series.fill_nan(None)
        whole = (filled == filled.round(0)).all()
        return filled.cast(pl.Int64, strict=False) if whole else filled
    if series.dtype == pl.String:
        return dm.select(text_of(dm, name).alias(name))[name]
    return series


def _supplement(supplement: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    """Return a column for each qualifier of SUPPDM, one row a subject."""
    told = supplement.select(
        "USUBJID", *(text_of(supplement, n).alias(n) for n in ("QNAM", "QVAL"))
    )
    told = told.drop_nulls().unique(["USUBJID", "QNAM"], keep="first", maintain_order=True)
    if told.height == 0:
        return pl.DataFrame()
    names = sorted(told["QNAM"].unique().to_list())
    wide = told.pivot("QNAM", index="USUBJID", values="QVAL").select("USUBJID", *names)
    return pl.DataFrame({"USUBJID": ids}).join(
        wide, on="USUBJID", how="left", maintain_order="left"
    ).select(names)  # fmt: skip


def _labels_of(supplement: pl.DataFrame, names: list[str]) -> dict[str, str]:
    if "QLABEL" not in supplement.columns:
        return dict.fromkeys(names, "")
    first = supplement.group_by("QNAM").agg(pl.col("QLABEL").first()).sort("QNAM")
    return {q: str(label or "") for q, label in first.iter_rows() if q in names}


def static_table(found: Demographics, schema: TableSchema | None) -> Table:
    """Return the static facts under a schema that is given, or inferred."""
    facts = found.facts
    if schema is None:
        if not facts.columns:
            schema = TableSchema(())
        else:
            schema = infer_schema(facts, learned=facts.columns, typed=True)
        quasi = [name for name in _QUASI if name in schema]
        schema = with_roles(schema, quasi_identifiers=quasi)
    if not facts.columns:
        import numpy as np

        return Table(schema, np.arange(len(found.ids), dtype=np.int64), {})
    return parse(facts, schema)
