"""All pairs of a junction tree at once: against sums over the joint, and every triangulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.synthesizers.table._net_search import MAX_CLIQUE
from manikin.synthesizers.table._pgm import Fitted, cells_of, junction_tree

Scopes = list[tuple[int, ...]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[tuple[int, ...], Scopes, int]:
    """Return sizes of five columns, scopes over them and a seed."""
    sizes = draw(st.tuples(*[st.integers(1, 4)] * 5))
    every = [s for r in (2, 3) for s in itertools.combinations(range(5), r)]
    return sizes, draw(st.lists(st.sampled_from(every), max_size=5)), draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_pairs_are_sums_over_the_joint(graph: tuple[tuple[int, ...], Scopes, int]) -> None:
    sizes, scopes, seed = graph
    rng, tree = np.random.default_rng(seed), junction_tree(scopes, sizes)
    potentials = [rng.normal(size=[sizes[j] for j in c]) for c in tree.cliques]
    barred = [np.where(rng.random(p.shape) < 0.2, -1e9, p) for p in potentials]
    joint = np.zeros(sizes)
    for clique, potential in zip(tree.cliques, barred, strict=True):
        joint = joint + potential.reshape([s if j in clique else 1 for j, s in enumerate(sizes)])
    if joint.max() < -1e8:
        return  # nothing is left
    joint = np.exp(joint - joint.max())
    joint /= joint.sum()
    model = Fitted(sizes, tree, tuple(barred), 1.0)
    for i, j in itertools.combinations(range(5), 2):
        gone = tuple(a for a in range(5) if a not in (i, j))
        assert np.allclose(model.pairs[i, j], joint.sum(axis=gone), atol=1e-9)
        assert np.allclose(model.marginal((j, i)), joint.sum(axis=gone).T, atol=1e-9)


def smallest(scopes: Scopes, sizes: tuple[int, ...]) -> int:
    """Return the fewest numbers of any junction tree: over all orders of elimination."""
    best = math.inf
    for order in itertools.permutations(range(len(sizes))):
        near = {j: {k for s in scopes if j in s for k in s} - {j} for j in range(len(sizes))}
        cliques: list[set[int]] = []
        for v in order:
            beside = near.pop(v)
            cliques.append({v, *beside})
            for u in beside:
                near[u] |= beside - {u}
                near[u].discard(v)
        maximal = {frozenset(c) for c in cliques if not any(c < d for d in cliques)}
        best = min(best, sum(math.prod(sizes[j] for j in c) for c in maximal))
    return int(best)


@settings(max_examples=12, deadline=None)
@given(graphs())
def test_a_pair_can_be_held_in_so_many_numbers(
    graph: tuple[tuple[int, ...], Scopes, int],
) -> None:
    sizes, scopes, _ = graph
    tree = junction_tree(scopes, sizes)
    found, base = tree.enlarged(sizes), cells_of(tree.cliques, sizes)
    assert np.array_equal(found, found.T)
    for i, j in itertools.combinations(range(5), 2):
        if tree.holder((i, j)) is not None:
            assert found[i, j] == base
        else:
            assert smallest([*tree.cliques, (i, j)], sizes) <= found[i, j]


def test_a_chain_becomes_a_fan() -> None:
    # 0-1-2-3 of 2, 3, 4 and 5 codes: cliques of 6, 12 and 20. With 0 and 3 together, from 0:
    # {0, 1, 2} of 24 in place of {0, 1} and {1, 2}, and {0, 2, 3} of 40 in place of {2, 3}
    sizes = (2, 3, 4, 5, 7)
    tree = junction_tree([(0, 1), (1, 2), (2, 3)], sizes)
    found = tree.enlarged(sizes)
    assert found[0, 3] == 24 + 40 + 7 and found[0, 2] == 24 + 20 + 7 and found[0, 1] == 38 + 7
    assert found[0, 4] == 38 + 7 + 2 * 7  # another tree


def test_what_exact_inference_cannot_hold_is_never_offered() -> None:
    sizes = (60, 60, 60)
    found = junction_tree([(0, 1), (1, 2)], sizes).enlarged(sizes)
    assert 60**3 > MAX_CLIQUE and found[0, 2] == math.inf


@pytest.mark.parametrize("d", [1, 2])
def test_next_to_no_columns(d: int) -> None:
    tree = junction_tree([], (3,) * d)
    assert Fitted((3,) * d, tree, (np.zeros(3),) * d, 1.0).pairs.keys() == {(0, 1)} - {(0, d)}
