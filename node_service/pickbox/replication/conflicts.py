"""Names of conflict copies: ``name.sync-conflict-<YYYYMMDD>-<HHMMSS>-<node>.ext``.

The convention is Syncthing's, so that people and their tools know it. Time and node are those of
the change that lost, taken from the log: every node computes the same name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from blake3 import blake3

MAX_COPIES: Final = 10
"""Conflict copies kept of one file; the oldest makes room (its bytes stay in ``versions/``)."""

_MARK: Final = b".sync-conflict-"
_COPY = re.compile(rb"\.sync-conflict-\d{8}-\d{6}-[a-z0-9-]+(~\d+)?(\.[^./]*)?\Z")
_MAX_NAME: Final = 255


def is_conflict_copy(path: bytes) -> bool:
    """Whether `path` has a conflict copy's name."""
    return _COPY.search(path) is not None


def copies_prefix(path: bytes) -> bytes:
    """What the names of all conflict copies of `path` start with."""
    stem, _ = _split(path)
    return stem + _MARK


def is_copy_of(candidate: bytes, path: bytes) -> bool:
    """Whether `candidate` is the name of a conflict copy of `path`."""
    _, extension = _split(path)
    rest = candidate.removeprefix(copies_prefix(path))
    return (
        rest != candidate
        and b"/" not in rest
        and is_conflict_copy(candidate)
        and candidate.endswith(extension)
    )


def conflict_name(path: bytes, taken_at: int, node_id: str, attempt: int = 0) -> bytes:
    """The conflict copy's path for a change to `path` taken in by `node_id` at `taken_at`.

    Args:
        taken_at: milliseconds since the epoch; read as UTC, the same on every node.
        attempt: 0, then 1, 2, … where a name is taken.
    """
    try:
        moment = datetime.fromtimestamp(taken_at // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    again = f"~{attempt}" if attempt else ""
    # %Y has fewer digits before the year 1000, on some platforms and not on others.
    stamp = f"{moment.year:04}{moment:%m%d-%H%M%S}"
    mark = _MARK + f"{stamp}-{node_id}{again}".encode()
    stem, extension = _split(path)
    directory, slash, name = stem.rpartition(b"/")
    if len(name) + len(mark) + len(extension) > _MAX_NAME:
        # Too long to carry the mark: keep the start, and tell two such names apart by a hash.
        fingerprint = blake3(path).hexdigest(length=8).encode()
        extension = extension if len(extension) <= 16 else b""
        room = _MAX_NAME - len(mark) - len(extension) - len(fingerprint) - 1
        name = name[:room] + b"-" + fingerprint
    return directory + slash + name + mark + extension


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Path without its extension, and the extension with its dot (dot files have none)."""
    directory, slash, name = path.rpartition(b"/")
    stem, dot, extension = name.rpartition(b".")
    if not stem:
        return path, b""
    return directory + slash + stem, dot + extension
