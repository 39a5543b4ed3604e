"""A fitted process as arrays and JSON values, and back: whatever a stranger's file may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.errors import InputError
from manikin.synthesizer import State
from manikin.synthesizers.events._panel_chances import Chances
from manikin.synthesizers.events._panel_channels import MOST_REPEATS, PARTS, Channel
from manikin.synthesizers.events._panel_facts import MOST_FACTS, Facts
from manikin.synthesizers.events._panel_latent import Latent
from manikin.synthesizers.events._panel_marginals import Marginal, stacked, unstacked
from manikin.synthesizers.events._panel_process import MOST_VISITS, POINTS, Process
from manikin.synthesizers.events._panel_times import Times

__all__ = ["malformed", "process_of", "state_of"]

Floats: TypeAlias = NDArray[np.float64]

LARGEST = 1e15  # of any number in a file: units of time are below it
MOST_CHANNELS, MOST_WHENS, MOST_SCALES = 20_000, 256, 16


def state_of(made: Process, facts: Facts) -> State:
    """Return the process and its facts."""
    times, chances, latent = made.times, made.chances, made.latent
    arrays: dict[str, NDArray[Any]] = {}
    for name, marginals in (("values", made.marginals), ("shifts", times.shift)):
        pieces, sizes = stacked(marginals)
        arrays |= {f"{name}.pieces": pieces, f"{name}.sizes": sizes}
    for owner, part in (("times", times), ("chances", chances), ("latent", latent)):
        for name in _ARRAYS[owner]:
            arrays[f"{owner}.{name}"] = np.ascontiguousarray(getattr(part, name))
    arrays |= {"bend": made.bend, "repeat": made.repeat}
    values = {
        "channels": [[c.code, c.part, c.repeat, c.decimals, list(c.levels), c.after_units]
                     for c in made.channels],
        "facts": facts.to_json(),
        "times": [times.planned, times.steady, times.grid],
        "unit": latent.unit,
        "limits": [made.most_visits, made.longest],
        "terminal": made.terminal.tolist(),
    }  # fmt: skip
    return State(arrays, values)


_ARRAYS = {
    "times": ("centre", "first", "step", "lasting", "width", "measured", "bases"),
    "chances": ("block", "within", "whens", "facts", "own", "last", "others", "jumped"),
    "latent": ("beta", "lively", "effects", "scales", "parts", "spread"),
}


def process_of(state: State, schema: EventSchema) -> tuple[Process, Facts]:
    """Rebuild what `state_of` wrote. Raises InputError for anything else."""
    try:
        return _process_of(state, schema)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise malformed("parts that are not there, or are of the wrong kind") from error


def malformed(what: str) -> InputError:
    """Return the error for a file that nobody's fit wrote."""
    return InputError(f"a model of panels with {what}", "one that was saved", "fit again")


def _process_of(state: State, schema: EventSchema) -> tuple[Process, Facts]:
    values, arrays = state.values, _Arrays(state.arrays)
    channels = tuple(_channel(entry, schema) for entry in values["channels"])
    facts = Facts.from_json(values["facts"])
    n, n_facts = len(channels), len(facts.each)
    if n > MOST_CHANNELS or n_facts > MOST_FACTS:
        raise malformed("too many channels or facts")
    planned, steady, grid = values["times"]
    _within(float(steady), 0, 0.99)
    if type(planned) is not bool or type(grid) is not int or not 0 <= grid <= 10_000:
        raise malformed("an impossible plan")
    whens = len(np.atleast_1d(state.arrays["times.centre"]))
    if not 1 <= whens <= MOST_WHENS:
        raise malformed("an impossible number of slots")
    moves = whens if planned else 2
    bases = whens if planned and len(np.atleast_1d(state.arrays["times.bases"])) else 0
    times = Times(
        planned,
        arrays.get("times.centre", (whens,)),
        arrays.get("times.first", (whens,), least=0, most=1),
        arrays.get("times.step", (moves, moves), least=0, most=1),
        _marginals(arrays, "shifts", whens),
        float(steady),
        arrays.get("times.lasting", (whens,), least=-1, most=1),
        grid,
        arrays.get("times.width", (whens if planned else 0,), least=1e-9),
        arrays.get("times.measured", (whens if planned else 0, n), least=1e-12, most=1 - 1e-12),
        arrays.get("times.bases", (bases, 3), least=0, most=1),
    )
    totals = (times.step.sum(1), times.bases.sum(1), times.first.sum())
    if any(np.any(total <= 0) for total in totals) or np.any(np.diff(times.centre) < 0):
        raise malformed("an impossible plan")
    chances = _chances(state, arrays, n, n_facts, whens)
    most, longest = values["limits"]
    _within(float(longest), 0, LARGEST)
    if type(most) is not int or not 0 <= most <= MOST_VISITS:
        raise malformed("an impossible number of visits")
    latent = _latent(state, arrays, n, n_facts, whens)
    bend = arrays.get("bend", (n, POINTS))
    repeat = arrays.get("repeat", (n, 2), least=0, most=1)
    terminal = np.array(values["terminal"], np.int64).reshape(-1)
    if (np.diff(bend, axis=1) < 0).any() or not np.isin(terminal, np.arange(n)).all():
        raise malformed("scores that cannot be bent, or channels that are not there")
    marginals = _marginals(arrays, "values", n)
    for channel, marginal in zip(channels, marginals, strict=True):
        ends = (marginal.low.min(), marginal.high.max())
        if channel.part == "level" and not (0 <= ends[0] and ends[1] <= len(channel.levels) - 1):
            raise malformed("levels that are not there")
    return Process(channels, marginals, times, chances, latent, bend, repeat, most, float(longest),
                   terminal), facts  # fmt: skip


def _latent(state: State, arrays: _Arrays, n: int, n_facts: int, whens: int) -> Latent:
    scales = len(np.atleast_1d(state.arrays["latent.scales"]))
    if not 1 <= scales <= MOST_SCALES:
        raise malformed("an impossible number of time scales")
    unit = float(state.values["unit"])
    _within(unit, 1e-9, LARGEST)
    told = np.asarray(state.arrays["latent.spread"]).size > 0
    return Latent(
        arrays.get("latent.beta", (n, whens + 2 * n_facts)),
        arrays.get("latent.lively", (n, n_facts)),
        arrays.square("latent.effects", (2 * n, 2 * n)),
        arrays.get("latent.scales", (scales,), least=0),
        arrays.square("latent.parts", (scales, n, n)),
        unit,
        arrays.get("latent.spread", (n, n_facts)) if told else np.zeros((0, 0)),
    )


def _chances(state: State, arrays: _Arrays, n: int, n_facts: int, whens: int) -> Chances:
    block = np.asarray(state.arrays["chances.block"])
    if block.shape != (n,) or block.dtype.kind != "i":
        raise malformed("blocks of the wrong kind")
    found = np.unique(block)
    if not np.array_equal(found, np.arange(found.size)):
        raise malformed("blocks that are not numbered")
    n_blocks, jumps = found.size, len(np.atleast_1d(state.arrays["chances.jumped"]))
    return Chances(
        block.astype(np.int64),
        arrays.get("chances.within", (n,), least=0, most=1),
        arrays.get("chances.whens", (n_blocks + 1, whens)),
        arrays.get("chances.facts", (n_blocks + 1, n_facts)),
        arrays.get("chances.own", (n_blocks, 2)),
        arrays.get("chances.last", (n_blocks + 1, n)),
        arrays.get("chances.others", (n_blocks + 1, n_blocks)),
        arrays.get("chances.jumped", (n_blocks + 1,)) if jumps else np.zeros(0),
    )


def _channel(entry: Any, schema: EventSchema) -> Channel:
    code, part, repeat, decimals, levels, after = entry
    whole = all(type(number) is int for number in (code, repeat, decimals, after))
    if not whole or part not in PARTS or not 0 <= code < len(schema):
        raise malformed("a channel that is none")
    if not (0 <= repeat < MOST_REPEATS and 0 <= decimals <= 15 and abs(after) < LARGEST):
        raise malformed("a channel that is none")
    if not all(isinstance(level, str) for level in levels) or (part == "level") != bool(levels):
        raise malformed("a channel whose levels are none")
    return Channel(code, part, repeat, decimals, tuple(levels), after)


def _marginals(arrays: _Arrays, name: str, n: int) -> tuple[Marginal, ...]:
    sizes = np.asarray(arrays.arrays[f"{name}.sizes"])
    if sizes.shape != (n, 2) or sizes.dtype.kind != "i" or (n and sizes.min() < 0):
        raise malformed("distributions of the wrong size")
    if n and (sizes[:, 0].min() < 1 or sizes.max() > 1_000_000 or sizes[:, 1].max() > 15):
        raise malformed("distributions of the wrong size")
    total = int(sizes[:, 0].sum())
    pieces = arrays.get(f"{name}.pieces", (total, 3))
    found = unstacked(pieces, sizes)
    for marginal in found:
        ends = np.stack([marginal.low, marginal.high], 1).ravel()
        if (np.diff(ends) < 0).any() or (marginal.mass < 0).any() or marginal.mass.sum() <= 0:
            raise malformed("distributions that are none")
    return found


def _within(value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise malformed("a number out of its range")


class _Arrays:
    """Arrays of a file, each asked for by its shape."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def get(
        self, name: str, shape: tuple[int, ...], *, least: float = -LARGEST, most: float = LARGEST
    ) -> Floats:
        """Return an array of finite numbers in a range."""
        found = np.asarray(self.arrays[name])
        if found.shape != shape or found.dtype.kind != "f":
            raise malformed(f"'{name}' of the wrong shape or type")
        found = found.astype(np.float64)
        if not np.isfinite(found).all() or (found.size and not (
                least <= found.min() and found.max() <= most)):  # fmt: skip
            raise malformed(f"'{name}' out of its range")
        return found

    def square(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return symmetric matrices."""
        found = self.get(name, shape, least=-1e6, most=1e6)
        if not np.allclose(found, np.swapaxes(found, -1, -2), atol=1e-8):
            raise malformed(f"'{name}' that is not symmetric")
        return found
