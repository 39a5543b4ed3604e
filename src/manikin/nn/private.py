"""Private gradients: each subject's clipped, their sum noised (DP-SGD), for any network.

Reference  Abadi et al., "Deep learning with differential privacy", CCS 2016 (Alg. 1); Li, Tramèr,
           Liang and Hashimoto, ICLR 2022, §4 (ghost clipping: norms without gradients); Bu, Wang,
           Zha and Karypis, "Differentially private optimization on large foundation models at
           small cost", ICML 2023 (book-keeping: one backward pass)
Idea       what enters a layer and the slope of what leaves it tell each row's gradient. One pass
           back finds the slopes; from them come every row's norm, then the sum of the clipped
           gradients as one matrix product, and no row's gradient is ever made for a wide layer
Algorithm  1 draw the subjects of a step (`privacy/training.py`) · 2 rows' losses forward, keeping
           what enters each layer · 3 slopes of the layers' outputs, back · 4 norms, clip factors ·
           5 clipped sum · 6 noise, and division by the expected number of subjects

What it asks of a network: a trainable parameter belongs to a module that uses it in its own
`forward` alone, with rows along the axis `rows_at` of its first argument and its result (0 unless
the module says otherwise), and no row's loss depends on another row: so no batch statistics.
A subject's gradient is the sum of its rows'; it is clipped by the sum of their norms, which is at
least its own (with one row a subject, exactly it). A row whose gradient is not finite is left out.
A module that is called once a loss may bring a rule of its own, `row_gradients(entered, slopes)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn import functional

from manikin.errors import InputError, NotSupported
from manikin.nn.mlp import Linear, Norm
from manikin.privacy import secret
from manikin.privacy.training import Training

__all__ = ["OfPairs", "Private", "hidden"]

TINY = 1e-12  # of a norm


class Private:
    """Gradients for the training loop, each step bought: hand it to `loop.train` as `gradients`.

    The batch of a step is what `batches` returns: whose rows they are, then the loss's own batch.
    """

    def __init__(
        self, training: Training, rows: Callable[[Tensor], tuple[Tensor, ...]], *, clip: float,
        copies: int = 1,
    ) -> None:  # fmt: skip
        """Clip each subject to the norm `clip`; `rows` turns codes into the loss's batch.

        Each row may stand in the batch `copies` times on end, with other noise each time.
        Raises InputError for a norm that is no positive number.
        """
        if not 0 < clip < math.inf:
            raise InputError(
                f"gradients clipped to the norm {clip:g}", "a positive number", "correct 'clip'"
            )
        self.training, self.rows, self.clip, self.copies = training, rows, clip, copies

    def batches(self, step: int) -> tuple[Tensor, ...]:
        """Return a step's subjects, by secret coins: not by its number."""
        del step
        codes, whose = self.training.draw()
        return torch.from_numpy(whose), *self.rows(torch.from_numpy(codes).long())

    def __call__(
        self,
        network: nn.Module,
        loss: Callable[[nn.Module, tuple[Tensor, ...], torch.Generator], Tensor],
        batch: tuple[Tensor, ...],
        rng: torch.Generator,
    ) -> None:
        """Leave the noisy gradient on the parameters; the loss itself is not told.

        The rows' own noise is secret too: who knew it could tell by one row's who stands before it.
        """
        whose, *own = batch
        rng.manual_seed(secret.word())
        self.leave(network, lambda: loss(network, tuple(own), rng), whose)

    def leave(self, network: nn.Module, losses: Callable[[], Tensor], whose: Tensor) -> None:
        """Leave the noisy gradient of rows' losses, (rows,), on the parameters of `network`.

        It is added to what is there.
        """
        parameters = [p for p in network.parameters() if p.requires_grad]
        total = clipped_sum(
            network, losses, whose, self.clip, copies=self.copies
        ) if len(whose) else None  # fmt: skip
        flat = torch.cat([
            torch.zeros(p.numel(), dtype=torch.float64) if total is None
            else total[p].double().flatten().cpu() for p in parameters
        ])  # fmt: skip
        noisy = self.training.noised(flat.numpy(), clip=self.clip) / self.training.expected
        at = 0
        for p in parameters:
            part = torch.from_numpy(noisy[at : at + p.numel()]).view(p.shape).to(p)
            p.grad = part if p.grad is None else p.grad + part
            at += p.numel()


def hidden() -> torch.Generator:
    """Return a random stream that nobody can repeat: for what is drawn for each private row."""
    return torch.Generator().manual_seed(secret.word())


# ------------------------------------------------------------------ the clipped sum


def clipped_sum(
    network: nn.Module, losses: Callable[[], Tensor], whose: Tensor, clip: float, *,
    copies: int = 1,
) -> dict[nn.Parameter, Tensor]:  # fmt: skip
    """Return the sum over subjects of their gradients, each clipped to the norm `clip`.

    Of `copies` of a row that stand on end in the batch, the mean gradient is the row's (De et al.,
    arXiv:2204.13650, §3.2: augmentation multiplicity); `whose` tells rows without their copies.
    Raises NotSupported for a network of which a parameter is used by no module's `forward`.
    """
    with _kept(network) as uses:
        each = losses()
    reached = [use for use in uses if use.output.requires_grad]
    slopes = torch.autograd.grad(
        each.sum() / copies, [use.output for use in reached], allow_unused=True
    )
    used = [(use, slope) for use, slope in zip(reached, slopes, strict=True) if slope is not None]
    by_module: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    for use, slope in used:
        call = _joined(use, slope, copies) if copies > 1 else (use.input, slope)
        by_module.setdefault(use.module, []).append(call)
    _check(network, by_module)
    with torch.no_grad():
        found = [_gradients(module, calls) for module, calls in by_module.items()]
        norms = torch.stack([one.squared_norms() for one in found]).sum(0).sqrt()  # (rows,)
        sound = torch.isfinite(norms)
        if not bool(sound.all()):  # no number times nothing would be no number still
            kept = [[_without(use, ~sound, m) for use in calls] for m, calls in by_module.items()]
            found = [_gradients(m, calls) for m, calls in zip(by_module, kept, strict=True)]
            norms = torch.stack([one.squared_norms() for one in found]).sum(0).sqrt()
        factors = _factors(norms, whose, clip)
        total = {p: torch.zeros_like(p) for p in network.parameters() if p.requires_grad}
        for one in found:
            for parameter, part in one.weighted(factors).items():
                total[parameter] += part
    return total


def _factors(norms: Tensor, whose: Tensor, clip: float) -> Tensor:
    """Return by what each row's gradient is multiplied, (rows,)."""
    subject = norms.new_zeros(int(whose.max()) + 1).index_add_(0, whose, norms)
    return (clip / subject.clamp(min=TINY)).clamp(max=1.0)[whose]


def _joined(use: _Use, slope: Tensor, copies: int) -> tuple[Tensor, Tensor]:
    """Return what entered a module and its slopes, the copies of a row as places of it."""
    if getattr(use.module, "rows_at", 0) or hasattr(use.module, "row_gradients"):
        raise NotSupported(
            f"copies of rows in a part ({type(use.module).__name__}) with a rule of its own",
            "one copy", "report this: it is a fault of the method",
        )  # fmt: skip
    joined = (x.reshape(-1, copies, *x.shape[1:]) for x in (use.input, slope))
    entered, slopes = joined
    return entered, slopes


def _without(call: tuple[Tensor, Tensor], lost: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what entered a module and its slopes, with nothing in the rows that are `lost`."""
    at: int = getattr(module, "rows_at", 0)
    shapes = [[-1 if axis == at else 1 for axis in range(x.dim())] for x in call]
    entered, slopes = (x.masked_fill(lost.view(s), 0) for x, s in zip(call, shapes, strict=True))
    return entered, slopes


@dataclass(frozen=True)
class _Use:
    """A call of a module with parameters of its own."""

    module: nn.Module
    input: Tensor
    output: Tensor


@contextmanager
def _kept(network: nn.Module) -> Iterator[list[_Use]]:
    """Keep what enters and leaves every module that has trainable parameters of its own."""
    uses: list[_Use] = []

    def keep(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        uses.append(_Use(module, given[0].detach(), output))

    owners = [m for m in network.modules() if _own(m)]
    hooks = [module.register_forward_hook(keep) for module in owners]
    try:
        yield uses
    finally:
        for hook in hooks:
            hook.remove()


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in module.named_parameters(recurse=False) if p.requires_grad}


def _check(network: nn.Module, by_module: dict[nn.Module, Any]) -> None:
    lost = [
        name for name, module in network.named_modules() if _own(module) and module not in by_module
    ]
    if lost:
        raise NotSupported(
            f"a network of which these parts are not called: {', '.join(lost)}",
            "parts whose parameters are used in their own forward, which the loss depends on",
            "report this: private training would leave them as they began",
        )


# ------------------------------------------------------------------ rows' gradients, a module


class _Gradients(Protocol):
    def squared_norms(self) -> Tensor:
        """Return the squared norm of each row's gradient, (rows,)."""

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return the sum of rows' gradients, each multiplied by its factor, (rows,)."""


def _gradients(module: nn.Module, calls: Sequence[tuple[Tensor, Tensor]]) -> _Gradients:
    if type(module) is Linear:
        return _OfLinear.of(module, calls)
    if type(module) is Norm:
        return _Made.of_norm(module, calls)
    rule = getattr(module, "row_gradients", None)
    if rule is not None:
        if len(calls) != 1:
            raise NotSupported(
                f"a part ({type(module).__name__}) that is called {len(calls)} times a loss",
                "one call, as its own rule for rows' gradients asks",
                "report this: private training would clip the wrong gradient",
            )
        own: _Gradients = rule(*calls[0])
        return own
    return _Made.of(module, calls)


@dataclass(frozen=True)
class _OfLinear:
    """Gradients of an affine map: G = Σ_t g_t a_tᵀ, of which only norms and sums are made."""

    module: Linear
    entered: Tensor  # (rows, wide) or (rows, places, wide): a
    slopes: Tensor  # (rows, out) or (rows, places, out): g

    @staticmethod
    def of(module: Linear, calls: Sequence[tuple[Tensor, Tensor]]) -> _OfLinear:
        if len(calls) == 1 and calls[0][0].dim() == 2:
            return _OfLinear(module, *calls[0])
        rows = len(calls[0][0])
        parts = [(a.reshape(rows, -1, a.shape[-1]), g.reshape(rows, -1, g.shape[-1]))
                 for a, g in calls]  # fmt: skip
        entered, slopes = (torch.cat(one, 1) for one in zip(*parts, strict=True))
        return _OfLinear(module, entered, slopes)

    def squared_norms(self) -> Tensor:
        """Return ‖G‖² = Σ_st (a_s·a_t)(g_s·g_t) and the bias's; from G where that is less work."""
        a, g = self.entered, self.slopes
        if a.dim() == 2:
            return (_squared(a) + 1) * _squared(g)
        bias = _squared(g.sum(1))
        if 2 * a.shape[1] ** 2 <= self.module.weight.numel():
            return ((a @ a.mT) * (g @ g.mT)).sum((1, 2)) + bias
        return (g.mT @ a).square().sum((1, 2)) + bias

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return Σ_i f_i G_i and that of the bias."""
        a, g = self.entered, self.slopes
        g = g * factors.view(-1, *[1] * (g.dim() - 1))
        a, g = a.flatten(0, -2), g.flatten(0, -2)
        return {self.module.weight: g.T @ a, self.module.bias: g.sum(0)}


@dataclass(frozen=True)
class OfPairs:
    """Gradients of an affine map of which a mask leaves some weights: G = (g aᵀ) ∘ M."""

    weight: nn.Parameter
    bias: nn.Parameter
    mask: Tensor  # (out, wide), 0 or 1: M
    entered: Tensor  # (rows, wide): a
    slopes: Tensor  # (rows, out): g

    def squared_norms(self) -> Tensor:
        """Return ‖G‖² = Σ_o g_o² Σ_w M_ow a_w² and the bias's."""
        each = self.entered.square() @ self.mask.T  # (rows, out)
        return (self.slopes.square() * (each + 1)).sum(1)

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return Σ_i f_i G_i and that of the bias."""
        g = self.slopes * factors[:, None]
        return {self.weight: (g.T @ self.entered) * self.mask, self.bias: g.sum(0)}


def _squared(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norms.square()


@dataclass(frozen=True)
class _Made:
    """Gradients of any module, each row's made: for those whose parameters are few."""

    made: dict[nn.Parameter, Tensor]  # (rows, …) each

    @staticmethod
    def of(module: nn.Module, calls: Sequence[tuple[Tensor, Tensor]]) -> _Made:
        own = _own(module)
        at: int = getattr(module, "rows_at", 0)

        def row(entered: Tensor, slope: Tensor) -> dict[str, Tensor]:
            def forward(parameters: dict[str, Tensor]) -> Tensor:
                out: Tensor = functional_call(module, parameters, (entered.unsqueeze(at),))
                return out.squeeze(at)

            pull: Callable[..., Any] = vjp(forward, own)[1]
            return dict(pull(slope)[0])

        total: dict[str, Tensor] = {}
        for entered, slope in calls:
            each = vmap(row, in_dims=at)(entered, slope)
            total = {n: total[n] + g if n in total else g for n, g in each.items()}
        return _Made({own[name]: each for name, each in total.items()})

    @staticmethod
    def of_norm(module: Norm, calls: Sequence[tuple[Tensor, Tensor]]) -> _Made:
        """Return those of a scale: what it multiplies, times the slope, over all places."""
        each = [
            (g * functional.layer_norm(x, x.shape[-1:])).reshape(len(x), -1, x.shape[-1]).sum(1)
            for x, g in calls
        ]
        return _Made({module.scale: torch.stack(each).sum(0)})

    def squared_norms(self) -> Tensor:
        """Return the squared norm of each row's gradient."""
        return torch.stack([g.flatten(1).square().sum(1) for g in self.made.values()]).sum(0)

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return the weighted sum."""
        found = {}
        for parameter, each in self.made.items():
            found[parameter] = (factors @ each.flatten(1)).view(parameter.shape)
        return found
