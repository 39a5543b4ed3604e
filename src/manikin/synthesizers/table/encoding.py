"""The shared encoder of tables: every learned column as a finite code, and back.

`Encoding.fit` decides, per column, the cells of `_cells` (missing marks, atoms, gridded and
ungridded cells; no number of fewer than `k` subjects is kept as it stands, and no level of fewer
than `k - 2`) and finds the columns that need no model (`_structure`). Dates become numbers, at the
resolution seen (`_dates`). `encode` gives integer codes (rows, columns), `decode` a table in which
derived columns, schema bounds and declared rules hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.privacy.cells import subjects_per_cell
from manikin.synthesizer import State
from manikin.synthesizers.table._cells import (
    Cells,
    learn_coded,
    learn_numeric,
    restore_cells,
)
from manikin.synthesizers.table._dates import Dates, hardly_changes, learn_dates
from manikin.synthesizers.table._spellings import without_rare_spellings
from manikin.synthesizers.table._structure import (
    ECHO,
    Constant,
    Derived,
    Function,
    Linear,
    find_echoes,
    find_functions,
    find_linear,
    from_json,
    to_json,
)

__all__ = ["Encoding"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Encoding:
    """A fitted encoder: `names[j]` is column j of the codes, `cells[j]` what its codes mean."""

    schema: TableSchema
    names: tuple[str, ...]  # modelled columns, in source order
    cells: tuple[Cells, ...]
    function_cells: Mapping[str, Cells]  # of columns derived as a Function
    derived: tuple[Derived, ...]  # in an order in which they can be derived
    dates: Dates
    static: tuple[bool, ...]  # the column (hardly) ever changes within a subject: it is made not to
    echoes: Mapping[str, str]  # column → the modelled column whose value its ECHO code repeats

    @staticmethod
    def fit(table: Table, *, seed: int, k: int = 5) -> Encoding:
        """Learn the code of every column; `k` subjects share what is kept (of levels, k - 2 to k).

        The schema of the encoding is the table's, without the spellings that are not kept.
        """
        if table.n_rows == 0 or not table.schema.learned:
            raise InputError(
                "a table without rows"
                if table.n_rows == 0
                else "a table without a column to learn: identifiers and texts are set aside",
                "at least one row, and one column that tells of persons",
                "see why with: manikin audit; give a column's kind in the schema file",
            )
        k = max(2, min(k, table.n_subjects // 10))
        dates = learn_dates(table)
        numbers = {c.name: _numbers(table, c, dates) for c in table.schema.learned}
        states = {c.name: table.state(c.name) for c in table.schema.learned}
        for name in _unshared(table):
            numbers[name] = np.full(table.n_rows, np.nan)
            states[name] = np.ones(table.n_rows, np.int8)
        linear = _linear(table, numbers, states)
        echoes = _echoes(table, numbers, states, linear)
        for name, source in echoes.items():
            states[name] = _echoing(numbers[name], numbers[source], states[name], states[source])
        rng = generator(seed, "encoding")
        cells = {
            column.name: _learn(column, numbers[column.name], states[column.name], table, k, rng)
            for column in table.schema.learned
            if column.name not in linear
        }
        constant = [
            _constant(name, c, rng) for name, c in cells.items() if c.size == 1 and c.atoms[0]
        ]
        varying = [name for name in cells if name not in {c.name for c in constant}]
        coded = [cells[name].encode(numbers[name], states[name], rng) for name in varying]
        codes = np.stack(coded, axis=1) if coded else np.zeros((table.n_rows, 0), np.int32)
        sources = {line.source for line in linear.values()} | set(echoes.values())
        functions = find_functions(
            codes,
            np.array([cells[name].size for name in varying]),
            np.array([bool(cells[name].atoms.all()) for name in varying]),
            [_may_be_derived(table.schema[name]) and name not in sources for name in varying],
        )
        derived: list[Derived] = list(constant)
        derived += [
            Function(varying[j], varying[s], tuple(int(i) for i in image))
            for j, (s, image) in functions.items()
        ]
        derived += list(linear.values())
        kept = [j for j in range(len(varying)) if j not in functions]
        return Encoding(
            without_rare_spellings(table.schema, cells),
            tuple(varying[j] for j in kept),
            tuple(cells[varying[j]] for j in kept),
            {varying[j]: cells[varying[j]] for j in functions},
            tuple(derived),
            dates,
            tuple(hardly_changes(codes[:, j], table.subjects) for j in kept),
            {name: source for name, source in echoes.items() if name in varying},
        )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of codes of each modelled column."""
        return np.array([cells.size for cells in self.cells], dtype=np.int64)

    def index(self, name: str) -> int | None:
        """Return the position of a modelled column, None for a derived one."""
        return self.names.index(name) if name in self.names else None

    def encode(self, table: Table, *, seed: int) -> Codes:
        """Return the codes of a table, (rows, columns); its schema may lack modelled columns.

        A column that the table lacks is coded -1.
        """
        rng = generator(seed, "encode")
        codes = np.full((table.n_rows, len(self.names)), -1, np.int32)
        for j, (name, cells) in enumerate(zip(self.names, self.cells, strict=True)):
            if name in table.columns:
                numbers = _numbers(table, self.schema[name], self.dates)
                states = table.state(name)
                source = self.echoes.get(name)
                if source is not None and source in table.columns:
                    other = table.numbers(source)
                    states = _echoing(numbers, other, states, table.state(source))
                codes[:, j] = cells.encode(numbers, states, rng)
        return codes

    def echoing(self, name: str, codes: Codes) -> NDArray[np.bool_]:
        """Return which rows of codes (rows, columns) repeat the value of another column."""
        at = self.index(name)
        if at is not None:
            cells, own = self.cells[at], codes[:, at]
        else:
            item = next(d for d in self.derived if isinstance(d, Function) and d.name == name)
            cells = self.function_cells[name]
            own = np.array(item.image, np.int32)[codes[:, self.names.index(item.source)]]
        repeats = np.append(cells.tokens, np.zeros(cells.size - cells.n_tokens, np.int64)) == ECHO
        return np.asarray(repeats[own])

    def scores(self, codes: Codes) -> Floats:
        """Return codes as normal scores of their mid-ranks in training, (rows, columns)."""
        scored = np.empty(codes.shape)
        for j, cells in enumerate(self.cells):
            scored[:, j] = normal_scores(cells.counts)[codes[:, j]]
        return scored

    def decode(
        self,
        codes: Codes,
        subjects: NDArray[np.int64],
        *,
        seed: int,
        positions: Mapping[str, Floats] | None = None,
    ) -> Table:
        """Return the table of codes (rows, columns), derived columns and rules included.

        `positions` in [0, 1) place values of some columns within their cells; others are drawn.
        """
        rng = generator(seed, "decode")
        numbers: dict[str, Floats] = {}
        states: dict[str, NDArray[np.int8]] = {}
        for j, (name, cells) in enumerate(zip(self.names, self.cells, strict=True)):
            where = positions.get(name) if positions is not None else None
            numbers[name], states[name] = cells.decode(codes[:, j], rng, where)
        self._echo(numbers, states, [name for name in self.echoes if name in self.names])
        for item in self.derived:
            if isinstance(item, Constant):
                number = np.nan if item.state else item.number
                numbers[item.name] = np.full(subjects.shape, number)
                states[item.name] = np.full(subjects.shape, item.state, np.int8)
            elif isinstance(item, Function):
                image = np.array(item.image, np.int32)[codes[:, self.names.index(item.source)]]
                numbers[item.name], states[item.name] = self.function_cells[item.name].decode(
                    image, rng
                )
            else:
                line = item.intercept + item.slope * numbers[item.source]
                numbers[item.name] = np.round(line, self.schema[item.name].decimals)
                states[item.name] = states[item.source]
        # a column may repeat another's value and be the image of a third's code
        self._echo(numbers, states, [name for name in self.echoes if name not in self.names])
        return self._table(numbers, states, subjects)

    def _echo(
        self, numbers: dict[str, Floats], states: dict[str, NDArray[np.int8]], names: list[str]
    ) -> None:
        """Replace the mark that a value repeats another column's by that value."""
        for name in names:
            source = self.echoes[name]
            repeats = states[name] == ECHO
            numbers[name] = np.where(repeats, numbers[source], numbers[name])
            states[name] = np.where(repeats, states[source], states[name])

    def _table(
        self,
        numbers: Mapping[str, Floats],
        states: Mapping[str, NDArray[np.int8]],
        subjects: NDArray[np.int64],
    ) -> Table:
        anchor = self.dates.anchor
        anchor_s = None
        if anchor is not None:
            anchor_s = self.dates.to_seconds(anchor, numbers[anchor], None)
        columns: dict[str, NDArray[Any]] = {}
        for column in self.schema.learned:
            values = numbers[column.name]
            if column.kind == "datetime":
                values = self.dates.to_seconds(column.name, values, anchor_s)
            columns[column.name] = _as_stored(values, column)
        several = {c.name: states[c.name] for c in self.schema.learned if len(c.tokens) > 1}
        return Table(self.schema, subjects, columns, several)

    def state(self, prefix: str = "encoding/") -> State:
        """Return arrays and JSON values; the schema is kept beside them by the model file."""
        arrays: dict[str, NDArray[Any]] = {}
        both = dict(zip(self.names, self.cells, strict=True)) | dict(self.function_cells)
        order = list(both)
        for j, name in enumerate(order):
            for part, array in both[name].arrays().items():
                arrays[f"{prefix}{j}/{part}"] = array
        dates = self.dates
        values = {
            "columns": order,
            "ordered": [bool(both[name].ordered) for name in order],
            "modelled": len(self.names),
            "static": list(self.static),
            "derived": [to_json(item) for item in self.derived],
            "echoes": dict(self.echoes),
            "dates": [
                dates.anchor,
                dates.origin_s,
                dict(dates.unit_s),
                dates.typical,
                list(dates.alone),
            ],
        }
        return State(arrays, {prefix.rstrip("/"): values})

    @staticmethod
    def restore(schema: TableSchema, state: State, prefix: str = "encoding/") -> Encoding:
        """Rebuild the encoding whose `state` this is."""
        values = state.values[prefix.rstrip("/")]
        cells: dict[str, Cells] = {}
        for j, name in enumerate(values["columns"]):
            start = f"{prefix}{j}/"
            parts = {
                k.removeprefix(start): v for k, v in state.arrays.items() if k.startswith(start)
            }
            cells[name] = restore_cells(parts, ordered=values["ordered"][j])
        names = tuple(values["columns"][: values["modelled"]])
        return Encoding(
            schema,
            names,
            tuple(cells[name] for name in names),
            {name: cells[name] for name in values["columns"][values["modelled"] :]},
            tuple(from_json(item) for item in values["derived"]),
            Dates(*values["dates"]),
            tuple(values["static"]),
            values["echoes"],
        )


def normal_scores(counts: NDArray[np.int64]) -> Floats:
    """Return the normal score of each code's mid-rank."""
    total = max(float(counts.sum()), 1.0)
    middle = (np.cumsum(counts) - 0.5 * counts) / total
    return np.asarray(ndtri(np.clip(middle, 0.25 / total, 1 - 0.25 / total)), dtype=np.float64)


# ------------------------------------------------------------------ one column at a time


def _numbers(table: Table, column: Column, dates: Dates) -> Floats:
    if column.kind == "datetime":
        return dates.to_numbers(column.name, table)
    return table.numbers(column.name)


def _unshared(table: Table) -> list[str]:
    """Return the category columns of an inferred schema of which no level has two subjects.

    Such levels are names, numbers or places of people. There is none that could stand in for the
    others, so these columns come out without a value.
    """
    if table.schema.declared or table.n_subjects < 2:
        return []
    coded = [c for c in table.schema.learned if c.is_coded and table.present(c.name).any()]
    return [c.name for c in coded if _most_subjects(table, c) < 2]


def _most_subjects(table: Table, column: Column) -> int:
    present = table.present(column.name)
    labels = table.columns[column.name][present]
    held = subjects_per_cell(labels, table.subjects[present], int(labels.max()) + 1)
    return int(held.max())


def _learn(
    column: Column,
    numbers: Floats,
    states: NDArray[np.int8],
    table: Table,
    k: int,
    rng: np.random.Generator,
) -> Cells:
    if column.is_coded:
        return learn_coded(
            numbers, states, table.subjects, column.categories,
            ordered=column.kind in ("ordinal", "boolean"), k=k, rng=rng,
        )  # fmt: skip
    dated = column.kind == "datetime"
    return learn_numeric(
        numbers, states, table.subjects,
        decimals=0 if dated or column.kind == "integer" else column.decimals,
        least=None if dated else column.minimum,
        most=None if dated else column.maximum,
        k=k, rng=rng,
    )  # fmt: skip


def _linear(
    table: Table, numbers: Mapping[str, Floats], states: Mapping[str, NDArray[np.int8]]
) -> dict[str, Linear]:
    """Return linear images among number columns; columns with a role are kept as sources."""
    able = [c for c in table.schema.learned if c.kind in ("continuous", "integer")]
    able.sort(key=lambda c: (_may_be_derived(c), -c.decimals))
    found = find_linear(
        {c.name: numbers[c.name] for c in able},
        {c.name: states[c.name] for c in able},
        {c.name: c.decimals for c in able},
    )
    return {name: line for name, line in found.items() if _may_be_derived(table.schema[name])}


def _echoes(
    table: Table,
    numbers: Mapping[str, Floats],
    states: Mapping[str, NDArray[np.int8]],
    linear: Mapping[str, Linear],
) -> dict[str, str]:
    able = [c for c in table.schema.learned if c.kind in ("continuous", "integer")]
    able = [c for c in able if c.name not in linear]
    able.sort(key=_may_be_derived)
    return find_echoes({c.name: numbers[c.name] for c in able}, states)


def _echoing(
    numbers: Floats, source: Floats, states: NDArray[np.int8], others: NDArray[np.int8]
) -> NDArray[np.int8]:
    same = (numbers == source) & (states == 0) & (others == 0)
    return np.where(same, np.int8(ECHO), states)


def _may_be_derived(column: Column) -> bool:
    """Whether the column may be left out of modelling: outcomes never are."""
    return not {"target", "time", "event"} & set(column.roles)


def _constant(name: str, cells: Cells, rng: np.random.Generator) -> Constant:
    numbers, states = cells.decode(np.zeros(1, np.int32), rng)
    return Constant(name, float(np.nan_to_num(numbers[0])), int(states[0]))


def _as_stored(numbers: Floats, column: Column) -> NDArray[Any]:
    """Return numbers (NaN for none) in the array type of the column's kind."""
    missing = np.isnan(numbers)
    if column.is_coded:
        return np.where(missing, -1, np.nan_to_num(numbers)).astype(np.int32)
    if column.kind == "datetime":
        whole = np.rint(np.nan_to_num(numbers) * 1e6).astype(np.int64).astype("datetime64[us]")
        return np.where(missing, np.datetime64("NaT", "us"), whole)
    least = -np.inf if column.minimum is None else column.minimum
    most = np.inf if column.maximum is None else column.maximum
    return np.asarray(np.clip(numbers, least, most), dtype=np.float64)
