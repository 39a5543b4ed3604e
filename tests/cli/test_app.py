"""The program itself: help, version, lazy imports, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import manikin as package
from manikin import errors
from manikin.cli.app import EXIT_CODES, app
from manikin.cli.console import INTERNAL

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]
COMMANDS = [
    *"audit schema advise synthesize fit sample evaluate".split(),
    *"augment compare convert forecast verify replay list cite keygen".split(),
]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['manikin', '--help']\n"
        "from manikin.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'numpy', 'polars', 'sklearn', 'scipy', 'pandas', 'torch', 'narwhals',"
        " 'lifelines', 'plotly', 'jinja2', 'yaml'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), 'CODE', code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
    )
    assert done.stdout.strip().endswith("HEAVY [] CODE 0")


def test_the_whole_list_of_commands() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert known == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command: str, manikin: Run) -> None:
    result = manikin(command, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout and f"manikin {command}" in result.stdout
    assert result.stderr == ""


def test_version(manikin: Run) -> None:
    assert manikin("--version").stdout == f"manikin {package.__version__}\n"


def test_no_arguments_shows_help(manikin: Run) -> None:
    result = manikin()
    assert result.exit_code == 2 and "synthesize" in result.stdout + result.stderr


def test_every_exit_status_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    statuses = {getattr(errors, name).exit_status for name in errors.__all__} | {0, 2, INTERNAL}
    for status in statuses:
        assert f" {status} " in f" {EXIT_CODES} ".replace("\n", " \n "), status
        assert f"| {status} |" in page, status


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f"## {name}" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or f"`{option}" in page, (name, option)


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("synthesize",),
        ("synthesize", "patients.csv", "--nonsense"),
        ("synthesize", "patients.csv", "--n", "many"),
        ("synthesize", "patients.csv", "--n", "0"),
        ("synthesize", "patients.csv", "--holdout", "1.5"),
        ("synthesize", "patients.csv", "--set", "novalue"),
        ("synthesize", "patients.csv", "--set", "=1"),
        ("synthesize", "patients.csv", "--set", "a=1", "--set", "a=2"),
        ("synthesize", "patients.csv", "--target", "age", "--time", "age"),
        ("audit", "patients.csv", "--subject", "city", "--sensitive", "city"),
        ("sample", "x.manikin", "--out", "a.csv", "--format", "parquet"),
        ("sample", "x.manikin", "--out", "a.csv", "--format", "nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_two_and_touches_nothing(
    words: tuple[str, ...], manikin: Run, data: object, tmp_path: object
) -> None:
    before = sorted(tmp_path.iterdir())  # type: ignore[attr-defined]
    result = manikin(*words)
    assert result.exit_code == 2
    assert result.stdout == "" and result.stderr
    assert sorted(tmp_path.iterdir()) == before  # type: ignore[attr-defined]


def test_the_command_line_and_the_pipeline_have_one_default() -> None:
    import inspect

    from manikin import pipeline
    from manikin.cli import make

    for name in ("synthesize", "fit"):  # of the pipeline: asking.DEFAULT, or one under a budget
        given = [inspect.signature(getattr(module, name)) for module in (make, pipeline)]
        assert [one.parameters["synthesizer"].default for one in given] == [None, None]
