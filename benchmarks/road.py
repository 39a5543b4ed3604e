"""One step of the road in a process of its own, so that its time and memory are its own.

python road.py fit TABLE.csv MODEL.manikin META.json     read, fit, draw as many rows
python road.py stream MODEL.manikin N ROWS.csv META.json draw N rows to disk, block by block
python road.py import META.json                          import manikin
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path


def fit(table: str, model_file: str) -> dict[str, float]:
    """Read a table, fit the default synthesizer, draw as many rows, and keep the model."""
    from manikin.catalogue import build
    from manikin.io import models, tables

    recipe = build("table/seqtree")
    started = time.perf_counter()
    source = tables.open_table(table)
    read = time.perf_counter()
    model = recipe.fit(source.table, seed=0)
    fitted = time.perf_counter()
    drawn = model.sample(source.table.n_subjects, seed=0)
    sampled = time.perf_counter()
    rows, columns = drawn.n_rows, len(drawn.schema.learned)
    models.save(model, model_file, synthesizer="table/seqtree", recipe=recipe, overwrite=True)
    return {
        "read_seconds": read - started,
        "fit_seconds": fitted - read,
        "sample_seconds": sampled - fitted,
        "rows": rows,
        "columns": columns,
        "model_mb": Path(model_file).stat().st_size / 2**20,
    }


def stream(model_file: str, n: str, out: str) -> dict[str, float]:
    """Draw `n` rows from a fitted model to a CSV file."""
    import manikin.synthesizer
    from manikin.io import models, tables

    model = models.load(model_file).model
    started = time.perf_counter()
    drawing = 0.0
    with tables.writer(out) as sink:
        blocks = iter(manikin.synthesizer.stream(model, int(n), seed=0))
        while True:
            before = time.perf_counter()
            block = next(blocks, None)
            drawing += time.perf_counter() - before
            if block is None:
                break
            sink.write(block)
    return {"stream_seconds": time.perf_counter() - started, "draw_seconds": drawing}


def import_time() -> dict[str, float]:
    """Import the package."""
    started = time.perf_counter()
    import manikin  # noqa: F401

    return {"import_seconds": time.perf_counter() - started}


STEPS = {"fit": fit, "stream": stream, "import": import_time}

if __name__ == "__main__":
    step, *arguments, meta = sys.argv[1:]
    measured = STEPS[step](*arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured["cpu_seconds"] = used.ru_utime + used.ru_stime
    # the mark of the address space: ru_maxrss starts at what the parent held
    marks = Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()
    measured["peak_rss_mb"] = int(marks[0]) / 1024
    Path(meta).write_text(json.dumps(measured), encoding="utf-8")
