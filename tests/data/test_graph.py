"""Graphs of columns: edges read from text, cycles named, and both ways of drawing."""

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.graph import (
    Edge,
    Graph,
    find_cycle,
    layers,
    open_path,
    parse_edge,
    to_dot,
    to_svg,
)
from manikin.errors import InputError

NAMES = ("age", "died", "a->b", 'größe <&> "x"')


def test_an_edge_is_read_even_where_a_name_has_an_arrow() -> None:
    assert parse_edge("age->died", NAMES) == ("age", "died")
    assert parse_edge(" a->b -> died ", NAMES) == ("a->b", "died")
    assert parse_edge("*->age", NAMES, any_name=True) == ("*", "age")


@pytest.mark.parametrize("text", ["age->dead", "age", "", "->", "age->age", "*->age", "age-died"])
def test_what_is_no_edge_is_refused_with_the_columns_named(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_edge(text, NAMES)
    assert "age, died" in caught.value.todo


def test_a_cycle_is_named_in_the_direction_of_its_edges() -> None:
    cycle = find_cycle([("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])
    assert cycle[0] == cycle[-1] and len(cycle) == 4
    assert set(itertools.pairwise(cycle)) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert find_cycle([("a", "b"), ("b", "c"), ("a", "c")]) == ()
    assert find_cycle([]) == ()


def graph_of(pairs: list[tuple[str, str]], nodes: tuple[str, ...]) -> Graph:
    return Graph(nodes, tuple(Edge(a, b, 0.5, 0.9, a == "n0") for a, b in pairs))


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1])))
def test_layers_put_every_target_below_its_sources(pairs: set[tuple[int, int]]) -> None:
    graph = graph_of(
        [(f"n{a}", f"n{b}") for a, b in sorted(pairs)], tuple(f"n{i}" for i in range(10))
    )
    rows = layers(graph)
    depth = {name: i for i, row in enumerate(rows) for name in row}
    assert sorted(depth) == sorted({f"n{i}" for pair in pairs for i in pair})
    assert all(depth[edge.source] < depth[edge.target] for edge in graph.edges)
    root = ET.fromstring(to_svg(graph))
    places = [rect.attrib for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(places) == 10  # columns without an edge are drawn too
    assert len({(p["x"], p["y"]) for p in places}) == 10
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for p in places:
        assert 0 <= float(p["x"]) <= width - float(p["width"])
        assert 0 <= float(p["y"]) <= height - float(p["height"])


def test_drawings_escape_names_and_keep_every_edge() -> None:
    graph = graph_of([("age", "died"), (NAMES[3], "died")], NAMES)
    root = ET.fromstring(to_svg(graph))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert f"{NAMES[3]} → died: 0.500 bits, found in 90 % of resamples" in titles
    dot = to_dot(graph)
    assert dot.count(" -> ") == 2 and '"größe <&> \\"x\\"" -> "died"' in dot
    assert dot.startswith("digraph") and dot.endswith("}\n")


def test_a_graph_of_nothing_is_drawn() -> None:
    ET.fromstring(to_svg(Graph((), ())))
    ET.fromstring(to_svg(Graph(("alone",), ())))
    assert to_dot(Graph((), ())).count("->") == 0


def test_an_edge_that_was_asked_for_is_dashed() -> None:
    graph = graph_of([("n0", "n1"), ("n1", "n2")], ("n0", "n1", "n2"))
    assert to_svg(graph).count("stroke-dasharray") == 1
    assert to_dot(graph).count("style=dashed") == 1


def test_ways_along_which_columns_tell_of_each_other() -> None:
    edges = [("a", "b"), ("b", "c"), ("d", "c"), ("d", "e"), ("x", "a"), ("x", "f")]
    assert open_path(edges, "a", "c") == "a -> b -> c"
    assert open_path(edges, "c", "a") == "c <- b <- a"
    assert open_path(edges, "b", "f") == "b <- a <- x -> f"  # a common source
    assert open_path(edges, "a", "d") == ""  # they meet head to head in c
    assert open_path(edges, "a", "e") == "" and open_path([], "a", "b") == ""
    # the way down is not mistaken for one that leads up again
    assert open_path([("a", "b"), ("c", "b"), ("c", "d")], "a", "d") == ""
