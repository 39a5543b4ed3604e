"""dpmm: MST, AIM and PrivBayes with their defaults; the domain is given, PrivTree divides numbers.

ε of the method and of its processing add up, so the processing's default of 0.1 is taken off. It
still reads, unpaid: how many rows there are, and which columns hold one value only.
"""

import sys

from dpmm.pipelines.aim import AIMPipeline
from dpmm.pipelines.mst import MSTPipeline
from dpmm.pipelines.priv_bayes import PrivBayesPipeline
from protocol import FLAG, Job
from public import Public

METHODS = {"mst": MSTPipeline, "aim": AIMPipeline, "priv_bayes": PrivBayesPipeline}
PROCESSING = 0.1

job = Job(*sys.argv[1:])
told = Public(job, sys.argv[2])
train = told.filled()
domain = {}
for name, fact in told.columns.items():
    if name in job.numeric:
        domain[name] = {"lower": fact["minimum"], "upper": fact["maximum"]}
        domain[name + FLAG] = {"categories": ["0", "1"]}
    else:
        domain[name] = {"categories": told.levels(name)}
model = METHODS[job.method](
    epsilon=told.epsilon - PROCESSING, delta=told.delta, proc_epsilon=PROCESSING
)


def sample():
    """Draw, and put the gaps back."""
    return job.unfilled(model.generate(n_records=job.n, random_state=job.seed))


job.run(
    lambda: model.fit(train, {name: domain[name] for name in train}, random_state=job.seed), sample
)
