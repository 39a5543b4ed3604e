"""Augmented tables: every real row as it stood, new rows marked, loud about what it holds."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import manikin as mk
from manikin.cli.app import app
from manikin.errors import ConditionError, InputError, NotSupported, OutputError
from manikin.release.record import read_record, verify_chain

FAST = "table/marginals"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


def ward(n: int = 300, few: int = 0) -> pl.DataFrame:
    """One in ten died; `few` of the others are of an outcome that hardly anybody has."""
    rng = np.random.default_rng(1)
    died = np.array(["yes"] * (n // 10) + ["no"] * (n - n // 10), object)
    died[n - few :] = "lost"
    return pl.DataFrame(
        {
            "patient": [f"P{i:04d}" for i in range(n)],
            "age": rng.integers(40, 80, n) + 10 * (died == "yes"),
            "sex": rng.choice(["F", "M"], n),
            "crp": [None if u < 0.2 else round(20 * u, 1) for u in rng.random(n)],
            "remark": [f"seen on round {i}" for i in range(n)],
            "died": died.astype(str),
        }
    ).sample(n, shuffle=True, seed=0)


def test_real_rows_stand_as_they_were_and_new_ones_are_marked(tmp_path: Path) -> None:
    source, out = tmp_path / "ward.csv", tmp_path / "augmented.csv"
    ward().write_csv(source, separator=";", null_value="?")
    made = mk.augment(source, target="died", subject="patient", out=out)
    before, after = source.read_text().splitlines(), out.read_text().splitlines()
    assert after[0] == before[0] + ";synthetic"
    assert after[1:301] == [f"{line};false" for line in before[1:]]
    new = [line.split(";") for line in after[301:]]
    assert len(new) == made.new_rows == 240  # 270 no, 30 yes
    assert all(cells[-2:] == ["yes", "true"] for cells in new)
    assert any(cells[3] == "?" for cells in new) and not any(cells[4] for cells in new)
    known = {line.split(";")[0] for line in before}
    assert not known & {cells[0] for cells in new}, "new subjects have new names"
    assert out.stat().st_mode & 0o777 == made.record.stat().st_mode & 0o777 == 0o600


def test_it_is_called_what_it_is_in_file_record_and_warning(tmp_path: Path) -> None:
    out = tmp_path / "augmented.parquet"
    made = mk.augment(ward(), target="died", subject="patient", out=out, who="Ward 3")
    assert "300 of these rows are real patients" in made.warning and "no release" in made.warning
    frame = pl.read_parquet(out)
    assert frame["synthetic"].to_list() == [False] * 300 + [True] * 240
    assert frame.drop("synthetic")[:300].equals(ward()) and frame.equals(made.frame)
    assert verify_chain(made.record) == ()
    told = {entry.event: entry.content for entry in read_record(made.record)}
    assert told["augmented"]["release"] is False and made.warning == told["augmented"]["said"]
    assert told["asked"]["method"] == "smote" and told["asked"]["k"] == 5
    assert told["closed"]["synthetic"] == [] and told["started"]["who"] == "Ward 3"
    digest = told["closed"]["outputs"]["augmented.parquet"]
    assert digest.startswith("hmac-sha256:"), "a plain digest of real rows could be guessed at"
    with pytest.raises(InputError, match="'synthetic' already"):
        mk.augment(out, target="died", subject="patient")


def test_shares_and_ratios_come_out_as_asked() -> None:
    made = mk.augment(ward(), target="died", subject="patient", ratio=0.5)
    # half of 270 is 135: 105 more
    assert made.new_rows == 105 and made.data is None
    assert [(c.level, c.before, c.after) for c in made.classes] == [
        ("no", 270, 270), ("yes", 30, 135),
    ]  # fmt: skip
    made = mk.augment(ward(), target="died", subject="patient", enrich="died=yes:0.25")
    # 270 are three quarters of 360: 90 of yes, 60 more
    assert made.new_rows == 60 and made.classes[1].share_after == 0.25


def test_every_way_is_judged_on_the_same_held_out_subjects() -> None:
    made = mk.augment(ward(600), target="died", subject="patient", method=f"smote+{FAST}")
    arms = list(dict.fromkeys(gain.rows for gain in made.gains))
    assert arms == ["real rows only", "smote", FAST, f"smote+{FAST}"]
    assert {gain.measure for gain in made.gains} == {"auc", "auprc", "brier"}
    assert len(made.gains) == 12 and made.new_rows == 480
    made = mk.augment(ward(600), target="died", subject="patient", settings={"k": 3})
    assert "table/seqtree" in {gain.rows for gain in made.gains}, "the field's habit beside ours"


def test_only_training_rows_are_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def spy(arms, held, target, levels, *, seed):  # type: ignore[no-untyped-def]
        seen.update(arms=arms, held=held)
        return ()

    monkeypatch.setattr("manikin.metrics.augmentation.downstream", spy)
    mk.augment(ward(), target="died", subject="patient", holdout=0.4)
    held = set(seen["held"].subjects.tolist())
    for arm in seen["arms"].values():
        assert not held & set(arm.subjects[:180].tolist()) and arm.n_rows >= 180
    assert seen["held"].n_rows == 120 and seen["arms"]["real rows only"].n_rows == 180
    # of the training rows alone: as many yes as no
    assert np.ptp(np.bincount(seen["arms"]["smote"].columns["died"])) == 0


def test_a_class_of_too_few_is_said_or_refused() -> None:
    made = mk.augment(ward(few=1), target="died", subject="patient")
    assert any("1 of the 3 levels" in note for note in made.notes)
    assert {c.level: c.before for c in made.classes}["lost"] is None
    with pytest.raises(InputError, match="fewer than two"):
        mk.augment(ward(few=1), target="died", subject="patient", enrich="died=lost:0.2")
    made = mk.augment(ward(few=3), target="died", subject="patient", enrich="died=lost:0.2")
    assert made.new_rows > 50, "three are enough for SMOTE, not for a generator"
    with pytest.raises(InputError, match="fewer than 5"):
        mk.augment(
            ward(few=3), target="died", subject="patient", method=FAST, enrich="died=lost:0.2"
        )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"target": "age"}, InputError, "kind integer"),
        ({"ratio": 0.0}, InputError, "ratio"),
        ({"ratio": 1.5}, InputError, "ratio"),
        ({"ratio": 0.5, "enrich": "died=yes:0.3"}, InputError, "beside shares"),
        ({"enrich": "sex=F:0.9"}, ConditionError, "another column"),
        ({"enrich": ("died=yes:0.5", "died=no:0.5")}, InputError, "no room"),
        ({"enrich": "died=yes:0.05"}, InputError, "has already"),
        ({"method": "smite"}, NotSupported, "no synthesizer"),
        ({"settings": {"leaf": 3}}, InputError, "no setting"),
        ({"settings": {"k": "many"}}, InputError, "cannot be read"),
        ({"holdout": 0.99}, InputError, "a table of"),
    ],
)
def test_what_cannot_be_done_is_refused(
    options: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        mk.augment(ward(), **{"target": "died", "subject": "patient", **options})  # type: ignore[arg-type]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = tmp_path / "ward.csv"
    ward().write_csv(source)
    with pytest.raises(OutputError, match="both read"):
        mk.augment(source, target="died", subject="patient", out=source, overwrite=True)
    (tmp_path / "a.csv.record.jsonl").write_text("somebody's")
    with pytest.raises(OutputError, match="exists"):
        mk.augment(source, target="died", subject="patient", out=tmp_path / "a.csv")
    assert (tmp_path / "a.csv.record.jsonl").read_text() == "somebody's"
    assert not (tmp_path / "a.csv").exists()


def test_visits_of_one_patient_are_neighbours_of_others_only() -> None:
    visits = pl.concat([ward(100), ward(100)])  # every visit twice, alike
    made = mk.augment(visits, target="died", subject="patient", method="smote")
    new = made.frame.filter("synthetic")
    assert new["patient"].n_unique() == new.height == 160
    ages = visits.filter(pl.col("died") == "yes")["age"]
    assert ages.min() <= new["age"].min() and new["age"].max() <= ages.max()


# ---------------------------------------------------------------------------- the command
def test_the_command_says_it_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    ward().write_csv("ward.csv")
    words = ["augment", "ward.csv", "--target", "died", "--subject", "patient"]
    done = CliRunner().invoke(app, [*words, "--out", "a.csv"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("! 300 of these rows are real patients")
    assert "AUPRC" in done.stdout and "a.csv.record.jsonl" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    quiet = CliRunner().invoke(app, [*words, "--out", "b.csv", "-q"])
    assert "real patients" in quiet.stdout, "said even then"
    said = CliRunner().invoke(app, [*words, "--out", "c.csv", "--json", "--method", FAST])
    found = json.loads(said.stdout)
    assert found["release"] is False and found["real_rows"] == 300 and len(found["gains"]) == 9
    again = CliRunner().invoke(app, [*words, "--out", "a.csv"])
    assert again.exit_code == 7
