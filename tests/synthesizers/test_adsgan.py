"""ADS-GAN: distances and identifiability by hand, and what its price buys on a small table."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import InputError, Stopped  # noqa: E402
from manikin.synthesizer import State  # noqa: E402
from manikin.synthesizers.table._dense import Dense  # noqa: E402
from manikin.synthesizers.table.adsgan import ADSGAN, Ruler  # noqa: E402
from manikin.synthesizers.table.encoding import Encoding  # noqa: E402

SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y")),
        Column("b", "categorical", categories=("p", "q", "r", "s")),
    )
)
LN2, LN4 = math.log(2), math.log(4)


def coded(a: list[int], b: list[int]) -> np.ndarray:
    return np.stack([np.array(a), np.array(b)], 1).astype(np.int32)


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    """Of 40 rows, half of each category of a, a quarter of each of b: entropies ln 2 and ln 4."""
    a, b = np.arange(40) % 2, np.arange(40) // 2 % 4
    columns = {"a": a.astype(np.int32), "b": b.astype(np.int32)}
    encoding = Encoding.fit(Table(SCHEMA, np.arange(40), columns), seed=0)
    return Ruler.of(encoding, Dense.of(encoding.cells))


def seen(ruler: Ruler, rows: np.ndarray) -> Any:
    return ruler.dense.inputs(torch.from_numpy(rows.astype(np.int64)))


# ------------------------------------------------------------------ identifiability (§III)


def test_columns_are_weighed_by_one_over_their_entropy(ruler: Ruler) -> None:
    rows = seen(ruler, coded([0, 1, 0, 1], [0, 0, 3, 3]))
    found = ruler.distance(rows[:1], rows)[0].numpy()
    wanted = [0, 1 / LN2, 1 / LN4, math.hypot(1 / LN2, 1 / LN4)]
    assert np.allclose(found, wanted, atol=1e-3)
    assert ruler.rows == 40


def test_the_nearest_other_record(ruler: Ruler) -> None:
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(coded([0, 0, 1, 1], [0, 1, 2, 2]).astype(np.int64))
    # rows 0 and 1 differ in b alone; rows 2 and 3 are twins
    found = ruler.nearest(codes, rng).numpy()
    assert np.allclose(found, [1 / LN4, 1 / LN4, 0, 0], atol=1e-3)
    assert ruler.nearest(codes[:1], rng).tolist() == [0.0]


def test_identifiability_by_hand(ruler: Ruler) -> None:
    records = coded([0, 0, 1, 1], [0, 1, 2, 2])
    # the first row itself is drawn: nearer to it than row 1 is; as far from row 1 as row 0 is
    assert ruler.identifiable(records, records[:1]) == 0.25
    assert ruler.identifiable(records, records[:2]) == 0.5
    assert ruler.identifiable(records, coded([1], [2])) == 0  # twins are nobody's alone
    assert ruler.identifiable(records, coded([1], [0])) == 0


def test_the_price_by_hand(ruler: Ruler) -> None:
    real = seen(ruler, coded([0, 0], [0, 1]))
    # the draw is row 0 and 1 / ln 4 from row 1: max(0, 1 - 0 / 2) = 1 and 1 - (1 / ln 4) / 2
    # of the two pairs the mean, times the 40 records of the table
    apart = torch.tensor([2.0, 2.0])
    wanted = 40 * (1 + 1 - 1 / LN4 / 2) / 2
    found = ruler.price(real, apart, real[:1])
    assert float(found) == pytest.approx(wanted, rel=1e-3)
    assert float(ruler.price(real, torch.zeros(2), real[:1])) == 0  # twins cost nothing
    assert float(ruler.price(real, apart, seen(ruler, coded([1], [3])))) == pytest.approx(
        40 * (2 - 2 * math.hypot(1 / LN2, 1 / LN4) / 2) / 2, rel=1e-3
    )


def test_the_price_pushes_a_draw_away(ruler: Ruler) -> None:
    real = seen(ruler, coded([0], [0]))
    fake = (0.9 * real + 0.05).requires_grad_()
    (slope,) = torch.autograd.grad(ruler.price(real, torch.ones(1), fake), fake)
    moved = (fake - 0.01 * slope).detach()
    assert float(ruler.distance(moved, real)) > float(ruler.distance(fake.detach(), real))


# ------------------------------------------------------------------ what it buys

MIXED = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y")),
        Column("n", "continuous", decimals=2),
        Column("m", "continuous", decimals=2),
    )
)


def table(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=n)
    columns = {
        "a": (cause + 0.3 * rng.normal(size=n) > 0).astype(np.int32),
        "n": np.round(cause + 0.2 * rng.normal(size=n), 2),
        "m": np.round(2 * cause + 0.4 * rng.normal(size=n), 2),
    }
    return Table(MIXED, np.arange(n), columns)


TINY = ADSGAN(width=32, latent=8, batch=120, steps=150)


@pytest.fixture(scope="module")
def models() -> dict[float, Any]:
    return {
        price: dataclasses.replace(TINY, identifiability=price).fit(table(250), seed=1)
        for price in (0.0, 1.0, 10.0)
    }


def test_a_higher_price_leaves_fewer_records_identifiable(models: dict[float, Any]) -> None:
    found = {}
    for price, model in models.items():
        records = model.encoding.encode(table(250), seed=0)
        ruler = Ruler.of(model.encoding, Dense.of(model.encoding.cells))
        draws = [model.joint.draw(250, np.random.default_rng(s)) for s in range(4)]
        found[price] = np.mean([ruler.identifiable(records, drawn) for drawn in draws])
    assert found[10.0] < found[0.0] - 0.05
    assert found[1.0] < found[0.0] + 0.03


def test_it_learns_how_columns_go_together(models: dict[float, Any]) -> None:
    made = models[1.0].sample(3000, seed=1)
    a, n, m = (made.columns[c].astype(float) for c in ("a", "n", "m"))
    assert np.corrcoef(n, m)[0, 1] > 0.75 and np.corrcoef(a, n)[0, 1] > 0.55
    assert models[1.0].notes == ()


def test_margins_are_those_of_training(models: dict[float, Any]) -> None:
    model = models[10.0]
    codes = model.joint.draw(20_000, np.random.default_rng(1))
    for j, cells in enumerate(model.encoding.cells):
        found = np.bincount(codes[:, j], minlength=cells.size) / len(codes)
        assert np.abs(found - cells.counts / cells.counts.sum()).max() < 0.02


def test_given_columns_are_listened_to(models: dict[float, Any]) -> None:
    model = models[1.0]
    given = Table(TableSchema(MIXED.columns[1:2]), np.arange(400),
                  {"n": np.repeat([-1.5, 1.5], 200)})  # fmt: skip
    made = model.sample_given(given, seed=1)
    assert made.columns["m"][200:].mean() - made.columns["m"][:200].mean() > 2


# ------------------------------------------------------------------ the house


def test_the_price_is_in_the_loss_that_is_told() -> None:
    losses = []
    for price in (0.0, 5.0):
        heard: list[Any] = []
        recipe = dataclasses.replace(TINY, identifiability=price, steps=50)
        recipe.fit(table(250), seed=1, watch=heard.append)
        losses.append(heard[-1].figures["loss"])
        assert {"lost", "coverage", "spread"} <= set(heard[-1].figures)
    assert losses[1] > losses[0]


def test_a_watch_can_stop_it() -> None:
    with pytest.raises(Stopped):
        TINY.fit(table(60), seed=1, watch=lambda p: p.what == "training")


@pytest.mark.parametrize("wrong", [{"identifiability": -1.0}, {"batch": 1}, {"latent": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ADSGAN(**wrong)


def test_files_of_strangers_are_refused(models: dict[float, Any]) -> None:
    model = models[1.0]
    state = model.state()
    again = TINY.restore(model.schema, state)
    assert np.array_equal(
        again.sample(9, seed=1).columns["n"], model.sample(9, seed=1).columns["n"]
    )
    weight = "joint/body.last.weight"
    for wrong in (None, state.arrays[weight][:-1], np.full_like(state.arrays[weight], np.inf)):
        arrays = {k: v for k, v in state.arrays.items() if k != weight}
        changed = State(arrays | ({weight: wrong} if wrong is not None else {}), state.values)
        with pytest.raises(InputError):
            TINY.restore(model.schema, changed)
    with pytest.raises(InputError):
        ADSGAN().restore(model.schema, state)
