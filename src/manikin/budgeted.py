"""A recipe under a privacy budget, and what a budget rules out on the way to a release.

The budget rides inside the recipe, so that refits, shadow fits and the record need nothing new.
What would look at the rows without paying is refused before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from manikin.data.schema import TableSchema
from manikin.errors import RESTRICTED, InputError, MissingExtra, PrivacyError
from manikin.grouped import PerGroup
from manikin.privacy.accountant import true_positives
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import need_budget
from manikin.synthesizer import Model, Progress, State, Synthesizer, Watch, silent

if TYPE_CHECKING:
    from manikin.data.table import Table
    from manikin.privacy.domain import Discovery

__all__ = [
    "EVIDENCE",
    "UnderBudget",
    "bare",
    "budget_of",
    "check_evidence",
    "default",
    "discovery_of",
    "legible",
    "refuse_beside",
    "report_budget_of",
    "restricting",
    "rows_that_count",
    "size_of",
    "told",
    "under",
]

EVIDENCE = 6.0  # ε above which attacks must have been run: the bound by itself says nothing there
WIDE = 60  # columns above which a tree of pairs is measured rather than chosen ones
LEAST_REFITS = 3


@dataclass(frozen=True)
class UnderBudget:
    """Recipe: another recipe, which may spend this budget on every fit."""

    recipe: Synthesizer[Table]
    budget: Budget

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> Model[Table]:
        """Fit within the budget. Raises PrivacyError when the recipe cannot honour it."""
        money = self.budget if budget is None else budget
        return self.recipe.fit(data, seed=seed, budget=money, watch=watch)

    def restore(self, schema: Any, state: State) -> Model[Table]:
        """Rebuild a model from its state."""
        return self.recipe.restore(schema, state)

    @property
    def promised(self) -> dict[str, float]:
        """The budget as a record has it; what was bought stands in the ledger."""
        return {"epsilon": self.budget.epsilon, "delta": self.budget.delta}


def bare(recipe: Any) -> Any:
    """Return the recipe itself, without what was put around it."""
    while isinstance(recipe, PerGroup | UnderBudget):
        recipe = recipe.recipe
    return recipe


def budget_of(epsilon: float | None, delta: float | None) -> Budget | None:
    """Return the budget that was asked for.

    Raises InputError for a δ without an ε, MissingExtra where nothing could draw the noise.
    """
    if epsilon is None:
        if delta is not None:
            raise InputError("a δ without an ε", "both, or ε alone", "give --epsilon 1 too")
        return None
    budget = Budget(epsilon) if delta is None else Budget(epsilon, delta)
    if any(find_spec(name) is None for name in ("opendp", "dp_accounting")):
        raise MissingExtra("a privacy budget", "dp")
    return budget


def legible(budget: Budget | None, schema: object, watch: Watch) -> Watch:
    """Return a watch that raises PrivacyError where noise hides most columns of a table.

    Nothing more is spent then; what was has not been shown to anybody.
    """
    if budget is None or not isinstance(schema, TableSchema):
        return watch
    from manikin.privacy.legible import check_legible

    def watching(progress: Progress) -> bool:
        asked = bool(watch(progress))
        if {"rows", "noise"} <= set(progress.figures):
            check_legible(schema, progress.figures["rows"], progress.figures["noise"])
        return asked

    return watching


def discovery_of(budget: Budget | None, share: float) -> Discovery | None:
    """Return what may be spent on what a schema leaves open, None for nothing.

    True is the usual share. Raises InputError for a share of no budget.
    """
    if not share:
        return None
    if budget is None:
        raise InputError(
            "a share of a privacy budget for what the schema leaves open, and no budget",
            "both, or neither: without a budget the cells themselves are looked at",
            "give --epsilon 1 too, or leave --discover out",
        )
    from manikin.privacy.domain import USUAL, Discovery

    return Discovery(budget, USUAL if share is True else share)


def report_budget_of(epsilon: float | None, beside: Budget | None) -> Budget | None:
    """Return the budget of a page of quality, which has the δ of the data's.

    Raises InputError where nothing else is under a budget: then nothing may leave by itself.
    """
    if epsilon is None:
        return None
    if beside is None:
        raise InputError(
            f"an ε of {epsilon:g} for a report, and none for the data",
            "both: a report that may leave, of data that may not, would help nobody",
            "give --epsilon 1 too, or leave --report-epsilon out: the report is made anyhow",
        )
    return Budget(epsilon, beside.delta)


def check_evidence(budget: Budget | None, refits: int | None, report: Budget | None = None) -> None:
    """Raise PrivacyError for an ε that promises nothing, unless attacks are run beside it.

    `refits` is how often the recipe will be fitted again, None where nothing is judged; `report`
    is spent on the same cohort beside the `budget`.
    """
    if budget is None:
        return
    if report is not None:
        budget = Budget(budget.epsilon + report.epsilon, budget.delta)
    if budget.epsilon <= EVIDENCE or (refits or 0) >= LEAST_REFITS:
        return
    most = 100 * true_positives(0.01, budget.epsilon, budget.delta)
    how = (
        f"ask for it with 'manikin synthesize' and --refits {LEAST_REFITS}"
        if refits is None
        else f"ask for --refits {LEAST_REFITS} or more, which attacks with shadow fits"
    )
    raise PrivacyError(
        f"ε = {budget.epsilon:g} without evidence from attacks: by itself it allows an attacker to"
        f" find {most:.3g} % of the subjects at 1 % false alarms",
        f"ε up to {EVIDENCE:g} (1 or 3 are usual), or attacks in the same run",
        f"lower --epsilon, or {how}",
    )


def refuse_beside(
    budget: Budget | None,
    *,
    advised: bool = False,
    linked: bool = False,
    fit_per: str | None = None,
    split_by: str | None = None,
) -> None:
    """Raise PrivacyError for what would read rows that nobody pays for."""
    if budget is None:
        return
    beside = (
        (linked, "linked tables", "one table, whose subjects' rows are bounded",
         "fit the table of patients by itself, or leave --epsilon out"),
        (advised, "the choice of a synthesizer by what the rows show",
         "a synthesizer that was chosen without looking: each trial on the rows would cost ε",
         "name one (table/aim or table/mst), or leave --synthesizer out"),
        (fit_per is not None, "a model for each group",
         "one model: how many subjects are in each group, and which groups are joined, is private",
         "leave --fit-per out; --balance and --where choose whom to draw, at no cost"),
        (split_by is not None, "a split by a column",
         "a split by secret coins: which sites or dates are held out would depend on everybody's"
         " rows",
         "leave --split-by out"),
    )  # fmt: skip
    for asked, given, allowed, todo in beside:
        if asked:
            raise PrivacyError(
                f"a privacy budget (ε = {budget.epsilon:g}) and {given}", allowed, todo
            )


@contextmanager
def restricting(budget: Budget | None) -> Iterator[None]:
    """Note on whatever is raised under a budget that it may hang on rows, and is not to leave."""
    try:
        yield
    except Exception as error:
        if budget is not None:
            error.add_note(RESTRICTED)
        raise


def default(budget: Budget | None, schema: object, usual: str) -> str:
    """Return the synthesizer that is taken where none is named."""
    if budget is None:
        return usual
    wide = isinstance(schema, TableSchema) and len(schema.learned) > WIDE
    return "table/mst" if wide else "table/aim"


def told(budget: Budget | None, schema: object) -> tuple[str, ...]:
    """Say what a model that was fitted under a budget promises, and which levels it lacks."""
    if budget is None:
        return ()
    from manikin.privacy import domain

    return (
        *(domain.told(schema) if isinstance(schema, TableSchema) else ()),
        f"The model is differentially private (ε = {budget.epsilon:g}, δ = {budget.delta:g}), and"
        " so is whatever is drawn from it.",
    )


def under(recipe: Synthesizer[Table], budget: Budget | None, name: str) -> Synthesizer[Table]:
    """Return the recipe with its budget. Raises PrivacyError where it needs one and has none."""
    if budget is not None:
        return UnderBudget(recipe, budget)
    if getattr(bare(recipe), "needs_budget", False):
        need_budget(budget, name)
    return recipe


def size_of(model: Model[Table], holdout: float) -> int:
    """Return how many subjects the source has, held-out ones too, as the model's noise has it."""
    trained: float | None = getattr(model, "subjects", None)
    if trained is None:
        raise PrivacyError(
            "a model under a budget that paid for no number of subjects",
            "a number that tells nothing of the rows",
            "say how many subjects to draw: --n",
        )
    return max(1, round(trained / (1 - holdout)))


def rows_that_count(model: Model[Table]) -> int:
    """Return how many rows of a subject a model under a budget counted at most."""
    most: int | None = getattr(model, "most_rows", None)
    if most is None:
        raise TypeError("a model under a budget that does not say how many rows of a subject count")
    return most
