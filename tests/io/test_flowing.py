"""Large histories go from format to format block by block, and nothing is lost on the way."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from omop_cdm import CDM, assert_same, files

from manikin.converting import convert
from manikin.data.events import Events
from manikin.errors import InputError, NotSupported
from manikin.io import bounds, meds, omop
from manikin.io import histories as doors
from manikin.io.meds import door as meds_door
from manikin.io.omop import door as omop_door


def shards(folder: Path) -> Path:
    """Write MEDS of five people in two files, of whom the second is in both."""
    start = np.datetime64("2020-01-01", "us")
    rows = [
        [(70, 0, "A"), (70, 1, "B"), (20, 0, "B"), (50, 3, "A")],
        [(20, 9, "C"), (90, 1, "A"), (10, 2, "B"), (10, 2, "B")],
    ]
    (folder / "data").mkdir(parents=True)
    for number, told in enumerate(rows):
        subject, hour, code = zip(*told, strict=True)
        pl.DataFrame(
            {
                "subject_id": np.array(subject, np.int64),
                "time": start + np.array(hour) * np.timedelta64(1, "h"),
                "code": code,
                "numeric_value": np.array(hour, np.float32),
            }
        ).write_parquet(folder / "data" / f"{number}.parquet")
    return folder


def by_name(history: doors.History) -> dict[str, list[tuple[str, str, float]]]:
    """Return the events of each subject by the source's name of it."""
    events = history.events
    names = history.ids or tuple(map(str, range(events.n_subjects)))
    told: dict[str, list[tuple[str, str, float]]] = {name: [] for name in names}
    for k, whose in enumerate(events.whose.tolist()):
        code = events.schema.codes[int(events.code[k])].name
        told[names[whose]].append((str(events.time[k]), code, float(events.value[k])))
    return told


@pytest.mark.parametrize("to", ["meds", "omop", "fhir"])
def test_meds_of_many_blocks_keeps_names_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    source = shards(tmp_path / "source")
    monkeypatch.setattr(meds_door, "ROWS_A_BLOCK", 3)
    flow = meds.flow(source)
    assert flow is not None
    blocks = list(flow.blocks)
    # 70 and 50 of the first file, then 90 and 10 of the other one, at last 20 of both
    assert [block.n_events for block in blocks] == [3, 3, 2]
    assert flow.ids == ("70", "50", "90", "10", "20")
    assert "1 subjects were in several files; they were put together." in flow.notes
    assert "1 rows are there more than once; all were kept." in flow.notes
    done = convert(source, tmp_path / "out", to=to)
    assert (done.subjects, done.events) == (5, 8)
    assert by_name(doors.read(done.data)) == by_name(meds.read(source))


@pytest.mark.parametrize("own", [False, True])
def test_a_cdm_of_many_blocks_comes_out_as_one_that_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    source = files(tmp_path / "cdm")
    if own:
        convert(source, tmp_path / "own.duckdb")
        source = tmp_path / "own.duckdb"
    whole = omop.read(source)
    convert(source, tmp_path / "whole", to="meds")
    monkeypatch.setattr(omop_door, "SUBJECTS_PER_BLOCK", 2)
    flow = omop.flow(source)
    assert flow is not None
    blocks = list(flow.blocks)
    assert [block.n_subjects for block in blocks] == [2, 1]
    assert_same(Events.concatenate(blocks), whole.events)
    assert (flow.ids, tuple(flow.notes), flow.layout) == (whole.ids, whole.notes, whole.layout)
    done = convert(source, tmp_path / "parts", to="meds")
    assert len(list((done.data / "data").iterdir())) == 2
    assert_same(meds.read(done.data).events, meds.read(tmp_path / "whole").events)
    assert done.notes == whole.notes


def test_what_fails_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shards(tmp_path / "source")
    monkeypatch.setattr(meds_door, "ROWS_A_BLOCK", 3)
    frame = pl.read_parquet(source / "data" / "1.parquet")
    code = pl.when(pl.col("subject_id") == 20).then(None).otherwise(pl.col("code"))
    frame.with_columns(code.alias("code")).write_parquet(source / "data" / "1.parquet")
    for to, out in (("meds", "out"), ("omop", "out.duckdb"), ("fhir", "out")):
        with pytest.raises(InputError, match="code"):
            convert(source, tmp_path / out, to=to)
        assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_rows_of_nobody_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    more = CDM["measurement"] + "4,77,3004410,2020-01-01,,32817,5,0,8554,,,,\n"
    source = files(tmp_path / "cdm", measurement=more)
    with pytest.raises(InputError, match="1 persons that PERSON does not"):
        convert(source, tmp_path / "out", to="meds")
    done = convert(source, tmp_path / "out", to="meds", dangling="keep")
    assert done.subjects == 4
    assert any("1 persons that PERSON does not have" in note for note in done.notes)
    with pytest.raises(NotSupported, match="--dangling"):
        convert(done.data, tmp_path / "again", to="omop", dangling="keep")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    300000 kB\n")
    monkeypatch.setattr(bounds, "_MEMORY", memory)
    monkeypatch.setattr(bounds, "_GROUP", tmp_path)
    bounds.check_memory(100 * 2**20, 2, "a file", "")
    with pytest.raises(InputError, match=r"0.1 GiB, of which .* 0.4 GiB .* 0.3 GiB of memory"):
        bounds.check_memory(100 * 2**20, 4, "a file", "")
    # a container may have 240 MiB, and the system has 293
    (tmp_path / "memory.max").write_text(f"{240 * 2**20}\n")
    with pytest.raises(InputError, match=r"0\.2 GiB of memory"):
        bounds.check_memory(100 * 2**20, 2.5, "a file", "")
    (tmp_path / "memory.max").write_text("max\n")
    bounds.check_memory(100 * 2**20, 2.5, "a file", "")
    # a sparse file of 20 GiB: nothing of it is read
    rows = tmp_path / "rows.csv"
    rows.write_text("subject_id,time,code,value\n1,2020-01-01,A,1\n")
    os.truncate(rows, 20 * 2**30)
    with pytest.raises(InputError, match=r"'rows.csv' of 20.0 GiB"):
        convert(rows, tmp_path / "out", to="meds", source_format="long")
    lines = tmp_path / "bulk" / "Patient.ndjson"
    lines.parent.mkdir()
    lines.write_text('{"resourceType":"Patient","id":"a"}\n')
    os.truncate(lines, 20 * 2**30)
    with pytest.raises(InputError, match=r"resources of 20.0 GiB"):
        convert(lines.parent, tmp_path / "out", to="meds")
    assert not (tmp_path / "out").exists()


def test_a_cdm_without_persons_is_refused_by_name(tmp_path: Path) -> None:
    source = files(tmp_path / "cdm", person=None)
    with pytest.raises(InputError, match="PERSON"):
        convert(source, tmp_path / "out", to="meds", source_format="omop")
