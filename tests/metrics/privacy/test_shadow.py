"""Shadow and loss attacks on generators whose leak is known."""

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.privacy.attacks.shadow import lira, loss_attack, shadow_attack
from manikin.metrics.score import Trial

D = 100


def table(values: np.ndarray, first: int = 0, each: int = 1) -> Table:
    columns = tuple(Column(f"x{j}", "continuous", decimals=6) for j in range(values.shape[1]))
    arrays = {f"x{j}": values[:, j] for j in range(values.shape[1])}
    of = first + np.repeat(np.arange(len(values) // each), each)
    return Table(TableSchema(columns), of, arrays)


def matrix(of: Table) -> np.ndarray:
    return np.column_stack([of.columns[c.name] for c in of.schema.learned])


def means(data: Table, seed: int) -> Table:
    """A generator that knows nothing of its training rows but their means."""
    rows = np.random.default_rng(seed).normal(size=(1000, D))
    return table(rows + matrix(data).mean(axis=0))


def nothing(data: Table, seed: int) -> Table:
    return table(np.random.default_rng(seed).normal(size=(1000, D)))


def a_trial(refit, n: int = 100, seed: int = 0) -> Trial[Table]:
    rng = np.random.default_rng(seed)
    train, holdout, reference = (
        table(rng.normal(size=(m, D)), 10_000 * k) for k, m in enumerate((n, 100, 60))
    )
    return Trial(train, holdout, refit(train, seed + 1), reference)


def test_the_likelihood_ratio_by_hand() -> None:
    # one target, in for shadows 0 and 1 (scores 3, 5) and out for 2 and 3 (0, 2); 2 is observed.
    # means 4 and 1, variance 4 / (4 - 2) = 2: -(2 - 4)²/4 + (2 - 1)²/4 = 3 (2 - 2.5)/2 = -3/4
    inside = np.array([[True], [True], [False], [False]])
    found = lira(np.array([2.0]), np.array([[3.0], [5.0], [0.0], [2.0]]), inside)
    assert found == pytest.approx([-0.75])


def test_shifts_of_few_shadows_are_shrunk_by_hand() -> None:
    # Two targets, shifts 3 and 1 (in 4, 4 and out 1, 3), each mean of two scores ± 1.
    # Variance 8 / (8 - 4) = 2; chance 2 (1/2 + 1/2) = 2; the shifts' variance is 2: nothing more
    # than chance, so both become their mean, 2. Observed 3.5 and 3.5, middles 2.5 and 3.5.
    inside = np.array([[True, True], [True, True], [False, False], [False, False]])
    shadows = np.array([[3.0, 3.0], [5.0, 5.0], [0.0, 2.0], [2.0, 4.0]])
    found = lira(np.array([3.5, 3.5]), shadows, inside)
    assert found == pytest.approx([1.0, 0.0])
    # with shifts 9 and 1 their variance is 32, of which 30 is true: 5 ± 4 · 30/32 = 8.75 and 1.25
    shadows[2:, 0] -= 6  # the first target's middle is -0.5
    found = lira(np.array([3.5, 3.5]), shadows, inside)
    assert found == pytest.approx([8.75 * 4 / 2, 0.0])


def test_shadows_find_what_means_leak() -> None:
    """Theory: a member moves the means by x/n; against n = 100, d = 100 the optimal AUC is .78."""
    areas = []
    for seed in range(3):
        scores = shadow_attack(a_trial(means, seed=seed), means, seed=seed, refits=8)
        areas.append(next(s for s in scores if s.group == "shadow").value)
    assert np.mean(areas) > 0.78 - 0.08  # 50 targets a side, three times: ± .055


def test_a_generator_that_ignores_its_rows_leaks_nothing() -> None:
    for seed in range(3):
        score = shadow_attack(a_trial(nothing, seed=seed), nothing, seed=seed, refits=4)[0]
        assert score.interval[0] <= 0.5


def test_shadows_are_made_of_reference_rows_and_half_of_the_targets() -> None:
    seen = []

    def spy(data: Table, seed: int) -> Table:
        seen.append(data)
        return nothing(data, seed)

    base = a_trial(nothing)
    shadow_attack(base, spy, seed=0, refits=6, n_targets=40)
    held = {row.tobytes() for row in matrix(base.reference)}
    for data in seen:
        rows = {row.tobytes() for row in matrix(data)}
        assert held <= rows and data.n_subjects == data.n_rows == len(rows)
        assert 20 <= len(rows) - len(held) <= 60  # of 80 targets about 40
    sizes = [data.n_rows for data in seen]
    assert sum(sizes) == 6 * 60 + 3 * 80  # every target is in exactly half of them


def test_many_rows_a_subject() -> None:
    rng = np.random.default_rng(3)
    parts = [table(rng.normal(size=(150, 3)), 10_000 * k, each=3) for k in range(3)]
    fake = table(matrix(parts[0]) + 0.0)  # copies

    def copy(data: Table, seed: int) -> Table:
        return table(matrix(data))

    scores = shadow_attack(Trial(parts[0], parts[1], fake, parts[2]), copy, seed=0, refits=4)
    # 50 subjects a side, of whom half are for choosing the attack
    assert scores[0].value > 0.9 and "25 members and 25 strangers" in scores[0].note


def test_too_few_refits_are_refused() -> None:
    with pytest.raises(NotSupported, match="2 refits"):
        shadow_attack(a_trial(nothing), nothing, seed=0, refits=2)


def test_model_loss_by_theory_and_its_calibration() -> None:
    """Loss = difficulty of the row, less 1 for members: only calibration sees the members."""
    base = a_trial(nothing, n=200)
    members = {row.tobytes() for row in matrix(base.train)}

    def difficulty(data: Table) -> np.ndarray:
        return 10 * np.abs(matrix(data)[:, 0])

    def loss(data: Table) -> np.ndarray:
        inside = np.array([row.tobytes() in members for row in matrix(data)])
        return difficulty(data) - inside

    plain = loss_attack(base, loss, seed=0)
    assert plain[0].value < 0.7
    scores = loss_attack(base, loss, seed=0, calibrate=lambda data, seed: difficulty)
    assert scores[0].value == 1.0 and "calibrated" in scores[0].note
