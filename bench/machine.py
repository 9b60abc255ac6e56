"""What this machine takes for the things that a durable commit cannot do without."""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_TIMES = 500
_ROOM = 1 << 20


def fdatasync_ms(directory: Path, size: int) -> float:
    """Median of a write of `size` bytes behind the last one, and ``fdatasync``, in `directory`."""
    path = directory / "fdatasync"
    try:
        return _median_ms(_durable_write(path, size))
    finally:
        path.unlink()


def loopback_ms(size: int) -> float:
    """Median of a round trip of `size` bytes each way over TCP, to another process."""
    with _child(_echo) as connected:

        def go_and_come() -> None:
            connected.sendall(b"x" * size)
            connected.recv(size, socket.MSG_WAITALL)

        return _median_ms(go_and_come)


def bare_commit_ms(directory: Path, size: int) -> float:
    """Median of one durable commit of three members without anything that makes it consensus.

    Client, leader and two followers are processes; who gets `size` bytes writes and syncs them, as
    in `fdatasync_ms`, the leader at the same time as its followers. It answers the client when it
    and one follower have them. No checks, no encryption, no terms: what four processes of this
    language cost on these cores.
    """
    with ExitStack() as stack:
        followers = [
            stack.enter_context(_child(_follow, directory / f"follower{n}", size)) for n in (1, 2)
        ]
        leader = stack.enter_context(_child(_lead, directory / "leader", size, followers))

        def commit() -> None:
            leader.sendall(b"x" * size)
            leader.recv(1)

        return _median_ms(commit)


def _follow(upstream: socket.socket, path: Path, size: int) -> None:
    write = _durable_write(path, size)
    while upstream.recv(size, socket.MSG_WAITALL):
        write()
        upstream.sendall(b"a")


def _lead(client: socket.socket, path: Path, size: int, followers: Sequence[socket.socket]) -> None:
    write = _durable_write(path, size)
    with selectors.DefaultSelector() as selector:
        for follower in followers:
            selector.register(follower, selectors.EVENT_READ)
        owed = 0
        while data := client.recv(size, socket.MSG_WAITALL):
            for follower in followers:
                follower.sendall(data)
            owed += len(followers)
            write()
            # The slower follower's answer to this commit is taken with the next one's.
            while owed >= len(followers):
                for key, _ in selector.select():
                    owed -= len(key.fileobj.recv(64))
            client.sendall(b"c")


@contextmanager
def _child(work: Callable[..., None], *args: object) -> Iterator[socket.socket]:
    """A connection over loopback to a process that does `work` with its end of it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        child = os.fork()
        if child == 0:
            accepted, _ = listening.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            work(accepted, *args)
            os._exit(0)
        with closing(socket.create_connection(listening.getsockname())) as connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connected
            connected.shutdown(socket.SHUT_RDWR)
        os.waitpid(child, 0)


def _durable_write(path: Path, size: int) -> Callable[[], None]:
    """A function that appends `size` bytes to a file with room, and syncs them."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(descriptor, 0, _ROOM)
    os.fsync(descriptor)
    offset = 0

    def write() -> None:
        nonlocal offset
        os.pwrite(descriptor, b"x" * size, offset)
        os.fdatasync(descriptor)
        offset += size

    return write


def _echo(connected: socket.socket) -> None:
    while data := connected.recv(1 << 16):
        connected.sendall(data)


def _median_ms(action: Callable[[], None]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
