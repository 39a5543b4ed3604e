"""Trajectories: numbers and places by hand, drawing against places, and what is learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizers.events._trajectory_draw import Drawer, Style, Subjects
from manikin.synthesizers.events._trajectory_scales import Scales
from manikin.synthesizers.events._trajectory_subjects import first_times
from manikin.synthesizers.events._trajectory_tokens import (
    ATOMS,
    CONTINUOUS,
    FIRST_GAP,
    LASTING,
    NAT,
    NONE,
    REPEAT,
    UNTIMED,
    ZERO,
    Line,
    Slots,
    Vocabulary,
    canonical,
    fit_scales,
    slots,
)
from manikin.synthesizers.events._trajectory_training import lay, windows
from manikin.synthesizers.events.trajectory import Trajectory

DAY = np.timedelta64(1, "D")
NAT_TIME = np.datetime64("NaT", "us")
CODES = (
    Code("drug", "drug"),
    Code("stay", "visit"),
    Code("weight", "measurement", numeric=True, decimals=1),
    Code("smokes", "observation", levels=("no", "yes")),
    Code("death", "death"),
)
SCHEMA = EventSchema(TableSchema(()), CODES, clock="day", declared=True)
WORDS = Vocabulary.of(SCHEMA)


def nobody(n: int) -> Table:
    return Table(TableSchema(()), np.arange(n), {})


def at(day: float) -> np.datetime64:
    return NAT_TIME if np.isnan(day) else np.datetime64("2020-01-01", "us") + int(day) * DAY


def build(rows: list[tuple[int, float, int, float, int, float, int]], n: int) -> Events:
    """Rows of subject, day, code, value, text, day of the end, visit."""
    whose, day, code, value, text, end, visit = zip(*rows, strict=True)
    return Events.of(
        SCHEMA, nobody(n), whose, np.array([at(d) for d in day]), code, value, text,
        np.array([at(d) for d in end]), visit, ("no", "yes"),
    )  # fmt: skip


def by_hand() -> Events:
    nan = np.nan
    return build(
        [
            (0, nan, 0, nan, -1, nan, -1),
            (0, 3, 2, 81.0, -1, nan, 0),
            (0, 3, 1, nan, -1, 5, 0),
            (0, 3, 3, nan, 1, nan, 0),
            (0, 9, 2, 81.0, -1, nan, -1),
            (0, 9, 4, nan, -1, nan, -1),
            (1, 4, 0, nan, -1, nan, -1),
        ],
        3,
    )


def whole(events: Events, k: int = 2) -> tuple[Line, dict[str, Scales], Slots]:
    line = canonical(events, np.arange(len(CODES)), SCHEMA, WORDS)
    scales = fit_scales(line, WORDS, k, 1.0)
    births = np.full(events.n_subjects, NAT)
    return line, scales, slots(line, WORDS, scales, births, first_times(line))


# ------------------------------------------------------------------ numbers


def test_common_numbers_are_atoms_and_the_rest_is_a_line() -> None:
    # 40 subjects: 20 times 0, held by all of these; 20 unlike numbers on a grid of 0.5
    values = np.concatenate([np.zeros(20), np.arange(1, 21) / 2])
    scales = Scales.fit(np.zeros(40, np.int64), values, np.arange(40), 1, k=5)
    assert scales.atoms[0, 0] == 0 and np.isnan(scales.atoms[0, 1:]).all()
    assert scales.steps[0] == 0.5
    # four bins of five subjects: their means are 1.5, 4, 6.5 and 9
    assert scales.knots[0][np.isfinite(scales.knots[0])].tolist() == [1.5, 4.0, 6.5, 9.0]
    assert scales.atom_of(np.zeros(2, np.int64), np.array([0.0, 0.5])).tolist() == [0, -1]


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.1, 100))
def test_scores_go_there_and_back(seed: int, spread: float) -> None:
    rng = generator(seed, "scales")
    values = np.round(rng.normal(50, spread, 400), 2)
    kind = np.zeros(400, np.int64)
    scales = Scales.fit(kind, values, np.arange(400), 1, k=5)
    inner = values[np.abs(scales.to_score(kind, values)) < 2]
    back = scales.to_value(kind[: inner.size], scales.to_score(kind[: inner.size], inner))
    assert np.allclose(back, inner, atol=scales.steps[0] * 0.51)
    score, low, high = scales.intervals(kind, values)
    assert (low < score).all() and (score < high).all()


def test_no_edge_is_anybodys_own_number() -> None:
    rng = generator(4, "edges")
    values = rng.normal(0, 1, 203)
    scales = Scales.fit(np.zeros(203, np.int64), values, np.arange(203), 1, k=5)
    edges = scales.knots[np.isfinite(scales.knots)]
    assert np.abs(edges[:, None] - values[None]).min() > 0
    assert edges.max() < np.sort(values)[-2] and edges.min() > np.sort(values)[1]


def test_numbers_of_few_subjects_have_neither_line_nor_atom() -> None:
    # one subject with a hundred numbers is still one subject
    scales = Scales.fit(np.zeros(100, np.int64), np.arange(100.0), np.zeros(100, int), 1, k=5)
    assert not scales.lined.any() and np.isnan(scales.atoms).all()


# ------------------------------------------------------------------ places


def test_events_of_one_time_stand_in_one_order_and_visits_are_told() -> None:
    line, _, _ = whole(by_hand())
    # without a time first; at day 3 the stay, then weight and smoking; death at the end
    assert line.code.tolist() == [0, 1, 2, 3, 2, 4, 0]
    assert line.relation.tolist() == [0, 2, 1, 1, 0, 0, 0]
    assert np.isnan(line.gaps[0]) and line.gaps[1:].tolist() == [0, 0, 0, 6, 0, 0]
    assert line.durations[1] == 2.0 and np.isnan(line.durations[2])


def test_places_by_hand() -> None:
    line, _, places = whole(by_hand(), k=1)
    assert places.starts.tolist() == [0, 7, 9, 10]  # 6, 1 and no event, and one place more each
    assert places.remaining.tolist() == [6, 5, 4, 3, 2, 1, 0, 1, 0, 0]
    gap, _, code, text, value, _, last_text, _ = places.target.T
    assert gap[:2].tolist() == [UNTIMED, ZERO]
    assert gap[6] == gap[8] == gap[9] == 0  # the ends
    assert code[:6].tolist() == line.code[:6].tolist()
    assert text[3] == 2 and value[4] == REPEAT  # the same weight again
    assert places.past[4][0] == 1 and last_text[4] == 0
    assert places.words[4].tolist() == [4, 2, 0]  # what was last: "yes" of "smokes"
    assert places.words[5].tolist() == [3, 0, 1]  # the second moment


def test_a_gap_of_few_is_no_atom() -> None:
    rows = [(i, day, 0, np.nan, -1, np.nan, -1) for i in range(8) for day in (0, 7, 7 + 2 * i + 1)]
    _, scales, places = whole(build(rows, 8), k=5)
    kinds = places.target[:, 0]
    assert scales["gap"].atoms[0, 0] == 7.0
    assert (kinds == FIRST_GAP).sum() == 9  # once each, and the one whose second gap is 7 too
    assert (kinds == LASTING).sum() == 7


def test_windows_foretell_every_place_once() -> None:
    rows = [(0, d, 0, np.nan, -1, np.nan, -1) for d in range(100)]
    rows += [(1, d, 0, np.nan, -1, np.nan, -1) for d in range(5)]
    _, _, places = whole(build(rows, 3))
    found = windows(places, 16)
    laid = lay(places, np.zeros((3, 1), np.float32), found, np.arange(3), 16, events=64, seed=1)
    judged = np.bincount(laid.place[laid.judged], minlength=places.whose.size)
    assert judged.tolist() == [1] * 108
    assert (laid.place[laid.judged] >= 0).all()
    # each window sees at least half a window before what it foretells, but for the first
    assert (np.diff(found.start[found.whose == 0]) == 8).all()


# ------------------------------------------------------------------ drawing


def replayed(events: Events) -> tuple[Slots, list[np.ndarray], list[np.ndarray]]:
    """Move subjects along their own events as drawing does; return what places would show."""
    line, scales, places = whole(events)
    network = Trajectory(width=8, depth=1, heads=2, latent=2)._network(
        Trajectory()._sizes(WORDS, scales, _Facts()),
        torch.Generator().manual_seed(1),
        WORDS,
        False,
    )
    network.value_odds[:, 1:] = -1.0
    network.text_odds[:, 1:] = -1.0
    drawer = Drawer(network, WORDS, scales, Style(tick_us=86_400_000_000), torch.Generator())
    n = events.n_subjects
    births, first = np.full(n, NAT), first_times(line)
    count = np.diff(line.starts)
    who = Subjects.new(
        np.arange(n), first, births, count, np.full(n, 2**62), int(drawer.bearing.sum())
    )
    shown, numbers = [], []
    for i in range(int(count.max())):
        rows = np.flatnonzero(count > i)
        who.keep(np.flatnonzero(np.isin(who.number, rows)))
        e = line.starts[rows] + i
        code, now, value = line.code[e], line.time[e], line.value[e]
        own = np.maximum(drawer.place[code], 0)
        has = who.count[np.arange(rows.size), own] > 0
        numbers.append(np.where(has, who.score[np.arange(rows.size), own], 0.0))
        score, valued = scales["value"].to_score(code, np.nan_to_num(value)), ~np.isnan(value)
        number = np.where(line.level[e] >= 0, WORDS.first_level[code] + line.level[e], 0)
        who.moments = who.moments + (line.gaps[e] > 0)
        drawer._move(who, now, line.relation[e], code, line.end[e])
        drawer._remember(who, code, drawer.place[code], value, score, valued, number, now)
        last, lasts = np.nan_to_num(line.durations[e]), ~np.isnan(line.durations[e])
        shown.append(drawer._shown(who, line.gaps[e], score, valued, np.log1p(last), lasts))
    return places, shown, numbers


class _Facts:
    facts = 0


def cohort(n: int = 60, *, seed: int = 2, gap: float = 30.0) -> Events:
    """Visits of a stay, weight and smoking; weight is the subject's own and some noise."""
    rng = generator(seed, "cohort")
    rows: list[tuple[int, float, int, float, int, float, int]] = []
    for i in range(n):
        own, day, smokes = rng.normal(80, 12), float(rng.integers(0, 300)), int(rng.random() < 0.5)
        for v in range(int(rng.integers(3, 8))):
            rows.append((i, day, 1, np.nan, -1, day + int(rng.integers(0, 4)), v))
            rows.append((i, day, 2, float(np.round(own + rng.normal(), 1)), -1, np.nan, v))
            rows.append((i, day, 3, np.nan, smokes, np.nan, v))
            if rng.random() < 0.5:
                rows.append((i, day, 0, np.nan, -1, np.nan, v))
            day += float(rng.integers(int(gap * 0.7), int(gap * 1.3)))
    return build(rows, n)


def test_drawing_shows_what_training_showed() -> None:
    events = cohort(20)
    places, shown, numbers = replayed(events)
    count = np.diff(places.starts) - 1
    for i, (found, last) in enumerate(zip(shown, numbers, strict=True)):
        rows = np.flatnonzero(count > i)
        assert np.allclose(found, places.shown[places.starts[rows] + i + 1], atol=1e-5)
        assert np.allclose(last, places.past[places.starts[rows] + i][:, 1], atol=1e-5)


@pytest.fixture(scope="module")
def fitted() -> tuple[Events, object]:
    real = cohort(80)
    chosen = {"table": "table/marginals", "steps": 150, "width": 32, "depth": 1, "batch": 512,
                "context": 48, "latent": 4}  # fmt: skip
    return real, catalogue.build("events/trajectory", chosen).fit(real, seed=1)


def weights(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Weights and the ones after them."""
    rows = np.flatnonzero(events.code == 2)
    same = events.whose[rows][1:] == events.whose[rows][:-1]
    value = events.value[rows]
    return value[:-1][same], value[1:][same]


def test_what_is_a_subjects_own_persists(fitted: tuple[Events, object]) -> None:
    # 12 between subjects, 1 within: a correlation of 144 / 145 = 0.993
    real, model = fitted
    drawn = model.sample(150, seed=3)
    known = ~np.isnan(np.stack(weights(drawn))).any(0)
    pair = [w[known] for w in weights(drawn)]
    assert np.corrcoef(*weights(real))[0, 1] > 0.98
    assert np.corrcoef(*pair)[0, 1] > 0.9
    assert abs(pair[0].mean() - 80) < 4
    levels = [drawn.text[(drawn.whose == i) & (drawn.code == 3)] for i in range(150)]
    kept = [np.ptp(level) == 0 for level in levels if level.size > 1]
    assert np.mean(kept) > 0.75  # by chance one in eight of four visits


def test_visits_are_like_the_real_ones(fitted: tuple[Events, object]) -> None:
    real, model = fitted
    drawn = model.sample(150, seed=3)
    for events in (real, drawn):
        stays = events.rows(events.code == 1)
        gaps = np.diff(stays.time) / DAY
        gaps = gaps[np.diff(stays.whose) == 0]
        assert 25 < gaps[gaps > 0].mean() < 35
    assert abs(real.counts.mean() - drawn.counts.mean()) < 3
    last = (drawn.end - drawn.time)[drawn.code == 1]
    assert (last[~np.isnat(last)] / DAY).max() <= 3


def test_no_code_is_there_twice_at_one_time_where_none_was(fitted: tuple[Events, object]) -> None:
    _, model = fitted
    drawn = model.sample(150, seed=3)
    key = np.stack([drawn.whose, drawn.time.astype(np.int64), drawn.visit, drawn.code], 1)
    assert len(np.unique(key, axis=0)) > 0.98 * len(key)


def test_a_future_keeps_to_the_history(fitted: tuple[Events, object]) -> None:
    _, model = fitted
    history = cohort(30, seed=9)
    drawn = model.continue_from(history, days=120, futures=4, seed=1)
    own = np.array([history.value[(history.whose == i) & (history.code == 2)].mean()
                    for i in range(30)])  # fmt: skip
    there = drawn.code == 2
    assert there.sum() > 60
    assert np.corrcoef(own[drawn.whose[there] // 4], drawn.value[there])[0, 1] > 0.9


def test_colder_draws_are_more_alike(fitted: tuple[Events, object]) -> None:
    _, model = fitted
    cold = replace(model, style=replace(model.style, temperature=0.1))
    steps = []
    for one in (model, cold):
        before, after = weights(one.sample(60, seed=1))
        steps.append(np.nanmean(np.abs(after - before)))
    assert steps[1] < 0.6 * steps[0]


def test_a_context_shorter_than_records_is_enough_to_draw(fitted: tuple[Events, object]) -> None:
    _, model = fitted
    short = replace(model, style=replace(model.style, context=8))
    drawn = short.sample(20, seed=1)
    assert drawn.counts.max() > 8


@pytest.mark.parametrize("wrong", [{"width": 10}, {"width": 24, "heads": 5}, {"k": 1}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Trajectory(**wrong)


def test_a_table_synthesizer_must_be_named() -> None:
    with pytest.raises(InputError):
        Trajectory().fit(cohort(5), seed=1)


def test_numbers_of_classes_stay_apart() -> None:
    assert len({NONE, REPEAT, CONTINUOUS, ATOMS}) == 4


def test_declared_bounds_and_lifetimes_are_kept() -> None:
    # bounds that half of the weights lie beyond: none that is drawn does
    real = cohort(40)
    tight = tuple(replace(c, minimum=70.0, maximum=80.0) if c.numeric else c for c in CODES)
    real = replace(real, schema=replace(SCHEMA, codes=tight))
    chosen = {"table": "table/marginals", "steps": 5, "width": 16, "depth": 1, "latent": 2}
    drawn = catalogue.build("events/trajectory", chosen).fit(real, seed=1).sample(40, seed=1)
    known = drawn.value[~np.isnan(drawn.value)]
    assert known.size and known.min() >= 70 and known.max() <= 80
