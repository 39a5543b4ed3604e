import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SCHEMA, SCORES, real_of, report, trial

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.score import Trial
from manikin.release.cards import croissant, readme
from manikin.release.disclosure import assert_disclosable
from manikin.release.html import render_html
from manikin.release.record import Record, score_facts, source_facts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
PAYLOADS = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "<svg onload=document.title='owned'>",
    "<svg/onload=document.title='owned'>",
    '"><script>document.title="owned"</script>',
    "'><script>document.title='owned'</script>",
    '" onmouseover="document.title=1" x="',
    "' onfocus='document.title=1' autofocus='",
    '" autofocus onfocus=document.title=1 "',
    "<body onload=document.title='owned'>",
    "<iframe src=javascript:document.title='owned'>",
    "<a href=javascript:document.title='owned'>x</a>",
    "<math><mtext></mtext><script>document.title='owned'</script></math>",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<form action=http://evil.example><input name=x>",
    "<object data=http://evil.example></object>",
    "<embed src=http://evil.example>",
    "<video><source onerror=document.title='owned'></video>",
    "<details open ontoggle=document.title='owned'>",
    "{{ 7*7 }}{% raw %}",
    "{{ ''.__class__.__mro__ }}",
    "${document.title='owned'}",
    "<!--<script>document.title='owned'</script>-->",
    "]]><script>document.title='owned'</script>",
    "\u2028<script>document.title='owned'</script>\u0000",
    "&lt;script&gt;document.title='owned'&lt;/script&gt;",
    "--><svg><animate onbegin=document.title='owned' attributeName=x dur=1s>",
)


def hostile() -> Trial[Table]:
    """Return a trial whose columns, categories, units and marks are all payloads."""
    columns = []
    for i, payload in enumerate(PAYLOADS):
        levels = (payload, f"{i}{payload}", "plain")
        columns.append(Column(f"{payload} {i}", "categorical", categories=levels))
    columns += [
        Column(PAYLOADS[0], "continuous", unit=PAYLOADS[6], special=(PAYLOADS[3],), decimals=1),
        Column(f"t{PAYLOADS[0]}", "integer", ("time",), unit=PAYLOADS[7]),
        Column("e", "boolean", ("event",), (PAYLOADS[4], PAYLOADS[5])),
    ]
    schema = TableSchema(tuple(columns))

    def side(seed: int) -> Table:
        rng = np.random.default_rng(seed)
        n = 200
        states = np.where(rng.random(n) < 0.3, 2, 0).astype(np.int8)
        values: dict[str, Any] = {
            column.name: rng.integers(0, len(column.categories), n).astype(np.int32)
            for column in schema
            if column.is_coded
        }
        values[PAYLOADS[0]] = np.where(states == 2, np.nan, np.round(rng.normal(size=n), 1))
        values[f"t{PAYLOADS[0]}"] = np.rint(rng.exponential(100, n))
        return Table(schema, np.arange(n) + seed * n, values, {PAYLOADS[0]: states})

    return Trial(side(1), side(2), side(3))


def hostile_report() -> Any:
    groups = [replace(SCORES[-2], group=f"sex={payload}") for payload in PAYLOADS]
    finding = {"severity": PAYLOADS[6], "topic": "x", "said": PAYLOADS[0], "todo": PAYLOADS[1]}
    settings = {"source": PAYLOADS[2], "synthesizer": PAYLOADS[0], PAYLOADS[3]: PAYLOADS[4]}
    return report(hostile(), scores=(*SCORES, *groups), audit_findings=[finding], settings=settings,
                  controls={PAYLOADS[0]: True})  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Collects tags, and attributes that could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.risky: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1
        for name, value in attrs:
            loads = name in ("src", "href", "data", "action", "srcset", "style", "poster")
            if name.startswith("on") or (loads and not (value or "").startswith("#")):
                self.risky.append((tag, name))


def test_payloads_in_names_and_categories_stay_text() -> None:
    page = render_html(hostile_report())
    tags = Tags()
    tags.feed(page)
    assert tags.risky == []
    assert tags.found["script"] == 1 and tags.found["style"] == 1
    for tag in ("img", "iframe", "object", "embed", "link", "base", "form", "video", "math"):
        assert tag not in tags.found
    assert "49" not in re.findall(r"<b>([^<]*)</b>", page)
    for payload in PAYLOADS:
        # a payload without markup characters is text already
        assert payload not in page or not set(payload) & set("<>\"'")


def test_the_policy_allows_only_what_is_inside() -> None:
    page = render_html(report())
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and "default-src &#39;none&#39;" in policy[1]
    for tag in ("style", "script"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert inside
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"sha256-{digest}" in policy[1]
    assert "unsafe" not in policy[1]


def test_nothing_is_loaded_from_anywhere() -> None:
    page = render_html(report())
    assert "http:" not in page and "https:" not in page and "url(" not in page
    assert not re.search(r"\ssrc=", page) and "@import" not in page


def test_every_number_of_the_verdict_is_in_the_page() -> None:
    made = report()
    page = render_html(made)
    for question in made.verdict.questions:
        assert question.answer.split(",")[0] in page
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page


def test_a_wide_table_stays_below_six_megabytes() -> None:
    rng = np.random.default_rng(0)
    columns = tuple(
        Column(f"laboratory value number {i}", "continuous", decimals=2) for i in range(500)
    )
    schema = TableSchema(columns)

    def side(first: int) -> Table:
        values = {c.name: np.round(rng.normal(size=300), 2) for c in columns}
        return Table(schema, np.arange(first, first + 300), values)

    made = report(Trial(side(0), side(300), side(600)))
    assert len(render_html(made).encode()) < 6_000_000


@pytest.mark.parametrize("n", [1, 3, 12])
def test_tiny_tables_are_drawn(n: int) -> None:
    assert "fewer than 11" in render_html(report(trial(n * 2)))


def test_canaries_of_real_rows_are_in_no_file(tmp_path: Path) -> None:
    given = trial()
    columns = {name: values.copy() for name, values in given.train.columns.items()}
    columns["age"][0] = 98765
    columns["crp"][1], given.train.states["crp"][1] = 271828.3, 0
    columns["seen"][0] = np.datetime64("1931-03-07", "us")
    columns["code"][columns["code"] == 39] = 38
    columns["code"][0] = 39
    canaries = Trial(replace(given.train, columns=columns), given.holdout, given.synthetic)
    made = report(canaries)
    assert_disclosable(made, real_of(canaries))
    record = Record(tmp_path / "record.jsonl")
    record.add("source", source_facts(canaries.train, b"k" * 32))
    record.add("scores", score_facts(SCORES[:-1]))
    (tmp_path / "data.csv").write_text("id\n")
    written = [
        render_html(made),
        json.dumps(made.to_json()),
        (tmp_path / "record.jsonl").read_text(),
        json.dumps(croissant(SCHEMA, tmp_path / "data.csv", made)),
        readme(made, "data.csv"),
    ]
    for text in written:
        for canary in ("98765", "98 765", "98\u202f765", "271828", "271\u202f828", "1931", "C39"):
            assert canary not in text


# ---------------------------------------------------------------------------- in a real browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("make", [report, hostile_report], ids=["plain", "hostile"])
def test_a_browser_opens_it_offline_without_a_complaint(tmp_path: Path, make: Any) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(make()), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--enable-logging=stderr", "--virtual-time-budget=2000",
         f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    assert "<title>owned" not in done.stdout
    # the page's own script ran: heads of the table became buttons
    assert done.stdout.count('<button type="button">') >= 3
