"""What the baselines of the field share: a grid there and back, and what each must have learnt."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizers.events._grid import MOST_CELLS, Cells, Grid, day_of

pytest.importorskip("torch")

STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),))
CODES = (
    Code("Visit/OP", "visit"),
    Code("A/1", "condition"),
    Code("B/1", "condition"),
    Code("L/1", "measurement", numeric=True, decimals=1),
    Code("DEATH", "death"),
)
SCHEMA = EventSchema(STATIC, CODES, sex="sex", clock="day")


def histories(n: int = 400, seed: int = 0) -> Events:
    """A and B never come at one visit; women have A at 80 % of visits, men at 20 %."""
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, n).astype(np.int32)
    visits = rng.integers(1, 6, n)
    whose = np.repeat(np.arange(n), visits)
    number = np.concatenate([np.arange(v) for v in visits])
    time = np.datetime64("2020-01-01", "us") + (30 * number).astype("timedelta64[D]")
    has_a = rng.random(whose.size) < np.where(sex[whose] == 0, 0.8, 0.2)
    rows = [np.arange(whose.size), np.flatnonzero(has_a), np.flatnonzero(~has_a),
            np.arange(whose.size)]  # fmt: skip
    last = np.flatnonzero(number + 1 == visits[whose])
    dying = last[rng.random(last.size) < 0.5]
    rows.append(dying)
    at = np.concatenate(rows)
    code = np.repeat(np.arange(5), [row.size for row in rows])
    value = np.where(code == 3, np.round(rng.normal(50, 5, at.size), 1), np.nan)
    table = Table(STATIC, np.arange(n), {"sex": sex})
    return Events.of(SCHEMA, table, whose[at], time[at], code, value, visit=number[at])


def test_a_grid_gives_back_what_it_has_a_place_for() -> None:
    events = histories(60)
    grid, cells, start = Grid.fit(events, 2)
    again = grid.events(cells, start, events.static, np.random.default_rng(1))
    kept = cells.counts >= events.visit.max() + 1
    assert grid.visits == 5 and kept.any()
    assert np.array_equal(again.whose, events.whose)
    assert np.array_equal(again.time, events.time)
    assert np.array_equal(np.sort(again.code), np.sort(events.code))
    number = events.code == 3
    # values come back by k-anonymised quantiles: close, not equal
    assert np.nanmean(np.abs(again.value[again.code == 3] - events.value[number])) < 1.0


def test_nothing_comes_after_a_death_on_a_grid() -> None:
    grid, cells, start = Grid.fit(histories(60), 2)
    bits = cells.bits.copy()
    bits[:, 1, 4] = 1  # whoever has a second visit dies at it
    counts = np.full(60, grid.visits)
    drawn = grid.events(
        Cells(bits, cells.scores, counts), start, histories(60).static, np.random.default_rng(1)
    )
    died = drawn.code == 4
    assert np.unique(drawn.whose[died]).size == 60
    for who in range(60):
        own = drawn.whose == who
        assert drawn.time[own].max() == drawn.time[own & died].max()


def test_a_grid_that_no_memory_holds_is_refused() -> None:
    grid, _, _ = Grid.fit(histories(30), 2)
    with pytest.raises(InputError, match="a grid of"):
        grid.check(MOST_CELLS)


def test_days_beyond_the_calendar_are_brought_back() -> None:
    found = day_of(np.array([0.0, np.nan, 1e12]))
    assert str(found[0])[:10] == "1970-01-01" and np.isnat(found[1])
    assert str(found[2])[:4] == "9999"


def share_of_a(events: Events, sex: int) -> float:
    """Share of visits with A among those of a sex."""
    own = events.column("sex")[events.whose] == sex
    visits = np.count_nonzero(own & (events.code == 0))
    return float(np.count_nonzero(own & (events.code == 1)) / max(visits, 1))


@functools.cache
def drawn_by(name: str) -> Events:
    given = {"table": "table/marginals", "steps": 400, "width": 32}
    return catalogue.build(f"events/{name}", given).fit(histories(), seed=1).sample(400, seed=2)


@pytest.mark.parametrize("name", ["halo", "par", "timediff"])
def test_codes_follow_the_facts_of_a_subject(name: str) -> None:
    drawn = drawn_by(name)
    assert share_of_a(drawn, 0) > share_of_a(drawn, 1) + 0.3  # .8 and .2 in the data
    lengths = np.bincount(drawn.whose[drawn.code == 0], minlength=400)
    assert abs(lengths.mean() - 3) < 1


def test_codes_of_a_visit_hang_together_in_halo() -> None:
    drawn = drawn_by("halo")
    rows = [set(zip(drawn.whose[drawn.code == c], drawn.visit[drawn.code == c], strict=True))
            for c in (1, 2)]  # fmt: skip
    # never together in the data; independent codes would be at half of all visits
    assert len(rows[0] & rows[1]) < 0.2 * len(rows[0] | rows[1])


def test_a_bag_has_what_patients_ever_have_at_one_visit() -> None:
    real = histories()
    model = catalogue.build("events/bags", {"table": "table/seqtree"}).fit(real, seed=1)
    drawn = model.sample(400, seed=2)
    ever = [np.unique(e.whose[e.code == 1]).size / e.n_subjects for e in (real, drawn)]
    assert abs(ever[0] - ever[1]) < 0.1
    assert all(np.unique(drawn.time[drawn.whose == i]).size == 1 for i in range(20))
    assert any("no order" in note for note in model.notes)


def test_a_bag_of_too_many_codes_is_refused() -> None:
    with pytest.raises(InputError, match="codes"):
        catalogue.build("events/bags", {"most": 2}).fit(histories(50), seed=1)


def test_what_is_no_value_stays_none() -> None:
    events = histories(80)
    bare = replace(events, value=np.full(events.n_events, np.nan))
    model = catalogue.build("events/par", {"table": "table/marginals", "steps": 5}).fit(
        bare, seed=1
    )
    assert np.isnan(model.sample(20, seed=1).value).all()


def test_bits_say_which_scores_are_there() -> None:
    grid, cells, _ = Grid.fit(histories(60), 2)
    # scores: gap, length (of stays, code 0), value of code 3
    assert grid.bearing.tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    told = cells.bits @ grid.bearing.T
    assert not np.any(cells.scores[..., 1:][told[..., 1:] == 0])


def test_a_generator_draws_no_number_where_no_code_bears_one() -> None:
    import torch

    from manikin.synthesizers.events.rcgan import Maker

    grid, _, _ = Grid.fit(histories(60), 2)
    maker = Maker(grid, 2, 8, 4, torch.Generator().manual_seed(1))
    bits, scores, counts = maker.draw(torch.zeros(50, 2), torch.Generator().manual_seed(2))
    for score, code in ((1, 0), (2, 3)):
        there = bits[..., code] == 1
        assert there.any() and not scores[..., score][~there].any()
        assert scores[..., score][there].all()
    assert not scores[:, 0, 0].any()  # no gap before a first visit
    gap = scores[:, 1:, 0] != 0
    assert torch.equal(gap.sum(1) + 1, counts)
