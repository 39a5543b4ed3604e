"""Histories of codes: `events/visits` on open records and on a cohort that is made up.

Half of the subjects is learned from, the other half judged by. Beside each score stand its floor
(independent visits) and its ceiling (the training half itself in place of drawn histories).
Prints, and writes docs/histories.md below its mark: some minutes. `--peer` names other engines.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import histories_data as data
import numpy as np

from manikin import catalogue
from manikin.data.codes import EventSchema
from manikin.data.dataset import split_subjects
from manikin.data.events import Events
from manikin.metrics.judge import judge
from manikin.metrics.score import Score, Trial

PAGE = Path(__file__).parents[1] / "docs" / "histories.md"
MARK = "<!-- What follows is written by: python benchmarks/histories.py -->"
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


def measure(
    events: Events, name: str, wanted: dict[str, str], seed: int
) -> tuple[dict[str, Score], float]:
    """Return scores, and the seconds of one processor that fit and sample took."""
    train, held = split_subjects(events, (0.5, 0.5), seed=seed)
    recipe = catalogue.build(name)
    started = time.process_time()
    model = recipe.fit(train, seed=seed)
    drawn = model.sample(train.n_subjects, seed=seed + 1)
    seconds = time.process_time() - started
    chosen = tuple(dict.fromkeys(metric.partition(".")[0] for metric in wanted))
    scores = judge(Trial(train, held, drawn), catalogue.metrics(chosen), seed=seed)
    return {s.metric: s for s in scores if s.group == "all"}, seconds


def table(events: Events, makers: list[str], wanted: dict[str, str], seeds: list[int]) -> list[str]:
    """Return the lines of a data set's table."""
    lines = ["| | " + " | ".join(wanted.values()) + " | seconds |",
             "|---" * (len(wanted) + 2) + "|"]  # fmt: skip
    beside: dict[str, list[tuple[float, float]]] = {metric: [] for metric in wanted}
    for maker in makers:
        runs = [measure(events, maker, wanted, seed) for seed in seeds]
        cells = []
        for metric in wanted:
            found = [run[0][metric] for run in runs if metric in run[0]]
            cells.append(_shown([s.value for s in found], [s.interval for s in found]))
            beside[metric] += [(_number(s.floor), _number(s.ceiling)) for s in found]
        seconds = float(np.mean([run[1] for run in runs]))
        lines.append(f"| {maker} | {' | '.join(cells)} | {seconds:.1f} |")
    for place, what in enumerate(("floor", "ceiling")):
        cells = [_mean([pair[place] for pair in beside[metric]]) for metric in wanted]
        lines.append(f"| *{what}* | {' | '.join(cells)} | |")
    return [*lines, ""]


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


def speeds(subjects: list[int]) -> list[str]:
    """Return the table of seconds and memory, each size in a process of its own."""
    lines = ["| subjects | events | fit, s | sample as many, s | memory, MB |", "|---" * 5 + "|"]
    for n in subjects:
        found = subprocess.run([sys.executable, __file__, "--speed-of", str(n)], check=True,
                               capture_output=True, text=True)  # fmt: skip
        events, fit, sample, most = (float(cell) for cell in found.stdout.split())
        lines.append(f"| {n:,} | {events:,.0f} | {fit:.1f} | {sample:.1f} | {most:,.0f} |")
    return [*lines, ""]


def main() -> None:
    """Measure, print, and rewrite the page's last part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--peer", nargs="*", default=[], help="other engines, events/…")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000, 10_000])
    parser.add_argument("--care", type=int, default=4000, help="stays of PhysioNet 2012; 0: none")
    parser.add_argument("--speed-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    given = parser.parse_args()
    if given.speed_of:
        print(*speed(given.speed_of, 7.0))
        return
    makers = ["events/visits", *given.peer]
    lines = [MARK, "", "## Codes", ""]
    for name in given.data:
        events = SETS[name]()
        found = [f"**{name}**: {sizes(events)}.", "", *table(events, makers, CODES, given.seeds)]
        print("\n".join(found), flush=True)
        lines += found
    if given.care:
        events = data.physionet(given.care)
        found = ["## Death in intensive care", "", f"**PhysioNet 2012**: {sizes(events)}.", "",
                 *table(events, makers, CARE, given.seeds[:1])]  # fmt: skip
        print("\n".join(found), flush=True)
        lines += found
    if given.sizes:
        found = ["## Seconds and memory", "", *speeds(given.sizes)]
        print("\n".join(found), flush=True)
        lines += found
    if not given.print_only:
        text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        PAGE.write_text(text.rstrip() + "\n\n" + "\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
