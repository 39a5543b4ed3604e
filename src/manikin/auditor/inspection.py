"""The audit itself: every check in turn, worst findings first."""

from __future__ import annotations

from manikin.auditor import columns, missingness, outcome, rows
from manikin.auditor.findings import Audit, Finding, worst_first
from manikin.auditor.identifying import identifying, looks_like_data
from manikin.auditor.sight import Audited, Sight

__all__ = ["audit"]

CHECKS = (
    identifying,
    rows.repeated,
    outcome.leakage,
    rows.singled_out,
    outcome.sufficiency,
    outcome.balance,
    missingness.missingness,
    columns.renamed,
    columns.odd_codes,
    columns.mixed,
    columns.rare_levels,
    rows.coverage,
    rows.duplicated_rows,
    rows.duplicated_columns,
    outcome.determined,
    columns.constant,
    columns.dates,
)


def audit(source: Audited) -> Audit:
    """Examine a table before anything is learned from it.

    Nothing said holds a cell of fewer than 11 subjects, an extreme, or a row.
    """
    sight = Sight(source.table, source.cells, source.renamed)
    names = [column.name for column in source.table.schema]
    if looks_like_data(names):
        # the names are somebody's cells: say nothing that would show them
        return Audit(sight.table.n_rows, sight.n_subjects, (), (_no_header(len(names)),))
    findings = [finding for check in CHECKS for finding in check(sight)]
    return Audit(
        sight.table.n_rows, sight.n_subjects, columns.profiles(sight), worst_first(findings)
    )


def _no_header(n_columns: int) -> Finding:
    return Finding(
        "stop",
        "header",
        (),
        f"the names of the {n_columns} columns look like cells: the file seems to have no header",
        "add a first line with the columns' names",
    )
