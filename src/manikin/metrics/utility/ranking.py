"""Ranking: would somebody who has only synthetic rows choose the right kind of model?

Six cheap learners, each trained on synthetic rows (TSTR) and on real ones (TRTR), all tested on
the same held-out rows by AUC, or R² of a number.

tau      Kendall's τ-b between the learners' order under TSTR and under TRTR
regret   skill under TRTR of the best learner minus that of the one TSTR puts first
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.cox import Covariates
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.target import Contest, contest, leaks
from manikin.metrics.trees import Boosting

__all__ = ["ranking"]

CARD = Card(
    title="Ranking of models",
    family="utility",
    better="near ceiling",
    reads="Whether six kinds of model come in the same order when trained on synthetic rows as "
    "when trained on real ones: tau 1 is the same order, 0 unrelated, -1 reversed. Where models "
    "are about equally good, chance decides tau; then regret, what is lost by taking the model "
    "that synthetic rows favour, is near 0 and is the number to read.",
)
ROWS = 3_000  # to train on
TEST = 2_000
DRAWS = 100
NEIGHBOURS = 15


def ranking(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare the order of learners trained on synthetic rows with that of real rows."""
    names = ("utility/ranking.tau", "utility/ranking.regret")
    rng = generator(seed, "utility/ranking")
    given = contest(trial, rng, rows=ROWS, test=TEST)
    if given is None:
        return ()
    if isinstance(given, str):
        return tuple(not_estimable(name, given) for name in names)
    skills = np.stack([_skills(given, source, rng) for source in (given.synthetic, given.train)])
    tau = kendall(skills[0], skills[1])
    first = skills[0, 0].argmax()
    regret = skills[1].max(axis=1) - skills[1, :, first]
    if not np.isfinite(tau[0]):
        return (
            not_estimable(names[0], "all learners of synthetic or of real rows are alike"),
            Score(names[1], float(regret[0]), recentred(float(regret[0]), regret[1:], 0)),
        )
    return (
        Score(names[0], float(tau[0]), recentred(float(tau[0]), tau[1:], -1, 1)),
        Score(names[1], float(regret[0]), recentred(float(regret[0]), regret[1:], 0)),
    )


def kendall(one: Floats, other: Floats) -> Floats:
    """Return τ-b between rows of scores (replicates, learners); NaN where one is all ties."""
    left, right = np.array(list(combinations(range(one.shape[1]), 2))).T
    signs = [np.sign(part[:, left] - part[:, right]) for part in (one, other)]
    both = (signs[0] * signs[1]).sum(axis=1)
    apart = np.sqrt(np.prod([(s != 0).sum(axis=1) for s in signs], axis=0))
    found = np.full(one.shape[0], np.nan)
    np.divide(both, apart, out=found, where=apart > 0)
    return found


def _skills(given: Contest, source: Table, rng: np.random.Generator) -> Floats:
    """Return every learner's skill on the test rows, and its replicates, (1 + draws, learners)."""
    question, test = given.question, given.test
    covariates = Covariates.fit(given.train, leaks(given.train.schema, question.name))
    x, z = covariates.matrix(source), covariates.matrix(test)
    answers, truth = question.answers(source), question.answers(test)
    # the same replicates for both sides: their difference is what is asked
    dealt = blocks(test.subjects, generator(0, "utility/ranking replicates"), draws=DRAWS)
    seed = int(rng.integers(2**31))
    found = []
    for learner in _learners(question.is_number, min(NEIGHBOURS, source.n_rows), seed):
        if np.ptp(answers) == 0:
            predicted = np.full(truth.size, answers[0])
        else:
            predicted = learner(x, answers, z)
        value, draws = question.skill(truth, predicted, dealt)
        found.append(np.concatenate([[value], draws]))
    boosted = question.learn(given.features, source, seed=seed, how=Boosting(30, 0.1, 31))
    value, draws = question.skill(truth, boosted(given.features.matrix(test)), dealt)
    return np.stack([*found, np.concatenate([[value], draws])], axis=1)


Learner: TypeAlias = Callable[[Floats, Floats, Floats], Floats]


def _learners(is_number: bool, neighbours: int, seed: int) -> list[Learner]:
    """Return the learners beside boosted trees: (x, answers, rows to predict) → predictions."""
    if is_number:
        models = (
            Ridge(alpha=1.0),
            Ridge(alpha=1000.0),
            DecisionTreeRegressor(max_depth=3, random_state=seed),
            DecisionTreeRegressor(max_depth=8, random_state=seed),
            KNeighborsRegressor(neighbours),
        )
    else:
        models = (
            LogisticRegression(max_iter=1000, tol=1e-3),
            GaussianNB(var_smoothing=1e-3),
            DecisionTreeClassifier(max_depth=3, random_state=seed),
            DecisionTreeClassifier(max_depth=8, random_state=seed),
            KNeighborsClassifier(neighbours),
        )
    return [partial(_predicted, model, is_number) for model in models]


def _predicted(model: Any, is_number: bool, x: Floats, answers: Floats, rows: Floats) -> Floats:
    fitted = model.fit(x, answers)
    return np.asarray(fitted.predict(rows) if is_number else fitted.predict_proba(rows)[:, 1])
