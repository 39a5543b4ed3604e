"""GaussianCopula: mixed columns as intervals of one multivariate normal.

Sklar 1959; Nelsen, "An Introduction to Copulas", 2006; Hoff, "Extending the rank likelihood for
semiparametric copula estimation", Annals of Applied Statistics 1 (2007), arXiv:math/0610413
Idea       keep every margin as it was seen and model only dependence: each value is an interval
           of a standard normal latent (Hoff §2), and the latents share a correlation matrix
Algorithm  1 encode; cut latents by each column's frequencies: missing marks, spikes, levels, and
           a race of latent times for a censored outcome · 2 repeat: draw the latents within their
           intervals given each other (Hoff §3), set the correlation to that of the draws, shrunk
           (Schäfer and Strimmer 2005) · 3 sample: draw latents, read the cells, place values
           within their cells by the same latents
           given: draw the given latents within their intervals (exact Gibbs steps), the others
           from their conditional normal · where: sequential importance sampling of the cells that
           the condition allows (Geweke 1991; Hajivassiliou and McFadden 1998), resampled
Differs    from Hoff in: margins are held at their frequencies instead of being integrated over;
           the correlation is a stochastic EM estimate, not a posterior; unordered categories are
           split by stick breaking; a row that lacks a value tells nothing about it, so values are
           missing at random given the other columns
Use when   rows are few or columns many beside them, and dependence is mostly monotone; any columns
           are to be given; not when interactions or clusters carry the meaning: take table/seqtree
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._gaussian as gaussian
import manikin.synthesizers.table._given as _given
from manikin.data.dataset import Dataset
from manikin.data.randomness import generator
from manikin.data.rules import Condition, IfThen, Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge import conditions, constraints
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._cells import FREQUENCIES
from manikin.synthesizers.table._gaussian import Floats
from manikin.synthesizers.table._latents import (
    Codes,
    Group,
    Race,
    chain,
    from_arrays,
    level_order,
    to_arrays,
)
from manikin.synthesizers.table._subjects import RowCounts, settle, static_columns
from manikin.synthesizers.table._where import code_weights, particles
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["GaussianCopula"]

MAX_EVENTS = 10  # kinds of event up to which a survival time is a race between them
WIDE = 300  # latents from which half the sweeps are made
GIVEN_SWEEPS = 20
PROJECTIONS = 10


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class GaussianCopula:
    """Recipe: a Gaussian copula on the shared encoder."""

    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    sweeps: int = 40  # rounds of drawing latents and setting the correlation anew
    rows: int = 4000  # most rows that the correlation is learned from; fewer when columns are many
    split_levels: int = 6  # commonest levels of an unordered category with a latent of their own
    shrink: bool = True  # shrink correlations as far as the number of rows asks for

    def __post_init__(self) -> None:
        check_settings(
            self,
            k=(1, math.inf),
            sweeps=(0, 10_000),
            rows=(2, math.inf),
            split_levels=(0, math.inf),
        )

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CopulaModel:
        """Learn margins and correlation."""
        refuse_budget(budget, "table/copula")
        rules = constraints.learn(data.schema.rules, data, least=self.k)
        report(watch, 0, self.sweeps + 1, "encoding")
        encoding = Encoding.fit(data, seed=seed, k=self.k)
        codes = encoding.encode(data, seed=seed)
        groups = _groups(encoding, codes, self.split_levels)
        width = _width(groups)
        kept = _some_rows(data.subjects, min(self.rows, 1_200_000 // max(width, 1)), seed)
        counts = RowCounts.fit(data.subjects, k=self.k)
        correlation, z = self._correlation(groups, codes[kept], seed, watch)
        within = np.zeros((0, 0))
        if not counts.single and width:
            static = _static_latents(encoding, groups)
            _, within = gaussian.between_within(z, data.subjects[kept], correlation, static)
        return CopulaModel(encoding, groups, correlation, within, counts, rules)

    def _correlation(
        self, groups: tuple[Group, ...], codes: Codes, seed: int, watch: Watch
    ) -> tuple[Floats, Floats]:
        """Stochastic EM: draw latents given the correlation, set the correlation to theirs."""
        lower, upper = _bounds(groups, codes)
        n, width = lower.shape
        rng = generator(seed, "copula fit")
        z = gaussian.start(lower, upper)
        if not width:
            return np.zeros((0, 0)), z
        unrelated = _unrelated(groups)

        def settled(moments: Floats, rounds: int = 0) -> Floats:
            found = gaussian.to_correlation(moments)
            found = gaussian.shrunk(found, n) if self.shrink else found
            return gaussian.valid(found, unrelated, rounds=rounds)

        guess = gaussian.to_correlation(z.T @ z / n)
        cut, pairs = gaussian.tetrachoric(lower, upper)
        guess[np.ix_(cut, cut)] = pairs
        correlation = settled(guess, PROJECTIONS)
        total, sweeps = np.zeros((width, width)), max(2, self.sweeps // (2 if width > WIDE else 1))
        for sweep in range(sweeps):
            report(watch, sweep + 1, sweeps + 1, "latent correlation")
            gaussian.gibbs(z, correlation, lower, upper, rng)
            moments = z.T @ z / n
            correlation = settled(moments)
            if sweep >= sweeps // 2:
                total += moments
        report(watch, sweeps + 1, sweeps + 1, "latent correlation")
        return settled(total, PROJECTIONS), z

    def restore(self, schema: Any, state: State) -> CopulaModel:
        """Rebuild a model from its state."""
        arrays, values = state.arrays, state.values
        return CopulaModel(
            Encoding.restore(schema, state),
            from_arrays(arrays, values["latents"]),
            arrays["correlation"],
            arrays["within"],
            RowCounts(arrays["rows/sizes"], arrays["rows/subjects"]),
            constraints.rules_from_json(values["rules"], schema),
        )


# ------------------------------------------------------------------ margins


def _groups(encoding: Encoding, codes: Codes, split: int) -> tuple[Group, ...]:
    """Return the latents of every column; a survival time and its event stand first."""
    groups: list[Group] = []
    raced = _raced(encoding)
    if raced is not None:
        groups.append(Race.fit(*raced, codes, encoding.sizes))
    width = sum(group.width for group in groups)
    marks: dict[bytes, int] = {}  # columns whose missing marks fall on the same rows share a latent
    scores = encoding.scores(codes)
    ordered = np.array([cells.ordered for cells in encoding.cells], dtype=bool)
    for j, cells in enumerate(encoding.cells):
        if raced is not None and j in raced:
            continue
        order = np.arange(cells.n_tokens, cells.size)
        if not cells.ordered and cells.size - cells.n_tokens > split + 2:
            others = ordered & (np.arange(len(ordered)) != j)
            order = level_order(codes[:, j], cells.size, cells.n_tokens, scores[:, others])
        made = chain(
            j, cells.counts, cells.n_tokens, ordered=cells.ordered, order=order, split=split
        )
        own = list(range(width, width + made.width))
        if cells.n_tokens and made.width > 1:
            mark = np.minimum(codes[:, j], cells.n_tokens).tobytes()
            if mark in marks:
                own = [marks[mark], *own[:-1]]
            marks[mark] = own[0]
        groups.append(dataclasses.replace(made, latents=tuple(own)))
        width = max(width, own[-1] + 1)
    return tuple(groups)


def _raced(encoding: Encoding) -> tuple[int, int] | None:
    time, event = encoding.schema.holder("time"), encoding.schema.holder("event")
    if time is None or event is None:
        return None
    at = encoding.index(time.name), encoding.index(event.name)
    if at[0] is None or at[1] is None or at[0] == at[1]:
        return None
    one, two = encoding.cells[at[0]], encoding.cells[at[1]]
    plain = one.n_tokens == two.n_tokens == 0 and one.ordered and two.size <= MAX_EVENTS
    return (at[0], at[1]) if plain else None


def _bounds(groups: tuple[Group, ...], codes: Codes) -> tuple[Floats, Floats]:
    """Return the ends of all latents of codes, (rows, latents)."""
    lower = np.full((len(codes), _width(groups)), -np.inf)
    upper = np.full(lower.shape, np.inf)
    for group in groups:
        low, high = group.bounds(codes)
        at = list(group.latents)
        lower[:, at], upper[:, at] = np.maximum(lower[:, at], low), np.minimum(upper[:, at], high)
    return np.minimum(lower, upper), upper


def _width(groups: tuple[Group, ...]) -> int:
    return 1 + max((max(group.latents) for group in groups), default=-1)


def _unrelated(groups: tuple[Group, ...]) -> NDArray[np.bool_]:
    """Return the pairs of latents that belong to one column, (latents, latents)."""
    found = np.zeros((_width(groups), _width(groups)), dtype=bool)
    for group in groups:
        found[np.ix_(group.latents, group.latents)] = True
    np.fill_diagonal(found, False)
    return found


def _static_latents(encoding: Encoding, groups: tuple[Group, ...]) -> NDArray[np.bool_]:
    kept = np.zeros(_width(groups), dtype=bool)
    for group in groups:
        kept[list(group.latents)] |= all(encoding.static[j] for j in group.columns)
    return kept


def _some_rows(subjects: NDArray[np.int64], rows: int, seed: int) -> NDArray[np.int64]:
    """Return positions of about so many rows, all rows of the subjects taken."""
    if subjects.size <= rows:
        return np.arange(subjects.size)
    everyone, whose = np.unique(subjects, return_inverse=True)
    rank = generator(seed, "copula rows").permutation(everyone.size)[whose]
    order = np.argsort(rank, kind="stable")
    return np.sort(order[rank[order] <= rank[order[rows]]])


# ------------------------------------------------------------------ model


@dataclass(frozen=True)
class CopulaModel:
    """Margins as cut latents, and the latents' correlation."""

    encoding: Encoding
    groups: tuple[Group, ...]
    correlation: Floats  # (latents, latents)
    within: Floats  # (latents, latents): the part that rows of a subject do not share; or empty
    row_counts: RowCounts
    rules: tuple[Rule, ...]

    @property
    def schema(self) -> TableSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the rows without formal protection."""
        return (
            NonPrivate(FREQUENCIES),
            NonPrivate("correlations between the latents of all columns"),
        )

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        return self._obeying(
            self._draw(n, seed, 0), seed, lambda m, attempt: self._draw(m, seed, 1 + attempt)
        )

    def sample_given(self, given: Dataset, *, seed: int) -> Table:
        """Draw one row for each given row, whose columns come back as they are."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "a Table", "build one with Table(…)")
        rng = generator(seed, "copula given")
        known = _given.known(self.encoding, given, rng)
        codes = known.codes
        for group in self.groups:
            if isinstance(group, Race):
                group.complete(codes, rng)
        involved = [g for g in self.groups if (codes[:, list(g.columns)] >= 0).any()]
        at = self._latents_of(involved)
        lower, upper = _bounds(self.groups, codes)
        z = gaussian.start(lower[:, at], upper[:, at])
        own = self.correlation[np.ix_(at, at)]
        for _ in range(GIVEN_SWEEPS if at.size else 0):
            gaussian.gibbs(z, own, lower[:, at], upper[:, at], rng)
        drawn = self._decoded(self._completed(z, at, rng), given.subjects, rng)
        table = _given.put_back(self.encoding, settle(drawn, self._static()), known)
        names = frozenset(known.table.columns)
        return constraints.enforce(table, self.rules, rng=rng, fixed=names)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        """Draw `n` new subjects for whom every condition holds.

        Raises ConditionError when none can, or so rarely that no honest sample can be drawn.
        """
        checked = tuple(conditions.check(condition, self.schema) for condition in where)
        wanted = IfThen((), checked)
        constraints.check_rules(self.schema, (*self.rules, wanted))
        weights = code_weights(checked, self.encoding)
        table = self._draw_where(n, checked, weights, seed, 0)
        return self._obeying(
            table,
            seed,
            lambda m, attempt: self._draw_where(m, checked, weights, seed, 1 + attempt),
            (wanted,),
        )

    def state(self) -> State:
        """Return what `GaussianCopula.restore` needs."""
        encoded = self.encoding.state()
        arrays, shapes = to_arrays(self.groups)
        arrays |= {
            "correlation": self.correlation,
            "within": self.within,
            "rows/sizes": self.row_counts.sizes,
            "rows/subjects": self.row_counts.subjects,
        }
        rules = constraints.rules_to_json(self.rules, self.schema)
        values = {**encoded.values, "latents": shapes, "rules": rules}
        return State({**encoded.arrays, **arrays}, values)

    # -------------------------------------------------------------- drawing

    def _draw(self, n: int, seed: int, attempt: int) -> Table:
        rng = generator(seed, "copula", attempt)
        subjects = self.row_counts.draw(n, rng)
        width = len(self.correlation)
        if self.row_counts.single or not width:
            z = rng.standard_normal((subjects.size, width)) @ gaussian.root(self.correlation).T
        else:
            shared = gaussian.root(self.correlation - self.within)
            alone = gaussian.root(self.within)
            scale = np.sqrt((shared**2).sum(axis=1) + (alone**2).sum(axis=1))
            z = (rng.standard_normal((n, width)) @ shared.T)[subjects]
            z = (z + rng.standard_normal((subjects.size, width)) @ alone.T) / scale
        return settle(self._decoded(z, subjects, rng), self._static())

    def _draw_where(
        self,
        n: int,
        where: tuple[Condition, ...],
        weights: dict[int, Floats],
        seed: int,
        attempt: int,
    ) -> Table:
        """Draw subjects until `n` satisfy the conditions."""
        rng = generator(seed, "copula where", attempt)
        involved = [g for g in self.groups if set(g.columns) & set(weights)]
        at = self._latents_of(involved)
        tried, found = 0, [self._rows_where(0, at, np.zeros((1, at.size)), rng)]
        missing = n
        while missing > 0 and tried < 400 * n + 20_000:
            size = min(max(2 * missing, 200), 50_000)
            if tried > 10 * n:  # few of those drawn satisfy what cells alone cannot tell
                size = min(8 * size, 50_000)
            pool = particles(involved, at, self.correlation[np.ix_(at, at)], weights, size, rng)
            fresh = self._rows_where(size, at, pool, rng)
            wrong = fresh.subjects[~conditions.all_hold(where, fresh)]
            right = np.setdiff1d(np.arange(size), wrong)[:missing]
            chosen = fresh.take(right)
            number = n - missing + np.searchsorted(right, chosen.subjects)
            found.append(dataclasses.replace(chosen, subjects=number))
            missing, tried = missing - right.size, tried + size
        if missing:
            raise ConditionError(
                f"only {n - missing} of {tried} subjects satisfied the conditions",
                "conditions that a fair share of subjects can satisfy",
                "loosen the conditions, or ask for fewer subjects",
            )
        return Table.concatenate(found)

    def _rows_where(
        self, n: int, at: NDArray[np.int64], z: Floats, rng: np.random.Generator
    ) -> Table:
        """Draw the rows of `n` subjects whose latents `at` are the first `n` rows of `z`."""
        subjects = self.row_counts.draw(n, rng)
        if not self.row_counts.single and len(self.correlation):
            static = np.flatnonzero(_static_latents(self.encoding, self.groups))
            both = np.union1d(at, static)
            z, at = self._completed(z[:n], at, rng)[:, both], both
        return settle(
            self._decoded(self._completed(z[:n][subjects], at, rng), subjects, rng), self._static()
        )

    def _completed(self, z: Floats, at: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """Draw all other latents from their normal distribution given the latents `at`."""
        width = len(self.correlation)
        rest = np.setdiff1d(np.arange(width), at)
        whole = np.empty((len(z), width))
        whole[:, at] = z
        cross = self.correlation[np.ix_(rest, at)]
        slope = np.linalg.solve(self.correlation[np.ix_(at, at)], cross.T)  # (at, rest)
        left = gaussian.root(self.correlation[np.ix_(rest, rest)] - cross @ slope)
        whole[:, rest] = z @ slope + rng.standard_normal((len(z), rest.size)) @ left.T
        return whole

    def _decoded(self, z: Floats, subjects: NDArray[np.int64], rng: np.random.Generator) -> Table:
        codes = np.empty((len(z), len(self.encoding.names)), dtype=np.int32)
        positions: dict[str, Floats] = {}
        for group in self.groups:
            read, place = group.decode(z[:, list(group.latents)])
            codes[:, list(group.columns)] = read
            positions[self.encoding.names[group.columns[0]]] = place
        seed = int(rng.integers(2**62))
        return self.encoding.decode(codes, subjects, seed=seed, positions=positions)

    def _latents_of(self, groups: list[Group]) -> NDArray[np.int64]:
        """Return the latents of some columns in the order in which these first name them."""
        return np.array(list(dict.fromkeys(k for g in groups for k in g.latents)), dtype=np.int64)

    def _obeying(
        self, table: Table, seed: int, redraw: constraints.Redraw, extra: tuple[Rule, ...] = ()
    ) -> Table:
        rng = generator(seed, "copula rules")
        rules = (*self.rules, *extra)
        return constraints.enforce(table, rules, rng=rng, redraw=redraw, static=self._static())

    def _static(self) -> frozenset[str]:
        return frozenset() if self.row_counts.single else static_columns(self.encoding)
