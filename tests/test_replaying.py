"""A recorded release comes out again, from its own table and under its own key only."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import manikin as mk
from manikin import catalogue, pipeline
from manikin.cli.app import app
from manikin.errors import InputError, IntegrityError, NotSupported
from manikin.io.schema_file import to_yaml
from manikin.release.record import RECORD, Record, read_record

FAST = "table/marginals"


def visits(n: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    of = np.sort(rng.integers(0, n // 2, n))
    return pl.DataFrame(
        {
            "patient": [f"P{i:04d}" for i in of],
            "age": rng.integers(20, 90, n),
            "sex": ["FM"[i % 2] for i in of],
            "crp": np.round(rng.gamma(2, 5, n), 1),
            "died": ["no" if u < 0.7 else "yes" for u in rng.random(n)],
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    visits().write_csv(folder / "visits.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        pipeline.synthesize(
            folder / "visits.csv", out=folder / "made", synthesizer="table/seqtree",
            settings={"leaf": 7}, subject="patient", target="died", sensitive=("sex",),
            where="sex=F,age>=40", n=70, holdout=0.4, profile="quick", seed=11,
        )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


@pytest.fixture
def release(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "made", tmp_path / "made"))


def rewritten(release: Path, change: Callable[[str, dict[str, Any]], None]) -> None:
    """Forge a record: its contents changed, its chain made anew."""
    entries = read_record(release / RECORD)
    (release / RECORD).unlink()
    forged = Record(release / RECORD)
    for entry in entries:
        content = dict(entry.content)
        change(entry.event, content)
        forged.add(entry.event, content)


def test_a_release_comes_out_again(home: Path, release: Path) -> None:
    before = {path.name: path.read_bytes() for path in release.iterdir()}
    found = mk.replay(release, data=home / "visits.csv")
    assert found.same_split and found.same_model and found.same_data and found.ok
    assert found.differs == found.changed == ()
    assert {path.name: path.read_bytes() for path in release.iterdir()} == before


@pytest.mark.parametrize(
    "name",
    [n for n in catalogue.names() if n.startswith("table/") and not catalogue.needs_budget(n)],
)
def test_every_synthesizer_fits_the_same_model_again(name: str, tmp_path: Path) -> None:
    trained = any(setting.name == "steps" for setting in catalogue.settings(name))
    made = pipeline.synthesize(
        visits(), out=tmp_path / "made", synthesizer=name, subject="patient", profile="quick",
        settings={"steps": 25} if trained else None,
    )  # fmt: skip
    found = mk.replay(made.directory, data=visits())
    assert found.same_model and found.ok


@pytest.mark.parametrize("suffix", ["tsv", "parquet", "xlsx"])
def test_every_format_is_written_again_byte_for_byte(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"visits.{suffix}", visits()
    if suffix == "xlsx":
        pytest.importorskip("xlsxwriter", reason="the extra 'excel' is not installed")
        pytest.importorskip("fastexcel", reason="the extra 'excel' is not installed")
        table.write_excel(path)
    elif suffix == "tsv":
        table.write_csv(path, separator="\t")
    else:
        table.write_parquet(path)
    made = pipeline.synthesize(
        path, out=tmp_path / "made", synthesizer=FAST, subject="patient", profile="quick",
        balance="died",
    )  # fmt: skip
    assert mk.replay(made.directory, data=path).ok


def test_a_declared_schema_must_be_given_again(home: Path, tmp_path: Path) -> None:
    declared = tmp_path / "schema.yaml"
    declared.write_text(to_yaml(mk.read(home / "visits.csv", subject="patient").schema))
    made = pipeline.synthesize(
        home / "visits.csv", out=tmp_path / "made", synthesizer=FAST, schema=declared,
        profile="quick",
    )  # fmt: skip
    assert mk.replay(made.directory, data=home / "visits.csv", schema=declared).ok
    with pytest.raises(InputError, match="schema is not the recorded one"):
        mk.replay(made.directory, data=home / "visits.csv")


# ---------------------------------------------------------------------------- another source
def test_another_table_is_refused_before_anything_is_fitted(home: Path, tmp_path: Path) -> None:
    table = pl.read_csv(home / "visits.csv")
    rows = tmp_path / "fewer.csv"
    table.head(119).write_csv(rows)
    with pytest.raises(InputError, match="119 rows where 120 were recorded"):
        mk.replay(home / "made", data=rows)
    cell = tmp_path / "cell.csv"
    # one value becomes another one that the table holds: sizes, vocabulary and bounds are as before
    other = table["crp"].to_list()
    other[3] = other[4] if other[3] != other[4] else other[5]
    table.with_columns(pl.Series("crp", other)).write_csv(cell)
    with pytest.raises(InputError, match="cells differ"):
        mk.replay(home / "made", data=cell)


def test_another_key_is_named_by_its_name_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "x" * 64)
    with pytest.raises(InputError, match="the record was made with") as caught:
        mk.replay(home / "made", data=home / "visits.csv")
    assert "xxx" not in str(caught.value) and "kkk" not in str(caught.value)


# ---------------------------------------------------------------------------- another release
def test_an_altered_record_is_refused(home: Path, release: Path) -> None:
    text = (release / RECORD).read_text()
    (release / RECORD).write_text(text.replace('"leaf":7', '"leaf":9'))
    with pytest.raises(IntegrityError, match="was altered: line 5"):
        mk.replay(release, data=home / "visits.csv")


def test_a_recipe_that_did_not_make_the_model_is_found_out(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "fitted":
            content["recipe"] = {**content["recipe"], "leaf": 9}

    rewritten(release, change)
    found = mk.replay(release, data=home / "visits.csv")
    assert found.same_split and not found.same_model and not found.ok


def test_rows_that_the_model_did_not_draw_are_found_out(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "closed":
            content["outputs"] = {**content["outputs"], "data.csv": "0" * 64}

    rewritten(release, change)
    found = mk.replay(release, data=home / "visits.csv")
    assert found.same_split and found.same_model and not found.same_data and not found.ok


def test_another_split_is_found_out(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "asked":
            content["holdout"] = 0.3

    rewritten(release, change)
    found = mk.replay(release, data=home / "visits.csv")
    assert not found.same_split and not found.same_model


def test_other_versions_are_said(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "started":
            content["versions"] = {**content["versions"], "numpy": "1.0"}

    rewritten(release, change)
    found = mk.replay(release, data=home / "visits.csv")
    assert found.ok and len(found.changed) == 1
    assert found.changed[0].startswith("numpy 1.0 → ")


def test_noise_is_not_replayed(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "fitted":
            content["ledger"] = [{"release": "Gaussian", "what": "counts", "sigma": 2.0}]

    rewritten(release, change)
    with pytest.raises(NotSupported, match="differential privacy"):
        mk.replay(release, data=home / "visits.csv")


def test_a_data_file_elsewhere_is_not_touched(home: Path, release: Path) -> None:
    def change(event: str, content: dict[str, Any]) -> None:
        if event == "closed":
            content["synthetic"] = ["../data.csv"]
            content["outputs"] = {**content["outputs"], "../data.csv": "0" * 64}

    rewritten(release, change)
    with pytest.raises(NotSupported):
        mk.replay(release, data=home / "visits.csv")


def test_what_is_no_release_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no record"):
        mk.replay(tmp_path, data=home / "visits.csv")
    table = pl.read_csv(home / "visits.csv").drop("patient")
    judged = pipeline.evaluate(
        train=table[:50], holdout=table[50:100], synthetic=table[100:], out=tmp_path / "judged",
        metrics=("fidelity/shapes",),
    )  # fmt: skip
    with pytest.raises(NotSupported, match="does not say how"):
        mk.replay(judged.directory, data=table)


# ---------------------------------------------------------------------------- command line
def test_the_command_says_what_came_out(home: Path, release: Path) -> None:
    run = CliRunner().invoke(app, ["replay", str(release), "--data", str(home / "visits.csv")])
    assert run.exit_code == 0
    assert run.stdout.count("✓") == 3 and "the same model was fitted" in run.stdout

    def change(event: str, content: dict[str, Any]) -> None:
        if event == "fitted":
            content["model"] = "hmac-sha256:" + "0" * 64

    rewritten(release, change)
    run = CliRunner().invoke(app, ["replay", str(release), "--data", str(home / "visits.csv")])
    assert run.exit_code == 6
    assert "✗ another model was fitted" in run.stdout and "✓ the same bytes" in run.stdout


def test_the_model_digest_is_keyed_and_in_the_card(home: Path) -> None:
    (fitted,) = (e.content for e in read_record(home / "made" / RECORD) if e.event == "fitted")
    assert fitted["model"].startswith("hmac-sha256:")
    assert fitted["model"] in (home / "made" / "MODEL_CARD.md").read_text()
