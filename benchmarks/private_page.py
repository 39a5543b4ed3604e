"""The page of the private methods, from what private.py measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from experiments import Experiment
from layout import CEILING
from writing import grid, mean, number, spread, student

__all__ = ["CEILING", "FLOOR", "FREE", "OURS", "write"]

OURS = ("table/aim", "table/mst")
FLOOR = "noisy columns"
FREE = "table/seqtree"
EPSILONS = ("1", "3")
PEERS = (
    "dpmm mst", "opendp mst", "smartnoise mst", "dpmm privbayes", "dpmm aim", "opendp aim",
    "smartnoise aim",
)  # fmt: skip
FIELDS = (
    ("two", "2-way error", 3, "less is better"),
    ("tenths", "2-way error, tenths", 3, "less is better"),
    ("one", "1-way error", 3, "less is better"),
    ("gap", "TSTR gap", 3, "less is better"),
    ("detection", "Detection", 3, "more is better"),
    ("cpu_seconds", "CPU seconds", 0, "imports included, one thread"),
)
INTRODUCTION = """# Under a privacy budget

`table/mst` and `table/aim` beside the same methods of three other packages, and networks that train
on clipped and noisy gradients (all other `table/` names with a budget), at ε = 1 and 3 with
δ = 1e-6, one row a subject, half of the rows to learn from and half held out. Written by
`python benchmarks/private.py`; splits and processes are those of [benchmarks.md](benchmarks.md).

Everyone is told the same beforehand: the categories of every column, bounds and decimals of every
number, and whether a cell may be empty. A person would declare these from what is publicly known;
here both halves of the table stand in for the person. All scores are against held-out rows:

- *2-way error*: mean over all pairs of columns of the total variation ½ Σ |p − q| of their joint
  table; numbers in 20 even bins between the public bounds, missing is a bin of its own. *Tenths*:
  the same with numbers cut at the training deciles, which sees what even bins of a skewed number
  do not. *1-way error*: the same of single columns
- *TSTR gap*: what a model loses that learned from synthetic instead of real rows (AUC or C-index)
- *detection*: 1 is not told from held-out rows by boosted trees (LightGBM, 5 folds), 0 always is

*noisy columns* (floor) spends the whole budget on single columns; `table/seqtree` has no budget,
and fresh real rows (ceiling) are the training half itself. Peers run with their defaults. OpenDP
and smartnoise need numbers in bins and are given the 20 even ones that the error is measured with;
within a bin their numbers are drawn evenly."""
LEAKS = """Noise of the same ε is not the same guarantee. What is read without being paid for,
where options leave no way round it:

- ours: nothing; rows are behind a guard that raises when they are read outside a paid release
- `dpmm`: how many rows there are (in PrivTree's threshold and its number of bins), and which
  columns hold a single value: they are taken out
- `opendp`: nothing was found; its random rounding of drawn rows comes after the release
- `smartnoise`: how many rows there are (`MST` fits to it); left to its default, which categories
  occur. `MST` chooses pairs by numpy's generator

`dpmm` and `smartnoise` let OpenDP draw noise around 0 and add it in floating point, so that what
OpenDP does for the safety of the sum is lost."""


def write(known: Mapping[str, Any], tables: Sequence[Experiment], root: Path) -> None:
    """Write docs/private.md."""
    page = Page(known, tables)
    parts = [INTRODUCTION, page.about()]
    for epsilon in EPSILONS:
        parts += [f"## ε = {epsilon}", page.summary(epsilon)]
        parts += ["### Ahead and behind", page.verdicts(epsilon), page.behind(epsilon)]
        parts += ["### Ours less the peer, paired by table and seed", page.differences(epsilon)]
        for field, title, places, better in FIELDS:
            parts += [f"### {title} ({better})", page.by_table(field, epsilon, places)]
    parts += ["## Time", page.speed(), "## What is read unpaid", LEAKS]
    parts += ["## Not finished", page.unfinished(), "## Not measured", page.unmeasured()]
    notes = root / "benchmarks" / "private_notes.md"
    if notes.is_file():
        parts += [notes.read_text(encoding="utf-8").strip()]
    (root / "docs" / "private.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


class Page:
    """What was measured: method → table/seed/ε → scores and costs."""

    def __init__(self, known: Mapping[str, Any], tables: Sequence[Experiment]) -> None:
        self.known = known
        ceiling = known.get(CEILING, {})
        self.all = [t for t in tables if any(w.startswith(f"{t.name}/") for w in ceiling)]
        self.tables = [table.name for table in self.all]
        named = [name for name in known if name not in (CEILING, "speed")]
        self.ours = [n for n in named if n in OURS]
        self.networks = sorted(
            n for n in named if n.startswith("table/") and n not in (*OURS, FREE)
        )
        self.peers = sorted(n for n in named if n not in (*OURS, *self.networks, FREE, FLOOR))

    def runs(self, method: str, epsilon: str) -> dict[str, Any]:
        """Return table/seed → run."""
        found = {}
        for where, run in self.known.get(method, {}).items():
            table, seed, *at = where.split("/")
            if method == CEILING or at in ([epsilon], ["0"]):
                found[f"{table}/{seed}"] = run
        return found

    def values(self, method: str, field: str, epsilon: str) -> dict[str, float]:
        """Return table/seed → score or cost."""
        found = {}
        for where, run in self.runs(method, epsilon).items():
            value = run.get("scores", {}).get(field, run.get(field, math.nan))
            if method == CEILING and field == "gap":
                value = 0.0
            if math.isfinite(value):
                found[where] = value
        return found

    def of(self, method: str, field: str, epsilon: str) -> dict[str, float]:
        """Return the mean over seeds, by table."""
        return _by_table(self.values(method, field, epsilon), self.tables)

    # -------------------------------------------------------------- the page

    def about(self) -> str:
        """Return the tables: rows to learn from, columns, seeds."""
        rows = []
        for table in self.all:
            ceiling = self.known[CEILING]
            runs = {w: r for w, r in ceiling.items() if w.startswith(f"{table.name}/")}
            one = next(iter(runs.values()))
            seeds = " ".join(sorted(where.partition("/")[2] for where in runs))
            rows.append([table.name, table.title, str(one["rows"]), str(one["columns"]), seeds])
        return grid(["table", "what", "training rows", "columns", "seeds"], rows)

    def summary(self, epsilon: str) -> str:
        """Return a row a method: means over tables, with intervals over tables."""
        rows = []
        for method in (*self.ours, *self.networks, *self.peers, FLOOR, FREE, CEILING):
            row = [_called(method), str(len(self.of(method, "two", epsilon)))]
            for field, _, places, _ in FIELDS[:-1]:
                row.append(mean(list(self.of(method, field, epsilon).values()), places))
            seconds = list(self.values(method, "cpu_seconds", epsilon).values())
            rows.append([*row, number(median(seconds), 0) if seconds else "–"])
        headers = ["method", "tables", *(title for _, title, _, _ in FIELDS[:-1]), "CPU s"]
        told = (
            "Means over the tables that a method finished, ± the 95 % Student interval over them."
        )
        return f"{grid(headers, rows)}\n\n{told}"

    def differences(self, epsilon: str) -> str:
        """Return ours less the peer's on the splits that both finished."""
        rows = []
        for ours in self.ours:
            for peer in (*self.peers, FLOOR):
                row = [f"`{ours}`", _called(peer)]
                for field, sign in (("two", 1), ("tenths", 1), ("gap", 1), ("detection", -1)):
                    mine, theirs = (self.values(m, field, epsilon) for m in (ours, peer))
                    gaps = {w: sign * (mine[w] - theirs[w]) for w in mine if w in theirs}
                    tables = _by_table(gaps, self.tables)
                    ahead = sum(gap < 0 for gap in tables.values())
                    signed = [sign * gap for gap in tables.values()]
                    row.append(f"{mean(signed)}, {ahead} / {len(tables)}" if tables else "–")
                rows.append(row)
        table = grid(["ours", "peer", "2-way", "tenths", "TSTR gap", "detection"], rows)
        return (
            f"{table}\n\nA count is of tables on which ours is ahead, ± the interval over tables."
        )

    def verdicts(self, epsilon: str) -> str:
        """Return on how many tables ours is ahead of a peer or behind, by the interval."""
        rows = []
        for ours in self.ours:
            for peer in (*self.peers, FLOOR):
                row = [f"`{ours}`", _called(peer)]
                for field in ("two", "gap"):
                    every = [self._ahead(ours, peer, field, epsilon, t) for t in self.tables]
                    found = [one for one in every if one is not None]
                    counts = [sum(one == way for one in found) for way in (1, 0, -1)]
                    row.append(" / ".join(map(str, counts)) if found else "–")
                rows.append(row)
        told = (
            "Tables on which ours is ahead / neither / behind, by the 95 % interval. The noise of"
            " one run is the spread of ours over seeds, both methods of a table pooled, and taken"
            " to be the peer's too; where ours has one seed, nothing is decided."
        )
        return f"{grid(['ours', 'peer', '2-way', 'TSTR gap'], rows)}\n\n{told}"

    def _ahead(self, ours: str, peer: str, field: str, epsilon: str, table: str) -> int | None:
        """Return 1 where ours is surely better (less), -1 where it is worse, None unmeasured."""
        mine, theirs = (self._seeds(m, field, epsilon, table) for m in (ours, peer))
        if not mine or not theirs:
            return None
        runs = [self._seeds(method, field, epsilon, table) for method in self.ours]
        free = sum(len(one) - 1 for one in runs if one)
        if free < 1:
            return 0
        squares = sum((value - sum(one) / len(one)) ** 2 for one in runs for value in one)
        wide = student(free) * math.sqrt(squares / free * (1 / len(mine) + 1 / len(theirs)))
        over = sum(theirs) / len(theirs) - sum(mine) / len(mine)
        return (over > wide) - (over < -wide)

    def _seeds(self, method: str, field: str, epsilon: str, table: str) -> list[float]:
        found = self.values(method, field, epsilon)
        return [value for where, value in found.items() if where.startswith(f"{table}/")]

    def behind(self, epsilon: str) -> str:
        """Return where the mean of the better of ours is behind a peer's, however little."""
        lines = []
        for field, title in (("two", "2-way error"), ("gap", "TSTR gap")):
            for table in self.tables:
                means = {
                    m: sum(v) / len(v)
                    for m in (*self.ours, *self.peers)
                    if (v := self._seeds(m, field, epsilon, table))
                }
                mine = [means[m] for m in self.ours if m in means]
                ahead = [
                    f"`{m}` {number(means[m])}"
                    for m in self.peers
                    if mine and m in means and means[m] < min(mine)
                ]
                if ahead:
                    lines.append(f"- {title}, {table}: {number(min(mine))}; {', '.join(ahead)}")
        told = "Where a peer's mean is better than the better one of ours, however little:"
        return f"{told}\n\n" + ("\n".join(lines) or "- nowhere")

    def unmeasured(self) -> str:
        """Return the runs that the page's tables and seeds leave room for, and nobody made."""
        lines = []
        for method in (*self.ours, *self.networks, FLOOR, *PEERS):
            gaps = []
            for table in self.tables:
                seeds = sorted(
                    w.split("/")[1] for w in self.known[CEILING] if w.startswith(f"{table}/")
                )
                left = [
                    f"ε {e} seed {s}"
                    for e in EPSILONS
                    for s in seeds
                    if f"{table}/{s}/{e}" not in self.known.get(method, {})
                ]
                if len(left) == len(EPSILONS) * len(seeds):
                    left = ["all"]
                gaps += [f"{table} ({', '.join(left)})"] if left else []
            if gaps:
                lines.append(f"- {_called(method)}: {'; '.join(gaps)}")
        told = "They wait for a longer run of the same command."
        return "\n".join(lines) + f"\n\n{told}" if lines else "Nothing."

    def by_table(self, field: str, epsilon: str, places: int) -> str:
        """Return the figure of every method on every table: mean of its seeds, and their range."""
        rows = []
        for method in (*self.ours, *self.networks, *self.peers, FLOOR, FREE, CEILING):
            found = self.values(method, field, epsilon)
            cells = [_cell(found, table, places) for table in self.tables]
            rows.append([_called(method), *cells])
        return grid(["method", *self.tables], rows)

    def speed(self) -> str:
        """Return seconds of ours on two larger tables, beside their targets."""
        rows = []
        for where, run in self.known.get("speed", {}).items():
            if not isinstance(run, dict):
                continue
            title, _, method = where.partition("/")
            target = 60 if title.startswith("10 k") else 600
            if "failure" in run:
                rows.append([f"{title} `{method}`", run["failure"], f"≤ {target} s", *["–"] * 3])
                continue
            parts = [run[part] for part in ("fit_seconds", "sample_seconds", "cpu_seconds")]
            took = parts[0] + parts[1]
            met = "yes" if took <= target else "no"
            rows.append([f"{title} `{method}`", number(took, 1), f"≤ {target} s", met,
                         number(parts[2], 1), number(run["peak_rss_mb"], 0)])  # fmt: skip
        headers = ["size, method", "fit + sample s", "target", "met", "CPU s", "peak RSS MB"]
        note = "Diabetes 130-US, encounters in file order, first columns; ε = 1; one thread."
        return f"{note}\n\n{grid(headers, rows)}" if rows else "Not measured."

    def unfinished(self) -> str:
        """Return the runs that failed, with the reason."""
        found: dict[str, list[str]] = {}
        for method in (*self.ours, *self.networks, *self.peers):
            for where, run in sorted(self.known[method].items()):
                if run.get("failure"):
                    table, seed, epsilon = where.split("/")
                    text = f"{table}, {run['failure']}"
                    found.setdefault(f"`{method}`: {text}", []).append(f"ε {epsilon} seed {seed}")
        lines = [f"- {what} ({'; '.join(where)})" for what, where in found.items()]
        return "\n".join(lines) or "Nothing."


def _called(method: str) -> str:
    if method == CEILING:
        return f"*{method}* (ceiling)"
    if method == FLOOR:
        return f"*{method}* (floor)"
    return f"`{method}` (no budget)" if method == FREE else f"`{method}`"


def _cell(found: Mapping[str, float], table: str, places: int) -> str:
    values = [value for where, value in found.items() if where.startswith(f"{table}/")]
    return number(spread(values)[0], places)


def _by_table(found: Mapping[str, float], tables: Sequence[str]) -> dict[str, float]:
    values = {t: [v for w, v in found.items() if w.startswith(f"{t}/")] for t in tables}
    return {t: sum(v) / len(v) for t, v in values.items() if v}
