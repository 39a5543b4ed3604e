import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from manikin.data.randomness import generator
from manikin.metrics.intervals import (
    Blocks,
    auc,
    auc_draws,
    binomial,
    blocks,
    difference,
    recentred,
    share,
)


def test_auc_agrees_with_sklearn_ties_included():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 20, 500).astype(float), rng.random(500) < 0.3
    expected = roc_auc_score(positive, scores)
    assert auc(scores, positive) == pytest.approx(expected)
    each = Blocks(np.arange(500), np.ones((2, 500)))  # a block a row
    assert auc_draws(scores, positive, each) == pytest.approx([expected] * 2)
    weights = rng.integers(0, 3, 500)
    repeated = roc_auc_score(np.repeat(positive, weights), np.repeat(scores, weights))
    drawn = Blocks(np.arange(500), weights[None, :].astype(float))
    assert auc_draws(scores, positive, drawn) == pytest.approx([repeated])
    of_ten = Blocks(np.arange(500) % 10, rng.integers(0, 3, (1, 10)).astype(float))
    times = of_ten.weights[0, of_ten.of_row].astype(int)
    repeated = roc_auc_score(np.repeat(positive, times), np.repeat(scores, times))
    assert auc_draws(scores, positive, of_ten) == pytest.approx([repeated])
    assert np.isnan(auc(scores, np.zeros(500, bool)))


def test_clopper_pearson_known_values():
    # no event in n: the upper bound is 1 - 0.025^(1/n); three of ten from the published tables
    assert binomial(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert binomial(3, 10) == pytest.approx((0.0667, 0.6525), abs=1e-4)
    assert binomial(10, 10)[1] == 1.0 and binomial(0, 0) == (0, 1)


def test_newcombe_published_example():
    # 56/70 against 48/80 with score intervals: 0.0524 to 0.3339 (Newcombe 1998, method 10)
    assert difference(0.8, (0.6918, 0.8774), 0.6, (0.4904, 0.7005)) == pytest.approx(
        (0.0524, 0.3339), abs=1e-3
    )


def test_clustered_shares_are_less_sure():
    hits = np.repeat([True, False, False, False] * 25, 4)
    alone = share(hits, np.arange(400))[1]
    together = share(hits, np.repeat(np.arange(100), 4))[1]
    assert together == pytest.approx(binomial(25, 100), abs=0.01)
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_bootstrap_spread_of_a_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(size=5000)
    dealt = blocks(np.arange(5000), generator(0, "test"))
    draws = dealt.sums(values) / dealt.sums(np.ones(5000))
    assert np.std(draws) == pytest.approx(1 / np.sqrt(5000), rel=0.2)
    low, high = recentred(float(values.mean()), draws)
    assert low < values.mean() < high


def test_one_subject_has_no_interval():
    dealt = blocks(np.zeros(9, np.int64), generator(0, "test"))
    assert np.isnan(recentred(1.0, dealt.sums(np.ones(9)))).all()
