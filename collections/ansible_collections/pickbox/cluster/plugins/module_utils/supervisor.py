# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Talks to supervisord through its Unix socket (XML-RPC, standard library only)."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from typing import Any

RUNNING_STATES = ("RUNNING", "STARTING")
"""States in which supervisord has, or is about to have, a process."""

UNREACHABLE = (OSError, http.client.HTTPException)
"""What a call raises when no supervisord answers at the socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path, self._timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, self._timeout)


def connect(path: str, timeout: float = 60.0) -> Any:
    """The ``supervisor`` namespace of the daemon that listens at the Unix socket `path`.

    Nothing is sent yet: the first call raises one of `UNREACHABLE` when nobody listens.
    """
    return xmlrpc.client.ServerProxy("http://localhost", _UnixTransport(path, timeout)).supervisor


def answers(path: str) -> bool:
    """Whether a supervisord answers at the Unix socket `path`."""
    try:
        connect(path, timeout=5.0).getState()
    except UNREACHABLE:
        return False
    return True


def tail(path: str | None, lines: int = 15) -> str:
    """The last `lines` lines of a log, to be shown beside a failure; "" when there is none."""
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])
    except OSError:
        return ""
