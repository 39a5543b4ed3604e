"""Seconds that judging takes, by metric: every call, the floor, the ceiling and the planted leaks.

usage: python benchmarks/judging.py [quick|full] [25k|100k]   (both and both if not given)

The rows are those of Diabetes 130-US (Strack et al., BioMed Research International 2014), 25,000
of 15 columns and 100,000 of 50, if the folder MANIKIN_DATA has them, and made up otherwise. The
synthetic rows are drawn from table/marginals: what a judge costs hardly depends on who is judged.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import polars as pl

from manikin import catalogue
from manikin.data.dataset import split_subjects
from manikin.data.schema import with_roles
from manikin.data.table import Table
from manikin.judging import judge_all
from manikin.metrics.score import Score, Trial

NARROW = (
    "race gender age admission_type_id discharge_disposition_id time_in_hospital "
    "num_lab_procedures num_procedures num_medications number_outpatient number_emergency "
    "number_inpatient number_diagnoses insulin readmitted"
).split()
SIZES = {"25k": (25_000, 15), "100k": (100_000, 50)}
TARGETS = {("quick", "25k"): 10.0, ("full", "25k"): 60.0, ("full", "100k"): 300.0}


def source(rows: int, columns: int) -> pl.DataFrame:
    """Return the rows of the hospital data, or made-up ones of the same size."""
    path = Path(os.environ.get("MANIKIN_DATA", "data")) / "diabetes130" / "diabetic_data.csv"
    if path.is_file():
        frame = pl.read_csv(path, infer_schema_length=None, null_values="?").head(rows)
        return frame.select(NARROW) if columns == 15 else frame
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {"readmitted": rng.choice(["NO", ">30", "<30"], rows)}
    for i in range(columns - 1):
        number = np.round(rng.gamma(2, 5, rows), 1)
        made[f"c{i}"] = number if i % 3 else rng.choice([f"level {k}" for k in range(12)], rows)
    return pl.DataFrame(made)


def prepared(size: str) -> Trial[Table]:
    """Return a trial of that size: 70 % to learn from, as many subjects drawn as there are."""
    rows, columns = SIZES[size]
    found = Table.from_frame(source(rows, columns))
    known = {c.name for c in found.schema.learned}
    schema = with_roles(
        found.schema,
        target="readmitted",
        quasi_identifiers=tuple(n for n in ("age", "gender", "c1", "c2") if n in known),
        sensitive=tuple(n for n in ("race", "c3") if n in known),
    )
    table = Table(schema, found.subjects, found.columns, found.states)
    train, held = split_subjects(table, (0.7, 0.3), seed=0)
    model = catalogue.build("table/marginals").fit(train, seed=0)
    return Trial(train, held, model.sample(table.n_subjects, seed=0))


def main(*words: str) -> None:
    """Measure the profiles and sizes that are named, or all."""
    profiles = [w for w in words if w in ("quick", "full")] or ["quick", "full"]
    sizes = [w for w in words if w in SIZES] or list(SIZES)
    for size in sizes:
        trial = prepared(size)
        for profile in profiles:
            measure(profile, size, trial)


def measure(profile: str, size: str, trial: Trial[Table]) -> None:
    """Print the seconds of every metric and of all together, as a run spends them."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, metric: Any) -> Any:
        def called(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
            begun = time.perf_counter()
            try:
                found: tuple[Score, ...] = metric(trial, seed=seed)
            finally:
                spent[name].append(time.perf_counter() - begun)
            return found

        return called

    loaded = catalogue.metrics(catalogue.in_profile(profile))
    begun, cpu = time.perf_counter(), time.process_time()
    judge_all(trial, {name: timed(name, m) for name, m in loaded.items()}, seed=0)
    total, worked = time.perf_counter() - begun, time.process_time() - cpu
    print(f"\n{profile}, {size}: {total:.1f} s, {worked:.1f} s of processors, load average "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    for name, calls in sorted(spent.items(), key=lambda item: -sum(item[1])):
        print(f"  {sum(calls):7.2f} s  {len(calls)} calls  {max(calls):6.2f} s longest  {name}")
    target = TARGETS.get((profile, size))
    if target is not None:
        print(f"  target {target:.0f} s: {'met' if total <= target else 'not met'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
