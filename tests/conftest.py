"""No test reaches a network: what tries to is stopped, and named at the end of the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

LOCAL = ("127.", "::1", "localhost")
ATTEMPTS: list[str] = []
ALLOWED: list[str] = []  # what a test that tries on purpose has announced


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where Python is about to look a name up, connect, send or listen outside."""
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if address is None or isinstance(address, str | bytes):  # a pipe in the file system
            return
        host = str(address[0]) if isinstance(address, tuple) and address else str(address)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        host = str(arguments[0] or "localhost")
    else:
        return
    if host.startswith(LOCAL) or host.removeprefix("http://").startswith(LOCAL):
        return
    if host not in ALLOWED:
        ATTEMPTS.append(f"{event} {host}")
    raise RuntimeError(f"a test may not reach the network: {event} {host}")


sys.addaudithook(_guard)  # cannot be taken off again, so nothing in the run gets round it


@pytest.fixture
def expected_attempts() -> Iterator[list[str]]:
    """Give the list of hosts that a test will try on purpose."""
    yield ALLOWED
    ALLOWED.clear()


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Fail the run when anything tried, even where the refusal was swallowed."""
    yield
    assert ATTEMPTS == [], f"the tests tried to reach the network: {ATTEMPTS}"
