"""Steps of the road that `synthesize` and `compare` share, between the run and its callers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manikin import budgeted, catalogue
from manikin.asking import DEFAULT
from manikin.errors import ConditionError, InputError, NotSupported, PrivacyError
from manikin.refits import Again, check_refits
from manikin.run import BARRED, Deadline, Run
from manikin.sampling import Plan, parse_enrich, select, settle
from manikin.synthesizer import Model, Noted, Synthesizer

if TYPE_CHECKING:
    from manikin.data.dataset import Schema
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.editing import Edit
    from manikin.io.tables import Layout, Source
    from manikin.judging import Judged
    from manikin.metrics.per_group import GroupLine
    from manikin.metrics.score import Metric, Score, Trial
    from manikin.privacy.budget import Budget
    from manikin.privacy.domain import Discovery

__all__ = [
    "DEFAULT", "Asked", "Made", "Roles", "make", "name_of", "never_drawn", "open_source",
    "plan_of", "schema_of",
]  # fmt: skip

AFFORDABLE = 5_000  # training rows up to which every privacy metric is scored on every refit
FEWEST_ALIKE = 30  # held-out subjects that conditioned rows are compared with at least


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are for, as far as its schema does not say."""

    target: str | None = None  # the outcome that analyses predict
    subject: str | None = None  # whose row it is
    time: str | None = None  # follow-up until event or censoring
    event: str | None = None  # whether (or which) event ended it
    sensitive: tuple[str, ...] = ()
    quasi_identifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked as far as it can be before the data are read."""

    n: int | None = None
    where: str = ""
    balance: str | None = None
    holdout: float = 0.3
    accept: tuple[str, ...] = ()
    profile: str = "full"
    refits: int = 0
    split_by: str | None = None
    enrich: tuple[str, ...] = ()
    fit_per: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    discover: float = 0.0  # share of the budget that buys what the schema leaves open
    report_epsilon: float | None = None
    having: tuple[str, ...] = ()  # of histories: what each must have
    also: tuple[str, ...] = ()  # and formats in which they are written beside the source's own

    @property
    def budget(self) -> Budget | None:
        """What the fit may spend of privacy, None for no such promise."""
        return budgeted.budget_of(self.epsilon, self.delta)

    @property
    def discovery(self) -> Discovery | None:
        """What may be spent on what the schema leaves open, None for nothing."""
        return budgeted.discovery_of(self.budget, self.discover)

    @property
    def report_budget(self) -> Budget | None:
        """What a page of quality that may leave may spend beside it, None for no such page."""
        return budgeted.report_budget_of(self.report_epsilon, self.budget)

    def __post_init__(self) -> None:
        budgeted.discovery_of(self.budget, self.discover)
        budgeted.check_evidence(self.budget, self.refits, self.report_budget)
        budgeted.refuse_beside(self.budget, fit_per=self.fit_per, split_by=self.split_by)
        _check_accepted(self.accept)
        check_refits(self.refits)
        catalogue.in_profile(self.profile)


@dataclass(frozen=True)
class Made:
    """One synthesizer's model, its rows beside the real ones, and what the judge said."""

    model: Model[Table]
    trial: Trial[Table]
    judged: Judged
    n: int
    notes: tuple[str, ...]
    plan: Plan  # with the levels that the model can draw
    edit: Edit | None = None  # edges that were taken out of the model
    per_group: tuple[GroupLine, ...] = ()  # one model for all against one for each group

    @property
    def kind(self) -> str:
        """Return what the drawn data may be called."""
        return "mitigated" if self.edit is not None else self.plan.label


def make(
    run: Run,
    name: str,
    recipe: Synthesizer[Table],
    parts: tuple[Table, Table],
    plan: Plan,
    asked: Asked,
    deadline: Deadline,
    *,
    n: int | None,
    data: str | None,
    layout: Layout,
) -> Made:
    """Fit → sample → judge: one synthesizer on the training and held-out `parts`.

    `data` names the file of the rows, None for none; `n` of None is what a model under a budget
    has for the number of subjects.
    """
    from manikin.data.table import Table
    from manikin.metrics.score import Trial

    train, held = parts
    watch = budgeted.legible(asked.budget, train.schema, deadline.strict(run.watch))
    model = run.fit(name, recipe, train, watch)
    n = budgeted.size_of(model, asked.holdout) if n is None else n
    grouped = run.per_group(model, recipe, parts, deadline.strict(run.watch))
    changed = run.edited(model, Table.concatenate([train, held]))
    plan = settle(model, plan, seed=run.seed)
    drawn = run.sample(model, n, plan, data, layout)
    whole = Trial(train, held, drawn)
    trial, notes = _compared(whole, plan, run.seed)
    notes = (*never_drawn(plan, train.schema), *notes)
    if changed is not None:
        notes = (*changed.notes, *notes)
    if isinstance(model, Noted):
        notes = (*model.notes, *notes)
    if asked.split_by is not None:
        notes = (*notes, _APART.format(asked.split_by))
    refits = None
    shadow: tuple[Score, ...] = ()
    if asked.refits:
        again = Again(
            recipe, whole, drawn.n_subjects, plan, _repeated(asked.profile, train),
            lambda one: _compared(one, plan, run.seed)[0], run.seed, asked.split_by is not None,
        )  # fmt: skip
        refits = run.fit_again(again, asked.refits, deadline)
        shadow = run.shadow(again, asked.refits, deadline)
    metrics = catalogue.metrics(catalogue.in_profile(asked.profile))
    judged = run.judge(trial, metrics, deadline, asked.profile, refits, shadow)
    return Made(model, trial, judged, n, notes, plan, changed, grouped)


_APART = (
    "Those held out differ from those trained on by '{}', not by chance alone. Likeness and use"
    " are judged on others than were learned from; attacks may mistake that difference for"
    " membership, so take what they say from a run with a random split."
)


def _repeated(profile: str, train: Table) -> dict[str, Metric[Any]]:
    """Return the metrics that are scored on every refit: the quick, and privacy if affordable."""
    names = set(catalogue.in_profile("quick"))
    if profile == "full" and train.n_rows <= AFFORDABLE:
        names |= {name for name in catalogue.metric_names() if name.startswith("privacy/")}
    return catalogue.metrics(tuple(sorted(names)))


def name_of(source: Any) -> str:
    """Return what a report may call the source: a file's name without its folders."""
    return Path(source).name if isinstance(source, str | Path) else "a table in memory"


def open_source(
    source: Any,
    schema: TableSchema | str | Path | None,
    roles: Roles,
    *,
    unread: bool = False,
    discovery: Discovery | None = None,
) -> Source:
    """Read the source under a schema and roles; a table that was read already stays as it is.

    `unread`: nothing that only cells tell may be added to the schema, as under a budget; but for
    what a `discovery` pays for.
    """
    from manikin.data.table import Table
    from manikin.io.cohorts import refuse_cohort
    from manikin.io.histories import refuse_history
    from manikin.io.tables import Layout, Source, open_table

    refuse_history(source)
    refuse_cohort(source)
    if isinstance(source, Table) and unread:
        raise PrivacyError(
            "a privacy budget, and a Table that was read before, to whose schema"
            " cells may have added",
            "the file or frame, with a schema that a person declared",
            "give these in place of the Table",
        )
    if isinstance(source, Table):
        return Source(source, Layout(format="frame"), source.to_polars())
    return open_table(
        source, schema=schema_of(schema), **vars(roles), unread=unread, discovery=discovery
    )


def schema_of(schema: TableSchema | str | Path | None) -> TableSchema | None:
    """Return a schema given as such or as a YAML file."""
    from manikin.io.schema_file import read_schema

    return read_schema(schema) if isinstance(schema, str | Path) else schema


def _check_accepted(topics: Sequence[str]) -> None:
    if unknown := sorted(set(topics) - BARRED):
        raise InputError(
            f"findings accepted that stop nothing: {', '.join(unknown)}",
            f"topics are: {', '.join(sorted(BARRED))}",
            "correct the topic",
        )


def plan_of(
    where: str, balance: str | None, schema: Schema, enrich: str | Sequence[str] = ()
) -> Plan:
    """Return whom to draw. Raises ConditionError for what the schema has no place for."""
    from manikin.data.codes import EventSchema
    from manikin.data.links import CohortSchema
    from manikin.data.schema import TableSchema
    from manikin.knowledge.conditions import parse_conditions

    if isinstance(schema, EventSchema):  # whom to draw is told by what is told once
        schema = schema.static
    if isinstance(schema, CohortSchema):  # whom to draw is told by the table of patients
        schema = schema.parts[schema.tree.root]
        if balance is not None or enrich:
            raise NotSupported(
                "a balance or shares of levels, of linked tables",
                "conditions on patients (--where)",
                "draw each level with --where, or the table of patients by itself",
            )
    if not isinstance(schema, TableSchema):
        raise NotSupported("a model of another modality", "a model of tables", "fit one")
    wishes = parse_enrich([enrich] if isinstance(enrich, str) else enrich, schema)
    if wishes and balance is not None:
        raise ConditionError(
            "a balance and shares of levels at once",
            "one of them: equally many of each level, or a share of some",
            "leave --balance or --enrich out",
        )
    plan = Plan(parse_conditions(where, schema) if where.strip() else (), balance, wishes)
    plan.levels(schema)
    return plan


def never_drawn(plan: Plan, schema: TableSchema) -> tuple[str, ...]:
    """Say that a balance leaves levels out. Not which: few real subjects have them."""
    if not (left := plan.left_out(schema)):
        return ()
    return (
        f"{left} of the {len(plan.levels(schema))} levels of '{plan.balance}' "
        + ("is" if left == 1 else "are")
        + " never drawn, since too few training subjects have"
        + (" it" if left == 1 else " them")
        + ": the balance is over the others.",
    )


def _compared(trial: Trial[Table], plan: Plan, seed: int) -> tuple[Trial[Table], tuple[str, ...]]:
    """Return the trial with the real rows that the drawn ones are like, and what was done."""
    if plan.label == "representative":
        return trial, ()
    train = select(trial.train, plan, seed=seed)
    held = select(trial.holdout, plan, seed=seed)
    if held.n_subjects < FEWEST_ALIKE or train.n_subjects < FEWEST_ALIKE:
        return trial, (
            f"The data are {plan.label}, but fewer than {FEWEST_ALIKE} held-out subjects are like"
            " them: they were compared with all, and differences are to be expected.",
        )
    return replace(trial, train=train, holdout=held), (
        f"The data are {plan.label}: they were compared with the real subjects who are so too."
        " They do not show how common anything is.",
    )
