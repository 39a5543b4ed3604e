"""CTGAN: training by sampling by hand, conditions against brute force, collapse seen and told."""

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import manikin.synthesizers.table._collapse as _collapse  # noqa: E402
import manikin.synthesizers.table.ctgan as ctgan  # noqa: E402
from manikin.data.schema import Column, TableSchema  # noqa: E402
from manikin.data.table import Table  # noqa: E402
from manikin.errors import ConditionError, InputError, Stopped  # noqa: E402
from manikin.nn.adversarial import Duel  # noqa: E402
from manikin.nn.loop import Trained, random, train  # noqa: E402
from manikin.nn.mlp import ResidualMLP  # noqa: E402
from manikin.synthesizer import Progress, State  # noqa: E402
from manikin.synthesizers.table._dense import Dense  # noqa: E402
from manikin.synthesizers.table._generated import (  # noqa: E402
    Eye,
    GeneratedJoint,
    Generator,
    steps,
)
from manikin.synthesizers.table.ctgan import CTGAN, Conditions, Sampler  # noqa: E402
from manikin.synthesizers.table.encoding import Encoding  # noqa: E402

SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("x", "y")),
        Column("b", "categorical", categories=("p", "q", "r")),
        Column("n", "continuous", decimals=2),
    )
)


def table(n: int = 300) -> Table:
    rng = np.random.default_rng(0)
    cause = rng.normal(size=n)
    columns = {
        "a": (cause + 0.3 * rng.normal(size=n) > 0).astype(np.int32),
        "b": np.digitize(cause + 0.3 * rng.normal(size=n), [-0.5, 1.5]).astype(np.int32),
        "n": np.round(cause + 0.3 * rng.normal(size=n), 2),
    }
    return Table(SCHEMA, np.arange(n), columns)


TINY = CTGAN(width=32, latent=8, batch=120)


@pytest.fixture(scope="module")
def model() -> Any:
    return TINY.fit(table(), seed=1)


@pytest.fixture(scope="module")
def dense(model: Any) -> Dense:
    return Dense.of(model.encoding.cells)


def codes_of(model: Any, real: Table) -> np.ndarray:
    return np.asarray(model.encoding.encode(real, seed=0))


# ------------------------------------------------------------------ what is learnt


def test_it_learns_how_columns_go_together(model: Any) -> None:
    made = model.sample(3000, seed=1)
    a, b, n = (made.columns[c].astype(float) for c in ("a", "b", "n"))
    assert np.corrcoef(a, n)[0, 1] > 0.6 and np.corrcoef(b, n)[0, 1] > 0.65
    assert np.corrcoef(a, b)[0, 1] > 0.5
    assert model.notes == ()


def test_margins_are_those_of_training(model: Any) -> None:
    codes = model.joint.draw(20_000, np.random.default_rng(1))
    for j, cells in enumerate(model.encoding.cells):
        found = np.bincount(codes[:, j], minlength=cells.size) / len(codes)
        assert np.abs(found - cells.counts / cells.counts.sum()).max() < 0.02


# ------------------------------------------------------------------ training by sampling (§4.3)


def test_batches_hold_rows_that_fulfil_their_conditions(model: Any, dense: Dense) -> None:
    codes = torch.from_numpy(codes_of(model, table()).astype(np.int64))
    sampler = Sampler(codes, Eye(dense), 6000, seed=3)
    rows, slot = sampler(0)
    assert rows.shape == (6000, dense.slots + dense.lines)
    assert (rows.gather(1, slot[:, None]) == 1).all()
    # columns a and b are as likely as each other; of n there is one category, which says nothing
    columns, shares = sampler.column[slot], slot.bincount(minlength=dense.slots) / 6000
    assert set(columns.tolist()) == {0, 1}
    assert float((columns == 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    # a category of b by the logarithm of 1 + its rows
    held = np.bincount(codes[:, 1].numpy(), minlength=3)
    wanted = 0.5 * np.log1p(held) / np.log1p(held).sum()
    at = [int(s) for s in dense.slot(torch.tensor(1), torch.arange(3))]
    assert np.abs(shares[at].numpy() - wanted).max() < 0.03
    again, _ = sampler(0)
    assert torch.equal(rows, again) and not torch.equal(rows, sampler(1)[0])


def test_conditions_are_drawn_by_frequency_and_spread_weights_make_up_for_it(dense: Dense) -> None:
    source, rng = Conditions.of(dense, 4), np.random.default_rng(0)
    _, drawn = source.draw(40_000, rng)
    _, spread, log_weight = source.spread(40_000, rng)
    found = drawn.bincount(minlength=dense.slots) / 40_000
    weighed = torch.zeros(dense.slots).index_add_(0, spread, log_weight.exp()) / 40_000
    wanted = dense.frequency / 2  # of the two columns with more than one category
    wanted[dense.slot(torch.tensor(2), torch.tensor([0]))] = 0
    assert (found - wanted).abs().max() < 0.01 and (weighed - wanted).abs().max() < 0.02


def test_a_told_category_is_drawn(model: Any) -> None:
    joint = model.joint
    with torch.no_grad():
        for code in range(3):
            slot = joint.dense.slot(torch.tensor(1), torch.tensor([code])).repeat(500)
            z = torch.randn(500, 8, generator=random(0, "t"))
            probability = joint.dense.log_softmax(
                joint.generator(z, slot)[:, : joint.dense.slots]
            ).exp()
            assert float(probability[:, slot[0]].mean()) > 0.5


# ------------------------------------------------------------------ what a critic sees


def test_draws_reach_the_critic_whole_and_with_a_gradient(dense: Dense) -> None:
    eye = Eye(dense)
    outputs = torch.zeros(50, dense.slots + 2 * dense.lines, requires_grad=True)
    fake = eye.fake(outputs, random(0, "t"))
    parts = fake[:, : dense.slots]
    assert torch.allclose(parts, parts.round(), atol=1e-6)
    assert torch.allclose(parts.sum(1), torch.full((50,), 3.0), atol=1e-5)
    (slope,) = torch.autograd.grad((fake * torch.randn(fake.shape)).sum(), outputs)
    real = torch.isfinite(dense.pad)
    assert torch.isfinite(slope).all() and (slope[:, : dense.slots][:, real] != 0).any(0).sum() >= 5


def test_relaxed_draws_follow_the_probabilities(dense: Dense) -> None:
    logits = torch.randn(dense.slots, generator=random(1, "t"))
    outputs = torch.cat([logits, torch.zeros(2 * dense.lines)]).repeat(20_000, 1)
    found = Eye(dense).fake(outputs, random(2, "t"))[:, : dense.slots].mean(0)
    assert (found - dense.log_softmax(logits[None]).exp()[0]).abs().max() < 0.015


def test_real_numbers_lie_within_their_codes(model: Any, dense: Dense) -> None:
    codes = torch.from_numpy(codes_of(model, table()).astype(np.int64))
    eye = Eye(dense)
    one, two = (eye.real(codes, random(s, "t"))[:, dense.slots] for s in (1, 2))
    place = dense.place[0, codes[:, 2]]
    for score in (one, two):
        assert (score >= dense.cuts[0, place] - 1e-3).all()
        assert (score <= dense.cuts[0, place + 1] + 1e-3).all()
    assert not torch.equal(one, two)
    assert float(one.mean()) == pytest.approx(0, abs=0.1)
    assert float(one.std()) == pytest.approx(1, abs=0.1)


# ------------------------------------------------------------------ given


def truth(joint: GeneratedJoint, draws: int = 20_000) -> np.ndarray:
    """p(a, b, n) of every cell by brute force over draws of the noise."""
    with torch.no_grad():
        outputs = joint.generator(*joint.source.draw(draws, np.random.default_rng(9)))
        flat = joint.dense.log_softmax(outputs[:, : joint.dense.slots])
        pmf = [joint.dense.log_pmf(outputs, flat, j).exp().double() for j in range(3)]
    return np.asarray(torch.einsum("za,zb,zn->abn", *pmf) / draws)


@pytest.mark.parametrize("known", [{0: 1}, {1: 2}, {2: 3}, {0: 1, 1: 1}, {0: 0, 2: 20}])
def test_given_columns_condition_the_others(model: Any, known: dict[int, int]) -> None:
    p, codes = truth(model.joint), np.full((8000, 3), -1, np.int32)
    where: list[Any] = [slice(None)] * 3
    for j, code in known.items():
        codes[:, j], where[j] = code, slice(code, code + 1)
    wanted = np.zeros_like(p)
    wanted[tuple(where)] = p[tuple(where)]
    wanted /= wanted.sum()
    made = model.joint.complete(codes, {}, np.random.default_rng(2))
    flat = np.ravel_multi_index(tuple(made.T), p.shape)
    found = np.bincount(flat, minlength=p.size).reshape(p.shape) / len(made)
    for j, code in known.items():
        assert (made[:, j] == code).all()
    assert np.abs(found.sum(2) - wanted.sum(2)).max() < 0.06


def test_allowed_codes_are_kept_to(model: Any) -> None:
    p = truth(model.joint)
    mask = np.arange(p.shape[2]) >= p.shape[2] - 8
    allowed = {2: mask, 1: np.array([True, False, True])}
    codes = np.full((6000, 3), -1, np.int32)
    made = model.joint.complete(codes, allowed, np.random.default_rng(2))
    assert mask[made[:, 2]].all() and (made[:, 1] != 1).all()
    wanted = (p * mask * np.array([1, 0, 1])[None, :, None]).sum((1, 2))
    wanted /= wanted.sum()
    assert (made[:, 0] == 1).mean() == pytest.approx(wanted[1], abs=0.06)
    with pytest.raises(ConditionError):
        model.joint.complete(codes[:2], {1: np.zeros(3, bool)}, np.random.default_rng(2))


def test_combinations_that_never_were_end_at_once(model: Any) -> None:
    codes = np.array([[1, 0, 0], [0, 2, -1]], np.int32).repeat(50, 0)
    made = model.joint.complete(codes, {}, np.random.default_rng(2))
    assert (made[:50] == codes[:50]).all() and (made[50:, :2] == codes[50:, :2]).all()


# ------------------------------------------------------------------ collapse


def collapsed(dense: Dense) -> Generator:
    """A generator that says the same whatever it is told."""
    out = dense.slots + 2 * dense.lines
    body = ResidualMLP(40, out, width=32, depth=1, rng=random(0, "t"))
    made = Generator(dense, body, embedded=32, rng=random(0, "t"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.bias[dense.slot(torch.arange(3), torch.zeros(3, dtype=torch.int64))] = 20.0
        made.bias[dense.slots + dense.lines :] = -5.0
    return made


def test_health_of_copies_of_halves_and_of_one_row(model: Any, dense: Dense) -> None:
    rows, rng = codes_of(model, table()), np.random.default_rng(0)
    same = _collapse.health(dense, rows, rows, rng)
    assert same.lost == 0 and same.coverage == 1 and same.spread == pytest.approx(1)
    one = _collapse.health(dense, rows, rows[:1].repeat(300, 0), rng)
    # of 2 + 3 + 1 categories (n has its line alone) three stay
    assert one.lost == 0.5 and one.coverage < 0.1 and one.spread == 0
    assert one.collapsed and not same.collapsed
    half = _collapse.health(dense, rows, rows[rows[:, 0] == 0], rng)
    assert half.lost >= 1 / 6 and half.coverage < 0.75 and half.collapsed


def test_health_of_a_fitted_and_of_a_collapsed_generator(model: Any, dense: Dense) -> None:
    rows, rng = codes_of(model, table()), np.random.default_rng(0)
    found = _collapse.health(dense, rows, model.joint.draw(2000, rng), rng)
    assert not found.collapsed and found.coverage > 0.8 and 0.7 < found.spread < 2.5
    lost = GeneratedJoint("ctgan", dense, collapsed(dense), Conditions.of(dense, 8))
    assert _collapse.health(dense, rows, lost.draw(2000, rng), rng).collapsed


def test_few_rows_say_nothing(dense: Dense) -> None:
    none = np.zeros((5, 3), np.int32)
    assert not _collapse.health(dense, none, none, np.random.default_rng(0)).collapsed


def spoiled(times: int, calls: list[int]) -> Any:
    """The loop, after whose first `times` runs the generator has collapsed."""

    def run(network: Any, *arguments: Any, **more: Any) -> Trained:
        calls.append(more["seed"])
        trained = train(network, *arguments, **more)
        if len(calls) <= times:
            assert isinstance(network, Duel)
            dense = Dense.of(FITTED[0].encoding.cells)
            network.generator.load_state_dict(collapsed(dense).state_dict())
        return trained

    return run


FITTED: list[Any] = []


@pytest.mark.parametrize(("times", "said"), [(0, None), (1, "begun again"), (2, "lost modes")])
def test_a_collapse_begins_again_once_and_is_told(
    model: Any, monkeypatch: pytest.MonkeyPatch, times: int, said: str | None
) -> None:
    FITTED[:], calls = [model], []
    monkeypatch.setattr(ctgan, "train", spoiled(times, calls))
    fresh = TINY.fit(table(), seed=1)
    assert len(calls) == 1 + (times > 0) and len(set(calls)) == len(calls)
    assert len(fresh.notes) == (times > 0)
    assert said is None or said in fresh.notes[0]
    again = TINY.restore(SCHEMA, fresh.state())
    assert again.notes == fresh.notes


def test_notes_reach_the_report(model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import json

    import manikin as mk

    FITTED[:] = [model]
    monkeypatch.setattr(ctgan, "train", spoiled(1, []))
    table().to_polars().write_csv(tmp_path / "t.csv")
    outcome = mk.synthesize(
        tmp_path / "t.csv", out=tmp_path / "out", synthesizer="table/ctgan", holdout=0.5,
        settings=dataclasses.asdict(TINY), profile="quick", seed=1,
    )  # fmt: skip
    assert any("begun again" in note for note in outcome.notes)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("begun again" in limit for limit in report["limits"])


def test_progress_tells_of_modes() -> None:
    heard: list[Progress] = []
    dataclasses.replace(TINY, steps=60).fit(table(), seed=1, watch=heard.append)
    assert {"lost", "coverage", "spread", "loss"} <= set(heard[-1].figures)


# ------------------------------------------------------------------ the house


def test_global_random_state_and_threads_are_untouched() -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    dataclasses.replace(TINY, steps=3).fit(table(), seed=1).sample(3, seed=1)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.get_num_threads()


def test_a_watch_can_stop_it() -> None:
    with pytest.raises(Stopped):
        TINY.fit(table(), seed=1, watch=lambda p: p.what == "training")


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"pack": 0}, {"rate": 0.0}, {"covariance": -1.0}, {"critic_steps": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        CTGAN(**wrong)


def test_the_critic_can_move_more_often_than_the_generator() -> None:
    short = dataclasses.replace(TINY, steps=5)
    one, two = (dataclasses.replace(short, critic_steps=c).fit(table(), seed=1) for c in (1, 2))
    weight = "joint/body.last.weight"
    assert not np.array_equal(one.state().arrays[weight], two.state().arrays[weight])


def test_files_of_strangers_are_refused(model: Any) -> None:
    state = model.state()
    again = TINY.restore(model.schema, state)
    assert np.array_equal(
        again.sample(9, seed=1).columns["n"], model.sample(9, seed=1).columns["n"]
    )
    weight, cuts = "joint/body.last.weight", "joint/cuts"
    for name, wrong in (
        (weight, None),
        (weight, state.arrays[weight][:-1]),
        (weight, state.arrays[weight].astype(np.float64)),
        (weight, np.full_like(state.arrays[weight], np.nan)),
        (cuts, state.arrays[cuts][:, ::-1]),
        ("joint/more", np.zeros(3, np.float32)),
    ):
        arrays = {k: v for k, v in state.arrays.items() if k != name}
        changed = State(arrays | ({name: wrong} if wrong is not None else {}), state.values)
        with pytest.raises(InputError):
            TINY.restore(model.schema, changed)
    for notes in ("text", [1], ["x"] * 99, ["x" * 5000], None):
        joint = {"joint": {"notes": notes}}
        with pytest.raises(InputError):
            TINY.restore(model.schema, State(state.arrays, {**state.values, **joint}))
    with pytest.raises(InputError):
        CTGAN().restore(model.schema, state)


def test_a_constant_column_alone() -> None:
    schema = TableSchema((Column("c", "categorical", categories=("u", "v")),))
    one = Table(schema, np.arange(40), {"c": np.zeros(40, np.int32)})
    assert (CTGAN().fit(one, seed=1).sample(9, seed=1).columns["c"] == 0).all()


def test_steps_grow_with_the_root_of_the_rows() -> None:
    assert steps(2000, 12, torch.zeros(100, 3)) == 120  # 12 √100
    assert steps(50, 12, torch.zeros(100, 3)) == 50
    assert steps(2000, 12, torch.zeros(100, 1)) == 1  # one column goes with nothing


def test_it_encodes_as_the_others_do(model: Any) -> None:
    assert isinstance(model.encoding, Encoding) and model.joint.dense.lines == 1
