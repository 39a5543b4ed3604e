"""Secret random numbers: from the operating system, reproduced by nothing and recorded nowhere.

They choose which subjects a step sees and what noise hides them; whoever could repeat them could
take them away. The kernel's generator is a cryptographic one. Normal numbers are made from 53-bit
uniform ones (Box and Muller 1958): none is beyond 8.6 standard deviations, and their distribution
is that of real ones but for about 1e-16 of total variation a number. They are made to be rounded to
a lattice at once, so that their last bits tell nothing (Mironov, CCS 2012).
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

__all__ = ["normal", "permutation", "uniform"]

BITS = 53


def uniform(n: int) -> NDArray[np.float64]:
    """Return `n` numbers in (0, 1)."""
    words = np.frombuffer(os.urandom(8 * n), np.uint64) >> np.uint64(64 - BITS)
    return (words.astype(np.float64) + 0.5) * 2.0**-BITS


def normal(n: int) -> NDArray[np.float64]:
    """Return `n` standard normal numbers."""
    half = -(-n // 2)
    radius = np.sqrt(-2 * np.log(uniform(half)))
    angle = 2 * np.pi * uniform(half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


def permutation(n: int) -> NDArray[np.int64]:
    """Return the numbers below `n` in random order."""
    return np.argsort(np.frombuffer(os.urandom(8 * n), np.uint64), kind="stable")
