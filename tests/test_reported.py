"""A page of quality that may leave: bought from a budget of its own, added to the cohort's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import manikin as mk
from manikin import pipeline
from manikin.cli.app import app
from manikin.errors import InputError, PrivacyError, SchemaError
from manikin.leaving import FOLDER
from manikin.privacy.accountant import most_rho, spent, zcdp_epsilon
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Gaussian, from_json
from manikin.release.leaflets import render_statement
from manikin.release.record import read_record
from manikin.release.statement import make_statement

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

SCHEMA = """
columns:
  - {name: age, kind: integer, minimum: 18, maximum: 110}
  - {name: sex, kind: categorical, categories: [F, M]}
  - {name: "<i>crp</i>", kind: continuous, minimum: 0, maximum: 300, decimals: 1}
  - {name: died, kind: boolean, categories: ["no", "yes"], roles: [target]}
"""
N = 1413  # a number that shows where it should not


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    age = rng.integers(20, 90, N)
    frame = pl.DataFrame(
        {
            "age": age,
            "sex": np.where(rng.random(N) < 0.5, "F", "M"),
            "<i>crp</i>": [f"{x:.1f}" for x in rng.gamma(2, 5, N)],
            "died": np.where(rng.random(N) < 1 / (1 + np.exp((60 - age) / 6)), "yes", "no"),
        }
    )
    frame.write_csv(folder / "clinic.csv")
    (folder / "schema.yaml").write_text(SCHEMA)
    return folder


@pytest.fixture(scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANIKIN_KEY", "k" * 64)
        few = ("fidelity/shapes", "privacy/copies")
        patch.setattr("manikin.catalogue.in_profile", lambda *_, **__: few)
        yield patch


def released(home: Path, name: str, **more: object) -> pipeline.Outcome:
    asked = {"epsilon": 1.0, "report_epsilon": 1.0, "synthesizer": "table/mst", "seed": 3, **more}
    return pipeline.synthesize(
        home / "clinic.csv", out=home / name, schema=home / "schema.yaml", profile="quick",
        settings={"steps": 200}, **asked,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(scope="module")
def left(home: Path, quick: pytest.MonkeyPatch) -> Path:
    return released(home, "release").directory / FOLDER


class TestThePage:
    def test_it_is_in_the_sealed_folder_and_said_so(self, left: Path) -> None:
        assert mk.verify(left).ok and mk.verify(left.parent).ok
        readme = (left / "README.md").read_text("utf-8")
        assert "`quality.html`" in readme and "`quality.json`" in readme

    def test_it_has_numbers_with_intervals_floors_and_ceilings(self, left: Path) -> None:
        told = json.loads((left / "quality.json").read_text("utf-8"))
        lines = {line["metric"]: line for line in told["lines"]}
        assert set(lines) == {"paid/columns", "paid/pairs", "paid/prediction.auc",
                              "paid/prediction.accuracy"}  # fmt: skip
        for line in lines.values():
            assert line["low"] <= line["value"] <= line["high"] and line["ceiling"] is not None
        assert [line["label"] for line in told["columns"]] == ["age", "sex", "<i>crp</i>", "died"]
        assert told["epsilon"] == 1.0 and 1 < told["together"] < 2
        assert "'died' is 'yes'" in told["asks"] and len(told["says"]) == len(told["lines"])

    def test_the_page_says_the_same_and_escapes_what_the_schema_says(self, left: Path) -> None:
        page = (left / "quality.html").read_text("utf-8")
        assert "&lt;i&gt;crp" in page and "<i>crp" not in page
        assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
        assert "for the two to be alike" in page and "guessing: 50" in page

    def test_no_exact_count_is_in_it(self, left: Path) -> None:
        exact = {N}
        for entry in read_record(left.parent / "record.jsonl"):
            if entry.event == "split":
                exact |= {entry.content[part]["subjects"] for part in ("train", "holdout")}
        told = json.loads((left / "quality.json").read_text("utf-8"))
        assert len(exact) == 3
        page = (left / "quality.html").read_text("utf-8")
        for number in exact - {told["subjects"]}:
            assert f" {number} " not in page and f" {number:,} ".replace(",", "\u202f") not in page

    def test_without_a_price_there_is_none(self, home: Path, quick: pytest.MonkeyPatch) -> None:
        folder = released(home, "plain", report_epsilon=None).directory / FOLDER
        assert not list(folder.glob("quality*"))
        assert "quality" not in (folder / "statement.md").read_text("utf-8")
        assert "reported" not in {e.event for e in read_record(folder / "record.jsonl")}

    def test_chosen_rows_are_not_what_is_judged(
        self, home: Path, quick: pytest.MonkeyPatch
    ) -> None:
        folder = released(home, "women", where="sex=F").directory / FOLDER
        told = json.loads((folder / "quality.json").read_text("utf-8"))
        assert "(conditioned)" in told["judged"]
        sex = next(line for line in told["columns"] if line["label"] == "sex")
        assert sex["low"] < 0.2  # of women only it would be .5


class TestThePrice:
    def test_the_record_tells_it_in_both_places(self, left: Path) -> None:
        for folder in (left, left.parent):
            told = {e.event: e.content for e in read_record(folder / "record.jsonl")}["reported"]
            assert told["budget"] == {"epsilon": 1.0, "delta": 1e-6}
            assert "added" in told["composition"]
            cost = spent(from_json(told["ledger"]), 1e-6).epsilon
            assert 0.9 < cost <= 1 + 1e-6

    def test_the_cohort_pays_for_both(self, left: Path) -> None:
        (total,) = mk.privacy_ledger(left.parent)
        model, page = total.entries
        assert (model.method, page.method) == ("table/mst", "quality page")
        assert max(model.epsilon, page.epsilon) < total.epsilon < model.epsilon + page.epsilon
        assert total.epsilon == spent((*model.releases, *page.releases), 1e-6).epsilon
        (alone,) = mk.privacy_ledger(left)  # the folder by itself tells as much
        assert alone.epsilon == total.epsilon
        shown = CliRunner().invoke(app, ["privacy", "ledger", str(left)])
        assert "quality page" in shown.stdout and f"{total.epsilon:.3g}" in shown.stdout

    def test_the_statement_says_all_three(self, left: Path) -> None:
        said = (left / "statement.md").read_text("utf-8")
        # rho of eps = 1 at 1e-6 is .02435, twice that is eps 1.45 (zCDP, least over orders)
        both = np.ceil(100 * zcdp_epsilon(2 * most_rho(1.0, 1e-6), 1e-6)) / 100
        assert f"ε = {both:g} and δ = 1e-06" in said and f"| **{both:g}** |" in said
        assert "ε = 1 is of the data and the model" in said and "| the quality page" in said
        assert "parallel composition" in said and "how far each column is" in said

    def test_what_is_counted_otherwise_is_not_promised_away(self) -> None:
        """Where the ledger comes to more than the budgets' zCDP, the ledger is promised."""
        dear = (Gaussian("x", 1.0),)
        said = make_statement(
            dear, Budget(1), method="m", most_rows=1, schema="", n=1, n_given=True,
            report=(Budget(0.5), (Gaussian("y", 50.0),)),
        )  # fmt: skip
        assert said.together >= spent((*dear, Gaussian("y", 50.0)), 1e-6).epsilon
        assert said.most(0.01) > 0.1 and said.curve[1][1] == said.most(0.01)


class TestWhatIsPrinted:
    """Whatever else real rows had a part in says that it must not leave."""

    def run(self, home: Path, *more: str) -> Any:
        words = ["synthesize", str(home / "clinic.csv"), "--schema", str(home / "schema.yaml"),
                 "--epsilon", "1", "--synthesizer", "table/mst", "--set", "steps=50",
                 "--profile", "quick", "--out", str(home / "printed"), "--overwrite"]  # fmt: skip
        return CliRunner().invoke(app, [*words, *more])

    def test_scores_on_the_screen(self, home: Path, quick: pytest.MonkeyPatch) -> None:
        shown = self.run(home)
        assert shown.exit_code == 0 and "fidelity/shapes" in shown.stdout
        assert shown.stdout.startswith("Restricted, not for release")
        told = json.loads(self.run(home, "--json").stdout)
        assert told["release_class"] == "restricted, not for release"
        assert self.run(home, "--quiet").stdout == ""
        ruled = self.run(home, "--quiet", "--policy", "public")
        assert ruled.exit_code and ruled.stdout.startswith("Restricted, not for release")

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_errors_that_hang_on_rows(
        self, form: str, home: Path, quick: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lines = (home / "clinic.csv").read_text().splitlines()
        lines[7] = lines[7].rsplit(",", 1)[0] + ",XYZZY"
        (tmp_path / "clinic.csv").write_text("\n".join(lines))
        (tmp_path / "schema.yaml").write_text(SCHEMA)
        for words in ((), ("--n", "50")):
            shown = self.run(tmp_path, *words, *(["--json"] if form == "json" else []))
            assert shown.exit_code == 3 and "XYZZY" not in shown.output
            assert "restricted, not for release" in shown.output
        if form == "json":
            told = json.loads(shown.stderr)
            assert told["release_class"] == "restricted, not for release"
        with pytest.raises(SchemaError) as error:
            mk.fit(tmp_path / "clinic.csv", schema=tmp_path / "schema.yaml", epsilon=1)
        assert error.value.__notes__ == ["restricted, not for release"]

    def test_errors_that_do_not(self, home: Path) -> None:
        for words in (("--epsilon", "9"), ("--report-epsilon", "-1"), ("--delta", "0.1")):
            shown = self.run(home, *words)
            assert shown.exit_code == 5 and "restricted" not in shown.output

    def test_what_breaks_within(
        self, home: Path, quick: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ValueError("patient CANARY has 17.5")

        monkeypatch.setattr("manikin.judging.judge_all", broken)
        for words in ((), ("--json",)):
            shown = self.run(home, *words)
            assert "CANARY" not in shown.output and "17.5" not in shown.output
            assert "restricted, not for release" in shown.output

    def test_without_a_budget_nothing_is_marked(self, home: Path, tmp_path: Path) -> None:
        shown = CliRunner().invoke(app, ["fit", str(tmp_path / "none.csv"), "--out", "x.manikin"])
        assert shown.exit_code == 3 and "restricted" not in shown.output

    def test_every_other_file_of_the_release(self, left: Path) -> None:
        for path in sorted(left.parent.iterdir()):
            if path.is_file() and not path.name.startswith("MANIFEST"):
                text = path.read_text("utf-8").lower()
                assert "restricted, not for release" in text.replace("**", ""), path.name
        told = {e.event: e.content for e in read_record(left.parent / "record.jsonl")}
        assert told["left"]["release_class"] == "restricted, not for release"
        for path in left.iterdir():
            assert b'"release_class"' not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("epsilon", "one", "ten", "of_100"),
    # Kairouz et al., Theorem 2.1, the lesser of e^eps f + delta and 1 - e^-eps (1 - delta - f):
    # e .01 = .02718, e .1 = .2718; e^3 .01 = .2009, 1 - e^-3 .9 = .9552; 1 - e^-6 .99 = .99755
    [(1.0, "2.72", "27.2", "2.8"), (3.0, "20.1", "95.5", "20.1"), (6.0, "99.8", "99.8", "99.8")],
)
def test_what_an_attacker_reaches(epsilon: float, one: str, ten: str, of_100: str) -> None:
    said = make_statement((Gaussian("x", 90.0),), Budget(epsilon), method="table/mst", most_rows=1,
                          schema="sha256:0", n=10, n_given=False)  # fmt: skip
    text = render_statement(said)
    assert f"at most {one}\u202f% of the members; at 10\u202f%, {ten}\u202f%" in text
    assert f"| 1\u202f% | {one}\u202f% | 1\u202f% |" in text
    assert f"Of 100 who did he finds {of_100} at most" in text
    for what in ("side channels", "was tried before", "other releases", "k people", "in general",
                 "the decision to give this away", "whoever wrote it", "Before you sign",
                 "Signature", "add or remove one subject", "1 in 1\u202f000\u202f000"):  # fmt: skip
        assert what in text, what
    assert "quality" not in text and "parallel" not in text


class TestRefused:
    def test_a_report_of_data_without_a_budget(self, home: Path) -> None:
        with pytest.raises(InputError, match="and none for the data"):
            pipeline.synthesize(home / "clinic.csv", out=home / "no", report_epsilon=1.0)

    def test_more_than_allowed_together(self, home: Path) -> None:
        with pytest.raises(PrivacyError, match=r"ε = 6\.5 without evidence"):
            released(home, "no", epsilon=6.0, report_epsilon=0.5)

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, np.inf, np.nan])
    def test_no_budget_at_all(self, epsilon: float, home: Path) -> None:
        with pytest.raises(PrivacyError, match="positive and finite"):
            released(home, "no", report_epsilon=epsilon)
        assert not (home / "no").exists()
