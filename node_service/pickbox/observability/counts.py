"""What the replication parts count, on the metrics of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pickbox.observability.metrics import Metrics


class ReplicationCounts:
    """Implements the small metrics protocols of `pickbox.replication`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def transferred(self, direction: str, peer: str, count: int) -> None:
        """`count` content bytes went to (``sent``) or came from (``received``) `peer`."""
        self._metrics.bytes_transferred.labels(direction=direction, peer=peer).inc(count)

    def replication_error(self, cause: str) -> None:
        """An attempt to stage, commit, fetch or place failed."""
        self._metrics.replication_errors.labels(cause=cause).inc()

    def committed(self, seconds: float) -> None:
        """A submission was answered after `seconds`."""
        self._metrics.commit_duration.observe(seconds)

    def batched(self, changes: int) -> None:
        """A command that carried `changes` was committed."""
        self._metrics.batch_changes.observe(changes)

    def placed(self, kind: str, size: int) -> None:
        """A path was brought to the catalog's version on this node's disk."""
        if kind == "delete":
            self._metrics.files_deleted.inc()
        elif kind == "file":
            self._metrics.file_replicated(size)
