"""Histories mapped from files: the same as in memory, and nothing that was tampered with."""

import json
from pathlib import Path

import numpy as np
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError, OutputError, SchemaError
from manikin.io.mapped import blocks_of, open_mapped, write_mapped

STATIC = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M")),
        Column("birth", "datetime"),
        Column("weight", "continuous", missing=("", "NK")),
    )
)
SCHEMA = EventSchema(STATIC, (Code("a"), Code("b", numeric=True)), birth="birth")


def histories(n: int = 4, m: int = 11) -> Events:
    rng = np.arange(m)
    static = Table(
        STATIC,
        np.arange(n),
        {
            "sex": (np.arange(n) % 3 - 1).astype(np.int32),
            "birth": np.array(["NaT", *["1970-01-02"] * (n - 1)][:n], "datetime64[us]"),
            "weight": np.full(n, np.nan),
        },
        {"weight": (np.arange(n) % 2 + 1).astype(np.int8)},
    )
    time = np.datetime64("2020-01-01", "us") + (rng % 5 * 86_400_000_000).astype("m8[us]")
    return Events.of(SCHEMA, static, rng % max(n - 1, 1), time, rng % 2, rng / 3.0, rng % 3 - 1,
                     time, rng % 4 - 1, ("x", "ü"))  # fmt: skip


def same(one: Events, two: Events) -> bool:
    columns = ("whose", "time", "code", "value", "end", "visit", "text")
    return (
        one.schema == two.schema
        and all(
            np.array_equal(getattr(one, c), getattr(two, c), equal_nan=c in ("value",))
            for c in columns
        )
        and all(
            np.array_equal(one.static.columns[c], two.static.columns[c], equal_nan=c != "sex")
            for c in one.static.columns
        )
        and np.array_equal(one.static.state("weight"), two.static.state("weight"))
    )


def test_mapped_histories_are_those_in_memory_and_are_not_read(tmp_path: Path) -> None:
    events = histories()
    parts = [events.take(np.array([0])), events.take(np.array([1, 2, 3])).renumbered()]
    write_mapped(parts, tmp_path / "out")
    back = open_mapped(tmp_path / "out")
    assert same(back, events)
    assert isinstance(back.value, np.memmap)
    assert not back.value.flags.writeable
    # the engines' own ways of looking at histories work on them
    assert same(back.take(np.array([1, 3])), events.take(np.array([1, 3])))
    assert np.array_equal(visits_of(back).start, visits_of(events).start)
    with pytest.raises(OutputError):
        write_mapped([events], tmp_path / "out")


def test_blocks_hold_whole_subjects_and_everything_once() -> None:
    events = histories(6, 40)
    for most in (1, 9, 1000):
        blocks = list(blocks_of(events, most=most))
        assert same(Events.concatenate(blocks), events)
        assert len(blocks) == {1: 6, 9: 5, 1000: 1}[most]  # 8 events each, the last has none
    assert list(blocks_of(histories(0, 0))) == []


def test_no_events_and_no_blocks(tmp_path: Path) -> None:
    write_mapped([histories(2, 0)], tmp_path / "out")
    assert open_mapped(tmp_path / "out").n_subjects == 2
    with pytest.raises(InputError):
        write_mapped([], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    other = EventSchema(STATIC, (Code("a"), Code("c", numeric=True)), birth="birth")
    events = histories()
    second = Events(other, events.static, events.whose, events.time, events.code, events.value,
                    events.text, events.end, events.visit, events.texts)  # fmt: skip
    with pytest.raises(SchemaError):
        write_mapped([events, second], tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"version": 2},
        {"events": 12},
        {"events": -1},
        {"subjects": 3},
        {"subjects": "4"},
        {"texts": [1]},
        {"texts": ["x"]},
    ],
)
def test_an_index_that_does_not_fit_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    write_mapped([histories()], tmp_path / "out")
    index = tmp_path / "out" / "events.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(InputError):
        open_mapped(tmp_path / "out")


def test_arrays_that_were_cut_or_exchanged_are_refused(tmp_path: Path) -> None:
    write_mapped([histories()], tmp_path / "out")
    place = tmp_path / "out" / "code.npy"
    whole = place.read_bytes()
    objects = np.array([{}] * 11, object)
    for broken in (whole[:-4], b"", whole[:40]):
        place.write_bytes(broken)
        with pytest.raises(InputError):
            open_mapped(tmp_path / "out")
    with place.open("wb") as file:
        np.lib.format.write_array(file, objects, allow_pickle=True)
    with pytest.raises(InputError):
        open_mapped(tmp_path / "out")
    np.save(place, np.full(11, 99, np.int32))  # no such code
    with pytest.raises(InputError):
        open_mapped(tmp_path / "out")


def test_a_changed_byte_of_a_header_is_refused_wherever_it_is(tmp_path: Path) -> None:
    write_mapped([histories()], tmp_path / "out")
    place = tmp_path / "out" / "end.npy"
    whole = place.read_bytes()
    for at in range(0, 128, 3):  # such headers have 128 bytes
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 0x2A]) + whole[at + 1 :])
        with pytest.raises(InputError):
            open_mapped(tmp_path / "out")
    place.write_bytes(whole)
    assert open_mapped(tmp_path / "out").n_events == 11
