"""SDTM and ADaM as histories and back, on domains small enough to be worked out by hand."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError, OutputError, SchemaError
from manikin.io import cdisc
from manikin.io.histories import History

DM = {
    "STUDYID": ["ST"] * 3,
    "DOMAIN": ["DM"] * 3,
    "USUBJID": ["ST-1-01", "ST-1-02", "ST-2-03"],
    "SUBJID": ["01", "02", "03"],
    "RFSTDTC": ["2014-01-02", "2014-01-10", ""],
    "DTHDTC": ["", "2014-02-01", ""],
    "SITEID": ["1", "1", "2"],
    "AGE": [63.0, 71.0, 64.0],
    "AGEU": ["YEARS"] * 3,
    "SEX": ["F", "M", "F"],
    "ARMCD": ["P", "A", "P"],
    "ARM": ["Placebo", "Active", "Placebo"],
}
# one subject, one visit: systolic pressure twice, told apart by position; temperature once
VS = {
    "STUDYID": ["ST"] * 4,
    "DOMAIN": ["VS"] * 4,
    "USUBJID": ["ST-1-01"] * 3 + ["ST-1-02"],
    "VSSEQ": [1.0, 2.0, 3.0, 1.0],
    "VSTESTCD": ["SYSBP", "SYSBP", "TEMP", "SYSBP"],
    "VSTEST": ["Systolic Blood Pressure"] * 2 + ["Temperature", "Systolic Blood Pressure"],
    "VSPOS": ["SUPINE", "STANDING", "", "SUPINE"],
    "VSSTRESC": ["120", "131", "36.6", ""],
    "VSSTRESN": [120.0, 131.0, 36.6, None],
    "VSSTRESU": ["mmHg", "mmHg", "C", "mmHg"],
    "VSSTAT": ["", "", "", "NOT DONE"],
    "VISITNUM": [1.0, 1.0, 1.0, 1.0],
    "VISIT": ["BASELINE"] * 4,
    "VSDTC": ["2014-01-02", "2014-01-02", "2014-01-02", "2014-01-10"],
}
AE = {
    "STUDYID": ["ST"] * 3,
    "DOMAIN": ["AE"] * 3,
    "USUBJID": ["ST-1-01", "ST-1-01", "ST-1-02"],
    "AESEQ": [1.0, 2.0, 1.0],
    "AETERM": ["headache", "fell", "HEADACHE"],
    "AEDECOD": ["Headache", "Fall", "Headache"],
    "AEBODSYS": ["Nervous system disorders", "Injury", "Nervous system disorders"],
    "AESEV": ["MILD", "SEVERE", "MODERATE"],
    "AESER": ["N", "Y", "N"],
    "AESTDTC": ["2014-01-05", "2014-01", "2014-01-12T08:30"],
    "AEENDTC": ["2014-01-06", "2014-02", "2014-01-12"],
}
EX = {
    "STUDYID": ["ST"] * 2, "DOMAIN": ["EX"] * 2, "USUBJID": ["ST-1-01", "ST-1-02"],
    "EXSEQ": [1.0, 1.0], "EXTRT": ["PLACEBO", "ACTIVE"], "EXDOSE": [0.0, 54.0],
    "EXDOSU": ["mg", "mg"], "EXDOSFRQ": ["QD", "QD"],
    "EXSTDTC": ["2014-01-02", "2014-01-10"], "EXENDTC": ["2014-01-20", ""],
}  # fmt: skip
LB = {
    "STUDYID": ["ST"] * 3, "DOMAIN": ["LB"] * 3, "USUBJID": ["ST-1-01"] * 3,
    "LBSEQ": [1.0, 2.0, 3.0], "LBTESTCD": ["TSH", "COLOR", "TSH"],
    "LBTEST": ["Thyrotropin", "Color", "Thyrotropin"],
    "LBSTRESC": ["<0.01", "YELLOW", "2.5"], "LBSTRESN": [0.01, None, 2.5],
    "LBSTRESU": ["mIU/L", "", "uIU/mL"],
    "LBDTC": ["2014-01-02T07:15", "2014-01-02T07:15", "2014-01-09T07:00"],
}  # fmt: skip
STUDY = {"dm": DM, "vs": VS, "ae": AE, "ex": EX, "lb": LB}


def frames(**changed: Any) -> dict[str, pl.DataFrame]:
    return {name: pl.DataFrame(table) for name, table in {**STUDY, **changed}.items() if table}


def read(**changed: Any) -> History:
    return cdisc.read_frames(frames(**changed))


def told(history: History, subject: int = 0) -> list[tuple[Any, ...]]:
    """Events of a subject as (time, code, unit, value, text, end)."""
    events = history.events
    mine = events.take(np.array([subject]))
    return [
        (
            str(mine.time[i].astype("datetime64[m]")),
            mine.schema.codes[mine.code[i]].name,
            mine.schema.codes[mine.code[i]].unit,
            None if np.isnan(mine.value[i]) else float(mine.value[i]),
            None if mine.text[i] < 0 else mine.texts[mine.text[i]],
            str(mine.end[i].astype("datetime64[D]")),
        )
        for i in range(mine.n_events)
    ]


def assert_same(one: Events, other: Events) -> None:
    """Every fact of two histories is the same, whatever the places of codes and texts."""
    for name in ("whose", "visit"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    for name in ("time", "end", "value"):
        a, b = getattr(one, name), getattr(other, name)
        same = (a == b) | ((a != a) & (b != b))
        assert same.all(), name
    keys = [[e.schema.codes[c].key for c in e.code] for e in (one, other)]
    assert keys[0] == keys[1]
    texts = [[*e.texts, None] for e in (one, other)]
    assert [texts[0][t] for t in one.text] == [texts[1][t] for t in other.text]
    for column in one.schema.static.learned:
        a, b = one.static.columns[column.name], other.static.columns[column.name]
        assert ((a == b) | ((a != a) & (b != b))).all(), column.name


# ------------------------------------------------------------------ in


def test_every_row_becomes_the_event_that_it_tells_of() -> None:
    history = read()
    assert told(history) == [
        ("2014-01-01T00:00", "AE/Fall", "", None, "SEVERE/SERIOUS", "2014-02-28"),
        ("2014-01-02T00:00", "VISIT/1", "", None, None, "2014-01-02"),
        ("2014-01-02T00:00", "DM/RFSTDTC", "", None, None, "NaT"),
        ("2014-01-02T00:00", "EX/PLACEBO", "mg", 0.0, "QD", "2014-01-20"),
        ("2014-01-02T00:00", "VS/SYSBP/SUPINE", "mmHg", 120.0, None, "NaT"),
        ("2014-01-02T00:00", "VS/SYSBP/STANDING", "mmHg", 131.0, None, "NaT"),
        ("2014-01-02T00:00", "VS/TEMP", "C", 36.6, None, "NaT"),
        ("2014-01-02T07:15", "LB/TSH", "mIU/L", 0.01, "<0.01", "NaT"),
        ("2014-01-02T07:15", "LB/COLOR", "", None, "YELLOW", "NaT"),
        ("2014-01-05T00:00", "AE/Headache", "", None, "MILD", "2014-01-06"),
        ("2014-01-09T07:00", "LB/TSH", "uIU/mL", 2.5, None, "NaT"),
    ]
    # an end told by its day is not before a start on that day told by its minute
    assert ("2014-01-12T08:30", "AE/Headache", "", None, "MODERATE", "2014-01-12") in told(
        history, 1
    )
    assert history.events.schema.clock == "minute"


def test_codes_know_their_domain_label_parents_levels_and_decimals() -> None:
    codes = {code.key: code for code in read().events.schema.codes}
    headache = codes["AE/Headache", "", "condition"]
    assert headache.parents == ("AEBODSYS/Nervous system disorders",)
    assert headache.levels == ("MILD", "MODERATE")
    temperature = codes["VS/TEMP", "C", "measurement"]
    assert (temperature.label, temperature.decimals, temperature.numeric) == (
        "Temperature",
        1,
        True,
    )
    assert codes["EX/PLACEBO", "mg", "drug"].numeric
    assert codes["VISIT/1", "", "visit"].label == "BASELINE"
    assert codes["DM/DTHDTC", "", "death"]


def test_demographics_become_static_facts_and_nothing_that_follows_from_others() -> None:
    history = read()
    static = history.events.schema.static
    assert [column.name for column in static] == ["SITEID", "AGE", "SEX", "ARM"]
    assert "quasi_identifier" in static["SITEID"].roles
    assert history.events.schema.sex == "SEX"
    assert history.ids == ("ST-1-01", "ST-1-02", "ST-2-03")
    assert "ST-1" not in json.dumps(history.events.schema.to_json())
    assert "ST-1" not in json.dumps(history.layout)


def test_supplemental_qualifiers_of_dm_become_static_facts() -> None:
    supplement = {"STUDYID": ["ST"] * 2, "RDOMAIN": ["DM"] * 2, "USUBJID": ["ST-1-01", "ST-1-02"],
                  "QNAM": ["ITT", "ITT"], "QLABEL": ["Intent to Treat"] * 2,
                  "QVAL": ["Y", "N"]}  # fmt: skip
    static = read(suppdm=supplement).events.static
    assert static.schema["ITT"].categories == ("N", "Y")
    assert static.columns["ITT"].tolist() == [1, 0, -1]


def test_visits_come_from_sv_where_there_is_one() -> None:
    sv = {"STUDYID": ["ST"] * 2, "DOMAIN": ["SV"] * 2, "USUBJID": ["ST-1-01"] * 2,
          "VISITNUM": [0.0, 1.0], "VISIT": ["SCREENING", "BASELINE"], "VISITDY": [-7.0, 1.0],
          "SVSTDTC": ["2013-12-26", "2014-01-02"], "SVENDTC": ["2013-12-27", "2014-01-02"],
          }  # fmt: skip
    events = read(sv=sv, ex={**EX, "VISITNUM": [1.0, 1.0]}).events
    mine = events.take(np.array([0]))
    visits = visits_of(mine.rows(mine.visit >= 0))
    assert visits.n == 2
    assert visits.start.astype("datetime64[D]").astype(str).tolist() == ["2013-12-26", "2014-01-02"]
    names = {mine.schema.codes[c].name: v for c, v in zip(mine.code, mine.visit, strict=True)}
    assert names["VISIT/0"] == 0
    # the dose and the measurements are of the baseline visit, the adverse events of none
    assert names["VS/TEMP"] == names["EX/PLACEBO"] == names["VISIT/1"] == 1
    assert names["AE/Headache"] == -1


def test_an_event_of_long_ago_is_not_at_the_visit_where_it_was_told() -> None:
    mh = {"STUDYID": ["ST"], "DOMAIN": ["MH"], "USUBJID": ["ST-1-01"], "MHSEQ": [1.0],
          "MHTERM": ["asthma"], "MHDECOD": ["Asthma"], "VISITNUM": [1.0],
          "MHSTDTC": ["2003"]}  # fmt: skip
    history = read(mh=mh)
    place = [code.name for code in history.events.schema.codes].index("MH/Asthma")
    assert history.events.visit[history.events.code == place].tolist() == [-1]
    assert (
        "MH: 1 start dates are partial; the first moment that they allow is taken" in history.notes
    )


def test_verbatim_terms_of_few_subjects_are_no_codes() -> None:
    cm = {"STUDYID": ["ST"], "DOMAIN": ["CM"], "USUBJID": ["ST-1-01"], "CMSEQ": [1.0],
          "CMTRT": ["aunt Mary's drops"], "CMDECOD": [""], "CMSTDTC": ["2014-01-03"]}  # fmt: skip
    history = read(cm=cm)
    assert "CM/UNCODED" in history.events.schema.named
    assert "Mary" not in json.dumps(history.events.schema.to_json())
    assert "CM: 1 rows bear a verbatim name of too few subjects: UNCODED" in history.notes


def test_a_disposition_that_is_death_is_told_once() -> None:
    ds = {"STUDYID": ["ST"], "DOMAIN": ["DS"], "USUBJID": ["ST-1-02"], "DSSEQ": [1.0],
          "DSTERM": ["DIED"], "DSDECOD": ["DEATH"], "DSSTDTC": ["2014-02-01"]}  # fmt: skip
    events = read(ds=ds).events
    dead = [code.domain == "death" for code in events.schema.codes]
    assert np.isin(events.code, np.flatnonzero(dead)).sum() == 1


def test_what_is_odd_is_counted_and_never_quoted() -> None:
    seq = {**VS, "VSSEQ": [1.0, 1.0, 3.0, 1.0], "VSDTC": ["yesterday", *VS["VSDTC"][1:]]}
    notes = read(vs=seq).notes
    assert "VS: 1 rows repeat a sequence number; all are kept" in notes
    assert "VS: 1 dates are no ISO 8601 and are taken as unknown" in notes
    assert "VS: 1 rows without a result (not done) are left out" in notes
    assert "LB: 1 tests are told in more than one unit; each is a code" in notes
    assert not any("yesterday" in note or "ST-1" in note for note in notes)


def test_rows_of_subjects_that_dm_does_not_have_are_left_out_and_counted() -> None:
    strange = {**VS, "USUBJID": ["ST-1-01"] * 3 + ["ST-9-99"]}
    history = read(vs=strange)
    assert "VS: 1 rows of subjects that DM does not have are left out" in history.notes
    with pytest.raises(InputError, match="VS has 4 rows and none of a subject that DM has"):
        read(vs={**VS, "USUBJID": ["X"] * 4})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dm": None}, "without DM"),
        ({"dm": {**DM, "USUBJID": ["ST-1-01"] * 3}}, "2 for a subject that has one already"),
        ({"dm": {**DM, "USUBJID": ["", "B", "C"]}, "vs": None, "ae": None, "ex": None, "lb": None},
         "1 rows without a USUBJID"),
        ({"dm": {n: v for n, v in DM.items() if not n.endswith("DTC")}, "ae": None, "ex": None,
          "lb": None, "vs": {n: v for n, v in VS.items() if n != "VSDTC"}}, "none with a date"),
    ],
)  # fmt: skip
def test_what_no_study_is_is_refused(changed: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(**changed)


def test_a_schema_that_lacks_a_code_is_no_guess() -> None:
    whole = read().events.schema
    fewer = dataclasses.replace(whole, codes=whole.codes[1:])
    with pytest.raises(SchemaError, match="1 rows bear a code that the schema does not have"):
        cdisc.read_frames(frames(), schema=fewer)
    assert_same(cdisc.read_frames(frames(), schema=whole).events, read().events)


@pytest.mark.parametrize("odd", [None, float("nan"), "x", True, 1e300])
@pytest.mark.parametrize(
    ("data_set", "variable"),
    [("vs", "VSTESTCD"), ("vs", "VISITNUM"), ("vs", "VSSTRESN"), ("dm", "RFSTDTC"), ("dm", "AGE"),
     ("ae", "AEDECOD"), ("ex", "EXDOSE"), ("lb", "LBDTC")],
)  # fmt: skip
def test_variables_of_any_type_are_read(odd: Any, data_set: str, variable: str) -> None:
    table = STUDY[data_set]
    rows = len(table["USUBJID"])
    history = read(**{data_set: {**table, variable: [odd] * rows}})
    assert history.events.n_subjects == 3


def test_pandas_and_lower_case_names_are_read_alike() -> None:
    given = {name: pd.DataFrame(table).rename(columns=str.lower) for name, table in STUDY.items()}
    assert_same(cdisc.read_frames(given).events, read().events)


# ------------------------------------------------------------------ out


@pytest.mark.parametrize("files", ["xpt", "json", "ndjson", "parquet"])
def test_what_is_written_reads_back_as_it_was(tmp_path: Path, files: str) -> None:
    history = read()
    events = history.events
    blocks = [events.take(np.array([0])), events.take(np.array([1, 2]))]
    cdisc.write(blocks, tmp_path / "out", layout={**history.layout, "files": files},
                synthetic=False, ids=history.ids)  # fmt: skip
    assert {p.suffix for p in (tmp_path / "out").iterdir() if p.name != "define.json"} == {
        f".{files}"
    }
    back = cdisc.read(tmp_path / "out")
    assert_same(back.events, events)
    assert back.events.schema == events.schema
    assert back.ids == history.ids
    assert not back.synthetic


def test_the_way_out_follows_the_rules_of_sdtm(tmp_path: Path) -> None:
    history = read()
    cdisc.write([history.events], tmp_path / "out", layout=history.layout, synthetic=True)
    out = {p.stem: pl.read_parquet(p) for p in (tmp_path / "out").glob("*.parquet")}
    assert set(out) == {"ts", "dm", "sv", "vs", "ae", "ex", "lb"}
    ae = out["ae"].to_dicts()
    # in order of time; the day before the reference start is day -1, and the start is day 1
    assert [(r["AESEQ"], r["AETERM"], r["AESTDY"]) for r in ae[:2]] == [
        (1.0, "Fall", -1.0), (2.0, "Headache", 4.0)
    ]  # fmt: skip
    assert [(r["AESEV"], r["AESER"]) for r in ae[:2]] == [("SEVERE", "Y"), ("MILD", "N")]
    vs = out["vs"].to_dicts()
    assert [r["VSPOS"] for r in vs] == ["SUPINE", "STANDING", None]
    assert [r["VSSTRESC"] for r in vs] == ["120", "131", "36.6"]
    assert {(r["VISITNUM"], r["VISIT"]) for r in vs} == {(1.0, "BASELINE")}
    dm = out["dm"].to_dicts()
    assert [r["ARMCD"] for r in dm] == ["PLACEBO", "ACTIVE", "PLACEBO"]  # of few subjects: unknown
    assert [r["DTHFL"] for r in dm] == [None, "Y", None]
    assert (dm[0]["RFXSTDTC"], dm[0]["RFXENDTC"]) == ("2014-01-02", "2014-01-20")
    assert out["dm"].columns[:4] == ["STUDYID", "DOMAIN", "USUBJID", "SUBJID"]
    assert out["vs"].columns[:5] == ["STUDYID", "DOMAIN", "USUBJID", "VSSEQ", "VSTESTCD"]


def test_synthetic_data_say_so_and_bear_identifiers_that_are_nobodys(tmp_path: Path) -> None:
    history = read()
    cdisc.write([history.events], tmp_path / "out", layout={**history.layout, "files": "xpt"},
                synthetic=True)  # fmt: skip
    summary = pd.read_sas(tmp_path / "out" / "ts.xpt", encoding="utf-8")
    assert summary[["TSPARMCD", "TSVAL"]].to_numpy().tolist() == [["SYNTHDAT", "Y"]]
    import pyreadstat

    for path in (tmp_path / "out").glob("*.xpt"):
        assert pyreadstat.read_xport(path)[1].file_label.startswith("SYNTHETIC ")
    subjects = pd.read_sas(tmp_path / "out" / "dm.xpt", encoding="utf-8")
    assert len(set(subjects["USUBJID"])) == 3
    assert not set(subjects["USUBJID"]) & set(history.ids)
    assert subjects["USUBJID"].str.fullmatch(r"ST-\d+-\d+").all()
    assert cdisc.read(tmp_path / "out").synthetic
    (tmp_path / "out" / "define.json").unlink()
    assert cdisc.read(tmp_path / "out").synthetic  # the trial summary says it too


def test_a_synthetic_folder_names_no_code_that_its_events_do_not_bear(tmp_path: Path) -> None:
    history = read()
    events = history.events
    fall = [code.name for code in events.schema.codes].index("AE/Fall")
    cdisc.write([events.rows(events.code != fall)], tmp_path / "out", layout=history.layout,
                synthetic=True)  # fmt: skip
    for path in (tmp_path / "out").iterdir():
        assert b"Fall" not in path.read_bytes(), path.name


def others() -> Events:
    """Histories of another source: vocabularies that SDTM does not have, odd names, no visits."""
    static = TableSchema((
        Column("gender", "categorical", categories=("female", "male")),
        Column("born", "datetime", date_format="%Y-%m-%d"),
        Column("smokes a lot", "categorical", categories=("no", "yes")),
        Column("smokes a lot too", "integer"),
    ))  # fmt: skip
    codes = (
        Code("LOINC/2160-0", "measurement", "Creatinine", "mg/dL", True),
        Code("LOINC/2160-0", "measurement", "Creatinine", "umol/L", True),
        Code("ICD10CM/E11.9", "condition", "Type 2 diabetes"),
        Code("SNOMED/44054006", "condition", "Type 2 diabetes"),
        Code("RxNorm/860975", "drug", "metformin 500 mg", "mg", True),
        Code("Visit/IP", "visit", "Inpatient"),
        Code("MEDS_DEATH", "death"),
        Code("LOINC/72166-2", "observation", "Tobacco smoking status"),
        Code("a/b/c", "procedure", "odd"),
        Code("VS/SYSBP/SUPINE", "measurement", "Systolic", "mmHg", True),
    )
    table = Table(
        static,
        np.array([4, 9]),
        {
            "gender": np.array([0, 1], np.int32),
            "born": np.array(["1950-05-05", "NaT"], "datetime64[us]"),
            "smokes a lot": np.array([1, -1], np.int32),
            "smokes a lot too": np.array([3.0, np.nan]),
        },
    )
    schema = EventSchema(static, codes, birth="born", sex="gender")
    n = len(codes)
    return Events.of(
        schema, table, [0] * n + [1],
        np.array([f"2020-01-{d + 1:02d}T03:04:05.000006" for d in range(n)] + ["NaT"], "M8[us]"),
        [*range(n), 2], [1.5, 88.4, *[np.nan] * 2, 500, *[np.nan] * 4, 120, np.nan],
        [-1] * 7 + [0, -1, -1, -1],
        np.array(["NaT"] * 5 + ["2020-01-09"] + ["NaT"] * (n - 5), "M8[us]"),
        [-1, -1, -1, -1, 0, 0, -1, -1, -1, -1, -1], ["never smoker"],
    )  # fmt: skip


@pytest.mark.parametrize("files", ["xpt", "json", "parquet"])
def test_histories_of_another_source_go_out_and_come_back(tmp_path: Path, files: str) -> None:
    events = others()
    cdisc.write([events], tmp_path / "out", layout={"suffix": f".{files}"}, synthetic=False)
    back = cdisc.read(tmp_path / "out").events
    assert back.schema == events.schema
    order = [np.lexsort((e.code, e.time, e.whose)) for e in (events, back)]
    assert_same(events.rows(order[0]), back.rows(order[1]))
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert {"dm", "suppdm", "lb", "mh", "cm", "ho", "xo", "pr", "vs"} <= names


def test_days_go_out_as_days_and_moments_as_moments(tmp_path: Path) -> None:
    history = read()
    events = history.events
    later = dataclasses.replace(events, time=events.time + np.timedelta64(75, "m"))
    cdisc.write([later], tmp_path / "out", layout=history.layout, synthetic=True)
    vs, lb = (pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("vs", "lb"))
    assert vs["VSDTC"].to_list() == ["2014-01-02"] * 3  # as VS told it
    assert lb["LBDTC"].to_list()[0] == "2014-01-02T08:30"  # 07:15 and 75 minutes


def test_what_stands_above_an_adverse_event_goes_out_as_a_term_of_its_own(tmp_path: Path) -> None:
    schema = EventSchema(
        TableSchema(()),
        (
            Code("AE/Headache", "condition", parents=("AEBODSYS/Nervous",)),
            Code("AEBODSYS/Nervous", "condition"),
            Code("CMCLAS/Antacids", "drug"),
        ),
    )
    time = np.array(["2020-01-01", "2020-01-15", "2020-01-16"], "datetime64[us]")
    events = Events.of(schema, Table(schema.static, np.array([0]), {}), [0] * 3, time, [0, 1, 2])
    cdisc.write([events], tmp_path / "out", layout={"suffix": ".parquet"}, synthetic=True)
    ae = pl.read_parquet(tmp_path / "out" / "ae.parquet")
    assert ae.select("AEDECOD", "AEBODSYS").rows() == [
        ("Headache", "Nervous"),
        ("Nervous", "Nervous"),
    ]
    assert_same(cdisc.read(tmp_path / "out").events, events)


def test_short_names_have_at_most_eight_characters_and_are_all_different(tmp_path: Path) -> None:
    schema = EventSchema(
        TableSchema(()),
        tuple(Code(f"LOINC/{i}-{i % 7}", "measurement", f"test {i}", numeric=True)
              for i in range(10_000)),
    )  # fmt: skip
    events = Events.of(schema, Table(schema.static, np.array([0]), {}), np.zeros(10_000, int),
                       np.full(10_000, np.datetime64("2020-01-01")), np.arange(10_000),
                       np.ones(10_000))  # fmt: skip
    cdisc.write([events], tmp_path / "out", layout={"suffix": ".parquet"}, synthetic=True)
    tests = pl.read_parquet(tmp_path / "out" / "lb.parquet")["LBTESTCD"]
    assert tests.n_unique() == 10_000
    assert tests.str.contains(r"^[A-Z_][A-Z0-9_]{0,7}$").all()
    assert_same(cdisc.read(tmp_path / "out").events, events)


def test_a_visit_that_a_subject_has_again_stays_a_visit_of_its_own(tmp_path: Path) -> None:
    schema = EventSchema(TableSchema(()), (Code("VISIT/4", "visit", "WEEK 2"),))
    time = np.array(["2020-01-01", "2020-01-15"], "datetime64[us]")
    events = Events.of(schema, Table(schema.static, np.array([0]), {}), [0, 0], time, [0, 0],
                       end=time, visit=[0, 1])  # fmt: skip
    cdisc.write([events], tmp_path / "out", layout={}, synthetic=True)
    back = cdisc.read(tmp_path / "out").events
    assert_same(back, events)


def test_subjects_without_events_and_without_facts_go_out_and_come_back(tmp_path: Path) -> None:
    schema = EventSchema(TableSchema(()), (Code("AE/Headache", "condition"),))
    none: list[int] = []
    events = Events.of(schema, Table(schema.static, np.arange(3), {}), none, none, none)
    cdisc.write([events], tmp_path / "out", layout={}, synthetic=False)
    back = cdisc.read(tmp_path / "out").events
    assert (back.n_subjects, back.n_events) == (3, 0)


def test_nothing_is_half_written_and_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    history = read()

    def failing() -> Any:
        yield history.events
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cdisc.write(failing(), tmp_path / "out", layout=history.layout, synthetic=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds something else"):
        cdisc.write([history.events], tmp_path / "mine", layout={}, synthetic=True)
    cdisc.write([history.events], tmp_path / "out", layout=history.layout, synthetic=True)
    cdisc.write([history.events], tmp_path / "out", layout=history.layout, synthetic=False)
    assert not cdisc.read(tmp_path / "out").synthetic


def test_a_text_too_long_for_a_transport_file_is_refused_before_anything_is_there(
    tmp_path: Path,
) -> None:
    long = {**LB, "LBSTRESC": ["<0.01", "Y" * 201, "2.5"]}
    history = read(lb=long)
    with pytest.raises(OutputError, match="more than 200 bytes: LBORRES, LBSTRESC"):
        cdisc.write([history.events], tmp_path / "out", layout={"files": "xpt"}, synthetic=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_ours_that_lost_rows_is_refused(tmp_path: Path) -> None:
    history = read()
    cdisc.write([history.events], tmp_path / "out", layout={"files": "xpt"}, synthetic=False)
    path = tmp_path / "out" / "vs.xpt"
    path.write_bytes(path.read_bytes()[:-160])  # whole records: it still looks like a whole file
    with pytest.raises(InputError, match="VS"):
        cdisc.read(tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        '{"originator": "Manikin"}',
        '{"originator": "Manikin", "codes": 3',
        '{"originator": "Manikin", "codes": [1], "names": {}}',
    ],
)
def test_a_definition_that_was_tampered_with_is_refused(tmp_path: Path, text: str) -> None:
    cdisc.write([read().events], tmp_path / "out", layout={}, synthetic=False)
    (tmp_path / "out" / "define.json").write_text(text)
    with pytest.raises(InputError, match="no description that this program wrote"):
        cdisc.read(tmp_path / "out")


# ------------------------------------------------------------------ ADaM


ADSL = {
    "STUDYID": ["ST"] * 2, "USUBJID": ["ST-1", "ST-2"], "AGE": [63.0, 71.0],
    "AGEGR1": ["<65", "65+"], "AGEGR1N": [1.0, 2.0], "SEX": ["F", "M"],
    "TRT01P": ["Placebo", "Active"], "TRT01PN": [0.0, 1.0], "TRTSDT": ["2014-01-02", "2014-01-10"],
    "TRTEDT": ["2014-02-02", "2014-02-10"], "BMIBL": [25.1, 30.2],
}  # fmt: skip
ADVS = {
    "STUDYID": ["ST"] * 5, "USUBJID": ["ST-1"] * 5, "PARAMCD": ["SYSBP"] * 5,
    "PARAM": ["Systolic Blood Pressure (mmHg)"] * 5, "AVAL": [120.0, 130.0, 130.0, 125.0, 118.0],
    "ADT": [19725.0, 19732.0, 19732.0, None, None], "ADY": [1.0, 8.0, 8.0, 15.0, -1.0],
    "AVISITN": [0.0, 1.0, 99.0, 2.0, -1.0],
    "AVISIT": ["Baseline", "Week 1", "End", "Week 2", "Screening"],
    "VISITNUM": [1.0, 2.0, 2.0, 3.0, 0.0], "DTYPE": ["", "", "", "LOCF", ""],
}  # fmt: skip


def test_adam_is_read_as_what_was_observed() -> None:
    adtte = {"USUBJID": ["ST-1"], "PARAMCD": ["OS"], "AVAL": [1.0], "CNSR": [0.0]}
    adae = {"USUBJID": ["ST-1"], "AETERM": ["x"], "AEDECOD": ["Headache"], "AESEV": ["MILD"],
            "ASTDT": ["2014-01-05"], "AENDT": ["2014-01-06"]}  # fmt: skip
    given = {"adsl": ADSL, "advs": ADVS, "adtte": adtte, "adae": adae}
    history = cdisc.read_frames({name: pl.DataFrame(table) for name, table in given.items()})
    # 19725 days after 1960-01-01 are 2014-01-02; day -1 is the day before that
    assert [row for row in told(history) if row[1].startswith(("VS", "AE"))] == [
        ("2014-01-01T00:00", "VS/SYSBP", "mmHg", 118.0, None, "NaT"),
        ("2014-01-02T00:00", "VS/SYSBP", "mmHg", 120.0, None, "NaT"),
        ("2014-01-05T00:00", "AE/Headache", "", None, "MILD", "2014-01-06"),
        ("2014-01-09T00:00", "VS/SYSBP", "mmHg", 130.0, None, "NaT"),
    ]
    assert [c.name for c in history.events.schema.static] == ["AGE", "SEX", "ARM", "BMIBL"]
    for said in (
        "ADVS: 1 rows that were imputed or derived are left out",
        "ADVS: 1 dates are reckoned from study days",
        "ADVS: 1 rows stand there again for another analysis visit",
        "ADTTE: times to an event follow from events and are set aside",
        "ADSL: dates are left out that no event bears: TRTEDT",
    ):
        assert said in history.notes


# ------------------------------------------------------------------ the folder


def test_a_folder_is_recognised_by_dm_or_adsl(tmp_path: Path) -> None:
    assert not cdisc.recognises(tmp_path)
    pl.DataFrame(VS).write_parquet(tmp_path / "vs.parquet")
    assert not cdisc.recognises(tmp_path)
    (tmp_path / "dm.json").write_text("{}")  # any JSON is no Dataset-JSON
    assert not cdisc.recognises(tmp_path)
    pl.DataFrame(DM).write_parquet(tmp_path / "DM.parquet")
    assert cdisc.recognises(tmp_path)
    assert not cdisc.recognises(tmp_path / "DM.parquet")


def test_a_data_set_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    for name in ("dm.parquet", "DM.PARQUET"):
        pl.DataFrame(DM).write_parquet(tmp_path / name)
    with pytest.raises(InputError, match="one file a data set"):
        cdisc.read(tmp_path)
