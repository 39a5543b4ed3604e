"""Counter-based randomness: every stream is named by what it is for.

Philox-4x64 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3") is keyed by
(seed, purpose) and its counter starts at the block's number, so the stream of one block is the
same whoever draws it and however many workers there are.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["generator"]


def generator(seed: int, purpose: str, block: int = 0) -> np.random.Generator:
    """Return the random stream of `purpose` and `block` under `seed` (any Python int)."""
    digest = hashlib.blake2b(f"{seed}|{purpose}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    # the highest of the four counter words: blocks are 2^192 draws apart
    counter = np.array([0, 0, 0, block], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
