"""Bayesian networks: scores by hand, exact answers by enumeration, structures by brute force."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.errors import ConditionError
from manikin.synthesizers.table import _net_exact as exact
from manikin.synthesizers.table import _net_search as search
from manikin.synthesizers.table._net_bins import learn_bins
from manikin.synthesizers.table._net_search import Constraints, Families


def free(m: int, most: int = 3) -> Constraints:
    return Constraints(np.zeros((m, m), bool), np.eye(m, dtype=bool), most)


def families(binned: Any, score: Any = "bic", prior: float = 2.0) -> Families:
    binned = np.asarray(binned)
    return Families(binned, binned.max(axis=0) + 1, score, prior)


# ------------------------------------------------------------------ scores by hand


def test_mutual_information_of_copies_and_of_strangers() -> None:
    same = np.array([[2.0, 0.0], [0.0, 2.0]])[:, None, :]
    assert search.mutual_information(same) == pytest.approx(math.log(2))
    assert search.mutual_information(np.ones((2, 1, 2))) == pytest.approx(0)
    # given the middle, each half is one value: nothing is left to tell
    known = np.zeros((2, 2, 2))
    known[0, 0, 0] = known[1, 1, 1] = 5
    assert search.mutual_information(known) == pytest.approx(0)
    # exclusive or: nothing alone, everything given the middle
    odd = np.array([[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]])
    assert search.mutual_information(odd) == pytest.approx(math.log(2))
    assert search.mutual_information(odd.sum(axis=1)[:, None, :]) == pytest.approx(0)


def test_bic_by_hand() -> None:
    # 4 rows, child a copy of its parent: likelihood 1, 2 free shares: -2 * log(4) / 2 = -1.386
    binned = [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert families(binned).score(1, (0,)) == pytest.approx(-math.log(4))
    # alone: 4 * log(1/2) - log(4) / 2
    assert families(binned).score(1, ()) == pytest.approx(-4 * math.log(2) - math.log(4) / 2)


def test_bdeu_is_the_chance_of_the_rows_one_after_another() -> None:
    # equivalent sample 2 over 2 x 2 cells: 0.5 a cell. Parent 0: 0, 0, 1; parent 1: 1
    # (0.5 / 1) (1.5 / 2) (0.5 / 3) times (0.5 / 1) = 0.03125
    binned = [[0, 0], [0, 0], [0, 1], [1, 1]]
    found = families(binned, "bdeu").score(1, (0,))
    assert found == pytest.approx(math.log(0.03125))


def test_tables_lean_on_those_of_one_parent_fewer() -> None:
    counts = np.array([[3.0, 1.0], [0.0, 4.0]])
    # alone: (3 + 2 * 0.5) / (8 + 2) = 0.4; given 0: (3 + 2 * 0.4) / 6; given 1: (0 + 0.8) / 6
    assert search.table(counts, 2.0)[:, 0] == pytest.approx([3.8 / 6, 0.8 / 6])
    # a parent's value that no row has: the table of one parent fewer
    assert search.table(np.array([[3.0, 5.0], [0.0, 0.0]]), 2.0)[1] == pytest.approx([0.4, 0.6])


@given(st.integers(0, 10**6), st.floats(0.1, 9))
@settings(max_examples=25, deadline=None)
def test_left_out_likelihood_is_that_of_tables_without_the_row(seed: int, prior: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 4, (2, 3, 2)).astype(float)
    expected = 0.0
    for cell in zip(*np.nonzero(counts), strict=True):
        fewer = counts.copy()
        fewer[cell] -= 1
        expected += counts[cell] * math.log(search.table(fewer, prior)[cell])
    assert search.left_out(counts, prior) == pytest.approx(expected)


# ------------------------------------------------------------------ structures


def random_rows(rng: np.random.Generator, n: int, m: int) -> np.ndarray:
    rows = rng.integers(0, 2, (n, m))
    for j in range(1, m):
        kept = rng.random(n) < rng.uniform(0.3, 0.9)
        rows[:, j] = np.where(kept, rows[:, rng.integers(0, j)], rows[:, j])
    rows[:2] = [[0] * m, [1] * m]
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_chow_liu_is_the_best_of_all_forests(seed: int) -> None:
    known = families(random_rows(np.random.default_rng(seed), 300, 5))
    worth = 300 * known.information - 0.5 * math.log(300)
    pairs = list(itertools.combinations(range(5), 2))
    best = 0.0
    for number in range(1, 5):
        for chosen in itertools.combinations(pairs, number):
            group = list(range(5))
            for a, b in chosen:
                if group[a] == group[b]:
                    break
                group = [group[a] if g == group[b] else g for g in group]
            else:
                best = max(best, sum(worth[a, b] for a, b in chosen))
    tree = search.chow_liu(known, free(5))
    assert tree.sum(axis=0).max() <= 1
    assert worth[tree].sum() == pytest.approx(best)


def all_graphs(m: int) -> Any:
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    for kept in itertools.product((False, True), repeat=len(pairs)):
        adjacent = np.zeros((m, m), bool)
        for (i, j), here in zip(pairs, kept, strict=True):
            adjacent[i, j] = here
        if not (adjacent & adjacent.T).any() and not search.ancestry(adjacent).diagonal().any():
            yield adjacent


@pytest.mark.parametrize("score", ["bic", "bdeu", "predictive"])
def test_climbing_finds_the_best_of_all_graphs(score: str) -> None:
    graphs = list(all_graphs(4))
    assert len(graphs) == 543  # the number of labelled acyclic graphs of four nodes
    for seed in range(3):
        known = families(random_rows(np.random.default_rng(seed), 200, 4), score)

        def total(adjacent: np.ndarray, known: Families = known) -> float:
            return sum(known.score(j, above) for j, above in enumerate(search.as_parents(adjacent)))

        start = np.zeros((4, 4), bool)
        found = search.climb(known, free(4), start, tabu=10, tell=lambda step: None)
        assert total(found) == pytest.approx(max(total(graph) for graph in graphs))


def test_climbing_keeps_every_constraint() -> None:
    known = families(random_rows(np.random.default_rng(3), 400, 7), "predictive")
    required, forbidden = np.zeros((7, 7), bool), np.eye(7, dtype=bool)
    required[6, 0] = True
    forbidden[:, 5] = True
    forbidden[0, 1] = True
    rules = Constraints(required, forbidden, 2)
    tree = search.chow_liu(known, rules)
    graph = search.climb(known, rules, tree, tabu=10, tell=lambda step: None)
    for found in (tree, graph):
        assert found[6, 0] and not (found & forbidden).any()
        assert not search.ancestry(found).diagonal().any()
    assert graph.sum(axis=0).max() <= 2 and graph.sum() >= tree.sum() > 3


def test_climbing_keeps_exact_inference_small(monkeypatch: pytest.MonkeyPatch) -> None:
    known = families(random_rows(np.random.default_rng(1), 300, 8), "bdeu", 30.0)
    start = np.zeros((8, 8), bool)
    wide = search.climb(known, free(8), start, tabu=3, tell=lambda step: None)
    assert search.heaviest_clique(search.as_parents(wide), known.sizes) > 4
    monkeypatch.setattr(search, "MAX_CLIQUE", 4)
    graph = search.climb(known, free(8), start, tabu=3, tell=lambda step: None)
    assert graph.any()
    assert search.heaviest_clique(search.as_parents(graph), known.sizes) <= 4


# ------------------------------------------------------------------ exact answers


def random_network(rng: np.random.Generator, m: int) -> tuple[search.Parents, tuple[Any, ...]]:
    order = rng.permutation(m)
    sizes = rng.integers(1, 4, m)
    parents: list[tuple[int, ...]] = [()] * m
    for at, j in enumerate(order):
        above = rng.permutation(order[:at])[: rng.integers(0, 3)]
        parents[j] = tuple(int(i) for i in above)
    tables = []
    for j in range(m):
        table = rng.random(tuple(sizes[[*parents[j], j]])) + 0.01
        tables.append(table / table.sum(axis=-1, keepdims=True))
    return tuple(parents), tuple(tables)


def joint_of(parents: search.Parents, tables: tuple[Any, ...]) -> np.ndarray:
    """Every combination's probability, (*sizes), by multiplying the tables cell by cell."""
    whole = np.ones(tuple(table.shape[-1] for table in tables))
    for cell in np.ndindex(*whole.shape):
        for j, table in enumerate(tables):
            whole[cell] *= table[tuple(cell[i] for i in (*parents[j], j))]
    return whole


def along(values: np.ndarray, axis: int, axes: int) -> np.ndarray:
    return values.reshape([-1 if a == axis else 1 for a in range(axes)])


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_posterior_is_that_of_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents, tables = random_network(rng, 6)
    whole = joint_of(parents, tables)
    asked, *rest = (int(j) for j in rng.permutation(6))
    rows = np.full((5, 6), -1)
    for j in rest[: rng.integers(0, 5)]:
        rows[:, j] = rng.integers(0, whole.shape[j], 5)
    likely = {}
    if rng.random() < 0.5:
        likely[rest[-1]] = rng.random(whole.shape[rest[-1]]) + 0.1
        whole = whole * along(likely[rest[-1]], rest[-1], 6)
    found = exact.posterior(parents, tables, rows, likely, asked)
    for row, share in zip(rows, found, strict=True):
        part = whole[tuple(slice(v, v + 1) if v >= 0 else slice(None) for v in row)]
        expected = part.sum(axis=tuple(axis for axis in range(6) if axis != asked))
        assert share == pytest.approx(expected / expected.sum())


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_drawn_from_the_joint_posterior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents, tables = random_network(rng, 5)
    whole = joint_of(parents, tables)
    seen, n = rng.permutation(5)[: seed % 3], 60_000
    rows = np.full((n, 5), -1)
    for j in seen:
        rows[:, j] = whole.shape[j] - 1
        whole = whole * along(np.arange(whole.shape[j]) == whole.shape[j] - 1, j, 5)
    other = int(np.setdiff1d(np.arange(5), seen)[0])
    likely = {other: np.arange(whole.shape[other], dtype=float) + 0.5}
    whole = whole * along(likely[other], other, 5)
    drawn = exact.complete(parents, tables, rows, likely, rng)
    found = np.zeros(whole.shape)
    np.add.at(found, tuple(drawn.T), 1 / n)
    assert np.abs(found - whole / whole.sum()).max() < 0.01


def test_rows_that_know_different_things_and_memory_that_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    parents, tables = random_network(rng, 6)
    sizes = [table.shape[-1] for table in tables]
    whole = joint_of(parents, tables)
    full = np.stack(np.unravel_index(rng.choice(whole.size, 40_000, p=whole.ravel()), whole.shape))
    rows = np.where(rng.random(full.shape) < 0.5, full, -1).T
    monkeypatch.setattr(exact, "MOST_CELLS", 16)
    drawn = exact.complete(parents, tables, rows, {}, rng)
    assert (drawn >= 0).all() and (drawn < sizes).all()
    assert np.array_equal(drawn[rows >= 0], rows[rows >= 0])
    # rows from the joint, blanked anywhere and filled in, are rows from the joint
    found = np.zeros(whole.shape)
    np.add.at(found, tuple(drawn.T), 1 / len(drawn))
    assert np.abs(found - whole).max() < 0.012


def test_nothing_possible_is_an_error() -> None:
    parents, tables = ((), (0,)), (np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.5, 0.5]]))
    rng = np.random.default_rng(0)
    with pytest.raises(ConditionError):
        exact.complete(parents, tables, np.array([[-1, 1]]), {}, rng)
    assert exact.complete(parents, tables, np.array([[-1, 0]]), {}, rng).tolist() == [[0, 0]]


# ------------------------------------------------------------------ bins


def test_bins_keep_missing_marks_apart_and_merge_what_tells_the_same() -> None:
    # 40 codes after a missing mark; the other column changes after code 10 only
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 41, 8000), np.zeros(8000)], axis=1).astype(np.int32)
    codes[:, 1] = codes[:, 0] > 10
    counts = [np.bincount(codes[:, j]) for j in range(2)]
    wide, narrow = learn_bins(codes, counts, [1, 0], [True, True], most=4, supervised=True)
    assert wide.size == 5 and narrow.size == 2
    assert (wide.of == 0).sum() == 1 and wide.of[0] == 0
    assert wide.of[10] != wide.of[11] and (np.diff(wide.of) >= 0).all()
    assert np.bincount(wide.of, weights=wide.share) == pytest.approx(np.ones(5))


@given(st.integers(0, 10**6), st.integers(2, 9), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_drawn_codes_belong_to_their_bins_and_are_allowed(
    seed: int, most: int, ordered: bool, supervised: bool
) -> None:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, 30, 200), rng.integers(0, 3, 200)], axis=1).astype(np.int32)
    counts = [np.bincount(codes[:, j], minlength=(30, 3)[j]) for j in range(2)]
    made = learn_bins(codes, counts, [2, 0], [ordered] * 2, most=most, supervised=supervised)[0]
    assert made.size <= most + 2 and np.array_equal(np.unique(made.of), np.arange(made.size))
    drawn = made.draw(np.arange(made.size).repeat(7), rng)
    assert np.array_equal(made.of[drawn], np.arange(made.size).repeat(7))
    allowed = rng.random(30) < 0.5
    able = np.flatnonzero(made.likely(allowed) > 0)
    drawn = made.draw(able.repeat(5), rng, allowed)
    assert allowed[drawn].all() and np.array_equal(made.of[drawn], able.repeat(5))
