"""SeqTree: one column after another, each drawn from the leaves of a tree on those before it.

Reference  Reiter, "Using CART to generate partially synthetic public use microdata",
           J. Official Statistics 21 (2005); outcome first for survival tables: arXiv:2405.17333
Idea       the chain rule of probability, each factor a classification or regression tree
Algorithm  1 encode (missing marks, spikes, grids, rare levels) · 2 order: time and event, target,
           then few levels before many, most informed first · 3 grow a tree a column on its most
           informative predecessors, missingness before value, and prune splits without evidence
           · 4 draw codes leaf by leaf, evenly, and decode
Differs    from the paper in: leaves have a floor and no split stands on noise, so that rows are
           not copied; codes of at least k subjects stand for values; draws are stratified within
           leaves, numbers move between the leaf's codes; nominal levels are ordered by
           correspondence components; leaves draw a little from their neighbours and are tilted
           until each column, given what was drawn before it, has its real relation to every
           other and to the outcome; several rows a subject depend on the row before
Use when   a table of any type mix is to be synthesised in seconds; not when formal privacy is
           asked for, nor for a few dozen rows of many numbers (table/copula)

A model file holds the splits of the trees and, per column and leaf, the codes of its training
rows in ascending order, which no longer tell which row they came from; never a row, nor a number
that fewer than k subjects hold. A level stays from k - 2 to k subjects on, by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._allowed as allowed
import manikin.synthesizers.table._chain as chain
from manikin.data.dataset import Dataset
from manikin.data.randomness import generator
from manikin.data.rules import Condition, Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge import conditions, constraints
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._binning import bin_codes
from manikin.synthesizers.table._chain import Shape, Step, Wanted
from manikin.synthesizers.table._given import known, put_back
from manikin.synthesizers.table._stage import Growth
from manikin.synthesizers.table._subjects import RowCounts, settle, static_columns
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["SeqTree"]


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class SeqTree:
    """Recipe: sequential conditional trees."""

    leaf: int = 20  # fewest training rows at a leaf; more in large tables
    leaf_share: float = 0.0025  # rows at a leaf as a share of all rows, up to three times `leaf`
    evidence: float = 1.0  # by how many times log(rows) a split must beat chance
    pooling: float = 1.0  # share of a split's chance gain by which leaves draw from beside them
    predictors: int = 24  # most earlier columns that a tree may look at
    trees: int = 1  # trees per column, one of which is drawn for each row
    honest: bool = False  # shape trees on one half of the rows, fill their leaves from the other
    smoothing: float = 0.03  # farthest move of a number within its leaf, as a share of all rows
    lines: bool = True  # ridge lines carry close dependence of numbers where they predict better
    k: int = 5  # fewest subjects that share a value kept as it stands; k - 2 to k for levels
    first: tuple[str, ...] = ()  # columns to generate first, before time, event and target
    max_rows: int = 30_000  # most rows on which the splits of one tree are chosen

    def __post_init__(self) -> None:
        check_settings(
            self, leaf=(1, math.inf), leaf_share=(0, 1), evidence=(0, math.inf), pooling=(0, 1),
            predictors=(0, math.inf), trees=(1, 1000), smoothing=(0, 1), k=(1, math.inf),
            max_rows=(1, math.inf),
        )  # fmt: skip

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> SeqTreeModel:
        """Learn the chain. Raises PrivacyError when a budget is given."""
        refuse_budget(budget, "table/seqtree")
        rules = constraints.learn(data.schema.rules, data, least=self.k)
        report(watch, 0, None, "encoding")
        encoding = Encoding.fit(data, seed=seed, k=self.k)
        counts = RowCounts.fit(data.subjects, k=self.k)
        shape = Shape(
            encoding.sizes,
            np.array([cells.n_tokens for cells in encoding.cells], np.int64),
            np.array([cells.ordered for cells in encoding.cells], bool),
            np.array([encoding.static], bool).reshape(-1),
            counts.sizes,
            _loose(encoding),
        )
        if shape.m == 0:
            return SeqTreeModel(encoding, (), shape, rules)
        laid = chain.lay_out(encoding.encode(data, seed=seed), data.subjects, shape)
        binned = bin_codes(laid, shape.chain_sizes, shape.chain_nominal)
        information = chain.association(binned, seed)
        own = information[: shape.m, : shape.m]
        first = self._first(encoding)
        order = chain.order_columns(shape.sizes, own, first)
        parts = chain.divisions(laid, binned, shape)
        tasks = chain.plan(shape, order, information, self.predictors, first)
        floor = int(np.clip(len(laid) * self.leaf_share, self.leaf, 3 * self.leaf))
        bar = self.evidence * float(np.log(max(len(laid), 2)))
        growth = Growth(floor, bar, self.pooling, self.trees, self.honest, self.max_rows)
        stages: list[Step] = []
        for stage in chain.learn(
            laid, binned, tasks, parts, shape, growth, self.smoothing, self.lines, seed
        ):
            stages.append(stage)
            report(watch, len(stages), len(tasks), "growing trees")
        leant = tuple(chain.lean(stages, laid, shape, parts, first, seed))
        return SeqTreeModel(encoding, leant, shape, rules)

    def restore(self, schema: Any, state: State) -> SeqTreeModel:
        """Rebuild a model from its state."""
        encoding = Encoding.restore(schema, state)
        stages, shape = chain.restore(state.arrays, state.values["chain"], _loose(encoding))
        rules = constraints.rules_from_json(state.values["rules"], schema)
        return SeqTreeModel(encoding, stages, shape, rules)

    def _first(self, encoding: Encoding) -> list[int]:
        """Return the columns that lead the order: asked for, then outcomes."""
        names = [encoding.schema[name].name for name in self.first]
        for role in ("time", "event", "target"):
            names += [column.name for column in encoding.schema.holders(role)]
        found = [encoding.index(name) for name in names]
        return [j for j in found if j is not None]


def _loose(encoding: Encoding) -> tuple[NDArray[np.bool_], ...]:
    """Return which cells of each column are no atoms, so that their neighbours may stand in."""
    return tuple(~cells.atoms[cells.n_tokens :] for cells in encoding.cells)


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class SeqTreeModel:
    """A fitted chain of trees."""

    encoding: Encoding
    stages: tuple[Step, ...]
    shape: Shape
    rules: tuple[Rule, ...]
    _static: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        static = frozenset() if self.shape.single else static_columns(self.encoding)
        object.__setattr__(self, "_static", static)

    @property
    def schema(self) -> TableSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the rows without formal protection."""
        return (NonPrivate("splits of trees, and counts of codes at leaves of many rows each"),)

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        return self._obey(self._draw(n, seed, 0), seed)

    def sample_given(self, given: Dataset, *, seed: int) -> Table:
        """Draw one row for each given row, whose columns are any subset of the schema's.

        Columns that come early in the order are simply set. For later ones, several candidates a
        row are drawn and one is chosen in proportion to how likely it makes the given values.
        """
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "a table", "give one row a subject")
        parts = []
        for block, start in enumerate(range(0, max(given.n_rows, 1), allowed.BLOCK)):
            rows = np.arange(start, min(start + allowed.BLOCK, given.n_rows))
            rng = generator(seed, "seqtree given", block)
            parts.append(self._of_given(given.rows(rows), rng))
        return Table.concatenate(parts) if len(parts) > 1 else parts[0]

    def _of_given(self, given: Table, rng: np.random.Generator) -> Table:
        what = known(self.encoding, given, rng)
        m, n = self.shape.m, given.n_rows
        fixed = {j: what.codes[:, j] for j in range(m) if (what.codes[:, j] >= 0).any()}
        candidates = allowed.CANDIDATES if allowed.late(fixed, self.stages) else 1
        whose = np.repeat(np.arange(n), candidates)
        spread = {j: codes[whose] for j, codes in fixed.items()}
        codes, subjects, weight = chain.draw(
            self.stages, self.shape, whose.size, Wanted(spread, {}), rng
        )
        opening = np.flatnonzero(np.diff(subjects, prepend=-1))  # one row a given row
        score = np.where(np.isfinite(weight), weight, -1e9) + rng.gumbel(size=whose.size)
        best = score.reshape(n, candidates).argmax(axis=1) + np.arange(n) * candidates
        made = self.encoding.decode(
            codes[opening[best]], given.subjects, seed=int(rng.integers(2**62))
        )
        fixed_names = frozenset(given.columns)
        made = put_back(self.encoding, made, what)
        made = self._echoed(made, codes[opening[best]], fixed_names)
        return constraints.enforce(made, self.rules, rng=rng, fixed=fixed_names)

    def _echoed(self, made: Table, codes: Any, given: frozenset[str]) -> Table:
        """Return the table with columns that repeat a given one repeating it as it was given."""
        columns = dict(made.columns)
        for name, source in self.encoding.echoes.items():
            if source in given and name not in given:
                repeats = self.encoding.echoing(name, codes)
                columns[name] = np.where(repeats, columns[source], columns[name])
        return Table(made.schema, made.subjects, columns, made.states)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        """Draw `n` new subjects for all of whose rows every condition holds.

        Codes are restricted inside the leaves, and candidates weighted by how likely an allowed
        code was. Raises ConditionError when no subject can be drawn.
        """
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        mask = allowed.from_conditions(where, self.encoding)
        parts: list[Table] = []
        have = 0
        for attempt in range(allowed.ATTEMPTS):
            if attempt and have >= n:
                break
            table = self._where(max(2 * (n - have), 64), mask, seed, attempt)
            table = self._obey(table, seed + 1 + attempt)
            bad = np.unique(table.subjects[~conditions.all_hold(where, table)])
            good = np.setdiff1d(np.unique(table.subjects), bad)[: max(n - have, 0)]
            table = table.take(good)
            number = have + np.searchsorted(good, table.subjects)
            parts.append(Table(table.schema, number, table.columns, table.states))
            have += good.size
        if have < n:
            text = ", ".join(conditions.describe(condition) for condition in where)
            raise ConditionError(
                f"no subject can be drawn for whom this holds: {text}",
                "conditions that training subjects, of whom there are enough, meet together",
                "relax a condition, or leave one out",
            )
        return Table.concatenate(parts)

    def _where(self, n: int, masks: dict[int, NDArray[np.bool_]], seed: int, attempt: int) -> Table:
        """Draw about n/2 subjects from n weighted candidates per subject kept."""
        rng = generator(seed, "seqtree where", attempt)
        total = n * allowed.CANDIDATES // 4 if masks else n
        wanted = Wanted({}, masks)
        codes, subjects, weight = chain.draw(self.stages, self.shape, total, wanted, rng)
        able = np.flatnonzero(np.isfinite(weight))
        score = weight[able] + rng.gumbel(size=able.size)
        chosen = np.sort(able[np.argsort(-score, kind="stable")[:n]])
        rows = np.flatnonzero(np.isin(subjects, chosen))
        number = np.searchsorted(chosen, subjects[rows])
        shuffled = rng.permutation(chosen.size)
        number = shuffled[number] if chosen.size else number
        order = np.argsort(number, kind="stable")
        return self._decode(codes[rows[order]], number[order], rng)

    def state(self) -> State:
        """Return what `SeqTree.restore` needs."""
        encoded = self.encoding.state()
        arrays, values = chain.state(self.stages, self.shape)
        rules = constraints.rules_to_json(self.rules, self.schema)
        return State({**encoded.arrays, **arrays}, {**encoded.values, **values, "rules": rules})

    def _draw(self, n: int, seed: int, attempt: int) -> Table:
        rng = generator(seed, "seqtree", attempt)
        codes, subjects, _ = chain.draw(self.stages, self.shape, n, None, rng)
        return self._decode(codes, subjects, rng)

    def _decode(self, codes: Any, subjects: Any, rng: np.random.Generator) -> Table:
        table = self.encoding.decode(codes, subjects, seed=int(rng.integers(2**62)))
        return settle(table, self._static)

    def _obey(self, table: Table, seed: int) -> Table:
        return constraints.enforce(
            table,
            self.rules,
            rng=generator(seed, "seqtree rules"),
            redraw=lambda m, attempt: self._draw(m, seed, 1 + attempt),
            static=self._static,
        )
