"""The residual network: identity at the start, its own randomness, one row alone."""

import pytest

torch = pytest.importorskip("torch")

from manikin.nn.loop import random  # noqa: E402
from manikin.nn.mlp import Linear, ResidualMLP  # noqa: E402


def test_weights_come_from_the_generator_and_no_global_state() -> None:
    before = torch.get_rng_state()
    one, two, other = (Linear(5, 3, random(s, "t")).weight for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert float(one.detach().abs().max()) <= 5**-0.5


def test_each_block_begins_as_the_identity() -> None:
    shallow = ResidualMLP(4, 2, width=8, depth=0, rng=random(1, "t"))
    deep = ResidualMLP(4, 2, width=8, depth=3, rng=random(1, "t"))
    deep.last.load_state_dict(shallow.last.state_dict())
    x = torch.randn(6, 4, generator=random(2, "t"))
    assert torch.equal(shallow(x), deep(x))


def test_rows_do_not_see_each_other() -> None:
    net = ResidualMLP(4, 2, width=8, depth=2, rng=random(1, "t"))
    for block in net.blocks:
        torch.nn.init.normal_(block.back.weight, generator=random(3, "t"))
    x = torch.randn(6, 4, generator=random(2, "t"))
    assert net(x).shape == (6, 2)
    assert torch.allclose(net(x)[2:3], net(x[2:3]), atol=1e-6)
