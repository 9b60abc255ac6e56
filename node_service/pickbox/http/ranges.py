"""Byte ranges and conditions of a GET (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from werkzeug.http import http_date, parse_date

from pickbox.errors import PreconditionFailed
from pickbox.http.problems import RangeNotSatisfiable

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers
    from werkzeug.wrappers import Request

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to and without `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.stop - self.start


def last_modified(mtime_ns: int) -> str | None:
    """`mtime_ns` as an HTTP date; None for what such a date cannot say."""
    try:
        return http_date(dt.datetime.fromtimestamp(mtime_ns // 10**9, tz=dt.UTC))
    except (ValueError, OverflowError, OSError):
        return None


def is_not_modified(request: Request, etag: str, modified: str | None) -> bool:
    """Whether the client has this already.

    Times are compared for equality: a file's time may go backwards, when it is restored, say.

    Raises:
        PreconditionFailed: the client wants only another version than this one.
    """
    headers = request.headers
    if "If-Match" in headers:
        if not (request.if_match.star_tag or request.if_match.is_strong(etag)):
            raise PreconditionFailed(
                f'The current version is "{etag}", and If-Match names another.', field="If-Match"
            )
    elif _is_after(modified, headers.get("If-Unmodified-Since")):
        raise PreconditionFailed(
            "The file was modified after If-Unmodified-Since.", field="If-Unmodified-Since"
        )
    if "If-None-Match" in headers:
        return request.if_none_match.contains_weak(etag) or request.if_none_match.star_tag
    return modified is not None and headers.get("If-Modified-Since") == modified


def requested_span(headers: Headers, size: int, etag: str, modified: str | None) -> Span | None:
    """The bytes that ``Range`` asks for; None when the whole file is to be sent.

    Several ranges, other units and what is malformed are answered with the whole file, as the
    standard allows.

    Raises:
        RangeNotSatisfiable: the file has no byte of the range.
    """
    match = _RANGE.fullmatch(headers.get("Range", ""))
    condition = headers.get("If-Range", "").strip()
    if match is None or (condition and condition not in {f'"{etag}"', modified}):
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes, and none of them is in this range.", field="Range"
        )
    return Span(start, stop)


def _is_after(modified: str | None, limit: str | None) -> bool:
    current, latest = parse_date(modified), parse_date(limit)
    return current is not None and latest is not None and current > latest
