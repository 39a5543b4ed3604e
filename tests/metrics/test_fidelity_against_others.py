"""Values that other implementations give, where the definitions coincide, and why where not.

The numbers were computed with SDMetrics 0.32.0 (MIT licence) on the tables that `golden` and
`coded` make, or with SynthEval 1.7.3 (MIT licence); each test names the class, whose `compute` or
`evaluate` was called with its defaults unless it says how. Neither is needed to run these tests.
"""

import numpy as np
import pytest

from manikin.metrics.fidelity.distances import _mmd
from manikin.metrics.fidelity.missingness import missingness
from manikin.metrics.fidelity.shapes import column_shapes
from manikin.metrics.fidelity.trends import trends
from manikin.metrics.permutation import Sides
from manikin.metrics.privacy.attribute import _Guess
from manikin.metrics.privacy.copies import copies
from manikin.metrics.privacy.nearest import nearest
from manikin.metrics.score import Trial
from manikin.metrics.spaces import Space
from manikin.metrics.spaces import nearest as distance_to_nearest
from manikin.metrics.validity.inference import overlaps

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
    """ContingencySimilarity cuts at ten even widths of the real range, and says .6617.

    (With continuous_column_names=["age"], num_discrete_bins=10; by default each age is a level.)
    """
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


def test_presence_alone_is_sdmetrics_missing_value_similarity(make_table):
    """Where the values present are alike, `shapes` is 1 - the gap in how often there is none."""
    tables = [make_table(gone=without(np.ones(s[5].size), s[5])) for s in SAMPLES]
    assert column_shapes(*tables, seed=0)["gone"][0] == pytest.approx(0.95, abs=1e-6)


def coded(seed, n, tilt):
    """Four categorical columns, so that both distances are the share of columns that differ."""
    _, _, ward, stage, _, _ = golden(seed, n, tilt)
    rng = np.random.default_rng(seed + 100)
    sex, site = rng.integers(0, 2, n), rng.integers(0, 6, n)
    codes = {"ward": ward, "stage": stage, "sex": sex, "site": site}
    return {name: LEVELS[values] for name, values in codes.items()}


@pytest.fixture
def few(make_table):
    parts = (coded(7, 60, 0.0), coded(9, 60, 0.0), coded(8, 50, 1.0))
    return Trial(*(make_table(**part) for part in parts))


def test_distances_of_categories_are_sdmetrics_dcr(few):
    """`calculate_dcr` says .185 to the training and .215 to the held-out rows, on average.

    DCROverfittingProtection counts a row as near as to both as nearer to the held-out rows, and so
    finds .24 nearer to training; .66 are such ties here, and ties are halved: .24 + .33.
    """
    space = Space.fit(few.train)
    points = [space.points(part) for part in (few.train, few.holdout, few.synthetic)]
    to_train, to_holdout = (distance_to_nearest(points[2], points[i]) for i in (0, 1))
    assert to_train.mean() == pytest.approx(0.185, abs=1e-6)
    assert to_holdout.mean() == pytest.approx(0.215, abs=1e-6)
    assert np.mean(to_train < to_holdout) == pytest.approx(0.24, abs=1e-6)
    assert nearest(few, seed=0)[0].value == pytest.approx(0.24 + 0.66 / 2, abs=1e-6)


def test_copies_are_the_rows_that_sdmetrics_does_not_call_new(few):
    """NewRowSynthesis is .72: 14 of 50 rows match. Ours subtracts the share of held-out rows."""
    known, held = (
        list(zip(*(v.tolist() for v in part.columns.values()), strict=True))
        for part in (few.train, few.holdout)
    )
    null = np.mean([row in known for row in held])
    assert copies(few, seed=0)[0].value == pytest.approx(1 - 0.72 - null, abs=1e-6)


def test_attribution_is_sdmetrics_categorical_zero_cap(few):
    """CategoricalZeroCAP is 1 - the mean share of a key's synthetic rows with the value: .8483.

    CategoricalCAP (.7324) leaves out keys that do not occur; they count as 0 here, as there.
    """
    guess = _Guess(few, few.train.schema["stage"], ("ward", "sex", "site"), 0.0)
    shares = guess.shares(few.train)
    assert 1 - shares.mean() == pytest.approx(0.8483333333333334, abs=1e-6)
    told = few.synthetic.columns
    keys = set(zip(*(told[c].tolist() for c in ("ward", "sex", "site")), strict=True))
    asked = few.train.columns
    met = [
        key in keys
        for key in zip(*(asked[c].tolist() for c in ("ward", "sex", "site")), strict=True)
    ]
    assert 1 - shares[met].mean() == pytest.approx(0.7323529411764707, abs=1e-6)


def test_single_columns_are_syntheval_ks_and_tvd(make_table):
    """KolmogorovSmirnovTest, ward and stage as cat_cols: avg ks .18542, avg tvd .10625.

    It rounds every TVD to four decimals, which these, .135 and .0775, do not need.
    """
    tables = [
        make_table(age=s[0], marker=s[1], ward=LEVELS[s[2]], stage=LEVELS[s[3]]) for s in SAMPLES
    ]
    found = {name: value for name, (value, _) in column_shapes(*tables, seed=0).items()}
    ks, tvd = ((1 - found[a] + 1 - found[b]) / 2 for a, b in (("age", "marker"), ("ward", "stage")))
    assert ks == pytest.approx(0.18541666666666667, abs=1e-6)
    assert tvd == pytest.approx(0.10625, abs=1e-6)


def clouds():
    rng = np.random.default_rng(5)
    one = rng.normal(size=(60, 3))
    one = (one - one.mean(axis=0)) / one.std(axis=0)
    return one, rng.normal(0.4, 1.2, size=(60, 3)), rng


def test_mmd_is_syntheval_unbiased_mmd_of_one_width():
    """MaximumMeanDiscrepancy(use_cats=False, gamma=1 / median squared distance).evaluate: u_mmd.

    Its default gamma, 1 / (2 × the median of all pairs), is halved again in the kernel, which makes
    that twice as wide as the heuristic it names, and says .01998; ours is the median of training
    pairs, exp(-d²/2m). It standardises by the real rows, as these already are.
    """
    real, fake, _ = clouds()
    who = np.arange(60)
    sides = Sides.deal(who, who, np.random.default_rng(0))
    both = np.concatenate([real, fake])
    args = (both, sides, real, np.concatenate([who, who]), np.random.default_rng(0))
    assert _mmd(*args)[0] == pytest.approx(0.02787668369968821, abs=1e-6)


def test_overlap_of_intervals_is_syntheval_cio_of_standard_errors():
    """ConfidenceIntervalOverlap.evaluate(ci="sem"); its default, ci="std", is none of a mean.

    It takes 1.96 for the normal quantile, 1.95996 here: alike to 1e-5.
    """
    real, _, rng = clouds()
    fake = real + rng.normal(0.1, 0.5, size=real.shape)
    means, errors = (
        [how(part) for part in (real, fake)]
        for how in (lambda x: x.mean(axis=0), lambda x: x.std(axis=0, ddof=1) / np.sqrt(60))
    )
    found = overlaps(means[0], errors[0], means[1], errors[1])
    assert found.mean() == pytest.approx(0.7487088900713026, abs=1e-5)
