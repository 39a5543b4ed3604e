"""Forecasts against a model whose futures are known in closed form, and against what came."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.forecasting import Treatment, calibrate, cut, forecast, treated

STATIC = TableSchema((Column("fast", "boolean", categories=("no", "yes")),))
CODES = (
    Code("Visit/OP", "visit"),
    Code("ICD10/I21.9", "condition", parents=("ICD10/I21",)),
    Code("ATC/A", "drug"),
    Code("ATC/B", "drug"),
    Code("Death", "death"),
)
SCHEMA = EventSchema(STATIC, CODES, clock="second")
DAY_US = 86_400_000_000


def people(n: int, fast: np.ndarray | None = None) -> Table:
    chosen = np.zeros(n, np.int32) if fast is None else fast.astype(np.int32)
    return Table(STATIC, np.arange(n), {"fast": chosen})


def day(number: float) -> np.datetime64:
    return np.datetime64("2020-01-01", "us") + np.timedelta64(int(number * DAY_US), "us")


def visits(n: int, fast: np.ndarray | None = None) -> Events:
    """One visit each, at day 0."""
    return Events.of(SCHEMA, people(n, fast), np.arange(n), [day(0)] * n, np.zeros(n))


@dataclasses.dataclass(frozen=True)
class Exponential:
    """After the last event one infarction, at a rate a day: by `fast`, or after the drug B."""

    slow: float
    quick: float
    schema: EventSchema = SCHEMA
    ledger: tuple[Any, ...] = ()

    def sample(self, n: int, *, seed: int) -> Events:
        return visits(n)

    def state(self) -> Any:
        raise NotImplementedError

    def continue_from(self, history: Events, *, days: float, futures: int = 1, seed: int) -> Events:
        last = np.full(history.n_subjects, "NaT", "datetime64[us]")
        last[history.whose] = history.time
        quick = history.static.columns["fast"] == 1
        quick[history.whose[history.code == 3]] = True
        rate = np.repeat(np.where(quick, self.quick, self.slow), futures)
        wait = generator(seed, "exponential").exponential(size=rate.size) / rate
        chosen = np.flatnonzero((wait <= days) & ~np.isnat(np.repeat(last, futures)))
        static = history.static.rows(np.repeat(np.arange(history.n_subjects), futures))
        static = dataclasses.replace(static, subjects=np.arange(rate.size))
        when = np.repeat(last, futures)[chosen] + (wait[chosen] * DAY_US).astype("timedelta64[us]")
        return Events.of(SCHEMA, static, chosen, when, np.ones(chosen.size))


def test_risk_is_that_of_an_exponential_law() -> None:
    # rate 0.02 a day, 30 days: 1 - exp(-0.6) = 0.4512; days without it (1 - exp(-0.6)) / 0.02 =
    # 22.56; 8000 futures: an error of sqrt(0.4512 * 0.5488 / 8000) = 0.00556
    found = forecast(Exponential(0.02, 0.1), visits(1), codes="ICD10/I21.9", days=30, futures=8000)
    assert abs(found.risk[0] - 0.4512) < 4 * 0.00556
    assert found.error[0] == pytest.approx(0.00556, rel=0.02)
    assert found.free_days[0] == pytest.approx(22.56, rel=0.03)
    # where it happens: 1 / 0.02 - 30 exp(-0.6) / (1 - exp(-0.6)) = 13.51 days
    assert found.mean_days[0] == pytest.approx(13.51, rel=0.05)
    assert not found.had[0] and found.kept[0] == 8000 and found.mark == ""


def test_a_name_stands_for_all_below_it() -> None:
    one = forecast(Exponential(0.02, 0.1), visits(3), codes="ICD10/I21", days=30)
    two = forecast(Exponential(0.02, 0.1), visits(3), codes=("ICD10/I21.9",), days=30)
    assert (one.risk == two.risk).all()


def test_blocks_do_not_change_what_is_foretold_on_average() -> None:
    found = forecast(Exponential(0.02, 0.1), visits(450), codes="ICD10/I21", days=30)
    assert abs(found.risk.mean() - 0.4512) < 4 * math.sqrt(0.2476 / 45_000)
    again = forecast(Exponential(0.02, 0.1), visits(450), codes="ICD10/I21", days=30)
    assert (found.risk == again.risk).all()


def test_a_cut_after_the_last_event_leaves_out_futures_with_something_before_it() -> None:
    # an exponential law forgets: 40 days without it change nothing of the risk; exp(-0.8) = 0.449
    # of the futures have nothing in the 40 days
    found = forecast(
        Exponential(0.02, 0.1), visits(1), codes="ICD10/I21", days=30, futures=9000,
        at=np.array([day(40)]),
    )  # fmt: skip
    assert abs(found.kept[0] / 9000 - 0.4493) < 0.022
    assert abs(found.risk[0] - 0.4512) < 4 * math.sqrt(0.2476 / 4043)


def test_of_too_few_futures_nothing_is_told() -> None:
    # 200 days at rate 0.1: exp(-20) of the futures are left
    late = np.array([day(200)])
    found = forecast(Exponential(0.1, 0.1), visits(1), codes="ICD10/I21", days=30, at=late)
    assert math.isnan(found.risk[0]) and found.rows()[0]["risk"] is None


def test_the_dead_and_the_timeless_have_no_forecast() -> None:
    events = Events.of(
        SCHEMA, people(3), [0, 0, 1], [day(0), day(1), np.datetime64("NaT", "us")], [0, 4, 0]
    )
    found = forecast(Exponential(0.02, 0.1), events, codes="ICD10/I21", days=30)
    assert np.isnan(found.risk).all() and (found.kept == 0).all()


def test_whoever_had_it_is_told_of() -> None:
    events = Events.of(SCHEMA, people(2), [0, 1], [day(0), day(0)], [1, 0])
    found = forecast(Exponential(0.02, 0.1), events, codes="ICD10/I21", days=30)
    assert found.had.tolist() == [True, False]


# ------------------------------------------------------------------ another treatment


def test_another_treatment_is_shown_to_the_model_and_marked() -> None:
    # the drug B brings the rate from 0.01 to 0.1 a day: 1 - exp(-0.2) = 0.18, 1 - exp(-2) = 0.86
    model, history = Exponential(0.01, 0.1), visits(4)
    plain = forecast(model, history, codes="ICD10/I21", days=20, futures=1000)
    other = forecast(
        model, history, codes="ICD10/I21", days=20, futures=1000, treatment=Treatment(("ATC/B",))
    )
    assert plain.risk.mean() == pytest.approx(0.181, abs=0.03)
    assert other.risk.mean() == pytest.approx(0.865, abs=0.03)
    assert "not evidence" in other.mark


def test_a_treatment_takes_the_place_of_another_at_the_last_time() -> None:
    events = Events.of(
        SCHEMA, people(2), [0, 0, 0, 1], [day(0), day(5), day(5), day(3)], [2, 2, 0, 0],
        visit=[0, 1, 1, 7],
    )  # fmt: skip
    found = treated(events, Treatment(("ATC/B",), ("ATC/A",)), SCHEMA)
    assert found.code.tolist() == [2, 0, 3, 0, 3]
    assert found.time.tolist() == [t.item() for t in (day(0), day(5), day(5), day(3), day(3))]
    assert found.visit.tolist() == [0, 1, 1, 7, 7]


def test_a_treatment_that_nobody_knows_or_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ConditionError):
        treated(visits(2), Treatment(("ATC/C",)), SCHEMA)
    with pytest.raises(InputError):
        treated(visits(2), Treatment(), SCHEMA)


# ------------------------------------------------------------------ cuts


def test_a_cut_parts_events_and_leaves_out_who_is_not_known_yet() -> None:
    nat = np.datetime64("NaT", "us")
    events = Events.of(
        SCHEMA, people(3), [0, 0, 0, 1, 2], [nat, day(0), day(10), day(30), nat], [2, 0, 1, 0, 2]
    )
    before, after, at = cut(events, day(10))
    assert before.subjects.tolist() == [0] and before.code.tolist() == [2, 0, 1]
    assert after.n_events == 0 and at.tolist() == [day(10).item()]
    before, after, at = cut(events, 5.0)  # days after each one's first event
    assert before.subjects.tolist() == [0, 1]
    assert after.whose.tolist() == [0] and after.code.tolist() == [1]
    assert at.tolist() == [day(5).item(), day(35).item()]


# ------------------------------------------------------------------ what came


def cohort(n: int, model: Exponential, seed: int) -> Events:
    fast = np.arange(n) % 2
    start = visits(n, fast)
    later = model.continue_from(start, days=500, seed=seed)
    return Events.of(
        SCHEMA, start.static, np.concatenate([start.whose, later.whose]),
        np.concatenate([start.time, later.time]), np.concatenate([start.code, later.code]),
    )  # fmt: skip


def test_forecasts_of_the_law_itself_are_calibrated() -> None:
    # risks 0.18 and 0.86, half of the subjects each: Brier (0.181 * 0.819 + 0.865 * 0.135) / 2 =
    # 0.1325; the AUC of two levels is 0.842: see the counts 0.523 positives
    model = Exponential(0.01, 0.1)
    found = calibrate(
        model, cohort(400, model, 5), codes="ICD10/I21", cut_at=0.0, days=20, futures=400
    )
    assert found.subjects == 400 and found.left_out == 0
    assert found.brier.interval[0] < 0.1325 < found.brier.interval[1]
    assert found.auroc.interval[0] < 0.842 + 0.02 and found.auroc.interval[1] > 0.842 - 0.02
    assert abs(found.foretold - found.came) < 0.08
    assert found.skill.value > 0.3
    assert sum(group.subjects for group in found.curve) == 400
    inside = [g.interval[0] <= g.foretold <= g.interval[1] for g in found.curve]
    assert sum(inside) >= 8
    assert [g.foretold for g in found.curve] == sorted(g.foretold for g in found.curve)


def test_wrong_forecasts_are_shown_to_be_wrong() -> None:
    right, wrong = Exponential(0.01, 0.1), Exponential(0.1, 0.01)
    found = calibrate(wrong, cohort(300, right, 5), codes="ICD10/I21", cut_at=0.0, days=20)
    assert found.auroc.interval[1] < 0.5
    assert found.skill.interval[1] < 0


def test_nothing_after_the_cut_is_seen_and_the_dead_are_left_out() -> None:
    n = 40
    dying = Events.of(
        SCHEMA, people(n), [*range(n), *range(5)], [day(0)] * n + [day(1)] * 5, [0] * n + [4] * 5
    )
    found = calibrate(Exponential(0.01, 0.1), dying, codes="ICD10/I21", cut_at=2.0, days=20)
    assert found.subjects == 35 and found.events == 0
    assert math.isnan(found.auroc.value) and math.isnan(found.skill.value)


def test_groups_are_never_small() -> None:
    model = Exponential(0.01, 0.1)
    found = calibrate(model, cohort(40, model, 5), codes="ICD10/I21", cut_at=0.0, days=20)
    assert [group.subjects for group in found.curve] == [14, 13, 13]
    with pytest.raises(InputError):
        calibrate(model, cohort(10, model, 5), codes="ICD10/I21", cut_at=0.0, days=20)


# ------------------------------------------------------------------ what is refused


@dataclasses.dataclass(frozen=True)
class Still:
    """A model that continues nothing."""

    schema: EventSchema = SCHEMA


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"codes": "ICD10/Z99"}, ConditionError),
        ({"days": 0.0}, InputError),
        ({"days": math.nan}, InputError),
        ({"futures": 5}, InputError),
        ({"model": Still()}, NotSupported),
        ({"at": np.array([day(-1), day(1)])}, InputError),
        ({"at": np.array([day(1)])}, InputError),
    ],
)
def test_what_cannot_be_foretold_is_refused(asked: dict[str, Any], error: type) -> None:
    settings: dict[str, Any] = {
        "model": Exponential(0.01, 0.1), "history": visits(2), "codes": "ICD10/I21", "days": 20.0
    } | asked  # fmt: skip
    with pytest.raises(error):
        forecast(**settings)


def test_a_code_that_the_model_hides_is_told_apart_from_one_that_nobody_knows() -> None:
    schema = dataclasses.replace(SCHEMA, codes=(*CODES, Code("ICD10/R99", "condition")))
    history = dataclasses.replace(visits(2), schema=schema)
    with pytest.raises(NotSupported, match="never draws"):
        forecast(Exponential(0.01, 0.1), history, codes="ICD10/R99", days=20)


def test_a_cut_before_anything_is_refused() -> None:
    with pytest.raises(InputError):
        cut(visits(2), -1.0)
