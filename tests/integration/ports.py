"""Ports for the nodes that tests start."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from typing import Final

_given: Final[set[int]] = set()

# The workers of pytest-xdist, gw0 to gw3, have a range each.
_RANGE: Final = 2500
_FIRST: Final = 20000 + _RANGE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to clients.

    None is given twice by one run of tests: who was given one may not have opened it yet.
    """
    found: list[int] = []
    while len(found) < count:
        port = _FIRST + secrets.randbelow(_RANGE)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            found.append(port)
    return found
