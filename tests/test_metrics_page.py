"""The page of metrics says what the catalogue says, of every metric and now."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import metrics_page

from manikin import catalogue

PAGE = metrics_page.PAGE.read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert metrics_page.page() == PAGE, "run: python benchmarks/metrics_page.py"


@pytest.mark.parametrize("name", catalogue.metric_names())
def test_every_metric_has_its_part(name: str) -> None:
    assert f"`{name}` · {catalogue.cards()[name].profile} · " in PAGE
    assert PAGE.count(f'<a id="{metrics_page.anchor(name)}"></a>') == 1


def test_every_link_leads_somewhere() -> None:
    linked, there = set(re.findall(r"\(#([^)]+)\)", PAGE)), re.findall(r'<a id="([^"]+)">', PAGE)
    assert linked == set(there) and len(there) == len(set(there))


def test_aligned_terms_become_a_list_between_paragraphs() -> None:
    text = "Of each:\ntau      order, read\n         to its end\n`b`      2 d\nThen prose.\n\nMore."
    assert list(metrics_page.prose(text)) == [
        "Of each:", "", "- `tau`: order, read to its end", "- `b`: 2 d", "", "Then prose.", "",
        "More.", "",
    ]  # fmt: skip


def test_thresholds_are_those_of_verdict_and_policies() -> None:
    said = "\n".join(metrics_page.thresholds("privacy/identity"))
    assert "the upper end of `privacy/identity.excess`: `public` at most 0.09" in said
    assert "`privacy/identity.excess`: up to 0.05 from 0 passes" in said
    (none,) = metrics_page.thresholds("privacy/nearest")
    assert "decides nothing" in none


@pytest.mark.parametrize(
    ("pattern", "speaks"),
    [
        ("fidelity/trends", True), ("fidelity/trends.x*", True), ("fidelity/trends*", True),
        ("fidelity/*", True), ("fidelity/trend", False), ("privacy/trends*", False),
    ],
)  # fmt: skip
def test_a_pattern_speaks_of_its_metric(pattern: str, speaks: bool) -> None:
    assert metrics_page.belongs(pattern, "fidelity/trends") is speaks
