"""Quality that was paid for: what one subject changes, what noise does, what is public."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.metrics.paid import COLUMNS, PAIRS, Paid, _one_each, _pairs, _Size, paid
from manikin.metrics.paid_outcome import ACCURACY, AUC, Outcome, Tally, outcome_of
from manikin.privacy import ledger
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.privacy.compared import Compared, Expected, deviation

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

SCHEMA = TableSchema(
    (
        Column("age", "integer", minimum=18, maximum=110),
        Column("crp", "continuous", minimum=0, maximum=300, decimals=1),
        Column("site", "categorical", categories=("a", "b", "c", "d")),
        Column("died", "boolean", categories=("no", "yes"), roles=("target",)),
    ),
    declared=True,
)


def patients(n: int, seed: int, *, linked: bool = True, rows_each: int = 1) -> Table:
    """Return rows in which age tells of crp and death, unless they are not linked."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 95, n).astype(float)
    of = age if linked else rng.permutation(age)
    crp = np.round(np.where(rng.random(n) < 0.1, np.nan, of / 4 + rng.gamma(2, 4, n)), 1)
    of = age if linked else rng.permutation(age)
    died = (rng.random(n) < 1 / (1 + np.exp(-(of - 65) / 8))).astype(np.int32)
    columns = {"age": age, "crp": crp, "site": rng.integers(0, 3, n).astype(np.int32),
               "died": died}  # fmt: skip
    return Table(SCHEMA, np.arange(n, dtype=np.int64) // rows_each, columns)


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.privacy.account._noised", lambda values, *_: values)


class TestWhatOneSubjectChanges:
    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_a_distance_by_one_at_most(self, data: st.DataObject) -> None:
        """n x distance, with a subject more: |difference| <= 1, for shares and counts of all kinds.

        By hand: counts (1, 0), shares (.2, .8): (|1 - .2| + |0 - .8|) / 2 = .8; with a row more in
        the second, (|1 - .4| + |1 - 1.6|) / 2 = .6.
        """
        k = data.draw(st.integers(1, 6))
        weights = np.array(data.draw(st.lists(st.floats(0, 1), min_size=k, max_size=k))) + 1e-9
        codes = data.draw(st.lists(st.integers(0, k - 1), max_size=12))
        more = data.draw(st.integers(0, k - 1))
        expected = Expected((0,), weights / weights.sum())
        far = [exact(np.array(part, int), k, expected) for part in (codes, [*codes, more])]
        assert abs(far[0] - far[1]) <= 1 + 1e-9

    def test_by_hand(self) -> None:
        expected = Expected((0,), np.array([0.2, 0.8]))
        assert exact(np.array([0]), 2, expected) == pytest.approx(0.8)
        assert exact(np.array([0, 1]), 2, expected) == pytest.approx(0.6)

    def test_shares_that_are_none_are_refused(self) -> None:
        for shares in ([0.5, 0.6], [-0.1, 1.1], [np.nan, 1.0]):
            with pytest.raises(PrivacyError, match="no shares"):
                Expected((0,), np.array(shares))

    def test_rounding_is_paid_for(self) -> None:
        # two numbers, each of which one row changes by 1000 units, 1 by rounding, 1 to be sure
        assert deviation(2, 0.5) == pytest.approx(1.002 * np.sqrt(2))

    def test_the_price_is_what_the_ledger_says(self) -> None:
        account = Account(Budget(1.0))
        rows = Compared(np.zeros((5, 1), np.int32), np.arange(5), (2,), 1, account)
        rows.distances([[Expected((0,), np.array([1.0, 0.0]))]] * 3, rho=0.01, what="far")
        (bought,) = account.releases
        assert isinstance(bought, ledger.Gaussian)
        assert 1 / (2 * bought.noise_multiplier**2) == pytest.approx(0.01)
        with pytest.raises(PrivacyError, match="is left of"):
            rows.distances([[Expected((0,), np.array([1.0, 0.0]))]], rho=0.1, what="far")
        assert len(account.releases) == 1

    @pytest.mark.usefixtures("no_noise")
    def test_a_subject_counts_once(self) -> None:
        held, fake = patients(900, 1, rows_each=3), patients(600, 2)
        assert paid(held, fake, Budget(1.0), seed=0).subjects == 300
        assert np.unique(held.subjects[_one_each(held, np.random.default_rng(0))]).size == 300


def exact(codes: np.ndarray, size: int, expected: Expected) -> float:
    account = Account(Budget(1.0))
    rows = Compared(codes[:, None].astype(np.int32), np.arange(codes.size), (size,), 1, account)
    with measuring():
        return rows._far(expected)


class TestWhatIsTold:
    def test_noise_is_in_the_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of 200 draws and more at least 90 % of the intervals hold the number without noise."""
        held, fake = patients(1500, 1), patients(3000, 2, linked=False)
        with monkeypatch.context() as without:
            without.setattr("manikin.privacy.account._noised", lambda values, *_: values)
            truth = by_name(paid(held, fake, Budget(0.4), seed=0))
        assert set(truth) >= {COLUMNS, PAIRS, AUC, ACCURACY, f"{COLUMNS} column=crp"}
        inside: dict[str, list[bool]] = {name: [] for name in truth}
        for _ in range(25):
            for name, score in by_name(paid(held, fake, Budget(0.4), seed=0)).items():
                low, high = score.interval
                inside[name].append(bool(low <= truth[name].value <= high))
        every = [hit for hits in inside.values() for hit in hits]
        assert len(every) >= 200 and np.mean(every) >= 0.9

    @pytest.mark.usefixtures("no_noise")
    def test_what_is_alike_and_what_is_not(self) -> None:
        held = patients(2000, 1)
        like, unlike = (
            by_name(paid(held, patients(4000, 2, linked=linked), Budget(1.0), seed=0))
            for linked in (True, False)
        )
        assert like[COLUMNS].value < like[COLUMNS].ceiling + 0.02
        assert like[PAIRS].value < like[PAIRS].ceiling + 0.02 < like[PAIRS].floor - 0.05
        assert unlike[PAIRS].value > unlike[PAIRS].floor - 0.05
        assert like[AUC].value > 0.8 and like[AUC].value == pytest.approx(
            like[AUC].ceiling, abs=0.06
        )
        assert unlike[AUC].value < 0.62 and unlike[AUC].floor == 0.5
        assert like[ACCURACY].value > like[ACCURACY].floor + 0.05

    def test_all_within_the_budget(self) -> None:
        found = paid(patients(400, 1), patients(800, 2), Budget(0.5), seed=0)
        assert found.pairs == 6 and "'died' is 'yes'" in found.asks
        from manikin.privacy.accountant import spent

        cost = spent(found.releases, 1e-6).epsilon
        assert 0.45 < cost <= 0.5 * (1 + 1e-6)
        assert all(isinstance(one, ledger.Gaussian) for one in found.releases)

    def test_public_choices_hang_on_nothing_real(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With all that is bought made a constant, other people give the same report."""
        monkeypatch.setattr(
            "manikin.privacy.account._noised", lambda v, *_: np.full(v.shape, 400, np.int64)
        )
        fake = patients(500, 2)
        one, other = (paid(patients(n, n), fake, Budget(1.0), seed=3) for n in (150, 700))
        assert one == other


def by_name(found: Paid) -> dict[str, object]:
    return {
        s.metric if s.group == "all" else f"{s.metric} {s.group}": s
        for s in found.scores
        if not np.isnan(s.value)
    }


class TestOutcome:
    def test_a_table_by_hand(self) -> None:
        """Noes (3, 1), yeses (1, 3): area (.5 3 + ...) by pairs.

        Of 16 pairs 3 x 3 in order, 3 + 3 tied, 1 wrong: (9 + 3) / 16 = .75; right are 6 of 8.
        """
        tally = Tally(np.array([[3.0, 1.0], [1.0, 3.0]]), 1)
        assert tally.area == pytest.approx(0.75) and tally.accuracy == pytest.approx(0.75)

    def test_its_variance_is_that_of_placements(self) -> None:
        """DeLong by hand, of noes 30 + 10 and yeses 10 + 30: placements .375 and .875."""
        (area, _) = Tally(np.array([[30.0, 10.0], [10.0, 30.0]]), 1).scores((0.5, 0.5))
        # variance of placements .25 (.375)^2 + .75 (.125)^2 = .046875, over 40, twice
        half = 1.96 * np.sqrt(2 * 0.046875 / 40)
        assert area.interval == pytest.approx((0.75 - half, 0.75 + half))

    def test_few_people_are_not_spoken_of(self) -> None:
        scores = list(Tally(np.array([[300.0, 100.0], [2.0, 8.0]]), 1).scores((0.5, 0.5)))
        assert all(np.isnan(s.value) and "too few" in s.note for s in scores)

    def test_bins_are_as_many_as_noise_allows(self) -> None:
        asked = outcome_of(patients(1000, 1), seed=0)
        assert isinstance(asked, Outcome)
        assert asked.grouped(1e6, 1.0)[0].max() + 1 in (12, 13)  # the cut is a bin's end
        groups, cut = asked.grouped(100, 50.0)
        assert groups.max() + 1 in (3, 4) and (np.diff(groups) >= 0).all()
        assert groups[asked.cut] == cut and groups[asked.cut - 1] == cut - 1

    @pytest.mark.parametrize(
        ("kind", "why"),
        [("none", "no outcome is declared"), ("constant", "one value only"),
         ("alone", "no column to predict"), ("number", "above the median")],
    )  # fmt: skip
    def test_what_there_is_to_ask(self, kind: str, why: str) -> None:
        table = patients(300, 1)
        if kind == "none":
            table = with_roles(table, {})
        elif kind == "constant":
            table.columns["died"][:] = 1
        elif kind == "alone":
            only = TableSchema((SCHEMA["died"],), declared=True)
            table = Table(only, table.subjects, {"died": table.columns["died"]})
        else:
            table = with_roles(table, {"crp": ("target",)})
        found = outcome_of(table, seed=0)
        assert why in (found.asks if isinstance(found, Outcome) else found)


def with_roles(table: Table, roles: dict[str, tuple[str, ...]]) -> Table:
    columns = tuple(replace(c, roles=roles.get(c.name, ())) for c in table.schema.columns)
    return Table(TableSchema(columns, declared=True), table.subjects, table.columns)


class TestEdges:
    @pytest.mark.usefixtures("no_noise")
    def test_a_model_that_draws_one_value_only_does_not_look_perfect(self) -> None:
        fake = patients(400, 2)
        fake.columns["crp"][:] = 7.0
        found = by_name(paid(patients(1500, 1), fake, Budget(1.0), seed=0))
        assert found[f"{COLUMNS} column=crp"].value > 0.5

    @pytest.mark.parametrize("n", [1, 2, 15])
    def test_few_subjects_are_not_spoken_of(self, n: int) -> None:
        found = paid(patients(n, 1), patients(300, 2), Budget(1.0), seed=0)
        assert all(np.isnan(s.value) and "too few" in s.note for s in found.scores)

    def test_a_column_without_a_value_and_one_column_alone(self) -> None:
        held, fake = patients(500, 1), patients(500, 2)
        for part in (held, fake):
            part.columns["crp"][:] = np.nan
        assert by_name(paid(held, fake, Budget(3.0), seed=0))[f"{COLUMNS} column=crp"].value < 0.2
        only = TableSchema((Column("died", "boolean", categories=("no", "yes")),), declared=True)
        one, other = (Table(only, t.subjects, {"died": t.columns["died"]}) for t in (held, fake))
        found = paid(one, other, Budget(1.0), seed=0)
        assert found.pairs == 0 and "no outcome" in found.asks
        assert {s.metric for s in found.scores} == {COLUMNS}

    def test_noise_below_nought_makes_nothing_certain(self) -> None:
        size = _Size(400.0, 5.0, np.random.default_rng(0))
        score = size.score(COLUMNS, -60.0, 20.0)
        # noise 20/400 = .05, and drawing 1/(2 sqrt 400) = .025
        half = 1.96 * np.sqrt(0.05**2 + 0.025**2)
        assert score.value == 0 and score.interval == pytest.approx((0.0, half))

    def test_many_levels(self) -> None:
        many = tuple(f"c{i}" for i in range(5000))
        schema = TableSchema((Column("code", "categorical", categories=many),), declared=True)
        rng = np.random.default_rng(0)
        parts = [
            Table(schema, np.arange(900), {"code": rng.integers(0, 5000, 900).astype(np.int32)})
            for _ in range(2)
        ]
        found = paid(*parts, Budget(3.0), seed=0)
        assert 0 <= found.scores[0].value <= 1

    def test_pairs_with_an_outcome_come_first(self) -> None:
        assert _pairs(SCHEMA)[:3] == [(0, 3), (1, 3), (2, 3)]
