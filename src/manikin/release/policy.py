"""Policies: which numbers decide whether a synthetic table may leave the house, and at what value.

A policy is a YAML file of gates. A gate compares one end of a score's 95 % interval with a
threshold and names the source of the threshold; it may ask that a leak planted on purpose was
caught. Gates are ruled one by one (pass, fail, underpowered, not assessable) and never added up.
The shipped policies (`public`, `controlled`, `internal`) hold gates on disclosure only, after the
definitions of El Emam et al. (JMIR 2020; identity), WP29 Opinion 05/2014 (singling out, linkage,
inference) and the consensus of Pilgram et al. (Patterns 2025; membership and attribute disclosure
rather than similarity). Distance to the closest record is never a gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast

from manikin.errors import InputError
from manikin.metrics.score import Score

__all__ = [
    "FAILED", "SHIPPED", "UNDECIDED", "Policy", "PolicyGate", "PolicyVerdict", "Ruling",
    "judge_policy", "load_policy", "read_policy", "shipped_policies", "speaks_against",
]  # fmt: skip

FOLDER = Path(__file__).parent / "policies"
SHIPPED = ("public", "controlled", "internal")  # strictest first
FAILED, UNDECIDED = 9, 10  # exit codes; every gate passed: 0
LONGEST = 256 * 1024  # bytes of a policy file
NEVER = "privacy/nearest"  # an overfitting smoke test that says nothing of privacy

End = Literal["upper", "lower", "value"]
Outcome = Literal["pass", "fail", "underpowered", "not assessable"]
_WORST: tuple[Outcome, ...] = ("fail", "underpowered", "not assessable", "pass")


@dataclass(frozen=True)
class PolicyGate:
    """One gate; `metric` and `group` are patterns of scores.

    `power` is the planted leak that some attack must have caught before a good number counts,
    `sees` the one that the gate's own metric must have. A gate `of` histories is ruled where
    histories are judged, and is no gate of a table.
    """

    name: str
    metric: str
    threshold: float
    bound: Literal["at most", "at least"]
    end: End
    source: str
    group: str = "all"
    power: str = ""
    sees: str = ""
    required: bool = True  # whether the policy is undecided where this cannot be assessed
    why: str = ""
    of: Literal["", "histories"] = ""


@dataclass(frozen=True)
class Policy:
    """A named set of gates, and for whom data that pass them are meant."""

    name: str
    title: str
    meaning: str
    gates: tuple[PolicyGate, ...]


@dataclass(frozen=True)
class Ruling:
    """What became of one gate, and the score that decided it."""

    gate: PolicyGate
    outcome: Outcome
    why: str
    metric: str = ""
    group: str = ""
    value: float | None = None
    compared: float | None = None  # the end of the interval that the threshold is held to
    n_scores: int = 0

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        gate = self.gate
        return {
            "gate": gate.name, "outcome": self.outcome, "why": self.why, "metric": self.metric,
            "group": self.group, "value": self.value, "end": gate.end, "compared": self.compared,
            gate.bound.replace(" ", "_"): gate.threshold, "source": gate.source,
        }  # fmt: skip


@dataclass(frozen=True)
class PolicyVerdict:
    """The rulings of one policy, and what they come to."""

    name: str
    title: str
    meaning: str
    rulings: tuple[Ruling, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the required gates, and any failure of the others."""
        found = [
            r.outcome for r in self.rulings if r.gate.required or r.outcome != "not assessable"
        ]
        return next((o for o in _WORST if o in found), "not assessable")

    @property
    def exit_code(self) -> int:
        """0 when every gate is passed, 9 when one failed, 10 when it cannot be told."""
        return {"pass": 0, "fail": FAILED}.get(self.outcome, UNDECIDED)

    @property
    def answer(self) -> str:
        """What the rulings come to, in a sentence."""
        names = _listed([r.gate.name for r in self.rulings if r.outcome == self.outcome])
        match self.outcome:
            case "pass":
                return (
                    "Every gate is passed. That is evidence for the person who decides, not the "
                    "decision."
                )
            case "fail":
                return f"It may not leave the house under this policy: a gate failed ({names})."
            case "underpowered":
                return (
                    f"It cannot be told, so it may not leave yet: underpowered ({names}). What was "
                    "not found could not have been seen, or too few subjects were held out."
                )
            case _:
                return (
                    "It cannot be told, so it may not leave yet: a required gate has no number "
                    f"({names})."
                )

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values: what it comes to, and every gate with its number."""
        return {
            "policy": self.name, "title": self.title, "outcome": self.outcome,
            "answer": self.answer, "exit_code": self.exit_code,
            "gates": [ruling.to_json() for ruling in self.rulings],
        }  # fmt: skip


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# ---------------------------------------------------------------------------- rulings
@dataclass(frozen=True)
class _Shown:
    """What planted leaks showed of the tests' power, and on how many subjects."""

    controls: Mapping[str, bool]
    caught_by: Mapping[str, Sequence[str]] | None
    n_held_out: int | None
    suffices: int | None
    split_by: str | None


def judge_policy(
    policy: Policy,
    scores: Sequence[Score],
    controls: Mapping[str, bool],
    *,
    caught_by: Mapping[str, Sequence[str]] | None = None,
    n_held_out: int | None = None,
    suffices: int | None = None,
    split_by: str | None = None,
    histories: bool = False,
) -> PolicyVerdict:
    """Rule every gate; those of histories where `histories` were judged.

    `controls` says of each planted leak whether any attack caught it, `caught_by` which scores
    did. `n_held_out` lets a gate whose interval is too wide say how many subjects would suffice;
    `suffices` is how many would to catch the leak that was missed. With `split_by`, a column by
    which subjects were held out, no attack is ruled on: it tells that column's values apart.
    """
    shown = _Shown(controls, caught_by, n_held_out, suffices, split_by)
    rulings = tuple(_rule(gate, scores, shown) for gate in policy.gates if histories or not gate.of)
    return PolicyVerdict(policy.name, policy.title, policy.meaning, rulings)


def _rule(gate: PolicyGate, scores: Sequence[Score], shown: _Shown) -> Ruling:
    found = [
        score
        for score in scores
        if fnmatchcase(score.metric, gate.metric)
        and (fnmatchcase(score.group, gate.group) or (gate.group == "all" and _found(score, gate)))
        and not score.metric.startswith(NEVER)
    ]
    if not found:
        return Ruling(gate, "not assessable", "No such number was computed. " + _CURE)
    if shown.split_by is not None and gate.metric.startswith("privacy/"):
        return Ruling(gate, "not assessable", _APART.format(shown.split_by))
    ruled = [_rule_one(gate, score, shown) for score in found]
    if gate.group != "all" and len({r.outcome for r in ruled}) > 1:
        # of many groups some are too small: they do not hide what the others show
        small = sum(r.outcome == "not assessable" for r in ruled)
        ruled = [r for r in ruled if r.outcome != "not assessable"]
        note = f" {small} of {len(found)} groups are too small to assess." if small else ""
    else:
        note = ""
    sign = 1 if gate.bound == "at most" else -1
    worst = max(
        ruled,
        key=lambda r: (-_WORST.index(r.outcome), sign * (r.compared or 0.0)),
    )
    return Ruling(
        gate, worst.outcome, worst.why + note, worst.metric, worst.group, worst.value,
        worst.compared, len(found),
    )  # fmt: skip


def speaks_against(score: Score) -> bool:
    """Whether an attack by shadow fits found members: it may worsen a verdict, never better it."""
    return (
        score.group == "shadow" and score.ceiling is not None and score.interval[0] > score.ceiling
    )


def _found(score: Score, gate: PolicyGate) -> bool:
    """Whether an attack by shadow fits surely breaks the threshold; a milder one rules nothing."""
    return speaks_against(score) and not _within(gate, score.interval[0])


_APART = (
    "Those held out differ from the training rows by '{}', which attacks mistake for membership. "
    "Take this from a run with a random split."
)
_CURE = "The metric was not chosen, does not apply to the declared columns, or time ran out."


def _rule_one(gate: PolicyGate, score: Score, shown: _Shown) -> Ruling:
    end = {"upper": score.interval[1], "lower": score.interval[0], "value": score.value}[gate.end]
    told = score.note.strip()
    told = told[:1].upper() + told[1:]

    def ruling(outcome: Outcome, why: str) -> Ruling:
        value, compared = (None if math.isnan(v) else v for v in (score.value, end))
        return Ruling(gate, outcome, why.strip(), score.metric, score.group, value, compared)

    if math.isnan(score.value) or math.isnan(end):
        return ruling("not assessable", told or "The number, or its interval, cannot be estimated.")
    if not _within(gate, end):
        nearest = end if gate.end == "value" else score.interval[gate.bound == "at least"]
        if not _within(gate, nearest):
            whole = "number" if gate.end == "value" else "whole interval"
            return ruling("fail", f"The {whole} is {_other(gate)} the threshold. {told}")
        return ruling("underpowered", _too_wide(gate, score, end, shown.n_held_out) + f" {told}")
    if lacking := _lacking(gate, score, shown):
        return ruling("underpowered", f"{lacking} {told}")
    return ruling("pass", told)


_ENDS = {"upper": "upper end of the interval", "lower": "lower end of the interval",
         "value": "number"}  # fmt: skip


def _within(gate: PolicyGate, number: float) -> bool:
    return number <= gate.threshold if gate.bound == "at most" else number >= gate.threshold


def _other(gate: PolicyGate) -> str:
    return "above" if gate.bound == "at most" else "below"


def _too_wide(gate: PolicyGate, score: Score, end: float, n: int | None) -> str:
    """Say on which side the number is; half-widths shrink with the root of the subjects."""
    if not _within(gate, score.value):
        return (
            f"The number is {_other(gate)} the threshold, but its interval holds numbers that are "
            "not: it may be chance, and there are too few subjects to tell."
        )
    said = (
        f"The number itself is within the threshold, but the {_ENDS[gate.end]} is {_other(gate)} "
        "it: there are too few subjects to tell."
    )
    room = abs(gate.threshold - score.value)
    if room > 0 and n and math.isfinite(end):
        needed = n * (abs(end - score.value) / room) ** 2
        said += f" About {_round_up(needed)} held-out subjects would suffice if it stays as it is."
    return said


def _round_up(n: float) -> str:
    """Return a number of subjects in two digits, never fewer than it takes."""
    digits = 10 ** max(0, math.floor(math.log10(max(n, 1))) - 1)
    return f"{math.ceil(n / digits) * digits:,}".replace(",", "\u202f")


def _lacking(gate: PolicyGate, score: Score, shown: _Shown) -> str:
    """Return why planted leaks do not show that this score would have seen one."""
    for control in (gate.power, gate.sees):
        if control and control not in shown.controls:
            return f"The control '{control}' was not run, so a good number means nothing."
    if gate.power and not shown.controls[gate.power]:
        said = f"The control '{gate.power}' was missed: such a leak would not have been seen."
        if shown.suffices is not None:
            said += f" About {_round_up(shown.suffices)} held-out subjects would suffice to see it."
        return said
    if gate.sees and shown.caught_by is not None:
        metric = score.metric.partition(".")[0]
        own = (name.partition(" ")[0] for name in shown.caught_by.get(gate.sees, ()))
        if all(name.partition(".")[0] != metric for name in own):
            return (
                f"This measure itself missed the control '{gate.sees}': declare more of what an "
                "outsider may know of a person (quasi-identifiers), or hold more subjects out."
            )
    return ""


# ---------------------------------------------------------------------------- reading
def shipped_policies() -> tuple[Policy, ...]:
    """Return the policies that come with the package, strictest first."""
    return tuple(load_policy(name) for name in SHIPPED)


def load_policy(name_or_path: str | Path) -> Policy:
    """Return a shipped policy by its name, or one read from a YAML file.

    Raises InputError when there is none, or when the file is not a policy.
    """
    path = Path(name_or_path)
    if str(name_or_path) in SHIPPED:
        path = FOLDER / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise InputError(
            f"there is no policy '{path.name}'",
            f"one of {', '.join(SHIPPED)}, or a policy file",
            "check the spelling; docs/policies.md shows how to write a file",
        )
    try:
        if path.stat().st_size > LONGEST:
            raise InputError("a policy file of over 256 KB", "a short list of gates", _SEE)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the policy '{path.name}' cannot be read", "UTF-8 text", _SEE) from error
    return read_policy(text, path.stem)


_SEE = "see docs/policies.md"


def read_policy(text: str, name: str = "policy") -> Policy:
    """Build the policy that a text describes. Raises InputError naming the entry that is wrong."""
    document = _parsed(text)
    _check(document, _POLICY, "the policy")
    gates = tuple(_gate(entry, i) for i, entry in enumerate(document["gates"], 1))
    if not gates:
        raise InputError("the policy has no gates", "one gate or more", _SEE)
    names = [gate.name for gate in gates]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"two gates have the name '{twice[0]}'", "a name a gate", "rename one")
    named = str(document.get("name", name))
    return Policy(named, str(document.get("title", named)), str(document.get("meaning", "")), gates)


def _gate(entry: Any, i: int) -> PolicyGate:
    where = f"gate {i} of the policy"
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        where = f"gate '{entry['name']}' of the policy"
    _check(entry, _GATE, where)
    bounds = [key for key in ("at_most", "at_least") if key in entry]
    if len(bounds) != 1:
        given = "both at_most and at_least" if bounds else "no threshold"
        raise InputError(f"{where} has {given}", "one of at_most and at_least", _SEE)
    threshold = float(entry[bounds[0]])
    if not math.isfinite(threshold):
        raise InputError(f"the threshold of {where} is no number", "a finite number", "correct it")
    end = entry.get("end", "upper")
    if end not in ("upper", "lower", "value"):
        raise InputError(
            f"the end of {where} is none that there is",
            "upper or lower (end of the 95 % interval), or value",
            "choose one of them",
        )
    if entry["metric"].startswith(NEVER):
        raise InputError(
            f"{where} is on {NEVER}",
            "any metric but this: distance to the closest record is a smoke test for overfitting",
            "use privacy/membership and privacy/attribute for privacy",
        )
    if entry.get("of", "histories") != "histories":
        raise InputError(
            f"{where} is of no data that there are",
            "of: histories, or no such entry: of all data",
            "correct it",
        )
    bound: Literal["at most", "at least"] = "at most" if bounds == ["at_most"] else "at least"
    texts = {key: str(entry[key]) for key in ("group", "power", "sees", "why") if key in entry}
    return PolicyGate(
        entry["name"], entry["metric"], threshold, bound, cast(End, end), entry["source"],
        required=entry.get("required", True), of=entry.get("of", ""), **texts,
    )  # fmt: skip


_NUMBER = (int, float)
# field: (types, whether it must be there)
_POLICY: dict[str, tuple[Any, bool]] = {
    "name": (str, False), "title": (str, False), "meaning": (str, False), "gates": (list, True),
}  # fmt: skip
_GATE: dict[str, tuple[Any, bool]] = {
    "name": (str, True), "metric": (str, True), "group": (str, False), "end": (str, False),
    "at_most": (_NUMBER, False), "at_least": (_NUMBER, False), "power": (str, False),
    "sees": (str, False), "of": (str, False),
    "required": (bool, False), "why": (str, False), "source": (str, True),
}  # fmt: skip
_KINDS = {str: "text", list: "a list", _NUMBER: "a number", bool: "true or false"}


def _check(entry: Any, fields: Mapping[str, tuple[Any, bool]], where: str) -> None:
    """Hold a mapping to its fields: none unknown, none lacking, each of its type."""
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no mapping", f"entries: {', '.join(fields)}", _SEE)
    if unknown := [str(key)[:40] for key in entry if key not in fields]:
        raise InputError(
            f"{where} has unknown entries: {', '.join(sorted(unknown))}",
            f"entries: {', '.join(fields)}",
            "check the spelling",
        )
    for key, (kind, needed) in fields.items():
        if key not in entry:
            if needed:
                raise InputError(f"{where} has no '{key}'", f"{key}: {_KINDS[kind]}", _SEE)
            continue
        value = entry[key]
        wrong = not isinstance(value, kind) or (kind is _NUMBER and isinstance(value, bool))
        if wrong or (kind is str and not value.strip() and needed):
            raise InputError(f"'{key}' of {where} cannot be used", f"{_KINDS[kind]}", "correct it")


def _parsed(text: str) -> Any:
    """Return the document, refusing what a policy never holds: references and double entries."""
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 8:
                raise InputError("the policy file nests too deeply", "a list of gates", _SEE)
            if getattr(event, "anchor", None):
                raise InputError("the policy file holds a reference (& or *)", "plain text", _SEE)
        _check_single(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"the policy file is no YAML{where}", "names and values", _SEE) from error


def _check_single(node: Any) -> None:
    """Raise InputError where a mapping names an entry twice: the first would be lost."""
    for part in getattr(node, "value", ()):
        if isinstance(part, tuple):  # an entry of a mapping
            names = [str(key.value) for key, _ in node.value]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise InputError(f"the policy file has '{twice[0][:40]}' twice", "once", "drop one")
            _check_single(part[1])
        elif not isinstance(part, str):
            _check_single(part)
