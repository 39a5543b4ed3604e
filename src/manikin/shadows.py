"""The strongest attacker: one who has the recipe, and fits it with and without each target.

Whoever asks for refits has time for fits, so the membership attack by shadow releases is run too
(Carlini et al., IEEE S&P 2022; `metrics/privacy/attacks/shadow.py`). Its fits are its own: to the
attacker's reference rows and half of the targets, never to all training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from manikin.errors import ConditionError, NotSupported
from manikin.refits import Again
from manikin.synthesizer import Progress, Watch, report

if TYPE_CHECKING:
    from manikin.data.table import Table
    from manikin.metrics.score import Score

__all__ = ["beside", "shadow_scores"]

MEMBERSHIP = "privacy/membership"
FEWEST = 4  # fits: two with each target and two without


def shadow_scores(
    again: Again, n: int, *, watch: Watch, over: Callable[[], bool] = lambda: False
) -> tuple[Score, ...]:
    """Return what an attack with `n` shadow fits, 4 at least, tells of who was a member.

    Where it cannot be run there is one score that says why.
    """
    from manikin.metrics.privacy.attacks.shadow import shadow_attack
    from manikin.metrics.score import not_estimable

    n = max(n, FEWEST)
    done = 0

    def refit(rows: Table, seed: int) -> Table:
        nonlocal done
        if over():
            raise NotSupported("not run: the time asked for was over")
        done += 1
        what = f"shadow fits: {done} of {n}"
        report(watch, done - 1, n, what)
        model = again.fit(rows, seed, lambda told: watch(Progress(done - 1, n, what)))
        return again.draw(model, seed + 1)

    try:
        return shadow_attack(again.alike(again.trial), refit, seed=again.seed, refits=n)
    except (NotSupported, ConditionError) as reason:
        return (not_estimable(f"{MEMBERSHIP}.auc", str(reason), "shadow"),)


def beside(scores: Iterable[Score], shadow: tuple[Score, ...]) -> tuple[Score, ...]:
    """Return the scores with those of the shadow attack after the other membership attacks'."""
    found = list(scores)
    last = max(
        (i for i, s in enumerate(found) if s.metric.startswith(f"{MEMBERSHIP}.")), default=-1
    )
    at = last + 1 if last >= 0 else len(found)
    return (*found[:at], *shadow, *found[at:])
