"""Tables from elsewhere: read → audit → judge → release, and what to know of them before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manikin.road import Roles, name_of, schema_of
from manikin.run import BARRED, Deadline, Findings, Outcome, Run

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.metrics.score import Metric, Trial

__all__ = ["evaluated"]


def evaluated(
    run: Run,
    parts: Mapping[str, Any],
    schema: TableSchema | str | Path | None,
    roles: Roles,
    chosen: Mapping[str, Metric[Any]],
    deadline: Deadline,
    profile: str,
) -> Outcome:
    """Read → audit → judge → release, of tables from elsewhere."""
    from manikin.io.together import open_together
    from manikin.metrics.score import Trial

    opened = open_together(parts, schema=schema_of(schema), **vars(roles))
    found = run.audit(opened["train"], accept=BARRED)
    tables = {name: source.table for name, source in opened.items()}
    run.given(tables)
    trial = Trial(**tables)
    judged = run.judge(trial, chosen, deadline, profile)
    settings = {"source": name_of(parts["train"]), "synthetic": name_of(parts["synthetic"]),
                "seed": run.seed, "notes": _first_of_all(trial)}  # fmt: skip
    return run.release(Findings(trial, judged, found, settings, ()))


def _first_of_all(trial: Trial[Table]) -> tuple[str, ...]:
    """Return what to know of tables from elsewhere before any number is read."""
    from manikin.io.together import strange
    from manikin.overlap import overlapping

    others = {"holdout": trial.holdout}
    if trial.reference is not None:
        others["reference"] = trial.reference
    return (
        *overlapping(trial.train, others),
        *strange(trial.synthetic, (trial.train, trial.holdout)),
    )
