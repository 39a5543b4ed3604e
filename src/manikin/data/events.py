"""Histories in memory: one row an event, sorted by subject and time, as in MEDS.

MEDS 0.4 (Medical Event Data Standard) keeps subject, time, code, a number and a text; here texts
are numbered, and two more columns that many sources have stand beside them: the end of an event
that lasts, and the visit at which it was. All columns are plain arrays, which may be mapped from a
file, so that a history need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manikin.data.codes import EventSchema
from manikin.data.table import Table
from manikin.errors import SchemaError

__all__ = ["Events"]

Times = NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class Events:
    """Events of subjects, and what is told of each subject once.

    `static` has one row a subject, ascending by number; a subject may have no event. All other
    arrays are (events,), sorted by `whose`, then by time with NaT first. Build with `Events.of`,
    which sorts. Raises SchemaError when schema and arrays do not fit together.
    """

    schema: EventSchema
    static: Table  # (subjects,)
    whose: NDArray[np.int64]  # row of `static` that the event is of
    time: Times  # datetime64[us]; NaT where nobody knows when
    code: NDArray[np.int32]  # place in `schema.codes`
    value: NDArray[np.float64]  # NaN for none
    text: NDArray[np.int32]  # place in `texts`, -1 for none
    end: Times  # datetime64[us] when a thing that lasts was over; NaT for none
    visit: NDArray[np.int32]  # number of the visit within its subject, -1 for none
    texts: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        whole = (("whose", "i"), ("time", "M"), ("code", "i"), ("value", "f"), ("text", "i"),
                 ("end", "M"), ("visit", "i"))  # fmt: skip
        for name, kind in whole:
            values = getattr(self, name)
            if values.shape != self.whose.shape or values.ndim != 1 or values.dtype.kind != kind:
                raise _unlike(f"'{name}'", f"one value of kind '{kind}' an event")
        if self.static.schema != self.schema.static:
            raise _unlike("static facts", "the schema that the histories have for them")
        if np.any(np.diff(self.subjects) <= 0):
            raise _unlike("subjects", "one row of static facts each, ascending by number")
        for name, least, most in (
            ("whose", 0, self.n_subjects),
            ("code", 0, len(self.schema)),
            ("text", -1, len(self.texts)),
            ("visit", -1, np.iinfo(np.int32).max),
        ):
            values = getattr(self, name)
            if values.size and not (least <= values.min() and values.max() < most):
                raise _unlike(f"'{name}'", f"numbers from {least} up to below {most}")
        if not _in_order(self.whose, self.time):
            raise _unlike("an order", "sorted by subject, then by time: build with Events.of")

    @staticmethod
    def of(
        schema: EventSchema,
        static: Table,
        whose: ArrayLike,
        time: ArrayLike,
        code: ArrayLike,
        value: ArrayLike | None = None,
        text: ArrayLike | None = None,
        end: ArrayLike | None = None,
        visit: ArrayLike | None = None,
        texts: Sequence[str] = (),
    ) -> Events:
        """Build histories of rows in any order; events of one time keep their order."""
        owner = np.asarray(whose, np.int64)
        when = np.asarray(time, "datetime64[us]")
        n = owner.size
        columns: tuple[NDArray[Any], ...] = (
            owner,
            when,
            np.asarray(code, np.int32),
            np.full(n, np.nan) if value is None else np.asarray(value, np.float64),
            np.full(n, -1, np.int32) if text is None else np.asarray(text, np.int32),
            np.full(n, "NaT", "datetime64[us]") if end is None else np.asarray(end, when.dtype),
            np.full(n, -1, np.int32) if visit is None else np.asarray(visit, np.int32),
        )
        if any(column.shape != (n,) for column in columns):
            raise _unlike("columns", "of one length")
        if not _in_order(owner, when):
            # NaT is the least of all 64-bit integers, so that it comes first
            order = np.lexsort((when.view(np.int64), owner))
            columns = tuple(column[order] for column in columns)
        named = dict(zip(_COLUMNS, columns, strict=True))
        return Events(schema, static, **named, texts=tuple(texts))

    @property
    def subjects(self) -> NDArray[np.int64]:
        """The subjects, (subjects,), ascending."""
        return self.static.subjects

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self.static.subjects.size)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.whose.size)

    @property
    def n_rows(self) -> int:
        """Number of events, as other datasets call it."""
        return self.n_events

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each subject's events begin, and the number of all: (subjects + 1,)."""
        return np.searchsorted(self.whose, np.arange(self.n_subjects + 1)).astype(np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of events of each subject, (subjects,)."""
        return np.diff(self.starts)

    def rows(self, index: NDArray[Any]) -> Events:
        """Return the events of an ascending or boolean index; all subjects stay."""
        kept = {name: getattr(self, name)[index] for name in _COLUMNS}
        return replace(self, **kept)

    def take(self, subjects: NDArray[np.int64]) -> Events:
        """Return these subjects and every event of theirs, in their present order."""
        kept = np.isin(self.subjects, subjects)
        place = np.cumsum(kept) - 1
        chosen = np.flatnonzero(kept[self.whose])
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        columns["whose"] = place[columns["whose"]]
        return replace(self, static=self.static.rows(np.flatnonzero(kept)), **columns)

    def renumbered(self, start: int = 0) -> Events:
        """Return the same histories, of subjects numbered from `start` in their present order."""
        fresh = np.arange(start, start + self.n_subjects, dtype=np.int64)
        table = self.static
        return replace(self, static=Table(table.schema, fresh, table.columns, table.states))

    @staticmethod
    def concatenate(parts: Sequence[Events]) -> Events:
        """Stack histories of one schema; every subject of a part comes after all before it."""
        first = parts[0]
        texts: dict[str, int] = {}
        for part in parts:
            for written in part.texts:
                texts.setdefault(written, len(texts))
        before = np.cumsum([0, *(part.n_subjects for part in parts[:-1])])
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS}
        columns["whose"] = np.concatenate(
            [part.whose + n for part, n in zip(parts, before, strict=True)]
        )
        places = [np.array([*(texts[t] for t in p.texts), -1], np.int32) for p in parts]
        columns["text"] = np.concatenate(
            [place[part.text] for part, place in zip(parts, places, strict=True)]
        )
        static = Table.concatenate([part.static for part in parts])
        return Events(first.schema, static, **columns, texts=tuple(texts))

    def column(self, name: str) -> NDArray[Any]:
        """Return a static column as its table holds it, (subjects,)."""
        return self.static.columns[name]

    def births(self) -> Times:
        """Return the date of birth of each subject, NaT where it is not known, (subjects,)."""
        if not self.schema.birth:
            return np.full(self.n_subjects, "NaT", "datetime64[us]")
        return np.asarray(self.static.columns[self.schema.birth], "datetime64[us]")


_COLUMNS = ("whose", "time", "code", "value", "text", "end", "visit")


def _in_order(whose: NDArray[np.int64], time: Times) -> bool:
    """Whether rows are sorted by subject, then by time with NaT first."""
    micro = time.astype("datetime64[us]", copy=False).view(np.int64)  # NaT is the least integer
    later = (whose[1:] == whose[:-1]) & (micro[1:] >= micro[:-1])
    return bool(np.all((whose[1:] > whose[:-1]) | later))


def _unlike(given: str, allowed: str) -> SchemaError:
    return SchemaError(f"histories with {given} that do not fit", allowed, "build them by a door")
