"""The outcome: is it leaked by another column, is it balanced, and do the data suffice for it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.auditor.findings import Finding, listed, shown_share, told
from manikin.auditor.sight import Sight, bins
from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["balance", "determined", "leakage", "sufficiency"]

PERFECT, STRONG = 0.99, 0.95  # cross-validated AUC (or correlation) of a single column
MOST_CODED = 60  # columns among which functional dependencies are looked for


def outcome_of(sight: Sight) -> Column | None:
    """Return the outcome: the target, or else the event."""
    schema = sight.table.schema
    column = schema.holder("target") or schema.holder("event")
    return column if column is not None and column.is_learned else None


def leakage(sight: Sight) -> list[Finding]:
    """Find single columns that foretell the outcome almost perfectly."""
    outcome = outcome_of(sight)
    if outcome is None or sight.table.n_rows < 4 * SMALLEST_CELL:
        return []
    looked = sight.sample
    answers = _answers(looked, outcome)
    if not answers.size:
        return []
    folds = generator(0, "audit-folds").integers(2, size=looked.n_subjects)[looked.who]
    own = {c.name for c in looked.table.schema if {"time", "event", "subject"} & set(c.roles)}
    power = {
        column.name: _power(_finely(looked, column), answers, folds)
        for column in looked.table.schema.learned
        if column.name != outcome.name and column.name not in own
    }
    perfect = [name for name, value in power.items() if value >= PERFECT]
    strong = [name for name, value in power.items() if STRONG <= value < PERFECT]
    found = []
    if perfect:
        said = f"almost perfectly (cross-validated, over {PERFECT})"
        found.append(_leak("stop", outcome.name, perfect, said))
    if strong:
        found.append(_leak("warn", outcome.name, strong, f"very well (over {STRONG})"))
    return found


def _leak(severity: str, outcome: str, names: list[str], said: str) -> Finding:
    verb = "foretells" if len(names) == 1 else "foretell, each alone,"
    return Finding(
        severity,  # type: ignore[arg-type]
        "leakage",
        (*names, outcome),
        f"{listed(names)} {verb} '{outcome}' {said}",
        "if it is known only after the outcome, or computed from it, leave it out; every utility"
        " score of a model that may use it is empty",
    )


def _answers(sight: Sight, outcome: Column) -> NDArray[np.float64]:
    """Return what is to be foretold, one column a class or the ranks of a number, (rows, k)."""
    values = sight.table.numbers(outcome.name)
    present = ~np.isnan(values)
    distinct, counts = np.unique(values[present], return_counts=True)
    if outcome.is_coded or distinct.size <= SMALLEST_CELL:
        enough = counts >= SMALLEST_CELL
        kept = distinct[enough]
        if distinct.size < 2 or kept.size < 1:
            return np.empty((0, 0))
        kept = kept[-1:] if distinct.size == 2 else kept[np.argsort(-counts[enough])]
        marked = (values[:, None] == kept[None, :20]).astype(np.float64)
        marked[~present] = np.nan
        return np.asarray(marked)
    return np.where(present, values, np.nan)[:, None]


def _finely(sight: Sight, column: Column) -> NDArray[np.int64]:
    """Return bins of a column in which two or more rows of one fold can be expected, (rows,)."""
    values = sight.table.numbers(column.name)
    if column.is_coded:
        return np.where(np.isnan(values), len(column.categories), values).astype(np.int64)
    return bins(values, most=64)


def _power(
    coded: NDArray[np.int64], answers: NDArray[np.float64], folds: NDArray[np.int64]
) -> float:
    """Return how well bins foretell: mean AUC of the classes, or correlation; learned crosswise."""
    scores, shares = [], []
    for answer in answers.T:
        known = ~np.isnan(answer)
        foretold = np.full(answer.shape, np.nan)
        for fold in (0, 1):
            learn, judge = known & (folds != fold), known & (folds == fold)
            if not learn.any():
                continue
            size = np.bincount(coded[learn], minlength=coded.max() + 1)
            total = np.bincount(coded[learn], answer[learn], minlength=coded.max() + 1)
            mean = answer[learn].mean()
            foretold[judge] = ((total + mean) / (size + 1))[coded[judge]]
        both = known & ~np.isnan(foretold)
        binary = np.isin(answer[both], (0.0, 1.0)).all()
        scores.append((_auc if binary else _correlation)(answer[both], foretold[both]))
        shares.append(answer[both].mean() if binary else 1.0)
    return float(np.average(scores, weights=np.maximum(shares, 1e-9)))


def _auc(answer: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve, ties counted half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_true = answer.sum()
    n_false = answer.size - n_true
    if not n_true or not n_false:
        return 0.5
    return float((ranks[answer == 1].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def _correlation(answer: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    if answer.size < 3 or answer.std() == 0 or score.std() == 0:
        return 0.0
    return float(np.corrcoef(answer, score)[0, 1])


def determined(sight: Sight) -> list[Finding]:
    """Find columns that another one settles: a code and its name, a city and its country."""
    looked = sight.sample
    if looked.table.n_rows < 100:
        return []
    coded = {}
    for column in looked.table.schema.learned:
        if not column.is_coded:
            continue
        codes = looked.codes(column) + 1  # 0: no value, a level like any other
        distinct = int((np.bincount(codes) > 0).sum())
        if 2 <= distinct <= looked.table.n_rows / 20:
            coded[column.name] = (codes, distinct)
    pairs = []
    names = list(coded)[:MOST_CODED]
    for a in names:
        for b in names:
            (left, n_left), (right, n_right) = coded[a], coded[b]
            if a == b or not 3 <= n_left > n_right:
                continue
            if np.unique(left * (right.max() + 1) + right).size == n_left:
                minority = right.size - np.bincount(right).max()
                if minority >= 50:
                    pairs.append((a, b))
    if not pairs:
        return []
    shown = "; ".join(f"'{a}' settles '{b}'" for a, b in pairs[:6])
    more = f" and {len(pairs) - 6} more" if len(pairs) > 6 else ""
    return [
        Finding(
            "note",
            "dependencies",
            tuple(dict.fromkeys(name for pair in pairs for name in pair)),
            shown + more,
            "declare the pair as a 'combinations' rule in the schema file, so that no other"
            " combination is generated",
        )
    ]


def balance(sight: Sight) -> list[Finding]:
    """Say how rare the rarer class of the outcome is."""
    outcome = outcome_of(sight)
    if outcome is None:
        return []
    counts = _classes(sight, outcome)
    if counts is None:
        return []
    if counts.size < 2:
        said = f"the outcome '{outcome.name}' has one class only"
        todo = "nothing can be learned about it: check the column, or choose another target"
        return [Finding("stop", "imbalance", (outcome.name,), said, todo)]
    share = counts.min() / counts.sum()
    if share >= 0.2:
        return []
    shown = shown_share(int(counts.min()), int(counts.sum()))
    rare = f"{shown:.1%} of subjects".replace("%", " %") if shown else told(int(counts.min()))
    return [
        Finding(
            "warn" if share < 0.05 else "note",
            "imbalance",
            (outcome.name,),
            f"the rarest class of '{outcome.name}' is {rare}",
            f"judge with AUC and with the rare class's own scores, not with accuracy; --balance"
            f" {outcome.name} makes a balanced synthetic table for training",
        )
    ]


def _classes(sight: Sight, outcome: Column) -> NDArray[np.int64] | None:
    """Return subjects by class of an outcome that has classes, or None for a number."""
    codes = sight.codes(outcome)
    n_codes = int(codes.max(initial=-1)) + 1
    if not outcome.is_coded and n_codes > SMALLEST_CELL:
        return None
    counts = sight.subjects_by_code(codes, n_codes)
    return counts[counts > 0]


def sufficiency(sight: Sight) -> list[Finding]:
    """Say whether there are subjects and events enough for so many columns."""
    n_subjects, n_columns = sight.n_subjects, len(sight.table.schema.learned)
    found = []
    if n_subjects < 100:
        found.append(
            Finding(
                "stop" if n_subjects < 2 * SMALLEST_CELL else "warn",
                "size",
                (),
                f"{told(n_subjects)}: too few for the tests to tell a good result from a bad one",
                "collect more; with this few, table/copula or table/marginals are the safer choice,"
                " and the scores' intervals will be wide",
            )
        )
    if n_subjects < 10 * n_columns:
        found.append(
            Finding(
                "warn",
                "size",
                (),
                f"{n_columns} learned columns for {told(n_subjects)}: fewer than ten subjects a"
                " column",
                "leave out columns that the analysis does not need: each makes the others worse,"
                " and single persons easier to tell",
            )
        )
    outcome = outcome_of(sight)
    counts = _classes(sight, outcome) if outcome is not None else None
    if outcome is not None and counts is not None and counts.size >= 2:
        events = int(counts.min())
        predictors = max(n_columns - 1, 1)
        if events / predictors < 10:
            few = told(events, "events")
            rate = (
                f", {events / predictors:.1f} for each other column"
                if events >= SMALLEST_CELL
                else ""
            )
            found.append(
                Finding(
                    "warn" if events / predictors < 5 else "note",
                    "size",
                    (outcome.name,),
                    f"{few} in the rarest class of '{outcome.name}'{rate}; ten are the usual"
                    " least for a regression",
                    "use fewer columns, or a penalised model, and expect wide intervals",
                )
            )
    return found
