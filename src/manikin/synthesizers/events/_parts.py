"""Parts of a fitted model as named arrays of known shape and range, and back from a file.

A part is a frozen dataclass whose fields are arrays; each field says the shape that it has, by the
names of sizes, and what lies in it, so that a stranger's file is refused before it is used.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from manikin.errors import InputError

__all__ = ["array", "pack", "unpack"]

P = TypeVar("P")
_KINDS = {"f": "f", "i": "iu", "b": "b"}
_TYPES: dict[str, type[Any]] = {"f": np.float64, "i": np.int64, "b": np.bool_}


@dataclass(frozen=True)
class array:
    """What an array is: its shape, its kind (f, i or b), and its range."""

    shape: tuple[str | int, ...]
    kind: str
    low: float
    high: float | str

    def __init__(
        self,
        *shape: str | int,
        kind: str = "f",
        low: float = -math.inf,
        high: float | str = math.inf,
    ) -> None:
        """Say it; a size is a number, or its name, `?` for any; `high` may name a size."""
        for name, value in (("shape", shape), ("kind", kind), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)


def pack(name: str, part: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of a part under names of their own."""
    return {f"{name}/{f.name}": np.asarray(getattr(part, f.name)) for f in dataclasses.fields(part)}


def unpack(
    kind: type[P], name: str, arrays: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]
) -> P:
    """Return the part that `pack` took apart. Raises InputError for anything else."""
    found: dict[str, NDArray[Any]] = {}
    for field, hint in get_type_hints(kind, include_extras=True).items():
        what: array = hint.__metadata__[0]
        values = arrays.get(f"{name}/{field}")
        if values is None:
            raise _malformed(f"without '{field}'")
        shape = [sizes.get(str(size), size) for size in what.shape]
        fits = len(shape) == values.ndim and all(
            size in ("?", own) for size, own in zip(shape, values.shape, strict=True)
        )
        if not fits or values.dtype.kind not in _KINDS[what.kind]:
            raise _malformed(f"with '{field}' of another shape or kind")
        most = sizes[what.high] - 1 if isinstance(what.high, str) else what.high
        if not (np.isfinite(values) & (values >= what.low) & (values <= most)).all():
            raise _malformed(f"with '{field}' out of its range")
        found[field] = values.astype(_TYPES[what.kind])
    return kind(**found)


def _malformed(what: str) -> InputError:
    return InputError(
        f"a model of histories {what}", "the arrays that a fitted model has", "fit it anew"
    )
