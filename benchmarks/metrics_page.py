"""Write docs/metrics.md: a page of every metric in the catalogue, from its card and docstring.

usage: python benchmarks/metrics_page.py          writes the page
       python benchmarks/metrics_page.py --check  says whether it is current

Words come from the metric's CARD and docstring, thresholds from the verdict and the shipped
policies, so that the page can say nothing that the program does not do.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from manikin import catalogue
from manikin.metrics.score import Card
from manikin.release.policy import load_policy
from manikin.release.verdict import GATES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
POLICIES = ("public", "controlled", "internal")
FAMILIES = {
    "fidelity": "Do the rows look like real ones?",
    "utility": "Do analyses and models do as well as on real rows?",
    "validity": "Would one come to the same conclusions, and are the rules kept?",
    "privacy": "Is more learned of the persons in the training data than of others?",
    "fairness": "Does that hold for every group?",
}
BETTER = {
    "higher": "higher is better; read it beside its ceiling, which chance keeps below perfection",
    "lower": "lower is better",
    "near ceiling": "near its ceiling, what fresh real rows score, is better: beyond is no merit",
}
END = {"value": "the number", "lower": "the lower end", "upper": "the upper end"}
INTRO = """# Metrics

<!-- written by benchmarks/metrics_page.py from the metrics' cards, do not edit -->

What each number of a report says, what it does not, where it comes from, and at which value
something happens. `manikin list NAME` prints one of these cards. {n} metrics: {quick} cheap ones
make up the profile `quick`, all of them `full`.

{contents}

## How to read any of them

- **Compared with held-out rows.** Synthetic rows are held against real subjects that the
  generator never saw. Against its training rows a copying machine would be perfect.
- **Interval.** 95 %, from resampling subjects, all rows of a subject together, or exact binomial
  where the number is a rate of subjects. It covers the draw of rows, not another fit: for that
  ask for `--refits`.
- **Ceiling and floor.** Every metric is computed twice more in the same way: on *fresh* real rows
  in place of the synthetic ones (ceiling: what perfection would score here), and on rows whose
  columns are *independent* (floor: what knowing nothing of relations scores).
- **Controls.** Every run plants an exact copy of the training rows, and 5 % of them, in the
  synthetic rows, and gives them to every attack: each metric of privacy of which lower is better.
  What none of them finds there, none can have ruled out: the run is then *underpowered*.
- **Not a number.** `not estimable` says that these rows cannot give the number, and why. Nothing
  is said of fewer than 20 subjects, and no number rests on fewer than 11.
- **Thresholds** are this project's own where no source is named. The verdict holds the number's
  distance from its ideal to them, a policy holds one end of its interval. There is no total: no
  number makes up for another.
- **Cost.** `quick` metrics are the cheap ones; metrics that would be slow look at a sample of
  rows, whose size is a constant of their file. `python benchmarks/judging.py` prints the seconds
  of each on your machine.
"""


def page() -> str:
    """Return the page."""
    cards = catalogue.cards()
    families = [name for name in FAMILIES if any(c.family == name for c in cards.values())]
    contents = []
    for family in families:
        own = [f"[{c.title}](#{anchor(n)})" for n, c in cards.items() if c.family == family]
        contents.append(f"- **[{family}](#{family})**: {' · '.join(own)}")
    n_quick = sum(card.profile == "quick" for card in cards.values())
    parts = [INTRO.format(n=len(cards), quick=n_quick, contents="\n".join(contents))]
    for family in families:
        parts.append(f'## <a id="{family}"></a>{family}: {FAMILIES[family]}\n')
        parts += [entry(name, card) for name, card in cards.items() if card.family == family]
    return "\n".join(parts).rstrip() + "\n"


def entry(name: str, card: Card) -> str:
    """Return the part of one metric."""
    module = ROOT / "src" / "manikin" / "metrics" / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first, _, rest = docstring.partition("\n")
    lines = [
        f'### <a id="{anchor(name)}"></a>{card.title}',
        "",
        f"`{name}` · {card.profile} · {BETTER[card.better]}",
        "",
        f"**{first.partition(': ')[2][:1].upper()}{first.partition(': ')[2][1:]}**"
        if ": " in first
        else f"**{first}**",
        "",
        quoted(card.reads),
        "",
        *prose(rest.strip("\n")),
        "",
        *thresholds(name),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def anchor(name: str) -> str:
    """Return what links to a metric."""
    return name.replace("/", "-")


def quoted(text: str) -> str:
    """Return the card's words, with names of scores in a fixed font wherever they stand."""
    return re.sub(r"(?<![`\w])([a-z]+_[a-z0-9_]+)(?![`\w])", r"`\1`", text)


def prose(text: str) -> Iterator[str]:
    """Turn a docstring into Markdown: paragraphs, and its aligned terms into a list."""
    for block in re.split(r"\n\s*\n", text):
        paragraph: list[str] = []
        items: list[str] = []
        for line in block.splitlines():
            term = re.match(r"(\S.{0,28}?)\s{2,}(\S.*)$", line)
            if term:
                words = term[1] if "`" in term[1] else f"`{term[1]}`"
                items.append(f"- {words}: {term[2]}")
            elif items and line.startswith("  "):
                items[-1] += f" {line.strip()}"
            elif items:  # prose again, after a list
                yield from [*paragraph, *([""] if paragraph else []), *items, ""]
                paragraph, items = [line], []
            else:
                paragraph.append(line)
        yield from [*paragraph, *([""] if paragraph and items else []), *items, ""]


def thresholds(name: str) -> Iterator[str]:
    """Return where the verdict and the shipped policies draw a line for a metric."""
    said = []
    for gate in GATES:
        if belongs(gate.metric, name):
            ideal = {"half": "0.5", "zero": "0", "ceiling": "the ceiling"}[gate.ideal]
            said.append(
                f"- Verdict, `{gate.metric}`: up to {gate.good:g} from {ideal} passes, beyond"
                f" {gate.fair:g} fails ({gate.source})"
            )
    by_metric: dict[tuple[str, str], list[str]] = {}
    for policy in POLICIES:
        for held in load_policy(policy).gates:
            if belongs(held.metric, name):
                line = f"`{policy}` {held.bound} {held.threshold:g}"
                by_metric.setdefault((held.metric, held.end), []).append(line)
    for (metric, end), lines in by_metric.items():
        said.append(f"- Policies, {END[end]} of `{metric}`: {', '.join(lines)}")
    yield "Thresholds:" if said else "No threshold: it is shown, and decides nothing."
    if said:
        yield ""
        yield from said


def belongs(pattern: str, name: str) -> bool:
    """Whether a pattern of scores' names speaks of a metric."""
    return fnmatchcase(name, pattern) or pattern.partition(".")[0].rstrip("*") == name


def main() -> int:
    """Write the page, or say whether it is current."""
    made = page()
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == made
    print("docs/metrics.md is current" if current else "run: python benchmarks/metrics_page.py")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
