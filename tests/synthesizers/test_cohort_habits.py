"""Habits of rows: how numbers are written, and which times they repeat."""

import numpy as np
import polars as pl
import pytest

from manikin import catalogue
from manikin.data.cohort import Cohort
from manikin.errors import InputError, ManikinError
from manikin.synthesizer import State
from manikin.synthesizers.cohort._habits import (
    coincide,
    coinciding,
    decimals_of,
    obey,
    round_to,
)
from manikin.synthesizers.cohort.encoding import CohortEncoding


def ward(n: int = 200, seed: int = 1) -> Cohort:
    """Patients with an event, seen at day 0, an event; decimals are written before day 0 only."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(n), 3)
    earlier = -rng.integers(100, 3000, (n, 1))
    later = rng.integers(100, 3000, (n, 1))
    day = np.concatenate([earlier, np.zeros((n, 1), int), later], axis=1).ravel()
    ast = np.round(rng.gamma(4, 25, of.size), 1)
    ast = np.where(day < 0, np.floor(ast) + 0.3, np.round(ast))
    frames = {
        "patients": pl.DataFrame({"patient_id": np.arange(n), "sex": rng.choice(["f", "m"], n)}),
        "events": pl.DataFrame({"patient_id": of, "day": day, "ast": ast,
                                "what": np.where(day == 0, "seen", "other")}),
    }  # fmt: skip
    return Cohort.from_frames(frames, ["events.patient_id=patients.patient_id"])


def test_decimals_are_counted_and_kept() -> None:
    values = np.array([1.25, 1.5, 2.0, 0.0, np.nan, -0.75])
    assert decimals_of(values, 2).tolist() == [2, 1, 0, 0, -1, 2]
    rng = np.random.default_rng(1)
    made = round_to(np.full(4, 1.26), np.array([2, 1, 0, -1], np.int32), 2, rng)
    assert made.tolist() == [1.26, 1.3, 1.0, 1.26]
    whole = np.repeat([0.0, 3.0, -3.0], 1000)  # drawn whole, where decimals were to be written
    made = round_to(whole, np.ones(3000, np.int32), 2, rng)
    assert (decimals_of(made, 2) == 1).all() and np.abs(made - whole).max() == 0.5
    assert made[:1000].min() > 0 and set(np.round(made[1000:2000] - 3, 1)) == {
        -0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4, 0.5}  # fmt: skip


def test_times_that_repeat_are_told_from_chance() -> None:
    rng = np.random.default_rng(1)
    subjects = np.arange(400)
    back, other = rng.integers(1, 2000, 400) * 1.0, rng.integers(1, 2000, 400) * 1.0
    interval = np.where(subjects % 5 == 0, back, rng.integers(1, 2000, 400))
    assert coinciding(interval, [other, back], subjects) == (1,)
    # intervals of few values repeat anything now and then, and everybody's day 0 tells nothing
    few, plenty = rng.integers(0, 3, 400) * 1.0, rng.integers(0, 3, 400) * 1.0
    assert coinciding(few, [plenty, np.zeros(400)], subjects) == ()
    assert coinciding(interval, [back], subjects // 100) == ()  # four subjects' habit is theirs


def test_times_obey_what_was_drawn_unless_it_leads_backwards() -> None:
    interval, nan = np.array([5.0, 5, 5, 5]), np.nan
    code = coincide(np.array([7.0, 3, 9, 7]), [np.array([7.0, 1, 1, 7]), np.array([1.0, 3, 1, 7])])
    assert code.tolist() == [1, 2, 0, 1]
    references = [np.array([7.0, -2, -2, nan])]
    place = np.array([1.0, 1, 0, 1])
    made = obey(interval, np.array([1, 1, 1, 1], np.int32), references, place)
    assert made.tolist() == [7, 5, -2, 5]


def test_drawn_rows_have_the_habits_of_real_ones() -> None:
    cohort = ward()
    layout = CohortEncoding.fit(cohort).layouts["events"]
    assert layout.marks == (0,) and layout.rounded == ("ast",)
    drawn = catalogue.build("cohort/linked").fit(cohort, seed=1).sample(300, seed=2)
    events = drawn.parts["events"]
    day, ast = events.columns["day"], events.columns["ast"]
    seen = np.array(events.schema["what"].categories)[events.columns["what"]] == "seen"
    assert (day[seen] == 0).mean() > 0.9  # 1.8 % of them without the mark, on a real set
    whole = ast == np.round(ast)
    assert whole[day > 0].mean() > 0.95 and whole[day < 0].mean() < 0.3


def test_a_strangers_habits_are_refused() -> None:
    cohort = ward(60)
    recipe = catalogue.build("cohort/linked")
    model = recipe.fit(cohort, seed=1)
    state = model.state()
    for habits in ([[9], []], [[-1], []], [[0, 0], []], [["0"], []], [[], ["what"]],
                   [[], ["ast", "ast"]], [[], ["nothing"]], [[True], []]):  # fmt: skip
        tables = {**state.values["tables"]}
        tables["events"] = {**tables["events"], "habits": habits}
        with pytest.raises(ManikinError):
            recipe.restore(model.schema, State(state.arrays, {"tables": tables}))
    tables = {**state.values["tables"]}
    tables["patients"] = {**tables["patients"], "habits": [[0], []]}
    with pytest.raises(InputError):
        recipe.restore(model.schema, State(state.arrays, {"tables": tables}))
