"""The recipe and the model of a Bayesian network: edges given and ruled out, answers, files."""

from typing import Any

import numpy as np
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import State
from manikin.synthesizers.table import _net_search as search
from manikin.synthesizers.table.bayes_net import BayesNet

WARD = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("age", "integer"),
        Column("stage", "ordinal", categories=("I", "II", "III")),
        Column("died", "boolean", categories=("no", "yes"), roles=("target",)),
        Column("crp", "continuous", decimals=1),
        Column("always", "categorical", categories=("x",)),
        Column("age in months", "integer"),
    )
)


def ward(n: int = 800, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    age = np.round(rng.normal(60, 12, n))
    stage = np.clip((age + rng.normal(0, 9, n) - 50) // 10, 0, 2).astype(np.int32)
    died = (rng.random(n) < np.array([0.05, 0.3, 0.8])[stage]).astype(np.int32)
    crp = np.round(np.exp(rng.normal(1 + died, 0.6, n)), 1)
    crp[rng.random(n) < 0.2] = np.nan
    columns = {
        "sex": rng.integers(0, 2, n).astype(np.int32), "age": age, "stage": stage,
        "died": died, "crp": crp, "always": np.zeros(n, np.int32), "age in months": 12 * age,
    }  # fmt: skip
    return Table(WARD, np.arange(n), columns)


def pairs(model: Any) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in model.graph().edges}


# ------------------------------------------------------------------ edges


@pytest.mark.parametrize("structure", ["climb", "tree"])
def test_the_chain_of_the_ward_is_found(structure: Any) -> None:
    found = pairs(BayesNet(structure=structure, score="bic").fit(ward(2000), seed=1))
    undirected = {frozenset(pair) for pair in found}
    for pair in (("age", "stage"), ("stage", "died"), ("died", "crp")):
        assert frozenset(pair) in undirected
    assert not any("sex" in pair for pair in undirected)


def test_a_given_graph_is_taken_as_it_is() -> None:
    edges = ("sex->died", "age in months->died", "always->died", "died->crp")
    model = BayesNet(structure="given", edges=edges).fit(ward(), seed=1)
    # months follow from age, which stands for them; a constant says nothing
    assert {frozenset(pair) for pair in pairs(model)} == {
        frozenset(pair) for pair in (("sex", "died"), _age(model, "died"), ("died", "crp"))
    }
    assert all(edge.given for edge in model.graph().edges)
    assert model.graph().how == "Every edge was given."
    assert model.sample(50, seed=1).n_rows == 50


def _age(model: Any, other: str) -> tuple[str, str]:
    """Return an edge of whichever of the two ages is modelled."""
    return (next(name for name in model.encoding.names if name.startswith("age")), other)


def test_edges_asked_for_and_ruled_out() -> None:
    recipe = BayesNet(
        edges=("sex->crp",), forbid=("stage->died", "died->stage", "crp->*"), roots=("age", "sex")
    )
    found = pairs(recipe.fit(ward(), seed=1))
    assert ("sex", "crp") in found
    assert not found & {("stage", "died"), ("died", "stage")}
    assert not any(t.startswith("age") or t == "sex" or s == "crp" for s, t in found)
    recipe = BayesNet(structure="tree", edges=("sex->crp",), roots=("age",))
    tree = pairs(recipe.fit(ward(), seed=1))
    assert ("sex", "crp") in tree and not any(target.startswith("age") for _, target in tree)
    assert max(sum(t == name for _, t in tree) for name in ("stage", "died", "crp")) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"edges": ("age->dead",)}, "unknown column 'dead'"),
        ({"edges": ("age->age",)}, "age->age"),
        ({"edges": ("age->stage", "stage->died", "died->age")}, "cycle"),
        ({"edges": ("age->died", "died->age in months")}, "cycle"),
        ({"edges": ("age->died",), "forbid": ("age->died",)}, "asked for and forbidden"),
        ({"edges": ("sex->age",), "roots": ("age",)}, "asked for and forbidden"),
        ({"edges": ("*->died",)}, "unknown column '*'"),
        ({"forbid": ("age",)}, "an edge 'age'"),
        ({"roots": ("nobody",)}, "unknown column 'nobody'"),
        ({"structure": "given"}, "without edges"),
        ({"bins": 1}, "bins"),
        ({"parents": 0}, "parents"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"smoothing": float("nan")}, "smoothing"),
        ({"resamples": -1}, "resamples"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_reason(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        BayesNet(**wrong).fit(ward(100), seed=1)
    assert said in str(caught.value) and "\n" not in caught.value.given
    assert caught.value.allowed and caught.value.todo


def test_a_given_family_that_is_too_large_gets_coarser_bins() -> None:
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(9)]
    schema = TableSchema(tuple(Column(name, "continuous", decimals=2) for name in names))
    table = Table(schema, np.arange(3000), {name: rng.normal(size=3000).round(2) for name in names})
    edges = tuple(f"{name}->x8" for name in names[:8])
    model = BayesNet(structure="given", edges=edges).fit(table, seed=1)
    assert model.joint.tables[8].ndim == 9 and model.joint.tables[8].size <= search.MAX_FAMILY
    assert model.sample(10, seed=1).n_rows == 10


def test_a_family_that_no_bins_make_small_is_refused() -> None:
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(18)]
    schema = TableSchema(tuple(Column(c, "categorical", categories=("p", "q")) for c in names))
    draws = rng.integers(0, 2, (18, 200)).astype(np.int32)
    table = Table(schema, np.arange(200), dict(zip(names, draws, strict=True)))
    edges = tuple(f"{name}->x17" for name in names[:17])
    with pytest.raises(InputError, match="fewer parents"):
        BayesNet(structure="given", edges=edges).fit(table, seed=1)


def test_strength_is_in_bits_and_found_a_share() -> None:
    n = 600
    half = (np.arange(n) % 2).astype(np.int32)
    third = (np.arange(n) % 3 == 0).astype(np.int32)
    noisy = np.where(np.arange(n) < 6, 1 - half, half).astype(np.int32)  # no function of half
    schema = TableSchema(tuple(Column(c, "categorical", categories=("p", "q")) for c in "abc"))
    table = Table(schema, np.arange(n), {"a": half, "b": noisy, "c": third})
    model = BayesNet(resamples=5, score="bic").fit(table, seed=1)
    edges = model.graph().edges
    assert [{edge.source, edge.target} for edge in edges] == [{"a", "b"}]
    # one bit less the entropy of an error in a hundred, 0.0808
    assert edges[0].strength == pytest.approx(1 - 0.0808, abs=1e-4)
    assert edges[0].found == 1.0 and not edges[0].given
    assert f'"{edges[0].source}" -> "{edges[0].target}" [label="0.919"' in model.dot()
    assert "0.919 bits, found in 100 % of resamples" in model.svg()


def test_resamples_take_subjects_whole() -> None:
    several = Table(WARD, np.arange(300) // 3, ward(300).columns)
    found = BayesNet(resamples=4).fit(several, seed=1).graph().edges
    assert found and all(edge.found is not None and 0 <= edge.found <= 1 for edge in found)
    assert found == BayesNet(resamples=4).fit(several, seed=1).graph().edges


# ------------------------------------------------------------------ answers


def test_what_is_given_is_answered_exactly() -> None:
    """Shares of drawn rows against the posterior, and that against counting in the data."""
    table = ward(6000)
    model = BayesNet().fit(table, seed=1)
    at = model.encoding.names.index
    schema = TableSchema((WARD["stage"],))
    for level in range(3):
        asked = Table(schema, np.arange(20_000), {"stage": np.full(20_000, level, np.int32)})
        drawn = model.sample_given(asked, seed=1).columns["died"].mean()
        real = table.columns["died"][table.columns["stage"] == level].mean()
        codes = np.full((1, len(model.encoding.names)), -1, np.int32)
        codes[0, at("stage")] = level
        exactly = model.joint.posterior(codes, {}, at("died"))
        assert exactly.sum() == pytest.approx(1)
        assert abs(drawn - exactly[0, 1]) < 0.005
        assert abs(exactly[0, 1] - real) < 0.02


def test_a_condition_changes_what_is_above_and_below() -> None:
    real = ward(4000)
    made = BayesNet().fit(real, seed=1)
    dead = made.sample_where(4000, (Condition("died", "=", ("yes",)),), seed=1)
    died = real.take(np.flatnonzero(real.columns["died"] == 1))
    assert abs(dead.columns["age"].mean() - died.columns["age"].mean()) < 1.0
    logs = [np.nanmean(np.log(table.columns["crp"] + 0.1)) for table in (dead, died)]
    assert abs(logs[0] - logs[1]) < 0.08


def test_more_levels_than_a_byte_holds() -> None:
    """Level codes of 300 categories overflowed a byte in a peer's implementation."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(300, dtype=np.int32), 20)
    other = (codes // 150 + (rng.random(codes.size) < 0.05)) % 2
    schema = TableSchema(
        (
            Column("icd", "categorical", categories=tuple(f"D{i:03d}" for i in range(300))),
            Column("half", "categorical", categories=("low", "high")),
        )
    )
    table = Table(schema, np.arange(codes.size), {"icd": codes, "half": other.astype(np.int32)})
    made = BayesNet().fit(table, seed=1).sample(6000, seed=1)
    assert np.unique(made.columns["icd"]).size > 280
    agree = (made.columns["icd"] // 150 == made.columns["half"]).mean()
    assert abs(agree - 0.95) < 0.03


# ------------------------------------------------------------------ files of strangers


def tampered(model: Any, name: str, change: Any) -> State:
    state = model.state()
    arrays = {key: array.copy() for key, array in state.arrays.items()}
    arrays[f"joint/{name}"] = change(arrays[f"joint/{name}"])
    return State(arrays, state.values)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("table", lambda a: a * np.nan),
        ("table", lambda a: -a),
        ("table", lambda a: a + 0.1),
        ("table", lambda a: a[..., :-1]),
        ("table", lambda a: a.reshape(-1)),
        ("bin", lambda a: a + 1),
        ("bin", lambda a: a - 1),
        ("bin", lambda a: a[:-1]),
        ("bin", lambda a: a.astype(float)),
        ("share", lambda a: -a),
        ("share", lambda a: a * 2),
        ("share", lambda a: np.full_like(a, np.inf)),
        ("parents", lambda a: a + 99),
        ("parents", lambda a: a - 99),
        ("parents", lambda a: a.astype(float)),
        ("parents", lambda a: np.concatenate([a, a])),
        ("parents", lambda a: a[:0]),
    ],
)
def test_a_file_of_a_stranger_is_refused(part: str, change: Any) -> None:
    model = BayesNet().fit(ward(200), seed=1)
    child = next(j for j, above in enumerate(model.joint.parents) if above)
    with pytest.raises(InputError):
        BayesNet().restore(model.schema, tampered(model, f"{child}/{part}", change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("strength", lambda a: a[:-1]),
        ("strength", lambda a: a * np.nan),
        ("strength", lambda a: a.astype(np.int64)),
        ("given", lambda a: a.astype(float)),
        ("found", lambda a: np.zeros(99)),
    ],
)
def test_edges_of_a_stranger_are_refused(name: str, change: Any) -> None:
    model = BayesNet().fit(ward(200), seed=1)
    with pytest.raises(InputError):
        BayesNet().restore(model.schema, tampered(model, name, change))


def test_a_strangers_cycle_is_refused() -> None:
    model = BayesNet(structure="given", edges=("stage->died", "died->crp")).fit(ward(200), seed=1)
    at = {name: j for j, name in enumerate(model.encoding.names)}
    state = tampered(model, f"{at['stage']}/parents", lambda a: np.array([at["crp"]]))
    with pytest.raises(InputError):
        BayesNet().restore(model.schema, state)
    assert BayesNet().restore(model.schema, model.state()).graph() == model.graph()
    missing = {k: v for k, v in model.state().arrays.items() if k != "joint/0/table"}
    with pytest.raises(InputError):
        BayesNet().restore(model.schema, State(missing, model.state().values))
