"""Every public claim stands where the register says, and what is to stand behind it exists.

`python tests/test_claims.py` brings figures and statuses of the register up to docs/benchmarks.md
after new benchmarks; what it changes is then for a person to read again.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATUSES = ("held", "measured", "not reached")
ROWS = "docs/benchmarks.md: "
TODO = "; after new benchmarks run: python tests/test_claims.py"
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


@dataclass(frozen=True)
class Row:
    """A row of a table of targets: the figure that was reached, and whether that is enough."""

    figure: str
    met: str

    @property
    def status(self) -> str:
        return "measured" if self.met == "yes" else "not reached"


@cache
def benchmark_rows() -> dict[str, Row]:
    """The rows of the tables of targets by what is measured."""
    rows = {}
    for line in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" `*") for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells[-1] in ("yes", "no"):
            rows[cells[0]] = Row(figure(cells[-2]), cells[-1])
    return rows


def figure(reached: str) -> str:
    """What a cell gives as reached, without what it says besides: '0.026 (heart)' is '0.026'."""
    return re.split(r" \(|; ", reached)[0].strip()


def read_row(evidence: str) -> tuple[str, str]:
    """A row and the figure that a claim rests on."""
    name, _, said = evidence.removeprefix(ROWS).partition(" = ")
    return name, said


def _faults_of_row(claim: Claim, evidence: str) -> Iterator[str]:
    name, said = read_row(evidence)
    row = benchmark_rows().get(name)
    if row is None:
        yield f"there is no row: {name}"
        return
    if row.status != claim.status:
        yield f"is {claim.status}, but the row says met: {row.met}: {name}{TODO}"
    if said != row.figure:
        yield f"says {said or 'no figure'}, but the row says {row.figure}: {name}{TODO}"


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
        if evidence.startswith(ROWS):
            found += _faults_of_row(claim, evidence)
        elif not (ROOT / path).is_file():
            found.append(f"there is no file {path}")
        elif not name.rpartition("::")[2].startswith("test_") or name not in named_tests(
            ROOT / path
        ):
            found.append(f"there is no test {evidence}")
    if claim.status != "held" and not any(": " in evidence for evidence in claim.evidence):
        found.append("is measured by no row")
    return found


REGISTER = ROOT / "docs" / "claims.md"
CLAIMS = register(REGISTER.read_text(encoding="utf-8"))


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


def test_a_status_or_figure_that_its_row_denies_is_found_out() -> None:
    for name, row in benchmark_rows().items():
        other = "measured" if row.status == "not reached" else "not reached"
        right = (f"{ROWS}{name} = {row.figure}",)
        assert faults(Claim("C1", "Manikin", "README.md", right, row.status)) == []
        (fault,) = faults(Claim("C1", "Manikin", "README.md", right, other))
        assert "but the row says met" in fault
        wrong = (f"{ROWS}{name} = {row.figure}1",)
        (fault,) = faults(Claim("C1", "Manikin", "README.md", wrong, row.status))
        assert f"but the row says {row.figure}" in fault


@pytest.mark.parametrize(
    ("reached", "told"),
    [("0.026 (diabetes130)", "0.026"), ("0.564 (heart; there 0.519); mean 0.549", "0.564"),
     ("5.6 s", "5.6 s"), ("below on 0 of 9", "below on 0 of 9"), ("+4 MB", "+4 MB")],
)  # fmt: skip
def test_a_figure_is_read_from_its_cell(reached: str, told: str) -> None:
    assert figure(reached) == told


def test_the_register_is_as_fresh_as_the_benchmarks() -> None:
    text = REGISTER.read_text(encoding="utf-8")
    assert refreshed(text) == text, TODO
    stale = re.sub(r" = 0\.\d+`", " = 0.123`", text).replace("| not reached |", "| measured |")
    assert stale != text and refreshed(stale) == text


# ---------------------------------------------------------------------------- after new benchmarks
def refreshed(text: str) -> str:
    """The register with the figures and statuses that docs/benchmarks.md has now."""
    lines = []
    for line in text.splitlines(keepends=True):
        for evidence in re.findall(r"`([^`]+)`", line) if re.match(r"\| C\d+ \|", line) else ():
            row = benchmark_rows().get(read_row(evidence)[0]) if evidence.startswith(ROWS) else None
            if row is not None:
                line = line.replace(evidence, f"{ROWS}{read_row(evidence)[0]} = {row.figure}")
                line = re.sub(r"\| [a-z ]+ \|$", f"| {row.status} |", line.rstrip("\n")) + "\n"
        lines.append(line)
    return "".join(lines)


if __name__ == "__main__":
    REGISTER.write_text(refreshed(REGISTER.read_text(encoding="utf-8")), encoding="utf-8")
