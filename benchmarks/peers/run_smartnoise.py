"""smartnoise-synth: MST and AIM with their defaults, on public categories and 20 even bins.

Its transformer is fitted to made-up rows that hold every public category: fitted to the private
rows it would read the categories from them, unpaid. It still reads how many rows there are.
"""

import sys

import numpy as np
import pandas as pd
from protocol import Job
from public import Public
from snsynth.aim import AIMSynthesizer
from snsynth.mst import MSTSynthesizer
from snsynth.transform.label import LabelTransformer
from snsynth.transform.table import TableTransformer

METHODS = {"mst": MSTSynthesizer, "aim": AIMSynthesizer}

job = Job(*sys.argv[1:])
told = Public(job, sys.argv[2])
train = told.binned()
levels = {name: told.levels(name) for name in train}
longest = max(len(known) for known in levels.values())
invented = pd.DataFrame(
    {name: [known[i % len(known)] for i in range(longest)] for name, known in levels.items()}
)
transformer = TableTransformer([LabelTransformer(nullable=False) for _ in levels])
transformer.fit(invented)
np.random.seed(job.seed)
model = METHODS[job.method](epsilon=told.epsilon, delta=told.delta)
job.run(
    lambda: model.fit(train, transformer=transformer),
    lambda: told.unbinned(model.sample(job.n).set_axis(list(train), axis=1)),
)
