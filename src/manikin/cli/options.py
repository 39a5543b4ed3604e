"""The options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "Accept",
    "Also",
    "AsJson",
    "Balance",
    "Data",
    "DataOrFolder",
    "Delta",
    "Enrich",
    "Epsilon",
    "Event",
    "FitPer",
    "Having",
    "HeldOut",
    "Links",
    "Metrics",
    "Minutes",
    "Modality",
    "Overwrite",
    "PolicyName",
    "Profile",
    "Quasi",
    "Quiet",
    "Reference",
    "Refits",
    "ReleaseFolder",
    "RemoveEdge",
    "ReportEpsilon",
    "SchemaFile",
    "Seed",
    "Sensitive",
    "Settings",
    "Share",
    "Sign",
    "SplitBy",
    "Subject",
    "Subjects",
    "SynthesizerName",
    "Synthetic",
    "TableFile",
    "Target",
    "Time",
    "Train",
    "Where",
    "Who",
    "roles",
    "settings",
]

ROLES = "Columns and their roles"
RECIPE = "Synthesizer"
PRIVACY = "Privacy"
OUTPUT = "Output"

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="The real table: CSV, TSV, Parquet or Excel.",
        show_default=False,
    ),
]
DataOrFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="The real table: CSV, TSV, Parquet or Excel; a folder of tables linked by keys; or "
        "histories: OMOP, MEDS, FHIR, CDISC, Synthea.",
        show_default=False,
    ),
]
Links = Annotated[
    list[str] | None,
    typer.Option(
        "--link",
        metavar="CHILD.COLUMN=PARENT.KEY",
        rich_help_panel=ROLES,
        help="A key between tables of a folder, in place of the inferred one; repeat it.",
    ),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        rich_help_panel=ROLES,
        help="Schema file (YAML) in place of inference; 'manikin schema' writes one.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", rich_help_panel=ROLES, help="The outcome analyses predict."),
]
Subject = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        rich_help_panel=ROLES,
        help="Whose row it is; give it where a person has several rows.",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", rich_help_panel=ROLES, help="Follow-up until event or censoring."
    ),
]
Event = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", rich_help_panel=ROLES, help="Whether (or which) event ended follow-up."
    ),
]
Sensitive = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        rich_help_panel=ROLES,
        help="Group to report apart (sex, ethnicity); repeat it or list with commas.",
    ),
]
Quasi = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        rich_help_panel=ROLES,
        help="What an outsider may know (age, postcode); repeat it or list with commas.",
    ),
]
Train = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="The real rows the synthetic ones were made from; or a folder.",
    ),
]
HeldOut = Annotated[
    Path, typer.Option(metavar="FILE", help="Real rows that the generator never saw.")
]
Synthetic = Annotated[
    Path, typer.Option(metavar="FILE", help="The synthetic rows, from whatever tool.")
]
Reference = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Real rows of further subjects that an attacker may hold; else half of the holdout.",
    ),
]
Profile = Annotated[
    Literal["quick", "full"],
    typer.Option(help="Which metrics: quick, a first look in seconds, or full, all of them."),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME|FILE",
        help="Hold it to a policy: public, controlled, internal, or a YAML file. Exit code 9 where"
        " a gate fails, 10 where it cannot be told.",
    ),
]
Refits = Annotated[
    int,
    typer.Option(
        metavar="NUMBER",
        min=0,
        help="Fit so often again (3 or more), widen intervals by how much fits differ, and attack "
        "with shadow fits.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME", help="Only this metric; repeat it. See 'manikin list'."
    ),
]
Subjects = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Synthetic subjects; as many as real ones if not given."),
]
Share = Annotated[
    float,
    typer.Option(
        "--holdout",
        min=0.05,
        max=0.9,
        help="Share of real subjects kept aside to judge the result with.",
    ),
]
SplitBy = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Hold out whole sites (levels of COLUMN), or its latest dates, instead of at random.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TOPIC",
        help="Release although the audit says stop: identifying, subjects or header; repeat it.",
    ),
]
SynthesizerName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=RECIPE,
        help="Which generator; see 'manikin list'. auto: the most realistic by 'manikin advise'. "
        "If none is named: table/seqtree; with --epsilon table/aim, or table/mst above 60 columns.",
        show_default=False,
    ),
]
Epsilon = Annotated[
    float | None,
    typer.Option(
        metavar="ε",
        rich_help_panel=PRIVACY,
        help="Guarantee differential privacy of each subject with this ε: 1 or 3; needs --schema.",
        show_default=False,
    ),
]
Delta = Annotated[
    float | None,
    typer.Option(
        metavar="δ",
        rich_help_panel=PRIVACY,
        help="And this δ, below one by the number of people who could be in the table; else 1e-6.",
        show_default=False,
    ),
]
Discover = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        rich_help_panel=PRIVACY,
        help="Of ε, such as 0.1: buys ranges of numbers and dates, and levels of categories, that"
        " the schema leaves out.",
        show_default=False,
    ),
]
ReportEpsilon = Annotated[
    float | None,
    typer.Option(
        metavar="ε",
        rich_help_panel=PRIVACY,
        help="And buy, for this ε more, a page on how good the data are that may leave with them.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        rich_help_panel=RECIPE,
        help="One of its settings; repeat it. See 'manikin list NAME'.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(rich_help_panel=RECIPE, help="Same seed, same data: same bytes."),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0.0, rich_help_panel=RECIPE, help="Stop a fit that takes longer; begin no metric later."
    ),
]
Where = Annotated[
    str,
    typer.Option(
        metavar="CONDITIONS",
        help='Only such subjects: "sex=F,age>=65".',
        show_default=False,
    ),
]
Having = Annotated[
    list[str] | None,
    typer.Option(
        "--having",
        metavar="CODE",
        help="Of histories: only those that have this event, or visits>=5, events<=100; repeat it.",
        show_default=False,
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        metavar="FORMAT",
        rich_help_panel=OUTPUT,
        help="Of histories: write them in this format too (omop, meds, fhir, cdisc, long).",
        show_default=False,
    ),
]
Modality = Annotated[
    Literal["table", "cohort", "events"] | None,
    typer.Option(
        rich_help_panel=ROLES,
        help="What DATA is, where its look misleads: one table, linked tables, or histories.",
        show_default=False,
    ),
]
Balance = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Equally many subjects of each of its levels."),
]
Enrich = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=LEVEL:SHARE",
        help="Such a share of the subjects has this level: diagnosis=rare:0.3; repeat it.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace an earlier output."),
]
Sign = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY",
        rich_help_panel=OUTPUT,
        help="Sign the release with this Ed25519 key; 'manikin keygen' makes one.",
    ),
]
Who = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=OUTPUT, help="Person or office to name in the record."
    ),
]
RemoveEdge = Annotated[
    list[str] | None,
    typer.Option(
        "--remove-edge",
        metavar="A->B",
        rich_help_panel=RECIPE,
        help="Draw B as if A were anybody's (quote it; table/bayes_net); repeat it.",
        show_default=False,
    ),
]
FitPer = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        rich_help_panel=RECIPE,
        help="A model for each of its levels; levels of fewer than 50 subjects share one.",
    ),
]
TableFile = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        help="The table; its suffix is its format.",
        show_default=False,
    ),
]
ReleaseFolder = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", rich_help_panel=OUTPUT, help="Directory of the release."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Print errors only."),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", rich_help_panel=OUTPUT, help="Print JSON on standard output, nothing else there."
    ),
]


def roles(
    target: str | None,
    subject: str | None,
    time: str | None,
    event: str | None,
    sensitive: list[str] | None,
    quasi: list[str] | None,
) -> dict[str, Any]:
    """Return the roles as keywords of the pipeline. Raises BadParameter where two exclude."""
    single = {"target": target, "subject": subject, "time": time, "event": event}
    held: dict[str, str] = {}
    for role, column in single.items():
        if column is None:
            continue
        other = held.setdefault(column, role)
        if other != role and {other, role} != {"target", "event"}:
            raise typer.BadParameter(
                f"--{other} and --{role} name the same column; a column holds one of them"
            )
    listed = {"sensitive": _columns(sensitive), "quasi_identifiers": _columns(quasi)}
    if subject is not None and subject in (*listed["sensitive"], *listed["quasi_identifiers"]):
        raise typer.BadParameter("the --subject column cannot also be --sensitive or --quasi")
    return {**single, **listed}


def _columns(given: list[str] | None) -> tuple[str, ...]:
    parts = [part.strip() for entry in given or () for part in entry.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def settings(given: list[str] | None) -> dict[str, str]:
    """Read `--set field=value` pairs. Raises BadParameter for one without '=' or given twice."""
    found: dict[str, str] = {}
    for pair in given or ():
        field, equals, value = pair.partition("=")
        field = field.strip().replace("-", "_")
        if not equals or not field:
            raise typer.BadParameter("--set takes FIELD=VALUE, as in --set trees=20")
        if field in found:
            raise typer.BadParameter(f"--set gives the field '{field}' twice")
        found[field] = value.strip()
    return found
