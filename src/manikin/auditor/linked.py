"""The audit of linked tables: each one's own, how they are linked, and which keys lead nowhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from manikin.auditor.findings import Audit, Finding, share_said, told, worst_first
from manikin.auditor.inspection import audit
from manikin.auditor.sight import Audited
from manikin.data.cohort import Cohort, counts
from manikin.data.keys import Found, Keys
from manikin.data.links import Link
from manikin.data.table import Table

__all__ = ["audit_tables", "key_findings", "link_findings", "with_subject"]

LONGEST = 1000  # rows below one row, from which they are a stream of events


def audit_tables(
    tables: Mapping[str, Audited],
    links: Iterable[Link],
    n_subjects: int,
    more: Iterable[Finding] = (),
) -> Audit:
    """Examine every table; what is found says in which one. `more` are findings of their links."""
    keys = {(link.child, link.column) for link in links}
    keys |= {(link.parent, link.key) for link in links}
    findings, columns, rows = list(more), [], 0
    for name, seen in tables.items():
        one = audit(seen)
        rows += one.n_rows
        columns += [dataclasses.replace(c, name=f"{name}.{c.name}") for c in one.columns]
        findings += [
            dataclasses.replace(
                finding,
                columns=tuple(f"{name}.{column}" for column in finding.columns),
                said=f"{name}: {finding.said}",
            )
            for finding in one.findings
            if finding.topic != "identifying" or {(name, c) for c in finding.columns} - keys
        ]
    return Audit(rows, n_subjects, tuple(columns), worst_first(findings))


def with_subject(cohort: Cohort, name: str) -> Table:
    """Return a table that says by which column its rows belong to subjects, as audits ask."""
    tree, table = cohort.schema.tree, cohort.parts[name]
    if name == tree.root:
        return table
    links = [link for link in cohort.schema.links if link.child == name]
    link = next((link for link in links if link.parent == tree.root), tree.up[name])
    column = dataclasses.replace(table.schema[link.column], roles=("subject",))
    return dataclasses.replace(table, schema=table.schema.replace(column))


def key_findings(keys: Keys, found: Found) -> tuple[Finding, ...]:
    """Say which keys do not say which row is meant. Nothing is made of such tables."""
    return tuple(
        Finding(
            "stop", "keys", (f"{table}.{column}",),
            f"{problem.before}{told(problem.rows, 'rows')}{problem.after}", problem.todo,
        )
        for link in found.links
        for table, column, problems in (
            (link.parent, link.key, keys.of_parent(link)),
            (link.child, link.column, keys.of_child(link)),
        )
        for problem in problems
    )  # fmt: skip


def link_findings(cohort: Cohort | None, found: Found, tables: Sequence[str]) -> Iterator[Finding]:
    """Say how tables are linked, and which are not; of a cohort also how many rows hang on one."""
    for link, why in found.reasons.items():
        column = (f"{link.child}.{link.column}",)
        said = f"{link}: {why}"
        if cohort is not None and found.tree.up[link.child] == link:
            below = counts(cohort, link.child)
            n = below.size
            said += f"; {below.sum() / max(n, 1):.1f} rows a row of '{link.parent}'"
            said += f"; rows without any: {share_said(int((below == 0).sum()), n)}"
            if int(below.max(initial=0)) > LONGEST:
                yield Finding(
                    "warn", "links", column,
                    f"more than {LONGEST:,} rows of '{link.child}' hang on one row of"
                    f" '{link.parent}'",
                    "summarise them, by day for instance, or leave the table out",
                )  # fmt: skip
        yield Finding("note", "links", column, said, "name another one if it is wrong (--link)")
    for table, name in sorted(found.loose):
        yield Finding(
            "warn", "links", (f"{table}.{name}",),
            f"'{table}.{name}' refers to a table that its rows do not hang on: it is left empty",
            "if rows shall hang on that table, name the link (--link)",
        )  # fmt: skip
    if left := [name for name in tables if name not in found.tree.names]:
        yield Finding(
            "warn", "links", (),
            f"no key ties {', '.join(left[:6])} to the other tables: left out",
            "name a link (--link); a dictionary of codes needs none",
        )  # fmt: skip
    if cohort is not None:
        yield from _apart(cohort, found)


def _apart(cohort: Cohort, found: Found) -> Iterator[Finding]:
    """Say of rows whose references to several tables do not lead along one path."""
    for name, above in cohort.above.items():
        several = [link for link in found.links if link.child == name]
        if len(several) > 1 and (lost := int(np.count_nonzero(above < 0))):
            yield Finding(
                "stop", "keys", tuple(f"{name}.{link.column}" for link in several),
                f"{told(lost, 'rows')} of '{name}' refer to rows that do not belong together, or to"
                " none",
                "correct one of the references, or leave those rows out",
            )  # fmt: skip
