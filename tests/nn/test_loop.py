"""The training loop: known answers, the same bits after a kill, both hooks, every way to end."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from manikin.errors import InputError, IntegrityError, NotSupported, Stopped  # noqa: E402
from manikin.nn import loop  # noqa: E402
from manikin.nn.loop import Plan, Rows, train  # noqa: E402
from manikin.nn.mlp import Linear, ResidualMLP  # noqa: E402
from manikin.synthesizer import Progress  # noqa: E402

X = torch.linspace(-2, 2, 64)[:, None]
Y = torch.sin(2 * X)


def network(seed: int = 0) -> nn.Module:
    return ResidualMLP(1, 1, width=16, depth=1, rng=loop.random(seed, "test"))


def noisy(net: nn.Module, batch: tuple[Tensor, ...], rng: torch.Generator) -> Tensor:
    x, y = batch
    return ((net(x + 0.01 * torch.randn(x.shape, generator=rng)) - y) ** 2).sum(1)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@torch.no_grad()
def error(net: nn.Module) -> float:
    return float(noisy(net, (X, Y), loop.random(0, "t")).mean())


PLAN = Plan(120, rate=1e-2, look=20)
HELD = ((X[::4], Y[::4]),)


def fit(plan: Plan = PLAN, seed: int = 1, **more: object) -> tuple[nn.Module, loop.Trained]:
    net = network()
    return net, train(net, noisy, Rows((X, Y), 16, seed=seed), plan, seed=seed, **more)  # type: ignore[arg-type]


def test_it_learns_and_the_same_seed_gives_the_same_bits() -> None:
    net, trained = fit()
    before, after = (error(n) for n in (network(), net))
    assert after < before / 4
    assert (trained.steps, trained.why, trained.held_out) == (120, "steps", ())
    assert torch.equal(weights(net), weights(fit()[0]))
    assert not torch.equal(weights(net), weights(fit(seed=2)[0]))


def test_global_random_state_and_threads_are_untouched() -> None:
    before = torch.get_rng_state(), str(np.random.get_state()), torch.get_num_threads()  # noqa: NPY002
    fit(held_out=HELD)
    after = torch.get_rng_state(), str(np.random.get_state()), torch.get_num_threads()  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
@pytest.mark.parametrize("at", [1, 19, 20, 57, 119])
def test_killed_and_resumed_gives_the_same_model(at: int, schedule: str, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, schedule=schedule)
    whole, told = fit(plan, held_out=HELD)
    rows, path = Rows((X, Y), 16, seed=1), tmp_path / "c.safetensors"

    def dying(step: int) -> tuple[Tensor, ...]:
        if step == at:
            raise Killed
        return rows(step)

    with pytest.raises(Killed):
        train(network(), noisy, dying, plan, seed=1, held_out=HELD, checkpoint=path)
    assert path.exists() == (at >= 20)
    # another initial network: everything comes from the checkpoint, when there is one
    net = network(0 if at < 20 else 9)
    again = train(net, noisy, rows, plan, seed=1, held_out=HELD, checkpoint=path)
    assert torch.equal(weights(net), weights(whole))
    assert again == told


def test_a_watch_can_stop_it_and_it_goes_on_from_there(tmp_path: Path) -> None:
    heard: list[Progress] = []

    def watch(progress: Progress) -> bool:
        heard.append(progress)
        return progress.step >= 60

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stopped):
        fit(watch=watch, checkpoint=path, held_out=HELD)
    assert [p.step for p in heard][-1] == 60 and heard[-1].total == 120
    assert {"loss", "rate", "held-out loss"} <= set(heard[-1].figures)
    net, _ = fit(checkpoint=path, held_out=HELD)
    assert torch.equal(weights(net), weights(fit(held_out=HELD)[0]))
    assert (path.stat().st_mode & 0o777) == 0o600


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    fit(checkpoint=path)
    with pytest.raises(InputError, match="another training"):
        fit(seed=2, checkpoint=path)
    with pytest.raises(InputError, match="another training"):
        fit(dataclasses.replace(PLAN, rate=1e-3), checkpoint=path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x08" + b"\0" * 7 + b"{}      "])
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        fit(checkpoint=path)


def test_it_stops_by_held_out_loss_and_keeps_the_best_weights() -> None:
    # held-out targets are the opposite of the training targets: every step makes them worse
    plan = Plan(2000, rate=1e-2, look=10, patience=3, average=0.0)
    net, trained = fit(plan, held_out=((X, -Y),))
    assert trained.why == "held-out loss" and trained.steps < 2000
    best = int(np.argmin(trained.held_out))
    assert trained.best_step == 10 * (best + 1) == trained.steps - 30
    with torch.no_grad():
        found = float(noisy(net, (X, -Y), loop.random(1, "nn held out")).double().mean())
    assert found == pytest.approx(trained.held_out[best], rel=1e-6)


def test_it_stops_in_time() -> None:
    _, trained = fit(Plan(10**7, look=10**6, seconds=0.05))
    assert trained.why == "time" and 0 < trained.steps < 10**7


def test_plateau_lowers_the_rate() -> None:
    rates: list[float] = []
    plan = Plan(200, rate=1e-2, look=10, schedule="plateau", warm_up=0)
    fit(plan, held_out=((X, -Y),), watch=lambda p: rates.append(p.figures["rate"]))
    assert rates[0] == 1e-2 and rates[-1] <= 1e-2 / 2**5


def test_rate_rises_then_falls_as_a_cosine() -> None:
    rates: list[float] = []
    plan = Plan(101, rate=1.0, look=1, warm_up=10)
    net = Linear(1, 1, loop.random(0, "t"))
    train(net, lambda n, b, r: 0 * n(b[0]).sum(1), Rows((X,), 8, seed=0), plan, seed=0,
          watch=lambda p: rates.append(p.figures["rate"]))  # fmt: skip
    assert rates[0] == pytest.approx(1 / 11) and np.argmax(rates) == 10
    # step 51 of 101 (the 52nd rate is that of step 51): (1 + cos(π 51/101)) / 2 = .4922
    assert rates[51] == pytest.approx(0.01 + 0.99 * 0.4922, abs=1e-4)
    assert rates[-1] < 0.011


def test_moving_average_by_hand() -> None:
    """Gradient 1 at every step: AdamW moves by the rate, w = -.1, -.2, …

    Step t keeps min(.5, t / (10 + t)) of the average, which begins at 0:
    t=1 keeps 1/11: -.1 · 10/11 = -.090909; t=2 keeps 1/6: -.090909/6 - .2 · 5/6 = -.181818
    """
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    plan = Plan(2, rate=0.1, warm_up=0, schedule="constant", average=0.5, look=2)
    train(net, lambda n, b, r: n(b[0])[:, 0], lambda s: (torch.ones(4, 1),), plan, seed=0)
    assert float(net.weight.detach()) == pytest.approx(-0.181818, abs=1e-5)


def test_gradients_are_clipped() -> None:
    """A gradient of norm 5 becomes one of norm 1, in the same direction: (3, 4) → (.6, .8)."""
    net, seen = nn.Linear(2, 1, bias=False), []

    def agree(tensors: Sequence[Tensor]) -> None:
        if tensors[0].shape == net.weight.shape:
            seen.append((tensors[0], tensors[0].clone()))

    x = torch.tensor([[3.0, 4.0]])
    train(net, lambda n, b, r: n(b[0])[:, 0], lambda s: (x,), Plan(1, clip=1.0), seed=0,
          agree=agree)  # fmt: skip
    clipped, before = seen[0]
    assert before.tolist() == [[3.0, 4.0]]
    assert clipped.tolist() == [[pytest.approx(0.6, abs=1e-5), pytest.approx(0.8, abs=1e-5)]]


# ------------------------------------------------------------------ hooks


class Step(nn.Module):
    """A network and its loss as one module, so that torch.func can take gradients a row."""

    def __init__(self, net: nn.Module, loss: loop.Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, batch: tuple[Tensor, ...], rng: torch.Generator) -> Tensor:
        return self.loss(self.net, batch, rng)


def per_row(clip: float) -> loop.Gradients:
    """Clip the gradient of every row to a norm, then average: a privacy hook without its noise."""

    def gradients(
        net: nn.Module, loss: loop.Loss, batch: tuple[Tensor, ...], rng: torch.Generator
    ) -> Tensor:
        step = Step(net, loss)
        given = {k: v.detach() for k, v in step.named_parameters()}

        def one(p: dict[str, Tensor], *row: Tensor) -> Tensor:
            rows = tuple(r[None] for r in row)
            return torch.func.functional_call(step, p, (rows, rng)).sum()

        grads = torch.func.vmap(torch.func.grad(one), (None, *[0] * len(batch)))(given, *batch)
        norm = sum((g.flatten(1) ** 2).sum(1) for g in grads.values()) ** 0.5
        factor = (clip / norm).clamp(max=1.0)
        for name, parameter in step.named_parameters():
            parameter.grad = torch.einsum("b,b...->...", factor, grads[name]) / len(norm)
        with torch.no_grad():
            return loss(net, batch, rng).mean()

    return gradients


def plain(net: nn.Module, batch: tuple[Tensor, ...], rng: torch.Generator) -> Tensor:
    return ((net(batch[0]) - batch[1]) ** 2).sum(1)


def trained_with(**more: object) -> Tensor:
    net = network()
    train(net, plain, Rows((X, Y), 16, seed=1), PLAN, seed=1, **more)  # type: ignore[arg-type]
    return weights(net)


def test_privacy_enters_by_the_gradients() -> None:
    assert torch.allclose(trained_with(gradients=per_row(math.inf)), trained_with(), atol=1e-3)
    assert not torch.allclose(trained_with(gradients=per_row(0.1)), trained_with(), atol=1e-2)


def test_two_devices_agree_to_the_model_of_their_joint_batch() -> None:
    """Device A has one half of every batch, B the other; the mean of their gradients is shared."""
    rows = Rows((X, Y), 16, seed=1)
    whole, half = network(), network()
    plan = dataclasses.replace(PLAN, steps=15)
    train(whole, plain, rows, plan, seed=1)

    def agree(tensors: Sequence[Tensor]) -> None:
        if len(tensors) > 1:
            b = rows(agree.step)[0][8:], rows(agree.step)[1][8:]  # type: ignore[attr-defined]
            other = torch.autograd.grad(
                plain(half, b, loop.random(0, "")).mean(), half.parameters()
            )
            for mine, theirs in zip(tensors, other, strict=True):
                mine.copy_((mine + theirs) / 2)
            agree.step += 1  # type: ignore[attr-defined]

    agree.step = 0  # type: ignore[attr-defined]
    train(half, plain, lambda s: tuple(t[:8] for t in rows(s)), plan, seed=1, agree=agree)
    assert torch.allclose(weights(whole), weights(half), atol=1e-5)


# ------------------------------------------------------------------ batches, device, plan


def test_every_epoch_shows_every_row_once() -> None:
    rows = Rows((torch.arange(12),), 4, seed=3)
    epochs = [torch.cat([rows(3 * e + i)[0] for i in range(3)]) for e in range(2)]
    assert [sorted(e.tolist()) for e in epochs] == [list(range(12))] * 2
    assert not torch.equal(*epochs)
    assert torch.equal(rows(1)[0], epochs[0][4:8]), "a batch follows from its number alone"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(NotSupported, match="no device"):
        fit(dataclasses.replace(PLAN, device="cuda:99"))
    for wrong in ({"rate": 0.0}, {"average": 1.0}, {"look": 0}, {"seconds": 0.0}):
        with pytest.raises(InputError):
            Plan(10, **wrong)  # type: ignore[arg-type]
    net = Linear(1, 1, loop.random(0, "t"))
    with pytest.raises(NotSupported, match="finite"):
        train(net, lambda n, b, r: n(b[0]).sum(1) / 0, Rows((X,), 8, seed=0), Plan(5), seed=0)


def test_bfloat16_learns_too() -> None:
    net, _ = fit(dataclasses.replace(PLAN, bf16=True))
    assert error(net) < 0.1
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_bfloat16_is_chosen_on_a_cpu_for_wide_networks_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda s=supported: s)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        wide, narrow, flat = (
            Linear(a, b, loop.random(0, "t")) for a, b in ((256, 256), (255, 600), (4, 256))
        )
        assert loop._quicker(wide, cpu) is supported
        assert not loop._quicker(narrow, cpu) and not loop._quicker(flat, cpu)


def test_gradients_are_shortened_to_the_norm_that_is_asked_for() -> None:
    # norm √(9 + 16) = 5, to be 1; one within it stays
    long, short = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], [torch.tensor([0.6])]
    loop._clip(long, 1.0)
    loop._clip(short, 1.0)
    loop._clip([], 1.0)
    assert torch.allclose(long[0], torch.tensor([0.6, 0.0]))
    assert float(long[1]) == pytest.approx(0.8) and float(short[0]) == pytest.approx(0.6)


def test_the_optimiser_is_torchs_own() -> None:
    one, other = network(), network()
    plan = Plan(5, betas=(0.5, 0.9), weight_decay=0.1)
    ours = loop._AdamW(list(one.parameters()), plan)
    theirs = torch.optim.AdamW(
        other.parameters(), lr=3e-2, betas=(0.5, 0.9), weight_decay=0.1, fused=True
    )
    for _ in range(5):
        for net in (one, other):
            net.zero_grad()
            ((net(X) - Y) ** 2).mean().backward()
        ours.step(3e-2)
        theirs.step()
    assert torch.equal(weights(one), weights(other))
    one.zero_grad()
    ours.step(3e-2)
    assert torch.equal(weights(one), weights(other))  # nothing has a gradient: nothing moves
