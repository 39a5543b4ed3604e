"""What `manikin list` shows of each family is what the benchmark's file of results holds."""

import json
from pathlib import Path
from statistics import mean, median

import pytest

from manikin import catalogue
from manikin.adviser.measured import measured
from manikin.cli import cards

STORE = Path(__file__).parents[2] / "benchmarks" / "families.json"
TABLES = [
    name
    for name in catalogue.names()
    if name.startswith("table/") and not catalogue.needs_budget(name)
]


def by_table(name: str, field: str) -> dict[str, float]:
    """Return the mean over seeds of a score or cost, by data set."""
    found: dict[str, list[float]] = {}
    for where, run in json.loads(STORE.read_text())[name].items():
        both = {**run["meta"], **run["scores"]}
        if field in both:
            found.setdefault(where.partition("/")[0], []).append(both[field])
    return {table: mean(values) for table, values in found.items()}


@pytest.mark.parametrize("name", TABLES)
def test_every_family_has_the_figures_that_were_measured(name: str) -> None:
    figures = measured(name)
    assert figures is not None
    scores = by_table(name, "detection")
    assert figures.tables == len(scores) >= 5
    assert figures.detection == pytest.approx(mean(scores.values()), abs=6e-4)
    assert figures.worst == pytest.approx(min(scores.values()), abs=6e-4)
    assert figures.gap == pytest.approx(mean(by_table(name, "gap").values()), abs=6e-4)
    seconds = median(by_table(name, "cpu_seconds").values())
    assert figures.seconds == pytest.approx(seconds, abs=0.06)
    best = {t: max(by_table(n, "detection").get(t, 0.0) for n in TABLES) for t in scores}
    assert figures.best_on == sum(scores[t] == best[t] for t in scores)


def test_the_floor_is_below_every_family_and_real_rows_above() -> None:
    for name in TABLES:
        figures = measured(name)
        assert figures is not None and figures.floor <= figures.detection < figures.ceiling


def test_the_card_says_so() -> None:
    figures = measured("table/seqtree")
    assert figures is not None
    card = cards.card("table/seqtree")
    assert card.facts["detection"] == f"{figures.detection:.2f}"
    assert f"{figures.worst:.2f} at worst" in card.facts["measured"]
    assert measured("table/none") is None
