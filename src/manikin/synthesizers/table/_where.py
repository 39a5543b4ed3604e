"""Conditions as sets of allowed cells, and latents drawn so that only those are hit.

Sequential importance sampling of a truncated normal: each latent in turn is drawn given those
before it, inside the cells that are still allowed, and the row is weighted by how probable those
were (the GHK simulator: Geweke 1991; Hajivassiliou and McFadden 1998). Resampling by weight then
gives draws from the conditional distribution.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from manikin.data.randomness import generator
from manikin.data.rules import Condition
from manikin.data.schema import Column
from manikin.errors import ConditionError
from manikin.knowledge import conditions
from manikin.synthesizers.table._gaussian import Floats, gibbs, truncated
from manikin.synthesizers.table._latents import Chain, Group, Race, within
from manikin.synthesizers.table._structure import ECHO, Constant, Function, Linear
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["code_weights", "particles"]

Bools: TypeAlias = NDArray[np.bool_]

PLACES = 24  # points within a cell at which a condition is tried
ROUNDS = 5  # times that the number of particles is doubled before a condition is called too rare
LEAST_EFFECTIVE = 30
REFRESH = 4  # Gibbs sweeps that part particles drawn more than once


def code_weights(where: tuple[Condition, ...], encoding: Encoding) -> dict[int, Floats]:
    """Return which codes of the modelled columns can satisfy the conditions: 1 or 0.

    Conditions on dates that depend on another date are left to the drawn rows.
    Raises ConditionError when a column has no value that satisfies its conditions.
    """
    weights: dict[int, Floats] = {}
    for condition in where:
        column = encoding.schema[condition.column]
        if column.kind == "datetime" and encoding.dates.hangs_on_anchor(column.name):
            if column.name in encoding.names and condition.operator not in ("missing", "present"):
                continue
        source, numbers, states = _values(encoding, column)
        fits = np.asarray(conditions.admits(condition, column, numbers, states).any(axis=1))
        if source >= 0:
            if encoding.names[source] in encoding.echoes:  # what it repeats, drawn rows will tell
                fits[np.flatnonzero(encoding.cells[source].tokens == ECHO)] = True
            weights[source] = weights.get(source, np.ones(fits.size)) * fits
            fits = weights[source] > 0
        if not fits.any():
            raise ConditionError(
                f"no value of column '{column.name}' that the model draws satisfies the condition",
                "values that enough subjects of the training data had",
                "loosen the condition",
            )
    return weights


def particles(
    groups: list[Group],
    at: NDArray[np.int64],
    correlation: Floats,
    weights: dict[int, Floats],
    n: int,
    rng: np.random.Generator,
) -> Floats:
    """Draw `n` times the latents `at` of `groups` given that only allowed codes are hit.

    Raises ConditionError when allowed codes meet too rarely for an honest sample.
    """
    if not groups:
        return np.zeros((n, 0))
    place = {int(k): i for i, k in enumerate(at)}
    places = [[place[k] for k in group.latents] for group in groups]
    size = max(n, 1000)
    for _ in range(ROUNDS):
        z, weight = _weighted(groups, places, correlation, weights, size, rng)
        effective = weight.sum() ** 2 / max(float((weight**2).sum()), 1e-300)
        if effective >= min(n, 1000) / 4 and effective >= LEAST_EFFECTIVE:
            break
        size = min(2 * size, 200_000)
    if not effective >= LEAST_EFFECTIVE:
        raise ConditionError(
            "the conditions meet too rarely in the fitted model",
            f"at least {LEAST_EFFECTIVE} of {size} weighted draws",
            "loosen the conditions",
        )
    heap = np.cumsum(weight)
    even = (np.arange(n) + rng.random(n)) / n  # stratified: each particle about as often as due
    chosen = z[np.searchsorted(heap / heap[-1], even, side="right").clip(max=size - 1)]
    chosen = rng.permutation(chosen)
    return _refreshed(groups, places, correlation, chosen, rng)


def _weighted(
    groups: list[Group],
    places: list[list[int]],
    correlation: Floats,
    weights: dict[int, Floats],
    size: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    lower: Floats = np.linalg.cholesky(correlation).astype(np.float64)
    block = 4096  # keeps the (rows, cells) arrays of probabilities small
    z, weight = np.empty((size, len(lower))), np.ones(size)
    for start in range(0, size, block):
        rows = slice(start, min(start + block, size))
        z[rows], weight[rows] = _block(groups, places, lower, weights, rows.stop - rows.start, rng)
    return z, weight


def _block(
    groups: list[Group],
    places: list[list[int]],
    root: Floats,
    weights: dict[int, Floats],
    n: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Draw latents in their order: a latent that two columns share belongs to the first."""
    noise, z, weight = np.zeros((n, len(root))), np.zeros((n, len(root))), np.ones(n)
    done: set[int] = set()
    for group, own in zip(groups, places, strict=True):
        if isinstance(group, Race):  # stands first and is independent within: drawn by its shares
            z[:, own] = _race(group, weights, n, rng)
            for k in own:
                noise[:, k] = (z[:, k] - noise[:, :k] @ root[k, :k]) / root[k, k]
        else:
            _chain(group, own, done, root, weights[group.column], noise, z, weight, rng)
        done |= set(own)
    return z, weight


def _race(race: Race, weights: dict[int, Floats], n: int, rng: np.random.Generator) -> Floats:
    shares = race.joint.copy()
    if race.time in weights:
        shares *= weights[race.time][:, None]
    if race.event in weights:
        shares *= weights[race.event][None, :]
    if not shares.sum() > 0:
        raise ConditionError(
            "no subject has such a time with such an event",
            "times and events that occur together",
            "loosen the conditions",
        )
    flat = rng.choice(shares.size, n, p=shares.ravel() / shares.sum())
    codes = np.full((n, max(race.columns) + 1), -1, dtype=np.int32)
    codes[:, race.time], codes[:, race.event] = np.divmod(flat, shares.shape[1])
    return within(race, codes, rng)


def _chain(
    group: Chain,
    places: list[int],
    done: set[int],
    root: Floats,
    allowed: Floats,
    noise: Floats,
    z: Floats,
    weight: Floats,
    rng: np.random.Generator,
) -> None:
    """Draw the latents of one column inside its allowed cells, and weight the rows, in place."""
    n = len(z)
    ahead = _ahead(group, allowed)
    open_rows = np.ones(n, dtype=bool)  # not yet at a code
    for s, stage in enumerate(group.stages):
        k = places[s]
        value = np.where(stage.codes >= 0, allowed[stage.codes], ahead[s + 1])
        if k in done:  # drawn for another column: only the weight is left to settle
            cell = np.searchsorted(stage.edges[1:-1], z[:, k], side="right")
            onward = stage.codes[cell] < 0
            weight *= np.where(onward, float(ahead[s + 1] > 0), value[cell])
            open_rows &= onward
            continue
        mean, sd = noise[:, :k] @ root[k, :k], root[k, k]
        below = ndtr((stage.edges[None, :] - mean[:, None]) / sd)
        heap = np.cumsum(np.diff(below, axis=1) * value, axis=1)  # (rows, cells)
        total = heap[:, -1]
        cell = (heap <= (rng.random(n) * total)[:, None]).sum(axis=1).clip(max=value.size - 1)
        free = ~open_rows
        low = np.where(free, -np.inf, stage.edges[cell])
        high = np.where(free, np.inf, stage.edges[cell + 1])
        z[:, k] = truncated(mean, float(sd), low, high, rng)
        noise[:, k] = (z[:, k] - mean) / sd
        onward = stage.codes[cell] < 0
        step = np.where(onward, total / max(ahead[s + 1], 1e-300), total)
        weight[open_rows] *= step[open_rows]
        open_rows &= onward


def _ahead(group: Chain, allowed: Floats) -> list[float]:
    """Return, for each stage, the share of its outcomes that are allowed."""
    ahead = [0.0]
    for stage in group.stages[::-1]:
        share = np.diff(ndtr(stage.edges))
        value = np.where(stage.codes >= 0, allowed[stage.codes], ahead[0])
        ahead.insert(0, float(share @ value))
    return ahead


def _refreshed(
    groups: list[Group],
    places: list[list[int]],
    correlation: Floats,
    z: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Redraw latents within the cells that they hit."""
    codes = np.full((len(z), max(max(g.columns) for g in groups) + 1), -1, dtype=np.int32)
    low, high = np.full(z.shape, -np.inf), np.full(z.shape, np.inf)
    for group, own in zip(groups, places, strict=True):
        codes[:, list(group.columns)] = group.decode(z[:, own])[0]
        ends = group.bounds(codes)
        low[:, own] = np.maximum(low[:, own], ends[0])
        high[:, own] = np.minimum(high[:, own], ends[1])
    z = z.copy()
    for _ in range(REFRESH):
        gibbs(z, correlation, low, high, rng)
    return z


def _values(encoding: Encoding, column: Column) -> tuple[int, Floats, NDArray[np.int8]]:
    """Return a column's values at places within each code of the modelled column it hangs on.

    The position of that column (-1: constant), then numbers and states (codes, places).
    """
    rng = generator(0, "where places")  # decimals of values within a cell, nothing else
    item = next((d for d in encoding.derived if d.name == column.name), None)
    if isinstance(item, Constant):
        number = np.nan if item.state else item.number
        return -1, np.full((1, 1), number), np.full((1, 1), item.state, dtype=np.int8)
    source = encoding.names.index(column.name if item is None else item.source)
    size = encoding.cells[source].size
    codes = np.repeat(np.arange(size, dtype=np.int32), PLACES)
    places = np.tile((np.arange(PLACES) + 0.5) / PLACES, size)
    if isinstance(item, Function):
        cells = encoding.function_cells[item.name]
        numbers, states = cells.decode(np.array(item.image, np.int32)[codes], rng, places)
    else:
        numbers, states = encoding.cells[source].decode(codes, rng, places)
    if isinstance(item, Linear):
        numbers = np.round(item.intercept + item.slope * numbers, column.decimals)
    if column.kind == "datetime":
        numbers = encoding.dates.to_seconds(column.name, numbers, None)
    elif not column.is_coded:
        least = -np.inf if column.minimum is None else column.minimum
        numbers = np.clip(numbers, least, np.inf if column.maximum is None else column.maximum)
    return source, numbers.reshape(size, PLACES), states.reshape(size, PLACES)
