import math

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.controls import copy_share
from manikin.metrics.intervals import binomial, difference
from manikin.metrics.privacy._known import given, ranked, sought, tolerance
from manikin.metrics.privacy._success import Success, by_subject, rate, residual, worst
from manikin.metrics.privacy.attribute import _Guess, _unanimous, attribute
from manikin.metrics.score import Score, Trial


def secretive(make_table, rng, n, **more):
    """Four known numbers, and a bit and a number that nothing tells: all there is to leak."""
    return make_table(
        **{name: rng.normal(size=n).round(3) for name in "wxyz"},
        bit=[["a", "b"][i] for i in rng.integers(0, 2, n)],
        dose=rng.normal(50, 10, n).round(3),
        roles={"bit": ("sensitive",), "dose": ("sensitive",)}
        | {name: ("quasi_identifier",) for name in "wxyz"},
        **more,
    )


def named(scores: tuple[Score, ...]) -> dict[tuple[str, str], Score]:
    return {(s.metric.removeprefix("privacy/attribute."), s.group): s for s in scores}


# ── Who knows what ─────────────────────────────────────────────────────────────────────────────


def test_the_columns_sought_are_the_sensitive_ones_else_the_target_else_the_informative(make_table):
    cells = {
        "even": ["a", "b", "a", "b"] * 5,
        "skew": ["a", "a", "a", "b"] * 5,
        "lone": ["a"] * 20,  # one level: nothing to learn
        "rare": ["a"] * 19 + ["b"],  # 95 % hold one level: hardly more
        "age": list(range(20)),
        "dose": list(range(20)),
    }

    def names(roles):
        return tuple(c.name for c in sought(make_table(roles=roles, **cells)))

    assert names({"age": ("sensitive",), "skew": ("target",)}) == ("age",)
    assert names({"skew": ("target",)}) == ("skew",)
    assert names({}) == ("even", "skew", "age")
    assert names({"age": ("quasi_identifier",)}) == ("even", "skew", "dose")
    schema = make_table(roles={"age": ("quasi_identifier",)}, **cells).schema
    assert given(schema, "even") == ("age",) and given(schema, "age") == ()
    assert given(make_table(**cells).schema, "age") == ("even", "skew", "lone", "rare", "dose")


def test_a_hit_of_a_number_is_an_absolute_distance(make_table):
    table = make_table(y=[0, 1, 2, 3, 4, 5, 6, 7, 8], x=[0] * 9)
    assert tolerance(table, table.schema["y"]) == pytest.approx(0.2)  # 5 % of 6 - 2
    assert tolerance(table, table.schema["x"]) == 0.5e-6  # no spread: what reads the same
    told = make_table(y=[10.0, -10.0, 10.1, None], x=[0] * 4)
    guess = _Guess(Trial(table, table, table), table.schema["y"], ("x",), 0.2)
    # a negative guess is no hit for being negative, nor a large one for a small share of itself
    right = guess.right(np.array([-50.0, -10.3, 10.0, 5.0]), told)
    assert right[:3].tolist() == [0, 0, 1] and np.isnan(right[3])


def test_ranks_among_the_synthetic_values_by_hand(make_table):
    told = make_table(x=[5.0, 1.0, 5.0, None])  # values 1 and 5
    asked = make_table(x=[0.0, 1.0, 3.0, 5.0, 9.0, None])
    assert ranked(told, asked, ["x"])[:, 0].tolist() == [0, 1, 2, 3, 4, -1]


# ── Rates and what they leave ──────────────────────────────────────────────────────────────────


def test_a_subject_counts_once():
    everyone = np.array([3, 5, 8, 9])
    right = np.array([1.0, 0.0, 1.0, np.nan, np.nan])
    found = by_subject(right, np.array([3, 3, 5, 5, 9]), everyone)
    assert found[:2].tolist() == [0.5, 1.0] and np.isnan(found[2:]).all()
    assert rate(found)[0] == 0.75 and rate(found)[2] == 2


def test_the_residual_by_hand():
    success = Success(np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [10, 30]))
    score = residual("m", success)
    assert score.value == pytest.approx((0.75 - 0.25) / 0.75)
    low, high = difference(0.75, binomial(30, 40), 0.25, binomial(10, 40))
    assert score.interval == pytest.approx((low / 0.75, min(1, high / 0.75)))
    assert "75.0 % of 40" in score.note and "25.0 % of 40" in score.note
    below = residual("m", Success(success.strangers, success.members))
    assert below.value == pytest.approx(-1) and below.interval[0] == -1  # (0.25 - 0.75) / 0.25: -2


def test_too_few_and_nothing_left_are_said():
    few = residual("m", Success(np.ones(19), np.zeros(40)))
    assert math.isnan(few.value) and "fewer than 20" in few.note
    sure = residual("m", Success(np.ones(40), np.ones(40)))
    assert math.isnan(sure.value) and "nothing is left" in sure.note


def test_the_strongest_attack_is_not_reported_on_the_half_that_chose_it():
    """The largest of 60 coins looks strong on the tosses that chose it and is a coin on others."""
    rng = np.random.default_rng(0)
    largest, reported = [], []
    for _ in range(20):
        attacks = {
            (f"coin {i}", "all"): Success(*(rng.integers(0, 2, (2, 200)).astype(float)))
            for i in range(60)
        }
        largest.append(max(residual("m", success).value for success in attacks.values()))
        (score,) = worst("m", attacks, np.random.default_rng(1))
        assert score.note.startswith("strongest: coin") and score.group == "all"
        reported.append(score.value)
    assert np.mean(largest) > 0.15
    assert abs(np.mean(reported)) < 0.08  # standard error of a mean of 20: about 0.03


def test_a_lone_attack_is_reported_on_everybody():
    success = Success(np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [10, 30]))
    found = worst("m", {("a", "all"): success}, np.random.default_rng(0))
    assert found == (residual("m", success),)


# ── Correct attribution ────────────────────────────────────────────────────────────────────────


def test_correct_attribution_by_hand(make_table):
    fake = make_table(x=["a", "a", "a", "b", "b", "a"], s=["c", "c", "d", "e", "e", None])
    real = make_table(x=["a", "a", "b", "c", "a"], s=["c", "d", "e", "e", None])
    guess = _Guess(Trial(real, real, fake), real.schema["s"], ("x",), 0.0)
    shares = guess.shares(real)  # the synthetic row without a value says nothing
    assert shares[:4] == pytest.approx([2 / 3, 1 / 3, 1, 0]) and np.isnan(shares[4])
    assert _unanimous(shares)[:4].tolist() == [0, 0, 1, 0]


def test_correct_attribution_of_numbers_is_within_the_tolerance(make_table):
    fake = make_table(x=["a", "a", "b", "b"], s=[1.0, 1.3, 7.0, 7.0])
    real = make_table(x=["a", "a", "b"], s=[1.1, 1.2, 7.4])
    guess = _Guess(Trial(real, real, fake), real.schema["s"], ("x",), 0.2)
    assert guess.shares(real).tolist() == [1.0, 1.0, 0.0]
    tight = _Guess(Trial(real, real, fake), real.schema["s"], ("x",), 0.15)
    assert tight.shares(real).tolist() == [0.5, 0.5, 0.0]


# ── Controls ───────────────────────────────────────────────────────────────────────────────────


def test_every_attack_fires_on_exact_copies_and_rises_with_their_share(make_table):
    rng = np.random.default_rng(1)
    trial = Trial(*(secretive(make_table, rng, 800) for _ in range(3)))
    found = [named(attribute(copy_share(trial, p, seed=1), seed=0)) for p in (0, 0.3, 0.6, 1)]
    fired = [key for key in found[0] if key[0] != "success"]
    # the worst, of all, of the vulnerable and of two strata; four attacks a column
    assert len(fired) == 4 + 2 * 4
    for key in fired:
        values = [scores[key].value for scores in found]
        assert values[1:] == sorted(values[1:]) and values[3] > values[0], key
        assert found[0][key].interval[0] <= 0 < found[3][key].interval[0], key
    assert found[3]["residual", "all"].value > 0.9
    assert found[3]["cap", "column=bit"].value == 1  # every copy is found by its key
    assert found[3]["success", "column=bit"].value == 1
    assert found[2]["cap", "column=dose"].value == pytest.approx(0.6, abs=0.01)


def test_fresh_real_rows_raise_no_more_alarms_than_stated(make_table):
    """A 95 % interval lies above 0 once in forty times at most."""
    alarms, tried = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        trial = Trial(*(secretive(make_table, rng, n) for n in (400, 200, 400)))
        scores = [s for s in attribute(trial, seed=seed) if not s.metric.endswith("success")]
        alarms += sum(score.interval[0] > 0 for score in scores)
        tried += len(scores)
    assert tried == 20 * 12
    assert alarms <= 12  # of 240 at 1 in 40: 99 % quantile


def test_what_can_be_learned_of_anybody_is_no_residual_risk(make_table):
    """Judged on training rows alone this would read as a leak: the rule holds for strangers too."""
    rng = np.random.default_rng(2)

    def lawful(n):
        x = rng.normal(size=n)
        noisy = np.where(rng.random(n) < 0.1, -x, x)
        return make_table(x=x, y=[["a", "b"][int(v > 0)] for v in noisy], roles={"y": ("target",)})

    found = named(attribute(Trial(lawful(1000), lawful(1000), lawful(1000)), seed=0))
    assert found["success", "column=y"].value > 0.75
    assert found["learner", "column=y"].interval[0] <= 0
    assert found["residual", "all"].interval[0] <= 0


def test_reconstruction_solves_bits_from_exact_marginals(make_table):
    """Nobody shares a cell of three columns: the marginals of copies fix every bit."""
    rng = np.random.default_rng(3)

    def rows():
        return make_table(
            **{name: rng.permutation(60) for name in "xyz"},
            bit=[["a", "b"][i] for i in rng.integers(0, 2, 60)],
            roles={"bit": ("sensitive",)},
        )

    train, holdout = rows(), rows()
    found = named(attribute(Trial(train, holdout, train), seed=0))["reconstruction", "column=bit"]
    assert found.value > 0.8 and found.interval[0] > 0.4
    assert named(attribute(Trial(train, holdout, rows()), seed=0))[
        "reconstruction", "column=bit"
    ].interval[0] <= 0  # fmt: skip


def test_many_rows_a_subject_are_one_try(make_table):
    rng = np.random.default_rng(4)
    of = np.repeat(np.arange(50), 6).tolist()
    trial = Trial(*(secretive(make_table, rng, 300, subjects=of) for _ in range(3)))
    for score in attribute(trial, seed=0):
        if score.metric.endswith(("cap", "learner")):
            assert "of 50 tries on members" in score.note


def test_one_column_and_columns_of_many_codes(make_table):
    one = make_table(x=list(range(30)))
    (score,) = attribute(Trial(one, one, one), seed=0)
    assert math.isnan(score.value) and "not assessable" in score.note
    rng = np.random.default_rng(5)
    levels = tuple(f"D{i}" for i in range(700))
    schema = TableSchema(
        (
            Column("code", "categorical", ("sensitive",), levels),
            Column("age", "continuous", decimals=9),
        )
    )
    coded = [
        Table(
            schema,
            np.arange(800),
            {"code": rng.integers(-1, 700, 800).astype(np.int32), "age": rng.normal(size=800)},
        )
        for _ in range(2)
    ]
    found = named(attribute(Trial(coded[0], coded[1], coded[0]), seed=0))
    assert found["cap", "column=code"].value > 0.3 and found["cap", "column=code"].interval[0] > 0
    # whether it is the commonest of 700 codes is no bit worth solving for, and does no harm
    assert found["reconstruction", "column=code"].value < 0.5
