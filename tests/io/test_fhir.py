"""FHIR out, and back: what is written is valid, stands in its place, and is read as it was."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, OutputError, SchemaError
from manikin.io import fhir
from manikin.io.fhir.check import faults_of
from manikin.io.fhir.codes import coding_of, is_ucum, name_of

CODES = (
    Code("ActCode/AMB", "visit", label="ambulatory", levels=("check-up", "walk-in")),
    Code("Visit/IP", "visit"),
    Code("SNOMED/44054006", "condition", label="Diabetes"),
    Code("RxNorm/860975", "drug", unit="mg", numeric=True),
    Code("CVX/140", "drug"),
    Code("SNOMED/80146002", "procedure"),
    Code("LOINC/8480-6", "measurement", label='"Systolic" é', unit="mm[Hg]", numeric=True),
    Code("LOINC/2160-0", "measurement", unit="mg/dL", numeric=True, decimals=2),
    Code("LOINC/2160-0", "measurement", unit="umol/L", numeric=True),
    Code("LOINC/2160-0", "observation"),
    Code("LOINC/72166-2", "observation", levels=("never", "former")),
    Code("heart rate", "measurement", unit="beats per minute", numeric=True),
    Code("http:%2F%2Flab.example%2Ft/GLU", "measurement", numeric=True),
    Code("MIMIC/22 00", "device"),
    Code("DEATH", "death"),
    Code("a  b/ é%", "observation"),
    Code("ICD-10-CM/E11.9", "condition"),
    Code("ICD10CM/E11.9", "condition", parents=("ICD10CM/E11",), concept=201826),
)
STATIC = TableSchema((
    Column("sex", "categorical", categories=("F", "M")),
    Column("birth", "datetime", date_format="%Y-%m-%d"),
    Column("race", "categorical", categories=("a", 'b "q"')),
    Column("bmi", "continuous", unit="kg/m2"),
    Column("smoker", "boolean", categories=("no", "yes")),
    Column("site", "categorical", categories=("", "x")),
    Column("crp", "continuous", missing=("", "NA"), special=("<5",)),
    Column("seen", "datetime"),
))  # fmt: skip
TEXTS = ("never", "", "walk-in", "<", 'a "quoted" \n text', "  ", "é", "former")
NEVER = np.datetime64("NaT", "us")


def odd_histories(n: int = 40, each: int = 60, seed: int = 0) -> Events:
    """Histories with everything that an `Events` can hold, likely or not."""
    rng = generator(seed, "fhir test")

    def some(values: Any, none: Any, share: float = 0.2) -> Any:
        return np.where(rng.random(len(values)) < share, none, values)

    def levels(k: int) -> Any:
        return rng.integers(-1, k, n).astype(np.int32)

    birth = np.datetime64("1950-01-01", "us") + rng.integers(0, 9999, n).astype("m8[D]")
    birth = np.where(rng.random(n) < 0.2, birth + np.timedelta64(12_345_678, "us"), birth)
    crp = some(rng.normal(size=n), np.nan)
    bmi = some(rng.normal(25, 4, n), np.nan)
    bmi[:2] = np.inf, -0.0
    birth[:2] = np.datetime64("-0100-01-01"), np.datetime64("20000-01-01")
    columns = {"sex": levels(2), "birth": some(birth, NEVER), "race": levels(2), "bmi": bmi,
               "smoker": levels(2), "site": levels(2), "crp": crp,
               "seen": some(birth + np.timedelta64(1, "us"), NEVER)}  # fmt: skip
    states = {"crp": np.where(np.isnan(crp), rng.integers(1, 4, n), 0).astype(np.int8)}
    table = Table(STATIC, np.arange(n) * 3 + 1, columns, states)
    m = n * each
    hours = rng.integers(0, 900, m).astype("m8[h]")
    time = some(np.datetime64("2015-03-01", "us") + hours * 12, NEVER, 0.03)
    time[::50] += np.timedelta64(123_457, "us")
    time[::90] = np.datetime64("-0044-03-15", "us")
    end = some(time + rng.integers(-5, 99, m).astype("m8[h]"), NEVER, 0.6)
    end[::70] = np.datetime64("12000-01-01", "us")
    value = some(np.round(rng.normal(100, 20, m), 1), np.nan, 0.4)
    value[::40], value[1::80], value[2::80] = -0.0, np.inf, -np.inf
    value[3::30] = rng.normal(size=value[3::30].size) * 10.0 ** rng.integers(-300, 300)
    return Events.of(
        EventSchema(STATIC, CODES, birth="birth", sex="sex"),
        table,
        rng.integers(0, n - 1, m),  # the last one has no event
        time,
        rng.integers(0, len(CODES), m),
        value,
        np.where(rng.random(m) < 0.3, rng.integers(0, len(TEXTS), m), -1),
        end,
        np.where(rng.random(m) < 0.7, rng.integers(0, 6, m), -1),
        TEXTS,
    )


def assert_same(a: Events, b: Events) -> None:
    """Assert that histories are equal to the last bit; texts by what they read."""
    assert a.schema == b.schema
    assert np.array_equal(a.subjects, b.subjects)
    for name, values in a.static.columns.items():
        _equal(values, b.static.columns[name], name)
        assert np.array_equal(a.static.state(name), b.static.state(name)), name
    for name in ("whose", "time", "code", "value", "end", "visit"):
        _equal(getattr(a, name), getattr(b, name), name)
    read = [[e.texts[t] if t >= 0 else None for t in e.text.tolist()] for e in (a, b)]
    assert read[0] == read[1]


def _equal(x: Any, y: Any, name: str) -> None:
    if x.dtype.kind == "f":
        there = ~np.isnan(x)
        assert np.array_equal(there, ~np.isnan(y)), name
        x, y = x[there], y[there]
    if x.dtype.kind in "fM":
        x, y = x.view(np.int64), y.view(np.int64)
    assert np.array_equal(x, y), name


def written(events: Events, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """Write NDJSON and return every resource, read by nothing but the standard library."""
    synthetic, ids = settings.pop("synthetic", True), settings.pop("ids", ())
    fhir.write([events], out, layout=settings, synthetic=synthetic, ids=ids)
    files = sorted(out.glob("*.ndjson"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def small(
    *codes: Code, time: Any = ("2020-02-03T04:05:06",), static: bool = False, **columns: Any
) -> Events:
    """One subject with an event a code."""
    schema = TableSchema((Column("sex", "categorical", categories=("female", "male")),
                          Column("birth", "datetime", date_format="%Y-%m-%d")))  # fmt: skip
    facts = {"sex": np.array([1], np.int32), "birth": np.array(["1950-06-07"], "M8[us]")}
    table = Table(schema, np.array([7]), facts)
    n = len(codes)
    return Events.of(EventSchema(schema, codes, birth="birth", sex="sex"), table, np.zeros(n),
                     np.resize(np.array(time, "M8[us]"), n), np.arange(n), **columns)  # fmt: skip


# -- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "compressed"),
    [("ndjson", False), ("ndjson", True), ("bundles", True), ("bundle", False)],
)
def test_everything_is_read_back_to_the_last_bit(
    tmp_path: Path, form: str, compressed: bool
) -> None:
    events = odd_histories()
    out = tmp_path / ("all.json" if form == "bundle" else "out")
    fhir.write([events], out, layout={"form": form, "compressed": compressed}, synthetic=True)
    assert fhir.recognises(out)
    history = fhir.read(out)
    assert_same(events, history.events)
    assert history.synthetic and history.ids == () and history.notes == ()
    assert history.layout["form"] == form


def test_blocks_are_read_back_as_one(tmp_path: Path) -> None:
    events = odd_histories()
    parts = [events.take(events.subjects[:9]), events.take(events.subjects[9:])]
    fhir.write(iter(parts), tmp_path / "out", layout={}, synthetic=False)
    history = fhir.read(tmp_path / "out")
    assert_same(events, history.events)
    assert not history.synthetic


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(
    st.integers(0, len(CODES) - 1),
    st.one_of(st.none(), st.integers(-(2**62), 2**62)),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.integers(-1, 3),
), max_size=6))  # fmt: skip
def test_any_event_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    static = TableSchema(())
    time = np.array([np.iinfo(np.int64).min if t is None else t for _, t, *_ in rows], np.int64)
    events = Events.of(
        EventSchema(static, CODES), Table(static, np.array([5]), {}), np.zeros(len(rows), int),
        time.view("M8[us]"), [code for code, *_ in rows], [value for _, _, value, *_ in rows],
        np.arange(len(rows)), time[::-1].copy().view("M8[us]"),
        [visit for *_, visit in rows], [text for *_, text, _ in rows],
    )  # fmt: skip
    out = tmp_path_factory.mktemp("any") / "out"
    fhir.write([events], out, layout={}, synthetic=True)
    assert_same(events, fhir.read(out).events)


@pytest.mark.parametrize("n", [0, 1])
def test_no_subjects_and_no_events(tmp_path: Path, n: int) -> None:
    static = TableSchema(())
    events = Events.of(EventSchema(static, CODES[:1]), Table(static, np.arange(n), {}), [], [], [])
    fhir.write([events], tmp_path / "out", layout={}, synthetic=True)
    assert_same(events, fhir.read(tmp_path / "out").events)


def test_ten_thousand_codes(tmp_path: Path) -> None:
    codes = tuple(Code(f"LOCAL/{i}", "measurement", numeric=True) for i in range(10_000))
    events = small(*codes, value=np.arange(10_000) / 7)
    fhir.write([events], tmp_path / "out", layout={}, synthetic=True)
    assert_same(events, fhir.read(tmp_path / "out").events)


@pytest.mark.parametrize("ids", [("7", "x.1", "B-2"), ("a b", "x/1", "é")])
def test_names_of_subjects_come_back(tmp_path: Path, ids: tuple[str, ...]) -> None:
    events = odd_histories(3).renumbered()
    found = written(events, tmp_path / "out", ids=ids)
    patients = [one["id"] for one in found if one["resourceType"] == "Patient"]
    assert patients == (list(ids) if ids[0] == "7" else ["p0", "p1", "p2"])
    assert fhir.read(tmp_path / "out").ids == ids


# -- what is written ------------------------------------------------------------------------------


def test_every_resource_is_valid_and_is_as_orjson_writes_it(tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    fhir.write([odd_histories()], tmp_path / "out", layout={}, synthetic=True)
    seen: Counter[str] = Counter()
    for file in (tmp_path / "out").glob("*.ndjson"):
        for line in file.read_bytes().splitlines():
            resource = orjson.loads(line)
            assert orjson.dumps(resource) == line
            assert faults_of(line.decode()) == []
            tags = {(tag["system"], tag["code"]) for tag in resource["meta"]["tag"]}
            assert ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST") in tags
            assert ("urn:manikin:fhir:tag", "synthetic") in tags
            seen[resource["resourceType"]] += 1
    assert len(seen) == 9 and min(seen.values()) >= 1


def test_facts_stand_where_fhir_has_them(tmp_path: Path) -> None:
    found = written(
        small(
            Code("LOINC/8480-6", "measurement", unit="mm[Hg]", numeric=True),
            Code("SNOMED/44054006", "condition", label="Diabetes"),
            Code("ActCode/IMP", "visit"),
            Code("DEATH", "death"),
            value=[120.5, np.nan, np.nan, np.nan],
            end=["NaT", "2020-03-01", "2020-02-05", "NaT"],
            visit=[4, 4, 4, -1],
        ),
        tmp_path / "out",
    )
    by = {one["resourceType"]: one for one in found}
    assert by["Patient"]["gender"] == "male"
    assert by["Patient"]["birthDate"] == "1950-06-07"
    assert by["Patient"]["deceasedDateTime"] == "2020-02-03T04:05:06Z"
    seen = by["Observation"]
    assert seen["code"]["coding"] == [{"system": "http://loinc.org", "code": "8480-6"}]
    assert seen["valueQuantity"] == {"value": 120.5, "unit": "mm[Hg]", "code": "mm[Hg]",
                                     "system": "http://unitsofmeasure.org"}  # fmt: skip
    assert seen["category"][0]["coding"][0]["code"] == "vital-signs"
    assert seen["effectiveDateTime"] == "2020-02-03T04:05:06Z"
    assert seen["subject"] == {"reference": "Patient/p7"}
    assert seen["encounter"] == {"reference": f"Encounter/{by['Encounter']['id']}"}
    assert by["Condition"]["code"]["text"] == "Diabetes"
    assert by["Condition"]["abatementDateTime"] == "2020-03-01T00:00:00Z"
    stay = by["Encounter"]
    assert stay["class"]["code"] == "IMP" and stay["status"] == "finished"
    assert stay["period"] == {"start": "2020-02-03T04:05:06Z", "end": "2020-02-05T00:00:00Z"}


def test_every_reference_leads_to_a_resource(tmp_path: Path) -> None:
    found = written(odd_histories(), tmp_path / "out")
    there = Counter(f"{one['resourceType']}/{one['id']}" for one in found)
    assert max(there.values()) == 1  # no id twice
    references = [ref for one in found for ref in _references(one)]
    assert len(references) > len(found)
    assert set(references) <= set(there)


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [ref for part in value.values() for ref in _references(part)]
    return [ref for part in value for ref in _references(part)] if isinstance(value, list) else []


def test_a_count_by_hand_finds_the_same_facts(tmp_path: Path) -> None:
    events = odd_histories()
    found = written(events, tmp_path / "out")
    told = Counter(
        one["valueQuantity"]["value"] for one in found
        if one["resourceType"] == "Observation" and "valueQuantity" in one
    )  # fmt: skip
    seen = np.isin(events.code, events.schema.of("measurement", "observation"))
    held = events.value[seen & np.isfinite(events.value)]
    assert told == Counter(held.tolist())
    kinds = Counter(one["resourceType"] for one in found)
    assert kinds["Condition"] == np.isin(events.code, events.schema.of("condition")).sum()
    assert kinds["Immunization"] == (events.code == 4).sum()
    stays = np.isin(events.code, events.schema.of("visit"))
    bare = {*zip(events.whose[events.visit >= 0], events.visit[events.visit >= 0], strict=True)}
    bare -= {*zip(events.whose[stays], events.visit[stays], strict=True)}
    assert kinds["Encounter"] == stays.sum() + len(bare)


def test_real_data_are_not_marked(tmp_path: Path) -> None:
    found = written(odd_histories(5), tmp_path / "out", synthetic=False)
    assert not any("meta" in one for one in found)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["extension"]["synthetic"] is (
        False
    )


def test_the_manifest_lists_the_files_of_a_bulk_export(tmp_path: Path) -> None:
    written(odd_histories(5), tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["requiresAccessToken"] is False and manifest["error"] == []
    for file in manifest["output"]:
        lines = (tmp_path / "out" / file["url"]).read_text().splitlines()
        assert file["url"] == f"{file['type']}.ndjson" and file["count"] == len(lines)


def test_the_same_bytes_are_written_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fhir.write([odd_histories()], tmp_path / name, layout={"compressed": True}, synthetic=True)
    files = [path.name for path in (tmp_path / "a").glob("*.gz")]
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_transaction_puts_each_resource_under_its_id(tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    from fhir.resources.R4B.bundle import Bundle

    fhir.write([odd_histories(3)], tmp_path / "out", layout={"form": "bundles"}, synthetic=True)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["Device.json", "Patient.p1.json", "Patient.p4.json", "Patient.p7.json",
                     "manifest.json"]  # fmt: skip
    bundle = json.loads((tmp_path / "out/Patient.p4.json").read_text())
    Bundle.model_validate(bundle)
    for entry in bundle["entry"]:
        place = f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        assert entry["request"] == {"method": "PUT", "url": place}
        assert entry["fullUrl"].endswith(f"/{place}")


def test_days_are_written_as_days(tmp_path: Path) -> None:
    events = small(CODES[2], time=("2020-02-03",))
    days = EventSchema(events.schema.static, events.schema.codes, clock="day")
    found = written(Events.of(days, events.static, [0], events.time, [0]), tmp_path / "out")
    assert next(o for o in found if o["resourceType"] == "Condition")["onsetDateTime"] == (
        "2020-02-03"
    )


# -- refusals -------------------------------------------------------------------------------------


def test_a_strangers_layout_writes_nothing_of_its_own(tmp_path: Path) -> None:
    """A layout comes out of a model file, which anybody may have made."""
    told = {"offset": '"},"x":{"', "kinds": [], "categories": {"a": 5}}
    found = written(small(CODES[2]), tmp_path / "out", **told)
    assert found[0]["onsetDateTime"] == "2020-02-03T04:05:06Z"


def test_nothing_is_left_of_a_writing_that_fails(tmp_path: Path) -> None:
    events = odd_histories(5)

    def blocks() -> Any:
        yield events
        raise RuntimeError("the sampler failed")

    with pytest.raises(RuntimeError):
        fhir.write(blocks(), tmp_path / "out", layout={}, synthetic=True)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="there already"):
        fhir.write([odd_histories(2)], tmp_path, layout={}, synthetic=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    events = odd_histories(3)
    with pytest.raises(SchemaError, match="3 subjects in more than one block"):
        fhir.write([events, events], tmp_path / "out", layout={}, synthetic=True)
    with pytest.raises(SchemaError, match="different schemas"):
        fhir.write([events, small(CODES[2])], tmp_path / "out", layout={}, synthetic=True)
    with pytest.raises(InputError, match="no histories"):
        fhir.write([], tmp_path / "out", layout={}, synthetic=True)
    with pytest.raises(InputError, match="form"):
        fhir.write([events], tmp_path / "out", layout={"form": "xml"}, synthetic=True)
    with pytest.raises(SchemaError, match="a name for each"):
        fhir.write([events], tmp_path / "out", layout={}, synthetic=True, ids=("a",))
    assert list(tmp_path.iterdir()) == []


def test_the_sample_finds_what_fhir_forbids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fhir.resources")
    from manikin.io.fhir import plan

    monkeypatch.setitem(plan._STATUS, "Procedure", "  ")
    with pytest.raises(OutputError, match="Procedure: status"):
        fhir.write([odd_histories(5)], tmp_path / "out", layout={}, synthetic=True)
    assert list(tmp_path.iterdir()) == []


# -- names and units ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "system", "code"), [
    ("LOINC/2160-0", "http://loinc.org", "2160-0"),
    ("SNOMED/44054006", "http://snomed.info/sct", "44054006"),
    ("ICD10CM/E11.9", "http://hl7.org/fhir/sid/icd-10-cm", "E11.9"),
    ("ATC/A10BA02", "http://www.whocc.no/atc", "A10BA02"),
    ("http:%2F%2Fx.org%2Fa%20b/C/1", "http://x.org/a b", "C/1"),
    ("urn:oid:1.2.3/7", "urn:oid:1.2.3", "7"),
    ("MIMIC/50912", "urn:manikin:fhir:vocabulary:MIMIC", "50912"),
    ("plain name", "urn:manikin:fhir:code", "plain name"),
    ("two  blanks", "urn:manikin:fhir:code", "two%20%20blanks"),
    ("100%", "urn:manikin:fhir:code", "100%25"),
])  # fmt: skip
def test_names_and_systems_are_one_anothers_image(name: str, system: str, code: str) -> None:
    assert coding_of(name) == (system, code)
    assert name_of(system, code) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_is_lost(name: str) -> None:
    system, code = coding_of(name)
    again = name_of(system, code)
    assert again == name or coding_of(again) == (system, code)  # another spelling: "loinc/1"


@pytest.mark.parametrize("unit", ["mg/dL", "mm[Hg]", "/min", "10*3/uL", "%", "Cel", "kg/m2",
                                  "mmol/L", "{score}", "[degF]", "u[IU]/mL", "mL/min/{1.73_m2}",
                                  "h", "1"])  # fmt: skip
def test_units_of_ucum_are_known(unit: str) -> None:
    assert is_ucum(unit)


@pytest.mark.parametrize("unit", ["", "beats per minute", "mmHg ", "°C", "mg//dL", "x" * 99])
def test_other_units_are_not(unit: str) -> None:
    assert not is_ucum(unit)


def test_a_gzip_writer_leaves_whole_files(tmp_path: Path) -> None:
    fhir.write([odd_histories(3)], tmp_path / "out", layout={"compressed": True}, synthetic=True)
    text = gzip.decompress((tmp_path / "out/Patient.ndjson.gz").read_bytes())
    assert [json.loads(line)["id"] for line in text.splitlines()] == ["p1", "p4", "p7"]
