"""From what reading held to histories: references resolved, visits numbered, codes named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError
from manikin.io.fhir.codebook import Known, codes_of
from manikin.io.fhir.extract import Extract
from manikin.io.fhir.facts import NEVER, Person
from manikin.io.fhir.static import BIRTH, SEX, static_schema, static_table
from manikin.io.fhir.times import NOT_A_TIME, clock_of, commonest, offset_name, on_one_clock

__all__ = ["Built", "Dangling", "build"]

Dangling = Literal["refuse", "keep"]


@dataclass(frozen=True)
class Built:
    """Histories, and what is to be known of where they came from."""

    events: Events
    ids: tuple[str, ...]
    notes: tuple[str, ...]
    layout: dict[str, Any]


class _Broken:
    """Counts references that lead nowhere, and refuses them unless they are to be kept."""

    def __init__(self, dangling: Dangling) -> None:
        self.dangling, self.counts = dangling, dict[str, int]()

    def add(self, count: int, what: str) -> None:
        if count:
            self.counts[what] = count

    def check(self) -> tuple[str, ...]:
        """Return notes. Raises InputError."""
        told = tuple(f"{count:,} {what}" for what, count in self.counts.items())
        if told and self.dangling == "refuse":
            raise InputError(
                f"broken references: {'; '.join(told)}",
                "every resource that is referred to is there",
                "export those resources too, or keep what can be kept (dangling='keep')",
            )
        return told


def build(
    read: Extract, *, schema: EventSchema | None, known: Known | None, dangling: Dangling
) -> Built:
    """Put histories together; `schema` is None where codes are to be made of what was met."""
    broken = _Broken(dangling)
    lost = _finish(read, broken)
    columns = {name: read.facts.column(name) for name in
               ("patient", "encounter", "ident", "time", "end", "offset", "end_offset", "code",
                "value", "text", "rank", "visit")}  # fmt: skip
    people, whose = _people(read, columns, broken)
    if known is not None:
        known.check(int((columns["code"] < 0).sum()) - len(lost))
        whose[lost] = -1  # no schema has a code for what nobody can name
    kept = _once(columns, whose, read)
    del columns["patient"], columns["ident"]
    if kept.size < whose.size:
        columns = {name: values[kept] for name, values in columns.items()}
        whose = whose[kept]
    del kept
    visit = _visits(read, columns, whose, people, broken)
    notes = [*broken.check(), *(f"{count:,} {what}" for what, count in read.notes.items())]
    offset = commonest((columns["offset"], columns["end_offset"]))
    time, moved = on_one_clock(columns["time"], columns["offset"], offset)
    end, more = on_one_clock(columns["end"], columns["end_offset"], offset)
    if moved := moved + more:
        notes.append(f"{moved:,} times of another zone, put on the clock of the commonest offset")
    layout: dict[str, Any] = {"offset": offset_name(offset), "kinds": {}, "categories": {}}
    persons, numbers, ids = _numbered(list(people.values()), read)
    place = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")
    numbers = np.sort(numbers)
    code = columns["code"]
    if schema is None:
        made = codes_of(read.entries, code, columns["value"])
        code = made.places[code]
        layout |= {"kinds": made.kinds, "categories": made.categories}
        notes += made.notes
        static = static_schema(persons)
        birth, sex = (name if name in static else "" for name in (BIRTH, SEX))
        clock = clock_of(time, end)
        schema = EventSchema(static, made.codes, birth=birth, sex=sex, clock=clock)
    elif code.size and not (code.min() >= 0 and code.max() < len(schema)):
        raise InputError("places of codes that the manifest does not have", "its own", "export it")
    table = static_table(persons, numbers, schema)
    whose = place[whose] if place.size else whose
    order = np.lexsort((columns["rank"], time, whose))
    events = Events.of(
        schema, table, whose[order], time[order].view("datetime64[us]"), code[order],
        columns["value"][order], columns["text"][order], end[order].view("datetime64[us]"),
        visit[order], tuple(read.facts.texts),
    )  # fmt: skip
    return Built(events, ids, tuple(notes), layout)


def _finish(read: Extract, broken: _Broken) -> list[int]:
    """Give codes to what named a Medication or Device that came later, and Devices an event.

    Returns the events that have none.
    """
    lost = []
    for event, reference, kind, unit in read.pending:
        concept = read.concepts.get(read.aliases.get(reference, reference))
        if concept is None:
            lost.append(event)
            continue
        read.devices.pop(read.aliases.get(reference, reference), None)
        group = "device" if kind == "DeviceUseStatement" else "drug"
        read.facts.code[event] = read.place((group, *concept[:2], unit), kind, concept[2], None)
    broken.add(len(lost), "events whose Medication or Device is not there")
    if read.trusted:  # Devices of ours are kinds of device
        return lost
    for me, (patient, (system, code, label)) in read.devices.items():
        place = read.place(("device", system, code, None), "Device", label, None)
        read.facts.add(patient, 0, me, NEVER, NEVER, place, float("nan"), None)
    return lost


def _resolved(read: Extract, hashes: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the different references, as those of resources, and where each row's is."""
    unique, where = np.unique(hashes, return_inverse=True)
    return [read.aliases.get(one, one) for one in unique.tolist()], where


def _people(
    read: Extract, columns: Mapping[str, NDArray[Any]], broken: _Broken
) -> tuple[dict[int, Person], NDArray[np.int64]]:
    """Return all subjects, and the row of each event's; -1 for an event of nobody."""
    people = dict(read.people)
    row = {me: i for i, me in enumerate(people)}
    unique, where = _resolved(read, columns["patient"])
    counts = np.bincount(where, minlength=len(unique))
    absent = [i for i, me in enumerate(unique) if me and me not in row]
    events = int(counts[absent].sum())
    if absent:
        broken.add(events, f"events of {len(absent):,} Patients that are not there")
    nobody = [i for i, me in enumerate(unique) if not me]
    broken.add(int(counts[nobody].sum()), "events without a Patient, which no history can have")
    names = {read.aliases.get(me, me): name for me, name in read.seen_patients.items()}
    for i in absent:
        me = unique[i]
        row[me] = len(row)
        people[me] = Person(names.get(me, ""), None, "", "", NOT_A_TIME, {}, ())
    rows = np.array([row.get(me, -1) for me in unique], np.int64)
    return people, rows[where] if rows.size else where.astype(np.int64)


def _once(
    columns: Mapping[str, NDArray[Any]], whose: NDArray[np.int64], read: Extract
) -> NDArray[np.int64]:
    """Return the events to keep: those of somebody, and of one id the last that was read.

    Raises InputError when one id stands for events of different subjects.
    """
    ident = columns["ident"]
    rows = np.flatnonzero(whose >= 0)
    order = rows[np.argsort(ident[rows], kind="stable")]
    same = np.zeros(order.size, bool)  # as the next one
    same[:-1] = (ident[order][:-1] == ident[order][1:]) & (ident[order][:-1] != 0)
    before, after = order[:-1][same[:-1]], order[1:][same[:-1]]
    if (apart := int((whose[before] != whose[after]).sum())) > 0:
        raise InputError(
            f"{apart:,} ids of resources that stand for events of different Patients",
            "an id is given once in a source",
            "read exports of different servers one at a time",
        )
    if before.size:
        read.notes["resources whose id came again later (the last was kept)"] = int(before.size)
    return np.sort(order[~same])


def _visits(
    read: Extract,
    columns: Mapping[str, NDArray[Any]],
    whose: NDArray[np.int64],
    people: Mapping[int, Person],
    broken: _Broken,
) -> NDArray[np.int64]:
    """Return the number of each event's visit within its subject, -1 for none."""
    unique, where = _resolved(read, columns["encounter"])
    row = {me: i for i, me in enumerate(people)}
    stays = {read.aliases.get(me, me): stay for me, stay in read.stays.items()}
    there = bool(stays)
    counts = np.bincount(where, minlength=len(unique))
    absent = {me: i for i, me in enumerate(unique) if me and me not in stays}
    lost = int(counts[list(absent.values())].sum()) if absent else 0
    if there:
        broken.add(lost, f"events of {len(absent):,} Encounters that are not there")
    elif lost:
        read.notes["events of Encounters of which none is there; their visits are kept"] = lost
    if absent:  # their events still belong together
        first = np.full(len(unique), np.iinfo(np.int64).max)
        known = columns["time"] != NOT_A_TIME
        np.minimum.at(first, where[known], columns["time"][known])
        owner = np.full(len(unique), -1)
        owner[where[::-1]] = whose[::-1]  # of the first event
    index = {me: i for i, me in enumerate(stays)}
    of = np.array([row.get(read.aliases.get(p, p), -1) for p, _, _ in stays.values()]
                  + [int(owner[i]) for i in absent.values()], np.int64)  # fmt: skip
    number = np.array([n for _, n, _ in stays.values()] + [-1] * len(absent), np.int64)
    start = np.array([s for _, _, s in stays.values()]
                     + [int(first[i]) for i in absent.values()], np.int64)  # fmt: skip
    index |= {me: len(index) + i for i, me in enumerate(absent)}
    if not read.trusted:
        number = _in_order(of, start)
    place = np.array([index.get(me, -1) for me in unique], np.int64)[where]
    wrong = (place >= 0) & (of[place] != whose) if of.size else np.zeros(place.size, bool)
    broken.add(int(wrong.sum()), "events at an Encounter of another Patient")
    if of.size == 0:
        return columns["visit"].astype(np.int64)
    visit = np.where((place >= 0) & ~wrong, number[place], -1)
    return np.where(columns["visit"] >= 0, columns["visit"], visit)


def _in_order(of: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each stay among those of its subject, by start."""
    order = np.lexsort((np.arange(of.size), start, of))
    first = np.ones(of.size, bool)
    first[1:] = np.diff(of[order]) != 0
    heads = np.flatnonzero(first)
    number = np.empty(of.size, np.int64)
    number[order] = np.arange(of.size) - np.repeat(heads, np.diff([*heads, of.size]))
    return number


def _numbered(
    people: list[Person], read: Extract
) -> tuple[list[Person], NDArray[np.int64], tuple[str, ...]]:
    """Return people in the order of their numbers, the number of each, and names by number.

    Numbers are those of the manifest's writer, else they count Patients as they came.
    """
    numbers = np.array([-1 if p.number is None else p.number for p in people], np.int64)
    own = read.trusted and all(p.number is not None for p in people)
    if not own:
        return people, np.arange(len(people), dtype=np.int64), tuple(p.id for p in people)
    if np.unique(numbers).size < numbers.size:
        raise InputError("Patients that bear one number twice", "one each", "export them again")
    ranked = [people[i] for i in np.argsort(numbers, kind="stable")]
    return ranked, numbers, tuple(p.source or p.id for p in ranked)
