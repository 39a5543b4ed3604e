"""Measure families and peers on clinical tables of fewer than 500 training rows.

python benchmarks/small.py                                what is missing, or older than its file
python benchmarks/small.py --data veteran --seeds 0 --methods table/seqtree "synthcity bn"
python benchmarks/small.py --page                         only rewrite the page from what is known

Fits and judgements go to benchmarks/small.json as they are made, docs/small.md is written from it.
Splits, processes and judges are those of tables.py; Wasserstein distance and coverage are added.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import pandas as pd
import results
import small_page
from coding import code
from competitors import PEERS, SMALL_PEERS, Drawn, Options, Peer, draw, kept
from experiments import EXPERIMENTS, Experiment, Split, _read, data_root, split
from judges import judge, null
from layout import CEILING
from memory import remembered
from right_model import nearness
from transport import coverage, wasserstein

ROOT = Path(__file__).parents[1]
RIGHT = small_page.RIGHT
STORE = ROOT / "benchmarks" / "small.json"
FAMILIES = ("seqtree", "mixture", "bayes_net", "argn", "copula", "boosted", "arf", "marginals")
OURS = tuple(Peer(f"table/{n}", "manikin", f"table/{n}", "") for n in FAMILIES)
SLOW = ("mostlyai", "sdv ctgan")  # only where an earlier run kept what they drew
SLOWEST = {"forestflow": ("veteran", "failure")}  # beyond --most-seconds elsewhere, by far
GENES = 100


def _veteran(root: Path) -> pd.DataFrame:
    return _read(root / "survival_r" / "veteran.csv").drop(columns=["rownames"])


def _failure(root: Path) -> pd.DataFrame:
    return _read(root / "uci_small" / "heart_failure_clinical_records.csv")


def _pbc(root: Path) -> pd.DataFrame:
    return _read(root / "survival_r" / "pbc.csv").drop(columns=["rownames", "id"])


def _brca(root: Path) -> pd.DataFrame:
    parts = []
    for part in ("train", "test"):
        path = root / "omics_mixomics" / f"tcga_brca_{part}_"
        genes = _read(Path(f"{path}mrna.csv.gz")).iloc[:, 1 : GENES + 1]
        subtype = _read(Path(f"{path}subtype.csv.gz")).iloc[:, 1]
        parts.append(genes.assign(subtype=subtype))
    return pd.concat(parts, ignore_index=True)


def _genes() -> tuple[str, ...]:
    try:
        return tuple(_brca(data_root()).columns[:-1])
    except FileNotFoundError:
        return ()


_FAILURE = "age creatinine_phosphokinase ejection_fraction platelets serum_creatinine serum_sodium"
_PBC = "time age bili chol albumin copper alk.phos ast trig platelet protime"
_KNOWN = {e.name: e for e in EXPERIMENTS}

SMALL: tuple[Experiment, ...] = (
    Experiment(
        "veteran", "Veterans' lung cancer trial, survival", _veteran,
        ("time", "karno", "diagtime", "age"), target="status", positive=("1",), time="time",
    ),
    Experiment(
        "brca", f"Breast cancer (TCGA), {GENES} transcripts and the subtype", _brca, _genes(),
        target="subtype", positive=("Basal",), note="wide: the first transcripts of mixOmics' 200",
    ),
    Experiment(
        "failure", "Heart failure clinical records (UCI 519), survival", _failure,
        (*_FAILURE.split(), "time"), target="DEATH_EVENT", positive=("1",), time="time",
    ),
    Experiment(
        "pbc", "Primary biliary cholangitis, survival", _pbc, tuple(_PBC.split()),
        target="status", positive=("2",), time="time", note="a quarter of the rows with gaps",
    ),
    _KNOWN["wdbc"], _KNOWN["gbsg2"], _KNOWN["heart"],
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and not known; write the page."""
    given = _parser().parse_args(arguments)
    if not given.page:
        options = Options(given.most_seconds, 1)
        for seed in given.seeds:
            for experiment in SMALL:
                if given.data and experiment.name not in given.data:
                    continue
                try:
                    half = split(experiment, experiment.load(data_root()), seed)
                except FileNotFoundError:
                    print(f"{experiment.name}: not here")
                    continue
                _measure(half, given.methods, options)
    small_page.write(results.known(STORE), SMALL, ROOT)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", help="ours and peers to measure (all)")
    parser.add_argument("--data", nargs="+", help="data sets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--most-seconds", type=int, default=300, help="CPU time of one run")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser


def _measure(half: Split, wanted: Sequence[str] | None, options: Options) -> None:
    """Measure the ceiling and the methods wanted on one split, each unless it is known."""
    where = f"{half.experiment.name}/{half.seed}"
    real = remembered("null", half, None, partial(null, half, half.seed))
    if where not in results.known(STORE).get(CEILING, {}):
        scores = {**vars(real), **_transported(half, half.train)}
        rows, columns = half.train.shape
        run = {"scores": _round(scores), "rows": rows, "columns": columns}
        results.put(STORE, CEILING, {where: run})
    if (one := f"{half.experiment.name}/0") not in results.known(STORE).get(RIGHT, {}):
        right = nearness(*half.train.shape)
        said = {"nearer": right["fitted"][0], "deviation": right["truth"][1]}
        results.put(STORE, RIGHT, {one: {"scores": said}})
    for method in (*OURS, *PEERS, *SMALL_PEERS):
        made_of = _digest(method)
        run = results.known(STORE).get(method.name, {}).get(where)
        if (wanted and method.name not in wanted) or (run and run["made_of"] == made_of):
            continue
        drawn = _drawn(method, half, options)
        if drawn is None:
            continue
        fields = ("fit_seconds", "sample_seconds", "cpu_seconds", "failure", "date")
        run = {k: drawn.meta[k] for k in fields if k in drawn.meta} | {"made_of": made_of}
        if drawn.rows is not None:
            judging = partial(judge, half, drawn.rows, real.utility, half.seed)
            judged = remembered("rows", half, drawn.rows, judging)
            run["scores"] = _round({**vars(judged), **_transported(half, drawn.rows)})
        results.put(STORE, method.name, {where: run})
        said = run["scores"]["detection"] if "scores" in run else drawn.failure
        print(f"{time.strftime('%H:%M:%S')} {where} {method.name}: {said}", flush=True)


def _drawn(method: Peer, half: Split, options: Options) -> Drawn | None:
    """Return what a method draws; a peer's rows of an identical split are taken as they are."""
    if method in OURS:
        return draw(method, half, options)
    earlier = kept(method, half, options)
    elsewhere = half.experiment.name not in SLOWEST.get(method.name, (half.experiment.name,))
    if earlier is not None or method.name in SLOW or elsewhere:
        return earlier
    return draw(method, half, options)


def _transported(half: Split, rows: pd.DataFrame) -> dict[str, float]:
    train, holdout, drawn = code(half, rows)
    return {
        "w1": wasserstein(drawn, holdout, train),
        "coverage": coverage(drawn, holdout, train),
    }


def _round(scores: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 5) for k, v in scores.items() if v == v}


def _digest(method: Peer) -> str:
    """Name the state of a family's own file: when it changes, its figures are old."""
    if method not in OURS:
        return ""
    path = ROOT / "src" / "manikin" / "synthesizers" / f"{method.name}.py"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
