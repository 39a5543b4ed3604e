"""How the results are written: means with intervals, Markdown tables, text between markers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["BEGIN", "END", "grid", "mean", "number", "replaced", "spread", "student"]

BEGIN = "<!-- benchmark tables: written by benchmarks/tables.py, do not edit -->"
END = "<!-- end of benchmark tables -->"

_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the values that are numbers and half its 95 % t interval (NaN for one)."""
    known = np.array([value for value in values if math.isfinite(value)])
    if known.size == 0:
        return math.nan, math.nan
    if known.size == 1:
        return float(known[0]), math.nan
    half = student(known.size - 1) * known.std(ddof=1) / math.sqrt(known.size)
    return float(known.mean()), float(half)


def student(free: int) -> float:
    """Return the factor of a 95 % interval, of so many degrees of freedom."""
    return _STUDENT.get(free + 1, 1.96)


def number(value: float, places: int = 3) -> str:
    """Write a number; an en dash when there is none."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text


def mean(values: Sequence[float], places: int = 3) -> str:
    """Write mean ± half-width; the mean alone when there is one value."""
    centre, half = spread(values)
    if not math.isfinite(half):
        return number(centre, places)
    return f"{number(centre, places)} ± {number(half, places)}"


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(headers) - 1)]
    lines = [headers, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(text: str, body: str) -> str:
    """Return `text` with what stands between the markers replaced; they are added if absent."""
    block = f"{BEGIN}\n\n{body.strip()}\n\n{END}"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return f"{text.rstrip()}\n\n{block}\n".lstrip()
    return before + block + after
