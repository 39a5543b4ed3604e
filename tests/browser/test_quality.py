"""The page of quality under a budget, in a browser: offline, quiet, escaped, accessible."""

from pathlib import Path

import pytest
from chromium import Browser, axe, opened

from manikin.metrics.paid import COLUMNS, KEPT, PAIRS, Paid
from manikin.metrics.paid_outcome import ACCURACY, AUC
from manikin.metrics.score import Score, not_estimable
from manikin.privacy.budget import Budget
from manikin.release.quality import build_quality, render_quality

PAYLOAD = "<img src=x onerror=owned(1)>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = [
        Score(COLUMNS, 0.1, (0.0, 0.3), ceiling=0.05, group=f"column={name}")
        for name in ("age", PAYLOAD, "a_column_with_a_very_long_name_and_no_place_to_break_it" * 2)
    ]
    scores = (
        Score(COLUMNS, 0.2, (0.1, 0.3), ceiling=0.05),
        Score(PAIRS, 0.2, (0.1, 0.3), floor=0.5, ceiling=0.15, note=KEPT),
        Score(AUC, 0.7, (0.6, 0.8), floor=0.5, ceiling=0.9),
        not_estimable(ACCURACY, "too few held-out people"),
    )
    bought = Paid((*scores, *columns), 300.0, 3, f"whether '{PAYLOAD}' is 'yes'", (), Budget(0.5))
    quality = build_quality(bought, judged="Looked at were the rows.", together=1.14)
    path = tmp_path_factory.mktemp("quality") / "quality.html"
    path.write_text(render_quality(quality, f"{PAYLOAD}.csv"), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_offline_and_fits(width: int, place: Path, browser: Browser) -> None:
    with opened(browser, place, bypass_policy=True) as page:
        page.resize(width)
        assert page.run("document.documentElement.scrollWidth") <= width
        page.settle()
        assert (page.executed, page.requests, page.complaints, page.dialogs) == ([], [], [], [])
        assert page.run("document.querySelectorAll('img').length") == 0
        text = page.run("document.documentElement.textContent")
    assert text.count("owned(1)") >= 3
    assert "Not assessable: too few held-out people" in text
    assert "they make it look too easy" in text and "relations between columns were kept" in text


@pytest.mark.skipif(axe() is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: str, place: Path, browser: Browser) -> None:
    with opened(browser, place, bypass_policy=True) as page:
        page.media(prefers_color_scheme=scheme)
        page.run(axe() + ";0")
        found = page.run("axe.run(document, {resultTypes: ['violations']})")
    assert [(rule["id"], rule["nodes"][0]["html"][:100]) for rule in found["violations"]] == []
