"""ARGN: one column after another by a small network each, any columns known.

Tiwald et al., "TabularARGN: a flexible and efficient auto-regressive framework for generating
high-fidelity synthetic data", 2025. arXiv:2501.12012
Idea       the chain rule of probability, each factor a small network on the columns before it;
           trained with known columns put first, it can be given any of them
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 order: context,
           target, few levels before many, last event and time · 3 train all columns at once, in
           part of the steps with a random set put first · 4 keep each column's weights
           from when held-out subjects were likeliest, and shrink its departure from its frequencies
           as far as they ask · 5 draw column by column, evenly; what is given stands first
Differs    from the paper in: numbers are mixtures of logistics on a line of normal scores instead
           of bins; levels are seen by correspondence analysis instead of learnt embeddings, so that
           no weight serves two columns and each stops by itself; the networks of all columns are a
           few matrix products; orders keep to one base order but for what is known; draws are
           systematic along what is expected. Under a budget factors are log-linear in pairs of
           columns, learnt by DP-SGD on all subjects a step, with outcomes last (_associations)
Use when   any columns are given, rows are scored by an exact density, or rows are many

Exact are densities, draws along the base order, and one restricted column. Given columns are exact
in the network's own conditionals, which of different known sets need not agree with each other.
Several restricted columns are weighed among candidates. A model file holds weights and frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import manikin.nn.autoregressive as autoregressive
import manikin.synthesizers.table._associations as _associations
import manikin.synthesizers.table._chain as chain
import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._given as _given
import manikin.synthesizers.table._noisy as _noisy
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.nn.loop import Batch, Plan, Rows, Trained, random, train
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._binning import bin_codes
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._factors import Factors, basis
from manikin.synthesizers.table._levels import places
from manikin.synthesizers.table._loglinear import LogLinear
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["ARGN"]

MOST_HELD = 3000  # of which no more are needed
ENOUGH = 100  # subjects from which on some are held out
HELD_OUT = 0.15  # share of subjects whose log probability ends the training
SHRINK = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0, 1.15)  # departures that are tried out
EPOCHS = 120  # most passes over the rows
BATCHES = 4  # least batches of a pass
LOOK = 50  # most steps from one look at held-out rows to the next
LEAST_SEEN = 4  # numbers that a level is seen as where rows are few
BLIND = 40  # steps where rows are too few to hold some out
BLOCK = 20_000  # rows drawn at a time
CANDIDATES = 16  # draws a row where several columns are restricted
RAREST = 1e-6  # probability of conditions below which the model only guesses
GOLDEN = 0.6180339887498949  # its multiples lie evenly in [0, 1), however many are taken


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class ARGN:
    """Recipe: neural autoregression in any order."""

    takes_budget: ClassVar[bool] = True
    embed: int = 16  # most numbers that a level is seen as; fewer where rows are few
    width: int = 32  # hidden units of a column's network
    mixed: int = 5  # logistics that a number's distribution mixes
    dropout: float = 0.4  # share of units left out at a step
    decay: float = 0.3  # weight decay
    steps: int = 1200  # most steps
    batch: int = 256  # rows a step
    rate: float = 6e-3  # highest learning rate
    known: float = 0.3  # share of steps in which a random set of columns is put first
    patience: int = 5  # looks at held-out subjects without a gain before training ends
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    first: tuple[str, ...] = ()  # context columns: all others lean on them
    clip: float = 0.5  # under a budget: norm of a subject's gradient, by that of a usual one
    most_rows: int = 1  # under a budget: rows of a subject that count

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> ARGNModel:
        """Train the networks. Under a budget the noise is secret: no seed repeats a model."""
        self._check()
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        encoding, codes = learnt.encoding, learnt.codes
        dense = Dense.of(encoding.cells)
        network = self._network(encoding, dense, random(seed, "argn weights"))
        order: list[int] = []
        if codes.shape[1]:
            nominal = np.array([not cells.ordered for cells in encoding.cells], bool)
            binned = bin_codes(codes, encoding.sizes, nominal)
            order = self._order(encoding, chain.association(binned, seed))
            kept, held = _held_out(data, seed)
            network.levels.data.copy_(places(dense, codes[kept], binned[kept], network.embed))
            ready = network.prepared(torch.from_numpy(codes.astype(np.int64)))
            size = min(self.batch, max(len(kept) // BATCHES, 1))
            rows, best = Rows(_rows(ready, kept), size, seed=seed), Best(network)
            trained = train(
                network, lambda net, batch, rng: _loss(net, batch, order, self.known, best, rng),
                rows, self._plan(rows, blind=not len(held)), seed=seed,
                held_out=[_rows(ready, held)] if len(held) else [], watch=watch,
            )  # fmt: skip
            self._had_time(trained, rows)
            if len(held):
                best.take(network)
                _shrink(network, _rows(ready, held), order)
        return _scoring(learnt.model(AnyOrder(network, tuple(order))))

    def _privately(self, data: Table, budget: Budget, seed: int, watch: Watch) -> ARGNModel:
        """Learn associations of pairs from clipped and noisy gradients."""
        report(watch, 0, None, "counting single columns")
        learnt = _noisy.learn(data, budget, most_rows=self.most_rows, single=_associations.SINGLE)
        order = _associations.order_of(learnt.encoding, self._first(learnt.encoding))
        network = _associations.learn(
            learnt, order, _even(generator(seed, "argn margins")), clip=self.clip,
            steps=self.steps, device=self.device, seed=seed, watch=watch,
        )  # fmt: skip
        return _scoring(learnt.model(AnyOrder(network, tuple(order))))

    def restore(self, schema: Any, state: State) -> ARGNModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        self._check()
        arrays, values = coded.saved(state)
        encoding = Encoding.restore(schema, state)
        network: Factors | LogLinear = LogLinear(encoding.cells)
        if Paid.restore(state.values) is None:
            network = self._network(encoding, Dense.of(encoding.cells), random(0, "argn weights"))
        wanted = network.state_dict()
        order: Any = values.get("order")
        sound = set(wanted) == set(arrays) and all(
            arrays[name].shape == tuple(tensor.shape)
            and arrays[name].dtype == np.float32
            and np.isfinite(arrays[name]).all()
            for name, tensor in wanted.items()
        )
        whole = isinstance(order, list) and all(type(j) is int for j in order)
        sound = sound and whole and sorted(order) == list(range(len(encoding.names)))
        if not sound:
            raise InputError(
                "arrays that do not make a model",
                "those that table/argn writes with the same settings",
                "get the model again from where it was made",
            )
        network.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in arrays.items()})
        return _scoring(coded.restore(schema, state, AnyOrder(network.eval(), tuple(order))))

    def _check(self) -> None:
        check_settings(
            self, embed=(1, 256), width=(2, 4096), mixed=(1, 64), dropout=(0, 0.95),
            decay=(0, 100), steps=(1, 10**8), batch=(1, 10**7), rate=(1e-9, 1), known=(0, 1),
            patience=(1, 10**6), minutes=(0, math.inf), k=(1, math.inf), clip=(1e-6, 1e6),
            most_rows=(1, 10**6),
        )  # fmt: skip

    def _network(self, encoding: Encoding, dense: Dense, rng: torch.Generator) -> Factors:
        n = max((int(cells.counts.sum()) for cells in encoding.cells), default=0)
        embed = min(self.embed, max(LEAST_SEEN, math.isqrt(n) // 6))
        return Factors(
            dense, basis(encoding.cells), embed=embed, width=self.width, mixed=self.mixed,
            dropout=self.dropout, rng=rng,
        )  # fmt: skip

    def _plan(self, rows: Rows, *, blind: bool) -> Plan:
        steps = min(self.steps, BLIND if blind else rows.per_epoch * EPOCHS)
        look = min(LOOK, 10 + rows.per_epoch // 2)
        return Plan(
            steps, rate=self.rate, warm_up=min(50, steps // 10), look=look,
            patience=self.patience, seconds=60 * self.minutes, device=self.device,
            weight_decay=self.decay, average=0.98, gain=0.002,
        )  # fmt: skip

    def _order(self, encoding: Encoding, information: NDArray[np.float64]) -> list[int]:
        """Return the base order: context and target, then few levels before many, last survival.

        A time to an event hangs on many columns a little each: together they tell it better than
        it tells each of them.
        """
        targets = _indices(encoding, [column.name for column in encoding.schema.holders("target")])
        first = list(dict.fromkeys([*self._first(encoding), *targets]))
        roles = [encoding.schema.holders(role) for role in ("event", "time")]
        last = _indices(encoding, [c.name for held in roles for c in held])
        order = chain.order_columns(encoding.sizes, information, first)
        return [j for j in order if j in first or j not in last] + [
            j for j in last if j not in first
        ]

    def _first(self, encoding: Encoding) -> list[int]:
        for name in self.first:
            if encoding.index(name) is None:
                raise InputError(
                    f"'{name}' is to come first, but is no column that is modelled",
                    "columns that vary and do not follow from another",
                    "leave it out of 'first', or correct the name",
                )
        return _indices(encoding, list(self.first))

    def _had_time(self, trained: Trained, rows: Rows) -> None:
        if trained.why == "time" and trained.steps < rows.per_epoch:
            raise InputError(
                f"{trained.steps} steps in {self.minutes:g} minutes, {rows.per_epoch} needed to"
                " see every row once",
                "time for at least one pass over the rows",
                "give more minutes, or fewer rows",
            )


def _indices(encoding: Encoding, names: list[str]) -> list[int]:
    found = [encoding.index(name) for name in names]
    return list(dict.fromkeys(j for j in found if j is not None))


# ------------------------------------------------------------------ loss, and when to stop


class Best:
    """Each column's weights at the look where held-out rows were likeliest: it stops by itself."""

    def __init__(self, network: Factors) -> None:
        self.least = torch.full((network.columns,), math.inf)  # (D,) nats a row
        self.weights = [weights.detach().cpu().clone() for weights in network.own()]

    def look(self, network: Factors, losses: Tensor) -> Tensor:
        """Keep what got better; return the sum of the least losses so far."""
        better = losses < self.least
        self.least = torch.where(better, losses, self.least)
        for best, now, whose in zip(self.weights, network.own(), network.whose(), strict=True):
            chosen = better[whose.cpu()]
            best[chosen] = now.detach().to(best.device)[chosen]
        return self.least.sum()

    @torch.no_grad()
    def take(self, network: Factors) -> None:
        """Put the best weights in the network."""
        for best, now in zip(self.weights, network.own(), strict=True):
            now.copy_(best)


def _loss(
    network: nn.Module, batch: Batch, order: list[int], share: float, best: Best,
    rng: torch.Generator,
) -> Tensor:  # fmt: skip
    assert isinstance(network, Factors)
    if network.training:
        return autoregressive.loss(
            lambda sees: network.log_likelihood(batch, sees, rng), order, rng, share=share
        )
    judged = best.look(network, _judged(network, batch, order))
    return judged.expand(len(batch[0]))


@torch.no_grad()
def _judged(network: Factors, held: Batch, order: list[int]) -> Tensor:
    """Return what held-out rows say against each column, (D,), in nats a row.

    It is judged by what it makes of the columns before it, and of all others.
    """
    found = torch.zeros(network.columns)
    for sees in (autoregressive.visible(order), ~torch.eye(len(order), dtype=torch.bool)):
        found -= network.log_likelihood(held, sees).mean(1)[network.tables["at"]].cpu() / 2
    return found


@torch.no_grad()
def _shrink(network: Factors, held: Batch, order: list[int]) -> None:
    """Let each column depart from its frequencies as far as held-out rows bear it out."""
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = []
    for times in SHRINK:
        network.shrink(torch.full((network.columns,), times))
        found.append(_judged(network, held, order))
        network.load_state_dict(plain)
    network.shrink(torch.tensor(SHRINK)[torch.stack(found).argmin(0)])


def _held_out(data: Table, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows of the subjects to learn from, and of those who tell when to stop."""
    subjects = np.unique(data.subjects)
    n = min(int(HELD_OUT * subjects.size), MOST_HELD) if subjects.size >= ENOUGH else 0
    apart = generator(seed, "argn held out").permutation(subjects)[:n]
    held = np.isin(data.subjects, apart)
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return tuple(tensor[rows] for tensor in batch)


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class AnyOrder:
    """Rows of codes, column by column."""

    network: Factors | LogLinear
    order: tuple[int, ...]
    name = "argn"
    released = ("weights of networks trained on the rows",)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.complete(np.full((n, len(self.order)), -1, np.int32), {}, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, given those that are."""
        coded.check_possible(allowed)
        limits = {j: torch.from_numpy(np.asarray(mask, bool)) for j, mask in allowed.items()}
        found = [np.zeros((0, len(self.order)), np.int32)]
        # candidates of all codes of a column at once are what takes memory
        step = BLOCK if len(limits) < 2 else BLOCK // CANDIDATES
        for start in range(0, len(codes), step):
            given = torch.from_numpy(codes[start : start + step].astype(np.int64))
            whole, evidence = autoregressive.complete(
                self.network, given, self.order, _even(rng), allowed=limits, candidates=CANDIDATES
            )
            if limits and float(evidence.max()) < np.log(RAREST):
                raise ConditionError(
                    f"fewer than one subject in {1 / RAREST:,.0f} meets what is asked for",
                    "conditions that a fair share of subjects meet together",
                    "loosen a condition, or leave one out",
                )
            found.append(whole.numpy().astype(np.int32))
        return np.concatenate(found)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return weights and cuts."""
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def values(self) -> Mapping[str, Any]:
        """Return the base order."""
        return {"order": list(self.order)}


@dataclass(frozen=True)
class ARGNModel(CodedModel):
    """A fitted ARGN: a conditional model that can also tell how likely a row is."""

    joint: AnyOrder

    def log_density(self, table: Table, *, seed: int = 0) -> NDArray[np.float64]:
        """Return the log probability of each row's codes in nats, (rows,): exact."""
        codes = _given.known(self.encoding, table, generator(seed, "argn rows")).codes
        if (codes < 0).any():
            lacking = [n for n, c in zip(self.encoding.names, codes.T, strict=True) if c.min() < 0]
            raise InputError(
                f"rows without columns: {', '.join(lacking)}",
                "every column that the model was fitted on",
                "add them, or draw them with sample_given",
            )
        found = [np.zeros(0)]
        for start in range(0, len(codes), BLOCK):
            rows = torch.from_numpy(codes[start : start + BLOCK].astype(np.int64))
            log_p = autoregressive.log_density(self.joint.network, rows, self.joint.order)
            found.append(log_p.numpy())
        return np.concatenate(found)


def _scoring(model: CodedModel) -> ARGNModel:
    assert isinstance(model.joint, AnyOrder)
    return ARGNModel(model.encoding, model.joint, model.row_counts, model.rules, model.paid)


def _even(rng: np.random.Generator) -> autoregressive.Uniform:
    """Return numbers that lie evenly among rows of like keys: each alone is uniform."""

    def uniform(keys: Tensor) -> Tensor:
        n = len(keys)
        shuffled = rng.permutation(n)
        order = shuffled[np.argsort(keys.numpy()[shuffled], kind="stable")]
        found = np.empty(n)
        found[order] = (np.arange(n) * GOLDEN + rng.random()) % 1.0
        return torch.from_numpy(found)

    return uniform
