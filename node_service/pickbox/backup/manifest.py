"""What a point says of itself: ``manifest.json``, and ``entries.jsonl`` with a line a path.

Both outlive the release that wrote them, so they depend on no other format: text, every digest
with its algorithm, and a number for the layout.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from pickbox.changes import DIGEST_BYTES, Entry, Kind
from pickbox.errors import BadRequest, InvalidPath, PickboxError
from pickbox.storage.digest import Hasher, digest_file
from pickbox.storage.paths import check_path, display, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT: Final = 1
"""Of the files of a point. A node reads its own and older ones."""

MANIFEST: Final = "manifest.json"
ENTRIES: Final = "entries.jsonl"
FILES: Final = "files"
BY_DIGEST: Final = "by-digest"

LONGEST_IN_TREE: Final = 3072
"""Bytes of a path that still has room for where the point is, within Linux' PATH_MAX.

The content of a longer one is in `BY_DIGEST`: a backup program opens absolute paths.
"""

DEEPEST_IN_TREE: Final = 200
"""Directories above it that a path may have to be shown: what walks a tree goes no deeper."""

_ALGORITHM: Final = "blake3:"


class PointDamaged(PickboxError):
    """A restored point is not what its manifest says."""

    type = "backup-damaged"
    status = 422


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a point is of.

    Attributes:
        index: of the log: the point has what was committed up to it, and nothing later.
        version: the highest that was given by then.
        entries: digest of `ENTRIES`.
    """

    format: int
    cluster: str
    node: str
    release: str
    made_at: str
    index: int
    version: int
    files: int
    directories: int
    symlinks: int
    bytes: int
    entries: str


def write_manifest(directory: bytes, manifest: Manifest) -> None:
    """Write `manifest` into the point at `directory`."""
    with open(os.path.join(directory, MANIFEST.encode()), "x", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=2)
        file.write("\n")


def read_manifest(directory: bytes) -> Manifest:
    """That of the point at `directory`, whose list of entries is the one it was written with.

    Raises:
        PointDamaged: there is none, it is of a newer release, or the list is another.
    """
    try:
        with open(os.path.join(directory, MANIFEST.encode()), encoding="utf-8") as file:
            document = json.load(file)
        if document["format"] > FORMAT:
            raise PointDamaged(
                f"The backup has format {document['format']}, and this release reads {FORMAT}: "
                f"restore it with release {document.get('release')} or a newer one."
            )
        found = Manifest(**{field.name: document[field.name] for field in fields(Manifest)})
        with open(os.path.join(directory, ENTRIES.encode()), "rb") as entries:
            digest = digest_text(digest_file(entries)[0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PointDamaged(f"This is no backup of Pickbox, or not all of it: {error}") from None
    if digest != found.entries:
        raise PointDamaged(f"{ENTRIES} is not the one that {MANIFEST} was written with.")
    return found


def write_entries(directory: bytes, entries: Iterable[Entry]) -> str:
    """Write a line for each of `entries`; return the digest of what was written."""
    hasher = Hasher()
    with open(os.path.join(directory, ENTRIES.encode()), "xb") as file:
        for entry in entries:
            line = json.dumps(_document(entry), separators=(",", ":")).encode() + b"\n"
            hasher.update(line)
            file.write(line)
    return digest_text(hasher.digest())


def read_entries(directory: bytes) -> Iterator[Entry]:
    """The entries of the point at `directory`, in path order.

    One may have a path that is too long: that of a conflict copy is made from another, by adding to
    it. Such a change is refused, and the rest can be restored.

    Raises:
        PointDamaged: a line is not what `write_entries` writes.
    """
    with open(os.path.join(directory, ENTRIES.encode()), "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = _entry(json.loads(line))
                _check_listed(entry.path)
            except (ValueError, LookupError, TypeError, AttributeError, PickboxError) as error:
                raise PointDamaged(f"Line {number} of {ENTRIES} cannot be: {error}") from None
            yield entry


def place_of(entry: Entry) -> bytes:
    """Where in a point the content of `entry` is."""
    if is_in_tree(entry):
        return FILES.encode() + b"/" + entry.path
    return BY_DIGEST.encode() + b"/" + entry.digest.hex().encode()


def is_in_tree(entry: Entry) -> bool:
    """Whether a point shows `entry` under its own name."""
    return len(entry.path) <= LONGEST_IN_TREE and entry.path.count(b"/") <= DEEPEST_IN_TREE


def digest_text(digest: bytes) -> str:
    """A digest with its algorithm; empty for what has no content."""
    return _ALGORITHM + digest.hex() if digest else ""


def checked_folder(path: str) -> bytes:
    """The path of what is to be restored, as bytes; ``/`` at its end is taken off.

    Raises:
        BadRequest: no entry can have it.
    """
    try:
        found = os.fsencode(path).rstrip(b"/")
    except UnicodeEncodeError:
        raise BadRequest("path has half of a surrogate pair.", field="path") from None
    if found:
        try:
            check_path(found)
        except PickboxError as error:
            raise BadRequest(error.detail, field="path") from None
    return found


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether `path` is `folder` or below it; everything is below ``b""``."""
    return not folder or path == folder or path.startswith(folder + b"/")


def _check_listed(path: bytes) -> None:
    try:
        check_path(path)
    except InvalidPath as error:
        if error.rule != "path-too-long":
            raise


def _document(entry: Entry) -> dict[str, Any]:
    document: dict[str, Any] = {
        **to_json(entry.path),
        "kind": entry.kind.name.lower(),
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime_ns": entry.mtime_ns,
        "digest": digest_text(entry.digest),
        "version": entry.version,
        "origin": entry.origin,
    }
    if entry.kind is Kind.SYMLINK:
        document["target"] = display(entry.target)
        document["target_b64"] = base64.b64encode(entry.target).decode()
    return document


def _entry(document: dict[str, Any]) -> Entry:
    encoded = document.get("path_b64")
    path = document["path"].encode() if encoded is None else base64.b64decode(encoded)
    return Entry(
        path,
        Kind[document["kind"].upper()],
        int(document["size"]),
        int(document["mode"], 8),
        int(document["mtime_ns"]),
        _digest(document["digest"]),
        base64.b64decode(document.get("target_b64", "")),
        int(document["version"]),
        str(document["origin"]),
    )


def _digest(text: str) -> bytes:
    if not text:
        return b""
    digest = bytes.fromhex(text.removeprefix(_ALGORITHM))
    if not text.startswith(_ALGORITHM) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"{text!r} is not a digest")
    return digest
