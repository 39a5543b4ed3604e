"""The commands on privacy as something that is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json

if TYPE_CHECKING:
    from manikin.cohort_ledger import Total

__all__ = ["ledger"]


@command
def ledger(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of releases and models.", show_default=False),
    ],
    delta: Annotated[float, typer.Option(metavar="δ", help="Where ε is read.")] = 1e-6,
    all_: Annotated[
        bool,
        typer.Option("--all", help="One sum of everything: extracts of the same patients differ."),
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Add up what all releases of the same patients cost, found in a folder and below.

    Releases are of the same rows where their records say so by the owner's keyed digest. One that
    has no guarantee makes the sum infinite, and is named.

    [bold]Examples[/bold]

    manikin privacy ledger releases/

    manikin privacy ledger releases/ --all --json
    """
    from manikin import cohort_ledger

    found = cohort_ledger.privacy_ledger(folder, delta=delta, all_together=all_)
    if as_json:
        show_json([cohort.to_json() for cohort in found])
    else:
        _show(found)


_APART = (
    "Counted apart, as different rows. The same patients in another extract, order or schema look"
    " different, too: if they are the same, what counts is the sum of all (--all)."
)


def _show(found: Sequence[Total]) -> None:
    from rich.text import Text

    from manikin.cli.show import new_grid
    from manikin.cohort_ledger import UNKNOWN

    console = printer()
    for cohort in found:
        titles = {"all": "Everything together", UNKNOWN: "Of rows that nothing names"}
        title = titles.get(cohort.source, f"Of the rows {cohort.source}")
        console.print(Text(title, style="bold"))
        grid = new_grid("release", "when", "method", "ε")
        for entry in cohort.entries:
            at = entry.at[:16].replace("T", " ") or "–"
            grid.add_row(Text(entry.where), at, Text(entry.method), _epsilon(entry.epsilon))
        console.print(grid)
        total = f"together ε = {_epsilon(cohort.epsilon)} at δ = {cohort.delta:g}"
        console.print(Text(total, style="bold"))
        for entry in cohort.unpaid:
            console.print(Text(f"no bound because of {entry.where}: {entry.why}"), soft_wrap=True)
        console.print()
    if len(found) > 1:
        console.print(Text(_APART, style="yellow"), soft_wrap=True)


def _epsilon(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "∞"
