"""Real clinical files come back byte for byte; set MANIKIN_REAL_DATA to a folder that has them."""

import io
import os
from pathlib import Path

import pytest

from manikin.data.render import render
from manikin.io.csv import CsvWriter
from manikin.io.tables import open_table

FOLDER = Path(os.environ.get("MANIKIN_REAL_DATA", "nowhere"))
# what cannot come back: exponents (2.50E-01), or more digits than a float64 holds
INEXACT = {"support2.csv", "nafld1.csv", "hepatoCellular.csv", "medicaldata_covid_testing.csv"}
ROOMS = ("survival_r", "uci_small", "heart_disease_uci", "cervical_cancer", "support2",
         "diabetes130", "rct_longitudinal", "survival_packages")  # fmt: skip
FILES = sorted(
    path
    for room in ROOMS
    for path in (FOLDER / room).glob("*")
    if path.suffix in (".csv", ".data") and path.name != "IDs_mapping.csv"
)


@pytest.mark.skipif(not FILES, reason="MANIKIN_REAL_DATA names no folder of real tables")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_real_file_comes_back(path: Path) -> None:
    source = open_table(path)
    aside = [column.name for column in source.table.schema if not column.is_learned]
    frame = render(source.table).with_columns(source.cells[name] for name in aside)
    out = io.BytesIO()
    sink = CsvWriter(out, source.layout)
    sink.write(frame, source.table)
    sink.close()
    if path.name in INEXACT:
        assert len(out.getvalue().splitlines()) == len(path.read_bytes().splitlines())
    else:
        assert out.getvalue() == path.read_bytes()
