"""Drawn visits and codes made into histories: moments, values, ends and deaths."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_fit import Parts, age_groups
from manikin.synthesizers.events._visits_moments import draw_moments
from manikin.synthesizers.events._visits_own import Own
from manikin.synthesizers.events._visits_process import Course
from manikin.synthesizers.events._visits_rates import Contexts
from manikin.synthesizers.events._visits_values import Known, draw_values
from manikin.synthesizers.events.encoding import Histories

__all__ = ["contexts_of", "filled"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


def contexts_of(
    course: Course, profile: Ints, births: NDArray[np.datetime64], sex: Ints
) -> Contexts:
    """Return what first times of codes depend on, for drawn visits."""
    ages = age_groups(course.start, births[course.whose])
    return Contexts.build(course.classes, profile[course.whose], ages, sex[course.whose])


def filled(
    parts: Parts,
    course: Course,
    visit: Ints,
    code: Ints,
    n: int,
    own: Floats,
    sex: Ints,
    death: Ints,
    rng: np.random.Generator,
    known: Known | None = None,
    traits: Own | None = None,
) -> Histories:
    """Return histories of visits that have these codes."""
    of, what, offset = draw_moments(
        parts.moments,
        parts.waits,
        parts.spans,
        course.classes,
        course.start,
        course.length,
        visit,
        code,
        rng,
        None if traits is None else (course.whose, traits),
    )
    none = np.full(of.size, np.nan)
    delay = np.maximum(parts.delays.at(np.zeros(n, np.int64), rng.random(n)), 0.0)
    h = Histories(
        n, parts.sizes["codes"], course.whose, course.start, course.length, course.kind,
        course.ended, course.numbered, of, what, offset, none, np.full(of.size, -1), none, death,
        np.where(death >= 0, delay, np.nan),
    )  # fmt: skip
    borne = draw_values(
        parts.values, parts.numbers, parts.durations, h, course.classes, own, sex, rng, known,
        traits,
    )  # fmt: skip
    return dataclasses.replace(h, value=borne.value, text=borne.text, duration=borne.duration)
