"""The decoder: what sees what, drawing by steps, packing, and rows' gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manikin.nn.private import clipped_sum
from manikin.nn.transformer import Decoder, Embedding, block_causal, pack, turned, turns


def decoder(width: int = 16, depth: int = 2) -> Decoder:
    made = Decoder(width, depth, 2, torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():  # blocks begin as the identity: give them something to do
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return made


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def places(rows: int, n: int) -> torch.Tensor:
    return torch.arange(n).expand(rows, n)


def test_a_place_does_not_depend_on_later_ones() -> None:
    network, x = decoder(), vectors(1, 6, 16)
    mask = block_causal(torch.zeros(1, 6, dtype=torch.int64))
    before = network(x, places(1, 6), mask)
    changed = x.clone()
    changed[:, 4:] *= -1
    after = network(changed, places(1, 6), mask)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_sequences_in_one_row_do_not_see_each_other() -> None:
    # 3 and 2 places and one that holds nothing, against each sequence by itself
    network, x = decoder(), vectors(1, 6, 16)
    segments = torch.tensor([[0, 0, 0, 1, 1, -1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    packed = network(x, positions, block_causal(segments))
    for start, end in ((0, 3), (3, 5)):
        n = end - start
        alone = network(x[:, start:end], places(1, n), block_causal(torch.zeros(1, n).long()))
        assert torch.allclose(packed[:, start:end], alone, atol=1e-6)
    assert packed.isfinite().all()


def test_steps_with_a_cache_equal_one_pass() -> None:
    # row 1 begins two places late: its first two places hold nothing
    network, x = decoder(), vectors(2, 7, 16)
    there = torch.ones(2, 7, dtype=torch.bool)
    there[1, :2] = False
    positions = torch.stack([torch.arange(7), torch.arange(7) - 2])
    cache = network.cache()
    with torch.no_grad():
        found = [network.step(x[:, :3], positions[:, :3], there[:, :3], cache)]
        for at in range(3, 7):
            one = slice(at, at + 1)
            found.append(network.step(x[:, one], positions[:, one], there[:, one], cache))
        stepped = torch.cat(found, 1)
        whole = network(x[:1], places(1, 7), block_causal(torch.zeros(1, 7).long()))
        late = network(x[1:, 2:], places(1, 5), block_causal(torch.zeros(1, 5).long()))
    assert cache.places == 7
    assert torch.allclose(stepped[:1], whole, atol=1e-5)
    assert torch.allclose(stepped[1:, 2:], late, atol=1e-5)


def test_a_cache_keeps_rows_and_forgets_places() -> None:
    network, x = decoder(depth=1), vectors(2, 5, 16)
    there = torch.ones(2, 5, dtype=torch.bool)
    new = vectors(1, 1, 16)
    with torch.no_grad():
        cache = network.cache()
        network.step(x, places(2, 5), there, cache)
        cache.keep(torch.tensor([1]))
        cache.forget(1, 2)
        got = network.step(new, torch.tensor([[5]]), there[:1, :1], cache)
        # of one block, what is left are the keys of places 0, 3 and 4
        again = network.cache()
        at = torch.tensor([[0, 3, 4]])
        network.step(x[1:, [0, 3, 4]], at, there[:1, :3], again)
        wanted = network.step(new, torch.tensor([[5]]), there[:1, :1], again)
    assert cache.places == 4
    assert torch.allclose(got, wanted, atol=1e-5)


def test_only_differences_of_positions_matter() -> None:
    network, x = decoder(), vectors(1, 5, 16)
    mask = block_causal(torch.zeros(1, 5).long())
    near = network(x, places(1, 5), mask)
    far = network(x, places(1, 5) + 1000, mask)
    assert torch.allclose(near, far, atol=1e-3)
    assert not torch.allclose(near, network(x, 3 * places(1, 5), mask), atol=1e-3)


def test_a_turn_keeps_lengths() -> None:
    # position 0 turns nothing; every position keeps the norm
    x = vectors(1, 2, 3, 8)
    out = turned(x, turns(torch.tensor([[0.0, 1.5, 40.0]]), 8))
    assert torch.allclose(out[:, :, 0], x[:, :, 0])
    assert torch.allclose(out.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@given(st.lists(st.integers(1, 20), max_size=60))
def test_packed_sequences_lie_apart_and_within_rows(lengths: list[int]) -> None:
    found = pack(np.array(lengths, np.int64), 20)
    taken = np.zeros((found.rows, 20), int)
    for length, row, start in zip(lengths, found.row, found.start, strict=True):
        assert 0 <= start and start + length <= 20
        taken[row, start : start + length] += 1
    assert taken.max(initial=0) <= 1
    assert (taken.sum(1) > 0).all()
    # two rows that are at most half full would have been one
    assert (taken.sum(1) <= 10).sum() <= 1


def test_packing_known_answers() -> None:
    # 5 + 3 and 4 + 4 fill two rows of 8; 2 needs a third
    found = pack(np.array([3, 5, 4, 4, 2]), 8)
    assert found.rows == 3
    assert found.row[0] == found.row[1]
    assert found.row[2] == found.row[3]
    assert sorted(found.start.tolist()) == [0, 0, 0, 4, 5]
    assert pack(np.zeros(0, np.int64), 8).rows == 0


class Words(torch.nn.Module):
    """A decoder over embedded numbers, as a method would build it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Embedding(5, 8, torch.Generator().manual_seed(5), scale=1.0)
        self.decoder = decoder(8)

    def loss(self, which: torch.Tensor) -> torch.Tensor:
        rows, n = which.shape
        mask = block_causal(torch.zeros(rows, n).long())
        out = self.decoder(self.words(which), places(rows, n), mask)
        return out.square().cumsum(-1).sum((1, 2))


def test_rows_gradients_are_clipped_as_if_made_one_by_one() -> None:
    network, which = Words(), torch.tensor([[0, 1, 1], [2, 2, 2], [3, 4, 0]])
    clip = 5.0
    total = clipped_sum(network, lambda: network.loss(which), torch.arange(3), clip)
    wanted = {p: torch.zeros_like(p) for p in network.parameters()}
    for row in which:
        made = torch.autograd.grad(network.loss(row[None]).sum(), list(wanted))
        factor = (clip / torch.stack([g.square().sum() for g in made]).sum().sqrt()).clamp(max=1)
        assert factor < 1
        for parameter, gradient in zip(wanted, made, strict=True):
            wanted[parameter] += factor * gradient
    for parameter, gradient in wanted.items():
        assert torch.allclose(total[parameter], gradient, atol=1e-4, rtol=1e-3)


def test_units_are_left_out_by_the_stream_that_is_given() -> None:
    network = Decoder(8, 1, 2, torch.Generator().manual_seed(1), dropout=0.5)
    torch.nn.init.ones_(network.blocks[0].gated.back.weight)
    x, mask = vectors(1, 4, 8), block_causal(torch.zeros(1, 4).long())

    def run(seed: int) -> torch.Tensor:
        return network(x, places(1, 4), mask, torch.Generator().manual_seed(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    network.eval()
    assert torch.equal(run(1), run(2))


@pytest.mark.parametrize("width", [16])
def test_bfloat16_is_near_single_precision(width: int) -> None:
    network, x = decoder(width), vectors(1, 6, width)
    mask = block_causal(torch.zeros(1, 6).long())
    full = network(x, places(1, 6), mask)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, places(1, 6), mask)
    assert (full - half.float()).abs().max() < 0.15
