"""What a CSV file looks like: encoding, delimiter, quotes, header, judged from its beginning."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from manikin.errors import InputError

__all__ = [
    "MARKS",
    "Field",
    "counts_of_fields",
    "decode",
    "has_header",
    "records",
    "sniff_delimiter",
    "sniff_quote",
]

DELIMITERS = ("\t", ";", "|", ",")  # of equals, the first wins: a comma may be a decimal one
SAMPLE = 200  # records looked at
CHUNK = 1 << 24  # bytes scanned at a time
MARKS = {"", "?", "na", "nan", "null", ".", "none", "-"}
_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*$")
_SIGNATURES = {
    b"PK\x03\x04": "an Excel or zip file",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"$FL2": "an SPSS file",
}

Field = tuple[str, bool]  # text of a cell, and whether it stood in quotes


def decode(raw: bytes, name: str) -> tuple[bytes, str, bool]:
    """Return the text as UTF-8 without a byte order mark, its encoding, and whether it had one.

    Raises InputError for what is no text.
    """
    for signature, what in _SIGNATURES.items():
        if raw.startswith(signature):
            raise InputError(
                f"'{name}' is {what}, not delimited text",
                "the suffix says what a file is: .csv, .tsv, .parquet, .xlsx",
                "correct the suffix or export the table as CSV",
            )
    if raw.startswith(codecs.BOM_UTF8):
        return raw[3:], "utf-8", True
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if raw.startswith(mark):
            try:
                return raw[2:].decode(encoding).encode("utf-8"), encoding, True
            except UnicodeError as error:
                raise _no_text(name) from error
    head = np.frombuffer(raw[: 1 << 16], dtype=np.uint8)
    control = (head < 32) & ~np.isin(head, (9, 10, 12, 13))
    if b"\0" in raw or (head.size and control.mean() > 0.01):
        raise _no_text(name)
    try:
        codecs.lookup("utf-8").decode(raw, "strict")
        return raw, "utf-8", False
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252").encode("utf-8"), "cp1252", False
    except UnicodeDecodeError:
        return raw.decode("latin-1").encode("utf-8"), "latin-1", False


def _no_text(name: str) -> InputError:
    return InputError(
        f"'{name}' is not text: it holds zero bytes or control characters",
        "delimited text in UTF-8, UTF-16, Windows-1252 or Latin-1",
        "export the table again as CSV",
    )


def records(text: str, delimiter: str, quote: str, most: int = SAMPLE) -> list[list[Field]]:
    """Split the beginning of a text into records of (cell, was it quoted)."""
    d, q = re.escape(delimiter), re.escape(quote)
    text = text.replace("\r\n", "\n")
    pattern = re.compile(rf"(?: *({q}(?:[^{q}]|{q}{q})*{q}) *|([^{d}\n]*))({d}|\n|$)")
    found: list[list[Field]] = []
    row: list[Field] = []
    position = 0
    while position < len(text) and len(found) < most:
        match = pattern.match(text, position)
        if match is None:  # a quote in the middle of a cell: take the line's rest as it stands
            stop = min((i for i in (text.find(c, position) for c in (delimiter, "\n")) if i >= 0),
                       default=len(text))  # fmt: skip
            row.append((text[position:stop], False))
            ended, position = text[stop : stop + 1], stop + 1
        else:
            quoted = match[1] is not None
            row.append((match[1][1:-1].replace(quote * 2, quote) if quoted else match[2], quoted))
            ended, position = match[3], match.end()
        if ended != delimiter:
            found.append(row)
            row = []
    if row:
        found.append(row)
    return found


def sniff_delimiter(text: str, quote: str, preferred: str = "") -> str:
    """Return the delimiter that splits most records into the same number of cells."""
    best, best_rank = ",", (0.0, False, False)
    for delimiter in (preferred, *DELIMITERS) if preferred else DELIMITERS:
        rows = [row for row in records(text, delimiter, quote) if row != [("", False)]]
        widths = [len(row) for row in rows]
        if not widths:
            continue
        width, times = Counter(widths).most_common(1)[0]
        if width == 1 or widths[0] == 1:
            continue
        # a delimiter that cuts through quoted cells leaves quotes inside others
        whole = not any(quote in cell and not quoted for row in rows for cell, quoted in row)
        rank = (round(times / len(widths), 2), widths[0] == width, whole)
        if rank > best_rank:
            best, best_rank = delimiter, rank
    return best


def sniff_quote(text: str) -> str:
    """Return the quote character: an apostrophe only where cells stand in pairs of them."""
    if '"' in text:
        return '"'
    paired = len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|]|\r?$)", text, re.MULTILINE))
    return "'" if paired >= max(2, text.count("\n") // 2) else '"'


def has_header(rows: Sequence[Sequence[Field]]) -> bool:
    """Return whether the first record names the columns, judged against the ones below it."""
    first = [cell for cell, _ in rows[0]]
    body = [[cell for cell, _ in row] for row in rows[1:] if len(row) == len(first)]
    numbers = [cell for cell in first if _NUMBER.match(cell)]
    known = [cell for cell in first if cell.strip().lower() not in MARKS]
    columns = list(zip(*body, strict=True)) if body else []
    for cell, column in zip(first, columns, strict=False):
        if cell in known and not _NUMBER.match(cell) and _all_numbers(column):
            return True  # a word above numbers
    if known and len(numbers) >= 0.5 * len(known):
        values = [float(cell.replace(",", ".")) for cell in numbers]
        steps = set(np.diff(values).tolist())
        # 0, 1, 2, … or 2001, 2002, … are names; measurements do not climb in even steps
        return len(values) > 2 and len(steps) == 1 and steps != {0.0}
    if len(body) < 3 or not known:
        return True
    again = [cell in column for cell, column in zip(first, columns, strict=True) if cell in known]
    return sum(again) < 0.5 * len(again)


def _all_numbers(column: Sequence[str]) -> bool:
    values = [cell for cell in column if cell.strip().lower() not in MARKS]
    return len(values) > 0 and all(_NUMBER.match(cell) for cell in values)


def counts_of_fields(data: bytes, delimiter: str, quote: str) -> tuple[np.ndarray, bool] | None:
    """Return how many cells each record has, and whether one holds a line break.

    None where a quote stands inside an unquoted cell, so that counting by parity would mislead.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    edges = np.frombuffer((delimiter + "\n\r" + quote + " ").encode(), dtype=np.uint8)
    widths, parity, carry, broken = [], 0, 1, False
    for start in range(0, array.size, CHUNK):
        chunk = array[start : start + CHUNK]
        quotes = np.flatnonzero(chunk == ord(quote))
        delimiters = np.flatnonzero(chunk == ord(delimiter))
        lines = np.flatnonzero(chunk == 10)
        if quotes.size or parity:
            opening = quotes[parity::2] + start
            if np.any(~np.isin(array[opening[opening > 0] - 1], edges)):
                return None
            inside = (np.searchsorted(quotes, lines) + parity) % 2 == 1
            broken = broken or bool(inside.any())
            lines = lines[~inside]
            delimiters = delimiters[(np.searchsorted(quotes, delimiters) + parity) % 2 == 0]
            parity = (parity + quotes.size) % 2
        seen = np.searchsorted(delimiters, lines)
        counts = np.diff(seen, prepend=0) + 1
        if counts.size:
            counts[0] += carry - 1
            carry = int(delimiters.size - seen[-1]) + 1
        else:
            carry += delimiters.size
        widths.append(counts)
    if parity:
        return None
    if array.size and array[-1] != 10:
        widths.append(np.array([carry]))
    return (np.concatenate(widths) if widths else np.zeros(0, dtype=np.int64)), broken
