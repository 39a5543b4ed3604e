"""Panels under a privacy budget: what is bought of them, in which order, and for how much.

Idea       the unit is the subject. A table synthesizer draws static facts and the time of the first
           visit, under a share of the budget; everything else is a few noisy sums of one vector a
           subject each, shortened to a public length, that everything is then computed from
Algorithm  1 facts · 2 number of subjects, kinds of visits · 3 which channels there are · 4 how
           many visits, how far apart · 5 times since the first visit: a plan, or gaps · 6 moves,
           ends, what is measured · 7 values · 8 means · 9 products over pairs of visits, steps
           · 10 correct the model by panels that it draws: no private row is read again
Differs    from the panel without a budget in: channels, units and bounds are those of a declared
           schema; a plan begins at the first visit; what is measured and when records end depend on
           when it is, not on facts or values; facts do not say how lively a subject is
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._bounded as bounded
import manikin.synthesizers.events._panel_latent as latents
import manikin.synthesizers.events._panel_private_moments as moments
import manikin.synthesizers.events._panel_private_sheet as sheets
import manikin.synthesizers.events._panel_private_times as timed
import manikin.synthesizers.events._panel_private_values as valued
import manikin.synthesizers.events._panel_process as process
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.privacy.account import measuring
from manikin.privacy.budget import Budget
from manikin.synthesizer import Model, Synthesizer, Watch, report
from manikin.synthesizers.events._bounded import Behind, Paid, Purse
from manikin.synthesizers.events._panel_channels import Channel, sheet_of
from manikin.synthesizers.events._panel_facts import Facts
from manikin.synthesizers.events._panel_latent import Latent
from manikin.synthesizers.events._panel_layout import Layout
from manikin.synthesizers.events._panel_moments import Pairs
from manikin.synthesizers.events._panel_process import Process
from manikin.synthesizers.events.encoding import CLOCKS_US

__all__ = ["Parts", "fit_privately"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

FACTS = 0.15  # share of a budget for static facts
# ... and of what is left, for each that is bought
KINDS, CHANNELS, LENGTHS, TIMES, MOVES, TOGETHER = 0.03, 0.04, 0.04, 0.12, 0.09, 0.06
VALUES, MEANS, OVER_TIME, HABITS = 0.23, 0.12, 0.2, 0.0699
MOST_FACTS = 6  # that means may depend on
TRIAL = 1500  # subjects that are drawn to know how facts and visits go together
EARLIEST, LATEST = -2_208_988_800.0, 4_102_444_800.0  # the years 1900 to 2100, in seconds
DAY_US = 864 * 10**8


@dataclass(frozen=True)
class Parts:
    """What a private panel is made of."""

    layout: Layout
    table: Model[Table] | None
    facts: Facts
    process: Process
    notes: tuple[str, ...]
    paid: Paid


def fit_privately(
    data: Events, table: tuple[str, Synthesizer[Table]], budget: Budget, *, most_visits: int,
    rounds: int, seed: int, watch: Watch,
) -> Parts:  # fmt: skip
    """Learn under a budget: its noise is secret, so that no seed repeats a model."""
    bounded.check(data, table[1], "events/panel", table[0])
    schema, unit_us = data.schema, CLOCKS_US[data.schema.clock]
    sheets.candidates(schema)  # too many codes are refused before anything is bought
    report(watch, 0, 3, "fitting static facts")
    model, purse = _facts(data, table[1], budget, unit_us, seed, watch)
    account, rho = purse.account, purse.account.left
    report(watch, 1, 3, "counting visits")
    subjects, numbered, seen = sheets.styled(Behind(data), account, KINDS * rho)
    channels = sheets.channels_bought(seen, schema, account, CHANNELS * rho, subjects)
    layout = Layout(schema, channels, unit_us, numbered)
    with measuring():
        events, visits = seen.it
        sheet = sheet_of(events, visits, channels, unit_us)
    lengths = sheets.lengths_bought(
        Behind(sheet), most_visits, unit_us, account, LENGTHS * rho, subjects
    )
    with measuring():
        kept = bounded.thinned(sheet.whose, most_visits)
        own = Behind(sheets.Visited.of(sheet, kept, lengths.typical))
    static, facts = _numbers(layout, model, data, seed)
    made = _process(own, static, facts, layout, model, lengths, purse, subjects, rho, seed)
    report(watch, 2, 3, "correcting by what is drawn")
    made = made.corrected(rounds, seed)
    final, places = layout.final(model)
    moved = tuple(dataclasses.replace(c, code=places[c.code]) for c in made.made.channels)
    whole = dataclasses.replace(made.made, channels=moved)
    paid = Paid(purse.ledger(), subjects, most_visits)
    return Parts(final, model, facts, whole, _notes(schema, channels, most_visits), paid)


def _notes(schema: object, channels: tuple[Channel, ...], most: int) -> tuple[str, ...]:
    told = [f"At most {most} visits of each subject count, chosen at random."]
    codes = len(schema) if hasattr(schema, "__len__") else 0
    if lost := codes - len({channel.code for channel in channels}):
        told.append(f"{lost} declared codes that noisy counts do not show are not drawn.")
    return tuple(told)


def _facts(
    data: Events, recipe: Synthesizer[Table], budget: Budget, unit_us: int, seed: int, watch: Watch
) -> tuple[Model[Table], Purse]:
    """Fit static facts and the time of the first visit."""
    layout = Layout(data.schema, (), unit_us, False)
    with measuring():
        visits = visits_of(data)
        n = data.n_subjects
        when = np.full(n, np.datetime64("NaT", "us"))
        some = np.flatnonzero(visits.counts > 0)
        start = visits.start[visits.starts[:-1][some]].astype("datetime64[us]").astype(np.int64)
        when[some] = (start // unit_us * unit_us).astype("datetime64[us]")
        columns = {**data.static.columns, layout.anchor: when}
        written = "%Y-%m-%d" if unit_us % DAY_US == 0 else "%Y-%m-%d %H:%M:%S%.f"
        anchor = Column(layout.anchor, "datetime", date_format=written, minimum=EARLIEST,
                        maximum=LATEST)  # fmt: skip
        fields = (*data.static.schema.columns, anchor)
        flat = Table(dataclasses.replace(data.static.schema, columns=fields),
                     data.static.subjects, columns, data.static.states)  # fmt: skip
    return bounded.facts_first(recipe, flat, budget, share=FACTS, seed=_seed(seed, "facts"),
                               watch=watch)  # fmt: skip


def _numbers(
    layout: Layout, model: Model[Table], data: Events, seed: int
) -> tuple[Behind[Floats], Facts]:
    """Return static facts as numbers, chosen by what the private table draws."""
    drawn, _, _ = layout.parted(model, 4 * TRIAL, _seed(seed, "numbers"))
    facts = Facts(Facts.fit(drawn, 5).each[:MOST_FACTS])
    with measuring():
        return Behind(facts.of(data.static)), facts


@dataclass(frozen=True)
class Fitted:
    """A process before it is corrected, and what it is corrected by."""

    made: Process
    bought: moments.Bought
    together: timed.Together
    again: Callable[[int], tuple[Floats, Ints]]
    kept: float
    total: Floats  # (channels,) variances at a visit that means leave

    def corrected(self, rounds: int, seed: int) -> Fitted:
        """Return it corrected by drawn panels."""
        if not self.made.channels or not self.bought.shape.groups:
            return self
        real = moments.moments_of(self.bought, self.together, self.total, self.kept)
        made = moments.corrected(self.made, real, self.bought, self.together, rounds, seed,
                                 self.again, self.kept)  # fmt: skip
        return dataclasses.replace(self, made=made)


def _process(
    own: Behind[sheets.Visited], static: Behind[Floats], facts: Facts, layout: Layout,
    model: Model[Table], lengths: sheets.Lengths, purse: Purse, subjects: float, rho: float,
    seed: int,
) -> Fitted:  # fmt: skip
    """Buy visits, values and what they have in common."""
    account, channels, schema = purse.account, layout.channels, layout.source
    n, typical = len(channels), lengths.typical
    terminal = np.array([i for i, c in enumerate(channels)
                         if schema.codes[c.code].domain == "death"], np.int64)  # fmt: skip
    times, longest = timed.times_bought(own, lengths, layout.unit_us, account, TIMES * rho,
                                        subjects, n)  # fmt: skip
    saved = (1 - timed.GRID) * TIMES if times.planned else 0.0  # a plan needs no gaps
    moved = timed.counted_moves(own, times, account, (MOVES + saved) * rho, subjects, typical)
    times = timed.moving(times, moved, subjects, lengths)
    together = timed.together_bought(own, account, TOGETHER * rho)
    chances = timed.chances_of(moved, together, channels, terminal, len(facts.each))
    marginals = valued.marginals_bought(own, channels, schema, lengths, account, VALUES * rho)

    def again(many: int) -> tuple[Floats, Ints]:
        drawn, anchor, some = layout.parted(model, many, _seed(seed, "again"))
        return facts.of(drawn)[some], anchor[some]

    unit = max(1.0, lengths.extent)
    nothing = Latent(np.zeros((n, times.n + 2 * len(facts.each))), np.zeros((n, len(facts.each))),
                     np.zeros((2 * n, 2 * n)), np.zeros(1), np.zeros((1, n, n)), unit)  # fmt: skip
    straight = np.tile(process._normal_points(), (n, 1))
    # a plan ends by itself; else a few more visits than noisy counts surely show
    most = 2 * times.n if times.planned else math.ceil(1.5 * lengths.most)
    made = Process(channels, marginals, times, chances, nothing, straight, np.zeros((n, 2)),
                   most, longest, terminal)  # fmt: skip
    told, anchor = again(TRIAL)
    sheet, _ = process.draw(made, told, anchor, generator(seed, "panel private visits"))
    drawn = valued.Drawn.of(sheet, told, typical)
    beta = valued.means_bought(own, static, marginals, times, drawn, unit, account, MEANS * rho,
                               subjects, typical)  # fmt: skip
    made = dataclasses.replace(made, latent=dataclasses.replace(nothing, beta=beta))
    pairs = Pairs.fit(sheet.whose, sheet.time)
    if pairs.apart.size < 2:  # none was drawn, though some may be there
        pairs = Pairs(np.zeros(0), np.array([0.0, lengths.gap]))
    shape = moments.Shape(n, pairs, typical)
    bought = moments.covariances_bought(own, static, made, shape, account,
                                        (OVER_TIME * rho, HABITS * rho), subjects)  # fmt: skip
    made = dataclasses.replace(made, times=moments.lasting(bought, times))
    number = np.arange(lengths.visits.size)
    kept = lengths.expected(number / np.maximum(number, typical))
    return _with_covariances(made, bought, together, drawn, kept, again)


def _with_covariances(
    made: Process, bought: moments.Bought, together: timed.Together, drawn: valued.Drawn,
    kept: float, again: Callable[[int], tuple[Floats, Ints]],
) -> Fitted:  # fmt: skip
    """Fit covariances to what was bought."""
    n, visited = made.latent.n, drawn.visited
    design = latents.mean_design(timed.whens_of(made.times, visited), made.times.n,
                                 drawn.facts[visited.sheet.whose],
                                 visited.since / made.latent.unit)  # fmt: skip
    mean = (design @ made.latent.beta.T).var(0) if len(design) else np.zeros(n)
    points = process._normal_points()
    whole = np.array([m.scores(m.values(points)).var() for m in made.marginals])
    total = np.maximum(whole - mean, np.maximum(0.05 * whole, 1e-3))
    real = moments.moments_of(bought, together, total, kept)
    none = np.zeros((0, n))
    effects, lively, scales, parts = latents.fit_covariances(
        real, bought.shape.pairs, np.zeros((0, drawn.facts.shape[1])), none, none
    )
    latent = Latent(made.latent.beta, lively, effects, scales, parts, made.latent.unit)
    return Fitted(dataclasses.replace(made, latent=latent), bought, together, again, kept,
                  total)  # fmt: skip


def _seed(seed: int, purpose: str) -> int:
    return int(generator(seed, f"panel {purpose}").integers(2**62))
