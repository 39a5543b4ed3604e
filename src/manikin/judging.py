"""Judging a trial: every metric with floor and ceiling, then leaks planted to be caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from manikin import catalogue
from manikin.synthesizer import Watch, report, silent

if TYPE_CHECKING:
    from manikin.data.table import Table
    from manikin.metrics.controls import Control
    from manikin.metrics.score import Metric, Score, Trial

__all__ = ["Judged", "judge_all"]


@dataclass(frozen=True)
class Judged:
    """What the judge said of a trial, and which attacks caught the leaks planted on purpose."""

    scores: tuple[Score, ...]
    controls: tuple[Control, ...]
    profile: str = "full"
    refits: str = ""  # how often it was fitted and drawn again

    def caught(self) -> dict[str, bool]:
        """Return whether each planted leak was caught by any attack."""
        return {control.name: control.caught for control in self.controls}

    def beside(self, planted: tuple[Control, ...]) -> Judged:
        """Return the same with what other attacks said of the same leaks, planted elsewhere."""
        others = {control.name: control for control in planted}
        joined = []
        for control in self.controls:
            other = others.pop(control.name, None)
            if other is not None:
                by = (*control.by, *other.by)
                enough = None if by else max(filter(None, (control.suffices, other.suffices)),
                                             default=None)  # fmt: skip
                control = replace(
                    control, by=by, suffices=enough, scores=(*control.scores, *other.scores)
                )
            joined.append(control)
        return replace(self, controls=(*joined, *others.values()))

    @property
    def suffices(self) -> int | None:
        """How many held-out subjects would do to catch the planted leaks that were missed."""
        enough = [c.suffices for c in self.controls if c.suffices is not None]
        return max(enough, default=None)

    def facts(self) -> dict[str, object]:
        """Return what the record holds beside the scores."""
        by = {control.name: list(control.by) for control in self.controls}
        return {"profile": self.profile, "controls": self.caught(), "caught_by": by}

    def settings(self) -> dict[str, object]:
        """Return what the report shows of how it was judged."""
        said: dict[str, object] = {"profile": self.profile}
        if self.refits:
            said["refits"] = self.refits
        if self.controls:
            said["caught_by"] = {c.name: list(c.by) for c in self.controls}
        if self.suffices is not None:
            said["held_out_subjects_that_would_suffice"] = self.suffices
        return said


def judge_all(
    trial: Trial[Table],
    metrics: Mapping[str, Metric[Any]],
    *,
    seed: int,
    watch: Watch = silent,
    over: Callable[[], bool] = lambda: False,
) -> Judged:
    """Score the trial, and say of each leak planted on purpose what catches it here.

    Metrics that are not begun before the time is `over` say so. Raises Stopped when `watch` asks.
    """
    from manikin.metrics.controls import floor
    from manikin.metrics.judge import assess
    from manikin.metrics.score import not_estimable

    scores: list[Score] = []
    null: list[Score] = []
    floored = floor(trial, seed=seed)
    for i, (name, metric) in enumerate(metrics.items()):
        if over():
            scores.append(not_estimable(name, "not run: the time asked for was over"))
            continue
        step = partial(_heard, watch, i, len(metrics), name)
        found = assess(trial, name, metric, seed=seed, floored=floored, step=step)
        scores += found.scores
        null += found.null
    controls = () if over() else _controls(trial, metrics, null, seed, watch)
    return Judged(tuple(scores), controls)


def _heard(watch: Watch, i: int, n: int, name: str, part: int, what: str) -> None:
    """Tell the watch before each step of a metric. Raises Stopped when it asks to stop."""
    del part
    report(watch, i, n, f"judging: {what or name}")


def _controls(
    trial: Trial[Table],
    metrics: Mapping[str, Metric[Any]],
    null: list[Score],
    seed: int,
    watch: Watch,
) -> tuple[Control, ...]:
    """Plant leaks and run every attack on them: privacy metrics of which less is better."""
    from manikin.metrics.controls import positive_controls

    cards = catalogue.cards()
    attacks = {
        name: metric
        for name, metric in metrics.items()
        if name in cards and cards[name].family == "privacy" and cards[name].better == "lower"
    }
    if not attacks:
        return ()

    def step(what: str) -> None:
        report(watch, len(metrics), len(metrics), f"planting leaks: {what}")

    return positive_controls(trial, attacks, seed=seed, null=null, step=step)
