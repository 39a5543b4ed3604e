"""The privacy budget that a fit may spend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manikin.errors import PrivacyError

if TYPE_CHECKING:
    from manikin.privacy.ledger import Release

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """ε and δ of (ε, δ)-differential privacy with the subject as its unit.

    δ is fixed beforehand and never computed from the number of subjects, which is itself private.
    `spent` was bought with it before the fit: bounds and categories that no schema declared.
    Raises PrivacyError unless ε > 0 is finite and 0 < δ < 1e-4.
    """

    epsilon: float
    delta: float = 1e-6
    spent: tuple[Release, ...] = ()

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and math.isfinite(self.epsilon) and 0 < self.delta < 1e-4):
            raise PrivacyError(
                f"budget ε = {self.epsilon:g}, δ = {self.delta:g}",
                "ε is positive and finite, δ between 0 and 1e-4",
                "choose ε of about 1 and δ of 1e-6",
            )
