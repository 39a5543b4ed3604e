"""Panels: `events/panel` against floors, ceilings and baselines, on trials' visits.

Half of the subjects is learnt from, the other half judged by; subjects never stand in both. A
random forest of five folds tells held-out from drawn subjects by what sums up each of them: mean,
deviation, mean absolute step and last less first value of every channel, number of visits, and
mean, deviation and greatest of the days between them (24 numbers for five channels). 0.5 is ideal.
Beside it stand how far lag-1 correlations (of neighbouring values of a subject) are off on
average, and the mean Kolmogorov-Smirnov distance of values. Writes its parts of docs/histories.md,
of a part only the rows of `--makers`: some minutes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pages import put_table
from pilot_data import vital_signs
from scipy.special import ndtri
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.data.visits import visits_of

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("MANIKIN_DATA", "data"))
PAGE = Path(__file__).parents[1] / "docs" / "histories.md"
COLUMNS = ("told apart (0.5 is ideal)", "lag-1 error", "KS", "processor s", "splits", "measured")
TREES, FOLDS = 300, 5


def pilot() -> Events:
    """Vital signs of the CDISC pilot study: 254 subjects, 5 channels."""
    return vital_signs()


def pbc() -> Events:
    """The Mayo Clinic's trial in primary biliary cholangitis: 312 subjects, 12 channels."""
    cells = pl.read_csv(DATA / "survival_r" / "pbcseq.csv", null_values=["", "NA"])
    numbers = ("bili", "chol", "albumin", "alk.phos", "ast", "platelet", "protime", "ascites",
               "hepato", "spiders", "edema", "stage")  # fmt: skip
    facts = ["trt", "age", "sex", "status"]
    return _long(cells, "id", pl.col("day"), facts, numbers)


def toenail() -> Events:
    """A trial of two treatments of toenail infection: 294 subjects, one binary channel."""
    cells = pl.read_csv(DATA / "rct_longitudinal" / "lme4_toenail.csv")
    cells = cells.with_columns((pl.col("outcome") != "none or mild").cast(pl.Int64))
    return _long(cells, "patientID", (pl.col("time") * 28).round(0), ["treatment"], ("outcome",))


def _long(
    cells: pl.DataFrame, subject: str, day: pl.Expr, facts: list[str], numbers: tuple[str, ...]
) -> Events:
    """Return histories of a table with one row a visit."""
    own = cells.unique(subset=subject, maintain_order=True).sort(subject)
    table = Table.from_frame(own.select(facts))
    static = Table(table.schema, np.arange(own.height), table.columns, table.states)
    rows = {who: i for i, who in enumerate(own[subject].to_list())}
    whose = np.array([rows[who] for who in cells[subject].to_list()])
    days = cells.select(day.alias("day"))["day"].to_numpy()
    when = np.datetime64("1980-01-01", "us") + days.astype("timedelta64[D]")
    values = cells.select(numbers).to_numpy().astype(np.float64)
    visit, code = np.nonzero(~np.isnan(values))
    codes = tuple(Code(name, "measurement", numeric=True, decimals=2) for name in numbers)
    schema = EventSchema(static.schema, codes, clock="day")
    return Events.of(schema, static, whose[visit], when[visit], code, values[visit, code])


SETS: dict[str, Callable[[], Events]] = {"CDISC pilot": pilot, "pbcseq": pbc, "toenail": toenail}


# ------------------------------------------------------------------ makers


def copula(train: Events, n: int, seed: int) -> Events:
    """Draw by the plain panel copula: the 40 lines that any engine has to beat.

    Normal scores of each channel; one level a subject, and one first-order residual with the same
    variance for everybody; gaps and numbers of visits from the training subjects.
    """
    rng = generator(seed, "plain panel copula")
    visits, cells = dense(train)
    scores = np.full(cells.shape, np.nan)
    for j in range(cells.shape[1]):
        own = ~np.isnan(cells[:, j])
        order = np.argsort(np.argsort(cells[own, j] + 1e-9 * rng.random(own.sum())))
        scores[own, j] = ndtri((order + 0.5) / own.sum())
    filled = np.nan_to_num(scores)
    known = (~np.isnan(scores)).astype(float)
    total = np.maximum(np.add.reduceat(known, visits.starts[:-1], 0), 1)
    mean = np.add.reduceat(filled, visits.starts[:-1], 0) / total
    rest = np.where(known > 0, filled - mean[visits.whose], 0.0)
    follows = np.flatnonzero(np.diff(visits.whose) == 0)
    kept = (rest[follows] * rest[follows + 1]).sum(0) / np.maximum((rest[follows] ** 2).sum(0), 1)
    level = rng.multivariate_normal(np.zeros(len(kept)), np.cov(mean.T).reshape(len(kept), -1), n)
    spread = (rest.T @ rest) / max(1, len(rest))
    days = visits.gaps_days()
    rows, walk = [], np.zeros(level.shape)
    counts = rng.choice(visits.counts[visits.counts > 0], n)
    day = np.zeros(n)
    for v in range(counts.max()):
        on = np.flatnonzero(counts > v)
        at = np.flatnonzero(visits.place == v)
        day[on] += np.nan_to_num(rng.choice(days[at], on.size)) if v else 0
        fresh = rng.multivariate_normal(np.zeros(len(kept)), spread, on.size)
        walk[on] = fresh if v == 0 else kept * walk[on] + np.sqrt(1 - kept**2) * fresh
        seen = rng.choice(at, on.size)
        for j in range(len(kept)):
            own = known[seen, j] > 0
            z = level[on[own], j] + walk[on[own], j]
            p = np.clip(np.argsort(np.argsort(z)) + 0.5, 0, None) / max(1, own.sum())
            value = np.quantile(cells[known[:, j] > 0, j], p, method="nearest")
            rows.append((on[own], day[on[own]], np.full(own.sum(), j), value))
    whose, when, code, value = (np.concatenate(column) for column in zip(*rows, strict=True))
    time_of = np.datetime64("2000-01-01", "us") + (when * 86_400e6).astype("timedelta64[us]")
    static = train.static.rows(rng.integers(0, train.n_subjects, n))
    return Events.of(train.schema, replace(static, subjects=np.arange(n)), whose, time_of, code,
                     value)  # fmt: skip


def apart(train: Events, n: int, seed: int) -> Events:
    """Give every value to somebody else at random: visits that owe nothing to each other."""
    rng = generator(seed, "independent visits")
    value = train.value.copy()
    for code in range(len(train.schema)):
        own = np.flatnonzero(train.code == code)
        value[own] = value[rng.permutation(own)]
    return replace(train, value=value)


def shuffled(train: Events, n: int, seed: int) -> Events:
    """Shuffle each subject's own values over the visits of that subject."""
    rng = generator(seed, "shuffled within subjects")
    key = rng.random(train.n_events)
    fixed = np.lexsort((np.arange(key.size), train.code, train.whose))
    mixed = np.lexsort((key, train.code, train.whose))
    value = train.value.copy()
    value[fixed] = train.value[mixed]
    return replace(train, value=value)


def ours(name: str) -> Callable[[Events, int, int], Events]:
    """Return a maker by one of our engines."""

    def make(train: Events, n: int, seed: int) -> Events:
        drawn: Events = catalogue.build(name).fit(train, seed=seed).sample(n, seed=seed + 1)
        return drawn

    return make


MAKERS: dict[str, Callable[[Events, int, int], Events]] = {
    "fresh real subjects (ceiling)": lambda train, n, seed: train,
    "`events/panel`": ours("events/panel"),
    "`events/visits`": ours("events/visits"),
    "plain panel copula (40 lines)": copula,
    "shuffled within subjects (floor)": shuffled,
    "independent visits (floor)": apart,
}


# ------------------------------------------------------------------ judging


def dense(events: Events) -> tuple[object, Floats]:
    """Return visits, and their values by channel."""
    visits = visits_of(events)
    cells = np.full((visits.n, len(events.schema)), np.nan)
    timed = visits.of >= 0
    cells[visits.of[timed], events.code[timed]] = events.value[timed]
    return visits, cells


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
    return float(np.mean([
        ks_2samp(one.value[one.code == j], two.value[two.code == j], method="asymp").statistic
        for j in range(len(one.schema))
    ]))  # fmt: skip


def measure(events: Events, maker: str, seed: int) -> tuple[float, ...]:
    """Return the forest's area, lag-1 error, distance and processor seconds for one split."""
    order = generator(seed, "panel split").permutation(events.subjects)
    half = order.size // 2
    train, held = (events.take(np.sort(part)) for part in (order[:half], order[half:]))
    began = time.process_time()
    drawn = MAKERS[maker](train, held.n_subjects, seed)
    took = time.process_time() - began
    drawn = aligned(drawn, events.schema)
    area = told_apart(summaries(held), summaries(drawn), seed)
    lag = float(np.abs(lag_one(held) - lag_one(drawn)).mean())
    return area, lag, distance(held, drawn), took


def row(events: Events, maker: str, seeds: int) -> dict[str, str]:
    """Return the cells of one maker: mean and deviation over splits."""
    runs = np.array([measure(events, maker, seed) for seed in range(seeds)])
    found = [f"{runs[:, j].mean():.3f} ± {runs[:, j].std():.3f}" for j in range(3)]
    found += [f"{np.median(runs[:, 3]):.1f}", str(seeds), time.strftime("%Y-%m-%d")]
    return dict(zip(COLUMNS, found, strict=True))


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--makers", nargs="*", choices=[*MAKERS], default=[*MAKERS])
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    for name in options.data:
        events = SETS[name]()
        rows: dict[str, dict[str, str]] = {}
        for maker in options.makers:
            rows[maker] = row(events, maker, options.seeds)
            print(name, maker, *rows[maker].values(), sep=" | ", flush=True)
        above = f"### {name}: {events.n_subjects} subjects, {len(events.schema)} channels"
        if not options.print_only:
            put_table(PAGE, f"panels.py {name}", "## Panels", above, COLUMNS, rows, first=[*MAKERS])


if __name__ == "__main__":
    main()
