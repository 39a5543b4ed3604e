"""Histories to measure on: two open extracts of intensive care, and a cohort that is made up.

`courses` is the stand-in where open records are too few: diseases begin at an age by a hazard that
sex, age and a shared frailty move; each has main and accompanying diagnoses, drugs of which one is
chosen and kept until it is changed, a laboratory panel ordered as a whole, complications after
years; visits are planned by what the patient has, or come of themselves; other diagnoses come by
season. Nothing in it is of the form that any synthesizer here fits.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import polars as pl

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

DATA = Path(os.environ.get("MANIKIN_DATA", "data"))
DAY_US = 86_400_000_000
DISEASES, ACUTE, DRUGS, LABS = 20, 160, 4, 4
VITALS = ("HR", "NISysABP", "NIDiasABP", "SysABP", "DiasABP", "MAP", "Temp", "RespRate", "GCS",
          "Urine", "FiO2", "pH", "PaCO2", "PaO2", "SaO2", "HCT", "Platelets", "WBC", "Glucose", "K",
          "Na", "Mg", "HCO3", "BUN", "Creatinine", "Lactate", "Bilirubin", "ALT", "AST", "ALP",
          "Albumin", "TroponinT", "TroponinI", "Cholesterol", "MechVent", "Weight")  # fmt: skip


def mimic() -> Events:
    """Admissions of the MIMIC-III demo: diagnoses and procedures by category, drugs by name."""
    folder = DATA / "mimic3_demo"
    read = {name: pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False)
            for name in ("patients", "admissions", "diagnoses_icd", "procedures_icd",
                         "prescriptions")}  # fmt: skip
    stays = read["admissions"].select(
        "subject_id", "hadm_id", "deathtime", code="VISIT/" + pl.col("admission_type"),
        start=pl.col("admittime").str.to_datetime(time_unit="us"),
        end=pl.col("dischtime").str.to_datetime(time_unit="us"),
    ).sort("subject_id", "start")  # fmt: skip
    stays = stays.with_columns(visit=pl.int_range(pl.len()).over("subject_id"))
    code = pl.col("icd9_code")
    stem = pl.when(code.str.starts_with("E")).then(code.str.slice(0, 4)).otherwise(
        code.str.slice(0, 3))  # fmt: skip
    kinds = {
        "condition": read["diagnoses_icd"].select("hadm_id", code="ICD9CM/" + stem),
        "procedure": read["procedures_icd"].select("hadm_id", code="ICD9PROC/" + code.str.slice(
            0, 2)),
        "drug": read["prescriptions"].select("hadm_id", code="DRUG/" + pl.col("drug")
                                             .str.to_lowercase()),
    }  # fmt: skip
    parts = [stays.select("subject_id", "visit", "start", "end", "code", domain=pl.lit("visit"))]
    times = stays.select("subject_id", "hadm_id", "visit", "start",
                         end=pl.lit(None, pl.Datetime("us")))  # fmt: skip
    for domain, rows in kinds.items():
        own = rows.unique(maintain_order=True).join(times, on="hadm_id")
        parts.append(own.select("subject_id", "visit", "start", "end", "code",
                                domain=pl.lit(domain)))  # fmt: skip
    died = stays.filter(pl.col("deathtime").is_not_null())
    parts.append(died.select(
        "subject_id", visit=pl.lit(-1, pl.Int64), start=pl.col("deathtime").str.to_datetime(
            time_unit="us"), end=pl.lit(None, pl.Datetime("us")), code=pl.lit("DEATH"),
        domain=pl.lit("death")))  # fmt: skip
    people = read["patients"].sort("subject_id").select(
        "subject_id", sex="gender", born=pl.col("dob").str.to_datetime(time_unit="us"))  # fmt: skip
    static = TableSchema((Column("sex", "categorical", categories=("F", "M")),
                          Column("born", "datetime")))  # fmt: skip
    table = Table(static, np.arange(people.height), {
        "sex": (people["sex"] == "M").to_numpy().astype(np.int32),
        "born": people["born"].to_numpy().astype("datetime64[us]")})  # fmt: skip
    return _events(pl.concat(parts), people["subject_id"], table, sex="sex", birth="born")


def _events(rows: pl.DataFrame, names: pl.Series, table: Table, **known: str) -> Events:
    codes = rows.select("code", "domain").unique(maintain_order=True).sort("domain", "code")
    codes = codes.with_row_index("place")
    place = rows.join(codes, on=["code", "domain"], maintain_order="left")["place"]
    who = pl.DataFrame({"subject_id": names}).with_row_index("row")
    whose = rows.join(who, on="subject_id", maintain_order="left")["row"]
    value = rows["value"].to_numpy() if "value" in rows.columns else None
    schema = EventSchema(
        table.schema,
        tuple(Code(c, d, numeric=value is not None and d == "measurement")
              for c, d in codes.select("code", "domain").iter_rows()),
        **known,
    )  # fmt: skip
    return Events.of(
        schema, table, whose.to_numpy(), rows["start"].to_numpy().astype("datetime64[us]"),
        place.to_numpy(), value, None, rows["end"].to_numpy().astype("datetime64[us]"),
        rows["visit"].to_numpy(),
    )  # fmt: skip


def physionet(n: int = 4000) -> Events:
    """Stays of PhysioNet 2012, one visit each; whether the patient died there is the target."""
    folder = DATA / "physionet2012"
    outcome = pl.read_csv(folder / "Outcomes-a.txt")
    died = dict(outcome.select("RecordID", "In-hospital_death").iter_rows())
    texts, names = [], []
    with tarfile.open(folder / "set-a.tar.gz") as tar:
        for member in tar:
            stem = Path(member.name).stem
            if member.isfile() and stem.isdigit() and int(stem) in died and len(names) < n:
                lines = tar.extractfile(member).read().decode().splitlines()[1:]  # type: ignore[union-attr]
                texts.extend(f"{stem},{line}" for line in lines)
                names.append(int(stem))
    cells = pl.read_csv(io.StringIO("\n".join(texts)), has_header=False, truncate_ragged_lines=True,
                        new_columns=["subject_id", "time", "code", "value"],
                        schema_overrides={"value": pl.Float64})  # fmt: skip
    once = cells.filter(pl.col("time") == "00:00").unique(["subject_id", "code"], keep="first")
    wide = once.pivot("code", index="subject_id", values="value")
    people = pl.DataFrame({"subject_id": sorted(names)}).join(wide, on="subject_id", how="left",
                                                              maintain_order="left")  # fmt: skip
    static = TableSchema((
        Column("age", "integer"), Column("sex", "categorical", categories=("F", "M")),
        Column("died", "boolean", roles=("target",), categories=("no", "yes")),
    ))  # fmt: skip
    sex = people["Gender"].fill_null(-1).to_numpy().astype(np.int32)
    table = Table(static, np.arange(people.height), {
        "age": people["Age"].to_numpy().astype(float), "sex": np.where(sex < 0, -1, sex),
        "died": np.array([died[r] for r in people["subject_id"]], np.int32),
    })  # fmt: skip
    hours = pl.col("time").str.split(":").list
    us = (hours.get(0).cast(pl.Int64) * 60 + hours.get(1).cast(pl.Int64)) * 60_000_000
    rows = cells.filter(pl.col("code").is_in(VITALS) & (pl.col("value") >= 0)).select(
        "subject_id", "code", "value", start=(us + 14_610 * DAY_US).cast(pl.Datetime("us")),
        end=pl.lit(None, pl.Datetime("us")), visit=pl.lit(0),
        domain=pl.lit("measurement"))  # fmt: skip
    return _events(rows, people["subject_id"], table, sex="sex")


def courses(n: int, seed: int = 0, *, mean_visits: float = 7.0) -> Events:
    """Return `n` made-up patients; see the top of this file."""
    rng = generator(seed, "courses")
    world = _World(generator(1, "courses of diseases"))
    female, age = rng.random(n) < 0.52, rng.uniform(25, 85, n)
    frailty = rng.gamma(2.0, 0.5, n)
    hazard = world.hazard[None] * np.exp((age[:, None] - 55) / 25 * world.by_age[None])
    hazard *= np.where(female[:, None], world.by_sex, 2 - world.by_sex) * frailty[:, None]
    onset = rng.exponential(1.0, hazard.shape) / hazard - 8.0  # years from the first visit
    drug = rng.integers(0, DRUGS, hazard.shape)
    level = rng.normal(size=(n, DISEASES, 1)) + 0.5 * rng.normal(size=(n, DISEASES, LABS))
    visits = 1 + rng.poisson(mean_visits * frailty * (0.5 + 0.3 * (onset < 2).sum(axis=1)), n)
    start = np.datetime64("2016-01-04", "us") + rng.integers(0, 1500, n) * np.timedelta64(1, "D")
    rows: list[tuple[np.ndarray, ...]] = []
    year = np.zeros(n)
    for t in range(int(visits.max())):
        who = np.flatnonzero(visits > t)
        active = onset[who] < year[who, None]
        weight = np.where(active, world.weight, 0.0)
        weight = np.concatenate([weight, np.full((who.size, 1), 0.6)], axis=1)
        reason = (np.cumsum(weight, axis=1) < rng.random((who.size, 1)) * weight.sum(
            axis=1, keepdims=True)).sum(axis=1)  # fmt: skip
        drug[who] = np.where(rng.random(active.shape) < 0.04, rng.integers(
            0, DRUGS, active.shape), drug[who])  # fmt: skip
        level[who] = 0.95 * level[who] + 0.31 * rng.normal(size=level[who].shape)
        rows += world.visit(who, t, year[who], onset[who], reason, drug[who], level[who], rng)
        planned = (reason < DISEASES) & (rng.random(who.size) < 0.7)
        due = rng.choice([28, 91, 182], who.size, p=[0.3, 0.5, 0.2])
        due = due + rng.integers(-2, 3, who.size)
        gap = np.where(planned, due, 1 + rng.exponential(120, who.size))
        year[who] += np.rint(gap) / 365.0
    whose, day, code, value, number = (np.concatenate(part) for part in zip(*rows, strict=True))
    time = start[whose] + (np.rint(day * 365) * 24 + 9).astype("timedelta64[h]")
    born = start - (age * 365.25).astype("timedelta64[D]")
    static = TableSchema((Column("sex", "categorical", categories=("f", "m")),
                          Column("born", "datetime")))  # fmt: skip
    table = Table(static, np.arange(n), {"sex": (~female).astype(np.int32),
                                         "born": born.astype("datetime64[us]")})  # fmt: skip
    schema = EventSchema(static, world.codes, birth="born", sex="sex", clock="hour")
    return Events.of(schema, table, whose, time, code, value, visit=number)


class _World:
    """The diseases: how they begin, what they are treated with, what is measured."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.hazard = rng.gamma(1.0, 0.012, DISEASES) + 0.002
        self.by_age, self.by_sex = rng.uniform(0, 1.5, DISEASES), rng.uniform(0.4, 1.6, DISEASES)
        self.weight, self.beside = rng.gamma(2, 0.5, DISEASES), rng.beta(2, 3, DISEASES)
        self.acute = rng.gamma(0.3, 1.0, ACUTE) + 0.01
        self.acute /= self.acute.sum()
        self.season = rng.integers(0, 4, ACUTE)
        names = [Code(f"DX/{d}.{i}", "condition", parents=(f"DX/{d}",))
                 for d in range(DISEASES) for i in range(4)]  # fmt: skip
        names += [Code(f"RX/{d}.{i}", "drug") for d in range(DISEASES) for i in range(DRUGS)]
        names += [Code(f"LAB/{d}.{i}", "measurement", numeric=True)
                  for d in range(DISEASES) for i in range(LABS)]  # fmt: skip
        names += [Code(f"AC/{a}", "condition") for a in range(ACUTE)]
        self.codes = tuple(names)

    def visit(
        self, who: np.ndarray, t: int, year: np.ndarray, onset: np.ndarray, reason: np.ndarray,
        drug: np.ndarray, level: np.ndarray, rng: np.random.Generator,
    ) -> list[tuple[np.ndarray, ...]]:  # fmt: skip
        """Return the rows of one visit of some patients: subject, year, code, value, number."""
        active = onset < year[:, None]
        main = np.arange(DISEASES)[None] == reason[:, None]
        listed = main | (active & (rng.random(active.shape) < self.beside))
        late = active & (year[:, None] - onset > 4) & (rng.random(active.shape) < 0.4) & listed
        twin = listed & (rng.random(active.shape) < 0.25)
        taken = active & (rng.random(active.shape) < 0.6) & (listed | (rng.random(
            active.shape) < 0.3))  # fmt: skip
        panel = main & (rng.random(active.shape) < 0.7)
        found = []
        for mask, base in ((listed, 0), (twin, 1), (late, 2)):
            i, d = np.nonzero(mask)
            found.append((i, 4 * d + base, np.full(i.size, np.nan)))
        i, d = np.nonzero(taken)
        found.append((i, 4 * DISEASES + DRUGS * d + drug[i, d], np.full(i.size, np.nan)))
        i, d = np.nonzero(panel)
        for lab in range(LABS):
            value = np.round(100 + 10 * level[i, d, lab] + 3 * rng.normal(size=i.size), 1)
            found.append((i, (4 + DRUGS) * DISEASES + LABS * d + lab, value))
        season = (year * 4 % 4).astype(int)
        extra = np.where(reason == DISEASES, 1, 0) + (rng.random(who.size) < 0.3)
        i = np.repeat(np.arange(who.size), extra)
        a = rng.choice(ACUTE, i.size, p=self.acute)
        fits = (self.season[a] == season[i]) | (rng.random(i.size) < 0.5)
        found.append(
            (i[fits], (4 + DRUGS + LABS) * DISEASES + a[fits], np.full(fits.sum(), np.nan))
        )
        return [(who[i], year[i], code, value, np.full(i.size, t)) for i, code, value in found]
