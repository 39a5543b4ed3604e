"""What foretells codes, counted: the structured model whose residuals the decoder learns.

A moment (events of one time and visit) is a set of codes, each there with a chance of its own:

    logit q_d = a_d(kind of moment, when d was last had) + w₁ Σ_{c at the moment so far} M_cd
                + w₂ Σ_{c at the moment before} B_cd + w₃ M_bd, b being the last code before d

a: counted log odds, shrunk to the code's own frequency times what such a past does to codes;
M, B: by how much log odds of d are higher, than by `a`, where c is at the moment, or at the one
before, shrunk to none. Codes of a moment stand in one order, so that of what follows c in it

    p₀(d | c) = q_d Π_{c<e<d} (1 - q_e),    p₀(none follows) = Π_{c<e} (1 - q_e)

which the heads of codes and of gaps begin at; the weights are learnt with the network. Cells
that fewer than k subjects share are not told: their code's frequency, or no lift, is in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from manikin.data.randomness import generator
from manikin.synthesizers.events._trajectory_moments import (
    KINDS,
    LAST,
    STATES,
    Moments,
    kinds_of,
    ragged,
    since,
)
from manikin.synthesizers.events._trajectory_tokens import NAT, Ints

__all__ = ["Prior", "Recalled", "count", "linked_codes", "of_places"]

Singles = NDArray[np.float32]
NEVER = -30.0  # log odds of what is never there
MOST_LINKED = 512  # codes whose lifts on each other are counted, the most frequent ones
MOST_COUNTED = 5000  # subjects that are counted
MOST_PAIRS = 2e7  # pairs of codes at a moment that are counted
SHRUNK = 4.0  # moments of the code's own frequency that are added to a cell
LIFT_SHRUNK = 8.0  # moments at which all is as expected that are added to a pair
CAP = 0.98  # highest chance of a code
OUT_OF_ORDER = -8.0  # log odds of codes that do not follow in order, beside their frequency
SURE = 8.0  # highest log odds that a moment goes on, or does not


def linked_codes(codes: int) -> int:
    """Return how many codes are linked to each other."""
    return min(codes, MOST_LINKED)


# ------------------------------------------------------------------ network


class Prior(nn.Module):
    """Counted log odds of codes; columns stand by rank."""

    odds: Tensor
    lift: Tensor
    led: Tensor
    linked: Tensor
    rank: Tensor

    def __init__(self, codes: int, rank: Tensor) -> None:
        super().__init__()
        links = linked_codes(codes)
        self.register_buffer("odds", torch.full((KINDS, STATES, codes), NEVER))
        self.register_buffer("lift", torch.zeros(links, links))  # M
        self.register_buffer("led", torch.zeros(links, links))  # B
        self.register_buffer("linked", torch.arange(links).float())
        self.register_buffer("rank", rank, persistent=False)  # (codes,)
        # w₁, w₂, of going on, w₃
        self.weights = nn.Parameter(torch.tensor([0.2, 0.2, 1.0, 0.6]))

    def chances(
        self, odds: Tensor, inside: Tensor | None, before: Tensor, after: Tensor | None = None
    ) -> Tensor:
        """Return logit q, (…, codes), of counted odds and sums of lifts, (…, linked).

        `after` (…,) is where the last code of the moment stands among those linked, -1: nowhere.
        """
        sums = self.weights[1] * before
        if inside is not None and after is not None:
            last = self.lift[after.clamp(min=0)] * (after >= 0)[..., None]
            sums = sums + self.weights[0] * inside + self.weights[3] * last
        return odds.index_add(-1, self.linked.long(), sums.to(odds.dtype))

    def chain(self, logits: Tensor, after: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p₀ of codes up to a constant, by number, and the log odds that one follows.

        `after` (…,) is the rank of the last code of the moment, -1 for none; `own` (codes, 2) are
        by number the log frequencies of codes, and of being there twice.
        """
        skipped = functional.logsigmoid(-logits)
        passed = skipped.cumsum(-1)
        at = after.clamp(min=0)[..., None]
        start = torch.where(after[..., None] >= 0, passed.gather(-1, at), 0.0)
        found = functional.logsigmoid(logits) + (passed - skipped) - start
        ranks = torch.arange(logits.shape[-1], device=logits.device)
        usual, twice = torch.empty_like(own).index_copy_(0, self.rank, own).T  # by rank
        other = torch.where(ranks == after[..., None], twice, usual + OUT_OF_ORDER)
        found = torch.where(ranks > after[..., None], found, other)
        none = (passed[..., -1:] - start)[..., 0].clamp(max=-1e-4)
        more = torch.log(-torch.expm1(none)) - none
        return found[..., self.rank], more.clamp(-SURE, SURE)

    def places(self) -> Ints:
        """Return where ranks stand among those that are linked, -1: nowhere, (codes,)."""
        found = np.full(self.rank.numel(), -1)
        found[self.linked.long().numpy()] = np.arange(self.linked.numel())
        return found

    def sound(self) -> bool:
        """Whether counts are such as were counted."""
        most = -NEVER + 1
        bounded = all(bool((part.abs() <= most).all()) for part in (self.odds, self.lift, self.led))
        links = self.linked.long()
        ascending = bool((links.diff() > 0).all()) and bool((links == self.linked).all())
        return bounded and ascending and bool((links >= 0).all() & (links < len(self.rank)).all())

    def foretold(
        self, kinds: Tensor, had: Tensor, now: Tensor, at: Tensor, opens: Tensor, after: Tensor,
        own: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return log p₀ of the codes of places (rows, places, codes), and odds of going on.

        `kinds` (moments,); `had` (…, 3) moment, rank, state; `now` (…, 2) place, rank of what its
        moment has so far; `at`, `opens`, `after` (rows, places): moments, those that begin (-1:
        none does), and ranks of the last code.
        """
        moments, place = len(kinds), had[:, 0]
        odds = self.odds[kinds, 0].clone()
        odds[place, had[:, 1]] = self.odds[kinds[place], had[:, 2], had[:, 1]]
        position = odds.new_full((odds.shape[1],), -1.0)
        links = self.linked.numel()
        position[self.linked.long()] = torch.arange(links, device=odds.device, dtype=odds.dtype)
        position = position.long()
        last = had[had[:, 2] == LAST]
        before = _many_hot(last[:, 0], position[last[:, 1]], (moments, links), odds) @ self.led
        begun, _ = self.chain(self.chances(odds, None, before), torch.full_like(kinds, -1), own)
        flat = at.flatten()
        inside = _many_hot(now[:, 0], position[now[:, 1]], (len(flat), links), odds) @ self.lift
        last_code = after.flatten()
        where = torch.where(last_code >= 0, position[last_code.clamp(min=0)], -1)
        logits = self.chances(odds[flat], inside, before[flat], where)
        found, more = self.chain(logits, last_code, own)
        opening = opens.flatten()[:, None]
        found = torch.where(opening >= 0, begun[opening[:, 0].clamp(min=0)], found)
        return found.view(*at.shape, -1), more.view(at.shape)


def _many_hot(row: Tensor, column: Tensor, shape: tuple[int, int], like: Tensor) -> Tensor:
    """Return ones at some cells; columns below 0 are none."""
    found = like.new_zeros(shape)
    there = column >= 0
    found[row[there], column[there]] = 1.0
    return found


# ------------------------------------------------------------------ places of a batch


def of_places(moments: Moments, last: Ints, coming: Ints) -> tuple[Ints, ...]:
    """Return what `Prior.foretold` asks of places (rows, room): kinds, had, now, at, opens, after.

    `last` is the event that a place shows, `coming` the one that it foretells; -1 for none.
    """
    own, next_one = (moments.of_event[np.maximum(event, 0)] for event in (last, coming))
    current = np.where(last >= 0, own, np.where(coming >= 0, next_one, 0))
    opens = (coming >= 0) & ((last < 0) | (next_one != current))
    both = np.concatenate([current.ravel(), np.where(opens, next_one, current).ravel()])
    asked, at = np.unique(both, return_inverse=True)
    had = np.stack(moments.before(asked), 1)
    shown = np.flatnonzero((last >= 0).ravel())
    of, number = ragged(moments.first[current.ravel()[shown]], last.ravel()[shown] + 1)
    now = np.stack([shown[of], moments.rank[number]], 1)
    local, begun = at.reshape(2, *last.shape)
    after = np.where(last >= 0, moments.rank[np.maximum(last, 0)], -1)
    return moments.kind[asked], had, now, local, np.where(opens, begun, -1), after


# ------------------------------------------------------------------ counting


@torch.no_grad()
def count(prior: Prior, moments: Moments, subjects: Ints, k: int, seed: int) -> None:
    """Put counts of moments of some subjects in a model."""
    order = generator(seed, "trajectory counted").permutation(subjects)[:MOST_COUNTED]
    size = np.bincount(moments.whose, np.diff(moments.first) ** 2.0, moments.own_starts.size - 1)
    order = order[: max(int((np.cumsum(size[order]) <= MOST_PAIRS).sum()), 1)]
    which = moments.of_subjects(order)
    codes, links = prior.odds.shape[2], prior.linked.numel()
    at, rank, state = moments.before(which)
    event_at, event = ragged(moments.first[which], moments.first[which + 1])
    codes_at = np.unique(event_at * codes + moments.rank[event])  # a code counts once a moment
    event_at, own = codes_at // codes, codes_at % codes
    odds = _odds(moments, which, (at, rank, state), (event_at, own), codes, k)
    prior.odds.copy_(torch.from_numpy(odds))
    held = np.bincount(own, minlength=codes)
    linked = np.sort(np.argsort(-held, kind="stable")[:links])
    prior.linked.copy_(torch.from_numpy(linked).float())
    place = np.full(codes, -1)
    place[linked] = np.arange(links)
    last = np.flatnonzero(state == LAST)
    now = (event_at, place[own])
    then = (at[last], place[rank[last]])
    whose = moments.whose[which]
    expected = _expected(
        odds[:, :, linked], moments.kind[which], (at, place[rank], state), now, then
    )
    for buffer, former, chance, ordered in (
        (prior.lift, now, expected[0], True), (prior.led, then, expected[1], False)
    ):  # fmt: skip
        met, people = _met(former, now, whose, links, ordered=ordered)
        shown = (people >= k) | (chance >= 4 * k)
        shown &= np.triu(np.ones_like(shown), 1) if ordered else True  # what stands later
        met = np.where(people >= k, met, 0.0)
        times = np.bincount(former[1][former[1] >= 0], minlength=links)[:, None]
        usual = np.clip(chance / np.maximum(times, 1), 1e-6, CAP)
        share = np.clip((met + LIFT_SHRUNK * usual) / (times + LIFT_SHRUNK), 1e-6, CAP)
        found = np.log(share / (1 - share)) - np.log(usual / (1 - usual))
        buffer.copy_(torch.from_numpy(np.where(shown, found, 0.0).astype(np.float32)))


def _odds(
    moments: Moments, which: Ints, had: tuple[Ints, Ints, Ints], there: tuple[Ints, Ints],
    codes: int, k: int,
) -> Singles:  # fmt: skip
    """Return shrunk log odds, (KINDS, STATES, codes)."""
    kind, shape = moments.kind[which], (KINDS, STATES, codes)
    at, rank, state = had
    n = int(np.prod(shape))
    every = np.bincount((kind[at] * STATES + state) * codes + rank, minlength=n).reshape(shape)
    every[:, 0] = np.bincount(kind, minlength=KINDS)[:, None] - every.sum(1)
    known = at * codes + rank  # ascending: by moment, and by rank within
    key = there[0] * codes + there[1]
    found = np.minimum(np.searchsorted(known, key), max(known.size - 1, 0))
    then = np.where(known[found] == key, state[found], 0) if known.size else np.zeros_like(key)
    cell = (kind[there[0]] * STATES + then) * codes + there[1]
    met = np.bincount(cell, minlength=n).reshape(shape)
    pairs = np.unique(moments.whose[which][there[0]] * n + cell) % n
    people = np.bincount(pairs, minlength=n).reshape(shape)
    by_kind = np.bincount(kind[there[0]] * codes + there[1], minlength=KINDS * codes)
    share = by_kind.reshape(KINDS, 1, codes) / np.maximum(every.sum(1, keepdims=True), 1)
    overall = met.sum((0, 1)) / max(which.size, 1)
    moments_of = np.bincount(kind, minlength=KINDS)[:, None, None]
    share = (share * moments_of + overall * SHRUNK) / (moments_of + SHRUNK)  # of code and kind
    usual = (met.sum(-1) + 0.5) / ((every * share).sum(-1) + 0.5)  # what the past does to codes
    wanted = np.minimum(share * usual[..., None], CAP)
    told = np.where(people >= k, met, np.where(every * wanted >= 4 * k, 0.0, np.nan))
    chance = np.where(
        np.isnan(told), wanted, (np.nan_to_num(told) + SHRUNK * wanted) / (every + SHRUNK)
    )
    chance = np.clip(chance, 1e-9, CAP)
    odds = np.log(chance) - np.log1p(-chance)
    return np.where(overall > 0, odds, NEVER).astype(np.float32)


def _expected(
    odds: Singles, kind: Ints, had: tuple[Ints, Ints, Ints], now: tuple[Ints, Ints],
    then: tuple[Ints, Ints],
) -> list[NDArray[np.float64]]:  # fmt: skip
    """Return how often codes would meet at a moment, and at the next, were they there by `odds`."""
    links, block = odds.shape[2], 4096
    at, place, state = had
    found = [np.zeros((links, links)), np.zeros((links, links))]
    columns = np.arange(links)
    for start in range(0, kind.size, block):
        rows = min(block, kind.size - start)
        states = np.zeros((rows, links), np.int64)
        cut = slice(*np.searchsorted(at, [start, start + rows]))
        some = place[cut] >= 0
        states[at[cut][some] - start, place[cut][some]] = state[cut][some]
        own = odds[kind[start : start + rows, None], states, columns]
        chance = 1 / (1 + np.exp(-own))
        for total, (moment, code) in zip(found, (now, then), strict=True):
            many = np.zeros((rows, links), np.float32)
            cut = slice(*np.searchsorted(moment, [start, start + rows]))
            some = code[cut] >= 0
            many[moment[cut][some] - start, code[cut][some]] = 1.0
            total += many.T @ chance
    return found


def _met(
    former: tuple[Ints, Ints], now: tuple[Ints, Ints], whose: Ints, links: int, *, ordered: bool
) -> tuple[NDArray[np.float64], Ints]:
    """Return at how many moments codes meet, and of how many subjects, (former, now)."""
    starts = np.searchsorted(now[0], np.stack([former[0], former[0] + 1]))
    of, other = ragged(starts[0], starts[1])
    one, two = former[1][of], now[1][other]
    kept = (one >= 0) & (two >= 0) & ((one < two) if ordered else True)
    cell = one[kept] * links + two[kept]
    met = np.bincount(cell, minlength=links * links).reshape(links, links).astype(np.float64)
    pairs = np.unique(whose[former[0][of[kept]]] * (links * links) + cell) % (links * links)
    return met, np.bincount(pairs, minlength=links * links).reshape(links, links)


# ------------------------------------------------------------------ drawing


@dataclass
class Recalled:
    """What is known of subjects who are drawn; ranks are columns."""

    time: Ints  # (rows, codes) when each code was last had, NAT for never
    moment: Ints  # (rows, codes) and at which moment, -1 for never
    number: Ints  # (rows,) of the moment that they are at, -1 before the first
    kind: Ints  # (rows,)
    inside: Singles  # (rows, linked) sum of lifts of what the moment has so far
    led: Singles  # (rows, linked) sum of lifts that the moment will have on the next
    before: Singles  # (rows, linked) and that the one before has on it

    @staticmethod
    def new(rows: int, prior: Prior) -> Recalled:
        """Return what is known of subjects without events."""
        codes, zero = prior.odds.shape[2], np.zeros(rows, np.int64)
        sums = [np.zeros((rows, prior.linked.numel()), np.float32) for _ in range(3)]
        return Recalled(
            np.full((rows, codes), NAT), np.full((rows, codes), -1), zero - 1, zero + 3, *sums
        )

    @staticmethod
    def of(prior: Prior, moments: Moments, subjects: Ints) -> Recalled:
        """Return what is known of subjects who have a record."""
        found = Recalled.new(subjects.size, prior)
        row = np.full(moments.own_starts.size - 1, -1)
        row[subjects] = np.arange(subjects.size)
        pair, moment = np.divmod(moments.had, max(moments.n, 1))
        rows = row[moments.whose[moment]]
        known = np.flatnonzero(rows >= 0)
        rows, rank, moment = rows[known], moments.own[pair[known]], moment[known]
        begun = np.searchsorted(moments.whose, np.arange(row.size + 1))
        local = moment - begun[moments.whose[moment]]
        order = np.argsort(moment, kind="stable")  # later ones are written last
        found.time[rows[order], rank[order]] = moments.time[moment[order]]
        found.moment[rows[order], rank[order]] = local[order]
        found.number = np.diff(begun)[subjects] - 1
        some = np.flatnonzero(found.number >= 0)
        found.kind[some] = moments.kind[begun[subjects[some] + 1] - 1]
        place = prior.places()
        for back, sums in ((0, ("inside", "led")), (1, ("before",))):
            own = np.flatnonzero((local == found.number[rows] - back) & (place[rank] >= 0))
            for name in sums:
                lifts = (prior.lift if name == "inside" else prior.led).numpy()
                np.add.at(getattr(found, name), rows[own], lifts[place[rank[own]]])
        return found

    def __getitem__(self, rows: Ints) -> Recalled:
        """Return some rows, in this order."""
        return Recalled(**{name: values[rows] for name, values in vars(self).items()})

    def begins(self, relation: Ints) -> Ints:
        """Return the kinds of moments that begin with an event so related to visits."""
        return kinds_of(relation, self.number < 0)

    def odds(self, prior: Prior, now: Ints, kind: Ints, moment: Ints) -> Tensor:
        """Return counted odds of codes at moments that are, or would be, now."""
        state = since(now[:, None], self.time, self.moment == moment[:, None] - 1)
        state = np.where(self.moment < 0, 0, state)
        columns = torch.arange(state.shape[1])
        return prior.odds[torch.from_numpy(kind)[:, None], torch.from_numpy(state), columns]

    def at_moment(self, prior: Prior, now: Ints, last: Ints, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p₀ of what follows at the same moment, and the odds that something does."""
        odds = self.odds(prior, now, self.kind, self.number)
        inside, before = torch.from_numpy(self.inside), torch.from_numpy(self.before)
        after = np.where(last >= 0, prior.rank.numpy()[np.maximum(last, 0)], -1)
        where = np.where(after >= 0, prior.places()[np.maximum(after, 0)], -1)
        logits = prior.chances(odds, inside, before, torch.from_numpy(where))
        return prior.chain(logits, torch.from_numpy(after), own)

    def at_next(self, prior: Prior, now: Ints, relation: Ints, own: Tensor) -> Tensor:
        """Return log p₀ of what a moment begins with."""
        odds = self.odds(prior, now, self.begins(relation), self.number + 1)
        logits = prior.chances(odds, None, torch.from_numpy(self.led))
        return prior.chain(logits, torch.full((len(now),), -1), own)[0]

    def move(
        self, prior: Prior, opens: NDArray[np.bool_], now: Ints, relation: Ints, code: Ints
    ) -> None:
        """Tell of an event that each has."""
        self.kind = np.where(opens, self.begins(relation), self.kind)
        self.number = self.number + opens
        self.before = np.where(opens[:, None], self.led, self.before)
        self.inside = np.where(opens[:, None], np.float32(0), self.inside)
        self.led = np.where(opens[:, None], np.float32(0), self.led)
        rows, rank = np.arange(code.size), prior.rank.numpy()[code]
        fresh = self.moment[rows, rank] != self.number  # a code that is there twice leads once
        self.time[rows, rank], self.moment[rows, rank] = now, self.number
        place = prior.places()
        some = np.flatnonzero((place[rank] >= 0) & fresh)
        self.inside[some] += prior.lift.numpy()[place[rank[some]]]
        self.led[some] += prior.led.numpy()[place[rank[some]]]
