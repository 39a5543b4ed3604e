"""The command that foretells an event for patients whose histories are at hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching
from manikin.cli.show import show_notes, show_paths

if TYPE_CHECKING:
    from manikin.forecasting import Calibration
    from manikin.risks import Foretold

__all__ = ["forecast"]

BAR = 40  # signs of a bar from 0 to 1
History = Annotated[
    str,
    typer.Option("--from", metavar="DATA", help="Histories of the patients.", show_default=False),
]
Event = Annotated[
    list[str],
    typer.Option(
        "--event",
        metavar="CODE",
        help="What is foretold: a code, or one above it in its tree; several count together.",
        show_default=False,
    ),
]
Until = Annotated[str, typer.Option(metavar="SPAN", help="How far ahead: 48h, 30d, 12m, 1y.")]
CheckAt = Annotated[
    str | None,
    typer.Option(
        metavar="DATE|SPAN",
        help="Cut the histories there and tell how forecasts did against what came; of patients"
        " that the model was not fitted on.",
    ),
]
Give = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE", help="Another treatment: put this at the end of each history."),
]
InsteadOf = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE", help="And take this out there; repeat it."),
]
RiskFile = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", rich_help_panel=opt.OUTPUT, help="A CSV file of risks."),
]


@command
def forecast(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)
    ],
    data: History,
    event: Event,
    until: Until = "365d",
    futures: Annotated[int, typer.Option(min=20, help="Futures drawn for each patient.")] = 100,
    check_at: CheckAt = None,
    give: Give = None,
    instead_of: InsteadOf = None,
    out: RiskFile = None,
    schema: opt.SchemaFile = None,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Foretell an event for each patient: the share of drawn futures in which it is recorded.

    Check a model with --check-at before you rely on it. With --give the futures are drawn under
    another treatment: a model's output, not evidence of what the treatment does.

    [bold]Examples[/bold]

    manikin forecast ward.manikin --from new.duckdb --event SNOMED/91302008 --until 30d

    manikin forecast ward.manikin --from others.duckdb --event MEDS_DEATH --check-at 180d
    """
    from manikin import risks  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        told = risks.forecast(
            model, data, event=event, until=until, futures=futures, give=give or (),
            instead_of=instead_of or (), check_at=check_at, schema=schema, out=out, seed=seed,
            overwrite=overwrite, watch=watch,
        )  # fmt: skip
    if as_json:
        show_json(_document(told))
    elif not quiet:
        _show(told)


def _document(told: Foretold) -> dict[str, object]:
    checked = told.calibration
    found: dict[str, object] = {
        "event": list(told.forecast.codes),
        "days": told.forecast.days,
        "mark": told.forecast.mark,
        "risks": told.rows(),
        "notes": list(told.notes),
    }
    if checked is not None:
        facts = dataclasses.asdict(dataclasses.replace(checked, forecast=None))  # type: ignore[arg-type]
        found["calibration"] = {key: value for key, value in facts.items() if key != "forecast"}
    return found


def _show(told: Foretold) -> None:
    console = printer()
    known = told.forecast.risk[told.forecast.risk == told.forecast.risk]
    console.print(
        f"{known.size:,} of {told.forecast.subjects.size:,} patients with a forecast; mean risk"
        f" within {told.forecast.days:g} days: {known.mean() if known.size else float('nan'):.3f}"
    )
    if told.forecast.mark:
        console.print(f"! {told.forecast.mark}")
    if told.calibration is not None:
        _show_calibration(told.calibration)
    show_notes(told.notes)
    if told.data is not None:
        show_paths({"risks": told.data})


def _show_calibration(checked: Calibration) -> None:
    """Print how forecasts did, and the reliability curve as bars."""
    console = printer()
    for name, measured in (
        ("AUROC", checked.auroc), ("Brier score", checked.brier), ("skill", checked.skill),
    ):  # fmt: skip
        low, high = measured.interval
        console.print(f"{name:12} {measured.value:.3f} (95 % interval {low:.3f} to {high:.3f})")
    console.print(f"\n{'patients':>8}  foretold  came")
    for group in checked.curve:
        bar = ["·"] * (BAR + 1)
        low, high = (round(end * BAR) for end in group.interval)
        bar[low : high + 1] = ["─"] * (high - low + 1)
        bar[round(group.came * BAR)] = "●"
        bar[round(group.foretold * BAR)] = "│"
        console.print(
            f"{group.subjects:>8}  {group.foretold:8.3f}  {group.came:.3f}  {''.join(bar)}",
            highlight=False,
        )
    console.print(f"{'':25}│ foretold, ● came with its 95 % interval, from 0 to 1\n")
