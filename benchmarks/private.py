"""Measure what is left of a table under a privacy budget: ours beside peers, floor and ceiling.

python benchmarks/private.py                                what is missing, or older than its file
python benchmarks/private.py --data rotterdam --seeds 0 --epsilons 1 --methods table/mst
python benchmarks/private.py --page                         only rewrite the page from what is known
python benchmarks/private.py --speed                        seconds of ours on 10 k x 20, 100 k x 50

Figures go to benchmarks/private.json as they are made; docs/private.md is written from it. Everyone
is told the same beforehand: categories, bounds and decimals of every column, and whether it may be
empty. A person would declare these; here both halves of the table stand in for the person.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import pandas as pd
import private_page
import results
from coding import Coded, code
from competitors import Drawn, Options, Peer, draw, kept
from experiments import EXPERIMENTS, Experiment, Split, data_root, split
from judges import _fold_aucs, _lightgbm, _trends, detection_score
from utility import utility

from manikin import catalogue

ROOT = Path(__file__).parents[1]
STORE = ROOT / "benchmarks" / "private.json"
DELTA = 1e-6
BINS = 20  # even ones, between the public bounds: of the error, and of peers that need bins
TABLES = ("rotterdam", "nwtco", "colon", "gbsg2", "support2", "diabetes130")

OURS = tuple(Peer(name, "manikin", name, "") for name in private_page.OURS)
NETWORKS = tuple(
    Peer(name, "manikin", name, "")
    for name in catalogue.names()
    if catalogue.takes_budget(name) and not catalogue.needs_budget(name)
)
FLOOR = Peer(private_page.FLOOR, "manikin", "columns", "")
FREE = Peer(private_page.FREE, "manikin", "table/seqtree", "")  # asks for no budget
PEERS = (
    Peer("dpmm mst", "dpmm", "mst", "", "python3.11"),
    Peer("opendp mst", "opendp", "mst", ""),
    Peer("smartnoise mst", "smartnoise", "mst", "", "python3.11"),
    Peer("dpmm privbayes", "dpmm", "priv_bayes", "", "python3.11"),
    Peer("dpmm aim", "dpmm", "aim", "", "python3.11"),
    Peer("opendp aim", "opendp", "aim", ""),
    Peer("smartnoise aim", "smartnoise", "aim", "", "python3.11"),
)
METHODS = {method.name: method for method in (*OURS, *NETWORKS, FLOOR, FREE, *PEERS)}
SOURCES = (
    "mst",
    "aim",
    "_private",
    "_private_bins",
    "_public",
    "_pgm",
    "_pgm_pairs",
    "_zeros",
)  # what ours are made of


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and not known; write the page."""
    given = _parser().parse_args(arguments)
    if given.speed:
        _speed()
    elif not given.page:
        options = Options(given.most_seconds, 1)
        for seed in given.seeds:
            for name in given.data:
                half = _split(name, seed)
                if half is not None:
                    _measure(half, given.methods, given.epsilons, options)
    private_page.write(results.known(STORE), [e for e in EXPERIMENTS if e.name in TABLES], ROOT)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="which (all)")
    parser.add_argument("--data", nargs="+", default=list(TABLES), help="data sets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[1.0, 3.0])
    parser.add_argument("--most-seconds", type=int, default=300, help="CPU time of one run")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--speed", action="store_true", help="only time ours on two larger tables")
    return parser


def _split(name: str, seed: int) -> Split | None:
    experiment = next(e for e in EXPERIMENTS if e.name == name)
    try:
        return split(experiment, experiment.load(data_root()), seed)
    except FileNotFoundError:
        print(f"{name}: not here")
        return None


def facts(half: Split) -> dict[str, dict[str, Any]]:
    """Return what is public of every column; both halves stand in for a person's declaration."""
    whole = pd.concat([half.train, half.holdout], ignore_index=True)
    found: dict[str, dict[str, Any]] = {}
    for name in whole.columns:
        cells = whole[name][whole[name] != ""]
        fact: dict[str, Any] = {"missing": bool(len(cells) < len(whole))}
        if name in half.experiment.numeric:
            values = pd.to_numeric(cells)
            places = cells.str.partition(".")[2].str.rstrip("0").str.len().max()
            fact |= {"minimum": float(values.min()), "maximum": float(values.max())}
            fact |= {"decimals": int(places)}
        else:
            fact |= {"categories": sorted(cells.unique())}
        found[name] = fact
    return found


# ---------------------------------------------------------------------------------- measuring


def _measure(
    half: Split, wanted: Sequence[str], epsilons: Sequence[float], options: Options
) -> None:
    """Measure the ceiling and the methods wanted on one split, each unless it is known."""
    told = facts(half)
    where = f"{half.experiment.name}/{half.seed}"
    known = results.known(STORE).get(private_page.CEILING, {}).get(where)
    if known is None:
        known = {"scores": _judged(half, half.train, told), "rows": len(half.train),
                 "columns": len(half.train.columns), "digest": half.digest}  # fmt: skip
        results.put(STORE, private_page.CEILING, {where: known})
    for name in wanted:
        method = METHODS[name]
        for epsilon in epsilons if method != FREE else (0.0,):
            at = f"{where}/{epsilon:g}"
            before = results.known(STORE).get(name, {})
            if before.get(at, {}).get("made_of") == _made_of(method):
                continue
            if method in PEERS and (why := _hopeless(before, at, options)):
                run: dict[str, Any] = {"failure": why}
            else:
                run = _run(method, half, told, epsilon, options, known["scores"]["utility"])
            run |= {"made_of": _made_of(method), "most_seconds": options.most_seconds}
            results.put(STORE, name, {at: run})
            print(name, at, run.get("failure") or run["scores"], run.get("cpu_seconds", ""),
                  flush=True)  # fmt: skip


def _run(
    method: Peer, half: Split, told: dict[str, Any], epsilon: float, options: Options, real: float
) -> dict[str, Any]:
    budget = {"public": told, "epsilon": epsilon, "delta": DELTA}
    earlier = kept(method, half, options, budget) if method in PEERS else None
    drawn: Drawn = earlier or draw(method, half, options, budget)
    if drawn.rows is None:
        return {"failure": drawn.failure}
    scores = _judged(half, drawn.rows, told)
    scores["gap"] = round(real - scores["utility"], 5)
    seconds = float(str(drawn.meta["fit_seconds"])) + float(str(drawn.meta["sample_seconds"]))
    return {
        "scores": scores,
        "cpu_seconds": round(float(str(drawn.meta["cpu_seconds"])), 2),
        "seconds": round(seconds, 2),
    }


def _hopeless(before: dict[str, Any], at: str, options: Options) -> str:
    """Return why a peer is not tried again: it did not finish on this table with less ε or so."""
    table = at.partition("/")[0]
    for where, run in before.items():
        failure = str(run.get("failure", ""))
        late = failure.startswith("not finished") and run["most_seconds"] >= options.most_seconds
        if where.startswith(f"{table}/") and late:
            return failure
    return ""


def _judged(half: Split, rows: pd.DataFrame, told: dict[str, Any]) -> dict[str, float]:
    """Return the scores of rows against held-out ones."""
    train, holdout, drawn = code(half, rows)
    size = min(len(drawn.values), len(holdout.values))
    x = np.concatenate([drawn.values[:size], holdout.values[:size]])
    y = np.repeat([1, 0], size)
    one, two = errors(_binned(drawn, told), _binned(holdout, told))
    scores = {
        "two": two,
        "one": one,
        "tenths": 1 - _trends(drawn, holdout, train),
        "utility": utility(half.experiment, drawn, holdout),
        "detection": detection_score(_fold_aucs(_lightgbm(drawn, half.seed), x, y, 5, half.seed)),
    }
    return {name: round(float(value), 5) for name, value in scores.items() if value == value}


def errors(drawn: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return the mean total variation of single columns and of pairs: ½ Σ |p − q|."""
    width = np.maximum(drawn.max(axis=0), real.max(axis=0)) + 1
    one = [_variation(drawn[:, j], real[:, j], int(width[j])) for j in range(width.size)]
    two = [
        _variation(*(part[:, i] * width[j] + part[:, j] for part in (drawn, real)),
                   int(width[i] * width[j]))
        for i, j in combinations(range(width.size), 2)
    ]  # fmt: skip
    return float(np.mean(one)), float(np.mean(two))


def _variation(a: np.ndarray, b: np.ndarray, cells: int) -> float:
    shares = [np.bincount(part, minlength=cells) / part.size for part in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _binned(table: Coded, told: dict[str, Any]) -> np.ndarray:
    """Cut numbers into even bins between the public bounds; missing is one more. Codes stay."""
    columns = []
    for j, name in enumerate(table.names):
        values = table.values[:, j]
        if table.numeric[j]:
            edges = np.linspace(told[name]["minimum"], told[name]["maximum"], BINS + 1)[1:-1]
            values = np.where(np.isnan(values), BINS, np.searchsorted(edges, values, "right"))
        columns.append(values.astype(np.int64))
    return np.column_stack(columns)


# ---------------------------------------------------------------------------------- time


def _speed() -> None:
    """Time fit and sample of ours on the first rows and columns of Diabetes 130-US."""
    source = data_root() / "diabetes130" / "diabetic_data.csv"
    whole = pd.read_csv(source, dtype=str, keep_default_na=False).replace("?", "")
    whole = whole.drop(columns=["encounter_id", "patient_nbr"])
    experiment = next(e for e in EXPERIMENTS if e.name == "diabetes130")
    public = facts(Split(experiment, 0, whole, whole.head(0), ""))
    for title, frame in (
        ("10 k × 20", whole.iloc[:10_000, :20]),
        (f"100 k × {whole.shape[1]}", whole.iloc[:100_000]),
    ):
        digest = hashlib.sha256(title.encode()).hexdigest()[:16]
        kinds = tuple(name for name in experiment.numeric if name in frame)
        half = Split(_only(experiment, kinds, frame), 0, frame, frame.head(1), digest)
        told = {name: public[name] for name in frame}
        for method in OURS:
            budget = {"public": told, "epsilon": 1.0, "delta": DELTA}
            drawn = draw(method, half, Options(900, 1), budget)
            parts = ("fit_seconds", "sample_seconds", "cpu_seconds", "peak_rss_mb")
            run = {"failure": drawn.failure} if drawn.failure else {
                part: round(float(str(drawn.meta[part])), 1) for part in parts
            }  # fmt: skip
            results.put(STORE, "speed", {f"{title}/{method.name}": run})
            print(title, method.name, run, flush=True)


def _only(experiment: Experiment, numeric: tuple[str, ...], frame: pd.DataFrame) -> Experiment:
    target = experiment.target if experiment.target in frame else frame.columns[-1]
    return replace(experiment, name="speed", numeric=numeric, target=target)


# ---------------------------------------------------------------------------------- what is known


def _made_of(method: Peer) -> str:
    """Name the state of the files that ours are made of: when they change, figures are old."""
    if method.environment != "manikin" or method == FREE:
        return ""
    table = ROOT / "src" / "manikin" / "synthesizers" / "table"
    files = [table / f"{name}.py" for name in SOURCES]
    if method in NETWORKS:  # of which mst and aim are no part
        source = ROOT / "src" / "manikin"
        files = [source / "synthesizers" / f"{method.name}.py", table / "_noisy.py",
                 source / "nn" / "private.py", source / "privacy" / "training.py"]  # fmt: skip
    text = "".join(path.read_text() for path in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
