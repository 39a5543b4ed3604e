"""Faults of public DP-SGD, put in on purpose: every one must be found.

Seen in smartnoise-synth, synthcity, mostlyai-engine, opacus and TF-Privacy (anchors of the privacy
room). Each check passes on the code as it is.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'deep'")
pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import audit
import torch
from test_seeded_bugs import BUDGET, Heard, Tainted, table

from manikin import catalogue
from manikin.errors import PrivacyError
from manikin.nn import loop
from manikin.nn import private as clipping
from manikin.nn.mlp import MLP
from manikin.privacy import secret
from manikin.privacy.account import Account, measuring
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Sampled
from manikin.privacy.rows import Rows
from manikin.privacy.training import Training
from manikin.synthesizers.table import _noisy, tvae

QUICK = {"steps": 6, "width": 8, "latent": 2}


def fitted(rows: int = 80, *, tainted: bool = False) -> Any:
    data = table(rows, tainted=tainted)
    return catalogue.build("table/tvae", QUICK).fit(data, seed=1, budget=BUDGET)


def trained(n: int, q: float, steps: int = 200) -> Training:
    """A training on `n` subjects of whom one in ten has a rare class."""
    codes = (np.arange(n)[:, None] % 10 == 0).astype(np.int32)
    rows = Rows(codes, np.arange(n), (2,), 1, Account(Budget(3.0)))
    return Training(rows, q, 2.0, steps, q * n)


def network() -> Any:
    return MLP(3, 2, width=8, depth=2, rng=loop.random(0, "bugs"))


def losses(net: Any, x: Any) -> Any:
    return net(x).square().sum(1)


# ------------------------------------------------------------------ what is looked for


def batches_are_those_of_coins() -> bool:
    """Of 400 with q = 1/4: 100 ± 8.66 a step; the deviation of 200 steps is known to ± .43."""
    training = trained(400, 0.25)
    sizes = [len(training.draw()[0]) for _ in range(200)]
    return abs(np.std(sizes) - 8.66) < 5 * 0.43 and abs(np.mean(sizes) - 100) < 5 * 0.61


def no_class_comes_oftener() -> bool:
    """40 rare subjects, 200 steps, q = 1/4: 2,000 ± 38.7 times."""
    training = trained(400, 0.25)
    rare = sum(int(training.draw()[0].sum()) for _ in range(200))
    return abs(rare - 2000) < 5 * 38.7


def noise_hangs_on_no_batch() -> bool:
    """Gradients of nought, so that noise alone is left: as wide for one subject as for 60."""
    wide = []
    for n in (1, 60):
        training = trained(n, 1.0)
        training.expected = 30.0
        steps = clipping.Private(training, lambda codes: (codes.float(),), clip=1.0)
        net, found = network(), []
        for _ in range(30):
            whose, *_ = steps.batches(0)
            for p in net.parameters():
                p.grad = None
            steps.leave(net, lambda n=n, net=net: 0 * losses(net, torch.ones(n, 3)), whose)
            found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        wide.append(float(torch.stack(found).std()))
    # σ · clip / expected = 2/30; of some 3,000 numbers each ± 1.3 %
    return all(abs(w - 2 / 30) < 0.1 * 2 / 30 for w in wide)


def a_row_that_is_no_number_is_left_out() -> bool:
    net, x = network(), torch.ones(4, 3)
    x[1, 0] = torch.nan
    found = clipping.clipped_sum(net, lambda: losses(net, x), torch.arange(4), 1.0)
    rest = clipping.clipped_sum(net, lambda: losses(net, x[[0, 2, 3]]), torch.arange(3), 1.0)
    return all(bool(torch.isclose(found[p], rest[p], atol=1e-6).all()) for p in found)


def nobody_moves_a_sum_by_more_than_the_clip(of: Callable[[Any, Any], Any] | None = None) -> bool:
    net, clip = network(), 0.5
    x = 30 * torch.randn(7, 3, generator=loop.random(1, "rows"))
    x[0] = -10 * x[1:].sum(0)
    of = of or losses
    whole = clipping.clipped_sum(net, lambda: of(net, x), torch.arange(7), clip)
    less = clipping.clipped_sum(net, lambda: of(net, x[1:]), torch.arange(6), clip)
    moved = torch.cat([(whole[p] - less[p]).flatten() for p in whole]).norm()
    return bool(moved <= clip * (1 + 1e-3))


def training_reads_only_what_is_paid() -> bool:
    Tainted.reads.clear()
    try:
        fitted(tainted=True).sample(10, seed=1)
    except PrivacyError:  # the rows, or the loop, refuse it
        return False
    return not Tainted.reads


def training_noise_differs_and_is_secret() -> bool:
    asked: list[int] = []
    right = np.random.default_rng

    def spy(*given: Any) -> Any:
        asked.append(1)
        return right(*given)

    sums = []
    with audit.replaced(np.random, default_rng=spy):
        for _ in range(2):
            training = trained(5, 1.0)
            training.draw()
            sums.append(training.noised(np.zeros(50), clip=1.0))
    return not np.array_equal(*sums) and not asked


def training_noise_is_as_wide_as_paid_for() -> bool:
    training = trained(5, 1.0)
    training.draw()
    noisy = training.noised(np.zeros(20_000), clip=0.5)  # 2 · .5, known to ± .5 %
    return bool(abs(np.std(noisy) - 1.0) < 0.03)


def a_model_costs_what_was_budgeted() -> bool:
    found = spent(fitted().ledger, BUDGET.delta).epsilon
    return 0.98 * BUDGET.epsilon < found <= BUDGET.epsilon * (1 + 1e-6)


def drawing_trains_nothing() -> bool:
    model = fitted()
    ledger = model.ledger
    model.sample(50, seed=2)
    return model.ledger == ledger and not Heard.spent


def steps_are_drawn_as_often_as_is_written() -> bool:
    drawn: list[int] = []
    right = secret.normal

    def counted(n: int) -> Any:
        drawn.append(n)
        return right(n)

    with audit.replaced(secret, normal=counted):
        ledger = fitted().ledger
    return sum(one.steps for one in ledger if isinstance(one, Sampled)) == len(drawn)


# ------------------------------------------------------------------ the faults


def _drawing(pick: Callable[[Training, int], Any]) -> Any:
    """Replace who comes to a step: `pick` returns row numbers."""

    def wrong(self: Training) -> Any:
        self._drawn += 1
        with measuring():
            at = pick(self, self._drawn)
            return self.rows.codes[at], np.arange(len(at))

    return audit.replaced(Training, draw=wrong)


def shuffled() -> Any:
    """synthcity `poisson_sampling=False`, smartnoise-synth: shuffled batches accounted as coins."""

    def pick(self: Training, step: int) -> Any:
        n = len(self.rows.codes)
        size = round(self.sampling_probability * n)
        return np.random.default_rng(step).permutation(n)[:size]

    return _drawing(pick)


def by_class() -> Any:
    """smartnoise-synth, opacus #813: a sampler that balances a private column."""

    def pick(self: Training, step: int) -> Any:
        codes = self.rows.codes[:, 0]
        often = np.bincount(codes, minlength=2)[codes]
        chance = self.sampling_probability * len(codes) / (2 * often)
        return np.flatnonzero(np.random.default_rng(step).random(len(codes)) < chance)

    return _drawing(pick)


def divided_by_the_batch() -> Any:
    """Sums divided by who came, not by who was expected: their number is private."""
    right = clipping.Private.leave

    def wrong(self: Any, network: Any, losses: Any, whose: Any) -> None:
        self.training.expected = max(len(whose), 1)
        right(self, network, losses, whose)

    return audit.replaced(clipping.Private, leave=wrong)


def no_number_passes() -> Any:
    """Clipping that multiplies by a factor: no number times any factor is no number still."""
    return audit.replaced(clipping, _without=lambda call, lost, module: call)


def clipped_layer_by_layer() -> Any:
    """smartnoise-synth `clip_per_layer`: each layer to the whole clip, noise as for one."""
    right = clipping.clipped_sum

    def wrong(network: Any, losses: Any, whose: Any, clip: float) -> Any:
        total, layers = {}, [m for m in network.modules() if clipping._own(m)]
        for layer in layers:
            network.requires_grad_(False)
            layer.requires_grad_(True)
            total |= right(network, losses, whose, clip)
        network.requires_grad_(True)
        return total

    return audit.replaced(clipping, clipped_sum=wrong)


def validated_on_raw_rows() -> Any:
    """synthcity, mostlyai-engine: training ends by the loss of raw held-out rows."""
    right = tvae.train

    def wrong(*given: Any, gradients: Any = None, **more: Any) -> Any:
        if gradients is None:  # on rows that cost nothing
            return right(*given, **more)
        held = (torch.as_tensor(gradients.training.rows.codes[:9]).long(),)
        return right(*given, gradients=gradients, held_out=(held,), **more)

    return audit.replaced(tvae, train=wrong)


def held_out_by_the_loop() -> Any:
    """The same, of rows that were drawn for a step and paid for: the loop must refuse it."""
    right = tvae.train

    def wrong(*given: Any, gradients: Any = None, **more: Any) -> Any:
        if gradients is None:
            return right(*given, **more)
        with measuring():
            held = (torch.as_tensor(gradients.training.rows.codes[:9]).long(),)
        return right(*given, gradients=gradients, held_out=(held,), **more)

    return audit.replaced(tvae, train=wrong)


def seeded() -> Any:
    """mostlyai-engine, opacus without secure_mode: noise of a generator that can be repeated."""
    return audit.replaced(secret, normal=lambda n: np.random.default_rng(0).normal(size=n))


def half_as_wide() -> Any:
    """TF-Privacy's micro-batches: a subject moves the sum twice as far as noise is scaled to."""
    right = secret.normal
    return audit.replaced(secret, normal=lambda n: right(n) / 2)


def delta_of_the_rows() -> Any:
    """synthcity δ = 1/n, smartnoise-synth 1/(n√n), NeMo 1/n^1.2: larger than was asked for."""
    right = _noisy.learn

    def wrong(data: Any, budget: Budget, **more: Any) -> Any:
        return right(data, Budget(budget.epsilon, 1e-3 / len(data.subjects)), **more)

    return audit.replaced(_noisy, learn=wrong)


@contextlib.contextmanager
def trained_at_every_draw() -> Any:
    """synthcity: generating runs the mechanism on raw rows again."""
    Heard.spent.clear()
    right = tvae.TVAEModel.sample

    def wrong(self: Any, n: int, *, seed: int) -> Any:
        again = fitted()
        Heard.spent.append(1.0)
        return right(again, n, seed=seed)

    with audit.replaced(tvae.TVAEModel, sample=wrong):
        yield
    Heard.spent.clear()


def steps_beyond_those_paid_for() -> Any:
    """Steps repeated after a restart, or two sums a step, and one is accounted."""
    right = Training.noised

    def wrong(self: Training, total: Any, *, clip: float) -> Any:
        first = right(self, total, clip=clip)
        self._noised -= 1
        return (first + right(self, total, clip=clip)) / 2

    return audit.replaced(Training, noised=wrong)


FAULTS: dict[str, tuple[Callable[[], Any], Callable[[], bool]]] = {
    "shuffled batches": (shuffled, batches_are_those_of_coins),
    "sampler by class": (by_class, no_class_comes_oftener),
    "divided by the batch": (divided_by_the_batch, noise_hangs_on_no_batch),
    "NaN passes the clip": (no_number_passes, a_row_that_is_no_number_is_left_out),
    "clipped layer by layer": (clipped_layer_by_layer, nobody_moves_a_sum_by_more_than_the_clip),
    "raw validation": (validated_on_raw_rows, training_reads_only_what_is_paid),
    "held out by the loop": (held_out_by_the_loop, training_reads_only_what_is_paid),
    "seeded noise": (seeded, training_noise_differs_and_is_secret),
    "noise half as wide": (half_as_wide, training_noise_is_as_wide_as_paid_for),
    "δ of the rows": (delta_of_the_rows, a_model_costs_what_was_budgeted),
    "trained at every draw": (trained_at_every_draw, drawing_trains_nothing),
    "two sums a step": (steps_beyond_those_paid_for, steps_are_drawn_as_often_as_is_written),
}


CHECKS = tuple(dict.fromkeys(check for _, check in FAULTS.values()))


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found(name: str) -> None:
    put_in, holds = FAULTS[name]
    with put_in():
        assert not holds(), f"{name}: not found"


@pytest.mark.parametrize("holds", CHECKS, ids=lambda c: c.__name__)
def test_the_check_passes_without_it(holds: Callable[[], bool]) -> None:
    assert holds()


def test_batch_statistics_are_found() -> None:
    """D6: where losses hang on other rows, one subject moves the sum by more than the clip."""

    def turned(net: Any, x: Any) -> Any:
        return net(x).sum(1) * x.mean(0).sum().sign()  # here the first row decides the sign

    assert not nobody_moves_a_sum_by_more_than_the_clip(turned)
