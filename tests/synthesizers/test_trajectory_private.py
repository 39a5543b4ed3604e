"""Trajectories under a budget: what is read, what is paid, what comes out."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.nn.private import clipped_sum
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Sampled, is_private
from manikin.synthesizer import State
from manikin.synthesizers.events import _trajectory_private as private
from manikin.synthesizers.events._trajectory_subjects import first_times
from manikin.synthesizers.events._trajectory_tokens import NAT, Vocabulary, canonical, slots
from manikin.synthesizers.events._trajectory_training import objective
from manikin.synthesizers.events.trajectory import Trajectory

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),), declared=True)
CODES = (
    Code("stay", "visit"),
    Code("weight", "measurement", numeric=True, decimals=1, minimum=30.0, maximum=200.0),
    Code("unbounded", "measurement", numeric=True),
    Code("smokes", "observation", levels=("no", "yes")),
    Code("never", "condition"),
)
SCHEMA = EventSchema(STATIC, CODES, declared=True, sex="sex", clock="day")
WORDS = Vocabulary.of(SCHEMA)
CHOSEN = {"table": "table/argn", "recipe": "steps=5", "width": 16, "depth": 1, "steps": 12,
          "most_events": 8, "context": 32, "latent": 2}  # fmt: skip


def histories(n: int = 120, *, later: int = 0) -> Events:
    """Three visits of three events each; `later` ones more at the end."""
    rng = generator(1, "private histories")
    static = Table(STATIC, np.arange(n), {"sex": rng.integers(0, 2, n).astype(np.int32)})
    rows: list[tuple[Any, ...]] = []
    for i in range(n):
        own, day = rng.normal(80, 10), np.datetime64("2019-01-01", "us")
        for _ in range(3 + later):
            rows.append((i, day, 0, np.nan, -1))
            rows.append((i, day, 1, float(np.round(own + rng.normal(), 1)), -1))
            rows.append((i, day, 3, np.nan, i % 2))
            day = day + np.timedelta64(30, "D")
    whose, time, code, value, text = zip(*rows, strict=True)
    return Events.of(SCHEMA, static, whose, np.array(time), code, value, text, texts=("no", "yes"))


@pytest.fixture(scope="module")
def fitted() -> Any:
    recipe = catalogue.build("events/trajectory", CHOSEN)
    return recipe.fit(histories(), seed=1, budget=Budget(4.0))


def test_all_that_was_released_was_paid_for(fitted: Any) -> None:
    assert is_private(fitted.ledger)
    assert spent(fitted.ledger, 1e-6).epsilon <= 4.0 * (1 + 1e-6)
    steps = [release for release in fitted.ledger if isinstance(release, Sampled)]
    assert len(steps) == 2  # those of the table synthesizer, and the network's own
    assert any("first 8 events" in note for note in fitted.notes)


def test_what_comes_out_keeps_to_what_is_declared(fitted: Any) -> None:
    drawn = fitted.sample(80, seed=2)
    assert drawn.n_subjects == 80 and 0 < drawn.counts.max() <= 8
    known = drawn.value[~np.isnan(drawn.value)]
    assert known.size and known.min() >= 30 and known.max() <= 200
    assert np.isnan(drawn.value[drawn.code == 2]).all()
    assert {drawn.texts[t] for t in drawn.text if t >= 0} <= {"no", "yes"}


def test_a_file_gives_the_same_model_and_ledger(fitted: Any) -> None:
    state = fitted.state()
    values = json.loads(json.dumps(state.values, allow_nan=False))
    again = catalogue.build("events/trajectory", CHOSEN).restore(
        fitted.schema, State(state.arrays, values)
    )
    assert again.ledger == fitted.ledger
    one, two = fitted.sample(20, seed=2), again.sample(20, seed=2)
    assert one.code.tobytes() == two.code.tobytes()
    assert one.value.tobytes() == two.value.tobytes()


@pytest.mark.parametrize("part", ["histories", "static", "table"])
def test_what_was_not_declared_or_cannot_be_paid_for_is_refused(part: str) -> None:
    events, chosen = histories(20), dict(CHOSEN)
    if part == "histories":
        events = replace(events, schema=replace(SCHEMA, declared=False))
    if part == "static":
        plain = replace(STATIC, declared=False)
        table = Table(plain, events.subjects, events.static.columns)
        events = replace(events, schema=replace(SCHEMA, static=plain), static=table)
    if part == "table":
        chosen |= {"table": "table/marginals", "recipe": ""}
    with pytest.raises(PrivacyError):
        catalogue.build("events/trajectory", chosen).fit(events, seed=1, budget=Budget(5.0))


def places_of(events: Events, most: int) -> Any:
    line = private.first_events(canonical(events, np.arange(5), SCHEMA, WORDS), most)
    scales = private.public_scales(SCHEMA, 1.0)
    births = np.full(events.n_subjects, NAT)
    return line, scales, slots(line, WORDS, scales, births, first_times(line))


def test_events_beyond_those_that_count_change_nothing() -> None:
    _, _, one = places_of(histories(6), 8)
    _, _, two = places_of(histories(6, later=0).rows(np.arange(54)), 8)
    _, _, three = places_of(histories(6).rows(np.arange(54) % 9 < 8), 8)
    for name in ("words", "shown", "remaining", "target", "numbers", "past"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
        assert np.array_equal(getattr(one, name), getattr(three, name))


def test_scales_are_of_declared_bounds_alone() -> None:
    scales = private.public_scales(SCHEMA, 1.0)
    assert scales["value"].lined.tolist() == [False, True, False, False, False]
    ends = scales["value"].knots[1][[0, -1]]
    assert ends.tolist() == [30.0, 200.0]
    assert np.isnan(scales["gap"].atoms).all()


def test_each_subjects_gradient_is_clipped_as_if_it_were_alone() -> None:
    _, scales, places = places_of(histories(4), 8)

    class Facts:
        facts = 2

    recipe = Trajectory(width=8, depth=1, heads=2, latent=2, dropout=0.0)
    sizes = recipe._sizes(WORDS, scales, Facts())  # type: ignore[arg-type]
    network = recipe._network(sizes, torch.Generator().manual_seed(1), WORDS, False)
    private.open_heads(network, WORDS, scales)
    with torch.no_grad():  # heads begin at nothing: give every part a slope
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator()))
    network.eval()  # no part of a record is hidden from the posterior by chance
    batch = private._batch(places, np.ones((4, 2), np.float32), 9)
    of = objective(free=0.0, counted=8.0, blind=1.0)

    def losses(who: torch.Tensor) -> torch.Tensor:
        torch_rng = torch.Generator().manual_seed(3)
        every = batch(torch.arange(4)[:, None])
        whole = of(network, every, torch_rng)  # noise is that of all four
        return whole[who]

    clip = 0.5
    total = clipped_sum(network, lambda: losses(torch.arange(4)), torch.arange(4), clip)
    wanted = {p: torch.zeros_like(p) for p in network.parameters()}
    for i in range(4):
        made = torch.autograd.grad(losses(torch.tensor([i])).sum(), list(wanted), allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, made, strict=True)]
        norm = torch.stack([g.square().sum() for g in found]).sum().sqrt()
        assert norm > clip
        for parameter, gradient in zip(list(wanted), found, strict=True):
            wanted[parameter] += gradient * clip / norm
    for parameter, gradient in wanted.items():
        assert torch.allclose(total[parameter], gradient, atol=2e-4, rtol=1e-2)


def test_nobody_at_all_in_a_step_is_a_batch() -> None:
    _, _, places = places_of(histories(3), 8)
    batch = private._batch(places, np.zeros((3, 1), np.float32), 9)
    assert all(len(part) == 0 for part in batch(torch.zeros(0, 1).long()))
