"""Names of concepts: vocabulary and code from the source's own CONCEPT table, "OMOP/<id>" without.

OMOP CDM v5.4, tables CONCEPT, CONCEPT_ANCESTOR and CONCEPT_RELATIONSHIP. What is right above an
entry is one level away among its ancestors, or is told by the relationship "Is a".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from manikin.io.omop.cells import texts, whole
from manikin.io.omop.sources import Source
from manikin.io.omop.tables import STATIC, UNITS

__all__ = ["Concept", "Concepts"]

CHUNK = 10_000  # concepts asked for at a time
_UNIT_OF: dict[int, str] = {}
for _unit, _number in UNITS.items():
    _UNIT_OF.setdefault(_number, _unit)
_VISIT = {9201: "IP", 9202: "OP", 9203: "ER", 262: "ERIP", 42898160: "LTCP"}


@dataclass(frozen=True)
class Concept:
    """An entry of a vocabulary."""

    vocabulary: str
    code: str
    label: str

    @property
    def name(self) -> str:
        """The name that its code has among histories."""
        return f"{self.vocabulary}/{self.code}"


class Concepts:
    """The concepts of a source, looked up when they are needed."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.known: dict[int, Concept] = {}

    def learn(self, numbers: Collection[int]) -> None:
        """Look these concepts up; those that are nowhere are named by their number."""
        wanted = sorted({int(n) for n in numbers if n > 0} - set(self.known))
        for frame in self._chunks("concept", "concept_id", wanted, (
            "concept_id", "concept_name", "vocabulary_id", "concept_code"
        )):  # fmt: skip
            for number, label, vocabulary, code in frame.iter_rows():
                if number is not None and vocabulary and code:
                    self.known[number] = Concept(vocabulary, code, label or "")
        for number in wanted:
            self.known.setdefault(number, _unnamed(number))

    def __getitem__(self, number: int) -> Concept:
        if number not in self.known:
            self.learn([number])
        return self.known[number]

    def unit(self, number: int) -> str:
        """Return a unit as UCUM writes it."""
        found = self[number]
        return found.name if found.vocabulary == "OMOP" else found.code

    def parents(self, numbers: Collection[int]) -> Mapping[int, tuple[str, ...]]:
        """Return the names of what is right above each concept; nothing for those without."""
        wanted = sorted({int(n) for n in numbers if n > 0})
        pairs = self._above(wanted)
        self.learn({above for _, above in pairs})
        found: dict[int, list[str]] = {}
        for number, above in sorted(pairs):
            found.setdefault(number, []).append(self[above].name)
        return {number: tuple(dict.fromkeys(names)) for number, names in found.items()}

    def _above(self, wanted: Sequence[int]) -> set[tuple[int, int]]:
        names: tuple[str, ...] = (
            "descendant_concept_id",
            "ancestor_concept_id",
            "min_levels_of_separation",
        )
        pairs: set[tuple[int, int]] = set()
        for frame in self._chunks("concept_ancestor", names[0], wanted, names):
            near = frame.filter(pl.col(names[2]) == 1)
            pairs |= set(near.select(names[:2]).iter_rows())
        if pairs:
            return pairs
        names = ("concept_id_1", "concept_id_2", "relationship_id", "invalid_reason")
        for frame in self._chunks("concept_relationship", names[0], wanted, names):
            kept = frame.filter(pl.col(names[2]) == "Is a", pl.col(names[3]).is_null())
            pairs |= set(kept.select(names[:2]).iter_rows())
        return pairs

    def _chunks(
        self, table: str, key: str, wanted: Sequence[int], names: Sequence[str]
    ) -> list[pl.DataFrame]:
        """Return rows of a vocabulary table of which `key` is wanted, typed; [] without it."""
        if not wanted or not set(names) - {"invalid_reason"} <= set(
            self.source.columns.get(table, ())
        ):
            return []
        only = ("relationship_id", "Is a") if "relationship_id" in names else None
        found = []
        for start in range(0, len(wanted), CHUNK):
            among = (key, wanted[start : start + CHUNK])
            frame = self.source.fetch(table, names, among=among, only=only)
            columns = [
                _typed(frame[name], table) if name in frame.columns
                else pl.Series(name, [None] * frame.height, pl.String)
                for name in names
            ]  # fmt: skip
            found.append(pl.DataFrame(columns))
        return found


def _typed(cells: pl.Series, table: str) -> pl.Series:
    name = cells.name
    number = "concept_id" in name or name.startswith("min_levels")
    typed = whole(cells, f"{name.upper()} of {table.upper()}") if number else texts(cells)
    return typed.alias(name)


def _unnamed(number: int) -> Concept:
    """Return a concept that the source says nothing of; a few are known to everybody."""
    if number in _UNIT_OF:
        return Concept("UCUM", _UNIT_OF[number], "")
    if number in _VISIT:
        return Concept("Visit", _VISIT[number], "")
    for vocabulary, levels in STATIC.items():
        if number in levels:
            return Concept(vocabulary.title(), levels[number], levels[number])
    return Concept("OMOP", str(number), "")
