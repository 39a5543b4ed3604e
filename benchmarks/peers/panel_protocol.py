"""What the runners of panels share: read subjects and visits, count what it costs, write visits.

Run inside a peer's own environment, so only pandas and the standard library are used. A subject is
a row of facts; a visit is a row with the subject's number, a date, and a cell for each channel.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

import pandas as pd
from protocol import peak_rss_mb

SUBJECT, DATE = "subject", "date"


class Panel:
    """One peer, one training panel, one seed."""

    def __init__(self, folder):
        with open(f"{folder}/spec.json", encoding="utf-8") as file:
            spec = json.load(file)
        self.folder, self.n, self.seed = folder, spec["n"], spec["seed"]
        self.numeric = spec["numeric"]  # columns of facts and channels that are numbers
        self.facts, self.visits = (self._read(name) for name in ("facts", "visits"))
        self.visits[DATE] = pd.to_datetime(self.visits[DATE])

    def _read(self, name):
        cells = pd.read_csv(f"{self.folder}/{name}.csv", dtype=str, keep_default_na=False)
        for column in cells.columns:
            if column == SUBJECT:
                cells[column] = cells[column].astype("int64")
            elif column in self.numeric:
                cells[column] = pd.to_numeric(cells[column])
            elif column != DATE:
                cells[column] = cells[column].astype(object).where(cells[column] != "", None)
        return cells

    @property
    def own(self):
        """Columns of facts, without the subject's number."""
        return [name for name in self.facts.columns if name != SUBJECT]

    @property
    def channels(self):
        """Columns of visits, without number and date."""
        return [name for name in self.visits.columns if name not in (SUBJECT, DATE)]

    def run(self, fit, sample):
        """Call `fit()` and `sample()`, which returns facts and visits; write them and the cost."""
        signal.signal(signal.SIGXCPU, self._stopped)
        started = _spent()
        fit()
        fitted = _spent()
        facts, visits = sample()
        done = _spent()
        facts[[SUBJECT, *self.own]].to_csv(f"{self.folder}/drawn_facts.csv", index=False)
        columns = [SUBJECT, DATE, *self.channels]
        visits[columns].to_csv(f"{self.folder}/drawn_visits.csv", index=False)
        self._cost(fit_seconds=fitted - started, sample_seconds=done - fitted)

    def _cost(self, **seconds):
        below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        with open(f"{self.folder}/cost.json", "w", encoding="utf-8") as file:
            json.dump({**seconds, "peak_mb": peak_rss_mb(below)}, file)

    def _stopped(self, *_):
        """Write how much memory it took so far, and end as if this were not here."""
        self._cost()
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGXCPU)


def panel():
    """Return the panel of the folder that the command names."""
    return Panel(sys.argv[1])


def _spent():
    """Return the processor seconds of this process and its children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
