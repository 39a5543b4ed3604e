import math

import numpy as np
import pytest

from manikin.metrics.controls import copy_share
from manikin.metrics.privacy._groups import distances, strata, vulnerable
from manikin.metrics.privacy._success import Success
from manikin.metrics.privacy.attribute import attribute
from manikin.metrics.privacy.identity import identity
from manikin.metrics.privacy.linkage import linkage
from manikin.metrics.privacy.singling_out import singling_out
from manikin.metrics.privacy.unique_values import unique_values
from manikin.metrics.score import Trial
from manikin.metrics.spaces import Space

SENSITIVE = {"s": ("sensitive",)}


def test_distances_by_hand(make_table):
    known = make_table(x=[0.0, 10.0, 20.0, 30.0], s=["a", "a", "b", "b"])
    space = Space.fit(known)
    points = space.points(known)
    found = distances(points, points, slice(0, 1))[0] / points.scale
    # ranks 1/8, 3/8, 5/8, 7/8; another level is 1 away
    assert found == pytest.approx([0, 0.25, 1.5, 1.75])


def test_the_most_vulnerable_are_far_from_other_people(make_table):
    """Two of twelve people stand apart; that one of them has six rows does not hide them."""
    rng = np.random.default_rng(0)
    x = [*rng.normal(size=34), *[40.0] * 6, 90.0]
    of = [*range(34), *[50] * 6, 51]
    table = make_table(x=x, y=x, subjects=of)
    far, again = vulnerable((table, table), (table, table), Space.fit(table), rng)
    assert far.sum() == round(41 / 4) and far[-7:].sum() >= 6
    assert np.array_equal(far, again)


def test_strata_are_named_when_eleven_people_are_in_them(make_table):
    rows = ["a"] * 12 + ["b"] * 10 + ["c"] * 30
    # of the 30 rows of c, 20 are one person's
    of = [*range(12), *range(20, 30), *range(40, 50), *[60] * 20]
    train = make_table(s=rows, x=list(range(52)), subjects=of, roles=SENSITIVE)
    found = dict(strata(train, train))
    assert list(found) == ["s=a", "s=c"]
    assert found["s=a"][0].sum() == 12 and found["s=c"][0].sum() == 11
    assert dict(strata(*(make_table(s=rows, x=list(range(52))),) * 2)) == {}


def test_some_subjects_of_a_success():
    success = Success(np.array([1.0, 0.0, np.nan]), np.array([1.0, 1.0]))
    some = success.only((np.array([True, False, True]), np.array([False, True])))
    assert some.members[0] == 1 and np.isnan(some.members[1:]).all()
    assert np.isnan(some.strangers[0]) and some.strangers[1] == 1


def patients(make_table, rng, n):
    level = rng.choice(["a", "b", "c"], n, p=[0.6, 0.37, 0.03])
    return make_table(
        **{name: rng.normal(size=n).round(3) for name in "wxyz"},
        ward=list(rng.choice(list("abcdef"), n)),
        week=rng.integers(0, 90, n),
        s=list(level),
        roles={"s": ("sensitive",), "w": ("quasi_identifier",), "x": ("quasi_identifier",)},
    )


@pytest.mark.parametrize(
    ("metric", "what"),
    [
        (attribute, "residual"),
        (linkage, "residual"),
        (singling_out, "whole"),
        (unique_values, "combinations"),
    ],
)
def test_a_leak_about_one_stratum_is_seen_there(make_table, metric, what):
    """Only people with s = b are copied; those with s = c are too few to say."""
    rng = np.random.default_rng(3)
    trial = Trial(*(patients(make_table, rng, 600) for _ in range(3)))
    train, rows = trial.train, trial.synthetic
    level = train.columns["s"] == 1
    for name, values in rows.columns.items():
        values[: level.sum()] = train.columns[name][level]
    found = {s.group: s for s in metric(trial, seed=0) if s.metric.endswith(what)}
    assert found["s=b"].interval[0] > 0.5
    assert found["s=a"].interval[0] <= 0
    assert ("vulnerable" in found) == (what == "residual")
    if "s=c" in found:
        assert math.isnan(found["s=c"].value) and "not assessable" in found["s=c"].note


def test_the_identity_risk_of_a_stratum(make_table):
    """Everybody is alone in their class, and those with b are told what they have."""
    rng = np.random.default_rng(5)
    train, other, rows = (patients(make_table, rng, 300) for _ in range(3))
    level = train.columns["s"] == 1
    for name, values in rows.columns.items():
        values[: level.sum()] = train.columns[name][level]
    found = {s.group: s for s in identity(Trial(train, other, rows), seed=0)}
    assert found["s=b"].value == 1 and found["s=a"].value == 0
    assert found["s=a"].interval[1] > 0  # none of so many is no proof


@pytest.mark.parametrize("metric", [attribute, linkage])
def test_the_vulnerable_are_at_least_two_hundred(make_table, metric):
    rng = np.random.default_rng(4)
    trial = copy_share(Trial(*(patients(make_table, rng, 1000) for _ in range(3))), 1.0, seed=0)
    score = next(s for s in metric(trial, seed=0) if s.group == "vulnerable")
    asked = int(score.note.partition(" tries")[0].split()[-1])
    # an attack that was chosen on one half is reported on the other
    assert asked >= (200 if metric is linkage else 90)
    assert score.value > 0.9
