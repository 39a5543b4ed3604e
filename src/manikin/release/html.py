"""The report as one offline page: no script or style but its own, and those only by their hash."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from manikin.release import figures
from manikin.release.report import FAMILIES, Line, Report

__all__ = ["render_html"]

TEMPLATES = Path(__file__).parent / "templates"

SIGNS = {"pass": "✓", "caution": "!", "fail": "✕", "underpowered": "?", "not assessable": "–"}

TITLES = {
    "fidelity": ("Likeness", "How alike synthetic and held-out real data are."),
    "utility": ("Use", "Whether analyses and models give the same answers."),
    "privacy": ("Privacy", "Whether training rows were repeated, and what these tests can see."),
    "fairness": ("Subgroups", "Whether subgroups keep their share, likeness and protection."),
    "validity": ("Rules", "Whether declared rules between and within columns are obeyed."),
}


def render_html(report: Report) -> str:
    """Return the page. Everything that comes from data or settings is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=number, pct=percent, count=count, measured=measured, prose=prose, sentence=sentence
    )
    environment.globals.update(figures=figures, signs=SIGNS, titles=TITLES)
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    return environment.get_template("report.html.j2").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        scored={line.metric.partition(".")[0] for line in report.scores},
        sections=_sections(report),
        settings=list(flattened(report.settings)),
        families={family: scores_of(report, family) for family in FAMILIES},
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


def scores_of(report: Report, family: str) -> dict[str, Sequence[Line]]:
    """Return a family's scores: of everything, of parts, and of single columns."""
    own = [line for line in report.scores if line.family == family]
    parts = [line for line in own if line.group != "all"]
    columns = [line for line in parts if line.group.startswith("column=")]
    return {
        "overall": [line for line in own if line.group == "all"],
        "parts": [line for line in parts if line not in columns],
        # shapes by column stand in the table of columns
        "columns": [line for line in columns if line.metric != "fidelity/shapes"],
    }


def _sections(report: Report) -> list[tuple[str, str]]:
    """Return the anchors and titles of the sections that this report has."""
    shown = [("verdict", "Verdict"), ("overview", "Overview"), ("columns", "Columns")]
    if report.associations is not None:
        shown.append(("pairs", "Pairs"))
    for family in FAMILIES:
        scored = any(line.family == family for line in report.scores)
        curves = family == "utility" and report.survival is not None
        if scored or curves or (family == "privacy"):
            shown.append((family, TITLES[family][0]))
    if report.audit:
        shown.append(("audit", "Source data"))
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
