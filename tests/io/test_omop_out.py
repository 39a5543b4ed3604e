"""An OMOP CDM out: back as it was, and questions of OHDSI's kind answered by others' readers."""

import dataclasses
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omop_cdm import assert_same, files

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported, OutputError
from manikin.io import omop
from manikin.io.omop.fields import TABLES, fields

duckdb = pytest.importorskip("duckdb")

STATIC = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M"), dtype="String"),
        Column("race", "categorical", categories=("Asian", "White"), missing=("", "unknown")),
        Column("born", "datetime", date_format="%Y-%m-%d", dtype="Date"),
        Column("height", "continuous", unit="cm", decimals=1, dtype="Float64"),
    )
)
CODES = (
    Code("Visit/IP", "visit", "Inpatient Visit", concept=9201),
    Code("Visit/OP", "visit"),
    Code("SNOMED/44054006", "condition", "Type 2 diabetes mellitus", concept=201826,
         parents=("SNOMED/73211009",)),
    Code("SNOMED/73211009", "condition", "Diabetes mellitus", concept=201820),
    Code("ICD10CM/J06.9", "condition", "Acute upper respiratory infection"),
    Code("RxNorm/6809", "drug", "metformin", unit="mg", numeric=True, concept=1503297),
    Code("LOINC/4548-4", "measurement", "Hemoglobin A1c", unit="%", numeric=True, decimals=1,
         concept=3004410),
    Code("LOINC/4548-4", "measurement", "Hemoglobin A1c", unit="mmol/mol", numeric=True,
         concept=3004410),
    Code("smoking", "observation", levels=("never", "ever")),
    Code("knee brace", "device"),
    Code("CPT4/27447", "procedure", "a name that may not be handed on"),
    Code("DEATH", "death", "Death", levels=("SNOMED/22298006",)),
)  # fmt: skip
SCHEMA = EventSchema(STATIC, CODES, birth="born", sex="sex", clock="minute")
AT = {(code.name, code.unit): i for i, code in enumerate(CODES)}
IP, OP, T2, DM, COLD, DRUG = range(6)
A1C, A1C_MOL, SMOKING, BRACE, KNEE, DEATH = range(6, 12)
NaT = np.datetime64("NaT", "us")


def table(n: int, first: int = 0) -> Table:
    rows = np.arange(first, first + n)
    columns: dict[str, Any] = {
        "sex": (rows % 3 - 1).astype(np.int32),
        "race": (rows % 2).astype(np.int32),
        "born": np.datetime64("1960-01-01", "us") + rows * np.timedelta64(400, "D"),
        "height": np.where(rows % 2 == 0, 170.25 + rows, np.nan),
    }
    columns["race"][columns["sex"] < 0] = -1
    states = {"race": np.where(columns["race"] < 0, 2, 0).astype(np.int8)}
    return Table(STATIC, rows, columns, states)


def day(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


def persons() -> Events:
    """Five persons of whom the questions below are asked; answers are worked in their comments."""
    rows: list[tuple[int, str, int, float, int, str | None, int]] = [
        # 0: diabetes on 1 May 2020 at a stay of four nights, metformin after 20 days
        (0, "2020-05-01T08:00", IP, np.nan, -1, "2020-05-05T10:00", 0),
        (0, "2020-05-01T09:00", T2, np.nan, -1, None, 0),
        (0, "2020-05-01T09:30", A1C, 8.1, -1, None, 0),
        (0, "2020-05-21T10:00", DRUG, 500.0, -1, "2020-06-20T10:00", -1),
        (0, "2020-06-25T10:00", DRUG, 500.0, -1, "2020-07-25T10:00", -1),
        (0, "2021-01-10T10:00", A1C, 6.9, -1, None, -1),
        # 1: diabetes and metformin after 40 days: too late
        (1, "2020-01-01T08:00", OP, np.nan, -1, None, 0),
        (1, "2020-01-01T08:00", T2, np.nan, -1, None, 0),
        (1, "2020-02-10T08:00", DRUG, 850.0, -1, None, -1),
        # 2: the wider code alone; two colds 20 days apart, which are one era
        (2, "2020-03-01T08:00", DM, np.nan, -1, None, -1),
        (2, "2020-03-01T08:00", OP, np.nan, -1, "2020-03-01T09:00", 3),
        (2, "2020-04-01T08:00", COLD, np.nan, -1, "2020-04-05T08:00", -1),
        (2, "2020-04-25T08:00", COLD, np.nan, -1, None, -1),
        # 3: emergency that no event describes; then death of a heart attack
        (3, "2020-07-01T08:00", KNEE, np.nan, -1, None, 7),
        (3, "2020-07-02T08:00", BRACE, np.nan, -1, None, 7),
        (3, "2020-07-10T00:00", DEATH, np.nan, 1, None, -1),
        # 4: nothing
    ]
    return Events.of(
        SCHEMA,
        table(5),
        [r[0] for r in rows],
        np.array([r[1] for r in rows], "datetime64[us]"),
        [r[2] for r in rows],
        [r[3] for r in rows],
        [r[4] for r in rows],
        np.array([r[5] or "NaT" for r in rows], "datetime64[us]"),
        [r[6] for r in rows],
        ("never", "SNOMED/22298006"),
    )


def assert_back(events: Events, out: Path, **layout: Any) -> None:
    omop.write([events], out, layout=layout, synthetic=False)
    assert_same(omop.read(out).events, events)


@pytest.mark.parametrize("form", ["duckdb", "sqlite", "csv", "parquet"])
def test_what_was_written_is_read_back(tmp_path: Path, form: str) -> None:
    out = tmp_path / "cdm"
    assert_back(persons(), out, backend=form)
    history = omop.read(out)
    assert (history.ids, history.notes, history.layout["backend"]) == ((), (), form)
    streamed = list(omop.stream(out, subjects_per_block=2))
    assert_same(Events.concatenate(streamed), persons())
    assert [path.name for path in tmp_path.iterdir()] == ["cdm"]  # nothing aside is left


_moments = st.one_of(
    st.just(NaT),
    st.integers(0, 2 * 10**15).map(lambda n: np.datetime64(n, "us")),
    st.sampled_from([day("2020-01-01"), day("2020-01-01T00:00:00.000001"), day("1899-12-31")]),
)
_event = st.tuples(
    st.integers(0, 3), _moments, st.integers(0, len(CODES) - 1),
    st.one_of(st.just(np.nan), st.floats(allow_nan=False, width=64)),
    st.integers(-1, 4), _moments, st.integers(-1, 3),
)  # fmt: skip
_WORDS = ("never", "", ' a blank, "quotes"\n and a line', "é" * 300, "NULL")


@settings(max_examples=6, deadline=None)
@given(st.lists(_event, max_size=30), st.sampled_from(["duckdb", "sqlite"]))
def test_any_history_comes_back(rows: list[tuple[Any, ...]], form: str) -> None:
    """Whatever stands on whichever event: a value of a visit, a second death, no time at all."""
    columns = list(zip(*rows, strict=True)) or [()] * 7
    events = Events.of(
        SCHEMA, table(4), columns[0], np.array(columns[1], "datetime64[us]"), columns[2],
        columns[3], columns[4], np.array(columns[5], "datetime64[us]"), columns[6], _WORDS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        assert_back(events, Path(folder) / "cdm", backend=form)


def test_blocks_are_written_as_one(tmp_path: Path) -> None:
    whole = persons()
    parts = [whole.take(np.array([0, 1])), whole.take(np.array([2])), whole.take(np.array([3, 4]))]
    omop.write(parts, tmp_path / "cdm.duckdb", layout={}, synthetic=False)
    assert_same(omop.read(tmp_path / "cdm.duckdb").events, whole)


def test_names_of_subjects_come_back(tmp_path: Path) -> None:
    for ids in (
        ("11", "7", "2", "900", "5"),
        ("-11", "-7", "2", "9000000000000", "5"),
        ("a", "b", "c", "d", "e"),
    ):
        out = tmp_path / f"{ids[0]}.duckdb"
        omop.write([persons()], out, layout={}, synthetic=False, ids=ids)
        history = omop.read(out)
        assert history.ids == ids
        assert_same(history.events, persons())
        assert_same(Events.concatenate(list(omop.stream(out, subjects_per_block=2))), persons())
    with pytest.raises(InputError, match="2 names for subjects"):
        omop.write([persons()], out, layout={}, synthetic=False, ids=("1", "2"))


def test_ten_thousand_codes_and_unicode(tmp_path: Path) -> None:
    codes = tuple(Code(f"LOCAL/Größe-{i}", "observation", unit="µg") for i in range(10_000))
    static = TableSchema(())
    n = len(codes)
    bare = Table(static, np.arange(2), {})
    times = np.full(n, day("2020-01-01"))
    events = Events.of(EventSchema(static, codes), bare, np.zeros(n, int), times, np.arange(n))
    assert_back(events, tmp_path / "cdm.duckdb")


def test_the_fields_are_those_of_the_cdm(cdm: Any) -> None:
    """Every table in its order, with its types; all that may not be null is there."""
    for name in TABLES:
        found = cdm.execute(f"PRAGMA table_info('{name}')").fetchall()
        assert [row[1] for row in found] == [field.name for field in fields(name)], name
        assert [bool(row[3]) for row in found] == [field.required for field in fields(name)]
    assert len(TABLES) == 39
    types = dict(cdm.execute("SELECT column_name, data_type FROM information_schema.columns"
                             " WHERE table_name = 'measurement'").fetchall())  # fmt: skip
    assert types["value_as_number"] == "DOUBLE" and types["measurement_date"] == "DATE"
    assert types["measurement_datetime"] == "TIMESTAMP" and types["person_id"] == "INTEGER"


@pytest.fixture(scope="module")
def cdm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    out = tmp_path_factory.mktemp("cdm") / "cdm.duckdb"
    omop.write([persons()], out, layout={}, synthetic=False)
    with duckdb.connect(str(out), read_only=True) as connection:
        yield connection


QUESTIONS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "diabetes or what is below it, then metformin within 30 days, while observed": (
        """
        WITH entry AS (
          SELECT c.person_id, min(c.condition_start_date) AS index_date
          FROM condition_occurrence c
          JOIN concept_ancestor a ON a.descendant_concept_id = c.condition_concept_id
          JOIN observation_period o ON o.person_id = c.person_id
            AND c.condition_start_date BETWEEN o.observation_period_start_date
            AND o.observation_period_end_date
          WHERE a.ancestor_concept_id = 201820 GROUP BY c.person_id)
        SELECT DISTINCT e.person_id FROM entry e JOIN drug_exposure d ON d.person_id = e.person_id
        WHERE d.drug_concept_id = 1503297
          AND d.drug_exposure_start_date BETWEEN e.index_date AND e.index_date + 30
        """,
        [(1,)],  # subject 0 alone: 20 days; the other took 40
    ),
    "persons with diabetes, the code and all below": (
        "SELECT count(DISTINCT person_id) FROM condition_occurrence JOIN concept_ancestor"
        " ON descendant_concept_id = condition_concept_id WHERE ancestor_concept_id = 201820",
        [(3,)],
    ),
    "prevalence of the narrow code": (
        "SELECT count(DISTINCT c.person_id) * 1.0 / (SELECT count(*) FROM person)"
        " FROM condition_occurrence c WHERE condition_concept_id = 201826",
        [(0.4,)],  # 2 of 5
    ),
    "visits by kind": (
        "SELECT visit_concept_id, count(*) FROM visit_occurrence GROUP BY 1 ORDER BY 1",
        [(0, 1), (9201, 1), (9202, 2)],
    ),
    "length of stay of inpatients": (
        "SELECT date_diff('day', visit_start_date, visit_end_date) FROM visit_occurrence"
        " WHERE visit_concept_id = 9201",
        [(4,)],
    ),
    "age at first diabetes": (
        "SELECT p.person_id, extract(year FROM min(condition_start_date)) - p.year_of_birth"
        " FROM person p JOIN condition_occurrence c USING (person_id)"
        " WHERE condition_concept_id = 201826 GROUP BY 1, p.year_of_birth ORDER BY 1",
        [(1, 60), (2, 59)],  # born 1960-01-01 and 400 days later, in 1961
    ),
    "what was done at the stay": (
        "SELECT count(*) FROM measurement m JOIN visit_occurrence v USING (visit_occurrence_id)"
        " WHERE v.visit_concept_id = 9201 AND m.person_id = v.person_id",
        [(1,)],
    ),
    "last HbA1c of each, with the unit's concept": (
        "SELECT person_id, value_as_number, unit_concept_id, unit_source_value FROM ("
        "SELECT *, row_number() OVER (PARTITION BY person_id ORDER BY measurement_datetime DESC) r"
        " FROM measurement WHERE measurement_concept_id = 3004410) WHERE r = 1",
        [(1, 6.9, 8554, "%")],
    ),
    "observed from first to last event": (
        "SELECT person_id, observation_period_start_date::VARCHAR,"
        " observation_period_end_date::VARCHAR FROM observation_period ORDER BY 1",
        [
            (1, "2020-05-01", "2021-01-10"),
            (2, "2020-01-01", "2020-02-10"),
            (3, "2020-03-01", "2020-04-25"),
            (4, "2020-07-01", "2020-07-10"),
        ],
    ),
    "eras of metformin: five days apart are one": (
        "SELECT person_id, drug_era_start_date::VARCHAR, drug_era_end_date::VARCHAR,"
        " drug_exposure_count, gap_days FROM drug_era ORDER BY 1",
        [(1, "2020-05-21", "2020-07-25", 2, 5), (2, "2020-02-10", "2020-02-10", 1, 0)],
    ),
    "deaths of those seen in hospital, with the cause": (
        "SELECT d.person_id, d.death_date::VARCHAR, cause_source_value FROM death d"
        " JOIN visit_occurrence v USING (person_id)",
        [(4, "2020-07-10", "SNOMED/22298006")],
    ),
    "sexes": (
        "SELECT coalesce(c.concept_name, 'none'), count(*) FROM person p"
        " JOIN concept c ON c.concept_id = p.gender_concept_id GROUP BY 1 ORDER BY 1",
        # subjects 0 and 3 have none, 1 and 4 are women, 2 a man
        [("No matching concept", 2), ("female", 2), ("male", 1)],
    ),
    "local codes are concepts from two thousand million on": (
        "SELECT DISTINCT k.concept_code, k.vocabulary_id, c.condition_concept_id"
        " FROM condition_occurrence c JOIN concept k"
        " ON k.concept_id = c.condition_source_concept_id WHERE k.concept_id >= 2000000000",
        [("J06.9", "ICD10CM", 0)],
    ),
    "every concept that is used has a row": (
        "SELECT count(*) FROM (SELECT condition_concept_id k FROM condition_occurrence UNION"
        " SELECT measurement_concept_id FROM measurement UNION SELECT unit_concept_id"
        " FROM measurement UNION SELECT visit_concept_id FROM visit_occurrence UNION"
        " SELECT visit_type_concept_id FROM visit_occurrence UNION SELECT race_concept_id"
        " FROM person) WHERE k IS NOT NULL AND k NOT IN (SELECT concept_id FROM concept)",
        [(0,)],
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_of_ohdsis_kind_are_answered(cdm: Any, question: str) -> None:
    query, answer = QUESTIONS[question]
    found = cdm.execute(query).fetchall()
    assert found == [pytest.approx(row) if isinstance(row[-1], float) else row for row in answer]


def test_colds_three_weeks_apart_are_one_era(tmp_path: Path) -> None:
    codes = tuple(dataclasses.replace(c, concept=257011) if c.name.endswith("J06.9") else c
                  for c in CODES)  # fmt: skip
    schema = dataclasses.replace(SCHEMA, codes=codes)
    omop.write([dataclasses.replace(persons(), schema=schema)], tmp_path / "cdm.sqlite",
               layout={}, synthetic=False)  # fmt: skip
    with sqlite3.connect(tmp_path / "cdm.sqlite") as other:
        eras = other.execute(
            "SELECT person_id, condition_era_start_date, condition_era_end_date,"
            " condition_occurrence_count FROM condition_era WHERE condition_concept_id = 257011"
        ).fetchall()
    other.close()
    # 5 April to 25 April are 20 days; one without an end lasts a day
    assert eras == [(3, "2020-04-01", "2020-04-26", 2)]


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    omop.write([persons()], tmp_path / "csv", layout={"backend": "csv", "upper": True},
               synthetic=False)  # fmt: skip
    conditions = pandas.read_csv(tmp_path / "csv" / "CONDITION_OCCURRENCE.csv")
    assert conditions["condition_source_value"].tolist() == [
        "SNOMED/44054006", "SNOMED/44054006", "SNOMED/73211009", "ICD10CM/J06.9", "ICD10CM/J06.9",
    ]  # fmt: skip
    assert conditions["condition_start_date"].tolist()[0] == "2020-05-01"
    omop.write([persons()], tmp_path / "parquet", layout={"backend": "parquet"}, synthetic=False)
    drugs = pandas.read_parquet(tmp_path / "parquet" / "drug_exposure.parquet")
    assert drugs["quantity"].tolist() == [500.0, 500.0, 850.0]
    assert drugs["drug_exposure_end_date"].astype(str).tolist()[2] == "2020-02-10"  # required


def test_what_is_synthetic_says_so_and_names_stay_behind(tmp_path: Path) -> None:
    out = tmp_path / "cdm.duckdb"
    omop.write([persons()], out, layout={"vocabulary_version": "v5.0"}, synthetic=True)
    assert omop.read(out).synthetic
    with duckdb.connect(str(out), read_only=True) as connection:
        name, version = connection.execute(
            "SELECT cdm_source_name, vocabulary_version FROM cdm_source"
        ).fetchall()[0]
        names = dict(
            connection.execute("SELECT concept_code, concept_name FROM concept").fetchall()
        )
        above = connection.execute(
            "SELECT count(*) FROM concept_ancestor WHERE min_levels_of_separation > 0"
        ).fetchall()
        everything = str([
            connection.execute(f"SELECT * FROM {table}").fetchall()
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        ])  # fmt: skip
    assert "Synthetic" in name and version == "v5.0"
    assert names["4548-4"] == "Hemoglobin A1c" and names["6809"] == "metformin"
    assert names["44054006"] == "44054006"  # SNOMED CT is licensed
    assert "diabetes" not in everything and "may not be handed on" not in everything
    assert above == [(0,)]
    read = omop.read(out).events
    labels = {code.name: code.label for code in read.schema.codes}
    assert labels["SNOMED/44054006"] == "" and labels["LOINC/4548-4"] == "Hemoglobin A1c"


def test_a_copy_has_the_form_of_its_source(tmp_path: Path) -> None:
    files(tmp_path / "in", upper=True)
    source = omop.read(tmp_path / "in")
    # a layout may stand in a model's file: what fewer than five persons have is not told there
    assert source.layout["answers"] == {} and source.layout["levels"]["race"] == {}
    answers = {"SNOMED/10828004": 9191, "SNOMED/22298006": 4329847}
    layout = {key: value for key, value in source.layout.items() if key != "backend"}
    omop.write([source.events], tmp_path / "out", layout=layout | {"answers": answers},
               synthetic=True, ids=source.ids)  # fmt: skip
    assert (tmp_path / "out" / "PERSON.csv").exists()
    for table, field, said in (
        ("PERSON", "gender_concept_id", ["8532", "8507", "8507"]),
        ("PERSON", "race_concept_id", ["8527", "8516", "0"]),
        ("MEASUREMENT", "value_as_concept_id", ["", "9191", ""]),
        ("MEASUREMENT", "unit_concept_id", ["8554", "", "8554"]),
        ("DEATH", "cause_concept_id", ["4329847"]),
        ("OBSERVATION_PERIOD", "observation_period_end_date", ["2020-05-20", "2021-12-31"]),
    ):
        frame = pandas.read_csv(tmp_path / "out" / f"{table}.csv", dtype=str, keep_default_na=False)
        assert sorted(frame[field]) == sorted(said), field


def test_a_cdm_that_was_changed_is_read_as_anothers(tmp_path: Path) -> None:
    out = tmp_path / "cdm.duckdb"
    omop.write([persons()], out, layout={}, synthetic=False)
    with duckdb.connect(str(out)) as connection:
        connection.execute("UPDATE condition_occurrence SET condition_source_concept_id = 5")
    history = omop.read(out)
    assert history.events.n_events > 0 and "were changed" in history.notes[0]
    assert sum(part.n_events for part in omop.stream(out)) == history.events.n_events


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def broken() -> Iterator[Events]:
        yield persons()
        raise InputError("the source ended early")

    for out in (tmp_path / "cdm.duckdb", tmp_path / "cdm.sqlite", tmp_path / "cdm"):
        with pytest.raises(InputError, match="ended early"):
            omop.write(broken(), out, layout={}, synthetic=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no histories"):
        omop.write([], tmp_path / "cdm.duckdb", layout={}, synthetic=False)
    with pytest.raises(InputError, match="5 subjects of a block"):
        omop.write([persons(), persons()], tmp_path / "cdm.duckdb", layout={}, synthetic=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files"):
        omop.write([persons()], tmp_path / "full", layout={"backend": "csv"}, synthetic=False)
    with pytest.raises(OutputError, match="cannot be written"):
        omop.write([persons()], tmp_path / "no" / "cdm.duckdb", layout={}, synthetic=False)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_layout_that_a_stranger_wrote_is_taken_for_what_it_is(tmp_path: Path) -> None:
    odd = {"units": "mg", "answers": {"never": "x", "ever": -3}, "levels": [1], "upper": 1,
           "backend": 7, "vocabulary_version": None}  # fmt: skip
    omop.write([persons()], tmp_path / "cdm", layout=odd, synthetic=False)
    assert_same(omop.read(tmp_path / "cdm").events, persons())
    with pytest.raises(NotSupported, match="cannot be written as"):
        omop.write([persons()], tmp_path / "more", layout={"form": "../x"}, synthetic=False)


def test_synthetic_persons_have_no_number_of_a_real_one(tmp_path: Path) -> None:
    ids = ("11", "7", "2", "900", "5")
    omop.write([persons()], tmp_path / "real.duckdb", layout={}, synthetic=False, ids=ids)
    layout = omop.read(tmp_path / "real.duckdb").layout
    omop.write([persons()], tmp_path / "drawn.duckdb", layout=layout, synthetic=True)
    assert omop.read(tmp_path / "drawn.duckdb").ids == ("1001", "1002", "1003", "1004", "1005")
    far = dict(layout) | {"above": 10**15}
    omop.write([persons()], tmp_path / "far.sqlite", layout=far, synthetic=True)
    assert omop.read(tmp_path / "far.sqlite").ids[0] == "1000000000000001"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, on a socket in a folder."""
    pytest.importorskip("adbc_driver_postgresql")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    user = shutil.which("setpriv")
    if not programs or (user is None):
        pytest.skip("there is no PostgreSQL server")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, "postgres")
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    base = programs[-1].parent
    made = subprocess.run(
        [*become, base / "initdb", "-D", folder / "data", "-A", "trust", "-N", "-E", "UTF8"],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("a PostgreSQL server cannot be made here")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    control = [*become, base / "pg_ctl", "-D", folder / "data", "-w"]
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], check=True,
                   capture_output=True)  # fmt: skip
    try:
        yield f"postgresql:///postgres?host={folder}&user=postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_out_and_in(postgres: str) -> None:
    omop.write([persons()], postgres, layout={}, synthetic=True)
    history = omop.read(postgres)
    assert history.synthetic and history.layout["backend"] == "postgresql"
    plain = dataclasses.replace(
        persons(), schema=omop.read(postgres).events.schema
    )  # without labels that may not be handed on
    assert_same(history.events, plain)
    assert_same(Events.concatenate(list(omop.stream(postgres, subjects_per_block=2))), plain)
    with pytest.raises(OutputError, match="a table PERSON already"):
        omop.write([persons()], postgres, layout={}, synthetic=True)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_postgresql")
    address = f"postgresql://me:secret@/postgres?host={tmp_path}"
    with pytest.raises(InputError, match="cannot be reached") as caught:
        omop.read(address)
    assert "secret" not in str(caught.value)
    with pytest.raises(OutputError) as refused:
        omop.write([persons()], address, layout={}, synthetic=True)
    assert "secret" not in str(refused.value)


def test_polars_reads_no_more_rows_than_events(tmp_path: Path) -> None:
    omop.write([persons()], tmp_path / "cdm", layout={"backend": "parquet"}, synthetic=False)
    rows = {
        table: pl.read_parquet(tmp_path / "cdm" / f"{table}.parquet").height
        for table in ("visit_occurrence", "condition_occurrence", "drug_exposure", "measurement",
                      "procedure_occurrence", "device_exposure", "death", "observation")
    }  # fmt: skip
    assert sum(rows.values()) == persons().n_events + 1  # the stay that no event describes
