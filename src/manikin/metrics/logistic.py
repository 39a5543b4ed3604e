"""Logistic regression on whitened features, by L-BFGS with a slight ridge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from manikin.metrics.intervals import Floats

__all__ = ["fit", "predict"]

RIDGE = 1.0  # the prior of every coefficient is normal with this precision; the intercept has none


def fit(features: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Return the intercept, then the coefficients, (1 + features,)."""
    n, y = features.shape[0], truth.astype(np.float64)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slopes = parameters[1:]
        logits = parameters[0] + features @ slopes
        value = float(np.logaddexp(0, logits).sum() - y @ logits) + RIDGE / 2 * float(
            slopes @ slopes
        )
        residual = expit(logits) - y
        slope = np.concatenate([[residual.sum()], features.T @ residual + RIDGE * slopes])
        return value / n, slope / n

    start = np.zeros(1 + features.shape[1])
    options = {"maxiter": 60, "gtol": 1e-5}
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x)


def predict(parameters: Floats, features: Floats) -> Floats:
    """Return every row's probability, (rows,)."""
    return np.asarray(expit(parameters[0] + features @ parameters[1:]))
