"""What to cite, read from the cards of what was used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manikin
from manikin.cli import cards

__all__ = ["Work", "works"]

_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_ARXIV = re.compile(r"arXiv[: ]\s?(\d{4}\.\d{4,5}|[a-z\-]+(?:\.[A-Z]{2})?/\d{7})")
_DOI = re.compile(r"(?:doi[: ]\s?|doi\.org/)(10\.\d{4,9}/[^\s,;)]+)", re.IGNORECASE)
_SECTION = re.compile(r"^(Idea|Algorithm|Differs|Use when|Reads)\b")
_TITLED = re.compile(
    r"([A-Z][^\"“”;()]{2,200}?),\s*[\"“]([^\"“”]{5,300})[,.]?[\"”],?\s*"
    r"([^;]{0,160}?\b(?:1[89]|20)\d\d\b\)?(?:,? (?:arXiv|doi)[: ]?[\w./\-]+)?)"
)
_INLINE = re.compile(r"\(([A-Z][^()]{3,200}?\b(?:1[89]|20)\d\d\b[^()]{0,80})\)")


@dataclass(frozen=True)
class Work:
    """Something to cite, and what it was used for."""

    authors: str
    year: str
    where: str  # venue, volume, title: whatever the card says beside authors and year
    used_for: tuple[str, ...] = ()
    arxiv: str = ""
    doi: str = ""

    def plain(self) -> str:
        """Return the citation as a line, with what it was used for below."""
        tail = "".join(f" {mark}" for mark in (self.arxiv and f"arXiv:{self.arxiv}",
                                               self.doi and f"doi:{self.doi}") if mark)  # fmt: skip
        line = f"{self.authors} ({self.year}). {self.where}".strip(" .") + "." + tail
        return line + "".join(f"\n    {use}" for use in self.used_for)

    def bibtex(self) -> str:
        """Return a BibTeX entry."""
        people = [name.strip() for name in re.split(r",\s*|\s+(?:and|&)\s+", self.authors)]
        people = ["others" if name.startswith("et al") else name for name in people if name]
        people = [re.sub(r"\s+et al\.?$", " and others", name) for name in people]
        first = people[0].removesuffix(" and others").split() if people else ["arxiv"]
        surname = re.sub(r"\W", "", first[-1]).lower()
        group = self.authors.startswith("The ")  # a group's name stays whole in braces
        author = f"{{{self.authors}}}" if group else " and ".join(people)
        fields = {"author": author, "year": self.year, "howpublished": self.where}
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archiveprefix": "arXiv"}
        if self.doi:
            fields["doi"] = self.doi
        if self.used_for:
            fields["note"] = "; ".join(self.used_for)
        lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items() if value)
        return f"@misc{{{surname}{self.year},\n{lines}}}"


def works(names: Sequence[str]) -> list[Work]:
    """Return Manikin itself and the works behind the named things, or behind a whole release."""
    asked: list[str] = []
    for name in names:
        asked += _used_in(Path(name)) if Path(name).is_dir() else [name]
    found: dict[tuple[str, str, str], Work] = {}
    for name in dict.fromkeys(asked):
        shown = cards.card(name)
        for work in cited(shown.text, f"{shown.kind} {name}"):
            key = (work.authors, work.year, work.where)
            earlier = found.get(key)
            uses = (*(earlier.used_for if earlier else ()), *work.used_for)
            found[key] = Work(*key, uses, work.arxiv, work.doi)
    return [_software(), *found.values()]


def cited(text: str, used_for: str) -> list[Work]:
    """Find the works that a card names: its second paragraph, and whatever stands in brackets."""
    head = []
    for line in text.splitlines()[1:]:
        if _SECTION.match(line.strip()):
            break
        head.append(line.strip())
    paragraphs = [" ".join(part.split()) for part in "\n".join(head).split("\n\n")]
    found = []
    for paragraph in paragraphs:
        rest = re.sub(r"^References?\s+", "", paragraph)
        inline = _INLINE.findall(rest)
        rest = _INLINE.sub("", rest) if inline else rest
        for part in [*inline, rest]:
            matches = list(_TITLED.finditer(part))
            found += [_titled(m[1], m[2], m[3], used_for) for m in matches]
            if part is not rest and not matches:
                found.append(_work(part, used_for))
        rest = _TITLED.sub("", rest)
        bare = re.sub(r"\([^()]*\)", lambda m: "" if _YEAR.search(m[0]) else m[0], rest)
        if not found and re.match(r"[A-Z][\w’'\-]+(?:,| and | et al|\.| [A-Z])", bare):
            # "Authors. Venue year. arXiv:…": only where the paragraph is a citation by its shape
            for part in re.split(r"\s*;\s*(?=[A-Z])", bare):
                if _YEAR.search(part) and re.search(r"\. ", part):
                    found.append(_work(part, used_for))
    told = {work.arxiv for work in found}
    alone = [name for name in _ARXIV.findall(" ".join(paragraphs)) if name not in told]
    return found + [_preprint(name, used_for) for name in dict.fromkeys(alone)]


def _preprint(name: str, used_for: str) -> Work:
    """Return a work of which the card gives only the arXiv number, which begins with its year."""
    digits = name.rpartition("/")[2][:2]
    century = "19" if digits[0] == "9" else "20"
    return Work("", f"{century}{digits}", "", (used_for,), arxiv=name)


def _titled(authors: str, title: str, venue: str, used_for: str) -> Work:
    people = re.split(r"[.;:]\s+(?=[A-Z][\w’'\-]+(?:,| and ))", authors)[-1]
    shown = _work(f"X. {venue}", used_for)
    where = f"{title.strip(' ,.')}. {shown.where}".strip(" .")
    return Work(_people(people), shown.year, where, shown.used_for, shown.arxiv, shown.doi)


def _people(text: str) -> str:
    told = text.strip(" ,.")
    return f"{told}." if told.endswith("et al") else told


def _work(text: str, used_for: str) -> Work:
    arxiv, doi = _ARXIV.search(text), _DOI.search(text)
    year = _YEAR.search(text)
    kept = _DOI.sub("", _ARXIV.sub("", text))
    if re.match(r"^[^.]*?\. ", kept) and "et al." not in kept.split(". ")[0]:
        authors, _, rest = kept.partition(". ")
    else:
        authors, rest = _before_venue(kept)
    told = re.sub(r"\s+", " ", rest).strip(" .,;")
    where = re.sub(rf",?\s*\(?\b{year[1] if year else ''}\b\)?", "", told, count=1).strip(" .,;")
    return Work(
        _people(authors),
        year[1] if year else "n.d.",
        where,
        (used_for,),
        arxiv[1] if arxiv else "",
        doi[1].rstrip(".") if doi else "",
    )


def _before_venue(text: str) -> tuple[str, str]:
    """Split "Lopez-Paz and Oquab, ICLR 2017" after its last surname."""
    parts = text.split(", ")
    names = 1
    while names < len(parts) and re.fullmatch(
        r"(?:and )?[A-Z][a-z’'\-]+(?:[ \-][A-Z]?[a-z’'\-]+)*(?: et al\.)?", parts[names]
    ) and not _YEAR.search(parts[names]):  # fmt: skip
        names += 1
    return ", ".join(parts[:names]), ", ".join(parts[names:])


def _used_in(release: Path) -> list[str]:
    """Return the synthesizer and metrics that a release's record names."""
    from manikin import catalogue
    from manikin.release.record import read_record

    known = {*catalogue.names(), *catalogue.metric_names()}
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, str):
            name = value if value in known else value.partition(".")[0]
            if name in known:
                found.append(name)
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(key)
                walk(item)
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)

    for entry in read_record(release / "record.jsonl"):
        walk(entry.content)
    return list(dict.fromkeys(found))


def _software() -> Work:
    where = f"Manikin {manikin.__version__}: synthetic patients from real ones [software]"
    return Work("The Manikin developers", "2026", where)
