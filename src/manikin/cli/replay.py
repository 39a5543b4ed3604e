"""The command that makes a release again from its source, to show that it was made from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching

if TYPE_CHECKING:
    from manikin.replaying import Replay

__all__ = ["replay"]


@command
def replay(
    release: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The directory of a release.", show_default=False),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="FILE", help="The real table, or folder of tables, it was made from."
        ),
    ],
    schema: opt.SchemaFile = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Fit and draw again as the record says; show whether the same model and data come out.

    It needs the owner's key and the real table, and writes nothing. Ends with exit code 3 if the
    table is not the recorded one, with 6 if something else came out.

    [bold]Examples[/bold]

    manikin replay manikin-release --data patients.csv

    manikin replay manikin-release --data patients.csv --schema schema.yaml --json

    manikin replay manikin-release --data folder/
    """
    from manikin import replaying
    from manikin.errors import IntegrityError

    with watching(quiet=quiet or as_json) as watch:
        found = replaying.replay(release, data=data, schema=schema, watch=watch)
    if as_json:
        show_json({"ok": found.ok, **dataclasses.asdict(found), "release": release.name})
    else:
        _show(found, quiet=quiet)
    if not found.ok:
        raise typer.Exit(IntegrityError.exit_status)


def _show(found: Replay, *, quiet: bool) -> None:
    from rich.text import Text

    console = printer()
    steps = (
        (found.same_split, "the same subjects were held out", "other subjects were held out"),
        (found.same_model, "the same model was fitted", "another model was fitted"),
        (found.same_data, "the same bytes were drawn", "other rows were drawn"),
    )
    for same, yes, no in steps:
        if not same:
            console.print(Text.assemble(("✗ ", "bold red"), no))
        elif not quiet:
            console.print(Text.assemble(("✓ ", "bold green"), yes))
    for what in found.differs:
        console.print(Text.assemble(("✗ ", "bold red"), f"not as recorded: {what}"))
    if found.ok:
        return
    if found.changed:
        console.print(f"  versions differ: {', '.join(found.changed)}", soft_wrap=True)
        console.print("  install those of the record and replay again before you conclude anything")
    else:
        console.print("  versions are those of the record; another processor may round otherwise")
