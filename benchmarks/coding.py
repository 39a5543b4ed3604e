"""Tables of texts as numbers, in one coding for training, held-out and synthetic rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from experiments import Split

__all__ = ["Coded", "code"]


@dataclass(frozen=True)
class Coded:
    """A table as numbers: categorical cells are codes of one vocabulary, "" included."""

    values: np.ndarray  # (rows, columns) float64; NaN only in numeric columns
    positive: np.ndarray  # (rows,) bool: the outcome of the experiment
    numeric: np.ndarray  # (columns,) bool
    levels: np.ndarray  # (columns,) int; 0 for numeric
    names: tuple[str, ...]


def code(split: Split, synthetic: pd.DataFrame) -> tuple[Coded, Coded, Coded]:
    """Return train, holdout and synthetic rows in one coding."""
    frames = (split.train, split.holdout, synthetic)
    parts: list[list[np.ndarray]] = [[], [], []]
    levels = []
    numeric = np.isin(split.train.columns, split.experiment.numeric)
    for name, is_numeric in zip(split.train.columns, numeric, strict=True):
        if is_numeric:
            columns = [pd.to_numeric(frame[name], errors="coerce") for frame in frames]
            columns = [column.to_numpy(dtype=np.float64, copy=True) for column in columns]
            columns[2] = np.round(columns[2], _decimals(columns[0]))
            levels.append(0)
        else:
            codes, found = pd.factorize(pd.concat([f[name].astype(str) for f in frames]))
            ends = np.cumsum([len(frame) for frame in frames])[:-1]
            columns = [part.astype(np.float64) for part in np.split(codes, ends)]
            levels.append(len(found))
        for part, column in zip(parts, columns, strict=True):
            part.append(column)
    names, positive = tuple(split.train.columns), split.experiment.positive
    train, holdout, drawn = (
        Coded(
            np.column_stack(part),
            frame[split.experiment.target].astype(str).isin(positive).to_numpy(),
            numeric,
            np.array(levels),
            names,
        )
        for part, frame in zip(parts, frames, strict=True)
    )
    return train, holdout, drawn


def _decimals(values: np.ndarray) -> int:
    """Return the most decimal places of a column of numbers."""
    texts = [repr(float(value)) for value in np.unique(values[np.isfinite(values)])]
    places = [len(np.format_float_positional(float(t)).partition(".")[2]) for t in texts]
    return max(places, default=0)
