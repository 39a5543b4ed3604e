"""Frames at the doors: pandas, polars or Arrow in, polars out, without a guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from manikin.errors import InputError, SchemaError

if TYPE_CHECKING:
    import narwhals
    import polars

__all__ = ["check_columns", "to_polars"]


def to_polars(source: Any) -> polars.DataFrame:
    """Return a pandas, polars or Arrow frame as a polars one.

    Columns of mixed objects, as pandas allows them, become text. Raises InputError for anything
    else, for a name that stands twice and for values that no table has.
    """
    import narwhals as nw
    import polars as pl

    if isinstance(source, pl.DataFrame):
        frame = source
    else:
        try:
            frame = _converted(nw.from_native(source, eager_only=True))
        except TypeError as error:
            raise InputError(
                f"a {type(source).__name__} was given",
                "the path of a file, or a pandas, polars or Arrow frame",
                "give one of these",
            ) from error
        except ValueError as error:  # pandas allows a name twice
            raise _unfit("a name twice") from error
    if frame.width == 0:
        raise InputError("a frame without columns was given", "a table", "check the frame")
    return frame


def _converted(given: narwhals.DataFrame[Any]) -> polars.DataFrame:
    import narwhals as nw
    import polars as pl

    if len(set(given.columns)) != len(given.columns):
        raise _unfit("a name twice")
    try:
        frame = given.to_polars()
    except Exception:  # what Arrow raises here has no common ancestor
        columns = []
        for name in given.columns:
            cells, blank = given[name].to_list(), given[name].is_null().to_list()
            text = [None if no else str(cell) for cell, no in zip(cells, blank, strict=True)]
            mixed = given[name].dtype == nw.Object
            columns.append(pl.Series(str(name), text) if mixed else _column(given, name))
        frame = pl.DataFrame(columns)
    plain = (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null)
    for series in frame:
        dtype = series.dtype
        if dtype.is_nested() or not (dtype in plain or dtype.is_numeric() or dtype.is_temporal()):
            raise _unfit(f"{dtype} values in column '{series.name}'")
    return frame


def _column(given: narwhals.DataFrame[Any], name: str) -> polars.Series:
    try:
        return given[name].to_polars()
    except Exception as error:
        raise _unfit(f"values in column '{name}' that no table format has") from error


def _unfit(what: str) -> InputError:
    return InputError(
        f"a frame was given that has {what}",
        "columns of numbers, texts, dates, times or true and false, each with its own name",
        "rename, convert or leave out those columns",
    )


def check_columns(what: str, first: str, columns: Sequence[str], like: Sequence[str]) -> None:
    """Raise SchemaError for a table (`what`) that has other columns than the `first` one.

    Names that nearly agree are paired.
    """
    lacking = sorted(set(like) - set(columns))
    more = sorted(set(columns) - set(like))
    if not lacking and not more:
        return
    said = [
        f"{verb} {', '.join(repr(column) for column in names[:5])}"
        + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        for verb, names in (("lacks", lacking), ("has besides", more))
        if names
    ]
    alike = {_plain(column): column for column in lacking}
    pairs = [f"{c!r} to {alike[_plain(c)]!r}" for c in more if _plain(c) in alike]
    todo = [f"rename {', '.join(pairs[:5])}"] if pairs else []
    if len(more) > len(pairs):
        todo.append(f"drop from the {what} what the {first} does not have")
    if len(lacking) > len(pairs):
        todo.append(f"drop from the {first} what the {what} does not have")
    raise SchemaError(
        f"the {what} is not like the {first}: it {' and '.join(said)}",
        "the same columns in every table, in any order",
        "; ".join(todo),
    )


def _plain(column: str) -> str:
    return "".join(letter for letter in column.casefold() if letter.isalnum())
