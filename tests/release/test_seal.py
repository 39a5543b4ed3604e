import os
import shutil
import subprocess
from pathlib import Path

import pytest

from manikin.errors import InputError, IntegrityError, MissingExtra, OutputError
from manikin.release import seal as seal_module
from manikin.release.record import Record, file_digest
from manikin.release.seal import MANIFEST, keygen, seal, verify


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    (root / "model").mkdir(parents=True)
    (root / "synthetic data.csv").write_text("a,b\n1,2\n")
    (root / "model" / "größe.json").write_text("{}")
    record = Record(root / "record.jsonl")
    record.add("started")
    record.add("fit", {"seed": 1})
    outputs = ("synthetic data.csv", "model/größe.json")
    record.close({name: file_digest(root / name) for name in outputs})
    seal(root)
    return root


def test_an_untouched_release_verifies(release: Path) -> None:
    found = verify(release)
    assert found.ok and found.problems == () and found.n_files == 3
    assert found.signature == "none"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_reads_the_manifest(release: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", MANIFEST], cwd=release, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("OK") == 3


def test_names_exactly_what_was_altered(release: Path) -> None:
    (release / "synthetic data.csv").write_text("a,b\n1,3\n")
    (release / "model" / "größe.json").unlink()
    (release / "extra.txt").write_text("x")
    found = verify(release)
    assert found.altered == ("synthetic data.csv",)
    assert found.missing == ("model/größe.json",)
    assert found.added == ("extra.txt",)
    assert any("'synthetic data.csv' is not the file that was recorded" in p for p in found.record)
    assert not found.ok


def test_a_swap_of_two_files_names_both(release: Path) -> None:
    (release / "b.csv").write_text("other")
    seal(release)
    one, other = release / "b.csv", release / "synthetic data.csv"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert verify(release).altered == ("b.csv", "synthetic data.csv")


def test_resealing_after_tampering_is_still_caught_by_the_record(release: Path) -> None:
    (release / "synthetic data.csv").write_text("a,b\n9,9\n")
    seal(release)
    found = verify(release)
    assert found.altered == () and not found.ok
    assert found.record == ("'synthetic data.csv' is not the file that was recorded",)


def test_a_deleted_record_line_is_named(release: Path) -> None:
    lines = (release / "record.jsonl").read_bytes().splitlines(keepends=True)
    (release / "record.jsonl").write_bytes(lines[0] + lines[2])
    found = verify(release)
    assert found.altered == ("record.jsonl",)
    assert any(problem.startswith("line 2") for problem in found.record)


@pytest.mark.parametrize(
    "line",
    ["", "zz  a", "0" * 64 + "  ../secret", "0" * 64 + "  /etc/passwd", "0" * 64 + "  a\\nb",
     "0" * 64 + " a", "0" * 64 + "  synthetic data.csv", "0" * 64 + "  " + MANIFEST],
)  # fmt: skip
def test_a_manifest_with_bad_lines_is_named(release: Path, line: str) -> None:
    with (release / MANIFEST).open("a") as file:
        file.write(line + "\n")
    assert verify(release).manifest[0].startswith("line 4")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\x00" * 100])
def test_a_broken_manifest_is_no_crash(release: Path, content: bytes) -> None:
    (release / MANIFEST).write_bytes(content)
    assert not verify(release).ok
    (release / MANIFEST).unlink()
    assert "never sealed" in verify(release).manifest[0]


def test_links_and_special_files_are_never_followed(release: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    (release / "link").symlink_to(outside)
    os.mkfifo(release / "pipe")
    found = verify(release)
    assert found.added == ("link", "pipe")
    with pytest.raises(OutputError, match="link"):
        seal(release)
    (release / "synthetic data.csv").unlink()
    (release / "synthetic data.csv").symlink_to(outside)
    assert "synthetic data.csv" in verify(release).added


def test_an_unreadable_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        verify(tmp_path / "nowhere")


class TestSignature:
    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
        keygen(tmp_path / "key.pem")
        return tmp_path / "key.pem"

    def test_round_trip(self, release: Path, key: Path) -> None:
        name = seal(release, signing_key=key)
        assert key.stat().st_mode & 0o777 == 0o600
        found = verify(release, public_key=key.with_name("key.pem.pub"))
        assert found.ok and found.signature == "valid" and found.signer == name

    def test_another_key_is_named_wrong(self, release: Path, key: Path, tmp_path: Path) -> None:
        seal(release, signing_key=key)
        other = keygen(tmp_path / "other.pem")
        found = verify(release, public_key=tmp_path / "other.pem.pub")
        assert found.signature == "wrong key" and not found.ok
        assert other in found.signature_note

    def test_a_resealed_directory_no_longer_fits(self, release: Path, key: Path) -> None:
        seal(release, signing_key=key)
        manifest = (release / MANIFEST).read_text()
        (release / MANIFEST).write_text(manifest.replace(manifest[:4], "0000"))
        assert verify(release).signature == "invalid"

    def test_a_removed_signature_is_missed(self, release: Path, key: Path) -> None:
        seal(release, signing_key=key)
        (release / "MANIFEST.sha256.sig").unlink()
        assert verify(release).signature == "invalid"
        (release / "MANIFEST.sha256.pub").unlink()
        assert verify(release).ok
        assert not verify(release, public_key=key.with_name("key.pem.pub")).ok

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
    def test_openssl_agrees(self, release: Path, key: Path) -> None:
        seal(release, signing_key=key)
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "MANIFEST.sha256.pub", "-rawin",
             "-in", MANIFEST, "-sigfile", "MANIFEST.sha256.sig"],
            cwd=release, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_a_key_is_never_overwritten_and_nonsense_is_no_key(
        self, release: Path, key: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError):
            keygen(key)
        (tmp_path / "bad.pem").write_text("nonsense")
        with pytest.raises(InputError):
            seal(release, signing_key=tmp_path / "bad.pem")
        seal(release, signing_key=key)
        assert verify(release, public_key=tmp_path / "bad.pem").signature == "not checked"
        with pytest.raises(InputError, match="there is no file"):
            verify(release, public_key=tmp_path / "absent.pub")

    def test_without_the_extra(
        self, release: Path, key: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seal(release, signing_key=key)

        def absent() -> None:
            raise MissingExtra("signing", "sign")

        monkeypatch.setattr(seal_module, "_cryptography", absent)
        with pytest.raises(MissingExtra, match=r"manikin\[sign\]"):
            seal(release, signing_key=key)
        assert verify(release).signature == "not checked"
