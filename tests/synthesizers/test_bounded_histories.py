"""What engines of histories under a budget share: bounded visits, clipped sums, shares of money."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, PrivacyError
from manikin.privacy.account import Account
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.synthesizers.events import _bounded as bounded

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

WIDE = 1e300
NUMBERS = st.floats(-WIDE, WIDE, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=NUMBERS),
       st.floats(1e-3, 1e3))  # fmt: skip
def test_no_subject_adds_more_than_the_norm(vectors: np.ndarray, norm: float) -> None:
    found = bounded.whole(vectors, norm)
    assert (np.sqrt((found.astype(float) ** 2).sum(1)) <= bounded.UNIT).all()
    short = np.abs(vectors).max(1) <= norm / vectors.shape[1]  # these lose less than one unit
    lost = vectors[short] * bounded.UNIT / norm - found[short]
    assert (np.abs(lost) <= 1 + 1e-6 * np.abs(vectors[short]) / norm * bounded.UNIT).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.floats(-50, 50)), max_size=30),
       st.integers(0, 4), st.floats(0.1, 20))  # fmt: skip
def test_counts_of_neighbours_differ_by_the_norm_at_most(
    things: list[tuple[int, int, float]], gone: int, norm: float
) -> None:
    whose, cell, weight = (np.array([t[i] for t in things]) for i in range(3))
    whose, cell = whose.astype(int), cell.astype(int)
    kept = whose != gone
    one = bounded._cells(whose, cell, weight.astype(float), 4, norm)
    two = bounded._cells(whose[kept], cell[kept], weight[kept].astype(float), 4, norm)
    assert np.sqrt(((one - two).astype(float) ** 2).sum()) <= bounded.UNIT


def test_counts_by_hand() -> None:
    # subject 0 has (3, 4): length 5, shortened to 2.5 it is (1.5, 2); subject 1 has (1, 0)
    found = bounded._cells(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 0]),
                           np.array([3.0, 2.0, 2.0, 1.0]), 2, 2.5)  # fmt: skip
    assert found / bounded.UNIT * 2.5 == pytest.approx([2.5, 2.0], abs=1e-4)


def test_noise_is_what_was_paid_for() -> None:
    account = Account(Budget(1.0))
    rho = account.left / 2
    ones = np.ones((400, 500))
    found, deviation = bounded.summed(account, ones, norm=500**0.5, rho=rho, what="ones")
    assert deviation == pytest.approx(500**0.5 / (2 * rho) ** 0.5)
    off = (found - 400) / deviation  # 500 normal numbers: four standard errors of their deviation
    assert off.std() == pytest.approx(1, abs=4 / 1000**0.5)
    assert abs(off.mean()) < 4 / 500**0.5 + 0.01
    with pytest.raises(PrivacyError, match="is left"):
        bounded.summed(account, ones, norm=1.0, rho=2 * rho, what="more than is left")


def test_thinned_keeps_few_and_all_of_short_records() -> None:
    whose = np.repeat([3, 5, 9], [2, 7, 40])
    kept = bounded.thinned(whose, 6)
    assert np.unique(whose[kept], return_counts=True)[1].tolist() == [2, 6, 6]
    assert (np.diff(kept) > 0).all()


def test_what_is_behind_is_read_for_a_release_only() -> None:
    with pytest.raises(PrivacyError, match="outside a release"):
        _ = bounded.Behind(3).it


STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),), declared=True)
CODES = (Code("bp", numeric=True, minimum=50, maximum=250), Code("seen"))


def histories(schema: EventSchema) -> Events:
    n = 300
    sex = np.arange(n, dtype=np.int32) % 2
    table = Table(schema.static, np.arange(n), {"sex": sex})
    return Events.of(schema, table, np.arange(n), np.full(n, "2020-01-01", "datetime64[us]"),
                     np.ones(n), None)  # fmt: skip


def test_what_is_not_declared_is_named() -> None:
    declared = EventSchema(STATIC, CODES, declared=True)
    tree, counts = catalogue.build("table/seqtree"), catalogue.build("table/mst")
    bounded.check(histories(declared), counts, "events/panel", "table/mst")
    open_static = dataclasses.replace(STATIC, columns=(Column("sex", "categorical"),))
    open_code = (dataclasses.replace(CODES[0], maximum=None), CODES[1])
    for schema, recipe, match in (
        (dataclasses.replace(declared, declared=False), counts, "inferred from the rows"),
        (dataclasses.replace(declared, codes=open_code), counts, "numbers of 'bp' without bounds"),
        (declared, tree, "static facts by 'table/x'"),
    ):
        with pytest.raises(PrivacyError, match=match):
            bounded.check(histories(schema), recipe, "events/panel", "table/x")
    bare = dataclasses.replace(declared, static=open_static)
    none = Events.of(bare, Table(open_static, np.arange(0), {"sex": np.zeros(0, np.int32)}),
                     [], [], [])  # fmt: skip
    with pytest.raises(PrivacyError, match="static columns 'sex' without"):
        bounded.check(none, counts, "events/panel", "table/mst")


@pytest.mark.parametrize("before", [0.0, 0.4])
def test_facts_leave_what_they_do_not_cost(before: float) -> None:
    money = Budget(2.0)
    if before:
        account = Account(money)
        account.sums(np.zeros(1, int), sensitivity=1.0, rho=before * account.left, what="a range")
        money = Budget(2.0, spent=account.ledger())
    table = histories(EventSchema(STATIC, CODES, declared=True)).static
    whole = Account(money).left
    _, purse = bounded.facts_first(
        catalogue.build("table/mst"), table, money, share=0.25, seed=1, watch=lambda _: None
    )
    assert purse.account.left == pytest.approx(0.75 * whole, rel=1e-3)
    purse.account.sums(np.zeros(1, int), sensitivity=1.0, rho=purse.account.left, what="the rest")
    assert 1.98 < spent(purse.ledger(), 1e-6).epsilon <= 2.0 * (1 + 1e-6)


def test_what_was_paid_is_restored_or_refused() -> None:
    account = Account(Budget(1.0))
    account.sums(np.zeros(1, int), sensitivity=1.0, rho=account.left / 2, what="a count")
    paid = bounded.Paid(account.ledger(), 12.5, 3)
    assert bounded.Paid.restore(paid.values()) == paid and bounded.Paid.restore({}) is None
    for wrong in ({"subjects": 0.0}, {"subjects": "many"}, {"most_rows": 0}, {"most_rows": True}):
        with pytest.raises(InputError):
            bounded.Paid.restore(paid.values() | wrong)
