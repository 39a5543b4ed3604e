"""What every method under a privacy budget is told beforehand, and a coding made of that alone.

`spec.json` says of each column which categories it may hold, or between which bounds its numbers
lie and with how many decimals, and whether a cell may be empty. Nothing here looks at a row to
decide how it is coded.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from protocol import FLAG, MISSING

BINS = 20  # even ones, between the bounds


class Public:
    """The public facts, ε and δ of one run."""

    def __init__(self, job, spec_path):
        spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
        self.columns, self.epsilon, self.delta = spec["public"], spec["epsilon"], spec["delta"]
        self.job = job
        self.rng = np.random.default_rng(job.seed)

    def levels(self, name):
        """Return the codes that a column of `binned` may hold."""
        fact = self.columns[name]
        known = fact.get("categories", [str(i) for i in range(BINS)])
        return [*known, MISSING] if fact["missing"] else list(known)

    def binned(self):
        """Return the training rows with every column a text: a category, an even bin, a gap."""
        frame = {}
        for name in self.job.columns:
            cells = self.job.train[name]
            if name in self.job.numeric:
                place = np.searchsorted(self._edges(name)[1:-1], cells.to_numpy(float), "right")
                cells = pd.Series(place.astype(str), dtype=object).where(cells.notna(), None)
            frame[name] = cells.where(cells.notna(), MISSING).astype(object)
        return pd.DataFrame(frame)

    def unbinned(self, frame):
        """Undo `binned` on the rows drawn: a number lies anywhere in its bin."""
        whole = {}
        for name in self.job.columns:
            cells = frame[name].astype(object)
            cells = cells.where(cells != MISSING, None)
            if name in self.job.numeric:
                edges, place = self._edges(name), cells.notna().to_numpy()
                bins = cells[place].astype(int).to_numpy()
                values = np.full(len(cells), np.nan)
                values[place] = self.rng.uniform(edges[bins], edges[bins + 1])
                cells = pd.Series(self._written(name, values))
            whole[name] = cells.reset_index(drop=True)
        return pd.DataFrame(whole)

    def filled(self):
        """Return the training rows with gaps recoded: a category, or the middle and a flag."""
        frame = {}
        for name in self.job.columns:
            cells, fact = self.job.train[name], self.columns[name]
            if name not in self.job.numeric:
                frame[name] = cells.where(cells.notna(), MISSING).astype(object)
                continue
            middle = (fact["minimum"] + fact["maximum"]) / 2
            frame[name] = cells.fillna(round(middle, fact["decimals"]))
            if not fact["decimals"]:
                frame[name] = frame[name].astype(np.int64)
            if fact["missing"]:
                frame[name + FLAG] = cells.isna().map({True: "1", False: "0"}).astype(object)
        return pd.DataFrame(frame)

    def _edges(self, name):
        fact = self.columns[name]
        return np.linspace(fact["minimum"], fact["maximum"], BINS + 1)

    def _written(self, name, values):
        return np.round(values, self.columns[name]["decimals"])
