"""Speed and size: fit and sample, a million rows, start-up; each against its target.

python benchmarks/speed.py prints what benchmarks/tables.py puts into docs/benchmarks.md.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import pandas as pd
from competitors import PEERS, Options, draw, kept
from experiments import EXPERIMENTS, Split, data_root, split
from writing import grid, number

__all__ = ["Target", "measure"]

HERE = Path(__file__).parent
Target = tuple[str, str, str, bool | None]  # what, target, reached, met
NARROW = (
    "race gender age admission_type_id discharge_disposition_id time_in_hospital "
    "num_lab_procedures num_procedures num_medications number_outpatient number_emergency "
    "number_inpatient number_diagnoses insulin readmitted"
).split()
SMALL_PEERS = ("py-synthpop", "sdv copula", "arfpy")
LARGE_PEERS = ("sdv copula",)


def measure(
    options: Options, reuse_peers: bool, kept_only: bool = False
) -> tuple[str, list[Target]]:
    """Return the speed tables as Markdown, and the targets with what was reached."""
    parts, targets = [], []
    source = data_root() / "diabetes130" / "diabetic_data.csv"
    with tempfile.TemporaryDirectory() as folder:
        if source.is_file():
            whole = pd.read_csv(source, dtype=str, keep_default_na=False).replace("?", "")
            body, reached = _sizes(whole, Path(folder), options, (reuse_peers, kept_only))
            parts.append(body)
            targets += reached
            body, reached = _million(Path(folder), options)
            parts.append(body)
            targets += reached
        else:
            parts.append(f"Sizes not measured: {source.name} is not under the data folder.")
    body, reached = _start()
    return "\n\n".join([*parts, body]), [*targets, *reached]


def _sizes(
    whole: pd.DataFrame, folder: Path, options: Options, reuse: tuple[bool, bool]
) -> tuple[str, list[Target]]:
    """Fit and sample tables of two sizes, ours and the peers that can be afforded."""
    rows: list[list[str]] = []
    targets: list[Target] = []
    plan = (
        ("25 k × 15", whole[NARROW].head(25_000), 5.0, SMALL_PEERS),
        ("100 k × 50", whole.head(100_000), 60.0, LARGE_PEERS),
    )
    for title, frame, most_seconds, peers in plan:
        table = folder / f"{len(frame.columns)}.csv"
        frame.to_csv(table, index=False)
        ours = _step(options, "fit", str(table), str(table.with_suffix(".manikin")))
        if isinstance(ours, str):
            rows.append([f"{title} `table/seqtree`", ours, *["–"] * 5])
            targets.append((f"fit + sample, {title}", f"≤ {most_seconds:.0f} s", ours, False))
        else:
            took = ours["fit_seconds"] + ours["sample_seconds"]
            targets.append(
                (
                    f"fit + sample, {title}",
                    f"≤ {most_seconds:.0f} s",
                    f"{took:.1f} s",
                    took <= most_seconds,
                )
            )
            used = ours["peak_rss_mb"]
            targets.append(
                (f"peak memory, {title}", "≤ 2 GB", f"{used / 1024:.2f} GB", used <= 2048)
            )
            rows.append(_cost(f"{title} `table/seqtree`", ours))
        for name in peers:
            rows.append(_peer(title, name, frame, options, reuse))
    note = (
        "Rows of Diabetes 130-US (encounters, in file order). The 50 columns are those of the file;"
        " ours sets its two identifiers aside, the peer is not given them. Reading is not counted."
    )
    headers = ["size, method", "fit s", "sample s", "fit + sample s", "CPU s", "peak RSS MB"]
    return f"{note}\n\n{grid(headers, [row[:6] for row in rows])}", targets


def _cost(title: str, meta: dict[str, float]) -> list[str]:
    fit, sample = float(meta["fit_seconds"]), float(meta["sample_seconds"])
    values = [fit, sample, fit + sample, float(meta["cpu_seconds"])]
    return [title, *(number(v, 1) for v in values), number(float(meta["peak_rss_mb"]), 0)]


def _peer(
    title: str, name: str, frame: pd.DataFrame, options: Options, reuse: tuple[bool, bool]
) -> list[str]:
    """Run one peer on the same rows, as in the experiments."""
    peer = next(peer for peer in PEERS if peer.name == name)
    diabetes = next(e for e in EXPERIMENTS if e.name == "diabetes130")
    kept_columns = frame.drop(columns=["encounter_id", "patient_nbr"], errors="ignore")
    experiment = dataclasses.replace(diabetes, name=f"speed{len(frame)}", most_rows=None)
    half = split(experiment, kept_columns, 0)
    half = Split(experiment, 0, kept_columns, kept_columns.head(1), half.digest)
    reuse_peers, kept_only = reuse
    drawn = kept(peer, half, options) if reuse_peers else None
    if drawn is None and kept_only:
        return [f"{title} `{name}`", "not run", *["–"] * 4]
    drawn = drawn or draw(peer, half, options)
    if drawn.failure:
        return [f"{title} `{name}`", drawn.failure, *["–"] * 4]
    return _cost(f"{title} `{name}`", drawn.meta)


def _million(folder: Path, options: Options) -> tuple[str, list[Target]]:
    """Draw 10⁵ and 10⁶ rows to disk from the model fitted on 25 k × 15."""
    model = folder / "15.manikin"
    rows, found = [], {}
    for n in (100_000, 1_000_000):
        out = folder / "rows.csv"
        got = _step(options, "stream", str(model), str(n), str(out))
        out.unlink(missing_ok=True)
        if isinstance(got, str):
            return f"Streaming: {got}", [("10⁶ rows sampled", "≤ 30 s, memory flat", got, False)]
        found[n] = got
        cells = [got["draw_seconds"], got["stream_seconds"]]
        rows.append([f"{n:,}", *(number(v, 1) for v in cells), number(got["peak_rss_mb"], 0)])
    more = found[1_000_000]["peak_rss_mb"] - found[100_000]["peak_rss_mb"]
    took = found[1_000_000]["draw_seconds"]
    body = grid(["rows", "drawing s", "drawing and writing CSV s", "peak RSS MB"], rows)
    return f"### Many rows from a fitted model\n\n{body}", [
        ("10⁶ rows sampled", "≤ 30 s", f"{took:.1f} s", took <= 30),
        ("peak memory, 10⁶ rows over 10⁵", "flat (≤ 10 % more)", f"{more:+.0f} MB",
         more <= 0.1 * found[100_000]["peak_rss_mb"]),
    ]  # fmt: skip


def _start() -> tuple[str, list[Target]]:
    """Time the import and the help page, best of five."""
    imports, helps = [], []
    for _ in range(5):
        got = _step(Options(), "import")
        imports.append(math.nan if isinstance(got, str) else got["import_seconds"])
        started = time.perf_counter()
        command = [sys.executable, "-m", "manikin", "--help"]
        done = subprocess.run(command, env=_surroundings(1), capture_output=True, check=False)
        helps.append(time.perf_counter() - started if done.returncode == 0 else math.nan)
    best = min(imports), min(helps)
    targets: list[Target] = [
        ("`import manikin`", "< 0.1 s", f"{best[0]:.3f} s", best[0] < 0.1),
        ("`manikin --help`", "< 0.3 s", f"{best[1]:.2f} s", best[1] < 0.3),
    ]
    targets = [
        row if math.isfinite(b) else (*row[:2], "failed", None)
        for row, b in zip(targets, best, strict=True)
    ]
    return (
        "### Start\n\nBest of five, file cache warm. `import manikin` is timed inside a running "
        "interpreter, `--help` from outside, the interpreter's start included.\n\n"
        + grid(
            ["", "best s"],
            [["`import manikin`", number(best[0])], ["`manikin --help`", number(best[1])]],
        )
    ), targets


def _step(options: Options, *arguments: str) -> dict[str, float] | str:
    """Run one step of road.py; return what it measured, or why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        meta = Path(folder) / "meta.json"
        command = [sys.executable, str(HERE / "road.py"), *arguments, str(meta)]
        surroundings = _surroundings(options.threads)
        done = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"failed: {(done.stderr.strip().splitlines() or [''])[-1][:160]}"
        measured: dict[str, float] = json.loads(meta.read_text(encoding="utf-8"))
        return measured


def _surroundings(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    path = {"PYTHONPATH": str(HERE.parent / "src")}
    return dict(os.environ) | dict.fromkeys(names, str(threads)) | path


if __name__ == "__main__":
    text, reached = measure(Options(), reuse_peers="--reuse-peers" in sys.argv[1:])
    print(text)
    print(grid(["what", "target", "reached", "met"], [[*row[:3], str(row[3])] for row in reached]))
