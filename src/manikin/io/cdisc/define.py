"""What stands beside data sets that we write: `define.json`, in the spirit of Define-XML.

It lists data sets, their variables and the codes (CDISC Define-XML 2.1 names the same things), says
whether the data are synthetic, and lets the reader find every code and static fact again as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.errors import InputError, ManikinError
from manikin.io.bounds import MOST_SCHEMA
from manikin.io.cdisc.plan import Key, Plan

__all__ = ["FILE", "Definition", "definition_of", "read_definition"]

FILE = "define.json"
_STANDARD = "SDTM 2.0, SDTMIG 3.4"


@dataclass(frozen=True)
class Definition:
    """What our own data sets say of themselves."""

    synthetic: bool
    schema: EventSchema
    keys: Mapping[Key, Key]  # as the reader makes them → name, unit and domain of the code
    static: Mapping[str, str]  # variable → name of the static column
    names: Mapping[str, Mapping[str, list[str]]]
    records: Mapping[str, int]  # data set → rows
    layout: Mapping[str, Any]


def definition_of(
    schema: EventSchema,
    plan: Plan,
    *,
    synthetic: bool,
    study: str,
    used: NDArray[np.bool_],
    levels: Mapping[int, frozenset[str]],
    static: Mapping[str, str],
    layout: Mapping[str, Any],
    datasets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the document. Of synthetic data it names only what they hold.

    A schema that was inferred knows codes and levels of one patient; they stay out of a release.
    """
    codes, entries = list(schema.codes), list(plan.entries)
    if synthetic:
        kept = np.flatnonzero(used).tolist()
        codes = [
            replace(codes[i], levels=tuple(t for t in codes[i].levels if t in levels.get(i, ())))
            for i in kept
        ]
        entries = [entries[i] for i in kept]
    held = replace(schema, codes=tuple(codes))
    document: dict[str, Any] = {
        "standard": _STANDARD,
        "originator": "Manikin",
        "study": study,
        "synthetic": synthetic,
        "datasets": list(datasets),
        "static": {variable: column for column, variable in static.items()},
        "names": {d: dict(names) for d, names in plan.names.items()},
        "codes": [
            {"name": c.name, "unit": c.unit, "domain": c.domain, "read_as": list(e.key)}
            for c, e in zip(codes, entries, strict=True)
        ],
        "schema": held.to_json(),
        "layout": _shared(layout, {code.name for code in codes}),
    }
    return document


def _shared(layout: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Return the layout without what it says of codes that are not there."""
    domains = {}
    for domain, entry in layout.get("domains", {}).items():
        constants = {n: v for n, v in entry.get("constants", {}).items() if n in names}
        domains[domain] = {**entry, "constants": constants}
    numbers = {name.partition("/")[2] for name in names if name.startswith("VISIT/")}
    visits = {n: v for n, v in layout.get("visits", {}).items() if n in numbers}
    return {**layout, "domains": domains, "visits": visits}


def read_definition(folder: Path) -> Definition | None:
    """Return what our own data sets say; None where there is no such file, or not one of ours."""
    path = folder / FILE
    if not path.is_file() or path.stat().st_size > MOST_SCHEMA * 16:
        return None
    broken = InputError(
        f"'{FILE}' is no description that this program wrote",
        "the file as it was written, or none: then the data sets are read as anybody's",
        "take the file out of the folder",
    )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, Mapping) or document.get("originator") != "Manikin":
            return None
        keys = {
            _key(entry["read_as"]): (str(entry["name"]), str(entry["unit"]), str(entry["domain"]))
            for entry in reversed(document["codes"])
        }
        names = {
            str(d): {str(t): [str(q) for q in qualifiers] for t, qualifiers in tests.items()}
            for d, tests in document["names"].items()
        }
        return Definition(
            bool(document["synthetic"]),
            EventSchema.from_json(document["schema"]),
            keys,
            {str(k): str(v) for k, v in document["static"].items()},
            names,
            {str(e["name"]): int(e["records"]) for e in document["datasets"]},
            dict(document["layout"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken from error
    except ManikinError as error:
        raise broken from error


def _key(parts: Any) -> Key:
    name, unit, domain = parts
    return str(name), str(unit), str(domain)
