"""Folders of linked tables at the other doors: evaluate, audit, schema, replay, and refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import manikin as mk
from manikin.cli.app import app
from manikin.errors import InputError, ManikinError, NotSupported, OutputError, SchemaError
from manikin.io.cohorts import open_cohort
from manikin.io.schema_file import tables_to_yaml

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


def _said(frames: Any, topic: str, **options: Any) -> list[tuple[str, str]]:
    found = mk.audit(frames, **options).findings
    return [(one.severity, one.said) for one in found if one.topic == topic]


def test_an_audit_tells_links_and_each_tables_own() -> None:
    frames = {**ward(80, 1), "units": pl.DataFrame({"unit": ["mg", "ml"]})}
    found = mk.audit(frames)
    assert {column.name for column in found.columns} >= {"patients.sex", "values.crp"}
    assert found.n_subjects == 80 and found.n_rows == sum(f.height for f in frames.values()) - 2
    told = _said(frames, "links")
    visits = frames["visits"].height / 80
    assert any(f"{visits:.1f} rows a row of 'patients'; rows without any: none" in said
               for _, said in told)  # fmt: skip
    assert ("warn", "no key ties units to the other tables: left out") in told
    assert not _said(frames, "keys")


def test_an_audit_tells_keys_that_lead_nowhere_without_small_counts() -> None:
    frames = ward(80, 1)
    keys = frames["visits"]["patient_id"].to_list()
    lost = frames["visits"].with_columns(patient_id=pl.Series(["X1"] * 3 + keys[3:]))
    assert _said({**frames, "visits": lost}, "keys") == [
        ("stop", "fewer than 11 rows of 'visits' have a 'patient_id' that no row of 'patients' has")
    ]
    blank = frames["visits"].with_columns(patient_id=pl.Series([None] * 20 + keys[20:]))
    assert _said({**frames, "visits": blank}, "keys") == [
        ("stop", "'visits.patient_id' is missing in 20 rows")
    ]
    doubled = {**frames, "patients": pl.concat([frames["patients"], frames["patients"][:30]])}
    assert _said(doubled, "keys") == [
        ("stop", "the key 'patients.patient_id' repeats in 30 rows")
    ]  # and every table is examined all the same
    assert {c.name for c in mk.audit(doubled).columns} >= {"patients.sex", "values.crp"}


def test_references_that_disagree_are_told() -> None:
    frames = ward(80, 1)
    of = dict(frames["visits"].select("visit_id", "patient_id").iter_rows())
    named = [of[visit] for visit in frames["values"]["visit_id"]]
    both = frames["values"].with_columns(patient_id=pl.Series(["P0079"] * 20 + named[20:]))
    assert [s for _, s in _said({**frames, "values": both}, "keys")] == [
        "20 rows of 'values' refer to rows that do not belong together, or to none"
    ]


def test_a_schema_file_of_a_folder_reads_back(folders: dict[str, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["schema", str(folders["train"]), "--target", "sex"])
    assert done.exit_code == 0
    path = tmp_path / "schema.yaml"
    path.write_text(done.stdout)
    plain, again = (open_cohort(folders["train"], schema=s).cohort for s in (None, path))
    assert again.schema.links == plain.schema.links and again.schema.declared
    assert again.root.schema.holder("target") == again.root.schema["sex"]
    for name, table in plain.parts.items():
        assert [(c.name, c.kind, c.categories) for c in table.schema] == [
            (c.name, c.kind, c.categories) for c in again.parts[name].schema
        ]
        for column, values in table.columns.items():
            assert np.array_equal(values, again.parts[name].columns[column])
    assert "P0001" not in done.stdout and tables_to_yaml(again.schema).count("- name") == 8
    single = CliRunner().invoke(app, ["schema", str(folders["train"] / "visits.csv"),
                                      "--link", "a.b=c.d"])  # fmt: skip
    assert single.exit_code == 2


def test_the_audit_of_a_folder_at_the_command_line(folders: dict[str, Path]) -> None:
    done = CliRunner().invoke(app, ["audit", str(folders["synthetic"]), "--json"])
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert [f["topic"] for f in said["findings"] if f["severity"] == "stop"] == ["keys"]
    wrong = CliRunner().invoke(app, ["audit", str(folders["train"]), "--subject", "patient_id"])
    assert wrong.exit_code == 3


def test_what_takes_one_table_says_so_of_a_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for source in (folders["train"], ward(20, 1), mk.read_cohort(folders["train"])):
        for call in (
            lambda s: mk.compare(s, out=out),
            lambda s: mk.advise(s, minutes=0.1),
            lambda s: mk.augment(s, out=out / "a.csv", target="sex"),
        ):
            with pytest.raises(NotSupported, match="where one table is asked for") as caught:
                call(source)
            assert "--synthesizer NAME" in caught.value.todo and not out.exists()
    assert "patients.csv, values.csv, visits.csv" in str(_raised(folders["train"]))


def _raised(source: Path) -> ManikinError:
    with pytest.raises(NotSupported) as caught:
        mk.advise(source)
    return caught.value


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    """Files that are no table, tables without a common key, an empty table: typed, or at work."""
    frames = ward(40, 1)
    apart = {"patients": frames["patients"], "values": frames["values"].drop("visit_id")}
    with pytest.raises(SchemaError, match=r"no key ties .* --link values.COLUMN=patients.KEY"):
        mk.audit(apart)
    home = written(frames, tmp_path / "ward")
    (home / "values.csv").write_bytes(bytes(range(256)) * 20)
    for call in (mk.audit, mk.fit):
        with pytest.raises(InputError, match=r"'values\.csv' is not text"):
            call(home)
    frames["values"].clear().write_csv(home / "values.csv")
    drawn = mk.fit(home, synthesizer="table/marginals").sample(30, seed=1)
    assert drawn.parts["values"].n_rows == 0 and drawn.parts["visits"].n_rows > 0
    assert any("rows without any: all" in said for _, said in _said(home, "links"))
    with pytest.raises(OutputError, match="only an earlier release"):
        mk.synthesize(home, out=home, overwrite=True, profile="quick")
    assert sorted(path.name for path in home.iterdir()) == [
        "patients.csv", "values.csv", "visits.csv"]  # fmt: skip
