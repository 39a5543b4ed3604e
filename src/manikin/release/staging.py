"""Whole or not at all: a release is written aside and takes its place in one rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manikin.errors import OutputError
from manikin.release.seal import MANIFEST

__all__ = ["check_destination", "staged"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_destination(directory: str | Path, *, overwrite: bool = False) -> Path:
    """Return the absolute destination, or raise OutputError if a release may not be put there.

    `overwrite` replaces an earlier release only: a directory without a manifest is somebody's
    own and stays.
    """
    target = Path(directory).expanduser().resolve()
    if not target.exists():
        return target
    if not target.is_dir():
        raise OutputError(
            f"'{target.name}' exists and is a file",
            "the destination is a directory",
            "choose another destination",
        )
    if not any(target.iterdir()):
        return target
    if not overwrite:
        raise OutputError(
            f"the directory '{target.name}' exists and is not empty",
            "a release is written to a new or an empty directory",
            "choose another destination, or ask to overwrite the earlier release",
        )
    if not (target / MANIFEST).is_file():
        raise OutputError(
            f"the directory '{target.name}' holds files but no {MANIFEST}",
            "only an earlier release may be overwritten",
            "choose another destination, or empty this one yourself",
        )
    return target


@contextmanager
def staged(directory: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a private directory to write in, which becomes `directory` when the block ends well.

    When the block raises, Ctrl-C included, nothing remains and an earlier release is as it was.
    Directories get mode 0700 and files 0600. Raises OutputError when the destination is taken or
    cannot be written.
    """
    target = check_destination(directory, overwrite=overwrite)
    made = _make_parents(target.parent)
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=made[0]))
    except OSError as error:
        _remove_parents(made[1:])
        raise _cannot_write(target, error) from error
    try:
        yield aside
        _restrict(aside)
        # somebody may have written there meanwhile
        check_destination(target, overwrite=overwrite)
        _swap(aside, target)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        _remove_parents(made[1:])
        if isinstance(error, OSError) and error.errno in (*_FULL, errno.EACCES, errno.EROFS):
            raise _cannot_write(target, error) from error
        raise


def _make_parents(parent: Path) -> list[Path]:
    """Return `parent` and, outermost last, the directories that had to be made for it."""
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(parent, error) from error
    return [parent, *missing]


def _remove_parents(made: list[Path]) -> None:
    for path in made:
        if not any(path.iterdir()):
            path.rmdir()


def _restrict(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        os.chmod(folder, 0o700)
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o600)
                with path.open("rb") as file:
                    os.fsync(file.fileno())  # the rename must not outrun the bytes


def _swap(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    # two renames: there is an instant without a release, but never half of one
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    earlier = retired / "release"
    target.rename(earlier)
    try:
        aside.rename(target)
    except BaseException:
        earlier.rename(target)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _cannot_write(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"'{target.name}' cannot be written: {os.strerror(error.errno or 0).lower()}",
        "the destination has room and may be written by you",
        "choose another destination or make room",
    )
