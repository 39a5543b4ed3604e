"""ARF: adversarial random forests, whose leaves are a density with exact conditions.

Reference  Watson, Blesch, Kapar, Wright, "Adversarial random forests for density estimation and
           generative modeling", AISTATS 2023. arXiv:2205.09435
Idea       once a forest cannot tell real rows from rows drawn column by column within its
           leaves, columns are independent within leaves: a mixture of products (Theorem 1)
Algorithm  1 encode · 2 grow a tree whose splits make each column, as the others foretell it,
           alike within leaves · 3 FORDE: in each leaf, one histogram a column (Algorithm 2)
           · 4 what dependence is left within leaves: a Gaussian copula of ranks, one for all
           leaves, as a finite mixture over points of its factors · 5 FORGE: draw a leaf and a
           point, then each column (Algorithm 3), ranks spread evenly over the leaf's rows; given
           columns and conditions weigh leaves and points, exactly
Differs    from the paper in: no adversary, but splits by columns, and one tree of all rows, not
           many of bootstraps (splits=adversary is Algorithm 1: forests on real against false rows
           until out-of-bag accuracy is chance; set trees to 10 or more with it); columns are not
           independent within leaves (factors=0 is the paper's); draws are spread evenly, not
           independent of each other; every column is a finite code, missing marks included, so
           that one density serves all; numbers have histograms on codes, not truncated normals;
           leaves of few rows are described by the node above them, within their own box; codes
           without an order stand in that of their correspondence components
Use when   exact conditions on any columns, imputation, or densities of rows are wanted, on small
           and wide tables above all; less so on many thousand rows (table/seqtree)

A model file holds, per leaf and column, bars over codes and their share of the leaf's rows, and
the columns' weights on the factors; never a row. A leaf's bars come from `leaf` rows or more, as
far as they lie in its box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

import manikin.synthesizers.table._adversary as _adversary
import manikin.synthesizers.table._coded as coded
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._adversary import Forest
from manikin.synthesizers.table._binning import alike, bin_codes
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._histograms import Column, describe
from manikin.synthesizers.table._impute import impute
from manikin.synthesizers.table._leaves import Leaves, Steps
from manikin.synthesizers.table._ranks import Ranks, factors, independent
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["ARF", "impute"]

SPIKE = 0.05  # a number that more than this share of rows hold has no neighbours


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class ARF:
    """Recipe: adversarial random forests."""

    trees: int = 1  # trees of the forest; each is a density, and their mixture is used
    leaf: int = 20  # fewest training rows that describe a leaf; more in large tables
    leaf_share: float = 0.0025  # rows at a leaf as a share of all rows, up to three times `leaf`
    splits: str = "columns"  # columns: make all columns alike in leaves; adversary: the paper's
    rounds: int = 10  # most forests grown one after another (splits=adversary)
    tolerance: float = 0.01  # how far above 1/2 an out-of-bag accuracy counts as chance
    features: float = 1.0  # share of the columns that each split may choose from
    outcome: float = 3.0  # weight of time, event and target beside other columns in choosing splits
    prior: float = 1.0  # rows, spread over the leaf's box, that are added to each leaf
    bar: int = 8  # rows of a leaf that share one bar of a number's histogram
    reach: float = 0.05  # farthest that a bar goes beyond its rows, as a share of all rows
    factors: int = 10  # common factors of the columns' ranks within leaves; 0: independent
    nodes: int = 128  # points that the factors may take
    max_rows: int = 10_000  # most real rows that shape one tree; all rows fill its leaves
    k: int = 5  # fewest subjects that share a value kept as it stands; k - 2 to k for levels

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Grow a forest, and learn the densities of its leaves."""
        refuse_budget(budget, "table/arf")
        self._check()
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        codes = learnt.codes
        if codes.shape[1] == 0:
            return learnt.model(ForestDensity(Leaves(np.ones(1), (), independent(0))))
        columns = _columns(learnt.encoding, codes)
        places = np.stack([c.place[codes[:, j]] for j, c in enumerate(columns)], axis=1)
        floor = int(np.clip(len(codes) * self.leaf_share, self.leaf, 3 * self.leaf))
        rng = generator(seed, "arf")
        if self.splits == "columns":
            forest = _adversary.by_columns(
                places, trees=self.trees, min_leaf=floor, max_features=self.features,
                max_rows=self.max_rows, weight=self._weight(learnt.encoding), rng=rng,
            )  # fmt: skip
        else:
            forest = self._by_adversary(places, floor, rng, watch)
        report(watch, 1, None, "describing leaves")
        weight, steps, leaf = describe(
            places, forest.trees, columns,
            floor=floor, rows_a_bar=self.bar, reach=self.reach, prior=self.prior,
        )  # fmt: skip
        ranks = self._ranks(places, steps, leaf)
        return learnt.model(ForestDensity(Leaves(weight, steps, ranks)))

    def _by_adversary(
        self, places: NDArray[np.int64], floor: int, rng: np.random.Generator, watch: Watch
    ) -> Forest:
        """Algorithm 1: each forest's leaves draw the false rows of the next."""
        forest = None
        for turn in range(max(self.rounds, 1)):
            false = _adversary.resample(places, forest, rng)
            forest = _adversary.adversary(
                places, false, trees=self.trees, min_leaf=max(floor // 2, 2),
                max_features=self.features, max_rows=self.max_rows, rng=rng,
            )  # fmt: skip
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

    def _ranks(
        self,
        places: NDArray[np.int64],
        steps: tuple[Steps, ...],
        leaf: tuple[NDArray[np.int64], ...],
    ) -> Ranks:
        """Return how the columns' ranks go together within leaves, pooled over all leaves."""
        if not self.factors:
            return independent(len(steps))
        scores = []
        for own in leaf:
            number = np.unique(own, return_inverse=True)[1]
            size = np.bincount(number)
            tree = np.empty(places.shape)
            for j, each in enumerate(steps):
                score = _score(each.below(own, places[:, j]), each.below(own, places[:, j] + 1))
                tree[:, j] = score - (np.bincount(number, weights=score) / size)[number]
            scores.append(tree)
        return factors(np.concatenate(scores), np.concatenate(leaf), self.factors, self.nodes)

    def _check(self) -> None:
        """Raise InputError for settings that make no forest."""
        wrong = None
        if self.splits not in ("columns", "adversary"):
            wrong = "splits", "columns or adversary"
        elif min(self.trees, self.rounds, self.bar, self.leaf, self.max_rows, self.nodes) < 1:
            wrong = "trees, rounds, bar, leaf, nodes or max_rows below 1", "1 or more"
        elif not (0 < self.features <= 1 and 0 <= self.reach <= 1):
            wrong = "features or reach", "a share"
        elif min(self.prior, self.outcome, self.factors) < 0:
            wrong = "prior, outcome or factors below 0", "0 or more"
        if wrong:
            raise InputError(
                f"table/arf with an unknown {wrong[0]}", wrong[1], "change the setting"
            )

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        return coded.restore(schema, state, ForestDensity.restore(arrays, values))


def _score(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of a normal variable whose rank is between two numbers."""
    density = [np.exp(-0.5 * ndtri(np.clip(u, 1e-12, 1 - 1e-12)) ** 2) for u in (low, high)]
    step = np.maximum(high - low, 1e-9)
    within = (density[0] - density[1]) / (step * np.sqrt(2 * np.pi))
    return np.asarray(np.where(step > 1e-6, within, ndtri(np.clip((low + high) / 2, 1e-6, 1))))


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
    released = (
        "splits of trees, and counts of codes in leaves of many rows each",
        "correlations of ranks within leaves",
    )

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.leaves.draw(n, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, by their exact distribution given the others."""
        return self.leaves.complete(codes, allowed, rng)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        leaves = self.leaves
        found = {"weight": leaves.weight, "loading": leaves.ranks.loading}
        for j, steps in enumerate(leaves.columns):
            found |= {f"{j}/{name}": array for name, array in vars(steps).items()}
        return found | {"node": leaves.ranks.node}

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {"columns": len(self.leaves.columns)}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> ForestDensity:
        """Rebuild the distribution whose arrays and values these are."""
        names = Steps.__dataclass_fields__
        columns = tuple(
            Steps(**{name: arrays[f"{j}/{name}"] for name in names})
            for j in range(int(values["columns"]))
        )
        leaves = Leaves(arrays["weight"], columns, Ranks(arrays["loading"], arrays["node"]))
        leaves.check()
        return ForestDensity(leaves)
