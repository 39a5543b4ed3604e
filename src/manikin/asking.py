"""The synthesizer that was asked for: by name or by default, per group, under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from manikin import budgeted, catalogue
from manikin.editing import FIELD, settings_without
from manikin.errors import InputError, NotSupported
from manikin.grouped import PerGroup
from manikin.synthesizer import Synthesizer

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.privacy.budget import Budget
    from manikin.privacy.ledger import Release

__all__ = ["AUTO", "DEFAULT", "Maker"]

AUTO = "auto"  # in place of a synthesizer's name: take the one that is advised
DEFAULT = "table/seqtree"


@dataclass(frozen=True)
class Maker:
    """The synthesizer that was asked for, None for the usual one."""

    name: str | None
    settings: Mapping[str, object] | None
    remove_edges: Sequence[str]
    budget: Budget | None
    fit_per: str | None

    def recipe(self, schema: TableSchema | None) -> tuple[str, Synthesizer[Table] | None]:
        """Return its name and recipe, None for one that is yet to be chosen."""
        name = self.name or budgeted.default(self.budget, schema, DEFAULT)
        found = _recipe(name, settings_without(name, self.settings, self.remove_edges))
        return name, found if found is None else self.around(name, found)

    def checked(self) -> Maker:
        """Return itself, or raise what is wrong with it: before anything is read."""
        self.recipe(None)
        return self

    def after(self, bought: tuple[Release, ...]) -> Maker:
        """Return itself with a budget of which something has been spent before the fit."""
        if self.budget is None or not bought:
            return self
        return replace(self, budget=replace(self.budget, spent=bought))

    def around(self, name: str, recipe: Synthesizer[Table]) -> Synthesizer[Table]:
        """Return the recipe for each group, and under the budget, if these were asked for."""
        return budgeted.under(_per(recipe, self.fit_per), self.budget, name)


def _recipe(synthesizer: str, settings: Mapping[str, object] | None) -> Synthesizer[Table] | None:
    """Return the recipe that was asked for, None for one that is yet to be chosen."""
    if synthesizer != AUTO:
        return catalogue.build(synthesizer, settings)
    if settings:
        raise InputError(
            "settings of a synthesizer that is yet to be chosen",
            f"settings of one that is named, or '{AUTO}' without any",
            "see who is advised (manikin advise), then name it with its settings",
        )
    return None


def _per(recipe: Synthesizer[Table], column: str | None) -> Synthesizer[Table]:
    """Return the recipe, or one that fits it to each level of a column."""
    if column is None:
        return recipe
    if getattr(recipe, FIELD, ()):
        raise NotSupported(
            "edges to be taken out of a model for each group",
            "one of them: each group has a graph of its own",
            "leave --remove-edge or --fit-per out",
        )
    return PerGroup(recipe, column)
