"""Histories from one format into another, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manikin.errors import InputError, OutputError
from manikin.sources import spare
from manikin.synthesizer import Watch, report, silent

__all__ = ["Converted", "convert"]

SUFFIXES = {".duckdb": "omop", ".db": "omop", ".sqlite": "omop", ".sqlite3": "omop",
            ".ndjson": "fhir", ".csv": "long", ".xpt": "cdisc"}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """Where converted histories stand, and what to know of them."""

    data: Path
    source_format: str
    format: str
    subjects: int
    events: int
    synthetic: bool  # whether the source says so of itself, and so does the copy
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.data)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str | None = None,
    source_format: str | None = None,
    schema: Any = None,
    subject: str | None = None,
    time: str | None = None,
    dangling: Literal["refuse", "keep"] = "refuse",
    overwrite: bool = False,
    watch: Watch = silent,
) -> Converted:
    """Write the histories of `source` to `out` in the format `to`, by default that of its suffix.

    Formats are omop, meds, fhir, cdisc, long (and synthea, which is only read). Subjects keep the
    identifiers that the source has: what is real stays as identifying as it was, and is not marked;
    what says of itself that it is synthetic is marked so again. Large OMOP and MEDS sources go
    through block by block. `dangling` "keep" keeps what can be kept of rows and resources of OMOP
    and FHIR that refer to what is not there; by default they are an error with counts.
    """
    from manikin.data.codes import EventSchema
    from manikin.io import histories as doors

    path = Path(out)
    spare(path, source)
    named = _format_of(path, to, overwrite=overwrite)
    declared = schema if schema is None or isinstance(schema, EventSchema) else None
    if schema is not None and declared is None:
        declared = doors.read_schema(Path(schema))
    report(watch, 0, 2, "reading")
    columns = {"subject": subject, "time": time}
    found = doors.flow(source, format=source_format, schema=declared, columns=columns,
                       dangling=dangling, watch=watch)  # fmt: skip
    report(watch, 1, 2, "writing")
    layout = dict(found.layout) if found.format == named else {}
    layout.pop("backend", None)  # the suffix of the new place says it
    if path.suffix:
        layout["suffix"] = path.suffix
    counts = {"subjects": 0, "events": 0}

    def counted() -> Iterator[Any]:
        for block in found.blocks:
            counts["subjects"] += block.n_subjects
            counts["events"] += block.n_events
            yield block

    doors.write(counted(), path, named, layout=layout, synthetic=found.synthetic,
                ids=found.ids, overwrite=overwrite)  # fmt: skip
    report(watch, 2, 2, "writing")
    return Converted(
        path, found.format, named, counts["subjects"], counts["events"], found.synthetic,
        tuple(found.notes),
    )  # fmt: skip


def _format_of(path: Path, to: str | None, *, overwrite: bool) -> str:
    """Return the format in which a place is to be written, and refuse one that is taken."""
    from manikin.io import histories as doors

    named = to or SUFFIXES.get(path.suffix.lower())
    if named is None:
        raise InputError(
            f"nothing says in which format '{path.name}' is to be written",
            f"one of: {', '.join(doors.DOORS)}",
            "name it (--to)",
        )
    doors.door(named)
    if path.exists() and not overwrite:
        raise OutputError(f"'{path.name}' exists", "a new path", "choose another, or overwrite it")
    return named
