"""What broke engines of histories on real sources: few subjects, constant numbers, lone ends."""

import dataclasses

import numpy as np

from manikin import catalogue
from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),))
CODES = (Code("L/1", "measurement", numeric=True), Code("C/1", "condition"))
SCHEMA = EventSchema(STATIC, CODES, sex="sex", clock="day")


def unchanging(n: int = 24) -> Events:
    """Everybody's number is the same all along: nobody has a scale of their own."""
    whose = np.repeat(np.arange(n), 6)
    time = np.datetime64("2020-01-01", "us") + np.tile(np.arange(6), n) * np.timedelta64(30, "D")
    table = Table(STATIC, np.arange(n), {"sex": (np.arange(n) % 2).astype(np.int32)})
    return Events.of(SCHEMA, table, whose, time, np.zeros(whose.size, int), whose % 7 + 1.0)


def test_numbers_that_never_change_within_anybody_can_be_learnt_and_restored() -> None:
    recipe = catalogue.build("events/visits", {"table": "table/marginals"})
    model = recipe.fit(unchanging(), seed=1)
    again = recipe.restore(model.schema, model.state())
    assert np.array_equal(again.sample(9, seed=2).time, model.sample(9, seed=2).time)


def test_a_panel_whose_code_tells_nothing_but_its_end_still_draws() -> None:
    recipe = catalogue.build("events/panel", {"table": "table/marginals"})
    model = recipe.fit(unchanging(), seed=1)
    lone = dataclasses.replace(model.layout.channels[0], part="length")
    layout = dataclasses.replace(model.layout, channels=(lone, *model.layout.channels[1:]))
    drawn = dataclasses.replace(model, layout=layout).sample(5, seed=1)
    assert drawn.n_subjects == 5 and drawn.n_events == 0
