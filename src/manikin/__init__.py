"""Manikin makes synthetic patients from real ones and proves what they are worth."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(("audit", "evaluate", "fit", "sample", "synthesize"), "manikin.pipeline"),
    **dict.fromkeys(("load", "save"), "manikin.io.models"),
    "Budget": "manikin.privacy.budget",
    "Cohort": "manikin.data.cohort",
    "Column": "manikin.data.schema",
    "Progress": "manikin.synthesizer",
    "Table": "manikin.data.table",
    "TableSchema": "manikin.data.schema",
    "advise": "manikin.adviser",
    "augment": "manikin.augmenting",
    "combine": "manikin.metrics.combining",
    "compare": "manikin.comparison",
    "privacy_ledger": "manikin.cohort_ledger",
    "read": "manikin.io.tables",
    "read_cohort": "manikin.io.cohorts",
    "replay": "manikin.replaying",
    "verify": "manikin.release.seal",
    "write": "manikin.io.tables",
}
__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'manikin' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
