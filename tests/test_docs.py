"""What the documents show is what runs: Python blocks are executed, commands are parsed."""

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

import manikin
from manikin.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def patients(n: int = 200) -> str:
    rng = np.random.default_rng(3)
    lines = ["age,sex,crp,stage,died"]
    for i in range(n):
        age = int(rng.integers(30, 90))
        crp = f"{rng.gamma(2, 5):.1f}" if i % 9 else ""
        died = int(rng.random() < age / 120)
        lines.append(f"{age},{'FM'[i % 2]},{crp},{('I', 'II', 'III')[i % 3]},{died}")
    return "\n".join(lines) + "\n"


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text("utf-8")) if name == language]


@pytest.mark.parametrize("name", ["README.md", "docs/api.md"])
def test_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANIKIN_KEY", "k" * 64)
    Path("patients.csv").write_text(patients())
    names: dict[str, object] = {}
    found = blocks(ROOT / name, "python")
    assert found
    for block in found:
        exec(block, names)


def test_the_api_page_tells_of_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [n for n in manikin.__all__ if n != "__version__" and n not in text] == []


def commands() -> list[tuple[str, str]]:
    """Every command line that a page shows, with the page's name."""
    found = []
    for page in PAGES:
        shown = [*blocks(page, ""), *re.findall(r"^    manikin .*$", page.read_text(), re.M)]
        for line in (line.strip() for block in shown for line in block.splitlines()):
            if line.startswith("manikin "):
                # what follows is a comment, a pipe, or the reader's question
                told = re.split(r" #| \| | > | && |  +", line)[0]
                found.append((page.name, told))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_documented_command_parses(page: str, line: str) -> None:
    del page
    program = typer.main.get_command(app)
    _, *words = shlex.split(line)
    with program.make_context("manikin", list(words)) as context:
        name, command, rest = program.resolve_command(context, words)  # type: ignore[attr-defined]
        assert command is not None
        command.make_context(name, rest)


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    program = typer.main.get_command(app)
    for name, command in program.commands.items():  # type: ignore[attr-defined]
        assert f"## {name}\n" in text
        for option in command.params:
            long = [word for word in option.opts if word.startswith("--")]
            assert not long or f"`{long[0]}" in text or f"{long[0]} " in text, long


def test_every_setting_in_an_example_exists() -> None:
    """`--set` in help and manuals names a field of the synthesizer in the same line."""
    from manikin import catalogue

    program = typer.main.get_command(app)
    shown = [line for _, line in commands()]
    for command in program.commands.values():  # type: ignore[attr-defined]
        shown += [line.strip() for line in (command.help or "").splitlines()]
    checked = 0
    for line in shown:
        words = shlex.split(line) if "--set" in line else []
        named = [b for a, b in itertools.pairwise(words) if a == "--synthesizer"]
        for _, pair in (two for two in itertools.pairwise(words) if two[0] == "--set"):
            name, _, field = pair.partition("=")[0].rpartition(".")
            known = catalogue.settings(name or (named or ["table/seqtree"])[0])
            assert field in [setting.name for setting in known], line
            checked += 1
    assert checked >= 2
