"""The registry is the tree: what synthesizers and metrics there are, read without importing them.

`synthesizers/<modality>/<method>.py` holds one recipe class, the only name in its `__all__`.
`metrics/<family>/<name>.py` holds one metric function of the file's name and its `CARD`. Packages
elsewhere add synthesizers through the entry-point group `manikin.synthesizers`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manikin.errors import InputError, MissingExtra, NotSupported
from manikin.metrics.score import Card, Metric
from manikin.synthesizer import Synthesizer

__all__ = [
    "Entry",
    "Setting",
    "build",
    "cards",
    "entry",
    "in_profile",
    "installed",
    "metric_names",
    "metrics",
    "names",
    "needs_budget",
    "settings",
    "takes_budget",
]

GROUP = "manikin.synthesizers"
PROFILES = ("quick", "full")
_HERE = Path(__file__).parent
_EXTRAS = {"torch": "deep"}  # what a synthesizer may be built on → the extra that brings it
_SHARED = {"__init__", "encoding"}  # files of a modality's folder that hold no recipe


@dataclass(frozen=True)
class Entry:
    """A synthesizer as the tree shows it: its name, its class and the card in its docstring."""

    name: str
    class_name: str
    docstring: str

    @property
    def summary(self) -> str:
        """First line of the card."""
        return self.docstring.partition("\n")[0]


@dataclass(frozen=True)
class Setting:
    """One field of a recipe."""

    name: str
    type: str
    default: object
    meaning: str


def names() -> tuple[str, ...]:
    """Return the names of all synthesizers, `<modality>/<method>`."""
    here = [
        f"{path.parent.name}/{path.stem}"
        for path in (_HERE / "synthesizers").glob("*/*.py")
        if path.stem not in _SHARED and not path.stem.startswith("_") and _exported(path)
    ]
    outside = [point.name for point in importlib.metadata.entry_points(group=GROUP)]
    return tuple(sorted({*here, *outside}))


def needs_budget(name: str) -> bool:
    """Whether a synthesizer fits under a privacy budget only: its class says `needs_budget`."""
    return _says(name, "needs_budget")


def takes_budget(name: str) -> bool:
    """Whether a synthesizer can be fitted under a privacy budget: it needs or takes one."""
    return _says(name, "needs_budget") or _says(name, "takes_budget")


def _says(name: str, word: str) -> bool:
    path = _HERE / "synthesizers" / f"{name}.py"
    if not path.is_file():
        return bool(getattr(_recipe_class(name), word, False))
    return bool(re.search(rf"^    {word}\b.*= True$", path.read_text("utf-8"), re.MULTILINE))


def installed(modality: str = "") -> tuple[str, ...]:
    """Return the names of a modality's synthesizers, or all, that can be fitted here and now.

    Their dependencies are there, and they need no privacy budget.
    """
    found = []
    for name in names():
        if not name.startswith(modality) or needs_budget(name):
            continue
        with contextlib.suppress(MissingExtra):
            _recipe_class(name)
            found.append(name)
    return tuple(found)


def entry(name: str) -> Entry:
    """Return the card of one synthesizer. Raises NotSupported for an unknown name."""
    path = _HERE / "synthesizers" / f"{name}.py"
    if name in names() and path.is_file():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return Entry(name, _exported(path), docstring)
    recipe = _recipe_class(name)
    return Entry(name, recipe.__name__, (recipe.__doc__ or "").strip())


def settings(name: str) -> tuple[Setting, ...]:
    """Return every field of a recipe with its default and the meaning written beside it."""
    recipe = _recipe_class(name)
    source = Path(importlib.import_module(recipe.__module__).__file__ or "")
    text = source.read_text(encoding="utf-8")
    found = []
    for item in dataclasses.fields(recipe):
        beside = re.search(rf"^    {item.name}\s*:[^#\n]*#\s*(.+)$", text, re.MULTILINE)
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found.append(Setting(item.name, str(item.type), default, beside[1] if beside else ""))
    return tuple(found)


def build(name: str, given: Mapping[str, object] | None = None) -> Synthesizer[Any]:
    """Return the recipe `name` with the `given` settings; texts are read by each field's type.

    Raises NotSupported for an unknown name, InputError for an unknown setting or a wrong value,
    MissingExtra when the recipe is built on a library that is not installed.
    """
    recipe = _recipe_class(name)
    hints = typing.get_type_hints(recipe)
    known = [item.name for item in dataclasses.fields(recipe)]
    values = {}
    for key, value in (given or {}).items():
        if key not in known:
            raise InputError(
                f"'{name}' has no setting '{key}'",
                f"its settings are: {', '.join(known) or 'none'}",
                f"see: manikin list {name}",
            )
        if key not in _composed(recipe):
            values[key] = _typed(value, hints[key], f"setting '{key}' of '{name}'")
    for key, named_by in _composed(recipe).items():  # recipes built of others take part in naming
        other = str(values.get(named_by, getattr(recipe, named_by)))
        values[key] = build(other, _pairs((given or {}).get(key), f"setting '{key}' of '{name}'"))
    built: Synthesizer[Any] = recipe(**values)
    return built


def _composed(recipe: type[Any]) -> dict[str, str]:
    """Return the fields of a recipe that hold another one, and the fields that name that one."""
    return {
        item.name: item.metadata["named_by"]
        for item in dataclasses.fields(recipe)
        if "named_by" in item.metadata
    }


def _pairs(value: object, what: str) -> Mapping[str, object]:
    """Return the settings of a recipe within a recipe: a mapping, or FIELD=VALUE,FIELD=VALUE."""
    if value is None or isinstance(value, Mapping):
        return value or {}
    pairs = [pair.partition("=") for pair in str(value).split(",") if pair.strip()]
    if not all(equals and key.strip() for key, equals, _ in pairs):
        raise InputError(
            f"{what} cannot be read", "FIELD=VALUE, separated by commas", "correct the value"
        )
    return {key.strip().replace("-", "_"): found.strip() for key, _, found in pairs}


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics, `<family>/<name>`: files that export it and hold a card."""
    found = (_HERE / "metrics").glob("*/*.py")
    return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in found if _is_metric(path)))


def metrics(chosen: tuple[str, ...] | None = None) -> dict[str, Metric[Any]]:
    """Return metric functions by name: those `chosen`, or all. Raises NotSupported if unknown."""
    known = metric_names()
    for name in chosen or ():
        if name not in known:
            raise NotSupported(
                f"there is no metric '{name}'",
                f"metrics are: {', '.join(known)}",
                "check the spelling",
            )
    loaded = {}
    for name in chosen if chosen is not None else known:
        family, _, stem = name.partition("/")
        module = importlib.import_module(f"manikin.metrics.{family}.{stem}")
        loaded[name] = getattr(module, stem)
    return loaded


def cards() -> dict[str, Card]:
    """Return the card of every metric by its name."""
    found: dict[str, Card] = {}
    for name in metric_names():
        found[name] = importlib.import_module(f"manikin.metrics.{name.replace('/', '.')}").CARD
    return found


def in_profile(profile: str, modality: str = "table") -> tuple[str, ...]:
    """Return the names of a modality's metrics in a profile: "quick" the cheap ones, "full" all.

    Raises InputError for another profile.
    """
    if profile not in PROFILES:
        raise InputError(
            f"there is no profile '{profile}'",
            f"profiles are: {', '.join(PROFILES)}",
            "quick for a first look, full for what is to be released",
        )
    found = {name: card for name, card in cards().items() if card.modality == modality}
    return tuple(name for name in found if profile == "full" or found[name].profile == "quick")


def _recipe_class(name: str) -> type[Any]:
    path = _HERE / "synthesizers" / f"{name}.py"
    if name in names():
        if path.is_file():
            module = _imported(name)
            found: type[Any] = getattr(module, _exported(path))
            return found
        for point in importlib.metadata.entry_points(group=GROUP):
            if point.name == name:
                outside: type[Any] = point.load()
                return outside
    raise NotSupported(
        f"there is no synthesizer '{name}'",
        f"synthesizers are: {', '.join(names())}",
        "see: manikin list",
    )


def _imported(name: str) -> types.ModuleType:
    """Import a synthesizer's file. Raises MissingExtra when what it is built on is not there."""
    try:
        return importlib.import_module(f"manikin.synthesizers.{name.replace('/', '.')}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _EXTRAS:
            raise MissingExtra(f"'{name}'", _EXTRAS[missing]) from error
        raise


def _exported(path: Path) -> str:
    """Return the first name in a file's `__all__`, or '' when it has none."""
    return next(iter(_listed(path)), "")


def _is_metric(path: Path) -> bool:
    """Tell a metric from an analyst's function beside it, which has no card."""
    return path.stem in _listed(path) and "CARD" in _assigned(path)


def _listed(path: Path) -> tuple[str, ...]:
    """Return the names in a file's `__all__`."""
    names = _assigned(path).get("__all__")
    return tuple(str(name) for name in ast.literal_eval(names)) if names is not None else ()


@functools.cache
def _assigned(path: Path) -> Mapping[str, ast.expr]:
    """Return what a file assigns at its top level, by name, without importing it."""
    return {
        node.targets[0].id: node.value
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _typed(value: object, hint: Any, what: str) -> object:
    """Read `value` (often a text from a command line) as the type `hint`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            if type(None) in options:
                return None
        hint = next(option for option in options if option is not type(None))
        return _typed(value, hint, what)
    if origin is typing.Literal:
        chosen = next((option for option in options if str(option) == str(value)), None)
        if chosen is not None:
            return chosen
        raise InputError(
            f"{what} is none of the allowed values",
            f"one of: {', '.join(map(str, options))}",
            "choose one of them",
        )
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        return tuple(_typed(part, options[0], what) for part in parts if part != "")
    if hint is bool:
        spelled = str(value).lower()
        if spelled in ("true", "yes", "1", "on", "false", "no", "0", "off"):
            return spelled in ("true", "yes", "1", "on")
    elif hint in (int, float, str):
        try:
            return hint(str(value))
        except ValueError:
            pass
    raise InputError(f"{what} cannot be read", _SPELLED.get(hint, str(hint)), "correct the value")


_SPELLED = {int: "a whole number", float: "a number", bool: "yes or no", str: "a text"}
