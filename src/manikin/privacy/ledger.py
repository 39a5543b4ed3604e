"""The ledger: what was released, apart from how its cost adds up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias

from manikin.errors import PrivacyError
from manikin.privacy.budget import Budget

__all__ = ["NonPrivate", "Release", "refuse_budget", "to_json"]


@dataclass(frozen=True)
class NonPrivate:
    """Something was computed from the subjects' rows with no formal protection."""

    what: str


Release: TypeAlias = NonPrivate


def to_json(ledger: tuple[Release, ...]) -> list[dict[str, object]]:
    """Return the ledger as plain JSON values, one object a release."""
    return [{"release": type(entry).__name__, **asdict(entry)} for entry in ledger]


def refuse_budget(budget: Budget | None, method: str) -> None:
    """Raise PrivacyError when a budget is given to a recipe that cannot honour it."""
    if budget is not None:
        raise PrivacyError(
            f"a privacy budget (ε = {budget.epsilon:g}) was given to '{method}'",
            "this recipe adds no noise and would make the guarantee false",
            "leave the budget out, or choose a recipe with differential privacy",
        )
