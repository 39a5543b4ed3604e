import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.privacy.cells import merge_small, n_different, quantiles_of_many, subjects_per_cell


def test_subjects_are_counted_once_a_cell() -> None:
    cells = np.array([0, 0, 1, 1, 1, -1])
    assert subjects_per_cell(cells, np.array([5, 5, 5, 7, 7, 9]), 3).tolist() == [1, 2, 0]


def test_neighbours_merge_until_eleven() -> None:
    cells = np.repeat([0, 1, 2, 4, 5], [5, 6, 20, 12, 3])
    goes_to = merge_small(cells, np.arange(cells.size), 6)
    # 0+1 reach eleven; 2 stands; 3 is empty and inner; 4 takes the leftover 5
    assert goes_to is not None and goes_to.tolist() == [0, 0, 1, 2, 3, 3]
    assert merge_small(np.zeros(10, int), np.arange(10), 3) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-1, 15), min_size=1, max_size=120),
    st.lists(st.integers(0, 60), min_size=120, max_size=120),
)
def test_no_merged_cell_holds_one_to_ten_subjects(cells: list[int], who: list[int]) -> None:
    numbered, subjects = np.array(cells), np.array(who[: len(cells)])
    goes_to = merge_small(numbered, subjects, 16)
    inside = numbered >= 0
    if goes_to is None:
        assert np.unique(subjects[inside]).size < 11
        return
    assert np.all(np.diff(goes_to) >= 0) and np.all(np.diff(goes_to) <= 1)
    counts = subjects_per_cell(goes_to[numbered[inside]], subjects[inside], goes_to.max() + 1)
    assert np.all((counts == 0) | (counts >= 11))
    assert counts[0] >= 11 and counts[-1] >= 11


def test_a_quantile_is_a_mean_of_eleven_subjects() -> None:
    values = np.arange(101.0)
    # the least is not the least value
    assert quantiles_of_many(values, np.arange(101), (0.0, 0.5, 1.0)) == [5, 50, 95]
    assert quantiles_of_many(values[:10], np.arange(10), (0.5,)) == []
    # rows of one subject do not count as many
    assert quantiles_of_many(np.arange(40.0), np.repeat(np.arange(10), 4), (0.5,)) == []
    found = quantiles_of_many(np.arange(44.0), np.repeat(np.arange(11), 4), (0.0,))
    assert found == [21.5]


@given(st.lists(st.sampled_from([0, 1, 5, 1000, 10**15, -(10**12)]), max_size=40))
def test_different_subjects_are_counted_however_numbered(numbers: list[int]) -> None:
    assert n_different(np.array(numbers, np.int64)) == len(set(numbers))
