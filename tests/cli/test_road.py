"""The whole road and its parts at the command line, on a small table."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import Result

from manikin import catalogue
from manikin.cli.cards import shelves

Run = Callable[..., Result]
CONDITIONAL = [
    card.name
    for card in shelves()["synthesizers"]
    if card.facts["takes conditions"] == "yes"
    and card.facts["privacy budget"] == "no"
    and card.name.startswith("table/")
]
QUICK = ("--synthesizer", "table/marginals")


@pytest.fixture
def release(manikin: Run, data: Path, tmp_path: Path) -> Path:
    result = manikin("synthesize", data, "--target", "died", *QUICK, "--out", "out", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "" and result.stderr == ""
    return tmp_path / "out"


def test_a_release_verifies_until_it_is_altered(release: Path, manikin: Run) -> None:
    assert {"report.html", "record.jsonl", "MANIFEST.sha256"} <= {p.name for p in release.iterdir()}
    result = manikin("verify", release)
    assert result.exit_code == 0 and "as sealed" in result.stdout
    report = release / "report.html"
    report.write_text(report.read_text().replace("e", "3", 1))
    (release / "added.txt").write_text("x")
    result = manikin("verify", release)
    assert result.exit_code == 6
    assert "altered: report.html" in result.stdout and "added: added.txt" in result.stdout
    document = json.loads(manikin("verify", release, "--json").stdout)
    assert document["ok"] is False and document["altered"] == ["report.html"]
    quiet = manikin("verify", release, "--quiet").stdout
    assert "do not rely" not in quiet and "altered: report.html" in quiet


def test_what_is_cited_for_a_release_is_what_made_it(release: Path, manikin: Run) -> None:
    result = manikin("cite", release)
    assert result.exit_code == 0 and "Manikin" in result.stdout


def test_the_summary_shows_verdict_and_paths(manikin: Run, data: Path, tmp_path: Path) -> None:
    result = manikin("synthesize", data, "--target", "died", *QUICK, "--out", "out", "--n", "50")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""  # no bars where there is no terminal
    assert "manikin verify" in result.stdout and "report.html" in result.stdout
    again = manikin("synthesize", data, *QUICK, "--out", "out")
    assert again.exit_code == 7
    assert manikin("synthesize", data, *QUICK, "--out", "out", "--overwrite").exit_code == 0


def test_json_is_the_only_thing_on_standard_output(manikin: Run, data: Path) -> None:
    result = manikin("synthesize", data, "--target", "died", *QUICK, "--out", "out", "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert Path(document["report"]).is_file() and Path(document["data"]).is_file()
    assert document["verdict"] and document["scores"]
    assert {"metric", "value", "interval", "floor", "ceiling"} <= set(document["scores"][0])


def test_fit_then_sample_in_every_format(manikin: Run, data: Path, tmp_path: Path) -> None:
    fitted = manikin("fit", data, "--out", "m.manikin", *QUICK, "--seed", "3", "--json")
    assert fitted.exit_code == 0, fitted.stderr
    assert json.loads(fitted.stdout)["seed"] == 3
    for format_, read in (("csv", pl.read_csv), ("parquet", pl.read_parquet)):
        result = manikin("sample", "m.manikin", "--n", 30, "--out", "new", "--format", format_)
        assert result.exit_code == 0, result.stderr
        frame = read(tmp_path / f"new.{format_}")
        assert frame.height == 30
        assert frame.columns == ["age", "sex", "marker", "arm", "died", "city"]
    assert manikin("sample", "m.manikin", "--n", 30, "--out", "new.csv").exit_code == 7
    women = ("sample", "m.manikin", "--n", 20, "--where", "sex=F", "--out", "women.csv")
    assert manikin(*women).exit_code == 0
    assert set(pl.read_csv(tmp_path / "women.csv")["sex"]) == {"F"}


@pytest.mark.parametrize("name", CONDITIONAL or ["none"])
def test_conditions_hold(name: str, manikin: Run, data: Path, tmp_path: Path) -> None:
    if not CONDITIONAL:
        pytest.skip("no synthesizer takes conditions")
    trained = any(setting.name == "steps" for setting in catalogue.settings(name))
    few = ("--set", "steps=25") if trained else ()  # conditions hold however bad a network is
    fit = manikin("fit", data, "--out", "m.manikin", "--synthesizer", name, *few)
    assert fit.exit_code == 0, fit.stderr
    women = manikin("sample", "m.manikin", "--n", 20, "--where", "sex=F", "--out", "women.csv")
    assert women.exit_code == 0, women.stderr
    assert set(pl.read_csv(tmp_path / "women.csv")["sex"]) == {"F"}
    even = manikin("sample", "m.manikin", "--n", 20, "--balance", "died", "--out", "even.csv")
    assert even.exit_code == 0, even.stderr
    assert pl.read_csv(tmp_path / "even.csv")["died"].sum() == 10


def test_the_same_seed_gives_the_same_bytes(manikin: Run, data: Path, tmp_path: Path) -> None:
    manikin("fit", data, "--out", "m.manikin", *QUICK)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        manikin("sample", "m.manikin", "--n", 40, "--seed", seed, "--out", f"{name}.csv")
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c


def test_evaluate_judges_what_another_tool_made(manikin: Run, data: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(data)
    frame[:60].write_csv(tmp_path / "train.csv")
    frame[60:].write_csv(tmp_path / "test.csv")
    frame.sample(60, seed=1).write_csv(tmp_path / "other.csv")
    result = manikin(
        "evaluate", "--train", "train.csv", "--holdout", "test.csv", "--synthetic", "other.csv",
        "--metric", "fidelity/shapes", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert {score["metric"].partition(".")[0] for score in document["scores"]} == {
        "fidelity/shapes"
    }


def test_schema_can_be_given_back(manikin: Run, data: Path, tmp_path: Path) -> None:
    # the command prints spellings on purpose, so look past the guard of the fixture
    data.write_text(data.read_text().replace("Canary", "Place"))
    printed = manikin("schema", data, "--target", "died")
    assert printed.exit_code == 0 and printed.stderr == ""
    (tmp_path / "schema.yaml").write_text(printed.stdout)
    document = json.loads(manikin("schema", data, "--json").stdout)
    assert [column["name"] for column in document["columns"]][:2] == ["age", "sex"]
    again = json.loads(manikin("audit", data, "--schema", "schema.yaml", "--json").stdout)
    assert [c["roles"] for c in again["columns"] if c["name"] == "died"] == [["target"]]


def test_rules_of_a_file_go_into_the_schema_of_histories(manikin: Run, tmp_path: Path) -> None:
    rows = [f"{i},2020-01-{1 + i % 9:02d},ICD10CM/E11.{i % 3}" for i in range(40)]
    (tmp_path / "long.csv").write_text("\n".join(["subject_id,time,code", *rows]) + "\n")
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - once: {code: ICD10CM/E11}\n  - once: {code: X}\n"
    )
    asked = "schema", "long.csv", "--modality", "events"
    printed = manikin(*asked, "--rules", "rules.yaml")
    assert printed.exit_code == 0 and "reaches no code for 'X'" in printed.stderr
    (tmp_path / "schema.yaml").write_text(printed.stdout)
    again = json.loads(manikin(*asked, "--rules", "rules.yaml", "--json").stdout)
    assert again["rules"] == [{"once": {"code": "ICD10CM/E11"}}, {"once": {"code": "X"}}]
    refused = manikin("schema", "long.csv", "--rules", "rules.yaml", "--modality", "table")
    assert refused.exit_code == 2 and "--rules" in refused.stderr


def test_audit_in_words_and_as_json(manikin: Run, data: Path) -> None:
    result = manikin("audit", data, "--target", "died", "--sensitive", "sex")
    assert result.exit_code == 0, result.stderr
    assert "120 rows" in result.stdout and "rare levels" in result.stdout
    document = json.loads(manikin("audit", data, "--json").stdout)
    assert len(document["columns"]) == 6
    assert {"severity", "topic", "columns", "said", "todo"} == set(document["findings"][0])
    lines = data.read_text().splitlines()
    rows = [f"P{i // 3:03d},{line}" for i, line in enumerate(lines[1:])]
    data.write_text("\n".join(["patient_id," + lines[0], *rows]) + "\n")
    quiet = manikin("audit", data, "--quiet")
    assert "--subject patient_id" in quiet.stdout and "120 rows" not in quiet.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_leaves_nothing(
    number: signal.Signals,
    process: Callable[..., subprocess.Popen[str]],
    data: Path,
    tmp_path: Path,
) -> None:
    lines = data.read_text().splitlines()
    data.write_text("\n".join([lines[0], *lines[1:] * 400]) + "\n")
    running = process("synthesize", data, "--target", "died", *QUICK, "--out", "deep/out")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("**/*.partial")) and running.poll() is None:
        assert time.monotonic() < deadline, "never began to write aside"
        time.sleep(0.02)
    assert running.poll() is None, running.stderr
    running.send_signal(number)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 128 + number
    assert out == "" and "stopped" in err and "Traceback" not in err
    assert [path.name for path in tmp_path.rglob("*")] == [data.name]


def test_a_closed_pipe_is_no_error(process: Callable[..., subprocess.Popen[str]]) -> None:
    running = process("list", "--json")
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert running.wait(timeout=300) in (0, 141)
    assert running.stderr.read() == ""
    running.stderr.close()


def test_compare_in_words_and_as_json(manikin: Run, data: Path, tmp_path: Path) -> None:
    words = ("compare", data, "--target", "died", *QUICK, "--synthesizer", "table/copula")
    result = manikin(*words, "--out", "c", "--set", "table/copula.shrink=yes")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "" and "manikin verify c" in result.stdout
    for shown in ("table/copula", "fidelity/trends", "ceiling (fresh real rows)", "exact copy"):
        assert shown in result.stdout
    assert not list(tmp_path.glob("c/*.csv"))
    assert manikin("verify", "c").exit_code == 0
    document = json.loads(manikin(*words, "--out", "d", "--with-data", "--json").stdout)
    assert [one["name"] for one in document["synthesizers"]] == ["table/marginals", "table/copula"]
    assert Path(document["synthesizers"][1]["data"]).is_file()
    assert manikin(*words, "--out", "e", "--set", "shrink=yes").exit_code == 2
