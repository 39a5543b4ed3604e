"""Histories by classes of visits and causes of codes: known answers, properties, edges."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import ConditionError, InputError
from manikin.synthesizer import State
from manikin.synthesizers.events._quantiles import KNOTS, normal_scores, quantiles
from manikin.synthesizers.events._visits_classes import mixture
from manikin.synthesizers.events._visits_draw import draw_codes, first_times
from manikin.synthesizers.events._visits_process import urn
from manikin.synthesizers.events._visits_rates import Contexts, Rates
from manikin.synthesizers.events._visits_risk import PASTS, SINCE, cells_of, past, returns, since
from manikin.synthesizers.events.encoding import EventEncoding

DAY = np.timedelta64(1, "D")
CODES = (
    Code("VISIT/IP", "visit"),
    Code("DX/chronic", "condition"),
    Code("DX/acute", "condition"),
    Code("RX/for chronic", "drug"),
    Code("LAB/a", "measurement", numeric=True, decimals=1),
    Code("LAB/b", "measurement", numeric=True, decimals=1),
    Code("DEATH", "death"),
    Code("DX/of men", "condition"),
)


@functools.cache
def cohort(n: int = 400) -> Events:
    """A chronic code that comes back, one that hardly does, a drug with it, values that last."""
    rng = generator(3, "visits of the tests")
    female = rng.random(n) < 0.5
    visits = rng.integers(1, 9, n)
    level = rng.normal(size=n)
    has = np.zeros(n, bool)
    rows: list[tuple[np.ndarray, ...]] = []
    time = np.datetime64("2015-01-05", "us") + rng.integers(0, 300, n) * 7 * DAY
    none = np.datetime64("NaT", "us")

    def put(who: np.ndarray, at: np.ndarray, code: int, value: Any, end: Any, visit: int) -> None:
        size = who.size
        rows.append((who, at, np.full(size, code), np.broadcast_to(value, size),
                     np.broadcast_to(np.asarray(end, "datetime64[us]"), size),
                     np.full(size, visit)))  # fmt: skip

    for t in range(8):
        who = np.flatnonzero(visits > t)
        has[who] |= rng.random(who.size) < 0.15
        chronic = who[has[who] & (rng.random(who.size) < 0.9)]
        put(who, time[who], 0, np.nan, time[who] + 2 * DAY, t)
        put(chronic, time[chronic], 1, np.nan, none, t)
        put(chronic, time[chronic], 3, np.nan, time[chronic] + 30 * DAY, t)
        acute = who[rng.random(who.size) < 0.3]
        put(acute, time[acute], 2, np.nan, none, t)
        men = who[~female[who] & (rng.random(who.size) < 0.2)]
        put(men, time[men], 7, np.nan, none, t)
        for day in (0, 1):
            for code in (4, 5):
                value = np.round(50 + 10 * level[who] + 2 * rng.normal(size=who.size), 1)
                put(who, time[who] + day * DAY, code, value, none, t)
        time[who] += rng.choice([28, 56], who.size) * DAY
    dead = np.flatnonzero(rng.random(n) < 0.2)
    put(dead, time[dead], 6, np.nan, none, -1)
    static = TableSchema((Column("sex", "categorical", categories=("f", "m")),))
    table = Table(static, np.arange(n), {"sex": (~female).astype(np.int32)})
    schema = EventSchema(static, CODES, sex="sex", clock="day")
    whose, when, code, value, end, visit = (np.concatenate(c) for c in zip(*rows, strict=True))
    return Events.of(schema, table, whose, when, code, value, None, end, visit)


@functools.cache
def model() -> Any:
    return catalogue.build("events/visits").fit(cohort(), seed=1)


@functools.cache
def drawn() -> Events:
    found: Events = model().sample(800, seed=2)
    return found


def place(events: Events, name: str) -> int:
    return events.schema.named[name][0]


def share(events: Events, name: str) -> float:
    """Share of visits with a code."""
    visits = visits_of(events)
    at = visits.of[events.code == place(events, name)]
    return float(np.unique(at[at >= 0]).size / visits.n)


class TestWhatComesOut:
    def test_codes_are_as_common(self) -> None:
        for name in ("DX/chronic", "DX/acute", "RX/for chronic", "DX/of men"):
            assert share(drawn(), name) == pytest.approx(share(cohort(), name), abs=0.05)

    def test_what_is_chronic_comes_back_and_what_is_not_does_not(self) -> None:
        def again(events: Events, name: str) -> float:
            encoding = EventEncoding.fit(events)
            h = encoding.encode(events)
            found = returns(h, cells_of(h), (0, h.n_subjects))
            return float(found.again[found.code == place_in(encoding, name)].mean())

        def place_in(encoding: EventEncoding, name: str) -> int:
            return encoding.schema.named[name][0]

        for name in ("DX/chronic", "DX/acute"):
            assert again(drawn(), name) == pytest.approx(again(cohort(), name), abs=0.08)
        assert again(drawn(), "DX/chronic") > 2 * again(drawn(), "DX/acute")

    def test_a_drug_comes_with_its_diagnosis(self) -> None:
        def alone(events: Events) -> float:
            visits = visits_of(events)
            drug, cause = (
                set(visits.of[events.code == place(events, name)].tolist())
                for name in ("RX/for chronic", "DX/chronic")
            )
            return len(drug - cause) / len(drug)

        assert alone(cohort()) == 0
        assert alone(drawn()) < 0.1

    def test_what_men_have_women_do_not(self) -> None:
        events = drawn()
        who = np.unique(events.whose[events.code == place(events, "DX/of men")])
        assert (events.column("sex")[who] == 1).mean() > 0.95

    def test_numbers_are_alike_within_a_person(self) -> None:
        def persistence(events: Events) -> float:
            rows = np.flatnonzero(events.code == place(events, "LAB/a"))
            same = np.diff(events.whose[rows]) == 0
            value = events.value[rows]
            return float(np.corrcoef(value[:-1][same], value[1:][same])[0, 1])

        def both(events: Events) -> float:
            means = []
            for name in ("LAB/a", "LAB/b"):
                rows = events.code == place(events, name)
                size = np.bincount(events.whose[rows], minlength=events.n_subjects)
                total = np.bincount(
                    events.whose[rows], events.value[rows], minlength=events.n_subjects
                )
                means.append(np.where(size > 0, total / np.maximum(size, 1), np.nan))
            known = ~np.isnan(means[0] + means[1])
            return float(np.corrcoef(means[0][known], means[1][known])[0, 1])

        assert persistence(drawn()) == pytest.approx(persistence(cohort()), abs=0.08)
        assert both(drawn()) == pytest.approx(both(cohort()), abs=0.12)
        rows = drawn().value[~np.isnan(drawn().value)]
        real = cohort().value[~np.isnan(cohort().value)]
        assert rows.mean() == pytest.approx(real.mean(), abs=2)
        assert rows.std() == pytest.approx(real.std(), rel=0.12)
        assert real.min() < rows.min() and rows.max() < real.max()
        assert np.array_equal(np.round(rows, 1), rows)

    def test_visits_are_as_many_gaps_heap_and_stays_last(self) -> None:
        encoding = EventEncoding.fit(cohort())
        real, made = encoding.encode(cohort()), encoding.encode(drawn())
        counts = [np.diff(h.starts).mean() for h in (real, made)]
        assert counts[1] == pytest.approx(counts[0], rel=0.1)
        gaps = made.gaps[~np.isnan(made.gaps)]
        assert np.isin(gaps, [28, 56]).mean() > 0.9
        assert (gaps == 28).mean() == pytest.approx(0.5, abs=0.1)
        assert (made.length == 2).mean() > 0.95
        assert made.ended.mean() > 0.95
        lasts = made.duration[~np.isnan(made.duration)]
        assert (lasts == 30).all() and lasts.size

    def test_moments_of_a_stay(self) -> None:
        encoding = EventEncoding.fit(cohort())
        made = encoding.encode(drawn())
        lab = np.isin(made.code, [encoding.schema.named[n][0] for n in ("LAB/a", "LAB/b")])
        assert np.isin(made.offset[lab], [0, 1, 2]).all()
        assert (made.offset[lab] == 1).mean() == pytest.approx(0.5, abs=0.15)
        per_visit = lab.sum() / made.n
        assert per_visit == pytest.approx(4, abs=0.8)

    def test_as_many_die_and_that_is_the_end(self) -> None:
        events = drawn()
        dead = events.whose[events.code == place(events, "DEATH")]
        assert np.unique(dead).size == dead.size
        real = (cohort().code == 6).sum() / cohort().n_subjects
        assert dead.size / events.n_subjects == pytest.approx(real, abs=0.06)


class TestConditions:
    def test_of_one_sex(self) -> None:
        events = model().sample_where(50, (Condition("sex", "=", ("m",)),), seed=1)
        assert (events.column("sex") == 1).all() and events.n_subjects == 50

    def test_of_a_length(self) -> None:
        events = model().sample_where(60, (Condition("visits", ">=", (6,)),), seed=1)
        assert visits_of(events).counts.min() >= 5  # a visit may lose all that was at it
        assert visits_of(events).counts.mean() > 6

    def test_who_has_a_code(self) -> None:
        events = model().sample_having(40, ("DX/chronic", "DX/acute"), seed=1)
        assert events.subjects.tolist() == list(range(40))
        for name in ("DX/chronic", "DX/acute"):
            assert np.unique(events.whose[events.code == place(events, name)]).size == 40
        with pytest.raises(ConditionError):
            model().sample_having(1, ("DX/unheard",), seed=1)

    def test_what_was_chronic_goes_on(self) -> None:
        history = cohort()
        had = np.unique(history.whose[history.code == 1])
        new = model().continue_from(history, days=200, futures=2, seed=3)
        chronic = np.unique(new.whose[new.code == place(new, "DX/chronic")]) // 2
        seen = np.unique(new.whose) // 2
        rate = [np.isin(chronic, group).sum() / max(np.isin(seen, group).sum(), 1)
                for group in (had, np.setdiff1d(np.arange(history.n_subjects), had))]  # fmt: skip
        assert rate[0] > 0.7 and rate[1] < 0.55

    def test_numbers_go_on_at_the_persons_level(self) -> None:
        history = cohort()
        new = model().continue_from(history, days=120, seed=3)

        def means(events: Events) -> np.ndarray:
            rows = events.code == place(events, "LAB/a")
            size = np.bincount(events.whose[rows], minlength=400)
            total = np.bincount(events.whose[rows], events.value[rows], minlength=400)
            return np.where(size > 0, total / np.maximum(size, 1), np.nan)

        before, after = means(history), means(new)
        known = ~np.isnan(before + after)
        assert np.corrcoef(before[known], after[known])[0, 1] > 0.8


class TestParts:
    def test_kinds_of_past_by_hand(self) -> None:
        # last visit and once · three visits ago, 2 of 8 · long ago, 5 of 6
        lag, times, span = np.array([1, 3, 5]), np.array([1, 2, 5]), np.array([1, 8, 6])
        assert past(lag, times, span).tolist() == [0, 5, 11]
        assert since(np.array([0.0, 30.0, 1000.0, np.nan])).tolist() == [0, 2, 6, 6]
        assert urn(np.array([1, 2, 3, 4, 5, 100])).tolist() == [0, 1, 2, 2, 3, 6]

    def test_what_could_come_back_by_hand(self) -> None:
        # one subject, codes at four visits: a a - a, and b at the third: 3 chances of a, 1 of b
        codes = (Code("a"), Code("b"))
        static = Table(TableSchema(()), np.arange(1), {})
        time = np.datetime64("2020-01-01", "us") + np.array([0, 10, 20, 30]) * DAY
        events = Events.of(EventSchema(static.schema, codes, declared=True), static,
                           [0, 0, 0, 0], time, [0, 0, 1, 0])  # fmt: skip
        h = EventEncoding.fit(events).encode(events)
        found = returns(h, cells_of(h), (0, 1))
        assert found.code.tolist() == [0, 0, 0, 1]
        assert found.visit.tolist() == [1, 2, 3, 3]
        assert found.again.tolist() == [True, False, True, False]
        assert found.past.tolist() == [0, 3, 6, 0]  # the third: two ago, 2 of 3
        assert found.since.tolist() == [1, 1, 2, 1]

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 400), st.integers(1, 6), st.integers(0, 10**6))
    def test_quantiles_rise_and_stay_inside(self, n: int, groups: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        values, group = rng.normal(size=n), rng.integers(0, groups, n)
        found = quantiles(values, group, groups, np.arange(n), 5)
        assert (np.diff(found.knots, axis=1) >= -1e-12).all()
        if n > 10:  # the ends are means of several
            assert found.knots.min() > values.min() and found.knots.max() < values.max()
        assert found.knots.shape == (groups, KNOTS)

    def test_a_heap_comes_back_exactly(self) -> None:
        values = np.repeat([7.0, 30.0], 50)
        found = quantiles(values, np.zeros(100, np.int64), 1, np.arange(100), 5)
        shares = np.linspace(0, 1, 101)
        back = found.at(np.zeros(101, np.int64), shares)
        assert np.isin(back, [7, 30]).mean() > 0.98

    def test_normal_scores_by_hand(self) -> None:
        # middle ranks 1/4, 3/4 of two; one alone is in the middle
        found = normal_scores(np.array([1.0, 2.0, 9.0]), np.array([0, 0, 1]))
        np.testing.assert_allclose(found, [-0.67449, 0.67449, 0], atol=1e-5)

    def test_classes_part_what_never_meets(self) -> None:
        sets = sp.csr_matrix(np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], 40, axis=0).astype(float))
        _, label = mixture(sets, np.arange(80), 2, 5, np.random.default_rng(0))
        assert len(set(label[:40])) == len(set(label[40:])) == 1 and label[0] != label[-1]
        _, alone = mixture(sets, np.zeros(80, np.int64), 2, 5, np.random.default_rng(0))
        assert (alone == 0).all()  # of one owner there is no class

    def test_first_times_are_as_often_as_their_rates(self) -> None:
        rates = plain_rates(np.log([0.1, 0.5]))
        n = 40_000
        contexts = Contexts.build(*(np.zeros(n, np.int64) for _ in range(4)))
        visit, code = first_times(rates, contexts, np.random.default_rng(1))
        share = np.bincount(code, minlength=2) / n
        # 1 - exp(-0.1) = 0.0952, 1 - exp(-0.5) = 0.3935
        np.testing.assert_allclose(share, [0.0952, 0.3935], atol=0.008)
        assert (np.diff(visit) >= 0).all()

    def test_a_return_is_as_often_as_its_rate_and_a_cause_brings(self) -> None:
        # every first visit has code 0 and no other by itself; it comes back by 1 - exp(-1) = 0.632
        rates = plain_rates(np.array([-60.0, -60.0]))
        rates = dataclasses.replace(
            rates, by_age=np.array([[90.0, 0.0], [0.0, 0.0]]), again=np.full((2, PASTS), 1.0),
            beside=np.array([[-1], [0]]), beside_first=np.array([[0.0], [12.0]]),
        )  # fmt: skip
        n = 4000
        age = np.tile([0, 1], n)
        zero = np.zeros(2 * n, np.int64)
        contexts = Contexts.build(zero, zero, age, zero)
        day = np.tile([0.0, 5.0], n)
        visit, code = draw_codes(
            rates, contexts, np.arange(0, 2 * n + 1, 2), day, np.zeros(2 * n, bool),
            np.random.default_rng(2),
        )  # fmt: skip
        first, later = code[visit % 2 == 0], code[visit % 2 == 1]
        assert np.bincount(first).tolist() == [n, n]  # the cause brings the other, always
        assert np.mean(later == 0) * later.size / n == pytest.approx(0.632, abs=0.03)


def plain_rates(base: np.ndarray) -> Rates:
    n = base.size
    zero, one = np.zeros((1, n)), np.ones((1, n))
    two = np.zeros((2, n))
    edges = np.full((n, 1), -1)
    return Rates(base, zero, zero, two, zero, np.full((n, PASTS), 0.5), one, np.ones((n, SINCE)),
                 edges, np.zeros((n, 1)), np.zeros((n, 1)), edges, np.zeros((n, 1)))  # fmt: skip


class TestEdges:
    def test_ten_thousand_codes(self) -> None:
        rng = np.random.default_rng(0)
        n = 200
        static = Table(TableSchema(()), np.arange(n), {})
        codes = tuple(Code(f"C/{i}") for i in range(10_000))
        whose = np.repeat(np.arange(n), 60)
        time = np.datetime64("2020-01-01", "us") + np.tile(np.repeat(np.arange(3), 20), n) * DAY
        code = rng.integers(0, 10_000, whose.size)
        declared = EventSchema(static.schema, codes, declared=True)
        events = Events.of(declared, static, whose, time, code)
        found = catalogue.build("events/visits", {"table": "table/marginals"}).fit(events, seed=0)
        made = found.sample(50, seed=1)
        assert len(made.schema) == 10_000 and made.n_events > 1000

    def test_only_deaths(self) -> None:
        static = Table(TableSchema(()), np.arange(40), {})
        time = np.datetime64("2020-01-01", "us") + np.arange(40) * DAY
        events = Events.of(EventSchema(static.schema, (Code("D", "death"),)), static,
                           np.arange(40), time, np.zeros(40))  # fmt: skip
        made = catalogue.build("events/visits").fit(events, seed=0).sample(30, seed=1)
        assert made.n_events == 30 and not np.isnat(made.time).any()

    def test_one_visit_each(self) -> None:
        events = cohort().rows(cohort().visit == 0)
        made = catalogue.build("events/visits").fit(events, seed=0).sample(100, seed=1)
        assert (visits_of(made).counts <= 1).all() and made.n_events

    def test_what_few_have_is_told_of(self) -> None:
        odd = dataclasses.replace(
            cohort(), code=np.where(np.arange(cohort().n_events) == 100, 2, cohort().code)
        )
        rare = odd.rows(~np.isin(odd.code, [2]) | (odd.whose < 3))
        found = catalogue.build("events/visits").fit(rare, seed=0)
        assert "DX/acute" not in found.schema.named
        assert any("left out" in note for note in found.notes)

    def test_a_strangers_circle_of_causes_ends(self) -> None:
        state = model().state()
        beside = state.arrays["rates/beside"].copy()
        beside[:2, 0] = [1, 0]
        arrays = {**state.arrays, "rates/beside": beside}
        again = catalogue.build("events/visits").restore(
            model().schema, State(arrays, state.values)
        )
        assert again.sample(5, seed=1).n_subjects == 5  # a code that is there is not brought again

    def test_sizes_of_a_stranger_are_refused(self) -> None:
        state = model().state()
        for key, size in (("codes", 3), ("classes", 10**9), ("factors", -1), ("edges", 10**6)):
            values = {**state.values, "sizes": {**state.values["sizes"], key: size}}
            with pytest.raises(InputError):
                catalogue.build("events/visits").restore(
                    model().schema, State(state.arrays, values)
                )
