"""Structural zeros: rules against every combination of values, the fit against brute force."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from test_pgm import marginal, whole

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Rule, Sum
from manikin.data.schema import Column, TableSchema
from manikin.errors import ConditionError, PrivacyError
from manikin.knowledge.constraints import violations
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._pgm import Measured, Zeros, affordable, fit
from manikin.synthesizers.table._public import public_encoding
from manikin.synthesizers.table._zeros import check, of_rules

DAY = 86400.0
COLUMNS = (
    Column("sex", "categorical", categories=("F", "M"), missing=("NA",)),
    Column("age", "integer", minimum=0, maximum=9, missing=("NA",)),
    Column("stay", "integer", minimum=0, maximum=6),
    Column("both", "integer", minimum=0, maximum=15, special=("unknown",)),
    Column("stage", "ordinal", categories=("I", "II", "III", "IV")),
    Column("grade", "ordinal", categories=("I", "II", "III", "IV"), missing=("NA",)),
    Column("came", "datetime", date_format="%Y-%m-%d", minimum=0.0, maximum=5 * DAY),
    Column("left", "datetime", date_format="%Y-%m-%d", minimum=0.0, maximum=5 * DAY,
           missing=("NA",)),
)  # fmt: skip

RULES: dict[str, Rule] = {
    "bounds": Range("age", 2, 7.0),
    "bounds of a date": Range("came", "1970-01-02", None),
    "bounds of levels": Range("stage", "II", "III"),
    "order": Inequality("age", "<", "stay"),
    "order or the same": Inequality("stay", ">=", "age"),
    "order of dates": Inequality("came", "<=", "left"),
    "order of levels": Inequality("grade", ">", "stage"),
    "sum": Sum("both", ("age", "stay")),
    "sex-specific": IfThen((Condition("sex", "=", ("M",)),),
                           (Condition("stage", "in", ("I", "II")),)),
    "several": IfThen((Condition("age", ">=", (3,)), Condition("age", "!=", (5,))),
                      (Condition("both", "<", (6,)), Condition("sex", "present"))),
    "missing": IfThen((Condition("sex", "missing"),), (Condition("age", "missing"),)),
    "special": IfThen((Condition("both", "=", ("unknown",)),), (Condition("age", ">", (4,)),)),
    "always": IfThen((), (Condition("age", "present"),)),
    "combinations": Combinations(("sex", "stage"), (("F", "I"), ("M", "III"), ("M", "IV"))),
    "combinations of numbers": Combinations(("age", "stay"), (("1", "2"), ("3", "3"))),
    "one of": Combinations(("age",), (("1",), ("4",))),
}  # fmt: skip


def encoded(*rules: Rule, columns: tuple[Column, ...] = COLUMNS) -> Any:
    return public_encoding(TableSchema(columns, rules=rules, declared=True))


def runs(size: int, parts: int, rng: np.random.Generator) -> Bins:
    """Return bins of neighbouring codes."""
    cuts = np.sort(rng.choice(np.arange(1, size), min(parts, size) - 1, replace=False))
    of = np.searchsorted(cuts, np.arange(size), side="right")
    return Bins(of, 1 / np.bincount(of)[of])


def possible(encoding: Any, bins: list[Bins]) -> dict[str, np.ndarray]:
    """Return, by brute force, which bins of each rule's columns some obeying row can be in."""
    found = {}
    for rule in encoding.schema.rules:
        names = sorted(
            {c.name for c in encoding.schema if c.name in _named(rule)}, key=encoding.names.index
        )
        at = [encoding.names.index(name) for name in names]
        sizes = [encoding.cells[j].size for j in at]
        codes = np.zeros((int(np.prod(sizes)), len(encoding.names)), np.int32)
        codes[:, at] = np.stack(np.unravel_index(np.arange(len(codes)), sizes), axis=1)
        table = encoding.decode(codes, np.arange(len(codes)), seed=0)
        obeys = ~violations(rule, table)
        cells = np.zeros([bins[j].size for j in at], bool)
        cells[tuple(bins[j].of[codes[obeys, j]] for j in at)] = True
        found[tuple(at)] = cells
    return found


def _named(rule: Rule) -> set[str]:
    if isinstance(rule, IfThen):
        return {c.column for c in (*rule.when, *rule.then)}
    return {
        name
        for value in dataclasses.asdict(rule).values()
        for name in (value if isinstance(value, tuple) else (value,))
        if isinstance(name, str) and name in {c.name for c in COLUMNS}
    }


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 20))
def test_a_rule_forbids_what_no_value_obeys_and_nothing_else(
    name: str, seed: int, parts: int
) -> None:
    encoding, rng = encoded(RULES[name]), np.random.default_rng(seed)
    bins = [runs(cells.size, parts, rng) for cells in encoding.cells]
    narrowed, zeros = of_rules(encoding, bins)
    ((columns, expected),) = possible(encoding, bins).items()
    if expected.all():
        assert zeros == ()
    else:
        assert zeros[0].columns == columns and np.array_equal(zeros[0].possible, expected)
    for one, own in zip(narrowed, bins, strict=True):
        assert np.array_equal(one.of, own.of)
        Bins.restore(one.arrays(), own.of.size)  # shares still add up


def test_codes_that_break_a_rule_by_themselves_are_not_drawn() -> None:
    # ages 0 to 9 after one mark, in bins 0-4 and 5-9; 3 or more: 3 and 4 share the first bin
    encoding = encoded(Range("age", 3, None))
    bins = [runs(cells.size, 99, np.random.default_rng(0)) for cells in encoding.cells]
    bins[1] = Bins(np.array([0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]), np.array([1.0, *[0.2] * 10]))
    narrowed, zeros = of_rules(encoding, bins)
    assert zeros == ()
    assert narrowed[1].share.tolist() == pytest.approx([1, 0, 0, 0, 0.5, 0.5, *[0.2] * 5])


def test_cells_that_span_values_are_open_where_one_of_them_obeys() -> None:
    wide = tuple(
        Column(name, "continuous", minimum=0, maximum=1e6, decimals=3, missing=()) for name in "ab"
    )
    quarters = Bins(np.arange(1024) // 256, np.full(1024, 1 / 256))  # up to 250,000, 500,000 …
    for end, least, rows in ((2.5e5, 7.5e5, 1), (2.5e5 - 0.001, 7.5e5, 0), (2.6e5, 7.5e5, 1),
                             (5e5, 7.5e5, 2), (5e5, 7.4e5, 2)):  # fmt: skip
        when, then = (Condition("a", "<", (end,)),), (Condition("b", ">=", (least,)),)
        _, zeros = of_rules(encoded(IfThen(when, then), columns=wide), [quarters, quarters])
        upper = [False, False, least < 7.5e5, True]
        expected = [upper] * rows + [[True] * 4] * (4 - rows)
        if rows:
            assert zeros[0].possible.tolist() == expected
        else:  # the first quarter's last thousandth may be with any b
            assert zeros == ()


def test_listed_numbers_leave_the_cells_open_that_span_them() -> None:
    # 1024 cells of 976.5625 up to 1e6: 1500 is in the second, 10,000 in the eleventh
    wide = (Column("a", "continuous", minimum=0, maximum=1e6, decimals=3, missing=()),
            Column("b", "categorical", categories=("x", "y"), missing=()))  # fmt: skip
    fine, two = Bins(np.arange(1024), np.ones(1024)), Bins(np.arange(2), np.ones(2))
    for rule, at in (
        (Combinations(("a",), (("1500",), ("10000",))), (0,)),
        (Combinations(("a", "b"), (("1500", "x"), ("10000", "x"))), (0, 1)),
    ):
        _, (zeros,) = of_rules(encoded(rule, columns=wide), [fine, two])
        assert zeros.columns == at
        assert np.argwhere(zeros.possible)[:, 0].tolist() == [1, 10]


# ------------------------------------------------------------------ the fit

SIZES = (3, 4, 2, 3)


def random_case(seed: int) -> tuple[list[Measured], list[Zeros], np.ndarray]:
    """Return noisy counts of pairs, zeros of a pair and a triple, and which cells are allowed."""
    rng = np.random.default_rng(seed)
    zeros = [Zeros(c, rng.random([SIZES[j] for j in c]) < 0.7) for c in ((0, 1), (0, 2, 3))]
    allowed = np.ones(SIZES, bool)
    for zero in zeros:
        allowed &= zero.possible.reshape(
            [s if j in zero.columns else 1 for j, s in enumerate(SIZES)]
        )
    p = rng.random(SIZES) ** 2 * allowed
    p *= 1000 / p.sum()
    scopes = [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)]
    measured = []
    for k, scope in enumerate(scopes):
        deviation = 5.0 + 3 * k
        exact = marginal(p, scope)
        measured.append(Measured(scope, exact + rng.normal(0, deviation, exact.shape), deviation))
    return measured, zeros, allowed


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_constrained_least_squares_over_allowed_cells(seed: int) -> None:
    measured, zeros, allowed = random_case(seed)
    model = fit(SIZES, measured, zeros=zeros, steps=20_000)
    q = whole(model)
    assert q.sum() == pytest.approx(1) and (q[~allowed] == 0).all() and (q[allowed] > 0).any()
    rows, wanted = [], []
    cells = np.stack([i.ravel() for i in np.indices(SIZES)], axis=1)
    for one in measured:
        for cell in np.ndindex(one.counts.shape):
            able = allowed[tuple(cells.T)] & (cells[:, list(one.columns)] == cell).all(axis=1)
            if able.any():  # noise in a cell without any combination is ignored
                rows.append(able / one.deviation)
                wanted.append(one.counts[cell] / one.deviation)
    rows.append(np.where(allowed.ravel(), 1e4, 0))
    wanted.append(1e4 * model.total)
    design, target = np.array(rows), np.array(wanted)
    best, found = nnls(design, target, maxiter=10_000)[0], model.total * q.ravel()
    losses = [0.5 * float(((design @ p - target) ** 2).sum()) for p in (found, best)]
    assert losses[0] == pytest.approx(losses[1], rel=0.005)
    gaps = [model.marginal(one.columns) - marginal(best.reshape(SIZES), one.columns)
            for one in measured]  # fmt: skip
    assert all(
        np.abs(gap).max() < one.deviation / 8 for gap, one in zip(gaps, measured, strict=True)
    )


def test_of_those_that_explain_as_much_it_has_most_entropy() -> None:
    """On allowed cells its logarithm is a sum of functions of what was measured, and no more."""
    measured, zeros, allowed = random_case(7)
    q = whole(fit(SIZES, measured, zeros=zeros, steps=300))
    cells = np.argwhere(allowed)
    features = [
        (cells[:, list(one.columns)] == cell).all(axis=1).astype(float)
        for one in measured
        for cell in np.ndindex(one.counts.shape)
    ]
    logs, design = np.log(q[allowed]), np.array(features).T
    told = design @ np.linalg.lstsq(design, logs, rcond=None)[0]
    assert np.abs(told - logs).max() < 1e-6


def test_the_total_is_of_cells_that_can_hold_rows() -> None:
    # 60 + 40 rows in two possible cells of variance 1 each; 9 more in the third are noise
    one = Measured((0,), np.array([60.0, 40.0, 9.0]), 1.0)
    zeros = [Zeros((0,), np.array([True, True, False]))]
    model = fit((3,), [one], zeros=zeros)
    assert model.total == pytest.approx(100)
    assert model.marginal((0,)).tolist() == pytest.approx([60, 40, 0], abs=0.1)


def test_zeros_of_more_columns_are_known_of_fewer() -> None:
    # no row has a = 1 with b, c whatever: the single column's second count is noise, and 80 rows
    # are counted once with variance 1 and twice with variance 2
    able = np.ones((2, 2, 2), bool)
    able[1] = False
    counts = [[81.0, 30.0], [40.0, 38.0], [60.0, 20.0]]
    flat = [Measured((j,), np.array(counts[j]), 1.0) for j in range(3)]
    model = fit((2, 2, 2), flat, zeros=[Zeros((0, 1, 2), able)], cells=6)  # too few to hold it
    assert model.total == pytest.approx((81 / 1 + 78 / 2 + 80 / 2) / 2)  # 80
    assert model.marginal((0,))[1] < 0.1 and len(model.tree.cliques) == 3


def test_a_start_keeps_its_zeros() -> None:
    measured, zeros, allowed = random_case(2)
    begun = fit(SIZES, measured[:4], zeros=zeros, steps=50)
    q = whole(fit(SIZES, measured, zeros=zeros, start=begun, steps=50))
    assert (q[~allowed] == 0).all() and q.sum() == pytest.approx(1)


def test_zeros_that_leave_nothing_are_an_error() -> None:
    flat = [Measured((j,), np.array([5.0, 5.0]), 1.0) for j in range(2)]
    same, other = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    with pytest.raises(ConditionError, match="no combination"):
        fit((2, 2), flat, zeros=[Zeros((0, 1), same), Zeros((0, 1), other)])
    with pytest.raises(ConditionError, match="no combination"):
        fit((2, 2), flat, zeros=[Zeros((0,), np.zeros(2, bool))])
    flat.append(Measured((2,), np.array([5.0, 5.0]), 1.0))  # a = b = c ≠ a, along a chain
    chain = [Zeros((0, 1), same), Zeros((1, 2), same), Zeros((0, 2), other)]
    with pytest.raises(ConditionError, match="no combination"):
        fit((2, 2, 2), flat, zeros=chain)


def test_zeros_beyond_the_cap_are_left_out() -> None:
    zeros = [Zeros(c, np.ones((9, 9), bool)) for c in ((0, 1), (1, 2), (0, 2))]
    assert len(affordable([], zeros, (9, 9, 9), 729)) == 3  # one clique of 9³
    assert [z.columns for z in affordable([], zeros, (9, 9, 9), 728)] == [(0, 1), (1, 2)]
    assert affordable([(0, 1, 2)], zeros, (9, 9, 9), 1) == tuple(zeros)  # held anyway


def test_rules_that_nobody_can_obey_are_told_before_anything_is_read() -> None:
    for rules in (
        (IfThen((), (Condition("stage", "=", ("I",)),)),
         Combinations(("stage", "sex"), (("II", "F"), ("III", "M"))),
         IfThen((), (Condition("sex", "present"),))),
        (IfThen((Condition("stay", ">=", (0,)),), (Condition("grade", "=", ("I",)),)),
         Inequality("grade", ">", "stage"),
         IfThen((), tuple(Condition(name, "present") for name in ("stay", "grade", "stage")))),
    ):  # fmt: skip
        with pytest.raises(ConditionError, match="no combination"):
            check(encoded(*rules))
    check(encoded(RULES["order"], RULES["sum"], RULES["sex-specific"]))


def test_combinations_seen_in_the_rows_are_refused() -> None:
    with pytest.raises(PrivacyError, match="list them under 'allowed'"):
        check(encoded(Combinations(("sex", "stage"))))
