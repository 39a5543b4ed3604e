"""The pages that leave with the data: the statement of the guarantee, and the README.

Written for a person without mathematics who has to sign the statement and repeat it: first the
sentences, then what they do not cover, then what to ask before signing; how it was counted last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from manikin.privacy.domain import OTHER
from manikin.release.documents import contents, plain_text, table
from manikin.release.quality import DATA as QUALITY_DATA
from manikin.release.quality import PAGE as QUALITY_PAGE
from manikin.release.statement import SCHEMA, STATEMENT, Line, Statement, percent

__all__ = ["readme", "render_statement"]


def render_statement(said: Statement) -> str:
    """Return the statement in Markdown."""
    lines = [
        "# Statement of the privacy guarantee",
        "",
        f"**{said.promise}**",
        "",
        "It can be repeated as it stands; the sentences below say the same at more length.",
        "",
        "## In plain words",
        "",
        *_plainly(said),
        "",
        "## What somebody can find out who tries",
        "",
        "Members are those whose rows were used, strangers all others. Somebody has all that is in"
        " this folder, knows everything about everybody else, and has to tell members from"
        " strangers. The more strangers he takes for members by mistake, the more true members he"
        " finds, but never more than this:",
        "",
        *table(
            ("Strangers taken for members", "Members found, at most", "By guessing alone"),
            ((percent(fpr), percent(tpr), percent(fpr)) for fpr, tpr in said.curve),
        ),
        "",
        "## What it cost",
        "",
        *table(("What", "ε", "δ"), _prices(said)),
        "",
        "Every further release of the same people costs again: `manikin privacy ledger` adds up all"
        " that lie in a folder."
        + (" Counted together, two costs come to less than their plain sum."
           if said.report is not None else ""),
        "",
        "## What the guarantee does not cover",
        "",
        *(f"- {what}" for what in said.not_covered),
        "",
        *_signing(said),
        *_scope(said),
        *_counted(said),
    ]  # fmt: skip
    return "\n".join(lines)


def _plainly(said: Statement) -> Iterator[str]:
    yield f"- **Who is protected:** {said.unit}."
    whose = "that row" if said.by_row else "the rows of that person"
    yield (
        f"- **What is promised:** whether {whose} took part or not, what lies in this folder would"
        f" have come out nearly the same. Nothing in it is more than {_factor(said.together)} times"
        f" as likely in one case as in the other (that is what ε = {said.together:g} means), except"
        f" for a chance of 1 in {_one_in(said.delta)} that this fails (δ = {said.delta:g})."
    )
    yield (
        "- **What that comes to:** suppose somebody tries to find out who took part, and wrongly"
        f" names 1 of 100 who did not. Of 100 who did he finds {_of_100(said.most(0.01))} at most;"
        " without any of these files he would find 1."
    )
    yield (
        "- **Against whom:** everybody, now and later, with whatever else they know or will learn."
    )
    yield "- **For how long:** for good, however many rows are drawn from the model."
    yield (
        f"- **How many:** {said.n} subjects were drawn"
        f" ({'as asked for' if said.n_given else _NOISY_SIZE})."
    )
    for note in said.notes:
        yield f"- {note}"


_NOISY_SIZE = "the model's noisy count, not the exact one"


def _prices(said: Statement) -> Iterator[tuple[str, str, str]]:
    yield "the data and the model", f"{said.epsilon:g}", f"{said.delta:g}"
    if said.report is not None:
        yield f"the quality page (`{QUALITY_PAGE}`)", f"{said.report:g}", f"{said.delta:g}"
        yield "**all of this folder together**", f"**{said.together:g}**", f"{said.delta:g}"


def _signing(said: Statement) -> Iterator[str]:
    """Yield what a person must know before signing: the program cannot."""
    yield "## Before you sign"
    yield ""
    yield "The program cannot know these; you or somebody whom you ask must."
    yield ""
    yield from (
        f"{i}. {asked}"
        for i, asked in enumerate(
            (
                "Was the schema written from what is known outside these rows (a code book, bounds"
                " that nobody can exceed)?",
                "Were ε, the method and its settings chosen without trying them on these rows?",
                "Do the same people stand in other releases? Then what counts is the sum that"
                " `manikin privacy ledger` shows.",
                "Does one person stand in the table as several subjects, or together with their"
                " family? Then each is protected less."
                if not said.by_row
                else "Does a person have several rows? Then each person is protected less.",
                f"Is the most that anybody can find ({percent(said.most(0.01))} of the members at"
                " 1\u202f% of strangers) little enough for those who will get it?",
                "Will nothing but this folder be given away?",
            ),
            start=1,
        )
    )
    yield ""
    yield "Sign a copy on paper: a change to this file breaks the seal of the folder."
    yield ""
    yield from table(("Name", "Role", "Date", "Signature"), ((" ", " ", " ", " "),))
    yield ""


def _scope(said: Statement) -> Iterator[str]:
    yield from (
        "## What was public",
        "",
        "Taken as known to everybody beforehand, so that no price was paid for it:",
        "",
        "- the schema: columns, kinds, categories, bounds, decimals and marks"
        f" (`{SCHEMA}`, {said.schema})" + (", but for what was bought" if said.discovered else ""),
        "- how the source's file is written: format, header, delimiter, line ending, decimal comma",
        "- the method and its settings",
        "",
    )
    if not said.discovered:
        return
    yield from (
        "## What was bought because the schema left it open",
        "",
        "Noisy counts, which stand in the last table with what they cost, told what follows. One"
        " row of each subject counted, held-out subjects too. Levels that too few subjects have"
        f" are not named: they came in as '{OTHER}', or as missing where a column has no room for"
        " a word. Numbers and dates beyond a range count as its end.",
        "",
        *(f"- {plain_text(what)}" for what in said.discovered),
        "",
    )


def _counted(said: Statement) -> Iterator[str]:
    """Yield how it was counted, for those who check."""
    yield "## For those who check: how it was counted"
    yield ""
    yield from table(("", ""), _terms(said))
    yield ""
    yield (
        "Two accountants count the same releases where each can; the larger figure is held to the"
        " promise."
    )
    yield ""
    if said.report is not None:
        yield (
            "By a coin that hangs on nobody's rows a person is either learnt from or held out for"
            " the quality page: of these two prices the larger would do (parallel composition)."
            " They are added up all the same, which holds however the rows were split."
        )
        yield ""
    heads = ("Released of the rows", "How it was protected", "Times", "Cost (ρ)")
    yield from table(heads, map(_row, said.lines))
    yield ""
    yield "ρ is the cost in zero-concentrated differential privacy; it adds up."
    yield ""
    yield (
        "Noise was drawn by OpenDP, over whole numbers, from the operating system's randomness. No"
        " seed was used and none is kept, so nobody can take the noise away again, nor fit the same"
        " model twice. The seed in the record draws rows from the finished model. Which subjects"
        " were held out was decided by coins that are not kept either."
    )
    yield ""


def _terms(said: Statement) -> Iterator[tuple[str, str]]:
    none = "no such account exists for choices by the exponential mechanism"
    yield "Neighbouring tables", said.adjacency
    yield "Promised, never exceeded", f"ε = {said.together:g} at δ = {said.delta:g}"
    yield "δ", "fixed beforehand and not from the number of subjects"
    yield "Spent, by Rényi divergences", f"ε = {said.renyi:.4g}"
    losses = none if said.losses is None else f"ε = {said.losses:.4g}"
    yield "Spent, by distributions of privacy loss", losses
    yield "Method", said.method


def _row(one: Line) -> tuple[str, str, str, str]:
    cost = "–" if one.rho is None else f"{one.rho:.3g}"
    return plain_text(one.what), one.how, str(one.times), cost


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):.3g}" if epsilon < 20 else "very many"


def _of_100(share: float) -> str:
    return f"{math.ceil(1000 * share - 1e-9) / 10:g}"  # upwards: it is a bound


def _one_in(delta: float) -> str:
    return f"{float(f'{1 / delta:.3g}'):,.0f}".replace(",", "\u202f")


def readme(said: Statement, data: str, model: str, stamp: str, again: str) -> str:
    """Return the README, in Markdown, of the folder of what may leave."""
    files = [
        (data, "the synthetic rows"),
        (model, "the model that drew them; it may be given away too"),
        (STATEMENT, "the privacy guarantee, in sentences that can be repeated"),
        (SCHEMA, "what was public beforehand, and what was bought from the budget: nothing else in"
                 " it was read from rows by the program" if said.discovered else
                 "what was public beforehand: nothing in it was read from rows by the program"),
        ("record.jsonl", "how it was made, a line an event, each chained to the one before; without"
                         " exact counts"),
        ("MANIFEST.sha256", "the SHA-256 of every file"),
    ]  # fmt: skip
    if said.report is not None:
        files[2:2] = [
            (QUALITY_PAGE, "how good the data are: noisy numbers that were paid for; open it in any"
             " browser, it needs no network"),
            (QUALITY_DATA, "the same numbers, for programs"),
        ]  # fmt: skip
    good = (
        f"How good the data are, as far as was paid for, says `{QUALITY_PAGE}`"
        if said.report is not None
        else "A guarantee of privacy says nothing of how good the data are"
    )
    lines = [
        "# Synthetic data under a privacy guarantee",
        "",
        "These data are synthetic: every row was drawn by a computer model and none is the record"
        f" of a person. {stamp}".rstrip(),
        "",
        said.promise,
        "",
        "Whoever gives this folder away decides whether that is enough, for whom and for what."
        f" {good}: confirm findings on real data.",
        "",
        *contents(files),
        "## The same rows again",
        "",
        "Drawing from the model costs no privacy, however often it is done.",
        "",
        f"    {again}",
        "",
    ]
    return "\n".join(lines)
