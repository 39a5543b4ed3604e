"""One run that ends in a release: each step does its work and writes it into the record."""

from __future__ import annotations

import time as clock
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manikin import catalogue
from manikin.budgeted import UnderBudget, bare
from manikin.data.dataset import split_subjects
from manikin.errors import InputError, OutOfTime, PrivacyError
from manikin.grouped import Grouped, PerGroup
from manikin.privacy.cells import SMALLEST_CELL
from manikin.sampling import Plan, draw, join
from manikin.synthesizer import Edited, Progress, Watch, report

if TYPE_CHECKING:
    from manikin.auditor import Audit
    from manikin.data.events import Events
    from manikin.data.graph import Graph
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.editing import Edit
    from manikin.io.tables import Layout, Source
    from manikin.judging import Judged
    from manikin.metrics.controls import Control
    from manikin.metrics.per_group import GroupLine
    from manikin.metrics.score import Metric, Score, Trial
    from manikin.privacy.ledger import Release
    from manikin.refits import Again, Refits
    from manikin.release.policy import Policy, PolicyVerdict
    from manikin.release.record import Record
    from manikin.release.statement import Statement
    from manikin.synthesizer import Model, Synthesizer

__all__ = ["BARRED", "Deadline", "Findings", "Outcome", "Run", "begun", "settled"]

SMALLEST = 20  # subjects below which there is nothing to split and judge
JUDGED = 50_000  # synthetic subjects that the judge sees at most
BARRED = {"identifying", "subjects", "header"}  # topics that stop a release unless accepted


class Deadline:
    """When `minutes` will be over; never, for None."""

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not minutes > 0:
            raise InputError(f"{minutes:g} minutes", "more than 0", "leave it out for no limit")
        self._minutes = minutes
        self._end = None if minutes is None else clock.monotonic() + 60 * minutes

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and clock.monotonic() > self._end

    def strict(self, watch: Watch) -> Watch:
        """Return a watch that raises OutOfTime once the time is over."""

        def watching(progress: Progress) -> bool:
            if asked := bool(watch(progress)):
                return asked
            if self._minutes is not None and self.over:
                raise OutOfTime(self._minutes, progress.what)
            return False

        return watching


@dataclass(frozen=True)
class Outcome:
    """Where a release stands and what it says."""

    directory: Path
    report: Path
    record: Path
    data: Path | None  # None after an evaluation, which releases no data
    verdict: tuple[str, ...]
    scores: tuple[Score, ...]
    audit: Audit | None
    policy: PolicyVerdict | None = None  # how the policy that was asked for ruled
    notes: tuple[str, ...] = ()  # what to know before reading the numbers
    release_class: str = ""  # said where all but the data must not leave the house

    @property
    def exit_code(self) -> int:
        """0, or 9 where a gate of the policy failed, or 10 where it cannot be told."""
        return 0 if self.policy is None else self.policy.exit_code


@dataclass(frozen=True)
class Run:
    """What every step needs: where to write aside, where it will stand, and who listens."""

    aside: Path
    target: Path
    record: Record
    key: bytes
    seed: int
    sign: Path | None
    watch: Watch
    policy: Policy | None = None  # what the release is held to

    def audit(self, opened: Source, accept: Collection[str] = ()) -> Audit:
        """Examine the source.

        Raises InputError when there are too few subjects to judge, PrivacyError when a column
        identifies people or rows of one person would be split, unless that topic is accepted.
        """
        from manikin import auditor
        from manikin.release.record import source_facts

        report(self.watch, 0, None, "auditing")
        self.record.add("source", source_facts(opened.table, self.key, opened.whole))
        found = auditor.audit(opened)
        settled(found, opened.table.n_subjects, accept)
        return found

    def split(
        self, table: Table, holdout: float, by: str | None = None, *, secret: bool = False
    ) -> tuple[Table, Table]:
        """Hold a share of the subjects out, at random or `by` a column: sites, or the latest.

        `secret`: by coins that nobody keeps. Raises InputError when either part is too small.
        """
        from manikin.data.splitting import split_by, split_secretly
        from manikin.release.record import split_facts

        if not 0.05 <= holdout <= 0.9:
            raise InputError(
                f"a holdout share of {holdout:g}", "0.05 to 0.9", "0.3 suits most tables"
            )
        if secret:
            train, held = split_secretly(table, holdout)
        elif by is None:
            train, held = split_subjects(table, (1 - holdout, holdout), seed=self.seed)
        else:
            train, held = split_by(table, by, holdout, seed=self.seed)
        _check_sizes({"train": train, "holdout": held})
        facts = split_facts({"train": train, "holdout": held}, self.key)
        self.record.add("split", {"seed": None if secret else self.seed, "by": by, **facts})
        return train, held

    def given(self, parts: Mapping[str, Table]) -> None:
        """Record the parts of an experiment that somebody else made.

        Raises InputError when a real part is too small to be spoken of, or nothing is synthetic.
        """
        from manikin.release.record import split_facts

        real = {name: part for name, part in parts.items() if name != "synthetic"}
        if not parts["synthetic"].n_rows:
            raise InputError(
                "the synthetic table has no rows",
                "one row or more; as many as the training table has serve best",
                "export it again",
            )
        _check_sizes(real)
        _check_apart(real)
        self.record.add("given", split_facts(parts, self.key))

    def fit(self, name: str, recipe: Synthesizer[Any], train: Table, watch: Watch) -> Model[Table]:
        """Fit the recipe to the training subjects."""
        from manikin.privacy.ledger import to_json
        from manikin.release.record import model_digest

        model: Model[Table] = recipe.fit(train, seed=self.seed, watch=watch)
        settings = asdict(bare(recipe))
        self.record.add(
            "fitted",
            {
                "synthesizer": name,
                "recipe": settings,
                "seed": self.seed,
                "ledger": to_json(model.ledger),
                "model": model_digest(model.state(), self.key),
                **({"fit_per": model.facts()} if isinstance(model, Grouped) else {}),
                **({"budget": recipe.promised} if isinstance(recipe, UnderBudget) else {}),
            },
        )
        return model

    def edited(self, model: Model[Table], real: Table) -> Edit | None:
        """Measure and record what taking edges out of the model did, if any were."""
        from manikin.editing import edited

        found = edited(model, real, seed=self.seed)
        if found is not None:
            self.record.add("edited", found.facts())
        return found

    def per_group(
        self, model: Model[Table], recipe: Synthesizer[Table], parts: tuple[Table, Table],
        watch: Watch,
    ) -> tuple[GroupLine, ...]:  # fmt: skip
        """Compare the models of groups, if it is such, with one model of all; record it.

        None of it where the time is over before that one model is fitted.
        """
        from manikin.metrics.per_group import per_group

        if not isinstance(model, Grouped) or not isinstance(recipe, PerGroup):
            return ()
        n = min(max(parts[0].n_subjects, 1000), 5000)
        try:
            whole = recipe.recipe.fit(parts[0], seed=self.seed, watch=watch)
        except OutOfTime:
            return ()
        one, each = (m.sample(n, seed=self.seed) for m in (whole, model))
        found = per_group(parts, one, each, model.of, model.labels, seed=self.seed)
        self.record.add("per_group", {"by": model.by, "lines": [asdict(line) for line in found]})
        return found

    def sample(
        self, model: Model[Table], n: int, plan: Plan, name: str | None, layout: Layout
    ) -> Table:
        """Write `n` subjects to the file `name`, if any, and return as many as are judged."""
        from manikin.io.tables import writer
        from manikin.knowledge.conditions import describe

        kept: list[Table] = []
        done = 0
        wanted = n if name is not None else min(n, JUDGED)
        if name is not None:
            (self.aside / name).parent.mkdir(exist_ok=True)
        place = None if name is None else writer(self.aside / name, layout, expected=n)
        with nullcontext() if place is None else place as out:
            for block in draw(model, wanted, plan, seed=self.seed):
                if out is not None:
                    out.write(block)
                if not kept or done < JUDGED:
                    kept.append(block)
                done += block.n_subjects
                report(self.watch, done, wanted, "sampling")
        self.record.add(
            "sampled",
            {
                "subjects": wanted,
                "seed": self.seed,
                "kind": "mitigated" if _removed(model) else plan.label,
                "where": [describe(condition) for condition in plan.where],
                "balance": plan.balance,
                **_shares(plan, model),
            },
        )
        return join(kept)

    def judge(
        self,
        trial: Trial[Table],
        metrics: Mapping[str, Metric[Any]],
        deadline: Deadline,
        profile: str = "full",
        refits: Refits | None = None,
        shadow: tuple[Score, ...] = (),
        linked: tuple[Score, ...] = (),
        planted: tuple[Control, ...] = (),
    ) -> Judged:
        """Score the trial, and say of each leak planted on purpose what catches it here.

        Metrics that are not begun before the time is over say so. What other fits gave widens the
        intervals; what an attack by `shadow` fits gave stands beside the other attacks; what
        was scored of `linked` tables stands before all. `planted` leaks were asked of those.
        """
        from manikin.judging import judge_all
        from manikin.release.record import score_facts
        from manikin.shadows import beside

        found = judge_all(
            trial, metrics, seed=self.seed, watch=self.watch, over=lambda: deadline.over
        )
        told = found.scores if refits is None else refits.widened(found.scores)
        told = (*linked, *beside(told, shadow))
        note = "" if refits is None else refits.told
        judged = replace(found.beside(planted), scores=told, profile=profile, refits=note)
        self.record.add("judged", {**score_facts(judged.scores), **judged.facts()})
        return judged

    def fit_again(self, again: Again, n: int, deadline: Deadline) -> Refits | None:
        """Fit and draw `n` times more, and record how much the scores differ between fits."""
        from manikin.refits import fit_again

        found = fit_again(again, n, watch=self.watch, over=lambda: deadline.over)
        self.record.add("refitted", {"refits": 0} if found is None else found.facts())
        return found

    def shadow(self, again: Again, n: int, deadline: Deadline) -> tuple[Score, ...]:
        """Attack with `n` fits to what an attacker holds."""
        from manikin.shadows import shadow_scores

        return shadow_scores(again, n, watch=self.watch, over=lambda: deadline.over)

    def finish(self, tables: Iterable[str] = ()) -> None:
        """Close the record over every file and seal them all; `tables` are synthetic ones."""
        from manikin.release.record import file_digest
        from manikin.release.seal import seal

        files = sorted(path for path in self.aside.rglob("*") if path.is_file())
        names = {path.relative_to(self.aside).as_posix(): path for path in files}
        del names[self.record.path.name]
        self.record.close({name: file_digest(path) for name, path in names.items()}, tables)
        seal(self.aside, signing_key=self.sign)

    def release(self, said: Findings) -> Outcome:
        """Write report, metadata and seal; the directory appears when the run ends."""
        from manikin.release import cards, html
        from manikin.release.disclosure import assert_disclosable
        from manikin.release.histories import history_pages, real_histories
        from manikin.release.record import canonical
        from manikin.release.report import build_report

        report(self.watch, 0, None, "writing the release")
        page = build_report(
            trial=said.trial,
            scores=said.judged.scores,
            cards=catalogue.cards(),
            audit_findings=[asdict(finding) for finding in said.audit.findings],
            settings={**said.settings, **said.judged.settings()},
            ledger=said.ledger,
            created=datetime.now(UTC),
            controls=said.judged.caught(),
            policy=self.policy,
            graph=said.graph,
            population=said.population,
            statement=said.statement,
            histories=None if said.histories is None else history_pages(said.histories),
        )
        ruled = None if self.policy is None else page.verdict.policies[0]
        if ruled is not None:
            self.record.add("ruled", ruled.to_json())
        real = join([said.trial.train, said.trial.holdout])
        told = None if said.histories is None else real_histories(said.histories)
        assert_disclosable(page, real, said.population, told)
        (self.aside / "report.json").write_bytes(canonical(page.to_json()) + b"\n")
        (self.aside / "report.html").write_text(html.render_html(page), encoding="utf-8")
        cards.write_cards(self.aside, said.data, said.trial.train.schema, page, said.tables)
        self.finish(said.tables)
        notes = said.settings.get("notes", ())
        return Outcome(
            self.target,
            self.target / "report.html",
            self.target / self.record.path.name,
            None if said.data is None else self.target / said.data,
            (page.verdict.headline, *(f"{q.question} {q.answer}" for q in page.verdict.questions)),
            said.judged.scores,
            said.audit,
            ruled,
            (*_promised(said), *(map(str, notes) if isinstance(notes, tuple | list) else ())),
            page.release_class,
        )


def _promised(said: Findings) -> tuple[str, ...]:
    """Say what is guaranteed, if anything is, and of what."""
    if said.statement is None or said.data is None:
        return ()
    folder = Path(said.data).parent.name
    return (
        said.statement.promise,
        f"Only the folder '{folder}' may leave the house, once you have decided so: the report was"
        " computed from real rows without noise.",
    )


def _removed(model: Model[Table]) -> bool:
    """Whether edges were taken out of the model."""
    return isinstance(model, Edited) and bool(model.removed)


def settled(found: Audit, n_subjects: int, accept: Collection[str]) -> None:
    """Raise as `Run.audit` does for what an audit found."""
    if n_subjects < SMALLEST:
        raise InputError(
            f"a table of {n_subjects} subject(s)",
            f"at least {SMALLEST}, so that some can be held out to judge by",
            "give more rows; with fewer, no evidence can be had and nothing is released",
        )
    for finding in found.findings:
        if finding.severity == "stop" and finding.topic in BARRED - set(accept):
            raise PrivacyError(
                finding.said,
                f"nothing is released before this is settled ({finding.topic})",
                f"{finding.todo}; or let it by knowingly: --accept {finding.topic}",
            )


def _shares(plan: Plan, model: Model[Table]) -> dict[str, object]:
    """Return what is recorded of levels: shares wished for, and how many a balance leaves out."""
    found: dict[str, object] = {}
    if plan.enrich:
        found["enrich"] = [wish.told for wish in plan.enrich]
    if left := plan.left_out(model.schema):  # type: ignore[arg-type]  # a model of tables
        found["levels_left_out"] = left
    return found


def _check_sizes(parts: Mapping[str, Table]) -> None:
    """Raise InputError for a part so small that every score on it would be a small cell."""
    for name, part in parts.items():
        if part.n_subjects < SMALLEST_CELL:
            raise InputError(
                f"the {name} part has fewer than {SMALLEST_CELL} subjects",
                f"{SMALLEST_CELL} or more: scores of fewer would speak of single people",
                "give more rows, or change the share that is held out (--holdout)",
            )


def _check_apart(parts: Mapping[str, Table]) -> None:
    """Raise InputError where a subject is in two of these parts, or one part is another again."""
    for (one, first), (other, second) in combinations(parts.items(), 2):
        both = np.intersect1d(first.subjects, second.subjects).size
        again = first.n_rows == second.n_rows and all(
            np.array_equal(values, second.columns[name], equal_nan=values.dtype.kind in "fM")
            for name, values in first.columns.items()
        )
        if both or again:
            raise InputError(
                f"the {other} table is the {one} table again"
                if again
                else f"subjects of the {one} table are in the {other} table too",
                "parts without a subject in common: what is judged on rows that the generator saw"
                " proves nothing",
                f"give a {other} table of other subjects",
            )


@dataclass(frozen=True)
class Findings:
    """What a run found out, to be released."""

    trial: Trial[Table]
    judged: Judged
    audit: Audit
    settings: Mapping[str, object]
    ledger: tuple[Release, ...]
    data: str | None = None  # name of the data file, None when none is released
    graph: Graph | None = None  # what depends on what in the model, where it can show that
    population: Table | None = None  # all real rows, where shares were changed on purpose
    tables: Mapping[str, TableSchema] = field(default_factory=dict)  # by file, of linked tables
    statement: Statement | None = None  # of a guarantee; then the report is not for release
    histories: Trial[Events] | None = None  # of which the trial is one row a subject


@contextmanager
def begun(
    out: str | Path,
    *,
    seed: int,
    sign: str | Path | None,
    who: str | None,
    overwrite: bool,
    watch: Watch,
    policy: Policy | str | Path | None = None,
) -> Iterator[Run]:
    """Begin a run whose release will stand in `out`; nothing is left there if it ends early."""
    from manikin.release.policy import load_policy
    from manikin.release.record import Record, owner_key, run_facts
    from manikin.release.seal import check_key
    from manikin.release.staging import staged

    held_to = load_policy(policy) if isinstance(policy, str | Path) else policy
    signing = None if sign is None else Path(sign)
    if signing is not None:
        check_key(signing)  # now rather than after all the work
    with staged(out, overwrite=overwrite) as aside:
        record = Record(aside / "record.jsonl")
        record.add("started", run_facts(who))
        target = Path(out).expanduser().resolve()
        yield Run(aside, target, record, owner_key(), seed, signing, watch, held_to)
