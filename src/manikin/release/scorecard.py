"""The seven Cs, the order in which a report tells its numbers; never added up.

Congruence, coverage, constraint, completeness, compliance, comprehension, consistency: the
scorecard for synthetic medical data by authors of FDA's Center for Devices and Radiological Health
(Communications Engineering 2025, 4:130). Which number belongs to which C is this project's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

__all__ = ["SEVEN", "C", "Standing", "place", "standings"]


@dataclass(frozen=True)
class C:
    """One of the seven: its name, what it asks, and what belongs to it."""

    id: str
    title: str
    asks: str
    holds: str


SEVEN = (
    C("congruence", "Congruence", "Do the synthetic data look, and work, like the real ones?",
      "columns, pairs, whole rows; models and curves fitted to them"),
    C("coverage", "Coverage", "Is the whole range of patients there?",
      "shares of subgroups, how much of the real data's spread is reached"),
    C("constraint", "Constraint", "Are rules of medicine and arithmetic kept?",
      "declared rules within and between columns"),
    C("completeness", "Completeness", "Is what is recorded, and what is missing, as in the "
      "real data?", "patterns of missing cells"),
    C("compliance", "Compliance", "Could the synthetic rows give real persons away?",
      "copies, attacks, what they could have found, and the price in privacy"),
    C("comprehension", "Comprehension", "Can somebody else see how this was made and judged?",
      "settings, record, documentation"),
    C("consistency", "Consistency", "Does it hold for every group, every analysis, every repeat?",
      "per-group numbers, statistical conclusions, other fits and draws"),
)  # fmt: skip

# first match decides; by pattern of the score's name, so that new metrics find a place
_PLACES = (
    ("fidelity/missing*", "completeness"),
    ("fidelity/measuring*", "completeness"),
    ("fidelity/rare_codes*", "coverage"),
    ("fidelity/manifold.*recall*", "coverage"),
    ("fidelity/manifold.*coverage*", "coverage"),
    ("fidelity/manifold.*authenticity*", "coverage"),
    ("fidelity/coverage*", "coverage"),
    ("fidelity/*", "congruence"),
    ("utility/*refit*", "consistency"),
    ("utility/*", "congruence"),
    ("privacy/*", "compliance"),
    ("validity/violations*", "constraint"),
    ("validity/history_violations*", "constraint"),
    ("fairness/*disparity*", "coverage"),
    ("*", "consistency"),
)


def place(metric: str) -> str:
    """Return the id of the C that a score belongs to."""
    return next(c for pattern, c in _PLACES if fnmatchcase(metric, pattern))


class _Placed(Protocol):
    @property
    def metric(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def outcome(self) -> str: ...


@dataclass(frozen=True)
class Standing:
    """How much was measured of one C, and how what has a threshold came out."""

    c: C
    n_measures: int
    n_scores: int
    n_unassessed: int
    passed: int
    doubtful: int
    failed: int

    @property
    def outcome(self) -> str:
        """The worst outcome of a number that has a threshold; "" where none has."""
        if self.failed or self.doubtful:
            return "fail" if self.failed else "caution"
        return "pass" if self.passed else ""

    @property
    def told(self) -> str:
        """The counts in words: "5 pass, 1 caution"."""
        counts = (("pass", self.passed), ("caution", self.doubtful), ("fail", self.failed))
        return ", ".join(f"{n} {what}" for what, n in counts if n)


def standings(lines: Sequence[_Placed]) -> tuple[Standing, ...]:
    """Return the seven rows of the scorecard."""
    found = []
    for c in SEVEN:
        own = [line for line in lines if line.place == c.id]
        outcomes = [line.outcome for line in own if line.value is not None]
        found.append(
            Standing(
                c,
                len({line.metric.partition(".")[0] for line in own}),
                len(own),
                sum(line.value is None for line in own),
                *(outcomes.count(what) for what in ("pass", "caution", "fail")),
            )
        )
    return tuple(found)
