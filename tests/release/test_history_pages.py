"""What a report shows of histories: nobody real, no small cell, and what is drawn is what is."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import report

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.summaries import summaries
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.metrics.score import Score, Trial
from manikin.release.disclosure import assert_disclosable, violations
from manikin.release.histories import HistoryPages, history_pages, holders_of, real_histories
from manikin.release.html import render_html
from manikin.release.report import Report

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from made_histories import patients


@pytest.fixture(scope="module")
def trial() -> Trial[Events]:
    return Trial(patients(120, 1), patients(80, 2), patients(120, 3))


@pytest.fixture(scope="module")
def pages(trial: Trial[Events]) -> HistoryPages:
    return history_pages(trial)


def made(trial: Trial[Events], pages: HistoryPages) -> tuple[Report, Table, Events]:
    held = trial.holdout.renumbered(trial.train.n_subjects)
    flat = Trial(*(summaries(part, trial.train) for part in (trial.train, held, trial.synthetic)))
    real = Table.concatenate([flat.train, flat.holdout])
    return report(flat, scores=(), histories=pages), real, real_histories(trial)


def plain(rows: list[tuple[int, int, int, float]], n: int, codes: tuple[Code, ...]) -> Events:
    """Histories of (subject, day, code, value)."""
    schema = EventSchema(TableSchema(()), codes)
    start = np.datetime64("2020-01-01", "us")
    who, day, code, value = (np.array(part) for part in zip(*rows, strict=True))
    time = start + day * np.timedelta64(1, "D")
    return Events.of(schema, Table(schema.static, np.arange(n), {}), who, time, code, value)


def test_shares_of_codes_worked_by_hand() -> None:
    codes = (Code("all"), Code("half"), Code("ten"), Code("but ten"))
    rows: list[tuple[int, int, int, float]] = []
    for subject in range(40):
        has = [True, subject % 2 == 0, subject < 10, subject >= 10]
        rows += [(subject, 0, i, np.nan) for i in range(4) if has[i]]
    real = plain(rows, 40, codes)
    drawn = plain([(s, 0, 1, np.nan) for s in range(10)], 40, codes)
    found = history_pages(Trial(real, real, drawn))
    # both real parts are these 40: eighty with "all", forty with "half", twenty with "ten"
    assert [(c.name, c.real, c.synthetic) for c in found.codes] == [
        ("all", 1, 0), ("but ten", 0.75, 0), ("half", 0.5, 0.25), ("ten", 0.25, 0),
    ]  # fmt: skip
    nobody = real.take(np.arange(0))
    alone = history_pages(Trial(real, nobody, drawn))
    # ten have "ten", and ten lack "but ten": either would tell of ten
    assert [c.name for c in alone.codes] == ["all", "half"]
    assert alone.n_hidden == 2


def test_a_course_worked_by_hand() -> None:
    codes = (Code("x", "measurement", numeric=True),)
    rows = [(s, d, 0, float(d)) for s in range(30) for d in range(0, 40, 10)]
    real = plain(rows, 30, codes)
    drawn = plain([(s, d, c, v + 1) for s, d, c, v in rows], 30, codes)
    (fan,) = history_pages(Trial(real, real, drawn)).fans
    assert [band.low for band in fan.bands] == [0, 10, 20, 30]
    for band in fan.bands:
        assert band.real == (band.low,) * 3
        assert band.synthetic == (band.low + 1,) * 3
    few = plain([r for r in rows if r[1] < 30 or r[0] < 10], 30, codes)
    (fan,) = history_pages(Trial(few, few.take(np.arange(0)), drawn)).fans
    assert all(band.low < 30 for band in fan.bands)  # ten subjects are seen that late


def test_courses_are_of_different_tests_first() -> None:
    names = ("VS/P/LYING", "VS/P/STANDING", "VS/T", "x", "x/y/z", "x/y/w")
    codes = tuple(Code(name, "measurement", numeric=True) for name in names)
    real = plain(
        [(s, d, c, float(d)) for s in range(30) for d in range(4) for c in range(6)], 30, codes
    )
    drawn = [fan.name for fan in history_pages(Trial(real, real, real)).fans]
    assert drawn == ["VS/P/LYING", "VS/T", "x", "x/y/z", "VS/P/STANDING", "x/y/w"]


def test_timelines_are_of_synthetic_patients_in_order(
    trial: Trial[Events], pages: HistoryPages
) -> None:
    sizes = [len(timeline.marks) for timeline in pages.timelines]
    assert sizes == sorted(sizes) and len(sizes) == 8
    assert set(sizes) <= set(trial.synthetic.counts.tolist())
    assert all(timeline.marks[0].day == 0 for timeline in pages.timelines)
    assert all(m.day <= timeline.days for timeline in pages.timelines for m in timeline.marks)


def test_a_rare_code_is_not_named() -> None:
    codes = (Code("common"), Code("SECRET", "drug"))
    real = plain([(s, d, 0, np.nan) for s in range(30) for d in range(3)] + [(0, 1, 1, np.nan)], 30,
                 codes)  # fmt: skip
    drawn = plain([(s, d, c, np.nan) for s in range(30) for d in range(3) for c in (0, 1)], 30,
                  codes)  # fmt: skip
    trial = Trial(real, real, drawn)
    found = history_pages(trial)
    written = render_html(made(trial, found)[0])
    assert "SECRET" not in str(found) and "a rarer drug" in str(found)
    assert written.count("SECRET") == 0


def test_the_report_is_disclosable_and_what_is_tampered_with_is_not(
    trial: Trial[Events], pages: HistoryPages
) -> None:
    page, table, real = made(trial, pages)
    assert_disclosable(page, table, None, real)
    with pytest.raises(PrivacyError):
        assert_disclosable(page, table)  # histories that nobody counted
    assert pages.codes and pages.fans
    assert all(holders_of(real)[real.schema.named[c.name][0]] >= 11 for c in pages.codes)
    rare = next(c.name for c, n in zip(real.schema.codes, holders_of(real), strict=True) if n < 11)
    fan = pages.fans[0]
    band = replace(fan.bands[-1], low=1e6, high=None)
    wide = pages.distributions[0]
    cell = replace(wide.bins[-1], low=float(real.counts.max()), high=None, real=0.1)
    wrong: list[dict[str, Any]] = [
        {"codes": (replace(pages.codes[0], name=rare),)},
        {"fans": (replace(fan, bands=(*fan.bands, band)),)},
        {"distributions": (replace(wide, bins=(*wide.bins[:-1], cell)),)},
        {"timelines": (replace(pages.timelines[0], named=(rare,)),)},
    ]
    for change in wrong:
        bad = replace(page, histories=replace(pages, **change))
        assert list(violations(bad, table, None, real)), change


def test_the_page_says_what_was_drawn(trial: Trial[Events], pages: HistoryPages) -> None:
    flat = Trial(
        *(summaries(p, trial.train) for p in (trial.train, trial.holdout, trial.synthetic))
    )
    score = Score("fidelity/trends", 0.9, (0.8, 0.95), floor=0.5, ceiling=0.93)
    page = report(flat, scores=(score,), histories=pages)
    written = render_html(page)
    assert 'id="histories"' in written and "Over time" in written
    assert "Independent visits or columns" in written
    assert written.count('class="figure timeline"') == 8
    assert written.count("<circle") >= len(pages.codes)
    assert history_pages(trial) == pages  # the same again
    assert page.to_json()["histories"]["n_events"] == trial.synthetic.n_events
    without = render_html(report())
    assert 'id="histories"' not in without and "Independent columns" in without


def test_hostile_names_are_only_text(trial: Trial[Events]) -> None:
    evil = "<script>owned()</script>"
    schema = trial.train.schema
    codes = tuple(replace(c, name=f"{evil}{c.name}", unit=evil) for c in schema.codes)
    turned = Trial(*(
        replace(part, schema=replace(schema, codes=codes))
        for part in (trial.train, trial.holdout, trial.synthetic)
    ))  # fmt: skip
    page, table, real = made(turned, history_pages(turned))
    assert_disclosable(page, table, None, real)
    assert "<script>owned" not in render_html(page)


@pytest.mark.parametrize("rows", [[], [(0, 0, 0, 1.0)], [(0, 0, 0, np.nan), (0, 0, 1, 2.0)]])
def test_next_to_nothing_can_be_drawn(rows: list[tuple[int, int, int, float]]) -> None:
    codes = (Code("a"), Code("b", numeric=True))
    schema = EventSchema(TableSchema(()), codes)
    none = Events.of(schema, Table(schema.static, np.arange(12), {}), [], np.empty(0, "M8[us]"), [])
    drawn = plain(rows, 12, codes) if rows else none
    real = plain([(s, 0, 0, np.nan) for s in range(12)], 12, codes)
    for trial in (Trial(real, none, drawn), Trial(none, none, drawn)):
        page, table, both = made(trial, history_pages(trial))
        assert_disclosable(page, table, None, both)
        assert 'id="histories"' in render_html(page)
