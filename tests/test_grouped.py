"""A model for each group: who is in which, drawing across groups, given rows, files, strangers."""

import numpy as np
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.grouped import KEY, ConditionalGroups, Group, PerGroup, _groups
from manikin.synthesizer import Conditional, State
from manikin.synthesizers.table.marginals import Marginals
from manikin.synthesizers.table.seqtree import SeqTree

SITES = ("Ulm", "Bern", "Lyon", "Graz")
SCHEMA = TableSchema((
    Column("site", "categorical", categories=SITES),
    Column("ill", "boolean", categories=("no", "yes")),
    Column("x", "continuous", decimals=2), Column("y", "continuous", decimals=2),
))  # fmt: skip


def ward(seed: int = 0, sizes: tuple[int, ...] = (300, 200, 30, 30)) -> Table:
    """In Ulm y rises with x and one in ten is ill; elsewhere it falls, and half are ill."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    n, ulm = site.size, site == 0
    x = rng.normal(0, 1, n)
    y = np.where(ulm, x, -x) + rng.normal(0, 0.2, n)
    ill = rng.random(n) < np.where(ulm, 0.1, 0.5)
    columns = {"site": site, "ill": ill.astype(np.int32), "x": np.round(x, 2), "y": np.round(y, 2)}
    return Table(SCHEMA, np.arange(n), columns)


@pytest.fixture(scope="module")
def model() -> ConditionalGroups:
    found = PerGroup(SeqTree(), "site").fit(ward(), seed=1)
    assert isinstance(found, ConditionalGroups) and isinstance(found, Conditional)
    return found


# ---------------------------------------------------------------------------- who is in which
def test_levels_of_few_are_joined() -> None:
    codes = np.repeat([0, 1, 2, 3, -1], [300, 200, 30, 25, 5])
    assert _groups(codes, 50) == (Group((0,), 300), Group((1,), 200), Group((-1, 2, 3), 60))
    # the others alone are too few: the smallest group joins them
    codes = np.repeat([0, 1, 2], [300, 60, 30])
    assert _groups(codes, 50) == (Group((0,), 300), Group((1, 2), 90))
    # and if none is left there is one group only
    assert _groups(np.repeat([0, 1], [60, 20]), 50) == (Group((0, 1), 80),)
    assert _groups(np.repeat([1, 0], [60, 60]), 50) == (Group((0,), 60), Group((1,), 60))


def test_groups_are_named_counted_and_told(model: ConditionalGroups) -> None:
    assert model.labels == ("Ulm", "Bern", "2 levels together")
    assert model.facts() == {
        "by": "site", "groups": ["Ulm", "Bern", "2 levels together"],
        "subjects": [300, 200, 60], "levels_joined": 2,
    }  # fmt: skip
    assert any("how many subjects each group of 'site'" in entry.what for entry in model.ledger)


@pytest.mark.parametrize(
    ("table", "by", "said"),
    [
        (ward(sizes=(300, 20, 0, 0)), "site", "does not part"),
        (ward(), "x", "kind continuous"),
    ],
)
def test_what_cannot_be_grouped(table: Table, by: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        PerGroup(Marginals(), by).fit(table, seed=1)


def test_groups_are_of_subjects() -> None:
    one = ward()
    moved = Table(SCHEMA, np.arange(one.n_rows) // 2, one.columns)
    assert PerGroup(Marginals(), "site").fit(moved, seed=1).shares[0] == pytest.approx(150 / 280)
    moved.columns["site"][1] = 1
    with pytest.raises(InputError, match="changes within subjects"):
        PerGroup(Marginals(), "site").fit(moved, seed=1)


# ---------------------------------------------------------------------------- drawing
def slope(table: Table, site: int) -> float:
    rows = table.columns["site"] == site
    return float(np.polyfit(table.columns["x"][rows], table.columns["y"][rows], 1)[0])


def test_each_group_is_drawn_from_its_own_model(model: ConditionalGroups) -> None:
    drawn = model.sample(4000, seed=5)
    assert drawn.n_rows == 4000 and sorted(drawn.subjects.tolist()) == list(range(4000))
    shares = np.bincount(drawn.columns["site"], minlength=4) / 4000
    np.testing.assert_allclose(shares[:2], [300 / 560, 200 / 560], atol=0.03)
    assert slope(drawn, 0) > 0.8 and slope(drawn, 1) < -0.8
    assert 0 < drawn.columns["site"][:50].argmax(), "groups are shuffled, not stacked"
    again = model.sample(4000, seed=5)
    assert all(np.array_equal(again.columns[c], drawn.columns[c]) for c in drawn.columns)
    assert model.sample(0, seed=1).n_rows == 0
    with pytest.raises(InputError, match="-1 subjects"):
        model.sample(-1, seed=1)


def test_conditions_weigh_groups_by_how_often_they_hold(model: ConditionalGroups) -> None:
    ill = model.sample_where(6000, (Condition("ill", "=", ("yes",)),), seed=1)
    assert (ill.columns["ill"] == 1).all()
    # ill: .1 of 300 in Ulm (their real number), .5 of 260 elsewhere
    real = ward()
    share = (real.columns["site"] == 0)[real.columns["ill"] == 1].mean()
    assert abs((ill.columns["site"] == 0).mean() - share) < 0.05


def test_a_condition_on_the_group_selects_its_model(model: ConditionalGroups) -> None:
    bern = model.sample_where(500, (Condition("site", "=", ("Bern",)),), seed=1)
    assert (bern.columns["site"] == 1).all() and slope(bern, 1) < -0.8
    graz = model.sample_where(100, (Condition("site", "=", ("Graz",)),), seed=1)
    assert (graz.columns["site"] == 3).all()
    both = model.sample_where(
        3000, (Condition("site", "in", ("Ulm", "Lyon")), Condition("x", ">", (0.0,))), seed=1
    )
    counts = np.bincount(both.columns["site"], minlength=4)
    assert counts[[1, 3]].sum() == 0 and (both.columns["x"] > 0).all()
    assert abs(counts[2] / 3000 - 30 / 330) < 0.05
    with pytest.raises(ConditionError):
        model.sample_where(5, (Condition("x", ">", (1e6,)),), seed=1)


def test_given_rows_go_to_their_group(model: ConditionalGroups) -> None:
    real = ward(seed=4)
    order = np.random.default_rng(0).permutation(real.n_rows)
    rows = real.rows(order)
    names = ("site", "x")
    given = Table(
        TableSchema(tuple(c for c in SCHEMA if c.name in names)), rows.subjects,
        {name: rows.columns[name] for name in names},
    )  # fmt: skip
    made = model.sample_given(given, seed=2)
    assert all(np.array_equal(made.columns[name], given.columns[name]) for name in names)
    assert np.array_equal(made.subjects, given.subjects)
    assert slope(made, 0) > 0.5 and slope(made, 1) < -0.5
    # another order of the same spellings
    turned = Column("site", "categorical", categories=SITES[::-1])
    other = Table(
        TableSchema((turned, SCHEMA["x"])), given.subjects,
        {"site": (3 - given.columns["site"]).astype(np.int32), "x": given.columns["x"]},
    )  # fmt: skip
    assert slope(model.sample_given(other, seed=2), 0) > 0.5
    alone = Table(TableSchema((SCHEMA["x"],)), given.subjects, {"x": given.columns["x"]})
    with pytest.raises(NotSupported, match="'site' is not given"):
        model.sample_given(alone, seed=2)
    gone = ward(sizes=(300, 200, 60, 0))
    three = PerGroup(Marginals(), "site").fit(gone, seed=1)
    with pytest.raises(ConditionError, match="no training subject"):
        three.sample_given(given, seed=1)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------- spellings and files
def test_a_level_is_spelled_where_one_group_knows_it() -> None:
    schema = TableSchema((
        Column("site", "categorical", categories=SITES[:2]),
        Column("drug", "categorical", categories=("a", "b", "Canary", "d")),
    ))  # fmt: skip
    site = np.repeat([0, 1], 100).astype(np.int32)
    drug = np.zeros(200, np.int32)
    drug[:20] = 1  # b in Ulm only, d in Bern only, and two patients of both with the rarest
    drug[100:120] = 3
    drug[[20, 120]] = 2
    data = Table(schema, np.arange(200), {"site": site, "drug": drug})
    found = PerGroup(Marginals(), "site").fit(data, seed=1)
    a, b, rarest, d = found.schema["drug"].categories
    assert (a, b, d) == ("a", "b", "d") and rarest.startswith("(rare level")
    assert found.schema["site"].categories == SITES[:2]
    frame = found.sample(300, seed=1).to_polars()
    assert set(frame["drug"]) == {"a", "b", "d"} and set(frame["site"]) == set(SITES[:2])


def test_a_model_comes_back_from_its_state(model: ConditionalGroups) -> None:
    recipe = PerGroup(SeqTree(), "site")
    again = recipe.restore(model.schema, model.state())
    where = (Condition("ill", "=", ("yes",)),)
    for one, other in (
        (model.sample(60, seed=3), again.sample(60, seed=3)),
        (model.sample_where(60, where, seed=3), again.sample_where(60, where, seed=3)),
    ):
        assert all(np.array_equal(one.columns[c], other.columns[c]) for c in one.columns)
    assert again.ledger == model.ledger and again.groups == model.groups


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("codes", [[0], [0], [2, 3]]), ("codes", [[0], [1]]), ("codes", [[0], [1], [9]]),
        ("codes", [[0], [1], []]), ("codes", [[0], [1], [-2]]), ("codes", 3),
        ("subjects", [300, 0, 60]), ("subjects", [300, -5, 60]), ("subjects", ["x", 1, 1]),
        ("by", "x"), ("values", [{}]), ("values", None),
    ],
)  # fmt: skip
def test_a_forged_state_is_refused(model: ConditionalGroups, part: str, value: object) -> None:
    state = model.state()
    forged = {KEY: {**state.values[KEY], part: value}}
    with pytest.raises(InputError):
        PerGroup(SeqTree(), "site").restore(model.schema, State(state.arrays, forged))
