"""What a schema leaves open: bought with noise, or not known at all."""

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import manikin as mk
from manikin.data.rules import Combinations, Condition, IfThen
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, PrivacyError
from manikin.io.models import load
from manikin.io.tables import open_table
from manikin.leaving import FOLDER
from manikin.privacy import account, domain
from manikin.privacy.account import reading_is_paid
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.domain import OTHER, Discovery, OneEach, discover, left_open
from manikin.privacy.game import two_worlds
from manikin.privacy.ledger import Gaussian, Keys
from manikin.release.record import read_record

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

SURE = Discovery(Budget(1e5), 0.5)  # so much that noise rounds to nothing
OPEN = TableSchema(
    (
        Column("age", "integer"),
        Column("ward", "categorical"),
        Column("crp", "continuous", decimals=1),
        Column("born", "datetime", date_format="%Y-%m-%d"),
        Column("died", "boolean", categories=("no", "yes")),
    ),
    declared=True,
)
WARDS = ("A", "B", "Z canary")


def table(n: int = 900, wards: tuple[str, ...] = WARDS, **own: Any) -> Table:
    """Return a table whose schema has seen its rows; nobody is on the last ward."""
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(16, 128, n).astype(float),
        "ward": rng.integers(0, max(len(wards) - 1, 1), n).astype(np.int32),
        "crp": np.round(rng.uniform(0.8, 51.1, n), 1),
        "born": np.datetime64("1950-01-01", "us")
        + rng.integers(0, 7300, n) * np.timedelta64(1, "D"),
        "died": rng.integers(0, 2, n).astype(np.int32),
        **own,
    }  # fmt: skip
    seen = OPEN.replace(Column("ward", "categorical", categories=wards))
    return Table(seen, np.arange(n), columns)


# ---------------------------------------------------------------------------- what is found


def test_ranges_and_levels_by_hand() -> None:
    found = discover(table(), OPEN, SURE).table.schema
    assert (found["age"].minimum, found["age"].maximum) == (16, 127)
    # .8 is 8 tenths, in 8 to 15 of them; 51.1 is 511 tenths, in 256 to 511
    assert (found["crp"].minimum, found["crp"].maximum) == (0.8, 51.1)
    # 1950-01-01 to 1969-12-25, so two decades, in seconds; 7305 days
    assert found["born"].minimum == -631152000.0
    assert found["born"].maximum == -631152000.0 + 7305 * 86400 - 1
    assert found["ward"].categories == ("A", "B", OTHER)
    assert not left_open(found) and found["died"] == OPEN["died"]


def test_every_value_is_in_its_range() -> None:
    values = np.array([0, 0.4, 1, -1, 2, 3, 4, 7, 8, -8, 1e6, -1e300, 1e300, np.inf])
    within, low, high = domain._doubling(values, 1.0)
    # by hand: 0 and .4 are no unit; ±1; 2 to 3; 4 to 7; 8 to 15; 1e6 is in 2^19 to 2^20 - 1
    found = list(zip(low[within], high[within], strict=True))
    assert found[:11] == [
        (0, 0), (0, 0), (1, 1), (-1, -1), (2, 3), (2, 3), (4, 7), (4, 7), (8, 15), (-15, -8),
        (2**19, 2**20 - 1),
    ]  # fmt: skip
    assert within[11:].tolist() == [0, 80, 80]  # what is beyond counts at the ends
    assert (np.diff(low) > 0).all() and (low[1:] - high[:-1] == 1).all(), "gaps or overlaps"


@given(st.floats(-1e9, 1e9), st.integers(0, 3))
def test_a_value_lies_between_the_ends_of_its_range(value: float, places: int) -> None:
    value, unit = round(value, places), 10.0**-places
    within, low, high = domain._doubling(np.array([value]), unit)
    assert low[within[0]] - unit / 2 <= value <= high[within[0]] + unit / 2


def test_decades() -> None:
    moments = np.array(["1969-12-31T23:59:59", "1970-01-01", "1066-10-14", "2345-01-01"],
                       "datetime64[s]").astype(float)  # fmt: skip
    within, low, high = domain._decades(moments)
    assert within.tolist() == [16, 17, 0, 29]
    assert low[17] == 0 and high[16] == -1


def test_ranges_stand_out_alone_or_together_and_grow_by_what_is_beside() -> None:
    noisy = np.zeros(40, np.int64)
    noisy[[10, 12, 14]] = 60, 30, 29  # σ = 10: 4.9 deviations stand out, and 2 beside
    assert domain._seen(noisy, 10.0, 4) == (10, 10)
    noisy[[9, 11, 13]] = 21, 21, 20  # 20 is no more than 2 deviations
    assert domain._seen(noisy, 10.0, 4) == (9, 12)
    noisy = np.zeros(40, np.int64)
    noisy[20:24] = 33  # alone none; four together are 132, 6.6 deviations of 20
    assert domain._seen(noisy, 10.0, 2) is None
    assert domain._seen(noisy, 10.0, 4) == (20, 23)
    noisy[20:36] = 15  # sixteen together are 240: six deviations of 40, and none by itself is sure
    assert domain._seen(noisy, 10.0, 4) is None
    first, last = domain._seen(noisy, 10.0, 16) or (0, 0)
    assert first <= 20 and last >= 35
    assert domain._seen(np.zeros(40, np.int64), 10.0, 16) is None


def test_an_end_that_is_declared_stays() -> None:
    schema = OPEN.replace(Column("age", "integer", minimum=0))
    schema = schema.replace(Column("crp", "continuous", decimals=1, maximum=30))
    found = discover(table(), schema, SURE).table.schema
    assert (found["age"].minimum, found["age"].maximum) == (0, 127)
    assert (found["crp"].minimum, found["crp"].maximum) == (0.8, 30)
    beyond = OPEN.replace(Column("age", "integer", minimum=500))  # above all that is seen
    assert discover(table(), beyond, SURE).table.schema["age"].maximum == 500


def test_a_clock_has_a_day_and_nothing_is_paid_for_it() -> None:
    column = Column("at", "datetime", date_format="%H:%M")
    schema = TableSchema((column,), declared=True)
    moments = np.array(["1970-01-01T07:30"] * 30, "datetime64[us]")
    found = discover(Table(schema, np.arange(30), {"at": moments}), schema, SURE)
    assert found.table.schema["at"].maximum == 86399 and found.releases == ()


# ---------------------------------------------------------------------------- what is not


def test_unnamed_levels_become_one_or_missing() -> None:
    codes = np.zeros(400, np.int32)
    codes[:3], codes[5] = (1, 2, 2), -1
    read = table(400, ward=codes)
    usual = Discovery(Budget(1.0), 0.3)
    whole = discover(read, OPEN, usual).table
    assert whole.schema["ward"].categories == ("A", OTHER)
    assert whole.columns["ward"][:6].tolist() == [1, 1, 1, 0, 0, -1]
    numbered = OPEN.replace(Column("ward", "categorical", dtype="Int64"))
    whole = discover(read, numbered, usual).table
    assert whole.schema["ward"].categories == ("A",)
    assert whole.columns["ward"][:6].tolist() == [-1, -1, -1, 0, 0, -1]


def test_what_has_several_marks_is_missing_by_the_first() -> None:
    column = Column("ward", "categorical", dtype="Int64", missing=("", "NA"))
    schema = TableSchema((column,), declared=True)
    seen = TableSchema((dataclasses.replace(column, categories=("1", "2")),))
    codes = np.r_[1, -1, -1, np.zeros(500)].astype(np.int32)
    state = np.r_[0, 2, 1, np.zeros(500)].astype(np.int8)
    read = Table(seen, np.arange(503), {"ward": codes}, {"ward": state})
    made = discover(read, schema, Discovery(Budget(1.0), 0.5)).table
    assert made.state("ward")[:4].tolist() == [1, 2, 1, 0]


def test_what_noise_hides_is_named_all_at_once_and_nothing_is_made() -> None:
    few = table(12)
    with pytest.raises(PrivacyError, match=r"age, crp, born.*--discover"):
        discover(few, OPEN, Discovery(Budget(0.5)))


def test_levels_that_are_all_rare_are_told_of() -> None:
    names = tuple(f"{i:03d}" for i in range(300))
    read = table(300, names, ward=np.arange(300, dtype=np.int32))
    found = discover(read, OPEN, Discovery(Budget(3.0), 0.5)).table.schema
    assert found["ward"].categories == (OTHER,)
    (said,) = domain.told(found)
    assert "'ward'" in said and domain.told(OPEN) == ()


def test_levels_that_rules_spell_are_public_already() -> None:
    rules = (
        IfThen((Condition("ward", "=", ("C",)),), (Condition("died", "=", ("no",)),)),
        Combinations(("died", "ward"), (("no", "A"), ("yes", "D"))),
    )
    ruled = dataclasses.replace(OPEN, rules=rules)
    found = discover(table(), ruled, SURE).table
    assert found.schema["ward"].categories == ("A", "B", "C", "D", OTHER)
    assert found.schema["died"].categories == ("no", "yes")


def test_a_level_that_is_called_so_already() -> None:
    read = table(wards=("A", OTHER, "C"))
    found = discover(read, OPEN, SURE).table
    assert found.schema["ward"].categories == ("A", OTHER)


@pytest.mark.parametrize("n", [0, 1])
def test_next_to_nobody(n: int) -> None:
    with pytest.raises(PrivacyError, match="noise hides"):
        discover(table(n), OPEN, Discovery(Budget(1.0)))


def test_all_missing_and_one_value() -> None:
    gone = table(500, age=np.full(500, np.nan), crp=np.zeros(500))
    only = TableSchema((OPEN["crp"],), declared=True)
    part = Table(only, gone.subjects, {"crp": gone.columns["crp"]})
    found = discover(part, only, SURE).table.schema["crp"]
    assert (found.minimum, found.maximum) == (0, 0)
    with pytest.raises(PrivacyError, match="everything: age;"):
        discover(gone, OPEN, SURE)


# ---------------------------------------------------------------------------- what it costs


def test_shares_of_the_budget_are_even_and_kept() -> None:
    found = discover(table(), OPEN, Discovery(Budget(3.0), 0.2))
    assert [one.what for one in found.releases] == [
        "range of 'age'", "levels of 'ward'", "range of 'crp'", "range of 'born'",
    ]  # fmt: skip
    noise = {one.noise_multiplier for one in found.releases if isinstance(one, Gaussian | Keys)}
    assert len(noise) == 1
    (keys,) = [one for one in found.releases if isinstance(one, Keys)]
    assert keys.delta == pytest.approx(1e-7)
    rest = account.Account(Budget(3.0, spent=found.releases))
    whole = account.Account(Budget(3.0), names=1)
    assert rest.left == pytest.approx(0.8 * whole.rho, rel=1e-6)
    rest.sums(np.zeros(1, np.int64), sensitivity=1.0, rho=rest.left, what="x")
    assert spent(rest.ledger(), 1e-6).epsilon == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("share", [-0.1, 0.0, 0.6, math.nan])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(PrivacyError, match="share"):
        Discovery(Budget(1.0), share)


def test_one_row_of_each_subject_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One patient comes a thousand times, each time on another ward and another age."""
    heard = []
    noised = account._noised

    def listening(values: np.ndarray, kind: str, scale: float) -> np.ndarray:
        heard.append(int(values.sum()))
        return noised(values, kind, scale)

    monkeypatch.setattr(account, "_noised", listening)
    read = table(1000, tuple(map(str, range(1000))), ward=np.arange(1000, dtype=np.int32))
    often = dataclasses.replace(read, subjects=np.zeros(1000, np.int64))
    with pytest.raises(PrivacyError, match="noise hides"):
        discover(often, OPEN, Discovery(Budget(1.0)))
    assert heard == [1, 1, 1, 1]


class Tainted(np.ndarray):
    """An array that may be looked at only while a release is being computed."""

    def __array_finalize__(self, _: object) -> None: ...

    def _plain(self) -> np.ndarray:
        if not reading_is_paid():
            raise AssertionError("a private array was read, and nobody had paid")
        return np.ndarray.view(self, np.ndarray)

    def __array_ufunc__(self, ufunc: Any, method: str, *given: Any, **more: Any) -> Any:
        plain = [one._plain() if isinstance(one, Tainted) else one for one in given]
        return getattr(ufunc, method)(*plain, **more)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._plain()
        return super().__array_function__(func, types, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._plain()[key]

    def __array__(self, *given: Any, **more: Any) -> Any:
        return np.asarray(self._plain(), *given, **more)


def test_nothing_is_read_that_is_not_paid_for() -> None:
    plain = table()
    columns = {name: values.view(Tainted) for name, values in plain.columns.items()}
    tainted = Table(plain.schema, plain.subjects.view(Tainted), columns)
    with pytest.raises(AssertionError, match="nobody had paid"):  # the guard works
        _ = np.unique(tainted.columns["age"])
    discover(tainted, OPEN, Discovery(Budget(3.0), 0.3))
    with pytest.raises(PrivacyError, match="outside a release"):
        _ = OneEach(plain).table
    assert repr(OneEach(plain)) == "OneEach(columns=5)"


# ---------------------------------------------------------------------------- games


def heard_of(
    n: int, runs: int, money: Discovery, patch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy counts where a patient of 40 would be, and how many wards were named."""
    schema = TableSchema((OPEN["age"], OPEN["ward"]), declared=True)
    seen = schema.replace(Column("ward", "categorical", categories=("only mine",) * n))
    read = Table(seen, np.arange(n), {"age": np.full(n, 40.0), "ward": np.zeros(n, np.int32)})
    at = int(domain._doubling(np.array([40.0]), 1.0)[0][0])
    counted: list[float] = []
    named: list[int] = []
    noised, names = account._noised, account.Account.named

    def listening(values: np.ndarray, kind: str, scale: float) -> np.ndarray:
        noisy = noised(values, kind, scale)
        if noisy.size > 1:  # a range's; there is one ward at most
            counted.append(float(noisy[at]))
        return noisy

    def naming(self: account.Account, counts: np.ndarray, **more: Any) -> Any:
        kept, noisy = names(self, counts, **more)
        named.append(kept.size)
        return kept, noisy

    with patch.context() as inside:
        inside.setattr(account, "_noised", listening)
        inside.setattr(account.Account, "named", naming)
        for _ in range(runs):
            try:
                discover(read, schema, money)
            except PrivacyError:
                pass  # no range stood out
    return np.array(counted), np.array(named, float)


def test_a_patient_more_is_found_no_oftener_than_was_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    money = Discovery(Budget(20.0), 0.5)
    out, inside = (heard_of(n, 160, money, monkeypatch) for n in (0, 1))
    rho, claimed = claims(money)
    found = two_worlds(out[0], inside[0], money.budget.delta)
    assert found.epsilon <= claimed
    assert found.mu is not None and found.mu_error is not None
    # μ of a Gaussian mechanism is the root of 2ρ: 1.54 here; within four errors
    assert abs(found.mu - math.sqrt(2 * rho)) < 4 * found.mu_error
    assert found.mu > 4 * found.mu_error, "the game is too weak to find anything"
    assert inside[1].sum() == out[1].sum() == 0, "a level of one patient was named"


def claims(money: Discovery) -> tuple[float, float]:
    """Return ρ of each of two columns, and the ε that is claimed for one by itself."""
    rho = money.share / 2 * account.Account(money.budget, names=1).rho
    return rho, spent((Gaussian("x", 1 / math.sqrt(2 * rho)),), money.budget.delta).epsilon


def test_the_game_finds_a_threshold_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    money = Discovery(Budget(0.3), 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(account, "threshold", lambda *_: 1.0)
        inside = heard_of(1, 80, money, patch)[1]
        out = heard_of(0, 80, money, patch)[1]
    # named by a coin with the patient, and never without: of 40 runs judged, at least ln(.34/.09)
    assert two_worlds(out, inside, money.budget.delta).epsilon > claims(money)[1]


# ---------------------------------------------------------------------------- the road

SCHEMA = """
columns:
  - {name: patient, kind: identifier, roles: [subject]}
  - {name: age, kind: integer}
  - {name: ward, kind: categorical}
  - {name: crp, kind: continuous, decimals: 1, minimum: 0}
  - {name: seen, kind: datetime, date_format: "%d/%m/%Y"}
  - {name: died, kind: boolean, categories: ["no", "yes"], roles: [target]}
"""
EXTREME, OLDEST = 98765432.1, 43210987  # digits that no other number has by chance


def patients(n: int = 1500) -> pl.DataFrame:
    """Return patients of whom the fourth has a ward, a value, an age and a date like nobody."""
    rng = np.random.default_rng(1)
    ward = rng.choice(["east", "west"], n).astype(object)
    crp, age = np.round(rng.uniform(1, 100, n), 1), rng.integers(32, 100, n)
    seen = [f"{d:02d}/03/{y}" for d, y in zip(rng.integers(1, 28, n), rng.integers(2012, 2019, n),
                                              strict=True)]  # fmt: skip
    ward[3], crp[3], age[3], seen[3] = "CANARYWARD", EXTREME, OLDEST, "17/07/1817"
    return pl.DataFrame(
        {"patient": rng.permutation(n), "age": age, "ward": ward.astype(str), "crp": crp,
         "seen": seen, "died": np.where(rng.random(n) < 0.3, "yes", "no")}
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    patients().write_csv(folder / "c.csv")
    (folder / "s.yaml").write_text(SCHEMA)
    return folder


@pytest.fixture(scope="module")
def left(home: Path) -> Path:
    """Return the folder of what may leave."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        patch.setattr("manikin.catalogue.in_profile", lambda *_: ("fidelity/shapes",))
        made = mk.synthesize(
            home / "c.csv", out=home / "r", schema=home / "s.yaml", epsilon=3, discover=0.3,
            synthesizer="table/mst", settings={"steps": 20}, profile="quick", seed=1,
        )  # fmt: skip
    return made.directory / FOLDER


class TestRoad:
    def test_no_canary_is_in_what_leaves(self, left: Path) -> None:
        files = list(left.iterdir())
        assert len(files) == 7
        numbers = [struct.pack("<d", x) for x in (EXTREME, OLDEST, 10 * EXTREME)]
        texts = [b"CANARYWARD", b"98765432", b"43210987", b"/1817", b"1817-07"]
        for file in files:
            content = file.read_bytes()
            for canary in (*texts, *numbers):
                assert canary not in content, file.name

    def test_the_model_knows_what_was_bought(self, left: Path) -> None:
        model = load(left / "model.manikin").model
        schema: Any = model.schema
        assert schema["ward"].categories == ("east", "west", OTHER)
        assert (schema["age"].minimum, schema["age"].maximum) == (32, 127)
        assert schema["crp"].minimum == 0 and schema["crp"].maximum < 1000
        assert 2000 < 1970 + schema["seen"].minimum / 31557600 < 2011
        bought = [one.what for one in model.ledger if one.what.startswith(("range", "levels"))]
        assert bought == ["range of 'age'", "levels of 'ward'", "range of 'crp'", "range of 'seen'"]
        assert 2.9 < spent(model.ledger, 1e-6).epsilon <= 3 * (1 + 1e-6)
        assert mk.verify(left).ok

    def test_the_papers_say_so(self, left: Path) -> None:
        said = (left / "statement.md").read_text("utf-8")
        for words in ("What was bought because", "- levels of 'ward'", "names of levels whose count"
                      " passed", "but for what was bought", "held-out subjects too"):  # fmt: skip
            assert words in said, words
        assert "what was bought from the budget" in (left / "README.md").read_text("utf-8")
        told = {entry.event: entry.content for entry in read_record(left / "record.jsonl")}
        assert told["asked"]["discover"] == 0.3
        assert told["fitted"]["budget"] == {"epsilon": 3, "delta": 1e-6}
        assert "levels of 'ward'" in {one["what"] for one in told["fitted"]["ledger"]}

    def test_drawn_rows_are_of_the_schema_that_was_bought(self, left: Path) -> None:
        drawn = pl.read_csv(left / "data.csv")
        assert set(drawn["ward"].unique()) <= {"east", "west", OTHER}
        assert drawn["crp"].max() < 1000 and drawn["age"].max() <= 127  # type: ignore[operator]

    def test_releases_of_the_same_rows_add_up_though_levels_differ(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
        for share in (0.3, 0.4):
            mk.fit(
                home / "c.csv", out=tmp_path / f"{share}.manikin", schema=home / "s.yaml",
                epsilon=1, discover=share, synthesizer="table/mst", settings={"steps": 5},
            )  # fmt: skip
        (total,) = mk.privacy_ledger(tmp_path)
        assert len(total.entries) == 2 and 1.2 < total.epsilon < 2

    def test_what_is_not_there_without_being_paid_for(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every paid release is made a constant; then other rows must leave the same schema."""

        def constant(values: np.ndarray, kind: str, scale: float) -> np.ndarray:
            noise = np.zeros(values.shape, np.int64)
            noise[: 20 if values.size in (30, 81) else 0] = 10**6  # ranges, of which all know
            return noise

        monkeypatch.setattr(account, "_noised", constant)
        frame = patients(300).with_columns(
            ward=pl.lit("ünlike"), crp=pl.lit(3.7), age=pl.lit(7), seen=pl.lit("01/01/1999"),
            patient=pl.arange(300) // 3,
        )  # fmt: skip
        frame.write_csv(tmp_path / "other.csv")
        schemas = [
            open_table(path, schema=mk.TableSchema.from_json(_plain(home)), unread=True,
                       discovery=Discovery(Budget(1.0))).table.schema
            for path in (home / "c.csv", tmp_path / "other.csv")
        ]  # fmt: skip
        assert schemas[0] == schemas[1] and schemas[0]["ward"].categories == (OTHER,)

    def test_columns_of_numbers_that_are_levels(self, tmp_path: Path, home: Path) -> None:
        frame = patients(600).with_columns(
            ward=pl.when(pl.arange(600) < 590).then(7).otherwise(pl.arange(600))
        )
        frame.write_parquet(tmp_path / "c.parquet")
        model = mk.fit(
            tmp_path / "c.parquet", schema=home / "s.yaml", epsilon=3, discover=0.3,
            synthesizer="table/mst", settings={"steps": 5}, out=tmp_path / "m",
        )  # fmt: skip
        assert model.schema["ward"].categories == ("7",)
        mk.sample(tmp_path / "m", n=50, out=tmp_path / "new.parquet")
        assert pl.read_parquet(tmp_path / "new.parquet").schema == frame.schema


def _plain(home: Path) -> Any:
    from manikin.io.schema_file import read_schema

    return read_schema(home / "s.yaml").to_json()


class TestDoors:
    def test_without_the_flag_everything_is_asked_for_in_one_go(self, home: Path) -> None:
        with pytest.raises(PrivacyError) as caught:
            mk.fit(home / "c.csv", schema=home / "s.yaml", epsilon=1)
        error = caught.value
        assert "age, crp, seen; ward" in error.given and error.allowed
        assert "age, crp, seen: say 'minimum' and 'maximum'" in error.todo
        assert "ward: list the 'categories'" in error.todo and "--discover 0.1" in error.todo

    def test_spelling_and_order_are_asked_for_still(self, home: Path, tmp_path: Path) -> None:
        text = SCHEMA.replace(', date_format: "%d/%m/%Y"', "").replace(", decimals: 1", "")
        text = text.replace(', categories: ["no", "yes"]', "")
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(PrivacyError) as caught:
            mk.fit(home / "c.csv", schema=tmp_path / "s.yaml", epsilon=1, discover=0.1)
        assert "died; seen; crp" in caught.value.given
        assert "--discover" not in caught.value.todo

    def test_an_inferred_schema_is_refused_still(self, home: Path) -> None:
        with pytest.raises(PrivacyError, match="inferred"):
            mk.fit(home / "c.csv", epsilon=1, discover=0.1)

    def test_a_share_of_no_budget(self, home: Path) -> None:
        for door in (mk.fit, mk.synthesize):
            with pytest.raises(InputError, match="no budget"):
                door(home / "c.csv", schema=home / "s.yaml", discover=0.1)

    def test_true_is_the_usual_share(self) -> None:
        from manikin.budgeted import discovery_of

        found = discovery_of(Budget(1.0), True)
        assert found is not None and found.share == domain.USUAL
        assert discovery_of(Budget(1.0), 0.0) is None

    def test_a_schema_that_leaves_nothing_open_costs_nothing(
        self, home: Path, tmp_path: Path
    ) -> None:
        frame = patients(60).select("died")
        schema = mk.TableSchema((OPEN["died"],), declared=True)
        found = open_table(frame, schema=schema, unread=True, discovery=SURE)
        assert found.bought == () and found.whole is found.table
