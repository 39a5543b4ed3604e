"""Who takes part in the bake-off, from figures made up for three families."""

import dataclasses

import pytest

from manikin.adviser import entrants
from manikin.adviser.framework import families
from manikin.adviser.measured import Figures

GOOD = Figures(9, 0.8, 0.7, 5, 0.01, 0.5, 9.0, 0.2, 0.98)
FIGURES = {
    "table/seqtree": GOOD,
    "table/copula": dataclasses.replace(GOOD, detection=0.3, best_on=0),
    "table/tvae": dataclasses.replace(GOOD, detection=0.5, best_on=0),
    "table/mixture": dataclasses.replace(GOOD, detection=0.7, best_on=4),
}
NAMES = ("table/tvae", "table/copula", "table/marginals", "table/mixture", "table/seqtree")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrants, "measured", FIGURES.get)


def test_the_floor_comes_first_then_cheap_then_realistic() -> None:
    tried, out = entrants.chosen(families(NAMES), "realism", 300, named=False)
    assert tried[0] == "table/marginals" and set(tried[1:]) == set(NAMES) - {tried[0], "table/tvae"}
    cost = {one.name: one.cost for one in families(NAMES)}
    assert [cost[name] for name in tried[1:]] == sorted(cost[name] for name in tried[1:])
    # the copula is as far behind, but costs nobody anything
    assert [one.name for one in out] == ["table/tvae"]
    assert "0.50" in out[0].failed and "0.80" in out[0].failed


@pytest.mark.parametrize(
    ("goal", "seconds", "named"),
    [("realism", 1200, False), ("realism", 300, True), ("privacy", 300, False)],
)
def test_who_is_behind_is_tried_all_the_same(goal: str, seconds: float, named: bool) -> None:
    tried, out = entrants.chosen(families(NAMES), goal, seconds, named=named)  # type: ignore[arg-type]
    assert set(tried) == set(NAMES) and out == ()


def test_best_on_one_table_is_reason_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    once = dataclasses.replace(FIGURES["table/tvae"], best_on=1)
    monkeypatch.setattr(entrants, "measured", (FIGURES | {"table/tvae": once}).get)
    assert "table/tvae" in entrants.chosen(families(NAMES), "realism", 300, named=False)[0]
