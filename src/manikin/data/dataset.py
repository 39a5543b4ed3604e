"""What every modality has in common, and nothing more; and how subjects are split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.errors import InputError

__all__ = ["Dataset", "Schema", "split_subjects"]


@runtime_checkable
class Schema(Protocol):
    """Public facts about a dataset: kinds, units, vocabularies, bounds, roles. Never a row."""

    @property
    def modality(self) -> str:
        """Name of the modality, as in `synthesizers/<modality>/`."""

    @property
    def declared(self) -> bool:
        """False when inferred: such a schema has seen the data, and DP recipes refuse it."""

    def to_json(self) -> dict[str, object]:
        """Return the schema as plain JSON values."""


@runtime_checkable
class Dataset(Protocol):
    """Rows of some modality, each belonging to a subject."""

    @property
    def schema(self) -> Schema:
        """The public facts."""

    @property
    def subjects(self) -> NDArray[np.int64]:
        """Whose row it is, (rows,); a subject may have many rows."""

    def take(self, subjects: NDArray[np.int64]) -> Self:
        """Return every row of these subjects, in their present order."""


D = TypeVar("D", bound=Dataset)


def split_subjects(data: D, shares: Sequence[float], *, seed: int) -> tuple[D, ...]:
    """Split `data` by subject into parts of about these `shares` (positive, sum at most 1).

    A subject's rows stay together. Every part gets at least one subject.
    Raises InputError when there are fewer subjects than parts.
    """
    if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise InputError(
            f"split shares {tuple(shares)}",
            "shares are positive and sum to at most 1",
            "change the shares",
        )
    everyone = np.unique(data.subjects)
    if everyone.size < len(shares):
        raise InputError(
            f"{everyone.size} subject(s) to split into {len(shares)} parts",
            "each part needs at least one subject",
            "give more rows, or check that the subject column is the right one",
        )
    order = generator(seed, "split").permutation(everyone)
    ends = np.rint(np.cumsum(shares) * everyone.size).astype(int)
    starts = np.concatenate([[0], ends[:-1]])
    # rounding may leave a small part empty; shift its ends so that everyone gets a subject
    for i in range(len(shares)):
        starts[i] = min(max(starts[i], i), everyone.size - len(shares) + i)
        ends[i] = min(max(ends[i], starts[i] + 1), everyone.size - len(shares) + i + 1)
        if i + 1 < len(shares):
            starts[i + 1] = ends[i]
    return tuple(data.take(np.sort(order[a:b])) for a, b in zip(starts, ends, strict=True))
