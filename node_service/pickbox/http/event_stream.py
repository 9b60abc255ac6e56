"""Events as they happen, for browsers: server-sent events that occupy no worker thread.

A worker answers with the headers and lets go of the connection; from then on the observer's thread
sends to all viewers what it found, each message made once. Nothing here ever blocks: a viewer that
does not read is dropped, and comes again.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pickbox.errors import TooManyViewers
from pickbox.http.documents import (
    cluster_document,
    event_document,
    health_document,
    history_document,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.observability.events import Event
    from pickbox.observability.observer import Observation, Observer
    from pickbox.seams import NodeControl

MOST_VIEWERS: Final = 64
"""A descriptor each, and a send every few seconds."""

_UNSENT_BYTES: Final = 256 * 1024
"""What waits for a viewer that reads slowly; with more it is dropped."""

_SILENT_MILLISECONDS: Final = 30_000
"""A viewer whose machine acknowledges nothing for so long has gone without a word (RFC 5482)."""

_BEGIN: Final = b"retry: 3000\n\n"
"""Milliseconds after which a browser that lost its connection comes again."""


class Viewers:
    """All who follow the events of this node; told by the observer."""

    def __init__(self, control: NodeControl, observer: Observer, most: int = MOST_VIEWERS) -> None:
        self._control = control
        self._events = observer.events
        self._most = most
        self._viewers: list[_Viewer] = []
        self._lock = threading.Lock()
        self._closed = False
        observer.tell(self)

    @property
    def looking(self) -> bool:
        """Whether there is any."""
        return bool(self._viewers)

    def check_room(self) -> None:
        """See that one more may come.

        Raises:
            TooManyViewers: it may not.
        """
        with self._lock:
            gone = [viewer for viewer in self._viewers if viewer.has_left()]
            self._viewers = [viewer for viewer in self._viewers if viewer not in gone]
            for viewer in gone:
                viewer.close()
            if len(self._viewers) >= self._most:
                raise TooManyViewers(
                    f"{self._most} viewers follow the events of this node already, which is as "
                    "many as it takes: ask /api/cluster and /api/events every few seconds instead."
                )

    def take(self, sock: socket.socket, chunked: bool, last_seen: str) -> None:
        """Send to `sock` what happened after the event `last_seen`, and what happens from now on.

        `chunked` says whether the body is (RFC 9112, section 7.1).
        """
        viewer = _Viewer(sock, chunked=chunked)
        with self._lock:
            full = self._closed or len(self._viewers) >= self._most
            if not full and viewer.send(_BEGIN + _event_messages(self._events.after(last_seen))):
                self._viewers.append(viewer)
                return
        viewer.close()

    def observed(self, observation: Observation) -> None:
        """Tell all viewers."""
        if not self._viewers:
            return
        messages = _event_messages(observation.events) + _message("state", self._state(observation))
        with self._lock:
            gone = [viewer for viewer in self._viewers if not viewer.send(messages)]
            self._viewers = [viewer for viewer in self._viewers if viewer not in gone]
        for viewer in gone:
            viewer.close()

    def close(self) -> None:
        """Let all go; they find another node, or this one when it is back."""
        with self._lock:
            self._closed, viewers, self._viewers = True, self._viewers, []
        for viewer in viewers:
            viewer.close()

    def _state(self, observation: Observation) -> dict[str, Any]:
        """All that a page shows: it need not ask for anything."""
        health = self._control.health()
        cluster = cluster_document(observation.cluster, health.node_id)
        samples = [observation.sample] if observation.sample else []
        return {
            "cluster": {**cluster, "timestamp": time.time()},
            "health": health_document(health),
            "history": history_document(samples, health.node_id),
        }


class _Viewer:
    """A browser's connection, and what it has not taken yet."""

    def __init__(self, sock: socket.socket, *, chunked: bool) -> None:
        self._socket = sock
        self._chunked = chunked
        self._unsent = b""
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MILLISECONDS)

    def send(self, messages: bytes) -> bool:
        """Send as much as goes; False if the viewer is gone, or too slow."""
        if self.has_left():
            return False
        framed = b"%x\r\n%b\r\n" % (len(messages), messages) if self._chunked else messages
        self._unsent += framed
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return len(self._unsent) <= _UNSENT_BYTES

    def has_left(self) -> bool:
        """Whether the browser has closed the connection. What else it says is of no interest."""
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _event_messages(events: Sequence[Event]) -> bytes:
    return b"".join(_message("event", event_document(event), event.id) for event in events)


def _message(name: str, document: dict[str, Any], event_id: str = "") -> bytes:
    """One message of the stream (HTML standard, section 9.2.5); this JSON has no line ends."""
    named = f"id: {event_id}\n" if event_id else ""
    return f"event: {name}\n{named}data: {json.dumps(document)}\n\n".encode()
