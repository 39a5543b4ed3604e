"""Measure what a step of private training costs beside the plain one: a section of docs/loop.md.

python benchmarks/private_loop.py

`table/tvae`'s network is trained by `manikin.nn.loop` on the same rows with and without
`manikin.nn.private`, in turns in one process, so that what else the machine does falls on both;
medians are told. Where opacus is installed, a plain network of the same layers goes through its
gradients of single rows and through ours.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import torch
from torch import nn
from writing import grid, number

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.nn.loop import Plan, random, train
from manikin.nn.loop import Rows as Batches
from manikin.nn.mlp import MLP
from manikin.nn.private import Private, clipped_sum
from manikin.privacy.account import Account
from manikin.privacy.budget import Budget
from manikin.privacy.rows import Rows
from manikin.privacy.training import FINENESS, SLACK, Training
from manikin.synthesizers.table import tvae
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table.encoding import Encoding

DOCUMENT = Path(__file__).parents[1] / "docs" / "loop.md"
ROWS, STEPS, TURNS, THREADS = 20_000, 3, 5, 2
SIZES = ((32, 128), (32, 512), (128, 128), (128, 512), (512, 512))
PEER = ((64, 512), (256, 512))  # width and batch of two hidden layers
INPUTS = 128
HEADING = "## A private step"
ASKED = 2.5  # times the plain step


def codes() -> tuple[Dense, np.ndarray]:
    """Return ten columns of numbers and ten of five levels, as codes."""
    rng = np.random.default_rng(0)
    numbers = [Column(f"x{i}", "continuous", decimals=2) for i in range(10)]
    levels = [Column(f"c{i}", "categorical", categories=tuple("abcde")) for i in range(10)]
    held: dict[str, Any] = {c.name: np.round(rng.normal(0, 1, ROWS), 2) for c in numbers}
    held |= {c.name: rng.integers(0, 5, ROWS).astype(np.int32) for c in levels}
    table = Table(TableSchema((*numbers, *levels)), np.arange(ROWS), held, {})
    encoding = Encoding.fit(table, seed=0)
    return Dense.of(encoding.cells), encoding.encode(table, seed=0)


def training(rows: np.ndarray, batch: int, steps: int) -> Training:
    """Return steps of this noise; what they cost is no question here."""
    behind = Rows(rows, np.arange(len(rows)), (0,) * rows.shape[1], 1, Account(Budget(1.0)))
    return Training(behind, batch / len(rows), 1.0, steps, float(batch))


def in_turns(*calls: Callable[[], object]) -> list[list[float]]:
    """Return milliseconds of each call, once a turn: (calls, turns)."""
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(TURNS + 1):
        for i, call in enumerate(calls):
            begun = time.perf_counter()
            call()
            if turn:
                found[i].append(1000 * (time.perf_counter() - begun))
    return found


def ratio(some: Sequence[float], plain: Sequence[float]) -> float:
    """Return the median of what one costs beside the other in the same turn."""
    return statistics.median(a / b for a, b in zip(some, plain, strict=True))


def steps(dense: Dense, rows: np.ndarray, width: int, batch: int) -> list[str]:
    """Return a line of the page: the plain step, the private one, and its parts."""

    def network() -> nn.Module:
        return tvae.Network(dense, 16, width, 1, 16, random(1, "weights"))

    def loss(net: nn.Module, held: tuple[torch.Tensor, ...], rng: torch.Generator) -> torch.Tensor:
        return tvae._loss(net, held[0], dense, 1.0, rng)

    whole = torch.from_numpy(rows.astype(np.int64))
    one, other, plan = network(), network(), Plan(STEPS, look=STEPS, bf16=False, device="cpu")
    parameters = sum(p.numel() for p in one.parameters())

    def plain() -> object:
        return train(one, loss, Batches((whole,), batch, seed=1), plan, seed=1)

    def private() -> object:
        gradients = Private(training(rows, batch, STEPS), lambda c: (c,), clip=1.0)
        return train(other, loss, gradients.batches, plan, seed=1, gradients=gradients)

    each = [[ms / STEPS for ms in times] for times in in_turns(plain, private)]
    drawn = training(rows, batch, 10**6)
    part, total, rng = whole[:batch], np.zeros(parameters), torch.Generator()

    def noised() -> object:
        drawn._noised = drawn._drawn - 1
        return drawn.noised(total, clip=1.0)

    parts = in_turns(
        drawn.draw,
        lambda: clipped_sum(one, lambda: loss(one, (part,), rng), torch.arange(batch), 1.0),
        noised,
    )
    print(width, batch, ratio(each[1], each[0]), flush=True)
    return [
        f"{width}", f"{batch}", f"{parameters:,}",
        *(number(statistics.median(times), 1) for times in (*each, *parts)),
        number(ratio(each[1], each[0]), 2),
    ]  # fmt: skip


def beside_opacus(width: int, batch: int) -> list[str]:
    """Return a line: a plain network's step, ours with noise, and opacus' with noise."""
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    x = torch.randn(batch, INPUTS, generator=random(1, "rows"))
    ours = MLP(INPUTS, INPUTS, width=width, depth=2, rng=random(1, "weights"))
    bought = training(np.zeros((batch, 1), np.int32), batch, 10**6)
    bought._drawn = 10**6
    gradients = Private(bought, lambda c: (c,), clip=1.0)
    moved = torch.optim.SGD(ours.parameters(), lr=1e-3)
    layers = [INPUTS, width, width, INPUTS]
    parts: list[nn.Module] = []
    for wide, out in itertools.pairwise(layers):
        parts += [nn.Linear(wide, out), nn.LeakyReLU(0.2)]
    theirs = GradSampleModule(nn.Sequential(*parts[:-1]))
    noisy = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=1e-3), noise_multiplier=1.0, max_grad_norm=1.0,
        expected_batch_size=batch,
    )  # fmt: skip

    def plain() -> None:
        moved.zero_grad()
        ((ours(x) - x) ** 2).mean(1).mean().backward()
        moved.step()

    def private() -> None:
        moved.zero_grad()
        gradients.leave(ours, lambda: ((ours(x) - x) ** 2).mean(1), torch.arange(batch))
        moved.step()

    def opacus() -> None:
        noisy.zero_grad()
        ((theirs(x) - x) ** 2).mean(1).mean().backward()
        noisy.step()

    times = in_turns(plain, private, opacus)
    return [
        f"{width}", f"{batch}", *(number(statistics.median(one), 1) for one in times),
        number(ratio(times[1], times[0]), 2), number(ratio(times[2], times[0]), 2),
    ]  # fmt: skip


def peer() -> str:
    """Return the part of the page with opacus."""
    try:
        from importlib.metadata import version

        named = f"opacus {version('opacus')}"
    except ImportError:
        return "opacus was not installed, so it is not beside this."
    rows = [beside_opacus(*size) for size in PEER]
    headers = ["width", "batch", "plain: ms", "private, ours: ms", f"{named}: ms",
               "ours / plain", "opacus / plain"]  # fmt: skip
    return f"""A plain network of {INPUTS} numbers, two hidden layers and as many outputs, with a
step of SGD: clipping and noise by us, and by {named}, which makes every row's gradient; its noise
is torch's, in single precision. Rows are drawn by neither here.

{grid(headers, rows)}"""


def section() -> str:
    """Measure and return the section."""
    torch.set_num_threads(THREADS)
    dense, rows = codes()
    lines = [steps(dense, rows, *size) for size in SIZES]
    headers = ["width", "batch", "weights", "plain: ms", "private: ms", "draw",
               "gradients, clipped", "noise", "private / plain"]  # fmt: skip
    above = [f"{line[0]} × {line[1]}" for line in lines if float(line[-1]) > ASKED]
    verdict = "reached by all" if not above else f"not reached by {', '.join(above)}"
    return f"""{HEADING}

`table/tvae`'s network (16 latents, one block) on 20 columns of {ROWS:,} subjects, on {THREADS}
threads: a step as it is, and one whose subjects are drawn by secret coins, each clipped, the sum
noised. Medians of {TURNS} turns of {STEPS} steps, plain and private one after the other in one
process; the ratio is the median of the turns' own. The parts are timed apart. Asked for: {ASKED}
times the plain step at most; {verdict}. Written by `python benchmarks/private_loop.py` at a load
average of {os.getloadavg()[0]:.1f}.

{grid(headers, lines)}

The noise is normal, from OpenSSL's generator for keys, one double-precision number a weight,
rounded to a lattice of {FINENESS:.1e} of the clipping norm, as the sum is. Not exact in floating
point: rows' norms and sums are of single precision, for which the noise is scaled up by
{100 * SLACK:g} % of the norm; and the normal numbers are continuous ones in double precision,
rounded afterwards, not drawn by a discrete sampler.

{peer()}"""


def main() -> None:
    """Measure and write the section."""
    before = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    DOCUMENT.write_text(f"{before}\n\n{section()}\n", encoding="utf-8")
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
