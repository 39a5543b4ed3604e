"""What need not be learned: constants, copies, linear images and functions of other columns.

Such columns are found before modelling, left out of it, and derived again after sampling, so that
they hold exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

PROBE = 2000  # rows on which a dependency must hold before all rows are looked at
ECHO = 100  # the state of a cell that repeats another column's value
ROWS_PER_LEVEL = 10  # fewer, and a function of that column is no finding


@dataclass(frozen=True)
class Constant:
    """Every row of `name` is alike."""

    name: str
    number: float
    state: int


@dataclass(frozen=True)
class Linear:
    """`name` = intercept + slope × `source`, and has no value where `source` has none."""

    name: str
    source: str
    slope: float
    intercept: float


@dataclass(frozen=True)
class Function:
    """The code of `name` is `image[code of source]`."""

    name: str
    source: str
    image: tuple[int, ...]


Derived: TypeAlias = Constant | Linear | Function


def to_json(derived: Derived) -> dict[str, Any]:
    """Return plain JSON values."""
    return {"is": type(derived).__name__, **derived.__dict__}


def from_json(document: Mapping[str, Any]) -> Derived:
    """Rebuild what `to_json` wrote."""
    fields = {key: value for key, value in document.items() if key != "is"}
    if document["is"] == "Function":
        fields["image"] = tuple(fields["image"])
        return Function(**fields)
    return Linear(**fields) if document["is"] == "Linear" else Constant(**fields)


def find_linear(
    numbers: Mapping[str, Floats],
    states: Mapping[str, NDArray[np.int8]],
    decimals: Mapping[str, int],
) -> dict[str, Linear]:
    """Return, by column, the earlier column of which it is an exact linear image.

    `numbers` are the columns that may take part, in the order in which they are preferred.
    """
    found: dict[str, Linear] = {}
    kept: list[str] = []
    probes = {name: values[:PROBE] for name, values in numbers.items()}
    for name, values in numbers.items():
        for source in _near(probes[name], {s: probes[s] for s in kept}):
            line = _line(numbers[source], values, 10.0 ** -decimals[name])
            if line is not None and np.array_equal(states[source], states[name]):
                found[name] = Linear(name, source, *line)
                break
        else:
            kept.append(name)
    return found


def _near(image: Floats, sources: Mapping[str, Floats]) -> list[str]:
    """Return the sources whose correlation with the image is all but perfect."""
    if not sources:
        return []
    x = np.stack(list(sources.values()), axis=1)
    both = np.isfinite(x) & np.isfinite(image)[:, None]
    with np.errstate(all="ignore"):
        n = both.sum(axis=0)
        u = np.where(both, x, 0.0)
        u = np.where(both, u - u.sum(axis=0) / n, 0.0)
        v = np.where(both, np.nan_to_num(image)[:, None], 0.0)
        v = np.where(both, v - v.sum(axis=0) / n, 0.0)
        u, v = u / np.abs(u).max(axis=0), v / np.abs(v).max(axis=0)
        alike = (u * v).sum(axis=0) ** 2 / ((u**2).sum(axis=0) * (v**2).sum(axis=0))
    return [name for name, r in zip(sources, alike, strict=True) if r > 0.97]


def _line(source: Floats, image: Floats, unit: float) -> tuple[float, float] | None:
    """Return slope and intercept if `image` is a line of `source` to within rounding."""
    probe = slice(0, PROBE)
    x, y = source[probe], image[probe]
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < ROWS_PER_LEVEL or np.unique(x[both]).size < 3:
        return None
    for part in (both, np.isfinite(source) & np.isfinite(image)):
        x, y = (x, y) if part is both else (source, image)
        x, y = x[part], y[part]
        a, b = int(np.argmin(x)), int(np.argmax(x))
        slope = (y[b] - y[a]) / (x[b] - x[a])
        intercept = y[a] - slope * x[a]
        if slope == 0 or np.abs(intercept + slope * x - y).max() > 1e-9 + 0.51 * unit * (
            slope != 1
        ):
            return None
        spread = np.abs(y).max() + unit
        # a line through rounded points is a finding only if rounding is small beside the spread
        if slope != 1 and unit > 0.1 * (y.max() - y.min() + 1e-9 * spread):
            return None
    if slope == 1 and np.array_equal(np.isfinite(source), np.isfinite(image)):
        intercept = float(np.median(y - x))
    return float(slope), float(intercept)


def find_echoes(
    numbers: Mapping[str, Floats], states: Mapping[str, NDArray[np.int8]]
) -> dict[str, str]:
    """Return, by column, the earlier column whose value it repeats in many rows.

    Such as a time to relapse that is the time of follow-up wherever there was none. Common values
    (an eighth of the rows or more) are left out of account: they agree by chance.
    """
    found: dict[str, str] = {}
    kept: list[str] = []
    rare = {name: _uncommon(values) for name, values in numbers.items()}
    probes = {name: values[:PROBE] for name, values in numbers.items()}
    for name, values in numbers.items():
        if not rare[name].any():
            continue
        probe = np.stack([probes[s] for s in kept], axis=1) if kept else np.zeros((0, 0))
        often = (probe == probes[name][:, None]).mean(axis=0) > 0.05 if kept else []
        for source in [s for s, o in zip(kept, often, strict=True) if o]:
            both = rare[name] & rare[source] & (states[name] == 0) & (states[source] == 0)
            same = np.count_nonzero(both & (values == numbers[source]))
            if same >= max(0.1 * values.size, 0.2 * np.count_nonzero(both), ROWS_PER_LEVEL):
                found[name] = source
                break
        else:
            kept.append(name)
    return found


def _uncommon(values: Floats) -> NDArray[np.bool_]:
    """Return where a value is held by less than an eighth of the rows; no row if there are few."""
    distinct, label, count = np.unique(values, return_inverse=True, return_counts=True)
    if distinct.size < 2 * ROWS_PER_LEVEL:
        return np.zeros(values.size, bool)
    return np.asarray(count[label] < values.size / 8)


def find_functions(
    codes: NDArray[np.int32], sizes: NDArray[np.int64], exact: NDArray[np.bool_], seen: list[bool]
) -> dict[int, tuple[int, NDArray[np.int64]]]:
    """Return, by column, the column it is a function of and its image.

    `codes` (rows, columns); `exact`: all of the column's codes are atoms, so that a function of
    codes is one of values; `seen`: the column may be derived at all. Only coarser columns are
    derived from finer ones, so that what is derived never serves as a source.
    """
    n, p = codes.shape
    found: dict[int, tuple[int, NDArray[np.int64]]] = {}
    order = sorted(range(p), key=lambda j: (-int(sizes[j]), j))
    step = max(1, n // PROBE)
    probe = codes[::step]
    sources: list[int] = []
    for j in order:
        fine = [s for s in sources if exact[s] and sizes[s] * ROWS_PER_LEVEL <= n]
        source = next(
            (s for s in fine if _determines(probe[:, s], probe[:, j], sizes[s])
             and _determines(codes[:, s], codes[:, j], sizes[s])), None,
        ) if exact[j] and seen[j] else None  # fmt: skip
        if source is None:
            sources.append(j)
            continue
        image = np.full(int(sizes[source]), int(np.bincount(codes[:, j]).argmax()), np.int64)
        image[codes[:, source]] = codes[:, j]
        found[j] = (source, image)
    return found


def _determines(
    source: NDArray[np.int32], image: NDArray[np.int32], n_codes: int | np.integer[Any]
) -> bool:
    last = np.full(int(n_codes), -1, np.int64)
    last[source] = image
    return bool(np.array_equal(last[source], image))
