"""Clipped sums against every row's own gradient, and what private training refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'deep'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

from torch import Tensor, nn  # noqa: E402

from manikin.errors import InputError, NotSupported, PrivacyError  # noqa: E402
from manikin.nn.loop import Plan, random, train  # noqa: E402
from manikin.nn.mlp import MLP, Linear, ResidualMLP  # noqa: E402
from manikin.nn.private import Private, clipped_sum  # noqa: E402
from manikin.nn.variational import MixturePrior  # noqa: E402
from manikin.privacy.account import Account  # noqa: E402
from manikin.privacy.budget import Budget  # noqa: E402
from manikin.privacy.rows import Rows  # noqa: E402
from manikin.privacy.training import train_on  # noqa: E402
from manikin.synthesizers.table._loglinear import Pairs  # noqa: E402


class Net(nn.Module):
    """Every kind of part: used once, twice, on several places of a row, and through a prior."""

    def __init__(self) -> None:
        super().__init__()
        rng = random(0, "net")
        self.body = ResidualMLP(7, 5, width=16, depth=2, rng=rng)
        self.prior = MixturePrior(5, 4, rng)
        self.head = MLP(5, 3, width=8, depth=1, rng=rng)
        with torch.no_grad():
            for p in self.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=rng))

    def losses(self, x: Tensor) -> Tensor:  # (rows, 7) → (rows,)
        h, other = self.body(x), self.body(2 * x)
        places = torch.stack([h, other, h * other], 1)  # (rows, 3, 5)
        said = self.head(h).square().sum(1) + self.head(places).sum((1, 2))
        return torch.as_tensor(said - self.prior.log_density(h + other))


def by_hand(net: Any, x: Tensor, whose: Tensor, clip: float) -> list[Tensor]:
    parameters = list(net.parameters())
    each = [torch.autograd.grad(net.losses(x[i : i + 1]).sum(), parameters) for i in range(len(x))]
    norms = torch.stack([torch.cat([g.flatten() for g in one]).norm() for one in each])
    subject = torch.zeros(len(x)).index_add_(0, whose, norms)
    return [
        torch.stack([one[k] * min(1.0, clip / float(subject[w]))
                     for one, w in zip(each, whose, strict=True)]).sum(0)
        for k in range(len(parameters))
    ]  # fmt: skip


@pytest.mark.parametrize("rows_each", [1, 2])
@pytest.mark.parametrize("clip", [0.5, 50.0, 1e6])
def test_the_sum_is_that_of_each_rows_clipped_gradient(rows_each: int, clip: float) -> None:
    net, x = Net(), torch.randn(12, 7, generator=random(1, "rows"))
    whose = torch.arange(12) // rows_each
    found = clipped_sum(net, lambda: net.losses(x), whose, clip)
    for p, wanted in zip(net.parameters(), by_hand(net, x, whose, clip), strict=True):
        assert torch.allclose(found[p], wanted, rtol=1e-4, atol=1e-5 * clip)


class Masked(nn.Module):
    """A part with a rule of its own: every number leans on those before it."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        rng = random(4, "masked")
        self.pairs, self.times = Pairs(7), times
        self.pairs.sees = torch.tril(torch.ones(7, 7), -1)
        with torch.no_grad():
            for p in self.parameters():
                p.add_(0.5 * torch.randn(p.shape, generator=rng))

    def losses(self, x: Tensor) -> Tensor:
        return torch.stack([self.pairs(x).exp().sum(1) for _ in range(self.times)]).sum(0)


@pytest.mark.parametrize("rows_each", [1, 3])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_a_rule_of_a_parts_own_is_that_of_each_row(rows_each: int, clip: float) -> None:
    net, x = Masked(), torch.randn(12, 7, generator=random(5, "rows"))
    whose = torch.arange(12) // rows_each
    found = clipped_sum(net, lambda: net.losses(x), whose, clip)
    for p, wanted in zip(net.parameters(), by_hand(net, x, whose, clip), strict=True):
        assert torch.allclose(found[p], wanted, rtol=1e-4, atol=1e-5 * min(clip, 1.0))
    twice = Masked(2)
    with pytest.raises(NotSupported, match="called 2 times"):
        clipped_sum(twice, lambda: twice.losses(x), whose, clip)


def test_no_subject_moves_the_sum_by_more_than_the_clip() -> None:
    net, x = Net(), 100 * torch.randn(9, 7, generator=random(2, "rows"))
    whose = torch.arange(9) // 3
    whole = clipped_sum(net, lambda: net.losses(x), whose, 0.7)
    for subject in range(3):
        rest = whose != subject
        less = clipped_sum(net, lambda rest=rest: net.losses(x[rest]),  # type: ignore[misc]
                           whose[rest], 0.7)  # fmt: skip
        moved = torch.cat([(whole[p] - less[p]).flatten() for p in whole]).norm()
        assert moved <= 0.7 * (1 + 1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_a_gradient_is_left_out(bad: float) -> None:
    net, x = Net(), torch.randn(6, 7, generator=random(3, "rows"))
    x[2, 0] = bad
    kept = torch.arange(6) != 2
    found = clipped_sum(net, lambda: net.losses(x), torch.arange(6), 0.5)
    wanted = clipped_sum(net, lambda: net.losses(x[kept]), torch.arange(5), 0.5)
    for p in found:
        assert torch.allclose(found[p], wanted[p], atol=1e-6)


def test_a_parameter_that_no_module_uses_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bare = nn.Parameter(torch.ones(3))
            self.line = Linear(3, 1, random(0, "bare"))

        def losses(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.line(x * self.bare).sum(1))

    net = Bare()
    with pytest.raises(NotSupported, match="not called"):
        clipped_sum(net, lambda: net.losses(torch.ones(2, 3)), torch.arange(2), 1.0)


def test_copies_of_a_row_are_clipped_as_their_mean() -> None:
    net, x = Net(), torch.randn(12, 7, generator=random(4, "rows"))
    found = clipped_sum(net, lambda: net.losses(x), torch.arange(4), 0.5, copies=3)
    parameters, wanted = list(net.parameters()), [torch.zeros(())] * 100
    for row in range(4):
        mean = torch.autograd.grad(net.losses(x[3 * row : 3 * row + 3]).mean(), parameters)
        far = torch.cat([g.flatten() for g in mean]).norm()
        wanted = [w + g * min(1.0, 0.5 / float(far)) for w, g in zip(wanted, mean, strict=False)]
    for p, total in zip(parameters, wanted, strict=True):
        assert torch.allclose(found[p], total, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ in the loop


def test_what_is_drawn_for_a_row_is_not_told_by_the_seed() -> None:
    drawn = []

    def loss(net: nn.Module, batch: Any, rng: torch.Generator) -> Tensor:
        drawn.append(float(torch.rand(1, generator=rng)))
        return torch.as_tensor(net.losses(batch[0]))  # type: ignore[operator]

    for _ in range(2):
        steps = private(rows_of(100), 2)
        train(Net(), loss, steps.batches, Plan(2), seed=1, gradients=steps)
    assert len(set(drawn)) == 4


def rows_of(n: int, epsilon: float = 3.0) -> Rows:
    codes = np.random.default_rng(0).integers(0, 2, (n, 7)).astype(np.int32)
    return Rows(codes, np.arange(n), (2,) * 7, 1, Account(Budget(epsilon)))


def private(rows: Rows, steps: int, batch: float = 20.0) -> Private:
    training = train_on(rows, batch=batch, steps=steps, subjects=100.0, what="steps")
    return Private(training, lambda codes: (codes.float(),), clip=1.0)


def test_a_private_training_tells_no_loss_and_takes_the_paid_steps_only() -> None:
    net, told = Net(), []
    steps = private(rows_of(100), 12)
    done = train(
        net, lambda net, batch, rng: net.losses(batch[0]), steps.batches, Plan(12, look=3),  # type: ignore[operator]
        seed=1, gradients=steps, watch=lambda p: told.append(dict(p.figures)),
    )  # fmt: skip
    assert done.steps == 12 and done.held_out == ()
    assert told and not any("loss" in name for figures in told for name in figures)
    with pytest.raises(PrivacyError, match="more than the 12"):
        steps.batches(12)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_that_is_none_is_refused(clip: float) -> None:
    with pytest.raises(InputError, match="clipped to the norm"):
        Private(private(rows_of(5), 1).training, lambda codes: (codes,), clip=clip)


def test_an_empty_step_is_noise_alone() -> None:
    net, steps = Net(), private(rows_of(0), 3)
    train(net, lambda net, batch, rng: net.losses(batch[0]), steps.batches, Plan(3),  # type: ignore[operator]
          seed=1, gradients=steps)  # fmt: skip
    assert all(bool(p.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("what", ["held_out", "checkpoint", "seconds"])
def test_what_looks_at_rows_or_repeats_a_step_is_refused(what: str, tmp_path: Path) -> None:
    steps = private(rows_of(50), 3)
    plan = Plan(3, seconds=5.0) if what == "seconds" else Plan(3)
    more: dict[str, Any] = {}
    if what == "held_out":
        more = {"held_out": [(torch.zeros(2, 7),)]}
    elif what == "checkpoint":
        more = {"checkpoint": tmp_path / "half.safetensors"}
    with pytest.raises(PrivacyError, match="held-out rows, a checkpoint or a limit of time"):
        train(Net(), lambda net, batch, rng: net.losses(batch[0]), steps.batches, plan,  # type: ignore[operator]
              seed=1, gradients=steps, **more)  # fmt: skip
