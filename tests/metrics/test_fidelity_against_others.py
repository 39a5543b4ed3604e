"""Values that other implementations give, where the definitions coincide, and why where not.

The numbers were computed with SDMetrics 0.32.0 (MIT licence) on the tables that `golden` makes:
KSComplement, TVComplement, ContingencySimilarity and CorrelationSimilarity of `single_column` and
`column_pairs`. It is not needed to run these tests.
"""

import numpy as np
import pytest

from manikin.metrics.fidelity.missingness import missingness
from manikin.metrics.fidelity.shapes import column_shapes
from manikin.metrics.fidelity.trends import trends
from manikin.metrics.score import Trial

LEVELS = np.array(list("abcdef"))


def golden(seed, n, tilt):
    rng = np.random.default_rng(seed)
    age = np.rint(rng.normal(60 + 4 * tilt, 12, n))
    marker = np.round(np.exp(rng.normal(0, 0.6 + 0.2 * tilt, n) + (age - 60) / 40), 2)
    ward = np.minimum(rng.geometric(0.35 + 0.1 * tilt, n) - 1, 5)
    stage = np.clip(np.floor((age - 30) / 15 + rng.normal(0, 0.7, n)), 0, 3).astype(int)
    lost = rng.random(n) < 0.1 + 0.1 * (ward == 0)
    gone = rng.random(n) < np.where(lost, 0.5 - 0.3 * tilt, 0.05)
    return age, marker, ward, stage, lost, gone


SAMPLES = golden(7, 400, 0.0), golden(8, 300, 1.0)


def without(values, absent):
    return [None if gone else value for value, gone in zip(values, absent, strict=True)]


def test_single_columns_are_sdmetrics_complements(make_table):
    tables = [
        make_table(age=age, marker=marker, ward=LEVELS[ward], stage=LEVELS[stage])
        for age, marker, ward, stage, _, _ in SAMPLES
    ]
    found = {name: value for name, (value, _) in column_shapes(*tables, seed=0).items()}
    assert found["age"] == pytest.approx(0.7941666666666667, abs=1e-6)  # KSComplement
    assert found["marker"] == pytest.approx(0.835, abs=1e-6)
    assert found["ward"] == pytest.approx(0.865, abs=1e-6)  # TVComplement
    assert found["stage"] == pytest.approx(0.9225, abs=1e-6)


def test_missing_values_are_a_difference_here_and_dropped_there(make_table):
    """SDMetrics drops missing values; here absence counts: a category, or a gap of its own.

    KSComplement of the values present is .8509; the shares absent differ by less, so ours agrees.
    Among wards "no value" is a level here; of the values present alone TVComplement says .8552.
    """
    parts = [
        make_table(marker=without(marker, lost), ward=without(LEVELS[ward], lost))
        for _, marker, ward, _, lost, _ in SAMPLES
    ]
    found = {name: value for name, (value, _) in column_shapes(*parts, seed=0).items()}
    assert found["marker"] == pytest.approx(0.850878354519774, abs=1e-6)
    shares = [np.bincount(np.where(s[4], 6, s[2]), minlength=7) / len(s[2]) for s in SAMPLES]
    assert found["ward"] == pytest.approx(1 - np.abs(shares[0] - shares[1]).sum() / 2, abs=1e-9)
    kept = [np.bincount(s[2][~s[4]], minlength=6) / (~s[4]).sum() for s in SAMPLES]
    assert 1 - np.abs(kept[0] - kept[1]).sum() / 2 == pytest.approx(0.8552039194915254, abs=1e-6)
    # nobody has a value: 1 - KS of no values is undefined there, the worst of both is 0 here
    full, empty = make_table(x=[1.0, 2.0]), make_table(x=[None, None])
    assert column_shapes(full, empty, seed=0)["x"][0] == 0.0


def test_a_pair_of_categories_is_sdmetrics_contingency(make_table):
    real, synthetic = (make_table(w=LEVELS[s[2]], s=LEVELS[s[3]]) for s in SAMPLES)
    found = trends(Trial(real, real, synthetic), seed=0)[0].value
    assert found == pytest.approx(0.7966666666666666, abs=1e-6)


def test_numbers_are_cut_at_quantiles_here_and_at_even_widths_there(make_table):
    """ContingencySimilarity cuts at ten even widths of the real range, and says .6617."""
    real, synthetic = (make_table(w=LEVELS[s[2]], a=s[0]) for s in SAMPLES)
    found = trends(Trial(real, real, synthetic), seed=0)[0].value
    deciles = np.unique(np.quantile(SAMPLES[0][0], np.arange(1, 10) / 10, method="lower"))
    tables = []
    for age, _, ward, _, _, _ in SAMPLES:
        joint = np.zeros((6, deciles.size + 1))
        np.add.at(joint, (ward, np.searchsorted(deciles, age, side="left")), 1 / age.size)
        tables.append(joint)
    assert found == pytest.approx(1 - np.abs(tables[0] - tables[1]).sum() / 2, abs=1e-9)
    assert abs(found - 0.6616666666666666) > 0.01


def test_correlation_of_absence_is_sdmetrics_correlation_similarity(make_table):
    real, synthetic = (
        make_table(l=without(np.ones(len(s[4])), s[4]), g=without(np.ones(len(s[5])), s[5]))
        for s in SAMPLES
    )
    found = {s.metric: s.value for s in missingness(Trial(real, real, synthetic), seed=0)}
    assert found["fidelity/missingness.correlation"] == pytest.approx(
        0.9635965754610338, abs=1e-6
    )  # CorrelationSimilarity, Pearson, of the indicators of absence
