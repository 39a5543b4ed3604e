"""The codes of an OMOP CDM, found by a survey of its rows, range of persons after range.

A survey counts and never keeps a row: which concepts in which units there are, whether they have
numbers and with how many decimals, and which answers repeat among persons.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from manikin.data.codes import Clock, Code, EventSchema
from manikin.data.schema import TableSchema
from manikin.io.omop.concepts import Concepts
from manikin.io.omop.persons import BIRTH, SEX
from manikin.io.omop.rows import KEY
from manikin.io.omop.tables import DEATH, KINDS, PERIOD_END, PERIOD_START

__all__ = ["LONGEST_LEVEL", "MOST_LEVELS", "SHARED_BY", "Survey", "clock_of", "decimals"]

MOST_DECIMALS = 6
MOST_LEVELS = 100  # texts of a code; one with more says something else than a level
LONGEST_LEVEL = 40  # characters
SHARED_BY = 5  # persons; a text that fewer have is theirs, and no level
MANY = 20  # so many spellings, nearly all different, name rows and not codes
MOST_KEPT = 2_000_000  # texts kept between ranges
_STEPS: tuple[tuple[Clock, int], ...] = (
    ("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000),
)  # fmt: skip


class Survey:
    """What the rows of a source are, so far."""

    def __init__(self) -> None:
        self.keys: pl.DataFrame | None = None
        self.levels: pl.DataFrame | None = None
        self.finer: set[Clock] = set()  # steps between which times lie
        self.periods = False

    def add(self, rows: pl.DataFrame, *, periods: bool) -> None:
        """Take rows of persons into account who were in no rows before."""
        self.periods |= periods
        self.finer |= {name for name, step in _STEPS if _has_finer(rows, step)}
        value = pl.col("value")
        keys = rows.group_by(KEY).agg(
            pl.len().alias("rows"),
            value.count().alias("numbers"),
            decimals(value).max().alias("decimals"),
        )
        text = pl.col("text")
        short = text.str.len_chars() <= LONGEST_LEVEL
        said = rows.filter(pl.col("answer").is_not_null() | short.fill_null(False))
        answer = pl.col("answer")
        said = said.with_columns(pl.when(answer.is_null()).then(text).alias("text"))
        levels = said.group_by([*KEY, "answer", "text"]).agg(
            pl.col("person").n_unique().alias("persons")
        )
        if self.keys is None or self.levels is None:
            self.keys, self.levels = keys, levels
            return
        stacked = pl.concat([self.keys, keys]).group_by(KEY)
        self.keys = stacked.agg(pl.col("rows", "numbers").sum(), pl.col("decimals").max())
        both = pl.concat([self.levels, levels]).group_by([*KEY, "answer", "text"])
        self.levels = both.agg(pl.col("persons").sum())
        if self.levels.height > MOST_KEPT:
            self.levels = self.levels.filter(pl.col("persons") > 1)

    def schema(
        self, concepts: Concepts, static: TableSchema
    ) -> tuple[EventSchema, pl.DataFrame, dict[str, dict[str, int]]]:
        """Return the schema, the place of each key's code, and numbers of units and answers."""
        numbers: dict[str, dict[str, int]] = {"units": {}, "answers": {}}
        keys = self.keys
        if keys is None or self.levels is None or keys.height == 0:
            places = pl.DataFrame(schema={**dict.fromkeys(KEY, pl.Null), "place": pl.Int32})
            return _schema([], static, "day"), places, numbers
        keys = _without_names(keys.sort(KEY, nulls_last=True))
        concepts.learn([*keys["concept"], *keys["unit_concept"]])
        concepts.learn(self.levels["answer"].drop_nulls())
        parents = concepts.parents(keys["concept"].unique().to_list())
        levels = self._levels_of(concepts)
        codes: dict[tuple[str, str, str], Code] = {}
        keyed = []
        for row in keys.iter_rows(named=True):
            domain = KINDS[row["kind"]].domain
            name, label, number = _named(row, domain, concepts)
            unit = concepts.unit(row["unit_concept"]) if row["unit_concept"] else row["unit"] or ""
            if row["unit_concept"] and unit:
                numbers["units"][unit] = row["unit_concept"]
            found = Code(
                name, domain, label, unit, numeric=row["numbers"] > 0,
                decimals=int(row["decimals"] or 0),
                levels=levels.get(tuple(row[k] for k in KEY), ()),
                parents=parents.get(number, ()), concept=number,
            )  # fmt: skip
            before = codes.get(found.key)
            codes[found.key] = found if before is None else _merged(before, found)
            keyed.append(found.key)
        ordered = sorted(codes.values(), key=lambda code: (code.domain, code.name, code.unit))
        ordered += [Code(n) for n in (PERIOD_START, PERIOD_END) if self.periods]
        place = {code.key: i for i, code in enumerate(ordered)}
        found_at = pl.Series("place", [place[key] for key in keyed], pl.Int32)
        # a layout may stand in a model's file: an answer of few persons is not told there
        shared = self.levels.filter(pl.col("persons") >= SHARED_BY)["answer"]
        for number in shared.drop_nulls().unique().sort().to_list():
            numbers["answers"][concepts[number].name] = number
        clock: Clock = next((name for name, _ in _STEPS if name not in self.finer), "us")
        original = keys.select(*KEY[:2], pl.col("as_spelled").alias("spelled"), *KEY[3:])
        return _schema(ordered, static, clock), original.with_columns(found_at), numbers

    def _levels_of(self, concepts: Concepts) -> dict[tuple[object, ...], tuple[str, ...]]:
        """Return the levels of each key: entries of vocabularies, and texts that repeat."""
        assert self.levels is not None
        kept = self.levels.filter(
            pl.col("answer").is_not_null() | (pl.col("persons") >= SHARED_BY)
        ).sort("persons", descending=True)
        found: dict[tuple[object, ...], dict[str, None]] = {}
        for row in kept.iter_rows(named=True):
            level = row["text"] if row["answer"] is None else concepts[row["answer"]].name
            found.setdefault(tuple(row[k] for k in KEY), {})[level] = None
        return {key: tuple(sorted(list(levels)[:MOST_LEVELS])) for key, levels in found.items()}


def clock_of(rows: pl.DataFrame) -> Clock:
    """Return the finest step of the columns `time` and `ended`."""
    return next((name for name, step in _STEPS if not _has_finer(rows, step)), "us")


def _has_finer(rows: pl.DataFrame, step: int) -> bool:
    stamps = rows.select(pl.col("time", "ended").cast(pl.Int64) % step != 0)
    return any(bool(column.any()) for column in stamps)


def decimals(value: pl.Expr) -> pl.Expr:
    """Return how many decimals a number has, at most MOST_DECIMALS."""
    places: pl.Expr = pl.lit(MOST_DECIMALS, pl.Int32)
    for digits in reversed(range(MOST_DECIMALS)):
        near = (value - value.round(digits)).abs() <= 1e-9 * pl.max_horizontal(1.0, value.abs())
        places = pl.when(near).then(pl.lit(digits, pl.Int32)).otherwise(places)
    return pl.when(value.is_not_null()).then(places)


def _without_names(keys: pl.DataFrame) -> pl.DataFrame:
    """Leave out spellings of a table that are nearly all different: they name rows or persons."""
    spelled = pl.col("spelled")
    per = keys.filter(spelled.is_not_null()).group_by("kind").agg(
        spelled.n_unique().alias("different"), pl.col("rows").sum().alias("all")
    )  # fmt: skip
    odd = per.filter(pl.col("different") >= MANY, pl.col("different") > 0.9 * pl.col("all"))["kind"]
    hidden = pl.col("kind").is_in(odd.implode())
    return keys.with_columns(
        spelled.alias("as_spelled"), pl.when(~hidden).then(spelled).alias("spelled")
    )


def _named(row: dict[str, object], domain: str, concepts: Concepts) -> tuple[str, str, int]:
    """Return a code's name, its label and its concept, 0 for none."""
    number = int(str(row["concept"]))
    if domain == "death":
        return DEATH, "Death", 0
    if number > 0:
        return concepts[number].name, concepts[number].label, number
    return (str(row["spelled"]), "", 0) if row["spelled"] is not None else ("OMOP/0", "", 0)


def _merged(one: Code, other: Code) -> Code:
    return Code(
        one.name, one.domain, one.label, one.unit,
        numeric=one.numeric or other.numeric, decimals=max(one.decimals, other.decimals),
        levels=tuple(sorted({*one.levels, *other.levels})), parents=one.parents or other.parents,
        concept=one.concept or other.concept,
    )  # fmt: skip


def _schema(codes: Sequence[Code], static: TableSchema, clock: Clock) -> EventSchema:
    return EventSchema(
        static,
        tuple(codes),
        birth=BIRTH if BIRTH in static else "",
        sex=SEX if SEX in static else "",
        clock=clock,
    )
