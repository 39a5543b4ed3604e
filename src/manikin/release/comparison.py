"""Several synthesizers on one table, number by number: pure data, and one offline page of it.

Nobody is ranked and nothing is added up. A number is marked where it is the best of its row, or
where its interval overlaps that of the best, so that chance is not taken for a difference; where
all overlap none is marked. Intervals of the same held-out subjects are compared as if they were
independent, which is careful: a paired comparison would find smaller differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from manikin.metrics.score import Card, Score
from manikin.release.lines import Line, finite, line_of
from manikin.release.policy import Policy, PolicyVerdict, judge_policy, shipped_policies
from manikin.release.record import plain
from manikin.release.scorecard import SEVEN, C
from manikin.release.verdict import apart, judge_questions

__all__ = ["Comparison", "Contender", "Row", "Topic", "build_comparison", "render_comparison"]


@dataclass(frozen=True)
class Contender:
    """One synthesizer: what is known of it, and why there are no numbers where there are none."""

    name: str
    facts: tuple[tuple[str, str], ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class Answer:
    """One cell of the tables of questions and policies."""

    outcome: str
    word: str


@dataclass(frozen=True)
class Number:
    """One cell of a table of numbers."""

    value: float | None
    low: float | None
    high: float | None
    mark: str = ""  # "best", "as good" (its interval overlaps the best's), or ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One measure of every contender, None where one has no such number."""

    metric: str
    label: str
    better: str
    numbers: tuple[Number | None, ...]
    floor: float | None
    ceiling: float | None


@dataclass(frozen=True)
class Topic:
    """The rows of one of the seven Cs."""

    c: C
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that is said about several synthesizers on one table."""

    created: str
    source: str
    contenders: tuple[Contender, ...]
    questions: tuple[tuple[str, tuple[Answer | None, ...]], ...]
    policies: tuple[tuple[str, tuple[Answer | None, ...]], ...]
    topics: tuple[Topic, ...]
    glossary: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found: dict[str, Any] = plain(self)
        return found


def build_comparison(
    runs: Mapping[str, Sequence[Score]],
    cards: Mapping[str, Card],
    *,
    source: str = "the source table",
    created: datetime | None = None,
    caught_by: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    split_by: str | None = None,
    facts: Mapping[str, Mapping[str, str]] | None = None,
    failed: Mapping[str, str] | None = None,
    policies: Sequence[Policy] | None = None,
    ruled: Mapping[str, PolicyVerdict] | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Lay the scores of several runs side by side; all keep the order in which they are given.

    `runs` are scores by synthesizer; `caught_by` says which scores of each run caught each planted
    leak; `split_by` names the column by which subjects were held out, if any; `facts` are shown
    below each name (time, settings); `failed` says why one has no scores. Only scores of everybody
    are compared: groups stand in each one's own report. `policies` are the shipped ones unless
    given; `ruled` are verdicts that were reached on all scores, groups included.
    """
    caught_by, facts, failed = caught_by or {}, facts or {}, failed or {}
    names = [*runs, *(name for name in failed if name not in runs)]
    overall = {name: [s for s in runs.get(name, ()) if s.group == "all"] for name in names}
    contenders = tuple(
        Contender(name, tuple(facts.get(name, {}).items()), failed.get(name, "")) for name in names
    )
    lines = {name: [line_of(s, cards, 0) for s in overall[name]] for name in names}
    when = created or datetime.now(UTC)
    used = {s.metric.partition(".")[0] for scores in overall.values() for s in scores}
    return Comparison(
        when.astimezone(UTC).isoformat(timespec="seconds"),
        source,
        contenders,
        _questions(names, runs, cards, caught_by, split_by),
        _policies(
            names,
            runs,
            caught_by,
            split_by,
            shipped_policies() if policies is None else policies,
            ruled or {},
        ),
        tuple(topic for c in SEVEN if (topic := _topic(c, names, lines)).rows),
        tuple((card.title, card.reads) for name, card in sorted(cards.items()) if name in used),
        tuple(notes),
    )


def _questions(
    names: Sequence[str],
    runs: Mapping[str, Sequence[Score]],
    cards: Mapping[str, Card],
    caught_by: Mapping[str, Mapping[str, Sequence[str]]],
    split_by: str | None,
) -> tuple[tuple[str, tuple[Answer | None, ...]], ...]:
    table: dict[str, list[Answer | None]] = {}
    for j, name in enumerate(names):
        if not runs.get(name):
            continue
        by = caught_by.get(name, {})
        asked = judge_questions(runs[name], cards, _caught(by), caught_by=by or None)
        for question in asked if split_by is None else apart(asked, split_by):
            row = table.setdefault(question.question, [None] * len(names))
            row[j] = Answer(question.outcome, question.word)
    return tuple((asked, tuple(row)) for asked, row in table.items())


def _caught(by: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    return {control: bool(scores) for control, scores in by.items()}


def _policies(
    names: Sequence[str],
    runs: Mapping[str, Sequence[Score]],
    caught_by: Mapping[str, Mapping[str, Sequence[str]]],
    split_by: str | None,
    policies: Sequence[Policy],
    known: Mapping[str, PolicyVerdict],
) -> tuple[tuple[str, tuple[Answer | None, ...]], ...]:
    def answer(policy: Policy, name: str) -> Answer | None:
        if not runs.get(name):
            return None
        ruled = known.get(name)
        if ruled is None or ruled.name != policy.name:
            by = caught_by.get(name, {})
            ruled = judge_policy(
                policy, runs[name], _caught(by), caught_by=by or None, split_by=split_by
            )
        passed = sum(ruling.outcome == "pass" for ruling in ruled.rulings)
        return Answer(
            ruled.outcome,
            f"{ruled.outcome.capitalize()}, {passed} of {len(ruled.rulings)} gates passed",
        )

    return tuple((p.name, tuple(answer(p, name) for name in names)) for p in policies)


def _topic(c: C, names: Sequence[str], lines: Mapping[str, Sequence[Line]]) -> Topic:
    by_name = {name: {line.metric: line for line in lines[name]} for name in names}
    metrics = dict.fromkeys(
        line.metric for name in names for line in lines[name] if line.place == c.id
    )
    rows = []
    for metric in metrics:
        found = [by_name[name].get(metric) for name in names]
        told = next(line for line in found if line is not None)
        rows.append(
            Row(
                metric, told.label, told.better,
                tuple(None if line is None else _number(line, mark)
                      for line, mark in zip(found, _marks(found), strict=True)),
                _first(line.floor for line in found if line is not None),
                _first(line.ceiling for line in found if line is not None),
            )
        )  # fmt: skip
    return Topic(c, tuple(rows))


def _number(line: Line, mark: str) -> Number:
    return Number(line.value, line.low, line.high, mark, line.note)


def _first(values: Any) -> float | None:
    return next((finite(value) for value in values if value is not None), None)


def _marks(lines: Sequence[Line | None]) -> list[str]:
    """Return which numbers of a row are the best, or not to be told from it."""
    badness = [math.inf if line is None else _badness(line, line.value) for line in lines]
    marks = [""] * len(lines)
    known = [j for j, bad in enumerate(badness) if math.isfinite(bad)]
    if len(known) < 2:
        return marks
    best = min(known, key=lambda j: badness[j])
    ends = {j: _ends(lines[j]) for j in known}
    for j in known:
        if badness[j] == badness[best] or _overlap(ends[j], ends[best]):
            marks[j] = "best" if badness[j] == badness[best] else "as good"
    return [""] * len(lines) if all(marks[j] for j in known) else marks


def _badness(line: Line, value: float | None) -> float:
    """Return how far a number is from the best that it could be; infinite where there is none."""
    if value is None:
        return math.inf
    if line.better == "higher":
        return -value
    if line.better == "lower":
        # below 0 an excess is luck, not merit
        return max(value, 0.0) if line.family == "privacy" else value
    return abs(value - (line.ceiling if line.ceiling is not None else 0.0))


def _ends(line: Line | None) -> tuple[float, float]:
    assert line is not None and line.value is not None
    low = line.low if line.low is not None else line.value
    return low, line.high if line.high is not None else line.value


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def render_comparison(comparison: Comparison) -> str:
    """Return the page. Everything that comes from data or settings is escaped."""
    from manikin.release.html import page

    return page("comparison.html.j2", comparison=comparison)
