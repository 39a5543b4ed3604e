"""FHIR out and in: resources a second, beside typed models and a dict a resource.

    taskset -c 0 python benchmarks/fhir_rows.py --events 500000

Every writer writes the same resources of the same histories: ours whole columns at a time; orjson
a dict a resource, which is what a careful program does; `fhir.resources` a model a resource, which
is what most programs do, on few of them. Files and checks are included. Rates are by processor
seconds, of all threads together, so that what else the machine does changes them little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from doors import histories, in_blocks, rate
from writing import grid

from manikin.data.events import Events
from manikin.io import fhir

FEW = 20_000  # resources for the typed models


def fhir_rows(events: Events, folder: Path, repeats: int) -> list[list[str]]:
    """Time FHIR out and in, and the peers on the same resources."""
    blocks, rows = in_blocks(events), []
    for form in ("ndjson", "bundles"):
        part = blocks[:1] if form == "bundles" else blocks
        out = folder / f"fhir-{form}"

        def write(part: list[Events] = part, out: Path = out, form: str = form) -> None:
            shutil.rmtree(out, ignore_errors=True)
            fhir.write(part, out, layout={"form": form}, synthetic=True)

        seconds = best(write, repeats)
        manifest = json.loads((out / "manifest.json").read_text())
        n = sum(manifest["extension"]["counts"].values())
        rows.append([f"FHIR R4, {form} (by processor seconds)", f"{n:,}", rate(n, seconds),
                     rate(n, best(lambda out=out: fhir.read(out), 1)), "–"])  # fmt: skip
    return rows + _peers(folder / "fhir-ndjson", folder)


def best(work: Callable[[], object], repeats: int) -> float:
    """Return the processor seconds of the cheapest of several runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def _peers(made: Path, folder: Path) -> list[list[str]]:
    from fhir.resources.R4B import get_fhir_model_class

    resources = list(_some(made, FEW))
    models = {one["resourceType"]: get_fhir_model_class(one["resourceType"]) for one in resources}

    def by_dicts() -> None:
        with open(folder / "dicts.ndjson", "wb") as file:
            for one in resources:
                file.write(orjson.dumps(_anew(one)) + b"\n")

    def by_models() -> None:
        with open(folder / "models.ndjson", "w", encoding="utf-8") as file:
            for one in resources:
                file.write(models[one["resourceType"]](**one).model_dump_json() + "\n")

    def back() -> None:
        for line in open(folder / "models.ndjson", encoding="utf-8"):
            one = json.loads(line)
            models[one["resourceType"]].model_validate(one)

    n, rows = len(resources), []
    peers: tuple[tuple[str, Callable[[], None], Callable[[], None] | None], ...] = (
        ("a dict a resource, orjson (the same)", by_dicts, None),
        ("`fhir.resources`, a model a resource (the same)", by_models, back),
    )
    for name, write, read in peers:
        out = best(write, 1)
        again = rate(n, best(read, 1)) if read else "–"
        rows.append([name, f"{n:,}", rate(n, out), again, "–"])
    return rows


def _anew(value: Any) -> Any:
    """Build a resource's dicts and lists, as a program that holds them in rows must."""
    if isinstance(value, dict):
        return {key: _anew(part) for key, part in value.items()}
    return [_anew(part) for part in value] if isinstance(value, list) else value


def _some(made: Path, most: int) -> Iterator[dict[str, Any]]:
    """Yield resources of every kind, as many of each as its share."""
    files = sorted(made.glob("*.ndjson"))
    counts = {file: sum(1 for _ in open(file, "rb")) for file in files}
    for file, count in counts.items():
        wanted = max(1, most * count // sum(counts.values()))
        with open(file, "rb") as lines:
            for _, line in zip(range(wanted), lines, strict=False):
                yield orjson.loads(line)


def main() -> None:
    """Print the table, and where the writer's time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fhir-"))
    began = time.perf_counter()
    try:
        rows = fhir_rows(histories(asked.events // 50), folder, asked.repeats)
        print(grid(["door", "resources", "written a second", "read a second", "streamed"], rows))
        print(f"\n{time.perf_counter() - began:.0f} s in all")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
