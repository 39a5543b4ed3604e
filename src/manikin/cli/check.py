"""The commands that look: at real data, at anybody's synthetic data, and at a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, show_json, watching
from manikin.cli.show import end_with, show_audit, show_verification

if TYPE_CHECKING:
    from manikin.data.codes import EventSchema

__all__ = ["audit", "evaluate", "schema", "verify"]

RulesFile = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="Of histories: a YAML file of hard rules and trees of codes to write into the schema.",
    ),
]


@command
def audit(
    data: opt.DataOrFolder,
    schema: opt.SchemaFile = None,
    target: opt.Target = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    event: opt.Event = None,
    sensitive: opt.Sensitive = None,
    quasi: opt.Quasi = None,
    links: opt.Links = None,
    modality: opt.Modality = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Say whether a table is ready: what is missing, rare, identifying, duplicated or leaking.

    Each finding comes with what to do about it. No cell of the table and no count below 11 is
    shown. With --quiet only the findings that must be settled are.

    [bold]Examples[/bold]

    manikin audit patients.csv

    manikin audit patients.csv --target died --quasi age,sex,postcode --sensitive sex,ethnicity

    manikin audit visits.csv --subject patient --json > audit.json

    manikin audit folder/ --link admissions.patient_id=patients.patient_id
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    from manikin import pipeline  # after usage was found right: it is slow to import

    found = pipeline.audit(
        data, schema=schema, links=tuple(links or ()), modality=modality, **columns
    )
    if as_json:
        show_json(found.to_json())
    else:
        show_audit(found, data.name, quiet=quiet)


@command
def schema(
    data: opt.DataOrFolder,
    target: opt.Target = None,
    subject: opt.Subject = None,
    time: opt.Time = None,
    event: opt.Event = None,
    sensitive: opt.Sensitive = None,
    quasi: opt.Quasi = None,
    links: opt.Links = None,
    modality: opt.Modality = None,
    rules: RulesFile = None,
    as_json: opt.AsJson = False,
) -> None:
    """Print the schema inferred from a table, with reasons, as YAML to correct and give back.

    It lists the spellings of categories: look through it before it leaves the house.

    [bold]Examples[/bold]

    manikin schema patients.csv > schema.yaml

    manikin synthesize patients.csv --schema schema.yaml

    manikin schema folder/ > schema.yaml

    manikin schema omop.duckdb --rules rules.yaml > schema.yaml
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    from manikin.io import cohorts, schema_file, tables
    from manikin.opening import schema_of
    from manikin.sources import kind_of

    if kind_of(data, modality=modality) == "events":
        _schema_of_histories(schema_of(data, **columns), rules, as_json=as_json)
        return
    if rules is not None:
        raise typer.BadParameter("--rules are of histories; a table's stand in its schema file")
    if cohorts.is_cohort(data):
        if columns.pop("subject") is not None:
            raise typer.BadParameter("--subject is of one table; name a --link of the folder's")
        linked = cohorts.open_cohort(data, links=tuple(links or ()), **columns).cohort.schema
        if as_json:
            show_json(linked.to_json())
        else:
            typer.echo(schema_file.tables_to_yaml(linked), nl=False)
        return
    if links:
        raise typer.BadParameter("--link is of a folder of tables")
    found = tables.open_table(data, **columns).table.schema
    if as_json:
        show_json(found.to_json())
    else:
        typer.echo(schema_file.to_yaml(found), nl=False)


def _schema_of_histories(events: EventSchema, rules: Path | None, *, as_json: bool) -> None:
    """Print a schema of histories, with the rules of a file written into it."""
    from manikin.io.histories import schema_to_yaml

    notes: tuple[str, ...] = ()
    if rules is not None:
        from manikin.io.rule_files import read_rules

        events, notes = read_rules(rules).into(events)
    if as_json:
        show_json(events.to_json())
    else:
        typer.echo(schema_to_yaml(events), nl=False)
    for note in notes:  # beside the schema, which goes to a file
        typer.echo(note, err=True)


@command
def evaluate(
    train: opt.Train,
    holdout: opt.HeldOut,
    synthetic: opt.Synthetic,
    reference: opt.Reference = None,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", rich_help_panel=opt.OUTPUT, help="Directory of the report."),
    ] = Path("manikin-evaluation"),
    metrics: opt.Metrics = None,
    profile: opt.Profile = "full",
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
    links: opt.Links = None,
    modality: opt.Modality = None,
    sign: opt.Sign = None,
    who: opt.Who = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Judge any synthetic table, ours or another tool's, beside real rows it was not made from.

    Folders of the same linked tables are judged in the same way, and histories (OMOP, MEDS, …).

    [bold]Examples[/bold]

    manikin evaluate --train train.csv --holdout test.csv --synthetic other.csv --target died

    manikin evaluate --train a.csv --holdout b.csv --synthetic c.csv --metric privacy/copies --json

    manikin evaluate --train a.csv --holdout b.csv --synthetic c.csv --policy public

    manikin evaluate --train a.csv --holdout b.csv --synthetic c.csv --profile quick

    manikin evaluate --train train/ --holdout test/ --synthetic other/
    """
    columns = opt.roles(target, subject, time, event, sensitive, quasi)
    from manikin import pipeline  # after usage was found right: it is slow to import

    with watching(quiet=quiet or as_json) as watch:
        outcome = pipeline.evaluate(
            train=train, holdout=holdout, synthetic=synthetic, reference=reference, out=out,
            schema=schema, metrics=tuple(metrics) if metrics else None, profile=profile,
            policy=policy, seed=seed, minutes=minutes, sign=sign, who=who, overwrite=overwrite,
            watch=watch, links=tuple(links or ()), modality=modality, **columns,
        )  # fmt: skip
    end_with(outcome, quiet=quiet, as_json=as_json)


@command
def verify(
    release: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The directory of a release.", show_default=False),
    ],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Public key of the person who must have signed it."),
    ] = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Check that a release is what was sealed; name exactly what was altered, missing or added.

    Ends with exit code 6 if anything differs. Without --key a signature shows only that whoever
    holds the key named there sealed it.

    [bold]Examples[/bold]

    manikin verify manikin-release

    manikin verify manikin-release --key hospital.key.pub && echo untouched
    """
    from manikin.errors import IntegrityError
    from manikin.release import seal

    found = seal.verify(release, public_key=key)
    show_verification(found, release, quiet=quiet, as_json=as_json)
    if not found.ok:
        raise typer.Exit(IntegrityError.exit_status)
