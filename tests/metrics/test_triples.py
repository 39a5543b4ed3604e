import numpy as np
import pytest

from manikin.metrics.fidelity.trends import trends
from manikin.metrics.fidelity.triples import TRIPLES, WORST, triples
from manikin.metrics.score import Trial


def bits(rng, n, parity):
    """Three coins; with parity, an even number of heads: any two of them are independent."""
    first, second = rng.integers(0, 2, (2, n))
    third = first ^ second if parity else rng.integers(0, 2, n)
    return {k: np.array(["a", "b"])[v] for k, v in zip("xyz", (first, second, third), strict=True)}


def test_a_relation_of_three_is_seen_where_pairs_see_none(make_table):
    rng = np.random.default_rng(0)
    real = make_table(**bits(rng, 4000, parity=True))
    fake = make_table(**bits(rng, 4000, parity=False))
    # four of eight cells hold 1/4 in one table, all eight hold 1/8 in the other: TV = 1/2
    assert triples(Trial(real, real, fake), seed=0)[0].value == pytest.approx(0.5, abs=0.02)
    assert trends(Trial(real, real, fake), seed=0)[0].value > 0.96


def test_a_known_table(make_table):
    real = make_table(x=list("aabb"), y=list("aabb"), z=list("abab"))
    fake = make_table(x=list("aaab"), y=list("aaab"), z=list("abab"))
    # cells of real: 1/4 each of aaa, aab, bba, bbb; of fake: aaa 1/2, aab 1/4, bbb 1/4. TV = 1/4
    found = triples(Trial(real, real, fake), seed=0)
    assert found[0].value == 0.75
    assert [s.group for s in found] == ["all", "columns=x × y × z"]
    assert "1.000" in found[1].note


def test_the_worst_triples_are_those_below_fresh_rows(make_table):
    """A triple of many cells scores low even for real rows; the broken one is named first."""
    rng = np.random.default_rng(1)

    def table(broken):
        n = 1500
        cells = {k: rng.normal(size=n) for k in ("u", "v", "w")}  # many cells, no relation
        cells |= bits(rng, n, parity=not broken)
        return make_table(**cells)

    found = triples(Trial(table(False), table(False), table(True)), seed=0)
    assert found[1].group == "columns=x × y × z"
    assert len(found) == 1 + WORST


def test_many_columns_are_sampled_by_seed(make_table):
    rng = np.random.default_rng(2)
    for n_columns in (12, 60):
        parts = [make_table(**{f"c{i}": rng.normal(size=60) for i in range(n_columns)})] * 3
        one, same, other = (triples(Trial(*parts), seed=s) for s in (0, 0, 1))
        assert repr(one) == repr(same) and one[1].group != other[1].group
    from manikin.metrics.fidelity.triples import _chosen

    chosen = _chosen(60, rng)
    assert chosen.shape == (TRIPLES, 3) and (np.diff(chosen, axis=1) > 0).all()
    assert len(np.unique(chosen, axis=0)) == TRIPLES


def test_two_columns_have_no_triple(make_table):
    part = make_table(x=[1.0, 2], y=[1.0, 2])
    (found,) = triples(Trial(part, part, part), seed=0)
    assert np.isnan(found.value) and "three columns" in found.note
