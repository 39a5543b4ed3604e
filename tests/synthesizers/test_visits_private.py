"""Visits under a budget: how far a subject moves each sum, what is read, what it costs, and is."""

import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError, PrivacyError
from manikin.privacy.account import Account
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Gaussian, is_private
from manikin.synthesizer import State
from manikin.synthesizers.events._visits_private_grid import DAYS, Grid, knots_of, smoothed
from manikin.synthesizers.events.visits import Visits

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

DAY = np.timedelta64(1, "D")
CODES = (
    Code("VISIT/IP", "visit"),
    Code("VISIT/OP", "visit"),
    *(Code(f"DX/{group}{i}", "condition", parents=(f"DX/{group}",)) for group in "abc"
      for i in range(3)),
    Code("RX/a", "drug"),
    Code("LAB/x", "measurement", numeric=True, decimals=1, minimum=0.0, maximum=100.0),
    Code("SMOKES", "observation", levels=("no", "yes")),
    Code("DEATH", "death"),
    Code("DX/of nobody", "condition"),
)  # fmt: skip
STATIC = TableSchema(
    (Column("sex", "categorical", categories=("f", "m")),
     Column("born", "datetime", minimum=-1577836800.0, maximum=946684800.0)), declared=True,
)  # fmt: skip
SCHEMA = EventSchema(STATIC, CODES, declared=True, birth="born", sex="sex", clock="hour")
LAB, SMOKES, DEATH, NOBODY = 12, 13, 14, 15


@functools.cache
def cohort(n: int = 1200) -> Events:
    """Three kinds of visits, each with codes of its own that stand together; two stays in ten."""
    rng = generator(7, "visits under a budget")
    born = np.datetime64("1950-01-01", "us") + rng.integers(0, 9000, n) * DAY
    visits, usual = rng.integers(1, 9, n), rng.integers(0, 3, n)
    level, smokes = rng.normal(50, 12, n), rng.integers(0, 2, n)
    rows: list[tuple[Any, ...]] = []
    time = np.datetime64("2015-01-05T09", "us") + rng.integers(0, 300, n) * DAY
    nat = np.datetime64("NaT", "us")
    for t in range(8):
        who = np.flatnonzero(visits > t)
        kind = np.where(rng.random(who.size) < 0.8, usual[who], rng.integers(0, 3, who.size))
        stay = rng.random(who.size) < 0.2
        end = np.where(stay, time[who] + 3 * DAY, nat)
        put = functools.partial(_put, rows, t)
        put(who, time[who], np.where(stay, 0, 1), np.nan, -1, end)
        for i in range(3):
            some = rng.random(who.size) < (0.9, 0.6, 0.2)[i]
            put(who[some], time[who[some]], 2 + 3 * kind[some] + i, np.nan, -1, nat)
        drug = who[kind == 0]
        put(drug, time[drug], 11, np.nan, -1, time[drug] + 30 * DAY)
        value = np.round(np.clip(level[who] + 4 * rng.normal(size=who.size), 0, 100), 1)
        put(who, time[who] + np.where(stay, 1, 0) * DAY, LAB, value, -1, nat)
        put(who, time[who], SMOKES, np.nan, smokes[who], nat)
        time[who] += rng.choice([28, 91], who.size) * DAY
    dead = np.flatnonzero(rng.random(n) < 0.2)
    _put(rows, -1, dead, time[dead], DEATH, np.nan, -1, nat)
    undated = np.flatnonzero(rng.random(n) < 0.1)
    _put(rows, -1, undated, np.full(undated.size, nat), 2, np.nan, -1, nat)
    whose, when, code, value, text, end, visit = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    table = Table(STATIC, np.arange(n), {"sex": rng.integers(0, 2, n).astype(np.int32),
                                         "born": born})  # fmt: skip
    return Events.of(SCHEMA, table, whose, when, code, value, text, end, visit, ("no", "yes"))


def _put(rows: list[Any], t: int, who: Any, at: Any, code: Any, value: Any, text: Any,
         end: Any) -> None:  # fmt: skip
    size = who.size
    wide = [np.broadcast_to(np.asarray(one), size) for one in (code, value, text)]
    rows.append((who, at, *wide, np.broadcast_to(np.asarray(end, "datetime64[us]"), size),
                 np.full(size, t)))  # fmt: skip


def recipe(**more: Any) -> Any:
    return catalogue.build("events/visits", {"table": "table/mst", "recipe": "steps=200", **more})


@functools.cache
def fitted(epsilon: float) -> Any:
    return recipe().fit(cohort(), seed=1, budget=Budget(epsilon))


class _Enough(Exception):
    """Everything that the engine itself buys has been bought."""


class _NoTable:
    takes_budget = True

    def fit(self, *_: Any, **__: Any) -> Any:
        raise _Enough


def bought(
    events: Events, told: list[Any] | None, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> list[Any]:
    """Return the exact sums that a fit asks to be noised, and their claimed sensitivities.

    It is answered by `told`, so that what comes later hangs on the same public facts.
    """
    found: list[Any] = []

    def sums(self: Account, values: Any, *, sensitivity: float, rho: float, what: str) -> Any:
        found.append((what, np.array(values), sensitivity))
        return np.array(values) if told is None else told[len(found) - 1][1]

    with monkeypatch.context() as patched:
        patched.setattr(Account, "sums", sums)
        # who was there keeps his draws: a choice by chance is compared with the same chance
        patched.setattr("manikin.privacy.secret.permutation", np.arange)
        with pytest.raises(_Enough):
            Visits(recipe=_NoTable(), **more).fit(events, seed=1, budget=Budget(100.0))  # type: ignore[arg-type]
    return found


class TestPromise:
    @given(n=st.integers(2, 60), who=st.integers(0, 59), most=st.sampled_from([1, 3, 64]),
           events=st.sampled_from([1, 9, 512]))  # fmt: skip
    @settings(max_examples=8, deadline=None)
    def test_a_subject_moves_each_sum_by_its_sensitivity_at_most(
        self, n: int, who: int, most: int, events: int
    ) -> None:
        monkeypatch = pytest.MonkeyPatch()
        whole = cohort().take(np.arange(n))
        fewer = whole.take(np.delete(np.arange(n), who % n)).renumbered()
        every = bought(whole, None, monkeypatch, most_visits=most, most_events=events)
        without = bought(fewer, every, monkeypatch, most_visits=most, most_events=events)
        assert [one[0] for one in every] == [one[0] for one in without]
        assert len(every) >= 20
        for (what, value, far), (_, other, again) in zip(every, without, strict=True):
            assert far == again, what
            assert np.linalg.norm((value - other).astype(float)) <= far, what

    def test_long_histories_are_shortened_to_the_sensitivity(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # 300 visits of one subject, beside others of 1 to 8: its vectors are cut, not let through
        n = 40
        small = cohort().take(np.arange(n))
        when = np.datetime64("2016-01-01", "us") + np.arange(300) * DAY
        added = Events.of(
            SCHEMA, Table(STATIC, np.arange(1), {"sex": np.zeros(1, np.int32),
                                                 "born": np.array(["1960-01-01"], "M8[us]")}),
            np.zeros(300, int), when, 2 + np.arange(300) % 9,
        )  # fmt: skip
        whole = Events.concatenate([small, dataclasses.replace(
            added, static=dataclasses.replace(added.static, subjects=np.array([n])))])  # fmt: skip
        every = bought(whole.renumbered(), None, monkeypatch)
        without = bought(small.renumbered(), every, monkeypatch)
        moved = [np.linalg.norm((a[1] - b[1]).astype(float)) / a[2]
                 for a, b in zip(every, without, strict=True)]  # fmt: skip
        assert max(moved) <= 1.0 and max(moved) > 0.99

    @pytest.mark.parametrize("epsilon", [1.0, 100.0])
    def test_the_ledger_is_the_budget(self, epsilon: float) -> None:
        model, budget = fitted(epsilon), Budget(epsilon)
        assert is_private(model.ledger)
        found = spent(model.ledger, budget.delta)
        assert 0.97 * epsilon < found.epsilon <= epsilon * (1 + 1e-6)
        assert found.rdp <= epsilon * (1 + 1e-6)
        assert found.pld is None or found.pld <= epsilon * (1 + 1e-6)
        assert model.most_rows == 64 and abs(model.subjects - 1200) < 400

    def test_noise_is_secret(self) -> None:
        events = cohort().take(np.arange(200))
        one, two = (
            recipe(causes=0).fit(events, seed=1, budget=Budget(1.0)).state().arrays
            for _ in range(2)
        )
        assert one.keys() == two.keys()
        assert not all(one[key].shape == two[key].shape and (one[key] == two[key]).all()
                       for key in one)  # fmt: skip

    def test_data_are_read_only_when_paid_for(self, guarded: type[np.ndarray]) -> None:
        events = cohort().take(np.arange(150)).renumbered()
        with pytest.raises(AssertionError, match="nobody had paid"):  # the guard works
            _ = np.unique(events.code.view(guarded))
        tainted = dataclasses.replace(events)
        static = dataclasses.replace(events.static)
        for whole, names in ((tainted, ("whose", "time", "code", "value", "text", "end", "visit")),
                             (static, ("subjects",))):  # fmt: skip
            for name in names:  # not built anew: nobody has looked at them
                object.__setattr__(whole, name, getattr(whole, name).view(guarded))
        columns = {name: column.view(guarded) for name, column in static.columns.items()}
        object.__setattr__(static, "columns", columns)
        object.__setattr__(tainted, "static", static)
        recipe(causes=0).fit(tainted, seed=1, budget=Budget(3.0))

    def test_what_is_not_declared_is_asked_for(self) -> None:
        events, budget = cohort().take(np.arange(30)), Budget(1.0)
        guessed = dataclasses.replace(events, schema=dataclasses.replace(SCHEMA, declared=False))
        with pytest.raises(PrivacyError, match="inferred"):
            recipe().fit(guessed, seed=1, budget=budget)
        codes = tuple(dataclasses.replace(c, maximum=None) for c in CODES)
        open_ = dataclasses.replace(events, schema=dataclasses.replace(SCHEMA, codes=codes))
        with pytest.raises(PrivacyError, match="LAB/x"):
            recipe().fit(open_, seed=1, budget=budget)
        with pytest.raises(PrivacyError, match=r"table=table/mst|table/aim|honours"):
            catalogue.build("events/visits").fit(events, seed=1, budget=budget)

    def test_a_budget_that_is_spent_buys_nothing(self) -> None:
        events = cohort().take(np.arange(60))
        gone = Gaussian("all of it", float(1 / np.sqrt(2 * Account(Budget(1.0)).left)))
        with pytest.raises(PrivacyError, match="nothing left"):
            recipe().fit(events, seed=1, budget=Budget(1.0, spent=(gone,)))


def code_shares(events: Events) -> Any:
    """Share of visits with each code."""
    visits = visits_of(events)
    there = visits.of >= 0
    cells = np.unique(visits.of[there] * len(CODES) + events.code[there])
    return np.bincount(cells % len(CODES), minlength=len(CODES)) / visits.n


def pair_shares(events: Events) -> Any:
    visits = visits_of(events)
    there = visits.of >= 0
    hot = np.zeros((visits.n, len(CODES)))
    hot[visits.of[there], events.code[there]] = 1
    found = hot.T @ hot / visits.n
    return found[np.triu_indices(len(CODES), 1)]


def r2(real: Any, drawn: Any) -> float:
    return float(1 - ((real - drawn) ** 2).sum() / ((real - real.mean()) ** 2).sum())


class TestQuality:
    @pytest.mark.parametrize(("epsilon", "codes", "pairs"), [(1.0, 0.86, -9.0), (100.0, 0.97, 0.9)])
    def test_codes_and_pairs_beat_independent_codes(
        self, epsilon: float, codes: float, pairs: float
    ) -> None:
        drawn = fitted(epsilon).sample(1200, seed=2)
        real, made = code_shares(cohort()), code_shares(drawn)
        assert r2(real, made) > codes
        # pairs with what is at every visit tell nothing of which codes go together
        told = np.array([2 <= i < j <= 11 for i, j in zip(*np.triu_indices(len(CODES), 1),
                                                          strict=True)])  # fmt: skip
        alone = np.outer(real, real)[np.triu_indices(len(CODES), 1)][told]
        together = pair_shares(cohort())[told]
        if epsilon > 1:  # of 1,200 subjects noise hides at ε = 1 which codes go together
            assert r2(together, pair_shares(drawn)[told]) > max(pairs, r2(together, alone))
        assert made[NOBODY] < 0.02 if epsilon > 1 else made[NOBODY] < 0.1

    def test_with_much_to_spend_it_is_like_the_cohort(self) -> None:
        drawn = fitted(100.0).sample(1200, seed=3)
        real = cohort()
        assert abs(visits_of(drawn).n / visits_of(real).n - 1) < 0.03
        days = [np.diff(visits_of(e).start) / DAY for e in (real, drawn)]
        own = [d[(d > 0) & (d < 200)] for d in days]
        near = [np.mean((np.abs(d - 28) < 2) | (np.abs(d - 91) < 4)) for d in own]
        assert near[0] > 0.75 and near[1] > 0.9
        for name, code in (("mean", LAB),):
            values = [e.value[e.code == code] for e in (real, drawn)]
            assert abs(getattr(values[0], name)() - getattr(values[1], name)()) < 2
            assert abs(values[0].std() - values[1].std()) < 2
            # a subject's level lasts: products of deviations of neighbours, of variance 9 in 10
            assert _lasting(drawn, code) > 0.6 and _lasting(real, code) > 0.8
        assert abs((drawn.text[drawn.code == SMOKES] == 1).mean() - 0.5) < 0.1
        dead = [np.unique(e.whose[e.code == DEATH]).size / 1200 for e in (real, drawn)]
        assert abs(dead[0] - dead[1]) < 0.06

    def test_it_is_continued_restored_and_given_facts(self) -> None:
        model = fitted(100.0)
        state = model.state()
        values = json.loads(json.dumps(state.values))
        again = recipe().restore(model.schema, State(state.arrays, values))
        one, two = (m.sample(30, seed=5) for m in (model, again))
        assert np.array_equal(one.time, two.time, equal_nan=True) and np.array_equal(
            one.code, two.code
        )
        assert again.ledger == model.ledger and again.subjects == model.subjects
        few = cohort().take(np.arange(20)).renumbered()
        later = model.continue_from(few, days=365, seed=1)
        assert later.n_subjects == 20 and later.n_events > 0
        given_ = model.sample_given(few, seed=1)
        assert (given_.column("sex") == few.column("sex")).all()
        values["subjects"] = 0.5
        with pytest.raises(InputError):
            recipe().restore(model.schema, State(state.arrays, values))


def _lasting(events: Events, code: int) -> float:
    rows = np.flatnonzero(events.code == code)
    whose, value = events.whose[rows], events.value[rows]
    same = np.flatnonzero(np.diff(whose) == 0)
    return float(np.corrcoef(value[same], value[same + 1])[0, 1])


class TestEdges:
    @pytest.mark.parametrize("n", [1, 2])
    def test_of_nearly_nobody_it_learns_next_to_nothing(self, n: int) -> None:
        model = recipe(causes=0).fit(cohort().take(np.arange(n)), seed=1, budget=Budget(0.5))
        assert model.sample(10, seed=1).n_subjects == 10

    def test_subjects_without_events(self) -> None:
        events = cohort().take(np.arange(50))
        model = recipe(causes=0).fit(
            events.rows(np.zeros(events.n_events, bool)), seed=1, budget=Budget(2.0)
        )
        assert model.sample(10, seed=1).n_subjects == 10


def test_days_have_steps_of_their_own() -> None:
    # 0 by itself; 7 days on the step of 6.5 to 7.5
    assert DAYS.place(np.array([0.0]))[0] == 0 and DAYS.high[0] == 0
    at = DAYS.place(np.array([7.0]))[0]
    assert (DAYS.low[at], DAYS.high[at]) == (6.5, 7.5)


def test_quantiles_of_masses_by_hand() -> None:
    # a half between 0 and 1, a half between 3 and 4: the middle jumps over what is empty
    knots = knots_of(np.array([[0.5, 0.0, 0.0, 0.5]]), Grid.even(0.0, 4.0, 4))[0]
    assert knots[32] == pytest.approx(0.5) and knots[96] == pytest.approx(3.5)
    assert knots[0] == pytest.approx(0.0) and knots[-1] == pytest.approx(4.0)


def test_what_noise_made_is_not_taken_for_shares() -> None:
    count = np.array([1000.0, 3.0, -4.0, 2.0, 1.0, -2.0, 0.0, 4.0, -3.0, 2.0])
    found = smoothed(count, 5.0)
    assert found[0] > 0.95 and found[5:].sum() < 0.02 and found.sum() == pytest.approx(1.0)
