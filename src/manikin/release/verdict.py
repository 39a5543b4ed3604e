"""The verdict: five questions in plain words, each answered from the scores by stated thresholds.

There is no weighted total, and nothing here says "safe": that attacks found nothing is worth what
the positive controls show the attacks can find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from manikin.metrics.score import Card, Score

__all__ = ["GATES", "Gate", "Question", "Verdict", "headline", "judge_questions", "shortfall"]

Outcome = Literal["pass", "caution", "fail", "underpowered", "not assessable"]
_WORST: tuple[Outcome, ...] = ("fail", "caution", "underpowered", "not assessable", "pass")
LEAST_LEAK = "5 %"  # the control that must be caught: a twentieth of the rows copied


@dataclass(frozen=True)
class Gate:
    """How far a score may fall short of its ceiling: `good` passes, above `fair` fails."""

    metric: str  # the score's name, or the beginning of it
    question: str
    good: float
    fair: float
    source: str


GATES = (
    Gate("fidelity/detection.score", "fidelity", 0.10, 0.40,
         "ours: 0.90 is what the best published tabular generators approach"),
    Gate("fidelity/trends", "fidelity", 0.03, 0.10, "ours"),
    Gate("fidelity/shapes", "fidelity", 0.02, 0.06, "ours"),
    Gate("fidelity/missingness", "fidelity", 0.03, 0.10, "ours"),
    Gate("utility/prediction", "utility", 0.03, 0.10,
         "ours: 0.024 to 0.055 AUC is what the best peers lose on imbalanced outcomes"),
    Gate("utility/survival", "utility", 0.05, 0.10, "ours"),
    Gate("utility/", "utility", 0.05, 0.15, "ours"),
    Gate("privacy/copies", "copies", 0.0, 0.01,
         "none beyond the held-out null may be detectable; above 1 % of rows fails (ours)"),
    Gate("privacy/rare_values", "copies", 0.0, 0.01, "as for copies"),
    Gate("validity/violations", "rules", 0.0, 1.0, "ours: per 1,000 rows beyond the real data"),
    Gate("fairness/subgroups", "subgroups", 0.105, 0.223,
         "|ln 0.9| and |ln 0.8|: the bands of log-disparity, after the four-fifths rule"),
)  # fmt: skip

ASKED = {
    "fidelity": "Does it look like the real data?",
    "utility": "Do analyses give the same answers?",
    "copies": "Were real rows copied beyond chance?",
    "power": "Could these tests have seen copying?",
    "rules": "Are the declared rules obeyed?",
    "subgroups": "Are subgroups represented alike?",
}


@dataclass(frozen=True)
class Question:
    """One question, its outcome, the answer in a sentence, and the numbers it rests on."""

    id: str
    question: str
    outcome: Outcome
    answer: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    headline: str
    what: str
    questions: tuple[Question, ...]


def judge_questions(
    scores: Sequence[Score], cards: Mapping[str, Card], controls: Mapping[str, bool]
) -> tuple[Question, ...]:
    """Answer every question for which there is a score; the first four are always asked."""
    power = _power(controls)
    answered = []
    for asked in ASKED:
        if asked == "power":
            answered.append(power)
            continue
        judged = [
            (score, gate, card)
            for score in scores
            if (gate := gate_of(score.metric)) is not None
            and gate.question == asked
            and (score.group == "all" or asked == "subgroups")
            and (card := card_of(score.metric, cards)) is not None
        ]
        if judged or asked in ("fidelity", "utility", "copies"):
            answered.append(_answer(asked, judged, power))
    return tuple(answered)


def gate_of(metric: str) -> Gate | None:
    """Return the first gate of a score; of several numbers of detection only the score is one."""
    if metric.startswith("fidelity/detection") and not metric.endswith(".score"):
        return None
    return next((gate for gate in GATES if metric.startswith(gate.metric)), None)


def card_of(metric: str, cards: Mapping[str, Card]) -> Card | None:
    """Return the card of a score's metric, `family/name` before any `.what`."""
    return cards.get(metric) or cards.get(metric.partition(".")[0])


def shortfall(score: Score, card: Card) -> tuple[float, float, float]:
    """Return how much worse than its ceiling a score is, and the interval of that."""
    ends = (score.value, *score.interval)
    if card.family in ("privacy", "validity", "fairness") or score.ceiling is None:
        # what is measured there is an excess already: its ideal is 0, or 1 for shares
        ideal = 1.0 if card.better == "higher" else 0.0
    else:
        ideal = score.ceiling
    if card.family == "fairness":
        worst = [abs(end) for end in ends]
        return worst[0], min(worst), max(worst)
    if card.better == "lower":
        found = [end - ideal for end in ends]
    elif card.better == "higher":
        found = [ideal - end for end in ends]
    else:
        found = [abs(ideal - end) for end in ends]
    return found[0], min(found), max(found)


def _outcome(score: Score, gate: Gate, card: Card) -> Outcome:
    if math.isnan(score.value):
        return "not assessable"
    point, low, high = shortfall(score, card)
    if gate.good == 0:  # an excess: any that is detectable matters
        return "pass" if low <= 0 else "caution" if point <= gate.fair else "fail"
    if point <= gate.good:
        return "pass" if math.isnan(high) or high <= gate.fair else "caution"
    return "caution" if point <= gate.fair else "fail"


def _answer(asked: str, judged: list[tuple[Score, Gate, Card]], power: Question) -> Question:
    outcomes = [_outcome(*one) for one in judged]
    decided = [outcome for outcome in outcomes if outcome != "not assessable"]
    outcome: Outcome = next((o for o in _WORST if o in decided), "not assessable")
    if asked == "copies" and outcome == "pass" and power.outcome != "pass":
        outcome = "underpowered"
    # worst first, so that the reason for the outcome is read first
    order = sorted(range(len(judged)), key=lambda i: _WORST.index(outcomes[i]))
    told = [(judged[i][0], judged[i][2], outcomes[i]) for i in order][:8]
    evidence = tuple(_told(score, card, how) for score, card, how in told)
    return Question(asked, ASKED[asked], outcome, _SAID[asked][outcome], evidence)


_SAID: dict[str, dict[Outcome, str]] = {
    "fidelity": {
        "pass": "Columns, pairs of columns and whole rows are about as close to held-out real "
        "data as fresh real data are.",
        "caution": "Most of the structure is there, but differences from real data can be "
        "detected: look at the columns and pairs that differ most before relying on them.",
        "fail": "It is easily told from real data. Use it for testing software, not for analysis.",
    },
    "utility": {
        "pass": "Models and curves from the synthetic data do about as well on held-out real "
        "subjects as those from real data.",
        "caution": "Analyses are weaker than on real data: confirm any finding on real data.",
        "fail": "Analyses of these data would mislead.",
        "not assessable": "No outcome was named (target, or time and event), so no analysis "
        "could be repeated.",
    },
    "copies": {
        "pass": "No more rows repeat real rows than fresh real rows would, and the tests were "
        "shown able to see copying.",
        "caution": "Slightly more rows repeat training rows than chance explains: find out why "
        "before releasing.",
        "fail": "Training rows were copied. Do not release this.",
        "underpowered": "None were found, but these tests were not shown able to find a leak of "
        "5 % of the rows: this is no evidence of privacy.",
        "not assessable": "No rows could be compared.",
    },
    "rules": {
        "pass": "Rules are broken no more often than in the real data.",
        "caution": "Some rows break declared rules more often than real rows do.",
        "fail": "Declared rules are broken often.",
    },
    "subgroups": {
        "pass": "Every subgroup large enough to assess has about its real share.",
        "caution": "Some subgroups are over- or under-represented.",
        "fail": "Some subgroups are badly over- or under-represented: estimate no prevalence "
        "from these data.",
    },
}  # fmt: skip
for _texts in _SAID.values():
    _texts.setdefault("not assessable", "There are too few subjects, or no score, to tell.")
    _texts.setdefault("underpowered", "There are too few subjects to tell.")


def _power(controls: Mapping[str, bool]) -> Question:
    least = [name for name in controls if name.startswith(LEAST_LEAK)]
    evidence = tuple(
        f"Planted: {name}. {'Caught' if caught else 'Missed'}." for name, caught in controls.items()
    )
    if not controls:
        outcome: Outcome = "not assessable"
        said = "No positive control was run, so silence about copying means nothing."
    elif all(controls.values()) and least:
        outcome = "pass"
        said = "Yes: copies planted on purpose, down to 5 % of the rows, were found."
    else:
        outcome = "underpowered"
        said = (
            "Copies planted on purpose were missed: this run is underpowered. More held-out "
            "subjects would be needed before absence of evidence means anything."
        )
    return Question("power", ASKED["power"], outcome, said, evidence)


def _told(score: Score, card: Card, outcome: Outcome) -> str:
    name = label(score, card)
    if math.isnan(score.value):
        return f"{name}: not assessable. {note_of(score)}".strip()
    told = f"{name}: {score.value:.3f}"
    if not math.isnan(score.interval[0]):
        told += f" (95 % interval {score.interval[0]:.3f} to {score.interval[1]:.3f})"
    for what, value in (("fresh real rows", score.ceiling), ("independent columns", score.floor)):
        if value is not None and math.isfinite(value):
            told += f"; {what} {value:.3f}"
    return f"{told}. {outcome.capitalize()}."


def note_of(score: Score) -> str:
    """Return why a score could not be estimated, if it says so."""
    return str(getattr(score, "note", ""))


def label(score: Score, card: Card | None) -> str:
    """Return the name of a number for a person: the card's title and what it is of."""
    title = card.title if card is not None else score.metric
    _, _, what = score.metric.partition(".")
    parts = [
        title,
        what.replace("_", " ").replace(".", " "),
        "" if score.group == "all" else score.group,
    ]
    return ", ".join(part for part in parts if part)


def headline(questions: Sequence[Question]) -> str:
    """Return the verdict in a sentence."""
    by_id = {question.id: question.outcome for question in questions}
    looks = {
        "pass": "Close to the real data",
        "caution": "Similar to the real data, with detectable differences",
        "fail": "Unlike the real data",
    }.get(by_id["fidelity"], "Likeness to the real data could not be assessed")
    works = {
        "pass": "analyses carry over",
        "caution": "analyses carry over in part",
        "fail": "analyses do not carry over",
    }.get(by_id["utility"], "analyses not tested")
    copied = {
        "pass": "no copying beyond chance was found by tests able to see it",
        "caution": "slight copying beyond chance",
        "fail": "real rows were copied",
        "underpowered": "tests for copying were underpowered",
    }.get(by_id["copies"], "copying could not be assessed")
    return f"{looks}; {works}; {copied}."
