"""Folders of linked tables at the other doors: evaluate, audit, schema, replay, and refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin.errors import InputError, ManikinError, SchemaError

QUICK = ("validity/referential", "fidelity/cardinality", "fidelity/shapes")
Frames = dict[str, pl.DataFrame]


def ward(n: int, seed: int, first: int = 0) -> Frames:
    """Patients numbered from `first`; women have three visits, men one; two values a visit."""
    rng = np.random.default_rng(seed)
    female = rng.integers(0, 2, n)
    keys = np.array([f"P{first + i:04d}" for i in range(n)])
    of = np.repeat(np.arange(n), 1 + 2 * female)
    at = np.repeat(np.arange(of.size), 2)
    return {
        "patients": pl.DataFrame({"patient_id": keys, "sex": np.where(female, "f", "m"),
                                  "age": rng.integers(20, 90, n)}),
        "visits": pl.DataFrame({"visit_id": np.arange(of.size) + 7 * first,
                                "patient_id": keys[of], "ward": rng.choice(["A", "B"], of.size)}),
        "values": pl.DataFrame({"visit_id": at + 7 * first,
                                "crp": np.round(rng.lognormal(1, 1, at.size), 1)}),
    }  # fmt: skip


def written(frames: Frames, home: Path) -> Path:
    home.mkdir(parents=True)
    for name, frame in frames.items():
        frame.write_csv(home / f"{name}.csv")
    return home


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("wards")
    other = ward(80, 3)  # another tool's: its keys begin at 0 again, as the real ones do
    lost = np.where(np.arange(other["values"].height) < 20, 10**7, other["values"]["visit_id"])
    other["values"] = other["values"].with_columns(visit_id=lost)
    return {
        "train": written(ward(80, 1), home / "train"),
        "holdout": written(ward(60, 2, 500), home / "holdout"),
        "synthetic": written(other, home / "synthetic"),
    }


def test_folders_are_judged_as_tables_are(folders: dict[str, Path], tmp_path: Path) -> None:
    done = mk.evaluate(**folders, out=tmp_path / "report", metrics=QUICK)
    found = {(score.metric, score.group): score for score in done.scores}
    n = pl.read_csv(folders["synthetic"] / "values.csv").height
    assert found["validity/referential", "table=values"].value == pytest.approx(1 - 20 / n)
    assert found["validity/referential", "table=visits"].value == 1
    assert found["fidelity/cardinality.counts", "table=visits"].value > 0.8
    assert found["fidelity/shapes", "all"].floor is not None
    assert any("20 of the" in note and "'values'" in note for note in done.notes)
    assert done.data is None and mk.verify(done.directory).ok
    assert "Referential integrity" in done.report.read_text()
    said = json.loads((done.directory / "report.json").read_text())
    assert said["settings"]["synthetic"] == "synthetic"


def test_frames_and_cohorts_are_judged_too(folders: dict[str, Path], tmp_path: Path) -> None:
    train, held = ward(80, 1), ward(60, 2, 500)
    of_frames = mk.evaluate(
        train=train, holdout=held, synthetic=ward(80, 3), out=tmp_path / "a", metrics=QUICK
    )
    cohorts: dict[str, Any] = {
        "train": mk.read_cohort(train), "holdout": mk.read_cohort(held),
        "synthetic": mk.read_cohort(ward(80, 3)),
    }  # fmt: skip
    of_cohorts = mk.evaluate(**cohorts, out=tmp_path / "b", metrics=QUICK)
    for one, two in zip(of_frames.scores, of_cohorts.scores, strict=True):
        assert (one.metric, one.group) == (two.metric, two.group)
        assert one.value == pytest.approx(two.value, nan_ok=True, abs=1e-9)


def _without(frames: Frames, name: str) -> Frames:
    return {table: frame for table, frame in frames.items() if table != name}


@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("synthetic", lambda f: _without(f, "values"), "synthetic folder lacks the tables values"),
        ("synthetic", lambda f: {**f, "visits": f["visits"].rename({"ward": "Ward"})},
         "synthetic folder's 'visits' is not like the train folder's 'visits'"),
        ("holdout", lambda f: {**f, "values": f["values"].with_columns(visit_id=pl.lit(10**7))},
         "the holdout folder: .* rows of 'values' have a 'visit_id'"),
        ("synthetic", lambda f: {**f, "patients": pl.concat([f["patients"], f["patients"]])},
         "the synthetic folder: the key 'patients.patient_id' repeats in 80 rows"),
        ("holdout", lambda f: ward(60, 2), "subjects of the train table are in the holdout"),
        ("synthetic", lambda f: f["patients"], "linked tables, and one table: synthetic"),
        ("synthetic", lambda f: {n: t.clear() for n, t in f.items()}, "has no rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(part: str, wrong: Any, said: str, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"train": ward(80, 1), "holdout": ward(60, 2, 500),
                             "synthetic": ward(80, 3)}  # fmt: skip
    parts[part] = wrong(parts[part])
    with pytest.raises((InputError, SchemaError), match=said) as caught:
        mk.evaluate(**parts, out=tmp_path / "none", metrics=QUICK)
    assert caught.value.allowed and caught.value.todo and not (tmp_path / "none").exists()


def test_an_unknown_metric_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ManikinError, match="no metric"):
        mk.evaluate(train={}, holdout={}, synthetic={}, out=tmp_path / "x", metrics=["none"])
