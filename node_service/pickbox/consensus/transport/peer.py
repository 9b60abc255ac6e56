"""One peer: its places, its link, and the task that brings a lost link back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from typing import TYPE_CHECKING, Final

from pickbox.consensus.transport.link import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pickbox.consensus.transport.link import Link
    from pickbox.consensus.transport.resolver import Resolver

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
_LASTING: Final = 2.0
"""Seconds after which a link counts as good, and the next pause is short again."""

_GRACE: Final = 0.3
"""Seconds that the node with the lesser id leaves to the other before it dials, too."""

_CONNECT_SECONDS: Final = 2.0


class Peer:
    """For the transport's thread alone.

    Either side may dial, and tries another place each time, so that an address that is out of date
    cuts no pair off. If both dial at once, the link that the node with the greater id made stays
    (see `may_replace`).

    Args:
        introduce: takes a connected socket through the handshake; ends with `linked`.
    """

    def __init__(
        self,
        node_id: str,
        places: tuple[str, ...],
        me: str,
        resolver: Resolver,
        introduce: Callable[[socket.socket, str, Peer], Awaitable[None]],
    ) -> None:
        self.node_id = node_id
        self.places = places
        self.traffic = Traffic()
        self.link: Link | None = None
        self._dials_first = me > node_id
        self._resolver = resolver
        self._introduce = introduce
        self._unlinked = asyncio.Event()
        self._unlinked.set()
        self._ever = False
        self._misses = 0
        self._task = asyncio.get_running_loop().create_task(self._keep_linked())

    def linked(self, link: Link) -> None:
        """`link` is this peer's from now on."""
        self.link = link
        self._unlinked.clear()
        self.traffic.reconnects += self._ever
        self._ever = True

    def unlinked(self) -> None:
        self.link = None
        self._unlinked.set()

    def may_replace(self, *, dialed: bool, alive_within: float) -> bool:
        """Whether a new connection closes the one there is, if there is one.

        The exception is a second connection from the side that dials second while the first one is
        well: both sides then agree to keep the first.
        """
        if self.link is None or self.link.closed:
            return True
        first = self.link.dialed == self._dials_first
        new_first = dialed == self._dials_first
        well = time.monotonic() - self.link.heard < alive_within
        return new_first or not first or not well

    def stop(self) -> None:
        self._task.cancel()
        for place in self.places:
            self._resolver.forget(place)

    async def _keep_linked(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._unlinked.wait()
            if not self._dials_first:
                await asyncio.sleep(_GRACE * random.uniform(1.0, 2.0))  # noqa: S311 - no secret
                if not self._unlinked.is_set():
                    continue
            began = time.monotonic()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(2 * _CONNECT_SECONDS):
                    sock, address = await self._connect()
                    await self._introduce(sock, address, self)
            if self.link is None:
                self._misses += 1
            else:
                await self._unlinked.wait()
            lasted = time.monotonic() - began > _LASTING and self._ever
            pause = FIRST_PAUSE if lasted else min(LONGEST_PAUSE, 2 * pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _connect(self) -> tuple[socket.socket, str]:
        turn, at = divmod(self._misses, len(self.places))
        place = self.places[at]
        failure: OSError = ConnectionError(f"{place} has no address")
        found = await self._resolver.endpoints(place)
        first = turn % max(1, len(found))  # there is no time for all that swallow packets
        for family, endpoint in found[first:] + found[:first]:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await asyncio.get_running_loop().sock_connect(sock, endpoint)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock, f"{endpoint[0]}:{endpoint[1]}"
        raise failure
