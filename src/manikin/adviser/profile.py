"""What a table is like, as far as it bears on which generator suits it.

Everything is taken from the audit, which holds to the small-cell rule.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from manikin.auditor import Audit
    from manikin.data.table import Table

__all__ = ["Profile", "profile_of"]

FEW_SUBJECTS, MANY_SUBJECTS = 500, 10_000
SUBJECTS_PER_COLUMN = 10  # below as many a table is wide
_CARRIED = ("imbalance", "leakage", "dependencies")  # audit topics that bear on the choice


@dataclass(frozen=True)
class Profile:
    """Sizes, kinds, gaps, rarity and outcome of a table."""

    rows: int
    subjects: int
    repeated: bool  # whether subjects have several rows
    kinds: dict[str, int]  # learned columns of each kind
    missing_columns: int  # columns with some cell missing
    missing_share: float  # mean over the columns whose share may be said
    rare_columns: int  # coded columns with a level of fewer than 11 subjects
    outcome: str  # "survival", "yes or no", "3 classes", "a number", "none given"
    size: str  # "small", "medium", "large"
    wide: bool
    remarks: tuple[str, ...]  # findings of the audit that bear on the choice
    unsettled: tuple[str, ...]  # what the audit wants settled before anything is released

    def lines(self) -> tuple[tuple[str, str], ...]:
        """Return the profile as names and texts to read."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.kinds.items()))
        missing = "none"
        if self.missing_columns:
            missing = f"{self.missing_columns} columns, {self.missing_share:.0%} of all cells"
        shape = f"{self.size}{', wide' if self.wide else ''}"
        several = ", several rows each" if self.repeated else ""
        return (
            ("size", f"{self.rows:,} rows of {self.subjects:,} subjects{several} ({shape})"),
            ("columns", kinds or "none to learn"),
            ("missing", missing.replace("%", " %")),
            ("rare levels", f"in {self.rare_columns} columns" if self.rare_columns else "none"),
            ("outcome", self.outcome),
        )

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


def profile_of(table: Table, audit: Audit) -> Profile:
    """Return the profile of an audited table."""
    learned = [column for column in audit.columns if column.name in table.columns]
    shares = [c.missing_share for c in learned if c.missing_share is not None]
    subjects = table.n_subjects
    small = "small" if subjects < FEW_SUBJECTS else "medium"
    return Profile(
        rows=table.n_rows,
        subjects=subjects,
        repeated=table.n_rows > subjects,
        kinds=dict(Counter(column.kind for column in table.schema.learned)),
        missing_columns=sum(column.missing != "none" for column in learned),
        missing_share=float(np.mean(shares)) if shares else 0.0,
        rare_columns=sum(bool(column.rare_levels) for column in learned),
        outcome=_outcome(table),
        size="large" if subjects >= MANY_SUBJECTS else small,
        wide=subjects < SUBJECTS_PER_COLUMN * len(table.columns),
        remarks=tuple(f.said for f in audit.findings if f.topic in _CARRIED),
        unsettled=tuple(f.said for f in audit.findings if f.severity == "stop"),
    )


def _outcome(table: Table) -> str:
    schema = table.schema
    if schema.holder("time") is not None and schema.holder("event") is not None:
        return "survival"
    target = schema.holder("target")
    if target is None or not target.is_learned:
        return "none given"
    values = table.numbers(target.name)
    n_values = np.unique(values[np.isfinite(values)]).size
    if n_values <= 1:
        return "one value only"
    if n_values == 2:
        return "yes or no"
    return f"{n_values} classes" if target.is_coded else "a number"
