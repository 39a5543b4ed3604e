"""TabDiff: conditions on a small table, margins, guidance, files of strangers."""

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manikin.data.randomness import generator  # noqa: E402
from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import ConditionError, InputError, Stopped  # noqa: E402
from manikin.synthesizer import State  # noqa: E402
from manikin.synthesizers.table import _denoiser  # noqa: E402
from manikin.synthesizers.table._dense import Dense  # noqa: E402
from manikin.synthesizers.table.encoding import Encoding  # noqa: E402
from manikin.synthesizers.table.tabdiff import TabDiff  # noqa: E402

SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y"), roles=("target",)),
        Column("b", "categorical", categories=("p", "q", "r")),
        Column("n", "continuous", decimals=2),
        Column("m", "continuous", decimals=2),
    )
)


def table(n: int = 240) -> Table:
    rng = np.random.default_rng(0)
    cause = rng.normal(size=n)
    m = np.round(cause + 0.3 * rng.normal(size=n), 2)
    columns = {
        "a": (cause + 0.3 * rng.normal(size=n) > 0).astype(np.int32),
        "b": np.digitize(cause + 0.3 * rng.normal(size=n), [-0.5, 0.5]).astype(np.int32),
        "n": np.round(cause + 0.3 * rng.normal(size=n), 2),
        "m": np.where(rng.random(n) < 0.2, np.nan, m),
    }
    return Table(SCHEMA, np.arange(n), columns)


TINY = TabDiff(width=32, depth=1, steps=250, draws=24)


@pytest.fixture(scope="module")
def model() -> Any:
    return TINY.fit(table(), seed=1)


# ------------------------------------------------------------------ what is learnt


def test_margins_are_those_of_training(model: Any) -> None:
    codes = model.joint.draw(8000, generator(2, "test"))
    for j, cells in enumerate(model.encoding.cells):
        found = np.bincount(codes[:, j], minlength=cells.size) / 8000
        assert np.abs(found - cells.counts / cells.counts.sum()).max() < 0.03, j


def test_it_learns_how_columns_go_together(model: Any) -> None:
    made = model.sample(3000, seed=1)
    a, b, n, m = (made.columns[c].astype(float) for c in "abnm")
    there = made.present("m")
    # in truth: .76, .83 and 1 / 1.09 = .92
    assert np.corrcoef(a, n)[0, 1] > 0.6 and np.corrcoef(b, n)[0, 1] > 0.7
    assert 0.8 < np.corrcoef(n[there], m[there])[0, 1] < 0.97


def test_a_network_that_says_nothing_draws_a_gaussian_copula() -> None:
    quiet = dataclasses.replace(TINY, rate=1e-9).fit(table(), seed=1)
    made = quiet.sample(4000, seed=1)
    there = made.present("m")
    n, m = made.columns["n"][there], made.columns["m"][there]
    assert np.corrcoef(n, m)[0, 1] == pytest.approx(0.92, abs=0.05)


def test_scores_that_rows_lack_are_drawn_given_the_others() -> None:
    encoding = Encoding.fit(table(), seed=0)
    dense = Dense.of(encoding.cells, few=8)
    codes = torch.from_numpy(encoding.encode(table(), seed=0).astype(np.int64))
    clean = _denoiser.Clean.of(dense, codes, torch.Generator().manual_seed(1))
    place = dense.place[torch.arange(2), codes[:, dense.numbers]]
    lacking = place[:, 1] < 0
    assert 30 < int(lacking.sum()) < 70
    x = torch.special.ndtri((clean.low + clean.high) / 2)
    # the filled ones follow the other column as those that are there do
    for rows in (lacking, ~lacking):
        assert float(torch.corrcoef(x[rows].T)[0, 1]) > 0.75
    assert torch.equal(clean.low[lacking, 1], clean.high[lacking, 1])
    assert bool((clean.low[~lacking] < clean.high[~lacking]).all())


def test_slots_know_their_columns(model: Any) -> None:
    dense = model.joint.dense
    owner = _denoiser.owners(dense)
    for j, size in enumerate((2, 3, 1, 2)):  # n: its line alone; m: missing, or on the line
        slots = dense.start[j] + torch.arange(size) * dense.stride[j]
        assert (owner[slots] == j).all()
    assert _denoiser.places_that_count(dense).tolist() == [True, True, False, True]


# ------------------------------------------------------------------ conditions


@pytest.mark.parametrize("known", [{0: 1}, {1: 0}, {2: 3}, {0: 1, 1: 2}])
def test_given_codes_move_the_others(model: Any, known: dict[int, int]) -> None:
    codes = np.full((3000, 4), -1, np.int32)
    for j, code in known.items():
        codes[:, j] = code
    made = model.joint.complete(codes, {}, generator(3, "test"))
    for j, code in known.items():
        assert (made[:, j] == code).all()
    assert made.min() >= 0
    free = model.joint.draw(20_000, generator(4, "test"))
    some = np.all([np.abs(free[:, j] - code) <= (j >= 2) for j, code in known.items()], axis=0)
    for j in {0, 1, 2} - set(known):
        assert abs(made[:, j].mean() - free[some][:, j].mean()) < 0.12 * (1 + np.ptp(free[:, j]))


@pytest.mark.parametrize("known", [{1: 0}, {0: 1, 1: 2}])
def test_categories_that_all_rows_share_give_the_rows_that_have_them(
    model: Any, known: dict[int, int]
) -> None:
    codes = np.full((6000, 4), -1, np.int32)
    codes[:, list(known)] = list(known.values())
    made = model.joint.complete(codes, {}, generator(3, "test"))
    free = model.joint.draw(40_000, generator(4, "test"))
    right = free[np.all([free[:, j] == code for j, code in known.items()], axis=0)]
    assert len(right) > 2000 and (made[:, list(known)] == list(known.values())).all()
    for j in set(range(4)) - set(known):  # total variation in bins of a tenth of the rows
        edges = np.unique(np.quantile(free[:, j], np.linspace(0, 1, 11)[1:-1]))
        a, b = (np.bincount(np.searchsorted(edges, x[:, j]), minlength=10) for x in (made, right))
        assert 0.5 * np.abs(a / len(made) - b / len(right)).sum() < 0.13
    # numbers that explain the categories equally well are not copies of one another
    assert len(np.unique(made[:, 2:], axis=0)) > 0.7 * len(np.unique(right[:6000, 2:], axis=0))


def test_allowed_codes_are_kept_and_move_the_others(model: Any) -> None:
    sizes = [cells.size for cells in model.encoding.cells]
    high = np.arange(sizes[2]) >= sizes[2] - 4
    free = np.full((1500, 4), -1, np.int32)
    rng = generator(5, "test")
    made = model.joint.complete(free, {2: high, 1: np.array([True, False, True])}, rng)
    assert high[made[:, 2]].all() and (made[:, 1] != 1).all()
    assert made[:, 0].mean() > 0.9 and (made[:, 1] == 2).mean() > 0.9  # the top tenth of n
    only = model.joint.complete(free, {1: np.array([True, False, False])}, rng)
    assert (only[:, 1] == 0).all() and only[:, 0].mean() < 0.25
    with pytest.raises(ConditionError):
        model.joint.complete(free[:2], {1: np.zeros(3, bool)}, rng)


def test_a_condition_that_no_draw_meets_is_met_all_the_same(model: Any) -> None:
    size = model.encoding.cells[2].size
    free = np.full((40, 4), -1, np.int32)
    # n at its lowest, a = y and b = r: next to nobody
    allowed = {0: np.array([False, True]), 1: np.array([False, False, True]),
               2: np.arange(size) == 0}  # fmt: skip
    made = model.joint.complete(free, allowed, generator(6, "test"))
    assert (made[:, :3] == [1, 2, 0]).all()


def test_known_codes_win_over_allowed_ones(model: Any) -> None:
    codes = np.full((50, 4), -1, np.int32)
    codes[:25, 1] = 1
    made = model.joint.complete(codes, {1: np.array([True, False, False])}, generator(7, "test"))
    assert made[:, 1].tolist() == [1] * 25 + [0] * 25


# ------------------------------------------------------------------ guidance


def test_guidance_zero_is_none_and_more_pushes_towards_the_target(model: Any) -> None:
    codes = np.full((1500, 4), -1, np.int32)
    codes[1:, 0], codes[0, 0] = 1, 0  # rows of which the same is known go another way
    state, means = model.state(), []
    for guidance in (0.0, 1e-12, 2.0):
        pushed = dataclasses.replace(TINY, guidance=guidance).restore(SCHEMA, state)
        means.append(pushed.joint.complete(codes, {}, generator(8, "test")))
    assert np.array_equal(means[0], means[1])
    assert means[2][:, 2].mean() > means[0][:, 2].mean() + 1
    assert np.array_equal(means[0], model.joint.complete(codes, {}, generator(8, "test")))


def test_guidance_needs_a_target_of_categories() -> None:
    bare = TableSchema(tuple(dataclasses.replace(c, roles=()) for c in SCHEMA.columns))
    number = TableSchema((*bare.columns[:2], dataclasses.replace(bare["n"], roles=("target",)),
                          bare["m"]))  # fmt: skip
    recipe = dataclasses.replace(TINY, guidance=1.0, steps=2)
    for schema in (bare, number):
        with pytest.raises(InputError, match="target of categories"):
            recipe.fit(dataclasses.replace(table(), schema=schema), seed=1)


# ------------------------------------------------------------------ odd tables


def test_categories_alone_and_numbers_alone() -> None:
    whole = table()
    for names in (("a", "b"), ("n",)):
        schema = TableSchema(tuple(SCHEMA[n] for n in names))
        part = Table(schema, whole.subjects, {n: whole.columns[n] for n in names})
        made = dataclasses.replace(TINY, steps=60).fit(part, seed=1).sample(500, seed=1)
        assert made.n_rows == 500 and set(made.columns) == set(names)


def test_more_categories_than_steps_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"c{i}" for i in range(9))
    schema = TableSchema(tuple(Column(n, "categorical", categories=("0", "1")) for n in names))
    columns = {n: rng.integers(0, 2, 80).astype(np.int32) for n in names}
    few = dataclasses.replace(TINY, draws=4, steps=20)
    made = few.fit(Table(schema, np.arange(80), columns), seed=1).sample(300, seed=1)
    assert all(0.2 < made.columns[n].mean() < 0.8 for n in names)


# ------------------------------------------------------------------ the house


def test_every_tensor_of_a_step_is_on_the_network_s_device() -> None:
    # "meta" stands in for a GPU: an operation on tensors of two devices fails on it too
    encoding = Encoding.fit(table(), seed=0)
    dense = Dense.of(encoding.cells, few=8)
    codes = torch.from_numpy(encoding.encode(table(), seed=0).astype(np.int64))
    rng = torch.Generator().manual_seed(1)
    clean = _denoiser.Clean.of(dense, codes, rng)
    network = _denoiser.Denoiser(dense, clean.normal(rng), 8, 1, rng).to("meta")
    there = dataclasses.replace(dense, pad=dense.pad.to("meta"))
    places = _denoiser.places_that_count(dense).to("meta")
    batch = tuple(t.to("meta") for t in clean.rows(torch.arange(9)))
    assert _denoiser.loss(network, batch, there, places, None).device.type == "meta"  # type: ignore[arg-type]


def test_global_random_state_and_threads_are_untouched() -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    dataclasses.replace(TINY, steps=3).fit(table(), seed=1).sample(3, seed=1)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.get_num_threads()


def test_a_watch_can_stop_it() -> None:
    with pytest.raises(Stopped):
        TINY.fit(table(), seed=1, watch=lambda p: p.what == "training")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="see every row once"):
        dataclasses.replace(TINY, minutes=1e-9, batch=2).fit(table(), seed=1)
    for wrong in ({"width": 0}, {"draws": 0}, {"noise": 1.5}, {"guidance": -1.0}):
        with pytest.raises(InputError):
            dataclasses.replace(TINY, **wrong).fit(table(), seed=1)


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    again = TINY.restore(SCHEMA, state)
    one, two = (m.joint.draw(9, generator(1, "test")) for m in (again, model))
    assert np.array_equal(one, two)

    def broken(name: str, array: np.ndarray | None) -> State:
        arrays = {k: v for k, v in state.arrays.items() if k != name}
        return State(arrays | ({name: array} if array is not None else {}), state.values)

    weight, cuts = "joint/body.last.weight", "joint/cuts"
    for name, wrong in (
        (weight, None),
        (weight, state.arrays[weight][:-1]),
        (weight, state.arrays[weight].astype(np.float64)),
        (weight, np.full_like(state.arrays[weight], np.nan)),
        (cuts, state.arrays[cuts][:, ::-1].copy()),
        ("joint/axes", 2 * state.arrays["joint/axes"]),
        ("joint/variances", -state.arrays["joint/variances"]),
        ("joint/scale", -state.arrays["joint/scale"]),
        ("joint/more", np.zeros(3, np.float32)),
    ):
        with pytest.raises(InputError):
            TINY.restore(SCHEMA, broken(name, wrong))
    for size in ({"width": 10**9, "depth": 1}, {"width": True, "depth": 1}, {"depth": 1}):
        with pytest.raises(InputError):
            TINY.restore(SCHEMA, State(state.arrays, {**state.values, "joint": size}))
