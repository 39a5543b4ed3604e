"""The commands by name, the options of the program itself, and what Ctrl-C does."""

from __future__ import annotations

import json
import signal
import sys
import time
import types
from typing import Annotated

import typer

import manikin
from manikin.cli import (
    advise,
    augment,
    check,
    compare,
    convert,
    forecast,
    make,
    replay,
    shelf,
    spending,
)
from manikin.cli.console import Terminated

__all__ = ["app", "run"]

EXIT_CODES = """[bold]Exit codes[/bold]

0 done · 1 other error · 2 usage · 3 data or schema · 4 condition, or not supported

5 privacy · 6 altered · 7 output · 8 missing extra · 9 policy failed · 10 policy undecided

70 internal error · 130 stopped

[bold]Start with[/bold]

manikin audit patients.csv --target died

manikin synthesize patients.csv --target died --out release

manikin verify release"""

app = typer.Typer(
    name="manikin",
    help="Synthetic patients from real ones, with the evidence of what they are worth.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
READY, MADE, JUDGED, ASIDE = "Prepare", "Make", "Judge", "Look up"
app.command(rich_help_panel=READY)(check.audit)
app.command(rich_help_panel=READY)(check.schema)
app.command(rich_help_panel=READY)(advise.advise)
app.command(rich_help_panel=READY)(convert.convert)
app.command(rich_help_panel=MADE)(make.synthesize)
app.command(rich_help_panel=MADE)(make.fit)
app.command(rich_help_panel=MADE)(make.sample)
app.command(rich_help_panel=MADE)(augment.augment)
app.command(rich_help_panel=MADE)(forecast.forecast)
app.command(rich_help_panel=JUDGED)(check.evaluate)
app.command(rich_help_panel=JUDGED)(compare.compare)
app.command(rich_help_panel=JUDGED)(check.verify)
app.command(rich_help_panel=JUDGED)(replay.replay)
privacy = typer.Typer(
    help="Add up what releases cost in privacy.", no_args_is_help=True, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
privacy.command()(spending.ledger)
app.add_typer(privacy, name="privacy", rich_help_panel=JUDGED)
app.command("list", rich_help_panel=ASIDE)(shelf.list_)
app.command(rich_help_panel=ASIDE)(shelf.cite)
app.command(rich_help_panel=ASIDE)(shelf.keygen)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"manikin {manikin.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Synthetic patients from real ones, with the evidence of what they are worth."""


_AGAIN_AFTER_S = 3.0  # a second Ctrl-C within this time must not break the tidying up


# typer exports no name for the mother of all its errors of usage
_WRONGLY_USED: type[Exception] = next(
    kind
    for kind in typer.BadParameter.__mro__
    if issubclass(kind, Exception) and kind.__name__ == "UsageError"
)


def _invoke() -> None:
    """Run the command; for a script that reads JSON, wrong usage is told in JSON as well."""
    if "--json" not in sys.argv:
        app(prog_name="manikin")
        return
    try:
        status = app(prog_name="manikin", standalone_mode=False)
    except _WRONGLY_USED as error:
        said = {
            "error": "UsageError",
            "exit_status": 2,
            "given": getattr(error, "format_message", error.__str__)(),
            "allowed": "the options that --help lists",
            "todo": "see: manikin --help",
        }
        typer.echo(json.dumps(said, ensure_ascii=False), err=True)
        raise SystemExit(2) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def run() -> None:
    """Run the command line; SIGINT and SIGTERM unwind it, so that nothing is left half-written."""
    first = 0.0

    def interrupt(number: int, frame: types.FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not first or now - first > _AGAIN_AFTER_S:
            first = first or now
            raise Terminated(number)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        _invoke()
    except KeyboardInterrupt as stop:  # before or after a command
        raise SystemExit(getattr(stop, "exit_status", 130)) from None
    finally:  # a key pressed twice must not change the exit code that was earned
        signal.signal(signal.SIGINT, signal.SIG_IGN)
