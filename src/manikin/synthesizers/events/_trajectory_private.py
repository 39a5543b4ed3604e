"""Trajectories under a privacy budget: public scales, a private table, clipped gradients.

Reference  Abadi et al., CCS 2016 (DP-SGD); De et al., arXiv:2204.13650 (what makes it work)
Idea       the unit is the subject: one row, the first `most_events` events; nothing is read of the
           data but by the table synthesizer, under its own share of the budget, a noisy number of
           subjects, and steps of training on clipped and noisy gradients. Codes, levels and bounds
           of numbers are those of a declared schema, and heads begin at nothing
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.nn.loop import Batch, Plan, train
from manikin.nn.private import Private
from manikin.privacy.account import Account, measuring
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Release
from manikin.privacy.rows import Rows
from manikin.privacy.training import train_on
from manikin.synthesizer import Synthesizer, Watch
from manikin.synthesizers.events._trajectory_network import NEVER, Network
from manikin.synthesizers.events._trajectory_scales import Scales
from manikin.synthesizers.events._trajectory_subjects import Once, first_times
from manikin.synthesizers.events._trajectory_tokens import (
    CONTINUOUS,
    NONE,
    REPEAT,
    Line,
    Slots,
    Vocabulary,
)
from manikin.synthesizers.events._trajectory_training import Rows as Laid
from manikin.synthesizers.events._trajectory_training import objective

__all__ = [
    "Shares", "check", "first_events", "once", "open_heads", "parted", "public_scales",
    "together", "train_privately",
]  # fmt: skip

REACH = 2.2  # normal scores of declared bounds
KNOTS = 9
LONGEST_DAYS = {"gap": 3652.0, "duration": 365.0}  # to which a line reaches before it goes on
OLDEST_DAYS, EARLIEST, LATEST = 44_000, -25_567, 47_482  # 120 years; the years 1900 to 2100
COUNTED = 0.02  # share of what is left of a budget that counts the subjects
BATCH, LEAST, MOST_STEPS = 0.3, 64.0, 300  # share of the subjects in a step, at least; steps


@dataclass(frozen=True)
class Shares:
    """What a private training is told."""

    steps: int
    rate: float
    clip: float
    free: float
    blind: float
    most_events: int
    device: str


def check(data: Events, table: Synthesizer[Table], name: str) -> None:
    """Raise PrivacyError where something would be read of the rows that nobody paid for."""
    if not (data.schema.declared and data.schema.static.declared):
        raise PrivacyError(
            "a schema of histories that was inferred from the rows, and a budget",
            "codes, levels, bounds and static columns that are declared",
            "write them down: manikin schema DATA > schema.yaml, correct, give it with --schema",
        )
    if not (getattr(table, "takes_budget", False) or getattr(table, "needs_budget", False)):
        raise PrivacyError(
            f"static facts by '{name}', and a budget",
            "a table synthesizer that honours one",
            "name it: --set table=table/argn",
        )


def first_events(line: Line, most: int) -> Line:
    """Return the first events of each subject: no other one counts."""
    place = np.arange(line.code.size) - line.starts[line.whose]
    kept = np.flatnonzero(place < most)
    columns = {
        field.name: getattr(line, field.name)[kept]
        for field in dataclasses.fields(line)
        if field.name != "starts"
    }
    counts = np.minimum(np.diff(line.starts), most)
    return Line(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), **columns)


# ------------------------------------------------------------------ public


def public_scales(schema: EventSchema, tick_days: float) -> dict[str, Scales]:
    """Return lines through declared bounds; codes without both bear no numbers."""
    ends = [
        (c.minimum, c.maximum) if c.numeric and c.minimum is not None and c.maximum is not None
        and c.minimum < c.maximum else None
        for c in schema.codes
    ]  # fmt: skip
    steps = np.array([10.0**-c.decimals for c in schema.codes])
    tick = np.full(len(schema), tick_days)
    lasting = {
        name: (np.log(tick_days), np.log(max(days, 2 * tick_days)))
        for name, days in LONGEST_DAYS.items()
    }
    return {
        "gap": _lines([lasting["gap"]], tick[:1], logged=True),
        "value": _lines(ends, steps, logged=False),
        "duration": _lines([lasting["duration"]] * len(schema), tick, logged=True),
    }


def _lines(
    ends: list[tuple[float, float] | None], steps: NDArray[np.float64], *, logged: bool
) -> Scales:
    knots, scores = np.full((len(ends), KNOTS), np.nan), np.full((len(ends), KNOTS), np.nan)
    for j, bounds in enumerate(ends):
        if bounds is not None:
            knots[j] = np.linspace(*bounds, KNOTS)
            scores[j] = np.linspace(-REACH, REACH, KNOTS)
    return Scales(knots, scores, np.full((len(ends), 2), np.nan), steps, logged)


@torch.no_grad()
def open_heads(network: Network, words: Vocabulary, scales: dict[str, Scales]) -> None:
    """Let heads draw whatever a declared schema allows, each kind as likely."""
    network.gap_odds[4:] = NEVER  # a public scale has no atoms
    texts = torch.arange(network.text_odds.shape[1])[None] > torch.from_numpy(words.levels)[:, None]
    network.text_odds.masked_fill_(texts, NEVER)
    lined = torch.from_numpy(scales["value"].lined)
    network.value_odds.fill_(NEVER)
    network.value_odds[:, NONE] = 0.0
    network.value_odds[lined, REPEAT] = -2.0
    network.value_odds[lined, CONTINUOUS] = 0.0
    network.duration_odds.fill_(NEVER)
    network.duration_odds[:, NONE] = 0.0
    network.duration_odds[:, CONTINUOUS] = -2.0


def once(
    line: Line, static: Table, schema: EventSchema, births: NDArray[np.int64], most: int
) -> tuple[Once, Table]:
    """Return the table that is drawn once a subject, under bounds that are no subject's."""
    aged = bool(schema.birth)
    early, late = (0, OLDEST_DAYS) if aged else (EARLIEST, LATEST)
    own = Once(
        schema, ("", "", ""), aged, True, float((early + late) // 2), most, _facts(static.schema)
    )
    added = (
        Column("", "integer", minimum=0, maximum=most),
        Column("", "integer", minimum=early, maximum=late),
        Column("", "integer", minimum=0, maximum=1439),
    )
    names, flat = own.widened(static, *own.columns(line, first_times(line), births), added)
    return dataclasses.replace(own, names=names), flat


def _facts(static: TableSchema) -> Scales:
    """Return lines through declared bounds of numeric static columns."""
    numeric = [c for c in static.learned if not c.is_coded]
    ends = [
        (c.minimum, c.maximum) if c.minimum is not None and c.maximum is not None
        and c.minimum < c.maximum else None
        for c in numeric
    ]  # fmt: skip
    return _lines(ends, np.array([10.0**-c.decimals for c in numeric]), logged=False)


# ------------------------------------------------------------------ private


def parted(budget: Budget, share: float) -> tuple[Budget, Budget]:
    """Return two budgets that add up to one (Dwork and Roth, 2014, theorem 3.16)."""
    first = Budget(share * budget.epsilon, budget.delta / 2, budget.spent)
    return first, Budget((1 - share) * budget.epsilon, budget.delta / 2)


def together(
    first: tuple[Release, ...], second: tuple[Release, ...], budget: Budget
) -> tuple[Release, ...]:
    """Return both ledgers as one. Raises PrivacyError if they come to more than the budget."""
    found = spent((*first, *second), budget.delta).epsilon
    if found > budget.epsilon * (1 + 1e-6):
        raise PrivacyError(
            f"releases that come to ε = {found:.6g}", f"ε = {budget.epsilon:g} at most",
            "do not release the model; report this with the ledger",
        )  # fmt: skip
    return (*first, *second)


def train_privately(
    network: Network, places: Slots, facts: NDArray[np.float32], budget: Budget, how: Shares, *,
    seed: int, watch: Watch,
) -> tuple[Release, ...]:  # fmt: skip
    """Train for as many steps as are paid for with what `budget` has left; return the ledger."""
    account = Account(budget)
    people = places.starts.size - 1
    with measuring():
        counted = account.sums(
            np.array([people]), sensitivity=1.0, rho=COUNTED * account.left,
            what="number of subjects",
        )  # fmt: skip
    subjects = max(float(counted[0]), 1.0)
    rows = Rows(
        np.arange(people, dtype=np.int32)[:, None], np.arange(people, dtype=np.int64), (1,), 1,
        account,
    )  # fmt: skip
    training = train_on(
        rows, batch=max(LEAST, BATCH * subjects), steps=min(how.steps, MOST_STEPS),
        subjects=subjects, what="steps of training",
    )  # fmt: skip
    steps = Private(training, _batch(places, facts, how.most_events + 1), clip=how.clip)
    n = training.steps
    train(
        network, objective(free=how.free, counted=float(how.most_events), blind=how.blind),
        steps.batches,
        Plan(n, rate=how.rate, warm_up=n // 20, look=n, average=0.98, device=how.device),
        seed=seed, gradients=steps, watch=watch,
    )  # fmt: skip
    return account.ledger()


def _batch(
    places: Slots, facts: NDArray[np.float32], room: int
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return what turns numbers of subjects (rows, 1) into a batch of one row each."""

    def of(who: Tensor) -> Batch:
        whose = who[:, 0].numpy()
        size = np.diff(places.starts)[whose]
        at = np.arange(room)[None] + places.starts[whose][:, None]
        there = np.arange(room)[None] < size[:, None]
        place = np.where(there, at, -1)
        segment = np.where(there, 0, -1)
        first = np.where(there, 0, np.arange(room)[None])
        laid = Laid(places, facts, place, segment, first, there, max(len(whose), 1), 0)
        return laid.rows(np.arange(len(whose)))

    return of
