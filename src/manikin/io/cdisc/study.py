"""Data sets of a study on disk: parked as they come, written whole, then put in their place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manikin.data.events import Events
from manikin.errors import OutputError
from manikin.io.cdisc.dataset_json import write_dataset_json
from manikin.io.cdisc.define import FILE, definition_of, read_definition
from manikin.io.cdisc.domains import DOMAIN_LABELS, label_of, order_of
from manikin.io.cdisc.plan import plan_of
from manikin.io.cdisc.tables import Tables, static_names
from manikin.io.cdisc.xpt import MOST_LABEL, write_xpt

__all__ = ["FORMATS", "write_study"]

FORMATS = ("xpt", "json", "ndjson", "parquet")
_FIRST = ("TS", "DM", "SUPPDM", "SV")
# variables that are written even where they are empty: required and expected ones of SDTM
_KEPT = ("STUDYID", "DOMAIN", "RDOMAIN", "USUBJID", "SUBJID", "IDVAR", "IDVARVAL", "QNAM", "QLABEL",
         "QVAL", "QORIG", "RFSTDTC", "RFENDTC", "AGE", "AGEU", "SEX", "RACE", "ARMCD", "ARM",
         "VISITNUM", "SVSTDTC", "SVENDTC")  # fmt: skip
_KEPT_PARTS = ("SEQ", "TESTCD", "TEST", "ORRES", "ORRESU", "STRESC", "STRESN", "STRESU", "TERM",
               "DECOD", "TRT", "DTC", "STDTC")  # fmt: skip


class _Parked:
    """Parts of data sets in a folder that goes away, and what is known of their columns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, list[Path]] = {}
        self.columns: dict[str, dict[str, tuple[bool, int]]] = {}  # number? most bytes, 0: empty
        self.rows: dict[str, int] = {}

    def park(self, name: str, frame: pl.DataFrame) -> None:
        if frame.height == 0:
            return
        known = self.columns.setdefault(name, {})
        for series in frame:
            number = series.dtype.is_numeric()
            longest = 8 if number and series.null_count() < len(series) else 0
            if not number:
                longest = int(series.cast(pl.String).str.len_bytes().max() or 0)  # type: ignore[arg-type]
            before = known.get(series.name, (number, 0))
            known[series.name] = (before[0] and number, max(before[1], longest))
        path = self.folder / f"{name}-{len(self.parts.get(name, [])):06d}.parquet"
        frame.write_parquet(path, compression="lz4")
        self.parts.setdefault(name, []).append(path)
        self.rows[name] = self.rows.get(name, 0) + frame.height

    def held(self, name: str) -> list[tuple[str, bool]]:
        """Return the variables of a data set in order, without permissible ones that are empty."""
        prefix = name if len(name) == 2 else ""
        kept = {*_KEPT, *(prefix + part for part in _KEPT_PARTS)}
        known = self.columns[name]
        names = [column for column, (_, longest) in known.items() if longest or column in kept]
        return [(column, known[column][0]) for column in sorted(names, key=order_of)]

    def frames(self, name: str, columns: list[tuple[str, bool]]) -> Iterator[pl.DataFrame]:
        for path in self.parts[name]:
            frame = pl.read_parquet(path, glob=False)
            yield frame.select(
                pl.col(c).cast(pl.Float64 if number else pl.String) for c, number in columns
            )


def write_study(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...],
) -> None:
    """Write blocks of histories as the data sets of a folder. All of it is there, or nothing."""
    files = str(layout.get("suffix", "")).lstrip(".").lower() or layout.get("files")
    files = files if files in FORMATS else FORMATS[0]
    _check(out)
    with tempfile.TemporaryDirectory(prefix=".manikin-", dir=_parent(out)) as scratch:
        parked, whole = Path(scratch) / "parts", Path(scratch) / "whole"
        parked.mkdir()
        whole.mkdir()
        _write(blocks, _Parked(parked), whole, layout, synthetic, ids, str(files))
        if out.exists():
            out.rename(Path(scratch) / "before")
        whole.rename(out)


def _parent(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent


def _check(out: Path) -> None:
    """Raise OutputError for a place that holds something else."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and read_definition(out) is None):
        raise OutputError(
            f"'{out.name}' exists and holds something else",
            "a new folder, or one that holds data sets of ours",
            "choose another",
        )


def _write(
    blocks: Iterable[Events],
    parked: _Parked,
    folder: Path,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...],
    files: str,
) -> None:
    study = str(layout.get("study") or ("SYNTHETIC" if synthetic else "STUDY"))
    schema = plan = tables = None
    used, levels = np.zeros(0, bool), dict[int, set[str]]()
    for events in blocks:
        if schema is None or plan is None or tables is None:
            schema = events.schema
            plan = plan_of(schema, layout)
            tables = Tables(plan, layout, study, ids)
            used = np.zeros(len(schema), bool)
        _note(events, used, levels)
        for name, frame in tables.of(events):
            parked.park(name, frame)
    if schema is None or plan is None:
        raise OutputError("no histories to write", "at least one block", "draw some")
    if synthetic:
        parked.park("TS", _trial_summary(study))
    datasets = []
    order = [*(n for n in _FIRST if n in parked.parts), *sorted(set(parked.parts) - {*_FIRST})]
    for name in order:
        label = DOMAIN_LABELS.get(name, f"Domain {name}")
        label = (f"SYNTHETIC {label}" if synthetic else label)[:MOST_LABEL]
        columns = parked.held(name)
        _one(folder, files, name, label, parked, columns, study)
        datasets.append(
            {"name": name, "label": label, "records": parked.rows[name], "file": name.lower(),
             "variables": [{"name": c, "label": label_of(c), "type": "float" if n else "text",
                            "length": parked.columns[name][c][1]} for c, n in columns]}
        )  # fmt: skip
    document = definition_of(
        schema, plan, synthetic=synthetic, study=study, used=used,
        levels={i: frozenset(texts) for i, texts in levels.items()},
        static=static_names(schema.static, schema.birth, schema.sex),
        layout=dict(layout), datasets=datasets,
    )  # fmt: skip
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text, encoding="utf-8")


def _note(events: Events, used: np.ndarray[Any, Any], levels: dict[int, set[str]]) -> None:
    """Take note of the codes and texts that a block has."""
    used[np.unique(events.code)] = True
    pairs = np.stack([events.code, events.text])[:, events.text >= 0]
    for code, text in np.unique(pairs, axis=1).T.tolist():
        levels.setdefault(code, set()).add(events.texts[text])


def _trial_summary(study: str) -> pl.DataFrame:
    """Return the row of TS that says what this is; no published parameter says it."""
    return pl.DataFrame(
        {"STUDYID": [study], "DOMAIN": ["TS"], "TSSEQ": [1.0], "TSPARMCD": ["SYNTHDAT"],
         "TSPARM": ["Synthetic Data Indicator"], "TSVAL": ["Y"]}
    )  # fmt: skip


def _one(
    folder: Path,
    files: str,
    name: str,
    label: str,
    parked: _Parked,
    columns: list[tuple[str, bool]],
    study: str,
) -> None:
    """Write one data set."""
    path = folder / f"{name.lower()}.{files}"
    labels = {column: label_of(column) for column, _ in columns}
    lengths = {column: parked.columns[name][column][1] for column, _ in columns}
    parts = parked.frames(name, columns)
    if files == "parquet":
        frames = list(parts) if len(parked.parts[name]) == 1 else None
        if frames is not None:
            frames[0].write_parquet(path)
        else:
            wanted = [pl.col(c).cast(pl.Float64 if n else pl.String) for c, n in columns]
            pl.scan_parquet(parked.parts[name]).select(wanted).sink_parquet(path)
        return
    with path.open("wb") as file:
        if files == "xpt":
            write_xpt(file, name, label, labels, lengths, parts, columns)
        else:
            write_dataset_json(
                file, name, label, labels, lengths, parts, columns,
                records=parked.rows[name], study=study, lines=files == "ndjson",
            )  # fmt: skip
