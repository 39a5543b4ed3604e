"""Several synthesizers on one table: the same split, the same draws, the same judge, side by side.

What is compared is evidence, not data: no synthetic rows are written unless they are asked for.
There is no total and no winner: which difference matters depends on what the data are for.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manikin import catalogue
from manikin.errors import InputError, ManikinError, NotSupported, Stopped
from manikin.road import Asked, Made, Roles, make, name_of, open_source
from manikin.run import Deadline, Run, begun
from manikin.sampling import Plan
from manikin.synthesizer import Progress, Synthesizer, Watch, silent

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema
    from manikin.data.table import Table
    from manikin.io.tables import Source
    from manikin.metrics.score import Score
    from manikin.release.policy import Policy, PolicyVerdict

__all__ = ["Compared", "Contender", "compare"]

MODALITY = "table"


@dataclass(frozen=True)
class Contender:
    """What one synthesizer came to, or why it came to nothing."""

    name: str
    settings: Mapping[str, object]
    scores: tuple[Score, ...] = ()
    caught_by: Mapping[str, tuple[str, ...]] | None = None  # scores, by planted leak
    seconds: float = 0.0  # to fit, draw and judge
    notes: tuple[str, ...] = ()
    data: Path | None = None
    failed: str = ""
    policy: PolicyVerdict | None = None  # how the policy that was asked for ruled

    @property
    def controls(self) -> dict[str, bool]:
        """Whether any attack caught each planted leak."""
        return {name: bool(by) for name, by in (self.caught_by or {}).items()}


@dataclass(frozen=True)
class Compared:
    """Where a comparison stands and what it found, in the order that was asked for."""

    directory: Path
    comparison: Path  # JSON
    page: Path
    record: Path
    contenders: tuple[Contender, ...]

    @property
    def exit_code(self) -> int:
        """0 where no policy was asked for or one or more pass it; else 10, or 9 if all failed."""
        codes = [one.policy.exit_code for one in self.contenders if one.policy is not None]
        return 0 if 0 in codes else max(codes, default=0)


def compare(
    source: Any,
    *,
    synthesizers: Sequence[str] = (),
    out: str | Path = "manikin-comparison",
    settings: Mapping[str, Mapping[str, object]] | None = None,
    with_data: bool = False,
    n: int | None = None,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    subject: str | None = None,
    time: str | None = None,
    event: str | None = None,
    sensitive: Sequence[str] = (),
    quasi_identifiers: Sequence[str] = (),
    holdout: float = 0.3,
    split_by: str | None = None,
    accept: Sequence[str] = (),
    profile: str | None = None,
    refits: int = 0,
    policy: Policy | str | Path | None = None,
    seed: int = 0,
    minutes: float | None = None,
    sign: str | Path | None = None,
    who: str | None = None,
    overwrite: bool = False,
    watch: Watch = silent,
) -> Compared:
    """Fit several synthesizers to the same rows and judge them alike, to the directory `out`.

    `synthesizers` are names, by default every one for tables; `settings` are by name. One that
    cannot be fitted to this table is reported with the reason and does not stop the others.
    `with_data` writes each one's rows beside the comparison. `profile` is "quick" unless given,
    and "full" with a `policy`, whose gates need every attack. The other options are those of
    `synthesize`.
    """
    recipes = _recipes(synthesizers, settings or {})
    depth = profile or ("quick" if policy is None else "full")
    asked = Asked(n, "", None, holdout, tuple(accept), depth, refits, split_by)
    deadline = Deadline(minutes)
    roles = Roles(target, subject, time, event, tuple(sensitive), tuple(quasi_identifiers))
    with begun(
        out, seed=seed, sign=sign, who=who, overwrite=overwrite, watch=watch, policy=policy
    ) as run:
        opened = open_source(source, schema, roles)
        run.audit(opened, asked.accept)
        parts = run.split(opened.table, holdout, split_by)
        found = []
        for i, (name, recipe) in enumerate(recipes.items()):
            told = replace(run, watch=_named(watch, name, i, len(recipes)))
            data = _data_name(source, name) if with_data else None
            found.append(_contend(told, (name, recipe), opened, parts, asked, deadline, data))
        _check_any(found)
        document = _document(source, run, parts, asked, found)
        return _written(run, document, _page(source, run, parts, asked, found), found)


def _recipes(
    names: Sequence[str], settings: Mapping[str, Mapping[str, object]]
) -> dict[str, Synthesizer[Any]]:
    """Return the recipes by name. Raises InputError for settings of one that is not compared."""
    chosen = tuple(dict.fromkeys(names)) or catalogue.installed(f"{MODALITY}/")
    if unknown := sorted(set(settings) - set(chosen)):
        raise InputError(
            f"settings of {', '.join(unknown)}, which is not compared",
            f"settings of: {', '.join(chosen)}",
            "name it among the synthesizers, or leave its settings out",
        )
    return {name: catalogue.build(name, settings.get(name)) for name in chosen}


def _named(watch: Watch, name: str, i: int, n: int) -> Watch:
    """Return a watch that hears which synthesizer the progress is of."""

    def watching(progress: Progress) -> bool:
        what = f"{name} ({i + 1} of {n}), {progress.what}"
        return bool(watch(replace(progress, what=what)))

    return watching


def _data_name(source: Any, name: str) -> str:
    from manikin.io.tables import suffix_of

    return f"{name.replace('/', '-')}{suffix_of(source)}"


def _contend(
    run: Run,
    maker: tuple[str, Synthesizer[Any]],
    opened: Source,
    parts: tuple[Table, Table],
    asked: Asked,
    deadline: Deadline,
    data: str | None,
) -> Contender:
    """Make and judge one; an error of its own becomes the reason why it failed."""
    name, recipe = maker
    n = opened.table.n_subjects if asked.n is None else asked.n
    begun_at = clock.monotonic()
    if deadline.over:
        run.record.add("failed", {"synthesizer": name, "why": _TIME})
        return Contender(name, vars(recipe), failed=_TIME)
    try:
        made: Made = make(
            run, name, recipe, parts, Plan(), asked, deadline, n=n, data=data,
            layout=opened.layout,
        )  # fmt: skip
    except Stopped:
        if not deadline.over:
            raise
        failed = _TIME
    except ManikinError as error:
        failed = str(error)
    else:
        return Contender(
            name,
            vars(recipe),
            made.judged.scores,
            {control.name: control.by for control in made.judged.controls},
            clock.monotonic() - begun_at,
            made.notes,
            None if data is None else run.target / data,
            policy=_ruled(run, made, parts, asked.split_by),
        )
    if data is not None:
        (run.aside / data).unlink(missing_ok=True)
    run.record.add("failed", {"synthesizer": name, "why": failed})
    return Contender(name, vars(recipe), failed=failed)


def _ruled(
    run: Run, made: Made, parts: tuple[Table, Table], split_by: str | None
) -> PolicyVerdict | None:
    """Hold one's scores to the policy, under the small-cell rule; nothing without a policy."""
    from manikin.data.table import Table
    from manikin.release.lines import is_disclosable
    from manikin.release.policy import judge_policy

    if run.policy is None:
        return None
    real = Table.concatenate(list(parts))
    ruled = judge_policy(
        run.policy,
        [score for score in made.judged.scores if is_disclosable(score, real)],
        made.judged.caught(),
        caught_by={control.name: control.by for control in made.judged.controls},
        n_held_out=parts[1].n_subjects,
        suffices=made.judged.suffices,
        split_by=split_by,
    )
    run.record.add("ruled", ruled.to_json())
    return ruled


_TIME = "the time asked for was over"


def _check_any(found: Sequence[Contender]) -> None:
    """Raise NotSupported when nobody got through: there is nothing to compare."""
    if all(one.failed for one in found):
        raise NotSupported(
            "none of the synthesizers could be fitted and judged: "
            + "; ".join(f"{one.name}: {one.failed}" for one in found),
            "one or more that fit this table, within the time",
            "try one alone: manikin synthesize",
        )


def _document(
    source: Any,
    run: Run,
    parts: tuple[Table, Table],
    asked: Asked,
    found: Sequence[Contender],
) -> dict[str, object]:
    """Return comparison.json: every overall score of everyone, with interval, floor and ceiling.

    Scores of groups stay in the record: a page of many methods is no place to look for small cells.
    """
    train, held = parts
    return {
        "format": 1,
        "source": name_of(source),
        "seed": run.seed,
        "holdout": asked.holdout,
        "split_by": asked.split_by,
        "profile": asked.profile,
        "policy": None if run.policy is None else run.policy.name,
        "subjects": {"train": train.n_subjects, "holdout": held.n_subjects},
        "synthesizers": [
            {
                "name": one.name,
                "settings": dict(one.settings),
                "failed": one.failed,
                "notes": list(one.notes),
                "seconds": round(one.seconds, 1),
                "controls": one.controls,
                "policy": None if one.policy is None else one.policy.to_json(),
                "scores": [_told(score) for score in one.scores if score.group == "all"],
            }
            for one in found
        ],
    }


def _told(score: Score) -> dict[str, object]:
    def short(value: float | None) -> float | None:
        return None if value is None or value != value else round(value, 4)

    low, high = score.interval
    return {
        "metric": score.metric, "value": short(score.value), "low": short(low),
        "high": short(high), "floor": short(score.floor), "ceiling": short(score.ceiling),
        "note": score.note,
    }  # fmt: skip


def _page(
    source: Any, run: Run, parts: tuple[Table, Table], asked: Asked, found: Sequence[Contender]
) -> str:
    """Return the same as a page to read: questions, policies, and numbers side by side."""
    from manikin.release.comparison import build_comparison, render_comparison

    ran = [one for one in found if not one.failed]
    page = build_comparison(
        {one.name: [score for score in one.scores if score.group == "all"] for one in ran},
        catalogue.cards(),
        source=name_of(source),
        caught_by={one.name: one.caught_by or {} for one in ran},
        split_by=asked.split_by,
        facts={one.name: _facts(one) for one in found},
        failed={one.name: one.failed for one in found if one.failed},
        policies=None if run.policy is None else (run.policy,),
        ruled={one.name: one.policy for one in ran if one.policy is not None},
        notes=(
            f"Everyone was fitted to the same {parts[0].n_subjects:,} subjects and judged on the"
            f" same {parts[1].n_subjects:,} held out; metrics: {asked.profile}.",
            *(f"{one.name}: {note}" for one in ran for note in one.notes),
        ),
    )
    return render_comparison(page)


def _facts(one: Contender) -> dict[str, str]:
    told = {key: str(value) for key, value in one.settings.items()}
    return told if one.failed else {"seconds": f"{one.seconds:.0f}", **told}


def _written(
    run: Run, document: Mapping[str, object], page: str, found: Sequence[Contender]
) -> Compared:
    """Write the comparison and its page, close the record over them, and seal all."""
    from manikin.release.record import canonical

    (run.aside / "comparison.json").write_bytes(canonical(document) + b"\n")
    (run.aside / "comparison.html").write_text(page, encoding="utf-8")
    run.finish()
    return Compared(
        run.target,
        run.target / "comparison.json",
        run.target / "comparison.html",
        run.target / run.record.path.name,
        tuple(found),
    )
