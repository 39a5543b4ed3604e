"""Multiple imputation: missing cells drawn given the observed ones, several times over.

Rubin, "Multiple Imputation for Nonresponse in Surveys", Wiley (1987): `m` completed tables, to be
analysed one by one and combined. What is observed comes back as it was in each.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._given as _given
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.knowledge import constraints
from manikin.synthesizers.table._coded import BLOCK, Allowed, CodedModel, Codes

__all__ = ["impute"]


def impute(model: Any, table: Table, *, seed: int, m: int = 5) -> tuple[Table, ...]:
    """Return `m` tables of the model's columns in which missing cells are drawn.

    A column that never had a value in training stays missing. Rules may move drawn cells, never
    observed ones. Raises NotSupported for a model that cannot draw any cells given any others.
    """
    if not isinstance(model, CodedModel):
        raise NotSupported(
            f"{type(model).__name__} does not impute",
            "a model of rows of codes, such as table/arf",
            "fit one of those",
        )
    if m < 1:
        raise InputError(f"{m} completed tables asked for", "one or more", "ask for 5")
    encoding = model.encoding
    first = generator(seed, f"{model.joint.name} impute")
    known = _given.known(encoding, table, first)
    codes, allowed = known.codes.copy(), {}
    for j, (name, cells) in enumerate(zip(encoding.names, encoding.cells, strict=True)):
        if cells.size > cells.n_tokens:
            if name in known.table.columns:
                codes[~known.table.present(name), j] = -1
            if (codes[:, j] < 0).any():
                allowed[j] = np.arange(cells.size) >= cells.n_tokens
    drawn = (_completed(model, known.table, codes, allowed, seed, i) for i in range(m))
    return tuple(drawn)


def _completed(
    model: CodedModel, given: Table, codes: Codes, allowed: Allowed, seed: int, block: int
) -> Table:
    rng = generator(seed, f"{model.joint.name} imputed", block)
    parts = [
        model.joint.complete(codes[start : start + BLOCK], allowed, rng)
        for start in range(0, max(len(codes), 1), BLOCK)
    ]
    whole = np.concatenate(parts)
    made = model.encoding.decode(whole, given.subjects, seed=int(rng.integers(2**62)))
    kept = tuple(c for c in given.schema if not c.is_learned or given.present(c.name).all())
    full = Table(
        TableSchema(kept),
        given.subjects,
        {c.name: given.columns[c.name] for c in kept},
        {name: state for name, state in given.states.items() if name in {c.name for c in kept}},
    )
    made = _given.put_back(model.encoding, made, _given.Known(full, whole))
    made = _observed(made, given)
    made = constraints.enforce(made, model.rules, rng=rng, fixed=frozenset(full.columns))
    return _observed(made, given)


def _observed(made: Table, given: Table) -> Table:
    """Return the table with observed cells as they were given."""
    columns: dict[str, NDArray[Any]] = dict(made.columns)
    states = dict(made.states)
    for name, values in given.columns.items():
        there = given.present(name)
        columns[name] = np.where(there, values, columns[name]).astype(columns[name].dtype)
        if name in states:
            states[name] = np.where(there, given.state(name), states[name]).astype(np.int8)
    return dataclasses.replace(made, columns=columns, states=states)
