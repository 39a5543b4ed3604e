"""Whom the bake-off tries, and in which order: what was measured before, on other tables."""

from __future__ import annotations

from collections.abc import Sequence

from manikin.adviser.bakeoff import Attempt
from manikin.adviser.framework import Family
from manikin.adviser.measured import Figures, measured
from manikin.adviser.ranking import FLOOR, Goal

__all__ = ["chosen"]

AMPLE = 20  # minutes that are enough to try everyone
FAR = 0.25  # of a detection score, on average of the benchmark's tables: not to be caught up
DEAR = 3  # the framework's cost of a family whose fit takes minutes


def chosen(
    framework: Sequence[Family], goal: Goal, seconds: float, *, named: bool
) -> tuple[tuple[str, ...], tuple[Attempt, ...]]:
    """Return whom to try in order, and those who would cost the others their time, with the reason.

    Cheap families come first, and of equal cost those that were more realistic before. A dear one
    that was far behind and best on no table is left out, unless there is ample time, it was asked
    for by name, or what is asked for is not realism.
    """
    known = {one.name: found for one in framework if (found := measured(one.name)) is not None}
    best = max((figures.detection for figures in known.values()), default=0.0)
    out: dict[str, Figures] = {}
    if seconds < 60 * AMPLE and goal in ("realism", "speed") and not named:
        dear = {one.name for one in framework if one.cost >= DEAR}
        out = {
            name: figures
            for name, figures in known.items()
            if name in dear and not figures.best_on and best - figures.detection > FAR
        }

    def key(one: Family) -> tuple[bool, int, float]:
        return one.name != FLOOR, one.cost, -known[one.name].detection if one.name in known else 0.0

    tried = tuple(one.name for one in sorted(framework, key=key) if one.name not in out)
    return tried, tuple(Attempt(name, 0, failed=_why(out[name], best)) for name in out)


def _why(figures: Figures, best: float) -> str:
    return (
        f"not tried: detection {figures.detection:.2f} on the benchmark's {figures.tables} tables,"
        f" where the best family has {best:.2f}; name it, or give {AMPLE} minutes, to try it"
    )
