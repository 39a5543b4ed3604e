"""The ledger: what was released, apart from how its cost adds up.

A release is a frozen event: a mechanism, and its noise relative to what one subject can change at
most. Neighbouring data differ by all rows of one subject, added or removed. What events cost
together is counted elsewhere (`accountant`), so that a better bound needs no new fit.

Reference  Bun and Steinke, "Concentrated differential privacy", TCC 2016 (Gaussian, Prop. 1.6);
           Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy",
           NeurIPS 2020 (Theorem 4); Dwork and Roth, "The algorithmic foundations of differential
           privacy" (2014), §3.3 (Laplace), §3.4 (exponential mechanism)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias, get_args

from manikin.errors import PrivacyError
from manikin.privacy.budget import Budget

__all__ = [
    "ADJACENCY",
    "Choice",
    "Gaussian",
    "Keys",
    "Laplace",
    "NonPrivate",
    "Release",
    "Sampled",
    "from_json",
    "is_private",
    "need_budget",
    "refuse_budget",
    "to_json",
]

ADJACENCY = "add or remove one subject, with all of its rows"


@dataclass(frozen=True)
class NonPrivate:
    """Something was computed from the subjects' rows with no formal protection."""

    what: str


@dataclass(frozen=True)
class Gaussian:
    """Sums of integers with discrete Gaussian noise."""

    what: str
    noise_multiplier: float  # σ by the most that one subject changes the sums (L2)
    count: int = 1

    def __post_init__(self) -> None:
        _check(self, noise_multiplier=(0, math.inf), count=(0, math.inf))


@dataclass(frozen=True)
class Laplace:
    """Sums of integers with discrete Laplace noise."""

    what: str
    noise_multiplier: float  # scale by the most that one subject changes the sums (L1)
    count: int = 1

    def __post_init__(self) -> None:
        _check(self, noise_multiplier=(0, math.inf), count=(0, math.inf))


@dataclass(frozen=True)
class Choice:
    """One of several candidates, chosen by the exponential mechanism."""

    what: str
    epsilon: float
    count: int = 1

    def __post_init__(self) -> None:
        _check(self, epsilon=(0, math.inf), count=(0, math.inf))


@dataclass(frozen=True)
class Keys:
    """Keys found in the rows whose noisy counts exceed a threshold; the others stay unnamed."""

    what: str
    noise_multiplier: float  # σ of Gaussian noise by the most that one subject changes counts (L2)
    delta: float  # chance that a key which one subject alone holds is named
    threshold: float

    def __post_init__(self) -> None:
        _check(self, noise_multiplier=(0, math.inf), delta=(0, 1), threshold=(0, math.inf))


@dataclass(frozen=True)
class Sampled:
    """Steps of training on Poisson-sampled subjects, with Gaussian noise on clipped sums."""

    what: str
    sampling_probability: float
    noise_multiplier: float  # σ by the clipping norm
    steps: int

    def __post_init__(self) -> None:
        _check(
            self,
            sampling_probability=(0, 1 + 1e-12),
            noise_multiplier=(0, math.inf),
            steps=(0, math.inf),
        )


Release: TypeAlias = NonPrivate | Gaussian | Laplace | Choice | Keys | Sampled
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Release)}


def is_private(ledger: Iterable[Release]) -> bool:
    """Whether there are releases, and every one of them is protected."""
    entries = tuple(ledger)
    return bool(entries) and not any(isinstance(entry, NonPrivate) for entry in entries)


def to_json(ledger: tuple[Release, ...]) -> list[dict[str, object]]:
    """Return the ledger as plain JSON values, one object a release."""
    return [{"release": type(entry).__name__, **asdict(entry)} for entry in ledger]


def from_json(document: object) -> tuple[Release, ...]:
    """Return the ledger that `to_json` wrote. Raises PrivacyError on anything else."""
    if not isinstance(document, list):
        raise _unreadable("no list of releases")
    return tuple(_entry(one) for one in document)


def refuse_budget(budget: Budget | None, method: str) -> None:
    """Raise PrivacyError when a budget is given to a recipe that cannot honour it."""
    if budget is not None:
        raise PrivacyError(
            f"a privacy budget (ε = {budget.epsilon:g}) was given to '{method}'",
            "a recipe that keeps the promise; this one adds no noise, and would make it false",
            "leave --synthesizer out (table/aim is taken), choose one that 'manikin list' shows to"
            " take a budget, or leave the budget out",
        )


def need_budget(budget: Budget | None, method: str) -> Budget:
    """Return the budget. Raises PrivacyError when a recipe that cannot do without has none."""
    if budget is None:
        raise PrivacyError(
            f"'{method}' without a privacy budget",
            "a budget: everything that it releases is noisy",
            "give one, such as --epsilon 1, or choose a recipe without differential privacy",
        )
    return budget


def _entry(one: object) -> Release:
    if not isinstance(one, Mapping) or one.get("release") not in _KINDS:
        raise _unreadable("a release of no known kind")
    kind = _KINDS[str(one["release"])]
    given = {name: value for name, value in one.items() if name != "release"}
    types = {field.name: field.type for field in fields(kind)}
    for name, value in given.items():
        wanted: tuple[type, ...] = {"str": (str,), "int": (int,)}.get(
            str(types.get(name)), (int, float)
        )
        if name not in types or isinstance(value, bool) or not isinstance(value, wanted):
            raise _unreadable("a release whose fields are not its kind's")
    try:
        return kind(**given)  # type: ignore[no-any-return]
    except TypeError:  # a field is missing
        raise _unreadable("a release with a field missing") from None


def _check(release: Any, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(release, name)
        if not (low < value < high):  # not a number is in no range
            raise PrivacyError(
                f"a release '{type(release).__name__}' with {name} = {value:g}",
                f"more than {low:g} and less than {high:g}",
                "correct the ledger: nothing can be promised from it",
            )


def _unreadable(what: str) -> PrivacyError:
    return PrivacyError(what, "a ledger as Manikin writes it", "take the ledger of the release")
