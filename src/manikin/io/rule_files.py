"""Files of rules of histories, and of trees of codes, as a person writes them.

    rules.yaml    rules: a list of one rule each; trees: files of child and parent
    tree.csv      two columns, child and parent (or code and parent_code), one pair a row

A tree is the user's own: no vocabulary is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from manikin.data.cells import as_text
from manikin.errors import InputError, SchemaError
from manikin.io.bounds import read_text
from manikin.io.schema_file import load_yaml
from manikin.io.tables import open_cells
from manikin.knowledge.history_rules import Rules
from manikin.knowledge.trees import Tree

__all__ = ["read_rules", "read_tree"]

MOST_PAIRS = 5_000_000
_CHILD = ("child", "childcode", "code", "descendant", "source")
_PARENT = ("parent", "parentcode", "parents", "ancestor", "target")


def read_rules(path: Path | str) -> Rules:
    """Read a YAML file of rules; files of trees are looked for beside it.

    Raises InputError for what cannot be read, SchemaError for what is no rule.
    """
    place = Path(path)
    document = load_yaml(read_text(place, "file of rules"))
    if not isinstance(document, Mapping):
        raise SchemaError(f"'{place.name}' holds no rules", "rules: a list", "see docs/events.md")
    document = dict(document)
    files = document.pop("trees", [])
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, list) or not all(isinstance(name, str) and name for name in files):
        raise SchemaError("'trees' is no list of files", "names of files", "correct it")
    rules = Rules.from_json(document)
    parents = dict(rules.tree.parents)
    for name in files:
        for child, above in read_tree(place.parent / name).parents.items():
            parents[child] = tuple(dict.fromkeys((*parents.get(child, ()), *above)))
    return replace(rules, tree=Tree(parents, rules.tree.spelled))


def read_tree(path: Path | str) -> Tree:
    """Read a file of child and parent: CSV and its kin, Parquet or Excel.

    A child may have several rows. Raises InputError for a file without two such columns, with
    empty cells, or in which something stands above itself.
    """
    place = Path(path)
    cells, _ = open_cells(place)
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(cells.columns)}
    names = [next((plain[n] for n in asked if n in plain), None) for asked in (_CHILD, _PARENT)]
    child, parent = names
    if child is None or parent is None:
        raise InputError(
            f"'{place.name}' does not say which column is the child and which the parent",
            "columns named child and parent",
            "rename them",
        )
    if cells.height > MOST_PAIRS:
        raise InputError(
            f"'{place.name}' has {cells.height:,} pairs", f"at most {MOST_PAIRS:,}", "cut it"
        )
    pairs = pl.DataFrame(
        {
            "child": as_text(cells[child]).str.strip_chars(),
            "parent": as_text(cells[parent]).str.strip_chars(),
        }
    ).filter(pl.col("child") != "")
    own = int((pairs["child"] == pairs["parent"]).sum())
    pairs = pairs.filter(pl.col("parent") != "").unique(maintain_order=True)  # a top has none
    found = pairs.group_by("child", maintain_order=True).agg("parent")
    if own or not pairs.height:
        raise InputError(
            f"'{place.name}' has {own:,} entries above themselves, of {pairs.height:,} pairs",
            "a tree of at least one pair",
            "correct those rows",
        )
    tree = Tree({row[0]: tuple(row[1]) for row in found.iter_rows()})
    _no_ring(tree)
    return tree


def _no_ring(tree: Tree) -> None:
    """Take away tops until nothing is left: what stays goes in a ring."""
    left = {child: set(above) for child, above in tree.parents.items()}
    while left:
        free = [child for child, above in left.items() if not any(p in left for p in above)]
        if not free:
            raise InputError(
                f"{len(left):,} entries of a tree that go in a ring, or are below one",
                "no entry stands above itself",
                "correct the file",
            )
        for child in free:
            del left[child]
