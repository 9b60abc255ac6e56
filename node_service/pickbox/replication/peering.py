"""What this node does for its peers: the other end of `pickbox.replication.peers`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO

from pickbox.errors import NoLeader
from pickbox.replication.admission import refuse_unready
from pickbox.storage.disk import naming_refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pickbox.changes import Receipt
    from pickbox.members import MemberChange
    from pickbox.replication.content import LocalContent
    from pickbox.replication.peers import Peers
    from pickbox.replication.transfer import Fetcher, TransferMetrics
    from pickbox.seams import Consensus


class Peering:
    """Implements `pickbox.seams.PeerService`.

    Args:
        level: the level that the cluster is at, as far as this node has applied it.
    """

    def __init__(
        self,
        consensus: Consensus,
        fetcher: Fetcher,
        content: LocalContent,
        metrics: TransferMetrics,
        level: Callable[[], int],
    ) -> None:
        self._consensus = consensus
        self._fetcher = fetcher
        self._content = content
        self._metrics = metrics
        self._level = level

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        """Commit a peer's command, as the leader, unless some member may not understand it."""
        refuse_unready(command, self._level())
        return self._consensus.propose(command, timeout)

    def barrier(self, timeout: float) -> int:
        """Confirm for a peer that this node leads; an index that covers all acknowledged before."""
        return self._consensus.barrier(timeout)

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        """Hand over for a peer, as the leader; never asks another node in its turn."""
        return self._consensus.transfer_leadership(target, timeout)

    def change_members(
        self, change: MemberChange, node_id: str, address: str, version: int, timeout: float
    ) -> int:
        """Change the members for a peer, as the leader."""
        return self._consensus.change_members(
            change, node_id, address=address, version=version, timeout=timeout
        )

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str, timeout: float) -> set[bytes]:
        """Fetch contents from a peer; a slow one is finished after the peer stopped waiting."""
        with naming_refusals():
            return self._fetcher.stage(wanted, source)

    def open_content(self, digest: bytes, size: int) -> BinaryIO | None:
        """Content for a peer, or None."""
        return self._content.open(digest, size)

    def sent(self, peer: str, count: int) -> None:
        """Count content that went to a peer."""
        self._metrics.transferred("sent", peer, count)


class LeaderBarrier:
    """Linearizable reads: a read index of the leader, and this node having applied it.

    The leader takes its commit index, and then has a majority confirm that it still leads, so that
    everything acknowledged before is covered (ReadIndex; Ongaro's thesis, section 6.4).
    """

    def __init__(self, node_id: str, consensus: Consensus, peers: Peers) -> None:
        self._node_id = node_id
        self._consensus = consensus
        self._peers = peers

    def __call__(self, timeout: float) -> None:
        """Return once this node has applied all that was committed before the call.

        Raises:
            NoLeader: no leader answered, or this node did not catch up, in time.
        """
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            leader = self._consensus.status().leader
            try:
                if leader is not None and self._consensus.wait_applied(
                    self._read_index(leader, min(5.0, remaining)), remaining
                ):
                    return
            except NoLeader:
                pass
            time.sleep(min(0.05, remaining))
        raise NoLeader("no leader confirmed the read in time: try again, or read locally")

    def _read_index(self, leader: str, timeout: float) -> int:
        if leader == self._node_id:
            return self._consensus.barrier(timeout)
        return self._peers.expect(leader).barrier(timeout)
