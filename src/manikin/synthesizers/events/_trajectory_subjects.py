"""What is drawn once a subject, by a table synthesizer: static facts, how many events, and when.

Beside the static facts stand three columns: the number of events, the day of the first one (since
birth where that is known, else since 1970), and the minute of that day. What a network is told of
the facts are levels, and numbers as normal scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizers.events._trajectory_scales import Scales, malformed
from manikin.synthesizers.events._trajectory_tokens import DAY_US, NAT, Floats, Ints, Line
from manikin.synthesizers.events.encoding import shared_levels, widened

__all__ = ["Once"]

DAY, MINUTE = int(DAY_US), 60_000_000
ADDED = ("number of events", "day of the first event", "minute of the first event")
MOSTLY = 0.95  # share of subjects whose birth is known, from which on days count from it
MOST_EVENTS = 1_000_000  # of a subject
EARLIEST, LATEST = -719_162, 2_932_896  # days since 1970 of the years 1 and 9999


@dataclass(frozen=True, eq=False)
class Once:
    """How to read and write what is drawn once."""

    schema: EventSchema  # of what comes back
    names: tuple[str, str, str]  # of the added columns
    aged: bool  # whether days count from birth
    dated: bool  # whether everybody with events has a first one with a time
    usual_day: float
    longest: int
    scales: Scales  # of the numeric static columns

    @staticmethod
    def fit(
        line: Line, static: Table, schema: EventSchema, births: Ints, k: int,
        rng: np.random.Generator,
    ) -> tuple[Once, Table]:  # fmt: skip
        """Learn from events and facts; return the table to be drawn as well."""
        static = shared_levels(static, k, rng)
        first, counts = first_times(line), np.diff(line.starts)
        begun = first != NAT
        aged = bool(begun.any() and (births[begun] != NAT).mean() >= MOSTLY)
        some = np.sort(counts[counts > 0])
        once = Once(
            schema, ("", "", ""), aged, bool((begun | (counts == 0)).all()), 0.0,
            int(some[-min(k, some.size)]) if some.size else 0, _scales(static, k),
        )  # fmt: skip
        counted, day, minute = once.columns(line, first, births)
        added = (
            Column("", "integer", minimum=0),
            Column("", "integer"),
            Column("", "integer", minimum=0, maximum=1439),
        )
        names, flat = once.widened(static, counted, day, minute, added)
        known = np.isfinite(day)
        usual = float(np.rint(day[known].mean())) if known.sum() >= k else 0.0
        return dataclasses.replace(once, names=names, usual_day=usual), flat

    def columns(self, line: Line, first: Ints, births: Ints) -> tuple[Floats, Floats, Floats]:
        """Return the number of events, and day and minute of the first, NaN for none."""
        begun = first != NAT
        base = np.where(births == NAT, 0, births) // DAY if self.aged else np.zeros_like(births)
        known = begun & (births != NAT) if self.aged else begun
        moment = np.where(begun, first, 0)
        day = np.where(known, moment // DAY - base, np.nan)
        minute = np.where(known, moment % DAY // MINUTE, np.nan)
        return np.diff(line.starts).astype(np.float64), day, minute

    @staticmethod
    def widened(
        static: Table, counts: Floats, day: Floats, minute: Floats, added: tuple[Column, ...]
    ) -> tuple[tuple[str, str, str], Table]:
        """Return the table with these columns, and how they are called there."""
        values = (counts, day, minute)
        flat = widened(static, dict(zip(ADDED, zip(added, values, strict=True), strict=True)))
        one, two, three = (column.name for column in flat.schema.columns[-3:])
        return (one, two, three), flat

    def under(self, schema: EventSchema) -> Once:
        """Return the same for a schema whose static columns are spelled otherwise."""
        return dataclasses.replace(self, schema=schema)

    @property
    def facts(self) -> int:
        """How many numbers tell the facts of a subject."""
        return sum(len(c.categories) if c.is_coded else 3 for c in self.schema.static.learned)

    def told(self, static: Table) -> NDArray[np.float32]:
        """Return what a network is told of static facts, under this schema or a like one."""
        found = []
        numeric = 0
        for column in self.schema.static.learned:
            there = column.name in static.schema
            if column.is_coded:
                wide = np.zeros((static.n_rows, len(column.categories)))
                if there:
                    own = {level: i for i, level in enumerate(column.categories)}
                    spelled = static.schema[column.name].categories
                    place = np.array([*(own.get(level, -1) for level in spelled), -1], np.int64)
                    at = place[static.columns[column.name].astype(np.int64)]
                    rows = np.flatnonzero(at >= 0)
                    wide[rows, at[rows]] = 1.0
                found.append(wide)
                continue
            values = static.numbers(column.name) if there else np.full(static.n_rows, np.nan)
            known = np.isfinite(values)
            kind = np.full(static.n_rows, numeric)
            score = np.where(known, self.scales.to_score(kind, np.nan_to_num(values)), 0.0)
            found.append(np.stack([known, score, known * (score**2 - 1)], 1))
            numeric += 1
        if not found:
            return np.zeros((static.n_rows, 1), np.float32)
        return np.concatenate(found, 1).astype(np.float32)

    def births(self, static: Table) -> Ints:
        """Return the birth of each subject in microseconds, NAT for none, (subjects,)."""
        name = self.schema.birth
        if not name or name not in static.schema:
            return np.full(static.n_rows, NAT)
        return static.columns[name].astype("datetime64[us]").astype(np.int64)

    def drawn(self, flat: Table, births: Ints, tick_us: int) -> tuple[Ints, Ints]:
        """Return how many events drawn subjects have, and when the first one is, (subjects,)."""
        counts = np.clip(np.nan_to_num(flat.columns[self.names[0]]), 0, self.longest)
        day, minute = flat.columns[self.names[1]], flat.columns[self.names[2]]
        base = np.where(births == NAT, 0, births) // DAY if self.aged else np.zeros_like(births)
        lost = np.isnan(day) | (self.aged & (births == NAT))
        if self.aged:
            day = np.maximum(day, 0.0)
        on = np.where(lost, self.usual_day, np.nan_to_num(day)) + base
        on = np.clip(np.rint(on), EARLIEST, LATEST).astype(np.int64)
        within = np.clip(np.rint(np.nan_to_num(minute)), 0, 1439).astype(np.int64)
        start = (on * DAY + within * MINUTE) // tick_us * tick_us
        if not self.dated:
            start = np.where(lost, NAT, start)
        return np.rint(counts).astype(np.int64), start

    # -------------------------------------------------------------- state

    def values(self) -> dict[str, Any]:
        """Return JSON values for `restore`."""
        return {
            "names": list(self.names), "aged": self.aged, "dated": self.dated,
            "usual_day": self.usual_day, "longest": self.longest,
        }  # fmt: skip

    @staticmethod
    def restore(
        schema: EventSchema, flat: TableSchema, stored: Any, arrays: Mapping[str, NDArray[Any]]
    ) -> Once:
        """Rebuild from a stranger's file. Raises InputError when it does not fit its table."""
        names = stored["names"]
        numbers = {c.name for c in flat.learned if c.kind in ("integer", "continuous")}
        whole = isinstance(names, list) and len(set(names)) == 3 and set(names) <= numbers
        static = {c.name: (c.kind, c.categories) for c in schema.static.learned}
        own = {c.name: (c.kind, c.categories) for c in flat.learned if c.name not in names}
        if not whole or static != own:
            raise malformed("facts of subjects")
        longest, usual = stored["longest"], float(stored["usual_day"])
        if type(longest) is not int or not 0 <= longest <= MOST_EVENTS or not abs(usual) < 1e7:
            raise malformed("lengths of records")
        if type(stored["aged"]) is not bool or type(stored["dated"]) is not bool:
            raise malformed("facts of subjects")
        kinds = sum(not c.is_coded for c in schema.static.learned)
        scales = Scales.restore(arrays, "facts", kinds)
        return Once(
            schema, (names[0], names[1], names[2]), stored["aged"], stored["dated"], usual,
            longest, scales,
        )  # fmt: skip


def first_times(line: Line) -> Ints:
    """Return the time of each subject's first timed event, NAT for none, (subjects,)."""
    found = np.full(line.subjects, NAT)
    timed = np.flatnonzero(line.time != NAT)[::-1]
    found[line.whose[timed]] = line.time[timed]  # the first one is written last
    return found


def _scales(static: Table, k: int) -> Scales:
    numeric = [c.name for c in static.schema.learned if not c.is_coded]
    values = np.concatenate([np.zeros(0), *(static.numbers(name) for name in numeric)])
    kind = np.repeat(np.arange(len(numeric)), static.n_rows)
    whose = np.tile(np.arange(static.n_rows), len(numeric))
    known = np.isfinite(values)
    return Scales.fit(kind[known], values[known], whose[known], len(numeric), k=k)
