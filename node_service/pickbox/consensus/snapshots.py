"""Snapshots on their way: sent to peers that the log reaches no more, and taken in there.

Raft (Ongaro, Ousterhout 2014), section 7. A snapshot travels in chunks, one at a time; the receiver
says from which offset it goes on, so that neither a lost link nor a restart begins anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from pickbox.consensus.configuration import Configuration, InvalidConfiguration
from pickbox.consensus.messages import SnapshotChunk, SnapshotReply
from pickbox.consensus.snapshot_store import (
    OTHER_BYTES,
    Snapshot,
    SnapshotDamaged,
    SnapshotStore,
    blocks,
)
from pickbox.failpoints import failpoint
from pickbox.levels import WrongRelease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pickbox.consensus.appending import Peer
    from pickbox.consensus.library import LibraryNode
    from pickbox.consensus.log.disk import DiskFile
    from pickbox.consensus.messages import Message

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 256 << 10
_RESEND_SECONDS: Final = 1.0
_SYNC_EVERY: Final = 8 << 20
_REST_SECONDS: Final = 10.0
"""After a snapshot was found to be damaged: until then there may be a new one."""


@dataclass(slots=True)
class _Transfer:
    """A snapshot on its way to one peer. `offset` is unknown until the peer has said it."""

    snapshot: Snapshot
    file: DiskFile | None = None
    offset: int | None = None
    sent_at: float = float("-inf")
    _hash: Any = field(default_factory=hashlib.sha256)
    _hashed: int = 0

    def read(self, offset: int) -> bytes:
        """The chunk at `offset`.

        Raises:
            OSError: it cannot be read.
            SnapshotDamaged: it is not what was written. This is noticed at the last chunk at the
                latest, if the transfer began with the first one.
        """
        assert self.file is not None
        data = self.file.read(offset, _CHUNK_BYTES)
        if offset == self._hashed:
            self._hash.update(data)
            self._hashed += len(data)
        whole = self._hashed >= self.snapshot.size
        if whole and self._hash.digest() != self.snapshot.digest:
            raise SnapshotDamaged(OTHER_BYTES)
        if not data and offset < self.snapshot.size:
            raise SnapshotDamaged("it ends too early")
        return data


class SendingCore(Protocol):
    """What the sender needs of the core."""

    @property
    def term(self) -> int: ...
    def now(self) -> float: ...
    def send(self, node_id: str, message: Message) -> bool: ...
    def request_snapshot(self) -> None: ...
    def step_aside(self) -> None: ...
    def post(self, call: Callable[[], None]) -> None: ...


class SnapshotSender:
    """The leader's side."""

    def __init__(self, node: SendingCore, store: SnapshotStore) -> None:
        self._node = node
        self._store = store
        self._transfers: dict[str, _Transfer] = {}
        self._rests_until = float("-inf")

    def serve(self, peer_id: str, peer: Peer, round_: int) -> None:
        """A heartbeat is due, or the peer was just found to be behind the log."""
        snapshot = self._store.latest
        if snapshot is None:
            return
        peer.paused = True
        transfer = self._transfers.get(peer_id) or self._begin(peer_id, snapshot)
        self._send(peer_id, transfer, round_, b"")

    def _begin(self, peer_id: str, snapshot: Snapshot) -> _Transfer:
        """One that cannot be read is not under way: the peer hears heartbeats, and no more."""
        transfer = _Transfer(snapshot)
        if self._node.now() < self._rests_until or not self._store.covered:
            return transfer
        try:
            transfer.file = self._store.open(snapshot)
        except OSError as error:
            self._rest(snapshot, error)
            return transfer
        self._transfers[peer_id] = transfer
        fields = {"peer": peer_id, "index": snapshot.index, "bytes": snapshot.size}
        log.info("snapshot_transfer_started", extra={"fields": fields})
        return transfer

    def _rest(self, snapshot: Snapshot, error: Exception) -> None:
        """Have another snapshot made, for the state itself is well, and another node lead.

        That one may have what the peer needs. If none can lead, this node does, and sends nothing
        for a while.
        """
        fields = {"path": self._store.data_path(snapshot), "why": str(error)}
        log.error("snapshot_not_sent", extra={"fields": fields})
        if snapshot is not self._store.latest:
            return  # the next transfer takes that
        self._rests_until = self._node.now() + _REST_SECONDS
        self._store.distrust(snapshot)
        self._node.request_snapshot()
        self._node.post(self._node.step_aside)

    def on_reply(self, peer_id: str, peer: Peer, reply: SnapshotReply, round_: int) -> None:
        """Send the next chunk from where the peer says that it goes on."""
        transfer = self._transfers.get(peer_id)
        if transfer is None or reply.index != transfer.snapshot.index:
            return
        if reply.installed:
            log.info("snapshot_transfer_done", extra={"fields": {"peer": peer_id}})
            self.forget(peer_id)
            peer.probe_from(reply.index + 1)
            peer.accepted(reply.index)
            return
        if transfer.offset is not None and reply.offset < transfer.offset:
            self.forget(peer_id)  # it was discarded there: begin anew, with the newest
            return
        waited = self._node.now() - transfer.sent_at
        if reply.offset == transfer.offset and waited < _RESEND_SECONDS:
            return  # the chunk at this offset is on its way
        try:
            data = transfer.read(reply.offset)
        except (OSError, SnapshotDamaged) as error:
            self.forget(peer_id)
            self._rest(transfer.snapshot, error)
            return
        transfer.offset, transfer.sent_at = reply.offset, self._node.now()
        self._send(peer_id, transfer, round_, data)

    def _send(self, peer_id: str, transfer: _Transfer, round_: int, data: bytes) -> None:
        snapshot = transfer.snapshot
        chunk = SnapshotChunk(
            self._node.term,
            snapshot.index,
            snapshot.term,
            snapshot.machine_index,
            snapshot.configuration.encode(),
            snapshot.size,
            snapshot.digest,
            transfer.offset or 0,
            data,
            round_,
        )
        self._node.send(peer_id, chunk)

    def forget(self, peer_id: str) -> None:
        transfer = self._transfers.pop(peer_id, None)
        if transfer is not None and transfer.file is not None:
            transfer.file.close()

    def forget_all(self) -> None:
        for peer_id in list(self._transfers):
            self.forget(peer_id)


class Installation(Protocol):
    """What the core does with a snapshot that has come whole."""

    def take_in(self, snapshot: Snapshot) -> None:
        """Make the state machine and the log continue from `snapshot`, which is installed.

        Raises if either cannot; nothing is acknowledged then, and the node must stop. After
        `WrongRelease` it need not: all is as it was.
        """

    def stand_aside(self, why: str) -> None:
        """Lead no more, and serve nothing."""


class SnapshotReceiver:
    """The follower's side. A snapshot is acknowledged when the state machine has it, durably."""

    def __init__(self, node: LibraryNode, store: SnapshotStore, core: Installation) -> None:
        self._node = node
        self._store = store
        self._core = core
        self._digest = b""
        self._file: DiskFile | None = None
        self._hash = hashlib.sha256()
        self._offset = 0
        self._unsynced = 0
        self._understood = True

    def on_chunk(self, leader: str, chunk: SnapshotChunk) -> None:
        """Take a chunk in if it is the next, and say where to go on. The term was seen to.

        What this release did not understand it will not the next time: it is not sent again.
        """
        if not self._understood:
            return
        installed = chunk.index <= self._node.commit_index
        offset = chunk.size
        if not installed:
            try:
                installed = self._receive(chunk)
                offset = self._offset
            except OSError as error:
                log.error("snapshot_refused_by_disk", extra={"fields": {"why": str(error)}})
                self.abandon()
                return  # unanswered: the leader asks again with its next heartbeat
        reply = SnapshotReply(chunk.term, chunk.index, offset, installed, chunk.round)
        self._node.send_after_sync(leader, reply)

    def _receive(self, chunk: SnapshotChunk) -> bool:
        """Write what is new; whether the snapshot is whole and installed."""
        if chunk.digest != self._digest or self._file is None:
            self._open(chunk.digest)
        assert self._file is not None
        if chunk.offset == self._offset and chunk.data:
            self._file.write(self._offset, chunk.data)
            self._hash.update(chunk.data)
            self._offset += len(chunk.data)
            self._sync_now_and_then(len(chunk.data))
            failpoint("snapshot_receive_mid")
        if self._offset < chunk.size:
            return False
        return self._finish(chunk)

    def _open(self, digest: bytes) -> None:
        """Go on with what is there of this snapshot, from an earlier link or process."""
        self.abandon()
        self._digest = digest
        self._file = self._store.open_scratch(self._path)
        self._hash = hashlib.sha256()
        for block in blocks(self._file):
            self._hash.update(block)
            self._offset += len(block)

    @property
    def _path(self) -> str:
        return self._store.scratch_path(f"incoming-{self._digest.hex()[:32]}")

    def _sync_now_and_then(self, written: int) -> None:
        self._unsynced += written
        if self._unsynced >= _SYNC_EVERY and self._file is not None:
            self._unsynced = 0
            with self._synced_or_gone(self._path):
                self._file.sync()

    @contextlib.contextmanager
    def _synced_or_gone(self, path: str) -> Iterator[None]:
        """After a sync that failed, the kernel may say yes the second time to pages it dropped."""
        try:
            yield
        except OSError:
            self._store.discard(path)
            raise

    def _finish(self, chunk: SnapshotChunk) -> bool:
        path, whole = self._path, self._hash.digest()
        self.abandon()
        try:
            members = Configuration.decode(chunk.configuration)
        except InvalidConfiguration as error:
            return self._discard(path, str(error))
        if whole != chunk.digest or self._store.measure(path) != (chunk.size, chunk.digest):
            return self._discard(path, "its SHA-256 is not the one that the leader gave")
        snapshot = Snapshot(
            chunk.index, chunk.index_term, chunk.machine_index, members, chunk.size, chunk.digest
        )
        with self._synced_or_gone(path):
            self._store.install(path, snapshot)
        try:
            self._core.take_in(snapshot)
        except WrongRelease as error:
            self._understood = False
            self._core.stand_aside(str(error))
        return self._understood

    def _discard(self, path: str, why: str) -> bool:
        log.error("snapshot_discarded", extra={"fields": {"why": why}})
        self._store.discard(path)
        return False

    def abandon(self) -> None:
        """Close what is half received; it is kept to go on with."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file, self._digest, self._offset, self._unsynced = None, b"", 0, 0
