"""Hand-made tables, scores and cards for the release tests."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.score import Card, Score, Trial
from manikin.privacy.ledger import NonPrivate
from manikin.release.report import Report, build_report

CREATED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SCHEMA = TableSchema(
    (
        Column("id", "identifier"),
        Column("age", "integer", unit="years"),
        Column("crp", "continuous", decimals=1, special=("<0.5",), unit="mg/l"),
        Column("sex", "categorical", ("sensitive",), ("F", "M")),
        Column("stage", "ordinal", categories=("I", "II", "III", "IV")),
        Column("code", "categorical", categories=tuple(f"C{i:02d}" for i in range(40))),
        Column("seen", "datetime", date_format="%Y-%m-%d"),
        Column("days", "integer", ("time",), unit="days"),
        Column("death", "boolean", ("event",), ("no", "yes")),
    )
)
CARDS = {
    "fidelity/shapes": Card("Column shapes", "fidelity", "higher", "How alike single columns are."),
    "fidelity/trends": Card("Pair trends", "fidelity", "higher", "How alike pairs are."),
    "fidelity/detection": Card("Detection (C2ST)", "fidelity", "near ceiling", "Can trees tell?"),
    "utility/prediction": Card("Prediction (TSTR)", "utility", "near ceiling", "Same models?"),
    "privacy/copies": Card("Copies beyond chance", "privacy", "lower", "Rows repeated."),
    "fairness/subgroups": Card("Subgroup shares", "fairness", "near ceiling", "Log-disparity."),
}
SCORES = (
    Score("fidelity/shapes", 0.97, (0.96, 0.98), 0.99, 0.98),
    Score("fidelity/shapes", 0.95, (0.93, 0.97), 0.99, 0.98, "column=age"),
    Score("fidelity/trends", 0.94, (0.93, 0.95), 0.85, 0.96),
    Score("fidelity/detection.score", 0.91, (0.85, 0.97), 0.4, 0.99),
    Score("fidelity/detection.auc", 0.54, (0.51, 0.57), 0.8, 0.5),
    Score("utility/prediction.auc_gap", 0.02, (-0.01, 0.05), 0.3, 0.0),
    Score("privacy/copies.exact", -0.001, (-0.01, 0.008), -0.002, 0.001),
    Score("fairness/subgroups.log_disparity", 0.04, (-0.1, 0.1), 0.0, 0.0, "sex=F"),
    Score("fairness/subgroups.log_disparity", math.nan, (math.nan, math.nan), group="code=C39"),
)


def table(n: int, seed: int, *, first: int = 0, rows_each: int = 1) -> Table:
    """Return `n` subjects with correlated columns, rare codes and gaps."""
    rng = np.random.default_rng(seed)
    m = n * rows_each
    age = np.clip(np.rint(rng.normal(55, 14, m)), 18, 99)
    crp = np.round(rng.lognormal(1, 1, m), 1)
    states = np.zeros(m, np.int8)
    states[rng.random(m) < 0.1] = 1
    states[rng.random(m) < 0.08] = 2
    seen = np.datetime64("2019-01-01", "us") + rng.integers(0, 1500, m).astype("timedelta64[D]")
    columns: dict[str, Any] = {
        "age": age,
        "crp": np.where(states > 0, np.nan, crp),
        "sex": (rng.random(m) < 0.4).astype(np.int32),
        "stage": np.clip((age - 30) // 15 + rng.integers(-1, 2, m), 0, 3).astype(np.int32),
        "code": np.minimum(rng.geometric(0.15, m) - 1, 39).astype(np.int32),
        "seen": seen,
        "days": np.rint(rng.exponential(2000 - 15 * age)),
        "death": (rng.random(m) < 0.6).astype(np.int32),
    }
    subjects = np.repeat(np.arange(first, first + n), rows_each)
    return Table(SCHEMA, subjects, columns, {"crp": states})


def trial(n: int = 600, **options: Any) -> Trial[Table]:
    """Return a trial of three samples of the same population."""
    train = table(n, 1, **options)
    return Trial(train, table(n // 2, 2, first=n, **options), table(n, 3, **options))


def report(of: Trial[Table] | None = None, **changes: Any) -> Report:
    """Return the report of a trial with the scores above."""
    given: dict[str, Any] = {
        "trial": of if of is not None else trial(),
        "scores": SCORES,
        "cards": CARDS,
        "audit_findings": [
            {"severity": "warn", "topic": "rare", "columns": ["code"], "said": "many rare levels",
             "todo": "pool them"}
        ],
        "settings": {"source": "patients.csv", "synthesizer": "table/seqtree", "seed": 7,
                     "recipe": {"leaf": 40}, "versions": {"manikin": "0.1.0"}},
        "ledger": (NonPrivate("trees fitted to the rows"),),
        "created": CREATED,
        "controls": {"exact copy": True, "5 % copied": True},
    }  # fmt: skip
    return build_report(**(given | changes))


def real_of(of: Trial[Table]) -> Table:
    """Return train and holdout together."""
    return Table.concatenate([of.train, of.holdout])
