"""Figures as small inline SVG: no script, no asset, sharp in print, readable by a screen reader.

Real is always the filled blue, synthetic always the orange line or hatched bar, so that the two
can be told apart without colour. Colours are CSS variables of the page (Okabe and Ito's blue and
vermillion, which every kind of colour vision separates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from markupsafe import Markup, escape

from manikin.data.graph import Graph, to_svg
from manikin.release.lines import Line
from manikin.release.statement import Statement
from manikin.release.summaries import Bin, ColumnSummary, nice_step
from manikin.release.survival import Curve, SurvivalCurves

__all__ = [
    "column_figure",
    "curve_figure",
    "figure",
    "heat_map",
    "network_figure",
    "percent",
    "shortened",
    "survival_figure",
    "text",
    "trade_off",
    "whisker",
]

SHADES = 8  # steps of a heat map's colour on each side of zero


def figure(width: float, height: float, said: str, body: str, kind: str) -> Markup:
    """Return a figure that a screen reader can say."""
    return Markup(
        '<svg class="figure {}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
    ).format(kind, width, height, said, Markup(body))


def text(x: float, y: float, told: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text of a figure, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(told)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'
    )


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def shortened(told: str, most: int) -> str:
    """Return a text cut to so many characters."""
    return told if len(told) <= most else told[: most - 1] + "…"


# ---------------------------------------------------------------------------- one column
def column_figure(summary: ColumnSummary) -> Markup:
    """Draw real and synthetic shares of a column: ranges upright, categories as pairs of bars."""
    if not summary.bins:
        return Markup("")
    ranged = [b for b in summary.bins if b.low is not None or b.high is not None]
    if len(ranged) >= 3:
        return _ranges(summary, ranged, [b for b in summary.bins if b not in ranged])
    return _pairs(summary)


def _ranges(summary: ColumnSummary, ranged: Sequence[Bin], marks: Sequence[Bin]) -> Markup:
    width, height, left, base, top = 320.0, 142.0, 4.0, 124.0, 16.0
    gap = 10.0 if marks else 0.0
    slot = (width - 2 * left - gap) / (len(ranged) + len(marks))
    tallest = max(max(b.real, b.synthetic) for b in summary.bins) or 1.0
    drawn: list[str] = []
    line: list[str] = []
    ticks = _tick_places(ranged)
    for i, cell in enumerate([*ranged, *marks]):
        x = left + i * slot + (gap if i >= len(ranged) else 0)
        real, synthetic = ((base - top) * share / tallest for share in (cell.real, cell.synthetic))
        drawn.append(_rect(x + 0.5, base - real, slot - 1, real, "real"))
        y = base - synthetic
        if i == len(ranged):
            line.append("M")
        line.append(f"{x:.1f},{y:.1f} {x + slot:.1f},{y:.1f}")
        if i in ticks:
            anchor = "start" if i == 0 else "middle"
            drawn.append(text(x if i else left, base + 14, ticks[i], "tick", anchor))
        if i >= len(ranged):
            drawn.append(text(x + slot, base + 14, shortened(cell.label, 9), "tick", "end"))
    path = "M" + " ".join(line).replace(" M ", "M")
    drawn.append(f'<path d="{path}" class="synthetic-line"/>')
    drawn.append(f'<path d="M{left},{base}H{width - left}" class="axis"/>')
    drawn.append(text(left, 10, f"tallest {percent(tallest)} of rows", "tick"))
    return figure(width, height, _said(summary), "".join(drawn), "ranges")


def _tick_places(ranged: Sequence[Bin]) -> dict[int, str]:
    """Return the labels under the bars: the open low end and about three inner edges."""
    longest = max(len(_short_label(cell)) for cell in ranged)
    every = max(1, round(len(ranged) / (4 if longest <= 7 else 3)))
    places = {0: _short_label(ranged[0])}
    room = 2 + max(0, len(places[0]) - 5) // 3  # slots that the first label takes
    for i in range(every, len(ranged) - 1, every):
        if i >= room:
            places[i] = _short_label(ranged[i])
    return places


def _short_label(cell: Bin) -> str:
    return cell.label.partition(" to ")[0]


def _pairs(summary: ColumnSummary) -> Markup:
    width, step, left, top = 320.0, 26.0, 104.0, 2.0
    tallest = max(max(b.real, b.synthetic) for b in summary.bins) or 1.0
    room = width - left - 46
    drawn: list[str] = []
    for i, cell in enumerate(summary.bins):
        y = top + i * step
        drawn.append(text(left - 6, y + 14, shortened(cell.label, 17), "level", "end"))
        for share, down, kind in ((cell.real, 0, "real"), (cell.synthetic, 10, "synthetic")):
            drawn.append(_rect(left, y + 1 + down, room * share / tallest, 9, kind))
        drawn.append(text(left + 4 + room * cell.real / tallest, y + 9, percent(cell.real), "tick"))
        drawn.append(
            text(
                left + 4 + room * cell.synthetic / tallest, y + 19, percent(cell.synthetic), "tick"
            )
        )
    height = top + len(summary.bins) * step
    drawn.append(f'<path d="M{left},0V{height:g}" class="axis"/>')
    return figure(width, height, _said(summary), "".join(drawn), "pairs")


def _said(summary: ColumnSummary) -> str:
    widest = max(summary.bins, key=lambda b: abs(b.real - b.synthetic))
    return (
        f"{summary.name}: shares of rows in {len(summary.bins)} cells. Largest difference at "
        f"{widest.label}: real {percent(widest.real)}, synthetic {percent(widest.synthetic)}."
    )


# ---------------------------------------------------------------------------- one score
def whisker(line: Line) -> Markup:
    """Draw a score with its interval between floor and ceiling."""
    marks = [
        v for v in (line.value, line.low, line.high, line.floor, line.ceiling) if v is not None
    ]
    if line.value is None or not marks:
        return Markup("")
    low, high = min(marks), max(marks)
    if line.better == "lower" or line.family == "fairness":
        low, high = min(low, 0.0), max(high, 0.0)
    pad = 0.08 * (high - low) or 0.05
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return 4 + 212 * (value - low) / (high - low)

    drawn = ['<path d="M4,13H216" class="axis"/>']
    if low < 0 < high:
        drawn.append(f'<path d="M{at(0):.1f},6V20" class="zero"/>')
    if line.floor is not None:
        x = at(line.floor)
        drawn.append(f'<path d="M{x - 4:.1f},9h8v8h-8z" class="floor"/>')
    if line.ceiling is not None:
        x = at(line.ceiling)
        drawn.append(f'<path d="M{x:.1f},7l6,6l-6,6l-6,-6z" class="ceiling"/>')
    if line.low is not None and line.high is not None:
        drawn.append(f'<path d="M{at(line.low):.1f},13H{at(line.high):.1f}" class="interval"/>')
    drawn.append(f'<circle cx="{at(line.value):.1f}" cy="13" r="4.5" class="value"/>')
    return figure(220, 26, f"{line.label}: {line.value:.3f}", "".join(drawn), "whisker")


# ---------------------------------------------------------------------------- one curve
AXES = (  # pattern of the score's name, what stands along each axis, what the diagonal is
    ("privacy/*", "strangers taken for members", "members found", "a coin"),
    ("*calibration*", "predicted risk", "observed share", "perfect"),
    ("*", "false alarms", "found", "a coin"),
)


def curve_figure(line: Line) -> Markup:
    """Draw a curve in the unit square beside its diagonal: a ROC curve, or a calibration."""
    _, across, up, diagonal = next(axis for axis in AXES if fnmatchcase(line.metric, axis[0]))
    said = f"{line.label}, {line.group}: {up} against {across}"
    if line.value is not None:
        said += f"; {line.value:.3f}"
    tenth = next((py for px, py in line.curve if px >= 0.1), None)
    if tenth is not None:
        said += f". At 10 % {across}: {percent(tenth)}."
    return _unit_square(line.curve, across, up, diagonal, said)


def trade_off(said: Statement) -> Markup:
    """Draw the most members that any attacker finds, by strangers taken for members."""
    grid = [0.0, *(10 ** (k / 10 - 4) for k in range(41))]
    points = [(x, said.most(x)) for x in grid]
    told = f"Members found at most: {percent(said.most(0.1))} at 10 % false alarms."
    return _unit_square(
        points, "strangers taken for members", "members found, at most", "guessing", told
    )


def _unit_square(
    points: Sequence[tuple[float, float]], across: str, up: str, diagonal: str, said: str
) -> Markup:
    left, top, side = 52.0, 8.0, 188.0

    def at(x: float, y: float) -> str:
        x, y = min(1.0, max(0.0, x)), min(1.0, max(0.0, y))
        return f"{left + side * x:.1f},{top + side * (1 - y):.1f}"

    drawn: list[str] = []
    for share in (0.0, 0.5, 1.0):
        drawn.append(f'<path d="M{at(0, share)}L{at(1, share)}" class="grid"/>')
        drawn.append(f'<path d="M{at(share, 0)}L{at(share, 1)}" class="grid"/>')
        drawn.append(
            text(left - 5, top + side * (1 - share) + 4, f"{100 * share:g} %", "tick", "end")
        )
        drawn.append(
            text(left + side * share, top + side + 14, f"{100 * share:g} %", "tick",
                  "end" if share == 1 else "middle")
        )  # fmt: skip
    drawn.append(f'<path d="M{at(0, 0)}L{at(1, 1)}" class="diagonal"/>')
    drawn.append(f'<path d="M{" ".join(at(x, y) for x, y in points)}" class="synthetic-line"/>')
    drawn.append(text(left + side / 2, top + side + 30, across, "tick", "middle"))
    x, y = left - 42, top + side / 2
    drawn.append(
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" class="tick" '
        f'transform="rotate(-90 {x:.1f} {y:.1f})">{escape(up)}</text>'
    )
    drawn.append(text(left + 0.6 * side, top + side * 0.54, diagonal, "tick"))
    return figure(left + side + 6, top + side + 36, said, "".join(drawn), "curve")


# ---------------------------------------------------------------------------- pairs of columns
def heat_map(title: str, names: Sequence[str], values: Sequence[Sequence[float | None]]) -> Markup:
    """Draw a matrix, one path a shade so that forty columns stay small."""
    n = len(names)
    left, top = 96.0, 0.0
    cell = 320.0 / n
    paths: dict[str, list[str]] = {}
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value is None:
                shade = "none"
            else:
                level = min(SHADES, round(abs(value) * SHADES))
                shade = f"{'minus' if value < 0 else 'plus'}{level}" if level else "blank"
            box = f"M{left + j * cell:.1f},{top + i * cell:.1f}h{cell:.1f}v{cell:.1f}h-{cell:.1f}z"
            paths.setdefault(shade, []).append(box)
    drawn = [f'<path d="{"".join(boxes)}" class="heat {k}"/>' for k, boxes in paths.items()]
    size = min(11.0, cell * 0.9)
    drawn += [
        f'<text x="{left - 5:g}" y="{top + (i + 0.5) * cell + size * 0.35:.1f}" '
        f'font-size="{size:.1f}" text-anchor="end">{escape(shortened(name, 15))}</text>'
        for i, name in enumerate(names)
    ]
    said = (
        f"{title}: association of {n} columns, named beside the rows and in the same order across."
    )
    return figure(left + 322, 322, said, "".join(drawn), "heat-map")


# ---------------------------------------------------------------------------- survival
def survival_figure(curves: SurvivalCurves) -> Markup:
    """Draw both Kaplan-Meier curves with their bands."""
    width, height, left, base, top = 640.0, 300.0, 44.0, 262.0, 10.0
    end = curves.times[-1] or 1.0

    def x(time: float) -> float:
        return left + (width - left - 12) * time / end

    def y(share: float) -> float:
        return base - (base - top) * share

    drawn: list[str] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(f'<path d="M{left},{y(share):.1f}H{width - 12}" class="grid"/>')
        drawn.append(text(left - 6, y(share) + 4, f"{100 * share:g} %", "tick", "end"))
    step = nice_step(end / 6)
    for i in range(int(end / step + 1e-9) + 1):
        drawn.append(text(x(i * step), base + 16, f"{i * step:g}", "tick", "middle"))
    label = f"{curves.time}, {curves.unit}" if curves.unit else curves.time
    drawn.append(text((left + width) / 2, height - 4, label, "tick", "middle"))
    xs = [x(time) for time in curves.times]
    for curve, kind in ((curves.real, "real"), (curves.synthetic, "synthetic")):
        drawn.append(_band(xs, curve, y, kind))
    for curve, kind in ((curves.real, "real"), (curves.synthetic, "synthetic")):
        points = [f"{px:.1f},{y(v):.1f}" for px, v in zip(xs, curve.survival, strict=True)]
        drawn.append(f'<path d="M{" ".join(points)}" class="{kind}-line"/>')
    said = (
        f"Share without the event over {curves.time}. Largest gap between the curves: "
        f"{percent(curves.largest_gap)}. At the end real {percent(curves.real.survival[-1])}, "
        f"synthetic {percent(curves.synthetic.survival[-1])}."
    )
    return figure(width, height, said, "".join(drawn), "survival")


def _band(xs: Sequence[float], curve: Curve, y: Callable[[float], float], kind: str) -> str:
    """Return the area between the ends of the interval."""
    there = [f"{px:.1f},{y(v):.1f}" for px, v in zip(xs, curve.high, strict=True)]
    back = [f"{px:.1f},{y(v):.1f}" for px, v in zip(xs, curve.low, strict=True)]
    return f'<path d="M{" ".join([*there, *reversed(back)])}Z" class="{kind}-band"/>'


# ---------------------------------------------------------------------------- network
def network_figure(graph: Graph) -> Markup:
    """Draw what depends on what in the model: columns in layers, thick edges tell much."""
    strongest = max(graph.edges, key=lambda edge: edge.strength, default=None)
    said = f"A network of {len(graph.nodes)} columns with {len(graph.edges)} edges."
    if strongest is not None:
        said += f" The strongest leads from {strongest.source} to {strongest.target}."
    return Markup(to_svg(graph, said))  # which escapes every name
