"""Panel: visits on a schedule, and values that stay a subject's own, by a copula over time.

Reference  Laird and Ware, "Random-effects models for longitudinal data", Biometrics 1982 (levels
           of subjects); Diggle, "An approach to the analysis of repeated measurements", Biometrics
           1988 (variograms: level, serial correlation and noise); Hedeker, Mermelstein and
           Demirtas, Biometrics 2008 (mixed-effects location scale: subjects differ in spread)
Idea       facts by any table synthesizer; visits by slots of a plan, or by gaps; values as normal
           scores of a Gaussian process with subjects' own level and own liveliness
Algorithm  1 find the plan's slots, and the anchor from which its days count · 2 fit the table
           synthesizer to static facts and anchors · 3 learn which channels are measured, and when
           records end, by regressions on what came before · 4 turn values into scores, take means
           off, and fit covariances to products over pairs of visits · 5 draw, compare the same
           averages, correct, thrice · 6 draw subjects, then visit after visit of everybody
Differs    from the papers in: moments in place of likelihood; values may repeat the former one
           exactly; a planned visit counts on from the plan, from the visit before or from how late
           its subject usually is; facts tell how far apart levels lie; nothing is emitted that
           fewer than k subjects share; under a budget, noisy sums of one clipped vector a subject
           (Dwork et al., STOC 2014; `_panel_private.py`)
Use when   a few channels are measured at many visits: trials, laboratory series, hourly grids;
           not for records of thousands of codes, most of them rare
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._panel_process as process
from manikin.data.codes import EventSchema
from manikin.data.dataset import Dataset
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.knowledge.histories import repaired
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release
from manikin.synthesizer import (
    Conditional,
    Model,
    State,
    Synthesizer,
    Watch,
    check_settings,
    report,
    silent,
)
from manikin.synthesizers.events._bounded import Paid
from manikin.synthesizers.events._panel_channels import (
    UNITS_US,
    Channel,
    Sheet,
    channels_of,
    sheet_of,
    unit_of,
    visits_for,
)
from manikin.synthesizers.events._panel_facts import Facts
from manikin.synthesizers.events._panel_future import future
from manikin.synthesizers.events._panel_layout import Layout, joined
from manikin.synthesizers.events._panel_private import fit_privately
from manikin.synthesizers.events._panel_process import Process
from manikin.synthesizers.events._panel_state import malformed, process_of, state_of
from manikin.synthesizers.events._panel_times import Times

__all__ = ["Panel"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

BLOCK = 5_000  # subjects drawn at a time
MOST_CELLS = 30_000_000  # visits by channels: what is learnt from stays below 1 GB


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Panel:
    """Recipe: a panel of a few channels."""

    takes_budget: ClassVar[bool] = True
    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    k: int = 5  # fewest subjects that share a code, a level or a value that stands as it is
    rounds: int = 3  # how often the model is drawn from and corrected
    most_visits: int = 64  # under a budget: visits of a subject that count, chosen at random

    def __post_init__(self) -> None:
        check_settings(self, k=(2, math.inf), rounds=(0, 20), most_visits=(1, 128))

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> PanelModel:
        """Learn facts, visits and values."""
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        if not isinstance(data, Events):
            raise InputError(
                "no histories were given to 'events/panel'",
                "events over time",
                "read them by a door of histories, or choose another synthesizer",
            )
        report(watch, 0, 3, "ordering visits")
        data, sheet, channels, unit_us, notes = _sheet(data, self.k, seed)
        visits = Times.fit(sheet, self.k)
        report(watch, 1, 3, "fitting static facts")
        layout = Layout(data.schema, channels, unit_us, bool((data.visit >= 0).mean() > 0.5)
                        if data.n_events else False)  # fmt: skip
        table: Model[Table] | None = None
        if (static := layout.with_anchor(data.static, sheet.counts > 0, visits[2])) is not None:
            table = self._table().fit(static, seed=_seed(seed, "facts"), watch=watch)
        facts = Facts.fit(data.static, self.k)
        report(watch, 2, 3, "fitting visits and values")
        terminal = [
            i for i, c in enumerate(channels) if data.schema.codes[c.code].domain == "death"
        ]

        def again(n: int) -> tuple[Floats, Ints]:
            drawn, anchor, some = layout.parted(table, n, _seed(seed, "again"))
            return facts.of(drawn)[some], anchor[some]

        made = process.fit(sheet, channels, visits, facts.of(data.static), np.array(terminal, int),
                           k=self.k, rounds=self.rounds, seed=seed, again=again)  # fmt: skip
        final, places = layout.final(table)
        moved = tuple(dataclasses.replace(c, code=places[c.code]) for c in channels)
        made = dataclasses.replace(made, channels=moved)
        return PanelModel(final, table, facts, made, notes)

    def _privately(self, data: Events, budget: Budget, seed: int, watch: Watch) -> PanelModel:
        """Learn under a budget: its noise is secret, so that no seed repeats a model."""
        found = fit_privately(
            data, (self.table, self._table()), budget, most_visits=self.most_visits,
            rounds=self.rounds, seed=seed, watch=watch,
        )  # fmt: skip
        return PanelModel(
            found.layout, found.table, found.facts, found.process, found.notes, found.paid
        )

    def restore(self, schema: Any, state: State) -> PanelModel:
        """Rebuild a model from its state."""
        if not isinstance(schema, EventSchema):
            raise InputError("a schema of one table", "that of histories", "use its own file")
        values = state.values
        own = {k: v for k, v in state.arrays.items() if not k.startswith("table/")}
        made, facts = process_of(State(own, values), schema)
        unit_us, numbered, notes = (values.get(key) for key in ("unit_us", "numbered", "notes"))
        if unit_us not in UNITS_US or type(unit_us) is not int or type(numbered) is not bool:
            raise malformed("an impossible unit of time")
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise malformed("notes that are no sentences")
        layout = Layout(schema, made.channels, unit_us, numbered)
        table = self._restored(schema, layout, state)
        if any(fact.column not in schema.static for fact in facts.each):
            raise malformed("facts that are not there")
        return PanelModel(layout, table, facts, made, tuple(notes), Paid.restore(values))

    def _restored(self, schema: EventSchema, layout: Layout, state: State) -> Model[Table] | None:
        """Rebuild the model of static facts."""
        inner = state.values.get("table")
        if inner is None:
            if any(column.is_learned for column in schema.static.columns):
                raise malformed("no model of static facts")
            return None
        if not isinstance(inner, dict) or set(inner) != {"state", "schema"}:
            raise malformed("a model of static facts that is none")
        flat = TableSchema.from_json(inner["schema"])
        mine = tuple(c for c in flat.columns if c.name != layout.anchor)
        if dataclasses.replace(flat, columns=mine) != schema.static:
            raise malformed("static facts of another schema")
        if layout.anchor in flat and flat[layout.anchor].kind != "datetime":
            raise malformed("an anchor that is no time")
        start = "table/"
        arrays = {k.removeprefix(start): v for k, v in state.arrays.items() if k.startswith(start)}
        return self._table().restore(flat, State(arrays, inner["state"]))

    def _table(self) -> Synthesizer[Table]:
        if self.recipe is None:
            raise InputError(
                "a recipe of panels without the recipe of their static facts",
                "Panel(recipe=SeqTree()), or catalogue.build('events/panel')",
                "build it by its name",
            )
        return self.recipe


def _sheet(
    data: Events, k: int, seed: int
) -> tuple[Events, Sheet, tuple[Channel, ...], int, tuple[str, ...]]:
    """Return histories, of as many subjects as memory holds, as a sheet; and what to say of it."""
    notes: list[str] = []
    unit_us = unit_of(data)
    visits = visits_for(data)
    channels = channels_of(data, visits, k, unit_us)
    cells = visits.n * max(1, len(channels))
    if cells > MOST_CELLS:
        n = max(100, int(data.n_subjects * MOST_CELLS / cells))
        rng = generator(seed, "panel subjects")
        chosen = np.sort(rng.choice(data.subjects, min(n, data.n_subjects), replace=False))
        data = data.take(chosen)
        visits = visits_for(data)
        notes.append(f"learnt from {chosen.size:,} subjects, drawn at random, to stay in memory")
    used = {channel.code for channel in channels}
    lost = np.unique(data.code).size - len(used)
    if lost > 0:
        notes.append(f"{lost} codes that fewer than {k} subjects have were left out")
    sheet = sheet_of(data, visits, channels, unit_us)
    if unknown := int(np.isnat(data.time).sum()):
        notes.append(f"{unknown if unknown >= 11 else 'a few'} events without a time left out")
    return data, sheet, channels, unit_us, tuple(notes)


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class PanelModel:
    """A fitted panel."""

    layout: Layout
    table: Model[Table] | None
    facts: Facts
    process: Process
    notes: tuple[str, ...]
    paid: Paid | None = None  # what a private model was made of

    @property
    def schema(self) -> EventSchema:
        """Schema of what it generates."""
        return self.layout.source

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was released of the subjects; without a budget, with no formal protection."""
        if self.paid is not None:
            return self.paid.releases
        own = NonPrivate("visits, their times, and moments of what is measured at them")
        return (own, *(() if self.table is None else self.table.ledger))

    @property
    def subjects(self) -> float | None:
        """Number of subjects as noisy counts have it; None where nothing was paid for it."""
        return None if self.paid is None else self.paid.subjects

    @property
    def most_rows(self) -> int | None:
        """Visits of a subject that counted at most; None where all did."""
        return None if self.paid is None else self.paid.most_rows

    def sample(self, n: int, *, seed: int) -> Events:
        """Draw `n` new subjects with their histories."""
        return self._after(*self.layout.parted(self.table, n, _seed(seed, "facts")), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Events:
        """Draw one subject for each given row of static facts, any subset of their columns."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "rows of static facts", "give these")
        model = self._conditional
        known = tuple(c for c in given.schema.columns if c.name != self.layout.anchor)
        given = dataclasses.replace(given, subjects=np.arange(given.n_rows, dtype=np.int64))
        for column in known:
            self.schema.static[column.name]
        drawn = model.sample_given(given, seed=_seed(seed, "facts"))
        return self._after(*self.layout.apart(drawn), seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Events:
        """Draw `n` new subjects for whose static facts every condition holds."""
        drawn = self._conditional.sample_where(n, where, seed=_seed(seed, "facts"))
        return self._after(*self.layout.apart(drawn), seed)

    def continue_from(self, history: Any, *, days: float, futures: int = 1, seed: int) -> Events:
        """Draw what may follow the last event of each subject, for so many days."""
        check_horizon(history, days, futures)
        names = {column.name for column in self.schema.static.learned}
        if not names <= {column.name for column in history.schema.static.learned}:
            raise InputError(
                "histories that lack static facts of the model",
                f"they have: {', '.join(sorted(names))}",
                "read them with the schema that the model was fitted to",
            )
        sheet = sheet_of(history, visits_for(history), self._channels_in(history.schema),
                         self.layout.unit_us)  # fmt: skip
        span = int(days * 86_400_000_000 // self.layout.unit_us)
        parts, size = [], max(1, BLOCK // futures)
        for block, at in enumerate(range(0, max(1, sheet.n_subjects), size)):
            rows = np.arange(at, min(at + size, sheet.n_subjects))
            whose = np.repeat(np.arange(rows.size), futures)
            own = sheet.subset(rows).rows(whose)
            facts = self.facts.of(history.static.rows(rows[whose]))
            rng = generator(seed, "panel future", block)
            drawn = future(self.process, own, facts, span, rng)
            parts.append((rows, drawn, own.counts))
        repeated = np.repeat(np.arange(sheet.n_subjects), futures)
        static = dataclasses.replace(
            history.static.rows(repeated), subjects=np.arange(repeated.size, dtype=np.int64)
        )
        made = joined([self._continued(static, *part, futures, history) for part in parts])
        last = np.full(history.n_subjects, np.iinfo(np.int64).min)
        timed = ~np.isnat(history.time)
        when = history.time.astype("datetime64[us]").astype(np.int64)
        np.maximum.at(last, history.whose[timed], when[timed])
        # a visit takes time: some of the next one may have been before the last one was over
        late = made.time.astype(np.int64) - last[made.whose // futures]
        return repaired(
            made.rows((late > 0) & (late <= days * 86_400e6)), seed=_seed(seed, "rules")
        )

    def _continued(
        self, static: Table, rows: Ints, drawn: Sheet, before: Ints, futures: int, history: Events
    ) -> Events:
        """Return the futures of these rows, whose visits are numbered on."""
        where = np.arange(rows.size * futures) + (rows[0] * futures if rows.size else 0)
        numbers = before[drawn.whose]
        if self.layout.numbered and history.n_events:
            most = np.full(history.n_subjects, -1)
            np.maximum.at(most, history.whose, history.visit.astype(np.int64))
            numbers = most[where // futures][drawn.whose] + 1
        return self.layout.events(static, where, drawn, numbers)

    def _channels_in(self, schema: EventSchema) -> tuple[Channel, ...]:
        """Return the channels by the codes of another schema, which lacks some perhaps."""
        found = []
        for channel in self.layout.channels:
            key = self.schema.codes[channel.code].key
            found.append(dataclasses.replace(channel, code=schema.place.get(key, -1)))
        return tuple(found)

    def state(self) -> State:
        """Return what `Panel.restore` needs."""
        own = state_of(self.process, self.facts)
        arrays, values = dict(own.arrays), dict(own.values)
        values |= {"unit_us": self.layout.unit_us, "numbered": self.layout.numbered,
                   "notes": list(self.notes), "table": None}  # fmt: skip
        values |= {} if self.paid is None else self.paid.values()
        if self.table is not None:
            inner = self.table.state()
            arrays |= {f"table/{key}": array for key, array in inner.arrays.items()}
            values["table"] = {"state": dict(inner.values), "schema": self.table.schema.to_json()}
        return State(arrays, values)

    @property
    def _conditional(self) -> Conditional[Table]:
        if isinstance(self.table, Conditional):
            return self.table
        raise NotSupported(
            "conditions for a table synthesizer that takes none, or where no fact is known",
            "one that can draw some columns given others",
            "choose another one: manikin list says which can",
        )

    def _after(self, static: Table, anchor: Ints, some: NDArray[np.bool_], seed: int) -> Events:
        """Draw the histories of subjects whose facts and anchors are known."""
        facts, rows = self.facts.of(static), np.flatnonzero(some)
        parts = []
        for block, at in enumerate(range(0, max(1, rows.size), BLOCK)):
            own = rows[at : at + BLOCK]
            rng = generator(seed, "panel sample", block)
            sheet, _ = process.draw(self.process, facts[own], anchor[own], rng)
            parts.append(self.layout.events(static, own, sheet))
        return repaired(joined(parts), seed=_seed(seed, "rules"))


def check_horizon(history: Any, days: float, futures: int) -> None:
    """Raise InputError for what cannot be continued."""
    if not isinstance(history, Events):
        raise InputError("what is to be continued is no history", "events over time", "give these")
    if not (0 <= days < 40_000 and 1 <= futures <= 100_000):
        raise InputError(
            f"{days:g} days and {futures} futures",
            "0 days or more, up to 40,000, and 1 to 100,000 futures",
            "correct the numbers",
        )


def _seed(seed: int, purpose: str) -> int:
    return int(generator(seed, f"panel {purpose}").integers(2**62))
