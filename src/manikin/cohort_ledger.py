"""What all releases of a cohort cost together: found in a folder, told apart by their source.

Every release of the same patients is paid for again. A record names its source by a keyed digest,
so releases of the same rows by the same owner are known; where extracts of the same patients
differ, only a person knows, and everything can be added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manikin.errors import InputError, ManikinError
from manikin.privacy import accountant, ledger
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release

__all__ = ["Entry", "Total", "privacy_ledger"]

UNKNOWN = "unknown rows"
REPORT = "quality page"
_Found = tuple[str, "Entry"]  # by the digest of the source


@dataclass(frozen=True)
class Entry:
    """One model of a release or saved by itself, or one page that was bought beside it."""

    where: str  # path below the folder
    at: str  # UTC, ISO 8601; empty for a model
    method: str
    releases: tuple[Release, ...]
    epsilon: float  # by itself, at the ledger's δ
    why: str = ""  # what makes it infinite

    @property
    def private(self) -> bool:
        """Whether every release in it was paid for."""
        return math.isfinite(self.epsilon)


@dataclass(frozen=True)
class Total:
    """All that was released of the same rows."""

    source: str  # how the rows are named: the end of their keyed digest
    entries: tuple[Entry, ...]
    epsilon: float
    delta: float

    @property
    def unpaid(self) -> tuple[Entry, ...]:
        """The releases that make the sum infinite."""
        return tuple(entry for entry in self.entries if not entry.private)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite ε is None."""
        return {
            "source": self.source,
            "epsilon": _finite(self.epsilon),
            "delta": self.delta,
            "entries": [
                {"where": entry.where, "at": entry.at, "method": entry.method,
                 "epsilon": _finite(entry.epsilon), "why": entry.why,
                 "ledger": ledger.to_json(entry.releases)}
                for entry in self.entries
            ],
        }  # fmt: skip


def privacy_ledger(
    folder: str | Path, *, delta: float = 1e-6, all_together: bool = False
) -> tuple[Total, ...]:
    """Add up what the releases and models below a folder cost, cohort by cohort.

    A copy of a release counts once. `all_together` counts everything as one cohort, as it must be
    where extracts of the same patients differ. A release without protection, or whose record was
    altered, makes its sum infinite. Raises InputError where nothing is found.
    """
    root = Path(folder)
    Budget(1.0, delta)  # a δ that means something
    if not root.is_dir():
        raise InputError(
            f"'{root.name}' is no folder", "a folder of releases", "check the path"
        )  # fmt: skip
    found: dict[str, dict[str, Entry]] = {}
    for source, run, entry in (*_releases(root, delta), *_models(root, delta)):
        group = found.setdefault("all" if all_together else source, {})
        group.setdefault(run, entry)
    if not found:
        raise InputError(
            f"no release and no model below '{root.name}'",
            "folders that 'manikin synthesize' made, or .manikin files",
            "check the path",
        )
    return tuple(
        Total(source, tuple(own.values()), _together(own.values(), delta), delta)
        for source, own in found.items()
    )


def _together(entries: Iterable[Entry], delta: float) -> float:
    every = tuple(entries)
    if not all(entry.private for entry in every):
        return math.inf
    return accountant.spent((one for entry in every for one in entry.releases), delta).epsilon


def _releases(root: Path, delta: float) -> Iterator[tuple[str, str, Entry]]:
    """Yield source, run and release of every record that tells of a fit; an inner copy last."""
    from manikin.release.record import RECORD

    for path in sorted(root.rglob(RECORD), key=lambda p: (len(p.parts), p)):
        where = path.parent.relative_to(root).as_posix()
        yield from _fits(path, where, delta)


def _fits(path: Path, where: str, delta: float) -> Iterator[tuple[str, str, Entry]]:
    from manikin.release.record import read_record, verify_chain

    if verify_chain(path):
        broken = Entry(where, "", "unknown", (), math.inf, "its record was altered")
        yield UNKNOWN, where, broken
        return
    told = read_record(path)
    first = {entry.event: entry.content for entry in reversed(told)}
    run = str(first.get("started", {}).get("run", where))
    source = _source(first.get("source", {}))
    for place, entry in enumerate(e for e in told if e.event == "fitted"):
        method = str(entry.content.get("synthesizer", "unknown"))
        made = _entry(where, entry.at, method, entry.content.get("ledger"), delta)
        yield source, f"{run} {place}", made
    for entry in (e for e in told if e.event == "reported"):
        made = _entry(where, entry.at, REPORT, entry.content.get("ledger"), delta)
        yield source, f"{run} {REPORT}", made


def _models(root: Path, delta: float) -> Iterator[tuple[str, str, Entry]]:
    """Yield source, run and model of every model file; that of a release has the release's run."""
    from manikin.io.models import load

    for path in sorted(root.rglob("*.manikin")):
        where = path.relative_to(root).as_posix()
        try:
            found = load(path)
        except ManikinError:
            broken = Entry(where, "", "unknown", (), math.inf, "it cannot be read")
            yield UNKNOWN, where, broken
            continue
        given = ledger.to_json(found.model.ledger)
        run = found.extra.get("run")
        made = _entry(where, "", found.synthesizer, given, delta)
        yield _source(found.extra.get("source")), where if run is None else f"{run} 0", made


def _source(told: object) -> str:
    """Return a short name of the rows: of the key that names them and of their digest."""
    if not isinstance(told, Mapping) or "data" not in told:
        return UNKNOWN
    return str(told["data"]).rpartition(":")[2][-12:]


def _entry(where: str, at: str, method: str, given: object, delta: float) -> Entry:
    try:
        releases = ledger.from_json(given)
    except ManikinError:
        return Entry(where, at, method, (), math.inf, "its ledger cannot be read")
    if any(isinstance(one, NonPrivate) for one in releases) or not releases:
        return Entry(where, at, method, releases, math.inf, "no differential privacy")
    return Entry(where, at, method, releases, accountant.spent(releases, delta).epsilon)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
