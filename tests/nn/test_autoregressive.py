"""Any-order sampling against enumeration, on conditionals that are written down by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from manikin.nn import autoregressive  # noqa: E402
from manikin.nn.autoregressive import Uniform, any_known, complete, visible  # noqa: E402

SIZES = (2, 3, 2)
P = torch.tensor([4.0, 1, 2, 3, 2, 6, 1, 3, 5, 1, 2, 2], dtype=torch.float64).view(SIZES) / 32


@dataclass(frozen=True)
class Row:
    p: Tensor  # (rows, values)

    def draw(self, uniform: Uniform, able: Tensor | None) -> Tensor:
        p = self.p if able is None else self.p * able
        total = p.cumsum(1)
        u = uniform(p[:, 0]) * total[:, -1]
        return (total < u[:, None]).sum(1)

    def log_prob(self, values: Tensor) -> Tensor:
        return self.p.gather(1, values[:, None])[:, 0].log()

    def log_mass(self, able: Tensor) -> Tensor:
        return (self.p * able).sum(1).log()


class Table:
    """The exact conditionals of the joint P; what is not known is summed out."""

    def log_prob(self, x: Tensor, sees: Tensor) -> Tensor:
        parts = []
        for j in range(3):
            hidden = x.clone()
            hidden[:, ~sees[j]] = -1
            parts.append(self.factor(self.view(hidden), j).log_prob(x[:, j]))
        return torch.stack(parts, 1)

    def view(self, x: Tensor) -> Tensor:
        return x.clone()

    def show(self, view: Tensor, part: int, values: Tensor, rows: Tensor) -> None:
        view[rows, part] = values

    def factor(self, view: Tensor, part: int) -> Row:
        rows = torch.arange(len(view))
        mask = torch.ones(len(view), *SIZES, dtype=torch.float64)
        for j, size in enumerate(SIZES):
            known = view[:, j] >= 0
            one = torch.zeros(len(view), size, dtype=torch.float64)
            one[rows, view[:, j].clamp(min=0)] = 1
            one[~known] = 1
            shape = [len(view), 1, 1, 1]
            shape[1 + j] = size
            if j != part:
                mask = mask * one.view(shape)
        rest = tuple(1 + j for j in range(3) if j != part)
        p = (P * mask).sum(rest)
        return Row(p / p.sum(1, keepdim=True))


def uniforms(seed: int) -> Uniform:
    rng = np.random.default_rng(seed)
    return lambda keys: torch.from_numpy(rng.random(len(keys)))


def frequency(x: Tensor) -> np.ndarray:
    flat = np.ravel_multi_index(tuple(x.numpy().T), SIZES)
    return np.bincount(flat, minlength=12).reshape(SIZES) / len(x)


def test_what_is_known_is_put_first() -> None:
    # base order 2, 0, 1: part 2 sees none, 0 sees 2, 1 sees both
    assert visible([2, 0, 1]).tolist() == [
        [False, False, True], [True, False, True], [False, False, False],
    ]  # fmt: skip
    # with 1 known: 1 sees none, 2 sees 1, 0 sees 1 and 2
    assert visible([2, 0, 1], torch.tensor([False, True, False])).tolist() == [
        [False, True, True], [False, False, False], [False, True, False],
    ]  # fmt: skip


def test_known_sets_are_of_every_size_alike() -> None:
    rng = torch.Generator().manual_seed(1)
    sizes = np.bincount([int(any_known(5, rng).sum()) for _ in range(4000)], minlength=6) / 4000
    # 1 to 4 of 5 parts, a quarter each: three standard errors are .02
    assert sizes[0] == sizes[5] == 0 and np.abs(sizes[1:5] - 0.25).max() < 0.025


def test_density_is_the_joint() -> None:
    every = torch.cartesian_prod(*(torch.arange(s) for s in SIZES))
    found = autoregressive.log_density(Table(), every, [1, 2, 0])
    assert torch.allclose(found.exp().view(SIZES), P)


def test_loss_is_minus_the_sum_of_parts_and_moves_orders_in_a_share_of_calls() -> None:
    seen: list[Tensor] = []

    def log_prob(sees: Tensor) -> Tensor:
        seen.append(sees)
        return -torch.ones(3, 4)

    rng = torch.Generator().manual_seed(0)
    assert autoregressive.loss(log_prob, [0, 1, 2], rng, share=0.0).tolist() == [3.0] * 4
    for _ in range(400):
        autoregressive.loss(log_prob, [0, 1, 2], rng, share=0.5)
    base = [torch.equal(s, visible([0, 1, 2])) for s in seen[1:]]
    # of the six sets put first {0} and {0, 1} leave the base order as it is: .5 + .5 · 2/6 = .667
    assert np.mean(base) == pytest.approx(2 / 3, abs=0.08)


@pytest.mark.parametrize("known", [{}, {0: 1}, {2: 0}, {1: 2, 2: 1}, {0: 0, 1: 1, 2: 1}])
def test_given_parts_condition_exactly(known: dict[int, int]) -> None:
    x = torch.full((60_000, 3), -1, dtype=torch.int64)
    where: list[slice] = [slice(None)] * 3
    for j, value in known.items():
        x[:, j], where[j] = value, slice(value, value + 1)
    whole, evidence = complete(Table(), x, [0, 1, 2], uniforms(1))
    wanted = np.zeros(SIZES)
    wanted[tuple(where)] = P.numpy()[tuple(where)]
    assert np.abs(frequency(whole) - wanted / wanted.sum()).max() < 0.008
    assert (evidence == 0).all()
    assert (x.max() <= 2) and (whole >= 0).all()


def test_rows_may_know_different_parts() -> None:
    x = torch.tensor([[-1, 2, -1], [1, -1, -1], [-1, -1, 0], [0, 1, 1]]).repeat(20_000, 1)
    whole, _ = complete(Table(), x, [2, 1, 0], uniforms(2))
    assert (whole[x >= 0] == x[x >= 0]).all()
    for i, at in enumerate([(slice(None), 2), (1,), (slice(None), slice(None), 0)]):
        wanted = np.zeros(SIZES)
        wanted[at] = P.numpy()[at]
        assert np.abs(frequency(whole[i::4]) - wanted / wanted.sum()).max() < 0.015


@pytest.mark.parametrize(
    "asked", [{2: [0, 1]}, {0: [0, 1], 1: [1, 0, 1]}, {1: [0, 1, 1], 2: [1, 0]}]
)
def test_restricted_parts_condition(asked: dict[int, list[int]]) -> None:
    allowed = {j: torch.tensor(able, dtype=torch.bool) for j, able in asked.items()}
    x = torch.full((6_000, 3), -1, dtype=torch.int64)
    whole, evidence = complete(Table(), x, [0, 1, 2], uniforms(3), allowed=allowed, candidates=32)
    wanted = P.clone()
    for j, able in allowed.items():
        shape = [1, 1, 1]
        shape[j] = SIZES[j]
        wanted = wanted * able.view(shape)
    # one restricted part is exact, several are as good as 32 candidates make them
    tolerance = 0.02
    assert np.abs(frequency(whole) - (wanted / wanted.sum()).numpy()).max() < tolerance
    # the mean of the candidates' weights estimates the probability of the sets without bias
    assert float(evidence.exp().mean()) == pytest.approx(float(wanted.sum()), abs=0.01)


def test_a_restriction_of_what_is_known_changes_nothing() -> None:
    x = torch.tensor([[1, -1, -1]]).repeat(1000, 1)
    allowed = {0: torch.tensor([True, False])}
    whole, evidence = complete(Table(), x, [0, 1, 2], uniforms(4), allowed=allowed)
    assert (whole[:, 0] == 1).all() and (evidence == 0).all()
