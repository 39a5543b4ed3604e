"""The audit of histories: facts told once of each subject, then what is odd about events."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import Audit, Finding, share_said, told, worst_first
from manikin.auditor.inspection import audit
from manikin.auditor.sight import Audited
from manikin.data.events import Events
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["audit_history"]

_SMALL = re.compile(r"(?<![\d,.])(?:[1-9]|10)(?= [a-z])")  # a count that notes may not tell
LONGEST = 20_000  # events of one subject, from which generators thin them out or take long


def audit_history(events: Events, static: Audited, notes: Sequence[str] = ()) -> Audit:
    """Examine histories before anything is learned from them.

    `static` shows the facts that are told once a subject, `notes` are what the door said.
    """
    facts = audit(static)
    found = [
        *(one for one in facts.findings if one.topic != "duplicates"),  # two people may be alike
        *map(_noted, notes),
        *_times(events),
        *_repeated(events),
        *_codes(events),
    ]  # fmt: skip
    return dataclasses.replace(facts, n_rows=events.n_events, findings=worst_first(found))


def _noted(said: str) -> Finding:
    """Return what a door said, by the small-cell rule."""
    shown = _SMALL.sub(f"fewer than {SMALLEST_CELL}", said)
    return Finding("note", "source", (), shown, "nothing, if that is as it should be")


def _times(events: Events) -> Iterator[Finding]:
    """Say of events that are at no time, or at one that cannot be."""
    unknown = np.isnat(events.time)
    if n := int(unknown.sum()):
        yield Finding(
            "warn", "times", (), f"{told(n, 'events')} have no time",
            "give them one; no generator places them otherwise",
        )  # fmt: skip
    births = events.births()[events.whose].astype("datetime64[D]")
    if n := int(np.count_nonzero(events.time.astype("datetime64[D]") < births)):
        yield Finding(
            "warn", "times", (), f"{told(n, 'events')} are before the birth of their subject",
            "correct them, or leave them out; what is drawn never has them",
        )  # fmt: skip
    dead = np.full(events.n_subjects, "NaT", "datetime64[us]")
    last = np.isin(events.code, events.schema.of("death")) & ~unknown
    dead[events.whose[last]] = events.time[last]
    late = events.time.astype("datetime64[D]") > dead[events.whose].astype("datetime64[D]")
    if n := int(np.count_nonzero(late)):
        yield Finding(
            "warn", "times", (), f"{told(n, 'events')} are after the death of their subject",
            "correct them, or leave them out; what is drawn never has them",
        )  # fmt: skip
    if n := int(np.count_nonzero(events.end < events.time)):
        yield Finding(
            "warn", "times", (), f"{told(n, 'events')} end before they begin", "correct them"
        )


def _repeated(events: Events) -> Iterator[Finding]:
    """Say how many events are there twice."""
    if events.n_events < 2:
        return
    columns: tuple[NDArray[np.int64], ...] = (
        events.whose,
        events.time.view(np.int64),
        events.code.astype(np.int64),
        events.value.view(np.int64),
        events.text.astype(np.int64),
        events.visit.astype(np.int64),
    )
    order = np.lexsort(columns[::-1])
    same = np.ones(events.n_events - 1, bool)
    for column in columns:
        same &= column[order][1:] == column[order][:-1]
    if n := int(same.sum()):
        yield Finding(
            "note", "duplicates", (), f"{told(n, 'events')} repeat another in everything",
            "leave them out if the export wrote them twice",
        )  # fmt: skip


def _codes(events: Events) -> Iterator[Finding]:
    """Say how many codes there are, how rare, and who has none or very many events."""
    pairs = np.unique(events.whose * max(len(events.schema), 1) + events.code)
    holders = np.bincount(pairs % max(len(events.schema), 1), minlength=len(events.schema))
    used, rare = int((holders > 0).sum()), int(((holders > 0) & (holders < SMALLEST_CELL)).sum())
    yield Finding(
        "note", "codes", (),
        f"{used:,} codes occur; held by fewer than {SMALLEST_CELL} subjects: "
        f"{share_said(rare, used)}",
        "rare codes are drawn under what stands above them in their tree, or not at all",
    )  # fmt: skip
    counts = events.counts
    if n := int((counts == 0).sum()):
        yield Finding(
            "note", "codes", (), f"{told(n, 'subjects')} have no event", "nothing, if it is so"
        )
    if int(counts.max(initial=0)) > LONGEST:
        yield Finding(
            "warn", "codes", (), f"some subjects have more than {LONGEST:,} events",
            "summarise them, by hour for instance: such histories take long to learn",
        )  # fmt: skip
