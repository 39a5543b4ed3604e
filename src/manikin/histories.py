"""The road of histories: read → audit → split → fit → sample → judge → release; evaluation.

Histories are judged as such, by scores that only they have, and beside it by those of tables, of
one row a subject: the facts told once, how often codes occur, and how values run.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from manikin import budgeted, catalogue
from manikin.adviser.histories import choose
from manikin.asking import AUTO
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.data.together import alike
from manikin.errors import InputError, NotSupported, OutputError
from manikin.having import Having, days_of, drawn, parse_having
from manikin.leaving import FOLDER, leave
from manikin.metrics.score import Trial
from manikin.opening import CODES, affordable, examined, open_history, recipe_of, suited
from manikin.privacy.cells import SMALLEST_CELL
from manikin.road import FEWEST_ALIKE, Asked, Made, Roles, name_of, plan_of
from manikin.run import BARRED, JUDGED, Deadline, Findings, Outcome, Run, begun, settled
from manikin.sampling import Plan, select
from manikin.synthesizer import Continued, Model, Noted, Synthesizer, Watch, report

if TYPE_CHECKING:
    from manikin.asking import Maker
    from manikin.auditor import Audit
    from manikin.io.histories import History
    from manikin.judging import Judged
    from manikin.privacy.budget import Budget
    from manikin.release.statement import Statement
    from manikin.sources import Whom

__all__ = ["again", "audit", "evaluate", "fit", "fit_and_draw", "sample", "synthesize"]

ONE_ROW = (
    "The data are histories. Scores of one table are of one row a subject: what is told once, how"
    " often the commonest codes occur, and means, spread, steps and change of values."
)


# ------------------------------------------------------------------ the road


def fit(
    source: Any,
    *,
    out: str | Path | None,
    synthesizer: str | None,
    settings: Mapping[str, object] | None,
    schema: Any,
    links: Sequence[str],
    roles: Roles,
    budget: Budget | None,
    seed: int,
    deadline: Deadline,
    overwrite: bool,
    watch: Watch,
) -> Model[Any]:
    """Fit to every subject's history, and save the model to `out` if it is named."""
    from manikin.io import models

    del links  # that only linked tables have
    opened = open_history(source, schema, roles, watch=watch)
    if opened.events.n_subjects < SMALLEST_CELL:
        raise InputError(
            f"'{name_of(source)}' has fewer than {SMALLEST_CELL} subjects",
            f"{SMALLEST_CELL} or more: a model of fewer would describe single people",
            "give more",
        )
    if synthesizer == AUTO:
        usual = suited(opened.events)
        synthesizer = choose(opened.events, usual, minutes=None, seed=seed, watch=watch).best
    if budget is not None and synthesizer is None:
        synthesizer = CODES  # which engine suits is not looked up in the rows
    name, recipe = recipe_of(opened.events, synthesizer, affordable(synthesizer, settings, budget))
    events = opened.events if budget is not None else _ruled(opened.events)
    model = recipe.fit(events, seed=seed, budget=budget, watch=deadline.strict(watch))
    if out is not None:
        extra = {"format": opened.format, "layout": dict(opened.layout)}
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
    """Draw `n` histories to `out`, in the format of what the model was fitted to, or another."""
    from manikin.io import histories as doors

    _refuse_shares(whom.balance, whom.enrich)
    plan = plan_of(whom.where, None, model.schema)
    needed = parse_having(whom.having, cast("EventSchema", model.schema))
    named = format or str(extra.get("format", "meds"))
    layout = extra.get("layout", {}) if named == extra.get("format") else {}
    if out.exists() and not overwrite:
        raise OutputError(f"'{out.name}' exists", "a new path", "choose another, or overwrite it")
    if whom.after is not None:
        futures = _continued(model, whom, n, seed, watch)
        doors.write([futures], out, named, layout=layout, synthetic=True, overwrite=overwrite)
        return

    def blocks() -> Iterator[Events]:
        done = 0
        for block in drawn(model, n, plan.where, needed, seed=seed):
            done += block.n_subjects
            report(watch, done, n, "sampling")
            yield block

    doors.write(blocks(), out, named, layout=layout, synthetic=True, overwrite=overwrite)


def _continued(model: Model[Any], whom: Whom, n: int, seed: int, watch: Watch) -> Events:
    """Return `n` futures of each history that is at hand: what a model makes of it, no evidence."""
    if whom.where or whom.having:
        raise NotSupported(
            "conditions on whom to draw, and histories that are continued",
            "one of them",
            "leave --where and --having out, or --after",
        )
    if not isinstance(model, Continued):
        raise NotSupported(
            "histories to be continued, by a model that cannot",
            "one that can: events/visits, events/panel, events/trajectory",
            "fit such a model",
        )
    opened = open_history(whom.after, None, Roles(), watch=watch)
    found: Events = model.continue_from(
        opened.events.renumbered(), days=days_of(whom.until), futures=n, seed=seed
    )
    return found


def synthesize(
    source: Any,
    maker: Maker,
    schema: Any,
    roles: Roles,
    asked: Asked,
    minutes: float | None,
    **of_run: Any,
) -> Outcome:
    """Make synthetic histories from real ones and release them to the directory `out`."""
    from manikin.io import histories as doors

    _refuse(asked)
    for wanted in asked.also:
        doors.door(wanted)  # an unknown one is refused before anything is read
    deadline = Deadline(minutes)
    with begun(**of_run) as run, budgeted.restricting(asked.budget):
        opened = open_history(source, schema, roles, watch=run.watch)
        asking = {"synthesizer": maker.name, **vars(roles), "modality": "events"}
        run.record.add("asked", {**dataclasses.asdict(asked), **asking})
        found = _audited(run, opened, asked.accept)
        made = _made(run, opened, maker, asked, deadline, minutes)
        model, trial, whom = made.model, made.trial, made.whom
        flat, judged = _judged(run, trial, None, asked.profile, deadline)
        told = model.notes if isinstance(model, Noted) else ()
        said = {
            "source": name_of(source), "synthesizer": made.name,
            "recipe": vars(budgeted.bare(made.recipe)), "seed": run.seed, "n": made.n,
            "kind": _kind(*whom), "where": ", ".join(filter(None, (asked.where, *asked.having))),
            "holdout": asked.holdout, "accepted": asked.accept, **made.advised,
            "notes": (ONE_ROW, *told, *made.notes),
            **({"epsilon": asked.epsilon, "delta": asked.budget.delta} if asked.budget else {}),
        }  # fmt: skip
        statement = None if asked.budget is None else _left(run, made, flat, judged, opened, asked)
        findings = Findings(
            flat, judged, found, said, model.ledger, made.files[0], statement=statement,
            tables=dict.fromkeys(made.files, TableSchema(())), histories=trial,
        )  # fmt: skip
        outcome = run.release(findings)
        return dataclasses.replace(outcome, data=run.target / made.place)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A model of histories, what it drew beside the real ones, and where that stands."""

    name: str
    recipe: Synthesizer[Any]
    model: Model[Any]
    trial: Trial[Events]
    held: Events
    whom: tuple[Plan, Having]
    n: int
    place: str
    files: tuple[str, ...]
    notes: tuple[str, ...]
    advised: Mapping[str, object]


def _made(
    run: Run, opened: History, maker: Maker, asked: Asked, deadline: Deadline,
    minutes: float | None,
) -> Drawing:  # fmt: skip
    """Split → (choose) → fit → sample."""
    events, budget = opened.events, asked.budget
    whom = plan_of(asked.where, None, events.schema), parse_having(asked.having, events.schema)
    parts = run.split(cast("Any", events), asked.holdout, secret=budget is not None)
    train, held = cast("tuple[Events, Events]", parts)
    named, advised = maker.name, {}
    if named == AUTO:  # held-out subjects have no say in the choice
        advice = choose(train, suited(train), minutes=minutes, seed=run.seed, watch=run.watch)
        run.record.add("advised", advice.facts())
        named, advised = advice.best, {"advised": advice.facts()}
    if budget is not None and named is None:
        named = CODES  # which engine suits is not looked up in the rows
    name, recipe = recipe_of(train, named, affordable(named, maker.settings, budget))
    recipe = budgeted.under(recipe, budget, name)
    n = asked.n if budget is not None or asked.n is not None else events.n_subjects
    model, fresh, place = fit_and_draw(
        run, opened, (name, recipe), train, whom, n, deadline.strict(run.watch),
        holdout=asked.holdout, folder="" if budget is None else FOLDER,
    )  # fmt: skip
    files = _files(run, (place, *_also(run, asked.also, opened, place)))
    # what few have is drawn under another code or level, or not at all
    sides = alike({"train": train, "holdout": held, "synthetic": fresh})
    trial, notes = _compared(Trial(**sides), whom, run.seed)
    return Drawing(name, recipe, model, trial, held, whom, fresh.n_subjects if n is None else n,
                   place, files, notes, advised)  # fmt: skip


def _left(
    run: Run, made: Drawing, flat: Trial[Table], judged: Judged, opened: History, asked: Asked
) -> Statement:
    """Write what may leave under a budget beside the data, and return the statement."""
    plain = Made(made.model, flat, judged, made.n, made.notes, made.whom[0])
    written = {"format": opened.format, "layout": dict(opened.layout)}
    return leave(run, plain, flat.holdout, (made.name, made.recipe), asked, written,
                 Path(made.place).name)  # fmt: skip


def audit(source: Any, schema: Any, links: Sequence[str], roles: Roles) -> Audit:
    """Examine histories: what is told once, and the events."""
    del links  # that only linked tables have
    return examined(open_history(source, schema, roles))


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
    """Judge synthetic histories that any tool made, as `synthesize` judges its own.

    `parts` are train, holdout, synthetic and, if there are any, reference, in whatever formats.
    """
    del links  # that only linked tables have
    names = None if metrics is None else tuple(metrics)
    catalogue.metrics(names)  # an unknown one is refused before anything is read
    catalogue.in_profile(profile)
    with begun(out, **of_run) as run:
        opened = {
            side: open_history(one, schema, roles, watch=run.watch) for side, one in parts.items()
        }
        found = _audited(run, opened["train"], tuple(BARRED))
        sides = alike({side: one.events for side, one in opened.items()})
        run.given(cast("Any", sides))
        trial = Trial(**sides)
        flat, judged = _judged(run, trial, names, profile, deadline)
        said = {
            "source": name_of(parts["train"]), "synthetic": name_of(parts["synthetic"]),
            "seed": run.seed, "notes": (ONE_ROW,),
        }  # fmt: skip
        return run.release(Findings(flat, judged, found, said, (), histories=trial))


# ------------------------------------------------------------------ steps


def again(
    run: Run,
    opened: History,
    maker: tuple[str, Synthesizer[Any]],
    asked: Mapping[str, Any],
    n: int,
) -> None:
    """Split → fit → sample, as a record says that it was asked for."""
    schema = opened.events.schema
    texts = tuple(str(text) for text in asked.get("having") or ())
    whom = plan_of(str(asked["where"]), None, schema), parse_having(texts, schema)
    train, _ = cast("Any", run.split(cast("Any", opened.events), float(asked["holdout"])))
    fit_and_draw(run, opened, maker, train, whom, n, run.watch)


def fit_and_draw(
    run: Run,
    opened: History,
    maker: tuple[str, Synthesizer[Any]],
    train: Events,
    whom: tuple[Plan, Having],
    n: int | None,
    watch: Watch,
    *,
    holdout: float = 0.0,
    folder: str = "",
) -> tuple[Model[Any], Events, str]:
    """Fit → sample: the model, as many histories as are judged, and where all of them stand.

    `n` of None is as many as a model under a budget has noisily counted.
    """
    from manikin.io import histories as doors
    from manikin.knowledge.conditions import describe
    from manikin.release.record import feed

    plan, having = whom
    if not isinstance(maker[1], budgeted.UnderBudget):  # what rows show would have to be paid for
        train = _ruled(train)
    model = cast("Model[Any]", run.fit(*maker, cast("Any", train), watch))
    having = parse_having(having.told, cast("EventSchema", model.schema))
    n = budgeted.size_of(model, holdout) if n is None else n
    kept: list[Events] = []
    digest = hashlib.sha256()

    def blocks() -> Iterator[Events]:
        done = 0
        for block in drawn(model, n, plan.where, having, seed=run.seed):
            if not kept or done < JUDGED:
                kept.append(block)
            done += block.n_subjects
            feed(digest, block)
            report(run.watch, done, n, "sampling")
            yield block

    name = f"{folder}/data".lstrip("/") + doors.suffix_of(opened.layout)
    (run.aside / name).parent.mkdir(exist_ok=True)
    layout = {key: value for key, value in opened.layout.items() if key != "backend"}
    doors.write(blocks(), run.aside / name, opened.format, layout=layout, synthetic=True)
    run.record.add(
        "sampled",
        {"subjects": n, "seed": run.seed, "kind": _kind(plan, having), "balance": None,
         "where": [*(describe(condition) for condition in plan.where), *having.told],
         "content": "sha256:" + digest.hexdigest()},
    )  # fmt: skip
    return model, Events.concatenate(kept), name


def _ruled(train: Events) -> Events:
    """Return histories whose schema also has the hard rules that enough subjects show."""
    from manikin.knowledge.learned import learned

    rules = tuple(dict.fromkeys((*train.schema.rules, *learned(train))))
    return dataclasses.replace(train, schema=dataclasses.replace(train.schema, rules=rules))


def _kind(plan: Plan, having: Having) -> str:
    """Return what the drawn data may be called."""
    return "conditioned" if having else plan.label


def _also(run: Run, formats: Sequence[str], opened: History, first: str) -> tuple[str, ...]:
    """Write what was drawn in other formats too, and return where."""
    from manikin.io import histories as doors

    places = []
    for name in formats:
        place = f"{first.rpartition('data')[0]}data-{name}"
        events = doors.read(run.aside / first, format=opened.format, watch=run.watch).events
        doors.write([events], run.aside / place, name, synthetic=True)
        places.append(place)
    return tuple(places)


def _files(run: Run, places: Sequence[str]) -> tuple[str, ...]:
    """Return the files at these places of the release, in order."""
    found: list[str] = []
    for place in places:
        path = run.aside / place
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [one.relative_to(run.aside).as_posix() for one in inside if one.is_file()]
    return tuple(found)


def _refuse(asked: Asked) -> None:
    """Raise NotSupported for what only single tables have."""
    _refuse_shares(asked.balance, asked.enrich)
    wishes = {
        "refits": bool(asked.refits),
        "a split by a column": asked.split_by is not None,
        "a page of quality that is paid for": asked.report_epsilon is not None,
        "ranges and levels that a budget discovers": bool(asked.discover),
    }
    if chosen := [what for what, is_asked in wishes.items() if is_asked]:
        raise NotSupported(
            f"{' and '.join(chosen)}, of histories",
            "one fit, a random split by subject, conditions (--where, --having)",
            "leave it out",
        )


def _refuse_shares(balance: str | None, enrich: str | Sequence[str]) -> None:
    if balance is not None or enrich:
        raise NotSupported(
            "a balance or shares of levels, of histories",
            "conditions on subjects (--where) and on what they have (--having)",
            "draw each level with --where",
        )


def _audited(run: Run, opened: History, accept: Sequence[str]) -> Audit:
    """Examine histories. Raises as `Run.audit` does."""
    from manikin.release.record import history_facts

    report(run.watch, 0, None, "auditing")
    run.record.add("source", history_facts(opened.events, run.key))
    found = examined(opened)
    settled(found, opened.events.n_subjects, accept)
    return found


def _compared(
    trial: Trial[Events], whom: tuple[Plan, Having], seed: int
) -> tuple[Trial[Events], tuple[str, ...]]:
    """Return the trial with the real subjects whom the drawn ones are like, and what was done."""
    plan, having = whom
    kind = _kind(plan, having)
    if kind == "representative":
        return trial, ()
    needed = parse_having(having.told, trial.train.schema)  # its codes have other places now
    like = []
    for part in (trial.train, trial.holdout):
        chosen = part.take(select(part.static, plan, seed=seed).subjects)
        like.append(chosen.take(chosen.subjects[needed.holds(chosen)]))
    if min(part.n_subjects for part in like) < FEWEST_ALIKE:
        return trial, (
            f"The data are {kind}, but fewer than {FEWEST_ALIKE} held-out subjects are like"
            " them: they were compared with all, and differences are to be expected.",
        )
    return dataclasses.replace(trial, train=like[0], holdout=like[1]), (
        f"The data are {kind}: they were compared with the real subjects who are so too."
        " They do not show how common anything is.",
    )


def _judged(
    run: Run,
    trial: Trial[Events],
    chosen: tuple[str, ...] | None,
    profile: str,
    deadline: Deadline,
) -> tuple[Trial[Table], Judged]:
    """Score histories by their own metrics, and one row a subject by those of tables.

    By those `chosen`, or by all of the profile.
    """
    from manikin.data.summaries import summaries
    from manikin.judging import Judged, judge_all

    parts = [summaries(part, trial.train) for part in (trial.train, trial.holdout, trial.synthetic)]
    more = None if trial.reference is None else summaries(trial.reference, trial.train)
    flat = Trial(parts[0], parts[1], parts[2], more)
    if chosen is None:
        names, of_one = (catalogue.in_profile(profile, what) for what in ("events", "table"))
    else:
        cards, profile = catalogue.cards(), "chosen"
        names = tuple(name for name in chosen if cards[name].modality == "events")
        of_one = tuple(name for name in chosen if name not in names)
    own = Judged((), ())
    if names:
        own = judge_all(
            cast("Any", trial), catalogue.metrics(names), seed=run.seed, watch=run.watch,
            over=lambda: deadline.over,
        )  # fmt: skip
    metrics = catalogue.metrics(of_one)
    return flat, run.judge(
        flat, metrics, deadline, profile, linked=own.scores, planted=own.controls
    )
