"""The road of histories under a budget: what leaves stands apart, and says what it promises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import manikin as mk
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.io import histories as doors
from manikin.privacy.accountant import spent

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),), declared=True)
CODES = (
    Code("ICD10CM/I10", "condition"),
    Code("ICD10CM/E11.9", "condition"),
    Code("ATC/C09AA02", "drug"),
    Code("LOINC/8480-6", "measurement", unit="mm[Hg]", numeric=True, minimum=60, maximum=240),
)
SCHEMA = EventSchema(STATIC, CODES, declared=True, sex="sex", clock="day")


def ward(n: int) -> Events:
    rng = np.random.default_rng(3)
    visits = rng.integers(1, 6, n)
    whose = np.repeat(np.arange(n), visits)
    number = np.concatenate([np.arange(v) for v in visits])
    day = np.datetime64("2015-01-01") + np.repeat(rng.integers(0, 900, n), visits)
    time = (day + 40 * number).astype("datetime64[us]")
    tense = np.repeat(rng.random(n) < 0.4, visits)
    has = (tense, rng.random(whose.size) < 0.2, tense, np.ones(whose.size, bool))
    rows = [np.flatnonzero(there) for there in has]
    at = np.concatenate(rows)
    code = np.repeat(np.arange(4), [row.size for row in rows])
    value = np.where(code == 3, np.round(rng.normal(125, 8, at.size) + 20 * tense[at]), np.nan)
    static = Table(STATIC, np.arange(n), {"sex": rng.integers(0, 2, n).astype(np.int32)})
    return Events.of(SCHEMA, static, whose[at], time[at], code, value, visit=number[at])


def test_a_whole_release_of_histories_under_a_budget(tmp_path: Path) -> None:
    source, schema = tmp_path / "meds", tmp_path / "schema.yaml"
    doors.write([ward(400)], source, "meds", synthetic=False)
    schema.write_text(doors.schema_to_yaml(SCHEMA), encoding="utf-8")
    out = tmp_path / "release"
    mk.synthesize(source, out=out, schema=schema, epsilon=5, profile="quick", modality="events",
                  settings={"table": "table/mst", "recipe": "steps=100"})  # fmt: skip
    folder = out / "for-release"
    drawn = doors.read(next(folder.glob("data*"))).events
    assert abs(drawn.n_subjects - 400) < 120 and drawn.n_events > 500
    assert set(code.name for code in drawn.schema.codes) <= {code.name for code in CODES}
    statement = (folder / "statement.md").read_text(encoding="utf-8")
    assert "events/visits" in statement and "'s visits at most" in statement
    loaded = mk.load(folder / "model.manikin").model
    assert spent(loaded.ledger, 1e-6).epsilon <= 5 * (1 + 1e-6)
    mk.sample(folder / "model.manikin", n=10, out=tmp_path / "more")
    assert doors.read(tmp_path / "more").events.n_subjects == 10


def test_a_schema_that_nobody_declared_is_refused_before_anything_leaves(tmp_path: Path) -> None:
    events = replace(ward(60), schema=replace(SCHEMA, declared=False))
    doors.write([events], tmp_path / "meds", "meds", synthetic=False)
    with pytest.raises(PrivacyError, match="inferred"):
        mk.synthesize(tmp_path / "meds", out=tmp_path / "release", epsilon=1, modality="events")
    assert not (tmp_path / "release" / "for-release").exists()
