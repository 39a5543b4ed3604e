"""The experiments: real clinical tables, what their columns hold, and how they are split.

Every cell is kept as the text in the source ("" for no value), so that ours and the peers are
given the same bytes. The kinds stated here are given to all of them: nobody has to guess.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from manikin.data.randomness import generator

__all__ = ["EXPERIMENTS", "Experiment", "Split", "data_root", "halves", "split", "text_of"]


@dataclass(frozen=True)
class Experiment:
    """A real table and the question that a person would ask of it."""

    name: str
    title: str
    load: Callable[[Path], pd.DataFrame]  # texts, one row a subject
    numeric: tuple[str, ...]  # every other column is categorical
    target: str  # what TSTR predicts; of a survival table: the event
    positive: tuple[str, ...]  # spellings of the target that count as positive
    time: str | None = None  # given: TSTR is the C-index of a Cox model
    hidden: tuple[str, ...] = ()  # columns that TSTR does not see: they follow from the outcome
    most_rows: int | None = None  # subsample of subjects, both halves together
    note: str = ""


@dataclass(frozen=True)
class Split:
    """Two halves of one table; `digest` names the training half's bytes."""

    experiment: Experiment
    seed: int
    train: pd.DataFrame
    holdout: pd.DataFrame
    digest: str


def data_root() -> Path:
    """Return the folder of real tables: $MANIKIN_DATA, or data."""
    return Path(os.environ.get("MANIKIN_DATA", "data"))


def halves(rows: int, seed: int, most_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of two disjoint halves of equal size, each in source order."""
    order = generator(seed, "benchmark split").permutation(rows)
    size = min(rows, most_rows or rows) // 2
    return np.sort(order[:size]), np.sort(order[size : 2 * size])


def split(experiment: Experiment, frame: pd.DataFrame, seed: int) -> Split:
    """Split a table (one row a subject) into a training half and an equally large holdout."""
    first, second = halves(len(frame), seed, experiment.most_rows)
    train, holdout = (frame.iloc[rows].reset_index(drop=True) for rows in (first, second))
    digest = hashlib.sha256(text_of(train).encode()).hexdigest()[:16]
    return Split(experiment, seed, train, holdout, digest)


def text_of(frame: pd.DataFrame) -> str:
    """Return the frame as the CSV text that every method is given."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------- the tables


def _read(path: Path, missing: tuple[str, ...] = (), **options: object) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    return frame.replace(dict.fromkeys(("NA", *missing), ""))


def _diabetes(root: Path) -> pd.DataFrame:
    frame = _read(root / "diabetes130" / "diabetic_data.csv", ("?",))
    order = frame["encounter_id"].astype(int).sort_values().index
    frame = frame.loc[order].drop_duplicates("patient_nbr")  # first encounter of each patient
    return frame.drop(columns=["encounter_id", "patient_nbr"])


def _support(root: Path) -> pd.DataFrame:
    frame = _read(root / "support2" / "support2.csv")
    scores = ["aps", "sps", "surv2m", "surv6m", "prg2m", "prg6m", "dnr", "dnrday"]
    return frame.drop(columns=[frame.columns[0], *scores])


def _heart(root: Path) -> pd.DataFrame:
    names = "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num".split()
    parts = []
    for site in ("cleveland", "hungarian", "switzerland", "va"):
        path = root / "heart_disease_uci" / f"processed.{site}.data"
        part = _read(path, ("?", "-9", "-9.0"), header=None, names=names)
        # some sites write 1.0 where others write 1
        part = part.apply(lambda cells: cells.str.replace(r"\.0+$", "", regex=True))
        parts.append(part.assign(site=site))
    return pd.concat(parts, ignore_index=True)


def _colon(root: Path) -> pd.DataFrame:
    frame = _read(root / "survival_r" / "colon.csv")
    deaths = frame[frame["etype"] == "2"]
    return deaths.drop(columns=["rownames", "id", "study", "etype"])


def _rotterdam(root: Path) -> pd.DataFrame:
    return _read(root / "survival_r" / "rotterdam.csv").drop(columns=["rownames", "pid"])


def _nwtco(root: Path) -> pd.DataFrame:
    return _read(root / "survival_r" / "nwtco.csv").drop(columns=["rownames", "seqno"])


def _cervical(root: Path) -> pd.DataFrame:
    return _read(root / "cervical_cancer" / "risk_factors_cervical_cancer.csv", ("?",))


def _wdbc(root: Path) -> pd.DataFrame:
    frame = _read(root / "uci_small" / "wdbc.csv")
    return frame.drop(columns=["id", *frame.columns[32:]])  # its header ends in a comma


def _gbsg2(root: Path) -> pd.DataFrame:
    from lifelines.datasets import load_gbsg2

    return load_gbsg2().astype(str)


_SUPPORT_NUMERIC = (
    "age slos d.time num.co edu scoma charges totcst totmcst avtisst hday meanbp wblc hrt resp "
    "temp pafi alb bili crea sod ph glucose bun urine adlp adls adlsc"
)
_CERVICAL_NUMERIC = (
    "Age",
    "Number of sexual partners",
    "First sexual intercourse",
    "Num of pregnancies",
    "Smokes (years)",
    "Smokes (packs/year)",
    "Hormonal Contraceptives (years)",
    "IUD (years)",
    "STDs (number)",
    "STDs: Number of diagnosis",
    "STDs: Time since first diagnosis",
    "STDs: Time since last diagnosis",
)
_WDBC_MEASURES = (
    "radius,texture,perimeter,area,smoothness,compactness,concavity,concave points,symmetry,"
    "fractal_dimension"
).split(",")
_WDBC_NUMERIC = tuple(
    f"{what}_{part}" for part in ("mean", "se", "worst") for what in _WDBC_MEASURES
)

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "gbsg2",
        "GBSG2: breast cancer, recurrence-free survival",
        _gbsg2,
        ("age", "tsize", "pnodes", "progrec", "estrec", "time"),
        target="cens",
        positive=("1",),
        time="time",
        note="comes with lifelines",
    ),
    Experiment(
        "heart",
        "Heart disease, four hospitals (UCI 45)",
        _heart,
        ("age", "trestbps", "chol", "thalach", "oldpeak"),
        target="num",
        positive=("1", "2", "3", "4"),
        note="the four sites joined, with a column for the site; spellings 1.0 and 1 made one",
    ),
    Experiment(
        "colon",
        "Colon cancer trial, survival",
        _colon,
        ("age", "nodes", "time"),
        target="status",
        positive=("1",),
        time="time",
        note="rows of the death record (etype 2)",
    ),
    Experiment(
        "cervical",
        "Cervical cancer risk factors (UCI 383)",
        _cervical,
        _CERVICAL_NUMERIC,
        target="Biopsy",
        positive=("1",),
        note="6.4 % positive; the other three tests are left among the predictors",
    ),
    Experiment(
        "wdbc",
        "Breast cancer, Wisconsin diagnostic (UCI 17)",
        _wdbc,
        _WDBC_NUMERIC,
        target="diagnosis",
        positive=("M",),
        note="small and wide: 284 × 31 to learn from",
    ),
    Experiment(
        "rotterdam",
        "Rotterdam breast cancer cohort, recurrence and death",
        _rotterdam,
        ("year", "age", "nodes", "pgr", "er", "rtime", "dtime"),
        target="death",
        positive=("1",),
        time="dtime",
        hidden=("rtime", "recur"),
    ),
    Experiment(
        "nwtco",
        "National Wilms tumour studies, relapse",
        _nwtco,
        ("edrel", "age"),
        target="rel",
        positive=("1",),
        hidden=("edrel", "in.subcohort"),
        note="14 % positive; `in.subcohort` was drawn at random, `edrel` follows from the relapse",
    ),
    Experiment(
        "support2",
        "SUPPORT2: seriously ill inpatients (UCI 880)",
        _support,
        tuple(_SUPPORT_NUMERIC.split()),
        target="hospdead",
        positive=("1",),
        hidden=("death", "d.time", "slos", "sfdm2"),
        note="scores of earlier models (aps, sps, surv2m, surv6m, prg2m, prg6m) and dnr, dnrday "
        "left out",
    ),
    Experiment(
        "diabetes130",
        "Diabetes 130-US hospitals (UCI 296), 10,000 patients",
        _diabetes,
        (
            "time_in_hospital",
            "num_lab_procedures",
            "num_procedures",
            "num_medications",
            "number_outpatient",
            "number_emergency",
            "number_inpatient",
            "number_diagnoses",
        ),
        target="readmitted",
        positive=("<30", ">30"),
        most_rows=20_000,
        note="first encounter of each patient; identifiers left out",
    ),
)
