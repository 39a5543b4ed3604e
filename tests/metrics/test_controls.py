"""Leaks planted on purpose: which attacks catch them, and what would be needed otherwise."""

import math

import numpy as np
import pytest

from manikin.errors import NotSupported
from manikin.metrics.controls import copy_share, positive_controls
from manikin.metrics.privacy.copies import copies
from manikin.metrics.score import Score, Trial


@pytest.fixture
def trial(make_table):
    rng = np.random.default_rng(0)
    return Trial(*(make_table(x=list(rng.normal(0, 1, 400))) for _ in range(3)))


def says(*scores):
    """A metric that says the same of everything."""
    return lambda trial, *, seed: scores


def caught(trial, *scores, null=()):
    found = positive_controls(trial, {"privacy/m": says(*scores)}, seed=0, null=null)
    return [control.by for control in found]


def test_copies_are_caught_and_the_catcher_is_named(trial):
    whole, part = positive_controls(trial, {"privacy/copies": copies}, seed=0)
    assert (whole.name, part.name) == ("exact copy", "5 % copied")
    assert "privacy/copies.exact" in whole.by and "privacy/copies.exact" in part.by
    assert whole.caught and part.caught and part.suffices is None


def test_the_share_copied_is_the_share_asked_for(trial):
    known = set(trial.train.columns["x"].tolist())
    leaky = copy_share(trial, 0.05, seed=0).synthetic.columns["x"]
    assert sum(value in known for value in leaky.tolist()) == 20  # 5 % of 400


def test_an_area_is_caught_above_one_half_and_an_excess_above_zero(trial):
    assert caught(trial, Score("privacy/m.auc", 0.6, (0.55, 0.65))) == [("privacy/m.auc",)] * 2
    assert caught(trial, Score("privacy/m.auc", 0.52, (0.48, 0.56))) == [(), ()]
    assert caught(trial, Score("privacy/m.gain", 0.1, (0.02, 0.2))) == [("privacy/m.gain",)] * 2
    assert caught(trial, Score("privacy/m.gain", 0.1, (-0.02, 0.2))) == [(), ()]
    by = caught(trial, Score("privacy/m.auc", 0.9, (0.8, 1.0), group="attack=domias"))
    assert by[0] == ("privacy/m.auc (attack=domias)",)


def test_a_rate_is_caught_above_its_false_alarms(trial):
    """An attack that is a coin finds 1 % of members at 1 % false alarms: that catches nothing."""
    assert caught(trial, Score("privacy/m.tpr_at_1", 0.02, (0.008, 0.04))) == [(), ()]
    assert caught(trial, Score("privacy/m.tpr_at_1", 0.05, (0.03, 0.08)))[0]
    assert caught(trial, Score("privacy/m.tpr_at_10", 0.12, (0.08, 0.16))) == [(), ()]


def test_what_fires_on_fresh_real_rows_catches_nothing(trial):
    """An absolute risk of 0.3 is 0.3 of strangers too: its null is not 0."""
    risk = Score("privacy/m.risk", 0.3, (0.25, 0.35))
    assert caught(trial, risk) == [("privacy/m.risk",)] * 2
    assert caught(trial, risk, null=(risk,)) == [(), ()]


def test_many_looks_need_a_clearer_catch(trial):
    """One score 0.1 ± 0.09 is above 0. Of 20, each is looked at at 0.025 / 20: z = 3.02 for 1.96.

    0.1 − 0.09 · 3.02 / 1.96 = −0.04.
    """
    one = Score("privacy/m.gain", 0.1, (0.01, 0.19))
    assert caught(trial, one)[0]
    many = [Score("privacy/m.gain", 0.1, (0.01, 0.19), group=f"attack={i}") for i in range(20)]
    assert not caught(trial, *many)[0]


def test_a_missed_leak_says_how_many_subjects_would_do(trial):
    """0.1 ± 0.2 needs a width half as large: 4 × 400 held-out subjects, and a twentieth more."""
    score = Score("privacy/m.gain", 0.1, (-0.1, 0.3))
    _, part = positive_controls(trial, {"privacy/m": says(score)}, seed=0)
    assert not part.caught and part.suffices == 1680
    flat = Score("privacy/m.gain", -0.1, (-0.2, 0.3))
    _, part = positive_controls(trial, {"privacy/m": says(flat)}, seed=0)
    assert part.suffices is None  # no number of subjects shows an effect that is not there


def test_what_cannot_be_assessed_catches_nothing(trial):
    def refuses(trial, *, seed):
        raise NotSupported("too few")

    nothing = Score("privacy/n", math.nan, (math.nan, math.nan))
    found = positive_controls(
        trial, {"privacy/m": refuses, "privacy/n": says(nothing)}, seed=0
    )  # fmt: skip
    assert [control.caught for control in found] == [False, False]


def test_every_step_is_told(trial):
    heard = []
    positive_controls(trial, {"privacy/m": says()}, seed=0, step=heard.append)
    assert heard == ["exact copy: privacy/m", "5 % copied: privacy/m"]
