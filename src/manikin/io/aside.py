"""A folder that is written aside and takes its place whole, or leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from manikin.errors import OutputError

__all__ = ["folder_aside"]


@contextlib.contextmanager
def folder_aside(out: Path) -> Iterator[Path]:
    """Give a private folder to write in, which becomes `out` when the block ends well.

    Raises OutputError where something is there already, or where nothing can be written.
    """
    target = out.expanduser().absolute()
    _check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial",
                                      dir=target.parent))  # fmt: skip
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield aside
        _check_free(target)  # somebody may have written there meanwhile
        for folder, _, names in os.walk(aside):
            os.chmod(folder, 0o700)
            for name in names:
                os.chmod(Path(folder) / name, 0o600)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise


def _check_free(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(
            f"'{target.name}' exists already",
            "a new or an empty folder",
            "choose another destination, or remove what is there",
        )


def _cannot_write(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"'{target.name}' cannot be written: {error.strerror}",
        "a place with room, in which you may write",
        "nothing was left half-written; choose another place",
    )
