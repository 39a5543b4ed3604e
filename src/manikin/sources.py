"""What a source is: one table, linked tables, or histories; and what may not be written over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from manikin.errors import InputError, NotSupported, OutputError

__all__ = ["Kind", "Whom", "kind_of", "kind_of_all", "refuse_of_histories", "spare"]

Kind = Literal["table", "cohort", "events"]
_CALLED = {"table": "one table", "cohort": "linked tables", "events": "histories"}


@dataclass(frozen=True)
class Whom:
    """Whom to draw, as it was asked for."""

    where: str = ""
    balance: str | None = None
    enrich: str | Sequence[str] = ()
    having: Sequence[str] = ()  # of histories: what each must have
    after: Any = None  # of histories: those that are continued, in place of new ones
    until: str = "365d"  # and for how long


def kind_of(
    source: Any,
    links: Sequence[str] = (),
    remove_edges: Sequence[str] | str = (),
    fit_per: str | None = None,
    modality: str | None = None,
) -> Kind:
    """Return what a source is, as told by `modality` or else by its look.

    Raises InputError for links of what has none, NotSupported for what only one table has.
    """
    found = _kind(source, modality)
    if (remove_edges or fit_per is not None) and found != "table":
        raise NotSupported(
            f"edges to be taken out, or a model for each group, of {_CALLED[found]}",
            "those of one table",
            "leave them out, or take the table by itself",
        )
    if links and found != "cohort":
        raise InputError(
            f"links between tables, and {_CALLED[found]}",
            "a folder of tables, or frames by name",
            "give these, or leave the links out",
        )
    return found


def _kind(source: Any, modality: str | None) -> Kind:
    from manikin.io.cohorts import is_cohort
    from manikin.opening import is_history

    if modality is not None and modality not in get_args(Kind):
        raise NotSupported(
            f"there is no modality '{modality}' here",
            f"one of: {', '.join(get_args(Kind))}",
            "correct it, or leave it out",
        )
    if is_history(source, modality):
        return "events"
    linked = is_cohort(source)
    if modality is not None and (modality == "cohort") != linked:
        raise InputError(
            f"{_CALLED['cohort' if linked else 'table']} where {_CALLED[modality]} were announced",
            "a folder of tables for linked ones, a file or frame for one table",
            "correct the modality, or leave it out",
        )
    return "cohort" if linked else "table"


def kind_of_all(
    parts: Mapping[str, Any], links: Sequence[str] = (), modality: str | None = None
) -> Kind:
    """Return what all parts of an evaluation are. Raises InputError where they differ."""
    kinds = {name: kind_of(source, (), modality=modality) for name, source in parts.items()}
    if len(set(kinds.values())) > 1:
        odd = [name for name, kind in kinds.items() if kind != kinds["train"]]
        raise InputError(
            f"{_CALLED[kinds['train']]}, and {_CALLED[kinds[odd[0]]]}: {', '.join(odd)}",
            "folders of the same tables for every part, or one table for each, or histories",
            "give these",
        )
    return kind_of(parts["train"], links, modality=modality)


def refuse_of_histories(having: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise NotSupported for wishes that only histories can grant, of anything else."""
    if having or also:
        raise NotSupported(
            "what every history must have, or formats of histories, of tables",
            "histories",
            "leave --having and --also out; --where conditions on columns",
        )


def spare(out: str | Path | None, *inputs: Any) -> None:
    """Refuse to write over what is being read, whatever may be overwritten otherwise."""
    for given in inputs:
        if out is None or not isinstance(given, str | Path):
            continue
        if Path(out).exists() and Path(given).exists() and Path(out).samefile(given):
            raise OutputError(
                f"'{Path(out).name}' is both read and to be written",
                "an output that is none of the inputs",
                "choose another name",
            )
