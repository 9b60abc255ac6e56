"""What runs on the transport's thread: the listener, the peers, and their links."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pickbox.consensus.transport.frames import FrameError
from pickbox.consensus.transport.handshake import (
    Declined,
    Session,
    decline,
    hear_hello,
    say_hello,
    secure,
    welcome,
)
from pickbox.consensus.transport.link import Link
from pickbox.consensus.transport.listener import Listener
from pickbox.consensus.transport.peer import Peer
from pickbox.consensus.transport.refusals import Refusals, Refused
from pickbox.tls.credentials import HTTP, RAFT

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from pickbox.consensus.transport.inbox import Inbox
    from pickbox.consensus.transport.resolver import Resolver
    from pickbox.tls.credentials import Credentials

log = logging.getLogger(__name__)

_RELOAD_SECONDS: Final = 1.0

HandOver: TypeAlias = "Callable[[ssl.SSLSocket, str, str], None]"
"""Takes over a blocking HTTP connection: socket, the peer's node id, its address."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A link to its peer is there."""

    link: Link


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A link is over."""

    link: Link


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The peer does not let this node in."""

    node_id: str
    cause: str


Event: TypeAlias = Connected | Disconnected | TurnedAway


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between pings of a link that says nothing, and of silence until it is dead."""

    ping: float = 0.5
    silence: float = 2.0


class Hub:
    """All of it belongs to the event loop's thread.

    Args:
        hand_over: takes HTTP connections of members; without it they are refused.
    """

    def __init__(
        self,
        credentials: Credentials,
        listening: socket.socket,
        inbox: Inbox[Event],
        pace: Pace,
        resolver: Resolver,
        hand_over: HandOver | None,
    ) -> None:
        self.peers: dict[str, Peer] = {}
        self.refusals = Refusals()
        self.turned_away = Refusals()
        self.listener = Listener(listening, self._serve, self.refusals)
        self._credentials = credentials
        self._me = credentials.identity
        self._inbox = inbox
        self._pace = pace
        self._resolver = resolver
        self._hand_over = hand_over

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        self.listener.start()
        beating = asyncio.create_task(self._beat())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
        finally:
            beating.cancel()
            stopping.cancel()
            self.listener.stop()
            for node_id in list(self.peers):
                self.drop(node_id)

    def add(self, node_id: str, places: tuple[str, ...]) -> None:
        """Keep a link to `node_id`, and let it in; a known one gets new places."""
        if node_id == self._me.node_id:
            return
        peer = self.peers.get(node_id)
        if peer is None:
            self.peers[node_id] = Peer(
                node_id, places, self._me.node_id, self._resolver, self._introduce
            )
        else:
            peer.places = places

    def drop(self, node_id: str) -> None:
        """Close the link to `node_id`, and let it in no more."""
        peer = self.peers.pop(node_id, None)
        if peer is not None:
            peer.stop()
            if peer.link is not None:
                peer.link.close("dropped")

    # -- accepting --------------------------------------------------------------------------

    async def _serve(self, sock: socket.socket, address: str) -> None:
        protocols = [RAFT, HTTP] if self._hand_over else [RAFT]
        context = self._credentials.server_context(protocols)
        session = await secure(sock, context, self._me, address, accepting=True)
        try:
            await self._let_in(session, address)
        except BaseException:
            session.socket.close()
            raise

    async def _let_in(self, session: Session, address: str) -> None:
        node_id = session.peer.node_id
        if session.protocol == HTTP and self._hand_over is not None:
            if node_id not in self.peers:
                raise Refused("not_a_member", node_id)
            session.socket.setblocking(True)
            self._hand_over(session.socket, node_id, address)
            return
        await hear_hello(session)
        peer = self.peers.get(node_id)
        if peer is None:
            await decline(session, "not_a_member")
            raise Refused("not_a_member", node_id)
        if not peer.may_replace(dialed=False, alive_within=2 * self._pace.ping):
            await decline(session, "duplicate")
            session.socket.close()
            return
        await welcome(session)
        self._link(session, peer, dialed=False)

    # -- dialing ----------------------------------------------------------------------------

    async def _introduce(self, sock: socket.socket, address: str, peer: Peer) -> None:
        """Take an outgoing connection through the handshake; what goes wrong is told in the log."""
        try:
            session = await self._dial(sock, address, peer)
        except Refused as refused:
            self.refusals.add("peer_refused", refused, address)
        except Declined as declined:
            self._note_turned_away(peer, declined.cause, address)
        except FrameError as error:
            malformed = Refused("bad_frame", peer.node_id, str(error))
            self.refusals.add("peer_refused", malformed, address)
        else:
            self._link_dialed(session, peer)

    async def _dial(self, sock: socket.socket, address: str, peer: Peer) -> Session:
        context = self._credentials.client_context(RAFT)
        session = await secure(sock, context, self._me, address, accepting=False)
        try:
            _expect(peer, session)
            await say_hello(session)
        except BaseException:
            session.socket.close()
            raise
        return session

    def _note_turned_away(self, peer: Peer, cause: str, address: str) -> None:
        if cause == "duplicate":
            return
        self.turned_away.add("refused_by_peer", Refused(cause, peer.node_id), address)
        self._inbox.put(TurnedAway(peer.node_id, cause))

    def _link_dialed(self, session: Session, peer: Peer) -> None:
        wanted = self.peers.get(peer.node_id) is peer
        if wanted and peer.may_replace(dialed=True, alive_within=2 * self._pace.ping):
            self._link(session, peer, dialed=True)
        else:
            session.socket.close()

    # -- links ------------------------------------------------------------------------------

    def _link(self, session: Session, peer: Peer, *, dialed: bool) -> None:
        if self.peers.get(peer.node_id) is not peer:  # dropped during the handshake
            session.socket.close()
            return
        if peer.link is not None:
            peer.link.close("replaced")
        link = Link(
            asyncio.get_running_loop(),
            session.socket,
            session.reader,
            peer.node_id,
            dialed=dialed,
            traffic=peer.traffic,
            on_closed=self._on_closed,
        )
        peer.linked(link)
        self._inbox.put(Connected(link))
        log.info("peer_connected", extra={"fields": {"peer": peer.node_id, "dialed": dialed}})

    def _on_closed(self, link: Link, cause: str) -> None:
        peer = self.peers.get(link.peer)
        if peer is not None and peer.link is link:
            peer.unlinked()
        self._inbox.put(Disconnected(link))
        fields = {"peer": link.peer, "cause": cause}
        log.info("peer_disconnected", extra={"fields": fields})

    async def _beat(self) -> None:
        """Ping, find dead links, and look for new certificates."""
        period = self._pace.ping / 2
        next_reload = 0.0
        while True:
            await asyncio.sleep(period)
            now = time.monotonic()
            for peer in list(self.peers.values()):
                if peer.link is not None:
                    peer.link.beat(now, self._pace.ping, self._pace.silence)
            if now >= next_reload:
                next_reload = now + _RELOAD_SECONDS
                with contextlib.suppress(OSError):
                    self._credentials.reload_if_changed()


def _expect(peer: Peer, session: Session) -> None:
    if session.peer.node_id != peer.node_id:
        why = f"{peer.node_id} was expected at this address"
        raise Refused("another_node", session.peer.node_id, why)
