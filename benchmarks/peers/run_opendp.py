"""OpenDP: MST and AIM of its `extras.mbi` with their defaults.

Every column has its keys: the public categories, or 20 even bins of a number. Of what is drawn, a
number lies anywhere in its bin; OpenDP's own `cuts` would draw numbers of the outermost bins no
further than 1 from their edge. With all keys given it takes no δ, so the budget is handed over as
the largest ρ whose (ε, δ) it is (Canonne, Kamath and Steinke, NeurIPS 2020, prop. 12). Its MST
divides a budget into equal parts whose sum, rounded up, may exceed it by one unit in the last place
and is then refused; the parts are made smaller by 1e-12 of themselves.
"""

import sys

import numpy as np
import opendp.extras.mbi._mst
import opendp.prelude as dp
import polars as pl
from protocol import Job
from public import Public

opendp.extras.mbi._mst.prior = lambda part: part * (1 - 1e-12)
METHODS = {"mst": dp.mbi.MST, "aim": dp.mbi.AIM}

dp.enable_features("contrib")
job = Job(*sys.argv[1:])
told = Public(job, sys.argv[2])
train = told.binned()
tables = []


def delta_of(rho):
    """Return δ at the ε of the budget."""
    order = 1 + np.exp(np.linspace(-6, 10, 4000))
    exponent = (order - 1) * (order * rho - told.epsilon) + order * np.log1p(-1 / order)
    return float(np.exp(exponent - np.log(order - 1)).min())


def most_rho():
    """Return the largest ρ that keeps δ, by halving."""
    low, high = 0.0, told.epsilon
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) <= told.delta else (low, middle)
    return low


def fit():
    """Count and fit."""
    np.random.seed(job.seed)
    cells = {name: train[name].tolist() for name in train}
    rows = pl.LazyFrame(cells, dict.fromkeys(train, pl.String))
    keys = {name: told.levels(name) for name in train}
    context = dp.Context.compositor(
        data=rows,
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(rho=most_rho()),
        split_evenly_over=1,
    )
    asked = context.query().contingency_table(keys=keys, algorithm=METHODS[job.method]())
    tables.append(asked.release())


def sample():
    """Draw; a key that is none (everybody's) counts as the commonest level."""
    drawn = tables[0].synthesize(job.n).to_pandas()
    for name in drawn:
        known = drawn[name].dropna()
        common = known.mode().iloc[0] if len(known) else told.levels(name)[0]
        drawn[name] = drawn[name].where(drawn[name].notna(), common)
    return told.unbinned(drawn)


job.run(fit, sample)
