"""Every fidelity metric on tables that break programs: it gives numbers, or says why there is none.

The contract kit has tiny tables, all missing and no rows; here are the rest.
"""

from functools import partial

import numpy as np
import pytest

from manikin.catalogue import cards, metrics
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.fidelity import detection as detection_module
from manikin.metrics.score import Trial
from manikin.metrics.trees import Boosting

NAMES = [
    name for name, card in cards().items() if card.family == "fidelity" and card.modality == "table"
]
BOUNDED = ("shapes", "trends", "triples", "detection", "missingness", "precision", "recall",
           "coverage")  # fmt: skip


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Whether anything breaks does not need a hundred trees."""
    few = partial(detection_module.classifier, how=Boosting(5, 0.1, 31))
    monkeypatch.setattr(detection_module, "classifier", few)


def table(columns, cells, subjects=None):
    n = len(next(iter(cells.values())))
    of = np.arange(n) if subjects is None else subjects
    return Table(TableSchema(tuple(columns)), np.asarray(of, dtype=np.int64), cells)


def numbers(rng, n, **more):
    cells = {"x": rng.normal(size=n), **more}
    return table([Column(name, "continuous", decimals=6) for name in cells], cells)


def one_column(rng):
    return numbers(rng, 60)


def constant(rng):
    return table([Column("x", "continuous")], {"x": np.full(60, 3.0)})


def all_missing_column(rng):
    return numbers(rng, 60, y=np.full(60, np.nan), z=rng.normal(size=60))


def nothing_but_missing(rng):
    return table([Column("x", "continuous")], {"x": np.full(60, np.nan)})


def holes(rng):
    y = np.where(rng.random(60) < 0.5, np.nan, rng.normal(size=60))
    return numbers(rng, 60, y=y, z=np.where(np.isnan(y), np.nan, 1.0))


def huge(rng):
    """Values whose squares and differences are no longer numbers."""
    y = rng.choice([-1e300, 1e300, 1.7e308, -1.7e308, 0.0], 60)
    return numbers(rng, 60, y=y, z=1e-300 * rng.normal(size=60))


def many_levels(rng):
    levels = tuple(f"code {i}" for i in range(10_000))
    codes = rng.integers(0, 10_000, 60).astype(np.int32)
    return table(
        [Column("icd", "categorical", (), levels), Column("x", "continuous"),
         Column("unused", "categorical", (), levels)],
        {"icd": codes, "x": rng.normal(size=60), "unused": np.full(60, 7, np.int32)},
    )  # fmt: skip


def unicode_names(rng):
    names = ("Größe [µm] × 体重", "\u202eevil", "a.b=c × d")
    return table(
        [Column(name, "continuous") for name in names[:2]]
        + [Column(names[2], "categorical", (), ("ja ✓", "nein"))],
        {names[0]: rng.normal(size=60), names[1]: rng.normal(size=60),
         names[2]: rng.integers(0, 2, 60).astype(np.int32)},
    )  # fmt: skip


def many_rows_a_subject(rng):
    cells = {name: np.repeat(rng.normal(size=30), 8) for name in "xyz"}
    columns = [Column(name, "continuous") for name in cells]
    return table(columns, cells, np.repeat(np.arange(30), 8))


def one_subject(rng):
    cells = {name: rng.normal(size=60) for name in "xyz"}
    return table([Column(name, "continuous") for name in cells], cells, np.zeros(60))


CASES = (one_column, constant, all_missing_column, nothing_but_missing, holes, huge, many_levels,
         unicode_names, many_rows_a_subject, one_subject)  # fmt: skip


def told(name, trial):
    scores = metrics((name,))[name](trial, seed=0)
    assert len({(s.metric, s.group) for s in scores}) == len(scores)
    for score in scores:
        assert not np.isinf(score.value), score
        if np.isnan(score.value):
            assert score.note, "what cannot be estimated says why"
            continue
        low, high = score.interval
        assert np.isnan(low) or low <= score.value <= high
        what = score.metric.split("/")[1]
        if what.split(".")[0] in BOUNDED or what.endswith(BOUNDED) or what.endswith("p_value"):
            assert 0 <= score.value <= 1, score
    return {(s.metric, s.group): s for s in scores}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_or_reasons(name, case):
    parts = [case(np.random.default_rng(seed)) for seed in range(3)]
    told(name, Trial(*parts))


@pytest.mark.parametrize("name", NAMES)
def test_one_huge_synthetic_value_among_ordinary_ones(name):
    """1e300 is one wrong row: what is bounded hardly moves, and nothing overflows."""
    rng = np.random.default_rng(0)
    train, real, fake = (
        numbers(rng, 200, y=rng.normal(size=200), z=rng.normal(size=200)) for _ in range(3)
    )
    spoilt = table(fake.schema.columns, {**fake.columns, "x": fake.columns["x"].copy()})
    spoilt.columns["x"][0] = 1e300
    one, other = (told(name, Trial(train, real, part)) for part in (fake, spoilt))
    for key, score in one.items():
        if key[0].endswith(("shapes", "trends", "triples", "precision", "recall", "coverage")):
            assert other[key].value == pytest.approx(score.value, abs=0.03), key


@pytest.mark.parametrize("name", NAMES)
def test_sides_of_very_different_size(name):
    """Known trap elsewhere: α-precision was only right for samples of one size."""
    rng = np.random.default_rng(1)
    trial = Trial(
        *(numbers(rng, n, y=rng.normal(size=n), z=rng.normal(size=n)) for n in (900, 120, 1500))
    )
    found = told(name, trial)
    assert not any(np.isnan(score.value) for score in found.values())
    if name == "fidelity/manifold":
        assert found["fidelity/manifold.alpha_precision", "all"].value > 0.8
        assert found["fidelity/manifold.beta_recall", "all"].value > 0.8
