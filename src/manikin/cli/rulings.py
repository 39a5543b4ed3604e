"""How a policy's rulings look at a terminal, and what they mean for the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from manikin.cli.console import printer

if TYPE_CHECKING:
    from manikin.release.policy import Policy, PolicyGate, PolicyVerdict, Ruling

__all__ = ["show_policy", "show_ruled", "show_several"]

_MARKS = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "underpowered": ("?", "yellow"),
    "not assessable": ("?", "yellow"),
}
_ENDS = {"upper": "upper end of its interval", "lower": "lower end of its interval", "value": ""}


def show_ruled(ruled: PolicyVerdict | None, *, quiet: bool) -> None:
    """Print how the policy that was asked for ruled: nothing if none was.

    Quiet: one line on standard error, and only where it was not passed.
    """
    from rich.padding import Padding
    from rich.text import Text

    if ruled is None or (quiet and ruled.outcome == "pass"):
        return
    if quiet:
        printer(stderr=True).print(Text(f"policy {ruled.name}: {ruled.answer}"), soft_wrap=True)
        return
    console = printer()
    console.print()
    console.print(Text.assemble((f"Policy {ruled.name}: ", "bold"), ruled.answer))
    for ruling in ruled.rulings:
        mark, colour = _MARKS[ruling.outcome]
        told = Text.assemble((f"{mark} ", f"bold {colour}"), (ruling.gate.name, "bold"),
                             f": {ruling.outcome}; {_measured(ruling)}")  # fmt: skip
        console.print(Padding(told, (0, 0, 0, 2)))
        if ruling.outcome != "pass" and ruling.why:
            console.print(Padding(Text(ruling.why, style="dim"), (0, 0, 0, 4)))
    if ruled.outcome != "pass":
        console.print(
            Text(
                "Everything was written all the same, so that you can see why: nothing of it is"
                f" to leave under this policy. Exit code {ruled.exit_code}."
            )
        )


def show_several(ruled: Mapping[str, PolicyVerdict]) -> None:
    """Print a line a synthesizer: how the policy ruled each of them."""
    from rich.padding import Padding
    from rich.text import Text

    if not ruled:
        return
    console = printer()
    console.print()
    for name in dict.fromkeys(one.name for one in ruled.values()):
        console.print(Text(f"Policy {name}", style="bold"))
    for name, one in ruled.items():
        mark, colour = _MARKS[one.outcome]
        told = Text.assemble((f"{mark} ", f"bold {colour}"), (f"{name}: ", "bold"), one.answer)
        console.print(Padding(told, (0, 0, 0, 2)))


def show_policy(policy: Policy) -> None:
    """Print what a policy asks and where each threshold comes from."""
    from rich.padding import Padding
    from rich.text import Text

    console = printer()
    console.print(Text.assemble((policy.name, "bold"), f": {policy.title}"))
    console.print(Text(policy.meaning))
    console.print()
    for gate in policy.gates:
        asked = "" if gate.required else " (where it can be assessed)"
        asked = f" ({gate.of} only){asked}" if gate.of else asked
        console.print(Text.assemble((gate.name, "bold"), f": {_wanted(gate)}{asked}"))
        for line in (gate.why, f"threshold: {gate.source}", _power(gate)):
            if line:
                console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))
    console.print()
    console.print(f"manikin evaluate … --policy {policy.name}; one of your own: docs/policies.md")


def _wanted(gate: PolicyGate) -> str:
    end = _ENDS[gate.end]
    group = "" if gate.group == "all" else f" of {gate.group}"
    return f"{gate.metric}{group}{', ' if end else ''}{end} {gate.bound} {gate.threshold:g}"


def _power(gate: PolicyGate) -> str:
    parts = [f"some attack catches '{gate.power}'" if gate.power else "",
             f"this measure itself catches '{gate.sees}'" if gate.sees else ""]  # fmt: skip
    told = " and ".join(part for part in parts if part)
    return f"counts only where {told}" if told else ""


def _measured(ruling: Ruling) -> str:
    """Return the number that decided, and what it was held to."""
    gate = ruling.gate
    allowed = f"{gate.bound} {gate.threshold:g} is allowed"
    if ruling.value is None:
        return allowed
    of = ruling.metric if ruling.group == "all" else f"{ruling.metric}, {ruling.group}"
    told = f"{of} is {ruling.value:.3f}"
    if _ENDS[gate.end] and ruling.compared is not None:
        told += f", the {_ENDS[gate.end]} {ruling.compared:.3f}"
    return f"{told}; {allowed}"
