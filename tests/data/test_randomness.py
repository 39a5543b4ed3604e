import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.randomness import generator


@given(st.integers(), st.text(max_size=9), st.integers(0, 2**63))
def test_same_name_same_stream(seed, purpose, block):
    a, b = (generator(seed, purpose, block).integers(2**63, size=4) for _ in range(2))
    assert a.tolist() == b.tolist()


def test_seed_purpose_and_block_each_make_another_stream():
    names = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (-1, "a", 0), (2**80, "a", 0)]
    streams = {tuple(generator(*name).integers(2**63, size=2)) for name in names}
    assert len(streams) == len(names)


def test_blocks_do_not_overlap():
    long = generator(0, "x", 0).integers(2**63, size=10_000)
    assert not set(long.tolist()) & set(generator(0, "x", 1).integers(2**63, size=10_000).tolist())


def test_streams_never_change_between_versions():
    # a seed in an old record must still give the same data
    assert generator(7, "split").integers(1000, size=5).tolist() == [592, 558, 872, 629, 457]


def test_global_state_is_untouched():
    before = (random.getstate(), repr(np.random.get_state(legacy=True)))  # noqa: NPY002
    generator(0, "x").normal(size=10)
    assert before == (random.getstate(), repr(np.random.get_state(legacy=True)))  # noqa: NPY002
