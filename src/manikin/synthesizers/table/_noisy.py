"""What a neural method learns of a table under a privacy budget, before its first step.

A share of the budget counts every column by itself; numbers are divided where those counts say that
rows are. From then on the parts are the cells of an encoding, the noisy counts its frequencies, and
all that is made of frequencies without a budget (starting biases, normal scores, margins) is made
of these. The rest pays for training: steps on samples of subjects, whose rows nothing else reads.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._private as private
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.nn.loop import Plan
from manikin.privacy.budget import Budget
from manikin.privacy.training import Training, train_on
from manikin.synthesizers.table._cells import Cells, CodedCells, NumericCells
from manikin.synthesizers.table._coded import CodedModel, Joint
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._pgm import fit
from manikin.synthesizers.table._private import Prepared
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Noisy", "learn", "plan"]

BINS = 24  # most cells of a number column
SINGLE = 0.2  # share of the budget for single columns
STEPS = 300  # of training, at most
BATCH, LEAST = 0.3, 128.0  # share of the subjects that a step sees, and how many at least

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Noisy:
    """An encoding by noisy counts, and the rows behind their guard, coded by it."""

    encoding: Encoding
    prepared: Prepared
    rows: float  # as the noisy counts have it

    @property
    def subjects(self) -> float:
        """How many subjects there are, as the noisy counts have it."""
        return max(1.0, self.rows / self.rows_each)

    @property
    def rows_each(self) -> float:
        """Rows of a subject in the mean, as noisy counts have it."""
        held = self.prepared.row_counts
        return float(np.average(held.sizes, weights=held.subjects))

    def training(self, most: int, *, least: float = LEAST) -> Training:
        """Pay for steps of training, `most` at most, with all that is left of the budget.

        `least` subjects are expected in a step, if there are so many.
        """
        batch = max(least, self.subjects * BATCH)
        return train_on(
            self.prepared.rows, batch=batch, steps=min(STEPS, most), subjects=self.subjects,
            what="steps of training",
        )  # fmt: skip

    def model(self, joint: Joint) -> CodedModel:
        """Return the model of this distribution, with its price."""
        prepared = self.prepared
        paid = Paid(prepared.account.ledger(), self.subjects, prepared.rows.most_rows)
        rules = prepared.encoding.schema.rules
        return CodedModel(self.encoding, joint, prepared.row_counts, rules, paid)


def plan(training: Training, *, rate: float, device: str) -> Plan:
    """Return how to train: all steps that were paid for, the weights averaged over many."""
    n = training.steps
    return Plan(n, rate=rate, warm_up=n // 20, look=n, average=0.99, device=device)


def learn(data: Table, budget: Budget, *, most_rows: int, single: float = SINGLE) -> Noisy:
    """Count every column by itself for the share `single` of the budget; code the rows by that.

    Raises PrivacyError for a schema that is not declared, or leaves open what a column may hold;
    InputError where no row of a subject is to count.
    """
    if most_rows < 1:
        raise InputError(
            f"{most_rows} rows of a subject that count", "one or more", "correct 'most_rows'"
        )
    prepared = private.prepare(
        data, budget, bins=BINS, most_rows=most_rows, share=single, only=False
    )
    counts = private.singles(fit(prepared.rows.sizes, prepared.measured))
    every = zip(prepared.encoding.cells, prepared.bins, counts, strict=True)
    cells = tuple(_cells(fine, bins, held) for fine, bins, held in every)
    rows = float(counts[0].sum())
    encoding = dataclasses.replace(prepared.encoding, cells=cells)
    return Noisy(encoding, prepared, max(1.0, rows))


def _cells(fine: Cells, bins: Bins, counts: Floats) -> Cells:
    """Return cells of which each is one of the bins, in their order."""
    marks = int((bins.share[: fine.n_tokens] > 0).sum())  # of which noise left some visible
    tokens = fine.tokens[bins.share[: fine.n_tokens] > 0]
    whole = np.rint(counts).astype(np.int64)
    if isinstance(fine, CodedCells):
        return dataclasses.replace(fine, tokens=tokens, counts=whole)
    of = bins.of[fine.n_tokens :] - marks  # (cells,) which part each falls in
    first = np.flatnonzero(np.diff(of, prepend=-1))
    last = np.append(first[1:], of.size) - 1
    return _joined(fine, tokens, whole, first, last)


def _joined(fine: NumericCells, tokens: Ints, counts: Ints, first: Ints, last: Ints
            ) -> NumericCells:  # fmt: skip
    """Join neighbouring cells, those from `first` to `last`: each value as likely as the next."""
    start = np.append(fine.start[first], fine.start[-1])
    held = np.diff(start)
    within = np.arange(fine.grid.size) - np.repeat(start[:-1] - start[0], held)
    return dataclasses.replace(
        fine, tokens=tokens, counts=counts, bounds=fine.bounds[last[:-1]], start=start,
        cumulative=(within + 1) / np.repeat(held, held), low=fine.low[first], high=fine.high[last],
        tail=fine.tail[first], fresh=fine.fresh[first], decimals=fine.decimals[first],
    )  # fmt: skip
