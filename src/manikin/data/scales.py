"""Labels whose order is evident: intervals, graded words, and the words for no and yes."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["ordered_labels", "truth"]

_PAIRS = (
    ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("absent", "present"),
    ("negative", "positive"), ("neg", "pos"), ("-", "+"), ("off", "on"), ("-ve", "+ve"),
    ("notpresent", "present"), ("not present", "present"), ("0", "1"), ("nein", "ja"),
    ("non", "oui"),
)  # fmt: skip
_WORDS = (
    ("very low", "low", "mid", "medium", "moderate", "intermediate", "high", "very high"),
    ("none", "minimal", "mild", "moderate", "marked", "severe", "very severe", "critical"),
    ("poor", "fair", "good", "very good", "excellent"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("small", "medium", "large"),
    ("i", "ii", "iii", "iv", "v"),
    ("-", "+", "++", "+++", "++++"),
)
_NUMBER = r"[$€£]?\s*(\d+(?:\.\d+)?)\s*k?"
_CLOSED = re.compile(rf"[\[(]?\s*{_NUMBER}\s*(?:-|–|to|,|;|/)\s*{_NUMBER}\s*[\])]?\D{{0,8}}$", re.I)
_BELOW = re.compile(rf"(?:<=?|≤|under|below|less than|up to)\s*{_NUMBER}\D{{0,8}}$", re.I)
_ABOVE = re.compile(rf"(?:>=?|≥|over|above|more than)\s*{_NUMBER}\D{{0,8}}$", re.I)
_PLUS = re.compile(rf"{_NUMBER}\s*(?:\+|or more|and over|and above)$", re.I)
_SINGLE = re.compile(r"(\d+(?:\.\d+)?)$")


def truth(levels: Sequence[str]) -> tuple[str, str] | None:
    """Return (the spelling of false, that of true) if two levels are words for no and yes."""
    if len(levels) != 2:
        return None
    spelled = {level.strip().casefold(): level for level in levels}
    for no, yes in _PAIRS:
        if set(spelled) == {no, yes}:
            return spelled[no], spelled[yes]
    return None


def ordered_labels(levels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the levels lowest first if their order is evident, else None; at least three."""
    if len(levels) < 3:
        return None
    return _intervals(levels) or _graded(levels)


def _intervals(levels: Sequence[str]) -> tuple[str, ...] | None:
    places = {level: _place(level.strip()) for level in levels}
    found = [place for place in places.values() if place is not None]
    if len(found) < len(levels) or len(set(found)) < len(levels):
        return None
    if all(_SINGLE.match(level.strip()) for level in levels):
        return None  # plain numbers are judged as numbers
    return tuple(sorted(levels, key=lambda level: places[level] or (0.0, 0.0)))


def _place(label: str) -> tuple[float, float] | None:
    """Return where an interval label stands: its lower bound, then its upper one."""
    if found := _CLOSED.match(label):
        return float(found[1]), float(found[2])
    if found := _BELOW.match(label):
        return float("-inf"), float(found[1])
    if found := (_ABOVE.match(label) or _PLUS.match(label)):
        return float(found[1]), float("inf")
    if found := _SINGLE.match(label):
        return float(found[1]), float(found[1])
    return None


def _graded(levels: Sequence[str]) -> tuple[str, ...] | None:
    """Order "low risk, mid risk, high risk" or "Stage I, Stage II" by the words that differ."""
    plain = [level.strip().casefold() for level in levels]
    before, after = _common(plain), _common([word[::-1] for word in plain])
    cores = [word[before : len(word) - after].strip() for word in plain]
    for tried in (plain, cores, [word[before:].strip() for word in plain]):
        for words in _WORDS:
            if set(tried) <= set(words) and len(set(tried)) == len(tried):
                return tuple(sorted(levels, key=lambda x: words.index(tried[levels.index(x)])))
    return None


def _common(words: Sequence[str]) -> int:
    """Return how many leading characters all words share, back to the last space."""
    size = 0
    while all(len(word) > size and word[size] == words[0][size] for word in words):
        size += 1
    return words[0].rfind(" ", 0, size) + 1
