"""Scores of rows that were judged before: same rows, same judges, same libraries, same score.

The judges are deterministic, so a score is named by a digest of all that it depends on and needs
no second computation. Used only with `--reuse-peers`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from competitors import WORK
from experiments import Split, text_of
from judges import Judged

__all__ = ["remembered"]

HERE = Path(__file__).parent
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "lightgbm", "xgboost-cpu", "lifelines")


def remembered(
    what: str, split: Split, rows: pd.DataFrame | None, compute: Callable[[], Judged]
) -> Judged:
    """Return the scores of `rows` (None: of the split itself), computed unless known."""
    sources = [(HERE / name).read_text() for name in ("judges.py", "coding.py", "utility.py")]
    parts = [what, str(split.seed), split.digest, text_of(split.holdout), _versions(), *sources]
    parts += [repr(dataclasses.replace(split.experiment, load=repr)), ""]
    parts += [text_of(rows)] if rows is not None else []
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    place = WORK / "judged" / f"{key}.json"
    if place.is_file():
        return Judged(**json.loads(place.read_text()))
    judged = compute()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(dataclasses.asdict(judged)))
    return judged


def _versions() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)
