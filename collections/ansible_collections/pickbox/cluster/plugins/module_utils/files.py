# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""The files API of a node: where a path is, what is sent to it, what it says when nothing is."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

if TYPE_CHECKING:
    from ansible_collections.pickbox.cluster.plugins.module_utils import api

FILES = "/api/v1/files"
SHOWN = 100 << 10
"""Bytes of the largest content that a diff shows."""

NOT_RENDERED = (
    "template: it is rendered on the control node by the collection's action plugin, which did not "
    "run. Call the module from a task, as pickbox.cluster.file."
)


class Unusable(Exception):
    """What was asked for cannot be done; the text says why, and what to do."""


class Content:
    """What a file is to hold: a text, or a file that is read anew for each try."""

    @classmethod
    def of(cls, options: dict[str, Any]) -> Content:
        """What the options of the module say.

        Raises:
            Unusable: there is no such content.
        """
        if options["template"]:
            raise Unusable(NOT_RENDERED)
        return cls(options["content"], options["src"])

    def __init__(self, text: str | None, source: str | None) -> None:
        self._bytes = None if text is None else text.encode("utf-8", "surrogateescape")
        self._source = source or ""
        try:
            self.size = len(self._bytes) if self._bytes is not None else self._size()
        except OSError as error:
            raise Unusable(
                f"src: {source} cannot be read on {os.uname().nodename} ({error.strerror}). It is "
                "read where the task runs; delegate the task to where the file is."
            ) from None

    def open(self) -> BinaryIO:
        """The content from its first byte."""
        return io.BytesIO(self._bytes) if self._bytes is not None else open(self._source, "rb")

    def shown(self) -> str:
        """The content for a diff."""
        with self.open() as content:
            return as_text(content.read(SHOWN), self.size)

    def _size(self) -> int:
        with open(self._source, "rb") as file:
            return os.fstat(file.fileno()).st_size


def as_text(content: bytes, size: int) -> str:
    """Content for a diff: itself when it is text and whole, else what can be said of it."""
    if len(content) == size and b"\\0" not in content:
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    return f"({size} bytes that are not shown)\n"


def address(path: str) -> str:
    """Where a file is. Dots of ``..`` are encoded: refusing such a path is for the node to do."""
    parts = [quote(part, safe="", errors="surrogateescape") for part in path.split("/")]
    dots = [part.replace(".", "%2E") if part in (".", "..") else part for part in parts]
    return f"{FILES}/{'/'.join(dots)}"


def absent(refusal: api.Refused) -> bool:
    """Whether nothing is at the path. Another server's 404 does not name the field."""
    return refusal.type == "not-found" and refusal.document.get("field") == "path"
