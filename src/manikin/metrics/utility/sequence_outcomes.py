"""Outcomes by a recurrent model: TSTR, TRTR and TRTS of a network that reads visit by visit.

The outcomes, moments and held-out rows of utility/outcomes (Esteban, Hyland and Rätsch 2017, whose
judge was recurrent too), foretold by a gated recurrent unit (Cho et al., EMNLP 2014) that reads the
codes, numbers and gaps of the visits so far, after the static facts. Trees are shown counts and
last values; here order within the history can help, and be lacking.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from manikin.data.events import Events
from manikin.metrics.histories import no_histories
from manikin.metrics.intervals import Floats
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.sequences import LACKING, Reading, can_be_had
from manikin.metrics.utility._outcome_tasks import Sides, Task, hidden, outcomes_of
from manikin.metrics.utility._prefixes import Known

__all__ = ["sequence_outcomes"]

CARD = Card(
    title="Outcomes by a recurrent model (TSTR, TRTR, TRTS)",
    family="utility",
    better="near ceiling",
    reads="As outcomes of patients, by a recurrent network in place of boosted trees: how well it "
    "foretells death, readmission, long stays and the named target in held-out real patients, "
    "trained on synthetic histories (tstr) and on real ones (trtr), as AUC. The gap is what is "
    "lost. Its training is short: trtr below that of the trees says that it learnt less.",
    profile="full",
    modality="events",
)
NAME = "utility/sequence_outcomes"
ROWS = 2_000  # a side; of more, a random choice


def sequence_outcomes(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Predict every outcome that the histories have, by recurrent models."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.death_tstr")
    if not can_be_had():
        return (not_estimable(f"{NAME}.tstr", LACKING),)
    return outcomes_of(trial, NAME, _recurrent, seed=seed, most=ROWS)


def _recurrent(
    what: str, parts: Sides, tasks: list[Task], seed: int
) -> Callable[[int, int], Floats]:
    from manikin.metrics.recurrent import taught

    schema = parts[2].events.schema
    facts = Known.fit(parts[2], static=what != "target").static
    reading = Reading.fit(parts[2], without=hidden(what, schema), static=facts)
    reads = [
        reading.until(side, task.rows.visit, task.rows.until)
        for side, task in zip(parts, tasks, strict=True)
    ]

    def answered(source: int, asked: int) -> Floats:
        own, other = reads[source], reads[asked]
        everyone = np.arange(len(own.order))
        judge = taught(own, everyone, tasks[source].truth, seed=seed)
        return judge(other, np.arange(len(other.order)))

    return answered
