"""What is on the shelves, read from the tree without importing it: cards and their first lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import manikin
from manikin import catalogue
from manikin.adviser.measured import measured
from manikin.errors import NotSupported

__all__ = ["ShelfCard", "card", "shelves"]

_ROOT = Path(manikin.__file__).parent


@dataclass(frozen=True)
class ShelfCard:
    """A synthesizer, metric or format, as it introduces itself."""

    name: str
    kind: Literal["synthesizer", "metric", "format", "policy"]
    summary: str
    text: str = ""
    facts: dict[str, str] = field(default_factory=dict)


HISTORIES = {  # format → what it looks like
    "omop": "histories: OMOP CDM 5.4 in DuckDB, SQLite, PostgreSQL, or a folder of CSV or Parquet",
    "meds": "histories: a MEDS 0.4 folder",
    "fhir": "histories: FHIR R4, NDJSON folders or bundles",
    "cdisc": "histories: SDTM (ADaM to read): XPT, Dataset-JSON, Parquet",
    "synthea": "histories: Synthea's CSV folder, to read",
    "long": "histories: rows of subject, time and code, .csv or .parquet",
}


def shelves() -> dict[str, list[ShelfCard]]:
    """Return every card by shelf."""
    return {
        "synthesizers": [_synthesizer(name) for name in catalogue.names()],
        "metrics": [_metric(name) for name in catalogue.metric_names()],
        "policies": _policies(),
        "formats": _formats(),
    }


def card(name: str) -> ShelfCard:
    """Return the card of a synthesizer, metric or policy. Raises NotSupported if unknown."""
    if name in catalogue.metric_names():
        return _metric(name)
    if name in catalogue.names():
        return _synthesizer(name)
    policies = {policy.name: policy for policy in _policies()}
    if name in policies:
        return policies[name]
    known = [*catalogue.names(), *catalogue.metric_names(), *policies]
    raise NotSupported(
        f"there is no synthesizer, metric or policy '{name}'",
        f"there are: {', '.join(known)}",
        "see: manikin list",
    )


def _synthesizer(name: str) -> ShelfCard:
    entry = catalogue.entry(name)
    path = _ROOT / "synthesizers" / f"{name}.py"
    facts = {"class": entry.class_name}
    if path.is_file():
        takes = "sample_where" in "".join(_text_with_parts(path))
        facts["takes conditions"] = "yes" if takes else "no"
        taken = "possible" if catalogue.takes_budget(name) else "no"
        facts["privacy budget"] = "needed" if catalogue.needs_budget(name) else taken
    figures = measured(name)
    if figures is not None:
        facts |= {"detection": f"{figures.detection:.2f}", "measured": figures.text}
    return ShelfCard(name, "synthesizer", entry.summary, entry.docstring, facts)


def _text_with_parts(path: Path) -> Iterator[str]:
    """Yield the text of a synthesizer's file, and of the parts beside it that it imports."""
    text = path.read_text(encoding="utf-8")
    yield text
    parts = re.findall(r"manikin\.synthesizers\.(\w+)\.(_\w+)", text)
    for folder, part in sorted(set(parts)):
        yield (path.parents[1] / folder / f"{part}.py").read_text(encoding="utf-8")


def _metric(name: str) -> ShelfCard:
    tree = ast.parse((_ROOT / "metrics" / f"{name}.py").read_text(encoding="utf-8"))
    text = ast.get_docstring(tree) or ""
    facts = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CARD":
            for keyword in getattr(node.value, "keywords", []):
                if keyword.arg and isinstance(keyword.value, ast.Constant):
                    facts[keyword.arg] = str(keyword.value.value)
    return ShelfCard(name, "metric", text.partition("\n")[0], text, facts)


def _policies() -> list[ShelfCard]:
    from manikin.release.policy import shipped_policies

    return [
        ShelfCard(
            policy.name,
            "policy",
            f"{policy.title}, {len(policy.gates)} gates",
            policy.meaning,
            {
                gate.name: f"{gate.bound} {gate.threshold:g} ({gate.source})"
                for gate in policy.gates
            },
        )
        for policy in shipped_policies()
    ]


def _formats() -> list[ShelfCard]:
    from manikin.io.tables import SUFFIXES

    by_format: dict[str, list[str]] = {}
    for suffix, format_ in SUFFIXES.items():
        by_format.setdefault(format_, []).append(suffix)
    found = [ShelfCard(name, "format", " ".join(by_format[name])) for name in sorted(by_format)]
    return [*found, *(ShelfCard(name, "format", what) for name, what in HISTORIES.items())]
