"""A copula matched to sums of products: exact sums give back what rows were drawn by."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.privacy.budget import Budget
from manikin.synthesizers.table import _noisy
from manikin.synthesizers.table._probit import guess

SCHEMA = TableSchema(
    (
        Column("age", "integer", minimum=0, maximum=100),
        Column("site", "categorical", categories=("a", "b", "c", "d")),
        Column("dead", "boolean", categories=("no", "yes")),
        Column("dose", "continuous", minimum=0, maximum=10, decimals=1),
    ),
    declared=True,
)


def made(n: int) -> Table:
    """Return rows: site d only above 60, death by age, dose missing at site a, else by age."""
    rng = np.random.default_rng(0)
    age = np.round(rng.uniform(20, 80, n))
    site = np.where(rng.random(n) < 0.7, np.where(age > 60, 3, 1), rng.integers(0, 3, n))
    dose = np.round(np.clip(age / 10 + rng.normal(0, 0.5, n), 0, 10), 1)
    columns = {
        "age": age, "site": site.astype(np.int32),
        "dead": (rng.random(n) < age / 100).astype(np.int32),
        "dose": np.where(site == 0, np.nan, dose),
    }  # fmt: skip
    return Table(SCHEMA, np.arange(n), columns, {})


def test_nearly_exact_sums_give_back_dependence() -> None:
    table = made(3000)
    noisy = _noisy.learn(table, Budget(300.0), most_rows=1)
    drawn = guess(noisy, share=0.5, rng=np.random.default_rng(1)).draw(
        6000, np.random.default_rng(2)
    )
    found = noisy.encoding.decode(drawn, np.arange(6000), seed=0).columns
    old = found["age"] > 60
    assert (found["site"][old] == 3).mean() - (found["site"][~old] == 3).mean() > 0.4
    assert abs((found["dead"] == 1).mean() - 0.5) < 0.05
    there = np.isfinite(found["dose"])
    assert np.corrcoef(found["age"][there], found["dose"][there])[0, 1] > 0.85
    assert (~there)[found["site"] == 0].mean() - (~there)[found["site"] != 0].mean() > 0.2


def test_one_column_buys_no_pairs() -> None:
    schema = TableSchema((SCHEMA["age"],), declared=True)
    whole = made(200)
    table = dataclasses.replace(
        whole, schema=schema, columns={"age": whole.columns["age"]}, states={}
    )
    noisy = _noisy.learn(table, Budget(3.0), most_rows=1)
    before = len(noisy.prepared.account.releases)
    found = guess(noisy, share=0.5, rng=np.random.default_rng(1))
    assert len(noisy.prepared.account.releases) == before
    assert found.draw(5, np.random.default_rng(2)).shape == (5, 1)


def test_pure_noise_makes_columns_independent() -> None:
    # 30 rows at ε = 0.5: products are hidden; shortened by their own noise, they stay small
    noisy = _noisy.learn(made(30), Budget(0.5), most_rows=1)
    found = guess(noisy, share=0.1, rng=np.random.default_rng(1)).correlation
    assert np.linalg.eigvalsh(found).min() > 0
