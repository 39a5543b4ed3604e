"""Figures of histories as small inline SVG, in the manner and colours of `figures`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from manikin.release.figures import figure, percent, shortened, text
from manikin.release.histories import CodeShare, Fan, Timeline
from manikin.release.summaries import nice_step

__all__ = ["fan_figure", "scatter_figure", "timeline_figure"]

LANES = ("visit", "condition", "drug", "procedure", "measurement", "observation", "device", "death")
LEAST = 1e-4  # share at which the scatter's scale ends at the latest


def timeline_figure(timeline: Timeline) -> Markup:
    """Draw one synthetic patient: a lane for each domain, days across."""
    lanes = [lane for lane in LANES if any(mark.domain == lane for mark in timeline.marks)]
    width, left, step, top = 420.0, 92.0, 18.0, 6.0
    base = top + step * len(lanes)
    end = timeline.days or 1.0

    def x(day: float) -> float:
        return left + (width - left - 10) * min(day, end) / end

    drawn: list[str] = []
    for i, lane in enumerate(lanes):
        y = top + step * (i + 0.5)
        drawn.append(f'<path d="M{left:g},{y:.1f}H{width - 10:g}" class="grid"/>')
        drawn.append(text(left - 8, y + 4, lane, "level", "end"))
        marks = [mark for mark in timeline.marks if mark.domain == lane]
        for start, stop in {(mark.day, mark.until) for mark in marks if mark.until is not None}:
            long = max(2.0, x(stop or start) - x(start))
            drawn.append(f'<rect x="{x(start):.1f}" y="{y - 4:.1f}" width="{long:.1f}" height="8" '
                         'class="synthetic"/>')  # fmt: skip
        ticks = sorted({round(x(mark.day), 1) for mark in marks if mark.until is None})
        if lane == "death":
            drawn += [f'<path d="M{at - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8" class="synthetic-line"/>'
                      for at in ticks]  # fmt: skip
        elif ticks:
            path = "".join(f"M{at:.1f},{y - 5:.1f}v10" for at in ticks)
            drawn.append(f'<path d="{path}" class="synthetic-line"/>')
    drawn += _days(x, end, base + 13, left)
    said = f"{timeline.title}: {len(timeline.marks)} events in {timeline.days:.4g} days."
    return figure(width, base + 20, said, "".join(drawn), "timeline")


def _days(x: Callable[[float], float], end: float, y: float, left: float) -> list[str]:
    """Return labels along an axis of days; the first says what they are."""
    step = nice_step(end / 4)
    found = [text(left, y, "day 0", "tick")]
    for i in range(1, int(end / step + 1e-9) + 1):
        if x(i * step) - left > 60:
            found.append(text(x(i * step), y, f"{i * step:g}", "tick", "middle"))
    return found


def scatter_figure(codes: Sequence[CodeShare]) -> Markup:
    """Draw how many real and synthetic patients have each code, on scales of powers of ten."""
    left, top, side = 58.0, 8.0, 330.0
    shares = [v for code in codes for v in (code.real, code.synthetic) if v > 0]
    powers = math.ceil(-math.log10(max(LEAST, min(shares, default=0.1))) - 1e-9)
    powers = max(1, powers)

    def at(share: float) -> float:
        return max(0.0, 1 + math.log10(max(share, 10.0**-powers)) / powers)

    drawn: list[str] = []
    for power in range(powers + 1):
        share = 10.0**-power
        place = side * at(share)
        drawn.append(f'<path d="M{left:g},{top + side - place:.1f}h{side:g}" class="grid"/>')
        drawn.append(f'<path d="M{left + place:.1f},{top:g}v{side:g}" class="grid"/>')
        label = f"{100 * share:g} %"
        drawn.append(text(left - 6, top + side - place + 4, label, "tick", "end"))
        drawn.append(text(left + place, top + side + 15, label, "tick",
                          "end" if power == 0 else "middle"))  # fmt: skip
    drawn.append(f'<path d="M{left:g},{top + side:g}l{side:g},-{side:g}" class="diagonal"/>')
    for code in codes:
        x, y = left + side * at(code.real), top + side * (1 - at(code.synthetic))
        kind = "dot" if code.synthetic > 0 else "dot none"
        told = f"{code.name}: real {percent(code.real)}, synthetic {percent(code.synthetic)}"
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" class="{kind}">'
                     f"<title>{escape(told)}</title></circle>")  # fmt: skip
    drawn.append(text(left + side / 2, top + side + 32, "real patients with the code", "tick",
                      "middle"))  # fmt: skip
    x, y = left - 46, top + side / 2
    drawn.append(
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" class="tick" '
        f'transform="rotate(-90 {x:.1f} {y:.1f})">synthetic patients with the code</text>'
    )
    never = sum(code.synthetic == 0 for code in codes)
    said = f"Shares of patients with each of {len(codes)} codes, real across and synthetic up."
    said += f" {never} of them no synthetic patient has." if never else ""
    return figure(left + side + 8, top + side + 38, said, "".join(drawn), "scatter")


def fan_figure(fan: Fan) -> Markup:
    """Draw quartiles of a number over time, real and synthetic."""
    width, height, left, base, top = 420.0, 190.0, 46.0, 158.0, 10.0
    values = [v for band in fan.bands for side in (band.real, band.synthetic) for v in side]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad
    # bands are drawn equally wide, as the ranges of a column are
    slot = (width - left - 8) / len(fan.bands)

    def y(value: float) -> float:
        return base - (base - top) * (value - low) / (high - low)

    drawn: list[str] = []
    step = nice_step((high - low) / 4)
    first = math.ceil(low / step)
    for k in range(first, math.floor(high / step) + 1):
        drawn.append(f'<path d="M{left:g},{y(k * step):.1f}H{width - 8:g}" class="grid"/>')
        drawn.append(text(left - 5, y(k * step) + 4, f"{k * step:.4g}", "tick", "end"))
    xs = [left + slot * (i + 0.5) for i in range(len(fan.bands))]
    every = max(1, math.ceil(len(xs) / 5))
    for i, band in enumerate(fan.bands):
        if i % every == 0:
            drawn.append(text(xs[i], base + 14, f"{band.low:g}", "tick", "middle"))
    drawn.append(text((left + width) / 2, base + 29, "days since the first event, from", "tick",
                      "middle"))  # fmt: skip
    sides = {"real": [b.real for b in fan.bands], "synthetic": [b.synthetic for b in fan.bands]}
    for kind, found in sides.items():
        there = [f"{x:.1f},{y(q[2]):.1f}" for x, q in zip(xs, found, strict=True)]
        back = [f"{x:.1f},{y(q[0]):.1f}" for x, q in zip(xs, found, strict=True)]
        path = " ".join([*there, *reversed(back)])
        drawn.append(f'<path d="M{path}Z" class="{kind}-band"/>')
    for kind, found in sides.items():
        line = " ".join(f"{x:.1f},{y(q[1]):.1f}" for x, q in zip(xs, found, strict=True))
        drawn.append(f'<path d="M{line}" class="{kind}-line"/>')
    last = fan.bands[-1]
    said = (
        f"{shortened(fan.name, 60)}: medians and quartiles over time. In the last band real median "
        f"{last.real[1]:.4g}, synthetic {last.synthetic[1]:.4g}."
    )
    return figure(width, height, said, "".join(drawn), "fan")
