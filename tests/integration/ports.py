"""Ports for the nodes that tests start."""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import Final

_given: Final[set[int]] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to clients.

    None is given twice by one process: who was given one may not have opened it yet.
    """
    found: list[int] = []
    while len(found) < count:
        port = 20000 + secrets.randbelow(10000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            found.append(port)
    return found
