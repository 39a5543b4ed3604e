"""Panel: what it must learn of made-up trials whose truth is known, and what it must never tell."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError, ManikinError
from manikin.privacy.budget import Budget
from manikin.synthesizer import State
from manikin.synthesizers.events._panel_latent import covariances, positive
from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._panel_moments import Moments, Pairs, last_known
from manikin.synthesizers.events.panel import Panel
from manikin.synthesizers.table.marginals import Marginals

DAY = np.timedelta64(86_400_000_000, "us")
START = np.datetime64("2020-01-01", "us")
STATIC = TableSchema((Column("arm", "categorical", categories=("active", "placebo")),))
PLAN = (0, 14, 28, 56, 84)


def recipe(**settings: Any) -> Panel:
    return Panel(table="table/marginals", recipe=Marginals(), **settings)


def build(
    whose: Any, days: Any, code: Any, value: Any, codes: tuple[Code, ...], n: int, **more: Any
) -> Events:
    rng = np.random.default_rng(3)
    static = Table(STATIC, np.arange(n), {"arm": rng.integers(0, 2, n).astype(np.int32)})
    time = START + (np.asarray(days) * 86_400e6).astype("timedelta64[us]")
    return Events.of(EventSchema(STATIC, codes, clock="day"), static, whose, time, code, value,
                     **more)  # fmt: skip


@functools.cache
def trial(n: int = 150) -> Events:
    """A trial of five planned visits: a level that stays, and one that the arm lowers."""
    rng = np.random.default_rng(1)
    arm = np.random.default_rng(3).integers(0, 2, n)  # as `build` draws it
    level, start = rng.normal(0, 1, n), rng.integers(0, 200, n)
    rows = []
    for i in range(n):
        for v, day in enumerate(PLAN):
            if v and rng.random() < 0.05:
                break
            when = start[i] + day + (rng.integers(-1, 2) if v else 0)
            rows.append((i, when, 0, np.round(70 + 10 * level[i] + rng.normal(0, 2), 1)))
            drop = -8 * (day / 84) * (arm[i] == 0)
            if v != 1:  # never measured at the second visit
                rows.append((i, when, 1, np.round(120 + drop + rng.normal(0, 5))))
    codes = (Code("weight", "measurement", numeric=True), Code("bp", "measurement", numeric=True))
    return build(*zip(*rows, strict=True), codes, n)


@functools.cache
def fitted() -> Any:
    return recipe().fit(trial(), seed=1)


@functools.cache
def drawn() -> Events:
    found: Events = fitted().sample(400, seed=2)
    return found


def grid(events: Events) -> tuple[Any, Any]:
    visits = visits_of(events)
    cells = np.full((visits.n, len(events.schema)), np.nan)
    cells[visits.of, events.code] = events.value
    return visits, cells


class TestWhatIsLearnt:
    def test_plan(self) -> None:
        visits = visits_of(drawn())
        since = (visits.start - visits.start[visits.starts[visits.whose]]) / DAY
        near = np.abs(since[:, None] - np.array(PLAN)).min(1)
        # real visits are a day off the plan at most; the first ones are never off
        assert (near <= 2).mean() > 0.97

    def test_measured_at_some_visits_only(self) -> None:
        visits, cells = grid(drawn())
        since = (visits.start - visits.start[visits.starts[visits.whose]]) / DAY
        second = np.abs(since - 14) <= 2
        assert np.isnan(cells[second, 1]).mean() > 0.9
        assert np.isnan(cells[~second, 1]).mean() < 0.05

    def test_levels_stay_a_subjects_own(self) -> None:
        visits, cells = grid(drawn())
        follows = np.flatnonzero(np.diff(visits.whose) == 0)
        # by construction the correlation is 100 / (100 + 4) = 0.96
        found = np.corrcoef(cells[follows, 0], cells[follows + 1, 0])[0, 1]
        assert 0.92 < found < 0.99

    def test_treatment_by_time(self) -> None:
        events = drawn()
        visits, cells = grid(events)
        since = (visits.start - visits.start[visits.starts[visits.whose]]) / DAY
        arm = events.column("arm")[visits.whose]
        late = (since > 70) & ~np.isnan(cells[:, 1])
        effect = cells[late & (arm == 0), 1].mean() - cells[late & (arm == 1), 1].mean()
        # -8 by construction, with a standard error of 5 * sqrt(2 / 60) = 0.9 in what was learnt
        assert -11 < effect < -5

    def test_numbers_are_written_as_they_were(self) -> None:
        _, cells = grid(drawn())
        for j, places in ((0, 1), (1, 0)):
            values = cells[~np.isnan(cells[:, j]), j]
            np.testing.assert_allclose(values, np.round(values, places), atol=1e-9)

    def test_hourly_grid_stays_one(self) -> None:
        rng = np.random.default_rng(5)
        n = 40
        whose = np.repeat(np.arange(n), 48)
        days = np.tile(np.arange(48) / 24, n)
        value = 80 + np.repeat(rng.normal(0, 5, n), 48) + rng.normal(0, 2, n * 48)
        codes = (Code("hr", "measurement", numeric=True),)
        events = build(whose, days, np.zeros(n * 48, int), np.round(value), codes, n)
        found = recipe().fit(events, seed=1).sample(30, seed=1)
        gaps = np.diff(found.time)[np.diff(found.whose) == 0]
        assert (gaps == np.timedelta64(3_600_000_000, "us")).all()
        assert (found.counts >= 40).mean() > 0.8

    def test_repeats_are_a_subjects_habit(self) -> None:
        rng = np.random.default_rng(6)
        n, v = 120, 10
        value = np.round(rng.normal(50, 9, (n, v)), 1)
        value[: n // 3] = value[: n // 3, :1]  # carried forward, for a third of all
        events = build(np.repeat(np.arange(n), v), np.tile(np.arange(v) * 7, n), np.zeros(n * v),
                       value.ravel(), (Code("x", "measurement", numeric=True),), n)  # fmt: skip
        found = recipe().fit(events, seed=1).sample(n, seed=3)
        same = np.diff(found.value) == 0
        own = np.diff(found.whose) == 0
        share = np.bincount(found.whose[1:][own], same[own]) / np.bincount(found.whose[1:][own])
        assert 0.2 < same[own].mean() < 0.45  # 1/3 by construction
        assert share.std() > 0.3  # 0.47 by construction; 0.15 were it the same for all


class TestParts:
    def test_marginal_keeps_shared_values_and_nobodys_extreme(self) -> None:
        whose = np.arange(100)
        values = np.where(whose < 60, 10.0, 20.0)
        values[99] = 987.0
        found = Marginal.fit(values, whose, 5, 0)
        back = found.values(np.linspace(-4, 4, 999))
        assert set(back) == {10.0, 20.0}  # one alone counts for the nearest that is shared
        # the scores of an atom of 60 % lie in its middle: 30 %
        assert found.scores(np.array([10.0]))[0] == pytest.approx(-0.5244, abs=1e-3)

    def test_marginal_of_continuous_values(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.lognormal(0, 1, 4000)
        found = Marginal.fit(values, np.arange(4000), 5, 6)
        back = found.values(rng.standard_normal(4000))
        assert np.quantile(back, 0.5) == pytest.approx(1.0, abs=0.1)
        assert np.quantile(back, 0.9) == pytest.approx(np.exp(1.2816), rel=0.1)
        assert back.max() < values.max()

    def test_last_known_is_of_the_same_subject(self) -> None:
        values = np.array([[1.0], [np.nan], [3.0], [4.0], [np.nan]])
        found = last_known(values, np.array([0, 0, 0, 1, 1]))[:, 0]
        np.testing.assert_equal(found, [np.nan, 1.0, 1.0, np.nan, 4.0])

    def test_semivariances_by_hand(self) -> None:
        # two subjects, visits at 0 and 1: differences 2 and 4 in the first channel, 1 and -1 in the
        # second: halves of mean squares 5 and 0.5, half of the mean product (2 - 4) / 2 / 2 = -0.5
        scores = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 1.0], [5.0, 0.0]])
        whose, time = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        pairs = Pairs.fit(whose, time)
        few = np.ones(2, bool)
        found = Moments.of(scores, scores, whose, time, pairs, few).products[1:]
        own = found[np.abs(found).sum((1, 2)) > 0][0]
        np.testing.assert_allclose(own, [[5.0, -0.5], [-0.5, 0.5]])

    def test_covariances_of_a_known_process(self) -> None:
        # level 0.5, one process of variance 0.3 and scale 10, noise 0.2
        apart = np.array([0.0, 2, 5, 10, 20, 40])
        scales = np.array([0.0, 1.4, 10.0, 48.0])
        half = 0.2 + 0.3 * (1 - np.exp(-apart / 10))
        half[0] = 1.0
        level, parts = covariances(half.reshape(-1, 1, 1), np.full((6, 1, 1), 1e4), apart, scales)
        assert level[0, 0] == pytest.approx(0.5, abs=0.03)
        assert parts[:, 0, 0].sum() == pytest.approx(0.5, abs=0.03)
        assert parts[2, 0, 0] == pytest.approx(0.3, abs=0.06)

    def test_positive_keeps_the_diagonal(self) -> None:
        wrong = np.array([[1.0, 2.0], [2.0, 1.0]])
        found = positive(wrong)
        assert np.linalg.eigvalsh(found).min() > -1e-12
        np.testing.assert_allclose(found.diagonal(), 1.0)


class TestOddPanels:
    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_few_subjects(self, n: int) -> None:
        events = trial().take(np.arange(n))
        found = recipe().fit(events, seed=1).sample(20, seed=1)
        assert found.n_subjects == 20
        assert n >= 5 or found.n_events == 0  # nothing is shared by five

    def test_constant_channel_and_levels_alone(self) -> None:
        n = 30
        codes = (Code("same", numeric=True), Code("stage"))
        whose = np.repeat(np.arange(n), 6)
        code = np.tile([0, 1] * 3, n)
        value = np.where(code == 0, 5.0, np.nan)
        text = np.where(code == 1, np.repeat(np.arange(n) % 3, 6), -1)
        events = build(whose, np.tile([0, 0, 30, 30, 60, 60], n), code, value, codes, n, text=text,
                       texts=("I", "II", "III"))  # fmt: skip
        found = recipe().fit(events, seed=1).sample(50, seed=1)
        assert set(found.value[found.code == 0]) == {5.0}
        assert {found.texts[t] for t in found.text[found.code == 1]} == {"I", "II", "III"}
        visits = visits_of(found)
        stage = np.full(visits.n, -1)
        stage[visits.of[found.code == 1]] = found.text[found.code == 1]
        follows = np.diff(visits.whose) == 0
        assert (np.diff(stage)[follows] == 0).mean() > 0.8  # nobody's stage ever changes

    def test_many_channels(self) -> None:
        rng = np.random.default_rng(0)
        n, channels = 20, 80
        codes = tuple(Code(f"c{j}", numeric=True) for j in range(channels))
        whose = np.repeat(np.arange(n), 3 * channels)
        code = np.tile(np.arange(channels), 3 * n)
        days = np.tile(np.repeat([0, 7, 14], channels), n)
        events = build(whose, days, code, rng.normal(size=code.size), codes, n)
        found = recipe(rounds=1).fit(events, seed=1).sample(10, seed=1)
        assert len(found.schema) == channels
        assert found.n_events > 10 * channels

    def test_stays_with_readings_are_taken_apart(self) -> None:
        n = 20  # everything is of visit 0, as in intensive care
        days = np.tile(np.arange(24) / 24, n)
        events = build(np.repeat(np.arange(n), 24), days, np.zeros(24 * n), np.ones(24 * n),
                       (Code("hr", numeric=True),), n, visit=np.zeros(24 * n, int))  # fmt: skip
        found = recipe().fit(events, seed=1).sample(10, seed=1)
        assert visits_of(replace(found, visit=np.full_like(found.visit, -1))).n > 100


class TestFuture:
    def test_a_prefix_says_what_comes(self) -> None:
        model = fitted()
        first = START + 200 * DAY
        early = trial().rows(trial().time < first)
        future = model.continue_from(early, days=60, futures=3, seed=4)
        own = np.bincount(early.whose[early.code == 0], early.value[early.code == 0],
                          early.n_subjects)  # fmt: skip
        counts = np.bincount(early.whose[early.code == 0], minlength=early.n_subjects)
        weight = future.code == 0
        of = future.whose[weight] // 3
        known = counts[of] > 0
        before = own[of[known]] / counts[of[known]]
        # the level is a subject's own: 0.96 by construction
        assert np.corrcoef(before, future.value[weight][known])[0, 1] > 0.85

    def test_a_budget_is_refused(self) -> None:
        with pytest.raises(ManikinError):
            recipe().fit(trial(), seed=1, budget=Budget(1.0, 1e-5))


class TestState:
    @pytest.mark.parametrize(
        ("key", "value"),
        [("latent.effects", np.nan), ("times.step", 2.0), ("values.pieces", np.inf),
         ("chances.within", -1.0), ("bend", 1e300)],
    )  # fmt: skip
    def test_arrays_out_of_range_are_refused(self, key: str, value: float) -> None:
        model = fitted()
        state = model.state()
        wrong = np.array(state.arrays[key])
        wrong.flat[0] = value
        arrays = {**state.arrays, key: wrong}
        with pytest.raises(InputError):
            recipe().restore(model.schema, State(arrays, state.values))

    @pytest.mark.parametrize(
        ("key", "value"),
        [("channels", [[0, "number", 0, 0, [], 0]]), ("channels", None), ("unit", "x"),
         ("terminal", [99]), ("limits", [10**9, 1.0]), ("unit_us", 7), ("notes", [1]),
         ("table", {}), ("facts", [["arm", "active", "x", 1.0]])],
    )  # fmt: skip
    def test_values_out_of_range_are_refused(self, key: str, value: Any) -> None:
        model = fitted()
        state = model.state()
        with pytest.raises(ManikinError):
            recipe().restore(model.schema, State(state.arrays, {**state.values, key: value}))
