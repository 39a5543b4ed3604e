"""The pages of a release in a real browser: offline, quiet, sortable, printable, accessible, safe.

Pages come from whole runs, one of them over a table whose names, marks and categories are all
attempts to run a script. Executions are counted by a function `owned` that only the browser gives
to the page, once as the page is and once with its own policy against scripts switched off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from chromium import Browser, Page, axe, opened

import manikin as mk
from manikin import catalogue
from manikin.release.comparison import build_comparison, render_comparison

PAGES = ("report.html", "comparison.html", "evidence.html")
MOST_BYTES = 6_000_000
PAYLOADS = (
    "<script>owned(origin)</script>",
    "</script><script>owned(origin)</script>",
    "</style><script>owned(origin)</script>",
    "</title><script>owned(origin)</script>",
    "</textarea><script>owned(origin)</script>",
    "<img src=x onerror=owned(origin)>",
    "<img src=x onerror=owned`1`,owned(origin)>",
    "<svg onload=owned(origin)>",
    "<svg/onload=owned(origin)>",
    "</svg><img src=x onerror=owned(origin)>",
    "</text><script>owned(origin)</script>",
    "\"><script>owned(origin)</script>",
    "'><script>owned(origin)</script>",
    "\" onmouseover=\"owned(origin)\" x=\"",
    "' onmouseover='owned(origin)' x='",
    "\" autofocus tabindex=1 onfocus=owned(origin) x=\"",
    "x onclick=owned(origin) y",
    "<body onload=owned(origin)>",
    "<iframe src=javascript:parent.owned(origin)>",
    "<iframe srcdoc='<script>parent.owned(origin)</script>'>",
    "<a href=javascript:owned(origin)>x</a>",
    "javascript:owned(origin)",
    "<math><mtext></mtext><script>owned(origin)</script></math>",
    "<style>@import 'http://192.0.2.1/x.css'</style>",
    "<link rel=stylesheet href=http://192.0.2.1/x.css>",
    "<meta http-equiv=refresh content='0;url=http://192.0.2.1'>",
    "<base href=http://192.0.2.1/>",
    "<form action=http://192.0.2.1><input autofocus onfocus=owned(origin)>",
    "<object data=http://192.0.2.1></object>",
    "<embed src=http://192.0.2.1>",
    "<video><source onerror=owned(origin)></video>",
    "<audio src=x onerror=owned(origin)>",
    "<details open ontoggle=owned(origin)>",
    "<input onfocus=owned(origin) autofocus>",
    "<template><script>owned(origin)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=owned(origin)>\">",
    "{{ owned(origin) }}",
    "{% for x in owned(origin) %}{% endfor %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "${owned(origin)}",
    "<!--><script>owned(origin)</script>-->",
    "]]><script>owned(origin)</script>",
    "\u2028<script>owned(origin)</script>",
    "&lt;script&gt;owned(origin)&lt;/script&gt;",
    "&#x3C;script&#x3E;owned(origin)&#x3C;/script&#x3E;",
    "%3Cscript%3Eowned(origin)%3C/script%3E",
    "\uff1cscript\uff1eowned(origin)\uff1c/script\uff1e",
    "--><svg><animate onbegin=owned(origin) attributeName=x dur=1s>",
    "<xss style=animation-name:x onanimationstart=owned(origin)>",
    "`<script>owned(origin)</script>`",
)  # fmt: skip
LEAST = {"report.html": len(PAYLOADS), "comparison.html": 1, "evidence.html": 1}  # payloads shown


def whole_run(folder: Path, source: Path, **given: Any) -> Path:
    """Synthesize and compare; return the folder of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        mk.synthesize(source, out=folder / "release", synthesizer="table/marginals", **given)
        two = ("table/marginals", "table/copula")
        compared = mk.compare(source, out=folder / "comparison", synthesizers=two, **given)
    page = build_comparison(
        {one.name: one.scores for one in compared.contenders},
        catalogue.cards(),
        source=Path(source).name,
        caught_by={one.name: one.caught_by or {} for one in compared.contenders},
        notes=[note for one in compared.contenders for note in one.notes],
    )
    (folder / "comparison.html").write_text(render_comparison(page), encoding="utf-8")
    return folder


def place_of(folder: Path, page: str) -> Path:
    return folder / page if page == "comparison.html" else folder / "release" / page


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survival table with two groups, in the profile that writes every section."""
    folder, rng, n = tmp_path_factory.mktemp("plain"), np.random.default_rng(0), 240
    age = rng.integers(30, 85, n)
    marker = age / 20 + rng.normal(size=n)
    days = np.rint(rng.exponential(2000 / np.exp(0.3 * (marker - 3)))) + 1
    lines = ["age,sex,stage,marker,days,died"]
    lines += [f"{age[i]},{'FM'[i % 2]},{'I II III'.split()[rng.integers(3)]},{marker[i]:.2f},"
              f"{days[i]:.0f},{int(rng.random() < 0.6)}" for i in range(n)]  # fmt: skip
    source = folder / "patients.csv"
    source.write_text("\n".join(lines) + "\n")
    return whole_run(folder, source, time="days", event="died", sensitive=["sex"],
                     quasi_identifiers=["age"], profile="quick", refits=0)  # fmt: skip


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose file name, columns, units, marks and categories are all payloads."""
    import yaml

    folder, rng, n = tmp_path_factory.mktemp("hostile"), np.random.default_rng(0), 160
    names = [*PAYLOADS, *(f"{PAYLOADS[i]}{PAYLOADS[i + 1]}" for i in range(4))]
    columns: list[dict[str, object]] = [
        {"name": name, "kind": "categorical", "categories": [name, f"{name}2"],
         "roles": ["sensitive"] if i < 2 else []}
        for i, name in enumerate(PAYLOADS)
    ]  # fmt: skip
    columns += [
        {"name": name, "kind": "continuous", "decimals": 1, "unit": PAYLOADS[i],
         "special": [PAYLOADS[i + 5]], "missing": [PAYLOADS[i + 11]]}
        for i, name in enumerate(names[len(PAYLOADS):])
    ]  # fmt: skip
    cells = [[str(rng.choice([name, f"{name}2"])) for name in PAYLOADS] for _ in range(n)]
    for row in cells:
        for i in range(4):
            row.append(str(rng.choice([PAYLOADS[i + 5], PAYLOADS[i + 11], *["1.5", "2.5"] * 3])))
    source = folder / "<img src=x onerror=owned(origin)>.parquet"
    pl.DataFrame(cells, schema=names, orient="row").write_parquet(source)
    schema = folder / "s.yaml"
    schema.write_text(yaml.safe_dump({"columns": columns}))
    return whole_run(folder, source, schema=schema, profile="quick", target=PAYLOADS[3],
                     who=PAYLOADS[5])  # fmt: skip


POKE = """(() => {
  for (const element of document.querySelectorAll('*')) {
    for (const kind of ['mouseover', 'mouseenter', 'focus', 'toggle', 'error', 'load', 'click'])
      if (!(kind === 'click' && element.closest('a[href^="http"], a[href$=".html"]')))
        element.dispatchEvent(new Event(kind, {bubbles: true, cancelable: true}));
    if (element.tagName === 'DETAILS') element.open = true;
  }
})()"""


def quiet(page: Page) -> None:
    page.settle()
    assert (page.executed, page.requests, page.complaints, page.dialogs) == ([], [], [], [])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_offline_and_quiet(
    name: str, plain: Path, browser: Browser, record_property: Callable[[str, object], None]
) -> None:
    path = place_of(plain, name)
    assert path.stat().st_size < MOST_BYTES
    with opened(browser, path) as page:
        quiet(page)
        assert page.run("document.querySelectorAll('main').length") == 1
        seconds = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
        record_property("megabytes", path.stat().st_size / 1e6)
        record_property("seconds to open", seconds)
        assert page.run("document.title") and page.run("document.styleSheets.length") >= 1
        page.run(POKE)
        quiet(page)


@pytest.mark.parametrize("policy", ["its own policy", "no policy"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_a_hostile_table_runs(
    name: str, policy: str, hostile: Path, browser: Browser
) -> None:
    path = place_of(hostile, name)
    with opened(browser, path, bypass_policy=policy == "no policy") as page:
        page.run(POKE)
        quiet(page)
        shown = page.run("document.documentElement.textContent")
        # the payloads are there, as text
        assert shown.count("owned(origin)") >= LEAST[name]
        outside = (
            "img,iframe,object,embed,link,base,form,video,audio,math,template,[onload],[onerror]"
        )
        assert page.run(f"document.querySelectorAll('{outside}').length") == 0
        assert page.run("document.scripts.length") <= 1


def test_a_payload_that_is_not_escaped_is_seen_to_run(tmp_path: Path, browser: Browser) -> None:
    """Of these payloads at least half run in a page that lets them, so the counting counts."""
    ran = 0
    for i, payload in enumerate(PAYLOADS[:12]):
        path = tmp_path / f"{i}.html"
        path.write_text(f"<!doctype html><title>x</title><body><p>{payload}</p>", encoding="utf-8")
        with opened(browser, path) as page:
            ran += bool(page.executed)
    assert ran >= 6


SORTED = """(() => {
  const found = [];
  for (const table of document.querySelectorAll('table.sortable')) {
    if (table.tBodies[0].rows.length < 2) continue;
    for (const head of table.querySelectorAll('[data-sort]')) {
      const button = head.querySelector('button');
      const orders = [];
      for (let i = 0; i < 2; i++) {
        button.click();
        const at = head.dataset.column ? Number(head.dataset.column) : head.cellIndex;
        const cells = [...table.tBodies[0].rows].map(row => {
          const cell = row.cells[at].cloneNode(true);
          cell.querySelectorAll('.between').forEach(small => small.remove());
          return cell.textContent.trim();
        });
        orders.push([head.getAttribute('aria-sort'), cells]);
      }
      found.push([head.dataset.sort, orders, table.querySelectorAll('[aria-sort]').length]);
    }
  }
  return found;
})()"""


@pytest.mark.parametrize("name", ["report.html", "comparison.html"])
def test_tables_sort_both_ways(name: str, plain: Path, browser: Browser) -> None:
    with opened(browser, place_of(plain, name)) as page:
        found = page.run(SORTED)
        quiet(page)
    assert found
    for kind, orders, marked in found:
        assert marked == 1
        assert [way for way, _ in orders] == ["ascending", "descending"]
        for way, cells in orders:
            keys = [key(cell, kind) for cell in cells]
            told = [k for k in keys if k is not None]
            assert told == sorted(told, reverse=way == "descending")
            assert all(k is None for k in keys[len(told) :])  # what has no number comes last


def key(cell: str, kind: str) -> float | str | None:
    if kind == "text":
        return cell.lower()
    number = re.match(r"[+-]?\d+(\.\d+)?", cell.replace("\u2212", "-"))
    return float(number[0]) if number else None


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_on_a4(name: str, plain: Path, browser: Browser) -> None:
    with opened(browser, place_of(plain, name)) as page:
        page.media("print")
        # nothing is cut off at the right edge, and what is folded on screen has its say on paper
        wide = page.run("document.documentElement.scrollWidth - innerWidth")
        page.resize(794, 1123)  # A4 at 96 dots an inch
        over = page.run("document.documentElement.scrollWidth - innerWidth")
        made = page.pdf()
        quiet(page)
    assert wide <= 0 and over <= 0
    assert made.startswith(b"%PDF-") and len(made) > 10_000
    assert len(re.findall(rb"/Type\s*/Page\b", made)) >= 1


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen(name: str, width: int, plain: Path, browser: Browser) -> None:
    with opened(browser, place_of(plain, name)) as page:
        page.resize(width)
        assert page.run("document.documentElement.scrollWidth") <= width


# ---------------------------------------------------------------------------- accessibility
@pytest.mark.skipif(axe() is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark", "narrow"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(name: str, scheme: str, plain: Path, browser: Browser) -> None:
    """Every rule of WCAG 2.0 to 2.2, levels A and AA, and of best practice that axe-core has."""
    with opened(browser, place_of(plain, name), bypass_policy=True) as page:
        page.media(prefers_color_scheme="dark" if scheme == "dark" else "light")
        page.resize(390 if scheme == "narrow" else 1280)
        page.run("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
        page.run(axe() + ";0")
        found = page.run("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) >= 12  # it looked
    told = [
        f"{rule['id']}: {node['target']} {node['html'][:150]} {node.get('failureSummary', '')}"
        for rule in found["violations"]
        for node in rule["nodes"][:3]
    ]
    assert told == []


@pytest.mark.skipif(axe() is None, reason="axe-core-python is not installed")
def test_axe_would_find_something(tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<!doctype html><html><body><img src='data:,'><p style='color:#ccc'>pale</p>")
    with opened(browser, path, bypass_policy=True) as page:
        page.run(axe() + ";0")
        found = page.run("axe.run(document)")
    assert {"image-alt", "color-contrast", "html-has-lang", "document-title"} <= {
        rule["id"] for rule in found["violations"]
    }
