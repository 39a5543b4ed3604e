"""The recurrent judge: what it reads, what it finds that summaries cannot, and what it needs."""

import math

import numpy as np
import pytest
import torch

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.metrics.fidelity.history_detection import history_detection
from manikin.metrics.fidelity.sequence_detection import sequence_detection
from manikin.metrics.histories import Side, shuffled
from manikin.metrics.score import Trial
from manikin.metrics.sequences import CELLS, CODES, NUMBERS, Read, Reading
from manikin.metrics.utility import _outcome_tasks as tasks
from manikin.metrics.utility.sequence_outcomes import sequence_outcomes

DAY = 86_400_000_000
START = np.datetime64("2020-01-01", "us")
PLAIN = EventSchema(
    TableSchema(()),
    (Code("a"), Code("b"), Code("x", "measurement", numeric=True, decimals=1)),
)
WARD = EventSchema(
    TableSchema(()),
    (
        Code("HOSPITAL_ADMISSION//EW", "visit"), Code("HOSPITAL_DISCHARGE//HOME", "visit"),
        Code("ICU_ADMISSION//A", "visit"), Code("lab", "measurement"),
    ),
)  # fmt: skip


def history(rows: list[tuple], n: int, schema: EventSchema = PLAIN) -> Events:
    """Rows of subject, day, code and perhaps value."""
    return Events.of(
        schema, Table(schema.static, np.arange(n), {}), [row[0] for row in rows],
        START + np.array([round(row[1] * DAY) for row in rows]).astype("timedelta64[us]"),
        [schema.named[row[2]][0] for row in rows],
        [row[3] if len(row) > 3 else np.nan for row in rows],
    )  # fmt: skip


def in_turn(n: int, seed: int) -> Events:
    """Twelve visits in blocks of four, a a a a b b b b a a a a or the other way round."""
    turns = np.random.default_rng(seed).integers(0, 2, n)
    return history([(s, d, "ab"[(d // 4 + turns[s]) % 2]) for s in range(n) for d in range(12)], n)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.metrics.recurrent.UPDATES", 60)
    monkeypatch.setattr("manikin.metrics.fidelity.sequence_detection.FOLDS", 2)
    monkeypatch.setattr("manikin.metrics.fidelity.history_detection.TREES", 5)
    monkeypatch.setattr("manikin.metrics.fidelity.history_detection.FOLDS", 2)


# ── what is read ───────────────────────────────────────────────────────────────────────────────


def test_the_row_of_a_visit_by_hand() -> None:
    events = history([(0, 0, "a"), (0, 0, "x", 1.0), (0, 6, "x", 3.0), (1, 0, "a")], 2)
    side = Side(events)
    read = Reading.fit(side).whole(side, np.random.default_rng(0))
    assert read.order.tolist() == [[0, 1], [2, -1]]
    # codes by how many subjects have them: a (2), x (1), b (0)
    np.testing.assert_array_equal(read.visits[:, :3], [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    there = read.visits[:, CODES + CELLS]  # whether the one number was measured
    assert there.tolist() == [1, 1, 0]
    # 1 and 3: mean 2, standard deviation 1
    assert read.visits[:, CODES + CELLS + 1].tolist() == [-1, 1, 0]
    assert read.visits[1, -5] == pytest.approx(math.log(7) / 3)  # six days since the last visit
    assert read.visits[:, -4].tolist() == [1, 0, 1]  # the first of the subject


def test_what_comes_after_the_moment_is_not_read() -> None:
    rows = [(0, 0, "a"), (0, 3, "b"), (0, 3.5, "x", 2.0), (0, 9, "a")]
    other = [(0, 0, "a"), (0, 3, "b"), (0, 3.9, "x", 7.0), (0, 8, "b"), (0, 8, "x", 1.0)]
    found = []
    for part in (rows, other):
        events = history(part, 1)
        number = np.where(np.arange(events.n_events) == 0, 0, 1)  # all later is one visit
        side = Side(
            Events.of(PLAIN, events.static, events.whose, events.time, events.code, events.value,
                      visit=number)
        )  # fmt: skip
        reading = Reading.fit(Side(history(rows, 1)))
        moment = np.array([START + np.timedelta64(int(3.2 * DAY), "us")])
        found.append(reading.until(side, np.array([1]), moment))
    one, two = (read.visits[read.order[0]] for read in found)
    np.testing.assert_array_equal(one, two)
    assert one[1, : CODES + CELLS].sum() == 1  # b alone


def test_numbers_without_end_and_many_codes() -> None:
    many = EventSchema(
        TableSchema(()), tuple(Code(f"c{i}", "measurement", numeric=True) for i in range(300))
    )
    rows = [(0, d, f"c{i}", 1e300 * (-1) ** i) for d in range(3) for i in range(300)]
    side = Side(history(rows, 1, many))
    read = Reading.fit(side).whole(side, np.random.default_rng(0))
    assert read.visits.shape == (3, CODES + CELLS + 2 * NUMBERS + 5)
    assert np.isfinite(read.visits).all()
    assert read.visits[:, : CODES + CELLS].all()


def test_sequences_of_several_sides_lie_behind_each_other() -> None:
    one = Read(np.zeros((2, 4), np.float32), np.array([[0, 1]]))
    two = Read(np.ones((3, 4), np.float32), np.array([[0, 1, 2], [2, -1, -1]]))
    both = Read.joined([one, two])
    assert both.order.tolist() == [[0, 1, -1], [2, 3, 4], [4, -1, -1]]
    assert both.visits[both.order[2, 0]].all()


# ── what is found ──────────────────────────────────────────────────────────────────────────────


def test_order_is_found_where_summaries_see_nothing() -> None:
    trial = Trial(in_turn(150, 1), in_turn(150, 2), in_turn(150, 3))
    mixed = shuffled(trial, seed=0)
    (score,) = sequence_detection(mixed, seed=0)
    assert score.interval[0] > 0.9
    (summaries,) = (s for s in history_detection(mixed, seed=0) if s.metric.endswith("summaries"))
    assert summaries.interval[0] <= 0.5 <= summaries.interval[1]
    (fresh,) = sequence_detection(trial, seed=0)
    assert fresh.interval[0] <= 0.5 <= fresh.interval[1]


def test_same_seed_same_scores_and_no_global_stream_is_touched() -> None:
    trial = Trial(in_turn(60, 1), in_turn(60, 2), in_turn(60, 3))
    before = torch.random.get_rng_state()
    found = [sequence_detection(trial, seed=seed)[0] for seed in (4, 4, 5)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_outcome_that_only_order_tells() -> None:
    """Who had a before b dies; who had b before a does not: last visits and counts are the same."""
    schema = EventSchema(TableSchema(()), (*PLAIN.codes, Code("DEATH", "death")))

    def ward(n: int, seed: int) -> Events:
        rng = np.random.default_rng(seed)
        rows: list[tuple] = []
        for s in range(n):
            ill = rng.random() < 0.5
            rows += [(s, 0, "a" if ill else "b"), (s, 5, "b" if ill else "a"), (s, 9, "x", 1.0)]
            rows += [(s, day, "x", 1.0) for day in (12, 13, 14)]
            rows += [(s, 20, "DEATH")] if ill else [(s, 20, "x", 1.0)]
        return history(rows, n, schema)

    trial = Trial(ward(200, 1), ward(200, 2), ward(200, 3))
    found = {s.metric.partition(".")[2]: s for s in sequence_outcomes(trial, seed=0)}
    assert set(found) == {f"death_{part}" for part in tasks.PARTS}
    assert min(found[f"death_{part}"].value for part in ("tstr", "trtr", "trts")) > 0.95
    assert abs(found["death_gap"].value) < 0.05


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(in_turn(30, 1), in_turn(30, 2), in_turn(30, 3))
    for metric, where in ((sequence_detection, "fidelity"), (sequence_outcomes, "utility")):
        monkeypatch.setattr(f"manikin.metrics.{where}.{metric.__name__}.can_be_had", lambda: False)
        (score,) = metric(trial, seed=0)
        assert math.isnan(score.value) and "manikin[deep]" in score.note


# ── stays that are told as an admission and a discharge ────────────────────────────────────────


def test_stays_of_admissions_and_discharges() -> None:
    came, left, icu = (code.name for code in WARD.codes[:3])
    events = history([
        (0, 0, came), (0, 0.5, "lab"), (0, 0.9, icu), (0, 2, "lab"), (0, 4, left),
        (0, 20, came), (0, 20.25, left), (0, 90, "lab"),
        (1, 0, left),  # nobody saw this one come
        (1, 3, came),  # nor this one leave
        (2, 5, came), (2, 6, came), (2, 8, left),  # the second is the one that ends
    ], 3, WARD)  # fmt: skip
    side = Side(events)
    stays = tasks._stays(side)
    assert stays.days.tolist() == [4, 0.25, 2]
    assert side.visits.whose[stays.last].tolist() == [0, 0, 2]
    # known the first day: visits by days 1, by the discharge of the short one, and by day 7
    told = (side.visits.start[stays.first] - START) / np.timedelta64(1, "D")
    np.testing.assert_allclose(told, [0.9, 20.25, 6])


def test_who_comes_back_within_thirty_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FEWEST", 1)
    came, left = WARD.codes[0].name, WARD.codes[1].name
    side = Side(history([
        (0, 0, came), (0, 4, left), (0, 34, came), (0, 36, left),  # 30 days: back; then unseen
        (1, 0, came), (1, 4, left), (1, 35, came), (1, 36, left),  # 31 days: not
        (2, 0, came), (2, 1, left), (2, 40, "lab"),  # seen 39 days later, not back
    ], 3, WARD))  # fmt: skip
    found = tasks._readmission(side, side)
    assert found is not None
    assert side.visits.whose[found.rows.visit].tolist() == [0, 1, 2]
    assert found.truth.tolist() == [True, False, False]
