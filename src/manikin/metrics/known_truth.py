"""Made-up cohorts in which the effect of a treatment is known for every patient.

Of real patients nobody knows what another treatment would have done, so whether synthetic rows keep
an effect can only be measured where it was put in (known data-generating processes: Hill, J.
Comput. Graph. Stat. 2011; Dorie et al., Stat. Sci. 2019). With age standardised (z), sex (f = 1/2,
m = -1/2), stage (-3/2 … 3/2) and a skewed marker:

treated   log odds = confounded (0.6 z + 0.5 stage + 0.15 (marker - its mean)); 0 is a randomised
          trial
effect    τ = effect + varying (z + sex) / 2, in the unit of the outcome; its mean over the
          population (ATE) is `effect` exactly, since z and sex are symmetric
outcome   a number: 0.5 z + 0.7 stage + 0.3 marker + τ treated + noise of deviation 1;
          yes or no: chance 0.35 + 0.04 z + 0.04 stage + 0.02 (marker - mean) + τ treated

Age, stage and marker go with treatment and with outcome: comparing the arms as they stand is wrong
unless the trial is randomised. Nothing else does, so adjusting for the covariates is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.metrics.intervals import Floats

__all__ = ["KnownTruth"]

YOUNGEST, OLDEST = 40, 80  # whole years, each as frequent
CENTRE = (YOUNGEST + OLDEST) / 2
DEVIATION = math.sqrt(((OLDEST - YOUNGEST + 1) ** 2 - 1) / 12)  # of whole numbers, uniform
FURTHEST = (OLDEST - CENTRE) / DEVIATION
STAGES = ("I", "II", "III", "IV")
SHARES = (0.3, 0.3, 0.2, 0.2)
SHAPE = (2.0, 5.0)  # of the marker: ten times a beta variable
MARKER = 10 * SHAPE[0] / sum(SHAPE)
LOW, HIGH = 0.35 - 0.04 * (FURTHEST + 1.5) - 0.02 * MARKER, 0.35 + 0.04 * (FURTHEST + 1.5) + 0.15


@dataclass(frozen=True)
class KnownTruth:
    """A population to draw patients from, whose average and individual effects are known."""

    effect: float = 1.0  # the average one; 0 for a negative control
    varying: float = 0.5  # how much it differs between patients
    confounded: float = 1.0
    outcome: Literal["number", "yes or no"] = "number"

    def __post_init__(self) -> None:
        if self.outcome == "number":
            return
        most = abs(self.varying) * (FURTHEST + 0.5) / 2
        if LOW + min(0.0, self.effect - most) < 0 or HIGH + max(0.0, self.effect + most) > 1:
            raise InputError(
                f"effect={self.effect:g} and varying={self.varying:g} on chances",
                f"chances between 0 and 1; without treatment they are {LOW:.2f} to {HIGH:.2f}",
                "take smaller ones, such as effect=0.15 and varying=0.05",
            )

    @property
    def schema(self) -> TableSchema:
        """Columns of the cohort; what is declared comes from here, not from its rows."""
        outcome = (
            Column("outcome", "continuous", ("target",), decimals=3)
            if self.outcome == "number"
            else Column("outcome", "boolean", ("target",), ("no", "yes"))
        )
        return TableSchema(
            (
                Column("age", "integer", minimum=YOUNGEST, maximum=OLDEST),
                Column("sex", "boolean", ("sensitive",), ("m", "f")),
                Column("stage", "ordinal", (), STAGES),
                Column("marker", "continuous", minimum=0, maximum=10, decimals=2),
                Column("treated", "boolean", (), ("no", "yes")),
                outcome,
            )
        )

    def draw(self, n: int, seed: int) -> Table:
        """Return `n` patients, one row each."""
        rng = generator(seed, "known truth")
        age = rng.integers(YOUNGEST, OLDEST + 1, n).astype(np.float64)
        sex = rng.integers(0, 2, n).astype(np.int32)
        at = rng.choice(len(STAGES), n, p=SHARES).astype(np.int32)
        level = np.round(10 * rng.beta(*SHAPE, n), 2)
        x = _standardised(age, sex, at, level)
        z, stage, marker = x[:, 0], x[:, 2], x[:, 3]
        odds = self.confounded * (0.6 * z + 0.5 * stage + 0.15 * marker)
        treated = rng.random(n) < 1 / (1 + np.exp(-odds))
        gained = np.where(treated, self._effects(x), 0)
        if self.outcome == "number":
            mean = 0.5 * z + 0.7 * stage + 0.3 * marker + gained
            outcome: NDArray[Any] = np.round(mean + rng.normal(size=n), 3)
        else:
            chance = 0.35 + 0.04 * z + 0.04 * stage + 0.02 * marker + gained
            outcome = (rng.random(n) < chance).astype(np.int32)
        cells: dict[str, NDArray[Any]] = {
            "age": age,
            "sex": sex,
            "stage": at,
            "marker": level,
            "treated": treated.astype(np.int32),
            "outcome": outcome,
        }
        return Table(self.schema, np.arange(n, dtype=np.int64), cells)

    def effects(self, table: Table) -> Floats:
        """Return each patient's true effect (CATE), (rows,)."""
        return self._effects(self.covariates(table))

    def covariates(self, table: Table) -> Floats:
        """Return age, sex, stage and marker as the truth is written in them, (rows, 4)."""
        return _standardised(*map(table.numbers, ("age", "sex", "stage", "marker")))

    def _effects(self, x: Floats) -> Floats:
        return np.asarray(self.effect + self.varying * (x[:, 0] + x[:, 1]) / 2)


def _standardised(
    age: NDArray[Any], sex: NDArray[Any], stage: NDArray[Any], marker: NDArray[Any]
) -> Floats:
    middle = (len(STAGES) - 1) / 2
    columns = ((age - CENTRE) / DEVIATION, sex - 0.5, stage - middle, marker - MARKER)
    return np.column_stack(columns)
