"""OMOP CDM 5.4 in and out: folders of CSV or Parquet files, DuckDB, SQLite and PostgreSQL.

OHDSI, OMOP Common Data Model v5.4 (ohdsi.github.io/CommonDataModel/cdm54.html). A person is a
subject: what PERSON says is static, every row of a table of events is an event. Codes are named by
the source's own CONCEPT table (`SNOMED/44054006`, `LOINC/2160-0`), and `OMOP/<concept_id>`
without one. No vocabulary is shipped, and names only of those that anybody may hand on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import Stopped
from manikin.io.histories import Flow, History
from manikin.io.omop.export import written
from manikin.io.omop.foreign import Foreign
from manikin.io.omop.own import Own, written_here
from manikin.io.omop.sources import Source, opened, recognised
from manikin.io.omop.tables import Dangling
from manikin.synthesizer import Progress, Watch, silent

__all__ = ["flow", "read", "recognises", "stream", "write"]

SYNTHETIC = re.compile(r"synthetic|synthea|simulated", re.IGNORECASE)
SUBJECTS_PER_BLOCK = 20_000
CHANGED = "its rows were changed after they were written: read as another program's"


def recognises(path: Path) -> bool:
    """Whether a folder or a database has the tables of a CDM."""
    return recognised(path)


def read(
    source: Path | str,
    *,
    schema: EventSchema | None = None,
    watch: Watch = silent,
    dangling: Dangling = "refuse",
) -> History:
    """Read a CDM. `dangling`: what to do with rows of persons that PERSON does not have.

    Raises InputError for what is broken, with counts and without values, and SchemaError when a
    declared `schema` does not have a code that occurs.
    """
    with opened(source) as found:
        if (own := _own(found, schema)) is not None:
            events = own.events(0, own.persons.size)
            if events is not None:
                _tell(watch, 1, 1, "reading")
                return History(events, "omop", _is_synthetic(found), own.ids(),
                               layout=_layout(found, {"above": _above(own.persons)}))  # fmt: skip
        foreign = Foreign(found, schema, dangling)
        everybody = foreign.persons.numbers.size
        rows, periods = foreign.rows(0, everybody)
        _tell(watch, 1, 2, "reading")
        foreign.survey(iter([(rows, periods)]))
        events = foreign.events(rows, periods, 0, everybody)
        _tell(watch, 2, 2, "sorting")
        ids = tuple(map(str, foreign.persons.numbers.tolist()))
        notes = foreign.notes()
        if own is not None:
            notes = (CHANGED, *notes)
        layout = _layout(found, _numbers_of(foreign))
        return History(events, "omop", _is_synthetic(found), ids, notes, layout)


def stream(
    source: Path | str,
    *,
    subjects_per_block: int = SUBJECTS_PER_BLOCK,
    schema: EventSchema | None = None,
    watch: Watch = silent,
    dangling: Dangling = "refuse",
) -> Iterator[Events]:
    """Read a CDM of any size, block by block of persons, twice: once for the codes alone."""
    with opened(source) as found:
        yield from _streamed(found, subjects_per_block, schema, watch, dangling).blocks


def flow(
    source: Path | str,
    *,
    schema: EventSchema | None = None,
    watch: Watch = silent,
    dangling: Dangling = "refuse",
) -> Flow | None:
    """Return what `stream` reads with all that belongs to it; None where it is one block."""
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(opened(source))
        if "person" not in found:
            return None  # reading says what is missing
        if found.fetch("person", ["person_id"]).height <= SUBJECTS_PER_BLOCK:
            return None
        flowing = _streamed(found, SUBJECTS_PER_BLOCK, schema, watch, dangling)
        kept = stack.pop_all()

    def blocks() -> Iterator[Events]:
        with kept:
            yield from flowing.blocks

    return dataclasses.replace(flowing, blocks=blocks())


def _streamed(
    found: Source,
    subjects_per_block: int,
    schema: EventSchema | None,
    watch: Watch,
    dangling: Dangling,
) -> Flow:
    own = _own(found, schema)
    if own is not None and own.unchanged():
        starts = range(0, own.persons.size, subjects_per_block)
        if len(starts) > 1:
            found.ordered()
        kept = own

        def as_written() -> Iterator[Events]:
            for k, low in enumerate(starts):
                events = kept.events(low, min(low + subjects_per_block, kept.persons.size))
                assert events is not None
                yield events
                _tell(watch, k + 1, len(starts), "reading")

        layout = _layout(found, {"above": _above(own.persons)})
        return Flow(as_written(), "omop", _is_synthetic(found), own.ids(), layout)
    foreign = Foreign(found, schema, dangling)
    everybody = foreign.persons.numbers.size
    starts = range(0, everybody, subjects_per_block)
    if len(starts) > 1:
        found.ordered()

    def blocks(what: str) -> Iterator[tuple[Any, Any, int, int]]:
        for k, low in enumerate(starts):
            high = min(low + subjects_per_block, everybody)
            yield *foreign.rows(low, high), low, high
            _tell(watch, k + 1, len(starts), what)

    seen = Counter(foreign.seen)
    foreign.survey((rows, periods) for rows, periods, _, _ in blocks("surveying"))
    foreign.seen.clear()  # what is odd is counted when rows are read for good
    foreign.seen.update(seen)
    notes = [CHANGED] if own is not None else []

    def as_found() -> Iterator[Events]:
        for rows, periods, low, high in blocks("reading"):
            yield foreign.events(rows, periods, low, high)
        notes.extend(foreign.notes())

    ids = tuple(map(str, foreign.persons.numbers.tolist()))
    layout = _layout(found, _numbers_of(foreign))
    return Flow(as_found(), "omop", _is_synthetic(found), ids, layout, notes)


def _numbers_of(foreign: Foreign) -> dict[str, Any]:
    """Return the concepts of units, answers and levels, and where numbers of persons end."""
    return {
        **foreign.numbers,
        "levels": foreign.persons.spelled,
        "above": _above(foreign.persons.numbers),
    }


def write(
    blocks: Iterable[Events],
    out: Path | str,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Write a CDM 5.4 in the form of `layout`, or in that which the suffix of `out` says."""
    with written(out, layout, synthetic, ids) as writer:
        for block in blocks:
            writer.add(block)


def _tell(watch: Watch, step: int, total: int, what: str) -> None:
    if watch(Progress(step, total, what)):
        raise Stopped("reading")


def _is_synthetic(source: Source) -> bool:
    if "cdm_source" not in source:
        return False
    names = ("cdm_source_name", "cdm_source_abbreviation", "source_description")
    frame = source.fetch("cdm_source", names)
    return any(SYNTHETIC.search(str(cell)) for column in frame for cell in column if cell)


def _own(source: Source, declared: EventSchema | None) -> Own | None:
    """Return what reads a CDM back that was written here, unless another schema is asked for."""
    schema = written_here(source)
    return None if schema is None or declared not in (None, schema) else Own(source, schema)


def _above(persons: NDArray[np.int64]) -> int:
    """Return the power of ten above all person_ids, where those of synthetic persons begin."""
    largest = int(np.abs(persons).max(initial=0))
    return 10 ** len(str(largest)) if largest < 10**17 else 0


def _layout(source: Source, numbers: Mapping[str, Any]) -> dict[str, Any]:
    version = ""
    if "vocabulary_version" in source.columns.get("cdm_source", ()):
        versions = source.fetch("cdm_source", ["vocabulary_version"]).to_series()
        version = str(versions[0])[:20] if len(versions) and versions[0] is not None else ""
    return {
        "backend": source.backend,
        "form": source.backend,  # the same for whoever writes files alone
        "upper": source.upper,
        "vocabulary_version": version,
        **numbers,
    }
