"""One kit over every metric that the tree lists."""

import dataclasses

import numpy as np
import pytest

from manikin.catalogue import metric_names, metrics
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.controls import copy_share, floor, fresh
from manikin.metrics.judge import judge
from manikin.metrics.score import Card, Score, Trial

NAMES = metric_names()
OWN = [name for name in NAMES if not name.startswith("validity/")]  # others have kits of their own
SCHEMA = TableSchema(
    (
        Column("sex", "boolean", ("sensitive",), ("f", "m")),
        Column("stage", "ordinal", ("quasi_identifier",), ("I", "II", "III", "IV")),
        Column("ward", "categorical", (), tuple(f"w{i}" for i in range(12))),
        Column("age", "integer", ("quasi_identifier",)),
        Column("marker", "continuous", decimals=2, missing=("", "NA"), special=("<0.1",)),
        Column("visit", "datetime"),
        Column("months", "continuous", ("time",), decimals=1),
        Column("dead", "boolean", ("event",), ("0", "1")),
        Column("response", "boolean", ("target",), ("no", "yes")),
        Column("constant", "continuous"),
        Column("empty", "continuous"),
        Column("note", "text"),
    )
)


def patients(n: int, seed: int, rows_each: int = 1) -> Table:
    """Rows whose stage goes with age, marker, survival and response; a subject's rows are alike."""
    rng = np.random.default_rng(seed)
    n_subjects = max(1, n // rows_each)
    of = np.arange(n) % n_subjects
    latent = rng.normal(size=n_subjects)[of]
    stage = np.clip(np.floor(latent + 2 + 0.3 * rng.normal(size=n)), 0, 3)
    age = np.rint(60 + 8 * latent + 4 * rng.normal(size=n))
    marker = np.round(np.exp(0.8 * latent + 0.5 * rng.normal(size=n)), 2)
    states = np.where(latent + rng.normal(size=n) < -1.5, 1 + rng.integers(0, 3, n), 0)
    months = np.round(rng.exponential(40 * np.exp(-latent)), 1)
    ended = rng.uniform(10, 90, size=n).round(1)
    day = np.datetime64("2020-01-01", "us") + (rng.integers(0, 900, n) * 86_400_000_000).astype(
        "timedelta64[us]"
    )
    return Table(
        SCHEMA,
        of.astype(np.int64),
        {
            "sex": rng.integers(0, 2, n).astype(np.int32),
            "stage": np.where(rng.random(n) < 0.05, -1, stage).astype(np.int32),
            "ward": np.minimum(rng.geometric(0.3, n) - 1, 11).astype(np.int32),
            "age": age,
            "marker": np.where(states > 0, np.nan, marker),
            "visit": day,
            "months": np.minimum(months, ended),
            "dead": (months <= ended).astype(np.int32),
            "response": (latent + 0.5 * rng.normal(size=n) > 0.8).astype(np.int32),
            "constant": np.full(n, 3.0),
            "empty": np.full(n, np.nan),
        },
        {"marker": states.astype(np.int8)},
    )


@pytest.fixture(scope="module")
def trial() -> Trial[Table]:
    return Trial(patients(600, 1), patients(600, 2), patients(600, 3))


def well_formed(scores: tuple[Score, ...], name: str) -> None:
    keys = [(score.metric, score.group) for score in scores]
    assert len(set(keys)) == len(keys)
    for score in scores:
        assert score.metric.split(".")[0] == name
        low, high = score.interval
        if np.isnan(score.value):
            assert score.note, "what cannot be estimated says why"
        elif not np.isnan(low):
            assert low <= score.value <= high


def means(scores: tuple[Score, ...]) -> dict[str, float]:
    return {s.metric.split("/")[1].split(".")[-1]: s.value for s in scores if s.group == "all"}


@pytest.mark.parametrize("name", NAMES)
def test_the_card_explains_the_number(name: str) -> None:
    module = __import__(f"manikin.metrics.{name.replace('/', '.')}", fromlist=["CARD"])
    assert isinstance(module.CARD, Card) and module.CARD.family == name.split("/")[0]
    assert len(module.CARD.reads) > 60 and module.CARD.reads.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_well_formed_deterministic_and_change_nothing(name, trial) -> None:
    before = [dataclasses.asdict(part)["columns"] for part in (trial.train, trial.synthetic)]
    metric = metrics((name,))[name]
    scores = metric(trial, seed=5)
    well_formed(scores, name)
    assert repr(metric(trial, seed=5)) == repr(scores)
    for part, old in zip((trial.train, trial.synthetic), before, strict=True):
        for column, values in part.columns.items():
            assert np.array_equal(values, old[column], equal_nan=values.dtype.kind in "fM")


@pytest.mark.parametrize("name", OWN)
def test_fresh_real_rows_score_as_fresh_real_rows_do(name, trial) -> None:
    """The synthetic part here is real: what it scores lies about its own ceiling."""
    for score in judge(trial, metrics((name,)), seed=0):
        if score.group == "all" and score.ceiling is not None:
            room = 3 * (score.interval[1] - score.interval[0]) / 2 + 0.03
            assert abs(score.value - score.ceiling) <= room, score


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fidelity/trends", "trends"),
        ("fidelity/detection", "score"),
        ("utility/prediction", "auc_tstr"),
        ("utility/survival", "c_tstr"),
        ("fairness/subgroups", "shapes"),
    ],
)
def test_independent_columns_score_worse(name, what, trial) -> None:
    metric = metrics((name,))[name]
    one, other = (
        np.nanmean([s.value for s in metric(t, seed=0) if s.metric.endswith(what)])
        for t in (trial, floor(trial, seed=0))
    )
    assert one > other + 0.01


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("privacy/copies", "exact"),
        ("privacy/copies", "near"),
        ("privacy/nearest", "nearest"),
        ("privacy/rare_values", "unique"),
    ],
)
def test_copies_of_training_rows_raise_the_alarm(name, what, trial) -> None:
    metric = metrics((name,))[name]
    found = [means(metric(copy_share(trial, p, seed=1), seed=0))[what] for p in (0, 0.2, 0.6, 1)]
    assert found == sorted(found) and found[-1] > found[0] + 0.2
    innocent = means(metric(fresh(trial, family="privacy", seed=0), seed=0))[what]
    assert abs(innocent - found[0]) < 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 9])
def test_tiny_tables_give_numbers_or_reasons(name, n) -> None:
    tiny = Trial(patients(n, 1), patients(n, 2), patients(n, 3))
    well_formed(judge(tiny, metrics((name,)), seed=0), name)


@pytest.mark.parametrize("name", NAMES)
def test_everything_missing_in_the_synthetic_rows(name, trial) -> None:
    columns = {
        column: np.full_like(values, -1 if values.dtype.kind == "i" else np.nan)
        if values.dtype.kind != "M"
        else np.full_like(values, np.datetime64("NaT"))
        for column, values in trial.synthetic.columns.items()
    }
    nothing = Table(SCHEMA, trial.synthetic.subjects, columns)
    well_formed(metrics((name,))[name](dataclasses.replace(trial, synthetic=nothing), seed=0), name)


@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_no_rows(name, trial) -> None:
    metric = metrics((name,))[name]
    one_class = {
        **trial.synthetic.columns,
        "response": np.zeros(600, np.int32),
        "dead": np.zeros(600, np.int32),
    }
    same = Table(SCHEMA, trial.synthetic.subjects, one_class, trial.synthetic.states)
    well_formed(metric(dataclasses.replace(trial, synthetic=same), seed=0), name)
    none = trial.synthetic.rows(np.arange(0))
    well_formed(metric(dataclasses.replace(trial, synthetic=none), seed=0), name)


@pytest.mark.parametrize("name", NAMES)
def test_many_rows_a_subject(name) -> None:
    visits = Trial(patients(300, 1, 6), patients(300, 2, 6), patients(300, 3, 6))
    well_formed(metrics((name,))[name](visits, seed=0), name)
