"""Are there rows of the training table in a table that should hold other people's?

Tables that came from elsewhere may name no subjects, and then a holdout that shares people with
the training rows cannot be told by number. It is told by its rows: those that repeat a training
row cell for cell, beyond what training rows repeat one another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from manikin.data.table import Table
from manikin.metrics.spaces import row_keys
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["overlapping"]

LEAST = 0.01  # excess share of rows from which it is told
SURE = 4.0  # standard errors by which the share must lie above what chance explains


def overlapping(train: Table, others: Mapping[str, Table]) -> tuple[str, ...]:
    """Say which of the `others` repeat training rows more than training rows do one another.

    Shares only, and nothing of fewer than 11 rows. A training row has one fellow less to coincide
    with, so chance is put at (share + 1 / n).
    """
    keys = row_keys(train)
    if not keys.size:
        return ()
    _, where, count = np.unique(keys, return_inverse=True, return_counts=True)
    chance = float((count[where] > 1).mean()) + 1 / keys.size
    told = []
    for name, part in others.items():
        repeats = np.isin(row_keys(part), keys)
        if int(repeats.sum()) < SMALLEST_CELL:
            continue
        share = float(repeats.mean())
        spread = min(chance, 1.0) * max(1 - chance, 0.0)
        error = float(np.sqrt(spread * (1 / repeats.size + 1 / keys.size)))
        if share - chance >= LEAST and share - chance > SURE * error:
            told.append(
                f"{100 * share:.0f}\u202f% of the {name} rows repeat a training row cell for cell;"
                f" chance explains about {100 * chance:.0f}\u202f%. It seems that people are in"
                " both tables. Then copies go unseen and every privacy number is too kind: take"
                f" them out of the {name} table and judge again."
            )
    return tuple(told)
