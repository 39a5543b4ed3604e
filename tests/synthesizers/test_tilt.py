"""Weights on the codes of a leaf: what pairs tell is kept, what chance tells is not."""

import numpy as np
import pytest

from manikin.synthesizers.table._tilt import (
    GROUPS,
    OWN,
    PARTS,
    Tilts,
    divide,
    learn_tilts,
)
from manikin.synthesizers.table._trees import grow


def related(n: int, strength: float, seed: int) -> np.ndarray:
    """Return codes (n, 3): columns 0 and 1 at random, 2 equal to 0 oftener than by chance."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, 3)).astype(np.int32)
    same = rng.random(n) < strength
    codes[same, 2] = codes[same, 0]
    return codes


def weighted(real: np.ndarray, first: tuple[int, ...] = ()) -> Tilts:
    drawn = related(len(real), 0.0, 9)  # as if leaves knew nothing of the pair
    usual = np.full((len(real), 4), 0.25)
    bins = [np.arange(4)] * 3
    return learn_tilts(np.arange(4), real[:, 2], real, drawn, usual, [0, 1], bins, first)


def test_a_real_pair_is_found_and_given_its_strength() -> None:
    real = related(5000, 0.2, 1)
    tilts = weighted(real)
    assert [tilt.columns for tilt in tilts.tilts] == [(0,)]
    share = tilts.weights(np.array([[1, 0, 0], [1, 3, 0]], np.int32))
    share /= share.sum(axis=1, keepdims=True)
    assert share[0, 1] == pytest.approx(0.2 + 0.8 / 4, abs=0.03)
    assert np.array_equal(share[0], share[1])


def test_chance_is_hardly_followed() -> None:
    codes = related(16, 0.0, 0)
    for seed in range(20):
        tilts = weighted(related(3000, 0.0, seed))
        share = tilts.weights(codes)
        share /= share.sum(axis=1, keepdims=True)
        assert np.abs(share - 0.25).max() < 0.05  # its standard error alone is 0.016


def test_an_effect_at_one_level_of_the_outcome_needs_the_outcome() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    real = rng.integers(0, 2, (n, 3)).astype(np.int32)
    real[:, 2] = np.where(rng.random(n) < 0.5, real[:, 0] ^ real[:, 1], real[:, 2])
    drawn = rng.integers(0, 2, (n, 3)).astype(np.int32)
    bins = [np.arange(2)] * 3
    arguments = (np.arange(2), real[:, 2], real, drawn, np.full((n, 2), 0.5), [0, 1], bins)
    assert (0, 1) in {tilt.columns for tilt in learn_tilts(*arguments, [0]).tilts}
    assert (0, 1) not in {tilt.columns for tilt in learn_tilts(*arguments, []).tilts}
    few = (np.arange(2), real[:100, 2], real[:100], drawn, np.full((n, 2), 0.5), [0, 1], bins)
    assert (0, 1) not in {tilt.columns for tilt in learn_tilts(*few, [0]).tilts}


def test_weights_come_back_from_their_arrays() -> None:
    tilts = weighted(related(5000, 0.3, 1), first=(1,))
    again = Tilts.restore(tilts.arrays())
    codes = related(50, 0.0, 2)
    assert np.array_equal(tilts.weights(codes), again.weights(codes))


def test_parts_of_a_column() -> None:
    counts = np.full(600, 10)
    ordered = divide(counts, ordered=True, tokens=2, alike=None)
    assert ordered[0] == 0 and ordered[1] == 1
    assert np.array_equal(np.unique(ordered[2:]), np.arange(2, 2 + PARTS))
    assert (np.diff(ordered) >= 0).all()
    counts[7] = 500
    many = divide(counts, ordered=False, tokens=0, alike=np.arange(600)[::-1])
    assert many.max() == OWN + GROUPS - 1
    assert (many == many[7]).sum() == 1
    assert np.array_equal(divide(np.full(9, 5), ordered=False, tokens=0, alike=None), np.arange(9))


def test_rows_draw_from_beside_their_leaf_as_often_as_chance_explains_its_split() -> None:
    rng = np.random.default_rng(0)
    view = np.repeat([0.0, 1.0], 500)[:, None].astype(np.float32)
    weak = np.where(view[:, 0] > 0, rng.random(1000) < 0.56, rng.random(1000) < 0.44).astype(int)
    for labels, most in ((weak, 0.5), ((view[:, 0] > 0).astype(int), 0.01)):
        tree = grow(
            view, labels, classify=True, min_leaf=50, evidence=2.0, pooling=1.0,
            max_features=None, seed=0,
        )  # fmt: skip
        assert tree.n_nodes == 3
        node = tree.apply(view)
        size = np.bincount(node, minlength=3)
        moved = np.mean(tree.pooled(node, size, rng) != node)
        # half of those who draw from both leaves find their own again
        assert moved == pytest.approx(tree.chance[1] / 2, abs=0.04)
        assert moved < most
