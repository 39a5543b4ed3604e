"""Write docs/conditioning.md: seconds that 10⁵ rows under three conditions take, by family.

python benchmarks/conditioning.py [table/seqtree …]

Every family that takes conditions is fitted, with its defaults, to the first half of the German
Breast Cancer Study Group 2 table (it comes with lifelines) and asked for 100,000 patients of whom
three columns are fixed. Seconds are those of the processor, of one thread: other work on the
machine does not count. Beside them stand the share of rows that hold all three, and what
drawing and rejecting would take: the family's own seconds for as many rows without conditions,
divided by the share of held-out patients for whom the conditions hold.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
from experiments import EXPERIMENTS, data_root, split
from writing import grid, number

import manikin as mk
from manikin import catalogue
from manikin.data.table import Table
from manikin.errors import ManikinError
from manikin.knowledge.conditions import all_hold, parse_conditions
from manikin.synthesizer import Conditional

ROWS, MOST_SECONDS = 100_000, 5.0
WHERE = "horTh=yes, menostat=Post, tgrade=II"
DOCUMENT = Path(__file__).parents[1] / "docs" / "conditioning.md"


def main(*names: str) -> None:
    """Measure the families named, or all; write the page when it was all."""
    train, held = halves()
    where = parse_conditions(WHERE, train.schema)
    share = float(all_hold(where, held).mean())
    rows = []
    for name in names or catalogue.installed("table/"):
        row = measured(name, train, where, share)
        print(" | ".join(row), flush=True)
        rows.append(row)
    page = f"""# Conditions

{ROWS:,} patients with `{WHERE}` fixed, processor seconds of one thread, on
the half of GBSG2 that each family was fitted to; {100 * share:.0f} % of the held-out patients are
such. Asked for: at most {MOST_SECONDS:g} s, and nothing drawn to be thrown away. Written by
`python benchmarks/conditioning.py`.

"""
    headers = ["family", "rows that hold, %", "s", "drawing and rejecting, s", "within"]
    if not names:
        DOCUMENT.write_text(page + grid(headers, rows) + "\n", encoding="utf-8")
        print(f"wrote {DOCUMENT}")


def halves() -> tuple[Table, Table]:
    """Return both halves of the table under one schema."""
    import pandas as pd

    experiment = next(e for e in EXPERIMENTS if e.name == "gbsg2")
    half = split(experiment, experiment.load(data_root()), 0)
    whole = mk.read(
        pd.concat([half.train, half.holdout], ignore_index=True).replace("", None),
        time=experiment.time, event=experiment.target,
    )  # fmt: skip
    n = len(half.train)
    return whole.rows(list(range(n))), whole.rows(list(range(n, whole.n_rows)))


def measured(name: str, train: Table, where: tuple, share: float) -> list[str]:
    """Return a row: how many hold, the seconds, and what rejection would have taken."""
    model = catalogue.build(name).fit(train, seed=0)
    if not isinstance(model, Conditional):
        return [f"`{name}`", "–", "–", "–", "takes none"]
    model.sample_where(100, where, seed=0)  # what is only made once
    begun = time.process_time()
    try:
        drawn = model.sample_where(ROWS, where, seed=1)
    except ManikinError as error:
        return [f"`{name}`", "–", "–", "–", type(error).__name__]
    seconds = time.process_time() - begun
    begun = time.process_time()
    model.sample(ROWS, seed=1)
    rejecting = (time.process_time() - begun) / max(share, 1e-9)
    holds = 100 * float(np.mean(all_hold(where, drawn)))
    met = "yes" if seconds <= MOST_SECONDS and holds == 100 else "**no**"
    return [f"`{name}`", number(holds, 1), number(seconds, 1), number(rejecting, 1), met]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
