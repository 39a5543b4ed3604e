"""Which table refers to which: links between tables, and the tree that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from manikin.data.schema import TableSchema
from manikin.errors import SchemaError

__all__ = ["CohortSchema", "Link", "Tree", "parse_link"]

MOST_TABLES = 200


@dataclass(frozen=True)
class Link:
    """A foreign key: every cell of `child`.`column` is a cell of `parent`.`key`."""

    child: str
    column: str
    parent: str
    key: str

    def __str__(self) -> str:
        return f"{self.child}.{self.column}={self.parent}.{self.key}"


def parse_link(text: str, tables: Iterable[str]) -> Link:
    """Read `child.column=parent.key`. Raises SchemaError when it is no link of these tables."""
    known = sorted(tables, key=len, reverse=True)
    left, equals, right = text.partition("=")
    ends: list[tuple[str, str]] = []
    for end in (left.strip(), right.strip()):
        table = next((name for name in known if end.startswith(f"{name}.")), None)
        if table is not None and len(end) > len(table) + 1:
            ends.append((table, end[len(table) + 1 :]))
    if not equals or len(ends) != 2:
        raise SchemaError(
            f"'{text}' is no link between two of the tables",
            f"CHILD.COLUMN=PARENT.KEY, of the tables: {', '.join(sorted(known))}",
            "write it as admissions.patient_id=patients.patient_id",
        )
    return Link(*ends[0], *ends[1])


@dataclass(frozen=True)
class Tree:
    """Tables in an order in which each comes after the one that it hangs on.

    A table may refer to several tables if these lie on one path to the first table, as measurements
    refer to admissions and to patients: it then hangs on the nearest, and the other references
    follow. Raises SchemaError for anything else than one tree.
    """

    names: tuple[str, ...]
    links: tuple[Link, ...]
    order: tuple[str, ...] = field(init=False)  # the first is the table of patients
    up: Mapping[str, Link] = field(init=False)  # the link to the table that a table hangs on

    def __post_init__(self) -> None:
        targets: dict[str, list[Link]] = {name: [] for name in self.names}
        for link in self.links:
            _known(link, targets)
            if any(other.parent == link.parent for other in targets[link.child]):
                raise _no_tree(
                    f"'{link.child}' refers to '{link.parent}' by two columns",
                    "name one of them as the link; the other is then left empty",
                )
            targets[link.child].append(link)
        roots = [name for name, found in targets.items() if not found]
        if len(roots) > 1:
            raise _no_tree(
                f"{len(roots)} tables are linked to none: {', '.join(roots[:5])}",
                "link all but one of them, or leave them out",
            )
        order, up = list(roots), dict[str, Link]()
        paths: dict[str, frozenset[str]] = {name: frozenset() for name in roots}
        left = [name for name in self.names if name not in roots]
        while left:
            ready = [n for n in left if all(link.parent in paths for link in targets[n])]
            if not ready:
                raise _no_tree(
                    f"the links of {', '.join(left[:5])} go round in a circle",
                    "leave out the link that points from a table of facts to its details",
                )
            for name in ready:
                up[name] = _nearest(name, targets[name], paths)
                paths[name] = paths[up[name].parent] | {up[name].parent}
            order += ready
            left = [name for name in left if name not in ready]
        object.__setattr__(self, "order", tuple(order))
        object.__setattr__(self, "up", up)

    @property
    def root(self) -> str:
        """The table of patients, which refers to none."""
        return self.order[0]

    def children(self, name: str) -> tuple[str, ...]:
        """Return the tables that hang on a table."""
        return tuple(child for child in self.order[1:] if self.up[child].parent == name)

    def path(self, name: str) -> tuple[str, ...]:
        """Return the tables above a table, the nearest first."""
        above: list[str] = []
        while name in self.up:
            name = self.up[name].parent
            above.append(name)
        return tuple(above)


def _known(link: Link, tables: Mapping[str, object]) -> None:
    for name in (link.child, link.parent):
        if name not in tables:
            raise SchemaError(
                f"the link {link} speaks of a table '{name}'",
                f"the tables are: {', '.join(tables)}",
                "check the spelling",
            )


def _nearest(name: str, links: list[Link], paths: Mapping[str, frozenset[str]]) -> Link:
    """Return the link whose parent has all the other parents above it."""
    parents = {link.parent for link in links}
    for link in links:
        if parents - {link.parent} <= paths[link.parent]:
            return link
    raise _no_tree(
        f"'{name}' refers to {', '.join(sorted(parents))}, none of which hangs on the others",
        f"choose one of them with one link, such as {links[0]}; the other is then left empty",
    )


def _no_tree(given: str, todo: str) -> SchemaError:
    return SchemaError(given, "tables that form one tree below the table of patients", todo)


@dataclass(frozen=True)
class CohortSchema:
    """The schemas of linked tables, and their links.

    Raises SchemaError when the links are no tree, or a key is no identifier column.
    """

    parts: Mapping[str, TableSchema]
    links: tuple[Link, ...]
    tree: Tree = field(init=False, compare=False, repr=False)
    modality: ClassVar[str] = "cohort"

    def __post_init__(self) -> None:
        if not 0 < len(self.parts) <= MOST_TABLES:
            raise SchemaError(f"{len(self.parts)} tables", f"1 to {MOST_TABLES}", "give tables")
        object.__setattr__(self, "tree", Tree(tuple(self.parts), self.links))
        for link in self.links:
            for table, name in ((link.child, link.column), (link.parent, link.key)):
                if self.parts[table][name].kind != "identifier":
                    raise SchemaError(
                        f"the key '{table}.{name}' is of kind {self.parts[table][name].kind}",
                        "a key is of kind identifier: it is replaced, never learnt",
                        "correct the kind in the schema, or the link",
                    )

    @property
    def declared(self) -> bool:
        """False when any table's schema was inferred."""
        return all(schema.declared for schema in self.parts.values())

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "modality": self.modality,
            "tables": [{"name": n, "schema": s.to_json()} for n, s in self.parts.items()],
            "links": [asdict(link) for link in self.links],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> CohortSchema:
        """Build the schema that `to_json` wrote. Raises SchemaError on anything else."""
        tables, links = document.get("tables"), document.get("links")
        wrong = SchemaError(
            "the schema of linked tables is not as one is written",
            "tables: name and schema of each; links: child, column, parent and key",
            "write it again",
        )
        if not isinstance(tables, list) or not isinstance(links, list):
            raise wrong
        parts: dict[str, TableSchema] = {}
        for entry in tables:
            if not isinstance(entry, Mapping) or set(entry) != {"name", "schema"}:
                raise wrong
            name, schema = entry["name"], entry["schema"]
            if not isinstance(name, str) or name in parts or not isinstance(schema, Mapping):
                raise wrong
            parts[name] = TableSchema.from_json(schema)
        for entry in links:
            texts = isinstance(entry, Mapping) and all(isinstance(v, str) for v in entry.values())
            if not texts or set(entry) != {"child", "column", "parent", "key"}:
                raise wrong
        return CohortSchema(parts, tuple(Link(**entry) for entry in links))
