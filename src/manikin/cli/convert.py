"""The command that writes histories in another format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching
from manikin.cli.show import show_notes, show_paths

__all__ = ["convert"]

FORMATS = "omop, meds, fhir, cdisc, long"


Histories = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Histories: OMOP, MEDS, FHIR, CDISC, Synthea, rows of subject, time and code; "
        "or a PostgreSQL DSN.",
        show_default=False,
    ),
]
NewPlace = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="PATH",
        rich_help_panel=opt.OUTPUT,
        help="A new file or folder.",
        show_default=False,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        rich_help_panel=opt.OUTPUT,
        help=f"{FORMATS}; a suffix such as .duckdb says it too.",
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="FORMAT", help="What DATA is, where its look misleads."),
]
Keep = Annotated[
    Literal["refuse", "keep"],
    typer.Option(
        help="Rows and resources (OMOP, FHIR) that refer to what is not there: an error with "
        "counts, or keep what can be kept.",
    ),
]


@command
def convert(
    data: Histories,
    out: NewPlace,
    to: To = None,
    from_: From = None,
    schema: opt.SchemaFile = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    dangling: Keep = "refuse",
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write histories in another format, unchanged: OMOP, MEDS, FHIR, CDISC, rows.

    Nothing is made synthetic by this: real data stay real, keep their identifiers, and are not
    marked. What says of itself that it is synthetic says so in the new format too.

    [bold]Examples[/bold]

    manikin convert omop.duckdb --out meds --to meds

    manikin convert bulk-export/ --out omop.duckdb

    manikin convert sdtm/ --from cdisc --out fhir --to fhir
    """
    from manikin import converting  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        done = converting.convert(
            data, out, to=to, source_format=from_, schema=schema, subject=subject, time=time,
            dangling=dangling, overwrite=overwrite, watch=watch,
        )  # fmt: skip
    if as_json:
        show_json({**dataclasses.asdict(done), "data": str(done.data), "notes": list(done.notes)})
    elif not quiet:
        marked = "synthetic, and marked so" if done.synthetic else "not marked as synthetic"
        printer().print(
            f"{done.source_format} → {done.format}: {done.subjects:,} subjects,"
            f" {done.events:,} events, {marked}"
        )
        show_notes(done.notes)
        show_paths({"data": done.data})
