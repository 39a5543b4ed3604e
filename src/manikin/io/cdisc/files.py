"""Data sets of a study as files of a folder: Parquet, SAS transport and Dataset-JSON."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from manikin.errors import InputError
from manikin.io.bounds import check_frame
from manikin.io.cdisc.dataset_json import is_dataset_json, read_dataset_json
from manikin.io.cdisc.xpt import read_xpt
from manikin.io.parquet import read_parquet
from manikin.synthesizer import Watch, report

__all__ = ["find", "read_folder", "upper"]

SUFFIXES = {".xpt": "xpt", ".parquet": "parquet", ".json": "json", ".ndjson": "ndjson"}
_NOT_DATA = ("define",)


def find(folder: Path) -> dict[str, Path]:
    """Return the data sets of a folder by their names in lower case."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.stem.lower()
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES or not path.is_file() or name in _NOT_DATA:
            continue
        if suffix in (".json", ".ndjson") and not is_dataset_json(path):
            continue
        if name in found:
            raise InputError(
                f"the folder holds '{found[name].name}' and '{path.name}'",
                "one file a data set",
                "take one of them out",
            )
        found[name] = path
    return found


def read_folder(folder: Path, watch: Watch) -> tuple[dict[str, pl.DataFrame], str]:
    """Return the data sets of a folder and the format that most of them are in."""
    if not folder.is_dir():
        raise InputError(f"'{folder.name}' is no folder", "a folder of data sets", "check the path")
    found = find(folder)
    if not found:
        raise InputError(
            f"'{folder.name}' holds no data set",
            f"files with a suffix of {', '.join(SUFFIXES)}",
            "check the path",
        )
    frames = {}
    for k, (name, path) in enumerate(found.items()):
        report(watch, k, len(found), "reading CDISC files")
        frames[name] = _read(path)
    formats = [SUFFIXES[path.suffix.lower()] for path in found.values()]
    return frames, max(sorted(set(formats)), key=formats.count)


def _read(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".xpt":
        frame = read_xpt(path)[0]
    elif suffix == ".parquet":
        frame = read_parquet(path)[0]
    else:
        frame = read_dataset_json(path)[0]
    check_frame(frame, path.name)
    return upper(frame, path.name)


def upper(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """Return a data set with the names of its variables in capitals, as CDISC has them."""
    names = [name.upper() for name in frame.columns]
    if len(set(names)) < len(names):
        raise InputError(
            f"'{what}' has variables whose names differ in capitals alone",
            "names of their own",
            "leave one of them out",
        )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))
