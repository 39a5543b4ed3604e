"""Combining the results of several synthetic copies into one estimate with an honest interval.

An analysis is run on each of m copies: estimates q_1 … q_m with variances u_1 … u_m. Their mean is
the estimate; its variance depends on how the copies were made. With ū the mean of u, b the variance
of q between copies, and k = synthetic rows in a copy / real rows fitted to:

posterior   T_f = (1 + 1/m) b - ū, Student's t with (m - 1)(1 - ū / ((1 + 1/m) b))² degrees of
            freedom, at least 1 (Raghunathan, Reiter and Rubin, J. Off. Stat. 2003). Each copy has
            parameters of its own: drawn from their posterior, or fitted to a bootstrap sample of
            the real subjects. b holds V/n_real + V/n_copy and ū is V/n_copy; the difference is
            what the real rows leave unknown. Where it is not above 0, k ū stands in, with m - 1
            degrees of freedom (Reiter, J. Off. Stat. 2002).
plug-in     T_s = ū (k + 1/m), normal (Raab, Nowok and Dibben, J. Priv. Confid. 2016). One fit to
            the real rows, m draws from it: the copies share the fit's error V/n_real = k ū, which
            no variance between them shows; drawing adds V/n_copy/m = ū/m.

Which applies here: every synthesizer of this package fits once and draws, so copies from one fit
are plug-in copies; copies from refits, each to a bootstrap sample of subjects, follow the posterior
rule. T_s further assumes an efficient model that holds the analysis: right for parametric and
saturated ones, too small for generators that learn slowly or stop early (Decruyenaere et al., UAI
2024), so of such copies prefer refits, and check `coverage`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from manikin.errors import InputError

__all__ = ["Combined", "combine"]

Rule = Literal["posterior", "plug-in"]
Floats = NDArray[np.float64]

ASSUMES = {
    "posterior": "each copy comes from parameters of its own: a posterior draw, or a refit to a "
    "bootstrap sample of the real subjects",
    "plug-in": "all copies are drawn from one fit, by an efficient model that holds the analysis; "
    "too narrow for generators that stop early or are penalised, such as deep ones",
}


@dataclass(frozen=True)
class Combined:
    """What m copies say together, one entry an estimate.

    `fallback` marks where T_f was negative and its replacement stands.
    """

    value: Floats
    error: Floats
    low: Floats
    high: Floats
    degrees: Floats  # of freedom; infinite for the normal
    fallback: NDArray[np.bool_]
    rule: Rule
    assumes: str


def combine(
    estimates: ArrayLike,
    variances: ArrayLike,
    *,
    rule: Rule,
    n_real: float,
    n_copy: float,
    level: float = 0.95,
) -> Combined:
    """Combine estimates and variances of m copies, each (m,) or (m, estimates).

    `n_real` is how many rows the synthesizer was fitted to, `n_copy` how many a copy has. Raises
    InputError for fewer than two copies (one is enough for plug-in), shapes that differ, or
    variances that are none.
    """
    q, u = (np.atleast_1d(np.asarray(part, dtype=np.float64)) for part in (estimates, variances))
    _check(q, u, rule, n_real, n_copy, level)
    one = q.ndim == 1
    q, u = (part.reshape(part.shape[0], -1) for part in (q, u))
    m, k = q.shape[0], n_copy / n_real
    value, within = q.mean(axis=0), u.mean(axis=0)
    fallback = np.zeros(value.shape, dtype=np.bool_)
    if rule == "plug-in":
        total = within * (k + 1 / m)
        degrees = np.full(value.shape, math.inf)
    else:
        spread = (1 + 1 / m) * q.var(axis=0, ddof=1)
        fallback = spread <= within
        total = np.where(fallback, k * within, spread - within)
        degrees = (m - 1) * (1 - within / np.where(fallback, np.inf, spread)) ** 2
        degrees = np.where(fallback, m - 1, np.maximum(degrees, 1.0))
    error = np.sqrt(total)
    half = error * stats.t.ppf((1 + level) / 2, degrees)
    parts = (value, error, value - half, value + half, degrees)
    value, error, low, high, degrees = (part[0] if one else part for part in parts)
    fell = fallback[0] if one else fallback
    return Combined(value, error, low, high, degrees, fell, rule, ASSUMES[rule])


def _check(q: Floats, u: Floats, rule: str, n_real: float, n_copy: float, level: float) -> None:
    if rule not in ASSUMES:
        raise InputError(
            f"a rule '{rule}'",
            f"one of: {', '.join(ASSUMES)}",
            "say how the copies were made: plug-in for draws from one fit",
        )
    if q.shape != u.shape or q.ndim > 2:
        raise InputError(
            f"estimates of shape {q.shape} and variances of shape {u.shape}",
            "the same shape: (copies,) or (copies, estimates)",
            "give one variance (a squared standard error) for every estimate",
        )
    fewest = 1 if rule == "plug-in" else 2
    if q.shape[0] < fewest:
        raise InputError(
            f"{q.shape[0]} copies",
            f"at least {fewest} for the {rule} rule, better 10 or more",
            "draw more copies",
        )
    if not (np.isfinite(q).all() and np.isfinite(u).all() and (u >= 0).all()):
        raise InputError(
            "estimates or variances that are missing, infinite or below 0",
            "finite estimates and variances of 0 or more",
            "leave out what a copy could not estimate, or draw copies with more rows",
        )
    if not (n_real > 0 and n_copy > 0 and 0 < level < 1):
        raise InputError(
            f"n_real={n_real:g}, n_copy={n_copy:g}, level={level:g}",
            "row counts above 0 and a level between 0 and 1",
            "correct the value",
        )
