"""Every public claim stands where the register says, and what is to stand behind it exists."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATUSES = ("held", "measured", "not reached")
MARK = re.compile(r"<!-- (C\d+) -->")


@dataclass(frozen=True)
class Claim:
    id: str
    said: str
    place: str
    evidence: tuple[str, ...]
    status: str


def register(text: str) -> list[Claim]:
    found = []
    for line in text.splitlines():
        if re.match(r"\| C\d+ \|", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            evidence = tuple(re.findall(r"`([^`]+)`", cells[3]))
            found.append(Claim(cells[0], cells[1], cells[2], evidence, cells[4]))
    return found


def plain(text: str) -> str:
    """One line without marks of claims, so that a claim may be broken over lines."""
    return " ".join(MARK.sub("", text).split())


@cache
def named_tests(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            }
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return frozenset(found)


@cache
def benchmark_rows() -> dict[str, str]:
    """The rows of the tables of targets: what is measured → whether the target is met."""
    rows = {}
    for line in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" `*") for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells[-1] in ("yes", "no"):
            rows[cells[0]] = cells[-1]
    return rows


def faults(claim: Claim) -> list[str]:
    """What is wrong with a claim; nothing, when it stands."""
    found = []
    place = ROOT / claim.place
    if not place.is_file():
        return [f"there is no {claim.place}"]
    if plain(claim.said) not in plain(place.read_text(encoding="utf-8")):
        found.append(f"does not stand in {claim.place}")
    if claim.status not in STATUSES:
        found.append(f"has the status '{claim.status}'")
    if not claim.evidence:
        found.append("has no evidence")
    for evidence in claim.evidence:
        path, _, name = evidence.partition("::")
        if evidence.startswith("docs/benchmarks.md: "):
            met = benchmark_rows().get(evidence.removeprefix("docs/benchmarks.md: "))
            wanted = "no" if claim.status == "not reached" else "yes"
            if met is None:
                found.append(f"there is no row: {evidence}")
            elif met != wanted:
                found.append(f"says {claim.status}, but the row says {met}: {evidence}")
        elif not (ROOT / path).is_file():
            found.append(f"there is no file {path}")
        elif not name.rpartition("::")[2].startswith("test_") or name not in named_tests(
            ROOT / path
        ):
            found.append(f"there is no test {evidence}")
    if claim.status != "held" and not any(": " in evidence for evidence in claim.evidence):
        found.append("is measured by no row")
    return found


CLAIMS = register((ROOT / "docs" / "claims.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_stands_where_it_is_said_to_and_has_its_evidence(claim: Claim) -> None:
    assert faults(claim) == []


def test_numbers_are_used_once() -> None:
    assert len(CLAIMS) > 30
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


def test_every_number_in_the_readme_follows_its_claim_and_no_claim_lacks_it() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    by_id = {claim.id: claim for claim in CLAIMS if claim.place == "README.md"}
    assert sorted(MARK.findall(text)) == sorted(by_id)
    for found in MARK.finditer(text):
        before = plain(text[: found.start()])
        assert before.endswith(plain(by_id[found[1]].said)), found[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Claim("C1", "It cures patients.", "README.md", ("tests/x.py::test_y",), "held"), "stand"),
        (Claim("C1", "Manikin", "README.md", ("tests/nothing.py::test_y",), "held"), "no file"),
        (Claim("C1", "Manikin", "README.md", ("tests/test_docs.py::test_y",), "held"), "no test"),
        (Claim("C1", "Manikin", "README.md", ("tests/test_docs.py::blocks",), "held"), "no test"),
        (Claim("C1", "Manikin", "README.md", (), "held"), "no evidence"),
        (Claim("C1", "Manikin", "gone.md", ("tests/test_docs.py::blocks",), "held"), "no gone"),
        (Claim("C1", "Manikin", "README.md", ("docs/benchmarks.md: x",), "measured"), "no row"),
        (Claim("C1", "Manikin", "README.md", (), "proven"), "status"),
    ],
)  # fmt: skip
def test_a_claim_that_does_not_stand_is_found_out(changed: Claim, said: str) -> None:
    assert any(said in fault for fault in faults(changed))


def test_a_status_that_its_row_denies_is_found_out() -> None:
    missed = next(row for row, met in benchmark_rows().items() if met == "no")
    reached = next(row for row, met in benchmark_rows().items() if met == "yes")
    for row, status in ((missed, "measured"), (reached, "not reached")):
        claim = Claim("C1", "Manikin", "README.md", (f"docs/benchmarks.md: {row}",), status)
        assert any("but the row says" in fault for fault in faults(claim))
