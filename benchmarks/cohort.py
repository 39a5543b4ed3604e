"""Linked tables: `cohort/linked` against tables drawn apart and hung on each other at random.

Half of the subjects is learned from, the other half judged by. Beside the scores stand their floor
(columns permuted, keys at random) and their ceiling (the training half itself in place of drawn
rows). Prints, and writes the part of docs/cohorts.md below its mark: some minutes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from manikin import catalogue
from manikin.data.cohort import Cohort, counts
from manikin.data.dataset import split_subjects
from manikin.data.linking import link_frames
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.io.tables import open_cells
from manikin.metrics.judge import judge
from manikin.metrics.score import Trial

DATA = Path(os.environ.get("MANIKIN_DATA", "data"))
PAGE = Path(__file__).parents[1] / "docs" / "cohorts.md"
MARK = "<!-- What follows is written by: python benchmarks/cohort.py -->"
MAKERS = {
    "linked, table/seqtree": ("cohort/linked", "table/seqtree"),
    "linked, table/copula": ("cohort/linked", "table/copula"),
    "each by itself, table/seqtree": ("", "table/seqtree"),
}
SHOWN = {  # score → its title
    "validity/referential": "integrity",
    "fidelity/cardinality.counts": "counts",
    "fidelity/cardinality.dependence": "dependence",
    "fidelity/cross_table.pairs": "pairs",
    "fidelity/cross_table.succession": "succession",
    "fidelity/cross_table.score": "detection",
}


def mimic() -> Cohort:
    """Patients, admissions, stays in intensive care, services and transfers: 100 patients."""
    names = ("patients", "admissions", "icustays", "services", "transfers")
    folder = DATA / "mimic3_demo"
    frames = {name: open_cells(folder / f"{name}.csv.gz")[0] for name in names}
    return link_frames(frames, typed=dict.fromkeys(names, False)).cohort


def pbc() -> Cohort:
    """The Mayo Clinic's trial in primary biliary cholangitis: 312 patients and their visits."""
    cells = open_cells(DATA / "survival_r" / "pbcseq.csv")[0].drop("rownames")
    own = ["id", "futime", "status", "trt", "age", "sex"]
    patients = cells.select(own).unique(subset="id", maintain_order=True)
    visits = cells.drop(own[1:])
    return _linked({"patients": patients, "visits": visits}, "visits.id=patients.id")


def nafld(n: int = 2000) -> Cohort:
    """A random 2,000 of the subjects of a study of fatty liver, and the events of each."""
    folder = DATA / "survival_r"
    patients = open_cells(folder / "nafld1.csv")[0].drop("rownames", "case.id")
    events = open_cells(folder / "nafld3.csv")[0].drop("rownames")
    chosen = generator(0, "nafld").choice(patients.height, n, replace=False)
    patients = patients[np.sort(chosen)]
    events = events.filter(pl.col("id").is_in(patients["id"].implode()))
    return _linked({"patients": patients, "events": events}, "events.id=patients.id")


def _linked(frames: dict[str, pl.DataFrame], link: str) -> Cohort:
    return link_frames(frames, [link], typed=dict.fromkeys(frames, False)).cohort


SETS: dict[str, Callable[[], Cohort]] = {"mimic3_demo": mimic, "pbcseq": pbc, "nafld": nafld}


def apart(train: Cohort, table: str, seed: int) -> Cohort:
    """Return as many rows of every table, each drawn by itself, hung on each other at random."""
    recipe = catalogue.build(table)
    tree = train.schema.tree
    parts: dict[str, Table] = {}
    above: dict[str, np.ndarray] = {}
    for name in tree.order:
        real = train.parts[name]
        rows = np.arange(real.n_rows)
        model = recipe.fit(Table(real.schema, rows, real.columns, real.states), seed=seed)
        drawn = model.sample(real.n_rows, seed=seed + 1)
        parts[name] = Table(real.schema, drawn.subjects, drawn.columns, drawn.states)
        if name != tree.root:
            n = train.parts[tree.up[name].parent].n_rows
            above[name] = generator(seed, f"keys {name}").integers(0, n, real.n_rows)
    return Cohort.of(train.schema, parts, above)


def measure(cohort: Cohort, maker: str, seed: int) -> tuple[dict[str, tuple[float, ...]], float]:
    """Return value, floor and ceiling of every score, and the CPU seconds of fit and sample."""
    train, held = split_subjects(cohort, (0.5, 0.5), seed=seed)
    how, table = MAKERS[maker]
    started = time.process_time()
    if how:
        model = catalogue.build(how, {"table": table}).fit(train, seed=seed)
        drawn = model.sample(train.n_subjects, seed=seed + 1)
        drawn = Cohort.of(  # under the schema that the judge knows
            train.schema,
            {n: Table(train.schema.parts[n], t.subjects, t.columns, t.states)
             for n, t in drawn.parts.items()},
            drawn.above,
        )  # fmt: skip
    else:
        drawn = apart(train, table, seed)
    seconds = time.process_time() - started
    metrics = catalogue.metrics(tuple(dict.fromkeys(name.partition(".")[0] for name in SHOWN)))
    scores = judge(Trial(train, held, drawn), metrics, seed=seed)
    found = {
        score.metric: (score.value, score.floor or 0.0, score.ceiling or 0.0)
        for score in scores
        if score.group == "all" and score.metric in SHOWN
    }
    return found, seconds


def rows_of(name: str, seeds: list[int]) -> list[str]:
    """Return the lines of a data set's table."""
    cohort = SETS[name]()
    sizes = ", ".join(f"{table} {part.n_rows:,}" for table, part in cohort.parts.items())
    most = max(int(counts(cohort, child).max()) for child in cohort.above)
    lines = [f"**{name}**: {sizes} rows; at most {most} rows below one.", "",
             "| | " + " | ".join(SHOWN.values()) + " | seconds |",
             "|---" * (len(SHOWN) + 2) + "|"]  # fmt: skip
    beside: dict[str, list[tuple[float, ...]]] = {}
    for maker in MAKERS:
        runs = [measure(cohort, maker, seed) for seed in seeds]
        told = [np.nanmean([run[0][metric][0] for run in runs]) for metric in SHOWN]
        seconds = float(np.mean([run[1] for run in runs]))
        cells = " | ".join(f"{value:.3f}" for value in told)
        lines.append(f"| {maker} | {cells} | {seconds:.1f} |")
        for metric in SHOWN:
            beside.setdefault(metric, []).extend(run[0][metric][1:] for run in runs)
    for place, what in enumerate(("floor", "ceiling")):
        cells = " | ".join(f"{np.nanmean([b[place] for b in beside[m]]):.3f}" for m in SHOWN)
        lines.append(f"| *{what}* | {cells} | |")
    return [*lines, ""]


def main() -> None:
    """Measure, print, and rewrite the page's last part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=[*SETS], default=[*SETS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    given = parser.parse_args()
    lines = [
        MARK, "", "## Measured", "",
        f"Half of the subjects learned from, the other half judged by; means over the splits of"
        f" seeds {', '.join(map(str, given.seeds))}. Higher is better; chance keeps `counts` to"
        " `succession` below 1 even for real rows, so read them beside the ceiling, the training"
        " half itself. `detection` is of one row a patient; *each by itself* draws every table by"
        " its own model and keys at random. Seconds are of fit and sample, of one processor.", "",
    ]  # fmt: skip
    for name in given.data:
        found = rows_of(name, given.seeds)
        print("\n".join(found), flush=True)
        lines += found
    if not given.print_only:
        text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        PAGE.write_text(text.rstrip() + "\n\n" + "\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
