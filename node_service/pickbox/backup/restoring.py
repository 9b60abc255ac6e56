"""Taking a restored point in: its entries become ordinary changes of the running cluster.

Nothing of the catalog is put back as it was: versions and the log's index are the cluster's own and
only grow. What a restored file replaces is kept in ``versions/`` as at every write. Each content is
read and must have its digest before anything is proposed of it.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pickbox.backup.manifest import PointDamaged, is_within, place_of, read_entries, read_manifest
from pickbox.changes import Kind, OnStale, Put, Status
from pickbox.errors import NoLeader, NotFound, NotReady, NotStaged, OutcomeUnknown, PathTaken
from pickbox.replication.transfer import needs_staging
from pickbox.storage.digest import READ_BYTES, digest_bytes
from pickbox.storage.disk import naming_refusals, sync_filesystem
from pickbox.storage.paths import display, to_json
from pickbox.storage.tree import FileTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from pickbox.changes import Entry, Outcome
    from pickbox.replication.proposer import Proposer
    from pickbox.storage.catalog import Catalog
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import Staging

_COMMAND_BYTES: Final = 256 << 10
_STAGED_BYTES: Final = 64 << 20
_CHANGES: Final = 128
_AT_ONCE: Final = 4
_TRIES: Final = 5
_TIMEOUT: Final = 60.0
_SLOWEST: Final = 4 << 20
_SHOWN: Final = 20


@dataclass(slots=True)
class Restored:
    """What became of the entries of a point."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)

    def add(self, put: Put, outcome: Outcome) -> None:
        """Count what became of `put`; the first refusals are named."""
        done = outcome.status in (Status.APPLIED, Status.UNCHANGED)
        self.counts[outcome.status.value if done else "refused"] += 1
        self.bytes += put.size if done else 0
        if not done and len(self.refused) < _SHOWN:
            self.refused.append({**to_json(put.path), "reason": outcome.reason or outcome.status})

    def document(self) -> dict[str, Any]:
        """For the answer."""
        return {
            "applied": self.counts["applied"],
            "unchanged": self.counts["unchanged"],
            "refused": self.counts["refused"],
            "refusals": self.refused,
            "bytes": self.bytes,
        }


class Restorer:
    """Takes restored points in.

    Args:
        is_placed: whether the folder has a content, by its digest.
        barrier: waits until this node has applied all that was committed.
        inline_limit: size up to which content travels in the log.
    """

    def __init__(
        self,
        catalog: Catalog,
        proposer: Proposer,
        staging: Staging,
        disk: DiskGuard,
        is_placed: Callable[[bytes], bool],
        barrier: Callable[[float], None],
        inline_limit: int,
        stopping: threading.Event,
    ) -> None:
        self._catalog = catalog
        self._proposer = proposer
        self._staging = staging
        self._disk = disk
        self._is_placed = is_placed
        self._barrier = barrier
        self._inline_limit = inline_limit
        self._stopping = stopping

    def restore(
        self, directory: bytes, folder: bytes, *, over: bool, done: Callable[[int], None]
    ) -> dict[str, Any]:
        """Take in what of the point at `directory` is at or below `folder`.

        Args:
            over: whether the cluster may have entries when all is restored.

        Raises:
            NotFound: the point has nothing at `folder`.
            PathTaken: the cluster has entries, and `over` is not given.
            PointDamaged: the point is not what its manifest says; what was whole may be in.
            PickboxError: a change could not be committed.
        """
        manifest = read_manifest(directory)
        self._barrier(_TIMEOUT)
        if not folder and not over:
            self._refuse_what_is_not_empty()

        def wanted(*kinds: Kind) -> Iterator[Entry]:
            entries = read_entries(directory)
            return (e for e in entries if e.kind in kinds and is_within(e.path, folder))

        restored = Restored()
        tree = FileTree(directory)
        try:
            with naming_refusals():
                # Directories first: then files may come in any order, several batches at once.
                self._take_in(wanted(Kind.DIRECTORY), tree, restored, done)
                self._take_in(wanted(Kind.FILE, Kind.SYMLINK), tree, restored, done)
        finally:
            tree.close()
        if not restored.counts.total():
            raise NotFound(f"The backup has nothing at {display(folder)!r}.", field="path")
        return {"index": manifest.index, "made_at": manifest.made_at, **restored.document()}

    def _refuse_what_is_not_empty(self) -> None:
        found = self._catalog.page(b"", b"", 1)
        if found:
            raise PathTaken(
                f"The cluster is not empty: it has {display(found[0].path)!r}, for one. Restore "
                "into an empty cluster, or say that what is there may be replaced (over).",
                field="over",
            )

    def _take_in(
        self,
        entries: Iterable[Entry],
        tree: FileTree,
        restored: Restored,
        done: Callable[[int], None],
    ) -> None:
        """Have all `entries` committed, a few batches under way at a time."""
        under_way: set[Future[None]] = set()
        lock = threading.Lock()

        def commit(batch: list[Put]) -> None:
            for put, outcome in self._commit(batch):
                with lock:
                    restored.add(put, outcome)
            done(restored.counts.total())

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
            try:
                for batch in self._batches(entries, tree):
                    under_way.add(pool.submit(commit, batch))
                    if len(under_way) >= _AT_ONCE:
                        finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                        for one in finished:
                            one.result()
                for one in under_way:
                    one.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batches(self, entries: Iterable[Entry], tree: FileTree) -> Iterator[list[Put]]:
        batch: list[Put] = []
        size = staged = 0
        for entry in entries:
            if self._stopping.is_set():
                raise NotReady("The node stops: restore again at another one.")
            put = self._put_of(entry, tree)
            takes, brings = put.bytes_in_command, put.size if put.inline is None else 0
            full = len(batch) >= _CHANGES or size + takes > _COMMAND_BYTES
            if batch and (full or staged + brings > _STAGED_BYTES):
                yield batch
                batch, size, staged = [], 0, 0
            batch.append(put)
            size, staged = size + takes, staged + brings
        if batch:
            yield batch

    def _put_of(self, entry: Entry, tree: FileTree) -> Put:
        """The change that makes `entry`; its content is with it, or in staging."""
        inline = None
        if entry.kind is Kind.FILE:
            inline = self._content(entry, tree)
        elif entry.kind is Kind.SYMLINK and digest_bytes(entry.target) != entry.digest:
            raise PointDamaged(f"{display(entry.path)!r} is a link to something else.")
        return Put(
            entry.path,
            entry.kind,
            entry.size,
            entry.mode,
            entry.mtime_ns,
            entry.digest,
            entry.target,
            inline=inline,
            on_stale=OnStale.REFUSE,
        )

    def _content(self, entry: Entry, tree: FileTree) -> bytes | None:
        """The content itself if it travels in the log; else it is in staging."""
        try:
            source = tree.open_file(place_of(entry))
        except OSError as error:
            raise PointDamaged(
                f"The content of {display(entry.path)!r} is missing: {error.strerror}"
            ) from None
        with source:
            if entry.size <= self._inline_limit:
                content = source.read(entry.size + 1)
                if (len(content), digest_bytes(content)) != (entry.size, entry.digest):
                    raise _other_content(entry)
                return content
            with self._staging.writer() as staged:
                while chunk := source.read(READ_BYTES):
                    self._disk.check(len(chunk))
                    staged.write(chunk)
                if (staged.size, staged.digest) != (entry.size, entry.digest):
                    raise _other_content(entry)
                staged.keep(fsync=False)  # a batch is synced at once
        return None

    def _commit(self, batch: list[Put]) -> list[tuple[Put, Outcome]]:
        staged = sum(put.size for put in batch if put.inline is None)
        if staged:
            sync_filesystem(self._staging.path(b""))
        request_id = uuid.uuid4().hex
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                puts = self._proposer.stage_all(batch, timeout=_TIMEOUT + staged / _SLOWEST)
                receipt = self._proposer.propose(puts, request_id=request_id, timeout=_TIMEOUT)
            except (NoLeader, NotStaged, OutcomeUnknown):
                # An election, or a node that was restarted: the same id is applied once.
                if not tries_left or self._stopping.is_set():
                    raise
            else:
                committed = list(zip(batch, receipt.outcomes, strict=True))
                self._discard_what_was_there(committed)
                return committed
        raise AssertionError("the last try returns or raises")

    def _discard_what_was_there(self, committed: Iterable[tuple[Put, Outcome]]) -> None:
        """Nobody places it from staging: all of a folder would be there twice until it is swept."""
        for put, outcome in committed:
            unchanged = outcome.status is Status.UNCHANGED and needs_staging(put)
            if unchanged and self._is_placed(put.digest):
                self._staging.discard(put.digest)


def _other_content(entry: Entry) -> PointDamaged:
    return PointDamaged(
        f"The content of {display(entry.path)!r} is not what the backup's list says of it."
    )
