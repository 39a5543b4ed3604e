"""The rules of the house, held by reading the source: imports, sizes, names, unsafe calls."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "manikin"
FILES = sorted(SOURCE.rglob("*.py"))
ROOMS = {  # room → rooms it may import, beside itself, errors and data
    "errors": set(),
    "data": set(),
    "knowledge": set(),
    "privacy": set(),
    "synthesizer": {"privacy"},
    "synthesizers": {"synthesizer", "knowledge", "privacy"},
    "metrics": {"knowledge"},
    "io": {"synthesizer", "knowledge", "privacy", "catalogue", "__init__"},
    "release": {"metrics", "knowledge", "privacy", "__init__"},
    "catalogue": {"synthesizer", "metrics"},
    "sampling": {"synthesizer", "knowledge"},
    "auditor": {"knowledge"},
    "run": {"auditor", "catalogue", "io", "knowledge", "metrics", "privacy", "release",
            "sampling", "synthesizer", "__init__"},
    "pipeline": {"auditor", "catalogue", "io", "knowledge", "metrics", "privacy", "release",
                 "run", "sampling", "synthesizer", "__init__"},
    "cli": {"auditor", "catalogue", "io", "knowledge", "metrics", "pipeline", "privacy", "release",
            "synthesizer", "__init__"},
    "__init__": set(),
    "__main__": {"cli"},
}  # fmt: skip
HEAVY = {"cryptography", "fastexcel", "jinja2", "lifelines", "matplotlib", "narwhals", "pandas",
         "polars", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "torch",
         "xlsxwriter", "yaml"}  # fmt: skip
HEAVY_ROOMS = ("synthesizers", "metrics", "io", "release")
LIGHT_FILES = {"metrics/score.py", "metrics/__init__.py", "io/__init__.py", "release/__init__.py"}
CLI_HEAVY = {"cli"}  # typer and rich are the command line's own
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "misc", "core", "manager"}
UNSAFE = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module]
    return found


def module_level(tree: ast.Module) -> list[str]:
    kept = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return [name for node in kept for name in imports(node)]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_keeps_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    here = room(path)
    limit = 40 if path.name == "__init__.py" else 500
    assert len(text.splitlines()) <= limit, f"more than {limit} lines: split it by idea"
    assert path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(tree), "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print" or here == "cli", "only cli prints"
            assert called != "torch.load"
            assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords)
            assert called not in ("eval", "exec", "np.random.seed", "warnings.simplefilter")
            assert called != "open" or here in ("io", "release", "cli"), "only doors open files"
    for name in imports(tree):
        top, _, rest = name.partition(".")
        assert top not in UNSAFE
        if top == "manikin":
            target = rest.split(".")[0] or "__init__"
            allowed = ROOMS[here] | {here, "errors"} | ({"data"} if here != "errors" else set())
            assert target in allowed, f"{here} must not import {target}"
            if here == "synthesizers" and target == "synthesizers":
                shared = rest.split(".")[-1]
                assert shared.startswith("encoding") or shared.startswith("_"), "no siblings"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    heavy = {name.partition(".")[0] for name in module_level(ast.parse(path.read_text()))} & HEAVY
    if room(path) in CLI_HEAVY:
        heavy -= {"rich"}
    if room(path) not in HEAVY_ROOMS or relative(path) in LIGHT_FILES:
        assert not heavy, f"import {heavy} inside the function that needs it"


def test_root_import_pulls_in_nothing_heavy() -> None:
    code = (
        "import manikin, sys; print([m for m in ('numpy', 'polars', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_changes_nothing_but_names() -> None:
    code = (
        "import warnings, numpy, os, random\n"
        "before = (list(warnings.filters), numpy.geterr(), dict(os.environ), random.getstate())\n"
        "import manikin.pipeline\n"
        "after = (list(warnings.filters), numpy.geterr(), dict(os.environ), random.getstate())\n"
        "print(before == after)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_public_names_resolve() -> None:
    import manikin

    for name in manikin.__all__:
        assert getattr(manikin, name) is not None
