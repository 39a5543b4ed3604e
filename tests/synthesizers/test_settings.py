"""Settings out of range: refused when the recipe is made, in words a person can act on."""

from __future__ import annotations

import pytest

from manikin import catalogue
from manikin.errors import InputError
from manikin.synthesizers.table.seqtree import SeqTree

NUMBERS = [
    (name, setting.name, setting.type)
    for name in ("table/copula", "table/marginals", "table/seqtree")
    for setting in catalogue.settings(name)
    if setting.type in ("int", "float")
]


@pytest.mark.parametrize(("name", "field", "kind"), NUMBERS)
def test_a_negative_number_is_refused(name: str, field: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"'{field}' is -4") as refused:
        catalogue.build(name, {field: "-4"})
    assert refused.value.allowed
    if kind == "float":
        with pytest.raises(InputError, match=f"'{field}' is nan"):
            catalogue.build(name, {field: "nan"})


def test_no_tree_and_no_leaf_are_refused_in_python_too() -> None:
    for settings in ({"trees": 0}, {"leaf": 0}, {"max_rows": 0}, {"smoothing": 1.5}):
        with pytest.raises(InputError):
            SeqTree(**settings)  # type: ignore[arg-type]
    SeqTree(trees=1, leaf=1, predictors=0, smoothing=0)


def test_a_wrong_type_is_named_in_words() -> None:
    with pytest.raises(InputError) as refused:
        catalogue.build("table/seqtree", {"leaf": "abc"})
    assert refused.value.allowed == "a whole number"
