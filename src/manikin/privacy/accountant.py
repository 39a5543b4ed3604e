"""What the releases of a ledger cost together, and what that means against an attacker.

Two accountants count every ledger: Rényi differential privacy, and privacy loss distributions where
each mechanism has one. They must agree, and the larger number is reported. All of it is composition
over add-or-remove neighbours, adaptively chosen.

Reference  Mironov, "Rényi differential privacy", CSF 2017; Canonne, Kamath and Steinke, NeurIPS
           2020 (Prop. 12: RDP to (ε, δ)); Meiser and Mohammadi, CCS 2018, and Koskela et al.,
           AISTATS 2020 (privacy loss distributions), both as `dp_accounting` has them; Rogers and
           Steinke, "A better privacy analysis of the exponential mechanism" (2021): ε²/8-zCDP;
           Kairouz, Oh and Viswanath, ICML 2015, Theorem 2.1 (the attacker's trade-off)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.errors import MissingExtra, PrivacyError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Choice, Gaussian, Keys, Laplace, NonPrivate, Release, Sampled

__all__ = ["Spent", "least_noise", "most_rho", "rho_of", "spent", "true_positives", "zcdp_epsilon"]

ORDERS = 1.0 + np.logspace(-3, 4, 400)  # Rényi orders that are tried
# ... of ledgers with sampling: whole ones, of which the sums are finite
SAMPLED_ORDERS = np.concatenate([np.arange(2.0, 129.0), 2.0 ** np.arange(7.5, 11, 0.5)]).round()
MOST_NOISE, CLOSE = 1e6, 1e-3  # of training: standard deviations that are tried, how finely
NO_PROMISE = 30.0  # ε from which on distributions of privacy loss are as long as they say little
AGREE = 1.02  # the tighter accountant may be above the looser one by rounding at most


@dataclass(frozen=True)
class Spent:
    """(ε, δ) of a ledger; `rdp` and `pld` are what each accountant has, None where it has not."""

    epsilon: float
    delta: float
    rdp: float
    pld: float | None


def zcdp_epsilon(rho: float, delta: float) -> float:
    """Return the ε at `delta` of anything that is `rho`-zCDP: the least over Rényi orders."""
    if rho == 0:
        return 0.0
    alpha = ORDERS
    found = rho * alpha + np.log1p(-1 / alpha) - (math.log(delta) + np.log(alpha)) / (alpha - 1)
    return max(0.0, float(found.min()))


def most_rho(epsilon: float, delta: float) -> float:
    """Return the largest zCDP parameter whose ε at `delta` is at most `epsilon`."""
    low, high = 0.0, epsilon + 1.0  # ε ≥ ρ always
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if zcdp_epsilon(middle, delta) <= epsilon else (low, middle)
    return low


def rho_of(release: Release) -> float:
    """Return the zCDP parameter of a release; of `Keys`, outside its own δ. Infinite: none."""
    match release:
        case Gaussian():
            return release.count / (2 * release.noise_multiplier**2)
        case Laplace():
            return release.count / (2 * release.noise_multiplier**2)  # ε-DP is ε²/2-zCDP
        case Choice():
            return release.count * release.epsilon**2 / 8
        case Keys():
            return 1 / (2 * release.noise_multiplier**2)
        case _:
            return math.inf


def spent(ledger: Iterable[Release], delta: float) -> Spent:
    """Return what a ledger costs at `delta`; infinite where something is not protected.

    Raises PrivacyError when the accountants contradict each other, MissingExtra without the
    library.
    """
    return _spent(tuple(ledger), delta)


@lru_cache(maxsize=64)
def _spent(entries: tuple[Release, ...], delta: float) -> Spent:
    if any(isinstance(entry, NonPrivate) for entry in entries):
        return Spent(math.inf, delta, math.inf, None)
    if not entries:
        return Spent(0.0, delta, 0.0, 0.0)
    left = delta - sum(entry.delta for entry in entries if isinstance(entry, Keys))
    if left <= 0:
        return Spent(math.inf, delta, math.inf, None)
    rdp = _rdp(entries, left)
    # the exponential mechanism has no tight privacy loss distribution: only as any ε-DP would
    exact = not any(isinstance(entry, Choice) for entry in entries)
    pld = _pld(entries, left) if exact and rdp < NO_PROMISE else None
    if pld is not None and pld > AGREE * rdp + 0.01:
        raise PrivacyError(
            f"two accountants that contradict each other: ε = {pld:.4g} and {rdp:.4g}",
            "the distribution of privacy loss is the tighter one",
            "do not release; report this with the ledger",
        )
    return Spent(max(rdp, pld or 0.0), delta, rdp, pld)


def least_noise(
    ledger: Iterable[Release], budget: Budget, *, sampling_probability: float, steps: int,
    what: str = "training",
) -> float:  # fmt: skip
    """Return the least noise multiplier at which `steps` of training fit beside a ledger.

    Raises PrivacyError when none does.
    """
    before = tuple(ledger)

    def trained(noise: float) -> tuple[Release, ...]:
        return (*before, Sampled(what, sampling_probability, noise, steps))

    rho, delta = sum(rho_of(one) for one in before), budget.delta
    delta -= sum(one.delta for one in before if isinstance(one, Keys))

    def fits(noise: float) -> bool:  # by the looser accountant's sums, without its library
        alpha = SAMPLED_ORDERS
        rdp = rho * alpha + steps * _sampled_rdp(sampling_probability, noise)
        found = rdp + np.log1p(-1 / alpha) - (math.log(delta) + np.log(alpha)) / (alpha - 1)
        return float(found.min()) <= budget.epsilon

    if delta <= 0:
        raise _too_little(budget)
    low, high = 0.0, 1.0
    while not fits(high):
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise _too_little(budget)
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    while spent(trained(high), budget.delta).epsilon > budget.epsilon:
        high *= 1 + CLOSE
    return high


def _too_little(budget: Budget) -> PrivacyError:
    return PrivacyError(
        f"training for which too little is left of ε = {budget.epsilon:g}",
        "a share of the budget that is more than rounding",
        "give a larger budget, or ask for fewer releases",
    )


def _sampled_rdp(q: float, noise: float) -> NDArray[np.float64]:
    """Return the Rényi divergence of one step on samples, at each of the whole orders.

    Mironov, Talwar and Zhang (2019), §3.3: (α - 1) RDP = log Σ_k C(α, k) (1 - q)^(α - k) q^k
    exp((k² - k) / 2σ²).
    """
    from scipy.special import gammaln, logsumexp

    alpha = SAMPLED_ORDERS
    if q >= 1:
        return np.asarray(alpha / (2 * noise**2))
    k = np.arange(alpha.max() + 1)
    left = np.maximum(alpha[:, None] - k, 0)
    logs = gammaln(alpha + 1)[:, None] - gammaln(k + 1) - gammaln(left + 1)
    logs += (alpha[:, None] - k) * math.log1p(-q) + k * math.log(q) + (k**2 - k) / (2 * noise**2)
    return np.asarray(logsumexp(np.where(k <= alpha[:, None], logs, -np.inf), axis=1) / (alpha - 1))


def true_positives(false_positives: float, epsilon: float, delta: float) -> float:
    """Return the most true positives that any membership attack reaches under (ε, δ).

    Kairouz, Oh and Viswanath (2015), Theorem 2.1: at a rate of false positives.
    """
    if math.isinf(epsilon):
        return 1.0
    upper = math.exp(min(epsilon, 700)) * false_positives + delta
    other = 1 - math.exp(-epsilon) * (1 - delta - false_positives)
    return float(np.clip(min(upper, other), false_positives, 1.0))


# ---------------------------------------------------------------- the two accountants


def _rdp(entries: tuple[Release, ...], delta: float) -> float:
    library = _library()
    sampled = any(isinstance(entry, Sampled) for entry in entries)
    orders = SAMPLED_ORDERS if sampled else ORDERS
    accountant = library.rdp.RdpAccountant(orders.tolist(), _neighbours(library))
    prices = [rho_of(entry) for entry in entries]
    together = math.fsum(price for price in prices if math.isfinite(price))
    if together:  # one event: Rényi divergences of zCDP add up at every order
        accountant.compose(library.dp_event.ZCDpEvent(rho=together))
    for entry, price in zip(entries, prices, strict=True):
        if math.isinf(price):
            accountant.compose(*_event(library, entry))
    return float(accountant.get_epsilon(delta))


def _pld(entries: tuple[Release, ...], delta: float) -> float:
    library = _library()
    accountant = library.pld.PLDAccountant(neighboring_relation=_neighbours(library))
    normal = [rho_of(entry) for entry in entries if isinstance(entry, Gaussian | Keys)]
    if normal:  # several Gaussian mechanisms are exactly one (Dong, Roth and Su 2022, Cor. 3.3)
        one = library.dp_event.GaussianDpEvent(1 / math.sqrt(2 * math.fsum(normal)))
        accountant.compose(one)
    for entry in entries:
        if not isinstance(entry, Gaussian | Keys):
            accountant.compose(*_event(library, entry))
    return float(accountant.get_epsilon(delta))


def _event(library: Any, entry: Release) -> tuple[Any, int]:
    """Return a release as the accountants' library knows it, and how often it happened."""
    match entry:
        case Gaussian():
            return library.dp_event.GaussianDpEvent(entry.noise_multiplier), entry.count
        case Laplace():
            return _pure(library, 1 / entry.noise_multiplier), entry.count
        case Choice():
            return _pure(library, entry.epsilon), entry.count
        case Keys():
            return library.dp_event.GaussianDpEvent(entry.noise_multiplier), 1
        case Sampled():
            gaussian = library.dp_event.GaussianDpEvent(entry.noise_multiplier)
            sampled = library.dp_event.PoissonSampledDpEvent(entry.sampling_probability, gaussian)
            return sampled, entry.steps
    raise PrivacyError("a release without protection", "protected ones", "count the others")


def _pure(library: Any, epsilon: float) -> Any:
    """Return what dominates every ε-DP mechanism: a loss of ε or -ε, as one subject's geometric."""
    return library.dp_event.DiscreteLaplaceDpEvent(noise_parameter=epsilon, sensitivity=1)


def _neighbours(library: Any) -> Any:
    return library.NeighboringRelation.ADD_OR_REMOVE_ONE


def _library() -> Any:
    try:
        import dp_accounting
        from dp_accounting import dp_event, pld, rdp  # noqa: F401  (now the package has them)
    except ImportError:
        raise MissingExtra("counting a privacy budget", "dp") from None
    return dp_accounting
