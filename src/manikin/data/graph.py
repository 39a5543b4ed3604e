"""A graph over columns, drawn from sources to targets: what a network says, as plain data.

A `Graph` is written as Graphviz DOT and drawn as a small SVG without any asset: columns in layers,
each below all that point to it, ordered within a layer by the mean place of those above and below
(Sugiyama, Tagawa & Toda, IEEE Trans. Systems, Man, and Cybernetics 11 (1981)).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from manikin.errors import InputError

__all__ = ["ANY", "Edge", "Graph", "find_cycle", "open_path", "parse_edge", "to_dot", "to_svg"]

ARROW, ANY = "->", "*"
WIDEST = 24  # letters of a name that are drawn
SWEEPS = 8  # passes over the layers that order them
LETTER, BOX, ROW, GAP = 7.0, 26.0, 84.0, 18.0  # sizes in the drawing
NARROWEST = 680.0  # width of the drawing: a page that stretches it leaves letters readable
BULGE = 34.0  # by which an edge goes round the boxes of a layer that it passes


@dataclass(frozen=True)
class Edge:
    """What a target column directly depends on."""

    source: str
    target: str
    strength: float  # bits that the source tells of the target given the target's other sources
    found: float | None = None  # share of resamples in which it was found, either way round
    given: bool = False  # it was asked for, not found in the data


@dataclass(frozen=True)
class Graph:
    """Columns and the edges between them; without a cycle."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    how: str = ""  # one sentence on where the edges come from


def parse_edge(text: str, names: Sequence[str], *, any_name: bool = False) -> tuple[str, str]:
    """Return source and target of "source->target". Raises InputError for unknown columns.

    With `any_name` either may be `*`, any column.
    """
    known = {*names, ANY} if any_name else set(names)
    parts = text.split(ARROW)
    for i in range(1, len(parts)):
        pair = ARROW.join(parts[:i]).strip(), ARROW.join(parts[i:]).strip()
        if set(pair) <= known and pair[0] != pair[1]:
            return pair
    wrong = [part.strip() for part in parts if part.strip() not in known]
    raise InputError(
        f"an edge '{text}'" + (f" of an unknown column '{wrong[0]}'" if wrong else ""),
        "two different columns with an arrow between them, as in 'age->died'"
        + (f"; either may be {ANY}" if any_name else ""),
        f"columns are: {', '.join(names)}",
    )


def find_cycle(edges: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the columns of a cycle, the first again at its end; () when there is none."""
    above: dict[str, list[str]] = {}
    for source, target in edges:
        above.setdefault(target, []).append(source)
        above.setdefault(source, [])
    while True:
        roots = [name for name, sources in above.items() if not sources]
        if not roots:
            break
        above = {
            name: [s for s in sources if s not in roots]
            for name, sources in above.items()
            if name not in roots
        }
    if not above:
        return ()
    walk = [next(iter(above))]
    while walk[-1] not in walk[:-1]:
        walk.append(above[walk[-1]][0])
    return tuple(reversed(walk[walk.index(walk[-1]) :]))


def open_path(edges: Iterable[tuple[str, str]], one: str, other: str) -> str:
    """Return a shortest way along which two columns still tell of each other, '' for none.

    It never meets two arrows head to head: up to a common source, if any, and then down.
    """
    pairs = list(edges)
    seen = {(one, True): one}  # column, and whether the way has only gone up so far
    ahead = [(one, True)]
    while ahead:
        column, up = ahead.pop(0)
        steps = [(s, True, "<-") for s, t in pairs if up and t == column]
        steps += [(t, False, "->") for s, t in pairs if s == column]
        for column_, up_, arrow in steps:
            if (column_, up_) not in seen:
                seen[column_, up_] = f"{seen[column, up]} {arrow} {column_}"
                ahead.append((column_, up_))
                if column_ == other:
                    return seen[column_, up_]
    return ""


# ------------------------------------------------------------------ text


def to_dot(graph: Graph) -> str:
    """Return the graph in Graphviz' DOT language."""
    strongest = _strongest(graph)
    lines = ["digraph network {", "  node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(name)};" for name in graph.nodes]
    for edge in graph.edges:
        width = 0.5 + 3 * edge.strength / strongest
        said = f'label="{edge.strength:.3f}", penwidth={width:.2f}'
        said += ", style=dashed" if edge.given else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [{said}];")
    return "\n".join([*lines, "}", ""])


def _quoted(name: str) -> str:
    plain = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + " ".join(plain.split()) + '"'


def _strongest(graph: Graph) -> float:
    return max((edge.strength for edge in graph.edges), default=0.0) or 1.0


# ------------------------------------------------------------------ drawing


def layers(graph: Graph) -> list[list[str]]:
    """Return the columns in layers from sources to targets, few edges crossing.

    Columns without an edge are not in any.
    """
    above: dict[str, list[str]] = {name: [] for name in graph.nodes}
    below: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for edge in graph.edges:
        above[edge.target].append(edge.source)
        below[edge.source].append(edge.target)
    joined = [name for name in graph.nodes if above[name] or below[name]]
    depth = dict.fromkeys(joined, 0)
    for _ in joined:  # as many times as the longest path can have edges
        for name in joined:
            depth[name] = max((depth[source] + 1 for source in above[name]), default=0)
    for name in joined:  # a root stands just above its first target
        if not above[name]:
            depth[name] = min(depth[target] for target in below[name]) - 1
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in joined:
        rows[depth[name]].append(name)
    for sweep in range(SWEEPS):
        beside = above if sweep % 2 == 0 else below
        place = {name: (i + 0.5) / len(row) for row in rows for i, name in enumerate(row)}
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            mean = {
                name: sum(place[other] for other in beside[name]) / len(beside[name])
                if beside[name]
                else place[name]
                for name in row
            }
            row.sort(key=mean.__getitem__)
            place.update({name: (i + 0.5) / len(row) for i, name in enumerate(row)})
    return rows


def to_svg(graph: Graph, said: str = "") -> str:
    """Return the graph as an SVG element: thicker lines tell more, dashed ones were asked for."""
    rows = layers(graph)
    drawn = {name for row in rows for name in row}
    alone = [name for name in graph.nodes if name not in drawn]
    wide = {name: LETTER * min(max(len(name), 4), WIDEST) + 14 for name in graph.nodes}
    rows = [part for row in rows for part in _fitting(row)] + list(_fitting(alone))
    lengths = [sum(wide[name] + GAP for name in row) + GAP for row in rows]
    width, height = max([*lengths, NARROWEST]), ROW * len(rows) - ROW + BOX + 2 * GAP
    at: dict[str, tuple[float, float]] = {}
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        x = GAP + (width - length) / 2
        for name in row:
            at[name] = x + wide[name] / 2, GAP + BOX / 2 + i * ROW
            x += wide[name] + GAP
    strongest = _strongest(graph)
    body = [
        _line(edge, at, 0.8 + 4.2 * edge.strength / strongest, width / 2) for edge in graph.edges
    ]
    body += [_box(name, *at[name], wide[name]) for name in graph.nodes]
    label = escape(said or f"A network of {len(graph.nodes)} columns", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure network" role="img"'
        f' viewBox="0 0 {width:.0f} {max(height, BOX):.0f}" aria-label="{label}">'
        + "".join(body)
        + "</svg>"
    )


def _fitting(row: list[str]) -> Iterable[list[str]]:
    """Break a long row of boxes into rows of at most eight."""
    most = 8
    for start in range(0, len(row), most):
        yield row[start : start + most]


def _line(edge: Edge, at: dict[str, tuple[float, float]], thick: float, centre: float) -> str:
    (x1, y1), (x2, y2) = at[edge.source], at[edge.target]
    down = 1 if y2 > y1 else -1
    y1, y2 = y1 + down * BOX / 2, y2 - down * (BOX / 2 + 7)
    bend = (y2 - y1) / 2
    passed = max(round(abs(at[edge.target][1] - at[edge.source][1]) / ROW) - 1, 0)
    aside = BULGE * passed * (1 if (x1 + x2) / 2 >= centre else -1)
    dashes = ' stroke-dasharray="5 3"' if edge.given else ""
    more = f", found in {100 * edge.found:.0f} % of resamples" if edge.found is not None else ""
    title = escape(f"{edge.source} → {edge.target}: {edge.strength:.3f} bits{more}")
    tip = f"M{x2:.1f},{y2 + down * 7:.1f}l-4,{-down * 7}h8z"
    path = (
        f"M{x1:.1f},{y1:.1f}C{x1 + aside:.1f},{y1 + bend:.1f} {x2 + aside:.1f},{y2 - bend:.1f}"
        f" {x2:.1f},{y2:.1f}"
    )
    return (
        f'<g class="edge"><title>{title}</title>'
        f'<path d="{path}" fill="none" stroke="#78a" stroke-width="{thick:.1f}"{dashes}/>'
        f'<path d="{tip}" fill="#78a"/></g>'
    )


def _box(name: str, x: float, y: float, width: float) -> str:
    shown = name if len(name) <= WIDEST else name[: WIDEST - 1] + "…"
    return (
        f'<g class="node"><title>{escape(name)}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - BOX / 2:.1f}" width="{width:.1f}" height="{BOX:g}"'
        ' rx="6" fill="#fff" stroke="#78a"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12" fill="#222">'
        f"{escape(shown)}</text></g>"
    )
