"""Stands in for systemd: the socket of sd_notify(3), and what a node said to it."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Self


class Notifications:
    """A datagram socket at `address` (a path, or @ and an abstract name).

    Attributes:
        heard: all lines so far, such as ``READY=1``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._unread: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def next(self, seconds: float = 30.0) -> list[str]:
        """The lines of the next message; `TimeoutError` if none comes."""
        self._unread.clear()
        self._socket.settimeout(seconds)
        lines = self._socket.recv(1 << 16).decode().split("\n")
        self.heard += lines
        return lines

    def until(self, start: str, seconds: float = 30.0) -> str:
        """The next line that begins with `start`."""
        deadline = time.monotonic() + seconds
        while True:
            while self._unread:
                if (line := self._unread.pop(0)).startswith(start):
                    return line
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{start} was not said; heard was {self.heard}")
            self._unread = self.next(left)

    def fill(self) -> None:
        """Leave no room for another message, until some are read."""
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd,
            contextlib.suppress(BlockingIOError),
        ):
            crowd.setblocking(False)
            while True:
                crowd.sendto(b"", self._socket.getsockname())

    def drain(self) -> None:
        """Take all that has come."""
        self._unread.clear()
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self._socket.recv(1 << 16).decode().split("\n")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
