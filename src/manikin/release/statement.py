"""What a privacy budget promises, in sentences that can be repeated: the statement of a release.

Reference  NIST SP 800-226, "Guidelines for evaluating differential privacy guarantees" (2025): unit
           of privacy, neighbours, ε and δ, what is covered and what is not; Kairouz, Oh and
           Viswanath, ICML 2015, Theorem 2.1 (what (ε, δ) allows any attacker)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manikin.privacy import accountant, ledger
from manikin.privacy.budget import Budget
from manikin.privacy.domain import OTHER
from manikin.privacy.ledger import Release

__all__ = [
    "RESTRICTED",
    "SCHEMA",
    "STATEMENT",
    "Statement",
    "describe_release",
    "make_statement",
    "percent",
    "readme",
    "render_statement",
]

STATEMENT, SCHEMA = "statement.md", "schema.yaml"
RESTRICTED = "restricted, not for release"
_ROW = "add or remove one row"
ALARMS = (
    0.001,
    0.01,
    0.05,
    0.1,
    0.2,
    0.5,
)  # strangers taken for members
NOT_COVERED = (
    "the report, the record and the cards beside this folder: they were computed from real rows"
    f" without noise, and are {RESTRICTED}",
    "the rows that were held out to judge the data: no model saw them, and their numbers stand in"
    " that report only",
    "the schema: whoever wrote it may have looked at rows; then what it says was not paid for",
    "side channels: how long the run took, whether it was refused, and messages on the screen of"
    " whoever ran it",
    "other releases of the same patients: what each costs adds up (`manikin privacy ledger`)",
    "what is true of people in general: that smoking harms can be learnt from anybody's data, and"
    " then holds for a person who is not in them, too",
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
    epsilon: float  # promised
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
    by_row: bool = False  # no column says whose row it is: every row counts as a subject
    notes: tuple[str, ...] = ()
    discovered: tuple[str, ...] = ()  # what the schema left open and the budget bought
    not_covered: tuple[str, ...] = NOT_COVERED

    @property
    def unit(self) -> str:
        """Who is protected."""
        if self.by_row:
            return (
                "one row: no column of the schema says whose row it is, so a person who has several"
                " is protected less"
            )
        return f"one subject, with all of its rows, of which {self._counted}"

    @property
    def _counted_of(self) -> str:
        if self.by_row:
            return "a person who has several rows, less"
        return f"of a subject's rows {self._counted}"

    @property
    def _counted(self) -> str:
        return "one counts" if self.most_rows == 1 else f"at most {self.most_rows} count"

    def most(self, alarms: float) -> float:
        """Return the most members that any attacker finds at a rate of false alarms."""
        return accountant.true_positives(alarms, self.epsilon, self.delta)

    @property
    def promise(self) -> str:
        """The guarantee in a sentence."""
        return (
            f"Every {'row' if self.by_row else 'subject'} is protected by differential privacy with"
            f" ε = {self.epsilon:g} and δ = {self.delta:g} ({self._counted_of})."
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
) -> Statement:
    """Count a ledger and say what it promises."""
    found = accountant.spent(releases, budget.delta)
    curve = tuple(
        (alarms, accountant.true_positives(alarms, budget.epsilon, budget.delta))
        for alarms in ALARMS
    )
    return Statement(
        method, budget.epsilon, budget.delta, most_rows,
        _ROW if by_row else ledger.ADJACENCY, found.rdp, found.pld, curve, _lines(releases),
        schema, n, n_given, by_row, notes, tuple(one.what for one in budget.spent),
    )  # fmt: skip


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
            return (
                f"{told.get('steps')} steps of training, each on a random"
                f" {told.get('sampling_probability')} of the subjects, with Gaussian noise of"
                f" {told.get('noise_multiplier')} times the clipping norm"
            )
    rest = ", ".join(f"{k} = {v}" for k, v in told.items() if k not in ("release", "what"))
    return f"{entry.get('release', 'a release')}{f' ({rest})' if rest else ''}"


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """Write a share of one as a percentage of two or three digits."""
    shown = f"{100 * share:.3g}" if share < 0.1 else f"{100 * share:.1f}"
    return f"{shown.removesuffix('.0')}\u202f%"


# ---------------------------------------------------------------------------- Markdown
def render_statement(said: Statement) -> str:
    """Return the statement in Markdown, for a person who has to repeat it."""
    lines = [
        "# Statement of the privacy guarantee",
        "",
        f"**{said.promise}**",
        "",
        "In other words: whether any one person's rows were used or not, the data and the model"
        f" come out nearly as likely (any result at most e^{said.epsilon:g} ="
        f" {_factor(said.epsilon)} times as likely, but for a chance of {said.delta:g}). This"
        " holds against every attacker, now and later, whatever else they know. It does not wear"
        " off when more rows are drawn from the model.",
        "",
        "## What is promised",
        "",
        *_table(("", ""), _promised(said)),
        "",
        *(f"- {note}" for note in said.notes),
        *([""] if said.notes else []),
        "## How ε was counted",
        "",
        *_table((f"ε at δ = {said.delta:g}", ""), _accounts(said)),
        "",
        "Two accountants count the same releases where each can; the larger figure is the one that"
        " is held to the promise.",
        "",
        "## What it means against an attacker",
        "",
        "An attacker has to say of people whether they are among the subjects. Of strangers a share"
        " is taken for members by mistake. No attacker finds more members than this:",
        "",
        *_table(
            ("Strangers taken for members", "Members found, at most", "Without any data"),
            ((percent(fpr), percent(tpr), percent(fpr)) for fpr, tpr in said.curve),
        ),
        "",
        "## What was released from the rows",
        "",
        *_table(("Of what", "How it was protected", "Times", "Cost (ρ)"), map(_row, said.lines)),
        "",
        "ρ is the cost in zero-concentrated differential privacy; it adds up.",
        "",
        *_scope(said),
    ]  # fmt: skip
    return "\n".join(lines)


def _scope(said: Statement) -> list[str]:
    """Return what was public, what is not covered, and how noise was drawn."""
    return [
        "## What was public",
        "",
        "- the schema: columns, kinds, categories, bounds, decimals and marks"
        f" (`{SCHEMA}`, {said.schema})" + (", but for what was bought" if said.discovered else ""),
        "- how the source's file is written: format, header, delimiter, line ending, decimal comma",
        "- the method and its settings",
        "",
        *_bought(said),
        "## What the guarantee does not cover",
        "",
        *(f"- {what}" for what in said.not_covered),
        "",
        "## How noise was drawn",
        "",
        "By OpenDP, over whole numbers, from the operating system's randomness. No seed was used"
        " and none is kept, so nobody can take the noise away again, nor fit the same model"
        " twice. The seed in the record draws rows from the finished model. Which subjects were"
        " held out was decided by coins that are not kept either.",
        "",
    ]


def _bought(said: Statement) -> list[str]:
    """Return what the schema left open, and how it was found out."""
    if not said.discovered:
        return []
    return [
        "## What was bought because the schema left it open",
        "",
        "Noisy counts, which stand in the table above with what they cost, told what follows. One"
        " row of each subject counted, held-out subjects too. Levels that too few subjects have"
        f" are not named: they came in as '{OTHER}', or as missing where a column has no room for"
        " a word. Numbers and dates beyond a range count as its end.",
        "",
        *(f"- {_cell(what)}" for what in said.discovered),
        "",
    ]


def _promised(said: Statement) -> list[tuple[str, str]]:
    sampled = "as asked for" if said.n_given else "the model's noisy count, not the exact one"
    return [
        ("Unit of privacy", said.unit),
        ("Neighbouring tables", said.adjacency),
        ("ε", f"{said.epsilon:g}"),
        ("δ", f"{said.delta:g}, fixed beforehand and not from the number of subjects"),
        ("Method", said.method),
        ("Subjects drawn", f"{said.n} ({sampled})"),
    ]


def _accounts(said: Statement) -> list[tuple[str, str]]:
    second = "no such account exists for choices by the exponential mechanism"
    return [
        ("promised, never exceeded", f"{said.epsilon:g}"),
        ("spent, by Rényi divergences", f"{said.renyi:.4g}"),
        ("spent, by distributions of privacy loss",
         second if said.losses is None else f"{said.losses:.4g}"),
    ]  # fmt: skip


def _row(one: Line) -> tuple[str, str, str, str]:
    return _cell(one.what), one.how, str(one.times), "–" if one.rho is None else f"{one.rho:.3g}"


def readme(said: Statement, data: str, model: str, stamp: str, again: str) -> str:
    """Return the README, in Markdown, of the folder of what may leave."""
    files = (
        (data, "the synthetic rows"),
        (model, "the model that drew them; it may be given away too"),
        (STATEMENT, "the privacy guarantee, in sentences that can be repeated"),
        (SCHEMA, "what was public beforehand, and what was bought from the budget: nothing else in"
                 " it was read from rows by the program" if said.discovered else
                 "what was public beforehand: nothing in it was read from rows by the program"),
        ("record.jsonl", "how it was made, a line an event, each chained to the one before; without"
                         " exact counts"),
        ("MANIFEST.sha256", "the SHA-256 of every file"),
    )  # fmt: skip
    lines = [
        "# Synthetic data under a privacy guarantee",
        "",
        "These data are synthetic: every row was drawn by a computer model and none is the record"
        f" of a person. {stamp}".rstrip(),
        "",
        said.promise,
        "",
        "Whoever gives this folder away decides whether that is enough, for whom and for what. A"
        " guarantee of privacy says nothing of how good the data are: confirm findings on real"
        " data.",
        "",
        "## Files",
        "",
        *(f"- `{name}`: {what}" for name, what in files),
        "",
        "## Has anything been altered?",
        "",
        "    manikin verify .",
        "    sha256sum -c MANIFEST.sha256",
        "",
        "## The same rows again",
        "",
        "Drawing from the model costs no privacy, however often it is done.",
        "",
        f"    {again}",
        "",
    ]
    return "\n".join(lines)


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):.3g}" if epsilon < 20 else "very many"


def _cell(text: str) -> str:
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    found = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*found, *(f"| {' | '.join(row)} |" for row in rows)]
