"""The command that says which synthesizer suits a table, measured on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching
from manikin.cli.show import show_paths

if TYPE_CHECKING:
    from manikin.adviser import Advice
    from manikin.adviser.ranking import Measured, Placed

__all__ = ["advise"]

GoalName = Annotated[
    Literal["realism", "interpretability", "privacy", "speed"],
    typer.Option("--goal", help="What matters most."),
]
Time = Annotated[
    float,
    typer.Option("--minutes", min=0.0, help="Time for the whole of it; more time, more certainty."),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--synthesizer",
        metavar="NAME",
        rich_help_panel=opt.RECIPE,
        help="One to try; repeat it. All of 'manikin list' if not given.",
    ),
]
_TITLES = {"detection": "detection score", "gap": "utility lost", "membership": "membership AUC"}


@command
def advise(
    data: opt.Data,
    goal: GoalName = "realism",
    minutes: Time = 5.0,
    synthesizers: Names = None,
    seed: opt.Seed = 0,
    schema: opt.SchemaFile = None,
    target: opt.Target = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    event: opt.Event = None,
    sensitive: opt.Sensitive = None,
    quasi: opt.Quasi = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Say which synthesizer suits a table: tried on part of it, judged on the rest, in the time.

    Nothing is written. With --quiet only the command to run next is printed.

    [bold]Examples[/bold]

    manikin advise patients.csv --target died

    manikin advise patients.csv --target died --goal privacy --minutes 2

    manikin advise trial.csv --time months --event relapse --json > advice.json
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    from manikin import adviser  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        found = adviser.advise(
            data, goal=goal, minutes=minutes, synthesizers=tuple(synthesizers or ()), seed=seed,
            schema=schema, watch=watch, **columns,
        )  # fmt: skip
    if as_json:
        show_json(found.to_json())
    elif quiet:
        typer.echo(found.command)
    else:
        _show(found)


def _show(found: Advice) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console = printer()
    console.print(Text(f"The table {found.source}", style="bold"))
    if found.profile is not None:
        for what, said in found.profile.lines():
            console.print(Padding(Text(f"{what}: {said}"), (0, 0, 0, 2)))
        for said in found.profile.unsettled:
            settle = "settle before anything is released: "
            console.print(Padding(Text.assemble((settle, "bold red"), said), (0, 0, 0, 2)))
    _framework(found)
    _measured(found)
    console.print()
    console.print(Text(found.answer, style="bold"))
    for reason in found.ranking[0].reasons:
        console.print(Padding(Text(reason), (0, 0, 0, 2)))
    for note in found.notes:
        console.print(Text.assemble(("! ", "bold yellow"), note))
    show_paths({"run next": found.command})


def _framework(found: Advice) -> None:
    """Print what is to be expected of each family, and on whose word."""
    from rich.padding import Padding
    from rich.text import Text

    from manikin.adviser.framework import AXES

    console = printer()
    console.print()
    console.print(Text("What to expect (literature; what was measured is below)", style="bold"))
    numbers = {key: i for i, key in enumerate(found.sources, 1)}
    for family in found.framework:
        marks = ",".join(str(numbers[key]) for key in family.sources)
        title = Text.assemble((family.name, "bold"), f" {family.kind}", f" [{marks}]" * bool(marks))
        console.print(Padding(title, (0, 0, 0, 2)))
        told = "; ".join(f"{axis}: {getattr(family, axis)}" for axis in AXES)
        console.print(Padding(Text(told, style="dim"), (0, 0, 0, 4)))
    for key, work in found.sources.items():
        console.print(Padding(Text(f"[{numbers[key]}] {work}", style="dim"), (0, 0, 0, 2)))


def _measured(found: Advice) -> None:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    console = printer()
    console.print()
    console.print(
        Text.assemble(
            (f"Measured for {found.goal}", "bold"),
            f" on {found.splits} split{'s' * (found.splits > 1)} of {found.train_rows:,} rows to"
            f" learn from and {found.held_rows:,} held out, in {found.seconds:.0f} s",
        )
    )
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in ("", "synthesizer", *_TITLES.values(), "s", "to the first"):
        grid.add_column(header, no_wrap=header != "to the first")
    for one in found.ranking:
        if one.rank is not None:
            cells = [_cell(one.measures.get(what)) for what in _TITLES]
            grid.add_row(str(one.rank), one.name, *cells, f"{one.seconds:.1f}", _verdict(one))
    cells = [_cell(found.ceiling.get(what)) for what in _TITLES]
    grid.add_row("", "fresh real rows", *cells, "", "the ceiling", style="dim")
    console.print(grid)
    for one in found.ranking:
        if one.failed:
            console.print(Text.assemble((f"✗ {one.name}: ", "bold red"), one.failed))
        elif one.rank != 1 and one.reasons:
            console.print(Text.assemble((f"{one.name}: ", "bold"), "; ".join(one.reasons)))


def _cell(measure: Measured | None) -> str:
    if measure is None:
        return "-"
    return f"{measure.value:.2f} ({measure.low:.2f}…{measure.high:.2f})"


def _verdict(one: Placed) -> str:
    if one.rank == 1:
        return "advised"
    if one.tied:
        return "may be as good"
    return "" if one.behind is None else f"realism {-one.behind.value:+.2f}"
