"""The whole process of a panel: visits, what is measured at them, values; fitting and drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._panel_chances as chance
import manikin.synthesizers.events._panel_latent as model
from manikin.data.randomness import generator
from manikin.synthesizers.events._panel_chances import Chances, History
from manikin.synthesizers.events._panel_channels import Channel, Sheet
from manikin.synthesizers.events._panel_latent import Latent, Walk
from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._panel_moments import Moments, Pairs, last_known
from manikin.synthesizers.events._panel_times import Times

__all__ = ["Process", "Record", "bent", "draw", "fit", "follow", "onward", "scores_of"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

POINTS = 63  # by which simulated scores are made normal
FEW = 20  # pieces of a channel whose steps are told by their squares
TRIAL_VISITS = 20_000  # about so many visits are drawn to correct a model by, of
TRIAL = 1500  # subjects at most
MOST_VISITS = 100_000


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted process."""

    channels: tuple[Channel, ...]
    marginals: tuple[Marginal, ...]
    times: Times
    chances: Chances
    latent: Latent
    bend: Floats  # (channels, points) quantiles of latent scores, which become normal ones
    repeat: Floats  # (channels, 2) chance that a value is the former one once more: its mean over
    # subjects, and the mean of its square
    most_visits: int  # of a subject
    longest: float  # units from the anchor to the last visit
    terminal: Ints  # channels after which nothing comes


def fit(
    panel: Sheet,
    channels: tuple[Channel, ...],
    visits: tuple[Times, Ints, Ints],
    facts: Floats,
    terminal: Ints,
    *,
    k: int,
    rounds: int,
    seed: int,
    again: Callable[[int], tuple[Floats, Ints]],
) -> Process:
    """Learn a process from what `Times.fit` found, and from `facts`, (subjects, facts).

    `again(n)` draws facts and anchors of new subjects, by whom the model is corrected.
    """
    times, when, anchor = visits
    whose, n_whens = panel.whose, times.n
    marginals = tuple(
        Marginal.fit(cells[known], whose[known], k, channel.decimals)
        for channel, cells, known in zip(channels, panel.cells.T, ~np.isnan(panel.cells.T),
                                         strict=True)
    )  # fmt: skip
    scores = scores_of(marginals, panel.cells)
    since = (panel.time - anchor[whose]).astype(np.float64)
    unit = float(max(1.0, np.abs(since).max(initial=1.0)))
    chances, most, longest = _chances(panel, scores, facts, when, since, times, k, seed)
    design = model.mean_design(when, n_whens, facts[whose], since / unit)
    beta = model.mean_coefficients(scores, design, whose, n_whens, seed)
    left = scores - design @ beta.T
    pairs = Pairs.fit(whose, panel.time)
    few = np.array([m.mass.size <= FEW for m in marginals], bool)
    real = Moments.of(left, panel.cells, whose, panel.time, pairs, few)
    sizes, levels = _by_subject(left, whose, panel.n_subjects)
    effects, lively, scales, parts = model.fit_covariances(real, pairs, facts, sizes, levels)
    n = len(channels)
    known = _counts(left, whose, panel.n_subjects)
    spread = model.spread_effects(levels, known, facts)
    latent = Latent(beta, lively, effects, scales, parts, unit, spread)
    straight = np.tile(_normal_points(), (n, 1))
    made = Process(channels, marginals, times, chances, latent, straight, np.zeros((n, 2)), most,
                   longest, terminal)  # fmt: skip
    if rounds and n and panel.whose.size:
        made = _corrected(made, real, pairs, facts, sizes, levels, rounds, seed, again,
                          panel.whose.size / max(1, int((panel.counts > 0).sum())))  # fmt: skip
    return made


def _chances(
    panel: Sheet, scores: Floats, facts: Floats, when: Ints, since: Floats, times: Times, k: int,
    seed: int,
) -> tuple[Chances, int, float]:  # fmt: skip
    seen = ~np.isnan(scores)
    block = chance.blocks_of(seen)
    blocks = chance.block_mask(seen, block)
    place = panel.place
    before = np.zeros_like(blocks)
    before[1:] = blocks[:-1] & (place[1:] > 0)[:, None]
    sums: Floats = (np.cumsum(blocks, 0) - blocks).astype(np.float64)
    start: Floats = sums[panel.starts[:-1][panel.whose]] if panel.whose.size else sums
    share: Floats = (sums - start + 0.5) / (place[:, None] + 1.0)
    last = np.nan_to_num(last_known(scores, panel.whose))
    history = History(when, facts[panel.whose], before, share, last, times.jumps(panel, when))
    ends = np.zeros(panel.whose.size, bool)
    ends[panel.starts[1:][panel.counts > 0] - 1] = True
    over = np.sort(since[ends])[::-1][: max(1, k)]
    longest = float(np.ceil(over.mean())) if over.size else 0.0
    gap = np.diff(since)[np.diff(panel.whose) == 0]
    near = longest - since < (np.quantile(gap, 0.9) if gap.size else 0.0)
    if times.planned:
        near = when == times.n - 1
    if (ends & near).sum() >= 0.3 * ends.sum():
        ends &= ~near  # the end of the study ends these records, and nothing of their own
    counts = np.sort(panel.counts)[::-1]
    most = int(counts[min(k, counts.size) - 1]) if counts.size else 0
    return Chances.fit(history, seen, block, ends, times.n, seed), most, longest


def _corrected(
    made: Process, real: Moments, pairs: Pairs, facts: Floats, sizes: Floats, levels: Floats,
    rounds: int, seed: int, again: Callable[[int], tuple[Floats, Ints]], per_subject: float,
) -> Process:  # fmt: skip
    """Draw from the model, compare what is averaged over pairs, and move the model by that."""
    wanted = real
    n = int(np.clip(TRIAL_VISITS / max(per_subject, 1.0), 100, TRIAL))
    for turn in range(rounds):
        drawn_facts, anchor = again(n)
        rng = generator(seed, "panel correction", turn)
        panel, y = draw(made, drawn_facts, anchor, rng)
        bend = _bend(y)
        # values of the same scores, as they are when scores are bent to be normal
        cells = _valued(made, bent(bend, y), panel.whose, generator(seed, "panel repeats", turn))
        scores = scores_of(made.marginals, cells)
        when, since = _whens(made.times, panel, anchor)
        design = model.mean_design(when, made.times.n, drawn_facts[panel.whose],
                                   since / made.latent.unit)  # fmt: skip
        left = scores - design @ made.latent.beta.T
        few = np.array([m.mass.size <= FEW for m in made.marginals], bool)
        found = Moments.of(left, cells, panel.whose, panel.time, pairs, few)
        wanted = replace(
            wanted,
            products=_moved(wanted.products, real, found),
            lively=wanted.lively + np.clip(real.lively - found.lively, -0.3, 0.3),
        )
        repeat = made.repeat + np.stack([real.same - found.same, real.again - found.again], 1)
        repeat[:, 0] = np.clip(repeat[:, 0], 0.0, 0.95)
        repeat[:, 1] = np.clip(repeat[:, 1], repeat[:, 0] ** 2, 0.95 * repeat[:, 0])
        effects, lively, scales, parts = model.fit_covariances(wanted, pairs, facts, sizes, levels)
        latent = replace(made.latent, lively=lively, effects=effects, scales=scales, parts=parts)
        made = replace(made, latent=latent, bend=bend, repeat=repeat)
    return made


def _moved(wanted: Floats, real: Moments, found: Moments) -> Floats:
    """Return averages moved by what simulated ones lack: by ratio, off the diagonal by it too."""
    diagonal = np.eye(wanted.shape[1], dtype=bool)
    ratio = np.clip(real.products / np.where(found.products > 1e-9, found.products, 1.0), 0.5, 2.0)
    scale = np.sqrt(np.einsum("gjj->gj", ratio))
    both = scale[:, :, None] * scale[:, None, :]
    lack = np.where(diagonal, 0.0, real.products - found.products * both)
    moved = wanted * np.where(diagonal, ratio, both) + lack
    return np.where(found.pairs > 50, moved, wanted)


@dataclass
class Record:
    """Where the records of subjects stand; one row a subject."""

    anchor: Ints
    facts: Floats
    walk: Walk
    habits: Floats  # (subjects, channels) chance to repeat a value
    time: Ints
    when: Ints
    own: Floats  # the subject's own part of shifts
    shift: Floats  # score of the last shift
    last_scores: Floats  # (subjects, channels)
    last: Floats  # (subjects, channels) values
    before: Mask  # (subjects, blocks)
    often: Floats  # (subjects, blocks)
    jumped: Floats  # (subjects,) whether slots were skipped right before the visit
    visits: Ints

    @staticmethod
    def start(made: Process, facts: Floats, anchor: Ints, rng: np.random.Generator) -> Record:
        """Return records before their first visit, whose time is known."""
        n, n_channels, n_blocks = len(facts), len(made.channels), made.chances.n_blocks
        walk = Walk(made.latent, facts, rng)
        time, when, own, shift = made.times.begin(anchor, rng)
        return Record(anchor, facts, walk, _habits(made, n, rng), time, when, own, shift,
                      np.zeros((n, n_channels)), np.full((n, n_channels), np.nan),
                      np.zeros((n, n_blocks), bool), np.zeros((n, n_blocks)),
                      np.zeros(n), np.zeros(n, np.int64))  # fmt: skip

    def history(self, rows: Ints) -> History:
        """Return what is known of these subjects."""
        share = (self.often[rows] + 0.5) / (self.visits[rows, None] + 1.0)
        return History(self.when[rows], self.facts[rows], self.before[rows], share,
                       self.last_scores[rows], self.jumped[rows])  # fmt: skip

    def saw(self, rows: Ints, blocks: Mask, cells: Floats, scores: Floats) -> None:
        """Note a visit; NaN where nothing is measured."""
        seen = ~np.isnan(cells)
        self.last_scores[rows] = np.where(seen, scores, self.last_scores[rows])
        self.last[rows] = np.where(seen, cells, self.last[rows])
        self.before[rows] = blocks
        self.often[rows] += blocks
        self.visits[rows] += 1


def draw(
    made: Process, facts: Floats, anchor: Ints, rng: np.random.Generator
) -> tuple[Sheet, Floats]:
    """Draw the visits of these subjects: a sheet, and the latent scores behind its cells."""
    record = Record.start(made, facts, anchor, rng)
    rows = np.arange(len(facts) if made.most_visits else 0)
    return follow(made, record, rows, None, np.full(len(facts), np.inf), rng)


def follow(
    made: Process, record: Record, rows: Ints, gap: Floats | None, until: Floats,
    rng: np.random.Generator,
) -> tuple[Sheet, Floats]:  # fmt: skip
    """Draw visit after visit of these subjects, who are about to have one, so long after the last.

    Nothing is later than `until`, (subjects,).
    """
    kept: list[tuple[Ints, Ints, Floats, Floats]] = []
    while rows.size:
        history = record.history(rows)
        blocks, seen = made.chances.measured(history, rng)
        time = record.time[rows]
        since = (time - record.anchor[rows]) / made.latent.unit
        design = model.mean_design(record.when[rows], made.times.n, record.facts[rows], since)
        y = record.walk.step(rows, gap, design @ made.latent.beta.T, rng)
        again = rng.random(y.shape) < record.habits[rows]
        cells = _drawn(made, bent(made.bend, y), record.last[rows], seen, again)
        kept.append((rows, time, cells, np.where(seen, y, np.nan)))
        record.saw(rows, blocks, cells, scores_of(made.marginals, cells))
        over = seen[:, made.terminal].any(1) | (record.visits[rows] >= made.most_visits)
        rows, gap = onward(made, record, rows, blocks, over, until, rng)
    return _panel(kept, len(record.time), len(made.channels))


def onward(
    made: Process, record: Record, rows: Ints, blocks: Mask, over: Mask, until: Floats,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:  # fmt: skip
    """Return who has another visit, and how long after this one; `over` says who has none."""
    over = over | made.chances.ends(record.history(rows), blocks, rng)
    time, when = record.time[rows], record.when[rows]
    if made.times.planned:
        over |= when == made.times.n - 1
    later, new, moved = made.times.next(time, when, record.anchor[rows], record.own[rows],
                                        record.shift[rows], np.zeros(rows.size), rng)  # fmt: skip
    over |= (later - record.anchor[rows] > made.longest) | (later > until[rows])
    rows, on = rows[~over], ~over
    if made.times.planned:
        record.jumped[rows] = new[on] > when[on] + 1
    record.own[rows] = made.times.usual(record.own[rows], record.shift[rows], moved[on])
    record.time[rows], record.when[rows], record.shift[rows] = later[on], new[on], moved[on]
    return rows, (later - time)[on].astype(np.float64)


def _panel(
    kept: list[tuple[Ints, Ints, Floats, Floats]], n: int, n_channels: int
) -> tuple[Sheet, Floats]:
    if not kept:
        none = np.zeros((0, n_channels))
        empty = np.zeros(0, np.int64)
        return Sheet(empty, empty, none, np.zeros(n + 1, np.int64)), none
    whose, time, cells, y = (np.concatenate(part) for part in zip(*kept, strict=True))
    order = np.argsort(whose, kind="stable")  # visits of a subject were drawn in order
    whose = whose[order]
    starts = np.searchsorted(whose, np.arange(n + 1)).astype(np.int64)
    return Sheet(whose, time[order], cells[order], starts), y[order]


def _habits(made: Process, n: int, rng: np.random.Generator) -> Floats:
    """Return subjects' chances to repeat the former value, beta distributed, (n, channels)."""
    mean, square = made.repeat.T
    variance = square - mean**2
    size = np.where(variance > 1e-6, mean * (1 - mean) / np.maximum(variance, 1e-6) - 1, 0.0)
    found = np.tile(mean, (n, 1))
    for j in np.flatnonzero((size > 1e-3) & (mean > 1e-3)):
        found[:, j] = rng.beta(mean[j] * size[j], (1 - mean[j]) * size[j], n)
    return found


def _drawn(made: Process, scores: Floats, last: Floats, seen: Mask, again: Mask) -> Floats:
    """Return values at a visit, NaN where nothing is measured."""
    cells = np.full(scores.shape, np.nan)
    for j, marginal in enumerate(made.marginals):
        own = seen[:, j]
        cells[own, j] = marginal.values(scores[own, j])
    same = seen & again & ~np.isnan(last)
    return np.where(same, last, cells)


def _valued(made: Process, scores: Floats, whose: Ints, rng: np.random.Generator) -> Floats:
    """Return the values of a whole panel of scores, NaN where they are."""
    cells = np.full(scores.shape, np.nan)
    for j, marginal in enumerate(made.marginals):
        own = ~np.isnan(scores[:, j])
        cells[own, j] = marginal.values(scores[own, j])
    n = int(whose.max(initial=-1)) + 1
    again = rng.random(scores.shape) < _habits(made, n, rng)[whose]
    first = np.isnan(last_known(cells, whose))
    kept = np.where(again & ~first & ~np.isnan(cells), np.nan, cells)
    filled = last_known(kept, whose)
    return np.where(np.isnan(kept) & ~np.isnan(cells), filled, cells)


def _whens(times: Times, panel: Sheet, anchor: Ints) -> tuple[Ints, Floats]:
    since = (panel.time - anchor[panel.whose]).astype(np.float64)
    if times.planned:  # the slot is not kept: the nearest one is as good for a mean
        middle = (times.centre[1:] + times.centre[:-1]) / 2
        return np.searchsorted(middle, since), since
    on = (panel.time % times.grid == 0) if times.grid else np.zeros(since.size, bool)
    return times.whens(since, on), since


def _by_subject(left: Floats, whose: Ints, n: int) -> tuple[Floats, Floats]:
    """Return logs of subjects' mean steps, and their means, (subjects, channels)."""
    size = np.abs(left - last_known(left, whose))
    there = ~np.isnan(size)
    mean = np.where(there, size, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    found = []
    for values, start in ((size / np.maximum(mean, 1e-9), 1.0), (left, 0.0)):
        total, many = np.zeros((n, left.shape[1])), np.zeros((n, left.shape[1]))
        known = ~np.isnan(values)
        np.add.at(total, whose, np.where(known, values, 0.0))
        np.add.at(many, whose, known)
        found.append((total + start) / np.maximum(many + start, 1.0))
    return np.log(found[0]), found[1]


def _counts(values: Floats, whose: Ints, n: int) -> Floats:
    """Return how many values of each channel each subject has, (subjects, channels)."""
    found = np.zeros((n, values.shape[1]))
    np.add.at(found, whose, ~np.isnan(values))
    return found


def scores_of(marginals: tuple[Marginal, ...], cells: Floats) -> Floats:
    found = np.full(cells.shape, np.nan)
    for j, marginal in enumerate(marginals):
        own = ~np.isnan(cells[:, j])
        found[own, j] = marginal.scores(cells[own, j])
    return found


def _normal_points() -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(POINTS) + 0.5) / POINTS))


def _bend(y: Floats) -> Floats:
    """Return quantiles of simulated scores; what has none is left as it is."""
    p = (np.arange(POINTS) + 0.5) / POINTS
    found = np.tile(_normal_points(), (y.shape[1], 1))
    for j in range(y.shape[1]):
        own = y[~np.isnan(y[:, j]), j]
        if own.size >= 4 * POINTS:
            found[j] = np.maximum.accumulate(np.quantile(own, p) + 1e-9 * np.arange(POINTS))
    return found


def bent(bend: Floats, y: Floats) -> Floats:
    """Return scores whose quantiles are normal ones; beyond the ends they are shifted along."""
    points = _normal_points()
    found = np.empty_like(y)
    for j in range(y.shape[1]):
        inside = np.interp(y[:, j], bend[j], points)
        beyond = np.minimum(y[:, j] - bend[j, 0], 0) + np.maximum(y[:, j] - bend[j, -1], 0)
        found[:, j] = inside + beyond
    return found


def unbent(bend: Floats, scores: Floats) -> Floats:
    """Return the latent scores whose bent ones these are."""
    points = _normal_points()
    found = np.empty_like(scores)
    for j in range(scores.shape[1]):
        inside = np.interp(scores[:, j], points, bend[j])
        beyond = np.minimum(scores[:, j] - points[0], 0) + np.maximum(scores[:, j] - points[-1], 0)
        found[:, j] = inside + beyond
    return found
