"""The commands that make data: the whole road, and its two halves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, show_json, watching
from manikin.cli.show import end_with, show_notes, show_paths

__all__ = ["fit", "sample", "synthesize"]

FORMATS = ("csv", "tsv", "parquet", "xlsx")
OF_HISTORIES = ("omop", "meds", "fhir", "cdisc", "long")
ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)
]
NewModel = Annotated[
    Path,
    typer.Option(
        "--out", metavar="FILE", rich_help_panel=opt.OUTPUT, help="File of the fitted model."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        rich_help_panel=opt.OUTPUT,
        help=f"{', '.join(FORMATS)}: added to FILE as its suffix. Of histories: "
        f"{', '.join(OF_HISTORIES)}.",
    ),
]


After = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Of histories: continue these, each --n times, in place of drawing new subjects.",
    ),
]


@command
def synthesize(
    data: opt.DataOrFolder,
    out: opt.ReleaseFolder = Path("manikin-release"),
    n: opt.Subjects = None,
    where: opt.Where = "",
    balance: opt.Balance = None,
    enrich: opt.Enrich = None,
    holdout: opt.Share = 0.3,
    split_by: opt.SplitBy = None,
    accept: opt.Accept = None,
    profile: opt.Profile = "full",
    refits: opt.Refits = 0,
    policy: opt.PolicyName = None,
    synthesizer: opt.SynthesizerName = None,
    settings: opt.Settings = None,
    remove_edge: opt.RemoveEdge = None, fit_per: opt.FitPer = None,
    epsilon: opt.Epsilon = None, delta: opt.Delta = None,
    discover: opt.Discover = 0.0,
    report_epsilon: opt.ReportEpsilon = None,
    seed: opt.Seed = 0, minutes: opt.Minutes = None,
    schema: opt.SchemaFile = None,
    target: opt.Target = None, subject: opt.Subject = None,
    time: opt.Time = None, event: opt.Event = None,
    sensitive: opt.Sensitive = None, quasi: opt.Quasi = None,
    links: opt.Links = None, modality: opt.Modality = None,
    having: opt.Having = None,
    also: opt.Also = None,
    sign: opt.Sign = None,
    who: opt.Who = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:  # fmt: skip
    """Turn a real table into a release: synthetic data in its format, report, record and seal.

    [bold]Examples[/bold]

    manikin synthesize visits.csv --subject patient --synthesizer auto --where "sex=F,age>=65"

    manikin synthesize omop.duckdb --out release --also meds

    manikin synthesize a.csv --schema a.yaml --epsilon 1 --synthesizer table/mst --set bins=32
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    chosen = opt.settings(settings)
    from manikin import pipeline  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        outcome = pipeline.synthesize(
            data, out=out, synthesizer=synthesizer, settings=chosen, n=n, schema=schema, seed=seed,
            remove_edges=remove_edge or (), fit_per=fit_per, epsilon=epsilon, delta=delta, who=who,
            discover=discover, report_epsilon=report_epsilon, where=where, balance=balance,
            enrich=enrich or (), holdout=holdout, split_by=split_by, accept=accept or (),
            links=links or (), profile=profile, refits=refits, policy=policy, sign=sign,
            minutes=minutes, overwrite=overwrite, watch=watch, modality=modality,
            having=having or (), also=also or (), **columns,
        )  # fmt: skip
    end_with(outcome, quiet=quiet, as_json=as_json)


@command
def fit(
    data: opt.DataOrFolder,
    out: NewModel,
    synthesizer: opt.SynthesizerName = None,
    settings: opt.Settings = None,
    remove_edge: opt.RemoveEdge = None, fit_per: opt.FitPer = None,
    epsilon: opt.Epsilon = None, delta: opt.Delta = None,
    discover: opt.Discover = 0.0,
    seed: opt.Seed = 0, minutes: opt.Minutes = None,
    schema: opt.SchemaFile = None,
    target: opt.Target = None, subject: opt.Subject = None,
    time: opt.Time = None, event: opt.Event = None,
    sensitive: opt.Sensitive = None, quasi: opt.Quasi = None,
    links: opt.Links = None, modality: opt.Modality = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:  # fmt: skip
    """Fit a synthesizer to every row of a table and save the model.

    No rows are kept aside and nothing is judged: the model is for your own house, and what you
    release from it should be evaluated first.

    [bold]Examples[/bold]

    manikin fit visits.parquet --out visits.manikin --subject patient --synthesizer table/copula

    manikin fit patients.csv --out patients.manikin --schema schema.yaml --epsilon 1
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    chosen = opt.settings(settings)
    from manikin import budgeted, pipeline  # after usage was found right: it is slow to import
    from manikin.asking import DEFAULT
    from manikin.editing import edited
    from manikin.privacy import ledger

    with watching(quiet=quiet or as_json) as watch:
        model = pipeline.fit(
            data, out=out, synthesizer=synthesizer, settings=chosen, schema=schema, seed=seed,
            epsilon=epsilon, delta=delta, discover=discover, remove_edges=remove_edge or (),
            fit_per=fit_per, minutes=minutes, overwrite=overwrite, watch=watch, links=links or (),
            modality=modality, **columns,
        )  # fmt: skip
    changed = edited(model, None, seed=seed)
    budget, edits = budgeted.budget_of(epsilon, delta), () if changed is None else changed.notes
    named = synthesizer or budgeted.default(budget, model.schema, DEFAULT)
    notes = (*budgeted.told(budget, model.schema), *edits, *getattr(model, "notes", ()))
    if as_json:
        show_json({"model": str(out), "synthesizer": named, "seed": seed,
                   "ledger": ledger.to_json(model.ledger), "notes": list(notes)})  # fmt: skip
    elif not quiet:
        show_notes(notes)
        new = "new.csv" if model.schema.modality == "table" else "new"
        show_paths({"model": out, "sample it": f"manikin sample {out} --n 1000 --out {new}"})


@command
def sample(
    model: ModelFile,
    out: opt.TableFile,
    n: Annotated[int, typer.Option("--n", min=1, help="Synthetic subjects.")] = 1000,
    where: opt.Where = "",
    balance: opt.Balance = None,
    enrich: opt.Enrich = None,
    having: opt.Having = None,
    after: After = None,
    until: Annotated[str, typer.Option(metavar="SPAN", help="And for how long: 30d, 1y.")] = "365d",
    seed: opt.Seed = 0,
    format_: Format = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Draw synthetic subjects from a fitted model.

    Rows are streamed to the file: a million of them need no more memory than fifty thousand.

    [bold]Examples[/bold]

    manikin sample patients.manikin --n 100000 --out new.parquet

    manikin sample patients.manikin --n 500 --where "sex=F,age>=65" --out women.csv

    manikin sample patients.manikin --n 2000 --balance died --out balanced.csv

    manikin sample patients.manikin --n 2000 --enrich stage=IV:0.4 --out late.csv

    manikin sample histories.manikin --n 500 --having SNOMED/91302008 --format fhir --out sepsis

    manikin sample histories.manikin --after ward.duckdb --until 90d --n 20 --out futures
    """
    of_histories = format_ if (format_ or "").lower() in OF_HISTORIES else None
    target = out if of_histories else _with_suffix(out, format_)
    from manikin import pipeline  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        drawn = pipeline.sample(
            model,
            n=n,
            out=target,
            seed=seed,
            where=where,
            balance=balance,
            enrich=tuple(enrich or ()),
            having=tuple(having or ()),
            after=after,
            until=until,
            format=of_histories,
            overwrite=overwrite,
            watch=watch,
        )
    if as_json:
        show_json({"data": str(drawn.data), "n": n, "seed": seed, "notes": list(drawn.notes)})
    elif not quiet:
        show_notes(drawn.notes)
        show_paths({"data": drawn.data})


def _with_suffix(out: Path, format_: str | None) -> Path:
    """Return FILE with the format's suffix. Raises BadParameter where the two disagree."""
    if format_ is None:
        return out
    wanted = format_.lower().lstrip(".")
    wanted = {"excel": "xlsx"}.get(wanted, wanted)
    if wanted not in FORMATS:
        raise typer.BadParameter(f"--format is one of {', '.join((*FORMATS, *OF_HISTORIES))}")
    has = [suffix.lstrip(".").lower() for suffix in out.suffixes]
    if has[-1:] == ["gz"]:
        has.pop()
    if has and has[-1] in FORMATS:
        if has[-1] != wanted:
            raise typer.BadParameter(f"--out ends in '.{has[-1]}', but --format is {wanted}")
        return out
    return out.with_name(f"{out.name}.{wanted}")
