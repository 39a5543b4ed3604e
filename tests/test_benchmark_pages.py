"""Pages that several benchmarks write: a run leaves what others measured as it was."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import pages
import panels_data
import panels_peers

COLUMNS = ("score", "measured")


def row(score: str) -> dict[str, str]:
    return {"score": score, "measured": "today"}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("# Page\n\nProse.\n\n## One\n\nTold by hand.\n\n## Two\n\nAlso.\n", "utf-8")
    return path


def put(page: Path, part: str, under: str, rows: pages.Rows) -> None:
    pages.put_table(page, part, under, f"### {part}", COLUMNS, rows, first=["a", "b"], last=["z"])


def test_other_rows_parts_and_prose_stay(page: Path) -> None:
    put(page, "p", "## One", {"z": row("9"), "b": row("2")})
    put(page, "q", "## Two", {"b": row("7")})
    put(page, "p", "## One", {"a": row("1"), "m": row("5"), "b": row("3")})
    text = page.read_text("utf-8")
    one, two = text.partition("## Two")[::2]
    assert [line for line in one.splitlines() if line.startswith("| ")] == [
        "| | score | measured |", "| a | 1 | today |", "| b | 3 | today |", "| m | 5 | today |",
        "| z | 9 | today |",
    ]  # fmt: skip
    assert "| b | 7 | today |" in two
    assert all(words in text for words in ("Prose.", "Told by hand.", "Also."))
    assert text.index("Told by hand.") < text.index("<!-- p -->") < text.index("<!-- p: end -->")


def test_a_kept_row_keeps_the_cells_whose_columns_are_still_there(page: Path) -> None:
    put(page, "p", "## One", {"a": row("1")})
    pages.put_table(page, "p", "## One", "", ("new", "score"), {"b": {"new": "4", "score": "2"}})
    assert "| a |  | 1 |" in page.read_text("utf-8")


def test_a_heading_that_is_not_there_comes_last(page: Path) -> None:
    pages.put_text(page, "p", "## Three", "Words.")
    pages.put_text(page, "p", "## Three", "Other words.")
    text = page.read_text("utf-8")
    assert text.endswith("## Three\n\n<!-- p -->\n\nOther words.\n\n<!-- p: end -->\n")
    assert text.count("Also.") == 1


def test_a_peer_gets_every_value_and_what_it_draws_is_read_back(tmp_path: Path) -> None:
    events = panels_data.made_up(30)
    panels_peers._write(events, 30, 0, tmp_path)
    for name in ("facts", "visits"):
        shutil.copy(tmp_path / f"{name}.csv", tmp_path / f"drawn_{name}.csv")
    again = panels_peers._read(events, tmp_path)
    order = np.lexsort((events.code, events.time, events.whose))
    other = np.lexsort((again.code, again.time, again.whose))
    for name in ("whose", "time", "code", "value"):
        assert np.array_equal(getattr(events, name)[order], getattr(again, name)[other]), name


def test_a_level_of_the_peers_own_is_an_empty_cell(tmp_path: Path) -> None:
    events = panels_data.made_up(30)
    panels_peers._write(events, 30, 0, tmp_path)
    facts = (tmp_path / "facts.csv").read_text()
    (tmp_path / "drawn_facts.csv").write_text(facts.replace(",f\n", ",_RARE_\n"))
    shutil.copy(tmp_path / "visits.csv", tmp_path / "drawn_visits.csv")
    sex = panels_peers._read(events, tmp_path).column("sex")
    assert set(sex[events.column("sex") == events.schema.static["sex"].categories.index("f")]) == {
        -1
    }
