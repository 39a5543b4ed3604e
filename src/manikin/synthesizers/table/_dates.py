"""How dates become numbers: one counts from an origin, the others from that one.

Length of stay is the gap between two dates: as a small number it is learned to the day, as the
difference of two large ones it is lost. So the date from which the others lie least widely spread
is the anchor. A date that never changes within a subject of several rows (a birth) must not hang
on one that does: it counts from the origin too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table

__all__ = ["Dates", "hardly_changes", "learn_dates"]

Floats: TypeAlias = NDArray[np.float64]

UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 1e-6)  # resolutions a date may have
SLIPS, BY_CHANCE = 0.05, 0.1  # rows unlike their subject's first: at most, and as share of chance
AS_GOOD = 1.25  # the first anchor with at most so many times the least spread


@dataclass(frozen=True)
class Dates:
    """`anchor` and `alone` count units from `origin_s`, every other date from the anchor."""

    anchor: str | None
    origin_s: float
    unit_s: Mapping[str, float]
    typical: float  # stands in for a missing anchor
    alone: tuple[str, ...] = ()

    def hangs_on_anchor(self, name: str) -> bool:
        """Whether a datetime column counts from the anchor."""
        return name != self.anchor and name not in self.alone

    def to_numbers(self, name: str, table: Table) -> Floats:
        """Return a datetime column in its unit, relative to what it counts from."""
        seconds = table.numbers(name)
        if not self.hangs_on_anchor(name):
            return np.asarray((seconds - self.origin_s) / self.unit_s[name])
        if self.anchor is None or self.anchor not in table.columns:
            start = np.full(seconds.shape, self.origin_s)
        else:
            start = table.numbers(self.anchor)
        start = np.where(np.isnan(start), self.typical, start)
        return np.asarray((seconds - start) / self.unit_s[name])

    def to_seconds(self, name: str, numbers: Floats, anchor_s: Floats | None) -> Floats:
        """Return seconds since 1970 of numbers in the column's unit."""
        if not self.hangs_on_anchor(name) or anchor_s is None:
            return np.asarray(self.origin_s + np.rint(numbers) * self.unit_s[name])
        start = np.where(np.isnan(anchor_s), self.typical, anchor_s)
        return np.asarray(start + np.rint(numbers) * self.unit_s[name])


def learn_dates(table: Table) -> Dates:
    """Choose the anchor, the dates that stand alone, and the resolution of each."""
    names = [column.name for column in table.schema.learned if column.kind == "datetime"]
    seconds = {name: table.numbers(name) for name in names}
    dated = [name for name in names if np.isfinite(seconds[name]).any()]
    if not dated:
        return Dates(None, 0.0, dict.fromkeys(names, 86400.0), 0.0)
    alone = [name for name in dated if hardly_changes(seconds[name], table.subjects)]
    if table.n_subjects == table.n_rows or len(alone) == len(dated):
        alone = []
    anchor = _anchor({name: seconds[name] for name in dated if name not in alone})
    units = {}
    for name in names:
        own = name == anchor or name in alone
        relevant = seconds[name] if own else np.concatenate([seconds[name], seconds[anchor]])
        present = relevant[np.isfinite(relevant)]
        units[name] = next(u for u in UNITS_S if u == UNITS_S[-1] or not np.any(present % u))
    typical = float(np.nanmedian(seconds[anchor]))
    origin = float(np.floor(typical / 86400.0) * 86400.0)
    # the stand-in lies on the grid of the anchor's unit, so that intervals to it are whole too
    typical = origin + np.floor((typical - origin) / units[anchor]) * units[anchor]
    return Dates(anchor, origin, units, float(typical), tuple(alone))


def _anchor(seconds: Mapping[str, Floats]) -> str:
    """Return the first of those dates, seldom missing, from which the others are least spread."""
    known = {name: float(np.isfinite(values).mean()) for name, values in seconds.items()}
    able = [name for name in seconds if known[name] >= 0.9 * max(known.values())]
    spread = {
        name: sum(_spread(seconds[other] - seconds[name]) for other in seconds if other != name)
        for name in able
    }
    return next(name for name in able if spread[name] <= AS_GOOD * min(spread.values()))


def _spread(gaps: Floats) -> float:
    gaps = gaps[np.isfinite(gaps)]
    if gaps.size == 0:
        return 0.0
    low, high = np.quantile(gaps, [0.1, 0.9])
    return float(high - low)


def hardly_changes(values: NDArray[np.generic], subjects: NDArray[np.int64]) -> bool:
    """Whether a column is a subject's own: one value each, but for slips of the pen and gaps.

    A value that nearly everybody has differs rarely by chance alone, so slips are weighed against
    how often rows of different subjects differ.
    """
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    _, first, whose, rows = np.unique(
        subjects, return_index=True, return_inverse=True, return_counts=True
    )
    later = rows[whose] > 1
    later[first] = False
    if not later.any():
        return True
    unlike = float((codes[first][whose] != codes)[later].mean())
    chance = 1.0 - float(((counts / counts.sum()) ** 2).sum())
    return unlike == 0.0 or unlike <= min(SLIPS, BY_CHANCE * chance)
