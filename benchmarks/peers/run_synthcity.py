"""synthcity: its Bayesian network with its defaults; missing values recoded beforehand."""

import sys

from protocol import Job
from synthcity.plugins.core.dataloader import GenericDataLoader
from synthcity.plugins.generic.plugin_bayesian_network import plugin

job = Job(*sys.argv[1:])
train = job.filled()
synthesizer = plugin(random_state=job.seed)


def sample():
    """Draw, with the categories as texts again."""
    drawn = synthesizer.generate(job.n, random_state=job.seed).dataframe()
    drawn.columns = list(train.columns)
    for name in train.columns:
        if name not in job.numeric:
            drawn[name] = drawn[name].astype(object)
    return job.unfilled(drawn)


job.run(lambda: synthesizer.fit(GenericDataLoader(train)), sample, "missing values recoded")
