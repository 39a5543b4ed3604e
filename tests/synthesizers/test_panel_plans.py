"""Visits of a plan: what they count on from, and who leaves, in trials whose truth is known."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError
from manikin.synthesizer import State
from manikin.synthesizers.events._panel_latent import Latent, spread_effects
from manikin.synthesizers.events._panel_times import Times
from manikin.synthesizers.events.panel import Panel
from manikin.synthesizers.table.marginals import Marginals

START = np.datetime64("2020-01-01", "us")
PLAN = np.array([0, 14, 28, 56, 84, 112])
PANEL = Panel(table="table/marginals", recipe=Marginals(), rounds=0)


def histories(rows: list[tuple[int, int]], n: int) -> Events:
    """One pulse at every visit; `rows` are of subject and day."""
    whose, days = np.array(rows).T
    static = Table(TableSchema(()), np.arange(n), {})
    schema = EventSchema(static.schema, (Code("pulse", "measurement", numeric=True),), clock="day")
    value = np.random.default_rng(5).normal(70, 5, whose.size).round()
    return Events.of(schema, static, whose, START + days.astype("timedelta64[D]"),
                     np.zeros(whose.size, np.int64), value)  # fmt: skip


def days_of(events: Events) -> list[Any]:
    visits = visits_of(events)
    day = visits.start.astype("datetime64[D]").astype(np.int64)
    return [day[a:b] - day[a] for a, b in zip(visits.starts[:-1], visits.starts[1:], strict=True)]


def test_how_late_a_subject_usually_is() -> None:
    n = 4
    times = Times(True, np.zeros(n), np.ones(n), np.eye(n), (), 0.0, np.zeros(n), 0, np.ones(n),
                  np.zeros((n, 1)))  # fmt: skip
    own, before, late = np.array([[0, 0, 9.0], [0, 9, 9], [3, -2, 8], [1, 1, 1]]).T
    assert_array_equal(times.usual(own, before, late), [0, 9, 3, 1])  # medians


def test_a_late_visit_does_not_move_those_after_it() -> None:
    rng, n = np.random.default_rng(1), 200
    rows = [(i, int(day + 7 * (v > 0 and rng.random() < 0.3)))
            for i in range(n) for v, day in enumerate(PLAN)]  # fmt: skip
    drawn = PANEL.fit(histories(rows, n), seed=1).sample(400, seed=2)
    late = np.array([own - PLAN for own in days_of(drawn) if own.size == 6])[:, 1:] > 3
    again = (late[:, 1:] & late[:, :-1]).sum() / late[:, :-1].sum()
    assert late.mean() == pytest.approx(0.3, abs=0.06)
    assert again < 0.5  # 0.3 in truth, and 1 where visits drift from the plan


def test_a_subject_who_is_always_late_stays_so() -> None:
    rng, n = np.random.default_rng(1), 200
    shift = np.repeat([0, 9], n // 2)
    rows = [(i, int(day + (shift[i] if v else 0) + (v > 1 and rng.random() < 0.1)))
            for i in range(n) for v, day in enumerate(PLAN)]  # fmt: skip
    drawn = PANEL.fit(histories(rows, n), seed=1).sample(400, seed=2)
    late = np.array([own - PLAN for own in days_of(drawn) if own.size == 6])[:, 1:] > 4
    same = (late[:, 1:] == late[:, :-1]).mean()
    assert same > 0.93


def test_who_jumps_in_the_plan_leaves() -> None:
    rng, n = np.random.default_rng(1), 200
    rows = []
    for i in range(n):
        days = PLAN[[0, 1, 4]] if rng.random() < 0.4 else PLAN
        rows += [(i, int(day + (rng.integers(-1, 2) if v else 0))) for v, day in enumerate(days)]
    drawn = days_of(PANEL.fit(histories(rows, n), seed=1).sample(400, seed=2))
    jumped = np.array([np.diff(own).max(initial=0) > 45 for own in drawn])
    over = np.array([own.size > 0 and own[-1] < 100 for own in drawn])
    assert jumped.mean() == pytest.approx(0.4, abs=0.08)
    assert over[jumped].mean() > 0.8  # all of them did
    assert over[~jumped].mean() < 0.25  # none of them did


def test_levels_lie_closer_where_facts_say_so() -> None:
    rng = np.random.default_rng(2)
    site = np.where(np.arange(400) < 200, -1.0, 1.0)
    facts = np.stack([site, rng.standard_normal(400)], 1)
    levels = (rng.standard_normal(400) * np.exp(site))[:, None]
    found = spread_effects(levels, np.full((400, 1), 5.0), facts)
    assert 0.5 < found[0, 0] < 1.1  # 1 in truth, less by what keeps logs near nought at bay
    assert found[0, 1] == 0.0  # chance is nought
    assert not spread_effects(levels, np.full((400, 1), 2.0), facts).any()  # too few values
    zeros = np.zeros((1, 1, 1))
    latent = Latent(np.zeros((1, 5)), np.zeros((1, 2)), np.eye(2), np.zeros(1), zeros, 1.0, found)
    apart = latent.spreads(facts)[:, 0]
    assert (apart**2).mean() == pytest.approx(1.0, rel=0.6)
    assert_array_equal(latent.spreads(facts[:1])[0], apart[:1])  # whoever else is drawn


def test_a_file_of_a_stranger_is_refused() -> None:
    events = histories([(i, int(day)) for i in range(40) for day in PLAN], 40)
    made = PANEL.fit(events, seed=1)
    state = made.state()
    assert state.arrays["times.bases"].shape == (6, 3)
    for name, wrong in (("times.bases", np.full((6, 3), 2.0)), ("times.bases", np.zeros((6, 3))),
                        ("times.bases", np.ones((6, 2))), ("chances.jumped", np.ones(7)),
                        ("latent.spread", np.ones((3, 3)))):  # fmt: skip
        with pytest.raises(InputError):
            PANEL.restore(made.schema, State({**state.arrays, name: wrong}, state.values))
