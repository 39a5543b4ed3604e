"""Trees from a model file are walked in compiled code, which trusts them: so none is trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from manikin.synthesizers.table._tilt import Tilts
from manikin.synthesizers.table._trees import Splits, grow

#       0
#     1   4      depth first, as they are written
#    2 3
WHOLE: dict[str, Any] = {
    "left": [1, 2, -1, -1, -1],
    "right": [4, 3, -1, -1, -1],
    "feature": [0, 1, -2, -2, -2],
    "threshold": [0.5, 0.5, -2.0, -2.0, -2.0],
    "chance": [0.0, 0.2, 0.5, 0.5, 0.2],
}
LIES: dict[str, dict[str, Any]] = {
    "a circle": {"left": [1, 0, -1, -1, -1]},
    "its own child": {"left": [0, 2, -1, -1, -1]},
    "beyond the end": {"right": [5, 3, -1, -1, -1]},
    "far beyond the end": {"right": [2**31 - 1, 3, -1, -1, -1]},
    "two parents": {"left": [1, 4, -1, -1, -1]},
    "half a split": {"right": [4, -1, -1, -1, -1]},
    "other than -1 for a leaf": {"left": [1, 2, -7, -1, -1]},
    "a child before its parent": {"left": [4, 2, -1, -1, -1], "right": [1, 3, -1, -1, -1]},
    "a feature that is not there": {"feature": [0, 2, -2, -2, -2]},
    "a negative feature": {"feature": [-3, 1, -2, -2, -2]},
    "no threshold": {"threshold": [np.nan, 0.5, -2.0, -2.0, -2.0]},
    "for ever to the parent": {"chance": [1.0, 1.0, 1.0, 1.0, 1.0]},
    "from the root upwards": {"chance": [0.2, 0.2, 0.5, 0.5, 0.2]},
    "no chance": {"chance": [0.0, np.nan, 0.5, 0.5, 0.2]},
    "arrays of two lengths": {"threshold": [0.5, 0.5]},
    "no node": {name: [] for name in WHOLE},
}


def arrays_of(**changed: Any) -> dict[str, np.ndarray]:
    return {
        name: np.array(values, np.float64 if name in ("threshold", "chance") else np.int32)
        for name, values in {**WHOLE, **changed}.items()
    }


def test_a_whole_tree_is_walked() -> None:
    tree = Splits.restore(arrays_of(), 2)
    rows = np.array([[0, 0], [0, 1], [1, 0]], np.float32)
    assert tree.apply(rows).tolist() == [2, 3, 4]


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_tree_is_not_walked(lie: str) -> None:
    with pytest.raises(ValueError, match="tree"):
        Splits.restore(arrays_of(**LIES[lie]), 2)


@pytest.mark.parametrize("name", WHOLE)
def test_arrays_of_other_kinds_or_shapes_are_refused(name: str) -> None:
    for spoiled in (arrays_of()[name].astype(np.float32), arrays_of()[name][None, :]):
        with pytest.raises(ValueError, match=name):
            Splits.restore({**arrays_of(), name: spoiled}, 2)


@pytest.mark.parametrize("classify", [True, False])
def test_every_grown_tree_passes(classify: bool) -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        seen = rng.integers(0, 9, (400, 3)).astype(np.float32)
        sought = seen[:, 0] + seen[:, 1] * (seed % 3) + rng.integers(0, 2, 400)
        target = sought.astype(int) if classify else sought[:, None]
        tree = grow(seen, target, classify=classify, min_leaf=5, evidence=2.0, pooling=0.5,
                    max_features=None, seed=seed)  # fmt: skip
        again = Splits.restore(tree.arrays(), 3)
        assert tree.n_nodes > 1 and np.array_equal(again.apply(seen), tree.apply(seen))


@pytest.mark.parametrize(
    "starts",
    [
        [0, 2, 3, 3, 3, 10**12],  # would lay out a terabyte
        [0, 2, 1, 3, 3, 3],
        [1, 2, 3, 3, 3, 3],
        [0, 3],
        [0, 1, 2, 3, 3, 2],
        [0.0, 1.0, 2.0, 3.0, 3.0, 3.0],
    ],
)
def test_pools_that_do_not_fit_their_tree_are_refused(starts: Any) -> None:
    tree, pool = Splits.restore(arrays_of(), 2), np.array([1, 2, 3])
    tree.check_pool(np.array([0, 0, 0, 1, 2, 3]), pool)
    with pytest.raises(ValueError, match="pool"):
        tree.check_pool(np.array(starts), pool)


@pytest.mark.parametrize("part", [[0, 10**6], [0, 2**62], [-1, 0], [[0, 1]], [0.0, 1.0]])
def test_there_are_no_more_parts_than_codes(part: Any) -> None:
    assert Tilts.restore({"part": np.array([0, 1])}).n_parts == 2
    with pytest.raises(ValueError, match="parts"):
        Tilts.restore({"part": np.array(part)})
