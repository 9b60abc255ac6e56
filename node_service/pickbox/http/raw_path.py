"""The path of a file exactly as the client sent it.

WSGI hands over a path that was decoded already, and cheroot leaves ``%2F`` in it, so that
``a%2Fb`` and ``a%252Fb`` look the same there. The bytes are therefore taken from the request line
and decoded once, with nothing merged, cleaned or redirected; what they may be is for
`pickbox.storage.paths` to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from flask import request

from pickbox.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_KEY: Final = "pickbox.raw_path"
_COLLECTION: Final = [b"", b"api", b"v1", b"files"]
_STRAY_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class RawPaths:
    """WSGI middleware that sets a file's path apart before routing can touch it."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Route every file to one rule, with its own path kept beside."""
        target = environ["REQUEST_URI"].encode("latin-1").partition(b"?")[0]
        parts = target.split(b"/", len(_COLLECTION))
        if len(parts) > len(_COLLECTION) and [*map(unquote_to_bytes, parts[:-1])] == _COLLECTION:
            environ[_KEY] = parts[-1]
            environ["PATH_INFO"] = "/api/v1/files/-"
        return self._app(environ, start_response)


def file_path() -> bytes:
    """The path of the current request's file, percent-decoded once.

    Raises:
        BadRequest: a percent sign is not followed by two hexadecimal digits.
    """
    raw: bytes = request.environ[_KEY]
    if _STRAY_PERCENT.search(raw):
        raise BadRequest(
            "The path has a '%' that two hexadecimal digits do not follow; write %25 for the sign "
            "itself.",
            field="path",
        )
    return unquote_to_bytes(raw)
