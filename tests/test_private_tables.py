"""The benchmark of private methods: errors by hand, and what the page says of them."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import private as benchmark
import private_page
from experiments import Experiment, Split
from layout import CEILING

EXPERIMENT = Experiment("one", "One", lambda _: pd.DataFrame(), ("age",), "died", ("1",))


def test_errors_are_mean_total_variations() -> None:
    # column 0: (.5, .5) and (.75, .25): .25; column 1 alike: 0; column 2: (1, 0) and (0, 1): 1
    drawn = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
    real = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]])
    # columns 0 and 1: 00 .5, 11 .5 against 00 .5, 01 .25, 11 .25: .25; with column 2: 1, twice
    assert benchmark.errors(drawn, real) == pytest.approx((1.25 / 3, 2.25 / 3))


def test_what_is_public_comes_from_both_halves() -> None:
    train = pd.DataFrame({"age": ["40", "50.50"], "died": ["0", "0"]})
    holdout = pd.DataFrame({"age": ["", "30"], "died": ["0", "1"]})
    found = benchmark.facts(Split(EXPERIMENT, 0, train, holdout, ""))
    assert found["age"] == {"missing": True, "minimum": 30, "maximum": 50.5, "decimals": 1}
    assert found["died"] == {"missing": False, "categories": ["0", "1"]}


def test_a_peer_that_was_late_is_not_tried_again_on_that_table() -> None:
    late = {"failure": "not finished in 300 CPU s", "most_seconds": 300}
    before = {"one/0/1": late, "two/0/1": {"failure": "failed: x", "most_seconds": 300}}
    options = benchmark.Options(300, 1)
    assert benchmark._hopeless(before, "one/1/3", options) == "not finished in 300 CPU s"
    assert not benchmark._hopeless(before, "two/1/3", options)
    assert not benchmark._hopeless(before, "one/1/3", benchmark.Options(600, 1))


def run(two: float, gap: float = 0.1) -> dict[str, object]:
    scores = {"two": two, "tenths": 0.2, "one": 0.1, "gap": gap, "detection": 0.5}
    return {"scores": scores, "cpu_seconds": 2.0}


def test_the_page_compares_only_what_both_finished(tmp_path: Path) -> None:
    known = {
        CEILING: {"one/0": run(0.05) | {"rows": 100, "columns": 2}},
        "table/mst": {"one/0/1": run(0.10), "one/1/1": run(0.50)},
        "peer": {"one/0/1": run(0.12), "one/1/1": {"failure": "not finished in 300 CPU s"}},
        private_page.FLOOR: {"one/0/1": run(0.20)},
        private_page.FREE: {"one/0/0": run(0.06)},
        "speed": {"10 k × 20/table/mst": {"fit_seconds": 50, "sample_seconds": 20,
                                          "cpu_seconds": 69, "peak_rss_mb": 300}},
    }  # fmt: skip
    (tmp_path / "docs").mkdir()
    private_page.write(known, [EXPERIMENT], tmp_path)
    text = (tmp_path / "docs" / "private.md").read_text("utf-8")
    assert "| `table/mst` | `peer` | -0.020, 1 / 1 | 0.000, 0 / 1 |" in text
    assert "- `peer`: one, not finished in 300 CPU s (ε 1 seed 1)" in text
    assert "| 10 k × 20 `table/mst` | 70.0 | ≤ 60 s | no | 69.0 | 300 |" in text


def test_tables_are_ahead_or_behind_by_the_interval_and_what_is_missing_is_said() -> None:
    known = {
        CEILING: {"one/0": run(0.05) | {"rows": 9, "columns": 2}, "one/1": run(0.05)},
        "table/mst": {"one/0/1": run(0.10, 0.3), "one/1/1": run(0.12, 0.3)},
        "dpmm mst": {"one/0/1": run(0.34, 0.2)},
        "opendp mst": {"one/0/1": run(0.32, 0.3)},
    }
    page = private_page.Page(known, [EXPERIMENT])
    # one run varies by √.0002; t = 12.706 of 1 degree; by √(1/2 + 1) of it: .2200, and the means
    # are .23 and .21 apart. Of the gap nothing varies: .1 is behind, 0 is neither
    text = page.verdicts("1")
    assert "| `table/mst` | `dpmm mst` | 1 / 0 / 0 | 0 / 0 / 1 |" in text
    assert "| `table/mst` | `opendp mst` | 0 / 1 / 0 | 0 / 1 / 0 |" in text
    assert page.behind("1").endswith("\n\n- TSTR gap, one: 0.300; `dpmm mst` 0.200")
    missing = page.unmeasured()
    assert "- `table/mst`: one (ε 3 seed 0, ε 3 seed 1)" in missing
    assert "- `dpmm mst`: one (ε 1 seed 1, ε 3 seed 0, ε 3 seed 1)" in missing
    assert "- `dpmm aim`: one (all)" in missing
