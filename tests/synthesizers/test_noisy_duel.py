"""The critic of products: its numbers by hand, and rows that it judges one by one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'deep'")

from manikin.nn.loop import random  # noqa: E402
from manikin.synthesizers.table._cells import CodedCells  # noqa: E402
from manikin.synthesizers.table._dense import Dense  # noqa: E402
from manikin.synthesizers.table._noisy_duel import NUMBERS, Products, scores  # noqa: E402


def coded(counts: list[int], *, tokens: int = 0, ordered: bool = False) -> CodedCells:
    levels = np.arange(len(counts) - tokens)
    return CodedCells(
        np.arange(1, tokens + 1), levels, np.array(counts), np.zeros(levels.size + 1, np.int64),
        np.zeros(0, np.int64), ordered,
    )  # fmt: skip


def test_numbers_of_columns_by_hand() -> None:
    cells = [coded([60, 40]), coded([20, 20, 40, 20], tokens=1, ordered=True),
             coded([49, 50, 1])]  # fmt: skip
    dense = Dense.of(cells)
    turned, centre, column = scores(cells, dense)
    # a pair of levels is -1 and 1; a mark and a score; two levels, of which the third is too rare
    assert column.tolist() == [0, 1, 1, 2, 2]
    rows = dense.inputs(torch.tensor([[0, 0, 0], [1, 3, 2]]))
    # quarters below and above, a half between: its normal scores' middles are at 1/8, 1/2 and 7/8
    high = 1.1503
    wanted = torch.tensor([[-1, 1, 0, 0, 1], [1, 0, high, 0, 0]])
    found = rows @ turned
    found[:, 3:] = found[:, 3:].sort(1).values
    assert torch.allclose(found, wanted, atol=1e-3)
    assert float(centre[0]) == pytest.approx(-0.2) and float(centre[1]) == pytest.approx(0.2)


def test_products_are_of_different_columns_and_of_norm_one_at_most() -> None:
    cells = [coded([50, 50]), coded([30, 30, 40]), coded([90, 10])]
    dense = Dense.of(cells)
    critic = Products(*scores(cells, dense), random(0, "p"))
    assert critic.weigh.weight.numel() == 3 + 3 + 1  # 1 with 3, 3 with 1, 1 with 1
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(np.stack([rng.integers(0, n, 200) for n in (2, 3, 2)], 1))
    rows = dense.inputs(codes)
    critic.scale_by(rows[:50])
    found = critic.products(rows)
    assert float(torch.linalg.vector_norm(found, dim=1).max()) <= 1 + 1e-6
    # what one row says depends on no other: nothing else would be bounded by the clip
    alone = torch.cat([critic.products(rows[i : i + 1]) for i in range(200)])
    assert torch.allclose(found, alone, atol=1e-7)


@pytest.mark.parametrize("columns", [0, 1, 2, 70])
def test_any_number_of_columns(columns: int) -> None:
    cells = [coded([10, 20, 30]) for _ in range(columns)]
    dense = Dense.of(cells)
    critic = Products(*scores(cells, dense), random(0, "p"))
    rows = dense.inputs(torch.zeros(4, columns, dtype=torch.int64))
    critic.scale_by(rows)
    wide = {0: 0, 1: 0, 2: 9, 70: NUMBERS * (NUMBERS - 1) // 2}  # 210 numbers: random sums
    assert critic.weigh.weight.numel() == wide[columns]
    assert torch.equal(critic(rows), torch.zeros(4))


def test_a_column_of_one_level_says_nothing() -> None:
    cells = [coded([10]), coded([5, 5])]
    dense = Dense.of(cells)
    turned, centre, _ = scores(cells, dense)
    rows = dense.inputs(torch.tensor([[0, 0], [0, 1]]))
    z = rows @ turned - centre
    assert torch.allclose(z[:, 0], torch.zeros(2), atol=1e-6)
