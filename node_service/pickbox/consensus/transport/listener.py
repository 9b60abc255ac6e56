"""The listening socket, and a bound on those who have not said who they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

from pickbox.consensus.transport.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pickbox.consensus.transport.refusals import Refusals

log = logging.getLogger(__name__)

MAX_STRANGERS: Final = 256
"""Connections that may be open before their other side is known. One more closes the oldest of the
address that has most: who is quick, as a member is, gets in even while strangers pour in."""

PATIENCE: Final = 5.0
"""Seconds a stranger has to say who it is."""

_BACKLOG: Final = 1024
_ACCEPTS_A_TURN: Final = 32
_OUT_OF_DESCRIPTORS_PAUSE: Final = 0.2


def bind(host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listening.setblocking(False)
    return listening


class Listener:
    """Accepts, and runs `serve(socket, address)` for each connection as a task of its own.

    `serve` closes the socket or hands it on. It is cancelled after `PATIENCE`, or to make room.
    """

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket, str], Awaitable[None]],
        refusals: Refusals,
    ) -> None:
        self._listening = listening
        self._serve = serve
        self._refusals = refusals
        self._strangers: dict[asyncio.Task[None], str] = {}
        self._by_host: Counter[str] = Counter()

    @property
    def strangers(self) -> int:
        """Connections whose other side is not known yet."""
        return len(self._strangers)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; drop who is not known yet."""
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self._listening.close()
        for task in list(self._strangers):
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._take_in(sock, str(address[0]), f"{address[0]}:{address[1]}")

    def _rest(self, error: OSError) -> None:
        """The process has no descriptor left: connections wait in the kernel meanwhile."""
        log.error("cannot_accept", extra={"fields": {"why": error.strerror}})
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening.fileno())
        loop.call_later(_OUT_OF_DESCRIPTORS_PAUSE, self._accept_again)

    def _accept_again(self) -> None:
        if self._listening.fileno() >= 0:
            self.start()

    def _take_in(self, sock: socket.socket, host: str, address: str) -> None:
        if len(self._strangers) >= MAX_STRANGERS:
            self._drop_one()
        task = asyncio.get_running_loop().create_task(self._within_patience(sock, address))
        self._strangers[task] = host
        self._by_host[host] += 1
        task.add_done_callback(self._known)
        # A task that is cancelled before its first step never saw the socket.
        task.add_done_callback(lambda done: sock.close() if done.cancelled() else None)

    def _drop_one(self) -> None:
        most = self._by_host.most_common(1)[0][0]
        oldest = next(task for task, host in self._strangers.items() if host == most)
        oldest.cancel()
        self._known(oldest)
        self._refusals.add("peer_refused", Refused("too_many_strangers", most), most)

    def _known(self, task: asyncio.Task[None]) -> None:
        host = self._strangers.pop(task, None)
        if host is None:
            return
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]

    async def _within_patience(self, sock: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._serve(sock, address)
        except TimeoutError:
            source = address.rpartition(":")[0]
            self._refusals.add("peer_refused", Refused("too_slow", source), address)
        except Refused as refused:
            self._refusals.add("peer_refused", refused, address)
        except OSError:
            self._refusals.by_cause["connection_lost"] += 1
