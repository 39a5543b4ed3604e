"""What an attacker hears who stands beside a mechanism: every noisy count, and what it says.

The attacker knows the rows of everybody else, and asks of some rows whether they were in. A noisy
count N of a row's cell is N = what is known + coins of other asked rows + the row itself + noise;
summed over all counts, (N - expected) / variance is the logarithm of the likelihood ratio of "in"
and "out", but for a constant (exactly, for one asked row and Gaussian noise). Training is heard
too: each step's noisy sum x, of which the gradient g of one asked row is a part with probability q:
log(1 - q + q exp((x·g - |g|²/2)/σ²)) is the logarithm of the step's likelihood ratio.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.privacy.rows import Rows
from manikin.privacy.training import Training

__all__ = ["codes_of", "hearing", "replaced"]

Codes = NDArray[np.int64]  # (rows, columns)


@contextlib.contextmanager
def hearing(asked: Codes, known: Codes) -> Iterator[NDArray[np.float64]]:
    """Yield a score for each asked row, (asked,), that grows while noisy counts are heard."""
    scores = np.zeros(len(asked))
    coded: dict[int, tuple[Codes, Codes]] = {}
    kept: list[Rows] = []  # so that no other object takes its place in memory
    counts, coarser = Rows.counts, Rows.coarser

    def of(rows: Rows) -> tuple[Codes, Codes]:
        return coded.get(id(rows), (asked, known))

    def add(noisy: Any, cells: Any, others: Any, noise: float) -> None:
        """Count a release whose cells the asked and the known rows are in."""
        crowd = np.bincount(cells, minlength=noisy.size)[cells] - 1
        expected = np.bincount(others, minlength=noisy.size)[cells] + crowd / 2
        scores[:] += (noisy.ravel()[cells] - expected) / (noise + crowd / 4)

    def counts_(self: Rows, columns: Any, *, rho: float, what: str, groups: Any = ()) -> Any:
        noisy = counts(self, columns, rho=rho, what=what, groups=groups)
        add(
            noisy, *(_cells(side, columns, groups, noisy.shape) for side in of(self)), 1 / (2 * rho)
        )
        return noisy

    def coarser_(self: Rows, maps: Any) -> Rows:
        made = coarser(self, maps)
        coded[id(made)] = tuple(  # type: ignore[assignment]
            np.stack([to[side[:, j]] for j, to in enumerate(maps)], axis=1) for side in of(self)
        )
        kept.append(made)
        return made

    draw, noised = Training.draw, Training.noised
    came: dict[int, bool] = {}  # whether the asked row is in a training's present step

    def draw_(self: Training) -> Any:
        """Hand out the asked row at every step, so that its gradient is known; note who came."""
        codes, _ = draw(self)
        came[id(self)] = len(codes) > 0
        return of(self.rows)[0].astype(codes.dtype), np.zeros(1, np.int64)

    def noised_(self: Training, total: Any, *, clip: float) -> Any:
        """Noise what the step's rows truly say, and weigh what comes out against both worlds."""
        noisy = noised(self, total if came[id(self)] else np.zeros_like(total), clip=clip)
        q, variance = self.sampling_probability, (self.noise_multiplier * clip) ** 2
        with np.errstate(divide="ignore"):
            parts = np.log1p(-q), np.log(q) + (noisy @ total - total @ total / 2) / variance
        scores[:] += np.logaddexp(*parts)
        return noisy

    alone = len(asked) == 1 and not len(known)  # else a step's sum is of many unknown gradients
    training = {"draw": draw_, "noised": noised_} if alone else {}
    with (
        replaced(Rows, counts=counts_, coarser=coarser_),
        replaced(Training, **training),
    ):
        yield scores


def _cells(side: Codes, columns: Sequence[int], groups: Any, shape: tuple[int, ...]) -> Codes:
    codes = [side[:, j] for j in columns]
    if groups:
        codes = [to[code] for to, code in zip(groups, codes, strict=True)]
    return np.ravel_multi_index(codes, shape).astype(np.int64)


def codes_of(table: Table) -> Codes:
    """Return the public codes of a table's rows."""
    from manikin.synthesizers.table._public import public_encoding

    return public_encoding(table.schema).encode(table, seed=0).astype(np.int64)


@contextlib.contextmanager
def replaced(owner: Any, **new: Any) -> Iterator[None]:
    """Replace attributes of a class or module while the context lasts."""
    own = vars(owner)
    old = {name: own[name] for name in new if name in own}
    try:
        for name, value in new.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in new:
            if name in old:
                setattr(owner, name, old[name])
            else:  # it was inherited
                delattr(owner, name)
