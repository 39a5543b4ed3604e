"""FHIR R4, in and out: bulk NDJSON folders and Bundles, in one file or one a patient.

HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/; Bulk Data Access IG 2.0 for the folder and its
manifest. Events stand where FHIR has them (docs/events.md lists it), so that any reader finds
them; what FHIR has no element for stands in extensions under `urn:manikin:fhir:`, and the schema
in the manifest, so that what was written is read back as it was, to the last bit.

Reading goes line by line. Held are numbers, at most some 300 bytes an event, each different text
once, and a few hundred bytes a patient; no resource is. Writing holds one block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError, SchemaError
from manikin.io.bounds import check_memory
from manikin.io.fhir.build import Dangling
from manikin.io.fhir.check import Sample
from manikin.io.fhir.codes import key_of
from manikin.io.fhir.collect import Collect, in_order, manifest_of
from manikin.io.fhir.files import (
    SERVER,
    BundleFolder,
    NdjsonFolder,
    OneBundle,
    Sink,
    files_of,
    head,
)
from manikin.io.fhir.lines import Texts, resources
from manikin.io.fhir.patients import patients
from manikin.io.fhir.plan import Plan, dumps
from manikin.io.histories import History
from manikin.synthesizer import Watch, report, silent

__all__ = ["read", "recognises", "write"]

ROWS = 1 << 17  # events that are JSON at a time
HELD, UNFOLDED = 0.6, 10  # times the size of files that reading holds; what gzip took away
_OFFSET = re.compile(r"Z|[+-](0\d|1[0-4]):[0-5]\d")
LOOKED_AT = 3  # files, to recognise a folder
_ID = re.compile(r"[A-Za-z0-9\-.]{1,52}")  # leaves room for the number of an event
FORMS = {"ndjson": NdjsonFolder, "bundles": BundleFolder, "bundle": OneBundle}


def write(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Write histories as FHIR R4; blocks are of one schema and share no subject.

    `layout["form"]` is "ndjson" (a folder, the default), "bundles" (a folder, one a subject) or
    "bundle" (one file, the default where `out` ends in .json); `layout["compressed"]` asks for
    gzip. Resources of `synthetic` subjects bear the tags HTEST and "synthetic", others none.
    Raises OutputError for a place that is taken, SchemaError for blocks that do not fit together.
    """
    layout = {**layout, **_sound(layout)}
    form = str(layout.get("form") or ("bundle" if out.suffix == ".json" else "ndjson"))
    if form not in FORMS:
        raise InputError(f"form '{form[:40]}'", f"one of: {', '.join(FORMS)}", "correct 'form'")
    names = _Names(ids)
    sample, plan, events = Sample(), None, 0
    compressed = bool(layout.get("compressed")) and form != "bundle"  # its name ends in .json
    with FORMS[form](out, compressed) as sink:
        for block in blocks:
            if plan is None:
                plan = Plan.of(block.schema, layout, synthetic=synthetic)
                if devices := plan.devices():
                    sink.put_all("Device", devices)
            elif block.schema is not plan.schema and block.schema != plan.schema:
                raise SchemaError(
                    "blocks of different schemas", "one schema", "write each to its own place"
                )
            events += block.n_events
            _put(block, names, plan, sink, sample)
        if plan is None:
            raise InputError("no histories at all", "one block or more", "check what is written")
        sample.check()
        sink.close(_manifest(sink, plan, layout, names, synthetic=synthetic, events=events))


def _sound(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a layout goes into resources, as far as it is what a reading says."""
    offset = layout.get("offset")
    fits = isinstance(offset, str) and _OFFSET.fullmatch(offset)
    named: dict[str, Any] = {"offset": offset if fits else "Z"}
    for said in ("kinds", "categories"):
        names = layout.get(said)
        given = names.items() if isinstance(names, Mapping) else ()
        named[said] = {key: name for key, name in given if isinstance(name, str)}
    return named


def _put(block: Events, names: _Names, plan: Plan, sink: Sink, sample: Sample) -> None:
    names.check(block)
    texts = Texts.of(block)
    for part in _parts(block):
        own, sources = names.of(part)
        made = [patients(part, own, sources, texts, plan), *resources(part, own, texts, plan)]
        for each in made:
            sample.take(each)
        sink.put(made, own)


def _parts(block: Events) -> Iterator[Events]:
    """Yield whole subjects with about `ROWS` events at a time."""
    starts, first = block.starts, 0
    while first < block.n_subjects:
        most = int(np.searchsorted(starts, starts[first] + ROWS, "right")) - 1
        last = min(max(most, first + 1), first + ROWS, block.n_subjects)
        rows = slice(int(starts[first]), int(starts[last]))
        yield replace(
            block,
            static=block.static.rows(np.arange(first, last)),
            whose=block.whose[rows] - first,
            **{name: getattr(block, name)[rows]
               for name in ("time", "code", "value", "text", "end", "visit")},
        )  # fmt: skip
        first = last


class _Names:
    """The ids of Patients: the source's names where all can be ids, else p and the number."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = pl.Series(ids, dtype=pl.String) if ids else None
        self.fit = bool(ids) and len(set(ids)) == len(ids) and all(map(_ID.fullmatch, ids))
        self.last = np.iinfo(np.int64).min
        self.seen: list[Any] = []

    def check(self, block: Events) -> None:
        """Raise SchemaError for a subject that was there before, or that has no name."""
        numbers = block.subjects
        if numbers.size == 0:
            return
        twice = 0
        if numbers[0] <= self.last:
            twice = int(np.isin(numbers, np.concatenate(self.seen)).sum())
        self.seen.append(numbers)
        self.last = max(self.last, int(numbers[-1]))
        if twice:
            raise SchemaError(
                f"{twice:,} subjects in more than one block", "each in one", "renumber the blocks"
            )
        if self.ids is not None and not (numbers[0] >= 0 and numbers[-1] < len(self.ids)):
            raise SchemaError(
                f"{len(self.ids):,} names of subjects, and numbers that are none of theirs",
                "a name for each number",
                "give all names, or none",
            )

    def of(self, part: Events) -> tuple[pl.Series, pl.Series | None]:
        """Return the id of each Patient, and its source's name as JSON where it is no id."""
        numbers = pl.Series(part.subjects)
        plain = numbers.cast(pl.String)
        if self.ids is None:
            return "p" + plain, None
        own = self.ids.gather(numbers)
        if self.fit:
            return own, None
        return "p" + plain, pl.Series([dumps(name) if name.strip() else None for name in own],
                                      dtype=pl.String)  # fmt: skip


def _manifest(
    sink: Sink,
    plan: Plan,
    layout: Mapping[str, Any],
    names: _Names,
    *,
    synthetic: bool,
    events: int,
) -> dict[str, Any]:
    files = [
        {"type": kind, "url": sink.name_of(kind), "count": count}
        for kind, count in sorted(sink.counts.items())
    ]
    known = {key_of(code) for code in plan.schema.codes}
    return {
        "transactionTime": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": f"{SERVER}/$export",
        "requiresAccessToken": False,
        "output": files if isinstance(sink, NdjsonFolder) else [],
        "error": [],
        "extension": {
            "manikin": 1,
            "synthetic": synthetic,
            "subjects": int(sum(numbers.size for numbers in names.seen)),
            "events": events,
            "named": names.ids is not None,
            "counts": sink.counts,
            **{
                said: {key: name for key, name in layout.get(said, {}).items() if key in known}
                for said in ("kinds", "categories")
            },
            "offset": plan.offset,
            "schema": plan.schema.to_json(),
        },
    }


# -- in -------------------------------------------------------------------------------------------


def recognises(path: Path) -> bool:
    """Whether the first of the files are NDJSON or a Bundle of FHIR, or our manifest is there."""
    try:
        if manifest_of(path) is not None:
            return True
        return any(b'"resourceType"' in head(found) for found in files_of(path)[:LOOKED_AT])
    except (OSError, InputError):
        return False


def read(
    source: Path | str,
    *,
    schema: EventSchema | None = None,
    watch: Watch = silent,
    dangling: Dangling = "refuse",
) -> History:
    """Read a folder of NDJSON or of Bundles, or one such file, gzip or not.

    With a `schema`, every code must be one of its own. A reference that leads nowhere is an error
    with counts; "keep" keeps what can be kept. Raises InputError for what is broken.
    """
    path = Path(source)
    try:
        files = files_of(path)
        manifest = manifest_of(path)
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read", "a file or folder", "check it") from error
    if not files and manifest is None:
        raise InputError(
            f"'{path.name}' holds no file of resources", "*.ndjson or *.json", "check the path"
        )
    size = sum(found.stat().st_size * (UNFOLDED if found.suffix == ".gz" else 1) for found in files)
    check_memory(size, HELD, "resources", "export fewer patients at a time, and convert each part")
    collected = Collect(schema, manifest, watch)
    for number, found in enumerate(in_order(files)):
        report(watch, number, len(files), "reading FHIR")
        collected.take(found, number + 1, len(files))
    return collected.history(path, dangling)
