"""What a privacy budget promises, in sentences that can be repeated: the statement of a release.

Reference  NIST SP 800-226, "Guidelines for evaluating differential privacy guarantees" (2025): unit
           of privacy, neighbours, ε and δ, what is covered and what is not; Kairouz, Oh and
           Viswanath, ICML 2015, Theorem 2.1 (what (ε, δ) allows any attacker)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manikin.errors import RESTRICTED
from manikin.privacy import accountant, ledger
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Release

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema

__all__ = [
    "SCHEMA",
    "STATEMENT",
    "Statement",
    "describe_release",
    "make_statement",
    "not_covered",
    "percent",
    "who_of",
]

STATEMENT, SCHEMA = "statement.md", "schema.yaml"
_ROW = "add or remove one row"
_WHO = "subject"  # the unit of privacy, where the schema has no word of its own for it
ALARMS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)  # strangers taken for members


def who_of(schema: TableSchema) -> str:
    """Return the word for whom the guarantee protects: the `unit` of the subject's column."""
    holder = schema.holder("subject")
    told = (holder.unit or "") if holder is not None else ""
    plain = "".join(sign if sign.isalnum() or sign in "-'" else " " for sign in told)
    return " ".join(plain.split())[:40] or _WHO


def not_covered(report: bool, who: str) -> tuple[str, ...]:
    """Say what no sentence of the guarantee speaks of; `report`: a page of quality was bought."""
    several = "a whole family of k people" if who == _WHO else f"k of what is called {who} here"
    told = "the noisy numbers of the quality page and" if report else "only"
    return (
        "the report, the record and the cards beside this folder: they were computed from real"
        f" rows without noise, and are {RESTRICTED}",
        "the rows that were held out to judge the data: no model saw them, and of what they show"
        f" {told} that report tells",
        "the schema: whoever wrote it may have looked at rows; then what it says was not paid for",
        "what was tried before: settings, columns, a method or an ε that somebody chose by looking"
        " at what these rows gave were not paid for",
        "side channels: how long the run took, whether and with which exit code it was refused, and"
        " what it printed on the screen of whoever ran it",
        "the decision to give this away: where the restricted report or a policy (`--policy`) was"
        " asked whether it is good enough, the answer hung on real rows, and was not paid for",
        "other releases of the same people: what each costs adds up (`manikin privacy ledger`)",
        f"groups: whether {several} took part is protected about k times less (k times this ε)",
        "what is true of people in general: that smoking harms can be learnt from anybody's data,"
        " and then holds for a person who is not in them, too",
    )


@dataclass(frozen=True)
class Line:
    """Releases of one kind: of what, how it was protected, and what it cost by itself."""

    what: str
    how: str
    times: int
    rho: float | None  # in zero-concentrated differential privacy; None where that does not count


@dataclass(frozen=True)
class Statement:
    """The guarantee of one release."""

    method: str
    epsilon: float  # promised for data and model
    delta: float
    most_rows: int  # of one subject, that count
    adjacency: str
    renyi: float  # ε of what was released, by each accountant; None: it has no such account
    losses: float | None
    curve: tuple[tuple[float, float], ...]  # strangers taken for members, members found at most
    lines: tuple[Line, ...]
    schema: str  # digest of the declared schema
    n: int  # subjects drawn
    n_given: bool  # by a person; else the model's noisy number
    together: float  # ε of all that is in the folder
    not_covered: tuple[str, ...]
    by_row: bool = False  # no column says whose row it is: every row counts as a subject
    notes: tuple[str, ...] = ()
    discovered: tuple[str, ...] = ()  # what the schema left open and the budget bought
    report: float | None = None  # ε of the page of quality, None where there is none
    who: str = _WHO  # whom the guarantee protects, in the schema's word
    held: str = "rows"  # what a subject has several of: rows of a table, visits of a history

    @property
    def unit(self) -> str:
        """Who is protected."""
        if self.by_row:
            return (
                "one row: no column of the schema says whose row it is, so a person who has several"
                " is protected less"
            )
        return f"one {self.who}, with all of its {self.held}, of which {self._counted}"

    @property
    def _counted_of(self) -> str:
        if self.by_row:
            return "a person who has several rows, less"
        article = "an" if self.who[0] in "aeiouAEIOU" else "a"
        return f"of {article} {self.who}'s {self.held} {self._counted}"

    @property
    def _counted(self) -> str:
        return "one counts" if self.most_rows == 1 else f"at most {self.most_rows} count"

    def most(self, alarms: float) -> float:
        """Return the most members that any attacker finds at a rate of false alarms."""
        return accountant.true_positives(alarms, self.together, self.delta)

    @property
    def prices(self) -> str:
        """What each part cost, where there are several."""
        if self.report is None:
            return ""
        return (
            f" Of that, ε = {self.epsilon:g} is of the data and the model, and ε ="
            f" {self.report:g} of the quality page."
        )

    @property
    def promise(self) -> str:
        """The guarantee in a sentence."""
        return (
            f"Every {'row' if self.by_row else self.who} is protected by differential privacy with"
            f" ε = {self.together:g} and δ = {self.delta:g} ({self._counted_of}).{self.prices}"
            " Whoever knows everything else and takes 1\u202f% of strangers for members finds at"
            f" most {percent(self.most(0.01))} of the members; at 10\u202f%,"
            f" {percent(self.most(0.1))}."
        )


def make_statement(
    releases: tuple[Release, ...],
    budget: Budget,
    *,
    method: str,
    most_rows: int,
    schema: str,
    n: int,
    n_given: bool,
    by_row: bool = False,
    notes: tuple[str, ...] = (),
    report: tuple[Budget, tuple[Release, ...]] | None = None,
    who: str = _WHO,
    held: str = "rows",
) -> Statement:
    """Count a ledger and say what it promises; that of a `report` is added to it."""
    every = releases + (() if report is None else report[1])
    found = accountant.spent(every, budget.delta)
    together = budget.epsilon if report is None else _together(budget, report[0], found.epsilon)
    curve = tuple(
        (alarms, accountant.true_positives(alarms, together, budget.delta)) for alarms in ALARMS
    )
    return Statement(
        method, budget.epsilon, budget.delta, most_rows,
        _ROW if by_row else ledger.ADJACENCY.replace(_WHO, who), found.rdp, found.pld, curve,
        _lines(every), schema, n, n_given, together, not_covered(report is not None, who), by_row,
        notes, tuple(one.what for one in budget.spent),
        None if report is None else report[0].epsilon, who, held,
    )  # fmt: skip


def _together(one: Budget, other: Budget, spent: float) -> float:
    """Return the ε of two budgets of one δ: what both may spend in zCDP, in two digits upwards.

    At least what was `spent`, where something is counted otherwise. A person is either learnt from
    or held out, by a coin that hangs on nobody's rows: the larger of the two would do (parallel
    composition). They are added up nonetheless, which holds however the rows were split.
    """
    most = sum(accountant.most_rho(budget.epsilon, budget.delta) for budget in (one, other))
    both = max(spent, accountant.zcdp_epsilon(most, one.delta))
    return math.ceil(100 * both - 1e-6) / 100


def _lines(releases: Iterable[Release]) -> tuple[Line, ...]:
    counted = Counter(releases)
    found = []
    for one, times in counted.items():
        rho = accountant.rho_of(one)
        how = describe_release(ledger.to_json((one,))[0])
        found.append(Line(one.what, how, times, times * rho if math.isfinite(rho) else None))
    return tuple(found)


# ---------------------------------------------------------------------------- words
def describe_release(entry: Mapping[str, Any]) -> str:
    """Return in words how a release of a ledger was protected."""
    told = {key: _figure(value) for key, value in entry.items()}
    count = entry.get("count", 1)
    times = "" if count in (1, None) else f", {count} times"
    match entry.get("release"):
        case "NonPrivate":
            return "no formal privacy protection"
        case "Gaussian":
            return (
                "sums with discrete Gaussian noise of standard deviation"
                f" {told.get('noise_multiplier')} times what one subject changes{times}"
            )
        case "Laplace":
            return (
                f"counts with discrete Laplace noise of scale {told.get('noise_multiplier')} times"
                f" what one subject changes{times}"
            )
        case "Choice":
            return f"a choice by the exponential mechanism, ε = {told.get('epsilon')}{times}"
        case "Keys":
            return (
                f"names of levels whose count passed {told.get('threshold')} with discrete Gaussian"
                f" noise of standard deviation {told.get('noise_multiplier')} times what one"
                f" subject changes; δ = {told.get('delta')}"
            )
        case "Sampled":
            share = entry.get("sampling_probability")
            whom = "all" if share == 1 else f"a random {told.get('sampling_probability')} of the"
            return (
                f"{told.get('steps')} steps of training, each on {whom} subjects, with Gaussian"
                f" noise of {told.get('noise_multiplier')} times the clipping norm"
            )
    rest = ", ".join(f"{k} = {v}" for k, v in told.items() if k not in ("release", "what"))
    return f"{entry.get('release', 'a release')}{f' ({rest})' if rest else ''}"


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """Write a share of one as a percentage of two or three digits."""
    shown = f"{100 * share:.3g}" if share < 0.1 else f"{100 * share:.1f}"
    return f"{shown.removesuffix('.0')}\u202f%"
