"""MOSTLY AI engine: TabularARGN of subjects, and sequential of their visits, with its defaults.

Facts are the context table; new subjects' facts are drawn by a flat model of it, as the engine's
own platform does. Dates are of its kind for intervals within a subject.
"""

import tempfile

import pandas as pd
from mostlyai.engine import TabularARGN
from panel_protocol import DATE, SUBJECT, panel

job = panel()


def kinds(names):
    """Return how each column is told to the engine."""
    found = {name: "TABULAR_NUMERIC_AUTO" for name in names if name in job.numeric}
    return {name: found.get(name, "TABULAR_CATEGORICAL") for name in names}


with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
    settings = {"random_state": job.seed, "device": "cpu"}
    people = TabularARGN(tgt_encoding_types=kinds(job.own), workspace_dir=one, **settings)
    visits = TabularARGN(
        tgt_context_key=SUBJECT,
        tgt_encoding_types={DATE: "TABULAR_DATETIME_RELATIVE", **kinds(job.channels)},
        ctx_data=job.facts,
        ctx_primary_key=SUBJECT,
        ctx_encoding_types=kinds(job.own),
        workspace_dir=two,
        **settings,
    )

    def fit():
        """Train both models."""
        people.fit(job.facts[job.own])
        visits.fit(job.visits)

    def sample():
        """Draw facts, then visits of these subjects."""
        facts = people.sample(job.n)
        facts.insert(0, SUBJECT, range(job.n))
        drawn = visits.sample(ctx_data=facts)
        drawn[DATE] = pd.to_datetime(drawn[DATE])
        return facts, drawn

    job.run(fit, sample)
