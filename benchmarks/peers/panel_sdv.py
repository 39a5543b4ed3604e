"""SDV: PAR of DeepEcho with its defaults; facts are its context, which a Gaussian copula draws."""

import numpy as np
import torch
from panel_protocol import DATE, SUBJECT, panel
from sdv.metadata import Metadata
from sdv.sequential import PARSynthesizer

job = panel()
np.random.seed(job.seed)
torch.manual_seed(job.seed)
columns = {
    name: {"sdtype": "numerical" if name in job.numeric else "categorical"}
    for name in [*job.own, *job.channels]
}
columns[SUBJECT] = {"sdtype": "id"}
columns[DATE] = {"sdtype": "datetime"}
table = {"columns": columns, "sequence_key": SUBJECT, "sequence_index": DATE}
metadata = Metadata.load_from_dict({"tables": {"visits": table}, "relationships": []})
synthesizer = PARSynthesizer(metadata, context_columns=job.own, cuda=False)


def sample():
    """Draw subjects with their visits; facts are repeated in every row."""
    drawn = synthesizer.sample_sequences(job.n)["visits"]
    return drawn.drop_duplicates(SUBJECT), drawn


whole = job.visits.merge(job.facts, on=SUBJECT)
# since version 2 a table is handed over, and comes back, as a dictionary of one
job.run(lambda: synthesizer.fit({"visits": whole}), sample)
