"""The page of the families and the figures that `manikin list` shows, from what was measured."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from competitors import PEERS
from experiments import EXPERIMENTS
from layout import CEILING
from membership import pooled
from writing import grid, number, spread

__all__ = ["write"]

FLOOR = "table/marginals"
# ours and the peer whose ground it is
DUELS = (
    ("table/seqtree", "py-synthpop"), ("table/copula", "sdv copula"), ("table/arf", "arfpy"),
    ("table/argn", "mostlyai"), ("table/tvae", "sdv tvae"), ("table/ctgan", "sdv ctgan"),
    ("table/adsgan", "sdv ctgan"),
)  # fmt: skip
INTRODUCTION = """# Families

Every family of table synthesizers, with its defaults, on the same splits: half of a clinical
table's rows to learn from, the other half held out. All scores are against held-out rows. Written
by `python benchmarks/families.py`; the tables, peers and scores are explained in
[benchmarks.md](benchmarks.md), which measures the default with more seeds.

- *detection*: 1 is not told from held-out rows by boosted trees (LightGBM; XGB: XGBoost), 0 always
- *TSTR gap*: what a model loses that learned from synthetic instead of real rows (AUC or C-index)
- *nearer*: share of rows nearer to a training row than to a held-out one; .5: nothing is copied
- *copies*: rows equal to a training row, in %, less those that fresh real rows have by chance
- *CPU s*: processor time to start, fit and draw as many rows, one thread, median of the tables
- *membership*: how well the strongest of thirteen attacks tells training rows from held-out ones
  (area; .5: not at all), picked on half of the targets and measured on the others"""
MEMBERSHIP = """The area of the attack that is strongest on half of the targets, measured on the
other half, 1,500 subjects a side at most ([metrics.md](metrics.md)). *Upper*: upper end of the 95 %
interval (DeLong). A table of a few hundred rows leaves ± .06 to .1, so the areas of all tables are
joined, weighted by inverse variance. That is where the many rows are; beside it stand the plain
mean over the tables, in which the small ones count as much, and the highest upper end of one table.

{best}"""


def write(known: Mapping[str, Any], root: Path) -> None:
    """Write docs/families.md and the package's measured.yaml."""
    results = Known(known, root)
    parts = [INTRODUCTION, results.conditions(), "## All data sets together", results.summary()]
    parts += ["## Detection by data set", results.detection()]
    parts += ["## The best family of each data set", results.best()]
    parts += ["## Membership, all data sets together", results.attacks()]
    parts += ["## Beside the peer whose ground it is", results.duels()]
    parts += ["## Not finished", results.unfinished()]
    (root / "docs" / "families.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    measured = root / "src" / "manikin" / "adviser" / "measured.yaml"
    measured.write_text(results.figures(), encoding="utf-8")


class Known:
    """What was measured: method → data set/seed → scores and costs."""

    def __init__(self, known: Mapping[str, Any], root: Path) -> None:
        self.known, self.root = known, root
        tables = {where.partition("/")[0] for runs in known.values() for where in runs}
        self.tables = [e.name for e in EXPERIMENTS if e.name in tables]
        ours = [name for name in known if name.startswith("table/")]
        self.ours = sorted(ours, key=lambda name: -self.average(name, "detection"))
        self.peers = [p.name for p in PEERS if p.name in known]
        self.methods = [*self.ours, *self.peers, CEILING]

    def of(self, method: str, field: str) -> dict[str, float]:
        """Return the mean over seeds of a score, by data set."""
        found: dict[str, list[float]] = {}
        for where, run in self.known.get(method, {}).items():
            if field in run["scores"]:
                found.setdefault(where.partition("/")[0], []).append(run["scores"][field])
        return {t: sum(found[t]) / len(found[t]) for t in self.tables if t in found}

    def average(self, method: str, field: str) -> float:
        """Return the mean over data sets of a score."""
        values = list(self.of(method, field).values())
        return sum(values) / len(values) if values else math.nan

    def seconds(self, method: str) -> dict[str, float]:
        """Return the processor time by data set, mean over seeds."""
        found: dict[str, list[float]] = {}
        for where, run in self.known.get(method, {}).items():
            if "cpu_seconds" in run["meta"]:
                found.setdefault(where.partition("/")[0], []).append(run["meta"]["cpu_seconds"])
        return {table: sum(v) / len(v) for table, v in found.items()}

    def fitting(self, method: str) -> dict[str, float]:
        """Return the processor time of fitting alone by data set, mean over seeds.

        Where it was not counted, the wall clock's, which a busy machine makes longer, up to all of
        the processor time.
        """
        found: dict[str, list[float]] = {}
        for where, run in self.known.get(method, {}).items():
            meta = run["meta"]
            if "cpu_seconds" in meta:
                bound = min(meta["fit_seconds"], meta["cpu_seconds"])
                spent = meta.get("fit_cpu_seconds", bound)
                found.setdefault(where.partition("/")[0], []).append(spent)
        return {table: sum(v) / len(v) for table, v in found.items()}

    def old(self, name: str) -> bool:
        """Tell whether a family's file has changed since it was measured."""
        path = self.root / "src" / "manikin" / "synthesizers" / f"{name}.py"
        if not path.is_file():
            return False
        now = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return any(run["made_of"] != now for run in self.known[name].values())

    # -------------------------------------------------------------- the page

    def conditions(self) -> str:
        """Return how many tables, seeds and dates there are."""
        runs = [(w, r) for name in self.ours for w, r in self.known[name].items()]
        seeds = sorted({where.partition("/")[2] for where, _ in runs})
        dates = sorted({run["meta"]["date"] for _, run in runs if "date" in run["meta"]})
        told = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "–"
        lines = [f"{len(self.tables)} data sets; seeds {', '.join(seeds)}; measured {told}."]
        if any(self.old(name) for name in self.ours):
            lines.append("†: the method's file has changed since.")
        return " ".join(lines)

    def called(self, method: str) -> str:
        """Write a method's name; fresh real rows are no method."""
        if method == CEILING:
            return f"*{method}*"
        return f"`{method}`{'†' if method in self.ours and self.old(method) else ''}"

    def summary(self) -> str:
        """Return a row a method: means over data sets."""
        rows = []
        for method in self.methods:
            detection = self.of(method, "detection")
            if not detection:
                continue
            centre, half = spread(list(detection.values()))
            row = [self.called(method), str(len(detection))]
            row += [f"{number(centre)} ± {number(half)}", number(min(detection.values()))]
            row += [number(self.average(method, field)) for field in ("detection_xgb", "trends")]
            gap, near = self.of(method, "gap"), self.of(method, "nearer")
            row += [number(self.average(method, "gap")), number(max(gap.values()))]
            row += [number(self.average(method, "nearer")), number(max(near.values()))]
            row += [number(100 * max(self.of(method, "copies").values()), 2)]
            seconds = self.seconds(method)
            row += [number(median(seconds.values()), 1) if seconds else "–"]
            rows.append(row)
        headers = ["method", "data sets", "detection", "worst", "XGB", "trends", "TSTR gap"]
        return grid([*headers, "worst", "nearer", "most", "copies % most", "CPU s"], rows)

    def detection(self) -> str:
        """Return the detection score of every method on every data set, the best in bold."""
        rows = []
        for method in self.methods:
            found = self.of(method, "detection")
            if found:
                cells = [self._cell(method, table, found) for table in self.tables]
                rows.append([self.called(method), *cells])
        return grid(["method", *self.tables], rows)

    def _cell(self, method: str, table: str, found: Mapping[str, float]) -> str:
        if table not in found:
            return "–"
        rivals = [self.of(m, "detection").get(table, -1.0) for m in (*self.ours, *self.peers)]
        best = found[table] == max(rivals) and method != CEILING
        return f"**{number(found[table])}**" if best else number(found[table])

    def winners(self) -> dict[str, str]:
        """Return our family of the highest detection score, by data set."""
        won = {}
        for table in self.tables:
            scores = {name: self.of(name, "detection").get(table, -1.0) for name in self.ours}
            won[table] = max(scores, key=scores.__getitem__)
        return won

    def best(self) -> str:
        """Return who wins where, and how near it comes to the training rows."""
        rows = []
        for table, name in self.winners().items():
            fields = ("detection_xgb", "detection", "gap", "nearer")
            cells = [number(self.of(name, field).get(table, math.nan)) for field in fields]
            found = self.attacked(name, [table])
            cells += [number(found[0][key]) if found else "–" for key in ("auc", "high")]
            peers = [self.of(peer, "detection").get(table, -1.0) for peer in self.peers]
            rows.append([table, f"`{name}`", *cells, number(max(peers, default=math.nan))])
        xgb = [self.of(n, "detection_xgb").get(t, math.nan) for t, n in self.winners().items()]
        headers = ["data set", "family", "XGB", "detection", "TSTR gap", "nearer"]
        headers += ["membership", "upper", "best peer"]
        said = f"Mean by XGBoost {number(spread(xgb)[0])} (aimed at: .95)."
        return grid(headers, rows) + f"\n\n{said}"

    def attacked(self, method: str, tables: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return what the strongest attack reached on these data sets; less those not attacked."""
        runs = self.known.get(method, {}).items()
        inside = [run for where, run in runs if where.partition("/")[0] in tables]
        return [run["membership"] for run in inside if "membership" in run]

    def attacks(self) -> str:
        """Return the joint area of the attacks on every method, and of the best of each table."""
        rows = []
        for method in [*self.ours, *self.peers]:
            found = self.attacked(method, self.tables)
            area, upper = pooled(found)
            plain = spread([a["auc"] for a in found])[0]
            most = max((a["high"] for a in found), default=math.nan)
            row = [self.called(method), str(len(found)), number(area), number(upper)]
            rows.append([*row, number(plain), number(most)])
        parts = [area for t, name in self.winners().items() for area in self.attacked(name, [t])]
        area, upper = pooled(parts)
        told = (
            f"The best family of each data set ({len(parts)} of {len(self.tables)} attacked): "
            f"{number(area)}, upper end {number(upper)} (aimed at: .55 at most)."
        )
        table = grid(["method", "data sets", "area", "upper", "plain mean", "highest upper"], rows)
        return MEMBERSHIP.format(best=told) + "\n\n" + table

    def duels(self) -> str:
        """Return on how many data sets ours is at least as good, and its share of the time."""
        rows = []
        for ours, peer in DUELS:
            if ours not in self.known or peer not in self.known:
                continue
            row = [f"`{ours}`", f"`{peer}`"]
            for field, sign in (("detection", 1), ("gap", -1), ("trends", 1)):
                mine, theirs = self.of(ours, field), self.of(peer, field)
                both = [table for table in mine if table in theirs]
                won = sum(sign * (mine[t] - theirs[t]) >= 0 for t in both)
                row.append(f"{won} / {len(both)}")
            for times in (self.seconds, self.fitting):
                mine, theirs = times(ours), times(peer)
                ratios = [mine[t] / theirs[t] for t in mine if t in theirs]
                row += [number(median(ratios), 2), number(max(ratios), 2)] if ratios else ["–", "–"]
            rows.append(row)
        headers = ["ours", "peer", "detection", "TSTR", "trends", "CPU time, median share", "most"]
        said = "CPU time is that of the whole process, start and imports included. Fitting: alone."
        return grid([*headers, "fitting, median share", "most"], rows) + f"\n\n{said}"

    def unfinished(self) -> str:
        """Return who drew no rows where, and why."""
        lines = [
            f"- {self.called(method)}, {where.replace('/', ', seed ')}: {run['meta']['failure']}"
            for method in self.methods
            for where, run in self.known[method].items()
            if run["meta"].get("failure")
        ]
        return "\n".join(lines) or "Nothing."

    # -------------------------------------------------------------- the package's figures

    def figures(self) -> str:
        """Return measured.yaml: what `manikin list` says of each family."""
        lines = ["# Written by benchmarks/families.py from benchmarks/families.json."]
        lines += [
            f"tables: {len(self.tables)}",
            f"ceiling: {self.average(CEILING, 'detection'):.3f}",
        ]
        lines += [f"floor: {self.average(FLOOR, 'detection'):.3f}", "families:"]
        won = list(self.winners().values())
        for name in sorted(self.ours):
            detection = self.of(name, "detection")
            told = (
                {
                    "tables": str(len(detection)),
                    "detection": f"{self.average(name, 'detection'):.3f}",
                    "worst": f"{min(detection.values()):.3f}",
                    "best_on": str(won.count(name)),
                    "gap": f"{self.average(name, 'gap'):.3f}",
                    "nearer": f"{self.average(name, 'nearer'):.3f}",
                    "seconds": f"{median(self.seconds(name).values()):.1f}",
                }
                if detection
                else {}
            )
            if told:
                inside = ", ".join(f"{key}: {value}" for key, value in told.items())
                lines.append(f"  {name}: {{{inside}}}")
        return "\n".join(lines) + "\n"
