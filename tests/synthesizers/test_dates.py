"""What a hospital's dates must keep: lengths of stay, and one birthday a patient."""

import dataclasses

import numpy as np
import pytest

from manikin import catalogue
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizers.table._dates import hardly_changes, learn_dates

NAMES = ("birth", "admitted", "discharged")
DAY = np.timedelta64(1, "D")


def stays(subjects: np.ndarray) -> Table:
    rng = np.random.default_rng(1)
    n = int(subjects.max()) + 1
    start = np.datetime64("1940-01-01", "us")
    birth = (start + rng.integers(0, 20_000, n) * DAY)[subjects]
    admitted = np.datetime64("2020-01-01", "us") + rng.integers(0, 1000, subjects.size) * DAY
    discharged = admitted + rng.integers(0, 15, subjects.size) * DAY
    birth[5] = "NaT"  # left out once
    schema = TableSchema(tuple(Column(n, "datetime", date_format="%Y-%m-%d") for n in NAMES))
    columns = dict(zip(NAMES, (birth, admitted, discharged), strict=True))
    return Table(schema, subjects.astype(np.int64), columns)


@pytest.mark.parametrize("name", ["table/seqtree", "table/copula"])
@pytest.mark.parametrize("rows", [1, 3])
def test_stays_are_as_long_as_they_were_whatever_date_comes_first(name: str, rows: int) -> None:
    made = catalogue.build(name).fit(stays(np.repeat(np.arange(300), rows)), seed=1)
    table = made.sample(300, seed=2)
    days = (table.columns["discharged"] - table.columns["admitted"]) / DAY
    days = days[~np.isnan(days)]
    assert days.min() >= 0 and days.max() <= 15
    assert abs(days.mean() - 7) < 1


@pytest.mark.parametrize("name", ["table/seqtree", "table/copula", "table/marginals"])
def test_a_subject_is_born_once_though_a_cell_is_missing(name: str) -> None:
    model = catalogue.build(name).fit(stays(np.repeat(np.arange(300), 3)), seed=1)
    table = model.sample(200, seed=2)
    pairs = np.unique(np.stack([table.subjects, table.columns["birth"].astype(np.int64)]), axis=1)
    assert pairs.shape[1] == 200
    assert len(np.unique(table.columns["admitted"])) > 200


def test_anchor_is_the_date_from_which_the_others_are_near() -> None:
    one, several = stays(np.arange(300)), stays(np.repeat(np.arange(100), 3))
    assert learn_dates(one).anchor == learn_dates(several).anchor == "admitted"
    assert learn_dates(one).alone == () and learn_dates(several).alone == ("birth",)
    back = learn_dates(several)
    for name in NAMES:
        numbers = back.to_numbers(name, several)
        seconds = back.to_seconds(name, numbers, several.numbers("admitted"))
        assert np.array_equal(seconds, several.numbers(name), equal_nan=True)


def test_what_is_rare_anyway_is_not_a_subjects_own_because_it_seldom_changes() -> None:
    subjects = np.repeat(np.arange(200), 4)
    rare = np.zeros(800)
    rare[3::80] = 1  # ten events, each in a subject's last row
    assert not hardly_changes(rare, subjects)
    blood = np.repeat(np.arange(200) % 4, 4)
    blood[[1, 401]] = 9
    assert hardly_changes(blood, subjects)
    blood[::4] = np.random.default_rng(0).integers(0, 4, 200)
    assert not hardly_changes(blood, subjects)


def test_dates_survive_the_model_file() -> None:
    real = stays(np.repeat(np.arange(100), 3))
    recipe = catalogue.build("table/seqtree")
    model = recipe.fit(real, seed=1)
    again = recipe.restore(model.schema, model.state())
    one, two = model.sample(50, seed=3), again.sample(50, seed=3)
    assert dataclasses.asdict(one)["schema"] == dataclasses.asdict(two)["schema"]
    assert all(np.array_equal(one.columns[n], two.columns[n], equal_nan=True) for n in NAMES)
