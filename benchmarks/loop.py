"""Write docs/loop.md: where a training step's time goes; what threads, bfloat16, privacy change.

python benchmarks/loop.py

A residual network is trained by `manikin.nn.loop` on made-up rows, at three widths. The share of
the step that is spent in matrix products is torch's profiler's, of the time that all operators take
by themselves; the time between operators is Python's and is printed beside it. bfloat16 is timed
where it is asked for, whether or not the processor multiplies it in hardware.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import torch
from private_loop import section
from torch.profiler import ProfilerActivity, profile
from writing import grid, number

from manikin.nn.loop import WIDE, Plan, Rows, has_bf16, random, train
from manikin.nn.mlp import ResidualMLP

DOCUMENT = Path(__file__).parents[1] / "docs" / "loop.md"
ROWS, BATCH, STEPS, COLUMNS = 20_000, 512, 60, 128
PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::linear", "aten::matmul",
            "mkldnn::_linear_pointwise", "aten::mkldnn_linear")  # fmt: skip


def loss(network: torch.nn.Module, batch: tuple[torch.Tensor, ...], rng: object) -> torch.Tensor:
    """Return each row's squared error in telling itself."""
    return ((network(batch[0]) - batch[0]) ** 2).mean(1)


def step_ms(width: int, *, bf16: bool, threads: int) -> float:
    """Return milliseconds a step takes."""
    torch.set_num_threads(threads)
    network, batches = prepared(width)
    train(network, loss, batches, Plan(5, bf16=bf16, device="cpu"), seed=1)
    begun = time.perf_counter()
    train(network, loss, batches, Plan(STEPS, bf16=bf16, device="cpu"), seed=1)
    return 1000 * (time.perf_counter() - begun) / STEPS


def prepared(width: int) -> tuple[ResidualMLP, Rows]:
    """Return a network of that width and rows for it."""
    network = ResidualMLP(COLUMNS, COLUMNS, width=width, depth=4, rng=random(1, "weights"))
    rows = torch.randn(ROWS, COLUMNS, generator=random(1, "rows"))
    return network, Rows((rows,), BATCH, seed=1)


def shares(width: int) -> tuple[float, float]:
    """Return the share of the operators' time in matrix products, and of the wall clock's."""
    torch.set_num_threads(1)
    network, batches = prepared(width)
    plan = Plan(STEPS, bf16=False, device="cpu")
    train(network, loss, batches, plan, seed=1)
    begun = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        train(network, loss, batches, plan, seed=1)
    wall = 1e6 * (time.perf_counter() - begun)
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    products = sum(spent.get(name, 0.0) for name in PRODUCTS)
    return products / sum(spent.values()), products / wall


def main() -> None:
    """Measure and write the page."""
    rows = []
    for width in (64, 256, 512):
        operators, wall = shares(width)
        times = [step_ms(width, bf16=bf16, threads=n) for bf16 in (False, True) for n in (1, 2)]
        rows.append([str(width), number(100 * operators, 0), number(100 * wall, 0),
                     *(number(ms, 1) for ms in times)])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
    headers = ["width", "products, % of operators", "% of the wall clock", "float32, 1 thread: ms",
               "2 threads", "bfloat16, 1 thread", "2 threads"]  # fmt: skip
    hardware = "multiplies" if has_bf16(torch.device("cpu")) else "does not multiply"
    page = f"""# The training loop

A step of {BATCH} rows of {COLUMNS} numbers through four residual blocks, by `manikin.nn.loop`; the
processor {hardware} bfloat16 in hardware. Unless a plan says otherwise that decides, on a CPU for
networks with a matrix of {WIDE} rows and columns or more: narrow ones gain nothing and stay in
float32. Asked for: 90 % of a step in matrix products from width 256 on. Written by
`python benchmarks/loop.py` at a load average of {os.getloadavg()[0]:.1f}.

"""
    DOCUMENT.write_text(page + grid(headers, rows) + f"\n\n{section()}\n", encoding="utf-8")
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
