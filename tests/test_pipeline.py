"""The one road end to end, on a small made-up clinic; and what stops it."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin import pipeline
from manikin.errors import (
    ConditionError,
    InputError,
    NotSupported,
    OutOfTime,
    OutputError,
    PrivacyError,
    SchemaError,
    Stopped,
)
from manikin.release.record import read_record
from manikin.synthesizer import Progress

FAST = "table/marginals"


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    n = 300
    age = rng.integers(20, 90, n)
    died = rng.random(n) < age / 150
    frame = pl.DataFrame(
        {
            "age": age,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
            "crp": np.round(rng.gamma(2, 5, n), 1),
            "seen": [f"{d:02d}/{m:02d}/2019" for d, m in rng.integers(1, 13, (n, 2))],
            "died": np.where(died, "yes", "no"),
        }
    ).with_columns(pl.when(pl.col("crp") < 2).then(None).otherwise(pl.col("crp")).alias("crp"))
    path = tmp_path_factory.mktemp("clinic") / "clinic.csv"
    frame.write_csv(path, separator=";", null_value="?")
    return path


@pytest.fixture(scope="module")
def released(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    out = tmp_path_factory.mktemp("out") / "release"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        return pipeline.synthesize(clinic, out=out, target="died", seed=1, who="Ward 3")


def test_a_release_holds_everything_and_verifies(released: pipeline.Outcome) -> None:
    names = {path.name for path in released.directory.iterdir()}
    assert {"data.csv", "report.html", "report.json", "record.jsonl", "croissant.json",
            "README.md", "MANIFEST.sha256"} <= names  # fmt: skip
    assert mk.verify(released.directory).ok
    assert len(released.verdict) >= 4
    told = json.loads((released.directory / "report.json").read_text("utf-8"))
    assert told["release_class"] == "" and told["statement"] is None  # no budget, no such folder


def test_the_data_look_like_the_source(released: pipeline.Outcome, clinic: Path) -> None:
    assert released.data is not None
    source, made = clinic.read_text().splitlines(), released.data.read_text().splitlines()
    assert made[0] == source[0]
    assert len(made) == len(source)
    assert any(line.split(";")[2] == "?" for line in made)
    mk.read(released.data)


def test_the_record_says_who_when_how_from_what_and_at_what_cost(
    released: pipeline.Outcome,
) -> None:
    entries = {entry.event: entry.content for entry in read_record(released.record)}
    assert list(entries) == [
        "started", "asked", "source", "split", "fitted", "sampled", "judged", "closed"
    ]  # fmt: skip
    assert entries["started"]["who"] == "Ward 3"
    assert {"manikin", "python", "numpy"} <= set(entries["started"]["versions"])
    assert all(entry.at.endswith("+00:00") for entry in read_record(released.record))
    for what in ("schema", "data"):  # inferred from the data: keyed, as the data are
        assert str(entries["source"][what]).startswith("hmac-sha256:")
    assert entries["split"]["seed"] == entries["fitted"]["seed"] == entries["sampled"]["seed"] == 1
    assert entries["split"]["train"]["subjects"] + entries["split"]["holdout"]["subjects"] == 300
    assert (
        entries["fitted"]["synthesizer"] == "table/seqtree" and "k" in entries["fitted"]["recipe"]
    )
    assert entries["fitted"]["ledger"][0]["release"] == "NonPrivate"
    assert {"metric", "value", "interval", "floor", "ceiling"} <= set(
        entries["judged"]["scores"][0]
    )
    files = {path.name for path in released.directory.iterdir()}
    assert set(entries["closed"]["outputs"]) == files - {"record.jsonl", "MANIFEST.sha256"}


def test_files_are_their_owners_only(released: pipeline.Outcome) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in released.directory.iterdir())


def test_the_record_tells_the_road(released: pipeline.Outcome) -> None:
    events = [entry.event for entry in read_record(released.record)]
    assert events == [
        "started", "asked", "source", "split", "fitted", "sampled", "judged", "closed"
    ]  # fmt: skip


def test_scores_come_with_floor_ceiling_and_interval(released: pipeline.Outcome) -> None:
    report = json.loads((released.directory / "report.json").read_text())
    detection = [line for line in report["scores"] if line["metric"].startswith("fidelity/det")]
    assert detection
    for line in detection:
        assert line["floor"] is not None and line["ceiling"] is not None
        assert line["low"] <= line["value"] <= line["high"]
    assert dict(report["controls"])["exact copy"] is True


def test_the_same_seed_makes_the_same_data(clinic: Path) -> None:
    one, two = (pipeline.fit(clinic, synthesizer=FAST, seed=7).sample(50, seed=1) for _ in range(2))
    assert one.to_polars().equals(two.to_polars())


def test_fit_and_sample_by_file_keep_the_format(clinic: Path, tmp_path: Path) -> None:
    pipeline.fit(clinic, out=tmp_path / "m.manikin", synthesizer=FAST)
    path = pipeline.sample(tmp_path / "m.manikin", n=40, out=tmp_path / "s.csv", seed=3).data
    lines = path.read_text().splitlines()
    assert lines[0] == clinic.read_text().splitlines()[0]
    assert len(lines) == 41
    with pytest.raises(OutputError, match="exists"):
        pipeline.sample(tmp_path / "m.manikin", n=1, out=path)


def test_what_is_read_is_never_written_over(clinic: Path, tmp_path: Path) -> None:
    source, model = tmp_path / "s.csv", tmp_path / "m.manikin"
    source.write_bytes(clinic.read_bytes())
    (tmp_path / "link").symlink_to(source)
    for out in (source, tmp_path / "link"):
        with pytest.raises(OutputError, match="both read"):
            pipeline.fit(source, out=out, synthesizer=FAST, overwrite=True)
    pipeline.fit(source, out=model, synthesizer=FAST)
    before = model.read_bytes()
    with pytest.raises(OutputError, match="both read"):
        pipeline.sample(model, n=5, out=model, overwrite=True)
    assert (source.read_bytes(), model.read_bytes()) == (clinic.read_bytes(), before)


def test_conditions_hold_in_what_is_released(clinic: Path, tmp_path: Path) -> None:
    done = pipeline.synthesize(clinic, out=tmp_path / "r", where="sex=F,age>=50", n=60)
    assert done.data is not None
    made = pl.read_csv(done.data, separator=";")
    assert made["sex"].unique().to_list() == ["F"]
    assert made["age"].min() >= 50  # type: ignore[operator]
    assert json.loads((tmp_path / "r/report.json").read_text())["settings"]["kind"] == "conditioned"


def test_evaluate_judges_another_tools_table(clinic: Path, tmp_path: Path) -> None:
    lines = clinic.read_text().splitlines()
    for name, part in (("t", lines[1:151]), ("h", lines[151:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([lines[0], *part]) + "\n")
    copied = pipeline.evaluate(
        train=tmp_path / "t.csv",
        holdout=tmp_path / "h.csv",
        synthetic=tmp_path / "t.csv",
        out=tmp_path / "e",
        target="died",
    )
    assert copied.data is None
    (copies,) = [s for s in copied.scores if s.metric == "privacy/copies.exact"]
    assert copies.value == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": "dead"}, SchemaError),
        ({"synthesizer": "table/none"}, NotSupported),
        ({"settings": {"depth": 3}}, InputError),
        ({"holdout": 0.99}, InputError),
        ({"minutes": 0}, InputError),
        ({"where": "sex=X"}, ConditionError),
        ({"where": "sex"}, ConditionError),
        ({"balance": "age"}, ConditionError),
        ({"n": -1}, InputError),
    ],
)
def test_what_is_wrong_stops_it_and_leaves_nothing(
    clinic: Path, tmp_path: Path, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        pipeline.synthesize(clinic, out=tmp_path / "r", **{"synthesizer": FAST, **options})  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_too_few_subjects_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("age,sex\n63,F\n")
    with pytest.raises(InputError, match="1 subject"):
        pipeline.synthesize(tmp_path / "one.csv", out=tmp_path / "r", synthesizer=FAST)


def test_identifying_columns_stop_a_release_unless_accepted(clinic: Path, tmp_path: Path) -> None:
    surnames = [f"{chr(65 + i % 20)}{chr(97 + i % 7)}son" for i in range(300)]
    frame = pl.read_csv(clinic, separator=";").with_columns(surname=pl.Series(surnames))
    schema = mk.Table.from_frame(frame).schema
    named = mk.Column("surname", "categorical", categories=tuple(sorted(set(surnames))))
    schema = schema.replace(named)  # somebody insists on learning it

    def release(*accept: str) -> None:
        pipeline.synthesize(
            frame, out=tmp_path / "r", synthesizer=FAST, schema=schema, accept=accept
        )

    with pytest.raises(PrivacyError, match="surname"):
        release()
    with pytest.raises(InputError, match="stop nothing"):
        release("everything")
    assert not (tmp_path / "r").exists()
    release("identifying")
    assert mk.verify(tmp_path / "r").ok


def test_asking_to_stop_leaves_nothing(clinic: Path, tmp_path: Path) -> None:
    def soon(progress: Progress) -> bool:
        return progress.what.startswith("judging")

    with pytest.raises(Stopped):
        pipeline.synthesize(clinic, out=tmp_path / "r", synthesizer=FAST, watch=soon)
    assert os.listdir(tmp_path) == []


def test_a_budget_that_ends_during_the_fit_says_so(clinic: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfTime, match=r"0\.0001 minutes was over during") as over:
        pipeline.synthesize(clinic, out=tmp_path / "r", minutes=0.0001)
    assert over.value.exit_status == 1
    assert "--minutes" in over.value.todo
    assert os.listdir(tmp_path) == []


def test_an_earlier_release_stays_unless_overwritten(clinic: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            pipeline.synthesize(clinic, out=tmp_path / "r", synthesizer=FAST, overwrite=overwrite)
    assert (tmp_path / "r" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("holdout", [0.3, 0.9])
def test_no_part_of_fewer_than_eleven_is_judged(
    clinic: Path, tmp_path: Path, holdout: float
) -> None:
    few = pl.read_csv(clinic, separator=";")[:24]
    with pytest.raises(InputError, match="fewer than 11 subjects"):
        pipeline.synthesize(few, out=tmp_path / "out", synthesizer=FAST, holdout=holdout)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def parts(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    lines = clinic.read_text().splitlines()
    folder = tmp_path_factory.mktemp("parts")
    cuts = {"train": (1, 131), "holdout": (131, 231), "reference": (231, 301)}
    cuts["synthetic"] = (1, 101)  # a copy
    found = {}
    for name, (start, end) in cuts.items():
        found[name] = folder / f"{name}.csv"
        found[name].write_text("\n".join([lines[0], *lines[start:end]]) + "\n")
    return found


def test_the_quick_profile_runs_the_quick_metrics(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manikin import catalogue

    cards = catalogue.cards()
    cards["fidelity/trends"] = dataclasses.replace(cards["fidelity/trends"], profile="full")
    monkeypatch.setattr(catalogue, "cards", lambda: cards)
    done = pipeline.evaluate(**parts, out=tmp_path / "e", profile="quick", target="died")
    quick = set(catalogue.in_profile("quick"))
    others = {name for kind in ("cohort", "events") for name in catalogue.in_profile("full", kind)}
    assert quick < set(catalogue.in_profile("full")) == set(catalogue.metric_names()) - others
    assert {score.metric.partition(".")[0] for score in done.scores} <= quick
    entries = {entry.event: entry.content for entry in read_record(done.record)}
    assert entries["judged"]["profile"] == "quick"
    assert "privacy/copies.exact" in entries["judged"]["caught_by"]["exact copy"]
    assert entries["given"]["reference"]["subjects"] == 70
    with pytest.raises(InputError, match="no profile"):
        pipeline.evaluate(**parts, out=tmp_path / "f", profile="slow")


def test_parts_with_other_columns_are_named(parts: dict[str, Path], tmp_path: Path) -> None:
    other = pl.read_csv(parts["reference"], separator=";").rename({"crp": "CRP"})
    with pytest.raises(SchemaError, match=r"reference table.*lacks 'crp'.*'CRP'"):
        pipeline.evaluate(**{**parts, "reference": other}, out=tmp_path / "e")
    assert os.listdir(tmp_path) == []


def test_rows_that_the_generator_saw_cannot_judge_it(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """The easiest mistake there is: one file given twice, or a patient on both sides."""
    with pytest.raises(InputError, match="holdout table is the train table again"):
        pipeline.evaluate(**{**parts, "holdout": parts["train"]}, out=tmp_path / "e")
    frames = {name: pl.read_csv(path, separator=";") for name, path in parts.items()}
    numbered = {
        name: frame.with_columns(patient=pl.Series(range(start, start + frame.height)))
        for (name, frame), start in zip(frames.items(), (0, 120, 500, 900), strict=True)
    }
    with pytest.raises(InputError, match="subjects of the train table are in the holdout"):
        pipeline.evaluate(**numbered, out=tmp_path / "e", subject="patient")
    assert os.listdir(tmp_path) == []


def test_rows_of_the_training_table_in_the_holdout_are_told(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """Without subjects' numbers two overlapping files look like any other two."""
    frames = {name: pl.read_csv(path, separator=";") for name, path in parts.items()}
    clean = pipeline.evaluate(**frames, out=tmp_path / "a", metrics=["fidelity/shapes"])
    assert not any("both tables" in note for note in clean.notes)
    mixed = pl.concat([frames["holdout"], frames["train"].head(30)])
    found = pipeline.evaluate(
        **{**frames, "holdout": mixed}, out=tmp_path / "b", metrics=["fidelity/shapes"]
    )
    told = [note for note in found.notes if "both tables" in note]
    assert len(told) == 1 and "holdout rows repeat a training row" in told[0]
    assert "both tables" in found.report.read_text()
    ten = pl.concat([frames["holdout"], frames["train"].head(10)])  # a share of 10 would be a cell
    few = pipeline.evaluate(
        **{**frames, "holdout": ten}, out=tmp_path / "c", metrics=["fidelity/shapes"]
    )
    assert not any("both tables" in note for note in few.notes)


def test_coarse_tables_coincide_by_chance_and_nothing_is_told() -> None:
    from manikin.overlap import overlapping

    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"sex": rng.integers(0, 2, 900), "stage": rng.integers(0, 4, 900)})
    table = mk.Table.from_frame(frame)
    train, held = table.rows(np.arange(600)), table.rows(np.arange(600, 900))
    assert overlapping(train, {"holdout": held}) == ()  # every row has its like: 8 combinations


def test_an_empty_synthetic_table_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    nothing = pl.read_csv(parts["synthetic"], separator=";").clear()
    with pytest.raises(InputError, match="synthetic table has no rows"):
        pipeline.evaluate(**{**parts, "synthetic": nothing}, out=tmp_path / "e")
    assert os.listdir(tmp_path) == []
