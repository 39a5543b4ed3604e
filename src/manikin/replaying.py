"""Run a recorded release again from its source, and say whether the same model and data come out.

The steps of `synthesize` up to the data are taken with what the record says was asked for, in a
record of their own; then the two records are compared line by line, keyed digests and all. So a
replay shows that a release was made from this table, in this way, and nothing was touched after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manikin import catalogue, cohorts, histories, opening
from manikin.errors import InputError, IntegrityError, NotSupported
from manikin.grouped import PerGroup
from manikin.road import Roles, open_source, plan_of
from manikin.run import Run
from manikin.sampling import settle
from manikin.synthesizer import Watch, silent

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema

__all__ = ["Replay", "replay"]

_LINKS = "links"  # what is asked for of linked tables only
_NEEDED = ("started", "asked", "source", "split", "fitted", "sampled", "closed")


@dataclass(frozen=True)
class Replay:
    """Whether a release came out again, and what may explain it if it did not."""

    release: Path
    same_split: bool
    same_model: bool
    same_data: bool
    differs: tuple[str, ...]  # facts of the record that came out otherwise, as "fitted: ledger"
    changed: tuple[str, ...]  # versions and platform that are not those of the record

    @property
    def ok(self) -> bool:
        """Whether everything came out as recorded."""
        return self.same_split and self.same_model and self.same_data and not self.differs


def replay(
    release: str | Path,
    *,
    data: Any,
    schema: TableSchema | str | Path | None = None,
    watch: Watch = silent,
) -> Replay:
    """Fit and draw again as the record of a release says, and compare digests.

    `data` is the table, or folder of linked ones, that the release was made from, `schema` the
    declared schema if there was one. Raises IntegrityError when the record was altered,
    NotSupported when it is not that of a release made by `synthesize`, InputError when the table,
    its schema or the owner's key is another than the recorded one. Nothing is written but a
    temporary directory.
    """
    from manikin.release.record import Record, owner_key, run_facts

    folder = Path(release)
    told = _told(folder)
    asked = told["asked"]
    maker = str(told["fitted"]["synthesizer"])  # what was asked for may have been "auto"
    recipe = catalogue.build(maker, told["fitted"]["recipe"])
    if asked.get("fit_per"):
        recipe = PerGroup(recipe, str(asked["fit_per"]))
    key = owner_key()
    names = _data_names(told)
    opened, facts = _opened(data, schema, asked, key)
    _check_source(told["source"], facts)
    with tempfile.TemporaryDirectory(prefix="manikin-replay-") as temporary:
        aside = Path(temporary)
        record = Record(aside / "record.jsonl")
        run = Run(aside, aside, record, key, int(told["fitted"]["seed"]), None, watch)
        _again(run, opened, (maker, recipe), told, names)
        made = _contents(aside / "record.jsonl")
        same_data = _same_data(aside, told, made, names)
    found = tuple(_differences(told, made))
    return Replay(
        folder,
        not any(what.startswith("split") for what in found),
        told["fitted"]["model"] == made["fitted"]["model"],
        same_data,
        tuple(what for what in found if what not in ("split", "fitted: model")),
        tuple(_changes(told["started"], run_facts())),
    )


def _same_data(
    aside: Path, told: Mapping[str, Any], made: Mapping[str, Any], names: Sequence[str]
) -> bool:
    """Whether the same synthetic data came out: byte for byte, or of histories value for value.

    Databases may lay out the same rows in other bytes.
    """
    from manikin.release.record import file_digest

    if _of_histories(told["asked"]):
        return bool(told["sampled"]["content"] == made["sampled"]["content"])
    return all(
        (aside / name).is_file() and file_digest(aside / name) == told["closed"]["outputs"][name]
        for name in names
    )


def _of_histories(asked: Mapping[str, Any]) -> bool:
    return asked.get("modality") == "events"


def _opened(
    data: Any, schema: TableSchema | str | Path | None, asked: Mapping[str, Any], key: bytes
) -> tuple[Any, Mapping[str, Any]]:
    """Read the source as it was read, and return what a record says of it."""
    from manikin.release.record import history_facts, source_facts

    if _of_histories(asked):
        history = opening.open_history(data, schema, _roles(asked))
        return history, history_facts(history.events, key)
    if _LINKS not in asked:
        opened = open_source(data, schema, _roles(asked))
        return opened, source_facts(opened.table, key)
    linked = cohorts.open_linked(data, schema, [str(link) for link in asked[_LINKS]], _roles(asked))
    return linked, cohorts.facts_of(linked.cohort, key)


def _again(
    run: Run, opened: Any, maker: tuple[str, Any], told: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Split → fit → sample, as recorded."""
    asked = told["asked"]
    n, holdout = int(told["sampled"]["subjects"]), float(asked["holdout"])
    enrich = tuple(asked.get("enrich") or ())
    whom = str(asked["where"]), asked["balance"]
    if _of_histories(asked):
        histories.again(run, opened, maker, asked, n)
        return
    if _LINKS in asked:
        plan = plan_of(*whom, opened.cohort.schema, enrich)
        cohorts.fit_and_draw(run, opened, maker, plan, n, holdout, run.watch)
        return
    plan = plan_of(*whom, opened.table.schema, enrich)
    train, _ = run.split(opened.table, holdout, asked.get("split_by"))
    model = run.fit(*maker, train, run.watch)
    plan = settle(model, plan, seed=run.seed)
    run.sample(model, n, plan, names[0], opened.layout)


# ---------------------------------------------------------------------------- the record
def _contents(path: Path) -> dict[str, Mapping[str, Any]]:
    from manikin.release.record import read_record

    return {entry.event: entry.content for entry in read_record(path)}


def _told(release: Path) -> dict[str, Mapping[str, Any]]:
    """Return what the record of a release says by event, once it is known to be whole."""
    from manikin.release.record import RECORD, verify_chain

    path = release / RECORD
    if not path.is_file():
        raise InputError(
            f"'{release.name}' holds no {RECORD}",
            "the directory of a release",
            "give the directory that 'manikin synthesize' made",
        )
    if problems := verify_chain(path):
        raise IntegrityError(
            f"the record was altered: {problems[0]}",
            "a record as it was written",
            "see: manikin verify; replay the release as it was received",
        )
    told = _contents(path)
    lacking = [event for event in _NEEDED if event not in told]
    if lacking or "model" not in told["fitted"] or not told["closed"].get("synthetic"):
        raise NotSupported(
            "a record that does not say how to make its data again",
            "the release of 'manikin synthesize', of this version or a later one",
            "an evaluation or a comparison is run again by its own command",
        )
    if any(entry.get("release") != "NonPrivate" for entry in told["fitted"]["ledger"]):
        raise NotSupported(
            "a release with noise for differential privacy: the noise is secret and was not kept,"
            " so no fit comes out twice",
            "a release without such noise; or, of this one, the rows again from its model",
            "draw them with the command in for-release/README.md and compare; check the rest with:"
            " manikin verify",
        )
    return told


def _data_names(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of synthetic rows: of one table one, all plain names in the release."""
    closed = told["closed"]
    names = tuple(str(name) for name in closed["synthetic"])
    if _of_histories(told["asked"]):
        return names
    several = len(names) != 1 and _LINKS not in told["asked"]
    if several or any(Path(name).name != name or name not in closed["outputs"] for name in names):
        raise NotSupported(
            "a record of several files of synthetic rows",
            "the release of 'manikin synthesize', which has one, or one for each linked table",
            "a comparison is run again by its own command",
        )
    return names


def _roles(asked: Mapping[str, Any]) -> Roles:
    return Roles(
        asked["target"], asked["subject"], asked["time"], asked["event"],
        tuple(asked["sensitive"]), tuple(asked["quasi_identifiers"]),
    )  # fmt: skip


def _check_source(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InputError unless the table is the recorded one, saying what differs."""
    if recorded["key"] != given["key"]:
        raise InputError(
            f"the owner's key here is {given['key']}, the record was made with {recorded['key']}",
            "the key that the release was made with: digests of real data are keyed",
            "set MANIKIN_KEY, or put the key file in ~/.config/manikin/key",
        )
    sizes = [
        f"{given[what]} {what} where {recorded[what]} were recorded"
        for what in ("rows", "subjects", "columns")
        if recorded[what] != given[what]
    ]
    if recorded["declared"] != given["declared"] or (
        recorded["declared"] and recorded["schema"] != given["schema"]
    ):
        had = "a declared schema" if recorded["declared"] else "an inferred schema"
        raise InputError(
            "the schema is not the recorded one",
            f"the release was made under {had}",
            "give the same schema file" if recorded["declared"] else "leave --schema out",
        )
    if sizes or recorded["data"] != given["data"] or recorded["schema"] != given["schema"]:
        raise InputError(
            "the table is not the recorded one: " + (", ".join(sizes) or "cells differ"),
            "the table that the release was made from, unchanged",
            "give that table; if none has the recorded digest, the release was not made from it",
        )


# ---------------------------------------------------------------------------- comparison
def _differences(told: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Name every recorded fact that came out otherwise."""
    if told["split"] != made["split"]:
        yield "split"
    for event in ("fitted", "sampled"):
        for fact in sorted({*told[event], *made[event]}):
            if told[event].get(fact) != made[event].get(fact):
                yield f"{event}: {fact}"


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say which versions and which platform are others than the recorded ones."""
    names: Sequence[str] = sorted({*then["versions"], *now["versions"]})
    for name in names:
        before, after = (said["versions"].get(name, "not installed") for said in (then, now))
        if before != after:
            yield f"{name} {before} → {after}"
    if then["platform"] != now["platform"]:
        yield f"{then['platform']} → {now['platform']}"
