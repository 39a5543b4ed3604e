"""Known answers for what an attack's scores are worth."""

import math

import numpy as np
import pytest

from manikin.metrics.privacy.attacks import roc
from manikin.metrics.privacy.attacks.roc import Duel


def duel(members, strangers) -> Duel:
    return Duel(np.array(members, float), np.array(strangers, float))


def test_the_area_by_hand() -> None:
    # 9 pairs: 3 beats 0, 1, 2; 2 beats 0, 1 and ties 2; 0 ties 0: (3 + 2.5 + 0.5) / 9
    value, (low, high) = roc.area(duel([3, 2, 0], [0, 1, 2]))
    assert value == pytest.approx(6 / 9)
    assert 0 <= low < value < high <= 1


def test_the_interval_of_an_area_covers_it_as_often_as_it_says() -> None:
    # members are shifted by 0.5: the area is Φ(0.5 / √2) = 0.638
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = roc.area(Duel(rng.normal(0.5, 1, 60), rng.normal(0, 1, 60)))[1]
        covered += low <= 0.6382 <= high
    assert 0.92 <= covered / 400 <= 0.985


def test_seldom_hits_are_no_false_alarm() -> None:
    """The plain interval of DeLong calls 4 hits to none an alarm: by chance 1 time in 16."""
    four = np.zeros(500)
    four[:4] = 1
    assert roc.area(Duel(four, np.zeros(500)))[1][0] < 0.5
    rng = np.random.default_rng(1)
    alarms = [
        roc.area(Duel(*(rng.binomial(1, rate, 500).astype(float) for _ in range(2))))[1][0] > 0.5
        for rate in (0.002, 0.005, 0.01, 0.05)
        for _ in range(300)
    ]
    assert np.mean(alarms) < 0.03


def test_a_twentieth_copied_is_seen_by_hits_alone() -> None:
    # 25 of 500 members are hit and no stranger is: 0.5 + 0.05 / 2
    hit = np.zeros(500)
    hit[:25] = 1
    value, (low, _) = roc.area(Duel(hit, np.zeros(500)))
    assert value == pytest.approx(0.525) and low > 0.51


def test_rates_at_few_false_positives_by_hand() -> None:
    # 2,000 strangers score 1 to 2000; at 1 % twenty may be above: the threshold is 1980
    found = roc.tpr_at(duel([1975, 1979, 1985, 5000], range(1, 2001)), 0.01)
    assert found[0] == 0.5
    # 12 to 29 of 2,000 above the true threshold, so that it is 1971 to 1989: 1 or 4 of 4 found;
    # Clopper and Pearson for 2 of 4: 0.0676 to 0.9324; .5 - √(.4324² + .25²) = .0005
    assert found[1] == pytest.approx((0.0005, 1.0), abs=1e-4)


def test_ties_never_count_as_found() -> None:
    assert roc.tpr_at(duel([1] * 50, [1] * 50), 0.1)[0] == 0
    assert roc.tpr_at(duel([1] * 50, [1] * 50), 1)[0] == 1


def test_few_strangers_cannot_place_a_threshold_at_one_percent() -> None:
    # with 51 strangers the true threshold is above them all with probability .99^51 = .60
    found = roc.tpr_at(duel([*range(30), *[99] * 20], range(51)), 0.01)
    assert found[0] == 0.4 and found[1][0] == 0.0


def test_the_rate_at_few_false_alarms_covers_a_coins() -> None:
    rng = np.random.default_rng(5)
    ends = np.array(
        [roc.tpr_at(duel(rng.random(400), rng.random(400)), 0.01)[1] for _ in range(400)]
    )
    covered = np.mean((ends[:, 0] <= 0.01) & (ends[:, 1] >= 0.01))
    assert covered >= 0.93  # of 95 %; 400 trials: standard error .011


def test_the_curve_is_made_of_the_rates() -> None:
    rng = np.random.default_rng(5)
    duel = Duel(np.round(rng.normal(0.5, 1, 90), 1), np.round(rng.normal(size=70), 1))  # with ties
    for fpr, tpr in roc.curve(duel):
        assert tpr == pytest.approx(roc.tpr_at(duel, fpr)[0], abs=5e-4)


def test_the_curve_ends_in_the_corner_and_never_falls() -> None:
    rng = np.random.default_rng(2)
    points = roc.curve(Duel(rng.normal(1, 1, 300), rng.normal(0, 1, 300)))
    assert points[-1] == (1, 1) and len(points) == 20
    assert [y for _, y in points] == sorted(y for _, y in points)


def test_epsilon_by_hand() -> None:
    # all of 500 members and none of 500 strangers: Clopper-Pearson at 97.5 % a side gives
    # TPR ≥ 0.025^(1/500) = 0.99265 and FPR ≤ 0.00735: ln(0.99265 / 0.00735) = 4.906
    ones, zeros = np.ones(500), np.zeros(500)
    lower, upper, most = roc.epsilon(Duel(ones, zeros), Duel(ones, zeros))
    assert lower == pytest.approx(4.906, abs=1e-3)
    assert most == pytest.approx(lower) and upper > lower
    # half of the members, no stranger: TPR ≥ 0.4553
    half = np.repeat([1.0, 0.0], 250)
    found = roc.epsilon(Duel(half, zeros), Duel(half, zeros))[0]
    assert found == pytest.approx(math.log(0.4553 / 0.00735), abs=2e-3)


def test_epsilon_sees_members_who_are_below_all_strangers() -> None:
    """A stranger is surely one where no member ever scores as low: the other direction of DP."""
    members, strangers = np.ones(500), np.repeat([1.0, 0.0], 250)
    pair = Duel(members, strangers)
    assert roc.epsilon(pair, pair)[0] == pytest.approx(math.log(0.4553 / 0.00735), abs=2e-3)


def test_epsilon_stays_below_what_randomised_response_spends() -> None:
    """Randomised response with ε = 1 answers truly with e / (1 + e); at most 5 % may exceed 1."""
    rng = np.random.default_rng(3)
    truth = math.e / (1 + math.e)

    def answers() -> Duel:
        return Duel(
            rng.binomial(1, truth, 400).astype(float), rng.binomial(1, 1 - truth, 400).astype(float)
        )

    found = [roc.epsilon(answers(), answers())[0] for _ in range(300)]
    assert np.mean(np.array(found) > 1) <= 0.05
    assert np.median(found) > 0.6  # and not vacuous


def test_f1_relative_by_hand() -> None:
    rng = np.random.default_rng(4)
    # 80 % of members and 10 % of strangers are found; a fifth are members: precision .16 / .24,
    # recall .8, F1 = 8/11; calling all members: 2 × .2 / 1.2 = 1/3; (8/11 - 1/3) / (2/3) = 13/22
    pair = Duel(np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [10, 90]))
    value, draws = roc.f1_relative(pair, pair, 0.2, rng)
    assert value == pytest.approx(13 / 22)
    assert draws.min() < value < draws.max()
    # an attack that says nothing calls everyone a member: 0, not the 2/3 of an even split
    none = Duel(np.zeros(100), np.zeros(100))
    assert roc.f1_relative(none, none, 0.2, rng)[0] == pytest.approx(0)
