"""Outcomes: do synthetic histories train models that work for real patients?

Train on synthetic, test on real (TSTR) beside train on real, test on real (TRTR), and train on
real, test on synthetic (TRTS; Esteban, Hyland and Rätsch 2017), by boosted trees on what is known
of a patient at a moment. Which outcomes there are follows from the histories:
death        an event of domain "death" comes, known half of the subject's visits (at least one)
readmission  the next stay begins within 30 days of the end of this one
stay         a stay lasts longer than the median training stay, known its first day
target       the static column whose role is target (above its median, or its commonest level),
             known the whole record and no other static fact that tells it
All are areas under the curve. `_gap` is TRTR - TSTR on the same held-out rows. Intervals resample
subjects. A stay is a visit that lasts, or an admission with the discharge that follows it. A row
whose outcome nobody could see yet is left out: the last stay of a record of a subject who is not
known to live on.
"""

from __future__ import annotations

from collections.abc import Callable

from manikin.data.events import Events
from manikin.metrics.histories import no_histories
from manikin.metrics.intervals import Floats
from manikin.metrics.score import Card, Score, Trial
from manikin.metrics.trees import BRISK, classifier
from manikin.metrics.utility._outcome_tasks import Sides, Task, hidden, outcomes_of
from manikin.metrics.utility._prefixes import Known

__all__ = ["outcomes"]

CARD = Card(
    title="Outcomes of patients (TSTR, TRTR, TRTS)",
    family="utility",
    better="near ceiling",
    reads="How well a model trained on synthetic histories foretells death, readmission within 30 "
    "days, long stays and the named target in held-out real patients (tstr), beside one trained on "
    "real ones (trtr), as AUC. The gap is what is lost; 0 is none. trts tests a model of held-out "
    "patients on synthetic ones: below its ceiling their outcomes are too random, above too easy.",
    profile="quick",
    modality="events",
)
NAME = "utility/outcomes"
ROWS = 20_000


def outcomes(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Predict every outcome that the histories have, by models of synthetic and of real ones."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.death_tstr")
    return outcomes_of(trial, NAME, _trees, seed=seed, most=ROWS)


def _trees(what: str, parts: Sides, tasks: list[Task], seed: int) -> Callable[[int, int], Floats]:
    schema = parts[2].events.schema
    known = Known.fit(parts[2], without=hidden(what, schema), static=what != "target")
    features = [known.matrix(side, task.rows) for side, task in zip(parts, tasks, strict=True)]

    def taught(source: int, asked: int) -> Floats:
        x, truth = features[source], tasks[source].truth.astype("int64")
        model = classifier(x, truth, [False] * x.shape[1], seed=seed, how=BRISK)
        return model(features[asked])[:, 1]

    return taught
