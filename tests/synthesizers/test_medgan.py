"""medGAN: long rows of codes, its autoencoder, averages of batches, files of strangers."""

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import InputError, Stopped  # noqa: E402
from manikin.synthesizer import Progress, State  # noqa: E402
from manikin.synthesizers.table.medgan import MedGAN, beside_mean  # noqa: E402

WIDE = 40
CODES = tuple(Column(f"c{j}", "boolean", categories=("no", "yes")) for j in range(WIDE))
SCHEMA = TableSchema((*CODES, Column("visits", "integer", minimum=0)))


def table(n: int = 300) -> Table:
    """Three conditions, each with its own ten codes; ten codes that go with none."""
    rng = np.random.default_rng(0)
    ill = rng.random((n, 3)) < [0.4, 0.3, 0.2]
    chance = np.full((n, WIDE), 0.1)
    for group in range(3):
        chance[:, 10 * group : 10 * group + 10] = np.where(ill[:, [group]], 0.6, 0.04)
    held = (rng.random((n, WIDE)) < chance).astype(np.int32)
    columns: dict[str, Any] = {f"c{j}": held[:, j] for j in range(WIDE)}
    columns["visits"] = rng.poisson(1 + 2 * ill.sum(1)).astype(float)
    return Table(SCHEMA, np.arange(n), columns)


TINY = MedGAN(width=48, code=24, latent=16, batch=240)


@pytest.fixture(scope="module")
def model() -> Any:
    return TINY.fit(table(), seed=1)


def held(made: Table) -> np.ndarray:
    return np.stack([made.columns[f"c{j}"] for j in range(WIDE)], 1).astype(float)


def test_codes_are_as_common_as_in_training(model: Any) -> None:
    made = held(model.sample(4000, seed=1))
    assert np.abs(made.mean(0) - held(table()).mean(0)).max() < 0.03
    assert model.notes == ()


def test_codes_go_together(model: Any) -> None:
    made = np.corrcoef(held(model.sample(4000, seed=1)).T)
    real = np.corrcoef(held(table(4000)).T)
    block = np.kron(np.eye(4), np.ones((10, 10))) - np.eye(WIDE)
    within, between = (block[:, :] > 0)[:30, :30], (block == 0)[:30, :30]
    np.fill_diagonal(between, False)
    assert real[:30, :30][within].mean() > 0.25
    assert made[:30, :30][within].mean() > 0.6 * real[:30, :30][within].mean()
    assert abs(made[:30, :30][between].mean()) < 0.08


def test_counts_go_with_codes(model: Any) -> None:
    made = model.sample(4000, seed=1)
    ill = held(made)[:, :30].sum(1)
    assert np.corrcoef(ill, made.columns["visits"])[0, 1] > 0.3


def test_given_codes_are_listened_to(model: Any) -> None:
    names = [f"c{j}" for j in range(4)]
    values = np.repeat([0, 1], 300).astype(np.int32)
    given = Table(TableSchema(SCHEMA.columns[:4]), np.arange(600), {c: values for c in names})
    rest = held(model.sample_given(given, seed=1))[:, 4:10].mean(1)
    assert rest[300:].mean() - rest[:300].mean() > 0.25


def test_rows_stand_beside_the_mean_of_their_batch() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert beside_mean(rows).tolist() == [[1, 2, 2, 4], [3, 6, 2, 4]]


def test_both_trainings_are_told_and_the_autoencoder_learns() -> None:
    heard: list[Progress] = []
    dataclasses.replace(TINY, learning=150, steps=50).fit(table(), seed=1, watch=heard.append)
    learning = [p.figures["loss"] for p in heard if p.what == "learning codes"]
    assert learning[-1] < 0.85 * learning[0]
    last = heard[-1]
    assert last.what == "training" and {"lost", "coverage", "spread"} <= set(last.figures)


def test_what_the_autoencoder_learns_is_in_the_model() -> None:
    short = dataclasses.replace(TINY, steps=2)
    one, two = (dataclasses.replace(short, learning=n).fit(table(), seed=1) for n in (1, 40))
    weight = "joint/body.decoder.last.weight"
    gap = np.abs(one.state().arrays[weight] - two.state().arrays[weight]).max()
    assert gap > 0.05


def test_a_watch_can_stop_it() -> None:
    for what in ("learning codes", "training"):
        with pytest.raises(Stopped):
            TINY.fit(table(60), seed=1, watch=lambda p, what=what: p.what == what)  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"code": 0}, {"learning": 0}, {"batch": 1}, {"rate": 2.0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        MedGAN(**wrong)


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    again = TINY.restore(model.schema, state)
    assert np.array_equal(held(again.sample(9, seed=1)), held(model.sample(9, seed=1)))
    weight = "joint/body.decoder.last.weight"
    for wrong in (None, state.arrays[weight][:-1], np.full_like(state.arrays[weight], np.nan)):
        arrays = {k: v for k, v in state.arrays.items() if k != weight}
        changed = State(arrays | ({weight: wrong} if wrong is not None else {}), state.values)
        with pytest.raises(InputError):
            TINY.restore(model.schema, changed)
    with pytest.raises(InputError):
        MedGAN().restore(model.schema, state)
