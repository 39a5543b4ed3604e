"""Panels: engines of histories on trials' visits, beside peers, floors and ceilings.

Half of the subjects is learnt from, the other half judged by; subjects never stand in both. A
random forest of five folds tells held-out from drawn subjects by what sums up each of them: mean,
deviation, mean absolute step and last less first value of every channel, number of visits, and
mean, deviation and greatest of the days between them (24 numbers for five channels). 0.5 is ideal.
Beside it stand how far lag-1 correlations (of neighbouring values of a subject) are off on
average, and the mean Kolmogorov-Smirnov distance of values. Everybody runs in a process of its own;
who takes more than `--most-seconds` of processor time is stopped. Writes its parts of
docs/histories.md, of a part only the rows of `--makers` and `--peers`; `--sizes` instead measures
seconds and memory on visits that are made up. Some minutes, with peers an hour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from limits import at_most
from numpy.typing import NDArray
from pages import Rows, put_table
from panels_data import SETS, made_up
from panels_makers import ENGINES, MAKERS, dense
from panels_peers import OTHERS, Made, draw

from manikin import catalogue
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator

Floats = NDArray[np.float64]

PAGE = Path(__file__).parents[1] / "docs" / "histories.md"
SCORES = ("told apart (0.5 is ideal)", "lag-1 error", "KS")
COLUMNS = (*SCORES, "processor s", "peak MB", "splits", "measured")
SIZES = ("events", "processor s", "peak MB", "measured")
LAST = ("plain panel copula (40 lines)", "shuffled within subjects (floor)",
        "independent visits (floor)")  # fmt: skip
TREES, FOLDS = 300, 5


# ------------------------------------------------------------------ judging


def aligned(events: Events, schema: EventSchema) -> Events:
    """Return the same events by the codes of another schema; a code that is missing is none."""
    place = np.array([schema.place[code.key] for code in events.schema.codes], np.int32)
    return replace(events, code=place[events.code],
                   schema=replace(events.schema, codes=schema.codes))  # fmt: skip


def summaries(events: Events) -> Floats:
    """Return what sums up each subject, (subjects, 4 * channels + 4)."""
    visits, cells = dense(events)
    n_channels = cells.shape[1]
    found = np.full((events.n_subjects, 4 * n_channels + 4), np.nan)
    day = visits.start.astype("datetime64[us]").astype(np.int64) / 86_400e6
    for i in range(events.n_subjects):
        own = slice(visits.starts[i], visits.starts[i + 1])
        gaps = np.diff(day[own])
        found[i, -4] = day[own].size
        if gaps.size:
            found[i, -3:] = gaps.mean(), gaps.std(), gaps.max()
        for j in range(n_channels):
            x = cells[own, j]
            x = x[~np.isnan(x)]
            if x.size:
                found[i, 4 * j] = x.mean()
            if x.size > 1:
                steps = x.std(), np.abs(np.diff(x)).mean(), x[-1] - x[0]
                found[i, 4 * j + 1 : 4 * j + 4] = steps
    return np.nan_to_num(found, nan=-999.0)


def told_apart(real: Floats, synthetic: Floats, seed: int) -> float:
    """Return the area under the curve by which a forest tells one from the other."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.vstack([real, synthetic])
    y = np.repeat([0, 1], [len(real), len(synthetic)])
    forest = RandomForestClassifier(TREES, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    p = cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, p))


def lag_one(events: Events) -> Floats:
    """Return the correlation of each channel's neighbouring values of a subject."""
    visits, cells = dense(events)
    found = np.zeros(cells.shape[1])
    for j in range(cells.shape[1]):
        own = np.flatnonzero(~np.isnan(cells[:, j]))
        same = np.diff(visits.whose[own]) == 0
        x, y = cells[own[:-1][same], j], cells[own[1:][same], j]
        if x.size > 2 and x.std() > 0 and y.std() > 0:
            found[j] = np.corrcoef(x, y)[0, 1]
    return found


def distance(one: Events, two: Events) -> float:
    """Return the mean Kolmogorov-Smirnov distance of channels' values."""
    from scipy.stats import ks_2samp

    return float(np.mean([
        ks_2samp(one.value[one.code == j], two.value[two.code == j], method="asymp").statistic
        for j in range(len(one.schema))
    ]))  # fmt: skip


# ------------------------------------------------------------------ one run


def make(train: Events, n: int, maker: str, seed: int, most_seconds: int) -> Made:
    """Draw by one maker, and say what it cost."""
    if maker in OTHERS:
        return draw(OTHERS[maker], train, n, seed, most_seconds)
    if maker in ENGINES:
        catalogue.build(ENGINES[maker])  # imports count for nobody
    began = time.process_time()
    events, failure = None, ""
    try:
        with at_most(most_seconds):
            events = MAKERS[maker](train, n, seed)
    except TimeoutError as error:
        failure = str(error)
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return Made(events, time.process_time() - began, int(peak) / 1024, failure)


def measure(
    events: Events, maker: str, seed: int, most_seconds: int = 3600
) -> tuple[tuple[float, ...], Made]:
    """Return the forest's area, lag-1 error and distance for one split, and what was drawn."""
    order = generator(seed, "panel split").permutation(events.subjects)
    half = order.size // 2
    train, held = (events.take(np.sort(part)) for part in (order[:half], order[half:]))
    made = make(train, held.n_subjects, maker, seed, most_seconds)
    if made.events is None:
        return (), made
    drawn = aligned(made.events, events.schema)
    area = told_apart(summaries(held), summaries(drawn), seed)
    lag = float(np.abs(lag_one(held) - lag_one(drawn)).mean())
    return (area, lag, distance(held, drawn)), made


def apart(*words: str) -> dict[str, object]:
    """Run this command in a process of its own, and return what it found."""
    found = subprocess.run([sys.executable, __file__, *words], check=False, capture_output=True,
                           text=True)  # fmt: skip
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["no message"])[-1]
        return {"scores": [], "seconds": None, "peak_mb": None, "failure": f"failed: {last[:120]}"}
    known: dict[str, object] = json.loads(found.stdout.splitlines()[-1])
    return known


def told(scores: tuple[float, ...], made: Made) -> str:
    """Return one run as a line that `apart` reads."""
    return json.dumps({"scores": scores, "seconds": made.seconds, "peak_mb": made.peak_mb,
                       "failure": made.failure})  # fmt: skip


# ------------------------------------------------------------------ tables


def row(name: str, maker: str, seeds: int, most_seconds: int) -> dict[str, str]:
    """Return the cells of one maker: mean and deviation over splits; one that stops ends them."""
    runs: list[dict[str, object]] = []
    for seed in range(seeds):
        runs.append(apart("--one", name, maker, str(seed), "--most-seconds", str(most_seconds)))
        if runs[-1]["failure"]:
            break
    done = [run for run in runs if not run["failure"]]
    cells = dict.fromkeys(SCORES, "")
    if done:
        scores = np.array([run["scores"] for run in done], float)
        pairs = zip(scores.mean(0), scores.std(0), strict=True)
        cells = dict(zip(SCORES, (f"{mean:.3f} ± {off:.3f}" for mean, off in pairs), strict=True))
    else:
        cells[SCORES[0]] = str(runs[-1]["failure"])
    return cells | _cost(done or runs) | {"splits": str(len(done))}


def sized(n: int, maker: str, most_seconds: int) -> dict[str, str]:
    """Return what `n` made-up subjects cost, to be learnt from and drawn."""
    run = apart("--size", str(n), maker, "--most-seconds", str(most_seconds))
    cells = {"events": f"{made_up(n).n_events:,}"} | _cost([run])
    return cells | ({"processor s": str(run["failure"])} if run["failure"] else {})


def _cost(runs: list[dict[str, object]]) -> dict[str, str]:
    """Return median seconds, and the most memory, as cells."""
    seconds, most = (np.array([run[what] for run in runs], float) for what in
                     ("seconds", "peak_mb"))  # fmt: skip
    shown = f"{np.median(seconds):.1f}" if np.isfinite(seconds).any() else ""
    peak = f"{np.nanmax(most):,.0f}" if np.isfinite(most).any() else ""
    return {"processor s": shown, "peak MB": peak, "measured": time.strftime("%Y-%m-%d")}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--makers", nargs="*", choices=[*MAKERS], default=[*MAKERS])
    parser.add_argument("--peers", nargs="*", choices=[*OTHERS], default=[*OTHERS])
    parser.add_argument("--sizes", nargs="*", type=int, help="subjects: seconds and memory instead")
    parser.add_argument("--most-seconds", type=int, default=300, help="of one fit and sample")
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--size", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, maker, seed = given.one
        print(told(*measure(SETS[name](), maker, int(seed), given.most_seconds)))
    elif given.size:
        n, maker = int(given.size[0]), given.size[1]
        print(told((), make(made_up(n), n, maker, 0, given.most_seconds)))
    elif given.sizes is not None:
        _sizes(given)
    else:
        _tables(given)


def _tables(given: argparse.Namespace) -> None:
    for name in given.data:
        events = SETS[name]()
        above = f"### {name}: {events.n_subjects} subjects, {len(events.schema)} channels"
        for maker in [*given.makers, *given.peers]:
            title = OTHERS[maker].named() if maker in OTHERS else maker
            rows = {title: row(name, maker, given.seeds, given.most_seconds)}
            _shown(name, rows)
            if not given.print_only:
                first = [known for known in MAKERS if known not in LAST]
                put_table(PAGE, f"panels.py {name}", "## Panels", above, COLUMNS, rows,
                          first=first, last=LAST)  # fmt: skip


def _sizes(given: argparse.Namespace) -> None:
    above = (
        "To learn from visits that are made up (5 channels, about 50 events a subject), and to draw"
        f" as many; stopped after {given.most_seconds:,} s of processor time."
    )
    for n in given.sizes:
        for maker in [*given.makers, *given.peers]:
            title = OTHERS[maker].named() if maker in OTHERS else maker
            rows = {f"{title}, {n:,} subjects": sized(n, maker, given.most_seconds)}
            _shown("sizes", rows)
            if not given.print_only:
                put_table(PAGE, "panels.py sizes", "## Seconds and memory", above, SIZES, rows)


def _shown(what: str, rows: Rows) -> None:
    for title, cells in rows.items():
        print(what, title, *cells.values(), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
