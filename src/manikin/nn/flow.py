"""Diffusion of numbers by normal noise and of symbols by masks: objectives and samplers.

Numbers: Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based
generative models" (EDM), NeurIPS 2022, arXiv:2206.00364: x = x0 + σ ε, a denoiser
D(x, σ) = E[x0 | x] (§5, Table 1) and steps down a ladder of σ (eq. (5); Algorithm 2's noise).
Here the preconditioning may know a covariance, not only a variance: with a network that says
nothing, D is the exact denoiser of normal data, and the sampler draws such data.
Symbols: Sahoo et al., "Simple and effective masked diffusion language models", NeurIPS 2024,
arXiv:2406.07524 (eq. (10)); Shi et al., NeurIPS 2024, arXiv:2406.04329. The number of masked
symbols is drawn uniformly, which makes the bound that of an autoregression in every order
(Hoogeboom et al., ICLR 2022, arXiv:2110.02037, eq. (5)).
The step down solves the flow for normal data exactly, whose noise is an angle (cf. Lu and Song,
ICLR 2025, arXiv:2410.11081, §3).
Low-discrepancy noise levels: Kingma et al., NeurIPS 2021, arXiv:2107.00630, App. I.1.
Resampling around what is known: Lugmayr et al. (RePaint), CVPR 2022, arXiv:2201.09865, Algorithm 1.
Guidance: Ho and Salimans, arXiv:2207.12598, eq. (6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Normal", "denoise", "entered", "guided", "ladder", "levels", "masked", "masked_loss",
           "number_loss", "reveals", "sample", "stratified"]  # fmt: skip

MASK = -1  # a symbol that is not known
# (x, symbols, σ of the step) → (denoised x, log probabilities of symbols in the caller's layout)
Model: TypeAlias = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
Choose: TypeAlias = Callable[[Tensor], Tensor]  # log probabilities → a symbol for every place


# ------------------------------------------------------------------ noise levels


def stratified(n: int, rng: torch.Generator, device: torch.device | None = None) -> Tensor:
    """Return n uniform numbers, one in each n-th of [0, 1), in random order."""
    start = torch.rand(1, generator=rng, device=device)
    even = (start + torch.arange(n, device=device) / max(n, 1)) % 1.0
    return even[torch.randperm(n, generator=rng, device=device)]


def levels(t: Tensor, *, centre: float, spread: float, least: float, most: float) -> Tensor:
    """Return σ of uniform t, ln σ ~ N(centre, spread²) within its limits (EDM, Table 1)."""
    log_sigma = centre + spread * torch.special.ndtri(t.clamp(1e-6, 1 - 1e-6))
    sigma: Tensor = log_sigma.clamp(math.log(least), math.log(most)).exp()
    return sigma


def ladder(steps: int, *, least: float, most: float, rho: float = 7.0) -> list[float]:
    """Return σ of each step, falling from most to least, and 0 at last (EDM, eq. (5))."""
    a, b = most ** (1 / rho), least ** (1 / rho)
    found = [(a + i / max(steps - 1, 1) * (b - a)) ** rho for i in range(steps)]
    return [*found, 0.0]


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True)
class Normal:
    """Mean-zero normal data: variances along the axes that the columns of `axes` are.

    Without axes they are the coordinates themselves, and variances may be one number: EDM's σ_data.
    """

    variances: Tensor  # (d,) or ()
    axes: Tensor | None = None  # (d, d), orthogonal

    @staticmethod
    def of(covariance: Tensor, least: float = 1e-4) -> Normal:
        """Return normal data with this covariance, no variance below `least`."""
        values, vectors = torch.linalg.eigh(covariance.double())
        return Normal(values.clamp(min=least).float(), vectors.float())

    def turned(self, x: Tensor) -> Tensor:
        """Return x, (…, d), along the axes."""
        return x if self.axes is None else _product(x, self.axes)

    def back(self, y: Tensor) -> Tensor:
        """Undo `turned`."""
        return y if self.axes is None else _product(y, self.axes.T)

    def draw(self, like: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
        """Draw noisy data of this shape: N(0, covariance + σ² I)."""
        noise = torch.randn(like.shape, generator=rng, device=like.device)
        return self.back(noise * (self.variances + sigma**2).sqrt())

    def scaled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return x as a network reads it: along the axes, of variance 1 (c_in)."""
        return self.turned(x) / (self.variances + sigma**2).sqrt()


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    # never in bfloat16: small variances would drown in its rounding
    kind = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"
    with torch.autocast(kind, enabled=False):
        return x.float() @ matrix


def denoise(said: Tensor, x: Tensor, sigma: Tensor, data: Normal) -> Tensor:
    """Return D(x, σ) of what a network said, along the axes: c_skip x + c_out F (EDM, eq. (7))."""
    total = data.variances + sigma**2
    y = data.turned(x) * data.variances / total + said * sigma * (data.variances / total).sqrt()
    return data.back(y)


def number_loss(said: Tensor, clean: Tensor, x: Tensor, sigma: Tensor, data: Normal) -> Tensor:
    """Return the squared error of what a network said, (…, d) along the axes (EDM, eq. (8)).

    It is that of D(x, σ), weighted so that saying nothing costs 1 at every σ if data are normal.
    """
    total = data.variances + sigma**2
    wanted = data.turned(clean) - data.turned(x) * data.variances / total
    return (said - wanted / (sigma * (data.variances / total).sqrt())) ** 2


# ------------------------------------------------------------------ symbols


def masked(t: Tensor, places: Tensor, rng: torch.Generator) -> Tensor:
    """Return which of (rows, D) places to mask: 1 to all of those that count, by uniform t.

    `places` (D,) tells the ones that count; the others are masked as often.
    """
    order = torch.rand(len(t), len(places), generator=rng, device=t.device)
    if not len(places):
        return order > 1
    count = places.sum()
    among = order.masked_fill(~places, math.inf).sort(1).values
    last = torch.minimum((t * count).long(), count - 1).clamp(min=0)
    least = among.gather(1, last[:, None])  # of none that count it is infinite
    return (order <= least) & places.any()


def masked_loss(log_prob: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """Return the bound of each row in nats, (rows,), by log probabilities of the truth."""
    counted = mask & places
    share = counted.sum(1).clamp(min=1) / places.sum().clamp(min=1)
    return -(log_prob * counted).sum(1) / share


def reveals(mask: Tensor, steps: int, rng: torch.Generator) -> Tensor:
    """Return the step at which each masked place is revealed: spread evenly, in random order."""
    order = torch.rand(mask.shape, generator=rng, device=mask.device).masked_fill(~mask, 2.0)
    rank = order.argsort(1).argsort(1)
    total = mask.sum(1, keepdim=True).clamp(min=1)
    offset = torch.rand(len(mask), 1, generator=rng, device=mask.device)
    return ((rank + offset) * steps / total).long().clamp(max=steps - 1)


def guided(given: Tensor, free: Tensor, weight: float) -> Tensor:
    """Return a prediction pushed from what is said without a condition to what is with it."""
    return given + weight * (given - free)


# ------------------------------------------------------------------ the way back


def sample(
    model: Model, x: Tensor, symbols: Tensor, sigmas: list[float], due: Tensor, choose: Choose,
    rng: torch.Generator, data: Normal, *, noise: float = 0.0, known: Tensor | None = None,
    repeats: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Bring noisy x and masked symbols (rows, D) to data, in as many steps as there are σ.

    Symbols are chosen at the step where they are `due`; those that are known stay. Before a step σ
    is raised by the share `noise` with fresh noise: 0 is the deterministic flow. `known` (rows, d),
    NaN where unknown, is clamped to its noisy self, and each step is repeated from its own end, so
    that the unknown comes to agree with it.
    """
    symbols = symbols.clone()
    fixed = torch.zeros_like(x, dtype=torch.bool) if known is None else ~known.isnan()
    truth = torch.zeros_like(x) if known is None else known.nan_to_num()
    for i, sigma in enumerate(sigmas):
        after = sigmas[i + 1] if i + 1 < len(sigmas) else 0.0
        times = repeats if sigma > after > 0 and known is not None else 1
        for again in range(times):
            raised = sigma * (1 + noise)
            x = renoised(x, sigma, raised, rng) if noise else x
            if known is not None:
                x = torch.where(fixed, renoised(truth, 0.0, raised, rng), x)
            clean, log_prob = model(x, symbols, raised)
            new = (symbols == MASK) & (due == i)
            if bool(new.any()):
                symbols = torch.where(new, choose(log_prob), symbols)
            if sigma > after:
                x = step(x, clean, raised, after, data)
                if again + 1 < times:
                    x = renoised(x, after, sigma, rng)
    return torch.where(fixed, truth, x), symbols


def step(x: Tensor, clean: Tensor, sigma: float, after: float, data: Normal) -> Tensor:
    """Follow the probability flow (EDM, eq. (1)) from σ to σ', what the network says held constant.

    Along an axis of variance v let y = u √(v + σ²), and D = c_skip y + c_out F: then
    du / dσ = -F √v / (v + σ²), so u' = u + F (atan(σ / √v) - atan(σ' / √v)). For normal data F = 0,
    and a step of any length is exact.
    """
    return _turned(x, clean, sigma, torch.atan(sigma / data.variances.sqrt()), after, data)


def entered(x: Tensor, clean: Tensor, sigma: float, data: Normal) -> Tensor:
    """Follow the flow from endless noise, whose angle is π / 2, to σ.

    x is a draw of normal data at σ, and D what the network says of it: so rows begin where their
    condition puts them, not where all rows are.
    """
    return _turned(x, clean, sigma, torch.tensor(math.pi / 2, device=x.device), sigma, data)


def _turned(
    x: Tensor, clean: Tensor, sigma: float, angle: Tensor, after: float, data: Normal
) -> Tensor:
    v = data.variances
    root, wide = v.sqrt(), (v + sigma**2).sqrt()
    u = data.turned(x) / wide
    said = (data.turned(clean) * wide - v * u) / (sigma * root)
    turn = angle - torch.atan(after / root)
    return data.back((u + said * turn) * (v + after**2).sqrt())


def renoised(x: Tensor, sigma: float, more: float, rng: torch.Generator) -> Tensor:
    """Raise the noise of x from σ to more."""
    noise = torch.randn(x.shape, generator=rng, device=x.device)
    return x + math.sqrt(max(more**2 - sigma**2, 0.0)) * noise
