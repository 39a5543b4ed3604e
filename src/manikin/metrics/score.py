"""What a metric is given, what it gives back, and the card that explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from manikin.data.dataset import Dataset

__all__ = ["Card", "Metric", "Score", "Trial", "not_estimable"]

D_co = TypeVar("D_co", bound=Dataset, covariant=True)
D_contra = TypeVar("D_contra", bound=Dataset, contravariant=True)


@dataclass(frozen=True)
class Trial(Generic[D_co]):
    """One experiment: a synthetic dataset, the rows it was made from, and rows it never saw.

    All parts are split by subject. `reference` is what an attacker may hold.
    """

    train: D_co
    holdout: D_co
    synthetic: D_co
    reference: D_co | None = None


@dataclass(frozen=True)
class Score:
    """A number with what it takes to read it.

    `metric` is the metric's name, followed by `.what` when it gives several numbers. `group` is
    "all", or what the number speaks of: "column=age", "sex=F".
    `interval` is a 95 % interval from resampling subjects. `ceiling` is the same metric with
    fresh real data in place of the synthetic; `floor` with independent columns.
    A number that cannot be estimated is NaN, and `note` says why. `curve` holds the points of a
    figure that goes with the number, such as a ROC curve (x, y), at few places.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    floor: float | None = None
    ceiling: float | None = None
    group: str = "all"
    note: str = ""
    curve: tuple[tuple[float, float], ...] = ()


def not_estimable(metric: str, why: str, group: str = "all") -> Score:
    """Return the score that says a number cannot be had from these rows, and why."""
    return Score(metric, math.nan, (math.nan, math.nan), group=group, note=why)


@dataclass(frozen=True)
class Card:
    """What a metric means, for the report's glossary."""

    title: str
    family: Literal["fidelity", "utility", "privacy", "fairness", "validity"]
    better: Literal["higher", "lower", "near ceiling"]
    reads: str  # one or two sentences: what the number says, and what it does not
    profile: Literal["quick", "full"] = "full"  # quick: also run when there is little time
    modality: Literal["table", "cohort", "events"] = "table"  # what it judges


class Metric(Protocol[D_contra]):
    """A judge: `metrics/<family>/<name>.py` defines the function `<name>` and its `CARD`."""

    def __call__(self, trial: Trial[D_contra], *, seed: int) -> tuple[Score, ...]:
        """Score the trial; floor and ceiling are added by `metrics.judge`."""
