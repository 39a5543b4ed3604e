"""Scores as lines of a report: what each is called, where it belongs, and what may be shown of it.

A group of fewer than eleven real subjects is left out, intersections of groups included, and a
curve keeps so few points that eleven subjects or more lie between any two.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.metrics.score import Card, Score
from manikin.privacy.cells import SMALLEST_CELL, n_different
from manikin.release.scorecard import place
from manikin.release.verdict import card_of, gate_of, label, outcome_of

__all__ = ["THIRDS", "Line", "finite", "is_disclosable", "line_of", "members", "thinned"]

THIRDS = ("lowest third", "middle third", "highest third")
LEAST_STEP = 0.02  # of either axis, between two points of a curve
_BETWEEN = r"(?:\s*(?:,|&|;|\||×|\band\b|\bx\b)\s*)"


@dataclass(frozen=True)
class Line:
    """One score, ready to be read: None where it cannot be estimated."""

    metric: str
    label: str
    family: str
    group: str
    better: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None
    note: str = ""
    place: str = ""  # which of the seven Cs it belongs to
    outcome: str = ""  # against the verdict's threshold, "" where there is none
    curve: tuple[tuple[float, float], ...] = ()


def line_of(score: Score, cards: Mapping[str, Card], n_subjects: int) -> Line:
    """Return a score's line; `n_subjects` is the size of the smallest real part behind a curve."""
    card = card_of(score.metric, cards)
    gate = gate_of(score.metric)
    # thresholds are for everybody, and for shares of groups; a single column may differ by more
    judged = gate is not None and (score.group == "all" or gate.question == "subgroups")
    low, high = score.interval
    return Line(
        metric=score.metric,
        label=label(dataclasses.replace(score, group="all"), card),
        family=card.family if card is not None else score.metric.partition("/")[0],
        group=score.group,
        better=card.better if card is not None else "near ceiling",
        value=finite(score.value),
        low=finite(low),
        high=finite(high),
        floor=finite(score.floor),
        ceiling=finite(score.ceiling),
        note=score.note,
        place=place(score.metric),
        outcome=outcome_of(score, gate) if gate is not None and judged else "",
        curve=thinned(score.curve, n_subjects),
    )


def finite(value: float | None) -> float | None:
    """Return the number in four digits, None where there is none."""
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def thinned(
    curve: Sequence[tuple[float, float]], n_subjects: int
) -> tuple[tuple[float, float], ...]:
    """Return the points that lie eleven subjects and a fiftieth or more from the one before.

    The ends stay. With fewer than 22 subjects there is no curve.
    """
    points = [(float(x), float(y)) for x, y in curve if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2 or n_subjects < 2 * SMALLEST_CELL:
        return ()
    step = max(LEAST_STEP, SMALLEST_CELL / n_subjects)
    kept = [points[0]]
    for x, y in points[1:-1]:
        if _far((x, y), kept[-1], step) and _far((x, y), points[-1], step):
            kept.append((x, y))
    kept.append(points[-1])
    return tuple((round(x, 4), round(y, 4)) for x, y in kept)


def _far(one: tuple[float, float], other: tuple[float, float], step: float) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) >= step - 1e-9


# ---------------------------------------------------------------------------- small cells
def is_disclosable(score: Score, real: Table) -> bool:
    """Whether the score's group is of eleven real subjects or more, as far as it names levels."""
    inside = members(score.group, real)
    return inside is None or n_different(real.subjects[inside]) >= SMALLEST_CELL


def members(group: str, real: Table) -> NDArray[np.bool_] | None:
    """Return the real rows of a group such as "sex=F" or "sex=F & age=lowest third".

    None for a group that names no level of any column.
    """
    inside: NDArray[np.bool_] | None = None
    if "=" not in group:
        return None
    for column in real.schema.learned:
        if f"{column.name}=" not in group:
            continue
        levels = column.categories if column.is_coded else THIRDS
        # the longest spelling first: "a, b" before "a"
        for level in sorted(levels, key=len, reverse=True):
            named = re.escape(f"{column.name}={level}")
            if not re.search(rf"(?:^|{_BETWEEN}){named}(?:$|{_BETWEEN})", group):
                continue
            rows = (
                real.columns[column.name] == column.categories.index(level)
                if column.is_coded
                else _third(real.numbers(column.name), THIRDS.index(level))
            )
            inside = np.asarray(rows if inside is None else inside & rows)
            break
    return inside


def _third(values: NDArray[np.float64], which: int) -> NDArray[np.bool_]:
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros(values.size, bool)
    at = np.searchsorted(np.quantile(known, [1 / 3, 2 / 3]), values)
    return np.asarray(np.isfinite(values) & (at == which))
