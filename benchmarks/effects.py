"""Treatment effects in synthetic copies of cohorts whose effects are known: bias, error and PEHE.

usage: python benchmarks/effects.py [synthesizer…] [--rows N] [--repeats N]

Four worlds (see `manikin.metrics.known_truth`): an observational study and a randomised trial with
effect 1, a study without any effect, and one whose outcome is yes or no. In each, patients are
drawn anew, every synthesizer is fitted to them and draws as many; the effect is estimated from its
rows, from as many fresh ones (ceiling) and from the real ones with independent columns (floor).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from manikin import catalogue
from manikin.metrics.known_truth import KnownTruth
from manikin.metrics.score import Score
from manikin.metrics.validity.coverage import Draw
from manikin.metrics.validity.effects import effects

WORLDS = {
    "observational": KnownTruth(),
    "randomised": KnownTruth(confounded=0.0),
    "no effect": KnownTruth(effect=0.0, varying=0.0),
    "yes or no": KnownTruth(effect=0.15, varying=0.05, outcome="yes or no"),
}


def main() -> None:
    """Print one table a world, a synthesizer a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("synthesizers", nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    chosen = given.synthesizers or [n for n in catalogue.names() if n.startswith("table/")]
    for called, world in WORLDS.items():
        print(f"\n{called}: effect {world.effect:g}, {given.rows} patients, "
              f"{given.repeats} repeats")  # fmt: skip
        print(
            "| synthesizer | ATE bias | ATE error | of 100 intervals hold truth | PEHE | seconds |"
        )
        print("|---|---|---|---|---|---|")
        for name in chosen:
            begun = time.perf_counter()
            scores = effects(
                lambda real, seed, name=name: fitted(name, real, seed),
                world, n=given.rows, repeats=given.repeats, seed=0,
            ).scores()  # fmt: skip
            print(row(name, scores, time.perf_counter() - begun), flush=True)
        print(row("fresh rows (ceiling)", scores, side="ceiling"))
        print(row("independent columns (floor)", scores, side="floor"))


def fitted(name: str, real, seed: int) -> Draw:
    """Fit a synthesizer with its defaults and return what draws as many patients."""
    model = catalogue.build(name).fit(real, seed=seed)
    return lambda s: model.sample(real.n_subjects, seed=s)


def row(name: str, scores: tuple[Score, ...], seconds: float | None = None, side: str = "") -> str:
    """Return one line of the table: values with intervals, or one side of them."""
    cells = []
    for score in scores:
        of = 100 if score.metric.endswith("covered") else 1
        shown = ".0f" if of == 100 else ".3f"
        if side:
            end = getattr(score, side)
            cells.append("–" if end is None else format(of * end, shown))
            continue
        if score.note and score.value != score.value:
            cells.append(score.note)
            continue
        low, high = score.interval
        cells.append(f"{of * score.value:{shown}} ({of * low:{shown}} to {of * high:{shown}})")
    last = "" if seconds is None else f"{seconds:.0f}"
    return " | ".join(["", name, *cells, last, ""]).strip()


if __name__ == "__main__":
    main()
