"""Figures kept beside a benchmark: written aside and renamed, so that a cut run leaves the last."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["known", "put", "save"]


def known(store: Path) -> dict[str, Any]:
    """Return what was measured so far."""
    return json.loads(store.read_text()) if store.is_file() else {}


def save(store: Path, figures: Mapping[str, Any]) -> None:
    """Write all figures."""
    aside = store.with_suffix(".part")
    aside.write_text(json.dumps(figures, indent=0, sort_keys=True) + "\n")
    aside.replace(store)


def put(store: Path, name: str, runs: Mapping[str, Any]) -> None:
    """Add runs of one method to the file, which another process may have added to."""
    with open(store.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = known(store)
        found.setdefault(name, {}).update(runs)
        save(store, found)
