"""Links between nodes that go through this process: they can be late, narrow, stuck and cut.

On each node the addresses of the others are proxies, which go on to the real ones. A proxy's
sockets belong to the network of the node it is for, so that what cuts that network cuts them. It
knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    _Pieces = asyncio.Queue[tuple[float, bytes]]  # when each is due; an empty one is the end

_CHUNK = 16 << 10
_CHUNKS = 64
"""Taken in while the first of them is on its way; then the sender has to wait."""
_RETRANSMISSION = 0.2
_PATIENCE = 5.0
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a link is like; a perfect one, if nothing is said.

    Attributes:
        delay, jitter: seconds each way; order is kept.
        loss: share of the pieces that TCP has to send again, so that they and all behind are late.
        rate: bytes a second each way; 0 is as many as there are.
        stuck: nothing gets through, and no connection ends.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 0.0
    stuck: bool = False


PERFECT = Conditions()
DISTURBED = frozenset({"delayed", "lost", "throttled", "stuck", "cut"})
"""What is counted of pieces, and ``cut`` of connections."""


class Link:
    """What one node sends to another and what it gets back, on one port."""

    def __init__(self, listen: socket.socket, target: tuple[str, int], namespace: str) -> None:
        self.conditions = PERFECT
        self.done: Counter[str] = Counter()
        """``bytes`` and connections ``made``, and what was `DISTURBED`."""
        self._listen = listen
        self._target = target
        self._namespace = namespace
        self._transports: set[asyncio.WriteTransport] = set()
        self._rng = random.Random(f"{namespace} {target}")

    async def serve(self) -> None:
        """Carry every connection until cancelled."""
        server = await asyncio.start_server(self._carry, sock=self._listen)
        async with server:
            await server.serve_forever()

    def cut(self) -> None:
        """End every connection at once, as a reset. For the loop's thread."""
        self.done["cut"] += len(self._transports) // 2
        for transport in self._transports:
            transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            there, back = await asyncio.wait_for(self._connect(), _PATIENCE)
            ends.append(back)
            self.done["made"] += 1
            self._transports.update(end.transport for end in ends)
            async with asyncio.TaskGroup() as both:
                for source, target in ((reader, back), (there, writer)):
                    pieces: _Pieces = asyncio.Queue(_CHUNKS)
                    both.create_task(self._take(source, pieces))
                    both.create_task(self._send(pieces, target))
        except* (OSError, TimeoutError):
            pass  # one side is gone, and so is the other now
        finally:
            for end in ends:
                self._transports.discard(end.transport)
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with in_network(self._namespace):
            connection = socket.socket()
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, self._target)
        except BaseException:
            connection.close()
            raise
        return await asyncio.open_connection(sock=connection)

    async def _take(self, reader: asyncio.StreamReader, pieces: _Pieces) -> None:
        piece = b"?"
        while piece:
            piece = await reader.read(_CHUNK)
            due = asyncio.get_running_loop().time() + self._lateness()
            await pieces.put((due, piece))

    async def _send(self, pieces: _Pieces, writer: asyncio.StreamWriter) -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._hold(len(piece))
            if not piece:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
            self.done["bytes"] += len(piece)

    async def _hold(self, size: int) -> None:
        if self.conditions.stuck:
            self.done["stuck"] += 1
        while self.conditions.stuck:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # other threads say when it ends
        if self.conditions.rate:
            self.done["throttled"] += 1
            await asyncio.sleep(size / self.conditions.rate)

    def _lateness(self) -> float:
        now = self.conditions
        late = now.delay + self._rng.uniform(-now.jitter, now.jitter)
        self.done["delayed"] += late > 0
        again = _RETRANSMISSION
        while self._rng.random() < now.loss:
            late += again
            again *= 2
            self.done["lost"] += 1
        return late


class Proxies:
    """The links between some nodes, carried by a thread of their own from `start` to `stop`.

    Args:
        networks: node -> file of its network namespace.
        addresses: node -> where it listens.
        proxies: node -> the address, of every other node's loopback, under which the others
            reach it.
        ports: those that are carried.
    """

    def __init__(
        self,
        networks: dict[str, str],
        addresses: dict[str, str],
        proxies: dict[str, str],
        ports: Iterable[int],
    ) -> None:
        self._links: dict[tuple[str, str], list[Link]] = {}
        self._loop = asyncio.new_event_loop()
        for source, namespace in networks.items():
            for target in networks.keys() - {source}:
                self._links[source, target] = [
                    Link(
                        listening(namespace, proxies[target], port),
                        (addresses[target], port),
                        namespace,
                    )
                    for port in ports
                ]
        self._thread = threading.Thread(target=self._run, name="proxies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all connections and wait for the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def between(self, some: Iterable[str], others: Iterable[str]) -> list[Link]:
        """The links from any of `some` to any of `others`, and back."""
        some, others = set(some), set(others)
        pairs = {(a, b) for a in some for b in others} | {(b, a) for a in some for b in others}
        return [link for pair in sorted(pairs) for link in self._links.get(pair, [])]

    def all(self) -> list[Link]:
        return [link for links in self._links.values() for link in links]

    def cut(self, links: Iterable[Link]) -> None:
        """End all connections of `links`; new ones are carried."""
        for link in links:
            self._loop.call_soon_threadsafe(link.cut)

    def done(self) -> Counter[str]:
        """What became of all that was carried so far."""
        return sum((link.done for link in self.all()), Counter())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = [self._loop.create_task(link.serve()) for link in self.all()]
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*serving, return_exceptions=True))
        self._loop.close()


def listening(namespace: str, host: str, port: int) -> socket.socket:
    """A socket that listens in another network."""
    with in_network(namespace):
        made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(64)
    made.setblocking(False)
    return made


@contextlib.contextmanager
def in_network(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes inside belong to that network, for good (setns(2))."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(namespace: str | int) -> None:
    opened = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY)
    try:
        if _libc.setns(opened, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
    finally:
        if opened != namespace:
            os.close(opened)
