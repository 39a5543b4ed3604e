"""Places laid into rows for training, and the frequencies at which heads begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manikin.data.randomness import generator
from manikin.nn.loop import Batch
from manikin.nn.transformer import pack
from manikin.synthesizers.events._trajectory_moments import Moments
from manikin.synthesizers.events._trajectory_network import NEVER, Network, Places, loss
from manikin.synthesizers.events._trajectory_prior import of_places
from manikin.synthesizers.events._trajectory_tokens import LASTING, Slots

__all__ = ["Windows", "begin_at", "lay", "objective", "windows"]

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of the places of a subject that are looked at together."""

    start: Ints  # (windows,) first place
    size: Ints
    judged_from: Ints  # place from which on what they foretell counts
    whose: Ints


def windows(slots: Slots, room: int) -> Windows:
    """Cut records into windows of `room` places; of later ones the second half counts."""
    places = np.diff(slots.starts)
    half = room // 2
    each = 1 + np.maximum(-(-(places - room) // half), 0)
    whose = np.repeat(np.arange(places.size), each)
    number = np.arange(whose.size) - np.repeat(np.cumsum(each) - each, each)
    start = number * half
    size = np.minimum(places[whose] - start, room)
    judged = np.where(number > 0, start - half + room, 0)
    base = slots.starts[whose]
    return Windows(base + start, size, base + judged, whose)


@dataclass(frozen=True, eq=False)
class Rows:
    """Places laid into rows of one length: the batch of a step is gathered when it is asked for."""

    slots: Slots
    facts: Singles  # (subjects, facts)
    place: Ints  # (rows, room) -1: nothing
    segment: Ints  # (rows, room)
    first: Ints  # (rows, room)
    judged: NDArray[np.bool_]  # (rows, room)
    size: int  # rows a step
    seed: int
    moments: Moments | None = None  # where counts foretell codes

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.place)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; every epoch is shuffled anew."""
        per_epoch = max(self.n // self.size, 1)
        epoch, at = divmod(step, per_epoch)
        order = generator(self.seed, "trajectory batches", epoch).permutation(self.n)
        return self.rows(order[at * self.size : (at + 1) * self.size])

    def batches(self) -> list[Batch]:
        """Return all rows, in order."""
        return [
            self.rows(np.arange(i, min(i + self.size, self.n))) for i in range(0, self.n, self.size)
        ]

    def rows(self, which: Ints) -> Batch:
        """Return the batch of these rows, in the order of the fields of `Places`."""
        at = self.place[which]
        there = at >= 0
        slots = self.slots
        arrays: tuple[NDArray[Any], ...] = (
            slots.words[at] * there[..., None], slots.shown[at], slots.remaining[at],
            self.facts[slots.whose[at]], self.segment[which], self.first[which],
            self.judged[which], slots.target[at], slots.numbers[at], slots.past[at],
        )  # fmt: skip
        if self.moments is not None:
            whose = slots.whose[at]
            event = at - whose  # that a place foretells: subjects before have a place more each
            last = np.where(there & (at > slots.starts[whose]), event - 1, -1)
            coming = np.where(there & (at < slots.starts[whose + 1] - 1), event, -1)
            arrays += of_places(self.moments, last, coming)
        return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def lay(
    slots: Slots, facts: Singles, found: Windows, subjects: Ints, room: int, *, events: int,
    seed: int, moments: Moments | None = None,
) -> Rows:  # fmt: skip
    """Lay the windows of some subjects into rows of `room` places, about `events` a step."""
    chosen = np.flatnonzero(np.isin(found.whose, subjects))
    start, size = found.start[chosen], found.size[chosen]
    packed = pack(size, room)
    place = np.full((packed.rows, room), -1, np.int64)
    segment, first = np.full_like(place, -1), np.zeros_like(place)
    judged = np.zeros(place.shape, bool)
    within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    row, column = np.repeat(packed.row, size), np.repeat(packed.start, size) + within
    place[row, column] = np.repeat(start, size) + within
    segment[row, column] = np.repeat(np.arange(chosen.size), size)
    first[row, column] = np.repeat(packed.start, size)
    judged[row, column] = place[row, column] >= np.repeat(found.judged_from[chosen], size)
    nothing = segment < 0
    first[nothing] = np.broadcast_to(np.arange(room), place.shape)[nothing]
    return Rows(slots, facts, place, segment, first, judged, max(events // room, 1), seed, moments)


def objective(
    *, free: float, counted: float, blind: float
) -> Callable[[nn.Module, Batch, torch.Generator], Tensor]:
    """Return the loss as the training loop asks for it."""

    def of(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        assert isinstance(network, Network)
        return loss(network, Places(*batch), rng, free=free, counted=counted, blind=blind)

    return of


@torch.no_grad()
def begin_at(network: Network, slots: Slots) -> None:
    """Let heads begin at the frequencies of what they draw; what is never seen is never drawn."""
    sizes = network.sizes
    gap, relation, code, text, value, duration, _, _ = slots.target.T
    network.gap_odds.copy_(_odds(np.bincount(gap, minlength=network.gap_odds.numel())))
    event = gap > 0
    network.relation_odds.copy_(_odds(np.bincount(relation[event], minlength=3)))
    network.code_odds.copy_(_odds(np.bincount(code[event], minlength=sizes.codes)))
    before = slots.words[:, 0] - 1  # the code that was last
    still = event & (gap < LASTING) & (relation < 2) & (before >= 0)
    twice = np.bincount(code[still & (before == code)], minlength=sizes.codes)
    once = np.bincount(code[event], minlength=sizes.codes)
    network.again_odds.copy_(_odds(np.stack([once, twice], 1)))
    for buffer, kind in (
        (network.text_odds, text), (network.value_odds, value), (network.duration_odds, duration)
    ):  # fmt: skip
        wide = buffer.shape[1]
        counts = np.bincount(code[event] * wide + kind[event], minlength=buffer.numel())
        buffer.copy_(_odds(counts.reshape(-1, wide)))


def _odds(counts: Ints) -> Tensor:
    total = np.maximum(counts.sum(-1, keepdims=True), 1)
    odds = np.where(counts > 0, np.log(np.maximum(counts, 1) / total), NEVER)
    if odds.ndim == 2:  # a code that nobody has bears nothing
        odds[counts.sum(-1) == 0, 0] = 0.0
    return torch.from_numpy(odds.astype(np.float32))
