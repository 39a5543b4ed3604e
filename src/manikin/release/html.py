"""The report as one offline page: no script or style but its own, and those only by their hash."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from manikin.release import figures, history_figures
from manikin.release.groups import is_attack, is_column
from manikin.release.lines import Line
from manikin.release.policy import PolicyGate, PolicyVerdict, Ruling
from manikin.release.report import Report
from manikin.release.scorecard import SEVEN
from manikin.release.statement import describe_release
from manikin.release.statement import percent as share

__all__ = ["page", "render_html"]

TEMPLATES = Path(__file__).parent / "templates"

SIGNS = {"pass": "✓", "caution": "!", "fail": "✕", "underpowered": "?", "not assessable": "–"}

HEADLINES = 4  # numbers of a measure that stand in the open; more are folded


@dataclass(frozen=True)
class Block:
    """One measure in one section: what it says, its first numbers, and the folded ones."""

    title: str
    reads: str
    better: str
    first: tuple[Line, ...]
    rest: tuple[Line, ...]


def render_html(report: Report) -> str:
    """Return the page. Everything that comes from data or settings is escaped."""
    return page(
        "report.html.j2",
        report=report,
        cs=[(standing, blocks(report, standing.c.id)) for standing in report.scorecard],
        curves={c.id: [s for s in report.scores if s.place == c.id and s.curve] for c in SEVEN},
        gates=gate_rows(report.verdict.policies),
        sections=_sections(report),
        settings=list(flattened(report.settings)),
    )


def page(template: str, **given: Any) -> str:
    """Return a page of one of the templates, with the style, the script and their hashes in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=number,
        pct=percent,
        count=count,
        measured=measured,
        prose=prose,
        sentence=sentence,
        share=share,
        released=describe_release,
        within=within,
    )
    environment.globals.update(figures=figures, history_figures=history_figures, signs=SIGNS)
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    return environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=_policy(style, script), **given
    )


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for a person, a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:.{digits}f}".replace("-", "\u2212")


def measured(value: float | None) -> str:
    """Write a number of any size in four digits."""
    if value is None:
        return "–"
    if abs(value) >= 1e9 or 0 < abs(value) < 1e-3:
        return f"{value:.3g}".replace("-", "\u2212")
    written = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return written.replace(",", "\u202f").replace("-", "\u2212")


def percent(share: float | None) -> str:
    """Write a share in per cent."""
    return "–" if share is None else f"{100 * share:.1f}\u202f%"


def count(n: int | None) -> str:
    """Write a count; None is one that may not be told."""
    return "fewer than 11" if n is None else f"{n:,}".replace(",", "\u202f")


def prose(text: str) -> Markup:
    """Escape a text and set what stands between back-quotes as code."""
    parts = [str(escape(part)) for part in text.split("`")]
    if len(parts) % 2 == 0:  # an odd back-quote is only a sign
        return escape(text)
    marked = [f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)]
    return Markup("".join(marked))


def sentence(text: str) -> str:
    """Begin a text with a capital letter and end it with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text[-1:] in ".!?" else ".")


def within(line: Line, title: str) -> str:
    """Return what a number is of, below the heading of its measure."""
    what = line.label.removeprefix(title).removeprefix(", ")
    return what[:1].upper() + what[1:] if what else line.label


def flattened(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings as dotted names and texts."""
    for key, value in settings.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield name, ", ".join(map(str, value)) or "none"
        else:
            yield name, "none" if value is None or value == "" else str(value)


def blocks(report: Report, place: str) -> list[Block]:
    """Return a section's measures. Groups, attacks and column shapes stand in their own tables."""
    found: dict[str, list[Line]] = {}
    for line in report.scores:
        in_a_table = is_attack(line) or ("=" in line.group and not is_column(line))
        by_column = line.metric == "fidelity/shapes" and is_column(line)
        if line.place == place and not in_a_table and not by_column:
            found.setdefault(line.metric.partition(".")[0], []).append(line)
    explained = {entry.metric: entry for entry in report.glossary}
    made = []
    for metric, lines in found.items():
        entry = explained.get(metric)
        overall = [line for line in lines if line.group == "all"]
        # those that the verdict rests on first, then those that have a number
        overall.sort(key=lambda line: (not line.outcome, line.value is None))
        first = tuple(overall[:HEADLINES])
        rest = tuple(line for line in lines if line not in first)
        title = entry.title if entry else metric
        made.append(
            Block(title, entry.reads if entry else "", entry.better if entry else "", first, rest)
        )
    return made


def gate_rows(
    policies: Sequence[PolicyVerdict],
) -> list[tuple[PolicyGate, Ruling, list[Ruling | None]]]:
    """Return the gates of all policies, each once: what was measured, and each policy's ruling."""
    rows: dict[tuple[str, ...], list[Ruling | None]] = {}
    for j, policy in enumerate(policies):
        for ruling in policy.rulings:
            gate = ruling.gate
            key = (gate.name, gate.metric, gate.group, gate.end, gate.bound)
            rows.setdefault(key, [None] * len(policies))[j] = ruling
    found = []
    for rulings in rows.values():
        told = next(ruling for ruling in rulings if ruling is not None)
        found.append((told.gate, told, rulings))
    return found


def _sections(report: Report) -> list[tuple[str, str]]:
    """Return the anchors and titles of the sections that this report has."""
    shown = [("verdict", "Verdict"), ("overview", "Overview"), ("scorecard", "Scorecard")]
    shown += [(c.id, c.title) for c in SEVEN]
    if report.statement is not None:
        shown.insert(1, ("statement", "Guarantee"))
    if report.subgroups is not None or report.mitigation is not None:
        shown.append(("subgroups", "Subgroups"))
    if report.histories is not None:
        shown.append(("histories", "Over time"))
    shown.append(("columns", "Columns"))
    if report.associations is not None:
        shown.append(("pairs", "Pairs"))
    if report.graph is not None:
        shown.append(("network", "Network"))
    if report.audit:
        shown.append(("audit", "Source data"))
    if report.asked:
        shown.append(("asked", "Auditor"))
    return [*shown, ("limits", "Limits"), ("settings", "Settings"), ("glossary", "Glossary")]


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return the content security policy: nothing is loaded, nothing runs but what is inside."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
