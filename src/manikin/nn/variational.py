"""The evidence lower bound, for any network and any modality.

Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, eq. (3); the bound of several
draws: Burda, Grosse and Salakhutdinov, ICLR 2016, eq. (8). The prior of the latents is a learnt
mixture of normals: Dilokthanakul et al., arXiv:1611.02648; Tomczak and Welling, AISTATS 2018, §2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["LogDensity", "MixturePrior", "Normal", "bound", "loss"]

LogDensity: TypeAlias = Callable[[Tensor], Tensor]  # (…, latent) → (…)
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Normal:
    """Independent normals, a row each: q(z|x)."""

    mean: Tensor  # (rows, latent)
    log_scale: Tensor

    @staticmethod
    def of(outputs: Tensor) -> Normal:
        """Return the normals that (rows, 2 latent) outputs of a network describe."""
        mean, log_scale = outputs.float().chunk(2, dim=-1)
        return Normal(mean, log_scale.clamp(-6.0, 2.0))

    def draw(self, rng: torch.Generator) -> Tensor:
        """Draw one z a row, differentiable in mean and scale: z = μ + σ ε."""
        noise = torch.randn(self.mean.shape, generator=rng, device=self.mean.device)
        return self.mean + self.log_scale.exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q(z), (rows,)."""
        standard = (z - self.mean) * torch.exp(-self.log_scale)
        return -0.5 * (standard**2 + LOG_2PI + 2 * self.log_scale).sum(-1)


class MixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(z; m_k, diag s_k²)."""

    def __init__(self, latent: int, components: int, rng: torch.Generator) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        spread = 1.0 if components > 1 else 0.0
        self.means = nn.Parameter(spread * torch.randn(components, latent, generator=rng))
        self.log_scales = nn.Parameter(torch.zeros(components, latent))

    def log_density(self, z: Tensor) -> Tensor:
        """Return log p(z), (rows,)."""
        found: Tensor = self(z)
        return found

    def forward(self, z: Tensor) -> Tensor:
        """Return log p(z), (rows,): where private training looks for a module's use."""
        log_scales = self.log_scales.clamp(-4.0, 2.0)
        precision = torch.exp(-2 * log_scales)  # (components, latent)
        # Σ (z - m)² / s² as three products: (rows, components)
        square = z**2 @ precision.T - 2 * z @ (self.means * precision).T
        square = square + (self.means**2 * precision).sum(-1)
        log_each = -0.5 * square - log_scales.sum(-1) - 0.5 * z.shape[-1] * LOG_2PI
        return torch.logsumexp(log_each + torch.log_softmax(self.logits, 0), dim=-1)

    def draw(self, which: Tensor, noise: Tensor) -> Tensor:
        """Return z of uniform numbers (rows,), which choose components, and normal (rows, z)."""
        total = torch.softmax(self.logits, 0).cumsum(0)
        component = torch.searchsorted(total, which).clamp(max=len(total) - 1)
        scale = self.log_scales.clamp(-4.0, 2.0).exp()[component]
        return self.means[component] + scale * noise


def loss(
    posterior: Normal,
    log_likelihood: LogDensity,
    log_prior: LogDensity,
    rng: torch.Generator,
    *,
    weight: float = 1.0,
) -> Tensor:
    """Return the negative bound of each row, (rows,), the divergence from the prior weighted."""
    noise = torch.randn(posterior.mean.shape, generator=rng, device=posterior.mean.device)
    z = torch.addcmul(posterior.mean, posterior.log_scale.exp(), noise)
    # log q(z|x) of its own draw: (z - μ) / σ is the noise, and has no gradient
    log_density = -0.5 * (noise**2 + LOG_2PI).sum(-1) - posterior.log_scale.sum(-1)
    divergence = log_density - log_prior(z)
    return weight * divergence - log_likelihood(z)


@torch.no_grad()
def bound(
    posterior: Normal,
    log_likelihood: LogDensity,
    log_prior: LogDensity,
    rng: torch.Generator,
    *,
    draws: int,
) -> Tensor:
    """Return a lower bound of log p(x), (rows,), that rises to it as draws become many."""
    weights = []
    for _ in range(draws):
        z = posterior.draw(rng)
        weights.append(log_likelihood(z) + log_prior(z) - posterior.log_density(z))
    return torch.logsumexp(torch.stack(weights), dim=0) - math.log(draws)
