"""The release as a research object: RO-Crate 1.1 with the profile Process Run Crate 0.5.

RO-Crate Metadata Specification 1.1 (Soiland-Reyes et al., "Packaging research artefacts with
RO-Crate", Data Science 5(2), 2022) and Workflow Run RO-Crate (Leo et al., PLoS ONE 19(9), 2024).
A `CreateAction` tells which program (instrument) made which files (result) from what (object), and
on whose behalf (agent). The source is described, not contained.
"""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote

import manikin
from manikin.release.croissant import FORMATS
from manikin.release.documents import FILES, MARK, UNLICENSED, Dossier
from manikin.release.record import file_digest

__all__ = ["CRATE", "crate"]

CRATE = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
APACHE = "https://spdx.org/licenses/Apache-2.0"
PROGRAM, RUN, MAKER, SOURCE = "#manikin", "#run", "#maker", "#source"
_CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    {
        "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
        "hasSyntheticData": "http://mlcommons.org/croissant/RAI/hasSyntheticData",
    },
]
_TYPES = {".jsonl": "application/jsonl", ".md": "text/markdown", ".json": "application/json"}


def crate(dossier: Dossier) -> dict[str, Any]:
    """Return the metadata file of the crate, as flattened JSON-LD.

    Call it when every other file is written: it holds their sizes and digests.
    """
    files = [name for name in dossier.present() if name != CRATE]
    described = [_file(dossier, name) for name in files]
    return {
        "@context": _CONTEXT,
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            _root(dossier, files),
            {
                "@id": PROFILE,
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            },
            *_licences(),
            _action(dossier, files),
            *_instruments(dossier),
            *([_agent(dossier.who)] if dossier.who is not None else []),
            _source(dossier),
            *described,
        ],
    }


def _root(dossier: Dossier, files: list[str]) -> dict[str, Any]:
    report = dossier.report
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": {"@id": PROFILE},
        "name": dossier.title if dossier.data else f"Evaluation of {dossier.title.lower()}",
        "description": f"{dossier.kept}{report.verdict.what} {report.verdict.headline}",
        "datePublished": report.created,
        "license": {"@id": "#licence"},
        "identifier": dossier.run,
        "keywords": f"synthetic data, {dossier.stamp}",
        "hasPart": [{"@id": _id(name)} for name in files],
        "mentions": [{"@id": RUN}],
    }
    if dossier.data is not None:
        root |= {"hasSyntheticData": True, "description": f"{MARK} {root['description']}",
                 "mainEntity": {"@id": _id(dossier.data)}}  # fmt: skip
    return root


def _licences() -> list[dict[str, Any]]:
    return [
        {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "No licence",
            "description": UNLICENSED,
        },
        {"@id": APACHE, "@type": "CreativeWork", "name": "Apache License 2.0"},
    ]


def _action(dossier: Dossier, files: list[str]) -> dict[str, Any]:
    made = f"with {dossier.synthesizer}" if dossier.synthesizer else "of another tool's rows"
    what = "Synthesis" if dossier.data else "Evaluation"
    action: dict[str, Any] = {
        "@id": RUN,
        "@type": "CreateAction",
        "name": f"{what} {made}",
        "description": "The steps, with times, seeds and digests, stand in record.jsonl.",
        "instrument": [{"@id": entity["@id"]} for entity in _instruments(dossier)],
        "object": [{"@id": SOURCE}],
        "result": [{"@id": _id(name)} for name in files],
        "endTime": dossier.report.created,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    if dossier.entries:
        action["startTime"] = dossier.entries[0].at
    if dossier.who is not None:
        action["agent"] = {"@id": MAKER}
    return action


def _instruments(dossier: Dossier) -> list[dict[str, Any]]:
    program = {
        "@id": PROGRAM,
        "@type": "SoftwareApplication",
        "name": "Manikin",
        "softwareVersion": manikin.__version__,
        "license": {"@id": APACHE},
        "softwareRequirements": ", ".join(
            f"{name} {version}" for name, version in dossier.versions.items() if name != "manikin"
        ),
    }
    return [{key: value for key, value in program.items() if value}]


def _agent(who: str) -> dict[str, Any]:
    # a person or an office: the record does not say which
    return {"@id": MAKER, "@type": "Organization", "name": who}


def _source(dossier: Dossier) -> dict[str, Any]:
    digest = dossier.content("source").get("data")
    return {
        "@id": SOURCE,
        "@type": "CreativeWork",
        "name": dossier.report.source,
        "description": "A table of real people. It is not part of this release.",
        **({"identifier": digest} if digest else {}),
    }


def _file(dossier: Dossier, name: str) -> dict[str, Any]:
    path = dossier.directory / name
    what = MARK if dossier.holds_rows(name) else FILES.get(name, ("A file of this run.", ""))[0]
    entity: dict[str, Any] = {
        "@id": _id(name),
        "@type": "File",
        "name": name,
        "description": what,
        "encodingFormat": _type(path.suffix.lower(), name),
    }
    if name != "record.jsonl":  # it gets its last line, the digests of all others, after this
        entity |= {"contentSize": str(path.stat().st_size), "sha256": file_digest(path)}
    if dossier.holds_rows(name):
        entity["hasSyntheticData"] = True
    return entity


def _type(suffix: str, name: str) -> str:
    found = FORMATS.get(suffix) or _TYPES.get(suffix) or mimetypes.guess_type(name)[0]
    return found or "application/octet-stream"


def _id(name: str) -> str:
    """Return the identifier of a file: its relative path as a URI."""
    return quote(name)
