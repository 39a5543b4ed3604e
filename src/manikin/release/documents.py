"""What the documents of a release tell from: its record and its report, read once.

Every card and every export says what stands in `record.jsonl` and `report.json` and nothing else,
so that no two of them can disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from manikin.data.schema import TableSchema
from manikin.release.record import RECORD, Entry, read_record
from manikin.release.report import Line, Report
from manikin.release.statement import describe_release

__all__ = [
    "FILES",
    "FORBIDDEN",
    "INTENDED",
    "KEPT_BY_PROGRAMS",
    "KEPT_IN",
    "MARK",
    "STAMPS",
    "TO_FILL_IN",
    "UNLICENSED",
    "Blank",
    "Dossier",
    "contents",
    "describe_ledger",
    "farthest",
    "number",
    "plain_text",
    "table",
    "told",
]

MARK = (
    "These data are synthetic: every row was drawn by a computer model and none is the record of"
    " a person."
)
UNLICENSED = "No licence is granted: ask the owner of the source data before any use"
STAMPS = {
    "representative": "Representative: drawn without conditions, so that shares are meant to be"
    " those of the source.",
    "conditioned": "Conditioned: only subjects that meet stated conditions were drawn. Estimate no"
    " prevalence from these data.",
    "rebalanced": "Rebalanced: the levels of a column were made equally frequent. Estimate no"
    " prevalence from these data.",
    "enriched": "Enriched: the share of some levels of a column was chosen. Estimate no prevalence"
    " from these data.",
    "mitigated": "Mitigated: what one column tells of another was taken out on purpose. Estimate"
    " neither how they go together nor how common either is from these data.",
}
INTENDED = (
    "writing and testing programs and analyses that are then run on the real data",
    "teaching, and getting to know the structure of the source",
    "planning a study or a request for access to the real data",
)
FORBIDDEN = (
    "to make decisions about a real person, in care or elsewhere",
    "to try to find out who the source's subjects are, or anything about one of them",
    "as the only evidence for a finding: confirm it on real data",
    "to estimate how common something is, where shares were changed or conditions set",
)


@dataclass(frozen=True)
class Blank:
    """Something that only a person can say, left open in the cards."""

    what: str
    why: str


TO_FILL_IN = (
    Blank("Contact for questions and complaints", "name or office, e-mail"),
    Blank("Controller of the source data", "who answers for them"),
    Blank("Purpose of this release", "the task it was made for, and for whom"),
    Blank("Legal basis or ethics approval", "reference and date"),
    Blank("Licence or terms of use", "none is granted until this is filled in"),
    Blank("Recipients and what they could know", "who may get it, and their other data"),
    Blank("Approved by", "name, role, date"),
    Blank("Valid until", "date of review, and how a retraction will be announced"),
)

KEPT_BY_PROGRAMS = (
    "Restricted, not for release: computed from real rows without noise. Only the folder"
    " for-release may leave the house."
)
KEPT_IN = (
    "**Restricted, not for release.** This page was computed from real rows without noise. Only the"
    " folder `for-release` may leave the house."
)

# name → what it is, and for whom; the order is that of the README
FILES = {
    "report.html": ("the evidence: open it in any browser, it needs no network", "everybody"),
    "report.json": ("the same numbers", "programs"),
    "evidence.html": ("checklists of what is shown and what a person must decide, to be printed"
                      " and signed", "data stewards, experts, auditors"),
    "DATASET_CARD.md": ("what the data are, how they were made, what they may not be used for",
                        "whoever receives the data"),
    "MODEL_CARD.md": ("the model that drew the rows: how it was fitted, judged and what it may"
                      " reveal", "reviewers of the method"),
    "record.jsonl": ("the history of the run, a line an event, each chained to the one before",
                     "auditors"),
    "croissant.json": ("metadata in Croissant 1.1 with the RAI vocabulary", "data catalogues"),
    "ro-crate-metadata.json": ("the release as an RO-Crate 1.1 with Process Run Crate 0.5",
                               "research repositories"),
    "prov.json": ("where everything came from, in W3C PROV-JSON", "lineage tools"),
    "README.md": ("this page", "everybody"),
    "MANIFEST.sha256": ("the SHA-256 of every file", "whoever checks"),
}  # fmt: skip


@dataclass(frozen=True)
class Dossier:
    """One run as its record and its report tell it."""

    directory: Path
    report: Report
    schema: TableSchema
    entries: tuple[Entry, ...]
    data: str | None = None  # name of the file of synthetic rows, None when none is released
    tables: Mapping[str, TableSchema] = field(default_factory=dict)  # by file, of linked tables

    @staticmethod
    def of(
        directory: Path,
        report: Report,
        schema: TableSchema,
        data: str | None,
        tables: Mapping[str, TableSchema] | None = None,
    ) -> Dossier:
        """Read the record beside the report; a directory without one has no history."""
        path = directory / RECORD
        entries = read_record(path) if path.is_file() else ()
        return Dossier(directory, report, schema, entries, data, tables or {})

    def holds_rows(self, name: str) -> bool:
        """Whether a file holds synthetic rows."""
        return name == self.data or name in self.tables

    def content(self, event: str) -> Mapping[str, Any]:
        """Return what the last entry of an event holds; empty when there is none."""
        found = [entry.content for entry in self.entries if entry.event == event]
        return found[-1] if found else {}

    @property
    def run(self) -> str:
        """The number of the run."""
        return str(self.content("started").get("run") or "not recorded")

    @property
    def who(self) -> str | None:
        """The person or office named as the maker, if any."""
        named = self.content("started").get("who")
        return str(named) if named else None

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions by package."""
        found: Mapping[str, str] = self.content("started").get("versions") or {}
        return found

    @property
    def synthesizer(self) -> str | None:
        """The name of the synthesizer, None for another tool's data."""
        named = self.content("fitted").get("synthesizer") or self.report.settings.get("synthesizer")
        return str(named) if named else None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The settings of the synthesizer."""
        found = self.content("fitted").get("recipe") or self.report.settings.get("recipe")
        return found if isinstance(found, Mapping) else {}

    @property
    def stamp(self) -> str:
        """What the drawn data may be called."""
        kind = self.content("sampled").get("kind") or self.report.settings.get("kind")
        if kind is None:
            return "not stated"
        return str(kind)

    @property
    def stamped(self) -> str:
        """The stamp in a sentence."""
        return STAMPS.get(self.stamp, "How the rows were chosen is not stated.")

    @property
    def kept(self) -> str:
        """What metadata begin with that must not leave the house, else nothing."""
        return f"{KEPT_BY_PROGRAMS} " if self.report.release_class else ""

    @property
    def title(self) -> str:
        """The name of the data."""
        return f"Synthetic {Path(self.report.source).stem}"

    def present(self, *later: str) -> tuple[str, ...]:
        """Return the files of the release: those here, and those `later` to come; data first."""
        here = {path.name for path in self.directory.iterdir() if path.is_file()} | set(later)
        known = [name for name in FILES if name in here]
        rows = ([self.data] if self.data else []) + [n for n in self.tables if n != self.data]
        rest = sorted(here - set(known) - set(rows))
        return tuple(rows + known + rest)

    def scores(self, patterns: Iterable[str], group: str = "all") -> tuple[Line, ...]:
        """Return the overall scores whose names match a pattern, in the report's order."""
        wanted = tuple(patterns)
        return tuple(
            line
            for line in self.report.scores
            if line.group == group and any(fnmatchcase(line.metric, name) for name in wanted)
        )


# ---------------------------------------------------------------------------- words
def number(value: float | None) -> str:
    """Write a score for a person, with a true minus; a dash for none."""
    if value is None:
        return "–"
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\u2212")


def told(line: Line) -> str:
    """Return a score in a phrase, with all that it takes to read it."""
    if line.value is None:
        return f"could not be estimated{': ' + line.note if line.note else ''}"
    said = number(line.value)
    if line.low is not None and line.high is not None:
        said += f" (95\u202f% interval {number(line.low)} to {number(line.high)})"
    if line.ceiling is not None:
        said += f"; fresh real rows {number(line.ceiling)}"
    if line.floor is not None:
        said += f"; independent columns {number(line.floor)}"
    return said


def farthest(report: Report) -> list[Line]:
    """Return the scores of subgroups, those farthest from fresh real rows first."""
    known = [line for line in report.scores if line.family == "fairness" and line.group != "all"]
    known = [line for line in known if line.value is not None]
    return sorted(known, key=lambda line: -abs((line.value or 0.0) - (line.ceiling or 0.0)))


def describe_ledger(ledger: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the privacy ledger in sentences."""
    return [
        f"{entry.get('what') or 'not described'}: {describe_release(entry)}" for entry in ledger
    ]


def plain_text(text: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table; cells are taken as they are."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def contents(files: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what a folder holds, each file with what it is, and how to see that it is unaltered."""
    yield from ("## Files", "")
    yield from (f"- `{name}`: {what}" for name, what in files)
    yield from ("", "## Has anything been altered?", "", "```", "manikin verify .")
    yield from ("sha256sum -c MANIFEST.sha256", "```", "")
