"""The road of histories under a privacy budget: what leaves, and what it hangs on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manikin as mk
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.io import histories as doors
from manikin.io.models import load
from manikin.leaving import FOLDER
from manikin.release.record import read_record

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

STATIC = TableSchema(
    (
        Column("arm", "categorical", categories=("A", "B")),
        Column("age", "integer", minimum=18, maximum=100),
    ),
    declared=True,
)
CODES = (
    Code("LOINC/8480-6", "measurement", unit="mm[Hg]", numeric=True, minimum=50, maximum=250),
    Code("LOINC/29463-7", "measurement", unit="kg", numeric=True, minimum=30, maximum=200,
         decimals=1),
)  # fmt: skip
SCHEMA = EventSchema(STATIC, CODES, declared=True, clock="day")
ASKED = {"synthesizer": "events/panel", "settings": {"recipe": "steps=100"}, "epsilon": 5.0,
         "profile": "quick", "seed": 2}  # fmt: skip


def clinic(n: int, seed: int, *, odd: bool = False) -> Events:
    rng = np.random.default_rng(seed)
    visits = np.full(n, 3) if odd else rng.integers(2, 7, n)
    whose = np.repeat(np.arange(n), visits)
    place = np.concatenate([np.arange(v) for v in visits])
    start = np.repeat(rng.integers(0, 500, n), visits)
    day = start + (3 if odd else 30) * place + rng.integers(-1, 2, whose.size) * (place > 0)
    level = np.repeat(rng.normal(0, 12, n), visits)
    values = np.round(130 + level + rng.normal(0, 6, whose.size)), np.round(80 + level / 2, 1)
    table = Table(STATIC, np.arange(n), {
        "arm": np.ones(n, np.int32) if odd else rng.integers(0, 2, n).astype(np.int32),
        "age": np.full(n, 77.0) if odd else np.round(rng.normal(60, 9, n).clip(18, 100)),
    })  # fmt: skip
    time = np.datetime64("2014-05-01", "us") + day * np.timedelta64(1, "D")
    codes = 1 if odd else 2
    return Events.of(SCHEMA, table, np.tile(whose, codes), np.tile(time, codes),
                     np.repeat(np.arange(codes), whose.size),
                     np.concatenate(values[:codes]))  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few metrics: none of this hangs on them."""
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)

    def few(profile: str, modality: str = "table") -> tuple[str, ...]:
        return ("fidelity/shapes",) if modality == "table" else ()

    monkeypatch.setattr("manikin.catalogue.in_profile", few)


def written(place: Path, events: Events) -> tuple[Path, Path]:
    place.mkdir(parents=True)
    doors.write([events], place / "clinic", "meds", synthetic=False)
    (place / "schema.yaml").write_text(doors.schema_to_yaml(SCHEMA), encoding="utf-8")
    return place / "clinic", place / "schema.yaml"


def test_a_panel_is_released_under_a_budget(tmp_path: Path) -> None:
    source, schema = written(tmp_path / "home", clinic(311, 1))
    out = mk.synthesize(source, out=tmp_path / "release", schema=schema, **ASKED)  # type: ignore[arg-type]
    left = out.directory / FOLDER
    assert mk.verify(out.directory).ok and mk.verify(left).ok
    assert not (out.directory / "data").exists() and out.data == left / "data"
    drawn = doors.read(left / "data").events
    assert 0.5 * 311 < drawn.n_subjects < 1.5 * 311  # noisy: of the 70 % that were not held out
    told = (left / "statement.md").read_text("utf-8")
    for words in ("ε = 5", "add or remove one", "at most 64 count", "products of scores"):
        assert words in told, words
    assert "--out again\n" in (left / "README.md").read_text("utf-8")
    record = {entry.event: entry.content for entry in read_record(left / "record.jsonl")}
    assert record["fitted"]["budget"] == {"epsilon": 5.0, "delta": 1e-6}
    mk.sample(left / "model.manikin", n=drawn.n_subjects, seed=2, out=tmp_path / "again")
    again = doors.read(tmp_path / "again").events
    assert np.array_equal(again.value, drawn.value, equal_nan=True)
    assert np.array_equal(again.time, drawn.time)


def test_what_leaves_hangs_on_what_was_paid_for_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every paid release is made a constant; then other histories must leave the same behind."""
    from manikin.privacy.account import Account

    def constant(values: np.ndarray, kind: str, scale: float) -> np.ndarray:
        return np.full(values.shape, 300 * 2**20 // (1 if scale > 1e4 else 2**20), np.int64)

    choose = Account.choose

    def first(self: Account, scores: np.ndarray, **more: Any) -> int:
        choose(self, np.zeros_like(scores), **more)
        return 0

    monkeypatch.setattr("manikin.privacy.account._noised", constant)
    monkeypatch.setattr(Account, "choose", first)
    left = []
    for name, events in (("one", clinic(220, 1)), ("other", clinic(307, 2, odd=True))):
        source, schema = written(tmp_path / name, events)
        out = mk.synthesize(source, out=tmp_path / name / "r", schema=schema, **ASKED)  # type: ignore[arg-type]
        left.append(out.directory / FOLDER)
    files = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in left]
    assert files[0] == files[1]
    for file in files[0]:
        if file.name in ("model.manikin", "record.jsonl", "MANIFEST.sha256"):
            continue  # these hold the run's number, times and keyed digests
        assert (left[0] / file).read_bytes() == (left[1] / file).read_bytes(), file
    found = [load(folder / "model.manikin") for folder in left]
    assert found[0].schema == found[1].schema
    assert dict(found[0].extra["layout"]) == dict(found[1].extra["layout"])
    one, other = (each.model.state() for each in found)
    assert one.values == other.values
    assert all(np.array_equal(one.arrays[key], other.arrays[key]) for key in one.arrays)


def test_an_inferred_schema_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source, _ = written(tmp_path / "home", clinic(60, 1))
    (source / "metadata" / "manikin.json").unlink()  # which has the schema as it was declared
    with pytest.raises(PrivacyError, match="inferred from the rows"):
        mk.synthesize(source, out=tmp_path / "release", **ASKED)  # type: ignore[arg-type]
    assert not (tmp_path / "release").exists()
    with pytest.raises(PrivacyError, match="inferred from the rows"):
        mk.fit(source, synthesizer="events/panel", epsilon=5)
