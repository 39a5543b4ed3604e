"""Can what is promised under a privacy budget be broken? Games against every mechanism.

usage: python benchmarks/audit.py [--runs 2000] [--flocks 5] [--tables 3] [--epsilons 1,3] [--page]

For each synthesizer that honours a budget, the worst neighbours there are: a table of nobody, and a
table of one patient. The attacker knows everything but that one bit, sees every noisy count, and
adds them up as the best test does (Neyman and Pearson). Printed: the least ε that the game proves
(at 95 %), which must not exceed the claim, and μ of Gaussian privacy beside what theory says. The
same games are played against the mechanisms with bugs put in on purpose; each must be found.
Then canaries (`canaries.py`): whole fits into which a coin let each of many made-up subjects.
Last, what membership attacks see of synthetic rows under several budgets (`marginal_leaks.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import canaries
import marginal_leaks
import numpy as np
from hearing import codes_of, hearing, replaced

from manikin import catalogue
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.privacy import account
from manikin.privacy.accountant import most_rho
from manikin.privacy.budget import Budget
from manikin.privacy.game import Found, two_worlds
from manikin.privacy.ledger import Gaussian, Release, Sampled

__all__ = ["BUGS", "Game", "bug", "play"]

SCHEMA = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("stage", "ordinal", categories=("I", "II", "III")),
        Column("age", "integer", minimum=0, maximum=63),
    ),
    declared=True,
)
SLOWER = 8  # times fewer runs of recipes that train networks
STEPS = 15  # of training, where a recipe trains: as private as more of them
PAGE = Path(__file__).parents[1] / "docs" / "audit.md"


@dataclass(frozen=True)
class Game:
    """What a game showed, and what theory says of it."""

    found: Found
    mu: float  # of the noisy counts alone, by the ledger; at most what the budget allows


def table(rows: int) -> Table:
    """Return a table of nobody, or of so many rows of one patient."""
    columns: dict[str, Any] = {
        "sex": np.ones(rows, np.int32),
        "stage": np.full(rows, 2, np.int32),
        "age": np.full(rows, 40.0),
    }
    return Table(SCHEMA, np.zeros(rows, np.int64), columns)


def play(
    name: str,
    epsilon: float,
    runs: int,
    *,
    recipe: dict[str, object] | None = None,
    rows: int = 1,
) -> Game:
    """Run a synthesizer so often without and with the patient, and judge the best attacker.

    `rows` are what the patient has, of which the recipe lets one count.
    """
    quick = {"bins": 8, "steps": 1} if catalogue.needs_budget(name) else {"steps": STEPS}
    built = canaries.built(name, **{**quick, **(recipe or {})})
    asked, known = codes_of(table(1)), codes_of(table(0))
    scores: dict[int, list[float]] = {0: [], 1: []}
    theory = []
    for world, seen in scores.items():
        data = table(world * rows)
        for _ in range(runs):
            with hearing(asked, known) as heard:
                model = built.fit(data, seed=0, budget=Budget(epsilon))
            seen.append(float(heard[0]))
            if world:
                theory.append(math.sqrt(sum(map(_squared, model.ledger))))
    found = two_worlds(np.array(scores[0]), np.array(scores[1]), 1e-6)
    claimed = math.sqrt(2 * most_rho(epsilon, 1e-6))
    return Game(found, min(claimed, float(np.mean(theory))))


def _squared(release: Release) -> float:
    """Return μ² of a release of sums: as of one count; the patient is in every step or in none."""
    if isinstance(release, Gaussian):
        return release.count / release.noise_multiplier**2
    if isinstance(release, Sampled):  # at most, where not every step samples everybody
        return release.steps / release.noise_multiplier**2
    return 0.0


# ------------------------------------------------------------------ bugs put in on purpose


def _half_the_noise() -> contextlib.AbstractContextManager[None]:
    """A sensitivity of 1 where it is 2: noise of half the size that was paid for (JAM, mbi #65)."""
    right = account._noised
    return replaced(account, _noised=lambda values, kind, scale: right(values, kind, scale / 2))


def _noise_once() -> contextlib.AbstractContextManager[None]:
    """Paid for once, drawn many times: the mechanism run on raw data at every call, averaged."""
    right = account._noised

    def often(values: Any, kind: str, scale: float) -> Any:
        drawn = [right(values, kind, scale) for _ in range(16)]
        return np.rint(np.mean(drawn, axis=0)).astype(np.int64)

    return replaced(account, _noised=often)


def _no_noise() -> contextlib.AbstractContextManager[None]:
    """Exact frequencies in place of noisy ones (a data sampler that is not noised)."""
    return replaced(account, _noised=lambda values, kind, scale: np.asarray(values))


def _rho_for_epsilon() -> contextlib.AbstractContextManager[None]:
    """The whole of ε taken for ρ: a budget many times too large."""
    from manikin.privacy.account import Account

    return replaced(Account, rho=property(lambda self: self.budget.epsilon),
                     ledger=lambda self: tuple(self.releases))  # fmt: skip


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "half the noise": _half_the_noise,
    "paid once, drawn often": _noise_once,
    "exact counts": _no_noise,
    "ρ taken for ε": _rho_for_epsilon,
}


FACTORS, LARGE = {"half the noise"}, 40.0


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


@dataclass(frozen=True)
class Length:
    """How long an audit is."""

    runs: int  # of each world
    flocks: int  # of canaries, each a fit
    tables: int  # populations that membership attacks are tried on


CANARIES = 200  # a flock
LEAKING = (1.0, 3.0, 10.0, 100.0, 1000.0)  # budgets that membership attacks are tried at
MEMBERS = 300


def main() -> None:
    """Print the games, and write docs/audit.md if asked. Ends with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each world")
    parser.add_argument("--flocks", type=int, default=5, help="of canaries")
    parser.add_argument("--tables", type=int, default=3, help="that membership attacks see")
    parser.add_argument("--epsilons", default="1,3")
    parser.add_argument("--page", action="store_true", help="write docs/audit.md")
    given = parser.parse_args()
    length = Length(given.runs, given.flocks, given.tables)
    lines = list(_page(length, [float(e) for e in given.epsilons.split(",")]))
    if given.page:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any("**no**" in line for line in lines):
        sys.exit("Something was broken, or a bug was not found: see the lines that say **no**.")


def _page(length: Length, epsilons: list[float]) -> Iterator[str]:
    begun = time.monotonic()
    names = canaries.names()
    command = f"python benchmarks/audit.py --runs {length.runs} --flocks {length.flocks}"
    yield from _said(
        "# Audit", "",
        "What was tried to break the promises of the synthesizers that honour a privacy budget:",
        f"{', '.join(f'`{name}`' for name in names)}. Written by",
        f"`{command} --tables {length.tables} --page`.", "",
        "An attack proves a least ε, at 95 % confidence for each line. Above the ε that is claimed",
        "the claim is false; below it nothing is proved, only not refuted.",
    )  # fmt: skip
    yield from _worlds(names, epsilons, length.runs)
    yield from _bugs(length.runs)
    yield from _canaries(names, epsilons, length.flocks)
    yield from _leaks(length.tables)
    minutes = math.ceil((time.monotonic() - begun) / 60)
    yield from _said("", f"All of it took {minutes} minutes on one core.")


def _worlds(names: tuple[str, ...], epsilons: list[float], runs: int) -> Iterator[str]:
    yield from _said(
        "", "## One patient or nobody", "",
        "A table of one patient against a table of nobody, so many runs of each; networks train",
        f"{STEPS} steps. The attacker hears everything noisy that the fit hears, and adds it up as",
        "the best test does.", "",
        "- *proven*: the least ε that the attack proves, at 95 % confidence; not above the claim",
        "- *μ*: of Gaussian differential privacy, ± a standard error, beside what the ledger says;",
        "  it may not be four standard errors above",
        "", "| synthesizer | runs | ε claimed | ε proven | μ measured | μ by the ledger | holds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    )  # fmt: skip
    for name in names:
        for epsilon in epsilons:
            game = play(
                name, epsilon, runs if catalogue.needs_budget(name) else max(20, runs // SLOWER)
            )
            yield from _said(_line(f"`{name}`", epsilon, game, "yes", "**no**"))


def _bugs(runs: int) -> Iterator[str]:
    yield from _said(
        "", "## Bugs put in on purpose", "",
        "The same game against `table/mst` with a bug, each of which has to be found; those that",
        "change noise by a factor at a large ε, where fewer runs tell. The others that public code",
        "has had are put in and found by `tests/privacy`.", "",
        "| bug | runs | ε claimed | ε proven | μ measured | μ by the ledger | found |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    )  # fmt: skip
    for name in BUGS:
        epsilon = LARGE if name in FACTORS else 3.0
        with bug(name):
            game = play("table/mst", epsilon, runs)
        yield from _said(_line(name, epsilon, game, "**no**", "yes"))


def _canaries(names: tuple[str, ...], epsilons: list[float], flocks: int) -> Iterator[str]:
    yield from _said(
        "", "## Canaries in whole fits", "",
        f"{CANARIES} made-up subjects beside {canaries.OTHERS} others, each let in by a coin, and",
        f"one fit of the recipe; {flocks} such fits together. The attacker reads the coins from",
        "every noisy count, from the model's density, or from 10,000 synthetic rows alone (by",
        "MAMA-MIA), and says what is surest (Steinke et al. 2023, Theorem 5.2). *rare* canaries",
        "have levels that nobody else has, *usual* ones are like everybody. All noise taken away,",
        "the same attacks must prove more than is claimed.", "",
        "| synthesizer | ε claimed | canaries | read from | ε proven | holds |",
        "| --- | ---: | --- | --- | ---: | --- |",
    )  # fmt: skip
    for name in names:
        for epsilon in epsilons:
            yield from _flocks(name, epsilon, flocks)
    with bug("exact counts"):
        found = canaries.judged("table/mst", epsilons[-1], "rare", canaries=CANARIES, runs=flocks)
    best = max(found, key=lambda way: found[way].epsilon)
    caught = "no, as it should not" if found[best].epsilon > epsilons[-1] else "**no** bug is found"
    yield from _said(
        f"| `table/mst` without noise | {epsilons[-1]:g} | rare | {best} |"
        f" {found[best].epsilon:.2f} | {caught} |"
    )


def _flocks(name: str, epsilon: float, flocks: int) -> Iterator[str]:
    for kind in canaries.KINDS:
        found = canaries.judged(name, epsilon, kind, canaries=CANARIES, runs=flocks)
        for way, proven in found.items():
            holds = "yes" if proven.epsilon <= epsilon else "**no**"
            yield from _said(
                f"| `{name}` | {epsilon:g} | {kind} | {way} | {proven.epsilon:.2f} | {holds} |"
            )


def _leaks(tables: int) -> Iterator[str]:
    recipes = ("table/mst", "table/aim")
    yield from _said(
        "", "## What synthetic rows show of their members", "",
        f"The area under the ROC curve of every membership attack of the judge on {MEMBERS}",
        f"members, by {marginal_leaks.DRAWN:,} synthetic rows and reference rows: the mean of",
        f"{tables} populations, a column for each synthesizer and ε. One half is guessing.",
        "",
    )  # fmt: skip
    for line in marginal_leaks.lines(recipes, LEAKING, n=MEMBERS, seeds=tables):
        yield from _said(line)


def _line(name: str, epsilon: float, game: Game, holds: str, breaks: str) -> str:
    mu = "–" if game.found.mu is None else f"{game.found.mu:.3f} ± {game.found.mu_error:.3f}"
    said = breaks if broken(game, epsilon) else holds
    proven, runs = game.found.epsilon, game.found.runs // 2
    return f"| {name} | {runs:,} | {epsilon:g} | {proven:.2f} | {mu} | {game.mu:.3f} | {said} |"


def _said(*lines: str) -> Iterator[str]:
    for line in lines:
        print(line, flush=True)
        yield line


if __name__ == "__main__":
    main()
