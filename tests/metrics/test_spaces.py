import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.spaces import Bins, Space, nearest, row_keys
from manikin.metrics.trees import TreeFeatures, written_places


def test_gower_distance_by_hand(make_table):
    train = make_table(x=[1, 2, 3, 4], c=["a", "a", "b", "b"])
    space = Space.fit(train)
    one = space.points(make_table(x=[1], c=["a"]))
    for x, c, expected in ((4, "a", 0.75 / 2), (1, "b", 0.5), (4, "b", 1.75 / 2), (1, "a", 0)):
        assert nearest(one, space.points(make_table(x=[x], c=[c])))[0] == pytest.approx(
            expected, abs=1e-3
        )
    missing = nearest(one, space.points(make_table(x=[None], c=["a"])))[0]
    assert 0.25 <= missing <= 0.5


def test_nearest_agrees_with_brute_force(make_table):
    rng = np.random.default_rng(0)
    tables = [
        make_table(
            x=rng.normal(size=n), y=rng.integers(0, 5, n), c=list(rng.choice(list("abc"), n))
        )
        for n in (9000, 150)
    ]
    space = Space.fit(tables[0])
    references, queries = (space.points(table) for table in tables)
    numbers = np.abs(queries.numbers[:, :, None].astype(int) - references.numbers[:, None, :])
    unequal = queries.codes[:, :, None] != references.codes[:, None, :]
    brute = numbers.sum(axis=0) + queries.scale * unequal.sum(axis=0)
    expected = brute.min(axis=1) / (queries.scale * 3)
    assert nearest(queries, references) == pytest.approx(expected)


def test_wide_tables_do_not_overflow(make_table):
    wide = {f"n{i}": [0.0, 1.0] for i in range(400)} | {f"c{i}": ["a", "b"] for i in range(400)}
    table = make_table(**wide)
    space = Space.fit(table)
    ends = [space.points(table.rows(np.array([i]))) for i in (0, 1)]
    assert nearest(ends[0], ends[1])[0] == pytest.approx(0.75, abs=0.01)


def test_many_levels_reach_the_trees_as_categories_and_ranks():
    levels = tuple(f"E{i}" for i in range(700))
    schema = TableSchema((Column("code", "categorical", categories=levels),))
    codes = np.concatenate([np.arange(700), np.full(50, 3)]).astype(np.int32)
    table = Table(schema, np.arange(750), {"code": codes})
    features = TreeFeatures.fit(table)
    matrix = features.matrix(table)
    assert features.unordered == [True, False] and matrix.shape == (750, 2)
    assert matrix[:, 0].max() == 253 and np.unique(matrix[:, 1]).size == 700
    assert matrix[3, 1] == 0  # the commonest level ranks first


def test_bins_cap_levels_and_keep_missing_apart(make_table):
    train = make_table(x=["a", "a", "b", "c", None])
    bins = Bins.fit(train, most_levels=1)
    codes = bins.codes(train, "x")
    assert codes[0] == codes[1] and codes[2] == codes[3] and len(set(codes.tolist())) == 3
    assert codes.max() < bins.sizes["x"]


def test_keys_are_equal_exactly_for_equal_rows(make_table):
    table = make_table(x=[1.0, 1.0, -0.0, 0.0, None, None], c=["a", "b", "a", "a", "a", "a"])
    keys = row_keys(table)
    assert keys[0] != keys[1] and keys[2] == keys[3] and keys[4] == keys[5] != keys[0]


def test_how_finely_a_number_is_written():
    number = Column("x", "continuous", decimals=2)
    values = np.array([0.25, 0.3, 7, 120, -1500, 0.1 + 0.2, 1 / 3, np.nan])
    assert written_places(values, number)[:7].tolist() == [2, 1, 0, -1, -2, 1, 3]
    moment = Column("t", "datetime")
    seconds = np.array([86_400.0 * 20_000, 3600.0, 90.0, 120.0])
    assert written_places(seconds, moment).tolist() == [3, 2, 0, 1]
