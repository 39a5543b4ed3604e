"""How much another fit would differ: the formula by hand, and recipes that do and do not differ."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manikin import pipeline
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, Stopped
from manikin.metrics.score import Score, Trial
from manikin.refits import DRAWS, Again, Refits, fit_again
from manikin.release.record import read_record
from manikin.sampling import Plan

SCHEMA = TableSchema((Column("x", "continuous", decimals=6),))


def numbers(n: int, seed: int, shift: float = 0.0, first: int = 0) -> Table:
    values = np.random.default_rng(seed).normal(shift, 1, n)
    return Table(SCHEMA, np.arange(first, first + n), {"x": values})


@dataclass(frozen=True)
class Drifting:
    """A recipe whose fits lie apart by `spread`, and whose draws differ by chance alone."""

    spread: float

    def fit(self, data: Table, *, seed: int, budget: Any = None, watch: Any = None) -> Any:
        shift = self.spread * np.random.default_rng(seed).normal()

        class Model:
            schema = SCHEMA

            def sample(self, n: int, *, seed: int) -> Table:
                return numbers(n, seed, shift)

        return Model()


def mean(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    value = float(trial.synthetic.columns["x"].mean())
    return (Score("fidelity/mean", value, (value - 0.1, value + 0.1)),)


def again(spread: float, n: int = 600) -> Again:
    trial = Trial(numbers(n, 0), numbers(n // 2, 1, first=n), numbers(n, 2))
    return Again(Drifting(spread), trial, n, Plan(), {"fidelity/mean": mean}, lambda one: one, 7)


def test_the_combined_interval_by_hand() -> None:
    """Means .1 .2 .3: B = .01, (1 + 1/3) B = .013333; an arm of .196 is U = .01.

    T = .023333, ν = 2 (1 + .75)² = 6.125, t(.975, 6.125) = 2.435, arm = 2.435 · .15275 = .372.
    """
    values = np.repeat([[0.1], [0.2], [0.3]], DRAWS, axis=1)
    refits = Refits({("fidelity/mean", "all"): values}, (1, 2, 3), own_split=False)
    (score,) = refits.widened([Score("fidelity/mean", 0.5, (0.304, 0.598))])
    assert score.value == 0.5  # the released rows' own
    assert score.interval[0] == pytest.approx(0.5 - 0.372, abs=5e-4)
    # the arm above is .098, U = .0025, T = .015833, ν = 2 · 1.1875² = 2.820, t = 3.302
    assert score.interval[1] == pytest.approx(0.5 + 3.302 * math.sqrt(0.0025 + 0.013333), abs=2e-3)
    assert "3 refits × 5 draws: mean 0.200, standard deviation between refits 0.100" in score.note


def test_refits_that_agree_widen_nothing_and_areas_stay_below_one() -> None:
    same = Refits({("m.auc", "all"): np.full((3, DRAWS), 0.9)}, (1, 2, 3), False)
    (score,) = same.widened([Score("m.auc", 0.9, (0.8, 0.99))])
    assert score.interval == (0.8, 0.99)
    apart = Refits({("m.auc", "all"): np.repeat([[0.5], [0.9]], DRAWS, 1)}, (1, 2), False)
    (score,) = apart.widened([Score("m.auc", 0.9, (0.8, 0.99))])
    assert score.interval == (0.0, 1.0)
    rates = Refits({("m.tpr_at_1", "all"): np.repeat([[0.0], [0.1]], DRAWS, 1)}, (1, 2), False)
    (score,) = rates.widened([Score("m.tpr_at_1", 0.01, (0.0, 0.03))])
    assert score.interval[0] == 0.0


def test_what_was_not_scored_again_or_is_no_number_stays() -> None:
    refits = Refits({("m", "all"): np.full((2, DRAWS), np.nan)}, (1, 2), False)
    nothing = Score("m", math.nan, (math.nan, math.nan), note="none")
    other = Score("n", 0.5, (0.4, 0.6))
    assert refits.widened([nothing, other])[0].note == "none"
    assert refits.widened([other]) == (other,)
    assert refits.widened([Score("m", 0.5, (0.4, 0.6))])[0].interval == (0.4, 0.6)


def test_a_recipe_that_differs_by_seed_shows_and_one_that_does_not_does_not() -> None:
    steady, drifting = (
        fit_again(again(0.0), 4, watch=lambda p: None),
        fit_again(again(1.0), 4, watch=lambda p: None),
    )
    assert steady is not None and drifting is not None
    (calm,), (moved,) = (
        found.widened([Score("fidelity/mean", 0.0, (-0.1, 0.1))]) for found in (steady, drifting)
    )
    assert calm.interval[1] < 0.2  # draws of 600: 1 / √600 = .04 each, .018 a refit
    assert moved.interval[1] > 0.5
    told = drifting.facts()["between"][0]  # type: ignore[index]
    assert told["sd_refits"] > 5 * told["sd_draws"] > 0
    assert told["sd_draws"] == pytest.approx(0.041, abs=0.02)


def test_small_cohorts_are_split_anew_and_nobody_is_on_both_sides() -> None:
    seen: list[tuple[frozenset[int], frozenset[int]]] = []

    def sides(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
        held = frozenset(trial.holdout.subjects.tolist())
        seen.append((frozenset(trial.train.subjects.tolist()), held))
        return ()

    found = fit_again(
        replace(again(0.0, 200), metrics={"fidelity/sides": sides}), 3, watch=lambda p: None
    )
    assert found is not None and found.own_split and "another split" in found.told
    assert len(set(seen)) == 3
    assert all(not train & held and len(train | held) == 300 for train, held in seen)
    seen.clear()
    large = fit_again(
        replace(again(0.0, 400), metrics={"fidelity/sides": sides}), 2, watch=lambda p: None
    )
    assert large is not None and not large.own_split and len(set(seen)) == 1


def test_a_refit_can_be_stopped_and_ends_with_the_time() -> None:
    with pytest.raises(Stopped):
        fit_again(again(0.0), 2, watch=lambda p: True)
    assert fit_again(again(0.0), 2, watch=lambda p: None, over=lambda: True) is None


@pytest.mark.parametrize("n", [-1, 1, 51])
def test_a_number_of_refits_without_variance_is_refused(n: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="refits"):
        pipeline.synthesize(tmp_path / "none.csv", out=tmp_path / "r", refits=n)


def test_refits_reach_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    rng = np.random.default_rng(0)
    lines = [
        f"{a},{'FM'[b]}"
        for a, b in zip(rng.integers(20, 90, 200), rng.integers(0, 2, 200), strict=True)
    ]
    (tmp_path / "p.csv").write_text("\n".join(["age,sex", *lines]) + "\n")
    one, two = (
        pipeline.synthesize(
            tmp_path / "p.csv",
            out=tmp_path / f"r{refits}",
            synthesizer="table/marginals",
            profile="quick",
            refits=refits,
        )
        for refits in (0, 3)
    )
    assert one.data is not None and two.data is not None
    assert one.data.read_bytes() == two.data.read_bytes()
    before = {(s.metric, s.group): s for s in one.scores}
    wider = 0
    for score in two.scores:
        if "shadow" in score.group:
            continue  # the attack that comes with refits
        assert score.value == pytest.approx(before[score.metric, score.group].value, nan_ok=True)
        if "3 refits × 5 draws" in score.note:
            old = before[score.metric, score.group].interval
            wider += score.interval[1] - score.interval[0] > old[1] - old[0]
    assert wider > 3 and any(score.group == "shadow" for score in two.scores)
    entries = {entry.event: entry.content for entry in read_record(two.record)}
    assert entries["refitted"]["refits"] == 3 and len(entries["refitted"]["seeds"]) == 3
    assert entries["refitted"]["own_split"] is True
    assert [e.event for e in read_record(two.record)][-3:] == ["refitted", "judged", "closed"]
