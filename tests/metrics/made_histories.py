"""Made-up patients over time, for the tests of the judges of histories."""

import numpy as np

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

STATIC = TableSchema((
    Column("sex", "categorical", categories=("F", "M")),
    Column("age", "integer"),
))  # fmt: skip
N_CODES = 30
CODES = (
    Code("Visit/OP", "visit"),
    Code("Visit/IP", "visit"),
    Code("LOINC/x", "measurement", unit="mg/dL", numeric=True, decimals=1),
    Code("LOINC/y", "measurement", numeric=True, decimals=2),
    Code("DEATH", "death"),
    *(Code(f"ICD/{i:02d}", "condition") for i in range(N_CODES)),
)
SCHEMA = EventSchema(STATIC, CODES, sex="sex")
DAY = np.timedelta64(1, "D")


def patients(n: int, seed: int, visits: float = 6.0) -> Events:
    """Patients with traits that last, codes that come again, and deaths of the ill."""
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=n)
    sex = rng.integers(0, 2, n).astype(np.int32)
    static = Table(STATIC, np.arange(n), {"sex": sex, "age": np.rint(60 + 10 * ill)})
    counts = 1 + rng.poisson(visits * np.exp(0.4 * ill))
    whose = np.repeat(np.arange(n), counts)
    total = whose.size
    place = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    gap = np.where(place > 0, 1 + np.rint(rng.gamma(2, 15, total)), 0)
    ends = np.cumsum(gap)
    day = ends - np.repeat(ends[np.cumsum(counts) - counts], counts)
    day += np.repeat(rng.integers(0, 1000, n), counts)
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(rows: np.ndarray, code: np.ndarray | int, value: np.ndarray | float = np.nan) -> None:
        columns.append(
            (rows, np.broadcast_to(code, rows.shape), np.broadcast_to(value, rows.shape))
        )

    stay = rng.random(total) < 1 / (1 + np.exp(1.5 - ill[whose]))
    add(np.arange(total), np.where(stay, 1, 0))
    for code, level in ((2, 5.0), (3, 1.0)):
        seen = np.flatnonzero(rng.random(total) < 0.7)
        value = level + ill[whose[seen]] + 0.1 * place[seen] + 0.4 * rng.normal(size=seen.size)
        add(seen, code, np.round(value, CODES[code].decimals))
    # each has three codes for life, of a common few, and now and then another
    own = np.minimum(rng.geometric(0.12, (n, 3)) - 1, N_CODES - 1)
    for i in range(3):
        seen = np.flatnonzero(rng.random(total) < 0.6)
        add(seen, 5 + own[whose[seen], i])
    other = np.flatnonzero(rng.random(total) < 0.3)
    add(other, 5 + np.minimum(rng.geometric(0.12, other.size) - 1, N_CODES - 1))
    last = np.cumsum(counts) - 1
    add(last[(rng.random(n) < 1 / (1 + np.exp(2 - 2 * ill)))], 4)
    visit, code, value = (np.concatenate(part) for part in zip(*columns, strict=True))
    start = np.datetime64("2015-01-01", "us")
    time = start + day[visit].astype(np.int64) * DAY
    length = np.where(
        code == 1, 1 + np.rint(rng.exponential(4, code.size) * np.exp(0.3 * ill[whose[visit]])), 0
    )
    end = np.where(code == 1, time + length.astype(np.int64) * DAY, np.datetime64("NaT"))
    return Events.of(SCHEMA, static, whose[visit], time, code, value, end=end, visit=place[visit])
