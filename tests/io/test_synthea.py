"""Synthea's CSV export in: a hand-made one, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from manikin.errors import InputError, NotSupported, SchemaError, Stopped
from manikin.io import synthea
from manikin.io.histories import format_of, read

# Ada: an emergency with asthma and an inhaler; a later check-up. Ben: vaccinated, then dead.
CSV = {
    "patients": """
Id,BIRTHDATE,DEATHDATE,SSN,DRIVERS,PASSPORT,PREFIX,FIRST,MIDDLE,LAST,SUFFIX,MAIDEN,MARITAL,RACE,ETHNICITY,GENDER,BIRTHPLACE,ADDRESS,CITY,STATE,COUNTY,FIPS,ZIP,LAT,LON,HEALTHCARE_EXPENSES,HEALTHCARE_COVERAGE,INCOME
p-ada,1990-02-28,,999-11-2222,,,Ms.,Ada,,Hidden,,,S,white,nonhispanic,F,Boston,1 Secret Street,Boston,MA,Suffolk,,02108,42.3,-71.0,1.0,2.0,50000
p-ben,2019-05-01,2020-06-01T12:00:00Z,999-33-4444,,,,Ben,,Hidden,,,,black,hispanic,M,Boston,2 Secret Street,Boston,MA,Suffolk,,02108,42.3,-71.0,1.0,2.0,0
""",  # noqa: E501
    "encounters": """
Id,START,STOP,PATIENT,ORGANIZATION,PROVIDER,PAYER,ENCOUNTERCLASS,CODE,DESCRIPTION,BASE_ENCOUNTER_COST,TOTAL_CLAIM_COST,PAYER_COVERAGE,REASONCODE,REASONDESCRIPTION
e-2,2021-03-01T09:00:00Z,2021-03-01T09:30:00Z,p-ada,o,d,y,wellness,162673000,General examination of patient (procedure),1,1,1,,
e-1,2020-01-05T22:10:00Z,2020-01-06T01:00:00Z,p-ada,o,d,y,emergency,50849002,Emergency room admission (procedure),1,1,1,,
e-3,2019-06-01T08:00:00Z,2019-06-01T08:15:00Z,p-ben,o,d,y,outpatient,185349003,Encounter for check up (procedure),1,1,1,,
""",  # noqa: E501
    "conditions": """
START,STOP,PATIENT,ENCOUNTER,SYSTEM,CODE,DESCRIPTION
2020-01-05,,p-ada,e-1,http://snomed.info/sct,195967001,Asthma (disorder)
""",
    "medications": """
START,STOP,PATIENT,PAYER,ENCOUNTER,CODE,DESCRIPTION,BASE_COST,PAYER_COVERAGE,DISPENSES,TOTALCOST,REASONCODE,REASONDESCRIPTION
2020-01-05T23:00:00Z,2020-02-05T23:00:00Z,p-ada,y,e-1,745752,"albuterol, inhaler",1,1,1,1,195967001,Asthma
""",  # noqa: E501
    "observations": """
DATE,PATIENT,ENCOUNTER,CATEGORY,CODE,DESCRIPTION,VALUE,UNITS,TYPE
2020-01-05T22:20:00Z,p-ada,e-1,vital-signs,9279-1,Respiratory rate,28.5,/min,numeric
2021-03-01T09:10:00Z,p-ada,e-2,social-history,72166-2,Tobacco smoking status,Never smoked tobacco (finding),{nominal},text
2021-03-01T09:10:00Z,p-ada,,,QALY,Quality adjusted life years,29.5,a,numeric
""",  # noqa: E501
    "procedures": """
START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION,BASE_COST,REASONCODE,REASONDESCRIPTION
2020-01-05T22:30:00Z,2020-01-05T22:45:00Z,p-ada,e-1,23426006,Measurement of respiratory function,1,,
""",
    "immunizations": """
DATE,PATIENT,ENCOUNTER,CODE,DESCRIPTION,BASE_COST
2019-06-01T08:05:00Z,p-ben,e-3,08,"Hep B, adolescent or pediatric",1
""",
    "allergies": """
START,STOP,PATIENT,ENCOUNTER,CODE,SYSTEM,DESCRIPTION,TYPE,CATEGORY,REACTION1,DESCRIPTION1,SEVERITY1
2019-06-01,,p-ben,e-3,1191,RxNorm,Aspirin,allergy,medication,,,
""",
    "devices": """
START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION,UDI
2020-01-05T23:30:00Z,,p-ada,e-1,170615005,Home nebulizer,(01)secret-number
""",
    "careplans": """
Id,START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION,REASONCODE,REASONDESCRIPTION
c-1,2020-01-06,2020-07-06,p-ada,e-1,699728000,Asthma self management,195967001,Asthma
""",
    "claims": "Id,PATIENTID\nx,p-ada\n",
}


def folder(path: Path, **changed: str | None) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in (CSV | changed).items():
        if text is not None:
            (path / f"{name}.csv").write_text(text.lstrip("\n"), encoding="utf-8")
    return path


def test_an_export_is_read_as_it_says(tmp_path: Path) -> None:
    assert format_of(folder(tmp_path / "csv")) == "synthea"
    history = read(tmp_path / "csv")
    events = history.events
    told = [
        (int(whose), str(time.astype("datetime64[m]")), events.schema.codes[code].name, int(visit))
        for whose, time, code, visit in zip(
            events.whose, events.time, events.code, events.visit, strict=True
        )
    ]
    assert told == [
        (0, "2020-01-05T00:00", "SNOMED/195967001", 0),
        (0, "2020-01-05T22:10", "Visit/ER", 0),
        (0, "2020-01-05T22:20", "LOINC/9279-1", 0),
        (0, "2020-01-05T22:30", "SNOMED/23426006", 0),
        (0, "2020-01-05T23:00", "RxNorm/745752", 0),
        (0, "2020-01-05T23:30", "SNOMED/170615005", 0),
        (0, "2020-01-06T00:00", "SNOMED/699728000", 0),
        (0, "2021-03-01T09:00", "Visit/OP", 1),
        (0, "2021-03-01T09:10", "LOINC/72166-2", 1),
        (0, "2021-03-01T09:10", "QALY", -1),
        (1, "2019-06-01T00:00", "RxNorm/1191", 0),
        (1, "2019-06-01T08:00", "Visit/OP", 0),
        (1, "2019-06-01T08:05", "CVX/08", 0),
        (1, "2020-06-01T12:00", "DEATH", -1),
    ]
    codes = {code.name: code for code in events.schema.codes}
    assert [codes[name].domain for name in ("LOINC/9279-1", "LOINC/72166-2", "QALY", "CVX/08",
            "RxNorm/1191", "SNOMED/699728000", "SNOMED/170615005")] == [
        "measurement", "observation", "measurement", "drug", "observation", "procedure", "device",
    ]  # fmt: skip
    rate = codes["LOINC/9279-1"]
    assert (rate.unit, rate.numeric, rate.decimals, rate.label) == (
        "/min", True, 1, "Respiratory rate",
    )  # fmt: skip
    assert events.value[2] == 28.5
    assert events.texts[events.text[8]] == "Never smoked tobacco (finding)"
    assert events.texts[events.text[1]] == "SNOMED/50849002"  # what kind of emergency visit
    assert events.end[1] == np.datetime64("2020-01-06T01:00:00", "us")
    assert events.schema.clock == "minute"


def test_facts_of_patients_are_static_and_no_name_is_read(tmp_path: Path) -> None:
    history = synthea.read(folder(tmp_path / "csv"))
    static = history.events.static.to_polars()
    assert static.columns == ["sex", "race", "ethnicity", "marital", "birth"]
    assert [row[:4] for row in static.rows()] == [
        ("female", "white", "nonhispanic", "S"), ("male", "black", "hispanic", None),
    ]  # fmt: skip
    assert (history.synthetic, history.ids) == (True, ("p-ada", "p-ben"))
    everything = str(history.events.schema.to_json()) + str(history.events.texts)
    for hidden in ("Hidden", "Secret", "999-11", "02108", "secret-number"):
        assert hidden not in everything
    assert history.notes == ("files that are not read: claims",)


def test_older_exports_and_gaps_are_read(tmp_path: Path) -> None:
    """Before 2021 a procedure had one date, and observations no category."""
    procedures = "DATE,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n2020-01-05T22:30:00Z,p-ada,e-9,2,x\n"
    observations = "DATE,PATIENT,ENCOUNTER,CODE,DESCRIPTION,VALUE,UNITS,TYPE\n"
    path = folder(tmp_path / "csv", procedures=procedures, observations=observations, devices=None,
                  careplans=None, allergies=None)  # fmt: skip
    history = synthea.read(path)
    assert history.events.n_events == 14 - 3 - 3
    assert "1 events at an encounter that there is not" in " ".join(history.notes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"patients": None}, "no patients.csv"),
        ({"conditions": "START,STOP,CODE\n2020-01-01,,1\n"}, "no column PATIENT"),
        ({"conditions": CSV["conditions"].replace("p-ada", "p-eve")}, "1 rows are of patients"),
        ({"conditions": CSV["conditions"].replace("2020-01-05", "5 Jan")}, "1 cells of START in"),
        ({"encounters": CSV["encounters"].replace("e-2,", "e-1,")}, "2 rows of encounters"),
        ({"patients": CSV["patients"].replace("p-ben", "p-ada")}, "2 rows of 'patients.csv'"),
        ({"devices": CSV["devices"] + "2020-01-01,,p-ada,e-1,1,x,y,z,more\n"}, "devices.csv"),
        ({"devices": CSV["devices"] + "2020-01-01,,p-ad"}, "devices.csv"),
        ({"devices": CSV["devices"] + '2020-01-01,,p-ada,e-1,1,"x,y\n'}, "devices.csv"),
    ],
)
def test_what_is_broken_is_refused(
    tmp_path: Path, changed: dict[str, str | None], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        synthea.read(folder(tmp_path / "csv", **changed))
    assert "p-eve" not in str(caught.value) and "5 Jan" not in str(caught.value)


def test_a_declared_schema_is_kept_to(tmp_path: Path) -> None:
    import dataclasses

    found = synthea.read(folder(tmp_path / "csv")).events.schema
    assert synthea.read(tmp_path / "csv", schema=found).events.schema == found
    fewer = dataclasses.replace(found, codes=found.codes[1:])
    with pytest.raises(SchemaError, match="1 of 13 codes"):
        synthea.read(tmp_path / "csv", schema=fewer)


def test_it_is_not_written_and_may_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="only read"):
        synthea.write([], tmp_path / "out", layout={}, synthetic=True)
    with pytest.raises(Stopped):
        synthea.read(folder(tmp_path / "csv"), watch=lambda progress: True)
    assert not synthea.recognises(tmp_path)
