import stat
from pathlib import Path

import pytest

from manikin.errors import OutputError
from manikin.release.staging import staged


def release(directory: Path, text: str = "first") -> None:
    with staged(directory, overwrite=directory.exists()) as aside:
        (aside / "data.csv").write_text(text)
        (aside / "MANIFEST.sha256").write_text("")


def test_nothing_is_there_until_the_end_and_then_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with staged(target) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "a.txt").write_text("a")
        assert not target.exists()
        assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    assert (target / "sub" / "a.txt").read_text() == "a"
    assert stat.S_IMODE((target / "sub" / "a.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o700
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_run_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), staged(tmp_path / "new" / "out") as aside:
        (aside / "a.txt").write_text("a")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_broken_overwrite_leaves_the_earlier_release(tmp_path: Path) -> None:
    target = tmp_path / "out"
    release(target)
    with pytest.raises(ValueError), staged(target, overwrite=True):
        raise ValueError
    assert (target / "data.csv").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failing_swap_puts_the_earlier_release_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    release(target)
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(13, "no")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError), staged(target, overwrite=True) as aside:
        (aside / "data.csv").write_text("second")
    assert (target / "data.csv").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_overwrite_replaces_a_release_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    release(target)
    (target / "stale.txt").write_text("stale")
    release(target, "second")
    assert sorted(path.name for path in target.iterdir()) == ["MANIFEST.sha256", "data.csv"]
    assert (target / "data.csv").read_text() == "second"
    assert len(list(tmp_path.iterdir())) == 1


def test_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    release(tmp_path / "out")
    with pytest.raises(OutputError, match="not empty"), staged(tmp_path / "out"):
        pass
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter.tex").write_text("years of work")
    with pytest.raises(OutputError, match="earlier release"), staged(own, overwrite=True):
        pass
    assert (own / "chapter.tex").read_text() == "years of work"
    with pytest.raises(OutputError, match="is a file"), staged(own / "chapter.tex"):
        pass


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out") as aside:
        (aside / "a").write_text("a")
    assert (tmp_path / "out" / "a").exists()
