"""Drawing from a model: blocks, conditions, balance, and the real rows they are compared with."""

import numpy as np
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.sampling import Plan, draw, join, select

SCHEMA = TableSchema(
    (Column("sex", "categorical", categories=("F", "M")), Column("age", "integer"))
)


def table(sex: list[int], subjects: list[int] | None = None) -> Table:
    n = len(sex)
    return Table(
        SCHEMA,
        np.array(subjects if subjects is not None else range(n), dtype=np.int64),
        {"sex": np.array(sex, dtype=np.int32), "age": np.arange(n, dtype=np.float64)},
    )


class Coin:
    """A model that can condition: `sample_where` gives the sex that is asked for, age = seed."""

    schema = SCHEMA
    ledger = ()

    def sample(self, n: int, *, seed: int) -> Table:
        rng = np.random.default_rng(seed % 2**32)
        return Table(
            SCHEMA,
            np.arange(n),
            {"sex": rng.integers(0, 2, n).astype(np.int32), "age": np.full(n, float(seed % 997))},
        )

    def state(self) -> None: ...

    def sample_given(self, given: Table, *, seed: int) -> Table: ...

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        drawn = self.sample(n, seed=seed)
        wanted = [c.values[0] for c in where if c.column == "sex"]
        if wanted:
            drawn.columns["sex"][:] = ("F", "M").index(wanted[-1])
        return drawn


class Fixed:
    """A model that cannot condition."""

    schema = SCHEMA
    ledger = ()

    def sample(self, n: int, *, seed: int) -> Table:
        return Coin().sample(n, seed=seed)

    def state(self) -> None: ...


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.sampling.SUBJECTS_PER_BLOCK", 10)


def test_blocks_add_up_and_differ() -> None:
    blocks = list(draw(Fixed(), 25, Plan(), seed=3))
    assert [block.n_rows for block in blocks] == [10, 10, 5]
    assert blocks[0].columns["age"][0] != blocks[1].columns["age"][0]
    whole = join(blocks)
    assert whole.subjects.tolist() == list(range(25))


def test_the_same_seed_draws_the_same_rows() -> None:
    one, two = (join(list(draw(Coin(), 25, Plan(balance="sex"), seed=3))) for _ in range(2))
    assert all(np.array_equal(one.columns[name], two.columns[name]) for name in one.columns)


def test_nobody_is_a_table_too() -> None:
    (only,) = draw(Fixed(), 0, Plan(), seed=0)
    assert only.n_rows == 0


def test_balance_gives_every_level_equally_often() -> None:
    drawn = join(list(draw(Coin(), 25, Plan(balance="sex"), seed=0)))
    assert drawn.n_rows == 25
    assert np.bincount(drawn.columns["sex"]).tolist() in ([12, 13], [13, 12])
    assert drawn.subjects.tolist() == list(range(25))
    first = drawn.columns["sex"][:10]
    assert 0 < first.sum() < 10, "levels are shuffled, not stacked"


def test_conditions_reach_the_model() -> None:
    drawn = join(list(draw(Coin(), 12, Plan((Condition("sex", "=", ("M",)),)), seed=0)))
    assert drawn.columns["sex"].tolist() == [1] * 12


def test_what_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(InputError, match="-1 subjects"):
        list(draw(Fixed(), -1, Plan(), seed=0))
    with pytest.raises(NotSupported, match="cannot condition"):
        list(draw(Fixed(), 5, Plan(balance="sex"), seed=0))
    with pytest.raises(ConditionError, match="kind integer"):
        Plan(balance="age").levels(SCHEMA)


def test_labels_say_what_the_data_are() -> None:
    assert Plan().label == "representative"
    assert Plan((Condition("sex", "=", ("F",)),)).label == "conditioned"
    assert Plan(balance="sex").label == "rebalanced"


def test_select_keeps_subjects_whose_every_row_is_so() -> None:
    real = table([0, 0, 0, 1, 1], subjects=[1, 1, 2, 2, 3])
    kept = select(real, Plan((Condition("sex", "=", ("F",)),)), seed=0)
    assert kept.subjects.tolist() == [1, 1]


def test_select_in_balance_keeps_as_many_of_each() -> None:
    real = table([0] * 30 + [1] * 5)
    kept = select(real, Plan(balance="sex"), seed=0)
    assert np.bincount(kept.columns["sex"]).tolist() == [5, 5]


class Halfway(Coin):
    """A model that never draws M."""

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        if where[-1].values == ("M",):
            raise ConditionError("nobody", "somebody", "relax")
        return super().sample_where(n, where, seed=seed)


def test_balance_leaves_out_levels_that_are_never_drawn() -> None:
    drawn = join(list(draw(Halfway(), 10, Plan(balance="sex"), seed=1)))
    assert drawn.n_subjects == 10 and (drawn.columns["sex"] == 0).all()
    only = Plan((Condition("age", ">", (5.0,)), Condition("sex", "=", ("M",))))
    with pytest.raises(ConditionError):
        list(draw(Halfway(), 10, only, seed=1))
