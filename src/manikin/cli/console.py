"""What the person sees: errors in three parts, progress with time left, tables, JSON.

Standard output carries the result and nothing else; all the rest goes to standard error. No
message of a foreign exception is ever printed, since it may quote a cell: its type and where it
arose are enough to report it.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from manikin.errors import RESTRICTED, ManikinError, Stopped

if TYPE_CHECKING:
    from rich.console import Console

    from manikin.synthesizer import Progress, Watch

__all__ = ["Terminated", "command", "printer", "show_json", "watching"]

P = ParamSpec("P")
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
PIPE_WIDTH = 100  # columns, where output is no terminal


class Terminated(KeyboardInterrupt):
    """The process was asked to stop by a signal."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.exit_status = 128 + number


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a function a command: whatever it raises becomes a message and an exit code."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            # other people's warnings may quote cells, and nobody at a terminal can act on them
            with warnings.catch_warnings(action="ignore"):
                function(*args, **kwargs)
                sys.stdout.flush()
            return
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except ManikinError as error:
            status = error.exit_status
            _show_error(error, type(error).__name__, status, as_json)
        except KeyboardInterrupt as stop:
            status = getattr(stop, "exit_status", 130)
            _show_error(Stopped(), "Stopped", status, as_json)
        except BrokenPipeError:  # the reader of our output went away: no error of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 128 + signal.SIGPIPE
        except Exception as error:
            status = INTERNAL
            _show_error(_unexpected(error), "InternalError", status, as_json)
        raise typer.Exit(status)

    return guarded


def printer(*, stderr: bool = False) -> Console:
    """Return a console on standard output or error, of a sensible width where it is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def show_json(document: object) -> None:
    """Print JSON to standard output; numbers that JSON does not know become null."""
    text = json.dumps(_finite(document), ensure_ascii=False, indent=2, allow_nan=False)
    typer.echo(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return value.item() if hasattr(value, "item") else str(value)


# ---------------------------------------------------------------------------- errors
def _show_error(error: ManikinError, kind: str, status: int, as_json: bool) -> None:
    if as_json:
        document = {"error": kind, "exit_status": status, "given": error.given,
                    "allowed": error.allowed, "todo": error.todo}  # fmt: skip
        if _kept(error):
            document["release_class"] = RESTRICTED
        typer.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        _error_panel(error, kind)
    if os.environ.get("MANIKIN_DEBUG"):
        typer.echo(f"at: {_where(error)}", err=True)


def _kept(error: BaseException) -> bool:
    """Whether it was raised under a privacy budget, by or after reading rows."""
    told = (getattr(one, "__notes__", ()) for one in (error, error.__cause__))
    return any(RESTRICTED in notes for notes in told)


def _error_panel(error: ManikinError, kind: str) -> None:
    from rich.panel import Panel
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, part in (("given", error.given), ("allowed", error.allowed), ("do", error.todo)):
        if part:
            grid.add_row(label, Text(part, overflow="fold"))
    if _kept(error):
        grid.add_row("keep", Text(f"{RESTRICTED}: this message may hang on rows", overflow="fold"))
    printer(stderr=True).print(
        Panel(grid, title=kind, title_align="left", border_style="red", expand=False)
    )


def _unexpected(error: Exception) -> ManikinError:
    found = ManikinError(
        f"an error that should not have happened: {type(error).__name__} at {_last(error)}",
        "",
        "nothing was left half-written; please report this line, it holds no value of your data"
        " (MANIKIN_DEBUG=1 shows the whole way there)",
    )
    found.__cause__ = error
    return found


def _last(error: BaseException) -> str:
    """Return where an exception arose: the last frame of ours, and of whom it called."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    ours = [frame for frame in frames if "manikin" in Path(frame.filename).parts]
    told = dict.fromkeys(_frame(frame) for frame in [*ours[-1:], frames[-1]])
    return ", in ".join(told)


def _where(error: BaseException) -> str:
    """Return the whole way to an error, types and places only."""
    told = []
    at: BaseException | None = error
    while at is not None:
        frames = [_frame(frame) for frame in traceback.extract_tb(at.__traceback__)]
        told.append(" > ".join([*frames, type(at).__name__]))
        at = at.__cause__ or at.__context__
    return "\n  from: ".join(told)


def _frame(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"


# ---------------------------------------------------------------------------- progress
@contextmanager
def watching(*, quiet: bool) -> Iterator[Watch]:
    """Give a watch that draws a bar with the time left, on a terminal's standard error only."""
    from manikin.synthesizer import silent

    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=printer(stderr=True),
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def watch(progress: Progress) -> None:
            # "judging: privacy/copies": one bar for the phase, the detail beside it
            phase, _, detail = progress.what.partition(": ")
            if phase not in tasks:
                for other in tasks.values():  # a new phase began: the earlier ones are done
                    bars.update(other, visible=False)
                tasks[phase] = bars.add_task(phase, total=progress.total)
            shown = f"{phase} {detail}" if detail else phase
            bars.update(
                tasks[phase],
                description=shown,
                total=progress.total,
                completed=progress.step,
                visible=True,
            )

        yield watch
