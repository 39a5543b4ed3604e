"""No test opens a socket: what tries to is stopped, and the test that did it fails."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

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


@pytest.fixture(scope="session")
def guarded() -> type:
    """What shows that private rows are read by nobody who has not paid: `rows.view(guarded)`."""
    import numpy as np  # not before the number of threads is set

    from manikin.privacy.account import reading_is_paid

    class Guarded(np.ndarray):
        """An array that can be looked at only while a release is being computed."""

        def __array_finalize__(self, _: object) -> None: ...

        def _check(self) -> None:
            if not reading_is_paid():
                raise AssertionError("a private array was read, and nobody had paid")

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
            self._check()
            plain = [np.asarray(i) if isinstance(i, Guarded) else i for i in inputs]
            return getattr(ufunc, method)(*plain, **more)

        def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
            self._check()
            return super().__array_function__(func, types, args, kwargs)

        def __getitem__(self, key: Any) -> Any:
            self._check()
            return np.asarray(self).__getitem__(key)

        def __array__(self, *given: Any, **more: Any) -> Any:
            self._check()
            return np.asarray(np.ndarray.view(self, np.ndarray), *given, **more)

        def __iter__(self) -> Any:
            self._check()
            return iter(np.ndarray.view(self, np.ndarray))

        def tolist(self) -> Any:
            self._check()
            return super().tolist()

        def astype(self, *given: Any, **more: Any) -> Any:
            self._check()
            return np.ndarray.view(self, np.ndarray).astype(*given, **more)

    return Guarded
