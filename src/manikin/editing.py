"""Edges taken out of a model that has a graph: asked for, and shown before and after.

What the target column shows by the source column, the demographic-parity gap, is measured among
the real rows and among subjects drawn from the model with and without the edges.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manikin import catalogue
from manikin.data.graph import open_path
from manikin.errors import ManikinError, NotSupported
from manikin.synthesizer import Edited, Model

if TYPE_CHECKING:
    from manikin.data.table import Table

__all__ = ["FIELD", "Edit", "Gap", "edited", "settings_without"]

DRAWN = 10_000  # subjects drawn to measure a gap
ABLE = "table/bayes_net"  # named to whoever asks it of another one
FIELD = "remove"  # setting of recipes whose model's edges can be taken out


@dataclass(frozen=True)
class Gap:
    """The demographic-parity gap of an edge's target by its source; None where it cannot be."""

    edge: str
    of: str  # "real", "before", "after"
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Edit:
    """Edges that were taken out, the gaps, and ways along which an edge's ends still meet."""

    edges: tuple[str, ...]
    gaps: tuple[Gap, ...]
    ways: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return what the record and the report's settings hold."""
        found = dataclasses.asdict(self)
        for gap in found["gaps"]:
            gap |= {key: round(gap[key], 4) for key in ("value", "low", "high")}
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """Return it in sentences."""
        told = [f"Taken out of the model: {', '.join(self.edges)}."]
        for edge in self.edges:
            said = [
                f"{gap.of} {gap.value:.2f} ({gap.low:.2f} to {gap.high:.2f})"
                for gap in self.gaps
                if gap.edge == edge
            ]
            if said:
                told.append(f"Demographic-parity gap along {edge}: {', '.join(said)}.")
        if self.ways:
            told.append(
                f"These columns still tell of each other: {'; '.join(self.ways)}. For parity take"
                " out an edge of each way too."
            )
        return tuple(told)


def settings_without(
    name: str, settings: Mapping[str, object] | None, edges: str | Sequence[str]
) -> dict[str, object]:
    """Return a recipe's settings with these edges to be taken out.

    Raises NotSupported for a synthesizer without a graph whose edges can be.
    """
    asked = (edges,) if isinstance(edges, str) else tuple(edges)
    found = dict(settings or {})
    if not asked:
        return found
    if not _has_edges(name):
        raise NotSupported(
            f"'{name}' has no graph from which an edge could be removed",
            f"a synthesizer that has one: {ABLE}",
            f"choose it: --synthesizer {ABLE}",
        )
    return {**found, FIELD: asked}


def _has_edges(name: str) -> bool:
    with contextlib.suppress(ManikinError):
        return any(setting.name == FIELD for setting in catalogue.settings(name))
    return False


def edited(model: Model[Any], real: Table | None, *, seed: int) -> Edit | None:
    """Measure what taking edges out did, None for a model from which none were.

    Without `real` rows a model's own stand for them in choosing groups.
    """
    from manikin.metrics.disparity import parity_gap

    if not isinstance(model, Edited) or not model.removed:
        return None
    whole = model.unedited()
    tables = {} if real is None else {"real": real}
    for name, one in (("before", whole), ("after", model)):
        if one is not None:
            tables[name] = one.sample(DRAWN, seed=seed)
    chosen = real if real is not None else tables.get("before", tables["after"])
    edges, gaps, ways = [], [], []
    left = [(edge.source, edge.target) for edge in model.graph().edges]
    for source, target in model.removed:
        edges.append(f"{source} -> {target}")
        for name, table in tables.items():
            if (measured := parity_gap(table, chosen, source, target, seed=seed)) is not None:
                gaps.append(Gap(edges[-1], name, measured[0], *measured[1]))
        if way := open_path(left, source, target):
            ways.append(way)
    return Edit(tuple(edges), tuple(gaps), tuple(ways))
