"""Conditions on a table's columns as sets of allowed codes, and when candidates need weights."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from manikin.data.rules import Condition
from manikin.data.table import Table
from manikin.errors import ConditionError
from manikin.knowledge import conditions
from manikin.synthesizers.table._chain import Step
from manikin.synthesizers.table._structure import Constant
from manikin.synthesizers.table.encoding import Encoding

CANDIDATES = 16  # candidates a row where given columns come late in the order
BLOCK = 20_000  # given rows that are worked on at a time
ATTEMPTS = 12  # rounds of candidates before a condition counts as out of reach
PLACES = 9  # values of a cell on which a condition is tried


def late(known: Container[int], stages: Sequence[Step]) -> bool:
    """Whether a known column comes after one that is free, so that candidates need weights."""
    free = False
    for stage in stages:
        if stage.target in known and free:
            return True
        free |= stage.target not in known
    return False


def from_conditions(
    where: tuple[Condition, ...], encoding: Encoding
) -> dict[int, NDArray[np.bool_]]:
    """Return, by modelled column, which of its codes can satisfy the conditions on it.

    Raises ConditionError when a condition cannot hold whatever is drawn.
    """
    masks: dict[int, NDArray[np.bool_]] = {}
    for condition in where:
        checked = conditions.check(condition, encoding.schema)
        name = _source(checked.column, encoding)
        if name is None:
            probe = _probe(encoding, None)
            if not conditions.holds(checked, probe).any():
                raise _unreachable(checked)
            continue
        dated = encoding.schema[checked.column].kind == "datetime"
        if dated and encoding.dates.hangs_on_anchor(name):
            if checked.operator not in ("missing", "present"):
                continue  # depends on the anchor too: seen to after drawing
        j = encoding.names.index(name)
        held = conditions.holds(checked, _probe(encoding, j))
        able = held.reshape(encoding.cells[j].size, PLACES).any(axis=1)
        if name in encoding.echoes:  # what another column says is seen to after drawing
            able |= encoding.echoing(name, _every_code(encoding, j))
        masks[j] = masks.get(j, np.ones(able.size, bool)) & able
        if not masks[j].any():
            raise _unreachable(checked)
    return masks


def _source(name: str, encoding: Encoding) -> str | None:
    """Return the modelled column that decides a column's value; None for a constant one."""
    for item in encoding.derived:
        if item.name == name:
            return None if isinstance(item, Constant) else _source(item.source, encoding)
    return name


def _probe(encoding: Encoding, j: int | None) -> Table:
    """Return a table that shows values of every code of column j in turn."""
    rows = 1 if j is None else encoding.cells[j].size * PLACES
    codes = np.zeros((rows, len(encoding.names)), np.int32)
    positions = {}
    if j is not None:
        codes[:, j] = np.repeat(np.arange(encoding.cells[j].size), PLACES)
        inside = np.tile(np.linspace(0, 1 - 1e-9, PLACES), encoding.cells[j].size)
        positions[encoding.names[j]] = inside
    return encoding.decode(codes, np.arange(rows), seed=0, positions=positions)


def _every_code(encoding: Encoding, j: int) -> NDArray[np.int32]:
    codes = np.zeros((encoding.cells[j].size, len(encoding.names)), np.int32)
    codes[:, j] = np.arange(encoding.cells[j].size)
    return codes


def _unreachable(condition: Condition) -> ConditionError:
    return ConditionError(
        f"no subject can be drawn for whom this holds: {conditions.describe(condition)}",
        "a condition that some value of the column meets, and that enough subjects share",
        "relax the condition, or leave it out",
    )
