"""The fitted model of visits: new histories, histories given static facts, and its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

import manikin.synthesizers.events._visits_fit as fitting
from manikin.data.codes import EventSchema
from manikin.data.dataset import Dataset
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge.histories import repaired
from manikin.privacy.ledger import NonPrivate, Release
from manikin.synthesizer import Conditional, Noted, State, Synthesizer
from manikin.synthesizers.events._bounded import Paid
from manikin.synthesizers.events._parts import pack, unpack
from manikin.synthesizers.events._quantiles import Quantiles
from manikin.synthesizers.events._visits_after import continued
from manikin.synthesizers.events._visits_agree import Seen, seen_of, settled_traits
from manikin.synthesizers.events._visits_classes import Classes
from manikin.synthesizers.events._visits_draw import draw_codes
from manikin.synthesizers.events._visits_fit import Parts
from manikin.synthesizers.events._visits_made import contexts_of, filled
from manikin.synthesizers.events._visits_moments import Moments
from manikin.synthesizers.events._visits_process import Course, Drawing, Process, draw_course
from manikin.synthesizers.events._visits_rates import Contexts, Rates
from manikin.synthesizers.events._visits_traits import (
    Traits,
    checked,
    draw_traits,
    factors_of,
    outcomes,
)
from manikin.synthesizers.events._visits_values import Values
from manikin.synthesizers.events.encoding import EventEncoding, Histories, narrowed

__all__ = ["VisitsModel", "restored"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST_VISITS = 20_000  # of a subject
MOST_DRAWN = 20_000_000  # visits in one draw: more is a file made to exhaust memory
FIXED = ("first visit", "visits", "pace", "profile", "death", "undated")
COUNTED = "codes of visits by class, profile, age and sex, how they follow each other and come back"
ROUNDS, BLOCK = 60, 5000  # of drawing subjects who have certain codes


@dataclass(frozen=True, eq=False)
class Drawn:
    """Subjects whose visits are drawn, and what was at them is not."""

    static: Table
    course: Course
    starts: Ints  # (subjects + 1,) where each subject's visits begin
    contexts: Contexts
    profile: Ints
    sex: Ints
    own: Floats  # (subjects, factors)
    death: Ints


@dataclass(frozen=True)
class VisitsModel:
    """Fitted histories of visits."""

    encoding: EventEncoding
    table: Conditional[Table]  # what is told once a subject
    columns: Mapping[str, str]  # what beside the static facts → name of its column
    parts: Parts
    rules: bool
    paid: Paid | None = None  # what it cost, where it was fitted under a privacy budget

    @property
    def schema(self) -> EventSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was paid for, or what was taken from the events without formal protection."""
        if self.paid is not None:
            return self.paid.releases
        return tuple(dict.fromkeys((NonPrivate(COUNTED), *self.table.ledger)))

    @property
    def subjects(self) -> float | None:
        """How many subjects it was fitted on, as noisy counts have it; None without a budget."""
        return None if self.paid is None else self.paid.subjects

    @property
    def most_rows(self) -> int | None:
        """How many visits of a subject counted at most; None without a budget."""
        return None if self.paid is None else self.paid.most_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and what the table synthesizer has to say."""
        own = self.table.notes if isinstance(self.table, Noted) else ()
        return (*self.encoding.notes, *own)

    def sample(self, n: int, *, seed: int) -> Events:
        """Draw `n` new subjects with their histories."""
        return self._below(self.table.sample(n, seed=_seed(seed, "table")), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Events:
        """Draw one history for each given row of static facts, any subset of their columns."""
        rows = given.static if isinstance(given, Events) else given
        if not isinstance(rows, Table):
            raise InputError("what is given is no table", "static facts of subjects", "give these")
        assert isinstance(self.table.schema, TableSchema)
        columns = tuple(self.table.schema[column.name] for column in rows.schema.learned)
        names = {column.name for column in columns}
        states = {name: found for name, found in rows.states.items() if name in names}
        numbered = Table(TableSchema(columns), np.arange(rows.n_rows), rows.columns, states)
        return self._below(self.table.sample_given(numbered, seed=_seed(seed, "table")), seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Events:
        """Draw `n` new subjects of whose static facts every condition holds.

        `visits` is the number of visits, wherever no static column has that name.
        """
        return self._below(self.table.sample_where(n, where, seed=_seed(seed, "table")), seed)

    def sample_having(self, n: int, codes: tuple[str, ...], *, seed: int) -> Events:
        """Draw `n` new subjects who have events of all these codes, by their names.

        Raises ConditionError when a code is not known, or too few of those drawn have them.
        """
        wanted = [self.schema.named.get(name, ()) for name in codes]
        if not all(wanted):
            raise ConditionError(
                f"{sum(not places for places in wanted)} codes that the model does not draw",
                "codes that enough subjects of the training data had", "see the model's schema",
            )  # fmt: skip
        kept: list[Events] = []
        got = 0
        for block in range(ROUNDS):
            drawn = self.sample(BLOCK, seed=_seed(seed, "having", block))
            has = np.ones(drawn.n_subjects, bool)
            for places in wanted:
                own = np.zeros(drawn.n_subjects, bool)
                own[drawn.whose[np.isin(drawn.code, places)]] = True
                has &= own
            some = np.flatnonzero(has)[: n - got]
            kept.append(drawn.take(drawn.subjects[some]))
            got += some.size
            if got >= n:
                return Events.concatenate([part.renumbered() for part in kept]).renumbered()
        raise ConditionError(
            f"codes that {got} of {ROUNDS * BLOCK:,} drawn subjects have together",
            f"{n} at least", "ask for fewer, or for fewer codes",
        )  # fmt: skip

    def continue_from(self, history: Events, *, days: float, futures: int = 1, seed: int) -> Events:
        """Draw what may follow the last event of each subject, for so many days."""
        found = continued(self.encoding, self.parts, history, days, futures, seed)
        return repaired(found, seed=_seed(seed, "rules")) if self.rules else found

    def state(self) -> State:
        """Return what `Visits.restore` needs."""
        arrays: dict[str, NDArray[Any]] = {}
        for item in dataclasses.fields(Parts):
            if item.name != "sizes":
                arrays |= pack(item.name, getattr(self.parts, item.name))
        inner = self.table.state()
        arrays |= {f"table/{key}": array for key, array in inner.arrays.items()}
        assert isinstance(self.table.schema, TableSchema)
        return State(
            arrays,
            {
                "sizes": {key: int(size) for key, size in self.parts.sizes.items()},
                "texts": list(self.encoding.texts),
                "notes": list(self.encoding.notes),
                "columns": dict(self.columns),
                "table": dict(inner.values),
                "table_schema": self.table.schema.to_json(),
                **({} if self.paid is None else self.paid.values()),
            },
        )

    # -------------------------------------------------------------- drawing

    def course(self, n: int, rng: np.random.Generator) -> Drawn:
        """Draw `n` new subjects and their visits, and nothing that was at them."""
        return self._about(self.table.sample(n, seed=int(rng.integers(2**62))), rng)

    def _below(self, wide: Table, seed: int) -> Events:
        """Return the histories of rows of what is told once a subject."""
        static, drawn, _ = self._histories(wide, seed)
        events = self.encoding.decode(drawn, static)
        return repaired(events, seed=_seed(seed, "rules")) if self.rules else events

    def settled(self, real: Seen, n: int, seed: int) -> VisitsModel:
        """Return the model whose traits are moved until `n` drawn subjects are as `real` ones."""

        def draw(traits: Traits, turn: int) -> Seen:
            own = dataclasses.replace(self, parts=dataclasses.replace(self.parts, traits=traits))
            wide = own.table.sample(n, seed=_seed(seed, "settle", turn))
            _, h, group = own._histories(wide, _seed(seed, "settle", turn))
            rows = np.flatnonzero(~np.isnan(h.value))
            score = ndtri(self.parts.numbers.share(h.code[rows], h.value[rows]))
            return seen_of(traits, h, rows, score, group)

        traits = settled_traits(self.parts.traits, real, draw)
        return dataclasses.replace(self, parts=dataclasses.replace(self.parts, traits=traits))

    def _histories(self, wide: Table, seed: int) -> tuple[Table, Histories, Ints]:
        """Return static facts, the arrays of histories below them, and groups of outcome."""
        rng = generator(seed, "visits draw")
        drawn = self._about(wide, rng)
        group, _ = outcomes(drawn.static, self.schema, drawn.death >= 0)
        return drawn.static, self._events(drawn, group, seed, rng), group

    def _about(self, wide: Table, rng: np.random.Generator) -> Drawn:
        """Draw the visits of rows of what is told once a subject."""
        static = narrowed(wide, self.schema.static)
        n, parts = static.n_rows, self.parts
        counts = _whole(wide, self.columns["visits"], MOST_VISITS)
        counts = np.where(parts.process.first.size and parts.sizes["codes"], counts, 0)
        if counts.sum() > MOST_DRAWN:
            raise InputError(f"more than {MOST_DRAWN:,} visits in one draw", "fewer", "draw fewer")
        profile = _code(wide, self.columns["profile"], parts.sizes["profiles"])
        died = _code(wide, self.columns["death"], parts.sizes["deaths"] + 1)
        undated = _code(wide, self.columns["undated"], 2) == 1
        start = _starts(wide.columns[self.columns["first visit"]], counts, rng)
        draw = Drawing(parts.process, parts.gaps, parts.lengths, rng)
        pace = np.nan_to_num(wide.columns[self.columns["pace"]])
        course = draw_course(
            draw, profile, counts, start, pace, np.minimum(died, 1), undated & (profile >= 0),
            parts.sizes["classes"] - 1,
        )  # fmt: skip
        births = np.full(n, "NaT", "datetime64[us]")
        if self.schema.birth:
            births = static.columns[self.schema.birth].astype("datetime64[us]")
        sex = fitting.sexes(static, self.schema)
        own = np.zeros((n, parts.sizes["factors"]))
        for i in range(own.shape[1]):
            level = wide.columns[self.columns[f"level {i + 1}"]]
            # who had no number at all may be drawn one: of a level as anybody's
            own[:, i] = np.where(np.isnan(level), rng.standard_normal(n), level)
        death = np.full(n, -1, np.int64)
        death[died > 0] = parts.process.deaths[died[died > 0] - 1]
        contexts = contexts_of(course, profile, births, sex)
        starts = np.searchsorted(course.whose, np.arange(n + 1)).astype(np.int64)
        return Drawn(static, course, starts, contexts, profile, sex, own, death)

    def _events(self, drawn: Drawn, group: Ints, seed: int, rng: np.random.Generator) -> Histories:
        """Return the arrays of histories with these visits."""
        parts, course = self.parts, drawn.course
        own = factors_of(parts.traits, drawn.own, group) if drawn.own.size else drawn.own
        traits = draw_traits(
            parts.traits, parts.moments, own, group, generator(seed, "visits traits")
        )
        visit, code = draw_codes(
            parts.rates, drawn.contexts, drawn.starts, course.days, course.kind < 0, rng
        )
        n = drawn.profile.size
        return filled(parts, course, visit, code, n, own, drawn.sex, drawn.death, rng,
                      traits=traits)  # fmt: skip


def _whole(table: Table, name: str, most: int) -> Ints:
    found = np.nan_to_num(table.columns[name], posinf=0, neginf=0)
    return np.asarray(np.clip(np.rint(found), 0, most), np.int64)


def _code(table: Table, name: str, n: int) -> Ints:
    return np.asarray(np.clip(table.columns[name].astype(np.int64), 0, n - 1))


def _starts(
    start: NDArray[np.datetime64], counts: Ints, rng: np.random.Generator
) -> NDArray[np.datetime64]:
    """Return when first visits are; one that is not known is when another's is."""
    found = start.astype("datetime64[us]")
    lacking = np.flatnonzero(np.isnat(found) & (counts > 0))
    known = found[~np.isnat(found)]
    if lacking.size:
        other = known if known.size else np.array(["2000-01-01"], "datetime64[us]")
        found = found.copy()
        found[lacking] = other[rng.integers(0, other.size, lacking.size)]
    return found


def _seed(seed: int, what: str, block: int = 0) -> int:
    return int(generator(seed, f"visits {what}", block).integers(2**62))


# ------------------------------------------------------------------ from a file

_KINDS: dict[str, type[Any]] = {
    "visits": Classes, "subjects": Classes, "process": Process, "gaps": Quantiles,
    "lengths": Quantiles, "delays": Quantiles, "rates": Rates, "moments": Moments,
    "waits": Quantiles, "spans": Quantiles, "values": Values, "numbers": Quantiles,
    "durations": Quantiles, "traits": Traits,
}  # fmt: skip
_GROUPS = {"gaps": "classes", "lengths": "classes", "waits": "classes", "spans": "classes",
           "numbers": "codes", "durations": "codes"}  # fmt: skip
_SIZES = ("codes", "classes", "dated", "ages", "profiles", "sexes", "edges", "places", "kinds",
          "deaths", "moments", "said", "ends", "factors")  # fmt: skip


def restored(schema: Any, state: State, recipe: Synthesizer[Table], rules: bool) -> VisitsModel:
    """Return the model of a state that may be a stranger's."""
    if not isinstance(schema, EventSchema):
        raise InputError("a schema of no histories", "that of histories", "use its own file")
    values = state.values
    sizes, texts, notes = values["sizes"], values["texts"], values["notes"]
    columns = values["columns"]
    if not (
        isinstance(sizes, dict)
        and set(sizes) == set(_SIZES)
        and all(type(size) is int and 0 <= size < 2**31 for size in sizes.values())
        and _fits(sizes, schema)
        and all(isinstance(text, str) for text in (*texts, *notes))
    ):
        raise _malformed("sizes or texts that cannot be")
    flat = TableSchema.from_json(values["table_schema"])
    levels = {f"level {i + 1}" for i in range(sizes["factors"])}
    if set(columns) != {*FIXED, *levels} or not _has(flat, columns, schema.static, sizes):
        raise _malformed("columns beside the static facts that cannot be")
    parts: dict[str, Any] = {}
    own = {**sizes, "written": len(texts)}
    for name, kind in _KINDS.items():
        size = sizes["profiles"] if name == "subjects" else sizes["dated"]
        groups = {"groups": sizes[_GROUPS[name]] if name in _GROUPS else 1}
        parts[name] = unpack(kind, name, state.arrays, {**own, **groups, "dated": size})
    _check(parts, sizes)
    checked(parts["traits"])
    inner = {
        key.removeprefix("table/"): array
        for key, array in state.arrays.items()
        if key.startswith("table/")
    }
    table = recipe.restore(flat, State(inner, values["table"]))
    if not isinstance(table, Conditional):
        raise _malformed("a table that cannot be drawn given others")
    encoding = EventEncoding(schema, tuple(texts), tuple(notes))
    whole = Parts(**parts, sizes=sizes)
    return VisitsModel(encoding, table, columns, whole, rules, Paid.restore(values))


def _fits(sizes: Mapping[str, int], schema: EventSchema) -> bool:
    return (
        sizes["codes"] == len(schema)
        and sizes["classes"] == sizes["dated"] + 1 > 1
        and sizes["ends"] == sizes["codes"] + 1
        and sizes["ages"] == fitting.AGES
        and sizes["sexes"] == fitting.n_sexes(schema)
        and min(sizes["profiles"], sizes["moments"], sizes["kinds"], sizes["places"]) >= 1
    )


def _has(
    flat: TableSchema, columns: Mapping[str, str], static: TableSchema, sizes: Mapping[str, int]
) -> bool:
    """Whether the columns of the table are the static facts and what is drawn beside them."""
    names = [column.name for column in static]
    if [c.name for c in flat][: len(names)] != names or set(columns.values()) & set(names):
        return False
    if any(flat[c.name] != c for c in static.learned):
        return False
    wanted = {"first visit": "datetime", "visits": "integer", "pace": "continuous"}
    counts = {"profile": sizes["profiles"], "death": sizes["deaths"] + 1, "undated": 2}
    for what, name in columns.items():
        if name not in flat:
            return False
        kind = "categorical" if what in counts else wanted.get(what, "continuous")
        if flat[name].kind != kind or len(flat[name].categories) != counts.get(what, 0):
            return False
    return True


def _check(parts: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Raise InputError for arrays that are each of their shape but do not go together."""
    first, rates = parts["values"].first, parts["rates"]
    rising = bool(np.all(np.diff(first) >= 0)) and first[0] == 0 and first[-1] == sizes["said"]
    plan = parts["process"]
    n = plan.kinds.size if plan.once.size else 0
    if plan.once.size not in (0, plan.kinds.size) or plan.follows.shape != (n, n):
        raise _malformed("a plan of visits that does not go together")
    if not rising or plan.kinds[0] < -1:
        raise _malformed("places that do not go together")
    if rates.beside.shape[1] > 50:
        raise _malformed("more causes than there can be")


def _malformed(what: str) -> InputError:
    return InputError(f"a model of histories with {what}", "what was fitted", "fit it anew")
