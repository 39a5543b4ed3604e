"""Adding up what releases of the same rows cost."""

import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import manikin as mk
from manikin.cli.app import app
from manikin.errors import InputError, PrivacyError
from manikin.privacy.accountant import spent
from manikin.privacy.ledger import Gaussian, NonPrivate, Release, to_json
from manikin.release.record import Record

pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")


def release(folder: Path, run: str, source: str, *releases: Release) -> Path:
    """Write the record of a release, and nothing else."""
    folder.mkdir(parents=True)
    record = Record(folder / "record.jsonl")
    record.add("started", {"run": run})
    record.add("source", {"data": f"hmac-sha256:{source}", "key": "k"})
    record.add("fitted", {"synthesizer": "table/mst", "ledger": to_json(releases)})
    record.close({})
    return folder


ONE = Gaussian("counts", 4.0)


def test_releases_of_the_same_rows_add_up(tmp_path: Path) -> None:
    release(tmp_path / "a", "1", "rows", ONE)
    release(tmp_path / "b" / "deep", "2", "rows", ONE)
    release(tmp_path / "c", "3", "other", ONE)
    same, other = sorted(mk.privacy_ledger(tmp_path), key=lambda t: -len(t.entries))
    assert [entry.where for entry in same.entries] == ["a", "b/deep"]
    assert same.epsilon == spent((ONE, ONE), 1e-6).epsilon > other.epsilon
    assert same.entries[0].epsilon == other.epsilon == spent((ONE,), 1e-6).epsilon
    (every,) = mk.privacy_ledger(tmp_path, all_together=True)
    assert every.epsilon == spent((ONE,) * 3, 1e-6).epsilon
    # two Gaussians of σ = 4 are one of σ = 4/√2: dp-accounting's tight ε of it, by hand 1.62
    assert same.epsilon == pytest.approx(spent((Gaussian("c", 4 / math.sqrt(2)),), 1e-6).epsilon,
                                         rel=1e-3)  # fmt: skip


def test_rows_that_may_be_the_same_are_spoken_of(tmp_path: Path) -> None:
    """Another schema gives the same patients another digest: only a person knows."""
    release(tmp_path / "a", "1", "rows", ONE)
    asked = ["privacy", "ledger", str(tmp_path)]
    assert "--all" not in CliRunner().invoke(app, asked).stdout
    release(tmp_path / "b", "2", "other", ONE)
    assert "(--all)" in CliRunner().invoke(app, asked).stdout
    assert "(--all)" not in CliRunner().invoke(app, [*asked, "--all"]).stdout


def test_a_copy_counts_once(tmp_path: Path) -> None:
    first = release(tmp_path / "a", "1", "rows", ONE)
    shutil.copytree(first, tmp_path / "copy")
    release(tmp_path / "a" / "for-release", "1", "rows", ONE)
    (found,) = mk.privacy_ledger(tmp_path)
    assert [entry.where for entry in found.entries] == ["a"]


def test_one_without_a_guarantee_is_named(tmp_path: Path) -> None:
    release(tmp_path / "a", "1", "rows", ONE)
    release(tmp_path / "b", "2", "rows", NonPrivate("frequencies"))
    (found,) = mk.privacy_ledger(tmp_path)
    assert math.isinf(found.epsilon) and [entry.where for entry in found.unpaid] == ["b"]
    assert found.to_json()["epsilon"] is None
    shown = CliRunner().invoke(app, ["privacy", "ledger", str(tmp_path)])
    assert shown.exit_code == 0
    assert "∞" in shown.stdout and "b: no differential privacy" in shown.stdout


def test_an_altered_record_is_no_evidence(tmp_path: Path) -> None:
    folder = release(tmp_path / "a", "1", "rows", ONE)
    text = (folder / "record.jsonl").read_text()
    (folder / "record.jsonl").write_text(text.replace("4.0", "9.0"))
    (found,) = mk.privacy_ledger(tmp_path)
    assert found.unpaid[0].why == "its record was altered" and math.isinf(found.epsilon)


def test_models_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opendp", reason="needs the extra 'dp'")
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    (tmp_path / "a.csv").write_text("a\n" + "0\n1\n" * 20)
    (tmp_path / "s.yaml").write_text(
        'columns:\n  - {name: a, kind: boolean, categories: ["0", "1"]}'
    )
    given = {"schema": tmp_path / "s.yaml", "settings": {"steps": 5}, "synthesizer": "table/mst"}
    for name, epsilon in (("one", 1.0), ("two", 2.0)):
        mk.fit(tmp_path / "a.csv", out=tmp_path / f"{name}.manikin", epsilon=epsilon, **given)
    (found,) = mk.privacy_ledger(tmp_path)
    assert [entry.where for entry in found.entries] == ["one.manikin", "two.manikin"]
    first, second = (entry.epsilon for entry in found.entries)
    assert 0.99 < first < 1 + 1e-6 and 1.99 < second < 2 + 1e-6
    assert second < found.epsilon < first + second
    (tmp_path / "bad.manikin").write_bytes(b"PK")
    assert any(math.isinf(total.epsilon) for total in mk.privacy_ledger(tmp_path))


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no release"):
        mk.privacy_ledger(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        mk.privacy_ledger(tmp_path / "none")
    with pytest.raises(PrivacyError, match="δ"):
        mk.privacy_ledger(tmp_path, delta=0.5)
