"""What a frame's columns are, with reasons a person can read.

Every column is judged by its different cells and how often each occurs. Reasons speak of counts
and shapes, never of a value: a schema may be shown to others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import LEADING_ZERO, NUMBER, as_text, read_numbers, spelling
from manikin.data.dates import Found, find_format, read_dates, without_zeros
from manikin.data.identifiers import find_template
from manikin.data.marks import missing_marks, sentinels, share_of_numbers
from manikin.data.names import is_code, is_key, is_key_ending, is_person, is_scale, is_time
from manikin.data.scales import ordered_labels, truth
from manikin.data.schema import Column, Kind, TableSchema, no_such_column

if TYPE_CHECKING:
    import polars

__all__ = ["infer_schema"]

MOST_LEVELS = 10  # more different whole numbers than this are a measurement, not a scale
RARE = 5  # a level seen less often than this speaks against a scale
ENOUGH = 20  # from so many cells on, "all are different" says something
JUNK_SHARE, MOST_JUNK = 0.05, 20  # so few different texts may stand among numbers
JUNK_ROWS = 0.2  # and in no more than this share of the cells
MOST_CODES = 10_000  # different whole numbers that may be codes
DIGITS = 15  # whole numbers with more are never measurements
FEW = 10  # so few different cells name no person
WORDS = 4.0  # so many words a cell, on average, are free text


@dataclass(frozen=True)
class _Cells:
    """A column's different cells and how often each occurs, missing ones left out."""

    name: str
    text: polars.Series
    counts: NDArray[np.int64]
    rows: int  # of the whole column
    missing: tuple[str, ...]
    dtype: str | None

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def column(self, kind: Kind, reason: str, **fields: Any) -> Column:
        fields = {"missing": self.missing, "dtype": self.dtype, **fields}
        return Column(self.name, kind, reason=f"{kind}: {reason}", **fields)


def infer_schema(
    frame: polars.DataFrame,
    *,
    subject: str | None = None,
    learned: Collection[str | None] = (),
    typed: bool | None = None,
) -> TableSchema:
    """Infer what the columns of a frame of text, or of a typed frame, hold.

    Columns named in `learned` are never set aside as identifiers. `typed` says that texts are
    texts because the source has types; None: judge by the frame.
    Raises SchemaError when `subject` names no column, InputError for nested or binary columns.
    """
    import polars as pl

    if subject is not None and subject not in frame.columns:
        raise no_such_column(subject, frame.columns)
    if typed is None:
        typed = any(kind != pl.String for kind in frame.dtypes) or any(
            series.null_count() for series in frame
        )
    columns = [
        infer_column(
            series,
            is_subject=series.name == subject,
            is_learned=series.name in learned,
            typed=typed,
        )
        for series in frame
    ]
    if subject is not None:
        columns = [
            column
            if column.name in learned
            else _unless_personal(column, frame[column.name], frame[subject])
            for column in columns
        ]
    return TableSchema(tuple(columns))


def _unless_personal(column: Column, cells: polars.Series, subjects: polars.Series) -> Column:
    """Set aside a category column of which nearly every subject has a level of its own.

    Over several rows of a subject its levels repeat, and only the subjects show that they are
    names, numbers or places of people.
    """
    import polars as pl

    if column.kind != "categorical" or len(column.categories) < ENOUGH:
        return column
    held = pl.DataFrame({"level": as_text(cells), "subject": as_text(subjects)}).unique()
    held = held.filter(pl.col("level").is_in(list(column.categories)))
    if held["level"].n_unique() <= 0.9 * held.height:
        return column
    reason = "text: nearly every subject has a text of its own (names, places, remarks); set aside"
    return dataclasses.replace(column, kind="text", categories=(), reason=reason)


def infer_column(
    series: polars.Series,
    *,
    is_subject: bool = False,
    is_learned: bool = False,
    typed: bool = False,
) -> Column:
    """Infer what one column holds."""
    import polars as pl

    dtype = str(series.dtype).partition("(categories")[0] if typed else None
    if series.dtype in (pl.Date, pl.Datetime, pl.Time) and not is_subject:
        return _temporal(series, str(dtype))
    cells = _count(series, dtype)
    if is_subject:
        reason = "the column that says whose row it is; every subject gets a new one"
        template = find_template(cells.text)
        return cells.column("identifier", reason, template=template, roles=("subject",))
    if len(cells.text) == 0:
        return cells.column("categorical", "every cell is missing")
    if series.dtype == pl.Enum:
        categories = tuple(series.dtype.categories)  # type: ignore[attr-defined]
        return cells.column("categorical", "an enumeration in the source", categories=categories)
    if series.dtype == pl.Boolean:
        return cells.column("boolean", "true and false", categories=("false", "true"))
    judges = [_identifier, _dates, _numbers, _codes_or_words]
    for judge in judges[1:] if is_learned else judges:
        if found := judge(cells, series):
            return found
    raise AssertionError("the last judge always answers")


def _count(series: polars.Series, dtype: str | None) -> _Cells:
    """Count a column's different cells and set the marks of "no value" aside."""
    import polars as pl

    table = series.alias("cell").value_counts(name="rows")
    table = pl.DataFrame([as_text(table["cell"].alias(series.name)).alias("cell"), table["rows"]])
    table = table.sort(["rows", "cell"], descending=[True, False])
    text, counts = table["cell"], table["rows"].to_numpy().astype(np.int64)
    plain = missing_marks(text, mostly_values=False)
    kept, kept_counts = text.filter(~plain), counts[~plain]
    values = share_of_numbers(kept, kept_counts) > 1 - JUNK_ROWS
    if not values and len(kept):
        found = _first_format(kept)
        values = found is not None and found.share > 1 - JUNK_ROWS
    gone = missing_marks(text, mostly_values=values)
    if values:
        number = text.str.strip_chars().str.contains(NUMBER).to_numpy() & ~gone
        gone[number] |= sentinels(text.filter(number), counts[number])
    marks = dict.fromkeys(text.filter(gone).to_list())  # a null and '' may both be there
    order = np.flatnonzero(~gone)
    return _Cells(
        series.name, text.gather(order), counts[order], len(series), tuple(marks) or ("",), dtype
    )


def _first_format(text: polars.Series) -> Found | None:
    """Return the format of the first cells; a word that many rows hold counts as one of them."""
    dates = text.head(200).filter(text.head(200).str.contains(r"\d"))
    share = len(dates) / max(len(text.head(200)), 1)
    found = find_format(dates, np.ones(len(dates)))
    return found and dataclasses.replace(found, share=found.share * share)


def _temporal(series: polars.Series, dtype: str) -> Column:
    import polars as pl

    if series.dtype == pl.Date:
        pattern, what = "%Y-%m-%d", "dates"
    elif series.dtype == pl.Time:
        pattern, what = "%H:%M:%S%.f", "times of day"
    else:
        pattern, what = "%Y-%m-%d %H:%M:%S%.f", "moments in time"
    cells = as_text(series.drop_nulls().unique())
    if series.dtype == pl.Datetime and len(cells):
        pattern = without_zeros(cells, pattern)
    reason = f"datetime: {what} in the source"
    return Column(series.name, "datetime", date_format=pattern, dtype=dtype, reason=reason)


def _identifier(cells: _Cells, series: polars.Series) -> Column | None:
    """Recognise keys by their name, their shape, or because they number the rows."""
    text, different, total = cells.text, len(cells.text), cells.total
    whole = text.str.contains(r"^\d+(\.0)?$").all()
    share = different / total
    measured = text.str.contains(r"^[+-]?\d*\.\d*[1-9]\d*$").any()
    if is_key(cells.name) and not measured and (whole or different > 2 * FEW or _keylike(text)):
        shared = "" if different == total else ", and rows share it: perhaps the subject"
        return _key(cells, f"its name says that it is a key{shared}")
    if total >= ENOUGH and share == 1 and total == cells.rows and _counts_rows(cells, series):
        return _key(cells, "it numbers the rows one after the other")
    if is_key_ending(cells.name) and different > FEW and different * RARE > total:
        if whole or _keylike(text):  # seen more often, they would be codes
            return _key(cells, "its name says that it is a key, and few rows share one")
    if total < ENOUGH or share < 0.9:
        return None
    if whole and int(text.str.len_chars().min()) > DIGITS:  # type: ignore[arg-type]
        return _key(cells, "nearly every cell is different and longer than any measurement")
    if text.str.contains("^[^@ ]+@[^@ ]+\\.[^@ ]+$").all():
        return _key(cells, "every cell is an e-mail address")
    if text.str.contains("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$").all():
        return _key(cells, "every cell is a universally unique identifier")
    if is_key_ending(cells.name, numbers=True):
        long = int(text.str.len_chars().min()) >= 5  # type: ignore[arg-type]
        if (whole and long) or (not whole and _keylike(text)):
            return _key(cells, "nearly every cell is different and its name says that it is a key")
    if share > 0.98 and _keylike(text) and _same_shape(text):
        return _key(cells, "nearly every cell is different and all have the same shape")
    return None


def _key(cells: _Cells, why: str) -> Column:
    reason = f"{why}; set aside, new ones are made"
    return cells.column("identifier", reason, template=find_template(cells.text))


def _keylike(text: polars.Series) -> bool:
    """Return whether cells look like keys: letters and digits, no decimals, dates or prose."""
    number = text.str.contains(r"^[+-]?\d*\.\d+$").any()
    word = text.str.contains(r"^[A-Za-z0-9][A-Za-z0-9_./:#-]*$").all()
    digits = text.str.contains(r"\d").all()
    dates = find_format(text.head(50), np.ones(min(len(text), 50)))
    return bool(word and digits and not number and not (dates and dates.share > 0.9))


def _same_shape(text: polars.Series) -> bool:
    shapes = text.str.replace_all("[0-9]", "9").str.replace_all("[A-Z]", "A")
    padded = text.str.contains(r"^0\d{4}").any()  # 00123 is no measurement
    return shapes.n_unique() == 1 and bool(padded or text.str.contains("[A-Za-z]").all())


def _counts_rows(cells: _Cells, series: polars.Series) -> bool:
    if is_time(cells.name):
        return False
    values = read_numbers(as_text(series))
    steps = np.diff(values)
    return bool(values[0] in (0.0, 1.0) and np.all(steps == 1))


def _dates(cells: _Cells, series: polars.Series) -> Column | None:
    text, counts = cells.text, cells.counts
    first = _first_format(text)
    if first is None or first.share < 1 - JUNK_ROWS:
        return None
    dates = text.str.contains(r"\d").to_numpy()
    found = find_format(text.filter(dates), counts[dates])
    if found is None or found.share < 0.9 or counts[~dates].sum() > JUNK_ROWS * cells.total:
        return None
    if found.pattern.startswith("%Y%m%d") and (found.share < 1 or len(text) < 3):
        return None  # eight digits are a date only if all of them are
    read = read_dates(text, found.pattern).is_not_null().to_numpy()
    special = tuple(text.filter(~read).to_list())
    if len(special) > MOST_JUNK or len(special) > max(1, JUNK_SHARE * len(text)):
        return None
    pattern = without_zeros(text.filter(read), found.pattern)
    reason = f"{len(text) - len(special)} different dates written as {pattern}"
    if special:
        reason += f", and {len(special)} different text{'s' * (len(special) != 1)} among them"
    if found.ambiguous:
        reason += "; day and month cannot be told apart and the day is taken to come first"
    return cells.column("datetime", reason, date_format=pattern, special=special)


def _numbers(cells: _Cells, series: polars.Series) -> Column | None:
    """Judge a column of numbers, among which a few texts may stand."""
    plain = cells.text.str.strip_chars()
    number = plain.str.contains(NUMBER).to_numpy() & ~np.isnan(read_numbers(plain))
    if not number.any() or plain.filter(number).str.contains(LEADING_ZERO).any():
        return None
    junk = cells.text.filter(~number)
    if len(junk):
        few = len(junk) <= MOST_JUNK and (
            len(junk) <= JUNK_SHARE * len(plain) or (len(junk) <= 3 and number.sum() >= 8)
        )
        rows = cells.counts[~number].sum() / cells.total
        coded = junk.str.contains(r"^[A-Z]\d").any() or is_code(cells.name)
        if not few or rows > JUNK_ROWS or coded:
            return None
    text = plain.filter(number)
    values = read_numbers(text)
    if not len(junk) and (coded_column := _coded_numbers(cells, text, values)):
        return coded_column
    spelled = spelling(text, typed=cells.dtype is not None)
    most = spelled["decimals"]
    whole = bool(np.all(values == np.round(values)))
    kind: Kind = "integer" if whole and np.all(np.abs(values) < 2**53) else "continuous"
    s, t = "s" * (len(np.unique(values)) != 1), "s" * (most != 1)
    what = f"whole number{s}" if whole else f"number{s} with up to {most} decimal{t}"
    reason = f"{len(np.unique(values))} different {what}"
    if len(junk):
        reason += f", and {len(junk)} different text{'s' * (len(junk) != 1)} among them"
    return cells.column(
        kind,
        reason,
        **spelled,
        minimum=0.0 if values.min() >= 0 else None,
        special=tuple(junk.to_list()),
    )


def _coded_numbers(
    cells: _Cells, text: polars.Series, values: NDArray[np.float64]
) -> Column | None:
    """Return the column if its numbers are truth values, codes or a short scale."""
    distinct = np.unique(values)
    spelled_once = distinct.size == values.size
    whole = bool(np.all(distinct == np.round(distinct)))
    order = tuple(text.gather(np.argsort(values)).to_list())
    if not spelled_once:
        return None
    if distinct.size == 1:
        reason = "constant: every cell that has a value has the same one"
        enough = cells.total >= ENOUGH // 2
        return cells.column("categorical", reason, categories=order) if enough else None
    if np.array_equal(distinct, [0, 1]):
        return cells.column("boolean", "only 0 and 1", categories=order)
    rarest = int(cells.counts.min())
    few = distinct.size <= min(MOST_CODES, max(2, cells.total // RARE))
    if is_code(cells.name) and whole and few and distinct[0] >= 0 and distinct.size > 1:
        reason = f"{distinct.size} different whole numbers, and the name says that they are codes"
        return cells.column("categorical", reason, categories=tuple(text.to_list()))
    if not whole:
        halves = bool(np.all(distinct * 4 == np.round(distinct * 4))) and distinct[-1] <= 20
        halves = halves and distinct.size <= 5 and rarest >= RARE and cells.total >= 50
        reason = f"only {distinct.size} different numbers, each seen often: a scale"
        return cells.column("ordinal", reason, categories=order) if halves else None
    dense = distinct[-1] - distinct[0] + 1 <= 2 * distinct.size
    small = distinct.size <= MOST_LEVELS and distinct[0] >= -5 and distinct[-1] <= 20
    if distinct.size == 2 and rarest >= RARE:
        reason = "only two different whole numbers: codes"
        return cells.column("categorical", reason, categories=order)
    named_scale = is_scale(cells.name) and cells.total >= ENOUGH
    if dense and small and (rarest >= RARE or named_scale):
        why = "each seen often" if rarest >= RARE else "and the name says so"
        reason = f"{distinct.size} whole numbers next to each other, {why}: a scale"
        return cells.column("ordinal", reason, categories=order)
    return None


def _codes_or_words(cells: _Cells, series: polars.Series) -> Column:
    text, different, total = cells.text, len(cells.text), cells.total
    levels = tuple(text.to_list()) if different <= 100 else ()
    if different == 1:
        reason = "constant: every cell that has a value has the same one"
        return cells.column("categorical", reason, categories=levels)
    if is_person(cells.name) and different > FEW:
        return cells.column("text", "its name says that it names or locates people; set aside")
    if pair := truth(levels):
        return cells.column("boolean", "two words for no and yes", categories=pair)
    if scale := ordered_labels(levels):
        reason = f"{different} labels with an evident order"
        return cells.column("ordinal", reason, categories=scale)
    words = text.str.count_matches(r"\S+").to_numpy()
    per_cell = float((words * cells.counts).sum() / total)
    share = different / total
    if total >= ENOUGH and share > 0.5 and per_cell >= WORDS:
        reason = f"free text, about {per_cell:.0f} words a cell and most cells different; set aside"
        return cells.column("text", reason)
    if total >= ENOUGH and share > 0.9:
        reason = "nearly every cell is a different text (names or remarks); set aside"
        return cells.column("text", reason)
    reason = f"{different} different labels that repeat"
    return cells.column("categorical", reason, categories=tuple(text.to_list()))
