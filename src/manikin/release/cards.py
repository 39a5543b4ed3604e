"""The documents of a release: the door that writes them all, and the cards for people.

Dataset card after Gebru et al., "Datasheets for Datasets", CACM 64(12), 2021, and model card after
Mitchell et al., "Model Cards for Model Reporting", FAccT 2019, with what synthetic data add to
both: how the rows were made, against what they were judged, and what was never tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import manikin
from manikin.data.schema import Column, TableSchema
from manikin.release.crate import crate
from manikin.release.croissant import croissant
from manikin.release.documents import (
    FILES,
    FORBIDDEN,
    INTENDED,
    KEPT_IN,
    MARK,
    TO_FILL_IN,
    UNLICENSED,
    Dossier,
    contents,
    describe_ledger,
    farthest,
    number,
    plain_text,
    table,
)
from manikin.release.evidence import render_evidence
from manikin.release.provenance import provenance
from manikin.release.report import Line, Report

__all__ = ["croissant", "dataset_card", "model_card", "readme", "write_cards"]


def write_cards(
    directory: Path,
    data: str | None,
    schema: TableSchema,
    report: Report,
    tables: Mapping[str, TableSchema] | None = None,
) -> None:
    """Write every document of a release beside its report and record.

    `data` names the file of synthetic rows; None when, as in an evaluation, none is released.
    `tables` are the files of linked tables, `data` being the first of them.
    """
    dossier = Dossier.of(directory, report, schema, data, tables)
    _write(directory / "evidence.html", render_evidence(dossier))
    if data is not None:
        _write(directory / "DATASET_CARD.md", dataset_card(dossier))
        _write_json(
            directory / "croissant.json", croissant(schema, directory / data, report, tables)
        )
    if dossier.synthesizer is not None:
        _write(directory / "MODEL_CARD.md", model_card(dossier))
    _write_json(directory / "prov.json", provenance(dossier))
    later = ("README.md", "ro-crate-metadata.json", "MANIFEST.sha256")
    _write(
        directory / "README.md",
        readme(report, data, dossier.present(*later), tuple(dossier.tables)),
    )
    _write_json(directory / "ro-crate-metadata.json", crate(dossier))  # last: it lists the others


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    _write(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------- README
def readme(
    report: Report, data: str | None, files: Sequence[str] = (), tables: Sequence[str] = ()
) -> str:
    """Return the README, in Markdown, of a release directory that holds `files`."""
    listed = files or ([data] if data else []) + list(FILES)
    lines = [
        f"# Synthetic data from {plain_text(report.source)}",
        "",
        *_kept_in(report),
        *([MARK, ""] if data is not None else []),
        plain_text(report.verdict.what),
        "",
        f"**{plain_text(report.verdict.headline)}**",
        "",
        *table(("Question", "Answer"), ((q.question, q.word) for q in report.verdict.questions)),
        "",
        *contents((name, _meaning(name, (data, *tables))) for name in listed),
        "The second needs nothing but a common shell. If `MANIFEST.sha256.sig` is here, the first",
        "checks the signature too; compare the fingerprint it prints with one you got elsewhere.",
        "",
        "## Not to be used",
        "",
        *_list(FORBIDDEN),
        "",
        "## Limits",
        "",
        *_list(report.limits),
        "",
    ]
    return "\n".join(lines)


def _kept_in(report: Report) -> list[str]:
    """Return what heads a page that may not leave the house."""
    return [KEPT_IN, ""] if report.release_class else []


def _meaning(name: str, rows: Sequence[str | None]) -> str:
    if name in rows:
        return "the synthetic rows"
    what, whom = FILES.get(name, ("another file of this run", "everybody"))
    return what if whom == "everybody" else f"{what} (for {whom})"


# ---------------------------------------------------------------------------- dataset card
def dataset_card(dossier: Dossier) -> str:
    """Return the dataset card, in Markdown."""
    report = dossier.report
    lines = [
        f"# Dataset card: {plain_text(dossier.title)}",
        "",
        *_kept_in(report),
        f"> **{MARK}**",
        f"> {dossier.stamped}",
        "",
        plain_text(report.verdict.what),
        "",
        *table(("", ""), _glance(dossier)),
        "",
        "## To be filled in by a person",
        "",
        *_blanks(),
        "",
        "## Intended for",
        "",
        *_list(INTENDED),
        "",
        "## Not to be used",
        "",
        *_list(FORBIDDEN),
        "",
        "## How the rows were made",
        "",
        *_list(_steps(dossier)),
        "",
        "## Columns",
        "",
        "No value of a real person stands here; spellings of categories are in the data.",
        "",
        *table(("Column", "Kind", "Unit", "Role"), map(_column, dossier.schema.columns)),
        "",
        "## What was measured",
        "",
        *_results(report, ("fidelity", "utility", "privacy", "fairness", "validity")),
        "",
        "## Subgroups",
        "",
        *_subgroups(report),
        "",
        "## Privacy",
        "",
        *_privacy(report),
        "",
        "## Limits",
        "",
        *_list(plain_text(limit) for limit in report.limits),
        "",
    ]
    return "\n".join(lines)


def _glance(dossier: Dossier) -> Iterator[tuple[str, str]]:
    sampled, settings = dossier.content("sampled"), dossier.report.settings
    yield "File", f"`{dossier.data}`" if dossier.data else "none is released"
    yield "Made", dossier.report.created
    yield "Made by", plain_text(dossier.who or "nobody is named")
    yield "With", f"Manikin {manikin.__version__}, {plain_text(dossier.synthesizer or 'unknown')}"
    yield "From", f"{plain_text(dossier.report.source)} (not released)"
    yield "Subjects", str(sampled.get("subjects") or settings.get("n") or "see the report")
    yield "Columns", str(len(dossier.schema.columns))
    yield "Rows are", plain_text(dossier.stamp)
    yield "Seed", str(sampled.get("seed", settings.get("seed", "not recorded")))
    yield "Run", dossier.run
    yield "Licence", UNLICENSED


def _steps(dossier: Dossier) -> Iterator[str]:
    source, split = dossier.content("source"), dossier.content("split")
    sampled, fitted = dossier.content("sampled"), dossier.content("fitted")
    if source:
        how = "declared beforehand" if source.get("declared") else "inferred from the rows"
        yield (
            f"**Source**: {_count(source.get('rows'))} rows of {_count(source.get('subjects'))}"
            f" subjects in {source.get('columns')} columns; the schema was {how}. It is named only"
            " by a keyed digest."
        )
    parts = [(name, part) for name, part in split.items() if isinstance(part, Mapping)]
    if parts:
        sizes = ", ".join(f"{name} {_count(part.get('subjects'))}" for name, part in parts)
        how = "secret coins" if split.get("seed") is None else f"seed {split.get('seed')}"
        yield f"**Split by subject**, {how}: {sizes} subjects."
    if fitted:
        settings = ", ".join(f"{key} = {value}" for key, value in dossier.recipe.items())
        yield (
            f"**Fit**: {plain_text(str(fitted.get('synthesizer')))}, seed {fitted.get('seed')}"
            f" ({plain_text(settings) or 'no settings'}){_groups(fitted)}."
        )
    if sampled:
        where = "; ".join(map(str, sampled.get("where") or ())) or "none"
        yield (
            f"**Draw**: {sampled.get('subjects')} subjects, seed {sampled.get('seed')};"
            f" conditions: {plain_text(where)}; balanced column:"
            f" {plain_text(str(sampled.get('balance') or 'none'))}{_shares(sampled)}."
        )
    yield "**Judge**: against held-out subjects, independent columns and fresh real rows."


def _groups(fitted: Mapping[str, Any]) -> str:
    """Return which groups have a model of their own, if that was asked for."""
    told = fitted.get("fit_per")
    if not isinstance(told, Mapping):
        return ""
    groups = ", ".join(map(str, told.get("groups") or ()))
    return f"; a model for each group of {plain_text(str(told.get('by')))}: {plain_text(groups)}"


def _shares(sampled: Mapping[str, Any]) -> str:
    """Return what was done to the shares of levels beside a balance."""
    wishes = ", ".join(map(str, sampled.get("enrich") or ()))
    left = sampled.get("levels_left_out")
    found = f"; enriched: {plain_text(wishes)}" if wishes else ""
    return found + (f"; levels too rare to be drawn: {left}" if left else "")


def _count(n: object) -> str:
    return "fewer than 11" if n is None else str(n)


def _column(column: Column) -> tuple[str, str, str, str]:
    kind = column.kind if column.is_learned else f"{column.kind} (not learned)"
    roles = ", ".join(column.roles).replace("_", "-")
    return plain_text(column.name), kind, plain_text(column.unit or ""), roles


def _results(report: Report, families: Sequence[str]) -> Iterator[str]:
    yield f"**{plain_text(report.verdict.headline)}**"
    yield ""
    yield from table(
        ("Question", "Answer"),
        ((q.question, _answer(q.word, q.answer)) for q in report.verdict.questions),
    )
    yield ""
    yield "Fresh: the same number with fresh real rows. Independent: with independent columns."
    yield ""
    head = ("Score", "Value", "95 % interval", "Fresh", "Independent", "Better")
    yield from table(head, map(_score, report.lines(*families)))


def _answer(word: str, answer: str) -> str:
    said = plain_text(answer)
    return said if said.startswith(word) else f"{word}. {said}"


def _score(line: Line) -> tuple[str, ...]:
    told = line.low is not None and line.high is not None
    value = number(line.value) if line.value is not None else "not estimable"
    between = f"{number(line.low)} to {number(line.high)}" if told else "–"
    name = f"{plain_text(line.label)} (`{line.metric}`)"
    return name, value, between, number(line.ceiling), number(line.floor), line.better


def _subgroups(report: Report) -> Iterator[str]:
    worst = farthest(report)
    if not worst:
        yield "No subgroup was judged: name sensitive columns to have them judged."
        return
    yield "The scores of subgroups that are farthest from those of fresh real rows:"
    yield ""
    yield from table(
        ("Subgroup", "Score", "Value", "95 % interval", "Fresh"),
        (
            (plain_text(line.group), plain_text(line.label), *_score(line)[1:4])
            for line in worst[:10]
        ),
    )


def _privacy(report: Report) -> Iterator[str]:
    if report.statement is not None:
        yield plain_text(report.statement.promise)
        yield ""
    yield "The privacy ledger (what was computed from the real rows, and at what cost):"
    yield ""
    yield from (
        _list(plain_text(what) for what in describe_ledger(report.ledger))
        if (report.ledger)
        else ["- nothing is recorded: the rows were made elsewhere"]
    )
    yield ""
    yield "Leaks planted to see whether the tests can find them:"
    yield ""
    if report.controls:
        yield from (f"- {name}: {'found' if seen else 'missed'}" for name, seen in report.controls)
    else:
        yield "- none were planted, so that silence about copying means nothing"


# ---------------------------------------------------------------------------- model card
def model_card(dossier: Dossier) -> str:
    """Return the model card, in Markdown."""
    report = dossier.report
    lines = [
        f"# Model card: {plain_text(dossier.synthesizer or 'unknown')}"
        f" fitted to {plain_text(report.source)}",
        "",
        *_kept_in(report),
        "This card describes the fitted model that drew the synthetic rows. "
        + _HERE[report.statement is not None],
        "",
        "## Model",
        "",
        *table(("", ""), _model(dossier)),
        "",
        "The method's own card and paper: `manikin list` with its name; what to cite:"
        " `manikin cite .`",
        "",
        *_network(report),
        "## To be filled in by a person",
        "",
        *_blanks(),
        "",
        "## Intended for",
        "",
        "- drawing synthetic subjects of the same structure as the source, with evidence beside"
        " them",
        "",
        "## Not to be used",
        "",
        "- to predict for, or decide about, a real person: it is no clinical model",
        *([_OUTSIDE] if report.statement is None else []),
        "",
        "## Fitted to and judged on",
        "",
        *_list(_steps(dossier)),
        "",
        *_results(report, ("fidelity", "utility", "validity")),
        "",
        "## Privacy",
        "",
        *_privacy(report),
        "",
        *table(
            ("Score", "Value", "95 % interval", "Fresh", "Independent", "Better"),
            map(_score, report.lines("privacy")),
        ),
        "",
        "## Limits",
        "",
        "- Scores are of one fit and one draw unless the report says otherwise.",
        *_list(plain_text(limit) for limit in report.limits),
        "",
    ]
    return "\n".join(lines)


_HERE = (
    "The model itself is not part of this release.",
    "The model itself stands in `for-release` and may be given away with the rows.",
)
_OUTSIDE = (
    "- outside the house that holds the source: a fitted model knows more of its subjects than its"
    " rows do, and may itself be personal data (EDPB Opinion 28/2024)"
)


def _network(report: Report) -> Iterator[str]:
    """Yield what depends on what, where the model can show that."""
    if report.graph is None:
        return
    yield from ("## What depends on what", "", plain_text(report.graph.how), "")
    yield from table(
        ("From", "To", "Bits"),
        (
            (plain_text(edge.source), plain_text(edge.target), f"{edge.strength:.3f}")
            for edge in report.graph.edges
        ),
    )
    yield ""


def _model(dossier: Dossier) -> Iterator[tuple[str, str]]:
    fitted = dossier.content("fitted")
    yield "Method", plain_text(dossier.synthesizer or "unknown")
    for name, value in dossier.recipe.items():
        yield f"Setting {plain_text(name)}", plain_text(str(value))
    yield "Seed", str(fitted.get("seed", dossier.report.settings.get("seed", "not recorded")))
    for name in ("manikin", "python", "numpy"):
        if name in dossier.versions:
            yield f"Version of {name}", dossier.versions[name]
    yield "Platform", plain_text(str(dossier.content("started").get("platform", "not recorded")))
    if "model" in fitted:
        yield "Digest of the fitted model", f"`{fitted['model']}`"
    yield "Run", dossier.run


# ---------------------------------------------------------------------------- Markdown
def _blanks() -> Iterator[str]:
    yield "A filled-in copy belongs beside the release, not in it: editing this file breaks its"
    yield "seal, and `manikin verify` will say so."
    yield ""
    rows = ((f"**{blank.what}**", f"TO BE FILLED IN: {blank.why}") for blank in TO_FILL_IN)
    yield from table(("What", "By a person"), rows)


def _list(items: Iterable[str]) -> Iterator[str]:
    return (f"- {item}" for item in items)
