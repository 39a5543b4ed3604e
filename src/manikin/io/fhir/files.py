"""Files of FHIR: NDJSON folders and Bundles, in a stream and within bounds.

Bulk Data Access IG 2.0, "Bulk Data Output File": one resource a line, one kind a file, and a
manifest of the files; https://hl7.org/fhir/R4/bundle.html for Bundles. Files are written in a
folder aside, which takes its name when all is there.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import polars as pl

from manikin.errors import InputError, MissingExtra, OutputError
from manikin.io.bounds import room
from manikin.io.fhir.codes import URN
from manikin.io.fhir.lines import Resources
from manikin.io.fhir.plan import dumps

__all__ = ["BundleFolder", "NdjsonFolder", "OneBundle", "Sink", "files_of", "head", "is_lines",
           "lines_of", "loads", "whole"]  # fmt: skip

MOST_LINE = 2**26  # bytes of one resource
MOST_BUNDLE = 2**30  # bytes of one Bundle, which is held whole
_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 16
_SUFFIX = re.compile(r"\.(ndjson|jsonl|json)(\.gz)?$", re.IGNORECASE)
SERVER = "http://example.invalid/fhir"  # nobody's: RFC 6761


def loads(raw: bytes) -> Any:
    """Read JSON. Raises ValueError for what is none, MissingExtra where orjson is not there."""
    try:
        import orjson
    except ImportError as error:
        raise MissingExtra("FHIR", "ehr") from error
    return orjson.loads(raw)


def files_of(source: Path) -> list[Path]:
    """Return the files of a source that may hold resources, by name."""
    if source.is_file():
        return [source]
    return sorted(
        path
        for path in source.iterdir()
        if path.is_file() and _SUFFIX.search(path.name) and path.name != "manifest.json"
        and not path.name.startswith(".")
    )  # fmt: skip


def is_lines(path: Path) -> bool:
    """Whether a file's name says that it has a resource a line."""
    return ".json" not in path.name.lower().replace(".jsonl", "")


def head(path: Path) -> bytes:
    """Return the first bytes of what a file holds, gzip or not."""
    with open(path, "rb") as file:
        first = file.read(_HEAD)
    if first[:2] != b"\x1f\x8b":
        return first
    try:
        return zlib.decompressobj(31).decompress(first, _HEAD)
    except zlib.error:
        return b""


def _chunks(path: Path, what: str) -> Iterator[bytes]:
    """Yield what a file holds, gzip or not; what it unfolds to is bounded."""
    with open(path, "rb") as file:
        first = file.read(_CHUNK)
        if first[:2] != b"\x1f\x8b":
            first = first.removeprefix(_BOM)
            while first:
                yield first
                first = file.read(_CHUNK)
            return
        left = room(path.stat().st_size)
        engine = zlib.decompressobj(31)
        try:
            while first:
                out = engine.decompress(first, _CHUNK)
                left -= len(out)
                if left < 0:
                    raise InputError(
                        f"{what} unfolds to more than a file of its size can be expected to",
                        f"{room(path.stat().st_size) // 2**20} MiB",
                        "if it is no attack, unpack it first",
                    )
                yield out
                first = engine.unconsumed_tail
                if engine.eof:
                    first = engine.unused_data or file.read(_CHUNK)
                    engine = zlib.decompressobj(31)
                elif not first:
                    first = file.read(_CHUNK)
                    if not first:
                        yield engine.flush()
                        if not engine.eof:
                            raise zlib.error
        except zlib.error as error:
            raise InputError(
                f"{what} is a damaged or truncated gzip file", "a whole one", "copy it again"
            ) from error


def lines_of(path: Path, what: str) -> Iterator[tuple[int, bytes, bool]]:
    """Yield number and bytes of each line that is not blank, and whether it is whole.

    Only what stands after the last line end is not; it may be a resource all the same.
    """
    tail, number = b"", 0
    for chunk in _chunks(path, what):
        parts = (tail + chunk).split(b"\n")
        tail = parts.pop()
        for line in parts:
            number += 1
            if line.strip():
                yield number, line, True
        if len(tail) > MOST_LINE:
            raise InputError(
                f"{what}, line {number + 1:,}, is longer than {MOST_LINE // 2**20} MiB",
                "one resource a line (NDJSON)",
                "export it as NDJSON; a Bundle is one file of the suffix .json",
            )
    if tail.strip():
        yield number + 1, tail, False


def whole(path: Path, what: str) -> bytes:
    """Return all of a file that must be held whole."""
    found, size = [], 0
    for chunk in _chunks(path, what):
        size += len(chunk)
        if size > MOST_BUNDLE:
            raise InputError(
                f"{what} is one Bundle of more than {MOST_BUNDLE // 2**20} MiB",
                "a Bundle is held whole; NDJSON is read line by line, however long",
                "export it as NDJSON",
            )
        found.append(chunk)
    return b"".join(found)


# -- out ------------------------------------------------------------------------------------------


@dataclass
class Sink:
    """Where resources go: aside first, to the given name when all is written.

    Raises OutputError when the place is taken or cannot be written to.
    """

    out: Path
    compressed: bool = False

    def __enter__(self) -> Sink:
        taken = self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir()))
        if taken:
            raise OutputError(
                f"'{self.out}' is there already", "a new name", "remove it or name another place"
            )
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.aside = Path(tempfile.mkdtemp(prefix=".manikin-fhir-", dir=self.out.parent))
        except OSError as error:
            raise _failed(self.out, error) from error
        self.files: dict[str, IO[bytes]] = {}
        self.counts: dict[str, int] = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(self.aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise _failed(self.out, error) from error

    def put(self, found: list[Resources], names: pl.Series) -> None:
        """Take the resources of a block of subjects."""
        raise NotImplementedError

    def put_all(self, kind: str, lines: list[str]) -> None:
        """Take resources that are of no subject."""
        raise NotImplementedError

    def close(self, manifest: dict[str, Any]) -> None:
        """Write the manifest and take the name."""
        (self.aside / "manifest.json").write_bytes(dumps(manifest).encode())
        self._finish(self.aside)

    def name_of(self, kind: str) -> str:
        """Return the name of a kind's file of lines."""
        return f"{kind}.ndjson{'.gz' if self.compressed else ''}"

    def _finish(self, made: Path) -> None:
        for file in self.files.values():
            file.close()
        made.chmod(0o700 if made.is_dir() else 0o600)
        if self.out.is_dir():
            self.out.rmdir()
        os.replace(made, self.out)

    def _file(self, name: str) -> IO[bytes]:
        if name not in self.files:
            self.files[name] = _open(self.aside / name, compressed=self.compressed)
        return self.files[name]


class NdjsonFolder(Sink):
    """A folder of NDJSON, one file a kind."""

    def put(self, found: list[Resources], names: pl.Series) -> None:
        """Append the lines of each kind to its file."""
        for made in found:
            _append(self._file(self.name_of(made.kind)), made.lines)
            self.counts[made.kind] = self.counts.get(made.kind, 0) + len(made.lines)

    def put_all(self, kind: str, lines: list[str]) -> None:
        """Append lines of a kind."""
        nobody = np.zeros(len(lines), np.int64)
        self.put([Resources(kind, nobody, pl.Series(lines, dtype=pl.String))], pl.Series())


class BundleFolder(Sink):
    """A folder of Bundles, one file a subject."""

    def put(self, found: list[Resources], names: pl.Series) -> None:
        """Write one transaction for each subject of a block."""
        for row, entries in _by_subject(found, len(names)).iter_rows():
            bundle = f'{{"resourceType":"Bundle","type":"transaction","entry":[{entries}]}}'
            name = f"Patient.{names[row]}.json{'.gz' if self.compressed else ''}"
            with contextlib.closing(_open(self.aside / name, compressed=self.compressed)) as file:
                file.write(bundle.encode())
        for made in found:
            self.counts[made.kind] = self.counts.get(made.kind, 0) + len(made.lines)

    def put_all(self, kind: str, lines: list[str]) -> None:
        """Write one Bundle of what all subjects refer to."""
        entries = _entries(kind, pl.Series(lines, dtype=pl.String)).str.join(",")[0]
        bundle = f'{{"resourceType":"Bundle","type":"transaction","entry":[{entries}]}}'
        (self.aside / f"{kind}.json").write_bytes(bundle.encode())
        self.counts[kind] = len(lines)


class OneBundle(Sink):
    """One file with one Bundle of all, its manifest in a Basic resource at the end."""

    def put(self, found: list[Resources], names: pl.Series) -> None:
        """Append entries, subject by subject."""
        for _, entries in _by_subject(found, len(names)).iter_rows():
            self._append(entries)
        for made in found:
            self.counts[made.kind] = self.counts.get(made.kind, 0) + len(made.lines)

    def put_all(self, kind: str, lines: list[str]) -> None:
        """Append entries."""
        self._append(_entries(kind, pl.Series(lines, dtype=pl.String)).str.join(",")[0])
        self.counts[kind] = len(lines)

    def close(self, manifest: dict[str, Any]) -> None:
        """Append the manifest and take the name."""
        told = {"url": f"{URN}manifest", "valueString": dumps(manifest)}
        basic = {"resourceType": "Basic", "id": "manifest", "extension": [told],
                 "code": {"text": "manifest"}}  # fmt: skip
        self._append(_entries("Basic", pl.Series([dumps(basic)]))[0])
        self._file("bundle.json").write(b"]}")
        self._finish(self.aside / "bundle.json")

    def _append(self, entries: str) -> None:
        first = "bundle.json" not in self.files
        file = self._file("bundle.json")
        head = '{"resourceType":"Bundle","type":"transaction","entry":['
        file.write((head if first else ",").encode())
        file.write(entries.encode())


def _open(path: Path, *, compressed: bool) -> IO[bytes]:
    if not compressed:
        return open(path, "wb")
    return gzip.GzipFile(path, "wb", 4, mtime=0)  # type: ignore[return-value]


def _append(file: IO[bytes], lines: pl.Series) -> None:
    if len(lines):
        lines.to_frame("line").write_csv(
            file, include_header=False, quote_style="never", line_terminator="\n"
        )


def _entries(kind: str, lines: pl.Series) -> pl.Series:
    """Return resources as entries of a transaction that puts each under its own id."""
    id_ = pl.col("line").str.extract(r'"id":"([^"]*)"')
    place = pl.concat_str([pl.lit(f"{kind}/"), id_])
    return lines.to_frame("line").select(
        pl.concat_str([
            pl.lit(f'{{"fullUrl":"{SERVER}/'), place, pl.lit('","resource":'), pl.col("line"),
            pl.lit(',"request":{"method":"PUT","url":"'), place, pl.lit('"}}'),
        ])
    ).to_series()  # fmt: skip


def _by_subject(found: list[Resources], n: int) -> pl.DataFrame:
    """Return the entries of each subject, joined: (subjects,)."""
    frames = [
        pl.DataFrame({"whose": made.whose, "entry": _entries(made.kind, made.lines)})
        for made in found
    ]
    if not frames:
        return pl.DataFrame({"whose": [], "entry": []})
    return (
        pl.concat(frames)
        .group_by("whose", maintain_order=True)
        .agg(pl.col("entry").str.join(","))
        .sort("whose")
    )


def _failed(out: Path, error: OSError) -> OutputError:
    return OutputError(
        f"writing '{out}' failed: {error.strerror}",
        "a folder that may be written to, with room",
        "nothing was left half-written; choose another place",
    )
