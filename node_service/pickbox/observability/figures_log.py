"""The main figures of a node in its log, for those who have the log and no metrics."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.status import NodeStatus

log = logging.getLogger(__name__)

EVERY: Final = 30.0
"""Seconds between two lines."""


class FiguresLog:
    """Logs the event ``figures`` in a thread of its own, until `stopped` is set.

    Args:
        ask: what the node is like now.
        seconds: between two lines.
    """

    def __init__(
        self, ask: Callable[[], NodeStatus], stopped: threading.Event, seconds: float = EVERY
    ) -> None:
        self._ask = ask
        self._stopped = stopped
        self._seconds = seconds

    def start(self) -> None:
        """Begin; the first line comes after `seconds`."""
        threading.Thread(target=self._run, name="figures", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                log.info("figures", extra={"fields": _fields(self._ask())})
            except Exception as error:  # the disk, say: the checks of /health say more of it
                log.warning("figures_unknown", extra={"fields": {"why": str(error)}})


def _fields(node: NodeStatus) -> dict[str, object]:
    figures = node.figures
    return {
        "role": node.role,
        "leader": node.leader,
        "term": node.term,
        "applied_index": node.applied_index,
        "lag": node.lag,
        "ready": node.ready,
        "files": figures.files,
        "bytes": figures.bytes,
        "files_replicated": figures.files_replicated,
        "files_deleted": figures.files_deleted,
        "bytes_replicated": figures.bytes_replicated,
        "replication_errors": figures.replication_errors,
        "replication_seconds_avg": round(figures.replication_seconds_avg, 3),
        "pending": figures.pending,
        "conflicts": figures.conflicts,
        "memory_bytes": figures.memory_bytes,
        "disk_free_bytes": figures.disk_free_bytes,
        "uptime_seconds": round(figures.uptime_seconds),
    }
