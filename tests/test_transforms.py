"""Explicit transforms on the road: asked for, recorded, shown before and after, replayed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import manikin as mk
from manikin import catalogue, pipeline
from manikin.errors import ConditionError, InputError, NotSupported, OutOfTime
from manikin.grouped import PerGroup
from manikin.release.record import Record, read_record
from manikin.run import Run
from manikin.synthesizer import silent

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


# ---------------------------------------------------------------------------- edges taken out
def wages(n: int = 800) -> pl.DataFrame:
    """Three quarters of the men have a high income and one quarter of the women: a gap of .5."""
    rng = np.random.default_rng(8)
    sex = rng.choice(["F", "M"], n)
    return pl.DataFrame(
        {
            "sex": sex,
            "age": rng.integers(20, 65, n),
            "income": np.where(rng.random(n) < np.where(sex == "M", 0.75, 0.25), "high", "low"),
        }
    )


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        return pipeline.synthesize(
            wages(), out=tmp_path_factory.mktemp("out") / "release", target="income",
            synthesizer="table/bayes_net", remove_edges="sex->income", sensitive=("sex",),
            profile="quick", seed=2,
        )  # fmt: skip


def gap_of(frame: pl.DataFrame) -> float:
    high = frame.group_by("sex").agg((pl.col("income") == "high").mean())["income"]
    return float(high.max() - high.min())  # type: ignore[operator]


def test_without_the_edge_the_gap_is_gone_from_what_is_released(fair: pipeline.Outcome) -> None:
    told = contents(fair.directory)["edited"]
    gaps = {gap["of"]: gap["value"] for gap in told["gaps"]}
    assert told["edges"] == ["sex -> income"] and told["ways"] == []
    assert gaps["real"] == pytest.approx(gap_of(wages()), abs=1e-4)
    assert gaps["real"] > 0.3 and gaps["before"] > 0.3 and gaps["after"] < 0.05
    assert all(gap["low"] <= gap["value"] <= gap["high"] for gap in told["gaps"])
    made = pl.read_parquet(fair.data)
    assert gap_of(made) < 0.12  # of 800 subjects: 2 standard errors are .07
    # how common either is stays
    assert abs((made["income"] == "high").mean() - (wages()["income"] == "high").mean()) < 0.06


def test_taken_out_edges_stand_in_report_card_and_notes(fair: pipeline.Outcome) -> None:
    assert any("Taken out of the model: sex -> income" in note for note in fair.notes)
    assert any("Demographic-parity gap" in note and "after 0.0" in note for note in fair.notes)
    report = json.loads(fair.report.with_suffix(".json").read_text())
    changed = report["mitigation"]
    assert changed["kind"] == "mitigated" and changed["removed"] == ["sex -> income"]
    assert [gap["of"] for gap in changed["gaps"]] == ["real", "before", "after"]
    page = fair.report.read_text()
    assert "Before and after: the data are mitigated" in page and "Demographic-parity gap" in page
    assert "Mitigated:" in (fair.directory / "DATASET_CARD.md").read_text()
    assert contents(fair.directory)["sampled"]["kind"] == "mitigated"


def test_taken_out_edges_are_replayed(fair: pipeline.Outcome) -> None:
    assert contents(fair.directory)["fitted"]["recipe"]["remove"] == ["sex->income"]
    assert mk.replay(fair.directory, data=wages()).ok


def test_methods_without_a_graph_refuse(tmp_path: Path) -> None:
    for name in (FAST, "auto"):
        with pytest.raises(NotSupported, match="no graph") as caught:
            pipeline.synthesize(
                wages(), out=tmp_path / "r", synthesizer=name, remove_edges="sex->income"
            )
        assert "table/bayes_net" in caught.value.allowed and caught.value.todo
    with pytest.raises(InputError, match="unknown column 'wage'"):
        mk.fit(wages(), synthesizer="table/bayes_net", remove_edges=("sex->wage",))


def test_a_saved_model_does_not_draw_along_the_edge_and_says_so(tmp_path: Path) -> None:
    mk.fit(
        wages(), out=tmp_path / "m.manikin", synthesizer="table/bayes_net",
        remove_edges="sex->income",
    )  # fmt: skip
    loaded = mk.load(tmp_path / "m.manikin").model
    assert loaded.removed == (("sex", "income"),) and loaded.unedited() is None
    assert "Taken out before drawing: sex -> income" in loaded.graph().how
    drawn = mk.sample(tmp_path / "m.manikin", n=5000, out=tmp_path / "s.csv")
    assert gap_of(pl.read_csv(drawn.data)) < 0.05


# ---------------------------------------------------------------------------- a model per group
@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        return pipeline.synthesize(
            wages(), out=tmp_path_factory.mktemp("out") / "release", synthesizer=FAST,
            fit_per="sex", target="income", profile="quick", seed=2, balance="sex",
        )  # fmt: skip


def test_independent_columns_per_group_keep_the_gap_between_groups(
    grouped: pipeline.Outcome, tmp_path: Path
) -> None:
    made = pl.read_parquet(grouped.data)
    assert gap_of(made) > 0.35, "columns are independent within a group only"
    assert made["sex"].value_counts()["count"].to_list() == [400, 400], "balance reaches the groups"


def test_a_fit_per_group_is_recorded_shown_and_replayed(grouped: pipeline.Outcome) -> None:
    told = contents(grouped.directory)
    assert told["asked"]["fit_per"] == "sex" and told["fitted"]["synthesizer"] == FAST
    facts = told["fitted"]["fit_per"]
    assert facts["by"] == "sex" and sorted(facts["groups"]) == ["F", "M"]
    assert sum(facts["subjects"]) == 560 and facts["levels_joined"] == 0
    assert any("fitted to the groups of 'sex'" in note for note in grouped.notes)
    lines = {
        (line["group"], line["measure"]): (line["before"][0], line["after"][0])
        for line in told["per_group"]["lines"]
    }
    assert len(lines) == 4
    for group in "FM":  # a quarter of the women have a high income, of everybody a half
        before, after = lines[group, "columns"]
        assert after > before + 0.05
    report = json.loads(grouped.report.with_suffix(".json").read_text())
    assert report["mitigation"]["fit_per"] == "sex" and len(report["mitigation"]["per_group"]) == 4
    page = grouped.report.read_text()
    assert "A model for each group of sex" in page and "One model for all" in page
    assert "a model for each group of sex" in (grouped.directory / "DATASET_CARD.md").read_text()
    assert mk.replay(grouped.directory, data=wages()).ok


def test_time_that_is_over_spares_the_comparison_and_not_the_release(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    run = Run(tmp_path, tmp_path, record, b"k" * 64, 1, None, silent)
    table = mk.read(wages(400))
    recipe = PerGroup(catalogue.build(FAST), "sex")
    model = recipe.fit(table, seed=1)
    found = run.per_group(model, recipe, (table, table), silent)
    assert len(found) == 4 and [entry.event for entry in read_record(record.path)] == ["per_group"]

    def late(progress: mk.Progress) -> bool:
        raise OutOfTime(1, "the fit of one model for all")

    assert run.per_group(model, recipe, (table, table), late) == ()
    assert (
        run.per_group(recipe.recipe.fit(table, seed=1), recipe.recipe, (table, table), late) == ()
    )


def test_one_file_holds_the_models_of_all_groups(tmp_path: Path) -> None:
    mk.fit(wages(), out=tmp_path / "m.manikin", fit_per="sex", synthesizer=FAST, seed=1)
    loaded = mk.load(tmp_path / "m.manikin")
    assert loaded.recipe.by == "sex" and loaded.synthesizer == FAST
    mk.save(loaded.model, tmp_path / "n.manikin", synthesizer=FAST, recipe=loaded.recipe,
            extra=loaded.extra)  # fmt: skip
    assert (tmp_path / "m.manikin").read_bytes() == (tmp_path / "n.manikin").read_bytes()
    drawn = mk.sample(tmp_path / "m.manikin", n=4000, out=tmp_path / "s.csv", where="income=high")
    # three of four with a high income are men
    assert abs((pl.read_csv(drawn.data)["sex"] == "M").mean() - 0.75) < 0.06


def test_what_has_no_groups_or_one_graph_each_is_refused() -> None:
    with pytest.raises(InputError, match="kind integer"):
        mk.fit(wages(), fit_per="age", synthesizer=FAST)
    with pytest.raises(InputError, match="part the subjects"):
        mk.fit(wages(80), fit_per="sex", synthesizer=FAST)
    with pytest.raises(NotSupported, match="each group"):
        mk.fit(wages(), fit_per="sex", synthesizer="table/bayes_net", remove_edges="age->income")
