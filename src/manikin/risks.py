"""Risks of patients whose histories are at hand, by a fitted model of histories.

The histories are read by their door, continued many times by the model (`forecasting.py`), and the
shares of futures with the event are written beside the source's own identifiers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manikin.errors import InputError, OutputError
from manikin.forecasting import Calibration, Forecast, Treatment
from manikin.having import days_of
from manikin.sources import spare
from manikin.synthesizer import Model, Watch, silent

if TYPE_CHECKING:
    from manikin.io.histories import History

__all__ = ["Foretold", "forecast"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Foretold:
    """Forecasts, the identifiers of those they are of, and how such forecasts did, if asked for."""

    forecast: Forecast
    ids: tuple[str, ...]  # as the source has them, in the order of the forecast
    calibration: Calibration | None = None
    data: Path | None = None  # the file that was written
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping a subject, with the source's identifier."""
        found = self.forecast.rows()
        return [{**row, "subject": name} for row, name in zip(found, self.ids, strict=True)]


def forecast(
    model: Model[Any] | str | Path,
    source: Any,
    *,
    event: str | Sequence[str],
    until: str,
    futures: int = 100,
    give: Sequence[str] = (),
    instead_of: Sequence[str] = (),
    check_at: str | None = None,
    schema: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Foretold:
    """Foretell an event for every patient of `source`, within the span `until` of the last event.

    `event` is a code, or one above it in its tree; several count together. `give` and `instead_of`
    put other treatments at the end of each history: what is drawn then is labelled as a model's
    output, not evidence. `check_at`, a date or a span after each first event, cuts the histories
    there and tells how the forecasts did against what came: give patients that the model was not
    fitted on. `out` is a CSV file.
    """
    from manikin import forecasting
    from manikin.io import models
    from manikin.opening import open_history
    from manikin.road import Roles

    days, treatment = days_of(until), None
    if give or instead_of:
        treatment = Treatment(tuple(give), tuple(instead_of))
    _check(out, source, overwrite, treatment, check_at)
    fitted = models.load(model).model if isinstance(model, str | Path) else model
    opened = open_history(source, schema, Roles(), watch=watch)
    checked = None
    if check_at is not None:
        checked = forecasting.calibrate(
            fitted, opened.events, codes=event, cut_at=_cut(check_at), days=days, futures=futures,
            seed=seed, watch=watch,
        )  # fmt: skip
    found = checked.forecast if checked is not None else forecasting.forecast(
        fitted, opened.events, codes=event, days=days, futures=futures, seed=seed,
        treatment=treatment, watch=watch,
    )  # fmt: skip
    data = None if out is None else Path(out)
    told = Foretold(found, _names(opened, found), checked, data, opened.notes)
    if data is not None:
        _write(told, data)
    return told


def _check(
    out: str | Path | None,
    source: Any,
    overwrite: bool,
    treatment: Treatment | None,
    check_at: str | None,
) -> None:
    """Raise what is wrong before anything is read."""
    if out is not None:
        spare(out, source)
        if Path(out).exists() and not overwrite:
            raise OutputError(f"'{Path(out).name}' exists", "a new file", "choose another name")
    if check_at is not None:
        _cut(check_at)
        if treatment is not None:
            raise InputError(
                "another treatment, and a check against what came under the real one",
                "one of them",
                "leave --check-at out, or --give and --instead-of",
            )


def _cut(text: str) -> np.datetime64 | float:
    return np.datetime64(text, "us") if _DATE.fullmatch(text) else days_of(text)


def _names(opened: History, found: Forecast) -> tuple[str, ...]:
    """Return the source's identifiers of the subjects of a forecast."""
    place = np.searchsorted(opened.events.subjects, found.subjects)
    if opened.ids:
        return tuple(opened.ids[i] for i in place)
    return tuple(str(number) for number in found.subjects)


def _write(told: Foretold, path: Path) -> None:
    """Write a row a patient, whole or not at all."""
    import polars as pl

    from manikin.io.formulas import is_formula_text

    frame = pl.DataFrame(told.rows(), infer_schema_length=None)
    safe = [f"'{name}" if is_formula_text(name) else name for name in told.ids]
    frame = frame.with_columns(pl.Series("subject", safe, dtype=pl.String))
    if told.forecast.mark:
        frame = frame.with_columns(pl.lit(told.forecast.mark).alias("note"))
    aside = path.with_name(f".{path.name}.partial")
    try:
        frame.write_csv(aside)
        aside.chmod(0o600)
        aside.replace(path)
    except OSError as error:
        raise OutputError(
            f"'{path.name}' cannot be written: {error.strerror}",
            "a folder that exists, with room, in which you may write",
            "choose another place",
        ) from error
    finally:
        aside.unlink(missing_ok=True)
