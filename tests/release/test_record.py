import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.release.record import (
    START,
    Record,
    canonical,
    data_digest,
    owner_key,
    read_record,
    run_facts,
    schema_digest,
    source_facts,
    split_facts,
    verify_chain,
)

KEY = b"k" * 32


def table(values: list[float], *, declared: bool = False) -> Table:
    schema = TableSchema((Column("age", "continuous"),), declared=declared)
    return Table(schema, np.arange(len(values)), {"age": np.array(values)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "record.jsonl"
    record = Record(path, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    record.add("started", run_facts("H. Ward"))
    record.add("source", {"rows": 3, "name": "Äpfel.csv"})
    record.add("fit", {"seed": 7, "loss": float("nan")})
    record.close({"synthetic.csv": "0" * 64})
    return path


def test_a_fresh_chain_holds_and_reads_back(path: Path) -> None:
    assert verify_chain(path) == ()
    entries = read_record(path)
    assert [entry.event for entry in entries] == ["started", "source", "fit", "closed"]
    assert entries[0].previous == START and entries[1].previous == entries[0].digest
    assert entries[0].at == "2026-01-02T00:00:00.000+00:00"
    assert entries[0].content["who"] == "H. Ward"
    assert entries[2].content == {"seed": 7, "loss": None}


def test_nobody_is_named_unasked() -> None:
    assert run_facts()["who"] is None


def test_a_record_goes_on_where_it_ended(path: Path) -> None:
    Record(path).close({})
    assert verify_chain(path) == ()
    assert read_record(path)[-1].line == 5


def test_every_flipped_byte_is_named_by_line(path: Path) -> None:
    original = path.read_bytes()
    for position in range(0, len(original), 7):
        changed = bytearray(original)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        problems = verify_chain(path)
        line = original[:position].count(b"\n") + 1
        assert any(f"line {line}" in problem for problem in problems), (position, problems)


@pytest.mark.parametrize(
    ("order", "named"),
    [([0, 2, 3], "line 2"), ([0, 2, 1, 3], "line 2"), ([1, 2, 3], "line 1"), ([0, 1, 2], "3")],
    ids=["middle line deleted", "reordered", "first deleted", "last deleted"],
)
def test_lines_deleted_or_moved_are_named(path: Path, order: list[int], named: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    problems = verify_chain(path)
    assert problems and any(named in problem for problem in problems)


def test_a_line_redigested_by_a_forger_breaks_the_next(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    entry = json.loads(lines[1])
    entry["content"]["rows"] = 4
    from manikin.release.record import Entry

    forged = Entry.make(2, entry["event"], entry["at"], entry["content"], entry["previous"])
    lines[1] = canonical(forged)
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert verify_chain(path) == ("line 3 (fit) does not follow the line before it",)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"line":1}',
        b"[" * 100_000,
        b"null",
        b'{"a":' * 500 + b"1" + b"}" * 500,
    ],
)
def test_nonsense_is_named_not_raised(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line + b"\n")
    assert any("line 5" in problem for problem in verify_chain(path))
    with pytest.raises(InputError, match="line 5"):
        read_record(path)


def test_deeply_nested_content_is_named_not_raised(path: Path) -> None:
    entry = json.loads(path.read_bytes().splitlines()[0])
    text = canonical(entry).replace(b'"purpose":""', b'"purpose":' + b"[" * 900 + b"]" * 900)
    path.write_bytes(text + b"\n")
    assert any("line 1" in problem for problem in verify_chain(path))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.text()))
def test_any_content_survives(tmp_path: Path, content: dict[str, object]) -> None:
    path = tmp_path / "any.jsonl"
    path.unlink(missing_ok=True)
    Record(path).add("closed", content)
    assert verify_chain(path) == ()


def test_digests_of_data_are_keyed_and_see_every_value() -> None:
    first = data_digest(table([1.0, 2.0]), KEY)
    assert first == data_digest(table([1.0, 2.0]), KEY)
    assert first != data_digest(table([1.0, 2.5]), KEY)
    assert first != data_digest(table([2.0, 1.0]), KEY)
    assert first != data_digest(table([1.0, 2.0]), b"x" * 32)
    assert first.startswith("hmac-sha256:")


def test_an_inferred_schema_has_a_keyed_digest_and_a_declared_one_a_public_one() -> None:
    assert schema_digest(table([1.0]).schema, KEY).startswith("hmac-sha256:")
    assert schema_digest(table([1.0], declared=True).schema, KEY).startswith("sha256:")


def test_source_and_split_hold_no_value() -> None:
    whole = table([1.5, 271828.25, 3.0])
    facts = source_facts(whole, KEY) | split_facts({"train": whole.rows(np.arange(2))}, KEY)
    assert "271828" not in json.dumps(facts)


def test_a_split_tells_no_part_of_fewer_than_eleven() -> None:
    whole = table([float(i) for i in range(21)])
    parts = {"train": whole.rows(np.arange(11)), "holdout": whole.rows(np.arange(11, 21))}
    facts = split_facts(parts, KEY)
    assert (facts["train"]["subjects"], facts["train"]["rows"]) == (11, 11)
    assert (facts["holdout"]["subjects"], facts["holdout"]["rows"]) == (None, None)
    assert facts["train"]["members"] != facts["holdout"]["members"]


def test_the_owners_key_is_made_once_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MANIKIN_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = owner_key()
    assert len(key) == 64 and owner_key() == key
    assert (tmp_path / "manikin" / "key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("MANIKIN_KEY", "z" * 40)
    assert owner_key() == b"z" * 40
    monkeypatch.setenv("MANIKIN_KEY", "short")
    with pytest.raises(InputError, match="5 characters"):
        owner_key()
