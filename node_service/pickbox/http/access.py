"""What holds for every request of a listener: its id, its count, its protection, its headers."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from pickbox.http.parameters import is_request_id
from pickbox.http.problems import CrossSite

if TYPE_CHECKING:
    from pickbox.observability.metrics import Metrics

log = logging.getLogger(__name__)

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = _SAFE_METHODS | {"PUT", "POST", "DELETE", "PATCH", "TRACE"}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def install(app: Flask, listener: str, metrics: Metrics) -> None:
    """Number, count, protect and log the requests of `app`; `listener` is its name in metrics."""

    @app.before_request
    def begin() -> None:
        g.started = time.monotonic()
        key = request.headers.get("Idempotency-Key", "")
        g.request_id = key if is_request_id(key) else uuid.uuid4().hex
        metrics.http_in_flight.labels(listener=listener).inc()
        _refuse_other_sites()

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if "request_id" in g:
            response.headers["X-Request-Id"] = g.request_id
            _finish_on_close(response, listener, metrics)
        return response


def _finish_on_close(response: Response, listener: str, metrics: Metrics) -> None:
    """Count and log once the last byte is out: until then a request is in flight."""
    route = request.url_rule.rule if request.url_rule else "unmatched"
    method = request.method if request.method in _METHODS else "OTHER"
    started, request_id, code = g.started, g.request_id, response.status_code

    def finish() -> None:
        seconds = time.monotonic() - started
        metrics.http_in_flight.labels(listener=listener).dec()
        metrics.http_requests.labels(listener, method, route, str(code)).inc()
        metrics.http_duration.labels(listener, method, route).observe(seconds)
        log.debug(
            "http_request",
            extra={
                "fields": {
                    "listener": listener,
                    "method": method,
                    "route": route,
                    "status": code,
                    "seconds": round(seconds, 6),
                    "request_id": request_id,
                }
            },
        )

    # A response that is passed through (a static file) would never be closed.
    response.direct_passthrough = False
    response.call_on_close(finish)


def _refuse_other_sites() -> None:
    """Refuse writes that a browser sends for a page of another site.

    The client API has no login that would protect it, so any page a user visits could otherwise
    write through the user's browser. What is not a browser sends neither header.
    """
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = origin is not None and _host_in(origin) != request.headers.get("Host", "")
    if foreign or site in {"cross-site", "same-site"}:
        raise CrossSite("Writes from pages of another site are refused.", field="Origin")


def _host_in(origin: str) -> str | None:
    """Host and port of `origin`; None if it makes no sense."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
