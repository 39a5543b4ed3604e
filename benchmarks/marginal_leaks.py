"""How far each membership attack sees into private tables: MAMA-MIA beside the twelve others.

Members, strangers and the attacker's reference rows come from one known population, of columns
that follow one another; a recipe is fitted to the members and gives many rows. The area under the
ROC curve of every attack, one half is guessing, as a mean over populations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from canaries import built
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.privacy.membership import ATTACKS, membership
from manikin.metrics.score import Trial
from manikin.privacy.budget import Budget

__all__ = ["areas", "lines", "population"]

COLUMNS = 12
DRAWN = 5_000
TOP = 100  # of the numbers


def population(n: int, seed: int, part: int) -> Table:
    """Return `n` subjects; the population is the seed's, the subjects are the part's."""
    law, rng = generator(seed, "leaks/law"), generator(seed, "leaks/rows", part)
    columns: list[Column] = []
    codes: list[NDArray[np.int64]] = []
    for j in range(COLUMNS):
        size, above = int(law.integers(2, 9)), int(law.integers(0, max(j, 1)))
        own = np.minimum(rng.geometric(0.35, n) - 1, size - 1)
        turned = (codes[above] * 7 + j) % size if j else own
        codes.append(np.where(rng.random(n) < 0.5, turned, own))
        levels = tuple(f"l{k}" for k in range(size))
        columns.append(Column(f"c{j}", "categorical", categories=levels))
    number = np.clip(np.rint(30 + 8 * codes[1] + 6 * rng.normal(size=n)), 0, TOP)
    columns.append(Column("number", "integer", minimum=0, maximum=TOP))
    arrays = {f"c{j}": values.astype(np.int32) for j, values in enumerate(codes)}
    schema = TableSchema(tuple(columns), declared=True)
    return Table(schema, part * 10**6 + np.arange(n), {**arrays, "number": number})


def areas(name: str, epsilon: float | None, n: int, seed: int) -> dict[str, float]:
    """Return every attack's area on a recipe under a budget; None: on fresh rows in its place."""
    train, held, reference = (population(m, seed, k) for k, m in enumerate((n, 2 * n, 4 * n)))
    if epsilon is None:
        synthetic = population(DRAWN, seed, 9)
    else:
        model = built(name, steps=500).fit(train, seed=seed, budget=Budget(epsilon))
        synthetic = model.sample(DRAWN, seed=seed)
    scores = membership(Trial(train, held, synthetic, reference), seed=seed)
    found = {s.group: s.value for s in scores if s.metric.endswith(".auc")}
    return {attack: found[f"attack={attack}"] for attack in ATTACKS}


def lines(names: Sequence[str], epsilons: Sequence[float], *, n: int, seeds: int) -> Iterator[str]:
    """Yield the table: attacks in rows, recipes and budgets in columns, fresh rows last."""
    heads = [(name, epsilon) for name in names for epsilon in epsilons]
    runs: list[list[dict[str, float]]] = [
        [areas(name, epsilon, n, seed) for seed in range(seeds)]
        for name, epsilon in [*heads, ("", None)]
    ]
    yield "| attack | " + " | ".join(f"`{a}` {e:g}" for a, e in heads) + " | fresh rows |"
    yield "| --- |" + " ---: |" * (len(heads) + 1)
    means = {
        attack: [float(np.mean([one[attack] for one in run])) for run in runs] for attack in ATTACKS
    }
    for attack in sorted(means, key=lambda a: -float(np.mean(means[a][:-1]))):
        yield f"| {attack} | " + " | ".join(f"{v:.3f}" for v in means[attack]) + " |"
