"""CDISC: SDTM domains and ADaM data sets as histories, and histories as SDTM domains.

SDTM 2.0 / Implementation Guide 3.4; ADaM 2.1 / Implementation Guide 1.3. What becomes what is told
in docs/events.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.frames import to_polars
from manikin.errors import InputError
from manikin.io.cdisc.adam import as_sdtm, is_adam
from manikin.io.cdisc.define import FILE, Definition, read_definition
from manikin.io.cdisc.files import find, read_folder, upper
from manikin.io.cdisc.histories import histories_of
from manikin.io.cdisc.sdtm import read_sdtm
from manikin.io.cdisc.study import write_study
from manikin.io.histories import History
from manikin.synthesizer import Watch, report, silent

__all__ = ["read", "read_frames", "recognises", "write"]


def recognises(path: Path) -> bool:
    """Whether a folder holds DM or ADSL, in a format that is read."""
    return path.is_dir() and bool({"dm", "adsl"} & set(find(path)))


def read(
    source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
) -> History:
    """Read a folder of SAS transport (.xpt), Dataset-JSON or Parquet files, one a data set."""
    folder = Path(source)
    frames, files = read_folder(folder, watch)
    own = read_definition(folder)
    if own is not None:
        _whole(frames, own)
    return _history(frames, schema, watch, files, own)


def read_frames(
    frames: Mapping[str, Any], *, schema: EventSchema | None = None, watch: Watch = silent
) -> History:
    """Read data sets in memory, pandas, polars or Arrow frames by their names ("dm", "vs", …)."""
    cells = {name.lower(): upper(to_polars(frame), name) for name, frame in frames.items()}
    return _history(cells, schema, watch, "parquet", None)


def _history(
    frames: Mapping[str, pl.DataFrame],
    schema: EventSchema | None,
    watch: Watch,
    files: str,
    own: Definition | None,
) -> History:
    report(watch, 0, None, "reading CDISC domains")
    more: list[str] = []
    if is_adam(frames):
        frames, more = as_sdtm(frames)
    elif any(name.startswith("ad") and name != "adt" for name in frames):
        more = ["ADaM data sets beside SDTM domains follow from them and are set aside"]
        frames = {name: frame for name, frame in frames.items() if not name.startswith("ad")}
    study = read_sdtm(frames, own)
    events, ids, layout = histories_of(study, schema, own)
    if own is not None:
        layout = {**own.layout, "template": layout["template"]}
    synthetic = (own is not None and own.synthetic) or _says_synthetic(frames)
    return History(
        events, "cdisc", synthetic, ids, (*more, *study.notes), {**layout, "files": files}
    )


def _whole(frames: Mapping[str, pl.DataFrame], own: Definition) -> None:
    """Raise InputError where a data set of ours has not the rows that it was written with.

    A transport file that was cut off between two rows looks whole.
    """
    lost = [
        name for name, rows in own.records.items()
        if name.lower() not in frames or frames[name.lower()].height != rows
    ]  # fmt: skip
    if lost:
        raise InputError(
            f"data sets that are not there, or have not the rows that {FILE} says:"
            f" {', '.join(lost[:8])}",
            "the folder as it was written",
            f"copy it again; or take {FILE} out, to read what is there",
        )


def _says_synthetic(frames: Mapping[str, pl.DataFrame]) -> bool:
    """Whether the trial summary says that the data are synthetic, as we write it."""
    summary = frames.get("ts")
    if summary is None or not {"TSPARMCD", "TSVAL"} <= set(summary.columns):
        return False
    told = summary.filter((pl.col("TSPARMCD") == "SYNTHDAT") & (pl.col("TSVAL") == "Y"))
    return told.height > 0


def write(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Write histories as SDTM domains in a folder, one file a domain, and `define.json` beside.

    The files are of the source's format, or of `layout["suffix"]`: .xpt (the default), .json and
    .ndjson (Dataset-JSON 1.1) or .parquet.
    """
    write_study(blocks, out, layout=layout, synthetic=synthetic, ids=ids)
