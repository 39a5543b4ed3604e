"""Drawing from a model: blocks, conditions, balance, and the real rows they are compared with."""

import numpy as np
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.sampling import Enrich, Plan, draw, join, parse_enrich, select, settle

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


# ---------------------------------------------------------------------------- enriched shares
RARE = Enrich("sex", "M", 0.3)


class Mostly(Coin):
    """A model that draws F, M and no value as 7 : 1 : 2."""

    def sample(self, n: int, *, seed: int) -> Table:
        drawn = super().sample(n, seed=seed)
        codes = np.random.default_rng(seed % 2**32).choice([0, 1, -1], n, p=[0.7, 0.1, 0.2])
        drawn.columns["sex"][:] = codes
        return drawn


def test_an_enriched_level_has_its_share_in_every_block() -> None:
    blocks = list(draw(Mostly(), 25, Plan(enrich=(RARE,)), seed=0))
    # blocks of 10, 10 and 5 subjects: 3, 3 and round(1.5) = 2 of them
    assert [int((b.columns["sex"] == 1).sum()) for b in blocks] == [3, 3, 2]
    assert [b.subjects.tolist() for b in blocks] == [list(range(n)) for n in (10, 10, 5)]


def test_all_others_come_as_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.sampling.SUBJECTS_PER_BLOCK", 10_000)
    (drawn,) = draw(Mostly(), 4000, Plan(enrich=(RARE,)), seed=0)
    codes = drawn.columns["sex"]
    assert (codes == 1).sum() == 1200
    # F to no value as 7 to 2 among the 2800 others: 622 without a value, sd 22
    assert abs(int((codes == -1).sum()) - 622) < 90


def test_all_may_be_of_the_enriched_levels() -> None:
    both = (Enrich("sex", "F", 0.75), Enrich("sex", "M", 0.25))
    drawn = join(list(draw(Coin(), 8, Plan(enrich=both), seed=0)))
    assert np.bincount(drawn.columns["sex"]).tolist() == [6, 2]


def test_an_enriched_level_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ConditionError, match="'sex' to be enriched cannot be drawn"):
        list(draw(Halfway(), 5, Plan(enrich=(RARE,)), seed=0))
    with pytest.raises(NotSupported, match="cannot condition"):
        list(draw(Fixed(), 5, Plan(enrich=(RARE,)), seed=0))


def test_others_that_are_never_drawn_are_an_error_not_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("manikin.sampling.MOST_AT_ONCE", 100)

    class Always(Coin):
        def sample(self, n: int, *, seed: int) -> Table:
            return table([1] * n)

    with pytest.raises(ConditionError, match="almost every subject"):
        list(draw(Always(), 10, Plan(enrich=(RARE,)), seed=0))


def test_a_balance_says_how_many_levels_it_leaves_out() -> None:
    settled = settle(Halfway(), Plan(balance="sex"), seed=1)
    assert settled.among == ("F",) and settled.left_out(SCHEMA) == 1
    settled = settle(Coin(), Plan(balance="sex"), seed=1)
    assert settled.among == ("F", "M") and settled.left_out(SCHEMA) == 0
    # real rows are compared in balance over the levels that are drawn: 30 of F, not 5 of each
    real = table([0] * 30 + [1] * 5)
    kept = select(real, Plan(balance="sex", among=("F",)), seed=0)
    assert np.bincount(kept.columns["sex"]).tolist() == [30]


def test_select_keeps_as_many_as_the_shares_allow() -> None:
    real = table([0] * 60 + [1] * 9)
    kept = select(real, Plan(enrich=(RARE,)), seed=0)
    # 9 of M are 0.3 of 30 subjects: 21 of F beside them
    assert np.bincount(kept.columns["sex"]).tolist() == [21, 9]


@pytest.mark.parametrize(
    "text",
    ["sex", "sex=M", "sex=M:", "sex=M:0", "sex=M:1.1", "sex=M:nan", "sex=M:-1", "size=M:0.5",
     "sex=X:0.5", "age=3:0.5", ":0.5", "=:0.5", ""],
)  # fmt: skip
def test_wishes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_enrich([text], SCHEMA)


def test_wishes_are_read_as_they_are_written() -> None:
    assert parse_enrich(["sex=M:0.3"], SCHEMA) == (RARE,)
    assert RARE.told == "sex=M:0.3"
    odd = TableSchema((Column("a=b", "categorical", categories=("x:y", "z=1", "ü")),))
    wished = parse_enrich(["a=b=x:y:0.5", "a=b=z=1:.25"], odd)
    assert [(w.column, w.level, w.share) for w in wished] == [
        ("a=b", "x:y", 0.5), ("a=b", "z=1", 0.25),
    ]  # fmt: skip
    with pytest.raises(ConditionError, match="sum to"):
        parse_enrich(["sex=F:0.8", "sex=M:0.3"], SCHEMA)
    with pytest.raises(ConditionError, match="one level twice"):
        parse_enrich(["sex=M:0.1", "sex=M:0.3"], SCHEMA)
