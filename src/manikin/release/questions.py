"""What an auditor asks of synthetic data, answered from the run itself; what it lacks, it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manikin.data.table import Table
from manikin.metrics.score import Card, Score, Trial
from manikin.privacy import ledger as ledgers
from manikin.privacy.accountant import true_positives
from manikin.privacy.cells import SMALLEST_CELL, hidden
from manikin.privacy.ledger import Release
from manikin.release.statement import percent
from manikin.release.verdict import Verdict, card_of

__all__ = ["Asked", "audited"]


@dataclass(frozen=True)
class Asked:
    """One question and its answers, a paragraph each."""

    question: str
    answers: tuple[str, ...]


def audited(
    trial: Trial[Table],
    scores: Sequence[Score],
    cards: Mapping[str, Card],
    controls: Mapping[str, bool],
    settings: Mapping[str, Any],
    ledger: tuple[Release, ...],
    verdict: Verdict,
    n_hidden: int,
) -> tuple[Asked, ...]:
    """Return the questions in the order in which a review goes through them.

    `n_hidden` is how many scores were left out because their group is too small.
    """
    return (
        Asked("How were the real data split?", _split(trial, settings)),
        Asked("Who saw what?", _saw(trial, settings)),
        Asked("How many subjects stand behind the numbers?", _how_many(trial)),
        Asked("Which attacks were run, and could they have found anything?",
              _attacks(scores, cards, controls)),
        Asked("Which attacks and measures could not be run?", _not_run(scores, cards)),
        Asked("What was not assessed?", _not_assessed(n_hidden, trial)),
        Asked("Is there a formal guarantee of privacy?", _guarantee(ledger, settings)),
        Asked("How certain are the numbers?", _certain(scores, settings)),
        Asked("Were the data changed on purpose?", _changed(settings)),
        Asked("Who set the thresholds?", _thresholds(verdict)),
        Asked("Can it be repeated and checked?", _repeated(settings)),
        Asked("Who decides?", (
            "The persons responsible for the real data. This page is evidence for their decision, "
            "with what it could not look at; no program can take it.",
        )),
    )  # fmt: skip


def _n(table: Table) -> str:
    n = table.n_subjects
    return f"fewer than {SMALLEST_CELL}" if hidden(n) else f"{n:,}".replace(",", "\u202f")


def _split(trial: Trial[Table], settings: Mapping[str, Any]) -> tuple[str, ...]:
    by = "By subject: all rows of a person stand on one side."
    if settings.get("synthesizer"):
        share = settings.get("holdout")
        if settings.get("epsilon"):
            return (
                f"{by} Each was held out by a coin that is not kept, with a chance of {share:g}.",
            )
        how = f"A share of {share:g} was held out at random" if isinstance(share, float) else (
            "A part was held out at random"
        )  # fmt: skip
        return (f"{by} {how}, before anything was learned, with the seed in the record.",)
    return (
        "By whoever made the files: the training and the held-out rows were given as they are. "
        "Whether the maker of the synthetic data never saw the held-out rows is their word.",
        "Where the files number subjects apart, it cannot be told whether one person stands in "
        "both.",
    )


def _saw(trial: Trial[Table], settings: Mapping[str, Any]) -> tuple[str, ...]:
    made = str(settings.get("synthesizer") or "The tool that made the data")
    told = [f"{made}: the training rows only ({_n(trial.train)} subjects)."]
    if trial.train.schema.declared:
        told.append("The schema was declared by a person.")
    else:
        told.append(
            "The schema (kinds, spellings, ranges) was inferred from all real rows, held-out ones "
            "included: it is itself something learned from them."
        )
    told.append("The judge: all rows. Its encoders and models are fitted to training rows only.")
    if trial.reference is not None:
        told.append(f"The attackers: reference rows of {_n(trial.reference)} other subjects.")
    else:
        told.append("The attackers: the synthetic rows and, as reference, a half of the held-out.")
    return tuple(told)


def _how_many(trial: Trial[Table]) -> tuple[str, ...]:
    parts = f"{_n(trial.train)} for fitting, {_n(trial.holdout)} held out"
    extra = (
        " A false-alarm rate of 1\u202f% rests on fewer than eleven strangers here, and one of "
        "0.1\u202f% would need about 10\u202f000."
        if trial.holdout.n_subjects < 1100
        else " A false-alarm rate of 0.1\u202f% would need about 10\u202f000 strangers."
    )
    return (f"{parts}, {_n(trial.synthetic)} synthetic.{extra}",)


def _attacks(
    scores: Sequence[Score], cards: Mapping[str, Card], controls: Mapping[str, bool]
) -> tuple[str, ...]:
    ran = {s.metric.partition(".")[0] for s in scores
           if s.metric.startswith("privacy/") and not math.isnan(s.value)}  # fmt: skip
    single = {s.group.removeprefix("attack=") for s in scores if s.group.startswith("attack=")}
    told = []
    if ran:
        names = ", ".join(sorted(_title(name, cards) for name in ran))
        told.append(f"Run: {names}." + (f" {len(single)} attacks by name." if single else ""))
    else:
        told.append("None.")
    if controls:
        told.append("Leaks planted on purpose: " + "; ".join(
            f"{name}: {'caught' if hit else 'missed'}" for name, hit in controls.items()) + ".",
        )  # fmt: skip
    else:
        told.append("No leak was planted, so it is not known what the attacks could have found.")
    return tuple(told)


def _title(name: str, cards: Mapping[str, Card]) -> str:
    card = card_of(name, cards)
    return card.title if card is not None else name


def _not_run(scores: Sequence[Score], cards: Mapping[str, Card]) -> tuple[str, ...]:
    ran = {score.metric.partition(".")[0] for score in scores}
    absent = sorted(card.title for name, card in cards.items() if name not in ran)
    empty: dict[str, str] = {}
    for score in scores:
        if math.isnan(score.value) and score.group == "all":
            title = _title(score.metric, cards)
            _, _, what = score.metric.partition(".")
            empty[f"{title} ({what})" if what else title] = score.note or "no reason given"
    told = []
    if absent:
        told.append("Not run, not chosen, or not applicable to these columns: "
                    + ", ".join(absent) + ".")  # fmt: skip
    told += [f"{name}: {why}" for name, why in sorted(empty.items())]
    return tuple(told) or ("All that there are were run and gave a number.",)


def _not_assessed(n_hidden: int, trial: Trial[Table]) -> tuple[str, ...]:
    told = [
        "Attackers who hold the model, train models of their own on other extracts of the same "
        "data, or join releases with each other were not played.",
        "Whether the real data are right, and for whom they speak, was not assessed.",
    ]
    if n_hidden:
        told.insert(0, f"{n_hidden} numbers about groups of fewer than {SMALLEST_CELL} real "
                       "subjects were computed and left out.")  # fmt: skip
    aside = [c.name for c in trial.train.schema.columns if not c.is_learned]
    if aside:
        told.insert(0, f"Columns set aside and not synthesized or judged: {', '.join(aside)}.")
    return tuple(told)


def _guarantee(ledger: tuple[Release, ...], settings: Mapping[str, Any]) -> tuple[str, ...]:
    if not ledger:
        return ("Unknown: the data were made elsewhere.",)
    if not ledgers.is_private(ledger):
        return ("No. Differential privacy was not used: what protects is what the attacks show.",)
    epsilon, delta = settings.get("epsilon"), settings.get("delta")
    if not isinstance(epsilon, float | int) or not isinstance(delta, float):
        return ("Yes, to the amount in the ledger under Compliance, for the unit that it names.",)
    most = percent(true_positives(0.01, epsilon, delta))
    return (
        f"Yes, for the data and the model: ε = {epsilon:g}, δ = {delta:g}; neighbouring tables"
        f" {ledgers.ADJACENCY}. Whoever takes 1\u202f% of strangers for members finds at most"
        f" {most} of the members. Every release that was paid for is in the statement.",
        "Not for this report: it was computed from real rows without noise, and may not leave.",
    )


def _certain(scores: Sequence[Score], settings: Mapping[str, Any]) -> tuple[str, ...]:
    refits = settings.get("refits")
    told = ["Intervals of 95\u202f% come from resampling subjects, or are exact for rates."]
    if refits:
        told.append(
            f"The synthesizer was fitted again ({refits}), and intervals of what was measured "
            "again are wider by how much fits differ: see consistency."
        )
    else:
        told.append("They do not include how much another fit or another draw would differ.")
    n = sum(not math.isnan(s.value) for s in scores)
    told.append(f"{n} numbers are shown: of as many, one in forty lies outside each end of its "
                "interval by chance.")  # fmt: skip
    return tuple(told)


def _changed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    kind = str(settings.get("kind") or "")
    if not kind:
        return ("Not known: the data were made elsewhere.",)
    if kind == "representative":
        return ("No: they were drawn as the model learned them (representative).",)
    return (f"Yes: they are {kind}. Estimate no prevalence from them. See coverage.",)


def _thresholds(verdict: Verdict) -> tuple[str, ...]:
    ours = (
        "Those of the questions are this project's, with their source in the glossary. No "
        "authority has set thresholds for synthetic data."
    )
    names = ", ".join(policy.name for policy in verdict.policies)
    if not names:
        return (ours,)
    who = "was asked for" if verdict.asked else "come with the program; none was asked for"
    return (ours, f"Policies ({names}) {who}; each gate names its source.")


def _repeated(settings: Mapping[str, Any]) -> tuple[str, ...]:
    if not settings.get("synthesizer"):
        return (
            "The judgement can: the same files, version and seed give the same numbers. The "
            "making of the data cannot be repeated from this record.",
        )
    if settings.get("epsilon"):
        return (
            "The fit cannot: its noise is secret and was not kept. The same rows can be drawn from "
            "the released model, with the seed in the record. `manikin verify` names anything that "
            "was altered since.",
        )
    return (
        "Yes, by who has the real data: the record holds settings, seed, versions and keyed "
        "digests. `manikin verify` names anything that was altered since.",
    )
