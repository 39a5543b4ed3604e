"""The road under a privacy budget: what is refused, what leaves, and what stays in the house."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manikin as mk
import manikin.synthesizers.table._private as private
from manikin import budgeted, pipeline
from manikin.data.schema import with_roles
from manikin.errors import InputError, MissingExtra, NotSupported, PrivacyError
from manikin.io.models import load
from manikin.leaving import FOLDER
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Gaussian, Keys, Laplace, Sampled
from manikin.release.leaflets import render_statement
from manikin.release.record import read_record
from manikin.release.statement import make_statement, who_of

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

N = 1237  # a number that shows where it should not
SCHEMA = """
columns:
  - {name: patient, kind: identifier, roles: [subject], template: "P-99999"}
  - {name: age, kind: integer, minimum: 18, maximum: 110}
  - {name: sex, kind: categorical, categories: [F, M]}
  - {name: crp, kind: continuous, minimum: 0, maximum: 300, decimals: 1, missing: ["?"]}
  - {name: seen, kind: datetime, date_format: "%d/%m/%Y", minimum: 2019-01-01, maximum: 2019-12-31}
  - {name: note, kind: text}
  - {name: died, kind: boolean, categories: ["no", "yes"], roles: [target]}
"""
LEFT = {"data.csv", "model.manikin", "statement.md", "schema.yaml", "README.md", "record.jsonl",
        "MANIFEST.sha256"}  # fmt: skip


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)


def few(*_: object, **__: object) -> tuple[str, ...]:
    """Return metrics that are quick: none of this hangs on them."""
    return ("fidelity/shapes", "privacy/copies")


def patients(n: int = N) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.integers(20, 90, n)
    return pl.DataFrame(
        {
            "patient": [f"Q{i:05d}XYZZY" for i in rng.permutation(90_000)[:n]],
            "age": age,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
            "crp": [f"{x:.1f}" if x > 2 else "?" for x in rng.gamma(2, 5, n)],
            "seen": [f"{d:02d}/{m:02d}/2019" for d, m in rng.integers(1, 13, (n, 2))],
            "note": [f"CANARY{i} was here" for i in range(n)],
            "died": np.where(rng.random(n) < age / 150, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    patients().write_csv(folder / "clinic.csv", separator=";")
    (folder / "schema.yaml").write_text(SCHEMA)
    return folder


@pytest.fixture(scope="module")
def released(home: Path) -> pipeline.Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        patch.setattr("manikin.catalogue.in_profile", few)
        return pipeline.synthesize(
            home / "clinic.csv", out=home / "release", schema=home / "schema.yaml", epsilon=1,
            seed=3, profile="quick", where="age<80",
        )  # fmt: skip


class TestWhatLeaves:
    def test_it_stands_apart_and_both_seals_hold(self, released: pipeline.Outcome) -> None:
        assert {path.name for path in (released.directory / FOLDER).iterdir()} == LEFT
        assert not (released.directory / "data.csv").exists()
        assert released.data == released.directory / FOLDER / "data.csv"
        assert mk.verify(released.directory).ok
        assert mk.verify(released.directory / FOLDER).ok

    def test_the_folder_holds_by_itself_and_a_changed_byte_shows(
        self, released: pipeline.Outcome, tmp_path: Path
    ) -> None:
        alone = shutil.copytree(released.directory / FOLDER, tmp_path / "alone")
        assert mk.verify(alone).ok
        whole = shutil.copytree(released.directory, tmp_path / "whole")
        (whole / FOLDER / "statement.md").write_text("ε = 0")
        assert mk.verify(whole).altered == (f"{FOLDER}/statement.md",)

    def test_nothing_of_a_row_is_in_it(self, released: pipeline.Outcome) -> None:
        inside = b"".join(path.read_bytes() for path in (released.directory / FOLDER).iterdir())
        assert b"CANARY" not in inside and b"XYZZY" not in inside
        exact = {N, *_sizes(released)} - {_drawn(released)}  # which may be right by chance
        text = inside.decode("utf-8", "replace")
        told = text.replace((released.directory / FOLDER / "data.csv").read_text("utf-8"), "")
        assert len(exact) > 1 and not [n for n in exact if f":{n}," in told or f" {n} " in told]

    def test_no_digest_of_what_stays_is_in_it(self, released: pipeline.Outcome) -> None:
        """Whoever knows all rows but one could make the report both ways and compare digests."""
        manifest = (released.directory / "MANIFEST.sha256").read_text().splitlines()
        stays = [line.split("  ")[0] for line in manifest if f"  {FOLDER}/" not in line]
        inside = b"".join(path.read_bytes() for path in (released.directory / FOLDER).iterdir())
        assert stays and not [digest for digest in stays if digest.encode() in inside]

    def test_its_record_has_no_exact_count_and_no_score(self, released: pipeline.Outcome) -> None:
        entries = read_record(released.directory / FOLDER / "record.jsonl")
        told = {entry.event: entry.content for entry in entries}
        assert list(told) == ["started", "asked", "source", "split", "fitted", "sampled", "closed"]
        assert not {"rows", "subjects"} & {*told["source"], *told["split"]}
        assert told["fitted"]["budget"] == {"epsilon": 1, "delta": 1e-6}
        assert told["split"]["seed"] is None
        assert set(told["closed"]["outputs"]) == LEFT - {"record.jsonl", "MANIFEST.sha256"}

    def test_its_model_knows_the_schema_as_declared_and_nothing_else(
        self, released: pipeline.Outcome, home: Path
    ) -> None:
        found = load(released.directory / FOLDER / "model.manikin")
        assert found.schema == mk.read(home / "clinic.csv", schema=_declared(home)).schema
        assert found.synthesizer == "table/aim"
        assert found.extra["run"] == read_record(released.record)[0].content["run"]

    def test_the_same_rows_come_from_the_model(
        self, released: pipeline.Outcome, tmp_path: Path
    ) -> None:
        assert released.data is not None
        drawn = _drawn(released)
        again = tmp_path / "again.csv"
        mk.sample(released.directory / FOLDER / "model.manikin", n=drawn, seed=3, where="age<80",
                  out=again)  # fmt: skip
        assert again.read_bytes() == released.data.read_bytes()

    def test_the_data_look_like_the_source(self, released: pipeline.Outcome, home: Path) -> None:
        assert released.data is not None
        lines = released.data.read_text().splitlines()
        assert lines[0] == (home / "clinic.csv").read_text().splitlines()[0]
        cells = lines[1].split(";")
        assert cells[0].startswith("P-1") and cells[5] == "" and cells[6] in ("no", "yes")

    def test_as_many_are_drawn_as_noise_has_it(self, released: pipeline.Outcome) -> None:
        drawn = _drawn(released)
        assert 0.85 * N < drawn < 1.15 * N

    def test_the_statement_can_be_repeated(self, released: pipeline.Outcome) -> None:
        said = (released.directory / FOLDER / "statement.md").read_text("utf-8")
        for words in ("ε = 1", "1e-06", "at most 2.72\u202f%", "27.2\u202f%", "add or remove one",
                      "of which one counts", "OpenDP", "'age' in", "exponential mechanism",
                      "not the exact one", "does not cover", "sha256:"):  # fmt: skip
            assert words in said, words
        assert released.notes[0] in said and FOLDER in released.notes[1]


class TestWhatStays:
    def test_every_page_says_so(self, released: pipeline.Outcome) -> None:
        for name in ("report.html", "evidence.html", "README.md", "DATASET_CARD.md",
                     "MODEL_CARD.md"):  # fmt: skip
            text = (released.directory / name).read_text("utf-8")
            assert "Restricted, not for release." in text[: len(text) // 2], name
        told = json.loads((released.directory / "report.json").read_text("utf-8"))
        assert told["release_class"] == "restricted, not for release"
        assert told["statement"]["epsilon"] == 1 and told["statement"]["most_rows"] == 1
        page = released.report.read_text("utf-8")
        assert 'id="statement"' in page and "Not for this report" in page

    def test_ledgers_are_told_in_words(self, released: pipeline.Outcome) -> None:
        for name in ("report.html", "DATASET_CARD.md", "croissant.json", "evidence.html"):
            text = (released.directory / name).read_text("utf-8")
            assert "discrete Gaussian noise of standard deviation" in text, name
            assert "a choice by the exponential mechanism" in text, name
            assert "noise_multiplier" not in text, name

    def test_it_cannot_be_replayed(self, released: pipeline.Outcome, home: Path) -> None:
        with pytest.raises(NotSupported, match="noise is secret"):
            mk.replay(released.directory, data=home / "clinic.csv", schema=home / "schema.yaml")


def test_what_leaves_hangs_on_what_was_paid_for_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every paid release is made a constant; then other rows must leave the same bytes behind."""
    from manikin.privacy.account import Account

    def constant(values: np.ndarray, kind: str, scale: float) -> np.ndarray:
        return np.full(values.shape, 400, np.int64)

    choose = Account.choose

    def first(self: Account, scores: np.ndarray, **more: object) -> int:
        choose(self, np.zeros_like(scores), **more)  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr("manikin.catalogue.in_profile", few)
    monkeypatch.setattr("manikin.privacy.account._noised", constant)
    monkeypatch.setattr(Account, "choose", first)
    one = patients(300)
    other = patients(411).with_columns(
        age=pl.lit(77), sex=pl.lit("F"), crp=pl.lit("3.14159"), note=pl.lit("ü; \"x\""),
        patient=pl.arange(411).cast(pl.String), died=pl.lit("yes"),
    )  # fmt: skip
    other = pl.concat([other, other.head(40)])  # some come twice
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    left = []
    for name, frame in (("one", one), ("other", other)):
        folder = tmp_path / name
        folder.mkdir()
        frame.write_csv(folder / "c.csv", separator=";", quote_style="always" if name == "other"
                        else "necessary")  # fmt: skip
        made = pipeline.synthesize(
            folder / "c.csv", out=folder / "r", schema=tmp_path / "schema.yaml", epsilon=1,
            report_epsilon=0.5, profile="quick", seed=1,
        )  # fmt: skip
        left.append(made.directory / FOLDER)
    for file in sorted(LEFT | {"quality.html", "quality.json"}):
        if file in ("model.manikin", "record.jsonl", "MANIFEST.sha256"):
            continue  # these hold the run's number, times and keyed digests
        assert (left[0] / file).read_bytes() == (left[1] / file).read_bytes(), file
    states = [load(folder / "model.manikin") for folder in left]
    assert states[0].schema == states[1].schema
    assert dict(states[0].extra["layout"]) == dict(states[1].extra["layout"])
    one_state, other_state = (found.model.state() for found in states)
    assert one_state.values == other_state.values
    assert all(np.array_equal(one_state.arrays[k], other_state.arrays[k]) for k in one_state.arrays)
    told = [
        {entry.event: dict(entry.content) for entry in read_record(folder / "record.jsonl")}
        for folder in left
    ]
    for record in told:
        del record["started"]["run"], record["source"]["data"], record["fitted"]["model"]
        del record["closed"]["outputs"]["model.manikin"]  # which holds run and source
    assert told[0] == told[1]


def _sizes(released: pipeline.Outcome) -> set[int]:
    """Return how many subjects were trained on and held out: in the record that stays."""
    told = {entry.event: entry.content for entry in read_record(released.record)}
    return {told["split"][part]["subjects"] for part in ("train", "holdout")}


def _drawn(released: pipeline.Outcome) -> int:
    told = {entry.event: entry.content for entry in read_record(released.record)}
    return int(told["sampled"]["subjects"])


def _declared(home: Path) -> mk.TableSchema:
    from manikin.io.schema_file import read_schema

    return read_schema(home / "schema.yaml")


class TestRefused:
    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            ({"schema": None}, "inferred from the rows"),
            ({"epsilon": 8}, r"100 % of the subjects.*--refits 3"),
            ({"epsilon": 6.5, "refits": 0}, "without evidence from attacks"),
            ({"synthesizer": "auto"}, "choice of a synthesizer"),
            ({"fit_per": "sex"}, "a model for each group"),
            ({"split_by": "sex"}, "a split by a column"),
            ({"synthesizer": "table/seqtree"}, "adds no noise"),
            ({"epsilon": None, "synthesizer": "table/mst"}, "--epsilon 1"),
            ({"delta": 0.01}, "δ between 0 and 1e-4"),
        ],
    )
    def test_what_would_not_be_paid_for(
        self, asked: dict[str, object], why: str, home: Path, tmp_path: Path
    ) -> None:
        given = {"schema": home / "schema.yaml", "epsilon": 1.0, "profile": "quick", **asked}
        with pytest.raises(PrivacyError, match=why):
            pipeline.synthesize(home / "clinic.csv", out=tmp_path / "r", **given)  # type: ignore[arg-type]
        assert not (tmp_path / "r").exists()

    def test_a_fit_alone_shows_no_evidence(self, home: Path) -> None:
        with pytest.raises(PrivacyError, match="manikin synthesize"):
            pipeline.fit(home / "clinic.csv", schema=home / "schema.yaml", epsilon=7)

    def test_linked_tables(self, home: Path) -> None:
        with pytest.raises(PrivacyError, match="linked tables"):
            pipeline.fit({"a": patients(30), "b": patients(30)}, epsilon=1)

    def test_a_delta_alone(self, home: Path) -> None:
        with pytest.raises(InputError, match="without an ε"):
            pipeline.fit(home / "clinic.csv", delta=1e-6)

    def test_a_table_that_cells_may_have_completed(self, home: Path) -> None:
        table = mk.read(home / "clinic.csv", schema=_declared(home))
        with pytest.raises(PrivacyError, match="a Table that was read before"):
            pipeline.fit(table, epsilon=1)

    def test_the_extra_is_asked_for_before_anything_is_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(budgeted, "find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"manikin\[dp\]"):
            pipeline.fit("no such file", epsilon=1)

    def test_attacks_in_the_same_run_are_evidence(self) -> None:
        budgeted.check_evidence(Budget(8), 3)
        budgeted.check_evidence(Budget(6), None)
        budgeted.check_evidence(None, None)


class TestSchema:
    """What only cells could tell is asked for, with the columns' names."""

    @pytest.mark.parametrize(
        ("was", "now", "why"),
        [
            (", decimals: 1", "", "crp: say 'decimals'"),
            (", maximum: 110", "", "age: say 'minimum' and 'maximum'"),
            (", categories: [F, M]", "", "sex: list the 'categories'"),
            ('date_format: "%d/%m/%Y", ', "", "seen: say 'date_format'"),
            ("roles: [target]}\n", "roles: [target]}\nrules:\n  - combinations: {columns: [sex, "
             "died]}\n", "sex and died: list the 'allowed'"),
        ],
    )  # fmt: skip
    def test_a_schema_that_leaves_spelling_open(
        self, was: str, now: str, why: str, home: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "open.yaml").write_text(SCHEMA.replace(was, now))
        with pytest.raises(PrivacyError, match=why):
            pipeline.fit(home / "clinic.csv", schema=tmp_path / "open.yaml", epsilon=1)

    def test_nothing_is_filled_in_from_cells(self, home: Path, tmp_path: Path) -> None:
        """A template, padding and a decimal more in single cells leave the model's schema alone."""
        (tmp_path / "bare.yaml").write_text(SCHEMA.replace(', template: "P-99999"', ""))
        found = []
        for spelling in ("7.25", "7"):
            frame = patients(60).with_columns(
                pl.when(pl.arange(60) == 5).then(pl.lit(spelling)).otherwise("crp").alias("crp")
            )
            frame.write_csv(tmp_path / "c.csv")
            model = pipeline.fit(
                tmp_path / "c.csv", schema=tmp_path / "bare.yaml", epsilon=6,
                synthesizer="table/mst", settings={"steps": 20},
            )  # fmt: skip
            found.append(model.schema)
        assert found[0] == found[1]
        assert found[0]["patient"].template is None  # type: ignore[index]
        assert found[0]["crp"].decimals == 1 and not found[0]["crp"].padded  # type: ignore[index]

    def test_a_typed_file_says_its_own_types(self, home: Path, tmp_path: Path) -> None:
        frame = patients(80).with_columns(
            pl.col("seen").str.to_date("%d/%m/%Y"), pl.col("crp").cast(pl.Float64, strict=False),
            patient=pl.arange(80),
        )  # fmt: skip
        frame.write_parquet(tmp_path / "c.parquet")
        text = SCHEMA.replace('date_format: "%d/%m/%Y", ', "").replace('"P-99999"', "null")
        (tmp_path / "s.yaml").write_text(text.replace(', missing: ["?"]', ""))
        mk.fit(tmp_path / "c.parquet", schema=tmp_path / "s.yaml", epsilon=6, settings={"steps": 9},
               synthesizer="table/mst", out=tmp_path / "m.manikin")  # fmt: skip
        mk.sample(tmp_path / "m.manikin", n=40, out=tmp_path / "new.parquet")
        made = pl.read_parquet(tmp_path / "new.parquet")
        assert made.schema == frame.schema
        assert made["patient"].min() >= 10**7  # type: ignore[operator]


HOUSES = """
columns:
  - {name: house, kind: identifier, roles: [subject], unit: "*house*hold|<b>"}
  - {name: person, kind: identifier}
  - {name: age, kind: integer, minimum: 0, maximum: 110}
  - {name: smokes, kind: boolean, categories: ["no", "yes"]}
"""


def test_a_household_can_be_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose identifier is the subject's is protected, with all persons in it, by its own name."""
    rng = np.random.default_rng(2)
    house = np.repeat(np.arange(400), rng.integers(1, 6, 400))
    house[:300] = 0  # an old people's home: one household of hundreds
    frame = pl.DataFrame(
        {"house": house, "person": np.arange(house.size), "age": rng.integers(0, 99, house.size),
         "smokes": rng.choice(["no", "yes"], house.size)}
    )  # fmt: skip
    frame.write_csv(tmp_path / "c.csv")
    (tmp_path / "s.yaml").write_text(HOUSES)
    monkeypatch.setattr("manikin.catalogue.in_profile", few)
    counted = []
    choose = private.at_most

    def watched(subjects: np.ndarray, most_rows: int) -> np.ndarray:
        kept = choose(subjects, most_rows)
        counted.append(np.unique(subjects[kept], return_counts=True)[1].max())
        return kept

    monkeypatch.setattr(private, "at_most", watched)
    made = pipeline.synthesize(
        tmp_path / "c.csv", out=tmp_path / "r", schema=tmp_path / "s.yaml", epsilon=3,
        profile="quick", synthesizer="table/mst", settings={"most_rows": 2, "steps": 20},
    )  # fmt: skip
    assert counted == [2], "more persons of a household count than the bound"
    said = (made.directory / FOLDER / "statement.md").read_text("utf-8")
    for words in (
        "Every house hold b is protected", "(of a house hold b's rows at most 2 count)",
        "one house hold b, with all of its rows, of which at most 2 count",
        "add or remove one house hold b, with all of its rows", "k of what is called house hold b",
    ):  # fmt: skip
        assert words in said, words
    drawn = pl.read_csv(made.directory / FOLDER / "data.csv")
    assert drawn["house"].value_counts()["count"].max() == 2
    assert drawn["person"].n_unique() == drawn.height


@pytest.mark.parametrize(
    ("unit", "who"),
    [(None, "subject"), ("family", "family"), ("  ", "subject"), ("a" * 99, "a" * 40)],
)
def test_the_word_for_who_is_protected(unit: str | None, who: str) -> None:
    column = mk.Column("f", "categorical", unit=unit)
    schema = with_roles(mk.TableSchema((column,)), subject="f")
    assert who_of(schema) == who and who_of(mk.TableSchema((column,))) == "subject"


def test_the_split_is_by_secret_coins_that_move_nobody_else() -> None:
    from manikin.data.splitting import split_secretly
    from manikin.data.table import Table

    table = Table.from_frame(patients(400).select("age", "sex"))
    held = [set(split_secretly(table, 0.3)[1].subjects.tolist()) for _ in range(3)]
    assert len({frozenset(one) for one in held}) == 3
    # 400 coins of .3: within 5 standard deviations (9.2) of 120
    assert all(abs(len(one) - 120) < 46 for one in held)


@pytest.mark.parametrize(
    ("most_rows", "by_row", "words"),
    [
        (1, False, "Every subject is protected by differential privacy with ε = 3 and δ = 1e-06"
         " (of a subject's rows one counts)."),
        (3, False, "(of a subject's rows at most 3 count)."),
        (1, True, "Every row is protected by differential privacy with ε = 3 and δ = 1e-06"
         " (a person who has several rows, less)."),
    ],
)  # fmt: skip
def test_the_promise_says_who_is_protected(most_rows: int, by_row: bool, words: str) -> None:
    releases = (Gaussian("'sex'", 4.0), Keys("'code'", 10.0, 1e-8, 40.0), Laplace("n", 30.0),
                Sampled("the network", 0.01, 9.0, 100))  # fmt: skip
    said = make_statement(
        releases, Budget(3), method="table/mst", most_rows=most_rows, schema="sha256:0", n=10,
        n_given=True, by_row=by_row,
    )  # fmt: skip
    text = render_statement(said)
    assert words in text and "10 subjects were drawn (as asked for)" in text
    # Kairouz et al., Theorem 2.1: e^3 x .01 + 1e-6 = .20086; 1 - e^-3 (1 - 1e-6 - .1) = .9552
    assert "20.1\u202f% of the members; at 10\u202f%, 95.5\u202f%" in text
    for how in (
        "discrete Gaussian noise of standard deviation 4 times",
        "levels whose count passed 40 with discrete Gaussian noise",
        "discrete Laplace noise of scale 30 times",
        "100 steps of training, each on a",
    ):
        assert how in text, how  # fmt: skip
    assert said.losses is not None and said.losses <= said.renyi <= 3


def test_wide_tables_get_a_tree_of_pairs() -> None:
    column = mk.Column("a", "integer", minimum=0, maximum=1)
    narrow, wide = (
        mk.TableSchema(tuple(dataclasses.replace(column, name=f"a{i}") for i in range(n)))
        for n in (60, 61)
    )
    assert budgeted.default(Budget(1), narrow, "x") == "table/aim"
    assert budgeted.default(Budget(1), wide, "x") == "table/mst"
    assert budgeted.default(None, wide, "x") == "x"
