"""Codes that few subjects have: rolled up to what stands above them, or left out.

Idea  k-anonymity of entries in a hierarchy (Samarati and Sweeney, 1998): a code is replaced by its
      parent until k subjects share what stands in its place
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.knowledge.trees import spelled_parent

__all__ = ["HIGHEST", "Vocabulary", "above_of", "parents_of", "shared_codes", "subjects_of"]

Ints = NDArray[np.int64]
HIGHEST = 12  # most steps up: no ontology of codes is deeper, and one may run in a circle


@dataclass(frozen=True)
class Vocabulary:
    """The codes that may be told, and where the source's codes went."""

    codes: tuple[Code, ...]
    place: Ints  # (codes of the source,) place in `codes`, -1: left out
    rolled: int  # codes that a parent stands for
    dropped: int  # codes that nothing stands for
    lost: int  # events of these


def shared_codes(events: Events, k: int) -> Vocabulary:
    """Return the codes that `k` subjects share, and parents in place of those that fewer have.

    A declared schema is public: its codes all stay.
    """
    schema = events.schema
    known = list(schema.codes)
    if schema.declared:
        return Vocabulary(tuple(known), np.arange(len(known)), 0, 0, 0)
    target = np.arange(len(known))
    at = {code.key: i for i, code in enumerate(known)}
    pairs = _pairs(events.whose, events.code.astype(np.int64))
    for _ in range(HIGHEST):
        shared = subjects_of(target, pairs, len(known))
        held = np.unique(target[np.unique(pairs[1])]) if pairs[1].size else np.zeros(0, np.int64)
        rare = [int(i) for i in held if i >= 0 and shared[i] < k and parents_of(known[i])]
        if not rare:
            break
        for i in rare:
            above = _parent(known, at, schema, i)
            target[target == i] = above
    shared = subjects_of(target, pairs, len(known))
    target = np.where((target >= 0) & (shared[target] >= k), target, -1)
    used = np.unique(target[target >= 0])
    place = np.full(len(known) + 1, -1, np.int64)
    place[used] = np.arange(used.size)
    final = place[target]
    held = np.unique(pairs[1])
    rolled = int(np.sum((target[held] >= 0) & (target[held] != held)))
    dropped = int(np.sum(target[held] < 0))
    lost = int(np.sum(target[events.code] < 0))
    codes = tuple(known[i] for i in used)
    return Vocabulary(codes, final[: len(schema.codes)], rolled, dropped, lost)


def subjects_of(target: Ints, pairs: tuple[Ints, Ints], n: int) -> Ints:
    """Return how many subjects have each target, (n,), of pairs of a subject and its code."""
    whose, code = pairs
    to = target[code]
    kept = to >= 0
    found = np.unique(whose[kept] * n + to[kept]) % max(n, 1)
    return np.bincount(found, minlength=n).astype(np.int64)


def _pairs(whose: Ints, code: Ints) -> tuple[Ints, Ints]:
    size = int(code.max(initial=0)) + 1
    found = np.unique(whose * size + code)
    return found // size, found % size


def parents_of(code: Code) -> tuple[str, ...]:
    """Return the names above a code: those that it has, or that its spelling tells."""
    spelled = spelled_parent(code.name)
    return code.parents or ((spelled,) if spelled else ())


def above_of(code: Code, name: str, schema: EventSchema) -> Code:
    """Return the code of a name above another: that of the schema, or one made for it."""
    same = [schema.codes[i] for i in schema.named.get(name, ())]
    return next((one for one in same if one.domain == code.domain), Code(name, code.domain))


def _parent(
    known: list[Code], at: dict[tuple[str, str, str], int], schema: EventSchema, i: int
) -> int:
    """Return the place of a code's parent, which is put among the known ones if it is none."""
    above = above_of(known[i], parents_of(known[i])[0], schema)
    if above.key not in at:
        at[above.key] = len(known)
        known.append(above)
    return at[above.key]
