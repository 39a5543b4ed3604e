"""Every way to tamper with every file of a real, signed release, and what `verify` names for it."""

import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from manikin import pipeline
from manikin.release.record import read_record
from manikin.release.seal import MANIFEST, PUBLIC_KEY, SIGNATURE, keygen, seal, verify

FILES = ("DATASET_CARD.md", "MODEL_CARD.md", "README.md", "croissant.json", "data.csv",
         "evidence.html", "prov.json", "report.html", "report.json",
         "ro-crate-metadata.json")  # fmt: skip
RECORD = "record.jsonl"
SEALS = (MANIFEST, SIGNATURE, PUBLIC_KEY)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed release, the key that signed it, and another key."""
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.integers(20, 90)},{'FM'[i % 2]},{'no yes'.split()[i % 3 == 0]}" for i in range(80)
    ]
    (folder / "clinic.csv").write_text("age,sex,died\n" + "\n".join(rows) + "\n")
    keygen(folder / "hospital.key")
    keygen(folder / "stranger.key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        pipeline.synthesize(
            folder / "clinic.csv", out=folder / "sealed", synthesizer="table/marginals",
            sign=folder / "hospital.key", seed=1,
        )  # fmt: skip
    return folder


@pytest.fixture
def release(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "sealed", tmp_path / "release"))


def key(home: Path, name: str = "hospital") -> Path:
    return home / f"{name}.key.pub"


def flips(path: Path) -> Iterator[int]:
    """Put each of several copies with one bit flipped in the file's place; then the original."""
    original = path.read_bytes()
    for position in sorted({0, 1, len(original) // 3, len(original) // 2, len(original) - 2}):
        changed = bytearray(original)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        yield position
    path.write_bytes(original)


def test_the_table_is_over_every_file_there_is(release: Path, home: Path) -> None:
    assert {path.name for path in release.iterdir()} == {*FILES, RECORD, *SEALS}
    found = verify(release, public_key=key(home))
    assert found.ok and found.signature == "valid" and found.n_files == len(FILES) + 1


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_names_the_file_and_nothing_else(
    release: Path, home: Path, name: str
) -> None:
    for position in flips(release / name):
        assert verify(release, public_key=key(home)).problems == (
            f"altered: {name}",
            f"{RECORD}: '{name}' is not the file that was recorded",
        ), position
    assert verify(release).ok


def test_a_flipped_byte_of_the_record_names_its_line(release: Path) -> None:
    original = (release / RECORD).read_bytes()
    for position in flips(release / RECORD):
        line = original[:position].count(b"\n") + 1
        found = verify(release)
        assert found.altered == (RECORD,) and found.problems[0] == f"altered: {RECORD}"
        assert found.missing == found.added == found.manifest == ()
        assert found.record[0].startswith(f"line {line} "), (position, found.record)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, PUBLIC_KEY])
def test_a_flipped_byte_of_the_seal_names_the_seal_and_no_file(
    release: Path, home: Path, name: str
) -> None:
    for position in flips(release / name):
        found = verify(release, public_key=key(home))
        assert not found.ok, position
        assert found.altered == found.missing == found.added == found.record == ()
        assert found.signature in ("invalid", "wrong key")
        assert bool(found.manifest) == (name == MANIFEST), position


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    assert verify(release).problems == (
        f"missing: {name}", f"{RECORD}: '{name}' was recorded but is not here"
    )  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(combinations(FILES, 2)))
def test_a_swapped_pair_is_named_as_such(release: Path, one: str, other: str) -> None:
    first, second = (release / one).read_bytes(), (release / other).read_bytes()
    (release / one).write_bytes(second)
    (release / other).write_bytes(first)
    found = verify(release)
    assert found.swapped == ((one, other),)
    assert found.problems[0] == f"swapped: {one} and {other}"
    assert not any(problem.startswith("altered") for problem in found.problems)
    assert set(found.record) == {
        f"'{name}' is not the file that was recorded" for name in (one, other)
    }


def test_files_moved_round_in_a_ring_are_altered_each(release: Path) -> None:
    names = FILES[:3]
    contents = [(release / name).read_bytes() for name in names]
    for name, content in zip(names, [*contents[1:], contents[0]], strict=True):
        (release / name).write_bytes(content)
    found = verify(release)
    assert found.swapped == () and found.altered == names


def test_an_added_file_is_named(release: Path) -> None:
    (release / "notes.txt").write_text("hello")
    (release / "inner").mkdir()
    (release / "inner" / "data.csv").write_text("a\n")
    assert verify(release).problems == ("added: inner/data.csv", "added: notes.txt")


def test_a_wrong_key_is_named_with_both_fingerprints(release: Path, home: Path) -> None:
    (problem,) = verify(release, public_key=key(home, "stranger")).problems
    assert problem.startswith("signature wrong key: signed by SHA256:")
    assert problem.count("SHA256:") == 2


def test_a_forger_who_seals_anew_is_named_by_record_and_key(release: Path, home: Path) -> None:
    (release / "data.csv").write_text("age,sex,died\n50,F,no\n")
    seal(release, signing_key=home / "stranger.key")
    found = verify(release, public_key=key(home))
    assert found.record == ("'data.csv' is not the file that was recorded",)
    assert found.signature == "wrong key"


# ---------------------------------------------------------------------------- the record
def test_every_deleted_line_of_the_record_is_named(release: Path) -> None:
    path = release / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    events = [entry.event for entry in read_record(path)]
    assert len(lines) >= 6
    for gone in range(1, len(lines)):  # counted from 1; the last is cut off, below
        path.write_bytes(b"".join(lines[: gone - 1] + lines[gone:]))
        assert verify(release).record == (
            f"line {gone} went missing: line {gone} ({events[gone]}) was line {gone + 1}",
        )


def test_a_run_of_deleted_lines_is_named(release: Path) -> None:
    path = release / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[4:]]))
    (problem,) = verify(release).record
    assert problem.startswith("lines 2 to 4 went missing: line 2 (")


def test_a_truncated_record_is_named(release: Path) -> None:
    path = release / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:kept]))
        assert verify(release).record == (
            f"ends at line {kept} without its closing entry: lines are missing",
        )
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        assert f"line {kept + 1} is not JSON" in verify(release).record
    path.write_bytes(b"")
    assert not verify(release).ok


def test_two_lines_that_changed_places_are_named(release: Path) -> None:
    path = release / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    path.write_bytes(b"".join(lines))
    found = verify(release).record
    assert found[0].startswith("line 3 went missing: line 3 (") and "was line 4" in found[0]
    assert "line 4 (" in found[1] and "was line 3: it was moved or repeated" in found[1]


# ---------------------------------------------------------------------------- the manifest
@pytest.mark.parametrize("name", FILES)
def test_an_edited_manifest_is_named_and_the_file_is_not_blamed(release: Path, name: str) -> None:
    path = release / MANIFEST
    lines = path.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.rstrip().endswith(f"  {name}"))
    path.write_text("".join([*lines[:at], f"{'0' * 64}  {name}\n", *lines[at + 1 :]]))
    unsigned = [p for p in verify(release).problems if not p.startswith("signature")]
    assert unsigned == [f"{MANIFEST}: the digest of '{name}' was edited"]
    path.write_text("".join(lines[:at] + lines[at + 1 :]))
    unsigned = [p for p in verify(release).problems if not p.startswith("signature")]
    assert unsigned == [f"{MANIFEST}: the line of '{name}' was removed"]


def test_lines_added_to_the_manifest_are_named(release: Path) -> None:
    with (release / MANIFEST).open("a") as file:
        file.write(f"{'0' * 64}  ghost.csv\n")
    found = verify(release)
    assert found.manifest == ("a line of 'ghost.csv', which the run never made, was added",)
    assert found.missing == ()


def test_a_file_smuggled_in_with_its_line_is_named(release: Path) -> None:
    (release / "extra.csv").write_text("a\n")
    seal(release)
    assert verify(release).problems == (
        f"{RECORD}: 'extra.csv' is in the manifest but was never recorded",
    )


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_with_its_line_changed_to_fit_is_still_named(
    release: Path, name: str
) -> None:
    with (release / name).open("ab") as file:
        file.write(b" ")
    seal(release)
    assert verify(release).problems == (f"{RECORD}: '{name}' is not the file that was recorded",)


def test_a_renamed_file_is_missing_and_added(release: Path) -> None:
    (release / "data.csv").rename(release / "patients.csv")
    found = verify(release)
    assert found.missing == ("data.csv",) and found.added == ("patients.csv",)
