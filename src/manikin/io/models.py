"""A fitted model on disk: one file `name.manikin` of JSON and tensors, and nothing that can run.

The file is an uncompressed zip of exactly two entries, so any zip tool opens it:
    model.json          canonical JSON: versions, synthesizer, recipe, schema, values, ledger,
                        and the SHA-256 of the tensors
    arrays.safetensors  the tensors
The reader trusts nothing of a zip's directory: from the two lengths it works out the one byte
layout that the writer would have made and refuses any other. So there is no compression to bomb,
no path to escape by, no second entry of the same name, nothing before, between or behind. The
digest is checked before the tensors are looked at. Classes are found by name in the catalogue.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from manikin import __version__
from manikin.budgeted import bare
from manikin.catalogue import build
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.links import CohortSchema
from manikin.data.schema import TableSchema
from manikin.errors import InputError, IntegrityError, ManikinError, OutputError
from manikin.grouped import KEY, PerGroup
from manikin.privacy import ledger
from manikin.synthesizer import Model, State, Synthesizer

__all__ = ["Loaded", "load", "save"]

FORMAT, VERSION = "manikin-model", 1
DOCUMENT, TENSORS = "model.json", "arrays.safetensors"
MAX_FILE = 2**31  # below the 4 GiB where zip changes its layout
MAX_DOCUMENT = 2**26
MAX_HEADER = 2**24
MAX_DEPTH = 64
MAX_DECIMALS, MAX_TEMPLATE = 40, 1000
MAX_ROWS = 20_000  # of one subject
_KEYS = {
    "format", "version", "manikin", "synthesizer", "recipe", "schema", "values", "ledger",
    "arrays_sha256", "extra",
}  # fmt: skip
_MODALITIES = (TableSchema.modality, CohortSchema.modality, EventSchema.modality)
_WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "I32": 4, "U32": 4, "F32": 4,
           "I64": 8, "U64": 8, "F64": 8}  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model from a file, and what it was made by."""

    model: Model[Any]
    synthesizer: str  # name in the catalogue
    recipe: Synthesizer[Any]
    schema: TableSchema | CohortSchema | EventSchema
    extra: Mapping[str, Any]  # what the writer of the file added: JSON values


def save(
    model: Model[Any],
    path: str | os.PathLike[str],
    *,
    synthesizer: str,
    recipe: Synthesizer[Any],
    extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model to one file that only its owner can read; all of it or nothing.

    Raises OutputError when the file exists already or cannot be written.
    """
    state = model.state()
    if _rows_of_a_subject(state.arrays) > MAX_ROWS:
        raise OutputError(
            f"a model of subjects with more than {MAX_ROWS:,} rows each",
            f"model files are for at most {MAX_ROWS:,} rows a subject",
            "summarise the rows of a subject, by day for instance",
        )
    tensors = save_tensors({k: np.array(v, order="C") for k, v in state.arrays.items()})
    document = {
        "format": FORMAT,
        "version": VERSION,
        "manikin": __version__,
        "synthesizer": synthesizer,
        "recipe": dataclasses.asdict(bare(recipe)),
        "schema": model.schema.to_json(),
        "values": state.values,
        "ledger": ledger.to_json(model.ledger),
        "arrays_sha256": hashlib.sha256(tensors).hexdigest(),
        "extra": dict(extra or {}),
    }
    content = _canonical(document)
    size = len(content) + len(tensors)
    if len(content) > MAX_DOCUMENT or size > MAX_FILE - 4096:
        raise OutputError(
            f"the model takes {size / 2**20:.0f} MiB",
            f"model files are below {MAX_FILE / 2**20:.0f} MiB, of which {MAX_DOCUMENT / 2**20:.0f}"
            " for all but arrays",
            "choose a smaller model in the recipe's settings",
        )
    _write(Path(path), _container(content, tensors), overwrite)


def load(path: str | os.PathLike[str]) -> Loaded:
    """Read a model file.

    Raises InputError when there is no such file, IntegrityError when it is not exactly what
    `save` writes, NotSupported when its synthesizer is not installed.
    """
    content, tensors = _parts(_read(Path(path)))
    document = _document(content)
    if hashlib.sha256(tensors).hexdigest() != document["arrays_sha256"]:
        raise _damaged("the arrays are not those that the model was saved with")
    arrays = _arrays(tensors)
    if _rows_of_a_subject(arrays) > MAX_ROWS:
        raise _damaged("its subjects have impossibly many rows")
    try:
        recipe = build(document["synthesizer"], document["recipe"])
    except (InputError, ArithmeticError, TypeError, ValueError) as error:
        raise _damaged("its recipe has settings that this synthesizer does not have") from error
    if KEY in document["values"]:  # a model for each group
        recipe = PerGroup.of(recipe, document["values"][KEY])
    try:
        schema = _schema(document["schema"])
        with np.errstate(all="ignore"):
            model = recipe.restore(schema, State(arrays, document["values"]))
            # parts that do not fit together show when they are used
            drawn = model.sample(1, seed=0)
            (drawn.static if isinstance(drawn, Events) else drawn).to_polars()
        honest = ledger.to_json(model.ledger) == document["ledger"]
    except (ManikinError, ArithmeticError, AttributeError, LookupError, MemoryError,
            PolarsError, RecursionError, TypeError, ValueError) as error:  # fmt: skip
        raise _damaged("its parts do not make a model") from error
    if not honest:
        raise _damaged("its ledger is not that of the model")
    return Loaded(model, document["synthesizer"], recipe, schema, document["extra"])


def _rows_of_a_subject(arrays: Mapping[str, NDArray[Any]]) -> float:
    """Return how many rows a subject may get: a model that is drawn from loops over them."""
    sizes = [array for name, array in arrays.items() if name.endswith("sizes") and array.size]
    with np.errstate(all="ignore"):
        return max((float(np.nan_to_num(array.max())) for array in sizes), default=0.0)


def _schema(document: Mapping[str, Any]) -> TableSchema | CohortSchema | EventSchema:
    """Read the schema of a table, of linked tables or of histories."""
    if document.get("modality") == EventSchema.modality:
        histories = EventSchema.from_json(document)
        _sane(histories.static)
        if not all(0 <= code.decimals <= MAX_DECIMALS for code in histories.codes):
            raise ValueError("decimals")
        return histories
    if document.get("modality") == TableSchema.modality:
        schema = TableSchema.from_json(document)
        _sane(schema)
        return schema
    linked = CohortSchema.from_json(document)
    for part in linked.parts.values():
        _sane(part)
    return linked


def _sane(schema: TableSchema) -> None:
    """Refuse what no table has and what would break the engine that writes cells."""
    for column in schema:
        places = (column.decimals, column.min_decimals)
        if not all(type(n) is int and 0 <= n <= MAX_DECIMALS for n in places):
            raise ValueError("decimals")
        if not column.missing or len(column.template or "") > MAX_TEMPLATE:
            raise ValueError("marks or template")


# ------------------------------------------------------------------ container


def _container(content: bytes, tensors: bytes) -> list[bytes]:
    """Return the pieces of a zip (PKWARE APPNOTE 4.3) that stores two entries uncompressed."""
    pieces: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, data in ((DOCUMENT, content), (TENSORS, tensors)):
        local, central = _headers(name, data, offset)
        pieces += [local, data]
        directory.append(central)
        offset += len(local) + len(data)
    index = b"".join(directory)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(index), offset, 0)
    return [*pieces, index, end]


def _headers(name: str, data: bytes, offset: int) -> tuple[bytes, bytes]:
    """Return local and central header; the time is 1980-01-01 so that equal models are equal."""
    shared = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data),
                         len(name), 0)  # fmt: skip
    owner_only = (stat.S_IFREG | 0o600) << 16
    central = struct.pack("<4sH", b"PK\x01\x02", 0x0314) + shared
    central += struct.pack("<3H2L", 0, 0, 0, owner_only, offset) + name.encode()
    return b"PK\x03\x04" + shared + name.encode(), central


def _parts(file: bytes) -> tuple[bytes, bytes]:
    """Return both entries of a file that is byte for byte as the writer lays it out."""
    start, between = 30 + len(DOCUMENT), 30 + len(TENSORS)
    if len(file) < start or file[:4] != b"PK\x03\x04":
        raise _damaged("it is no model file")
    length = struct.unpack_from("<L", file, 18)[0]
    second = start + length
    if length > MAX_DOCUMENT or len(file) < second + between:
        raise _damaged("it is cut short")
    rest = struct.unpack_from("<L", file, second + 18)[0]
    content = file[start:second]
    tensors = file[second + between : second + between + rest]
    at = 0
    for piece in _container(content, tensors):
        if file[at : at + len(piece)] != piece:
            raise _damaged("it is laid out otherwise than a model file")
        at += len(piece)
    if at != len(file):
        raise _damaged("something stands behind its end")
    return content, tensors


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"'{path.name}' is no file", "a .manikin file", "check the path")
        if found.st_size > MAX_FILE:
            raise _damaged("it is larger than any model file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"'{path.name}' cannot be read ({error.strerror})",
            "a .manikin file that you may read",
            "check the path and its permissions",
        ) from error


def _write(path: Path, pieces: list[bytes], overwrite: bool) -> None:
    """Write aside, with mode 0600 from the start, then rename."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"'{path.name}' exists already", "a new path", "choose another, or allow overwriting"
        )
    aside = ""
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"'{path.name}' cannot be written ({error.strerror})",
            "a folder that exists, with room, in which you may write",
            "choose another path",
        ) from error
    finally:
        if aside and os.path.exists(aside):
            os.unlink(aside)


# ------------------------------------------------------------------ document and tensors


def _canonical(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(
        document,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        ensure_ascii=True,
        default=_plain,
    )
    return text.encode("ascii")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _strict(content: bytes, what: str) -> Any:
    """Read JSON without repeated keys, NaN or deep nesting."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _damaged(f"{what} says something twice")
        return found

    def finite(text: str) -> Any:
        raise _damaged(f"{what} holds a number that is not finite")

    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{what} is no JSON") from error
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    if level:
        raise _damaged(f"{what} is nested too deep")
    return found


def _document(content: bytes) -> dict[str, Any]:
    document = _strict(content, DOCUMENT)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _damaged("it is no model file")
    if document.get("version") != VERSION:
        raise IntegrityError(
            "the model file has another version of the format",
            f"this Manikin reads version {VERSION}",
            "use the Manikin that wrote it, or fit the model again",
        )
    kinds = {"recipe": dict, "values": dict, "schema": dict, "extra": dict, "ledger": list}
    texts = dict.fromkeys(("manikin", "synthesizer", "arrays_sha256"), str)
    if set(document) != _KEYS or not all(
        isinstance(document[key], kind) for key, kind in (kinds | texts).items()
    ):
        raise _damaged("it does not say what a model file says")
    if document["schema"].get("modality") not in _MODALITIES:
        raise _damaged("its schema is of no known modality")
    if not _is_canonical(document, content):
        raise _damaged("its text is not in canonical form")
    return document


def _is_canonical(document: Mapping[str, Any], content: bytes) -> bool:
    try:
        return _canonical(document) == content
    except ValueError:  # 1e999 is read as infinity, which JSON cannot write
        return False


def _arrays(tensors: bytes) -> dict[str, NDArray[Any]]:
    """Read tensors after checking names, types, shapes and offsets by ourselves."""
    if len(tensors) < 8:
        raise _damaged("the arrays are cut short")
    (length,) = struct.unpack_from("<Q", tensors)
    if length > min(MAX_HEADER, len(tensors) - 8):
        raise _damaged("the arrays' header is too long")
    header = _strict(tensors[8 : 8 + length], "the arrays' header")
    if not isinstance(header, dict):
        raise _damaged("the arrays' header is no mapping")
    spans = sorted(_span(entry) for entry in header.values())
    at = 0
    for start, end in spans:
        if start != at:
            raise _damaged("the arrays overlap or leave gaps")
        at = end
    if at != len(tensors) - 8 - length:
        raise _damaged("the arrays do not fill their part of the file")
    try:
        loaded: dict[str, NDArray[Any]] = load_tensors(tensors)
    except Exception as error:  # the library's own error class is not public in every version
        raise _damaged("the arrays cannot be read") from error
    return loaded


def _span(entry: object) -> tuple[int, int]:
    """Return where an array begins and ends, if its type and shape say the same."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged("an array is not described as it must be")
    width, shape, offsets = _WIDTHS.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if width is None or not (isinstance(shape, list) and isinstance(offsets, list)):
        raise _damaged("an array has an unknown type")
    numbers = [*shape, *offsets]
    if len(offsets) != 2 or len(shape) > 8 or not all(type(n) is int for n in numbers):
        raise _damaged("an array has an impossible shape")
    size = width
    for n in shape:
        size *= n
    if min(numbers) < 0 or max(numbers) > MAX_FILE or offsets[1] - offsets[0] != size:
        raise _damaged("an array has an impossible shape")
    return offsets[0], offsets[1]


def _damaged(given: str) -> IntegrityError:
    return IntegrityError(
        f"the model file cannot be trusted: {given}",
        "a file exactly as Manikin wrote it",
        "get the file again from where it was made, or fit the model again",
    )
