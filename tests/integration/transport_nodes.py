"""Real transports on loopback, and the certificates they show."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from authority import CLUSTER
from pysyncobj.node import Node

from pickbox.consensus.transport import Pace, TlsTransport, TransportOptions
from pickbox.tls import Credentials, CredentialsFiles, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.transport import HandOver
    from pickbox.consensus.transport.resolver import Resolver

TYPES = frozenset({"append", "reply"})
STEADY = Pace(0.1, 3.0)
"""For links that are to last, on a machine that may stall for a second."""
QUICK = Pace(0.1, 1.0)
"""For a peer that is to be given up."""


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)


def quickest(measure: Callable[[], float], times: int = 3) -> float:
    """The least of some measurements: what else the machine does is hardly in all of them."""
    return min(measure() for _ in range(times))


class Endpoint:
    """One node's transport; the test is its tick thread."""

    def __init__(
        self,
        files: CredentialsFiles,
        node_id: str,
        port: int = 0,
        *,
        pace: Pace = STEADY,
        hand_over: HandOver | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.node_id = node_id
        self.credentials = Credentials(files, NodeIdentity(CLUSTER, node_id))
        self.received: list[tuple[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.turned_away: list[tuple[str, str]] = []
        options = TransportOptions(
            self.credentials,
            "127.0.0.1",
            port,
            TYPES,
            pace=pace,
            hand_over=hand_over,
            on_turned_away=lambda node_id, cause: self.turned_away.append((node_id, cause)),
            resolver=resolver,
        )
        self.transport = TlsTransport.with_options(options)(None, Node(node_id), [])
        self.transport.setOnMessageReceivedCallback(
            lambda node, message: self.received.append((node.id, message))
        )
        self.transport.setOnNodeConnectedCallback(lambda node: self.events.append(("up", node.id)))
        self.transport.setOnNodeDisconnectedCallback(
            lambda node: self.events.append(("down", node.id))
        )
        self.transport.tryGetReady()

    @property
    def port(self) -> int:
        return self.transport.port

    @property
    def connected(self) -> set[str]:
        up: set[str] = set()
        for what, node_id in self.events:
            (up.add if what == "up" else up.discard)(node_id)
        return up

    def add(self, node_id: str, *places: str) -> None:
        self.transport.addNode(Node(node_id, places=places))

    def send(self, node_id: str, message: dict[str, Any]) -> bool:
        return bool(self.transport.send(Node(node_id), message))


def tick(*endpoints: Endpoint) -> None:
    for endpoint in endpoints:
        endpoint.transport.drain()


def ticking(*endpoints: Endpoint, until: Callable[[], bool], seconds: float = 10.0) -> None:
    def turned() -> bool:
        tick(*endpoints)
        return until()

    eventually(turned, seconds)


def introduce(*endpoints: Endpoint) -> None:
    """Make every endpoint know every other, and wait until all are linked."""
    for one in endpoints:
        for other in endpoints:
            if one is not other:
                one.add(other.node_id, f"127.0.0.1:{other.port}")
    ticking(
        *endpoints, until=lambda: all(len(e.connected) == len(endpoints) - 1 for e in endpoints)
    )


def client(
    files: CredentialsFiles | None, port: int, alpn: str = "pickbox-raft/1"
) -> ssl.SSLSocket:
    """A TLS connection of somebody who believes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(sock)
    except BaseException:
        sock.close()
        raise
