"""A thousand planted identifiers, and none of them in anything that Manikin prints or writes.

250 patients have a name, a record number, an address for mail and a telephone number, each in a
column of its own and in a note; every command is then run over them, and over files spoiled so that
the very cells provoke errors. Looked through is all that was printed, all that was written, and all
that was deleted again. Two things do tell what stands in a table, by design and saying so: the
command `schema` lists every level, and names of columns are told, so that a file without a header
must not be called one.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
N = 250
HEADER = ("mrn", "name", "email", "phone", "note", "age", "sex", "marker", "site", "died")
COMMANDS = """
import json, os, pathlib, shutil, sys
kept, n = pathlib.Path(sys.argv[2]), 0
def hook(event, arguments):
    global n
    if event.startswith(("socket.", "urllib.", "http.", "ssl.")):
        print("NETWORK", event, flush=True)
        os._exit(99)
    if event == "os.remove":  # what is deleted was there: keep it to be looked through
        place, folder = arguments
        held = f"/proc/self/fd/{folder}/" if isinstance(folder, int) and folder >= 0 else ""
        n += 1
        try:
            os.link(held + os.fsdecode(place), kept / str(n))
        except OSError:
            pass
sys.addaudithook(hook)
os.umask(0)
from manikin.cli.app import run
told = {}
for words in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    print("$", *words, flush=True)
    sys.argv = ["manikin", *words]
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    told[" ".join(words)] = code
pathlib.Path("codes.json").write_text(json.dumps(told))
"""


def planted() -> list[dict[str, str]]:
    """Return the patients' identifiers; each is long enough to come about by no accident."""
    draw = random.Random(1)
    letters = "bcdfghjklmnprstvwz"

    def word(n: int) -> str:
        return "".join(draw.choice(letters if i % 2 else "aeiouy") for i in range(n))

    return [
        {
            "mrn": f"{draw.randrange(10**9, 10**10)}",
            "name": f"{word(6).title()} {word(11).title()}",
            "email": f"{word(9)}{draw.randrange(100)}@mail.example",
            "phone": f"+49 {draw.randrange(100, 999)} {draw.randrange(10**7, 10**8)}",
        }
        for _ in range(N)
    ]


IDENTIFIERS = tuple(value for one in planted() for value in one.values())
# what would be left of each when something took it apart: surname, number, local part
NEEDLES = tuple(
    needle
    for one in planted()
    for needle in (one["mrn"], one["name"].split()[1], one["email"].split("@")[0],
                   one["phone"].split()[2])
)  # fmt: skip


def rows() -> list[list[str]]:
    draw = random.Random(2)
    found = []
    for i, one in enumerate(planted()):
        note = f"Seen {one['name']} ({one['mrn']}); call {one['phone']}, write {one['email']}."
        age = draw.randrange(30, 85)
        site = one["name"].split()[1] if i < 4 else ("Ulm" if i % 2 else "Bern")
        found.append([one["mrn"], one["name"], one["email"], one["phone"], note, str(age),
                      "FM"[draw.random() < 0.5], f"{draw.gauss(age / 10, 1):.1f}", site,
                      str(int(draw.random() < age / 120))])  # fmt: skip
    return found


def csv(lines: list[list[str]], header: tuple[str, ...] = HEADER) -> str:
    return "\n".join(",".join(f'"{cell}"' for cell in row) for row in [header, *lines]) + "\n"


SCHEMAS = {
    "integers": "{name: name, kind: integer}",
    "levels": "{name: name, kind: categorical, categories: [a, b]}",
    "dates": "{name: note, kind: datetime, date_format: '%Y-%m-%d'}",
    "bounds": "{name: mrn, kind: integer, minimum: 0, maximum: 10}",
    "logic": "{name: email, kind: boolean, categories: [no, yes]}",
    "shape": "{name: phone, kind: identifier, template: 'A999'}",
}


def spoiled(folder: Path) -> list[Path]:
    """Write files that cannot be read because of the very cells that hold identifiers."""
    lines, whole = rows(), csv(rows())
    made = {
        "ragged.csv": whole + "".join(f'"{",".join(IDENTIFIERS[:9])}",1,2,3\n' for _ in range(9)),
        "wide.csv": whole.replace("\n", f",{IDENTIFIERS[1]},{IDENTIFIERS[2]}\n", 40),
        "unclosed.csv": whole + '"' + whole.replace('"', ""),
        "twice.csv": csv(lines, ("mrn", "mrn", *HEADER[2:])),
        "mixed.csv": whole.replace("Seen", "Gesehen\0"),
        "one.csv": csv(lines[:1]),
        "none.csv": csv([]),
    }
    for name, text in made.items():
        (folder / name).write_text(text)
    (folder / "bytes.csv").write_bytes(whole.encode() + b"\xff\xfe\xfd" + whole.encode("utf-16"))
    frame = pl.DataFrame(lines, schema=list(HEADER), orient="row")
    frame.select(pl.struct(pl.all()).alias("all"), "age").write_parquet(folder / "nested.parquet")
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="uncompressed")
    (folder / "cut.parquet").write_bytes(buffer.getvalue()[:-90] + buffer.getvalue()[-8:])
    (folder / "cut.csv.gz").write_bytes(gzip.compress(whole.encode())[:-400])
    return sorted(path for path in folder.iterdir() if path.is_file())


def commands(folder: Path) -> list[list[str]]:
    inputs = folder / "in"
    inputs.mkdir()
    lines = rows()
    often = [[*row[:8], "Ulm", row[9]] for row in lines]  # no level is rare
    for name, part in (
        ("t.csv", lines),
        ("s.csv", often),
        ("a.csv", lines[:150]),
        ("b.csv", lines[150:]),
    ):
        (inputs / name).write_text(csv(part))
    quick = ["--synthesizer", "table/marginals", "--profile", "quick", "--accept", "identifying"]
    told = [
        ["audit", "in/t.csv", "--target", "died"],
        ["audit", "in/t.csv", "--json"],
        ["schema", "in/s.csv"],
        ["synthesize", "in/t.csv", *quick, "--target", "died", "--sensitive", "sex", "--out", "r"],
        ["synthesize", "in/t.csv", *quick, "--subject", "mrn", "--out", "r2", "--json",
         "--sensitive", "site"],
        ["fit", "bad/one.csv", "--out", "f0.manikin"],
        ["synthesize", "in/t.csv", "--synthesizer", "table/marginals", "--target", "name",
         "--out", "r3"],
        ["verify", "r"],
        # the copy of the real rows as "synthetic" data: it leaks all, but not through the report
        ["evaluate", "--train", "in/a.csv", "--holdout", "in/b.csv", "--synthetic", "in/a.csv",
         "--profile", "quick", "--out", "e", "--sensitive", "site"],
        ["evaluate", "--train", "in/a.csv", "--holdout", "in/b.csv", "--synthetic", "in/b.csv",
         "--profile", "quick", "--out", "e2", "--target", "died", "--json"],
        ["compare", "in/t.csv", "--synthesizer", "table/marginals", "--synthesizer",
         "table/copula", "--accept", "identifying", "--out", "c", "--with-data"],
        *(["fit", "in/t.csv", "--synthesizer", f"table/{name}", "--out", f"{name}.manikin"]
          for name in ("marginals", "copula", "seqtree")),
        *(["sample", f"{name}.manikin", "--n", "40", "--out", f"{name}.{suffix}"]
          for name in ("marginals", "copula", "seqtree") for suffix in ("csv", "xlsx", "parquet")),
        ["sample", "marginals.manikin", "--where", "age>=banana", "--out", "w.csv"],
        ["sample", "marginals.manikin", "--where", "site=Nowhere", "--out", "w.csv"],
        ["synthesize", "in/t.csv", *quick, "--time", "name", "--event", "email", "--out", "f1"],
        ["synthesize", "in/t.csv", *quick, "--target", "nothing", "--out", "f2"],
        ["evaluate", "--train", "in/a.csv", "--holdout", "in/a.csv", "--synthetic", "in/b.csv",
         "--out", "f3"],
        ["verify", "in"],
        ["sample", "in/t.csv", "--out", "f4.csv"],
    ]  # fmt: skip
    for name, column in SCHEMAS.items():
        others = [c for c in HEADER if f"name: {c}," not in column]
        text = "\n".join(f" - {{name: {c}, kind: text}}" for c in others)
        (folder / f"{name}.yaml").write_text(f"columns:\n - {column}\n{text}\n")
        told.append(["audit", "in/t.csv", "--schema", f"{name}.yaml"])
    (folder / "bad").mkdir()
    for path in spoiled(folder / "bad"):
        told.append(["audit", f"bad/{path.name}"])
        told.append(["fit", f"bad/{path.name}", "--synthesizer", "table/marginals",
                     "--out", f"{path.name}.manikin"])  # fmt: skip
    return told


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every command in one process over the planted table; return where all of it is."""
    folder = tmp_path_factory.mktemp("canaries")
    for name in ("kept", "tmp", "home"):
        (folder / name).mkdir()
    (folder / "commands.json").write_text(json.dumps(commands(folder)))
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "300",
        "MANIKIN_KEY": "k" * 64, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home"),
        "PYTHONWARNINGS": "always", "XDG_CONFIG_HOME": str(folder / "home"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, "commands.json", "kept"], cwd=folder, env=environment,
        capture_output=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    (folder / "stdout").write_bytes(done.stdout)
    (folder / "stderr").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def contents(path: Path) -> bytes:
    """Return what a file holds, unpacked where it is packed."""
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as packed:
            return data + b"\n".join(packed.read(name) for name in packed.namelist())
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"PAR1" == data[-4:]:
        return data + pl.read_parquet(path).cast(pl.String).write_csv().encode()
    return data


def written(folder: Path) -> list[Path]:
    ours = {"in", "bad", "commands.json"}
    return [path for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).parts[0] not in ours]  # fmt: skip


def needles(data: bytes) -> list[str]:
    words = set(re.findall(rb"[A-Za-z0-9]{7,}", data))
    words |= set(re.findall(rb"[A-Za-z0-9]{7,}", data.replace(b"\0", b"")))  # UTF-16
    return [needle for needle in NEEDLES if needle.encode() in words]


def test_a_thousand_are_planted_and_would_be_found(ran: Path) -> None:
    assert len(set(IDENTIFIERS)) == len(set(NEEDLES)) == 1000
    assert len(set(needles(contents(ran / "in" / "t.csv")))) == 1000
    assert len(set(needles((ran / "in" / "t.csv").read_text().encode("utf-16")))) == 1000


def test_every_command_did_what_it_should(ran: Path) -> None:
    """What must succeed did, what must fail did so with a typed error, never by surprise."""
    codes = json.loads((ran / "codes.json").read_text())
    assert 70 not in codes.values() and 1 not in codes.values(), codes
    for command in ("audit in/t.csv --json", "schema in/s.csv", "verify r"):
        assert codes[command] == 0
    made = ("r/report.html", "r2/report.html", "e/report.html", "e2/report.json",
            "c/comparison.json", "seqtree.manikin", "copula.parquet", "marginals.xlsx",
            "seqtree.csv")  # fmt: skip
    assert [name for name in made if not (ran / name).is_file()] == []
    failed = [command for command, code in codes.items() if code]
    assert len(failed) >= 20, codes


def test_no_identifier_is_printed(ran: Path) -> None:
    for name in ("stdout", "stderr"):
        text = (ran / name).read_bytes()
        assert len(text) > 100 and needles(text) == [], name


def test_no_identifier_is_in_any_file_that_is_left(ran: Path) -> None:
    found = {str(path.relative_to(ran)): needles(contents(path))[:3] for path in written(ran)}
    assert len(found) >= 40  # releases, models, schemas, what was deleted meanwhile
    assert {name: held for name, held in found.items() if held} == {}


def test_nothing_is_left_in_the_folder_for_temporary_files(ran: Path) -> None:
    assert list((ran / "tmp").iterdir()) == []
    assert not [path for path in ran.iterdir() if path.name.startswith(".")]


def test_only_the_owner_can_read_what_was_written(ran: Path) -> None:
    """Although the process was told, by its umask, to let everybody."""
    ours = {"stdout", "stderr", "codes.json"}
    modes = {
        str(path.relative_to(ran)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in written(ran)
        if path.name not in ours and path.suffix != ".yaml" and "kept" not in path.parts
    }
    assert len(modes) >= 40
    assert {name: mode for name, mode in modes.items() if mode != "0o600"} == {}
