"""SAS transport files, version 5: written here, read by pyreadstat.

SAS Technical Note TS-140, "The Record Layout of a Data Set in SAS Transport (XPORT) Format":
records of 80 bytes; numbers are IBM System/360 doubles (base 16, 56 bits); names have at most 8
bytes, labels 40, texts 200. What does not fit is an error: nothing is cut.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.errors import InputError, MissingExtra, OutputError

__all__ = ["ibm_doubles", "read_xpt", "write_xpt"]

RECORD = 80
MOST_TEXT, MOST_NAME, MOST_LABEL = 200, 8, 40
_HEADER = "HEADER RECORD*******{:<8}HEADER RECORD!!!!!!!{}  "
_NONE = "0" * 30
_LARGEST = 16.0**63  # numbers from here on have no IBM exponent


def ibm_doubles(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return IBM doubles as integers, missing as SAS writes it; exact for every value in range.

    A double has 53 bits and an IBM one 56, of which up to three are lost to its base of 16.
    Raises OutputError for what is too large; what is smaller than 16^-65 becomes 0.
    """
    missing = np.isnan(values)
    size = np.abs(np.where(missing, 0.0, values))
    if too_large := int((size >= _LARGEST).sum()):
        raise OutputError(
            f"{too_large:,} numbers beyond 7.2e75",
            "what an IBM double of a SAS transport file can hold",
            "write Dataset-JSON or Parquet",
        )
    fraction, exponent = np.frexp(size)  # size = fraction 2^exponent, fraction in [0.5, 1)
    hexes = -(-exponent // 4)  # exponent of 16, upwards
    shift = hexes * 4 - exponent  # 0 … 3 leading bits that are 0
    mantissa = (fraction * 2.0**53).astype(np.uint64) << (3 - shift).astype(np.uint64)
    biased = hexes + 64
    held = (size > 0) & (biased >= 0)
    sign = np.signbit(values).astype(np.uint64) << np.uint64(63)
    whole = sign | (np.clip(biased, 0, 127).astype(np.uint64) << np.uint64(56)) | mantissa
    whole = np.where(held, whole, np.uint64(0))
    return np.where(missing, np.uint64(0x2E << 56), whole)


def write_xpt(
    file: IO[bytes],
    name: str,
    label: str,
    labels: Mapping[str, str],
    lengths: Mapping[str, int],
    parts: Iterator[pl.DataFrame],
    columns: Sequence[tuple[str, bool]],
) -> None:
    """Write one data set, part after part; `columns` are names and whether they hold numbers.

    `lengths` are the most bytes of each text. Raises OutputError for what version 5 cannot hold.
    """
    _check(name, labels, lengths, columns)
    widths = {c: 8 if number else max(1, lengths[c]) for c, number in columns}
    stamp = datetime.datetime.now(datetime.UTC).strftime("%d%b%y:%H:%M:%S").upper()
    head = [
        _HEADER.format("LIBRARY ", _NONE),
        f"{'SAS':<8}{'SAS':<8}{'SASLIB':<8}{'9.4':<8}{'':<8}{'':<24}{stamp:<16}",
        f"{stamp:<16}{'':<64}",
        _HEADER.format("MEMBER  ", "000000000000000001600000000140"),
        _HEADER.format("DSCRPTR ", _NONE),
        f"{'SAS':<8}{name.upper():<8}{'SASDATA':<8}{'9.4':<8}{'':<8}{'':<24}{stamp:<16}",
        f"{stamp:<16}{'':<16}{label[:MOST_LABEL]:<40}{'':<8}",
        _HEADER.format("NAMESTR ", f"000000{len(columns):04d}" + "0" * 20),
    ]
    file.write("".join(head).encode("ascii", "replace"))
    described, place = b"", 0
    for k, (column, number) in enumerate(columns, start=1):
        described += _described(k, column, number, labels.get(column, ""), widths[column], place)
        place += widths[column]
    file.write(_filled(described))
    file.write(_HEADER.format("OBS     ", _NONE).encode())
    layout = np.dtype([(c, ">u8" if number else f"S{widths[c]}") for c, number in columns])
    written = 0
    for part in parts:
        rows = _rows(part, layout, columns)
        file.write(rows)
        written += len(rows)
    file.write(b" " * (-written % RECORD))


def _check(
    name: str,
    labels: Mapping[str, str],
    lengths: Mapping[str, int],
    columns: Sequence[tuple[str, bool]],
) -> None:
    long = [c for c in (name, *(c for c, _ in columns)) if len(c.encode()) > MOST_NAME]
    wide = [c for c, number in columns if not number and lengths[c] > MOST_TEXT]
    if long or wide or len(columns) > 9999:
        what = f"variables with texts of more than {MOST_TEXT} bytes: {', '.join(wide[:5])}"
        raise OutputError(
            f"names of more than {MOST_NAME} bytes: {', '.join(long[:5])}" if long else what,
            f"names of {MOST_NAME} bytes and texts of {MOST_TEXT} in a SAS transport file v5",
            "write Dataset-JSON or Parquet, which hold both",
        )


def _described(number: int, name: str, numeric: bool, label: str, width: int, place: int) -> bytes:
    """Return the 140 bytes that describe a variable (NAMESTR)."""
    return struct.pack(
        ">hhhh8s40s8shhh2s8shhl52s",
        1 if numeric else 2, 0, width, number, name.upper().encode().ljust(8),
        label[:MOST_LABEL].encode("ascii", "replace").ljust(40), b" " * 8, 0, 0, 0, b"\0\0",
        b" " * 8, 0, 0, place, b"\0" * 52,
    )  # fmt: skip


def _filled(raw: bytes) -> bytes:
    return raw + b" " * (-len(raw) % RECORD)


def _rows(part: pl.DataFrame, layout: np.dtype[Any], columns: Sequence[tuple[str, bool]]) -> bytes:
    """Return rows of fixed width: big-endian numbers, texts filled with blanks."""
    rows = np.zeros(part.height, layout)
    for name, numeric in columns:
        if numeric:
            values = part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            rows[name] = ibm_doubles(values)
        else:
            width = layout[name].itemsize
            text = part[name].fill_null("").str.replace_all("\0", "")
            rows[name] = np.array([t.encode().ljust(width) for t in text.to_list()], f"S{width}")
    return rows.tobytes()


def read_xpt(path: Path) -> tuple[pl.DataFrame, str]:
    """Return a data set and its label. Raises InputError when the file is damaged or of no v5/v8.

    Texts that are no UTF-8 are read as Windows-1252, which is what SAS on Windows writes.
    """
    try:
        import pyreadstat
    except ImportError as error:
        raise MissingExtra("reading SAS transport files", "ehr") from error
    broken = InputError(
        f"'{path.name}' cannot be read as a SAS transport file",
        "a whole .xpt file of version 5 or 8, of records of 80 bytes",
        "export or copy the file again",
    )
    size = path.stat().st_size
    if size < 8 * RECORD or size % RECORD:
        raise broken
    for encoding in ("UTF-8", "WINDOWS-1252"):
        try:
            frame, meta = pyreadstat.read_xport(path, encoding=encoding, output_format="polars")
        except UnicodeDecodeError:
            continue
        except Exception as error:  # the reader raises errors of its own and of its parts
            if encoding == "UTF-8" and "convert" in str(error).lower():
                continue
            raise broken from error
        return frame, str(meta.file_label or "")
    raise broken
