"""The one road: read → audit → split → fit → sample → judge → release, and its parts alone.

Everything here is order and hand-over; the work is done in the rooms that it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from manikin import budgeted, catalogue, evaluating
from manikin.asking import AUTO, Maker
from manikin.errors import InputError, OutputError
from manikin.leaving import FOLDER, leave
from manikin.privacy.cells import SMALLEST_CELL
from manikin.road import (
    DEFAULT,
    Asked,
    Roles,
    make,
    name_of,
    never_drawn,
    open_source,
    plan_of,
)  # fmt: skip
from manikin.run import Deadline, Findings, Outcome, Run, begun
from manikin.sampling import Plan, draw, settle
from manikin.sources import Kind, Whom, kind_of, kind_of_all, refuse_of_histories, spare
from manikin.synthesizer import Drawn, Model, Synthesizer, Watch, report, silent

if TYPE_CHECKING:
    from manikin.adviser import Advice
    from manikin.auditor import Audit
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.io.tables import Source
    from manikin.privacy.domain import Discovery
    from manikin.release.policy import Policy

__all__ = ["Outcome", "Sampled", "audit", "evaluate", "fit", "sample", "synthesize"]

AUTO_SHARE, AUTO_MINUTES = 0.4, 2.0  # of the time that is given; without any limit


def audit(
    source: Any,
    *,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    links: Sequence[str] = (),
    modality: str | None = None,
) -> Audit:
    """Say whether a table is ready: what is missing, rare, identifying, duplicated, biased.

    Of a folder of linked tables also how they are linked, and which keys lead nowhere; of
    histories, what is odd about the events and their times.

    `source` is a file or a pandas, polars or Arrow frame, here and in every function below;
    `schema` a schema or its YAML file; the roles name columns.
    """
    from manikin import auditor

    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    if (kind := kind_of(source, links, modality=modality)) != "table":
        found: Audit = _road_of(kind).audit(source, schema, links, roles)
        return found
    return auditor.audit(open_source(source, schema, roles))


@dataclass(frozen=True)
class Sampled:
    """Where drawn rows stand (it can be used as their path), and what to know of them."""

    data: Path
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.data)


def fit(
    source: Any,
    *,
    out: str | Path | None = None,
    synthesizer: str | None = None, settings: Mapping[str, object] | None = None,
    remove_edges: str | Sequence[str] = (), fit_per: str | None = None,
    epsilon: float | None = None, delta: float | None = None, discover: float = 0.0,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None, subject: str | None = None,
    time: str | None = None, event: str | None = None,
    sensitive: Sequence[str] = (), quasi_identifiers: Sequence[str] = (),
    links: Sequence[str] = (), modality: str | None = None,
    seed: int = 0,
    minutes: float | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Model[Any]:  # fmt: skip
    """Fit a synthesizer to every row, and save the model to the file `out` if one is named.

    `source` may be a folder of linked tables (or a mapping of frames, or a Cohort); `links` then
    names keys, "admissions.patient_id=patients.patient_id", in place of those that are inferred. Or
    histories (OMOP, MEDS, FHIR, CDISC, Synthea), which are recognised unless `modality` says what
    it is. A fitted model knows more of its patients than a release does: keep it where they are
    kept, unless it was fitted under a budget. A fit that takes longer than `minutes` is stopped.
    `synthesizer`, `remove_edges`, `fit_per`, `epsilon`, `delta`, `discover` as in `synthesize`.
    """
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    budget = budgeted.budget_of(epsilon, delta)
    budgeted.check_evidence(budget, None)
    kind = kind_of(source, links, remove_edges, fit_per, modality)
    alone = kind == "cohort"
    budgeted.refuse_beside(budget, advised=synthesizer == AUTO, linked=alone, fit_per=fit_per)
    if kind != "table":
        of_several: Model[Any] = _road_of(kind).fit(
            source, out=out, synthesizer=synthesizer, settings=settings, schema=schema,
            links=links, roles=roles, budget=budget, seed=seed, deadline=Deadline(minutes),
            overwrite=overwrite, watch=watch,
        )  # fmt: skip
        return of_several
    discovery = budgeted.discovery_of(budget, discover)
    maker = Maker(synthesizer, settings, remove_edges, budget, fit_per).checked()
    watching = Deadline(minutes).strict(watch)
    spare(out, source, schema)
    with budgeted.restricting(budget):
        opened, (name, recipe) = _opened(source, schema, roles, maker, discovery)
        _enough(opened.table, name_of(source))
        if recipe is None:
            name = _advised(opened.table, minutes, seed, watch).best
            recipe = maker.around(name, catalogue.build(name))
        watching = budgeted.legible(budget, opened.table.schema, watching)
        model = recipe.fit(opened.table, seed=seed, watch=watching)
        if out is not None:
            _save(model, out, name, recipe, opened, overwrite)
    return model


def sample(
    model: Model[Any] | str | Path,
    *,
    n: int,
    out: str | Path,
    where: str = "",
    balance: str | None = None,
    enrich: str | Sequence[str] = (),
    having: Sequence[str] = (),
    after: Any = None,
    until: str = "365d",
    format: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Sampled:
    """Draw `n` subjects from a model or its file, straight to the file `out`; memory stays flat.

    `where` is a condition such as "sex=F,age>=65", `balance` a column of which every level comes
    equally often, `enrich` a level with the share of subjects that is to have it, such as
    "diagnosis=rare:0.3". The path is returned, with `notes` on what could not be drawn. Of a model
    of linked tables, `out` is a new folder. Of a model of histories, `having` says what each must
    have (a code, "visits>=5"), and `format` in which they are written; `after`, histories of one's
    own, are each continued `n` times for the span `until` in place of new ones.
    """
    from manikin.data.codes import EventSchema
    from manikin.data.links import CohortSchema
    from manikin.io import models, tables

    path = Path(out)
    spare(path, model)
    loaded = models.load(model) if isinstance(model, str | Path) else None
    fitted: Model[Any] = loaded.model if loaded is not None else cast("Model[Any]", model)
    if isinstance(fitted.schema, EventSchema | CohortSchema):
        extra = {} if loaded is None else loaded.extra
        _road_of("events" if isinstance(fitted.schema, EventSchema) else "cohort").sample(
            fitted, extra, n=n, out=path, whom=Whom(where, balance, enrich, having, after, until),
            format=format,
            overwrite=overwrite, seed=seed, watch=watch,
        )  # fmt: skip
        return Sampled(path)
    refuse_of_histories(having, () if after is None else ("after",))
    if path.exists() and not overwrite:
        raise OutputError(
            f"'{path.name}' exists", "a file that does not exist yet", "overwrite it, or rename"
        )
    layout = None if loaded is None else tables.layout_from_json(loaded.extra.get("layout"))
    plan = settle(fitted, plan_of(where, balance, fitted.schema, enrich), seed=seed)
    done = 0
    with tables.writer(path, layout, expected=n) as writer:
        for block in draw(fitted, n, plan, seed=seed):
            writer.write(block)
            done += block.n_subjects
            report(watch, done, n, "sampling")
    return Sampled(path, never_drawn(plan, cast("TableSchema", fitted.schema)))


def synthesize(
    source: Any,
    *,
    out: str | Path = "manikin-release",
    synthesizer: str | None = None, settings: Mapping[str, object] | None = None,
    remove_edges: str | Sequence[str] = (), fit_per: str | None = None,
    epsilon: float | None = None, delta: float | None = None,
    discover: float = 0.0, report_epsilon: float | None = None,
    n: int | None = None,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None, subject: str | None = None,
    time: str | None = None, event: str | None = None,
    sensitive: Sequence[str] = (), quasi_identifiers: Sequence[str] = (),
    where: str = "", balance: str | None = None, enrich: str | Sequence[str] = (),
    having: Sequence[str] = (),
    holdout: float = 0.3, split_by: str | None = None,
    accept: Sequence[str] = (),
    profile: str = "full", refits: int = 0,
    policy: Policy | str | Path | None = None,
    links: Sequence[str] = (), modality: str | None = None,
    also: Sequence[str] = (),
    seed: int = 0,
    minutes: float | None = None,
    sign: str | Path | None = None, who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Outcome:  # fmt: skip
    """Make a synthetic table from a real one and release it to the directory `out`.

    `source`, `links`, `modality` as in `fit`. The release holds data in the source's format, a
    report, a record and a seal. A share `holdout` of the subjects is never shown to the
    synthesizer: claims are measured on them; `split_by` names a column whose levels (sites) or
    latest values are held out instead. `n` subjects are drawn, by default as many as the source
    has; `where`, `balance`, `enrich`, `having` choose whom, as in `sample`; histories are written
    in the formats `also` too. After `minutes` no metric is begun and a fit is stopped. `accept`
    names audit findings that would stop it. `refits` of 3 or more fits as often again; `policy`: a
    shipped one, or a file. `synthesizer` "auto" takes the one that `advise` finds most realistic;
    edges in `remove_edges`, such as "sex->income", are learnt but not drawn along; `fit_per` names
    a column whose levels get a model each. Under `epsilon` (and `delta`) what may leave stands in a
    folder of its own; `discover` of it buys what the schema leaves out, `report_epsilon` a page on
    quality beside it.
    """
    asked = Asked(n, where, balance, holdout, tuple(accept), profile, refits, split_by,
                  (enrich,) if isinstance(enrich, str) else tuple(enrich), fit_per, epsilon,
                  delta, discover, report_epsilon, tuple(having), tuple(also))  # fmt: skip
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    of_run: dict[str, Any] = {"out": out, "seed": seed, "sign": sign, "who": who,
                              "overwrite": overwrite, "watch": watch, "policy": policy}  # fmt: skip
    maker = Maker(synthesizer, settings, remove_edges, asked.budget, fit_per)
    kind = kind_of(source, links, remove_edges, fit_per, modality)
    return _begun(source, kind, maker, schema, links, roles, asked, minutes, of_run)


def _begun(
    source: Any,
    kind: Kind,
    maker: Maker,
    schema: TableSchema | str | Path | None,
    links: Sequence[str],
    roles: Roles,
    asked: Asked,
    minutes: float | None,
    of_run: Mapping[str, Any],
) -> Outcome:
    budgeted.refuse_beside(asked.budget, advised=maker.name == AUTO, linked=kind == "cohort")
    if kind == "events":
        from manikin import histories

        return histories.synthesize(source, maker, schema, roles, asked, minutes, **of_run)
    refuse_of_histories(asked.having, asked.also)
    if kind == "cohort":
        from manikin import cohorts

        chosen = maker.name or DEFAULT, maker.settings
        return cohorts.synthesize(source, chosen, schema, links, roles, asked, minutes, **of_run)
    maker.checked()
    deadline = Deadline(minutes)
    with begun(**of_run) as run, budgeted.restricting(asked.budget):
        opened, (name, recipe) = _opened(source, schema, roles, maker, asked.discovery)
        # enough to run the recorded steps again, see replaying.py
        run.record.add("asked", {**asdict(asked), "synthesizer": name, **vars(roles)})
        return _released(run, source, opened, (maker, name, recipe), asked, deadline, minutes)


def _opened(
    source: Any,
    schema: TableSchema | str | Path | None,
    roles: Roles,
    maker: Maker,
    discovery: Discovery | None,
) -> tuple[Source, tuple[str, Synthesizer[Table] | None]]:
    """Read the source and return the recipe for it."""
    opened = open_source(
        source, schema, roles, unread=maker.budget is not None, discovery=discovery
    )
    return opened, maker.after(opened.bought).recipe(opened.table.schema)


def _released(
    run: Run,
    source: Any,
    opened: Source,
    made_by: tuple[Maker, str, Synthesizer[Table] | None],
    asked: Asked,
    deadline: Deadline,
    minutes: float | None,
) -> Outcome:
    """Audit → split → (choose) → fit → sample → judge → release."""
    from manikin.io.tables import suffix_of
    from manikin.privacy import domain

    found = run.audit(opened, asked.accept)
    schema = opened.table.schema
    plan = plan_of(asked.where, asked.balance, schema, asked.enrich)
    private = asked.budget is not None
    parts = run.split(opened.table, asked.holdout, asked.split_by, secret=private)
    n = opened.table.n_subjects if asked.n is None and not private else asked.n
    data = f"data{suffix_of(source)}"
    maker, name, recipe = made_by
    advised: dict[str, object] = {}
    if recipe is None:  # held-out subjects have no say in the choice
        chosen = _advised(parts[0], minutes, run.seed, run.watch, conditional=plan != Plan())
        run.record.add("advised", chosen.facts())
        name, recipe = chosen.best, maker.around(chosen.best, catalogue.build(chosen.best))
        advised = {"advised": chosen.facts()}
    made = make(
        run, name, recipe, parts, plan, asked, deadline, n=n, layout=opened.layout,
        data=f"{FOLDER}/{data}" if private else data,
    )  # fmt: skip
    said = {
        "source": name_of(source), "synthesizer": name, "recipe": vars(budgeted.bare(recipe)),
        "seed": run.seed, "n": made.n, "kind": made.kind, "where": asked.where,
        "balance": asked.balance, "holdout": asked.holdout, "split_by": asked.split_by or "",
        "enrich": ", ".join(asked.enrich), "accepted": asked.accept, **advised,
        "notes": (*(domain.told(schema) if private else ()), *made.notes),
        "levels_left_out": made.plan.left_out(schema),
        "fit_per": asked.fit_per or "", "per_group": [asdict(line) for line in made.per_group],
        "edited": None if made.edit is None else made.edit.facts(),
        **({"epsilon": asked.epsilon, "delta": asked.budget.delta} if asked.budget else {}),
    }  # fmt: skip
    graph = made.model.graph() if isinstance(made.model, Drawn) else None
    changed = opened.table if made.kind != "representative" else None
    statement = None
    if private:
        written = {"layout": asdict(opened.layout)}
        statement = leave(run, made, parts[1], (name, recipe), asked, written, data)
        data = f"{FOLDER}/{data}"
    return run.release(
        Findings(made.trial, made.judged, found, said, made.model.ledger, data, graph, changed,
                 statement=statement)
    )  # fmt: skip


def evaluate(
    *,
    train: Any,
    holdout: Any,
    synthetic: Any,
    reference: Any = None,
    out: str | Path = "manikin-evaluation",
    metrics: Sequence[str] | None = None,
    profile: str = "full",
    policy: Policy | str | Path | None = None,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    links: Sequence[str] = (),
    modality: str | None = None,
    seed: int = 0,
    minutes: float | None = None,
    sign: str | Path | None = None,
    who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Outcome:
    """Judge a synthetic table that any tool made, and write the report to the directory `out`.

    All may be folders of the same linked tables (mappings of frames, Cohorts), `links` as in `fit`,
    or histories in whatever formats.

    `train` are the rows it was made from, `holdout` real rows of other subjects that its maker
    never saw: without them a copy cannot be told from a good likeness. `reference` are real rows
    of further subjects that an attacker may hold; without them half of the holdout is taken for
    attacks. `metrics` names those to compute, by default all of the `profile`, "quick" or "full".
    `policy`, the name of a shipped one or a YAML file, is what the table is held to:
    `Outcome.policy` says how each gate was ruled.
    """
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    parts = {"train": train, "holdout": holdout, "synthetic": synthetic, "reference": reference}
    if reference is None:
        del parts["reference"]
    deadline = Deadline(minutes)
    of_run: dict[str, Any] = {"seed": seed, "sign": sign, "who": who, "overwrite": overwrite,
                              "watch": watch, "policy": policy}  # fmt: skip
    if (kind := kind_of_all(parts, links, modality)) != "table":
        judged: Outcome = _road_of(kind).evaluate(
            parts, out=out, metrics=metrics, profile=profile, schema=schema, links=links,
            roles=roles, deadline=deadline, **of_run,
        )  # fmt: skip
        return judged
    chosen = catalogue.metrics(catalogue.in_profile(profile) if metrics is None else tuple(metrics))
    with begun(out, **of_run) as run:
        depth = profile if metrics is None else "chosen"
        return evaluating.evaluated(run, parts, schema, roles, chosen, deadline, depth)


def _enough(table: Table, name: str) -> None:
    if table.n_subjects < SMALLEST_CELL:
        raise InputError(
            f"'{name}' has fewer than {SMALLEST_CELL} subjects",
            f"{SMALLEST_CELL} or more: a model of fewer would describe single people",
            "give more rows",
        )


def _save(
    model: Model[Any], out: str | Path, name: str, recipe: Synthesizer[Any], opened: Source,
    overwrite: bool,
) -> None:  # fmt: skip
    """Save a model with what its rows look like, and a keyed name of the rows it was fitted to."""
    from manikin.io import models
    from manikin.release.record import data_digest, key_name, owner_key

    key = owner_key()
    source = {"data": data_digest(opened.whole, key), "key": key_name(key)}
    models.save(model, out, synthesizer=name, recipe=recipe, overwrite=overwrite,
                extra={"layout": asdict(opened.layout), "source": source})  # fmt: skip


def _advised(
    table: Table, minutes: float | None, seed: int, watch: Watch, *, conditional: bool = False
) -> Advice:
    """Choose a synthesizer for these rows in its share of the time."""
    from manikin import adviser

    share = AUTO_MINUTES if minutes is None else AUTO_SHARE * minutes
    return adviser.choose(table, minutes=share, seed=seed, watch=watch, conditional=conditional)


def _road_of(kind: Kind) -> Any:
    """Return the module of the road that is not the one of single tables."""
    from manikin import cohorts, histories

    return histories if kind == "events" else cohorts
