"""The record of a run: who made what from what, a line an event, each chained to the one before.

A line is canonical JSON (keys sorted, no spaces, UTF-8) holding its number, the digest of the
line before it and its own SHA-256, so that a changed, removed or moved line shows. Real data are
named only by a *keyed* digest (HMAC-SHA-256): a plain hash of a patient table could be tried
against guesses. The key stays with the owner.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import math
import os
import platform
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import manikin
from manikin.data.dataset import Schema
from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import InputError, OutputError
from manikin.privacy.cells import hidden

__all__ = [
    "CLOSING",
    "RECORD",
    "Entry",
    "Record",
    "canonical",
    "data_digest",
    "feed",
    "file_digest",
    "history_facts",
    "model_digest",
    "owner_key",
    "plain",
    "read_record",
    "run_facts",
    "schema_digest",
    "score_facts",
    "source_facts",
    "split_facts",
    "verify_chain",
]

START = "0" * 64  # what the first line gives as the digest before it
RECORD = "record.jsonl"
CLOSING = "closed"  # event of the last line, without which the record was cut short
SYNTHETIC = "data."  # how the name of a file of synthetic rows begins
_FIELDS = ("at", "content", "digest", "event", "line", "previous")
_DEPENDENCIES = ("numpy", "scipy", "polars", "scikit-learn", "lifelines", "safetensors", "torch")
_SHORTEST_KEY = 32  # characters of MANIKIN_KEY: 128 bits when written in hexadecimal


# ---------------------------------------------------------------------------- canonical values
def plain(value: Any) -> Any:
    """Return `value` as JSON values only; a number that is not finite becomes None."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def canonical(value: Any) -> bytes:
    """Return the one way to write `value` as JSON bytes, after RFC 8785 but for float spelling."""
    text = json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------------------- the chain
@dataclass(frozen=True)
class Entry:
    """One line of a record."""

    line: int  # counted from 1
    event: str
    at: str  # UTC, ISO 8601
    content: Mapping[str, Any]
    previous: str
    digest: str

    @staticmethod
    def make(line: int, event: str, at: str, content: Mapping[str, Any], previous: str) -> Entry:
        """Return the entry with its digest computed."""
        given = {"line": line, "event": event, "at": at, "content": content, "previous": previous}
        digest = hashlib.sha256(canonical(given)).hexdigest()
        return Entry(line, event, at, plain(content), previous, digest)

    @property
    def holds(self) -> bool:
        """Whether the digest is that of the content."""
        made = Entry.make(self.line, self.event, self.at, self.content, self.previous)
        return made.digest == self.digest  # nothing secret, and it may hold any character


def _now() -> datetime:
    return datetime.now(UTC)


class Record:
    """Appends events to `record.jsonl`, each on disk before the next one happens."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = _now) -> None:
        self.path, self._now = path, now
        entries = read_record(path) if path.exists() else ()
        self._line = len(entries)
        self._previous = entries[-1].digest if entries else START

    def add(self, event: str, content: Mapping[str, Any] | None = None) -> Entry:
        """Append one event and return it."""
        at = self._now().astimezone(UTC).isoformat(timespec="milliseconds")
        entry = Entry.make(self._line + 1, event, at, content or {}, self._previous)
        with self.path.open("ab") as file:
            file.write(canonical(entry) + b"\n")
        self._line, self._previous = entry.line, entry.digest
        return entry

    def close(self, outputs: Mapping[str, str], tables: Iterable[str] = ()) -> Entry:
        """Append the last event: the SHA-256 of every output file by name.

        It marks the files whose rows are synthetic: `data.*` by the name that a run gives them, and
        the `tables` of linked ones.
        """
        rows = set(tables)
        marked = sorted(
            name for name in outputs if Path(name).name.startswith(SYNTHETIC) or name in rows
        )
        content = {"outputs": dict(outputs), "lines": self._line + 1, "synthetic": marked}
        return self.add(CLOSING, content)


def read_record(path: Path) -> tuple[Entry, ...]:
    """Return the lines of a record as written; `verify_chain` says whether they hold.

    Raises InputError when a line is no entry.
    """
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        entry = _parse(line)
        if isinstance(entry, str):
            raise InputError(
                f"line {number} of '{path.name}' {entry}",
                "every line is a JSON object with " + ", ".join(_FIELDS),
                "use the record as it was released",
            )
        entries.append(entry)
    return tuple(entries)


def verify_chain(path: Path) -> tuple[str, ...]:
    """Return what is wrong with a record, line by line; empty when the chain holds."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        return (f"cannot be read: {os.strerror(error.errno or 0).lower()}",)
    problems = [] if lines[-1] == b"" else ["does not end in a line break"]
    previous, due, number, last = START, 1, 0, None
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, start=1):
        entry = _parse(line)
        if isinstance(entry, str):
            problems.append(f"line {number} {entry}")
            previous, due, last = "", due + 1, None
            continue
        if not _is_as_written(entry, line):
            problems.append(f"line {number} ({entry.event}) was altered")
        if entry.line != due:
            problems.append(_out_of_place(number, entry, due))
        elif previous and entry.previous != previous:
            problems.append(f"line {number} ({entry.event}) does not follow the line before it")
        previous, due, last = entry.digest, entry.line + 1, entry
    if last is None or last.event != CLOSING:
        problems.append(f"ends at line {number} without its closing entry: lines are missing")
    return tuple(problems)


def _out_of_place(number: int, entry: Entry, due: int) -> str:
    """Return what is wrong where an entry stands that is not the one due."""
    here = f"line {number} ({entry.event}) was line {entry.line}"
    if entry.line < due:
        return f"{here}: it was moved or repeated"
    gone = f"line {due}" if entry.line == due + 1 else f"lines {due} to {entry.line - 1}"
    return f"{gone} went missing: {here}"


def _is_as_written(entry: Entry, line: bytes) -> bool:
    try:
        return entry.holds and canonical(entry) == line
    except (RecursionError, ValueError):
        return False


def _parse(line: bytes) -> Entry | str:
    """Return the entry of a line, or what is wrong with it."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return "is not JSON"
    if not isinstance(found, dict) or tuple(sorted(found)) != _FIELDS:
        return "does not have the fields of a record entry"
    texts = ("at", "digest", "event", "previous")
    if not all(isinstance(found[key], str) for key in texts):
        return "has a field of the wrong type"
    if type(found["line"]) is not int or not isinstance(found["content"], dict):
        return "has a field of the wrong type"
    return Entry(**found)


# ---------------------------------------------------------------------------- keyed digests
class Digest(Protocol):
    """A hash that takes bytes."""

    def update(self, content: bytes, /) -> None: ...


class State(Protocol):
    """A fitted model as named arrays and JSON values."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def values(self) -> Mapping[str, Any]: ...


def owner_key(path: Path | None = None) -> bytes:
    """Return the key of the data's owner, which never leaves with a release.

    It is the environment variable MANIKIN_KEY, or the file `path` (by default
    `~/.config/manikin/key`), which is made on first use, readable by its owner only.
    """
    given = os.environ.get("MANIKIN_KEY")
    if given is not None and path is None:
        if len(given) < _SHORTEST_KEY:
            raise InputError(
                f"MANIKIN_KEY has {len(given)} characters",
                f"at least {_SHORTEST_KEY}, chosen at random",
                "make one with: python -c 'import secrets; print(secrets.token_hex(32))'",
            )
        return given.encode()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    place = path if path is not None else home / "manikin" / "key"
    try:
        if not place.exists():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        return place.read_text(encoding="ascii").strip().encode()
    except OSError as error:
        raise OutputError(
            f"the owner's key cannot be kept: {os.strerror(error.errno or 0).lower()}",
            "a file that you may write, ~/.config/manikin/key",
            "or give the key in the environment variable MANIKIN_KEY",
        ) from error


def data_digest(table: Table, key: bytes) -> str:
    """Return the keyed digest of every value of a table, column by column in schema order."""
    keyed = hmac.new(key, b"manikin table 1", hashlib.sha256)
    for column in table.schema.learned:
        values = table.columns[column.name]
        little = values.dtype.newbyteorder("<")
        keyed.update(canonical([column.name, column.kind, little.str, len(values)]))
        keyed.update(np.ascontiguousarray(values.astype(little)).tobytes())
        keyed.update(np.ascontiguousarray(table.state(column.name)).tobytes())
    keyed.update(np.ascontiguousarray(table.subjects.astype("<i8")).tobytes())
    return "hmac-sha256:" + keyed.hexdigest()


def file_digest(path: Path, key: bytes | None = None) -> str:
    """Return the SHA-256 of a file, keyed (and marked so) when there is a key."""
    with path.open("rb") as file:
        if key is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        keyed = hashlib.file_digest(file, lambda: hmac.new(key, digestmod=hashlib.sha256))
    return "hmac-sha256:" + keyed.hexdigest()


def model_digest(state: State, key: bytes) -> str:
    """Return the keyed digest of a fitted model: every array and value of its state.

    Keyed, because a model that can be fitted again from a guessed table proves the guess.
    """
    keyed = hmac.new(key, b"manikin model 1" + canonical(state.values), hashlib.sha256)
    for name in sorted(state.arrays):
        values = np.ascontiguousarray(state.arrays[name])
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        keyed.update(canonical([name, little.dtype.str, list(values.shape)]))
        keyed.update(little.tobytes())
    return "hmac-sha256:" + keyed.hexdigest()


def schema_digest(schema: Schema, key: bytes) -> str:
    """Return the digest of a schema: keyed when it was inferred, since it then saw the data."""
    written = canonical(schema.to_json())
    if schema.declared:
        return "sha256:" + hashlib.sha256(written).hexdigest()
    return "hmac-sha256:" + hmac.new(key, written, hashlib.sha256).hexdigest()


# ---------------------------------------------------------------------------- what events hold
def run_facts(who: str | None = None) -> dict[str, Any]:
    """Return the content of the event `started`: a run number, who if given, and versions."""
    return {
        "run": str(uuid.uuid4()),
        "who": who,
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of manikin, Python and what numbers depend on, where installed."""
    found = {"manikin": manikin.__version__, "python": platform.python_version()}
    for name in _DEPENDENCIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_facts(table: Table, key: bytes, whole: Table | None = None) -> dict[str, Any]:
    """Return the content of the event `source`: sizes and keyed digests, never a value.

    `whole` is the table with every value as it stood, where `table` has not.
    """
    return {
        "schema": schema_digest(table.schema, key),
        "declared": table.schema.declared,
        "data": data_digest(table if whole is None else whole, key),
        "rows": table.n_rows,
        "subjects": table.n_subjects,
        "columns": len(table.schema.columns),
        "key": key_name(key),
    }


def history_facts(events: Events, key: bytes) -> dict[str, Any]:
    """Return the content of the event `source` of histories, as `source_facts` does of a table."""
    whole = hmac.new(key, b"manikin histories 1", hashlib.sha256)
    whole.update(canonical(events.schema.to_json()))
    feed(whole, events)
    return {
        "schema": schema_digest(events.schema, key),
        "declared": events.schema.declared,
        "data": "hmac-sha256:" + whole.hexdigest(),
        "rows": events.n_events,
        "subjects": events.n_subjects,
        "columns": len(events.schema.static.columns) + len(events.schema),
        "key": key_name(key),
    }


def feed(digest: Digest, events: Events) -> None:
    """Feed every value of histories to a digest, however they are written in a file."""
    for name in ("whose", "time", "code", "value", "end", "visit"):
        values = getattr(events, name)
        digest.update(canonical([name, values.dtype.newbyteorder("<").str, values.size]))
        digest.update(np.ascontiguousarray(values).view(np.uint8).tobytes())
    digest.update(canonical([events.texts[place] if place >= 0 else None for place in events.text]))
    for column in events.schema.static.learned:
        digest.update(canonical([column.name, column.kind]))
        values = np.ascontiguousarray(events.static.columns[column.name])
        digest.update(values.view(np.uint8).tobytes())
        digest.update(np.ascontiguousarray(events.static.state(column.name)).tobytes())


def key_name(key: bytes) -> str:
    """Return a name by which an owner tells their keys apart."""
    return hmac.new(key, b"manikin key name", hashlib.sha256).hexdigest()[:16]


def split_facts(parts: Mapping[str, Table], key: bytes) -> dict[str, Any]:
    """Return the content of the event `split`: who is in which part, as keyed digests.

    Sizes of a part of fewer than eleven subjects are None, as in the report.
    """
    facts = {}
    for name, part in parts.items():
        members = np.unique(part.subjects).astype("<i8").tobytes()
        digest = hmac.new(key, b"manikin split " + name.encode() + members, hashlib.sha256)
        told = not hidden(part.n_subjects)
        facts[name] = {
            "rows": part.n_rows if told else None,
            "subjects": part.n_subjects if told else None,
            "members": "hmac-sha256:" + digest.hexdigest(),
        }
    return facts


def score_facts(scores: Sequence[Any]) -> dict[str, Any]:
    """Return the content of the event `judged`: numbers to four decimals, as in the report.

    More would tell of single rows.
    """
    return {"scores": [_rounded(plain(score)) for score in scores]}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
