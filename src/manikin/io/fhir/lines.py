"""Events as FHIR resources: whole columns of JSON at a time.

Each resource is the join of fragments, most of them the same for all events of a code
(`plan`); a test holds the bytes equal to those that orjson writes of the same resource.
What has no standard element stands in one extension, `urn:manikin:fhir:event`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.io.fhir.codes import KINDS, NULL_FLAVOR, URN, Kind
from manikin.io.fhir.plan import Plan, dumps, fragment
from manikin.io.fhir.times import FIRST, LAST, NOT_A_TIME, written

__all__ = ["Resources", "Texts", "given", "joined", "odd_times", "resources"]

COMPARATORS = ("<", "<=", ">=", ">")
_ABSENT = ('{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason",'
           '"valueCode":"unknown"}]}')  # fmt: skip
_RESOLVED = ('{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical",'
             '"code":"resolved"}]}')  # fmt: skip
_AT_ENCOUNTER = (
    ',"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category",'
    '"code":"encounter-diagnosis"}]}]'
)
_DRUGS = ("MedicationRequest", "MedicationAdministration", "MedicationStatement")


@dataclass(frozen=True)
class Resources:
    """Resources of one kind."""

    kind: str
    whose: NDArray[np.int64]  # row of the subject
    lines: pl.Series  # JSON, one resource each


@dataclass(frozen=True)
class Texts:
    """The texts of a block, written once."""

    quoted: pl.Series
    compared: NDArray[np.bool_]  # whether each is a comparator; False last, for no text

    @staticmethod
    def of(events: Events) -> Texts:
        """Quote the texts of events."""
        compared = np.array([*(text in COMPARATORS for text in events.texts), False])
        return Texts(pl.Series([dumps(t) for t in events.texts], dtype=pl.String), compared)

    def gather(self, text: NDArray[np.int32]) -> pl.Series:
        """Return the JSON of each text, null for none."""
        # a null index gathers a null
        return self.quoted.gather(pl.Series(text).set(pl.Series(text < 0), None).cast(pl.UInt32))


def joined(*parts: str | pl.Expr) -> pl.Expr:
    """Return texts and columns one after another; null where a column is."""
    return pl.concat_str([pl.lit(part) if isinstance(part, str) else part for part in parts])


def given(*parts: str | pl.Expr) -> pl.Expr:
    """Return them one after another, "" where a column is null."""
    return joined(*parts).fill_null("")


def resources(events: Events, names: pl.Series, texts: Texts, plan: Plan) -> Iterator[Resources]:
    """Yield the resources of events, a kind at a time; `names` are the ids of Patients."""
    encounter, made = visits_in(events, names, plan)
    frame = _frame(events, names, texts, plan).with_columns(encounter)
    kind = plan.kind[events.code]
    if made is not None:
        yield made
    for place, name in enumerate(plan.kinds):
        rows = np.flatnonzero(kind == place)
        if rows.size:
            chosen = frame[rows] if rows.size < kind.size else frame
            lines = chosen.select(_resource(KINDS[name], plan)).to_series()
            yield Resources(name, events.whose[rows], lines)


def _frame(events: Events, names: pl.Series, texts: Texts, plan: Plan) -> pl.DataFrame:
    """Return what of each event is written, a row an event."""
    time, end = (t.astype("datetime64[us]").view(np.int64) for t in (events.time, events.end))
    value, code = events.value, events.code
    rank = np.arange(events.n_events) - events.starts[events.whose]
    finite = np.isfinite(value)
    numbers = pl.Series(np.where(finite, value, 0.0)).cast(pl.String).str.strip_suffix(".0")
    minus = (value == 0) & np.signbit(value)
    clock = plan.schema.clock
    unlike = np.where(finite, plan.unlike[1][code], plan.unlike[0][code])
    return pl.DataFrame({
        "id": names.gather(events.whose),
        "rank": rank,
        "code": code,
        "head": plan.head.gather(code),
        "start": written(events.time, clock, plan.offset),
        "stop": written(events.end, clock, plan.offset),
        "spans": (end != NOT_A_TIME) & ((time == NOT_A_TIME) | (time <= end)),
        "odd_start": odd_times(time),
        "odd_stop": odd_times(end),
        "number": pl.Series(numbers).set(pl.Series(minus), "-0.0").set(pl.Series(~finite), None),
        "endless": np.where(np.isinf(value), np.sign(np.nan_to_num(value)), 0),
        "unit": plan.unit.gather(code),
        "blank": plan.blank.gather(code),
        "text": texts.gather(events.text),
        "level": _levels(events, plan),
        "compared": texts.compared[events.text],
        "visit": events.visit,
        "unlike": unlike,
        "types": plan.types.gather(code),
    }).with_columns(
        text=pl.when(pl.col("text") != '""').then("text"), hollow=pl.col("text") == '""'
    )  # fmt: skip


def odd_times(micro: NDArray[np.int64]) -> pl.Series:
    """Return times in years that FHIR cannot write, as numbers; null for all others."""
    odd = (micro != NOT_A_TIME) & ((micro < FIRST) | (micro >= LAST))
    if not odd.any():
        return pl.Series([None], dtype=pl.String).new_from_index(0, micro.size)
    return pl.Series(micro).cast(pl.String).set(pl.Series(~odd), None)


def _levels(events: Events, plan: Plan) -> NDArray[np.bool_]:
    """Return whether each text is one of its code's levels, (events,)."""
    leveled = np.array([bool(code.levels) for code in plan.schema.codes] + [False])
    rows = np.flatnonzero((events.text >= 0) & leveled[events.code])
    found = np.zeros(events.n_events, bool)
    if rows.size:
        most = len(events.texts)
        pair = events.code[rows].astype(np.int64) * most + events.text[rows]
        seen, where = np.unique(pair, return_inverse=True)
        known = [frozenset(code.levels) for code in plan.schema.codes]
        is_level = np.array([events.texts[p % most] in known[p // most] for p in seen])
        found[rows] = is_level[where]
    return found


# -- one kind of resource -------------------------------------------------------------------------


def _resource(kind: Kind, plan: Plan) -> pl.Expr:
    column = pl.col
    me = joined(column("id"), "-", column("rank").cast(pl.String))
    about = joined(f',"{kind.subject}":{{"reference":"Patient/', column("id"), '"}')
    at = given(f',"{kind.encounter}":{{"reference":"Encounter/', column("encounter"), '"}')
    if not kind.encounter:
        at = pl.lit("")
    return joined(
        f'{{"resourceType":"{kind.name}","id":"', me, f'"{plan.meta}', *_status(kind),
        column("head"), *_types(kind), about, at, *_times(kind), *_value(kind), *_note(kind),
        _extension(kind), "}",
    )  # fmt: skip


def _status(kind: Kind) -> list[pl.Expr]:
    over, still = {
        "Encounter": ("finished", "unknown"),
        "MedicationRequest": ("completed", "unknown"),
        "MedicationStatement": ("completed", "unknown"),
        "DeviceUseStatement": ("completed", "active"),
    }.get(kind.name, ("", ""))
    ended = pl.col("stop").is_not_null()
    if kind.name == "Condition":
        status = pl.when(ended).then(pl.lit(f',"clinicalStatus":{_RESOLVED}')).otherwise(pl.lit(""))
        there = pl.col("encounter").is_not_null()
        return [status, pl.when(there).then(pl.lit(_AT_ENCOUNTER)).otherwise(pl.lit(""))]
    if not over:
        return []
    status = pl.when(ended).then(pl.lit(over)).otherwise(pl.lit(still))
    if kind.name == "Encounter":
        number = given(f',"identifier":[{{"system":"{URN}visit","value":"', _visit(), '"}]')
        return [number, joined(',"status":"', status, '"')]
    return [joined(',"status":"', status, '"')]


def _visit() -> pl.Expr:
    return pl.when(pl.col("visit") >= 0).then(pl.col("visit").cast(pl.String))


def _types(kind: Kind) -> list[pl.Expr]:
    """Return an Encounter's types: its code unless the class is it, and the event's text."""
    if kind.name != "Encounter":
        return []
    text = given(',{"text":', pl.col("text"), "}")
    both = joined(pl.when(pl.col("types") != "").then(joined(",", pl.col("types")))
                  .otherwise(pl.lit("")), text)  # fmt: skip
    return [pl.when(both != "").then(joined(',"type":[', both.str.slice(1), "]"))
            .otherwise(pl.lit(""))]  # fmt: skip


def _times(kind: Kind) -> list[pl.Expr]:
    start, stop = pl.col("start"), pl.col("stop")
    moment = given(f',"{kind.instant}":"', start, '"')
    if kind.name == "Condition":
        return [moment, given(',"abatementDateTime":"', stop, '"')]
    if kind.name == "Immunization":
        none = pl.lit(',"occurrenceString":"unknown"')
        return [pl.when(start.is_not_null()).then(moment).otherwise(none)]
    if not kind.period:
        return [moment]
    if kind.name == "Encounter":
        moment = given(',"period":{"start":"', start, '"}')
    none = pl.lit(f',"{kind.period}":{_ABSENT}' if kind.name == "MedicationAdministration" else "")
    moment = pl.when(start.is_not_null()).then(moment).otherwise(none)
    span = joined(f',"{kind.period}":{{', _span(), "}")
    return [pl.when(pl.col("spans") & stop.is_not_null()).then(span).otherwise(moment)]


def _span() -> pl.Expr:
    """Return start and end of a Period."""
    return joined(given('"start":"', pl.col("start"), '",'), '"end":"', pl.col("stop"), '"')


def _quantity() -> pl.Expr:
    return joined('{"value":', pl.col("number"), pl.col("unit"), "}")


def _value(kind: Kind) -> list[pl.Expr]:
    number, text = pl.col("number"), pl.col("text")
    if kind.name == "Immunization":
        return [given(',"doseQuantity":', _quantity())]
    if kind.name == "MedicationAdministration":
        return [given(',"dosage":{"dose":', _quantity(), "}")]
    if kind.name in _DRUGS:
        dose = given(',"doseAndRate":[{"doseQuantity":', _quantity(), "}]")
        timing: pl.Expr = pl.lit("")
        if kind.name == "MedicationRequest":
            bounds = given(',"timing":{"repeat":{"boundsPeriod":{', _span(), "}}}")
            timing = pl.when("spans").then(bounds).otherwise(pl.lit(""))
        both = joined(timing, dose)
        place = "dosageInstruction" if kind.name == "MedicationRequest" else "dosage"
        return [pl.when(both != "").then(joined(f',"{place}":[{{', both.str.slice(1), "}]"))
                .otherwise(pl.lit(""))]  # fmt: skip
    if kind.name == "DiagnosticReport":
        return [given(',"conclusion":', text)]
    if kind.name != "Observation":
        return []
    than = pl.when("compared").then(given(',"comparator":', text)).otherwise(pl.lit(""))
    quantity = joined(',"valueQuantity":{"value":', number, than, pl.col("unit"), "}")
    level = joined(',"valueCodeableConcept":{"text":', text, "}")
    words = pl.when("level").then(level).otherwise(joined(',"valueString":', text))
    return [pl.when(number.is_not_null()).then(quantity)
            .when(text.is_not_null()).then(words).otherwise(pl.col("blank"))]  # fmt: skip


def _note(kind: Kind) -> list[pl.Expr]:
    if not kind.note:
        return []
    note = given(',"note":[{"text":', pl.col("text"), "}]")
    if kind.name == "Observation":  # a text that stands beside a number, and is no comparator
        beside = pl.col("number").is_not_null() & ~pl.col("compared")
        note = pl.when(beside).then(note).otherwise(pl.lit(""))
    return [note]


def _extension(kind: Kind) -> pl.Expr:
    """Return what has no element of its own; nearly always nothing."""
    column, none = pl.col, pl.lit("")
    parts = [
        pl.when("unlike").then(_part("place", "valueInteger", column("code").cast(pl.String)))
        .otherwise(none),
        pl.when(column("endless") > 0).then(_part("value", "valueString", '"Infinity"'))
        .when(column("endless") < 0).then(_part("value", "valueString", '"-Infinity"'))
        .otherwise(none),
        pl.when("hollow").then(_part("empty", "valueBoolean", "true")).otherwise(none),
        _part("start", "valueString", '"', column("odd_start"), '"'),
        _part("stop", "valueString", '"', column("odd_stop"), '"'),
    ]  # fmt: skip
    if kind.name not in (*_DRUGS, "Immunization", "Observation"):
        parts.append(_part("value", "valueQuantity", _quantity()))
    if kind.name != "Condition":
        stop = _part("end", "valueDateTime", '"', column("stop"), '"')
        spans = column("spans") & (bool(kind.period) or kind.name == "MedicationRequest")
        parts.append(pl.when(spans).then(none).otherwise(stop))
    if not kind.encounter:
        where = _part("encounter", "valueReference", '{"reference":"Encounter/',
                      column("encounter"), '"}')  # fmt: skip
        parts.append(where)
    all_ = pl.concat_str(parts)
    whole = joined(f',"extension":[{{"url":"{URN}event","extension":[', all_.str.slice(1), "]}]")
    return pl.when(all_ != "").then(whole).otherwise(none)


def _part(name: str, kind: str, *value: str | pl.Expr) -> pl.Expr:
    return given(f',{{"url":"{name}","{kind}":', *value, "}")


# -- visits ---------------------------------------------------------------------------------------


def visits_in(events: Events, names: pl.Series, plan: Plan) -> tuple[pl.Series, Resources | None]:
    """Return the Encounter of each event, null for none, and those that no event stands for.

    The first event of domain "visit" that bears a visit's number is its Encounter, and a later
    one is part of it. A number that no such event bears has an Encounter that only groups.
    """
    rows = np.flatnonzero(events.visit >= 0)
    encounter = pl.Series("encounter", [None], dtype=pl.String).new_from_index(0, events.n_events)
    if rows.size == 0:
        return encounter, None
    whose, visit = events.whose[rows], events.visit[rows]
    stay = np.isin(events.code[rows], plan.schema.of("visit"))
    order = np.lexsort((rows, ~stay, visit, whose))
    head = np.ones(rows.size, bool)
    head[1:] = (np.diff(whose[order]) != 0) | (np.diff(visit[order]) != 0)
    group = np.empty(rows.size, np.int64)
    group[order] = np.cumsum(head) - 1
    first = order[head]  # (visits,) place in `rows` of what stands for it
    real = stay[first]
    rank = rows - events.starts[whose]
    tail = pl.DataFrame({"rank": rank[first], "visit": visit[first], "real": real}).select(
        pl.when("real").then(pl.col("rank").cast(pl.String))
        .otherwise(joined("v", pl.col("visit").cast(pl.String)))
    ).to_series()  # fmt: skip
    ids = names.gather(whose[first]) + "-" + tail
    index = np.full(events.n_events, -1)
    index[rows] = group
    index[rows[first[real]]] = -1  # no Encounter is part of itself
    place = pl.Series(index).set(pl.Series(index < 0), None).cast(pl.UInt32)
    encounter = ids.gather(place).alias("encounter")
    made = _grouping(events, names, plan, ids, rows, group, first, real)
    return encounter, made


def _grouping(
    events: Events,
    names: pl.Series,
    plan: Plan,
    ids: pl.Series,
    rows: NDArray[np.int64],
    group: NDArray[np.int64],
    first: NDArray[np.int64],
    real: NDArray[np.bool_],
) -> Resources | None:
    """Return Encounters, from the first time to the last, of visits that no event stands for."""
    bare = np.flatnonzero(~real)
    if bare.size == 0:
        return None
    time = events.time[rows].astype("datetime64[us]").view(np.int64)
    known = time != NOT_A_TIME
    start = np.full(real.size, np.iinfo(np.int64).max)
    stop = np.full(real.size, NOT_A_TIME)
    np.minimum.at(start, group[known], time[known])
    np.maximum.at(stop, group[known], time[known])
    start[stop == NOT_A_TIME] = NOT_A_TIME
    whose = events.whose[rows[first[bare]]]
    from_, to = (written(t[bare].view("datetime64[us]"), plan.schema.clock, plan.offset)
                 for t in (start, stop))  # fmt: skip
    frame = pl.DataFrame({"me": ids.gather(bare), "id": names.gather(whose), "start": from_,
                          "stop": to, "visit": events.visit[rows[first[bare]]]})  # fmt: skip
    head = fragment({"class": {"system": NULL_FLAVOR, "code": "UNK", "display": "unknown"}})
    told = dumps([{"url": f"{URN}event", "extension": [{"url": "grouping", "valueBoolean": True}]}])
    line = joined(
        '{"resourceType":"Encounter","id":"', pl.col("me"), f'"{plan.meta}',
        f',"identifier":[{{"system":"{URN}visit","value":"', _visit(),
        f'"}}],"status":"unknown"{head},"subject":{{"reference":"Patient/', pl.col("id"), '"}',
        given(',"period":{', _span(), "}"), f',"extension":{told}}}',
    )  # fmt: skip
    return Resources("Encounter", whose, frame.select(line).to_series())
