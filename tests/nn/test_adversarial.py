"""Adversarial training: penalties by hand, a mixture of two modes, the same bits after a kill."""

import dataclasses
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from manikin.nn import adversarial, loop  # noqa: E402
from manikin.nn.adversarial import Duel, critic_loss, gradient_penalty, packed  # noqa: E402
from manikin.nn.loop import Batch, Plan, train  # noqa: E402
from manikin.nn.mlp import MLP  # noqa: E402

A = torch.tensor([3.0, 4.0])


def linear(x: Tensor) -> Tensor:
    return x @ A + 7.0


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope() -> None:
    real, fake = torch.randn(5, 2, generator=loop.random(0, "r")), torch.zeros(5, 2)
    # ‖(3, 4)‖ = 5 wherever it is looked at: (5 - 1)² = 16
    found = gradient_penalty(linear, real, fake, loop.random(0, "t"))
    assert torch.allclose(found, torch.full((5,), 16.0))


def test_a_slope_of_zero_has_a_gradient_that_is_finite() -> None:
    weight = torch.zeros(2, requires_grad=True)
    penalty = gradient_penalty(
        lambda x: x @ weight, torch.ones(3, 2), torch.zeros(3, 2), loop.random(0, "t")
    )
    assert torch.equal(penalty, torch.zeros(3))  # only slopes above 1 cost
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    assert torch.isfinite(slope).all()


def test_the_critics_loss_by_hand() -> None:
    real, fake = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    # C(fake) - C(real) = (8 + 7) - (3 + 7) = 5, and 10 · 16
    assert float(critic_loss(linear, real, fake, loop.random(0, "t"))) == pytest.approx(165)
    found = critic_loss(linear, real, fake, loop.random(0, "t"), penalty=0.5)
    assert float(found) == pytest.approx(13)


def test_opposed_rows_give_the_critic_its_gradient_and_the_generator_minus_it() -> None:
    fake, weight = torch.ones(4, 2, requires_grad=True), A.clone().requires_grad_()
    (adversarial.opposed(fake) @ weight).sum().backward()
    assert weight.grad is not None and fake.grad is not None
    assert torch.equal(weight.grad, torch.full((2,), 4.0))
    assert torch.equal(fake.grad, -A.expand(4, 2))


def test_the_penalty_is_that_of_a_quarter_of_the_packs() -> None:
    seen: list[int] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(len(x))
        return linear(x)

    rows = torch.zeros(10, 2)
    # C(fake) = C(real), and 10 · 16 on every pack
    assert torch.allclose(
        critic_loss(critic, rows, rows, loop.random(0, "t")), torch.full((10,), 160.0)
    )
    assert seen == [20, 3]


def test_the_penalty_of_a_pack_counts_all_its_rows() -> None:
    rows = torch.zeros(6, 2)
    assert packed(rows, 3).shape == (2, 3, 2)
    found = gradient_penalty(
        lambda packs: linear(packs).sum(1), packed(rows, 3), packed(rows + 1, 3),
        loop.random(0, "t"),
    )  # fmt: skip
    # the slope in three rows is √3 · 5
    assert torch.allclose(found, torch.full((2,), (5 * math.sqrt(3) - 1) ** 2))


def test_the_covariance_gap_by_hand() -> None:
    real = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # covariance all ones: squares sum to 4
    fake = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # off-diagonal -1: 2 (1 - -1)² = 8
    rng = loop.random(0, "t")
    assert float(adversarial.covariance_gap(real, fake, rng)) == pytest.approx(8 / 4)
    # means 2 apart in both columns: (4 + 4) / 4
    assert float(adversarial.covariance_gap(real, real + 2, rng)) == pytest.approx(2)
    assert float(adversarial.covariance_gap(real, real, rng)) == 0


def test_wide_rows_are_compared_in_random_directions() -> None:
    rng = loop.random(0, "t")
    base = torch.randn(400, 3, generator=rng)
    spread = torch.randn(3, 600, generator=rng)
    alike, other = torch.randn(400, 3, generator=rng) @ spread, torch.randn(400, 600, generator=rng)
    near = float(adversarial.covariance_gap(base @ spread, alike, rng))
    far = float(adversarial.covariance_gap(base @ spread, other, rng))
    assert near < 0.1 < far


# ------------------------------------------------------------------ in the loop


def mixture(step: int) -> Batch:
    """Return rows of N(-2, .3²) and N(2, .3²), half each."""
    rng = loop.random(1, "mixture", step)
    side = torch.randint(0, 2, (128, 1), generator=rng) * 4.0 - 2.0
    return (side + 0.3 * torch.randn(128, 1, generator=rng),)


def duel(seed: int = 0) -> Duel:
    return Duel(
        MLP(2, 1, width=32, depth=2, rng=loop.random(seed, "generator")),
        MLP(1, 1, width=64, depth=2, rng=loop.random(seed, "critic")),
    )


def loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
    assert isinstance(network, Duel)
    moves, real = batch
    with torch.set_grad_enabled(bool(moves)):
        fake = network.generator(torch.randn(len(real), 2, generator=rng))

    def critic(x: Tensor) -> Tensor:
        scores: Tensor = network.critic(x)[:, 0]
        return scores

    return critic_loss(critic, real, adversarial.opposed(fake), rng)


PLAN = Plan(900, rate=1e-2, look=30, betas=(0.0, 0.9), average=0.95, bf16=False, clip=math.inf)
TURNS = adversarial.turns(mixture, 2)


def fit(plan: Plan = PLAN, **more: object) -> Duel:
    network = duel()
    train(network, loss, TURNS, plan, seed=1, **more)  # type: ignore[arg-type]
    return network


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_two_modes_are_learnt() -> None:
    network = fit()
    with torch.no_grad():
        drawn = network.generator(torch.randn(4000, 2, generator=loop.random(3, "t")))[:, 0]
    for mode in (-2, 2):
        near = drawn[(drawn - mode).abs() < 1.0]
        assert 0.3 < len(near) / 4000 < 0.7
        assert float(near.mean()) == pytest.approx(mode, abs=0.25)
    assert float((drawn.abs() < 1).double().mean()) < 0.15


def test_the_generator_moves_when_it_is_its_turn() -> None:
    moves = [bool(TURNS(step)[0]) for step in range(6)]
    assert moves == [False, True, False, True, False, True]
    network = duel()
    before = {name: p.clone() for name, p in network.named_parameters()}
    plan = Plan(1, rate=1e-2, average=0.0, bf16=False)
    train(network, loss, TURNS, plan, seed=1)
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert {name.split(".")[0] for name in moved} == {"critic"}


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [31, 59, 89])
def test_killed_and_resumed_gives_the_same_model(at: int, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, steps=90)
    path = tmp_path / "c.safetensors"

    def dying(step: int) -> Batch:
        if step == at:
            raise Killed
        return TURNS(step)

    with pytest.raises(Killed):
        train(duel(), loss, dying, plan, seed=1, checkpoint=path)
    again = duel(9)
    train(again, loss, TURNS, plan, seed=1, checkpoint=path)
    assert torch.equal(weights(again), weights(fit(plan)))


def test_killed_before_the_generator_moved(tmp_path: Path) -> None:
    """Its optimiser has no moments yet: a checkpoint that holds only the critic's goes on too."""
    plan = dataclasses.replace(PLAN, steps=6, look=1)
    path = tmp_path / "c.safetensors"

    def dying(step: int) -> Batch:
        if step == 2:
            raise Killed
        return TURNS(step)

    with pytest.raises(Killed):
        train(duel(), loss, dying, plan, seed=1, checkpoint=path)
    again = duel(9)
    train(again, loss, TURNS, plan, seed=1, checkpoint=path)
    assert torch.equal(weights(again), weights(fit(plan)))
