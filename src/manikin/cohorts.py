"""The road of linked tables: read → audit → split → fit → sample → judge → release; evaluation.

What is judged of one table is judged of one row a subject: own columns, and of each table below the
number of its rows, the means of its numbers and its last values. Beside it stand the scores that
only linked tables have. Keys never enter; every file is written with new ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from manikin import catalogue
from manikin.data.cohort import Cohort
from manikin.data.flattening import flatten
from manikin.errors import InputError, NotSupported, OutputError
from manikin.privacy.cells import SMALLEST_CELL, hidden
from manikin.road import DEFAULT, FEWEST_ALIKE, Asked, Roles, name_of, plan_of
from manikin.run import BARRED, JUDGED, Deadline, Findings, Outcome, Run, begun, settled
from manikin.sampling import Plan, draw, select
from manikin.synthesizer import Model, Synthesizer, Watch, report

if TYPE_CHECKING:
    from manikin.auditor import Audit
    from manikin.data.table import Table
    from manikin.io.cohorts import Opened
    from manikin.io.layout import Layout
    from manikin.io.tables import Source
    from manikin.judging import Judged
    from manikin.metrics.score import Score, Trial
    from manikin.sources import Whom

__all__ = [
    "audit",
    "evaluate",
    "facts_of",
    "fit",
    "fit_and_draw",
    "open_linked",
    "recipe_of",
    "sample",
    "synthesize",
]

LINKED = "cohort/linked"
ONE_ROW = (
    "The data are linked tables. Scores of one table are of one row a subject: own columns, and of"
    " each table below the number of its rows, the means of its numbers and its last values."
)


def recipe_of(
    synthesizer: str, settings: Mapping[str, object] | None
) -> tuple[str, Synthesizer[Any]]:
    """Return the recipe of linked tables that was asked for, by its name.

    The name of a table synthesizer, and its settings, are those of the rows of every table.
    """
    if synthesizer.startswith("cohort/"):
        return synthesizer, catalogue.build(synthesizer, settings)
    if synthesizer == "auto":
        raise NotSupported(
            "a synthesizer of linked tables that is yet to be chosen",
            f"'{LINKED}', or the name of a table synthesizer that draws their rows",
            "name one",
        )
    given: dict[str, object] = {"table": synthesizer, "recipe": dict(settings or {})}
    return LINKED, catalogue.build(LINKED, given)


def fit(
    source: Any,
    *,
    out: str | Path | None,
    synthesizer: str | None,
    settings: Mapping[str, object] | None,
    schema: Any,
    links: Sequence[str],
    roles: Roles,
    budget: None,
    seed: int,
    deadline: Deadline,
    overwrite: bool,
    watch: Watch,
) -> Model[Any]:
    """Fit to every subject of linked tables, and save the model to `out` if it is named."""
    from manikin.io import cohorts, models

    name, recipe = recipe_of(synthesizer or DEFAULT, settings)
    opened = open_linked(source, schema, links, roles)
    if opened.cohort.n_subjects < SMALLEST_CELL:
        raise InputError(
            f"'{name_of(source)}' has fewer than {SMALLEST_CELL} subjects",
            f"{SMALLEST_CELL} or more: a model of fewer would describe single people",
            "give more",
        )
    model = recipe.fit(opened.cohort, seed=seed, watch=deadline.strict(watch))
    if out is not None:
        extra = {"files": cohorts.files_to_json(opened.files)}
        models.save(model, out, synthesizer=name, recipe=recipe, extra=extra, overwrite=overwrite)
    return model


def sample(
    model: Model[Any],
    extra: Mapping[str, Any],
    *,
    n: int,
    out: Path,
    whom: Whom,
    format: str | None,
    overwrite: bool,
    seed: int,
    watch: Watch,
) -> None:
    """Draw `n` subjects and all that hangs on them to files of the new folder `out`."""
    from manikin.io.cohorts import files_from_json, writer_of
    from manikin.release.staging import staged
    from manikin.sources import refuse_of_histories

    refuse_of_histories(whom.having, () if format is None else (format,))
    plan = plan_of(whom.where, whom.balance, model.schema, whom.enrich)
    written = files_from_json(extra.get("files"), tuple(model.schema.parts))  # type: ignore[attr-defined]
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            f"'{out.name}' exists", "a folder that does not exist yet: one file a table", "rename"
        )
    done = 0
    with staged(out) as aside, writer_of(aside, written, expected=n) as writer:
        for block in draw(model, n, plan, seed=seed):
            drawn = cast("Cohort", block)
            writer.write(drawn)
            done += drawn.n_subjects
            report(watch, done, n, "sampling")


def synthesize(
    source: Any,
    maker: tuple[str, Mapping[str, object] | None],
    schema: Any,
    links: Sequence[str],
    roles: Roles,
    asked: Asked,
    minutes: float | None,
    **of_run: Any,
) -> Outcome:
    """Make synthetic linked tables from real ones and release them to the directory `out`."""
    if asked.refits or asked.split_by is not None:
        raise NotSupported(
            "refits, or a split by a column, of linked tables",
            "one fit, and a random split by subject",
            "leave --refits and --split-by out",
        )
    name, recipe = recipe_of(*maker)
    deadline = Deadline(minutes)
    with begun(**of_run) as run:
        given = {"synthesizer": maker[0], **vars(roles), "links": list(links)}
        run.record.add("asked", {**dataclasses.asdict(asked), **given})
        opened = open_linked(source, schema, links, roles)
        found = _audited(run, opened, asked.accept)
        plan = plan_of(asked.where, asked.balance, opened.cohort.schema, asked.enrich)
        n = opened.cohort.n_subjects if asked.n is None else asked.n
        watching = deadline.strict(run.watch)
        (train, held), fitted, drawn = fit_and_draw(
            run, opened, (name, recipe), plan, n, asked.holdout, watching
        )
        trial, notes = _alike(train, held, drawn, plan, run.seed)
        flat, judged = _judged(run, trial, None, asked.profile, deadline)
        files = {
            file: opened.cohort.schema.parts[table] for table, (file, _) in opened.files.items()
        }
        root = opened.files[opened.cohort.schema.tree.root][0]
        said = {
            "source": name_of(source), "synthesizer": name,
            "recipe": dataclasses.asdict(recipe),  # type: ignore[call-overload]
            "seed": run.seed, "n": n, "kind": plan.label, "where": asked.where,
            "holdout": asked.holdout, "accepted": asked.accept,
            "notes": (ONE_ROW, *opened.linked.notes, *notes),
        }  # fmt: skip
        everyone = None if plan.label == "representative" else flatten(opened.cohort)
        return run.release(
            Findings(
                flat, judged, found, said, fitted.ledger, root, population=everyone, tables=files
            )
        )


def audit(source: Any, schema: Any, links: Sequence[str], roles: Roles) -> Audit:
    """Examine linked tables: each of them, how they are linked, and keys that lead nowhere.

    Where keys are so broken that no row can be found by them, each table is examined by itself.
    """
    from manikin.auditor.linked import audit_tables, key_findings, link_findings
    from manikin.io.cohorts import open_apart, open_cohort

    asked = _of_the_first(roles)
    apart = open_apart(source, links=links, schema=schema, **asked)
    wrong = key_findings(apart.keys, apart.found)
    if any(next(apart.keys.of_parent(link), None) for link in apart.found.links):
        more = (*wrong, *link_findings(None, apart.found, apart.names))
        tables = apart.read()
        first = tables[apart.found.tree.root].table
        return audit_tables(tables, apart.found.links, first.n_subjects, more)
    opened = open_cohort(source, links=links, schema=schema, dangling="keep", **asked)
    more = (*wrong, *link_findings(opened.cohort, apart.found, apart.names))
    return audit_tables(_seen(opened), apart.found.links, opened.cohort.n_subjects, more)


def evaluate(
    parts: Mapping[str, Any],
    *,
    out: str | Path,
    metrics: Sequence[str] | None,
    profile: str,
    schema: Any,
    links: Sequence[str],
    roles: Roles,
    deadline: Deadline,
    **of_run: Any,
) -> Outcome:
    """Judge synthetic linked tables that any tool made, as `synthesize` judges its own.

    `parts` are train, holdout, synthetic and, if there are any, reference. Synthetic rows whose key
    is no row's are judged, not refused.
    """
    from manikin.io.cohorts import open_cohorts
    from manikin.metrics.score import Trial

    names = None if metrics is None else tuple(metrics)
    catalogue.metrics(names)  # an unknown one is refused before anything is read
    catalogue.in_profile(profile)
    asked = _of_the_first(roles)
    with begun(out, **of_run) as run:
        opened = open_cohorts(parts, links=links, schema=schema, kept=("synthetic",), **asked)
        found = _audited(run, opened["train"], tuple(BARRED))
        sides = {side: one.cohort for side, one in opened.items()}
        real = [int(one.subjects.max(initial=-1)) for one in sides.values()]
        sides["synthetic"] = sides["synthetic"].renumbered(max(real) + 1)
        run.given({side: flatten(one, sides["train"]) for side, one in sides.items()})
        flat, judged = _judged(run, Trial(**sides), names, profile, deadline)
        said = {
            "source": name_of(parts["train"]), "synthetic": name_of(parts["synthetic"]),
            "seed": run.seed,
            "notes": (ONE_ROW, *opened["train"].linked.notes, *_first_of_all(flat, sides)),
        }  # fmt: skip
        return run.release(Findings(flat, judged, found, said, ()))


def _first_of_all(flat: Trial[Table], sides: Mapping[str, Cohort]) -> tuple[str, ...]:
    """Return what to know of tables from elsewhere before any number is read."""
    from manikin.io.together import strange
    from manikin.overlap import overlapping

    others = {"holdout": flat.holdout}
    if flat.reference is not None:
        others["reference"] = flat.reference
    told = list(overlapping(flat.train, others))
    synthetic = sides["synthetic"]
    for name, table in synthetic.parts.items():
        real = [sides[side].parts[name] for side in ("train", "holdout")]
        told += [f"{name}: {said}" for said in strange(table, real)]
    for name, above in synthetic.above.items():
        if lost := int((above < 0).sum()):
            told.append(
                f"{lost:,} of the {above.size:,} synthetic rows of '{name}' refer to no row that"
                " there is: they belong to nobody, and only referential integrity counts them."
            )
    return tuple(told)


# ------------------------------------------------------------------ steps


def _of_the_first(roles: Roles) -> dict[str, Any]:
    """Return the roles of columns of the first table. Raises InputError for a subject."""
    if roles.subject is not None:
        raise InputError(
            "a column that says whose row it is, for linked tables",
            "links: the first table has one row a subject",
            "name the link in its place (--link)",
        )
    return {role: value for role, value in vars(roles).items() if role != "subject"}


def fit_and_draw(
    run: Run,
    opened: Opened,
    maker: tuple[str, Synthesizer[Any]],
    plan: Plan,
    n: int,
    holdout: float,
    watch: Watch,
) -> tuple[tuple[Cohort, Cohort], Model[Any], Cohort]:
    """Split → fit → sample: the parts, the model and what was drawn to files of the release."""
    parts = cast("tuple[Cohort, Cohort]", run.split(cast("Any", opened.cohort), holdout))
    fitted = cast("Model[Any]", run.fit(*maker, cast("Any", parts[0]), watch))
    return parts, fitted, _sampled(run, fitted, n, plan, opened.files)


def open_linked(source: Any, schema: Any, links: Sequence[str], roles: Roles) -> Opened:
    """Read linked tables; roles are of columns of the first one."""
    from manikin.io.cohorts import open_cohort

    return open_cohort(source, links=links, schema=schema, **_of_the_first(roles))


def _audited(run: Run, opened: Opened, accept: Sequence[str]) -> Audit:
    """Examine every table. Raises as `Run.audit` does."""
    from manikin.auditor.linked import audit_tables

    report(run.watch, 0, None, "auditing")
    run.record.add("source", facts_of(opened.cohort, run.key))
    links, n = opened.cohort.schema.links, opened.cohort.n_subjects
    found = audit_tables(_seen(opened), links, n)
    settled(found, opened.cohort.n_subjects, accept)
    return found


def _seen(opened: Opened) -> dict[str, Source]:
    """Return the tables as the audit takes them."""
    from manikin.auditor.linked import with_subject
    from manikin.io.tables import Source

    cohort, cells = opened.cohort, opened.linked.cells
    return {
        name: Source(with_subject(cohort, name), opened.files[name][1], cells[name])
        for name in cohort.parts
    }


def facts_of(cohort: Cohort, key: bytes) -> dict[str, Any]:
    """Return the content of the event `source`: sizes, links and keyed digests, never a value."""
    from manikin.release.record import source_facts

    tables = {name: source_facts(table, key) for name, table in cohort.parts.items()}
    whole = hmac.new(key, b"manikin cohort", hashlib.sha256)
    for name, facts in tables.items():
        whole.update(f"{name}|{facts['schema']}|{facts['data']}|".encode())
        whole.update(np.ascontiguousarray(cohort.above.get(name, np.zeros(0)), "<i8").tobytes())
    first = tables[cohort.schema.tree.root]
    return {
        **first,
        "data": "hmac-sha256:" + whole.hexdigest(),
        "declared": cohort.schema.declared,
        "rows": cohort.n_rows,
        "columns": sum(int(facts["columns"]) for facts in tables.values()),
        "tables": {name: {"schema": facts["schema"], "data": facts["data"],
                          "rows": None if hidden(facts["rows"]) else facts["rows"]}
                   for name, facts in tables.items()},
        "links": [str(link) for link in cohort.schema.links],
    }  # fmt: skip


def _sampled(
    run: Run, model: Model[Any], n: int, plan: Plan, files: Mapping[str, tuple[str, Layout]]
) -> Cohort:
    """Write `n` subjects to the files of the release and return as many as are judged."""
    from manikin.io.cohorts import writer_of
    from manikin.knowledge.conditions import describe

    kept: list[Cohort] = []
    done = 0
    with writer_of(run.aside, files, expected=n) as writer:
        for block in draw(model, n, plan, seed=run.seed):
            drawn = cast("Cohort", block)
            writer.write(drawn)
            if not kept or done < JUDGED:
                kept.append(drawn.renumbered(done))
            done += drawn.n_subjects
            report(run.watch, done, n, "sampling")
    where = [describe(condition) for condition in plan.where]
    run.record.add(
        "sampled",
        {"subjects": n, "seed": run.seed, "kind": plan.label, "where": where, "balance": None},
    )
    return Cohort.concatenate(kept)


def _alike(
    train: Cohort, held: Cohort, drawn: Cohort, plan: Plan, seed: int
) -> tuple[Trial[Cohort], tuple[str, ...]]:
    """Return the trial with the real subjects whom the drawn ones are like, and what was done."""
    from manikin.metrics.score import Trial

    if plan.label == "representative":
        return Trial(train, held, drawn), ()
    alike = [part.take(select(part.root, plan, seed=seed).subjects) for part in (train, held)]
    if min(part.n_subjects for part in alike) < FEWEST_ALIKE:
        return Trial(train, held, drawn), (
            f"The data are {plan.label}, but fewer than {FEWEST_ALIKE} held-out subjects are like"
            " them: they were compared with all, and differences are to be expected.",
        )
    return Trial(alike[0], alike[1], drawn), (
        f"The data are {plan.label}: they were compared with the real subjects who are so too."
        " They do not show how common anything is.",
    )


def _judged(
    run: Run, trial: Trial[Cohort], chosen: tuple[str, ...] | None, profile: str, deadline: Deadline
) -> tuple[Trial[Table], Judged]:
    """Score one row a subject by the metrics of tables, and the tables by those of linked ones.

    By those `chosen`, or by all of the profile.
    """
    from manikin.judging import judge_all
    from manikin.metrics.score import Trial

    train, held, drawn = (
        flatten(part, trial.train) for part in (trial.train, trial.holdout, trial.synthetic)
    )
    more = None if trial.reference is None else flatten(trial.reference, trial.train)
    flat = Trial(train, held, drawn, more)
    if chosen is None:
        names, of_one = (catalogue.in_profile(profile, what) for what in ("cohort", "table"))
    else:
        cards, profile = catalogue.cards(), "chosen"
        names = tuple(name for name in chosen if cards[name].modality == "cohort")
        of_one = tuple(name for name in chosen if name not in names)
    linked: tuple[Score, ...] = judge_all(
        cast("Any", trial), catalogue.metrics(names), seed=run.seed, watch=run.watch,
        over=lambda: deadline.over,
    ).scores  # fmt: skip
    metrics = catalogue.metrics(of_one)
    return flat, run.judge(flat, metrics, deadline, profile, linked=linked)
