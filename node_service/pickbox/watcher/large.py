"""Files too large to travel inside a command: hashed and staged beside the small ones.

While peers fetch the content, it is offered from where it is in the folder. A file that somebody
has open for writing is copied to staging first: it would not stay the same for long.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from pickbox.changes import Put
from pickbox.errors import DiskFull, NotStaged, PickboxError
from pickbox.storage.digest import READ_BYTES
from pickbox.storage.leases import has_writer
from pickbox.storage.paths import display
from pickbox.watcher.content import ChangedWhileRead, Content, is_gone, read_digest, same_state
from pickbox.watcher.reconcile import CHANGING, Large, Proposal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pickbox.seams import ChangeProposer
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import Staging
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.dirty import DirtySet
    from pickbox.watcher.failures import Failures
    from pickbox.watcher.metrics import WatcherMetrics
    from pickbox.watcher.reconcile import Reconciler
    from pickbox.watcher.submissions import Submissions

log = logging.getLogger(__name__)

WORKERS: Final = 4
SLOWEST: Final = 1_000_000
"""Bytes per second below which staging is given up and tried again."""

GROUP_FILES: Final = 32
GROUP_BYTES: Final = 8 << 20
"""Files are staged and proposed together up to these limits: a directory of photos, say, does not
cost a turn of the cluster for each. A larger file goes alone."""

FIRST_SLICE: Final = 10.0
"""Seconds of staging after which a file is looked at again: once it was edited, its old content is
not to be had any more, and waiting for it is in vain. Each slice is twice as long as the last."""


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A large file that was found, and the delete of its former name if it was renamed."""

    found: Large
    delete: Proposal | None

    @property
    def names(self) -> list[bytes]:
        """The paths that are in hand with it."""
        former = [self.delete.item.path] if self.delete else []
        return [self.found.item.path, *former]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A large file whose content is known. `aside`: a copy of it is in staging."""

    file: LargeFile
    proposal: Proposal
    put: Put
    stat: os.stat_result
    aside: bool


class LargeFiles:
    """Takes large files in, `WORKERS` groups at a time."""

    def __init__(
        self,
        tree: FileTree,
        staging: Staging,
        disk: DiskGuard,
        proposer: ChangeProposer,
        dirty: DirtySet,
        reconciler: Reconciler,
        submissions: Submissions,
        failures: Failures,
        metrics: WatcherMetrics,
        *,
        timeout: float,
    ) -> None:
        self._tree = tree
        self._staging = staging
        self._disk = disk
        self._proposer = proposer
        self._dirty = dirty
        self._reconciler = reconciler
        self._submissions = submissions
        self._failures = failures
        self._metrics = metrics
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="pickbox-large")
        self._lock = threading.Lock()
        self._offers: dict[bytes, list[bytes]] = {}
        self._waiting: deque[LargeFile] = deque()
        self._in_hand: set[bytes] = set()
        self._failed_in_company: set[bytes] = set()
        self._stopped = False

    def take(self, files: Sequence[LargeFile]) -> set[bytes]:
        """Have `files` taken in soon; return the paths that stay in hand in the dirty set."""
        with self._lock:
            if self._stopped:
                return set()
            for file in files:
                self._in_hand.update(file.names)
                self._waiting.append(file)
                self._pool.submit(self._work)  # finds nothing if it went along with another
        return {file.found.item.path for file in files}

    def offered(self, digest: bytes) -> bytes | None:
        """A path of the folder that holds this content while it is being staged."""
        with self._lock:
            paths = self._offers.get(digest)
            return paths[0] if paths else None

    def busy_below(self, directory: bytes) -> bool:
        """Whether a file at or below `directory` is in hand."""
        prefix = directory + b"/"
        with self._lock:
            return any(path == directory or path.startswith(prefix) for path in self._in_hand)

    def stop(self) -> None:
        """Begin nothing new; what is under way ends by itself."""
        with self._lock:
            self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    # One group, on a thread of the pool.

    def _next_group(self) -> list[LargeFile]:
        """What waits, the oldest first, as far as it may go together."""
        group: list[LargeFile] = []
        size = 0
        with self._lock:
            while self._waiting and len(group) < GROUP_FILES:
                file = self._waiting[0]
                size += file.found.stat.st_size
                alone = file.found.item.path in self._failed_in_company
                if group and (alone or size > GROUP_BYTES):
                    break
                group.append(self._waiting.popleft())
                if alone:
                    break
        return group

    def _work(self) -> None:
        group = self._next_group()
        try:
            ready = [one for file in group if (one := self._read(file)) is not None]
            if ready:
                self._stage_and_submit(ready)
        except Exception:
            self._metrics.failed("internal")
            log.exception("large_files_failed", extra={"fields": {"files": len(group)}})
            for file in group:
                self._again(file, 1.0)
        finally:
            with self._lock:
                self._in_hand.difference_update(name for file in group for name in file.names)
            self._dirty.release(file.found.item.path for file in group)

    def _read(self, file: LargeFile) -> _Ready | None:
        """Find out what is in the file; None if there is nothing to propose, or not now."""
        item = file.found.item
        try:
            with self._tree.open_file(item.path) as opened:
                aside = has_writer(opened) is True
                content = self._copy_aside(opened) if aside else _digest(opened, file.found)
            if not aside:
                self._tree.fsync(item.path)
        except ChangedWhileRead:
            self._again(file, CHANGING)
            return None
        except DiskFull as error:
            self._not_taken(file, "disk-full", error.detail)
            return None
        except OSError as error:
            if is_gone(error):
                self._again(file, CHANGING)
            else:
                self._not_taken(file, "unreadable", str(error))
            return None
        proposal = self._reconciler.decide(item, content.stat, content.digest)
        if proposal is None:
            if file.delete is not None:
                self._dirty.put_back(file.delete.item, 0.0)
            return None
        assert isinstance(proposal.change, Put)
        return _Ready(file, proposal, proposal.change, content.stat, aside)

    def _not_taken(self, file: LargeFile, cause: str, why: str) -> None:
        path = file.found.item.path
        self._metrics.failed(cause)
        log.warning("path_not_taken", extra={"fields": {"path": display(path), "why": why}})
        self._again(file, self._failures.record(path, why))

    def _copy_aside(self, file: BinaryIO) -> Content:
        """Copy a file that is open for writing to staging, where it stays as it was.

        Raises:
            ChangedWhileRead: it did not stay the same meanwhile.
            DiskFull: there is no room for a copy.
        """
        before = os.fstat(file.fileno())
        with self._staging.writer() as writer:
            while data := file.read(READ_BYTES):
                self._disk.check(len(data))
                writer.write(data)
            content = read_digest(file)
            if content.digest != writer.digest or not same_state(before, content.stat):
                raise ChangedWhileRead
            writer.keep(fsync=True)
        return content

    def _stage_and_submit(self, ready: Sequence[_Ready]) -> None:
        timeout = self._timeout + sum(one.put.size for one in ready) / SLOWEST
        try:
            puts = self._stage(ready, timeout)
        except ChangedWhileRead:
            self._remember_company(ready, failed=len(ready) > 1)
            pause = CHANGING
        except PickboxError as error:
            self._remember_company(ready, failed=len(ready) > 1)
            pause = self._submissions.pause_after(error, len(ready))
        else:
            self._remember_company(ready, failed=False)
            proposals = [
                proposal
                for one, put in zip(ready, puts, strict=True)
                for proposal in (replace(one.proposal, change=put), one.file.delete)
                if proposal is not None
            ]
            pause = self._submissions.submit(proposals, timeout)
        if pause:
            for one in ready:
                self._again(one.file, pause)

    def _remember_company(self, ready: Sequence[_Ready], *, failed: bool) -> None:
        """Files whose staging failed together are staged one by one next time."""
        paths = {one.put.path for one in ready}
        with self._lock:
            if failed:
                self._failed_in_company |= paths
            else:
                self._failed_in_company -= paths

    def _stage(self, ready: Sequence[_Ready], timeout: float) -> list[Put]:
        """Make the contents durable on a majority; return the puts with their holders.

        Raises:
            ChangedWhileRead: a file was edited meanwhile.
            NotStaged: no majority confirmed in time.
        """
        deadline, length = time.monotonic() + timeout, FIRST_SLICE
        puts = [one.put for one in ready]
        with ExitStack() as offers:
            for one in ready:
                if not one.aside:
                    offers.enter_context(self._offer(one.put.digest, one.put.path))
            while True:
                began = time.monotonic()
                seconds = min(length, deadline - began)
                try:
                    return self._proposer.stage_all(puts, timeout=seconds)
                except NotStaged:
                    if any(self._was_edited(one) for one in ready):
                        raise ChangedWhileRead from None
                    gave_up_early = time.monotonic() - began < seconds
                    if gave_up_early or seconds < length:
                        raise
                    length *= 2

    def _was_edited(self, ready: _Ready) -> bool:
        if ready.aside:
            return False
        stat = self._tree.lstat(ready.put.path)
        return stat is None or not same_state(stat, ready.stat)

    @contextmanager
    def _offer(self, digest: bytes, path: bytes) -> Iterator[None]:
        with self._lock:
            self._offers.setdefault(digest, []).append(path)
        try:
            yield
        finally:
            with self._lock:
                self._offers[digest].remove(path)
                if not self._offers[digest]:
                    del self._offers[digest]

    def _again(self, file: LargeFile, delay: float) -> None:
        self._dirty.put_back(file.found.item, delay)
        if file.delete is not None:
            self._dirty.put_back(file.delete.item, delay)


def _digest(file: BinaryIO, found: Large) -> Content:
    """The digest, read unless the file was found by its former name and is still the same."""
    now = os.fstat(file.fileno())
    if found.digest and same_state(now, found.stat):
        return Content(now, found.digest)
    return read_digest(file)
