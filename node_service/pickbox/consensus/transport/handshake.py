"""From a bare socket to a peer that is known: TLS, then a hello each way.

The dialing side says hello first. The accepting side answers with its own, or with a bye and the
cause. In TLS 1.3 a client's handshake ends before its certificate was judged, so only that answer
says that it was accepted.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pickbox.consensus.transport.frames import FrameError, FrameReader, Kind, decode, encode
from pickbox.consensus.transport.refusals import Refused
from pickbox.tls.causes import alerted_cause, cause_of
from pickbox.tls.identity import NodeIdentity, identity_in

if TYPE_CHECKING:
    import socket

WIRE_VERSION: Final = 1


class Declined(Exception):
    """The other side does not let this node in; `cause` is its word for why."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(slots=True)
class Session:
    """A TLS connection whose other side is known."""

    socket: ssl.SSLSocket
    peer: NodeIdentity
    protocol: str
    reader: FrameReader


async def secure(
    sock: socket.socket,
    context: ssl.SSLContext,
    me: NodeIdentity,
    address: str,
    *,
    accepting: bool,
) -> Session:
    """Run the TLS handshake on the connected, non-blocking `sock` and read the peer's name.

    Closing `sock` is the caller's until this returns, and the session's after.

    Raises:
        Refused: the peer has no name here: no certificate, another CA or cluster, no TLS.
    """
    try:
        secured = context.wrap_socket(sock, server_side=accepting, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        raise Refused("connection_lost", _host(address), str(error)) from error
    try:
        await _handshake(secured)
        peer = _name(secured, me, address)
        protocol = _protocol(secured, peer)
    except OSError as error:
        secured.close()
        if not accepting and (cause := alerted_cause(error)):
            raise Declined(cause) from error
        why = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
        raise Refused(cause_of(error), _host(address), why) from error
    except BaseException:
        secured.close()
        raise
    return Session(secured, peer, protocol, FrameReader())


async def say_hello(session: Session) -> None:
    """As the dialing side: introduce this node and wait to be let in.

    Raises:
        Declined: the peer says why not.
        FrameError, OSError: it says something else, or nothing.
    """
    await _send(session.socket, encode(Kind.HELLO, {"wire": WIRE_VERSION}))
    try:
        kind, body = await _receive(session)
    except ssl.SSLError as error:
        if cause := alerted_cause(error):
            raise Declined(cause) from error
        raise
    content = decode(body)
    if kind is Kind.BYE and isinstance(content, dict):
        raise Declined(str(content.get("cause"))[:40])
    _check_wire(kind, content, session.peer.node_id)


async def hear_hello(session: Session) -> None:
    """As the accepting side: wait for the peer's introduction.

    Raises:
        Refused: it is none, or of a version of the protocol that this node does not speak.
        OSError: the connection broke.
    """
    try:
        kind, body = await _receive(session)
        content = decode(body)
    except FrameError as error:
        raise Refused("bad_frame", session.peer.node_id, str(error)) from error
    _check_wire(kind, content, session.peer.node_id)


async def welcome(session: Session) -> None:
    """As the accepting side: let the peer in."""
    await _send(session.socket, encode(Kind.HELLO, {"wire": WIRE_VERSION}))


async def decline(session: Session, cause: str) -> None:
    """As the accepting side: say why not."""
    await _send(session.socket, encode(Kind.BYE, {"cause": cause}))


def _check_wire(kind: Kind, content: Any, source: str) -> None:
    version = content.get("wire") if kind is Kind.HELLO and isinstance(content, dict) else None
    if version != WIRE_VERSION:
        why = f"it speaks version {version!r:.20}, this node {WIRE_VERSION}"
        raise Refused("wire_version", source, why)


def _name(secured: ssl.SSLSocket, me: NodeIdentity, address: str) -> NodeIdentity:
    found = identity_in(secured.getpeercert())
    if found is None:
        raise Refused("no_identity", _host(address), "its certificate names no node")
    if found.cluster != me.cluster:
        raise Refused("another_cluster", found.uri, f"this one is {me.cluster}")
    if found.node_id == me.node_id:
        raise Refused("own_identity", found.node_id, "another process has this node's name")
    return found


def _protocol(secured: ssl.SSLSocket, peer: NodeIdentity) -> str:
    protocol = secured.selected_alpn_protocol()
    if protocol is None:
        raise Refused("no_common_protocol", peer.node_id)
    return protocol


async def _handshake(secured: ssl.SSLSocket) -> None:
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            await until_ready(secured)
        except ssl.SSLWantWriteError:
            await until_ready(secured, writing=True)
        else:
            return


async def _receive(session: Session) -> tuple[Kind, bytes]:
    while (frame := session.reader.next()) is None:
        try:
            data = session.socket.recv(4096)
        except ssl.SSLWantReadError:
            await until_ready(session.socket)
            continue
        if not data:
            raise ConnectionResetError("closed before it said hello")
        session.reader.feed(data)
    return frame


async def _send(secured: ssl.SSLSocket, frame: bytes) -> None:
    """Send a small frame; nothing else was sent yet, so there is room for it."""
    while True:
        try:
            secured.send(frame)
        except ssl.SSLWantWriteError:
            await until_ready(secured, writing=True)
        else:
            return


async def until_ready(sock: socket.socket, *, writing: bool = False) -> None:
    """Wait until `sock` can be read from, or written to."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sock.fileno()
    (loop.add_writer if writing else loop.add_reader)(descriptor, _settle, ready)
    try:
        await ready
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _host(address: str) -> str:
    return address.rpartition(":")[0]
