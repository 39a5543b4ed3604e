"""Do the privacy metrics see leaks that are there, and none that are not?

    python benchmarks/leaks.py                    every real table of 2,000 subjects or more
    python benchmarks/leaks.py --data gbsg2 --seeds 3 --out leaks.md

Leaks planted: all rows copied, and 5 % of them, in what table/seqtree made of 70 % of the subjects,
in three splits. Caught: the lower end of a score's 95 % interval lies above what rows that leak
nothing score. False alarms: fresh real rows stand for the synthetic ones, in 20 splits in three
equal parts, so that whatever is "found" is chance; one end of a 95 % interval is wrong in 2.5 % of
cases. Writes docs/leaks.md, by table and score.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

import polars as pl
from experiments import EXPERIMENTS, Experiment, data_root, text_of
from run_manikin import declared
from scipy import stats

from manikin import catalogue
from manikin.data.dataset import split_subjects
from manikin.data.parse import parse
from manikin.data.schema import with_roles
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.controls import copy_share, null_of
from manikin.metrics.intervals import binomial
from manikin.metrics.score import Metric, Score, Trial

FEWEST = 2_000  # subjects from which a 5 % leak must be seen
LEVEL = 0.025  # how often one end of an interval is wrong
PLANTED = {"exact copy": 1.0, "5 % copied": 0.05}
SPLITS = 3  # splits with planted leaks
KNOWN = ("age", "sex", "gender", "race", "meno", "stage", "histol")  # to an outsider, where there
# scores of all subjects together that claim an excess over strangers
CLAIMS = (
    "privacy/membership.auc", "privacy/copies.exact", "privacy/copies.near",
    "privacy/attribute.residual", "privacy/linkage.residual", "privacy/singling_out.residual",
    "privacy/identity.excess", "privacy/rare_values.unique",
    "privacy/unique_values.numbers", "privacy/unique_values.codes",
    "privacy/unique_values.combinations",
)  # fmt: skip
HEAD = (
    "| score | exact copy: caught | its value | 5 % copied: caught | its value | fresh real rows: "
    "alarms |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
)
MUST = "privacy/membership.auc"  # the score that has to catch both leaks


def table_of(experiment: Experiment) -> Table:
    """Return a benchmark table with an outcome, and what an outsider may know of a person."""
    frame = experiment.load(data_root())
    if experiment.most_rows is not None:
        frame = frame.sample(min(experiment.most_rows, len(frame)), random_state=0)
    cells = pl.read_csv(io.StringIO(text_of(frame)), infer_schema=False).fill_null("")
    roles: dict[str, str] = {"target": experiment.target}
    if experiment.time is not None:
        roles = {"time": experiment.time, "event": experiment.target}
    schema = declared(cells, list(experiment.numeric))
    quasi = tuple(c.name for c in schema.learned if c.name.lower() in KNOWN)
    return parse(
        cells,
        with_roles(schema, **roles, quasi_identifiers=quasi, sensitive=(experiment.target,)),
    )


def found(metrics: dict[str, Metric[Table]], trial: Trial[Table], seed: int) -> Iterator[Score]:
    """Return the scores that claim something about all subjects."""
    for metric in metrics.values():
        try:
            scores = metric(trial, seed=seed)
        except NotSupported:
            continue
        yield from (s for s in scores if s.group == "all" and s.metric in CLAIMS)


def planted(table: Table, metrics: dict[str, Metric[Table]]) -> dict[tuple[str, str], list[Score]]:
    """Return what each score says of each planted leak, split by split."""
    said = defaultdict(list)
    for seed in range(SPLITS):
        train, holdout = split_subjects(table, (0.7, 0.3), seed=seed)
        made = catalogue.build("table/seqtree").fit(train, seed=seed)
        trial = Trial(train, holdout, made.sample(train.n_subjects, seed=seed))
        for name, share in PLANTED.items():
            for score in found(metrics, copy_share(trial, share, seed=seed), seed):
                said[score.metric, name].append(score)
    return said


def by_chance(
    table: Table, metrics: dict[str, Metric[Table]], seeds: int
) -> dict[str, list[Score]]:
    """Return what each score says of fresh real rows, split by split."""
    said = defaultdict(list)
    for seed in range(seeds):
        train, holdout, fresh = split_subjects(table, (1 / 3, 1 / 3, 1 / 3), seed=1_000 + seed)
        for score in found(metrics, Trial(train, holdout, fresh), seed):
            said[score.metric].append(score)
    return said


def above(score: Score) -> bool:
    """Whether a score's whole interval lies above what rows that leak nothing score."""
    return score.interval[0] > null_of(score)


def share(scores: Sequence[Score]) -> str:
    """Return how many of the scores raised an alarm, of how many."""
    return f"{sum(map(above, scores))} of {len(scores)}" if scores else "–"


def within_level(alarms: int, n: int) -> bool:
    """Whether so many alarms are no more than chance gives at the stated level, 97.5 % surely."""
    return alarms <= stats.binom.ppf(0.975, n, LEVEL)


def page(names: Sequence[str], seeds: int) -> Iterator[str]:
    """Measure the tables and return the page line by line."""
    metrics = {name: m for name, m in catalogue.metrics().items() if name.startswith("privacy/")}
    metrics = {name: m for name, m in metrics.items() if any(c.startswith(name) for c in CLAIMS)}
    everything: dict[str, list[Score]] = defaultdict(list)
    missed: list[str] = []
    body: list[str] = []
    for experiment in EXPERIMENTS:
        if names and experiment.name not in names:
            continue
        try:
            table = table_of(experiment)
        except OSError:
            continue
        if not names and table.n_subjects < FEWEST:
            continue
        leaks, chance = planted(table, metrics), by_chance(table, metrics, seeds)
        size = f"{table.n_subjects:,} subjects, {len(table.columns)} columns"
        body += ["", f"## {experiment.title}", "", f"`{experiment.name}`: {size}.", "", *HEAD]
        for claim in CLAIMS:
            cells = []
            for name in PLANTED:
                scores = [s for s in leaks.get((claim, name), []) if math.isfinite(s.value)]
                mean = sum(s.value for s in scores) / len(scores) if scores else float("nan")
                cells += [share(scores), f"{mean:.3f}" if scores else "–"]
                if claim == MUST and not all(map(above, scores)):
                    missed.append(f"{experiment.name} ({name})")
            body.append(f"| `{claim}` | {' | '.join(cells)} | {share(chance.get(claim, []))} |")
            everything[claim] += chance.get(claim, [])
        print(f"{experiment.name}: done", file=sys.stderr)
    yield from heading(everything, missed, seeds)
    yield from body


def heading(everything: dict[str, list[Score]], missed: Sequence[str], seeds: int) -> Iterator[str]:
    """Return the page's beginning: what was asked, and whether it was met."""
    yield "# Leaks that are there, and leaks that are not"
    yield ""
    yield (
        "Printed by `python benchmarks/leaks.py` on "
        f"{datetime.now(UTC):%Y-%m-%d}; how it is measured stands at the top of that file."
    )
    yield ""
    yield "| target | reached | met |"
    yield "| --- | --- | ---: |"
    said = "missed: " + ", ".join(missed) if missed else f"all, in {SPLITS} splits a table"
    yield (
        "| `privacy/membership.auc` catches an exact copy and 5 % copied, on every table of "
        f"{FEWEST:,} subjects or more | {said} | {'**no**' if missed else 'yes'} |"
    )
    for claim, scores in everything.items():
        if not scores:
            continue
        n, alarms = len(scores), sum(map(above, scores))
        low, high = binomial(alarms, n)
        yield (
            f"| `{claim}`: alarms on fresh real rows in {seeds} splits a table, no more than "
            f"{100 * LEVEL:g} % | {alarms} of {n} = {100 * alarms / n:.1f} % (95 % interval "
            f"{100 * low:.1f} to {100 * high:.1f}) | "
            f"{'yes' if within_level(alarms, n) else '**no**'} |"
        )


def main() -> None:
    """Read the options and write the page."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--data", nargs="+", default=[], help="experiments, whatever their size")
    asked.add_argument("--seeds", type=int, default=20, help="splits with fresh real rows")
    asked.add_argument("--out", type=Path, default=Path("docs/leaks.md"))
    given = asked.parse_args()
    warnings.simplefilter("ignore")
    given.out.write_text("\n".join(page(given.data, given.seeds)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
