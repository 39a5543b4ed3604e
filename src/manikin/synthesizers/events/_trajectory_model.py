"""Fitted trajectories: whole records, records of whom something is given, and what may follow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.dataset import Dataset
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.knowledge.histories import repaired
from manikin.nn.loop import random
from manikin.privacy import ledger as ledgers
from manikin.privacy.ledger import NonPrivate, Release
from manikin.synthesizer import Conditional, Model, State
from manikin.synthesizers.events._trajectory_draw import Drawer, Drawn, Style, Subjects
from manikin.synthesizers.events._trajectory_moments import Moments
from manikin.synthesizers.events._trajectory_network import Network
from manikin.synthesizers.events._trajectory_prior import Recalled
from manikin.synthesizers.events._trajectory_scales import Scales
from manikin.synthesizers.events._trajectory_subjects import Once, first_times
from manikin.synthesizers.events._trajectory_tokens import (
    DAY_US,
    NAT,
    Ints,
    Slots,
    Vocabulary,
    canonical,
    slots,
)
from manikin.synthesizers.events.encoding import narrowed

__all__ = ["PREFIXES", "Decoding", "TrajectoryModel", "drawing", "of_table", "spelled"]

BLOCK = 256  # subjects drawn at once
PREFIXES = ("table/", "facts/", "gap/", "value/", "duration/", "network/")
LATEST = 253_402_300_799_000_000  # the end of the year 9999, in microseconds
HIGHEST = 12  # most steps up an ontology


@dataclass(frozen=True, eq=False)
class Decoding:
    """What draws the events."""

    network: Network
    scales: Mapping[str, Scales]


@dataclass(frozen=True, eq=False)
class TrajectoryModel:
    """Records drawn event by event; a history can be continued."""

    once: Once
    table: Conditional[Table]
    decoding: Decoding | None  # None where there was no event to learn from
    style: Style
    notes: tuple[str, ...]
    paid: tuple[Release, ...] = ()  # what a budget bought; () where there was none

    @property
    def schema(self) -> EventSchema:
        """Schema of what it generates."""
        return self.once.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was bought with a budget, or taken from the rows without formal protection."""
        if self.paid:
            return self.paid
        own = (NonPrivate("weights of networks trained on the events, and frequencies of these"),)
        return tuple(dict.fromkeys((*own, *self.table.ledger)))

    # -------------------------------------------------------------- drawing

    def sample(self, n: int, *, seed: int) -> Events:
        """Draw `n` new subjects and their records."""
        return self._records(self.table.sample(n, seed=_seed(seed, "table")), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Events:
        """Draw one subject for each given row of static facts, any subset of their columns."""
        if not isinstance(given, Table):
            raise InputError(
                "what is given are no static facts",
                "a table of them, one row a subject",
                "give a table; continue_from takes histories",
            )
        numbered = dataclasses.replace(given, subjects=np.arange(given.n_rows, dtype=np.int64))
        flat = self.table.sample_given(numbered, seed=_seed(seed, "table"))
        return self._records(flat, seed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Events:
        """Draw `n` new subjects for whose static facts every condition holds."""
        return self._records(self.table.sample_where(n, where, seed=_seed(seed, "table")), seed)

    def continue_from(self, history: Events, *, days: float, futures: int = 1, seed: int) -> Events:
        """Draw what may follow each subject's last event.

        Of the dead, and of those without any event that has a time, nothing follows.
        """
        if not (math.isfinite(days) and days >= 0 and futures >= 1):
            raise InputError(
                f"a future of {days:g} days, {futures} times",
                "days from 0 on, and one future at least",
                "correct them",
            )
        static = history.static.rows(np.repeat(np.arange(history.n_subjects), futures))
        subjects = np.arange(static.n_rows, dtype=np.int64)
        static = dataclasses.replace(static, subjects=subjects)
        schema = dataclasses.replace(self.schema, static=static.schema)
        pieces: list[Drawn] = []
        if self.decoding is not None:
            words = Vocabulary.of(self.schema)
            line = canonical(history, _places(self.schema, history.schema), self.schema, words)
            moments = Moments.of(line, words)
            births = self.once.births(history.static)
            first = first_times(line)
            places = slots(line, words, self.decoding.scales, births, first)
            last, dead = _now(history)
            first = np.where(first == NAT, last, first)
            alive = np.repeat(np.flatnonzero((last != NAT) & ~dead), futures)
            number = alive * futures + np.tile(np.arange(futures), alive.size // futures)
            for block, at in enumerate(range(0, alive.size, BLOCK)):
                rows, own = alive[at : at + BLOCK], number[at : at + BLOCK]
                drawer = self._drawer(words, seed, "future", block)
                until = _after(last[rows], days)
                who = Subjects.new(
                    np.arange(line.subjects), first, births, np.full(line.subjects, -1),
                    np.full(line.subjects, LATEST), int(drawer.bearing.sum()),
                )  # fmt: skip
                drawer.recall(who, line)
                who.now = np.where(last == NAT, who.now, last)
                who.keep(rows)
                who.number, who.until = own, until
                if drawer.network.prior is not None:
                    who.recalled = Recalled.of(drawer.network.prior, moments, rows)
                facts = torch.from_numpy(self.once.told(history.static)[rows])
                pieces.append(_continued(drawer, who, facts, places, rows))
        return self._events(schema, static, pieces)

    def _records(self, flat: Table, seed: int) -> Events:
        """Return the records of drawn subjects."""
        static = narrowed(flat, self.schema.static)
        births = self.once.births(static)
        counts, start = self.once.drawn(flat, births, self.style.tick_us)
        pieces: list[Drawn] = []
        if self.decoding is not None:
            words = Vocabulary.of(self.schema)
            told = self.once.told(static)
            order = np.argsort(-counts, kind="stable")  # those of like length are drawn together
            order = order[counts[order] > 0]
            for block, at in enumerate(range(0, order.size, BLOCK)):
                rows = order[at : at + BLOCK]
                drawer = self._drawer(words, seed, "sample", block)
                who = Subjects.new(
                    rows, start[rows], births[rows], counts[rows], np.full(rows.size, LATEST),
                    int(drawer.bearing.sum()),
                )  # fmt: skip
                if drawer.network.prior is not None:
                    who.recalled = Recalled.new(rows.size, drawer.network.prior)
                facts = torch.from_numpy(told[rows])
                latent = drawer.network.latent
                z = torch.randn(rows.size, latent, generator=drawer.rng)
                cache = drawer.network.decoder.cache()
                with torch.no_grad():
                    h = drawer.first(who, facts, z, cache)
                pieces.append(drawer.draw(who, facts, z, cache, h))
        return repaired(self._events(self.schema, static, pieces), seed=_seed(seed, "rules"))

    def _drawer(self, words: Vocabulary, seed: int, what: str, block: int) -> Drawer:
        assert self.decoding is not None
        rng = random(seed, f"trajectory {what}", block)
        return Drawer(self.decoding.network, words, self.decoding.scales, self.style, rng)

    def _events(self, schema: EventSchema, static: Table, pieces: list[Drawn]) -> Events:
        """Return drawn events under a schema."""
        whole = Drawn([piece for drawn in pieces for piece in drawn.pieces])
        texts = [text for code in schema.codes for text in code.levels]
        unlike = tuple(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(unlike)}
        of = np.array([-1, *(place[text] for text in texts)], np.int64)
        code = np.asarray(whole.column("code", np.int64))
        bounds = [(c.minimum, c.maximum) for c in schema.codes]
        low = np.array([-np.inf if least is None else least for least, _ in bounds])
        high = np.array([np.inf if most is None else most for _, most in bounds])
        value = np.asarray(whole.column("value", np.float64))
        return Events.of(
            schema, static, whole.column("number", np.int64),
            np.asarray(whole.column("time", np.int64)).astype("datetime64[us]"),
            code, np.clip(value, low[code], high[code]),
            of[np.asarray(whole.column("text_number", np.int64))],
            np.asarray(whole.column("end", np.int64)).astype("datetime64[us]"),
            whole.column("visit", np.int64), unlike,
        )  # fmt: skip

    # -------------------------------------------------------------- state

    def state(self) -> State:
        """Return what `Trajectory.restore` needs."""
        inner = self.table.state()
        arrays = {f"table/{name}": array for name, array in inner.arrays.items()}
        arrays |= self.once.scales.arrays("facts")
        if self.decoding is not None:
            for name, scales in self.decoding.scales.items():
                arrays |= scales.arrays(name)
            arrays |= {
                f"network/{name}": tensor.numpy()
                for name, tensor in self.decoding.network.state_dict().items()
            }
        values: dict[str, Any] = {
            "once": self.once.values(), "model": dict(inner.values),
            "schema": self.table.schema.to_json(), "network": self.decoding is not None,
            "notes": list(self.notes),
        }  # fmt: skip
        if self.paid:
            values["ledger"] = ledgers.to_json(self.paid)
        return State(arrays, {"trajectory": values})


# ------------------------------------------------------------------ parts


@torch.no_grad()
def _continued(
    drawer: Drawer, who: Subjects, facts: torch.Tensor, places: Slots, rows: Ints
) -> Drawn:
    """Show a decoder the latest places of records, draw traits that fit them, and go on."""
    network = drawer.network
    count = np.diff(places.starts)[rows]
    room = min(int(count.max()), max(drawer.style.context // 2, 1))
    at = places.starts[rows + 1][:, None] - room + np.arange(room)[None]
    there = at >= places.starts[rows][:, None]
    at = np.where(there, at, places.starts[rows][:, None])
    words = torch.from_numpy(places.words[at] * there[..., None])
    events = network.events(words, torch.from_numpy(places.shown[at]))
    seen = torch.from_numpy(there)
    posterior = network.traits_of(events, seen[:, None, :])
    z = posterior.draw(drawer.rng)[:, 0]
    wide = z[:, None].expand(-1, room, -1)
    blind = torch.full(seen.shape, -1)
    x = network.whole(events, facts[:, None].expand(-1, room, -1), wide, blind)
    positions = torch.from_numpy(at - places.starts[rows][:, None])
    cache = network.decoder.cache()
    h = network.decoder.step(x, positions, seen, cache)[:, -1]
    return drawer.draw(who, facts, z, cache, h)


def drawing(model: Model[Table], name: str) -> Conditional[Table]:
    """Return a table model that can draw columns given others. Raises NotSupported if not."""
    if isinstance(model, Conditional):
        return model
    raise NotSupported(
        f"'{name}' cannot draw rows of which columns are given",
        "a synthesizer that can, for what is told of subjects once",
        "choose another one: manikin list says which can",
    )


def spelled(schema: EventSchema, table: Model[Table]) -> EventSchema:
    """Return the schema with the levels and marks that the fitted table model knows."""
    flat = table.schema
    assert isinstance(flat, TableSchema)
    columns = tuple(flat[c.name] if c.is_learned else c for c in schema.static)
    static = dataclasses.replace(schema.static, columns=columns)
    return dataclasses.replace(schema, static=static)


def of_table(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the table model."""
    return {
        name.removeprefix("table/"): array
        for name, array in arrays.items()
        if name.startswith("table/")
    }


def _places(own: EventSchema, other: EventSchema) -> Ints:
    """Return where codes of another schema stand in the model's: by key, or by what is above."""
    found = np.full(len(other), -1, np.int64)
    for i, code in enumerate(other.codes):
        key, parents = code.key, code.parents
        for _ in range(HIGHEST):
            if key in own.place:
                found[i] = own.place[key]
                break
            if not parents:
                break
            above = other.named.get(parents[0], ())
            key = next(
                (other.codes[j].key for j in above if other.codes[j].domain == code.domain),
                (parents[0], "", code.domain),
            )
            parents = next((other.codes[j].parents for j in above), ())
    return found


def _now(history: Events) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the time of each subject's last event, whatever its code, and who is dead."""
    time = history.time.astype("datetime64[us]").astype(np.int64)
    last = np.full(history.n_subjects, NAT)
    last[history.whose] = time  # ascending: the last one stays
    dying = np.array([code.domain == "death" for code in history.schema.codes], bool)
    dead = np.zeros(history.n_subjects, bool)
    dead[history.whose[dying[history.code]]] = True
    return last, dead


def _after(time: Ints, days: float) -> Ints:
    """Return times so many days later, no later than the year 9999."""
    far = min(days * DAY_US, float(LATEST))
    return np.minimum(time, LATEST - int(far)) + int(far)


def _seed(seed: int, what: str) -> int:
    return int(generator(seed, f"trajectory {what} draws").integers(2**62))
