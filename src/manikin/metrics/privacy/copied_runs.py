"""Copied runs: do synthetic histories repeat stretches of a training patient's own history?

The longest run of a real subject's events that stands in some synthetic history, event for event:
same code, same time since the event before (in days, to a hundredth), same value or text. Training
subjects and held-out strangers are asked the same of the same synthetic histories, so neither side
has more to be found in:
share   share of training subjects whose longest run is longer than that of all but 1 % of one half
        of the strangers, minus the share of the other half
excess  mean longest run of training subjects, minus that of strangers, in events
auc     chance that a training subject's run covers more of its record than a stranger's (ties ½)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import no_histories, together
from manikin.metrics.intervals import Floats, binomial, difference, recentred
from manikin.metrics.privacy.attacks.roc import Duel, area
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["copied_runs", "longest_runs", "tokens"]

CARD = Card(
    title="Longest copied runs",
    family="privacy",
    better="lower",
    reads="Whether stretches of a training patient's events, with their gaps and values, stand in "
    "synthetic histories more often than a stranger's do: `share` of patients with a longer run "
    "than chance explains, `excess` in events, `auc` 0.5 for no difference. It finds histories "
    "that were learned by heart; a patient may be given away without a run of events.",
    profile="quick",
    modality="events",
)
NAME = "privacy/copied_runs"
SUBJECTS = 4_000  # real ones a side
SYNTHETIC = 1_000_000  # events looked in; of more, those of a random choice of subjects
FEWEST = 20  # strangers
CHANCE = 0.99
DAY_PARTS = 100  # of a day, in which gaps are told apart
DIGITS = 6  # of a value


def copied_runs(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare the longest runs of training subjects and of strangers in synthetic histories."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.share")
    names = [f"{NAME}.{what}" for what in ("share", "excess", "auc")]
    rng = generator(seed, NAME)
    trial = together(trial)
    members, strangers = (_some(part, SUBJECTS, rng) for part in (trial.train, trial.holdout))
    least = min(members.n_subjects, strangers.n_subjects)
    if least < FEWEST or not trial.synthetic.n_events:
        few = f"fewer than {FEWEST} subjects a side, or no synthetic events"
        return tuple(not_estimable(name, few) for name in names)
    drawn = trial.synthetic
    share = SYNTHETIC / drawn.n_events
    drawn = _some(drawn, max(1, int(share * drawn.n_subjects)), rng)
    runs = [longest_runs(part, drawn) for part in (members, strangers)]
    covered = [
        run / np.maximum(part.counts, 1)
        for run, part in zip(runs, (members, strangers), strict=True)
    ]
    return (
        _share(names[0], runs, rng),
        _excess(names[1], runs, rng),
        Score(names[2], *area(Duel(covered[0], covered[1]))),
    )


def _some(events: Events, n: int, rng: np.random.Generator) -> Events:
    if events.n_subjects <= n:
        return events
    return events.take(np.sort(rng.permutation(events.subjects)[:n]))


def tokens(events: Events) -> NDArray[np.uint64]:
    """Return a number for each event, equal where code, gap, value and text are the same."""
    days = np.zeros(events.n_events)
    if events.n_events > 1:
        gap = np.diff(events.time) / np.timedelta64(1, "D")
        days[1:] = np.where(np.diff(events.whose) == 0, gap, 0)
    parts = np.nan_to_num(np.rint(days * DAY_PARTS), nan=-1).astype(np.int64).view(np.uint64)
    found = _mixed(events.code.astype(np.int64).view(np.uint64) * np.uint64(3) + np.uint64(1))
    found = _mixed(found ^ _mixed(parts))
    text = np.array([hash_of(t) for t in (*events.texts, "")], np.uint64)[events.text]
    values = _rounded(events.value).view(np.uint64)
    return _mixed(_mixed(found + _mixed(values)) ^ text)


def hash_of(text: str) -> int:
    """Return 64 bits that depend on the text alone, in this process and in any other."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _rounded(values: Floats) -> Floats:
    """Return values to a few significant digits, so that writing them does not change them."""
    known = np.isfinite(values) & (values != 0)
    size = np.zeros(values.size)
    size[known] = np.floor(np.log10(np.abs(values[known])))
    scale = 10.0 ** (DIGITS - 1 - size)
    # no value, and minus nought, are one number each
    return np.where(np.isfinite(values), np.rint(values * scale) / scale + 0.0, np.nan)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well-mixed bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def longest_runs(real: Events, synthetic: Events) -> Floats:
    """Return how long the longest run of each real subject is in synthetic histories.

    The gap before a run belongs to it only from its second event on. Lengths are looked at one by
    one up to 16, then in steps of a fifth: a longer run counts as the last length that it reaches.
    """
    sides = [(_openings(part), tokens(part), part) for part in (real, synthetic)]
    found = np.zeros(real.n_subjects)
    prefixes = [_prefixes(token) for _, token, _ in sides]
    powers = _powers(max(part.n_events for _, _, part in sides) + 1)
    longest = int(min(part.counts.max(initial=0) for _, _, part in sides))
    for length in _lengths(longest):
        keys, owners = [], []
        for (opening, _, part), prefix in zip(sides, prefixes, strict=True):
            left = part.starts[1:][part.whose] - np.arange(part.n_events)
            at = np.flatnonzero(left >= length)
            # the rest of the run after its first event, and that event without its gap
            rest = prefix[at + length] - prefix[at + 1] * powers[length - 1]
            keys.append(_mixed(rest ^ opening[at]))
            owners.append(part.whose[at])
        hit = np.isin(keys[0], np.unique(keys[1]))
        if not hit.any():
            break
        found[owners[0][hit]] = length
    return found


def _openings(events: Events) -> NDArray[np.uint64]:
    """Return the token of each event as the first of a run: without the gap before it."""
    still = np.full(events.n_events, np.datetime64("2000-01-01", "us"))
    return tokens(Events(
        events.schema, events.static, events.whose, still, events.code, events.value, events.text,
        events.end, events.visit, events.texts,
    ))  # fmt: skip


BASE = np.uint64(0x9E3779B97F4A7C15 | 1)


def _prefixes(token: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return rolling hashes of everything before each place, modulo 2⁶⁴, (events + 1,).

    h_{i+1} = h_i b + t_i, as sums of t_i b^-(i+1) times b^(i+1): b is odd, so it has an inverse.
    """
    n = token.size
    powers, inverse = _powers(n + 1), _powers(n + 1, pow(int(BASE), -1, 2**64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(token * inverse[1:], dtype=np.uint64)])
    return sums * powers


def _powers(n: int, base: int = int(BASE)) -> NDArray[np.uint64]:
    factors = np.full(n, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _lengths(most: int) -> list[int]:
    found, length = [], 1
    while length <= most:
        found.append(length)
        length += 1 if length < 16 else length // 5
    return found


def _share(name: str, runs: list[Floats], rng: np.random.Generator) -> Score:
    """Return how many more training subjects than strangers have an unlikely run."""
    order = rng.permutation(runs[1].size)
    first, second = runs[1][order[: order.size // 2]], runs[1][order[order.size // 2 :]]
    most = float(np.quantile(first, CHANCE, method="higher"))
    hits = [(side > most) for side in (runs[0], second)]
    shares = [float(hit.mean()) for hit in hits]
    limits = [binomial(int(hit.sum()), hit.size) for hit in hits]
    value = shares[0] - shares[1]
    low, high = difference(shares[0], limits[0], shares[1], limits[1])
    return Score(name, value, (min(low, value), max(high, value)))


def _excess(name: str, runs: list[Floats], rng: np.random.Generator) -> Score:
    value = float(runs[0].mean() - runs[1].mean())
    draws = []
    for side in runs:
        weights = rng.multinomial(side.size, np.full(side.size, 1 / side.size), size=300)
        draws.append(weights @ side / side.size)
    return Score(name, value, recentred(value, draws[0] - draws[1]))
