"""Rewrite docs/benchmarks.md: ours and the peers side by side, judged in one run.

python benchmarks/tables.py                      everything, peers included (hours)
python benchmarks/tables.py --reuse-peers        peers from an earlier run of an identical split
python benchmarks/tables.py --data gbsg2 --seeds 0 --peers none --out quick.md
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import layout
import speed
from competitors import OURS, PEERS, Drawn, Options, Peer, draw, kept
from experiments import EXPERIMENTS, Experiment, Split, data_root, split
from judges import Judged, judge, null
from memory import remembered
from writing import replaced

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Settings:
    """What this run does."""

    experiments: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    ours: tuple[Peer, ...]
    peers: tuple[Peer, ...]
    options: Options
    reuse_peers: bool
    kept_only: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its document."""
    given = _parser().parse_args(arguments)
    settings = Settings(
        tuple(_chosen(EXPERIMENTS, given.data)),
        tuple(given.seeds),
        tuple(_chosen(OURS, given.ours)),
        tuple(_chosen(PEERS, given.peers)),
        Options(given.most_seconds, given.threads),
        given.reuse_peers or given.kept_only,
        given.kept_only,
    )
    started = time.time()
    tables, skipped = _loaded(settings.experiments)
    if given.stage == "peers":
        _fill(settings, tables)
        return 0
    results = _run(settings, tables)
    measured = (
        speed.measure(
            settings.options, reuse_peers=settings.reuse_peers, kept_only=settings.kept_only
        )
        if given.speed
        else None
    )
    body = layout.document(results, skipped, settings, measured, time.time() - started)
    path = Path(given.out)
    before = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replaced(before, body), encoding="utf-8")
    print(f"wrote {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["all"], help="experiments, or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ours", nargs="+", default=["all"], help="our synthesizers, all or none")
    parser.add_argument("--peers", nargs="+", default=["all"], help="peers, all or none")
    parser.add_argument("--reuse-peers", action="store_true", help="take kept peer outputs")
    parser.add_argument("--kept-only", action="store_true", help="and run no peer anew")
    parser.add_argument("--most-seconds", type=int, default=300, help="CPU time of one run")
    parser.add_argument("--threads", type=int, default=1, help="threads of every method")
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="leave speed out")
    parser.add_argument("--stage", choices=["all", "peers"], default="all", help="peers: only draw")
    parser.add_argument("--out", default=str(DOCUMENT), help="the document to rewrite")
    return parser


def _chosen(known: Sequence[Peer | Experiment], names: list[str]) -> list[Peer | Experiment]:
    if names == ["all"]:
        return list(known)
    if names == ["none"]:
        return []
    unknown = set(names) - {item.name for item in known}
    if unknown:
        raise SystemExit(
            f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(i.name for i in known)}"
        )
    return [item for item in known if item.name in names]


def _loaded(
    experiments: tuple[Experiment, ...],
) -> tuple[dict[Experiment, pd.DataFrame], dict[str, str]]:
    """Return the tables that are there, and why the others are not."""
    tables, skipped = {}, {}
    for experiment in experiments:
        try:
            tables[experiment] = experiment.load(data_root())
        except FileNotFoundError as error:
            skipped[experiment.name] = f"{Path(error.filename).name} is not under the data folder"
            print(f"{experiment.name}: skipped, {skipped[experiment.name]}")
    return tables, skipped


def _fill(settings: Settings, tables: dict[Experiment, pd.DataFrame]) -> None:
    """Draw with the peers only: all of them on one seed before the next."""
    unfinished: set[tuple[str, str]] = set()
    for seed in settings.seeds:
        for peer in settings.peers:
            for experiment, frame in tables.items():
                _drawn(peer, settings, unfinished, split(experiment, frame, seed))


def _drawn(peer: Peer, settings: Settings, unfinished: set[tuple[str, str]], half: Split) -> Drawn:
    """Return what the method draws, kept or fresh; unfinished once is not tried again."""
    where = f"{half.experiment.name}, seed {half.seed}, {peer.name}"
    ours = peer in OURS
    earlier = kept(peer, half, settings.options) if settings.reuse_peers and not ours else None
    pair = (peer.name, half.experiment.name)
    if earlier is not None:
        drawn = earlier
    elif settings.kept_only and not ours:
        return Drawn(None, {"failure": "not run"}, fresh=True)
    elif pair in unfinished:
        return Drawn(None, {"failure": "not run: another seed did not finish"}, fresh=True)
    else:
        started = time.time()
        drawn = draw(peer, half, settings.options)
        print(f"{where}: {drawn.failure or 'drawn'}, {time.time() - started:.1f} s", flush=True)
    if drawn.failure and not ours:
        unfinished.add(pair)
    return drawn


def _run(settings: Settings, tables: dict[Experiment, pd.DataFrame]) -> list[layout.Result]:
    """Draw and judge everything."""
    results: list[layout.Result] = []
    unfinished: set[tuple[str, str]] = set()
    for experiment, frame in tables.items():
        for seed in settings.seeds:
            half = split(experiment, frame, seed)
            fresh_rows = _judged("null", settings, half, None, partial(null, half, seed))
            results.append(layout.Result(experiment.name, seed, layout.CEILING, fresh_rows, {}))
            real = fresh_rows.utility
            for method in (*settings.ours, *settings.peers):
                drawn = _drawn(method, settings, unfinished, half)
                judged: Judged | None = None
                if drawn.rows is not None:
                    score = partial(judge, half, drawn.rows, real, seed)
                    judged = _judged("rows", settings, half, drawn.rows, score)
                    print(f"    {method.name}: detection {judged.detection:.3f}", flush=True)
                meta = {**drawn.meta, "fresh": drawn.fresh, "trtr": real, "rows": len(half.train)}
                results.append(layout.Result(experiment.name, seed, method.name, judged, meta))
    return results


def _judged(
    what: str,
    settings: Settings,
    half: Split,
    rows: pd.DataFrame | None,
    compute: Callable[[], Judged],
) -> Judged:
    """Judge, or with --reuse-peers remember what the same judges said of the same rows."""
    return remembered(what, half, rows, compute) if settings.reuse_peers else compute()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
