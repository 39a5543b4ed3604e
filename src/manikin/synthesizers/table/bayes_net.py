"""BayesNet: a Bayesian network, each column drawn given the few that it directly depends on.

Reference  Chow & Liu, "Approximating discrete probability distributions with dependence trees",
           IEEE Trans. Information Theory 14 (1968), for trees; Heckerman, Geiger & Chickering,
           "Learning Bayesian networks", Machine Learning 20 (1995), for BDeu and the search
Idea       a directed graph without cycles, a table P(column | its parents) for each column: a model
           that a clinician can read, challenge edge by edge, and correct
Algorithm  1 encode, and put columns of many codes into bins · 2 learn the graph: a tree, or from
           the tree on by adding, deleting and reversing single edges while a score rises, or take
           the graph given · 3 smooth the tables, each row leaning on that of one parent fewer
           · 4 draw bins parents first, then the code within its bin; given columns and conditions
           are honoured exactly, by variable elimination · an edge to be removed is learnt and its
           parent then summed out of the child's table (van Breugel et al., DECAF, NeurIPS 2021)
Differs    from the papers in: the default score is each row's likelihood under the tables of all
           other rows, which is what smoothed tables are for (BIC and BDeu by choice); bins are
           merged so as to keep what they tell of other columns; no graph is visited whose exact
           inference would need large tables
Use when   somebody must see and correct what depends on what, or exact answers given any columns
           are wanted; not when detail within numbers matters most (table/seqtree)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._net_cut as cut
import manikin.synthesizers.table._net_exact as exact
import manikin.synthesizers.table._net_search as search
import manikin.synthesizers.table._net_tables as net
from manikin.data.graph import ANY, Edge, Graph, find_cycle, parse_edge, to_dot, to_svg
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes, Learnt
from manikin.synthesizers.table._net_bins import Bins, learn_bins
from manikin.synthesizers.table._net_search import Constraints, Families, Parents
from manikin.synthesizers.table._structure import Constant
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["BayesNet"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

MANY = 1000  # a setting that is a number of things is at most so large
GROWTH = 0.7  # most bins, as a multiple of the cube root of the rows


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class BayesNet:
    """Recipe: a Bayesian network."""

    structure: Literal["climb", "tree", "given"] = "climb"  # search, Chow-Liu tree, or `edges` only
    score: Literal["predictive", "bic", "bdeu"] = "predictive"  # what the search raises
    edges: tuple[str, ...] = ()  # edges that must be there, such as "age->died"
    forbid: tuple[str, ...] = ()  # edges that must not be there; "*->sex": nothing points to sex
    roots: tuple[str, ...] = ()  # columns that nothing may point to, such as age and sex
    remove: tuple[str, ...] = ()  # edges such as "sex->income", learnt and then not drawn along
    parents: int = 4  # most parents of a column that the search may choose
    tabu: int = 10  # moves that do not pay, made in a row to leave a local optimum
    bins: int = 16  # most bins of a column, missing marks beside; fewer in small tables
    binning: Literal["supervised", "quantile"] = "supervised"  # bins that tell of others, or even
    smoothing: float = 4.0  # rows that the prior of each row of a table weighs
    resamples: int = 0  # times that the graph is learnt again from subjects drawn with replacement
    max_rows: int = 30_000  # most rows on which the graph is chosen
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> BayesNetModel:
        """Learn the graph and its tables. Raises InputError for edges that cannot be."""
        refuse_budget(budget, "table/bayes_net")
        self._check()
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        rules = self._constraints(learnt.encoding)
        bins, families = self._binned(learnt, rules)
        rng = generator(seed, "bayes_net rows")
        some = _some(families, np.sort(rng.permutation(len(learnt.codes))[: self.max_rows]))
        adjacent = self._graph(some, rules, learnt.encoding, watch)
        parents = tuple(
            families.arranged(j, above) for j, above in enumerate(search.as_parents(adjacent))
        )
        ends = [(i, j) for j, above in enumerate(parents) for i in above]
        strength = np.array([families.strength(j, parents[j], i) for i, j in ends])
        found = self._again(learnt, data.subjects, bins, rules, seed, watch)
        network = Network(
            bins,
            parents,
            tuple(families.table(j, above) for j, above in enumerate(parents)),
            strength,
            np.array([rules.required[i, j] for i, j in ends], bool),
            np.array([found[i, j] for i, j in ends] if found is not None else [], float),
            self._how(),
            np.zeros((0, 2), np.int64),
        )
        if not self.remove:
            return BayesNetModel(learnt.encoding, network, learnt.row_counts, learnt.rules)
        fair = network.without(self._removed(learnt.encoding))
        return BayesNetModel(learnt.encoding, fair, learnt.row_counts, learnt.rules, whole=network)

    def restore(self, schema: Any, state: State) -> BayesNetModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        encoding = Encoding.restore(schema, state)
        network = Network.restore(arrays, values, encoding)
        model = coded.restore(schema, state, network)
        return BayesNetModel(model.encoding, network, model.row_counts, model.rules)

    # -------------------------------------------------------------- learning

    def _check(self) -> None:
        check_settings(
            self, parents=(1, MANY), tabu=(0, MANY), bins=(2, MANY), smoothing=(1e-3, 1e6),
            resamples=(0, MANY), max_rows=(1, np.inf), k=(1, np.inf),
        )  # fmt: skip
        if self.structure == "given" and not self.edges:
            raise InputError(
                "a structure that is given, without edges",
                "edges such as 'age->died'",
                "set edges, or structure=climb to learn them",
            )

    def _constraints(self, encoding: Encoding) -> Constraints:
        """Return the edges asked for and ruled out. Raises InputError where these contradict."""
        m = len(encoding.names)
        required, forbidden = np.zeros((m, m), bool), np.zeros((m, m), bool)
        names = [column.name for column in encoding.schema.learned]
        pairs = [parse_edge(text, names) for text in (*self.edges, *self.remove)]
        _refuse_cycle(pairs, "edges")
        place = {name: _modelled(encoding, name) for name in names}
        for source, target in pairs:
            i, j = place[source], place[target]
            if i is not None and j is not None and i != j:
                required[i, j] = True
        for text in (*self.forbid, *(f"{ANY}->{name}" for name in self.roots)):
            source, target = parse_edge(text, names, any_name=True)
            from_ = slice(None) if source == ANY else place[source]
            to = slice(None) if target == ANY else place[target]
            if from_ is not None and to is not None:
                forbidden[from_, to] = True
        np.fill_diagonal(forbidden, True)
        both = np.argwhere(required & forbidden)
        if both.size:
            i, j = both[0]
            raise InputError(
                f"the edge '{encoding.names[i]}->{encoding.names[j]}' is asked for and forbidden",
                "edges that are one or the other",
                "leave it out of edges, or of forbid and roots",
            )
        ends = [(encoding.names[i], encoding.names[j]) for i, j in np.argwhere(required)]
        _refuse_cycle(ends, "edges, where some columns follow from others,")
        return Constraints(required, forbidden, self.parents)

    def _removed(self, encoding: Encoding) -> list[tuple[int, int]]:
        """Return the edges to take out; what follows from a column stands for it."""
        names = [column.name for column in encoding.schema.learned]
        found = []
        for text in self.remove:
            source, target = parse_edge(text, names)
            i, j = _modelled(encoding, source), _modelled(encoding, target)
            if i is None or j is None or i == j:
                raise InputError(
                    f"the edge '{source}->{target}' of a column that is constant, or that follows"
                    " from the other one",
                    "an edge between columns that are drawn apart",
                    "leave the column out of the table",
                )
            found.append((i, j))
        return found

    def _binned(self, learnt: Learnt, rules: Constraints) -> tuple[tuple[Bins, ...], Families]:
        """Bin the codes; where edges that must be there would need too large tables, coarser."""
        cells, n = learnt.encoding.cells, len(learnt.codes)
        most = min(self.bins, max(4, round(GROWTH * n ** (1 / 3))))
        asked = search.as_parents(rules.required)
        while True:
            bins = learn_bins(
                learnt.codes,
                [c.counts for c in cells],
                [c.n_tokens for c in cells],
                [c.ordered for c in cells],
                most=most,
                supervised=self.binning == "supervised",
            )
            sizes = np.array([b.size for b in bins], np.int64)
            heaviest = search.heaviest_clique(asked, sizes)
            if heaviest <= search.MAX_FAMILY:
                break
            if most == 2:
                raise InputError(
                    "edges that need tables of more cells than can be held",
                    f"tables of at most {search.MAX_FAMILY} cells",
                    "give columns fewer parents",
                )
            most = max(2, most * 3 // 4)
        binned = [b.of[learnt.codes[:, j]] for j, b in enumerate(bins)]
        stacked = np.stack(binned, axis=1) if binned else np.zeros((n, 0), np.int64)
        return bins, Families(stacked, sizes, self.score, self.smoothing)

    def _graph(
        self, families: Families, rules: Constraints, encoding: Encoding, watch: Watch
    ) -> Bools:
        """Return which column points to which."""
        if self.structure == "given":
            return rules.required
        start = None
        for role in ("target", "event"):
            for column in encoding.schema.holders(role):
                start = encoding.index(column.name) if start is None else start
        tree = search.chow_liu(families, rules, start)
        if self.structure == "tree" or not len(tree):
            return tree
        return search.climb(
            families, rules, tree, tabu=self.tabu,
            tell=lambda step: report(watch, step + 1, None, "learning the graph"),
        )  # fmt: skip

    def _again(
        self,
        learnt: Learnt,
        subjects: Ints,
        bins: tuple[Bins, ...],
        rules: Constraints,
        seed: int,
        watch: Watch,
    ) -> Floats | None:
        """Return the share of resamples of subjects in which columns are joined, either way."""
        if not self.resamples or self.structure == "given" or not bins:
            return None
        binned = np.stack([b.of[learnt.codes[:, j]] for j, b in enumerate(bins)], axis=1)
        sizes = np.array([b.size for b in bins], np.int64)
        order = np.argsort(subjects, kind="stable")
        everyone, first = np.unique(subjects[order], return_index=True)
        held = np.diff(np.append(first, subjects.size))
        joined = np.zeros((len(bins), len(bins)))
        for i in range(self.resamples):
            report(watch, i, self.resamples, "learning the graph of a resample")
            rng = generator(seed, "bayes_net resample", i)
            chosen = rng.integers(0, everyone.size, everyone.size)
            upto = np.cumsum(held[chosen])
            chosen = chosen[: int(np.searchsorted(upto, self.max_rows)) + 1]
            start = np.repeat(first[chosen], held[chosen])
            within = np.arange(start.size) - np.repeat(
                np.cumsum(held[chosen]) - held[chosen], held[chosen]
            )
            some = Families(binned[order[start + within]], sizes, self.score, self.smoothing)
            graph = self._graph(some, rules, learnt.encoding, silent)
            joined += graph | graph.T
        return joined / self.resamples

    def _how(self) -> str:
        if self.structure == "given":
            return "Every edge was given."
        learnt = "a tree of most mutual information" if self.structure == "tree" else (
            f"a search over single edges that raises the {self.score} score"
        )  # fmt: skip
        more = " Edges given beforehand are in it." if self.edges else ""
        more += " Some edges were ruled out beforehand." if self.forbid or self.roots else ""
        return f"The edges come from {learnt}.{more}"


def _some(families: Families, rows: Ints) -> Families:
    if rows.size == len(families.binned):
        return families
    return Families(families.binned[rows], families.sizes, families.score_name, families.prior)


def _modelled(encoding: Encoding, name: str) -> int | None:
    """Return the modelled column that a column is or follows from; None for a constant."""
    for item in encoding.derived:
        if item.name == name:
            return None if isinstance(item, Constant) else _modelled(encoding, item.source)
    return encoding.index(name)


def _refuse_cycle(edges: list[tuple[str, str]], what: str) -> None:
    cycle = find_cycle(edges)
    if cycle:
        raise InputError(
            f"{what} with a cycle: {' -> '.join(cycle)}",
            "edges that never lead back to where they began",
            "leave one of them out, or turn it",
        )


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class Network:
    """A directed graph without cycles over binned columns, and the tables of its families."""

    bins: tuple[Bins, ...]
    parents: Parents  # of each column, in the order of its table's axes
    tables: tuple[Floats, ...]  # a column: P(bin | bins of its parents), (*parents, own)
    strength: Floats  # (edges,) in the order of the children, then of their parents; bits
    given: Bools  # (edges,) it was asked for
    found: Floats  # (edges,) share of resamples that have it; or empty
    how: str
    removed: Ints  # (edges, 2) source and target of edges that were taken out
    name = "bayes_net"
    released = ("a graph of the columns, and smoothed counts of the families of their bins",)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.complete(np.full((n, len(self.bins)), -1, np.int32), {}, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known (-1), given those that are, of the allowed ones."""
        return net.complete(self.bins, self.parents, self.tables, codes, allowed, rng)

    def without(self, edges: list[tuple[int, int]]) -> Network:
        """Return the network in which the targets no longer depend on the sources."""
        parents, tables, left = cut.without(self.parents, self.tables, edges)
        found = self.found[left] if self.found.size else self.found
        return dataclasses.replace(
            self, parents=parents, tables=tables, strength=self.strength[left],
            given=self.given[left], found=found, removed=np.array(edges, np.int64),
        )  # fmt: skip

    def posterior(self, codes: Codes, allowed: Allowed, column: int) -> Floats:
        """Return P(code of a column | known codes), (rows, codes); rows know the same columns."""
        bins = self.bins[column]
        known, likely = net.binned(self.bins, codes), net.likely(self.bins, codes, allowed)
        share = exact.posterior(self.parents, self.tables, known, likely, column)
        within = bins.share * allowed.get(column, np.ones(bins.of.size, bool))
        total = bins.likely(within > 0)
        return np.asarray(share[:, bins.of] * within / np.where(total > 0, total, 1)[bins.of])

    def binned(self, codes: Codes) -> Ints:
        """Return the bins of codes, -1 where they are not known."""
        return net.binned(self.bins, codes)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        found: dict[str, NDArray[Any]] = {
            "strength": self.strength, "given": self.given, "found": self.found,
        }  # fmt: skip
        if self.removed.size:
            found["removed"] = self.removed
        return found | net.saved(self.bins, self.parents, self.tables)

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {"how": self.how}

    @staticmethod
    def restore(
        arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], encoding: Encoding
    ) -> Network:
        """Rebuild a network. Raises InputError when the arrays are none."""
        try:
            return _restored(arrays, values, encoding.sizes)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                "arrays that are no Bayesian network",
                "bins, parents without a cycle and tables that sum to one",
                "use a model file that this method wrote",
            ) from error


def _restored(
    arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], sizes: Ints
) -> Network:
    bins, parents, tables = net.restored(arrays, sizes)
    n_edges = sum(map(len, parents))
    strength, given, found = (arrays[name] for name in ("strength", "given", "found"))
    if strength.shape != (n_edges,) or given.shape != (n_edges,) or given.dtype != bool:
        raise ValueError("edges")
    if found.shape not in ((n_edges,), (0,)) or strength.dtype.kind != "f":
        raise ValueError("edges")
    removed = cut.restored(arrays, len(sizes))
    for numbers in (strength, found):
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise ValueError("strengths")
    return Network(bins, parents, tables, strength, given, found, str(values["how"]), removed)


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class BayesNetModel(CodedModel):
    """A fitted network, which can be read and drawn."""

    joint: Network
    whole: Network | None = None  # the network before edges were taken out, never saved

    @property
    def removed(self) -> tuple[tuple[str, str], ...]:
        """Return source and target of the edges that were taken out."""
        names = self.encoding.names
        return tuple((names[i], names[j]) for i, j in self.joint.removed.tolist())

    def unedited(self) -> BayesNetModel | None:
        """Return the model with these edges, None once it was saved."""
        if self.whole is None:
            return None
        return BayesNetModel(self.encoding, self.whole, self.row_counts, self.rules)

    def graph(self) -> Graph:
        """Return the columns and the edges between them, strongest first."""
        names, net = self.encoding.names, self.joint
        ends = [(i, j) for j, above in enumerate(net.parents) for i in above]
        edges = [
            Edge(
                names[i],
                names[j],
                round(float(net.strength[e]), 4),
                round(float(net.found[e]), 3) if net.found.size else None,
                bool(net.given[e]),
            )
            for e, (i, j) in enumerate(ends)
        ]
        edges.sort(key=lambda edge: (-edge.strength, edge.source, edge.target))
        gone = ", ".join(f"{source} -> {target}" for source, target in self.removed)
        how = f"{net.how} Taken out before drawing: {gone}." if gone else net.how
        return Graph(names, tuple(edges), how)

    def dot(self) -> str:
        """Return the graph in Graphviz' DOT language."""
        return to_dot(self.graph())

    def svg(self) -> str:
        """Return the graph as an SVG element."""
        return to_svg(self.graph())
