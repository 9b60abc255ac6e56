"""`TlsTransport`: the shape of pysyncobj's transport, over mutual TLS 1.3.

It has one thread of its own (`Hub`), which makes links and looks after them. What it has for the
node goes through one inbox. `drain`, on the tick thread, delivers that, reads the links, and
delivers what came over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import select
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pysyncobj.transport import Transport, TransportNotReadyError

from pickbox.consensus.transport.frames import FrameError, Kind, decode, encode
from pickbox.consensus.transport.hub import (
    Connected,
    Disconnected,
    Event,
    HandOver,
    Hub,
    Pace,
    TurnedAway,
)
from pickbox.consensus.transport.inbox import Inbox
from pickbox.consensus.transport.listener import bind
from pickbox.consensus.transport.refusals import Refusals, Refused
from pickbox.consensus.transport.resolver import Resolver

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from pickbox.consensus.transport.link import Link, Traffic
    from pickbox.tls.credentials import Credentials

log = logging.getLogger(__name__)

_READABLE: Final = 1
"""pysyncobj's mark of a descriptor that can be read."""

_MOST_TURNS: Final = 16
"""A flood of messages holds up the tick thread no longer than these turns through all links."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a node's transport is told.

    Attributes:
        host, port: where it listens; port 0 takes any (see `TlsTransport.port`).
        known_types: values of ``type`` that a message may have; others are counted and dropped.
        hand_over: takes the HTTP connections that members open on the same port.
        on_turned_away: called on the tick thread with a peer's id and why it lets this node not in.
        resolver: made on the calling thread; None for the system's.
    """

    credentials: Credentials
    host: str
    port: int
    known_types: frozenset[str]
    pace: Pace = field(default_factory=Pace)
    hand_over: HandOver | None = None
    on_turned_away: Callable[[str, str], None] | None = None
    resolver: Resolver | None = None


@dataclass(frozen=True, slots=True)
class TransportCounts:
    """A picture of the counters; see `Traffic` for what each peer has."""

    peers: dict[str, Traffic]
    refused: dict[str, int]
    turned_away: dict[str, int]
    unknown_messages: int
    strangers: int


class TlsTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Links to the peers. `addNode`, `dropNode`, `send`, `drain` and `wait` are the tick thread's.

    A node has an ``id`` and ``places`` (``host:port``, likeliest first). Messages are dicts with a
    ``type``, of what msgpack can carry; tuples arrive as lists.
    """

    def __init__(
        self, sync_obj: Any, self_node: Any, other_nodes: Iterable[Any], options: TransportOptions
    ) -> None:
        super().__init__(sync_obj, self_node, other_nodes)
        self._options = options
        self._inbox: Inbox[Event] = Inbox()
        self._nodes: dict[str, Any] = {}
        self._links: dict[str, Link] = {}
        self._unknown = Refusals()
        self._readable = select.epoll()
        self._readable.register(self._inbox.fileno(), select.EPOLLIN)
        self._by_descriptor: dict[int, Link] = {}
        self._listening: socket.socket | None = None
        self._hub: Hub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._running = threading.Event()
        self._failure: BaseException | None = None
        self._destroyed = False
        self._poller = getattr(sync_obj, "_poller", None)
        if self._poller is not None:
            self._poller.subscribe(self._readable.fileno(), self._on_readable, _READABLE)
        for node in other_nodes:
            self.addNode(node)

    @classmethod
    def with_options(cls, options: TransportOptions) -> Callable[..., TlsTransport]:
        """What to give pysyncobj as its ``transportClass``."""
        return functools.partial(cls, options=options)

    # -- life -------------------------------------------------------------------------------

    def tryGetReady(self) -> None:  # noqa: N802 - the library's name
        """Bind the port and start the thread.

        Raises:
            TransportNotReadyError: the port cannot be had; ``__cause__`` says why.
        """
        if self.ready or self._destroyed:
            return
        try:
            self._listening = bind(self._options.host, self._options.port)
        except OSError as error:
            raise TransportNotReadyError(str(error)) from error
        self._thread = threading.Thread(target=self._run, name="raft-transport", daemon=True)
        self._thread.start()
        self._running.wait()

    @property
    def ready(self) -> bool:
        return self._running.is_set()

    def waitReady(self) -> None:  # noqa: N802 - the library's name
        """Wait until the port is bound."""
        self._running.wait()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    def destroy(self) -> None:
        """Close everything and end the thread."""
        if self._destroyed:
            return
        self._destroyed = True
        for disable in (
            self.setOnMessageReceivedCallback,
            self.setOnNodeConnectedCallback,
            self.setOnNodeDisconnectedCallback,
        ):
            disable(None)
        if self._poller is not None:
            self._poller.unsubscribe(self._readable.fileno())
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._on_loop(self._stop.set)
            self._thread.join(timeout=5.0)
        self._readable.close()
        self._inbox.close()

    # -- the tick thread --------------------------------------------------------------------

    def addNode(self, node: Any) -> None:  # noqa: N802 - the library's name
        """Keep a link to `node` and let it in; one that is known gets the places of this one."""
        self._nodes[node.id] = node
        if self._hub is not None:
            self._on_loop(functools.partial(self._hub.add, node.id, node.places))

    def dropNode(self, node: Any) -> None:  # noqa: N802 - the library's name
        """Close the link to `node`; nothing of it is delivered any more."""
        known = self._nodes.pop(node.id, None)
        if self._hub is not None:
            self._on_loop(functools.partial(self._hub.drop, node.id))
        if known is not None and (link := self._links.pop(node.id, None)) is not None:
            self._stop_reading(link)
            self._onNodeDisconnected(known)

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send `message` now; False if there is no link, or its queue was full and it was dropped.

        Raises:
            FrameError: the message is longer than a frame may be, or not for msgpack.
        """
        link = self._links.get(node.id)
        return link is not None and not link.closed and link.send(encode(Kind.MESSAGE, message))

    def wait(self, timeout: float) -> bool:
        """Wait for something to drain, or for `wake`, at most `timeout` seconds."""
        return bool(self._readable.poll(max(0.0, timeout), 1))

    def wake(self) -> None:
        """End a `wait` at once. For any thread."""
        self._inbox.wake()

    def drain(self) -> None:
        """Deliver what has come, by the callbacks.

        Raises:
            RuntimeError: the transport's thread has died; the node must stop.
        """
        if self._failure is not None and not self._destroyed:
            raise RuntimeError(f"the transport stopped: {self._failure}") from self._failure
        for _ in range(_MOST_TURNS):
            ready = self._readable.poll(0)
            for descriptor, _ in ready:
                if descriptor == self._inbox.fileno():
                    self._take_events()
                elif (link := self._by_descriptor.get(descriptor)) is not None:
                    self._receive(link)
                if self._destroyed:
                    return
            if not ready:
                return

    def _on_readable(self, _descriptor: int, _events: int) -> None:
        self.drain()

    def _take_events(self) -> None:
        count = self._inbox.start_taking()
        try:
            for _ in range(count):
                self._deliver(self._inbox.take())
                if self._destroyed:
                    break
        finally:
            if not self._destroyed and len(self._inbox):
                self._inbox.wake()

    def _deliver(self, event: Event) -> None:
        match event:
            case Connected(link):
                if link.peer in self._nodes and self._start_reading(link):
                    self._links[link.peer] = link
                    self._onNodeConnected(self._nodes[link.peer])
                    self._receive(link)
            case Disconnected(link):
                if self._links.get(link.peer) is link:
                    del self._links[link.peer]
                    self._stop_reading(link)
                    self._onNodeDisconnected(self._nodes[link.peer])
            case TurnedAway(node_id, cause):
                if self._options.on_turned_away is not None:
                    self._options.on_turned_away(node_id, cause)

    def _receive(self, link: Link) -> None:
        bodies = link.receive()
        if link.closed:
            self._stop_reading(link)
        for body in bodies:
            if self._links.get(link.peer) is not link:
                return  # it was dropped by what was delivered before
            try:
                message = self._understand(link, body)
            except FrameError:
                link.end("bad_frame")
                return
            if message is not None:
                self._onMessageReceived(self._nodes[link.peer], message)

    def _understand(self, link: Link, body: bytes) -> dict[str, Any] | None:
        """The message in a frame; None if this release does not know its type."""
        message = decode(body)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise FrameError("a message is a map with its type")
        if message["type"] not in self._options.known_types:
            refused = Refused("unknown_message", link.peer, f"{message['type']:.40}")
            self._unknown.add("message_ignored", refused, link.peer)
            return None
        return message

    def _start_reading(self, link: Link) -> bool:
        """False if it is closed already, by the transport's thread."""
        watched = link.watch(self._readable)
        if watched:
            self._by_descriptor[link.descriptor] = link
        return watched

    def _stop_reading(self, link: Link) -> None:
        if self._by_descriptor.get(link.descriptor) is link:
            del self._by_descriptor[link.descriptor]
            with contextlib.suppress(OSError):  # the descriptor is closed, and gone from there
                self._readable.unregister(link.descriptor)

    # -- any thread -------------------------------------------------------------------------

    def counts(self) -> TransportCounts:
        """What was counted so far."""
        hub = self._hub
        if hub is None:
            return TransportCounts({}, {}, {}, 0, 0)
        return TransportCounts(
            peers={peer.node_id: replace(peer.traffic) for peer in list(hub.peers.values())},
            refused=dict(Counter(hub.refusals.by_cause) + Counter(self._unknown.by_cause)),
            turned_away=dict(Counter(hub.turned_away.by_cause)),
            unknown_messages=self._unknown.by_cause.total(),
            strangers=hub.listener.strangers,
        )

    # -- the transport's thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            log.exception("transport_failed")
            self._failure = error
            self._inbox.wake()
        finally:
            self._running.set()

    async def _serve(self) -> None:
        assert self._listening is not None
        options = self._options
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        hub = Hub(
            options.credentials,
            self._listening,
            self._inbox,
            options.pace,
            options.resolver or Resolver(),
            options.hand_over,
        )
        for node in list(self._nodes.values()):
            hub.add(node.id, node.places)
        self._hub = hub
        # From here on `addNode` and `dropNode` reach the hub; `tryGetReady` has waited for it.
        self._running.set()
        await hub.run(self._stop)

    def _on_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # it has ended: `drain` says so
            return
