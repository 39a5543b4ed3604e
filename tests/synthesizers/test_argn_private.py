"""ARGN under a budget: log-linear factors by hand, what is post-processed, conditions, density."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import InputError  # noqa: E402
from manikin.nn import autoregressive  # noqa: E402
from manikin.privacy.budget import Budget  # noqa: E402
from manikin.synthesizer import State  # noqa: E402
from manikin.synthesizers.table import _associations  # noqa: E402
from manikin.synthesizers.table._cells import CodedCells  # noqa: E402
from manikin.synthesizers.table._loglinear import FAR, LogLinear, _column  # noqa: E402
from manikin.synthesizers.table.argn import ARGN  # noqa: E402

SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y")),
        Column("b", "ordinal", categories=("p", "q", "r"), missing=("", "NA")),
        Column("n", "continuous", minimum=-4, maximum=4, decimals=2),
        Column("out", "boolean", categories=("no", "yes"), roles=("target",)),
    ),
    declared=True,
)


def table(n: int = 1500) -> Table:
    rng = np.random.default_rng(0)
    cause = rng.normal(size=n)
    noisy = lambda: cause + 0.5 * rng.normal(size=n)  # noqa: E731
    columns = {
        "a": (noisy() > 0).astype(np.int32),
        "b": np.digitize(noisy(), [-0.5, 0.5]).astype(np.int32),
        "n": np.round(noisy().clip(-4, 4), 2),
        "out": (noisy() > 0.3).astype(np.int32),
    }
    return Table(SCHEMA, np.arange(n), columns)


@pytest.fixture(scope="module")
def model() -> Any:
    return ARGN().fit(table(), seed=1, budget=Budget(20.0))


def coded(*counts: int, ordered: bool = False) -> CodedCells:
    n = len(counts)
    return CodedCells(
        np.zeros(0, np.int64), np.arange(n), np.array(counts), np.zeros(n + 1, np.int64),
        np.zeros(0, np.int64), ordered,
    )  # fmt: skip


# ------------------------------------------------------------------ the network


def test_what_columns_are_seen_as_by_hand() -> None:
    # shares ½ and ½: indicator less its mean is ±½ √2, of variance ½, so it is made ±1
    assert np.allclose(_column(coded(50, 50))[1], [[1], [-1]])
    # one in a hundred: it would be 9.95 long with a variance of one; 3 is the most
    rare = _column(coded(99, 1))[1]
    assert np.abs(rare).max() == pytest.approx(FAR, abs=1e-9)
    # 40 levels: the 16 commonest stand alone, the 24 others are one class
    of, psi = _column(coded(*range(40, 0, -1)))
    assert psi.shape == (17, 17) and (of[:16] == np.arange(16)).all() and (of[16:] == 16).all()
    # ordered: a score and what it bends to, centred, of variances 1 and ¼, and unlike each other
    psi = _column(coded(10, 20, 40, 20, 10, ordered=True))[1]
    share = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    assert np.allclose((psi * share[:, None]).T @ psi, [[1, 0], [0, 0.25]], atol=1e-9)
    assert _column(coded(7))[1].shape == (1, 0)


def test_a_factor_by_hand() -> None:
    network = LogLinear([coded(50, 50), coded(75, 25)])
    with torch.no_grad():
        network.pairs.weight[1, 0] = 0.5
    # ψ_0 = ±1; ψ_1: 1/4 √2 and -3/4 √2 by 1/√(3/8): 0.57735 and -1.73205
    low, high = 0.75 * math.exp(0.5 * 0.57735), 0.25 * math.exp(-0.5 * 1.73205)
    x = torch.tensor([[0, 0], [0, 1]])
    found = network.log_prob(x, autoregressive.visible([0, 1])).detach()
    wanted = np.log([[0.5, low / (low + high)], [0.5, high / (low + high)]])
    assert np.allclose(found, wanted, atol=1e-5)
    blind = network.log_prob(x, autoregressive.visible([1, 0])).detach()
    assert np.allclose(blind.exp(), [[0.5, 0.75], [0.5, 0.25]], atol=1e-5)


def test_all_at_once_is_one_after_another(model: Any) -> None:
    network, order = model.joint.network, model.joint.order
    x = torch.from_numpy(model.joint.draw(50, np.random.default_rng(0)).astype(np.int64))
    whole = network.log_prob(x, autoregressive.visible(order)).detach()
    known = torch.full_like(x, -1)
    for j in order:
        with torch.no_grad():
            one = network.factor(network.view(known), j)
        assert torch.allclose(one.log_prob(x[:, j]).float(), whole[:, j], atol=1e-4)
        assert torch.allclose(one.log_pmf().exp().sum(1), torch.ones(50, dtype=torch.float64))
        known[:, j] = x[:, j]


def test_levels_of_one_class_are_drawn_by_frequency() -> None:
    counts = [200] * 16 + [30, 10]
    network = LogLinear([coded(*counts)])
    uniform = lambda keys: (torch.arange(len(keys)) + 0.5).double() / len(keys)  # noqa: E731
    n = sum(counts)
    with torch.no_grad():
        drawn = network.factor(network.view(torch.full((n, 1), -1)), 0).draw(uniform, None)
    assert np.abs(torch.bincount(drawn, minlength=18).numpy() - counts).max() <= 2


# ------------------------------------------------------------------ what costs nothing


def test_shrinking_by_hand() -> None:
    network = LogLinear([coded(50, 50), coded(50, 50), coded(50, 50)])
    sees = autoregressive.visible([0, 1, 2])
    with torch.no_grad():
        network.pairs.weight.copy_(torch.tensor([[9.0, 9, 9], [0.2, 9, 9], [0.05, 0.4, 9]]))
    _associations._shrink(network, sees, 0.1)
    # 0.2 (1 - 0.02/0.04) = 0.1; 0.05 is less than its noise; 0.4 (1 - 0.02/0.16) = 0.35
    wanted = [[0, 0, 0], [0.1, 0, 0], [0, 0.35, 0]]
    assert np.allclose(network.pairs.weight.detach(), wanted, atol=1e-6)


def test_margins_are_the_counted_ones(model: Any) -> None:
    drawn = model.joint.draw(4000, np.random.default_rng(5))
    for j, cells in enumerate(model.encoding.cells):
        counted = np.maximum(cells.counts, 0.5)
        found = np.bincount(drawn[:, j], minlength=cells.size) / 4000
        assert np.abs(found - counted / counted.sum()).sum() < 0.1


def test_outcomes_come_last_and_context_first(model: Any) -> None:
    names = model.encoding.names
    assert names[model.joint.order[-1]] == "out"
    encoding = model.encoding
    assert _associations.order_of(encoding, [names.index("n")])[0] == names.index("n")


# ------------------------------------------------------------------ the model


def test_any_columns_can_be_given(model: Any) -> None:
    """Forwards as it was trained, backwards as it learnt from its own draws."""
    for given, asked in (("n", "out"), ("out", "n")):
        column = SCHEMA[given]
        low, high = (np.full(1500, v, table(2).columns[given].dtype) for v in (0, 1))
        found = []
        for values in (low, high):
            part = Table(TableSchema((column,), declared=True), np.arange(1500), {given: values})
            found.append(model.sample_given(part, seed=1).columns[asked].astype(float).mean())
        # really 0.3 against 0.74, and -0.45 against 0.75; at ε = 20 noise is a hundredth of that
        assert found[1] - found[0] > (0.25 if asked == "out" else 0.6)


def test_density_tells_the_usual_from_the_odd(model: Any) -> None:
    usual = table(300)
    odd = dataclasses.replace(usual, columns={**usual.columns, "n": -usual.columns["n"]})
    assert model.log_density(usual).mean() > model.log_density(odd).mean() + 0.3


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    arrays = {n: a[:-1] if n.endswith("pairs.bias") else a for n, a in state.arrays.items()}
    with pytest.raises(InputError, match="do not make a model"):
        ARGN().restore(model.schema, State(arrays, state.values))


def test_levels_by_the_thousand_and_columns_of_nothing() -> None:
    n = 200
    schema = TableSchema(
        (
            Column("code", "categorical", categories=tuple(map(str, range(3000)))),
            Column("one", "categorical", categories=("only",)),
            Column("gone", "continuous", minimum=0, maximum=1, decimals=1),
        ),
        declared=True,
    )
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "code": rng.integers(0, 3000, n).astype(np.int32), "one": np.zeros(n, np.int32),
        "gone": np.full(n, np.nan),
    }  # fmt: skip
    found = ARGN(steps=5).fit(Table(schema, np.arange(n), columns), seed=1, budget=Budget(3.0))
    assert np.isfinite(found.log_density(found.sample(50, seed=1))).all()
