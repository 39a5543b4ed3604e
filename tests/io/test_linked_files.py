"""Folders of linked tables: what is read, what is refused, and how it is written."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin.data.cohort import Cohort
from manikin.errors import InputError, IntegrityError, ManikinError, OutputError, SchemaError
from manikin.io.cohorts import (
    files_from_json,
    files_to_json,
    is_cohort,
    open_cohort,
    read_cohort,
    writer_of,
)

PATIENTS = "patient_id;sex;alter\nÄ-001;f;63\nÄ-002;m;70\nÄ-003;f;58\n"
VISITS = pl.DataFrame(
    {"visit_id": [9, 8, 7], "patient_id": ["Ä-003", "Ä-001", "Ä-003"], "crp": [1.5, 2.5, None]}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "source"
    home.mkdir()
    (home / "patients.csv.gz").write_bytes(gzip.compress(PATIENTS.encode()))
    VISITS.write_parquet(home / "visits.parquet")
    pl.DataFrame({"unit": ["mg", "ml"]}).write_csv(home / "units.csv")
    for name in ("README.md", ".hidden.csv", "LICENSE.txt"):
        (home / name).write_text("nothing of this is a table\n")
    return home


def test_a_folder_is_read_and_written_in_its_own_formats(folder: Path, tmp_path: Path) -> None:
    opened = open_cohort(folder)
    assert opened.cohort.above["visits"].tolist() == [2, 0, 2]
    assert opened.linked.left_out == ("units",) and "units" in opened.linked.notes[-1]
    out = tmp_path / "out"
    out.mkdir()
    with writer_of(out, opened.files) as writer:
        writer.write(opened.cohort)
        writer.write(opened.cohort)
    assert sorted(path.name for path in out.iterdir()) == ["patients.csv.gz", "visits.parquet"]
    text = gzip.decompress((out / "patients.csv.gz").read_bytes()).decode()
    assert text.startswith("patient_id;sex;alter\n") and "Ä-001" not in text and "Ä-1" in text
    again = read_cohort(out)
    assert again.above["visits"].tolist() == [
        2,
        0,
        2,
        5,
        3,
        5,
    ]  # the second block hangs below its own
    assert pl.read_parquet(out / "visits.parquet").schema == VISITS.schema


def test_sources_of_linked_tables(folder: Path) -> None:
    assert is_cohort(folder) and is_cohort({"a": 1}) and not is_cohort(folder / "units.csv")
    frames = {"patients": folder / "patients.csv.gz", "visits": VISITS}
    assert mk.read_cohort(frames).n_rows == 6
    assert open_cohort(mk.read_cohort(frames)).cohort.n_rows == 6
    with pytest.raises(InputError, match="linked already"):
        open_cohort(mk.read_cohort(frames), links=["a.b=c.d"])


def test_roles_are_of_the_first_table(folder: Path) -> None:
    schema = open_cohort(folder, target="alter", sensitive=("sex",)).cohort.root.schema
    assert schema.holder("target") == schema["alter"]
    with pytest.raises(SchemaError, match="no column named 'crp'"):
        open_cohort(folder, target="crp")


def test_what_cannot_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "units.csv"
    for source, said in ((folder / "no", "does not exist"), (file, "is a file"), ({}, "no table")):
        with pytest.raises(InputError, match=said):
            read_cohort(source)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds 0 tables"):
        read_cohort(empty)
    (folder / "visits.csv").write_text("patient_id,x\nÄ-001,2\n")
    with pytest.raises(InputError, match=r"'visits.csv' and 'visits.parquet'"):
        read_cohort(folder)


def test_a_schema_file_names_links_and_columns(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cohort.yaml"
    path.write_text(
        "links:\n  - visits.patient_id=patients.patient_id\n"
        "tables:\n  patients:\n    columns:\n      - name: patient_id\n        kind: identifier\n"
        "      - {name: sex, kind: categorical, categories: [f, m, x]}\n"
        "      - {name: alter, kind: integer}\n"
    )
    cohort = read_cohort(folder, schema=path)
    assert cohort.schema.parts["patients"]["sex"].categories == ("f", "m", "x")
    assert cohort.schema.parts["patients"].declared and not cohort.schema.declared
    for text, said in (("columns: []\n", "none of linked"), ("links: x\n", "none of linked"),
                       ("tables:\n  nobody:\n    columns: []\n", "tables that there are not"),
                       ("links: [a.b]\n", "no link"), ("- 1\n", "none of linked")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ManikinError, match=said):
            read_cohort(folder, schema=path)


def test_files_of_a_strangers_model_stay_in_their_folder(folder: Path, tmp_path: Path) -> None:
    files = open_cohort(folder).files
    document = json.loads(json.dumps(files_to_json(files)))
    assert files_from_json(document, tuple(files)) == files
    assert files_from_json(None, ("a",))["a"][0] == "a.csv"
    for name in ("../x.csv", "/x.csv", ".x.csv", "", 3):
        wrong = {**document, "visits": {"file": name, "layout": None}}
        with pytest.raises(IntegrityError):
            files_from_json(wrong, tuple(files))
    with pytest.raises(IntegrityError):
        files_from_json({}, ("a",))
    elsewhere = files_from_json(None, ("../patients", "visits"))
    for wrong_files in (elsewhere, {"a": files["visits"], "b": files["visits"]}):
        with pytest.raises(OutputError), writer_of(tmp_path, wrong_files):
            pass
    assert not (tmp_path.parent / "patients.csv").exists()


def test_a_model_file_of_linked_tables(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    people = pl.DataFrame({"p_id": range(40), "age": rng.integers(20, 80, 40)})
    events = pl.DataFrame({"p_id": rng.integers(0, 40, 70), "x": rng.normal(size=70).round(2)})
    frames = {"people": people, "events": events}
    path = tmp_path / "m.manikin"
    model = mk.fit(frames, synthesizer="table/marginals", out=path, seed=1)
    loaded = mk.load(path)
    assert loaded.synthesizer == "cohort/linked" and loaded.schema == model.schema
    one, two = model.sample(9, seed=3), loaded.model.sample(9, seed=3)
    assert isinstance(one, Cohort) and np.array_equal(one.above["events"], two.above["events"])
    mk.sample(path, n=12, out=tmp_path / "new", where="age>=40")
    made = read_cohort(tmp_path / "new")
    assert made.n_subjects == 12 and made.root.columns["age"].min() >= 40
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "events.parquet", "people.parquet"]  # fmt: skip
    for wrong in ({"out": tmp_path / "new"}, {"out": tmp_path / "b", "balance": "age"}):
        with pytest.raises(ManikinError):
            mk.sample(path, n=5, **wrong)
    assert not (tmp_path / "b").exists()
    few = {"people": people.head(5), "events": events.filter(pl.col("p_id") < 5)}
    with pytest.raises(InputError, match="fewer than 11 subjects"):
        mk.fit(few)
