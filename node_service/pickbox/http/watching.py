"""What the dashboard shows beside the state of now: what was, and what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, request

from pickbox.http.documents import event_document, history_document
from pickbox.http.parameters import Query
from pickbox.http.server import CONNECTION

if TYPE_CHECKING:
    import socket

    from pickbox.http.event_stream import Viewers
    from pickbox.observability.observer import Observer
    from pickbox.seams import NodeControl

_LATEST: Final = 10**10
"""Seconds since 1970 that are later than any sample."""


def watching_blueprint(control: NodeControl, observer: Observer, viewers: Viewers) -> Blueprint:
    """Routes ``/api/history``, ``/api/events`` and ``/api/events/stream``."""
    blueprint = Blueprint("watching", __name__)

    @blueprint.get("/api/history")
    def history() -> dict[str, Any]:
        """What the nodes were like lately, as this one saw them."""
        since = Query("since").integer("since", 0, 0, _LATEST)
        return history_document(observer.history.since(since), control.status().node_id)

    @blueprint.get("/api/events")
    def events() -> dict[str, Any]:
        """What happened lately, as this node saw it."""
        Query()
        latest = observer.events.latest()
        return {
            "node_id": control.status().node_id,
            "events": [event_document(event) for event in latest],
        }

    @blueprint.get("/api/events/stream")
    def stream() -> Response:
        """What happens from now on, as server-sent events."""
        Query()
        viewers.check_room()
        last_seen = request.headers.get("Last-Event-ID", "")

        def take(sock: socket.socket, chunked: bool) -> None:
            viewers.take(sock, chunked, last_seen)

        if request.method == "GET":
            request.environ[CONNECTION].taker = take
        response = Response(iter(()), content_type="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"  # nginx is to hand on what there is
        return response

    return blueprint
