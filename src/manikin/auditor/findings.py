"""What an audit says, and the small-cell rule by which it may say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from manikin.privacy.cells import SMALLEST_CELL

__all__ = [
    "Audit",
    "ColumnProfile",
    "Finding",
    "listed",
    "share_said",
    "shown_share",
    "told",
    "worst_first",
]

Severity = Literal["stop", "warn", "note"]
_ORDER: dict[str, int] = {"stop": 0, "warn": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data, and what to do about it.

    `stop`: do not release anything before it is settled; `warn`: the result will suffer or
    mislead; `note`: good to know.
    """

    severity: Severity
    topic: str
    columns: tuple[str, ...]
    said: str
    todo: str


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds, as far as the small-cell rule lets it be said."""

    name: str
    kind: str
    roles: tuple[str, ...]
    reason: str
    missing: str  # in words: "12.3 %", "none", "fewer than 11 rows"
    missing_share: float | None  # None where it may not be said
    levels: int | None = None  # of a coded column: how many occur
    rare_levels: int | None = None  # of these, how many are held by fewer than 11 subjects
    span: str = ""  # of a date column: years between which most of it lies


@dataclass(frozen=True)
class Audit:
    """The whole audit; findings come worst first."""

    n_rows: int
    n_subjects: int
    columns: tuple[ColumnProfile, ...]
    findings: tuple[Finding, ...]

    def worst(self) -> Severity | None:
        """Return the worst severity found, or None when there is no finding."""
        return self.findings[0].severity if self.findings else None

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; sizes below 11 are given as text."""
        return {
            "n_rows": _size(self.n_rows),
            "n_subjects": _size(self.n_subjects),
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings by severity, in their present order within one."""
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))


def told(count: int, what: str = "subjects") -> str:
    """Say a count by the small-cell rule: "no rows", "fewer than 11 rows", "1,234 rows"."""
    if count == 0:
        return f"no {what}"
    return f"fewer than {SMALLEST_CELL} {what}" if count < SMALLEST_CELL else f"{count:,} {what}"


def shown_share(count: int, total: int) -> float | None:
    """Return count / total, or None where it or its complement would reveal a small cell."""
    if count in (0, total):
        return count / total if total else None
    return None if min(count, total - count) < SMALLEST_CELL else count / total


def share_said(count: int, total: int, what: str = "rows") -> str:
    """Say a share by the small-cell rule: "none", "all", "12.3 %", "fewer than 11 rows"."""
    if count == 0:
        return "none"
    if count == total:
        return "all"
    share = shown_share(count, total)
    if share is not None:
        return f"{share:.1%}".replace("%", " %")
    if count < SMALLEST_CELL:
        return f"fewer than {SMALLEST_CELL} {what}"
    return f"all but fewer than {SMALLEST_CELL} {what}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Write column names in a sentence: "'a', 'b' and 3 more"."""
    quoted = ", ".join(f"'{name}'" for name in names[:most])
    return quoted if len(names) <= most else f"{quoted} and {len(names) - most} more"


def _size(count: int) -> int | str:
    return count if count >= SMALLEST_CELL else f"fewer than {SMALLEST_CELL}"
