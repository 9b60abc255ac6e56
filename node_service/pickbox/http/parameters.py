"""What requests say in queries, headers and JSON bodies, read strictly.

Whatever is not understood is refused with its name: a misspelt ``recursive`` that is ignored would
do something else than what was asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import stat
from typing import Any, Final
from urllib.parse import parse_qsl

from flask import g, request

from pickbox.changes import ABSENT, ANY_VERSION, PRESENT
from pickbox.errors import BadRequest, NotFound, PreconditionFailed, TooLarge
from pickbox.http.problems import UnsupportedMediaType

JSON_LIMIT: Final = 64 * 1024
"""Bytes of the largest JSON body taken."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODE: Final = re.compile(r"0?[4-7][0-7]{2}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_VERSION_TAG: Final = re.compile(r'"([1-9][0-9]{0,18})"')
_ANY_TAG: Final = re.compile(r'(W/)?"[^"]*"(\s*,\s*(W/)?"[^"]*")*')
_INT64: Final = 1 << 63


class Query:
    """The query string; only the parameters in `known` may be in it, each once."""

    def __init__(self, *known: str) -> None:
        text = request.environ.get("QUERY_STRING", "")
        # Surrogates keep bytes that are not UTF-8: a prefix is bytes, like the paths it is of.
        pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise BadRequest(f"This address has no parameter {shown!r}; {takes}.", field=shown)
            if name in self._values:
                raise BadRequest(f"The parameter {name!r} is there twice.", field=name)
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def choice(self, name: str, *allowed: str) -> str:
        """One of `allowed`; the first one if the parameter is not there."""
        value = self._values.get(name, allowed[0])
        if value not in allowed:
            raise BadRequest(f"{name} must be one of {', '.join(allowed)}.", field=name)
        return value

    def flag(self, name: str) -> bool:
        """``true`` or ``false``; false if the parameter is not there."""
        return self.choice(name, "false", "true") == "true"

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A number from `low` to `high`."""
        text = self._values.get(name, str(default))
        if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            raise BadRequest(f"{name} must be a number from {low} to {high}.", field=name)
        return int(text)

    def bytes(self, name: str) -> bytes:
        """The parameter's bytes; none if it is not there."""
        return self._values.get(name, "").encode("utf-8", "surrogateescape")


def encode_cursor(path: bytes) -> str:
    """The place in a listing after `path`, as an opaque word."""
    return base64.urlsafe_b64encode(path).decode().rstrip("=")


def decode_cursor(query: Query, prefix: bytes) -> bytes:
    """The path after which a listing goes on; empty at its beginning."""
    text = query.bytes("cursor")
    if not text:
        return b""
    path = _base64(text.replace(b"-", b"+").replace(b"_", b"/"), pad=True)
    if path is None or not path.startswith(prefix) or encode_cursor(path).encode() != text:
        raise BadRequest(
            "cursor is not one that this listing gave; begin again without it.", field="cursor"
        )
    return path


def is_request_id(text: str) -> bool:
    """Whether `text` may name a request."""
    return _REQUEST_ID.fullmatch(text) is not None


def request_id() -> str:
    """The id that a write is committed under: ``Idempotency-Key``, or this request's own."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not is_request_id(key):
        raise BadRequest(
            "Idempotency-Key must be 1 to 64 letters, digits, '.', '_' or '-'.",
            field="Idempotency-Key",
        )
    return key or str(g.request_id)


def write_base() -> int:
    """The version that a conditional write was made on, `ABSENT`, `PRESENT` or `ANY_VERSION`."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if match is None and "If-Unmodified-Since" in request.headers:
        raise BadRequest(
            "A write has no condition on time: name the version in If-Match.",
            field="If-Unmodified-Since",
        )
    if match is not None and none_match is not None:
        raise BadRequest("If-Match and If-None-Match exclude each other.", field="If-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise BadRequest("A write takes only If-None-Match: *.", field="If-None-Match")
        return ABSENT
    if match is None:
        return ANY_VERSION
    return PRESENT if match.strip() == "*" else _tagged_version(match.strip())


def _tagged_version(text: str) -> int:
    tag = _VERSION_TAG.fullmatch(text)
    if tag is not None and int(tag[1]) < _INT64:
        return int(tag[1])
    if not _ANY_TAG.fullmatch(text):
        raise BadRequest('If-Match must be a version in quotes, such as "42".', field="If-Match")
    if "," in text:
        raise BadRequest("A write takes one version in If-Match.", field="If-Match")
    raise PreconditionFailed(f"No version has the tag {text}.", field="If-Match")


def refuse_part() -> None:
    """Refuse a body that is part of a file: it would replace all of it (RFC 9110, 14.5)."""
    if "Content-Range" in request.headers:
        raise BadRequest("Part of a file cannot be stored: send all of it.", field="Content-Range")


def mode_header(kind: str) -> int | None:
    """The permission bits in ``X-Pickbox-Mode`` (octal) for a ``file`` or a ``directory``.

    A node works in the folder as its owner: it could not pass on what that may not read, nor place
    anything in what that may not enter.
    """
    text = request.headers.get("X-Pickbox-Mode")
    if text is None:
        return None
    if not _MODE.fullmatch(text):
        raise BadRequest(
            "X-Pickbox-Mode must be permission bits in octal, such as 0644, and let the owner "
            "read: nodes could not read it either. Add 0400 if it is missing.",
            field="X-Pickbox-Mode",
        )
    mode = int(text, 8)
    if kind == "directory" and not mode & stat.S_IXUSR:
        raise BadRequest(
            "A directory that its owner may not enter could hold nothing: add 0100 to its "
            "X-Pickbox-Mode.",
            field="kind",
        )
    return mode


def mtime_header() -> int | None:
    """The modification time in ``X-Pickbox-Mtime`` (nanoseconds since the epoch)."""
    text = request.headers.get("X-Pickbox-Mtime")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not -_INT64 <= int(text) < _INT64:
        raise BadRequest(
            "X-Pickbox-Mtime must be nanoseconds since 1970 as a whole number.",
            field="X-Pickbox-Mtime",
        )
    return int(text)


def content_length(limit: int) -> int | None:
    """The announced length of the body; None if it is chunked.

    Raises:
        TooLarge: it is more than `limit` bytes.
    """
    if request.environ.get("wsgi.input_terminated"):
        return None
    length = request.content_length or 0
    if length > limit:
        raise TooLarge(f"The body has {length} bytes; this address takes up to {limit}.")
    return length


def json_body(*known: str, required: bool = True) -> dict[str, Any]:
    """The JSON object that was sent; only members in `known` may be in it."""
    length = content_length(JSON_LIMIT)
    if length == 0 and not required:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
    content = request.environ["wsgi.input"].read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise TooLarge(f"A JSON body may have up to {JSON_LIMIT} bytes.")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    for name in value:
        if name not in known:
            raise BadRequest(
                f"There is no member {name!r}; known are {', '.join(known)}.", field=name
            )
    return value


def path_member(body: dict[str, Any], name: str) -> bytes:
    """A path in a JSON body: `name` + ``_b64`` (base64), which is exact, or `name` (text)."""
    for member in (name, f"{name}_b64"):
        value = body.get(member, "-")
        if not isinstance(value, str) or not value:
            raise BadRequest(f"{member} must be a string that is not empty.", field=member)
    if f"{name}_b64" in body:
        path = _base64(body[f"{name}_b64"].encode("ascii", "replace"))
        if path is None:
            raise BadRequest(f"{name}_b64 must be base64.", field=f"{name}_b64")
        return path
    if name not in body:
        raise BadRequest(f"{name} is missing.", field=name)
    try:
        return str(body[name]).encode()
    except UnicodeEncodeError:
        raise BadRequest(
            f"{name} has half of a surrogate pair; send such a path in {name}_b64.", field=name
        ) from None


def base_member(body: dict[str, Any], name: str, default: int, lowest: int) -> int:
    """A version in a JSON body: a number from `lowest`, or ``"any"``."""
    if name not in body:
        return default
    value = body[name]
    if value == "any":
        return ANY_VERSION
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 7.0 is 7 in JSON
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < _INT64:
        raise BadRequest(f"{name} must be a version, at least {lowest}, or 'any'.", field=name)
    return value


def checked_request_id(text: str) -> str:
    """A request id from an address; one that can never have been given is not found."""
    if not is_request_id(text):
        raise NotFound("No request can have this id.", field="request_id")
    return text


def _base64(text: bytes, *, pad: bool = False) -> bytes | None:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4 if pad else 0), validate=True)
    except (binascii.Error, ValueError):
        return None
