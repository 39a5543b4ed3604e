"""The road of histories, whole: in by a door, out by the same, judged, sealed, replayed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import manikin as mk
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import (
    ConditionError,
    InputError,
    NotSupported,
    OutputError,
    PrivacyError,
    SchemaError,
)
from manikin.having import drawn, parse_having
from manikin.io import histories as doors

STATIC = TableSchema(
    (
        Column("birth", "datetime", date_format="%Y-%m-%d"),
        Column("sex", "categorical", categories=("F", "M")),
    )
)
CODES = (
    Code("Visit/OP", "visit"),
    Code("ICD10CM/I10", "condition", parents=("ICD10CM/I",)),
    Code("ICD10CM/E11.9", "condition", parents=("ICD10CM/E11",)),
    Code("ATC/C09AA02", "drug"),
    Code("LOINC/8480-6", "measurement", unit="mm[Hg]", numeric=True),
)
SCHEMA = EventSchema(STATIC, CODES, birth="birth", sex="sex", clock="day")


def ward(n: int, seed: int) -> Events:
    """Subjects of 1 to 5 visits; hypertension returns, and is followed by its drug and pressure."""
    rng = np.random.default_rng(seed)
    births = np.datetime64("1940-01-01") + rng.integers(0, 14_000, n)
    sex = rng.integers(0, 2, n).astype(np.int32)
    table = Table(STATIC, np.arange(n), {"birth": births.astype("datetime64[us]"), "sex": sex})
    visits = rng.integers(1, 6, n)
    whose = np.repeat(np.arange(n), visits)
    number = np.concatenate([np.arange(v) for v in visits])
    day = np.datetime64("2015-01-01") + np.repeat(rng.integers(0, 900, n), visits)
    time = (day + 40 * number + rng.integers(0, 20, whose.size)).astype("datetime64[us]")
    tense = np.repeat(rng.random(n) < 0.4, visits)
    has = [np.ones(whose.size, bool), tense, rng.random(whose.size) < 0.2, tense,
           rng.random(whose.size) < 0.8]  # fmt: skip
    rows = [np.flatnonzero(there) for there in has]
    at = np.concatenate(rows)
    code = np.repeat(np.arange(5), [row.size for row in rows])
    pressure = np.round(rng.normal(125, 8, whose.size) + 20 * tense)
    value = np.where(code == 4, pressure[at], np.nan)
    return Events.of(SCHEMA, table, whose[at], time[at], code, value, visit=number[at])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("histories") / "ward"
    doors.write([ward(160, 1)], place, "meds", synthetic=False)
    return place


@pytest.fixture(scope="module")
def released(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("road") / "release"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        mk.synthesize(source, out=out, n=150, profile="quick", also=["fhir"], sensitive=["sex"])
    return out


def test_histories_become_a_sealed_release(released: Path) -> None:
    assert mk.verify(released).ok
    found = doors.read(released / "data")
    assert found.synthetic and found.events.n_subjects == 150
    assert found.events.schema.static["sex"].categories == ("F", "M")
    report = json.loads((released / "report.json").read_text())
    told = {line["metric"] for line in report["scores"]}
    assert any(name.startswith("fidelity/code_prevalence") for name in told)
    assert any(name.startswith("fidelity/detection") for name in told)
    record = (released / "record.jsonl").read_text()
    closed = json.loads(record.splitlines()[-1])["content"]
    assert any(name.startswith("data/") for name in closed["synthetic"])
    assert any(name.startswith("data-fhir/") for name in closed["synthetic"])


def test_what_is_written_in_another_format_is_the_same(released: Path) -> None:
    first, second = (doors.read(released / name).events for name in ("data", "data-fhir"))
    assert first.n_events == second.n_events
    assert np.array_equal(first.time, second.time)
    names = [[e.schema.codes[c].name for c in e.code] for e in (first, second)]
    assert names[0] == names[1]


def test_a_release_of_histories_is_drawn_again(
    released: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    assert mk.replay(released, data=source).ok
    other = source.parent / "other"
    doors.write([ward(160, 2)], other, "meds", synthetic=False)
    with pytest.raises(InputError, match="not the recorded one"):
        mk.replay(released, data=other)


@pytest.fixture(scope="module")
def model(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model") / "ward.manikin"
    mk.fit(source, out=place, seed=3)
    return place


def test_a_model_file_draws_what_is_asked_for(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    mk.sample(model, n=60, out=out, where="sex=F", having=["ICD10CM/I10", "visits>=2"])
    events = doors.read(out).events
    assert events.n_subjects == 60
    women = events.schema.static["sex"].categories.index("F")
    assert (events.column("sex") == women).all()
    asked = parse_having(["ICD10CM/I10", "visits>=2"], events.schema)
    assert asked.holds(events).all()
    with pytest.raises(OutputError, match="exists"):
        mk.sample(model, n=5, out=out)
    mk.sample(model, n=5, out=out, overwrite=True)
    assert doors.read(out).events.n_subjects == 5


def test_no_engine_is_looked_for_in_rows_that_nobody_pays_for(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(events: Events) -> str:
        raise AssertionError("the rows were looked at")

    monkeypatch.setattr("manikin.opening.suited", looked)
    with pytest.raises(PrivacyError):  # that engine honours no budget
        mk.fit(source, epsilon=1)


def test_histories_at_hand_are_continued(model: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "futures"
    mk.sample(model, n=2, out=out, after=source, until="1y")
    futures, own = doors.read(out), doors.read(source).events
    assert futures.synthetic and futures.events.n_subjects == 320  # each of 160 twice
    last = np.full(160, "NaT", "datetime64[us]")
    last[own.whose] = own.time
    drawn_of = futures.events
    assert (drawn_of.time >= last[drawn_of.subjects[drawn_of.whose] // 2]).all()
    with pytest.raises(NotSupported, match="conditions on whom"):
        mk.sample(model, n=2, out=tmp_path / "x", after=source, where="sex=F")
    with pytest.raises(InputError, match="no span of time"):
        mk.sample(model, n=2, out=tmp_path / "x", after=source, until="soon")


def test_a_folder_that_is_no_history_is_not_written_over(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(OutputError, match="no format of histories"):
        mk.sample(model, n=5, out=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_the_same_seed_draws_the_same_blocks(model: Path) -> None:
    fitted = mk.load(model).model
    one, two = (next(iter(drawn(fitted, 20, seed=4))) for _ in range(2))
    assert np.array_equal(one.time, two.time) and np.array_equal(one.code, two.code)
    assert one.subjects.tolist() == list(range(20))


def test_having_speaks_of_trees_and_lengths() -> None:
    events = ward(50, 4)
    parents = parse_having(["ICD10CM/I"], SCHEMA)
    assert np.array_equal(
        parents.holds(events), parse_having(["ICD10CM/I10"], SCHEMA).holds(events)
    )
    higher = replace(SCHEMA, codes=(*CODES, Code("ICD10CM/I", parents=("ICD10CM/all",))))
    assert parse_having(["ICD10CM/all"], higher).codes == ((1, 5),)  # two steps up from I10
    for text in ("visits>=3", "events<=4"):
        counts = events.counts
        kept = parse_having([text], SCHEMA).holds(events)
        if text.startswith("events"):
            assert np.array_equal(kept, counts <= 4)
        assert 0 < kept.sum() < 50
    with pytest.raises(ConditionError, match="neither a code"):
        parse_having(["ICD10CM/Z99"], SCHEMA)


def test_what_is_too_rare_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.having.ROUNDS", 2)
    fitted = mk.load(model).model
    asked = parse_having(["visits>=4000"], fitted.schema)
    with pytest.raises(ConditionError, match="fewer than"):
        list(drawn(fitted, 5, having=asked, seed=1))


def test_histories_of_any_tool_are_judged(source: Path, tmp_path: Path) -> None:
    real = ward(160, 1)
    copied = replace(real, static=real.static).renumbered(1000)
    parts = {"synthetic": copied, "holdout": ward(120, 7)}
    for name, events in parts.items():
        doors.write([events], tmp_path / name, "meds", synthetic=False)
    found = mk.evaluate(
        train=source, holdout=tmp_path / "holdout", synthetic=tmp_path / "synthetic",
        out=tmp_path / "judged", metrics=["privacy/copied_runs", "fidelity/code_prevalence"],
    )  # fmt: skip
    scores = {one.metric: one for one in found.scores}
    prevalence = next(s for name, s in scores.items() if "unigram" in name)
    assert prevalence.value > 0.9
    auc = scores["privacy/copied_runs.auc"]
    assert auc.value > 0.9  # every subject of the training set was copied


def test_an_audit_tells_of_impossible_times() -> None:
    events = ward(60, 5)
    births = events.static.columns["birth"].copy()
    births[:20] = np.datetime64("2030-01-01")
    table = Table(STATIC, events.subjects, {**events.static.columns, "birth": births})
    said = " ".join(one.said for one in mk.audit(replace(events, static=table)).findings)
    assert "before the birth" in said and "codes occur" in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"refits": 3}, "refits"),
        ({"balance": "sex"}, "balance"),
        ({"synthesizer": "table/seqtree"}, "does not draw histories"),
        ({"also": ["hl7v9"]}, "no format of histories"),
        ({"links": ["a.b=c.d"]}, "links"),
    ],
)
def test_what_histories_do_not_have_is_refused(
    asked: dict[str, object], said: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises((NotSupported, InputError), match=said):
        mk.synthesize(source, out=tmp_path / "out", **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_one_table_does_not_have_what_histories_have(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,sex\n" + "40,F\n50,M\n" * 30)
    with pytest.raises(NotSupported, match="histories"):
        mk.synthesize(tmp_path / "a.csv", out=tmp_path / "out", having=["visits>=2"])
    with pytest.raises(NotSupported, match="one table is asked for"):
        mk.compare(ward(60, 6), synthesizers=["table/seqtree"], out=tmp_path / "out")


def test_a_schema_of_histories_reads_back(source: Path, tmp_path: Path) -> None:
    events = doors.read(source).events
    path = tmp_path / "schema.yaml"
    path.write_text(doors.schema_to_yaml(events.schema), encoding="utf-8")
    assert doors.read_schema(path) == events.schema
    path.write_text("- no schema", encoding="utf-8")
    with pytest.raises(SchemaError, match="holds no schema"):
        doors.read_schema(path)
