"""Who is held out by site and by time: by hand, and never a subject on both sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.schema import Column, TableSchema
from manikin.data.splitting import split_by
from manikin.data.table import Table
from manikin.errors import InputError

SCHEMA = TableSchema(
    (
        Column("site", "categorical", categories=("a", "b", "c", "d")),
        Column("year", "continuous"),
    )
)


def table(sites: list[int], years: list[float], subjects: list[int] | None = None) -> Table:
    whose = np.arange(len(sites)) if subjects is None else np.array(subjects)
    columns = {"site": np.array(sites, np.int32), "year": np.array(years, float)}
    return Table(SCHEMA, whose, columns)


def test_whole_sites_are_held_out() -> None:
    """Four sites of ten: a share of .3 is 12 subjects, to which one site of ten is nearest."""
    made = table([i % 4 for i in range(40)], [0.0] * 39 + [1.0])
    chosen = set()
    for seed in range(12):
        train, held = split_by(made, "site", 0.3, seed=seed)
        (site,) = set(held.columns["site"])
        assert held.n_subjects == 10 and site not in train.columns["site"]
        chosen.add(int(site))
    assert len(chosen) > 1  # not always the same


def test_the_latest_are_held_out_with_all_of_one_date() -> None:
    """Years 1 1 2 3 3 4: a share of 1/3 is two; from 3 on there are 3, from 4 on 1: as near.

    The first of two as near is taken: from 3 on.
    """
    train, held = split_by(table([0] * 6, [1, 1, 2, 3, 3, 4]), "year", 1 / 3, seed=0)
    assert sorted(held.columns["year"]) == [3, 3, 4] and sorted(train.columns["year"]) == [1, 1, 2]


def test_a_subject_goes_by_its_earliest_row_and_the_unknown_are_trained_on() -> None:
    made = table([0] * 5, [1, 9, 2, 9, np.nan], subjects=[7, 7, 8, 9, 10])
    train, held = split_by(made, "year", 0.3, seed=0)
    assert set(held.subjects) == {9} and set(train.subjects) == {7, 8, 10}


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 9)), min_size=2, max_size=60),
    st.floats(0.05, 0.9),
    st.sampled_from(["site", "year"]),
)
def test_everyone_is_on_one_side(rows: list[tuple[int, int]], share: float, by: str) -> None:
    made = table([s for s, _ in rows], [1] * len(rows), [i for _, i in rows])
    made.columns["year"][:] = np.arange(len(rows)) % 5
    try:
        train, held = split_by(made, by, share, seed=1)
    except InputError:
        return
    assert not set(train.subjects) & set(held.subjects)
    assert train.n_rows + held.n_rows == len(rows) and train.n_rows and held.n_rows


def test_what_cannot_split_is_said() -> None:
    made = table([0, 0, 0], [1, 1, 1])
    for name, said in (("site", "fewer than two"), ("year", "fewer than two"), ("no", "no column")):
        with pytest.raises(InputError, match=said):
            split_by(made, name, 0.3, seed=0)
