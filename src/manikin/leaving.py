"""What may leave the house under a privacy budget: a folder of its own inside the release.

Data, model, statement, and a record without exact counts or scores, sealed by themselves. All else
in the release was computed from real rows without noise and stays. Nothing in the folder is derived
from what stays, not even by a digest that is not keyed: whoever knows all rows but one could try
both ways and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from manikin.budgeted import UnderBudget, rows_that_count
from manikin.data.codes import EventSchema
from manikin.errors import RESTRICTED

if TYPE_CHECKING:
    from manikin.data.dataset import Schema
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.metrics.paid import Paid
    from manikin.release.statement import Statement
    from manikin.road import Asked, Made
    from manikin.run import Run
    from manikin.synthesizer import Synthesizer

__all__ = ["FOLDER", "MODEL", "leave"]

FOLDER = "for-release"
MODEL = "model.manikin"
_TOLD: dict[str, tuple[str, ...] | None] = {  # event → its facts that may leave; None for all
    "started": None,
    "asked": None,
    "source": ("schema", "declared", "data", "columns", "key"),
    "split": ("seed", "by"),
    "fitted": None,
    "sampled": None,
    "reported": None,
}
ENOUGH = 10_000  # rows that a page of quality looks at, where the released ones were chosen


def leave(
    run: Run,
    made: Made,
    held: Table,
    by: tuple[str, Synthesizer[Any]],
    asked: Asked,
    written: Mapping[str, Any],
    data: str,
) -> Statement:
    """Write the folder beside the data that stand there already, and seal it.

    `held` are the held-out rows, of which a page of quality tells what was paid for; `written` is
    what the model file says of the form of the data.
    """
    from manikin.io import models
    from manikin.release.documents import STAMPS
    from manikin.release.leaflets import readme, render_statement
    from manikin.release.record import RECORD, Record, file_digest, read_record, schema_digest
    from manikin.release.seal import seal
    from manikin.release.statement import SCHEMA, STATEMENT, make_statement, who_of

    name, recipe = by
    if not isinstance(recipe, UnderBudget):
        raise TypeError("a release under a budget, of a recipe without one")
    folder = run.aside / FOLDER
    schema = made.model.schema
    static = cast("TableSchema", schema.static if isinstance(schema, EventSchema) else schema)
    bought = _bought(run, made, held, asked)
    told = {entry.event: entry.content for entry in read_record(run.record.path)}
    said = make_statement(
        made.model.ledger, recipe.budget, method=name, schema=schema_digest(schema, run.key),
        most_rows=rows_that_count(made.model), n=made.n, n_given=asked.n is not None,
        by_row=static is schema and not static.holders("subject"),
        notes=tuple(getattr(made.model, "notes", ())),
        report=None if bought is None else (bought.budget, bought.releases), who=who_of(static),
        held="rows" if static is schema else "visits",
    )  # fmt: skip
    source = {key: told["source"][key] for key in ("data", "key")}
    models.save(
        made.model, folder / MODEL, synthesizer=name, recipe=recipe,
        extra={**written, "source": source, "run": told["started"]["run"]},
    )  # fmt: skip
    _write_schema(schema, folder / SCHEMA)
    if bought is not None:
        _write_quality(folder, bought, made, said, Path(data).name)
    (folder / STATEMENT).write_text(render_statement(said), encoding="utf-8")
    told_again = STAMPS.get(made.kind, ""), _again(asked, made, run.seed, data)
    (folder / "README.md").write_text(readme(said, data, MODEL, *told_again), encoding="utf-8")
    record = Record(folder / RECORD)
    for event, facts in _TOLD.items():
        if (content := told.get(event)) is None:
            continue
        record.add(event, {k: v for k, v in content.items() if facts is None or k in facts})
    record.close({path.relative_to(folder).as_posix(): file_digest(path)
                  for path in sorted(folder.rglob("*"))
                  if path.is_file() and path != record.path})  # fmt: skip
    seal(folder, signing_key=run.sign)
    kept = {"release_class": RESTRICTED}  # of the record that this stands in
    run.record.add("left", {"folder": FOLDER, "statement": asdict(said), **kept})
    return said


def _write_schema(schema: Schema, path: Path) -> None:
    from manikin.io.histories import schema_to_yaml
    from manikin.io.schema_file import write_schema

    if isinstance(schema, EventSchema):
        path.write_text(schema_to_yaml(schema), encoding="utf-8")
    else:
        write_schema(cast("TableSchema", schema), path)


def _bought(run: Run, made: Made, held: Table, asked: Asked) -> Paid | None:
    """Buy the numbers of the page of quality, if they were asked for, and record the price."""
    from manikin.metrics.paid import paid
    from manikin.privacy.ledger import to_json
    from manikin.synthesizer import report

    if (budget := asked.report_budget) is None:
        return None
    report(run.watch, 0, None, "buying the page of quality")
    shown = made.trial.synthetic
    if made.kind != "representative":  # who was drawn was chosen; the model itself is judged
        shown = made.model.sample(ENOUGH, seed=run.seed)
    found = paid(held, shown, budget, seed=run.seed)
    run.record.add(
        "reported",
        {"budget": {"epsilon": budget.epsilon, "delta": budget.delta},
         "ledger": to_json(found.releases), "of": "held-out subjects",
         "composition": "added to that of the model, though no subject is in both parts"},
    )  # fmt: skip
    return found


def _write_quality(folder: Path, bought: Paid, made: Made, said: Statement, data: str) -> None:
    from manikin.release.quality import DATA, PAGE, build_quality, render_quality
    from manikin.release.record import canonical

    judged = (
        "Looked at were the rows of this release."
        if made.kind == "representative"
        else f"The rows of this release were chosen ({made.kind}), so others were looked at, that"
        " the same model drew of everybody."
    )
    page = build_quality(bought, judged=judged, together=said.together)
    (folder / DATA).write_bytes(canonical(page.to_json()) + b"\n")
    (folder / PAGE).write_text(render_quality(page, data), encoding="utf-8")


def _again(asked: Asked, made: Made, seed: int, data: str) -> str:
    """Return the command that draws the same rows from the model."""
    suffix = data.removeprefix("data")
    parts = [f"manikin sample {MODEL} --n {made.n} --seed {seed} --out again{suffix}"]
    parts += [f'--where "{asked.where}"'] if asked.where else []
    parts += [f'--balance "{asked.balance}"'] if asked.balance else []
    parts += [f'--enrich "{wish}"' for wish in asked.enrich]
    return " ".join(parts)
