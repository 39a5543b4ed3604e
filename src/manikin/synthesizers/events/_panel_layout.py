"""Between histories and sheets: how static facts, anchors and cells are written as events."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizer import Model
from manikin.synthesizers.events._panel_channels import Channel, Sheet

__all__ = ["Layout", "joined"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How a sheet is written as histories."""

    source: EventSchema
    channels: tuple[Channel, ...]
    unit_us: int
    numbered: bool  # whether events bear the number of their visit

    @property
    def anchor(self) -> str:
        """Name of the column that holds the anchor, beside the static ones."""
        name = "first visit"
        while name in self.source.static:
            name += "_"
        return name

    def with_anchor(self, static: Table, some: NDArray[np.bool_], anchor: Ints) -> Table | None:
        """Return static facts with anchors beside them; None where there is neither."""
        columns: dict[str, Any] = dict(static.columns)
        fields = list(static.schema.columns)
        if some.any():
            fields.append(Column(self.anchor, "datetime", date_format="%Y-%m-%d %H:%M:%S%.f"))
            when = (anchor * self.unit_us).astype("datetime64[us]")
            columns[self.anchor] = np.where(some, when, np.datetime64("NaT", "us"))
        if not any(column.is_learned for column in fields):
            return None
        schema = dataclasses.replace(static.schema, columns=tuple(fields))
        return Table(schema, static.subjects, columns, static.states)

    def parted(
        self, table: Model[Table] | None, n: int, seed: int
    ) -> tuple[Table, Ints, NDArray[np.bool_]]:
        """Draw subjects: static facts, anchors, and who has any visit."""
        if table is None:
            none = np.zeros(n, np.int64)
            return Table(self.source.static, np.arange(n), {}), none, none > 0
        return self.apart(table.sample(n, seed=seed))

    def apart(self, drawn: Table) -> tuple[Table, Ints, NDArray[np.bool_]]:
        """Take static facts and anchors apart."""
        n = drawn.n_rows
        anchor, some = np.zeros(n, np.int64), np.zeros(n, bool)
        if self.anchor in drawn.schema:
            when = drawn.columns[self.anchor].astype("datetime64[us]")
            some = ~np.isnat(when)
            anchor[some] = when[some].astype(np.int64) // self.unit_us
        fields = tuple(c for c in drawn.schema.columns if c.name != self.anchor)
        schema = dataclasses.replace(drawn.schema, columns=fields)
        columns = {c.name: drawn.columns[c.name] for c in schema.learned}
        states = {name: s for name, s in drawn.states.items() if name in columns}
        return Table(schema, np.arange(n), columns, states), anchor, some

    def final(self, table: Model[Table] | None) -> tuple[Layout, dict[int, int]]:
        """Return the layout of what is drawn, and where its codes are now.

        Its schema knows the codes and levels that enough subjects share, or all if it is declared.
        """
        static = self.source.static
        if table is not None:
            assert isinstance(table.schema, TableSchema)
            kept = tuple(c for c in table.schema.columns if c.name != self.anchor)
            static = dataclasses.replace(table.schema, columns=kept)
        used = sorted({channel.code for channel in self.channels})
        codes = list(self.source.codes)
        if not self.source.declared:
            for i in used:
                levels = {t for c in self.channels if c.code == i for t in c.levels}
                kept_levels = tuple(t for t in codes[i].levels if t in levels)
                codes[i] = dataclasses.replace(codes[i], levels=kept_levels)
            codes = [codes[i] for i in used]
        else:
            used = list(range(len(codes)))
        places = {code: i for i, code in enumerate(used)}
        schema = dataclasses.replace(self.source, static=static, codes=tuple(codes))
        moved = tuple(dataclasses.replace(c, code=places[c.code]) for c in self.channels)
        return Layout(schema, moved, self.unit_us, self.numbered), places

    def events(self, static: Table, whose: Ints, sheet: Sheet, before: Ints | int = 0) -> Events:
        """Return histories: `whose` says the row of `static` of each subject of the sheet."""
        texts = tuple(dict.fromkeys(t for c in self.channels for t in c.levels))
        groups: dict[tuple[int, int], dict[str, int]] = {}
        for j, channel in enumerate(self.channels):
            groups.setdefault((channel.code, channel.repeat), {})[channel.part] = j
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
        number = sheet.place + before
        schema = dataclasses.replace(self.source, static=static.schema)
        for (code, _), parts in groups.items():
            said = [parts[part] for part in ("number", "level", "bare") if part in parts]
            if not said:  # its end only may be told: too few have one state of it in common
                continue
            rows = np.flatnonzero(~np.isnan(sheet.cells[:, said]).all(1))
            after = max(self.channels[j].after_units for j in said)
            if self.source.codes[code].domain == "death":  # nothing of the visit comes after it
                after = max(channel.after_units for channel in self.channels)
            time = (sheet.time[rows] + after) * self.unit_us
            value, text = np.full(rows.size, np.nan), np.full(rows.size, -1, np.int32)
            end = np.full(rows.size, "NaT", "datetime64[us]")
            if "number" in parts:
                value = sheet.cells[rows, parts["number"]]
                value = _bounded(value, self.source.codes[code])
            if "level" in parts:
                levels = self.channels[parts["level"]].levels
                of = np.array([*(texts.index(t) for t in levels), -1], np.int32)
                at = sheet.cells[rows, parts["level"]]
                text = of[np.where(np.isnan(at), len(levels), at).astype(np.int64)]
            if "length" in parts:
                long = sheet.cells[rows, parts["length"]]
                known = ~np.isnan(long)
                ends = time[known] + long[known].astype(np.int64) * self.unit_us
                end[known] = ends.astype("datetime64[us]")
            made = (whose[sheet.whose[rows]], time.astype("datetime64[us]"),
                    np.full(rows.size, code, np.int32), value, text, end,
                    number[rows] if self.numbered else np.full(rows.size, -1))  # fmt: skip
            for name, values in zip(_COLUMNS, made, strict=True):
                columns[name].append(values)
        if not columns["whose"]:
            return Events.of(schema, static, [], [], [])
        joined = {name: np.concatenate(values) for name, values in columns.items()}
        return Events.of(schema, static, **joined, texts=texts)


_COLUMNS = ("whose", "time", "code", "value", "text", "end", "visit")


def _bounded(values: Floats, code: Code) -> Floats:
    """Keep numbers within the public bounds of their code."""
    low = -np.inf if code.minimum is None else code.minimum
    high = np.inf if code.maximum is None else code.maximum
    return np.asarray(np.clip(values, low, high))


def joined(parts: list[Events]) -> Events:
    """Stack events of the same subjects, who ascend from part to part."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS
    }
    return dataclasses.replace(parts[0], **columns)
