"""The protocol of attacks: who is a member, who is a stranger, and what the attacker may hold.

Real rows are split by subject into T (the training rows: members), H (strangers, on whom the null
is measured) and R (what the attacker holds). Nothing that is fitted by an attacker sees T or H.
"""

from __future__ import annotations

from dataclasses import dataclass

from manikin.data.dataset import split_subjects
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.score import Trial

__all__ = ["FEWEST", "Parties", "parties"]

FEWEST = 20  # subjects below which a part, or a stratum of it, is "not assessable"


@dataclass(frozen=True)
class Parties:
    """The real rows as an attack sees them: no subject is in two of them."""

    members: Table
    strangers: Table
    reference: Table


def parties(trial: Trial[Table], *, seed: int) -> Parties:
    """Return members, strangers and the attacker's reference rows of a trial.

    Without reference rows of its own, half of the held-out subjects are the attacker's. Raises
    NotSupported when a part has too few subjects for any rate to mean something.
    """
    strangers, reference = trial.holdout, trial.reference
    if reference is None and trial.holdout.n_subjects > 1:
        strangers, reference = split_subjects(trial.holdout, (0.5, 0.5), seed=seed)
    for name, part in (
        ("training", trial.train), ("held-out", strangers), ("reference", reference),
    ):  # fmt: skip
        if part is None or part.n_subjects < FEWEST:
            raise NotSupported(
                f"fewer than {FEWEST} subjects in the {name} part",
                f"{FEWEST} or more in each of the training, held-out and reference parts",
                "hold more subjects out (--holdout), or give reference rows",
            )
    assert reference is not None
    return Parties(trial.train, strangers, reference)
