"""No test opens a socket: what tries to is stopped, and the test that did it fails."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# the same cases on every machine: new ones are for `make fuzz`, not for whoever runs the tests next
settings.register_profile("same cases", derandomize=True)
settings.load_profile("same cases")

# the suite's workers share the cores, and pools of threads in each of them wait for one another:
# with one thread each it is ten times as fast (set here, before any library reads it)
os.environ.setdefault("OMP_NUM_THREADS", "1")

ATTEMPTS: list[str] = []
ALLOWED: list[str] = []  # events that a test has announced, as it causes them on purpose
WATCHED = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
           "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request")  # fmt: skip
# on import it tries whether the machine knows IPv6 (and may learn that it does not); it comes
# with a checker of dataset cards, which only the tests use
ASKS_FOR_IPV6 = os.path.join("urllib3", "util", "connection.py")


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where Python is about to open a socket, look a name up, connect or send."""
    if event == "socket.__new__":
        family = arguments[1]
        if family == getattr(socket, "AF_UNIX", None):  # a pipe between processes of this machine
            return
        told = f"{event} {family!r}"
    elif event in WATCHED:
        address = arguments[0 if event.startswith(("socket.get", "urllib")) else 1]
        if event.startswith("socket.") and not isinstance(address, tuple) and "get" not in event:
            return  # of a socket in the file system
        told = f"{event} {address!r}"
    else:
        return
    if event not in ALLOWED and not _asks_for_ipv6():
        ATTEMPTS.append(told)
    raise RuntimeError(f"a test may not reach a network: {told}")


def _asks_for_ipv6() -> bool:
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == socket.__file__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and frame.f_code.co_filename.endswith(ASKS_FOR_IPV6)


sys.addaudithook(_guard)  # cannot be taken off again, so nothing in the run gets round it


@pytest.fixture
def expected_attempts() -> Iterator[list[str]]:
    """Give the list of events that a test will cause on purpose."""
    yield ALLOWED
    ALLOWED.clear()


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Fail a test when anything in it tried, even where the refusal was swallowed."""
    before = len(ATTEMPTS)
    yield
    assert ATTEMPTS[before:] == [], f"this test tried to reach a network: {ATTEMPTS[before:]}"


@pytest.fixture(scope="session", autouse=True)
def no_sockets_between_tests() -> Iterator[None]:
    """Fail the run for what was tried outside every test: on import, or when it was set up."""
    yield
    assert ATTEMPTS == [], f"the tests tried to reach a network: {ATTEMPTS}"
