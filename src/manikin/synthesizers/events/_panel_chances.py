"""Chances of yes and no, given what came before: what is measured, and whether a record ends.

Logistic regressions with Gaussian priors (ridge), fitted by Newton steps. Channels that are nearly
always measured together make a block; blocks are drawn one after another, each given the blocks
drawn before it at the same visit, whether it was measured last time and how often so far, and the
last values known (so that what is missing depends on what was seen).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Chances", "History", "blocks_of"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

ROWS = 30_000  # most visits from which a regression is learnt
SAME = 0.99  # least correlation of two channels' being measured that makes them one block
NEIGHBOURS = 12  # blocks of the same visit that a block looks at
PRIOR_WHEN, PRIOR = 0.5, 6.0  # precision of coefficients: of when it is, and of all else


@dataclass(frozen=True, eq=False)
class History:
    """What is known before a visit's values are drawn; one row a visit or subject."""

    when: Ints  # (rows,)
    facts: Floats  # (rows, facts)
    before: Mask  # (rows, blocks) whether the block was measured last time
    share: Floats  # (rows, blocks) how often so far, from 0 to 1
    last: Floats  # (rows, channels) scores of the last values, 0 for none
    jumped: Floats  # (rows,) 1 where slots of the plan were skipped right before, else 0

    def rows(self, index: Ints) -> History:
        """Return some of the rows."""
        return History(self.when[index], self.facts[index], self.before[index], self.share[index],
                       self.last[index], self.jumped[index])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Chances:
    """Which blocks are measured at a visit, and whether it is the last."""

    block: Ints  # (channels,) of each channel
    within: Floats  # (channels,) chance of a channel where its block is measured
    whens: Floats  # (blocks + 1, whens) the last row is of the record's end
    facts: Floats  # (blocks + 1, facts)
    own: Floats  # (blocks, 2) measured last time, how often so far
    last: Floats  # (blocks + 1, channels)
    others: Floats  # (blocks + 1, blocks) blocks of the same visit, earlier ones only
    jumped: Floats = field(default_factory=lambda: np.zeros(0))  # (blocks + 1,) or none

    @staticmethod
    def fit(history: History, seen: Mask, block: Ints, ends: Mask, n_whens: int, seed: int
            ) -> Chances:  # fmt: skip
        """Learn from visits: `seen` (visits, channels), `ends` whether it was the last."""
        n_blocks, n_facts = int(block.max(initial=-1)) + 1, history.facts.shape[1]
        n_channels = block.size
        blocks = block_mask(seen, block)
        within = np.ones(n_channels)
        for j in range(n_channels):
            there = int(blocks[:, block[j]].sum())
            within[j] = seen[:, j].sum() / max(1, there)
        rows = np.arange(ends.size)
        if rows.size > ROWS:
            rng = np.random.Generator(np.random.Philox(seed))
            rows = np.sort(rng.choice(rows, ROWS, replace=False))
        history, blocks, ends = history.rows(rows), blocks[rows], ends[rows]
        near = _correlated(blocks)
        shape = n_blocks + 1
        whens, facts = np.zeros((shape, n_whens)), np.zeros((shape, n_facts))
        own, others = np.zeros((n_blocks, 2)), np.zeros((shape, n_blocks))
        last = np.zeros((shape, n_channels))
        one_hot, jumped = np.eye(n_whens)[history.when], np.zeros(shape)
        for j in range(shape):
            wanted = ends if j == n_blocks else blocks[:, j]
            chosen = np.argsort(-near[j, :j], kind="stable")[:NEIGHBOURS] if j < n_blocks else (
                np.arange(n_blocks)[:NEIGHBOURS])  # fmt: skip
            of = np.flatnonzero(block == j) if j < n_blocks else np.arange(n_channels)
            of = of[:NEIGHBOURS]
            beside = [history.facts, history.last[:, of], blocks[:, chosen].astype(float)]
            if j < n_blocks:
                beside.append(np.stack([history.before[:, j], history.share[:, j]], 1))
            design = np.concatenate([one_hot, *beside, history.jumped[:, None]], 1)
            *found, jumped[j] = logistic(design, wanted, n_whens)
            cuts = np.cumsum([n_whens, n_facts, of.size, chosen.size])
            whens[j], facts[j] = found[: cuts[0]], found[cuts[0] : cuts[1]]
            last[j, of], others[j, chosen] = found[cuts[1] : cuts[2]], found[cuts[2] : cuts[3]]
            if j < n_blocks:
                own[j] = found[cuts[3] :]
        return Chances(block, within, whens, facts, own, last, others, jumped)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.own)

    def measured(self, history: History, rng: np.random.Generator) -> tuple[Mask, Mask]:
        """Return which blocks and which channels are measured; something always is."""
        n = history.when.size
        blocks = np.zeros((n, self.n_blocks), bool)
        best, least = np.zeros(n, np.int64), np.full(n, -np.inf)
        for j in range(self.n_blocks):
            odds = self._odds(history, j, blocks)
            odds += self.own[j, 0] * history.before[:, j] + self.own[j, 1] * history.share[:, j]
            blocks[:, j] = rng.random(n) < expit(odds)
            best, least = np.where(odds > least, j, best), np.maximum(odds, least)
        none = ~blocks.any(1) if self.n_blocks else np.zeros(n, bool)
        blocks[none, best[none]] = True
        seen = blocks[:, self.block] & (rng.random((n, self.block.size)) < self.within)
        for j in range(self.n_blocks):
            lost = np.flatnonzero(blocks[:, j] & ~seen[:, self.block == j].any(1))
            of = np.flatnonzero(self.block == j)
            seen[np.ix_(lost, of[[np.argmax(self.within[of])]])] = True
        return blocks, seen

    def ends(self, history: History, blocks: Mask, rng: np.random.Generator) -> Mask:
        """Return whose record ends at this visit."""
        odds = self._odds(history, self.n_blocks, blocks)
        return np.asarray(rng.random(odds.size) < expit(odds))

    def _odds(self, history: History, j: int, blocks: Mask) -> Floats:
        odds = self.whens[j][history.when] + history.facts @ self.facts[j]
        used = np.flatnonzero(self.last[j])
        odds += history.last[:, used] @ self.last[j, used]
        beside = np.flatnonzero(self.others[j])
        if self.jumped.size:
            odds += self.jumped[j] * history.jumped
        return np.asarray(odds + blocks[:, beside] @ self.others[j, beside])


def logistic(design: Floats, wanted: Mask, n_whens: int) -> Floats:
    """Return coefficients of a ridge logistic regression; the first are of one-hot whens."""
    n, width = design.shape
    prior = np.full(width, PRIOR)
    prior[:n_whens] = PRIOR_WHEN
    share = (wanted.sum() + 0.5) / (n + 1.0)
    centre = np.zeros(width)
    centre[:n_whens] = np.log(share / (1 - share))  # whens are drawn towards the whole's odds
    if n == 0 or not 0 < wanted.sum() < n:
        centre[:n_whens] *= 1 if n < 50 else 3.0
        return centre
    found = centre.copy()
    y = wanted.astype(np.float64)
    for _ in range(25):
        p = expit(np.clip(design @ found, -30, 30))
        slope = design.T @ (y - p) - prior * (found - centre)
        curve = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior)
        step = np.linalg.solve(curve, slope)
        length = float(np.abs(step).max())
        found += step * min(1.0, 3.0 / max(length, 1e-9))
        if length < 1e-4:
            break
    return found


def blocks_of(seen: Mask) -> Ints:
    """Return the block of each channel: those nearly always measured together share one."""
    n = seen.shape[1]
    near = _correlated(seen)[:n]
    block = np.full(n, -1)
    for j in range(n):
        if block[j] < 0:
            block[(near[j] >= SAME) & (block < 0)] = block.max(initial=-1) + 1
            if block[j] < 0:
                block[j] = block.max() + 1
    return block


def block_mask(seen: Mask, block: Ints) -> Mask:
    """Return which blocks have a measured channel, (rows, blocks)."""
    n_blocks = int(block.max(initial=-1)) + 1
    found = np.zeros((len(seen), n_blocks), bool)
    for j in range(n_blocks):
        found[:, j] = seen[:, block == j].any(1)
    return found


def _correlated(seen: Mask) -> Floats:
    """Return absolute correlations of columns of yes and no; those without variance have none."""
    y = seen.astype(np.float32)
    mean = y.mean(0) if len(y) else np.zeros(y.shape[1])
    both = (y.T @ y) / max(1, len(y)) - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(both), 0))
    scale = np.outer(deviation, deviation)
    found = np.where(scale > 1e-9, np.abs(both) / np.maximum(scale, 1e-9), 0.0)
    always = (deviation <= 1e-4) & (mean > 0.5)
    return np.asarray(found + np.outer(always, always), np.float64)
