"""The bound: where everything is normal, log p(x) is known in closed form."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from manikin.nn.loop import random  # noqa: E402
from manikin.nn.variational import MixturePrior, Normal, bound, loss  # noqa: E402

# z ~ N(0, 1), x | z ~ N(z, 1): x ~ N(0, 2), z | x ~ N(x / 2, 1 / 2)
X = torch.tensor([[-1.0], [0.0], [2.5]])
TRUTH = -0.25 * X[:, 0] ** 2 - 0.5 * math.log(4 * math.pi)
PRIOR = MixturePrior(1, 1, random(0, "t"))


def likelihood(z: Tensor) -> Tensor:
    return -0.5 * ((X - z) ** 2).sum(-1) - 0.5 * math.log(2 * math.pi)


def test_with_the_true_posterior_the_bound_is_exact_for_every_draw() -> None:
    exact = Normal(X / 2, torch.full_like(X, 0.5 * math.log(0.5)))
    for seed in range(3):
        found = -loss(exact, likelihood, PRIOR.log_density, random(seed, "t"))
        assert torch.allclose(found, TRUTH, atol=1e-5)


def test_with_a_wrong_one_it_lies_below_by_the_divergence_and_rises_with_draws() -> None:
    wrong = Normal(torch.zeros_like(X), torch.zeros_like(X))  # N(0, 1), the prior
    # KL(N(0,1) ‖ N(x/2, 1/2)) = ½ (2 - 1 + x²/2 - ln 2)
    divergence = 0.5 * (1 + X[:, 0] ** 2 / 2 - math.log(2))
    rng = random(1, "t")
    many = Normal(wrong.mean.repeat(20_000, 1, 1), wrong.log_scale.repeat(20_000, 1, 1))
    elbo = -loss(many, likelihood, PRIOR.log_density, rng)
    assert torch.allclose(elbo.mean(0), TRUTH - divergence, atol=0.06)
    many = bound(wrong, likelihood, PRIOR.log_density, random(2, "t"), draws=1000)
    assert torch.allclose(many, TRUTH, atol=0.15)


def test_the_divergence_can_be_weighted() -> None:
    wrong = Normal(torch.zeros_like(X), torch.zeros_like(X))
    free = loss(wrong, likelihood, PRIOR.log_density, random(1, "t"), weight=0.0)
    assert torch.equal(free, -likelihood(wrong.draw(random(1, "t"))))


def test_mixture_by_hand() -> None:
    prior = MixturePrior(2, 2, random(0, "t"))
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.25, 0.75]).log())
        prior.means.copy_(torch.tensor([[0.0, 0.0], [3.0, 1.0]]))
        prior.log_scales.copy_(torch.tensor([[0.0, 0.0], [0.0, math.log(2.0)]]))
    z = torch.tensor([[1.0, 2.0]])
    # ¼ φ(1) φ(2) + ¾ φ(-2) φ(½) / 2 = .25 · .241971 · .053991 + .375 · .053991 · .352065 = .010394
    assert float(prior.log_density(z).detach().exp()) == pytest.approx(0.010394, abs=1e-6)
    which = torch.rand(40_000, generator=random(1, "t"))
    drawn = prior.draw(which, torch.randn(40_000, 2, generator=random(2, "t")))
    assert torch.allclose(drawn.mean(0), torch.tensor([2.25, 0.75]), atol=0.04)
