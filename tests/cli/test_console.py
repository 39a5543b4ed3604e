"""Errors in three parts, nobody's cells, progress only at a terminal."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import typer
from typer.testing import CliRunner, Result

from manikin.cli import console
from manikin.errors import InputError, ManikinError, MissingExtra, Stopped
from manikin.synthesizer import Progress, silent


def run(fails: Callable[[], None], *words: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @console.command
    def it(as_json: bool = typer.Option(False, "--json")) -> None:
        fails()

    return CliRunner().invoke(app, list(words))


def raising(error: BaseException) -> Callable[[], None]:
    def fails() -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    "error",
    [InputError("what stood there", "what may stand", "what to do"), MissingExtra("x", "sign"),
     ManikinError("only this"), Stopped()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_is_shown_in_its_parts(error: ManikinError) -> None:
    result = run(raising(error))
    assert result.exit_code == error.exit_status
    assert result.stdout == "" and "Traceback" not in result.stderr
    flat = " ".join(result.stderr.replace("│", " ").split())
    for part in (error.given, error.allowed, error.todo):
        assert " ".join(part.split()) in flat
    assert type(error).__name__ in result.stderr


def test_an_error_as_json_is_one_line_on_standard_error() -> None:
    result = run(raising(InputError("a [bold]b", "c", "d")), "--json")
    assert result.stdout == ""
    assert json.loads(result.stderr) == {
        "error": "InputError", "exit_status": 3, "given": "a [bold]b", "allowed": "c", "todo": "d",
    }  # fmt: skip


def test_square_brackets_in_an_error_are_kept() -> None:
    assert "manikin[sign]" in run(raising(MissingExtra("x", "sign"))).stderr


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_unexpected_error_shows_type_and_place_but_no_message(
    debug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANIKIN_DEBUG", debug)

    def fails() -> None:
        secret = {"Canary": 1}
        try:
            raise ValueError("Canary in the message")
        except ValueError as error:
            raise KeyError(str(secret)) from error

    result = run(fails)
    assert result.exit_code == 70
    assert "Canary" not in result.stdout + result.stderr
    assert "KeyError at" in result.stderr and "test_console.py" in result.stderr
    assert ("ValueError" in result.stderr) is bool(debug)


def test_foreign_warnings_are_not_shown() -> None:
    def warns() -> None:
        warnings.warn("Canary", UserWarning, stacklevel=1)

    result = run(warns)
    assert result.exit_code == 0 and "Canary" not in result.stderr


def test_keyboard_interrupt_is_130_and_sigterm_143() -> None:
    assert run(raising(KeyboardInterrupt())).exit_code == 130
    assert run(raising(console.Terminated(15))).exit_code == 143


def test_numbers_that_json_does_not_know_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json({"a": float("nan"), "b": (1.5, float("inf")), "ä": "ü"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "ä": "ü"}


@contextmanager
def standard_error(*, tty: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: tty, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    yield stream


def test_no_bars_but_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with standard_error(tty=False, monkeypatch=monkeypatch), console.watching(quiet=False) as watch:
        assert watch is silent
    with standard_error(tty=True, monkeypatch=monkeypatch), console.watching(quiet=True) as watch:
        assert watch is silent


def test_bars_say_what_is_done_and_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    with standard_error(tty=True, monkeypatch=monkeypatch) as stream:
        with console.watching(quiet=False) as watch:
            watch(Progress(0, 4, "fitting"))
            watch(Progress(4, 4, "fitting"))
            watch(Progress(1, None, "sampling"))
            watch(Progress(1, 2, "sampling"))
        shown = stream.getvalue()
    assert "fitting" in shown and "sampling" in shown and "50 %" in shown
