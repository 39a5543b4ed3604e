"""Places by hand: what is ahead, what is tied, what leaks, what is readable and what is quick."""

import math

import numpy as np
import pytest

from manikin.adviser.bakeoff import Attempt, Baked
from manikin.adviser.framework import families
from manikin.adviser.ranking import check_goal, contenders, difference, levels, placed, pooled
from manikin.errors import InputError
from manikin.metrics.score import Score

NAMES = ("table/marginals", "table/copula", "table/seqtree")
FAMILIES = families(NAMES)


def score(value: float, half: float = 0.0) -> Score:
    return Score("any", value, (value - half, value + half))


def baked(
    detection: dict[str, list[float]],
    membership: dict[str, float] | None = None,
    seconds: dict[str, float] | None = None,
    half: float = 0.01,
) -> Baked:
    attempts = []
    for name, values in detection.items():
        for split, value in enumerate(values):
            measures = {"detection": score(value, half)}
            if membership and name in membership:
                measures["membership"] = score(membership[name], half)
            attempts.append(Attempt(name, split, measures, (seconds or {}).get(name, 1.0)))
    return Baked(tuple(attempts), (), 100, 60)


def order(found: Baked, goal: str, names: tuple[str, ...] = NAMES) -> list[str]:
    return [one.name for one in placed(found, names, goal, FAMILIES)]  # type: ignore[arg-type]


def test_pooled_interval_by_hand() -> None:
    # half-widths .196 are standard errors .1; of the mean of two: sqrt(.02) / 2 = .0707
    found = pooled([score(0.6, 0.196), score(0.6, 0.196)])
    assert found.value == pytest.approx(0.6) and found.splits == 2
    assert found.high - found.value == pytest.approx(1.96 * math.sqrt(0.02) / 2)
    # without error within, splits differ by sd .1414: times sqrt(1/2 + .4/.6) = .1528
    found = pooled([score(0.5), score(0.7)])
    assert found.high - found.value == pytest.approx(1.96 * math.sqrt(0.02) * math.sqrt(7 / 6))
    assert pooled([score(0.99, 0.5)], 0.0, 1.0).high == 1.0


def test_differences_are_paired_by_split() -> None:
    # splits differ widely, the difference is .1 on each: paired, its spread is 0
    first, other = ([score(v + up) for v in (0.3, 0.5, 0.9)] for up in (0.1, 0.0))
    found = difference(first, other)
    assert found.value == pytest.approx(0.1) and found.low == pytest.approx(0.1)
    # of one split, both errors count: sqrt(.1² + .1²) · 1.96 = .277
    found = difference([score(0.8, 0.196)], [score(0.6, 0.196)])
    assert found.low == pytest.approx(0.2 - 1.96 * math.sqrt(0.02))


def test_an_easy_split_puts_nobody_ahead() -> None:
    # split 1 is .4 easier: the third, on it alone, is .05 below the second, not .15 above
    table = np.array([[0.5, 0.9], [math.nan, 0.85]])
    assert levels(table) == pytest.approx([0.7, 0.65])
    assert math.isnan(levels(np.array([[0.5], [math.nan]]))[1])
    uneven = baked({NAMES[1]: [0.5, 0.9]})
    lucky = Attempt(NAMES[2], 1, {"detection": score(0.85, 0.01)}, 1.0)
    found = placed(Baked((*uneven.attempts, lucky), (), 100, 60), NAMES, "realism", FAMILIES)
    assert [one.name for one in found[:2]] == [NAMES[1], NAMES[2]]
    assert found[1].measures["detection"].value == pytest.approx(0.65)


def test_realism_orders_by_detection_and_says_what_is_tied() -> None:
    sure = baked({NAMES[0]: [0.1, 0.1], NAMES[1]: [0.4, 0.4], NAMES[2]: [0.8, 0.8]})
    found = placed(sure, NAMES, "realism", FAMILIES)
    assert [one.name for one in found] == [NAMES[2], NAMES[1], NAMES[0]]
    assert [one.rank for one in found] == [1, 2, 3]
    assert not any(one.tied for one in found)
    assert found[1].behind is not None and found[1].behind.value == pytest.approx(0.4)
    assert contenders(sure, NAMES, "realism", FAMILIES) == (NAMES[2],)
    once = baked({NAMES[0]: [0.1], NAMES[1]: [0.4], NAMES[2]: [0.8]})
    assert contenders(once, NAMES, "realism", FAMILIES) == (NAMES[2], NAMES[1])
    close = baked({NAMES[1]: [0.75], NAMES[2]: [0.8]}, half=0.2)
    assert [one.tied for one in placed(close, NAMES[1:], "realism", FAMILIES)] == [False, True]
    assert contenders(close, NAMES[1:], "realism", FAMILIES) == (NAMES[2], NAMES[1])


def test_a_sure_leak_is_put_behind_but_not_one_that_the_floor_has_too() -> None:
    detection = {NAMES[0]: [0.1], NAMES[1]: [0.4], NAMES[2]: [0.8]}
    leaky = baked(detection, {NAMES[0]: 0.5, NAMES[1]: 0.5, NAMES[2]: 0.9})
    assert order(leaky, "realism") == [NAMES[1], NAMES[2], NAMES[0]]
    assert "leaks" in placed(leaky, NAMES, "realism", FAMILIES)[1].reasons[0]
    chance = baked(detection, {NAMES[0]: 0.6, NAMES[1]: 0.6, NAMES[2]: 0.6})
    assert order(chance, "realism")[0] == NAMES[2]


def test_the_floor_is_advised_only_where_nothing_else_ran() -> None:
    odd = baked({NAMES[0]: [0.9], NAMES[1]: [0.2]})
    for goal in ("realism", "privacy", "speed", "interpretability"):
        assert order(odd, goal, NAMES[:2]) == [NAMES[1], NAMES[0]]
    alone = baked({NAMES[0]: [0.2]})
    assert order(alone, "realism", NAMES[:1]) == [NAMES[0]]


def test_privacy_orders_the_sure_and_then_by_realism() -> None:
    detection = {NAMES[0]: [0.1], NAMES[1]: [0.4], NAMES[2]: [0.8]}
    apart = baked(detection, {NAMES[0]: 0.5, NAMES[1]: 0.5, NAMES[2]: 0.6})
    assert order(apart, "privacy")[:2] == [NAMES[1], NAMES[2]]
    alike = baked(detection, {NAMES[0]: 0.5, NAMES[1]: 0.5, NAMES[2]: 0.505})
    assert order(alike, "privacy")[:2] == [NAMES[2], NAMES[1]]
    unknown = baked(detection, {NAMES[1]: 0.5})
    assert order(unknown, "privacy")[0] == NAMES[1]


def test_speed_wants_most_of_the_realism() -> None:
    seconds = {NAMES[0]: 0.1, NAMES[1]: 0.2, NAMES[2]: 5.0}
    # .1 + .8 · (.8 − .1) = .66 is enough
    near = baked({NAMES[0]: [0.1], NAMES[1]: [0.67], NAMES[2]: [0.8]}, seconds=seconds)
    assert order(near, "speed")[0] == NAMES[1]
    far = baked({NAMES[0]: [0.1], NAMES[1]: [0.65], NAMES[2]: [0.8]}, seconds=seconds)
    assert order(far, "speed")[0] == NAMES[2]


def test_interpretability_wants_to_be_read_and_to_beat_the_floor() -> None:
    better = baked({NAMES[0]: [0.1], NAMES[1]: [0.4], NAMES[2]: [0.8]})
    assert order(better, "interpretability")[0] == NAMES[1]  # one matrix before many trees
    no_better = baked({NAMES[0]: [0.1], NAMES[1]: [0.1], NAMES[2]: [0.8]})
    assert order(no_better, "interpretability")[0] == NAMES[2]


def test_who_failed_comes_last_with_the_reason() -> None:
    found = baked({NAMES[1]: [0.4]})
    found = Baked((*found.attempts, Attempt(NAMES[2], 0, failed="no room")), (), 100, 60)
    last = placed(found, NAMES, "realism", FAMILIES)[1:]
    assert {one.name: one.failed for one in last} == {
        NAMES[0]: "not reached: the time was over",
        NAMES[2]: "no room",
    }
    assert all(one.rank is None for one in last)


def test_a_goal_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="realism, interpretability, privacy, speed"):
        check_goal("beauty")
