"""Whether all nodes have the same state: hashes at the same index, compared by the leader."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pickbox.consensus.configuration import Configuration

log = logging.getLogger(__name__)

_INDEXES_KEPT: Final = 16


FILE: Final = "raft/diverged"


class NodeDiverged(Exception):
    """The node's state was not what the majority had; the text says what to do."""


def refuse_if_diverged(data_dir: Path) -> None:
    """See that this node was not found to differ, in this life of it or an earlier one.

    Raises:
        NodeDiverged: it was.
    """
    marker = data_dir / FILE
    if marker.exists():
        found = marker.read_text().strip()
        raise NodeDiverged(
            f"the catalog of this node is not what the majority has ({found}), and neither "
            "are its snapshots: keep the data directory for whoever looks for the "
            "cause, remove the node from the members, and add it again with an empty one"
        )


def note_divergence(data_dir: Path, index: int) -> None:
    """Remember, durably, that the state after entry `index` differed."""
    marker = data_dir / FILE
    marker.write_text(f"found after log entry {index}\n")
    descriptor = os.open(marker, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Divergence:
    """What each node's state hashed to, as this leader has heard."""

    def __init__(self) -> None:
        self._reports: dict[int, dict[str, bytes]] = defaultdict(dict)
        self._told: set[tuple[int, str]] = set()
        self._news = False

    def forget(self) -> None:
        """A new leadership begins."""
        self._reports.clear()
        self._told.clear()

    def report(self, node_id: str, index: int, state_hash: bytes) -> None:
        """`node_id` had `state_hash` after entry `index`."""
        if self._reports[index].get(node_id) == state_hash:
            return
        self._reports[index][node_id] = state_hash
        self._news = True
        while len(self._reports) > _INDEXES_KEPT:
            oldest = min(self._reports)
            del self._reports[oldest]
            self._told = {(i, n) for i, n in self._told if i != oldest}

    def found(self, configuration: Configuration) -> Iterable[tuple[str, int]]:
        """Nodes that differ from the majority, each once per index.

        When all voters have spoken and no state has a majority, nobody can say who is right: then
        all of them differ.
        """
        if not self._news:
            return
        self._news = False
        for index, reports in self._reports.items():
            voters = {n: h for n, h in reports.items() if n in configuration.voters}
            if not voters:
                continue
            right, count = Counter(voters.values()).most_common(1)[0]
            if count < configuration.majority:
                if len(voters) < len(configuration.voters):
                    continue
                right = b""
            for node_id, state_hash in sorted(reports.items()):
                if state_hash != right and (index, node_id) not in self._told:
                    self._told.add((index, node_id))
                    fields = {"node": node_id, "index": index}
                    log.error("state_diverged", extra={"fields": fields})
                    yield node_id, index
