"""SDV: Gaussian copula, CTGAN and TVAE with their defaults."""

import sys

import numpy as np
import torch
from protocol import Job
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

METHODS = {
    "copula": GaussianCopulaSynthesizer,
    "ctgan": CTGANSynthesizer,
    "tvae": TVAESynthesizer,
}

job = Job(*sys.argv[1:])
np.random.seed(job.seed)
torch.manual_seed(job.seed)
kinds = {
    name: {"sdtype": "numerical" if name in job.numeric else "categorical"} for name in job.columns
}
metadata = Metadata.load_from_dict({"tables": {"table": {"columns": kinds}}, "relationships": []})
synthesizer = METHODS[job.method](metadata)
# since version 2 a table is handed over, and comes back, as a dictionary of one
job.run(
    lambda: synthesizer.fit({"table": job.train}),
    lambda: synthesizer.sample(job.n)["table"],
)
