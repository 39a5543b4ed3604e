"""A recurrent judge: a gated recurrent unit that reads histories visit by visit.

Reference  Cho et al., EMNLP 2014, arXiv:1406.1078 (the gated recurrent unit)
           Kingma and Ba, ICLR 2015, arXiv:1412.6980, algorithm 1 (Adam); Loshchilov and Hutter,
           ICLR 2019, arXiv:1711.05101 (weights decay apart from the gradient)
A line from each visit's row to 32 numbers, one recurrent layer, and a logit of its last state with
the mean and the largest of all states. It is trained for a fixed number of small batches, so that
what it costs does not depend on how many patients there are. This file is imported by the metrics
that use it when they run: torch is an extra.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from manikin.data.randomness import generator
from manikin.metrics.intervals import Floats
from manikin.metrics.sequences import Read

__all__ = ["Judge", "taught"]

WIDTH = 32
BATCH = 64
UPDATES, EPOCHS = 150, 25  # steps of training, and at most so often over everybody
RATE, DECAY, DROPPED = 5e-3, 1e-2, 0.1
AT_ONCE = 1_000
REMEMBERED = 12  # networks: floor, ceiling and score train the same one on real histories

Judge: TypeAlias = Callable[[Read, NDArray[np.int64]], Floats]


class _Adam:
    """Adam on gradients of norm 1 at most; torch's own takes seconds to import its compiler."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights, self.steps = weights, 0
        self.mean, self.square = ([torch.zeros_like(w) for w in weights] for _ in range(2))

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Move the weights."""
        self.steps += 1
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        scale = 1 / max(norm, 1.0)
        one, two = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        with torch.no_grad():
            for w, g, m, v in zip(self.weights, gradients, self.mean, self.square, strict=True):
                m.lerp_(g * scale, 0.1)
                v.lerp_((g * scale).square(), 0.001)
                w.mul_(1 - rate * DECAY)
                w.addcdiv_(m / one, (v / two).sqrt() + 1e-8, value=-rate)


class _Network:
    """The weights, drawn from a stream of their own, and what they make of sequences."""

    def __init__(self, wide: int, rng: torch.Generator) -> None:
        def drawn(*shape: int, fan: int) -> Tensor:
            weights = (torch.rand(shape, generator=rng) * 2 - 1) / math.sqrt(fan)
            return weights.requires_grad_()

        self.entering = [drawn(WIDTH, wide, fan=wide), drawn(WIDTH, fan=wide)]
        shapes = ((3 * WIDTH, WIDTH), (3 * WIDTH, WIDTH), (3 * WIDTH,), (3 * WIDTH,))
        self.unit = [drawn(*shape, fan=WIDTH) for shape in shapes]  # as torch.gru takes them
        self.last = [drawn(1, 3 * WIDTH, fan=3 * WIDTH), drawn(1, fan=3 * WIDTH)]
        self.weights = [*self.entering, *self.unit, *self.last]

    def __call__(self, visits: Tensor, order: Tensor, dropping: torch.Generator | None) -> Tensor:
        """Return a logit for each sequence, (sequences,)."""
        there = order >= 0  # (sequences, places)
        x = visits[order.clamp(min=0)]  # (sequences, places, features)
        if dropping is not None:
            x = x * (torch.rand(x.shape, generator=dropping) >= DROPPED)
        x = torch.tanh(functional.linear(x, *self.entering))
        still = x.new_zeros(1, len(order), WIDTH)
        states, _ = torch.gru(x, still, self.unit, True, 1, 0.0, False, False, True)
        size = there.sum(1)
        last = states[torch.arange(len(order)), (size - 1).clamp(min=0)]
        mean = (states * there[..., None]).sum(1) / size.clamp(min=1)[:, None]
        largest = states.masked_fill(~there[..., None], -1.0).amax(1)  # states lie within ±1
        return functional.linear(torch.cat([last, mean, largest], 1), *self.last)[:, 0]


_networks: OrderedDict[bytes, _Network] = OrderedDict()  # by digest of what they were trained on
_lock = Lock()


def taught(read: Read, chosen: NDArray[np.int64], truth: NDArray[np.bool_], *, seed: int) -> Judge:
    """Train on the `chosen` sequences; the result gives the logits of chosen ones of any side."""
    seen = hashlib.blake2b(repr((seed, read.visits.shape, UPDATES)).encode())
    for part in (read.visits, read.order[chosen], truth):
        seen.update(np.ascontiguousarray(part).tobytes())
    with _lock:
        network = _networks.get(seen.digest())
    if network is None:
        network = _trained(read, chosen, truth, seed)
    with _lock:
        _networks[seen.digest()] = network
        _networks.move_to_end(seen.digest())
        while len(_networks) > REMEMBERED:
            _networks.popitem(last=False)

    def judge(other: Read, asked: NDArray[np.int64]) -> Floats:
        rows = torch.from_numpy(other.visits)
        with torch.no_grad():
            parts = [
                network(rows, _kept(other.order[asked[i : i + AT_ONCE]]), None).numpy()
                for i in range(0, asked.size, AT_ONCE)
            ]
        return np.concatenate([np.zeros(0), *parts]).astype(np.float64)

    return judge


def _trained(
    read: Read, chosen: NDArray[np.int64], truth: NDArray[np.bool_], seed: int
) -> _Network:
    rng = generator(seed, "recurrent judge")
    drawn = torch.Generator().manual_seed(int(rng.integers(2**62)))
    network = _Network(read.visits.shape[1], drawn)
    n = chosen.size
    updates = min(UPDATES, EPOCHS * -(-n // BATCH))
    answers, rows = torch.from_numpy(truth.astype(np.float32)), torch.from_numpy(read.visits)
    adam = _Adam(network.weights)
    waiting = np.zeros(0, np.int64)
    for step in range(updates):
        if waiting.size < min(BATCH, n):
            waiting = np.concatenate([waiting, rng.permutation(n)])
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        # warm-up, then a line to nothing
        rate = RATE * min(1.0, (step + 1) / 10, (updates - step) / (0.7 * updates))
        logit = network(rows, _kept(read.order[chosen[batch]]), drawn)
        loss = functional.binary_cross_entropy_with_logits(logit, answers[batch])
        adam.step(torch.autograd.grad(loss, adam.weights), rate)
    return network


def _kept(order: NDArray[np.int64]) -> Tensor:
    """Return the places of a batch, as many columns as its longest sequence has."""
    longest = int((order >= 0).sum(axis=1).max(initial=1))
    return torch.from_numpy(order[:, :longest])
