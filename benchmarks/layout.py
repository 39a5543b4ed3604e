"""The document's tables: summary, targets, one table an experiment, speed, what is missing."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from competitors import PEERS
from experiments import EXPERIMENTS
from judges import Judged
from writing import grid, mean, number, spread

__all__ = ["CEILING", "Result", "document"]

CEILING = "fresh real rows"
DEFAULT, FLOOR = "table/seqtree", "table/marginals"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """One method on one split: its scores (None: no rows) and what it cost."""

    experiment: str
    seed: int
    method: str
    judged: Judged | None
    meta: Mapping[str, Any]


class Results:
    """All results, asked by experiment and method."""

    def __init__(self, results: list[Result]) -> None:
        self.all = results
        self.experiments = list(dict.fromkeys(r.experiment for r in results))
        self.seeds = len({r.seed for r in results})
        self.methods = list(dict.fromkeys(r.method for r in results))
        # fresh real rows last: what nobody can be expected to pass
        self.methods.sort(key=lambda name: name == CEILING)

    def scores(self, experiment: str, method: str, field: str) -> list[float]:
        """Return one score of each seed that has it."""
        return [
            float(getattr(r.judged, field))
            for r in self.all
            if r.experiment == experiment and r.method == method and r.judged is not None
        ]

    def costs(self, experiment: str, method: str, *fields: str) -> list[float]:
        """Return the sum of these costs for each seed that has them."""
        return [
            sum(float(r.meta[field]) for field in fields)
            for r in self.all
            if r.experiment == experiment and r.method == method and fields[0] in r.meta
        ]

    def means(self, method: str, field: str) -> dict[str, float]:
        """Return the mean over seeds for each experiment that has one."""
        found = {e: spread(self.scores(e, method, field))[0] for e in self.experiments}
        return {e: value for e, value in found.items() if math.isfinite(value)}


def document(
    results: list[Result],
    skipped: Mapping[str, str],
    settings: Any,
    speed: tuple[str, list[tuple[str, str, str, bool | None]]] | None,
    seconds: float,
) -> str:
    """Return the whole generated part of docs/benchmarks.md."""
    known = Results(results)
    parts = [_conditions(known, settings, seconds), "## Targets", _targets(known, speed)]
    parts += ["## All data sets together", _summary(known)]
    parts += ["## Detection score by data set", _detection(known)]
    for name in known.experiments:
        parts += [_heading(known, name), _experiment(known, name)]
    if speed is not None:
        parts += ["## Speed and size", speed[0]]
    parts += ["## Not finished, not run", _missing(known, skipped)]
    return "\n\n".join(parts)


def _conditions(known: Results, settings: Any, seconds: float) -> str:
    ran = [r for r in known.all if r.method in _names(PEERS) and "most_seconds" in r.meta]
    fresh = [r for r in ran if r.meta.get("fresh")]
    reused = [r for r in ran if not r.meta.get("fresh")]
    origin = "Every peer was run in this run."
    if reused:
        dates = sorted({str(r.meta.get("date")) for r in reused})
        origin = (
            f"Of the peers' outputs {len(fresh)} were drawn in this run and {len(reused)} taken "
            f"from earlier runs on the same machine ({', '.join(dates)}) with the same training "
            "rows, pinned versions, runner and threads. Ours were all drawn in this "
            "run; the same judges score everyone, and a score is only kept from an earlier run "
            "when rows, judge and library versions are identical."
        )
    longer = [r for r in ran if r.meta["most_seconds"] > settings.options.most_seconds]
    for r in longer:
        origin += f" `{r.method}` on {r.experiment} was given {r.meta['most_seconds']} CPU s."
    lines = [
        f"- **Date** {time.strftime('%Y-%m-%d %H:%M')} UTC; {seconds / 60:.0f} minutes for this "
        f"run; load average at its end {os.getloadavg()[0]:.1f}",
        f"- **Machine** {_processor()}, {os.cpu_count()} cores, {_memory()} GB, no accelerator, "
        f"{platform.system()} {platform.machine()}",
        f"- **Options** seeds {', '.join(map(str, settings.seeds))}; {settings.options.threads} "
        f"thread(s) for every method; stopped after {settings.options.most_seconds} CPU s",
        f"- **Ours** Python {platform.python_version()}, {_versions()}",
        f"- **Peers** {_pins()}",
        f"- **Origin** {origin}",
    ]
    return "\n".join(lines)


def _targets(
    known: Results, speed: tuple[str, list[tuple[str, str, str, bool | None]]] | None
) -> str:
    """Return each target with what was reached and whether that is enough."""
    rows = [*_quality_targets(known), *(speed[1] if speed is not None else [])]
    words = {True: "yes", False: "**no**", None: "not measured"}
    return grid(
        ["`table/seqtree`, defaults", "target", "reached", "met"],
        [[what, target, reached, words[met]] for what, target, reached, met in rows],
    )


def _quality_targets(known: Results) -> list[tuple[str, str, str, bool | None]]:
    judges = {"XGBoost": "detection_xgb", "LightGBM": "detection"}
    rows = [row for who, field in judges.items() for row in _detection_targets(known, who, field)]
    if not rows:
        return []
    gaps = known.means(DEFAULT, "gap")
    nearer, copies = known.means(DEFAULT, "nearer"), known.means(DEFAULT, "copies")
    gap_mean, gap_worst = spread(list(gaps.values()))[0], max(gaps, key=gaps.__getitem__)
    near_worst = max(nearer, key=nearer.__getitem__)
    # where rows are few the share is uncertain: what rows that copy nothing reach shows by how much
    by_chance = known.means(FLOOR, "nearer").get(near_worst, math.nan)
    copy_worst = max(copies, key=copies.__getitem__)
    copy_half = {e: spread(known.scores(e, DEFAULT, "copies"))[1] for e in copies}
    copying = [e for e in copies if copies[e] - copy_half[e] > 0]
    near_mean = spread(list(nearer.values()))[0]
    return [
        *rows,
        ("TRTR − TSTR, mean of data sets", "≤ .01", number(gap_mean), gap_mean <= 0.01),
        (
            "TRTR − TSTR, worst data set",
            "≤ .03",
            f"{number(gaps[gap_worst])} ({gap_worst})",
            gaps[gap_worst] <= 0.03,
        ),
        (
            "share nearer to train, worst data set",
            "≤ .53",
            f"{number(nearer[near_worst])} ({near_worst}; independent columns there "
            f"{number(by_chance)}); mean {number(near_mean)}",
            nearer[near_worst] <= 0.53,
        ),
        (
            "copies beyond the holdout's, each data set",
            "none (95 % interval)",
            f"beyond on {len(copying)} of {len(copies)}; most {100 * copies[copy_worst]:.2f} ± "
            f"{100 * copy_half[copy_worst]:.2f} % ({copy_worst})",
            not copying,
        ),
    ]


def _detection_targets(
    known: Results, who: str, field: str
) -> list[tuple[str, str, str, bool | None]]:
    """Return the targets of the detection score by one judge; none where it was not installed."""
    ours = known.means(DEFAULT, field)
    if not ours:
        return []
    best = {
        e: max((known.means(p, field).get(e, -1.0) for p in _names(PEERS)), default=-1.0)
        for e in ours
    }
    below = [e for e in ours if ours[e] < best[e]]
    average = spread(list(ours.values()))[0]
    return [
        (
            f"detection score ({who}), each data set",
            "never below the best peer",
            f"below on {len(below)} of {len(ours)}" + (f" ({', '.join(below)})" if below else ""),
            not below,
        ),
        (
            f"detection score ({who}), mean of data sets",
            "≥ .85 (≥ .90 aimed at)",
            number(average),
            average >= 0.85,
        ),
    ]


def _summary(known: Results) -> str:
    """Return one row a method: means over the data sets it finished."""
    rows = []
    for method in known.methods:
        detection = known.means(method, "detection")
        if not detection:
            rows.append([f"`{method}`", f"0 / {len(known.experiments)}", *["–"] * 10])
            continue
        row = [f"`{method}`" if method != CEILING else f"*{method}*"]
        row += [f"{len(detection)} / {len(known.experiments)}"]
        row += [number(spread(list(detection.values()))[0]), number(min(detection.values()))]
        for field in ("detection_xgb", "shapes", "trends"):
            row.append(number(spread(list(known.means(method, field).values()))[0]))
        gaps, nearer = known.means(method, "gap"), known.means(method, "nearer")
        row += [number(spread(list(gaps.values()))[0]), number(max(gaps.values()))]
        row += [number(spread(list(nearer.values()))[0]), number(max(nearer.values()))]
        row += [number(100 * max(known.means(method, "copies").values()), 2)]
        rows.append(row)
    headers = ["method", "data sets", "detection", "worst", "XGB", "shapes", "trends"]
    headers += ["TSTR gap", "worst", "nearer", "most", "copies % most"]
    return grid(headers, rows)


def _detection(known: Results) -> str:
    """Return the detection score of every method on every data set."""
    rows = []
    for name in known.experiments:
        cells = [known.means(method, "detection").get(name, math.nan) for method in known.methods]
        rivals = [c for c, m in zip(cells, known.methods, strict=True) if m != CEILING]
        best = max((c for c in rivals if math.isfinite(c)), default=math.nan)
        rows.append([name, *(f"**{number(c)}**" if c == best else number(c) for c in cells)])
    return grid(["data set", *known.methods], rows)


def _heading(known: Results, name: str) -> str:
    experiment = next(e for e in EXPERIMENTS if e.name == name)
    half = next(r for r in known.all if r.experiment == name and "trtr" in r.meta)
    real = mean([r.meta["trtr"] for r in known.all if r.experiment == name and "trtr" in r.meta])
    what = "C-index of a Cox model" if experiment.time else f"AUC for `{experiment.target}`"
    note = f" {experiment.note[0].upper()}{experiment.note[1:]}." if experiment.note else ""
    return (
        f"### {experiment.title}\n\n`{name}`: {half.meta['rows']:,} rows to learn from, as many "
        f"held out.{note} TSTR is the {what}; learned from real rows (TRTR) it is {real}."
    )


def _experiment(known: Results, name: str) -> str:
    """Return all scores and costs on one data set, mean ± interval over seeds."""
    rows = []
    for method in known.methods:
        if not known.scores(name, method, "detection"):
            failures = {str(r.meta.get("failure")) for r in known.all
                        if r.experiment == name and r.method == method}  # fmt: skip
            rows.append([f"`{method}`", min(failures, key=len), *["–"] * 10])
            continue
        seeds = len(known.scores(name, method, "detection"))
        row = [f"`{method}`" if method != CEILING else f"*{method}*"]
        if seeds < known.seeds:
            row[0] += f" ({seeds} of {known.seeds} seeds)"
        for field in ("detection", "auc", "detection_xgb", "shapes", "trends", "gap", "nearer"):
            row.append(mean(known.scores(name, method, field)))
        row.append(mean([100 * v for v in known.scores(name, method, "copies")], 2))
        row.append(number(spread(known.costs(name, method, "fit_seconds", "sample_seconds"))[0], 1))
        row.append(number(spread(known.costs(name, method, "cpu_seconds"))[0], 1))
        row.append(number(max(known.costs(name, method, "peak_rss_mb"), default=math.nan), 0))
        rows.append(row)
    headers = ["method", "detection", "AUC", "XGB", "shapes", "trends", "TSTR gap", "nearer"]
    return grid([*headers, "copies %", "fit + sample s", "CPU s", "RSS MB"], rows)


def _missing(known: Results, skipped: Mapping[str, str]) -> str:
    lines = [f"- data set `{name}` skipped: {why}" for name, why in skipped.items()]
    for method in known.methods:
        reasons: dict[str, dict[str, list[str]]] = {}
        for r in known.all:
            if r.method == method and (why := r.meta.get("failure")):
                reasons.setdefault(str(why), {}).setdefault(r.experiment, []).append(str(r.seed))
        for why, where in reasons.items():
            places = ", ".join(f"{name} (seed {', '.join(s)})" for name, s in where.items())
            lines.append(f"- `{method}`, {why}: {places}")
    return "\n".join(lines) or "Nothing."


def _names(methods: Any) -> list[str]:
    return [method.name for method in methods]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}"


def _versions() -> str:
    names = ["numpy", "polars", "scikit-learn", "lightgbm", "xgboost-cpu", "xgboost", "lifelines"]
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _pins() -> str:
    used = dict.fromkeys(peer.environment for peer in PEERS)
    lines = []
    for name in used:
        pins = (HERE / "peers" / f"{name}.txt").read_text().splitlines()
        lines.append(", ".join(pin.replace("==", " ") for pin in pins if "==" in pin))
    return "; ".join(lines)
