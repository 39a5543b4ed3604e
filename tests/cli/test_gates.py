"""Gates at the command line: what is printed, what is written, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from manikin.release.policy import SHIPPED, load_policy
from manikin.release.record import read_record

Run = Callable[..., Result]
QUICK = ("--synthesizer", "table/marginals", "--profile", "quick")
PASSED = "{name: Near, metric: fidelity/shapes, end: value, at_least: 0, source: test}"
FAILED = "{name: Perfect, metric: fidelity/shapes, end: value, at_least: 2, source: test}"
ABSENT = "{name: Absent, metric: privacy/nothing, at_most: 1, source: test}"


def policy(tmp_path: Path, *gates: str) -> Path:
    path = tmp_path / "ours.yaml"
    path.write_text("title: Ours\ngates:\n" + "".join(f"  - {gate}\n" for gate in gates))
    return path


@pytest.mark.parametrize(
    ("gates", "code", "said"),
    [
        ((PASSED,), 0, "not the decision"),
        ((PASSED, FAILED, ABSENT), 9, "may not leave the house"),
        ((PASSED, ABSENT), 10, "may not leave yet"),
    ],
)
def test_the_exit_code_is_the_policys(
    gates: tuple[str, ...], code: int, said: str, manikin: Run, data: Path, tmp_path: Path
) -> None:
    path = policy(tmp_path, *gates)
    result = manikin("synthesize", data, *QUICK, "--policy", path, "--out", "out")
    assert result.exit_code == code, result.stdout + result.stderr
    told = " ".join(result.stdout.split())
    assert said in told.partition("Policy ours:")[2]  # after all else
    assert ("all the same" in told) == (code != 0)
    assert (tmp_path / "out" / "data.csv").is_file()  # written whatever was ruled
    assert manikin("verify", "out").exit_code == 0
    (ruled,) = [e for e in read_record(tmp_path / "out" / "record.jsonl") if e.event == "ruled"]
    assert ruled.content["exit_code"] == code and len(ruled.content["gates"]) == len(gates)


def test_json_and_quiet_carry_it(manikin: Run, data: Path, tmp_path: Path) -> None:
    path = policy(tmp_path, PASSED, FAILED)
    words = ("synthesize", data, *QUICK, "--policy", path, "--out", "out", "--overwrite")
    result = manikin(*words, "--json")
    found = json.loads(result.stdout)["policy"]
    assert result.exit_code == found["exit_code"] == 9 and result.stderr == ""
    assert [gate["outcome"] for gate in found["gates"]] == ["pass", "fail"]
    assert found["gates"][1]["at_least"] == 2 and 0 < found["gates"][1]["value"] < 1
    quiet = manikin(*words, "--quiet")
    assert quiet.exit_code == 9 and quiet.stdout == ""
    assert "policy ours: It may not leave" in quiet.stderr


def test_without_a_policy_nothing_is_ruled(manikin: Run, data: Path) -> None:
    result = manikin("synthesize", data, *QUICK, "--out", "out", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["policy"] is None


def test_a_comparison_ends_well_when_one_passes(manikin: Run, data: Path, tmp_path: Path) -> None:
    both = ("--synthesizer", "table/marginals", "--synthesizer", "table/copula")
    words = ("compare", data, *both, "--profile", "quick", "--overwrite")
    apart = "{name: Pairs, metric: fidelity/shapes, end: value, at_least: %s, source: test}"
    for least, code in ((0, 0), (2, 9)):
        path = policy(tmp_path, apart % least)
        result = manikin(*words, "--policy", path, "--json")
        assert result.exit_code == code, result.stderr
        ruled = [one["policy"]["outcome"] for one in json.loads(result.stdout)["synthesizers"]]
        assert ruled == (["pass"] * 2 if code == 0 else ["fail"] * 2)
    shown = manikin(*words, "--policy", path)
    assert shown.exit_code == 9 and shown.stdout.count("may not leave the house") == 2
    page = (tmp_path / "manikin-comparison" / "comparison.html").read_text()
    assert "Fail, 0 of 1 gates passed" in page


@pytest.mark.parametrize("given", ["publick", "broken.yaml"])
def test_a_policy_that_is_none_is_said_before_the_data_are_read(
    given: str, manikin: Run, tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("gates: [{name: x, metric: y, at_most: ten, source: z}]")
    (tmp_path / "not-a-table.csv").write_bytes(b"\x00")
    result = manikin("synthesize", "not-a-table.csv", "--policy", given, "--out", "out")
    assert result.exit_code == 3
    assert (
        "there is no policy" if given == "publick" else "'at_most' of gate 'x'"
    ) in result.stderr
    assert not (tmp_path / "out").exists()


def test_policies_are_on_a_shelf(manikin: Run) -> None:
    shown = manikin("list", "policies").stdout
    assert all(name in shown for name in SHIPPED) and "fidelity/shapes" not in shown
    card = " ".join(manikin("list", "public").stdout.split())
    for gate in load_policy("public").gates:
        assert gate.name in card and f"at most {gate.threshold:g}" in card
    assert json.loads(manikin("list", "internal", "--json").stdout)["kind"] == "policy"


def test_the_page_of_policies_holds_the_shipped_thresholds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text("utf-8")
    gates = [load_policy(name).gates for name in SHIPPED]
    for three in zip(*gates, strict=True):
        row = next(line for line in page.splitlines() if line.startswith(f"| {three[0].name} |"))
        cells = [cell.strip() for cell in row.split("|")]
        assert [float(cell) for cell in cells[3:6]] == [gate.threshold for gate in three]
        assert cells[2].startswith(f"`{three[0].metric}`")
        assert ("the number" if three[0].end == "value" else three[0].end) in cells[2]
