"""Rows with known columns from a model of latent causes: p(x) = ∫ Π p(x_j | z) p(z) dz.

Columns are independent given z, so that rows need no rejection: what is hard is z given what is
known, p(z | known) ∝ p(z) Π p(known | z), the same for all rows of which the same is known. For
each such case a population of particles is drawn once: by sampling importance resampling (Rubin
1988) among candidates of the prior, with systematic draws, then by moves that leave p(z | known) as
it is, which are the model's own. Rows take their particles in turn and draw what they lack from
p(x | z), each for itself.

That is p(unknown | known) of the model in the limit of many candidates or moves; of few, rows whose
known columns are together improbable get the nearest candidates there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manikin.synthesizers.table._coded import Allowed, Codes, check_possible, only
from manikin.synthesizers.table._dense import Dense

__all__ = ["Latent", "Limits", "Particles", "complete", "filled", "log_fit"]

Limits: TypeAlias = Mapping[int, Tensor]  # column → (codes,) which may be drawn

FEWEST, MOST = 2048, 8192  # candidates of the prior
ENTRIES = 2**23  # weights of cases and candidates: with many cases there are fewer candidates
PARTICLES = 4096  # of rows of which the same is known; where there are more rows they share them
TOGETHER = 2048  # particles that move side by side
BLOCK = 4096  # rows filled at a time


@dataclass(frozen=True)
class Particles:
    """Latent causes, and what the model makes of them."""

    z: Tensor  # (particles, latent)
    category: Tensor  # (particles,) what a generator is told besides; 0 where it is told nothing
    outputs: Tensor  # (particles, W + 2 C)

    def take(self, at: Tensor) -> Particles:
        """Return those at these places."""
        return Particles(self.z[at], self.category[at], self.outputs[at])

    def where(self, those: Tensor, other: Particles) -> Particles:
        """Return these, but the other ones at `those` (particles,)."""
        z = torch.where(those[:, None], other.z, self.z)
        outputs = torch.where(those[:, None], other.outputs, self.outputs)
        return Particles(z, torch.where(those, other.category, self.category), outputs)


class Latent(Protocol):
    """A model whose columns are independent given latent causes."""

    @property
    def dense(self) -> Dense:
        """How its outputs are read."""

    def candidates(self, n: int, rng: np.random.Generator) -> tuple[Particles, Tensor]:
        """Draw particles, and the log weights (n,) with which they are draws of the prior."""

    def moved(
        self, particles: Particles, given: Tensor, limits: Limits, rng: np.random.Generator
    ) -> Particles:
        """Move particles in a way that leaves p(z | known, allowed) as it is."""


@torch.no_grad()
def complete(model: Latent, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
    """Draw the codes that are not known, given those that are, of the allowed ones."""
    check_possible(allowed)
    if not codes.size:
        return codes.copy()
    codes, allowed = only(codes, allowed)
    limits = {j: torch.from_numpy(np.asarray(m, bool)) for j, m in allowed.items()}
    cases, case, rows = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    most = max(FEWEST, min(len(codes), MOST, ENTRIES // len(cases)))
    pool, weight = model.candidates(most, rng)
    # rows in the order of their cases, at random within each, and where each case begins
    order = rng.permutation(len(codes))
    order = order[np.argsort(case.ravel()[order], kind="stable")]
    begin = np.append(0, np.cumsum(rows))
    each = np.minimum(rows, PARTICLES)
    groups = np.flatnonzero(np.diff(np.cumsum(each) // TOGETHER, prepend=-1))
    found = np.empty_like(codes)
    for first, last in itertools.pairwise([*groups.tolist(), len(cases)]):
        given = torch.from_numpy(cases[first:last].astype(np.int64))
        log_weights = weight + log_likelihoods(model.dense, pool.outputs, given, limits)
        chosen = pool.take(resampled(log_weights, each[first:last], rng))
        owner = torch.from_numpy(np.repeat(np.arange(last - first), each[first:last]))
        moved = [
            model.moved(chosen.take(here), given[owner[here]], limits, rng)
            for here in torch.split(torch.arange(len(owner)), TOGETHER)
        ]
        outputs = torch.cat([particles.outputs for particles in moved])
        turn = torch.from_numpy(_turns(rows[first:last], each[first:last]))
        whole = [
            filled(model.dense, outputs[here], given[owner[here]], limits, rng)
            for here in torch.split(turn, BLOCK)
        ]
        found[order[begin[first] : begin[last]]] = torch.cat(whole).numpy()
    return found


def log_likelihoods(dense: Dense, outputs: Tensor, given: Tensor, limits: Limits) -> Tensor:
    """Return log p(known | candidate) p(allowed | candidate), (cases, candidates)."""
    log_categories = dense.log_softmax(outputs[:, : dense.slots])
    found = torch.zeros(len(given), len(outputs))
    for j in range(given.shape[1]):
        known = given[:, j] >= 0
        if not known.any() and j not in limits:
            continue
        pmf = dense.log_pmf(outputs, log_categories, j)  # (candidates, codes)
        if known.any():
            rows = pmf.T[given[:, j].clamp(min=0)]
            found += rows if known.all() else torch.where(known[:, None], rows, 0.0)
        if j in limits and not known.all():
            within = torch.logsumexp(pmf[:, limits[j]], 1)
            found += torch.where(known[:, None], 0.0, within)
    return found


def resampled(log_weights: Tensor, each: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Draw `each` candidates of every case by weights (cases, candidates), one case after another.

    Draws are systematic (Kitagawa 1996): a case's stand evenly along its cumulated weights.
    """
    total = torch.softmax(log_weights, 1).double().cumsum(1)
    total = total / total[:, -1:] + torch.arange(len(total))[:, None]  # one line for all cases
    case = np.repeat(np.arange(each.size), each)
    rank = np.arange(case.size) - np.repeat(np.cumsum(each) - each, each)
    place = case + (rank + rng.random(each.size)[case]) / each[case]
    at = torch.searchsorted(total.flatten(), torch.from_numpy(place), right=True)
    last = torch.from_numpy((case + 1) * total.shape[1] - 1)
    found: Tensor = at.minimum(last) % total.shape[1]
    return found


def log_fit(dense: Dense, outputs: Tensor, given: Tensor, limits: Limits) -> Tensor:
    """Return log p(known, allowed | z) of every row under its own outputs, (rows,)."""
    known = given >= 0
    each = dense.log_prob(outputs, given.clamp(min=0))
    fit = torch.where(known, each, 0.0).sum(1)
    if limits:
        log_categories = dense.log_softmax(outputs[:, : dense.slots])
    for j, mask in limits.items():
        within = torch.logsumexp(dense.log_pmf(outputs, log_categories, j)[:, mask], 1)
        fit = fit + torch.where(known[:, j], 0.0, within)
    return fit


def filled(
    dense: Dense, outputs: Tensor, given: Tensor, limits: Limits, rng: np.random.Generator
) -> Tensor:
    """Draw the unknown codes of every row from p(x | z), of the allowed ones."""
    wide = 2 * len(dense.sizes) + dense.lines
    drawn = dense.draw(outputs, torch.from_numpy(rng.random((len(outputs), wide), np.float32)))
    if limits:
        log_categories = dense.log_softmax(outputs[:, : dense.slots])
    for j, mask in limits.items():
        pmf = dense.log_pmf(outputs, log_categories, j)
        total = torch.softmax(pmf[:, mask].double(), 1).cumsum(1)
        uniform = torch.from_numpy(rng.random((len(outputs), 1))) * total[:, -1:]
        at = torch.searchsorted(total, uniform)[:, 0].clamp(max=total.shape[1] - 1)
        drawn[:, j] = mask.nonzero().flatten()[at]
    return torch.where(given >= 0, given, drawn)


def _turns(rows: NDArray[np.int64], each: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the particle of every row: those of its case in turn, (rows of all cases,)."""
    rank = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    turn: NDArray[np.int64] = np.repeat(np.cumsum(each) - each, rows) + rank % np.repeat(each, rows)
    return turn
