"""Cards of a release: Croissant metadata for machines, a README for people.

Croissant 1.1 (MLCommons, 2026) with its vocabulary for responsible AI, which has the mark that
the data are synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import manikin
from manikin.data.schema import Column, TableSchema
from manikin.release.record import file_digest
from manikin.release.report import Report
from manikin.release.verdict import ASKED

__all__ = ["croissant", "readme", "write_cards"]

FORMATS = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".parquet": "application/x-parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
UNLICENSED = "No licence is granted: ask the owner of the source data before any use"
FORBIDDEN = (
    "to make decisions about a real person, in care or elsewhere",
    "to try to find out who the source's subjects are, or anything about one of them",
    "as the only evidence for a finding: confirm it on real data",
    "to estimate how common something is, where the subgroups were balanced or conditions set",
)
FILES = {
    "report.html": "the evidence: open it in any browser, it needs no network",
    "report.json": "the same numbers for programs",
    "record.jsonl": "the history of the run, a line an event, each chained to the one before",
    "croissant.json": "metadata in Croissant 1.1",
    "MANIFEST.sha256": "the SHA-256 of every file",
    "README.md": "this page",
}


# ---------------------------------------------------------------------------- for machines
def croissant(
    schema: TableSchema,
    data: Path,
    report: Report,
) -> dict[str, Any]:
    """Return the Croissant metadata of the synthetic file `data`, as JSON-LD.

    A licence is the data owner's to give: the metadata say that none is granted.
    """
    what = report.verdict.what
    source = str(report.settings.get("synthesizer") or "another tool")
    title = f"Synthetic {Path(report.source).stem}"
    found: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": title,
        "description": f"{what} {report.verdict.headline}",
        "license": UNLICENSED,
        "url": "report.html",
        "version": "1.0.0",
        "datePublished": report.created,
        "dateCreated": report.created,
        "creator": {"@type": "sc:Organization", "name": f"Manikin {manikin.__version__}"},
        "citeAs": f"{title}: synthetic data made by Manikin {manikin.__version__} with {source}",
        "keywords": ["synthetic data"],
        "isLiveDataset": False,
        "inLanguage": "en",
        **_responsible(schema, report),
        "distribution": [_file(data)],
    }
    if data.suffix.lower() in (".csv", ".tsv", ".parquet"):
        found["recordSet"] = [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "description": "One record a row.",
                "field": [_field(i, column) for i, column in enumerate(schema.columns)],
            }
        ]
    return {key: value for key, value in found.items() if value != []}


def _responsible(schema: TableSchema, report: Report) -> dict[str, Any]:
    """Return the properties of the vocabulary for responsible AI."""
    return {
        "rai:hasSyntheticData": True,
        "rai:dataLimitations": list(report.limits),
        "rai:dataCollection": "No row was collected: all were drawn from a fitted model.",
        "rai:dataCollectionType": ["Synthetic"],
        "rai:personalSensitiveInformation": [column.name for column in schema.holders("sensitive")],
        "rai:dataUseCases": ["Developing and testing analyses that are then run on real data"],
        "rai:dataBiases": [
            f"{question.question} {question.answer}"
            for question in report.verdict.questions
            if question.id == "subgroups"
        ],
    }


def _file(data: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "data",
        "name": data.name,
        "description": "The synthetic rows.",
        "contentUrl": data.name,
        "contentSize": f"{data.stat().st_size} B",
        "encodingFormat": FORMATS.get(data.suffix.lower(), "text/csv"),
        "sha256": file_digest(data),
    }


def _field(number: int, column: Column) -> dict[str, Any]:
    parts = [column.kind.capitalize()]
    parts += [f"in {column.unit}"] if column.unit else []
    parts += [f"({', '.join(column.roles).replace('_', '-')})"] if column.roles else []
    return {
        "@type": "cr:Field",
        "@id": f"rows/column-{number + 1}",
        "name": column.name,
        "description": " ".join(parts) + ".",
        "dataType": _data_type(column),
        "source": {"fileObject": {"@id": "data"}, "extract": {"column": column.name}},
    }


def _data_type(column: Column) -> str:
    """Return the type that every cell of the column can be read as."""
    if column.special:
        return "sc:Text"
    if column.kind == "continuous":
        return "sc:Float"
    if column.kind == "integer":
        # with gaps, readers turn whole numbers into floats
        return "sc:Integer" if not column.decimals and not column.missing else "sc:Float"
    if column.kind == "boolean":
        spelled = {text.lower() for text in column.categories}
        return "sc:Boolean" if spelled <= {"true", "false"} else "sc:Text"
    if column.kind == "datetime":
        iso = column.date_format is None or column.date_format.startswith("%Y-%m-%d")
        return "sc:Date" if iso else "sc:Text"
    return "sc:Text"


_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


# ---------------------------------------------------------------------------- for people
def readme(report: Report, data: str) -> str:
    """Return the README, in Markdown, of a release directory whose synthetic rows are in `data`."""
    listed = {data: "the synthetic rows", **FILES}
    lines = [
        f"# Synthetic data from {_plain_text(report.source)}",
        "",
        _plain_text(report.verdict.what),
        "",
        f"**{_plain_text(report.verdict.headline)}**",
        "",
        "| Question | Answer |",
        "| --- | --- |",
        *[f"| {ASKED[q.id]} | {q.word} |" for q in report.verdict.questions],
        "",
        "## Files",
        "",
        *[f"- `{name}`: {meaning}" for name, meaning in listed.items()],
        "",
        "## Has anything been altered?",
        "",
        "```",
        "manikin verify .",
        "sha256sum -c MANIFEST.sha256",
        "```",
        "",
        "The second needs nothing but a common shell. If `MANIFEST.sha256.sig` is here, the first",
        "checks the signature too; compare the fingerprint it prints with one you got elsewhere.",
        "",
        "## Not to be used",
        "",
        *[f"- {use}" for use in FORBIDDEN],
        "",
        "## Limits",
        "",
        *[f"- {limit}" for limit in report.limits],
        "",
    ]
    return "\n".join(lines)


def write_cards(directory: Path, data: str, schema: TableSchema, report: Report) -> None:
    """Write `croissant.json` and `README.md` for the file `data` of a release directory."""
    metadata = json.dumps(croissant(schema, directory / data, report), indent=2, ensure_ascii=False)
    (directory / "croissant.json").write_text(metadata + "\n", encoding="utf-8")
    (directory / "README.md").write_text(readme(report, data), encoding="utf-8")


def _plain_text(text: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
