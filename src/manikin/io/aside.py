"""A folder that is written aside and takes its place whole, or leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from manikin.errors import OutputError

__all__ = ["folder_aside"]


@contextlib.contextmanager
def folder_aside(out: Path, *, earlier: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Give a private folder to write in, which becomes `out` when the block ends well.

    What `earlier` says to be one's own earlier work is replaced. Raises OutputError where anything
    else is there already, or where nothing can be written.
    """
    target = out.expanduser().absolute()
    _check_free(target, earlier)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial",
                                      dir=target.parent))  # fmt: skip
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield aside
        _check_free(target, earlier)  # somebody may have written there meanwhile
        for folder, _, names in os.walk(aside):
            os.chmod(folder, 0o700)
            for name in names:
                os.chmod(Path(folder) / name, 0o600)
        if target.exists() and any(target.iterdir()):
            _exchange(aside, target)
        else:
            aside.replace(target)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise


def _exchange(aside: Path, target: Path) -> None:
    """Put a folder in the place of an earlier one, which stays until the new one is there."""
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(retired / "earlier")
    try:
        aside.rename(target)
    except BaseException:
        (retired / "earlier").rename(target)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _check_free(target: Path, earlier: Callable[[Path], bool] | None) -> None:
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (earlier is not None and earlier(target)):
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
