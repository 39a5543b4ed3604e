import math

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.metrics.analyses import Analysis, analyses
from manikin.metrics.intervals import Floats
from manikin.metrics.regression import linear
from manikin.metrics.validity.coverage import GATE, coverage, population, resampled
from manikin.synthesizers.table.copula import GaussianCopula

SLOPE = Analysis(
    "slope", ("x",), lambda t: linear(t.columns["x"][:, None], t.columns["y"], t.subjects)
)
N = 200


def world(make_table):
    def draw(seed: int) -> Table:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=N)
        return make_table(x=x, y=0.5 * x + rng.normal(size=N))

    return draw


def normal(real: Table, seed: int):
    """The bivariate normal of largest likelihood: efficient, and it holds the regression."""
    rows = np.column_stack([real.columns["x"], real.columns["y"]])
    mean, root = rows.mean(axis=0), np.linalg.cholesky(np.cov(rows.T, ddof=0))

    def sample(seed: int) -> Table:
        z: Floats = generator(seed, "normal").normal(size=(N, 2))
        x, y = (mean + z @ root.T).T
        return Table(real.schema, np.arange(N), {"x": x, "y": y})

    return sample


def test_a_good_model_covers_when_combined_and_not_when_read_as_real(make_table):
    # what a copy's error leaves out: the fit's; under the posterior rule the bootstrap's too
    for rule, held in (("plug-in", 0.834), ("posterior", 0.742)):  # P(|Z| < 1.96 / √2), / √3
        found = coverage(
            normal, world(make_table), SLOPE, np.array([0.5]), rule=rule, repeats=250, seed=0
        )
        assert found.passed and found.value >= GATE
        assert found.naive.mean() == pytest.approx(held, abs=0.06)
        assert found.real.mean() == pytest.approx(0.95, abs=0.035)
        both = {s.metric: s for s in found.scores()}
        score = both["validity/coverage.combined"]
        assert score.interval[0] < score.value < score.interval[1]
        assert both["validity/coverage.naive"].interval[1] < 0.9
        if rule == "plug-in":  # T_s = ū (1 + 1/5): √1.2 of the real width
            assert found.widths == pytest.approx(math.sqrt(1.2), abs=0.03)


def test_a_model_without_the_relation_is_found_out(make_table):
    def unrelated(real: Table, seed: int):
        def sample(seed: int) -> Table:
            order = generator(seed, "order").permutation(N)
            return Table(
                real.schema, real.subjects, {**real.columns, "y": real.columns["y"][order]}
            )

        return sample

    found = coverage(
        unrelated, world(make_table), SLOPE, np.array([0.5]), rule="plug-in", repeats=40, seed=0
    )
    assert not found.passed and found.value < 0.2


def test_our_copula_passes_the_gate_where_its_model_holds(make_table):
    def refit(real: Table, seed: int):
        model = GaussianCopula().fit(real, seed=seed)
        return lambda s: model.sample(N, seed=s)

    found = coverage(
        refit, world(make_table), SLOPE, np.array([0.5]), rule="plug-in", repeats=25, seed=1
    )
    assert found.value >= GATE


def test_a_table_may_be_the_population(make_table):
    table = world(make_table)(3)
    analysis = analyses(table)[0]
    truth = analysis.fit(table).value
    found = coverage(normal, population(table), analysis, truth, rule="plug-in", repeats=60, seed=2)
    assert found.labels == ("x", "y") and found.real.mean() > 0.85 and found.passed


def test_subjects_are_drawn_whole(make_table):
    table = make_table(subjects=[7, 7, 7, 2, 2, 9], x=[1, 2, 3, 4, 5, 6])
    drawn = resampled(table, 50, np.random.default_rng(0))
    assert np.unique(drawn.subjects).size == 50
    whole = {(1.0, 2.0, 3.0), (4.0, 5.0), (6.0,)}
    told = {tuple(drawn.columns["x"][drawn.subjects == s]) for s in range(50)}
    assert told == whole


def test_truth_must_fit_the_analysis(make_table):
    with pytest.raises(InputError):
        coverage(normal, world(make_table), SLOPE, np.zeros(2), rule="plug-in", seed=0)
