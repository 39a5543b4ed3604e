"""Traits of subjects and planned visits: known answers, and what a stranger's file may not say."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import State
from manikin.synthesizers.events._visits_agree import Seen, settled_traits
from manikin.synthesizers.events._visits_causes import causes_beside
from manikin.synthesizers.events._visits_moments import _evenly
from manikin.synthesizers.events._visits_plan import Plan, fit_plan
from manikin.synthesizers.events._visits_seen import levels_of, shares_of, trends_of
from manikin.synthesizers.events._visits_traits import NO_TRAITS, checked, draw_traits
from manikin.synthesizers.events.encoding import EventEncoding

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2020-01-01", "us")


def stays(n: int = 300) -> Events:
    """One stay of 48 hours each; of the ill, numbers are far apart and measured twice as often."""
    rng = np.random.default_rng(0)
    ill = np.arange(n) % 3 == 0
    level = rng.normal(size=n) * np.where(ill, 3.0, 0.5)
    rows = []
    for hour in range(48):
        rows.append((np.arange(n), np.full(n, hour), np.zeros(n), rng.normal(size=n) + 50.0))
        due = np.flatnonzero((hour % np.where(ill, 4, 8)) == 0)
        value = np.round(100 + 10 * level[due] + rng.normal(size=due.size), 1)
        rows.append((due, np.full(due.size, hour), np.ones(due.size), value))
    whose, hour, code, value = (np.concatenate(part) for part in zip(*rows, strict=True))
    static = TableSchema((
        Column("ill", "boolean", roles=("target",), categories=("no", "yes")),
    ))  # fmt: skip
    table = Table(static, np.arange(n), {"ill": ill.astype(np.int32)})
    codes = tuple(Code(f"LAB/{name}", "measurement", numeric=True) for name in "ab")
    return Events.of(EventSchema(static, codes), table, whose, START + hour * HOUR, code, value,
                     visit=np.zeros(whose.size))  # fmt: skip


def test_the_ill_are_measured_oftener_and_lie_further_apart() -> None:
    model = catalogue.build("events/visits").fit(stays(), seed=1)
    made = model.sample(600, seed=2)
    ill = made.static.columns["ill"] == 1
    mine = made.code == made.schema.named["LAB/b"][0]
    count = np.bincount(made.whose[mine], minlength=600)
    assert count[ill].mean() == pytest.approx(12, abs=1.5)
    assert count[~ill].mean() == pytest.approx(6, abs=1.0)
    mean = np.bincount(made.whose[mine], made.value[mine], 600) / np.maximum(count, 1)
    some = count > 0
    # 30 against 5: of one covariance for all, both would be about 18
    assert mean[some & ill].std() > 3 * mean[some & ~ill].std()


def encoded(codes: Any, hours: Any, values: Any, whose: Any = None) -> Any:
    n = len(codes)
    owner = np.zeros(n) if whose is None else np.asarray(whose)
    static = Table(TableSchema(()), np.arange(int(owner.max()) + 1), {})
    names = tuple(Code(f"LAB/{i}", "measurement", numeric=True) for i in range(2))
    events = Events.of(
        EventSchema(static.schema, names, declared=True), static, owner,
        START + np.asarray(hours) * HOUR, codes, values, visit=np.zeros(n),
    )  # fmt: skip
    return EventEncoding.fit(events).encode(events)


def test_levels_trends_and_rates_by_hand() -> None:
    # code 0 at hours 0, 8, 16, 24 with scores 0, 1, 2, 3; code 1 at hour 8 alone
    h = encoded([0, 0, 0, 0, 1], [0, 8, 16, 24, 8], [1.0, 2, 3, 4, 5])
    rows = np.arange(5)
    score = np.where(h.code == 0, h.offset * 3, 7.0)
    both = np.array([0, 1])
    np.testing.assert_allclose(levels_of(h, rows, score, both), [[1.5, 7.0]])
    # by 3 over the whole record, from -1/2 to 1/2; one number tells no trend
    np.testing.assert_allclose(trends_of(h, rows, score, both), [[3.0, np.nan]], atol=1e-9)
    found = shares_of(h, both)
    np.testing.assert_allclose(found.rate, [[np.log(4.3), np.log(1.3)]])  # a day, of one day


def test_even_spacing_takes_every_fourth() -> None:
    share = np.full(8, 0.25)
    zero = np.zeros(8, np.int64)
    got = _evenly(share, np.array([0]), np.array([8]), np.array([0.5]), zero, np.ones(8, bool))
    # 0.5 + 0.25 i passes a whole number at the second moment and four later
    assert np.flatnonzero(got).tolist() == [1, 5]
    untouched = _evenly(share, np.array([0]), np.array([8]), np.array([np.nan]), zero,
                        np.zeros(8, bool))  # fmt: skip
    assert not untouched.any()


def test_means_move_to_what_was_seen() -> None:
    traits = dataclasses.replace(
        NO_TRAITS, level=np.array([0]), load=np.zeros((1, 0)), mean=np.zeros((1, 1)),
        root=np.ones((1, 1, 1)),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    group = np.zeros(4000, np.int64)
    real = Seen(0.7 + 0.5 * rng.standard_normal((4000, 1)), group)

    def draw(t: Any, turn: int) -> Seen:
        noise = np.random.default_rng(turn).standard_normal((4000, 1))
        return Seen(t.mean[0] + noise @ t.root[0], group)

    found = settled_traits(traits, real, draw)
    assert found.mean[0, 0] == pytest.approx(0.7, abs=0.05)
    assert abs(found.root[0, 0, 0]) == pytest.approx(0.5, abs=0.15)


def planned(n: int = 60) -> Events:
    """Five planned visits a week apart, in order, each once; code 5 is at all of them."""
    whose = np.repeat(np.arange(n), 5)
    number = np.tile(np.arange(5), n)
    time = START + number * 168 * HOUR + whose * 24 * HOUR
    codes = (*(Code(f"VISIT/{i}", "visit") for i in range(5)), Code("LAB/a", "measurement"))
    static = Table(TableSchema(()), np.arange(n), {})
    return Events.of(
        EventSchema(static.schema, codes), static, np.tile(whose, 2), np.tile(time, 2),
        np.concatenate([number, np.full(whose.size, 5)]), visit=np.tile(number, 2),
    )  # fmt: skip


def test_planned_visits_come_once_and_in_order() -> None:
    model = catalogue.build("events/visits").fit(planned(), seed=0)
    made = model.sample(200, seed=1)
    rows = np.flatnonzero(made.code < 5)
    same = np.diff(made.whose[rows]) == 0
    step = np.diff(made.code[rows])[same]
    assert step.size > 500 and (step > 0).mean() > 0.97
    early = planned().rows(planned().visit < 3)
    after = model.continue_from(early, days=30, futures=1, seed=3)
    later = after.code[after.code < 5]
    assert later.size and (later >= 3).mean() > 0.97  # what was there is not there again


def test_a_plan_by_hand() -> None:
    h = EventEncoding.fit(planned()).encode(planned())
    kinds = np.array([-1, 0, 1, 2, 3, 4])
    follows, once = fit_plan(h, kinds)
    assert once.tolist() == [0, 1, 1, 1, 1, 1]
    # of 60 that had the first, 60 have the second next, which is a fifth of all visits: 5 times
    assert follows[1, 2] == pytest.approx(5.0, rel=0.02) and follows[2, 1] < 0.01
    process = SimpleNamespace(
        kinds=kinds, follows=follows, once=once, kind=np.full((1, 6), 1 / 6) * (kinds >= 0)
    )
    plan = Plan(process, 50)  # type: ignore[arg-type]
    who = np.arange(50)
    drawn = [plan.choose(who, np.zeros(50, np.int64), np.random.default_rng(i)) for i in range(3)]
    assert all((got == i).mean() > 0.9 for i, got in enumerate(drawn))


def test_stays_that_recur_are_no_plan() -> None:
    again = dataclasses.replace(planned(), code=np.where(planned().code < 5, 0, 5))
    h = EventEncoding.fit(again).encode(again)
    follows, once = fit_plan(h, np.array([-1, 0]))
    assert not once.size and not follows.size


def test_a_strangers_traits_are_refused() -> None:
    model = catalogue.build("events/visits").fit(stays(), seed=1)
    state = model.state()
    mean = state.arrays["traits/mean"]
    for key, found in (
        ("traits/mean", mean[:, :-1]),
        ("traits/root", np.full_like(state.arrays["traits/root"], np.nan)),
        ("traits/level", np.array([0, 0])),
        ("traits/level", np.array([0, 99])),
        ("process/once", np.ones(3)),
    ):
        with pytest.raises(InputError):
            catalogue.build("events/visits").restore(
                model.schema, State({**state.arrays, key: found}, state.values)
            )
    checked(NO_TRAITS)


def test_no_traits_draw_nothing() -> None:
    model = catalogue.build("events/visits").fit(stays(), seed=1)
    rng = np.random.default_rng(0)
    own = draw_traits(NO_TRAITS, model.parts.moments, np.zeros((3, 0)), np.zeros(3, int), rng)
    assert own.level.shape == own.often.shape == (3, 0) and np.isnan(own.pace).all()


def test_what_comes_together_in_one_patient_is_no_cause() -> None:
    # codes 0 and 1 meet at 12 visits of one patient, 2 and 3 at one visit of each of 12
    sets = np.zeros((60, 4))
    sets[:12, :2], sets[12:24, 2:] = 1, 1
    owners = np.concatenate([np.zeros(12, np.int64), np.arange(1, 49)])
    found = causes_beside(sp.csr_matrix(sets), np.zeros(60, np.int64), owners, 2, 5)
    assert found.tolist() == [[-1, -1], [-1, -1], [-1, -1], [2, -1]]
