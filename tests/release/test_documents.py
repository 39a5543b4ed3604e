"""The documents of one release: they agree, outside readers read them, and they claim nothing."""

import csv
import fnmatch
import html
import io
import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SCHEMA, report

from manikin import catalogue, pipeline
from manikin.release.cards import write_cards
from manikin.release.documents import MARK, TO_FILL_IN, Dossier
from manikin.release.evidence import FACTS, checklists, facts, render_evidence
from manikin.release.record import read_record
from manikin.release.seal import verify

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
N = 300
DOCUMENTS = ("DATASET_CARD.md", "MODEL_CARD.md", "README.md", "croissant.json", "evidence.html",
             "prov.json", "ro-crate-metadata.json")  # fmt: skip


def planted(i: int) -> tuple[str, str, str, str]:
    """Four identifiers of patient `i`; 1,200 in all."""
    return (
        f"Canary Surname{i * 7919 % 9973:04d}x",
        f"MRN{700_000_000 + i * 104_729}",
        f"canary{i}@planted.example",
        f"Seen by Dr Plant{i}ed on ward {i}: canary text about nobody else, doing well today",
    )


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["name", "mrn", "email", "note", "age", "sex", "crp", "code", "died"])
    for i in range(N):
        age = int(rng.integers(20, 90))
        crp = "98765.4" if i == 5 else f"{rng.gamma(2, 5):.1f}"
        code = "CANARYCODE" if i == 9 else f"C{int(rng.geometric(0.5))}"
        died = "yes" if rng.random() < age / 150 else "no"
        rows.writerow([*planted(i), age, "FM"[i % 2], crp, code, died])
    path = tmp_path_factory.mktemp("clinic") / "clinic.csv"
    path.write_text(text.getvalue())
    return path


@pytest.fixture(scope="module")
def release(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "release"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        done = pipeline.synthesize(
            clinic, out=out, target="died", sensitive=("sex",), quasi_identifiers=("age",),
            seed=1, who="Ward 3", accept=("identifying",),
        )  # fmt: skip
    return done.directory


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


# ---------------------------------------------------------------------------- all of them
def test_every_document_is_there_and_sealed(release: Path) -> None:
    assert {path.name for path in release.iterdir()} >= set(DOCUMENTS)
    assert verify(release).ok
    closed = read_record(release / "record.jsonl")[-1]
    assert set(DOCUMENTS) <= set(closed.content["outputs"])


def test_one_run_is_told_alike_everywhere(release: Path) -> None:
    run = read_record(release / "record.jsonl")[0].content["run"]
    headline = content(release / "report.json")["verdict"]["headline"]
    for name in set(DOCUMENTS) - {"README.md"}:
        assert run in (release / name).read_text(encoding="utf-8"), name
    for name in set(DOCUMENTS) - {"prov.json"}:
        text = (release / name).read_text(encoding="utf-8").replace("\\", "")
        assert headline in text, name


def test_synthetic_data_are_marked_for_machines_and_for_people(release: Path) -> None:
    assert content(release / "croissant.json")["rai:hasSyntheticData"] is True
    graph = {
        entity["@id"]: entity for entity in content(release / "ro-crate-metadata.json")["@graph"]
    }
    assert graph["./"]["hasSyntheticData"] is graph["data.csv"]["hasSyntheticData"] is True
    assert read_record(release / "record.jsonl")[-1].content["synthetic"] == ["data.csv"]
    data = [e for e in content(release / "prov.json")["entity"].values() if e.get("mk:synthetic")]
    assert len(data) == 1
    for name in ("DATASET_CARD.md", "README.md", "evidence.html"):
        assert MARK in (release / name).read_text(encoding="utf-8")


def test_the_mark_is_in_no_cell(release: Path, clinic: Path) -> None:
    made, source = (path.read_text().splitlines()[0] for path in (release / "data.csv", clinic))
    assert made == source
    assert "synthetic" not in (release / "data.csv").read_text().lower()


def test_of_twelve_hundred_planted_identifiers_none_is_anywhere(release: Path) -> None:
    canaries = [text for i in range(N) for text in planted(i)]
    assert len(set(canaries)) == 1200
    for path in release.iterdir():
        text = path.read_text(encoding="utf-8", errors="replace")
        found = [canary for canary in canaries if canary in text]
        assert not found, (path.name, len(found))
        assert "canary" not in text.replace("CANARYCODE", "").lower(), path.name


@pytest.mark.parametrize("rare", ["98765", "98 765", "98\u202f765", "CANARYCODE"])
def test_what_one_patient_has_is_in_no_document(release: Path, rare: str) -> None:
    for path in release.iterdir():
        if path.name != "data.csv":
            assert rare not in path.read_text(encoding="utf-8"), path.name


CLAIMS = re.compile(r"\b(compliant|compliance|safe|safely|certified|anonymous data)\b", re.I)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_claims_that_a_rule_is_met(release: Path, name: str) -> None:
    text = (release / name).read_text(encoding="utf-8")
    shown = re.sub(r'(href|content)="[^"]*"', "", text)  # "compliance" is one of the report's Cs
    assert CLAIMS.findall(shown) == []


def test_an_evaluation_has_documents_too_but_no_card_of_data(tmp_path: Path) -> None:
    write_cards(tmp_path, None, SCHEMA, report(settings={"source": "other.csv"}))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "evidence.html", "prov.json", "ro-crate-metadata.json"}
    assert MARK not in (tmp_path / "README.md").read_text()
    graph = content(tmp_path / "ro-crate-metadata.json")["@graph"]
    assert "hasSyntheticData" not in graph[1]
    assert "made by another tool" in (tmp_path / "evidence.html").read_text()


def test_markup_in_names_stays_text_everywhere(tmp_path: Path) -> None:
    bad = '<script>alert(1)</script>[x](http://evil)"\u202e|'
    (tmp_path / "data.csv").write_text("a\n1\n")
    made = report(settings={"source": bad, "synthesizer": bad, "kind": bad, "recipe": {bad: bad}})
    write_cards(tmp_path, "data.csv", SCHEMA, made)
    assert "<script" not in (tmp_path / "evidence.html").read_text()
    for name in ("DATASET_CARD.md", "MODEL_CARD.md", "README.md"):
        text = (tmp_path / name).read_text()
        assert "<script" not in text.replace("\\<", "") and "](http" not in text.replace("\\]", "")
    for name in ("croissant.json", "prov.json", "ro-crate-metadata.json"):
        assert content(tmp_path / name)


# ---------------------------------------------------------------------------- cards
def test_cards_leave_blank_what_a_person_must_say(release: Path) -> None:
    for name in ("DATASET_CARD.md", "MODEL_CARD.md"):
        text = (release / name).read_text(encoding="utf-8")
        assert text.count("TO BE FILLED IN:") == len(TO_FILL_IN)
        assert all(f"**{blank.what}**" in text for blank in TO_FILL_IN)


def test_the_dataset_card_shows_every_score_with_its_interval(release: Path) -> None:
    text = (release / "DATASET_CARD.md").read_text(encoding="utf-8")
    overall = [
        line for line in content(release / "report.json")["scores"] if line["group"] == "all"
    ]
    assert len(overall) > 5
    for line in overall:
        row = next(row for row in text.splitlines() if f"(`{line['metric']}`)" in row)
        if line["value"] is not None:
            assert (
                f"{line['value'] + 0:.3f}".replace("-", "\u2212").replace("\u22120.000", "0.000")
                in row
            )
        if line["low"] is not None:
            assert " to " in row


@pytest.mark.parametrize(
    ("kind", "said"),
    [("representative", "Representative"), ("conditioned", "no prevalence"),
     ("rebalanced", "no prevalence"), (None, "not stated")],
)  # fmt: skip
def test_the_stamp_is_on_the_card(tmp_path: Path, kind: str | None, said: str) -> None:
    (tmp_path / "data.csv").write_text("a\n1\n")
    given = report(settings={"source": "x.csv", "synthesizer": "table/seqtree", "kind": kind})
    write_cards(tmp_path, "data.csv", SCHEMA, given)
    for name in ("DATASET_CARD.md", "evidence.html"):
        assert said in (tmp_path / name).read_text(encoding="utf-8")
    assert kind is None or kind in content(tmp_path / "croissant.json")["keywords"]


# ---------------------------------------------------------------------------- outside readers
@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_validates_the_release(release: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    dataset = library.Dataset(jsonld=release / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    assert len(list(dataset.records("rows"))) == N


@pytest.mark.filterwarnings("ignore")
def test_rocrate_reads_the_crate(release: Path) -> None:
    library = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed")
    read = library.ROCrate(str(release))
    inside = {path.name for path in release.iterdir()}
    assert {e.id for e in read.data_entities} == inside - {"ro-crate-metadata.json",
                                                           "MANIFEST.sha256"}  # fmt: skip
    (action,) = read.root_dataset["mentions"]
    assert action.type == "CreateAction" and action["agent"]["name"] == "Ward 3"
    instruments = action["instrument"]
    assert [tool["name"] for tool in instruments] == ["Manikin"]
    assert "data.csv" in {result.id for result in action["result"]}
    assert read.mainEntity.id == "data.csv"


def test_the_crate_keeps_the_musts_of_its_specifications(release: Path) -> None:
    document = content(release / "ro-crate-metadata.json")
    graph = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(graph) == len(document["@graph"])  # flattened: an entity stands once
    # RO-Crate 1.1, "RO-Crate Metadata File Descriptor" and "Root Data Entity"
    descriptor = graph["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    root = graph["./"]
    assert root["@type"] == "Dataset"
    assert all(root[key] for key in ("name", "description", "datePublished", "license"))
    assert all("@type" in entity for entity in graph.values())
    # "Data entities": each is linked from the root, and is where it says it is
    files = [entity for entity in graph.values() if entity["@type"] == "File"]
    assert {entity["@id"] for entity in files} == {part["@id"] for part in root["hasPart"]}
    for entity in files:
        path = release / entity["@id"]
        assert path.is_file()
        if "contentSize" in entity:
            assert entity["contentSize"] == str(path.stat().st_size)
    # Process Run Crate 0.5: profile, instrument, and what the action made
    assert root["conformsTo"]["@id"] == "https://w3id.org/ro/wfrun/process/0.5"
    assert graph[root["conformsTo"]["@id"]]["@type"] == "CreativeWork"
    action = graph[root["mentions"][0]["@id"]]
    assert action["@type"] == "CreateAction"
    for key in ("instrument", "object", "result"):
        assert action[key] and all(each["@id"] in graph for each in action[key])
    assert graph[action["instrument"][0]["@id"]]["@type"] == "SoftwareApplication"
    assert action["startTime"] < action["endTime"]
    # every reference inside the crate leads somewhere
    names = re.findall(r'\{"@id": "([^"]+)"\}', json.dumps(document))
    outside = ("https://w3id.org/ro/crate/1.1", "http://schema.org/CompletedActionStatus")
    assert [name for name in names if name not in graph and name not in outside] == []


def test_prov_reads_the_provenance(release: Path) -> None:
    library = pytest.importorskip("prov.model", reason="prov is not installed")
    document = library.ProvDocument.deserialize(str(release / "prov.json"))
    kinds = {type(record).__name__ for record in document.get_records()}
    assert {"ProvEntity", "ProvActivity", "ProvAgent", "ProvUsage", "ProvGeneration",
            "ProvAssociation", "ProvAttribution", "ProvDerivation",
            "ProvDelegation"} <= kinds  # fmt: skip
    again = json.loads(document.serialize(format="json"))
    assert set(again["entity"]) == set(content(release / "prov.json")["entity"])


def test_provenance_leads_from_the_data_back_to_the_source(release: Path) -> None:
    document = content(release / "prov.json")
    came = {d["prov:generatedEntity"]: d["prov:usedEntity"]
            for d in document["wasDerivedFrom"].values()}  # fmt: skip
    assert came["run:file/data.csv"] == "run:model"
    assert came["run:model"] == "run:part/train"
    assert came["run:part/train"] == "run:source"
    assert document["entity"]["run:source"]["mk:data"].startswith("hmac-sha256:")
    named = {**document["entity"], **document["activity"], **document["agent"]}
    for kind in ("used", "wasGeneratedBy", "wasAssociatedWith", "wasAttributedTo"):
        for relation in document[kind].values():
            assert all(value in named for key, value in relation.items() if key != "prov:time"), (
                relation
            )
    made = [relation["prov:entity"] for relation in document["wasGeneratedBy"].values()]
    assert len(made) == len(set(made))  # nothing is made twice


# ---------------------------------------------------------------------------- the evidence pack
def test_checklists_are_whole() -> None:
    found = checklists()
    assert [checklist.key for checklist in found] == [
        "ema-health-canada", "hipaa-expert", "gdpr-wp29", "eu-ai-act", "nist-800-226"
    ]  # fmt: skip
    for checklist in found:
        assert checklist.title and checklist.source
        for item in checklist.items:
            assert item.asks.endswith("?") and item.source and item.not_shown and item.decide
            assert set(item.shows) <= {*FACTS, "scores"}
            assert bool(item.scores) == ("scores" in item.shows)
            for pattern in item.scores:  # a question never waits for a metric that there is not
                assert fnmatch.filter(catalogue.metric_names(), pattern), pattern
    used = {topic for checklist in found for item in checklist.items for topic in item.shows}
    assert used == {*FACTS, "scores"}  # no fact is written for nobody


def test_every_question_leaves_the_decision_to_a_person(release: Path) -> None:
    page = (release / "evidence.html").read_text(encoding="utf-8")
    n_items = sum(len(checklist.items) for checklist in checklists())
    assert page.count('<article class="item"') == n_items
    assert page.count("A person must decide") == n_items
    assert page.count('<span class="line">Signature</span>') == n_items + 1
    assert "not legal advice" in page.lower()


def test_every_number_leads_to_its_score(release: Path) -> None:
    page = (release / "evidence.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'id="([^"]+)"', page))
    for target in re.findall(r'href="#([^"]+)"', page):
        assert target in anchors
    report_anchors = set(re.findall(r'id="([^"]+)"', (release / "report.html").read_text("utf-8")))
    for file, _, target in (
        link.partition("#") for link in re.findall(r'href="([^#"][^"]*)"', page)
    ):
        assert (release / file).is_file(), file
        assert not target or target in report_anchors, target


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    dossier = Dossier.of(tmp_path, report(scores=()), SCHEMA, None)
    ema = checklists()[0]
    said = [fact.said for fact in facts(ema.items[2], dossier, {})]
    assert said[:1] == ["Not measured in this run: privacy/identity, privacy/unique_values, "
                    "privacy/rare_values."]  # fmt: skip
    page = render_evidence(dossier)
    assert "Nothing in this release bears on it." in page


def test_the_pack_loads_nothing(release: Path) -> None:
    page = (release / "evidence.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html.unescape(page) and "<script" not in page
    assert not re.search(r"(src=|url\(|@import|https?://)", page)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_opens_and_prints_the_pack(release: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'pack.pdf'}",
         f"--user-data-dir={tmp_path / 'profile'}", (release / "evidence.html").as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    pdf = (tmp_path / "pack.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    widths = {match for match in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)}
    assert all(abs(float(w) - 595) < 2 and abs(float(h) - 842) < 2 for w, h in widths)  # A4 in pt
