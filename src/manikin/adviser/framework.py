"""The field's decision framework: what each family of generators is good for, with sources.

Kept as data in `families.yaml`, so that it can be read, corrected and cited. It says what is to be
expected; what is measured on the table at hand has the last word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manikin import catalogue

__all__ = ["AXES", "Family", "families", "sources_of"]

FILE = Path(__file__).parent / "families.yaml"
AXES = ("data", "realism", "interpretability", "stability", "privacy", "compute")
UNKNOWN = "not graded"


@dataclass(frozen=True)
class Family:
    """What is to be expected of one family of generators, in words."""

    name: str
    kind: str
    data: str  # which tables it suits
    realism: str
    interpretability: str
    stability: str  # how much two fits differ, how often training goes wrong
    privacy: str
    compute: str
    readable: int = 0  # 3: a person can read the whole model; 2: parts of it; 1: hardly; 0: no
    cost: int = 2  # 1: seconds; 2: up to a minute; 3: minutes
    sources: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


def families(names: Sequence[str]) -> tuple[Family, ...]:
    """Return the families of these synthesizers; one that the file lacks shows its own card."""
    graded = _read()["families"]
    return tuple(_family(name, graded.get(name)) for name in names)


def sources_of(chosen: Sequence[Family]) -> dict[str, str]:
    """Return the works that the entries of these families rest on, by key."""
    known = _read()["sources"]
    return {key: known[key] for family in chosen for key in family.sources}


def _family(name: str, entry: dict[str, Any] | None) -> Family:
    if entry is not None:
        return Family(name, **{**entry, "sources": tuple(entry["sources"])})
    summary = catalogue.entry(name).summary
    told = dict.fromkeys(AXES, UNKNOWN)
    return Family(name, **{**told, "kind": summary})  # type: ignore[arg-type]


def _read() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found
