"""MEDS: validated by the standard's own package, back exactly, and foreign or broken data."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.history_rules import Bounds, Once
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, OutputError, SchemaError
from manikin.io import histories as doors
from manikin.io import meds

STATIC = TableSchema(
    (
        Column("birth", "datetime"),
        Column("sex", "categorical", categories=("F", "M")),
        Column("weight", "continuous", decimals=2, missing=("", "NK")),
        Column("since", "datetime"),
        Column("remarks", "text"),
    )
)
CODES = (
    Code("Visit/IP", "visit"),
    Code("ICD10CM/E11.9", "condition", "Diabetes", parents=("ICD10CM/E11", "x")),
    Code("LOINC/2160-0", "measurement", unit="mg/dL", numeric=True, minimum=0, decimals=2),
    Code("LOINC/2160-0", "measurement", unit="µmol/L", numeric=True),
    Code("smoker", "observation", levels=("no", "yes")),
    Code("OMOP/4306655", "death", concept=4306655),
)
RULES = (Once("smoker"), Bounds("LOINC/2160-0", "mg/dL", maximum=40.0))
SCHEMA = EventSchema(STATIC, CODES, birth="birth", sex="sex", clock="minute", rules=RULES)
EPOCH = np.datetime64("2020-01-01", "us")


def when(*hours: float) -> np.ndarray:
    return np.array(
        ["NaT" if np.isnan(h) else EPOCH + int(h * 3_600_000_000) for h in hours], "datetime64[us]"
    )


def histories() -> Events:
    # subject 1 has no event and nothing known; subject 0's weight was not asked (NK)
    static = Table(
        STATIC,
        np.arange(4),
        {
            "birth": np.array(["1950-05-01", "NaT", "2030-01-01", "NaT"], "datetime64[us]"),
            "sex": np.array([0, -1, 1, -1], np.int32),
            "weight": np.array([np.nan, np.nan, 71.35, np.nan]),
            "since": np.array(["NaT", "NaT", "2019-02-03T04:05:06.7", "NaT"], "datetime64[us]"),
        },
        {"weight": np.array([2, 1, 0, 1], np.int8)},
    )
    return Events.of(
        SCHEMA, static,
        whose=[0, 0, 0, 0, 2, 2, 3],
        time=when(np.nan, 0, 0, 5, 1, 30, 2),
        code=[4, 0, 2, 5, 3, 1, 4],
        value=[np.nan, np.nan, 1.1, np.nan, 1 / 3, np.nan, np.inf],
        text=[1, -1, -1, -1, -1, -1, 0],
        end=when(np.nan, 4, np.nan, np.nan, np.nan, np.nan, np.nan),
        visit=[-1, 3, 3, -1, 7, -1, -1],
        texts=("Ünïcode, \"quoted\"\n", "yes"),
    )  # fmt: skip


def assert_same(one: Events, two: Events) -> None:
    assert one.schema == two.schema
    assert np.array_equal(one.subjects, two.subjects)
    for name in ("whose", "code", "visit", "value", "time", "end"):
        first, second = getattr(one, name), getattr(two, name)
        assert first.dtype == second.dtype
        assert np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"), name
    texts = [[e.texts[t] if t >= 0 else None for t in e.text] for e in (one, two)]
    assert texts[0] == texts[1]
    for column in one.schema.static.learned:
        first, second = one.column(column.name), two.column(column.name)
        assert np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"), column.name
        assert np.array_equal(one.static.state(column.name), two.static.state(column.name))


def write(events: Events, out: Path, **options: object) -> Path:
    doors.write([events], out, "meds", **{"synthetic": True, **options})  # type: ignore[arg-type]
    return out


def test_what_is_written_comes_back_exactly(tmp_path: Path) -> None:
    events = histories()
    back = meds.read(write(events, tmp_path / "out"))
    assert_same(events, back.events)
    assert back.synthetic
    assert back.ids == ()
    assert back.format == "meds"
    assert "1 events have no time." in back.notes
    assert_same(events, meds.read(tmp_path / "out", schema=SCHEMA).events)


def test_the_standard_s_own_package_accepts_every_file(tmp_path: Path) -> None:
    package = pytest.importorskip("meds")
    parquet = pytest.importorskip("pyarrow.parquet")
    out = write(histories(), tmp_path / "out")
    data = parquet.read_table(out / "data" / "0.parquet")
    package.DataSchema.validate(data)
    codes = parquet.read_table(out / "metadata" / "codes.parquet")
    package.CodeMetadataSchema.validate(codes)
    dataset = json.loads((out / "metadata" / "dataset.json").read_text())
    package.DatasetMetadataSchema.validate(dataset)
    assert dataset["synthetic"] is True
    rows = pl.from_arrow(data)
    assert isinstance(rows, pl.DataFrame)
    # every code is described; subject and time are in order, unknown times first
    assert set(rows["code"]) <= set(codes["code"].to_pylist())
    assert rows.equals(rows.sort("subject_id", "time", nulls_last=False, maintain_order=True))
    assert rows.filter(pl.col("code") == package.birth_code).height == 2
    assert rows.filter(pl.col("code") == package.death_code).height == 1
    assert set(dataset["code_modifier_columns"] + dataset["other_extension_columns"]) < set(
        rows.columns
    )
    # 1.1 is the shortest decimal of its float32; a third needs all of its digits
    assert rows["exact_value"].drop_nulls().to_list() == [1 / 3]


def test_blocks_become_files_and_files_become_blocks(tmp_path: Path) -> None:
    events = histories()
    parts = [events.take(np.array([0, 1])), events.take(np.array([2, 3]))]
    out = tmp_path / "out"
    meds.write(iter(parts), out, layout={}, synthetic=False)
    assert sorted(p.name for p in (out / "data").iterdir()) == ["0.parquet", "1.parquet"]
    blocks = list(meds.stream(out))
    assert [block.n_subjects for block in blocks] == [2, 2]
    assert_same(Events.concatenate(blocks), events)
    # so few rows that every subject is a block of its own
    small = list(meds.stream(out, rows=1))
    assert len(small) == 4
    assert_same(Events.concatenate(small), events)
    assert not meds.read(out).synthetic


def test_a_folder_that_is_there_stays_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    out = write(histories(), tmp_path / "out")
    write(histories().take(np.array([0])), out)  # an earlier one of this door is replaced
    assert meds.read(out).events.n_subjects == 1
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "diary.txt").write_text("mine")
    with pytest.raises(OutputError):
        write(histories(), theirs)
    assert (theirs / "diary.txt").read_text() == "mine"

    def broken() -> object:
        yield histories()
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError):
        meds.write(broken(), tmp_path / "two", layout={}, synthetic=True)  # type: ignore[arg-type]
    other = replace(histories(), schema=replace(SCHEMA, clock="day"))
    with pytest.raises(SchemaError):
        meds.write([histories(), other], tmp_path / "two", layout={}, synthetic=True)
    with pytest.raises(InputError):
        meds.write([], tmp_path / "two", layout={}, synthetic=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "theirs"]
    with pytest.raises(RuntimeError):
        meds.write(broken(), out, layout={}, synthetic=True)  # type: ignore[arg-type]
    assert meds.read(out).events.n_subjects == 1


def test_synthetic_subjects_are_numbered_beyond_all_real_ones(tmp_path: Path) -> None:
    path = foreign(ROWS, tmp_path / "m" / "data" / "0.parquet").parents[1]
    history = meds.read(path)  # subjects 30 and 4
    write(history.events, tmp_path / "out", layout=history.layout)
    numbers = pl.read_parquet(tmp_path / "out" / "data" / "0.parquet")["subject_id"]
    assert sorted(set(numbers)) == [100, 101]
    assert_same(meds.read(tmp_path / "out").events, history.events)


@pytest.mark.parametrize(
    "facts",
    [{"sex": {"prefix": ""}}, {"sex": {"prefix": 3}}, {"sex": "G"}, {"sex": {"colour": "red"}},
     {"sex": {"prefix": "G", "separator": "?"}}],
)  # fmt: skip
def test_a_stranger_s_description_of_facts_is_checked(
    facts: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(SchemaError):
        write(histories(), tmp_path / "out", layout={"facts": facts})


def test_names_of_subjects_are_kept_whatever_they_are(tmp_path: Path) -> None:
    for ids in (("12", "7", "900", "1"), ("a-1", "b", "c", "007")):
        back = meds.read(write(histories(), tmp_path / ids[0], ids=ids))
        assert back.ids == ids
        assert_same(back.events, histories())
    numbers = pl.read_parquet(tmp_path / "12" / "data" / "0.parquet")["subject_id"]
    assert set(numbers) == {12, 7, 900, 1}


# ------------------------------------------------------------------ other writers


def foreign(rows: list[tuple[object, ...]], path: Path, **types: pl.DataType) -> Path:
    """Write rows of (subject, time in hours, code, number, text) as others do."""
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String,
              "numeric_value": pl.Float32, "text_value": pl.String}  # fmt: skip
    times = [None if r[1] is None else when(float(r[1])).tolist()[0] for r in rows]  # type: ignore[arg-type]
    frame = pl.DataFrame(
        {
            "subject_id": [r[0] for r in rows],
            "time": times,
            "code": [r[2] for r in rows],
            "numeric_value": [r[3] if len(r) > 3 else None for r in rows],
            "text_value": [r[4] if len(r) > 4 else None for r in rows],
        },
        schema=schema,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.cast(dict(types)).write_parquet(path)  # type: ignore[arg-type]
    return path


ROWS: list[tuple[object, ...]] = [
    (30, None, "GENDER//F"),
    (30, None, "RACE/Asian"),
    (30, None, "HEIGHT", 1.5),
    (30, None, "ALLERGY//nuts"),
    (30, None, "ALLERGY//cats"),
    (30, -90000, "MEDS_BIRTH"),
    (30, 1, "LAB//50912//mg/dL", 1.1),
    (30, 2, "DIAGNOSIS//ICD//10//E119"),
    (30, 9, "MEDS_DEATH"),
    (4, None, "GENDER//M"),
    (4, -80000, "MEDS_BIRTH"),
    (4, 3, "LAB//50912//mg/dL", 2.25, "haemolysed"),
]


def test_facts_that_are_told_once_become_columns_and_the_rest_stays(tmp_path: Path) -> None:
    path = foreign(ROWS, tmp_path / "m" / "data" / "train" / "0.parquet").parents[2]
    history = meds.read(path)
    events, schema = history.events, history.events.schema
    assert [c.name for c in schema.static] == ["birth", "sex", "height", "race"]
    assert (schema.birth, schema.sex, schema.clock) == ("birth", "sex", "hour")
    assert events.column("sex").tolist() == [0, 1]
    assert events.column("race").tolist() == [0, -1]
    assert events.column("height").tolist()[0] == 1.5
    assert np.isnan(events.column("height")[1])
    assert events.births().tolist() == when(-90000, -80000).tolist()
    # two allergies are no fact that is told once: they are events without a time
    named = [(schema.codes[c].name, schema.codes[c].domain) for c in events.code]
    assert named == [
        ("ALLERGY//nuts", "observation"), ("ALLERGY//cats", "observation"),
        ("LAB//50912//mg/dL", "measurement"), ("DIAGNOSIS//ICD//10//E119", "condition"),
        ("MEDS_DEATH", "death"), ("LAB//50912//mg/dL", "measurement"),
    ]  # fmt: skip
    assert np.isnat(events.time).tolist() == [True, True, False, False, False, False]
    # float32 means the decimal that was written, not the nearest binary fraction
    assert events.value[2] == 1.1
    assert events.schema.codes[events.code[2]].decimals == 2
    assert history.ids == ("30", "4")
    assert not history.synthetic


def test_foreign_data_come_back_as_they_were(tmp_path: Path) -> None:
    path = foreign(ROWS, tmp_path / "m" / "data" / "0.parquet").parents[1]
    history = meds.read(path)
    out = tmp_path / "again"
    doors.write([history.events], out, "meds", layout=json.loads(json.dumps(history.layout)),
                synthetic=history.synthetic, ids=history.ids)  # fmt: skip
    columns = ["subject_id", "time", "code", "numeric_value", "text_value"]
    before = pl.read_parquet(path / "data" / "0.parquet").select(columns)
    after = pl.read_parquet(out / "data" / "0.parquet").select(columns)
    assert sorted(before.rows(), key=str) == sorted(after.rows(), key=str)
    assert_same(meds.read(out).events, history.events)


def test_columns_of_other_converters_are_read(tmp_path: Path) -> None:
    path = foreign(
        [(1, 1, "Visit/IP"), (1, 2, "SNOMED/1"), (1, 99, "Visit/OP")], tmp_path / "a.parquet"
    )
    frame = pl.read_parquet(path).with_columns(
        end=pl.Series(when(5, np.nan, 99)),
        visit_id=pl.Series([90001, 90001, 80001]),
        table=pl.Series(["visit", "condition", "visit"]),
        unit=pl.Series(["", None, ""]),
        clerk=pl.Series(["x", "y", "z"]),
    )
    frame.write_parquet(path)
    assert meds.recognises(path)
    history = meds.read(path)
    assert history.events.visit.tolist() == [1, 1, 0]  # the source's own numbers are not kept
    assert [code.domain for code in history.events.schema.codes] == ["condition", "visit", "visit"]
    assert history.events.end.tolist() == when(5, np.nan, 99).tolist()
    assert "A file had a column 'clerk', which was left out." in history.notes


def test_unsorted_repeated_and_scattered_rows_are_mended_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    foreign([(1, 5, "a"), (1, 2, "b"), (2, 1, "a"), (2, 1, "a")], folder / "data" / "0.parquet")
    foreign([(1, 9, "a"), (3, 1, "b")], folder / "data" / "1.parquet")
    history = meds.read(folder)
    events = history.events
    assert events.whose.tolist() == [0, 0, 0, 1, 1, 2]
    assert events.time.tolist() == when(2, 5, 9, 1, 1, 1).tolist()
    assert "2 rows were not sorted by subject and time; they were sorted." in history.notes
    assert "1 rows are there more than once; all were kept." in history.notes
    assert "1 subjects were in several files; they were put together." in history.notes
    assert history.ids == ("1", "2", "3")
    # in a stream the scattered subject comes last, and whole
    blocks = list(meds.stream(folder))
    assert [b.counts.tolist() for b in blocks] == [[2], [1], [3]]
    assert [b.subjects.tolist() for b in blocks] == [[0], [1], [2]]


def test_times_of_zones_become_utc(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "data"
    foreign([(1, 5, "a")], folder / "0.parquet")
    foreign([(2, 5, "a")], folder / "1.parquet")
    frame = pl.read_parquet(folder / "1.parquet")
    zoned = pl.col("time").dt.replace_time_zone("Europe/Berlin").dt.cast_time_unit("ns")
    frame.with_columns(zoned).write_parquet(folder / "1.parquet")
    history = meds.read(folder.parent)
    assert history.events.time.tolist() == when(5, 4).tolist()  # one hour east in winter
    assert any("Europe/Berlin" in note for note in history.notes)


def test_more_than_one_birth_is_kept_as_an_event(tmp_path: Path) -> None:
    path = foreign([(1, 1, "MEDS_BIRTH"), (1, 2, "MEDS_BIRTH"), (1, None, "MEDS_BIRTH"),
                    (2, 1, "a")], tmp_path / "a.parquet")  # fmt: skip
    history = meds.read(path)
    assert history.events.births().tolist() == when(1, np.nan).tolist()
    assert history.events.n_events == 3
    assert any(note.startswith("2 births") for note in history.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject_id": None}, "2 of 2 rows have no subject"),
        ({"code": None}, "2 of 2 rows have no code"),
    ],
)
def test_rows_of_nobody_or_nothing_are_refused_with_their_count(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = foreign([(1, 1, "a", 1.0), (1, 2, "b")], tmp_path / "a.parquet")
    frame = pl.read_parquet(path)
    name = next(iter(change))
    frame.with_columns(pl.lit(None, frame.schema[name]).alias(name)).write_parquet(path)
    with pytest.raises(InputError, match=said):
        meds.read(path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("subject_id", pl.String()),
        ("subject_id", pl.Float64()),
        ("time", pl.String()),
        ("time", pl.Int64()),
        ("code", pl.Int64()),
        ("numeric_value", pl.String()),
        ("text_value", pl.Float64()),
    ],
)
def test_columns_of_a_wrong_type_are_refused(name: str, dtype: pl.DataType, tmp_path: Path) -> None:
    path = foreign([(1, 1, "8", 1.0, "9")], tmp_path / "a.parquet", **{name: dtype})
    with pytest.raises(InputError, match=f"column '{name}'"):
        meds.read(path)


def test_cut_files_and_folders_without_data_are_refused(tmp_path: Path) -> None:
    path = foreign(ROWS * 500, tmp_path / "data" / "0.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        meds.read(tmp_path)
    torn = bytearray(whole)
    torn[200:1200] = b"\x00" * 1000  # the end is whole, the pages are not
    path.write_bytes(bytes(torn))
    with pytest.raises(InputError):
        meds.read(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(InputError):
        meds.read(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no Parquet file"):
        meds.read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        meds.read(tmp_path / "nowhere")
    assert not meds.recognises(tmp_path)


def test_metadata_of_a_stranger_are_checked(tmp_path: Path) -> None:
    out = write(histories(), tmp_path / "out")
    own = out / "metadata" / "manikin.json"
    text = own.read_text()
    for broken in ("{", text.replace('"clock": "minute"', '"clock": "aeon"'),
                   text.replace('"birth": "birth"', '"birth": "nobody"')):  # fmt: skip
        own.write_text(broken)
        with pytest.raises((InputError, SchemaError)):
            meds.read(out)
    own.write_text(text)
    codes = out / "metadata" / "codes.parquet"
    pl.read_parquet(codes).filter(pl.col("place") != 1).write_parquet(codes)
    with pytest.raises(InputError):
        meds.read(out)
    # without what this program wrote for itself the data are read as anybody's
    own.unlink()
    codes.unlink()
    read = meds.read(out)
    # the weight that was not asked makes its column an event without a time, and what was told
    # of smoking once without a time is a fact: 7 + 2 - 1
    assert read.events.n_events == 8
    assert read.synthetic


def test_codes_that_a_given_schema_lacks_are_counted(tmp_path: Path) -> None:
    out = write(histories(), tmp_path / "out")
    less = EventSchema(STATIC, CODES[:2], birth="birth", sex="sex")
    with pytest.raises(InputError, match="5 rows of 3 codes"):
        meds.read(out, schema=less)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_histories_come_back(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 4))
    texts = tuple(data.draw(st.lists(st.text(max_size=4), unique=True, max_size=3)))
    rows = data.draw(st.lists(st.integers(0, max(n - 1, 0)), max_size=12 if n else 0))
    m = len(rows)

    def many(strategy: st.SearchStrategy[object]) -> list[object]:
        return data.draw(st.lists(strategy, min_size=m, max_size=m))

    hours = st.one_of(st.just(np.nan), st.integers(-900_000, 900_000))
    static = Table(
        STATIC,
        np.arange(n),
        {
            "birth": when(*data.draw(st.lists(hours, min_size=n, max_size=n))),
            "sex": np.array(data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)), "i4"),
            "weight": np.full(n, np.nan),
            "since": when(*data.draw(st.lists(hours, min_size=n, max_size=n))),
        },
        {"weight": np.array(data.draw(st.lists(st.integers(1, 2), min_size=n, max_size=n)), "i1")},
    )
    events = Events.of(
        SCHEMA, static, rows, when(*many(hours)), many(st.integers(0, len(CODES) - 1)),
        many(st.floats()), many(st.integers(-1, len(texts) - 1)), when(*many(hours)),
        many(st.integers(-1, 2**31 - 2)), texts,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        assert_same(events, meds.read(write(events, Path(folder) / "out")).events)
