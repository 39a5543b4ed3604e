"""arfpy: adversarial random forests with their defaults; missing values recoded beforehand."""

import sys

import numpy as np
from arfpy import arf
from protocol import Job

job = Job(*sys.argv[1:])
np.random.seed(job.seed)
train = job.filled()
fitted = []


def fit():
    """Grow the forest and estimate the densities in its leaves."""
    fitted.append(arf.arf(x=train, verbose=False, random_state=job.seed))
    fitted[0].forde()


job.run(fit, lambda: job.unfilled(fitted[0].forge(job.n)), "missing values recoded")
