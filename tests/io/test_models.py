import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, IntegrityError, NotSupported, OutputError
from manikin.io import models
from manikin.io.models import load, save
from manikin.synthesizers.table.marginals import Marginals

EXECUTED: list[str] = []


class Bomb:
    """What runs when something unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return EXECUTED.append, ("unpickled",)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    schema = TableSchema(
        (Column("a", "integer"), Column("größe", "categorical", categories=("x", "y")))
    )
    columns = {
        "a": rng.integers(0, 9, 60).astype(float),
        "größe": rng.integers(0, 2, 60).astype(np.int32),
    }
    model = Marginals().fit(Table(schema, np.arange(60), columns), seed=1)
    path = tmp_path_factory.mktemp("models") / "m.manikin"
    save(model, path, synthesizer="table/marginals", recipe=Marginals(), extra={"layout": ["csv"]})
    return path


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read(models.DOCUMENT)), file.read(models.TENSORS)


def packed(document: Any, tensors: bytes, *, digest: bool = True) -> bytes:
    """Lay a file out as the writer does, with the digest made to match."""
    if digest and isinstance(document, dict):
        document = {**document, "arrays_sha256": hashlib.sha256(tensors).hexdigest()}
    content = document if isinstance(document, bytes) else models._canonical(document)
    return b"".join(models._container(content, tensors))


def tensors_of(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def test_any_zip_tool_opens_it(original: Path) -> None:
    with zipfile.ZipFile(original) as file:
        assert file.testzip() is None
        assert file.namelist() == ["model.json", "arrays.safetensors"]
        assert json.loads(file.read("model.json"))["synthesizer"] == "table/marginals"


def test_round_trip_is_exact(original: Path, tmp_path: Path) -> None:
    loaded = load(original)
    assert loaded.recipe == Marginals() and loaded.extra == {"layout": ["csv"]}
    again = tmp_path / "again.manikin"
    save(
        loaded.model,
        again,
        synthesizer=loaded.synthesizer,
        recipe=loaded.recipe,
        extra=loaded.extra,
    )
    assert again.read_bytes() == original.read_bytes()
    one, two = loaded.model.sample(30, seed=2), load(again).model.sample(30, seed=2)
    assert all(np.array_equal(one.columns[n], two.columns[n]) for n in one.columns)


def test_only_the_owner_may_read_it(original: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        loaded, path = load(original), tmp_path / "m.manikin"
        save(loaded.model, path, synthesizer=loaded.synthesizer, recipe=loaded.recipe)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten_or_left_behind(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, path = load(original), tmp_path / "m.manikin"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        save(loaded.model, path, synthesizer=loaded.synthesizer, recipe=loaded.recipe)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space"):
        save(
            loaded.model,
            path,
            synthesizer=loaded.synthesizer,
            recipe=loaded.recipe,
            overwrite=True,
        )
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["m.manikin"]
    monkeypatch.undo()
    save(loaded.model, path, synthesizer=loaded.synthesizer, recipe=loaded.recipe, overwrite=True)
    assert load(path).recipe == Marginals()


def test_no_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load(tmp_path / "none.manikin")
    with pytest.raises(InputError):
        load(tmp_path)


Attack = Callable[[dict[str, Any], bytes, bytes], bytes]


def _with(key: str, value: Any) -> Attack:
    return lambda d, t, f: packed({**d, key: value}, t)


def _edited(edit: Callable[[dict[str, Any]], None], data: bytes | None = None) -> Attack:
    """Change the header of the tensors, with every digest made to match."""

    def attack(document: dict[str, Any], tensors: bytes, file: bytes) -> bytes:
        (length,) = struct.unpack_from("<Q", tensors)
        header = json.loads(tensors[8 : 8 + length])
        edit(header)
        body = tensors[8 + length :] if data is None else data
        return packed(document, tensors_of(header, body))

    return attack


def _first(header: dict[str, Any], **fields: Any) -> None:
    header[min(header)].update(fields)


def _reshaped(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
    arrays = {"rows/sizes": np.array([1]), "rows/subjects": np.array([[60]])}
    return packed(d, save_tensors(arrays))


def _repeated_key(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
    text = models._canonical(d).replace(b'{"arrays', b'{"version":1,"arrays', 1)
    return packed(text, t)


def _nested(depth: int) -> Attack:
    def attack(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
        text = models._canonical({**d, "extra": {"x": "HERE"}})
        return packed(text.replace(b'"HERE"', b"[" * depth + b"]" * depth), t)

    return attack


def _nan(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
    return packed(models._canonical({**d, "extra": {"x": "HERE"}}).replace(b'"HERE"', b"NaN"), t)


def _crc(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
    spoiled = bytearray(f)
    spoiled[14] ^= 1
    return bytes(spoiled)


def _flipped(d: dict[str, Any], t: bytes, f: bytes) -> bytes:
    spoiled = t[:-1] + bytes([t[-1] ^ 1])
    return packed(d, spoiled, digest=False)


ATTACKS: dict[str, Attack] = {
    "empty": lambda d, t, f: b"",
    "truncated in the document": lambda d, t, f: f[:100],
    "truncated in the arrays": lambda d, t, f: f[:-400],
    "truncated by a byte": lambda d, t, f: f[:-1],
    "a byte too many": lambda d, t, f: f + b"\0",
    "something before": lambda d, t, f: b"#!/bin/sh\n" + f,
    "zip comment": lambda d, t, f: f[:-2] + b"\x04\x00evil",
    "wrong checksum": _crc,
    "arrays altered, digest not": _flipped,
    "digest of something else": lambda d, t, f: packed(
        {**d, "arrays_sha256": "0" * 64}, t, digest=False
    ),
    "pickle": lambda d, t, f: pickle.dumps(Bomb()),
    "compressed pickle": lambda d, t, f: gzip.compress(pickle.dumps(Bomb())),
    "pickle as arrays": lambda d, t, f: packed(d, pickle.dumps(Bomb())),
    "pickle as document": lambda d, t, f: packed(pickle.dumps(Bomb()), t),
    "torch file": lambda d, t, f: zipped([("archive/data.pkl", pickle.dumps(Bomb()))]),
    "numpy file": lambda d, t, f: zipped([("a.npy", b"\x93NUMPY" + pickle.dumps(Bomb()))]),
    "yaml tag": lambda d, t, f: packed(b"!!python/object/apply:os.system [true]", t),
    "zip bomb": lambda d, t, f: zipped(
        [(models.DOCUMENT, b" " * 10**7), (models.TENSORS, b"\0" * 10**7)], zipfile.ZIP_DEFLATED
    ),
    "compressed": lambda d, t, f: zipped(
        [(models.DOCUMENT, models._canonical(d)), (models.TENSORS, t)], zipfile.ZIP_DEFLATED
    ),
    "third entry": lambda d, t, f: zipped(
        [(models.DOCUMENT, models._canonical(d)), (models.TENSORS, t), ("evil.py", b"1")]
    ),
    "path that escapes": lambda d, t, f: f.replace(b"arrays.safetensors", b"../../../../evil.s"),
    "absolute path": lambda d, t, f: f.replace(b"arrays.safetensors", b"/tmp/evil.safetens"),
    "same name twice": lambda d, t, f: f.replace(b"arrays.safetensors", b"model.json        "),
    "look-alike name": lambda d, t, f: f.replace(b"model.json", "mοdel.jsn".encode()),
    "symbolic link": lambda d, t, f: f.replace(
        struct.pack("<L", (stat.S_IFREG | 0o600) << 16),
        struct.pack("<L", (stat.S_IFLNK | 0o777) << 16),
    ),
    "entries swapped": lambda d, t, f: zipped(
        [(models.TENSORS, t), (models.DOCUMENT, models._canonical(d))]
    ),
    "document is a list": lambda d, t, f: packed(b"[]", t),
    "document is no text": lambda d, t, f: packed(b"\xff\xfe{}", t),
    "document not canonical": lambda d, t, f: packed(json.dumps(d, indent=1).encode(), t),
    "repeated key": _repeated_key,
    "nested deep": _nested(200),
    "nested very deep": _nested(200_000),
    "not a number": _nan,
    "huge integer": lambda d, t, f: packed(
        models._canonical({**d, "extra": {"x": "HERE"}}).replace(b'"HERE"', b"9" * 9000), t
    ),
    "another format": _with("format", "other"),
    "version of tomorrow": _with("version", 2),
    "unknown key": _with("evil", 1),
    "no schema": _with("schema", {}),
    "schema of nonsense": _with("schema", {"modality": "table", "columns": [{"name": 3}]}),
    "schema of another table": _with(
        "schema", {"modality": "table", "columns": [{"name": "z", "kind": "integer"}]}
    ),
    "no values": _with("values", {}),
    "values of wrong types": lambda d, t, f: packed(
        {**d, "values": {**d["values"], "encoding": [1]}}, t
    ),
    "unknown setting": _with("recipe", {"k": 5, "hook": "os.system"}),
    "setting of a wrong type": _with("recipe", {"k": "import os"}),
    "ledger that promises more": _with("ledger", [{"release": "Gaussian", "epsilon": 0.1}]),
    "arrays empty": lambda d, t, f: packed(d, b""),
    "arrays of eight bytes": lambda d, t, f: packed(d, b"\0" * 8),
    "header longer than the file": lambda d, t, f: packed(d, struct.pack("<Q", 2**60) + t[8:]),
    "header of ones": lambda d, t, f: packed(d, b"\xff" * 8 + t[8:]),
    "header is a list": lambda d, t, f: packed(d, tensors_of([], b"")),
    "header repeats a key": lambda d, t, f: packed(
        d, tensors_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}', b"")
    ),
    "arrays overlap": _edited(lambda h: _first(h, data_offsets=[8, 8 + 8], shape=[1])),
    "arrays leave a gap": _edited(lambda h: h.pop(min(h))),
    "negative shape": _edited(lambda h: _first(h, shape=[-1, -2])),
    "shape that overflows": _edited(lambda h: _first(h, shape=[2**40, 2**40])),
    "shape of true": _edited(lambda h: _first(h, shape=[True])),
    "offset of a float": _edited(lambda h: _first(h, data_offsets=[0.0, 8.0])),
    "unknown dtype": _edited(lambda h: _first(h, dtype="OBJECT")),
    "more data than arrays": _edited(lambda h: None, data=b"\0" * 10**5),
    "no data": _edited(lambda h: None, data=b""),
    "arrays under other names": _edited(lambda h: h.update(evil=h.pop(min(h)))),
    "arrays of other shapes": _reshaped,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_malformed_files_are_refused(attack: str, original: Path, tmp_path: Path) -> None:
    document, tensors = parts(original)
    path = tmp_path / "evil.manikin"
    path.write_bytes(ATTACKS[attack](document, tensors, original.read_bytes()))
    assert path.read_bytes() != original.read_bytes()
    with pytest.raises(IntegrityError) as caught:
        load(path)
    assert caught.value.todo and EXECUTED == []
    assert [p.name for p in tmp_path.iterdir()] == ["evil.manikin"]


def test_digest_is_checked_before_tensors_are_parsed(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, tensors = parts(original)
    path = tmp_path / "evil.manikin"
    path.write_bytes(_flipped(document, tensors, b""))

    def parsed(_: bytes) -> None:
        raise AssertionError("tensors were parsed")

    monkeypatch.setattr(models, "_arrays", parsed)
    with pytest.raises(IntegrityError, match="not those"):
        load(path)


def test_unknown_synthesizers_are_not_looked_for_elsewhere(original: Path, tmp_path: Path) -> None:
    document, tensors = parts(original)
    for name in ("table/none", "../../evil", "os/system", "table/encoding", "/etc/passwd"):
        path = tmp_path / "evil.manikin"
        path.write_bytes(packed({**document, "synthesizer": name}, tensors))
        with pytest.raises(NotSupported):
            load(path)


def test_random_damage_is_always_noticed(original: Path, tmp_path: Path) -> None:
    file, rng, path = original.read_bytes(), np.random.default_rng(0), tmp_path / "m.manikin"
    for _ in range(400):
        spoiled = bytearray(file)
        for at in rng.integers(0, len(file), rng.integers(1, 4)):
            spoiled[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(spoiled))
        with pytest.raises(IntegrityError):
            load(path)


def test_random_damage_with_matching_digests_runs_nothing(original: Path, tmp_path: Path) -> None:
    """Whoever can forge the digest may change numbers, but only ever gets numbers."""
    document, tensors = parts(original)
    rng, path = np.random.default_rng(1), tmp_path / "m.manikin"
    before = set(sys.modules)
    for _ in range(200):
        spoiled = bytearray(tensors)
        for at in rng.integers(0, len(spoiled), rng.integers(1, 4)):
            spoiled[at] ^= int(rng.integers(1, 256))
        path.write_bytes(packed(document, bytes(spoiled)))
        try:
            load(path)
        except IntegrityError:
            pass
    assert EXECUTED == [] and "pickle" not in set(sys.modules) - before


def test_models_too_large_are_refused(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(original)
    monkeypatch.setattr(models, "MAX_DOCUMENT", 100)
    with pytest.raises(OutputError, match="MiB"):
        save(
            loaded.model,
            tmp_path / "m.manikin",
            synthesizer=loaded.synthesizer,
            recipe=loaded.recipe,
        )
    monkeypatch.setattr(models, "MAX_FILE", 100)
    with pytest.raises(IntegrityError, match="larger"):
        load(original)


def test_writer_fields_are_standard(original: Path) -> None:
    with zipfile.ZipFile(original) as file:
        for entry in file.infolist():
            data = file.read(entry)
            assert entry.CRC == zlib.crc32(data) and entry.file_size == len(data)
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.external_attr >> 16 == stat.S_IFREG | 0o600
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert dataclasses.is_dataclass(load(original))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda columns: columns[0].update(decimals=10**9),
        lambda columns: columns[0].update(decimals="2"),
        lambda columns: columns[0].update(missing=[]),
        lambda columns: columns[1].update(categories=[]),
        lambda columns: columns.append(
            {"name": "i", "kind": "identifier", "template": "9" * 10**5}
        ),
        lambda columns: columns.append({"name": "i", "kind": "identifier", "template": 7}),
    ],
)
def test_schemas_that_no_cell_can_be_written_by_are_refused(
    spoil: Any, original: Path, tmp_path: Path
) -> None:
    document, tensors = parts(original)
    spoil(document["schema"]["columns"])
    (tmp_path / "m.manikin").write_bytes(packed(document, tensors))
    with pytest.raises(IntegrityError):
        load(tmp_path / "m.manikin")
