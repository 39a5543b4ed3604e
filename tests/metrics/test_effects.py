"""Treatment effects of cohorts in which they are known."""

import math

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.metrics.known_truth import KnownTruth
from manikin.metrics.validity.coverage import resampled
from manikin.metrics.validity.effects import effects, estimate, of_table
from manikin.synthesizers.table.marginals import Marginals

WORLDS = [
    KnownTruth(),
    KnownTruth(confounded=0.0),
    KnownTruth(effect=0.0, varying=0.0),
    KnownTruth(effect=0.15, varying=0.05, outcome="yes or no"),
]


@pytest.mark.parametrize("world", WORLDS)
def test_the_truth_is_what_it_says(world):
    table = world.draw(60_000, 1)
    of_each = world.effects(table)
    # z and sex / 2 have mean 0 by symmetry and variances 1 and 1/4: τ varies by varying² 5/16
    assert of_each.mean() == pytest.approx(world.effect, abs=0.01)
    assert of_each.var() == pytest.approx(world.varying**2 * 5 / 16, abs=0.01)
    treated, outcome = table.numbers("treated"), table.numbers("outcome")
    naive = outcome[treated == 1].mean() - outcome[treated == 0].mean()
    found = of_table(world, table)
    assert abs(found.average - world.effect) < 4 * found.error
    if world.confounded:
        assert naive > world.effect + 5 * found.error  # the arms as they stand mislead
    else:
        assert naive == pytest.approx(world.effect, abs=0.04)
        assert treated.mean() == pytest.approx(0.5, abs=0.01)


def test_one_patients_effect_by_hand():
    world = KnownTruth(effect=2.0, varying=0.5)
    table = world.draw(500, 0)
    z = (table.columns["age"] - 60) / math.sqrt((41**2 - 1) / 12)  # 41 whole numbers
    by_hand = 2 + 0.25 * (z + np.where(table.columns["sex"] == 1, 0.5, -0.5))
    assert world.effects(table) == pytest.approx(by_hand)


def test_the_estimate_by_hand():
    # one covariate, 0 or 1; 20 patients in each cell; outcomes 0 and 1 untreated, 3 and 7 treated.
    # effects 3 at x = 0 and 6 at x = 1, half of the patients each: 4.5
    x = np.repeat([0.0, 1.0, 0.0, 1.0], 20)
    treated = np.repeat([0.0, 0.0, 1.0, 1.0], 20)
    found = estimate(x[:, None], treated, np.repeat([0.0, 1.0, 3.0, 7.0], 20))
    assert found.average == pytest.approx(4.5)
    assert found.of(np.array([[0.0], [1.0]])) == pytest.approx([3, 6])
    # ψ is 3 or 6 of 40 patients each: standard deviation 1.5 √(80/79)
    assert found.error == pytest.approx(1.5 * math.sqrt(80 / 79) / math.sqrt(80))


def test_the_estimate_is_doubly_robust_where_a_regression_alone_is_not():
    """The outcome bends with x; straight lines in either arm miss it, the weights do not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=40_000)
    treated = (rng.random(x.size) < 1 / (1 + np.exp(-1.5 * x))).astype(float)
    outcome = np.exp(x) + treated + 0.1 * rng.normal(size=x.size)
    found = estimate(x[:, None], treated, outcome)
    alone = float(found.of(x[:, None]).mean())
    assert abs(alone - 1) > 0.1 > abs(found.average - 1)


def test_too_few_of_an_arm_and_missing_values():
    x, y = np.zeros((60, 2)), np.arange(60.0)
    few = estimate(x, np.repeat([0.0, 1.0], (41, 19)), y)
    assert math.isnan(few.average) and np.isnan(few.slopes).all()
    treated = np.tile([0.0, 1.0], 30)
    assert math.isfinite(estimate(x, treated, y).average)  # covariates that do not vary
    x = np.random.default_rng(1).normal(size=(60, 2))
    x[0, 0], y[1] = np.nan, np.nan
    kept = np.arange(60) > 1
    assert estimate(x, treated, y).average == estimate(x[kept], treated[kept], y[kept]).average


def bootstrap(real: Table, seed: int):
    return lambda s: resampled(real, real.n_subjects, generator(s, "copy"))


def without_effect(real: Table, seed: int):
    """Keep everything but the treatment, which is dealt anew."""

    def sample(s: int) -> Table:
        order = generator(s, "copy").permutation(real.n_rows)
        columns = {**real.columns, "treated": real.columns["treated"][order]}
        return Table(real.schema, real.subjects, columns)

    return sample


def by_name(found):
    return {score.metric.rpartition(".")[2]: score for score in found.scores()}


def test_resampled_rows_keep_the_effect_and_shuffled_treatment_loses_it():
    kept = by_name(effects(bootstrap, KnownTruth(), n=600, repeats=25, seed=0))
    lost = by_name(effects(without_effect, KnownTruth(), n=600, repeats=25, seed=0))
    low, high = kept["ate_bias"].interval
    assert low < 0 < high and high - low < 0.2
    assert lost["ate_bias"].value == pytest.approx(-1, abs=0.1)  # all of the effect
    assert lost["ate_bias"].interval[1] < -0.8 and lost["ate_covered"].value == 0
    assert lost["ate_error"].value >= abs(lost["ate_bias"].value)
    # slopes of τ in z and sex are 1/4 each: without, PEHE² is 1 + 5/64 at least
    assert lost["pehe"].interval[0] > 0.95 > kept["pehe"].interval[1]
    # a copy has the error of the fit and its own: √2 that of fresh rows, held in 83 % or so
    assert kept["ate_error"].value > kept["ate_error"].ceiling
    assert 0.6 < kept["ate_covered"].value < 0.99 and kept["ate_covered"].ceiling > 0.85
    assert kept["pehe"].floor > kept["pehe"].value > kept["pehe"].ceiling
    assert kept["ate_bias"].floor == pytest.approx(-1, abs=0.15)


def test_independent_columns_are_the_floor():
    def refit(real: Table, seed: int):
        model = Marginals().fit(real, seed=seed)
        return lambda s: model.sample(real.n_subjects, seed=s)

    world = KnownTruth(effect=0.15, varying=0.05, outcome="yes or no")
    found = by_name(effects(refit, world, n=800, repeats=8, seed=1))
    assert found["ate_bias"].interval[1] < 0 and found["ate_bias"].value < -0.1
    assert found["pehe"].value == pytest.approx(found["pehe"].floor, abs=0.03)


def test_a_generator_that_drops_an_arm_says_so():
    def untreated(real: Table, seed: int):
        columns = {**real.columns, "treated": np.zeros(real.n_rows, np.int32)}
        return lambda s: Table(real.schema, real.subjects, columns)

    scores = effects(untreated, KnownTruth(), n=100, repeats=2, seed=0).scores()
    assert all(math.isnan(s.value) and "complete synthetic rows an arm" in s.note for s in scores)


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(InputError):
        KnownTruth(effect=1.0, outcome="yes or no")
    with pytest.raises(InputError):
        effects(bootstrap, KnownTruth(), repeats=1, seed=0)
    with pytest.raises(InputError):
        effects(bootstrap, KnownTruth(), n=10, seed=0)


def test_same_seed_same_numbers():
    one, other = (effects(bootstrap, KnownTruth(), n=200, repeats=3, seed=4) for _ in range(2))
    assert one.scores() == other.scores()
    table = KnownTruth().draw(50, 3)
    assert np.array_equal(table.columns["outcome"], KnownTruth().draw(50, 3).columns["outcome"])
