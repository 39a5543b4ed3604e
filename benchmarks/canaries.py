"""Canaries: many made-up subjects, each let into the rows by a coin, and one fit.

Whoever promises ε must leave an attacker nearly as unsure of every coin as before. The attacker
knows the other rows and all canaries, and reads the coins from (a) every noisy count, heard beside
the mechanism, (b) the model's own density of a canary, where it has one, (c) its synthetic rows
alone, by MAMA-MIA (Golob et al., arXiv:2410.05506) with rows and canaries as the reference.
Judged by Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from hearing import codes_of, hearing
from numpy.typing import NDArray
from scipy.stats import rankdata

from manikin import catalogue
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import MissingExtra, PrivacyError, Stopped
from manikin.metrics.privacy.attacks.mama_mia import mama_mia
from manikin.metrics.privacy.attacks.rows import Rows
from manikin.privacy.budget import Budget
from manikin.privacy.game import Found, many_canaries

__all__ = ["KINDS", "Flock", "built", "flock", "honours", "judged", "names"]

USUAL, COLUMNS = 5, 4  # levels that the other subjects have, and columns
OTHERS = 200  # subjects beside the canaries
DRAWN = 10_000  # synthetic rows that the attacker gets
DELTA = 1e-6
LIGHT = {"steps": 60}  # settings that cost time alone, and no privacy
KINDS = {"rare": "rows of levels that nobody else has", "usual": "rows like everybody's"}


@dataclass(frozen=True)
class Flock:
    """A population that the attacker knows, and canaries of which each is in or out."""

    others: Table
    canaries: Table
    inside: NDArray[np.bool_]  # (canaries,)

    @property
    def table(self) -> Table:
        """The rows that a recipe is fitted to."""
        return Table.concatenate([self.others, self.canaries.rows(np.flatnonzero(self.inside))])


def flock(kind: str, n: int, seed: int) -> Flock:
    """Return a population, `n` canaries of a kind, and their coins."""
    rng = generator(seed, f"canaries/{kind}")
    columns = tuple(
        Column(f"c{j}", "categorical", categories=tuple(f"l{k}" for k in range(USUAL + n)))
        for j in range(COLUMNS)
    )
    schema = TableSchema(columns, declared=True)

    def usual(m: int) -> NDArray[np.int64]:
        first = np.minimum(rng.geometric(0.4, m) - 1, USUAL - 1)
        rest = np.minimum(rng.geometric(0.4, (m, COLUMNS - 1)) - 1, USUAL - 1)
        follows = rng.random((m, COLUMNS - 1)) < 0.6
        return np.column_stack([first, np.where(follows, first[:, None], rest)])

    canaries = usual(n)
    if kind == "rare":  # each has a level of its own in every column, another order in each
        canaries = USUAL + np.column_stack([rng.permutation(n) for _ in range(COLUMNS)])
    tables = [
        Table(schema, first + np.arange(len(codes)),
              {f"c{j}": codes[:, j].astype(np.int32) for j in range(COLUMNS)})
        for first, codes in ((0, usual(OTHERS)), (OTHERS, canaries))
    ]  # fmt: skip
    return Flock(tables[0], tables[1], rng.random(n) < 0.5)


def judged(
    name: str, epsilon: float, kind: str, *, canaries: int, runs: int, seed: int = 0
) -> dict[str, Found]:
    """Fit `runs` flocks, and return what each way of reading the coins proves of ε."""
    scores: dict[str, list[NDArray[np.float64]]] = {}
    coins = []
    for run in range(runs):
        one = flock(kind, canaries, seed + run)
        coins.append(one.inside)
        for way, found in _read(name, epsilon, one, seed + run).items():
            scores.setdefault(way, []).append(rankdata(found))  # scores of two fits differ in scale
    inside = np.concatenate(coins)
    return {way: many_canaries(np.concatenate(s), inside, DELTA) for way, s in scores.items()}


def _read(name: str, epsilon: float, one: Flock, seed: int) -> dict[str, NDArray[np.float64]]:
    """Fit once and return every reading's scores of the canaries."""
    with hearing(codes_of(one.canaries), codes_of(one.others)) as heard:
        model: Any = built(name).fit(one.table, seed=seed, budget=Budget(epsilon, DELTA))
    found = {}
    if heard.any():
        found["noisy counts"] = heard.copy()
    if hasattr(model, "log_density"):
        found["density"] = np.asarray(model.log_density(one.canaries))
    drawn = model.sample(DRAWN, seed=seed)
    held = Table.concatenate([one.others, one.canaries])
    sides = [_cells(part) for part in (one.canaries, drawn, held)]
    found["rows"] = mama_mia(*sides, generator(seed, "canaries/attack"))
    return found


def _cells(table: Table) -> Rows:
    """Return rows as the attack sees them, every declared level a cell."""
    codes, none = codes_of(table).T, np.zeros((table.n_rows, 0))
    sizes = tuple(len(column.tokens) + len(column.categories) for column in table.schema.learned)
    return Rows(none.astype(np.float32), codes, sizes, none, [], np.zeros(table.n_rows, np.uint64))


# ------------------------------------------------------------------ who honours a budget


@functools.cache
def names() -> tuple[str, ...]:
    """Return every table recipe that begins to fit when it is given a budget."""
    return tuple(name for name in catalogue.names() if name.startswith("table/") and honours(name))


def honours(name: str) -> bool:
    """Whether a recipe accepts a budget: one that does not says so before it begins."""
    try:
        built(name).fit(flock("usual", 2, 0).table, seed=0, budget=Budget(1.0), watch=_stop)
    except (PrivacyError, MissingExtra):
        return False
    except Stopped:
        return True
    return True  # it never asked whether to go on


def _stop(progress: object) -> bool:
    return True


def built(name: str, **settings: object) -> Any:
    """Return a recipe with settings that cost less time, where it has them."""
    recipe: Any = catalogue.build(name)
    if not dataclasses.is_dataclass(recipe):
        return recipe
    own = {field.name for field in dataclasses.fields(recipe)}
    wanted = {**LIGHT, **settings}
    return catalogue.build(name, {key: v for key, v in wanted.items() if key in own})
