"""The audit: what it finds in tables planted with one fault each, and what it never says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.auditor import Audit, Finding, audit
from manikin.auditor.findings import listed, share_said, shown_share, told
from manikin.auditor.identifying import looks_like_data
from manikin.auditor.outcome import _auc
from manikin.auditor.vocabulary import IDENTIFYING, QUASI, topics_of, words
from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.schema import with_roles
from manikin.data.table import Table
from manikin.io.tables import open_table

N = 600


@dataclass(frozen=True)
class Given:
    table: Table
    cells: pl.DataFrame | None
    renamed: tuple[str, ...] = ()


def given_cells(cells: pl.DataFrame, **roles: object) -> Given:
    schema = infer_schema(cells, subject=roles.get("subject"))
    schema = with_roles(schema, **roles)
    return Given(parse(cells, schema), cells)


def plain(n: int = N, seed: int = 1) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    return {
        "marker": [f"{v:.2f}" for v in rng.normal(5, 1, n)],
        "arm": list(rng.choice(["placebo", "verum"], n)),
        "died": list(rng.choice(["0", "1"], n, p=[0.6, 0.4])),
    }


def examined(columns: dict[str, list[str]], **roles: object) -> Audit:
    return audit(given_cells(pl.DataFrame(columns), **roles))


def of(found: Audit, topic: str) -> list[Finding]:
    return [finding for finding in found.findings if finding.topic == topic]


def test_a_plain_table_has_nothing_to_settle() -> None:
    found = examined(plain(), target="died")
    assert found.n_rows == found.n_subjects == N
    assert [f for f in found.findings if f.severity == "stop"] == []
    assert [p.name for p in found.columns] == ["marker", "arm", "died"]


# ---------------------------------------------------------------------------- small cells
@given(st.integers(0, 40), st.integers(1, 60))
def test_no_count_or_complement_below_eleven_is_said(count: int, extra: int) -> None:
    total = count + extra
    said = share_said(count, total)
    digits = [int(d) for d in re.findall(r"(?<![\d.])\d+(?![\d.])", told(count))]
    assert all(d == 0 or d >= 11 for d in digits)
    if count == 0:
        assert said == "none"
    elif count < 11 or total - count < 11:
        assert shown_share(count, total) is None
        assert "fewer than 11" in said
    else:
        assert said == f"{count / total:.1%}".replace("%", " %")


def test_counts_in_words() -> None:
    assert told(0) == "no subjects"
    assert told(10, "rows") == "fewer than 11 rows"
    assert told(1234, "rows") == "1,234 rows"
    assert share_said(5, 5) == "all"
    assert listed(["a", "b", "c"], most=2) == "'a', 'b' and 1 more"


def test_no_cell_of_a_rare_value_and_no_extreme_is_said() -> None:
    columns = plain()
    columns["arm"][0] = "CANARYARM"
    columns["marker"][1] = "9876.54"
    columns["sex"] = ["F", "M"] * (N // 2)
    columns["sex"][2] = "CANARYSEX"
    columns["note"] = [f"CANARYTEXT{i} seen in clinic on a rainy day, doing well" for i in range(N)]
    columns["email"] = [f"canary{i}@example.org" for i in range(N)]
    columns["dob"] = [f"19{i % 80 + 10}-0{i % 9 + 1}-1{i % 9}" for i in range(N)]
    found = examined(columns, target="died", sensitive=("sex",))
    text = json.dumps(found.to_json()).casefold()
    assert "canary" not in text
    assert "9876" not in text
    assert "1910" not in text


def test_small_tables_do_not_say_their_size() -> None:
    found = examined({key: values[:5] for key, values in plain().items()})
    assert found.to_json()["n_rows"] == "fewer than 11"
    json.dumps(found.to_json(), allow_nan=False)


# ---------------------------------------------------------------------------- identifying
@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("PatientName", "a person's name"),
        ("NACHNAME", "a person's name"),
        ("prénom", "a person's name"),
        ("氏名", "a person's name"),
        ("mrn", "a patient or record number"),
        ("patient_nbr", "a patient or record number"),
        ("Fall-Nr.", "a patient or record number"),
        ("Fødselsnummer", "a national identity number"),
        ("codice fiscale", "a national identity number"),
        ("NHS number", "a national identity number"),
        ("E-Mail", "an e-mail address"),
        ("correo", "an e-mail address"),
        ("home phone", "a telephone number"),
        ("Geburtsdatum", "a date of birth"),
        ("fecha de nacimiento", "a date of birth"),
        ("DateOfBirth", "a date of birth"),
        ("PLZ", "a postcode"),
        ("zip_code", "a postcode"),
        ("código postal", "a postcode"),
    ],
)
def test_names_of_columns_in_many_languages(name: str, topic: str) -> None:
    assert topic in topics_of(name, IDENTIFYING)


@pytest.mark.parametrize("name", ["platelet", "hemoglobin", "enamel", "sexagesimal", "usage"])
def test_words_within_words_do_not_count(name: str) -> None:
    assert topics_of(name, IDENTIFYING) == []
    assert topics_of(name, QUASI) == []


def test_words_are_cut_at_case_and_marks() -> None:
    assert words("dateOfBirth") == ["date", "of", "birth"]
    assert words("Größe (cm)") == ["grosse", "cm"]


def nhs_numbers(n: int) -> list[str]:
    rng, found = np.random.default_rng(0), []
    while len(found) < n:
        digits = rng.integers(0, 10, 9)
        check = (11 - (digits * np.arange(10, 1, -1)).sum() % 11) % 11
        if check < 10:
            found.append("".join(map(str, [*digits, check])))
    return found


def luhn_numbers(n: int, width: int = 16) -> list[str]:
    rng, found = np.random.default_rng(0), []
    for _ in range(n):
        digits = [int(d) for d in rng.integers(0, 10, width - 1)]
        weighted = [d * 2 if i % 2 == 0 else d for i, d in enumerate(reversed(digits))]
        total = sum(d - 9 if d > 9 else d for d in weighted)
        found.append("".join(map(str, [*digits, (10 - total % 10) % 10])))
    return found


@pytest.mark.parametrize(
    ("cells", "topic"),
    [
        ([f"first.last{i}@ward-{i % 7}.example.org" for i in range(N)], "an e-mail address"),
        ([f"+49 30 {i:03d} {i:04d}" for i in range(N)], "a telephone number"),
        ([f"(212) 555-{i:04d}" for i in range(N)], "a telephone number"),
        ([f"{i:03d}-{i % 99:02d}-{i:04d}" for i in range(N)], "a national identity number"),
        (nhs_numbers(N), "a national identity number"),
        (luhn_numbers(N), "a device or account number"),
        ([f"SW{i % 20}A {i % 10}A{chr(65 + i % 26)}" for i in range(N)], "a postcode"),
        ([f"10.0.{i // 256}.{i % 256}" for i in range(N)], "a device or account number"),
        ([f"MRN-{i:07d}" for i in range(N)], "a patient or record number"),
        (
            [
                f"{'ABCDEFGHJK'[i % 10]}na{chr(97 + i // 26)} Mu{chr(97 + i % 26)}er"
                for i in range(N)
            ],
            "a person's name",
        ),
    ],
)
def test_cells_that_identify_whatever_their_column_is_called(cells: list[str], topic: str) -> None:
    found = examined({**plain(), "x1": cells})
    told_of = [f for f in of(found, "identifying") if "x1" in f.columns]
    assert told_of and topic in told_of[0].said


def test_random_digits_are_no_identity_numbers() -> None:
    rng = np.random.default_rng(3)
    numbers = [str(v) for v in rng.integers(10**9, 10**10, N)]
    found = examined({**plain(), "x1": numbers})
    assert not [f for f in of(found, "identifying") if "national" in f.said]


def test_an_address_within_text_is_found() -> None:
    text = [f"patient number {i} is doing well and walks a little every day" for i in range(N)]
    text[5] += ", write to someone@example.org"
    found = examined({**plain(), "remark": text})
    assert any("contain an e-mail address" in f.said for f in of(found, "identifying"))
    assert "someone" not in json.dumps(found.to_json())


def test_patterns_stay_linear_on_hostile_cells() -> None:
    hostile = [("a" * 5000 + "@" + "a." * 3000 + f"{i}!") for i in range(200)]
    examined({**{k: v[:200] for k, v in plain().items()}, "x1": hostile})


def test_yes_or_no_columns_identify_nobody() -> None:
    found = examined({**plain(), "phone": ["yes", "no"] * (N // 2)})
    assert of(found, "identifying") == []


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("NIR", [f"{i / 7:.3f}" for i in range(N)]),  # near infrared, not a French number
        ("mobile", [str(i % 30) for i in range(N)]),
        ("comments", [f"grade {i % 15}" for i in range(N)]),
        ("diagnosis", [("Acute Appendicitis", "Breast Cancer")[i % 2] for i in range(N)]),
    ],
)
def test_what_stops_a_release_is_not_cried_at_measurements(name: str, cells: list[str]) -> None:
    found = examined({**plain(), name: cells})
    assert [f for f in of(found, "identifying") if f.severity != "note"] == []


def test_the_number_of_a_doctor_is_no_subject() -> None:
    found = examined({**plain(), "doctor_id": [f"D{i % 60:03d}" for i in range(N)]})
    assert of(found, "subjects") == []


def test_a_file_without_header_is_told_without_its_cells() -> None:
    assert looks_like_data(["54", "1.5", "2001-02-03", "male"])
    assert not looks_like_data(["age", "bmi", "1"])
    names = ["61.25", "7", "2003-04-05"]
    found = examined(dict(zip(names, plain().values(), strict=True)))
    assert [f.topic for f in found.findings] == ["header"]
    assert "61.25" not in json.dumps(found.to_json())


# ---------------------------------------------------------------------------- rows
def test_a_repeating_subject_number_is_pointed_out_until_declared() -> None:
    columns = {**plain(), "patient_id": [f"P{i // 4:05d}" for i in range(N)]}
    (finding,) = of(examined(columns), "subjects")
    assert finding.severity == "stop" and "--subject patient_id" in finding.todo
    found = examined(columns, subject="patient_id")
    assert [f.severity for f in of(found, "subjects")] == ["note"]
    assert found.n_subjects == N // 4


def test_duplicated_rows_are_counted() -> None:
    once = {**plain(), "size": [f"{v:.6f}" for v in np.random.default_rng(9).normal(size=N)]}
    columns = {key: values + values[:50] for key, values in once.items()}
    (finding,) = of(examined(columns), "duplicates")
    assert finding.said.startswith("50 rows repeat")
    columns = {key: values + values[:3] for key, values in once.items()}
    (finding,) = of(examined(columns), "duplicates")
    assert finding.said.startswith("fewer than 11 rows repeat")


def test_duplicated_columns_and_recodings_are_found() -> None:
    columns = plain()
    columns["arm_code"] = ["A" if value == "verum" else "B" for value in columns["arm"]]
    columns["marker_again"] = columns["marker"]
    (finding,) = of(examined(columns), "duplicated columns")
    assert set(finding.columns) == {"arm", "arm_code", "marker", "marker_again"}


def test_uniqueness_on_quasi_identifiers_is_the_hand_counted_share() -> None:
    columns = plain()
    # 300 subjects alone with their age and sex, 300 in groups of 50
    columns["age"] = [str(20 + i % 60) for i in range(300)] + ["90"] * 300
    columns["code"] = [f"k{i // 60}" for i in range(300)] + [f"g{i % 6}" for i in range(300)]
    found = examined(columns, quasi_identifiers=("age", "code"))
    (finding,) = of(found, "singling out")
    assert "50.0 % of subjects are unique" in finding.said
    assert finding.columns == ("age", "code")
    assert finding.severity == "warn"


def test_quasi_identifiers_are_guessed_from_names() -> None:
    columns = {**plain(), "Geschlecht": ["m", "w"] * (N // 2)}
    (finding,) = of(examined(columns), "singling out")
    assert finding.columns == ("Geschlecht",) and "no subject is unique" in finding.said


def test_small_groups_are_named_only_from_eleven_on() -> None:
    columns = {**plain(), "sex": ["F"] * 300 + ["M"] * 285 + ["D"] * 15}
    (finding,) = of(examined(columns), "subgroups")
    assert "'D'" in finding.said and finding.severity == "warn"
    columns["sex"] = ["F"] * 300 + ["M"] * 292 + ["D"] * 8
    (finding,) = of(examined(columns), "subgroups")
    assert "'D'" not in finding.said and "fewer than 11" in finding.said


# ---------------------------------------------------------------------------- outcome
def test_leakage_is_found_in_numbers_labels_and_gaps() -> None:
    columns = plain()
    rng = np.random.default_rng(5)
    died = np.array(columns["died"]) == "1"
    columns["cost"] = [f"{v:.1f}" for v in np.where(died, 90, 10) + rng.normal(0, 3, N)]
    columns["place"] = list(np.where(died, "morgue", "home"))
    columns["autopsy"] = [
        f"{v:.1f}" if d else "" for v, d in zip(rng.normal(size=N), died, strict=True)
    ]
    found = of(examined(columns, target="died"), "leakage")
    named = {name for finding in found for name in finding.columns}
    assert named == {"cost", "place", "autopsy", "died"}
    assert found[0].severity == "stop"
    assert of(examined(plain(), target="died"), "leakage") == []


def test_a_column_of_many_levels_leaks_nothing_by_chance() -> None:
    columns = {**plain(), "code": [f"c{i % 300}" for i in range(N)]}
    assert of(examined(columns, target="died"), "leakage") == []


def test_auc_by_hand() -> None:
    answer = np.array([0.0, 0.0, 1.0, 1.0])
    assert _auc(answer, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert _auc(answer, np.zeros(4)) == 0.5


def test_imbalance_and_events() -> None:
    columns = plain()
    columns["died"] = ["1"] * 20 + ["0"] * (N - 20)
    found = examined(columns, target="died")
    (finding,) = of(found, "imbalance")
    assert finding.severity == "warn" and "3.3 %" in finding.said
    columns["died"] = ["1"] * 5 + ["0"] * (N - 5)
    said = " ".join(f.said for f in examined(columns, target="died").findings)
    assert "fewer than 11" in said and "0.8 %" not in said


def test_few_subjects_for_many_columns() -> None:
    rng = np.random.default_rng(0)
    columns = {f"x{i}": [f"{v:.2f}" for v in rng.normal(size=60)] for i in range(30)}
    topics = [f.said for f in of(examined(columns), "size")]
    assert len(topics) == 2


def test_functional_dependencies() -> None:
    columns = plain()
    columns["icd"] = [f"C{i % 6}" for i in range(N)]
    columns["chapter"] = ["tumour" if i % 6 < 3 else "heart" for i in range(N)]
    (finding,) = of(examined(columns), "dependencies")
    assert finding.said == "'icd' settles 'chapter'"


# ---------------------------------------------------------------------------- missing
def test_missing_patterns() -> None:
    columns = plain()
    rng = np.random.default_rng(2)
    old = np.arange(N) % 3 == 0
    columns["stage"] = list(np.where(old, "late", "early"))
    for name in ("sodium", "potassium"):
        values = [f"{v:.1f}" for v in rng.normal(140, 3, N)]
        columns[name] = ["" if gap else v for v, gap in zip(values, old, strict=True)]
    gaps = rng.random(N) < 0.2
    columns["crp"] = [
        "" if g else f"{v:.1f}" for v, g in zip(rng.normal(9, 2, N), gaps, strict=True)
    ]
    said = [f.said for f in of(examined(columns), "missing")]
    assert "'sodium', 'potassium' are missing in the same rows" in said
    assert (
        "where a value is missing depends on another column: 'sodium', 'potassium' on 'stage'"
        in said
    )
    assert "no other column foretells where 'crp' has no value" in said


def test_codes_for_nothing() -> None:
    columns = plain()
    rng = np.random.default_rng(2)
    weight = rng.normal(80, 9, N).round().astype(int)
    weight[:30] = 999
    pressure = rng.normal(130, 12, N).round().astype(int)
    pressure[:30] = 0
    columns |= {"weight": [str(v) for v in weight], "pressure": [str(v) for v in pressure]}
    named = {name for f in of(examined(columns), "missing") for name in f.columns}
    assert named == {"weight", "pressure"}


@pytest.mark.parametrize(
    ("labels", "odd"),
    [(["alive", "dead", "-99"], True), (["alive", "dead", "3"], False), (["1", "2", "99"], False),
     (["I", "9"], False), (["low", "high", "9", "8"], False)],
)  # fmt: skip
def test_a_code_for_nothing_among_words(labels: list[str], odd: bool) -> None:
    columns = plain() | {"state": [labels[i % len(labels)] for i in range(N)]}
    assert [f.columns for f in of(examined(columns), "missing")] == [("state",)] * odd


def test_names_that_the_reader_gave_are_said(tmp_path: Path) -> None:
    rows = "".join(f"{i % 50},{i % 7},{i % 3}\n" for i in range(100))
    (tmp_path / "d.csv").write_text("age,age,\n" + rows)
    opened = open_table(tmp_path / "d.csv")
    (finding,) = of(audit(opened), "header")
    assert finding.columns == ("age_2", "column_3") and finding.severity == "warn"
    named = [f"r{i},{i % 50},{i % 7}\n" for i in range(100)]
    for text in ("age,size,place\n" + rows, "age,size,place,\n" + rows,
                 "age,size\n" + "".join(named), rows):  # fmt: skip
        (tmp_path / "e.csv").write_text(text)
        assert not open_table(tmp_path / "e.csv").renamed


def test_constant_empty_and_mixed_columns() -> None:
    columns = plain()
    columns["empty"] = [""] * N
    columns["same"] = ["x"] * N
    said = " ".join(f.said for f in of(examined(columns), "constant"))
    assert "'empty' has no value in any row" in said and "'same' has the same value" in said


def test_dates_lie_between_years_not_days() -> None:
    columns = plain()
    start = np.datetime64("2010-01-01")
    days = start + np.arange(N).astype("timedelta64[D]") * 3
    columns["admitted"] = [str(day) for day in days]
    columns["seen"] = [str(day) for day in days + np.timedelta64(365 * 90, "D")]
    found = examined(columns)
    profile = next(p for p in found.columns if p.name == "admitted")
    assert profile.span == "most of it in 2010 to 2014"
    (finding,) = of(found, "dates")
    assert finding.columns == ("seen",)


# ---------------------------------------------------------------------------- odd shapes
@pytest.mark.parametrize("n", [1, 2, 11, 30])
def test_few_rows(n: int) -> None:
    found = examined({key: values[:n] for key, values in plain().items()}, target="died")
    assert found.n_rows == n
    assert of(found, "size")[0].severity == ("stop" if n < 22 else "warn")


def test_without_cells() -> None:
    whole = given_cells(pl.DataFrame(plain()), target="died")
    assert audit(Given(whole.table, None)).n_rows == N


def test_wide_tables_and_odd_names() -> None:
    rng = np.random.default_rng(0)
    columns = {f"größe {i} [µmol]": [f"{v:.2f}" for v in rng.normal(size=200)] for i in range(500)}
    found = examined(columns)
    assert len(found.columns) == 500


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "1", "0", "2.5", "-1e300", "nan", "x", "inf", "ä"]),
            st.sampled_from(["a", "b", "", "<0.5", "3"]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_stands_in_the_cells_an_audit_comes_back(rows: list[tuple[str, str]]) -> None:
    found = examined({"a": [r[0] for r in rows], "b": [r[1] for r in rows]})
    json.dumps(found.to_json(), allow_nan=False)
    order = [["stop", "warn", "note"].index(f.severity) for f in found.findings]
    assert order == sorted(order)
