"""Risks that a trajectory foretells, against a cohort whose hazard is known."""

import numpy as np
import pytest

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.forecasting import calibrate

STATIC = TableSchema((Column("arm", "categorical", categories=("A", "B")),), declared=True)
SCHEMA = EventSchema(
    STATIC, (Code("check", "observation"), Code("relapse", "condition")), clock="day", declared=True
)
CHANCE = np.array([0.05, 0.25])  # of a relapse at each check, by arm


def cohort(n: int, seed: int) -> Events:
    """Twenty checks, ten days apart."""
    rng = generator(seed, "cohort of a known hazard")
    arm = rng.integers(0, 2, n)
    relapse = rng.random((n, 20)) < CHANCE[arm][:, None]
    who, check = np.nonzero(np.ones_like(relapse))
    ill, ill_at = np.nonzero(relapse)
    start = np.datetime64("2020-01-01", "us") + rng.integers(0, 300, n) * np.timedelta64(1, "D")
    whose, at = np.concatenate([who, ill]), np.concatenate([check, ill_at])
    code = np.repeat([0, 1], [who.size, ill.size])
    static = Table(STATIC, np.arange(n), {"arm": arm.astype(np.int32)})
    return Events.of(SCHEMA, static, whose, start[whose] + at * np.timedelta64(10, "D"), code)


@pytest.mark.slow
def test_thirty_day_risks_are_those_of_the_hazard() -> None:
    # three checks within thirty days: risks of 1 - .95³ = .143 and 1 - .75³ = .578
    known = 1 - (1 - CHANCE) ** 3
    chosen = {"table": "table/marginals", "steps": 250, "width": 16, "heads": 2, "depth": 1,
              "context": 48, "latent": 2, "batch": 1024}  # fmt: skip
    model = catalogue.build("events/trajectory", chosen).fit(cohort(400, 1), seed=1)
    held_out = cohort(240, 2)
    found = calibrate(model, held_out, codes="relapse", cut_at=65.0, days=30, futures=60, seed=3)
    arm = held_out.static.columns["arm"]
    for group in (0, 1):
        risk = found.forecast.risk[arm == group]
        # the mean of 120 risks of 60 draws is known to .005; the rest is what was learnt of 200
        assert np.nanmean(risk) == pytest.approx(known[group], abs=0.07)
    assert found.foretold == pytest.approx(found.came, abs=0.09)
