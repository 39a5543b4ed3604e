"""FHIR in: exports shaped as servers and Synthea shape them, written by hand, and broken ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.errors import InputError, ManikinError, MissingExtra, SchemaError, Stopped
from manikin.io import fhir
from manikin.io.fhir import files
from manikin.io.histories import History

Json = dict[str, Any]
LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
UCUM = "http://unitsofmeasure.org"
CODES = (Code("LOINC/2160-0"), Code("ActCode/AMB", "visit"))


def concept(system: str, code: str, display: str = "") -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def patient(id_: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id_, "gender": "female", "birthDate": "1960-05-04",
            **more}  # fmt: skip


def seen(id_: str, who: str, code: str = "2160-0", **more: Any) -> Json:
    """An observation."""
    return {"resourceType": "Observation", "id": id_, "status": "final",
            "code": concept(LOINC, code), "subject": {"reference": who}, **more}  # fmt: skip


def quantity(value: float, unit: str, **more: Any) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit, **more}


def stay(id_: str, who: str, start: str, end: str, class_: str = "AMB", **more: Any) -> Json:
    return {"resourceType": "Encounter", "id": id_, "status": "finished",
            "class": {"system": ACT_CODE, "code": class_}, "subject": {"reference": who},
            "period": {"start": start, "end": end}, **more}  # fmt: skip


def export(folder: Path, resources: list[Json], number: str = "") -> Path:
    """Write resources as a server's bulk export: one file a kind."""
    folder.mkdir(exist_ok=True)
    for one in resources:
        with open(folder / f"{one['resourceType']}{number}.ndjson", "a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")
    return folder


def told(history: History) -> list[tuple[Any, ...]]:
    """Return who, when, code, unit, number, text and visit of every event, for people."""
    events, codes = history.events, history.events.schema.codes
    return [
        (history.ids[w], "" if np.isnat(t) else str(t.astype("M8[s]")), codes[c].name,
         codes[c].unit, None if np.isnan(v) else float(v), events.texts[x] if x >= 0 else None, n)
        for w, t, c, v, x, n in zip(events.whose.tolist(), events.time, events.code.tolist(),
                                    events.value, events.text.tolist(), events.visit.tolist(),
                                    strict=True)
    ]  # fmt: skip


# -- a server's bulk export -----------------------------------------------------------------------

SERVER = [
    patient("a", deceasedDateTime="2021-01-05", maritalStatus={"text": "Married"}, extension=[
        {"url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
         "extension": [{"url": "text", "valueString": "Asian"}]}]),
    patient("b", gender="male", birthDate="1970"),
    stay("e2", "Patient/a", "2020-03-01T08:00:00+01:00", "2020-03-03T08:00:00+01:00", "IMP"),
    stay("e1", "Patient/a", "2020-02-01T08:00:00+01:00", "2020-02-01T09:00:00+01:00"),
    seen("o1", "Patient/a", valueQuantity=quantity(1.25, "mg/dL"),
         encounter={"reference": "http://server.example/fhir/Encounter/e1/_history/2"},
         effectiveDateTime="2020-02-01T08:30:00+01:00"),
    seen("o2", "Patient/a", valueQuantity=quantity(5, "umol/L", comparator="<"),
         effectiveDateTime="2020-03-01T09:00:00+01:00", encounter={"reference": "Encounter/e2"}),
    seen("o3", "Patient/b", "72166-2", valueCodeableConcept=concept(SNOMED, "266919005", "Never"),
         effectivePeriod={"start": "2020-07", "end": "2020-08"}),
    seen("bp", "Patient/b", "85354-9", effectiveDateTime="2020-07-01T12:00:00+02:00", component=[
        {"code": concept(LOINC, "8480-6", "Systolic"), "valueQuantity": quantity(120, "mm[Hg]")},
        {"code": concept(LOINC, "8462-4", "Diastolic"), "valueQuantity": quantity(80, "mm[Hg]")}]),
    {"resourceType": "Medication", "id": "m1", "code": concept(RXNORM, "860975", "metformin")},
    {"resourceType": "MedicationRequest", "id": "r1", "status": "active", "intent": "order",
     "medicationReference": {"reference": "Medication/m1"}, "subject": {"reference": "Patient/a"},
     "encounter": {"reference": "Encounter/e1"}, "authoredOn": "2020-02-01T08:40:00+01:00",
     "dosageInstruction": [{"doseAndRate": [{"doseQuantity": quantity(500, "mg")}]}]},
    {"resourceType": "MedicationAdministration", "id": "g1", "status": "completed",
     "medicationReference": {"reference": "#x"}, "subject": {"reference": "Patient/b"},
     "contained": [{"resourceType": "Medication", "id": "x", "code": concept(RXNORM, "7")}],
     "effectivePeriod": {"start": "2020-07-01T10:00:00Z", "end": "2020-07-01T11:00:00Z"}},
    {"resourceType": "Condition", "id": "c1", "code": concept(SNOMED, "44054006", "Diabetes"),
     "subject": {"reference": "Patient/b"}, "recordedDate": "2019-01-02",
     "verificationStatus": {"coding": [{"code": "confirmed"}]}},
    {"resourceType": "Condition", "id": "c2", "code": concept(SNOMED, "1"), "subject":
     {"reference": "Patient/b"}, "verificationStatus": {"coding": [{"code": "refuted"}]}},
    {"resourceType": "Immunization", "id": "i1", "status": "not-done", "patient":
     {"reference": "Patient/b"}, "vaccineCode": concept("http://hl7.org/fhir/sid/cvx", "140"),
     "occurrenceString": "never"},
    {"resourceType": "AllergyIntolerance", "id": "al", "patient": {"reference": "Patient/b"},
     "code": {"text": "peanut"}, "onsetDateTime": "1999"},
    {"resourceType": "Organization", "id": "org", "name": "General"},
]  # fmt: skip


def test_a_servers_export_is_read(tmp_path: Path) -> None:
    folder = export(tmp_path / "export", SERVER)
    history = fhir.read(folder)
    assert history.ids == ("a", "b") and not history.synthetic
    # clocks: +01:00 is the commonest; +02:00 is its summer time, Z (one event) within the hour too
    assert told(history) == [
        ("a", "2020-02-01T08:00:00", "ActCode/AMB", "", None, None, 0),
        ("a", "2020-02-01T08:30:00", "LOINC/2160-0", "mg/dL", 1.25, None, 0),
        ("a", "2020-02-01T08:40:00", "RxNorm/860975", "mg", 500.0, None, 0),
        ("a", "2020-03-01T08:00:00", "ActCode/IMP", "", None, None, 1),
        ("a", "2020-03-01T09:00:00", "LOINC/2160-0", "umol/L", 5.0, "<", 1),
        ("a", "2021-01-05T00:00:00", "DEATH", "", None, None, -1),
        ("b", "1999-01-01T00:00:00", "peanut", "", None, None, -1),
        ("b", "2019-01-02T00:00:00", "SNOMED/44054006", "", None, None, -1),
        ("b", "2020-07-01T00:00:00", "LOINC/72166-2", "", None, "Never", -1),
        ("b", "2020-07-01T10:00:00", "RxNorm/7", "", None, None, -1),
        ("b", "2020-07-01T12:00:00", "LOINC/8480-6", "mm[Hg]", 120.0, None, -1),
        ("b", "2020-07-01T12:00:00", "LOINC/8462-4", "mm[Hg]", 80.0, None, -1),
    ]
    events = history.events
    assert events.schema.sex == "sex" and events.schema.birth == "birth"
    assert [str(day)[:10] for day in events.births()] == ["1960-05-04", "1970-01-01"]
    assert events.schema.static["race"].categories == ("Asian",)
    assert events.column("marital_status").tolist() == [0, -1]
    codes = {code.key: code for code in events.schema.codes}
    assert codes["LOINC/72166-2", "", "observation"].levels == ("Never",)
    assert codes["LOINC/2160-0", "mg/dL", "measurement"].decimals == 2
    assert codes["RxNorm/860975", "mg", "drug"].label == "metformin"
    assert history.notes == (
        "4 dates of a year or month alone, read as its first day",
        "1 Condition resources that say it did not happen, or was an error, left out",
        "1 Immunization resources that say it did not happen, or was an error, left out",
        "1 kinds of resource that hold no event, not read: Organization",
    )


def test_kinds_are_written_back_as_they_were_read(tmp_path: Path) -> None:
    many = [one for n in range(6) for one in (
        patient(f"p{n}"),
        {"resourceType": "MedicationAdministration", "id": f"g{n}", "status": "completed",
         "medicationCodeableConcept": concept(RXNORM, "7"), "subject":
         {"reference": f"Patient/p{n}"}, "effectiveDateTime": f"2020-07-01T10:00:0{n}-05:00"},
        seen(f"s{n}", f"Patient/p{n}", "1", valueString="x", category=[
            {"coding": [{"code": "survey"}]}], effectiveDateTime="2020-01-01"),
    )]  # fmt: skip
    history = fhir.read(export(tmp_path / "in", many))
    fhir.write([history.events], tmp_path / "out", layout=history.layout, synthetic=False,
               ids=history.ids)  # fmt: skip
    given = json.loads(
        (tmp_path / "out/MedicationAdministration.ndjson").read_text().split("\n")[3]
    )
    assert given["effectiveDateTime"] == "2020-07-01T10:00:03-05:00"
    assert given["subject"]["reference"] == "Patient/p3"
    assert "survey" in (tmp_path / "out/Observation.ndjson").read_text()
    assert told(fhir.read(tmp_path / "out")) == told(history)


def test_the_layout_names_no_code_that_few_subjects_have(tmp_path: Path) -> None:
    """It is kept in model files and releases, which must not tell of a rare code."""
    assert fhir.read(export(tmp_path / "in", SERVER)).layout["kinds"] == {}


def test_numbered_and_compressed_files_are_one_export(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", SERVER[:5], ".000")
    export(folder, SERVER[5:], ".001")
    plain = told(fhir.read(export(tmp_path / "plain", SERVER)))
    assert told(fhir.read(folder)) == plain
    for file in list(folder.iterdir()):
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert fhir.recognises(folder)
    assert sorted(told(fhir.read(folder)), key=str) == sorted(plain, key=str)


def test_one_file_may_hold_every_kind_in_any_order(tmp_path: Path) -> None:
    lines = [json.dumps(one) for one in reversed(SERVER)]
    (tmp_path / "all.ndjson").write_text("\r\n".join(["", *lines, "  "]))
    whole = told(fhir.read(tmp_path / "all.ndjson"))
    parts = told(fhir.read(export(tmp_path / "in", SERVER)))
    assert sorted(whole, key=str) == sorted(parts, key=str)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", SERVER)
    for file in folder.iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(told(fhir.read(folder))) == 12


def test_reading_tells_how_far_it_is_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manikin.io.fhir import collect

    monkeypatch.setattr(collect, "TOLD_EVERY", 2)
    folder, heard = export(tmp_path / "in", SERVER), []
    fhir.read(folder, watch=heard.append)
    assert "reading Observation, lines" in {progress.what for progress in heard}
    with pytest.raises(Stopped):
        fhir.read(folder, watch=lambda progress: "lines" in progress.what)


def test_an_unknown_system_keeps_its_uri(tmp_path: Path) -> None:
    strange = seen("o", "Patient/a", valueInteger=3, effectiveInstant="2020-01-01T00:00:00.5Z")
    strange["code"] = concept("http://lab.example/tests", "GLU")
    history = fhir.read(export(tmp_path / "in", [patient("a"), strange]))
    assert told(history)[0][1:5] == ("2020-01-01T00:00:00", "http:%2F%2Flab.example%2Ftests/GLU",
                                     "", 3.0)  # fmt: skip
    assert history.events.schema.clock == "us"
    fhir.write([history.events], tmp_path / "out", layout=history.layout, synthetic=False)
    again = json.loads((tmp_path / "out/Observation.ndjson").read_text())
    assert again["code"]["coding"][0]["system"] == "http://lab.example/tests"


def test_a_coding_chosen_by_hand_comes_first(tmp_path: Path) -> None:
    both = [{"system": "http://x.example", "code": "1"}, {"system": LOINC, "code": "2"}]
    known = seen("o", "Patient/a", valueBoolean=True) | {"code": {"coding": both}}
    by_hand = [{**both[0], "userSelected": True}, both[1]]
    chosen = seen("q", "Patient/a", valueTime="10:00") | {"code": {"coding": by_hand}}
    history = fhir.read(export(tmp_path / "in", [patient("a"), known, chosen]))
    assert [(row[2], row[5]) for row in told(history)] == [
        ("LOINC/2", "true"), ("http:%2F%2Fx.example/1", "10:00")
    ]  # fmt: skip


def test_devices_and_contained_results(tmp_path: Path) -> None:
    history = fhir.read(export(tmp_path / "in", [
        patient("a"),
        {"resourceType": "Device", "id": "d1", "type": concept(SNOMED, "72506001", "Pacemaker"),
         "patient": {"reference": "Patient/a"}},
        {"resourceType": "Device", "id": "d2", "deviceName": [{"name": "Pump", "type": "other"}]},
        {"resourceType": "DeviceUseStatement", "id": "u", "status": "active",
         "subject": {"reference": "Patient/a"}, "device": {"reference": "Device/d2"},
         "timingDateTime": "2020-01-02"},
        {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "conclusion": "anaemia",
         "code": concept(LOINC, "58410-2"), "subject": {"reference": "Patient/a"},
         "effectiveDateTime": "2020-01-03", "contained": [
             {"resourceType": "Observation", "id": "h", "status": "final",
              "code": concept(LOINC, "718-7"), "valueQuantity": quantity(9.5, "g/dL"),
              "effectiveDateTime": "2020-01-03"}]},
    ]))  # fmt: skip
    assert [row[1:6] for row in told(history)] == [
        ("", "SNOMED/72506001", "", None, None),
        ("2020-01-02T00:00:00", "Pump", "", None, None),
        ("2020-01-03T00:00:00", "LOINC/58410-2", "", None, "anaemia"),
        ("2020-01-03T00:00:00", "LOINC/718-7", "g/dL", 9.5, None),
    ]


# -- a simulator's bundles ------------------------------------------------------------------------


def synthea(number: int) -> Json:
    """A transaction of one patient, whose resources refer to one another by UUID."""
    me, visit, drug = (f"{number:08d}-0000-4000-8000-00000000000{i}" for i in range(3))
    who, at = {"reference": f"urn:uuid:{me}"}, {"reference": f"urn:uuid:{visit}"}
    resources = [
        {**stay(visit, "", "2019-06-01T10:00:00-04:00", "2019-06-01T10:15:00-04:00"),
         "subject": who, "type": [concept(SNOMED, "162673000", "General examination")]},
        {**patient(me), "meta": {"tag": [{"system":
         "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}},
        {"resourceType": "Medication", "id": drug, "code": concept(RXNORM, "313782")},
        {"resourceType": "MedicationRequest", "id": f"r{number}", "status": "stopped",
         "intent": "order", "subject": who, "encounter": at, "authoredOn":
         "2019-06-01T10:00:00-04:00", "medicationReference": {"reference": f"urn:uuid:{drug}"}},
        {**seen(f"o{number}", ""), "subject": who, "encounter": at, "valueQuantity":
         quantity(70.5, "kg"), "effectiveDateTime": "2019-12-01T10:00:00-05:00", "category":
         [{"coding": [{"code": "vital-signs"}]}]},
        {"resourceType": "Claim", "id": "claim", "patient": who},
    ]  # fmt: skip
    entries = [
        {"fullUrl": f"urn:uuid:{one['id']}", "resource": one,
         "request": {"method": "POST", "url": one["resourceType"]}}
        for one in resources
    ]  # fmt: skip
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def test_bundles_one_a_patient_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "fhir"
    folder.mkdir()
    for number in range(3):
        (folder / f"Name{number}_{number}.json").write_text(json.dumps(synthea(number)))
    assert fhir.recognises(folder)
    history = fhir.read(folder)
    assert history.synthetic and history.layout["form"] == "bundles"
    assert len(history.ids) == 3
    rows = [row[1:] for row in told(history) if row[0] == history.ids[1]]
    # -04:00 is the summer time of -05:00: every hour of the day stays
    assert rows == [
        ("2019-06-01T10:00:00", "ActCode/AMB", "", None, "General examination", 0),
        ("2019-06-01T10:00:00", "RxNorm/313782", "", None, None, 0),
        ("2019-12-01T10:00:00", "LOINC/2160-0", "kg", 70.5, None, 0),
    ]
    assert any("Claim" in note for note in history.notes)


def test_one_bundle_is_read_and_written_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(synthea(7)))
    history = fhir.read(tmp_path / "a.json")
    assert history.layout["form"] == "bundle" and history.layout["suffix"] == ".json"
    assert len(told(history)) == 3


def test_a_transaction_may_leave_ids_to_the_server(tmp_path: Path) -> None:
    bundle = synthea(7)
    for entry in bundle["entry"]:
        del entry["resource"]["id"]
    (tmp_path / "a.json").write_text(json.dumps(bundle))
    assert len(told(fhir.read(tmp_path / "a.json"))) == 3


def test_a_page_of_a_search_says_so(tmp_path: Path) -> None:
    outcome = {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}}
    match = {"resource": patient("a"), "search": {"mode": "match"}}
    page = {"resourceType": "Bundle", "type": "searchset", "entry": [match, outcome],
            "link": [{"relation": "next", "url": "http://x"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(page))
    assert any("further pages" in note for note in fhir.read(tmp_path / "a.json").notes)


# -- times ----------------------------------------------------------------------------------------


def test_times_of_far_zones_are_put_on_the_commonest_clock(tmp_path: Path) -> None:
    """Two at -05:00, one at Z: 14:00Z is 09:00 there, before 10:00 at -05:00."""
    times = ["2020-01-01T10:00:00-05:00", "2020-01-02T10:00:00-05:00", "2020-01-01T14:00:00Z"]
    found = [seen(f"o{i}", "Patient/a", str(i), effectiveDateTime=t) for i, t in enumerate(times)]
    history = fhir.read(export(tmp_path / "in", [patient("a"), *found]))
    assert [(row[2], row[1]) for row in told(history)] == [
        ("LOINC/2", "2020-01-01T09:00:00"),
        ("LOINC/0", "2020-01-01T10:00:00"),
        ("LOINC/1", "2020-01-02T10:00:00"),
    ]
    assert "1 times of another zone, put on the clock of the commonest offset" in history.notes
    assert history.layout["offset"] == "-05:00"


@pytest.mark.parametrize(("text", "read"), [
    ("2020", "2020-01-01T00:00:00"), ("2020-02", "2020-02-01T00:00:00"),
    ("2020-02-29", "2020-02-29T00:00:00"), ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59"),
    ("2020-01-01T10:00:00.123456789Z", "2020-01-01T10:00:00"),
])  # fmt: skip
def test_partial_and_odd_times_are_read(tmp_path: Path, text: str, read: str) -> None:
    found = seen("o", "Patient/a", effectiveDateTime=text)
    assert told(fhir.read(export(tmp_path / "in", [patient("a"), found])))[0][1] == read


@pytest.mark.parametrize("text", ["yesterday", "2020-13-01", "2020-02-30", "20200101", "2020-1-1",
                                  "2020-01-01 10:00", "", 5, "0000-01-01"])  # fmt: skip
def test_what_is_no_time_is_refused_without_being_told(tmp_path: Path, text: Any) -> None:
    found = [seen("o", "Patient/a"), seen("q", "Patient/a", effectiveDateTime=text)]
    with pytest.raises(InputError, match=r"'Observation.ndjson', line 2: a time") as caught:
        fhir.read(export(tmp_path / "in", [patient("a"), *found]))
    assert not text or str(text) not in str(caught.value).replace("line 2", "").replace("R4", "")


# -- broken input ---------------------------------------------------------------------------------


def test_a_truncated_file_is_refused_with_its_place(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", SERVER)
    whole = (folder / "Observation.ndjson").read_bytes()
    (folder / "Observation.ndjson").write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"'Observation.ndjson', line 4, is cut off \(3 resources"):
        fhir.read(folder)


def test_a_last_line_without_an_end_is_whole_all_the_same(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", SERVER)
    whole = (folder / "Observation.ndjson").read_bytes()
    (folder / "Observation.ndjson").write_bytes(whole.rstrip(b"\n"))
    assert len(told(fhir.read(folder))) == 12


def test_a_file_that_lost_lines_is_not_what_its_manifest_says(tmp_path: Path) -> None:
    history = fhir.read(export(tmp_path / "in", SERVER))
    fhir.write([history.events], tmp_path / "out", layout={}, synthetic=False)
    file = tmp_path / "out/Observation.ndjson"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(InputError, match="4 resources of Observation, where the manifest says 6"):
        fhir.read(tmp_path / "out")
    (tmp_path / "out/Observation.ndjson").unlink()
    with pytest.raises(InputError, match="0 resources of Observation"):
        fhir.read(tmp_path / "out")


SECRET = "Secretname"
BAD = {
    "no JSON": ("{" + SECRET, "is no JSON"),
    "no object": (f'"{SECRET}"', "is no Observation|what is no resource"),
    "no kind": (f'{{"id":"{SECRET}"}}', "is no Observation"),
    "another kind": (json.dumps(patient(SECRET)), "is no Observation"),
    "endless number": ('{"resourceType":"Observation","x":1e999}', "is no JSON"),
    "deep": ('{"resourceType":"Observation","x":' + "[" * 5000 + "]" * 5000 + "}", "is no JSON"),
    "bytes": ('{"resourceType":"Observation","x":"\udcff"}', "is no JSON"),
    "code is a text": (json.dumps(seen("o", "Patient/a") | {"code": SECRET}), "wrong type"),
    "coding is a text": (json.dumps(seen("o", "Patient/a") | {"code": {"coding": [SECRET]}}),
                         "wrong type"),
    "subject is a list": (json.dumps(seen("o", "") | {"subject": [SECRET]}), "wrong type"),
    "reference is a number": (json.dumps(seen("o", "") | {"subject": {"reference": 5}}),
                              "wrong type"),
    "a number that is a text": (json.dumps(seen("o", "Patient/a", valueQuantity={"value": SECRET})),
                                "a number that is none"),
    "components are a number": (json.dumps(seen("o", "Patient/a", component=5)), "wrong type"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_is_refused_with_its_place_and_no_value(tmp_path: Path, case: str) -> None:
    line, said = BAD[case]
    folder = export(tmp_path / "in", [patient("a"), seen("x", "Patient/a")])
    with open(folder / "Observation.ndjson", "ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(InputError, match=said) as caught:
        fhir.read(folder)
    assert "'Observation.ndjson', line 2" in str(caught.value)
    assert SECRET not in str(caught.value) and "1 resources of that file" in str(caught.value)


JUNK = (None, "", 5, -1, 1e300, True, [], {}, "x", [None], [[]], {"a": 1}, "2020", "urn:uuid:x",
        "#x", [{"coding": None}], {"value": "x"}, 2**63, -(2**70), "9" * 40)  # fmt: skip


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())  # fmt: skip
    return [above, *(place for key, part in inner for place in _places(part, (*above, key)))]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_stands_in_an_element_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """One element in a hundred and sixty exports becomes junk: nothing but our errors comes out."""
    history = fhir.read(export(tmp_path / "in", SERVER))
    fhir.write([history.events], tmp_path / "own", layout=history.layout, synthetic=True)
    files = sorted((tmp_path / "own").glob("*.ndjson"))
    own = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    manifest = json.loads((tmp_path / "own/manifest.json").read_text())
    manifest["extension"]["counts"] = {}
    rng, refused = generator(seed, "junk"), 0
    for case in range(40):
        resources = json.loads(json.dumps(own if case % 2 else SERVER))
        one = resources[rng.integers(len(resources))]
        places = [place for place in _places(one) if place and place != ("resourceType",)]
        *above, last = places[rng.integers(len(places))]
        holder = one
        for key in above:
            holder = holder[key]
        holder[last] = JUNK[rng.integers(len(JUNK))]
        folder = tmp_path / "own" if case % 2 else tmp_path / "bare"
        folder.mkdir(exist_ok=True)
        for file in folder.glob("*.ndjson"):
            file.unlink()
        (folder / "all.ndjson").write_text("\n".join(map(json.dumps, resources)))
        if case % 2:
            (folder / "manifest.json").write_text(json.dumps(manifest))
        try:
            fhir.read(folder)
        except ManikinError:
            refused += 1
    assert 0 < refused < 40


def test_a_patient_that_is_not_there_is_an_error_or_kept(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", [patient("a"), seen("x", "Patient/a"), seen("y", "Patient/zz"),
                                      seen("z", "Patient/zz")])  # fmt: skip
    with pytest.raises(InputError, match="2 events of 1 Patients that are not there") as caught:
        fhir.read(folder)
    assert "zz" not in str(caught.value)
    kept = fhir.read(folder, dangling="keep")
    assert kept.ids == ("a", "zz") and kept.events.counts.tolist() == [1, 2]
    assert kept.events.column("sex").tolist() == [0, -1]
    assert "2 events of 1 Patients that are not there" in kept.notes


def test_other_broken_references_are_counted(tmp_path: Path) -> None:
    at = {"encounter": {"reference": "Encounter/none"}}
    of_b = {"encounter": {"reference": "Encounter/b"}}
    folder = export(tmp_path / "in", [
        patient("a"), patient("b"), stay("b", "Patient/b", "2020-01-01", "2020-01-01"),
        seen("x", "Patient/a", **at), seen("y", "Patient/a", **at), seen("z", "Patient/a", **of_b),
        {"resourceType": "MedicationRequest", "id": "m", "subject": {"reference": "Patient/a"},
         "medicationReference": {"reference": "Medication/none"}},
        {k: v for k, v in seen("nobody", "").items() if k != "subject"},
    ])  # fmt: skip
    with pytest.raises(InputError) as caught:
        fhir.read(folder)
    for count in ("1 events whose Medication or Device is not there",
                  "1 events without a Patient", "2 events of 1 Encounters that are not there",
                  "1 events at an Encounter of another Patient"):  # fmt: skip
        assert count in str(caught.value)
    kept = fhir.read(folder, dangling="keep")
    assert [row[6] for row in told(kept) if row[0] == "a"] == [-1, 0, 0, -1]
    schema = EventSchema(kept.events.schema.static, CODES, sex="sex")
    assert fhir.read(folder, schema=schema, dangling="keep").events.n_events == 4


def test_an_export_without_encounters_keeps_its_visits(tmp_path: Path) -> None:
    found = [seen(f"o{i}", "Patient/a", encounter={"reference": f"Encounter/e{i // 2}"},
                  effectiveDateTime=f"2020-01-0{9 - i}") for i in range(4)]  # fmt: skip
    history = fhir.read(export(tmp_path / "in", [patient("a"), *found]))
    assert [row[6] for row in told(history)] == [0, 0, 1, 1]
    assert any(note.startswith("4 events of Encounters of which none") for note in history.notes)


def test_ids_that_come_again(tmp_path: Path) -> None:
    old, new = (seen("o", "Patient/a", valueQuantity=quantity(v, "kg")) for v in (1, 2))
    history = fhir.read(export(tmp_path / "in", [patient("a"), patient("a"), old, new, new]))
    assert [row[4] for row in told(history)] == [2.0]
    assert "2 resources whose id came again later (the last was kept)" in history.notes
    assert "1 Patients that are there twice (the last was kept)" in history.notes
    other = seen("o", "Patient/b")
    folder = export(tmp_path / "two", [patient("a"), patient("b"), old, other])
    with pytest.raises(InputError, match="1 ids of resources that stand for events of different"):
        fhir.read(folder)


def test_units_that_are_not_ucum_are_kept_and_counted(tmp_path: Path) -> None:
    found = seen("o", "Patient/a", valueQuantity={"value": 60, "unit": "beats per minute"})
    history = fhir.read(export(tmp_path / "in", [patient("a"), found]))
    assert told(history)[0][3] == "beats per minute"
    assert any(note.startswith("1 quantities in a unit") for note in history.notes)


def test_a_gzip_bomb_and_a_cut_gzip_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "Patient.ndjson.gz").write_bytes(
        gzip.compress(json.dumps(patient("a")).encode())[:-9]
    )
    with pytest.raises(InputError, match="damaged or truncated gzip"):
        fhir.read(folder)
    monkeypatch.setattr(files, "room", lambda size: 1 << 16)
    filled = json.dumps(patient("a", text={"div": " " * (1 << 20)})).encode()
    (folder / "Patient.ndjson.gz").write_bytes(gzip.compress(filled))
    with pytest.raises(InputError, match="unfolds to more than"):
        fhir.read(folder)


def test_a_line_or_a_bundle_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_LINE", 1000)
    monkeypatch.setattr(files, "MOST_BUNDLE", 1000)
    long = json.dumps(patient("a", text={"div": " " * 2000}))
    (tmp_path / "Patient.ndjson").write_text(long)
    with pytest.raises(InputError, match="line 1, is longer than"):
        fhir.read(tmp_path / "Patient.ndjson")
    (tmp_path / "a.json").write_text(long)
    with pytest.raises(InputError, match="one Bundle of more than"):
        fhir.read(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"resourceType":"Bundle","entry":{}}',
                                  '{"resourceType":"Bundle","entry":[5]}'])  # fmt: skip
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{SECRET}.json").write_text(text)
    with pytest.raises(InputError) as caught:
        fhir.read(tmp_path / f"{SECRET}.json")
    assert SECRET not in str(caught.value)


def test_bad_manifests_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", [patient("a")])
    for text in ("{", '{"extension":{"manikin":2}}', '{"extension":{"manikin":1,"schema":5}}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="manifest"):
            fhir.read(folder)
    (folder / "manifest.json").write_text('{"output":[]}')  # another's
    assert fhir.read(folder).ids == ("a",)


def test_a_manifest_that_points_beyond_its_codes_is_refused(tmp_path: Path) -> None:
    found = seen("a-0", "Patient/a", extension=[{"url": "urn:manikin:fhir:event", "extension": [
        {"url": "place", "valueInteger": 9}]}])  # fmt: skip
    folder = export(tmp_path / "in", [patient("a"), found])
    schema = EventSchema(TableSchema(()), (Code("LOINC/2160-0"),)).to_json()
    part = {"manikin": 1, "schema": schema, "kinds": {}, "categories": {}, "counts": {}}
    (folder / "manifest.json").write_text(json.dumps({"extension": part}))
    with pytest.raises(InputError, match="places of codes"):
        fhir.read(folder)


# -- with a schema --------------------------------------------------------------------------------


def test_a_schema_names_the_codes(tmp_path: Path) -> None:
    folder = export(tmp_path / "in", SERVER)
    free = fhir.read(folder)
    schema = free.events.schema
    again = fhir.read(folder, schema=schema)
    assert told(again) == told(free) and again.events.schema == schema
    fewer = EventSchema(schema.static, schema.codes[1:], birth="birth", sex="sex")
    with pytest.raises(SchemaError, match=r"1 codes, of \d events, that the schema does not have"):
        fhir.read(folder, schema=fewer)


def test_what_is_no_fhir_is_not_recognised(tmp_path: Path) -> None:
    assert not fhir.recognises(tmp_path)
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.csv").write_text("subject,time\n")
    assert not fhir.recognises(tmp_path) and not fhir.recognises(tmp_path / "b.csv")
    with pytest.raises(InputError, match="holds no file of resources"):
        fhir.read(export(tmp_path / "none", []))
    with pytest.raises(InputError, match="cannot be read"):
        fhir.read(tmp_path / "nowhere")


def test_without_orjson_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(tmp_path / "in", SERVER)
    events = fhir.read(folder).events
    monkeypatch.setitem(__import__("sys").modules, "orjson", None)
    with pytest.raises(MissingExtra, match=r"manikin\[ehr\]"):
        fhir.read(folder)
    with pytest.raises(MissingExtra, match=r"manikin\[ehr\]"):
        fhir.write([events], tmp_path / "out", layout={}, synthetic=True)
    assert not (tmp_path / "out").exists()
