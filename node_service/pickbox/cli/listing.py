"""Listings of the cluster's files, page by page, and paths as they stand in JSON."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pickbox.cli.api import Persist, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pickbox.cli.api import Endpoint

PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a listing. `document` is what the node sent; `mtime_ns` is in nanoseconds."""

    path: bytes
    kind: str
    size: int
    mode: int
    mtime_ns: int
    version: int
    target: bytes
    document: dict[str, Any]

    @classmethod
    def read(cls, document: dict[str, Any]) -> Listed:
        """Read an entry as the API gives it."""
        mode = document["mode"]
        return cls(
            path=_bytes(document, "path"),
            kind=document["kind"],
            size=document["size"],
            mode=int(mode, 8) if isinstance(mode, str) else mode,
            mtime_ns=document["mtime_ns"],
            version=document["version"],
            target=_bytes(document, "target"),
            document=document,
        )


def entries(endpoint: Endpoint, prefix: bytes, limit: int | None = None) -> Iterator[Listed]:
    """Every entry whose path starts with `prefix`, in path order; at most `limit` of them."""
    left, cursor = limit, None
    while True:
        page_size = PAGE if left is None else min(PAGE, left)
        where = query(prefix=prefix or None, limit=page_size, cursor=cursor)
        page = endpoint.json("GET", f"/api/v1/files{where}", persist=Persist.WHILE_BUSY)
        for document in page["entries"]:
            yield Listed.read(document)
        cursor = page["cursor"]
        if left is not None:
            left -= len(page["entries"])
        if cursor is None or left == 0:
            return


def path_document(path: bytes, name: str = "path") -> dict[str, str]:
    """A path in JSON: as text, and as base64 too where the text cannot say it exactly."""
    try:
        return {name: path.decode()}
    except UnicodeDecodeError:
        text = path.decode(errors="backslashreplace")
        return {name: text, f"{name}_b64": base64.b64encode(path).decode()}


def path_member(path: bytes, name: str) -> dict[str, str]:
    """A path in a JSON request: as text, or as base64 where no text says it exactly."""
    document = path_document(path, name)
    return {f"{name}_b64": exact} if (exact := document.get(f"{name}_b64")) else document


def _bytes(document: dict[str, Any], name: str) -> bytes:
    exact = document.get(f"{name}_b64")
    if exact:
        return base64.b64decode(exact)
    return str(document.get(name) or "").encode(errors="surrogateescape")
