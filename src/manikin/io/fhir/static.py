"""What Patients say of themselves, as the static table of histories."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import SchemaError
from manikin.io.fhir.facts import Person
from manikin.io.fhir.patients import genders_of, standard_places
from manikin.io.fhir.times import NOT_A_TIME, parse_time

__all__ = ["BIRTH", "SEX", "static_schema", "static_table"]

SEX, BIRTH = "sex", "birth"
_WHOLE = re.compile(r"-?\d{1,19}")  # microseconds since 1970, of a year beyond FHIR's
_SAID = ("race", "ethnicity", "marital_status")
_REASON = "stands in the Patient"


def static_schema(people: Sequence[Person]) -> TableSchema:
    """Return the columns that Patients have something in."""
    columns = []
    if sexes := sorted({person.gender for person in people if person.gender}):
        columns.append(_categorical(SEX, sexes))
    births = [person.birth for person in people if person.birth != NOT_A_TIME]
    if births:
        whole = not any(birth % 86_400_000_000 for birth in births)
        pattern = "%Y-%m-%d" if whole else "%Y-%m-%d %H:%M:%S"
        columns.append(
            Column(BIRTH, "datetime", date_format=pattern, reason=f"datetime: {_REASON}")
        )
    for name in _SAID:
        if texts := sorted({person.said[name] for person in people if name in person.said}):
            columns.append(_categorical(name, texts))
    met: dict[str, dict[str, set[str]]] = {}
    for person in people:
        for name, kind, value in person.static:
            met.setdefault(name, {}).setdefault(kind, set())
            if kind == "valueString":
                met[name][kind].add(str(value))
    taken = {column.name for column in columns}
    columns += [_column(name, kinds) for name, kinds in met.items() if name not in taken]
    return TableSchema(tuple(columns))


def _categorical(name: str, texts: Sequence[str]) -> Column:
    return Column(name, "categorical", categories=tuple(texts), reason=f"categorical: {_REASON}")


def _column(name: str, kinds: Mapping[str, set[str]]) -> Column:
    """Return the column of a fact of which no schema is known, by the kinds of its values."""
    if "valueDecimal" in kinds or "valueInteger" in kinds:
        return Column(name, "continuous", decimals=6, reason=f"continuous: {_REASON}")
    if "valueDateTime" in kinds:
        return Column(name, "datetime", date_format="%Y-%m-%d %H:%M:%S",
                      reason=f"datetime: {_REASON}")  # fmt: skip
    if "valueBoolean" in kinds:
        return Column(name, "boolean", categories=("false", "true"), reason=f"boolean: {_REASON}")
    return _categorical(name, sorted(kinds.get("valueString", ())))


def static_table(
    people: Sequence[Person], subjects: NDArray[np.int64], schema: EventSchema
) -> Table:
    """Return the table that a schema says, a row a Patient.

    Raises SchemaError, with counts, for what the schema has no place for.
    """
    places = standard_places(schema.static.learned)
    facts: dict[str, list[tuple[int, str, Any]]] = {}
    for row, person in enumerate(people):
        for name, kind, value in person.static:
            facts.setdefault(name, []).append((row, kind, value))
    columns: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}
    for column in schema.static.learned:
        told = facts.get(column.name, [])
        told = _standard(people, column, schema, places) + told
        columns[column.name] = _values(column, told, len(people))
        if len(column.tokens) > 1:
            states[column.name] = _states(column, columns[column.name], told)
    return Table(schema.static, subjects, columns, states)


def _standard(
    people: Sequence[Person], column: Column, schema: EventSchema, places: Mapping[str, str]
) -> list[tuple[int, str, Any]]:
    """Return what stands of a column in its standard place."""
    if column.name == schema.birth and column.kind == "datetime":
        return [(row, "moment", person.birth) for row, person in enumerate(people)]
    if column.name in places:
        said = places[column.name]
        return [(row, "valueString", person.said[said])
                for row, person in enumerate(people) if said in person.said]  # fmt: skip
    if column.name != schema.sex or not column.is_coded:
        return []
    genders, apart = genders_of(column)
    spelled = dict(zip(genders, column.categories, strict=True)) if apart else {}
    stated = {row for row, p in enumerate(people) for name, kind, _ in p.static
              if name == column.name and kind != "valueCode"}  # fmt: skip
    return [(row, "valueString", spelled.get(person.gender, person.gender))
            for row, person in enumerate(people)
            if person.gender and row not in stated]  # fmt: skip


def _values(column: Column, told: list[tuple[int, str, Any]], n: int) -> NDArray[Any]:
    told = [(row, kind, value) for row, kind, value in told if kind != "valueCode"]
    if column.is_coded:
        return _codes(column, told, n)
    if column.kind == "datetime":
        moments = np.full(n, NOT_A_TIME)
        for row, kind, value in told:
            if kind == "moment":
                moments[row] = value
            elif kind == "valueDateTime":
                moments[row] = parse_time(value)[0]
            elif (
                kind == "valueString"
                and _WHOLE.fullmatch(value)
                and NOT_A_TIME < int(value) < -NOT_A_TIME
            ):
                moments[row] = int(value)
            else:
                raise _strange(column)
        return moments.view("datetime64[us]")
    numbers = np.full(n, np.nan)
    for row, kind, value in told:
        if kind == "valueString" and value in ("Infinity", "-Infinity"):
            numbers[row] = np.inf if value == "Infinity" else -np.inf
        elif kind not in ("valueDecimal", "valueInteger"):
            raise _strange(column)
        else:
            numbers[row] = float(value)
    return numbers


def _codes(column: Column, told: list[tuple[int, str, Any]], n: int) -> NDArray[np.int32]:
    place = {category: i for i, category in enumerate(column.categories)}
    codes = np.full(n, -1, np.int32)
    strange = 0
    for row, kind, value in told:
        found = place.get(value, -1) if kind == "valueString" else int(value)
        strange += not 0 <= found < len(place)
        codes[row] = found
    if strange:
        raise SchemaError(
            f"{strange:,} Patients with a value of '{column.name}' that is none of its categories",
            f"its {len(place)} categories",
            "add them to the schema, or read without one",
        )
    return codes


def _states(
    column: Column, values: NDArray[Any], told: list[tuple[int, str, Any]]
) -> NDArray[np.int8]:
    tokens = {str(number): number for number in range(1, len(column.tokens) + 1)}
    if values.dtype.kind == "i":
        missing = values < 0
    else:
        missing = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
    states = missing.astype(np.int8)
    for row, kind, value in told:
        if kind == "valueCode" and value in tokens:
            states[row] = tokens[value]
    return states


def _strange(column: Column) -> SchemaError:
    return SchemaError(
        f"Patients with a value of '{column.name}' that is of another kind",
        f"a {column.kind} column",
        "correct the schema, or read without one",
    )
