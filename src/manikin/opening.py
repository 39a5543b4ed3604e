"""Histories as they are opened: by their door, with roles, examined; and what suits them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manikin import catalogue
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.road import Roles
from manikin.synthesizer import Synthesizer, Watch, silent

if TYPE_CHECKING:
    from manikin.auditor import Audit
    from manikin.io.histories import History

__all__ = [
    "CODES",
    "affordable",
    "examined",
    "is_history",
    "open_history",
    "recipe_of",
    "schema_of",
    "suited",
]

CODES, PANEL = "events/visits", "events/panel"
PAYING = "table/mst"  # draws static facts under a budget, unless another recipe is named
DENSE, FEW_CODES = 0.4, 200  # a panel: so many of its channels are measured at a visit, of so few


def is_history(source: Any, modality: str | None = None) -> bool:
    """Whether a source is histories: said to be, in memory, or in one of their formats."""
    from manikin.io.histories import History, format_of

    if modality is not None:
        return modality == "events"
    if isinstance(source, Events | History):
        return True
    return isinstance(source, str | Path) and format_of(source) is not None


def open_history(source: Any, schema: Any, roles: Roles, *, watch: Watch = silent) -> History:
    """Read histories; roles are of the facts that are told once."""
    from manikin.data.schema import with_roles
    from manikin.io import histories as doors

    if schema is not None and not isinstance(schema, EventSchema):
        schema = doors.read_schema(Path(schema))
    if isinstance(source, doors.History):
        opened = source
    elif isinstance(source, Events):
        opened = doors.History(source, "meds")
    else:
        whose = {"subject": roles.subject, "time": roles.time}
        opened = doors.read(source, schema=schema, watch=watch, columns=whose)
    given = {
        "target": roles.target,
        "sensitive": roles.sensitive,
        "quasi_identifiers": roles.quasi_identifiers,
    }
    if not any(given.values()):
        return opened
    events = opened.events
    static = with_roles(events.schema.static, **given)  # type: ignore[arg-type]
    kept = Table(static, events.static.subjects, events.static.columns, events.static.states)
    whole = dataclasses.replace(events.schema, static=static)
    return dataclasses.replace(
        opened, events=dataclasses.replace(events, schema=whole, static=kept)
    )


def schema_of(source: Any, **roles: Any) -> EventSchema:
    """Return the schema that is inferred from histories."""
    return open_history(source, None, Roles(**roles)).events.schema


def recipe_of(
    events: Events, name: str | None, settings: Mapping[str, object] | None
) -> tuple[str, Synthesizer[Any]]:
    """Return the recipe that was asked for, by its name; without a name, the one that suits."""
    chosen = name or suited(events)
    if not chosen.startswith("events/"):
        known = ", ".join(n for n in catalogue.names() if n.startswith("events/"))
        raise NotSupported(
            f"'{chosen}' does not draw histories", f"one of: {known}", "name one of these"
        )
    return chosen, catalogue.build(chosen, settings)


def affordable(
    name: str | None, settings: Mapping[str, object] | None, budget: object | None
) -> Mapping[str, object] | None:
    """Return settings under which static facts, too, are drawn by a recipe that takes a budget."""
    if budget is None or name is None or "table" in (settings or {}):
        return settings
    known = name in catalogue.names() and catalogue.takes_budget(name)
    if not known or "table" not in {setting.name for setting in catalogue.settings(name)}:
        return settings
    return {"table": PAYING, **(settings or {})}


def suited(events: Events) -> str:
    """Return the structured engine that suits: of panels where few channels recur at each visit."""
    from manikin.data.visits import visits_of

    visits = visits_of(events)
    used = np.unique(events.code).size
    if not visits.n or not 0 < used <= FEW_CODES:
        return CODES
    timed = visits.of >= 0
    cells = np.unique(visits.of[timed] * len(events.schema) + events.code[timed]).size
    return PANEL if cells / (visits.n * used) >= DENSE else CODES


def examined(opened: History) -> Audit:
    """Return the audit of what was opened."""
    from manikin.auditor.histories import audit_history
    from manikin.io.layout import Layout
    from manikin.io.tables import Source

    static = opened.events.static
    seen = Source(static, Layout(format="frame"), static.to_polars())
    return audit_history(opened.events, seen, opened.notes)
