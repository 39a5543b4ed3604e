import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from examples import SCHEMA, report

from manikin.data.schema import Column, TableSchema
from manikin.release.cards import croissant, readme, write_cards

HEADER = ",".join(column.name for column in SCHEMA)
ROWS = "A1,50,<0.5,F,II,C01,2020-01-02,100,yes\nA2,,3.5,M,,C02,,200,no\n"


def loaded(directory: Path, document: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        croissant_library = pytest.importorskip("mlcroissant", reason="mlcroissant not installed")
        path = directory / "croissant.json"
        path.write_text(json.dumps(document))
        return croissant_library.Dataset(jsonld=path)


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_finds_nothing_wrong_and_reads_the_rows(tmp_path: Path) -> None:
    data = tmp_path / "synthetic.csv"
    data.write_text(f"{HEADER}\n{ROWS}")
    document = croissant(SCHEMA, data, report())
    dataset = loaded(tmp_path, document)
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    rows = list(dataset.records("rows"))
    assert len(rows) == 2 and rows[0]["rows/column-2"] == 50.0
    assert rows[1]["rows/column-3"] == b"3.5"
    assert document["rai:hasSyntheticData"] is True
    assert document["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"


@pytest.mark.filterwarnings("ignore")
def test_odd_column_names_validate(tmp_path: Path) -> None:
    names = ["Größe [cm]", "a/b", "x y", "日付", "<script>", 'q"uote', "../up", "@id"]
    schema = TableSchema(tuple(Column(name, "categorical", categories=("a",)) for name in names))
    data = tmp_path / "out.parquet"
    data.write_bytes(b"PAR1")
    issues = loaded(tmp_path, croissant(schema, data, report())).metadata.ctx.issues
    assert not issues.errors


def test_a_card_says_who_may_not_and_how_to_check() -> None:
    text = readme(report(), "synthetic.csv")
    assert "sha256sum -c MANIFEST.sha256" in text and "Not to be used" in text
    assert "`synthetic.csv`: the synthetic rows" in text


def test_markup_in_a_source_name_stays_text() -> None:
    text = readme(
        report(settings={"source": "<script>alert(1)</script>[x](http://evil)"}), "data.csv"
    )
    assert "<script>" not in text.replace("\\<", "") and "[x](" not in text


def test_a_directory_gets_both_cards(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(f"{HEADER}\n{ROWS}")
    write_cards(tmp_path, "data.csv", SCHEMA, report())
    assert json.loads((tmp_path / "croissant.json").read_text())["distribution"][0]["sha256"]
    text = (tmp_path / "README.md").read_text()
    assert "`data.csv`: the synthetic rows" in text
