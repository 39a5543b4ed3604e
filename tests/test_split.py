"""The split of a run: by site on request, and nothing that is fitted sees who is held out."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from manikin import pipeline
from manikin.data.dataset import split_subjects
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.release.record import read_record


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


def table() -> Table:
    rng = np.random.default_rng(0)
    n = 240
    age = np.round(rng.normal(60, 12, n), 1)
    site = np.array(["Ulm", "Bern", "Graz", "Lyon"])[np.arange(n) % 4]
    return Table.from_frame(
        pl.DataFrame({"age": age, "crp": np.round(age / 9 + rng.gamma(2, 3, n), 1), "site": site})
    )


def made(source: Table, out: Path, **options: object) -> pipeline.Outcome:
    return pipeline.synthesize(
        source, out=out, synthesizer="table/copula", profile="quick", seed=4, **options
    )  # type: ignore[arg-type]


def test_what_is_held_out_is_seen_by_nothing_that_is_fitted(tmp_path: Path) -> None:
    """Other values in held-out rows change the scores, and neither the model nor the data."""
    one = table()
    _, held = split_subjects(one, (0.7, 0.3), seed=4)
    inside = np.isin(one.subjects, held.subjects)
    columns = {name: values.copy() for name, values in one.columns.items()}
    columns["age"][inside] = columns["age"][inside][::-1] + 15
    two = Table(one.schema, one.subjects, columns, one.states)
    runs = [made(source, tmp_path / str(i)) for i, source in enumerate((one, two))]
    data = [(run.directory / "data.csv").read_bytes() if run.data is None else
            run.data.read_bytes() for run in runs]  # fmt: skip
    assert data[0] == data[1]
    fitted = [
        next(e.content for e in read_record(run.record) if e.event == "fitted") for run in runs
    ]
    assert fitted[0] == fitted[1]
    shapes = [
        next(s.value for s in run.scores if (s.metric, s.group) == ("fidelity/shapes", "all"))
        for run in runs
    ]
    assert shapes[0] > shapes[1] + 0.05


def test_a_run_holds_whole_sites_out_and_says_what_that_means(tmp_path: Path) -> None:
    run = made(table(), tmp_path / "r", split_by="site", holdout=0.25, refits=3)
    events = {entry.event: entry.content for entry in read_record(run.record)}
    assert events["split"]["by"] == "site" and events["split"]["holdout"]["subjects"] == 60
    assert events["refitted"]["own_split"] is False  # though so few would be split anew
    assert any("'site'" in note and "membership" in note for note in run.notes)
    assert "site" in json.dumps(
        json.loads(run.report.with_name("report.json").read_text())["limits"]
    )


def test_a_column_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'ward'"):
        made(table(), tmp_path / "r", split_by="ward")
    assert not (tmp_path / "r").exists()
