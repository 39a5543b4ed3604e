"""ForestFlow, the flow of ForestDiffusion, with its defaults: 50 steps, 100 copies of each row.

As its authors' own script does (SamsungSAILMontreal/ForestDiffusion, script_generation.py), a
classification's outcome is the label and has models of its own. Missing values are recoded: it
learns from rows with gaps, but it draws none. Categories come last, because its decoder confuses
columns whose numbers end alike ("1_" is found in "11_").
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from ForestDiffusion import ForestDiffusionModel
from protocol import Job

job = Job(*sys.argv[1:])
roles = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))["roles"]
label = roles.get("target")
train = job.filled()
numeric = [name for name in train.columns if name in job.numeric]
coded = [name for name in train.columns if name not in job.numeric and name != label]
levels = {name: sorted(train[name].unique()) for name in train.columns if name not in job.numeric}
order = numeric + coded
values = np.column_stack(
    [train[name].to_numpy(dtype=np.float64) for name in numeric]
    + [train[name].map(levels[name].index).to_numpy(dtype=np.float64) for name in coded]
)
few = [order.index(name) for name in coded if len(levels[name]) < 3]
many = [order.index(name) for name in coded if len(levels[name]) >= 3]
whole = [i for i, name in enumerate(numeric) if (train[name] % 1 == 0).all()]
classes = None if label is None else train[label].map(levels[label].index).to_numpy(np.float64)
models = []


def fit():
    """Grow the trees of every step."""
    models.append(
        ForestDiffusionModel(
            X=values,
            label_y=classes,
            cat_indexes=many,
            bin_indexes=few,
            int_indexes=whole,
            diffusion_type=job.method,
            n_jobs=1,
            seed=job.seed,
        )
    )


def sample():
    """Draw, and put the categories back."""
    drawn = models[0].generate(batch_size=job.n)
    frame = dict(zip([*order, *([] if label is None else [label])], drawn.T, strict=True))
    for name, known in levels.items():
        frame[name] = [known[int(i)] for i in np.clip(np.round(frame[name]), 0, len(known) - 1)]
    return job.unfilled(pd.DataFrame(frame))


job.run(fit, sample, "missing values recoded")
