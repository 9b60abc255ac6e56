"""Links as the tick thread finds them, when the transport's thread was quicker."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from pysyncobj.node import Node

from pickbox.consensus.transport import TlsTransport, TransportOptions
from pickbox.consensus.transport.frames import FrameReader, Kind, encode
from pickbox.consensus.transport.hub import Connected, Disconnected
from pickbox.consensus.transport.link import Link, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_CREDENTIALS: Any = None


class Ticking:
    """A transport whose tick thread is the test, and so is its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.events: list[tuple[str, str]] = []
        self.received: list[tuple[str, Any]] = []
        options = TransportOptions(NO_CREDENTIALS, "127.0.0.1", 0, frozenset({"append"}))
        others = [Node("b", places=()), Node("c", places=())]
        self.transport = TlsTransport(None, Node("a"), others, options)
        self.transport.setOnNodeConnectedCallback(lambda node: self.events.append(("up", node.id)))
        self.transport.setOnNodeDisconnectedCallback(
            lambda node: self.events.append(("down", node.id))
        )
        self.transport.setOnMessageReceivedCallback(
            lambda node, message: self.received.append((node.id, message))
        )

    def link(self, peer: str) -> tuple[Link, socket.socket]:
        """A new link to `peer`, not seen by the tick thread yet, and its other end."""
        here, there = socket.socketpair()
        here.setblocking(False)
        made = Link(
            self.loop,
            here,  # type: ignore[arg-type]  # nothing of TLS matters here
            FrameReader(),
            peer,
            dialed=True,
            traffic=Traffic(),
            on_closed=lambda link, _: self.transport._inbox.put(Disconnected(link)),
        )
        self.transport._inbox.put(Connected(made))
        return made, there


@pytest.fixture
def ticking() -> Iterator[Ticking]:
    made = Ticking()
    yield made
    made.transport.destroy()
    made.loop.close()


def test_a_link_with_the_descriptor_of_one_that_is_closed_is_read(ticking: Ticking) -> None:
    """While the tick thread was busy, one link ended and another one got its descriptor."""
    first, first_end = ticking.link("b")
    first.close("silent")
    second, second_end = ticking.link("c")
    assert second.descriptor == first.descriptor
    second_end.sendall(encode(Kind.MESSAGE, {"type": "append"}))
    with first_end, second_end:
        ticking.transport.drain()
        assert ticking.events == [("up", "c")]
        assert ticking.received == [("c", {"type": "append"})]
        second.close("silent")
        ticking.transport.drain()
        assert ticking.events == [("up", "c"), ("down", "c")]
