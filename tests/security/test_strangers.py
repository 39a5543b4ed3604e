"""Fifty files from strangers (and more): nothing runs, nothing is written, an error with a type.

Every payload would write the file SENTINEL if anything of it were run. The time and memory of
each are bounded, in processes of their own where a failure would take this one down.
"""

from __future__ import annotations

import ast
import builtins
import gzip
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import IntegrityError, ManikinError
from manikin.io import models, schema_file, tables
from manikin.release.seal import MANIFEST, seal, verify
from manikin.synthesizers.table.marginals import Marginals

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "manikin"
UNSAFE = ("pickle", "_pickle", "cPickle", "joblib", "cloudpickle", "dill", "shelve", "marshal")


class Bomb:
    """What runs when something unpickles it."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


Built = tuple[str, bytes]


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def numpy_file(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def tensors_of(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def programs(sentinel: Path) -> Iterator[Built]:
    """Yield files that run code in readers which unpickle, or build objects from tags."""
    bomb = pickle.dumps(Bomb(sentinel))
    npz = zipped(("a.npy", numpy_file(Bomb(sentinel))))
    torch = zipped(("archive/data.pkl", bomb), ("archive/version", b"3\n"), ("archive/data/0", b""))
    for suffix in (".manikin", ".pt", ".pkl", ".joblib"):
        yield f"pickle{suffix}", bomb
    yield "protocol0.manikin", pickle.dumps(Bomb(sentinel), protocol=0)
    yield "pickle.pkl.gz", gzip.compress(bomb)
    yield "gz.manikin", gzip.compress(bomb)
    yield "torch.manikin", torch
    yield "torch.pt", torch
    yield "npz.manikin", npz
    yield "npz.npz", npz
    yield "npy.manikin", numpy_file(Bomb(sentinel))
    yield "nested.manikin", zipped((models.DOCUMENT, torch), (models.TENSORS, npz))
    yield "nested5.manikin", zipped(("a.zip", zipped(("b.zip", zipped(("c.zip", torch))))))
    yield "script.manikin", f"#!/bin/sh\ntouch {sentinel}\n".encode()
    yield "python.manikin", f"__import__('os').system('touch {sentinel}')".encode()
    yield "module.manikin", zipped(("__main__.py", f"open({str(sentinel)!r}, 'w')".encode()))
    yield "polyglot.manikin", bomb + zipped((models.DOCUMENT, b"{}"), (models.TENSORS, b""))


def containers(document: bytes, tensors: bytes, whole: bytes) -> Iterator[Built]:
    """Yield model files whose container lies."""
    d, t = (models.DOCUMENT, document), (models.TENSORS, tensors)
    for i, name in enumerate(
        ("../../evil", "/tmp/evil", "C:\\evil", "\\\\host\\share\\evil", "/dev/zero", "CON",
         "..\\..\\evil", "mοdel.json", "model.json\u200b", "ＭODEL.JSON", "model.json\0.py")
    ):  # fmt: skip
        yield f"named{i}.manikin", zipped((name, document), t)
        yield f"third{i}.manikin", zipped(d, t, (name, b"x"))
    yield "duplicate.manikin", zipped(d, d, t)
    yield "bomb.manikin", zipped((models.DOCUMENT, b" " * 2**26), t, method=zipfile.ZIP_DEFLATED)
    link = (stat.S_IFLNK | 0o777) << 16
    plain = struct.pack("<L", (stat.S_IFREG | 0o600) << 16)
    yield "link.manikin", whole.replace(plain, struct.pack("<L", link))
    for i, (at, value) in enumerate(
        ((18, 2**32 - 1), (18, 0), (22, 2**32 - 1), (26, 65535), (8, 8))
    ):
        lying = bytearray(whole)
        struct.pack_into("<H" if at in (8, 26) else "<L", lying, at, value)
        yield f"lying{i}.manikin", bytes(lying)


def tensor_files(document: dict[str, Any], tensors: bytes) -> Iterator[Built]:
    """Yield model files whose tensors are described by a header that lies; digests match."""
    import hashlib

    one = b'"dtype":"U8","shape":[%s],"data_offsets":[%s]'
    headers = {
        "huge": struct.pack("<Q", 2**40) + b"{}",
        "overlap": tensors_of(
            b'{"a":{%s},"b":{%s}}' % (one % (b"4", b"0,4"), one % (b"4", b"2,6")), b"123456"),
        "negative": tensors_of(b"{%s}" % (b'"a":{%s}' % (one % (b"-4", b"4,0"))), b"1234"),
        "nan": tensors_of(b'{"a":{%s}}' % (one % (b"NaN", b"0,4")), b"1234"),
        "infinite": tensors_of(b'{"a":{%s}}' % (one % (b"1e999", b"0,4")), b"1234"),
        "enormous": tensors_of(b'{"a":{%s}}' % (one % (b"9" * 30, b"0,4")), b"1234"),
        "wraps": tensors_of(b'{"a":{%s}}' % (one % (b"4294967296,4294967296", b"0,0"))),
        "twice": tensors_of(b'{"a":{%s},"a":{%s}}' % ((one % (b"0", b"0,0"),) * 2)),
        "deep": tensors_of(b"[" * 10**6 + b"]" * 10**6),
        "text": tensors_of(b'{"a":{%s}}' % (one % (b'"4"', b"0,4")), b"1234"),
        "wide": tensors_of(b'{"a":{%s}}' % (one % (b"1," * 99 + b"1", b"0,1")), b"1"),
        "object": tensors_of(b'{"a":{"dtype":"O","shape":[1],"data_offsets":[0,8]}}', b"12345678"),
        "metadata": tensors_of(b'{"__metadata__":{"x":"y"}}'),
        "names": save_tensors({"../../evil": np.zeros(1)}),
    }  # fmt: skip
    for name, made in headers.items():
        text = models._canonical({**document, "arrays_sha256": hashlib.sha256(made).hexdigest()})
        yield f"tensors_{name}.manikin", b"".join(models._container(text, made))


def documents(document: dict[str, Any], tensors: bytes) -> Iterator[Built]:
    """Yield model files whose JSON is meant to break a parser or to name a class."""
    canonical = models._canonical({**document, "extra": {"x": "HERE"}})
    for i, value in enumerate(
        (b"[" * 10**6 + b"]" * 10**6, b'{"a":' * 10**6 + b"1" + b"}" * 10**6, b"1e999", b"-1e999",
         b"NaN", b"Infinity", b"9" * 5000, b'"\\ud800\\u0000"x', b"\xff\xfe",
         b"1" + b"0" * 400 + b".5")
    ):  # fmt: skip
        text = canonical.replace(b'"HERE"', value)
        yield f"json{i}.manikin", b"".join(models._container(text, tensors))
    for i, name in enumerate(
        ("os/system", "builtins/eval", "../../errors", "table/../../os", "table/_cells",
         "/etc/passwd", "table/marginals\0", "__main__", "", "table/marginals.py",
         "tаble/marginals")
    ):  # fmt: skip
        text = models._canonical({**document, "synthesizer": name})
        yield f"class{i}.manikin", b"".join(models._container(text, tensors))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    rng = np.random.default_rng(0)
    schema = TableSchema(
        (Column("a", "integer"), Column("b", "categorical", categories=("x", "y")))
    )
    columns = {
        "a": rng.integers(0, 9, 60).astype(float),
        "b": rng.integers(0, 2, 60).astype(np.int32),
    }
    model = Marginals().fit(Table(schema, np.arange(60), columns), seed=1)
    path = tmp_path_factory.mktemp("models") / "m.manikin"
    models.save(model, path, synthesizer="table/marginals", recipe=Marginals())
    return path.read_bytes()


@pytest.fixture
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid that anything which could run code is so much as imported or called."""
    for name in ("load", "loads", "Unpickler"):

        def refused(*_: object, **__: object) -> None:
            raise AssertionError("something was unpickled")

        monkeypatch.setattr(pickle, name, refused)
    real = builtins.__import__

    def guarded(name: str, *arguments: Any, **more: Any) -> Any:
        frame = sys._getframe(1)
        ours = str(frame.f_globals.get("__name__", "")).startswith("manikin")
        assert not (ours and name.partition(".")[0] in UNSAFE), f"{name} was imported"
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", guarded)
    for name in ("eval", "exec"):
        called = getattr(builtins, name)

        def watched(source: Any, *arguments: Any, called: Any = called) -> Any:
            caller = str(sys._getframe(1).f_globals.get("__name__", ""))
            assert not caller.startswith("manikin"), "manikin evaluates"
            return called(source, *arguments)

        monkeypatch.setattr(builtins, name, watched)


def test_no_file_of_a_stranger_runs_or_writes(
    whole: bytes, tmp_path: Path, no_unpickling: None
) -> None:
    sentinel, folder = tmp_path / "SENTINEL", tmp_path / "in"
    folder.mkdir()
    content, tensors = models._parts(whole)
    document = json.loads(content)
    files = [
        *programs(sentinel), *containers(content, tensors, whole),
        *tensor_files(document, tensors), *documents(document, tensors),
    ]  # fmt: skip
    assert len({data for _, data in files}) >= 50
    wrong = []
    for name, data in files:
        path = folder / name
        path.write_bytes(data)
        try:
            models.load(path)
            wrong.append(f"{name} was opened")
        except ManikinError as error:
            if not (error.given and error.todo):
                wrong.append(f"{name}: an error without a cure")
        except BaseException as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
        path.unlink()
    assert wrong == []
    assert [entry.name for entry in tmp_path.rglob("*")] == ["in"]
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("place", ["device", "pipe", "loop", "folder", "dangling"])
def test_what_is_no_plain_file_is_not_read(place: str, tmp_path: Path) -> None:
    path = tmp_path / "m.manikin"
    if place == "device":
        path.symlink_to("/dev/zero")
    elif place == "pipe":
        os.mkfifo(path)
    elif place == "loop":
        path.symlink_to(path)
    elif place == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ManikinError):
        models.load(path)
    with pytest.raises(ManikinError):
        schema_file.read_schema(path)
    for suffix in (".csv", ".parquet", ".xlsx"):
        other = tmp_path / f"t{suffix}"
        path.rename(other)
        with pytest.raises(ManikinError):
            tables.open_table(other)
        other.rename(path)


YAML_TAGS = (
    "!!python/object/apply:os.system ['touch {0}']",
    "!!python/object/new:os.system ['touch {0}']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:pathlib.Path {{}}",
    "!!python/tuple [1, 2]",
    "&a [*a]",
    "{{<<: *nobody}}",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {0}']",
    "!!binary |\n  aGVsbG8=",
    "!!timestamp 2001-01-01",
    "!!set {{a, b}}",
)


@pytest.mark.parametrize("tag", YAML_TAGS)
def test_yaml_tags_build_nothing(tag: str, tmp_path: Path, no_unpickling: None) -> None:
    sentinel = tmp_path / "SENTINEL"
    for text in (
        "columns: " + tag.format(sentinel),
        "columns:\n - name: " + tag.format(sentinel) + "\n   kind: integer",
        "columns:\n - {name: a, kind: integer}\nrules:\n - range: " + tag.format(sentinel),
        tag.format(sentinel),
    ):
        try:
            schema = schema_file.from_yaml(text)
        except ManikinError:
            continue
        assert all(type(column.name) is str for column in schema)
    assert not sentinel.exists()


# ---------------------------------------------------------------------------- releases
def a_release(folder: Path) -> Path:
    from manikin.release.record import Record, file_digest

    folder.mkdir()
    (folder / "data.csv").write_text("a\n1\n")
    record = Record(folder / "record.jsonl")
    record.add("started", {})
    record.close({"data.csv": file_digest(folder / "data.csv")})
    seal(folder)
    return folder


def tamperings() -> dict[str, Callable[[Path], object]]:
    def listed(name: str) -> Callable[[Path], object]:
        return lambda f: (f / MANIFEST).write_text(
            (f / MANIFEST).read_text() + f"{'0' * 64}  {name}\n"
        )

    return {
        "outside": listed("../outside.txt"),
        "absolute": listed("/etc/passwd"),
        "device": listed("/dev/zero"),
        "backslash": listed("..\\outside.txt"),
        "control": listed("a\x1b]0;owned\x07"),
        "override": listed("a\u202egnp.exe"),
        "link to a file": lambda f: (f / "x").symlink_to("/etc/passwd"),
        "link to a folder": lambda f: (f / "x").symlink_to("/etc"),
        "link to itself": lambda f: (f / "x").symlink_to(f / "x"),
        "pipe": lambda f: os.mkfifo(f / "x"),
        "escape in a name": lambda f: (f / "a\x1b[2Jb").write_text("x"),
        "no text in a name": lambda f: Path(os.fsdecode(os.fsencode(f) + b"/\xff\xfe")).touch(),
        "manifest is a pipe": lambda f: ((f / MANIFEST).unlink(), os.mkfifo(f / MANIFEST)),
        "manifest is a link": lambda f: (
            (f / MANIFEST).unlink(), (f / MANIFEST).symlink_to("/dev/zero")),
        "signature is a device": lambda f: (
            (f / f"{MANIFEST}.sig").symlink_to("/dev/zero"),
            (f / f"{MANIFEST}.pub").symlink_to("/dev/zero")),
        "record is a link": lambda f: (
            (f / "record.jsonl").unlink(), (f / "record.jsonl").symlink_to("/dev/zero")),
        "record nests": lambda f: (f / "record.jsonl").write_bytes(b"[" * 10**6),
        "record is binary": lambda f: (f / "record.jsonl").write_bytes(bytes(range(256)) * 9),
        "outputs of nonsense": lambda f: (f / "record.jsonl").write_text(
            '{"content":{"outputs":3}}\n'),
    }  # fmt: skip


@pytest.mark.parametrize("how", tamperings())
def test_a_release_from_a_stranger_is_named_altered(
    how: str, tmp_path: Path, no_unpickling: None
) -> None:
    folder = a_release(tmp_path / "release")
    assert verify(folder).ok
    (tmp_path / "outside.txt").write_text("x")
    tamperings()[how](folder)
    before = sorted(os.listdir(tmp_path))
    found = verify(folder)
    assert not found.ok
    assert all(problem.isprintable() for problem in found.problems), found.problems
    assert sorted(os.listdir(tmp_path)) == before


# ---------------------------------------------------------------------------- the source itself
def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.stem)
def test_nothing_in_the_source_can_run_a_file(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in named} & {
                *UNSAFE,
                "subprocess",
                "ctypes",
            }
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen")
        assert name.rpartition(".")[2] not in (
            "read_pickle",
            "to_pickle",
            "load_module",
            "set_state_dict",
        )
        if name in ("np.load", "numpy.load", "torch.load"):
            raise AssertionError(f"{name} in {path.name}")
        if name.startswith("yaml.") and "load" in name:
            # a loader that builds texts, lists and mappings and nothing else
            loaders = [ast.unparse(k.value) for k in node.keywords if k.arg == "Loader"]
            assert name == "yaml.safe_load" or loaders == ["_READER"], ast.unparse(node)
        for keyword in node.keywords:
            assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
            assert keyword.arg != "shell"


def test_the_yaml_reader_is_the_plainest() -> None:
    import yaml

    reader = schema_file._READER
    assert reader in (yaml.BaseLoader, getattr(yaml, "CBaseLoader", None))
    assert not issubclass(reader, yaml.constructor.UnsafeConstructor)
    assert reader.yaml_constructors == {}


def test_loading_a_model_imports_nothing_that_unpickles(whole: bytes, tmp_path: Path) -> None:
    """In a process of its own: what numpy or polars bring along is there before the file."""
    path = tmp_path / "m.manikin"
    path.write_bytes(whole)
    script = (
        "import sys, manikin.io.models as m, manikin.synthesizers.table.marginals\n"
        f"before = set(sys.modules); m.load({str(path)!r})\n"
        f"new = {{n.partition('.')[0] for n in set(sys.modules) - before}} & set({UNSAFE!r})\n"
        "sys.exit(f'imported {new}' if new else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          env=environment, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_error_names_the_kind_and_never_the_content(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.manikin"
    path.write_bytes(whole.replace(b'"categorical"', b'"CanaryCanary"'))
    with pytest.raises(IntegrityError) as caught:
        models.load(path)
    assert "Canary" not in str(caught.value)
