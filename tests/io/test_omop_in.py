"""An OMOP CDM in: what a hand-made one says, and what broken ones are refused for."""

import os
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from omop_cdm import CDM, assert_same, files, records

from manikin.data.events import Events
from manikin.errors import InputError, SchemaError, Stopped
from manikin.io import omop
from manikin.io.histories import format_of, read
from manikin.io.omop.cells import moments, numbers, whole
from manikin.io.omop.fields import TABLES, fields

duckdb = pytest.importorskip("duckdb")
REAL = Path(os.environ.get("MANIKIN_REAL_DATA", "nowhere"))
SYNTHEA = REAL / "omop_synthea27" / "Synthea27Nj_5.4.zip"


def told(events: Events, subject: int) -> list[tuple[str, str, float | None, str | None]]:
    """What one subject's events say: time, code, number and text."""
    of = np.flatnonzero(events.whose == subject)
    return [
        (
            str(events.time[i].astype("datetime64[m]")),
            events.schema.codes[events.code[i]].name,
            None if np.isnan(events.value[i]) else float(events.value[i]),
            None if events.text[i] < 0 else events.texts[events.text[i]],
        )
        for i in of
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files(tmp_path_factory.mktemp("cdm") / "cdm")


def test_a_cdm_is_read_as_it_says(folder: Path) -> None:
    history = omop.read(folder)
    events = history.events
    assert history.ids == ("1", "2", "3") and not history.synthetic
    assert events.static.to_polars().rows() == [
        ("female", "White", "Not Hispanic or Latino", _day(1960, 3, 15)),
        ("male", "Black or African American", "Hispanic or Latino", _day(1980, 1, 1)),
        ("male", None, None, _day(1990, 12, 31)),
    ]
    assert (events.schema.sex, events.schema.birth, events.schema.clock) == (
        "sex", "birth", "minute",
    )  # fmt: skip
    assert told(events, 0) == [
        ("2020-02-01T08:30", "Visit/IP", None, None),
        ("2020-02-01T09:00", "SNOMED/44054006", None, None),
        ("2020-02-01T10:00", "LOINC/4548-4", 8.25, None),
        ("2020-02-03T12:00", "RxNorm/6809", 60.0, None),
        ("2020-05-20T10:00", "LOINC/4548-4", 7.1, None),
    ]
    # the period of person 1 says no more than her events; that of person 2 does
    assert told(events, 1) == [
        ("2021-01-01T00:00", "OBSERVATION_PERIOD/start", None, None),
        ("2021-06-10T09:00", "Visit/OP", None, None),
        ("2021-06-10T09:00", "OMOP/4144272", None, "never smoked"),
        ("2021-06-10T09:05", "LOINC/5778-6", None, "SNOMED/10828004"),
        ("2021-06-10T09:10", "J06.9", None, None),
        ("2021-06-10T09:20", "OMOP/0", None, None),  # a remark is no code
        ("2021-07-01T00:00", "DEATH", None, "SNOMED/22298006"),
        ("2021-12-31T00:00", "OBSERVATION_PERIOD/end", None, None),
    ]
    assert told(events, 2) == []
    assert events.visit[events.whose == 0].tolist() == [0, 0, 0, 0, -1]
    assert events.visit[events.whose == 1].tolist() == [-1, 0, 0, 0, 0, 0, -1, -1]
    stay = events.end[0] - events.time[0]
    assert stay == np.timedelta64(3 * 24 * 60 + 8 * 60 + 30, "m")


def test_codes_have_what_the_vocabulary_says(folder: Path) -> None:
    codes = {code.name: code for code in omop.read(folder).events.schema.codes}
    diabetes = codes["SNOMED/44054006"]
    assert (diabetes.label, diabetes.concept) == ("Type 2 diabetes mellitus", 201826)
    assert diabetes.parents == ("SNOMED/73211009",)  # one level above, and not three
    glycated = codes["LOINC/4548-4"]
    assert (glycated.unit, glycated.numeric, glycated.decimals) == ("%", True, 2)
    assert codes["LOINC/5778-6"].levels == ("SNOMED/10828004",)
    assert not codes["LOINC/5778-6"].numeric
    assert codes["OMOP/4144272"].levels == ()  # one person's text is no level
    assert codes["RxNorm/6809"].domain == "drug"


def test_no_identifier_of_the_source_is_kept(folder: Path) -> None:
    history = omop.read(folder)
    whole_text = str(history.events.schema.to_json()) + str(history.events.texts)
    for hidden in ("MRN-778", "a4c3-77", "pain in the left knee"):
        assert hidden not in whole_text


def test_parents_come_from_relationships_without_ancestors(tmp_path: Path) -> None:
    relations = """
concept_id_1,concept_id_2,relationship_id,valid_start_date,valid_end_date,invalid_reason
201826,201820,Is a,20020131,20991231,
201826,4008576,Is a,20020131,20991231,D
201826,201820,Maps to,20020131,20991231,
"""
    files(tmp_path, concept_ancestor=None, concept_relationship=relations)
    codes = {code.name: code for code in omop.read(tmp_path).events.schema.codes}
    assert codes["SNOMED/44054006"].parents == ("SNOMED/73211009",)


def test_without_vocabularies_codes_are_numbers(tmp_path: Path) -> None:
    files(tmp_path, concept=None, concept_ancestor=None)
    names = {code.name for code in omop.read(tmp_path).events.schema.codes}
    assert {"OMOP/201826", "OMOP/3004410", "OMOP/1503297", "Visit/IP", "J06.9"} <= names


def test_every_form_says_the_same(folder: Path, tmp_path: Path) -> None:
    """CSV in capitals, Parquet, folders of parts, DuckDB, SQLite with times as texts or seconds."""
    expected = omop.read(folder).events
    files(tmp_path / "upper", upper=True)
    parquet, parts = tmp_path / "parquet", tmp_path / "parts"
    parquet.mkdir()
    database = duckdb.connect(str(tmp_path / "cdm.duckdb"))
    database.execute("CREATE SCHEMA cdm.cdm; CREATE SCHEMA cdm.vocabulary")
    light = sqlite3.connect(tmp_path / "cdm.sqlite")
    for table in CDM:
        frame = pl.read_csv(folder / f"{table}.csv", try_parse_dates=True)
        frame.write_parquet(parquet / f"{table}.parquet")
        (parts / table).mkdir(parents=True)
        half = frame.height // 2
        for k, part in enumerate((frame[:half], frame[half:])):
            part.write_parquet(parts / table / f"part-{k}.parquet")
        schema = "vocabulary" if table.startswith("concept") else "cdm"
        database.register("given", frame)
        database.execute(f"CREATE TABLE cdm.{schema}.{table.upper()} AS SELECT * FROM given")
        seconds = frame.with_columns(
            pl.col(name).cast(pl.Datetime("us")).dt.epoch("s").cast(pl.Float64)
            for name, kind in frame.schema.items()
            if kind.is_temporal() and table == "measurement"
        ).with_columns(pl.selectors.temporal().cast(pl.String))
        light.execute(f"CREATE TABLE {table} ({', '.join(seconds.columns)})")
        marks = ", ".join("?" * seconds.width)
        light.executemany(f"INSERT INTO {table} VALUES ({marks})", seconds.rows())
    database.close()
    light.commit()
    light.close()
    for source in ("upper", "parquet", "parts", "cdm.duckdb", "cdm.sqlite"):
        assert format_of(tmp_path / source) == "omop", source
        assert_same(omop.read(tmp_path / source).events, expected)


def test_athena_tables_have_tabs_and_bare_quotes(tmp_path: Path) -> None:
    files(tmp_path, concept=None)
    rows = CDM["concept"].strip().replace(",", "\t").replace("metformin", 'metformin "XR')
    (tmp_path / "CONCEPT.csv").write_text(rows, encoding="utf-8")
    codes = {code.name: code for code in omop.read(tmp_path).events.schema.codes}
    assert codes["RxNorm/6809"].label == 'metformin "XR'


@pytest.mark.parametrize("subjects_per_block", [1, 2])
def test_a_stream_has_the_same_events(folder: Path, subjects_per_block: int) -> None:
    parts = list(omop.stream(folder, subjects_per_block=subjects_per_block))
    assert parts[0].n_subjects == subjects_per_block
    assert_same(Events.concatenate(parts), omop.read(folder).events)


def test_rows_of_nobody_are_refused_or_kept(tmp_path: Path) -> None:
    more = CDM["measurement"] + "4,77,3004410,2020-01-01,,32817,5,0,8554,,,,\n"
    more += "5,-3,3004410,2020-01-02,,32817,6,0,8554,,,,\n"
    files(tmp_path, measurement=more)
    with pytest.raises(InputError, match=r"2 rows are of 2 persons .*2 in MEASUREMENT"):
        omop.read(tmp_path)
    history = omop.read(tmp_path, dangling="keep")
    assert history.ids == ("-3", "1", "2", "3", "77")
    assert history.events.counts.tolist() == [1, 5, 8, 0, 1]
    assert not history.events.static.present("sex")[[0, 4]].any()
    assert any("2 persons that PERSON does not have" in note for note in history.notes)
    streamed = list(omop.stream(tmp_path, subjects_per_block=2, dangling="keep"))
    assert_same(Events.concatenate(streamed), history.events)


def test_what_is_odd_is_kept_and_counted(tmp_path: Path) -> None:
    measured = CDM["measurement"] + "".join(
        f"{row}\n"
        for row in (
            "4,1,3004410,1959-01-01,,32817,5,0,8554,,,,",  # before her birth
            "5,2,3004410,2022-01-01,,32817,5,0,8554,,,,",  # after his death
            "6,2,3004410,,,32817,5,0,8554,,,,",  # at no time
            "7,1,3004410,2020-02-01,,32817,5,0,8554,999,,,",  # at a visit that there is not
            "8,1,3004410,2020-02-01,,32817,5,0,8554,902,,,",  # at another person's
            "9,,3004410,2020-02-01,,32817,5,0,8554,,,,",  # of nobody
        )
    )
    ended = CDM["condition_occurrence"].replace("2021-06-20", "2021-06-01")
    history = omop.read(files(tmp_path, measurement=measured, condition_occurrence=ended))
    assert history.events.n_events == 13 + 5
    notes = " | ".join(history.notes)
    assert "1 events before their person's birth" in notes
    assert "1 events without a date" in notes
    assert "1 events that end before they start" in notes
    assert "2 events at a visit that there is not" in notes
    assert "1 rows without a person_id" in notes
    # 1 January 2022, and the end of his observation on 31 December 2021
    assert "2 events after the day of their person's death" in notes
    assert "1 births without a month" in notes


def test_details_that_repeat_their_visit_are_left_out(tmp_path: Path) -> None:
    details = """
visit_detail_id,person_id,visit_detail_concept_id,visit_detail_start_date,visit_detail_start_datetime,visit_detail_end_date,visit_detail_end_datetime,visit_detail_type_concept_id,visit_occurrence_id
1,1,9201,2020-02-01,2020-02-01 08:30:00,2020-02-04,2020-02-04 17:00:00,32817,901
2,1,32037,2020-02-02,2020-02-02 08:30:00,2020-02-03,2020-02-03 17:00:00,32817,901
"""
    history = omop.read(files(tmp_path, visit_detail=details))
    names = [entry[1] for entry in told(history.events, 0)]
    assert names.count("Visit/IP") == 1 and names.count("OMOP/32037") == 1
    intensive = history.events.rows(np.array([names.index("OMOP/32037")]))
    assert intensive.visit.tolist() == [0]
    assert any(note.startswith("1 rows of VISIT_DETAIL") for note in history.notes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"person": None}, "no table PERSON"),
        ({"person": "person_id,gender_concept_id\n1,8507\n"}, "no field year_of_birth"),
        ({"measurement": "measurement_id,person_id\n1,1\n"}, "measurement_date, measurement_con"),
        ({"person": CDM["person"].replace("\n3,", "\n2,")}, "1 rows of PERSON repeat"),
        ({"person": CDM["person"].replace("\n3,", "\nx3,")}, "1 cells of PERSON_ID"),
        ({"condition_occurrence": CDM["condition_occurrence"].replace("201826", "E11")},
         "1 cells of CONDITION_CONCEPT_ID in CONDITION_OCCURRENCE are no whole"),
        ({"measurement": CDM["measurement"].replace("8.25,0", "high,0")}, "are no numbers"),
        ({"measurement": CDM["measurement"].replace("2020-05-20 10", "20.5.2020 10")}, "no dates"),
        ({"visit_occurrence": CDM["visit_occurrence"].replace("902,2", "901,2")},
         "2 rows of VISIT_OCCURRENCE share"),
        ({"measurement": CDM["measurement"] + "4,1,3004410,2020-05"},
         "MEASUREMENT"),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused_by_its_name(
    tmp_path: Path, changed: dict[str, str | None], said: str
) -> None:
    files(tmp_path, **changed)
    with pytest.raises(InputError, match=said) as caught:
        omop.read(tmp_path)
    for cell in ("E11", "high", "20.5.2020", "x3"):
        assert cell not in str(caught.value)


def test_files_that_are_no_database(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        omop.read(tmp_path / "none.duckdb")
    for head in (b"SQLite format 3\0", b"\0" * 8 + b"DUCK", b"PK\x03\x04"):
        broken = tmp_path / "broken.db"
        broken.write_bytes(head + b"\x07" * 5000)
        assert not omop.recognises(broken)
        with pytest.raises(InputError, match=r"cannot be read|neither a DuckDB nor"):
            omop.read(broken)
    (tmp_path / "person.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match="cannot be read as CSV or Parquet"):
        omop.read(tmp_path)


def test_a_locked_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cdm.sqlite"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE person (person_id, gender_concept_id, year_of_birth)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="locked by another program"):
        omop.read(path)
    holder.close()


def test_a_strangers_database_reads_no_other_file(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "trap.duckdb"
    with duckdb.connect(str(path)) as trap:
        trap.execute(f"CREATE VIEW person AS SELECT * FROM read_csv('{folder}/person.csv')")
        trap.execute("CREATE TABLE measurement (person_id INTEGER)")
    with pytest.raises(InputError):
        omop.read(path)


def test_an_empty_cdm_is_no_error(tmp_path: Path) -> None:
    only = {table: text.strip().split("\n")[0] + "\n" for table, text in CDM.items()}
    history = omop.read(files(tmp_path, **only))
    assert (history.events.n_subjects, history.events.n_events, history.ids) == (0, 0, ())
    assert list(omop.stream(tmp_path)) == []


def test_a_declared_schema_is_kept_to(folder: Path) -> None:
    found = omop.read(folder).events
    again = omop.read(folder, schema=found.schema)
    assert_same(again.events, found)
    import dataclasses

    fewer = dataclasses.replace(found.schema, codes=found.schema.codes[1:])
    with pytest.raises(SchemaError, match=f"1 of {len(found.schema)} codes"):
        omop.read(folder, schema=fewer)


def test_whoever_watches_may_stop(folder: Path) -> None:
    with pytest.raises(Stopped):
        omop.read(folder, watch=lambda progress: True)


def test_times_of_all_kinds_are_read() -> None:
    seen: Counter[str] = Counter()
    cells = ["2020-01-02", "2020-01-02T10:00:00Z", "2020-01-02 10:00:00.25+02:00", "20200103",
             "2020-01-02 10:00:00-0530", "2020-01-02 10:00", None, ""]  # fmt: skip
    read_cells = moments(pl.Series(cells), "x", seen).cast(pl.String).to_list()
    assert read_cells == [
        "2020-01-02 00:00:00.000000", "2020-01-02 10:00:00.000000", "2020-01-02 08:00:00.250000",
        "2020-01-03 00:00:00.000000", "2020-01-02 15:30:00.000000", "2020-01-02 10:00:00.000000",
        None, None,
    ]  # fmt: skip
    assert seen == {"zoned": 3, "plain": 3}
    assert moments(pl.Series([20200131]), "x", seen).dt.day().to_list() == [31]
    assert moments(pl.Series([86400.0, None]), "x", seen).dt.day().to_list() == [2, None]


def test_numbers_are_read_strictly() -> None:
    assert whole(pl.Series(["1", "2.0", None, "NULL"]), "x").to_list() == [1, 2, None, None]
    assert whole(pl.Series([1.0, float("nan")]), "x").to_list() == [1, None]
    assert numbers(pl.Series(["1e3", ""]), "x").to_list() == [1000.0, None]
    for wrong in (pl.Series(["1.5"]), pl.Series([1.5]), pl.Series(["one"])):
        with pytest.raises(InputError, match="1 cells of x are no whole numbers"):
            whole(wrong, "x")


@pytest.mark.skipif(not SYNTHEA.exists(), reason="the Synthea CDM is not at hand")
def test_a_real_shape_is_read(tmp_path: Path) -> None:

    import zipfile

    with zipfile.ZipFile(SYNTHEA) as archive:
        archive.extractall(tmp_path)
    for table in TABLES:  # its headers are the field list's witness
        with (tmp_path / f"{table.upper()}.csv").open(encoding="utf-8") as file:
            assert file.readline().strip().split(",") == [f.name for f in fields(table)], table
    history = read(tmp_path)
    assert (history.format, history.synthetic) == ("omop", True)
    counted = Counter(
        history.events.schema.codes[code].domain for code in history.events.code.tolist()
    )
    # rows of its files, counted by wc
    assert counted == {"visit": 1791, "condition": 470, "drug": 883, "measurement": 10040,
                       "observation": 8099, "procedure": 1649, "device": 1,
                       "death": 3}  # fmt: skip


def _day(year: int, month: int, day: int) -> object:
    import datetime

    return datetime.date(year, month, day)


def test_the_fixture_has_what_its_comment_says() -> None:
    assert len(records("person")) == 3
