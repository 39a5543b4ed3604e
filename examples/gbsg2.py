"""The main job on a real clinical table: German Breast Cancer Study Group 2 (686 women).

Schumacher et al., J Clin Oncol 12 (1994) 2086-2093; the table comes with the lifelines package.
Columns: hormone therapy, age, menopause, tumour size and grade, positive nodes, progesterone and
oestrogen receptors, recurrence-free time in days, and whether recurrence was seen (`cens` = 1).

usage: python examples/gbsg2.py [OUTPUT DIRECTORY]
"""

import os
import sys
import tempfile
from pathlib import Path

from lifelines.datasets import load_gbsg2

import manikin as mk


def say(progress: mk.Progress) -> None:
    """Print each new piece of work, once."""
    if progress.what not in heard:
        heard.append(progress.what)
        print(f"  … {progress.what}", flush=True)


heard: list[str] = []


def main(out: str = "demo-release") -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "gbsg2.csv"
        load_gbsg2().to_csv(source, index=False)
        done = mk.synthesize(
            source,
            out=out,
            time="time",
            event="cens",
            quasi_identifiers=("age", "menostat"),
            sensitive=("menostat",),
            overwrite=True,
            watch=say,
        )
    print()
    for line in done.verdict:
        print(f"  {line}")
    print(f"\nReport   {done.report}   (open it in a browser; it needs no network)")
    print(f"Data     {done.data}")
    print(f"Record   {done.record}")
    command = os.path.relpath(Path(sys.executable).with_name("manikin"))
    print(f"Verify   {command} verify {done.directory}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
