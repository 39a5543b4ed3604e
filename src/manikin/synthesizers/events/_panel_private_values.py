"""Values of channels under a budget: noisy histograms on declared bounds, and noisy means.

Histograms are counted twice: on even bins of the declared range, then on bins that hold about as
many each by the first count. Means of normal scores by when and by facts are solved from noisy
sums of products; what products of facts and times are among each other, the private table of facts
and the visits that are drawn tell at no cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._bounded as bounded
import manikin.synthesizers.events._panel_process as process
from manikin.data.codes import EventSchema
from manikin.privacy.account import Account, measuring
from manikin.synthesizers.events._bounded import Behind
from manikin.synthesizers.events._panel_channels import Channel, Sheet
from manikin.synthesizers.events._panel_latent import mean_design
from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._panel_private_sheet import Lengths, Visited, simplex
from manikin.synthesizers.events._panel_private_times import whens_of
from manikin.synthesizers.events._panel_times import Times

__all__ = ["Drawn", "marginals_bought", "means_bought", "residuals"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

LATTICE = 64  # different values up to which each is counted by itself
EVEN = 32  # bins of a declared range, at first
TAILS = (0.005, 0.01, 0.02, 0.98, 0.99, 0.995)
NEAR = 0.8  # of the greatest length that a subject's shares can have: they are often in few bins
PRIOR_WHEN, PRIOR_FACT = 0.3, 0.1  # deviations that coefficients of means are expected to have


@dataclass(frozen=True, eq=False)
class Cells:
    """How one channel's values are counted: ends of its bins; alone: a bin holds one value."""

    edges: Floats  # (bins + 1,)
    alone: bool

    @property
    def n(self) -> int:
        """Number of bins."""
        return int(self.edges.size - 1)

    def of(self, values: Floats) -> Ints:
        """Return the bin of each value; what is out of bounds counts at the nearer end."""
        return np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, self.n - 1)

    def marginal(self, mass: Floats, decimals: int) -> Marginal:
        """Return the distribution of a mass a bin."""
        kept = np.flatnonzero(mass > 0)
        if not kept.size:
            kept, mass = np.arange(self.n), np.ones(self.n)
        low, high = self.edges[kept], self.edges[kept + 1]
        if self.alone:
            low = high = np.round((low + high) / 2, decimals)
        return Marginal(low, high, mass[kept], decimals)


def public_cells(channel: Channel, schema: EventSchema, extent: float) -> Cells:
    """Return the bins that a declaration allows."""
    code = schema.codes[channel.code]
    if channel.part == "level":
        return Cells(np.asarray(np.arange(len(channel.levels) + 1) - 0.5, np.float64), True)
    if channel.part == "bare":
        return Cells(np.array([0.5, 1.5]), True)
    if channel.part == "length":
        ends = 2.0 ** np.arange(1, max(2, int(np.log2(max(extent, 2.0))) + 3))
        return Cells(np.array([-0.5, 0.5, 1.5, *ends[1:]]), False)
    assert code.minimum is not None and code.maximum is not None  # checked before
    unit = 10.0**-channel.decimals
    many = round((code.maximum - code.minimum) / unit) + 1
    low, high = code.minimum - unit / 2, code.maximum + unit / 2
    if many <= LATTICE:
        return Cells(np.linspace(low, high, many + 1), True)
    return Cells(np.unique(low + unit * np.rint(np.linspace(0, many, EVEN + 1))), False)


def finer(cells: Cells, mass: Floats, channel: Channel) -> Cells:
    """Return bins that hold about as many each, as a first count has it."""
    if cells.alone or not mass.sum():
        return cells
    unit = 10.0**-channel.decimals
    kept = np.flatnonzero(mass)
    below = np.concatenate([[0.0], np.cumsum(mass) / mass.sum()])
    shares = np.unique(np.concatenate([np.linspace(0, 1, EVEN + 1), TAILS]))
    # of equal shares the first and the last: the ends of what holds somebody
    edges = np.interp(shares, below + 1e-12 * np.arange(below.size), cells.edges)
    edges[0], edges[-1] = cells.edges[kept[0]], cells.edges[kept[-1] + 1]
    start = cells.edges[0]
    return Cells(np.unique(start + unit * np.rint((edges - start) / unit)), False)


def marginals_bought(
    own: Behind[Visited], channels: tuple[Channel, ...], schema: EventSchema, lengths: Lengths,
    account: Account, rho: float,
) -> tuple[Marginal, ...]:  # fmt: skip
    """Return each channel's distribution."""
    cells = [public_cells(channel, schema, lengths.extent) for channel in channels]
    rough, _ = _counted(own, cells, account, rho / 3, "values, on even bins")
    again = [finer(c, m, channel) for c, m, channel in zip(cells, rough, channels, strict=True)]
    fine, _ = _counted(own, again, account, rho * 2 / 3, "values, on bins that hold as many")
    found = []
    for cell, once, twice, channel in zip(again, rough, fine, channels, strict=True):
        mass = once / 3 + twice * 2 / 3 if cell.alone else twice  # by what each was paid
        total = float(mass.sum())
        found.append(cell.marginal(simplex(mass, total), channel.decimals))
    return tuple(found)


def _counted(
    own: Behind[Visited], cells: list[Cells], account: Account, rho: float, what: str
) -> tuple[list[Floats], float]:
    """Return noisy weights of each channel's bins.

    Sensitivity: a subject's weights of a channel add up to one at most, so that C channels make
    √C at the longest; it is shortened to a part of that.
    """
    starts = np.concatenate([[0], np.cumsum([c.n for c in cells])]).astype(np.int64)
    with measuring():
        visited = own.it
        rows, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for j, cell in enumerate(cells):
            at = np.flatnonzero(visited.seen[:, j])
            rows.append(at)
            places.append(starts[j] + cell.of(visited.sheet.cells[at, j]))
        at = np.concatenate(rows)
        noisy, deviation = bounded.counted(
            account, visited.sheet.whose[at], np.concatenate(places), visited.weight[at],
            int(starts[-1]), norm=NEAR * math.sqrt(len(cells)), rho=rho, what=what,
        )  # fmt: skip
    parts = [noisy[a:b] for a, b in pairwise(starts.tolist())]
    return [simplex(part, max(float(part.sum()), deviation)) for part in parts], deviation


# ------------------------------------------------------------------ means


@dataclass(frozen=True, eq=False)
class Drawn:
    """Visits that were drawn, as those that count are."""

    visited: Visited
    facts: Floats  # (subjects, facts)

    @staticmethod
    def of(sheet: Sheet, facts: Floats, typical: float) -> Drawn:
        """Take a sheet that a model drew."""
        return Drawn(Visited.of(sheet, None, typical), facts)


def means_bought(
    own: Behind[Visited], facts: Behind[Floats], marginals: tuple[Marginal, ...], times: Times,
    drawn: Drawn, unit: float, account: Account, rho: float, subjects: float, typical: float,
) -> Floats:  # fmt: skip
    """Return coefficients of the means of scores, (channels, whens + 2 * facts).

    Sensitivity: averages over a subject's visits of scores by when (scaled up by the root of V),
    times facts, and times facts and time; shortened to the length that such averages usually have.
    """
    n_facts, c, n_whens = drawn.facts.shape[1], len(marginals), times.n
    norm = math.sqrt(max(c, 1) * (0.8 + n_facts))
    scale = np.ones(n_whens + 2 * n_facts)
    scale[:n_whens] = math.sqrt(typical)
    with measuring():
        visited, x = own.it, facts.it
        scores = process.scores_of(marginals, visited.sheet.cells)
        design = mean_design(whens_of(times, visited), n_whens, x[visited.sheet.whose],
                             visited.since / unit) * scale  # fmt: skip
        vectors = np.zeros((visited.sheet.n_subjects, c, scale.size))
        np.add.at(vectors, visited.sheet.whose, np.nan_to_num(scores)[:, :, None]
                  * (design * visited.weight[:, None])[:, None, :])  # fmt: skip
        noisy, deviation = bounded.summed(
            account, vectors.reshape(len(vectors), -1), norm=norm, rho=rho,
            what="scores by when and facts",
        )  # fmt: skip
    right = noisy.reshape(c, -1) / scale / subjects
    noise = deviation / scale / subjects
    prior = np.full(scale.size, PRIOR_FACT)
    prior[:n_whens] = PRIOR_WHEN
    visited = drawn.visited
    design = mean_design(whens_of(times, visited), n_whens, drawn.facts[visited.sheet.whose],
                         visited.since / unit)  # fmt: skip
    n = max(1, visited.sheet.n_subjects)
    found = np.zeros((c, scale.size))
    for j in range(c):
        weight = visited.weight * visited.seen[:, j]
        gram = (design * weight[:, None]).T @ design / n
        shown = gram / noise[:, None]  # of unit noise: the most likely coefficients (Gauss, 1809)
        curve = shown.T @ shown + np.diag(prior**-2.0)
        found[j] = np.linalg.solve(curve, shown.T @ (right[j] / noise))
    return found


def residuals(
    marginals: tuple[Marginal, ...], times: Times, beta: Floats, unit: float, visited: Visited,
    facts: Floats,
) -> Floats:  # fmt: skip
    """Return what is left of scores beside their means, (visits, channels)."""
    scores = process.scores_of(marginals, visited.sheet.cells)
    design = mean_design(whens_of(times, visited), times.n, facts[visited.sheet.whose],
                         visited.since / unit)  # fmt: skip
    return np.asarray(scores - design @ beta.T)
