"""Several synthesizers on one split: what is compared, what is written, and who fails alone."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manikin as mk
from manikin import catalogue, comparison
from manikin.errors import InputError, NotSupported, Stopped
from manikin.release.record import read_record

TWO = ("table/marginals", "table/copula")


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    ages = rng.integers(20, 90, 260)
    lines = [f"{a},{'FM'[i % 2]},{2 * a + rng.integers(0, 5)}" for i, a in enumerate(ages)]
    path = tmp_path_factory.mktemp("source") / "p.csv"
    path.write_text("\n".join(["age,sex,weight", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def compared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> comparison.Compared:
    out = tmp_path_factory.mktemp("out") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        return mk.compare(source, synthesizers=TWO, out=out, seed=3)


def test_everyone_is_judged_on_the_same_rows(compared: comparison.Compared) -> None:
    assert tuple(one.name for one in compared.contenders) == TWO
    floors, ceilings = (
        [{(s.metric, s.group): getattr(s, end) for s in one.scores} for one in compared.contenders]
        for end in ("floor", "ceiling")
    )
    assert floors[0] == floors[1] and ceilings[0] == ceilings[1]
    trends = [
        next(s.value for s in one.scores if s.metric == "fidelity/trends")
        for one in compared.contenders
    ]
    assert trends[1] > trends[0] + 0.05  # age and weight go together, not in independent columns
    assert all(one.controls for one in compared.contenders)


def test_evidence_is_written_and_no_data(compared: comparison.Compared) -> None:
    names = {path.name for path in compared.directory.iterdir()}
    assert names >= {"comparison.json", "record.jsonl", "MANIFEST.sha256"}
    assert not [name for name in names if name.endswith(".csv")]
    assert mk.verify(compared.directory).ok
    document = json.loads(compared.comparison.read_text())
    assert [one["name"] for one in document["synthesizers"]] == list(TWO)
    score = document["synthesizers"][0]["scores"][0]
    assert {"metric", "value", "low", "high", "floor", "ceiling"} <= set(score)
    events = [entry.event for entry in read_record(compared.record)]
    assert events == ["started", "source", "split", *["fitted", "sampled", "judged"] * 2, "closed"]


def test_all_for_tables_are_compared_by_default_and_data_come_on_request(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "names", lambda: ("images/other", "table/marginals"))
    found = mk.compare(source, out=tmp_path / "c", with_data=True, n=40)
    (one,) = found.contenders
    assert one.name == "table/marginals" and one.data is not None
    assert one.data.name == "table-marginals.csv" and len(one.data.read_text().splitlines()) == 41


def test_one_that_fails_does_not_stop_the_others(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manikin.synthesizers.table.copula import GaussianCopula

    def fit(self: Any, data: Any, **options: Any) -> Any:
        raise NotSupported("a table of this kind", "another", "choose another")

    monkeypatch.setattr(GaussianCopula, "fit", fit)
    found = mk.compare(source, synthesizers=TWO, out=tmp_path / "c", with_data=True)
    assert [bool(one.failed) for one in found.contenders] == [False, True]
    assert "a table of this kind" in found.contenders[1].failed
    assert not (found.directory / "table-copula.csv").exists()
    assert "failed" in [entry.event for entry in read_record(found.record)]
    with pytest.raises(NotSupported, match="none of the synthesizers"):
        mk.compare(source, synthesizers=("table/copula",), out=tmp_path / "d")
    assert os.listdir(tmp_path) == ["c"]


def test_what_is_wrong_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NotSupported):
        mk.compare(source, synthesizers=("table/none",), out=tmp_path / "c")
    with pytest.raises(InputError, match="not compared"):
        mk.compare(
            source, synthesizers=TWO, settings={"table/seqtree": {"leaf": 3}}, out=tmp_path / "c"
        )
    with pytest.raises(Stopped):
        mk.compare(
            source,
            synthesizers=TWO,
            out=tmp_path / "c",
            watch=lambda p: p.what.startswith("table/copula (2 of 2), judging"),
        )
    assert os.listdir(tmp_path) == []
