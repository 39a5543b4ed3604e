"""TVAE: exact conditionals on a tiny case, dense codes by hand, files of strangers, no torch."""

import dataclasses
import importlib
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manikin import catalogue  # noqa: E402
from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import ConditionError, InputError, MissingExtra, Stopped  # noqa: E402
from manikin.synthesizer import State  # noqa: E402
from manikin.synthesizers.table import _dense, _generated  # noqa: E402
from manikin.synthesizers.table._dense import FAR, Dense  # noqa: E402
from manikin.synthesizers.table.tvae import TVAE  # noqa: E402

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


TINY = TVAE(latent=1, width=16, components=2, steps=300)


@pytest.fixture(scope="module")
def model() -> Any:
    return TINY.fit(table(), seed=1)


# ------------------------------------------------------------------ exactness


def truth(model: Any) -> np.ndarray:
    """p(a, b, n) of every cell by quadrature over the one latent."""
    joint = model.joint
    z = torch.linspace(-12, 12, 6001)[:, None]
    with torch.no_grad():
        weight = joint.network.prior.log_density(z).exp().double() * (24 / 6000)
        outputs = joint.network.decoder(z)
        flat = joint.dense.log_softmax(outputs[:, : joint.dense.slots])
        pmf = [joint.dense.log_pmf(outputs, flat, j).exp().double() for j in range(3)]
    return np.asarray(torch.einsum("z,za,zb,zn->abn", weight, *pmf))


def drawn(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    flat = np.ravel_multi_index(tuple(codes.T), sizes)
    return np.bincount(flat, minlength=int(np.prod(sizes))).reshape(sizes) / len(codes)


def test_every_distribution_adds_to_one_and_draws_follow_it(model: Any) -> None:
    p = truth(model)
    assert p.sum() == pytest.approx(1, abs=1e-4)
    codes = model.joint.draw(60_000, np.random.default_rng(1))
    assert np.abs(drawn(codes, p.shape).sum(2) - p.sum(2)).max() < 0.01
    assert np.abs(drawn(codes, p.shape).sum((0, 1)) - p.sum((0, 1))).max() < 0.01


@pytest.mark.parametrize("known", [{0: 1}, {1: 0}, {2: 3}, {0: 1, 1: 0}, {0: 0, 2: 30}])
def test_given_columns_condition_exactly(model: Any, known: dict[int, int]) -> None:
    p, codes = truth(model), np.full((40_000, 3), -1, np.int32)
    where: list[Any] = [slice(None)] * 3
    for j, code in known.items():
        codes[:, j], where[j] = code, slice(code, code + 1)
    wanted = np.zeros_like(p)
    wanted[tuple(where)] = p[tuple(where)]
    wanted /= wanted.sum()
    found = drawn(model.joint.complete(codes, {}, np.random.default_rng(2)), p.shape)
    for other in range(3):
        rest = tuple(j for j in range(3) if j != other)
        assert np.abs(found.sum(rest) - wanted.sum(rest)).max() < 0.02, other
    assert np.abs(found.sum(2) - wanted.sum(2)).max() < 0.02


def test_allowed_codes_condition_exactly(model: Any) -> None:
    p = truth(model)
    mask = np.arange(p.shape[2]) >= p.shape[2] - 5
    codes = np.full((40_000, 3), -1, np.int32)
    allowed = {2: mask, 1: np.array([True, False, True])}
    found = drawn(model.joint.complete(codes, allowed, np.random.default_rng(2)), p.shape)
    wanted = p * mask * np.array([1, 0, 1])[None, :, None]
    assert np.abs(found.sum(2) - wanted.sum(2) / wanted.sum()).max() < 0.02
    with pytest.raises(ConditionError):
        model.joint.complete(codes[:2], {1: np.zeros(3, bool)}, np.random.default_rng(2))


def test_margins_are_those_of_training(model: Any) -> None:
    p = truth(model)
    for j, cells in enumerate(model.encoding.cells):
        rest = tuple(i for i in range(3) if i != j)
        assert np.abs(p.sum(rest) - cells.counts / cells.counts.sum()).max() < 0.02


def test_it_learns_how_columns_go_together(model: Any) -> None:
    made = model.sample(3000, seed=1)
    a, b, n = (made.columns[c].astype(float) for c in ("a", "b", "n"))
    assert np.corrcoef(a, n)[0, 1] > 0.6 and np.corrcoef(b, n)[0, 1] > 0.7


# ------------------------------------------------------------------ looking into it


def test_a_walk_along_the_latent_moves_what_it_causes(model: Any) -> None:
    made = model.traverse(0, steps=7)
    assert made.n_rows == 7
    n = made.columns["n"]
    assert abs(np.corrcoef(np.arange(7), n)[0, 1]) > 0.9
    effects = model.effects()
    assert set(effects) == {"a", "b", "n"} and all(e.shape == (1,) for e in effects.values())
    assert all(0.2 < float(e[0]) <= 1 for e in effects.values())
    with pytest.raises(InputError, match="0 to 0"):
        model.traverse(1)


def test_between_two_rows_lie_rows_in_between(model: Any) -> None:
    real = table()
    ends = real.take(np.array([np.argmin(real.columns["n"]), np.argmax(real.columns["n"])]))
    low, high = np.sort(ends.columns["n"])
    n = model.interpolate(ends, steps=5).columns["n"]
    assert np.all(np.diff(n) * np.sign(n[-1] - n[0]) >= 0)
    assert low <= n[1:-1].min() and n[1:-1].max() <= high
    with pytest.raises(InputError, match="two"):
        model.interpolate(real)


def test_a_row_that_contradicts_itself_is_unusual(model: Any) -> None:
    usual, odd = ({"a": 1, "b": 2, "n": 1.0}, {"a": 0, "b": 2, "n": -1.0})
    rows = Table(SCHEMA, np.arange(2), {
        name: np.array([usual[name], odd[name]], dtype=np.float64 if name == "n" else np.int32)
        for name in usual
    })  # fmt: skip
    scores = model.anomaly(rows)
    assert scores[1] > scores[0] + 1
    p, codes = truth(model), model.encoding.encode(rows, seed=0)
    exact = [-np.log(p[tuple(row)]) for row in codes]
    assert np.allclose(model.anomaly(rows, draws=2000), exact, atol=0.2)
    with pytest.raises(InputError, match="without columns: n"):
        model.anomaly(Table(TableSchema(SCHEMA.columns[:2]), rows.subjects,
                            {c: rows.columns[c] for c in "ab"}))  # fmt: skip


# ------------------------------------------------------------------ dense codes


@pytest.mark.parametrize("few", [2, 300])
def test_codes_go_there_and_back(few: int) -> None:
    from manikin.synthesizers.table.encoding import Encoding

    encoding = Encoding.fit(table(), seed=0)
    codes = torch.from_numpy(encoding.encode(table(), seed=0).astype(np.int64))
    dense = Dense.of(encoding.cells, few=few)
    assert dense.lines == (1 if few == 2 else 0)
    x = dense.inputs(codes)
    assert x.shape == (240, dense.slots + dense.lines)
    assert torch.equal(x[:, : dense.slots].sum(1), torch.full((240,), 3.0))
    chosen = dense.choose(x[:, : dense.slots], torch.rand(240, 3, generator=torch.Generator()))
    back = dense.codes(chosen, x[:, dense.slots :], torch.zeros(240, 3))
    assert torch.equal(back, codes)


def test_gradients_that_are_written_out_are_those_of_automatic_differentiation() -> None:
    rng = torch.Generator().manual_seed(1)
    blocks, slope = ((0, 3, 2), (6, 2, 4)), torch.randn(9, 14, generator=rng)
    logits = torch.randn(9, 14, generator=rng, dtype=torch.float64, requires_grad=True)
    parts = [logits[:, a : a + n * w].reshape(-1, w, n) for a, n, w in blocks]
    for operator, plain in (
        (_dense._LogSoftmax, [torch.log_softmax(part, 1) for part in parts]),
        (_generated._OneHot, [torch.softmax(part, 1) for part in parts]),
    ):
        found = operator.apply(logits, blocks)
        wanted = torch.cat([part.flatten(1) for part in plain], 1)
        one, other = (torch.autograd.grad(x, logits, slope, retain_graph=True)[0]
                      for x in (found, wanted))  # fmt: skip
        assert torch.allclose(one, other)
    assert torch.equal(found.sum(1), torch.full((9,), 5.0).double())  # a draw of five columns
    # means, log scales (one beyond each limit), and ends that lie far apart, near and beyond all
    x = [torch.randn(9, 3, generator=rng, dtype=torch.float64, requires_grad=True)
         for _ in range(2)]  # fmt: skip
    low = torch.tensor([-_dense.FAR, -0.5, 1.0], dtype=torch.float64).expand(9, 3)
    high = torch.tensor([0.2, -0.4, _dense.FAR], dtype=torch.float64).expand(9, 3)
    with torch.no_grad():
        x[1][0], x[1][1] = 1.0, -6.0
    assert torch.autograd.gradcheck(lambda m, s: _dense._LogMass.apply(m, s, low, high), x)


def test_too_many_levels_are_grouped_by_frequency() -> None:
    from manikin.synthesizers.table._cells import CodedCells

    none = np.zeros(0, np.int64)
    counts = np.array([2, 8, 3, 1, 5, 1])
    cells = CodedCells(none, np.arange(6), counts, np.zeros(7, np.int64), none, False)
    # of at most 33 + … none is grouped; of 34 levels and 33 categories the two rarest share one
    assert Dense.of((cells,)).category.tolist() == [[0, 1, 2, 3, 4, 5]]
    many = np.arange(34, 0, -1)
    wide = CodedCells(none, np.arange(34), many, np.zeros(35, np.int64), none, False)
    dense = Dense.of((wide,), most=33)
    groups = dense.category[0].tolist()
    # 33 - 32 = 1 stays alone, 33 levels for 32 groups: rank 1 + (i - 1) 32 // 33
    assert groups == [0, *(1 + (i - 1) * 32 // 33 for i in range(1, 34))]
    shares = dense.log_share[0].exp()
    # ranks 1 and 2 (33 and 32 rows) share the first group: 33 / 65
    assert shares[1] == pytest.approx(33 / 65) and shares[2] == pytest.approx(32 / 65)
    rng = torch.Generator().manual_seed(1)
    chosen, uniform = torch.ones(20_000, 1, dtype=torch.int64), torch.rand(20_000, 1, generator=rng)
    found = dense.codes(chosen, torch.zeros(20_000, 0), uniform)[:, 0]
    assert set(found.tolist()) == {1, 2}
    assert float((found == 1).double().mean()) == pytest.approx(33 / 65, abs=0.02)


def test_the_line_is_cut_at_normal_quantiles(model: Any) -> None:
    from manikin.synthesizers.table._cells import learn_numeric

    values = np.arange(200.0)
    cells = learn_numeric(values, np.zeros(200, np.int8), np.arange(200), decimals=0, least=None,
                          most=None, k=5, rng=np.random.default_rng(0))  # fmt: skip
    dense = Dense.of((cells,))
    assert cells.size == 40 and dense.lines == 1
    # 40 codes of 5 rows: the first inner cut at the 2.5 % quantile, -1.96; the middle one at 0
    assert float(dense.cuts[0, 1]) == pytest.approx(-1.959964, abs=1e-4)
    assert float(dense.cuts[0, 20]) == pytest.approx(0.0, abs=1e-6)
    assert float(dense.cuts[0, 0]) == -FAR and float(dense.cuts[0, -1]) == FAR
    # a logistic at 0 of scale 1 puts σ(0) - σ(-1.96) = .5 - .123468 below the median cut, from 1
    place = torch.arange(40)[:, None]
    mass = dense.log_mass(torch.zeros(40, 1), torch.zeros(40, 1), place).exp()
    assert float(mass[1:20].sum()) == pytest.approx(0.5 - 0.123468, abs=1e-4)
    assert float(mass.sum()) == pytest.approx(1, abs=1e-5)


# ------------------------------------------------------------------ the house


def test_global_random_state_and_threads_are_untouched(model: Any) -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    dataclasses.replace(TINY, steps=3).fit(table(), seed=1).sample(3, seed=1)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.get_num_threads()


def test_a_watch_can_stop_it() -> None:
    with pytest.raises(Stopped):
        TINY.fit(table(), seed=1, watch=lambda p: p.what == "training")


def test_time_too_short_for_one_pass_is_an_error() -> None:
    with pytest.raises(InputError, match="see every row once"):
        dataclasses.replace(TINY, minutes=1e-9, batch=2).fit(table(), seed=1)
    with pytest.raises(InputError, match="width from 1"):
        TVAE(width=0).fit(table(), seed=1)


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    again = TINY.restore(model.schema, state)
    assert np.array_equal(
        again.sample(9, seed=1).columns["n"], model.sample(9, seed=1).columns["n"]
    )

    def broken(name: str, array: np.ndarray | None) -> State:
        arrays = {k: v for k, v in state.arrays.items() if k != name}
        return State(arrays | ({name: array} if array is not None else {}), state.values)

    weight, cuts = "joint/decoder.last.weight", "joint/cuts"
    for name, wrong in (
        (weight, None),
        (weight, state.arrays[weight][:-1]),
        (weight, state.arrays[weight].astype(np.float64)),
        (weight, np.full_like(state.arrays[weight], np.nan)),
        (cuts, state.arrays[cuts][:, ::-1]),
        ("joint/more", np.zeros(3, np.float32)),
    ):
        with pytest.raises(InputError):
            TINY.restore(model.schema, broken(name, wrong))
    with pytest.raises(InputError):
        TVAE().restore(model.schema, state)


def test_without_torch_the_install_line_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "manikin.synthesizers.table.tvae"
    catalogue.installed()  # scipy cannot be imported beside a torch that is None
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"pip install 'manikin\[deep\]'"):
        catalogue.build("table/tvae")
    assert "table/tvae" in catalogue.names()
    assert "table/tvae" not in catalogue.installed() and "table/copula" in catalogue.installed()
    assert catalogue.entry("table/tvae").summary.startswith("TVAE")
    monkeypatch.undo()
    importlib.import_module(name)
