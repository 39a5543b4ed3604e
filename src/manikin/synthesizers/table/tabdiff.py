"""TabDiff: a diffusion of mixed-type rows, masks for categories and normal noise for numbers.

Shi, Xu, Hua, Zhang, Ermon, Leskovec, "TabDiff: a mixed-type diffusion model for tabular data
generation", ICLR 2025. arXiv:2410.20626
Idea       numbers are blurred by normal noise, categories hidden behind masks; one network learns
           to undo both, and rows are made from pure noise in a few steps
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 blur and mask by
           low-discrepancy levels; predict the clean row · 3 stop by the loss of held-out subjects
           · 4 set the columns' margins · 5 sample: numbers down a ladder of noise, then categories
           one by one in random order
           given: categories that all rows share weigh numbers by how well they explain them, then
           stay unmasked: rows are as those drawn for which they hold. Where they differ from row
           to row they are never masked while numbers are made: the network was trained to do so.
           Known numbers are clamped to their noisy selves and each step repeated (RePaint, Lugmayr
           et al., CVPR 2022): approximate. Conditions that allow several codes: rows are drawn
           until they hold, up to three times; what is left gets values of rows that came right
           (approximate). A condition on one column of categories is drawn from its margin.
           Guidance pushes towards a known target of categories (Ho and Salimans 2022, eq. (6)):
           by design no longer the distribution of the rows.
Differs    from the paper in: the denoiser is scaled by the scores' covariance (Karras et al.,
           NeurIPS 2022, §5, along its axes), so that a silent network draws a Gaussian copula;
           noise of numbers and masks are drawn apart in training, and numbers are made first;
           the mask's bound is that of an autoregression in every order (Hoogeboom et al., ICLR
           2022); one schedule for all columns, not learnt ones; a residual network, no
           transformer; no fresh noise while sampling unless asked for; scores that a row lacks are
           filled in; margins are set to those of training after it; under a budget a small network
           learns first from rows of a Gaussian copula, whose correlations are bought as noisy sums
           over pairs of columns, then a little from clipped gradients of real rows
Use when   rows are many and columns of mixed kinds hang together smoothly: measured, above
           table/tvae on most tables and below table/seqtree; not when conditions on numbers must
           be exact (table/arf, table/mixture), nor when table/seqtree will do

A model file holds the network's weights, the scores' covariance and the columns' frequencies;
never a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._denoiser as denoiser
import manikin.synthesizers.table._noisy as _noisy
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.nn import flow
from manikin.nn.loop import Plan, Rows, chunks, device, random, train
from manikin.nn.private import Private, hidden
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._denoiser import Clean, Denoiser
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._probit import guess
from manikin.synthesizers.table._reverse import DiffusionJoint
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["TabDiff"]

FEWEST_STEPS, MOST_BLIND = 40, 200  # where too few subjects are there to hold some out
ENOUGH = 200  # subjects from which on some are held out
HELD_OUT = 0.12  # share of subjects whose loss ends the training
MANY = 1000  # rows from which on the network is as large as asked for, and looks are rarer
SMALL = (64, 1)  # most units and blocks of a network for fewer
SMALLEST = 64  # batch of few rows
JUDGED = 1024  # noisy rows by which a look judges; held-out ones come several times
POOL, POOL_EACH = 4096, 8  # most draws by which margins are set; for each row
PAIRS = 0.5  # share of a budget that tells how columns go together, by pairs
FIRST, TAUGHT = 8192, 400  # rows drawn by that, and steps in which a network learns from them
TAUGHT_RATE = 1e-2
COPIES, PRIVATE = 2, 60  # of a private row in a step, with other noise each; most private steps
PRIVATE_RATE = 1e-3  # highest learning rate of those


@dataclass(frozen=True)
class TabDiff:
    """Recipe: a mixed-type diffusion of codes."""

    takes_budget: ClassVar[bool] = True
    width: int = 128  # units of a hidden layer; at most 64 below 1000 rows
    depth: int = 2  # residual blocks; one below 1000 rows
    steps: int = 3000  # most training steps; fewer when rows are few
    batch: int = 256  # rows a step
    rate: float = 3e-3  # highest learning rate; three times that where the steps are few
    decay: float = 0.0  # weight decay
    few: int = 12  # codes up to which every code of a number is a category
    draws: int = 32  # denoising steps of a row
    noise: float = 0.0  # by what share fresh noise raises the level before a step; 0: none
    guidance: float = 0.0  # push towards a given target, 0: none
    patience: int = 8  # looks at held-out subjects without a better loss before training ends
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    clip: float = 1.0  # under a budget: norm to which each subject's gradient is clipped
    most_rows: int = 1  # under a budget: rows of a subject that count

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Train the network."""
        self._check()
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        dense = Dense.of(learnt.encoding.cells, few=self.few)
        codes = torch.from_numpy(learnt.codes.astype(np.int64))
        rng = random(seed, "tabdiff rows")
        clean = Clean.of(dense, codes, rng)
        width, depth = (self.width, self.depth) if len(codes) >= MANY else SMALL
        network = Denoiser(
            dense, clean.normal(rng), min(width, self.width), min(depth, self.depth),
            random(seed, "tabdiff weights"),
        )  # fmt: skip
        where = device(self.device)
        there = replace(dense, pad=dense.pad.to(where))
        places = denoiser.places_that_count(dense).to(where)
        kept, held = _held_out(data, seed)
        plan = self._plan(len(kept), watched=len(held) > 0)
        # of few rows a step sees each several times, with other noise
        batch = min(self.batch, max(len(kept), SMALLEST))
        rows = Rows(clean.rows(kept.repeat(-(-batch // max(len(kept), 1)))), batch, seed=seed)
        times = -(-JUDGED // max(len(held), 1))
        judged = tuple(t.repeat(times, 1) for t in clean.rows(held))
        trained = train(
            network, lambda net, batch, noise: denoiser.loss(net, batch, there, places, noise),
            rows, plan, seed=seed, held_out=tuple(chunks(judged, 2048)), watch=watch,
        )  # fmt: skip
        joint = self._joint(
            learnt.encoding, dense, network, data.schema,
            (torch.zeros(dense.lines), torch.ones(dense.lines)),
        )  # fmt: skip
        if trained.why == "time" and trained.steps < rows.per_epoch:
            raise InputError(
                f"{trained.steps} steps in {self.minutes:g} minutes, {rows.per_epoch} needed to"
                " see every row once",
                "time for at least one pass over the rows",
                "give more minutes, or fewer rows",
            )
        if data.n_rows and learnt.codes.shape[1]:
            joint = joint.calibrated(min(POOL, POOL_EACH * data.n_rows), clean, seed)
        return learnt.model(joint)

    def _privately(self, data: Table, budget: Budget, seed: int, watch: Watch) -> CodedModel:
        """Learn from rows of a noisy copula, then from clipped and noisy gradients of real ones."""
        report(watch, 0, None, "counting single columns")
        learnt = _noisy.learn(data, budget, most_rows=self.most_rows)
        dense = Dense.of(learnt.encoding.cells, few=self.few)
        first = guess(learnt, share=PAIRS, rng=generator(seed, "tabdiff guess"))
        drawn = first.draw(FIRST, generator(seed, "tabdiff first rows"))
        rng = random(seed, "tabdiff rows")
        clean = Clean.of(dense, torch.from_numpy(drawn.astype(np.int64)), rng)
        covariance = clean.covariance(rng)
        network = Denoiser(
            dense, flow.Normal.of(covariance), min(SMALL[0], self.width), min(SMALL[1], self.depth),
            random(seed, "tabdiff weights"),
        )  # fmt: skip
        where = device(self.device)
        there = replace(dense, pad=dense.pad.to(where))
        places = denoiser.places_that_count(dense).to(where)

        def loss(net: nn.Module, batch: tuple[Tensor, ...], noise: torch.Generator) -> Tensor:
            return denoiser.loss(net, batch, there, places, noise, even=False)

        taught = min(TAUGHT, 2 * self.steps)
        train(
            network, loss, Rows(clean.rows(torch.arange(FIRST)), self.batch, seed=seed),
            Plan(taught, rate=TAUGHT_RATE, warm_up=taught // 20, look=taught, device=self.device),
            seed=seed, watch=watch, what="learning what pairs tell",
        )  # fmt: skip
        noise = hidden()

        def rows(codes: Tensor) -> tuple[Tensor, ...]:
            own = Clean.of(dense, codes.repeat_interleave(COPIES, 0), noise, covariance)
            return own.slots, own.low, own.high

        steps = Private(
            learnt.training(min(PRIVATE, self.steps)), rows, clip=self.clip, copies=COPIES
        )
        train(
            network, loss, steps.batches,
            _noisy.plan(steps.training, rate=PRIVATE_RATE, device=self.device),
            seed=seed, gradients=steps, watch=watch,
        )  # fmt: skip
        joint = self._joint(
            learnt.encoding, dense, network, data.schema,
            (torch.zeros(dense.lines), torch.ones(dense.lines)),
        )  # fmt: skip
        return learnt.model(joint.calibrated(POOL, clean, seed))

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        self._check()
        arrays, values = coded.saved(state)
        width, depth = (
            _whole(values.get(name), most)
            for name, most in (("width", self.width), ("depth", self.depth))
        )
        encoding = Encoding.restore(schema, state)
        dense = Dense.of(encoding.cells, few=self.few)
        c = dense.lines
        data = flow.Normal(torch.ones(c), torch.eye(c))
        network = Denoiser(dense, data, width, depth, random(0, "tabdiff weights"))
        wanted = {**network.state_dict(), "cuts": dense.cuts,
                  "shift": torch.zeros(c), "scale": torch.zeros(c)}  # fmt: skip
        sound = set(wanted) == set(arrays) and all(
            arrays[name].shape == tuple(tensor.shape)
            and arrays[name].dtype == np.float32
            and np.isfinite(arrays[name]).all()
            for name, tensor in wanted.items()
        )
        if (
            not sound
            or (np.diff(arrays["cuts"], axis=1) < 0).any()
            or (arrays["variances"] <= 0).any()
            or (arrays["scale"] <= 0).any()
            or np.abs(arrays["axes"].T @ arrays["axes"] - np.eye(c)).max(initial=0) > 1e-3
        ):
            raise _strange()
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        dense = replace(dense, cuts=tensors.pop("cuts"))
        scaling = tensors.pop("shift"), tensors.pop("scale")
        network.load_state_dict(tensors)
        joint = self._joint(encoding, dense, network, schema, scaling)
        return coded.restore(schema, state, joint)

    def _joint(
        self, encoding: Encoding, dense: Dense, network: Denoiser, schema: TableSchema,
        scaling: tuple[Tensor, Tensor],
    ) -> DiffusionJoint:  # fmt: skip
        where = device(self.device)
        target = -1
        if self.guidance:
            target = _target(encoding, dense, schema)
        return DiffusionJoint(
            dense, network.eval().to(where), *scaling, _counts(encoding), self.draws, self.noise,
            self.guidance, target, where,
        )  # fmt: skip

    def _check(self) -> None:
        whole = {"width": 4096, "depth": 32, "steps": 10**8, "batch": 10**7, "few": 256,
                 "draws": 1000}  # fmt: skip
        wrong = [name for name, most in whole.items() if not 1 <= getattr(self, name) <= most]
        if wrong:
            raise InputError(
                f"an impossible setting of: {', '.join(wrong)}",
                ", ".join(f"{name} from 1 to {whole[name]:,}" for name in wrong),
                "correct the setting",
            )
        if not (0 <= self.noise <= 1 and 0 <= self.guidance <= 20 and 0 <= self.decay < 1000):
            raise InputError(
                "an impossible setting of noise, guidance or decay",
                "noise from 0 to 1, guidance from 0 to 20, decay from 0",
                "correct the setting",
            )

    def _plan(self, rows: int, *, watched: bool) -> Plan:
        # of few rows there is little to learn, and nobody tells when it has been
        few = max(FEWEST_STEPS, min(rows * rows // 75, MOST_BLIND))
        steps = self.steps if watched else min(self.steps, few)
        return Plan(
            steps, rate=self.rate if watched else 3 * self.rate,
            warm_up=min(50, steps // 10), weight_decay=self.decay,
            look=25 if rows < MANY else 50, patience=self.patience, seconds=60 * self.minutes,
            device=self.device,
        )  # fmt: skip


def _strange() -> InputError:
    return InputError(
        "arrays that do not make a model",
        "those that table/tabdiff writes with the same settings",
        "get the model again from where it was made",
    )


def _whole(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _strange()
    return value


def _held_out(data: Table, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows of the subjects to learn from, and of those who tell when to stop."""
    subjects = np.unique(data.subjects)
    n = int(HELD_OUT * subjects.size) if subjects.size >= ENOUGH else 0
    apart = generator(seed, "tabdiff held out").permutation(subjects)[:n]
    held = np.isin(data.subjects, apart)
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def _target(encoding: Encoding, dense: Dense, schema: TableSchema) -> int:
    """Return the column that the schema declares as target. Raises InputError without one."""
    named = [c.name for c in schema.columns if {"target", "event"} & set(c.roles)]
    found = [encoding.names.index(name) for name in named if name in encoding.names]
    if not found or found[0] in dense.numbers.tolist():
        raise InputError(
            "guidance without a target of categories",
            "a schema in which a column of categories has the role target or event",
            "declare one, or set guidance to 0",
        )
    return found[0]


def _counts(encoding: Encoding) -> Tensor:
    """Return the training rows of each code, (D, S)."""
    most = max((cells.size for cells in encoding.cells), default=1)
    found = torch.zeros(len(encoding.cells), most)
    for j, cells in enumerate(encoding.cells):
        found[j, : cells.size] = torch.from_numpy(cells.counts.astype(np.float32))
    return found
