"""Can what is promised under a privacy budget be broken? Games against every mechanism.

usage: python benchmarks/audit.py [--runs 2000] [--epsilons 1,3] [--page]

For each synthesizer that needs a budget, the worst neighbours there are: a table of nobody, and a
table of one patient. The attacker knows everything but that one bit, sees every noisy count, and
adds them up as the best test does (Neyman and Pearson). Printed: the least ε that the game proves
(at 95 %), which must not exceed the claim, and μ of Gaussian privacy beside what theory says. The
same games are played against the mechanisms with bugs put in on purpose; each must be found.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np

from manikin import catalogue
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.privacy import account
from manikin.privacy.accountant import most_rho
from manikin.privacy.budget import Budget
from manikin.privacy.game import Found, two_worlds
from manikin.privacy.ledger import Gaussian
from manikin.privacy.rows import Halves, Rows

__all__ = ["BUGS", "Game", "bug", "play"]

SCHEMA = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("stage", "ordinal", categories=("I", "II", "III")),
        Column("age", "integer", minimum=0, maximum=63),
    ),
    declared=True,
)
PAGE = Path(__file__).parents[1] / "docs" / "audit.md"


@dataclass(frozen=True)
class Game:
    """What a game showed, and what theory says of it."""

    found: Found
    mu: float  # of the noisy counts alone, by the ledger; at most what the budget allows


def table(patients: int) -> Table:
    """Return a table of nobody, or of one patient."""
    columns: dict[str, Any] = {
        "sex": np.ones(patients, np.int32),
        "stage": np.full(patients, 2, np.int32),
        "age": np.full(patients, 40.0),
    }
    return Table(SCHEMA, np.arange(patients), columns)


def play(name: str, epsilon: float, runs: int, *, recipe: dict[str, object] | None = None) -> Game:
    """Run a synthesizer so often without and with the patient, and judge the best attacker."""
    built = catalogue.build(name, {"bins": 8, "steps": 1, **(recipe or {})})
    scores: dict[int, list[float]] = {0: [], 1: []}
    theory = []
    for world, seen in scores.items():
        data = table(world)
        for _ in range(runs):
            with _listening() as heard:
                model = built.fit(data, seed=0, budget=Budget(epsilon))
            seen.append(math.fsum(heard))
            if world:
                paid = [one for one in model.ledger if isinstance(one, Gaussian)]
                theory.append(math.sqrt(sum(one.count / one.noise_multiplier**2 for one in paid)))
    found = two_worlds(np.array(scores[0]), np.array(scores[1]), 1e-6)
    claimed = math.sqrt(2 * most_rho(epsilon, 1e-6))
    return Game(found, min(claimed, float(np.mean(theory))))


@contextlib.contextmanager
def _listening() -> Iterator[list[float]]:
    """Hear every noisy count of the cells that the patient is in, by the precision claimed for it.

    That sum is the logarithm of the likelihood ratio of the two worlds, but for a constant.
    """
    heard: list[float] = []
    codes: dict[int, np.ndarray] = {}
    first = _codes()

    def own(rows: Rows) -> np.ndarray:
        return codes.get(id(rows), first)

    counts, halved, coarser = Rows.counts, Rows.halved, Rows.coarser

    def counts_(self: Rows, columns: Any, *, rho: float, what: str, groups: Any = ()) -> Any:
        noisy = counts(self, columns, rho=rho, what=what, groups=groups)
        cell = [own(self)[j] for j in columns]
        if groups:
            cell = [of[code] for of, code in zip(groups, cell, strict=True)]
        heard.append(2 * rho * float(noisy[tuple(cell)]))
        return noisy

    def halved_(self: Rows, column: int, *, first: int, rho: float, what: str) -> Any:
        noisy, halves = halved(self, column, first=first, rho=rho, what=what)
        at = own(self)[column]
        within = (halves.start <= at) & (at < halves.end)
        heard.append(2 * rho / halves.depth * float(noisy[within].sum()))
        return noisy, halves

    def coarser_(self: Rows, maps: Any) -> Rows:
        made = coarser(self, maps)
        codes[id(made)] = np.array([of[code] for of, code in zip(maps, own(self), strict=True)])
        kept.append(made)  # so that no other object takes its place in memory
        return made

    kept: list[Rows] = []
    with _replaced(Rows, counts=counts_, halved=halved_, coarser=coarser_):
        yield heard


def _codes() -> np.ndarray:
    from manikin.synthesizers.table._public import public_encoding

    return public_encoding(SCHEMA).encode(table(1), seed=0)[0]


@contextlib.contextmanager
def _replaced(owner: Any, **new: Any) -> Iterator[None]:
    own = vars(owner)
    old = {name: own[name] for name in new if name in own}
    try:
        for name, value in new.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in new:
            if name in old:
                setattr(owner, name, old[name])
            else:  # it was inherited
                delattr(owner, name)


# ------------------------------------------------------------------ bugs put in on purpose


def _half_the_noise() -> contextlib.AbstractContextManager[None]:
    """A sensitivity of 1 where it is 2: noise of half the size that was paid for (JAM, mbi #65)."""
    right = account._noised
    return _replaced(account, _noised=lambda values, kind, scale: right(values, kind, scale / 2))


def _noise_once() -> contextlib.AbstractContextManager[None]:
    """Paid for once, drawn many times: the mechanism run on raw data at every call, averaged."""
    right = account._noised

    def often(values: Any, kind: str, scale: float) -> Any:
        drawn = [right(values, kind, scale) for _ in range(16)]
        return np.rint(np.mean(drawn, axis=0)).astype(np.int64)

    return _replaced(account, _noised=often)


def _no_noise() -> contextlib.AbstractContextManager[None]:
    """Exact frequencies in place of noisy ones (a data sampler that is not noised)."""
    return _replaced(account, _noised=lambda values, kind, scale: np.asarray(values))


def _depth_forgotten() -> contextlib.AbstractContextManager[None]:
    """Ranges of several depths counted as if a row were in one of them only."""
    right = Halves.of

    def wrong(first: int, size: int) -> Halves:
        return replace(right(first, size), depth=1)

    return _replaced(Halves, of=staticmethod(wrong))


def _rho_for_epsilon() -> contextlib.AbstractContextManager[None]:
    """The whole of ε taken for ρ: a budget many times too large."""
    from manikin.privacy.account import Account

    return _replaced(Account, rho=property(lambda self: self.budget.epsilon),
                     ledger=lambda self: tuple(self.releases))  # fmt: skip


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "half the noise": _half_the_noise,
    "paid once, drawn often": _noise_once,
    "exact counts": _no_noise,
    "depth of ranges forgotten": _depth_forgotten,
    "ρ taken for ε": _rho_for_epsilon,
}


def bug(name: str) -> contextlib.AbstractContextManager[None]:
    """Put a bug in while the context lasts."""
    return BUGS[name]()


def broken(game: Game, epsilon: float) -> bool:
    """Whether a game proves a claim false: by ε, or by a μ four errors above the ledger's."""
    surely = game.found.mu is not None and game.found.mu_error is not None and (
        game.found.mu - 4 * game.found.mu_error > game.mu
    )  # fmt: skip
    return game.found.epsilon > epsilon or surely or game.found.mu is None


# ------------------------------------------------------------------ the page


def main() -> None:
    """Print the games, and write docs/audit.md if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each world")
    parser.add_argument("--epsilons", default="1,3")
    parser.add_argument("--page", action="store_true", help="write docs/audit.md")
    given = parser.parse_args()
    lines = list(_page(given.runs, [float(e) for e in given.epsilons.split(",")]))
    if given.page:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _page(runs: int, epsilons: list[float]) -> Iterator[str]:
    names = [name for name in catalogue.names() if catalogue.needs_budget(name)]
    head = [
        "# Audit", "",
        "Games against every synthesizer under a privacy budget: a table of one patient against a",
        f"table of nobody, {runs} runs of each, the attacker sees every noisy count and adds them",
        "up as the best test does. Written by `python benchmarks/audit.py --page`.", "",
        "- *proven*: the least ε that the attack proves, at 95 % confidence; not above the claim",
        "- *μ*: of Gaussian differential privacy, ± a standard error, beside what the ledger says",
        "", "| synthesizer | ε claimed | ε proven | μ measured | μ by the ledger | holds |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    yield from _said(head)
    for name in names:
        for epsilon in epsilons:
            game = play(name, epsilon, runs)
            yield from _said([_line(f"`{name}`", epsilon, game, "yes", "**no**")])
    title = ["", "## Bugs put in on purpose", "", f"Each has to be found, at ε = {epsilons[-1]:g}.",
             "", "| bug | ε claimed | ε proven | μ measured | μ by the ledger | found |",
             "| --- | ---: | ---: | ---: | ---: | --- |"]  # fmt: skip
    yield from _said(title)
    for name in BUGS:
        with bug(name):
            game = play(names[-1], epsilons[-1], runs)
        yield from _said([_line(name, epsilons[-1], game, "**no**", "yes")])


def _line(name: str, epsilon: float, game: Game, holds: str, breaks: str) -> str:
    mu = "–" if game.found.mu is None else f"{game.found.mu:.3f} ± {game.found.mu_error:.3f}"
    said = breaks if broken(game, epsilon) else holds
    return f"| {name} | {epsilon:g} | {game.found.epsilon:.2f} | {mu} | {game.mu:.3f} | {said} |"


def _said(lines: list[str]) -> Iterator[str]:
    for line in lines:
        print(line, flush=True)
        yield line


if __name__ == "__main__":
    main()
