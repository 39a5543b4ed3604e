"""Advice: profile, framework, bake-off and ranking put together, and the command to run next."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from manikin import catalogue
from manikin.adviser.bakeoff import HELD, Baked, Clock, bake
from manikin.adviser.entrants import chosen
from manikin.adviser.framework import Family, families, sources_of
from manikin.adviser.profile import Profile, profile_of
from manikin.adviser.ranking import (
    BOUNDS,
    FLOOR,
    LEAK,
    Goal,
    Measured,
    Placed,
    check_goal,
    contenders,
    placed,
    pooled,
)  # fmt: skip
from manikin.errors import InputError, NotSupported
from manikin.road import Roles, name_of, open_source
from manikin.synthesizer import Watch, report, silent

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table

__all__ = ["Advice", "advise", "choose"]

FEWEST = 50  # subjects below which a bake-off cannot tell anything
MODALITY = "table/"


@dataclass(frozen=True)
class Advice:
    """What was found, the best for the goal first."""

    goal: str
    source: str
    minutes: float
    seconds: float  # taken in all
    seed: int
    profile: Profile | None
    framework: tuple[Family, ...]
    ranking: tuple[Placed, ...]
    ceiling: dict[str, Measured]  # what fresh real rows reach
    floor: dict[str, Measured]  # what independent columns reach
    splits: int
    train_rows: int
    held_rows: int
    answer: str
    notes: tuple[str, ...]  # what to know before reading the numbers
    command: str

    @property
    def best(self) -> str:
        """The name of the synthesizer that is advised."""
        return self.ranking[0].name

    @property
    def sources(self) -> dict[str, str]:
        """The works behind the framework."""
        return sources_of(self.framework)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            **dataclasses.asdict(self), "best": self.best, "sources": self.sources,
        }  # fmt: skip

    def facts(self) -> dict[str, object]:
        """Return what a record holds of a choice: who was tried, with what scores, who was not."""
        return {
            "goal": self.goal, "chosen": self.best, "answer": self.answer, "seed": self.seed,
            "notes": list(self.notes),
            "splits": self.splits, "rows": {"train": self.train_rows, "held": self.held_rows},
            "minutes": self.minutes, "seconds": round(self.seconds, 1),
            "tried": [_fact(one) for one in self.ranking],
        }  # fmt: skip


def advise(
    source: Any,
    *,
    goal: str = "realism",
    minutes: float = 5.0,
    synthesizers: Sequence[str] = (),
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    seed: int = 0,
    watch: Watch = silent,
) -> Advice:
    """Say which synthesizer suits a table, measured on it within `minutes`.

    `goal` is "realism", "interpretability", "privacy" or "speed"; `synthesizers` are those to try,
    by default every one for tables. Nothing is written and nothing released. Raises InputError for
    a table too small to measure on, NotSupported when none could be judged in time.
    """
    from manikin import auditor

    clock = _clock(minutes)
    check_goal(goal)
    names = _names(synthesizers)
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    opened = open_source(source, schema, roles)
    _check_size(opened.table)
    report(watch, 0, None, "auditing")
    profile = profile_of(opened.table, auditor.audit(opened))
    found = _measured(
        opened.table, names, cast(Goal, goal), clock, seed, watch, named=bool(synthesizers)
    )
    command = _command(source, found.best, schema, roles)
    return dataclasses.replace(found, source=name_of(source), profile=profile, command=command)


def choose(
    table: Table, *, minutes: float, seed: int, watch: Watch = silent, conditional: bool = False
) -> Advice:
    """Choose the most realistic synthesizer for training rows, within `minutes`.

    `conditional` asks for one that can be given conditions.
    """
    clock = _clock(minutes)
    _check_size(table)
    return _measured(table, _names(()), "realism", clock, seed, watch, conditional)


def _measured(
    table: Table,
    names: tuple[str, ...],
    goal: Goal,
    clock: Clock,
    seed: int,
    watch: Watch,
    conditional: bool = False,
    named: bool = False,
) -> Advice:
    framework = families(names)
    entrants, left_out = chosen(framework, goal, clock.seconds, named=named)

    def keep(baked: Baked) -> tuple[str, ...]:
        return contenders(baked, names, goal, framework)

    baked = bake(table, entrants, clock, seed=seed, keep=keep, watch=watch, conditional=conditional)
    baked = dataclasses.replace(baked, attempts=(*baked.attempts, *left_out))
    ranking = placed(baked, names, goal, framework)
    if ranking[0].rank is None:
        told = "; ".join(f"{one.name}: {one.failed}" for one in ranking)
        raise NotSupported(
            f"no synthesizer could be fitted and judged within {clock.seconds / 60:g} min: {told}",
            "time for one or more of them",
            "give more minutes",
        )
    floor = next((one.measures for one in ranking if one.name == FLOOR), {})
    return Advice(
        goal, "", clock.seconds / 60, clock.spent, seed, None, framework, ranking,
        _ceiling(baked), floor, baked.splits, baked.train_rows, baked.held_rows,
        _answer(goal, ranking, baked.splits), tuple(_notes(baked, ranking, table)), "",
    )  # fmt: skip


def _ceiling(baked: Baked) -> dict[str, Measured]:
    names = dict.fromkeys(name for split in baked.ceilings for name in split)
    return {
        name: pooled([split[name] for split in baked.ceilings if name in split], *BOUNDS[name])
        for name in names
    }


def _answer(goal: str, ranking: Sequence[Placed], splits: int) -> str:
    """Say who is advised, and how sure that is."""
    best = ranking[0]
    judged = [one for one in ranking if one.rank is not None and one.name != FLOOR]
    tied = [one.name for one in judged if one.tied]
    on = f"on {splits} split{'s' if splits > 1 else ''}"
    if len(judged) < 2:
        return f"{best.name} for {goal}: nothing else but the floor was judged ({on})."
    if tied:
        return (
            f"{best.name} for {goal}, but not surely: {', '.join(tied)} cannot be told apart from"
            f" it {on}."
        )
    return f"{best.name} for {goal}: ahead of all {len(judged) - 1} others judged {on}, surely."


def _notes(baked: Baked, ranking: Sequence[Placed], table: Table) -> Iterator[str]:
    """Say what the numbers cannot tell."""
    if baked.train_rows < 0.9 * (1 - HELD) * table.n_rows:
        yield (
            f"Fitted to {baked.train_rows:,} of {table.n_rows:,} rows: a family that lives on many"
            " rows may do better on all of them; more minutes try more rows."
        )
    high = [m.high for one in ranking if (m := one.measures.get("membership")) is not None]
    if high and min(high) > LEAK:
        yield (
            f"So few held-out subjects leave a membership AUC above {LEAK:g} possible for everyone,"
            " even where nothing leaks: who is private cannot be told from this."
        )
    if not any("gap" in one.measures for one in ranking):
        yield "Use was not judged: give --target, or --time and --event, for what is predicted."
    if baked.splits == 1:
        yield "One split only: more minutes give more, and with them more certainty."


def _command(source: Any, name: str, schema: object, roles: Roles) -> str:
    """Return the command line that makes a release with the advised synthesizer."""
    given = str(source) if isinstance(source, str | Path) else "DATA"
    words = ["manikin", "synthesize", given, "--synthesizer", name]
    if isinstance(schema, str | Path):
        words += ["--schema", str(schema)]
    options = {"target": roles.target, "subject": roles.subject, "time": roles.time,
               "event": roles.event}  # fmt: skip
    for option, column in options.items():
        words += [f"--{option}", column] if column else []
    for option, columns in (("sensitive", roles.sensitive), ("quasi", roles.quasi_identifiers)):
        for column in columns:
            words += [f"--{option}", column]
    return shlex.join(words)


def _clock(minutes: float) -> Clock:
    if not 0 < minutes < float("inf"):
        raise InputError(f"{minutes:g} minutes", "more than 0", "5 suit most tables")
    return Clock(60 * minutes)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Return who takes part. Raises NotSupported for a name that the catalogue lacks."""
    known = tuple(
        name
        for name in catalogue.names()
        if name.startswith(MODALITY) and not catalogue.needs_budget(name)
    )
    chosen = tuple(dict.fromkeys(given)) or known
    for name in chosen:
        if name not in known:
            raise NotSupported(
                "a synthesizer that there is not among those for tables",
                f"synthesizers for tables are: {', '.join(known)}",
                "see: manikin list",
            )
    return chosen


def _check_size(table: Table) -> None:
    if table.n_subjects < FEWEST:
        raise InputError(
            f"a table of fewer than {FEWEST} subjects",
            f"{FEWEST} or more: a bake-off among fewer measures chance alone",
            "take table/copula or table/marginals, whose few parameters suit so few",
        )
    if not table.schema.learned:
        raise InputError("a table without a column to learn", "one or more", "see: manikin audit")


def _fact(one: Placed) -> dict[str, object]:
    def short(measure: Measured) -> list[float]:
        return [round(part, 4) for part in (measure.value, measure.low, measure.high)]

    if one.rank is None:
        return {"name": one.name, "failed": one.failed}
    return {
        "name": one.name, "rank": one.rank, "tied": one.tied,
        "seconds": round(one.seconds or 0.0, 2),
        **{what: short(measure) for what, measure in one.measures.items()},
    }  # fmt: skip
