"""The network of trajectories: a decoder over places, and heads that draw an event part by part.

p(event | before, z) = p(gap) p(visit | gap) p(code | …) p(text | …) p(value | …) p(duration | …)
each head being given the parts before it. Numbers are a class (none, as before, an atom, or on the
line) and a mixture of logistics on the line of normal scores, whose likelihood is that of the
interval that a written number stands for. Heads begin at the frequencies of what they draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from manikin.nn.mlp import Linear, Norm
from manikin.nn.transformer import Decoder, Embedding, block_causal
from manikin.nn.variational import Normal
from manikin.synthesizers.events._trajectory_prior import Prior
from manikin.synthesizers.events._trajectory_tokens import (
    ATOMS,
    CONTINUOUS,
    FIRST_GAP,
    HISTORY,
    LASTING,
    MOMENTS,
    SHOWN,
    ZERO,
)

__all__ = ["NEVER", "Network", "Places", "Sizes", "loss"]

NEVER = -30.0  # log odds of what is never seen: it is never drawn
PREFIX = 0.3  # share of sequences of which the posterior is shown the beginning only


@dataclass(frozen=True)
class Sizes:
    """How many there are of what."""

    codes: int
    texts: int  # of all codes
    most_texts: int  # of a code
    gap_atoms: int
    value_atoms: int
    duration_atoms: int
    facts: int  # numbers that tell what is known of a subject


@dataclass(frozen=True)
class Places:
    """A batch: rows of places of several subjects, or of one each."""

    words: Tensor  # (rows, places, 3)
    shown: Tensor  # (rows, places, SHOWN)
    remaining: Tensor  # (rows, places)
    facts: Tensor  # (rows, places, facts)
    segment: Tensor  # (rows, places) -1: nothing
    first: Tensor  # (rows, places) where its segment begins
    judged: Tensor  # (rows, places) whether what it foretells counts
    target: Tensor  # (rows, places, 8)
    numbers: Tensor  # (rows, places, 9)
    past: Tensor  # (rows, places, HISTORY)
    # ------ what the counted model is asked, where there is one: see `Prior.foretold`
    kinds: Tensor | None = None  # (moments,)
    had: Tensor | None = None  # (…, 3)
    now: Tensor | None = None  # (…, 2)
    at: Tensor | None = None  # (rows, places)
    opens: Tensor | None = None  # (rows, places)
    after: Tensor | None = None  # (rows, places)


class Mixture:
    """Logistics on a line, of outputs (…, 3 mixed): weights, means, log scales."""

    def __init__(self, outputs: Tensor, moved: Tensor | None = None, wider: float | Tensor = 0.0):
        """Read outputs of a network; means may be `moved`, and scales `wider` (in logarithms)."""
        weights, means, scales = outputs.float().chunk(3, dim=-1)
        means = means if moved is None else means + moved.float()
        self.log_weights = functional.log_softmax(weights, -1)
        self.means = means + torch.linspace(-1, 1, means.shape[-1], device=means.device)
        self.log_scales = (scales + wider - 1.0).clamp(-7.0, 1.0)

    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the log probability of intervals, (…).

        σ(b) - σ(a) = (1 - exp(a - b)) σ(b) σ(-a), which no difference of like numbers enters.
        """
        precision = torch.exp(-self.log_scales)
        a, b = (low[..., None] - self.means) * precision, (high[..., None] - self.means) * precision
        inside = torch.log(-torch.expm1((a - b).clamp(max=-1e-6)))
        each = inside + functional.logsigmoid(b) + functional.logsigmoid(-a)
        return torch.logsumexp(self.log_weights + each, -1)

    def draw(self, rng: torch.Generator, temperature: float) -> Tensor:
        """Draw a number a row."""
        total = self.log_weights.exp().cumsum(-1)
        at = torch.rand(total.shape[:-1], generator=rng, device=total.device)[..., None]
        which = torch.searchsorted(total, at).clamp(max=total.shape[-1] - 1)
        u = torch.rand(which.shape, generator=rng, device=total.device).clamp(1e-5, 1 - 1e-5)
        scale = self.log_scales.gather(-1, which).exp() * temperature
        found: Tensor = self.means.gather(-1, which) + scale * torch.logit(u)
        return found[..., 0]


# ------------------------------------------------------------------ network


class Network(nn.Module):
    """Places to events."""

    code_odds: Tensor
    gap_odds: Tensor
    relation_odds: Tensor
    again_odds: Tensor
    text_odds: Tensor
    value_odds: Tensor
    duration_odds: Tensor

    def __init__(
        self, sizes: Sizes, *, width: int, depth: int, heads: int, latent: int, mixed: int,
        dropout: float, rng: torch.Generator, prior: Prior | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sizes, self.latent, self.dropout, self.prior = sizes, latent, dropout, prior
        self.word = Embedding(sizes.codes + 1, width, rng, scale=0.3)
        self.text = Embedding(sizes.texts + 1, width, rng, scale=0.3)
        self.moment = Embedding(MOMENTS, width, rng, scale=0.1)
        self.shown = Linear(SHOWN, width, rng, scale=1.7)
        self.facts = Linear(max(sizes.facts, 1), width, rng, scale=1.7)
        self.traits = Linear(latent, width, rng, scale=1.7)
        self.count = Linear(3, width, rng, scale=1.7)
        self.read = Linear(width, width, rng, scale=1.7)
        self.posterior = Linear(width + 1, 2 * latent, rng)
        self.decoder = Decoder(width, depth, heads, rng, dropout=dropout)
        # ------ gap
        self.gap = Linear(width, FIRST_GAP + sizes.gap_atoms + 3 * mixed, rng, scale=0.0)
        self.gap_kind = Embedding(FIRST_GAP + sizes.gap_atoms, width, rng, scale=0.3)
        self.gap_score = Linear(2, width, rng)
        # ------ visit and code
        self.norm = Norm(width)
        self.middle = Linear(width, width, rng, scale=1.7)
        self.relation = Linear(width, 3, rng, scale=0.0)
        self.relation_kind = Embedding(3, width, rng, scale=0.3)
        self.codes = Linear(width, sizes.codes, rng, scale=0.0)
        # ------ what the event bears
        self.code_kind = Embedding(sizes.codes, width, rng, scale=0.5)
        self.last_text = Embedding(sizes.texts + 1, width, rng, scale=0.3)
        self.past = Linear(HISTORY + latent, width, rng, scale=1.7)
        self.bearing = Linear(width, width, rng, scale=1.7)
        self.texts = Linear(width, 1 + sizes.most_texts, rng, scale=0.0)
        self.text_kind = Embedding(sizes.texts + 1, width, rng, scale=0.3)
        self.inner = Linear(width, width, rng, scale=1.7)
        direct = width + HISTORY + latent
        self.value = Linear(direct, ATOMS + sizes.value_atoms + 3 * mixed, rng, scale=0.0)
        # ------ each code's own: how far a value keeps to the last one, to their mean, to traits
        self.keeps = Embedding(sizes.codes, 3 * mixed, rng, scale=0.0)
        self.loads = Embedding(sizes.codes, latent, rng, scale=0.1)
        self.value_score = Linear(2, width, rng)
        self.duration = Linear(width, ATOMS + sizes.duration_atoms + 3 * mixed, rng, scale=0.0)
        for name, shape in (
            ("code", (sizes.codes,)),
            ("gap", (FIRST_GAP + sizes.gap_atoms,)),
            ("relation", (3,)),
            ("again", (sizes.codes, 2)),  # whether a code is there twice at one time
            ("text", (sizes.codes, 1 + sizes.most_texts)),
            ("value", (sizes.codes, ATOMS + sizes.value_atoms)),
            ("duration", (sizes.codes, ATOMS + sizes.duration_atoms)),
        ):
            self.register_buffer(f"{name}_odds", torch.zeros(shape))

    # -------------------------------------------------------------- places

    def events(self, words: Tensor, shown: Tensor) -> Tensor:
        """Map what places show to vectors, (rows, places, width)."""
        found: Tensor = self.word(words[..., 0]) + self.text(words[..., 1])
        found = found + self.moment(words[..., 2]) + self.shown(shown)
        return found

    def whole(self, events: Tensor, facts: Tensor, z: Tensor, remaining: Tensor) -> Tensor:
        """Add whose places they are, and how many events remain (-1: nobody knows)."""
        left = remaining.clamp(min=0).float()
        known = (remaining >= 0).float()
        count = torch.stack([known, known * torch.log1p(left) / 2, known / (1 + left)], -1)
        found: Tensor = events + self.facts(facts) + self.traits(z) + self.count(count)
        return found

    def traits_of(self, events: Tensor, seen: Tensor) -> Normal:
        """Return q(z | events), (rows, places): `seen` (rows, places, places) says of which."""
        share = seen.float()
        count = share.sum(-1, keepdim=True)
        pooled = (share @ functional.silu(self.read(events))) / count.clamp(min=1)
        return Normal.of(self.posterior(torch.cat([pooled, torch.log1p(count) / 3], -1)))

    # -------------------------------------------------------------- heads

    @property
    def own_odds(self) -> Tensor:
        """Log frequencies of codes, and of their being there twice at a time, (codes, 2)."""
        return torch.stack([self.code_odds, self.again_odds[:, 1]], 1)

    def gaps(self, h: Tensor, more: Tensor | None = None) -> tuple[Tensor, Mixture]:
        """Return log odds of kinds of gaps, and how long one is.

        `more` is, by counts, the log odds that the moment goes on; NaN where none has begun.
        """
        out = self.gap(h)
        kinds = self.gap_odds.numel()
        logits = out[..., :kinds] + self.gap_odds
        if more is not None and self.prior is not None:
            others = torch.cat([self.gap_odds[:ZERO], self.gap_odds[ZERO + 1 :]]).logsumexp(0)
            going = others + self.prior.weights[2] * torch.nan_to_num(more)
            moved = torch.where(more.isnan(), 0.0, going - self.gap_odds[ZERO])
            here = torch.arange(kinds, device=h.device) == ZERO
            logits = logits + here * moved[..., None]
        return logits, Mixture(out[..., kinds:])

    def code_logits(self, u: Tensor, foretold: Tensor | None) -> Tensor:
        """Return log odds of codes: residuals of what counts foretell, or of frequencies."""
        found: Tensor = self.codes(u) + (self.code_odds if foretold is None else foretold)
        return found

    def after_gap(self, h: Tensor, kind: Tensor, score: Tensor) -> Tensor:
        """Return what is known once the gap is."""
        lasting = (kind == LASTING).float()
        more = self.gap_score(torch.stack([lasting, lasting * score], -1))
        h = h + self.gap_kind(kind) + more
        found: Tensor = h + functional.silu(self.middle(self.norm(h)))
        return found

    def after_relation(self, u: Tensor, relation: Tensor) -> Tensor:
        """Return what is known once it is settled at which visit the event is."""
        found: Tensor = u + self.relation_kind(relation)
        return found

    def of_code(
        self, u: Tensor, code: Tensor, last_text: Tensor, past: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what is known once the code is, and what goes to the value directly."""
        direct = torch.cat([past, z], -1)
        v = u + self.code_kind(code) + self.last_text(last_text) + self.past(direct)
        return v + functional.silu(self.bearing(v)), direct

    def text_logits(self, v: Tensor, code: Tensor) -> Tensor:
        """Return log odds of no text, and of each of the code's."""
        found: Tensor = self.texts(v) + self.text_odds[code]
        return found

    def values(
        self, v: Tensor, direct: Tensor, code: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor, Mixture]:
        """Return what is known once the text is; log odds of kinds of values; how great one is."""
        w = v + self.text_kind(text)
        w = w + functional.silu(self.inner(w))
        out = self.value(torch.cat([w, direct], -1))
        kinds = self.value_odds.shape[1]
        to_last, to_mean, wider = self.keeps(code).chunk(3, dim=-1)
        score, mean, z = direct[..., 1:2], direct[..., 2:3], direct[..., HISTORY:]
        moved = to_last * score + to_mean * mean + (self.loads(code) * z).sum(-1, keepdim=True)
        mixture = Mixture(out[..., kinds:], moved, wider)
        return w, out[..., :kinds] + self.value_odds[code], mixture

    def durations(
        self, w: Tensor, code: Tensor, score: Tensor, valued: Tensor
    ) -> tuple[Tensor, Mixture]:
        """Return log odds of kinds of durations, and how long one is."""
        more = self.value_score(torch.stack([valued, valued * score], -1))
        out = self.duration(functional.silu(w + more))
        kinds = self.duration_odds.shape[1]
        return out[..., :kinds] + self.duration_odds[code], Mixture(out[..., kinds:])


# ------------------------------------------------------------------ objective


def loss(
    network: Network, batch: Places, rng: torch.Generator, *, free: float, counted: float,
    blind: float,
) -> Tensor:  # fmt: skip
    """Return minus the evidence bound of rows, (rows,), in nats by the events of a usual row.

    `free` nats of a subject's divergence cost nothing; `blind` is the share of subjects of whom it
    is not told how many events remain.
    """
    events = network.events(batch.words, batch.shown)
    seen = _seen(batch, rng, prefixes=network.training)
    posterior = network.traits_of(events, seen)
    noise = torch.randn(posterior.mean.shape, generator=rng, device=events.device)
    z = _of_first(posterior.mean + posterior.log_scale.exp() * noise, batch.first)
    told = torch.rand(batch.first.shape, generator=rng, device=events.device) >= blind
    told = told.gather(1, batch.first)
    remaining = torch.where(told, batch.remaining, -1)
    x = network.whole(events, batch.facts, z, remaining)
    x = _thinned(x, network, rng)
    positions = torch.arange(x.shape[1], device=x.device) - batch.first
    h = network.decoder(x, positions, block_causal(batch.segment), rng)
    losses = _losses(network, batch, h, z)
    total = (losses * batch.judged).sum(1)
    begins = (batch.segment >= 0) & (positions == 0)
    spread = posterior.mean**2 + (2 * posterior.log_scale).exp() - 1 - 2 * posterior.log_scale
    divergence = (0.5 * spread.sum(-1) - free).clamp(min=0) * begins
    return (total + divergence.sum(1)) / counted


def _thinned(x: Tensor, network: Network, rng: torch.Generator) -> Tensor:
    if not (network.training and network.dropout):
        return x
    kept = torch.rand(x.shape, generator=rng, device=x.device) >= network.dropout
    return x * kept / (1 - network.dropout)


def _seen(batch: Places, rng: torch.Generator, *, prefixes: bool) -> Tensor:
    """Return of which places each one's subject is judged: of all, or of its first ones."""
    places = batch.segment.shape[1]
    positions = torch.arange(places, device=batch.segment.device)
    same = batch.segment[:, :, None] == batch.segment[:, None, :]
    same = same & (batch.segment >= 0)[:, None, :]
    if not prefixes:
        return same
    coins = torch.rand((*batch.first.shape, 2), generator=rng, device=same.device)
    coins = _of_first(coins, batch.first)
    size = same.sum(-1)
    share = torch.where(coins[..., 0] < PREFIX, coins[..., 1], 1.0)
    cut = batch.first + (share * size).ceil()
    return same & (positions[None, None, :] < cut[..., None])


def _of_first(values: Tensor, first: Tensor) -> Tensor:
    """Return at each place what its segment's first place has."""
    return values.gather(1, first[..., None].expand(-1, -1, values.shape[-1]))


def _losses(network: Network, batch: Places, h: Tensor, z: Tensor) -> Tensor:
    """Return minus the log probability of what each place foretells, (rows, places)."""
    gap, relation, code, text, value, duration, last_text, text_of_all = batch.target.unbind(-1)
    numbers = batch.numbers
    foretold, more = _foretold(network, batch)
    logits, mixture = network.gaps(h, more)
    found = _kind(logits, gap) - _mass(mixture, numbers[..., 0:3], gap == LASTING)
    u = network.after_gap(h, gap, numbers[..., 0])
    after = (gap > 0).float()  # an event follows; else it is the end
    parts = _kind(network.relation(u) + network.relation_odds, relation)
    u = network.after_relation(u, relation)
    parts = parts + _kind(network.code_logits(u, foretold), code)
    v, direct = network.of_code(u, code, last_text, batch.past, z)
    parts = parts + _kind(network.text_logits(v, code), text)
    w, logits, mixture = network.values(v, direct, code, text_of_all)
    again = batch.past[..., 0] > 0
    parts = parts + _kind(_unless(logits, again), value)
    parts = parts - _mass(mixture, numbers[..., 3:6], value == CONTINUOUS)
    valued = (value > 0).float()
    logits, mixture = network.durations(w, code, numbers[..., 3], valued)
    parts = parts + _kind(logits, duration)
    parts = parts - _mass(mixture, numbers[..., 6:9], duration == CONTINUOUS)
    return found + after * parts


def _foretold(network: Network, batch: Places) -> tuple[Tensor | None, Tensor | None]:
    """Return what counts foretell of codes, and whether moments go on; None without counts."""
    asked = (batch.kinds, batch.had, batch.now, batch.at, batch.opens, batch.after)
    if network.prior is None or any(part is None for part in asked):
        return None, None
    kinds, had, now, at, opens, after = asked
    assert kinds is not None and had is not None and now is not None
    assert at is not None and opens is not None and after is not None
    found, more = network.prior.foretold(kinds, had, now, at, opens, after, network.own_odds)
    return found, torch.where(after >= 0, more, torch.nan)


def _unless(logits: Tensor, again: Tensor) -> Tensor:
    """Return log odds without "as before" where there is no before."""
    blocked = torch.zeros_like(logits)
    blocked[..., 1] = torch.where(again, 0.0, NEVER)
    return logits + blocked


def _kind(logits: Tensor, which: Tensor) -> Tensor:
    logits = logits.float()
    return -functional.log_softmax(logits, -1).gather(-1, which[..., None])[..., 0]


def _mass(mixture: Mixture, numbers: Tensor, there: Tensor) -> Tensor:
    """Return the log probability of numbers, 0 where there is none."""
    low = torch.where(there, numbers[..., 1], -0.1)
    high = torch.where(there, numbers[..., 2], 0.1)
    return torch.where(there, mixture.log_mass(low, high), 0.0)
