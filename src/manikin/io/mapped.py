"""Histories as plain NumPy files that are mapped, not read: 10⁸ events need no memory.

    events.json                  format, schema, numbers of subjects and events, texts
    whose.npy time.npy …         one array a column of `Events`, (events,)
    static.<k>.npy               one array a static column, (subjects,); state.<k>.npy beside it

Written block by block: a file grows, and its header is written anew at the end (NEP 1, whose
header leaves room for the length to grow). Meant as a fast copy for one's own work, not to be sent.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import InputError, ManikinError, SchemaError
from manikin.io.aside import folder_aside

__all__ = ["blocks_of", "open_mapped", "write_mapped"]

FORMAT, VERSION = "manikin-mapped-events", 1
INDEX = "events.json"
MOST_INDEX = 2**30  # bytes
_TYPES: dict[str, str] = {
    "whose": "<i8", "time": "<M8[us]", "code": "<i4", "value": "<f8", "text": "<i4",
    "end": "<M8[us]", "visit": "<i4",
}  # fmt: skip


class _Growing:
    """An array on disk that is written from its beginning to its end."""

    def __init__(self, file: IO[bytes], dtype: str) -> None:
        self.file, self.dtype, self.n = file, np.dtype(dtype), 0
        self._header()
        self.start = file.tell()

    def add(self, values: NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(values, self.dtype).view(np.uint8).data)
        self.n += int(values.size)

    def close(self) -> None:
        self.file.seek(0)
        self._header()
        if self.file.tell() != self.start:
            raise AssertionError("the header of an array grew")

    def _header(self) -> None:
        self.file.write(_header(self.dtype, self.n))


def _header(dtype: np.dtype[Any], n: int) -> bytes:
    """Return what stands before the values of an array of one axis."""
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    written = io.BytesIO()
    npy.write_array_header_1_0(written, described)
    return written.getvalue()


def write_mapped(blocks: Iterable[Events], out: Path) -> None:
    """Write histories of one schema, whose subjects come block after block; all or nothing.

    Subjects are numbered anew from 0. Raises OutputError where something is there already.
    """
    schema: EventSchema | None = None
    texts: dict[str, int] = {}
    arrays: dict[str, _Growing] = {}
    states: dict[str, bool] = {}
    subjects = 0
    with folder_aside(out) as folder, ExitStack() as stack:

        def growing(name: str, dtype: str) -> _Growing:
            return _Growing(stack.enter_context((folder / f"{name}.npy").open("wb")), dtype)

        for events in blocks:
            if schema is None:
                schema = events.schema
                arrays |= {name: growing(name, dtype) for name, dtype in _TYPES.items()}
                for k, column in enumerate(schema.static.learned):
                    kind = "<i4" if column.is_coded else "<f8"
                    kind = "<M8[us]" if column.kind == "datetime" else kind
                    arrays[f"static.{k}"] = growing(f"static.{k}", kind)
                    states[column.name] = len(column.tokens) > 1
                    if states[column.name]:
                        arrays[f"state.{k}"] = growing(f"state.{k}", "<i1")
            if events.schema != schema:
                raise SchemaError(
                    "blocks of histories of different schemas",
                    "one schema for all that is written together",
                    "write them apart",
                )
            place = np.array(
                [*(texts.setdefault(text, len(texts)) for text in events.texts), -1], np.int32
            )
            arrays["whose"].add(events.whose + subjects)
            arrays["text"].add(place[events.text])
            for name in ("time", "code", "value", "end", "visit"):
                arrays[name].add(getattr(events, name))
            for k, column in enumerate(schema.static.learned):
                arrays[f"static.{k}"].add(events.static.columns[column.name])
                if states[column.name]:
                    arrays[f"state.{k}"].add(events.static.state(column.name))
            subjects += events.n_subjects
        if schema is None:
            raise InputError("no histories to write", "at least one block", "check the source")
        for array in arrays.values():
            array.close()
        index = {"format": FORMAT, "version": VERSION, "subjects": subjects,
                 "events": arrays["whose"].n, "schema": schema.to_json(),
                 "texts": list(texts)}  # fmt: skip
        text = json.dumps(index, ensure_ascii=True)
        (folder / INDEX).write_text(text, encoding="utf-8")


def open_mapped(folder: Path) -> Events:
    """Open histories that `write_mapped` wrote, their arrays mapped from the files.

    Raises InputError where a file is not what the index says.
    """
    path = Path(folder) / INDEX
    try:
        if path.stat().st_size > MOST_INDEX:
            raise _damaged(path)
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise _damaged(path)
    n, subjects, texts = index.get("events", -1), index.get("subjects", -1), index.get("texts", 0)
    known = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    numbers = type(n) is int and type(subjects) is int and min(n, subjects) >= 0
    if not numbers or not known or index.get("version") != VERSION:
        raise _damaged(path)
    schema = EventSchema.from_json(index.get("schema") or {})
    arrays = {name: _mapped(path.parent, name, dtype, n) for name, dtype in _TYPES.items()}
    columns, states = {}, {}
    for k, column in enumerate(schema.static.learned):
        kind = "<i4" if column.is_coded else "<M8[us]" if column.kind == "datetime" else "<f8"
        columns[column.name] = _mapped(path.parent, f"static.{k}", kind, subjects)
        if len(column.tokens) > 1:
            states[column.name] = _mapped(path.parent, f"state.{k}", "<i1", subjects)
    try:
        static = Table(schema.static, np.arange(subjects, dtype=np.int64), columns, states)
        return Events(schema, static, **arrays, texts=tuple(texts))
    except ManikinError as error:
        raise _damaged(path) from error


def blocks_of(events: Events, *, most: int = 2_000_000) -> Iterator[Events]:
    """Yield histories in blocks of whole subjects and about so many events, of one schema.

    Of mapped arrays only one block is in memory at a time.
    """
    starts = events.starts
    first = 0
    while first < events.n_subjects:
        last = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        last = min(max(last, first + 1), events.n_subjects)
        rows = slice(int(starts[first]), int(starts[last]))
        part = {name: np.array(getattr(events, name)[rows]) for name in _TYPES}
        part["whose"] -= first
        table = events.static.rows(np.arange(first, last))
        yield Events(events.schema, table, **part, texts=events.texts)
        first = last


def _mapped(folder: Path, name: str, dtype: str, n: int) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    header = _header(np.dtype(dtype), n)
    try:
        # a header is not parsed but compared with the only one that there can be
        with path.open("rb") as file:
            known = file.read(len(header)) == header
        if not known or path.stat().st_size != len(header) + n * np.dtype(dtype).itemsize:
            raise _damaged(path)
        if n == 0:  # nothing cannot be mapped
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r", len(header), (n,))
    except (OSError, ValueError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' is not what mapped histories have there",
        "a folder as it was written",
        "write it again from where the histories came",
    )
