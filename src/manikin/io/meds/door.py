"""MEDS in and out: Medical Event Data Standard 0.4, a folder of Parquet files.

    data/0.parquet …             events, a subject in one file, sorted by subject and time
    metadata/codes.parquet       every code, its description and parents
    metadata/dataset.json        what made the data; `synthetic` where they are
    metadata/manikin.json        what only this program needs to read its own histories exactly
    metadata/subjects.parquet    names of subjects that are no whole numbers

Beside the columns of the standard stand `unit` and `domain` (code modifiers), `end` and `visit`,
and `exact_value` where a number has more digits than the standard's float32 holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manikin import __version__
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError, MissingExtra, SchemaError
from manikin.io.aside import folder_aside
from manikin.io.bounds import panics_become, read_text
from manikin.io.histories import Flow, History
from manikin.io.meds.codes import Plan, plan_of
from manikin.io.meds.files import Shards, collect, damaged, find_shards, is_data
from manikin.io.meds.rows import Counts, build, ids_in_order, rows_of
from manikin.io.meds.survey import survey
from manikin.synthesizer import Watch, report, silent

__all__ = ["flow", "read", "recognises", "stream", "write"]

VERSION = "0.4"
OWN, DATASET = Path("metadata/manikin.json"), Path("metadata/dataset.json")
CODES, SUBJECTS = Path("metadata/codes.parquet"), Path("metadata/subjects.parquet")
ROWS_A_BLOCK = 4_000_000  # of a file that is read in pieces
MOST_NUMBER = 10**18  # of a subject
_MODIFIERS, _OTHERS = ["unit", "domain"], ["end", "visit", "exact_value"]


def recognises(path: Path) -> bool:
    """Whether a folder has MEDS data files, or a Parquet file has the columns of MEDS."""
    if path.is_dir():
        folder = path / "data"
        first = next(iter(sorted(folder.rglob("*.parquet"))), None) if folder.is_dir() else None
        return first is not None and is_data(first)
    return path.suffix.lower() in (".parquet", ".pq") and path.is_file() and is_data(path)


def read(
    source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
) -> History:
    """Read a MEDS data set, or one file of its layout.

    Raises InputError for files that are damaged or no MEDS, and for rows without subject or code.
    """
    path = Path(source)
    shards = find_shards(path)
    plan, facts, notes, own = _plan(path, shards, schema)
    frames = []
    for k, shard in enumerate(shards.paths):
        report(watch, k, len(shards.paths), "reading")
        frames.append(collect(shards.scan(shard), shard))
    several = _in_several([frame["subject_id"].unique() for frame in frames])
    rows = pl.concat(frames)
    del frames
    counts = Counts(several=several.len())
    events = build(rows, plan, own, counts)
    ids = ids_in_order(rows)
    names = _names(path, ids)
    notes += [*counts.notes(), *_oddities(shards.odd), *_split(path)]
    synthetic = _document(path / DATASET).get("synthetic") is True
    return History(events, "meds", synthetic, names, tuple(notes), _layout(facts, names, ids))


def _layout(facts: Mapping[str, Any], names: tuple[str, ...], ids: pl.Series) -> dict[str, Any]:
    layout: dict[str, Any] = {"facts": facts} if facts else {}
    if names and len(ids):
        # synthetic subjects are numbered beyond all real ones, of which only the length is told
        layout["first"] = 10 ** len(str(abs(int(ids.max()))))  # type: ignore[arg-type]
    return layout


def _split(path: Path) -> list[str]:
    told = (path / "metadata" / "subject_splits.parquet").is_file()
    return ["The split of subjects that the source has is not kept."] if told else []


def stream(
    source: Path | str, *, schema: EventSchema | None = None, rows: int = ROWS_A_BLOCK
) -> Iterator[Events]:
    """Read a MEDS data set in blocks of about so many rows, all of one schema.

    Subjects are numbered over all blocks, in the order in which the files have them; those that
    are in several files come last. At most one block is in memory.
    """
    path = Path(source)
    shards = find_shards(path)
    plan, _, _, own = _plan(path, shards, schema)
    held, several = _held(shards)
    cuts = _blocks(shards, held, several, rows)
    yield from _built(shards, cuts, plan, own, Counts(wanted=False))


def flow(
    source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
) -> Flow | None:
    """Return what `stream` reads with all that belongs to it; None where it is one block."""
    path = Path(source)
    shards = find_shards(path)
    plan, facts, notes, own = _plan(path, shards, schema)
    held, several = _held(shards)
    if sum(int(frame["len"].sum()) for frame in held) <= ROWS_A_BLOCK:
        return None
    cuts = list(_blocks(shards, held, several, ROWS_A_BLOCK))
    by_file = dict(zip(shards.paths, held, strict=True))
    ids = pl.concat(_chosen(pl.concat([by_file[p] for p in paths]), some) for some, paths in cuts)
    del held, by_file
    counts = Counts(several=several.len())

    def blocks() -> Iterator[Events]:
        for k, events in enumerate(_built(shards, iter(cuts), plan, own, counts)):
            yield events
            report(watch, k + 1, len(cuts), "reading")
        notes.extend([*counts.notes(), *_oddities(shards.odd), *_split(path)])

    synthetic, names = _document(path / DATASET).get("synthetic") is True, _names(path, ids)
    return Flow(blocks(), "meds", synthetic, names, _layout(facts, names, ids), notes)


def _held(shards: Shards) -> tuple[list[pl.DataFrame], pl.Series]:
    """Return how many rows each file has of each subject, and who is in several files."""
    held = [
        collect(shards.scan(p).group_by("subject_id", maintain_order=True).len(), p)
        for p in shards.paths
    ]
    return held, _in_several([frame["subject_id"] for frame in held])


def _chosen(held: pl.DataFrame, chosen: pl.Series | None) -> pl.Series:
    """Return the subjects of a block, in the order in which its files have them."""
    some = held if chosen is None else held.filter(pl.col("subject_id").is_in(chosen.implode()))
    return some["subject_id"].unique(maintain_order=True)


def _built(
    shards: Shards,
    cuts: Iterator[tuple[pl.Series | None, list[Path]]],
    plan: Plan,
    own: bool,
    counts: Counts,
) -> Iterator[Events]:
    first = 0
    for chosen, paths in cuts:
        parts = []
        for part in paths:
            scanned = shards.scan(part)
            if chosen is not None:
                scanned = scanned.filter(pl.col("subject_id").is_in(chosen.implode()))
            parts.append(collect(scanned, part))
        events = build(pl.concat(parts), plan, own, counts)
        del parts
        yield events.renumbered(first)
        first += events.n_subjects


def _in_several(subjects: list[pl.Series]) -> pl.Series:
    """Return the subjects that are in more than one file."""
    every = pl.concat(subjects)
    return every.filter(every.is_duplicated()).unique().sort()


def _blocks(
    shards: Shards, held: list[pl.DataFrame], several: pl.Series, rows: int
) -> Iterator[tuple[pl.Series | None, list[Path]]]:
    """Yield which subjects of which files make a block; None for all of a file."""
    for path, counted in zip(shards.paths, held, strict=True):
        alone = counted.filter(~pl.col("subject_id").is_in(several.implode()))
        if alone.height == counted.height and counted["len"].sum() <= rows:
            yield None, [path]
            continue
        for part in _cut(alone, rows):
            yield part, [path]
    if several.len():
        whole = pl.concat(held).group_by("subject_id").agg(pl.col("len").sum())
        shared = whole.filter(pl.col("subject_id").is_in(several.implode())).sort("subject_id")
        for part in _cut(shared, rows):
            yield part, shards.paths


def _cut(counted: pl.DataFrame, rows: int) -> Iterator[pl.Series]:
    block = (counted["len"].cum_sum() - 1) // max(rows, 1)
    for part in counted.with_columns(block=block).partition_by("block", maintain_order=True):
        yield part["subject_id"]


def write(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Write histories of one schema as MEDS, a file a block; all of it or nothing.

    A folder that this function wrote before is replaced. Raises OutputError where anything else is
    there already, MissingExtra without pyarrow.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("writing MEDS", "ehr") from error
    facts = _told(layout.get("facts"))
    first = layout.get("first")
    first = first if type(first) is int and 0 <= first < MOST_NUMBER and synthetic else 0
    whole = all(name.isdecimal() and str(int(name)) == name for name in ids)
    plan: Plan | None = None
    with folder_aside(out, earlier=_is_own) as folder:
        (folder / "data").mkdir()
        (folder / "metadata").mkdir()
        number = 0
        for events in blocks:
            plan = plan or plan_of(events.schema, facts)
            if events.schema != plan.schema:
                raise SchemaError(
                    "blocks of histories of different schemas",
                    "one schema for all that is written together",
                    "write them apart",
                )
            named = ids if whole else ()
            _write(rows_of(events, plan, named, first), folder / "data" / f"{number}.parquet")
            number += 1
        if plan is None:
            raise InputError("no histories to write", "at least one block", "check the source")
        _write_metadata(folder, plan, facts, synthetic)
        if ids and not whole:
            told = {"subject_id": np.arange(len(ids)), "name": list(ids)}
            _write(pl.DataFrame(told), folder / SUBJECTS)


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Write Parquet in exactly the Arrow types that the standard names, which polars has not."""
    import pyarrow
    from pyarrow import parquet

    # codes are `string`, texts `large_string`, parents a `list<string>`
    table = frame.to_arrow()
    kept = {"text_value": pyarrow.large_string(), "parent_codes": pyarrow.list_(pyarrow.string()),
            "levels": pyarrow.list_(pyarrow.string())}  # fmt: skip
    large = pyarrow.large_string()
    fields = [
        pyarrow.field(
            f.name,
            kept.get(f.name, pyarrow.string() if f.type == large else f.type),
            nullable=f.name not in ("subject_id", "code"),
        )
        for f in table.schema
    ]
    parquet.write_table(table.cast(pyarrow.schema(fields)), path, compression="zstd")


def _write_metadata(folder: Path, plan: Plan, facts: Mapping[str, Any], synthetic: bool) -> None:
    schema = plan.schema
    dataset: dict[str, Any] = {
        "dataset_name": "Synthetic histories" if synthetic else "Histories",
        "etl_name": "manikin",
        "etl_version": __version__,
        "meds_version": VERSION,
        "code_modifier_columns": _MODIFIERS,
        "other_extension_columns": _OTHERS,
        "synthetic": synthetic,
    }
    if synthetic:
        dataset["description"] = (
            "Made by Manikin from a model of histories. No row is of a real person."
        )
    own = {
        "format": "manikin-meds",
        "version": 1,
        **{k: v for k, v in schema.to_json().items() if k != "codes"},
        "facts": facts,
    }
    for path, document in ((DATASET, dataset), (OWN, own)):
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / path).write_text(text + "\n", encoding="utf-8")
    _write(plan.codes, folder / CODES)


# ------------------------------------------------------------------ metadata


def _plan(
    path: Path, shards: Shards, schema: EventSchema | None
) -> tuple[Plan, dict[str, Any], list[str], bool]:
    """Return how rows are read, how static columns were written, notes, and whether it is ours."""
    document = _document(path / OWN)
    own = document.get("format") == "manikin-meds"
    facts = _told(document.get("facts"))
    if schema is not None:
        return plan_of(schema, facts), facts, [], own
    if own:
        return plan_of(_own_schema(path, document), facts), facts, [], True
    plan, told = survey(shards, _described(path))
    return plan, told, [], False


def _is_own(folder: Path) -> bool:
    """Whether a folder was written by this door."""
    return (folder / OWN).is_file() and (folder / DATASET).is_file()


def _told(facts: object) -> dict[str, dict[str, Any]]:
    """Return how static columns are written, checked: it may come from a stranger's file."""
    if not isinstance(facts, Mapping):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, entry in facts.items():
        known = isinstance(entry, Mapping) and set(entry) <= {"prefix", "separator", "text"}
        prefix = entry.get("prefix") if known else None
        between = entry.get("separator", "//") if known else None
        if not isinstance(prefix, str) or not prefix or between not in ("/", "//"):
            raise SchemaError(
                "a description of how static facts are written that is none",
                "prefix, separator and text of a column",
                "use the file as it was written",
            )
        found[str(name)] = dict(entry)
    return found


def _own_schema(path: Path, document: Mapping[str, Any]) -> EventSchema:
    """Rebuild the schema that `write` described. Raises InputError where it is damaged."""
    frame = _table(path / CODES)
    wrong = InputError(
        "'metadata/codes.parquet' is not what was written with 'metadata/manikin.json'",
        "both files as they were written",
        "copy the folder again; or remove manikin.json, and the data are read by themselves",
    )
    if frame is None or not {"place", "name", "unit", "domain"} <= set(frame.columns):
        raise wrong
    frame = frame.filter(pl.col("place").is_not_null()).sort("place")
    if frame["place"].to_list() != list(range(frame.height)):
        raise wrong
    entries = [_entry(row) for row in frame.iter_rows(named=True)]
    return EventSchema.from_json({**document, "codes": entries})


def _entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of codes.parquet as an entry of a schema."""
    names = {"label": "description", "parents": "parent_codes"}
    keys = ("name", "domain", "label", "unit", "numeric", "minimum", "maximum", "decimals",
            "levels", "parents", "concept")  # fmt: skip
    entry = {key: row.get(names.get(key, key)) for key in keys}
    bounds = ("minimum", "maximum")
    return {key: value for key, value in entry.items() if value is not None or key in bounds}


def _described(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return label and parents of codes where the source has a table of them."""
    frame = _table(path / CODES)
    if frame is None or "code" not in frame.columns:
        return {}
    texts = frame.schema.get("description") == pl.String
    parents = frame.schema.get("parent_codes") == pl.List(pl.String)
    return {
        row["code"]: (
            (row["description"] or "") if texts else "",
            tuple(p for p in row["parent_codes"] or () if p) if parents else (),
        )
        for row in frame.iter_rows(named=True)
        if row["code"] is not None
    }


def _table(path: Path) -> pl.DataFrame | None:
    """Read a table of metadata, None where there is none."""
    if not path.is_file():
        return None
    with panics_become(lambda: damaged(path)):
        try:
            return pl.read_parquet(path, glob=False, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise damaged(path) from error


def _document(path: Path) -> dict[str, Any]:
    """Read a JSON file of metadata, {} where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_text(path, "metadata file"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"'{path.name}' is no JSON", "the file as it was written", "copy it again"
        ) from error
    return found if isinstance(found, dict) else {}


def _names(path: Path, ids: pl.Series) -> tuple[str, ...]:
    """Return the source's name of each subject, () where it is its number."""
    frame = _table(path / SUBJECTS)
    if frame is not None and {"subject_id", "name"} <= set(frame.columns):
        names = dict(frame.select("subject_id", "name").iter_rows())
        return tuple(str(names.get(int(i), i)) for i in ids)
    if np.array_equal(ids.to_numpy(), np.arange(ids.len())):
        return ()
    return tuple(str(i) for i in ids.to_list())


def _oddities(odd: Mapping[str, set[Path]]) -> list[str]:
    """Return a note for everything that was odd about columns, with the count of files."""
    return [
        f"{len(files):,} files had {what}." if len(files) > 1 else f"A file had {what}."
        for what, files in odd.items()
    ]
