"""Visits: when a patient comes, with which codes, what is measured, all by counts and closed forms.

Reference  Pearl, "Probabilistic reasoning in intelligent systems" (1988), §4.3 (noisy-or);
           Lazarsfeld and Henry, "Latent structure analysis" (1968); Theodorou, Xiao and Sun,
           Nature Communications 14 (2023) (HALO: what such a model is measured by)
Idea       a history is a patient, visits of latent classes, and codes at each visit that come for
           the first time or come back, each the work of at least one of several causes
Algorithm  1 sort visits and subjects into classes of like codes · 2 a table synthesizer learns
           static facts with the first visit, the number of visits, the pace, the class of the
           subject, death and levels of laboratory values · 3 count how classes follow each other,
           gaps, days of the week, lengths of stay · 4 learn rates of codes by EM, and settle them
           by drawing · 5 learn moments within visits, and what events bear · 6 learn which levels,
           trends and rates of measuring go together in each outcome, and settle these by drawing
           · 7 draw in that order; planned visits come once; hard rules are obeyed at the end
           Under a budget 1, 3 and 4 are noisy sums of one short vector a subject: classes by noisy
           products of codes, rates moved until drawn histories have the noisy counts
Differs    from the papers in: counts of causes are Poisson, so that EM and drawing only touch
           codes that are there; what follows a code is learnt apart from what precedes it; a code
           of fewer than k subjects stands as its parent or is left out
Use when   records of visits with up to thousands of codes: the first to try, in seconds without a
           GPU; not for a few measurements at planned visits (events/panel)

A model file holds rates, shares and quantiles, and never a row.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._visits_fit as fitting
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported
from manikin.privacy.budget import Budget
from manikin.synthesizer import Conditional, State, Synthesizer, Watch, check_settings, report
from manikin.synthesizer import silent as silence
from manikin.synthesizers.events._visits_agree import seen_of
from manikin.synthesizers.events._visits_model import VisitsModel, restored
from manikin.synthesizers.events._visits_private import fit_privately
from manikin.synthesizers.events._visits_traits import outcomes, within_groups
from manikin.synthesizers.events.encoding import EventEncoding, shared_levels

__all__ = ["Visits"]

Ints: TypeAlias = NDArray[np.int64]

SETTLED = 2500  # subjects at most that are drawn to settle traits


@dataclass(frozen=True)
class Visits:
    """Recipe: histories by classes of visits and causes of codes."""

    takes_budget: ClassVar[bool] = True
    table: str = "table/seqtree"  # the table synthesizer that draws what is told once a subject
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    classes: int = 64  # most classes of visits; fewer where there are few visits
    profiles: int = 24  # most classes of subjects; fewer where there are few subjects
    causes: int = 4  # most codes of the same visit, and of the one before, that may cause a code
    moments: int = 12  # most kinds of moments within a visit
    k: int = 5  # fewest subjects that share a code, a text or a level that is told
    rules: bool = True  # obey the hard rules of histories: lifetime, sex and age, order
    most_visits: int = 64  # under a budget: visits of a subject that count, the first ones
    most_events: int = 512  # under a budget: events of these that count, at random

    def __post_init__(self) -> None:
        check_settings(
            self, classes=(1, 1000), profiles=(1, 1000), causes=(0, 50), moments=(1, 100),
            k=(2, math.inf), most_visits=(1, 10_000), most_events=(1, 1_000_000),
        )  # fmt: skip

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silence
    ) -> VisitsModel:
        """Learn from histories."""
        if not isinstance(data, Events):
            raise InputError("no histories", "events of subjects", "read them by a door")
        if budget is not None:
            recipe = self._of_tables()
            return fit_privately(data, recipe, self.table, self, budget, seed=seed, watch=watch)
        report(watch, 0, 4, "encoding histories")
        encoding = EventEncoding.fit(data, k=self.k)
        h = encoding.encode(data)
        report(watch, 1, 4, "sorting visits into classes")
        rng = generator(seed, "visits fit")
        latent = fitting.latent(h, self.classes, self.profiles, self.k, rng)
        static = shared_levels(data.static, self.k, rng)
        sexes = fitting.sexes(static, data.schema), fitting.n_sexes(data.schema)
        group = outcomes(static, data.schema, h.death >= 0)
        report(watch, 2, 4, "learning codes and values")
        parts = fitting.parts(
            h, latent, data.births(), sexes, group, fitting.groups(encoding.schema), self, rng
        )
        report(watch, 3, 4, "fitting what is told once a subject")
        own = within_groups(parts.traits, latent.levels.own, group[0])
        wide, columns = fitting.widen(static, h, latent, own)
        table = self._of_tables().fit(wide, seed=int(rng.integers(2**62)), watch=watch)
        if not isinstance(table, Conditional):
            raise NotSupported(
                f"'{self.table}' cannot draw columns given others",
                "a table synthesizer that can",
                "choose another one: manikin list says which can",
            )
        schema = dataclasses.replace(
            encoding.schema, static=fitting.told(table.schema, data.static.schema)
        )
        encoding = dataclasses.replace(encoding, schema=schema)
        model = VisitsModel(encoding, table, columns, parts, self.rules)
        rows = np.flatnonzero(~np.isnan(h.value))
        seen = seen_of(parts.traits, h, rows, latent.levels.score[rows], group[0])
        return model.settled(seen, min(h.n_subjects, SETTLED), int(rng.integers(2**62)))

    def restore(self, schema: Any, state: State) -> VisitsModel:
        """Rebuild a model from its state."""
        return restored(schema, state, self._of_tables(), self.rules)

    def _of_tables(self) -> Synthesizer[Table]:
        if self.recipe is None:
            raise InputError(
                "a recipe of histories without the recipe of their static facts",
                "Visits(recipe=SeqTree()), or catalogue.build('events/visits')",
                "build it by its name",
            )
        return self.recipe
