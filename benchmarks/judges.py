"""The judges of the benchmark, the same for ours and for every peer.

They see texts as any reader of the files would. Numbers are first rounded to the decimals of the
training column: several peers draw 63.4187 for an age, and a judge would see nothing else.
Everything is scored against held-out rows; only copies and nearness speak of training rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from coding import Coded, code
from experiments import Split
from utility import auc, utility

__all__ = ["Judged", "copied", "detection_score", "judge", "nearer_share", "null"]


@dataclass(frozen=True)
class Judged:
    """The scores of one method on one split; NaN where it has no meaning."""

    detection: float  # 1 - mean over folds of (2 max(.5, AUC) - 1), LightGBM, vs holdout
    auc: float  # mean over folds
    detection_xgb: float  # the same by XGBoost, 3 folds; NaN when it is not installed
    shapes: float
    trends: float
    gap: float  # TRTR - TSTR on the holdout: AUC, or C-index of a survival table
    nearer: float  # share of rows nearer to train than to an equally large holdout
    utility: float  # TSTR itself
    copies: float  # share of rows equal to a training row, less the same of holdout rows


def judge(split: Split, synthetic: pd.DataFrame, real_utility: float, seed: int) -> Judged:
    """Score the synthetic rows; `real_utility` is TRTR of the same split."""
    train, holdout, drawn = code(split, synthetic)
    reached = utility(split.experiment, drawn, holdout)
    return Judged(
        *_detected(drawn, holdout, seed),
        shapes=_shapes(drawn, holdout),
        trends=_trends(drawn, holdout, train),
        utility=reached,
        gap=real_utility - reached,
        nearer=nearer_share(drawn, train, holdout),
        copies=copied(drawn, train) - copied(holdout, train),
    )


def null(split: Split, seed: int) -> Judged:
    """Score fresh real rows (the training half) against the holdout: the ceiling, and TRTR."""
    train, holdout, _ = code(split, split.train.iloc[:1])
    return Judged(
        *_detected(train, holdout, seed),
        shapes=_shapes(train, holdout),
        trends=_trends(train, holdout, train),
        utility=utility(split.experiment, train, holdout),
        gap=0.0,
        nearer=0.5,
        copies=0.0,
    )


# ------------------------------------------------------------------------------------ detection


def detection_score(aucs: list[float]) -> float:
    """Return 1 - mean(2 max(.5, AUC) - 1): 1 cannot be told from real, 0 always can."""
    return 1.0 - float(np.mean([2 * max(0.5, value) - 1 for value in aucs]))


def _detected(drawn: Coded, holdout: Coded, seed: int) -> tuple[float, float, float]:
    size = min(len(drawn.values), len(holdout.values))
    x = np.concatenate([drawn.values[:size], holdout.values[:size]])
    y = np.repeat([1, 0], size)
    by_lightgbm = _fold_aucs(_lightgbm(drawn, seed), x, y, 5, seed)
    try:
        by_xgboost = detection_score(_fold_aucs(_xgboost(drawn), x, y, 3, seed))
    except ImportError:
        by_xgboost = float("nan")
    return detection_score(by_lightgbm), float(np.mean(by_lightgbm)), by_xgboost


Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _fold_aucs(scorer: Scorer, x: np.ndarray, y: np.ndarray, folds: int, seed: int) -> list[float]:
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = []
    for fit, test in splitter.split(x, y):
        found.append(auc(scorer(x[fit], y[fit], x[test]), y[test] == 1))
    return found


def _lightgbm(like: Coded, seed: int) -> Scorer:
    import lightgbm

    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": seed}
    categorical = [int(i) for i in np.flatnonzero(~like.numeric)]

    def scorer(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
        data = lightgbm.Dataset(x, y, categorical_feature=categorical, params={"verbose": -1})
        return np.asarray(lightgbm.train(options, data, num_boost_round=100).predict(test))

    return scorer


def _xgboost(like: Coded) -> Scorer:
    import xgboost

    types = ["q" if numeric else "c" for numeric in like.numeric]

    def scorer(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
        def matrix(rows: np.ndarray, label: np.ndarray | None = None) -> Any:
            return xgboost.DMatrix(rows, label, feature_types=types, enable_categorical=True)

        options = {"objective": "binary:logistic", "nthread": 1, "seed": 0, "tree_method": "hist"}
        return np.asarray(xgboost.train(options, matrix(x, y), 100).predict(matrix(test)))

    return scorer


# ------------------------------------------------------------------------------------- fidelity


def _shapes(drawn: Coded, real: Coded) -> float:
    """Mean over columns of 1 - KS (numeric, or the gap in missing share) or 1 - TV."""
    found = []
    for column, numeric in enumerate(real.numeric):
        a, b = drawn.values[:, column], real.values[:, column]
        if not numeric:
            found.append(1 - _variation(a, b))
            continue
        missing = abs(np.isnan(a).mean() - np.isnan(b).mean())
        found.append(1 - max(missing, _ks(a[~np.isnan(a)], b[~np.isnan(b)])))
    return float(np.mean(found))


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    if not a.size or not b.size:
        return 0.0 if a.size == b.size else 1.0
    points = np.unique(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), points, "right") / x.size for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def _variation(a: np.ndarray, b: np.ndarray) -> float:
    _, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    shares = [
        np.bincount(part, minlength=int(codes.max()) + 1) / max(part.size, 1)
        for part in (codes[: a.size], codes[a.size :])
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _trends(drawn: Coded, real: Coded, train: Coded) -> float:
    """Mean over pairs of columns of 1 - TV of their joint histogram."""
    binned = [_binned(part, train) for part in (drawn, real)]
    width = [int(max(part[:, c].max() for part in binned)) + 1 for c in range(len(real.names))]
    found = []
    for i in range(len(width)):
        for j in range(i):
            a, b = (part[:, i] * width[j] + part[:, j] for part in binned)
            found.append(1 - _variation(a, b))
    return float(np.mean(found))


def _binned(part: Coded, train: Coded) -> np.ndarray:
    """Cut numeric columns at the train deciles; missing is a bin of its own. Codes stay."""
    columns = []
    for column, numeric in enumerate(part.numeric):
        values = part.values[:, column]
        if numeric:
            seen = train.values[:, column]
            seen = seen[~np.isnan(seen)]
            edges = np.unique(np.quantile(seen, np.linspace(0, 1, 11)[1:-1])) if seen.size else []
            values = np.where(np.isnan(values), 10, np.searchsorted(edges, values, "right"))
        columns.append(values.astype(np.int64))
    return np.column_stack(columns)


# -------------------------------------------------------------------------------------- privacy


def _mixed(table: Coded, like: Coded) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers in units of the training range (missing: -1) and codes, for a distance."""
    numbers = table.values[:, table.numeric]
    seen = like.values[:, like.numeric]
    with np.errstate(all="ignore"):
        low = np.nanmin(np.where(np.isnan(seen), np.inf, seen), axis=0, initial=np.inf)
        high = np.nanmax(np.where(np.isnan(seen), -np.inf, seen), axis=0, initial=-np.inf)
        scaled = (numbers - low) / np.where(high > low, high - low, 1.0)
    scaled = np.where(np.isnan(scaled), -1.0, scaled)
    return scaled.astype(np.float32), table.values[:, ~table.numeric].astype(np.int32)


def nearest(drawn: Coded, real: Coded, like: Coded) -> np.ndarray:
    """Return each drawn row's Gower distance to the nearest real row."""
    numbers, codes = _mixed(drawn, like)
    real_numbers, real_codes = _mixed(real, like)
    found = np.empty(len(numbers), dtype=np.float32)
    step = max(1, 4_000_000 // max(1, len(real_numbers)))
    for start in range(0, len(numbers), step):
        part = slice(start, start + step)
        distance = np.zeros((len(numbers[part]), len(real_numbers)), dtype=np.float32)
        for column in range(numbers.shape[1]):
            gap = np.abs(numbers[part, column, None] - real_numbers[None, :, column])
            # 1 at most, also against a missing cell
            distance += np.minimum(gap, 1.0)
        for column in range(codes.shape[1]):
            distance += codes[part, column, None] != real_codes[None, :, column]
        found[part] = distance.min(axis=1)
    return found


def nearer_share(drawn: Coded, train: Coded, holdout: Coded, most_rows: int = 4_000) -> float:
    """Return the share of drawn rows nearer to train than to the holdout, ties counting half."""
    some = dataclasses.replace(drawn, values=drawn.values[:most_rows])
    to_train, to_holdout = nearest(some, train, train), nearest(some, holdout, train)
    return float(np.mean((to_train < to_holdout) + 0.5 * (to_train == to_holdout)))


def copied(drawn: Coded, real: Coded) -> float:
    """Return the share of rows that equal some real row in every cell."""
    both = np.where(np.isnan(d := np.concatenate([real.values, drawn.values])), -np.inf, d)
    _, row = np.unique(both, axis=0, return_inverse=True)
    row = row.ravel()
    return float(np.isin(row[len(real.values) :], row[: len(real.values)]).mean())
