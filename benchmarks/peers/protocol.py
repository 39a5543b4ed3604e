"""What every runner shares: read the training rows, time fit and sample, write the rows drawn.

Run inside a peer's own environment, so only pandas and the standard library are used, in a way
that both pandas 1.5 and 3 understand.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pandas as pd

MISSING = "missing"  # the recoded category of a cell without a value
FLAG = "__is_missing"  # the recoded 0/1 column beside a numeric one


def peak_rss_mb(children):
    """Return the largest resident size of this process, or of a child of it.

    The high-water mark of the address space, because ru_maxrss starts at what the parent held.
    """
    with open("/proc/self/status", encoding="utf-8") as file:
        marks = [line.split()[1] for line in file if line.startswith("VmHWM")]
    return max(int(marks[0]) / 1024, children)


class Job:
    """One peer, one training table, one seed; `numeric` and `categorical` are column names."""

    def __init__(self, train_path, spec_path, out_path, meta_path):
        with open(spec_path, encoding="utf-8") as file:
            spec = json.load(file)
        self.method, self.n, self.seed = spec["method"], spec["n"], spec["seed"]
        self.numeric, self.columns = spec["numeric"], spec["columns"]
        self.categorical = [name for name in self.columns if name not in set(self.numeric)]
        cells = pd.read_csv(train_path, dtype=str, keep_default_na=False)
        for name in self.numeric:
            cells[name] = pd.to_numeric(cells[name])
        for name in self.categorical:
            cells[name] = cells[name].astype(object).where(cells[name] != "", None)
        self.train, self.out_path, self.meta_path = cells, out_path, meta_path

    def filled(self):
        """Return the rows without missing values, for peers that cannot take them."""
        frame = {}
        for name in self.columns:
            cells = self.train[name]
            if name in self.categorical:
                frame[name] = cells.where(cells.notna(), MISSING).astype(object)
                continue
            frame[name] = cells.fillna(cells.median() if cells.notna().any() else 0.0)
            if cells.isna().any():
                frame[name + FLAG] = cells.isna().map({True: "1", False: "0"}).astype(object)
        return pd.DataFrame(frame)

    def unfilled(self, frame):
        """Undo `filled` on the rows drawn."""
        frame = frame.copy()
        for name in self.columns:
            if name in self.categorical:
                cells = frame[name].astype(object)
                frame[name] = cells.where(cells != MISSING, None)
            elif name + FLAG in frame:
                frame[name] = frame[name].where(frame[name + FLAG].astype(str) != "1")
        return frame[self.columns]

    def run(self, fit, sample, note=""):
        """Call `fit()` and `sample()`, write the rows and what they cost."""
        started = time.perf_counter()
        fit()
        fitted = time.perf_counter()
        drawn = sample()
        done = time.perf_counter()
        drawn[self.columns].to_csv(self.out_path, index=False)
        own = resource.getrusage(resource.RUSAGE_SELF)
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        meta = {
            "fit_seconds": fitted - started,
            "sample_seconds": done - fitted,
            "cpu_seconds": own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime,
            "peak_rss_mb": peak_rss_mb(below.ru_maxrss / 1024),
            "note": note,
            "python": sys.version.split()[0],
        }
        with open(self.meta_path, "w", encoding="utf-8") as file:
            json.dump(meta, file)
