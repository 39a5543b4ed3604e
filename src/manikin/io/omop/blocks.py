"""A block of histories as rows of an OMOP CDM: which table, which number, at which stay.

Rows are numbered over all tables in the order of events, so that a reader finds events of one time
in the order in which they were. The first event of domain "visit" that bears a visit's number is
its row in VISIT_OCCURRENCE, further ones are rows of VISIT_DETAIL; a visit that no event describes
gets a row of concept 0 from its first event to its last. A second death goes to OBSERVATION.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.io.omop.tables import KINDS, PERIOD_END, PERIOD_START, Kind

__all__ = ["Block", "by_kind", "laid_out"]

_OF = {kind.table: number for number, kind in enumerate(KINDS)}
_DOMAIN = {kind.domain: number for number, kind in reversed(list(enumerate(KINDS)))}
_HAS_VALUE = np.array([bool(kind.value) for kind in KINDS])
_HAS_TEXT = np.array([bool(kind.text) for kind in KINDS])
_HAS_END = np.array([bool(kind.end) for kind in KINDS])
_LONGEST = np.array([kind.longest for kind in KINDS])
_FIRST_DAY = np.datetime64("1970-01-01", "us")


@dataclass(frozen=True)
class Block:
    """Rows to be inserted."""

    rows: pl.DataFrame  # every event, with its kind
    stays: pl.DataFrame  # stay, person, number, implied, and for these start and end
    extra: pl.DataFrame  # parts of events that the CDM has no field for
    periods: pl.DataFrame  # person, start, end
    used: int  # row numbers taken


def laid_out(events: Events, person: NDArray[np.int64], base: int) -> Block:
    """Lay a block out; `person` is the person_id of each subject, rows are numbered from `base`."""
    n = events.n_events
    row = base + np.arange(n, dtype=np.int64)
    owner = person[events.whose]
    fallback = _fallbacks(events)[events.whose]
    stay, primary, stays, used = _stays(events, row, owner, fallback, base + n)
    kind = _kinds(events, primary)
    text = _texts(events)
    value = pl.Series(events.value).fill_nan(None)
    rows = pl.DataFrame(
        {
            "row": row,
            "person": owner,
            "kind": kind,
            "place": events.code,
            "time": events.time,
            "day": np.where(np.isnat(events.time), fallback, events.time),
            "ended": events.end,
            "value": value,
            "text": text,
            "stay": pl.Series(stay).set(pl.Series(stay < 0), None),
        }
    )
    return Block(rows, stays, _extra(events, rows, kind), _periods(events, person), used)


def by_kind(rows: pl.DataFrame) -> Iterator[tuple[Kind, pl.DataFrame]]:
    """Give the rows of each kind that has some, in their order."""
    kind = rows["kind"].to_numpy()
    ordered = rows[np.argsort(kind, kind="stable")]  # one gathering, of which the parts are slices
    counts = np.bincount(kind, minlength=len(KINDS)).tolist()
    first = 0
    for of, count in zip(KINDS, counts, strict=True):
        if count:
            yield of, ordered.slice(first, count)
        first += count


def _texts(events: Events) -> pl.Series:
    """Return the text of each event, null for none."""
    if not events.texts or not (events.text >= 0).any():
        return pl.Series("text", [None], dtype=pl.String).new_from_index(0, events.n_events)
    named = pl.Series("text", events.texts, dtype=pl.String)
    index = pl.Series(events.text)
    return named.gather(index.set(index < 0, None))


def _kinds(events: Events, primary: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return in which of KINDS each event goes."""
    of_code = np.array([_DOMAIN[code.domain] for code in events.schema.codes], np.int8)
    kind = of_code[events.code] if events.n_events else np.empty(0, np.int8)
    visit = kind == _OF["visit_occurrence"]
    kind = np.where(visit & ~primary, _OF["visit_detail"], kind).astype(np.int8)
    dead = np.flatnonzero(kind == _OF["death"])
    again = np.delete(dead, _firsts(events.whose[dead]))
    kind[again] = _OF["observation"]
    return kind


def _firsts(sorted_keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each key of a sorted array is for the first time."""
    return np.flatnonzero(np.diff(sorted_keys, prepend=np.int64(-1)))


def _fallbacks(events: Events) -> NDArray[np.datetime64]:
    """Return the day for events of no time: the subject's first event, or birth, or 1970-01-01."""
    days = np.full(events.n_subjects, "NaT", "datetime64[us]")
    known = np.flatnonzero(~np.isnat(events.time))
    first = known[_firsts(events.whose[known])]
    days[events.whose[first]] = events.time[first]
    if events.schema.birth:
        births = events.column(events.schema.birth)
        days = np.where(np.isnat(days), births, days)
    return np.where(np.isnat(days), _FIRST_DAY, days)


def _stays(
    events: Events,
    row: NDArray[np.int64],
    owner: NDArray[np.int64],
    fallback: NDArray[np.datetime64],
    base: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], pl.DataFrame, int]:
    """Return the stay of each event (-1: none), which events are stays, and all of these."""
    domain = np.zeros(len(events.schema), bool)
    domain[list(events.schema.of("visit"))] = True
    is_visit = domain[events.code] if events.n_events else np.zeros(0, bool)
    numbered = events.visit >= 0
    key, keys = _visit_keys(events)
    primary = is_visit & ~numbered
    described = np.flatnonzero(is_visit & numbered)
    first = np.full(keys, -1, np.int64)  # event that describes each visit, -1 for none
    first[key[described[::-1]]] = described[::-1]  # the earliest is written last
    primary[first[first >= 0]] = True
    bearing = np.flatnonzero(numbered)
    event = first[key[bearing]]
    hit = event >= 0
    stay = np.full(events.n_events, -1, np.int64)
    stay[bearing[hit]] = row[event[hit]]
    lost = bearing[~hit]
    implied, index, inverse = np.unique(key[lost], return_index=True, return_inverse=True)
    number = base + np.arange(implied.size, dtype=np.int64)
    stay[lost] = number[inverse]
    stay[primary] = row[primary]
    start, end = _spans(events, lost, inverse, implied.size, fallback)
    stays = pl.DataFrame(
        {
            "stay": np.concatenate([row[primary], number]),
            "person": np.concatenate([owner[primary], owner[lost[index]]]),
            "number": np.concatenate([events.visit[primary], events.visit[lost[index]]]),
            "implied": np.repeat([False, True], [int(primary.sum()), implied.size]),
            "start": np.concatenate([events.time[primary], start]),
            "end": np.concatenate([events.end[primary], end]),
        }
    )
    return stay, primary, stays, int(events.n_events + implied.size)


def _visit_keys(events: Events) -> tuple[NDArray[np.int64], int]:
    """Return one number a visit for each event (of no use without a visit), and how many."""
    most = int(events.visit.max(initial=-1)) + 1
    size = events.n_subjects * most
    key = events.whose * np.int64(most) + events.visit
    if size <= 4 * events.n_events + 1000:
        return key, size
    keys, key = np.unique(key, return_inverse=True)  # visits have high numbers
    return key, keys.size


def _spans(
    events: Events,
    rows: NDArray[np.int64],
    group: NDArray[np.int64],
    groups: int,
    fallback: NDArray[np.datetime64],
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """Return the first and the last time of events in each group, (groups,)."""
    time = np.where(np.isnat(events.time), fallback, events.time)[rows].astype("datetime64[us]")
    by_group = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[by_group], np.arange(groups + 1))
    # reduceat takes the elements from one start to the next; no group is empty
    starts = ends[:-1]
    return (
        np.minimum.reduceat(time[by_group], starts) if groups else time,
        np.maximum.reduceat(time[by_group], starts) if groups else time,
    )


def _extra(events: Events, rows: pl.DataFrame, kind: NDArray[np.int8]) -> pl.DataFrame:
    """Return what the CDM has no field for: the end of a measurement, a number of a condition …"""
    length = rows["text"].str.len_chars().fill_null(0).to_numpy()
    longest = _LONGEST[kind]
    death = kind == _OF["death"]
    value = ~np.isnan(events.value) & ~_HAS_VALUE[kind]
    text = (events.text >= 0) & (~_HAS_TEXT[kind] | ((longest > 0) & (length > longest)))
    end = ~np.isnat(events.end) & ~_HAS_END[kind]
    visit = (events.visit >= 0) & death
    some = np.flatnonzero(value | text | end | visit | death)
    chosen = rows[some].select("row", "kind", "person", "value", "text", "ended", "stay")
    masks = {"value": value, "text": text, "ended": end, "stay": visit}
    return chosen.with_columns(
        pl.when(pl.lit(pl.Series(mask[some]))).then(pl.col(name)).alias(name)
        for name, mask in masks.items()
    )


def _periods(events: Events, person: NDArray[np.int64]) -> pl.DataFrame:
    """Return when each subject was observed: as it was told, or from first to last event."""
    time = events.time
    known = np.flatnonzero(~np.isnat(time))
    last = np.where(np.isnat(events.end) | (events.end < time), time, events.end)
    start, end = np.full((2, events.n_subjects), "NaT", "datetime64[us]")
    first = _firsts(events.whose[known])
    seen = events.whose[known[first]]
    start[seen] = time[known[first]]  # events are sorted
    if seen.size:
        end[seen] = np.maximum.reduceat(last[known], first)
    marks = [np.flatnonzero(np.isin(events.code, events.schema.named.get(name, ())))
             for name in (PERIOD_START, PERIOD_END)]  # fmt: skip
    marks = [mark[~np.isnat(time[mark])] for mark in marks]
    counts = [np.bincount(events.whose[mark], minlength=events.n_subjects) for mark in marks]
    told = (counts[0] == counts[1]) & (counts[0] > 0)
    paired = [mark[told[events.whose[mark]]] for mark in marks]
    plain = ~np.isnat(start) & ~told
    columns: dict[str, NDArray[Any]] = {
        "person": np.concatenate([person[plain], person[events.whose[paired[0]]]]),
        "start": np.concatenate([start[plain], time[paired[0]]]),
        "end": np.concatenate([end[plain], time[paired[1]]]),
    }
    return pl.DataFrame(columns).sort("person", "start")
