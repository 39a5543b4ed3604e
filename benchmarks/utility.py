"""What the synthetic rows are good for: learn from them, predict held-out real rows."""

from __future__ import annotations

import warnings

import numpy as np
from coding import Coded
from experiments import Experiment

__all__ = ["auc", "concordance", "utility"]

MOST_LEVELS = 254  # the classifier takes 255


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve, ties counting half; NaN with one class only."""
    from scipy.stats import rankdata

    n = int(positive.sum())
    if n in (0, positive.size):
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (positive.size - n)))


def utility(experiment: Experiment, fit: Coded, test: Coded) -> float:
    """Return the AUC (of a survival table: the C-index) on `test` of a model made from `fit`."""
    out = {experiment.target, experiment.time, *experiment.hidden}
    features = np.array([i for i, name in enumerate(fit.names) if name not in out])
    if experiment.time is not None:
        return _cox(experiment.time, fit, test, features)
    from sklearn.ensemble import HistGradientBoostingClassifier

    if fit.positive.all() or not fit.positive.any():
        return 0.5
    categorical = ~fit.numeric[features]
    x, x_test = fit.values[:, features].copy(), test.values[:, features].copy()
    for column in np.flatnonzero(categorical):
        _keep_commonest(x[:, column], x_test[:, column])
    model = HistGradientBoostingClassifier(
        categorical_features=categorical, early_stopping=False, random_state=0
    )
    chance = model.fit(x, fit.positive).predict_proba(x_test)[:, 1]
    return auc(chance, test.positive)


def _keep_commonest(codes: np.ndarray, others: np.ndarray) -> None:
    """Number the commonest codes from 0, in place; all other codes share the next number."""
    found, counts = np.unique(codes, return_counts=True)
    kept = np.sort(found[np.argsort(-counts, kind="stable")][: MOST_LEVELS - 1])
    for part in (codes, others):
        place = np.searchsorted(kept, part).clip(max=kept.size - 1)
        part[:] = np.where(kept[place] == part, place, kept.size)


def _cox(time: str, fit: Coded, test: Coded, features: np.ndarray) -> float:
    """Return the C-index on `test` of a Cox model (ridge penalty 0.1) of `fit`."""
    import pandas as pd
    from lifelines import CoxPHFitter

    x, x_test = _design(fit, test, features)
    varies = x.std(axis=0) > 0
    frame = pd.DataFrame(x[:, varies])
    duration = fit.values[:, fit.names.index(time)]
    frame["time"] = np.maximum(duration, 0) + 1e-3
    frame["event"] = fit.positive
    frame = frame[np.isfinite(frame["time"])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of collinear dummies; the penalty takes care of them
        try:
            model = CoxPHFitter(penalizer=0.1).fit(frame, "time", "event")
        except Exception:  # the library raises several kinds; none has any other meaning
            return 0.5
    risk = x_test[:, varies] @ model.params_.to_numpy()
    return concordance(risk, test.values[:, test.names.index(time)], test.positive)


def _design(fit: Coded, test: Coded, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised numbers (missing: median) and one-hot codes of both tables."""
    columns: list[list[np.ndarray]] = [[], []]
    for feature in features:
        a, b = fit.values[:, feature], test.values[:, feature]
        if fit.numeric[feature]:
            centre = np.nanmedian(a) if np.isfinite(a).any() else 0.0
            scale = np.nanstd(a) if np.isfinite(a).any() else 1.0
            for part, values in zip(columns, (a, b), strict=True):
                part.append((np.where(np.isnan(values), centre, values) - centre) / (scale or 1.0))
            continue
        for level in np.unique(a)[1:]:
            columns[0].append((a == level).astype(float))
            columns[1].append((b == level).astype(float))
    return np.column_stack(columns[0]), np.column_stack(columns[1])


def concordance(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    """Return Harrell's C: of comparable pairs, the share in which the higher risk fails first."""
    right = comparable = 0.0
    for i in np.flatnonzero(event):
        later = time > time[i]
        comparable += later.sum()
        right += (risk[later] < risk[i]).sum() + 0.5 * (risk[later] == risk[i]).sum()
    return float(right / comparable) if comparable else float("nan")
