"""Judging what another tool made: how it may be written, and copies that it hides."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin.errors import SchemaError

COPIES = ("privacy/copies",)


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


def rows(n: int, seed: int) -> pl.DataFrame:
    """Four columns in which no two strangers are alike by chance."""
    rng = np.random.default_rng(seed)
    age = rng.normal(60, 12, n)
    return pl.DataFrame(
        {
            "age": np.round(age, 2),
            "weight": np.round(rng.normal(70, 9, n) + age / 5, 2),
            "crp": np.round(rng.gamma(2, 5, n), 2),
            "sex": np.where(rng.random(n) < 0.5, "female", "male"),
        }
    )


TRAIN, HELD, FRESH = rows(1200, 1), rows(900, 2), rows(1000, 3)


def gate(tmp_path: Path) -> Path:
    """Return the first gate of the shipped policy `public`, alone: the others take longer."""
    path = tmp_path / "copies.yaml"
    path.write_text(
        "gates:\n  - {name: Copies, metric: privacy/copies.*, end: lower, at_most: 0,"
        " power: 5 % copied, source: as in public}\n"
    )
    return path


def test_five_percent_of_copies_may_not_leave_and_fresh_rows_may(tmp_path: Path) -> None:
    leaky = pl.concat([FRESH[:950], TRAIN[:50]]).sample(fraction=1, shuffle=True, seed=4)
    said = {}
    for name, made in (("leaky", leaky), ("fresh", FRESH)):
        made.write_csv(tmp_path / f"{name}.csv")
        said[name] = mk.evaluate(
            train=TRAIN, holdout=HELD, synthetic=tmp_path / f"{name}.csv", metrics=COPIES,
            policy=gate(tmp_path), out=tmp_path / f"o-{name}",
        )  # fmt: skip
    assert said["leaky"].exit_code == 9 and said["leaky"].policy is not None
    assert "may not leave the house" in said["leaky"].policy.answer
    assert said["fresh"].exit_code == 0


def test_other_order_and_decimals_change_nothing_that_matters(tmp_path: Path) -> None:
    made = FRESH.select("sex", "crp", "weight", "age").with_columns(pl.col("age") + 0.001234)
    made.write_csv(tmp_path / "s.csv", separator=";")
    found = mk.evaluate(
        train=TRAIN, holdout=HELD, synthetic=tmp_path / "s.csv", metrics=("fidelity/shapes",),
        out=tmp_path / "o",
    )  # fmt: skip
    whole = next(s.value for s in found.scores if s.group == "all")
    assert whole > 0.95 and found.notes == ()


def test_levels_that_are_spelled_otherwise_are_told_without_naming_them(tmp_path: Path) -> None:
    made = FRESH.with_columns(pl.col("sex").str.to_uppercase())
    found = mk.evaluate(
        train=TRAIN, holdout=HELD, synthetic=made, metrics=("fidelity/shapes",), out=tmp_path / "o"
    )
    (note,) = found.notes
    assert "'sex' 100" in note and "FEMALE" not in note
    assert note.partition(".")[0] in (tmp_path / "o" / "report.json").read_text()


@pytest.mark.parametrize(
    ("made", "given", "todo"),
    [
        (FRESH.rename({"sex": "Sex "}), "lacks 'sex' and has besides 'Sex '", "'Sex ' to 'sex'"),
        (FRESH.with_columns(id=pl.lit(1)), "it has besides 'id'", "from the synthetic table"),
        (FRESH.drop("crp"), "it lacks 'crp'", "from the train table"),
    ],
)
def test_columns_that_differ_are_named_with_what_to_do(
    made: pl.DataFrame, given: str, todo: str, tmp_path: Path
) -> None:
    with pytest.raises(SchemaError) as caught:
        mk.evaluate(train=TRAIN, holdout=HELD, synthetic=made, out=tmp_path / "o")
    assert given in caught.value.given and todo in caught.value.todo
    assert not (tmp_path / "o").exists()
