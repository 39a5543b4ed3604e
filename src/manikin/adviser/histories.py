"""Which engine of histories: those that suit the number of subjects and events, tried on others.

Each is fitted to part of the subjects and judged on the rest by how well a classifier tells its
histories from real ones, of one row a subject (`data/summaries.py`) and of runs of codes. Means
within one standard error of each other are a tie, which the cheaper engine wins.
"""

from __future__ import annotations

import time as clock
from dataclasses import asdict, dataclass

from manikin import catalogue
from manikin.data.dataset import split_subjects
from manikin.data.events import Events
from manikin.errors import ManikinError, Stopped
from manikin.synthesizer import Progress, Watch, report

__all__ = ["Chosen", "Tried", "candidates", "choose"]

STRUCTURED = ("events/panel", "events/visits")
NEURAL = "events/trajectory"
FEWEST_EVENTS = 50_000  # from which a network has something to learn
FEWEST = 50  # subjects below which nothing can be told
MOST = 3_000  # subjects that engines are fitted to and judged on, so that it ends in time
HELD = 0.4
SHARE, MINUTES = 0.4, 3.0  # of the time that is given; without any limit
DETECTION = "fidelity/detection"
TIE = 0.02  # difference of detection scores that a split of this size does not tell apart


@dataclass(frozen=True)
class Tried:
    """One engine: its detection score (1 is indistinguishable), seconds, or why there is none."""

    name: str
    score: float | None
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Chosen:
    """The engine that is taken, and what all of them reached."""

    best: str
    why: str
    tried: tuple[Tried, ...]

    def facts(self) -> dict[str, object]:
        """Return what the record holds of the choice."""
        return {
            "chosen": self.best,
            "answer": self.why,
            "tried": [asdict(one) for one in self.tried],
        }


def candidates(events: Events) -> tuple[str, ...]:
    """Return the engines that may suit, cheap ones first: by subjects and events."""
    names = catalogue.installed("events/")
    found = [name for name in STRUCTURED if name in names]
    if events.n_events >= FEWEST_EVENTS and NEURAL in names:
        found.append(NEURAL)
    return tuple(found)


def choose(events: Events, usual: str, *, minutes: float | None, seed: int, watch: Watch) -> Chosen:
    """Fit and judge the candidates; `usual` is taken where nothing can be told."""
    names = candidates(events)
    if events.n_subjects < FEWEST or len(names) < 2:
        return Chosen(usual, f"fewer than {FEWEST} subjects, or one engine only: by its look", ())
    share = min(1.0, MOST / events.n_subjects)
    train, held = split_subjects(events, (share * (1 - HELD), share * HELD), seed=seed)
    seconds = 60 * (MINUTES if minutes is None else SHARE * minutes)
    end = clock.monotonic() + seconds
    tried = []
    for i, name in enumerate(names):
        until = clock.monotonic() + max(end - clock.monotonic(), 0.0) / (len(names) - i)
        report(watch, i, len(names), f"trying {name}")
        tried.append(_attempt(name, train, held, until, seed, watch))
    scored = [one for one in tried if one.score is not None]
    if not scored:
        return Chosen(usual, "no engine could be judged in time: by its look", tuple(tried))
    top = max(one.score or 0.0 for one in scored)
    best = next(one for one in scored if (one.score or 0.0) >= top - TIE)
    why = f"detection score {best.score:.2f} on held-out subjects, the best {top:.2f}"
    return Chosen(best.name, why, tuple(tried))


def _attempt(
    name: str, train: Events, held: Events, until: float, seed: int, watch: Watch
) -> Tried:
    """Fit, draw and judge one engine until its time is over; an error is why it failed."""
    from manikin.data.summaries import summaries
    from manikin.metrics.score import Trial

    begun = clock.monotonic()

    def listening(progress: Progress) -> bool:
        return bool(watch(progress)) or clock.monotonic() > until

    try:
        model = catalogue.build(name).fit(train, seed=seed, watch=listening)
        drawn = model.sample(train.n_subjects, seed=seed)
        flat = Trial(*(summaries(part, train) for part in (train, held, drawn)))
        scores = catalogue.metrics((DETECTION,))[DETECTION](flat, seed=seed)
    except Stopped:
        if watch(Progress(0, None, f"trying {name}")):
            raise
        return Tried(name, None, clock.monotonic() - begun, "its share of the time was over")
    except ManikinError as error:
        return Tried(name, None, clock.monotonic() - begun, type(error).__name__)
    found = [
        one.value for one in scores if one.metric == f"{DETECTION}.score" and one.group == "all"
    ]
    value = found[0] if found and found[0] == found[0] else None
    return Tried(name, value, clock.monotonic() - begun, "" if found else "not estimable")
