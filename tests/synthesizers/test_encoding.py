"""Known answers for the shared encoder."""

import json

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import State
from manikin.synthesizers.table._structure import Function, Linear
from manikin.synthesizers.table.encoding import Encoding


def table(columns: list[Column], subjects: np.ndarray | None = None, **values: np.ndarray) -> Table:
    n = len(next(iter(values.values())))
    return Table(
        TableSchema(tuple(columns)), np.arange(n) if subjects is None else subjects, values
    )


def there_and_back(real: Table) -> Table:
    encoding = Encoding.fit(real, seed=1)
    return encoding.decode(encoding.encode(real, seed=1), real.subjects, seed=1)


def test_heaped_values_stay_on_the_grid_and_keep_their_shares() -> None:
    rng = np.random.default_rng(0)
    pressure = 10.0 * rng.integers(8, 20, 2000)
    pressure[:100] += rng.integers(1, 10, 100)
    real = table([Column("bp", "integer")], bp=pressure)
    back = there_and_back(real).columns["bp"]
    heaped = pressure % 10 == 0
    assert (back % 10 == 0).sum() >= heaped.sum()
    assert (back == 120).sum() >= (pressure == 120).sum()
    assert np.array_equal(back, np.rint(back))


def test_numbers_of_one_subject_come_back_no_oftener_than_in_fresh_rows() -> None:
    rng = np.random.default_rng(0)
    days = rng.integers(18 * 365, 90 * 365, (2, 4000))
    age, fresh = np.round(days / 365.25, 5)  # a grid, on which most values are one person's
    real = table([Column("age", "continuous", decimals=5)], age=age)
    made = there_and_back(real).columns["age"]
    assert 0.1 < np.isin(fresh, age).mean() < 0.2
    assert np.isin(made, age).mean() < 0.05
    assert abs(np.median(made) - np.median(age)) < 0.3


def test_numbers_between_are_multiples_of_the_common_step() -> None:
    rng = np.random.default_rng(0)
    dose = 0.25 * rng.integers(0, 900, 1500) + 0.1
    made = there_and_back(table([Column("dose", "continuous", decimals=2)], dose=dose))
    steps = (made.columns["dose"] - 0.1) / 0.25
    assert np.allclose(steps, np.rint(steps), atol=1e-9)
    assert not np.isin(made.columns["dose"], dose).all()


def test_spikes_come_back_exactly_and_the_rest_does_not() -> None:
    rng = np.random.default_rng(0)
    dose = np.round(rng.lognormal(2, 1, 1000), 3)
    dose[:400], dose[400:500] = 0.0, 0.05  # none given, and the detection limit
    back = there_and_back(table([Column("dose", "continuous", decimals=3)], dose=dose))
    made = back.columns["dose"]
    assert (made == 0).sum() == 400 and (made == 0.05).sum() == 100
    assert np.mean(np.isin(made[500:], dose[500:])) < 0.2
    assert np.array_equal(np.round(made, 3), made)


def test_extremes_are_not_reproduced() -> None:
    rng = np.random.default_rng(0)
    smooth = np.append(np.round(rng.normal(50, 5, 500), 4), 999.1234)
    counts = np.append(rng.poisson(3, 500), 77).astype(float)
    real = table(
        [Column("x", "continuous", decimals=4), Column("n", "integer")], x=smooth, n=counts
    )
    back = there_and_back(real)
    assert 999.1234 not in back.columns["x"] and 77 not in back.columns["n"]
    state = Encoding.fit(real, seed=1).state()
    assert all(999.1234 not in array and 77.0 not in array for name, array in state.arrays.items()
               if name.endswith(("grid", "low", "high")))  # fmt: skip


def test_a_level_of_one_subject_never_comes_back() -> None:
    codes = np.zeros(500, np.int32)
    codes[::2] = 1
    codes[7] = 2
    column = Column("ward", "categorical", categories=("A", "B", "the only one"))
    back = there_and_back(table([column], ward=codes)).columns["ward"]
    assert set(back) == {0, 1}


def test_a_rare_code_becomes_its_nearest_kin() -> None:
    names = tuple(f"{a}{i:02d}" for a in "ABCDEF" for i in range(10))
    codes = np.repeat(np.arange(60), 20).astype(np.int32)
    codes = np.append(codes[codes != 13], 13).astype(np.int32)  # one subject with B03
    back = there_and_back(table([Column("icd", "categorical", categories=names)], icd=codes))
    made = int(back.columns["icd"][-1])
    assert made != 13 and names[made].startswith("B")


def test_mixed_precision_is_kept_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    area = rng.uniform(100, 2000, 800)
    area = np.where(area < 1000, np.round(area, 1), np.round(area))
    back = there_and_back(table([Column("area", "continuous", decimals=1)], area=area))
    made = back.columns["area"]
    large = made[made > 1010]
    assert np.array_equal(large, np.round(large))


def test_copies_lines_and_functions_are_derived() -> None:
    rng = np.random.default_rng(0)
    celsius = np.round(rng.normal(37, 1, 400), 1)
    ward = rng.integers(0, 6, 400).astype(np.int32)
    columns = [
        Column("c", "continuous", decimals=1),
        Column("again", "continuous", decimals=1),
        Column("f", "continuous", decimals=2),
        Column("ward", "categorical", categories=tuple("uvwxyz")),
        Column("site", "categorical", categories=("north", "south")),
        Column("same ward", "categorical", categories=tuple("abcdef")),
    ]
    values = {"c": celsius, "again": celsius.copy(), "f": np.round(32 + 1.8 * celsius, 2),
              "ward": ward, "site": ward % 2, "same ward": ward[::1].copy()}  # fmt: skip
    real = table(columns, **values)
    encoding = Encoding.fit(real, seed=1)
    kinds = {item.name: type(item) for item in encoding.derived}
    assert len(encoding.names) == 2
    assert sum(kind is Linear for kind in kinds.values()) == 2
    assert sum(kind is Function for kind in kinds.values()) == 2
    back = encoding.decode(encoding.encode(real, seed=1), real.subjects, seed=3)
    assert np.array_equal(back.columns["c"], back.columns["again"])
    assert np.allclose(back.columns["f"], 32 + 1.8 * back.columns["c"], atol=0.006)
    assert np.array_equal(back.columns["ward"] % 2, back.columns["site"])
    assert np.array_equal(back.columns["ward"], back.columns["same ward"])


def test_a_time_that_repeats_another_does_so_exactly() -> None:
    rng = np.random.default_rng(0)
    followed = rng.integers(100, 3000, 600).astype(float)
    relapse = np.where(rng.random(600) < 0.6, followed, np.floor(followed * rng.random(600)))
    kinds = [Column("followed", "integer", roles=("time",)), Column("relapse", "integer")]
    real = table(kinds, followed=followed, relapse=relapse)
    encoding = Encoding.fit(real, seed=1)
    assert encoding.echoes == {"relapse": "followed"}
    back = encoding.decode(encoding.encode(real, seed=1), real.subjects, seed=1)
    made = back.columns["relapse"] == back.columns["followed"]
    assert abs(int(made.sum()) - int((relapse == followed).sum())) < 15
    assert back.state("relapse").max() == 0


def test_dates_keep_their_resolution_and_intervals() -> None:
    rng = np.random.default_rng(0)
    came = np.datetime64("2021-03-01", "us") + rng.integers(0, 400, 500) * np.timedelta64(1, "D")
    left = (came + rng.integers(0, 9, 500) * np.timedelta64(1, "D")).astype("datetime64[us]")
    left[:50] = np.datetime64("NaT")
    kinds = [Column("came", "datetime"), Column("left", "datetime")]
    back = there_and_back(table(kinds, came=came.astype("datetime64[us]"), left=left))
    stay = back.columns["left"] - back.columns["came"]
    assert np.isnat(stay).sum() == 50
    assert set(stay[~np.isnat(stay)] / np.timedelta64(1, "D")) <= set(range(9))
    whole = back.columns["came"].astype("datetime64[D]")
    assert np.array_equal(whole.astype("datetime64[us]"), back.columns["came"])


def test_tokens_and_constants() -> None:
    rng = np.random.default_rng(0)
    state = rng.choice(4, 300, p=[0.7, 0.1, 0.1, 0.1]).astype(np.int8)
    crp = np.where(state == 0, np.round(rng.lognormal(size=300), 1), np.nan)
    kinds = (
        Column("crp", "continuous", decimals=1, missing=("", "NA"), special=("<0.5",)),
        Column("empty", "continuous"),
        Column("site", "categorical", categories=("x",)),
    )
    columns = {"crp": crp, "empty": np.full(300, np.nan), "site": np.zeros(300, np.int32)}
    real = Table(TableSchema(kinds), np.arange(300), columns, {"crp": state})
    back = there_and_back(real)
    assert np.array_equal(back.state("crp"), state)
    assert not back.present("empty").any() and (back.columns["site"] == 0).all()
    assert Encoding.fit(real, seed=1).names == ("crp",)


def test_columns_that_never_change_within_a_subject_are_marked() -> None:
    subjects = np.repeat(np.arange(100), 3)
    rng = np.random.default_rng(0)
    kinds = [Column("born", "integer"), Column("pulse", "integer")]
    born = rng.integers(1930, 1990, 100).astype(float)[subjects]
    real = table(kinds, subjects, born=born, pulse=rng.integers(50, 99, 300).astype(float))
    encoding = Encoding.fit(real, seed=1)
    assert dict(zip(encoding.names, encoding.static, strict=True)) == {"born": True, "pulse": False}


def test_restored_encoding_decodes_the_same() -> None:
    rng = np.random.default_rng(0)
    kinds = [Column("x", "continuous", decimals=2),
             Column("c", "categorical", categories=("a", "b", "c"))]  # fmt: skip
    x, c = np.round(rng.normal(size=200), 2), rng.integers(-1, 3, 200).astype(np.int32)
    real = table(kinds, x=x, c=c)
    encoding = Encoding.fit(real, seed=1)
    state = encoding.state()
    values = json.loads(json.dumps(state.values))
    again = Encoding.restore(real.schema, State(state.arrays, values))
    codes = encoding.encode(real, seed=2)
    assert np.array_equal(codes, again.encode(real, seed=2))
    one, two = (e.decode(codes, real.subjects, seed=3) for e in (encoding, again))
    assert all(one.columns[name].tobytes() == two.columns[name].tobytes() for name in ("x", "c"))


def test_no_rows_is_an_error() -> None:
    with pytest.raises(InputError):
        Encoding.fit(table([Column("x", "continuous")], x=np.zeros(0)), seed=1)


def test_what_no_two_subjects_share_is_not_kept_unless_declared() -> None:
    names = Column("name", "categorical", categories=tuple(f"person {i}" for i in range(50)))
    subjects = np.repeat(np.arange(50), 3)
    sex = Column("sex", "categorical", categories=("f", "m"))
    values = {"name": subjects.astype(np.int32), "sex": (subjects % 2).astype(np.int32)}
    inferred = table([names, sex], subjects, **values)
    assert not there_and_back(inferred).present("name").any()
    assert "person" not in str(Encoding.fit(inferred, seed=1).schema)
    declared = Table(TableSchema((names, sex), declared=True), subjects, values)
    assert there_and_back(declared).present("name").all()


def test_spellings_of_a_few_give_way_to_ones_that_none_equals() -> None:
    levels = ("common", "(rare level 1)", "secret", "other")
    codes = np.array([0] * 60 + [3] * 60 + [1, 2], np.int32)
    real = table([Column("x", "categorical", categories=levels)], x=codes)
    schema = Encoding.fit(real, seed=1).schema
    assert schema["x"].categories == ("common", "(rare level 2)", "(rare level 3)", "other")


def test_a_column_may_repeat_another_and_follow_from_a_third() -> None:
    """`next` is `now` below 400, else one of three: an echo whose code is a function of it."""
    now = np.tile(np.arange(40.0), 30) ** 2
    then = np.where(now < 400, now, 1000 * (1 + now % 3))
    schema = TableSchema((Column("now", "integer"), Column("next", "integer")))
    table = Table(schema, np.arange(1200), {"now": now, "next": then})
    encoding = Encoding.fit(table, seed=1)
    assert encoding.echoes == {"next": "now"} and "next" not in encoding.names
    codes = encoding.encode(table, seed=1)
    back = encoding.decode(codes, table.subjects, seed=1)
    assert np.array_equal(back.columns["next"], then)
    assert np.array_equal(encoding.echoing("next", codes), now < 400)


def written(values: np.ndarray, finest: int) -> list[float]:
    """Return the share of values that need 0, 1 … `finest` decimal places."""
    needed = np.full(values.size, finest)
    for fewer in range(finest - 1, -1, -1):
        needed[np.isclose(values, np.round(values, fewer), rtol=0, atol=1e-9)] = fewer
    return [float((needed == places).mean()) for places in range(finest + 1)]


@pytest.mark.parametrize("declared", [2, 5])  # as many decimals as here, and as elsewhere
def test_numbers_are_written_as_finely_as_they_were(declared: int) -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.uniform(100, 900, 3000), 2)
    coarse = rng.random(3000) < 0.3
    values[coarse] = np.round(values[coarse], 1)  # three in ten, and a tenth of the others
    schema = TableSchema((Column("x", "continuous", decimals=declared),))
    table = Table(schema, np.arange(3000), {"x": values})
    encoding = Encoding.fit(table, seed=1)
    codes = encoding.encode(table, seed=1)
    drawn = encoding.decode(codes, table.subjects, seed=2).columns["x"]
    assert written(drawn, 5)[:3] == pytest.approx(written(values, 5)[:3], abs=0.03)
    assert sum(written(drawn, 5)[3:]) == 0
    digits = np.rint(drawn[written_to(drawn, 2)] * 100) % 10
    assert np.bincount(digits.astype(int), minlength=10)[1:].min() > 0.06 * digits.size


def test_whole_numbers_with_one_exception_stay_whole() -> None:
    values = np.random.default_rng(1).normal(120, 40, 2000).round().clip(20, 400)
    values[5] = 133.330002  # once converted from another unit: an even number of millionths
    real = table([Column("glucose", "continuous", decimals=6)], glucose=values)
    drawn = there_and_back(real).columns["glucose"]
    assert (drawn == np.round(drawn)).mean() > 0.98


def test_halves_stay_halves() -> None:
    values = np.random.default_rng(1).integers(0, 4000, 3000) / 2
    real = table([Column("dose", "continuous", decimals=1)], dose=values)
    drawn = there_and_back(real).columns["dose"]
    assert (drawn * 2 == np.round(drawn * 2)).all() and 0.4 < (drawn % 1 == 0).mean() < 0.6


def written_to(values: np.ndarray, places: int) -> np.ndarray:
    """Return which values need exactly so many places."""
    fewer = np.isclose(values, np.round(values, places - 1), rtol=0, atol=1e-9)
    return np.isclose(values, np.round(values, places), rtol=0, atol=1e-9) & ~fewer
