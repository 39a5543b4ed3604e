"""What each family reached on the benchmark's clinical tables: figures that `benchmarks/` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Figures", "measured"]

FILE = Path(__file__).parent / "measured.yaml"


@dataclass(frozen=True)
class Figures:
    """One family, its defaults, over all tables: rows to learn from and rows held out are halves.

    `detection` is 1 where boosted trees cannot tell drawn rows from held-out ones, 0 where they
    always can; `nearer` is the share of drawn rows nearer to a training row than to a held-out one.
    """

    tables: int
    detection: float  # mean over tables
    worst: float  # the lowest detection score
    best_on: int  # tables on which no other family scores higher
    gap: float  # TRTR - TSTR, mean over tables
    nearer: float  # mean over tables
    seconds: float  # of processor time to start, fit and draw, median of the tables
    floor: float  # detection of independent columns
    ceiling: float  # detection of fresh real rows

    @property
    def text(self) -> str:
        """The figures in words."""
        tables = f"{self.tables} clinical table{'s' * (self.tables != 1)}"
        return (
            f"detection {self.detection:.2f} on average of {tables}, {self.worst:.2f} at worst"
            f" (fresh real rows {self.ceiling:.2f}, independent columns {self.floor:.2f}), the best"
            f" of the families on {self.best_on}; TSTR gap {self.gap:.3f}; share nearer to training"
            f" rows {self.nearer:.2f}; {self.seconds:.0f} s of processor time to fit and draw"
        )


def measured(name: str) -> Figures | None:
    """Return what is known of a synthesizer, None if it was not measured."""
    document = _read()
    found = document["families"].get(name)
    if found is None:
        return None
    return Figures(**found, floor=document["floor"], ceiling=document["ceiling"])


@cache
def _read() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found
