"""The verdict: questions in plain words, each answered from the scores by stated thresholds.

There is no weighted total, and nothing here says "safe": that attacks found nothing is worth what
the positive controls show the attacks can find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from manikin.metrics.score import Card, Score
from manikin.release.policy import PolicyVerdict, speaks_against

__all__ = [
    "ASKED",
    "GATES",
    "Gate",
    "Question",
    "Verdict",
    "apart",
    "card_of",
    "headline",
    "in_words",
    "judge_questions",
    "label",
    "outcome_of",
    "shortfall",
]

Outcome = Literal["pass", "caution", "fail", "underpowered", "not assessable"]
_WORST: tuple[Outcome, ...] = ("fail", "caution", "underpowered", "not assessable", "pass")
_LEAKS = ("copies", "rare", "members", "learned")  # of which "yes" would be bad
WHOLE_LEAK = "exact copy"  # the control that every measure of these must itself have caught
_MUST_SEE = ("privacy/membership", "privacy/attribute", "privacy/singling_out", "privacy/linkage",
              "privacy/copied_runs", "privacy/history_membership")  # fmt: skip
LEAST_LEAK = "5 %"  # the control that must be caught: a twentieth of the rows copied


@dataclass(frozen=True)
class Gate:
    """How far a score may fall short of its ideal: up to `good` passes, beyond `fair` fails.

    `good` 0 means that the score is an excess over chance: any that is detectable matters.
    """

    metric: str  # pattern of the score's name
    question: str
    better: Literal["higher", "lower", "zero"]  # zero: on either side of it is worse
    ideal: Literal["ceiling", "zero", "half"]  # half: an AUC that is a coin's
    good: float
    fair: float
    source: str


_RESIDUAL = "beyond strangers' risk; as in the policies public and controlled (ours)"
GATES = (
    Gate("fidelity/detection.score", "fidelity", "higher", "ceiling", 0.10, 0.40,
         "ours"),
    Gate("fidelity/trends", "fidelity", "higher", "ceiling", 0.03, 0.10, "ours"),
    Gate("fidelity/shapes", "fidelity", "higher", "ceiling", 0.02, 0.06, "ours"),
    Gate("fidelity/missingness.*", "fidelity", "higher", "ceiling", 0.03, 0.10, "ours"),
    Gate("fidelity/history_detection.*", "fidelity", "lower", "half", 0.05, 0.20,
         "as detection of rows: an AUC of .55 and .70 (ours)"),
    Gate("fidelity/sequence_detection.*", "fidelity", "lower", "half", 0.05, 0.20,
         "as detection of rows (ours)"),
    Gate("fidelity/code_prevalence.unigram", "fidelity", "higher", "ceiling", 0.03, 0.10, "ours"),
    Gate("fidelity/recurrence.again", "fidelity", "higher", "ceiling", 0.03, 0.10, "ours"),
    Gate("utility/next_visit.*_gap", "utility", "lower", "zero", 0.03, 0.10, "ours"),
    Gate("utility/outcomes.*_gap", "utility", "lower", "zero", 0.03, 0.10, "ours"),
    Gate("utility/sequence_outcomes.*_gap", "utility", "lower", "zero", 0.03, 0.10, "ours"),
    Gate("utility/prediction.f1_gap", "utility", "lower", "zero", 0.05, 0.15, "ours"),
    Gate("utility/prediction.*_gap", "utility", "lower", "zero", 0.03, 0.10,
         "ours"),
    Gate("utility/survival.km_gap", "utility", "lower", "ceiling", 0.03, 0.10, "ours"),
    Gate("utility/survival.censoring_gap", "utility", "zero", "ceiling", 0.05, 0.15, "ours"),
    Gate("utility/survival.c_gap", "utility", "lower", "zero", 0.03, 0.10, "ours"),
    Gate("privacy/copies.*", "copies", "lower", "zero", 0.0, 0.01,
         "no excess over held-out rows may be detectable; above 1 % of rows fails (ours)"),
    Gate("privacy/copied_runs.share", "copies", "lower", "zero", 0.0, 0.01,
         "no excess over strangers may be detectable; above 1 % of patients fails (ours)"),
    Gate("privacy/rare_values.*", "rare", "lower", "zero", 0.0, 0.10,
         "no excess over held-out rows may be detectable; above 10 % of the values fails (ours)"),
    Gate("privacy/unique_values.*", "rare", "lower", "zero", 0.0, 0.10,
         "no excess over strangers may be detectable; above 10 % of the holders fails (ours)"),
    Gate("privacy/membership.auc", "members", "lower", "half", 0.05, 0.10,
         "an AUC of .55 and .60 against .50, as in the policies public and controlled (ours)"),
    Gate("privacy/history_membership.auc", "members", "lower", "half", 0.05, 0.10,
         "as membership of rows (ours)"),
    Gate("privacy/attribute.residual", "learned", "lower", "zero", 0.05, 0.10, _RESIDUAL),
    Gate("privacy/singling_out.residual", "learned", "lower", "zero", 0.05, 0.10, _RESIDUAL),
    Gate("privacy/linkage.residual", "learned", "lower", "zero", 0.05, 0.10, _RESIDUAL),
    Gate("privacy/identity.excess", "learned", "lower", "zero", 0.05, 0.10, _RESIDUAL),
    Gate("validity/violations", "rules", "lower", "ceiling", 0.0, 5.0,
         "no more than real rows; above 5 in 1,000 more fails (ours)"),
    Gate("validity/history_violations.per_1000", "rules", "lower", "ceiling", 0.0, 5.0,
         "no more than real events; above 5 in 1,000 more fails (ours)"),
    Gate("fairness/subgroups.*disparity*", "subgroups", "zero", "ceiling", 0.105, 0.223,
         "|ln 0.9| and |ln 0.8|: bands of log-disparity, after the four-fifths rule"),
)  # fmt: skip

ASKED = {
    "fidelity": "Does it look like the real data?",
    "utility": "Do analyses give the same answers?",
    "copies": "Were real rows copied beyond chance?",
    "power": "Could these tests have seen copying?",
    "rare": "Are rare values given away?",
    "members": "Can it be told who was in the real data?",
    "learned": "Is more learned about those persons than about others?",
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

    @property
    def word(self) -> str:
        """The outcome as an answer to the question: for copying, "yes" would be bad."""
        if self.outcome in ("underpowered", "not assessable"):
            return self.outcome.capitalize()
        if self.outcome == "caution" and self.answer == UNCERTAIN:
            return "Probably not" if self.id in _LEAKS else "Probably"
        worse = ("None seen", "Slightly", "Yes") if self.id in _LEAKS else None
        return (worse or ("Yes", "Partly", "No"))[("pass", "caution", "fail").index(self.outcome)]


@dataclass(frozen=True)
class Verdict:
    """What the page says first. `asked` is whether somebody named the policy to be held to."""

    headline: str
    what: str
    questions: tuple[Question, ...]
    policies: tuple[PolicyVerdict, ...] = ()
    asked: bool = False

    @property
    def exit_code(self) -> int:
        """For scripts: 0, or 9 (a gate failed), or 10 (it cannot be told) for an asked policy."""
        return max((p.exit_code for p in self.policies), default=0) if self.asked else 0


def judge_questions(
    scores: Sequence[Score],
    cards: Mapping[str, Card],
    controls: Mapping[str, bool],
    suffices: int | None = None,
    caught_by: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Question, ...]:
    """Answer every question for which there is a score; the first four are always asked.

    `suffices` is how many held-out subjects would do to see a planted leak that was missed,
    `caught_by` which scores caught each: as in a policy, a measure that misses a whole copy of the
    training rows says nothing.
    """
    power = _power(controls, scores, suffices)
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
            and (score.group == "all" or asked == "subgroups" or speaks_against(score))
            and (card := card_of(score.metric, cards)) is not None
        ]
        if judged or asked in ("fidelity", "utility", "copies"):
            answered.append(_answer(asked, judged, power, _sighted(caught_by)))
    return tuple(answered)


def gate_of(metric: str) -> Gate | None:
    """Return the gate of a score, if it has one: the verdict rests on those that have."""
    return next((gate for gate in GATES if fnmatchcase(metric, gate.metric)), None)


def card_of(metric: str, cards: Mapping[str, Card]) -> Card | None:
    """Return the card of a score's metric, `family/name` before any `.what`."""
    return cards.get(metric) or cards.get(metric.partition(".")[0])


def shortfall(score: Score, gate: Gate) -> tuple[float, float, float]:
    """Return how much worse than its ideal a score is, and the interval of that."""
    ideal = {"zero": 0.0, "half": 0.5}.get(gate.ideal, score.ceiling)
    if ideal is None:
        ideal = 1.0 if gate.better == "higher" else 0.0
    ends = [end - ideal for end in (score.value, *score.interval)]
    if gate.better == "higher":
        ends = [-end for end in ends]
    if gate.better == "zero":
        spread = [abs(end) for end in ends]
        crosses = min(ends[1:]) <= 0 <= max(ends[1:])
        return spread[0], 0.0 if crosses else min(spread[1:]), max(spread[1:])
    return ends[0], min(ends[1:]), max(ends[1:])


def outcome_of(score: Score, gate: Gate) -> Outcome:
    """Return how a score stands against its threshold."""
    if not math.isfinite(score.value):
        return "not assessable"
    point, low, high = shortfall(score, gate)
    if gate.good == 0:  # an excess: any that is detectable matters
        detectable = (point if math.isnan(low) else low) > 0
        return "pass" if not detectable else "caution" if point <= gate.fair else "fail"
    if point <= gate.good:
        # good, unless too uncertain to rule out a failure
        return "pass" if math.isnan(high) or high <= max(gate.fair, 2 * gate.good) else "caution"
    if gate.question in _LEAKS and low <= 0:
        return "underpowered"  # more than is good, and yet it may be chance
    return "caution" if point <= gate.fair else "fail"


def apart(questions: Sequence[Question], by: str) -> tuple[Question, ...]:
    """Take back what attacks answered where the held-out differ from the training rows `by`.

    Whatever tells the two apart passes for membership, and no stranger can be like a member.
    """
    said = (
        f"It cannot be told: those held out differ from the training rows by '{by}', which these "
        "measures mistake for copying or for membership. Take it from a run with a random split."
    )
    return tuple(
        replace(q, outcome="not assessable", answer=said) if q.id in _LEAKS else q
        for q in questions
    )


def _sighted(caught_by: Mapping[str, Sequence[str]] | None) -> frozenset[str]:
    """Return the metrics of which it is not known that they miss a whole copy."""
    if caught_by is None or WHOLE_LEAK not in caught_by:
        return frozenset(_MUST_SEE)
    return frozenset(name.partition(" ")[0].partition(".")[0] for name in caught_by[WHOLE_LEAK])


def _answer(
    asked: str,
    judged: list[tuple[Score, Gate, Card]],
    power: Question,
    sighted: frozenset[str],
) -> Question:
    outcomes = [outcome_of(score, gate) for score, gate, _ in judged]
    unseeing = [
        outcome == "pass" and (own := score.metric.partition(".")[0]) in _MUST_SEE
        and own not in sighted
        for (score, _, _), outcome in zip(judged, outcomes, strict=True)
    ]  # fmt: skip
    outcomes = [
        "underpowered" if blind else outcome
        for outcome, blind in zip(outcomes, unseeing, strict=True)
    ]
    decided = [outcome for outcome in outcomes if outcome != "not assessable"]
    outcome: Outcome = next((o for o in _WORST if o in decided), "not assessable")
    uncertain = zip(outcomes, unseeing, strict=True)
    by_chance = outcome == "underpowered" and any(
        how == "underpowered" and not blind for how, blind in uncertain
    )
    blinded = outcome == "underpowered" and not by_chance and power.outcome == "pass"
    if asked in _LEAKS and outcome == "pass" and power.outcome != "pass":
        outcome = "underpowered"
    whole = any(score.metric == _WHOLE and how in decided
                for (score, _, _), how in zip(judged, outcomes, strict=True))  # fmt: skip
    unseen = asked == "fidelity" and outcome == "pass" and not whole
    # worst first, so that the reason for the outcome is read first
    order = sorted(range(len(judged)), key=lambda i: _WORST.index(outcomes[i]))
    told = [(judged[i][0], judged[i][2], outcomes[i]) for i in order][:8]
    evidence = tuple(_told(score, card, how) for score, card, how in told)
    said = CHANCE if by_chance else BLIND if blinded else _SAID[asked][outcome]
    if outcome == "caution" and all(
        outcomes[i] != "caution" or shortfall(score, gate)[0] <= gate.good
        for i, (score, gate, _) in enumerate(judged)
    ):
        said = UNCERTAIN
    if unseen:
        outcome, said = "caution", PARTIAL
    return Question(asked, ASKED[asked], outcome, said, evidence)


_WHOLE = "fidelity/detection.score"  # the score without which likeness is not established
PARTIAL = "What was measured is close, but whole rows (fidelity/detection) were not compared."
UNCERTAIN = (
    "What was measured is good, but on so few held-out subjects that something worse cannot be "
    "ruled out for all of it."
)
CHANCE = (
    "Something was measured, but on so few held-out subjects that it may be chance: hold more out "
    "before this is relied on."
)
BLIND = (
    "Nothing was found, but one of these measures misses even a whole copy of the training rows "
    "here, so it could not have found it: declare more of what an outsider may know of a person "
    "(quasi-identifiers), or hold more subjects out."
)
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
        "not assessable": "No analysis could be repeated: name an outcome (a target, or time and "
        "event).",
    },
    "copies": {
        "pass": "No more rows repeat real rows than fresh real rows would, and the tests were "
        "shown able to see copying.",
        "caution": "Slightly more rows repeat training rows than chance explains: find out why "
        "before releasing.",
        "fail": "Training rows were copied. Do not release this.",
        "underpowered": "None were found, but these tests were not shown able to find a leak of "
        "5\u202f% of the rows: this is no evidence of privacy.",
        "not assessable": "No rows could be compared.",
    },
    "rare": {
        "pass": "Values that one or few real subjects hold occur no more often than in fresh "
        "real rows.",
        "caution": "Some more values that one or few real subjects hold occur than chance "
        "explains: consider rounding or pooling those columns.",
        "underpowered": "None beyond chance were seen, but the tests for copying were not shown "
        "able to see it.",
        "fail": "Many values that one or few real subjects hold are repeated. Round or pool those "
        "columns before releasing.",
    },
    "members": {
        "pass": "No attack could tell members of the training data from strangers much better "
        "than a coin.",
        "caution": "Somewhat better than a coin: membership itself may be sensitive (a clinic, a "
        "trial), so look at the attacks before releasing.",
        "fail": "An attack tells who was in the training data. Do not release this where "
        "membership is sensitive.",
        "underpowered": "No attack succeeded, but the tests were not shown able to find a leak of "
        "5\u202f% of the rows: this is no evidence of privacy.",
    },
    "learned": {
        "pass": "Attackers who know something of a person learn little more about those in the "
        "training data than about anybody else.",
        "caution": "Attackers learn somewhat more about persons in the training data than about "
        "others.",
        "fail": "Attackers learn more about persons in the training data than about others. Do "
        "not release this.",
        "underpowered": "Nothing was learned, but the tests were not shown able to find a leak of "
        "5\u202f% of the rows.",
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


def _power(controls: Mapping[str, bool], scores: Sequence[Score], suffices: int | None) -> Question:
    least = [name for name in controls if name.startswith(LEAST_LEAK)]
    evidence = tuple(
        f"Planted: {name}. {'Caught' if caught else 'Missed'}." for name, caught in controls.items()
    )
    if not controls:
        outcome: Outcome = "not assessable"
        said = "No positive control was run, so silence about copying means nothing."
    elif all(controls.values()) and least:
        outcome = "pass"
        said = "Yes: copies planted on purpose, down to 5\u202f% of the rows, were found."
    else:
        outcome = "underpowered"
        said = (
            "Copies planted on purpose were missed: this run is underpowered. "
            + ("More" if suffices is None else f"About {suffices:,}".replace(",", "\u202f"))
            + " held-out subjects would be needed before absence of evidence means anything."
        )
        # a metric that knows how many would do says so in its note
        needed = {s.note for s in scores if s.group == "all" and "would suffice" in s.note}
        evidence += tuple(sorted(needed))
    return Question("power", ASKED["power"], outcome, said, evidence)


def _told(score: Score, card: Card, outcome: Outcome) -> str:
    name = label(score, card)
    if not math.isfinite(score.value):
        return f"{name}: not assessable. {score.note}".strip()
    told = f"{name}: {_number(score.value)}"
    if all(map(math.isfinite, score.interval)):
        low, high = map(_number, score.interval)
        told += f" (95\u202f% interval {low} to {high})"
    for what, value in (("fresh real rows", score.ceiling), ("independent columns", score.floor)):
        if value is not None and math.isfinite(value):
            told += f"; {what} {_number(value)}"
    return f"{told}. {outcome.capitalize()}."


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-0.000", "0.000").replace("-", "\u2212")


def label(score: Score, card: Card | None) -> str:
    """Return the name of a number for a person: the card's title and what it is of."""
    title = card.title if card is not None else score.metric
    _, _, what = score.metric.partition(".")
    parts = [title, in_words(what), "" if score.group == "all" else score.group]
    return ", ".join(part for part in parts if part)


def in_words(what: str) -> str:
    """Return what a number is of, the part of its name after the dot, for a person."""
    return _WHOLES.get(what) or " ".join(_WORDS.get(word, word) for word in what.split("_"))


_WORDS = {"auc": "AUC", "f1": "macro-F1", "r2": "R²", "tstr": "TSTR", "trtr": "TRTR",
          "km": "Kaplan-Meier", "c": "C-index", "mmd": "MMD", "pmse": "pMSE"}  # fmt: skip
_WHOLES = {
    "tpr_at_10": "found at 10\u202f% false alarms", "tpr_at_1": "found at 1\u202f% false alarms",
    "tpr_at_01": "found at 0.1\u202f% false alarms", "epsilon": "ε, lower bound",
    "f1_relative": "F1 relative to a guess", "p_value": "p-value",
}  # fmt: skip


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
    if any(q.id == "utility" and q.answer == UNCERTAIN for q in questions):
        works = "analyses seem to carry over, with too few held-out subjects to be sure"
    copied = {
        "pass": "no copying beyond chance was found by tests able to see it",
        "caution": "slight copying beyond chance",
        "fail": "real rows were copied",
        "underpowered": "tests for copying were underpowered",
    }.get(by_id["copies"], "copying could not be assessed")
    leaks = [said for asked, said in _LEAKED.items() if by_id.get(asked) == "fail"]
    if leaks:
        found = by_id["copies"] in ("caution", "fail")
        copied += f", {'and' if found else 'but'} {' and '.join(leaks)}"
    elif any(by_id.get(asked) == "underpowered" for asked in _LEAKED):
        copied += ", though not every leak could be ruled out on so few subjects"
    return f"{looks}; {works}; {copied}."


_LEAKED = {
    "rare": "rare values are given away",
    "members": "it can be told who was in the real data",
    "learned": "attackers learn about the persons in them",
}
