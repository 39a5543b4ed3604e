"""Training on private subjects: samples, and noise, for as many steps as were paid for.

Every step draws a secret coin for each subject (Poisson sampling, as the accountant assumes), hands
the rows of those drawn to whoever clips their gradients, and adds noise to the clipped sum. The
sum is rounded to a lattice first, and so is the noise: a real-valued Gaussian mechanism whose
result is rounded, so nothing is told by the last bits of a floating-point number. What is paid
covers the whole training beforehand; a step more is refused.

Reference  Abadi et al., "Deep learning with differential privacy", CCS 2016 (Alg. 1); Mironov,
           Talwar and Zhang, "Rényi differential privacy of the sampled Gaussian mechanism" (2019);
           Mironov, CCS 2012 (rounding, called snapping there); Ponomareva et al., "How to DP-fy
           ML", JAIR 2023, §4 (pitfalls)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manikin.errors import PrivacyError
from manikin.privacy import secret
from manikin.privacy.account import measuring
from manikin.privacy.rows import Rows

__all__ = ["Training", "train_on"]

Floats = NDArray[np.float64]
FINENESS = 2.0**-20  # of the lattice, by the clipping norm
SLACK = 5e-3  # of the clipping norm: what sums of single-precision numbers may be wrong by


@dataclass
class Training:
    """Steps that have been paid for: each can be drawn once, and noised once."""

    rows: Rows
    sampling_probability: float
    noise_multiplier: float  # standard deviation by the clipping norm
    steps: int
    expected: float  # subjects a step, by the noisy number of subjects: public
    _drawn: int = field(default=0, init=False)
    _noised: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        with measuring():  # whose each row is, as 0, 1 …: the same at every step
            own, self._whose = np.unique(self.rows.subjects, return_inverse=True)
        self._size = own.size

    def draw(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the rows of the next step, (rows, columns), and whose they are, (rows,): 0, 1 …

        There may be none. Raises PrivacyError when all steps have been drawn.
        """
        if self._drawn >= self.steps:
            raise _over(self.steps)
        self._drawn += 1
        with measuring():
            chosen = secret.uniform(self._size) < self.sampling_probability
            kept = np.flatnonzero(chosen[self._whose])
            place = np.cumsum(chosen) - 1  # of those drawn, each one's number
            return self.rows.codes[kept], place[self._whose[kept]]

    def noised(self, total: Floats, *, clip: float) -> Floats:
        """Return a sum (parameters,) of what subjects say, each of norm `clip` at most, with noise.

        Raises PrivacyError for a second sum of the same step, or one that is not finite.
        """
        if self._noised >= self._drawn:
            raise PrivacyError(
                "a second release of one step of training",
                "one for each step, as was paid for",
                "report this: it is a fault of the method, and nothing was released",
            )
        if not np.isfinite(total).all():
            raise PrivacyError(
                "a sum of gradients that is not finite",
                "gradients that were clipped, and left out where they are not numbers",
                "report this: it is a fault of the method, and nothing was released",
            )
        self._noised += 1
        unit = FINENESS * clip
        # rounding moves each of two neighbouring sums by half a unit in every coordinate at most
        far = clip * (1 + SLACK) + unit * math.sqrt(total.size)
        noise = np.rint(secret.normal(total.size) * (self.noise_multiplier * far / unit))
        return np.asarray((np.rint(total / unit) + noise) * unit)


def train_on(rows: Rows, *, batch: float, steps: int, subjects: float, what: str) -> Training:
    """Pay for a training with all that is left of the budget.

    `batch` subjects a step are expected, of `subjects` as noisy counts have it: the true number is
    private, and never used.
    """
    probability = min(1.0, batch / max(subjects, 1.0))
    noise = rows.account.train(what, probability, steps)
    return Training(rows, probability, noise, steps, probability * max(subjects, 1.0))


def _over(steps: int) -> PrivacyError:
    return PrivacyError(
        f"a step of training more than the {steps} that were paid for",
        "as many as were paid for",
        "report this: it is a fault of the method, and nothing was released",
    )
