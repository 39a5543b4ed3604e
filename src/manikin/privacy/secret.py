"""Secret random numbers: reproduced by nothing and recorded nowhere.

They choose which subjects a step sees and what noise hides them; whoever could repeat them could
take them away. They come from OpenSSL's generator for keys (AES in counter mode, seeded by the
operating system: NIST SP 800-90A), which Python's `ssl` opens. Normal numbers are made from 53-bit
uniform ones (the polar method: Marsaglia and Bray 1964); their distribution is that of real ones
but for about 1e-16 of total variation a number. They are made to be rounded to a lattice at once,
so that their last bits tell nothing (Mironov, CCS 2012).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["normal", "permutation", "uniform", "word"]

BITS = 53
ACCEPTED = math.pi / 4  # of the points of a square, those in its circle


def uniform(n: int) -> NDArray[np.float64]:
    """Return `n` numbers in (0, 1)."""
    words = _words(n) >> np.uint64(64 - BITS)
    return (words.astype(np.float64) + 0.5) * 2.0**-BITS


def normal(n: int) -> NDArray[np.float64]:
    """Return `n` standard normal numbers."""
    found = [np.zeros(0)]
    left = n
    while left > 0:
        pairs = math.ceil(left / 2 / ACCEPTED * 1.02) + 16
        points = 2 * uniform(2 * pairs) - 1
        x, y = points[:pairs], points[pairs:]
        s = x * x + y * y
        inside = s < 1
        x, y, s = x[inside], y[inside], s[inside]
        radius = np.sqrt(-2 * np.log(s) / s)
        found += [x * radius, y * radius]
        left -= 2 * s.size
    return np.concatenate(found)[:n]


def permutation(n: int) -> NDArray[np.int64]:
    """Return the numbers below `n` in random order."""
    return np.argsort(_words(n), kind="stable")


def word() -> int:
    """Return a number below 2⁶³."""
    return int(_words(1)[0] >> np.uint64(1))


def _words(n: int) -> NDArray[np.uint64]:
    import ssl  # here: it takes longer to import than most of what never asks for noise

    return np.frombuffer(ssl.RAND_bytes(8 * n), np.uint64)
