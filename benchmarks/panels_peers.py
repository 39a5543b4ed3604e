"""Other people's engines of visits, each in an environment and a process of its own.

They are given facts of subjects and a row for each visit, as their users have them; a channel of
few levels is called categorical, and numbers drawn are rounded as the training numbers are, both in
their favour. What they draw is read back as histories and judged like ours.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import polars as pl
from competitors import PEERS, Options, environment, run
from panels_makers import dense

from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table

__all__ = ["OTHERS", "Made", "draw"]

HERE = Path(__file__).parent
FEW = 5  # levels at most that make a channel categorical
SUBJECT, DATE = "subject", "date"


@dataclass(frozen=True)
class Other:
    """A peer: its environment, the package whose version is told, and what it is."""

    environment: str
    package: str
    title: str

    def named(self) -> str:
        """Return the title with the version that is installed."""
        folder = HERE / ".work" / "envs" / self.environment / "lib"
        places = [str(path) for path in folder.glob("python3*/site-packages")]
        known = {found.name: found.version for found in distributions(path=places)}
        return f"{self.title} {known.get(self.package, '')}".strip()


OTHERS = {
    "mostlyai": Other("mostlyai", "mostlyai-engine", "sequential TabularARGN, mostlyai-engine"),
    "par": Other("sdv", "deepecho", "PAR, DeepEcho"),
}


@dataclass(frozen=True)
class Made:
    """What was drawn and what it cost; `events` is None when it was stopped or failed."""

    events: Events | None
    seconds: float
    peak_mb: float
    failure: str = ""


def draw(other: Other, train: Events, n: int, seed: int, most_seconds: int) -> Made:
    """Fit a peer to histories and draw `n` subjects."""
    unwanted = next(peer.unwanted for peer in PEERS if peer.environment == other.environment)
    interpreter = environment(other.environment, None, unwanted)
    if isinstance(interpreter, str):
        return Made(None, np.nan, np.nan, interpreter)
    work = Path(tempfile.mkdtemp(prefix="panel-"))
    try:
        _write(train, n, seed, work)
        runner = HERE / "peers" / f"panel_{other.environment}.py"
        options = Options(most_seconds=most_seconds)
        failure = run([str(interpreter), str(runner), str(work)], work, options, None)
        known = work / "cost.json"
        cost = json.loads(known.read_text()) if known.is_file() else {}
        seconds = cost.get("fit_seconds", np.nan) + cost.get("sample_seconds", np.nan)
        drawn = None if failure else _read(train, work)
        return Made(drawn, seconds, cost.get("peak_mb", np.nan), failure)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(train: Events, n: int, seed: int, work: Path) -> None:
    """Write facts, visits and what a peer is told of them."""
    visits, cells = dense(train)
    names = [code.name for code in train.schema.codes]
    facts = train.static.to_polars()
    numeric = [c.name for c in train.schema.static.learned if not c.is_coded]
    columns: dict[str, pl.Series] = {}
    for j, name in enumerate(names):
        known = pl.Series(name, cells[:, j]).fill_nan(None)
        if known.drop_nulls().n_unique() > FEW:
            numeric.append(name)
            columns[name] = known
        else:
            columns[name] = known.cast(pl.String)
    frame = pl.DataFrame({
        SUBJECT: visits.whose, DATE: visits.start.astype("datetime64[us]"), **columns
    }).with_columns(pl.col(DATE).dt.strftime("%Y-%m-%d"))  # fmt: skip
    facts.insert_column(0, pl.Series(SUBJECT, np.arange(facts.height))).write_csv(
        work / "facts.csv"
    )
    frame.write_csv(work / "visits.csv")
    (work / "spec.json").write_text(json.dumps({"n": n, "seed": seed, "numeric": numeric}))


def _read(train: Events, work: Path) -> Events:
    """Return what a peer drew as histories of the training schema."""
    facts = pl.read_csv(work / "drawn_facts.csv", infer_schema=False)
    visits = pl.read_csv(work / "drawn_visits.csv", infer_schema=False)
    names = [code.name for code in train.schema.codes]
    place = {who: i for i, who in enumerate(facts[SUBJECT].to_list())}
    whose = np.array([place[who] for who in visits[SUBJECT].to_list()], np.int64)
    day = visits[DATE].str.slice(0, 10).str.to_date(strict=False)
    when = day.to_numpy().astype("datetime64[us]")
    cells = visits.select(pl.col(names).cast(pl.Float64, strict=False)).to_numpy().copy()
    for j in range(len(names)):
        cells[:, j] = np.round(cells[:, j], _decimals(train.value[train.code == j]))
    visit, code = np.nonzero(~np.isnan(cells) & ~np.isnat(when)[:, None])
    schema: TableSchema = train.schema.static
    told = [
        # a mark of the peer's own, such as one for rare levels, is no level: the cell is empty
        pl.when(pl.col(c.name).is_in(c.categories)).then(pl.col(c.name)) if c.is_coded else c.name
        for c in schema.columns
    ]
    static = Table.from_frame(facts.select(told), schema)
    return Events.of(train.schema, static, whose[visit], when[visit], code, cells[visit, code])


def _decimals(values: np.ndarray) -> int:
    """Return the fewest decimals that tell all values."""
    return next((d for d in range(4) if np.allclose(values, np.round(values, d), atol=1e-9)), 4)
