"""Histories that have something: an event, so many visits, so many events.

Drawn by rejection from any model of histories, or by the model's own way where it has one.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.visits import visits_of
from manikin.errors import ConditionError, InputError
from manikin.synthesizer import Conditional, Model

__all__ = ["Having", "days_of", "drawn", "parse_having"]

SUBJECTS_PER_BLOCK = 10_000
ROUNDS = 30  # draws before what is asked for is called too rare
MOST_AT_ONCE = 50_000  # subjects of such a draw
_ORDERS = {">=": operator.ge, "<=": operator.le, "=": operator.eq}
_DAYS = {"d": 1.0, "w": 7.0, "m": 30.4375, "y": 365.25, "h": 1 / 24}
_SPAN = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([hdwmy])")
_LENGTH = re.compile(r"(visits|events)(>=|<=|=)(\d{1,9})")


@dataclass(frozen=True)
class Having:
    """What a history must have: an event of each of these groups of codes, and lengths."""

    codes: tuple[tuple[int, ...], ...] = ()  # places in the schema, any of a group
    lengths: tuple[tuple[str, str, int], ...] = ()  # ("visits" or "events", order, number)
    told: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.codes or self.lengths)

    def holds(self, events: Events) -> NDArray[np.bool_]:
        """Return which subjects have all of it, (subjects,)."""
        kept = np.ones(events.n_subjects, bool)
        for group in self.codes:
            having = np.zeros(events.n_subjects, bool)
            having[events.whose[np.isin(events.code, group)]] = True
            kept &= having
        for what, order, number in self.lengths:
            counts = visits_of(events).counts if what == "visits" else events.counts
            kept &= _ORDERS[order](counts, number)
        return kept


def parse_having(texts: Sequence[str], schema: EventSchema) -> Having:
    """Read "SNOMED/91302008", "visits>=5" or "events<=100", all of which a history must have.

    A name stands also for all codes below it in their tree. Raises ConditionError for a code that
    the schema does not have.
    """
    codes, lengths = [], []
    for text in texts:
        if found := _LENGTH.fullmatch(text.replace(" ", "")):
            lengths.append((found[1], found[2], int(found[3])))
        elif places := schema.beneath((text,)):
            codes.append(places)
        else:
            raise ConditionError(
                f"'{text[:80]}' is neither a code that occurs here nor a length",
                "a code as VOCABULARY/code, or visits>=5, events<=100",
                "check the spelling: 'manikin audit' says how many codes there are",
            )
    return Having(tuple(codes), tuple(lengths), tuple(texts))


def days_of(text: str) -> float:
    """Read a span such as "365d", "12m", "48h". Raises InputError for anything else."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise InputError(
            f"'{text[:40]}' is no span of time",
            "a number above 0 with h, d, w, m or y: 48h, 365d, 12m",
            "correct it",
        )
    return float(found[1]) * _DAYS[found[2]]


def drawn(
    model: Model[Events],
    n: int,
    where: tuple[Condition, ...] = (),
    having: Having | None = None,
    *,
    seed: int,
) -> Iterator[Events]:
    """Draw `n` histories block by block, subjects numbered on from block to block.

    Raises ConditionError when what they must have is too rare among what the model draws.
    """
    if n == 0:
        yield model.sample(0, seed=seed)
    for block, start in enumerate(range(0, n, SUBJECTS_PER_BLOCK)):
        size = min(SUBJECTS_PER_BLOCK, n - start)
        rng = generator(seed, "sample histories", block)
        if having:
            found = _rejected(model, size, where, having, rng)
        else:
            found = _once(model, size, where, int(rng.integers(2**62)))
        yield found.renumbered(start)


def _once(model: Model[Events], n: int, where: tuple[Condition, ...], seed: int) -> Events:
    if not where:
        return model.sample(n, seed=seed)
    if not isinstance(model, Conditional):
        raise ConditionError(
            "conditions on subjects, and a model that cannot condition",
            "a synthesizer with conditional sampling",
            "choose another one: manikin list says which can",
        )
    found: Events = model.sample_where(n, where, seed=seed)
    return found


def _rejected(
    model: Model[Events],
    n: int,
    where: tuple[Condition, ...],
    having: Having,
    rng: np.random.Generator,
) -> Events:
    """Draw until `n` subjects have what they must have."""
    parts: list[Events] = []
    left, size = n, max(2 * n, 100)
    for _ in range(ROUNDS):
        fresh = _once(model, min(size, MOST_AT_ONCE), where, int(rng.integers(2**62)))
        kept = fresh.subjects[having.holds(fresh)][:left]
        if kept.size:
            parts.append(fresh.take(kept))
            left -= int(kept.size)
        if not left:
            return Events.concatenate(list(_apart(parts)))
        size = min(2 * size, MOST_AT_ONCE)
    raise ConditionError(
        f"fewer than {n:,} of the histories that were drawn have what is asked for",
        "something less rare among what the model draws",
        "ask for fewer subjects, or loosen it",
    )


def _apart(parts: list[Events]) -> Iterator[Events]:
    """Number the subjects of parts one after the other."""
    start = 0
    for part in parts:
        yield part.renumbered(start)
        start += part.n_subjects
