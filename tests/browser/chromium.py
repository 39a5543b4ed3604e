"""Chromium without a window, spoken to over two pipes: no driver, no port, no socket.

The Chrome DevTools Protocol, stable version 1.3, is JSON between NUL bytes on the file descriptors
3 and 4 of a browser that was started with --remote-debugging-pipe.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome",
                                            "chrome"))), None)  # fmt: skip
WHY_NOT = "no Chromium on this machine"
PATIENCE = 120  # seconds for an answer; the machine may be busy
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


class Browser:
    """A browser and its answers."""

    def __init__(self, profile: Path) -> None:
        theirs, self._out = (_above_ten(end) for end in os.pipe())
        self._in, answers = (_above_ten(end) for end in os.pipe())
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 3), (os.POSIX_SPAWN_DUP2, answers, 4)]
        for number in (1, 2):
            actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0))
        words = [str(FOUND), *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        home = {**os.environ, "HOME": str(profile), "TMPDIR": str(profile)}
        profile.mkdir(parents=True, exist_ok=True)
        self.process = os.posix_spawn(str(FOUND), words, home, file_actions=actions, setpgroup=0)
        os.close(theirs)
        os.close(answers)
        self._number, self._read = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask for something and return the answer; what happens meanwhile goes to `events`."""
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            asked["sessionId"] = session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            said = self._next(left)
            if said is None:
                break
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return dict(said["result"])
            self.events.append(said)
        raise TimeoutError(f"the browser does not answer {method}")

    def wait(self, seconds: float) -> None:
        """Listen for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if (said := self._next(left)) is not None:
                self.events.append(said)

    def _next(self, seconds: float) -> dict[str, Any] | None:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._in], [], [], seconds)
            if not ready:
                return None
            more = os.read(self._in, 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))

    def close(self) -> None:
        """End the browser and all that it started."""
        os.close(self._out)
        os.close(self._in)
        try:
            os.killpg(self.process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.process, 0)


def _above_ten(end: int) -> int:
    """Move a file descriptor out of the way of 3 and 4."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved


@dataclass
class Page:
    """An opened page, and all that it did."""

    browser: Browser
    session: str
    target: str
    executed: list[str] = field(default_factory=list)  # calls of `owned`
    requests: list[str] = field(default_factory=list)  # addresses beside the page's own
    complaints: list[str] = field(default_factory=list)  # of the console, or thrown
    dialogs: list[str] = field(default_factory=list)

    def run(self, script: str) -> Any:
        """Return what a JavaScript expression, or the promise it gives, comes to."""
        came = self.browser.call("Runtime.evaluate", self.session, expression=script,
                                 awaitPromise=True, returnByValue=True)  # fmt: skip
        if "exceptionDetails" in came:
            raise RuntimeError(str(came["exceptionDetails"]))
        return came["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Show the page on a screen of another size."""
        self.browser.call("Emulation.setDeviceMetricsOverride", self.session, width=width,
                          height=height, deviceScaleFactor=1, mobile=width < 600)  # fmt: skip

    def media(self, kind: str = "", **features: str) -> None:
        """Show it as on another medium: print, or a dark screen."""
        told = [{"name": name.replace("_", "-"), "value": v} for name, v in features.items()]
        self.browser.call("Emulation.setEmulatedMedia", self.session, media=kind, features=told)

    def pdf(self) -> bytes:
        """Print on A4."""
        made = self.browser.call("Page.printToPDF", self.session, paperWidth=8.27,
                                 paperHeight=11.69, printBackground=True)  # fmt: skip
        return base64.b64decode(made["data"])

    def picture(self) -> bytes:
        """Return the screen as PNG."""
        made = self.browser.call("Page.captureScreenshot", self.session, format="png")
        return base64.b64decode(made["data"])

    def settle(self, seconds: float = 0.3) -> None:
        """Take in what happened up to now, and shortly after."""
        self.browser.wait(seconds)
        for event in self.browser.events:
            if event.get("sessionId") == self.session:
                self._take(event["method"], event["params"])
        self.browser.events.clear()

    def _take(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.bindingCalled":
            self.executed.append(str(told["payload"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(str(told["request"]["url"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(told["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(str(told["entry"]["text"]))
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(str(told["message"]))
            self.browser.call("Page.handleJavaScriptDialog", self.session, accept=False)


@contextmanager
def opened(browser: Browser, path: Path, *, bypass_policy: bool = False) -> Iterator[Page]:
    """Open a file; `bypass_policy` lets scripts run that the page's own policy would stop."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(browser, session, target)
    for room in ("Page", "Runtime", "Network", "Log"):
        browser.call(f"{room}.enable", session)
    browser.call("Page.setBypassCSP", session, enabled=bypass_policy)
    browser.call("Runtime.addBinding", session, name="owned")
    page.resize(1280)
    browser.events.clear()
    browser.call("Page.navigate", session, url=path.as_uri())
    page.run("new Promise(done => document.readyState === 'complete' ? done()"
             " : addEventListener('load', () => done()))")  # fmt: skip
    page.settle()
    page.requests.remove(path.as_uri())
    try:
        yield page
    finally:
        browser.call("Target.closeTarget", targetId=target)


def axe() -> str | None:
    """Return the script of axe-core, which is no part of Manikin, if it is installed."""
    for place in sys.path:
        for name in ("axe_playwright_python", "axe_core_python"):
            script = Path(place) / name / "axe.min.js"
            if script.is_file():
                return script.read_text(encoding="utf-8")
    return None
