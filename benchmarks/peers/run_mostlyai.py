"""MOSTLY AI engine: TabularARGN with its defaults."""

import sys
import tempfile

from mostlyai.engine import TabularARGN
from protocol import Job

job = Job(*sys.argv[1:])
kinds = {
    name: "TABULAR_NUMERIC_AUTO" if name in job.numeric else "TABULAR_CATEGORICAL"
    for name in job.columns
}
with tempfile.TemporaryDirectory() as workspace:
    model = TabularARGN(
        tgt_encoding_types=kinds, workspace_dir=workspace, random_state=job.seed, device="cpu"
    )
    job.run(lambda: model.fit(job.train), lambda: model.sample(job.n))
