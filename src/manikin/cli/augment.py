"""The command that adds rows of rare classes to real ones, and says whether models gain by it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, printer, show_json, watching
from manikin.cli.show import new_grid, show_notes, show_paths

if TYPE_CHECKING:
    from manikin.augmenting import Augmented

__all__ = ["augment"]

Class_ = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="COLUMN",
        rich_help_panel=opt.ROLES,
        help="The outcome whose rare classes get rows.",
        show_default=False,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=opt.RECIPE,
        help="smote, a synthesizer ('manikin list'), or smote+NAME: one that learns from SMOTE's"
        " rows too.",
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER",
        min=0.0,
        max=1.0,
        help="Rows of each class, as a share of the commonest one's (1).",
    ),
]
_TOLD = {"auc": "AUC", "auprc": "AUPRC", "brier": "Brier"}


@command
def augment(
    data: opt.Data,
    target: Class_,
    out: opt.TableFile,
    method: Method = "smote",
    ratio: Ratio = None,
    enrich: opt.Enrich = None,
    holdout: opt.Share = 0.3,
    settings: opt.Settings = None,
    seed: opt.Seed = 0,
    minutes: opt.Minutes = None,
    schema: opt.SchemaFile = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    event: opt.Event = None,
    who: opt.Who = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Add rows of rare classes to the real ones, and test whether a model gains by them.

    The file holds every real row, and a column 'synthetic' that tells the new ones: it is no
    release. Models of it are compared with models of the real rows alone, on real subjects who
    were held out; the record beside the file says all of it.

    [bold]Examples[/bold]

    manikin augment patients.csv --target died --out augmented.csv

    manikin augment patients.csv --target stage --enrich stage=IV:0.2 --out augmented.csv

    manikin augment patients.csv --target died --method table/seqtree --out augmented.csv

    manikin augment patients.csv --target died --method smote+table/tvae --ratio 0.5 --out a.csv
    """
    opt.roles(target, subject, time, event, None, None)
    chosen = opt.settings(settings)
    from manikin import augmenting  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        found = augmenting.augment(
            data, target=target, method=method, ratio=ratio, enrich=tuple(enrich or ()),
            settings=chosen, out=out, holdout=holdout, schema=schema, subject=subject, time=time,
            event=event, seed=seed, minutes=minutes, who=who, overwrite=overwrite, watch=watch,
        )  # fmt: skip
    if as_json:
        show_json(_document(found))
    elif not quiet:
        _show(found)
    else:
        show_notes((found.warning,))


def _document(found: Augmented) -> dict[str, object]:
    return {
        "data": str(found.data), "record": str(found.record), "method": found.method,
        "release": False, "warning": found.warning, "real_rows": found.real_rows,
        "new_rows": found.new_rows, "notes": list(found.notes),
        "classes": [dataclasses.asdict(one) for one in found.classes],
        "gains": [{**dataclasses.asdict(gain), "verdict": gain.verdict} for gain in found.gains],
    }  # fmt: skip


def _show(found: Augmented) -> None:
    from rich.text import Text

    console = printer()
    show_notes((found.warning, *found.notes))
    shares = new_grid("class", "rows before", "after", "share before", "after")
    for one in found.classes:
        cells = [f"{n:,}" if n is not None else "-" for n in (one.before, one.after)]
        cells += [f"{s:.1%}" if s is not None else "-" for s in (one.share_before, one.share_after)]
        name = one.level if one.before is not None else "(fewer than 11)"
        shares.add_row(Text(name), *cells)
    for column in shares.columns[1:]:
        column.justify = "right"
    console.print(shares)
    console.print()
    for level in dict.fromkeys(gain.level for gain in found.gains):
        console.print(Text(f"Telling '{level}' from the rest, of real subjects held out:"))
        told = new_grid("learned from", "measure", "value (95 %)", "against real rows only")
        for gain in found.gains:
            if gain.level == level:
                told.add_row(Text(gain.rows), _TOLD[gain.measure], _between(gain.value,
                             gain.interval), _against(gain.gap, gain.gap_interval,
                             gain.verdict))  # fmt: skip
        told.columns[1].no_wrap = True
        console.print(told)
        console.print()
    if found.gains:
        console.print(Text(_said(found), style="bold"))
    if found.data is not None and found.record is not None:
        show_paths({"data": found.data, "record": found.record})


def _between(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _against(gap: float, interval: tuple[float, float], verdict: str) -> str:
    if gap == 0 and interval[0] == interval[1]:
        return "-"
    told = f"{gap:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"
    return f"{told} {verdict}".strip()


def _said(found: Augmented) -> str:
    """Return in a sentence what the rows that were added are worth."""
    own = [gain for gain in found.gains if gain.rows == found.method]
    ranked = {gain.verdict for gain in own if gain.measure != "brier"}
    risks = {gain.verdict for gain in own if gain.measure == "brier"}
    if "better" in ranked and "worse" not in ranked:
        first = f"With rows of {found.method} the class is told better"
    elif "worse" in ranked:
        first = f"With rows of {found.method} the class is told worse"
    else:
        first = f"No gain by rows of {found.method} can be told from chance"
    if "worse" in risks:
        return f"{first}, and predicted risks are further off: calibrate them again."
    return f"{first}."
