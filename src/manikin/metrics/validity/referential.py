"""Referential integrity: does every row hang on a row that there is?

Value     share of the rows of each table below the first whose keys are those of one row of each
          table that they refer to; "all" is over the rows of all tables
Interval  exact binomial (Clopper and Pearson, Biometrika 1934), rows of one parent as a cluster
"""

from __future__ import annotations

import numpy as np

from manikin.data.cohort import Cohort
from manikin.metrics.intervals import share
from manikin.metrics.linked import not_linked
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["referential"]

CARD = Card(
    title="Referential integrity",
    family="validity",
    better="higher",
    reads=(
        "The share of rows, such as admissions, whose key is that of a row there is, such as a "
        "patient. 1 is what every synthesizer of linked tables must reach; below it, joins lose "
        "rows. It does not say whether the right rows are linked: cardinality and cross-table "
        "relations do."
    ),
    profile="quick",
    modality="cohort",
)


def referential(trial: Trial[Cohort], *, seed: int) -> tuple[Score, ...]:
    """Score every table below the first one, and all of them together."""
    del seed
    name = "validity/referential"
    synthetic = trial.synthetic
    if not isinstance(synthetic, Cohort):
        return not_linked(name)
    found: list[Score] = []
    hits, clusters, start = [np.zeros(0, bool)], [np.zeros(0, np.int64)], 0
    for table in synthetic.schema.tree.order[1:]:
        above = synthetic.above[table]
        own = np.where(above < 0, start + 10**12 + np.arange(above.size), start + above)
        group = f"table={table}"
        if above.size:
            value, interval = share(above >= 0, own)
            found.append(Score(name, value, interval, group=group))
        else:
            found.append(not_estimable(name, "the table has no rows", group))
        hits.append(above >= 0)
        clusters.append(own)
        start += 10**6 + int(above.max(initial=0))
    together = np.concatenate(hits)
    if not together.size:
        return (not_estimable(name, "no rows hang on others"), *found)
    value, interval = share(together, np.concatenate(clusters))
    return (Score(name, value, interval), *found)
