"""What a transform did: shares before, among all real rows, and after, as released.

A table whose shares were changed on purpose shows no prevalence, and says so: it is "conditioned",
"rebalanced", "enriched" or, where edges were taken out of the model, "mitigated" rather than
"representative".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.privacy.cells import SMALLEST_CELL, subjects_per_cell

__all__ = ["Mitigation", "Share", "mitigation"]

MOST = 12  # levels of a column that are listed


@dataclass(frozen=True)
class Share:
    """One level's share of rows before and after."""

    column: str
    level: str
    before: float
    after: float


@dataclass(frozen=True)
class Mitigation:
    """What was asked for, and what it changed."""

    kind: str
    where: str
    balance: str
    shares: tuple[Share, ...]
    enrich: str = ""
    left_out: int = 0  # levels that a balance does not draw
    removed: tuple[str, ...] = ()  # edges taken out of the model
    gaps: tuple[Mapping[str, Any], ...] = ()  # edge, of (real, before, after), value, low, high
    ways: tuple[str, ...] = ()  # along which their ends still tell of each other
    fit_per: str = ""  # column whose groups have a model each
    per_group: tuple[Mapping[str, Any], ...] = ()  # group, measure, before and after with interval


def mitigation(
    settings: Mapping[str, Any], real: Table | None, synthetic: Table
) -> Mitigation | None:
    """Return before and after of a table that is not representative, or of a model per group.

    `settings` are the report's: kind, where, balance, enrich, levels_left_out. `real` are all real
    rows, before any were selected to compare with; without them only what was asked for is told.
    """
    kind, where, balance, enrich = (
        str(settings.get(key) or "") for key in ("kind", "where", "balance", "enrich")
    )
    fit_per = str(settings.get("fit_per") or "")
    changed = kind not in ("", "representative")
    if not changed and not fit_per:
        return None
    shares: list[Share] = []
    if real is not None and changed:
        for column in _told(real, balance or enrich):
            shares += _shares(column, real, synthetic)
    left, edited = settings.get("levels_left_out"), settings.get("edited") or {}
    return Mitigation(
        kind,
        where,
        balance,
        tuple(shares),
        enrich,
        left if isinstance(left, int) else 0,
        tuple(edited.get("edges", ())),
        tuple(edited.get("gaps", ())),
        tuple(edited.get("ways", ())),
        fit_per,
        tuple(settings.get("per_group") or ()),
    )


def _told(real: Table, changed: str) -> list[Column]:
    """Return the changed column first, then those that tell groups of patients apart."""
    coded = [c for c in real.schema.learned if c.is_coded and len(c.categories) >= 2]
    names = [c.name for c in coded if changed == c.name or changed.startswith(f"{c.name}=")]
    first = [c for c in coded if names and c.name == max(names, key=len)]
    others = [c for c in coded if c not in first and {"sensitive", "target"} & set(c.roles)]
    return first + others[:6]


def _shares(column: Column, real: Table, synthetic: Table) -> list[Share]:
    """Return the commonest levels' shares; what few real subjects have is pooled or left out."""
    codes, drawn = real.columns[column.name], synthetic.columns[column.name]
    n_levels = len(column.categories)
    counts = subjects_per_cell(codes, real.subjects, n_levels)
    rows = np.bincount(codes[codes >= 0], minlength=n_levels)[:n_levels] / max(1, codes.size)
    after = np.bincount(drawn[drawn >= 0], minlength=n_levels)[:n_levels] / max(1, drawn.size)
    named = [int(k) for k in np.argsort(-rows, kind="stable")[:MOST] if counts[k] >= SMALLEST_CELL]
    return [
        Share(column.name, column.categories[k], round(float(rows[k]), 4),
              round(float(after[k]), 4))
        for k in named
    ]  # fmt: skip
