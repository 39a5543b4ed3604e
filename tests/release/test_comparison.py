import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from examples import CARDS, SCORES
from test_html import PAYLOADS, Tags

from manikin.metrics.score import Card, Score
from manikin.release.comparison import Comparison, build_comparison, render_comparison

CREATED = datetime(2026, 11, 21, tzinfo=UTC)
ALL = ("privacy/copies.exact", "privacy/membership.auc", "privacy/nearest.share_nearer")
BY = {"exact copy": ALL, "5 % copied": ALL}


def compared(*values: tuple[float, float, float], better: Any = "higher") -> list[str]:
    """The marks that a measure's values get, one contender each."""
    family: Any = "privacy" if better == "lower" else "fidelity"
    card = {f"{family}/x": Card("X", family, better, "What it says.")}
    runs = {f"s{i}": [Score(f"{family}/x", v, (low, high), 0.1, 0.5)]
            for i, (v, low, high) in enumerate(values)}  # fmt: skip
    (topic,) = build_comparison(runs, card, created=CREATED).topics
    return [number.mark for number in topic.rows[0].numbers if number is not None]


def test_the_best_and_what_cannot_be_told_from_it_are_marked() -> None:
    # .80–.86 overlaps .85–.95; .5–.6 does not
    assert compared((0.9, 0.85, 0.95), (0.83, 0.80, 0.86), (0.55, 0.5, 0.6)) == [
        "best", "as good", "",
    ]  # fmt: skip


def test_nothing_is_marked_where_chance_may_make_all_the_difference() -> None:
    assert compared((0.9, 0.8, 1.0), (0.85, 0.75, 0.95)) == ["", ""]
    assert compared((0.9, 0.8, 1.0)) == [""]


def test_lower_is_better_and_an_excess_below_zero_is_no_merit() -> None:
    assert compared((0.3, 0.2, 0.4), (0.05, 0.0, 0.1), better="lower") == ["", "best"]
    # −.2 and −.01 are both "no excess"
    assert compared((-0.2, -0.25, -0.15), (-0.01, -0.02, 0.0), (0.5, 0.4, 0.6),
                    better="lower") == ["best", "best", ""]  # fmt: skip


def test_near_the_ceiling_is_near_fresh_real_rows() -> None:
    # the ceiling is .5: .52 is nearer than .9, and than .1
    assert compared((0.9, 0.88, 0.92), (0.52, 0.5, 0.54), (0.1, 0.08, 0.12),
                    better="near ceiling") == ["", "best", ""]  # fmt: skip


def test_what_has_no_number_is_never_best() -> None:
    nan = math.nan
    assert compared((nan, nan, nan), (0.5, 0.4, 0.6)) == ["", ""]
    assert compared((nan, nan, nan), (0.9, 0.85, 0.95), (0.5, 0.4, 0.6)) == ["", "best", ""]


def full(**changes: Any) -> Comparison:
    given: dict[str, Any] = {
        "runs": {"table/seqtree": SCORES, "table/copula": SCORES[:4]},
        "cards": CARDS,
        "source": "patients.csv",
        "created": CREATED,
        "caught_by": {"table/seqtree": BY},
        "facts": {"table/seqtree": {"seconds": "3.1"}},
        "failed": {"table/bad": "it cannot be fitted to this table"},
    } | changes
    return build_comparison(given.pop("runs"), given.pop("cards"), **given)


def test_everybody_is_told_of_in_the_order_given() -> None:
    made = full()
    assert [c.name for c in made.contenders] == ["table/seqtree", "table/copula", "table/bad"]
    asked = dict(made.questions)["Were real rows copied beyond chance?"]
    # the second has no score of copies, the third none at all
    assert [a and a.outcome for a in asked] == ["pass", "not assessable", None]
    row = next(r for t in made.topics for r in t.rows if r.metric == "privacy/copies.exact")
    assert [n is None for n in row.numbers] == [False, True, True]
    assert {name for name, _ in made.policies} == {"public", "controlled", "internal"}


def test_what_missed_a_copy_or_faced_another_site_says_nothing() -> None:
    asked = "Were real rows copied beyond chance?"
    for changes, expected in (
        ({}, "pass"),
        ({"caught_by": {"table/seqtree": {"exact copy": (), "5 % copied": ()}}}, "underpowered"),
        ({"split_by": "site"}, "not assessable"),
    ):  # fmt: skip
        first = dict(full(**changes).questions)[asked][0]
        assert first is not None and first.outcome == expected
        gates = dict(full(**changes).policies)["public"][0]
        assert gates is not None and (expected == "pass" or gates.outcome != "pass")


def test_groups_are_not_compared() -> None:
    text = json.dumps(full().to_json())
    assert "sex=F" not in text and "column=age" not in text


def test_the_page_holds_every_number_and_no_total() -> None:
    made = full()
    page = render_comparison(made)
    for topic in made.topics:
        for row in topic.rows:
            for number in row.numbers:
                if number is not None and number.value is not None:
                    assert f"{number.value:.3f}".replace("-", "\u2212") in page
    assert "it cannot be fitted to this table" in page.replace("It", "it")
    assert "overall score" not in page.lower() and "rank" not in page.lower()
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    assert "http:" not in page and "https:" not in page


def test_payloads_stay_text() -> None:
    runs = {payload: SCORES for payload in PAYLOADS}
    facts = {payload: {PAYLOADS[0]: PAYLOADS[3]} for payload in PAYLOADS}
    page = render_comparison(
        full(runs=runs, facts=facts, failed={f"{PAYLOADS[0]}!": PAYLOADS[1]}, notes=PAYLOADS[:2],
             source=PAYLOADS[0])
    )  # fmt: skip
    tags = Tags()
    tags.feed(page)
    assert tags.risky == [] and tags.found["script"] == 1
    assert not {"img", "iframe", "object", "embed", "link", "base", "form"} & set(tags.found)


@pytest.mark.parametrize("runs", [{}, {"a": ()}, {"a": SCORES}], ids=["none", "empty", "one"])
def test_few_or_no_runs(runs: Any) -> None:
    assert "<main>" in render_comparison(full(runs=runs, caught_by={}, facts={}, failed={}))
