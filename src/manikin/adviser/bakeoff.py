"""The bake-off: families fitted to part of the subjects, judged on others, within the time given.

A split is by subject; every family is given the same rows and judged by the same metrics on the
same held-out ones, so that differences are paired. The first split tries everyone, cheap ones
first, so that what they leave goes to the dear ones; further splits try again those that are not
surely behind (successive rejects: Audibert, Bubeck and Munos, COLT 2010). A fit that takes longer
than its share is asked to stop through its watch; a metric that would not end in time, by how long
it took before, is not begun.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from manikin import catalogue
from manikin.data.dataset import split_subjects
from manikin.data.randomness import generator
from manikin.errors import ManikinError, Stopped
from manikin.sampling import join
from manikin.synthesizer import Conditional, Progress, Watch, report, stream

if TYPE_CHECKING:
    from manikin.data.table import Table
    from manikin.metrics.score import Score

__all__ = ["MEASURES", "Attempt", "Baked", "Clock", "bake"]

HELD = 0.4  # share of subjects to judge on
ROWS_PER_MINUTE, FEWEST_ROWS, MOST_ROWS = 600, 500, 3_000  # to fit to, by the time there is
MOST_SPLITS = 8
FIRST = 0.5  # share of the time that the first split may take
SLOWER = 1.3  # a second fit or judgement may take as many times the first
AGAIN, MORE = 0.7, 1.5  # share of the time left for those who were stopped, if so much longer
LEAST = 2.0  # seconds that a fit may take however small its share, while there are as many
BLOCK = 1_000  # subjects drawn between two looks at the clock
DETECTION, MEMBERSHIP = "fidelity/detection.score", "privacy/membership.auc"
GAPS = ("utility/survival.c_gap", "utility/prediction.auc_gap", "utility/prediction.r2_gap")
MEASURES = ("detection", "gap", "membership")

Keep = Callable[["Baked"], tuple[str, ...]]
"""Returns who may still win: the best first."""


@dataclass
class Clock:
    """How much of the time is left, and how long judging took."""

    seconds: float
    begun: float = field(default_factory=clock.monotonic)
    judging: dict[str, float] = field(default_factory=dict)  # the last time, by metric

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return clock.monotonic() - self.begun

    @property
    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.seconds - self.spent

    @property
    def judge(self) -> float:
        """Seconds that judging one family may take."""
        return SLOWER * sum(self.judging.values())


@dataclass(frozen=True)
class Attempt:
    """One family on one split: its measures and seconds, or why there are none."""

    name: str
    split: int
    measures: Mapping[str, Score] = field(default_factory=dict)
    seconds: float = 0.0  # to fit and draw
    failed: str = ""
    stopped: bool = False  # its share of the time was over


@dataclass(frozen=True)
class Baked:
    """All attempts, what fresh real rows reach on each split, and how many rows there were."""

    attempts: tuple[Attempt, ...]
    ceilings: tuple[Mapping[str, Score], ...]
    train_rows: int
    held_rows: int

    @property
    def splits(self) -> int:
        """Number of splits on which someone was judged."""
        return len({one.split for one in self.attempts if one.measures})

    def of(self, name: str) -> tuple[Attempt, ...]:
        """Return a family's attempts that were judged, by split."""
        return tuple(one for one in self.attempts if one.name == name and one.measures)

    def failure(self, name: str) -> str:
        """Return why a family was not judged at all, or ''."""
        if self.of(name):
            return ""
        said = [one.failed for one in self.attempts if one.name == name]
        return said[-1] if said else "not reached: the time was over"


def bake(
    table: Table,
    names: Sequence[str],
    time: Clock,
    *,
    seed: int,
    keep: Keep,
    watch: Watch,
    conditional: bool = False,
) -> Baked:
    """Fit and judge the families `names`, in this order at first, until time or doubt is over.

    `conditional` leaves out models that cannot be given conditions.
    """
    rows = int(np.clip(ROWS_PER_MINUTE * time.seconds / 60, FEWEST_ROWS, MOST_ROWS))
    parts = _parts(table, rows, seed, 0)
    baked = Baked((), (), parts[0].n_rows, parts[1].n_rows)
    entrants = tuple(names)
    for split in range(MOST_SPLITS):
        if split:
            parts = _parts(table, rows, seed, split)
            if time.left < _needed(baked, entrants[:2], time):
                break  # no pair of two could be had
        oven = Oven(parts, time, seed, split, watch, conditional)
        end = time.seconds if split else time.spent + FIRST * time.left
        ceiling = oven.ceiling()
        baked = replace(baked, ceilings=(*baked.ceilings, ceiling))
        for i, name in enumerate(entrants):
            if split and time.left < _needed(baked, (name,), time):
                continue
            share = (end - time.spent) / (len(entrants) - i) if not split else time.left
            attempt = oven.attempt(name, share)
            baked = replace(baked, attempts=(*baked.attempts, attempt))
        if not split:
            baked = _again(baked, oven, time)
        entrants = keep(baked)
        if len(entrants) < 2:
            break
    return baked


def _again(baked: Baked, oven: Oven, time: Clock) -> Baked:
    """Give those whose share of the first split was too short the time that others left.

    To have tried everyone comes before certainty about some.
    """
    stopped = [one for one in baked.attempts if one.stopped]
    for i, one in enumerate(stopped):
        share = AGAIN * time.left / (len(stopped) - i)
        if share - time.judge > MORE * one.seconds:
            baked = replace(baked, attempts=(*baked.attempts, oven.attempt(one.name, share)))
    return baked


def _needed(baked: Baked, names: Sequence[str], time: Clock) -> float:
    """Return the seconds that another split of these would take."""
    fits = sum(max(one.seconds for one in baked.of(name)) for name in names)
    return SLOWER * fits + len(names) * time.judge


def _parts(table: Table, rows: int, seed: int, split: int) -> tuple[Table, Table]:
    """Return rows to fit to and rows to judge on, of different subjects, about `rows` each."""
    own = int(generator(seed, "adviser split", split).integers(2**31))
    share = min(1.0, rows / ((1 - HELD) * table.n_rows))
    train, held = split_subjects(table, (share * (1 - HELD), share * HELD), seed=own)
    return train, held


@dataclass(frozen=True)
class Oven:
    """One split of the bake-off."""

    parts: tuple[Table, Table]
    time: Clock
    seed: int
    split: int
    watch: Watch
    conditional: bool

    def ceiling(self) -> dict[str, Score]:
        """Return what fresh real rows reach: the training rows, judged as if they were drawn."""
        report(self.watch, self.split, None, "bake-off: fresh real rows")
        return self._judged(self.parts[0], fresh=True)

    def attempt(self, name: str, share: float) -> Attempt:
        """Fit, draw and judge one family in `share` seconds; an error is the reason it failed."""
        begun = clock.monotonic()
        most = self.time.left - self.time.judge  # the judge must come to its turn
        until = begun + min(most, max(share - self.time.judge, LEAST))
        listening = self._until(until, name)
        try:
            report(listening, 0, None, "fitting")
            drawn = self._drawn(name, listening)
            taken = clock.monotonic() - begun
            measures = self._judged(drawn)
        except Stopped:
            if clock.monotonic() < until:
                raise  # the person asked for it
            taken = clock.monotonic() - begun
            why = f"stopped after {taken:.0f} s: its share of the time was over"
            return Attempt(name, self.split, seconds=taken, failed=why, stopped=True)
        except ManikinError as error:
            return Attempt(name, self.split, failed=str(error))
        except Exception as error:  # of a family, not of the adviser: its text may quote a cell
            return Attempt(name, self.split, failed=f"an error of its own: {type(error).__name__}")
        if not measures:
            return Attempt(name, self.split, seconds=taken, failed="not judged: the time was over")
        return Attempt(name, self.split, measures, taken)

    def _until(self, end: float, name: str) -> Watch:
        """Return a watch that names the family and asks to stop at the end of its share."""

        def listening(progress: Progress) -> bool:
            what = f"bake-off: {name}, split {self.split + 1}, {progress.what}"
            return bool(self.watch(replace(progress, what=what))) or clock.monotonic() > end

        return listening

    def _drawn(self, name: str, watch: Watch) -> Table:
        from manikin.errors import NotSupported

        train = self.parts[0]
        model = catalogue.build(name).fit(train, seed=self.seed + self.split, watch=watch)
        if self.conditional and not isinstance(model, Conditional):
            raise NotSupported(
                "a model that cannot condition", "one that can", "choose it without conditions"
            )
        blocks = []
        for block in stream(
            model, train.n_subjects, seed=self.seed + self.split, subjects_per_block=BLOCK
        ):
            blocks.append(block)
            report(watch, len(blocks), None, "sampling")
        return join(blocks)

    def _judged(self, drawn: Table, *, fresh: bool = False) -> dict[str, Score]:
        """Return the measures that the time allows, by name."""
        from manikin.metrics import controls
        from manikin.metrics.judge import scored
        from manikin.metrics.score import Trial

        train, held = self.parts
        trial = Trial(train, held, drawn)
        found: dict[str, Score] = {}
        for name, metric in catalogue.metrics(_metrics(train)).items():
            if self.time.left < SLOWER * self.time.judging.get(name, 0.0):
                break
            report(self.watch, len(found), None, f"bake-off: judging by {name}")
            own: Trial[Table] | None = trial
            if fresh and name.startswith("privacy/"):
                own = controls.fresh(trial, family="privacy", seed=self.seed)
            begun = clock.monotonic()
            scores = () if own is None else scored(name, metric, own, self.seed + self.split)
            taken = clock.monotonic() - begun
            self.time.judging[name] = taken
            found |= _picked(scores)
        return found if "detection" in found else {}


def _metrics(table: Table) -> tuple[str, ...]:
    """Return the metrics that apply: detection first, without which nobody is ranked."""
    schema = table.schema
    survival = schema.holder("time") is not None and schema.holder("event") is not None
    gap = "utility/survival" if survival else "utility/prediction"
    has_gap = survival or schema.holder("target") is not None
    return ("fidelity/detection", *((gap,) if has_gap else ()), "privacy/membership")


def _picked(scores: Sequence[Score]) -> dict[str, Score]:
    """Return the scores that the adviser goes by, under its own names."""
    called = {DETECTION: "detection", MEMBERSHIP: "membership", **dict.fromkeys(GAPS, "gap")}
    return {
        called[score.metric]: score
        for score in scores
        if score.group == "all" and score.metric in called and np.isfinite(score.interval).all()
    }
