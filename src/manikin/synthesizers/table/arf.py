"""ARF: adversarial random forests, whose leaves are a density with exact conditions.

Reference  Watson, Blesch, Kapar, Wright, "Adversarial random forests for density estimation and
           generative modeling", AISTATS 2023. arXiv:2205.09435
Idea       once a forest cannot tell real rows from rows drawn column by column within its
           leaves, columns are independent within leaves: a mixture of products (Theorem 1)
Algorithm  1 encode; false rows permute every column · 2 grow a forest on real against false rows
           · 3 draw false rows from its leaves, back to 2 until out-of-bag accuracy is chance
           (Algorithm 1) · 4 FORDE: in each leaf, one distribution a column (Algorithm 2) · 5 FORGE:
           draw a leaf, then each column (Algorithm 3); given columns and conditions weigh leaves
Differs    from the paper in: splits make each column, as the others foretell it, alike within
           leaves (permuted rows have the real columns, so that no first split tells them apart;
           splits=adversary is the paper's), and leaves are halved until an adversary is fooled;
           every column is a finite code, missing marks included, so that one density serves all;
           numbers have histograms on codes, not truncated normals; leaves of few rows are
           described by the node above them, within their own box; codes without an order stand
           in that of their correspondence components
Use when   exact conditions on any columns, imputation, or densities of rows are wanted; not when
           rows that a judge cannot tell from real ones matter most (table/seqtree)

A model file holds, per leaf and column, bars over codes and their share of the leaf's rows; never
a row. A leaf's bars come from `leaf` rows or more, as far as they lie in its box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._adversary as _adversary
import manikin.synthesizers.table._coded as coded
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._adversary import Column, Forest, Seen
from manikin.synthesizers.table._chain import bin_codes
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._impute import impute
from manikin.synthesizers.table._leaves import Bars, Leaves
from manikin.synthesizers.table._stage import alike
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["ARF", "impute"]

SURE = 2  # standard errors by which a fooled adversary must be so
HALVINGS = 2  # how much coarser than the floor the first forest by columns is
SPIKE = 0.05  # a number that more than this share of rows hold has no neighbours


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class ARF:
    """Recipe: adversarial random forests."""

    trees: int = 10  # trees of the forest; each is a density, and their mixture is used
    leaf: int = 10  # fewest training rows that describe a leaf; more in large tables
    leaf_share: float = 0.0025  # rows at a leaf as a share of all rows, up to three times `leaf`
    splits: str = "columns"  # columns: make all columns alike in leaves; adversary: the paper's
    rounds: int = 10  # most forests grown one after another (columns: each halves the leaves)
    tolerance: float = 0.01  # how far above 1/2 an out-of-bag accuracy counts as chance
    features: float = 1.0  # share of the columns that each split may choose from
    outcome: float = 4.0  # weight of time, event and target beside other columns in choosing splits
    prior: float = 0.5  # rows, spread over the leaf's box, that are added to each leaf
    bar: int = 3  # rows of a leaf that share one bar of a number's histogram
    reach: float = 0.03  # farthest that a bar goes beyond its rows, as a share of all rows
    max_rows: int = 10_000  # most real rows that shape one tree; all rows fill its leaves
    k: int = 5  # fewest subjects that share a value kept as it stands; k - 2 to k for levels

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Grow forests until the adversary is fooled, and learn the densities of the leaves."""
        refuse_budget(budget, "table/arf")
        self._check()
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        codes = learnt.codes
        if codes.shape[1] == 0:
            return learnt.model(ForestDensity(Leaves(np.ones(1), np.zeros(1), ())))
        columns = _columns(learnt.encoding, codes)
        places = np.stack([c.place[codes[:, j]] for j, c in enumerate(columns)], axis=1)
        floor = int(np.clip(len(codes) * self.leaf_share, self.leaf, 3 * self.leaf))
        seen, rng = places.astype(np.float32), generator(seed, "arf")
        if self.splits == "columns":
            forest = self._by_columns(seen, floor, self._weight(learnt.encoding), rng, watch)
        else:
            forest = self._by_adversary(seen, floor, rng, watch)
        leaves = _adversary.mixture(
            places, seen, forest, columns,
            floor=floor, rows_a_bar=self.bar, reach=self.reach, prior=self.prior,
        )  # fmt: skip
        return learnt.model(ForestDensity(leaves))

    def _by_adversary(
        self, seen: Seen, floor: int, rng: np.random.Generator, watch: Watch
    ) -> Forest:
        """Algorithm 1: each forest's leaves draw the false rows of the next."""
        forest = None
        for turn in range(max(self.rounds, 1)):
            false = _adversary.resample(seen, forest, rng)
            forest = self._adversary(seen, false, max(floor // 2, 2), rng)
            report(watch, turn + 1, None, "growing forests", accuracy=forest.accuracy)
            if forest.accuracy <= 0.5 + self.tolerance:
                break
        assert forest is not None
        return forest

    def _weight(self, encoding: Encoding) -> NDArray[np.float64]:
        """Return the weight of each modelled column in choosing splits."""
        roles = [encoding.schema[name].roles for name in encoding.names]
        outcomes = [bool({"time", "event", "target"} & set(each)) for each in roles]
        return np.where(outcomes, self.outcome, 1.0)

    def _by_columns(
        self,
        seen: Seen,
        floor: int,
        weight: NDArray[np.float64],
        rng: np.random.Generator,
        watch: Watch,
    ) -> Forest:
        """Halve the leaves until an adversary is fooled by their rows, or they reach the floor."""
        halvings = min(max(self.rounds, 1) - 1, HALVINGS)
        for turn in range(halvings + 1):
            min_leaf = floor * 2 ** (halvings - turn)
            forest = _adversary.by_columns(
                seen, trees=self.trees, min_leaf=min_leaf, max_features=self.features,
                max_rows=self.max_rows, weight=weight, rng=rng,
            )  # fmt: skip
            if turn == halvings:
                break
            false = _adversary.resample(seen, forest, rng)
            accuracy = self._adversary(seen, false, 2 * floor, rng).accuracy
            report(watch, turn + 1, None, "growing forests", accuracy=accuracy)
            error = 0.5 / float(np.sqrt(2 * len(seen)))
            if accuracy + SURE * error <= 0.5 + self.tolerance:  # few rows fool nobody for sure
                break
        return forest

    def _adversary(self, seen: Seen, false: Seen, leaf: int, rng: np.random.Generator) -> Forest:
        return _adversary.adversary(
            seen, false, trees=self.trees, min_leaf=leaf, max_features=self.features,
            max_rows=self.max_rows, rng=rng,
        )  # fmt: skip

    def _check(self) -> None:
        """Raise InputError for settings that make no forest."""
        wrong = None
        if self.splits not in ("columns", "adversary"):
            wrong = "splits", "columns or adversary"
        elif min(self.trees, self.rounds, self.bar, self.leaf, self.max_rows) < 1:
            wrong = "trees, rounds, bar, leaf or max_rows below 1", "1 or more"
        elif not (
            0 < self.features <= 1 and min(self.prior, self.outcome) >= 0 and 0 <= self.reach <= 1
        ):
            wrong = "features, prior, outcome or reach", "a share; 0 or more; a share"
        if wrong:
            raise InputError(
                f"table/arf with an unknown {wrong[0]}", wrong[1], "change the setting"
            )

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        return coded.restore(schema, state, ForestDensity.restore(arrays, values))


def _columns(encoding: Encoding, codes: Codes) -> tuple[Column, ...]:
    """Return where each column's codes stand, their shares, and which have neighbours."""
    sizes = encoding.sizes
    nominal = np.array([not cells.ordered for cells in encoding.cells], bool) & (sizes > 2)
    binned = bin_codes(codes, sizes, nominal)
    columns = []
    for j, cells in enumerate(encoding.cells):
        size = int(sizes[j])
        order = np.arange(size)
        if nominal[j] and len(sizes) > 1:
            others = [i for i in range(len(sizes)) if i != j]
            order = alike(codes[:, j], size, binned[:, others])
        share = np.bincount(codes[:, j], minlength=size)[order] + 0.5
        share = share / share.sum()
        number = hasattr(cells, "bounds")
        loose = (share <= SPIKE) & number & (order >= cells.n_tokens)
        columns.append(Column(np.argsort(order), share, loose))
    return tuple(columns)


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class ForestDensity:
    """FORDE and FORGE: the density of a forest's leaves, as a distribution over rows of codes."""

    leaves: Leaves
    name = "arf"
    released = ("splits of trees, and counts of codes in leaves of many rows each",)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.leaves.draw(n, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, by their exact distribution given the others."""
        return self.leaves.complete(codes, allowed, rng)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        found = {"weight": self.leaves.weight, "background": self.leaves.background}
        for j, bars in enumerate(self.leaves.columns):
            found |= {f"{j}/{name}": array for name, array in vars(bars).items()}
        return found

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {"columns": len(self.leaves.columns)}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> ForestDensity:
        """Rebuild the distribution whose arrays and values these are."""
        names = Bars.__dataclass_fields__
        columns = tuple(
            Bars(**{name: arrays[f"{j}/{name}"] for name in names})
            for j in range(int(values["columns"]))
        )
        leaves = Leaves(arrays["weight"], arrays["background"], columns)
        leaves.check()
        return ForestDensity(leaves)
