"""Measure every family of table synthesizers on the same splits, beside peers, floor and ceiling.

python benchmarks/families.py                        what is missing, or older than its file
python benchmarks/families.py --families table/arf --data heart wdbc --seeds 0
python benchmarks/families.py --page                 only rewrite the page from what is known

Fits, judgements and attacks go to benchmarks/families.json as they are made; docs/families.md and
what `manikin list` shows (src/manikin/adviser/measured.yaml) are written from it. Peers' rows come
from an earlier run of benchmarks/tables.py on identical splits and are judged here.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import family_page
import results
from competitors import PEERS, Options, Peer, draw, kept
from experiments import EXPERIMENTS, Split, data_root, split
from judges import Judged, judge, null
from layout import CEILING
from membership import attacked
from memory import remembered

from manikin import catalogue

ROOT = Path(__file__).parents[1]
STORE = ROOT / "benchmarks" / "families.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and not known; write the page."""
    given = _parser().parse_args(arguments)
    known = results.known(STORE)
    if not given.page:
        options = Options(given.most_seconds, 1)
        for experiment in EXPERIMENTS:
            if given.data and experiment.name not in given.data:
                continue
            try:
                frame = experiment.load(data_root())
            except FileNotFoundError:
                print(f"{experiment.name}: not here")
                continue
            for seed in given.seeds:
                half = split(experiment, frame, seed)
                _measure(half, tuple(given.families or _ours()), options, known)
    family_page.write(known, ROOT)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", help="ours to measure (all)")
    parser.add_argument("--data", nargs="+", help="data sets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--most-seconds", type=int, default=300, help="CPU time of one run")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser


def _ours() -> tuple[str, ...]:
    return catalogue.installed("table/")


def _measure(
    half: Split, families: tuple[str, ...], options: Options, known: dict[str, Any]
) -> None:
    """Measure the ceiling, the peers that were drawn before, and these families on one split."""
    where = f"{half.experiment.name}/{half.seed}"
    real = remembered("null", half, None, partial(null, half, half.seed))
    _put(known, CEILING, where, real, {"trtr": real.utility, "rows": len(half.train)}, "")
    for peer in PEERS:
        drawn = kept(peer, half, options)
        if drawn is not None:
            judged = _judged(half, drawn.rows, real.utility)
            _put(known, peer.name, where, judged, drawn.meta, "")
            _attack(known, peer.name, half, drawn.rows)
    for name in families:
        made_of = _digest(name)
        before = known.get(name, {}).get(where, {})
        ours = Peer(name, "manikin", name, name)
        if before.get("made_of") == made_of:
            again = kept(ours, half, options) if "membership" not in before else None
            if (
                again is not None
                and _scores(_judged(half, again.rows, real.utility)) == before["scores"]
            ):  # the very rows that were judged
                _attack(known, name, half, again.rows)
            continue
        begun = time.time()
        drawn = draw(ours, half, options)
        judged = _judged(half, drawn.rows, real.utility)
        _put(known, name, where, judged, drawn.meta, made_of)
        _attack(known, name, half, drawn.rows)
        said = f"detection {judged.detection:.3f}" if judged is not None else drawn.failure
        print(f"{where} {name}: {said}, {time.time() - begun:.0f} s", flush=True)
        results.save(STORE, known)
    results.save(STORE, known)


def _judged(half: Split, rows: Any, real_utility: float) -> Judged | None:
    if rows is None:
        return None
    return remembered("rows", half, rows, partial(judge, half, rows, real_utility, half.seed))


def _put(
    known: dict[str, Any], name: str, where: str, judged: Judged | None, meta: Any, made_of: str
) -> None:
    costs = ("fit_seconds", "fit_cpu_seconds", "sample_seconds", "cpu_seconds",
             "peak_rss_mb", "trtr", "rows", "failure", "date")  # fmt: skip
    kept_meta = {k: meta[k] for k in costs if k in meta}
    new = {"scores": _scores(judged), "meta": kept_meta, "made_of": made_of}
    before = known.setdefault(name, {}).get(where, {})
    if "membership" in before and all(before[k] == new[k] for k in ("scores", "made_of")):
        new["membership"] = before["membership"]
    known[name][where] = new


def _scores(judged: Judged | None) -> dict[str, float]:
    if judged is None:
        return {}
    return {k: round(v, 5) for k, v in vars(judged).items() if math.isfinite(v)}


def _attack(known: dict[str, Any], name: str, half: Split, rows: Any) -> None:
    """Attack the rows that were drawn, unless they were attacked before."""
    run = known[name][f"{half.experiment.name}/{half.seed}"]
    if rows is not None and "membership" not in run:
        run["membership"] = attacked(half, rows)


def _digest(name: str) -> str:
    """Name the state of a family's own file: when it changes, its figures are old."""
    path = ROOT / "src" / "manikin" / "synthesizers" / f"{name}.py"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
