"""Manikin makes synthetic patients from real ones and proves what they are worth."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(("audit", "evaluate", "fit", "sample", "synthesize"), "manikin.pipeline"),
    **dict.fromkeys(("load", "save"), "manikin.io.models"),
    **dict.fromkeys(("read", "write"), "manikin.io.tables"),
    "Budget": "manikin.privacy.budget",
    **dict.fromkeys(("Code", "EventSchema"), "manikin.data.codes"),
    **dict.fromkeys(("Column", "TableSchema"), "manikin.data.schema"),
    "Cohort": "manikin.data.cohort",
    "Events": "manikin.data.events",
    "Progress": "manikin.synthesizer",
    "Table": "manikin.data.table",
    "advise": "manikin.adviser",
    "augment": "manikin.augmenting",
    "combine": "manikin.metrics.combining",
    "compare": "manikin.comparison",
    "convert": "manikin.converting",
    "forecast": "manikin.risks",
    "privacy_ledger": "manikin.cohort_ledger",
    "read_cohort": "manikin.io.cohorts",
    "replay": "manikin.replaying",
    "verify": "manikin.release.seal",
}
__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'manikin' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
