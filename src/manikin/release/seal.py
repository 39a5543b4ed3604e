"""The seal of a release: a manifest anyone can check, and a signature if the maker wishes.

`MANIFEST.sha256` is what `sha256sum -c` reads. The signature is Ed25519 (RFC 8032), raw, with the
public key beside it in PEM, so that OpenSSL can check it without this package:
`openssl pkeyutl -verify -pubin -inkey MANIFEST.sha256.pub -rawin -in MANIFEST.sha256
-sigfile MANIFEST.sha256.sig`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast

from manikin.errors import InputError, IntegrityError, MissingExtra, OutputError
from manikin.release.record import CLOSING, RECORD, file_digest, read_record, verify_chain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = [
    "MANIFEST",
    "RECORD",
    "Verification",
    "check_key",
    "fingerprint",
    "keygen",
    "seal",
    "verify",
]

MANIFEST = "MANIFEST.sha256"
SIGNATURE = "MANIFEST.sha256.sig"
PUBLIC_KEY = "MANIFEST.sha256.pub"
_SEALS = (MANIFEST, SIGNATURE, PUBLIC_KEY)

SignatureState = Literal["none", "valid", "invalid", "wrong key", "not checked"]


@dataclass(frozen=True)
class Verification:
    """What was found wrong with a release; nothing, when `ok`."""

    n_files: int
    altered: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    swapped: tuple[tuple[str, str], ...] = ()  # pairs of altered files that hold each other's bytes
    manifest: tuple[str, ...] = ()  # what is wrong with the manifest itself
    record: tuple[str, ...] = ()  # what is wrong with the record, line by line
    signature: SignatureState = "none"
    signer: str | None = None  # fingerprint of the public key that the signature fits
    signature_note: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything is as it was sealed."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """Every finding in a sentence of its own."""
        pairs = {name for pair in self.swapped for name in pair}
        found = [f"swapped: {_told(one)} and {_told(other)}" for one, other in self.swapped]
        found += [f"altered: {_told(name)}" for name in self.altered if name not in pairs]
        found += [f"missing: {_told(name)}" for name in self.missing]
        found += [f"added: {_told(name)}" for name in self.added]
        found += [f"{MANIFEST}: {what}" for what in self.manifest]
        found += [f"{RECORD}: {what}" for what in self.record]
        if self.signature in ("invalid", "wrong key", "not checked"):
            found.append(f"signature {self.signature}: {self.signature_note}")
        return tuple(found)


# ---------------------------------------------------------------------------- sealing
def seal(directory: Path, *, signing_key: Path | None = None) -> str | None:
    """Write the manifest of every file in `directory`, and a signature if there is a key.

    Returns the fingerprint of the signing key. Raises OutputError for a link or a file name that
    a manifest cannot hold, MissingExtra when signing is asked for but not installed.
    """
    key = _private_key(signing_key) if signing_key is not None else None
    for name in _SEALS:
        (directory / name).unlink(missing_ok=True)
    files, odd = _listing(directory)
    if odd:
        raise OutputError(
            f"'{odd[0]}' is a link, a special file or has a name with control characters",
            "a release holds plain files only",
            "remove it",
        )
    lines = [f"{file_digest(directory / name)}  {name}\n" for name in files]
    manifest = "".join(lines).encode()
    _write(directory / MANIFEST, manifest)
    if key is None:
        return None
    public = key.public_key()
    _write(directory / SIGNATURE, key.sign(manifest))
    _write(directory / PUBLIC_KEY, _pem(public))
    return fingerprint(public)


def check_key(path: Path) -> None:
    """Raise what `seal` would raise for a signing key that cannot be used."""
    _private_key(path)


def keygen(path: Path) -> str:
    """Make an Ed25519 key pair, `path` (0600) and `path`.pub, and return its fingerprint.

    Raises OutputError when either file exists.
    """
    ed25519, serialization = _cryptography()
    public_path = path.with_name(path.name + ".pub")
    for place in (path, public_path):
        if place.exists():
            raise OutputError(f"'{place.name}' exists", "a new file", "choose another name")
    key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, private)
    _write(public_path, _pem(key.public_key()))
    return fingerprint(key.public_key())


# ---------------------------------------------------------------------------- verifying
def verify(directory: str | Path, *, public_key: str | Path | None = None) -> Verification:
    """Compare a release with its seal and say exactly what differs.

    `public_key` is the file of the key that must have signed; without it a signature only shows
    that whoever holds the key named in `signer` sealed it. Raises IntegrityError only when the
    directory cannot be read at all, InputError when there is no such key file.
    """
    root = Path(directory)
    if public_key is not None and not Path(public_key).is_file():
        raise InputError(
            f"there is no file '{Path(public_key).name}'",
            "the public key that `manikin keygen` wrote, FILE.pub",
            "check the path",
        )
    try:
        files, odd = _listing(root)
    except OSError as error:
        raise IntegrityError(
            f"'{root.name}' cannot be read: {os.strerror(error.errno or 0).lower()}",
            "the directory of a release",
            "check the path",
        ) from error
    listed, faults = _read_manifest(root)
    found = {name: _digest(root / name) for name in files}
    chain, recorded = _read_outputs(root, files)
    # where a file is as recorded, it is the manifest that was edited
    edited = _edited(found, listed, recorded)
    altered = [
        name for name in files if listed.get(name) not in (None, found[name]) and name not in edited
    ]
    missing = set(listed) - set(files) - set(odd) - set(edited)
    added = [name for name in files if name not in listed and name not in edited] + odd
    state, signer, note = _check_signature(root, public_key)
    return Verification(
        n_files=len(listed),
        altered=tuple(altered),
        missing=tuple(sorted(missing)),
        added=tuple(sorted(added)),
        swapped=_swapped(altered, found, listed),
        manifest=(*faults, *edited.values()),
        record=chain or _unlike(found, listed, recorded, edited),
        signature=state,
        signer=signer,
        signature_note=note,
    )


def fingerprint(public: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key in DER, as `openssl pkey -pubin -outform DER` gives."""
    _, serialization = _cryptography()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "SHA256:" + hashlib.sha256(der).hexdigest()


def _listing(root: Path) -> tuple[list[str], list[str]]:
    """Return the plain files below `root` but for the seal, and what is none; sorted."""
    files, odd = [], []
    waiting = [root]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif not stat.S_ISREG(mode) or not _safe(name):
                odd.append(name)
            elif name not in _SEALS:
                files.append(name)
    return sorted(files), sorted(odd)


def _told(name: str) -> str:
    """Return a stranger's file name as it may be shown: a terminal obeys control characters."""
    return name if name.isprintable() else ascii(name)


def _safe(name: str) -> bool:
    parts = PurePosixPath(name).parts
    relative = bool(parts) and ".." not in parts and not name.startswith("/")
    # sha256sum escapes these, and a reader of names could be fooled by them
    return relative and name.isprintable() and "\\" not in name


def _read_manifest(root: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return name → digest, and what is wrong with the manifest."""
    path = root / MANIFEST
    if path.is_symlink() or not path.is_file():
        return {}, ("there is none: the directory was never sealed, or the seal was removed",)
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}, ("cannot be read as text",)
    listed: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or not _safe(name):
            faults.append(f"line {number} is not a digest and a name inside the directory")
        elif name in listed or name in _SEALS:
            faults.append(f"line {number} names '{name}' wrongly or twice")
        else:
            listed[name] = digest
    return listed, tuple(faults)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of one that cannot be read, what no digest is."""
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"


def _read_outputs(root: Path, files: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the broken lines of the record, and the files and digests it closed with."""
    if RECORD not in files:
        return ("there is none",), {}
    problems = verify_chain(root / RECORD)
    if problems:
        return problems, {}
    try:
        last = read_record(root / RECORD)[-1]
    except (InputError, OSError):
        return ("cannot be read",), {}
    outputs = last.content.get("outputs", {}) if last.event == CLOSING else {}
    if not isinstance(outputs, dict):
        return ("its closing entry names no outputs",), {}
    return (), {name: str(digest) for name, digest in outputs.items()}


def _edited(
    found: dict[str, str], listed: dict[str, str], recorded: dict[str, str]
) -> dict[str, str]:
    """Return what in the manifest was edited, by file: the record and the file agree against it."""
    said = {}
    for name, digest in found.items():
        if recorded.get(name) == digest and name not in listed:
            said[name] = f"the line of '{name}' was removed"
        elif recorded.get(name) == digest and listed[name] != digest:
            said[name] = f"the digest of '{name}' was edited"
    for name in set(listed) - set(found) - set(recorded) if recorded else ():
        said[name] = f"a line of '{name}', which the run never made, was added"
    return said


def _unlike(
    found: dict[str, str], listed: dict[str, str], recorded: dict[str, str], edited: dict[str, str]
) -> tuple[str, ...]:
    """Return where the files are not those that the record closed with."""
    problems = []
    for name, digest in recorded.items():
        if name not in found:
            problems.append(f"'{name}' was recorded but is not here")
        elif found[name] != digest:
            problems.append(f"'{name}' is not the file that was recorded")
    if recorded:
        unknown = [name for name in found if name in listed and name not in recorded]
        problems += [f"'{name}' is in the manifest but was never recorded"
                     for name in unknown if name != RECORD and name not in edited]  # fmt: skip
    return tuple(problems)


def _swapped(
    altered: list[str], found: dict[str, str], listed: dict[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of altered files of which each holds what the other should."""
    holder = {found[name]: name for name in altered}
    pairs = {(name, holder.get(listed[name], name)) for name in altered}
    return tuple(sorted(
        (one, other) for one, other in pairs if one < other and (other, one) in pairs
    ))  # fmt: skip


# ---------------------------------------------------------------------------- signatures
def _check_signature(
    root: Path, public_key: str | Path | None
) -> tuple[SignatureState, str | None, str]:
    signed = [(root / name).is_file() for name in (SIGNATURE, PUBLIC_KEY)]
    if not any(signed):
        if public_key is not None:
            return "invalid", None, "the release is not signed"
        return "none", None, ""
    if not all(signed):
        return "invalid", None, "half of the signature was removed"
    try:
        _cryptography()
    except MissingExtra as error:
        return "not checked", None, str(error)
    wanted = _load_public(Path(public_key).read_bytes()) if public_key is not None else None
    if public_key is not None and wanted is None:
        return "not checked", None, "the given public key is no Ed25519 key in PEM"
    found = _load_public(_bytes(root / PUBLIC_KEY))
    if found is None:
        return "invalid", None, f"{PUBLIC_KEY} is no Ed25519 key in PEM"
    name = fingerprint(found)
    if not _fits(found, _bytes(root / SIGNATURE), _bytes(root / MANIFEST)):
        return "invalid", None, "the manifest is not the one that was signed"
    if wanted is not None and fingerprint(wanted) != name:
        return "wrong key", name, f"signed by {name}, expected {fingerprint(wanted)}"
    return "valid", name, ""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _fits(public: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _load_public(pem: bytes) -> Ed25519PublicKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm

    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ed25519.Ed25519PublicKey) else None


def _private_key(path: Path) -> Ed25519PrivateKey:
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"'{path.name}' cannot be read as a signing key",
            "an Ed25519 private key in PEM, without a password",
            "make one with: manikin keygen",
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(
            f"'{path.name}' is a key of another kind", "Ed25519", "make one with: manikin keygen"
        )
    return cast("Ed25519PrivateKey", key)


def _pem(public: Ed25519PublicKey) -> bytes:
    _, serialization = _cryptography()
    written: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return written


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("signing", "sign") from error
    return ed25519, serialization


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
