"""The road of linked tables, from a folder to a sealed release."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin import pipeline
from manikin.errors import InputError, ManikinError, NotSupported, PrivacyError
from manikin.io.cohorts import read_cohort
from manikin.release.record import read_record

MIMIC = Path(os.environ.get("MANIKIN_REAL_DATA", "nowhere")) / "mimic3_demo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 patients: women have three visits, men one; every visit has two values or none."""
    home = tmp_path_factory.mktemp("ward")
    rng = np.random.default_rng(1)
    female = rng.integers(0, 2, 120)
    died = (rng.random(120) < 0.2 + 0.3 * female).astype(int)
    pl.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(120)],
            "sex": np.where(female, "f", "m"),
            "died": died,
        }
    ).write_csv(home / "patients.csv")
    of = np.repeat(np.arange(120), 1 + 2 * female)
    pl.DataFrame(
        {
            "visit_id": np.arange(of.size),
            "patient_id": [f"P{i:03d}" for i in of],
            "day": rng.integers(0, 365, of.size),
        }
    ).write_csv(home / "visits.csv")
    at = np.repeat(np.arange(of.size), 2 * rng.integers(0, 2, of.size))
    pl.DataFrame({"visit_id": at, "crp": np.round(rng.lognormal(1, 1, at.size), 1)}).write_csv(
        home / "values.csv")  # fmt: skip
    return home


@pytest.fixture(scope="module")
def release(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    return mk.synthesize(
        folder, out=tmp_path_factory.mktemp("made") / "release", target="died", profile="quick",
        synthesizer="table/seqtree", settings={"leaf": 15}, seed=3,
    )  # fmt: skip


def test_a_folder_becomes_a_sealed_release(release: pipeline.Outcome) -> None:
    here = {path.name for path in release.directory.iterdir()}
    assert {"patients.csv", "visits.csv", "values.csv", "report.html", "record.jsonl"} <= here
    assert mk.verify(release.directory).ok
    made = read_cohort(release.directory)
    assert made.n_subjects == 120 and made.schema.tree.order == ("patients", "visits", "values")
    real = set(pl.read_csv(release.directory / "patients.csv")["patient_id"])
    assert not real & {f"P{i:03d}" for i in range(120)}
    sex = np.array(made.root.schema["sex"].categories)[made.root.columns["sex"]]
    visits = np.bincount(made.above["visits"], minlength=120)
    assert visits[sex == "f"].mean() > 2.8 and visits[sex == "m"].mean() < 1.2


def test_scores_are_of_the_tables_and_of_one_row_a_subject(release: pipeline.Outcome) -> None:
    found = {score.metric: score for score in release.scores if score.group == "all"}
    assert found["validity/referential"].value == 1
    counted = found["fidelity/cardinality.counts"]
    assert counted.floor is not None and counted.value > counted.floor + 0.2
    assert "fidelity/cross_table.score" in found and "privacy/copies.exact" in found
    assert release.notes[0].startswith("The data are linked tables")
    page = (release.directory / "report.html").read_text()
    assert "Cardinality" in page and "Referential integrity" in page


def test_the_record_tells_links_and_recipe(release: pipeline.Outcome) -> None:
    told = {entry.event: entry.content for entry in read_record(release.record)}
    assert told["source"]["links"] == [
        "values.visit_id=visits.visit_id", "visits.patient_id=patients.patient_id"
    ] or set(told["source"]["links"]) == {
        "values.visit_id=visits.visit_id", "visits.patient_id=patients.patient_id"}  # fmt: skip
    assert told["fitted"]["synthesizer"] == "cohort/linked"
    assert told["fitted"]["recipe"]["recipe"]["leaf"] == 15
    assert told["closed"]["synthetic"] == ["patients.csv", "values.csv", "visits.csv"]
    metadata = json.loads((release.directory / "croissant.json").read_text())
    assert {one["name"] for one in metadata["distribution"]} == {
        "patients.csv", "visits.csv", "values.csv"}  # fmt: skip
    assert len(metadata["recordSet"]) == 3
    crate = json.loads((release.directory / "ro-crate-metadata.json").read_text())["@graph"]
    marked = {
        one["name"] for one in crate if one.get("hasSyntheticData") and one["@type"] == "File"
    }
    assert marked == {"patients.csv", "visits.csv", "values.csv"}


def test_a_release_of_linked_tables_comes_out_again(
    folder: Path, release: pipeline.Outcome, tmp_path: Path
) -> None:
    found = mk.replay(release.directory, data=folder)
    assert found.ok and found.same_split and found.same_model and found.same_data
    # one value of one table below is another: not the table that it was made from
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    text = (other / "values.csv").read_text().splitlines()
    text[1] = text[1].rpartition(",")[0] + ",0.1"
    (other / "values.csv").write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match="not the recorded one: cells differ"):
        mk.replay(release.directory, data=other)
    # the same cells, but one visit is another patient's
    shutil.copy(folder / "values.csv", other / "values.csv")
    text = (other / "visits.csv").read_text().replace(",P119,", ",P118,", 1)
    (other / "visits.csv").write_text(text)
    with pytest.raises(InputError, match="not the recorded one"):
        mk.replay(release.directory, data=other)
    with pytest.raises(InputError, match="is a file"):
        mk.replay(release.directory, data=folder / "patients.csv")


def test_an_altered_file_of_linked_tables_is_named(
    release: pipeline.Outcome, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(release.directory, copied)
    with (copied / "visits.csv").open("a") as file:
        file.write("9,P9,1\n")
    found = mk.verify(copied)
    assert not found.ok and any("visits.csv" in problem for problem in found.problems)


def test_the_same_seed_gives_the_same_bytes(
    folder: Path, release: pipeline.Outcome, tmp_path: Path
) -> None:
    again = mk.synthesize(
        folder, out=tmp_path / "again", target="died", profile="quick", settings={"leaf": 15},
        seed=3, links=["visits.patient_id=patients.patient_id"],
    )  # fmt: skip
    for name in ("patients.csv", "visits.csv", "values.csv"):
        one, two = (done.directory / name for done in (release, again))
        assert one.read_bytes() == two.read_bytes()


def test_conditions_choose_whom(folder: Path, tmp_path: Path) -> None:
    done = mk.synthesize(
        folder, out=tmp_path / "women", where="sex=f", n=40, profile="quick",
        synthesizer="cohort/linked", settings={"table": "table/marginals"},
    )  # fmt: skip
    made = read_cohort(done.directory)
    assert made.n_subjects == 40
    assert set(pl.read_csv(done.directory / "patients.csv")["sex"]) == {"f"}
    assert any("conditioned" in note for note in done.notes)


def test_what_linked_tables_do_not_have_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    for wrong, kind in (
        ({"refits": 3}, NotSupported),
        ({"split_by": "sex"}, NotSupported),
        ({"balance": "sex"}, NotSupported),
        ({"subject": "patient_id"}, InputError),
        ({"synthesizer": "auto"}, NotSupported),
        ({"links": ["visits.patient_id=patients.died"]}, ManikinError),
        ({"settings": {"nobody": 1}}, InputError),
    ):
        with pytest.raises(kind):
            mk.synthesize(folder, out=out, profile="quick", **wrong)
        assert not out.exists()
    with pytest.raises(InputError, match="one table"):
        mk.synthesize(folder / "patients.csv", out=out, links=["a.b=c.d"])
    with pytest.raises(InputError, match="one table"):
        mk.fit(folder / "patients.csv", synthesizer="cohort/linked")


def test_a_name_in_a_table_below_stops_the_release(folder: Path, tmp_path: Path) -> None:
    frames = {path.stem: pl.read_csv(path) for path in folder.glob("*.csv")}
    n = frames["visits"].height
    mails = [f"person{i}@example.org" for i in range(n)]
    frames["visits"] = frames["visits"].with_columns(pl.Series("surname", mails))
    try:
        mk.synthesize(frames, out=tmp_path / "r", profile="quick", synthesizer="table/marginals")
    except PrivacyError as error:
        assert error.given.startswith("visits: ")
    else:  # set aside and made anew
        assert "person1@" not in (tmp_path / "r" / "visits.parquet").read_bytes().decode("latin-1")


@pytest.mark.slow
@pytest.mark.skipif(not MIMIC.is_dir(), reason="the demonstration of MIMIC-III is not here")
def test_links_of_real_tables_are_found_and_kept(tmp_path: Path) -> None:
    """Stays hang on admissions, laboratory values on patients: some have no admission."""
    names = ("patients", "admissions", "icustays", "services", "d_labitems")
    for name in names:
        (tmp_path / f"{name}.csv.gz").symlink_to(MIMIC / f"{name}.csv.gz")
    cohort = read_cohort(tmp_path)
    tree = cohort.schema.tree
    assert tree.root == "patients" and set(tree.names) == set(names) - {"d_labitems"}
    assert {name: link.parent for name, link in tree.up.items()} == {
        "admissions": "patients", "icustays": "admissions", "services": "admissions"}  # fmt: skip
    model = mk.fit(cohort, synthesizer="table/marginals", seed=1)
    drawn = model.sample(100, seed=2)
    assert drawn.orphans == 0 and 60 < drawn.parts["icustays"].n_rows < 300
