"""From codes to intervals of standard normal latents, and back, keeping each margin exact.

A column is a chain of stages, each with a latent of its own that is cut into cells by
probability: a missing mark or "has a value"; then, for an unordered category, "is the commonest
level" or not, and so on (stick breaking); at last all codes that are left, in order. A survival
time with its event is a race: a latent time for every kind of event, the earliest is what is
seen, all others lie behind it (the product-limit margins of Kaplan and Meier 1958). Latents of
one column are independent of each other, so that its margin comes back as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from manikin.synthesizers.table._gaussian import FAR, Floats, truncated

Ints: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True)
class Stage:
    """One latent: cells in increasing order, each with a code, or -1 where the next stage says."""

    codes: Ints  # (cells,)
    edges: Floats  # (cells + 1,)


@dataclass(frozen=True)
class Chain:
    """The latents of one column."""

    column: int  # position in the encoding
    stages: tuple[Stage, ...]
    size: int  # number of codes
    latents: tuple[int, ...]  # the latent of each stage; the first may be another column's too

    @property
    def columns(self) -> tuple[int, ...]:
        """Positions in the encoding."""
        return (self.column,)

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.stages)

    def bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        """Return lower and upper ends of the latents of codes (rows, columns of the encoding)."""
        lower = np.full((self.size + 1, self.width), -np.inf)  # the last row: code -1, not known
        upper = np.full((self.size + 1, self.width), np.inf)
        later = np.arange(self.size)
        for s, stage in enumerate(self.stages):
            own = np.flatnonzero(stage.codes >= 0)
            lower[stage.codes[own], s] = stage.edges[own]
            upper[stage.codes[own], s] = stage.edges[own + 1]
            later = np.setdiff1d(later, stage.codes[own])
            for on in np.flatnonzero(stage.codes < 0):
                lower[later, s], upper[later, s] = stage.edges[on], stage.edges[on + 1]
        return lower[codes[:, self.column]], upper[codes[:, self.column]]

    def decode(self, z: Floats) -> tuple[Codes, Floats]:
        """Return codes (rows, 1) of latents (rows, width), and places within the cell."""
        codes, place = np.full(len(z), -1, np.int32), np.zeros(len(z))
        for s, stage in enumerate(self.stages):
            cell = np.searchsorted(stage.edges[1:-1], z[:, s], side="right")
            ends = codes < 0
            codes = np.where(ends, stage.codes[cell], codes).astype(np.int32)
            own = ends & (codes >= 0)
            place[own] = _place(z[own, s], stage.edges[cell[own]], stage.edges[cell[own] + 1])
        return codes[:, None], place


@dataclass(frozen=True)
class Race:
    """A survival time and its event: one latent time for each kind of event."""

    time: int  # positions in the encoding
    event: int
    edges: Floats  # (events, time cells + 2); the last cell is "never"
    joint: Floats  # (time cells, events) share of training rows

    @property
    def columns(self) -> tuple[int, ...]:
        """Positions in the encoding."""
        return (self.time, self.event)

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.edges)

    @property
    def latents(self) -> tuple[int, ...]:
        """The latent of each event: a race stands first."""
        return tuple(range(len(self.edges)))

    @staticmethod
    def fit(time: int, event: int, codes: Codes, sizes: Ints) -> Race:
        """Learn the hazard of each event in each cell of time; lower codes happen first."""
        flat = codes[:, time].astype(np.int64) * sizes[event] + codes[:, event]
        seen = np.bincount(flat, minlength=sizes[time] * sizes[event])
        seen = seen.reshape(sizes[time], sizes[event]).astype(float)
        at_risk = seen[::-1].sum(axis=1).cumsum()[::-1]
        earlier = np.cumsum(seen, axis=1) - seen
        remaining = np.maximum(at_risk[:, None] - earlier, 1.0)
        survival = np.cumprod(1 - seen / remaining, axis=0)  # (cells, events)
        below = np.concatenate([np.zeros((1, survival.shape[1])), 1 - survival])
        edges = np.concatenate([ndtri(below), np.full((1, survival.shape[1]), np.inf)]).T
        return Race(time, event, np.ascontiguousarray(edges), seen / max(seen.sum(), 1.0))

    def bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        """Return ends of the latents; both codes known, or neither."""
        cell, event = codes[:, self.time], codes[:, self.event]
        known = (cell >= 0) & (event >= 0)
        cell = np.where(known, cell, 0)
        lower = np.full((len(codes), self.width), -np.inf)
        upper = np.full((len(codes), self.width), np.inf)
        for e in range(self.width):
            happened, first = known & (event == e), e < event
            ahead = np.where(first, self.edges[e, cell + 1], self.edges[e, cell])
            lower[:, e] = np.where(known, ahead, -np.inf)
            lower[happened, e] = self.edges[e, cell[happened]]
            upper[happened, e] = self.edges[e, cell[happened] + 1]
        return np.minimum(lower, FAR / 2), upper

    def decode(self, z: Floats) -> tuple[Codes, Floats]:
        """Return codes (rows, 2) of latents (rows, events), and places within the time's cell."""
        cells = np.stack(
            [np.searchsorted(self.edges[e, 1:-1], z[:, e], "right") for e in range(self.width)],
            axis=1,
        )
        event = cells.argmin(axis=1)
        cell = np.minimum(cells[np.arange(len(z)), event], len(self.joint) - 1)
        ends = self.edges[event, cell], self.edges[event, cell + 1]
        place = _place(z[np.arange(len(z)), event], *ends)
        return np.stack([cell, event], axis=1).astype(np.int32), place

    def complete(self, codes: Codes, rng: np.random.Generator) -> None:
        """Where one of time and event is known, draw the other from its share, in place."""
        for known, other, table in (
            (self.time, self.event, self.joint),
            (self.event, self.time, self.joint.T),
        ):
            rows = np.flatnonzero((codes[:, known] >= 0) & (codes[:, other] < 0))
            shares = table[codes[rows, known]]
            total = shares.sum(axis=1, keepdims=True)
            shares = np.where(total > 0, shares, table.sum(axis=0))
            heap = np.cumsum(shares, axis=1)
            drawn = rng.random(rows.size)[:, None] * heap[:, -1:]
            codes[rows, other] = (heap <= drawn).sum(axis=1)


Group: TypeAlias = Chain | Race


def chain(
    column: int, counts: Ints, n_tokens: int, *, ordered: bool, order: Ints, split: int
) -> Chain:
    """Cut a column's frequencies into stages; `order` ranks the levels that are not split off."""
    share = np.maximum(counts.astype(float), 1e-9 * max(int(counts.sum()), 1))
    stages: list[Stage] = []
    tokens, values = np.arange(n_tokens), np.arange(n_tokens, counts.size)
    if n_tokens and values.size:
        stages.append(_stage([*tokens, -1], [*share[tokens], share[values].sum()]))
    elif n_tokens:
        stages.append(_stage(list(tokens), list(share[tokens])))
    if not ordered and values.size > 2:
        common = values[np.argsort(-share[values], kind="stable")][: min(split, values.size - 2)]
        for level in common:
            values = values[values != level]
            stages.append(_stage([level, -1], [share[level], share[values].sum()]))
        values = order[np.isin(order, values)]
    if values.size:
        stages.append(_stage(list(values), list(share[values])))
    return Chain(column, tuple(stages), int(counts.size), tuple(range(len(stages))))


def level_order(codes: Codes, size: int, n_tokens: int, points: Floats) -> Ints:
    """Rank the levels of an unordered category along the axis on which they differ most.

    `points` (rows, columns) are normal scores of the other columns; the axis is the first of a
    correspondence-like analysis of the levels' mean scores.
    """
    counts = np.bincount(codes, minlength=size).astype(float)
    means = np.zeros((size, points.shape[1]))
    np.add.at(means, codes, points)
    means /= (counts + 5.0)[:, None]  # rare levels are drawn to the middle
    weighted = means[n_tokens:] * np.sqrt(counts[n_tokens:, None])
    if weighted.size == 0:
        return np.arange(n_tokens, size)
    axis = np.linalg.svd(weighted, full_matrices=False)[2][0]
    axis = axis * (1 if axis[np.abs(axis).argmax()] > 0 else -1)
    return n_tokens + np.argsort(means[n_tokens:] @ axis, kind="stable")


def to_arrays(groups: tuple[Group, ...]) -> tuple[dict[str, NDArray[Any]], list[list[int]]]:
    """Return what `from_arrays` needs."""
    arrays: dict[str, NDArray[Any]] = {}
    shapes: list[list[int]] = []
    for g, group in enumerate(groups):
        if isinstance(group, Race):
            shapes.append([group.time, group.event])
            arrays |= {f"latent/{g}/edges": group.edges, f"latent/{g}/joint": group.joint}
        else:
            shapes.append([group.column, -1, group.size, *group.latents])
            for s, stage in enumerate(group.stages):
                arrays |= {
                    f"latent/{g}/{s}/codes": stage.codes,
                    f"latent/{g}/{s}/edges": stage.edges,
                }
    return arrays, shapes


def from_arrays(arrays: Any, shapes: list[list[int]]) -> tuple[Group, ...]:
    """Rebuild groups of latents."""
    groups: list[Group] = []
    for g, shape in enumerate(shapes):
        if shape[1] >= 0:
            edges, joint = arrays[f"latent/{g}/edges"], arrays[f"latent/{g}/joint"]
            groups.append(Race(shape[0], shape[1], edges, joint))
        else:
            stages = tuple(
                Stage(arrays[f"latent/{g}/{s}/codes"], arrays[f"latent/{g}/{s}/edges"])
                for s in range(len(shape) - 3)
            )
            groups.append(Chain(shape[0], stages, shape[2], tuple(shape[3:])))
    return tuple(groups)


def _stage(codes: list[Any], shares: list[Any]) -> Stage:
    heap = np.concatenate([[0.0], np.cumsum(np.array(shares, float))])
    edges = ndtri(heap / heap[-1])
    edges[-1] = np.inf
    return Stage(np.array(codes, np.int64), edges)


def _place(z: Floats, low: Floats, high: Floats) -> Floats:
    """Return where in its cell each latent lies, by probability, in [0, 1)."""
    mirrored = low > 0  # the right tail is looked at from its own end, where digits are left
    a, b = ndtr(np.where(mirrored, -high, low)), ndtr(np.where(mirrored, -low, high))
    at = ndtr(np.where(mirrored, -z, z))
    share = np.clip((at - a) / np.maximum(b - a, 1e-300), 0.0, 1.0)
    return np.asarray(np.clip(np.where(mirrored, 1 - share, share), 0.0, np.nextafter(1.0, 0.0)))


def within(group: Group, codes: Codes, rng: np.random.Generator) -> Floats:
    """Draw latents of codes, each latent by itself."""
    lower, upper = group.bounds(codes)
    return truncated(np.zeros(lower.shape), 1.0, lower, upper, rng)
