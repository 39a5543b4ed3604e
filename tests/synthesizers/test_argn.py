"""ARGN: the chain rule against enumeration, no look ahead, early stop, files of strangers."""

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import ConditionError, InputError, Stopped  # noqa: E402
from manikin.nn import autoregressive  # noqa: E402
from manikin.synthesizer import State  # noqa: E402
from manikin.synthesizers.table._dense import Dense  # noqa: E402
from manikin.synthesizers.table._factors import Factors, basis, log_mass  # noqa: E402
from manikin.synthesizers.table.argn import ARGN  # noqa: E402

SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y")),
        Column("b", "categorical", categories=("p", "q", "r")),
        Column("n", "continuous", decimals=2),
    )
)


def table(n: int = 240) -> Table:
    rng = np.random.default_rng(0)
    cause = rng.normal(size=n)
    columns = {
        "a": (cause + 0.3 * rng.normal(size=n) > 0).astype(np.int32),
        "b": np.digitize(cause + 0.3 * rng.normal(size=n), [-0.5, 0.5]).astype(np.int32),
        "n": np.round(cause + 0.3 * rng.normal(size=n), 2),
    }
    return Table(SCHEMA, np.arange(n), columns)


TINY = ARGN(width=16, embed=4, mixed=2, steps=300)


@pytest.fixture(scope="module")
def model() -> Any:
    return TINY.fit(table(), seed=1)


@pytest.fixture(scope="module")
def rough(model: Any) -> Any:
    """The same model with weights drawn at random: everything depends on everything."""
    state = model.state()
    rng = np.random.default_rng(3)
    arrays = {
        name: (0.5 * rng.normal(size=a.shape)).astype(np.float32)
        if name.startswith("joint/")
        else a
        for name, a in state.arrays.items()
    }
    return TINY.restore(model.schema, State(arrays, state.values))


def truth(model: Any, known: tuple[int, ...] = ()) -> np.ndarray:
    """The probability of every row, as the product of its factors with `known` put first."""
    sizes = model.encoding.sizes
    every = torch.cartesian_prod(*(torch.arange(int(s)) for s in sizes))
    put = torch.zeros(3, dtype=torch.bool)
    put[list(known)] = True
    joint = model.joint
    with torch.no_grad():
        parts = joint.network.log_prob(every, autoregressive.visible(joint.order, put))
    return np.asarray(parts.double().sum(1).exp().view(*map(int, sizes)))


def drawn(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    flat = np.ravel_multi_index(tuple(codes.T), sizes)
    return np.bincount(flat, minlength=int(np.prod(sizes))).reshape(sizes) / len(codes)


# ------------------------------------------------------------------ exactness


def test_the_chain_rule_adds_to_one_and_draws_follow_it(rough: Any) -> None:
    p = truth(rough)
    assert p.sum() == pytest.approx(1, abs=1e-4)
    codes = rough.joint.draw(60_000, np.random.default_rng(1))
    found = drawn(codes, p.shape)
    assert np.abs(found - p).max() < 0.005
    assert np.abs(found.sum(2) - p.sum(2)).max() < 0.008


@pytest.mark.parametrize("known", [{0: 1}, {1: 0}, {2: 3}, {0: 1, 1: 0}, {0: 0, 2: 30}])
def test_given_columns_condition_exactly(rough: Any, known: dict[int, int]) -> None:
    p, codes = truth(rough, tuple(known)), np.full((40_000, 3), -1, np.int32)
    assert p.sum() == pytest.approx(1, abs=1e-4)
    where: list[Any] = [slice(None)] * 3
    for j, code in known.items():
        codes[:, j], where[j] = code, slice(code, code + 1)
    wanted = np.zeros_like(p)
    wanted[tuple(where)] = p[tuple(where)]
    found = drawn(rough.joint.complete(codes, {}, np.random.default_rng(2)), p.shape)
    assert np.abs(found - wanted / wanted.sum()).max() < 0.012


def test_one_restricted_column_is_exact(rough: Any) -> None:
    mask = np.arange(int(rough.encoding.sizes[2])) % 5 == 1
    p = truth(rough, (2,)) * mask
    codes = np.full((40_000, 3), -1, np.int32)
    found = drawn(rough.joint.complete(codes, {2: mask}, np.random.default_rng(2)), p.shape)
    assert np.abs(found - p / p.sum()).max() < 0.012
    with pytest.raises(ConditionError):
        rough.joint.complete(codes[:2], {1: np.zeros(3, bool)}, np.random.default_rng(2))


def test_a_factor_is_what_training_saw(rough: Any) -> None:
    codes = torch.tensor([[0, 1, 4], [1, 2, 20], [1, 0, 33]])
    joint = rough.joint
    with torch.no_grad():
        wanted = joint.network.log_prob(codes, autoregressive.visible(joint.order))
        for j in range(3):
            before = list(joint.order[: joint.order.index(j)])
            shown = torch.full_like(codes, -1)
            shown[:, before] = codes[:, before]
            factor = joint.network.factor(joint.network.view(shown), j)
            assert torch.allclose(factor.log_prob(codes[:, j]), wanted[:, j].double(), atol=1e-4)
            pmf = factor.log_pmf()
            assert torch.allclose(pmf.exp().sum(1), torch.ones(3).double(), atol=1e-5)
            assert torch.allclose(
                pmf.gather(1, codes[:, j : j + 1])[:, 0], factor.log_prob(codes[:, j]), atol=1e-5
            )


def test_no_column_sees_itself_or_later_ones(rough: Any) -> None:
    joint, changed = rough.joint, 0
    codes = torch.tensor([[0, 1, 4], [1, 2, 20]])
    for known in ((), (0,), (2,), (1, 2)):
        put = torch.zeros(3, dtype=torch.bool)
        put[list(known)] = True
        sees = autoregressive.visible(joint.order, put)
        with torch.no_grad():
            before = joint.network.log_prob(codes, sees)
            for i in range(3):
                other = codes.clone()
                other[:, i] = (other[:, i] + 1) % int(rough.encoding.sizes[i])
                after = joint.network.log_prob(other, sees)
                for j in range(3):
                    same = torch.allclose(before[:, j], after[:, j], atol=1e-6)
                    assert same or i == j or sees[j, i]
                    changed += not same and i != j
    assert changed == 4 * 3  # each order has three pairs, and every one of them matters


def test_a_mixture_by_hand() -> None:
    # two logistics of scale 1 at 0 and 2, weights 1/4 and 3/4, between the cuts -1 and 1:
    # σ(1) - σ(-1) = .462117, σ(-1) - σ(-3) = .221516; .25 · .462117 + .75 · .221516 = .281666
    mixture = torch.tensor([[np.log(0.25), np.log(0.75), 0.0, 2.0, 0.0, 0.0]])
    found = log_mass(mixture, torch.tensor([-1.0]), torch.tensor([1.0])).exp()
    assert float(found) == pytest.approx(0.281666, abs=1e-5)


def test_too_many_levels_are_drawn_by_frequency_within_their_group() -> None:
    from manikin.synthesizers.table._cells import CodedCells

    none, many = np.zeros(0, np.int64), np.arange(34, 0, -1)
    cells = (CodedCells(none, np.arange(34), many, np.zeros(35, np.int64), none, False),)
    rng = torch.Generator().manual_seed(0)
    network = Factors(
        Dense.of(cells, most=33), basis(cells), embed=2, width=2, mixed=1, dropout=0.0, rng=rng
    )
    x = torch.full((60_000, 1), -1, dtype=torch.int64)
    source = np.random.default_rng(0)
    whole, _ = autoregressive.complete(
        network, x, [0], lambda keys: torch.from_numpy(source.random(len(keys)))
    )
    found = np.bincount(whole[:, 0], minlength=34) / 60_000
    assert np.abs(found - many / many.sum()).max() < 0.005  # untrained: the frequencies themselves


# ------------------------------------------------------------------ learning


def test_it_learns_how_columns_go_together_in_any_order(model: Any) -> None:
    made = model.sample(3000, seed=1)
    a, b, n = (made.columns[c].astype(float) for c in ("a", "b", "n"))
    assert np.corrcoef(a, n)[0, 1] > 0.5 and np.corrcoef(b, n)[0, 1] > 0.6
    for name in ("a", "b", "n"):
        schema = TableSchema((SCHEMA[name],))
        made = model.sample_given(
            Table(schema, np.arange(240), {name: table().columns[name]}), seed=1
        )
        a, b, n = (made.columns[c].astype(float) for c in ("a", "b", "n"))
        assert np.corrcoef(a, n)[0, 1] > 0.45 and np.corrcoef(b, n)[0, 1] > 0.5, name


def test_columns_of_noise_stay_at_their_frequencies() -> None:
    rng = np.random.default_rng(5)
    noise = Table(SCHEMA, np.arange(200), {
        "a": rng.integers(0, 2, 200).astype(np.int32),
        "b": rng.integers(0, 3, 200).astype(np.int32),
        "n": np.round(rng.normal(size=200), 2),
    })  # fmt: skip
    fitted = TINY.fit(noise, seed=1)
    p = truth(fitted)
    apart = p.sum((1, 2))[:, None, None] * p.sum((0, 2))[None, :, None] * p.sum((0, 1))
    # mutual information in nats: trained to the end it would be nats, not hundredths
    assert float((p * np.log(p / apart)).sum()) < 0.1


def test_training_ends_when_held_out_rows_gain_nothing() -> None:
    steps: list[int] = []

    def watch(progress: Any) -> None:
        if progress.what == "training":
            steps.append(progress.step)

    dataclasses.replace(TINY, rate=0.03, patience=2).fit(table(), seed=1, watch=watch)
    assert 0 < max(steps) < 300


def test_same_seed_same_weights_another_another() -> None:
    short = dataclasses.replace(TINY, steps=20)
    one, two, other = (short.fit(table(), seed=s).state().arrays for s in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_global_random_state_and_threads_are_untouched() -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    dataclasses.replace(TINY, steps=3).fit(table(), seed=1).sample(3, seed=1)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.get_num_threads()


def test_context_leads_the_order_and_must_be_there() -> None:
    short = dataclasses.replace(TINY, steps=3, first=("n",))
    assert short.fit(table(), seed=1).joint.order[0] == 2
    roles = {"a": ("event",), "b": ("target",), "n": ("time",)}
    survival = TableSchema(tuple(dataclasses.replace(c, roles=roles[c.name]) for c in SCHEMA))
    timed = Table(
        survival, table().subjects, {**table().columns, "n": np.abs(table().columns["n"])}
    )
    assert dataclasses.replace(short, first=()).fit(timed, seed=1).joint.order == (1, 0, 2)
    with pytest.raises(InputError, match="first"):
        dataclasses.replace(short, first=("weight",)).fit(table(), seed=1)


# ------------------------------------------------------------------ using it


def test_density_tells_the_usual_from_the_odd(model: Any) -> None:
    usual, odd = ({"a": 1, "b": 2, "n": 1.0}, {"a": 0, "b": 2, "n": -1.0})
    rows = Table(SCHEMA, np.arange(2), {
        name: np.array([usual[name], odd[name]], dtype=np.float64 if name == "n" else np.int32)
        for name in usual
    })  # fmt: skip
    found = model.log_density(rows)
    assert found[0] > found[1] + 1
    p, codes = truth(model), model.encoding.encode(rows, seed=0)
    assert np.allclose(found, [np.log(p[tuple(row)]) for row in codes], atol=1e-4)
    with pytest.raises(InputError, match="without columns: n"):
        model.log_density(Table(TableSchema(SCHEMA.columns[:2]), rows.subjects,
                                {c: rows.columns[c] for c in "ab"}))  # fmt: skip


def test_missing_cells_are_imputed_given_the_others(model: Any) -> None:
    from manikin.synthesizers.table._impute import impute

    real = table()
    some = {name: values.copy() for name, values in real.columns.items()}
    lost = np.arange(240) % 2 == 0
    some["n"][lost] = np.nan
    some["b"][lost[::-1]] = -1
    made = impute(model, Table(SCHEMA, real.subjects, some), seed=1, m=2)
    assert len(made) == 2
    for completed in made:
        assert np.array_equal(completed.columns["n"][~lost], real.columns["n"][~lost])
        assert completed.present("n").all() and completed.present("b").all()
        assert np.corrcoef(completed.columns["n"][lost], real.columns["n"][lost])[0, 1] > 0.5


def test_a_class_is_rebalanced_by_a_condition(model: Any) -> None:
    from manikin.knowledge.conditions import parse_conditions

    made = model.sample_where(200, parse_conditions("b=r", SCHEMA), seed=1)
    assert (made.columns["b"] == 2).all()
    assert made.columns["n"].mean() > table().columns["n"].mean() + 0.5


def test_a_watch_can_stop_it() -> None:
    with pytest.raises(Stopped):
        TINY.fit(table(), seed=1, watch=lambda p: p.what == "training")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="see every row once"):
        dataclasses.replace(TINY, minutes=1e-9, batch=2).fit(table(), seed=1)
    for wrong in ({"width": 1}, {"dropout": 1.0}, {"known": 2.0}, {"rate": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ARGN(**wrong).fit(table(), seed=1)  # type: ignore[arg-type]


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    again = TINY.restore(model.schema, state)
    assert np.array_equal(
        again.sample(9, seed=1).columns["n"], model.sample(9, seed=1).columns["n"]
    )

    def broken(name: str, array: np.ndarray | None) -> State:
        arrays = {k: v for k, v in state.arrays.items() if k != name}
        return State(arrays | ({name: array} if array is not None else {}), state.values)

    weight = "joint/into"
    for name, wrong in (
        (weight, None),
        (weight, state.arrays[weight][:-1]),
        (weight, state.arrays[weight].astype(np.float64)),
        (weight, np.full_like(state.arrays[weight], np.nan)),
        ("joint/more", np.zeros(3, np.float32)),
    ):
        with pytest.raises(InputError):
            TINY.restore(model.schema, broken(name, wrong))
    for order in ([0, 1], [0, 1, 1], [0, 1, 3], [0, 1, 2.0], ["0", "1", "2"], None, 3):
        values = {**state.values, "joint": {"order": order}}
        with pytest.raises(InputError):
            TINY.restore(model.schema, State(state.arrays, values))
    with pytest.raises(InputError):
        ARGN().restore(model.schema, state)
