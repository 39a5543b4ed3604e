"""How table/argn learns under a privacy budget: associations of pairs from noisy gradients.

The loss is smooth and convex, and numbers are so scaled that its curvature is about one whatever
the rows are; so plain steps on all subjects, few enough to be bought, end near its least value with
the noise of one noisy mean of all products of pairs. What then is done costs nothing, as it reads
the weights and the noisy counts alone: pairs that noise explains are shrunk (James and Stein 1961,
the positive part, a pair of columns at a time: how large the noise is, is public; with twice its
variance, since most pairs are one weight, of which theirs would let a third of noise pass), each
column is brought back to its counted frequencies along the order of drawing, and what earlier
columns owe to later ones, which only a given column asks for, is learnt from the model's own draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import manikin.nn.autoregressive as autoregressive
from manikin.nn.autoregressive import Uniform
from manikin.nn.loop import Batch, Loss, Plan, Rows, backward, train
from manikin.nn.private import Private
from manikin.synthesizer import Watch
from manikin.synthesizers.table._loglinear import LogLinear
from manikin.synthesizers.table._noisy import Noisy
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["SINGLE", "STEPS", "learn", "order_of"]

SINGLE = 0.5  # share of the budget for single columns
STEPS = 40  # of training, at most
MOST = 6000  # subjects of a step: with more there is enough to be learnt from some
RATE = 0.3  # of descent, where the curvature is one
STRICT = 2.0  # times the variance of noise that a pair must exceed
POOL = 4000  # rows drawn to set the margins by, and to learn from what is asked for backwards
ROUNDS = 8  # of setting one column's margins
BACKWARDS = 120  # steps of learning from them, at most; and three for each that was paid for


def order_of(encoding: Encoding, first: Sequence[int]) -> list[int]:
    """Return the order of drawing by public facts: `first`, few codes before many, outcomes last.

    An outcome then is a regression on all others.
    """
    schema = encoding.schema
    held = [encoding.index(c.name) for role in ("target", "event", "time")
            for c in schema.holders(role)]  # fmt: skip
    last = [j for j in dict.fromkeys(held) if j is not None and j not in first]
    rest = [j for j in range(len(encoding.names)) if j not in first and j not in last]
    return [*first, *sorted(rest, key=lambda j: (int(encoding.sizes[j]), j)), *last]


def learn(
    noisy: Noisy, order: Sequence[int], uniform: Uniform, *,
    clip: float, steps: int, device: str, seed: int, watch: Watch,
) -> LogLinear:  # fmt: skip
    """Spend what is left of the budget on training, and return the columns' distributions."""
    network = LogLinear(noisy.encoding.cells)
    d = network.columns
    if d == 0:
        return network
    training = noisy.training(min(steps, STEPS), least=min(noisy.subjects, MOST))
    variances = network.variances()[torch.tensor(order)]
    before = torch.cumsum(variances, 0) - variances
    # about the length of a row's gradient when nothing is known yet, by the noisy counts
    norm = clip * noisy.rows_each * math.sqrt(float((variances * (1 + before)).sum()))
    gradients = Private(training, lambda codes: (codes,), clip=max(norm, 1e-3))
    sees = autoregressive.visible(order)
    plan = Plan(
        training.steps, rate=RATE / noisy.rows_each, warm_up=0, look=training.steps,
        schedule="constant", average=0.9, device=device, descent="plain",
    )  # fmt: skip
    train(
        network, lambda net, batch, rng: _loss(net, batch, sees), gradients.batches, plan,
        seed=seed, gradients=gradients, watch=watch,
    )  # fmt: skip
    deviation = training.noise_multiplier * gradients.clip / training.expected
    _shrink(network, sees, deviation / noisy.rows_each / math.sqrt(training.steps))
    drawn = _calibrate(network, order, uniform)
    if d > 1:
        _learn_backwards(network, drawn, order, min(BACKWARDS, 3 * training.steps), seed)
    return network


def _loss(network: nn.Module, batch: Batch, sees: Tensor) -> Tensor:
    assert isinstance(network, LogLinear)
    return -network.log_likelihood(batch[0], sees).sum(0)


@torch.no_grad()
def _shrink(network: LogLinear, sees: Tensor, deviation: float) -> None:
    """Shrink each pair of columns by how much of it is noise of this standard deviation."""
    d, owner = network.columns, network.tables["owner"]
    weight = network.pairs.weight
    weight.mul_(sees[owner][:, owner])  # noise of what no row asked for
    pair = (owner[:, None] * d + owner[None]).flatten()
    length = torch.zeros(d * d).index_add_(0, pair, weight.square().flatten())
    weights = torch.bincount(pair, minlength=d * d)
    kept = (1 - STRICT * weights * deviation**2 / length.clamp(min=1e-12)).clamp(min=0)
    weight.mul_(kept[pair].view(weight.shape))


@torch.no_grad()
def _calibrate(network: LogLinear, order: Sequence[int], uniform: Uniform) -> Tensor:
    """Draw rows, each column brought to its frequencies before it is drawn; return them."""
    x = torch.full((POOL, network.columns), -1, dtype=torch.int64)
    view, rows, of = network.view(x), torch.arange(POOL), network.tables
    for j in order:
        log_p = network.factor(view, j).log_classes
        n = log_p.shape[1]
        wanted = of["log_frequency"][j, :n].double()
        base = torch.zeros(n, dtype=torch.float64)
        for _ in range(ROUNDS):
            found = torch.log_softmax(log_p + base, 1).exp().mean(0).clamp(min=1e-12).log()
            base += (wanted - found).clamp(-2.0, 2.0)
        network.base[j, :n] += base.float()
        x[:, j] = network.factor(view, j).draw(uniform, None)
        network.show(view, j, x[:, j], rows)
    return x


def _learn_backwards(
    network: LogLinear, drawn: Tensor, order: Sequence[int], steps: int, seed: int
) -> None:
    """Learn from drawn rows what columns owe to later ones; all else stays as it is."""
    owner = network.tables["owner"]
    later = autoregressive.visible(order).T[owner][:, owner].float()

    def gradients(net: nn.Module, loss: Loss, batch: Batch, rng: torch.Generator) -> Tensor:
        mean = backward(net, loss, batch, rng)
        weight, bias = network.pairs.weight, network.pairs.bias
        assert weight.grad is not None
        weight.grad *= later
        bias.grad = None
        return mean

    plan = Plan(steps, rate=0.05, warm_up=min(5, steps // 10), look=steps, average=0.9)
    train(
        network,
        lambda net, batch, rng: autoregressive.loss(
            lambda sees: network.log_likelihood(batch[0], sees), order, rng, share=1.0
        ),
        Rows((drawn,), 400, seed=seed), plan, seed=seed, gradients=gradients,
    )  # fmt: skip
