"""Deterministic damage: a case is a door and a number, and the same number is the same case.

Damage is done to bytes (flip, cut, repeat, splice, insert what parsers stumble over) and to
structure (a JSON value for another, an array for another, with every digest made to match).
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

TOKENS = (
    b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b"'", b'""', b",",
    b";", b"\t", b"|", b"=", b"{", b"}", b"[", b"]", b":", b"-", b"&a ", b"*a",
    b"!!python/object:os.system ", b"%YAML 9.9\n",
    b"---\n", b"...\n", b"? ", b"- ", b"<<: ", b"1e999", b"-1e999", b"NaN", b"null",
    b"true", b"9" * 40, b"-0", b"0x7fffffff", b"1970-01-01", b"99999-99-99", b"\xed\xa0\x80",
    "\u202e".encode(), "＝".encode(), "²".encode(), b"\x1b]0;x\x07", b"PAR1",
    b"PK\x03\x04", b"\x1f\x8b",
    b"__proto__", b"../", b"%s%n", b"\xf4\x90\x80\x80",
)  # fmt: skip
EDGES = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, -(2**63), 2**64, 10**30, 0.0, -0.5, 1e-320, 1e308, "", "x",
    "²", "nan", "1e999", "\x00", "\ud800", "＝1+1", "../../x", "%", "%Q", "a" * 5000, [],
    {}, [[]], [None],
    {"": {}}, [1, "a"], ["a", "a"], {"a": 1},
)  # fmt: skip


def rng_of(door: str, number: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(door.encode()), number])


def damaged(data: bytes, rng: np.random.Generator, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Return the bytes after one to four kinds of damage."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data) + 1))
        end = min(len(data), at + int(rng.geometric(0.05)))
        match int(rng.integers(0, 8)):
            case 0:
                spot = bytearray(data)
                if spot:
                    spot[at % len(spot)] ^= 1 << int(rng.integers(0, 8))
                data = bytes(spot)
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:end] + data[at:end] * int(rng.integers(1, 30)) + data[end:]
            case 3 | 4:
                data = data[:at] + tokens[int(rng.integers(0, len(tokens)))] + data[at:]
            case 5:
                edge = EDGES[int(rng.integers(0, len(EDGES)))] % 2**64
                packed = struct.pack("<Q", edge)[: int(rng.choice([1, 2, 4, 8]))]
                data = data[:at] + packed + data[at + len(packed) :]
            case 6:
                data = (
                    data[:at]
                    if rng.random() < 0.3
                    else data[:at] + rng.bytes(end - at) + data[end:]
                )
            case _:
                other = int(rng.integers(0, len(data) + 1))
                data = data[:at] + data[other : other + end - at] + data[end:]
    return data


def altered(document: Any, rng: np.random.Generator) -> Any:
    """Return a JSON document with one to three of its values, at any depth, made others."""
    copy = json.loads(json.dumps(document))
    for _ in range(int(rng.integers(1, 4))):
        _alter(copy, rng)
    return copy


def _alter(node: Any, rng: np.random.Generator) -> None:
    while isinstance(node, dict | list) and node:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(0, len(keys)))]
        child = node[key]
        if isinstance(child, dict | list) and child and rng.random() < 0.85:
            node = child
            continue
        match int(rng.integers(0, 8)):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.append(child)
            case 1 | 2:
                other = keys[int(rng.integers(0, len(keys)))]
                node[key] = json.loads(json.dumps(node[other]))
            case 3 if isinstance(child, int | float):
                node[key] = child * -1 + int(rng.integers(-2, 3))
            case _:
                node[key] = deepcopy(VALUES[int(rng.integers(0, len(VALUES)))])
        return


def altered_arrays(
    arrays: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return arrays of which one or two have other values, shapes, types or are gone."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    for _ in range(int(rng.integers(1, 3))):
        name = sorted(arrays)[int(rng.integers(0, len(arrays)))]
        array = arrays[name]
        match int(rng.integers(0, 7)):
            case 0:
                del arrays[name]
            case 1:
                arrays[name] = array.reshape(-1)[: int(rng.integers(0, array.size + 1))]
            case 2:
                arrays[name] = np.concatenate([array.reshape(-1)] * 3)
            case 3:
                dtype = str(rng.choice(["f8", "i8", "u1", "f4", "i4", "?"]))
                with np.errstate(all="ignore"):
                    arrays[name] = array.astype(dtype)
            case 4 if array.size:
                array.reshape(-1)[int(rng.integers(0, array.size))] = _edge(array, rng)
            case 5 if array.size:
                array[...] = _edge(array, rng)
            case _:
                arrays[name] = array[None, ...]
        if not arrays:
            break
    return arrays


def _edge(array: np.ndarray, rng: np.random.Generator) -> Any:
    if array.dtype.kind == "f":
        edges = [np.nan, np.inf, -np.inf, 1e308, -1e308, 0, -1, 1e9, 0.5]
        with np.errstate(all="ignore"):
            return array.dtype.type(rng.choice(edges))
    if array.dtype.kind == "b":
        return bool(rng.random() < 0.5)
    bounds = np.iinfo(array.dtype)
    wanted = int(rng.choice([0, -1, 1, 7, 1000, 10**6, 2**31 - 1, 2**62]))
    return min(max(wanted, int(bounds.min)), int(bounds.max))


def repacked(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Lay a model file out as its writer does, with every digest made to match."""
    from safetensors.numpy import save

    tensors = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return packed(document, tensors)


def packed(document: dict[str, Any], tensors: bytes) -> bytes:
    """Lay a model file out around bytes that may be no tensors at all."""
    from manikin.io import models

    document = {**document, "arrays_sha256": hashlib.sha256(tensors).hexdigest()}
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return b"".join(models._container(content, tensors))


def rechained(lines: list[dict[str, Any]]) -> bytes:
    """Write a record whose digests and chain hold, whatever its entries say."""
    from manikin.release.record import canonical

    previous, out = "0" * 64, []
    for line in lines:
        line = {**line, "previous": previous}
        line.pop("digest", None)
        line["digest"] = hashlib.sha256(canonical(line)).hexdigest()
        previous = line["digest"]
        out.append(canonical(line))
    return b"\n".join(out) + b"\n"


Door = Callable[[np.random.Generator], tuple[str, bytes]]
