"""Histogram gradient-boosted trees as judges, and tables as features for them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Codes, frequent_levels

__all__ = [
    "BRISK",
    "THOROUGH",
    "Boosting",
    "Predict",
    "TreeFeatures",
    "classifier",
    "regressor",
    "written_places",
]

Predict: TypeAlias = Callable[[Floats], Floats]
LEVELS = 254  # that histogram trees take as unordered categories
REMEMBERED = 12  # models: floor, ceiling and several metrics train the same one on real rows
DRAWN = 200_000  # rows above which scikit-learn bins a random sample, and a seed matters


@dataclass(frozen=True)
class Boosting:
    """How boosted trees are grown."""

    rounds: int
    rate: float  # learning rate
    leaves: int  # most of a tree


# scikit-learn's defaults, for judges that look for any difference there is
THOROUGH = Boosting(rounds=100, rate=0.1, leaves=31)
# for models of an outcome: on seven tables at hand as good on held-out rows, at a third of the time
BRISK = Boosting(rounds=50, rate=0.15, leaves=15)


@dataclass(frozen=True)
class TreeFeatures:
    """Columns as histogram trees take them: numbers with NaN, and unordered categories.

    A column of more than 254 levels gives its commonest ones as categories and, beside them, the
    rank of every level by training frequency as a number. Where `written` is asked for, a number
    of more than 254 values is followed by how finely it is written: trees see it in 254 bins, in
    which a wrong last decimal or a missing preference for round numbers would hide.
    """

    columns: tuple[Column, ...]
    cell_of_level: Mapping[str, Codes]
    rank_of_level: Mapping[str, Codes]  # of columns with too many levels only
    written: frozenset[str] = frozenset()

    @staticmethod
    def fit(
        train: Table,
        *,
        leave_out: frozenset[str] = frozenset(),
        written: bool = False,
        seen: tuple[Table, ...] = (),
    ) -> TreeFeatures:
        """Learn level frequencies from the training rows; `leave_out` names columns not to use.

        `seen` are the rows to be told apart: real whole numbers may be few where synthetic ones
        with decimals are many.
        """
        columns = tuple(c for c in train.schema.learned if c.name not in leave_out)
        cells, ranks = {}, {}
        for column in columns:
            if column.kind == "categorical":
                cells[column.name] = frequent_levels(train, column, LEVELS - 1)
                if cells[column.name].size > LEVELS:
                    ranks[column.name] = _ranks(train, column)
        fine = {
            c.name
            for c in columns
            if written and c.is_numeric and _n_values(c, (train, *seen)) > LEVELS
        }
        return TreeFeatures(columns, cells, ranks, frozenset(fine))

    @property
    def unordered(self) -> list[bool]:
        """Whether each feature is an unordered category."""
        kinds: list[bool] = []
        for column in self.columns:
            kinds.append(column.name in self.cell_of_level)
            beside = (column.name in ranked for ranked in (self.rank_of_level, self.written))
            kinds += [False] * (sum(beside) + (len(column.tokens) > 1))
        return kinds

    def matrix(self, table: Table) -> Floats:
        """Return the features, (rows, features)."""
        features: list[Floats] = []
        for column in self.columns:
            name, values = column.name, table.numbers(column.name)
            features.append(_looked_up(values, self.cell_of_level.get(name)))
            if name in self.rank_of_level:
                features.append(_looked_up(values, self.rank_of_level[name]))
            if name in self.written:
                features.append(written_places(values, column))
            if len(column.tokens) > 1:
                features.append(table.state(name).astype(np.float64))
        return np.column_stack(features) if features else np.zeros((table.n_rows, 0))


def written_places(values: Floats, column: Column) -> Floats:
    """Return how finely each number is written: 2 for 0.25, 0 for 7, -1 for 120; NaN for none.

    Of dates, the same for seconds: 3 for whole days, 2 for hours, 1 for minutes, 0 for the rest.
    """
    if column.kind == "datetime":
        units: list[tuple[float, float]] = [(1.0, 60.0), (2.0, 3600.0), (3.0, 86_400.0)]
        places = np.zeros(values.shape)
    else:
        finest = min(column.decimals, 6)
        units = [(float(d), 10.0**-d) for d in range(finest, -4, -1)]
        places = np.full(values.shape, finest + 1.0)
    for place, unit in units:
        with np.errstate(invalid="ignore"):
            steps = values / unit
            off = np.abs(steps - np.rint(steps))
            places[off < 1e-6 + 1e-12 * np.abs(steps)] = place
    return np.where(np.isfinite(values), places, np.nan)


def _n_values(column: Column, tables: tuple[Table, ...]) -> int:
    return int(np.unique(np.concatenate([table.numbers(column.name) for table in tables])).size)


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


def classifier(
    features: Floats, truth: Codes, unordered: list[bool], *, seed: int, how: Boosting = THOROUGH
) -> Predict:
    """Train boosted trees; the result gives every row's class probabilities, (rows, classes).

    Classes are those that occur in `truth`, in ascending order; there are at least two.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    told = _told(features)
    if not told.any():  # every value is absent: nothing to go by but how frequent classes are
        shares = np.unique(truth, return_counts=True)[1] / truth.size
        return lambda rows: np.tile(shares, (rows.shape[0], 1))
    model = _fitted(HistGradientBoostingClassifier, features, truth, unordered, told, how, seed)
    return lambda rows: np.asarray(model.predict_proba(rows[:, told]))


def regressor(
    features: Floats, truth: Floats, unordered: list[bool], *, seed: int, how: Boosting = THOROUGH
) -> Predict:
    """Train boosted trees; the result gives every row's prediction, (rows,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    told = _told(features)
    if not told.any():
        mean = float(truth.mean())
        return lambda rows: np.full(rows.shape[0], mean)
    model = _fitted(HistGradientBoostingRegressor, features, truth, unordered, told, how, seed)
    return lambda rows: np.asarray(model.predict(rows[:, told]))


_models: OrderedDict[bytes, Any] = OrderedDict()  # by digest of what they were trained on
_lock = Lock()


def _fitted(
    kind: Callable[..., Any],
    features: Floats,
    truth: NDArray[Any],
    unordered: list[bool],
    told: NDArray[np.bool_],
    how: Boosting,
    seed: int,
) -> Any:
    """Return the model of these rows, the one in memory if the very same were learned lately."""
    seed = seed if len(truth) > DRAWN else 0
    seen = hashlib.blake2b(repr((kind, unordered, how, seed, features.shape)).encode())
    seen.update(np.ascontiguousarray(features).tobytes())
    seen.update(np.ascontiguousarray(truth).tobytes())
    with _lock:
        if seen.digest() in _models:
            _models.move_to_end(seen.digest())
            return _models[seen.digest()]
    model = kind(
        max_iter=how.rounds,
        learning_rate=how.rate,
        max_leaf_nodes=how.leaves,
        early_stopping=False,
        categorical_features=np.array(unordered)[told],
        random_state=seed,
    ).fit(features[:, told], truth)
    with _lock:
        _models[seen.digest()] = model
        while len(_models) > REMEMBERED:
            _models.popitem(last=False)
    return model


def _told(features: Floats) -> NDArray[np.bool_]:
    """Return which features ever have a value; trees cannot be trained on the others."""
    return np.asarray(~np.isnan(features).all(axis=0))
