"""What may come after a history: its records are followed to their end, then drawn on.

A channel's level and processes are filtered by themselves (Kalman, 1960), given how lively the
subject has been; one draw of them from what the history leaves open makes one future.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._panel_chances as chance
import manikin.synthesizers.events._panel_latent as model
import manikin.synthesizers.events._panel_process as process
from manikin.synthesizers.events._panel_channels import Sheet
from manikin.synthesizers.events._panel_latent import Latent
from manikin.synthesizers.events._panel_moments import last_known
from manikin.synthesizers.events._panel_process import Process, Record
from manikin.synthesizers.events._panel_times import scores_of as shift_scores
from manikin.synthesizers.events._panel_times import usual_of

__all__ = ["future"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

ONE_STEP = 0.75  # variance of the log of one step's size


def future(
    made: Process, sheet: Sheet, facts: Floats, span: int, rng: np.random.Generator
) -> Sheet:
    """Draw what follows the last visit of each subject for `span` units; none without a visit."""
    when, anchor = made.times.placed(sheet)
    record = Record.start(made, facts, anchor, rng)
    _replay(made, record, sheet, when)
    _filter(made, record, sheet, when, rng)
    score = shift_scores(made.times, sheet, when, anchor)
    _shifts(made, record, sheet, score, rng)
    rows = np.flatnonzero(sheet.counts > 0)
    until = (record.time + span).astype(np.float64)
    final = sheet.starts[1:][rows] - 1
    seen = ~np.isnan(sheet.cells[final])
    over = np.asarray(seen[:, made.terminal].any(1))
    blocks = chance.block_mask(seen, made.chances.block)
    rows, gap = process.onward(made, record, rows, blocks, over, until, rng)
    return process.follow(made, record, rows, gap, until, rng)[0]


def _replay(made: Process, record: Record, sheet: Sheet, when: Ints) -> None:
    """Bring records to where the histories end."""
    scores = process.scores_of(made.marginals, sheet.cells)
    blocks = chance.block_mask(~np.isnan(scores), made.chances.block)
    jumped = made.times.jumps(sheet, when)
    for v in range(int(sheet.counts.max(initial=0))):
        rows = np.flatnonzero(sheet.counts > v)
        at = sheet.starts[rows] + v
        record.jumped[rows] = jumped[at]
        record.saw(rows, blocks[at], sheet.cells[at], scores[at])
        record.time[rows], record.when[rows] = sheet.time[at], when[at]


def _filter(
    made: Process, record: Record, sheet: Sheet, when: Ints, rng: np.random.Generator
) -> None:
    """Draw levels, liveliness and processes as they may be after the histories."""
    latent, whose = made.latent, sheet.whose
    since = (sheet.time - record.anchor[whose]) / latent.unit
    design = model.mean_design(when, made.times.n, record.facts[whose], since)
    scores = process.scores_of(made.marginals, sheet.cells)
    left = process.unbent(made.bend, scores) - design @ latent.beta.T
    record.walk.scale = _scales(latent, record.facts, left, sheet, rng)
    n, slow = latent.n, np.flatnonzero(latent.scales > 0)
    variance = np.einsum("kjj->jk", latent.parts)  # (channels, scales)
    noise = variance[:, latent.scales <= 0].sum(1)
    start = np.concatenate([latent.effects.diagonal()[:n, None], variance[:, slow]], 1)
    width = start.shape[1]
    mean = np.zeros((len(record.facts), n, width))
    cov = np.zeros((*mean.shape, width))
    cov[...] = start[:, :, None] * np.eye(width)
    cov[:, :, 0, 0] *= latent.spreads(record.facts) ** 2
    for v in range(int(sheet.counts.max(initial=0))):
        rows = np.flatnonzero(sheet.counts > v)
        at = sheet.starts[rows] + v
        if v:
            gap = (sheet.time[at] - sheet.time[at - 1]).astype(np.float64)
            kept = np.exp(-gap[:, None] / latent.scales[slow])
            kept = np.concatenate([np.ones((rows.size, 1)), kept], 1)[:, None, :]
            mean[rows] *= kept
            fresh = start * (1 - kept**2)
            cov[rows] = cov[rows] * kept[..., :, None] * kept[..., None, :] + (
                fresh[..., None] * np.eye(width)
            )
        scale = record.walk.scale[rows]
        load = np.concatenate([np.ones((*scale.shape, 1)),
                               np.repeat(scale[..., None], slow.size, 2)], 2)  # fmt: skip
        seen = ~np.isnan(left[at])
        spread = np.einsum("rcij,rcj->rci", cov[rows], load)
        total = (spread * load).sum(2) + scale**2 * noise + 1e-9
        gain = np.where(seen[..., None], spread / total[..., None], 0.0)
        wrong = np.where(seen, left[at], 0.0) - (mean[rows] * load).sum(2)
        mean[rows] += gain * wrong[..., None]
        cov[rows] -= gain[..., :, None] * spread[..., None, :]
    values, vectors = np.linalg.eigh((cov + np.swapaxes(cov, -1, -2)) / 2)
    half = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    drawn = mean + np.einsum("rcij,rcj->rci", half, rng.standard_normal(mean.shape))
    some = sheet.counts > 0
    record.walk.level[some] = drawn[some, :, 0]
    for place, k in enumerate(slow, start=1):
        record.walk.u[k][some] = drawn[some, :, place]


def _scales(
    latent: Latent, facts: Floats, left: Floats, sheet: Sheet, rng: np.random.Generator
) -> Floats:
    """Draw how lively subjects are, given the sizes of their steps."""
    n = latent.n
    size = np.abs(left - last_known(left, sheet.whose))
    time = np.where(np.isnan(left), np.nan, sheet.time[:, None].astype(np.float64))
    gap = time - last_known(time, sheet.whose)
    variance = np.zeros(gap.shape)
    for scale, part in zip(latent.scales, latent.parts, strict=True):
        rise = 1 - np.exp(-gap / scale) if scale > 0 else np.ones(gap.shape)
        variance += part.diagonal() * rise
    known = ~np.isnan(size) & (variance > 1e-9)
    expected = np.sqrt(4 / np.pi * np.where(known, variance, 1.0))
    found, many = np.zeros((len(facts), n)), np.zeros((len(facts), n))
    np.add.at(found, sheet.whose, np.where(known, size / expected, 0.0))
    np.add.at(many, sheet.whose, known)
    told = facts @ latent.lively.T
    prior = latent.effects.diagonal()[n:]
    seen = np.log((found + 1.0) / (many + 1.0))
    trust = prior / (prior + ONE_STEP / np.maximum(many, 1e-9))
    log = (1 - trust) * (told - prior) + trust * seen
    log += np.sqrt(prior * (1 - trust)) * rng.standard_normal(log.shape)
    return np.asarray(np.exp(np.clip(log, -2.5, 1.5)))


def _shifts(
    made: Process, record: Record, sheet: Sheet, score: Floats, rng: np.random.Generator
) -> None:
    """Set how late or early subjects are, by themselves and lately."""
    if made.times.planned:
        last = np.maximum(sheet.starts[1:] - 1, 0)
        some = sheet.counts > 0
        before, own = usual_of(made.times, sheet, score)
        last = last[some]
        record.shift[some] = score[last]
        record.own[some] = made.times.usual(own[last], before[last], score[last])
        return
    steady = made.times.steady
    known = ~np.isnan(score)
    total, many = np.zeros(len(record.time)), np.zeros(len(record.time))
    np.add.at(total, sheet.whose[known], score[known])
    np.add.at(many, sheet.whose[known], 1.0)
    trust = many * steady / (many * steady + 1 - steady)
    mean = np.divide(total, many, out=np.zeros_like(total), where=many > 0)
    record.own = trust * mean / max(np.sqrt(steady), 1e-6) * (steady > 0)
    record.own = record.own + np.sqrt(1 - trust) * rng.standard_normal(total.size)
    last = np.zeros(total.size)
    last[sheet.whose[known]] = score[known]  # rows are in order: the last one stands
    rest = (last - np.sqrt(steady) * record.own) / np.sqrt(1 - steady)
    record.shift = np.where(many > 0, rest, record.shift)
