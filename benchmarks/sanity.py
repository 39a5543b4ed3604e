"""Which sanity checks do our fidelity measures pass, and which do they openly fail?

    python benchmarks/sanity.py            measures everything (five minutes), rewrites the page
    python benchmarks/sanity.py collapse   measures the checks with this in their name again
    python benchmarks/sanity.py --page     rewrites docs/sanity.md from what was measured

What was measured is kept in benchmarks/sanity.json; a test measures parts of it again.

The fifteen checks are those that Räisä, van Breugel and van der Schaar (ICML 2025,
arXiv:2505.22450) put to fidelity and diversity metrics, which failed every one of them somewhere.
The situations follow theirs; sizes and thresholds are ours, and are written out below. Each check
is a few pairs of distributions in a row, and a measure's curve over them, the median of three
repeats, must have a shape. What a measure should say depends on what it claims:

- `fidelity`   how many synthetic rows are realistic (precision, density, α-precision)
- `diversity`  how much of the real distribution is there (recall, coverage, β-recall)
- `both`       how alike the two distributions are: everything else

1 is best and 0 the worst there is. `shapes`, `trends` and `triples` are divided by what fresh real
rows score, as the report reads them, because chance alone keeps them below 1. A distance or a ratio
has no worst number: a demand that wholly different samples get it fails, and for the others it is
read as 1 within its permutation null, and beyond as the null's limit over the value.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from situations import CHECKS, NEAR, Check, N, Rows

from manikin import catalogue
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.score import Score, Trial

__all__ = ["CHECKS", "MEASURES", "Check", "Measure", "curve", "marks", "page", "values"]

# ── The measures ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Measure:
    """A number of ours, how to read it, and what it claims."""

    label: str
    metric: str  # the catalogue's name
    kind: str  # fidelity, diversity or both
    read: Callable[[tuple[Score, ...]], float]  # 1 best, 0 worst; or as its ceiling has it
    bounded: bool = True
    to_ceiling: bool = False  # divide by what fresh real rows score


def number(name: str) -> Callable[[tuple[Score, ...]], float]:
    return lambda scores: next(s.value for s in scores if s.metric == name and s.group == "all")


def worst_group(scores: tuple[Score, ...]) -> float:
    return min((s.value for s in scores if s.group != "all"), default=math.nan)


def logistic_area(scores: tuple[Score, ...]) -> float:
    return 2 * (1 - max(0.5, number("fidelity/detection.auc_logistic")(scores)))


def within_null(name: str) -> Callable[[tuple[Score, ...]], float]:
    """The 95th percentile of the permutation null over the value."""

    def read(scores: tuple[Score, ...]) -> float:
        found = next(s for s in scores if s.metric == name)
        limit = float(found.note.rsplit(" ", 1)[1])
        return limit / max(found.value, limit)

    return read


def ratio(name: str, effects: str) -> Callable[[tuple[Score, ...]], float]:
    """1 within the permutation null, and beyond it 1 over the ratio; NaN where there is none."""

    def read(scores: tuple[Score, ...]) -> float:
        kept = [s.value for s in scores if s.metric == name and s.group == "all"]
        tests = [s.value for s in scores if s.group == f"effects={effects}"]
        return math.nan if not tests else 1.0 if tests[0] > 0.05 else 1 / max(1.0, kept[0])

    return read


MANIFOLD = {
    "precision": "fidelity", "density": "fidelity", "alpha_precision": "fidelity",
    "recall": "diversity", "coverage": "diversity", "beta_recall": "diversity",
}  # fmt: skip
MEASURES = (
    Measure("shapes", "fidelity/shapes", "both", number("fidelity/shapes"), to_ceiling=True),
    Measure("shapes, worst column", "fidelity/shapes", "both", worst_group, to_ceiling=True),
    Measure("trends", "fidelity/trends", "both", number("fidelity/trends"), to_ceiling=True),
    Measure("triples", "fidelity/triples", "both", number("fidelity/triples"), to_ceiling=True),
    Measure(
        "detection.score", "fidelity/detection", "both", number("fidelity/detection.score")
    ),
    Measure("detection.auc_logistic", "fidelity/detection", "both", logistic_area),
    Measure(
        "propensity.ratio", "fidelity/propensity", "both",
        ratio("fidelity/propensity.ratio", "main"), bounded=False,
    ),
    Measure(
        "propensity.ratio_pairs", "fidelity/propensity", "both",
        ratio("fidelity/propensity.ratio_pairs", "pairs"), bounded=False,
    ),
    *(
        Measure(
            f"distances.{what}", "fidelity/distances", "both",
            within_null(f"fidelity/distances.{what}"), bounded=False,
        )
        for what in ("wasserstein", "mmd")
    ),
    *(
        Measure(f"manifold.{what}", "fidelity/manifold", kind, number(f"fidelity/manifold.{what}"))
        for what, kind in MANIFOLD.items()
    ),
)  # fmt: skip


# ── Running them ───────────────────────────────────────────────────────────────────────────────

REPEATS = 3
KEPT = Path(__file__).with_name("sanity.json")
PAGE = Path(__file__).parents[1] / "docs" / "sanity.md"
Kept = dict[str, dict[str, list[list[float | None]]]]  # check → measure → repeat → setting


def table(rows: Rows) -> Table:
    columns = tuple(Column(f"x{i}", "continuous", decimals=9) for i in range(rows.shape[1]))
    cells = {c.name: rows[:, i].round(9) for i, c in enumerate(columns)}
    return Table(TableSchema(columns), np.arange(len(rows)), cells)


def values(check: Check, at: int, metrics: tuple[str, ...], repeat: int = 0) -> dict[str, float]:
    """Return what every measure of these metrics says in one setting of a check."""
    setting = check.settings[at]
    rng = np.random.default_rng([repeat, at])
    train, holdout = (table(setting.real(rng, setting.n_real)) for _ in range(2))
    fresh = table(setting.real(rng, setting.n_synthetic))
    trial = Trial(train, holdout, table(setting.synthetic(rng, setting.n_synthetic)))
    judges = catalogue.metrics(metrics)
    kept = [measure for measure in MEASURES if measure.metric in metrics]
    scores = {name: judge(trial, seed=repeat) for name, judge in judges.items()}
    ceilings = {
        name: judges[name](Trial(train, holdout, fresh), seed=repeat)
        for name in {measure.metric for measure in kept if measure.to_ceiling}
    }
    found = {}
    for measure in kept:
        value = measure.read(scores[measure.metric])
        if measure.to_ceiling and not math.isnan(value):
            value = min(1.0, value / measure.read(ceilings[measure.metric]))
        found[measure.label] = value
    return found


def curve(kept: list[list[float | None]]) -> Rows:
    """Return a measure's median over repeats in each setting."""
    numbers = [[math.nan if v is None else v for v in repeat] for repeat in kept]
    return np.median(np.array(numbers), axis=0)


def marks(check: Check, kept: Mapping[str, list[list[float | None]]]) -> dict[str, dict[str, str]]:
    """Return "pass", "FAIL", "n/a" (no number can be had) or "" (nothing asked): what → measure."""
    given: dict[str, dict[str, str]] = {what: {} for what in check.demands}
    for measure in MEASURES:
        line = curve(kept[measure.label])
        for what, demands in check.demands.items():
            if measure.kind not in demands:
                given[what][measure.label] = ""
            elif np.isnan(line).any():
                given[what][measure.label] = "n/a"
            else:
                bound_is_asked = what in check.bounds and not measure.bounded
                holds = demands[measure.kind](line) and not bound_is_asked
                given[what][measure.label] = "pass" if holds else "FAIL"
    return given


def measure_again(names: list[str]) -> None:
    """Measure the checks with one of these words in their name (or all), and keep the curves."""
    kept: Kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    metrics = tuple(sorted({measure.metric for measure in MEASURES}))
    for check in CHECKS:
        if names and not any(name.lower() in check.name.lower() for name in names):
            continue
        repeats = [
            [values(check, at, metrics, repeat) for at in range(len(check.settings))]
            for repeat in range(REPEATS)
        ]
        kept[check.name] = {
            m.label: [
                [None if math.isnan(v[m.label]) else round(v[m.label], 4) for v in repeat]
                for repeat in repeats
            ]
            for m in MEASURES
        }
        print(check.name, file=sys.stderr)
    ordered = {check.name: kept[check.name] for check in CHECKS if check.name in kept}
    KEPT.write_text(json.dumps(ordered, ensure_ascii=False).replace("}, ", "},\n") + "\n")


# ── The page ───────────────────────────────────────────────────────────────────────────────────

SIGNS = {"pass": "✓", "FAIL": "**fails**", "n/a": "–", "": ""}


def page(kept: Kept) -> str:
    """Return docs/sanity.md."""
    groups = (
        ("How alike", [m for m in MEASURES if m.kind == "both"]),
        ("Realistic, and diverse", [m for m in MEASURES if m.kind != "both"]),
    )
    told = {check.name: marks(check, kept[check.name]) for check in CHECKS}
    parts = [HEAD.format(near=NEAR, rows=N, repeats=REPEATS)]
    for title, measures in groups:
        parts.append(f"## {title}\n")
        labels = [m.label.removeprefix("manifold.") for m in measures]
        parts.append("| check | asked | " + " | ".join(labels) + " |")
        parts.append("| --- | --- |" + " :-: |" * len(measures))
        passed = dict.fromkeys((m.label for m in measures), (0, 0))
        for check in CHECKS:
            for what, row in told[check.name].items():
                cells = [row[m.label] for m in measures]
                if any(cells):
                    signs = " | ".join(SIGNS[cell] for cell in cells)
                    parts.append(f"| {check.name} | {what} | {signs} |")
                for m in measures:
                    good, asked = passed[m.label]
                    cell = row[m.label]
                    passed[m.label] = good + (cell == "pass"), asked + (cell in ("pass", "FAIL"))
        counts = " | ".join(f"{good} of {asked}" for good, asked in passed.values())
        parts.append(f"| **passed** | | {counts} |\n")
    parts.append("## What they say\n")
    for check in CHECKS:
        parts.append(f"**{check.name}**: {check.about}.\n")
        for title, measures in groups:
            parts.append(
                f"- {title.lower()}: " + "; ".join(_told(m, kept[check.name]) for m in measures)
            )
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _told(measure: Measure, kept: Mapping[str, list[list[float | None]]]) -> str:
    line = curve(kept[measure.label])
    numbers = " ".join("–" if math.isnan(v) else f"{v:.2f}" for v in line)
    return f"{measure.label.removeprefix('manifold.')} {numbers}"


HEAD = """\
# Sanity checks of the fidelity measures

<!-- written by benchmarks/sanity.py; do not edit -->

Räisä, van Breugel and van der Schaar (*Position: All Current Generative Fidelity and Diversity
Metrics are Flawed*, ICML 2025, arXiv:2505.22450) put simple situations with a known answer to
fidelity and diversity metrics; each metric failed some. This page says which of them **our**
measures pass and which they fail, so that nobody trusts a number where it is blind. The situations
follow theirs as published code and abstract tell them, two of them in both directions; sizes,
thresholds and wording are ours, so a mark here is not a mark in their tables.
`python benchmarks/sanity.py` measures everything again; tests
measure parts of it and fail when a mark on this page is no longer true.

How to read it:

- {rows} rows a side unless a check varies them, and the median of {repeats} repeats; a number is
  what it should be when it is within {near}.
- 1 is best, 0 the worst there is. `shapes`, `trends` and `triples` are divided by what fresh real
  rows score. `detection.auc_logistic` is 2 (1 - AUC).
- A ratio or a distance has no worst number: it **fails** wherever wholly different samples should
  get it. Elsewhere it is read as 1 within its permutation null, and beyond as the null over it.
- *How alike* measures are asked to notice any difference. Realistic ones (precision, density,
  α-precision) are asked about synthetic rows only, diverse ones (recall, coverage, β-recall) about
  real rows only; an empty cell is a question that is not theirs.
- – : no number can be had, such as a triple of two columns.

What it means in practice: read several measures, never one. A mean over columns dilutes one wrong
column, which `shapes` names in the column's own line; a linear judge sees no wrong spread or shape;
precision and recall believe outliers; only boosted trees see how finely numbers are written.
`missingness` is not here, because nothing is missing in these samples.
"""


if __name__ == "__main__":
    if sys.argv[1:] != ["--page"]:
        measure_again(sys.argv[1:])
    found: Kept = json.loads(KEPT.read_text(encoding="utf-8"))
    if all(check.name in found for check in CHECKS):
        PAGE.write_text(page(found), encoding="utf-8")
