"""CDISC: SDTM domains and ADaM data sets as histories, and histories as SDTM domains.

SDTM 2.0 / Implementation Guide 3.4; ADaM 2.1 / Implementation Guide 1.3. What becomes what is told
in docs/events.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manikin.data.codes import EventSchema
from manikin.data.frames import to_polars
from manikin.io._cdisc_files import find, read_folder
from manikin.io._cdisc_histories import histories_of
from manikin.io._cdisc_sdtm import read_sdtm
from manikin.io.histories import History
from manikin.synthesizer import Watch, report, silent

__all__ = ["read", "read_frames", "recognises"]


def recognises(path: Path) -> bool:
    """Whether a folder holds DM or ADSL, in a format that is read."""
    return path.is_dir() and bool({"dm", "adsl"} & set(find(path)))


def read(
    source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
) -> History:
    """Read a folder of SAS transport (.xpt), Dataset-JSON or Parquet files, one a data set."""
    frames, files = read_folder(Path(source), watch)
    return read_frames(frames, schema=schema, watch=watch, files=files)


def read_frames(
    frames: Mapping[str, Any],
    *,
    schema: EventSchema | None = None,
    watch: Watch = silent,
    files: str = "parquet",
) -> History:
    """Read data sets in memory, pandas, polars or Arrow frames by their names ("dm", "vs", …)."""
    cells = {name: to_polars(frame) for name, frame in frames.items()}
    report(watch, 0, None, "reading CDISC domains")
    study = read_sdtm(cells)
    events, ids, layout = histories_of(study, schema)
    return History(events, "cdisc", False, ids, study.notes, {**layout, "files": files})
