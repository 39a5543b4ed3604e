"""Every door that reads a stranger's file, under damage: a typed error or success, never more.

A thousand cases in every run, and 100,000 others in the slow form (`make fuzz`); the numbers
`MANIKIN_FUZZ_CASES` (of the slow form, all doors together) and `MANIKIN_FUZZ_FIRST` ask for more
and for fresh ones. A failing case names its number, which is kept below in KEPT and from then on
always tried.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import polars as pl
import pytest
from fuzzing import altered, altered_arrays, damaged, packed, rechained, repacked, rng_of

import manikin
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, ManikinError
from manikin.io import models, schema_file, tables
from manikin.release.record import Record, read_record, verify_chain
from manikin.release.seal import seal, verify

CASES = int(os.environ.get("MANIKIN_FUZZ_CASES", "100000"))
FIRST = int(os.environ.get("MANIKIN_FUZZ_FIRST", "10000"))
PATIENCE = 60  # seconds after which a case counts as one that never ends
CANARY = "Zweibrueckenmeister"
MOST_MEMORY = 400 * 2**10  # KiB that the process may grow by over all cases
SYNTHESIZERS = ("table/marginals", "table/copula", "table/seqtree")
KEPT: dict[str, tuple[int, ...]] = {
    "model": (1054, 1188, 3409, 11237),
    "yaml": (79, 18613),
    "record_file": (4, 56),
}  # door → numbers of cases that once failed

YAML = """\
columns:
  - {name: age, kind: integer, minimum: 0, maximum: 120, roles: [quasi_identifier]}
  - {name: sex, kind: categorical, categories: [F, M], roles: [sensitive]}
  - {name: seen, kind: datetime, date_format: '%d.%m.%Y', minimum: 2001-01-31, missing: ['', NA]}
  - {name: dose, kind: continuous, decimals: 2, padded: true, unit: mg, special: ['<0.5']}
  - {name: part, kind: continuous}
rules:
  - range: {column: age, minimum: 18}
  - inequality: {left: part, operator: <=, right: dose}
  - sum: {total: dose, parts: [part, age]}
  - if_then: {when: sex = M, then: [{column: age, operator: '>=', value: 20}]}
  - combinations: {columns: [sex, age], allowed: [[F, '20'], [M, '30']]}
"""


def rows(n: int = 40) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    return [
        (str(rng.integers(18, 90)), "FM"[i % 2], f"{rng.normal(5, 1):.2f}",
         f"{CANARY} {i}" if i > 8 else f"note, {i}", f"{1 + i % 28:02d}.03.2020")
        for i in range(n)
    ]  # fmt: skip


NAMES = ("age", "sex", "dose", "note", "seen")


def as_csv(delimiter: str = ",", end: str = "\n", quote: str = '"') -> bytes:
    cells = [NAMES, *rows()]
    lines = [
        delimiter.join(f"{quote}{c}{quote}" if "," in c or delimiter in c else c for c in row)
        for row in cells
    ]
    return (end.join(lines) + end).encode()


def as_frame() -> pl.DataFrame:
    frame = pl.DataFrame(rows(), schema=list(NAMES), orient="row")
    return frame.with_columns(pl.col("age").cast(pl.Int32), pl.col("dose").cast(pl.Float64))


# ---------------------------------------------------------------------------- the doors
class Doors:
    """Files that are whole, and what opens them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        buffer = io.BytesIO()
        as_frame().write_parquet(buffer)
        self.parquet = buffer.getvalue()
        self.fitted = {name: self._fitted(name) for name in SYNTHESIZERS}
        self.schema_json = schema_file.from_yaml(YAML).to_json()
        (folder / "seed.jsonl").unlink(missing_ok=True)
        record = Record(folder / "seed.jsonl")
        record.add("started", {"who": "x", "n": [1, 2.5, None]})
        record.add("judged", {"scores": [{"value": 0.5, "metric": "a/b"}]})
        record.close({"data.csv": "0" * 64})
        self.record = (folder / "seed.jsonl").read_bytes()
        self.workbook = self._workbook()

    def _fitted(self, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray], bytes]:
        from manikin import catalogue

        rng = np.random.default_rng(1)
        schema = TableSchema(
            (
                Column("age", "integer", decimals=0),
                Column("sex", "categorical", categories=("F", "M")),
                Column("dose", "continuous", decimals=2, special=("<0.5",)),
                Column("seen", "datetime", date_format="%Y-%m-%d"),
                Column("id", "identifier", template="A999"),
            )
        )
        n = 80
        days = np.datetime64("2020-01-01", "us") + rng.integers(0, 900, n) * np.timedelta64(1, "D")
        columns = {
            "age": rng.integers(18, 90, n).astype(float),
            "sex": rng.integers(0, 2, n).astype(np.int32),
            "dose": np.round(rng.normal(5, 1, n), 2),
            "seen": days.astype("datetime64[us]"),
        }
        recipe = catalogue.build(name)
        model = recipe.fit(Table(schema, np.arange(n) // 2, columns), seed=1)
        path = self.folder / "whole.manikin"
        models.save(model, path, synthesizer=name, recipe=recipe, overwrite=True)
        document = json.loads(models._parts(path.read_bytes())[0])
        return document, dict(model.state().arrays), path.read_bytes()

    def _workbook(self) -> bytes:
        import xlsxwriter

        buffer = io.BytesIO()
        book = xlsxwriter.Workbook(buffer, {"in_memory": True})
        sheet = book.add_worksheet()
        for i, row in enumerate([NAMES, *rows()]):
            sheet.write_row(i, 0, row)
        book.close()
        return buffer.getvalue()

    # each takes a source of chance and gives the file's name and content
    def csv(self, rng: np.random.Generator) -> tuple[str, bytes]:
        whole = as_csv(
            str(rng.choice([",", ";", "\t", "|"])), str(rng.choice(["\n", "\r\n", "\r"]))
        )
        if rng.random() < 0.15:
            whole = whole.decode().encode(str(rng.choice(["utf-16", "cp1252"])))
        spoiled = damaged(whole, rng)
        if rng.random() < 0.1:
            import gzip

            return "t.csv.gz", damaged(gzip.compress(spoiled, mtime=0), rng)
        return str(rng.choice(["t.csv", "t.tsv", "t.txt"])), spoiled

    def parquet_file(self, rng: np.random.Generator) -> tuple[str, bytes]:
        whole = self.parquet
        at = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        if rng.random() < 0.6:  # the footer, which says where all else is
            footer = damaged(whole[at:-8], rng)
            return "t.parquet", whole[:at] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
        return "t.parquet", damaged(whole, rng)

    def excel(self, rng: np.random.Generator) -> tuple[str, bytes]:
        if rng.random() < 0.4:
            return "t.xlsx", damaged(self.workbook, rng)
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(self.workbook)) as old,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            names = old.namelist()
            chosen = names[int(rng.integers(0, len(names)))]
            for name in names:
                data = old.read(name)
                new.writestr(name, damaged(data, rng) if name == chosen else data)
        return "t.xlsx", buffer.getvalue()

    def model(self, rng: np.random.Generator) -> tuple[str, bytes]:
        document, arrays, whole = self.fitted[str(rng.choice(SYNTHESIZERS))]
        kind = rng.random()
        if kind < 0.4:
            return "m.manikin", damaged(whole, rng)
        if kind < 0.7:
            return "m.manikin", repacked(altered(document, rng), arrays)
        return "m.manikin", repacked(document, altered_arrays(arrays, rng))

    def tensors(self, rng: np.random.Generator) -> tuple[str, bytes]:
        """Spoil the safetensors alone, mostly their header, and make every digest match."""
        document, _, whole = self.fitted[str(rng.choice(SYNTHESIZERS))]
        tensors = models._parts(whole)[1]
        end = 8 + struct.unpack("<Q", tensors[:8])[0]
        kind = rng.random()
        if kind < 0.4:
            header = damaged(tensors[8:end], rng)
            spoiled = struct.pack("<Q", len(header)) + header + tensors[end:]
        elif kind < 0.8:
            header = json.dumps(altered(json.loads(tensors[8:end]), rng)).encode()
            spoiled = struct.pack("<Q", len(header)) + header + tensors[end:]
        else:
            spoiled = damaged(tensors, rng)
        return "m.manikin", packed(document, spoiled)

    def yaml(self, rng: np.random.Generator) -> tuple[str, bytes]:
        if rng.random() < 0.5:
            return "s.yaml", damaged(YAML.encode(), rng)
        return "s.yaml", json.dumps(altered(self.schema_json, rng)).encode()

    def json(self, rng: np.random.Generator) -> tuple[str, bytes]:
        return "s.json", json.dumps(altered(self.schema_json, rng)).encode()

    def record_file(self, rng: np.random.Generator) -> tuple[str, bytes]:
        if rng.random() < 0.5:
            return "record.jsonl", damaged(self.record, rng)
        lines = [json.loads(line) for line in self.record.splitlines()]
        try:
            return "record.jsonl", rechained(altered(lines, rng))
        except (AttributeError, TypeError, ValueError):  # a line that is no mapping any more
            return "record.jsonl", json.dumps(altered(lines, rng)).encode()


def open_table(path: Path) -> object:
    return tables.open_table(path)


def open_schema(path: Path) -> object:
    return schema_file.to_yaml(schema_file.read_schema(path))


def open_schema_json(path: Path) -> object:
    return TableSchema.from_json(json.loads(path.read_bytes())).to_json()


def open_release(path: Path) -> object:
    release = path.parent / "release"
    release.mkdir(exist_ok=True)
    for old in release.iterdir():
        old.unlink()
    (release / "data.csv").write_bytes(b"a\n1\n")
    (release / "record.jsonl").write_bytes(path.read_bytes())
    seal(release)
    verify_chain(path)
    found = verify(release)
    assert all(isinstance(problem, str) for problem in found.problems)
    return read_record(path)


DOORS: dict[str, tuple[Callable[[Path], object], int, float]] = {
    # what opens it; how many cases in every run; its share of the slow form's
    "csv": (open_table, 100, 0.04),
    "parquet_file": (open_table, 100, 0.20),
    "excel": (open_table, 60, 0.02),
    "model": (models.load, 100, 0.04),
    "tensors": (models.load, 200, 0.12),
    "yaml": (open_schema, 200, 0.15),
    "json": (open_schema_json, 200, 0.33),
    "record_file": (open_release, 100, 0.10),
}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(tmp_path_factory.mktemp("doors"))


@contextmanager
def ending() -> Iterator[None]:
    """Raise where the body takes so long that it may never end."""

    def late(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"it still runs after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(doors: Doors, door: str, number: int, folder: Path) -> str:
    """Open one case; return what came of it."""
    name, content = getattr(doors, door)(rng_of(door, number))
    path = folder / name
    path.write_bytes(content)
    try:
        with ending():
            DOORS[door][0](path)
    except ManikinError as error:
        assert error.given and CANARY not in _told(error, content), f"{door} {number} quotes a cell"
        return type(error).__name__
    finally:
        path.unlink()
    return "opened"


def _told(error: ManikinError, content: bytes) -> str:
    # what damage moved into the first record is a header, and names of columns are told
    first = content.lstrip().split(b"\n")[0].replace(b"\0", b"")
    return "" if CANARY.encode() in first or b"\n" not in content else str(error)


@pytest.mark.parametrize("door", DOORS)
def test_damage_is_a_typed_error_or_harmless(door: str, doors: Doors, tmp_path: Path) -> None:
    all_tried(doors, door, [*KEPT.get(door, ()), *range(DOORS[door][1])], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_a_hundred_thousand_cases(door: str, doors: Doors, tmp_path: Path) -> None:
    numbers = range(FIRST, FIRST + round(CASES * DOORS[door][2]))
    if door == "parquet_file":
        aborted = all_tried_apart(door, numbers, tmp_path)
        assert len(aborted) <= len(numbers) / 1000, aborted
    else:
        all_tried(doors, door, numbers, tmp_path)


def all_tried_apart(door: str, numbers: range, folder: Path) -> list[int]:
    """Try the cases in processes of their own; return those at which the reader gave up.

    polars' Parquet reader takes the length of a run inside a page at its word, asks for exabytes
    and, when it gets none, ends the process (seen in polars 2.1). That lies within compressed
    pages, where nothing but the reader itself can look. It must be no other kind of death.
    """
    aborted, start, last = [], numbers.start, folder / "last"
    while start < numbers.stop:
        last.write_text(str(start))
        script = (
            "import test_fuzz_doors as t; from pathlib import Path\n"
            f"t.all_noted({door!r}, range({start}, {numbers.stop}), Path({str(folder)!r}))"
        )
        places = [str(Path(__file__).parent), str(Path(manikin.__file__).parents[1])]
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "RUST_BACKTRACE": "0"},
        )  # fmt: skip
        if done.returncode == 0:
            break
        number = int(last.read_text())
        told = f"case {number} of door '{door}' ended with {done.returncode}: {done.stderr[-2000:]}"
        assert done.returncode == -signal.SIGABRT, told
        assert re.search(r"memory allocation of \d{13,} bytes failed", done.stderr), told
        aborted.append(number)
        start = number + 1
    return aborted


def all_noted(door: str, numbers: range, folder: Path) -> None:
    """Try the cases, noting each before it is tried."""
    (folder / "doors").mkdir(exist_ok=True)
    (folder / "case").mkdir(exist_ok=True)
    doors = Doors(folder / "doors")
    for number in numbers:
        (folder / "last").write_text(str(number))
        tried(doors, door, number, folder / "case")


def test_the_slow_form_shares_all_its_cases_out() -> None:
    assert sum(round(100_000 * share) for _, _, share in DOORS.values()) == 100_000


def all_tried(doors: Doors, door: str, numbers: Sequence[int], folder: Path) -> None:
    came: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        try:
            what = tried(doors, door, number, folder)
        except BaseException as error:
            error.add_note(f"case {number} of door '{door}': when cured, keep it in KEPT")
            raise
        came[what] = came.get(what, 0) + 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_MEMORY
    # the damage is neither so heavy that nothing is looked at nor so light that nothing breaks
    assert len(came) > 1 and sum(came.values()) == len(numbers), came
    assert not {entry.name for entry in folder.iterdir()} - {"release"}


def test_the_same_number_is_the_same_case(doors: Doors) -> None:
    for door in DOORS:
        if door != "excel":  # zip tools write the time into it
            made = [getattr(doors, door)(rng_of(door, 3)) for _ in range(2)]
            assert made[0] == made[1]


def test_a_whole_file_opens_at_every_door(doors: Doors, tmp_path: Path) -> None:
    whole = {
        "csv": ("t.csv", as_csv()),
        "parquet_file": ("t.parquet", doors.parquet),
        "excel": ("t.xlsx", doors.workbook),
        "model": ("m.manikin", doors.fitted["table/copula"][2]),
        "tensors": ("m.manikin", doors.fitted["table/seqtree"][2]),
        "yaml": ("s.yaml", YAML.encode()),
        "json": ("s.json", json.dumps(doors.schema_json).encode()),
        "record_file": ("record.jsonl", doors.record),
    }
    for door, (name, content) in whole.items():
        (tmp_path / name).write_bytes(content)
        assert DOORS[door][0](tmp_path / name) is not None


def test_a_column_of_nothing_but_canaries_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + f"1,{CANARY}\n" * 30 + f"1,2,{CANARY}\n")
    with pytest.raises(InputError) as caught:
        tables.open_table(path)
    assert CANARY not in str(caught.value)
