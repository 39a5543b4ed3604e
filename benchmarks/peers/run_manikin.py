"""Manikin itself, run and measured exactly as the peers are."""

import json
import sys
import time
from pathlib import Path

import polars as pl
from protocol import Job

from manikin.catalogue import build
from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema, with_roles


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


if __name__ == "__main__":
    job = Job(*sys.argv[1:])
    spec = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    cells = pl.read_csv(sys.argv[1], infer_schema=False).fill_null("")
    recipe, models, spent = build(job.method), [], []

    def fit() -> None:
        """Read the cells and learn."""
        begun = time.process_time()
        schema = with_roles(declared(cells, job.numeric), **spec["roles"])
        models.append(recipe.fit(parse(cells, schema), seed=job.seed))
        spent.append(time.process_time() - begun)

    job.run(fit, lambda: models[0].sample(job.n, seed=job.seed).to_pandas())
    meta = json.loads(Path(job.meta_path).read_text(encoding="utf-8"))
    meta["fit_cpu_seconds"] = spent[0]
    Path(job.meta_path).write_text(json.dumps(meta), encoding="utf-8")
