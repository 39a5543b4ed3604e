"""Detection by a recurrent judge: does a network that reads visit by visit know who is synthetic?

A classifier two-sample test on sequences: a gated recurrent unit (Cho et al., EMNLP 2014) reads the
codes, numbers and gaps of every visit in order of time and is trained to tell synthetic subjects
from as many held-out ones, and scored out of fold. Static facts are not shown. Where
fidelity/history_detection counts what a record comes to and which pairs follow each other, this
judge finds its own features of order, with a training too short to find everything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import no_histories, sides
from manikin.metrics.out_of_fold import Predict, out_of_fold, some_of
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.sequences import LACKING, Read, Reading, can_be_had

__all__ = ["sequence_detection"]

CARD = Card(
    title="Detection by a recurrent judge (C2ST on sequences)",
    family="fidelity",
    better="near ceiling",
    reads="How well a recurrent network that reads a patient's visits one after the other, codes, "
    "numbers and gaps, tells synthetic histories from held-out real ones: AUC 0.5 that it cannot, "
    "1 that it always can. Its training is short: with few patients it may miss what is there.",
    profile="full",
    modality="events",
)
NAME = "fidelity/sequence_detection"
SUBJECTS = 1_000  # a side; of more, a random choice
FOLDS = 3
FEWEST = 20


def sequence_detection(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Train recurrent judges on synthetic against held-out subjects and score them out of fold."""
    name = f"{NAME}.gru"
    if not isinstance(trial.train, Events):
        return no_histories(name)
    if not can_be_had():
        return (not_estimable(name, LACKING),)
    from manikin.metrics.recurrent import taught

    rng = generator(seed, NAME)
    train, *others = sides(trial, seed=seed)
    n = min(*(side.events.n_subjects for side in others), SUBJECTS)
    if n < FEWEST or not all(side.visits.n for side in others):
        few = f"fewer than {FEWEST} subjects a side, or no visits"
        return (not_estimable(name, few),)
    both = [some_of(side, n, rng) for side in others]
    reading = Reading.fit(train)
    read = Read.joined([reading.whole(side, rng) for side in both])

    def trained(rows: NDArray[np.int64], fake: NDArray[np.bool_], drawn: int) -> Predict:
        judge = taught(read, rows, fake, seed=drawn)
        return lambda asked: judge(read, asked)

    return (out_of_fold(name, both, trained, rng, folds=FOLDS),)
