"""Tells systemd how the node is: ready, stopping, alive, and one line of status.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` lines to the Unix socket that
``NOTIFY_SOCKET`` names. Without that variable nothing is told, and nothing here costs anything.

READY=1 says that the node has joined: it has a leader, and its folder is open. Nodes that start
one after the other wait for each other, so each is to be started without waiting for it
(``systemctl start --no-block``), or all at once; ``TimeoutStartSec=`` is how long a node may wait
for the others. A node that has a leader and still has work to do on its folder asks for more time.
A node that waits to be added to a cluster is ready: nobody can add it before it runs.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.status import Joining

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = logging.getLogger(__name__)

_READY: Final = "READY=1"

_UNTIL_JOINED: Final = 0.2
_AFTERWARDS: Final = 1.0
"""Seconds between two looks at the node."""

_MORE_TIME: Final = 30.0
"""Seconds asked for while the folder is worked on: many looks, so that one that is late is none."""

_PATIENCE: Final = 0.5
"""Seconds that one who reads slowly is waited for; for one that hangs nothing here may wait."""

_LOOKS_A_BEAT: Final = 10
"""A node that stalls for a moment at the time of a sign of life gives it a moment later."""


class Supervised(Protocol):
    """What is told of: a node."""

    def live(self) -> bool:
        """Whether the node's own threads still turn."""

    def joining(self) -> Joining:
        """How far the node is with its start."""

    def summary(self) -> str:
        """How the node is, in a sentence."""


class ServiceManager:
    """Whoever runs this process, if it listens to sd_notify(3); else every method does nothing.

    Args:
        address: of the socket, as in ``NOTIFY_SOCKET``; empty if nobody listens.
        watchdog: seconds after which it takes a silent process for hung; 0 if never.
    """

    def __init__(self, address: str, watchdog: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog if address else 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Of the kernel: Python's own polls, and poll says of a full queue that it has room.
        patience = struct.pack("@ll", 0, int(_PATIENCE * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._refused = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """What the variables say, which are removed: they are not meant for children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        meant = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        if address and address[0] not in "/@":
            fields = {"found": address, "allowed": "a path or a name that begins with @"}
            log.warning("notify_socket_unknown", extra={"fields": fields})
            address = ""
        return cls(address, int(microseconds) / 1e6 if microseconds.isdigit() and meant else 0.0)

    def follow(self, node: Supervised) -> None:
        """Tell of `node` from now on, in threads of their own."""
        if not self._address:
            return
        threading.Thread(target=self._tell, args=(node,), name="sd-notify", daemon=True).start()
        if self._watchdog:  # on its own: what else there is to tell may have to be waited for
            threading.Thread(target=self._beat, args=(node,), name="watchdog", daemon=True).start()

    def stopping(self, failure: str) -> None:
        """Say that the node stops; nothing else is said of it afterwards, but that it lives."""
        why = f"failed: {failure}" if failure else "stopping"
        with self._lock:
            self._stopping.set()
            self._send("STOPPING=1", f"STATUS={_line(why)}")

    def _tell(self, node: Supervised) -> None:
        ready, told = False, ""
        while not self._stopping.wait(_AFTERWARDS if ready else _UNTIL_JOINED):
            lines: list[str] = []
            try:
                joining = Joining() if ready else node.joining()
                if not ready:
                    lines += _progress(joining, live=node.live())
                status = f"STATUS={_line(joining.reason or node.summary())}"
            except Exception as error:  # the disk, say: the checks of /health say more of it
                status = f"STATUS={_line(f'its state is not known: {error}')}"
            if status != told:
                lines.append(status)
            with self._lock:
                if lines and not self._stopping.is_set() and self._send(*lines):
                    ready, told = ready or _READY in lines, status

    def _beat(self, node: Supervised) -> None:
        """Give signs of life in time: twice as often as they are asked for."""
        interval = self._watchdog / 2
        due = time.monotonic()
        while True:
            # How long a stop may take is bounded elsewhere.
            alive = time.monotonic() >= due and (self._stopping.is_set() or node.live())
            if alive and self._send("WATCHDOG=1"):
                due = time.monotonic() + interval
            time.sleep(interval / _LOOKS_A_BEAT)

    def _send(self, *lines: str) -> bool:
        """Whether it was heard; what was not is to be said again, if it still holds."""
        if not self._address:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            known, self._refused = self._refused, True
            if not known:
                fields = {"why": error.strerror or str(error)}
                log.warning("notify_socket_unusable", extra={"fields": fields})
            return False
        self._refused = False
        return True


def _progress(joining: Joining, *, live: bool) -> list[str]:
    if not joining.reason:
        return [_READY, f"MAINPID={os.getpid()}"]
    if joining.needs_time and live:
        return [f"EXTEND_TIMEOUT_USEC={int(_MORE_TIME * 1e6)}"]
    return []


def _line(text: str) -> str:
    return " ".join(text.split())
