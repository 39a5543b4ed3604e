"""Manikin itself, run and measured exactly as the peers are."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from protocol import Job

import manikin.synthesizers.table._pgm as pgm
import manikin.synthesizers.table._private as private
from manikin.catalogue import build
from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema, with_roles
from manikin.data.table import Table
from manikin.privacy.budget import Budget
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table.mst import MST


def declared(frame: pl.DataFrame, numeric: list[str]) -> TableSchema:
    """Infer the schema, then set the kinds that everybody was given."""
    schema = infer_schema(frame)
    for column in schema:
        cells = frame[column.name]
        present = cells.filter(cells != "")
        if column.name in numeric and (not column.is_numeric or column.kind == "datetime"):
            decimals = present.str.split(".").list.get(1, null_on_oob=True).str.len_chars().max()
            kind = "continuous" if decimals else "integer"
            schema = schema.replace(Column(column.name, kind, decimals=int(decimals or 0)))
        elif column.name not in numeric and not column.is_coded:
            levels = tuple(present.unique().sort())
            schema = schema.replace(Column(column.name, "categorical", categories=levels))
    return schema


def public(facts: dict[str, dict[str, Any]]) -> TableSchema:
    """Return the schema that states what everybody was told beforehand, and nothing else."""
    columns = []
    for name, fact in facts.items():
        missing = ("",) if fact["missing"] else ()
        if "categories" in fact:
            levels = tuple(fact["categories"])
            columns.append(Column(name, "categorical", categories=levels, missing=missing))
            continue
        columns.append(
            Column(
                name, "continuous" if fact["decimals"] else "integer", missing=missing,
                minimum=fact["minimum"], maximum=fact["maximum"], decimals=fact["decimals"],
            )
        )  # fmt: skip
    return TableSchema(tuple(columns), declared=True)


@dataclass(frozen=True)
class Columns:
    """The floor under a budget: every column counted with noise, by itself."""

    def fit(self, data: Table, *, seed: int, budget: Budget) -> CodedModel:
        """Spend the whole budget on single columns, as table/mst does its share."""
        del seed
        found = private.prepare(data, budget, bins=MST().bins, most_rows=1, share=1.0)
        return private.finish(found, pgm.fit(found.rows.sizes, found.measured), "mst")


if __name__ == "__main__":
    job = Job(*sys.argv[1:])
    spec = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    cells = pl.read_csv(sys.argv[1], infer_schema=False).fill_null("")
    models, spent = [], []
    recipe = Columns() if job.method == "columns" else build(job.method)
    paid = {"budget": Budget(spec["epsilon"], spec["delta"])} if spec.get("epsilon") else {}

    def fit() -> None:
        """Read the cells and learn."""
        begun = time.process_time()
        told = public(spec["public"]) if "public" in spec else declared(cells, job.numeric)
        schema = with_roles(told, **spec["roles"])
        models.append(recipe.fit(parse(cells, schema), seed=job.seed, **paid))
        spent.append(time.process_time() - begun)

    job.run(fit, lambda: models[0].sample(job.n, seed=job.seed).to_pandas())
    meta = json.loads(Path(job.meta_path).read_text(encoding="utf-8"))
    meta["fit_cpu_seconds"] = spent[0]
    Path(job.meta_path).write_text(json.dumps(meta), encoding="utf-8")
