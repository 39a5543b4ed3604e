"""Panels to measure on: visits of three trials, and visits that are made up.

`made_up` is for seconds and memory alone: 5 channels at 10 visits a subject on average, each a
level of the subject and a drift that fades.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from pilot_data import vital_signs

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table

__all__ = ["SETS", "made_up"]

DATA = Path(os.environ.get("MANIKIN_DATA", "data"))


def pilot() -> Events:
    """Vital signs of the CDISC pilot study: 254 subjects, 5 channels."""
    return vital_signs()


def pbc() -> Events:
    """The Mayo Clinic's trial in primary biliary cholangitis: 312 subjects, 12 channels."""
    cells = pl.read_csv(DATA / "survival_r" / "pbcseq.csv", null_values=["", "NA"])
    numbers = ("bili", "chol", "albumin", "alk.phos", "ast", "platelet", "protime", "ascites",
               "hepato", "spiders", "edema", "stage")  # fmt: skip
    facts = ["trt", "age", "sex", "status"]
    return _long(cells, "id", pl.col("day"), facts, numbers)


def toenail() -> Events:
    """A trial of two treatments of toenail infection: 294 subjects, one binary channel."""
    cells = pl.read_csv(DATA / "rct_longitudinal" / "lme4_toenail.csv")
    cells = cells.with_columns((pl.col("outcome") != "none or mild").cast(pl.Int64))
    return _long(cells, "patientID", (pl.col("time") * 28).round(0), ["treatment"], ("outcome",))


def _long(
    cells: pl.DataFrame, subject: str, day: pl.Expr, facts: list[str], numbers: tuple[str, ...]
) -> Events:
    """Return histories of a table with one row a visit."""
    own = cells.unique(subset=subject, maintain_order=True).sort(subject)
    table = Table.from_frame(own.select(facts))
    static = Table(table.schema, np.arange(own.height), table.columns, table.states)
    rows = {who: i for i, who in enumerate(own[subject].to_list())}
    whose = np.array([rows[who] for who in cells[subject].to_list()])
    days = cells.select(day.alias("day"))["day"].to_numpy()
    when = np.datetime64("1980-01-01", "us") + days.astype("timedelta64[D]")
    values = cells.select(numbers).to_numpy().astype(np.float64)
    visit, code = np.nonzero(~np.isnan(values))
    codes = tuple(Code(name, "measurement", numeric=True, decimals=2) for name in numbers)
    schema = EventSchema(static.schema, codes, clock="day")
    return Events.of(schema, static, whose[visit], when[visit], code, values[visit, code])


SETS: dict[str, Callable[[], Events]] = {"CDISC pilot": pilot, "pbcseq": pbc, "toenail": toenail}


def made_up(n: int) -> Events:
    """Return `n` subjects of about 50 events each."""
    rng = generator(0, "panel made up")
    counts = rng.integers(5, 16, n)
    whose = np.repeat(np.arange(n), counts)
    place = np.arange(whose.size) - np.repeat(np.cumsum(counts) - counts, counts)
    level, walk = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    cells = np.zeros((whose.size, 5))
    for visit in range(counts.max()):
        walk = 0.7 * walk + 0.5 * rng.normal(size=walk.shape)
        at = np.flatnonzero(place == visit)
        cells[at] = 100 + 10 * level[whose[at]] + 8 * walk[whose[at]]
    day = place * 28 + rng.integers(-3, 4, whose.size)
    frame = pl.DataFrame({"age": rng.integers(20, 90, n), "sex": rng.choice(["f", "m"], n)})
    static = Table.from_frame(frame)
    codes = tuple(Code(f"C{j}", "measurement", numeric=True, decimals=1) for j in range(5))
    when = np.datetime64("2020-01-01", "us") + day.astype("timedelta64[D]")
    row = np.repeat(np.arange(whose.size), 5)
    return Events.of(
        EventSchema(static.schema, codes, clock="day"), static, whose[row], when[row],
        np.tile(np.arange(5), whose.size), np.round(cells, 1).ravel(),
    )  # fmt: skip
