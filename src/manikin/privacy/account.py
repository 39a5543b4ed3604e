"""A budget being spent: the only place where noise for privacy is drawn.

An account holds what a fit may still spend, in zero-concentrated differential privacy (ρ), and the
releases it has bought. Noise is drawn by OpenDP, over integers and from the operating system's
randomness: no seed reproduces it, none is recorded. What a release may cost is settled before it is
drawn; one that the budget does not cover is refused and nothing is drawn.

Reference  Bun and Steinke, TCC 2016 (zCDP and its composition, Lemma 2.3); Canonne, Kamath and
           Steinke, NeurIPS 2020 (discrete Gaussian; its tail, by Fact 18); OpenDP's proofs of its
           mechanisms; keys by a threshold: Korolova et al., WWW 2009, with Laplace noise; here
           with Gaussian noise, whose tail is lighter, and for several keys a subject (Bun and
           Steinke, §8: ρ and δ add up)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.errors import MissingExtra, PrivacyError
from manikin.privacy.accountant import least_noise, most_rho, rho_of, spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Choice, Gaussian, Keys, Laplace, Release, Sampled

__all__ = ["Account", "measuring", "reading_is_paid"]

ROUNDING = 1e-9  # of the budget, lost to floating point when shares of it are added up
NAMING = 0.1  # share of δ that is kept for naming keys, where a fit will do so
_PAID: ContextVar[bool] = ContextVar("paid", default=False)


@contextmanager
def measuring() -> Iterator[None]:
    """Mark that private rows are read for a release that has been paid for."""
    token = _PAID.set(True)
    try:
        yield
    finally:
        _PAID.reset(token)


def reading_is_paid() -> bool:
    """Whether rows are just now read for a release: what a taint test asks at every read."""
    return _PAID.get()


@dataclass
class Account:
    """What is left of a budget, and what was bought with the rest."""

    budget: Budget
    names: int = 0  # how often keys are to be named: an even share of δ is kept for each time
    releases: list[Release] = field(default_factory=list)  # those that the budget has bought before

    def __post_init__(self) -> None:
        self.releases = [*self.budget.spent, *self.releases]

    @cached_property
    def rho(self) -> float:
        """All that may be spent on releases, in zCDP; without what the budget has bought before."""
        before = self.budget.spent
        used = sum(one.delta for one in before if isinstance(one, Keys))
        delta = self.budget.delta - used - self.names * self.delta_each
        if delta <= 0:
            return 0.0
        whole = most_rho(self.budget.epsilon, delta)
        return max(0.0, whole - sum(map(rho_of, before)))

    @property
    def left(self) -> float:
        """What may still be spent, in zCDP."""
        bought = self.releases[len(self.budget.spent) :]
        return max(0.0, self.rho - sum(rho_of(one) for one in bought))

    @property
    def delta_each(self) -> float:
        """What of δ may be spent each time that keys are named."""
        return NAMING * self.budget.delta / self.names if self.names else 0.0

    def sums(
        self, values: NDArray[np.int64], *, sensitivity: float, rho: float, what: str
    ) -> NDArray[np.int64]:
        """Return integer sums with discrete Gaussian noise, for `rho` of the budget.

        `sensitivity` is the most that one subject changes them, in the Euclidean norm.
        Raises PrivacyError when less is left; then nothing is drawn.
        """
        scale = sensitivity / math.sqrt(2 * _positive(rho))
        self._pay(Gaussian(what, scale / sensitivity))
        return _noised(values, "gaussian", scale)

    def count(self, values: NDArray[np.int64], *, sensitivity: int, epsilon: float, what: str
              ) -> NDArray[np.int64]:  # fmt: skip
        """Return integer counts with discrete Laplace noise, for `epsilon` (ε²/2 of zCDP).

        `sensitivity` is the most that one subject changes them, added up.
        """
        scale = sensitivity / _positive(epsilon)
        self._pay(Laplace(what, scale / sensitivity))
        return _noised(values, "laplace", scale)

    def choose(
        self, scores: NDArray[np.float64], *, sensitivity: float, rho: float, what: str
    ) -> int:
        """Return the index of a high score, by the exponential mechanism, for `rho`.

        `sensitivity` is the most that one subject changes any one score, up or down.
        """
        if not np.isfinite(scores).all() or not scores.size:
            raise PrivacyError(
                "scores to choose by that are not all finite", "one or more finite scores",
                "report this: it is a fault of the mechanism, and nothing was released",
            )  # fmt: skip
        epsilon = math.sqrt(8 * _positive(rho))
        self._pay(Choice(what, epsilon))
        dp = _opendp()
        space = dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.linf_distance(T=float)
        measure = dp.zero_concentrated_divergence()
        return int(
            dp.m.make_noisy_max(*space, measure, scale=2 * sensitivity / epsilon)(
                [float(score) for score in scores]
            )
        )

    def named(
        self, counts: NDArray[np.int64], *, keys_a_subject: int, rho: float, what: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which keys may be named, and their noisy counts; for `rho` and a share of δ.

        `counts[i]` is how many subjects hold the i-th key that was found; a subject holds
        `keys_a_subject` at most. Keys that one subject alone holds pass the threshold with a
        chance of `delta_each`, all of that subject's keys together.
        """
        bought = self.releases[len(self.budget.spent) :]
        if sum(isinstance(one, Keys) for one in bought) >= self.names:
            raise PrivacyError(
                f"keys to be named ('{what}'), and nothing of δ left for it",
                f"as often as the account was opened for: {self.names} times",
                "declare the categories in the schema instead",
            )
        scale = math.sqrt(keys_a_subject / (2 * _positive(rho)))
        above = threshold(scale, self.delta_each, keys_a_subject)
        self._pay(Keys(what, scale / math.sqrt(keys_a_subject), self.delta_each, above))
        noisy = _noised(counts, "gaussian", scale)
        kept = np.flatnonzero(noisy >= above)
        return kept, noisy[kept]

    def train(self, what: str, sampling_probability: float, steps: int) -> float:
        """Pay for steps of training on samples with all that is left; return their noise.

        It is the least standard deviation, by the clipping norm, at which both accountants stay
        within the budget, to one part in a thousand. Raises PrivacyError when nothing is left.
        """
        if self.left <= ROUNDING * self.rho:
            raise PrivacyError(
                f"training ('{what}') with nothing left of ε = {self.budget.epsilon:g}",
                "a share of the budget",
                "give a larger budget, or ask for fewer releases",
            )
        noise = least_noise(
            self.releases, self.budget, sampling_probability=sampling_probability, steps=steps,
            what=what,
        )  # fmt: skip
        self.releases.append(Sampled(what, sampling_probability, noise, steps))
        return noise

    def ledger(self) -> tuple[Release, ...]:
        """Return everything that was bought, like releases joined.

        Raises PrivacyError if the accountants find more than the budget in it.
        """
        found = spent(self.releases, self.budget.delta).epsilon
        if found > self.budget.epsilon * (1 + 1e-6):
            raise PrivacyError(
                f"releases that come to ε = {found:.6g}",
                f"ε = {self.budget.epsilon:g} at most",
                "do not release the model; report this with the ledger",
            )
        return tuple(self.releases)

    def _pay(self, release: Release) -> None:
        price = rho_of(release)
        if not price <= self.left + ROUNDING * self.rho:
            raise PrivacyError(
                f"a release ('{release.what}') that costs ρ = {price:.3g}",
                f"ρ = {self.left:.3g} is left of ε = {self.budget.epsilon:g}",
                "give a larger budget, or ask for fewer releases",
            )
        self.releases.append(release)


def threshold(scale: float, delta: float, keys_a_subject: int) -> float:
    """Return the least noisy count at which a key is named.

    A key of one subject has the count 1, so noise must be t - 1 or more. Discrete Gaussian noise is
    at least m with less chance than the continuous one is at least m - 1 (its sum above m is below
    the integral above m - 1, and its normalising sum is above the integral): δ / keys at most.
    """
    return 2 + math.ceil(-scale * NormalDist().inv_cdf(delta / keys_a_subject))


def _positive(price: float) -> float:
    if not (price > 0 and math.isfinite(price)):
        raise PrivacyError(f"a price of {price:g}", "more than 0, and finite", "correct the price")
    return price


def _noised(values: NDArray[np.int64], kind: str, scale: float) -> NDArray[np.int64]:
    dp = _opendp()
    whole = dp.vector_domain(dp.atom_domain(T="i64"))
    if kind == "gaussian":
        mechanism = dp.m.make_gaussian(whole, dp.l2_distance(T=float), scale=scale)
    else:
        mechanism = dp.m.make_laplace(whole, dp.l1_distance(T="i64"), scale=scale)
    flat = np.ascontiguousarray(values, np.int64).ravel()
    return np.array(mechanism(flat.tolist()), np.int64).reshape(values.shape)


def _opendp() -> Any:
    try:
        import opendp.prelude as dp
    except ImportError:
        raise MissingExtra("noise for differential privacy", "dp") from None
    dp.enable_features("contrib")
    return dp
