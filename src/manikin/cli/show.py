"""How results look at a terminal: the audit, the verdict, the shelves, what was altered."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from manikin.cli.console import printer, show_json
from manikin.cli.rulings import show_ruled

if TYPE_CHECKING:
    from rich.table import Table as Grid

    from manikin.auditor import Audit, ColumnProfile, Finding
    from manikin.catalogue import Setting
    from manikin.cli.cards import ShelfCard
    from manikin.metrics.score import Score
    from manikin.pipeline import Outcome
    from manikin.release.seal import Verification

__all__ = [
    "end_with",
    "near",
    "new_grid",
    "show_audit",
    "show_card",
    "show_catalogue",
    "show_notes",
    "show_outcome",
    "show_paths",
    "show_verification",
]

_MARKS = {
    "stop": ("red", "✗ settle first"),
    "warn": ("yellow", "! mind"),
    "note": ("cyan", "· note"),
}
_SHOWN_COLUMNS = 60
_LISTED = {
    "synthesizers": {
        "conditions": "takes conditions", "budget": "privacy budget", "detection": "detection"
    }
}  # fmt: skip
_DETECTION = (
    "detection: not told from real rows by boosted trees, 0 (always told) to 1, measured on"
    " clinical tables; advise measures on yours\nbudget: a privacy budget"
    " (--epsilon), which some need and others cannot honour"
)
_FIELD = re.compile(r"^(Reference|Idea|Algorithm|Differs|Use when|Network|Loss)s?\s{2,}(\S.*)$")


def new_grid(*headers: str) -> Grid:
    """Return an empty table with these headers."""
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in headers:
        grid.add_column(header, overflow="fold")
    return grid


# ---------------------------------------------------------------------------- audit
def show_audit(audit: Audit, name: str, *, quiet: bool) -> None:
    """Print an audit: size, columns, findings worst first. Quiet: only what must be settled."""
    console = printer()
    if not quiet:
        sizes = audit.to_json()
        console.print(
            f"[bold]{_plain(name)}[/bold]: {_size(sizes['n_rows'])} rows of"
            f" {_size(sizes['n_subjects'])} subjects, {len(audit.columns)} columns"
        )
        if audit.columns:
            console.print()
            console.print(_columns(audit.columns))
            console.print()
        if len(audit.columns) > _SHOWN_COLUMNS:
            more = len(audit.columns) - _SHOWN_COLUMNS
            console.print(f"… and {more} more columns (all with --json)\n")
    for finding in audit.findings:
        if not quiet or finding.severity == "stop":
            _show_finding(finding)
    if not quiet:
        counts = [sum(f.severity == s for f in audit.findings) for s in _MARKS]
        console.print(f"{counts[0]} to settle first, {counts[1]} to mind, {counts[2]} to note")


def _size(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _columns(profiles: Sequence[ColumnProfile]) -> Grid:
    from rich.text import Text

    grid = new_grid("column", "kind", "missing", "why")
    for profile in profiles[:_SHOWN_COLUMNS]:
        kind = ", ".join([profile.kind, *profile.roles])
        why = [profile.reason.removeprefix(f"{profile.kind}: "), profile.span]
        if profile.rare_levels:
            why.append(f"{profile.rare_levels} of {profile.levels} levels are rare")
        told = "; ".join(part for part in why if part)
        grid.add_row(Text(profile.name), Text(kind), Text(profile.missing), Text(told, style="dim"))
    return grid


def _show_finding(finding: Finding) -> None:
    from rich.padding import Padding
    from rich.text import Text

    colour, mark = _MARKS[finding.severity]
    console = printer()
    console.print(Text.assemble((f"{mark}: ", f"bold {colour}"), (finding.topic, "bold")))
    console.print(Padding(Text(finding.said), (0, 0, 0, 2)))
    console.print(Padding(Text(f"→ {finding.todo}", style="dim"), (0, 0, 1, 2)))


# ---------------------------------------------------------------------------- release
def end_with(outcome: Outcome, *, quiet: bool, as_json: bool) -> None:
    """Print what a judged run came to, and leave with its exit code."""
    show_outcome(outcome, quiet=quiet, as_json=as_json)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def show_outcome(outcome: Outcome, *, quiet: bool, as_json: bool) -> None:
    """Print what a judged run came to: the verdict, the headline scores, where everything is."""
    if as_json:
        show_json(
            {
                "release_class": outcome.release_class or None,
                "directory": _path(outcome.directory),
                "data": _path(outcome.data),
                "report": _path(outcome.report),
                "record": _path(outcome.record),
                "verdict": list(outcome.verdict),
                "notes": list(outcome.notes),
                "policy": None if outcome.policy is None else outcome.policy.to_json(),
                "scores": [dataclasses.asdict(score) for score in outcome.scores],
                "audit": None if outcome.audit is None else outcome.audit.to_json(),
            }
        )
        return
    from rich.padding import Padding
    from rich.text import Text

    console = printer()
    if outcome.release_class and not (quiet and outcome.policy is None):
        kept = f"{outcome.release_class.capitalize()}: what is printed here compares with real rows"
        console.print(Text(kept, style="bold red"))
    if quiet:
        show_ruled(outcome.policy, quiet=True)
        return
    for line in outcome.verdict[:1]:
        console.print(Text(line, style="bold"))
    for line in outcome.verdict[1:]:
        question, mark, answer = line.partition("? ")
        asked = Text(question + mark, style="bold" if mark else "")
        console.print(Padding(asked, (0, 0, 0, 2)))
        if answer:
            console.print(Padding(Text(answer), (0, 0, 0, 4)))
    show_notes(outcome.notes)
    headline = [score for score in outcome.scores if score.group == "all"]
    if headline:
        console.print()
        console.print(_scores(headline))
        console.print()
    for finding in outcome.audit.findings if outcome.audit is not None else ():
        if finding.severity == "stop":
            _show_finding(finding)
    if outcome.directory is not None:
        places = {"data": outcome.data, "report": outcome.report, "record": outcome.record}
        shown = {what: near(path) for what, path in places.items() if path is not None}
        show_paths({**shown, "check it": f"manikin verify {near(outcome.directory)}"})
    show_ruled(outcome.policy, quiet=False)


def show_notes(notes: Sequence[str]) -> None:
    """Print what to know before any number is read."""
    from rich.text import Text

    for note in notes:
        printer().print(Text.assemble(("! ", "bold yellow"), note))


def near(path: Path) -> Path:
    """Return a path as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _scores(scores: Sequence[Score]) -> Grid:
    from rich.text import Text

    grid = new_grid("score", "value", "95 % interval", "floor", "ceiling")
    for score in scores:
        low, high = score.interval
        between = f"{_number(low)} to {_number(high)}" if not math.isnan(low) else "-"
        cells = [_number(score.value), between, _number(score.floor), _number(score.ceiling)]
        grid.add_row(Text(score.metric), *cells)
    grid.collapse_padding = True  # all of it fits into 80 columns
    grid.columns[0].no_wrap = True
    for column in grid.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return grid


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def show_paths(places: Mapping[str, Path | str]) -> None:
    """Print what is where, one a line, nothing cut off."""
    width = max(len(what) for what in places) + 2
    console = printer()
    for what, place in places.items():
        # soft wrap: a path must stay one word that can be copied
        console.print(f"{what + ':':<{width}}{_plain(str(place))}", soft_wrap=True)


def show_verification(found: Verification, release: Path, *, quiet: bool, as_json: bool) -> None:
    """Print whether a release is as it was sealed, and exactly what is not."""
    if as_json:
        show_json({"ok": found.ok, **dataclasses.asdict(found), "problems": list(found.problems)})
        return
    from rich.text import Text

    console = printer()
    if found.ok and not quiet:
        console.print(Text.assemble(("✓ ", "bold green"), f"{found.n_files} files are as sealed"))
        if found.signature == "valid":
            console.print(f"  signed by {found.signer}", soft_wrap=True)
        else:
            console.print("  not signed: shows damage, not who sealed it")
    problems = list(found.problems)
    if not found.n_files:  # never sealed: that every file was "added" says nothing
        problems = [what for what in problems if not what.startswith("added: ")]
    for problem in problems:
        console.print(Text.assemble(("✗ ", "bold red"), problem), soft_wrap=True)
    if not found.ok and not quiet:
        console.print(f"{_plain(release.name)} is not what was sealed: do not rely on it")


# ---------------------------------------------------------------------------- shelves
def show_catalogue(shelves: Mapping[str, Sequence[ShelfCard]]) -> None:
    """Print every shelf."""
    from rich.text import Text

    console = printer()
    for title, cards in shelves.items():
        facts = _LISTED.get(title, {})
        grid = new_grid(title, *facts, "")
        grid.columns[0].no_wrap = True
        for card in cards:
            middle = [Text(card.facts.get(fact, "–")) for fact in facts.values()]
            grid.add_row(Text(card.name), *middle, Text(card.summary))
        console.print(grid)
        if "detection" in facts:
            console.print(_DETECTION)
        console.print()
    console.print("manikin list NAME prints a card with every setting")


def show_card(card: ShelfCard, settings: Sequence[Setting]) -> None:
    """Print one card whole, and its settings with defaults and meanings."""
    from rich.text import Text

    console = printer()
    console.print(Text(card.name, style="bold"))
    fields, paragraphs = _sections(card.text)
    for paragraph in paragraphs:
        console.print(Text(paragraph))
        console.print()
    facts = {
        key: value
        for key, value in card.facts.items()
        if key not in ("class", "family", "detection")
    }
    told = new_grid("", "")
    told.show_header, told.box, told.columns[0].no_wrap = False, None, True
    for key, value in {**fields, **facts}.items():
        told.add_row(Text(key, style="bold"), Text(value))
    console.print(told)
    if settings:
        console.print()
        grid = new_grid("setting", "type", "default", "meaning")
        grid.columns[0].no_wrap = grid.columns[2].no_wrap = True
        for setting in settings:
            cells = (setting.name, setting.type, str(setting.default), setting.meaning)
            grid.add_row(*(Text(cell) for cell in cells))
        console.print(grid)


def _sections(text: str) -> tuple[dict[str, str], list[str]]:
    """Return a card's fields ("Idea", "Use when") by name and its paragraphs, lines joined."""
    fields: dict[str, list[str]] = {}
    paragraphs: list[list[str]] = [[]]
    name = ""
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match:
            name = match[1]
            fields[name] = [match[2]]
        elif not line.strip():
            name = ""
            paragraphs.append([])
        elif name and line.startswith("  "):
            fields[name].append(line.strip())
        else:
            paragraphs[-1].append(line.strip())
    joined = [" ".join(paragraph) for paragraph in paragraphs if paragraph]
    return {key: " ".join(lines) for key, lines in fields.items()}, joined


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
