"""The quality page of a release under a budget: noisy numbers that may leave, and how to read them.

Pure data first, then one offline page. Nothing here knows an exact figure of the real rows: it is
made from what was paid for, and from synthetic rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from manikin.metrics.paid import COLUMNS, KEPT, PAIRS, Paid
from manikin.metrics.paid_outcome import ACCURACY, AUC
from manikin.metrics.score import Score
from manikin.release.lines import Line, finite
from manikin.release.record import plain

__all__ = ["DATA", "PAGE", "Quality", "build_quality", "render_quality"]

PAGE, DATA = "quality.html", "quality.json"
_LABELS = {
    COLUMNS: "Single columns, on average",
    PAIRS: "Pairs of columns, on average",
    AUC: "Predicting real people (AUC)",
    ACCURACY: "Predicting real people (right answers)",
}
_BETTER = {COLUMNS: "lower", PAIRS: "lower", AUC: "higher", ACCURACY: "higher"}
LIMITS = (
    "Noise was added to every number that real people had a part in; the intervals hold it, and"
    " chance in who was held out. Ask for more with a larger `--report-epsilon`, or hold out more"
    " (`--holdout`).",
    "Distances are between bins: likeness within a bin, and of three columns or more together, was"
    " not looked at.",
    "Nothing here says what the data are worth for a given analysis: confirm findings on real"
    " data.",
    "There is no number of what a model that had learnt from real rows would reach: that would"
    " have to be paid for, too.",
)


@dataclass(frozen=True)
class Quality:
    """What the page says."""

    lines: tuple[Line, ...]
    says: tuple[str, ...]  # of every line, in a sentence
    columns: tuple[Line, ...]
    asks: str  # a sentence on what was to be predicted, or why nothing was
    subjects: int  # held out, as noise has it
    pairs: int
    judged: str  # which synthetic rows were looked at
    epsilon: float  # the price of this page
    delta: float
    together: float  # with data and model
    limits: tuple[str, ...] = LIMITS

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found: dict[str, Any] = plain(self)
        return found


def build_quality(bought: Paid, *, judged: str, together: float) -> Quality:
    """Gather what was bought. `together` is the ε of the whole folder."""
    lines = [_line(score) for score in bought.scores if score.group == "all"]
    columns = [_line(score) for score in bought.scores if score.group != "all"]
    predicted = any(line.metric == AUC for line in lines)
    asks = f"{'It was predicted' if predicted else 'Nothing was predicted:'} {bought.asks}."
    return Quality(
        tuple(lines), tuple(map(_said, lines)), tuple(columns), asks,
        max(0, round(bought.subjects)), bought.pairs, judged, bought.budget.epsilon,
        bought.budget.delta, together,
    )  # fmt: skip


def render_quality(quality: Quality, source: str) -> str:
    """Return the page. Everything that comes from the schema is escaped."""
    from manikin.release.html import page

    return page("quality.html.j2", quality=quality, source=source,
                rows=list(zip(quality.lines, quality.says, strict=True)))  # fmt: skip


def _line(score: Score) -> Line:
    name = score.group.removeprefix("column=")
    label = _LABELS[score.metric] if score.group == "all" else name
    low, high = score.interval
    # four decimals: beyond them there is nothing but noise
    return Line(
        metric=score.metric, label=label, family="fidelity", group=score.group,
        better=_BETTER[score.metric], value=_round(score.value), low=_round(low),
        high=_round(high), floor=_round(score.floor), ceiling=_round(score.ceiling),
        note=score.note,
    )  # fmt: skip


def _round(value: float | None) -> float | None:
    known = finite(value)
    return None if known is None else round(known, 4)


def _said(line: Line) -> str:
    """Return a line in a sentence that can be repeated."""
    if line.value is None or line.low is None or line.high is None:
        return f"This could not be measured: {line.note}."
    if line.metric == AUC:
        return f"{_in_order(line)} {_skill(line)}"
    if line.metric == ACCURACY:
        return (
            f"{_of_100(line.value)} of 100 real people are predicted right; always giving the"
            f" commoner answer is right for {_of_100(line.floor)}."
        )
    said = (
        f"Of 100 synthetic people about {_of_100(line.value)} would have to be moved to another"
        f" bin for the two to be alike (likely {_of_100(line.low)} to {_of_100(line.high)})."
    )
    if line.ceiling is not None and line.low <= line.ceiling:
        said += f" As many real people would differ by {_of_100(line.ceiling)} by chance alone, so"
        said += " no difference beyond chance is shown."
    elif line.ceiling is not None:
        said += f" Chance alone would come to {_of_100(line.ceiling)}: the difference is real."
    if line.floor is not None:
        apart = _of_100(line.floor)
        said += f" Of independent columns it would be {apart}" + (
            ": relations between columns were kept in part or whole."
            if line.note == KEPT
            else ": it is not shown that relations between columns were kept."
        )
    return said


def _in_order(line: Line) -> str:
    return (
        f"Of two real people of whom one has the outcome, the model that learnt from synthetic"
        f" rows points out the right one in {_of_100(line.value)} of 100 cases (likely"
        f" {_of_100(line.low)} to {_of_100(line.high)}; guessing: 50)."
    )


def _skill(line: Line) -> str:
    if line.ceiling is None or line.low is None or line.high is None:
        return ""
    among = _of_100(line.ceiling)
    if line.low <= line.ceiling <= line.high:
        return f"Among synthetic people it does as well ({among})."
    if line.high < line.ceiling:
        return f"Among synthetic people it does better ({among}): they make it look too easy."
    return f"Among synthetic people it does worse ({among}): some of what matters was lost."


def _of_100(share: float | None) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.0f}"
