"""The page of the small tables, from what small.py measured."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from experiments import Experiment
from layout import CEILING
from writing import grid, number, spread

__all__ = ["write"]

FLOOR = "table/marginals"
RIGHT = "right model"  # what right_model.py says of as many rows and columns
SHOWN = 4  # of ours beside each peer, from the best detection down
MOST_NEAR = 0.55  # share of rows nearer to training rows that the issue allows
INTRODUCTION = """# Small tables

Clinical tables of fewer than 500 training rows: families of ours with their defaults beside peers
with theirs, on the same splits, half of the rows to learn from and half held out. Written by
`python benchmarks/small.py`; judges, processes and rounding are those of
[benchmarks.md](benchmarks.md).

- *detection*: 1 is not told from held-out rows by boosted trees (LightGBM, 5 folds), 0 always is.
  With 68 or 110 rows the judge has little to learn from: see the floor
- *nearer*: share of rows nearer to a training row than to a held-out one; .5: nothing is copied.
  In a split of few rows one half may be nearer to everything: *less floor* is what is left when
  the share of independent columns on the same split is taken off
- *W1*: Wasserstein-1 distance to held-out rows: the cheapest matching by city-block distance of
  min-max scaled numbers and halved one-hot categories (the measure that ForestFlow is published
  with: Jolicoeur-Martineau et al., AISTATS 2024), as a multiple of what fresh real rows reach
- *coverage*: share of held-out rows that have a drawn row nearer than their fifth real neighbour,
  by the same distance (Naeem et al., ICML 2020, whose k is 5; the script ForestFlow is published
  with arrives at k = 2 where no row occurs twice, so its .90 is on another scale)
- *TSTR gap*: what a model loses that learned from synthetic instead of real rows (AUC or C-index)
- *CPU s*: processor time to start, fit and draw as many rows, one thread, median of the tables

A table's figure is the mean of its seeds; ± is the 95 % Student interval over the tables, because
seeds of one table are not independent."""
REACHABLE = """How much of this is no copying: a normal population, and a normal distribution fitted
to as many rows and columns (`benchmarks/right_model.py`). It is wrong by nothing but what so few
rows leave unknown, and still nearer to those rows. *± of one split*: the deviation, from split to
split, of the share that the population itself reaches, whose mean is .5; three seeds leave 0.6 of
it."""
PUBLISHED = """ForestFlow's authors report, over 27 small UCI tables with 4/5 to learn from, a W1 to
test rows of 1.756 where training rows have 1.673 (1.05 times), a coverage of .901 (.908), and 518 s
a fit. Here it runs with its defaults (50 steps, 100 copies of each row) on the tables where it
finishes in 300 CPU s; two of its steps, timed alone, say what the others would take."""


def write(known: Mapping[str, Any], tables: Sequence[Experiment], root: Path) -> None:
    """Write docs/small.md."""
    small = Small(known, tables, root)
    parts = [INTRODUCTION, small.about(), "## All tables together", small.summary()]
    parts += ["## Ours less the peer, on the tables both have", small.differences()]
    for field, title, places in (
        ("detection", "Detection", 3), ("nearer", "Nearer to training rows", 3),
        ("w1", "Wasserstein distance to held-out rows", 3), ("coverage", "Coverage", 3),
    ):  # fmt: skip
        parts += [f"## {title}, table by table", small.by_table(field, places)]
        if field == "nearer":
            parts += [small.reachable()]
    parts += ["## Ahead of every peer, and at most .55 nearer", small.verdict()]
    parts += ["## ForestFlow", PUBLISHED, "## Not finished", small.unfinished()]
    notes = root / "benchmarks" / "small_notes.md"
    if notes.is_file():
        parts += [notes.read_text(encoding="utf-8").strip()]
    (root / "docs" / "small.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


class Small:
    """What was measured: method → table/seed → scores and costs."""

    def __init__(
        self, known: Mapping[str, Any], tables: Sequence[Experiment], root: Path | None = None
    ) -> None:
        self.root = root
        self.known, self.all = known, [t for t in tables if self._there(known, t.name)]
        self.tables = [table.name for table in self.all]
        named = [name for name in known if name.startswith("table/")]
        self.ours = sorted(named, key=lambda n: (n == FLOOR, -self.mean(n, "detection")))
        peers = [n for n in known if n not in named and n != CEILING and self.of(n, "detection")]
        self.peers = sorted(peers, key=lambda n: -self.mean(n, "detection"))

    @staticmethod
    def _there(known: Mapping[str, Any], name: str) -> bool:
        return any(where.startswith(f"{name}/") for where in known.get(CEILING, {}))

    def of(self, method: str, field: str) -> dict[str, float]:
        """Return the mean over seeds of a score, by table; W1 in units of fresh real rows'."""
        found: dict[str, list[float]] = {}
        for where, run in self.known.get(method, {}).items():
            what = field.removeprefix("relative ")
            value = run.get("scores", {}).get(what, math.nan)
            if math.isfinite(value):
                if what != field:
                    value /= self.known[CEILING][where]["scores"][what]
                found.setdefault(where.partition("/")[0], []).append(value)
        return {t: sum(found[t]) / len(found[t]) for t in self.tables if t in found}

    def mean(self, method: str, field: str) -> float:
        """Return the mean over tables of a score."""
        return spread(list(self.of(method, field).values()))[0]

    def seconds(self, method: str) -> float:
        """Return the median over runs of the processor time."""
        runs = self.known.get(method, {}).values()
        found = [run["cpu_seconds"] for run in runs if "cpu_seconds" in run]
        return median(found) if found else math.nan

    # -------------------------------------------------------------- the page

    def about(self) -> str:
        """Return the tables: rows to learn from, columns, seeds."""
        rows = []
        for table in self.all:
            runs = {w: r for w, r in self.known[CEILING].items() if w.startswith(f"{table.name}/")}
            one = next(iter(runs.values()))
            seeds = " ".join(sorted(where.partition("/")[2] for where in runs))
            rows.append([table.name, table.title, str(one["rows"]), str(one["columns"]), seeds])
        told = grid(["table", "what", "training rows", "columns", "seeds"], rows)
        if any(self.old(name) for name in self.ours):
            told += "\n\n†: the method's file has changed since."
        return told

    def summary(self) -> str:
        """Return a row a method: means over tables."""
        rows = []
        for method in (*self.ours, *self.peers, CEILING):
            row = [self.called(method), str(len(self.of(method, "detection")))]
            row += [str(sum("scores" in run for run in self.known[method].values()))]
            for field in ("detection", "nearer", "relative w1", "coverage", "gap"):
                row.append(_plus_minus(list(self.of(method, field).values())))
            mine, floor = self._paired(method, FLOOR, "nearer")
            row.insert(5, _plus_minus([mine[t] - floor[t] for t in mine]))
            rows.append([*row, number(self.seconds(method), 1)])
        headers = [
            "method",
            "tables",
            "runs",
            "detection",
            "nearer",
            "less floor",
            "W1",
            "coverage",
        ]
        return grid([*headers, "TSTR gap", "CPU s"], rows)

    def called(self, method: str) -> str:
        """Write a method's name; the floor and the ceiling say so."""
        if method == CEILING:
            return f"*{method}* (ceiling)"
        old = "†" if self.old(method) else ""
        return f"`{method}`{old} (floor)" if method == FLOOR else f"`{method}`{old}"

    def old(self, method: str) -> bool:
        """Tell whether a family's file has changed since it was measured."""
        path = (self.root or Path()) / "src" / "manikin" / "synthesizers" / f"{method}.py"
        if self.root is None or not path.is_file():
            return False
        now = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return any(run["made_of"] != now for run in self.known[method].values())

    def by_table(self, field: str, places: int) -> str:
        """Return the score of every method on every table."""
        rows = []
        for method in (*self.ours, *self.peers, CEILING):
            found = self.of(method, field)
            cells = [number(found.get(table, math.nan), places) for table in self.tables]
            rows.append([self.called(method), *cells])
        return grid(["method", *self.tables], rows)

    def reachable(self) -> str:
        """Return what a model of the right kind reaches with as few rows."""
        known = [self.of(RIGHT, field) for field in ("nearer", "deviation")]
        rows = [
            [told, *(number(found.get(table, math.nan)) for table in self.tables)]
            for told, found in zip(("nearer", "± of one split"), known, strict=True)
        ]
        return REACHABLE + "\n\n" + grid(["a right model", *self.tables], rows)

    def differences(self) -> str:
        """Return ours less the peer's, paired by table, and on how many tables ours is ahead."""
        rows = []
        for ours in self.ours[:SHOWN]:
            for peer in self.peers:
                row = [f"`{ours}`", f"`{peer}`"]
                for field, sign in (("detection", 1), ("relative w1", -1), ("coverage", 1)):
                    mine, theirs = self._paired(ours, peer, field)
                    gaps = [mine[t] - theirs[t] for t in mine]
                    ahead = sum(sign * gap > 0 for gap in gaps)
                    row.append(f"{_plus_minus(gaps)}, {ahead} / {len(gaps)}")
                rows.append(row)
        table = grid(["ours", "peer", "detection", "W1", "coverage"], rows)
        return f"{table}\n\nOf W1, less is better; a count is of tables on which ours is ahead."

    def _paired(self, ours: str, peer: str, field: str) -> tuple[dict[str, float], ...]:
        """Return both methods' scores by table, from the seeds that both finished."""
        runs = [self.known.get(name, {}) for name in (ours, peer)]
        both = [w for w in runs[0] if all("scores" in part.get(w, {}) for part in runs)]
        kept = {name: {w: self.known[name][w] for w in both} for name in (CEILING, ours, peer)}
        found = Small(kept, self.all) if both else None
        return tuple(found.of(name, field) if found else {} for name in (ours, peer))

    def verdict(self) -> str:
        """Return, by table, the best of ours with few rows nearer, and the best peer."""
        rows, reached, right = [], 0, 0
        for table in self.tables:
            everyone = {p: self.of(p, "detection") for p in self.peers}
            rivals = {p: found[table] for p, found in everyone.items() if table in found}
            if not rivals:
                continue
            peer = max(rivals, key=rivals.__getitem__)
            near = {n: self.of(n, "nearer").get(table, 1.0) for n in self.ours}
            calm = [name for name in self.ours if near[name] <= MOST_NEAR]
            row = [table]
            found = {n: self.of(n, "detection").get(table, -1.0) for n in self.ours}
            for among in (self.ours, calm):
                best = max(among, key=found.__getitem__, default="")
                row += [f"`{best}`", number(found[best]), number(near[best])] if best else ["–"] * 3
            reached += bool(calm) and max(found[n] for n in calm) > rivals[peer]
            bound = max(MOST_NEAR, self.of(RIGHT, "nearer").get(table, 0.0))
            right += any(found[n] > rivals[peer] for n in self.ours if near[n] <= bound)
            theirs = self.of(peer, "nearer").get(table, math.nan)
            rows.append([*row, f"`{peer}`", number(rivals[peer]), number(theirs)])
        headers = ["table", "best of ours", "detection", "nearer", "best at ≤ .55", "detection"]
        table = grid([*headers, "nearer", "best peer", "detection", "nearer"], rows)
        said = (
            f"On {reached} of {len(rows)} tables one of ours at ≤ .55 is ahead of every peer; on "
            f"{right} where as much is allowed as a right model of so few rows has, if more."
        )
        return f"{table}\n\n{said}"

    def unfinished(self) -> str:
        """Return the runs that failed, with the reason."""
        lines = [
            f"- `{method}`, {where.replace('/', ', seed ')}: {run['failure']}"
            for method in self.known
            for where, run in self.known[method].items()
            if run.get("failure")
        ]
        return "\n".join(lines) or "Nothing."


def _plus_minus(values: Sequence[float]) -> str:
    centre, half = spread(values)
    return number(centre) if math.isnan(half) else f"{number(centre)} ± {number(half)}"
