"""Edges taken out of a Bayesian network: tables by hand, gaps, conditions, files."""

from dataclasses import replace

import numpy as np
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import Edited, State
from manikin.synthesizers.table._net_cut import without
from manikin.synthesizers.table.bayes_net import BayesNet

SCHEMA = TableSchema((
    Column("sex", "categorical", categories=("F", "M")),
    Column("job", "categorical", categories=("care", "craft")),
    Column("income", "boolean", categories=("low", "high")),
    Column("always", "categorical", categories=("x",)), Column("age", "integer"),
))  # fmt: skip


def people(n: int = 3000, mediated: bool = False) -> Table:
    """Income follows sex; where mediated, by way of the job only."""
    rng = np.random.default_rng(1)
    sex = rng.integers(0, 2, n)
    job = np.where(rng.random(n) < 0.9, sex, 1 - sex) if mediated else rng.integers(0, 2, n)
    high = np.array([0.1, 0.9])[job if mediated else sex]
    return Table(SCHEMA, np.arange(n), {
        "sex": sex.astype(np.int32), "job": job.astype(np.int32),
        "income": (rng.random(n) < high).astype(np.int32), "always": np.zeros(n, np.int32),
        "age": np.round(rng.normal(40, 9, n)),
    })  # fmt: skip


def gap(table: Table, group: str = "sex") -> float:
    one, other = (table.columns["income"][table.columns[group] == k].mean() for k in (0, 1))
    return abs(float(one - other))


# ------------------------------------------------------------------ tables by hand
def test_a_parent_is_summed_out_by_its_own_distribution() -> None:
    # P(a = 1) = .25; P(b = 1 | a) = .2, .6: without the edge .75 x .2 + .25 x .6 = .3
    parents = ((), (0,))
    tables = (np.array([0.75, 0.25]), np.array([[0.8, 0.2], [0.4, 0.6]]))
    new, cut, left = without(parents, tables, [(0, 1)])
    assert new == ((), ()) and left.tolist() == [False]
    np.testing.assert_allclose(cut[1], [0.7, 0.3])
    np.testing.assert_allclose(cut[0], tables[0])


def test_other_parents_stay_and_their_axes_too() -> None:
    # c given a and b: c = 1 has chance .1 + .2 a + .4 b; P(a = 1) = .5, P(b = 1 | a) = a
    table = np.empty((2, 2, 2))
    for a in (0, 1):
        for b in (0, 1):
            table[a, b] = 1 - (0.1 + 0.2 * a + 0.4 * b), 0.1 + 0.2 * a + 0.4 * b
    parents = ((), (0,), (0, 1))
    tables = (np.array([0.5, 0.5]), np.eye(2), table)
    new, cut, left = without(parents, tables, [(0, 2)])
    assert new == ((), (0,), (1,)) and left.tolist() == [True, False, True]
    np.testing.assert_allclose(cut[2][:, 1], [0.2, 0.6])  # .1 + .2 x .5 + .4 b
    # b is nobody's root: its distribution is that of the whole network, one half
    _, cut, _ = without(parents, tables, [(1, 2)])
    np.testing.assert_allclose(cut[2][:, 1], [0.3, 0.5])  # .1 + .4 x .5 + .2 a
    # both at once are drawn apart: .1 + .1 + .2
    new, cut, left = without(parents, tables, [(0, 2), (1, 2)])
    assert new[2] == () and left.tolist() == [True, False, False]
    np.testing.assert_allclose(cut[2], [0.6, 0.4])


# ------------------------------------------------------------------ models
def test_the_gap_is_large_before_and_gone_after() -> None:
    model = BayesNet(remove=("sex->income",)).fit(people(), seed=1)
    assert isinstance(model, Edited)
    before = model.unedited()
    assert before is not None and ("sex", "income") in {
        (edge.source, edge.target) for edge in before.graph().edges
    }
    assert gap(people()) > 0.3 and gap(before.sample(8000, seed=2)) > 0.3
    after = model.sample(8000, seed=2)
    assert gap(after) < 0.05
    # what is drawn under a condition does not draw along it either, and shares stay
    men = model.sample_where(4000, (Condition("sex", "=", ("M",)),), seed=3)
    assert abs(men.columns["income"].mean() - people().columns["income"].mean()) < 0.05
    rich = model.sample_where(4000, (Condition("income", "=", ("high",)),), seed=3)
    assert abs(rich.columns["sex"].mean() - 0.5) < 0.05


def test_a_way_round_stays_open_until_it_is_taken_out_too() -> None:
    data = people(mediated=True)
    direct = BayesNet(remove=("sex->income",), roots=("sex",)).fit(data, seed=1)
    assert gap(direct.sample(8000, seed=2)) > 0.3, "by way of the job"
    both = BayesNet(remove=("sex->income", "sex->job"), roots=("sex",)).fit(data, seed=1)
    drawn = both.sample(8000, seed=2)
    assert gap(drawn) < 0.05 and gap(drawn, "job") > 0.3, "what the job tells stays"


def test_an_edge_is_learnt_the_way_it_is_to_be_removed() -> None:
    for edge in ("sex->income", "income->sex"):
        model = BayesNet(remove=(edge,)).fit(people(), seed=1)
        assert model.removed == (tuple(edge.split("->")),)
        assert gap(model.sample(8000, seed=2)) < 0.05


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"remove": ("sex->wage",)}, "unknown column"),
        ({"remove": ("always->income",)}, "constant"),
        ({"remove": ("sex->income",), "forbid": ("sex->income",)}, "forbidden"),
        ({"remove": ("sex->income",), "edges": ("income->sex",)}, "cycle"),
    ],
)
def test_edges_that_cannot_be_taken_out(settings: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BayesNet(**settings).fit(people(300), seed=1)  # type: ignore[arg-type]


def test_without_edges_to_remove_nothing_is_edited() -> None:
    model = BayesNet().fit(people(300), seed=1)
    assert model.removed == () and model.unedited() is None
    assert "joint/removed" not in model.state().arrays


def test_a_model_comes_back_as_it_was_and_a_forged_one_does_not() -> None:
    recipe = BayesNet(remove=("sex->income",))
    model = recipe.fit(people(500), seed=1)
    again = recipe.restore(model.schema, model.state())
    assert again.removed == model.removed and again.unedited() is None
    one, other = (m.sample(50, seed=3) for m in (model, again))
    assert all(np.array_equal(one.columns[c], other.columns[c]) for c in one.columns)
    state = model.state()
    for forged in (np.array([[0, 99]]), np.array([[-1, 0]]), np.array([0, 1]), np.ones((1, 2))):
        arrays = {**state.arrays, "joint/removed": forged}
        with pytest.raises(InputError, match="no Bayesian network"):
            recipe.restore(model.schema, State(arrays, state.values))
    assert replace(recipe, remove=()) == BayesNet()
