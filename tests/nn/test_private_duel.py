"""Critics under a budget: what a step releases, by hand, and what of rows a generator sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'deep'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

from torch import Tensor, nn  # noqa: E402

from manikin.nn.adversarial import Duel, PrivateDuel, still  # noqa: E402
from manikin.nn.loop import Batch, Plan, random, train  # noqa: E402
from manikin.nn.mlp import MLP  # noqa: E402
from manikin.privacy.account import Account  # noqa: E402
from manikin.privacy.budget import Budget  # noqa: E402
from manikin.privacy.rows import Rows  # noqa: E402
from manikin.privacy.training import Training  # noqa: E402

CLIP = 0.3


class Critic(nn.Module):
    """Rows of five numbers → how real they look."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = MLP(5, 1, width=8, depth=1, rng=random(0, "critic"))

    def forward(self, rows: Tensor) -> Tensor:
        return torch.as_tensor(self.layers(rows)[:, 0])


def duel() -> Duel:
    return Duel(MLP(2, 5, width=8, depth=1, rng=random(0, "generator")), Critic())


def drawn(generator: nn.Module, rng: torch.Generator) -> tuple[Tensor]:
    return (generator(torch.randn(40, 2, generator=rng)),)


def loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return what a generator pays; that of a critic is its weights' square."""
    del rng
    assert isinstance(network, Duel)
    moves, fake = batch
    assert fake.shape == (40, 5)  # drawn rows, and no others
    held = 0.5 * sum(p.square().sum() for p in network.critic.parameters())
    if not moves:
        return torch.as_tensor(held)
    return held - still(network.critic)(fake).mean()


def steps_of(
    codes: np.ndarray, subjects: np.ndarray, most_rows: int = 1, **more: Any
) -> PrivateDuel:
    """Return paid steps of which every one sees all subjects."""
    rows = Rows(codes, subjects, (9,) * 5, most_rows, Account(Budget(3.0)))
    training = Training(rows, 1.0, 1.0, 9, 10.0)
    return PrivateDuel(training, lambda c: (c.float() - 4,), clip=CLIP, drawn=drawn, **more)


def codes_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, (n, 5)).astype(np.int32)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Take away the noise, and keep the sums that it was to hide."""
    kept: list[np.ndarray] = []

    def bare(self: Training, total: np.ndarray, *, clip: float) -> np.ndarray:
        assert clip == CLIP
        kept.append(total)
        return total

    monkeypatch.setattr(Training, "noised", bare)
    return kept


def gradients(steps: PrivateDuel, network: Duel) -> tuple[Tensor, Tensor]:
    """Take one step; return what it leaves on the critic and on the generator."""
    for p in network.parameters():
        p.grad = None
    steps(network, loss, steps.batches(0), random(7, "step"))
    found = []
    for part in (network.critic, network.generator):
        found.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
                                for p in part.parameters()]))  # fmt: skip
    return found[0], found[1]


def each_row(critic: nn.Module, rows: Tensor) -> Tensor:
    """Return every row's own gradient of what the critic says, (rows, P)."""
    parameters = list(critic.parameters())
    every = [torch.autograd.grad(critic(rows[i : i + 1]).sum(), parameters)
             for i in range(len(rows))]  # fmt: skip
    return torch.stack([torch.cat([g.flatten() for g in one]) for one in every])


def clipped(each: Tensor, most: float) -> Tensor:
    norms = each.norm(dim=1, keepdim=True)
    return each * (most / norms).clamp(max=1.0)


@pytest.mark.parametrize("most_rows", [1, 2])
def test_the_critics_gradient_is_the_clipped_sums_by_hand(
    most_rows: int, released: list[np.ndarray]
) -> None:
    codes, network = codes_of(12), duel()
    subjects, mass = np.arange(12) // most_rows, 0.8
    steps = steps_of(codes, subjects, most_rows, mass=mass)
    critic, _ = gradients(steps, network)
    own = -each_row(network.critic, torch.from_numpy(codes).float() - 4) / most_rows
    norms = own.norm(dim=1).view(-1, most_rows).sum(1)  # a subject's, at most
    factor = (CLIP / norms).clamp(max=1.0).repeat_interleave(most_rows)
    real = (factor[:, None] * own).sum(0)
    assert torch.allclose(torch.from_numpy(released[0]).float(), real, atol=1e-5)
    fake = drawn(network.generator, random(7, "step"))[0].detach()
    public = mass * clipped(each_row(network.critic, fake), CLIP).mean(0)
    weights = torch.cat([p.detach().flatten() for p in network.critic.parameters()])
    # 10 subjects are expected a step, whatever came
    assert torch.allclose(critic, real / 10 + public + weights, atol=1e-5)


def test_no_subject_moves_the_released_sum_by_more_than_the_clip(
    released: list[np.ndarray],
) -> None:
    codes, subjects, network = codes_of(12), np.arange(12) // 3, duel()
    gradients(steps_of(codes, subjects, 3), network)
    for gone in range(4):
        kept = subjects != gone
        gradients(steps_of(codes[kept], subjects[kept], 3), network)
        moved = float(np.linalg.norm(released[0] - released[-1]))
        assert 0 < moved <= CLIP * (1 + 1e-5)


def test_no_real_row_reaches_the_generator_but_through_the_critic(
    released: list[np.ndarray],
) -> None:
    network, subjects = duel(), np.arange(12)
    judged, moved = zip(
        *[gradients(steps_of(codes_of(12, seed), subjects), network) for seed in (0, 1)],
        strict=True,
    )
    assert not torch.allclose(*judged)
    assert torch.equal(*moved) and moved[0].abs().max() > 0


def test_a_still_critic_learns_nothing() -> None:
    network = duel()
    still(network.critic)(*drawn(network.generator, random(0, "r"))).sum().backward()
    assert all(p.grad is None for p in network.critic.parameters())
    assert all(p.grad is not None for p in network.generator.parameters())


def test_releases_of_a_linear_critic_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([3.0, 5.0, 10.0])  # sums; 10 subjects expected: 0.3, 0.5, 1.0 a step

    def noised(self: Training, total: np.ndarray, *, clip: float) -> np.ndarray:
        return np.full_like(total, next(said))

    monkeypatch.setattr(Training, "noised", noised)
    network, steps = duel(), steps_of(codes_of(12), np.arange(12), linear=True)
    parts = [gradients(steps, network)[0] for _ in range(3)]
    # means: 0.3, 0.4, 0.6; what is public is the same at every step
    assert torch.allclose(parts[1] - parts[0], torch.tensor(0.1), atol=1e-6)
    assert torch.allclose(parts[2] - parts[0], torch.tensor(0.3), atol=1e-6)


def test_the_generator_moves_when_it_is_its_turn_and_an_empty_step_is_none_the_less_one() -> None:
    network, steps = duel(), steps_of(codes_of(0), np.arange(0), critic_steps=2)
    before = [p.detach().clone() for p in network.generator.parameters()]
    train(network, loss, steps.batches, Plan(1, average=0.0), seed=1, gradients=steps)
    assert all(map(torch.equal, before, network.generator.parameters()))
    steps = steps_of(codes_of(0), np.arange(0), critic_steps=2)
    train(network, loss, steps.batches, Plan(2, average=0.0), seed=1, gradients=steps)
    assert not all(map(torch.equal, before, network.generator.parameters()))
    assert all(bool(p.isfinite().all()) for p in network.parameters())
