"""Ontology trees: which entry of a vocabulary stands above which, and histories rolled up by them.

A tree comes from three places, in this order: parents that a person's file names, parents that
the codes of a schema bear, and the spelling of a code, where its vocabulary is built so:
  ICD-10 (WHO, 10th revision, volume 2, §2.4)  E11.65 → E11.6 → E11 → E, with or without the point
  ICD-9-CM                                     250.01 → 250.0 → 250; E885.9 → E885; V10.3 → V10
  ATC (WHO Collaborating Centre, guidelines)   A10BA02 → A10BA → A10B → A10 → A
No vocabulary is shipped: nothing here knows what a code means, or whether it exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError

__all__ = ["Hierarchy", "Tree", "spelled_parent", "support"]

MOST_LEVELS = 64  # a chain of parents that is longer is a mistake
_ICD10 = re.compile(r"^[A-TV-Z]\d[0-9A-Z](?:\.?[0-9A-Z]{1,4})?$")
_ICD9 = re.compile(r"^(?:\d{3}|V\d{2}|E\d{3})(?:\.?\d{1,2})?$")
_ATC = re.compile(r"^[A-Z](?:\d{2}(?:[A-Z](?:[A-Z](?:\d{2})?)?)?)?$")
_ATC_STEPS = {7: 5, 5: 4, 4: 3, 3: 1}  # letters of a code → of the one above
_VOCABULARY = re.compile(r"(?P<icd10>ICD[^0-9A-Z]*10)|(?P<icd9>ICD[^0-9A-Z]*9)|(?P<atc>\bATC)")


def spelled_parent(name: str) -> str | None:
    """Return the name right above by its spelling; None at the top and where none is known.

    A name is VOCABULARY/code; the vocabulary may have several parts: DIAGNOSIS//ICD//10//E119.
    """
    before, slash, code = name.rpartition("/")
    vocabulary = _VOCABULARY.search(before.upper()) if slash else None
    # procedures of both revisions are numbered otherwise
    if vocabulary is None or re.search(r"PCS|PROC", before.upper()):
        return None
    above = _STEPS[str(vocabulary.lastgroup)](code)
    return f"{before}/{above}" if above else None


def _above_icd10(code: str) -> str:
    if len(code) == 3 and _ICD10.match(code):
        return code[0]
    return code[:-1].rstrip(".") if _ICD10.match(code) else ""


def _above_icd9(code: str) -> str:
    stem = 4 if code.startswith("E") else 3
    return code[:-1].rstrip(".") if _ICD9.match(code) and len(code) > stem else ""


def _above_atc(code: str) -> str:
    return code[: _ATC_STEPS[len(code)]] if len(code) > 1 and _ATC.match(code) else ""


_STEPS = {"icd10": _above_icd10, "icd9": _above_icd9, "atc": _above_atc}


@dataclass(frozen=True)
class Tree:
    """Parents by name. `spelled` says whether the spelling of a code tells its parent too."""

    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spelled: bool = True

    @staticmethod
    def of(schema: EventSchema, pairs: Iterable[tuple[str, str]] = ()) -> Tree:
        """Build the tree of a schema's codes and of (child, parent) pairs of a person's file."""
        found: dict[str, tuple[str, ...]] = {}
        for child, parent in pairs:
            if parent not in found.get(child, ()):
                found[child] = (*found.get(child, ()), parent)
        for code in schema.codes:
            if code.parents and code.name not in found:
                found[code.name] = code.parents
        return Tree(found)

    def parents_of(self, name: str) -> tuple[str, ...]:
        """Return the names right above, () at the top."""
        if name in self.parents:
            return self.parents[name]
        above = spelled_parent(name) if self.spelled else None
        return (above,) if above else ()

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return all names above, the nearest first. Raises InputError where they go in a ring."""
        found: dict[str, None] = {}
        level = [name]
        for _ in range(MOST_LEVELS):
            level = [p for n in level for p in self.parents_of(n) if p not in found]
            if not level:
                return tuple(found)
            if name in level:
                break
            found |= dict.fromkeys(level)
        raise _ring()

    def beneath(self, top: str, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return which names are `top` or stand beneath it, (names,)."""
        return np.array([n == top or top in self.ancestors(n) for n in names], bool)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The codes of a schema and all that stands above them, as arrays.

    Nodes are numbered so that a parent comes after its children; where a code has several parents
    the first one counts, so that every node has one place.
    """

    nodes: tuple[str, ...]  # different names of codes, then the names above them
    parent: NDArray[np.int32]  # (nodes,) node right above, -1 at the top
    node: NDArray[np.int32]  # (codes,) node of each code of the schema

    @staticmethod
    def of(schema: EventSchema, tree: Tree | None = None) -> Hierarchy:
        """Lay out the tree above a schema's codes."""
        known = tree or Tree.of(schema)
        above: dict[str, str | None] = {}
        for code in schema.codes:
            chain = [code.name]
            while chain[-1] not in above:
                parents = known.parents_of(chain[-1])
                above[chain[-1]] = parents[0] if parents else None
                if not parents:
                    break
                chain.append(parents[0])
        height = _heights(above)
        nodes = tuple(sorted(above, key=lambda name: height[name]))
        place = {name: i for i, name in enumerate(nodes)}
        up = [-1 if above[n] is None else place[str(above[n])] for n in nodes]
        own = [place[code.name] for code in schema.codes]
        return Hierarchy(nodes, np.array(up, np.int32), np.array(own, np.int32))

    @cached_property
    def depth(self) -> NDArray[np.int32]:
        """How many nodes stand above each, (nodes,)."""
        found = np.zeros(len(self.nodes), np.int32)
        at = self.parent.copy()
        while (at >= 0).any():
            found += at >= 0
            at = np.where(at >= 0, self.parent[at], -1)
        return found

    def at_depth(self, depth: int) -> NDArray[np.int32]:
        """Return the node of each code that is `depth` below the top, or its own if higher."""
        at = self.node.copy()
        while (deep := self.depth[at] > depth).any():
            at = np.where(deep, self.parent[at], at).astype(np.int32)
        return at

    def rolled(self, held: NDArray[np.int64], least: int) -> NDArray[np.int32]:
        """Return for each code the nearest node, itself first, that `least` subjects hold.

        `held` is what `support` counts, (nodes,); -1 where no node above is held by so many.
        """
        at = self.node.astype(np.int64)
        while (rare := (at >= 0) & (held[at] < least)).any():
            at = np.where(rare, self.parent[at], at)
        return at.astype(np.int32)


def _heights(above: Mapping[str, str | None]) -> dict[str, int]:
    """Return how long the longest chain beneath each name is."""
    height = dict.fromkeys(above, 0)
    for name in above:
        at, high = above[name], 1
        while at is not None and height[at] < high:
            if high > MOST_LEVELS:
                raise _ring()
            height[at] = high
            at, high = above[at], high + 1
    return height


def _ring() -> InputError:
    return InputError(
        f"an ontology that goes in a ring, or is deeper than {MOST_LEVELS} levels",
        "a tree: no entry stands above itself",
        "correct the file of parents",
    )


def support(events: Events, hierarchy: Hierarchy) -> NDArray[np.int64]:
    """Count the subjects that hold each node or anything beneath it, (nodes,)."""
    n = len(hierarchy.nodes)
    keys = np.unique(events.whose * n + hierarchy.node[events.code]) if n else np.zeros(0, int)
    level, all_keys = keys, [keys]
    while level.size:
        above = hierarchy.parent[level % n].astype(np.int64)
        level = np.unique((level // n * n + above)[above >= 0])
        all_keys.append(level)
    nodes = np.unique(np.concatenate(all_keys)) % max(n, 1)
    return np.bincount(nodes, minlength=n).astype(np.int64)
