"""Bad input: a typed error in three parts, its exit code, no cell of the data, nothing left."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
QUICK = ("--synthesizer", "table/marginals")
CANARY = "Canary"
HEADER = "age,sex,marker,arm,died,city\n"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def bad_files(folder: Path) -> dict[str, Path]:
    (folder / "folder.csv").mkdir()
    contents = {
        "empty.csv": b"",
        "blank.csv": b"\n\n\n",
        "header.csv": HEADER.encode(),
        "binary.csv": bytes(range(256)) * 40,
        "notes.docx": b"PK\x03\x04 Canary",
        "fake.parquet": b"PAR1 Canary Canary",
        "fake.xlsx": b"Canary,Canary\n1,2\n",
        "one_row.csv": (HEADER + f"61,F,5.11,a,1,{CANARY}\n").encode(),
        "three_rows.csv": (HEADER + f"61,F,5.11,a,1,{CANARY}\n" * 3).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in [*contents, "folder.csv", "missing.csv"]}


@pytest.mark.parametrize(
    "name",
    ["empty.csv", "blank.csv", "header.csv", "binary.csv", "notes.docx", "fake.parquet",
     "fake.xlsx", "one_row.csv", "three_rows.csv", "folder.csv", "missing.csv"],
)  # fmt: skip
def test_files_that_hold_no_table_to_learn_from(name: str, manikin: Run, tmp_path: Path) -> None:
    path = bad_files(tmp_path)[name]
    before = left(tmp_path)
    words = ("synthesize", path, "--out", "out", "--synthesizer", "table/marginals")
    result = manikin(*words)
    assert result.exit_code == 3, result.stderr
    assert result.stdout == ""
    assert "given" in result.stderr and "Traceback" not in result.stderr
    error = json.loads(manikin(*words, "--json").stderr)
    assert error["exit_status"] == 3 and error["given"] and error["todo"]
    assert left(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--target", "nonsense"), 3),
        (("--subject", "nonsense"), 3),
        (("--sensitive", "sex,nonsense"), 3),
        (("--schema", "nonsense.yaml"), 3),
        (("--synthesizer", "table/nonsense"), 4),
        (("--synthesizer", "nonsense"), 4),
        (("--synthesizer", "../errors"), 4),
        (("--set", "nonsense=3"), 3),
        (("--where", "nonsense=3"), None),
        (("--where", "age>>>3"), 4),
        (("--where", "age>900"), 4),
        (("--balance", "nonsense"), 3),
        (("--balance", "marker"), 4),
        (("--sign", "nonsense.key"), None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_the_data_refuse(
    words: tuple[str, ...], status: int | None, manikin: Run, data: Path, tmp_path: Path
) -> None:
    before = left(tmp_path)
    result = manikin("synthesize", data, "--synthesizer", "table/marginals", "--out", "out", *words)
    assert result.exit_code in ((3, 4, 8) if status is None else (status,)), result.stderr
    assert result.stdout == "" and "given" in result.stderr
    assert left(tmp_path) == before


@pytest.mark.parametrize("setting", ["k=many", "k=", "k=1.5"])
def test_settings_are_read_by_their_type(setting: str, manikin: Run, data: Path) -> None:
    result = manikin("synthesize", data, "--synthesizer", "table/marginals", "--set", setting)
    assert result.exit_code == 3 and "'k'" in result.stderr


def test_what_exists_is_not_overwritten(manikin: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "model").write_text("mine")
    before = left(tmp_path)
    assert manikin("synthesize", data, *QUICK, "--out", "out").exit_code == 7
    assert (
        manikin("synthesize", data, *QUICK, "--out", "out", "--overwrite").exit_code == 7
    )  # no release
    assert manikin("fit", data, *QUICK, "--out", "model").exit_code == 7
    assert manikin("synthesize", data, *QUICK, "--out", data).exit_code == 7
    assert left(tmp_path) == before
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(manikin: Run, data: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert manikin("synthesize", data, *QUICK, "--out", closed / "out").exit_code == 7


def test_a_place_below_a_file_cannot_be_written(manikin: Run, data: Path) -> None:
    assert manikin("synthesize", data, *QUICK, "--out", data / "out").exit_code == 7


def test_models_that_are_none(manikin: Run, data: Path, tmp_path: Path) -> None:
    for name in (data, tmp_path, tmp_path / "missing"):
        before = left(tmp_path)
        result = manikin("sample", name, "--out", "x.csv")
        assert result.exit_code in (3, 6) and "given" in result.stderr, result.stderr
        assert left(tmp_path) == before


def test_evaluate_wants_tables_that_fit_together(manikin: Run, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("x,y\n" + f"{CANARY},2\n" * 40)
    before = left(tmp_path)
    result = manikin("evaluate", "--train", data, "--holdout", data, "--synthetic", other)
    assert result.exit_code == 3 and left(tmp_path) == before
    parts = ("--train", data, "--holdout", data, "--synthetic", data)
    assert manikin("evaluate", *parts, "--metric", "nonsense").exit_code == 4


def test_an_internal_error_tells_no_cell(
    manikin: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manikin import pipeline

    def fails(*args: object, **kwargs: object) -> None:
        raise ValueError(f"could not convert {CANARY}0 to float")

    monkeypatch.setattr(pipeline, "audit", fails)
    for debug in ("", "1"):
        monkeypatch.setenv("MANIKIN_DEBUG", debug)
        result = manikin("audit", data)
        assert result.exit_code == 70 and "ValueError at" in result.stderr


@pytest.mark.parametrize("command", ["audit", "synthesize", "fit", "evaluate"])
@pytest.mark.parametrize("rows", [1, 15, 60])
def test_a_table_of_nothing_but_canaries_is_never_quoted(
    command: str, rows: int, manikin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANIKIN_DEBUG", "1")
    table = tmp_path / "t.csv"
    body = [
        f"{CANARY} {i},{CANARY}{i % 8},{CANARY}{i}@x.org,{CANARY}_{i % 30},x{i % 2}"
        for i in range(rows)
    ]
    table.write_text("\n".join(["a,b,c,d,e", *body]) + "\n")
    words: dict[str, tuple[object, ...]] = {
        "audit": (table, "--target", "e", "--sensitive", "b", "--quasi", "d"),
        "synthesize": (table, "--out", "out", *QUICK, "--target", "e", "--sensitive", "b"),
        "fit": (table, "--out", "model", *QUICK, "--json"),
        "evaluate": ("--train", table, "--holdout", table, "--synthetic", table),
    }
    for more in ((), ("--json",)):
        result = manikin(command, *words[command], *more)  # the fixture looks for canaries
        assert result.exit_code in (0, 3, 4, 5, 7), result.stderr


@pytest.mark.parametrize("words", [("--n", "0"), ("--nope",), ("--profile", "slow")])
def test_wrong_usage_is_json_where_json_was_asked_for(
    words: tuple[str, ...], process: Callable[..., subprocess.Popen[str]]
) -> None:
    ended = process("synthesize", "x.csv", "--json", *words)
    out, err = ended.communicate(timeout=300)
    assert ended.returncode == 2 and out == ""
    said = json.loads(err)
    assert said["exit_status"] == 2 and said["given"] and said["allowed"] and said["todo"]


def test_other_exit_codes_stay_as_they_are_with_json(
    process: Callable[..., subprocess.Popen[str]],
) -> None:
    ended = process("audit", "nowhere.csv", "--json")
    _, err = ended.communicate(timeout=300)
    assert ended.returncode == json.loads(err)["exit_status"] == 3
    listed = process("list", "--json")
    out, _ = listed.communicate(timeout=300)
    assert listed.returncode == 0 and json.loads(out)
