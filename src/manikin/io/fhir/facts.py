"""What reading holds: a few numbers an event, every different text once, a record a Patient.

References are kept as 64-bit hashes and resolved at the end, so that files may come in any order
and no resource is held. Among ten million, two that fall together have a chance of 3 in a million.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.io.fhir.times import NO_OFFSET, NOT_A_TIME

__all__ = ["Entry", "Facts", "Person"]

NO_RANK = 2**31 - 1


@dataclass
class Entry:
    """A code as it was met, in one unit: None where it never bore a quantity."""

    group: str
    system: str
    code: str
    unit: str | None
    label: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    levels: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Person:
    """What a Patient says of itself."""

    id: str
    number: int | None  # that we gave it
    source: str  # name that could not be its id
    gender: str
    birth: int
    said: dict[str, str]  # race, ethnicity, marital_status
    static: tuple[tuple[str, str, Any], ...]  # name, kind of value, value


@dataclass
class Facts:
    """Columns that grow by an event at a time."""

    patient: array[int] = field(default_factory=lambda: array("q"))
    encounter: array[int] = field(default_factory=lambda: array("q"))
    ident: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    end: array[int] = field(default_factory=lambda: array("q"))
    offset: array[int] = field(default_factory=lambda: array("h"))
    end_offset: array[int] = field(default_factory=lambda: array("h"))
    code: array[int] = field(default_factory=lambda: array("i"))
    value: array[float] = field(default_factory=lambda: array("d"))
    text: array[int] = field(default_factory=lambda: array("i"))
    rank: array[int] = field(default_factory=lambda: array("i"))
    visit: array[int] = field(default_factory=lambda: array("i"))  # that a death says, else -1
    texts: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        patient: int,
        encounter: int,
        ident: int,
        start: tuple[int, int],
        stop: tuple[int, int],
        code: int,
        value: float,
        text: str | None,
        rank: int = NO_RANK,
        visit: int = -1,
    ) -> None:
        """Take one event."""
        self.patient.append(patient)
        self.encounter.append(encounter)
        self.ident.append(ident)
        self.time.append(start[0])
        self.offset.append(start[1])
        self.end.append(stop[0])
        self.end_offset.append(stop[1])
        self.code.append(code)
        self.value.append(value)
        place = -1 if text is None else self.texts.setdefault(text, len(self.texts))
        self.text.append(place)
        self.rank.append(rank)
        self.visit.append(visit)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column as an array over the same memory, (events,)."""
        held = getattr(self, name)
        return np.frombuffer(held, dtype=np.dtype(held.typecode))


NEVER = (NOT_A_TIME, NO_OFFSET)
