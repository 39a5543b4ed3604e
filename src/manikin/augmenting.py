"""Add rows of rare classes to a table of real rows, and say whether a model of them gains by it.

The field's habit, "CTGAN + SMOTE", judged like the rest: subjects are split, only training rows are
augmented, and models of the real rows alone, of these with SMOTE's rows and of these with a
generator's are tested on held-out real rows. What comes out holds every real row: it is the source
with more rows, and never a release.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manikin import catalogue
from manikin.data.dataset import split_subjects
from manikin.data.rules import Condition
from manikin.data.table import Table
from manikin.errors import (
    ConditionError,
    InputError,
    ManikinError,
    NotSupported,
    OutputError,
    Stopped,
)
from manikin.privacy.cells import SMALLEST_CELL, hidden
from manikin.road import DEFAULT, Roles, name_of, open_source
from manikin.run import Deadline
from manikin.sampling import Enrich, parse_enrich
from manikin.synthesizer import Conditional, Watch, report, silent

if TYPE_CHECKING:
    import polars

    from manikin.data.schema import TableSchema
    from manikin.io.tables import Source
    from manikin.metrics.augmentation import Gain

__all__ = ["Augmented", "Class", "augment"]

SMOTE, MARK = "smote", "synthetic"
FEWEST_BETWEEN, FEWEST_LEARNT = 2, 5  # subjects of a level, for SMOTE and for a generator
HOLDS = (
    "{} of these rows are real patients, {} are new: keep them where the source is kept. They are"
    " no release and no synthetic data."
)


@dataclass(frozen=True)
class Class:
    """A level of the target: rows before and after, None where few real subjects have it."""

    level: str
    before: int | None
    after: int | None
    share_before: float | None
    share_after: float | None


@dataclass(frozen=True)
class Augmented:
    """The real rows with new ones (column `synthetic` tells them apart), and what they are worth.

    `frame` holds real patients, as the file `data` does, where one was asked for.
    """

    frame: polars.DataFrame
    data: Path | None
    record: Path | None
    method: str
    classes: tuple[Class, ...]
    gains: tuple[Gain, ...]
    real_rows: int
    new_rows: int
    notes: tuple[str, ...]

    @property
    def warning(self) -> str:
        """Return what whoever holds it must know."""
        return HOLDS.format(self.real_rows, self.new_rows)


@dataclass(frozen=True)
class _Way:
    """How new rows are made: by SMOTE, by a generator, or by a generator of SMOTE's rows."""

    method: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        catalogued = self.generator
        if catalogued is not None:
            catalogue.build(catalogued, self.settings)
        elif unknown := sorted(set(self.settings) - {"k"}):
            raise InputError(
                f"'{SMOTE}' has no setting '{unknown[0]}'", "its setting is: k", "leave it out"
            )

    @property
    def generator(self) -> str | None:
        """Return the synthesizer's name, None for SMOTE alone."""
        name = self.method.removeprefix(f"{SMOTE}+")
        return None if name == SMOTE else name

    @property
    def k(self) -> int:
        """Return how many neighbours SMOTE looks at."""
        given = str(self.settings.get("k", 5)) if self.generator is None else "5"
        if not given.isdigit() or not int(given):
            raise InputError("a setting 'k' that cannot be read", "a whole number from 1", "5")
        return int(given)

    def rows(
        self, table: Table, target: str, wanted: Mapping[str, int], seed: int, watch: Watch
    ) -> Table:
        """Return new rows of each level, as subjects of their own."""
        from manikin.transforms.smote import smote

        if self.generator is None:
            return smote(table, target, wanted, k=self.k, seed=seed)
        learnt = table
        if self.method != self.generator:
            learnt = _joined(table, smote(table, target, wanted, k=self.k, seed=seed))
        model = catalogue.build(self.generator, self.settings).fit(learnt, seed=seed, watch=watch)
        if not isinstance(model, Conditional):
            raise NotSupported(
                f"'{self.generator}' cannot draw rows of one class",
                "a synthesizer with conditional sampling",
                "choose another one: manikin list says which can",
            )
        per_subject = table.n_rows / max(1, table.n_subjects)
        drawn = [table.rows(np.zeros(0, np.int64))]
        for place, (level, n) in enumerate(wanted.items()):
            where = (Condition(target, "=", (level,)),)
            subjects = max(1, round(n / per_subject))
            made = model.sample_where(subjects, where, seed=seed + 1 + place)
            drawn.append(Table(table.schema, made.subjects, made.columns, made.states))
        whole = drawn[0]
        for part in drawn[1:]:
            whole = _joined(whole, part)
        return whole


def augment(
    source: Any,
    *,
    target: str,
    method: str = SMOTE,
    ratio: float | None = None,
    enrich: str | Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    holdout: float = 0.3,
    schema: TableSchema | str | Path | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    seed: int = 0,
    minutes: float | None = None,
    who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Augmented:
    """Return the real rows with new rows of rare classes, and what a model gains by them.

    `method` is "smote", a synthesizer's name, or "smote+" and a name: a generator that is fitted to
    SMOTE's rows too. Every level of `target` gets rows until it has `ratio` times (1 if not given)
    those of the commonest; or `enrich` gives levels a share of all rows, as in "died=yes:0.3".
    `out` names a file, beside which `<out>.record.jsonl` is written. A share `holdout` of the
    subjects is kept aside to judge by: models of the real rows alone, with SMOTE's and with the
    generator's (by default that of `synthesize`) are tested on them. Both results hold real
    patients.
    """
    way = _Way(method, dict(settings or {}))
    watching = Deadline(minutes).strict(watch)
    _check_out(out, source, overwrite)
    opened = open_source(source, schema, Roles(target, subject, time, event))
    wishes = _wishes(opened.table, target, ratio, enrich)
    asked = _Asked(way, target, 1.0 if ratio is None else ratio, wishes, seed)
    parts = _split(opened.table, holdout, seed)
    found, added = _augmented(asked, opened, parts, watching)
    if out is None:
        return found
    told = {**asked.facts(), "source": name_of(source), "holdout": holdout}
    return _written(found, opened, added, Path(out), told, parts, who)


@dataclass(frozen=True)
class _Asked:
    """What was asked for: in which way, and how many rows of which class."""

    way: _Way
    target: str
    ratio: float
    wishes: tuple[Enrich, ...]
    seed: int

    def facts(self) -> dict[str, object]:
        """Return what the record says of it."""
        return {
            "target": self.target, "method": self.way.method, "settings": self.way.settings,
            "k": self.way.k, "ratio": None if self.wishes else self.ratio, "seed": self.seed,
            "enrich": [wish.told for wish in self.wishes],
        }  # fmt: skip


def _augmented(
    asked: _Asked, opened: Source, parts: tuple[Table, Table], watch: Watch
) -> tuple[Augmented, Table]:
    """Add rows to all real ones, and judge what they are worth on held-out ones."""
    from manikin.io.tables import marked

    table, way, target = opened.table, asked.way, asked.target
    report(watch, 0, None, "adding rows")
    wanted = _wanted(asked, table)
    added, notes = _made(way, table, target, wanted, asked.seed, watch, bool(asked.wishes))
    frame = marked(opened, added, MARK)
    gains, told = _judged(asked, parts, watch)
    classes = _classes(table, added, target)
    return Augmented(
        frame, None, None, way.method, classes, gains, table.n_rows, added.n_rows, (*notes, *told)
    ), added


def _split(table: Table, holdout: float, seed: int) -> tuple[Table, Table]:
    train, held = split_subjects(table, (1 - holdout, holdout), seed=seed)
    if min(part.n_subjects for part in (train, held)) < SMALLEST_CELL:
        raise InputError(
            f"a table of {table.n_subjects} subjects",
            f"{SMALLEST_CELL} or more to learn from, and as many to judge by",
            "give more rows, or change the share that is held out",
        )
    return train, held


# ---------------------------------------------------------------------------- how many of whom
def _wishes(
    table: Table, target: str, ratio: float | None, enrich: str | Sequence[str]
) -> tuple[Enrich, ...]:
    column = table.schema[target]
    if not column.is_coded or len(column.categories) < 2:
        raise InputError(
            f"the target '{target}' is of kind {column.kind}",
            "a boolean, categorical or ordinal column with two levels or more",
            "name another column, or change its kind in the schema",
        )
    wishes = parse_enrich([enrich] if isinstance(enrich, str) else enrich, table.schema)
    if any(wish.column != target for wish in wishes):
        raise ConditionError(
            "a share of a level of another column than the target",
            f"shares of levels of '{target}', whose classes are told apart",
            "name that column as the target",
        )
    if ratio is not None and (wishes or not 0 < ratio <= 1):
        raise InputError(
            f"a ratio of {ratio:g}" + (" beside shares of levels" if wishes else ""),
            "a ratio above 0 and up to 1, or shares of levels: one of them",
            "leave one out",
        )
    return wishes


def _wanted(asked: _Asked, table: Table) -> dict[str, int]:
    """Return how many new rows each level is to have."""
    categories = table.schema[asked.target].categories
    codes = table.columns[asked.target]
    counts = dict(
        zip(categories, np.bincount(codes[codes >= 0], minlength=len(categories)), strict=True)
    )
    if not asked.wishes:
        most = max(counts.values())
        due = {name: round(asked.ratio * most) - int(n) for name, n in counts.items() if n}
        return {name: n for name, n in due.items() if n > 0}
    shares = {wish.level: wish.share for wish in asked.wishes}
    left = 1 - sum(shares.values())
    others = sum(int(n) for name, n in counts.items() if name not in shares)
    if left < 1e-9 or not others:
        raise InputError(
            "shares that leave no room for the other classes",
            "shares that sum to less than 1: real rows are never taken away",
            "lower one of them",
        )
    whole = others / left
    due = {name: round(share * whole) - int(counts[name]) for name, share in shares.items()}
    if min(due.values()) < 0:
        raise InputError(
            "a share that a level has already",
            "larger shares than there are: real rows are never taken away",
            "raise it, or leave it out",
        )
    return {name: n for name, n in due.items() if n}


def _made(
    way: _Way,
    table: Table,
    target: str,
    wanted: Mapping[str, int],
    seed: int,
    watch: Watch,
    strict: bool,
) -> tuple[Table, tuple[str, ...]]:
    """Return new rows; unless `strict`, levels that too few subjects have get none and are told."""
    codes, categories = table.columns[target], table.schema[target].categories
    few = [
        name
        for name in wanted
        if np.unique(table.subjects[codes == categories.index(name)]).size
        < (FEWEST_BETWEEN if way.generator is None else FEWEST_LEARNT)
    ]
    if few and strict:
        least = "two" if way.generator is None else f"{FEWEST_LEARNT}"
        raise InputError(
            f"a level of '{target}' that fewer than {least} subjects have",
            f"{least} subjects or more, to learn from",
            "leave the level out, or join it with another one"
            + ("" if way.generator is None else "; SMOTE needs two subjects"),
        )
    rest = {name: n for name, n in wanted.items() if name not in few}
    notes: tuple[str, ...] = ()
    if few:
        notes = (f"Too few subjects have {len(few)} of the {len(categories)} levels of '{target}':"
                 " no rows were added to them.",)  # fmt: skip
    return way.rows(table, target, rest, seed, watch), notes


# ---------------------------------------------------------------------------- judged
def _judged(
    asked: _Asked, parts: tuple[Table, Table], watch: Watch
) -> tuple[tuple[Gain, ...], tuple[str, ...]]:
    """Augment training rows only, in every way, and test on the others."""
    from manikin.metrics.augmentation import REAL, downstream

    train, held = parts
    way, target, wanted = asked.way, asked.target, _wanted(asked, train)
    ways = {SMOTE: _Way(SMOTE), way.generator or DEFAULT: _Way(way.generator or DEFAULT)}
    ways[way.method] = way
    if way.generator is not None:
        ways[way.generator] = _Way(way.generator, way.settings)
    arms, notes = {REAL: train}, []
    for name, one in ways.items():
        report(watch, len(arms) - 1, len(ways), f"judging: rows of {name}")
        try:
            added, _ = _made(one, train, target, wanted, asked.seed, watch, False)
            arms[name] = _joined(train, added)
        except Stopped:
            raise
        except ManikinError as error:
            notes.append(f"{name} could not be judged: {error.given}.")
    levels = sorted(wanted, key=lambda level: -wanted[level])
    gains = downstream(arms, held, target, levels, seed=asked.seed)
    if silent_ := len(levels) - len({gain.level for gain in gains}):
        notes.append(f"{silent_} of the {len(levels)} augmented levels could not be judged: fewer"
                     f" than {SMALLEST_CELL} held-out subjects have one, or lack it.")  # fmt: skip
    return gains, tuple(notes)


def _joined(table: Table, added: Table) -> Table:
    """Stack tables; the subjects of the second are none of the first's."""
    shift = int(table.subjects.max()) + 1 if table.n_rows else 0
    moved = Table(added.schema, added.subjects + shift, added.columns, added.states)
    return Table.concatenate([table, moved])


def _classes(table: Table, added: Table, target: str) -> tuple[Class, ...]:
    codes, new = table.columns[target], added.columns[target]
    known = max(1, int((codes >= 0).sum()))
    found = []
    for code, level in enumerate(table.schema[target].categories):
        n, more = int((codes == code).sum()), int((new == code).sum())
        if hidden(np.unique(table.subjects[codes == code]).size):
            found.append(Class(level, None, None, None, None))
            continue
        shares = (n / known, (n + more) / max(1, known + added.n_rows))
        found.append(Class(level, n, n + more, round(shares[0], 4), round(shares[1], 4)))
    return tuple(found)


# ---------------------------------------------------------------------------- written
def _check_out(out: str | Path | None, source: Any, overwrite: bool) -> None:
    if out is None:
        return
    path = Path(out)
    if isinstance(source, str | Path) and path.exists() and Path(source).exists():
        if path.samefile(source):
            raise OutputError(
                f"'{path.name}' is both read and to be written",
                "an output that is none of the inputs",
                "choose another name",
            )
    for one in (path, _record_of(path)):
        if one.exists() and not overwrite:
            raise OutputError(
                f"'{one.name}' exists", "a file that does not exist yet", "overwrite it, or rename"
            )


def _record_of(data: Path) -> Path:
    return data.with_name(f"{data.name}.record.jsonl")


def _written(
    found: Augmented,
    opened: Source,
    added: Table,
    data: Path,
    asked: Mapping[str, Any],
    parts: tuple[Table, Table],
    who: str | None,
) -> Augmented:
    """Write the rows and their record, both or none."""
    from manikin.io.tables import write_marked
    from manikin.release.record import (
        CLOSING,
        Record,
        file_digest,
        owner_key,
        run_facts,
        score_facts,
        source_facts,
        split_facts,
    )

    key, named = owner_key(), {"train": parts[0], "holdout": parts[1]}
    write_marked(found.frame, opened, added, MARK, data)
    told = [asdict(one) for one in found.classes if one.before is not None]
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".manikin-") as folder:
        aside = Path(folder) / "record.jsonl"
        record = Record(aside)
        record.add("started", run_facts(who))
        record.add("asked", asked)
        record.add("source", source_facts(opened.table, key))
        record.add("split", {"seed": asked["seed"], **split_facts(named, key)})
        record.add("augmented", {
            "classes": told, "real_rows": found.real_rows, "new_rows": found.new_rows,
            "mark": MARK, "release": False, "said": found.warning, "notes": found.notes,
        })  # fmt: skip
        record.add("judged", score_facts(found.gains))
        # keyed: the file holds real rows
        record.add(CLOSING, {
            "outputs": {data.name: file_digest(data, key)}, "synthetic": [], "release": False,
        })  # fmt: skip
        os.chmod(aside, 0o600)
        os.replace(aside, _record_of(data))
    return Augmented(**{**vars(found), "data": data, "record": _record_of(data)})
