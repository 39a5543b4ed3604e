"""Does the adviser pick the synthesizer that wins on subjects that it never saw?

usage: python benchmarks/adviser.py [--data heart,wdbc] [--seeds 0,1] [--minutes 5]
       python benchmarks/adviser.py --page          docs/adviser.md, from all cases measured so far

Cases are kept in benchmarks/adviser.jsonl, a line each, the last of a table and seed counting.

Each real table is split into two halves. The adviser is given the first and so many minutes; then
every synthesizer is fitted to the whole first half and judged on the other one. The advice *wins*
where nobody else's detection score is higher, and *ties* where the difference to the highest may be
chance (its 95 % interval holds 0). Beside it: what always taking one synthesizer would have come
to, without which a high share says nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from experiments import EXPERIMENTS, Experiment, data_root, split

import manikin as mk
from manikin import catalogue
from manikin.adviser.ranking import difference
from manikin.data.table import Table
from manikin.errors import ManikinError
from manikin.metrics.score import Score, Trial
from manikin.run import Deadline

STORE = Path(__file__).with_suffix(".jsonl")
PAGE = Path(__file__).parents[1] / "docs" / "adviser.md"
HEAD = (
    "| table | seed | advised | on fresh subjects | below the best | best there | tied | s |",
    "|---|---|---|---|---|---|---|---|",
)
DRAWS = 3  # of every fitted model, each judged: one draw alone leaves ± .1 on a small table


@dataclass(frozen=True)
class Case:
    """One table and seed: whom the adviser named, and what everybody reached."""

    table: str
    seed: int
    advised: str
    tied: tuple[str, ...]
    seconds: float
    reached: dict[str, list[Score]]  # of several draws each

    def outcome(self, name: str) -> str:
        """Return whether a synthesizer wins, ties or loses; "-" where it could not be judged."""
        if name not in self.reached:
            return "-"
        first = self.best
        if name == first:
            return "wins"
        gap = difference(self.reached[first], self.reached[name])
        return "ties" if gap.low <= 0 else "loses"

    @property
    def best(self) -> str:
        """Return who has the highest mean over draws."""
        return max(self.reached, key=self.mean)

    def mean(self, name: str) -> float:
        """Return the mean detection score of a synthesizer's draws."""
        return fmean(score.value for score in self.reached[name])

    def lost(self, name: str) -> float:
        """Return by how much a synthesizer is below the highest."""
        return self.mean(self.best) - self.mean(name)


def main() -> None:
    """Print a line a case, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(e.name for e in EXPERIMENTS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--most-minutes", type=float, default=5.0, help="for one fit afterwards")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text("\n".join(page(kept())) + "\n", encoding="utf-8")
        return
    cases = []
    print("\n".join(HEAD))
    for experiment in EXPERIMENTS:
        if experiment.name not in given.data.split(","):
            continue
        try:
            frame = experiment.load(data_root())
        except FileNotFoundError:
            print(f"| {experiment.name} | – | not here | – | – | – | – | – |")
            continue
        for seed in map(int, given.seeds.split(",")):
            halves = read_halves(experiment, frame, seed)
            cases.append(case(experiment, halves, seed, given.minutes, given.most_minutes))
            print(line(cases[-1]), flush=True)
            with STORE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(cases[-1])) + "\n")
    print("\n".join(summary(cases)))


def kept() -> list[Case]:
    """Return the cases that were measured, by table and seed."""
    found = {}
    for text in STORE.read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        reached = {
            name: [Score(**{**score, "interval": tuple(score["interval"])}) for score in scores]
            for name, scores in one["reached"].items()
        }
        found[one["table"], one["seed"]] = Case(
            **{**one, "tied": tuple(one["tied"]), "reached": reached}
        )
    return [found[key] for key in sorted(found)]


def page(cases: list[Case]) -> list[str]:
    """Return docs/adviser.md."""
    return [
        "# Does the adviser pick the best?", "",
        "The adviser is given half of a real table and five minutes; then every synthesizer is",
        "fitted to all of that half, and three draws of each are judged on the other half (mean",
        "detection score). *Wins*: nobody is higher; *ties*: the difference to the highest may be",
        "chance (its 95 % interval holds 0). Written by `python benchmarks/adviser.py --page`.",
        "", *HEAD, *map(line, cases), *summary(cases),
    ]  # fmt: skip


def read_halves(experiment: Experiment, frame, seed: int) -> tuple[Table, Table]:
    """Return both halves under one schema, with the roles that the table's question gives."""
    half = split(experiment, frame, seed)
    roles = {"target": experiment.target}
    if experiment.time is not None:
        roles = {"time": experiment.time, "event": experiment.target}
    whole = mk.read(mk_frame(half.train, half.holdout), **roles)
    n = len(half.train)
    rows = range(whole.n_rows)
    return whole.rows(list(rows[:n])), whole.rows(list(rows[n:]))


def mk_frame(train, holdout):
    """Return both halves as one frame, no value as null."""
    import pandas as pd

    return pd.concat([train, holdout], ignore_index=True).replace("", None)


def case(
    experiment: Experiment, halves: tuple[Table, Table], seed: int, minutes: float, most: float
) -> Case:
    """Ask the adviser with one half; fit everybody to all of it and judge on the other."""
    train, fresh = halves
    begun = time.perf_counter()
    advice = mk.advise(train, minutes=minutes, seed=seed)
    seconds = time.perf_counter() - begun
    reached = {}
    for name in [one.name for one in advice.ranking]:
        found = score_of(name, train, fresh, seed, most)
        if found is not None:
            reached[name] = found
    tied = tuple(one.name for one in advice.ranking if one.tied)
    return Case(experiment.name, seed, advice.best, tied, seconds, reached)


def score_of(name: str, train: Table, fresh: Table, seed: int, most: float) -> list[Score] | None:
    """Return detection scores on fresh subjects, None for one that cannot be fitted in time."""
    try:
        watch = Deadline(most).strict(lambda progress: None)
        model = catalogue.build(name).fit(train, seed=seed, watch=watch)
    except ManikinError:
        return None
    metric = catalogue.metrics(("fidelity/detection",))["fidelity/detection"]
    found = []
    for draw in range(DRAWS):
        trial = Trial(train, fresh, model.sample(train.n_subjects, seed=seed + draw))
        scores = metric(trial, seed=seed)
        found.append(next(s for s in scores if s.metric == "fidelity/detection.score"))
    return found


def line(one: Case) -> str:
    """Return a row of the table."""
    best = one.best
    lost = f"{one.lost(one.advised):.3f}" if one.advised in one.reached else "–"
    return (
        f"| {one.table} | {one.seed} | {one.advised} | {one.outcome(one.advised)} | {lost} | {best}"
        f" ({one.mean(best):.3f}) | {', '.join(one.tied) or '–'} | {one.seconds:.0f} |"
    )


def summary(cases: list[Case]) -> list[str]:
    """Return the adviser's share of wins and ties, and what each fixed choice would have had."""
    said = ["", "| choice | wins | wins or ties | mean below the best |", "|---|---|---|---|"]
    rows = {"the advised one": [(c, c.advised) for c in cases]}
    for name in dict.fromkeys(n for c in cases for n in c.reached):
        rows[f"always {name}"] = [(c, name) for c in cases]
    for called, chosen in rows.items():
        outcomes = [c.outcome(name) for c, name in chosen]
        lost = [c.lost(name) for c, name in chosen if name in c.reached]
        wins, ties = outcomes.count("wins"), outcomes.count("ties")
        mean = sum(lost) / len(lost) if lost else float("nan")
        said.append(f"| {called} | {wins}/{len(cases)} | {wins + ties}/{len(cases)} | {mean:.3f} |")
    return said


if __name__ == "__main__":
    main()
