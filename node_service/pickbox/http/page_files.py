"""The files of the dashboard, each under a tag of what is in it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, abort, send_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG_DIGITS: Final = 32


class WithPageFiles(Flask):
    """Serves the files of `static_folder`, if it has one, as they were when the node was started.

    Flask's own tags are made of a file's time and size, which files of two releases may share: in
    an image all files are of one time. A browser would be told that it has the new one already.
    For the same reason no time of change is told.
    """

    def __init__(self, package: str, static_folder: str | None) -> None:
        super().__init__(package, static_folder=static_folder)
        self._files = dict(_read(Path(self.static_folder))) if self.static_folder else {}

    def send_static_file(self, filename: str) -> Response:
        """The file, or that the browser has it."""
        if filename not in self._files:
            abort(404)
        content, tag = self._files[filename]
        return send_file(io.BytesIO(content), download_name=Path(filename).name, etag=tag)


def _read(folder: Path) -> Iterator[tuple[str, tuple[bytes, str]]]:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:_TAG_DIGITS]
            yield str(path.relative_to(folder)), (content, tag)
