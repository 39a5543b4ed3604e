"""The kit that every synthesizer of linked tables must pass, with its default settings."""

import dataclasses
import functools
import hashlib
import json
import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from manikin import catalogue
from manikin.data.cohort import Cohort, counts
from manikin.errors import InputError, ManikinError, PrivacyError
from manikin.knowledge.conditions import all_hold, parse_conditions
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate
from manikin.synthesizer import Conditional, Progress, State, stream

NAMES = tuple(name for name in catalogue.names() if name.startswith("cohort/"))
CANARY = 98765.4321


def make_cohort(n: int = 60, seed: int = 1) -> Cohort:
    """Patients, their visits and what was measured: women have two visits, men one or none."""
    rng = np.random.default_rng(seed)
    keys = np.array([f"P-{i:04d}" for i in range(n)])
    female = rng.integers(0, 2, n)
    patients = pl.DataFrame(
        {"patient_id": keys, "sex": np.where(female == 1, "f", "m"),
         "born": np.datetime64("1950-01-01", "us") + rng.integers(0, 9000, n)
         * np.timedelta64(1, "D"), "blood": rng.choice(["0", "A", "B"], n)}
    )  # fmt: skip
    of = np.repeat(np.arange(n), np.where(female == 1, 2, rng.integers(0, 2, n)))
    came = np.datetime64("2020-01-01", "us") + rng.integers(0, 900, of.size) * np.timedelta64(
        1, "D"
    )
    weight = np.round(rng.normal(70, 10, of.size), 1)
    weight[0] = CANARY
    visits = pl.DataFrame(
        {"visit": np.arange(of.size) + 500, "patient_id": keys[of], "came": came,
         "left": came + rng.integers(0, 9, of.size) * np.timedelta64(1, "D"), "weight": weight,
         "copy": patients["blood"].to_numpy()[of],
         "note": [f"free text {i} of a person" for i in range(of.size)]}
    )  # fmt: skip
    at = np.repeat(np.arange(of.size), rng.integers(0, 4, of.size))
    values = pl.DataFrame(
        {"visit": at + 500, "day": rng.integers(0, 5, at.size),
         "crp": np.round(rng.lognormal(1, 1, at.size), 1)}
    )  # fmt: skip
    links = ["visits.patient_id=patients.patient_id", "values.visit=visits.visit"]
    empty = pl.DataFrame({"patient_id": [], "what": []}, schema=dict.fromkeys(
        ("patient_id", "what"), pl.String))  # fmt: skip
    marks = pl.DataFrame({"patient_id": keys[female == 1]})
    frames = {"patients": patients, "visits": visits, "values": values, "none": empty,
              "marks": marks}  # fmt: skip
    return Cohort.from_frames(frames, [*links, "marks.patient_id=patients.patient_id"])


@functools.cache
def fitted(name: str) -> Any:
    return catalogue.build(name).fit(make_cohort(), seed=5)


def digest(cohort: Cohort) -> str:
    found = hashlib.sha256()
    for name, table in cohort.parts.items():
        found.update(cohort.above.get(name, np.zeros(0)).tobytes())
        for column in sorted(table.columns):
            found.update(np.ascontiguousarray(table.columns[column]).tobytes())
            found.update(np.ascontiguousarray(table.state(column)).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", NAMES)
class TestCohorts:
    def test_docstring_is_a_card_and_settings_have_meanings(self, name: str) -> None:
        title, *lines = catalogue.entry(name).docstring.splitlines()
        assert re.fullmatch(r".{8,90}\.", title)
        for heading in ("Reference", "Idea", "Algorithm", "Differs", "Use when"):
            assert any(line.startswith(heading) for line in lines), heading
        for setting in catalogue.settings(name):
            assert len(setting.meaning) > 8, f"{setting.name} is not explained"
        recipe = catalogue.build(name)
        fields = dataclasses.asdict(recipe)  # type: ignore[call-overload]
        assert catalogue.build(name, json.loads(json.dumps(fields))) == recipe

    def test_input_is_untouched_and_same_seed_same_model(self, name: str) -> None:
        cohort = make_cohort(40)
        before = digest(cohort)
        one, two = (catalogue.build(name).fit(cohort, seed=3).state() for _ in range(2))
        assert digest(cohort) == before
        assert json.dumps(one.values) == json.dumps(two.values)
        assert one.arrays.keys() == two.arrays.keys()
        for key, array in one.arrays.items():
            assert np.array_equal(array, two.arrays[key], equal_nan=array.dtype.kind == "f")

    def test_same_seed_same_rows_and_another_another(self, name: str) -> None:
        one, two, other = (fitted(name).sample(40, seed=s) for s in (1, 1, 2))
        assert digest(one) == digest(two) != digest(other)

    @pytest.mark.parametrize("n", [0, 1, 33])
    def test_new_subjects_of_the_same_tables(self, name: str, n: int) -> None:
        drawn = fitted(name).sample(n, seed=1)
        assert drawn.subjects.tolist() == list(range(n)) and drawn.orphans == 0
        real = make_cohort()
        for table, found in drawn.parts.items():
            assert [c.name for c in found.schema] == [c.name for c in real.parts[table].schema]
            for column, values in found.columns.items():
                assert values.dtype == real.parts[table].columns[column].dtype, (table, column)
        again = Cohort.from_frames(drawn.to_polars(), [str(link) for link in drawn.schema.links])
        assert all(np.array_equal(again.above[t], rows) for t, rows in drawn.above.items())

    def test_what_hangs_on_a_patient_depends_on_the_patient(self, name: str) -> None:
        """Women have two visits and a mark, men at most one visit and no mark."""
        drawn = fitted(name).sample(400, seed=1)
        column = drawn.schema.parts["patients"]["sex"]
        female = drawn.root.columns["sex"] == column.categories.index("f")
        visits = counts(drawn, "visits")
        assert visits[female].mean() > 1.8 and visits[~female].mean() < 0.8
        marks = counts(drawn, "marks")
        assert marks[female].mean() > 0.9 and marks[~female].mean() < 0.1
        assert drawn.parts["none"].n_rows == 0

    def test_what_is_copied_from_the_patient_is_copied(self, name: str) -> None:
        drawn = fitted(name).sample(300, seed=1)
        spelled = [
            np.array(drawn.schema.parts[table][column].categories)[codes]
            for table, column, codes in (
                ("visits", "copy", drawn.parts["visits"].columns["copy"]),
                ("patients", "blood", drawn.root.columns["blood"][drawn.above["visits"]]),
            )
        ]
        assert (spelled[0] == spelled[1]).mean() > 0.97

    def test_dates_keep_their_order_and_their_grid(self, name: str) -> None:
        visits = fitted(name).sample(300, seed=1).parts["visits"]
        stay = visits.columns["left"] - visits.columns["came"]
        assert (stay >= np.timedelta64(0)).mean() > 0.97
        whole = visits.columns["came"].astype("datetime64[D]")
        assert (whole == visits.columns["came"]).all()

    def test_no_rare_value_and_no_key_is_in_the_model(self, name: str) -> None:
        state = fitted(name).state()
        for key, array in state.arrays.items():
            if array.dtype.kind == "f":
                assert not np.any(np.abs(array - CANARY) < 1e-3), key
        told = json.dumps([state.values, fitted(name).schema.to_json()])
        assert "P-00" not in told and "free text 1" not in told and str(CANARY) not in told

    def test_conditions_hold_on_the_patient(self, name: str) -> None:
        model = fitted(name)
        assert isinstance(model, Conditional)
        where = parse_conditions("sex=f", model.schema.parts["patients"])
        drawn = model.sample_where(30, where, seed=1)
        assert drawn.n_subjects == 30 and all_hold(where, drawn.root).all()
        assert counts(drawn, "visits").mean() > 1.8
        given = drawn.root
        again = model.sample_given(given, seed=2)
        assert np.array_equal(again.root.columns["born"], given.columns["born"])

    def test_state_is_all_there_is(self, name: str) -> None:
        model = fitted(name)
        state = State(dict(model.state().arrays), json.loads(json.dumps(model.state().values)))
        again = catalogue.build(name).restore(model.schema, state)
        assert digest(again.sample(30, seed=4)) == digest(model.sample(30, seed=4))
        assert again.ledger == model.ledger

    def test_a_malformed_state_is_refused(self, name: str) -> None:
        model, recipe = fitted(name), catalogue.build(name)
        values = json.dumps(model.state().values)
        for old, new in (('"longest": 2', '"longest": 1000000000'), ('"came"', '"nobody"'),
                         ('"tables"', '"other"'), ('"longest"', '"long"'),
                         ('"kind": "integer"', '"kind": "continuous"')):  # fmt: skip
            assert old in values
            broken = State(model.state().arrays, json.loads(values.replace(old, new)))
            with pytest.raises((ManikinError, LookupError, TypeError, ValueError)):
                recipe.restore(model.schema, broken)
        with pytest.raises((ManikinError, LookupError)):
            recipe.restore(model.schema, State({}, model.state().values))
        with pytest.raises(ManikinError):
            recipe.restore(model.schema.parts["patients"], model.state())

    def test_budget_progress_and_ledger(self, name: str) -> None:
        assert any(isinstance(release, NonPrivate) for release in fitted(name).ledger)
        with pytest.raises(PrivacyError):
            catalogue.build(name).fit(make_cohort(20), seed=1, budget=Budget(1.0))
        heard: list[Progress] = []
        catalogue.build(name).fit(make_cohort(30), seed=1, watch=heard.append)
        assert heard

    def test_one_patient_and_orphans(self, name: str) -> None:
        one = make_cohort(30).take(np.array([2]))
        assert catalogue.build(name).fit(one, seed=1).sample(3, seed=1).n_subjects == 3
        cohort = make_cohort(30)
        above = {**cohort.above, "marks": np.full_like(cohort.above["marks"], -1)}
        with pytest.raises(InputError, match="hang on no row"):
            catalogue.build(name).fit(Cohort.of(cohort.schema, cohort.parts, above), seed=1)

    def test_blocks_are_drawn_anywhere(self, name: str) -> None:
        blocks = list(stream(fitted(name), 25, seed=3, subjects_per_block=10))
        assert [block.n_subjects for block in blocks] == [10, 10, 5]

    def test_a_strangers_arrays_end_in_an_error_or_in_rows(self, name: str) -> None:
        """What a reader of model files catches, see `manikin.io.models.load`."""
        model, recipe = fitted(name), catalogue.build(name)
        state, rng = model.state(), np.random.default_rng(7)
        keys = sorted(state.arrays)
        for key in rng.choice(keys, 12, replace=False):
            array = state.arrays[str(key)]
            for wrong in (
                array[:-1] if array.ndim else array,
                np.full_like(array, -3),
                np.zeros_like(array),
            ):
                broken = State({**state.arrays, str(key): wrong}, state.values)
                try:
                    with np.errstate(all="ignore"):
                        recipe.restore(model.schema, broken).sample(3, seed=1).to_polars()
                except (ManikinError, ArithmeticError, AttributeError, LookupError, MemoryError,
                        pl.exceptions.PolarsError, TypeError, ValueError):  # fmt: skip
                    continue
