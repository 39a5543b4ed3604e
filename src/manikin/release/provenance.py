"""Where everything in a release came from, in W3C PROV-JSON.

PROV-DM (W3C Recommendation, 2013) in its JSON serialization (W3C Member Submission, 2013).
Entities are the source, its parts, the fitted model and the files; activities are the events of
the record; agents are this program and whoever is named as the maker. Real data appear by the
keyed digests of the record, the model by name only: neither is in the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import manikin
from manikin.release.documents import MARK, Dossier
from manikin.release.record import Entry, file_digest

__all__ = ["provenance"]

# event → (what was done, entities used, entities made); a part of a split is "part/<name>"
_KNOWN: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "asked": ("Was asked for a release", (), ()),
    "source": ("Read and audited the source", (), ("source",)),
    "split": ("Split the source by subject", ("source",), ("part/*",)),
    "given": ("Took the parts that somebody else made", (), ("part/*",)),
    "fitted": ("Fitted the synthesizer", ("part/train",), ("model",)),
    "sampled": ("Drew synthetic subjects", ("model",), ("data",)),
    "judged": ("Judged the synthetic rows", ("part/*", "data"), ("report",)),
}
_HIDDEN = {"scores", "outputs"}  # these stand in the report


def provenance(dossier: Dossier) -> dict[str, Any]:
    """Return the PROV-JSON document of a run."""
    document: dict[str, Any] = {
        "prefix": {
            "mk": "https://w3id.org/manikin/terms#",
            "run": f"urn:uuid:{dossier.run}/" if dossier.entries else "urn:manikin:run/",
            "schema": "https://schema.org/",
        },
        "entity": _entities(dossier),
        "activity": {},
        "agent": _agents(dossier),
        "used": {},
        "wasGeneratedBy": {},
        "wasAssociatedWith": {},
        "wasAttributedTo": {},
        "wasDerivedFrom": {},
    }
    began = dossier.entries[0].at if dossier.entries else None
    for entry in dossier.entries[1:]:
        _add_activity(document, dossier, entry, str(began))
        began = entry.at
    _add_release(document, dossier, began)
    _add_derivations(document, dossier)
    if dossier.who is not None:
        document["actedOnBehalfOf"] = {
            "_:b1": {"prov:delegate": "run:manikin", "prov:responsible": "run:maker"}
        }
    return {key: value for key, value in document.items() if value}


def _entities(dossier: Dossier) -> dict[str, Any]:
    source = dossier.content("source")
    found: dict[str, Any] = {
        "run:source": {
            "prov:label": f"Real table {dossier.report.source}, not released",
            **_told({key: source.get(key) for key in ("data", "schema", "rows", "subjects")}),
        }
    }
    parts = {**dossier.content("given"), **dossier.content("split")}
    for name, part in parts.items():
        if isinstance(part, Mapping):
            released = name == "synthetic"
            label = "Synthetic rows, made by another tool" if released else f"Real {name} subjects"
            found[f"run:part/{name}"] = {
                "prov:label": f"{label}, not released", **_told(dict(part))
            }  # fmt: skip
    if dossier.synthesizer is not None:
        found["run:model"] = {
            "prov:label": f"Fitted model of {dossier.synthesizer}, not released",
            "mk:synthesizer": dossier.synthesizer,
        }
    for name in dossier.present():
        if name == "record.jsonl":  # it still grows: its last line will name all others
            found["run:file/record.jsonl"] = {"prov:label": "The record of this run"}
            continue
        label = MARK if dossier.holds_rows(name) else name
        found[f"run:file/{name}"] = {
            "prov:label": label,
            "mk:sha256": file_digest(dossier.directory / name),
        }
        if dossier.report.release_class:
            found[f"run:file/{name}"]["mk:release_class"] = dossier.report.release_class
        if dossier.holds_rows(name):
            found[f"run:file/{name}"] |= {"mk:synthetic": True, "mk:stamp": dossier.stamp}
    return found


def _agents(dossier: Dossier) -> dict[str, Any]:
    found = {
        "run:manikin": {
            "prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"},
            "prov:label": f"Manikin {manikin.__version__}",
            **{f"mk:version-{name}": version for name, version in dossier.versions.items()},
        }
    }
    if dossier.who is not None:
        found["run:maker"] = {"prov:label": dossier.who}
    return found


def _add_activity(document: dict[str, Any], dossier: Dossier, entry: Entry, began: str) -> None:
    """Add one event of the record as an activity, with what it used and made."""
    name = f"run:event/{entry.line}"
    what, used, made = _KNOWN.get(entry.event, (f"Event: {entry.event}", (), ()))
    scalars = {key: value for key, value in entry.content.items() if key not in _HIDDEN}
    document["activity"][name] = {
        "prov:startTime": began,
        "prov:endTime": entry.at,
        "prov:label": what,
        "mk:event": entry.event,
        **_told(scalars),
    }
    _associate(document, name)
    for entity in _resolved(document, dossier, used):
        _relate(document, "used", {"prov:activity": name, "prov:entity": entity})
    for entity in _resolved(document, dossier, made):
        generated = {"prov:entity": entity, "prov:activity": name, "prov:time": entry.at}
        if not any(
            relation["prov:entity"] == entity for relation in document["wasGeneratedBy"].values()
        ):
            _relate(document, "wasGeneratedBy", generated)


def _add_release(document: dict[str, Any], dossier: Dossier, began: str | None) -> None:
    """Add the writing of every file that no event has made."""
    name = "run:event/release"
    times = {"prov:startTime": began} if began else {}
    document["activity"][name] = {**times, "prov:label": "Wrote and sealed the release"}
    _associate(document, name)
    made = {relation["prov:entity"] for relation in document["wasGeneratedBy"].values()}
    for entity in document["entity"]:
        if entity.startswith("run:file/"):
            _relate(document, "wasAttributedTo",
                    {"prov:entity": entity, "prov:agent": "run:manikin"})  # fmt: skip
            if entity not in made:
                _relate(document, "wasGeneratedBy",
                        {"prov:entity": entity, "prov:activity": name})  # fmt: skip


def _add_derivations(document: dict[str, Any], dossier: Dossier) -> None:
    chain = ["run:source"] if dossier.content("split") else []
    chain += ["run:part/train", "run:model", f"run:file/{dossier.data}"]
    known = [entity for entity in chain if entity in document["entity"]]
    for before, after in pairwise(known):
        derived = {"prov:generatedEntity": after, "prov:usedEntity": before}
        _relate(document, "wasDerivedFrom", derived)


def _resolved(document: dict[str, Any], dossier: Dossier, names: tuple[str, ...]) -> list[str]:
    """Return the entities of this run that the names stand for."""
    found = []
    for name in names:
        if name == "part/*":
            found += [key for key in document["entity"] if key.startswith("run:part/")]
            continue
        standing = {"data": f"file/{dossier.data}", "report": "file/report.json"}.get(name, name)
        found += [f"run:{standing}"] if f"run:{standing}" in document["entity"] else []
    return found


def _associate(document: dict[str, Any], activity: str) -> None:
    _relate(document, "wasAssociatedWith",
            {"prov:activity": activity, "prov:agent": "run:manikin"})  # fmt: skip


def _relate(document: dict[str, Any], kind: str, relation: dict[str, Any]) -> None:
    document[kind][f"_:{kind}{len(document[kind]) + 1}"] = relation


def _told(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain facts of an event as attributes; nested ones stand in the record."""
    return {
        f"mk:{key}": value
        for key, value in content.items()
        if isinstance(value, str | int | float | bool)
    }
