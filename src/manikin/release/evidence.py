"""The evidence pack: for each authority's question, what is shown, what is not, and who decides.

The questions are data, one file an authority in `checklists/`, each with its source. Numbers come
from the report and link to the score; a question about which the release holds nothing says so. The
page takes no decision and says of no rule that it is met.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from manikin.data.schema import TableSchema
from manikin.privacy.cells import SMALLEST_CELL
from manikin.release.documents import (
    MARK,
    TO_FILL_IN,
    Dossier,
    describe_ledger,
    farthest,
    number,
    told,
)
from manikin.release.report import Line

__all__ = ["Checklist", "Fact", "Item", "checklists", "render_evidence"]

_HERE = Path(__file__).parent
MOST_QUOTED = 6  # scores that one question quotes; all stand in the table at the end


@dataclass(frozen=True)
class Fact:
    """A statement that the release supports, with the place where it stands."""

    said: str
    link: str  # "#score-3" on this page, or another file of the release
    where: str  # what the link reads


@dataclass(frozen=True)
class Item:
    """One question of an authority."""

    asks: str
    source: str
    shows: tuple[str, ...]
    scores: tuple[str, ...]
    not_shown: str
    decide: str


@dataclass(frozen=True)
class Checklist:
    """The questions of one authority."""

    key: str
    title: str
    source: str
    items: tuple[Item, ...]


@cache
def checklists() -> tuple[Checklist, ...]:
    """Return every checklist in the order of its file's name."""
    import yaml

    found = []
    for path in sorted((_HERE / "checklists").glob("*.yaml")):
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        items = tuple(
            Item(
                item["asks"].strip(),
                item["source"].strip(),
                tuple(item["shows"]),
                tuple(item.get("scores", ())),
                item["not_shown"].strip(),
                item["decide"].strip(),
            )
            for item in given["items"]
        )
        key = path.stem.partition("-")[2]
        found.append(Checklist(key, given["title"], given["source"].strip(), items))
    return tuple(found)


# ---------------------------------------------------------------------------- what is shown
def facts(item: Item, dossier: Dossier, numbered: Mapping[Line, int]) -> tuple[Fact, ...]:
    """Return what this release shows about a question; empty when it shows nothing."""
    found: list[Fact] = []
    for topic in item.shows:
        if topic == "scores":
            found += _scores(item, dossier, numbered)
        else:
            found += FACTS[topic](dossier)
    return tuple(found)


def _scores(item: Item, dossier: Dossier, numbered: Mapping[Line, int]) -> Iterator[Fact]:
    lines = dossier.scores(item.scores)
    # one of each metric first, so that no attack hides the others
    first = {line.metric.partition(".")[0]: line for line in reversed(lines)}
    order = sorted(lines, key=lambda line: first[line.metric.partition(".")[0]] is not line)
    for line in order[:MOST_QUOTED]:
        yield Fact(f"{line.label}: {told(line)}.", f"#score-{numbered[line]}",
                   f"score {numbered[line]}")  # fmt: skip
    if len(order) > MOST_QUOTED:
        yield Fact(f"{len(order) - MOST_QUOTED} more scores bear on it.", "#scores", "all scores")
    missing = [name for name in item.scores if not dossier.scores((name,))]
    if missing:
        names = ", ".join(name.partition(".")[0].removesuffix("*") for name in missing)
        yield Fact(f"Not measured in this run: {names}.", "report.html", "report")


def _roles(dossier: Dossier) -> Iterator[Fact]:
    schema = dossier.schema
    aside = [column.name for column in schema.columns if not column.is_learned]
    yield Fact(
        f"Set aside and made anew or left empty: {', '.join(aside)}." if aside
        else "No column was set aside as an identifier or free text.",
        "report.html#columns", "columns",
    )  # fmt: skip
    yield from _declared(schema, "quasi_identifier", "quasi-identifiers")
    yield from _declared(schema, "sensitive", "sensitive")


def _declared(schema: TableSchema, role: Any, word: str) -> Iterator[Fact]:
    names = [column.name for column in schema.holders(role)]
    said = f"Declared {word}: {', '.join(names)}." if names else f"None was declared {word}."
    yield Fact(said, "report.html#columns", "columns")


def _method(dossier: Dossier) -> Iterator[Fact]:
    if dossier.synthesizer is None:
        yield Fact("The rows were made by another tool; how is not recorded.", "record.jsonl",
                   "record")  # fmt: skip
        return
    yield Fact(f"Every row was drawn from a fitted model, {dossier.synthesizer}; its settings:",
               "MODEL_CARD.md", "model card")  # fmt: skip


def _split(dossier: Dossier) -> Iterator[Fact]:
    parts = {**dossier.content("given"), **dossier.content("split")}
    sizes = [
        f"{name} {part.get('subjects') if part.get('subjects') is not None else 'fewer than 11'}"
        for name, part in parts.items()
        if isinstance(part, Mapping)
    ]
    if sizes:
        yield Fact(f"Split by subject ({', '.join(sizes)}); the held-out subjects judge and were "
                   "not fitted to.", "record.jsonl", "record")  # fmt: skip


def _source(dossier: Dossier) -> Iterator[Fact]:
    source = dossier.content("source")
    if source:
        yield Fact(
            f"One table of {source.get('rows')} rows and {source.get('subjects')} subjects, named "
            "by a keyed digest that its owner can check.", "record.jsonl", "record",
        )  # fmt: skip


def _controls(dossier: Dossier) -> Iterator[Fact]:
    if not dossier.report.controls:
        yield Fact("No leak was planted: that nothing was found means little.",
                   "report.html#verdict", "verdict")  # fmt: skip
        return
    told_ = "; ".join(f"{name}: {'found' if seen else 'missed'}"
                      for name, seen in dossier.report.controls)  # fmt: skip
    yield Fact(f"Leaks planted on purpose: {told_}.", "report.html#verdict", "verdict")


def _policy(dossier: Dossier) -> Iterator[Fact]:
    for policy in dossier.report.verdict.policies:
        passed = sum(ruling.outcome == "pass" for ruling in policy.rulings)
        yield Fact(
            f"Held to the policy “{policy.name}”: {policy.outcome}, {passed} of "
            f"{len(policy.rulings)} gates passed. The gates are this project's, not an "
            "authority's.", "report.html#policy", "policy",
        )  # fmt: skip


def _ledger(dossier: Dossier) -> Iterator[Fact]:
    if (said := dossier.report.statement) is not None:
        yield Fact(said.promise, "report.html#statement", "guarantee")
        yield Fact(f"Unit of privacy: {said.unit}. Neighbouring tables: {said.adjacency}.",
                   "report.html#statement", "guarantee")  # fmt: skip
    for what in describe_ledger(dossier.report.ledger):
        yield Fact(f"{what[:1].upper()}{what[1:]}.", "report.json", "ledger")
    if not dossier.report.ledger:
        yield Fact("No ledger: the rows were made elsewhere, at a cost that is not recorded.",
                   "report.json", "ledger")  # fmt: skip


def _record(dossier: Dossier) -> Iterator[Fact]:
    if dossier.entries:
        yield Fact(
            f"A record of {len(dossier.entries)} events before closing, each chained to the one "
            f"before (run {dossier.run}); “manikin verify” names any change.",
            "record.jsonl", "record",
        )  # fmt: skip


def _files(dossier: Dossier) -> Iterator[Fact]:
    yield Fact("Methods, settings, all scores and their meaning.", "report.html", "report")


def _cells(dossier: Dossier) -> Iterator[Fact]:
    yield Fact(
        f"Report and record rest on at least {SMALLEST_CELL} real subjects wherever they speak of "
        "any; this was counted again before writing.", "report.html#limits", "limits",
    )  # fmt: skip


def _who(dossier: Dossier) -> Iterator[Fact]:
    said = f"Made by {dossier.who}." if dossier.who else "Nobody is named as the maker."
    yield Fact(said, "record.jsonl", "record")


def _model(dossier: Dossier) -> Iterator[Fact]:
    if dossier.synthesizer is not None:
        yield Fact("The fitted model is not part of this release.", "MODEL_CARD.md", "model card")


def _missing(dossier: Dossier) -> Iterator[Fact]:
    shares = [f"{part.name} {100 * part.missing:.1f} %" for part in dossier.report.overview.parts
              if part.missing is not None]  # fmt: skip
    if shares:
        yield Fact(f"Share of missing cells: {', '.join(shares)}.", "report.html#completeness",
                   "completeness")  # fmt: skip


def _sizes(dossier: Dossier) -> Iterator[Fact]:
    sizes = [f"{part.name} {part.subjects if part.subjects is not None else 'fewer than 11'}"
             for part in dossier.report.overview.parts]  # fmt: skip
    yield Fact(f"Subjects: {'; '.join(sizes)}.", "report.html#scorecard", "scorecard")


def _subgroups(dossier: Dossier) -> Iterator[Fact]:
    has_part = dossier.report.subgroups is not None or dossier.report.mitigation is not None
    link = f"report.html#{'subgroups' if has_part else 'scorecard'}"
    asked = next((q for q in dossier.report.verdict.questions if q.id == "subgroups"), None)
    if asked is not None:
        yield Fact(f"{asked.question} {asked.answer}", link, "subgroups")
    judged = farthest(dossier.report)
    if judged:
        yield Fact(f"{len(judged)} scores of subgroups; the farthest from fresh real rows is "
                   f"{judged[0].label} ({judged[0].group}): {told(judged[0])}.",
                   link, "subgroups")  # fmt: skip
    else:
        yield Fact("No subgroup was judged.", "report.html", "report")


def _stamp(dossier: Dossier) -> Iterator[Fact]:
    yield Fact(dossier.stamped, "report.html#settings", "settings")


def _limits(dossier: Dossier) -> Iterator[Fact]:
    yield Fact(f"{len(dossier.report.limits)} limits are stated.", "report.html#limits", "limits")


def _marking(dossier: Dossier) -> Iterator[Fact]:
    if dossier.data is None:
        yield Fact("No data are released here, and none are marked.", "README.md", "README")
        return
    for name in ("croissant.json", "ro-crate-metadata.json", "record.jsonl"):
        yield Fact("A field that says the rows are synthetic.", name, name)


def _unit(dossier: Dossier) -> Iterator[Fact]:
    holder = dossier.schema.holder("subject")
    said = f"the column {holder.name} says whose row it is" if holder else "every row is a subject"
    yield Fact(f"The unit of splitting, judging and resampling is the subject: {said}.",
               "report.html#settings", "settings")  # fmt: skip


FACTS: Mapping[str, Callable[[Dossier], Iterator[Fact]]] = {
    "cells": _cells, "controls": _controls, "files": _files, "ledger": _ledger, "limits": _limits,
    "marking": _marking, "method": _method, "missing": _missing, "model": _model, "policy": _policy,
    "record": _record, "roles": _roles, "sizes": _sizes, "source": _source, "split": _split,
    "stamp": _stamp, "subgroups": _subgroups, "unit": _unit, "who": _who,
}  # fmt: skip


# ---------------------------------------------------------------------------- the page
def render_evidence(dossier: Dossier) -> str:
    """Return the page: offline, printable on A4, nothing loaded and nothing run."""
    import jinja2
    from markupsafe import Markup

    style = (_HERE / "templates" / "evidence.css").read_text(encoding="utf-8")
    quoted = [line for line in dossier.report.scores if line.group == "all"]
    numbered = {line: i for i, line in enumerate(quoted, start=1)}
    lists = [
        (found, [(item, facts(item, dossier, numbered)) for item in found.items])
        for found in checklists()
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["num"] = number
    return environment.get_template("evidence.html.j2").render(
        dossier=dossier,
        report=dossier.report,
        mark=MARK,
        blanks=TO_FILL_IN,
        lists=lists,
        numbered=numbered,
        style=Markup(style),
        policy=_csp(style),
    )


def _csp(style: str) -> str:
    """Return the content security policy: one style sheet by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
