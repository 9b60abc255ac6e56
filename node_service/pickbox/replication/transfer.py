"""Moving content between nodes: fetched by digest, resumed, verified, fsynced."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.changes import Kind, Put
from pickbox.errors import DiskFull, NotStaged
from pickbox.replication.peers import PeerError
from pickbox.replication.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from pickbox.members import Members
    from pickbox.replication.content import LocalContent
    from pickbox.replication.peers import Peer, Peers
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import StagedWriter, Staging

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 0.2
_AT_ONCE: Final = 4

ANSWER_SECONDS: Final = 1800.0
"""For how long a node that said so counts as a holder: half of what it then keeps content for, so
that it has it still when the change is committed."""

_Said = dict[bytes, dict[str, float]]
"""Digest -> node -> when it said that it holds the content."""


class TransferMetrics(Protocol):
    """What a transfer counts."""

    def transferred(self, direction: str, peer: str, count: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...


class Fetcher:
    """Brings content from peers into staging."""

    def __init__(
        self,
        peers: Peers,
        staging: Staging,
        content: LocalContent,
        disk: DiskGuard,
        metrics: TransferMetrics,
    ) -> None:
        self._peers = peers
        self._staging = staging
        self._content = content
        self._disk = disk
        self._metrics = metrics
        self._under_way: dict[bytes, threading.Lock] = {}
        self._under_way_lock = threading.Lock()

    def fetch(self, digest: bytes, size: int, sources: Iterable[str]) -> bool:
        """Get one content from the first of `sources` that has it; True once it is durable here.

        Raises:
            DiskFull: there is no room for it; what came of it stays, and the next fetch goes on.
        """
        with self._one_at_a_time(digest):
            self._staging.touch(digest)  # whoever asks counts on it from now on
            if self._content.has(digest, size):
                return True
            self._disk.check(max(0, size - self._staging.begun(digest)))
            for node_id in sources:
                peer = self._peers.get(node_id)
                if peer is not None and self._fetch_from(peer, digest, size):
                    return True
            return False

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str) -> set[bytes]:
        """Get contents from node `source`; return the digests that are durable here now."""
        return {digest for digest, size in wanted if self.fetch(digest, size, (source,))}

    @contextmanager
    def _one_at_a_time(self, digest: bytes) -> Iterator[None]:
        """Staging and placement may want one content at once; it is to cross the network once."""
        with self._under_way_lock:
            lock = self._under_way.setdefault(digest, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._under_way_lock:
                if not lock.locked():
                    self._under_way.pop(digest, None)

    def _fetch_from(self, peer: Peer, digest: bytes, size: int) -> bool:
        """Resume or start a download; a content that is not what its digest says is thrown away."""
        try:
            with self._staging.resume(digest) as part:
                if part.size > size:
                    part.discard()
                    return False
                self._download(peer, part, digest, size)
                if part.size != size or part.digest != digest:
                    self._metrics.replication_error("digest_mismatch")
                    part.discard()
                    return False
                part.keep(fsync=True)
                return True
        except PeerError as error:
            log.debug("fetch_failed", extra={"fields": {"peer": peer.node_id, "why": str(error)}})
            return False

    def _download(self, peer: Peer, part: StagedWriter, digest: bytes, size: int) -> None:
        """Append the rest of a content to `part`; leave no empty file where none of it came."""
        try:
            with peer.content(digest, size, part.size) as chunks:
                for chunk in chunks:
                    self._disk.check(len(chunk))  # others take of the same room meanwhile
                    part.write(chunk)
                    self._metrics.transferred("received", peer.node_id, len(chunk))
        except (PeerError, DiskFull):
            if part.size == 0:
                part.discard()
            raise


class Stager:
    """Makes content durable on a majority of the voters before its change is proposed.

    Args:
        node_id: this node; it holds what it stages.
        members: who is in force now.
        staging: where most of that is; some is in the folder.
    """

    def __init__(
        self,
        node_id: str,
        members: Callable[[], Members],
        peers: Peers,
        staging: Staging,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._node_id = node_id
        self._members = members
        self._peers = peers
        self._staging = staging
        self._under_way: Counter[bytes] = Counter()
        self._under_way_lock = threading.Lock()
        # One for each, so that a peer that hangs keeps nobody from asking the others.
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._pools_lock = threading.Lock()
        self._repeats = Repeats()
        self._stopping = threading.Event()

    def stage(self, puts: Sequence[Put], timeout: float) -> dict[bytes, tuple[str, ...]]:
        """Have peers fetch the content of `puts` from here until a majority holds each.

        Returns:
            Digest -> ids of the nodes that hold it.

        Raises:
            NotStaged: no majority held everything in time.
        """
        wanted = {put.digest: put.size for put in puts if needs_staging(put)}
        with self._kept_here(list(wanted)):
            return self._until_on_majority(wanted, timeout)

    def is_under_way(self, digest: bytes) -> bool:
        """Whether peers are to fetch this content from here, however long ago it came."""
        with self._under_way_lock:
            return digest in self._under_way

    @contextmanager
    def _kept_here(self, digests: Collection[bytes]) -> Iterator[None]:
        """Have no sweep take them here, neither within nor while their change is committed."""
        with self._under_way_lock:
            self._under_way.update(digests)
        try:
            yield
        finally:
            for digest in digests:
                self._staging.touch(digest)
            with self._under_way_lock:
                self._under_way.subtract(digests)
                self._under_way = +self._under_way  # only what others still stage

    def _until_on_majority(
        self, wanted: dict[bytes, int], timeout: float
    ) -> dict[bytes, tuple[str, ...]]:
        said: _Said = {digest: {} for digest in wanted}
        deadline = time.monotonic() + timeout
        while not self._on_majority(said):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._stopping.is_set():
                members = self._members()
                raise NotStaged(
                    f"{members.quorum} of {len(members.voters)} voters must hold the content "
                    "before it is committed, and not enough answered in time: check the other nodes"
                )
            if not self._ask_peers(wanted, said, remaining):
                self._stopping.wait(min(_RETRY_SECONDS, remaining))
        return {digest: tuple(sorted(self._holders(when))) for digest, when in said.items()}

    def _on_majority(self, said: _Said) -> bool:
        """Whether each content is on a majority of the voters of this moment."""
        members = self._members()
        voters = set(members.voters)
        return all(len(self._holders(when) & voters) >= members.quorum for when in said.values())

    def _holders(self, when: dict[str, float]) -> set[str]:
        """Who holds a content now: this node, and who said so not too long ago."""
        oldest = self._clock() - ANSWER_SECONDS
        return {self._node_id, *(node_id for node_id, at in when.items() if at >= oldest)}

    def _ask_peers(self, wanted: dict[bytes, int], said: _Said, timeout: float) -> bool:
        """Ask every peer at once; return as soon as each content is on a majority."""
        with self._pools_lock:
            if self._stopping.is_set():
                return False
            asked = {
                self._pool(peer.node_id).submit(
                    peer.stage, list(wanted.items()), self._node_id, timeout
                ): peer.node_id
                for peer in self._peers
            }
        try:
            for answer in as_completed(asked, timeout):
                for digest in self._held(answer, asked[answer]) & said.keys():
                    said[digest][asked[answer]] = self._clock()
                if self._on_majority(said):
                    return True
        except TimeoutError:
            pass
        finally:
            for answer in asked:
                answer.cancel()
        return False

    def _pool(self, node_id: str) -> ThreadPoolExecutor:
        """The caller holds the lock."""
        if node_id not in self._pools:
            self._pools[node_id] = ThreadPoolExecutor(
                _AT_ONCE, thread_name_prefix=f"stage-{node_id}"
            )
        return self._pools[node_id]

    def _held(self, answer: Future[set[bytes]], node_id: str) -> set[bytes]:
        try:
            return answer.result()
        except PeerError as error:
            if times := self._repeats.to_tell(node_id):
                fields = {"peer": node_id, "why": str(error), "times": times}
                log.info("stage_failed", extra={"fields": fields})
            return set()

    def stop(self) -> None:
        """Give up what is under way, and stage nothing more."""
        with self._pools_lock:
            self._stopping.set()
            for pool in self._pools.values():
                pool.shutdown(wait=False, cancel_futures=True)


def needs_staging(put: Put) -> bool:
    """Whether a put's content must be on a majority before it is proposed."""
    return put.kind is Kind.FILE and put.inline is None and put.size > 0
