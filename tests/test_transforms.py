"""Explicit transforms on the road: asked for, recorded, shown before and after, replayed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin import pipeline
from manikin.errors import ConditionError
from manikin.release.record import read_record

FAST = "table/marginals"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


def clinic(n: int = 400) -> pl.DataFrame:
    """One in ten is of the rare stage, two patients are of one that nobody else has."""
    rng = np.random.default_rng(3)
    stage = np.array(["early"] * 250 + ["late"] * 108 + ["rare"] * 40 + ["castleman"] * 2)
    return pl.DataFrame(
        {
            "age": rng.integers(20, 90, n),
            "stage": rng.permutation(stage),
            "died": np.where(rng.random(n) < 0.4, "yes", "no"),
        }
    )


def contents(release: Path) -> dict[str, Any]:
    return {entry.event: entry.content for entry in read_record(release / "record.jsonl")}


# ---------------------------------------------------------------------------- enriched
@pytest.fixture(scope="module")
def enriched(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        return pipeline.synthesize(
            clinic(), out=tmp_path_factory.mktemp("out") / "release", synthesizer=FAST,
            enrich="stage=rare:0.3", target="died", profile="quick", seed=2,
        )  # fmt: skip


def test_an_enriched_release_shows_before_and_after(enriched: pipeline.Outcome) -> None:
    stages = pl.read_parquet(enriched.data)["stage"]
    assert (stages == "rare").sum() == 120  # 0.3 of 400
    report = json.loads(enriched.report.with_suffix(".json").read_text())
    changed = report["mitigation"]
    assert changed["kind"] == "enriched" and changed["enrich"] == "stage=rare:0.3"
    first = {s["level"]: (s["before"], s["after"]) for s in changed["shares"] if
             s["column"] == "stage"}  # fmt: skip
    assert first["rare"] == (0.1, 0.3)
    assert "castleman" not in first, "two patients"
    page = enriched.report.read_text()
    assert "Before and after: the data are enriched" in page and "stage=rare:0.3" in page
    assert "Enriched:" in (enriched.directory / "DATASET_CARD.md").read_text()


def test_an_enriched_release_is_recorded_and_comes_out_again(enriched: pipeline.Outcome) -> None:
    told = contents(enriched.directory)
    assert told["asked"]["enrich"] == ["stage=rare:0.3"]
    assert told["sampled"]["kind"] == "enriched"
    assert told["sampled"]["enrich"] == ["stage=rare:0.3"]
    assert mk.replay(enriched.directory, data=clinic()).ok


def test_a_level_that_too_few_have_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="cannot be drawn") as caught:
        pipeline.synthesize(
            clinic(), out=tmp_path / "r", synthesizer=FAST, enrich="stage=castleman:0.2",
            profile="quick",
        )  # fmt: skip
    assert "augment" in caught.value.todo
    assert not list(tmp_path.iterdir())


def test_enrich_and_balance_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="at once"):
        pipeline.synthesize(
            clinic(), out=tmp_path / "r", synthesizer=FAST, enrich="stage=rare:0.2",
            balance="died", profile="quick",
        )  # fmt: skip


# ---------------------------------------------------------------------------- balanced
def test_a_balance_says_that_it_leaves_a_level_out(tmp_path: Path) -> None:
    made = pipeline.synthesize(
        clinic(), out=tmp_path / "r", synthesizer=FAST, balance="stage", profile="quick"
    )
    said = "1 of the 4 levels of 'stage' is never drawn"
    assert any(note.startswith(said) for note in made.notes)
    assert contents(made.directory)["sampled"]["levels_left_out"] == 1
    page, card = made.report.read_text(), (made.directory / "DATASET_CARD.md").read_text()
    assert "1 of its levels is never drawn" in page and "too rare to be drawn: 1" in card
    assert "castleman" not in page + card + (made.directory / "record.jsonl").read_text()
    stages = pl.read_parquet(made.data)["stage"].value_counts()["count"]
    assert stages.max() - stages.min() <= 1 and len(stages) == 3
    assert mk.replay(made.directory, data=clinic()).ok


def test_drawing_from_a_file_says_so_too(tmp_path: Path) -> None:
    mk.fit(clinic(), out=tmp_path / "m.manikin", synthesizer=FAST)
    drawn = mk.sample(tmp_path / "m.manikin", n=30, out=tmp_path / "s.csv", balance="stage")
    assert len(drawn.notes) == 1 and "1 of the 4 levels" in drawn.notes[0]
    assert pl.read_csv(Path(drawn)).height == 30  # it stands for the path
    drawn = mk.sample(
        tmp_path / "m.manikin", n=30, out=tmp_path / "e.csv", enrich=["stage=rare:0.5"]
    )
    assert drawn.notes == () and (pl.read_csv(drawn.data)["stage"] == "rare").sum() == 15
