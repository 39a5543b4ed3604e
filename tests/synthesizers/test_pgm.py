"""The graphical model of noisy counts, against brute force over the whole joint distribution."""

import itertools

import numpy as np
import pytest

from manikin.privacy.rows import grouped
from manikin.synthesizers.table._pgm import (
    Fitted,
    Measured,
    cells_of,
    fit,
    junction_tree,
)

SIZES = (3, 4, 2, 3, 2)


def joint(seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).random(SIZES) ** 3
    return np.asarray(found / found.sum())


def marginal(p: np.ndarray, columns: tuple[int, ...]) -> np.ndarray:
    gone = tuple(a for a in range(p.ndim) if a not in columns)
    return np.asarray(p.sum(axis=gone))


def whole(model: Fitted) -> np.ndarray:
    """Multiply the network's tables to the joint distribution."""
    found = np.ones(model.sizes)
    for j, (above, table) in enumerate(zip(*model.network(), strict=True)):
        scope = (*above, j)
        turned = np.transpose(table, np.argsort(scope))
        found = found * turned.reshape([s if k in scope else 1 for k, s in enumerate(model.sizes)])
    return found


@pytest.mark.parametrize(
    "scopes",
    [
        [(0,), (1,), (2,), (3,), (4,)],
        [(0, 1), (1, 2), (2, 3), (1, 4)],
        [(0, 1), (1, 2), (0, 2), (3, 4)],  # a triangle, and a part of its own
        [(0, 1), (1, 2), (2, 3), (0, 3), (4,)],  # a cycle of four, to be triangulated
        [(0, 1, 2), (2, 3), (3, 4), (4,)],
    ],
)
def test_exact_counts_are_met_and_the_rest_is_free(scopes: list[tuple[int, ...]]) -> None:
    p = joint()
    model = fit(SIZES, [Measured(s, 1000 * marginal(p, s), 1.0) for s in scopes], steps=3000)
    assert model.total == pytest.approx(1000)
    for scope in scopes:
        assert np.abs(model.marginal(scope) - 1000 * marginal(p, scope)).max() < 0.2
    q = whole(model)
    assert q.sum() == pytest.approx(1)
    for r in (1, 2, 3, 4):  # of any columns, also where no clique holds them all
        for columns in itertools.combinations(range(5), r):
            assert np.allclose(model.marginal(columns), 1000 * marginal(q, columns), atol=1e-6)
    assert np.allclose(model.marginal((3, 0)), model.marginal((0, 3)).T)


def test_what_nothing_was_measured_of_is_independent() -> None:
    p = joint()
    model = fit(SIZES, [Measured((j,), 500 * marginal(p, (j,)), 1.0) for j in range(5)], steps=3000)
    expected = 500 * np.outer(marginal(p, (1,)), marginal(p, (3,)))
    assert np.abs(model.marginal((1, 3)) - expected).max() < 0.1


def test_the_less_noisy_measurement_weighs_more() -> None:
    one, other = np.array([800.0, 200.0]), np.array([600.0, 400.0])
    model = fit((2,), [Measured((0,), one, 1.0), Measured((0,), other, 3.0)], steps=3000)
    # by precision: (9 · 800 + 600) / 10 = 780
    assert model.marginal((0,)).tolist() == pytest.approx([780, 220], abs=0.5)


def test_the_total_is_weighed_by_variance() -> None:
    # totals 900 with variance 2 · 1, 1100 with variance 4 · 9: (900/2 + 1100/36) / (1/2 + 1/36)
    flat = [Measured((0,), np.array([450.0, 450.0]), 1.0),
            Measured((1,), np.full(4, 275.0), 3.0)]  # fmt: skip
    assert fit((2, 4), flat).total == pytest.approx((450 + 1100 / 36) / (0.5 + 1 / 36))


def test_negative_counts_do_no_harm() -> None:
    model = fit((3,), [Measured((0,), np.array([-40.0, 100.0, 5.0]), 10.0)], steps=2000)
    found = model.marginal((0,))
    assert (found >= 0).all() and found[0] < 2 and np.argmax(found) == 1


def test_a_start_is_carried_on() -> None:
    p = joint(1)
    first = [Measured((j,), 1000 * marginal(p, (j,)), 2.0) for j in range(5)]
    begun = fit(SIZES, first, steps=2000)
    more = [*first, Measured((0, 3), 1000 * marginal(p, (0, 3)), 2.0)]
    few, cold = fit(SIZES, more, start=begun, steps=15), fit(SIZES, more, steps=15)
    wrong = [np.abs(m.marginal((1,)) - 1000 * marginal(p, (1,))).sum() for m in (few, cold)]
    assert wrong[0] < wrong[1]


def test_a_junction_tree_keeps_what_columns_share_connected() -> None:
    scopes = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (5, 6), (1, 6)]
    tree = junction_tree(scopes, (2,) * 8)
    assert all(tree.holder(scope) is not None for scope in scopes)
    for j in range(8):  # cliques with a column are a connected part: one of them alone has no
        holders = [i for i, clique in enumerate(tree.cliques) if j in clique]  # parent among them
        tops = [i for i in holders if tree.parent[i] not in holders]
        assert len(tops) == 1
    assert cells_of([(0, 1)], (3, 4, 5)) == 12 + 5


def test_grouped_counts_add_up_to_groups_and_are_spread_as_single_columns_tell() -> None:
    # Column 0 has 10, 30, 60 rows. Of its codes 0 and 1 together, 20 of 40 rows hold the first of
    # column 1; of code 2, all 60. Within the group rows are spread 1 : 3, for nothing else is told.
    groups = (np.array([0, 0, 1]), np.array([0, 1]))
    pair = Measured((0, 1), np.array([[20.0, 20.0], [60.0, 0.0]]), 1.0, groups)
    alone = [Measured((0,), np.array([10.0, 30.0, 60.0]), 1.0),
             Measured((1,), np.array([80.0, 20.0]), 1.0)]  # fmt: skip
    model = fit((3, 2), [*alone, pair], steps=5000)
    expected = np.array([[5.0, 5.0], [15.0, 15.0], [60.0, 0.0]])
    assert np.abs(model.marginal((0, 1)) - expected).max() < 0.3


def test_groups_need_not_be_neighbours() -> None:
    counts = np.arange(12).reshape(4, 3)  # rows 0 and 2 are a group; so are columns 0 and 2
    found = grouped(counts, (np.array([1, 0, 1, 2]), np.array([0, 1, 0])))
    assert found.tolist() == [[3 + 5, 4], [0 + 2 + 6 + 8, 1 + 7], [9 + 11, 10]]
    assert grouped(counts, ()) is counts
