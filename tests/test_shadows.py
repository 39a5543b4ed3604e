"""The attack by shadow fits on the road: what it fits to, what it finds, where it says why not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manikin import pipeline
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import NotSupported, Stopped
from manikin.metrics.score import Score, Trial
from manikin.refits import Again
from manikin.release.record import read_record
from manikin.sampling import Plan
from manikin.shadows import beside, shadow_scores

D = 4
SCHEMA = TableSchema(tuple(Column(f"x{j}", "continuous", decimals=6) for j in range(D)))


def patients(n: int, first: int) -> Table:
    values = np.random.default_rng(first).normal(size=(n, D))
    return Table(SCHEMA, first + np.arange(n), {f"x{j}": values[:, j] for j in range(D)})


@dataclass(frozen=True)
class Copier:
    """Draws training rows again, a share of them; the others are strangers."""

    share: float
    refuses: bool = False

    def fit(self, data: Table, *, seed: int, budget: Any = None, watch: Any = None) -> Any:
        if self.refuses:
            raise NotSupported("too few rows for this recipe")
        share = self.share

        class Model:
            schema = SCHEMA

            def sample(self, n: int, *, seed: int) -> Table:
                rng = np.random.default_rng(seed)
                drawn = rng.integers(0, data.n_rows, n)
                copied = rng.random(n) < share
                fresh = rng.normal(size=(n, D))
                columns = {
                    f"x{j}": np.where(copied, data.columns[f"x{j}"][drawn], fresh[:, j])
                    for j in range(D)
                }
                return Table(SCHEMA, np.arange(n), columns)

        return Model()


def again(recipe: Any, n: int = 400) -> Again:
    train, held = patients(n, 10_000), patients(n, 20_000)
    made = recipe if not getattr(recipe, "refuses", False) else Copier(0.0)
    drawn = made.fit(train, seed=0).sample(n, seed=99)
    return Again(recipe, Trial(train, held, drawn), n, Plan(), {}, lambda one: one, 7)


def test_a_copier_is_caught_and_a_stranger_is_not() -> None:
    told: list[str] = []
    leaky = shadow_scores(again(Copier(0.8)), 3, watch=lambda p: told.append(p.what))
    first = leaky[0]
    # exp(-.8) = .45 of members are drawn by no row: at best ½ + .55/2 = .78
    assert first.group == "shadow" and 0.6 < first.interval[0] and first.value < 0.86
    assert first.curve and first.ceiling == 0.5
    assert "4 shadow releases" in first.note and any("shadow fits: 4 of 4" in w for w in told)
    blind = shadow_scores(again(Copier(0.0)), 4, watch=lambda p: None)
    assert blind[0].interval[0] <= 0.5


def test_where_it_cannot_be_run_it_says_why() -> None:
    (refused,) = shadow_scores(again(Copier(0.5, refuses=True)), 3, watch=lambda p: None)
    assert refused.group == "shadow" and refused.value != refused.value
    assert "too few rows" in refused.note
    (late,) = shadow_scores(again(Copier(0.5)), 3, watch=lambda p: None, over=lambda: True)
    assert "the time asked for was over" in late.note
    with pytest.raises(Stopped):
        shadow_scores(again(Copier(0.5)), 3, watch=lambda p: True)


def test_its_scores_stand_beside_the_other_attacks() -> None:
    def named(*names: str) -> list[Score]:
        return [Score(name, 0.5, (0.4, 0.6)) for name in names]

    shadow = tuple(named("privacy/membership.epsilon"))
    others = named("fidelity/a", "privacy/membership.auc", "privacy/nearest")
    assert beside(others, shadow) == (*others[:2], *shadow, others[2])
    assert beside(others[:1], shadow) == (others[0], *shadow)


def test_refits_bring_the_attack_into_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    rng = np.random.default_rng(0)
    lines = [f"{a},{b:.1f}" for a, b in zip(rng.integers(20, 90, 300), rng.normal(size=300))]  # noqa: B905
    (tmp_path / "p.csv").write_text("\n".join(["age,marker", *lines]) + "\n")
    done = pipeline.synthesize(
        tmp_path / "p.csv",
        out=tmp_path / "r",
        synthesizer="table/marginals",
        profile="quick",
        refits=3,
    )
    found = {(s.metric, s.group): s for s in done.scores}
    assert found["privacy/membership.auc", "shadow"].interval[0] <= 0.5
    assert found["privacy/membership.auc", "attack=shadow tracing"].curve
    entries = {entry.event: entry.content for entry in read_record(done.record)}
    assert any(s["group"] == "shadow" for s in entries["judged"]["scores"])
    assert "shadow" in (tmp_path / "r" / "report.json").read_text()
