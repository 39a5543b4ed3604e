"""Rows of codes from a generator network: p(x) = ∫ Π p(x_j | z) p(z) dz, for adversarial methods.

A generator maps noise z, and a category if it takes a condition, to one distribution a column: its
categories, and for numbers a logistic on the line of normal scores (`Dense`). Training draws from
these through relaxations that have a gradient: Gumbel-softmax (Jang, Gu and Poole; Maddison, Mnih
and Teh; both ICLR 2017), whose forward value is the one-hot draw itself, so that a critic cannot
tell rows apart by their fractions, and logistic noise times a scale.

Known columns need no rejection (_posterior.py): noise is drawn by how well it explains them, then
moved by a Metropolis kernel that leaves the prior as it is (preconditioned Crank-Nicolson: Cotter,
Roberts, Stuart and White, Statistical Science 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._margins as _margins
import manikin.synthesizers.table._posterior as _posterior
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.errors import InputError
from manikin.nn.loop import random
from manikin.nn.mlp import Linear
from manikin.synthesizer import State
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._dense import Blocks, Dense, by_width
from manikin.synthesizers.table._posterior import Limits, Particles, log_fit
from manikin.synthesizers.table.encoding import Encoding

__all__ = [
    "Eye", "GeneratedJoint", "Generator", "Plain", "Source", "calibrated", "normals", "restored",
    "steps",
]  # fmt: skip

MOVES = 6  # Metropolis moves of rows with known columns
KEPT = 0.8  # how much of z a proposal keeps
POOL = 16_384  # most draws of the prior by which margins are set
BLOCK = 10_000  # rows drawn at a time
EDGE = 1e-5  # how near to the end of a line a score may be
TAU = 0.5  # temperature of the relaxed categories
WIDTH_AT_FIRST = -0.7  # log scale of a logistic with which training begins


class Body(Protocol):
    """A network whose last layer says what every column's distribution is."""

    @property
    def last(self) -> Linear:
        """Its last layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map (rows, latent + embedded) to (rows, W + 2 C)."""


class Generator(nn.Module):
    """z, with a category's embedding behind it, → parameters of every column (rows, W + 2 C).

    `embedded` numbers stand for a category; none where a method takes no condition.
    """

    def __init__(
        self, dense: Dense, body: Body, *, embedded: int = 0, rng: torch.Generator | None = None
    ) -> None:
        super().__init__()
        assert isinstance(body, nn.Module)
        self.body = body
        if embedded:
            self.category = nn.Parameter(torch.randn(max(dense.slots, 1), embedded, generator=rng))
        self.embedded = embedded
        with torch.no_grad():  # it begins near the columns' own distributions
            self.bias[: dense.slots] = dense.frequency.clamp(min=1e-6).log()
            self.bias[dense.slots + dense.lines :] = WIDTH_AT_FIRST

    @property
    def bias(self) -> Tensor:
        """The last layer's."""
        last = self.body.last
        assert isinstance(last, Linear)
        return last.bias

    def forward(self, z: Tensor, category: Tensor) -> Tensor:
        """Map noise (rows, latent) and categories' slots (rows,)."""
        out: Tensor = self.body(torch.cat([z, self.category[category]], 1) if self.embedded else z)
        return out


# ------------------------------------------------------------------ what a critic sees


class Eye(nn.Module):
    """Rows as a critic sees them: categories one-hot, scores, 0 off the line; (rows, W + C)."""

    line: Tensor
    pad: Tensor

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.dense = dense
        self.low = torch.special.ndtr(dense.cuts[:, :-1].double())  # (C, R)
        self.high = torch.special.ndtr(dense.cuts[:, 1:].double())
        line = dense.slot(dense.numbers, dense.codes_at[:, 0]) if dense.lines else dense.numbers
        self.register_buffer("line", line, persistent=False)
        self.register_buffer("pad", dense.pad, persistent=False)

    def real(self, codes: Tensor, rng: torch.Generator) -> Tensor:
        """Return real rows of codes, each number anywhere in its code's part of the line."""
        dense = self.dense
        found = torch.zeros(len(codes), dense.slots + dense.lines)
        found.scatter_(1, dense.categories(codes), 1.0)
        if dense.lines:
            columns = torch.arange(dense.lines)
            place = dense.place[columns, codes[:, dense.numbers]]
            low, high = (end[columns, place.clamp(min=0)] for end in (self.low, self.high))
            share = torch.rand(low.shape, generator=rng, dtype=torch.float64)
            score = torch.special.ndtri(torch.lerp(low, high, share).clamp(EDGE, 1 - EDGE))
            found[:, dense.slots :] = torch.where(place >= 0, score.float(), torch.zeros(()))
        return found

    def fake(self, outputs: Tensor, rng: torch.Generator) -> Tensor:
        """Return rows drawn from a generator's outputs, with a gradient."""
        slots = self.dense.slots
        logits = outputs[:, :slots].float() + self.pad
        uniform = torch.rand(logits.shape, generator=rng, device=logits.device)
        noisy = (logits - (-uniform.clamp(1e-9, 1 - 1e-7).log()).log()) / TAU
        categories = self._one_hot(noisy)
        if not self.dense.lines:
            return categories
        means, log_scales = self.dense.logistics(outputs)
        standard = torch.rand(means.shape, generator=rng, device=means.device)
        scores = self.dense.scores(means, log_scales, standard)
        return torch.cat([categories, scores * categories[:, self.line]], 1)

    def _one_hot(self, noisy: Tensor) -> Tensor:
        """Return the one-hot argmax of every column, with the gradient of its softmax."""
        found: Tensor = _OneHot.apply(noisy, self.dense.blocks)  # type: ignore[no-untyped-call]
        return found


class _OneHot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, noisy: Tensor, blocks: Blocks) -> Tensor:
        soft, hard = torch.empty_like(noisy), torch.zeros_like(noisy)
        views = (by_width(x, blocks) for x in (noisy, soft, hard))
        for part, softened, chosen in zip(*views, strict=True):
            softened.copy_(torch.softmax(part, 1))
            chosen.scatter_(1, part.argmax(1, keepdim=True), 1.0)
        ctx.save_for_backward(soft)
        ctx.blocks = blocks
        return hard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (soft,) = ctx.saved_tensors
        found = slope * soft
        views = (by_width(x, ctx.blocks) for x in (found, soft))
        for part, own in zip(*views, strict=True):
            part.sub_(own * part.sum(1, keepdim=True))
        return found, None


# ------------------------------------------------------------------ noise


class Source(Protocol):
    """Where a generator's inputs come from."""

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw noise (n, latent) and categories' slots (n,) as in sampling."""

    def spread(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw them so that rare ones are among them, and (n,) log weights that make up for it."""


def normals(n: int, latent: int, rng: np.random.Generator) -> Tensor:
    """Draw N(0, 1) noise, (n, latent)."""
    return torch.from_numpy(rng.standard_normal((n, latent), np.float32))


@dataclass(frozen=True)
class Plain:
    """Noise without a condition."""

    latent: int

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw noise."""
        return normals(n, self.latent, rng), torch.zeros(n, dtype=torch.int64)

    def spread(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw noise."""
        return *self.draw(n, rng), torch.zeros(n)


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class GeneratedJoint:
    """Rows of codes that a generator draws."""

    name: str
    dense: Dense
    generator: Generator
    source: Source
    notes: tuple[str, ...] = ()
    released = ("weights of a generator trained on the rows against a critic",)

    @torch.no_grad()
    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        found = [np.zeros((0, len(self.dense.sizes)), np.int32)]
        for start in range(0, n, BLOCK):
            outputs = self.generator(*self.source.draw(min(BLOCK, n - start), rng))
            found.append(self._rows(outputs, rng).numpy().astype(np.int32))
        return np.concatenate(found)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, given those that are, of the allowed ones."""
        return _posterior.complete(self, codes, allowed, rng)

    def _rows(self, outputs: Tensor, rng: np.random.Generator) -> Tensor:
        wide = 2 * len(self.dense.sizes) + self.dense.lines
        uniform = torch.from_numpy(rng.random((len(outputs), wide), np.float32))
        return self.dense.draw(outputs, uniform)

    # -------------------------------------------------------------- given (_posterior.py)

    def candidates(self, n: int, rng: np.random.Generator) -> tuple[Particles, Tensor]:
        """Draw particles so that rare categories are among them, and what makes up for it."""
        z, category, log_weight = self.source.spread(n, rng)
        return Particles(z, category, self.generator(z, category)), log_weight

    def moved(
        self, particles: Particles, given: Tensor, limits: Limits, rng: np.random.Generator
    ) -> Particles:
        """Move noise by a Metropolis kernel that leaves the prior as it is."""
        fits = log_fit(self.dense, particles.outputs, given, limits)
        for _ in range(MOVES):
            noise = normals(len(particles.z), particles.z.shape[1], rng)
            z = KEPT * particles.z + (1 - KEPT**2) ** 0.5 * noise
            tried = Particles(z, particles.category, self.generator(z, particles.category))
            fit = log_fit(self.dense, tried.outputs, given, limits)
            # the kernel leaves N(0, 1) as it is: only the likelihoods decide
            better = torch.from_numpy(rng.random(len(z), np.float32)).log() < fit - fits
            particles, fits = particles.where(better, tried), torch.where(better, fit, fits)
        return particles

    # -------------------------------------------------------------- state

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return weights and cuts."""
        weights = {name: t.numpy() for name, t in self.generator.state_dict().items()}
        return {**weights, "cuts": self.dense.cuts.numpy()}

    def values(self) -> Mapping[str, Any]:
        """Return what is to be said of the training."""
        return {"notes": list(self.notes)}


def steps(most: int, scale: int, codes: Tensor) -> int:
    """Return how many steps rows of codes are worth: `scale` times the root of their number.

    One where there is one column: it goes with nothing, and its margin is set afterwards.
    """
    rows, columns = codes.shape
    return min(most, int(scale * math.sqrt(rows))) if columns > 1 else 1


def calibrated(joint: GeneratedJoint, rows: int, seed: int) -> GeneratedJoint:
    """Return it with the margins of training: its biases move in place, its cuts anew."""
    with torch.no_grad():
        noise = joint.source.draw(
            min(max(8 * rows, 1024), POOL), generator(seed, f"{joint.name} margins")
        )
        outputs = joint.generator(*noise)
    rng = random(seed, f"{joint.name} margins")
    dense = _margins.calibrated(joint.generator.bias, outputs, joint.dense, rng)
    return replace(joint, dense=dense)


def restored(
    schema: TableSchema, state: State, joint_of: Callable[[Dense, int], GeneratedJoint]
) -> CodedModel:
    """Rebuild a model from its state. Raises InputError when arrays do not make one."""
    arrays, values = coded.saved(state)
    joint = joint_of(Dense.of(Encoding.restore(schema, state).cells), 0)
    return coded.restore(schema, state, reloaded(joint, arrays, values))


def reloaded(
    joint: GeneratedJoint, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]
) -> GeneratedJoint:
    """Return it with weights, cuts and notes of a model file; the weights go in in place.

    Raises InputError when they do not make a model.
    """
    wanted = {**joint.generator.state_dict(), "cuts": joint.dense.cuts}
    sound = set(wanted) == set(arrays) and all(
        arrays[name].shape == tuple(tensor.shape)
        and arrays[name].dtype == np.float32
        and np.isfinite(arrays[name]).all()
        for name, tensor in wanted.items()
    )
    notes = values.get("notes")
    said: list[Any] = notes if isinstance(notes, list) and len(notes) < 9 else [None]
    sound = sound and all(isinstance(note, str) and len(note) < 1000 for note in said)
    if not sound or (np.diff(arrays["cuts"], axis=1) < 0).any():
        raise InputError(
            "arrays that do not make a model",
            f"those that table/{joint.name} writes with the same settings",
            "get the model again from where it was made",
        )
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    cuts = tensors.pop("cuts")
    joint.generator.load_state_dict(tensors)
    joint.generator.eval()
    return replace(joint, dense=replace(joint.dense, cuts=cuts), notes=tuple(said))
