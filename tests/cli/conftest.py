"""A small table with planted canaries, and the command line as a function."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[2]
CANARY = "Canary"  # begins every rare cell of the planted tables; no output may hold it


def table(n: int = 120, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    lines = ["age,sex,marker,arm,died,city"]
    for i in range(n):
        age = int(rng.integers(30, 80))
        died = int(rng.random() < 0.3 + 0.005 * (age - 55))
        city = f"{CANARY}{i}" if i < 3 else ("Ulm" if i % 2 else "Bern")
        arm = "ab"[int(rng.random() < 0.5)]
        lines.append(f"{age},{'FM'[i % 2]},{rng.normal(5, 1):.2f},{arm},{died},{city}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_text(table())
    return path


@pytest.fixture
def manikin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command line, run in this process with `tmp_path` as its directory."""
    from manikin.cli.app import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], prog_name="manikin")
        assert CANARY not in result.stdout + result.stderr
        return result

    return run


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return the command line as a process of its own."""

    def start(*words: object, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "manikin", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **env},
            # a test run that a shell started in the background ignores Ctrl-C, and so would this
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start
