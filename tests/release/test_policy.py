import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manikin.errors import InputError
from manikin.metrics.score import Score
from manikin.release import policy as policies
from manikin.release.policy import judge_policy, load_policy, read_policy, shipped_policies

CAUGHT = {"exact copy": True, "5 % copied": True}
GATE = "  - name: one\n    metric: privacy/membership.auc\n    at_most: 0.6\n    source: ours\n"


def one_gate(**changes: Any) -> policies.Policy:
    entry = {"name": "one", "metric": "a/b.c", "at_most": 0.6, "source": "ours"} | changes
    lines = [f"{key}: {value!r}" for key, value in entry.items() if value is not None]
    lines = [line.replace("True", "true").replace("False", "false") for line in lines]
    return read_policy("gates:\n  - " + "\n    ".join(lines) + "\n")


def outcome(policy: policies.Policy, *scores: Score, **options: Any) -> str:
    return judge_policy(policy, scores, CAUGHT, **options).rulings[0].outcome


def score(value: float, low: float, high: float, group: str = "all", note: str = "") -> Score:
    return Score("a/b.c", value, (low, high), group=group, note=note)


# ---------------------------------------------------------------------------- the shipped ones
def test_the_shipped_policies_hold_the_thresholds_they_state() -> None:
    public, controlled, internal = shipped_policies()
    found = {p.name: {g.name: g for g in p.gates} for p in (public, controlled, internal)}
    auc = "Membership (AUC)"
    assert [found[n][auc].threshold for n in found] == [0.55, 0.60, 0.70]
    assert found["public"]["Members found at 1 % false alarms"].threshold == 0.03
    assert found["controlled"]["Members found at 1 % false alarms"].threshold == 0.05
    for name in ("Attribute inference", "Singling out", "Linkage"):
        assert [found[n][name].threshold for n in ("public", "controlled")] == [0.05, 0.10]
        assert found["public"][name].end == "upper"
    assert found["public"]["Identity, beyond chance"].threshold == 0.09
    assert found["public"]["Copies of training rows"].end == "lower"
    for policy in (public, controlled, internal):
        for gate in policy.gates:
            assert gate.source and gate.why and not gate.metric.startswith("privacy/nearest")


def test_each_policy_is_no_stricter_than_the_one_before() -> None:
    for one, other in zip(shipped_policies(), shipped_policies()[1:], strict=False):
        for strict, loose in zip(one.gates, other.gates, strict=True):
            assert (strict.metric, strict.end) == (loose.metric, loose.end)
            assert strict.threshold <= loose.threshold and strict.required >= loose.required


# ---------------------------------------------------------------------------- worked by hand
@pytest.mark.parametrize(
    ("end", "value", "low", "high", "expected"),
    [
        ("upper", 0.52, 0.46, 0.58, "pass"),  # .58 ≤ .60
        ("upper", 0.52, 0.46, 0.60, "pass"),  # on the threshold is within
        ("upper", 0.55, 0.49, 0.61, "underpowered"),  # .61 > .60, but .55 is within
        ("upper", 0.64, 0.55, 0.73, "underpowered"),  # .64 > .60, but .55 is not: by chance?
        ("upper", 0.66, 0.61, 0.71, "fail"),  # all of it is above .60
        ("lower", 0.65, 0.59, 0.71, "pass"),  # the lower end is within, whatever the number
        ("lower", 0.65, 0.601, 0.71, "fail"),
        ("value", 0.60, 0.10, 0.99, "pass"),  # the interval plays no part
        ("value", 0.601, 0.10, 0.99, "fail"),
        ("upper", math.nan, math.nan, math.nan, "not assessable"),
        ("upper", 0.5, math.nan, math.nan, "not assessable"),
    ],
)
def test_the_stated_end_is_compared(
    end: str, value: float, low: float, high: float, expected: str
) -> None:
    assert outcome(one_gate(end=end), score(value, low, high)) == expected


@pytest.mark.parametrize(
    ("low", "value", "high", "expected"),
    [
        (0.91, 0.95, 0.99, "pass"),
        (0.89, 0.95, 0.99, "underpowered"),
        (0.7, 0.8, 0.95, "underpowered"),
        (0.7, 0.8, 0.89, "fail"),
    ],
)
def test_at_least_looks_the_other_way(low: float, value: float, high: float, expected: str) -> None:
    gate = one_gate(at_most=None, at_least=0.9, end="lower")
    assert outcome(gate, score(value, low, high)) == expected


def test_an_underpowered_gate_says_how_many_subjects_would_do() -> None:
    # half-width .12 of 300 subjects; .10 is wanted: 300 · (.12/.10)² = 432, two digits: 440
    found = judge_policy(one_gate(), [score(0.5, 0.38, 0.62)], CAUGHT, n_held_out=300)
    assert "About 440 held-out subjects would suffice" in found.rulings[0].why


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"exact copy": True, "5 % copied": True}, "pass"),
        ({"exact copy": True, "5 % copied": False}, "underpowered"),
        ({"exact copy": True}, "underpowered"),
        ({}, "underpowered"),
    ],
)
def test_a_pass_needs_the_planted_leak_to_be_caught(
    controls: dict[str, bool], expected: str
) -> None:
    gate = one_gate(power="5 % copied")
    good, bad = score(0.5, 0.45, 0.55), score(0.8, 0.7, 0.9)
    assert judge_policy(gate, [good], controls).rulings[0].outcome == expected
    assert judge_policy(gate, [bad], controls).rulings[0].outcome == "fail"


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (None, "pass"),  # not told by what: any attack's catch has to do
        ({"exact copy": ["a/b.auc (attack=density)"]}, "pass"),
        ({"exact copy": ["privacy/copies.exact"]}, "underpowered"),
        ({"exact copy": ["a/bc.auc"]}, "underpowered"),  # another metric of a longer name
        ({}, "underpowered"),
    ],
)
def test_a_metric_that_missed_an_exact_copy_passes_nothing(
    by: dict[str, list[str]] | None, expected: str
) -> None:
    gate = one_gate(sees="exact copy")
    found = judge_policy(gate, [score(0.5, 0.45, 0.55)], CAUGHT, caught_by=by).rulings[0]
    assert found.outcome == expected
    bad = judge_policy(gate, [score(0.8, 0.7, 0.9)], CAUGHT, caught_by=by).rulings[0]
    assert bad.outcome == "fail"


def test_attacks_are_not_ruled_on_where_another_site_is_held_out() -> None:
    gate = one_gate(metric="privacy/membership.auc")
    bad = replace(score(0.8, 0.7, 0.9), metric="privacy/membership.auc")
    found = judge_policy(gate, [bad], CAUGHT, split_by="site").rulings[0]
    assert found.outcome == "not assessable" and "'site'" in found.why
    elsewhere = judge_policy(one_gate(), [score(0.8, 0.7, 0.9)], CAUGHT, split_by="site")
    assert elsewhere.rulings[0].outcome == "fail"  # what no attack measured


def test_a_missed_leak_says_how_many_subjects_would_do() -> None:
    gate = one_gate(power="5 % copied")
    found = judge_policy(gate, [score(0.5, 0.45, 0.55)], {"5 % copied": False}, suffices=1234)
    assert "About 1\u202f300 held-out subjects would suffice" in found.rulings[0].why


def test_the_sample_size_that_a_note_names_is_passed_on() -> None:
    told = score(0.5, 0.45, 0.55, note="About 900 held-out subjects would suffice.")
    found = judge_policy(one_gate(power="5 % copied"), [told], {"5 % copied": False})
    assert found.rulings[0].outcome == "underpowered"
    assert "About 900" in found.rulings[0].why


# ---------------------------------------------------------------------------- which scores
def test_the_worst_of_several_scores_decides() -> None:
    scores = (score(0.5, 0.4, 0.55), score(0.7, 0.65, 0.75, "sex=F"), score(0.5, 0.4, 0.58, "x"))
    found = judge_policy(one_gate(group="*"), scores, CAUGHT).rulings[0]
    assert (found.outcome, found.group, found.n_scores) == ("fail", "sex=F", 3)
    assert outcome(one_gate(), *scores) == "pass"  # groups are looked at where they are named


def test_an_attack_by_shadow_fits_speaks_against_and_never_for() -> None:
    gate = one_gate()
    calm = score(0.5, 0.45, 0.55)

    def shadow(low: float, ceiling: float | None = 0.5) -> Score:
        return replace(score(low + 0.1, low, low + 0.2, "shadow"), ceiling=ceiling)

    assert outcome(gate, calm, shadow(0.65)) == "fail"
    assert outcome(gate, calm, shadow(0.55)) == "pass"  # found, but not surely beyond .6
    assert outcome(gate, calm, shadow(0.45)) == "pass"  # wide, and no more evidence than without
    assert outcome(gate, score(0.7, 0.65, 0.75), shadow(0.3)) == "fail"


def test_small_groups_do_not_hide_the_others_but_a_missing_total_does() -> None:
    nan = math.nan
    scores = (score(nan, nan, nan, "sex=F"), score(0.5, 0.4, 0.55, "sex=M"))
    found = judge_policy(one_gate(group="sex=*"), scores, CAUGHT).rulings[0]
    assert found.outcome == "pass" and "1 of 2 groups are too small" in found.why
    both = (score(nan, nan, nan), score(0.5, 0.4, 0.55))
    assert outcome(one_gate(), *both) == "not assessable"


def test_nearest_is_never_a_gate() -> None:
    near = Score("privacy/nearest.share", 0.99, (0.98, 1.0))
    assert outcome(one_gate(metric="privacy/*"), near) == "not assessable"
    with pytest.raises(InputError, match="smoke test"):
        one_gate(metric="privacy/nearest.share")


# ---------------------------------------------------------------------------- all together
def test_exit_codes() -> None:
    good, bad, wide = score(0.5, 0.4, 0.55), score(0.8, 0.7, 0.9), score(0.5, 0.3, 0.7)
    nan = score(math.nan, math.nan, math.nan)
    codes = [judge_policy(one_gate(), [s], CAUGHT).exit_code for s in (good, bad, wide, nan)]
    assert codes == [0, 9, 10, 10]
    assert judge_policy(one_gate(required=False), [nan], CAUGHT).exit_code == 10  # nothing at all
    text = (
        "gates:\n" + GATE + "  - {name: two, metric: x/y, at_most: 1, source: s, required: false}\n"
    )
    some = [Score("privacy/membership.auc", 0.5, (0.4, 0.55))]
    assert judge_policy(read_policy(text), some, {}).exit_code == 0


def test_no_score_at_all_is_not_assessable() -> None:
    found = judge_policy(load_policy("public"), (), CAUGHT)
    assert {r.outcome for r in found.rulings} == {"not assessable"}
    assert found.exit_code == 10 and "no number" in found.answer


def test_an_answer_never_gives_leave_by_itself() -> None:
    found = judge_policy(one_gate(), [score(0.5, 0.4, 0.55)], CAUGHT)
    assert "not the decision" in found.answer


# ---------------------------------------------------------------------------- files
def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "hospital.yaml"
    path.write_text("title: Ours\nmeaning: For us.\ngates:\n" + GATE)
    found = load_policy(path)
    assert (found.name, found.title) == ("hospital", "Ours")
    assert (found.gates[0].end, found.gates[0].group, found.gates[0].required) == (
        "upper", "all", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no mapping"),
        ("- 1\n", "no mapping"),
        ("gates: []\n", "no gates"),
        ("gates: 3\n", "'gates' of the policy cannot be used"),
        ("title: x\n", "has no 'gates'"),
        ("weights: {a: 1}\ngates:\n" + GATE, "unknown entries: weights"),
        ("gates:\n" + GATE + "    treshold: 1\n", "gate 'one' of the policy has unknown entries"),
        ("gates:\n" + GATE + "    at_least: 1\n", "both at_most and at_least"),
        ("gates:\n" + GATE.replace("at_most: 0.6", "group: all"), "no threshold"),
        ("gates:\n" + GATE.replace("0.6", "'0.6'"), "'at_most' of gate 'one'"),
        ("gates:\n" + GATE.replace("0.6", "true"), "'at_most' of gate 'one'"),
        ("gates:\n" + GATE.replace("0.6", ".nan"), "threshold of gate 'one'"),
        ("gates:\n" + GATE + "    end: middle\n", "the end of gate 'one'"),
        ("gates:\n" + GATE + "    required: 1\n", "'required' of gate 'one'"),
        ("gates:\n" + GATE.replace("    source: ours\n", ""), "has no 'source'"),
        ("gates:\n" + GATE.replace("ours", "''"), "'source' of gate 'one'"),
        ("gates:\n" + GATE + GATE, "two gates have the name"),
        ("gates:\n" + GATE + "    at_most: 0.9\n", "twice"),
        ("gates:\n" + GATE + "gates:\n" + GATE, "twice"),
        ("a: &x 1\ngates: *x\n", "reference"),
        ("gates: [[[[[[[[[[1]]]]]]]]]]\n", "nests too deeply"),
        ("gates: [1, 2\n", "no YAML in line"),
        ("gates: !!python/object/apply:os.system ['true']\n", "no YAML in line"),
        ("? {a: 1}\n: 2\n", "cannot be read|no YAML|no mapping|unknown"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_policy(text)


def test_no_such_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no policy 'publick'"):
        load_policy("publick")
    big = tmp_path / "big.yaml"
    big.write_text("# " + "x" * 300_000)
    with pytest.raises(InputError, match="256 KB"):
        load_policy(big)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(tmp_path / "bytes.yaml")


# ---------------------------------------------------------------------------- of histories
OF_HISTORIES = {
    "privacy/history_membership.auc": (0.5, 0.47, 0.53),
    "privacy/history_membership.tpr_at_1": (0.01, 0.005, 0.02),
    "privacy/copied_runs.share": (0.0, -0.01, 0.02),
}


def ruled(name: str, controls: dict[str, bool] = CAUGHT, **other: tuple) -> dict[str, str]:
    found = OF_HISTORIES | {f"privacy/{k.replace('__', '.')}": v for k, v in other.items()}
    scores = [Score(metric, v, (low, high)) for metric, (v, low, high) in found.items()]
    verdict = judge_policy(load_policy(name), scores, controls, histories=True)
    return {r.gate.name: r.outcome for r in verdict.rulings if r.gate.of == "histories"}


def test_gates_of_histories_are_no_gates_of_tables() -> None:
    for policy in shipped_policies():
        of_tables = judge_policy(policy, (), CAUGHT).rulings
        of_both = judge_policy(policy, (), CAUGHT, histories=True).rulings
        assert len(of_both) == len(of_tables) + 4
        assert {r.gate.metric for r in of_both} - {r.gate.metric for r in of_tables} == {
            *OF_HISTORIES
        }


def test_histories_are_ruled_by_the_ends_that_count() -> None:
    assert set(ruled("public").values()) == {"pass"}
    # the interval reaches .58: above public's .55, within controlled's .60
    wide = {"history_membership__auc": (0.52, 0.46, 0.58)}
    auc = "Membership of whole histories (AUC)"
    assert [ruled(n, **wide)[auc] for n in ("public", "controlled")] == ["underpowered", "pass"]
    told = ruled("controlled", history_membership__auc=(0.72, 0.64, 0.80))
    assert told[auc] == "fail"
    none, few = "Copied stretches of records", "Copied stretches, how many there may be"
    assert ruled("public", copied_runs__share=(0.04, 0.01, 0.07))[none] == "fail"
    found = ruled("public", copied_runs__share=(0.0, -0.08, 0.08))
    assert (found[none], found[few]) == ("pass", "underpowered")  # nobody could have seen it
    missed = CAUGHT | {"5 % copied": False}
    assert set(ruled("internal", missed).values()) == {"underpowered"}


def test_a_gate_is_of_histories_or_of_all() -> None:
    text = "gates:\n" + GATE.rstrip() + "\n    of: images\n"
    with pytest.raises(InputError, match="of no data that there are"):
        read_policy(text)
