"""Histories of codes: engines on open records and on a cohort that is made up.

Half of the subjects is learned from, the other half judged by. Beside each score stand its floor
(independent visits) and its ceiling (the training half itself in place of drawn histories).
Prints, and writes its parts of docs/histories.md, of a part only the rows of `--engines`: some
minutes. `--data --care 4000 --sizes` measures the part of intensive care alone, `--data --care 0
--sizes --epsilon 1 3 10` what a privacy budget costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import histories_data as data
import numpy as np
from limits import at_most
from pages import Rows, put_table

from manikin import catalogue
from manikin.data.codes import EventSchema
from manikin.data.dataset import split_subjects
from manikin.data.events import Events
from manikin.data.table import Table
from manikin.metrics.judge import judge
from manikin.metrics.score import Score, Trial
from manikin.privacy.budget import Budget

PAGE = Path(__file__).parents[1] / "docs" / "histories.md"
SETS: dict[str, Callable[[], Events]] = {
    "courses, 1,000 patients": lambda: data.courses(2000),
    "courses, 10,000 patients": lambda: data.courses(20_000),
    "MIMIC-III demo": data.mimic,
}
CODES = {  # score → its title
    "fidelity/code_prevalence.unigram": "R² code",
    "fidelity/code_prevalence.in_visit": "R² in visit",
    "fidelity/code_prevalence.sequential": "R² next visit",
    "fidelity/rare_codes.recall": "rare codes",
    "fidelity/recurrence.again": "again",
    "fidelity/recurrence.new_share": "new",
    "fidelity/visit_times.ks": "times",
    "fidelity/history_detection.summaries": "detection",
    "validity/history_violations.per_1000": "violations",
}
CARE = {
    "utility/outcomes.target_tstr": "TSTR",
    "utility/outcomes.target_trtr": "TRTR",
    "utility/outcomes.target_gap": "gap",
    "fidelity/history_detection.summaries": "detection",
}
LAST = ("seconds", "splits", "measured")
FIRST = ("events/visits", "events/trajectory", "events/halo", "events/bags")
BESIDE = ("*floor*", "*ceiling*")
BUDGETED = "courses, 2,000 patients under a budget"
DELTA = 1e-6
LABORATORY = (20.0, 200.0)  # what anybody could declare
BORN = ("1900-01-01", "2019-12-31")
SPEEDS = ("events", "fit, s", "sample as many, s", "memory, MB", "measured")


def measure(
    events: Events, name: str, wanted: dict[str, str], seed: int, most_seconds: int,
    epsilon: float | None = None,
) -> tuple[dict[str, Score], float, str, float]:  # fmt: skip
    """Return scores, the seconds of one processor that fit and sample took, what failed, and how
    many events were drawn for each that was learned from.
    """
    train, held = split_subjects(events, (0.5, 0.5), seed=seed)
    budget = None if epsilon is None else Budget(epsilon, DELTA)
    recipe = catalogue.build(name, {} if budget is None else {"table": "table/mst"})
    started = time.process_time()
    try:
        with at_most(most_seconds):
            model = recipe.fit(train, seed=seed, budget=budget)
            drawn = model.sample(train.n_subjects, seed=seed + 1)
    except TimeoutError as error:
        return {}, time.process_time() - started, str(error), np.nan
    seconds = time.process_time() - started
    chosen = tuple(dict.fromkeys(metric.partition(".")[0] for metric in wanted))
    scores = judge(Trial(train, held, drawn), catalogue.metrics(chosen), seed=seed)
    found = {s.metric: s for s in scores if s.group == "all"}
    return found, seconds, "", drawn.n_events / max(train.n_events, 1)


def table(
    events: Events, makers: list[tuple[str, str, float | None]], wanted: dict[str, str],
    seeds: list[int], most_seconds: int,
) -> Rows:  # fmt: skip
    """Return the rows of a data set's table, floor and ceiling last; one that stops ends there.

    `makers` are the title of a row, the name of an engine, and its ε.
    """
    rows: dict[str, dict[str, str]] = {}
    beside: dict[str, list[tuple[float, float]]] = {metric: [] for metric in wanted}
    stamp = {"splits": str(len(seeds)), "measured": time.strftime("%Y-%m-%d")}
    for maker, name, epsilon in makers:
        runs = []
        for seed in seeds:
            runs.append(measure(events, name, wanted, seed, most_seconds, epsilon))
            if runs[-1][2]:
                break
        done = [run for run in runs if not run[2]]
        rows[maker] = {} if done else {next(iter(wanted.values())): runs[-1][2]}
        for metric, title in wanted.items() if done else ():
            found = [run[0][metric] for run in done if metric in run[0]]
            rows[maker][title] = _shown([s.value for s in found], [s.interval for s in found])
            beside[metric] += [(_number(s.floor), _number(s.ceiling)) for s in found]
        seconds = float(np.mean([run[1] for run in done or runs]))
        rows[maker]["events"] = f"{np.mean([run[3] for run in done or runs]):.2f}"
        rows[maker] |= {"seconds": f"{seconds:.1f}", **stamp, "splits": str(len(done))}
    for place, what in enumerate(BESIDE):
        if any(beside.values()):
            cells = {title: _mean([pair[place] for pair in beside[metric]])
                     for metric, title in wanted.items()}  # fmt: skip
            rows[what] = cells | stamp
    return rows


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _mean(values: list[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.3f}" if known else "–"


def _shown(values: list[float], intervals: list[tuple[float, float]]) -> str:
    if not any(np.isfinite(value) for value in values):
        return "–"
    low, high = (np.nanmean([one[i] for one in intervals]) for i in range(2))
    return f"{np.nanmean(values):.3f} [{low:.2f}, {high:.2f}]"


def plain(engines: list[str]) -> list[tuple[str, str, float | None]]:
    """Return engines without a budget, by their names."""
    return [(name, name, None) for name in engines]


def declared(events: Events) -> Events:
    """Return `courses` under a schema that says what nobody may read of the rows."""
    low, high = LABORATORY
    codes = tuple(dataclasses.replace(c, minimum=low, maximum=high, decimals=1) if c.numeric else c
                  for c in events.schema.codes)  # fmt: skip
    first, last = np.array(BORN, "datetime64[s]").astype(np.float64)
    columns = tuple(dataclasses.replace(c, minimum=float(first), maximum=float(last))
                    if c.name == "born" else c for c in events.schema.static.columns)  # fmt: skip
    static = dataclasses.replace(events.schema.static, columns=columns, declared=True)
    own = Table(static, events.static.subjects, events.static.columns, events.static.states)
    schema = dataclasses.replace(events.schema, static=static, codes=codes, declared=True)
    return dataclasses.replace(events, schema=schema, static=own)


def sizes(events: Events) -> str:
    """Return what a table's heading says of its data."""
    schema: EventSchema = events.schema
    return (f"{events.n_subjects:,} subjects, {events.n_events:,} events,"
            f" {len(schema):,} codes; half of the subjects is learned from")  # fmt: skip


def speed(n: int, mean_visits: float) -> tuple[int, float, float, float]:
    """Return events, seconds of one processor to fit and to sample, and megabytes at most."""
    events = data.courses(n, mean_visits=mean_visits)
    recipe = catalogue.build("events/visits")
    before = time.process_time()
    model = recipe.fit(events, seed=0)
    fitted = time.process_time()
    model.sample(n, seed=1)
    done = time.process_time()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return events.n_events, fitted - before, done - fitted, most


def speeds(subjects: list[int]) -> Rows:
    """Return the rows of seconds and memory, each size in a process of its own."""
    rows = {}
    for n in subjects:
        found = subprocess.run([sys.executable, __file__, "--speed-of", str(n)], check=True,
                               capture_output=True, text=True)  # fmt: skip
        events, fit, sample, most = (float(cell) for cell in found.stdout.split())
        cells = (f"{events:,.0f}", f"{fit:.1f}", f"{sample:.1f}", f"{most:,.0f}",
                 time.strftime("%Y-%m-%d"))  # fmt: skip
        rows[f"{n:,} subjects"] = dict(zip(SPEEDS, cells, strict=True))
    return rows


def main() -> None:
    """Measure, print, and rewrite what was measured of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--engines", nargs="+", default=["events/visits"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000, 10_000])
    parser.add_argument("--care", type=int, default=4000, help="stays of PhysioNet 2012; 0: none")
    parser.add_argument("--epsilon", nargs="*", type=float, default=[1, 3, 10])
    parser.add_argument("--most-seconds", type=int, default=300, help="of one fit and sample")
    parser.add_argument("--speed-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    given = parser.parse_args()
    if given.speed_of:
        print(*speed(given.speed_of, 7.0))
        return

    def show(part: str, under: str, above: str, columns: list[str], rows: Rows) -> None:
        print(
            above, *(f"{name} {dict(cells)}" for name, cells in rows.items()), sep="\n", flush=True
        )
        if not given.print_only:
            put_table(PAGE, f"histories.py {part}", under, above, columns, rows, first=FIRST,
                      last=BESIDE)  # fmt: skip

    for name in given.data:
        events = SETS[name]()
        rows = table(events, plain(given.engines), CODES, given.seeds, given.most_seconds)
        show(name, "## Codes", f"**{name}**: {sizes(events)}.", [*CODES.values(), *LAST], rows)
    if given.care:
        events = data.physionet(given.care)
        rows = table(events, plain(given.engines), CARE, given.seeds[:1], given.most_seconds)
        above = f"**PhysioNet 2012**: {sizes(events)}."
        show("care", "## Death in intensive care", above, [*CARE.values(), *LAST], rows)
    if given.epsilon:
        events = declared(data.courses(4000))
        makers = [(f"ε = {e:g}", "events/visits", e) for e in given.epsilon]
        makers.append(("without a budget", "events/visits", None))
        rows = table(events, makers, CODES, given.seeds, given.most_seconds)
        above = (
            f"**{BUDGETED}**: {sizes(events)}.\n\n`events/visits`, δ = 10⁻⁶, static facts by"
            " `table/mst`. *events*: drawn for each that was learned from. Noise differs from run"
            " to run. Floor and ceiling are not private."
        )
        show(BUDGETED, "## Under a budget", above, [*CODES.values(), "events", *LAST], rows)
    if given.sizes:
        show("sizes", "## Seconds and memory", "`events/visits` on `courses`.", [*SPEEDS],
             speeds(given.sizes))  # fmt: skip


if __name__ == "__main__":
    main()
