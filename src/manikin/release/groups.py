"""Scores of groups, side by side: one row a group of patients, or one row an attack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from manikin.release.lines import Line

__all__ = [
    "Cell", "Pivot", "Refitted", "attacks", "is_attack", "is_column", "refitted", "subgroups",
]  # fmt: skip

# how `manikin.refits` says in a score's note what other fits gave
_AGAIN = re.compile(
    r"(\d+ refits × \d+ draws[^:;]*): mean (-?[\d.]+), standard deviation between refits ([\d.]+)"
)


@dataclass(frozen=True)
class Cell:
    """One number of a group; None where it cannot be told."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Pivot:
    """Numbers of several groups: `cells[i][j]` is the `heads[j]` of the group `groups[i]`."""

    heads: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


def is_column(line: Line) -> bool:
    """Whether a score speaks of one column."""
    return line.group.startswith(("column=", "columns="))


def is_attack(line: Line) -> bool:
    """Whether a score is one attack's."""
    return line.group.startswith("attack=")


def attacks(lines: Sequence[Line]) -> Pivot | None:
    """Return what each attack reached."""
    return _pivot([line for line in lines if is_attack(line)], "attack=")


def subgroups(lines: Sequence[Line]) -> Pivot | None:
    """Return fidelity, utility and privacy of each group of patients that is told apart."""
    told = [
        line for line in lines if "=" in line.group and not is_column(line) and not is_attack(line)
    ]
    return _pivot(told, "")


@dataclass(frozen=True)
class Refitted:
    """What other fits of the same recipe gave for a score."""

    label: str
    group: str
    value: float
    mean: float
    spread: float  # standard deviation between refits
    how: str


def refitted(lines: Sequence[Line]) -> tuple[Refitted, ...]:
    """Return how much each score that was measured again differs between fits."""
    found = []
    for line in lines:
        told = _AGAIN.search(line.note)
        if told is not None and line.value is not None:
            mean, spread = float(told[2]), float(told[3])
            found.append(Refitted(line.label, line.group, line.value, mean, spread, told[1]))
    return tuple(found)


def _pivot(lines: Sequence[Line], prefix: str) -> Pivot | None:
    if not lines:
        return None
    metrics = tuple(dict.fromkeys(line.metric for line in lines))
    groups = tuple(dict.fromkeys(line.group for line in lines))
    heads = {line.metric: line.label for line in lines}
    at = {
        (line.group, line.metric): Cell(line.value, line.low, line.high, line.note)
        for line in lines
    }
    return Pivot(
        tuple(heads[metric] for metric in metrics),
        metrics,
        tuple(group.removeprefix(prefix) for group in groups),
        tuple(tuple(at.get((group, metric)) for metric in metrics) for group in groups),
    )
