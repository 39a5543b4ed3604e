"""The command that sets several synthesizers side by side on one table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching
from manikin.cli.rulings import show_several
from manikin.cli.show import near, show_paths

if TYPE_CHECKING:
    from manikin.comparison import Compared
    from manikin.metrics.score import Score

__all__ = ["compare"]


Names = Annotated[
    list[str] | None,
    typer.Option(
        "--synthesizer",
        metavar="NAME",
        rich_help_panel=opt.RECIPE,
        help="One to compare; repeat it. All of 'manikin list' if not given.",
    ),
]
SettingsOf = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME.FIELD=VALUE",
        rich_help_panel=opt.RECIPE,
        help="A setting of one of them: table/seqtree.leaf=30; repeat it.",
    ),
]
Folder = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", rich_help_panel=opt.OUTPUT, help="Directory of the comparison."
    ),
]
Depth = Annotated[
    Literal["quick", "full"] | None,
    typer.Option(
        "--profile",
        help="Which metrics: quick, a first look, or full, all of them. Quick if not given, but"
        " full with --policy.",
    ),
]
WithData = Annotated[
    bool,
    typer.Option(
        "--with-data", rich_help_panel=opt.OUTPUT, help="Also write everyone's synthetic rows."
    ),
]


@command
def compare(
    data: opt.Data,
    synthesizers: Names = None,
    settings: SettingsOf = None,
    out: Folder = Path("manikin-comparison"),
    with_data: WithData = False,
    n: opt.Subjects = None,
    holdout: opt.Share = 0.3,
    split_by: opt.SplitBy = None,
    accept: opt.Accept = None,
    profile: Depth = None,
    refits: opt.Refits = 0,
    policy: opt.PolicyName = None,
    seed: opt.Seed = 0,
    minutes: opt.Minutes = None,
    schema: opt.SchemaFile = None,
    target: opt.Target = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    event: opt.Event = None,
    sensitive: opt.Sensitive = None,
    quasi: opt.Quasi = None,
    sign: opt.Sign = None,
    who: opt.Who = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Fit several synthesizers to the same rows and judge them alike, side by side.

    No synthetic rows are written unless --with-data asks for them. One that cannot be fitted is
    shown with the reason.

    [bold]Examples[/bold]

    manikin compare patients.csv --target died

    manikin compare patients.csv --synthesizer table/seqtree --synthesizer table/copula --refits 3
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    chosen = _settings(settings)
    from manikin import comparison  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        found = comparison.compare(
            data, synthesizers=tuple(synthesizers or ()), settings=chosen, out=out,
            with_data=with_data, n=n, schema=schema, holdout=holdout, split_by=split_by,
            accept=tuple(accept or ()), profile=profile, refits=refits, policy=policy, seed=seed,
            minutes=minutes, sign=sign,
            who=who, overwrite=overwrite, watch=watch, **columns,
        )  # fmt: skip
    _show(found, quiet=quiet, as_json=as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _settings(given: list[str] | None) -> dict[str, dict[str, str]]:
    """Read `name.field=value`. Raises BadParameter for one that names no synthesizer."""
    found: dict[str, dict[str, str]] = {}
    for field, value in opt.settings(given).items():
        name, dot, of_it = field.partition(".")
        if not dot or not of_it:
            raise typer.BadParameter("--set takes NAME.FIELD=VALUE, as in table/seqtree.leaf=30")
        found.setdefault(name, {})[of_it] = value
    return found


def _show(found: Compared, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        contenders = [
            {
                **dataclasses.asdict(one),
                "data": None if one.data is None else str(one.data),
                "policy": None if one.policy is None else one.policy.to_json(),
            }
            for one in found.contenders
        ]
        show_json({"directory": str(found.directory), "comparison": str(found.comparison),
                   "page": str(found.page), "record": str(found.record),
                   "synthesizers": contenders})  # fmt: skip
        return
    if quiet:
        return
    from rich.text import Text

    console = printer()
    for one in found.contenders:
        if one.failed:
            console.print(Text.assemble((f"✗ {one.name}: ", "bold red"), one.failed))
    _table(found)
    places = {
        "page": near(found.page),
        "numbers": near(found.comparison),
        "record": near(found.record),
    }
    places |= {one.name: near(one.data) for one in found.contenders if one.data is not None}
    show_paths({**places, "check it": f"manikin verify {near(found.directory)}"})
    show_several({one.name: one.policy for one in found.contenders if one.policy is not None})


def _table(found: Compared) -> None:
    """Print a block of lines a score: everyone's value and interval, floor and ceiling last."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    ran = [one for one in found.contenders if not one.failed]
    by_name: dict[str, dict[str, Score]] = {
        one.name: {s.metric: s for s in one.scores if s.group == "all"} for one in ran
    }
    metrics = dict.fromkeys(metric for scores in by_name.values() for metric in scores)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in ("score", "synthesizer", "value", "95 % interval"):
        grid.add_column(header, no_wrap=True, justify="right" if header == "value" else "left")
    for metric in metrics:
        shown = metric
        for name, scores in by_name.items():
            score = scores.get(metric)
            grid.add_row(Text(shown, style="bold"), Text(name), *_cells(score))
            shown = ""
        for what, value in _ends(by_name, metric).items():
            grid.add_row("", Text(what, style="dim"), Text(_number(value), style="dim"), "")
    console = printer()
    console.print(grid)
    for one in ran:
        caught = ", ".join(
            f"{name} {'caught' if hit else 'missed'}" for name, hit in (one.controls or {}).items()
        )
        console.print(Text(f"{one.name}: {one.seconds:.0f} s; planted leaks: {caught or 'none'}"))


def _ends(by_name: Mapping[str, Mapping[str, Score]], metric: str) -> dict[str, float | None]:
    """Return floor and ceiling: the same for all, since the split and the judge are."""
    score = next(scores[metric] for scores in by_name.values() if metric in scores)
    return {"floor (independent columns)": score.floor, "ceiling (fresh real rows)": score.ceiling}


def _cells(score: Score | None) -> tuple[str, str]:
    if score is None:
        return "-", ""
    low, high = score.interval
    between = "" if math.isnan(low) else f"{_number(low)} to {_number(high)}"
    return _number(score.value), between


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
