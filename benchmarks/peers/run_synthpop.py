"""py-synthpop: sequential CART with its defaults."""

import sys

import numpy as np
from protocol import Job
from synthpop import Synthpop

job = Job(*sys.argv[1:])
np.random.seed(job.seed)
train = job.train.copy()
kinds = {}
for name in job.columns:
    numeric = name in job.numeric
    whole = numeric and train[name].notna().all() and (train[name] % 1 == 0).all()
    kinds[name] = "int" if whole else "float" if numeric else "category"
    train[name] = train[name].astype(kinds[name])
synthesizer = Synthpop(seed=job.seed)
job.run(lambda: synthesizer.fit(train, dict(kinds)), lambda: synthesizer.generate(job.n))
