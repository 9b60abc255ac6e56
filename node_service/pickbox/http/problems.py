"""Errors as problem documents (RFC 9457, ``application/problem+json``).

``type`` is ``urn:pickbox:problem:<name>`` with the stable name of a `PickboxError` or, for what
HTTP itself refuses, of the status.
"""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from pickbox.errors import BadRequest, InvalidPath, NotReady, PickboxError
from pickbox.http.documents import blocking_reasons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pickbox.status import Health

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = "1"
"""Seconds; an election or a catching-up node takes about that long."""

_TYPE_PREFIX: Final = "urn:pickbox:problem:"
_HTTP_DETAILS: Final = {
    404: "Nothing is at this address.",
    405: "This address does not take this method; see the Allow header.",
    500: "The node failed at this request; its log has the details under this request id.",
}


class BodyIncomplete(BadRequest):
    """The body ended before its announced length, or its framing is wrong."""


class RequestTimeout(PickboxError):
    """The client went silent in the middle of a request."""

    type = "request-timeout"
    status = 408


class CrossSite(PickboxError):
    """A browser sent a write on behalf of another site."""

    type = "cross-site"
    status = 403


class HttpsRequired(PickboxError):
    """A client spoke plain HTTP to a port that speaks HTTPS only."""

    type = "https-required"
    status = 400


class UnsupportedMediaType(PickboxError):
    """The body is not of the media type that this address takes."""

    type = "unsupported-media-type"
    status = 415


class RangeNotSatisfiable(PickboxError):
    """The asked range lies outside of the file."""

    type = "range-not-satisfiable"
    status = 416


def document(
    name: str, status: int, detail: str, members: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A problem document; `members` that are None are left out."""
    given = {key: value for key, value in (members or {}).items() if value is not None}
    return {
        "type": _TYPE_PREFIX + name,
        "title": name.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        **given,
    }


def name_of_status(status: int) -> str:
    """The problem name of a plain HTTP status: its reason phrase as a name."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "error"
    return re.sub(r"[^a-z]+", "-", phrase.lower()).strip("-")


def problem(error: PickboxError, **members: Any) -> Response:
    """The response for `error`, with `members` beside the standard ones."""
    rule = error.rule if isinstance(error, InvalidPath) else None
    response = _response(
        error.type,
        error.status,
        error.detail,
        {"field": error.field, "rule": rule, **members},
    )
    if error.status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="pickbox"'
    return response


def failing_health(health: Health, document: Mapping[str, Any]) -> Response:
    """The 503 of a node that is not ready: a problem document with `document`'s members."""
    return problem(NotReady(" ".join(blocking_reasons(health))), **document)


def install(app: Flask) -> None:
    """Answer every error of `app` with a problem document."""

    @app.errorhandler(PickboxError)
    def on_pickbox_error(error: PickboxError) -> Response:
        if error.status >= 500:
            log.warning(
                "request_refused",
                extra={
                    "fields": {
                        "type": error.type,
                        "detail": error.detail,
                        "request_id": _request_id(),
                        "route": _route(),
                    }
                },
            )
        return problem(error)

    @app.errorhandler(HTTPException)
    def on_http_error(error: HTTPException) -> Response:
        status = error.code or 500
        detail = _HTTP_DETAILS.get(status) or error.description or "The request was refused."
        response = _response(name_of_status(status), status, detail, {})
        for name, value in error.get_headers():
            if name not in {"Content-Type", "Content-Length"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def on_failure(error: Exception) -> Response:
        log.error(
            "request_failed",
            exc_info=error,
            extra={"fields": {"request_id": _request_id(), "route": _route()}},
        )
        return _response("internal", 500, _HTTP_DETAILS[500], {})


def _response(name: str, status: int, detail: str, members: Mapping[str, Any]) -> Response:
    content = document(name, status, detail, {**members, "request_id": _request_id()})
    return Response(json.dumps(content), status=status, content_type=MEDIA_TYPE)


def _request_id() -> str | None:
    request_id: str | None = g.get("request_id")
    return request_id


def _route() -> str:
    return request.url_rule.rule if request.url_rule else "unmatched"
