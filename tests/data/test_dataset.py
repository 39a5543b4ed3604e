import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.dataset import Dataset, Schema, split_subjects
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError

SCHEMA = TableSchema((Column("x", "integer"),))


def table(subjects):
    subjects = np.asarray(subjects, dtype=np.int64)
    return Table(SCHEMA, subjects, {"x": np.arange(subjects.size, dtype=float)})


def test_a_table_is_a_dataset():
    assert isinstance(table([1]), Dataset) and isinstance(SCHEMA, Schema)


@st.composite
def cases(draw):
    subjects = draw(st.lists(st.integers(0, 40), min_size=1, max_size=120))
    weights = draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    total = sum(weights) + draw(st.integers(0, 10))
    return subjects, [weight / total for weight in weights], draw(st.integers(0, 2**70))


@given(cases())
def test_parts_share_no_subject_and_keep_rows_together(case):
    subjects, shares, seed = case
    data = table(subjects)
    if data.n_subjects < len(shares):
        with pytest.raises(InputError):
            split_subjects(data, shares, seed=seed)
        return
    parts = split_subjects(data, shares, seed=seed)
    assert len(parts) == len(shares)
    seen: set[int] = set()
    for part in parts:
        mine = set(part.subjects.tolist())
        assert mine and not mine & seen
        seen |= mine
        assert part.n_rows == int(np.isin(data.subjects, list(mine)).sum())
        assert np.all(np.diff(part.columns["x"]) > 0)  # rows in their order
    if sum(shares) > 1 - 1e-9:
        assert seen == set(subjects)


@given(st.integers(50, 400), st.integers(0, 1000))
def test_shares_are_kept_to_a_subject(n, seed):
    parts = split_subjects(table(range(n)), (0.6, 0.3, 0.1), seed=seed)
    for part, share in zip(parts, (0.6, 0.3, 0.1), strict=True):
        assert abs(part.n_subjects - share * n) <= 1


def test_the_seed_decides():
    data = table(range(100))
    first, again = (split_subjects(data, (0.5, 0.5), seed=1)[0].subjects for _ in range(2))
    other = split_subjects(data, (0.5, 0.5), seed=2)[0].subjects
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("shares", [(), (0.5, 0.6), (0.0, 1.0), (-0.1, 0.5)])
def test_impossible_shares(shares):
    with pytest.raises(InputError, match="split shares"):
        split_subjects(table(range(9)), shares, seed=0)
