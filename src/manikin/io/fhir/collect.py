"""Resources of files, in an order in which most references lead back, to a history."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError
from manikin.io.fhir.build import Dangling, build
from manikin.io.fhir.codebook import Known
from manikin.io.fhir.codes import KINDS, URN, key_of
from manikin.io.fhir.elements import Malformed
from manikin.io.fhir.extract import Extract
from manikin.io.fhir.files import head, is_lines, lines_of, loads, whole
from manikin.io.histories import History
from manikin.synthesizer import Watch, report, silent

__all__ = ["Collect", "in_order", "manifest_of"]

READ = ("Patient", "Medication", "Device", "Encounter", *sorted(set(KINDS) - {"Encounter"}))
_RANK = {kind: rank for rank, kind in enumerate(READ)}
_FIRST_KIND = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,40})"')
_MOST_NAMED = 8
TOLD_EVERY = 50_000  # lines
LEAST = 5  # subjects that have a code, for a layout to name it


def kind_in(path: Path) -> str:
    """Return the kind of the first resource, "" where it cannot be told."""
    found = _FIRST_KIND.search(head(path))
    return found[1].decode() if found else ""


def in_order(files: list[Path]) -> list[Path]:
    """Return files so that what others refer to comes first."""
    return sorted(files, key=lambda path: (_RANK.get(kind_in(path), len(READ)), path.name))


def manifest_of(source: Path) -> dict[str, Any] | None:
    """Return our part of the manifest beside the files; None for none, or another's."""
    path = source / "manifest.json"
    if not path.is_file():
        return None
    try:
        found = loads(whole(path, "the manifest"))
    except ValueError as error:
        raise InputError(
            "the manifest is no JSON", "what a bulk export writes", "remove or mend it"
        ) from error
    return _ours(found)


def _ours(manifest: object) -> dict[str, Any] | None:
    part = manifest.get("extension") if isinstance(manifest, dict) else None
    if not isinstance(part, dict) or "manikin" not in part:
        return None
    if part["manikin"] != 1 or not all(
        isinstance(part.get(key), dict) for key in ("schema", "kinds", "categories", "counts")
    ):
        raise InputError(
            "a manifest of an unknown form", "one that this version wrote", "remove it, or upgrade"
        )
    return part


class Collect:
    """What has been read so far."""

    def __init__(
        self,
        schema: EventSchema | None,
        manifest: Mapping[str, Any] | None,
        watch: Watch = silent,
    ) -> None:
        self.schema, self.manifest, self.watch = schema, manifest, watch
        self.read = Extract(None)
        self.forms: set[str] = set()
        self.compressed = False
        self.skipped: set[str] = set()  # kinds of files that were not looked into
        self._begin()

    def _begin(self) -> None:
        """Choose how codes are named: as the manifest, the schema, or the source has them."""
        self.known: Known | None = None
        schema = self.schema
        if self.manifest is not None:
            written = EventSchema.from_json(self.manifest["schema"])
            self.read.trusted = self.schema is None or self.schema == written
            schema = self.schema or written
        if schema is not None:
            self.schema = schema
            self.known = Known(schema)
            self.read.place_of = self.known.place

    def take(self, path: Path, number: int, total: int) -> None:
        """Read one file."""
        kind = kind_in(path)
        named = kind in re.split(r"[._-]", path.name)
        # a Bundle's name may be a patient's, so only names that are a kind's are told
        what = f"'{path.name}'" if named else f"file {number:,} of {total:,}"
        self.compressed |= path.name.lower().endswith(".gz")
        if named and kind not in (*READ, "Bundle"):
            self.skipped.add(kind)
        elif is_lines(path):
            self.forms.add("ndjson")
            self._lines(path, what, kind if named else "")
        else:
            self._bundle(path, what, total)

    def _lines(self, path: Path, what: str, kind: str) -> None:
        sound = self.read.good
        for number, line, ended in lines_of(path, what):
            if number % TOLD_EVERY == 0:
                report(self.watch, number, None, f"reading {kind or 'FHIR'}, lines")
            place = f"{what}, line {number:,}"
            try:
                resource = loads(line)
            except ValueError as error:
                cut = "is cut off" if not ended else "is no JSON"
                raise self._wrong(f"{place}, {cut}", sound) from error
            if kind and isinstance(resource, dict) and resource.get("resourceType") != kind:
                raise self._wrong(f"{place}, is no {kind}", sound)
            try:
                self.read.take(resource)
            except Malformed as error:
                raise self._wrong(f"{place}: {error}", sound) from error

    def _wrong(self, given: str, sound: int) -> InputError:
        return InputError(
            f"{given} ({self.read.good - sound:,} resources of that file were sound,"
            f" {self.read.good:,} of all)",
            "a resource of FHIR R4 a line, of the kind that the file's name says",
            "export the file again; nothing was kept",
        )

    def _bundle(self, path: Path, what: str, total: int) -> None:
        try:
            bundle = loads(whole(path, what))
        except ValueError as error:
            raise InputError(
                f"{what} is no JSON, or cut off", "one Bundle or resource", "export it again"
            ) from error
        entries = list(_entries(bundle, what))
        if isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle":
            self.forms.add("bundle" if total == 1 else "bundles")
            links = bundle.get("link") or ()
            if any(isinstance(one, dict) and one.get("relation") == "next" for one in links):
                self.read.notes["Bundles that have further pages, which are not there"] += 1
        for resource, _ in entries:
            if resource.get("resourceType") == "Basic" and self.manifest is None:
                self._manifest_in(resource)
        entries.sort(key=lambda entry: _RANK.get(str(entry[0].get("resourceType")), len(READ)))
        for number, (resource, url) in enumerate(entries):
            try:
                self.read.take(resource, url)
            except Malformed as error:
                sound = self.read.good - number
                raise self._wrong(f"{what}, a resource: {error}", sound) from error

    def _manifest_in(self, basic: Mapping[str, Any]) -> None:
        for part in basic.get("extension") or ():
            if isinstance(part, dict) and part.get("url") == f"{URN}manifest":
                try:
                    self.manifest = _ours(loads(str(part.get("valueString")).encode()))
                except ValueError as error:
                    raise InputError("the manifest is no JSON", "ours", "remove it") from error
                self._begin()

    def history(self, source: Path, dangling: Dangling) -> History:
        """Put together what was read. Raises InputError for references that lead nowhere."""
        self._check_counts()
        read = self.read
        built = build(read, schema=self.schema, known=self.known, dangling=dangling)
        form = min(self.forms, default="ndjson")
        layout = built.layout | {"form": form} | ({"suffix": ".json"} if form == "bundle" else {})
        layout |= {"compressed": True} if self.compressed else {}
        ids = built.ids
        if self.manifest is not None and read.trusted:
            layout |= {key: dict(self.manifest[key]) for key in ("kinds", "categories")}
            layout["offset"] = self.manifest.get("offset", "Z")
            if not self.manifest.get("named"):
                ids = ()
            elif len(ids):
                ids = _by_number(ids, built.events.subjects.tolist())
        common = _common(built.events)
        for said in ("kinds", "categories"):
            layout[said] = {key: name for key, name in layout[said].items() if key in common}
        left = {kind for kind in read.kinds if kind not in (*READ, "Basic", "Bundle")}
        notes = list(built.notes)
        left |= self.skipped
        if left:
            shown = ", ".join(sorted(left)[:_MOST_NAMED])
            more = ", …" if len(left) > _MOST_NAMED else ""
            notes.append(
                f"{len(left)} kinds of resource that hold no event, not read: {shown}{more}"
            )
        patients = read.kinds["Patient"]
        synthetic = patients > 0 and read.tagged == len(read.people)
        return History(built.events, "fhir", synthetic, ids, tuple(notes), layout)

    def _check_counts(self) -> None:
        """Raise InputError when files have fewer resources than their manifest says, or more."""
        if self.manifest is None:
            return
        off = [(kind, count, self.read.kinds[kind])
               for kind, count in self.manifest["counts"].items()
               if count != self.read.kinds[kind]]  # fmt: skip
        if off:
            kind, said, found = off[0]
            raise InputError(
                f"{found:,} resources of {kind}, where the manifest says {said}"
                + (f" (and {len(off) - 1} more kinds)" if len(off) > 1 else ""),
                "all that was written",
                "copy the folder again, or remove the manifest to read what there is",
            )


def _common(events: Events) -> set[str]:
    """Return the keys of codes that several subjects have: a layout is kept in model files."""
    pairs = np.unique(np.stack([events.code, events.whose]).astype(np.int64), axis=1)
    counts = np.bincount(pairs[0], minlength=len(events.schema))
    return {key_of(code) for code, count in zip(events.schema.codes, counts, strict=True)
            if count >= LEAST}  # fmt: skip


def _by_number(ids: tuple[str, ...], numbers: list[int]) -> tuple[str, ...]:
    named = dict(zip(numbers, ids, strict=True))
    if min(named) < 0 or max(named) > 10 * len(ids) + 1000:
        return ()
    return tuple(named.get(number, "") for number in range(max(named) + 1))


def _entries(bundle: object, what: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the resources of a Bundle with their full URLs, or a resource by itself."""
    if not isinstance(bundle, dict) or not isinstance(bundle.get("entry", []), list):
        raise InputError(f"{what} is no Bundle and no resource", "one of them", "check the file")
    if bundle.get("resourceType") != "Bundle":
        yield bundle, ""
        return
    for entry in bundle.get("entry", []):
        if not isinstance(entry, dict):
            raise InputError(f"{what} has entries that are none", "objects", "check the file")
        search = entry.get("search")
        outcome = isinstance(search, dict) and search.get("mode") == "outcome"
        if isinstance(entry.get("resource"), dict) and not outcome:
            yield entry["resource"], str(entry.get("fullUrl") or "")
