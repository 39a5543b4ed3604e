"""Which disclosure metrics see a leak of one row in twenty, and that all say how sure they are."""

import math

import numpy as np
import pytest

from manikin.metrics.controls import copy_share
from manikin.metrics.privacy.attribute import attribute
from manikin.metrics.privacy.copies import copies
from manikin.metrics.privacy.identity import identity
from manikin.metrics.privacy.linkage import linkage
from manikin.metrics.privacy.rare_values import rare_values
from manikin.metrics.privacy.singling_out import singling_out
from manikin.metrics.privacy.unique_values import unique_values
from manikin.metrics.score import Trial

METRICS = (attribute, copies, identity, linkage, rare_values, singling_out, unique_values)


def patients(make_table, rng, n):
    return make_table(
        **{name: rng.normal(size=n).round(3) for name in "wxyz"},
        bit=[["a", "b"][i] for i in rng.integers(0, 2, n)],
        dose=rng.normal(50, 10, n).round(3),
        roles={"bit": ("sensitive",), "dose": ("sensitive",)}
        | {name: ("quasi_identifier",) for name in "wxyz"},
    )


# A guess of a bit is right half the time, and a solved bit asks for many more copies: the learner
# of `bit` and `reconstruction` see an exact copy (test_attribute), not one row in twenty.
@pytest.mark.parametrize(
    ("metric", "what", "group"),
    [
        (attribute, "residual", "all"),
        (attribute, "learner", "column=dose"),
        (attribute, "cap", "column=bit"),
        (attribute, "disco", "column=dose"),
        (linkage, "residual", "all"),
        (singling_out, "residual", "all"),
        (singling_out, "whole", "all"),
        (identity, "excess", "all"),
        (copies, "exact", "quasi-identifiers"),
        (unique_values, "numbers", "column=dose"),
    ],
)
def test_one_copied_row_in_twenty_is_seen_and_put_at_that(make_table, metric, what, group):
    rng = np.random.default_rng(11)
    trial = Trial(*(patients(make_table, rng, n) for n in (2000, 1000, 2000)))
    leaky = copy_share(trial, 0.05, seed=1)
    (score,) = (
        s for s in metric(leaky, seed=0) if s.metric.endswith(f".{what}") and s.group == group
    )
    assert score.interval[0] > 0
    assert score.value == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("metric", METRICS)
def test_no_number_stands_without_an_interval(make_table, metric):
    """Not even a rate of none or of all, whose bootstrap interval has no width."""
    rng = np.random.default_rng(12)
    trial = Trial(*(patients(make_table, rng, 120) for _ in range(3)))
    for share in (0.0, 1.0):
        scores = metric(copy_share(trial, share, seed=0), seed=0)
        assert any(not math.isnan(score.value) for score in scores)
        for score in scores:
            if not math.isnan(score.value):
                assert score.interval[0] < score.interval[1], score
                assert score.interval[0] <= score.value <= score.interval[1]


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_near_the_smallest_there_are(make_table, metric):
    """Between 1e-310 and 2e-310 no slope is a number."""
    rng = np.random.default_rng(13)
    parts = [make_table(x=rng.normal(size=60) * 1e-310, y=rng.normal(size=60)) for _ in range(3)]
    for score in metric(Trial(*parts), seed=0):
        assert math.isnan(score.value) or score.interval[0] <= score.value
