"""What counts foretell: moments and chances by hand, and drawing against training."""

from typing import Any

import numpy as np
import pytest
import torch

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizer import Progress, State
from manikin.synthesizers.events._trajectory_moments import LAST, Moments, since
from manikin.synthesizers.events._trajectory_prior import Prior, Recalled, count, of_places
from manikin.synthesizers.events._trajectory_tokens import DAY_US, NAT, Line, Vocabulary, canonical

CODES = (
    Code("drug", "drug"),
    Code("stay", "visit"),  # stands first at its time
    Code("pain", "condition"),
    Code("death", "death"),
)
DRUG, STAY, PAIN, DEATH = 1, 0, 2, 3  # ranks
SCHEMA = EventSchema(TableSchema(()), CODES, clock="day", declared=True)
WORDS = Vocabulary.of(SCHEMA)
Row = tuple[int, float, int, int]  # subject, day, code, visit


def build(rows: list[Row], n: int) -> Events:
    whose, day, code, visit = zip(*rows, strict=True)
    origin, nat = np.datetime64("2020-01-01", "us"), np.datetime64("NaT", "us")
    time = [nat if np.isnan(d) else origin + np.timedelta64(int(d), "D") for d in day]
    static = Table(TableSchema(()), np.arange(n), {})
    return Events.of(SCHEMA, static, whose, np.array(time), code, visit=visit)


def line_of(events: Events) -> Line:
    return canonical(events, np.arange(len(CODES)), SCHEMA, WORDS)


def by_hand() -> Moments:
    # subject 0: a drug without a time; a stay with drug and pain; pain ten days later, outside;
    # subject 2: two visits at one time, then death a year and a day later; subject 1 has nothing
    rows: list[Row] = [
        (0, np.nan, 0, -1), (0, 3, 1, 0), (0, 3, 2, 0), (0, 3, 0, 0), (0, 13, 2, -1),
        (2, 1, 1, 0), (2, 1, 0, 0), (2, 1, 0, 1), (2, 368, 3, -1),
    ]  # fmt: skip
    return Moments.of(line_of(build(rows, 3)), WORDS)


def test_moments_by_hand() -> None:
    moments = by_hand()
    assert np.diff(moments.first).tolist() == [1, 3, 1, 2, 1, 1]
    assert moments.whose.tolist() == [0, 0, 0, 2, 2, 2]
    # outside and first, opening, outside; opening and first, opening, outside
    assert moments.kind.tolist() == [3, 2, 0, 5, 2, 0]
    assert moments.rank.tolist() == [DRUG, STAY, DRUG, PAIN, PAIN, STAY, DRUG, DRUG, DEATH]


def test_what_was_had_before_by_hand() -> None:
    at, rank, state = by_hand().before(np.arange(6))
    # the drug at the moment before; then stay, drug and pain at the one before, ten days ago;
    # stay and drug at the moment before, though at the same time; then the drug at the one before
    # and the stay, a year and two days ago, before that
    assert sorted(zip(at.tolist(), rank.tolist(), state.tolist(), strict=True)) == [
        (1, DRUG, LAST), (2, STAY, LAST), (2, DRUG, LAST), (2, PAIN, LAST),
        (4, STAY, LAST), (4, DRUG, LAST), (5, STAY, 5), (5, DRUG, LAST),
    ]  # fmt: skip


def test_states_by_time() -> None:
    days = np.array([0, 1.5, 2, 31, 32, 366, 367])
    then = -(days * DAY_US).astype(np.int64)
    none = np.zeros(days.size, bool)
    assert since(np.zeros(7, np.int64), then, none).tolist() == [2, 2, 3, 3, 4, 4, 5]
    assert since(np.full(1, NAT), then[:1], none[:1]).tolist() == [5]  # nobody knows how long ago


def test_chances_of_a_chain_are_those_of_independent_codes() -> None:
    # q = 1/2, 1/4, 1/5 by rank. After the first: p(second) = 1/4, p(third) = 3/4 · 1/5 = 3/20,
    # none follows with 3/4 · 4/5 = 3/5, so that going on has odds of 2 to 3
    prior = Prior(3, torch.tensor([2, 0, 1]))  # number 1 stands first, then 2, then 0
    logits = torch.logit(torch.tensor([[0.5, 0.25, 0.2]]))
    own = torch.log(torch.tensor([[0.1, 0.5], [0.1, 0.5], [0.1, 0.5]]))
    found, more = prior.chain(logits, torch.tensor([0]), own)
    chance = found[0].exp()
    assert chance[2].item() == pytest.approx(1 / 4) and chance[0].item() == pytest.approx(3 / 20)
    assert chance[1].item() == pytest.approx(0.5)  # once more: what twice in a moment says
    assert more.exp().item() == pytest.approx(2 / 3, rel=1e-5)
    # at its beginning: 1/2, 1/2 · 1/4, 1/2 · 3/4 · 1/5
    found, _ = prior.chain(logits, torch.tensor([-1]), own)
    assert found[0].exp()[[1, 2, 0]].tolist() == pytest.approx([1 / 2, 1 / 8, 3 / 40])


def cohort(n: int, *, seed: int = 1) -> Events:
    """Visits ten days apart; who has had the drug has it at nine visits of ten."""
    rng, rows = generator(seed, "counted cohort"), []
    for i in range(n):
        had = False
        for v in range(int(rng.integers(2, 7))):
            rows.append((i, 10.0 * v, 1, v))
            drug = bool(rng.random() < (0.9 if had else 0.2))
            # pain comes with the drug, and hardly ever without
            rows += [(i, 10.0 * v, 0, v)] * drug
            rows += [(i, 10.0 * v, 2, v)] * bool(rng.random() < (0.8 if drug else 0.05))
            had = had or drug
    return build(rows, n)


def counted(events: Events) -> tuple[Prior, Moments, Line]:
    line = line_of(events)
    prior, moments = Prior(len(CODES), torch.from_numpy(WORDS.rank)), Moments.of(line, WORDS)
    count(prior, moments, np.arange(events.n_subjects), 5, seed=1)
    return prior, moments, line


def test_counts_find_what_comes_back_and_what_goes_together() -> None:
    prior, _, _ = counted(cohort(1500))
    opening = torch.sigmoid(prior.odds[2])  # of moments that open a visit, but for the first
    assert opening[0, DRUG].item() == pytest.approx(0.2, abs=0.03)
    assert opening[LAST, DRUG].item() == pytest.approx(0.9, abs=0.02)
    assert opening[LAST, STAY] > 0.95
    assert prior.odds[2, 0, DEATH] < -20  # nobody dies
    # of first moments: q(pain) = .2 · .8 + .8 · .05 = .2, with the drug .8: log odds higher by
    # 2.8; of those who have the drug at nine of ten, .725: higher by .4
    assert 0.4 < prior.lift[DRUG, PAIN] < 2.8
    assert prior.lift[PAIN, DRUG] == 0  # pain stands after the drug


def test_few_subjects_are_not_told_of() -> None:
    # four subjects have the pain, at many visits, and always with the drug
    rows = [(i, 10.0 * v, 1, v) for i in range(80) for v in range(6)]
    rows += [(i, 10.0 * v, 0, v) for i in range(4, 80) for v in range(3)]
    few = rows + [(i, 10.0 * v, c, v) for i in range(4) for v in range(6) for c in (0, 2)]
    prior, _, _ = counted(build(few, 80))
    assert prior.lift[DRUG, PAIN] == 0 and prior.led[PAIN, PAIN] == 0
    # had or not, the pain is as frequent as it is of all, times what the past does to codes
    kinds = prior.odds[2, :, PAIN] - prior.odds[2, :, DRUG]
    assert torch.sigmoid(prior.odds[2, LAST, PAIN]) < 0.6  # theirs would be 1
    assert torch.isfinite(kinds).all()


@pytest.mark.parametrize("begun", [False, True])
def test_drawing_asks_what_training_asked(begun: bool) -> None:
    events = cohort(12, seed=3)
    prior, moments, line = counted(cohort(200))
    moments = Moments.of(line_of(events), WORDS)
    line = line_of(events)
    own = torch.log(torch.full((len(CODES), 2), 0.25))
    count_of = np.diff(line.starts)
    n, half = events.n_subjects, 3
    last = np.full((n, int(count_of.max())), -1)
    coming = last.copy()
    for i in range(n):
        at = np.arange(line.starts[i], line.starts[i + 1])
        coming[i, : at.size], last[i, 1 : at.size] = at, at[:-1]
    kinds, *asked = (torch.from_numpy(part) for part in of_places(moments, last, coming))
    found, more = prior.foretold(kinds, *asked, own)
    who = np.arange(n)
    recalled = Recalled.new(n, prior)
    if begun:  # after three events, as one would go on
        cut = events.rows(np.concatenate([line.starts[i] + np.arange(half) for i in range(n)]))
        recalled = Recalled.of(prior, Moments.of(line_of(cut), WORDS), who)
    for i in range(half if begun else 0, int(count_of.max())):
        kept = np.flatnonzero(count_of[who] > i)
        who, recalled = who[kept], recalled[kept]
        event = line.starts[who] + i
        former = np.where(i > 0, line.code[event - 1], -1)
        time = np.where(i > 0, line.time[event - 1], NAT)
        same, goes_on = recalled.at_moment(prior, time, former, own)
        fresh = recalled.at_next(prior, line.time[event], line.relation[event], own)
        opens = np.isin(event, moments.first[:-1])
        drawn = torch.where(torch.from_numpy(opens)[:, None], fresh, same)
        assert torch.allclose(drawn, found[who, i], atol=1e-4)
        if i:
            assert torch.allclose(goes_on, more[who, i], atol=1e-3)
        recalled.move(prior, opens, line.time[event], line.relation[event], line.code[event])


def test_the_decoder_begins_where_counting_ends() -> None:
    # five steps are next to none: what is foretold better is so by counts alone
    chosen: dict[str, Any] = {
        "table": "table/marginals",
        "steps": 5,
        "width": 16,
        "depth": 1,
        "prior": True,
    }
    losses: list[float] = []
    for prior in (True, False):
        told: list[float] = []

        def watch(progress: Progress, told: list[float] = told) -> None:
            told += [v for name, v in progress.figures.items() if name == "held-out loss"]

        recipe = catalogue.build("events/trajectory", chosen | {"prior": prior})
        recipe.fit(cohort(300), seed=1, watch=watch)
        losses.append(told[-1])
    assert losses[0] < losses[1] - 0.1  # nats an event


def test_counts_of_a_stranger_are_refused() -> None:
    recipe = catalogue.build(
        "events/trajectory",
        {"table": "table/marginals", "steps": 2, "width": 16, "depth": 1, "prior": True},
    )
    model = recipe.fit(cohort(40), seed=1)
    state = model.state()
    for name, value in (("odds", 1e9), ("lift", 1e9), ("led", -1e9), ("linked", 77.0)):
        key = f"network/prior.{name}"
        broken = {**state.arrays, key: np.full_like(state.arrays[key], value)}
        with pytest.raises(InputError):
            recipe.restore(model.schema, State(broken, state.values))
