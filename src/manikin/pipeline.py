"""The one road: read → audit → split → fit → sample → judge → release, and its parts alone.

Everything here is order and hand-over; the work is done in the rooms that it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from manikin import catalogue, evaluating
from manikin.editing import FIELD, settings_without
from manikin.errors import InputError, NotSupported, OutputError
from manikin.grouped import PerGroup
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
from manikin.synthesizer import Drawn, Model, Synthesizer, Watch, report, silent

if TYPE_CHECKING:
    from manikin.adviser import Advice
    from manikin.auditor import Audit
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.io.tables import Source
    from manikin.release.policy import Policy

__all__ = ["Outcome", "Sampled", "audit", "evaluate", "fit", "sample", "synthesize"]

AUTO = "auto"  # in place of a synthesizer's name: take the one that is advised
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
) -> Audit:
    """Say whether a table is ready: what is missing, rare, identifying, duplicated, biased.

    Of a folder of linked tables also how they are linked, and which keys lead nowhere.

    `source` is a file or a pandas, polars or Arrow frame, here and in every function below;
    `schema` a schema or its YAML file; the roles name columns.
    """
    from manikin import auditor

    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    if _is_linked(source, links, (), None):
        from manikin import cohorts

        return cohorts.audit(source, schema, links, roles)
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
    synthesizer: str = DEFAULT,
    settings: Mapping[str, object] | None = None,
    remove_edges: str | Sequence[str] = (),
    fit_per: str | None = None,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    links: Sequence[str] = (),
    seed: int = 0,
    minutes: float | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Model[Any]:
    """Fit a synthesizer to every row, and save the model to the file `out` if one is named.

    `source` may be a folder of linked tables (or a mapping of frames, or a Cohort); `links` then
    names keys, "admissions.patient_id=patients.patient_id", in place of those that are inferred.

    A fitted model knows more of its patients than a release does: keep it where they are kept.
    A fit that takes longer than `minutes` is stopped. `synthesizer` "auto" takes the one that
    `advise` finds most realistic. `remove_edges` and `fit_per` as in `synthesize`.
    """
    from manikin.io import models

    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    if _is_linked(source, links, remove_edges, fit_per):
        from manikin import cohorts

        return cohorts.fit(
            source, out=out, synthesizer=synthesizer, settings=settings, schema=schema,
            links=links, roles=roles, seed=seed, deadline=Deadline(minutes), overwrite=overwrite,
            watch=watch,
        )  # fmt: skip
    recipe = _recipe(synthesizer, settings_without(synthesizer, settings, remove_edges))
    watching = Deadline(minutes).strict(watch)
    _spare(out, source, schema)
    opened = open_source(source, schema, roles)
    if opened.table.n_subjects < SMALLEST_CELL:
        raise InputError(
            f"'{name_of(source)}' has fewer than {SMALLEST_CELL} subjects",
            f"{SMALLEST_CELL} or more: a model of fewer would describe single people",
            "give more rows",
        )
    if recipe is None:
        chosen = _advised(opened.table, minutes, seed, watch)
        synthesizer, recipe = chosen.best, catalogue.build(chosen.best)
    recipe = _per(recipe, fit_per)
    model = recipe.fit(opened.table, seed=seed, watch=watching)
    if out is not None:
        models.save(model, out, synthesizer=synthesizer, recipe=recipe, overwrite=overwrite,
                    extra={"layout": asdict(opened.layout)})  # fmt: skip
    return model


def sample(
    model: Model[Any] | str | Path,
    *,
    n: int,
    out: str | Path,
    where: str = "",
    balance: str | None = None,
    enrich: str | Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Sampled:
    """Draw `n` subjects from a model or its file, straight to the file `out`; memory stays flat.

    `where` is a condition such as "sex=F,age>=65", `balance` a column of which every level comes
    equally often, `enrich` a level with the share of subjects that is to have it, such as
    "diagnosis=rare:0.3". The path is returned, with `notes` on what could not be drawn. Of a model
    of linked tables, `out` is a new folder.
    """
    from manikin.data.links import CohortSchema
    from manikin.io import models, tables

    path = Path(out)
    _spare(path, model)
    loaded = models.load(model) if isinstance(model, str | Path) else None
    fitted: Model[Any] = loaded.model if loaded is not None else cast("Model[Any]", model)
    if isinstance(fitted.schema, CohortSchema):
        from manikin import cohorts

        files = None if loaded is None else loaded.extra.get("files")
        whom = {"where": where, "balance": balance, "enrich": enrich}
        cohorts.sample(fitted, files, n=n, out=path, whom=whom, seed=seed, watch=watch)
        return Sampled(path)
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
    synthesizer: str = DEFAULT,
    settings: Mapping[str, object] | None = None,
    remove_edges: str | Sequence[str] = (),
    fit_per: str | None = None,
    n: int | None = None,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    where: str = "",
    balance: str | None = None,
    enrich: str | Sequence[str] = (),
    holdout: float = 0.3,
    split_by: str | None = None,
    accept: Sequence[str] = (),
    profile: str = "full",
    refits: int = 0,
    policy: Policy | str | Path | None = None,
    links: Sequence[str] = (),
    seed: int = 0,
    minutes: float | None = None,
    sign: str | Path | None = None,
    who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Outcome:
    """Make a synthetic table from a real one and release it to the directory `out`.

    `source` may be a folder of linked tables and `links` name their keys, as in `fit`.

    The release holds the data in the source's format, a report, a record and a seal. A share
    `holdout` of the subjects is never shown to the synthesizer: what is claimed is measured on
    them; `split_by` names a column whose levels (sites) are held out whole, or of which the latest
    values are. `n` subjects are drawn, by default as many as the source has; `where`, `balance` and
    `enrich` choose whom, as in `sample`. After `minutes` no new metric is begun, and a fit that
    still runs is stopped. `sign` is an Ed25519 private key file; `who` the maker that the record
    names. `accept` names topics of audit findings that would otherwise stop it with a PrivacyError.
    `profile` "quick" runs the cheap metrics only. `refits` of 3 or more fits as many times again,
    and widens their intervals. `policy`, the name of a shipped one or a YAML file, is what the
    release is held to: `Outcome.policy` says how each gate was ruled; one that fails is written
    too. `synthesizer` "auto" takes the one that `advise` finds most realistic for the training
    subjects. `remove_edges`, such as "sex->income", are learnt and then not drawn along
    (table/bayes_net). `fit_per` names a column whose levels get a model each, if enough have them.
    """
    asked = Asked(n, where, balance, holdout, tuple(accept), profile, refits, split_by,
                  (enrich,) if isinstance(enrich, str) else tuple(enrich), fit_per)  # fmt: skip
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    of_run = {"out": out, "seed": seed, "sign": sign, "who": who, "overwrite": overwrite,
              "watch": watch, "policy": policy}  # fmt: skip
    maker = _Maker(synthesizer, settings, remove_edges)
    return _begun(source, maker, schema, links, roles, asked, minutes, of_run)


@dataclass(frozen=True)
class _Maker:
    """The synthesizer that was asked for."""

    name: str
    settings: Mapping[str, object] | None
    remove_edges: Sequence[str]

    def recipe(self) -> Synthesizer[Table] | None:
        """Return the recipe, None for one that is yet to be chosen."""
        return _recipe(self.name, settings_without(self.name, self.settings, self.remove_edges))


def _begun(
    source: Any,
    maker: _Maker,
    schema: TableSchema | str | Path | None,
    links: Sequence[str],
    roles: Roles,
    asked: Asked,
    minutes: float | None,
    of_run: Mapping[str, Any],
) -> Outcome:
    if _is_linked(source, links, maker.remove_edges, asked.fit_per):
        from manikin import cohorts

        chosen = maker.name, maker.settings
        return cohorts.synthesize(source, chosen, schema, links, roles, asked, minutes, **of_run)
    recipe, deadline = maker.recipe(), Deadline(minutes)
    with begun(**of_run) as run:
        # enough to run the recorded steps again, see replaying.py
        run.record.add("asked", {**asdict(asked), "synthesizer": maker.name, **vars(roles)})
        opened = open_source(source, schema, roles)
        return _released(run, source, opened, (maker.name, recipe), asked, deadline, minutes)


def _released(
    run: Run,
    source: Any,
    opened: Source,
    asked_for: tuple[str, Synthesizer[Table] | None],
    asked: Asked,
    deadline: Deadline,
    minutes: float | None,
) -> Outcome:
    """Audit → split → (choose) → fit → sample → judge → release."""
    from manikin.io.tables import suffix_of

    found = run.audit(opened, asked.accept)
    plan = plan_of(asked.where, asked.balance, opened.table.schema, asked.enrich)
    parts = run.split(opened.table, asked.holdout, asked.split_by)
    n = opened.table.n_subjects if asked.n is None else asked.n
    data = f"data{suffix_of(source)}"
    name, recipe = asked_for
    advised: dict[str, object] = {}
    if recipe is None:  # held-out subjects have no say in the choice
        chosen = _advised(parts[0], minutes, run.seed, run.watch, conditional=plan != Plan())
        run.record.add("advised", chosen.facts())
        name, recipe = chosen.best, catalogue.build(chosen.best)
        advised = {"advised": chosen.facts()}
    made = make(
        run, name, _per(recipe, asked.fit_per), parts, plan, asked, deadline, n=n, data=data,
        layout=opened.layout,
    )  # fmt: skip
    said = {
        "source": name_of(source), "synthesizer": name, "recipe": vars(recipe), "seed": run.seed,
        "n": n, "kind": made.kind, "where": asked.where, "balance": asked.balance,
        "holdout": asked.holdout, "split_by": asked.split_by or "",
        "enrich": ", ".join(asked.enrich), "accepted": asked.accept, "notes": made.notes, **advised,
        "levels_left_out": made.plan.left_out(opened.table.schema),
        "fit_per": asked.fit_per or "", "per_group": [asdict(line) for line in made.per_group],
        "edited": None if made.edit is None else made.edit.facts(),
    }  # fmt: skip
    graph = made.model.graph() if isinstance(made.model, Drawn) else None
    changed = opened.table if made.kind != "representative" else None
    return run.release(
        Findings(made.trial, made.judged, found, said, made.model.ledger, data, graph, changed)
    )


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
    seed: int = 0,
    minutes: float | None = None,
    sign: str | Path | None = None,
    who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Outcome:
    """Judge a synthetic table that any tool made, and write the report to the directory `out`.

    All may be folders of the same linked tables (mappings of frames, Cohorts), `links` as in `fit`.

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
    if _are_linked(parts, links):
        from manikin import cohorts

        return cohorts.evaluate(
            parts, out=out, metrics=metrics, profile=profile, schema=schema, links=links,
            roles=roles, deadline=deadline, **of_run,
        )  # fmt: skip
    chosen = catalogue.metrics(catalogue.in_profile(profile) if metrics is None else tuple(metrics))
    with begun(out, **of_run) as run:
        depth = profile if metrics is None else "chosen"
        return evaluating.evaluated(run, parts, schema, roles, chosen, deadline, depth)


def _is_linked(
    source: Any, links: Sequence[str], remove_edges: Sequence[str], fit_per: str | None
) -> bool:
    """Whether linked tables are given. Raises InputError for links of a single table."""
    from manikin.io.cohorts import is_cohort

    if (remove_edges or fit_per is not None) and is_cohort(source):
        raise NotSupported(
            "edges to be taken out, or a model for each group, of linked tables",
            "those of one table",
            "leave them out, or take the table by itself",
        )

    if links and not is_cohort(source):
        raise InputError(
            "links between tables, and one table",
            "a folder of tables, or frames by name",
            "give these, or leave the links out",
        )
    return is_cohort(source)


def _are_linked(parts: Mapping[str, Any], links: Sequence[str]) -> bool:
    """Whether linked tables are to be judged. Raises InputError for some of them only."""
    from manikin.io.cohorts import is_cohort

    single = [name for name, source in parts.items() if not is_cohort(source)]
    if single and len(single) < len(parts):
        raise InputError(
            f"linked tables, and one table: {', '.join(single)}",
            "folders of the same tables for every part, or one table for each",
            "give these",
        )
    return _is_linked(parts["train"], links, (), None)


def _recipe(synthesizer: str, settings: Mapping[str, object] | None) -> Synthesizer[Table] | None:
    """Return the recipe that was asked for, None for one that is yet to be chosen."""
    if synthesizer != AUTO:
        return catalogue.build(synthesizer, settings)
    if settings:
        raise InputError(
            "settings of a synthesizer that is yet to be chosen",
            f"settings of one that is named, or '{AUTO}' without any",
            "see who is advised (manikin advise), then name it with its settings",
        )
    return None


def _per(recipe: Synthesizer[Table], column: str | None) -> Synthesizer[Table]:
    """Return the recipe, or one that fits it to each level of a column."""
    if column is None:
        return recipe
    if getattr(recipe, FIELD, ()):
        raise NotSupported(
            "edges to be taken out of a model for each group",
            "one of them: each group has a graph of its own",
            "leave --remove-edge or --fit-per out",
        )
    return PerGroup(recipe, column)


def _advised(
    table: Table, minutes: float | None, seed: int, watch: Watch, *, conditional: bool = False
) -> Advice:
    """Choose a synthesizer for these rows in its share of the time."""
    from manikin import adviser

    share = AUTO_MINUTES if minutes is None else AUTO_SHARE * minutes
    return adviser.choose(table, minutes=share, seed=seed, watch=watch, conditional=conditional)


def _spare(out: str | Path | None, *inputs: Any) -> None:
    """Refuse to write over what is being read, whatever may be overwritten otherwise."""
    for given in inputs:
        if out is None or not isinstance(given, str | Path):
            continue
        if Path(out).exists() and Path(given).exists() and Path(out).samefile(given):
            raise OutputError(
                f"'{Path(out).name}' is both read and to be written",
                "an output that is none of the inputs",
                "choose another name",
            )
