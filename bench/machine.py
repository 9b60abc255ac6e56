"""What this machine takes for the two things that a durable commit cannot do without."""

from __future__ import annotations

import os
import socket
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TIMES = 500
_ROOM = 1 << 20


def fdatasync_ms(directory: Path, size: int) -> float:
    """Median of a write of `size` bytes behind the last one, and ``fdatasync``, in `directory`."""
    descriptor = os.open(directory / "fdatasync", os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, _ROOM)
        os.fsync(descriptor)
        offset = 0

        def write() -> None:
            nonlocal offset
            os.pwrite(descriptor, b"x" * size, offset)
            os.fdatasync(descriptor)
            offset += size

        return _median_ms(write)
    finally:
        os.close(descriptor)
        os.unlink(directory / "fdatasync")


def loopback_ms(size: int) -> float:
    """Median of a round trip of `size` bytes each way over TCP, to another process."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        child = os.fork()
        if child == 0:
            _echo(listening)
            os._exit(0)
        with closing(socket.create_connection(listening.getsockname())) as connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def go_and_come() -> None:
                connected.sendall(b"x" * size)
                connected.recv(size, socket.MSG_WAITALL)

            found = _median_ms(go_and_come)
        os.waitpid(child, 0)
    return found


def _echo(listening: socket.socket) -> None:
    connected, _ = listening.accept()
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connected.recv(1 << 16):
        connected.sendall(data)


def _median_ms(action: Callable[[], None]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
