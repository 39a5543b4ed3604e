"""Known faults of public implementations, put in on purpose: every one must be found.

Each fault names where it was seen (anchors of the privacy room: smartnoise-synth, synthcity,
mostlyai-engine, private-pgm). Each check passes on the code as it is.
"""

import contextlib
import dataclasses
import functools
import gc
import struct
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manikin import catalogue
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.io.models import save
from manikin.privacy import account, accountant
from manikin.privacy.account import Account, measuring, reading_is_paid
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Gaussian
from manikin.privacy.rows import Rows
from manikin.synthesizer import State
from manikin.synthesizers.table import _private
from manikin.synthesizers.table._coded import CodedModel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

import audit

CANARY = 61234.567
SCHEMA = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("age", "integer", minimum=0, maximum=110),
        Column("income", "continuous", minimum=0, maximum=100_000, decimals=3),
    ),
    declared=True,
)
BUDGET = Budget(2.0)


class Tainted(np.ndarray):
    """An array that says when it is read and nobody has paid."""

    reads: list[str] = []  # noqa: RUF012  (shared by every view)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        self._note(ufunc.__name__)
        plain = [np.asarray(i) if isinstance(i, Tainted) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **more)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._note(func.__name__)
        return super().__array_function__(func, types, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        self._note("index")
        return np.asarray(self.view(np.ndarray)[key])

    def _note(self, what: str) -> None:
        if not reading_is_paid():
            Tainted.reads.append(what)


def table(n: int = 80, *, tainted: bool = False) -> Table:
    rng = np.random.default_rng(4)
    columns: dict[str, Any] = {
        "sex": rng.integers(0, 2, n).astype(np.int32),
        "age": np.round(rng.normal(60, 12, n).clip(0, 110)),
        "income": np.round(rng.uniform(0, 5000, n), 3),
    }
    columns["income"][3] = CANARY
    subjects = np.arange(n)
    if tainted:
        columns = {name: values.view(Tainted) for name, values in columns.items()}
        subjects = subjects.view(Tainted)
    return Table(SCHEMA, subjects, columns)


def fitted(data: Table, seed: int = 1) -> Any:
    return catalogue.build("table/mst", {"steps": 5, "bins": 6}).fit(data, seed=seed, budget=BUDGET)


# ------------------------------------------------------------------ what is looked for


def reads_only_what_is_paid() -> bool:
    data = table(tainted=True)
    Tainted.reads.clear()
    try:
        fitted(data).sample(10, seed=1)
    except PrivacyError:  # the rows themselves refuse it
        return False
    return not Tainted.reads


def noise_differs() -> bool:
    one, two = (
        Account(BUDGET).sums(np.zeros(20, np.int64), sensitivity=1.0, rho=0.01, what="x")
        for _ in range(2)
    )
    return not np.array_equal(one, two)


def one_more_patient_changes_no_promise() -> bool:
    some, more = (fitted(table(n)).ledger for n in (80, 81))
    prices = [[(type(r).__name__, getattr(r, "noise_multiplier", 0)) for r in one]
              for one in (some, more)]  # fmt: skip
    return prices[0] == prices[1]


def no_value_is_in_the_file() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        model = fitted(table())
        save(model, path, synthesizer="table/mst", recipe=catalogue.build("table/mst"))
        content = path.read_bytes()
    return struct.pack("<d", CANARY) not in content and str(CANARY).encode() not in content


def drawing_pays_nothing(rows: int = 500) -> bool:
    model = fitted(table())
    before = model.ledger
    for _ in range(2):
        model.sample(rows, seed=2)
    return model.ledger == before and len(Heard.spent) == 0


def one_patients_key_is_not_named() -> bool:
    named = 0
    for _ in range(40):  # mostlyai-engine's setting: noise of 20, a chance of .4 each time
        kept, _ = Account(Budget(1.0), names=1).named(
            np.array([1]), keys_a_subject=1, rho=0.05**2 / 2, what="k"
        )
        named += kept.size
    return named == 0


def noise_is_as_large_as_many_keys_need() -> bool:
    purse = Account(Budget(3.0), names=1)
    _, noisy = purse.named(np.full(400, 10**6), keys_a_subject=8, rho=0.1, what="k")
    return bool(noisy.std() > 0.7 * np.sqrt(8 / (2 * 0.1)))


def games_are_lost(runs: int = 60, epsilon: float = 40.0) -> bool:
    # at ε = 40 the ledger's μ is about 3.5: 60 runs a world tell half the noise by four errors
    return not audit.broken(audit.play("table/mst", epsilon, runs), epsilon)


def noise_is_the_operating_systems() -> bool:
    """No generator of numpy is made or asked while noise is drawn: its state could be repeated."""
    asked: list[str] = []

    def spy(name: str) -> Any:
        right = getattr(np.random, name)
        return lambda *given, **more: (asked.append(name), right(*given, **more))[1]

    names = ("default_rng", "PCG64", "Philox", "normal", "laplace")
    with audit.replaced(np.random, **{name: spy(name) for name in names}):
        purse = Account(BUDGET, names=1)
        purse.sums(np.zeros(9, np.int64), sensitivity=1.0, rho=0.01, what="x")
        purse.count(np.zeros(9, np.int64), sensitivity=1, epsilon=0.01, what="x")
        purse.named(np.full(9, 9), keys_a_subject=1, rho=0.01, what="x")
        purse.choose(np.zeros(3), sensitivity=1.0, rho=0.01, what="x")
    return not asked


def the_number_of_subjects_is_noisy() -> bool:
    told = {fitted(table()).paid.subjects for _ in range(3)}
    return (
        len(told) > 1
    )  # noise is of whole numbers: three fits alike have a chance of 1e-3 or less


def every_draw_is_in_the_ledger() -> bool:
    drawn: list[str] = []
    right = account._noised

    def counted(values: Any, kind: str, scale: float) -> Any:
        drawn.append(kind)
        return right(values, kind, scale)

    with audit.replaced(account, _noised=counted):
        ledger = fitted(table()).ledger
    written = [one for one in ledger if type(one).__name__ in ("Gaussian", "Laplace", "Keys")]
    whole = 0.99 * BUDGET.epsilon < accountant.spent(ledger, BUDGET.delta).epsilon
    return whole and sum(getattr(one, "count", 1) for one in written) == len(drawn)


def accountants_know_gaussian_noise() -> bool:
    """What noise of σ = 1 and σ = 1/5 costs at δ = 1e-6: ε = 4.887 and 35.566, never less.

    By Balle and Wang (2018), with μ = 1/σ: δ = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ).
    """
    try:
        found = [accountant.spent((Gaussian("x", s),), 1e-6).epsilon for s in (1.0, 0.2)]
    except PrivacyError:  # they contradict each other, and say so
        return False
    return 4.88 < found[0] < 5.4 and 35.56 < found[1] < 40


def a_thousand_rows_of_a_patient_are_one(runs: int = 20, epsilon: float = 40.0) -> bool:
    return not audit.broken(audit.play("table/mst", epsilon, runs, rows=1000), epsilon)


def sampling_cannot_reach_the_rows() -> bool:
    """After a fit nobody holds the table, or the rows behind their guard."""
    held: list[weakref.ref[Any]] = []
    right = Rows.__init__

    def watched(self: Rows, *given: Any, **more: Any) -> None:
        right(self, *given, **more)
        held.append(weakref.ref(self))

    data = table(tainted=True)
    held += [weakref.ref(values) for values in data.columns.values()]
    with audit.replaced(Rows, __init__=watched):
        model = fitted(data)
    del data
    gc.collect()
    assert len(held) > len(SCHEMA.columns)
    return not any(one() is not None for one in held) and model.sample(1, seed=0).n_rows == 1


# ------------------------------------------------------------------ the faults


class Heard:
    spent: list[float] = []  # noqa: RUF012


@contextlib.contextmanager
def domain_from_the_rows() -> Any:
    """smartnoise-synth `LabelTransformer`, synthcity `X.nunique()`: categories read from data."""
    right = _private.prepare

    def wrong(data: Table, budget: Budget, **more: Any) -> Any:
        top = float(np.max(data.columns["age"]))
        schema = SCHEMA.replace(dataclasses.replace(SCHEMA["age"], maximum=top))
        return right(dataclasses.replace(data, schema=schema), budget, **more)

    with audit.replaced(_private, prepare=wrong):
        yield


@contextlib.contextmanager
def raw_validation() -> Any:
    """synthcity DPGAN, mostlyai-engine: stopping early on raw held-out rows."""
    right = _private.finish

    def wrong(prepared: Any, fitted_: Any, name: str) -> Any:
        float(prepared.rows.codes[:, 0].mean())
        return right(prepared, fitted_, name)

    with audit.replaced(_private, finish=wrong):
        yield


@contextlib.contextmanager
def seeded_noise() -> Any:
    """private-pgm's AIM, mostlyai-engine: noise of a generator with a recorded seed."""

    def wrong(values: Any, kind: str, scale: float) -> Any:
        drawn = np.random.default_rng(0).normal(0, scale, np.shape(values))
        return values + np.rint(drawn).astype(np.int64)

    with audit.replaced(account, _noised=wrong):
        yield


@contextlib.contextmanager
def delta_from_the_rows() -> Any:
    """smartnoise-synth δ = 1/(n√n), synthcity δ = 1/n: the number of patients is private."""
    right = _private.prepare

    def wrong(data: Table, budget: Budget, **more: Any) -> Any:
        return right(data, Budget(budget.epsilon, 1e-3 / len(data.subjects)), **more)

    with audit.replaced(_private, prepare=wrong):
        yield


@contextlib.contextmanager
def rows_in_the_model() -> Any:
    """synthcity: the model's file holds the raw table."""
    right = CodedModel.state

    def wrong(self: Any) -> State:
        found = right(self)
        return State({**found.arrays, "raw": table().columns["income"]}, found.values)

    with audit.replaced(CodedModel, state=wrong):
        yield


@contextlib.contextmanager
def measured_at_every_draw() -> Any:
    """synthcity's AIM: `generate()` runs the mechanism on raw rows at every call."""
    Heard.spent.clear()
    right = CodedModel.sample

    def wrong(self: Any, n: int, *, seed: int) -> Table:
        again = fitted(table())
        Heard.spent.append(1.0)
        return right(again, n, seed=seed)

    with audit.replaced(CodedModel, sample=wrong):
        yield
    Heard.spent.clear()


def fixed_threshold() -> Any:
    """mostlyai-engine: a threshold of 5 for any ε."""
    return audit.replaced(account, threshold=lambda *_: 5.0)


@contextlib.contextmanager
def one_key_a_subject() -> Any:
    """mostlyai-engine: patients with k codes counted as if they moved one count."""
    right = Account.named

    def wrong(self: Any, counts: Any, *, keys_a_subject: int, rho: float, what: str) -> Any:
        return right(self, counts, keys_a_subject=1, rho=rho, what=what)

    with audit.replaced(Account, named=wrong):
        yield


def noise_of_numpy() -> Any:
    """private-pgm's mechanisms, mostlyai-engine: noise of floats that can be guessed."""

    def wrong(values: Any, kind: str, scale: float) -> Any:
        return values + np.rint(np.random.default_rng().normal(0, scale, np.shape(values)))

    return audit.replaced(account, _noised=lambda *given: wrong(*given).astype(np.int64))


@contextlib.contextmanager
def exact_row_count() -> Any:
    """smartnoise-synth: as many rows as there were."""
    right = _private.finish

    def wrong(prepared: Any, *given: Any) -> Any:
        with measuring():
            exact = float(np.unique(prepared.rows.subjects).size)
        model = right(prepared, *given)
        return dataclasses.replace(model, paid=dataclasses.replace(model.paid, subjects=exact))

    with audit.replaced(_private, finish=wrong):
        yield


@contextlib.contextmanager
def encoder_of_raw_rows() -> Any:
    """synthcity DPGAN: a mixture is fitted to raw numbers before anything is paid for."""
    right = _private.prepare

    def wrong(data: Table, budget: Budget, **more: Any) -> Any:
        np.quantile(data.columns["income"], [0.25, 0.5, 0.75])
        return right(data, budget, **more)

    with audit.replaced(_private, prepare=wrong):
        yield


@contextlib.contextmanager
def releases_that_are_not_written_down() -> Any:
    """smartnoise-synth #569, opacus #807: a ledger that says less than was drawn."""
    right = Account._pay

    def wrong(self: Account, release: Any) -> None:
        right(self, release)
        if len(self.releases) % 3 == 0:
            self.releases.pop()
            self.releases.append(dataclasses.replace(self.releases.pop(), what="both"))

    with audit.replaced(Account, _pay=wrong):
        yield


@contextlib.contextmanager
def blind_at_small_noise() -> Any:
    """opacus #601, #604: an accountant that fails, or says nothing, where noise is small."""
    accountant._spent.cache_clear()
    with audit.replaced(accountant, _pld=lambda *_: None, _rdp=lambda *_: 1.0):
        yield
    accountant._spent.cache_clear()


@contextlib.contextmanager
def rows_not_bounded() -> Any:
    """No bound of what a patient contributes: noise is scaled to one row, and all rows count."""
    right = Rows.__init__

    def unguarded(self: Rows, codes: Any, subjects: Any, *more: Any) -> None:
        right(self, codes, np.arange(len(codes)), *more)

    everything = lambda subjects, most: np.arange(subjects.size)  # noqa: E731
    with audit.replaced(_private, at_most=everything), audit.replaced(Rows, __init__=unguarded):
        yield


@contextlib.contextmanager
def rows_kept_by_the_model() -> Any:
    """synthcity: the fitted object keeps the raw table, from which it generates."""
    right = _private.finish

    def wrong(prepared: Any, *given: Any) -> Any:
        model = right(prepared, *given)
        object.__setattr__(model, "kept", prepared)
        return model

    with audit.replaced(_private, finish=wrong):
        yield


FAULTS: dict[str, tuple[Callable[[], Any], Callable[[], bool]]] = {
    "domain from the rows": (domain_from_the_rows, reads_only_what_is_paid),
    "raw validation": (raw_validation, reads_only_what_is_paid),
    "seeded noise": (seeded_noise, noise_differs),
    "δ from the rows": (delta_from_the_rows, one_more_patient_changes_no_promise),
    "rows in the model": (rows_in_the_model, no_value_is_in_the_file),
    "noise of numpy": (noise_of_numpy, noise_is_the_operating_systems),
    "exact row count": (exact_row_count, the_number_of_subjects_is_noisy),
    "encoder of raw rows": (encoder_of_raw_rows, reads_only_what_is_paid),
    "releases not written down": (releases_that_are_not_written_down, every_draw_is_in_the_ledger),
    "blind at small noise": (blind_at_small_noise, accountants_know_gaussian_noise),
    "rows not bounded": (rows_not_bounded, a_thousand_rows_of_a_patient_are_one),
    "rows kept by the model": (rows_kept_by_the_model, sampling_cannot_reach_the_rows),
    "measured at every draw": (measured_at_every_draw, drawing_pays_nothing),
    "fixed threshold": (fixed_threshold, one_patients_key_is_not_named),
    "one key a subject": (one_key_a_subject, noise_is_as_large_as_many_keys_need),
    **{
        name: (functools.partial(audit.bug, name), games_are_lost)
        for name in ("half the noise", "exact counts")
    },
}


CHECKS = tuple(dict.fromkeys(check for _, check in FAULTS.values()))


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found(name: str) -> None:
    put_in, holds = FAULTS[name]
    with put_in():
        assert not holds(), f"{name}: not found"


@pytest.mark.parametrize("holds", CHECKS, ids=lambda c: c.__name__)
def test_the_check_passes_without_it(holds: Callable[[], bool]) -> None:
    assert holds()


def test_rows_that_were_not_bounded_are_refused() -> None:
    with audit.replaced(_private, at_most=lambda subjects, most: np.arange(subjects.size)):
        data = dataclasses.replace(table(), subjects=np.zeros(80, np.int64))
        with pytest.raises(PrivacyError, match="more rows than count"):
            fitted(data)


@pytest.mark.slow
def test_a_million_rows_twice_cost_nothing() -> None:
    assert drawing_pays_nothing(10**6)
