"""Random tables of every kind: no report of them breaks the rule, and the checker would see it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import real_of, report

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.score import Trial
from manikin.release.disclosure import violations
from manikin.release.html import render_html
from manikin.release.summaries import Bin

NAMES = ("other (3 levels)", "other (1 level)", "<b>", "", "all values", "plain", "x", "y")


def random_column(rng: np.random.Generator, i: int) -> Column:
    kind = rng.choice(["continuous", "integer", "ordinal", "categorical", "boolean", "datetime"])
    n_levels = 2 if kind == "boolean" else int(rng.integers(1, 40))
    levels = tuple(NAMES[k] if k < len(NAMES) else f"level {k}" for k in range(n_levels))
    marks = ("<0.5", ">99")[: int(rng.integers(0, 3))] if kind in ("continuous", "integer") else ()
    return Column(
        f"{kind} {i}",
        kind,
        categories=levels if kind in ("ordinal", "categorical", "boolean") else (),
        decimals=int(rng.integers(0, 9)) if kind == "continuous" else 0,
        special=marks,
    )


def random_values(rng: np.random.Generator, column: Column, n: int) -> tuple[Any, Any]:
    states = np.zeros(n, np.int8)
    if rng.random() < 0.6:
        states[rng.random(n) < rng.choice([0.001, 0.02, 0.5, 0.99])] = 1
    for i in range(len(column.special)):
        states[rng.random(n) < rng.choice([0.005, 0.2])] = 2 + i
    if column.is_coded:
        codes = np.minimum(rng.geometric(rng.uniform(0.05, 0.9), n) - 1, len(column.categories) - 1)
        return np.where(states > 0, -1, codes).astype(np.int32), states
    shapes = [
        lambda: rng.normal(0, 10.0 ** rng.integers(-6, 9), n),
        lambda: rng.lognormal(rng.normal(0, 3), 2, n),
        lambda: np.where(rng.random(n) < 0.8, 0, rng.uniform(-5, 900, n)),
        lambda: rng.integers(0, 5, n).astype(float),
        lambda: np.full(n, 7.0),
        lambda: rng.choice([1e300, -1e300, 0.0, np.inf, np.nan], n),
        lambda: np.round(rng.uniform(100, 200, n), -1),
    ]
    values = np.asarray(shapes[rng.integers(len(shapes))]())
    if column.kind == "datetime":
        days = np.clip(np.nan_to_num(values), -30_000, 30_000).astype("timedelta64[D]")
        stamps = (np.datetime64("1990-01-01", "us") + days).astype("datetime64[us]")
        return np.where(states > 0, np.datetime64("NaT"), stamps), states
    values = np.round(values, column.decimals) if column.kind == "continuous" else np.rint(values)
    return np.where(states > 0, np.nan, values), states


def random_trial(seed: int) -> Trial[Table]:
    rng = np.random.default_rng(seed)
    columns = [random_column(rng, i) for i in range(6)]
    columns.append(Column("t", "integer", ("time",)))
    columns.append(Column("e", "boolean", ("event",), ("no", "yes")))
    schema = TableSchema(tuple(columns))
    n_subjects = [int(rng.choice([1, 5, 11, 12, 25, 120])) for _ in range(3)]
    most_rows = int(rng.choice([1, 1, 4]))

    def side(first: int, n: int) -> Table:
        subjects = np.repeat(np.arange(first, first + n), rng.integers(1, most_rows + 1, n))
        drawn = {c.name: random_values(rng, c, subjects.size) for c in columns[:-2]}
        values = {name: value for name, (value, _) in drawn.items()}
        values["t"] = np.rint(rng.exponential(100, subjects.size))
        values["e"] = (rng.random(subjects.size) < rng.uniform()).astype(np.int32)
        return Table(
            schema, subjects, values, {name: states for name, (_, states) in drawn.items()}
        )

    return Trial(side(0, n_subjects[0]), side(1000, n_subjects[1]), side(0, n_subjects[2]))


@pytest.mark.parametrize("seed", range(40))
def test_no_report_of_a_random_table_breaks_the_rule(seed: int) -> None:
    given = random_trial(seed)
    made = report(given, scores=())
    assert list(violations(made, real_of(given))) == []
    json.dumps(made.to_json(), allow_nan=False)
    render_html(made)


def test_one_row_everywhere() -> None:
    given = random_trial(3)
    first = Trial(given.train.rows(np.arange(1)), given.holdout.rows(np.arange(1)),
                  given.synthetic.rows(np.arange(1)))  # fmt: skip
    made = report(first, scores=())
    assert all(column.bins == () for column in made.columns)
    assert list(violations(made, real_of(first))) == []


def test_a_wrongly_split_pool_is_seen() -> None:
    given = random_trial(5)
    made = report(given, scores=())
    real = real_of(given)
    for summary in made.columns:
        column = real.schema[summary.name]
        if not column.is_coded or not summary.bins:
            continue
        counts = np.bincount(real.columns[column.name][real.columns[column.name] >= 0])
        rare = [k for k, n in enumerate(counts) if 0 < n < 11]
        if rare:
            named = Bin(column.categories[rare[0]], 0.01, 0.01)
            bad = replace(summary, bins=(*summary.bins, named))
            changed = replace(made, columns=(bad,))
            assert list(violations(changed, real))
