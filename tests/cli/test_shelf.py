"""Looking things up: list, cite, keygen."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from manikin import catalogue
from manikin.cli.citations import Work, cited, works

Run = Callable[..., Result]


def test_list_names_everything(manikin: Run) -> None:
    result = manikin("list", "--json")
    document = json.loads(result.stdout)
    assert [card["name"] for card in document["synthesizers"]] == list(catalogue.names())
    assert [card["name"] for card in document["metrics"]] == list(catalogue.metric_names())
    assert {"csv", "parquet", "excel"} <= {card["name"] for card in document["formats"]}
    shown = manikin("list").stdout
    for name in (*catalogue.names(), *catalogue.metric_names()):
        assert name in shown


@pytest.mark.parametrize("name", [*catalogue.names(), *catalogue.metric_names()])
def test_every_card_prints_with_its_settings(name: str, manikin: Run) -> None:
    card = json.loads(manikin("list", name, "--json").stdout)
    assert card["name"] == name and card["text"]
    shown = manikin("list", name).stdout
    for setting in card["settings"]:
        assert setting["name"] in shown and setting["meaning"]
    if name in catalogue.names():
        assert [s["name"] for s in card["settings"]] == [s.name for s in catalogue.settings(name)]


def test_an_unknown_name_lists_the_known(manikin: Run) -> None:
    result = manikin("list", "table/nonsense")
    assert result.exit_code == 4 and result.stdout == ""
    assert catalogue.metric_names()[0] in result.stderr


def test_keygen_writes_two_files_once(manikin: Run, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    result = manikin("keygen", "a.key", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["fingerprint"].startswith("SHA256:")
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert manikin("keygen", "a.key").exit_code == 7


# ---------------------------------------------------------------------------- citations
@pytest.mark.parametrize(
    ("card", "work"),
    [
        (
            "CTGAN: a GAN.\n\nXu, Skoularidou. NeurIPS 2019. arXiv:1907.00503\nIdea  x (Not 2020)",
            Work("Xu, Skoularidou", "2019", "NeurIPS", ("it",), arxiv="1907.00503"),
        ),
        (
            'M: x\n\nReference  Reiter, "Using CART to generate microdata",\n'
            "           J. Official Statistics 21 (2005), compares\nIdea y",
            Work("Reiter", "2005", "Using CART to generate microdata. J. Official Statistics 21",
                 ("it",)),
        ),
        (
            "Detection: x\n\nA two-sample test (Lopez-Paz and Oquab, ICLR 2017) with trees.",
            Work("Lopez-Paz and Oquab", "2017", "ICLR", ("it",)),
        ),
        (
            'N: x\n\nThe share (the "DCR share") of rows\n'
            '(Yao et al., "The DCR Delusion", 2025), so it is no test.',
            Work("Yao et al.", "2025", "The DCR Delusion", ("it",)),
        ),
    ],
    ids=["venue", "titled", "inline", "inline titled"],
)  # fmt: skip
def test_citations_are_read_from_cards(card: str, work: Work) -> None:
    assert cited(card, "it") == [work]


def test_prose_with_a_year_is_no_citation() -> None:
    assert cited("Shapes: x\n\nHow alike columns were in 2020. Mean over columns.", "it") == []


def test_a_bare_preprint_is_cited_by_its_number() -> None:
    card = 'S: x\n\nReference  Reiter, "Using CART to generate", JOS 21 (2005); arXiv:2405.17333'
    reiter, preprint = cited(card, "it")
    assert reiter.year == "2005"
    assert preprint.plain() == "(2024). arXiv:2405.17333\n    it"
    assert preprint.bibtex().startswith("@misc{arxiv2024,")


def test_bibtex() -> None:
    text = Work("Yao et al.", "2025", "The DCR Delusion", doi="10.1/x").bibtex()
    assert text.startswith("@misc{yao2025,") and "author = {Yao and others}" in text
    assert "doi = {10.1/x}" in text and text.count("{") == text.count("}")


def test_manikin_itself_comes_first(manikin: Run) -> None:
    assert "Manikin" in manikin("cite").stdout
    assert len(works([])) == 1
    documents = json.loads(manikin("cite", *catalogue.names(), "--json").stdout)
    assert all((work["authors"] or work["arxiv"]) and work["year"].isdigit() for work in documents)
    assert manikin("cite", "nonsense").exit_code == 4


def test_a_helper_beside_the_metrics_is_none() -> None:
    # it exports a function of its file's name, but no card: it needs the generator
    assert "validity/coverage" not in catalogue.metric_names()
    assert catalogue.cards().keys() == set(catalogue.metric_names())
