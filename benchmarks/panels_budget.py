"""Panels under a budget: `events/panel` at several ε beside itself without one, floor and ceiling.

Half of the subjects is learnt from, the other half judged by, as in panels.py, on two sets of data:
made-up visits of 4,000 subjects, and the vital signs of the CDISC pilot study. Bounds of numbers
are declared from what instruments can show. Writes its parts of docs/histories.md. Some minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import numpy as np
import panels
from pages import put_table
from panels_data import made_up, pilot
from panels_makers import apart
from scipy.stats import ks_2samp

from manikin import catalogue
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.privacy.budget import Budget

BOUNDS = {"VS/DIABP": (20, 160), "VS/PULSE": (20, 220), "VS/SYSBP": (50, 260),
          "VS/TEMP": (32, 43), "VS/WEIGHT": (25, 250)}  # fmt: skip
MADE_UP = (0, 200)  # of the made-up channels
AGES = (18, 100)
SETS: dict[str, Callable[[], Events]] = {
    "made-up panel": lambda: made_up(4000), "CDISC pilot": pilot,
}  # fmt: skip
EPSILONS = (1.0, 3.0, 10.0, np.inf)


def declared(events: Events) -> Events:
    """Return the same histories under a declared schema."""
    codes = []
    for code in events.schema.codes:
        low, high = BOUNDS.get(code.name, MADE_UP)
        codes.append(dataclasses.replace(code, minimum=low, maximum=high))
    ages = {"minimum": AGES[0], "maximum": AGES[1]}
    columns = tuple(dataclasses.replace(c, **ages) if c.is_numeric else c
                    for c in events.schema.static.columns)  # fmt: skip
    static = dataclasses.replace(events.schema.static, columns=columns, declared=True)
    own = Table(static, events.static.subjects, events.static.columns, events.static.states)
    schema = dataclasses.replace(events.schema, static=static, codes=tuple(codes), declared=True)
    return dataclasses.replace(events, schema=schema, static=own)


def scores(held: Events, drawn: Events, seed: int) -> tuple[float, ...]:
    """Return area, lag-1 error and distance; a channel that nobody drew is as far as can be."""
    area = panels.told_apart(panels.summaries(held), panels.summaries(drawn), seed)
    lag = float(np.abs(panels.lag_one(held) - panels.lag_one(drawn)).mean())
    apart = [
        ks_2samp(held.value[held.code == j], drawn.value[drawn.code == j], method="asymp").statistic
        if (drawn.code == j).any() else 1.0
        for j in range(len(held.schema))
    ]  # fmt: skip
    return area, lag, float(np.mean(apart))


def drawn_by(train: Events, epsilon: float, n: int, seed: int) -> Events:
    """Fit within a budget, or without one, and draw."""
    table = "table/mst" if np.isfinite(epsilon) else "table/seqtree"
    money = Budget(epsilon) if np.isfinite(epsilon) else None
    model = catalogue.build("events/panel", {"table": table}).fit(train, seed=seed, budget=money)
    return panels.aligned(model.sample(n, seed=seed), train.schema)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    given = parser.parse_args()
    for name in given.data:
        events = declared(SETS[name]())
        found: dict[str, list[tuple[float, ...]]] = {}
        for seed in range(given.seeds):
            order = generator(seed, "panel split").permutation(events.subjects)
            half = order.size // 2
            train, held = (events.take(np.sort(part)) for part in (order[:half], order[half:]))
            for epsilon in EPSILONS:
                title = f"ε = {epsilon:g}" if np.isfinite(epsilon) else "without a budget"
                one = scores(held, drawn_by(train, epsilon, held.n_subjects, seed), seed)
                found.setdefault(title, []).append(one)
                print(name, title, seed, *(f"{score:.3f}" for score in one), flush=True)
            loose = apart(train, held.n_subjects, seed)
            beside = {"independent visits (floor)": loose, "the training half (ceiling)": train}
            for title, other in beside.items():
                found.setdefault(title, []).append(scores(held, other, seed))
        rows = {}
        for title, runs in found.items():
            mean, off = np.array(runs).mean(0), np.array(runs).std(0)
            cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, off, strict=True))
            rows[title] = dict(zip(panels.SCORES, cells, strict=True)) | {
                "splits": str(len(runs)),
                "measured": time.strftime("%Y-%m-%d"),
            }
        if not given.print_only:
            above = (
                f"### Under a budget: {name}, {events.n_subjects // 2:,} subjects learnt from\n\n"
                "`events/panel`, δ = 10⁻⁶, static facts by `table/mst`; noise differs from run to"
                " run, and no seed repeats it."
            )
            columns = (*panels.SCORES, "splits", "measured")
            put_table(panels.PAGE, f"panels_budget.py {name}", "## Panels", above, columns, rows)


if __name__ == "__main__":
    main()
