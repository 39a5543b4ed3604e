"""The one training loop, for every neural method of every modality.

A method brings a network, a loss (one figure a row) and batches by number; `train` owns the rest:
optimiser (AdamW: Loshchilov and Hutter, ICLR 2019; or plain descent), moving average of the
weights (Polyak and Juditsky 1992), bfloat16 where it is quicker, gradient clipping, learning rate,
the end (steps, held-out loss, seconds, or the watch), checkpoints, progress and the device.

All randomness is counted by step: the batch and the noise of step s follow from (seed, s) alone, so
that a training killed and resumed makes, with the same device and threads, the same weights bit
for bit. Global random state is neither read nor moved.

Two hooks, both called at every step:
  gradients(network, loss, batch, rng) leaves `.grad` on the parameters and returns the mean loss.
      `backward` is the plain one. `private.Private` clips each subject's gradient and adds noise;
      it returns None, since the loss itself is private too: then none is told, nothing ends the
      training but its steps, and it can be neither resumed nor held against rows. One that
      leaves gradients on some parameters moves only those: so two networks take turns.
  agree(tensors) turns tensors in place into their mean over all devices or sites: gradients every
      step, held-out loss and seconds at every look, so that all of them stop at the same step.
      `alone` leaves them as they are.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from manikin.data.randomness import generator
from manikin.errors import InputError, NotSupported, PrivacyError, Stopped
from manikin.nn import checkpoints
from manikin.nn.private import Private
from manikin.synthesizer import Watch, report, silent

__all__ = ["Batch", "Loss", "Plan", "Rows", "Trained", "alone", "backward", "random", "train"]

Batch: TypeAlias = tuple[Tensor, ...]
Loss: TypeAlias = Callable[[nn.Module, Batch, torch.Generator], Tensor]  # (rows,): one a row
Gradients: TypeAlias = Callable[[nn.Module, Loss, Batch, torch.Generator], Tensor | None]
Agree: TypeAlias = Callable[[Sequence[Tensor]], None]

WIDE = 256  # rows and columns of a matrix from which on bfloat16 is quicker on CPUs: docs/loop.md
SILENCE = 1.0  # seconds after which progress is told between looks


@dataclass(frozen=True)
class Plan:
    """How to train."""

    steps: int  # most steps
    rate: float = 1e-3  # highest learning rate
    warm_up: int = 50  # steps in which the rate rises to it
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of a step's gradient; inf: any
    average: float = 0.99  # share of the moving average that a step keeps; 0: no average
    look: int = 100  # steps from one look at the held-out loss to the next
    patience: int = 0  # looks without a better held-out loss before the end; 0: never ends so
    gain: float = 0.0  # by how much a held-out loss must fall below the best to be a better one
    descent: Literal["adamw", "plain"] = "adamw"  # plain: the rate times the gradient, no more
    betas: tuple[float, float] = (0.9, 0.999)  # what the moments of the gradient keep of a step
    seconds: float = math.inf  # wall time; a finite one ends wherever this machine has come to
    bf16: bool | None = None  # None: where it is quicker, in hardware and (CPU) in wide networks
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu

    def __post_init__(self) -> None:
        whole = self.steps >= 0 and self.warm_up >= 0 and self.look > 0 and self.patience >= 0
        if not (whole and self.rate > 0 and self.clip > 0 and self.seconds > 0
                and all(0 <= share < 1 for share in (self.average, *self.betas))):  # fmt: skip
            raise InputError(
                "a training plan with an impossible figure",
                "steps, rate, clip, look and seconds are positive; average and betas are in [0, 1)",
                "correct the plan",
            )


@dataclass(frozen=True)
class Trained:
    """How a training went; the weights are in the network."""

    steps: int
    why: str  # what ended it: steps, held-out loss, time
    held_out: tuple[float, ...]  # mean loss at each look; empty without held-out batches
    best_step: int  # the step whose weights the network has


class Rows:
    """Batches of rows held in memory, shuffled anew every epoch; batch s follows from s alone."""

    def __init__(self, tensors: Batch, size: int, *, seed: int) -> None:
        self.tensors, self.n = tensors, len(tensors[0])
        self.size = min(size, self.n)
        self.per_epoch = max(self.n // max(self.size, 1), 1)
        self._seed, self._epoch, self._order = seed, -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        epoch, at = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            shuffled = generator(self._seed, "nn batches", epoch).permutation(self.n)
            self._epoch, self._order = epoch, torch.from_numpy(shuffled)
        rows = self._order[at * self.size : (at + 1) * self.size]
        return tuple(t[rows.to(t.device)] for t in self.tensors)


def random(seed: int, purpose: str, block: int = 0, device: str = "cpu") -> torch.Generator:
    """Return torch's random stream of `purpose` and `block`, apart from its global one."""
    found = torch.Generator(device=device)
    return found.manual_seed(int(generator(seed, purpose, block).integers(2**63)))


def backward(network: nn.Module, loss: Loss, batch: Batch, rng: torch.Generator) -> Tensor:
    """Leave the gradient of the mean loss on the parameters."""
    mean = loss(network, batch, rng).mean()
    mean.backward()  # type: ignore[no-untyped-call]
    return mean.detach()


def alone(tensors: Sequence[Tensor]) -> None:
    """Agree with nobody: one device, one site."""


# ------------------------------------------------------------------ the loop


def train(
    network: nn.Module,
    loss: Loss,
    batches: Callable[[int], Batch],
    plan: Plan,
    *,
    seed: int,
    held_out: Sequence[Batch] = (),
    watch: Watch = silent,
    what: str = "training",
    gradients: Gradients = backward,
    agree: Agree = alone,
    checkpoint: Path | None = None,
) -> Trained:
    """Train `network` in place; it ends with the averaged weights, on the device it came from.

    With held-out batches they are the weights of the best look, else those of the last step. A
    `checkpoint` file that exists is resumed from; it is written at every look and on a stop.
    Raises Stopped when `watch` asks for it.
    """
    home = next(network.parameters()).device
    if isinstance(gradients, Private):
        plan = _guarded(plan, held_out, checkpoint)
    run = _Run(network, loss, plan, seed, held_out, agree, device(plan.device))
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    told = time.monotonic()
    try:
        while not run.why:
            rate = run.step(batches, gradients)
            if run.at % plan.look == 0 or run.at == plan.steps:
                run.look()
                if checkpoint is not None:
                    run.save(checkpoint)
            elif time.monotonic() - told < SILENCE and run.seconds() < plan.seconds:
                continue
            elif run.seconds() >= plan.seconds:
                run.look()
            told = time.monotonic()
            report(watch, run.at, plan.steps, what, rate=rate, **run.figures())
    except Stopped:
        if checkpoint is not None:
            run.save(checkpoint)
        raise
    run.finish()
    network.to(home)
    return Trained(run.at, run.why, tuple(run.history), run.best_step)


def _guarded(plan: Plan, held_out: Sequence[Batch], checkpoint: Path | None) -> Plan:
    """Return the plan of a private training. Raises PrivacyError for what would look at rows.

    Norms are reckoned in single precision, and every step that was paid for is taken.
    """
    if held_out or checkpoint is not None or plan.seconds < math.inf:
        raise PrivacyError(
            "private training with held-out rows, a checkpoint or a limit of time",
            "steps alone: a loss of rows is a release, and steps repeated are paid for again",
            "leave them out",
        )
    return dataclasses.replace(plan, bf16=False, clip=math.inf)


class _Run:
    """The state of a training: everything that a checkpoint holds."""

    def __init__(
        self, network: nn.Module, loss: Loss, plan: Plan, seed: int, held_out: Sequence[Batch],
        agree: Agree, where: torch.device,
    ) -> None:  # fmt: skip
        self.network, self.loss, self.plan, self.seed = network.to(where), loss, plan, seed
        self.held_out, self.agree, self.where = held_out, agree, where
        self.bf16 = _quicker(network, where) if plan.bf16 is None else plan.bf16
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.weights = [p.data for p in network.parameters()]
        self.weights += [b for b in network.buffers() if b.is_floating_point()]
        self.average = [w.clone() for w in self.weights]
        self.best = [w.clone() for w in self.weights]
        self.optimizer: _AdamW | _Plain = (
            _AdamW(self.parameters, plan) if plan.descent == "adamw" else _Plain(self.parameters)
        )
        self.at, self.best_step, self.best_loss, self.waited = 0, 0, math.inf, 0
        self.cut, self.spent, self.why = 1.0, 0.0, "" if plan.steps else "steps"
        self.history: list[float] = []
        self.total, self.since = torch.zeros((), device=where), 0
        self.last = math.nan
        self.begun = time.monotonic()
        self.noise = torch.Generator(device=where)
        self.network.train()

    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.begun

    def figures(self) -> dict[str, float]:
        said = {"loss": self.last} if math.isfinite(self.last) else {}
        return said | ({"held-out loss": self.history[-1]} if self.history else {})

    # -------------------------------------------------------------- one step

    def step(self, batches: Callable[[int], Batch], gradients: Gradients) -> float:
        rate = self._rate()
        batch = tuple(t.to(self.where, non_blocking=True) for t in batches(self.at))
        rng = self._seeded("nn step", self.at)
        for parameter in self.parameters:
            parameter.grad = None
        with torch.autocast(self.where.type, torch.bfloat16, enabled=self.bf16):
            told = gradients(self.network, self.loss, batch, rng)
        found = [p.grad for p in self.parameters if p.grad is not None]
        self.agree(found)
        if math.isfinite(self.plan.clip):
            _clip(found, self.plan.clip)
        self.optimizer.step(rate)
        self.at += 1
        if told is not None:
            self.total += told
            self.since += 1
        # young averages forget their start faster
        keep = min(self.plan.average, self.at / (10 + self.at))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - keep)
        return rate

    def _rate(self) -> float:
        plan = self.plan
        warm = min(1.0, (self.at + 1) / (plan.warm_up + 1))
        if plan.schedule == "cosine":
            done = max(self.at / plan.steps, self.seconds() / plan.seconds)
            return plan.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        return plan.rate * warm * self.cut

    def _seeded(self, purpose: str, block: int) -> torch.Generator:
        return self.noise.manual_seed(int(generator(self.seed, purpose, block).integers(2**63)))

    # -------------------------------------------------------------- a look

    def look(self) -> None:
        """Judge the averaged weights by the held-out loss; decide whether this is the end."""
        self.last = float(self.total) / self.since if self.since else math.nan
        self.total.zero_()
        sound = self.since == 0 or math.isfinite(self.last)
        self.since = 0
        if not (sound and all(bool(w.isfinite().all()) for w in self.weights)):
            raise NotSupported(
                f"training left the finite numbers before step {self.at}",
                "a finite loss",
                "lower the learning rate, or look for extreme numbers in the data",
            )
        judged = torch.tensor([self._held_out_loss(), self.seconds()], dtype=torch.float64)
        self.agree([judged])
        held, seconds = judged.tolist()
        if self.held_out:
            self.history.append(held)
        if not self.held_out or held < self.best_loss - self.plan.gain:
            self.best_step, self.waited = self.at, 0
            self.best_loss = held if self.held_out else math.inf
            torch._foreach_copy_(self.best, self.average)
        else:
            self.waited += 1
            self.cut *= 0.5 if self.plan.schedule == "plateau" and self.waited % 2 == 0 else 1.0
        if self.at >= self.plan.steps:
            self.why = "steps"
        elif self.held_out and 0 < self.plan.patience <= self.waited:
            self.why = "held-out loss"
        elif seconds >= self.plan.seconds:
            self.why = "time"

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        if not self.held_out:
            return 0.0
        kept = [w.clone() for w in self.weights]
        torch._foreach_copy_(self.weights, self.average)
        self.network.eval()
        total, rows = 0.0, 0
        for number, batch in enumerate(self.held_out):
            moved = tuple(t.to(self.where) for t in batch)
            # the same noise at every look: looks differ by the weights alone
            rng = self._seeded("nn held out", number)
            with torch.autocast(self.where.type, torch.bfloat16, enabled=self.bf16):
                losses = self.loss(self.network, moved, rng)
            total, rows = total + float(losses.double().sum()), rows + len(losses)
        torch._foreach_copy_(self.weights, kept)
        self.network.train()
        return total / max(rows, 1)

    def finish(self) -> None:
        """Put the averaged weights of the best look in the network."""
        if self.at:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.best)
        for parameter in self.parameters:
            parameter.grad = None
        self.network.eval()

    # -------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> None:
        arrays = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        arrays |= {f"average/{i}": w for i, w in enumerate(self.average)}
        arrays |= {f"best/{i}": w for i, w in enumerate(self.best)}
        arrays["total"] = self.total
        for i, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                arrays[f"optimizer/{i}/{name}"] = value
        checkpoints.write(path, arrays, {"plan": self._identity(), **self._scalars()})

    def load(self, path: Path) -> None:
        arrays, values = checkpoints.read(path, self.where)
        if values.get("plan") != self._identity():
            raise InputError(
                "the checkpoint belongs to another training",
                "the same settings, seed and network as when it was written",
                "use them, or remove the checkpoint to begin again",
            )
        with checkpoints.trusting_nothing():
            self.network.load_state_dict(_below(arrays, "network/"))
            for i in range(len(self.weights)):
                self.average[i].copy_(arrays[f"average/{i}"])
                self.best[i].copy_(arrays[f"best/{i}"])
            for i, parameter in enumerate(self.parameters):
                kept = _below(arrays, f"optimizer/{i}/")
                if kept:
                    self.optimizer.state[parameter] = kept
            self.total.copy_(arrays["total"])
            for name in self._scalars():
                kind = type(getattr(self, name))
                setattr(self, name, kind(values[name]))
        self.begun = time.monotonic()

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a training to go on."""
        shapes = [list(w.shape) for w in self.weights]
        plan = {k: str(v) for k, v in dataclasses.asdict(self.plan).items()}
        return {"plan": plan, "seed": str(self.seed), "shapes": shapes, "bf16": self.bf16}

    def _scalars(self) -> dict[str, Any]:
        names = ("at", "best_step", "best_loss", "waited", "cut", "why", "history", "since", "last")
        return {**{name: getattr(self, name) for name in names}, "spent": self.seconds()}


class _AdamW:
    """AdamW by torch's operator; `torch.optim` imports a compiler of two seconds at its first step.

    Parameters without a gradient stay as they are, and so do their moments.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], plan: Plan) -> None:
        self.parameters, self.plan = parameters, plan
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the parameters that have a gradient."""
        moved: list[Tensor] = [p for p in self.parameters if p.grad is not None]
        for p in moved:
            if p not in self.state:
                moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": torch.zeros((), device=p.device), **moments}
        if not moved:
            return
        steps, first, second = (
            [self.state[p][name] for p in moved] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            moved, [p.grad for p in moved if p.grad is not None], first, second, [], steps,
            lr=rate, beta1=self.plan.betas[0], beta2=self.plan.betas[1],
            weight_decay=self.plan.weight_decay, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


class _Plain:
    """Gradient descent: of a loss of known curvature, and of gradients whose noise is known."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters, self.state = parameters, dict[Tensor, dict[str, Tensor]]()

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the parameters that have a gradient."""
        moved: list[Tensor] = [p for p in self.parameters if p.grad is not None]
        if moved:
            torch._foreach_add_(moved, [p.grad for p in moved if p.grad is not None], alpha=-rate)


@torch.no_grad()
def _clip(gradients: list[Tensor], most: float) -> None:
    """Shorten gradients in place until their common norm is at most `most`."""
    if gradients:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))


def _below(arrays: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


# ------------------------------------------------------------------ device


def device(name: str) -> torch.device:
    """Return the device of this name. Raises NotSupported when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise NotSupported(
            f"there is no device '{name}'", "auto, cpu, or a device of this machine", "choose auto"
        ) from error
    return found


def has_bf16(where: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return where.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def _quicker(network: nn.Module, where: torch.device) -> bool:
    """Whether bfloat16 saves time: on a CPU not in narrow networks, which casts would slow down.

    So those are trained in float32 on every CPU, and come out alike.
    """
    wide = any(p.dim() > 1 and min(p.shape[-2:]) >= WIDE for p in network.parameters())
    return has_bf16(where) and (wide or where.type != "cpu")


def chunks(tensors: Batch, size: int) -> Iterable[Batch]:
    """Return consecutive batches of rows, as held-out ones are judged."""
    for start in range(0, len(tensors[0]), size):
        yield tuple(t[start : start + size] for t in tensors)
