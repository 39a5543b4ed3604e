"""Mixture: latent classes of patients, within which columns are all but independent.

Reference  Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
           J. Royal Statistical Society B 39 (1977), §4.3; pairs within classes: Meilă and Jordan,
           "Learning with mixtures of trees", J. Machine Learning Research 1 (2000), §3
Idea       p(row) = Σ_k w_k Π_j p(column j | class k): every sum over unknown columns is exact
Algorithm  1 encode, and group codes into bins · 2 EM for a few classes · 3 join into a forest the
           pairs of columns that these leave dependent · 4 EM on the forest, with as many classes
           as predict held-out subjects best · 5 draw a class, its bins, codes within bins
Differs    from the papers in: counts of a class are smoothed over neighbouring bins and drawn
           towards everybody's; all classes share one forest, and in it everybody's shares of one
           column given another times a factor by class; classes of few rows are dissolved; rows
           of one subject share what never changes, but not otherwise their class
Use when   something is known and the rest is wanted, or odd or exposed rows, or the kinds of
           patient that there are; a few hundred rows of mixed kinds; not where numbers hang
           closely together, nor for fidelity in thousands of rows (table/seqtree)

`log_density`, `anomaly`, `membership_risk` and `classes` read a fitted model. A model file holds,
per class, smoothed shares of bins, and everybody's shares of pairs of bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._em as em
import manikin.synthesizers.table._forest as forest
import manikin.synthesizers.table._given as _given
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.privacy.budget import Budget
from manikin.privacy.cells import SMALLEST_CELL
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._classes import LatentClasses, restored
from manikin.synthesizers.table._coded import CodedModel, Codes
from manikin.synthesizers.table._em import Fit, Floats, Ints, Layout, Maximiser
from manikin.synthesizers.table._kinds import PatientClass, described
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Mixture", "anomaly", "classes", "log_density", "membership_risk"]

HELD_OUT = 0.25  # share of subjects by which the number of classes is chosen
SEARCHED = 10_000  # most rows with which it is
FIRST_ROWS = 40  # training rows for each of the classes that the forest is chosen beside;
FIRST_CLASSES = 20  # of which there are no more than this
SURE = 500  # rows up to which `pairs` holds as it stands;
LOWEST = 0.3  # share of it that is asked of many rows
REFERENCE = 4000  # drawn rows with which a row is compared


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Mixture:
    """Recipe: a mixture of products, or of trees, over bins of codes."""

    classes: int = 0  # how many; 0: as many as predict held-out subjects best
    most: int = 64  # most classes that are tried
    least: int = SMALLEST_CELL  # rows that a class stands for at the least, or it is dissolved
    bins: int = 32  # groups of neighbouring codes a column with an order
    smoothing: float = 0.5  # bandwidth, in standard deviations, of a class's smooth shares
    smooth_rows: float = 60.0  # rows that those stand for beside the class's own
    prior: float = 1.0  # rows of everybody that are added to each class
    pairs: float = 0.1  # nats a pair must share beyond classes to be joined; less past 500 rows
    pair_prior: float = 30.0  # smooth rows that are added to each bin of the first of a pair
    steps: int = 40  # most iterations of EM
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    max_rows: int = 30_000  # most rows in all but the last iterations

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Learn the classes. Raises PrivacyError when a budget is given."""
        refuse_budget(budget, "table/mixture")
        if self.classes < 0 or self.most < 1 or self.bins < 2 or self.prior <= 0:
            raise InputError(
                "a mixture of no classes, bins or prior",
                "classes of 0 or more, most of 1, bins of 2, a prior above 0",
                "correct the settings",
            )
        report(watch, 0, 3, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        layout = Layout.of(learnt.encoding.cells, self.bins)
        if not layout.bins:
            nobody = Fit(np.ones(1), np.zeros((1, 0)), np.ones(1), 0.0)
            return learnt.model(LatentClasses.of(layout, nobody, np.ones((1, 1)), self.numbers))
        n_classes = self.classes
        if not n_classes:
            report(watch, 1, 3, "choosing the number of classes")
            n_classes = self._chosen(learnt.codes, data.subjects, layout, seed)
        report(watch, 2, 3, "classes")
        rows_each = len(data.subjects) / data.n_subjects
        joined, fit = self._learn(learnt.codes, layout, n_classes, rows_each, seed)
        people = _people(learnt.codes, data.subjects, joined, fit)
        report(watch, 3, 3, "classes")
        return learnt.model(LatentClasses.of(joined, fit, people, self.numbers))

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """Smoothing and priors, as the M-step takes them."""
        return self.smoothing, self.smooth_rows, self.prior, self.pair_prior

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        cells = Encoding.restore(schema, state).cells
        return coded.restore(schema, state, restored(arrays, values, cells))

    def _learn(
        self, codes: Codes, layout: Layout, n_classes: int, rows_each: float, seed: int
    ) -> tuple[Layout, Fit]:
        """Return the forest and the classes of some rows."""
        rng = generator(seed, "mixture")
        some = codes
        if len(codes) > self.max_rows:
            some = codes[np.sort(rng.permutation(len(codes))[: self.max_rows])]
        floor = self.least * rows_each * len(some) / len(codes)
        maximise = Maximiser.of(layout, *self.numbers)
        if np.isfinite(self.pairs) and codes.shape[1] > 1:
            few = int(np.clip(len(some) // FIRST_ROWS, 1, FIRST_CLASSES))
            part = some[:SEARCHED]
            x = layout.indicator(part)
            first = em.climb(x, em.start(part, layout, few, maximise, rng), maximise, 15, floor)
            least = self.pairs * float(np.clip(SURE / len(some), LOWEST, 1))
            layout = forest.grow(some, part, layout, first, least, self.pair_prior)
            maximise = Maximiser.of(layout, *self.numbers)
        x = layout.indicator(some)
        fit = em.start(some, layout, n_classes, maximise, rng)
        fit = em.climb(x, fit, maximise, self.steps, floor)
        if len(some) < len(codes):
            floor = self.least * rows_each
            fit = em.climb(layout.indicator(codes), fit, maximise, 3, floor)
        return layout, fit

    def _chosen(self, codes: Codes, subjects: Ints, layout: Layout, seed: int) -> int:
        """Return the number of classes that predicts subjects held out best."""
        rng = generator(seed, "mixture classes")
        whose = np.unique(subjects, return_inverse=True)[1]
        lot = rng.random(int(whose.max()) + 1)[whose]
        held = np.flatnonzero(lot < HELD_OUT)[: SEARCHED // 4]
        rest = np.flatnonzero(lot >= HELD_OUT)[:SEARCHED]
        if held.size < SMALLEST_CELL or rest.size < 2 * SMALLEST_CELL:
            return 1
        shorter = replace(self, steps=min(self.steps, 20))
        best, found, worse, n = -np.inf, 1, 0, 1
        while n <= min(self.most, rest.size // SMALLEST_CELL) and worse < 2:
            joined, fit = shorter._learn(codes[rest], layout, n, codes.shape[0] / lot.size, seed)
            score = em.expected(joined.indicator(codes[held]), fit)[2]
            if score > best:
                best, found, worse = score, n, 0
            else:
                worse += 1
            n = max(n + 1, round(n * 1.6))
        return found


def _people(codes: Codes, subjects: Ints, layout: Layout, fit: Fit) -> Floats:
    """Return how many subjects each class holds and each of its bins, (classes, 1 + bins).

    A subject with several rows counts once in all, in equal parts.
    """
    _, whose, rows = np.unique(subjects, return_inverse=True, return_counts=True)
    share = np.empty((len(codes), fit.weight.size), np.float32)
    log_theta, log_weight = np.log(fit.theta).astype(np.float32), np.log(fit.weight)
    for start in range(0, len(codes), em.BLOCK):
        block = slice(start, start + em.BLOCK)
        x = layout.indicator(codes[block])
        share[block] = em.responsibilities(x, log_theta, log_weight.astype(np.float32))[0]
    share /= rows[whose][:, None]
    plain = replace(layout, parent=(-1,) * len(layout.bins), base=layout.margins)
    held = plain.indicator(codes).T @ share
    return np.vstack([share.sum(axis=0), held]).T.astype(np.float64)


# ------------------------------------------------------------------ reading a model


def _known(model: CodedModel, table: Table) -> tuple[LatentClasses, Codes]:
    if not isinstance(model.joint, LatentClasses):
        raise InputError("not a mixture", "a model of table/mixture", "fit one")
    codes = _given.known(model.encoding, table, generator(0, "mixture density")).codes
    return model.joint, codes


def log_density(model: CodedModel, table: Table, given: Sequence[str] = ()) -> Floats:
    """Return log p of each row's columns given some of them, (rows,); exact for any columns.

    The density is of codes: of levels, spikes and cells of neighbouring numbers.
    """
    joint, codes = _known(model, table)
    density = joint.log_density(codes)
    if given:
        kept = tuple(column for column in table.schema if column.name in given)
        if len(kept) < len(set(given)):
            raise InputError("a given column is not in the table", "its columns", "leave it out")
        only = codes.copy()
        only[:, [j for j, name in enumerate(model.encoding.names) if name not in given]] = -1
        density -= joint.log_density(only)
    return density


def anomaly(model: CodedModel, table: Table) -> Floats:
    """Return for each row the share of rows as the model draws them that are likelier, (rows,).

    Near 1: hardly anybody is as unlikely. Only the columns that the table has are compared.
    """
    joint, codes = _known(model, table)
    drawn = joint.draw(REFERENCE, generator(0, "mixture anomaly"))
    drawn[:, (codes < 0).all(axis=0)] = -1
    usual = np.sort(joint.log_density(drawn))
    return 1 - np.searchsorted(usual, joint.log_density(codes), side="left") / REFERENCE


def membership_risk(model: CodedModel, table: Table) -> Floats:
    """Return by how much each row's log-density rests on the row itself having been learned from.

    Zero: the model would be as sure of it without it. Made for training rows, with every column.
    """
    joint, codes = _known(model, table)
    if (codes < 0).any():
        raise InputError("rows of which a column is missing", "all columns", "give whole rows")
    return joint.without(codes)


def classes(model: CodedModel) -> tuple[PatientClass, ...]:
    """Return the kinds of patient, the largest first, with what stands out in each.

    `str` of one is a short text. Nothing in it comes from fewer than eleven subjects.
    """
    if not isinstance(model.joint, LatentClasses):
        raise InputError("not a mixture", "a model of table/mixture", "fit one")
    return described(model.encoding, model.joint)
