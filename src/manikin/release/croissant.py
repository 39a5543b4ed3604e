"""Croissant 1.1 metadata of the synthetic rows, with the vocabulary for responsible AI.

Croissant Format Specification 1.1 (MLCommons, 2026) and Croissant RAI 1.0 (2024), whose
`rai:hasSyntheticData` is the machine-readable mark that the data are synthetic; where they came
from is told in the terms of W3C PROV that Croissant 1.1 takes up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import manikin
from manikin.data.schema import Column, TableSchema
from manikin.release.documents import (
    FORBIDDEN,
    INTENDED,
    MARK,
    UNLICENSED,
    Dossier,
    describe_ledger,
    told,
)
from manikin.release.record import file_digest
from manikin.release.report import Report

__all__ = ["FORMATS", "croissant"]

FORMATS = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".parquet": "application/x-parquet",
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_QUOTED = ("fidelity/detection*", "fairness/*", "privacy/copies*", "privacy/membership*")


def croissant(
    schema: TableSchema,
    data: Path,
    report: Report,
    tables: Mapping[str, TableSchema] | None = None,
) -> dict[str, Any]:
    """Return the Croissant metadata of the synthetic file `data`, as JSON-LD.

    Of linked tables, `tables` are the schemas of all files beside one another by name.

    A licence is the data owner's to give: the metadata say that none is granted.
    """
    # files of histories may stand in folders of the release
    folder = data.parents[len(Path(next(iter(tables))).parts) - 1] if tables else data.parent
    name = data.relative_to(folder).as_posix()
    dossier = Dossier.of(folder, report, schema, name, tables)
    files = tables or {name: schema}
    source = dossier.synthesizer or "another tool"
    found: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": dossier.title,
        "description": f"{dossier.kept}{MARK} {report.verdict.what} {report.verdict.headline}",
        "license": UNLICENSED,
        "url": "report.html",
        "version": "1.0.0",
        "datePublished": report.created,
        "dateCreated": report.created,
        "creator": {"@type": "sc:Organization", "name": f"Manikin {manikin.__version__}"},
        "citeAs": f"{dossier.title}: synthetic data made by Manikin {manikin.__version__} "
        f"with {source}",
        "keywords": ["synthetic data", dossier.stamp],
        "isLiveDataset": False,
        "inLanguage": "en",
        **_responsible(dossier),
        **_origin(dossier),
        "distribution": [_file(folder, name, _id("data", name, tables)) for name in files],
        "recordSet": [
            _records(_id("data", name, tables), _id("rows", name, tables), columns)
            for name, columns in files.items()
            if columns.columns and name.lower().endswith((".csv", ".tsv", ".parquet"))
        ],
    }
    return {key: value for key, value in found.items() if value != []}


def _responsible(dossier: Dossier) -> dict[str, Any]:
    """Return the properties of the vocabulary for responsible AI that apply to drawn rows."""
    report, schema = dossier.report, dossier.schema
    asked = {question.id: question for question in report.verdict.questions}
    biases = [dossier.stamped]
    biases += [f"{asked[key].question} {asked[key].answer}" for key in ("subgroups",)
               if key in asked]  # fmt: skip
    quoted = [f"{line.label}: {told(line)}." for line in dossier.scores(_QUOTED)]
    return {
        "rai:hasSyntheticData": True,
        "rai:dataLimitations": [*report.limits, *(f"Not to be used {use}." for use in FORBIDDEN)],
        "rai:dataCollection": "No row was collected: all were drawn from a fitted model.",
        "rai:dataCollectionType": ["Synthetic"],
        "rai:dataCollectionRawData": "The source holds records of real people. It is not part of "
        "this release; the record names it only by a keyed digest.",
        "rai:dataCollectionMissingData": "Missing cells are drawn by the model as values are, with "
        "the source's missing marks.",
        "rai:dataImputationProtocol": "Nothing was imputed.",
        "rai:dataManipulationProtocol": dossier.stamped,
        "rai:dataPreprocessingProtocol": [
            "Free text and identifiers of the source are not learned; identifiers are made anew.",
            "Subjects were split before fitting; the held-out ones were never shown to the model.",
            *(f"Privacy: {what}." for what in describe_ledger(report.ledger)),
        ],
        "rai:machineAnnotationTools": [f"{dossier.synthesizer}" if dossier.synthesizer else
                                       "not recorded", f"manikin {manikin.__version__}"],
        "rai:personalSensitiveInformation": [column.name for column in schema.holders("sensitive")],
        "rai:dataUseCases": [f"{use[:1].upper()}{use[1:]}." for use in INTENDED],
        "rai:dataBiases": [*biases, *quoted],
        "rai:dataSocialImpact": "Decisions about real people must not rest on these rows; "
        "findings are to be confirmed on real data.",
        "rai:dataReleaseMaintenancePlan": "To be filled in by a person: contact, date of review, "
        "how a retraction is announced.",
    }  # fmt: skip


def _origin(dossier: Dossier) -> dict[str, Any]:
    """Return where the rows came from in the PROV terms of Croissant 1.1."""
    made = dossier.synthesizer or "another tool"
    return {
        "prov:wasDerivedFrom": [
            {"@type": "prov:Entity", "@id": "urn:manikin:source",
             "prov:label": "A table of real people, not released; see record.jsonl"}
        ],
        "prov:wasGeneratedBy": [
            {
                "@type": "prov:Activity",
                "@id": f"urn:manikin:run:{dossier.run.replace(' ', '-')}",
                "prov:label": f"Drawn by {made}",
                "prov:wasAssociatedWith": [
                    {"@type": "prov:SoftwareAgent", "@id": "urn:manikin:software",
                     "prov:label": f"Manikin {manikin.__version__}"}
                ],
            }
        ],
    }  # fmt: skip


def _id(what: str, name: str, tables: Mapping[str, TableSchema] | None) -> str:
    """Return the identifier of a file, or of its records, among those of linked tables."""
    return f"{what}/{quote(name)}" if tables else what


def _records(data: str, rows: str, schema: TableSchema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": rows,
        "name": rows,
        "description": "One record a row.",
        "field": [_field(i, column, data, rows) for i, column in enumerate(schema.columns)],
    }


def _file(folder: Path, name: str, called: str) -> dict[str, Any]:
    data = folder / name
    return {
        "@type": "cr:FileObject",
        "@id": called,
        "name": name,
        "description": MARK,
        "contentUrl": quote(name),
        "contentSize": f"{data.stat().st_size} B",
        "encodingFormat": FORMATS.get(data.suffix.lower(), "application/octet-stream"),
        "sha256": file_digest(data),
    }


def _field(number: int, column: Column, data: str, rows: str) -> dict[str, Any]:
    parts = [column.kind.capitalize()]
    parts += [f"in {column.unit}"] if column.unit and column.kind != "identifier" else []
    parts += [f"({', '.join(column.roles).replace('_', '-')})"] if column.roles else []
    return {
        "@type": "cr:Field",
        "@id": f"{rows}/column-{number + 1}",
        "name": column.name,
        "description": " ".join(parts) + ".",
        "dataType": _data_type(column),
        "source": {"fileObject": {"@id": data}, "extract": {"column": column.name}},
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
    "prov": "http://www.w3.org/ns/prov#",
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
