"""Whether a generator has lost modes, and one new start for one that has.

Three figures, each of draws beside the training rows: categories that are never drawn; coverage,
the share of rows that have a draw within their ball to the fifth neighbour (Naeem, Oh, Uh, Choi and
Yoo, ICML 2020, §3.2); and spread, how far draws lie from each other beside how far rows do. Margins
are looked at before they are set to those of training, which would hide what was lost.

A collapsed generator is trained once more from another seed. The better one is taken, and what
happened is written down with the model: reports show it among the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from manikin.data.randomness import generator
from manikin.synthesizer import Progress, Watch, silent
from manikin.synthesizers.table._coded import CodedModel, Codes, Learnt
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._generated import GeneratedJoint, calibrated

__all__ = ["Health", "health", "healthy", "model_of", "watched"]

DRAWS = 2000  # among which a category of COMMON is 20 times expected
COMMON = 0.01  # share of rows from which on a category must not be lost
NEIGHBOURS = 5  # as in the paper
COMPARED = 500  # rows, and draws, whose distances are compared
FEWEST = 30  # rows of which anything can be said

MOST_LOST = 0.10  # share of common categories
LEAST_COVERAGE = 0.25  # of what as many independent rows would cover, 1 - 2^-NEIGHBOURS
LEAST_SPREAD = 0.5


@dataclass(frozen=True)
class Health:
    """What a generator's draws have of the training rows."""

    lost: float  # share of categories of at least COMMON that are never drawn
    coverage: float  # share of training rows that have draws near
    spread: float  # distance of draws to the nearest other, beside that of rows

    @property
    def collapsed(self) -> bool:
        """Whether modes were lost."""
        return self.score < 1

    @property
    def score(self) -> float:
        """The worst of the three beside its bound: below 1 is a collapse."""
        kept = 2.0 if self.lost == 0 else MOST_LOST / self.lost
        return min(kept, self.coverage / LEAST_COVERAGE, self.spread / LEAST_SPREAD)

    def __str__(self) -> str:
        return (
            f"{self.lost:.0%} of common categories never drawn, {self.coverage:.0%} of rows with"
            f" draws near, draws {self.spread:.2f} times as far apart as rows"
        )


def health(dense: Dense, rows: Codes, draws: Codes, rng: np.random.Generator) -> Health:
    """Compare draws with rows."""
    if len(rows) < FEWEST or len(draws) < FEWEST:
        return Health(0.0, 1.0, 1.0)
    ours = dense.categories(_int64(draws)).flatten().bincount(minlength=dense.slots)
    theirs = dense.categories(_int64(rows)).flatten().bincount(minlength=dense.slots)
    common = theirs >= COMMON * len(rows)
    lost = float((ours[common] == 0).double().mean())
    size = min(COMPARED, len(rows), len(draws))
    real, drawn = (
        dense.inputs(_int64(part[rng.choice(len(part), size, replace=False)]))
        for part in (rows, draws)
    )
    among, between = torch.cdist(real, real), torch.cdist(real, drawn)
    ball = among.kthvalue(min(NEIGHBOURS + 1, size), dim=1).values  # itself is the first
    coverage = float((between.amin(1) <= ball).double().mean())
    return Health(lost, coverage, _apart(torch.cdist(drawn, drawn)) / max(_apart(among), 1e-9))


def _apart(distances: Tensor) -> float:
    """Return how far rows lie from their nearest other ones, on average."""
    return float(distances.fill_diagonal_(torch.inf).amin(1).mean())


def watched(watch: Watch, joint: GeneratedJoint, rows: Codes, seed: int) -> Watch:
    """Add the figures of `health` to what a training tells."""
    if watch is silent:
        return watch

    def told(progress: Progress) -> bool | None:
        rng = generator(seed, f"{joint.name} health", progress.step)
        found = health(joint.dense, rows, joint.draw(COMPARED, rng), rng)
        figures = {"lost": found.lost, "coverage": found.coverage, "spread": found.spread}
        return watch(replace(progress, figures={**progress.figures, **figures}))

    return told


def healthy(
    train: Callable[[int], GeneratedJoint], rows: Codes, seed: int, *, again: int
) -> GeneratedJoint:
    """Train from `seed`, and once more from `again` if that collapsed; say so in the notes.

    `train` returns a generator whose margins are still its own.
    """
    first, found = _judged(train, rows, seed)
    if not found.collapsed:
        return first
    second, better = _judged(train, rows, again)
    if not better.collapsed:
        return replace(second, notes=(
            f"Training of the generator collapsed at first ({found}). It was begun again from"
            f" another seed, which held ({better}).",
        ))  # fmt: skip
    if better.score < found.score:
        second, better = first, found
    return replace(second, notes=(
        f"The generator lost modes, and so it did from another seed: {better}. Kinds of people"
        " are missing or too rare in what it draws; take another method, or train for longer.",
    ))  # fmt: skip


def model_of(
    learnt: Learnt,
    joint_of: Callable[[Dense, int], GeneratedJoint],
    train: Callable[[GeneratedJoint, Tensor, int], GeneratedJoint],
    seed: int,
) -> CodedModel:
    """Train a generator on what was learnt, once more if it collapsed, and set its margins.

    `joint_of` builds an untrained one from a seed; `train` is given that, the rows and the seed.
    """
    dense = Dense.of(learnt.encoding.cells)
    untrained = joint_of(dense, seed)
    if not learnt.codes.shape[1]:
        return learnt.model(untrained)
    codes = torch.from_numpy(learnt.codes.astype(np.int64))
    again = int(generator(seed, f"{untrained.name} again").integers(2**63))
    joint = healthy(
        lambda start: train(joint_of(dense, start), codes, start), learnt.codes, seed, again=again
    )
    return learnt.model(calibrated(joint, len(codes), seed))


def _judged(
    train: Callable[[int], GeneratedJoint], rows: Codes, seed: int
) -> tuple[GeneratedJoint, Health]:
    joint = train(seed)
    rng = generator(seed, f"{joint.name} health")
    return joint, health(joint.dense, rows, joint.draw(DRAWS, rng), rng)


def _int64(codes: Codes) -> Tensor:
    return torch.from_numpy(codes.astype(np.int64))
