"""MAMA-MIA by hand, on a model that leaks through marginals, and on rows that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import auc
from manikin.metrics.privacy.attacks.mama_mia import (
    LEAST,
    PAIRS,
    Focal,
    focal_points,
    mama_mia,
    ratios,
)
from manikin.metrics.privacy.attacks.rows import Rows, Sight
from manikin.metrics.privacy.membership import membership
from manikin.metrics.score import Trial

SIZES = (2, 3, 4, 2, 5, 3)


def rows(cells: list[list[int]] | np.ndarray, sizes: tuple[int, ...]) -> Rows:
    codes = np.asarray(cells, np.int64)
    n = codes.shape[1]
    none = np.zeros((n, 0))
    return Rows(none.astype(np.float32), codes, sizes, none, [], np.zeros(n, np.uint64))


def chain(n: int, first: int, rng: np.random.Generator) -> Table:
    """Six columns, each of which follows the one before it in seven of ten rows."""
    codes = [rng.integers(0, SIZES[0], n)]
    for size in SIZES[1:]:
        own = np.minimum(rng.geometric(0.4, n) - 1, size - 1)
        codes.append(np.where(rng.random(n) < 0.7, codes[-1] * 2 % size, own))
    columns = tuple(
        Column(f"c{j}", "categorical", categories=tuple(f"l{k}" for k in range(size)))
        for j, size in enumerate(SIZES)
    )
    arrays = {f"c{j}": values.astype(np.int32) for j, values in enumerate(codes)}
    return Table(TableSchema(columns, declared=True), first + np.arange(n), arrays)


def test_the_ratios_by_hand() -> None:
    # pair (0, 1), cells (a, b) as 2a + b. Synthetic: 0, 0, 3, 3; reference: 0, 1, 2, 3, 3, 3.
    # cell 0: (2/4 - 1/6) / ((2 + 1 + 1)/10) = .3333/.4 = .8333
    # cell 1: (0 - 1/6) / (2/10) = -.8333; cell 3: (2/4 - 3/6) / ... = 0
    synthetic = rows([[0, 0, 1, 1], [0, 0, 1, 1]], (2, 2))
    reference = rows([[0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1]], (2, 2))
    targets = rows([[0, 0, 1], [0, 1, 1]], (2, 2))
    focal = Focal(np.array([[0, 1]]), np.array([2.0]))
    found = ratios(targets, synthetic, reference, focal)
    assert found == pytest.approx([2 * 5 / 6, -2 * 5 / 6, 0.0])


def test_focal_points_are_the_pairs_that_go_together() -> None:
    # 1 is 0 turned round, 3 is 2, and nothing else goes together: both pairs are in every tree,
    # and the third edge, by which the two are joined, is anyone's
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 2000))
    found = focal_points([rows([a, 1 - a, b, b], (2, 2, 2, 2))], rng)
    weight = dict(zip(map(tuple, found.pairs.tolist()), found.weights, strict=True))
    assert weight[0, 1] == pytest.approx(1 + LEAST) == weight[2, 3]
    others = sum(w for pair, w in weight.items() if pair not in {(0, 1), (2, 3)})
    assert others == pytest.approx(1 + 4 * LEAST) and len(weight) == 6


@pytest.mark.parametrize("sizes", [(3,), (1, 1), (1, 4)])
def test_one_column_and_constant_ones(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    sides = [rows(rng.integers(0, sizes, (n, len(sizes))).T, sizes) for n in (1, 30, 1)]
    assert np.isfinite(mama_mia(*sides, rng)).all()


def test_the_pairs_of_many_columns_are_bounded() -> None:
    rng = np.random.default_rng(2)
    wide = rows(rng.integers(0, 2, (60, 50)), (2,) * 60)  # 1,770 pairs
    found = focal_points([wide], rng)
    assert len(found.pairs) == PAIRS == len(np.unique(found.pairs, axis=0))
    assert (np.diff(found.weights) <= 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_scores_are_bounded_whatever_the_rows(n: int, m: int, seed: int) -> None:
    """A ratio lies between -(n + m)/m and (n + m)/n; weights of two columns come to 1 + LEAST."""
    rng = np.random.default_rng(seed)
    targets, synthetic, reference = (rows(rng.integers(0, 3, (2, k)), (3, 3)) for k in (9, n, m))
    found = mama_mia(targets, synthetic, reference, rng) / (1 + LEAST)
    assert found.min() > -(n + m) / m and found.max() < (n + m) / n


def leaky(train: Table, n: int, rng: np.random.Generator) -> Table:
    """Draw from the maximum-likelihood chain: each column given the one before, by exact counts."""
    codes = [train.columns[f"c{j}"] for j in range(len(SIZES))]
    drawn = [rng.choice(codes[0], n)]
    for j in range(1, len(SIZES)):
        new = np.empty(n, np.int32)
        for value in np.unique(drawn[-1]):
            at = drawn[-1] == value
            new[at] = rng.choice(codes[j][codes[j - 1] == value], at.sum())
        drawn.append(new)
    columns = {f"c{j}": values.astype(np.int32) for j, values in enumerate(drawn)}
    return Table(train.schema, np.arange(n), columns)


def area(train: Table, held: Table, synthetic: Table, reference: Table) -> float:
    sight = Sight.fit(synthetic, reference)
    asked = sight.rows(Table.concatenate([train, held]))
    rng = np.random.default_rng(0)
    scores = mama_mia(asked, sight.rows(synthetic), sight.rows(reference), rng)
    return auc(scores, np.arange(asked.n) < train.n_rows)


def test_exact_marginals_of_few_rows_give_members_away() -> None:
    """Area of 60 members and 600 strangers: standard error .039 one by one, .009 of 20 tables."""
    found = {"leaky": [], "fresh": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train, held, reference, fresh = (
            chain(n, k * 10**6, rng) for k, n in enumerate((60, 600, 2000, 2000))
        )
        found["leaky"].append(area(train, held, leaky(train, 2000, rng), reference))
        found["fresh"].append(area(train, held, fresh, reference))
    assert np.mean(found["leaky"]) > 0.6
    assert np.mean(found["fresh"]) == pytest.approx(0.5, abs=4 * 0.009)


def test_a_private_model_of_a_huge_budget_is_caught() -> None:
    pytest.importorskip("opendp", reason="needs the extra 'dp'")
    from manikin import catalogue
    from manikin.privacy.budget import Budget

    rng = np.random.default_rng(5)
    train, held, reference = (chain(n, k * 10**6, rng) for k, n in enumerate((300, 1200, 2000)))
    recipe = catalogue.build("table/mst", {"steps": 200})
    model = recipe.fit(train, seed=0, budget=Budget(1000))
    scores = membership(Trial(train, held, model.sample(5000, seed=0), reference), seed=0)
    own = next(s for s in scores if s.group == "attack=mama-mia" and s.metric.endswith(".auc"))
    assert own.interval[0] > 0.5
