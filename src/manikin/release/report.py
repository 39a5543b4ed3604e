"""The report as pure data: what `report.json` says and `report.html` draws, from one object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from manikin.data.graph import Graph
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.errors import RESTRICTED
from manikin.metrics.score import Card, Score, Trial
from manikin.privacy import ledger as ledgers
from manikin.privacy.cells import SMALLEST_CELL, hidden, n_different
from manikin.privacy.ledger import Release
from manikin.release.association import Associations, associations
from manikin.release.groups import Pivot, Refitted, attacks, refitted, subgroups
from manikin.release.histories import HistoryPages
from manikin.release.lines import Line, finite, is_disclosable, line_of
from manikin.release.mitigation import Mitigation, mitigation
from manikin.release.policy import Policy, judge_policy, shipped_policies
from manikin.release.questions import Asked, audited
from manikin.release.record import plain
from manikin.release.scorecard import Standing, standings
from manikin.release.statement import Statement
from manikin.release.summaries import ColumnSummary, summarize
from manikin.release.survival import SurvivalCurves, survival_curves
from manikin.release.verdict import (
    GATES,
    Verdict,
    apart,
    headline,
    in_words,
    judge_questions,
)

__all__ = ["FAMILIES", "Explanation", "Line", "Overview", "Part", "Report", "build_report"]

_TOLD = (
    "notes",
    "caught_by",
    "edited",
    "levels_left_out",
)  # settings that stand in a section of their own
FAMILIES = ("fidelity", "utility", "privacy", "fairness", "validity")


@dataclass(frozen=True)
class Part:
    """One side of the experiment; None where fewer than eleven subjects stand behind it."""

    name: str
    rows: int | None
    subjects: int | None
    missing: float | None  # share of all cells


@dataclass(frozen=True)
class Overview:
    """How large everything is."""

    parts: tuple[Part, ...]
    n_columns: int
    kinds: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Explanation:
    """A glossary entry: what a metric says and does not say, and when it passes."""

    metric: str
    title: str
    family: str
    better: str
    reads: str
    passes: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that is said about a release; `disclosure` holds it to the small-cell rule."""

    created: str
    source: str
    verdict: Verdict
    overview: Overview
    columns: tuple[ColumnSummary, ...]
    associations: Associations | None
    scores: tuple[Line, ...]
    controls: tuple[tuple[str, bool], ...]
    survival: SurvivalCurves | None
    audit: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any]
    ledger: tuple[Mapping[str, Any], ...]
    limits: tuple[str, ...]
    glossary: tuple[Explanation, ...]
    scorecard: tuple[Standing, ...] = ()
    subgroups: Pivot | None = None
    attacks: Pivot | None = None
    caught_by: tuple[tuple[str, tuple[str, ...]], ...] = ()
    refits: tuple[Refitted, ...] = ()
    mitigation: Mitigation | None = None
    asked: tuple[Asked, ...] = ()
    graph: Graph | None = None
    statement: Statement | None = None  # of a formal guarantee, for the data and not this page
    histories: HistoryPages | None = None  # of which the rows are summaries
    release_class: str = ""  # said where the report itself may not leave the house
    smallest_cell: int = SMALLEST_CELL
    format: int = 2

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found: dict[str, Any] = plain(self)
        return found

    def lines(self, *families: str) -> tuple[Line, ...]:
        """Return the overall scores of these families."""
        return tuple(s for s in self.scores if s.family in families and s.group == "all")


def build_report(
    *,
    trial: Trial[Table],
    scores: Sequence[Score],
    cards: Mapping[str, Card],
    audit_findings: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Any],
    ledger: tuple[Release, ...],
    created: datetime,
    controls: Mapping[str, bool] | None = None,
    policy: Policy | None = None,
    population: Table | None = None,
    graph: Graph | None = None,
    statement: Statement | None = None,
    histories: HistoryPages | None = None,
) -> Report:
    """Gather everything that is said about a release, under the small-cell rule.

    `cards` are by metric, `<family>/<name>`. `settings` are shown as they are; `source`,
    `synthesizer` and `n` are also used in sentences, and `notes` come first among the limits.
    `controls` says of each positive control ("exact copy", "5 % copied") whether the privacy
    metrics caught it. `policy` is what the release is held to; without one the shipped policies
    are shown. `population` are all real rows, where the trial's were selected to be like the drawn.
    `graph` is what depends on what in the model, `statement` what the data (not this) guarantee,
    `histories` what is drawn of patients over time, where the rows are summaries of them.
    """
    real = Table.concatenate([trial.train, _renumbered(trial.holdout, trial.train)])
    kept = tuple(score for score in scores if is_disclosable(score, real))
    lines = _lines(kept, cards, trial)
    source = str(settings.get("source", "the source table"))
    verdict = _verdict(
        trial, kept, cards, controls or {}, settings, policy, of_histories=histories is not None
    )
    return Report(
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        source=source,
        verdict=verdict,
        overview=_overview(trial),
        columns=_columns(real, trial.synthetic, kept),
        associations=associations(real, trial.synthetic),
        scores=lines,
        controls=tuple((controls or {}).items()),
        survival=survival_curves(real, trial.synthetic),
        audit=tuple(plain(finding) for finding in audit_findings),
        settings=plain({key: value for key, value in settings.items() if key not in _TOLD}),
        ledger=tuple(ledgers.to_json(ledger)),
        limits=(*_notes(settings), *_limits(trial, ledger, kept, bool(settings.get("refits")))),
        glossary=tuple(_explained(name, card) for name, card in sorted(cards.items())),
        scorecard=standings(lines),
        subgroups=subgroups(lines),
        attacks=attacks(lines),
        caught_by=_caught_by(settings),
        refits=refitted(lines),
        mitigation=mitigation(settings, population, trial.synthetic),
        asked=_asked(trial, kept, cards, controls, settings, ledger, verdict, len(scores)),
        graph=graph,
        statement=statement,
        histories=histories,
        release_class=RESTRICTED if statement is not None else "",
    )


def _asked(
    trial: Trial[Table], kept: Sequence[Score], cards: Mapping[str, Card],
    controls: Mapping[str, bool] | None, settings: Mapping[str, Any], ledger: tuple[Release, ...],
    verdict: Verdict, n_scores: int,
) -> tuple[Asked, ...]:  # fmt: skip
    more = n_scores - len(kept)
    return audited(trial, kept, cards, controls or {}, settings, ledger, verdict, more)


def _verdict(
    trial: Trial[Table],
    scores: Sequence[Score],
    cards: Mapping[str, Card],
    controls: Mapping[str, bool],
    settings: Mapping[str, Any],
    policy: Policy | None,
    *,
    of_histories: bool,
) -> Verdict:
    """Answer the questions and rule the gates, of the policy asked for or of all shipped ones."""
    enough = settings.get("held_out_subjects_that_would_suffice")
    suffices = enough if isinstance(enough, int) else None
    by = settings.get("caught_by")
    caught_by = by if isinstance(by, Mapping) else None
    questions = judge_questions(scores, cards, controls, suffices, caught_by)
    by_what = str(settings.get("split_by") or "") or None
    if by_what is not None:
        questions = apart(questions, by_what)
    n = trial.holdout.n_subjects
    ruled = tuple(
        judge_policy(
            one, scores, controls, caught_by=caught_by,
            n_held_out=None if hidden(n) else n, suffices=suffices,
            split_by=by_what, histories=of_histories,
        )
        for one in (shipped_policies() if policy is None else (policy,))
    )  # fmt: skip
    source = str(settings.get("source", "the source table"))
    what = _what(trial, settings, source)
    return Verdict(headline(questions), what, questions, ruled, asked=policy is not None)


def _caught_by(settings: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = settings.get("caught_by")
    if not isinstance(found, Mapping):
        return ()
    return tuple((str(name), tuple(map(str, by))) for name, by in found.items())


def _lines(
    scores: Sequence[Score], cards: Mapping[str, Card], trial: Trial[Table]
) -> tuple[Line, ...]:
    # without reference rows attackers hold half of the held-out subjects, so strangers are fewer
    strangers = trial.holdout.n_subjects // (1 if trial.reference is not None else 2)
    n = min(trial.train.n_subjects, strangers)
    return tuple(line_of(score, cards, n) for score in scores)


def _renumbered(table: Table, after: Table) -> Table:
    """Return the table with subjects that are none of `after`'s (they may be numbered apart)."""
    if not np.intersect1d(table.subjects, after.subjects).size or not after.n_rows:
        return table
    shift = int(after.subjects.max()) + 1 - int(table.subjects.min())
    return Table(table.schema, table.subjects + shift, table.columns, table.states)


# ---------------------------------------------------------------------------- scores
def _columns(real: Table, synthetic: Table, scores: Sequence[Score]) -> tuple[ColumnSummary, ...]:
    by_column = {s.group.partition("=")[2]: s for s in scores if _is_shape(s)}
    return tuple(
        _with_score(summarize(column, real, synthetic), by_column.get(column.name))
        for column in real.schema.columns
    )


def _is_shape(score: Score) -> bool:
    return score.metric == "fidelity/shapes" and score.group.startswith("column=")


def _with_score(summary: ColumnSummary, score: Score | None) -> ColumnSummary:
    if score is None or math.isnan(score.value):
        return summary
    low, high = finite(score.interval[0]), finite(score.interval[1])
    return dataclasses.replace(
        summary,
        likeness=finite(score.value),
        likeness_interval=None if low is None or high is None else (low, high),
        likeness_ceiling=finite(score.ceiling),
    )


def _explained(name: str, card: Card) -> Explanation:
    passes = []
    for gate in GATES:
        if gate.metric.partition(".")[0] == name:
            what = in_words(gate.metric.partition(".")[2].replace("*", "")).strip()
            ideal = {"ceiling": "fresh real rows", "zero": "0", "half": "0.5"}[gate.ideal]
            passed = f"up to {gate.good:g} worse than {ideal}" if gate.good else "no excess"
            of = f"{what[:1].upper()}{what[1:]}: passes" if what else "Passes"
            passes.append(f"{of} at {passed}, fails beyond {gate.fair:g} ({gate.source}).")
    return Explanation(name, card.title, card.family, card.better, card.reads, " ".join(passes))


# ---------------------------------------------------------------------------- sizes and words
def _overview(trial: Trial[Table]) -> Overview:
    schema = trial.train.schema
    sides = {"Real, used for fitting": trial.train, "Real, held out": trial.holdout}
    if trial.reference is not None:
        sides["Real, attacker's reference"] = trial.reference
    parts = [_part(name, table, real=True) for name, table in sides.items()]
    parts.append(_part("Synthetic", trial.synthetic, real=False))
    kinds: dict[str, int] = {}
    for column in schema.columns:
        kinds[column.kind] = kinds.get(column.kind, 0) + 1
    return Overview(tuple(parts), len(schema.columns), tuple(kinds.items()))


def _part(name: str, table: Table, *, real: bool) -> Part:
    if real and hidden(table.n_subjects):
        return Part(name, None, None, None)
    columns = table.schema.learned
    empty = [np.mean(_is_missing(column, table)) for column in columns if table.n_rows]
    # of fewer than eleven subjects with a gap nothing is said
    somebody = np.zeros(table.n_rows, bool)
    for column in columns:
        somebody |= _is_missing(column, table)
    told = not real or not hidden(n_different(table.subjects[somebody]))
    missing = round(float(np.mean(empty)), 4) if empty and told else None
    return Part(name, table.n_rows, table.n_subjects, missing)


def _is_missing(column: Column, table: Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    state = table.state(column.name)
    return np.asarray((state > 0) & (state <= len(column.missing)))


def _what(trial: Trial[Table], settings: Mapping[str, Any], source: str) -> str:
    made = settings.get("synthesizer")
    how = f"made by {made}" if made else "made by another tool"
    judged = trial.synthetic.n_subjects
    asked = settings.get("n")
    n = max(asked, judged) if isinstance(asked, int) else judged
    rows = "" if judged == trial.synthetic.n_rows else " with several rows each"
    part = f" Of them {_spaced(judged)} were compared." if n > judged else ""
    return (
        f"{_spaced(n)} synthetic subjects{rows}, {how} from {source}. Each is drawn from a fitted"
        f" model and stands for nobody.{part} Everything below compares them with real subjects"
        " who were held out and never shown to the synthesizer."
    )


def _spaced(n: int) -> str:
    return f"{n:,}".replace(",", "\u202f")


def _limits(
    trial: Trial[Table], ledger: tuple[Release, ...], scores: Sequence[Score], again: bool
) -> tuple[str, ...]:
    found = [
        "These tests look for the failures they were built for. That none was found does not "
        "show that nobody can be recognised or that nothing about a person can be inferred.",
        "Whether these data may be shared, with whom and for what, is a decision of the persons "
        "responsible for the real data. This page is evidence for it, not the decision.",
        "Analyses of synthetic data as if they were real give intervals that are too narrow and "
        "tests that are too sure. Confirm findings on real data.",
        "Intervals come from resampling subjects. "
        + (
            "Those of scores that were measured again on other fits include how much fits differ."
            if again
            else "They do not include how much another fit, or another draw from the "
            "same model, would differ."
        ),
        f"Nothing on this page rests on fewer than {SMALLEST_CELL} real subjects; smaller cells "
        "are merged or left out, ends of scales are open, and quantiles are means over several "
        "subjects. Rare subjects are therefore not described here.",
        "Distance to the closest record is a smoke test for overfitting and never evidence of "
        "privacy.",
    ]
    if any(isinstance(entry, ledgers.NonPrivate) for entry in ledger):
        found.insert(1, "The synthesizer gives no formal privacy guarantee: no differential "
                     "privacy was used.")  # fmt: skip
    if trial.holdout.n_subjects < 200:
        found.insert(0, f"Only {_few(trial.holdout.n_subjects)} subjects were held out: every "
                     "comparison is uncertain.")  # fmt: skip
    unassessed = sorted({s.metric for s in scores if math.isnan(s.value) and s.group == "all"})
    if unassessed:
        found.append("Could not be assessed: " + ", ".join(unassessed) + ".")
    return tuple(found)


def _notes(settings: Mapping[str, Any]) -> tuple[str, ...]:
    notes = settings.get("notes") or ()
    return (notes,) if isinstance(notes, str) else tuple(map(str, notes))


def _few(n: int) -> str:
    return f"fewer than {SMALLEST_CELL}" if n < SMALLEST_CELL else str(n)
