"""Histories as a grid that networks of the field take: subjects × visits × features, and back.

A visit is a row of bits, one a code that may be told (kinds of stays and deaths among them), and of
normal scores: of the days since the visit before, of the length of the stay, and of the value of
each code that bears numbers. What a grid has no place for is left out, and said: how often a code
was there at one visit, when within it, how long a thing lasted, and events that have no time. Texts
are drawn from each code's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import Model
from manikin.synthesizers.events._parts import array, pack, unpack
from manikin.synthesizers.events._quantiles import KNOTS, Quantiles, quantiles
from manikin.synthesizers.events.encoding import DAY_US, EventEncoding, Histories

__all__ = ["FLAT", "Cells", "Grid", "day_of", "spelled"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Single: TypeAlias = NDArray[np.float32]

MOST_CELLS = 400_000_000  # of a grid: 1.6 GB as single-precision numbers
MOST_VISITS = 5_000
DAYS_LEAST, DAYS_MOST = -719_162, 2_932_896  # days since 1970 of the years 1 and 9999
GAP, LENGTH = 0, 1  # places among the scores, before those of values
FLAT = "a grid holds a code once a visit, at its beginning, and no ends but those of stays"


@dataclass(frozen=True, eq=False)
class Cells:
    """A grid of subjects; what is beyond a subject's last visit is 0."""

    bits: Single  # (subjects, visits, codes)
    scores: Single  # (subjects, visits, 2 + numeric codes), 0 where there is none
    counts: Ints  # (subjects,) visits of each


@dataclass(frozen=True)
class Shares:
    """How often each text, and a number at all, goes with each code."""

    texts: Annotated[Floats, array("codes", "texts", low=0.0, high=1.0)]
    valued: Annotated[Floats, array("codes", low=0.0, high=1.0)]


@dataclass(frozen=True, eq=False)
class Grid:
    """A fitted grid: codes, what their values are like, and how many visits there can be."""

    encoding: EventEncoding
    visits: int  # most that are drawn: what k subjects have
    quantiles: Quantiles  # of gaps, lengths, and the values of each numeric code
    shares: Shares

    @staticmethod
    def fit(events: Events, k: int) -> tuple[Grid, Cells, NDArray[np.datetime64]]:
        """Learn from events; return the grid, their cells, and each subject's first time."""
        encoding = EventEncoding.fit(events, k=k)
        histories = encoding.encode(events)
        dated = histories.dated
        counts = np.bincount(histories.whose[dated], minlength=events.n_subjects)
        most = int(np.sort(counts)[-min(k, counts.size)])
        grid = Grid(
            encoding, min(most, MOST_VISITS), _quantiles(histories, encoding.schema, k),
            _shares(histories, len(encoding.schema), len(encoding.texts), k),
        )  # fmt: skip
        grid.check(events.n_subjects)
        return grid, grid.cells(histories), _firsts(histories)

    def check(self, subjects: int) -> None:
        """Raise InputError where the grid would not fit into memory."""
        if subjects * self.visits * self.features > MOST_CELLS:
            raise InputError(
                f"a grid of {subjects:,} subjects, {self.visits:,} visits and"
                f" {self.features:,} features",
                f"{MOST_CELLS:,} cells at most",
                "take 'events/visits', which needs no grid, or fewer codes",
            )

    @property
    def codes(self) -> int:
        """How many bits a visit has."""
        return len(self.encoding.schema)

    @property
    def numeric(self) -> Ints:
        """Places of the codes that bear numbers."""
        found = [i for i, code in enumerate(self.encoding.schema.codes) if code.numeric]
        return np.array(found, np.int64)

    @property
    def numbers(self) -> int:
        """How many scores a visit has."""
        return 2 + int(self.numeric.size)

    @property
    def features(self) -> int:
        """How many numbers a visit has, bits among them."""
        return self.codes + self.numbers

    @property
    def bearing(self) -> Single:
        """Return which bits say that a score is there, (scores, codes); none does of the gap."""
        found = np.zeros((self.numbers, self.codes), np.float32)
        stays = [code.domain == "visit" for code in self.encoding.schema.codes]
        found[LENGTH] = stays
        found[2 + np.arange(self.numeric.size), self.numeric] = 1
        return found

    def cells(self, h: Histories) -> Cells:
        """Return histories as cells; visits beyond the grid's last are left out."""
        numeric = self.numeric
        bits = np.zeros((h.n_subjects, self.visits, self.codes), np.float32)
        scores = np.zeros((h.n_subjects, self.visits, 2 + numeric.size), np.float32)
        place = h.place
        kept = (place >= 0) & (place < self.visits)
        who, at = h.whose, place
        stays = np.flatnonzero(kept & (h.kind >= 0))
        bits[who[stays], at[stays], h.kind[stays]] = 1
        rows = np.flatnonzero(kept[h.of]) if h.of.size else np.zeros(0, np.int64)
        bits[who[h.of[rows]], at[h.of[rows]], h.code[rows]] = 1
        counts = np.minimum(np.bincount(who[place >= 0], minlength=h.n_subjects), self.visits)
        dying = np.flatnonzero((h.death >= 0) & (counts > 0))
        bits[dying, counts[dying] - 1, h.death[dying]] = 1
        for score, values in ((GAP, h.gaps), (LENGTH, h.length)):
            known = np.flatnonzero(kept & ~np.isnan(values))
            scores[who[known], at[known], score] = self._scored(
                np.full(known.size, score), values[known]
            )
        column = np.full(self.codes, -1)
        column[numeric] = 2 + np.arange(numeric.size)
        rows = rows[~np.isnan(h.value[rows]) & (column[h.code[rows]] >= 0)][::-1]
        own = column[h.code[rows]]  # the first value of a visit is written last
        scores[who[h.of[rows]], at[h.of[rows]], own] = self._scored(own, h.value[rows])
        return Cells(bits, scores, counts.astype(np.int64))

    def events(
        self, cells: Cells, start: NDArray[np.datetime64], static: Table, rng: np.random.Generator
    ) -> Events:
        """Return cells as events; nothing comes after a death."""
        bits: NDArray[np.bool_] = np.asarray(cells.bits > 0.5)
        domain = np.array([code.domain for code in self.encoding.schema.codes], object)
        kinds, deaths = (np.flatnonzero(domain == name) for name in ("visit", "death"))
        n, steps = bits.shape[:2]
        dies = np.any(bits[:, :, deaths], axis=2)
        until = np.full(n, steps)
        if steps:
            until = np.where(np.any(dies, axis=1), dies.argmax(1) + 1, steps)
        counts = np.where(np.isnat(start), 0, np.minimum(cells.counts, until))
        there = np.arange(steps) < counts[:, None]
        who, at = np.nonzero(there)
        gaps = self._valued(GAP, cells.scores[who, at, GAP])
        gaps[at == 0] = 0.0
        total = np.concatenate([[0.0], np.cumsum(np.maximum(gaps, 0.0))])
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        since = total[1:] - total[first[who] + 1] if who.size else np.zeros(0)
        moment = start[who].astype("datetime64[us]") + (since * DAY_US).astype("timedelta64[us]")
        length = np.maximum(self._valued(LENGTH, cells.scores[who, at, LENGTH]), 0.0)
        kind = np.full(who.size, -1)
        if kinds.size:
            chosen = bits[who, at][:, kinds]
            kind = np.where(np.any(chosen, axis=1), kinds[chosen.argmax(1)], -1)
        is_event = ~np.isin(np.arange(self.codes), np.concatenate([kinds, deaths]))
        of, code = np.nonzero(bits[who, at] & is_event)
        column = np.full(self.codes, -1)
        column[self.numeric] = 2 + np.arange(self.numeric.size)
        own = column[code]
        scores = cells.scores[who[of], at[of], np.maximum(own, 0)]
        bears = (own >= 0) & (rng.random(own.size) < self.shares.valued[code])
        value = np.where(bears, self._valued(np.maximum(own, 0), scores), np.nan)
        dead = np.full(n, -1)
        gone = np.flatnonzero((counts > 0) & (counts == until) & np.any(dies, axis=1))
        dead[gone] = deaths[bits[gone, until[gone] - 1][:, deaths].argmax(1)] if gone.size else 0
        stays = kind >= 0
        h = Histories(
            n, self.codes, who.astype(np.int64), moment, np.where(stays, length, 0.0), kind,
            stays, stays, of.astype(np.int64), code.astype(np.int64), np.zeros(of.size), value,
            self._texts(code, rng), np.full(of.size, np.nan), dead,
            np.where(dead >= 0, 0.0, np.nan),
        )  # fmt: skip
        return self.encoding.decode(h, static)

    # -------------------------------------------------------------- numbers

    def _scored(self, group: Ints, values: Floats) -> Single:
        return np.asarray(ndtri(self.quantiles.share(group, values)), np.float32)

    def _valued(self, group: Ints | int, scores: NDArray[Any]) -> Floats:
        groups = np.broadcast_to(np.asarray(group, np.int64), scores.shape)
        values = self.quantiles.at(groups, ndtr(scores.astype(np.float64)))
        places = np.array([9, 9, *(self.encoding.schema.codes[i].decimals for i in self.numeric)])
        tens = 10.0 ** places[groups]
        return np.asarray(np.rint(values * tens) / tens)

    def _texts(self, code: NDArray[np.intp], rng: np.random.Generator) -> Ints:
        found = np.full(code.size, -1, np.int64)
        if not self.shares.texts.shape[1]:
            return found
        reach = np.cumsum(self.shares.texts, axis=1)
        for one in np.unique(code):
            if reach[one, -1] > 0:
                rows = np.flatnonzero(code == one)
                drawn = np.searchsorted(reach[one], rng.random(rows.size), side="right")
                found[rows] = np.where(drawn < reach.shape[1], drawn, -1)
        return found

    # -------------------------------------------------------------- state

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        return {**pack("quantiles", self.quantiles), **pack("shares", self.shares)}

    def values(self) -> dict[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {
            "visits": self.visits, "texts": list(self.encoding.texts),
            "notes": list(self.encoding.notes),
        }  # fmt: skip

    @staticmethod
    def restore(
        schema: EventSchema, stored: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> Grid:
        """Rebuild from a stranger's file. Raises InputError when it does not make a grid."""
        texts, notes, visits = stored["texts"], stored["notes"], stored["visits"]
        lists = all(isinstance(one, list) for one in (texts, notes))
        if not lists or not all(isinstance(one, str) for one in (*texts, *notes)):
            raise InputError("a grid with wrong texts", "texts", "fit it anew")
        if type(visits) is not int or not 0 <= visits <= MOST_VISITS:
            raise InputError("a grid of impossibly many visits", "fewer", "fit it anew")
        groups = 2 + sum(code.numeric for code in schema.codes)
        sizes = {"groups": groups, "codes": len(schema), "texts": len(texts)}
        found = unpack(Quantiles, "quantiles", arrays, sizes)
        shares = unpack(Shares, "shares", arrays, sizes)
        encoding = EventEncoding(schema, tuple(texts), tuple(notes))
        return Grid(encoding, visits, found, shares)


def _quantiles(h: Histories, schema: EventSchema, k: int) -> Quantiles:
    """Return the quantiles of gaps, lengths and values; a code of few values has those of none."""
    numeric = np.array([i for i, code in enumerate(schema.codes) if code.numeric], np.int64)
    column = np.full(len(schema), -1)
    column[numeric] = 2 + np.arange(numeric.size)
    gap = np.flatnonzero(~np.isnan(h.gaps))
    stay = np.flatnonzero(h.kind >= 0)
    row = np.flatnonzero(~np.isnan(h.value) & (column[h.code] >= 0)) if h.code.size else gap[:0]
    parts = (
        (np.full(gap.size, GAP), h.gaps[gap], h.whose[gap]),
        (np.full(stay.size, LENGTH), h.length[stay], h.whose[stay]),
        (column[h.code[row]], h.value[row], h.whose[h.of[row]]),
    )
    knots, heaped = np.zeros((2 + numeric.size, KNOTS)), np.zeros((2 + numeric.size, KNOTS), bool)
    for group, values, owners in parts:
        for one in np.unique(group):  # each by itself: none has what all others are like
            own = group == one
            if np.unique(owners[own]).size >= k:
                zeros = np.zeros(int(own.sum()), np.int64)
                found = quantiles(values[own], zeros, 1, owners[own], k, least=1)
                knots[one], heaped[one] = found.knots[0], found.heaped[0]
    return Quantiles(knots, heaped)


def _shares(h: Histories, codes: int, texts: int, k: int) -> Shares:
    """Return shares of texts, and of events with a number where `k` subjects have one."""
    found = np.zeros((codes, texts))
    row = h.text >= 0
    np.add.at(found, (h.code[row], h.text[row]), 1.0)
    every = np.maximum(np.bincount(h.code, minlength=codes), 1)
    valued = np.bincount(h.code[~np.isnan(h.value)], minlength=codes)
    bearing = np.flatnonzero(~np.isnan(h.value))
    pairs = np.unique(h.code[bearing] * (h.n_subjects + 1) + h.whose[h.of[bearing]])
    told = np.bincount(pairs // (h.n_subjects + 1), minlength=codes) >= k
    return Shares(found / every[:, None], np.where(told, valued / every, 0.0))


def _firsts(h: Histories) -> NDArray[np.datetime64]:
    """Return the start of each subject's first dated visit, NaT for none, (subjects,)."""
    found = np.full(h.n_subjects, "NaT", "datetime64[us]")
    dated = np.flatnonzero(h.dated)[::-1]
    found[h.whose[dated]] = h.start[dated]  # the first one is written last
    return found


def day_of(days: NDArray[Any]) -> NDArray[np.datetime64]:
    """Return the midnight of days since 1970, NaT for none, (rows,)."""
    start = np.full(days.size, "NaT", "datetime64[us]")
    known = np.isfinite(days)
    whole = np.clip(np.rint(days[known]), DAYS_LEAST, DAYS_MOST).astype("datetime64[D]")
    start[known] = whole.astype("datetime64[us]")
    return start


def spelled(schema: EventSchema, table: Model[Table]) -> EventSchema:
    """Return the schema with the levels and marks that the fitted table model knows."""
    flat = cast("TableSchema", table.schema)
    columns = tuple(flat[c.name] if c.is_learned else c for c in schema.static)
    return dataclasses.replace(schema, static=dataclasses.replace(schema.static, columns=columns))
