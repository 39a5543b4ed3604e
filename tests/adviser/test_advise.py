"""Advice on a small table: profile, framework, bake-off in its time, and who chooses by it."""

import json
import shlex
import time as clock
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import manikin as mk
from manikin import adviser, catalogue
from manikin.adviser import bakeoff
from manikin.adviser.framework import FILE, families, sources_of
from manikin.cli.app import app
from manikin.errors import InputError, ManikinError, NotSupported, Stopped
from manikin.release.record import read_record
from manikin.synthesizer import Progress
from manikin.synthesizers.table.copula import GaussianCopula

TWO = ("table/marginals", "table/copula")
CANARY = "Canary"
JUDGES = bakeoff._metrics


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families, one split, detection alone: the adviser is tested, not they."""
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    monkeypatch.setattr(catalogue, "names", lambda: TWO)
    monkeypatch.setattr(bakeoff, "MOST_SPLITS", 1)
    monkeypatch.setattr(bakeoff, "_metrics", lambda table: ("fidelity/detection",))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    ages = rng.integers(20, 90, 220)
    lines = [
        f"{a},{'FM'[i % 2]},{2 * a + rng.integers(0, 5)},{int(rng.random() < a / 120)},"
        f"{CANARY if i == 7 else 'town'}"
        for i, a in enumerate(ages)
    ]
    path = tmp_path_factory.mktemp("source") / "my patients.csv"
    path.write_text("\n".join(["age,sex,weight,has died,place", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def advice(source: Path) -> adviser.Advice:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "names", lambda: TWO)
        patch.setattr(bakeoff, "MOST_SPLITS", 2)
        return mk.advise(source, target="has died", minutes=10)


def test_what_keeps_relations_is_advised(advice: adviser.Advice) -> None:
    assert [one.name for one in advice.ranking] == ["table/copula", "table/marginals"]
    best = advice.ranking[0]
    assert {"detection", "gap", "membership"} == set(best.measures)
    assert best.measures["detection"].value > advice.floor["detection"].high
    assert best.measures["detection"].splits == advice.splits == 2
    assert advice.ceiling["detection"].value > advice.floor["detection"].value
    assert advice.ceiling["gap"].value == 0  # real rows against themselves
    assert best.seconds is not None and best.seconds > 0
    assert advice.answer.startswith("table/copula for realism")
    assert (advice.train_rows, advice.held_rows) == (132, 88)  # 60 and 40 % of 220 subjects


def test_notes_say_what_the_numbers_cannot_tell(
    advice: adviser.Advice, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 44 strangers and 132 members leave an AUC above .55 possible whoever it is
    assert len(advice.notes) == 1 and "0.55" in advice.notes[0]
    monkeypatch.setattr(bakeoff, "FEWEST_ROWS", 100)
    monkeypatch.setattr(bakeoff, "ROWS_PER_MINUTE", 1)
    found = mk.advise(source, synthesizers=("table/copula",))
    said = " ".join(found.notes)
    assert "Fitted to 100 of 220 rows" in said and "--target" in said and "One split" in said


def test_the_command_to_run_next_is_quoted(advice: adviser.Advice, source: Path) -> None:
    words = shlex.split(advice.command)
    assert words == ["manikin", "synthesize", str(source), "--synthesizer", "table/copula",
                     "--target", "has died"]  # fmt: skip


def test_the_profile_says_what_the_table_is_like(advice: adviser.Advice) -> None:
    profile = advice.profile
    assert profile is not None
    assert (profile.rows, profile.subjects, profile.repeated) == (220, 220, False)
    assert profile.outcome == "yes or no" and profile.size == "small" and not profile.wide
    assert profile.missing_columns == 0 and sum(profile.kinds.values()) == 5
    assert CANARY not in json.dumps(advice.to_json(), default=str)


def test_the_framework_shows_who_is_there_with_sources(advice: adviser.Advice) -> None:
    assert [family.name for family in advice.framework] == list(TWO)
    assert all(family.sources for family in advice.framework)
    assert set(advice.sources) == {"reiter2005", "patki2016"}


def test_the_framework_is_whole() -> None:
    """Every entry has every axis and no other; every source is known and used."""
    document = yaml.safe_load(FILE.read_text())
    found = families(tuple(document["families"]))
    assert all(0 <= f.readable <= 3 and 1 <= f.cost <= 3 and f.data for f in found)
    assert set(sources_of(found)) == set(document["sources"])


def test_a_family_without_entry_shows_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.Entry("table/new", "New", "New: does it newly.\n\nmore")
    monkeypatch.setattr(catalogue, "entry", lambda name: entry)
    (family,) = families(("table/new",))
    assert family.kind == "New: does it newly." and family.realism == "not graded"


def test_a_fit_that_takes_too_long_is_stopped_and_said_to_be(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, waited = clock.monotonic(), [0.0]

    def fit(self: Any, data: Any, *, seed: int, watch: Any, **options: Any) -> Any:
        while not watch(Progress(0, None, "epoch")):
            waited[0] += 60
        raise Stopped("the fit")

    monkeypatch.setattr(GaussianCopula, "fit", fit)
    ticking = SimpleNamespace(monotonic=lambda: clock.monotonic() + waited[0])
    monkeypatch.setattr(bakeoff, "clock", ticking)  # hours that nobody has to wait for
    found = mk.advise(source, target="has died", minutes=90)
    assert found.best == "table/marginals"
    assert "its share of the time was over" in found.ranking[1].failed
    assert waited[0] > 60 and found.seconds <= waited[0] + clock.monotonic() - begun
    assert "nothing else but the floor" in found.answer


def test_one_that_was_stopped_is_given_what_others_left(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = GaussianCopula.fit
    tried = []

    def fit(self: Any, data: Any, *, seed: int, watch: Any, **options: Any) -> Any:
        tried.append(seed)
        if len(tried) == 1:
            raise Stopped("the fit")
        return whole(self, data, seed=seed, watch=watch, **options)

    monkeypatch.setattr(GaussianCopula, "fit", fit)
    monkeypatch.setattr(bakeoff.Oven, "_until", lambda self, end, name: lambda progress: None)
    monkeypatch.setattr(bakeoff, "LEAST", -1e9)
    monkeypatch.setattr(bakeoff, "FIRST", 1e-9)  # so the share of the first try is over at once
    found = mk.advise(source, minutes=2)
    assert len(tried) == 2 and found.best == "table/copula"


def test_who_fails_is_told_of_without_its_words(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Any, data: Any, **options: Any) -> Any:
        raise ValueError(f"cannot convert '{CANARY}'")

    monkeypatch.setattr(GaussianCopula, "fit", fit)
    found = mk.advise(source, minutes=1)
    assert found.ranking[1].failed == "an error of its own: ValueError"


def test_bad_input_is_refused_in_three_parts(source: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("\n".join(source.read_text().splitlines()[:40]))
    wrong: tuple[tuple[type[ManikinError], dict[str, Any]], ...] = (
        (InputError, {"source": few}),
        (InputError, {"source": source, "goal": "beauty"}),
        (InputError, {"source": source, "minutes": 0}),
        (InputError, {"source": source, "minutes": float("nan")}),
        (NotSupported, {"source": source, "synthesizers": ("table/none",)}),
        (NotSupported, {"source": source, "minutes": 1e-4}),
    )
    for kind, given in wrong:
        with pytest.raises(kind) as refused:
            mk.advise(given.pop("source"), **given)
        assert refused.value.given and refused.value.allowed and refused.value.todo
    with pytest.raises(Stopped):
        mk.advise(source, watch=lambda p: "copula" in p.what)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({}, ["fidelity/detection", "privacy/membership"]),
        (
            {"target": "has died"},
            ["fidelity/detection", "utility/prediction", "privacy/membership"],
        ),
        (
            {"time": "weight", "event": "has died"},
            ["fidelity/detection", "utility/survival", "privacy/membership"],
        ),
    ],
)
def test_the_judge_asks_what_the_outcome_asks(
    source: Path, roles: dict[str, str], expected: list[str]
) -> None:
    assert list(JUDGES(mk.read(source, **roles))) == expected


def test_auto_chooses_on_training_rows_and_says_why(source: Path, tmp_path: Path) -> None:
    done = mk.synthesize(
        source, out=tmp_path / "made", synthesizer="auto", target="has died", profile="quick",
        minutes=3,
    )  # fmt: skip
    told = {entry.event: entry.content for entry in read_record(done.record)}
    assert list(told)[:5] == ["started", "asked", "source", "split", "advised"]
    assert told["asked"]["synthesizer"] == "auto"
    assert told["advised"]["chosen"] == told["fitted"]["synthesizer"] == "table/copula"
    tried = {one["name"]: one for one in told["advised"]["tried"]}
    assert set(tried) == set(TWO) and tried["table/copula"]["detection"][0] > 0
    # 70 % of 220 subjects are trained on, and of those 60 and 40 %
    assert told["advised"]["rows"] == {"train": 92, "held": 62}
    page = json.loads(done.report.with_name("report.json").read_text())
    assert page["settings"]["synthesizer"] == "table/copula"
    assert page["settings"]["advised"]["answer"] == told["advised"]["answer"]
    again = mk.replay(done.directory, data=source)
    assert again.ok, again.differs


def test_auto_fits_and_takes_no_settings(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "it.manikin"
    mk.fit(source, out=out, synthesizer="auto", target="has died", minutes=2)
    assert mk.load(out).synthesizer == "table/copula"
    with pytest.raises(InputError, match="yet to be chosen"):
        mk.fit(source, synthesizer="auto", settings={"k": 3})


def test_the_command_prints_the_ranking(source: Path) -> None:
    words = ["advise", str(source), "--target", "has died", "--minutes", "5"]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert told.exit_code == 0, told.output
    assert "run next:" in told.stdout and "fresh real rows" in told.stdout
    assert "Data Vault" in told.stdout or "data vault" in told.stdout
    words += ["--synthesizer", "table/copula"]
    as_json = CliRunner().invoke(app, [*words, "--goal", "speed", "--json"])
    document = json.loads(as_json.stdout)
    assert document["goal"] == "speed" and document["best"] == "table/copula"
    assert document["ranking"][0]["measures"]["detection"]["low"] >= 0
    quiet = CliRunner().invoke(app, [*words, "--quiet"])
    assert quiet.stdout.startswith("manikin synthesize") and quiet.stdout.count("\n") == 1
    assert CliRunner().invoke(app, [*words[:2], "--minutes", "0.0001"]).exit_code == 4
    assert CliRunner().invoke(app, [*words[:2], "--goal", "beauty"]).exit_code == 2
    assert CANARY not in told.output + as_json.output + quiet.output
