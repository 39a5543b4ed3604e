"""Panels under a budget: what a subject can change, what is read, what is paid, what comes out."""

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
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import is_private
from manikin.synthesizer import State
from manikin.synthesizers.events import _bounded as bounded
from manikin.synthesizers.events import _panel_private_sheet as sheets
from manikin.synthesizers.events import _panel_private_times as timed
from manikin.synthesizers.events._panel_channels import Sheet
from manikin.synthesizers.events._panel_marginals import Marginal

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

STATIC = TableSchema(
    (
        Column("arm", "categorical", categories=("A", "B")),
        Column("age", "integer", minimum=18, maximum=100),
    ),
    declared=True,
)
CODES = (
    Code("sbp", "measurement", numeric=True, minimum=50, maximum=250),
    Code("weight", "measurement", numeric=True, minimum=30, maximum=200, decimals=1),
    Code("grade", "observation", levels=("none", "mild", "severe")),
    Code("death", "death"),
    Code("never", "condition"),
)
SCHEMA = EventSchema(STATIC, CODES, declared=True, clock="day")
PLAN = (0, 14, 28, 56, 84, 112)
DAY = np.timedelta64(1, "D")
NAMES = {"table": "table/mst", "recipe": "steps=200"}


def trial(n: int = 2000, seed: int = 1, *, planned: bool = True) -> Events:
    """Visits by a plan, or after gaps of 30 days; levels, a slow process and noise; 4 % leave."""
    rng = generator(seed, "trial under a budget")
    arm, age = rng.integers(0, 2, n).astype(np.int32), np.round(rng.normal(60, 10, n).clip(18, 100))
    level = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], n)
    start, slow, on = rng.integers(0, 700, n), np.zeros(n), np.ones(n, bool)
    rows, at = [], start.copy()
    for k, day in enumerate(PLAN):
        at = start + day + (rng.integers(-2, 3, n) if k else 0) if planned else (
            at + (rng.integers(10, 51, n) if k else 0))  # fmt: skip
        slow = 0.6 * slow + 0.8 * rng.standard_normal(n)
        values = (
            np.round(130 + 12 * level[:, 0] + 8 * slow - 2 * k * arm + 5 * rng.standard_normal(n)),
            np.round(80 + 14 * level[:, 1] + 2 * rng.standard_normal(n), 1),
            np.digitize(0.9 * level[:, 0] + 0.4 * slow, [0.5, 1.4]),
        )
        some = np.flatnonzero(on)
        for j, value in enumerate(values):
            own = some[rng.random(some.size) < 0.8] if j == 1 else some
            number = np.full(own.size, np.nan) if j == 2 else value[own]
            text = value[own] if j == 2 else np.full(own.size, -1)
            rows.append((own, at[own], np.full(own.size, j), number, text))
        dead = some[rng.random(some.size) < 0.02]
        rows.append((dead, at[dead] + 3, np.full(dead.size, 3), np.full(dead.size, np.nan),
                     np.full(dead.size, -1)))  # fmt: skip
        on[dead], on[rng.random(n) < 0.04] = False, False
    whose, day, code, value, text = (np.concatenate(part) for part in zip(*rows, strict=True))
    table = Table(STATIC, np.arange(n), {"arm": arm, "age": age})
    when = np.datetime64("2015-01-01", "us") + day.astype(int) * DAY
    texts = ("none", "mild", "severe")
    return Events.of(SCHEMA, table, whose, when, code, value, text, texts=texts)


@functools.cache
def fitted(epsilon: float, planned: bool = True, n: int = 2000) -> Any:
    recipe = catalogue.build("events/panel", NAMES)
    return recipe.fit(trial(n, planned=planned), seed=1, budget=Budget(epsilon))


def figures(events: Events) -> dict[str, Any]:
    """Means with their standard errors, over subjects."""
    visits = visits_of(events)
    found: dict[str, Any] = {}
    per = [visits.counts.astype(float)]
    for code in (0, 1):
        own = events.code == code
        many = np.bincount(events.whose[own], minlength=events.n_subjects)
        total = np.bincount(events.whose[own], events.value[own], minlength=events.n_subjects)
        per.append((total / np.maximum(many, 1))[many > 0])
    for name, values in zip(("visits", "sbp", "weight"), per, strict=True):
        found[name] = values.mean(), values.std() / values.size**0.5, values.std()
    own = np.flatnonzero(events.code == 0)
    follows = own[:-1][np.diff(events.whose[own]) == 0]
    after = own[1:][np.diff(events.whose[own]) == 0]
    found["lag"] = np.corrcoef(events.value[follows], events.value[after])[0, 1]
    found["deaths"] = np.unique(events.whose[events.code == 3]).size / events.n_subjects
    found["gap"] = np.nanmean(visits.gaps_days())
    return found


# ------------------------------------------------------------------ what a subject changes


class Recorded:
    """Collects vectors of subjects as they are summed, with the norm they are shortened to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: dict[str, tuple[np.ndarray, float]] = {}

        def sums(account: Any, values: Any, *, sensitivity: float, rho: float, what: str) -> Any:
            self.found[what] = np.asarray(values, float), sensitivity
            return values  # without noise: what is chosen by it stays the same for neighbours

        monkeypatch.setattr("manikin.privacy.account.Account.sums", sums)


def test_nobody_changes_a_sum_by_more_than_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole fit on 60 subjects and on all but an odd one: exact sums, as they are bought."""
    whole = trial(60, seed=5)
    odd = whole.whose == 7  # many visits on one day of extreme values
    value = np.where(odd & (whole.code < 2), CODES[0].maximum, whole.value)
    whole = dataclasses.replace(whole, value=value)
    seen = []
    for events in (whole, whole.take(np.delete(np.arange(60), 7))):
        recorded = Recorded(monkeypatch)
        # what earlier sums decide (grids, channels) is fixed, as it is when they are released
        monkeypatch.setattr(sheets, "lengths_bought", lambda *_: LENGTHS)
        monkeypatch.setattr(timed, "times_bought", lambda *_: (times(), 112.0))
        monkeypatch.setattr("manikin.synthesizers.events._panel_private_values.finer",
                            lambda cells, *_: cells)  # fmt: skip
        monkeypatch.setattr("manikin.synthesizers.events._panel_private_values.marginals_bought",
                            public_marginals)  # fmt: skip
        monkeypatch.setattr(
            "manikin.synthesizers.events._panel_private_values.means_bought", public_means
        )
        monkeypatch.setattr("manikin.synthesizers.events._panel_private._facts", public_facts)
        monkeypatch.setattr("manikin.synthesizers.events._panel_moments.Pairs.fit", public_pairs)
        catalogue.build("events/panel", NAMES).fit(events, seed=1, budget=Budget(1.0))
        seen.append(recorded.found)
    assert seen[0].keys() == seen[1].keys() and len(seen[0]) >= 6
    changed = 0
    for what, (one, far) in seen[0].items():
        two, _ = seen[1][what]
        assert one.shape == two.shape, what
        assert np.sqrt(((one - two) ** 2).sum()) <= far, what
        changed += bool((one != two).any())
    assert changed == len(seen[0])


LENGTHS = sheets.Lengths(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3]), 5.0, 6, 20.0, 120.0)


def times() -> Any:
    n = len(PLAN)
    flat = Marginal(np.zeros(1), np.zeros(1), np.ones(1), 0)
    return timed.Times(True, np.array(PLAN, float), np.eye(n)[0], np.eye(n), (flat,) * n, 0.0,
                       np.zeros(n), 0, np.ones(n), np.full((n, 4), 0.5))  # fmt: skip


def public_marginals(own: Any, channels: Any, schema: Any, lengths: Any, account: Any, rho: float
                     ) -> Any:  # fmt: skip
    from manikin.synthesizers.events import _panel_private_values as valued

    cells = [valued.public_cells(channel, schema, 120.0) for channel in channels]
    valued._counted(own, cells, account, rho, "values")
    return tuple(c.marginal(np.ones(c.n), h.decimals) for c, h in zip(cells, channels, strict=True))


def public_means(own: Any, facts: Any, marginals: Any, times: Any, drawn: Any, *_: Any) -> Any:
    return np.zeros((len(marginals), times.n + 2 * drawn.facts.shape[1]))


def public_pairs(*_: Any) -> Any:
    from manikin.synthesizers.events._panel_moments import Pairs

    return Pairs(np.array([20.0, 60.0]), np.array([0.0, 14.0, 40.0, 90.0]))


def public_facts(data: Any, recipe: Any, budget: Budget, *_: Any) -> Any:
    """A table of facts that was learnt from others: not what is tested here."""
    from manikin.privacy.account import Account

    column = Column("first visit", "datetime", date_format="%Y-%m-%d", minimum=1.4e9, maximum=1.5e9)
    schema = dataclasses.replace(STATIC, columns=(*STATIC.columns, column))
    n = 400
    rng = generator(3, "others")
    when = np.datetime64("2015-01-01", "us") + rng.integers(0, 700, n) * DAY
    others = Table(
        schema,
        np.arange(n),
        {
            "arm": rng.integers(0, 2, n).astype(np.int32),
            "age": np.full(n, 60.0),
            "first visit": when,
        },
    )
    model = catalogue.build("table/marginals").fit(others, seed=1)
    return model, bounded.Purse(budget, (), Account(budget))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), min_size=1, max_size=40),
       st.integers(1, 6))  # fmt: skip
def test_weights_of_a_subject_add_up_to_one_at_most(
    visits: list[tuple[int, int]], typical: int
) -> None:
    kept = sorted(set(visits))
    whose, day = (np.array([v[i] for v in kept], np.int64) for i in range(2))
    starts = np.searchsorted(whose, np.arange(7)).astype(np.int64)
    sheet = Sheet(whose, day, np.ones((whose.size, 1)), starts)
    own = sheets.Visited.of(sheet, bounded.thinned(whose, 4), float(typical))
    assert np.bincount(own.sheet.whose).max() <= 4
    assert np.bincount(own.sheet.whose, own.weight).max() <= 1 + 1e-12
    # what a visit is told of its record does not hang on which others count
    whole = sheets.Visited.of(sheet)
    place = {(w, t): i for i, (w, t) in enumerate(kept)}
    at = [place[w, t] for w, t in zip(own.sheet.whose.tolist(), own.sheet.time.tolist(),
                                      strict=True)]  # fmt: skip
    assert np.array_equal(own.gap, whole.gap[at], equal_nan=True)
    assert np.array_equal(own.since, whole.since[at])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(0.1, 20))
def test_the_nearest_shares(noisy: list[float], total: float) -> None:
    found = sheets.simplex(np.array(noisy), total)
    assert (found >= 0).all() and found.sum() == pytest.approx(total)
    over = (np.array(noisy) - found)[found > 0]  # the same is taken off wherever anything is left
    assert np.ptp(over) < 1e-9


def test_shares_by_hand() -> None:
    # 3 + 1 - 1: to add up to two, one is taken off the first two, and the third is nought
    assert sheets.simplex(np.array([3.0, 1.0, -1.0]), 2.0).tolist() == [2.0, 0.0, 0.0]


# ------------------------------------------------------------------ what is promised


class TestPromise:
    def test_both_accountants_find_the_budget(self) -> None:
        for epsilon in (1.0, 10.0):
            ledger = fitted(epsilon).ledger
            found = spent(ledger, 1e-6)
            assert is_private(ledger)
            assert 0.97 * epsilon < found.rdp <= epsilon * (1 + 1e-6)
            assert found.pld is None or found.pld <= epsilon * (1 + 1e-6)

    def test_what_is_not_declared_is_refused(self) -> None:
        recipe, events = catalogue.build("events/panel", NAMES), trial(60)
        guessed = dataclasses.replace(events, schema=dataclasses.replace(SCHEMA, declared=False))
        with pytest.raises(PrivacyError, match="inferred from the rows"):
            recipe.fit(guessed, seed=1, budget=Budget(1.0))
        codes = (dataclasses.replace(CODES[0], minimum=None), *CODES[1:])
        wide = dataclasses.replace(events, schema=dataclasses.replace(SCHEMA, codes=codes))
        with pytest.raises(PrivacyError, match="'sbp' without bounds"):
            recipe.fit(wide, seed=1, budget=Budget(1.0))
        with pytest.raises(PrivacyError, match="table=table/mst"):
            catalogue.build("events/panel").fit(events, seed=1, budget=Budget(1.0))
        many = tuple(Code(f"c{i}") for i in range(501))
        crowd = dataclasses.replace(events, schema=dataclasses.replace(
            SCHEMA, codes=(*CODES, *many)))  # fmt: skip
        with pytest.raises(InputError, match="506 declared codes"):
            recipe.fit(crowd, seed=1, budget=Budget(1.0))

    def test_a_spent_budget_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("manikin.synthesizers.events._panel_private.VALUES", 0.4)
        with pytest.raises(PrivacyError, match="is left of ε = 1"):
            catalogue.build("events/panel", NAMES).fit(trial(60), seed=1, budget=Budget(1.0))

    def test_noise_is_secret(self) -> None:
        recipe = catalogue.build("events/panel", NAMES)
        one, two = (recipe.fit(trial(100), seed=3, budget=Budget(1.0)) for _ in range(2))
        assert one.subjects != two.subjects or one.state().values != two.state().values

    def test_rows_are_read_only_when_paid_for(self, guarded: type[np.ndarray]) -> None:
        events = trial(200)
        for name in ("whose", "time", "code", "value", "text", "end", "visit"):
            object.__setattr__(events, name, getattr(events, name).view(guarded))
        for name, values in events.static.columns.items():
            events.static.columns[name] = values.view(guarded)  # type: ignore[index]
        with pytest.raises(AssertionError, match="nobody had paid"):  # the guard works
            _ = events.value + 1
        model = catalogue.build("events/panel", NAMES).fit(events, seed=1, budget=Budget(2.0))
        model.sample(20, seed=1)


# ------------------------------------------------------------------ what comes out


class TestQuality:
    @pytest.mark.parametrize("epsilon", [3.0, 1000.0])
    def test_a_plan_comes_back(self, epsilon: float) -> None:
        model = fitted(epsilon)
        assert model.process.times.planned
        for day in PLAN:
            assert np.abs(model.process.times.centre - day).min() <= 1

    def test_large_budgets_come_near_the_engine_without_one(self) -> None:
        real, drawn = figures(trial(seed=2)), figures(fitted(1000.0).sample(2000, seed=1))
        for name in ("visits", "sbp", "weight"):
            error = 5 * 2**0.5 * real[name][1]  # 5 standard errors of a difference
            slack = 0.05 * real[name][2]  # and a twentieth of a deviation: a model is a model
            assert abs(real[name][0] - drawn[name][0]) < error + slack, name
            assert drawn[name][2] == pytest.approx(real[name][2], rel=0.2), name
        assert drawn["lag"] == pytest.approx(real["lag"], abs=0.06)
        assert drawn["gap"] == pytest.approx(real["gap"], rel=0.1)
        assert drawn["deaths"] == pytest.approx(real["deaths"], abs=0.035)  # 4.5 errors, n = 2000

    @pytest.mark.parametrize(("epsilon", "by"), [(10.0, 0.15), (1.0, 0.5)])
    def test_smaller_ones_are_of_use(self, epsilon: float, by: float) -> None:
        real, drawn = figures(trial(seed=2)), figures(fitted(epsilon).sample(2000, seed=1))
        for name in ("visits", "sbp", "weight"):
            error = 5 * 2**0.5 * real[name][1]
            assert abs(real[name][0] - drawn[name][0]) < error + by * real[name][2], name
        assert abs(drawn["lag"] - real["lag"]) < 0.06 + by / 2

    def test_gaps_without_a_plan(self) -> None:
        model = fitted(10.0, planned=False)
        assert not model.process.times.planned
        real, drawn = figures(trial(seed=2, planned=False)), figures(model.sample(2000, seed=1))
        assert drawn["gap"] == pytest.approx(real["gap"], rel=0.15)
        assert drawn["visits"][0] == pytest.approx(real["visits"][0], abs=0.6)

    def test_a_treatment_works_over_time(self) -> None:
        drawn = fitted(1000.0).sample(2000, seed=1)
        own = drawn.code == 0
        arm = drawn.static.columns["arm"][drawn.whose]
        since = (drawn.time - drawn.time[drawn.starts[:-1]][drawn.whose]) / DAY
        late = own & (since > 70)
        # 2 a visit: 8 to 10 at the fifth and sixth; a deviation of 15 in 1,300 a group
        less = drawn.value[late & (arm == 0)].mean() - drawn.value[late & (arm == 1)].mean()
        assert 3 < less < 14

    def test_values_are_within_bounds_and_levels_declared(self) -> None:
        drawn = fitted(1.0).sample(500, seed=2)
        assert drawn.schema.codes == CODES
        for j in (0, 1):
            value = drawn.value[drawn.code == j]
            assert value.min() >= CODES[j].minimum and value.max() <= CODES[j].maximum
        assert {drawn.texts[t] for t in np.unique(drawn.text) if t >= 0} <= set(CODES[2].levels)
        last = drawn.starts[1:][drawn.counts > 0] - 1
        dead = np.flatnonzero(drawn.code == 3)
        assert np.isin(dead, last).all(), "something follows a death"


class TestModel:
    def test_it_says_what_the_road_asks(self) -> None:
        model = fitted(10.0)
        assert model.subjects == pytest.approx(2000, abs=200)
        assert model.most_rows == 64
        assert any("At most 64 visits" in note for note in model.notes)

    def test_it_is_restored_with_its_ledger(self) -> None:
        model = fitted(10.0)
        state = model.state()
        values = json.loads(json.dumps(dict(state.values), allow_nan=False))
        again = catalogue.build("events/panel", NAMES).restore(
            model.schema, State(state.arrays, values)
        )
        assert again.ledger == model.ledger and again.subjects == model.subjects
        one, two = model.sample(30, seed=4), again.sample(30, seed=4)
        assert np.array_equal(one.value, two.value, equal_nan=True)
        with pytest.raises(InputError):
            catalogue.build("events/panel", NAMES).restore(
                model.schema, State(state.arrays, values | {"subjects": -1.0})
            )

    def test_it_continues_and_conditions(self) -> None:
        model, held = fitted(10.0), trial(40, seed=3)
        after = model.continue_from(held, days=60, futures=2, seed=1)
        assert after.n_subjects == 80 and after.n_events > 0
        arms = held.static.rows(np.arange(40))
        assert np.array_equal(
            model.sample_given(arms, seed=1).static.columns["arm"], held.static.columns["arm"]
        )

    @pytest.mark.parametrize("n", [1, 3])
    def test_next_to_nobody(self, n: int) -> None:
        model = catalogue.build("events/panel", NAMES).fit(trial(n), seed=1, budget=Budget(1.0))
        assert model.sample(20, seed=1).n_subjects == 20

    def test_nobody_has_an_event(self) -> None:
        none = trial(50).rows(np.zeros(0, np.int64))
        model = catalogue.build("events/panel", NAMES).fit(none, seed=1, budget=Budget(5.0))
        assert model.sample(20, seed=1).n_subjects == 20
