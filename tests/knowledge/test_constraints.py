import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Rule, Sum
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError
from manikin.knowledge.constraints import (
    all_rules,
    check_rules,
    describe,
    enforce,
    learn,
    rules_from_json,
    rules_to_json,
    violations,
)

SCHEMA = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("pregnant", "boolean", categories=("no", "yes")),
        Column("age", "integer", minimum=0, maximum=120),
        Column("a", "continuous", decimals=1),
        Column("b", "continuous", decimals=1),
        Column("total", "continuous", decimals=1),
        Column("came", "datetime", date_format="%Y-%m-%d"),
        Column("left", "datetime", date_format="%Y-%m-%d"),
        Column("lab", "continuous", missing=("", "NA"), special=("<5",)),
    )
)
PREGNANT = IfThen((Condition("sex", "=", ("M",)),), (Condition("pregnant", "=", ("no",)),))
RULES: tuple[Rule, ...] = (
    PREGNANT,
    Range("age", 18, 90),
    Sum("total", ("a", "b")),
    Inequality("came", "<=", "left"),
    Range("came", "2020-01-01", "2021-12-31"),
    Combinations(("sex", "pregnant"), (("F", "no"), ("F", "yes"), ("M", "no"))),
    IfThen((Condition("sex", "=", ("F",)),), (Condition("lab", "present"),)),
)


def table(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    day = np.timedelta64(86_400_000_000, "us")
    start = np.datetime64("2019-06-01", "us")

    def dates() -> np.ndarray:
        drawn = start + rng.integers(0, 1200, n) * day
        return np.where(rng.random(n) < 0.1, np.datetime64("NaT"), drawn)

    def numbers(decimals: int, scale: float) -> np.ndarray:
        return np.where(rng.random(n) < 0.1, np.nan, np.round(rng.random(n) * scale, decimals))

    lab = rng.integers(0, 4, n).astype(np.int8)
    return Table(
        SCHEMA,
        np.arange(n),
        {
            "sex": rng.integers(-1, 2, n).astype(np.int32),
            "pregnant": rng.integers(-1, 2, n).astype(np.int32),
            "age": numbers(0, 130),
            "a": numbers(1, 10),
            "b": numbers(1, 10),
            "total": numbers(1, 20),
            "came": dates(),
            "left": dates(),
            "lab": np.where(lab == 0, rng.random(n), np.nan),
        },
        {"lab": lab},
    )


def broken(data: Table, rules: tuple[Rule, ...]) -> np.ndarray:
    return np.any([violations(rule, data) for rule in all_rules(data.schema, rules)], axis=0)


def same_rows(one: Table, two: Table, rows: np.ndarray) -> bool:
    return all(
        np.array_equal(
            one.columns[n][rows], two.columns[n][rows], equal_nan=n not in ("sex", "pregnant")
        )
        and np.array_equal(one.state(n)[rows], two.state(n)[rows])
        for n in one.columns
    )


def four_rows() -> Table:
    return dataclasses.replace(
        table(4),
        columns={
            "sex": np.array([0, 1, 1, -1], dtype=np.int32),
            "pregnant": np.array([1, 0, 1, 1], dtype=np.int32),
            "age": np.array([17.0, 18.0, 91.0, np.nan]),
            "a": np.array([1.0, 1.1, 0.1, np.nan]),
            "b": np.array([1.0, 2.2, 0.2, 1.0]),
            "total": np.array([2.1, 3.3, 0.3, 7.0]),
            "came": np.array(["2020-01-02", "2020-01-01", "2019-01-01", "NaT"], "datetime64[us]"),
            "left": np.array(["2020-01-01", "2020-01-01", "NaT", "2020-01-01"], "datetime64[us]"),
            "lab": np.array([np.nan, np.nan, np.nan, 4.0]),
        },
        states={"lab": np.array([1, 2, 3, 0], dtype=np.int8)},
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RULES[0], [0, 0, 1, 0]),
        (RULES[1], [1, 0, 1, 0]),
        (RULES[2], [1, 0, 0, 0]),
        (RULES[3], [1, 0, 0, 0]),
        (RULES[4], [0, 0, 1, 0]),
        (RULES[5], [0, 0, 1, 0]),
        (RULES[6], [1, 0, 0, 0]),
        (Inequality("left", "<", "came"), [0, 1, 0, 0]),
        (IfThen((), (Condition("lab", "=", ("<5",)),)), [1, 1, 0, 1]),
        (Combinations(("age", "a"), (("18", "1.1"),)), [1, 0, 1, 0]),
        (Combinations(("came",), (("2020-01-02",),)), [0, 1, 1, 0]),
    ],
)
def test_violations_by_hand(rule: Rule, expected: list[int]) -> None:
    assert violations(rule, four_rows()).astype(int).tolist() == expected


def test_enforce_by_hand() -> None:
    made = enforce(four_rows(), (RULES[2], PREGNANT), rng=np.random.default_rng(0))
    assert made.columns["total"].tolist() == [2.0, 3.3, 0.3, 7.0]
    assert made.columns["pregnant"].tolist() == [1, 0, 0, 1]


def test_stays_keep_their_start_and_get_a_length_seen_elsewhere() -> None:
    data = table(500, seed=3)
    made = enforce(data, (RULES[3],), rng=np.random.default_rng(0))
    both = data.present("came") & data.present("left")
    assert (made.columns["came"][both] == data.columns["came"][both]).all()
    length = (made.columns["left"] - made.columns["came"])[both].astype("timedelta64[D]")
    assert (length.astype(int) >= 0).all()
    assert np.unique(length).size > 20, "broken stays pile up on one length"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000), st.sets(st.sampled_from(RULES)))
def test_afterwards_nothing_is_broken_and_good_rows_are_untouched(
    n: int, seed: int, chosen: set[Rule]
) -> None:
    data, rules = table(n, seed), tuple(rule for rule in RULES if rule in chosen)
    good = ~broken(data, rules)
    made = enforce(data, rules, rng=np.random.default_rng(seed), redraw=None)
    assert not broken(made, rules).any()
    assert same_rows(data, made, good)


def test_values_do_not_pile_up_on_a_bound() -> None:
    made = enforce(table(2000), (Range("age", 40, 60),), rng=np.random.default_rng(0))
    ages, counts = np.unique(made.columns["age"], return_counts=True)
    assert counts[:21].max() < 3 * counts[:21].mean()
    assert ages[0] == 40 and np.nanmax(ages) == 60


def test_fixed_columns_never_change() -> None:
    data = table(300)
    made = enforce(data, (PREGNANT,), rng=np.random.default_rng(0), fixed=frozenset({"pregnant"}))
    assert not violations(PREGNANT, made).any()
    assert (made.columns["pregnant"] == data.columns["pregnant"]).all()
    both = frozenset({"pregnant", "sex"})
    kept = enforce(data, (PREGNANT,), rng=np.random.default_rng(0), fixed=both)
    assert (kept.columns["sex"] == data.columns["sex"]).all()
    fixed = frozenset({"total", "a"})
    summed = enforce(data, (RULES[2],), rng=np.random.default_rng(0), fixed=fixed)
    assert not violations(RULES[2], summed).any()


def test_static_columns_keep_one_value_a_subject() -> None:
    data = dataclasses.replace(table(60), subjects=np.repeat(np.arange(20), 3))
    data.columns["age"][:] = np.repeat(data.columns["age"][::3], 3)  # type: ignore[index]
    made = enforce(data, RULES[:3], rng=np.random.default_rng(1), static=frozenset({"age"}))
    ages = made.columns["age"].reshape(20, 3)
    assert np.array_equal(ages[:, :1].repeat(3, axis=1), ages, equal_nan=True)
    assert not broken(made, RULES[:3]).any()


def test_rejection_is_the_last_resort() -> None:
    rule = Combinations(("a", "b"), (("1", "2"),))
    data = table(50)
    calls = []

    def redraw(n: int, attempt: int) -> Table:
        calls.append(attempt)
        return table(n, seed=attempt)

    made = enforce(data, (rule,), rng=np.random.default_rng(0), redraw=redraw)
    assert not violations(rule, made).any()
    assert made.n_subjects == 50
    assert calls in ([], [0])  # only for donors


def test_what_cannot_be_obeyed_is_an_error() -> None:
    rules = (
        IfThen((), (Condition("age", "=", (30,)),)),
        IfThen((), (Condition("age", "=", (40,)),)),
    )
    with pytest.raises(ConditionError, match="still break"):
        enforce(table(10), rules, rng=np.random.default_rng(0), redraw=lambda n, k: table(n, k))


@pytest.mark.parametrize(
    "rules",
    [
        (Range("age", 60, 50),),
        (Range("age", 130, 140),),
        (Range("age", 0, 40), Range("age", 50, 60)),
        (Inequality("a", "<", "b"), Inequality("b", "<=", "a")),
        (Inequality("a", "<", "b"), Inequality("b", "<", "total"), Inequality("a", ">=", "total")),
        (Range("a", 5, None), Range("b", None, 4), Inequality("a", "<=", "b")),
        (IfThen((), (Condition("age", ">", (5,)), Condition("age", "<", (4,)))),),
        (IfThen((), (Condition("sex", "=", ("F",)), Condition("sex", "missing"))),),
        (Inequality("a", "<", "came"),),
        (Inequality("sex", "<", "pregnant"),),
        (Range("sex", "F", "M"),),
        (Sum("a", ("a", "b")),),
        (Sum("sex", ("a",)),),
        (Combinations(("sex",), ()),),
        (Combinations(("sex",), (("F", "M"),)),),
        (Combinations(("sex",), (("W",),)),),
        (Range("came", "soon", None),),
    ],
)
def test_contradictions_are_found_beforehand(rules: tuple[Rule, ...]) -> None:
    with pytest.raises(ConditionError):
        check_rules(SCHEMA, rules)


def test_legal_sets_of_rules_pass() -> None:
    check_rules(SCHEMA, RULES)
    check_rules(SCHEMA, (Inequality("a", "<=", "b"), Inequality("b", "<=", "a")))
    check_rules(SCHEMA, (IfThen((), (Condition("lab", "=", ("<5",)),)),))


def test_combinations_are_learned_with_a_floor_on_subjects() -> None:
    data = table(400)
    (rule,) = learn((Combinations(("sex", "pregnant")),), data)
    assert isinstance(rule, Combinations) and rule.allowed is not None
    assert set(rule.allowed) == {(s, p) for s in ("F", "M") for p in ("no", "yes")}
    data.columns["sex"][:] = 0  # type: ignore[index]
    data.columns["sex"][:3] = 1  # type: ignore[index]
    (rule,) = learn((Combinations(("sex", "pregnant")),), data, least=5)
    assert isinstance(rule, Combinations) and set(rule.allowed or ()) == {("F", "no"), ("F", "yes")}
    made = enforce(data, (rule,), rng=np.random.default_rng(0))
    assert not violations(rule, made).any()
    assert not violations(Combinations(("sex",), None), data).any()


def test_rules_survive_json() -> None:
    assert rules_from_json(rules_to_json(RULES, SCHEMA), SCHEMA) == RULES


def test_describe_is_for_people() -> None:
    assert describe(PREGNANT) == "if sex = M then pregnant = no"
    assert describe(Range("age", 18, None)) == "18 <= age"
    assert describe(Sum("total", ("a", "b"))) == "total = a + b"
    assert describe(RULES[5]) == "combinations of sex, pregnant as declared (3)"
