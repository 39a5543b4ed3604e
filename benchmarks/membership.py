"""How well the strongest membership attack tells training rows from held-out ones, pooled.

The attacks, and the rule that picks the strongest on half of the targets and reports it on the
other half, are those of `manikin.metrics.privacy.membership`; half of the held-out rows are the
strangers, the other half is what the attacker holds. Tables here have 142 to 10,000 training rows,
so the area of a single one is uncertain by .03 to .1: the areas are joined by inverse variance.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from coding import _decimals
from experiments import Split

from manikin.data.parse import parse
from manikin.data.table import Table
from manikin.metrics.privacy.membership import NAME, membership
from manikin.metrics.score import Trial

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from run_manikin import declared

__all__ = ["attacked", "pooled"]

Z = 1.959964


def attacked(split: Split, rows: pd.DataFrame) -> dict[str, float | str]:
    """Return the strongest attack's area on targets it was not picked on, and its interval."""
    found = membership(Trial(*_tables(split, rows)), seed=split.seed)
    score = next(s for s in found if s.metric == f"{NAME}.auc" and s.group == "all")
    low, high = score.interval
    numbers = {"auc": score.value, "low": low, "high": high}
    return {**{k: round(v, 5) for k, v in numbers.items()}, "note": score.note}


def _tables(split: Split, rows: pd.DataFrame) -> tuple[Table, Table, Table]:
    """Return training, held-out and drawn rows in one schema, numbers rounded as when judged."""
    numeric = [name for name in split.train.columns if name in split.experiment.numeric]
    drawn = rows.copy()
    for name in numeric:
        places = _decimals(pd.to_numeric(split.train[name], errors="coerce").to_numpy())
        values = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
        drawn[name] = [f"{v:.{places}f}" if math.isfinite(v) else "" for v in values]
    frames = [pl.from_pandas(f.astype(str)) for f in (split.train, split.holdout, drawn)]
    schema = declared(pl.concat(frames), numeric)
    train, holdout, synthetic = (parse(frame, schema) for frame in frames)
    return train, holdout, synthetic


def pooled(areas: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the joint area and the upper end of its 95 % interval; NaN of none."""
    if not areas:
        return math.nan, math.nan
    error = np.array([(a["high"] - a["low"]) / (2 * Z) for a in areas])
    weight = 1 / np.square(error)
    centre = float(np.average([a["auc"] for a in areas], weights=weight))
    return centre, centre + Z / math.sqrt(float(weight.sum()))
