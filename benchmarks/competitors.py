"""Ours and the peers: each in a process of its own, run on a split with its defaults.

Peers have an environment of their own. What a peer drew is kept under `.work/drawn`, named by
everything it depends on: table, seed, digest of the training rows, pinned versions, runner and
threads. A peer that did not finish is kept as such: `not finished` is a result. What ours drew
is never taken from an earlier run.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from experiments import Split, text_of

__all__ = [
    "OURS",
    "PEERS",
    "SMALL_PEERS",
    "Drawn",
    "Options",
    "Peer",
    "draw",
    "environment",
    "kept",
    "run",
]

HERE = Path(__file__).parent
WORK = HERE / ".work"


@dataclass(frozen=True)
class Peer:
    """A synthesizer: its name here, its environment, and what it is."""

    name: str
    environment: str  # peers/<environment>.txt and peers/run_<environment>.py
    method: str
    title: str
    python: str | None = None  # the interpreter it needs, if not this one
    unwanted: tuple[str, ...] = ()  # packages to take out again after installing


OURS: tuple[Peer, ...] = (
    Peer("table/seqtree", "manikin", "table/seqtree", "sequential trees (ours, the default)"),
    Peer("table/copula", "manikin", "table/copula", "Gaussian copula (ours)"),
    Peer("table/marginals", "manikin", "table/marginals", "independent columns (ours): the floor"),
)

PEERS: tuple[Peer, ...] = (
    Peer("py-synthpop", "synthpop", "cart", "sequential CART", "python3.10"),
    Peer("sdv copula", "sdv", "copula", "Gaussian copula"),
    Peer("arfpy", "arfpy", "arf", "adversarial random forest"),
    # beside a CPU build of torch the import of torchvision fails, and with it the engine's
    Peer(
        "mostlyai",
        "mostlyai",
        "argn",
        "TabularARGN, autoregressive network",
        unwanted=("torchvision", "torchaudio"),
    ),
    Peer("sdv tvae", "sdv", "tvae", "variational autoencoder"),
    Peer("sdv ctgan", "sdv", "ctgan", "conditional GAN"),
)

# measured on small tables only (small.py): they take minutes where the others take seconds
SMALL_PEERS: tuple[Peer, ...] = (
    Peer("synthcity bn", "synthcity", "bayesian_network", "Bayesian network", "python3.10"),
    Peer("forestflow", "forestdiffusion", "flow", "flow of boosted trees"),
)


@dataclass(frozen=True)
class Options:
    """How peers are run."""

    most_seconds: int = 300  # of processor time, imports included; of wall clock, four times that
    threads: int = 1


@dataclass(frozen=True)
class Drawn:
    """What a method drew and what it cost; `rows` is None when it did not finish."""

    rows: pd.DataFrame | None
    meta: dict[str, object]
    fresh: bool  # made in this run, not taken from an earlier one

    @property
    def failure(self) -> str:
        """Why there are no rows, or ''."""
        return str(self.meta.get("failure", ""))


def environment(name: str, python: str | None, unwanted: tuple[str, ...]) -> Path | str:
    """Return the interpreter of a peer's environment, built if need be, or why there is none."""
    if name == "manikin":
        return Path(sys.executable)
    folder = WORK / "envs" / name
    interpreter, mark = folder / "bin" / "python", folder / ".complete"
    pins = HERE / "peers" / f"{name}.txt"
    if mark.is_file() and mark.read_text() == pins.read_text():
        return interpreter
    chosen = _interpreter(python)
    if chosen is None:
        return f"{python} is not on PATH"
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {name} (once)", flush=True)
    pip = [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    steps = [[chosen, "-m", "venv", str(folder)]]
    # torch first and exact: left to a range, the resolver fetches gigabytes for graphics cards
    steps += [[*pip, line] for line in pins.read_text().split("\n") if line.startswith("torch==")]
    steps += [[*pip, "-r", str(pins)]]
    if unwanted:
        steps += [[str(interpreter), "-m", "pip", "uninstall", "-q", "-y", *unwanted]]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return f"installation failed: {last[:200]}"
    mark.write_text(pins.read_text())
    return interpreter


def kept(
    peer: Peer, split: Split, options: Options, told: Mapping[str, object] | None = None
) -> Drawn | None:
    """Return what the peer drew from an identical split in an earlier run, or None."""
    place = _place(peer, split, options, told)
    if not (place / "meta.json").is_file():
        return None
    meta = json.loads((place / "meta.json").read_text())
    if meta.get("failure") and meta.get("most_seconds", 0) < options.most_seconds:
        return None  # with more time it might finish
    rows = None
    if (place / "rows.csv").is_file():
        rows = pd.read_csv(place / "rows.csv", dtype=str, keep_default_na=False)
    return Drawn(rows, meta, fresh=False)


def draw(
    peer: Peer, split: Split, options: Options, told: Mapping[str, object] | None = None
) -> Drawn:
    """Fit the peer on the training half and draw as many rows, in a process of its own.

    `told` is what its runner finds in the specification besides: public facts, a budget.
    """
    interpreter = environment(peer.environment, peer.python, peer.unwanted)
    if isinstance(interpreter, str):
        return Drawn(None, {"failure": interpreter}, fresh=True)
    place = _place(peer, split, options, told)
    work = place.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "train.csv").write_text(text_of(split.train))
    experiment = split.experiment
    roles = {"time": experiment.time, "event": experiment.target}
    spec = {
        "method": peer.method,
        "n": len(split.train),
        "seed": split.seed,
        "columns": list(split.train.columns),
        "numeric": list(experiment.numeric),
        "roles": roles if experiment.time else {"target": experiment.target},
        **(told or {}),
    }
    (work / "spec.json").write_text(json.dumps(spec))
    files = [str(work / name) for name in ("train.csv", "spec.json", "rows.csv", "meta.json")]
    runner = HERE / "peers" / f"run_{peer.environment}.py"
    path = str(HERE.parent / "src") if peer.environment == "manikin" else None
    failure = run([str(interpreter), str(runner), *files], work, options, path)
    meta = {"failure": failure} if failure else json.loads((work / "meta.json").read_text())
    meta |= {"date": time.strftime("%Y-%m-%d"), "most_seconds": options.most_seconds}
    if failure:
        (work / "rows.csv").unlink(missing_ok=True)
    (work / "meta.json").write_text(json.dumps(meta))
    (work / "train.csv").unlink()
    shutil.rmtree(place, ignore_errors=True)
    work.rename(place)
    drawn = kept(peer, split, options, told)
    assert drawn is not None
    return Drawn(drawn.rows, drawn.meta, fresh=True)


def run(command: list[str], work: Path, options: Options, path: str | None) -> str:
    """Run a peer; return why it failed, or ''."""
    threads = str(options.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    surroundings = os.environ | dict.fromkeys(names, threads) | {"CUDA_VISIBLE_DEVICES": ""}
    surroundings.pop("PYTHONPATH", None)
    if path is not None:
        surroundings["PYTHONPATH"] = path
    with open(work / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            env=surroundings,
            cwd=work,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # processor time, so that a busy machine is not held against a peer
        limit = (options.most_seconds, options.most_seconds + 5)
        resource.prlimit(process.pid, resource.RLIMIT_CPU, limit)
        try:
            code = process.wait(timeout=4 * options.most_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"not finished in {4 * options.most_seconds} s of wall clock"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if code == -signal.SIGXCPU:
        return f"not finished in {options.most_seconds} CPU s"
    if code:
        lines = (work / "log.txt").read_text(errors="replace").strip().splitlines() or [""]
        return f"failed: {lines[-1][:160]}"
    return ""


def _place(
    peer: Peer, split: Split, options: Options, told: Mapping[str, object] | None = None
) -> Path:
    """Return the folder of one result, named by all that the result depends on."""
    names = [f"{peer.environment}.txt", "protocol.py", f"run_{peer.environment}.py"]
    names += ["public.py"] * bool(told)
    parts = [HERE / "peers" / name for name in names]
    made_of = "".join(path.read_text() for path in parts if path.is_file())
    made_of += f"{split.digest}|{options.threads}"
    made_of += json.dumps(told, sort_keys=True) if told else ""
    key = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    name = f"{split.experiment.name}-{split.seed}-{peer.name.replace(' ', '_')}-{key}"
    return WORK / "drawn" / name


def _interpreter(wanted: str | None) -> str | None:
    """Return a Python that runs: this one, or the first of that name on PATH that works."""
    if wanted is None:
        return sys.executable
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(wanted, path=folder)
        if found and not subprocess.run([found, "-V"], capture_output=True, check=False).returncode:
            return found
    return None
