"""How fast the doors of histories are: rows out and in a second, beside a plain Parquet file.

    python benchmarks/doors.py --events 2000000

The floor is a Parquet file of the same columns, written by polars, with no form that anybody
else's program knows; the peer is pandas into SQLite with the same fields, on a tenth of the rows.
Every cell is the best of the repeats: events a second by the clock and, behind a stroke, by the
processor seconds of all threads, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from writing import grid

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.io import omop

EVENTS_PER_SUBJECT = 50
VISITS_PER_SUBJECT = 8
SHARES = {"condition": 0.15, "drug": 0.15, "procedure": 0.05, "measurement": 0.5,
          "observation": 0.15}  # fmt: skip


def histories(n_subjects: int, seed: int = 0) -> Events:
    """Draw histories of about 50 events at 8 visits, with 600 codes and their numbers."""
    rng = generator(seed, "doors")
    codes = [Code("Visit/IP", "visit", concept=9201), Code("Visit/OP", "visit", concept=9202)]
    for domain, share in SHARES.items():
        codes += [
            Code(f"LOCAL/{domain}-{k}", domain, numeric=domain == "measurement", decimals=1,
                 unit="mg/dL" if domain == "measurement" else "",
                 concept=5_000_000 + len(codes) + k)
            for k in range(int(600 * share))
        ]  # fmt: skip
    static = TableSchema(
        (
            Column("sex", "categorical", categories=("female", "male"), dtype="String"),
            Column("birth", "datetime", date_format="%Y-%m-%d", dtype="Date"),
        )
    )
    schema = EventSchema(static, tuple(codes), birth="birth", sex="sex", clock="minute")
    n = n_subjects * EVENTS_PER_SUBJECT
    whose = np.repeat(np.arange(n_subjects), EVENTS_PER_SUBJECT)
    within = np.tile(np.arange(EVENTS_PER_SUBJECT), n_subjects)
    is_visit = within < VISITS_PER_SUBJECT
    visit = np.where(is_visit, within, rng.integers(0, VISITS_PER_SUBJECT, n))
    start = rng.integers(0, 10 * 365 * 1440, (n_subjects, VISITS_PER_SUBJECT)).astype(np.int64)
    minutes = start[whose, visit] + np.where(is_visit, 0, rng.integers(0, 300, n))
    time_of = np.datetime64("2010-01-01", "us") + minutes * np.timedelta64(60_000_000, "us")
    code = np.where(is_visit, rng.integers(0, 2, n), rng.integers(2, len(codes), n))
    measured = np.array([code.numeric for code in codes])[code]
    value = np.where(measured, rng.normal(100, 20, n).round(1), np.nan)
    end = np.where(is_visit, time_of + np.timedelta64(6, "h"), np.datetime64("NaT", "us"))
    births = np.datetime64("1940-01-01", "us") + rng.integers(0, 20_000, n_subjects) * (
        np.timedelta64(86_400_000_000, "us")
    )
    table = Table(
        static,
        np.arange(n_subjects),
        {"sex": rng.integers(0, 2, n_subjects).astype(np.int32), "birth": births},
    )
    return Events.of(schema, table, whose, time_of, code, value, None, end, visit)


def frame_of(events: Events) -> pl.DataFrame:
    """Return the columns of events as a frame, codes by their names."""
    names = pl.Series([code.name for code in events.schema.codes])
    return pl.DataFrame(
        {
            "subject": events.subjects[events.whose], "time": events.time,
            "code": names.gather(events.code), "value": events.value, "end": events.end,
            "visit": events.visit,
        }
    )  # fmt: skip


def pandas_sqlite(events: Events, out: Path) -> None:
    """Write measurements' columns the common way: a data frame's `to_sql`."""
    with sqlite3.connect(out) as connection:
        frame_of(events).to_pandas().to_sql("measurement", connection, index=False)
    connection.close()


def in_blocks(events: Events, subjects: int = 20_000) -> list[Events]:
    """Cut histories into blocks, as a model draws them."""
    starts = range(0, events.n_subjects, subjects)
    return [events.take(events.subjects[low : low + subjects]) for low in starts]


Seconds = tuple[float, float]  # by the clock, and of the processor


def best(work: Callable[[], object], repeats: int) -> Seconds:
    """Return the seconds of the quickest of several runs."""
    times, taken = [], []
    for _ in range(repeats):
        began, before = time.perf_counter(), time.process_time()
        work()
        times.append(time.perf_counter() - began)
        taken.append(time.process_time() - before)
    return min(times), min(taken)


def omop_rows(events: Events, folder: Path, repeats: int) -> list[list[str]]:
    """Time OMOP out and in, in each form."""
    blocks, rows = in_blocks(events), []
    for form in ("duckdb", "parquet", "csv", "sqlite"):
        few = form == "sqlite"
        part = blocks[:1] if few else blocks
        n = sum(block.n_events for block in part)
        out = folder / f"cdm-{form}"

        def write(part: list[Events] = part, out: Path = out, form: str = form) -> None:
            if out.is_dir():
                shutil.rmtree(out)
            omop.write(part, out, layout={"backend": form}, synthetic=True)

        def read(out: Path = out) -> None:
            assert omop.read(out).events.n_events > 0

        def stream(out: Path = out) -> None:
            assert sum(block.n_events for block in omop.stream(out)) > 0

        rows.append([f"OMOP CDM 5.4, {form}", f"{n:,}", rate(n, best(write, repeats)),
                     rate(n, best(read, repeats)), rate(n, best(stream, repeats))])  # fmt: skip
    return rows


def rate(n: int, seconds: Seconds) -> str:
    """Write rows a second in thousands, by the clock and by the processor."""
    return " / ".join(f"{n / each / 1e3:,.0f} k" for each in seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    from fhir_rows import fhir_rows  # which draws its histories here

    events = histories(asked.events // EVENTS_PER_SUBJECT)
    folder = Path(tempfile.mkdtemp(prefix="doors-"))
    try:
        n, few = events.n_events, in_blocks(events)[0]
        plain, peer = folder / "plain.parquet", folder / "peer.sqlite"
        out = best(lambda: frame_of(events).write_parquet(plain), asked.repeats)
        back = best(lambda: pl.read_parquet(plain), asked.repeats)
        by_pandas = best(lambda: pandas_sqlite(few, peer), 1)
        rows = [
            ["plain Parquet, six columns (what is possible)", f"{n:,}", rate(n, out),
             rate(n, back), "–"],
            *omop_rows(events, folder, asked.repeats),
            *fhir_rows(few, folder, asked.repeats),
            ["pandas `to_sql` into SQLite, six columns", f"{few.n_events:,}",
             rate(few.n_events, by_pandas), "–", "–"],
        ]  # fmt: skip
        print(grid(["door", "events", "written a second", "read a second", "streamed"], rows))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
