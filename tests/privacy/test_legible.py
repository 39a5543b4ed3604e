"""A budget that is too small for a table: said so, with what to coarsen or to drop."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin.budgeted import legible
from manikin.data.schema import Column, TableSchema
from manikin.errors import PrivacyError
from manikin.privacy.account import Account
from manikin.privacy.budget import Budget
from manikin.privacy.legible import check_legible
from manikin.synthesizer import Progress, silent


def columns(*levels: int, numbers: int = 0, most: int = 1023) -> TableSchema:
    coded = [
        Column(f"c{i}", "categorical", categories=tuple(f"{k:03d}" for k in range(n)))
        for i, n in enumerate(levels)
    ]
    counted = [Column(f"n{i}", "integer", minimum=0, maximum=most) for i in range(numbers)]
    return TableSchema((*coded, *counted), declared=True)


def test_noise_as_large_as_most_cells_is_too_much() -> None:
    # 100 rows in 5 levels are 20 a cell; of three columns two have 5 or more
    schema = columns(2, 5, 8)
    check_legible(schema, 100, 19.9)
    with pytest.raises(PrivacyError, match="2 of 3 columns") as caught:
        check_legible(schema, 100, 20.0)
    error = caught.value
    assert "noise of 20 rows" in error.given and error.allowed
    # fewer than 100 / 20 = 5 levels; 2 of 3 columns have noise of 20 √(2/3) = 16.3, and 5 x 16.3
    # is below 100; one step of 1.1 times the ε
    assert "coarsen 'c2' (has 8), 'c1' (has 5) to 4 levels or fewer" in error.todo
    assert "or drop 'c2', so that 2 share the budget" in error.todo
    assert "give about 1.1 times the ε" in error.todo


def test_half_of_the_columns_may_be_hidden() -> None:
    check_legible(columns(2, 200), 100, 20)
    with pytest.raises(PrivacyError, match="2 of 3"):
        check_legible(columns(2, 200, 200), 100, 20)


def test_a_number_is_told_by_two_halves_of_its_ranges() -> None:
    # of six ranges three are a half: 2 √3 = 3.464 times the noise
    check_legible(columns(numbers=2), 100, 28.8)
    with pytest.raises(PrivacyError, match=r"'n0', 'n1' to 5 values or fewer, by bounds"):
        check_legible(columns(numbers=2), 100, 28.9)  # fewer than (100 / 28.9)² / 2 = 5.99 values
    check_legible(columns(numbers=2, most=4), 100, 28.9)  # as it says
    huge = columns(numbers=2, most=10**9)  # is counted in six ranges all the same
    check_legible(huge, 100, 28.8)


def test_what_no_coarsening_helps() -> None:
    with pytest.raises(PrivacyError) as caught:
        check_legible(columns(2), 0.0, 30.0)
    assert caught.value.todo.startswith("give about ") and "coarsen" not in caught.value.todo


def test_many_columns_are_not_all_listed() -> None:
    with pytest.raises(PrivacyError, match=r"'c3' .* and 22 more to 4 levels"):
        check_legible(columns(*[9] * 30), 100, 20)


def test_real_use_passes() -> None:
    """300 rows, of which 210 are trained on, in 10 columns at ε = 1: half of ρ for single ones."""
    schema = columns(2, 2, 3, 4, 9, numbers=5)
    rho = Account(Budget(1.0)).rho / 2 / 10
    check_legible(schema, 210, 1 / np.sqrt(2 * rho))
    with pytest.raises(PrivacyError):
        check_legible(schema, 21, 1 / np.sqrt(2 * rho))


def test_dates_count_their_days() -> None:
    # five days are five ranges: 2 √2.5 = 3.162 times the noise; four would do: 2 √2 x 31.7 = 89.7
    day = Column("a", "datetime", minimum=0, maximum=86400.0 * 4)
    check_legible(TableSchema((day,)), 100, 31.6)
    with pytest.raises(PrivacyError, match="to 4 values"):
        check_legible(TableSchema((day,)), 100, 31.7)


def test_it_is_heard_from_the_fit_and_from_nothing_else() -> None:
    heard: list[Progress] = []
    watch = legible(Budget(1.0), columns(2, 9, 9), lambda one: heard.append(one))
    watch(Progress(0, None, "something else"))
    with pytest.raises(PrivacyError, match="too small"):
        watch(Progress(0, None, "counted", {"rows": 40.0, "noise": 30.0}))
    assert len(heard) == 2
    assert legible(None, columns(2), silent) is silent


SCHEMA = """
columns:
  - {name: age, kind: integer, minimum: 0, maximum: 120}
  - {name: sex, kind: categorical, categories: [F, M]}
"""
CODE = "  - {name: code%d, kind: categorical, categories: [a, b, c, d, e, f, g, h, i, j, k, l]}\n"


@pytest.mark.parametrize("name", ["table/mst", "table/aim"])
def test_the_road_says_so_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("opendp", reason="needs the extra 'dp'")
    rng = np.random.default_rng(0)

    def frame(n: int) -> pl.DataFrame:
        codes = {f"code{i}": rng.choice(list("abcdefghijkl"), n) for i in range(3)}
        return pl.DataFrame(
            {"age": rng.integers(0, 99, n), "sex": rng.choice(["F", "M"], n), **codes}
        )

    (tmp_path / "s.yaml").write_text(SCHEMA + "".join(CODE % i for i in range(3)))
    frame(60).write_csv(tmp_path / "few.csv")
    given = {"schema": tmp_path / "s.yaml", "synthesizer": name, "settings": {"steps": 5}}
    out = tmp_path / "m"
    for door, more in (
        (mk.fit, {"out": out}),
        (mk.synthesize, {"out": out, "profile": "quick", "holdout": 0.5}),
    ):
        # at ε = .2 each of five columns has noise of 72 rows, and a code would need 12 x 72 rows:
        # 60 are there, and about as many noise would have to add as ten deviations of it; by secret
        # coins of one half, fewer than 11 are held out once in ten million runs
        with pytest.raises(PrivacyError, match="too small for the table"):
            door(tmp_path / "few.csv", epsilon=0.2, **given, **more)  # type: ignore[operator]
        assert not out.exists()
    frame(900).write_csv(tmp_path / "many.csv")
    assert mk.fit(tmp_path / "many.csv", epsilon=1, **given).ledger  # type: ignore[arg-type]
