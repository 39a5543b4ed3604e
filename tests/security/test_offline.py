"""Nothing of Manikin opens a socket: not in this run of the tests, not in the whole road."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytest_plugins = ("pytester",)
WATCHED = """
import os, sys
def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "ssl.")):
        print("NETWORK", event, flush=True)
        os._exit(99)
    if event == "subprocess.Popen" or event.startswith(("os.system", "os.exec", "os.posix_spawn")):
        print("PROCESS", event, arguments[0], flush=True)
        os._exit(98)
sys.addaudithook(hook)
from manikin.cli.app import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    held = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            held.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    assert not [place for place in held if place.startswith("socket:")], held
"""


def alone(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
                   "MANIKIN_KEY": "k" * 64}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["age,sex,marker,died"]
    lines += [f"{rng.integers(30, 80)},{'FM'[i % 2]},{rng.normal(5, 1):.1f},{rng.integers(2)}"
              for i in range(80)]  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_whole_road_opens_no_socket_and_starts_no_process(data: Path, tmp_path: Path) -> None:
    made = alone(tmp_path, "synthesize", data, "--synthesizer", "table/marginals", "--target",
                 "died", "--out", "release", "--quiet")  # fmt: skip
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    checked = alone(tmp_path, "verify", "release")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "NETWORK" not in made.stdout + checked.stdout


def test_the_watch_would_see_a_socket(tmp_path: Path) -> None:
    script = WATCHED.replace("app(sys.argv[1:], standalone_mode=False)",
                             "import socket; socket.socket()")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 99 and "NETWORK socket.__new__" in done.stdout


def test_the_guard_of_this_run_stops_sockets(expected_attempts: list[str]) -> None:
    expected_attempts += ["socket.__new__", "socket.getaddrinfo", "urllib.Request"]
    for family in (socket.AF_INET, socket.AF_INET6):
        with pytest.raises(RuntimeError, match="network"):
            socket.socket(family)
    with pytest.raises(RuntimeError, match="network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(RuntimeError, match="network"):
        socket.getaddrinfo("example.invalid", 80)
    with pytest.raises(RuntimeError, match="network"):
        urllib.request.urlopen("http://192.0.2.1/x", timeout=1)


def test_a_swallowed_refusal_still_fails_the_test(pytester: pytest.Pytester) -> None:
    """In a run of its own, with this run's guard and a test that hides what it did."""
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import contextlib
        import socket

        def test_hides_it():
            with contextlib.suppress(RuntimeError):
                socket.socket()

        def test_speaks_within_the_machine():
            one, other = socket.socketpair()
            one.close(), other.close()
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2, errors=2)
