"""What a model for each group changes: how like the group's held-out rows are, either way.

Columns by themselves and pairs of columns (`fidelity/shapes`, `fidelity/trends`), of subjects drawn
from one model of everybody and from the models of the groups, against held-out real subjects of the
group. Groups of fewer than 20 of these are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.metrics.fidelity.shapes import shapes
from manikin.metrics.fidelity.trends import trends
from manikin.metrics.score import Score, Trial

__all__ = ["GroupLine", "per_group"]

FEWEST = 20  # held-out subjects of a group
MEASURES: dict[str, tuple[str, Callable[..., Any]]] = {
    "columns": ("fidelity/shapes", shapes),
    "pairs of columns": ("fidelity/trends", trends),
}


@dataclass(frozen=True)
class GroupLine:
    """How like a group's rows are, of one model of everybody and of its own; 1 is best."""

    group: str
    measure: str
    before: tuple[float, float, float]  # value, and 95 % interval
    after: tuple[float, float, float]


def per_group(
    parts: tuple[Table, Table],
    one: Table,
    each: Table,
    of: Callable[[Table], NDArray[np.int64]],
    labels: Sequence[str],
    *,
    seed: int,
) -> tuple[GroupLine, ...]:
    """Compare both ways in every group: `parts` are training and held-out rows."""
    train, held = parts
    tables = (train, held, one, each)
    places = [of(table) for table in tables]
    lines: list[GroupLine] = []
    for place, label in enumerate(labels):
        of_group = [
            table.rows(np.flatnonzero(where == place))
            for table, where in zip(tables, places, strict=True)
        ]
        if min(part.n_subjects for part in of_group) < FEWEST:
            continue
        for measure, (name, metric) in MEASURES.items():
            found = []
            for drawn in of_group[2:]:
                scores = metric(Trial(of_group[0], of_group[1], drawn), seed=seed)
                found += [s for s in scores if s.metric == name and s.group == "all"]
            if len(found) == 2 and all(np.isfinite(score.value) for score in found):
                lines.append(GroupLine(label, measure, _rounded(found[0]), _rounded(found[1])))
    return tuple(lines)


def _rounded(score: Score) -> tuple[float, float, float]:
    low, high = score.interval
    return round(score.value, 4), round(low, 4), round(high, 4)
