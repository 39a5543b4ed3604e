"""Histogram gradient-boosted trees as judges, and tables as features for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Codes, frequent_levels

__all__ = ["TreeFeatures", "classifier", "regressor"]

Predict: TypeAlias = Callable[[Floats], Floats]
LEVELS = 254  # that histogram trees take as unordered categories


@dataclass(frozen=True)
class TreeFeatures:
    """Columns as histogram trees take them: numbers with NaN, and unordered categories.

    A column of more than 254 levels gives its commonest ones as categories and, beside them, the
    rank of every level by training frequency as a number.
    """

    columns: tuple[Column, ...]
    cell_of_level: Mapping[str, Codes]
    rank_of_level: Mapping[str, Codes]  # of columns with too many levels only

    @staticmethod
    def fit(train: Table, *, leave_out: frozenset[str] = frozenset()) -> TreeFeatures:
        """Learn level frequencies from the training rows; `leave_out` names columns not to use."""
        columns = tuple(c for c in train.schema.learned if c.name not in leave_out)
        cells, ranks = {}, {}
        for column in columns:
            if column.kind == "categorical":
                cells[column.name] = frequent_levels(train, column, LEVELS - 1)
                if cells[column.name].size > LEVELS:
                    ranks[column.name] = _ranks(train, column)
        return TreeFeatures(columns, cells, ranks)

    @property
    def unordered(self) -> list[bool]:
        """Whether each feature is an unordered category."""
        kinds: list[bool] = []
        for column in self.columns:
            kinds.append(column.name in self.cell_of_level)
            kinds += [False] * ((column.name in self.rank_of_level) + (len(column.tokens) > 1))
        return kinds

    def matrix(self, table: Table) -> Floats:
        """Return the features, (rows, features)."""
        features: list[Floats] = []
        for column in self.columns:
            name, values = column.name, table.numbers(column.name)
            features.append(_looked_up(values, self.cell_of_level.get(name)))
            if name in self.rank_of_level:
                features.append(_looked_up(values, self.rank_of_level[name]))
            if len(column.tokens) > 1:
                features.append(table.state(name).astype(np.float64))
        return np.column_stack(features) if features else np.zeros((table.n_rows, 0))


def _ranks(train: Table, column: Column) -> Codes:
    values = train.columns[column.name]
    n_levels = max(len(column.categories), int(values.max(initial=-1)) + 1)
    counts = np.bincount(values[values >= 0], minlength=n_levels)
    ranks = np.empty(n_levels, dtype=np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(n_levels)
    return ranks


def _looked_up(values: Floats, table: Codes | None) -> Floats:
    if table is None:
        return values
    known = np.clip(np.nan_to_num(values, nan=0), 0, max(0, table.size - 1)).astype(np.int64)
    found = table[known].astype(np.float64) if table.size else np.zeros(values.shape)
    return np.where(np.isnan(values), np.nan, found)


def classifier(features: Floats, truth: Codes, unordered: list[bool], *, seed: int) -> Predict:
    """Train boosted trees; the result gives every row's class probabilities, (rows, classes).

    Classes are those that occur in `truth`, in ascending order; there are at least two.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    told = _told(features)
    if not told.any():  # every value is absent: nothing to go by but how frequent classes are
        shares = np.unique(truth, return_counts=True)[1] / truth.size
        return lambda rows: np.tile(shares, (rows.shape[0], 1))
    model = HistGradientBoostingClassifier(
        early_stopping=False,
        categorical_features=np.array(unordered)[told],
        random_state=seed,
    ).fit(features[:, told], truth)
    return lambda rows: np.asarray(model.predict_proba(rows[:, told]))


def regressor(features: Floats, truth: Floats, unordered: list[bool], *, seed: int) -> Predict:
    """Train boosted trees; the result gives every row's prediction, (rows,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    told = _told(features)
    if not told.any():
        mean = float(truth.mean())
        return lambda rows: np.full(rows.shape[0], mean)
    model = HistGradientBoostingRegressor(
        early_stopping=False,
        categorical_features=np.array(unordered)[told],
        random_state=seed,
    ).fit(features[:, told], truth)
    return lambda rows: np.asarray(model.predict(rows[:, told]))


def _told(features: Floats) -> NDArray[np.bool_]:
    """Return which features ever have a value; trees cannot be trained on the others."""
    return np.asarray(~np.isnan(features).all(axis=0))
