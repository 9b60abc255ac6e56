"""What is directly in a directory, from a catalog that lists whole trees in path order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pickbox.storage.paths import NAME_BYTES

if TYPE_CHECKING:
    from pickbox.changes import Entry
    from pickbox.seams import FileService

_STEP: Final = 50
_AFTER_ALL: Final = b"\xff" * (NAME_BYTES + 1)
"""Sorts after every name that can be."""


def children(files: FileService, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
    """At most `limit` entries that start with `prefix`, have no ``/`` after it, and sort later.

    What is below a subdirectory is skipped and not read, however much it is.
    """
    found: list[Entry] = []
    while len(found) < limit:
        page = files.page(prefix, after, min(_STEP, limit - len(found)))
        if not page:
            break
        for entry in page:
            name, below, _ = entry.path[len(prefix) :].partition(b"/")
            if below:
                after = prefix + name + b"/" + _AFTER_ALL
                break
            found.append(entry)
            after = entry.path
    return found
