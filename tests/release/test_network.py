"""The network of a model that can show one: in the page, the data and the model card."""

import json
from pathlib import Path

import numpy as np
from examples import report
from test_html import PAYLOADS, Tags

from manikin import pipeline
from manikin.data.graph import Edge, Graph
from manikin.release.html import render_html

GRAPH = Graph(
    ("age", "stage", "death", "crp"),
    (Edge("age", "stage", 0.71, 0.9), Edge("stage", "death", 0.12, None, True)),
    "The edges come from a search.",
)


def test_a_network_has_a_section_and_no_network_has_none() -> None:
    page = render_html(report(graph=GRAPH))
    assert 'id="network"' in page and 'href="#network"' in page
    assert "The strongest leads from age to stage." in page
    assert page.count('class="edge"') == 2 and page.count('class="node"') == 4
    assert "The edges come from a search." in page and "90.0" in page
    assert 'id="network"' not in render_html(report())


def test_a_network_without_edges_is_drawn() -> None:
    page = render_html(report(graph=Graph(("age",), ())))
    assert page.count('class="node"') == 1 and 'class="edge"' not in page


def test_names_of_columns_stay_text() -> None:
    names = tuple(PAYLOADS)
    graph = Graph(names, tuple(Edge(a, names[0], 0.5) for a in names[1:]), names[-1])
    plain, hostile = Tags(), Tags()
    safe = tuple(f"x{i}" for i in range(len(names)))
    plain.feed(
        render_html(report(graph=Graph(safe, tuple(Edge(a, safe[0], 0.5) for a in safe[1:]), "x")))
    )
    hostile.feed(render_html(report(graph=graph)))
    assert hostile.found == plain.found and hostile.risky == []


def test_a_release_shows_the_network_of_its_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stage = rng.integers(0, 3, 400)
    died = rng.random(400) < 0.1 + 0.4 * stage
    lines = ["stage,died,site"]
    lines += [f"{'I' * (s + 1)},{'yes' if d else 'no'},{rng.integers(2)}"
              for s, d in zip(stage, died, strict=True)]  # fmt: skip
    (tmp_path / "ward.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = pipeline.synthesize(
        tmp_path / "ward.csv", out=tmp_path / "r", synthesizer="table/bayes_net",
        settings={"edges": ("site->died",)}, target="died", profile="quick", seed=1,
    )  # fmt: skip
    told = json.loads(done.report.with_name("report.json").read_text(encoding="utf-8"))["graph"]
    ends = {(edge["source"], edge["target"], edge["given"]) for edge in told["edges"]}
    assert ("site", "died", True) in ends
    assert {("stage", "died", False), ("died", "stage", False)} & ends
    assert 'id="network"' in done.report.read_text(encoding="utf-8")
    card = (done.directory / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## What depends on what" in card and "| site | died |" in card
